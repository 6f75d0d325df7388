/* Every exception that software can raise: vector, error code, saved RIP, what else it changes. */
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "exceptions";

#define NON_CANONICAL 0x8000000000000000ul
#define UNMAPPED      (TEST_VA + GiB(8))

#define FAULT	      0
#define NO_ERROR      0
#define ANY_ERROR     0xffffful
/* Where TCG pushes a wrong error code. */
#define TCG_ERROR(right) (on_tcg() ? ANY_ERROR : (u64)(right))

static void expect(const char *name, u64 vector, u64 error, u64 offset) {
	struct trap t = trap_taken();

	check_eq(name_of("%s: vector", name), t.vector, vector);
	if (error == ANY_ERROR)
		skip(name_of("%s: error code", name), "TCG's is wrong");
	else
		check_eq(name_of("%s: error code", name), t.error, error);
	check_eq(name_of("%s: saved RIP", name), t.offset, offset);
}

#define RAISE(name, insn, vector, error, offset, ...)                                          \
	do {                                                                                   \
		__asm__ volatile(TRY insn END_TRY : : __VA_ARGS__ : TRY_SPOILS, "rax", "rdx"); \
		expect(name, vector, error, offset);                                           \
	} while (0)

static void test_simple(void) {
	RAISE("DIV by 0", "xor %%edx, %%edx\n\tdiv %%rcx", X86_DE, NO_ERROR, 2, "c"(0ul));
	RAISE("IDIV overflow", "mov $-1, %%rdx\n\tidiv %%rcx", X86_DE, NO_ERROR, 7, "c"(1ul));
	RAISE("INT3", "int3", X86_BP, NO_ERROR, 1, "c"(0));
	RAISE("INT 3 in two bytes", ".byte 0xcd, 3", X86_BP, NO_ERROR, 2, "c"(0));
	RAISE("UD2", "ud2", X86_UD, NO_ERROR, FAULT, "c"(0));
	RAISE("UD1", ".byte 0x0f, 0xb9, 0xc0", X86_UD, NO_ERROR, FAULT, "c"(0));
	RAISE("INTO in 64-bit mode", ".byte 0xce", X86_UD, NO_ERROR, FAULT, "c"(0));
	RAISE("LOCK on a register", ".byte 0xf0, 0x01, 0xc0", X86_UD, NO_ERROR, FAULT, "c"(0));
	RAISE("INT 0x50", "int $0x50", 0x50, NO_ERROR, 2, "c"(0));
	RAISE("RSM outside of SMM", "rsm", X86_UD, NO_ERROR, FAULT, "c"(0));
}

static void test_general_protection(void) {
	RAISE("non-canonical load", "mov (%%rcx), %%rax", X86_GP, 0, FAULT, "c"(NON_CANONICAL));
	RAISE("non-canonical store", "mov %%rax, (%%rcx)", X86_GP, 0, FAULT, "c"(NON_CANONICAL));
	RAISE("load of a selector past the GDT", "mov %%ecx, %%ds", X86_GP, 0x7ff8, FAULT,
	      "c"(0x7ff8));
	RAISE("load of a selector past the LDT", "mov %%ecx, %%ds", X86_GP, 0x4, FAULT, "c"(0x4));
	if (on_tcg())
		skip("null SS with RPL 3 in ring 0", "TCG takes it");
	else
		RAISE("null SS with RPL 3 in ring 0", "mov %%ecx, %%ss", X86_GP, 0, FAULT, "c"(3));
}

/* A non-canonical address through RBP or RSP is a stack fault (SDM 3A 6.15, #SS). */
static void test_stack(void) {
	if (on_tcg()) {
		skip("non-canonical load through RBP", "TCG raises #GP");
		return;
	}
	__asm__ volatile("push %%rbp\n\t" TRY "mov %0, %%rbp\n\tmov (%%rbp), %%rax" END_TRY
			 "pop %%rbp"
			 :
			 : "r"(NON_CANONICAL)
			 : TRY_SPOILS, "rax");
	expect("non-canonical load through RBP", X86_SS, 0, 3);
}

static u32 physical_bits(void) {
	u32 r[4];

	cpuid(0x80000008, 0, r);
	return r[0] & 0xff;
}

