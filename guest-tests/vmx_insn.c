/*
 * The instructions of VMX but the entries: who may use them, their operands, and how they end (SDM
 * 3C 30.3, 30.4); the feature MSRs.
 *
 * vm: machine=intel
 */
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"
#include "guest-tests/lib/vmx.h"

const char test_name[] = "vmx_insn";

static u8 other[2][PAGE_SIZE] __aligned(4096);
static u64 operand;

static void instruction_error(const char *name, u64 expected) {
	check_eq(name_of("%s: VM-instruction error", name), vmread(VMCS(instruction_error)),
		 expected);
}

/* ---- faults ---- */

#define VECTOR_OF(insn)                               \
	({                                            \
		__asm__ volatile(TRY insn END_TRY     \
				 : "+m"(operand)      \
				 : "a"(0ul), "c"(2ul) \
				 : TRY_SPOILS);       \
		trap_taken().vector;                  \
	})

static void all_raise(const char *when, u64 vector) {
	operand = (u64)other[0];
	check_eq(name_of("VMCLEAR %s", when), VECTOR_OF("vmclear %0"), vector);
	check_eq(name_of("VMPTRLD %s", when), VECTOR_OF("vmptrld %0"), vector);
	check_eq(name_of("VMPTRST %s", when), VECTOR_OF("vmptrst %0"), vector);
	check_eq(name_of("VMREAD %s", when), VECTOR_OF("vmread %%rax, %%rdx"), vector);
	check_eq(name_of("VMWRITE %s", when), VECTOR_OF("vmwrite %%rdx, %%rax"), vector);
	check_eq(name_of("VMLAUNCH %s", when), VECTOR_OF("vmlaunch"), vector);
	check_eq(name_of("VMRESUME %s", when), VECTOR_OF("vmresume"), vector);
	check_eq(name_of("VMXOFF %s", when), VECTOR_OF("vmxoff"), vector);
	check_eq(name_of("INVEPT %s", when), VECTOR_OF("invept %0, %%rcx"), vector);
	check_eq(name_of("INVVPID %s", when), VECTOR_OF("invvpid %0, %%rcx"), vector);
}

static void test_outside(void) {
	operand = vmx_on_region();
	write_cr4(read_cr4() & ~X86_CR4_VMXE);
	check_eq("VMXON without CR4.VMXE", VECTOR_OF("vmxon %0"), X86_UD);
	all_raise("without CR4.VMXE", X86_UD);
	write_cr4(read_cr4() | X86_CR4_VMXE);
	all_raise("outside of VMX operation", X86_UD);
}

/* User code runs one instruction at a time: 16 bytes each on its page. */
static void test_user(void) {
	static const struct {
		const char *name, *bytes;
		u64 length;
	} insns[] = {
		{"VMXON", "\xf3\x0f\xc7\x37", 4},	{"VMCLEAR", "\x66\x0f\xc7\x37", 4},
		{"VMPTRLD", "\x0f\xc7\x37", 3},		{"VMPTRST", "\x0f\xc7\x3f", 3},
		{"VMREAD", "\x0f\x78\xc2", 3},		{"VMWRITE", "\x0f\x79\xc2", 3},
		{"VMLAUNCH", "\x0f\x01\xc2", 3},	{"VMRESUME", "\x0f\x01\xc3", 3},
		{"VMXOFF", "\x0f\x01\xc4", 3},		{"INVEPT", "\x66\x0f\x38\x80\x0f", 5},
		{"INVVPID", "\x66\x0f\x38\x81\x0f", 5},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(insns); i++) {
		user_run(insns[i].bytes, insns[i].length);
		check_eq(name_of("%s of a user", insns[i].name), trap_taken().vector, X86_GP);
		check_eq(name_of("%s of a user: error code", insns[i].name), trap_taken().error, 0);
	}
}

/* ---- VMXON ---- */

static void test_vmxon(void) {
	u32 *region = (u32 *)vmx_on_region(), revision = *region, r[4];

	cpuid(0x80000008, 0, r);
	write_cr0(read_cr0() & ~X86_CR0_NE);
	operand = (u64)region;
	check_eq("VMXON with CR0.NE clear", VECTOR_OF("vmxon %0"), X86_GP);
	write_cr0(read_cr0() | X86_CR0_NE);
	check_eq("VMXON not at a page", vmx_on((u64)region + 8), VM_INVALID);
	check_eq("VMXON beyond memory", vmx_on((u64)region | BIT(r[0] & 0xff)), VM_INVALID);
	*region = revision ^ 1;
	check_eq("VMXON with another revision", vmx_on((u64)region), VM_INVALID);
	*region = revision | BIT(31);
	check_eq("VMXON with bit 31 of the revision", vmx_on((u64)region), VM_INVALID);
	*region = revision;
	operand = TEST_VA;
	__asm__ volatile(TRY "mov %0, %%rax; vmxon (%%rax)" END_TRY
			 :
			 : "m"(operand)
			 : "rax", TRY_SPOILS);
	check_eq("VMXON with an operand that is not mapped", trap_taken().vector, X86_PF);
	check_eq("its address", trap_taken().cr2, TEST_VA);
	check_eq("VMXON", vmx_on((u64)region), VM_SUCCEED);
	check_eq("VMPTRST: no VMCS is current", vmx_ptrst(), ~0ul);
	check_eq("VMXON in VMX operation, none current", vmx_on((u64)region), VM_INVALID);
}

