/* The guest's registers in the VMCB by their neutral names, and what RESET and INIT change. */
#include "svm/svm.h"

#include "kernel/vm.h"
#include "mm/gmem.h"
#include "mm/ptable.h"
#include "svm/intercept.h"

#define FIELD(name) offsetof(struct vmcb, name)

static const u16 reg_offsets[NR_VREGS] = {
	[VREG_CR0] = FIELD(cr0),
	[VREG_CR2] = FIELD(cr2),
	[VREG_CR3] = FIELD(cr3),
	[VREG_CR4] = FIELD(cr4),
	[VREG_DR6] = FIELD(dr6),
	[VREG_DR7] = FIELD(dr7),
	[VREG_GDTR_BASE] = FIELD(gdtr.base),
	[VREG_IDTR_BASE] = FIELD(idtr.base),
	[VREG_STAR] = FIELD(star),
	[VREG_LSTAR] = FIELD(lstar),
	[VREG_CSTAR] = FIELD(cstar),
	[VREG_SFMASK] = FIELD(sfmask),
	[VREG_KERNEL_GS_BASE] = FIELD(kernel_gs_base),
	[VREG_SYSENTER_CS] = FIELD(sysenter_cs),
	[VREG_SYSENTER_ESP] = FIELD(sysenter_esp),
	[VREG_SYSENTER_EIP] = FIELD(sysenter_eip),
	[VREG_PAT] = FIELD(g_pat),
	[VREG_DEBUGCTL] = FIELD(debugctl),
};

static const u16 segment_offsets[NR_SEGS] = {FIELD(es), FIELD(cs), FIELD(ss),	FIELD(ds),
					     FIELD(fs), FIELD(gs), FIELD(ldtr), FIELD(tr)};

/*
 * What VMLOAD and VMSAVE move (APM 3 VMSAVE): while the guest's run loop is on, the CPU holds
 * these, else VMCB 01, whichever level runs.
 */
static bool in_vmsave_state(enum vreg reg) { return reg >= VREG_STAR && reg <= VREG_SYSENTER_EIP; }

static bool segment_in_vmsave_state(enum seg seg) {
	return seg == SEG_FS || seg == SEG_GS || seg == SEG_LDTR || seg == SEG_TR;
}

/* Where the field is; up to date. */
static inline void *find(struct svm_vcpu *arch, u16 offset, bool vmsave_state) {
	if (!vmsave_state) return (u8 *)arch->vmcb + offset;
	if (arch->entered) svm_vmsave(arch->vmcb01_pa);
	return (u8 *)arch->vmcb01 + offset;
}

static u64 *find_reg(struct svm_vcpu *arch, enum vreg reg) {
	return find(arch, reg_offsets[reg], in_vmsave_state(reg));
}

static struct segment *find_segment(struct svm_vcpu *arch, enum seg seg) {
	return find(arch, segment_offsets[seg], segment_in_vmsave_state(seg));
}

u64 svm_reg(struct vcpu *vcpu, enum vreg reg) {
	struct svm_vcpu *arch = svm_of(vcpu);

	if (reg == VREG_EFER) return arch->efer | (arch->vmcb->efer & X86_EFER_LMA);
	if (reg == VREG_GDTR_LIMIT) return arch->vmcb->gdtr.limit;
	if (reg == VREG_IDTR_LIMIT) return arch->vmcb->idtr.limit;
	if (reg == VREG_TSC_AUX) return fpu_tsc_aux(&arch->fpu);
	if (reg == VREG_XCR0) return fpu_xcr0(&arch->fpu);
	return *find_reg(arch, reg);
}

/*
 * The VMCB's EFER. LME appears in it only together with CR4.PAE: QEMU 7.2 leaves its host with the
 * guest's CR0 after an exit with LME set and PAE and PG clear. The architecture does not care,
 * because LME has no effect before PG, which needs PAE; CR0 writes are intercepted in that time.
 */
void svm_update_efer(struct svm_vcpu *arch) {
	struct vmcb *vmcb = arch->vmcb;
	bool lme = arch->efer & X86_EFER_LME, paging = vmcb->cr0 & X86_CR0_PG;

	/* LMA = LME and PG (APM 2 14.6). */
	vmcb->efer = arch->efer | X86_EFER_SVME | (lme && paging ? X86_EFER_LMA : 0);
	if (!(vmcb->cr4 & X86_CR4_PAE)) vmcb->efer &= ~X86_EFER_LME;
	svm_intercept_cr0(arch, lme && !paging);
}

void svm_set_reg(struct vcpu *vcpu, enum vreg reg, u64 value) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct vmcb *vmcb = arch->vmcb;

	switch (reg) {
	case VREG_EFER:
		arch->efer = value & ~X86_EFER_LMA;
		svm_update_efer(arch);
		if (!vcpu->l2) svm_update_svme(vcpu);
		return;
	case VREG_CR0:
	case VREG_CR4:
		*find_reg(arch, reg) = value;
		svm_update_efer(arch);
		return;
	case VREG_GDTR_LIMIT: vmcb->gdtr.limit = (u32)value; return;
	case VREG_IDTR_LIMIT: vmcb->idtr.limit = (u32)value; return;
	case VREG_TSC_AUX: fpu_set_tsc_aux(&arch->fpu, value); return;
	case VREG_XCR0: fpu_set_xcr0(&arch->fpu, value); return;
	default: break;
	}
	*find_reg(arch, reg) = value;
	if (arch->entered && in_vmsave_state(reg)) svm_vmload(arch->vmcb01_pa);
}

void svm_segment(struct vcpu *vcpu, enum seg seg, struct segment *out) {
	*out = *find_segment(svm_of(vcpu), seg);
}

void svm_set_segment(struct vcpu *vcpu, enum seg seg, const struct segment *in) {
	struct svm_vcpu *arch = svm_of(vcpu);

	*find_segment(arch, seg) = *in;
	if (seg == SEG_SS) arch->vmcb->cpl = (in->attr & SEG_ATTR_DPL) >> 5;
	if (arch->entered && segment_in_vmsave_state(seg)) svm_vmload(arch->vmcb01_pa);
}

/* The level is a field of its own (APM 2 15.5.1): SYSRET leaves SS's DPL (APM 3 SYSRET). */
u32 svm_privilege(struct vcpu *vcpu) {
	const struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	u32 cpl = vmcb->cpl & PRIV_CPL;

	if ((vmcb->cs.attr & SEG_ATTR_L) && (vmcb->efer & X86_EFER_LMA)) return cpl | PRIV_64BIT;
	return cpl;
}

void svm_set_tsc_offset(struct vcpu *vcpu, u64 offset) {
	struct svm_vcpu *arch = svm_of(vcpu);

	arch->vmcb01->tsc_offset = offset;
	if (vcpu->l2) arch->vmcb->tsc_offset = offset + arch->nested.vmcb12->tsc_offset;
}

void svm_vcpu_reset(struct vcpu *vcpu, bool init) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct vmcb *vmcb = arch->vmcb01;

	svm_nested_reset(vcpu);
	if (!init) fpu_reset(&arch->fpu);
	fpu_clear_debug(&arch->fpu);
	vmcb->event_inj = 0;
	vmcb->int_state = 0;
	arch->nmi_masked = arch->iret_seen = arch->nmi_single_step = false;
	vmcb->intercept_misc1 &= ~(u32)INTERCEPT_IRET;
	svm_interrupt_window(vcpu, false);
	vmcb->ncr3 = vcpu->vm->gmem->pt.root;
}
