/*
 * The virtual machine: its vCPUs, its memory, and the platform (virtual PC) that belongs to it.
 */
#pragma once

#include "kernel/vcpu.h"
#include "lib/spinlock.h"

#define VM_NAME_MAX  32
#define VM_MAX_VCPUS 64

struct gmem;
struct platform;
struct cpu_model;

enum vm_state { VM_CREATED, VM_RUNNING, VM_PAUSED, VM_STOPPED };

/* How a VM ended, kept for the one who started it. */
enum vm_end {
	VM_END_NONE,
	VM_END_POWEROFF,
	VM_END_RESET,
	VM_END_DEBUG_EXIT,
	VM_END_CRASH,
	VM_END_STOP, /* from outside */
};

#define CONSOLE_SCROLLBACK 65536u
#define CONSOLE_INPUT	   4096u

struct vm_line { /* its beginning */
	u32 len;
	char at[80];
};

/* Its serial line (kernel/host_io.c). */
struct vm_console {
	struct spinlock lock; /* guards the rest */
	u64 written, shown;   /* ever; of the attached guest's, on the consoles */
	struct vm_line line;  /* of what it writes while it is not attached */
	struct vm_line log;   /* of what it writes to Roost's log */
	u32 head, tail;	      /* of what waits to be read by it; modulo 2^32 */
	u8 input[CONSOLE_INPUT];
	char *scrollback; /* the last CONSOLE_SCROLLBACK bytes that it wrote */
};

struct vm {
	char name[VM_NAME_MAX];
	u64 serial; /* no other VM has had it; never 0 */
	u32 nr_vcpus;
	struct vcpu *vcpus[VM_MAX_VCPUS];
	struct gmem *gmem;
	struct platform *platform;	   /* devices, buses, interrupt routing */
	const struct cpu_model *cpu_model; /* what CPUID, MSRs and CR bits derive from */
	_Atomic u32 state;		   /* enum vm_state */
	_Atomic u32 active;		   /* vCPUs that are still in a CPU's queue */
	_Atomic u32 end;		   /* enum vm_end */
	u32 debug_exit_value;		   /* what the guest wrote to port 0xF4 */
	u32 stop_vcpu;			   /* whose stop_reason it is */
	char stop_reason[160];
	struct spinlock lock; /* guards stop_reason and what the cap has used */
	struct vm_console console;
	u64 boot_tsc; /* host TSC when the VM was started or reset */
	/* Of the host's TSC to the guest's, TSC_FRACTION bits of it a fraction; 0: none. */
	u64 tsc_multiplier;

	/* For the scheduler. weight is never 0; cap: percent of a CPU, 0: none; pin: CPUs. */
	_Atomic u32 nr_ready; /* vCPUs that run or wait for a CPU */
	u32 weight, cap;
	_Atomic u64 pin;
	u64 period_start, used; /* of the cap; guarded by lock */
};

#define TSC_FRACTION 48 /* as VMX has it (SDM 3C 24.6.5) */

static inline u64 tsc_scale(u64 tsc, u64 multiplier) {
	return (u64)((unsigned __int128)tsc * multiplier >> TSC_FRACTION);
}

/* Ticks of the host's TSC as ticks of the guest's, and back, then never too few. */
static inline u64 vm_tsc(const struct vm *vm, u64 host) {
	return likely(!vm->tsc_multiplier) ? host : tsc_scale(host, vm->tsc_multiplier);
}

static inline u64 vm_host_tsc(const struct vm *vm, u64 guest) {
	return likely(!vm->tsc_multiplier)
		       ? guest
		       : mul_div(guest, 1ul << TSC_FRACTION, vm->tsc_multiplier) + 1;
}

#define for_each_vcpu(vcpu, vm) \
	for (u32 i_ = 0; i_ < (vm)->nr_vcpus && ((vcpu) = (vm)->vcpus[i_], 1); i_++)

/* Ends the VM, from inside one of its exits or from outside. Any CPU; the first one counts. */
void vm_end(struct vm *vm, enum vm_end how);
