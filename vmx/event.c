/*
 * Events into the guest (SDM 3C 26.6, 26.7): injection, windows, and events whose delivery an exit
 * interrupted. NMI blocking is the CPU's own, by virtual NMIs.
 */
#include "kernel/smp.h"
#include "kernel/vm.h"
#include "lib/x86.h"
#include "vmx/vmx.h"

#define DR6_ALL 0xe00ful /* B0 to B3, BD, BS, BT: what the qualification of #DB tells */

/* The windows of L1's for its L2 are always open. */
static void set_window(struct vcpu *vcpu, u64 window, bool open) {
	struct vmx_level *level = vmx_of(vcpu)->level;
	u64 value = open ? level->proc | window : level->proc & ~window;

	if (unlikely(vcpu->l2)) value |= vmx_of(vcpu)->nested.vmcs12->proc_controls & window;
	vmwrite_new(VMCS(proc_controls), &level->proc, value);
}

bool vmx_event_queued(struct vcpu *vcpu) { return vmx_of(vcpu)->event; }

bool vmx_interrupt_allowed(struct vcpu *vcpu) {
	if (unlikely(vcpu->l2)) {
		if (vmx_l1_window_open(vcpu)) return false;
		if (vmx_l1_takes_interrupts(vcpu)) return true;
	}
	if (!(vcpu->rflags & X86_RFLAGS_IF)) return false;
	vmx_borrow(vcpu);
	return !(vmread(VMCS(guest_shadow)) & SHADOW_NEXT);
}

bool vmx_nmi_allowed(struct vcpu *vcpu) {
	if (unlikely(vcpu->l2) && vmx_l1_takes_nmis(vcpu)) return true;
	vmx_borrow(vcpu);
	return !(vmread(VMCS(guest_shadow)) & (SHADOW_NEXT | SHADOW_NMI));
}

void vmx_end_shadow(struct vcpu *vcpu) {
	vmx_borrow(vcpu);
	u64 shadow = vmread(VMCS(guest_shadow));

	if (shadow & SHADOW_NEXT) vmwrite(VMCS(guest_shadow), shadow & ~SHADOW_NEXT);
}

static void queue(struct vmx_vcpu *arch, u64 info) {
	arch->event = true;
	if (unlikely(arch->nested.halted)) vmwrite(VMCS(guest_activity), 0);
	arch->nested.halted = false;
	vmwrite(VMCS(entry_event), info);
}

void vmx_inject(struct vcpu *vcpu, const struct event *event) {
	u64 info = EVENT_VALID | (u64)event->type << EVENT_TYPE_SHIFT | event->vector;

	if (event->has_error) {
		info |= EVENT_HAS_ERROR;
		vmwrite(VMCS(entry_error), event->error);
	}
	/* An exception ends the instruction, and with it the shadow before it. */
	if (event->type == EVENT_EXCEPTION) vmx_end_shadow(vcpu);
	queue(vmx_of(vcpu), info);
}

/*
 * L1 gets the exit as soon as the event that is queued for L2 has been delivered, whatever L2 does:
 * the entry ends by itself, or by an interrupt that this CPU sends to itself.
 */
static void exit_behind_event(void) {
	if (vmx_config.pin & PIN_TICK)
		vmwrite(VMCS(tick), 0);
	else
		smp_kick_self();
}

void vmx_interrupt_window(struct vcpu *vcpu, bool open) {
	if (unlikely(vcpu->l2) && vmx_l1_takes_interrupts(vcpu)) {
		if (open && (vmx_of(vcpu)->event || !vmx_l1_window_open(vcpu))) exit_behind_event();
		return;
	}
	set_window(vcpu, PROC_INTERRUPT_WINDOW, open);
}

enum outcome vmx_exit_interrupt_window(struct vcpu *vcpu) {
	vmx_interrupt_window(vcpu, false);
	vcpu_request_self(vcpu, REQ_EVENT);
	return RESUME;
}

