// sources: kernel/sched.c
/* The scheduler's loop: turns, slices, sleep, and vCPUs that come and go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "kernel/backend.h"
#include "kernel/cpu.h"
#include "kernel/guest.h"
#include "kernel/host_io.h"
#include "kernel/sched.h"
#include "kernel/smp.h"
#include "kernel/vm.h"
#include "lib/error.h"
#include "lib/log.h"
#include "lib/x86.h"

static struct vm vms[2];
static struct vcpu vcpus[SCHED_QUEUE + 1];
static bool asleep[SCHED_QUEUE + 1];
static jmp_buf out;
static char trace[64];
static size_t nr_trace;
static unsigned left; /* runs until the test is over */
static unsigned nr_loads, nr_puts, kicks, ended, warnings;
static struct vcpu *loaded;
static bool slice_armed, late_add;
static u32 off_mask; /* vCPUs whose own timers have been stopped */

static struct cpu host;
static struct cpu other;
static u64 now;
struct cpu *cpus[MAX_CPUS] = {&host, &other};
u32 nr_cpus = 2;

struct cpu *this_cpu(void) {
	return &host;
}

u64 time_tsc(void) { return now; }

u64 ns_to_tsc(u64 ns) { return ns; }

void timer_init(struct timer *timer, void (*fn)(struct timer *timer), u32 cpu) {
	timer->fn = fn;
	timer->cpu = cpu;
}

void timer_arm(struct timer *timer, u64 deadline) {
	assert_ptr_equal(timer, &host.slice);
	assert_in_range(deadline, 1, 1000000000);
	slice_armed = true;
}

void timer_cancel(struct timer *timer) {
	(void)timer;
	slice_armed = false;
}

void timers_run(void) {}

void log_msg(enum log_level level, const char *fmt, ...) {
	assert_non_null(fmt);
	warnings += level == LOG_WARN;
}

void smp_kick(struct cpu *cpu) { kicks += cpu == &host; }

void guest_vcpu_off(struct vcpu *vcpu) { off_mask |= 1u << vcpu->id; }

void cpu_irq_window(void) {}

void host_io_run(void) {}

/* All sleep: for the tests that is the end. */
void cpu_sti_hlt_cli(void) { longjmp(out, 1); }

bool vcpu_runnable(struct vcpu *vcpu) {
	return atomic_load(&vcpu->vm->state) == VM_RUNNING && !asleep[vcpu->id];
}

/* Runs until its slice is over or, without one, is asked to look again. */
void vcpu_run(struct vcpu *vcpu, const bool *resched) {
	assert_ptr_equal(vcpu, loaded);
	assert_ptr_equal(host.running, vcpu);
	if (nr_trace < sizeof(trace) - 1) trace[nr_trace++] = (char)('a' + vcpu->id);
	if (late_add) {
		late_add = false;
		assert_int_equal(sched_add(&vcpus[1]), 0);
		assert_true(*resched);
	}
	if (!left--) longjmp(out, 1);
	if (slice_armed) host.slice.fn(&host.slice);
	assert_true(*resched || host.nr_queue == 1);
	if (!*resched) asleep[vcpu->id] = true; /* alone: nothing but HLT ends its turn */
}

static void load(struct vcpu *vcpu) {
	assert_null(loaded);
	loaded = vcpu;
	nr_loads++;
}

static void put(struct vcpu *vcpu) {
	assert_ptr_equal(loaded, vcpu);
	loaded = NULL;
	nr_puts++;
}

static const struct backend fake_backend = {.load = load, .put = put};

static void vm_ended(struct vm *vm) {
	assert_int_equal(atomic_load(&vm->active), 0);
	ended++;
	/* One that is reset comes back from inside of this call. */
	if (vm == &vms[1]) {
		atomic_store(&vm->active, 1);
		atomic_store(&vm->state, VM_RUNNING);
		assert_int_equal(sched_add(&vcpus[2]), 0);
	}
}

static int setup(void **state) {
	(void)state;
	memset(&host, 0, sizeof(host));
	memset(vcpus, 0, sizeof(vcpus));
	memset(vms, 0, sizeof(vms));
	memset(asleep, 0, sizeof(asleep));
	memset(trace, 0, sizeof(trace));
	off_mask = 0;
	nr_trace = 0;
	nr_loads = nr_puts = kicks = ended = 0;
	loaded = NULL;
	slice_armed = late_add = false;
	for (u32 i = 0; i <= SCHED_QUEUE; i++) {
		vcpus[i].id = i;
		vcpus[i].vm = &vms[i == 2];
		vcpus[i].backend = &fake_backend;
	}
	for (u32 i = 0; i < 2; i++) atomic_store(&vms[i].state, VM_RUNNING);
	sched_vm_ended = vm_ended;
	left = 6;
	return 0;
}

