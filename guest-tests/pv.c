/*
 * The paravirtual interface known as KVM's: clock, wall clock, hypercalls, EOI by memory (Linux
 * Documentation/virt/kvm/x86/msr.rst, cpuid.rst, hypercalls.rst).
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "pv";

#define MSR_WALL_CLOCK	0x4b564d00
#define MSR_SYSTEM_TIME 0x4b564d01
#define MSR_ASYNC_PF	0x4b564d02
#define MSR_STEAL_TIME	0x4b564d03
#define MSR_PV_EOI	0x4b564d04
#define MSR_POLL	0x4b564d05
#define FEATURE_CLOCK	3
#define FEATURE_EOI	6
#define FEATURE_POLL	12
#define ENABLED		1
#define VECTOR		0x61
#define ENOSYS		(-1000l)
#define EPERM		(-1l)

struct __packed system_time {
	u32 version, pad0;
	u64 tsc, time_ns;
	u32 multiplier;
	s8 shift;
	u8 flags, pad1[2];
};

struct wall_clock {
	u32 version, seconds, nanoseconds;
};

static u32 features;
static volatile struct system_time *clock;

/* Nanoseconds as the ABI computes them: ((tsc - base) shifted * multiplier) >> 32 + base time. */
static u64 clock_ns(void) {
	u32 version;
	u64 ns;

	do {
		u64 delta;

		version = clock->version;
		__asm__ volatile("lfence" : : : "memory");
		delta = rdtsc() - clock->tsc;
		delta = clock->shift < 0 ? delta >> -clock->shift : delta << clock->shift;
		ns = clock->time_ns + (u64)((unsigned __int128)delta * clock->multiplier >> 32);
		__asm__ volatile("lfence" : : : "memory");
	} while (version != clock->version || version & 1);
	return ns;
}

static void test_clock(void) {
	u64 expected, previous, backwards = 0;

	if (!(features >> FEATURE_CLOCK & 1)) {
		skip("clock", "not offered");
		return;
	}
	clock = page_alloc();
	check_eq("clock: enabled", msr_write(MSR_SYSTEM_TIME, (u64)clock | ENABLED), TRAP_NONE);
	check_ne("clock: multiplier", clock->multiplier, 0);
	check("clock: version is even and not 0", clock->version && !(clock->version & 1));
	struct sample first = take_sample(clock_ns);
	delay_us(20000);
	struct sample last = take_sample(clock_ns);
	expected = (last.tsc - first.tsc) * 1000 / (tsc_hz() / 1000000);
	check_range("clock: 20 ms against the TSC, in ns, within 1 %", last.value - first.value,
		    expected * 99 / 100, expected * 101 / 100);
	previous = clock_ns();
	for (unsigned i = 0; i < 5000; i++) {
		u64 now = clock_ns();

		backwards += now < previous;
		previous = now;
	}
	check_eq("clock: never goes back", backwards, 0);
	check_eq("clock: MSR reads back", rdmsr(MSR_SYSTEM_TIME), (u64)clock | ENABLED);
	check_eq("clock: disabled", msr_write(MSR_SYSTEM_TIME, 0), TRAP_NONE);
}

static void test_wall_clock(void) {
	volatile struct wall_clock *wall = page_alloc();

	if (!(features >> FEATURE_CLOCK & 1)) {
		skip("wall clock", "not offered");
		return;
	}
	check_eq("wall clock: written", msr_write(MSR_WALL_CLOCK, (u64)wall), TRAP_NONE);
	check("wall clock: version is even and not 0", wall->version && !(wall->version & 1));
	print("# booted at %u s since 1970\n", wall->seconds);
	check_range("wall clock: after 2020", wall->seconds, 1577836800, 4102444800);
	check_range("wall clock: nanoseconds", wall->nanoseconds, 0, 999999999);
}

/* Addresses where nothing is, or that reach past the end: refused or ignored, never harmful. */
static void test_bad_addresses(void) {
	static const u64 bad[] = {0xd0000000, 0xfffffffffffff000, 0x7ffffffffffff000, 0xfee00000,
				  0x000ffffffffff000};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		(void)msr_write(MSR_SYSTEM_TIME, bad[i] | ENABLED);
		(void)msr_write(MSR_WALL_CLOCK, bad[i]);
		(void)msr_write(MSR_PV_EOI, bad[i] | ENABLED);
		check(name_of("address 0x%lx does no harm", bad[i]), true);
	}
	(void)msr_write(MSR_SYSTEM_TIME, 0);
	(void)msr_write(MSR_PV_EOI, 0);
}

