/* The 8254: counting, latches, access modes, the speaker gate of channel 2, status read back. */
#include "guest-tests/lib/guest.h"

const char test_name[] = "pit";

#define PIT_HZ	1193182u
#define GATE2	1
#define SPEAKER 2
#define OUT2	0x20

static void program(unsigned channel, unsigned mode, u16 count) {
	outb(0x43, (u8)(channel << 6 | 0x30 | mode << 1));
	outb((u16)(0x40 + channel), (u8)count);
	outb((u16)(0x40 + channel), (u8)(count >> 8));
}

static u16 latched(unsigned channel) {
	outb(0x43, (u8)(channel << 6));
	u16 low = inb((u16)(0x40 + channel));
	return (u16)(low | inb((u16)(0x40 + channel)) << 8);
}

static u8 status(unsigned channel) {
	outb(0x43, (u8)(0xe0 | 2u << channel)); /* read back the status, not the count */
	return inb((u16)(0x40 + channel));
}

static void gate(bool open) {
	outb(0x61, (u8)((inb(0x61) & ~(GATE2 | SPEAKER)) | (open ? GATE2 : 0)));
}

static bool out2(void) { return (inb(0x61) & OUT2) != 0; }

static void test_latch(void) {
	u16 again;
	bool stood = false;

	program(0, 2, 0);
	delay_us(100);
	u16 first = latched(0);
	delay_us(500);
	u16 later = latched(0);
	check("the count runs down", (u16)(first - later) >= 500 && (u16)(first - later) < 60000);
	/* More than one try: the host may take a break between the two latch commands. */
	for (unsigned i = 0; i < 20 && !stood; i++) {
		first = latched(0);
		outb(0x43, 0);
		delay_us(2000);
		again = inb(0x40);
		again = (u16)(again | inb(0x40) << 8);
		stood = (u16)(first - again) < 2000;
	}
	check("a latched count stands still", stood);
	outb(0x43, 0);
	delay_us(200);
	outb(0x43, 0); /* a second latch command before the read is ignored */
	first = inb(0x40);
	first = (u16)(first | inb(0x40) << 8);
	check("a second latch command changes nothing", (u16)(first - latched(0)) >= 200);
}

static u64 read_count(void) { return latched(0); }

/* Both samples must lie within one round of the 16-bit counter, 54 ms; a busy host spoils that. */
static void test_rate(void) {
	struct sample first, last;

	for (unsigned i = 0; i < 20; i++) {
		first = take_sample(read_count);
		delay_us(20000);
		last = take_sample(read_count);
		if (last.tsc - first.tsc < us_to_tsc(50000)) break;
	}
	u64 expected = (last.tsc - first.tsc) / (tsc_hz() / PIT_HZ);
	check_range("1.193182 MHz against the TSC, within 3 %", (u16)(first.value - last.value),
		    expected * 97 / 100, expected * 103 / 100);
}

static void test_modes(void) {
	u16 count;

	program(0, 2, 1000);
	delay_us(2000);
	for (unsigned i = 0; i < 200; i++) {
		count = latched(0);
		if (count < 1 || count > 1000) {
			check_range("mode 2 stays within its count", count, 1, 1000);
			return;
		}
	}
	check("mode 2 stays within its count", true);
	program(0, 3, 1000);
	delay_us(2000);
	count = latched(0);
	check("mode 3 counts by two: even", (count & 1) == 0);
}

static void test_status(void) {
	program(2, 3, 1234);
	check_eq("status: access, mode 3, binary", status(2) & 0x3f, 0x36);
	program(2, 0, 1234);
	check_eq("status: access, mode 0, binary", status(2) & 0x3f, 0x30);
	gate(true);
	outb(0x43, 0x94); /* channel 2, low byte only, mode 2 */
	outb(0x42, 100);
	delay_us(50);
	check_eq("status: count loaded", status(2) & 0x40, 0);
	check_eq("status: low byte only, mode 2", status(2) & 0x3f, 0x14);
}

