// sources: kernel/sched.c
/*
 * The scheduler on simulated CPUs: each is a thread that runs sched_loop(), one at a time, a tick
 * of the clock each. What vCPUs do is a table: they spin, or run for a while and sleep for a while.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "kernel/backend.h"
#include "kernel/cpu.h"
#include "kernel/guest.h"
#include "kernel/host_io.h"
#include "kernel/sched.h"
#include "kernel/smp.h"
#include "kernel/speculation.h"
#include "kernel/vm.h"
#include "lib/x86.h"

#define NR_CPUS	 3
#define NR_VMS	 5
#define PER_VM	 2
#define NR_VCPUS (NR_VMS * PER_VM)
#define US	 1000ul
#define MS	 1000000ul
#define SECOND	 1000000000ul

struct task {
	u64 burst, sleep; /* ns; burst 0: spins for ever */
	u64 until;	  /* what is left of the burst */
	u64 wake_at, woken_at;
	u64 ran[NR_CPUS], worst; /* ns on each CPU, worst latency */
	bool halted, off;
	u32 timer_cpu;
};

static struct cpu host[NR_CPUS];
struct cpu *cpus[MAX_CPUS] = {&host[0], &host[1], &host[2]};
u32 nr_cpus;
static struct vm vms[NR_VMS];
static struct vcpu vcpus[NR_VCPUS];
static struct task tasks[NR_VCPUS];
static const struct vcpu *holder[NR_VCPUS]; /* the CPU that has its registers, plus one */
static u64 now, tick;
static unsigned ended, kicks, hlts, rounds, barriers;
static struct vcpu *late_event; /* gets an event right after it was found not to be runnable */

static bool kicked[NR_CPUS];
static ucontext_t loops[NR_CPUS], outside;
static u8 stacks[NR_CPUS][256 * 1024] __aligned(64);
static struct cpu *me; /* NULL: outside of all */

struct cpu *this_cpu(void) {
	static struct cpu nowhere;

	return me ? me : &nowhere;
}

/* ---- what the scheduler stands on ---- */

u64 time_tsc(void) { return now; }

u64 ns_to_tsc(u64 ns) { return ns; }

u64 tsc_to_ns(u64 ticks) { return ticks; }

void timer_init(struct timer *timer, void (*fn)(struct timer *timer), u32 cpu) {
	*timer = (struct timer){.deadline = TIMER_NEVER, .fn = fn, .cpu = cpu};
}

void timer_arm(struct timer *timer, u64 deadline) { timer->deadline = deadline; }

void timer_cancel(struct timer *timer) { timer->deadline = TIMER_NEVER; }

void timers_run(void) {
	struct timer *slice = &this_cpu()->slice;

	if (slice->deadline > now) return;
	slice->deadline = TIMER_NEVER;
	slice->fn(slice);
}

void smp_kick(struct cpu *cpu) {
	if (cpu == this_cpu()) return;
	kicks++;
	kicked[cpu->id] = true;
}

/* A loop that neither runs a vCPU nor sleeps would go on for ever. */
void cpu_irq_window(void) {
	if (++rounds > 1000) abort();
}

void host_io_run(void) {}

static void end_of_tick(void) {
	const struct cpu *cpu = me;

	rounds = 0;
	swapcontext(&loops[cpu->id], &outside);
}

static void go_on(struct cpu *cpu) {
	me = cpu;
	swapcontext(&outside, &loops[cpu->id]);
	me = NULL;
}

void cpu_sti_hlt_cli(void) {
	hlts++;
	end_of_tick();
}

void speculation_barrier(void) { barriers++; }

static struct task *task_of(const struct vcpu *vcpu) { return &tasks[vcpu - vcpus]; }

bool vcpu_runnable(struct vcpu *vcpu) {
	bool can = atomic_load(&vcpu->vm->state) == VM_RUNNING && !task_of(vcpu)->halted;

	assert_ptr_equal(cpus[vcpu->cpu], me);
	if (vcpu == late_event) {
		late_event = NULL;
		task_of(vcpu)->halted = false;
		sched_wake(vcpu);
	}
	return can;
}

