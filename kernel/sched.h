/* Which vCPU runs on which CPU: one queue a CPU, round robin with a time slice. */
#pragma once

#include "lib/types.h"

struct vcpu;
struct vm;

#define SCHED_QUEUE 64 /* vCPUs that one CPU can have */

/* Puts a vCPU, with its cpu field set, into that CPU's queue. E_NOMEM when the queue is full. */
int sched_add(struct vcpu *vcpu) __must_check;

/* The loop of every CPU once start-up is over. */
__noreturn void sched_loop(void);

/* Called by the last vCPU that leaves a stopped VM, on its CPU; set by main. */
extern void (*sched_vm_ended)(struct vm *vm);