static void test_fixed_bits(void) {
	u64 cr0 = read_cr0(), cr4 = read_cr4();

	__asm__ volatile(TRY "mov %0, %%cr0" END_TRY : : "r"(cr0 & ~X86_CR0_NE) : TRY_SPOILS);
	check_eq("CR0.NE in VMX operation", trap_taken().vector, X86_GP);
	__asm__ volatile(TRY "mov %0, %%cr0" END_TRY : : "r"(cr0 & ~X86_CR0_PG) : TRY_SPOILS);
	check_eq("CR0.PG in VMX operation", trap_taken().vector, X86_GP);
	__asm__ volatile(TRY "mov %0, %%cr4" END_TRY : : "r"(cr4 & ~X86_CR4_VMXE) : TRY_SPOILS);
	check_eq("CR4.VMXE in VMX operation", trap_taken().vector, X86_GP);
	write_cr0(cr0 ^ X86_CR0_TS);
	check_eq("CR0.TS changes", read_cr0(), cr0 ^ X86_CR0_TS);
	write_cr0(cr0);
}

/* ---- the current VMCS ---- */

static void test_pointers(void) {
	u32 revision = BASIC_REVISION(rdmsr(VMX_MSR_BASIC)), r[4];
	u64 vmcs = vmx_l2_vmcs(), second = (u64)other[0];

	cpuid(0x80000008, 0, r);
	*(u32 *)second = revision;
	*(u32 *)other[1] = revision + 1;
	check_eq("VMCLEAR", vmx_clear(vmcs), VM_SUCCEED);
	check_eq("VMCLEAR makes none current", vmx_ptrst(), ~0ul);
	check_eq("VMPTRLD", vmx_ptrld(vmcs), VM_SUCCEED);
	check_eq("VMPTRST", vmx_ptrst(), vmcs);
	check_eq("VMXON in VMX operation", vmx_on(vmx_on_region()), VM_FAIL);
	instruction_error("VMXON in VMX operation", 15);
	check_eq("VMCLEAR not at a page", vmx_clear(second + 16), VM_FAIL);
	instruction_error("VMCLEAR not at a page", 2);
	check_eq("VMCLEAR beyond memory", vmx_clear(second | BIT(r[0] & 0xff)), VM_FAIL);
	instruction_error("VMCLEAR beyond memory", 2);
	check_eq("VMCLEAR of the VMXON region", vmx_clear(vmx_on_region()), VM_FAIL);
	instruction_error("VMCLEAR of the VMXON region", 3);
	check_eq("VMPTRLD not at a page", vmx_ptrld(second + 1), VM_FAIL);
	instruction_error("VMPTRLD not at a page", 9);
	check_eq("VMPTRLD of the VMXON region", vmx_ptrld(vmx_on_region()), VM_FAIL);
	instruction_error("VMPTRLD of the VMXON region", 10);
	check_eq("VMPTRLD of another revision", vmx_ptrld((u64)other[1]), VM_FAIL);
	instruction_error("VMPTRLD of another revision", 11);
	check_eq("the current one stays", vmx_ptrst(), vmcs);
	/* What is written stays with its VMCS. */
	vmx_write(VMCS_guest_rip, 0x1111);
	check_eq("VMCLEAR of another", vmx_clear(second), VM_SUCCEED);
	check_eq("the current one stays", vmx_ptrst(), vmcs);
	vmx_ptrld(second);
	vmx_write(VMCS_guest_rip, 0x2222);
	vmx_ptrld(vmcs);
	check_eq("the first one's field", vmread(VMCS(guest_rip)), 0x1111);
	vmx_ptrld(second);
	check_eq("the second one's field", vmread(VMCS(guest_rip)), 0x2222);
	vmx_clear(second);
	vmx_ptrld(second);
	check_eq("its field after VMCLEAR", vmread(VMCS(guest_rip)), 0x2222);
	vmx_clear(second);
}

/* ---- fields ---- */

