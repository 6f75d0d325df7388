/*
 * The processor's virtual APIC (SDM 3C 29): the vCPU's page for it, and what of the local APIC's
 * state goes into the VMCS. What is on the page is platform/lapic_virtual.c's.
 *
 * With a TPR shadow alone, the guest moves CR8 without an exit unless something waits for a lower
 * priority. With virtual-interrupt delivery the processor delivers what waits in IRR as soon as the
 * guest can take it, and ends it, without an exit.
 */
#include "kernel/vm.h"
#include "platform/lapic.h"
#include "vmx/vmx.h"

static void lend_all(struct vcpu *vcpu) {
	struct lapic_lent *lent = &vmx_of(vcpu)->lent, before = *lent;

	if (vcpu->lapic->lent && !lapic_has_new(vcpu->lapic)) return;
	if (vcpu->lapic->lent) lent->status = (u16)vmread(VMCS(guest_interrupt_status));
	lapic_lend(vcpu, lent);
	vmwrite(VMCS(guest_interrupt_status), lent->status);
	/* The ends of level-triggered interrupts make an exit. */
	for (unsigned i = 0; i < 4; i++)
		if (before.levels[i] != lent->levels[i])
			vmwrite(VMCS_AT(eoi_exits, i), lent->levels[i]);
}

void vmx_lend_apic(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	struct lapic *lapic = vcpu->lapic;

	/* An L2's VMCS has nothing of this; L1's interrupts end it as any exit does. */
	if (vcpu->l2) return;
	if (unlikely(!lapic->vapic))
		lapic_set_virtual(vcpu, arch->vapic, vmx_config.proc2 & PROC2_VID);
	if (unlikely(arch->delivers != lapic->delivers)) vmx_set_x2apic(lapic->delivers);
	arch->delivers = vcpu->lend = lapic->delivers;
	if (arch->delivers) {
		lend_all(vcpu);
		if (irq_by_processor(vcpu)) vmx_interrupt_window(vcpu, false);
		return;
	}
	u8 threshold = lapic_threshold(lapic);
	if (likely(arch->tpr_threshold == threshold)) return;
	arch->tpr_threshold = threshold;
	vmwrite(VMCS(tpr_threshold), threshold);
}

/* The guest's TPR has sunk, and what waits may be delivered now. */
enum outcome vmx_exit_tpr(struct vcpu *vcpu) {
	vcpu->lend = true;
	vcpu_request_self(vcpu, REQ_EVENT);
	return RESUME;
}

/* These two come behind the instruction (29.1.4, 29.4.3.3). */
enum outcome vmx_exit_eoi(struct vcpu *vcpu) {
	lapic_virtual_eoi(vcpu, (u8)vmread(VMCS(qualification)));
	return RESUME;
}

enum outcome vmx_exit_apic_write(struct vcpu *vcpu) {
	lapic_virtual_write(vcpu, (u32)vmread(VMCS(qualification)) & 0xfff);
	return RESUME;
}
