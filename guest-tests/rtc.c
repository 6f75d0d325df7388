/* The MC146818 clock: time, formats, its three interrupts, what CMOS keeps. */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "rtc";

#define REG_A	    0x0a
#define REG_B	    0x0b
#define REG_C	    0x0c
#define REG_D	    0x0d
#define A_UIP	    0x80
#define B_SET	    0x80
#define B_PERIODIC  0x40
#define B_ALARM	    0x20
#define B_UPDATE    0x10
#define B_BINARY    0x04
#define B_24H	    0x02
#define C_IRQ	    0x80
#define VECTOR_BASE 0x40
#define RTC_IRQ	    8

static unsigned hits;
static u8 causes;

static u8 get(u8 index) {
	outb(0x70, index);
	return inb(0x71);
}

static void set(u8 index, u8 value) {
	outb(0x70, index);
	outb(0x71, value);
}

static void on_irq(struct regs *r) {
	(void)r;
	hits++;
	causes |= get(REG_C);
	pic_eoi(RTC_IRQ);
}

static unsigned from_bcd(u8 value) { return (unsigned)(value >> 4) * 10 + (value & 15); }

static bool no_update(void) {
	delay_us(20);
	return !(get(REG_A) & A_UIP);
}

static void test_registers(void) {
	check_eq("register D: valid time and RAM", get(REG_D) & 0x80, 0x80);
	check_eq("register A: 32768 Hz divider", get(REG_A) & 0x70, 0x20);
	set(REG_D, 0);
	check_eq("register D is read-only", get(REG_D) & 0x80, 0x80);
	set(REG_C, 0xff);
	(void)get(REG_C);
	check_eq("register C is read-only, and read clears it", get(REG_C) & 0xf0 & ~0x70, 0);
	outb(0x70, 0x80 | REG_D);
	check_eq("index bit 7 (NMI mask) is no part of the index", inb(0x71) & 0x80, 0x80);
	for (u8 i = 0x60; i < 0x64; i++) {
		u8 old = get(i);

		set(i, 0xa5);
		check_eq(name_of("CMOS byte 0x%x keeps what is written", i), get(i), 0xa5);
		set(i, old);
	}
}

static void test_time(void) {
	u8 b = get(REG_B), second;

	check_eq("24 hours, BCD, no interrupts", b & 0xfe & ~8, B_24H);
	wait_until(no_update(), 1000000);
	unsigned year = from_bcd(get(9)) + 2000;
	unsigned month = from_bcd(get(8));
	unsigned day = from_bcd(get(7));
	unsigned hour = from_bcd(get(4));
	print("# RTC says %u-%02u-%02u %02u:%02u:%02u\n", year, month, day, hour, from_bcd(get(2)),
	      from_bcd(get(0)));
	check_range("year", year, 2020, 2099);
	check_range("month", month, 1, 12);
	check_range("day", day, 1, 31);
	check_range("hour", hour, 0, 23);
	check_range("minute", from_bcd(get(2)), 0, 59);
	second = get(0);
	check_range("second", from_bcd(second), 0, 59);
	check("the second changes within 1.5 s",
	      wait_until((delay_us(100), get(0) != second), 1500000));
}

static void test_formats(void) {
	u8 b = get(REG_B);

	set(REG_B, (u8)(b | B_SET));
	set(0, 0x59);
	set(2, 0x34);
	set(4, 0x21);
	check_eq("BCD hour 21 reads back", get(4), 0x21);
	set(REG_B, (u8)(b | B_SET | B_BINARY));
	set(4, 21);
	check_eq("binary hour 21 reads back", get(4), 21);
	set(REG_B, (u8)((b | B_SET) & ~B_24H));
	set(4, 0x92);
	check_eq("12 hours: 12 at noon with PM bit", get(4), 0x92);
	set(REG_B, (u8)(b | B_SET));
	set(4, 0x23);
	set(2, 0x59);
	set(0, 0x58);
	set(7, 0x28);
	set(8, 0x02);
	set(9, 0x24);
	set(REG_B, b);
	check("carry: the day changes", wait_until(no_update() && get(7) == 0x29, 5000000));
	check_eq("carry: 29 February 2024", get(8), 0x02);
	check_eq("carry: hour", get(4), 0);
	check_eq("carry: minute", get(2), 0);
}

static bool wait_irq(unsigned wanted, u64 us) {
	return wait_until((cpu_irq_window(), hits >= wanted), us);
}

static void test_periodic(void) {
	u8 b = get(REG_B);

	hits = causes = 0;
	set(REG_A, 0x26); /* 1024 Hz */
	(void)get(REG_C);
	set(REG_B, (u8)(b | B_PERIODIC));
	check("periodic: ten interrupts come", wait_irq(10, 1000000));
	check_eq("periodic: cause", causes & (C_IRQ | B_PERIODIC), C_IRQ | B_PERIODIC);
	set(REG_B, b);
	(void)get(REG_C);
	cpu_irq_window();
	hits = 0;
	delay_us(5000);
	cpu_irq_window();
	check_eq("periodic: none once disabled", hits, 0);

	set(REG_B, (u8)(b | B_PERIODIC));
	check("periodic flag by polling", wait_until((get(REG_C) & B_PERIODIC) != 0, 100000));
	set(REG_B, b);
	cpu_irq_window();
}

static void test_update(void) {
	u8 b = get(REG_B);

	hits = causes = 0;
	(void)get(REG_C);
	set(REG_B, (u8)(b | B_UPDATE));
	check("update: an interrupt within 1.5 s", wait_irq(1, 1500000));
	u64 start = rdtsc();
	check_eq("update: cause", causes & (C_IRQ | B_UPDATE), C_IRQ | B_UPDATE);
	check("update: the next one", wait_irq(2, 1500000));
	check_range("update: a second later, in ms", (rdtsc() - start) / (tsc_hz() / 1000), 900,
		    1100);
	set(REG_B, b);
	(void)get(REG_C);
}

static void test_alarm(void) {
	u8 b = get(REG_B);

	hits = causes = 0;
	set(1, 0xff); /* "don't care": every second */
	set(3, 0xff);
	set(5, 0xff);
	(void)get(REG_C);
	set(REG_B, (u8)(b | B_ALARM));
	check("alarm: each second", wait_irq(1, 1500000));
	check_eq("alarm: cause", causes & (C_IRQ | B_ALARM), C_IRQ | B_ALARM);
	set(REG_B, b);
	(void)get(REG_C);
	cpu_irq_window();
	hits = 0;
	wait_until(no_update(), 1000000);
	set(1, get(0) == 0x30 ? 0x29 : 0x30);
	set(3, 0x61); /* never */
	set(REG_B, (u8)(b | B_ALARM));
	delay_us(1200000);
	cpu_irq_window();
	check_eq("alarm: not at another minute", hits, 0);
	set(REG_B, b);
}

void test_main(void) {
	lapic_init();
	lapic_write(LAPIC_LVT_LINT0, 0x700);
	trap_set_handler(VECTOR_BASE + RTC_IRQ, on_irq);
	pic_init(VECTOR_BASE);
	outb(0x21, 0xfb);
	outb(0xa1, 0xfe);
	test_registers();
	test_time();
	test_periodic();
	test_update();
	test_alarm();
	test_formats();
	outb(0x21, 0xff);
}
