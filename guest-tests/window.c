/*
 * A timer that expires while another interrupt waits for IF, and the CPU exits all the time: its
 * interrupt is not lost. In real time, for what is lost by chance.
 * vm: host_cpus=2 limit=240 machine=amd
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "window";

#define VECTOR_WAITS 0x41
#define VECTOR_TIMER 0x61
#define ROUNDS	     20000u
#define TIMER_TICKS  20000u

static volatile u32 waited, timed;

static void on_waited(struct regs *r) {
	(void)r;
	waited++;
	lapic_eoi();
}

static void on_timer(struct regs *r) {
	(void)r;
	timed++;
	lapic_eoi();
}

void test_main(void) {
	u32 lost_waiting = 0, lost_timers = 0, r[4];

	lapic_init();
	trap_set_handler(VECTOR_WAITS, on_waited);
	trap_set_handler(VECTOR_TIMER, on_timer);
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
	lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
	for (u32 round = 0; round < ROUNDS; round++) {
		u64 end = rdtsc() + us_to_tsc(30);

		waited = timed = 0;
		lapic_send(lapic_id(), VECTOR_WAITS);
		lapic_write(LAPIC_TIMER_INIT, TIMER_TICKS);
		while (rdtsc() < end) cpuid(0, 0, r);
		cpu_irq_window();
		lost_waiting += !waited;
		lost_timers += !wait_until((cpu_irq_window(), timed), 20000000);
	}
	check_eq("the interrupt that waited comes when it may", lost_waiting, 0);
	check_eq("timers whose interrupt does not come within 20 seconds", lost_timers, 0);
}