static void test_page_faults(void) {
	u64 page = (u64)page_alloc();

	RAISE("#PF read", "mov (%%rcx), %%rax", X86_PF, 0, FAULT, "c"(UNMAPPED + 0x123));
	check_eq("#PF read: CR2", trap_taken().cr2, UNMAPPED + 0x123);
	RAISE("#PF write", "mov %%rax, (%%rcx)", X86_PF, PF_WRITE, FAULT, "c"(UNMAPPED + 0x456));
	check_eq("#PF write: CR2", trap_taken().cr2, UNMAPPED + 0x456);
	/* The fetch bit is only there with NX or SMEP on (SDM 3A 4.7, APM 2 8.4.2). */
	__asm__ volatile(TRY "call *%0" END_TRY : : "r"(UNMAPPED) : TRY_SPOILS);
	check_eq("#PF fetch without NX: error code", trap_taken().error, 0);
	wrmsr(X86_MSR_EFER, rdmsr(X86_MSR_EFER) | X86_EFER_NXE);
	__asm__ volatile(TRY "call *%0" END_TRY : : "r"(UNMAPPED) : TRY_SPOILS);
	check_eq("#PF fetch: vector", trap_taken().vector, X86_PF);
	check_eq("#PF fetch: error code", trap_taken().error, PF_FETCH);
	check_eq("#PF fetch: saved RIP", trap_taken().rip, UNMAPPED);
	check_eq("#PF fetch: CR2", trap_taken().cr2, UNMAPPED);

	page_map(UNMAPPED, page, PTE_PRESENT);
	RAISE("#PF write to read-only", "mov %%rax, (%%rcx)", X86_PF, PF_PRESENT | PF_WRITE, FAULT,
	      "c"(UNMAPPED));
	page_map(UNMAPPED, page, PTE_PRESENT | PTE_WRITE | BIT(51));
	if (physical_bits() > 51)
		skip("#PF reserved bit", "no reserved address bit");
	else
		RAISE("#PF reserved bit", "mov (%%rcx), %%rax", X86_PF,
		      TCG_ERROR(PF_PRESENT | PF_RESERVED), FAULT, "c"(UNMAPPED));
	/* The second of two bytes is on a page that is not there: CR2 names that page. */
	page_map(UNMAPPED, page, PTE_PRESENT | PTE_WRITE);
	RAISE("#PF over a page boundary", "mov (%%rcx), %%rax", X86_PF, 0, FAULT,
	      "c"(UNMAPPED + PAGE_SIZE - 4));
	check_eq("#PF over a page boundary: CR2", trap_taken().cr2, UNMAPPED + PAGE_SIZE);
	page_map(UNMAPPED, 0, 0);
}

static u64 debug_hits, debug_dr6, debug_rip[4];

static void on_debug(struct regs *r) {
	u64 dr6;

	__asm__ volatile("mov %%db6, %0" : "=r"(dr6));
	debug_dr6 = dr6;
	if (debug_hits < ARRAY_SIZE(debug_rip)) debug_rip[debug_hits] = r->rip;
	debug_hits++;
	if (debug_hits > 100) r->rflags &= ~X86_RFLAGS_TF;
	r->rflags |= X86_RFLAGS_RF;
	__asm__ volatile("mov %0, %%db6" : : "r"(0xffff0ff0ul));
}

static void begin_debug(void) {
	debug_hits = debug_dr6 = 0;
	trap_set_handler(X86_DB, on_debug);
	__asm__ volatile("mov %0, %%db6" : : "r"(0xffff0ff0ul));
}

/* TF set by POPF traps after the instruction behind it, not after POPF (SDM 3A 6.9.3). */
static void test_single_step(void) {
	u64 first;

	begin_debug();
	__asm__ volatile("lea 1f(%%rip), %0\n\t"
			 "pushfq\n\t"
			 "orq $0x100, (%%rsp)\n\t"
			 "popfq\n\t"
			 "nop\n\t"
			 "1: pushfq\n\t"
			 "andq $~0x100, (%%rsp)\n\t"
			 "popfq"
			 : "=&r"(first)
			 :
			 : "memory", "cc");
	check_eq("single step: traps after NOP, PUSHF, AND, POPF", debug_hits, 4);
	check_eq("single step: first saved RIP", debug_rip[0], first);
	check_eq("single step: DR6.BS", debug_dr6 & 0xf00f, 0x4000);
	trap_set_handler(X86_DB, NULL);
}

