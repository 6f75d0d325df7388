/*
 * Instruction forms against emulated registers (T-E1): each is executed on plain memory and on a
 * 32-bit register of the local APIC, and must leave the same value, registers and flags. String
 * instructions over a page that is not there (T-S1).
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "mmio";

#define UNMAPPED_VA (TEST_VA + GiB(9))
/* The timer's initial count: reads back what was written, all 32 bits. */
#define REGISTER (LAPIC_BASE + LAPIC_TIMER_INIT)

#define CF	 0x001ul
#define PF	 0x004ul
#define AF	 0x010ul
#define ZF	 0x040ul
#define SF	 0x080ul
#define OF	 0x800ul
#define ALL	 (CF | PF | AF | ZF | SF | OF)
#define LOGIC	 (ALL & ~AF) /* AND, OR, XOR, TEST: AF is undefined */
#define SHIFT	 (ALL & ~(AF | OF))
#define CARRY	 CF /* BT and its kin */
#define NO_FLAGS 0ul

struct result {
	u64 memory, rax, rcx, rdx, flags;
};

static volatile u32 plain;

static struct result finish(volatile u32 *at, struct result r, u64 flags) {
	r.memory = *at;
	r.flags &= flags;
	return r;
}

/* The instruction as one line: "; " between instructions, one percent sign for two. */
static const char *one_line(const char *insn) {
	static char line[120];
	size_t n = 0;

	for (; *insn && n < sizeof(line) - 2; insn++) {
		if (*insn == '\n') {
			line[n++] = ';';
			line[n++] = ' ';
		} else if (*insn != '\t' && !(insn[0] == '%' && insn[1] == '%')) {
			line[n++] = *insn;
		}
	}
	line[n] = 0;
	return line;
}

static void compare(const char *insn, struct result got, struct result wanted) {
	bool same = got.memory == wanted.memory && got.rax == wanted.rax && got.rcx == wanted.rcx &&
		    got.rdx == wanted.rdx && got.flags == wanted.flags;

	if (!check(one_line(insn), same))
		print("# memory %lx/%lx rax %lx/%lx rcx %lx/%lx rdx %lx/%lx flags %lx/%lx\n",
		      got.memory, wanted.memory, got.rax, wanted.rax, got.rcx, wanted.rcx, got.rdx,
		      wanted.rdx, got.flags, wanted.flags);
}

/* RBX holds the address; RAX, RCX, RDX are inputs; the flags begin as CF, SF and OF say. */
#define EXECUTE(at, insn, start, a, c, d, mask)                                                  \
	({                                                                                       \
		struct result r_ = {0, a, c, d, 0};                                              \
		*(at) = start;                                                                   \
		__asm__ volatile(                                                                \
			"push %%rbp\n\tmov $0x881, %%ebp\n\t"                                    \
			"push %%rbp\n\tpopfq\n\t" insn "\n\tpushfq\n\tpop %[saved]\n\tpop %%rbp" \
			: "+a"(r_.rax), "+c"(r_.rcx), "+d"(r_.rdx), [saved] "=&S"(r_.flags)      \
			: "b"(at)                                                                \
			: "memory", "cc", "rdi", "r9", "r12", "r13");                            \
		finish(at, r_, mask);                                                            \
	})

#define FORM_WITH(insn, start, a, c, d, mask)                                        \
	compare(insn, EXECUTE((volatile u32 *)REGISTER, insn, start, a, c, d, mask), \
		EXECUTE(&plain, insn, start, a, c, d, mask))
#define FORM(insn, mask) FORM_WITH(insn, 0x80001234, 0x11112222, 5, 0x33334444, mask)

static void test_moves(void) {
	FORM("movl %%eax, (%%rbx)", NO_FLAGS);
	FORM("movl (%%rbx), %%edx", NO_FLAGS);
	FORM("movl $0x12345678, (%%rbx)", NO_FLAGS);
	FORM("mov %%eax, %%r9d\n\tmovl %%r9d, (%%rbx)\n\tmovl (%%rbx), %%r9d\n\tmov %%r9d, %%ecx",
	     NO_FLAGS);
	FORM("movslq (%%rbx), %%rax", NO_FLAGS);
	FORM("movl (%%rbx), %%eax", NO_FLAGS);
	FORM("xchg %%eax, (%%rbx)", NO_FLAGS);
	FORM("movnti %%eax, (%%rbx)", NO_FLAGS);
	FORM("cmovc (%%rbx), %%eax", NO_FLAGS);
	FORM("cmovz (%%rbx), %%eax", NO_FLAGS);
	FORM("bswap %%eax\n\tmovl %%eax, (%%rbx)", NO_FLAGS);
}