void guest_vcpu_off(struct vcpu *vcpu) { task_of(vcpu)->off = true; }

void guest_vcpu_move(struct vcpu *vcpu, u32 cpu) {
	if (me) assert_ptr_equal(cpus[vcpu->cpu], me); /* the one that has it moves it */
	assert_null(holder[vcpu - vcpus]);
	task_of(vcpu)->timer_cpu = cpu;
}

void vcpu_run(struct vcpu *vcpu, const bool *resched) {
	struct task *task = task_of(vcpu);

	assert_ptr_equal(me->running, vcpu);
	assert_ptr_equal(me->loaded, vcpu);
	assert_int_equal(vcpu->cpu, me->id);
	assert_int_equal(task->timer_cpu, me->id);
	if (task->woken_at && now - task->woken_at > task->worst)
		task->worst = now - task->woken_at;
	task->woken_at = 0;
	/* The guest leaves for a timer, a kick or a request to itself, and for nothing else. */
	while (!*resched) {
		do {
			end_of_tick();
			task->ran[me->id] += tick;
			if (task->burst && task->until <= tick) break;
			if (task->burst) task->until -= tick;
		} while (me->slice.deadline > now && !kicked[me->id] &&
			 !atomic_load(&vcpu->requests));
		kicked[me->id] = false;
		atomic_store(&vcpu->requests, 0);
		timers_run();
		if (!task->burst || task->until > tick) continue;
		task->until = task->burst;
		task->wake_at = now + task->sleep;
		task->halted = true;
		return;
	}
}

static void load(struct vcpu *vcpu) {
	assert_null(holder[vcpu - vcpus]);
	holder[vcpu - vcpus] = vcpu;
}

static void put(struct vcpu *vcpu) {
	assert_ptr_equal(me->loaded, vcpu);
	assert_non_null(holder[vcpu - vcpus]);
	holder[vcpu - vcpus] = NULL;
}

static const struct backend fake_backend = {.load = load, .put = put};

void sched_vm_ended(struct vm *vm) {
	assert_int_equal(atomic_load(&vm->active), 0);
	ended++;
}

/* ---- the simulation ---- */

static void prepare_stack(ucontext_t *loop, u8 *stack) {
	getcontext(loop);
	loop->uc_stack.ss_sp = stack;
	loop->uc_stack.ss_size = sizeof(stacks[0]);
	makecontext(loop, sched_loop, 0);
}

static void begin(u32 nr, u64 tick_ns) {
	memset(host, 0, sizeof(host));
	memset(vms, 0, sizeof(vms));
	memset(vcpus, 0, sizeof(vcpus));
	memset(tasks, 0, sizeof(tasks));
	memset(holder, 0, sizeof(holder));
	memset(kicked, 0, sizeof(kicked));
	nr_cpus = nr;
	now = SECOND;
	tick = tick_ns;
	ended = kicks = hlts = rounds = barriers = 0;
	for (u32 i = 0; i < NR_VMS; i++) {
		vms[i].serial = i + 1;
		vms[i].weight = SCHED_WEIGHT;
		atomic_store(&vms[i].pin, ~0ul);
	}
	for (u32 i = 0; i < NR_VCPUS; i++) {
		vcpus[i].id = i % PER_VM;
		vcpus[i].vm = &vms[i / PER_VM];
		vcpus[i].backend = &fake_backend;
	}
	for (u32 i = 0; i < nr; i++) {
		host[i].id = i;
		prepare_stack(&loops[i], stacks[i]);
	}
}