/* An instruction that exits to a hypervisor must step like any other. */
static void test_step_over_exit(void) {
	u64 first;

	begin_debug();
	__asm__ volatile("lea 1f(%%rip), %%r12\n\t"
			 "pushfq\n\t"
			 "orq $0x100, (%%rsp)\n\t"
			 "mov $0, %%eax\n\t"
			 "popfq\n\t"
			 "cpuid\n\t"
			 "1: inb $0x21, %%al\n\t"
			 "mov $0x1b, %%ecx\n\t"
			 "rdmsr\n\t"
			 "pushfq\n\t"
			 "andq $~0x100, (%%rsp)\n\t"
			 "popfq\n\t"
			 "mov %%r12, %0"
			 : "=r"(first)
			 :
			 : "memory", "cc", "rax", "rbx", "rcx", "rdx", "r12");
	check_eq("single step over CPUID, IN, RDMSR: traps", debug_hits, 7);
	check_eq("single step over CPUID: saved RIP", debug_rip[0], first);
	trap_set_handler(X86_DB, NULL);
}

static u64 watched;

static void test_breakpoints(void) {
	u64 at, after;

	begin_debug();
	__asm__ volatile("lea 1f(%%rip), %0\n\t"
			 "mov %0, %%db0\n\t"
			 "mov $0x402, %%eax\n\t"
			 "mov %%rax, %%db7\n\t"
			 "nop\n\t"
			 "1: nop\n\t"
			 "mov $0x400, %%eax\n\t"
			 "mov %%rax, %%db7"
			 : "=&r"(at)
			 :
			 : "memory", "rax");
	check_eq("instruction breakpoint: hits", debug_hits, 1);
	check_eq("instruction breakpoint: saved RIP is the instruction", debug_rip[0], at);
	check_eq("instruction breakpoint: DR6.B0", debug_dr6 & 0xf00f, 1);

	begin_debug();
	__asm__ volatile("mov %[var], %%db1\n\t"
			 "mov %[dr7], %%db7\n\t"
			 "movl $1, (%[var])\n\t"
			 "1: lea 1b(%%rip), %[after]\n\t"
			 "mov $0x400, %%eax\n\t"
			 "mov %%rax, %%db7"
			 : [after] "=&r"(after)
			 : [var] "r"(&watched), [dr7] "r"(0xd00408ul)
			 : "memory", "rax");
	check_eq("data breakpoint: hits", debug_hits, 1);
	check_eq("data breakpoint: saved RIP is behind the store", debug_rip[0], after);
	check_eq("data breakpoint: DR6.B1", debug_dr6 & 0xf00f, 2);

	RAISE("DR7 bits 63:32", "mov %%rcx, %%db7", X86_GP, 0, FAULT, "c"(BIT(32) | 0x400));
	RAISE("DR6 bits 63:32", "mov %%rcx, %%db6", X86_GP, 0, FAULT, "c"(BIT(32)));
	trap_set_handler(X86_DB, NULL);
}

/* Any access to a debug register faults, and DR7.GD is clear in the handler. */
static void test_general_detect(void) {
	if (on_tcg()) {
		skip("DR7.GD", "TCG has none");
		return;
	}
	begin_debug();
	__asm__ volatile("mov %0, %%db7" : : "r"(0x2400ul));
	(void)read_dr0();
	check_eq("DR7.GD: hits", debug_hits, 1);
	check_eq("DR7.GD: DR6.BD", debug_dr6 & 0xf00f, 0x2000);
	__asm__ volatile("mov %0, %%db7" : : "r"(0x400ul));
	trap_set_handler(X86_DB, NULL);
}

/* DR4 and DR5 are DR6 and DR7, or with CR4.DE nothing (SDM 3B 17.2.2). */
static void test_cr4_de(void) {
	u64 cr4 = read_cr4();

	write_cr4(cr4 | X86_CR4_DE);
	RAISE("DR4 with CR4.DE", ".byte 0x0f, 0x21, 0xe0", X86_UD, NO_ERROR, FAULT, "c"(0));
	write_cr4(cr4 & ~X86_CR4_DE);
	RAISE("DR4 without CR4.DE is DR6", ".byte 0x0f, 0x21, 0xe0", TRAP_NONE, trap_taken().error,
	      trap_taken().offset, "c"(0));
	write_cr4(cr4);
}

