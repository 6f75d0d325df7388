// sources: platform/emulate.c platform/emulate_alu.c platform/emulate_mem.c platform/emulate_ops.c
// sources: platform/emulate_string.c platform/decode.c platform/decode_tables.c platform/gwalk.c
// sources: platform/fetch.c tests/emulate_rig.c tests/fakes.c
/*
 * The emulator against the processor that the test runs on: each instruction is executed natively
 * on memory and emulated on a device at the same address, from the same random registers, flags and
 * bytes; everything must be equal afterwards.
 */
#include "tests/emulate_rig.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ROUNDS	    60

#define FLAG_CF	    0x001ul
#define FLAG_PF	    0x004ul
#define FLAG_AF	    0x010ul
#define FLAG_ZF	    0x040ul
#define FLAG_SF	    0x080ul
#define FLAG_DF	    0x400ul
#define FLAG_OF	    0x800ul
#define FLAGS_ARITH (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

/* What the manual leaves undefined is not compared. */
enum kind { PLAIN, LOGIC, BITS, STRING, STACKED, KINDS };
static const u64 compared_flags[KINDS] = {
	[PLAIN] = FLAGS_ARITH,
	[LOGIC] = FLAGS_ARITH & ~FLAG_AF,
	[BITS] = FLAG_CF | FLAG_ZF,
	[STRING] = FLAGS_ARITH | FLAG_DF,
	[STACKED] = FLAGS_ARITH | FLAG_DF,
};

struct sample {
	const u8 *bytes;
	u64 length;
	u64 kind;
};

extern const struct sample samples[], samples_end[];

