/*
 * The host's clock and the per-CPU timer queues. The frequencies of TSC and LAPIC timer are
 * measured once, against the HPET, the ACPI PM timer or the PIT (drivers/clock.c). What CPUID leaf
 * 0x15 says of the TSC's is more exact, and taken where it agrees.
 */
#include "kernel/time.h"

#include "drivers/clock.h"
#include "drivers/lapic.h"
#include "kernel/cpu.h"
#include "kernel/guest.h"
#include "kernel/smp.h"
#include "kernel/traps.h"
#include "lib/log.h"
#include "lib/x86.h"

#define MIN_COUNT 20u /* LAPIC ticks: shorter waits could be over before the write is */

u64 tsc_khz = 1000000;
static u64 boot_tsc;
static u64 ns_per_tick;	   /* 2^32 fixed point */
static u64 ticks_per_ns;   /* 2^32 fixed point */
static u64 lapic_per_tick; /* LAPIC timer ticks per TSC tick, 2^32 fixed point */
static bool use_deadline;
static u64 wall_base_ns;

u64 time_tsc(void) { return rdtsc(); }

static u64 scale(u64 value, u64 factor) {
	unsigned __int128 wide = (unsigned __int128)value * factor >> 32;

	return wide >> 64 ? ~0ul : (u64)wide;
}

u64 tsc_to_ns(u64 ticks) { return scale(ticks, ns_per_tick); }

u64 ns_to_tsc(u64 ns) { return scale(ns, ticks_per_ns); }

u64 time_ns(void) { return tsc_to_ns(time_tsc() - boot_tsc); }

static void set_frequency(u64 khz) {
	tsc_khz = khz;
	ns_per_tick = ((1000000ul << 32) + khz / 2) / khz;
	ticks_per_ns = mul_div(khz, 1ul << 32, 1000000);
}

/* Leaf 0x15: TSC = crystal * EBX / EAX, and the crystal must be named (SDM 2A CPUID). */
static u64 cpuid_khz(void) {
	u32 r[4];

	if (cpu_features.max_leaf < 0x15) return 0;
	cpuid(0x15, 0, r);
	if (!r[0] || !r[1] || !r[2]) return 0;
	return (u64)r[2] * r[1] / r[0] / 1000;
}

void time_init(const struct acpi_info *acpi) {
	struct clock_measure m;
	u64 claimed = cpuid_khz(), measured;

	boot_tsc = rdtsc();
	use_deadline = cpu_features.tsc_deadline;
	lapic_timer_init(VEC_SPURIOUS, false);
	clock_measure(acpi, claimed, &m);
	lapic_per_tick = mul_div(m.lapic_ticks, 1ul << 32, max_u64(m.tsc_ticks, 1));
	measured = max_u64(m.tsc_khz, 1);
	/* What CPUID says is exact, unless it is wrong: emulators and early processors lie. */
	if (claimed && max_u64(claimed, measured) - min_u64(claimed, measured) > measured / 32) {
		log_warn(
			"clock: CPUID claims a TSC of %lu MHz, the %s says %lu MHz and is believed",
			claimed / 1000, m.source, measured / 1000);
		claimed = 0;
	}
	set_frequency(claimed ? claimed : measured);
	log_info("clock: TSC %lu.%03lu MHz (%s)", tsc_khz / 1000, tsc_khz % 1000,
		 claimed ? "CPUID" : m.source);
}

void time_init_cpu(void) {
	struct cpu *cpu = this_cpu();

	cpu->programmed = TIMER_NEVER;
	lapic_timer_init(VEC_TIMER, use_deadline);
}