static void loop(void) {
	if (!setjmp(out)) sched_loop();
}

static void test_turns(void **state) {
	(void)state;
	for (unsigned i = 0; i < 3; i++) assert_int_equal(sched_add(&vcpus[i]), 0);
	assert_int_equal(kicks, 3);
	loop();
	assert_string_equal(trace, "abcabca");
	assert_int_equal(nr_loads, 7);
	assert_int_equal(nr_puts, 6);
}

static void test_sleepers_are_passed_over(void **state) {
	(void)state;
	for (unsigned i = 0; i < 3; i++) assert_int_equal(sched_add(&vcpus[i]), 0);
	asleep[1] = true;
	loop();
	assert_string_equal(trace, "acacaca");
}

/* One that runs alone has no slice; another that comes then must not wait for it to halt. */
static void test_newcomer_beside_a_busy_one(void **state) {
	(void)state;
	assert_int_equal(sched_add(&vcpus[0]), 0);
	late_add = true;
	loop();
	assert_string_equal(trace, "abababa");
}

static void test_registers_stay_until_another_needs_the_cpu(void **state) {
	(void)state;
	assert_int_equal(sched_add(&vcpus[0]), 0);
	loop();
	assert_string_equal(trace, "a");
	asleep[0] = false;
	loop();
	assert_int_equal(nr_loads, 1);
	assert_int_equal(nr_puts, 0);
}

static void test_stopped_vm_leaves(void **state) {
	(void)state;
	atomic_store(&vms[0].active, 2);
	assert_int_equal(sched_add(&vcpus[0]), 0);
	assert_int_equal(sched_add(&vcpus[1]), 0);
	left = 0;
	loop();
	atomic_store(&vms[0].state, VM_STOPPED);
	loop();
	assert_int_equal(ended, 1);
	assert_int_equal(host.nr_queue, 0);
	assert_int_equal(off_mask, 3);
	assert_null(loaded);
	assert_null(host.loaded);
}

/* Its last vCPU leaves, and it is started again from there. */
static void test_reset_vm_comes_back(void **state) {
	(void)state;
	atomic_store(&vms[1].active, 1);
	assert_int_equal(sched_add(&vcpus[2]), 0);
	atomic_store(&vms[1].state, VM_STOPPED);
	left = 0;
	loop();
	assert_int_equal(ended, 1);
	assert_string_equal(trace, "c");
}

static void test_full_queue(void **state) {
	(void)state;
	for (unsigned i = 0; i < SCHED_QUEUE; i++) assert_int_equal(sched_add(&vcpus[i]), 0);
	assert_int_equal(sched_add(&vcpus[SCHED_QUEUE]), E_NOMEM);
	assert_int_equal(host.nr_queue, SCHED_QUEUE);
}

/* Over when each CPU has passed the top of its loop, and not before; one that hangs is named once.
 */
static void test_quiet_period(void **state) {
	struct quiet quiet;

	(void)state;
	warnings = 0;
	sched_quiet_begin(&quiet);
	assert_false(sched_quiet_over(&quiet));
	asleep[0] = true;
	loop(); /* once around on this CPU */
	assert_false(sched_quiet_over(&quiet));
	now += 2000000000;
	assert_false(sched_quiet_over(&quiet));
	assert_false(sched_quiet_over(&quiet));
	assert_int_equal(warnings, 1);
	atomic_fetch_add(&other.passes, 1);
	assert_true(sched_quiet_over(&quiet));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_turns, setup),
		cmocka_unit_test_setup(test_sleepers_are_passed_over, setup),
		cmocka_unit_test_setup(test_newcomer_beside_a_busy_one, setup),
		cmocka_unit_test_setup(test_registers_stay_until_another_needs_the_cpu, setup),
		cmocka_unit_test_setup(test_stopped_vm_leaves, setup),
		cmocka_unit_test_setup(test_reset_vm_comes_back, setup),
		cmocka_unit_test_setup(test_full_queue, setup),
		cmocka_unit_test_setup(test_quiet_period, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
