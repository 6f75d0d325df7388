/* The guest's registers by their neutral names: in the VMCS, or in the CPU while it is loaded. */
#include "kernel/vm.h"
#include "lib/x86.h"
#include "mm/gmem.h"
#include "platform/cr.h"
#include "vmx/vmx.h"

/* In the CPU while the vCPU is loaded, else in arch->msr. */
static const u32 guest_msr[NR_GUEST_MSRS] = {X86_MSR_STAR, X86_MSR_LSTAR, X86_MSR_CSTAR,
					     X86_MSR_SFMASK, X86_MSR_KERNEL_GS_BASE};

/* Registers that are a field of the VMCS and nothing else. */
static const u16 plain_field[NR_VREGS] = {
	[VREG_CR3] = VMCS_guest_cr3,
	[VREG_EFER] = VMCS_guest_efer,
	[VREG_DR7] = VMCS_guest_dr7,
	[VREG_GDTR_BASE] = VMCS_guest_gdtr_base,
	[VREG_GDTR_LIMIT] = VMCS_guest_gdtr_limit,
	[VREG_IDTR_BASE] = VMCS_guest_idtr_base,
	[VREG_IDTR_LIMIT] = VMCS_guest_idtr_limit,
	[VREG_SYSENTER_CS] = VMCS_guest_sysenter_cs,
	[VREG_SYSENTER_ESP] = VMCS_guest_sysenter_esp,
	[VREG_SYSENTER_EIP] = VMCS_guest_sysenter_eip,
	[VREG_PAT] = VMCS_guest_pat,
	[VREG_DEBUGCTL] = VMCS_guest_debugctl,
};

/* CR2 and DR6 are in no VMCS; Roost itself uses neither. */
void vmx_load_msrs(struct vmx_vcpu *arch) {
	for (unsigned i = 0; i < NR_GUEST_MSRS; i++) wrmsr(guest_msr[i], arch->msr[i]);
	write_cr2(arch->cr2);
	write_dr6(arch->dr6);
}

void vmx_put_msrs(struct vmx_vcpu *arch) {
	for (unsigned i = 0; i < NR_GUEST_MSRS; i++) arch->msr[i] = rdmsr(guest_msr[i]);
	arch->cr2 = read_cr2();
	arch->dr6 = read_dr6();
}

/*
 * The registers as they work in the guest. Where L1 has a bit of its L2's, the shadow is what L2
 * reads; what works is what L1 has put into VMCS 12, if Roost does not leave that to the guest.
 */
u64 vmx_cr0(const struct vmx_vcpu *arch) {
	const struct vmx_level *level = arch->level;
	u64 value = vmread(VMCS(cr0_shadow));

	if (unlikely(level->cr0_l1))
		value = blend(value, level->cr0_l1, arch->nested.vmcs12->guest_cr0);
	return blend(value, level->cr0_owned, vmread(VMCS(guest_cr0)));
}

u64 vmx_cr4(const struct vmx_vcpu *arch) {
	const struct vmx_level *level = arch->level;
	u64 value = vmread(VMCS(cr4_shadow));

	if (unlikely(level->cr4_l1))
		value = blend(value, level->cr4_l1, arch->nested.vmcs12->guest_cr4);
	return blend(value, level->cr4_owned, vmread(VMCS(guest_cr4)));
}

u64 vmx_reg(struct vcpu *vcpu, enum vreg reg) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	unsigned msr = reg - VREG_STAR;

	vmx_borrow(vcpu);
	if (msr < NR_GUEST_MSRS) return arch->loaded ? rdmsr(guest_msr[msr]) : arch->msr[msr];
	switch (reg) {
	case VREG_CR0: return vmx_cr0(arch);
	case VREG_CR4: return vmx_cr4(arch);
	case VREG_CR2: return arch->loaded ? read_cr2() : arch->cr2;
	case VREG_DR6: return arch->loaded ? read_dr6() : arch->dr6;
	case VREG_TSC_AUX: return fpu_tsc_aux(&arch->fpu);
	case VREG_XCR0: return fpu_xcr0(&arch->fpu);
	default: return vmread(VMCS_FIELD(plain_field[reg]));
	}
}

/*
 * LMA = LME and PG (SDM 3A 9.8.5), and an entry control says the same (3C 26.3.1.1). CD and NW are
 * kept for the guest to see, and have no effect.
 */
static void set_cr0(const struct vmx_vcpu *arch, u64 value) {
	u64 l1 = arch->level->cr0_l1;

	vmwrite(VMCS(cr0_shadow),
		unlikely(l1) ? blend(value, l1, arch->nested.vmcs12->cr0_shadow) : value);
	vmwrite(VMCS(guest_cr0), vmx_real_cr0(value));
	u64 efer = vmread(VMCS(guest_efer));
	bool on = (value & X86_CR0_PG) && (efer & X86_EFER_LME);
	vmwrite(VMCS(guest_efer), blend(efer, X86_EFER_LMA, on ? X86_EFER_LMA : 0));
	vmwrite(VMCS(entry_controls),
		blend(vmread(VMCS(entry_controls)), ENTRY_IA32E, on ? ENTRY_IA32E : 0));
}

