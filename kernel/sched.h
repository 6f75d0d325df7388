/* Which vCPU runs on which CPU, and when: docs/scheduling.md. */
#pragma once

#include "lib/types.h"

struct cpu;
struct vcpu;
struct vm;

#define SCHED_WEIGHT	100u /* the weight by which virtual time is real time */
#define SCHED_LATENCIES 6

/* The scheduler's part of a vCPU. It belongs to the CPU that has the vCPU. */
struct vcpu_sched {
	struct vcpu *next;    /* in a queue, or among the woken */
	u64 virtual;	      /* run time in host TSC ticks, by weight */
	u64 since, yield_tsc; /* it has been on its CPU; its last sched_give_way() */
	u64 wake_tsc;	      /* when it was woken, until it runs; else 0 */
	bool waits;	      /* in a queue; other CPUs may look */

	/* Host TSC ticks that it has run; during a turn, less the TSC at its begin: sched_ran(). */
	_Atomic u64 ran;
	/* For statistics: turns, waits of less than 10 us, 100 us, ... to run. */
	u64 switches;
	u32 latency[SCHED_LATENCIES];
};

/* A vCPU of a VM that has just been started gets the CPU that has the fewest. */
void sched_add(struct vcpu *vcpu);

/* Something has come for a vCPU that may be asleep. Any CPU. */
void sched_wake(struct vcpu *vcpu);

/* Its VM is paused or stopped: it leaves the queue without waiting for its turn. Any CPU. */
void sched_sweep(struct vcpu *vcpu);

/* It spins: one of its VM that waits for a CPU comes first. From an exit of it. */
void sched_give_way(struct vcpu *vcpu);

/* Host TSC ticks that it has run, its turn included that is not over yet. Any CPU. */
u64 sched_ran(const struct vcpu *vcpu);

/* Makes a CPU go through its loop once, whatever it does. Any CPU, any context but NMI. */
void sched_look(struct cpu *cpu);

/* The loop of every CPU once start-up is over. */
__noreturn void sched_loop(void);

/* Over when every CPU has passed the top of its loop: none uses what was out of reach before it. */
struct quiet {
	u32 passes[64]; /* of each CPU */
};

void sched_quiet_begin(struct quiet *quiet);
bool sched_quiet_over(const struct quiet *quiet);

/* kernel/guests.c: the last vCPU has left a stopped VM. On its CPU. */
void sched_vm_ended(struct vm *vm);