/* Instructions at (%rbx), assembled into a table. RCX, RDX, R9 and RAX hold random values. */
__asm__(".section .data.rel.ro\n"
	".balign 8\n"
	"samples:\n"
	".section .rodata\n"
	".macro I text:vararg\n"
	"771: \\text\n"
	"772:\n"
	".pushsection .data.rel.ro\n"
	".quad 771b, 772b - 771b, kind\n"
	".popsection\n"
	".endm\n"

	".set kind, 0\n"
	"I movb %cl, (%rbx)\n I movb %ah, (%rbx)\n I movb %sil, (%rbx)\n I movb %r9b, (%rbx)\n"
	"I movw %cx, (%rbx)\n I movl %ecx, (%rbx)\n I movl %r9d, (%rbx)\n I movq %r9, (%rbx)\n"
	"I movb (%rbx), %cl\n I movb (%rbx), %dh\n I movb (%rbx), %dil\n I movw (%rbx), %cx\n"
	"I movl (%rbx), %ecx\n I movq (%rbx), %r9\n I movl (%rbx), %r9d\n"
	"I movb $0x9a, (%rbx)\n I movw $0x9abc, (%rbx)\n I movl $0x9abcdef0, (%rbx)\n"
	"I movq $-0x12345678, (%rbx)\n"
	"I movabsb 0x10010010, %al\n I movabsw 0x10010010, %ax\n I movabsl 0x10010010, %eax\n"
	"I movabsq 0x10010010, %rax\n I movabsb %al, 0x10010010\n I movabsw %ax, 0x10010010\n"
	"I movabsl %eax, 0x10010010\n I movabsq %rax, 0x10010010\n I movl 0x10010010, %ecx\n"
	"I addr32 movl %ecx, 0x10010010\n I movl %ecx, (%ebx)\n"
	"I movzbw (%rbx), %cx\n I movzbl (%rbx), %ecx\n I movzbq (%rbx), %r9\n I movzwl (%rbx), "
	"%ecx\n"
	"I movzwq (%rbx), %rcx\n I movsbw (%rbx), %cx\n I movsbl (%rbx), %ecx\n I movsbq (%rbx), "
	"%rcx\n"
	"I movswl (%rbx), %ecx\n I movswq (%rbx), %rcx\n I movslq (%rbx), %rcx\n"
	"I movntil %ecx, (%rbx)\n I movntiq %r9, (%rbx)\n"
	"I movl %ecx, 4(%rbx,%rbp,2)\n I movl -8(%rbx,%rbp,8), %r9d\n I movl %ecx, "
	"0x20(%rbx,%rbp)\n"

	".macro ARITH op\n"
	"I \\op\\()b %cl, (%rbx)\n I \\op\\()w %cx, (%rbx)\n I \\op\\()l %ecx, (%rbx)\n"
	"I \\op\\()q %rcx, (%rbx)\n I \\op\\()b (%rbx), %ch\n I \\op\\()w (%rbx), %cx\n"
	"I \\op\\()l (%rbx), %ecx\n I \\op\\()q (%rbx), %r9\n"
	"I \\op\\()b $0x85, (%rbx)\n I \\op\\()w $0x8765, (%rbx)\n I \\op\\()l $0x87654321, "
	"(%rbx)\n"
	"I \\op\\()q $-0x7654321, (%rbx)\n I \\op\\()w $-3, (%rbx)\n I \\op\\()l $-3, (%rbx)\n"
	"I \\op\\()q $-3, (%rbx)\n"
	".endm\n"
	".macro LOCKED op\n"
	"I lock \\op\\()b %cl, (%rbx)\n I lock \\op\\()l $-3, (%rbx)\n I lock \\op\\()q %r9, "
	"(%rbx)\n"
	".endm\n"
	"ARITH add\n ARITH adc\n ARITH sbb\n ARITH sub\n ARITH cmp\n"
	"LOCKED add\n LOCKED adc\n LOCKED sbb\n LOCKED sub\n"
	".set kind, 1\n"
	"ARITH or\n ARITH and\n ARITH xor\n LOCKED or\n LOCKED and\n LOCKED xor\n"
	"I testb %cl, (%rbx)\n I testw %cx, (%rbx)\n I testl %ecx, (%rbx)\n I testq %r9, (%rbx)\n"
	"I testb $0x85, (%rbx)\n I testw $0x8765, (%rbx)\n I testl $0x87654321, (%rbx)\n"
	"I testq $-0x7654321, (%rbx)\n"
	".set kind, 0\n"
	".macro UNARY op\n"
	"I \\op\\()b (%rbx)\n I \\op\\()w (%rbx)\n I \\op\\()l (%rbx)\n I \\op\\()q (%rbx)\n"
	"I lock \\op\\()b (%rbx)\n I lock \\op\\()q (%rbx)\n"
	".endm\n"
	"UNARY inc\n UNARY dec\n UNARY neg\n UNARY not\n"
	"I xchgb %ch, (%rbx)\n I xchgw %cx, (%rbx)\n I xchgl %ecx, (%rbx)\n I xchgq %r9, (%rbx)\n"
	"I lock xchgl %ecx, (%rbx)\n"
	"I xaddb %cl, (%rbx)\n I xaddw %cx, (%rbx)\n I xaddl %ecx, (%rbx)\n I lock xaddq %r9, "
	"(%rbx)\n"
	"I cmpxchgb %cl, (%rbx)\n I cmpxchgw %cx, (%rbx)\n I lock cmpxchgl %ecx, (%rbx)\n"
	"I lock cmpxchgq %r9, (%rbx)\n"
	".irp cc, o,no,b,nb,z,nz,be,nbe,s,ns,p,np,l,nl,le,nle\n"
	"I set\\cc (%rbx)\n I cmov\\cc (%rbx), %ecx\n I cmov\\cc (%rbx), %r9\n"
	".endr\n"
	"I cmovbw (%rbx), %cx\n"

	/* The bit offset is in RBP, which the test keeps small. */
	".set kind, 2\n"
	".irp op, bt,bts,btr,btc\n"
	"I \\op\\()w %bp, (%rbx)\n I \\op\\()l %ebp, (%rbx)\n I \\op\\()q %rbp, (%rbx)\n"
	"I \\op\\()w $19, (%rbx)\n I \\op\\()l $35, (%rbx)\n I \\op\\()q $70, (%rbx)\n"
	".endr\n"
	"I lock btsl %ebp, (%rbx)\n I lock btcq $63, (%rbx)\n I lock btrw $3, (%rbx)\n"

	/* RSI and RDI point into the device, RCX is small. */
	".set kind, 3\n"
	".irp s, b,w,l,q\n"
	"I movs\\s\n I stos\\s\n I lods\\s\n I cmps\\s\n I scas\\s\n"
	"I rep movs\\s\n I rep stos\\s\n I rep lods\\s\n I repe cmps\\s\n I repne cmps\\s\n"
	"I repe scas\\s\n I repne scas\\s\n"
	".endr\n"
	"I addr32 rep movsb\n I addr32 stosl\n I addr32 repe cmpsw\n"

	/* RSP points into the stack. */
	".set kind, 4\n"
	"I pushq (%rbx)\n I pushw (%rbx)\n I popq (%rbx)\n I popw (%rbx)\n I popq 8(%rsp)\n I "
	"pushq -16(%rsp)\n"
	".section .data.rel.ro\n samples_end:\n"
	".text\n");