static void set_cr4(const struct vmx_vcpu *arch, u64 value) {
	u64 l1 = arch->level->cr4_l1;

	vmwrite(VMCS(cr4_shadow),
		unlikely(l1) ? blend(value, l1, arch->nested.vmcs12->cr4_shadow) : value);
	vmwrite(VMCS(guest_cr4), vmx_real_cr4(value));
}

void vmx_set_reg(struct vcpu *vcpu, enum vreg reg, u64 value) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	unsigned msr = reg - VREG_STAR;

	vmx_borrow(vcpu);
	if (msr < NR_GUEST_MSRS) {
		arch->msr[msr] = value;
		if (arch->loaded) wrmsr(guest_msr[msr], value);
		return;
	}
	switch (reg) {
	case VREG_CR0: set_cr0(arch, value); return;
	case VREG_CR4: set_cr4(arch, value); return;
	case VREG_EFER:
		vmwrite(VMCS(guest_efer), blend(value, X86_EFER_LMA, vmread(VMCS(guest_efer))));
		return;
	case VREG_CR2:
		arch->cr2 = value;
		if (arch->loaded) write_cr2(value);
		return;
	case VREG_DR6:
		arch->dr6 = value;
		if (arch->loaded) write_dr6(value);
		return;
	case VREG_TSC_AUX: fpu_set_tsc_aux(&arch->fpu, value); return;
	case VREG_XCR0: fpu_set_xcr0(&arch->fpu, value); return;
	default: vmwrite(VMCS_FIELD(plain_field[reg]), value); return;
	}
}

/* ---- segments ---- */

static u32 access_of(u16 attr) {
	return attr & SEG_ATTR_P ? (attr & 0xffu) | (attr & 0xf00u) << 4
				 : (attr & 0xffu) | (u32)ACCESS_UNUSABLE;
}

static u16 attr_of(u64 access) {
	u64 attr = (access & 0xff) | (access >> 4 & 0xf00);

	return (u16)(access & ACCESS_UNUSABLE ? attr & ~(u64)SEG_ATTR_P : attr);
}

void vmx_segment(struct vcpu *vcpu, enum seg seg, struct segment *out) {
	vmx_borrow(vcpu);
	out->base = vmread(VMCS_AT(guest_base, seg));
	out->limit = (u32)vmread(VMCS_AT(guest_limit, seg));
	out->selector = (u16)vmread(VMCS_AT(guest_selector, seg));
	out->attr = attr_of(vmread(VMCS_AT(guest_access, seg)));
}

void vmx_set_segment(struct vcpu *vcpu, enum seg seg, const struct segment *in) {
	vmx_borrow(vcpu);
	vmwrite(VMCS_AT(guest_base, seg), in->base);
	vmwrite(VMCS_AT(guest_limit, seg), in->limit);
	vmwrite(VMCS_AT(guest_selector, seg), in->selector);
	vmwrite(VMCS_AT(guest_access, seg), access_of(in->attr));
}

/* SS's level is the CPL in every mode (SDM 3C 24.4.1). */
u32 vmx_privilege(struct vcpu *vcpu) {
	vmx_borrow(vcpu);
	u32 privilege = attr_of(vmread(VMCS_AT(guest_access, SEG_SS))) >> 5 & PRIV_CPL;

	if ((attr_of(vmread(VMCS_AT(guest_access, SEG_CS))) & SEG_ATTR_L) &&
	    (vmread(VMCS(guest_efer)) & X86_EFER_LMA))
		privilege |= PRIV_64BIT;
	return privilege;
}

void vmx_set_tsc_offset(struct vcpu *vcpu, u64 offset) {
	struct vmx_level *level = vmx_of(vcpu)->level;

	vmx_borrow(vcpu);
	if (unlikely(vcpu->l2)) offset = vmx_nested_tsc_offset(vcpu, offset);
	level->tsc_offset = offset;
	vmwrite(VMCS(tsc_offset), offset);
}

void vmx_vcpu_reset(struct vcpu *vcpu, bool init) {
	struct vmx_vcpu *arch = vmx_of(vcpu);

	vmx_nested_reset(vcpu);
	vmx_borrow(vcpu);
	if (!init) fpu_reset(&arch->fpu);
	fpu_clear_debug(&arch->fpu);
	arch->event = false;
	vcpu->lend = arch->vapic;
	arch->level->proc = vmx_config.proc;
	vmwrite(VMCS(proc_controls), arch->level->proc);
	vmwrite(VMCS(entry_event), 0);
	vmwrite(VMCS(guest_shadow), 0);
	vmwrite(VMCS(guest_activity), 0);
	vmwrite(VMCS(guest_pending_db), 0);
}
