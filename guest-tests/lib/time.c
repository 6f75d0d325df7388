/* Time of a guest test: the TSC, measured once against the ACPI PM timer. */
#include "guest-tests/lib/guest.h"

u32 pm_timer(void) { return inl(PM_TIMER_PORT) & 0xffffff; }

/* Short runs without RDTSC or PAUSE, either of which ends a translated block of an emulator. */
static void spin(unsigned rounds) {
	while (rounds--) __asm__ volatile("");
}

#define SAMPLE_TRIES 200
#define SAMPLE_LIMIT 20000 /* ticks; 20 us at 1 GHz, less on a faster machine */

struct sample take_sample(u64 (*read)(void)) {
	struct sample best = {0, 0};
	u64 shortest = ~0ul;

	for (unsigned i = 0; i < SAMPLE_TRIES && shortest > SAMPLE_LIMIT; i++) {
		u64 before = rdtsc();
		u64 value = read();
		u64 after = rdtsc();

		if (after - before < shortest) {
			shortest = after - before;
			best = (struct sample){value, before + shortest / 2};
		}
	}
	return best;
}

static u64 read_pm_timer(void) { return pm_timer(); }

/* Some 10 ms of PM timer ticks; bounded for a timer that stands still. */
static u64 measure(void) {
	struct sample first = take_sample(read_pm_timer), last;
	u64 ticks = 0;

	for (unsigned i = 0; i < 10000 && ticks < PM_TIMER_HZ / 100; i++) {
		spin(1000);
		last = take_sample(read_pm_timer);
		ticks = (last.value - first.value) & 0xffffff;
	}
	return ticks ? (last.tsc - first.tsc) * PM_TIMER_HZ / ticks : 1000000000;
}

u64 tsc_hz(void) {
	static u64 hz;

	if (!hz) hz = measure();
	return hz;
}

void delay_us(u64 us) {
	u64 end = rdtsc() + us_to_tsc(us), now;

	while ((now = rdtsc()) < end) spin(end - now > 2000 ? 500 : 5);
}
