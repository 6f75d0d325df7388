/* Exceptions and interrupts of the host: vectors, frames, handlers. */
#pragma once

#include "lib/types.h"

/* Fixed vectors, highest first; priority follows the vector's upper half (SDM 3A 11.8.3). */
#define VEC_SPURIOUS 0xff
#define VEC_TIMER    0xf1 /* LAPIC timer: a deadline of this CPU has come */
#define VEC_KICK     0xf0 /* leave the guest, or idle, and look at what others want */
#define VEC_DEVICE0  0x30 /* first of 16 for devices (drivers/ioapic.c) */

/* What traps.S pushes, lowest address first. */
struct trap_frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8;
	u64 rbp, rdi, rsi, rdx, rcx, rbx, rax;
	u64 vector, error;
	u64 rip, cs, rflags, rsp, ss;
};

/* The handler of a vector, 32 and up: with interrupts off, after the EOI. */
void irq_install(u8 vector, void (*fn)(void));

/* Called by traps.S. */
void trap_dispatch(struct trap_frame *frame);

/* Leaves the current stack for good and calls fn on another one (traps.S). */
__noreturn void call_on_stack(u64 stack_top, void (*fn)(void));

/* Fills the IDT; cpu_early_init() and cpu_init_this() load it. */
void traps_init(void);

/* IDTR image: limit and base. */
struct descriptor_pointer {
	u16 limit;
	u64 base;
} __packed;

extern struct descriptor_pointer idt_pointer;