static void test_field(const struct vmcs_run *run, unsigned index) {
	static const u64 widths[] = {0xffff, ~0ul, 0xffffffff, ~0ul};
	u32 encoding = run->encoding + 2 * index;
	u64 width = widths[vmcs_width(encoding)], pattern = 0x8123456789abcdeful + encoding;
	u64 value = 0;

	if (vmx_read(encoding, &value) != VM_SUCCEED) {
		instruction_error(name_of("no field 0x%x", encoding), 12);
		return;
	}
	if (vmcs_kind(encoding) == VMCS_INFO && !(rdmsr(VMX_MSR_MISC) & BIT(29))) {
		check_eq(name_of("VMWRITE of field 0x%x, which is read only", encoding),
			 vmx_write(encoding, pattern), VM_FAIL);
		instruction_error(name_of("field 0x%x", encoding), 13);
		return;
	}
	vmx_write(encoding, pattern);
	vmx_read(encoding, &value);
	check_eq(name_of("field 0x%x keeps what it has room for", encoding), value,
		 pattern & width);
	if (vmcs_width(encoding) == VMCS_64) {
		vmx_read(encoding + 1, &value);
		check_eq(name_of("field 0x%x, the upper half", encoding), value, pattern >> 32);
		vmx_write(encoding + 1, 0x7654321);
		vmx_read(encoding, &value);
		check_eq(name_of("field 0x%x with a new upper half", encoding), value,
			 0x7654321ul << 32 | (u32)pattern);
	}
	vmx_write(encoding, 0);
}

/* Of which every processor with EPT has all. */
#define RUN_ONE(encoding, name, ...)	 {encoding, 1, 0, 0, #name},
#define RUN_MANY(encoding, name, n, ...) {encoding, n, 0, 0, #name},
static const struct vmcs_run all_fields[] = {VMCS_FIELDS(RUN_ONE, RUN_MANY)};

static void test_fields(void) {
	static const u64 none[] = {
		0x0002,		 0x4028,	   0x6c18,     0x7000,	   0x8000, 0x10000,
		0x681e | 0x1000, BIT(32) | 0x681e, 0x681e | 1, 0x4400 | 1, ~0ul};
	u64 value;

	vmx_clear(vmx_l2_vmcs());
	vmx_ptrld(vmx_l2_vmcs());
	for (unsigned i = 0; i < ARRAY_SIZE(all_fields); i++)
		for (unsigned n = 0; n < all_fields[i].count; n++) test_field(&all_fields[i], n);
	for (unsigned i = 0; i < ARRAY_SIZE(none); i++) {
		check_eq(name_of("VMREAD of no field 0x%lx", none[i]), vmx_read(none[i], &value),
			 VM_FAIL);
		instruction_error("VMREAD of no field", 12);
		check_eq(name_of("VMWRITE of no field 0x%lx", none[i]), vmx_write(none[i], 1),
			 VM_FAIL);
		instruction_error("VMWRITE of no field", 12);
	}
	/* Operands in memory, and RSP. */
	__asm__ volatile("vmwrite %1, %0" : : "r"((u64)VMCS_guest_rip), "m"((u64){0x5555}) : "cc");
	__asm__ volatile("vmread %1, %0" : "=m"(value) : "r"((u64)VMCS_guest_rip) : "cc");
	check_eq("VMWRITE from memory, VMREAD to memory", value, 0x5555);
	__asm__ volatile("mov %%rsp, %%rbx; mov %1, %%rsp; vmread %%rsp, %%rsp; mov %%rsp, %0;"
			 "mov %%rbx, %%rsp"
			 : "=r"(value)
			 : "r"((u64)VMCS_guest_rip)
			 : "rbx", "cc", "memory");
	check_eq("VMREAD by RSP to RSP", value, 0x5555);
	__asm__ volatile(TRY "vmread %%rax, (%%rdx)" END_TRY
			 :
			 : "a"((u64)VMCS_guest_rip), "d"(TEST_VA)
			 : TRY_SPOILS);
	check_eq("VMREAD to memory that is not mapped", trap_taken().vector, X86_PF);
	check_eq("#PF: it was a write", trap_taken().error & PF_WRITE, PF_WRITE);
}

static void test_none_current(void) {
	u64 value;

	vmx_clear(vmx_l2_vmcs());
	check_eq("VMREAD with none current", vmx_read(VMCS_guest_rip, &value), VM_INVALID);
	check_eq("VMWRITE with none current", vmx_write(VMCS_guest_rip, 0), VM_INVALID);
	check_eq("VMLAUNCH with none current", vmx_l2_run(), VM_FAILED | VM_INVALID);
	check_eq("VMPTRLD not at a page, none current", vmx_ptrld(1), VM_INVALID);
	check_eq("INVEPT of type 0, none current", vmx_invept(0, 0), VM_INVALID);
}

