/*
 * Accuracy: every clock against the ACPI PM timer, and every timer's interrupts by number, by order
 * (none early) and by how late they come. Limits are wide, since the host may be busy; with the
 * word `strict` on the command line (a deterministic machine) they are narrow.
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "timers";

#define VECTOR	   0x61
#define VECTOR_PIC 0x40
#define PIT_HZ	   1193182ul
#define ROUNDS	   20

static volatile unsigned hits;
static volatile u64 hit_tsc;
static u64 percent; /* how far off a rate may be */
static u64 fewer;   /* how many percent of ticks may be missing */
static u64 late_us; /* how late an interrupt may be, at most */

static void on_lapic(struct regs *r) {
	(void)r;
	hit_tsc = rdtsc();
	hits++;
	lapic_eoi();
}

static void on_pit(struct regs *r) {
	(void)r;
	hit_tsc = rdtsc();
	hits++;
	pic_eoi(0);
}

static u64 to_us(u64 tsc) { return tsc / (tsc_hz() / 1000000); }

static void check_ticks(const char *name, u64 got) {
	check_range(name, got, 200 * (100 - fewer) / 100, 200 + 200 * percent / 100);
}

static void check_near(const char *name, u64 got, u64 wanted, u64 within) {
	check_range(name, got, wanted * (100 - within) / 100, wanted * (100 + within) / 100);
}

static u64 read_pm(void) { return pm_timer(); }

/* 100 ms of PM timer by TSC, a second look at what tsc_hz() measured. */
static void test_tsc(void) {
	struct sample first = take_sample(read_pm), last;

	delay_us(100000);
	last = take_sample(read_pm);
	u64 hz = (last.tsc - first.tsc) * PM_TIMER_HZ / ((last.value - first.value) & 0xffffff);
	print("# TSC %lu Hz\n", hz);
	check_near("TSC rate is steady", hz, tsc_hz(), 1);
}

static void test_monotonic(void) {
	u64 last = rdtsc();
	u32 backwards = 0, last_pm = pm_timer();

	for (unsigned i = 0; i < 2000; i++) {
		u64 now = rdtsc();
		u32 pm = pm_timer();

		if (now < last || ((pm - last_pm) & 0xffffff) > 0x800000) backwards++;
		last = now;
		last_pm = pm;
	}
	check_eq("TSC and PM timer never go back", backwards, 0);
}

static u64 read_lapic(void) { return lapic_read(LAPIC_TIMER_NOW); }

static u64 lapic_hz(void) {
	static u64 hz;
	struct sample first, last;

	if (hz) return hz;
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | VECTOR);
	lapic_write(LAPIC_TIMER_INIT, 0xffffffff);
	first = take_sample(read_lapic);
	delay_us(20000);
	last = take_sample(read_lapic);
	hz = (first.value - last.value) * (tsc_hz() / 1000) / ((last.tsc - first.tsc) / 1000);
	lapic_write(LAPIC_TIMER_INIT, 0);
	print("# LAPIC timer %lu Hz\n", hz);
	return hz;
}

struct lateness {
	u64 worst, sum;
	unsigned early, lost;
};

static void note(struct lateness *l, u64 due) {
	if (!wait_until((cpu_irq_window(), hits > 0), 1000000)) {
		l->lost++;
		return;
	}
	/* Two microseconds of grace for the grain of the slower clock. */
	if (hit_tsc + us_to_tsc(2) < due) {
		l->early++;
		return;
	}
	u64 late = hit_tsc > due ? hit_tsc - due : 0;
	l->sum += late;
	if (late > l->worst) l->worst = late;
}

static void report(const char *name, const struct lateness *l) {
	print("# %s: mean %lu us late, at most %lu us\n", name, to_us(l->sum / ROUNDS),
	      to_us(l->worst));
	check_eq(name_of("%s: none lost", name), l->lost, 0);
	check_eq(name_of("%s: none early", name), l->early, 0);
	check_range(name_of("%s: lateness in us", name), to_us(l->worst), 0, late_us);
}