static void test_arithmetic(void) {
	FORM("addl %%eax, (%%rbx)", ALL);
	FORM("addl (%%rbx), %%eax", ALL);
	FORM("addl $0x7fffffff, (%%rbx)", ALL);
	FORM("addl $-1, (%%rbx)", ALL);
	FORM("adcl %%eax, (%%rbx)", ALL);
	FORM("adcl (%%rbx), %%eax", ALL);
	FORM("subl %%eax, (%%rbx)", ALL);
	FORM("subl (%%rbx), %%eax", ALL);
	FORM("sbbl $5, (%%rbx)", ALL);
	FORM("sbbl (%%rbx), %%eax", ALL);
	FORM("cmpl %%eax, (%%rbx)", ALL);
	FORM("cmpl (%%rbx), %%eax", ALL);
	FORM("cmpl $0x80001234, (%%rbx)", ALL);
	FORM("incl (%%rbx)", ALL);
	FORM("decl (%%rbx)", ALL);
	FORM("negl (%%rbx)", ALL);
	FORM("notl (%%rbx)", ALL);
}

static void test_logic(void) {
	FORM("orl %%eax, (%%rbx)", LOGIC);
	FORM("orl (%%rbx), %%eax", LOGIC);
	FORM("orl $0x100, (%%rbx)", LOGIC);
	FORM("andl %%eax, (%%rbx)", LOGIC);
	FORM("andl (%%rbx), %%eax", LOGIC);
	FORM("andl $0, (%%rbx)", LOGIC);
	FORM("xorl %%eax, (%%rbx)", LOGIC);
	FORM("xorl (%%rbx), %%eax", LOGIC);
	FORM("testl %%eax, (%%rbx)", LOGIC);
	FORM("testl $0x80000000, (%%rbx)", LOGIC);
	FORM("lock orl %%eax, (%%rbx)", LOGIC);
	FORM("lock addl %%eax, (%%rbx)", ALL);
	FORM("lock incl (%%rbx)", ALL);
}

static void test_bits(void) {
	FORM("btl $4, (%%rbx)", CARRY);
	FORM("btsl $0, (%%rbx)", CARRY);
	FORM("btrl $31, (%%rbx)", CARRY);
	FORM("btcl $2, (%%rbx)", CARRY);
	FORM("btl %%ecx, (%%rbx)", CARRY);
	FORM("btsl %%ecx, (%%rbx)", CARRY);
	FORM("lock btsl $0, (%%rbx)", CARRY);
}

static void test_exchanges(void) {
	FORM("xaddl %%eax, (%%rbx)", ALL);
	FORM("lock xaddl %%eax, (%%rbx)", ALL);
	FORM("cmpxchgl %%ecx, (%%rbx)", ALL);
	FORM_WITH("cmpxchgl %%ecx, (%%rbx)", 0x1234, 0x1234, 5, 0, ALL);
	FORM_WITH("lock cmpxchgl %%ecx, (%%rbx)", 0x1234, 0x1234, 5, 0, ALL);
}

/*
 * Forms that no driver uses on registers. An emulator may stop at them with a report (T-E6), so
 * they are tried only with the word `rare` on the command line.
 */
static void test_rare(void) {
	if (!cmdline_has("rare")) {
		skip("multiplications, shifts, bit scans", "without the word rare");
		return;
	}
	FORM("imull (%%rbx), %%ecx", CF | OF);
	FORM("imull $3, (%%rbx), %%ecx", CF | OF);
	FORM("mull (%%rbx)", CF | OF);
	FORM("imull (%%rbx)", CF | OF);
	FORM_WITH("divl (%%rbx)", 7, 100, 5, 0, NO_FLAGS);
	FORM_WITH("idivl (%%rbx)", 7, 100, 5, 0, NO_FLAGS);
	FORM("shll $1, (%%rbx)", LOGIC);
	FORM("shll %%cl, (%%rbx)", SHIFT);
	FORM("shrl $4, (%%rbx)", SHIFT);
	FORM("sarl $4, (%%rbx)", SHIFT);
	FORM("roll $1, (%%rbx)", CF | OF);
	FORM("rorl %%cl, (%%rbx)", CF);
	FORM("rcll $1, (%%rbx)", CF | OF);
	FORM("rcrl $1, (%%rbx)", CF | OF);
	FORM("shldl $4, %%eax, (%%rbx)", SHIFT);
	FORM("shrdl %%cl, %%eax, (%%rbx)", SHIFT);
	FORM("bsfl (%%rbx), %%eax", ZF);
	FORM("bsrl (%%rbx), %%eax", ZF);
	if (cpuid_bit(1, 2, 22)) {
		FORM("movbe (%%rbx), %%eax", NO_FLAGS);
		FORM("movbe %%eax, (%%rbx)", NO_FLAGS);
	}
}

