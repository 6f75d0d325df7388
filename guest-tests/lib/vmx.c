/* An L2 in the test's own address space, and the ways into it. */
#include "guest-tests/lib/vmx.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"

#define EPT_RWX	  7ul
#define EPT_WB	  (6ul << 3)
#define EPT_LARGE BIT(7)

u64 vmx_enter_l2(struct vmx_registers *regs, u64 resume);

struct vmx_l2 {
	u8 on[PAGE_SIZE], vmcs[PAGE_SIZE];
	u8 stack[8192];
	struct vmx_registers regs;
	bool launched;
} __aligned(4096);

static struct vmx_l2 l2[VMX_L2_CPUS];
static u8 msr_map[PAGE_SIZE] __aligned(4096); /* nothing exits */

static struct vmx_l2 *here(void) { return &l2[this_cpu()->index]; }

struct vmx_registers *vmx_regs(void) {
	return &here()->regs;
}

u64 vmx_on_region(void) { return (u64)here()->on; }

u64 vmx_l2_vmcs(void) { return (u64)here()->vmcs; }

/* ---- instructions ---- */

static u64 result(bool cf, bool zf) { return (cf ? VM_INVALID : 0) | (zf ? VM_FAIL : 0); }

#define VMX_INSN(text, ...)                                                                 \
	do {                                                                                \
		bool cf, zf;                                                                \
		__asm__ volatile(text : "=@ccc"(cf), "=@ccz"(zf) : __VA_ARGS__ : "memory"); \
		return result(cf, zf);                                                      \
	} while (0)

u64 vmx_on(u64 region) { VMX_INSN("vmxon %2", "m"(region)); }

u64 vmx_off(void) {
	bool cf, zf;

	__asm__ volatile("vmxoff" : "=@ccc"(cf), "=@ccz"(zf) : : "memory");
	return result(cf, zf);
}

u64 vmx_clear(u64 vmcs) {
	if (vmcs == vmx_l2_vmcs()) here()->launched = false;
	VMX_INSN("vmclear %2", "m"(vmcs));
}

u64 vmx_ptrld(u64 vmcs) { VMX_INSN("vmptrld %2", "m"(vmcs)); }

u64 vmx_ptrst(void) {
	u64 at;

	__asm__ volatile("vmptrst %0" : "=m"(at) : : "cc");
	return at;
}

u64 vmx_read(u64 encoding, u64 *value) {
	bool cf, zf;

	__asm__ volatile("vmread %3, %0"
			 : "+r"(*value), "=@ccc"(cf), "=@ccz"(zf)
			 : "r"(encoding)
			 : "memory");
	return result(cf, zf);
}

u64 vmx_write(u64 encoding, u64 value) { VMX_INSN("vmwrite %3, %2", "r"(encoding), "r"(value)); }

u64 vmx_invept(u64 type, u64 eptp) {
	struct {
		u64 eptp, reserved;
	} which = {eptp, 0};

	VMX_INSN("invept %2, %3", "m"(which), "r"(type));
}

u64 vmx_invvpid(u64 type, u64 vpid, u64 address) {
	struct {
		u64 vpid, address;
	} which = {vpid, address};

	VMX_INSN("invvpid %2, %3", "m"(which), "r"(type));
}

/* ---- start ---- */

u32 vmx_controls(u32 msr, u64 wanted) {
	u64 caps = rdmsr(msr);

	return (u32)((wanted | (u32)caps) & caps >> 32);
}

bool vmx_can(u32 msr, u64 controls) {
	if (msr == VMX_MSR_PROC2 && !vmx_can(VMX_MSR_PIN + 1, PROC_SECONDARY)) return false;
	return (rdmsr(msr) >> 32 & controls) == controls;
}

bool vmx_init(void) {
	if (!cpuid_bit(1, 2, 5)) {
		skip("VMX", "this machine has none");
		return false;
	}
	write_cr0(read_cr0() | rdmsr(VMX_MSR_CR0_FIXED0));
	write_cr4(read_cr4() | rdmsr(VMX_MSR_CR4_FIXED0));
	*(u32 *)here()->on = *(u32 *)here()->vmcs = BASIC_REVISION(rdmsr(VMX_MSR_BASIC));
	return check_eq("VMXON", vmx_on(vmx_on_region()), VM_SUCCEED);
}