/* Starts a VM with its first n vCPUs. */
static void start(u32 vm, u32 n) {
	vms[vm].nr_vcpus = n;
	atomic_store(&vms[vm].active, n);
	atomic_store(&vms[vm].state, VM_RUNNING);
	for (u32 i = 0; i < n; i++) {
		struct vcpu *vcpu = &vcpus[vm * PER_VM + i];

		vms[vm].vcpus[i] = vcpu;
		sched_add(vcpu);
	}
}

static void sleeper(u32 vcpu, u64 burst, u64 sleep) {
	tasks[vcpu].burst = tasks[vcpu].until = burst;
	tasks[vcpu].sleep = sleep;
}

static void wake(u32 i) {
	tasks[i].halted = false;
	tasks[i].woken_at = now;
	sched_wake(&vcpus[i]);
}

static void simulate(u64 ns) {
	for (u64 stop = now + ns; now < stop; now += tick) {
		for (u32 i = 0; i < NR_VCPUS; i++)
			if (tasks[i].halted && tasks[i].burst && tasks[i].wake_at <= now) wake(i);
		for (u32 i = 0; i < nr_cpus; i++) go_on(&host[i]);
	}
}

static u64 ran(u32 vcpu) { return tasks[vcpu].ran[0] + tasks[vcpu].ran[1] + tasks[vcpu].ran[2]; }

static void forget_times(void) {
	for (u32 i = 0; i < NR_VCPUS; i++) memset(tasks[i].ran, 0, sizeof(tasks[i].ran));
}

/* Within 5 percent. */
static void assert_near(u64 got, u64 expected) {
	assert_in_range(got, expected * 95 / 100, expected * 105 / 100);
}

/* ---- tests ---- */

static void test_equal_shares_of_one_cpu(void **state) {
	(void)state;
	begin(1, 500 * US);
	for (u32 i = 0; i < 3; i++) start(i, 1);
	simulate(3 * SECOND);
	for (u32 i = 0; i < 3; i++) {
		assert_near(ran(i * PER_VM), SECOND);
		assert_near(sched_ran(&vcpus[i * PER_VM]), SECOND);
		assert_in_range(vcpus[i * PER_VM].sched.switches, 190, 210); /* of 5 ms */
	}
}

/* A turn that nothing ends counts all the same. */
static void test_a_turn_without_end(void **state) {
	(void)state;
	begin(2, 500 * US);
	start(0, 1);
	simulate(3 * SECOND);
	assert_int_equal(vcpus[0].sched.switches, 1);
	assert_near(sched_ran(&vcpus[0]), 3 * SECOND);
}

static void test_shares_by_weight(void **state) {
	static const u32 weights[] = {50, 100, 250};

	(void)state;
	begin(1, 500 * US);
	for (u32 i = 0; i < 3; i++) {
		vms[i].weight = weights[i];
		start(i, 1);
	}
	simulate(8 * SECOND);
	for (u32 i = 0; i < 3; i++) assert_near(ran(i * PER_VM), weights[i] * SECOND / 50);
	/* A change counts from now on. */
	vms[0].weight = 250;
	forget_times();
	simulate(6 * SECOND);
	assert_near(ran(0), 2500 * MS);
	assert_near(ran(2), 1000 * MS);
}

/* The weight is the VM's, however many vCPUs want to run: one that has two gets no more for it. */
static void test_the_weight_is_the_vms(void **state) {
	(void)state;
	begin(1, 500 * US);
	start(0, 2);
	start(1, 1);
	simulate(4 * SECOND);
	assert_near(ran(0) + ran(1), 2 * SECOND);
	assert_near(ran(PER_VM), 2 * SECOND);
	/* One that sleeps leaves its part to the other one of its VM. */
	sleeper(1, MS, 10 * SECOND);
	simulate(100 * MS);
	forget_times();
	simulate(4 * SECOND);
	assert_near(ran(0), 2 * SECOND);
	assert_near(ran(PER_VM), 2 * SECOND);
}

