/*
 * What a VM does beside others, for tests of the scheduler and of VMs' lives. Words of the command
 * line: resets=N resets N times, each time in another way that a PC has or always in the one that
 * way= numbers, and counts in CMOS RAM, which outlives them. spin=MS counts on all CPUs for so
 * long. flood=timer, flood=ipi, flood=uart and flood=pause keep Roost busy for ever; both with
 * interrupts off unless there is sti. answer=N sleeps N times for 5 ms and says how late it woke.
 * gaps says at each line that it gets for how long it had no CPU since the last one, at most.
 * Without any, each is tried for a moment.
 */
#include "guest-tests/lib/acpi.h"
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/smp.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "life";

#define CMOS_COUNT 0x50	      /* a byte that means nothing on any PC */
#define NOTE	   0x600000ul /* behind the image */
#define VECTOR	   0x41
#define COM1	   0x3f8
#define PERIOD_US  5000
#define MOST	   1000
#define SPIN_AT_MS 1000

static volatile u32 hits;
static volatile u64 counts[MAX_CPUS];
static u64 late[MOST];

static u8 cmos(u8 reg) {
	outb(0x70, reg);
	return inb(0x71);
}

static void set_cmos(u8 reg, u8 value) {
	outb(0x70, reg);
	outb(0x71, value);
}

/* ---- resets ---- */

static void reset_by_keyboard(void) { outb(0x64, 0xfe); }

static void reset_by_port_92(void) { outb(0x92, 3); }

static void reset_by_cf9(void) {
	outb(0xcf9, 2);
	outb(0xcf9, 6);
}

/* As an operating system does it by ACPI: one write of what the FADT says (ACPI 5.1, 4.8.3.6). */
static void reset_by_acpi(void) {
	const u8 *fadt = (const u8 *)acpi_table("FACP");

	if (!check("the FADT has a reset register in I/O space",
		   fadt && fadt[113] & 4 && fadt[116] == 1))
		return;
	outb((u16)(fadt[120] | fadt[121] << 8), fadt[128]);
}

static void reset_by_init(void) { lapic_send(lapic_id(), ICR_INIT | ICR_ASSERT); }

static void reset_by_triple_fault(void) {
	static const u8 none[10];

	__asm__ volatile("lidt %0\n\tud2" : : "m"(none[0]));
}

static void (*const ways[])(void) = {reset_by_keyboard, reset_by_port_92, reset_by_cf9,
				     reset_by_acpi,	reset_by_init,	  reset_by_triple_fault};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

/* What a reset must leave: vector registers as after power-up, memory cleared. */
static void check_fresh(void) {
	volatile u64 *note = (u64 *)NOTE;
	u64 xmm, ones = ~0ul;

	write_cr4(read_cr4() | X86_CR4_OSFXSR);
	__asm__ volatile("movq %%xmm7, %0" : "=r"(xmm));
	check_eq("XMM7 is 0 after a reset", xmm, 0);
	check_eq("memory is 0 after a reset", *note, 0);
	*note = ones;
	__asm__ volatile("movq %0, %%xmm7" : : "r"(ones));
}

static void test_resets(u64 wanted) {
	u8 count = cmos(CMOS_COUNT);

	check_fresh();
	if (count >= wanted) return;
	set_cmos(CMOS_COUNT, count + 1);
	print("# reset %u\n", count + 1);
	lapic_init();
	ways[cmdline_number("way", count) % WAYS]();
	for (;;) __asm__ volatile("hlt");
}

/* ---- work ---- */

static u64 spin_begin, spin_end;

static void spin(void *arg) {
	volatile u64 *count = arg;

	if (cmdline_has("sti")) cpu_sti();
	/* All spin: a count at the beginning of another's is no share yet. */
	while (rdtsc() < spin_begin) __asm__ volatile("");
	while (rdtsc() < spin_end) ++*count;
}

