/* Exits that mean the same on every back end, for their exit tables. */
#pragma once

#include "kernel/vcpu.h"
#include "platform/bus.h"

/* cpuid.c: leaf in EAX, sub-leaf in ECX; writes RAX to RBX, upper halves 0. ADVANCE, at any CPL. */
enum outcome cpuid_exit(struct vcpu *vcpu);

/* A host interrupt: the run loop takes it, there is nothing to do here. */
static inline enum outcome exit_host_interrupt(struct vcpu *vcpu) {
	vcpu_request_self(vcpu, REQ_LOOP);
	return RESUME;
}

static inline enum outcome exit_hlt(struct vcpu *vcpu) {
	vcpu_halt(vcpu);
	return ADVANCE;
}

/* It spins: for a lock whose holder may wait for a CPU. */
static inline enum outcome exit_pause(struct vcpu *vcpu) {
	sched_give_way(vcpu);
	return ADVANCE;
}

static inline enum outcome exit_nop(struct vcpu *vcpu __unused) { return ADVANCE; }

static inline enum outcome exit_rdpmc(struct vcpu *vcpu) { return inject_gp(vcpu, 0); }

/* IN or OUT of AL, AX or EAX; a 32-bit result does away with the upper half (APM 3 IN). */
static inline enum outcome exit_in_out(struct vcpu *vcpu, u16 port, unsigned size, bool in) {
	u64 *rax = &vcpu->gpr[RAX], kept = size == 4 ? 0 : ~0ul << 8 * size;

	if (in)
		*rax = (*rax & kept) | bus_io_read(vcpu->vm, port, size);
	else
		bus_io_write(vcpu->vm, port, size, (u32)*rax);
	return ADVANCE;
}

/* Notes an exit for reports; index: of the back end's exit table. */
static inline void note_exit(struct vcpu *vcpu, u64 rip, u64 index) {
	struct vcpu_trace *t = &vcpu->trace[vcpu->nr_exits++ % VCPU_TRACE];

	t->rip = rip;
	t->reason = index;
	vcpu->exit_counts[index]++;
}
