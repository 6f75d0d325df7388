// sources: tests/fakes.c platform/bus.c platform/lapic.c platform/lapic_timer.c
// sources: platform/lapic_ipi.c platform/ioapic.c platform/pic.c platform/pit.c platform/rtc.c
// sources: platform/uart.c platform/pmio.c platform/platform.c platform/layout.c
// sources: platform/lapic_virtual.c
/* The MC146818: calendar, formats, setting, update cycle, flags and interrupts, CMOS bytes. */
#include "tests/rig.h"

enum { SEC, SEC_ALARM, MIN, MIN_ALARM, HOUR, HOUR_ALARM, WEEKDAY, DAY, MONTH, YEAR, A, B, C, D };
#define CENTURY 0x32

/* What the host's clock goes on with each time that someone looks at it. */
static u64 look_ns;

u64 platform_wall_clock_ns(void) {
	fake_wall_clock_base_ns += look_ns;
	return fake_wall_clock_base_ns + time_ns();
}

static u8 rd(struct vm *vm, u8 reg) {
	byte_out(vm, 0x70, reg);
	return byte_in(vm, 0x71);
}

static void wr(struct vm *vm, u8 reg, u8 value) {
	byte_out(vm, 0x70, reg);
	byte_out(vm, 0x71, value);
}

static bool line(struct vm *vm) { return vm->platform->ioapic.lines >> 8 & 1; }

static void set_clock(struct vm *vm, u64 unix_seconds) {
	u64 wall = platform_wall_clock_ns();

	vm->platform->rtc.phase = (1000000000 - wall % 1000000000) % 1000000000;
	vm->platform->rtc.seen = wall + vm->platform->rtc.phase;
	vm->platform->rtc.offset = unix_seconds - vm->platform->rtc.seen / 1000000000;
	wr(vm, 0x7f, 0); /* anything that makes it look at its timer again */
}

static void calendar_round_trip(void **state) {
	static const u8 days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	struct rtc_time want = {.day = 1, .month = 1, .year = 1970, .weekday = 5}, got;

	(void)state;
	/* Every day up to the year 2500, by counting. */
	for (u64 day = 0; want.year < 2500; day++) {
		u32 length = days[want.month - 1];

		if (want.month == 2)
			length += want.year % 4 == 0 && (want.year % 100 || want.year % 400 == 0);
		rtc_from_unix(day * 86400 + 86399, &got);
		assert_int_equal(got.hour * 3600 + got.minute * 60 + got.second, 86399);
		assert_int_equal(got.day, want.day);
		assert_int_equal(got.month, want.month);
		assert_int_equal(got.year, want.year);
		assert_int_equal(got.weekday, want.weekday);
		assert_int_equal(rtc_to_unix(&got), day * 86400 + 86399);
		want.weekday = want.weekday % 7 + 1;
		if (want.day++ < length) continue;
		want.day = 1;
		if (want.month++ < 12) continue;
		want.month = 1;
		want.year++;
	}
	rtc_from_unix(253402300799, &got);
	assert_int_equal(got.year, 9999);
}

static void shows_the_host_time(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	/* 2023-11-14 22:13:20 UTC, a Tuesday; BCD and 24 hours from the start. */
	assert_int_equal(rd(vm, SEC), 0x20);
	assert_int_equal(rd(vm, MIN), 0x13);
	assert_int_equal(rd(vm, HOUR), 0x22);
	assert_int_equal(rd(vm, WEEKDAY), 3);
	assert_int_equal(rd(vm, DAY), 0x14);
	assert_int_equal(rd(vm, MONTH), 0x11);
	assert_int_equal(rd(vm, YEAR), 0x23);
	assert_int_equal(rd(vm, CENTURY), 0x20);
	assert_int_equal(rd(vm, D), 0x80);
	fake_advance_ns(45000000000);
	assert_int_equal(rd(vm, SEC), 0x05);
	assert_int_equal(rd(vm, MIN), 0x14);
	wr(vm, B, 0x04); /* binary, 12 hours */
	assert_int_equal(rd(vm, HOUR), 0x80 | 10);
	assert_int_equal(rd(vm, YEAR), 23);
	assert_int_equal(rd(vm, CENTURY), 0x20); /* always BCD */
	rig_destroy(vm);
}

