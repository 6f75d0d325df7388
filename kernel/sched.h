/* Which vCPU runs on which CPU: one queue a CPU, round robin with a time slice. */
#pragma once

#include "lib/types.h"

struct vcpu;
struct vm;

#define SCHED_QUEUE 64 /* vCPUs that one CPU can have */

/* Puts a vCPU, with its cpu field set, into that CPU's queue. E_NOMEM when the queue is full. */
int sched_add(struct vcpu *vcpu) __must_check;

/* Makes a CPU go through its loop once, whatever it does. Any CPU, any context but NMI. */
struct cpu;
void sched_look(struct cpu *cpu);

/* The loop of every CPU once start-up is over. */
__noreturn void sched_loop(void);

/*
 * A quiet period: sched_quiet_over() is true when every CPU has passed the top of its loop since
 * sched_quiet_begin(), so that none uses any more what was out of its reach then.
 */
struct quiet {
	u32 passes[64]; /* of each CPU */
	u64 begin;	/* host TSC */
	bool late;	/* and reported */
};

void sched_quiet_begin(struct quiet *quiet);
bool sched_quiet_over(struct quiet *quiet);

/* Called by the last vCPU that leaves a stopped VM, on its CPU; set by main. */
extern void (*sched_vm_ended)(struct vm *vm);