/* Operand and address prefixes, every kind of addressing, 2 to 15 bytes of instruction. */
static void test_addressing(void) {
	FORM("mov %%rbx, %%r12\n\tmovl %%eax, (%%r12)\n\tmovl (%%r12), %%edx", NO_FLAGS);
	FORM("mov %%rbx, %%r13\n\tmovl %%eax, (%%r13)\n\tmovl (%%r13), %%edx", NO_FLAGS);
	FORM("lea -20(%%rbx), %%rdi\n\tmovl %%eax, (%%rdi, %%rcx, 4)", NO_FLAGS);
	FORM("lea -0x1000(%%rbx), %%rdi\n\tmovl $7, 0x1000(%%rdi)", NO_FLAGS);
	FORM("lea -0x7f(%%rbx), %%rdi\n\tmovl $7, 0x7f(%%rdi)", NO_FLAGS);
	FORM("movl $0x55, %%es:(%%rbx)", NO_FLAGS);
	FORM(".byte 0x3e, 0x26, 0x3e, 0x26\n\tmovl $0x55, (%%rbx)", NO_FLAGS);
	FORM("movl %%eax, (%%ebx)", NO_FLAGS);
	FORM(".byte 0x3e, 0x67, 0xc7, 0x84, 0x23, 0, 0, 0, 0, 0x78, 0x56, 0x34, 0x12", NO_FLAGS);
	FORM("mov %%rsp, %%rdi\n\tmov %%rbx, %%rsp\n\tmovl %%eax, (%%rsp)\n\tmov %%rdi, %%rsp",
	     NO_FLAGS);
	FORM("mov %%rbx, %%rbp\n\tmovl %%eax, (%%rbp)", NO_FLAGS);
}

static void test_strings(void) {
	u32 from = 0x76543210, to = 0;

	u64 rsi = (u64)&from;
	u64 rdi = REGISTER;
	__asm__ volatile("cld\n\tmovsl" : "+S"(rsi), "+D"(rdi) : : "memory");
	check_eq("MOVS to a register: value", mmio_read32((volatile void *)REGISTER), from);
	check("MOVS to a register: RSI and RDI", rsi == (u64)&from + 4 && rdi == REGISTER + 4);

	rsi = REGISTER;
	rdi = (u64)&to;
	__asm__ volatile("std\n\tmovsl\n\tcld" : "+S"(rsi), "+D"(rdi) : : "memory");
	check_eq("MOVS from a register, downwards: value", to, from);
	check("MOVS from a register, downwards: RSI and RDI",
	      rsi == REGISTER - 4 && rdi == (u64)&to - 4);

	rdi = REGISTER;
	u64 rcx = 1;
	u64 rax = 0x5a5a1234;
	__asm__ volatile("rep stosl" : "+D"(rdi), "+c"(rcx) : "a"(rax) : "memory");
	check_eq("REP STOS: value", mmio_read32((volatile void *)REGISTER), rax);
	check("REP STOS: RDI and RCX", rdi == REGISTER + 4 && rcx == 0);

	rsi = REGISTER;
	rcx = 1;
	__asm__ volatile("rep lodsl" : "+S"(rsi), "+c"(rcx), "=a"(rax) : : "memory");
	check_eq("REP LODS: value", rax, 0x5a5a1234);
	check("REP LODS: RSI and RCX", rsi == REGISTER + 4 && rcx == 0);

	rdi = REGISTER;
	rcx = 0;
	__asm__ volatile("rep stosl" : "+D"(rdi), "+c"(rcx) : "a"(1) : "memory");
	check("REP STOS with RCX = 0 does nothing",
	      rdi == REGISTER && mmio_read32((volatile void *)REGISTER) == 0x5a5a1234);
}

