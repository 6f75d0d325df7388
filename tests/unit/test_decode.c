// sources: platform/decode.c platform/decode_tables.c
/*
 * The instruction decoder: lengths against what the assembler made of some hundred instructions in
 * each mode, fields by table, and hostile input. T-G1 (tables), T-E1 (prefixes).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "platform/decode.h"
#include "platform/decode_tables.h"

/*
 * The assembler is the oracle for lengths: the macro I puts an instruction into .rodata, and its
 * address, length and mode into a table.
 */
struct sample {
	const u8 *bytes;
	u64 length;
	u64 mode;
};

extern const struct sample samples[], samples_end[];

__asm__(".section .data.rel.ro\n"
	".balign 8\n"
	"samples:\n"
	".section .rodata\n"
	"far_away: .fill 300\n"
	".macro I text:vararg\n"
	"771: \\text\n"
	"772:\n"
	".pushsection .data.rel.ro\n"
	".quad 771b, 772b - 771b, mode\n"
	".popsection\n"
	".endm\n"

	/* What every mode has. */
	".macro COMMON\n"
	"I addb %al, (%ebx)\n I orl %eax, 4(%ebx)\n I adcw %ax, 0x12345(%ebx)\n"
	"I sbbb $1, (%esi)\n I andl $1, (%esi)\n I subl $0x12345, (%esi)\n I subw $0x1234, (%esi)\n"
	"I xorb $1, %al\n I cmpl $0x12345678, %eax\n I cmpw $0x1234, %ax\n\n"
	"I nop\n I pause\n I xchgw %ax, %bx\n I cwtl\n I cltd\n I fwait\n"
	"I imull $100000, (%edx,%esi,4), %ecx\n I imulw $3, (%edx), %cx\n"
	"I insb\n I insw\n I insl\n I rep outsb\n I rep outsl\n"
	"I jo .\n I jo far_away\n I jmp . + 2\n I jmp far_away\n I loop .\n"
	"I testb $1, (%ebp)\n I testl $1, 8(%ebp)\n I testw $1, (%ebp,%eax,8)\n I notl (%ebp)\n"
	"I negb (%eax)\n I mull (%eax)\n I divl %ecx\n I idivb %cl\n"
	"I movb $7, (%eax)\n I movw $7, (%eax)\n I movl $7, (%eax)\n I movl $7, 0x1234\n"
	"I movb $7, %cl\n I movw $7, %cx\n I movl $7, %ecx\n"
	"I movw %ds, (%eax)\n I movw (%eax), %es\n I leal 5(,%eax,8), %edx\n"
	"I movsb\n I movsw\n I rep movsl\n I repe cmpsb\n I stosl\n I lodsb\n I repne scasw\n"
	"I testb $1, %al\n I testl $1, %eax\n I shll $3, (%ecx)\n I shrw (%ecx)\n I sarb %cl, "
	"(%ecx)\n"
	"I rolb $3, (%ecx)\n I ret\n I ret $8\n I lretl\n I lretw $8\n I enter $16, $1\n I leave\n"
	"I int3\n I int $0x80\n I iretl\n I xlat\n"
	"I fldl (%eax)\n I fstp %st(1)\n I fnstcw 8(%eax)\n I fninit\n"
	"I inb $0x60, %al\n I outl %eax, $0x70\n I inw (%dx), %ax\n I outb %al, (%dx)\n"
	"I hlt\n I cmc\n I clc\n I cli\n I sti\n I std\n I incb (%eax)\n I decl 4(%eax)\n I incw "
	"(%eax)\n"
	"I lock xaddl %eax, (%ebx)\n I lock cmpxchgb %cl, (%ebx)\n I cmpxchg8b (%esi)\n"
	"I sldt (%eax)\n I ltr %ax\n I verr (%eax)\n I sgdt (%eax)\n I lidt (%eax)\n I smsw %ax\n"
	"I lmsw (%eax)\n I invlpg (%eax)\n I vmcall\n I vmmcall\n I vmrun\n I stgi\n I clgi\n I "
	"invlpga\n"
	"I monitor\n I mwait\n I xgetbv\n I xsetbv\n I rdtscp\n I lar (%eax), %ecx\n I clts\n"
	"I invd\n I wbinvd\n I ud2\n I prefetchw (%eax)\n I femms\n I pfadd (%eax), %mm0\n"
	"I movups (%eax), %xmm0\n I movlps %xmm1, (%eax)\n I prefetchnta 0x44(%eax)\n I nopl "
	"0(%eax)\n"
	"I movaps %xmm1, 0x12345(%eax)\n I ucomiss (%eax), %xmm1\n"
	"I wrmsr\n I rdmsr\n I rdtsc\n I rdpmc\n I sysenter\n"
	"I cmovzl (%eax), %ecx\n I sqrtps %xmm1, %xmm2\n I punpcklbw (%eax), %mm1\n"
	"I pshufw $3, (%eax), %mm1\n I pshufd $3, (%eax), %xmm1\n I psrlw $3, %mm1\n I psrldq $3, "
	"%xmm1\n"
	"I pcmpeqb %xmm1, %xmm2\n I emms\n I extrq $1, $2, %xmm3\n I insertq $1, $2, %xmm3, %xmm4\n"
	"I extrq %xmm1, %xmm2\n I movd %xmm1, (%eax)\n I movdqa (%eax), %xmm3\n"
	"I seto (%eax)\n I setg 0x1000(%eax)\n I pushw %fs\n I popw %gs\n I cpuid\n I rsm\n"
	"I btl %eax, (%ebx)\n I btsl $3, (%ebx)\n I btrw %ax, (%ebx)\n I btcl $31, 4(%ebx)\n"
	"I shldl $3, %eax, (%ebx)\n I shrdl %cl, %eax, (%ebx)\n I fxsave (%eax)\n I lfence\n I "
	"clflush (%eax)\n"
	"I imull (%eax), %ecx\n I lssl (%eax), %ecx\n I movzbl (%eax), %ecx\n I movzwl (%eax), "
	"%ecx\n"
	"I movsbw (%eax), %cx\n I movswl (%eax), %ecx\n I bsfl (%eax), %ecx\n I popcntl (%eax), "
	"%ecx\n"
	"I movntil %eax, (%ebx)\n I cmpps $3, (%eax), %xmm1\n I pinsrw $3, (%eax), %xmm1\n"
	"I pextrw $3, %xmm1, %eax\n I shufps $3, (%eax), %xmm1\n I bswapl %ecx\n I rdrand %eax\n"
	"I movntps %xmm1, (%eax)\n I movntdq %xmm1, (%eax)\n I ud1 (%eax), %ecx\n I paddb (%eax), "
	"%mm1\n"
	"I pshufb (%eax), %xmm1\n I movbel (%eax), %ecx\n I movbew %cx, (%eax)\n I crc32b (%eax), "
	"%ecx\n"
	"I pmulld (%eax), %xmm1\n I palignr $3, (%eax), %xmm1\n I pblendw $3, %xmm1, %xmm2\n"
	"I roundsd $3, (%eax), %xmm1\n I aesenc (%eax), %xmm1\n I pclmulqdq $3, (%eax), %xmm1\n"
	"I fs movl (%eax), %ecx\n I lock addl $1, %gs:(%eax)\n"
	".endm\n"

	".macro LEGACY\n"
	"I daa\n I das\n I aaa\n I aas\n I aam\n I aad\n I into\n I push %cs\n I push %es\n I pop "
	"%ds\n"
	"I incl %eax\n I decw %di\n I pusha\n I popa\n I bound %ecx, (%eax)\n I arpl %ax, (%ebx)\n"
	"I les (%eax), %ecx\n I lds 8(%eax), %ecx\n I pushl $1\n I pushl $0x12345\n I pushw "
	"$0x1234\n"
	"I pushl (%eax)\n I popl (%eax)\n I pushw (%eax)\n I pushfl\n I popfw\n I jecxz .\n"
	"I lcall $8, $0x1234\n I ljmp $8, $0x1234\n I call far_away\n I call *(%eax)\n I jmp "
	"*%eax\n"
	"I lcall *(%eax)\n I movb 0x1234, %al\n I movl %eax, 0x1234\n I movw 0x1234, %ax\n"
	"I addb $1, (%bx,%si)\n I addb $1, (%bx,%di)\n I addb $1, (%bp,%si)\n I addb $1, "
	"(%bp,%di)\n"
	"I addb $1, (%si)\n I addb $1, (%di)\n I addb $1, (%bp)\n I addb $1, (%bx)\n"
	"I addl $1, 5(%bx,%si)\n I addl $0x12345, 0x1234(%bp)\n I addb $1, 0x7f(%di)\n"
	"I movl %cr0, %eax\n I movl %eax, %cr3\n I movl %dr7, %edx\n I movl %edx, %dr0\n"
	".endm\n"

	".set mode, 0\n .code16\n COMMON\n LEGACY\n"
	".set mode, 1\n .code32\n COMMON\n LEGACY\n"
	".set mode, 2\n .code64\n COMMON\n"
	"I movq %r15, (%r8)\n I movq (%r12), %rax\n I movq 8(%r13), %rax\n I movq (%r13), %rax\n"
	"I movl %eax, 0x12345(%rip)\n I movl $1, 0x12345(%rip)\n I movw $1, 0x12345(%rip)\n"
	"I movl %eax, 0x12345\n I movl (%rsp), %eax\n I movl 4(%rsp,%r12,2), %eax\n I movl "
	"(,%r9,8), %eax\n"
	"I movabsb 0x123456789abcdef0, %al\n I movabsq %rax, 0x123456789abcdef0\n"
	"I movabsl 0x123456789abcdef0, %eax\n I addr32 movl 0x12345678, %eax\n"
	"I movabsq $0x123456789abcdef0, %r10\n I movq $-1, %r10\n I movl $1, %r10d\n I movb $1, "
	"%sil\n"
	"I movslq (%rax), %rcx\n I pushq $1\n I pushq $0x12345\n I pushw $0x1234\n I pushq "
	"(%rax)\n I popq 8(%rax)\n"
	"I pushq %r12\n I popq %r12\n I pushfq\n I popfw\n I enter $16, $1\n I syscall\n I "
	"sysretq\n I swapgs\n"
	"I call far_away\n I call *(%rax)\n I jmp *%r11\n I jrcxz .\n I iretq\n I lretq\n I jecxz "
	".\n"
	"I movq %cr0, %rax\n I movq %rax, %cr3\n I movq %cr8, %r9\n I movq %r9, %cr8\n I movq "
	"%dr7, %rdx\n"
	"I cmpxchg16b (%rsi)\n I movbeq (%rax), %rcx\n I movntiq %rax, (%rbx)\n I rdfsbase %rax\n "
	"I wrgsbase %r9\n"
	"I lock cmpxchgq %r8, %gs:(%r9)\n I addl $1, %fs:0\n I crc32q (%rax), %rcx\n I popcntq "
	"(%rax), %r9\n"
	"I bswapq %r9\n I pextrq $1, %xmm1, (%r10)\n"
	"I xbegin . + 100\n I xabort $3\n I invpcid (%rax), %rcx\n I invept (%rax), %rcx\n"
	"I xsave64 (%rax)\n I fxrstor64 (%rax)\n I shlq $3, (%rax)\n I vmread %rax, (%rcx)\n"
	".section .data.rel.ro\n samples_end:\n"
	".text\n");

