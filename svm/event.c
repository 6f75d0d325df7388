/* Events into the guest (APM 2 15.20, 15.21), and those whose delivery an exit interrupted. */
#include "svm/svm.h"

#include "kernel/smp.h"
#include "kernel/vm.h"
#include "svm/quirks.h"

#define V_WINDOW (u32)(V_IRQ | V_PRIO_MAX | V_IGN_TPR)

bool svm_event_queued(struct vcpu *vcpu) { return svm_of(vcpu)->vmcb->event_inj & EVENTINJ_VALID; }

/* L2's interrupts are physical ones for L1, which may have put its own IF in L2's place. */
static bool host_if_counts(struct vcpu *vcpu) {
	return vcpu->l2 && (svm_of(vcpu)->nested.vmcb12->vintr & V_MASKING);
}

bool svm_interrupt_allowed(struct vcpu *vcpu) {
	const struct svm_vcpu *arch = svm_of(vcpu);

	if (unlikely(host_if_counts(vcpu)))
		return svm_gif(arch) && (arch->vmcb01->rflags & X86_RFLAGS_IF);
	return (vcpu->rflags & X86_RFLAGS_IF) && !(arch->vmcb->int_state & INT_SHADOW) &&
	       svm_gif(arch);
}

bool svm_nmi_allowed(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);

	/* An IRET that has faulted unmasks as well. */
	if (arch->iret_seen && vcpu->rip != arch->iret_rip)
		arch->nmi_masked = arch->iret_seen = false;
	return svm_gif(arch) && !arch->nmi_masked && !(arch->vmcb->int_state & INT_SHADOW);
}

void svm_end_shadow(struct vcpu *vcpu) { svm_of(vcpu)->vmcb->int_state &= ~INT_SHADOW; }

void svm_inject(struct vcpu *vcpu, const struct event *event) {
	struct svm_vcpu *arch = svm_of(vcpu);
	u64 inj = EVENTINJ_VALID | (u64)event->type << EVENTINJ_TYPE_SHIFT | event->vector;

	if (event->has_error) inj |= EVENTINJ_ERROR | (u64)event->error << 32;
	arch->vmcb->event_inj = svm_quirk_inject(vcpu, inj);
	if (event->type == EVENT_NMI) {
		arch->nmi_masked = true;
		arch->iret_seen = false;
		arch->vmcb->intercept_misc1 |= INTERCEPT_IRET;
	}
}

/* An interrupt that this CPU sends to itself ends the guest's run behind what is injected. */
static void kick_behind_event(struct vcpu *vcpu) {
	vcpu_request_self(vcpu, REQ_EVENT);
	/* Not again when the delivery itself was what an interrupt came before. */
	if (!(svm_of(vcpu)->vmcb->exit_int_info & EVENTINJ_VALID)) smp_kick_self();
}

/* The window in an L2 takes the place of a virtual interrupt of L1's, which comes back after it. */
static void window_in_l2(struct vcpu *vcpu, bool open) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct vmcb *vmcb = arch->vmcb, *l1 = arch->nested.vmcb12;

	if (host_if_counts(vcpu)) {
		/* Nothing that L2 does unmasks it: it comes behind the event that is injected. */
		if (svm_interrupt_allowed(vcpu)) kick_behind_event(vcpu);
		return;
	}
	if (open == arch->nested.window) return;
	arch->nested.window = open;
	if (open) {
		l1->vintr = (l1->vintr & ~V_WINDOW) | (vmcb->vintr & V_WINDOW);
		vmcb->vintr |= V_WINDOW;
		vmcb->intercept_misc1 |= (u32)INTERCEPT_VINTR;
	} else {
		vmcb->vintr = (vmcb->vintr & ~V_WINDOW) | (l1->vintr & V_WINDOW);
		vmcb->intercept_misc1 &= ~(u32)INTERCEPT_VINTR;
		vmcb->intercept_misc1 |= l1->intercept_misc1 & (u32)INTERCEPT_VINTR;
	}
}

/*
 * The window is a virtual interrupt of highest priority that is never delivered, because its
 * intercept comes first (APM 2 15.21.4). With GIF clear it is STGI that everything waits for, which
 * exits, unless the CPU holds virtual interrupts back itself.
 */