/* The gate of channel 2: shut, the count stands; in mode 1 its rising edge is the trigger. */
static void test_gate(void) {
	if (on_bare_tcg()) {
		skip("the gate of channel 2", "QEMU's PIT ignores it in modes 0 and 1");
		return;
	}
	gate(false);
	program(2, 0, 0x1234);
	check_eq("gate shut: the count is loaded", latched(2), 0x1234);
	delay_us(100);
	check_eq("gate shut: the count stands", latched(2), 0x1234);
	outb(0x43, 0xc8); /* read back count and status of channel 2 */
	(void)inb(0x42);
	check_eq("read back: count behind the status, low byte", inb(0x42), 0x34);
	check_eq("read back: count behind the status, high byte", inb(0x42), 0x12);
	delay_us(6000);
	check("gate shut: the output stays low", !out2());
	gate(true);
	check("gate open: the output rises", wait_until(out2(), 100000));
	gate(false);
	program(2, 1, 1000);
	check("mode 1: output is high before the trigger", out2());
	gate(true);
	check("mode 1: low once the gate rises", !out2());
	check("mode 1: high at the end", wait_until(out2(), 100000));
	gate(false);
	gate(true);
	check("mode 1: the gate triggers again", !out2());
	wait_until(out2(), 100000);
	program(2, 3, 20000);
	gate(false);
	check("mode 3: gate shut, output is high", out2());
}

static void test_access(void) {
	gate(true);
	outb(0x43, 0xa0); /* channel 2, high byte only, mode 0 */
	outb(0x42, 0x56);
	outb(0x43, 0x80);
	check_range("high byte only", inb(0x42), 0x55, 0x56);
	if (on_bare_tcg()) {
		skip("BCD", "QEMU's PIT counts in binary");
		return;
	}
	outb(0x43, 0xb1); /* both bytes, mode 0, BCD */
	outb(0x42, 0x00);
	outb(0x42, 0x10);
	delay_us(50);
	for (unsigned i = 0; i < 50; i++) {
		u16 count = latched(2);

		if ((count & 15) > 9 || (count >> 4 & 15) > 9 || (count >> 8 & 15) > 9) {
			check_eq("BCD: decimal digits", count, 0x1000);
			return;
		}
	}
	check("BCD: decimal digits", true);
}

static void test_out(void) {
	gate(true);
	program(2, 0, 2000);
	check("mode 0: output is low while it counts", !out2());
	check("mode 0: output rises at the end", wait_until(out2(), 100000));
	program(2, 0, 2000);
	check("mode 0: a new count lowers it", !out2());
	program(2, 3, 20000);
	check("mode 3: output changes", wait_until(out2(), 100000) && wait_until(!out2(), 100000));
}

/* Measures a wait for channel 2 by the TSC: mode 0 is neither early nor much late. */
static void test_wait(void) {
	u64 start, took, wanted = us_to_tsc(10000);

	gate(true);
	start = rdtsc();
	program(2, 0, (u16)(PIT_HZ / 100));
	wait_until(out2(), 1000000);
	took = rdtsc() - start;
	check_range("10 ms of channel 2 by the TSC, in us", took / (tsc_hz() / 1000000), 9900,
		    15000);
	check("not early", took >= wanted / 100 * 99);
	gate(false);
}

static void test_speaker_port(void) {
	u8 before = inb(0x61), first = before & 0x10;

	outb(0x61, (u8)((before & 0xfc) | 1));
	check_eq("port 0x61: bits 1:0 read back", inb(0x61) & 3, 1);
	outb(0x61, (u8)(before & 0xfc));
	check_eq("port 0x61: bits 1:0 read back cleared", inb(0x61) & 3, 0);
	check("port 0x61: the refresh bit toggles", wait_until((inb(0x61) & 0x10) != first, 10000));
}

void test_main(void) {
	test_latch();
	test_rate();
	test_modes();
	test_status();
	test_access();
	test_out();
	test_gate();
	test_wait();
	test_speaker_port();
	outb(0x43, 0x30);
}
