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

/* The vectors whose end makes an exit: those of level-triggered interrupts. */
static void set_eoi_exits(struct vmx_vcpu *arch, const u64 levels[4]) {
	for (unsigned i = 0; i < 4; i++) {
		if (arch->eoi_exits[i] == levels[i]) continue;
		arch->eoi_exits[i] = levels[i];
		vmwrite(VMCS_AT(eoi_exits, i), levels[i]);
	}
}

void vmx_lend_apic(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	bool delivers = vmx_config.proc2 & PROC2_VID;
	struct lapic_lent lent;

	/* An L2's VMCS has nothing of this; L1's interrupts end it as any exit does. */
	if (!arch->vapic || vcpu->l2) return;
	if (unlikely(!vcpu->lapic->vapic)) lapic_set_virtual(vcpu, arch->vapic, delivers);
	bool x2apic = vcpu->lapic->mode == LAPIC_X2APIC;
	if (unlikely(arch->x2apic != x2apic)) vmx_set_x2apic(x2apic);
	arch->x2apic = x2apic;
	lapic_lend(vcpu, &lent);
	if (!delivers) {
		if (arch->tpr_threshold == lent.threshold) return;
		arch->tpr_threshold = lent.threshold;
		vmwrite(VMCS(tpr_threshold), lent.threshold);
		return;
	}
	if (irq_by_processor(vcpu)) vmx_interrupt_window(vcpu, false);
	set_eoi_exits(arch, lent.levels);
	vmwrite(VMCS(guest_interrupt_status), lent.status);
}

/* The guest's TPR has sunk, and what waits may be delivered now. */
enum outcome vmx_exit_tpr(struct vcpu *vcpu) {
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
