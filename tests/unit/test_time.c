// sources: kernel/time.c
/* The host's clock: conversions, timer queues, the hardware timer behind them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "drivers/acpi.h"
#include "drivers/clock.h"
#include "drivers/lapic.h"
#include "kernel/cpu.h"
#include "kernel/guest.h"
#include "kernel/smp.h"
#include "lib/log.h"

static struct cpu host[2];
static struct cpu *self;
static u64 now;
static struct clock_measure measured;
static unsigned kicks;

/* The hardware timer: what it was last set to. */
static u32 count;
static u64 deadline;
static unsigned writes;
static bool deadline_mode;

struct cpu_features cpu_features;
struct cpu *cpus[MAX_CPUS] = {&host[0], &host[1]};

struct cpu *this_cpu(void) {
	return self;
}

u64 rdtsc(void) { return now; }

void smp_kick(struct cpu *cpu) {
	assert_ptr_not_equal(cpu, self);
	kicks++;
}

void clock_measure(const struct acpi_info *acpi, u64 claimed_khz, struct clock_measure *out) {
	(void)acpi;
	(void)claimed_khz;
	*out = measured;
}

void lapic_timer_init(u8 vector, bool mode) {
	(void)vector;
	deadline_mode = mode;
}

void lapic_timer_count(u32 value) {
	count = value;
	writes++;
}

void lapic_timer_deadline(u64 tsc) {
	deadline = tsc;
	writes++;
}

void log_msg(enum log_level level, const char *fmt, ...) {
	(void)level;
	(void)fmt;
}

static void start(u64 khz, bool with_deadline) {
	static struct acpi_info acpi;

	memset(host, 0, sizeof(host));
	host[1].id = 1;
	self = &host[1];
	now = 1000000;
	time_init_cpu();
	self = &host[0];
	time_init_cpu();
	kicks = writes = 0;
	cpu_features.tsc_deadline = with_deadline;
	/* Eight milliseconds, and a LAPIC timer of a quarter of the TSC's speed. */
	measured = (struct clock_measure){"test", khz, khz * 8, khz * 2};
	time_init(&acpi);
	time_init_cpu();
}

static int setup(void **state) {
	(void)state;
	start(2000000, false);
	return 0;
}

/* ---- conversions ---- */

static void test_conversions_are_exact(void **state) {
	static const u64 speeds[] = {1, 999, 1000000, 2599999, 3579545, 5000000, 6000000};

	for (unsigned i = 0; i < sizeof(speeds) / sizeof(speeds[0]); i++) {
		u64 khz = speeds[i];

		start(khz, false);
		assert_int_equal(tsc_khz, khz);
		for (u64 ticks = 1; ticks < 1ul << 50; ticks *= 3) {
			unsigned __int128 exact = (unsigned __int128)ticks * 1000000 / khz;
			u64 got = tsc_to_ns(ticks), limit;

			if (exact >> 60) continue;
			limit = (u64)exact / 1000000000 + 1;
			assert_in_range(got + limit, (u64)exact, (u64)exact + 2 * limit);
		}
	}
	setup(state);
	assert_int_equal(ns_to_tsc(1000), 2000);
	assert_int_equal(tsc_to_ns(2000), 1000);
}

static void test_conversions_saturate(void **state) {
	(void)state;
	assert_int_equal(ns_to_tsc(~0ul), ~0ul);
	start(1000, false);
	assert_int_equal(tsc_to_ns(~0ul), ~0ul);
}

static void test_clock_starts_at_zero(void **state) {
	(void)state;
	assert_int_equal(time_ns(), 0);
	now += 2000;
	assert_int_equal(time_ns(), 1000);
	time_set_wall_clock(1700000000);
	now += 2000000000;
	assert_int_equal(platform_wall_clock_ns(), 1700000001500000000);
}

/* ---- timers ---- */

static unsigned fired[8], nr_fired;
static struct timer timers[8];
static u64 again; /* timer 7 arms itself for this */

static void fire(struct timer *timer) {
	assert_int_equal(timer->deadline, TIMER_NEVER);
	assert_false(timer->queued);
	fired[nr_fired++ % 8] = (unsigned)(timer - timers);
	if (timer == &timers[7]) timer_arm(timer, again);
}

static int setup_timers(void **state) {
	setup(state);
	nr_fired = 0;
	for (unsigned i = 0; i < 8; i++) timer_init(&timers[i], fire, i == 6);
	return 0;
}

static void test_timers_fire_in_order(void **state) {
	(void)state;
	timer_arm(&timers[0], now + 3000);
	timer_arm(&timers[1], now + 1000);
	timer_arm(&timers[2], now + 2000);
	timer_arm(&timers[3], now + 1000); /* the same time: as armed */
	timers_run();
	assert_int_equal(nr_fired, 0);
	now += 2000;
	timers_run();
	assert_int_equal(nr_fired, 3);
	assert_int_equal(fired[0], 1);
	assert_int_equal(fired[1], 3);
	assert_int_equal(fired[2], 2);
	now += 1000;
	timers_run();
	timers_run();
	assert_int_equal(nr_fired, 4);
}

