/* Hardware task switches, for a processor that leaves them to its hypervisor. */
#pragma once

#include "kernel/vcpu.h"

enum task_source { TASK_CALL, TASK_IRET, TASK_JMP, TASK_GATE }; /* numbers of SDM 3C table 27-2 */

struct task_switch {
	u16 selector; /* of the new TSS */
	enum task_source source;
	bool external;	/* an event's and no instruction's: EXT in error codes */
	bool has_error; /* of an exception: it goes onto the new task's stack */
	u32 error;
	u64 rip; /* where the old task goes on */
};

/*
 * Switches. 0: done, or an exception is queued instead, or on top of it. The exception that came to
 * a task gate is in vcpu->exception before: one more makes #DF of it, else it has been delivered.
 * E_BUSY: nothing has been done, other vCPUs kept changing tables; enter again.
 */
int task_switch(struct vcpu *vcpu, const struct task_switch *to) __must_check;