/* Registers of the native run lie at a fixed address, so that code reaches them without any. */
#define AREA 0x18000000ul
struct native {
	u64 gpr[NR_GPRS];
	u64 rflags;
	u64 host_rsp;
};
static struct native *const native = (struct native *)AREA;

extern const u8 native_before[], native_before_end[], native_after[], native_after_end[];

__asm__(".section .rodata\n"
	"native_before:\n"
	"push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
	"mov %rsp, 0x18000088\n"
	"pushq 0x18000080\n popfq\n"
	"mov 0x18000000, %rax\n mov 0x18000008, %rcx\n mov 0x18000010, %rdx\n mov 0x18000018, "
	"%rbx\n"
	"mov 0x18000020, %rsp\n mov 0x18000028, %rbp\n mov 0x18000030, %rsi\n mov 0x18000038, "
	"%rdi\n"
	"mov 0x18000040, %r8\n mov 0x18000048, %r9\n mov 0x18000050, %r10\n mov 0x18000058, %r11\n"
	"mov 0x18000060, %r12\n mov 0x18000068, %r13\n mov 0x18000070, %r14\n mov 0x18000078, "
	"%r15\n"
	"native_before_end:\n"
	"native_after:\n"
	"mov %rax, 0x18000000\n mov %rcx, 0x18000008\n mov %rdx, 0x18000010\n mov %rbx, "
	"0x18000018\n"
	"mov %rsp, 0x18000020\n mov %rbp, 0x18000028\n mov %rsi, 0x18000030\n mov %rdi, "
	"0x18000038\n"
	"mov %r8, 0x18000040\n mov %r9, 0x18000048\n mov %r10, 0x18000050\n mov %r11, 0x18000058\n"
	"mov %r12, 0x18000060\n mov %r13, 0x18000068\n mov %r14, 0x18000070\n mov %r15, "
	"0x18000078\n"
	"mov 0x18000088, %rsp\n pushfq\n popq 0x18000080\n cld\n"
	"pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n"
	"native_after_end:\n"
	".text\n");

static u8 *code; /* executable */
static u64 seed = 88172645463325252u;

