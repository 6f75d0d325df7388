/*
 * The virtual CPU's life between exits: requests, events, exceptions, halting, INIT and SIPI, and
 * the run loop. What happens on an exit itself is the back end's.
 */
#include "kernel/backend.h"
#include "kernel/cpu.h"
#include "kernel/guest.h"
#include "kernel/smp.h"
#include "kernel/vm.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"

/* Requests that vcpu_prepare() serves itself; all others need the run loop. */
#define REQ_LOCAL (REQ_EVENT | REQ_TLB_FLUSH | REQ_NMI | REQ_CLOCK)

const struct backend *backend;

void vcpu_request(struct vcpu *vcpu, u64 bits) {
	u64 old = atomic_fetch_or(&vcpu->requests, bits);

	if (atomic_load(&vcpu->asleep))
		sched_wake(vcpu);
	else if (bits & REQ_STOP)
		sched_sweep(vcpu);
	else if ((old & bits) != bits) /* else whoever set them first has done it */
		/* Its own CPU looks before the next entry; another one may be in the guest. */
		smp_kick(cpus[vcpu->cpu]);
}

u64 vcpu_reg(struct vcpu *vcpu, enum vreg reg) { return vcpu->backend->reg(vcpu, reg); }

void vcpu_set_reg(struct vcpu *vcpu, enum vreg reg, u64 value) {
	vcpu->backend->set_reg(vcpu, reg, value);
}

void vcpu_segment(struct vcpu *vcpu, enum seg seg, struct segment *out) {
	vcpu->backend->segment(vcpu, seg, out);
}

void vcpu_set_segment(struct vcpu *vcpu, enum seg seg, const struct segment *in) {
	vcpu->backend->set_segment(vcpu, seg, in);
}

u8 vcpu_cpl(struct vcpu *vcpu) { return vcpu->backend->privilege(vcpu) & PRIV_CPL; }

u32 vcpu_privilege(struct vcpu *vcpu) { return vcpu->backend->privilege(vcpu); }

void vcpu_set_tsc_offset(struct vcpu *vcpu, u64 offset) {
	vcpu->tsc_offset = offset;
	vcpu->backend->set_tsc_offset(vcpu, offset);
}

/* Classes of exceptions for combining (APM 2 table 8-6). */
static bool contributory(u8 vector) {
	return vector == X86_DE || (vector >= X86_TS && vector <= X86_GP);
}

static enum outcome queue_exception(struct vcpu *vcpu, u8 vector, bool has_error, u32 error) {
	struct vcpu_exception *e = &vcpu->exception;

	if (e->pending) {
		bool second = contributory(vector) || vector == X86_PF;

		if (e->vector == X86_DF && second) return vcpu_triple_fault(vcpu);
		if ((contributory(e->vector) && contributory(vector)) ||
		    (e->vector == X86_PF && second)) {
			vector = X86_DF;
			has_error = true;
			error = 0;
		}
	}
	e->pending = true;
	e->again = false;
	e->vector = vector;
	e->has_error = has_error;
	e->error = error;
	vcpu_request_self(vcpu, REQ_EVENT);
	return INJECTED;
}

enum outcome inject_exception(struct vcpu *vcpu, u8 vector) {
	return queue_exception(vcpu, vector, false, 0);
}

enum outcome inject_exception_error(struct vcpu *vcpu, u8 vector, u32 error) {
	return queue_exception(vcpu, vector, true, error);
}

enum outcome inject_page_fault(struct vcpu *vcpu, gva_t address, u32 error) {
	vcpu->exception.address = address;
	return queue_exception(vcpu, X86_PF, true, error);
}

/* True when L1 takes the event in L2's place. */
static bool l1_takes(struct vcpu *vcpu, const struct event *event) {
	return unlikely(vcpu->l2) && vcpu->backend->nested_event(vcpu, event);
}

enum outcome vcpu_stop_reason(struct vcpu *vcpu, const char *fmt, ...) {
	struct vm *vm = vcpu->vm;
	va_list ap;

