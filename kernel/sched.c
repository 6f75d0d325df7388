/*
 * The scheduler; docs/scheduling.md has the rules. A CPU's queue is sorted by virtual time and
 * touched by that CPU alone. Others hand it vCPUs through `woken`, a list that grows by
 * compare-exchange. A vCPU is in one place at a time: in a queue, in such a list, running, or
 * asleep, when it belongs to who changes `asleep` to false. Only the CPU that has it moves it.
 */
#include "kernel/sched.h"

#include "kernel/backend.h"
#include "kernel/cpu.h"
#include "kernel/guest.h"
#include "kernel/host_io.h"
#include "kernel/smp.h"
#include "kernel/speculation.h"
#include "kernel/vm.h"
#include "lib/x86.h"

#define SLICE_NS   5000000ul
#define CREDIT_NS  SLICE_NS    /* that a sleeper keeps, at most */
#define PERIOD_NS  100000000ul /* of caps */
#define BALANCE_NS 100000000ul
#define YIELD_NS   1000000ul /* a vCPU's spinning is heard no more often */

static _Atomic u64 idle_cpus; /* bit: the CPU has nothing to run */

static void set_resched(struct cpu *cpu, bool value) {
	__atomic_store_n(&cpu->resched, value, __ATOMIC_SEQ_CST);
}

/* This CPU may be in an exit of the vCPU that it runs. */
void sched_look(struct cpu *cpu) {
	set_resched(cpu, true);
	if (cpu != this_cpu())
		smp_kick(cpu);
	else if (cpu->running)
		vcpu_request_self(cpu->running, REQ_LOOP);
}

static void slice_over(struct timer *timer) { set_resched(cpus[timer->cpu], true); }

static bool before(u64 a, u64 b) { return (s64)(a - b) < 0; }

/* ---- handing over ---- */

/* From any CPU: a vCPU that nobody has goes to its CPU. */
static void hand_over(struct vcpu *vcpu) {
	struct cpu *cpu = cpus[vcpu->cpu];
	struct vcpu *head = atomic_load(&cpu->woken);

	do vcpu->sched.next = head;
	while (!atomic_compare_exchange_weak(&cpu->woken, &head, vcpu));
	sched_look(cpu);
}

void sched_wake(struct vcpu *vcpu) {
	if (!atomic_exchange(&vcpu->asleep, false)) return;
	vcpu->sched.wake_tsc = time_tsc();
	hand_over(vcpu);
}

void sched_sweep(struct vcpu *vcpu) {
	struct cpu *cpu = cpus[vcpu->cpu];

	atomic_store(&cpu->sweep, true);
	sched_look(cpu);
}

/* The CPU in the mask, but for one, with the least in a counter of struct cpu; NULL: none is. */
static struct cpu *least(u64 mask, const struct cpu *but, size_t counter) {
#define COUNTED(cpu) atomic_load((_Atomic u32 *)(void *)((u8 *)(cpu) + counter))
	struct cpu *best = NULL, *cpu;

	for_each_cpu(cpu)
		if ((!but || cpu != but) && mask >> cpu->id & 1 &&
		    (!best || COUNTED(cpu) < COUNTED(best)))
			best = cpu;
	return best;
}

static struct cpu *least_loaded(u64 mask, const struct cpu *but) {
	return least(mask, but, offsetof(struct cpu, nr_ready));
}

static void belong(struct vcpu *vcpu, struct cpu *to) {
	guest_vcpu_move(vcpu, to->id);
	atomic_fetch_add(&to->nr_vcpus, 1);
	vcpu->cpu = to->id;
	hand_over(vcpu);
}

void sched_add(struct vcpu *vcpu) {
	u64 pin = atomic_load(&vcpu->vm->pin);

	vcpu->sched.virtual = 0;
	vcpu->sched.wake_tsc = 0;
	belong(vcpu, least(pin, NULL, offsetof(struct cpu, nr_vcpus)) ?: cpus[0]);
}

static void unload(struct cpu *cpu) {
	if (cpu->loaded) cpu->loaded->backend->put(cpu->loaded);
	cpu->loaded = NULL;
}