static void test_four_guests_of_two_on_two_cpus(void **state) {
	(void)state;
	begin(2, 500 * US);
	for (u32 i = 0; i < 4; i++) start(i, 2);
	simulate(10 * SECOND);
	for (u32 i = 0; i < 4; i++) assert_near(ran(i * PER_VM) + ran(i * PER_VM + 1), 5 * SECOND);
}

/* Three on two CPUs take turns at being alone. */
static void test_three_on_two_cpus(void **state) {
	(void)state;
	begin(2, 500 * US);
	for (u32 i = 0; i < 3; i++) start(i, 1);
	simulate(12 * SECOND);
	for (u32 i = 0; i < 3; i++) assert_near(ran(i * PER_VM), 8 * SECOND);
}

static void test_cap(void **state) {
	(void)state;
	begin(2, 500 * US);
	vms[0].cap = 25; /* alone on its CPU, which sleeps for the rest */
	atomic_store(&vms[0].pin, BIT(0));
	start(0, 1);
	vms[1].cap = 60; /* beside one without */
	atomic_store(&vms[1].pin, BIT(1));
	atomic_store(&vms[2].pin, BIT(1));
	vms[1].weight = 1000;
	start(1, 1);
	start(2, 1);
	simulate(4 * SECOND);
	assert_near(ran(0), SECOND);
	assert_near(ran(PER_VM), 2400 * MS);
	assert_near(ran(2 * PER_VM), 1600 * MS);
	assert_in_range(hlts, 5000, 7000);
}

/* The cap is the VM's, on however many CPUs. */
static void test_cap_of_two_vcpus(void **state) {
	(void)state;
	begin(2, 500 * US);
	vms[0].cap = 120;
	start(0, 2);
	simulate(4 * SECOND);
	assert_near(ran(0) + ran(1), 4800 * MS);
	vms[0].cap = 0;
	forget_times();
	simulate(SECOND);
	assert_near(ran(0) + ran(1), 2 * SECOND);
}

/* What a turn overruns is a debt of the next period. */
static void test_cap_is_exact_in_the_long_run(void **state) {
	(void)state;
	begin(1, 2 * MS);
	vms[0].cap = 3;
	start(0, 1);
	simulate(10 * SECOND);
	assert_near(ran(0), 300 * MS);
}

/* One that sleeps mostly runs at once when it wakes, though two others are busy. */
static void test_waking(void **state) {
	(void)state;
	begin(1, 100 * US);
	start(0, 1);
	start(1, 1);
	sleeper(2 * PER_VM, 200 * US, 7 * MS);
	start(2, 1);
	simulate(3 * SECOND);
	assert_true(tasks[2 * PER_VM].worst <= MS);
	assert_true(ran(2 * PER_VM) > 60 * MS);
	const u32 *latency = vcpus[2 * PER_VM].sched.latency;
	assert_true(latency[0] + latency[1] + latency[2] > 300);
	assert_int_equal(latency[3] + latency[4] + latency[5], 0);
	/* And costs the others no more than it takes. */
	assert_near(ran(0), ran(PER_VM));
}

/* Sleep earns no more than a slice: who has slept for long does not keep the others waiting. */
static void test_sleep_is_not_saved_up(void **state) {
	(void)state;
	begin(1, 500 * US);
	start(0, 1);
	sleeper(PER_VM, 2 * MS, 5 * SECOND);
	start(1, 1);
	simulate(3 * SECOND);
	tasks[PER_VM].burst = 0; /* spins from here on */
	forget_times();
	wake(PER_VM);
	simulate(100 * MS);
	assert_in_range(ran(0), 42 * MS, 51 * MS);
}