static void test_one_shot(void) {
	struct lateness l = {0, 0, 0, 0};
	u32 count = (u32)(lapic_hz() / 1000); /* 1 ms */

	lapic_write(LAPIC_LVT_TIMER, VECTOR);
	for (unsigned i = 0; i < ROUNDS; i++) {
		u64 due = rdtsc() + us_to_tsc(1000);

		hits = 0;
		lapic_write(LAPIC_TIMER_INIT, count);
		note(&l, due - us_to_tsc(10)); /* the measured rate is good to 1 % */
	}
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
	report("LAPIC one-shot", &l);
}

static void test_deadline(void) {
	struct lateness l = {0, 0, 0, 0};

	if (!cpuid_bit(1, 2, 24)) {
		skip("TSC deadline", "not offered");
		return;
	}
	lapic_write(LAPIC_LVT_TIMER, LVT_DEADLINE | VECTOR);
	for (unsigned i = 0; i < ROUNDS; i++) {
		u64 due = rdtsc() + us_to_tsc(1000);

		hits = 0;
		wrmsr(X86_MSR_TSC_DEADLINE, due);
		note(&l, due + us_to_tsc(2)); /* not a tick early */
	}
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
	report("TSC deadline", &l);
}

static void test_hlt_wakes(void) {
	lapic_write(LAPIC_LVT_TIMER, VECTOR);
	hits = 0;
	u64 start = rdtsc();
	lapic_write(LAPIC_TIMER_INIT, (u32)(lapic_hz() / 100));
	cpu_sti_hlt_cli();
	u64 took = to_us(rdtsc() - start);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
	check_eq("HLT: ended by the timer", hits, 1);
	check_range("HLT: slept 10 ms, in us", took, 9900, 10000 + late_us);
}

/*
 * An interrupt that comes between STI and HLT ends the HLT: STI's shadow is not lost by the exit
 * that it makes there. A tick is met at about that moment, in steps of one instruction.
 */
static void test_halt_race(void) {
	u32 overslept = 0;

	lapic_write(LAPIC_LVT_TIMER, LVT_PERIODIC | VECTOR);
	lapic_write(LAPIC_TIMER_INIT, (u32)(lapic_hz() / 5000));
	for (u64 i = 0; i < 3000; i++) {
		u64 spin = us_to_tsc(200) / 2 - i / 2, tail = i & 1;

		cpu_sti_hlt_cli();
		hits = 0;
		__asm__ volatile("1: dec %0\n\t"
				 "jnz 1b\n\t"
				 "test %1, %1\n\t"
				 "jz 2f\n\t"
				 "nop\n\t"
				 "2:"
				 : "+r"(spin)
				 : "r"(tail));
		cpu_sti_hlt_cli();
		overslept += hits > 1;
	}
	lapic_write(LAPIC_TIMER_INIT, 0);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
	check_eq("HLT behind STI: ended by the next tick, not by the one after", overslept, 0);
}

/* Interrupts in 200 ms of a periodic timer of 1 kHz. */
static unsigned count_ticks(void) {
	u64 end = rdtsc() + us_to_tsc(200000);

	hits = 0;
	while (rdtsc() < end) cpu_irq_window();
	return hits;
}

static void test_periodic(void) {
	lapic_write(LAPIC_LVT_TIMER, LVT_PERIODIC | VECTOR);
	lapic_write(LAPIC_TIMER_INIT, (u32)(lapic_hz() / 1000));
	check_ticks("LAPIC periodic: 200 ticks in 200 ms", count_ticks());
	lapic_write(LAPIC_TIMER_INIT, 0);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
}

/* 1 ms by mode 0. */
static void pit_one_shot(struct lateness *l) {
	u64 due = rdtsc() + us_to_tsc(1000);

	hits = 0;
	outb(0x43, 0x30);
	outb(0x40, (u8)(PIT_HZ / 1000));
	outb(0x40, (u8)(PIT_HZ / 1000 >> 8));
	note(l, due);
}

