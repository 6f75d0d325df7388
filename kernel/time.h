/* Time: the host TSC. Timers fire from the run loop of their CPU, one after the other. */
#pragma once

#include "lib/types.h"

/* Host TSC frequency in kHz; set once at start-up by time_init(), never 0 afterwards. */
extern u64 tsc_khz;

#ifdef UNIT_TEST
u64 rdtsc(void);
#else
static inline u64 rdtsc(void) {
	u32 lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (u64)hi << 32 | lo;
}
#endif

/* Now, in host TSC ticks. A function of its own so that unit tests can replace the clock. */
u64 time_tsc(void);

/* Conversions are exact to 1e-9 and saturate at 2^64-1 instead of wrapping. */
u64 tsc_to_ns(u64 ticks);
u64 ns_to_tsc(u64 ns);

/* Nanoseconds since start-up; monotonic on all CPUs. */
u64 time_ns(void);

#define TIMER_NEVER (~0ul)

struct timer {
	u64 deadline;			 /* host TSC; TIMER_NEVER while not armed */
	void (*fn)(struct timer *timer); /* called once per expiry, timer already disarmed */
	struct timer *next;		 /* the CPU's queue, sorted by deadline */
	u32 cpu;			 /* whose queue; changes only while disarmed */
	bool queued;
};

void timer_init(struct timer *timer, void (*fn)(struct timer *timer), u32 cpu);

/* Arms or re-arms; a deadline that has passed fires at the CPU's next look at its queue. */
void timer_arm(struct timer *timer, u64 deadline_tsc);

/* Arms it for so many ns from now, unless it is armed: its call finds what has come until then. */
static inline void timer_soon(struct timer *timer, u64 ns) {
	if (!__atomic_load_n(&timer->queued, __ATOMIC_RELAXED))
		timer_arm(timer, time_tsc() + ns_to_tsc(ns));
}

/* A call of fn that runs on another CPU already may still finish: fn looks at its device's state.
 */
void timer_cancel(struct timer *timer);

/* Armed or not, to another CPU's queue. Nobody else arms, cancels or moves it meanwhile. */
void timer_move(struct timer *timer, u32 cpu);

/* Measures the TSC's and the LAPIC timer's frequency; the boot processor, once. */
struct acpi_info;
void time_init(const struct acpi_info *acpi);

/* Sets up this CPU's hardware timer. */
void time_init_cpu(void);

/* Calls what is due on this CPU and sets the hardware for the next. From the run loop only. */
void timers_run(void);

/* Handler of VEC_TIMER. */
void timer_interrupt(void);

/* Busy wait; for start-up only. */
void time_delay_us(u64 us);

/* The wall clock: unix time in seconds when start-up read the host's clock; 0: not known. */
void time_set_wall_clock(u64 unix_seconds);
