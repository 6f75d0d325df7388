/*
 * VMCS shadowing (SDM 3C 24.10): shadow VMCSs, L2's VMREAD and VMWRITE that end in one, those that
 * exit, and the rules of the link pointer (26.3.1.5).
 *
 * vm: machine=intel
 */
#include "guest-tests/lib/trap.h"
#include "guest-tests/lib/vmx.h"

const char test_name[] = "vmx_shadow";

#define FLAGS (VM_FAIL | VM_INVALID)

static u8 shadow[PAGE_SIZE] __aligned(4096), plain[PAGE_SIZE] __aligned(4096);
static u8 maps[2][PAGE_SIZE] __aligned(4096);

/* RCX: encoding; RAX: value; RDX: flags then. */
extern const char code_vmread[], code_vmwrite[], code_exit[];
__asm__(".pushsection .text\n"
	"code_vmread: vmread %rcx, %rax\n"
	"jmp 1f\n"
	"code_vmwrite: vmwrite %rax, %rcx\n"
	"1: pushfq\n"
	"pop %rdx\n"
	"code_exit: vmcall\n"
	".popsection");

static void prepare(const char *code) {
	vmx_l2_new(code);
	vmx_l2_add(PROC2_SHADOW_VMCS);
	vmwrite(VMCS(vmread_bitmap), (u64)maps[0]);
	vmwrite(VMCS(vmwrite_bitmap), (u64)maps[1]);
	vmwrite(VMCS(link), (u64)shadow);
}

static u64 access(const char *code, u64 encoding, u64 value) {
	prepare(code);
	vmx_regs()->rcx = encoding;
	vmx_regs()->rax = value;
	return vmx_l2_run();
}

/* What L1 finds in the shadow. */
static u64 in_shadow(u64 encoding) {
	u64 value = 0;

	vmx_ptrld((u64)shadow);
	check_eq(name_of("VMREAD of 0x%lx in a shadow VMCS", encoding), vmx_read(encoding, &value),
		 VM_SUCCEED);
	vmx_clear((u64)shadow);
	return value;
}

static void test_shadow_vmcs(void) {
	check_eq("VMPTRLD of a shadow VMCS", vmx_ptrld((u64)shadow), VM_SUCCEED);
	check_eq("VMPTRST", vmx_ptrst(), (u64)shadow);
	check_eq("VMWRITE there", vmx_write(VMCS_guest_rip, 0x1111), VM_SUCCEED);
	check_eq("VMWRITE of exit information", vmx_write(VMCS_qualification, 0x2222), VM_SUCCEED);
	check_eq("VMLAUNCH with it", vmx_l2_run(), VM_FAILED | VM_INVALID);
	check_eq("VMCLEAR of it", vmx_clear((u64)shadow), VM_SUCCEED);
	check_eq("what was written stays", in_shadow(VMCS_guest_rip), 0x1111);
	check_eq("exit information, too", in_shadow(VMCS_qualification), 0x2222);
}

static void test_accesses(void) {
	static const u64 fields[] = {VMCS_guest_rip, VMCS_exit_reason, VMCS_guest_selector,
				     VMCS_tsc_offset};
	static const u64 masks[] = {~0ul, 0xffffffff, 0xffff, ~0ul};

	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
		u64 value = 0x123456789abcdefful + i;

		check_eq(name_of("VMWRITE of 0x%lx by L2", fields[i]),
			 access(code_vmwrite, fields[i], value), REASON_VMCALL);
		check_eq("it succeeds", vmx_regs()->rdx & FLAGS, 0);
		check_eq("VMREAD by L2", access(code_vmread, fields[i], 0), REASON_VMCALL);
		check_eq("it succeeds", vmx_regs()->rdx & FLAGS, 0);
		check_eq("the value", vmx_regs()->rax, value & masks[i]);
		check_eq("it is L1's to read", in_shadow(fields[i]), value & masks[i]);
		vmx_ptrld(vmx_l2_vmcs());
		check("L1's own VMCS has another", vmread(VMCS_FIELD((u32)fields[i])) != value);
	}
	access(code_vmread, VMCS_tsc_offset + 1, 0);
	check_eq("the upper half of a field", vmx_regs()->rax, 0x12345678);
	check_eq("no field", access(code_vmread, 0x6c18, 0), REASON_VMCALL);
	check_eq("VMREAD fails", vmx_regs()->rdx & FLAGS, VM_FAIL);
	check_eq("its error is in the shadow VMCS", in_shadow(VMCS_instruction_error), 12);
	access(code_vmwrite, 0x6c18, 0);
	check_eq("VMWRITE of no field fails", vmx_regs()->rdx & FLAGS, VM_FAIL);
	prepare(code_vmread);
	vmwrite(VMCS(link), ~0ul);
	vmx_regs()->rcx = VMCS_guest_rip;
	check_eq("without a shadow VMCS", vmx_l2_run(), REASON_VMCALL);
	check_eq("VMREAD finds none", vmx_regs()->rdx & FLAGS, VM_INVALID);
}

