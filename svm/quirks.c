/* Work-arounds for emulated machines; quirks.h lists all of them. */
#include "svm/quirks.h"

#include "kernel/smp.h"
#include "kernel/vm.h"
#include "lib/string.h"
#include "platform/emulate.h"
#include "svm/svm.h"

/*
 * QEMU 7.2 ends a guest's MOV to CR3 with reserved bits set by VMEXIT_INVALID, with RIP at the
 * instruction, where hardware raises #GP. Only what a guest can do so is taken for that.
 */
static bool is_mov_to_cr(struct vcpu *vcpu) {
	struct insn insn;

	return decode_current(vcpu, &insn) == 0 && insn.map == MAP_0F && insn.opcode == 0x22;
}

/* The TCG says so in the first hypervisor leaf. */
bool svm_quirk_is_tcg(void) {
	u32 r[4];

	cpuid(1, 0, r);
	if (!(r[2] & BIT(31))) return false;
	cpuid(0x40000000, 0, r);
	return !memcmp(&r[1], "TCGTCGTCGTCG", 12);
}

/*
 * QEMU 7.2 keeps the vector of an interrupt that it has injected as that of a pending exception,
 * and delivers it again, whatever IF says, when it stops the guest for something of its own before
 * the next exit (helper_vmrun() and cpu_handle_interrupt() there). It forgets events of the type of
 * INT n; but those check the gate's level, so that they are for code of level 0 only. Other code is
 * made to exit at once, by an interrupt that this CPU sends to itself.
 */
u64 svm_quirk_inject(struct vcpu *vcpu, u64 event) {
	struct svm_vcpu *arch = svm_of(vcpu);

	if (!svm_features.tcg || (event & ~0xfful) != EVENTINJ_VALID) return event;
	if (arch->vmcb->cpl) {
		smp_kick_self();
		return event;
	}
	arch->soft_rip = vcpu->rip;
	arch->soft_event = event | EVENTINJ_SOFT << EVENTINJ_TYPE_SHIFT;
	return arch->soft_event;
}

/* It is still where it was put in. */
u64 svm_quirk_injected(struct vcpu *vcpu, u64 event) {
	const struct svm_vcpu *arch = svm_of(vcpu);

	if (event == arch->soft_event && vcpu->rip == arch->soft_rip)
		event &= ~(EVENTINJ_SOFT << EVENTINJ_TYPE_SHIFT);
	return event;
}

/*
 * QEMU 7.2 stores the interrupt shadow of an exit in the VMCB but does not load it. An interrupt
 * then came between STI and HLT, and the guest slept on. What it does keep over VMRUN is a shadow
 * of the host's own; STI with IF set makes none on hardware (APM 3 STI), which loads the VMCB's.
 * But it lets a physical interrupt end the guest in a shadow, so that one for a waiting NMI, sent
 * by svm_nmi_window(), would come for ever.
 */
bool svm_quirk_shadow(struct vcpu *vcpu) {
	return (svm_of(vcpu)->vmcb->int_state & INT_SHADOW) && !atomic_load(&vcpu->nmi_pending);
}

/*
 * QEMU 7.2's VMRUN with V_IRQ set adds a bit to the CPU's requests without the lock under which its
 * other threads do so (helper_vmrun() there): once in some ten thousand times it overwrites what
 * one of them has just added, the note that the local APIC has an interrupt. That waits in the APIC
 * until the CPU has another look, for another interrupt or when its task priority is written.
 */
void svm_quirk_find_interrupt(void) {
	if (svm_features.tcg) write_cr8(0);
}

enum outcome svm_exit_invalid(struct vcpu *vcpu) {
	const struct vmcb *vmcb = svm_of(vcpu)->vmcb;

	if (is_mov_to_cr(vcpu)) return inject_gp(vcpu, 0);
	if (vcpu->l2) {
		svm_nested_leave(vcpu, EXIT_INVALID, 0, 0, 0);
		return RESUME;
	}
	return vcpu_stop_reason(vcpu,
				"VMRUN refused the state: cr0 %lx cr3 %lx cr4 %lx efer %lx rip %lx "
				"rflags %lx event %lx asid %u",
				vmcb->cr0, vmcb->cr3, vmcb->cr4, vmcb->efer, vmcb->rip,
				vmcb->rflags, vmcb->event_inj, vmcb->asid);
}