/* Each instruction lies alone in a buffer of its own length, so that a read past it is noticed. */
static int decode_exactly(const u8 *bytes, unsigned len, enum cpu_mode mode, struct insn *insn) {
	u8 *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	int err = decode(copy, len, mode, insn);
	free(copy);
	return err;
}

static void assembler_agrees_on_lengths(void **state) {
	unsigned count = 0;

	(void)state;
	for (const struct sample *s = samples; s < samples_end; s++, count++) {
		struct insn insn;
		u8 padded[2 * INSN_MAX_LEN] = {0};
		unsigned len = (unsigned)s->length;

		if (decode_exactly(s->bytes, len, (enum cpu_mode)s->mode, &insn) ||
		    insn.length != len) {
			print_error("mode %u, %u bytes:", (unsigned)s->mode, len);
			for (unsigned i = 0; i < len; i++) print_error(" %02x", s->bytes[i]);
			fail_msg(": decoded %u", insn.length);
		}
		memcpy(padded, s->bytes, len);
		assert_int_equal(decode(padded, sizeof(padded), (enum cpu_mode)s->mode, &insn), 0);
		assert_int_equal(insn.length, len);
		for (unsigned less = 0; less < len; less++)
			assert_int_equal(decode_exactly(s->bytes, less, (enum cpu_mode)s->mode,
							&insn),
					 E_TRUNC);
	}
	assert_true(count > 500);
}

