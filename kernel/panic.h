/* The end: what a bug in Roost, never a guest, leads to. */
#pragma once

#include "kernel/traps.h"

struct cpu;

/* Prints the message and all that helps to find the cause, stops every CPU. Any context. */
__noreturn void panic(const char *fmt, ...) __format_printf(1, 2);

/* The same for an exception of the host. */
__noreturn void panic_trap(const struct trap_frame *frame);

/* An NMI: sent by a panicking CPU, which stops this one, or nobody's, which is counted. */
void panic_nmi(void);

/* Says what NMIs have come to this CPU; where no lock is held. */
void panic_report_nmis(struct cpu *cpu);