/* T-E1: a register that counts what is written to it, so that a repeat would be seen. */
static void test_exactly_once(void) {
	volatile u32 *reg = (volatile u32 *)REGISTER;
	const u32 rounds = 3000;

	*reg = 0;
	for (u32 i = 0; i < rounds; i++) __asm__ volatile("incl (%0)" : : "r"(reg) : "memory");
	check_eq("T-E1: INC in two bytes, once each", *reg, rounds);
	for (u32 i = 0; i < rounds; i++)
		__asm__ volatile(".byte 0x3e\n\taddl $0x10000, 0x380(%0)"
				 :
				 : "r"(LAPIC_BASE)
				 : "memory");
	check_eq("T-E1: ADD in eleven bytes, once each", *reg, rounds + rounds * 0x10000);
	for (u32 i = 0; i < rounds; i++)
		__asm__ volatile("subl $1, (%0)" : : "r"((u64)reg) : "memory");
	check_eq("T-E1: SUB, once each", *reg, rounds * 0x10000);
	*reg = 0;
}

/* Byte and word accesses where a byte has a meaning: the IOAPIC's index. */
static void test_sizes(void) {
	volatile u8 *index = (volatile u8 *)IOAPIC_BASE;
	u64 wide;

	*index = 1;
	check_eq("byte store, byte load", *index, 1);
	__asm__ volatile("movzbl (%1), %k0" : "=r"(wide) : "r"(index) : "memory");
	check_eq("MOVZX of a byte", wide, 1);
	__asm__ volatile("movsbq (%1), %0" : "=r"(wide) : "r"(index) : "memory");
	check_eq("MOVSX of a byte", wide, 1);
	__asm__ volatile("movb %%ah, (%1)" : : "a"(0x0200), "r"(index) : "memory");
	check_eq("store of AH", *index, 2);
	__asm__ volatile("xor %%eax, %%eax\n\tcmp %%eax, %%eax\n\tsete (%0)"
			 :
			 : "r"(index)
			 : "memory", "rax", "cc");
	check_eq("SETcc", *index, 1);
	ioapic_write(0x10 + 2 * 5, LVT_MASKED);
}

/* The page of registers, reached through another address. */
static void test_alias(void) {
	page_map(TEST_VA, LAPIC_BASE, PTE_PRESENT | PTE_WRITE);
	*(volatile u32 *)(TEST_VA + LAPIC_TIMER_INIT) = 0x4242;
	check_eq("a register through another linear address",
		 mmio_read32((volatile void *)REGISTER), 0x4242);
	page_map(TEST_VA, LAPIC_BASE, PTE_PRESENT);
	__asm__ volatile(TRY "movl $1, (%0)" END_TRY
			 :
			 : "r"(TEST_VA + LAPIC_TIMER_INIT)
			 : TRY_SPOILS);
	check_eq("a store through a read-only mapping: #PF", trap_taken().vector, X86_PF);
	check_eq("its error code", trap_taken().error, PF_PRESENT | PF_WRITE);
	__asm__ volatile(TRY "addl $1, (%0)" END_TRY
			 :
			 : "r"(TEST_VA + LAPIC_TIMER_INIT)
			 : TRY_SPOILS);
	check_eq("a read-modify-write through it: #PF", trap_taken().vector, X86_PF);
	check_eq("the register is unharmed", mmio_read32((volatile void *)REGISTER), 0x4242);
	mmio_write32((volatile void *)REGISTER, 0);
	page_map(TEST_VA, 0, 0);
}

/* Code that lies over a page boundary and touches a register. */
static void test_split_code(void) {
	/* movl $0x00abcdef, (%rdi); ret */
	static const u8 code[] = {0xc7, 0x07, 0xef, 0xcd, 0xab, 0x00, 0xc3};
	u8 *first = page_alloc(), *second = page_alloc();

	page_map(TEST_VA, (u64)first, PTE_PRESENT | PTE_WRITE);
	page_map(TEST_VA + PAGE_SIZE, (u64)second, PTE_PRESENT | PTE_WRITE);
	for (unsigned cut = 1; cut < 6; cut++) {
		u64 at = TEST_VA + PAGE_SIZE - cut;

		memcpy((void *)at, code, sizeof(code));
		mmio_write32((volatile void *)REGISTER, 0);
		__asm__ volatile("call *%0" : : "r"(at), "D"(REGISTER) : "memory");
		check_eq(name_of("code with %u bytes before a page boundary", cut),
			 mmio_read32((volatile void *)REGISTER), 0xabcdef);
	}
	mmio_write32((volatile void *)REGISTER, 0);
}