static u64 random64(void) {
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void *map_at(u64 address, size_t size, int prot) {
	void *at = mmap((void *)address, size, prot,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	assert_ptr_equal(at, (void *)address);
	return at;
}

static void run_native(const struct sample *s) {
	size_t before = (size_t)(native_before_end - native_before);
	size_t after = (size_t)(native_after_end - native_after);

	memcpy(code, native_before, before);
	memcpy(code + before, s->bytes, s->length);
	memcpy(code + before + s->length, native_after, after);
	__asm__ volatile("call *%0"
			 :
			 : "r"(code)
			 : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory",
			   "cc");
}

/* Random state that fits the kind of instruction, the same on both sides. */
static void randomise(const struct sample *s) {
	u64 *gpr = rig_vcpu->gpr;
	u8 *device = (u8 *)DEVICE;

	for (int i = 0; i < NR_GPRS; i++) gpr[i] = random64() >> (random64() & 31);
	for (unsigned i = 0; i < sizeof(rig_device); i++) rig_device[i] = (u8)(random64() >> 20);
	gpr[RBX] = DEVICE + 0x10;
	gpr[RBP] = random64() % 128 - 64;
	gpr[RSP] = STACK + 0x800;
	if (s->kind != BITS) gpr[RBP] &= 15;
	if (s->kind == STRING) {
		gpr[RCX] = random64() % 40;
		gpr[RSI] = DEVICE + 0x400 + random64() % 64;
		gpr[RDI] = DEVICE + 0x800 + random64() % 64;
		/* so that comparisons go on for a while */
		if (random64() & 1)
			memset(rig_device, random64() & 1 ? 0x55 : 0, sizeof(rig_device));
		gpr[RAX] = random64() & 1 ? 0x5555555555555555 : gpr[RAX];
	}
	if (random64() & 1) memcpy(&gpr[RAX], rig_device + 0x10, 8); /* CMPXCHG finds it */
	rig_vcpu->rflags = 2 | (random64() & FLAGS_ARITH);
	if (s->kind == STRING && random64() & 1) rig_vcpu->rflags |= FLAG_DF;
	memcpy(device, rig_device, sizeof(rig_device));
	for (unsigned i = 0; i < 4096; i++)
		((u8 *)STACK)[i] = fake_ram(rig_vm)[STACK_GPA + i] = (u8)random64();
	memcpy(native->gpr, gpr, sizeof(native->gpr));
	native->rflags = rig_vcpu->rflags;
}

static void report(const struct sample *s, const char *what, u64 got, u64 expected) {
	print_error("sample %zu:", (size_t)(s - samples));
	for (u64 i = 0; i < s->length; i++) print_error(" %02x", s->bytes[i]);
	fail_msg(": %s is %lx, on the processor %lx", what, got, expected);
}

static void compare(const struct sample *s) {
	u64 flags = compared_flags[s->kind];

	for (int i = 0; i < NR_GPRS; i++)
		if (rig_vcpu->gpr[i] != native->gpr[i])
			report(s, "a register", rig_vcpu->gpr[i], native->gpr[i]);
	if ((rig_vcpu->rflags ^ native->rflags) & flags)
		report(s, "RFLAGS", rig_vcpu->rflags & flags, native->rflags & flags);
	for (unsigned i = 0; i < sizeof(rig_device); i++)
		if (rig_device[i] != ((u8 *)DEVICE)[i])
			report(s, "a byte of the device", rig_device[i], ((u8 *)DEVICE)[i]);
	if (memcmp(fake_ram(rig_vm) + STACK_GPA, (void *)STACK, 4096)) report(s, "the stack", 0, 0);
}

static void same_as_the_processor(void **state) {
	unsigned count = 0;

	(void)state;
	for (const struct sample *s = samples; s < samples_end; s++, count++) {
		for (unsigned round = 0; round < ROUNDS; round++) {
			enum outcome outcome;

			randomise(s);
			run_native(s);
			outcome = rig_run(s->bytes, (unsigned)s->length, DEVICE_GPA + 0x10,
					  random64() & 1);
			if (outcome != ADVANCE) report(s, "outcome", (u64)outcome, ADVANCE);
			assert_int_equal(rig_vcpu->next_rip, CODE + s->length);
			compare(s);
		}
	}
	assert_true(count > 300);
}

static int setup(void **state) {
	map_at(DEVICE, sizeof(rig_device), PROT_READ | PROT_WRITE);
	map_at(STACK, 4096, PROT_READ | PROT_WRITE);
	map_at(AREA, 4096, PROT_READ | PROT_WRITE);
	code = map_at(AREA + 0x10000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
	return rig_setup(state);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(same_as_the_processor, setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("emulate_native", tests, NULL, NULL);
}