/* Moves a vCPU that is in this CPU's hands and in no queue. */
static void move(struct cpu *cpu, struct vcpu *vcpu, struct cpu *to) {
	if (cpu->loaded == vcpu) unload(cpu);
	vcpu->sched.virtual += atomic_load(&to->virtual) - atomic_load(&cpu->virtual);
	atomic_fetch_sub(&cpu->nr_vcpus, 1);
	belong(vcpu, to);
}

/* ---- the queue ---- */

static void count_ready(struct cpu *cpu, struct vcpu *vcpu, u32 more) {
	atomic_fetch_add(&cpu->nr_ready, more);
	atomic_fetch_add(&vcpu->vm->nr_ready, more);
}

static void enqueue(struct cpu *cpu, struct vcpu *vcpu) {
	struct vcpu **at = &cpu->queue;

	while (*at && !before(vcpu->sched.virtual, (*at)->sched.virtual)) at = &(*at)->sched.next;
	vcpu->sched.next = *at;
	*at = vcpu;
	vcpu->sched.waits = true;
	count_ready(cpu, vcpu, 1);
}

static void dequeue(struct cpu *cpu, struct vcpu *vcpu) {
	struct vcpu **at = &cpu->queue;

	while (*at != vcpu) at = &(*at)->sched.next;
	*at = vcpu->sched.next;
	vcpu->sched.waits = false;
	count_ready(cpu, vcpu, -1u);
}

/* Takes a vCPU of a stopped VM off this CPU for good. */
static void retire(struct cpu *cpu, struct vcpu *vcpu) {
	struct vm *vm = vcpu->vm;

	if (cpu->loaded == vcpu) unload(cpu);
	guest_vcpu_off(vcpu);
	atomic_fetch_sub(&cpu->nr_vcpus, 1);
	if (atomic_fetch_sub(&vm->active, 1) == 1) sched_vm_ended(vm);
}

static bool stopped(struct vcpu *vcpu) { return atomic_load(&vcpu->vm->state) == VM_STOPPED; }

/* Finds the place of a vCPU that is in this CPU's hands: a queue, sleep, or none any more. */
static void settle(struct cpu *cpu, struct vcpu *vcpu) {
	u64 pin = atomic_load(&vcpu->vm->pin);

	do {
		if (stopped(vcpu)) {
			retire(cpu, vcpu);
			return;
		}
		if (vcpu_runnable(vcpu)) {
			struct cpu *to = pin >> cpu->id & 1 ? NULL : least_loaded(pin, cpu);

			if (to)
				move(cpu, vcpu, to);
			else
				enqueue(cpu, vcpu);
			return;
		}
		atomic_store(&vcpu->asleep, true);
		/* What has come just before that found nobody asleep. */
	} while ((stopped(vcpu) || vcpu_runnable(vcpu)) && atomic_exchange(&vcpu->asleep, false));
}

static void take_woken(struct cpu *cpu) {
	struct vcpu *vcpu = atomic_exchange(&cpu->woken, NULL), *next;
	u64 earliest = atomic_load(&cpu->virtual) - ns_to_tsc(CREDIT_NS);

	for (; vcpu; vcpu = next) {
		next = vcpu->sched.next;
		if (before(vcpu->sched.virtual, earliest)) vcpu->sched.virtual = earliest;
		vcpu->sched.since = time_tsc();
		settle(cpu, vcpu);
	}
}

/* Those of VMs that are stopped or paused leave without waiting for their turn. */
static void sweep(struct cpu *cpu) {
	struct vcpu *vcpu = cpu->queue, *next;

	for (; vcpu; vcpu = next) {
		next = vcpu->sched.next;
		if (atomic_load(&vcpu->vm->state) == VM_RUNNING) continue;
		dequeue(cpu, vcpu);
		settle(cpu, vcpu);
	}
}

/* ---- balance ---- */

/* The one that has been here longest of those that may go to a CPU in the mask. */
static struct vcpu *oldest(const struct cpu *cpu, u64 mask) {
	struct vcpu *best = NULL;

	for (struct vcpu *v = cpu->queue; v; v = v->sched.next)
		if (atomic_load(&v->vm->pin) & mask &&
		    (!best || before(v->sched.since, best->sched.since)))
			best = v;
	return best;
}