static void test_flushes(void) {
	u64 caps = rdmsr(VMX_MSR_EPT_VPID), eptp = ept_pointer((u64)other[0]);

	vmx_clear(vmx_l2_vmcs());
	vmx_ptrld(vmx_l2_vmcs());
	if (!(caps & EPT_CAP_INVEPT) || !(caps & VPID_CAP_INVVPID)) {
		skip("INVEPT, INVVPID", "not offered");
		return;
	}
	check_eq("INVEPT of all", vmx_invept(2, 0), VM_SUCCEED);
	check_eq("INVEPT of one", vmx_invept(1, eptp), VM_SUCCEED);
	check_eq("INVEPT of a reserved memory type", vmx_invept(1, eptp ^ 3), VM_FAIL);
	instruction_error("INVEPT of a reserved memory type", 28);
	check_eq("INVEPT of three levels", vmx_invept(1, eptp ^ 8), VM_FAIL);
	for (u64 type = 0; type < 70; type += type < 3 ? 3 : 13) {
		check_eq(name_of("INVEPT of type %lu", type), vmx_invept(type, eptp), VM_FAIL);
		instruction_error("INVEPT", 28);
	}
	for (u64 type = 0; type < 4; type++) {
		check_eq(name_of("INVVPID of type %lu", type), vmx_invvpid(type, 1, 0x1000),
			 VM_SUCCEED);
		check_eq(name_of("INVVPID of type %lu, VPID of 17 bits", type),
			 vmx_invvpid(type, 0x10001, 0), VM_FAIL);
		instruction_error("INVVPID", 28);
		check_eq(name_of("INVVPID of type %lu, VPID 0", type), vmx_invvpid(type, 0, 0),
			 type == 2 ? VM_SUCCEED : VM_FAIL);
	}
	check_eq("INVVPID of type 4", vmx_invvpid(4, 1, 0), VM_FAIL);
	check_eq("INVVPID of an address that is not canonical", vmx_invvpid(0, 1, BIT(47)),
		 VM_FAIL);
}

/* ---- feature MSRs ---- */

static void test_msrs(void) {
	u64 basic = rdmsr(VMX_MSR_BASIC);
	u32 r[4];

	check_eq("FEATURE_CONTROL: locked, VMX on", rdmsr(0x3a) & 5, 5);
	check_range("size of a VMCS", basic >> 32 & 0x1fff, 1, PAGE_SIZE);
	check_eq("memory type of a VMCS", basic >> 50 & 0xf, 6);
	for (u32 i = 0; i < 4; i++) {
		u64 old = rdmsr(VMX_MSR_PIN + i), real = rdmsr(VMX_MSR_TRUE_PIN + i);

		check_eq(name_of("MSR 0x%x: what must be 1 may be", VMX_MSR_PIN + i),
			 (u32)old & ~(old >> 32), 0);
		check_eq(name_of("MSR 0x%x: no more must be 1", VMX_MSR_TRUE_PIN + i),
			 (u32)real & ~(u32)old, 0);
	}
	check_eq("CR0 now has what must be 1", rdmsr(VMX_MSR_CR0_FIXED0) & ~read_cr0(), 0);
	check_eq("CR4 now has what must be 1", rdmsr(VMX_MSR_CR4_FIXED0) & ~read_cr4(), 0);
	check_eq("CR4 now has no more than what may be", read_cr4() & ~rdmsr(0x489), 0);
	cpuid(0xd, 1, r);
	check_eq("XSAVES of an L2 where CPUID has it",
		 rdmsr(VMX_MSR_PROC2) >> 32 & PROC2_XSAVES ? 1 : 0, r[0] >> 3 & 1);
	for (u32 msr = VMX_MSR_BASIC; msr <= VMX_MSR_VMFUNC; msr++) {
		__asm__ volatile(TRY "wrmsr" END_TRY
				 :
				 : "c"(msr), "a"((u32)basic), "d"(0)
				 : TRY_SPOILS);
		check_eq(name_of("WRMSR of MSR 0x%x", msr), trap_taken().vector, X86_GP);
	}
}

void test_main(void) {
	if (!vmx_init()) return;
	check_eq("VMXOFF", vmx_off(), VM_SUCCEED);
	test_msrs();
	test_outside();
	test_vmxon();
	test_user();
	test_fixed_bits();
	test_pointers();
	test_none_current();
	test_fields();
	test_flushes();
	check_eq("VMXOFF", vmx_off(), VM_SUCCEED);
	write_cr4(read_cr4() & ~X86_CR4_VMXE);
	check_eq("CR4.VMXE can be cleared again", read_cr4() & X86_CR4_VMXE, 0);
}