/* ---- the L2 ---- */

struct __packed table_pointer {
	u16 limit;
	u64 base;
};

static u64 tss_base(const struct table_pointer *gdtr, u16 tr) {
	const u64 *d = (const u64 *)(gdtr->base + tr);

	return (d[0] >> 16 & 0xffffff) | (d[0] >> 56 & 0xff) << 24 | d[1] << 32;
}

/* What guest and host have in common. */
static void write_both(void) {
	struct table_pointer gdtr, idtr;
	u16 tr;

	__asm__ volatile("sgdt %0; sidt %1; str %2" : "=m"(gdtr), "=m"(idtr), "=r"(tr));
	vmwrite(VMCS(guest_gdtr_base), gdtr.base);
	vmwrite(VMCS(guest_gdtr_limit), gdtr.limit);
	vmwrite(VMCS(guest_idtr_base), idtr.base);
	vmwrite(VMCS(guest_idtr_limit), idtr.limit);
	vmwrite(VMCS(host_gdtr_base), gdtr.base);
	vmwrite(VMCS(host_idtr_base), idtr.base);
	vmwrite(VMCS(host_tr_selector), tr);
	vmwrite(VMCS(host_tr_base), tss_base(&gdtr, tr));
	vmwrite(VMCS_AT(guest_selector, 7), tr);
	vmwrite(VMCS_AT(guest_base, 7), tss_base(&gdtr, tr));
	vmwrite(VMCS_AT(guest_limit, 7), 0x67);
	vmwrite(VMCS_AT(guest_access, 7), 0x8b);
	vmwrite(VMCS(guest_cr0), read_cr0());
	vmwrite(VMCS(guest_cr3), read_cr3());
	vmwrite(VMCS(guest_cr4), read_cr4());
	vmwrite(VMCS(host_cr0), read_cr0());
	vmwrite(VMCS(host_cr3), read_cr3());
	vmwrite(VMCS(host_cr4), read_cr4());
	vmwrite(VMCS(guest_efer), rdmsr(X86_MSR_EFER));
	vmwrite(VMCS(host_efer), rdmsr(X86_MSR_EFER));
	vmwrite(VMCS(guest_pat), rdmsr(X86_MSR_PAT));
	vmwrite(VMCS(host_pat), rdmsr(X86_MSR_PAT));
	vmwrite(VMCS(host_fs_base), rdmsr(X86_MSR_FS_BASE));
	vmwrite(VMCS(host_gs_base), rdmsr(X86_MSR_GS_BASE));
}

static void write_segments(void) {
	for (unsigned seg = 0; seg < 7; seg++) {
		vmwrite(VMCS_AT(guest_selector, seg), seg == 1	? SEL_CODE64
						      : seg < 4 ? SEL_DATA
								: 0);
		vmwrite(VMCS_AT(guest_base, seg), 0);
		vmwrite(VMCS_AT(guest_limit, seg), ~0u);
		vmwrite(VMCS_AT(guest_access, seg), seg == 1  ? 0xa09b
						    : seg < 6 ? 0xc093
							      : ACCESS_UNUSABLE);
		if (seg < 6)
			vmwrite(VMCS_AT(host_selector, seg), seg == 1  ? SEL_CODE64
							     : seg < 4 ? SEL_DATA
								       : 0);
	}
	vmwrite(VMCS_AT(guest_base, 4), rdmsr(X86_MSR_FS_BASE));
	vmwrite(VMCS_AT(guest_base, 5), rdmsr(X86_MSR_GS_BASE));
}