	spin_lock(&vm->lock);
	if (!vm->stop_reason[0]) {
		vm->stop_vcpu = vcpu->id;
		int n = snprintf(vm->stop_reason, sizeof(vm->stop_reason), "vCPU %u: ", vcpu->id);

		va_start(ap, fmt);
		vsnprintf(vm->stop_reason + n, sizeof(vm->stop_reason) - (size_t)n, fmt, ap);
		va_end(ap);
	}
	spin_unlock(&vm->lock);
	vm_end(vm, VM_END_CRASH);
	return STOP_VM;
}

enum outcome vcpu_triple_fault(struct vcpu *vcpu) {
	if (l1_takes(vcpu, &(struct event){.type = EVENT_SHUTDOWN})) return RESUME;
	return vcpu_stop_reason(vcpu, "triple fault at rip %lx", vcpu->rip);
}

void vcpu_end_instruction(struct vcpu *vcpu) {
	vcpu->rflags &= ~X86_RFLAGS_RF;
	if (!(vcpu->rflags & X86_RFLAGS_TF)) return;
	vcpu_set_reg(vcpu, VREG_DR6, vcpu_reg(vcpu, VREG_DR6) | BIT(14));
	inject_exception(vcpu, X86_DB);
}

/* An event is there that can be delivered now; HLT itself may have trapped (RFLAGS.TF). */
static bool can_wake(struct vcpu *vcpu) {
	guest_before_events(vcpu);
	if (vcpu->exception.pending) return true;
	if (atomic_load(&vcpu->nmi_pending) && vcpu->backend->nmi_allowed(vcpu)) return true;
	if (irq_next(vcpu) >= 0 && vcpu->backend->interrupt_allowed(vcpu)) return true;
	return guest_take_kick(vcpu);
}

void vcpu_halt(struct vcpu *vcpu) {
	/* STI's shadow does not outlive HLT. */
	vcpu->backend->end_shadow(vcpu);
	if (can_wake(vcpu)) {
		vcpu_request_self(vcpu, REQ_EVENT);
		return;
	}
	atomic_store(&vcpu->mp_state, MP_HALTED);
	vcpu_request_self(vcpu, REQ_SCHED);
}

bool vcpu_runnable(struct vcpu *vcpu) {
	u64 requests = atomic_load(&vcpu->requests);

	if (atomic_load(&vcpu->vm->state) != VM_RUNNING) return false;
	if (requests & (REQ_INIT | REQ_SIPI)) return true;
	switch (atomic_load(&vcpu->mp_state)) {
	case MP_RUNNING: return true;
	case MP_HALTED:
		if (!(requests & (REQ_EVENT | REQ_NMI))) return false;
		atomic_fetch_and(&vcpu->requests, ~(REQ_EVENT | REQ_NMI));
		if (!can_wake(vcpu)) return false;
		atomic_store(&vcpu->mp_state, MP_RUNNING);
		vcpu_request_self(vcpu, REQ_EVENT);
		return true;
	default: return false;
	}
}

static bool deliver_exception(struct vcpu *vcpu) {
	struct vcpu_exception *e = &vcpu->exception;
	struct event event;

	if (!e->pending) return false;
	event = (struct event){
		.type = EVENT_EXCEPTION,
		.vector = e->vector,
		.has_error = e->has_error,
		.error = e->error,
		.address = e->address,
	};
	e->pending = false;
	/* Real mode has no error codes (APM 2 8.2). */
	if (!(vcpu_reg(vcpu, VREG_CR0) & X86_CR0_PE)) event.has_error = false;
	/* #DB ends general detection: its handler needs the debug registers (APM 2 13.1.1). */
	if (e->vector == X86_DB)
		vcpu_set_reg(vcpu, VREG_DR7, vcpu_reg(vcpu, VREG_DR7) & ~X86_DR7_GD);
	if (!e->again && l1_takes(vcpu, &event)) return true;
	if (e->vector == X86_PF) vcpu_set_reg(vcpu, VREG_CR2, e->address);
	vcpu->backend->inject(vcpu, &event);
	return true;
}