void vmx_nmi_window(struct vcpu *vcpu) {
	if (unlikely(vcpu->l2) && vmx_l1_takes_nmis(vcpu))
		exit_behind_event();
	else
		set_window(vcpu, PROC_NMI_WINDOW, true);
}

enum outcome vmx_exit_nmi_window(struct vcpu *vcpu) {
	set_window(vcpu, PROC_NMI_WINDOW, false);
	vcpu_request_self(vcpu, REQ_EVENT);
	return RESUME;
}

/* ---- exceptions that exit ---- */

/*
 * #DB exits always: its delivery could fault for ever without an exit otherwise. The CPU has left
 * DR6 alone and tells in the qualification what it would have set there (SDM 3C 27.1).
 */
static enum outcome debug_exception(struct vcpu *vcpu) {
	u64 why = vmread(VMCS(qualification)) & DR6_ALL;
	u64 dr6 = vmx_reg(vcpu, VREG_DR6) & ~0xful; /* B0 to B3 tell of this exception alone */

	vmx_set_reg(vcpu, VREG_DR6, dr6 | why);
	return inject_exception(vcpu, X86_DB);
}

enum outcome vmx_exit_exception(struct vcpu *vcpu) {
	u64 info = vmread(VMCS(exit_event));
	u8 vector = (u8)info;

	/* The host's own event came in the guest's time: its handler runs, and IRET unblocks NMIs.
	 */
	if (EVENT_TYPE(info) == EVENT_TYPE_NMI || vector == X86_MC) {
		if (vector == X86_MC)
			__asm__ volatile("int $18" : : : "memory");
		else
			__asm__ volatile("int $2" : : : "memory");
		return RESUME;
	}
	vmx_take_exit_event(vcpu);
	if (info & EVENT_NMI_UNBLOCKED)
		vmwrite(VMCS(guest_shadow), vmread(VMCS(guest_shadow)) | SHADOW_NMI);
	if (vector == X86_DB) return debug_exception(vcpu);
	if (info & EVENT_HAS_ERROR)
		return inject_exception_error(vcpu, vector, (u32)vmread(VMCS(exit_error)));
	return inject_exception(vcpu, vector);
}

/*
 * The exit came while an event was being delivered. Software interrupts and exceptions restart with
 * their instruction, RIP points at it; everything else must be delivered again.
 */
void vmx_take_exit_event(struct vcpu *vcpu) {
	u64 info = vmread(VMCS(vectoring_event));
	u64 shadow;

	if (likely(!(info & EVENT_VALID))) return;
	switch (EVENT_TYPE(info)) {
	case EVENT_TYPE_NMI:
		/* It is not blocked by itself. */
		shadow = vmread(VMCS(guest_shadow));
		vmwrite(VMCS(guest_shadow), shadow & ~SHADOW_NMI);
		__attribute__((fallthrough));
	case EVENT_TYPE_INTERRUPT: queue(vmx_of(vcpu), info & (EVENT_VALID | 0x7fful)); break;
	case EVENT_TYPE_EXCEPTION:
		vcpu->exception.pending = vcpu->exception.again = true;
		vcpu->exception.vector = (u8)info;
		/* Bochs 2.7 reports error codes of real mode, which has none. */
		vcpu->exception.has_error =
			(info & EVENT_HAS_ERROR) && (vmx_reg(vcpu, VREG_CR0) & X86_CR0_PE);
		vcpu->exception.error = (u32)vmread(VMCS(vectoring_error));
		vcpu->exception.address = vmx_reg(vcpu, VREG_CR2);
		vcpu_request_self(vcpu, REQ_EVENT);
		break;
	default:
		if (likely(!vcpu->l2)) break;
		/* L1 may have injected it where no such instruction is (SDM 3C 26.6.1.1). */
		vmwrite(VMCS(entry_length), vmread(VMCS(instruction_length)));
		queue(vmx_of(vcpu), info & (EVENT_VALID | 0x7fful));
		break;
	}
}