static void write_controls(void) {
	vmwrite(VMCS(pin_controls), vmx_controls(VMX_MSR_TRUE_PIN, PIN_INTERRUPT | PIN_NMI));
	vmwrite(VMCS(proc_controls),
		vmx_controls(VMX_MSR_TRUE_PIN + 1, PROC_HLT | PROC_MSR_BITMAP));
	vmwrite(VMCS(proc2_controls), 0);
	vmwrite(VMCS(exit_controls),
		vmx_controls(VMX_MSR_TRUE_PIN + 2, EXIT_SAVE_DEBUG | EXIT_HOST_64 | EXIT_SAVE_PAT |
							   EXIT_LOAD_PAT | EXIT_SAVE_EFER |
							   EXIT_LOAD_EFER));
	vmwrite(VMCS(entry_controls),
		vmx_controls(VMX_MSR_TRUE_PIN + 3,
			     ENTRY_LOAD_DEBUG | ENTRY_IA32E | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER));
	vmwrite(VMCS(exception_bitmap), 0);
	vmwrite(VMCS(pf_error_mask), 0);
	vmwrite(VMCS(pf_error_match), 0);
	vmwrite(VMCS(cr3_targets), 0);
	vmwrite(VMCS(exit_msr_stores), 0);
	vmwrite(VMCS(exit_msr_loads), 0);
	vmwrite(VMCS(entry_msr_loads), 0);
	vmwrite(VMCS(msr_bitmap), (u64)msr_map);
	vmwrite(VMCS(cr0_mask), 0);
	vmwrite(VMCS(cr4_mask), 0);
	vmwrite(VMCS(cr0_shadow), 0);
	vmwrite(VMCS(cr4_shadow), 0);
	vmwrite(VMCS(tsc_offset), 0);
	vmwrite(VMCS(link), ~0ul);
}

void vmx_l2_restart(const void *code) {
	vmwrite(VMCS(guest_rip), (u64)code);
	/* As after a call. */
	vmwrite(VMCS(guest_rsp), (u64)here()->stack + sizeof(here()->stack) - 8);
	vmwrite(VMCS(guest_rflags), X86_RFLAGS_FIXED);
	vmwrite(VMCS(guest_shadow), 0);
	vmwrite(VMCS(guest_activity), 0);
	vmwrite(VMCS(guest_pending_db), 0);
	vmwrite(VMCS(entry_event), 0);
}

void vmx_l2_new(const void *code) {
	vmx_clear(vmx_l2_vmcs());
	vmx_ptrld(vmx_l2_vmcs());
	memset(vmx_regs(), 0, sizeof(*vmx_regs()));
	write_controls();
	write_both();
	write_segments();
	vmwrite(VMCS(guest_debugctl), 0);
	vmwrite(VMCS(guest_dr7), 0x400);
	vmwrite(VMCS(guest_sysenter_cs), 0);
	vmwrite(VMCS(guest_sysenter_esp), 0);
	vmwrite(VMCS(guest_sysenter_eip), 0);
	vmwrite(VMCS(host_sysenter_cs), 0);
	vmwrite(VMCS(host_sysenter_esp), 0);
	vmwrite(VMCS(host_sysenter_eip), 0);
	vmx_l2_restart(code);
}

void vmx_l2_add(u64 proc2) {
	vmwrite(VMCS(proc_controls), vmread(VMCS(proc_controls)) | PROC_SECONDARY);
	vmwrite(VMCS(proc2_controls), vmread(VMCS(proc2_controls)) | proc2);
}

u64 ept_new(void) {
	u64 root = (u64)page_alloc();

	for (u64 gpa = 0; gpa < GiB(4); gpa += MiB(2))
		*page_entry_in(root, gpa, 2) = gpa | EPT_RWX | EPT_WB | EPT_LARGE;
	return root;
}

u64 ept_pointer(u64 root) { return root | 0x1e; }

void vmx_l2_use_ept(u64 root) {
	vmx_l2_add(PROC2_EPT);
	vmwrite(VMCS(eptp), ept_pointer(root));
}

u64 vmx_l2_run(void) {
	u64 flags = vmx_enter_l2(vmx_regs(), here()->launched);

	if (flags) return VM_FAILED | flags;
	u64 reason = vmread(VMCS(exit_reason));
	if (!(reason & REASON_ENTRY_FAILED)) here()->launched = true;
	return reason;
}

u64 vmx_l2_result(void) {
	u64 reason = vmx_l2_run();

	if (reason != REASON_VMCALL) {
		print("# exit 0x%lx error %lu qualification 0x%lx rip 0x%lx\n", reason,
		      vmread(VMCS(instruction_error)), vmread(VMCS(qualification)),
		      vmread(VMCS(guest_rip)));
		check_eq("the L2 has run to its end", reason, REASON_VMCALL);
	}
	return vmx_regs()->rax;
}