static void test_spin(u64 ms) {
	u32 n = smp_init();
	u64 sum = 0;

	/* The TSC counts from the VM's start, and VMs of a test start together. */
	spin_begin = us_to_tsc(SPIN_AT_MS * 1000);
	if (spin_begin < rdtsc()) spin_begin = rdtsc();
	spin_end = spin_begin + us_to_tsc(ms * 1000);
	for (u32 i = 1; i < n; i++) smp_start(i, spin, (void *)&counts[i]);
	spin((void *)&counts[0]);
	for (u32 i = 1; i < n; i++) check("the CPU is done", smp_wait(i, 10000000));
	for (u32 i = 0; i < n; i++) sum += counts[i];
	print("# counted %lu\n", sum);
	check_ne("what was counted", sum, 0);
}

static void on_timer(struct regs *r) {
	(void)r;
	hits++;
	lapic_eoi();
}

static void wait_one(void) { __asm__ volatile("sti\n\thlt\n\tcli" : : : "memory"); }

static void arm(u32 us) {
	/* A count of Roost's timer is a nanosecond. */
	lapic_write(LAPIC_TIMER_INIT, us * 1000);
}

static void test_answer(u64 n) {
	u32 over = 0;
	u64 worst = 0;

	lapic_init();
	trap_set_handler(VECTOR, on_timer);
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
	lapic_write(LAPIC_LVT_TIMER, VECTOR);
	for (u64 i = 0; i < n && i < MOST; i++) {
		u64 due = rdtsc() + us_to_tsc(PERIOD_US);
		u32 before = hits;

		arm(PERIOD_US);
		while (hits == before) wait_one();
		late[i] = rdtsc() - due;
		if ((s64)late[i] < 0) late[i] = 0;
		over += late[i] > us_to_tsc(1000);
		if (late[i] > worst) worst = late[i];
	}
	print("# answered %lu times, %u late by more than 1 ms, at worst %lu us\n", n, over,
	      worst / us_to_tsc(1));
	check_eq("answers", hits, n);
}

/* ---- floods: they do not return ---- */

static void flood_timer(void) {
	lapic_init();
	trap_set_handler(VECTOR, on_timer);
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
	lapic_write(LAPIC_LVT_TIMER, LVT_PERIODIC | VECTOR);
	lapic_write(LAPIC_TIMER_INIT, 1);
	for (;;) wait_one();
}

static void flood_ipi(void) {
	smp_init();
	for (;;) lapic_send(0, ICR_OTHERS | ICR_ASSERT | VECTOR_WAKE);
}

static void flood_uart(void) {
	for (;;) print_char('.');
}

static void flood_pause(void) {
	for (;;) cpu_pause();
}

/* Nor does this. */
static void tell_gaps(void) {
	for (u64 worst = 0, last = rdtsc(), now;; last = now) {
		now = rdtsc();
		if (now - last > worst) worst = now - last;
		if (!(inb(COM1 + 5) & 1) || inb(COM1) != '\r') continue;
		print("# gap %lu us\n", worst / us_to_tsc(1));
		worst = 0;
		now = rdtsc();
	}
}

static const struct {
	const char *word;
	void (*run)(void);
} floods[] = {{"flood=timer", flood_timer},
	      {"flood=ipi", flood_ipi},
	      {"flood=uart", flood_uart},
	      {"flood=pause", flood_pause},
	      {"gaps", tell_gaps}};

void test_main(void) {
	u64 resets = cmdline_number("resets", 0), ms = cmdline_number("spin", 0);
	u64 answers = cmdline_number("answer", 0);

	if (cmdline_has("sti")) cpu_sti();
	for (unsigned i = 0; i < sizeof(floods) / sizeof(floods[0]); i++)
		if (cmdline_has(floods[i].word)) floods[i].run();
	if (resets) test_resets(resets);
	if (ms) test_spin(ms);
	if (answers) test_answer(answers);
	if (resets || ms || answers) return;
	test_spin(10);
	test_answer(3);
}