static void test_pit(void) {
	struct lateness l = {0, 0, 0, 0};

	pic_init(VECTOR_PIC);
	lapic_write(LAPIC_LVT_LINT0, 0x700);
	outb(0x21, 0xfe);
	pit_one_shot(&l); /* what the firmware left pending may come first */
	memset(&l, 0, sizeof(l));
	for (unsigned i = 0; i < ROUNDS; i++) pit_one_shot(&l);
	report("PIT one-shot", &l);
	outb(0x43, 0x34);
	outb(0x40, (u8)(PIT_HZ / 1000));
	outb(0x40, (u8)(PIT_HZ / 1000 >> 8));
	check_ticks("PIT periodic: 200 ticks in 200 ms", count_ticks());
	outb(0x21, 0xff);
	outb(0x43, 0x30);
}

static unsigned slow_hits;

static void spin_us(u64 us) {
	u64 rounds = us_to_tsc(us) / 2;

	__asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(rounds));
}

static void on_slow(struct regs *r) {
	(void)r;
	slow_hits++;
	spin_us(250);
	lapic_eoi();
}

/* The LAPIC's interrupt after 50 us, and the PIT's while its handler still runs. */
static void arm_both(void) {
	outb(0x43, 0x30);
	outb(0x40, (u8)(PIT_HZ / 5000));
	outb(0x40, (u8)(PIT_HZ / 5000 >> 8));
	lapic_write(LAPIC_TIMER_INIT, (u32)(lapic_hz() / 20000));
	cpu_sti();
}

/* An interrupt of the host, while a handler of the guest runs, does not bring the guest's again. */
static void test_once(void) {
	/* mov $400000, %ecx; 1: dec %ecx; jnz 1b; ud2 */
	static const u8 user[] = {0xb9, 0x80, 0x1a, 0x06, 0, 0xff, 0xc9, 0x75, 0xfc, 0x0f, 0x0b};

	trap_set_handler(VECTOR, on_slow);
	lapic_write(LAPIC_LVT_TIMER, VECTOR);
	outb(0x21, 0xfe);
	for (unsigned i = 0; i < ROUNDS; i++) {
		arm_both();
		spin_us(800);
		cpu_cli();
	}
	check_eq("interrupts of the kernel's code come once", slow_hits, ROUNDS);
	slow_hits = 0;
	for (unsigned i = 0; i < ROUNDS; i++) {
		arm_both();
		user_run(user, sizeof(user));
		cpu_cli();
	}
	check_eq("interrupts of user code come once", slow_hits, ROUNDS);
	outb(0x21, 0xff);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
}

static u8 rtc_second(void) {
	u8 a, b;

	delay_us(100);

	do {
		outb(0x70, 0);
		a = inb(0x71);
		b = inb(0x71);
	} while (a != b);
	return a;
}

static void test_rtc(void) {
	u8 second = rtc_second();

	wait_until(rtc_second() != second, 1500000);
	u64 start = rdtsc();
	second = rtc_second();
	check("RTC: the next second comes", wait_until(rtc_second() != second, 1500000));
	check_near("RTC: a second by the TSC, in ms", to_us(rdtsc() - start) / 1000, 1000, percent);
}

void test_main(void) {
	bool strict = cmdline_has("strict");

	percent = strict ? 1 : 10;
	fewer = strict ? 1 : 90;
	late_us = strict ? 50 : 100000;
	lapic_init();
	trap_set_handler(VECTOR, on_lapic);
	trap_set_handler(VECTOR_PIC, on_pit);
	test_tsc();
	test_monotonic();
	test_one_shot();
	test_deadline();
	test_hlt_wakes();
	test_halt_race();
	test_periodic();
	test_pit();
	test_once();
	test_rtc();
}