/* Fields of instructions, with -1 for "do not look". */
struct expect {
	enum cpu_mode mode;
	u8 bytes[15];
	u8 length;
	u8 map, opcode, op_size, addr_size;
	int mod, reg, rm, base, index, scale;
	s32 disp;
	u64 imm;
	u8 seg, prefixes;
};

#define N REG_NONE
static const struct expect expected[] = {
	/* mov %eax, (%rbx) */
	{MODE_64, {0x89, 0x03}, 2, 0, 0x89, 4, 8, 0, RAX, RBX, RBX, N, 0, 0, 0, N, 0},
	/* mov %r9, -8(%r12,%r13,8) */
	{MODE_64,
	 {0x4f, 0x89, 0x4c, 0xec, 0xf8},
	 5,
	 0,
	 0x89,
	 8,
	 8,
	 1,
	 R9,
	 R12,
	 R12,
	 R13,
	 3,
	 -8,
	 0,
	 N,
	 0},
	/* movb $0x80, 0x10(%rip) */
	{MODE_64,
	 {0xc6, 0x05, 0x10, 0, 0, 0, 0x80},
	 7,
	 0,
	 0xc6,
	 1,
	 8,
	 0,
	 0,
	 5,
	 REG_RIP,
	 N,
	 0,
	 16,
	 0xffffffffffffff80,
	 N,
	 0},
	/* movq $-2, (%r13) needs a displacement */
	{MODE_64,
	 {0x49, 0xc7, 0x45, 0, 0xfe, 0xff, 0xff, 0xff},
	 8,
	 0,
	 0xc7,
	 8,
	 8,
	 1,
	 0,
	 R13,
	 R13,
	 N,
	 0,
	 0,
	 0xfffffffffffffffe,
	 N,
	 0},
	/* movw $0x8001, %fs:(%eax) */
	{MODE_64,
	 {0x64, 0x67, 0x66, 0xc7, 0x00, 0x01, 0x80},
	 7,
	 0,
	 0xc7,
	 2,
	 4,
	 0,
	 0,
	 0,
	 RAX,
	 N,
	 0,
	 0,
	 0xffffffffffff8001,
	 SEG_FS,
	 PFX_OPSIZE | PFX_ADDRSIZE},
	/* an override of DS means nothing in 64-bit mode, one of FS before it stays */
	{MODE_64,
	 {0x65, 0x3e, 0x8b, 0x08},
	 4,
	 0,
	 0x8b,
	 4,
	 8,
	 0,
	 RCX,
	 RAX,
	 RAX,
	 N,
	 0,
	 0,
	 0,
	 SEG_GS,
	 0},
	{MODE_32,
	 {0x65, 0x3e, 0x8b, 0x08},
	 4,
	 0,
	 0x8b,
	 4,
	 4,
	 0,
	 RCX,
	 RAX,
	 RAX,
	 N,
	 0,
	 0,
	 0,
	 SEG_DS,
	 0},
	/* absolute address: SIB without base and index; and in 32-bit code without SIB */
	{MODE_64,
	 {0x8b, 0x0c, 0x25, 0x78, 0x56, 0x34, 0x12},
	 7,
	 0,
	 0x8b,
	 4,
	 8,
	 0,
	 RCX,
	 4,
	 N,
	 N,
	 0,
	 0x12345678,
	 0,
	 N,
	 0},
	{MODE_32,
	 {0x8b, 0x0d, 0x78, 0x56, 0x34, 0x92},
	 6,
	 0,
	 0x8b,
	 4,
	 4,
	 0,
	 RCX,
	 5,
	 N,
	 N,
	 0,
	 (s32)0x92345678,
	 0,
	 N,
	 0},
	/* REX.X makes R12 an index; RSP never is one */
	{MODE_64, {0x42, 0x8b, 0x04, 0x20}, 4, 0, 0x8b, 4, 8, 0, RAX, 4, RAX, R12, 0, 0, 0, N, 0},
	{MODE_64, {0x8b, 0x04, 0x24}, 3, 0, 0x8b, 4, 8, 0, RAX, 4, RSP, N, 0, 0, 0, N, 0},
	/* mod 0, base 5 is no base, also with REX.B */
	{MODE_64,
	 {0x41, 0x8b, 0x04, 0x8d, 4, 0, 0, 0},
	 8,
	 0,
	 0x8b,
	 4,
	 8,
	 0,
	 RAX,
	 12,
	 N,
	 RCX,
	 2,
	 4,
	 0,
	 N,
	 0},
	/* 16-bit addressing */
	{MODE_16, {0x8a, 0x42, 0x80}, 3, 0, 0x8a, 1, 2, 1, RAX, 2, RBP, RSI, 0, -128, 0, N, 0},
	{MODE_16, {0x8b, 0x0e, 0x34, 0x92}, 4, 0, 0x8b, 2, 2, 0, RCX, 6, N, N, 0, -0x6dcc, 0, N, 0},
	{MODE_16,
	 {0x8b, 0x8e, 0x34, 0x12},
	 4,
	 0,
	 0x8b,
	 2,
	 2,
	 2,
	 RCX,
	 6,
	 RBP,
	 N,
	 0,
	 0x1234,
	 0,
	 N,
	 0},
	{MODE_16,
	 {0x26, 0x67, 0x66, 0x8b, 0x44, 0x24, 0x7f},
	 7,
	 0,
	 0x8b,
	 4,
	 4,
	 1,
	 RAX,
	 4,
	 RSP,
	 N,
	 0,
	 127,
	 0,
	 SEG_ES,
	 PFX_OPSIZE | PFX_ADDRSIZE},
	/* moffs is not sign-extended */
	{MODE_16, {0xa1, 0xff, 0xff}, 3, 0, 0xa1, 2, 2, 0, 0, -1, N, N, 0, 0, 0xffff, N, 0},
	{MODE_32, {0xa2, 0, 0, 0, 0xfe}, 5, 0, 0xa2, 1, 4, 0, 0, -1, N, N, 0, 0, 0xfe000000, N, 0},
	{MODE_64,
	 {0x48, 0xa3, 0, 0, 0xe0, 0xfe, 1, 0, 0, 0x80},
	 10,
	 0,
	 0xa3,
	 8,
	 8,
	 0,
	 0,
	 -1,
	 N,
	 N,
	 0,
	 0,
	 0x80000001fee00000,
	 N,
	 0},
	/* MOV imm64, and the sign-extended form */
	{MODE_64,
	 {0x49, 0xba, 1, 2, 3, 4, 5, 6, 7, 0x88},
	 10,
	 0,
	 0xba,
	 8,
	 8,
	 0,
	 0,
	 R10,
	 N,
	 N,
	 0,
	 0,
	 0x8807060504030201,
	 N,
	 0},
	/* stack operations are 64 bits wide by default, 16 with the prefix */
	{MODE_64, {0xff, 0x30}, 2, 0, 0xff, 8, 8, 0, 6, RAX, RAX, N, 0, 0, 0, N, 0},
	{MODE_64, {0x66, 0xff, 0x30}, 3, 0, 0xff, 2, 8, 0, 6, RAX, RAX, N, 0, 0, 0, N, PFX_OPSIZE},
	{MODE_64, {0xff, 0x00}, 2, 0, 0xff, 4, 8, 0, 0, RAX, RAX, N, 0, 0, 0, N, 0},
	{MODE_64, {0xff, 0x18}, 2, 0, 0xff, 4, 8, 0, 3, RAX, RAX, N, 0, 0, 0, N, 0},
	{MODE_64, {0x8f, 0x00}, 2, 0, 0x8f, 8, 8, 0, 0, RAX, RAX, N, 0, 0, 0, N, 0},
	{MODE_64, {0x41, 0x54}, 2, 0, 0x54, 8, 8, 0, 0, R12, N, N, 0, 0, 0, N, 0},
	/* MOV CR: mod is ignored, the size is the mode's */
	{MODE_64, {0x0f, 0x22, 0x1c}, 3, 1, 0x22, 8, 8, 3, 3, RSP, N, N, 0, 0, 0, N, 0},
	{MODE_64, {0x44, 0x0f, 0x20, 0xc0}, 4, 1, 0x20, 8, 8, 3, 8, RAX, N, N, 0, 0, 0, N, 0},
	{MODE_32,
	 {0xf0, 0x0f, 0x22, 0xc2},
	 4,
	 1,
	 0x22,
	 4,
	 4,
	 3,
	 0,
	 RDX,
	 N,
	 N,
	 0,
	 0,
	 0,
	 N,
	 PFX_LOCK},
	/* of REP and REPNE the last counts; a REX counts only before the opcode */
	{MODE_64, {0xf2, 0xf3, 0xa4}, 3, 0, 0xa4, 1, 8, 0, 0, -1, N, N, 0, 0, 0, N, PFX_REP},
	{MODE_64, {0x48, 0xf2, 0xa5}, 3, 0, 0xa5, 4, 8, 0, 0, -1, N, N, 0, 0, 0, N, PFX_REPNE},
	{MODE_64, {0xf3, 0x48, 0xa5}, 3, 0, 0xa5, 8, 8, 0, 0, -1, N, N, 0, 0, 0, N, PFX_REP},
	/* TEST has an immediate, NOT beside it has none */
	{MODE_64,
	 {0xf6, 0x00, 0x81},
	 3,
	 0,
	 0xf6,
	 1,
	 8,
	 0,
	 0,
	 RAX,
	 RAX,
	 N,
	 0,
	 0,
	 0xffffffffffffff81,
	 N,
	 0},
	{MODE_64, {0xf7, 0x10}, 2, 0, 0xf7, 4, 8, 0, 2, RAX, RAX, N, 0, 0, 0, N, 0},
	/* two-byte and three-byte maps */
	{MODE_64, {0x0f, 0xb6, 0x08}, 3, 1, 0xb6, 4, 8, 0, RCX, RAX, RAX, N, 0, 0, 0, N, 0},
	{MODE_64,
	 {0x66, 0x0f, 0x38, 0xf0, 0x08},
	 5,
	 2,
	 0xf0,
	 2,
	 8,
	 0,
	 RCX,
	 RAX,
	 RAX,
	 N,
	 0,
	 0,
	 0,
	 N,
	 PFX_OPSIZE},
	{MODE_64,
	 {0x0f, 0x3a, 0x0f, 0x08, 0x05},
	 5,
	 3,
	 0x0f,
	 4,
	 8,
	 0,
	 RCX,
	 RAX,
	 RAX,
	 N,
	 0,
	 0,
	 5,
	 N,
	 0},
	/* near branch with 66: 16 bits, as AMD has it */
	{MODE_64,
	 {0x66, 0xe8, 0x00, 0x80},
	 4,
	 0,
	 0xe8,
	 2,
	 8,
	 0,
	 0,
	 -1,
	 N,
	 N,
	 0,
	 0,
	 0xffffffffffff8000,
	 N,
	 PFX_OPSIZE},
};
#undef N