static void test_device_not_available(void) {
	u64 cr0 = read_cr0();

	write_cr0(cr0 | X86_CR0_TS);
	RAISE("FNINIT with CR0.TS", "fninit", X86_NM, NO_ERROR, FAULT, "c"(0));
	check_eq("CR0.TS still set", read_cr0() & X86_CR0_TS, X86_CR0_TS);
	write_cr0((cr0 & ~X86_CR0_TS) | X86_CR0_EM);
	RAISE("FNINIT with CR0.EM", "fninit", X86_NM, NO_ERROR, FAULT, "c"(0));
	write_cr0((cr0 & ~X86_CR0_EM) | X86_CR0_TS | X86_CR0_MP);
	RAISE("FWAIT with CR0.TS and MP", "fwait", X86_NM, NO_ERROR, FAULT, "c"(0));
	write_cr0((cr0 & ~(X86_CR0_EM | X86_CR0_MP)) | X86_CR0_TS);
	__asm__ volatile(TRY "fwait" END_TRY : : : TRY_SPOILS);
	check_eq("FWAIT with CR0.TS without MP", trap_taken().vector, TRAP_NONE);
	__asm__ volatile("clts");
	check_eq("CLTS clears CR0.TS", read_cr0() & X86_CR0_TS, 0);
	write_cr0(cr0);
}

static void test_float(void) {
	u64 cr0 = read_cr0(), cr4 = read_cr4();
	u16 fcw = 0x37f & ~4; /* zero divide unmasked */

	write_cr0((cr0 | X86_CR0_NE | X86_CR0_MP) & ~(X86_CR0_TS | X86_CR0_EM));
	__asm__ volatile("fninit; fldcw %0" : : "m"(fcw));
	__asm__ volatile("fld1; fldz; fdivrp");
	RAISE("#MF, taken at the next waiting instruction", "fwait", 16, NO_ERROR, FAULT, "c"(0));
	__asm__ volatile("fninit");

	write_cr4(cr4 & ~X86_CR4_OSFXSR);
	RAISE("SSE without CR4.OSFXSR", "xorps %%xmm0, %%xmm0", X86_UD, NO_ERROR, FAULT, "c"(0));
	write_cr4(cr4);
	write_cr0(cr0);
}

static void test_sse(void) {
	u64 cr0 = read_cr0(), cr4 = read_cr4();
	u32 unmasked = 0x1f80 & ~0x200u, normal = 0x1f80, reserved = 0x10000;
	u32 one = 1;

	if (on_tcg()) {
		skip("#XM and LDMXCSR", "TCG raises no SSE exception");
		return;
	}
	write_cr0((cr0 | X86_CR0_MP) & ~(X86_CR0_TS | X86_CR0_EM));
	write_cr4(cr4 | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT);
	__asm__ volatile("ldmxcsr %0\n\txorps %%xmm1, %%xmm1\n\tcvtsi2ss %1, %%xmm0"
			 :
			 : "m"(unmasked), "m"(one));
	RAISE("#XM, divide by 0", "divss %%xmm1, %%xmm0", 19, NO_ERROR, FAULT, "c"(0));
	write_cr4((cr4 | X86_CR4_OSFXSR) & ~X86_CR4_OSXMMEXCPT);
	RAISE("SSE fault without CR4.OSXMMEXCPT", "divss %%xmm1, %%xmm0", X86_UD, NO_ERROR, FAULT,
	      "c"(0));
	RAISE("LDMXCSR of a reserved bit", "ldmxcsr (%%rcx)", X86_GP, 0, FAULT, "c"(&reserved));
	__asm__ volatile("ldmxcsr %0" : : "m"(normal));
	write_cr4(cr4);
	write_cr0(cr0);
}

/* Delivery that fails itself: absent gate, #DF, and the double fault's error code of 0. */
static void test_delivery(void) {
	trap_set_present(0x51, false);
	RAISE("INT through an absent gate", "int $0x51", X86_NP, TCG_ERROR(0x51 * 8 + 2), FAULT,
	      "c"(0));
	trap_set_present(0x51, true);
	trap_set_present(X86_UD, false);
	RAISE("#UD through an absent gate", "ud2", X86_NP, TCG_ERROR(X86_UD * 8 + 3), FAULT,
	      "c"(0));
	trap_set_present(X86_GP, false);
	RAISE("#GP through an absent gate: double fault", "mov (%%rcx), %%rax", X86_DF, 0, FAULT,
	      "c"(NON_CANONICAL));
	trap_set_present(X86_GP, true);
	trap_set_present(X86_UD, true);
	trap_set_present(X86_PF, false);
	RAISE("#PF through an absent gate: double fault", "mov (%%rcx), %%rax", X86_DF, 0, FAULT,
	      "c"(UNMAPPED));
	trap_set_present(X86_PF, true);
	RAISE("#PF on an unmapped stack: double fault", "mov %%rcx, %%rsp\n\tud2", X86_DF, 0, 3,
	      "c"(UNMAPPED + 0x800));
}

