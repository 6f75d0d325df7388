/*
 * What the kernel asks of the platform, which lies above it: interrupts for a vCPU, and what its
 * virtual PC does when it is reset or has ended. Implemented in platform/lapic.c,
 * platform/kvm_pv.c and platform/platform.c.
 */
#pragma once

#include "lib/types.h"

struct vcpu;
struct vm;

/* Next interrupt for this vCPU without accepting it: its vector, or -1. An external (PIC) one comes
 * before the local APIC's. Does not look at RFLAGS.IF. */
int irq_next(struct vcpu *vcpu);

/* True: the processor itself delivers the next one, from what backend->lend_apic() gives it. */
bool irq_by_processor(struct vcpu *vcpu);

/* Accepts the next interrupt, as the processor's acknowledge cycle does, and returns its vector, or
 * -1 when a PIC line has dropped since irq_next(). The vector may differ from irq_next()'s. */
int irq_accept(struct vcpu *vcpu);

/* Around the two: what a paravirtual EOI left to do, and the offer of the next one. */
void guest_before_events(struct vcpu *vcpu);
void guest_after_accept(struct vcpu *vcpu);

/* True once after another vCPU has asked to end this one's HLT. */
bool guest_take_kick(struct vcpu *vcpu);

/* REQ_CLOCK: rewrite the paravirtual clock. */
void guest_clock_update(struct vcpu *vcpu);

/* The parts of a vCPU that INIT resets: local APIC, paravirtual EOI. */
void guest_vcpu_init(struct vcpu *vcpu);

/* The vCPU leaves the schedulers: its own timer stops. On the CPU that ran it. */
void guest_vcpu_off(struct vcpu *vcpu);

/* It goes to another CPU: its timer as well. On the CPU that has it, or before it runs. */
void guest_vcpu_move(struct vcpu *vcpu, u32 cpu);

/* The other way round: what the platform's clocks ask for. Unix time, UTC, in ns. */
u64 platform_wall_clock_ns(void);