static void twelve_hours(void **state) {
	static const u8 hours[] = {12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
	struct vm *vm = rig_create(1);

	(void)state;
	for (u32 mode = 0; mode < 2; mode++)
		for (u32 hour = 0; hour < 24; hour++) {
			u32 want = hours[hour % 12];

			want = mode ? want : want / 10 * 16 + want % 10;
			want |= hour >= 12 ? 0x80 : 0;
			wr(vm, B, mode ? 0x04 : 0);
			set_clock(vm, 1700000000 / 86400 * 86400 + hour * 3600);
			assert_int_equal(rd(vm, HOUR), want);
			wr(vm, HOUR, (u8)want);
			wr(vm, B, 0x06);
			assert_int_equal(rd(vm, HOUR), hour);
		}
	rig_destroy(vm);
}

/* The order in which Linux sets it; the days of the old month must not get in the way. */
static void setting(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	set_clock(vm, 1676000000); /* February */
	wr(vm, B, 0x82);
	wr(vm, A, 0x76);
	fake_advance_ns(10000000000);
	wr(vm, DAY, 0x31);
	wr(vm, MONTH, 0x12);
	wr(vm, YEAR, 0x99);
	wr(vm, CENTURY, 0x20);
	wr(vm, HOUR, 0x23);
	wr(vm, MIN, 0x59);
	wr(vm, SEC, 0x58);
	fake_advance_ns(10000000000);
	assert_int_equal(rd(vm, SEC), 0x58); /* stands still */
	assert_int_equal(rd(vm, DAY), 0x31);
	assert_int_equal(rd(vm, A) & 0x80, 0);
	wr(vm, B, 0x02);
	assert_int_equal(rd(vm, SEC), 0x58);
	wr(vm, A, 0x26);
	/* The divider, let go, makes the first update after half a second. */
	fake_advance_ns(499000000);
	assert_int_equal(rd(vm, SEC), 0x58);
	fake_advance_ns(2000000);
	assert_int_equal(rd(vm, SEC), 0x59);
	fake_advance_ns(1000000000);
	assert_int_equal(rd(vm, SEC), 0);
	assert_int_equal(rd(vm, YEAR), 0);
	assert_int_equal(rd(vm, CENTURY), 0x21);
	assert_int_equal(rd(vm, MONTH), 1);
	assert_int_equal(rd(vm, DAY), 1);
	assert_int_equal(rd(vm, WEEKDAY), 6);
	/* Far ahead, too. */
	wr(vm, YEAR, 0x99);
	wr(vm, CENTURY, 0x99);
	fake_advance_ns(3000000000);
	assert_int_equal(rd(vm, YEAR), 0x99);
	assert_int_equal(rd(vm, CENTURY), 0x99);
	assert_int_equal(rd(vm, SEC), 0x03);
	/* What no clock shows. */
	wr(vm, MIN, 0xff);
	assert_int_equal(rd(vm, MIN), 0x59);
	wr(vm, MONTH, 0);
	assert_int_equal(rd(vm, MONTH), 1);
	rig_destroy(vm);
}

static void update_in_progress(void **state) {
	struct vm *vm = rig_create(1);
	u32 seen = 0;

	(void)state;
	for (u32 i = 0; i < 50000; i++) {
		u8 before = rd(vm, SEC);
		bool warned = rd(vm, A) & 0x80;

		seen += warned;
		fake_advance_ns(240000);
		if (rd(vm, SEC) != before)
			assert_true(warned);
		else if (warned)
			assert_true(rd(vm, A) & 0x80); /* a warning is never taken back */
	}
	assert_in_range(seen, 9 * 12, 10 * 12); /* 2.2 ms of each of 12 seconds */
	rig_destroy(vm);
}

static void flags_without_interrupts(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	rd(vm, C);
	assert_int_equal(rd(vm, C), 0);
	fake_advance_ns(1000000);
	assert_int_equal(rd(vm, C), 0x40); /* 1024 Hz */
	fake_advance_ns(1100000000);
	assert_int_equal(rd(vm, C) & 0xd0, 0x50);
	assert_int_equal(fake_timers_armed(), 0);
	assert_false(line(vm));
	rig_destroy(vm);
}

static void periodic(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	for (u32 rate = 1; rate < 16; rate++) {
		u32 count = 0, hz = 32768u >> (rate < 3 ? rate + 6 : rate - 1);

		wr(vm, A, (u8)(0x20 | rate));
		wr(vm, B, 0x42);
		rd(vm, C);
		for (u32 i = 0; i < 200000; i++) {
			fake_advance_ns(50000); /* 10 s */
			if (!line(vm)) continue;
			count++;
			assert_int_equal(rd(vm, C) & 0xc0, 0xc0);
			assert_false(line(vm));
		}
		assert_in_range(count, hz * 10 - 1, hz * 10 + 1);
	}
	/* No rate, no interrupts; nobody who acknowledges, no more timers. */
	wr(vm, A, 0x20);
	assert_int_equal(fake_timers_armed(), 0);
	wr(vm, A, 0x26);
	fake_advance_ns(1000000);
	assert_true(line(vm));
	assert_int_equal(fake_timers_armed(), 0);
	rig_destroy(vm);
}

/* A slow host: while register C is read, the next period ends. Its interrupt is one of its own. */
static void periodic_while_it_is_read(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	wr(vm, A, 0x26);
	wr(vm, B, 0x42);
	rd(vm, C);
	fake_advance_ns(1000000);
	assert_true(line(vm));
	vm->platform->pic.chip[1].irr = 0; /* it has been accepted */
	look_ns = 2000000;
	assert_int_equal(rd(vm, C) & 0xc0, 0xc0);
	look_ns = 0;
	assert_true(line(vm));
	assert_true(vm->platform->pic.chip[1].irr & 1);
	rig_destroy(vm);
}

static void update_ended(void **state) {
	struct vm *vm = rig_create(1);
	u32 count = 0;

	(void)state;
	fake_advance_ns(300000000);
	wr(vm, B, 0x12);
	rd(vm, C);
	for (u32 i = 0; i < 10000; i++) {
		fake_advance_ns(1000000);
		if (!line(vm)) continue;
		count++;
		assert_int_equal(rd(vm, C) & 0xb0, 0x90);
		assert_in_range(vm->platform->rtc.seen % 1000000000, 0, 1000000);
	}
	assert_int_equal(count, 10);
	/* SET clears UIE. */
	wr(vm, B, 0x92);
	assert_int_equal(rd(vm, B), 0x82);
	rig_destroy(vm);
}

/* Seconds until the alarm goes off, by a walk through the day; ~0: not within two days. */
static u64 naive_alarm(u32 from, u8 hour, u8 minute, u8 second) {
	for (u64 wait = 1; wait <= 2 * 86400; wait++) {
		u64 at = (from + wait) % 86400;

		if ((hour >= 0xc0 || at / 3600 == hour) &&
		    (minute >= 0xc0 || at / 60 % 60 == minute) &&
		    (second >= 0xc0 || at % 60 == second))
			return wait;
	}
	return ~0ul;
}

static u8 alarm_byte(u32 end) {
	u64 dice = rig_random();

	return (u8)(dice % 3 ? dice / 3 % end : 0xc0 + dice / 3 % 64);
}

static void alarms(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	wr(vm, B, 0x26); /* binary, 24 hours, alarm */
	for (u32 i = 0; i < 400; i++) {
		u8 hour = alarm_byte(25), minute = alarm_byte(61), second = alarm_byte(61);
		u32 from = (u32)(rig_random() % 86400);
		u64 wait = naive_alarm(from, hour, minute, second);

		set_clock(vm, 1700006400 / 86400 * 86400 + from);
		wr(vm, HOUR_ALARM, hour);
		wr(vm, MIN_ALARM, minute);
		wr(vm, SEC_ALARM, second);
		rd(vm, C);
		if (wait == ~0ul) {
			assert_int_equal(fake_timers_armed(), 0);
			continue;
		}
		fake_advance_ns(wait * 1000000000 - 1000000);
		assert_false(line(vm));
		fake_advance_ns(2000000);
		assert_true(line(vm));
		assert_int_equal(rd(vm, C) & 0xa0, 0xa0);
	}
	rig_destroy(vm);
}

static void cmos_bytes(void **state) {
	struct vm *vm = rig_create(1); /* 512 MiB */

	(void)state;
	assert_int_equal(rd(vm, 0x15) | rd(vm, 0x16) << 8, 640);
	assert_int_equal(rd(vm, 0x17) | rd(vm, 0x18) << 8, 0xffff);
	assert_int_equal(rd(vm, 0x34) | rd(vm, 0x35) << 8, (512 - 16) * 16);
	assert_int_equal(rd(vm, 0x5b) | rd(vm, 0x5c) | rd(vm, 0x5d), 0);
	for (u32 i = 0x40; i < 0x50; i++) wr(vm, (u8)i, (u8)(i * 3));
	for (u32 i = 0x40; i < 0x50; i++) assert_int_equal(rd(vm, (u8)(0x80 | i)), (u8)(i * 3));
	/* A word writes index and data; the index does not read; nothing follows the data. */
	out(vm, 0x70, 2, 0x5540);
	assert_int_equal(byte_in(vm, 0x71), 0x55);
	assert_int_equal(byte_in(vm, 0x70), 0xff);
	assert_int_equal(in(vm, 0x71, 2), 0xff55);
	/* A reset keeps the battery's bytes. */
	platform_reset(vm);
	assert_int_equal(rd(vm, 0x40), 0x55);
	rig_destroy(vm);
}

static void hostile_values(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	for (u32 i = 0; i < 200000; i++) {
		u64 dice = rig_random();

		wr(vm, (dice >> 60 ? dice & 15 : dice & 255) & 0xff, (u8)(dice >> 8));
		rd(vm, (dice >> 16) & 15);
		fake_advance(dice >> 40);
	}
	rig_storm(vm, 0x70, 0x71, 100000);
	rig_destroy(vm);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calendar_round_trip),
		cmocka_unit_test(shows_the_host_time),
		cmocka_unit_test(twelve_hours),
		cmocka_unit_test(setting),
		cmocka_unit_test(update_in_progress),
		cmocka_unit_test(flags_without_interrupts),
		cmocka_unit_test(periodic),
		cmocka_unit_test(periodic_while_it_is_read),
		cmocka_unit_test(update_ended),
		cmocka_unit_test(alarms),
		cmocka_unit_test(cmos_bytes),
		cmocka_unit_test(hostile_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