static bool deliver_nmi(struct vcpu *vcpu) {
	static const struct event nmi = {.type = EVENT_NMI, .vector = X86_NMI};

	if (!vcpu->backend->nmi_allowed(vcpu)) return false;
	if (l1_takes(vcpu, &nmi)) return true;
	atomic_fetch_sub(&vcpu->nmi_pending, 1);
	vcpu->backend->inject(vcpu, &nmi);
	return true;
}

static bool deliver_interrupt(struct vcpu *vcpu) {
	struct event event = {.type = EVENT_INTERRUPT};

	if (!vcpu->backend->interrupt_allowed(vcpu)) return false;
	if (l1_takes(vcpu, &event)) return true;
	int vector = irq_accept(vcpu);
	if (vector < 0) return false;
	event.vector = (u8)vector;
	vcpu->backend->inject(vcpu, &event);
	guest_after_accept(vcpu);
	return true;
}

/*
 * At most one event enters the guest at a time (APM 2 8.5 gives the order); for what has to wait a
 * window is opened, whose exit brings us here again. One that L1 takes as an exit from its L2 is
 * such an event as well: the windows behind it are L1's.
 */
static void deliver_interrupts(struct vcpu *vcpu, bool busy) {
	if (irq_next(vcpu) < 0) return;
	if (!busy && deliver_interrupt(vcpu) && irq_next(vcpu) < 0) return;
	vcpu->backend->interrupt_window(vcpu, true);
}

static void deliver_events(struct vcpu *vcpu) {
	bool busy = vcpu->backend->event_queued(vcpu);

	guest_before_events(vcpu);
	busy = deliver_exception(vcpu) || busy;
	if (unlikely(atomic_load(&vcpu->nmi_pending))) {
		/* One that is blocked holds nothing else back. */
		busy = busy || deliver_nmi(vcpu);
		if (atomic_load(&vcpu->nmi_pending)) vcpu->backend->nmi_window(vcpu);
	}
	if (likely(!vcpu->lend) || !irq_by_processor(vcpu)) deliver_interrupts(vcpu, busy);
	if (unlikely(vcpu->lend)) vcpu->backend->lend_apic(vcpu);
}

bool vcpu_prepare(struct vcpu *vcpu) {
	u64 requests = atomic_load_explicit(&vcpu->requests, memory_order_relaxed);

	if (requests & ~REQ_LOCAL) return false;
	if (requests) requests = atomic_fetch_and(&vcpu->requests, ~REQ_LOCAL);
	if (requests & REQ_TLB_FLUSH) vcpu->backend->tlb_flush(vcpu);
	if (requests & REQ_CLOCK) guest_clock_update(vcpu);
	deliver_events(vcpu);
	return true;
}

/* RESET and INIT (SDM 3A 9.1.1, APM 2 14.1.3): what they leave in a register, in this order. */
static const struct {
	u8 reg; /* enum vreg */
	bool kept_by_init;
	u64 value;
} reset_values[] = {
	{VREG_EFER, false, 0},
	{VREG_CR2, false, 0},
	{VREG_CR3, false, 0},
	{VREG_CR4, false, 0},
	{VREG_DR6, false, 0xffff0ff0},
	{VREG_DR7, false, 0x400},
	{VREG_GDTR_BASE, false, 0},
	{VREG_GDTR_LIMIT, false, 0xffff},
	{VREG_IDTR_BASE, false, 0},
	{VREG_IDTR_LIMIT, false, 0xffff},
	{VREG_STAR, true, 0},
	{VREG_LSTAR, true, 0},
	{VREG_CSTAR, true, 0},
	{VREG_SFMASK, true, 0},
	{VREG_KERNEL_GS_BASE, true, 0},
	{VREG_SYSENTER_CS, true, 0},
	{VREG_SYSENTER_ESP, true, 0},
	{VREG_SYSENTER_EIP, true, 0},
	{VREG_PAT, true, 0x0007040600070406},
	{VREG_DEBUGCTL, true, 0},
};

