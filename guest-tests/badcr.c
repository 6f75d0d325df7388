/*
 * Values that control registers, EFER and the page-table root must refuse with #GP (APM 2 3.1,
 * 5.5.2, SDM 3A 2.5), and that the machine goes on afterwards. TCG itself checks few of them.
 */
#include "guest-tests/lib/trap.h"

const char test_name[] = "badcr";

static u64 try_cr0(u64 value) {
	__asm__ volatile(TRY "mov %0, %%cr0" END_TRY : : "r"(value) : TRY_SPOILS);
	return trap_taken().vector;
}

static u64 try_cr3(u64 value) {
	__asm__ volatile(TRY "mov %0, %%cr3" END_TRY : : "r"(value) : TRY_SPOILS);
	return trap_taken().vector;
}

static u64 try_cr4(u64 value) {
	__asm__ volatile(TRY "mov %0, %%cr4" END_TRY : : "r"(value) : TRY_SPOILS);
	return trap_taken().vector;
}

static u64 try_cr8(u64 value) {
	__asm__ volatile(TRY "mov %0, %%cr8" END_TRY : : "r"(value) : TRY_SPOILS);
	return trap_taken().vector;
}

enum { EAX, EBX, ECX, EDX };

/* CR4's optional bits and where CPUID tells of them; leaf 0: every 64-bit CPU has it. */
static const struct {
	u8 bit;
	u32 leaf;
	u8 reg, feature;
} cr4_bits[] = {
	{0, 1, EDX, 1},	 {1, 1, EDX, 1},   {2, 1, EDX, 4},  {3, 1, EDX, 2},   {4, 1, EDX, 3},
	{6, 1, EDX, 7},	 {7, 1, EDX, 13},  {8, 0, 0, 0},    {9, 1, EDX, 24},  {10, 1, EDX, 25},
	{11, 7, ECX, 2}, {13, 1, ECX, 5},  {16, 7, EBX, 0}, {17, 1, ECX, 17}, {18, 1, ECX, 26},
	{20, 7, EBX, 7}, {21, 7, EBX, 20}, {22, 7, ECX, 3},
};

static void test_cr4_bit(unsigned bit, bool offered) {
	u64 cr4 = read_cr4(), vector = try_cr4(cr4 ^ BIT(bit));

	if (offered) {
		check_eq(name_of("CR4 bit %u is offered: it can be changed", bit), vector,
			 TRAP_NONE);
		check_eq(name_of("CR4 bit %u reads back", bit), read_cr4(), cr4 ^ BIT(bit));
	} else {
		check_eq(name_of("CR4 bit %u is not offered: #GP", bit), vector, X86_GP);
		check_eq(name_of("CR4 bit %u: nothing changed", bit), read_cr4(), cr4);
	}
	try_cr4(cr4);
}

static void test_cr4(void) {
	static const u8 reserved[] = {15, 19, 26, 31, 32, 47, 63};

	for (unsigned i = 0; i < ARRAY_SIZE(cr4_bits); i++)
		test_cr4_bit(cr4_bits[i].bit,
			     !cr4_bits[i].leaf || cpuid_bit(cr4_bits[i].leaf, cr4_bits[i].reg,
							    cr4_bits[i].feature));
	for (unsigned i = 0; i < ARRAY_SIZE(reserved); i++) test_cr4_bit(reserved[i], false);
	check_eq("CR4.PAE cleared in long mode: #GP", try_cr4(read_cr4() & ~X86_CR4_PAE), X86_GP);
	check_eq("CR4.LA57 changed in long mode: #GP", try_cr4(read_cr4() ^ X86_CR4_LA57), X86_GP);
	if (cpuid_bit(1, ECX, 17))
		check_eq("CR4.PCIDE set while CR3 bits 11:0 are: #GP",
			 (try_cr3(read_cr3() | 0x8), try_cr4(read_cr4() | X86_CR4_PCIDE)), X86_GP);
	try_cr3(read_cr3() & ~0xffful);
}