static s64 call(u64 nr, u64 a) {
	s64 result = hypercall(nr, a, a, a, a);

	check_eq(name_of("hypercall 0x%lx raises nothing", nr), trap_taken().vector, TRAP_NONE);
	return result;
}

static void test_hypercalls(void) {
	static const u64 unknown[] = {0, 2, 4, 99, 0x7fffffff, 0xffffffff};

	for (unsigned i = 0; i < ARRAY_SIZE(unknown); i++)
		check_eq(name_of("hypercall 0x%lx does not exist", unknown[i]),
			 (u64)call(unknown[i], ~0ul), (u64)ENOSYS);
	check_eq("hypercall 5 (kick) of an absent CPU", (u64)call(5, 0xffffffff), 0);
}

/* vmmcall or vmcall in ring 3, then ud2. */
static void test_user_hypercall(void) {
	static const u8 amd[] = {0xb8, 99, 0, 0, 0, 0x0f, 0x01, 0xd9, 0x0f, 0x0b};
	static const u8 intel[] = {0xb8, 99, 0, 0, 0, 0x0f, 0x01, 0xc1, 0x0f, 0x0b};

	user_run(cpu_is_amd() ? amd : intel, sizeof(amd));
	check_eq("a hypercall of ring 3 is refused by its result, or is #UD", trap_taken().vector,
		 X86_UD);
}

static unsigned hits;
static volatile u32 *eoi_word;

static void on_irq(struct regs *r) {
	u32 old = 1;

	(void)r;
	hits++;
	/* Bit 0 set: no EOI is needed, clearing the bit says so. */
	__asm__ volatile("lock btrl $0, %0\n\tsbb %1, %1"
			 : "+m"(*eoi_word), "=r"(old)
			 :
			 : "memory");
	if (!old) lapic_eoi();
}

static void test_pv_eoi(void) {
	if (!(features >> FEATURE_EOI & 1)) {
		skip("EOI by memory", "not offered");
		return;
	}
	eoi_word = page_alloc();
	lapic_init();
	trap_set_handler(VECTOR, on_irq);
	check_eq("EOI by memory: enabled", msr_write(MSR_PV_EOI, (u64)eoi_word | ENABLED),
		 TRAP_NONE);
	for (unsigned i = 0; i < 1000; i++) {
		lapic_send(0, ICR_SELF | VECTOR);
		cpu_irq_window();
	}
	check_eq("EOI by memory: 1000 interrupts", hits, 1000);
	check("EOI by memory: nothing is left in service", !lapic_bit(LAPIC_ISR, VECTOR));
	lapic_send(0, ICR_SELF | (VECTOR + 1));
	lapic_send(0, ICR_SELF | VECTOR);
	trap_set_handler(VECTOR + 1, on_irq);
	for (unsigned i = 0; i < 10; i++) cpu_irq_window();
	check_eq("EOI by memory: two pending at once", hits, 1002);
	msr_write(MSR_PV_EOI, 0);
}

static void test_poll_control(void) {
	u64 value = 0;

	if (!(features >> FEATURE_POLL & 1)) {
		skip("poll control", "not offered");
		return;
	}
	check_eq("poll control: there", msr_read(MSR_POLL, &value), TRAP_NONE);
	check_eq("poll control: on after a reset", value, 1);
	check_eq("poll control: off", msr_write(MSR_POLL, 0), TRAP_NONE);
	(void)msr_read(MSR_POLL, &value);
	check_eq("poll control: is off", value, 0);
	check_eq("poll control: reserved bits", msr_write(MSR_POLL, 2), X86_GP);
	msr_write(MSR_POLL, 1);
}

static void test_not_offered(void) {
	u64 value;

	if (!(features >> 4 & 1))
		check_eq("async page faults: #GP", msr_read(MSR_ASYNC_PF, &value), X86_GP);
	if (!(features >> 5 & 1))
		check_eq("steal time: #GP", msr_read(MSR_STEAL_TIME, &value), X86_GP);
}

void test_main(void) {
	u32 r[4];

	if (!under_roost()) {
		skip("paravirtual interface", "no hypervisor");
		return;
	}
	cpuid(0x40000001, 0, r);
	features = r[0];
	print("# features 0x%x\n", features);
	test_clock();
	test_wall_clock();
	test_bad_addresses();
	test_hypercalls();
	test_user_hypercall();
	test_pv_eoi();
	test_poll_control();
	test_not_offered();
}