static void test_segments(void) {
	extern u64 gdt[];
	u64 *free_slot = &gdt[SEL_FREE / 8];

	free_slot[0] = 0x00cf13000000ffff; /* data, not present */
	RAISE("load of an absent data segment", "mov %%ecx, %%ds", X86_NP, SEL_FREE, FAULT,
	      "c"(SEL_FREE));
	RAISE("load of an absent stack segment", "mov %%ecx, %%ss", X86_SS, SEL_FREE, FAULT,
	      "c"(SEL_FREE));
	free_slot[0] = 0x00cf99000000ffff; /* code, execute only */
	RAISE("load of an execute-only segment into DS", "mov %%ecx, %%ds", X86_GP, SEL_FREE, FAULT,
	      "c"(SEL_FREE));
	RAISE("LTR of a code segment", "ltr %%cx", X86_GP, SEL_FREE, FAULT, "c"(SEL_FREE));
	RAISE("LTR of a busy TSS", "ltr %%cx", X86_GP, SEL_TSS, FAULT, "c"(SEL_TSS));
	RAISE("LLDT of a code segment", "lldt %%cx", X86_GP, SEL_FREE, FAULT, "c"(SEL_FREE));
	free_slot[0] = 0;
}

/* Ring 3: the error code's user bit, IOPL, privileged instructions, gates with DPL 0. */
#define USER(name, code, vector, error, offset)                 \
	do {                                                    \
		static const u8 bytes_[] = {code};              \
		user_run(bytes_, sizeof(bytes_));               \
		expect("ring 3: " name, vector, error, offset); \
	} while (0)
#define BYTES(...) __VA_ARGS__

static void test_user(void) {
	USER("HLT", 0xf4, X86_GP, 0, FAULT);
	USER("CLI", 0xfa, X86_GP, 0, FAULT);
	USER("IN", BYTES(0xe4, 0x21), X86_GP, 0, FAULT);
	USER("OUT", BYTES(0xe6, 0x80), X86_GP, 0, FAULT);
	USER("MOV from CR0", BYTES(0x0f, 0x20, 0xc0), X86_GP, 0, FAULT);
	USER("RDMSR", BYTES(0x0f, 0x32), X86_GP, 0, FAULT);
	USER("WRMSR", BYTES(0x0f, 0x30), X86_GP, 0, FAULT);
	USER("INVLPG", BYTES(0x0f, 0x01, 0x38), X86_GP, 0, FAULT);
	USER("WBINVD", BYTES(0x0f, 0x09), X86_GP, 0, FAULT);
	USER("LIDT", BYTES(0x0f, 0x01, 0x1c, 0x24), X86_GP, 0, FAULT);
	USER("MOV DR0", BYTES(0x0f, 0x21, 0xc0), X86_GP, 0, FAULT);
	USER("INT 0x50 through a DPL 0 gate", BYTES(0xcd, 0x50), X86_GP, TCG_ERROR(0x50 * 8 + 2),
	     FAULT);
	trap_set_dpl(0x52, 3);
	USER("INT 0x52 through a DPL 3 gate", BYTES(0xcd, 0x52), 0x52, NO_ERROR, 2);
	trap_set_dpl(0x52, 0);
	trap_set_dpl(X86_BP, 3);
	USER("INT3", 0xcc, X86_BP, NO_ERROR, 1);
	trap_set_dpl(X86_BP, 0);
	USER("UD2", BYTES(0x0f, 0x0b), X86_UD, NO_ERROR, FAULT);
	/* xor eax, eax; mov rax, [rax]: the first MiB is mapped for ring 0 only. */
	USER("read of a supervisor page", BYTES(0x31, 0xc0, 0x48, 0x8b, 0x00), X86_PF,
	     PF_PRESENT | PF_USER, 2);
	USER("write of a supervisor page", BYTES(0x31, 0xc0, 0x48, 0x89, 0x00), X86_PF,
	     PF_PRESENT | PF_USER | PF_WRITE, 2);
	/* CPUID works in ring 3, and RDTSC does unless CR4.TSD. */
	USER("CPUID, then UD2", BYTES(0x0f, 0xa2, 0x0f, 0x0b), X86_UD, NO_ERROR, 2);
	USER("RDTSC, then UD2", BYTES(0x0f, 0x31, 0x0f, 0x0b), X86_UD, NO_ERROR, 2);
	write_cr4(read_cr4() | X86_CR4_TSD);
	USER("RDTSC with CR4.TSD", BYTES(0x0f, 0x31), X86_GP, 0, FAULT);
	write_cr4(read_cr4() & ~X86_CR4_TSD);
	USER("SIDT, then UD2", BYTES(0x0f, 0x01, 0x4c, 0x24, 0xf0, 0x0f, 0x0b), X86_UD, NO_ERROR,
	     5);
	if (cpuid_bit(7, 2, 2)) {
		write_cr4(read_cr4() | X86_CR4_UMIP);
		USER("SIDT with CR4.UMIP", BYTES(0x0f, 0x01, 0x4c, 0x24, 0xf0), X86_GP, 0, FAULT);
		write_cr4(read_cr4() & ~X86_CR4_UMIP);
	}
}