static void test_exits(void) {
	static const u64 high[] = {BIT(15), BIT(16), BIT(31), BIT(32), BIT(63)};
	u8 bit = BIT(VMCS_guest_rip & 7);

	for (unsigned i = 0; i < ARRAY_SIZE(high); i++) {
		check_eq(name_of("VMREAD of encoding 0x%lx", VMCS_guest_rip | high[i]),
			 access(code_vmread, VMCS_guest_rip | high[i], 0), REASON_VMREAD);
		check_eq(name_of("VMWRITE of encoding 0x%lx", VMCS_guest_rip | high[i]),
			 access(code_vmwrite, VMCS_guest_rip | high[i], 0), REASON_VMWRITE);
	}
	maps[0][VMCS_guest_rip / 8] = bit;
	check_eq("VMREAD by its map", access(code_vmread, VMCS_guest_rip, 0), REASON_VMREAD);
	check_eq("VMWRITE by its map", access(code_vmwrite, VMCS_guest_rip, 0), REASON_VMCALL);
	maps[0][VMCS_guest_rip / 8] = 0;
	maps[1][VMCS_guest_rip / 8] = bit;
	check_eq("VMREAD, the other map", access(code_vmread, VMCS_guest_rip, 0), REASON_VMCALL);
	check_eq("VMWRITE, the other map", access(code_vmwrite, VMCS_guest_rip, 0), REASON_VMWRITE);
	maps[1][VMCS_guest_rip / 8] = 0;
	prepare(code_vmread);
	vmwrite(VMCS(proc2_controls), 0);
	vmwrite(VMCS(link), ~0ul);
	check_eq("VMREAD without shadowing", vmx_l2_run(), REASON_VMREAD);
}

static void bad_link(const char *name, u64 link, u64 reason) {
	vmwrite(VMCS(link), link);
	check_eq(name_of("link pointer: %s", name), vmx_l2_run(), reason);
	if (reason != REASON_VMCALL) check_eq("its qualification", vmread(VMCS(qualification)), 4);
}

static void test_link(void) {
	u64 bad = REASON_BAD_STATE | REASON_ENTRY_FAILED;
	u32 r[4];

	cpuid(0x80000008, 0, r);
	*(u32 *)plain = BASIC_REVISION(rdmsr(VMX_MSR_BASIC));
	prepare(code_exit);
	bad_link("an ordinary VMCS, with shadowing", (u64)plain, bad);
	bad_link("not at a page", (u64)shadow + 8, bad);
	bad_link("beyond memory", (u64)shadow | BIT(r[0] & 0xff), bad);
	bad_link("the current VMCS", vmx_l2_vmcs(), bad);
	bad_link("a shadow VMCS", (u64)shadow, REASON_VMCALL);
	vmx_l2_new(code_exit);
	bad_link("a shadow VMCS, without shadowing", (u64)shadow, bad);
	bad_link("an ordinary VMCS", (u64)plain, REASON_VMCALL);
	prepare(code_exit);
	vmwrite(VMCS(vmread_bitmap), (u64)maps[0] + 8);
	check_eq("VMREAD's map not at a page", vmx_l2_run(), VM_FAILED | VM_FAIL);
	prepare(code_exit);
	vmwrite(VMCS(vmwrite_bitmap), (u64)maps[1] + 8);
	check_eq("VMWRITE's map not at a page", vmx_l2_run(), VM_FAILED | VM_FAIL);
}

void test_main(void) {
	if (!vmx_init()) return;
	if (!vmx_can(VMX_MSR_PROC2, PROC2_SHADOW_VMCS)) {
		skip("VMCS shadowing", "not offered");
		return;
	}
	*(u32 *)shadow = BASIC_REVISION(rdmsr(VMX_MSR_BASIC)) | BIT(31);
	test_shadow_vmcs();
	test_accesses();
	test_exits();
	test_link();
}
