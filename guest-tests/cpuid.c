/* CPUID: consistent in itself, with the control registers and with what the machine does. */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "cpuid";

enum { EAX, EBX, ECX, EDX };

static u32 max_basic, max_extended;

static u32 leaf_reg(u32 leaf, u32 sub, unsigned reg) {
	u32 r[4];

	cpuid(leaf, sub, r);
	return r[reg];
}

static void test_ranges(void) {
	u32 r[4], last[4];

	max_basic = leaf_reg(0, 0, EAX);
	max_extended = leaf_reg(0x80000000, 0, EAX);
	check_range("highest basic leaf", max_basic, 0xd, 0x40);
	check_range("highest extended leaf", max_extended, 0x80000008, 0x80000040);
	cpuid(0, 0, r);
	if (cpu_is_amd())
		check("vendor is AuthenticAMD", r[EDX] == 0x69746e65 && r[ECX] == 0x444d4163);
	else
		check("vendor is GenuineIntel",
		      r[EBX] == 0x756e6547 && r[EDX] == 0x49656e69 && r[ECX] == 0x6c65746e);
	if (!under_roost()) {
		skip("a leaf past the last", "TCG answers like Intel whatever the vendor");
		return;
	}
	/* AMD: zeros (APM 3 appendix E). Intel: the highest basic leaf (SDM 2A CPUID). */
	cpuid(max_basic + 1, 0, r);
	cpuid(max_basic, 0, last);
	if (cpu_is_amd())
		check("a leaf past the last reads as zero", !(r[0] | r[1] | r[2] | r[3]));
	else
		check("a leaf past the last reads as the last", !memcmp(r, last, sizeof(r)));
	cpuid(max_extended + 1, 0, r);
	if (cpu_is_amd())
		check("an extended leaf past the last reads as zero", !(r[0] | r[1] | r[2] | r[3]));
}

static void test_registers(void) {
	u64 rax = 0xffffffff00000001, rbx = ~0ul, rcx = 0xffffffff00000000, rdx = ~0ul;
	u64 rsi = 0x1111, rdi = 0x2222, r8 = 0x3333;
	u32 again = leaf_reg(1, 0, EAX);

	__asm__ volatile("mov %[r8], %%r8\n\tcpuid\n\tmov %%r8, %[r8]"
			 : "+a"(rax), "+b"(rbx), "+c"(rcx), "+d"(rdx), "+S"(rsi),
			   "+D"(rdi), [r8] "+m"(r8)
			 :
			 : "r8");
	check_eq("RAX: bits 63:32 ignored and then cleared", rax, again);
	check_eq("RBX: bits 63:32 cleared", rbx >> 32, 0);
	check_eq("RCX: bits 63:32 cleared", rcx >> 32, 0);
	check_eq("RDX: bits 63:32 cleared", rdx >> 32, 0);
	check_eq("RSI kept", rsi, 0x1111);
	check_eq("RDI kept", rdi, 0x2222);
	check_eq("R8 kept", r8, 0x3333);
}