static void test_alignment(void) {
	/* pushfq; orq $AC, (rsp); popfq; mov 1(%rsp), %eax */
	static const u8 code[] = {0x9c, 0x48, 0x81, 0x0c, 0x24, 0,    0,    4,
				  0,	0x9d, 0x8b, 0x44, 0x24, 0xe1, 0x0f, 0x0b};

	if (on_tcg()) {
		skip("#AC in ring 3", "TCG has none");
		return;
	}
	write_cr0(read_cr0() | X86_CR0_AM);
	user_run(code, sizeof(code));
	expect("ring 3: unaligned read with AC", X86_AC, 0, 10);
	write_cr0(read_cr0() & ~X86_CR0_AM);
}

static u64 shadow_hits, shadow_rip;

static void on_shadow_irq(struct regs *r) {
	shadow_hits++;
	shadow_rip = r->rip;
	mmio_write32((volatile void *)0xfee000b0ul, 0);
}

/* STI and MOV SS: the instruction behind runs before an interrupt is taken (SDM 3A 6.8.3). */
static void test_shadow(void) {
	u64 behind;

	trap_set_handler(0x61, on_shadow_irq);
	mmio_write32((volatile void *)0xfee000f0ul, 0x1ff);
	mmio_write32((volatile void *)0xfee00300ul, 0x40061);
	shadow_hits = 0;
	__asm__ volatile("sti\n\tnop\n\t1: lea 1b(%%rip), %0\n\tcli" : "=r"(behind) : : "memory");
	check_eq("interrupt pending at STI: taken once", shadow_hits, 1);
	check_eq("interrupt pending at STI: taken behind the next instruction", shadow_rip, behind);

	mmio_write32((volatile void *)0xfee00300ul, 0x40061);
	__asm__ volatile("sti\n\tcli" : : : "memory");
	check_eq("STI; CLI takes no interrupt", shadow_hits, 1);

	/* CPUID exits to a hypervisor inside the shadow; it must not open it early. */
	__asm__ volatile("xor %%eax, %%eax\n\tsti\n\tcpuid\n\t1: lea 1b(%%rip), %0\n\tcli"
			 : "=r"(behind)
			 :
			 : "memory", "rax", "rbx", "rcx", "rdx");
	check_eq("interrupt pending at STI; CPUID: taken once", shadow_hits, 2);
	check_eq("interrupt pending at STI; CPUID: taken behind CPUID", shadow_rip, behind);
	trap_set_handler(0x61, NULL);
}

void test_main(void) {
	test_simple();
	test_general_protection();
	test_stack();
	test_page_faults();
	test_single_step();
	test_step_over_exit();
	test_breakpoints();
	test_general_detect();
	test_cr4_de();
	test_device_not_available();
	test_float();
	test_sse();
	test_delivery();
	test_segments();
	test_user();
	test_alignment();
	test_shadow();
}