static void test_pin(void **state) {
	(void)state;
	begin(2, 500 * US);
	atomic_store(&vms[0].pin, BIT(1));
	for (u32 i = 0; i < 3; i++) start(i, 2);
	simulate(SECOND);
	assert_int_equal(tasks[0].ran[0] + tasks[1].ran[0], 0);
	assert_true(tasks[0].ran[1] > 100 * MS);
	/* To elsewhere while it runs, and one that is asleep goes when it wakes. */
	tasks[1].burst = tasks[1].until = MS;
	tasks[1].sleep = 50 * MS;
	simulate(20 * MS);
	atomic_store(&vms[0].pin, BIT(0));
	simulate(100 * MS);
	forget_times();
	simulate(SECOND);
	assert_int_equal(tasks[0].ran[1] + tasks[1].ran[1], 0);
	assert_true(tasks[0].ran[0] > 100 * MS && tasks[1].ran[0] > 5 * MS);
	/* A mask of CPUs that are not there changes nothing. */
	atomic_store(&vms[0].pin, BIT(40));
	simulate(100 * MS);
	assert_int_equal(vcpus[0].cpu, 0);
}

/* Two of three CPUs are shared evenly, although the third one, where nobody may go, is idle. */
static void test_balance_beside_a_forbidden_cpu(void **state) {
	(void)state;
	begin(3, 500 * US);
	for (u32 i = 0; i < 4; i++) {
		atomic_store(&vms[i].pin, BIT(1));
		start(i, 2);
	}
	simulate(100 * MS);
	assert_int_equal(atomic_load(&host[1].nr_vcpus), 8);
	for (u32 i = 0; i < 4; i++) atomic_store(&vms[i].pin, BIT(1) | BIT(2));
	simulate(SECOND);
	forget_times();
	simulate(10 * SECOND);
	assert_int_equal(atomic_load(&host[0].nr_vcpus), 0);
	for (u32 i = 0; i < 4 * PER_VM; i++) assert_near(ran(i), 10 * SECOND / 4);
	for (u32 i = 0; i < 4; i++) atomic_store(&vms[i].pin, ~0ul);
	simulate(SECOND);
	forget_times();
	simulate(10 * SECOND);
	for (u32 i = 0; i < 4 * PER_VM; i++) assert_near(ran(i), 10 * SECOND * 3 / 8);
}

/* An idle CPU takes one of two, within a slice. */
static void test_idle_cpu_takes_one(void **state) {
	(void)state;
	begin(2, 500 * US);
	start(0, 1);
	start(1, 1);
	for (u32 round = 0; round < 10; round++) {
		for (u32 i = 0; i < 2; i++) {
			atomic_store(&vms[i].pin, BIT(0));
			sched_sweep(&vcpus[i * PER_VM]);
		}
		simulate((100 + 13 * round) * MS);
		assert_int_equal(vcpus[0].cpu + vcpus[PER_VM].cpu, 0);
		atomic_store(&vms[0].pin, ~0ul);
		simulate(6 * MS);
		assert_int_equal(vcpus[0].cpu, 1);
	}
	forget_times();
	simulate(SECOND);
	assert_near(ran(0), SECOND);
	assert_near(ran(PER_VM), SECOND);
	assert_int_equal(atomic_load(&host[0].nr_vcpus), 1);
	assert_int_equal(atomic_load(&host[1].nr_vcpus), 1);
}

static void stop(u32 vm) {
	atomic_store(&vms[vm].state, VM_STOPPED);
	for (u32 i = 0; i < vms[vm].nr_vcpus; i++) {
		struct vcpu *vcpu = vms[vm].vcpus[i];

		/* As vcpu_request() does. */
		if (atomic_load(&vcpu->asleep))
			sched_wake(vcpu);
		else
			sched_sweep(vcpu);
	}
}

/* Between two VMs there is always a barrier, between two vCPUs of one there is none. */
static void test_barriers(void **state) {
	(void)state;
	begin(1, 500 * US);
	start(0, 2);
	simulate(SECOND);
	assert_in_range(vcpus[1].sched.switches, 90, 110);
	assert_int_equal(barriers, 1);

	begin(1, 500 * US);
	start(0, 1);
	start(1, 1);
	simulate(SECOND);
	assert_int_equal(barriers, vcpus[0].sched.switches + vcpus[PER_VM].sched.switches);

	/* A new one where another was. */
	begin(1, 500 * US);
	start(0, 1);
	simulate(SECOND);
	stop(0);
	simulate(SECOND);
	assert_int_equal(ended, 1);
	vms[0].serial = 7;
	start(0, 1);
	simulate(SECOND);
	assert_int_equal(barriers, 2);
}