/* Sets the hardware for the head of this CPU's queue; not when it is set earlier already. */
static void program(struct cpu *cpu) {
	u64 deadline = cpu->timers ? cpu->timers->deadline : TIMER_NEVER;

	if (deadline == cpu->programmed) return;
	cpu->programmed = deadline;
	if (use_deadline) {
		/* 0 would stop the timer instead of firing at once. */
		lapic_timer_deadline(deadline == TIMER_NEVER ? 0 : max_u64(deadline, 1));
		return;
	}
	if (deadline == TIMER_NEVER) {
		lapic_timer_count(0);
		return;
	}
	u64 now = rdtsc();
	u64 count = deadline > now ? scale(deadline - now, lapic_per_tick) : 0;
	/* Too far for the counter: it fires early and is set again. */
	lapic_timer_count((u32)min_u64(max_u64(count, MIN_COUNT), ~0u));
}

void timer_init(struct timer *timer, void (*fn)(struct timer *timer), u32 cpu) {
	*timer = (struct timer){.deadline = TIMER_NEVER, .fn = fn, .cpu = cpu};
}

static void unlink_timer(struct cpu *cpu, struct timer *timer) {
	struct timer **at = &cpu->timers;

	while (*at && *at != timer) at = &(*at)->next;
	if (*at) *at = timer->next;
	timer->queued = false;
	timer->deadline = TIMER_NEVER;
}

static void link_timer(struct cpu *cpu, struct timer *timer, u64 deadline) {
	struct timer **at = &cpu->timers;

	while (*at && (*at)->deadline <= deadline) at = &(*at)->next;
	timer->deadline = deadline;
	timer->next = *at;
	timer->queued = true;
	*at = timer;
}

void timer_arm(struct timer *timer, u64 deadline) {
	struct cpu *cpu = cpus[timer->cpu];

	spin_lock(&cpu->timer_lock);
	if (timer->queued) unlink_timer(cpu, timer);
	link_timer(cpu, timer, deadline);
	bool first = cpu->timers == timer;
	if (cpu == this_cpu()) program(cpu);
	spin_unlock(&cpu->timer_lock);
	/* Its owner sets the hardware when it comes by. */
	if (first && cpu != this_cpu()) smp_kick(cpu);
}

void timer_cancel(struct timer *timer) {
	struct cpu *cpu = cpus[timer->cpu];

	spin_guard(&cpu->timer_lock);
	/* The hardware may fire once for nothing: cheaper than setting it now. */
	if (timer->queued) unlink_timer(cpu, timer);
}

void timer_move(struct timer *timer, u32 cpu) {
	struct cpu *from = cpus[timer->cpu];

	spin_lock(&from->timer_lock);
	u64 deadline = timer->deadline;
	if (timer->queued) unlink_timer(from, timer);
	spin_unlock(&from->timer_lock);
	timer->cpu = cpu;
	if (deadline != TIMER_NEVER) timer_arm(timer, deadline);
}

/* At most this many a visit, so that a timer which always re-arms in the past starves nobody. */
#define MAX_FIRED 64

void timers_run(void) {
	struct cpu *cpu = this_cpu();

	for (unsigned i = 0;; i++) {
		spin_lock(&cpu->timer_lock);
		struct timer *timer = cpu->timers;
		bool due = i < MAX_FIRED && timer && timer->deadline <= rdtsc();
		if (due)
			unlink_timer(cpu, timer);
		else
			program(cpu);
		spin_unlock(&cpu->timer_lock);
		if (!due) return;
		timer->fn(timer);
	}
}

/*
 * The clock shows whole seconds: on average half a second has passed since the last tick, so half a
 * second is the largest error.
 */
void time_set_wall_clock(u64 unix_seconds) {
	wall_base_ns = unix_seconds * 1000000000ul + 500000000ul - time_ns();
}

u64 platform_wall_clock_ns(void) { return wall_base_ns + time_ns(); }

/* The LAPIC timer's interrupt: the hardware is stopped now; the run loop looks at the queue. */
void timer_interrupt(void) { this_cpu()->programmed = TIMER_NEVER; }

void time_delay_us(u64 us) {
	u64 end = rdtsc() + ns_to_tsc(us * 1000);

	while (rdtsc() < end) cpu_pause();
}