static void fields_are_right(void **state) {
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		const struct expect *x = &expected[i];
		struct insn insn;

		if (decode_exactly(x->bytes, x->length, x->mode, &insn))
			fail_msg("entry %zu does not decode", i);
		if (insn.length != x->length || insn.map != x->map || insn.opcode != x->opcode ||
		    insn.op_size != x->op_size || insn.addr_size != x->addr_size ||
		    insn.mod != x->mod || insn.reg != x->reg || (x->rm >= 0 && insn.rm != x->rm) ||
		    insn.base != x->base || insn.index != x->index || insn.scale != x->scale ||
		    insn.disp != x->disp || insn.imm != x->imm || insn.seg != x->seg ||
		    insn.prefixes != x->prefixes)
			fail_msg("entry %zu, opcode %02x: length %u size %u/%u mod %u reg %u rm %u "
				 "base %u index %u disp %x imm %lx seg %u prefixes %x",
				 i, insn.opcode, insn.length, insn.op_size, insn.addr_size,
				 insn.mod, insn.reg, insn.rm, insn.base, insn.index, (u32)insn.disp,
				 insn.imm, insn.seg, insn.prefixes);
	}
}

static void second_immediates(void **state) {
	static const u8 enter[] = {0xc8, 0x10, 0x80, 0xff};
	static const u8 far_jump[] = {0xea, 1, 2, 3, 4, 0x08, 0x80};
	struct insn insn;

	(void)state;
	assert_int_equal(decode_exactly(enter, sizeof(enter), MODE_64, &insn), 0);
	assert_int_equal(insn.imm, 0x8010);
	assert_int_equal(insn.length, 4);
	assert_int_equal(decode_exactly(far_jump, sizeof(far_jump), MODE_32, &insn), 0);
	assert_int_equal(insn.imm, 0x04030201);
	assert_int_equal(insn.length, 7);
	assert_int_equal(decode_exactly(far_jump, sizeof(far_jump), MODE_64, &insn), E_NOSUPP);
}