/* Whatever its vCPUs do, they are gone in a moment, also when others would have come first. */
static void test_removal_under_load(void **state) {
	(void)state;
	begin(2, 500 * US);
	for (u32 i = 0; i < 5; i++) start(i, 2);
	sleeper(1, 500 * US, 20 * MS);
	vms[1].weight = 1;
	simulate(SECOND);
	for (u32 round = 0; round < 20; round++) {
		simulate(round * MS / 2);
		for (u32 vm = 0; vm < 2; vm++) {
			tasks[vm * PER_VM].off = tasks[vm * PER_VM + 1].off = false;
			stop(vm);
			simulate(MS);
			assert_int_equal(ended, round * 2 + vm + 1);
			assert_true(tasks[vm * PER_VM].off && tasks[vm * PER_VM + 1].off);
			assert_null(holder[vm * PER_VM]);
			assert_null(holder[vm * PER_VM + 1]);
			u64 before = ran(vm * PER_VM);
			simulate(10 * MS);
			assert_int_equal(ran(vm * PER_VM), before);
		}
		for (u32 vm = 0; vm < 2; vm++) {
			atomic_store(&vms[vm].active, 2);
			atomic_store(&vms[vm].state, VM_RUNNING);
			for (u32 i = 0; i < 2; i++) {
				tasks[vm * PER_VM + i].halted = false;
				sched_add(&vcpus[vm * PER_VM + i]);
			}
		}
	}
	for (u32 i = 0; i < NR_VMS; i++) stop(i);
	simulate(MS);
	assert_int_equal(ended, 40 + NR_VMS);
	hlts = 0;
	simulate(100 * MS);
	assert_int_equal(hlts, 2 * 200); /* once a tick and CPU: each sleeps */
}

static void test_pause_and_resume(void **state) {
	(void)state;
	begin(1, 500 * US);
	start(0, 2);
	start(1, 1);
	simulate(100 * MS);
	atomic_store(&vms[0].state, VM_PAUSED);
	for (u32 i = 0; i < 2; i++) sched_sweep(&vcpus[i]);
	simulate(MS);
	forget_times();
	simulate(100 * MS);
	assert_int_equal(ran(0) + ran(1), 0);
	assert_near(ran(PER_VM), 100 * MS);
	assert_int_equal(ended, 0);
	atomic_store(&vms[0].state, VM_RUNNING);
	for (u32 i = 0; i < 2; i++) sched_wake(&vcpus[i]);
	forget_times();
	simulate(300 * MS);
	for (u32 i = 0; i < 2; i++) assert_in_range(ran(i), 67 * MS, 83 * MS);
	assert_in_range(ran(PER_VM), 140 * MS, 160 * MS);
}

/* With everyone asleep a CPU wakes for nothing but an event. */
static void test_idle(void **state) {
	(void)state;
	begin(2, 500 * US);
	for (u32 i = 0; i < 4; i++) {
		sleeper(i * PER_VM, 500 * US, 30 * SECOND);
		start(i, 1);
	}
	simulate(100 * MS);
	hlts = kicks = 0;
	simulate(SECOND);
	assert_int_equal(hlts, 2 * 2000);
	assert_int_equal(kicks, 0);
	assert_int_equal(host[0].slice.deadline, TIMER_NEVER);
	wake(0);
	simulate(MS);
	assert_true(tasks[0].worst <= 500 * US);
}

