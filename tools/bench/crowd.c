/*
 * One of several guests on a processor; the words of its command line say which:
 *
 *	idle	sleeps
 *	spin	counts as fast as it gets to:		`crowd rounds N gaps M`, M: how often
 *						another one had the processor meanwhile
 *	cpuid	what an exit takes beside the others:	`crowd cpuid TICKS`
 *	wake	sleeps until a deadline, again and again; how late its handler is entered, in ticks:
 *						`crowd wake MEDIAN HIGH MAX`, high: 99 of 100
 *
 * start= and end= say from when to when, in ticks of the guest's own TSC; then it ends.
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/guest.h"
#include "guest-tests/lib/trap.h"
#include "tools/bench/mark.h"

const char test_name[] = "crowd";

#define VECTOR_TIMER 0x41
#define EXITS	     1000
#define SAMPLES	     200
#define GAP	     100000  /* ticks: longer than any exit, shorter than any slice */
#define PERIOD	     3000000 /* ticks; no multiple or fraction of a time slice */

static volatile u64 handler_tsc;
void crowd_handler(void);
__asm__(".text\n"
	"crowd_handler:\n\t"
	"push %rax\n\tpush %rdx\n\t"
	"rdtsc\n\t"
	"shl $32, %rdx\n\t"
	"or %rdx, %rax\n\t"
	"mov %rax, handler_tsc(%rip)\n\t"
	"pop %rdx\n\tpop %rax\n\t"
	"iretq\n");

/* Sleeps until the TSC is there. Returns how much later the timer's handler began. */
static u64 sleep_until(u64 deadline) {
	handler_tsc = 0;
	wrmsr(X86_MSR_TSC_DEADLINE, deadline);
	while (!handler_tsc) __asm__ volatile("sti; hlt; cli" : : : "memory");
	lapic_eoi();
	return handler_tsc - deadline;
}

static void spin_until(u64 end) {
	u64 rounds = 0, gaps = 0, now = rdtsc();

	MARK_NOP(MARK_START);
	for (u64 last = now; now < end; last = now, now = rdtsc()) {
		if (now - last > GAP) gaps++;
		rounds++;
	}
	MARK_NOP(MARK_END);
	print("crowd rounds %lu gaps %lu\n", rounds, gaps);
}

static void measure_cpuid(void) {
	u32 r[4];
	u64 start = rdtsc();

	for (unsigned i = 0; i < EXITS; i++) cpuid(0x80000000, 0, r);
	print("crowd cpuid %lu\n", (rdtsc() - start + EXITS / 2) / EXITS);
}

static void measure_wakes(u64 start) {
	static u64 late[SAMPLES];

	for (unsigned n = 0; n < SAMPLES; n++) {
		u64 value = sleep_until(start + (n + 1) * PERIOD);
		unsigned at = n;

		for (; at && late[at - 1] > value; at--) late[at] = late[at - 1];
		late[at] = value;
	}
	print("crowd wake %lu %lu %lu\n", late[SAMPLES / 2], late[SAMPLES * 99 / 100],
	      late[SAMPLES - 1]);
}

void test_main(void) {
	u64 start = cmdline_number("start", 0), end = cmdline_number("end", 0);

	lapic_init();
	trap_set_entry(VECTOR_TIMER, crowd_handler);
	lapic_write(LAPIC_LVT_TIMER, LVT_DEADLINE | VECTOR_TIMER);
	sleep_until(start);
	if (cmdline_has("spin")) spin_until(end);
	if (cmdline_has("cpuid")) measure_cpuid();
	if (cmdline_has("wake")) measure_wakes(start);
	if (rdtsc() < end) sleep_until(end);
	check("it was there until the end", rdtsc() >= end);
}