static void no_such_opcode(void **state) {
	static const struct {
		enum cpu_mode mode;
		u8 bytes[6];
	} cases[] = {
		{MODE_64, {0x06}},
		{MODE_64, {0x27}},
		{MODE_64, {0x60}},
		{MODE_64, {0x9a}},
		{MODE_64, {0xd4, 0x0a}},
		{MODE_64, {0xce}},
		{MODE_64, {0x82, 0, 0}},
		{MODE_64, {0x0f, 0x04}},
		{MODE_32, {0x0f, 0x0a}},
		{MODE_16, {0x0f, 0x25, 0}},
		{MODE_64, {0x0f, 0x39}},
		{MODE_64, {0x0f, 0xa7, 0xc0}},
		{MODE_64, {0xc5, 0xf8, 0x77}},			 /* VZEROUPPER */
		{MODE_64, {0xc4, 0xc1, 0x74, 0x58, 0x10}},	 /* VADDPS */
		{MODE_64, {0x62, 0xf1, 0x74, 0x48, 0x58, 0x10}}, /* with EVEX */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct insn insn;

		if (decode(cases[i].bytes, 6, cases[i].mode, &insn) != E_NOSUPP)
			fail_msg("case %zu decodes", i);
	}
}

/* 15 bytes are the most; what would be longer is refused, however many bytes there are. */
static void longest_instruction(void **state) {
	u8 bytes[20];
	struct insn insn;

	(void)state;
	memset(bytes, 0x66, sizeof(bytes));
	assert_int_equal(decode_exactly(bytes, 14, MODE_64, &insn), E_TRUNC);
	assert_int_equal(decode_exactly(bytes, 15, MODE_64, &insn), E_INVAL);
	assert_int_equal(decode_exactly(bytes, 20, MODE_64, &insn), E_INVAL);
	bytes[14] = 0x90;
	assert_int_equal(decode_exactly(bytes, 15, MODE_64, &insn), 0);
	assert_int_equal(insn.length, 15);
	/* 11 prefixes, opcode, ModRM and disp8: 14; with a disp32 17 */
	bytes[11] = 0x89;
	bytes[12] = 0x43;
	bytes[13] = 0x01;
	assert_int_equal(decode_exactly(bytes, 14, MODE_64, &insn), 0);
	assert_int_equal(insn.length, 14);
	bytes[12] = 0x83;
	assert_int_equal(decode_exactly(bytes, 14, MODE_64, &insn), E_INVAL);
	assert_int_equal(decode_exactly(bytes, 20, MODE_64, &insn), E_INVAL);
	assert_int_equal(decode_exactly(bytes, 0, MODE_64, &insn), E_TRUNC);
}