/* An event that comes when a vCPU has just been found to have none is not lost. */
static void test_no_wake_up_is_lost(void **state) {
	(void)state;
	begin(1, 500 * US);
	sleeper(0, MS, 1000 * SECOND);
	start(0, 1);
	simulate(MS / 2);
	late_event = &vcpus[0];
	tasks[0].until = tick; /* falls asleep in the next tick */
	simulate(MS);
	assert_null(late_event);
	forget_times();
	simulate(MS);
	assert_true(ran(0) > 0);
}

/* The one that runs alone, and so for ever, wakes another one of its CPU from an exit. */
static void test_waking_from_an_exit(void **state) {
	(void)state;
	begin(1, 100 * US);
	sleeper(1, 200 * US, 1000 * SECOND);
	start(0, 2);
	simulate(100 * MS);
	assert_ptr_equal(host[0].running, &vcpus[0]);
	me = &host[0];
	wake(1);
	me = NULL;
	simulate(MS);
	assert_true(tasks[1].worst <= 200 * US);
	assert_in_range(ran(1), 300 * US, 400 * US);
}

/* Who spins lets one of its own VM run, at the other's cost for a moment only. */
static void test_yield(void **state) {
	unsigned came = 0;

	(void)state;
	begin(1, 500 * US);
	start(0, 2);
	start(1, 1);
	start(2, 1);
	for (u32 round = 0; round < 50; round++) {
		simulate(3 * MS);
		while (host[0].running != &vcpus[0]) simulate(tick);
		me = &host[0];
		sched_give_way(&vcpus[0]);
		me = NULL;
		u64 before = ran(1);
		simulate(tick * 2);
		if (!round) assert_true(ran(1) > before);
		came += ran(1) > before;
	}
	assert_in_range(came, 5, 45); /* not when it is far ahead of the others */
	simulate(SECOND);
	assert_in_range(ran(2), ran(4) * 90 / 100, ran(4) * 110 / 100);
	for (u32 i = 0; i < 2; i++) assert_in_range(ran(i), ran(4) * 45 / 100, ran(4) * 55 / 100);
	/* Nobody else waits: it just goes on. */
	stop(1);
	stop(2);
	sleeper(1, tick, 1000 * SECOND);
	simulate(20 * MS);
	forget_times();
	sched_give_way(&vcpus[0]);
	simulate(10 * MS);
	assert_near(ran(0), 10 * MS);
}

/* Over when each CPU has passed the top of its loop, and not before. */
static void test_quiet_period(void **state) {
	struct quiet quiet;

	(void)state;
	begin(2, 500 * US);
	simulate(MS);
	sched_quiet_begin(&quiet);
	assert_int_equal(kicks, 2);
	assert_false(sched_quiet_over(&quiet));
	go_on(&host[0]); /* once around */
	assert_false(sched_quiet_over(&quiet));
	go_on(&host[1]);
	assert_true(sched_quiet_over(&quiet));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal_shares_of_one_cpu),
		cmocka_unit_test(test_a_turn_without_end),
		cmocka_unit_test(test_barriers),
		cmocka_unit_test(test_shares_by_weight),
		cmocka_unit_test(test_the_weight_is_the_vms),
		cmocka_unit_test(test_four_guests_of_two_on_two_cpus),
		cmocka_unit_test(test_three_on_two_cpus),
		cmocka_unit_test(test_cap),
		cmocka_unit_test(test_cap_of_two_vcpus),
		cmocka_unit_test(test_cap_is_exact_in_the_long_run),
		cmocka_unit_test(test_waking),
		cmocka_unit_test(test_sleep_is_not_saved_up),
		cmocka_unit_test(test_pin),
		cmocka_unit_test(test_balance_beside_a_forbidden_cpu),
		cmocka_unit_test(test_idle_cpu_takes_one),
		cmocka_unit_test(test_removal_under_load),
		cmocka_unit_test(test_pause_and_resume),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_no_wake_up_is_lost),
		cmocka_unit_test(test_waking_from_an_exit),
		cmocka_unit_test(test_yield),
		cmocka_unit_test(test_quiet_period),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