/* T-S1: a fault in the middle of a string instruction leaves it to be continued. */
static void string_fault(const char *name, bool input) {
	u8 *page = page_alloc();
	u64 boundary = TEST_VA + GiB(1) + PAGE_SIZE, rdi = boundary - 5, rcx = 12;
	unsigned good = 0;

	page_map(boundary - PAGE_SIZE, (u64)page, PTE_PRESENT | PTE_WRITE);
	page_map(boundary, 0, 0);
	if (input)
		__asm__ volatile("cld\n\t" TRY "rep insb" END_TRY
				 : "+D"(rdi), "+c"(rcx)
				 : "d"(0x21)
				 : TRY_SPOILS);
	else
		__asm__ volatile("cld\n\t" TRY "rep stosb" END_TRY
				 : "+D"(rdi), "+c"(rcx)
				 : "a"(0x77)
				 : TRY_SPOILS);
	check_eq(name_of("T-S1 %s: #PF", name), trap_taken().vector, X86_PF);
	check_eq(name_of("T-S1 %s: error code", name), trap_taken().error, PF_WRITE);
	check_eq(name_of("T-S1 %s: CR2 is the first byte of the second page", name),
		 trap_taken().cr2, boundary);
	check_eq(name_of("T-S1 %s: RDI", name), rdi, boundary);
	check_eq(name_of("T-S1 %s: RCX", name), rcx, 7);
	check_eq(name_of("T-S1 %s: RIP is the instruction", name), trap_taken().offset, 0);
	page_map(boundary, (u64)page_alloc(), PTE_PRESENT | PTE_WRITE);
	if (input)
		__asm__ volatile("rep insb" : "+D"(rdi), "+c"(rcx) : "d"(0x21) : "memory");
	else
		__asm__ volatile("rep stosb" : "+D"(rdi), "+c"(rcx) : "a"(0x77) : "memory");
	for (unsigned i = 0; i < 12; i++)
		good += *(volatile u8 *)(boundary - 5 + i) == (input ? inb(0x21) : 0x77);
	check_eq(name_of("T-S1 %s: all bytes, once it goes on", name), good, 12);
	check_eq(name_of("T-S1 %s: nothing before", name), *(volatile u8 *)(boundary - 6), 0);
	check_eq(name_of("T-S1 %s: nothing behind", name), *(volatile u8 *)(boundary + 7), 0);
}

static void test_string_io(void) {
	u8 bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	u64 rsi = (u64)bytes, rdi, rcx = 8;

	__asm__ volatile("cld\n\trep outsb" : "+S"(rsi), "+c"(rcx) : "d"(0x80) : "memory");
	check("REP OUTS: RSI and RCX", rsi == (u64)bytes + 8 && rcx == 0);
	rsi = (u64)bytes + 7;
	rcx = 4;
	__asm__ volatile("std\n\trep outsb\n\tcld" : "+S"(rsi), "+c"(rcx) : "d"(0x80) : "memory");
	check("REP OUTS downwards: RSI and RCX", rsi == (u64)bytes + 3 && rcx == 0);
	rdi = (u64)bytes;
	rcx = 0;
	__asm__ volatile("rep insb" : "+D"(rdi), "+c"(rcx) : "d"(0x21) : "memory");
	check("REP INS with RCX = 0 does nothing", rdi == (u64)bytes && bytes[0] == 1);
	rsi = UNMAPPED_VA;
	rcx = 3;
	__asm__ volatile(TRY "rep outsb" END_TRY : "+S"(rsi), "+c"(rcx) : "d"(0x80) : TRY_SPOILS);
	check_eq("REP OUTS from an absent page: #PF", trap_taken().vector, X86_PF);
	check_eq("REP OUTS from an absent page: error code", trap_taken().error, 0);
	check("REP OUTS from an absent page: RSI and RCX", rsi == UNMAPPED_VA && rcx == 3);
}

void test_main(void) {
	lapic_init();
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
	test_moves();
	test_arithmetic();
	test_logic();
	test_bits();
	test_exchanges();
	test_addressing();
	test_strings();
	test_exactly_once();
	test_sizes();
	test_alias();
	test_split_code();
	string_fault("REP STOSB", false);
	string_fault("REP INSB", true);
	test_string_io();
	test_rare();
	lapic_write(LAPIC_TIMER_INIT, 0);
}