/* What every 64-bit CPU has. */
static void test_baseline(void) {
	static const struct {
		u32 leaf;
		u8 reg, bit;
		const char *name;
	} wanted[] = {
		{1, EDX, 0, "FPU"},	     {1, EDX, 3, "PSE"},
		{1, EDX, 4, "TSC"},	     {1, EDX, 5, "MSR"},
		{1, EDX, 6, "PAE"},	     {1, EDX, 8, "CX8"},
		{1, EDX, 9, "APIC"},	     {1, EDX, 11, "SEP"},
		{1, EDX, 12, "MTRR"},	     {1, EDX, 13, "PGE"},
		{1, EDX, 15, "CMOV"},	     {1, EDX, 16, "PAT"},
		{1, EDX, 24, "FXSR"},	     {1, EDX, 25, "SSE"},
		{1, EDX, 26, "SSE2"},	     {0x80000001, EDX, 11, "SCE"},
		{0x80000001, EDX, 20, "NX"}, {0x80000001, EDX, 29, "LM"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++)
		check(name_of("feature %s", wanted[i].name),
		      cpuid_bit(wanted[i].leaf, wanted[i].reg, wanted[i].bit));
}

static void test_apic_id(void) {
	u32 id = lapic_id();
	u32 ebx = leaf_reg(1, 0, EBX);

	check_eq("leaf 1 EBX[31:24] is the APIC id", ebx >> 24, id);
	check_eq("leaf 1 EBX[15:8] CLFLUSH size is 64 bytes", (ebx >> 8 & 0xff) * 8, 64);
	if (max_basic < 0xb || leaf_reg(0xb, 0, EBX) == 0) {
		skip("leaf 0xB", "not there");
		return;
	}
	check_eq("leaf 0xB EDX is the x2APIC id", leaf_reg(0xb, 0, EDX), id);
	check_eq("leaf 0xB.0 level type is SMT", leaf_reg(0xb, 0, ECX), 0x100);
	check_eq("leaf 0xB.1 level type is core", leaf_reg(0xb, 1, ECX), 0x201);
	check("leaf 0xB.1 shift is not below leaf 0xB.0's",
	      (leaf_reg(0xb, 1, EAX) & 31) >= (leaf_reg(0xb, 0, EAX) & 31));
	check_eq("leaf 0xB.2 level type is invalid", leaf_reg(0xb, 2, ECX), 2);
}

static void test_addresses(void) {
	u32 eax = leaf_reg(0x80000008, 0, EAX);

	check_range("physical address bits", eax & 0xff, 36, 52);
	check("linear address bits are 48, or 57 with LA57",
	      (eax >> 8 & 0xff) == (cpuid_bit(7, ECX, 16) ? 57 : 48));
}

static void test_osxsave(void) {
	u64 cr4 = read_cr4();

	if (!cpuid_bit(1, ECX, 26)) {
		skip("OSXSAVE", "no XSAVE");
		return;
	}
	write_cr4(cr4 & ~X86_CR4_OSXSAVE);
	check("OSXSAVE clear while CR4.OSXSAVE is", !cpuid_bit(1, ECX, 27));
	__asm__ volatile(TRY "xgetbv" END_TRY : : "c"(0) : TRY_SPOILS, "rax", "rdx");
	check_eq("XGETBV without CR4.OSXSAVE: #UD", trap_taken().vector, X86_UD);
	write_cr4(cr4 | X86_CR4_OSXSAVE);
	check("OSXSAVE set once CR4.OSXSAVE is", cpuid_bit(1, ECX, 27));
	__asm__ volatile(TRY "xgetbv" END_TRY : : "c"(0) : TRY_SPOILS, "rax", "rdx");
	check_eq("XGETBV with CR4.OSXSAVE", trap_taken().vector, TRAP_NONE);
}

static u64 try_xsetbv(u32 index, u64 value) {
	__asm__ volatile(TRY "xsetbv" END_TRY
			 :
			 : "c"(index), "a"((u32)value), "d"((u32)(value >> 32))
			 : TRY_SPOILS);
	return trap_taken().vector;
}

static void test_xsave(void) {
	u64 supported, size = 576;

	if (!cpuid_bit(1, ECX, 26)) return;
	supported = (u64)leaf_reg(0xd, 0, EDX) << 32 | leaf_reg(0xd, 0, EAX);
	check_eq("leaf 0xD: x87 and SSE are supported", supported & 3, 3);
	check_eq("XSETBV with only x87", try_xsetbv(0, 1), TRAP_NONE);
	check_eq("leaf 0xD EBX is 576 for XCR0 = 1", leaf_reg(0xd, 0, EBX), 576);
	check_eq("XSETBV without x87: #GP", try_xsetbv(0, 2), X86_GP);
	check_eq("XSETBV of AVX without SSE: #GP", try_xsetbv(0, 5), X86_GP);
	check_eq("XSETBV of an unsupported bit: #GP", try_xsetbv(0, 3 | BIT(62)), X86_GP);
	check_eq("XSETBV of XCR1: #GP", try_xsetbv(1, 3), X86_GP);
	for (u32 i = 2; i < 63; i++) {
		u64 end;

		if (!(supported >> i & 1)) continue;
		end = (u64)leaf_reg(0xd, i, EAX) + leaf_reg(0xd, i, EBX);
		if (end > size) size = end;
	}
	check_eq("leaf 0xD ECX is the end of the last component", leaf_reg(0xd, 0, ECX), size);
	check_eq("XSETBV of all that is supported", try_xsetbv(0, supported), TRAP_NONE);
	check_eq("XGETBV reads it back", xgetbv(0), supported);
	check_eq("leaf 0xD EBX is that size then", leaf_reg(0xd, 0, EBX), size);
	check_eq("XSETBV back to x87 and SSE", try_xsetbv(0, 3), TRAP_NONE);
	if (supported & 4) {
		check("AVX is advertised with its component", cpuid_bit(1, ECX, 28));
		check_eq("AVX component size", leaf_reg(0xd, 2, EAX), 256);
		check_eq("AVX component offset", leaf_reg(0xd, 2, EBX), 576);
	} else {
		check("AVX is not advertised without its component", !cpuid_bit(1, ECX, 28));
	}
}

/* What is advertised must execute. */
#define ADVERTISED(name, leaf, reg, bit, insn)                                                    \
	do {                                                                                      \
		if (cpuid_bit(leaf, reg, bit)) {                                                  \
			__asm__ volatile(TRY insn END_TRY                                         \
					 :                                                        \
					 : "c"(0)                                                 \
					 : TRY_SPOILS, "rax", "rbx", "rdx");                      \
			check_eq("advertised " name " executes", trap_taken().vector, TRAP_NONE); \
		}                                                                                 \
	} while (0)

static void test_instructions(void) {
	ADVERTISED("RDTSCP", 0x80000001, EDX, 27, "rdtscp");
	ADVERTISED("POPCNT", 1, ECX, 23, "popcnt %%rcx, %%rax");
	ADVERTISED("MOVBE", 1, ECX, 22, "movbe (%%rsp), %%rax");
	ADVERTISED("RDRAND", 1, ECX, 30, "rdrand %%rax");
	ADVERTISED("RDSEED", 7, EBX, 18, "rdseed %%rax");
	ADVERTISED("ADX", 7, EBX, 19, "adcx %%rcx, %%rax");
	ADVERTISED("BMI1", 7, EBX, 3, "blsr %%rcx, %%rax");
	ADVERTISED("BMI2", 7, EBX, 8, "rorx $1, %%rcx, %%rax");
	ADVERTISED("LZCNT", 0x80000001, ECX, 5, "lzcnt %%rcx, %%rax");
	ADVERTISED("CLFLUSHOPT", 7, EBX, 23, "clflushopt (%%rsp)");
	ADVERTISED("CLWB", 7, EBX, 24, "clwb (%%rsp)");
	ADVERTISED("LAHF in 64-bit mode", 0x80000001, ECX, 0, "lahf");
	ADVERTISED("RDPID", 7, ECX, 22, "rdpid %%rax");
	ADVERTISED("PREFETCHW", 0x80000001, ECX, 8, "prefetchw (%%rsp)");
}

static void test_brand(void) {
	bool text = true;
	u32 brand[12];

	for (u32 i = 0; i < 3; i++) cpuid(0x80000002 + i, 0, &brand[4 * i]);
	for (unsigned i = 0; i < sizeof(brand); i++) {
		u8 c = ((const u8 *)brand)[i];

		if (c && (c < 0x20 || c > 0x7e)) text = false;
	}
	check("the brand string is printable", text);
}

static void test_hypervisor(void) {
	u32 r[4];

	if (!under_roost()) {
		skip("hypervisor leaves", "no hypervisor");
		return;
	}
	cpuid(0x40000000, 0, r);
	check("leaf 0x40000000 says KVMKVMKVM",
	      r[EBX] == 0x4b4d564b && r[ECX] == 0x564b4d56 && r[EDX] == 0x4d);
	check_range("highest hypervisor leaf", r[EAX], 0x40000001, 0x400000ff);
	if (r[EAX] < 0x40000010) {
		check("leaf 0x40000010 is there", false);
		return;
	}
	u64 khz = leaf_reg(0x40000010, 0, EAX);
	u64 measured = tsc_hz() / 1000;
	check_range("leaf 0x40000010 TSC kHz against the PM timer", khz, measured * 98 / 100,
		    measured * 102 / 100);
	check_ne("leaf 0x40000010 LAPIC timer kHz", leaf_reg(0x40000010, 0, EBX), 0);
	check("x2APIC is offered", cpuid_bit(1, ECX, 21));
	check("TSC deadline timer is offered", cpuid_bit(1, ECX, 24));
}

void test_main(void) {
	test_ranges();
	test_registers();
	test_baseline();
	test_apic_id();
	test_addresses();
	test_osxsave();
	test_xsave();
	test_instructions();
	test_brand();
	test_hypervisor();
}