/* Where one of those that wait here may go. */
static u64 ways_out(const struct cpu *cpu) {
	u64 mask = 0;

	for (const struct vcpu *v = cpu->queue; v; v = v->sched.next)
		mask |= atomic_load(&v->vm->pin);
	return mask;
}

/*
 * Several wait here. An idle CPU takes one at once. Otherwise, now and then, one goes to a CPU with
 * fewer, even if only by one: so three on two CPUs take turns at being alone.
 */
static void spread(struct cpu *cpu) {
	u64 now = time_tsc(), idle = atomic_load(&idle_cpus);
	struct vcpu *vcpu = idle ? oldest(cpu, idle) : NULL;
	struct cpu *to;

	if (vcpu) {
		to = least_loaded(idle & atomic_load(&vcpu->vm->pin), cpu);
		if (!to) return;
		atomic_fetch_and(&idle_cpus, ~BIT(to->id)); /* one is enough */
	} else {
		if (before(now, cpu->balance_at)) return;
		cpu->balance_at = now + ns_to_tsc(BALANCE_NS);
		to = least_loaded(ways_out(cpu), cpu);
		if (!to || atomic_load(&to->nr_ready) >= atomic_load(&cpu->nr_ready)) return;
		vcpu = oldest(cpu, BIT(to->id));
		if (!vcpu) return;
	}
	dequeue(cpu, vcpu);
	move(cpu, vcpu, to);
}

/* ---- caps ---- */

static u64 budget(const struct vm *vm) { return ns_to_tsc(PERIOD_NS) * vm->cap / 100; }

/* Ticks that a VM with a cap may still run in this period; with none left, *when is the next. */
static u64 allowance(struct vm *vm, u64 *when) {
	u64 now = time_tsc(), period = ns_to_tsc(PERIOD_NS);

	spin_guard(&vm->lock);
	u64 periods = (now - vm->period_start) / period;
	vm->period_start += periods * period;
	/* What was run too much is a debt to the next period. */
	vm->used -= min_u64(vm->used, periods ? min_u64(periods, 1000) * budget(vm) : 0);
	*when = vm->period_start + period;
	return budget(vm) - min_u64(vm->used, budget(vm));
}

static void charge(struct cpu *cpu, struct vcpu *vcpu, u64 ticks) {
	struct vm *vm = vcpu->vm;
	u64 now = atomic_load(&cpu->virtual);

	/* The weight is the VM's: those of its vCPUs that want to run share it. */
	vcpu->sched.virtual += ticks * SCHED_WEIGHT * atomic_load(&vm->nr_ready) / vm->weight;
	u64 first = vcpu->sched.virtual;
	if (cpu->queue && before(cpu->queue->sched.virtual, first))
		first = cpu->queue->sched.virtual;
	if (before(now, first)) atomic_store(&cpu->virtual, first);
	if (likely(!vm->cap)) return;
	spin_guard(&vm->lock);
	vm->used += ticks;
}

u64 sched_ran(const struct vcpu *vcpu) {
	u64 ran = atomic_load(&vcpu->sched.ran);

	/* Never has it run for longer than the machine: below 0, its turn goes on. */
	return (s64)ran < 0 ? ran + time_tsc() : ran;
}

/* ---- turns ---- */

void sched_give_way(struct vcpu *vcpu) {
	struct cpu *cpu = cpus[vcpu->cpu];
	u64 now = time_tsc();
	struct vcpu *other;

	if (before(now, vcpu->sched.yield_tsc + ns_to_tsc(YIELD_NS))) return;
	vcpu->sched.yield_tsc = now;
	for_each_vcpu(other, vcpu->vm) {
		if (!__atomic_load_n(&other->sched.waits, __ATOMIC_RELAXED)) continue;
		atomic_store(&cpus[other->cpu]->favoured, vcpu->vm);
		sched_look(cpus[other->cpu]);
	}
	if (!cpu->queue) return;
	cpu->yielder = vcpu;
	sched_look(cpu);
}

/*
 * The first in the queue whose VM's cap lets it run; *when: how long none can. One of a VM that
 * spins for it comes before, and the spinning one behind, as long as fairness bears it.
 */
