/*
 * Model-specific registers (T-G1): a sweep over the architectural ranges, where what is not known
 * must be #GP(0), and the rules of those that a guest uses.
 */
#include "guest-tests/lib/trap.h"

const char test_name[] = "msr";

#define NON_CANONICAL 0x0000800000000000ul

/* What a virtual CPU may reasonably have, first to last. Anything else that can be read is odd. */
static const struct {
	u32 first, last;
} known[] = {
	{0, 1},			  /* machine check address and type of old */
	{0x10, 0x10},		  /* TSC */
	{0x11, 0x12},		  /* kvmclock, old numbers */
	{0x17, 0x17},		  /* platform id */
	{0x1b, 0x1b},		  /* APIC base */
	{0x2a, 0x2a},		  /* EBL_CR_POWERON */
	{0x34, 0x34},		  /* SMI count */
	{0x3a, 0x3b},		  /* feature control, TSC adjust */
	{0x48, 0x48},		  /* SPEC_CTRL */
	{0x8b, 0x8b},		  /* microcode revision */
	{0xcd, 0xce},		  /* bus frequency, platform info */
	{0xe7, 0xe8},		  /* MPERF, APERF */
	{0xfe, 0xfe},		  /* MTRR capabilities */
	{0x10a, 0x10a},		  /* ARCH_CAPABILITIES */
	{0x140, 0x140},		  /* misc features enables */
	{0x174, 0x17b},		  /* SYSENTER, machine check globals */
	{0x186, 0x189},		  /* performance events */
	{0x198, 0x19c},		  /* performance and thermal status */
	{0x1a0, 0x1a0},		  /* misc enable */
	{0x1c9, 0x1c9},		  /* last branch top of stack */
	{0x1d9, 0x1d9},		  /* DEBUGCTL */
	{0x1db, 0x1de},		  /* last branch and exception */
	{0x200, 0x21f},		  /* variable MTRRs */
	{0x250, 0x26f},		  /* fixed MTRRs */
	{0x277, 0x277},		  /* PAT */
	{0x2ff, 0x2ff},		  /* MTRR default type */
	{0x400, 0x47f},		  /* machine check banks */
	{0x480, 0x493},		  /* VMX capabilities */
	{0x6e0, 0x6e0},		  /* TSC deadline */
	{0xda0, 0xda0},		  /* XSS */
	{0xc0000080, 0xc0000084}, /* EFER, STAR, LSTAR, CSTAR, SFMASK */
	{0xc0000100, 0xc0000104}, /* FS, GS, kernel GS, TSC_AUX, TSC ratio */
	{0xc0010000, 0xc0010007}, /* performance counters */
	{0xc0010010, 0xc001001f}, /* SYSCFG, HWCR, IORRs, TOP_MEM, NB_CFG */
	{0xc0010055, 0xc0010055}, /* interrupt pending */
	{0xc0010058, 0xc0010058}, /* MMIO configuration base */
	{0xc0010061, 0xc001006b}, /* P-states */
	{0xc0010111, 0xc0010119}, /* SMM and SVM */
	{0xc0010140, 0xc0010141}, /* OS visible workarounds */
	{0xc0010200, 0xc001020b}, /* performance counters */
	{0xc0011000, 0xc001103f}, /* CPUID overrides, DE_CFG, IBS */
};

/* Write-only, or with an effect that a blind write must not have. */
static bool never_write(u32 msr) {
	return msr == 0x49 || msr == 0x79 || msr == 0x10b || msr == 0xc0010020 ||
	       (msr >= 0x800 && msr < 0x900) || msr == 0x10 || msr == 0x3b || msr == 0x6e0;
}

static bool is_known(u32 msr) {
	for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
		if (msr >= known[i].first && msr <= known[i].last) return true;
	return false;
}

