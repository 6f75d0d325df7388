/* Reference clocks: HPET (IA-PC HPET 1.0a), PM timer (ACPI 6.4, 4.8.3.3), PIT channel 2 (8254). */
#include "drivers/clock.h"

#include "drivers/acpi.h"
#include "drivers/lapic.h"
#include "drivers/mmio.h"
#include "lib/x86.h"

#define SAMPLES		7u
#define MEASURE_US	8000u
#define HPET_CAPS	0x000
#define HPET_CONFIG	0x010
#define HPET_COUNTER	0x0f0
#define PM_TIMER_HZ	3579545u
#define PIT_HZ		1193182u
#define GUESS_KHZ	1000000u
#define MAX_ROUNDS	4000000u /* reads; a clock that does not get there is broken */
#define STUCK_ROUNDS	10000u	 /* one that has not moved by then is not there */
#define FEMTO		1000000000000000ul
#define MAX_HPET_PERIOD 100000000u /* fs; the specification's limit */

struct reference {
	const char *name;
	u64 hz;
	u64 mask; /* of the counter's bits */
	u64 (*read)(void);
	bool down;
};

static const volatile u8 *hpet;
static u16 pm_port;

static u64 read_hpet(void) { return mmio_read32(hpet + HPET_COUNTER); }

static u64 read_pm(void) { return inl(pm_port); }

static u64 read_pit(void) {
	outb(0x43, 0x80); /* latch counter 2 */
	u32 lo = inb(0x42);
	return lo | (u32)inb(0x42) << 8;
}

static u64 read_tsc(void) { return __builtin_ia32_rdtsc(); }

static bool find_hpet(const struct acpi_info *acpi, struct reference *ref) {
	if (!acpi->hpet) return false;
	volatile u8 *regs = mmio_map(acpi->hpet, 0x400);
	if (!regs) return false;
	u32 period = mmio_read32(regs + HPET_CAPS + 4);
	if (!period || period > MAX_HPET_PERIOD) return false;
	mmio_write32(regs + HPET_CONFIG, mmio_read32(regs + HPET_CONFIG) | 1);
	hpet = regs;
	*ref = (struct reference){"HPET", FEMTO / period, 0xffffffff, read_hpet, false};
	return true;
}

static bool find_pm(const struct acpi_info *acpi, struct reference *ref) {
	if (!acpi->pm_timer) return false;
	pm_port = acpi->pm_timer;
	*ref = (struct reference){"ACPI PM timer", PM_TIMER_HZ, 0xffffff, read_pm, false};
	return true;
}

static bool find_pit(const struct acpi_info *acpi __unused, struct reference *ref) {
	outb(0x61, (u8)((inb(0x61) & ~2u) | 1)); /* gate on, speaker off */
	outb(0x43, 0xb0);			 /* channel 2, both bytes, mode 0 */
	outb(0x42, 0xff);
	outb(0x42, 0xff);
	*ref = (struct reference){"PIT", PIT_HZ, 0xffff, read_pit, true};
	return true;
}

/*
 * The three clocks at one moment, from the quickest of a few tries: what comes between the reads,
 * an SMI, a slow bus or a host that lets this CPU wait, must not count as time of one clock alone.
 */
struct moment {
	u64 reference, tsc;
	u32 lapic; /* counts down */
};

static struct moment sample(u64 (*read)(void)) {
	struct moment found = {0};
	u64 best = ~0ul;

	for (unsigned i = 0; i < SAMPLES; i++) {
		u64 before = __builtin_ia32_rdtsc();
		u64 reference = read();
		u32 lapic = lapic_timer_count_left();
		u64 took = __builtin_ia32_rdtsc() - before;

		if (took < best) {
			best = took;
			found = (struct moment){reference, before + took / 2, lapic};
		}
	}
	return found;
}

static u64 passed_since(const struct reference *ref, u64 start, u64 now) {
	return (ref->down ? start - now : now - start) & ref->mask;
}

static bool measure(const struct reference *ref, struct clock_measure *out) {
	u64 wanted = ref->hz * MEASURE_US / 1000000;
	u64 passed = 0;

	lapic_timer_count(~0u);
	struct moment start = sample(ref->read);
	for (u32 i = 0; i < (passed ? MAX_ROUNDS : STUCK_ROUNDS) && passed < wanted; i++) {
		passed = passed_since(ref, start.reference, ref->read());
		cpu_pause();
	}
	if (passed < wanted) return false;
	struct moment end = sample(ref->read);
	passed = passed_since(ref, start.reference, end.reference);
	if (!passed) return false;
	out->lapic_ticks = start.lapic - end.lapic;
	out->source = ref->name;
	out->tsc_ticks = end.tsc - start.tsc;
	out->tsc_khz = mul_div(out->tsc_ticks, ref->hz, passed) / 1000;
	return out->tsc_khz != 0;
}

void clock_measure(const struct acpi_info *acpi, u64 claimed_khz, struct clock_measure *out) {
	/* The best first. */
	static bool (*const finders[])(const struct acpi_info *acpi,
				       struct reference *ref) = {find_hpet, find_pm, find_pit};
	struct reference ref;

	for (u32 i = 0; i < ARRAY_SIZE(finders); i++)
		if (finders[i](acpi, &ref) && measure(&ref, out)) return;
	/* Nothing but the TSC itself; the LAPIC timer is still measured against it. */
	ref = (struct reference){claimed_khz ? "CPUID" : "guess",
				 (claimed_khz ? claimed_khz : GUESS_KHZ) * 1000, ~0ul, read_tsc,
				 false};
	if (!measure(&ref, out))
		*out = (struct clock_measure){.source = ref.name, .tsc_ticks = 1, .lapic_ticks = 1};
	/* Its reads as one clock and as the other are some ticks apart. */
	out->tsc_khz = ref.hz / 1000;
}