static struct vcpu *pick(struct cpu *cpu, u64 *when, u64 *most) {
	const struct vm *favoured = atomic_exchange(&cpu->favoured, NULL);
	const struct vcpu *yielder = cpu->yielder;
	struct vcpu *best = NULL;
	u64 next, left = ~0ul, limit = 2 * ns_to_tsc(SLICE_NS);

	cpu->yielder = NULL;
	*when = TIMER_NEVER;
	for (struct vcpu *v = cpu->queue; v; v = v->sched.next) {
		if (best && before(best->sched.virtual + limit, v->sched.virtual)) break;
		left = v->vm->cap ? allowance(v->vm, &next) : ~0ul;
		if (!left) {
			*when = min_u64(*when, next);
			continue;
		}
		if (best && v->vm != favoured && best != yielder) continue;
		if (v == yielder && best) continue;
		best = v;
		*most = left;
		if (v->vm == favoured && v != yielder) break;
		if (!favoured && v != yielder) break;
	}
	return best;
}

static void count_latency(struct vcpu_sched *s, u64 now) {
	u64 us = tsc_to_ns(now - s->wake_tsc) / 1000;
	u32 i = 0;

	for (u64 limit = 10; us >= limit && i + 1 < SCHED_LATENCIES; limit *= 10) i++;
	s->latency[i]++;
	s->wake_tsc = 0;
}

static void run(struct cpu *cpu, struct vcpu *vcpu, u64 most) {
	u64 begin = time_tsc(), slice = min_u64(cpu->queue ? ns_to_tsc(SLICE_NS) : ~0ul, most);

	if (slice != ~0ul) timer_arm(&cpu->slice, begin + slice);
	if (cpu->loaded != vcpu) {
		unload(cpu);
		if (cpu->last_vm != vcpu->vm->serial) speculation_barrier();
		cpu->last_vm = vcpu->vm->serial;
		vcpu->backend->load(vcpu);
		cpu->loaded = vcpu;
		vcpu->sched.switches++;
	}
	if (vcpu->sched.wake_tsc) count_latency(&vcpu->sched, begin);
	cpu->running = vcpu;
	count_ready(cpu, vcpu, 1);
	atomic_fetch_sub(&vcpu->sched.ran, begin);
	vcpu_run(vcpu, &cpu->resched);
	u64 end = time_tsc();
	atomic_fetch_add(&vcpu->sched.ran, end);
	cpu->running = NULL;
	if (slice != ~0ul) timer_cancel(&cpu->slice);
	charge(cpu, vcpu, end - begin);
	count_ready(cpu, vcpu, -1u);
	settle(cpu, vcpu);
}

static void idle(struct cpu *cpu, u64 when) {
	if (when != TIMER_NEVER) timer_arm(&cpu->slice, when);
	atomic_fetch_or(&idle_cpus, BIT(cpu->id));
	cpu_sti_hlt_cli();
	atomic_fetch_and(&idle_cpus, ~BIT(cpu->id));
}

void sched_loop(void) {
	struct cpu *cpu = this_cpu();
	u64 when, most;

	timer_init(&cpu->slice, slice_over, cpu->id);
	for (;;) {
		cpu_irq_window();
		cpu_pass();
		timers_run();
		/* In this order: what comes from here on sets it again. */
		set_resched(cpu, false);
		host_io_run();
		take_woken(cpu);
		if (atomic_load(&cpu->sweep) && atomic_exchange(&cpu->sweep, false)) sweep(cpu);
		if (cpu->queue && cpu->queue->sched.next) spread(cpu);
		struct vcpu *vcpu = pick(cpu, &when, &most);
		if (vcpu) {
			dequeue(cpu, vcpu);
			run(cpu, vcpu, most);
		} else {
			idle(cpu, when);
		}
	}
}

/* ---- quiet periods ---- */

void sched_quiet_begin(struct quiet *quiet) {
	struct cpu *cpu;

	for_each_cpu(cpu) {
		quiet->passes[cpu->id] = atomic_load(&cpu->passes);
		smp_kick(cpu);
	}
}

bool sched_quiet_over(const struct quiet *quiet) {
	struct cpu *cpu;

	for_each_cpu(cpu)
		if (quiet->passes[cpu->id] == atomic_load(&cpu->passes)) return false;
	return true;
}