static void sweep(u32 first, u32 last) {
	u32 readable = 0, odd = 0, wrong = 0, swallowed = 0;
	u64 value;

	for (u32 msr = first; msr <= last; msr++) {
		u64 vector = msr_read(msr, &value);

		if (vector == TRAP_NONE) {
			readable++;
			if (!is_known(msr) && !odd++)
				print("# MSR 0x%x reads as 0x%lx\n", msr, value);
			if (!never_write(msr)) (void)msr_write(msr, value);
			continue;
		}
		if (vector != X86_GP || trap_taken().error) wrong++;
		if (!never_write(msr) && msr_write(msr, 0) == TRAP_NONE && !swallowed++)
			print("# MSR 0x%x cannot be read, but written\n", msr);
	}
	print("# MSRs 0x%x to 0x%x: %u can be read\n", first, last, readable);
	check_eq(name_of("T-G1 0x%x to 0x%x: readable and not architectural", first, last), odd, 0);
	check_eq(name_of("T-G1 0x%x to 0x%x: refused with anything but #GP(0)", first, last), wrong,
		 0);
	check_eq(name_of("T-G1 0x%x to 0x%x: refused to read, but not to write", first, last),
		 swallowed, 0);
}

static void test_sweep(void) {
	if (on_bare_tcg()) {
		skip("T-G1 sweep", "TCG reads unknown MSRs as 0");
		return;
	}
	sweep(0, 0x1fff);
	sweep(0xc0000000, 0xc0001fff);
	sweep(0xc0010000, 0xc0011fff);
	sweep(0x40000000, 0x400000ff);
}

static void keeps(const char *name, u32 msr, u64 value) {
	u64 old, now = 0;

	if (msr_read(msr, &old) != TRAP_NONE) {
		check(name_of("%s can be read", name), false);
		return;
	}
	check_eq(name_of("%s can be written", name), msr_write(msr, value), TRAP_NONE);
	msr_read(msr, &now);
	check_eq(name_of("%s reads back", name), now, value);
	msr_write(msr, old);
}

static void refuses(const char *name, u32 msr, u64 value) {
	u64 old = 0, now = 0;

	msr_read(msr, &old);
	check_eq(name_of("%s: #GP", name), msr_write(msr, value), X86_GP);
	msr_read(msr, &now);
	check_eq(name_of("%s: nothing changed", name), now, old);
}

static void test_system_call(void) {
	keeps("STAR", X86_MSR_STAR, 0x0033000800000000);
	keeps("LSTAR", X86_MSR_LSTAR, 0xffff800000001234);
	keeps("CSTAR", X86_MSR_CSTAR, 0xffff800000005678);
	keeps("SFMASK", X86_MSR_SFMASK, 0x47700);
	keeps("SYSENTER_CS", X86_MSR_SYSENTER_CS, 8);
	keeps("SYSENTER_ESP", 0x175, 0x12345678);
	keeps("SYSENTER_EIP", 0x176, 0x12345678);
	keeps("FS_BASE", X86_MSR_FS_BASE, 0x7fffffffffff);
	keeps("KERNEL_GS_BASE", X86_MSR_KERNEL_GS_BASE, 0xffffffff80000000);
	if (cpuid_bit(0x80000001, 3, 27)) keeps("TSC_AUX", X86_MSR_TSC_AUX, 0x12345678);
	if (on_tcg()) {
		skip("non-canonical LSTAR, FS_BASE, KERNEL_GS_BASE", "TCG takes them");
		return;
	}
	refuses("non-canonical LSTAR", X86_MSR_LSTAR, NON_CANONICAL);
	refuses("non-canonical FS_BASE", X86_MSR_FS_BASE, NON_CANONICAL);
	refuses("non-canonical KERNEL_GS_BASE", X86_MSR_KERNEL_GS_BASE, NON_CANONICAL);
}