void svm_interrupt_window(struct vcpu *vcpu, bool open) {
	struct vmcb *vmcb = svm_of(vcpu)->vmcb;

	if (unlikely(vcpu->l2)) {
		window_in_l2(vcpu, open);
	} else if (!open) {
		vmcb->vintr &= ~V_WINDOW;
		vmcb->intercept_misc1 &= ~(u32)INTERCEPT_VINTR;
	} else if (vmcb->vintr & (V_GIF | V_GIF_ENABLE)) {
		vmcb->vintr |= V_WINDOW;
		vmcb->intercept_misc1 |= INTERCEPT_VINTR;
	}
}

enum outcome svm_exit_vintr(struct vcpu *vcpu) {
	svm_quirk_find_interrupt();
	svm_interrupt_window(vcpu, false);
	vcpu_request_self(vcpu, REQ_EVENT);
	return RESUME;
}

/*
 * NMIs are masked until IRET has completed, but the intercept comes before it. When another NMI
 * waits, one single step takes the guest over the IRET; the #DB after it is Roost's own.
 */
static void step_over_iret(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);

	if (arch->nmi_single_step) return;
	if (unlikely(vcpu->rflags & X86_RFLAGS_NT)) {
		/* A task switch, which would take TF along: the next exit behind it has to do. */
		vcpu_request_self(vcpu, REQ_EVENT);
		return;
	}
	arch->nmi_single_step = true;
	arch->step_rflags = vcpu->rflags & X86_RFLAGS_TF;
	vcpu->rflags |= X86_RFLAGS_TF;
}

enum outcome svm_exit_iret(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);

	arch->vmcb->intercept_misc1 &= ~(u32)INTERCEPT_IRET;
	arch->iret_seen = true;
	arch->iret_rip = vcpu->rip;
	if (atomic_load(&vcpu->nmi_pending)) step_over_iret(vcpu);
	return RESUME;
}

/*
 * A blocked NMI waits for STGI; for IRET, whose intercept is on or has come; or for the end of a
 * shadow or of another event's delivery, which no window for interrupts sees.
 */
void svm_nmi_window(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);

	if (!svm_gif(arch)) {
		arch->vmcb->intercept_misc2 |= (u32)INTERCEPT_STGI;
		return;
	}
	if (arch->nmi_masked) {
		if (arch->iret_seen) step_over_iret(vcpu);
		return;
	}
	kick_behind_event(vcpu);
}

/* #DB is intercepted always: its delivery could fault for ever without an exit otherwise. */
enum outcome svm_exit_db(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);

	if (arch->nmi_single_step) {
		arch->nmi_single_step = false;
		arch->nmi_masked = arch->iret_seen = false;
		vcpu_request_self(vcpu, REQ_EVENT);
		/* IRET has loaded the guest's TF; the trap is the guest's if TF was on before. */
		if (!arch->step_rflags) {
			arch->vmcb->dr6 &= ~BIT(14);
			return RESUME;
		}
	}
	return inject_exception(vcpu, X86_DB);
}

/* QEMU 7.2 reports a virtual interrupt as an exception and leaves it: it would come twice. */
u64 svm_interrupted_event(struct vcpu *vcpu) {
	struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	u64 info = svm_quirk_injected(vcpu, vmcb->exit_int_info);

	if (!(info & EVENTINJ_VALID)) return 0;
	if ((info >> EVENTINJ_TYPE_SHIFT & 7) == EVENTINJ_EXCEPTION && (u8)info >= 32) {
		info &= ~(7ul << EVENTINJ_TYPE_SHIFT);
		vmcb->vintr &= (u32)~V_IRQ;
	}
	return info;
}

/*
 * The exit came while an event was being delivered. Software interrupts and exceptions restart with
 * their instruction, RIP points at it; everything else must be delivered again.
 */
void svm_take_exit_event(struct vcpu *vcpu) {
	struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	u64 info = svm_interrupted_event(vcpu);
	u64 type = info >> EVENTINJ_TYPE_SHIFT & 7;
	u8 vector = (u8)info;

	if (type == EVENTINJ_SOFT) return;
	if (type == EVENTINJ_EXCEPTION) {
		if (vector == X86_BP || vector == X86_OF) return;
		vcpu->exception.pending = vcpu->exception.again = true;
		vcpu_request_self(vcpu, REQ_EVENT);
		vcpu->exception.vector = vector;
		vcpu->exception.address = vmcb->cr2;
		vcpu->exception.has_error = info & EVENTINJ_ERROR;
		vcpu->exception.error = (u32)(info >> 32);
		return;
	}
	vmcb->event_inj = svm_quirk_inject(vcpu, info);
}