static void reset_segments(struct vcpu *vcpu) {
	for (enum seg seg = 0; seg < NR_SEGS; seg++) {
		struct segment s = {.limit = 0xffff, .attr = 0x93};

		if (seg == SEG_CS)
			s = (struct segment){0xf000, 0x9b, 0xffff, 0xffff0000};
		else if (seg >= SEG_LDTR)
			s.attr = seg == SEG_LDTR ? 0x82 : 0x8b;
		vcpu_set_segment(vcpu, seg, &s);
	}
}

void vcpu_reset(struct vcpu *vcpu, bool init) {
	u64 cache_bits = X86_CR0_CD | X86_CR0_NW;

	vcpu->backend->vcpu_reset(vcpu, init);
	if (init) /* keeps them (SDM 3A table 9-1) */
		cache_bits &= vcpu_reg(vcpu, VREG_CR0);
	memset(vcpu->gpr, 0, sizeof(vcpu->gpr));
	vcpu->gpr[RDX] = 0x600; /* family, model, stepping; the CPU model may say it better */
	vcpu->rip = 0xfff0;
	vcpu->rflags = X86_RFLAGS_FIXED;
	vcpu->exception.pending = false;
	reset_segments(vcpu);
	for (unsigned i = 0; i < ARRAY_SIZE(reset_values); i++)
		if (!init || !reset_values[i].kept_by_init)
			vcpu_set_reg(vcpu, reset_values[i].reg, reset_values[i].value);
	vcpu_set_reg(vcpu, VREG_CR0, X86_CR0_ET | cache_bits);
	vcpu->backend->set_tsc_offset(vcpu, vcpu->tsc_offset);
	vcpu->backend->tlb_flush(vcpu);
}

/* SDM 3A 9.4: a SIPI is only heard after INIT; the vector is the page where real mode begins. */
static void start_up(struct vcpu *vcpu) {
	u32 page = atomic_load(&vcpu->sipi_vector) & 0xff;
	struct segment cs;

	if (atomic_load(&vcpu->mp_state) != MP_WAIT_SIPI) return;
	vcpu_segment(vcpu, SEG_CS, &cs);
	cs.selector = (u16)(page << 8);
	cs.base = (u64)page << 12;
	vcpu_set_segment(vcpu, SEG_CS, &cs);
	vcpu->rip = 0;
	atomic_store(&vcpu->mp_state, MP_RUNNING);
}

static void take_init(struct vcpu *vcpu) {
	static const struct event init = {.type = EVENT_INIT};

	if (vcpu->backend->nested_event && vcpu->backend->nested_event(vcpu, &init)) return;
	vcpu_reset(vcpu, true);
	guest_vcpu_init(vcpu);
	atomic_store(&vcpu->nmi_pending, 0);
	if (vcpu->id)
		atomic_store(&vcpu->mp_state, MP_WAIT_SIPI);
	else
		vm_end(vcpu->vm, VM_END_RESET); /* the boot processor starts its firmware again */
}

/* Requests that are not for vcpu_prepare(). False: give the CPU back to the scheduler. */
static bool serve_requests(struct vcpu *vcpu) {
	u64 requests = atomic_load(&vcpu->requests);

	if (requests & ~REQ_LOCAL) requests = atomic_fetch_and(&vcpu->requests, REQ_LOCAL);
	if (requests & REQ_INIT) take_init(vcpu);
	if (requests & REQ_SIPI) start_up(vcpu);
	if (requests & REQ_STOP) return false;
	return atomic_load(&vcpu->mp_state) == MP_RUNNING;
}

void vcpu_run(struct vcpu *vcpu, const bool *resched) {
	for (;;) {
		cpu_irq_window();
		cpu_pass();
		timers_run();
		if (!serve_requests(vcpu) || __atomic_load_n(resched, __ATOMIC_RELAXED)) return;
		vcpu->backend->run(vcpu);
	}
}