static void test_memory_types(void) {
	u64 pat = rdmsr(X86_MSR_PAT), cap, value;

	keeps("PAT", X86_MSR_PAT, 0x0406070400040607);
	check_eq("PAT is as it was", rdmsr(X86_MSR_PAT), pat);
	if (msr_read(0xfe, &cap) != TRAP_NONE) {
		check("MTRR capabilities can be read", false);
		return;
	}
	for (u32 i = 0; i < (cap & 0xff); i++) {
		keeps(name_of("MTRR base %u", i), 0x200 + 2 * i, 0x80000006);
		keeps(name_of("MTRR mask %u", i), 0x201 + 2 * i, 0xf80000800);
	}
	if (cap & 0x100) keeps("fixed MTRR", 0x250, 0x0606060606060606);
	check_eq("MTRR default type can be read", msr_read(0x2ff, &value), TRAP_NONE);
	if (on_bare_tcg()) {
		skip("invalid memory types", "TCG takes them");
		return;
	}
	refuses("PAT with type 2", X86_MSR_PAT, 0x0007040600070402);
	refuses("PAT with type 8", X86_MSR_PAT, 0x0807040600070406);
	refuses("MTRR default type 2", 0x2ff, 0xc02);
	refuses("MTRR default type, a reserved bit", 0x2ff, value | BIT(12));
	check_eq("MTRR capabilities are read-only: #GP", msr_write(0xfe, cap), X86_GP);
}

static void test_tsc(void) {
	u64 adjust;

	if (on_bare_tcg()) {
		skip("writing the TSC", "TCG ignores it");
		return;
	}
	u64 now = rdmsr(0x10);
	check_range("RDMSR of the TSC is RDTSC", rdtsc() - now, 0, us_to_tsc(1000000));
	check_eq("TSC_ADJUST can be read", msr_read(0x3b, &adjust), TRAP_NONE);
	u64 before = rdtsc();
	wrmsr(0x3b, adjust + BIT(40));
	u64 after = rdtsc();
	check_range("TSC_ADJUST moves the TSC by what it changes", after - before - BIT(40), 0,
		    us_to_tsc(1000000));
	check_eq("TSC_ADJUST reads back", rdmsr(0x3b), adjust + BIT(40));
	wrmsr(0x3b, adjust);
	before = rdtsc();
	wrmsr(0x10, before + BIT(41));
	after = rdtsc();
	check_range("writing the TSC moves it", after - before - BIT(41), 0, us_to_tsc(1000000));
	check_range("and moves TSC_ADJUST along", BIT(41) - (rdmsr(0x3b) - adjust), 0,
		    us_to_tsc(1000000));
	wrmsr(0x3b, adjust);
}

static void test_apic_base(void) {
	u64 base = rdmsr(X86_MSR_APIC_BASE);

	check_eq("APIC base: written as it is", msr_write(X86_MSR_APIC_BASE, base), TRAP_NONE);
	check_eq("APIC base: reads back", rdmsr(X86_MSR_APIC_BASE), base);
	if (on_bare_tcg()) return;
	refuses("APIC base beyond the address width", X86_MSR_APIC_BASE, base | BIT(52));
}

/* RDMSR and WRMSR use ECX, EDX:EAX only, and clear the upper halves. */
static void test_registers(void) {
	u64 rax = ~0ul, rdx = ~0ul, rcx = 0xffffffff00000000 | X86_MSR_EFER;

	__asm__ volatile("rdmsr" : "+a"(rax), "+d"(rdx), "+c"(rcx));
	check_eq("RDMSR clears RAX bits 63:32", rax >> 32, 0);
	check_eq("RDMSR clears RDX bits 63:32", rdx >> 32, 0);
	check_eq("RDMSR ignores RCX bits 63:32", rax, rdmsr(X86_MSR_EFER));
	rcx = 0xffffffff00000000 | 0x1b;
	rax = ~0ul;
	rdx = ~0ul;
	__asm__ volatile("rdmsr" : "+a"(rax), "+d"(rdx), "+c"(rcx));
	check_eq("the same for an MSR that exits: RAX", rax, rdmsr(0x1b) & 0xffffffff);
	check_eq("the same for an MSR that exits: RDX", rdx, rdmsr(0x1b) >> 32);
}

void test_main(void) {
	test_registers();
	test_system_call();
	test_memory_types();
	test_tsc();
	test_apic_base();
	test_sweep();
}