/* What decodes, decodes the same from its own bytes alone, and is never longer than given. */
static void random_bytes(void **state) {
	u64 seed = 0x9e3779b97f4a7c15;

	(void)state;
	for (unsigned round = 0; round < 300000; round++) {
		u8 bytes[16];
		struct insn insn, again;
		enum cpu_mode mode = (enum cpu_mode)(round % 3);
		unsigned len;
		int err;

		for (unsigned i = 0; i < 16; i++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			bytes[i] = (u8)(seed >> 56);
		}
		if (seed & 0x100) bytes[1] = 0x0f;
		len = (unsigned)(seed >> 40) & 15;
		err = decode_exactly(bytes, len, mode, &insn);
		if (err) {
			assert_true(err == E_TRUNC || err == E_NOSUPP || err == E_INVAL);
			assert_int_equal(insn.length, 0);
			continue;
		}
		assert_in_range(insn.length, 1, len);
		assert_int_equal(decode_exactly(bytes, insn.length, mode, &again), 0);
		assert_memory_equal(&insn, &again, sizeof(insn));
	}
}

/* T-G1: every opcode of both maps has attributes that go together. */
static void tables_are_consistent(void **state) {
	const u16 *maps[2] = {decode_map_1byte, decode_map_0f};

	(void)state;
	for (unsigned map = 0; map < 2; map++) {
		for (unsigned op = 0; op < 256; op++) {
			u16 attr = maps[map][op];
			assert_true(!(attr & A_PREFIX) || attr == A_PREFIX);
			assert_true(!(attr & A_UNDEF) || attr == A_UNDEF);
			assert_true(!(attr & A_GROUP3) || (attr & A_MODRM && attr & A_IMM));
			assert_true((attr & A_IMM) != A_MOFFS || !(attr & A_MODRM));
		}
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(assembler_agrees_on_lengths), cmocka_unit_test(fields_are_right),
		cmocka_unit_test(second_immediates),	       cmocka_unit_test(no_such_opcode),
		cmocka_unit_test(longest_instruction),	       cmocka_unit_test(random_bytes),
		cmocka_unit_test(tables_are_consistent),
	};

	return cmocka_run_group_tests_name("decode", tests, NULL, NULL);
}
