/* Time of a guest test: the TSC, measured once against the ACPI PM timer. */
#include "guest-tests/lib/guest.h"

u32 pm_timer(void)
{
	return inl(PM_TIMER_PORT) & 0xffffff;
}

/* 10 ms of PM timer ticks; bounded for a timer that stands still. */
static u64 measure(void)
{
	const u32 ticks = PM_TIMER_HZ / 100;
	u32 first = pm_timer(), now = first;
	u64 start;

	for (unsigned i = 0; i < 100000 && now == first; i++)
		now = pm_timer();
	if (now == first)
		return 1000000000;
	first = now;
	start = rdtsc();
	for (unsigned i = 0; i < 100000000 && ((now - first) & 0xffffff) < ticks; i++)
		now = pm_timer();
	return (rdtsc() - start) * PM_TIMER_HZ / ((now - first) & 0xffffff);
}

u64 tsc_hz(void)
{
	static u64 hz;

	if (!hz)
		hz = measure();
	return hz;
}

/* Short runs without RDTSC or PAUSE, either of which ends a translated block of an emulator. */
static void spin(unsigned rounds)
{
	while (rounds--)
		__asm__ volatile("");
}

void delay_us(u64 us)
{
	u64 end = rdtsc() + us_to_tsc(us), now;

	while ((now = rdtsc()) < end)
		spin(end - now > 2000 ? 500 : 5);
}