static void test_cr3(void) {
	u64 cr3 = read_cr3();
	u32 r[4];

	cpuid(0x80000008, 0, r);
	u32 width = r[0] & 0xff;
	for (unsigned bit = width; bit < 63; bit++)
		if (bit == width || bit == 51 || bit == 52 || bit == 62)
			check_eq(name_of("CR3 bit %u: #GP", bit), try_cr3(cr3 | BIT(bit)), X86_GP);
	check_eq("CR3 bit 63 without PCID: #GP", try_cr3(cr3 | BIT(63)), X86_GP);
	check_eq("CR3 is as it was", read_cr3(), cr3);
	check_eq("CR3 with PWT and PCD", try_cr3(cr3 | 0x18), TRAP_NONE);
	check_eq("CR3 with PWT and PCD reads back", read_cr3(), cr3 | 0x18);
	try_cr3(cr3);
}

static void test_efer(void) {
	static const u8 reserved[] = {1, 2, 7, 9, 16, 31, 32, 63};
	u64 efer = rdmsr(X86_MSR_EFER);

	for (unsigned i = 0; i < ARRAY_SIZE(reserved); i++)
		check_eq(name_of("EFER bit %u: #GP", reserved[i]),
			 msr_write(X86_MSR_EFER, efer ^ BIT(reserved[i])), X86_GP);
	check_eq("EFER.LME cleared while paging is on: #GP",
		 msr_write(X86_MSR_EFER, efer & ~X86_EFER_LME), X86_GP);
	check_eq("EFER is as it was", rdmsr(X86_MSR_EFER), efer);
	check_eq("EFER.SCE can be set", msr_write(X86_MSR_EFER, efer | X86_EFER_SCE), TRAP_NONE);
	check_eq("EFER.SCE reads back", rdmsr(X86_MSR_EFER), efer | X86_EFER_SCE);
	wrmsr(X86_MSR_EFER, efer);
	if (!cpuid_bit(0x80000001, ECX, 2))
		check_eq("EFER.SVME without SVM: #GP",
			 msr_write(X86_MSR_EFER, efer | X86_EFER_SVME), X86_GP);
}

static void test_cr0(void) {
	u64 cr0 = read_cr0();

	check_eq("CR0.CD is taken", try_cr0(cr0 | X86_CR0_CD), TRAP_NONE);
	check_eq("CR0.CD reads back", read_cr0(), cr0 | X86_CR0_CD);
	try_cr0(cr0);
	check_eq("CR0 is as it was", read_cr0(), cr0);
	if (on_tcg()) {
		skip("invalid CR0", "TCG takes it without an exit");
		return;
	}
	check_eq("CR0 bits 63:32: #GP", try_cr0(cr0 | BIT(32)), X86_GP);
	check_eq("CR0.NW without CD: #GP", try_cr0((cr0 | X86_CR0_NW) & ~X86_CR0_CD), X86_GP);
	check_eq("CR0.PG without PE: #GP", try_cr0(cr0 & ~X86_CR0_PE), X86_GP);
	check_eq("CR0.PG cleared in 64-bit mode: #GP", try_cr0(cr0 & ~X86_CR0_PG), X86_GP);
	check_eq("CR0 is still as it was", read_cr0(), cr0);
}

static void test_cr8(void) {
	u64 cr8;

	check_eq("CR8 = 16: #GP", try_cr8(16), X86_GP);
	check_eq("CR8 bit 63: #GP", try_cr8(BIT(63)), X86_GP);
	check_eq("CR8 = 15", try_cr8(15), TRAP_NONE);
	__asm__ volatile("mov %%cr8, %0" : "=r"(cr8));
	check_eq("CR8 reads back", cr8, 15);
	try_cr8(0);
}

void test_main(void) {
	if (on_bare_tcg()) {
		skip("control register checks", "TCG has few of them, and hangs on some");
		return;
	}
	test_cr4();
	test_cr3();
	test_efer();
	test_cr8();
	test_cr0();
}
