/*
 * The scheduler: each CPU has a queue of vCPUs and runs them in turn; one that halts is passed over
 * until an event wakes it. Alone in its queue, a vCPU is never interrupted for a time slice.
 */
#include "kernel/sched.h"

#include "kernel/backend.h"
#include "kernel/cpu.h"
#include "kernel/guest.h"
#include "kernel/host_io.h"
#include "kernel/smp.h"
#include "kernel/vm.h"
#include "lib/error.h"
#include "lib/log.h"
#include "lib/x86.h"

#define SLICE_NS      5000000ul
#define QUIET_WARN_NS 1000000000ul

void (*sched_vm_ended)(struct vm *vm);

static void set_resched(struct cpu *cpu, bool value) {
	__atomic_store_n(&cpu->resched, value, __ATOMIC_SEQ_CST);
}

void sched_look(struct cpu *cpu) {
	set_resched(cpu, true);
	smp_kick(cpu);
}

int sched_add(struct vcpu *vcpu) {
	struct cpu *cpu = cpus[vcpu->cpu];
	int err = 0;

	spin_lock(&cpu->queue_lock);
	if (cpu->nr_queue == ARRAY_SIZE(cpu->queue))
		err = E_NOMEM;
	else
		cpu->queue[cpu->nr_queue++] = vcpu;
	spin_unlock(&cpu->queue_lock);
	if (!err) sched_look(cpu); /* who runs there alone has no time slice yet */
	return err;
}

static void remove_at(struct cpu *cpu, u32 index) {
	for (u32 i = index; i + 1 < cpu->nr_queue; i++) cpu->queue[i] = cpu->queue[i + 1];
	cpu->nr_queue--;
}

static void slice_over(struct timer *timer) { set_resched(cpus[timer->cpu], true); }

/* Takes a vCPU of a stopped VM off this CPU for good. */
static void retire(struct cpu *cpu, struct vcpu *vcpu) {
	struct vm *vm = vcpu->vm;

	if (cpu->loaded == vcpu) {
		vcpu->backend->put(vcpu);
		cpu->loaded = NULL;
	}
	guest_vcpu_off(vcpu);
	if (atomic_fetch_sub(&vm->active, 1) == 1) sched_vm_ended(vm);
}

/* The next vCPU that can run, in turn; NULL when all sleep. Retires those of stopped VMs. */
static struct vcpu *pick(struct cpu *cpu) {
	struct vcpu *retired = NULL;
	struct vcpu *found = NULL;

	spin_lock(&cpu->queue_lock);
	for (u32 i = 0; i < cpu->nr_queue && !found && !retired; i++) {
		u32 at = (cpu->next + i) % cpu->nr_queue;
		struct vcpu *vcpu = cpu->queue[at];

		if (atomic_load(&vcpu->vm->state) == VM_STOPPED) {
			remove_at(cpu, at);
			retired = vcpu;
		} else if (vcpu_runnable(vcpu)) {
			found = vcpu;
			cpu->next = at + 1;
		}
	}
	spin_unlock(&cpu->queue_lock);
	if (retired) {
		retire(cpu, retired);
		return pick(cpu);
	}
	return found;
}

static void switch_to(struct cpu *cpu, struct vcpu *vcpu) {
	if (cpu->loaded == vcpu) return;
	if (cpu->loaded) cpu->loaded->backend->put(cpu->loaded);
	vcpu->backend->load(vcpu);
	cpu->loaded = vcpu;
}

static void run(struct cpu *cpu, struct vcpu *vcpu) {
	bool shared = __atomic_load_n(&cpu->nr_queue, __ATOMIC_SEQ_CST) > 1;
	if (shared) timer_arm(&cpu->slice, time_tsc() + ns_to_tsc(SLICE_NS));
	switch_to(cpu, vcpu);
	cpu->running = vcpu;
	vcpu_run(vcpu, &cpu->resched);
	cpu->running = NULL;
	if (shared) timer_cancel(&cpu->slice);
}

void sched_quiet_begin(struct quiet *quiet) {
	struct cpu *cpu;

	quiet->begin = time_tsc();
	quiet->late = false;
	for_each_cpu(cpu) {
		quiet->passes[cpu->id] = atomic_load(&cpu->passes);
		smp_kick(cpu);
	}
}

bool sched_quiet_over(struct quiet *quiet) {
	struct cpu *cpu;

	for_each_cpu(cpu) {
		if (quiet->passes[cpu->id] != atomic_load(&cpu->passes)) continue;
		if (!quiet->late && time_tsc() - quiet->begin > ns_to_tsc(QUIET_WARN_NS))
			log_warn("CPU %u has not come by for a second", cpu->id);
		quiet->late |= time_tsc() - quiet->begin > ns_to_tsc(QUIET_WARN_NS);
		return false;
	}
	return true;
}

void sched_loop(void) {
	struct cpu *cpu = this_cpu();

	timer_init(&cpu->slice, slice_over, cpu->id);
	for (;;) {
		struct vcpu *vcpu;

		cpu_irq_window();
		cpu_pass();
		timers_run();
		/* In this order: what others want from here on sets it again. */
		set_resched(cpu, false);
		host_io_run();
		vcpu = pick(cpu);
		if (vcpu)
			run(cpu, vcpu);
		else
			cpu_sti_hlt_cli();
	}
}