static void test_timers_are_armed_again_and_cancelled(void **state) {
	(void)state;
	timer_arm(&timers[0], now + 1000);
	timer_arm(&timers[1], now + 2000);
	timer_arm(&timers[0], now + 3000);
	timer_cancel(&timers[1]);
	timer_cancel(&timers[1]);
	timer_cancel(&timers[2]); /* never armed */
	now += 2500;
	timers_run();
	assert_int_equal(nr_fired, 0);
	now += 500;
	timers_run();
	assert_int_equal(nr_fired, 1);
	assert_null(host[0].timers);
}

/* One that is always due again does not keep its CPU. */
static void test_no_timer_starves_its_cpu(void **state) {
	(void)state;
	again = 0;
	timer_arm(&timers[7], 0);
	timers_run();
	assert_in_range(nr_fired, 1, 1000);
	assert_true(timers[7].queued);
	assert_in_range(count, 1, 1000);
	timer_cancel(&timers[7]);
}

static void test_timer_of_another_cpu(void **state) {
	(void)state;
	timer_arm(&timers[6], now + 1000);
	assert_int_equal(kicks, 1);
	assert_int_equal(host[0].programmed, TIMER_NEVER);
	now += 1000;
	timers_run();
	assert_int_equal(nr_fired, 0);
	self = &host[1];
	timers_run();
	assert_int_equal(nr_fired, 1);
}

/* From the CPU in whose queue it is: there it does not fire any more, and the other is told. */
static void test_timer_moves(void **state) {
	(void)state;
	timer_move(&timers[1], 1); /* not armed: nothing but the number changes */
	assert_int_equal(kicks, 0);
	timer_arm(&timers[0], now + 1000);
	timer_move(&timers[0], 1);
	assert_int_equal(kicks, 1);
	assert_int_equal(timers[0].deadline, now + 1000);
	assert_null(host[0].timers);
	now += 1000;
	timers_run();
	assert_int_equal(nr_fired, 0);
	self = &host[1];
	timers_run();
	assert_int_equal(nr_fired, 1);
}

/* ---- the hardware ---- */

static void test_count_follows_the_first_timer(void **state) {
	(void)state;
	timer_arm(&timers[0], now + 40000);
	assert_int_equal(count, 10000);
	timer_arm(&timers[1], now + 80000); /* not the first: nothing to set */
	assert_int_equal(writes, 1);
	timer_arm(&timers[2], now + 20000);
	assert_int_equal(count, 5000);
	timer_arm(&timers[2], now - 1); /* past: soon, and never 0, which would stop it */
	assert_in_range(count, 1, 100);
	timers_run();
	assert_int_equal(count, 10000);
	timer_cancel(&timers[0]);
	timer_cancel(&timers[1]);
	timers_run();
	assert_int_equal(count, 0);
}

static void test_far_deadline_comes_early_and_is_set_again(void **state) {
	u64 far = now + (1ul << 40);

	(void)state;
	timer_arm(&timers[0], far);
	assert_int_equal(count, ~0u);
	now += 4ul * ~0u;
	timer_interrupt();
	timers_run();
	assert_int_equal(nr_fired, 0);
	assert_int_equal(count, ~0u);
	now = far - 4000;
	timer_interrupt();
	timers_run();
	assert_int_equal(count, 1000);
	now = far;
	timers_run();
	assert_int_equal(nr_fired, 1);
}

static void test_deadline_mode(void **state) {
	(void)state;
	start(2000000, true);
	assert_true(deadline_mode);
	timer_arm(&timers[0], now + 40000);
	assert_int_equal(deadline, now + 40000);
	timer_arm(&timers[1], 0); /* 0 in the register would stop the timer */
	assert_int_equal(deadline, 1);
	timers_run();
	assert_int_equal(nr_fired, 1);
	assert_int_equal(deadline, now + 40000);
	timer_cancel(&timers[0]);
	timers_run();
	assert_int_equal(deadline, 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_conversions_are_exact, setup),
		cmocka_unit_test_setup(test_conversions_saturate, setup),
		cmocka_unit_test_setup(test_clock_starts_at_zero, setup),
		cmocka_unit_test_setup(test_timers_fire_in_order, setup_timers),
		cmocka_unit_test_setup(test_timers_are_armed_again_and_cancelled, setup_timers),
		cmocka_unit_test_setup(test_no_timer_starves_its_cpu, setup_timers),
		cmocka_unit_test_setup(test_timer_of_another_cpu, setup_timers),
		cmocka_unit_test_setup(test_timer_moves, setup_timers),
		cmocka_unit_test_setup(test_count_follows_the_first_timer, setup_timers),
		cmocka_unit_test_setup(test_far_deadline_comes_early_and_is_set_again,
				       setup_timers),
		cmocka_unit_test_setup(test_deadline_mode, setup_timers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
