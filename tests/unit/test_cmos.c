// sources: drivers/cmos.c
/* The host's real-time clock: formats, leap years, hours, rubbish. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <time.h>

#include "drivers/cmos.h"
#include "lib/x86.h"

static u8 registers[128], selected;
static unsigned busy; /* reads of register A that still show an update */
static bool stale;    /* read while an update ran */

u8 inb(u16 port) {
	assert_int_equal(port, 0x71);
	if (selected == 0x0a) {
		if (busy) busy--;
		return busy ? 0x80 | 0x26 : 0x26;
	}
	stale |= busy && selected < 0x0a;
	return registers[selected];
}

void outb(u16 port, u8 v) {
	assert_int_equal(port, 0x70);
	selected = v & 0x7f;
}

static u8 bcd(unsigned v) { return (u8)(v / 10 << 4 | v % 10); }

enum { BINARY = 4, HOURS_24 = 2 };

static void set(unsigned mode, unsigned year, unsigned month, unsigned day, unsigned hour,
		unsigned minute, unsigned second) {
	u8 (*code)(unsigned) = bcd;
	bool pm = !(mode & HOURS_24) && hour >= 12;

	if (!(mode & HOURS_24)) hour = hour % 12 ? hour % 12 : 12;
	registers[0x0b] = (u8)mode;
	registers[0] = mode & BINARY ? (u8)second : code(second);
	registers[2] = mode & BINARY ? (u8)minute : code(minute);
	registers[4] = (u8)((mode & BINARY ? (u8)hour : code(hour)) | (pm ? 0x80 : 0));
	registers[7] = mode & BINARY ? (u8)day : code(day);
	registers[8] = mode & BINARY ? (u8)month : code(month);
	registers[9] = mode & BINARY ? (u8)(year % 100) : code(year % 100);
	registers[0x32] = mode & BINARY ? (u8)(year / 100) : code(year / 100);
}

static int setup(void **state) {
	(void)state;
	memset(registers, 0, sizeof(registers));
	busy = 0;
	stale = false;
	return 0;
}

/* Against the C library, over two centuries, in all four formats. */
static void test_dates(void **state) {
	static const unsigned modes[] = {0, BINARY, HOURS_24, BINARY | HOURS_24};

	(void)state;
	for (time_t t = 0; t < 7258118400; t += 86400 * 13 + 3601) {
		struct tm tm;

		gmtime_r(&t, &tm);
		for (unsigned i = 0; i < 4; i++) {
			set(modes[i], (unsigned)tm.tm_year + 1900, (unsigned)tm.tm_mon + 1,
			    (unsigned)tm.tm_mday, (unsigned)tm.tm_hour, (unsigned)tm.tm_min,
			    (unsigned)tm.tm_sec);
			assert_int_equal(cmos_unix_time(), t);
		}
	}
}

static void test_leap_days(void **state) {
	(void)state;
	set(HOURS_24, 2024, 2, 29, 23, 59, 59);
	assert_int_equal(cmos_unix_time(), 1709251199);
	set(HOURS_24, 2024, 3, 1, 0, 0, 0);
	assert_int_equal(cmos_unix_time(), 1709251200);
	set(HOURS_24, 2100, 3, 1, 0, 0, 0);
	assert_int_equal(cmos_unix_time(), 4107542400);
}

static void test_no_century(void **state) {
	(void)state;
	set(HOURS_24, 2024, 1, 1, 0, 0, 0);
	registers[0x32] = 0xff;
	assert_int_equal(cmos_unix_time(), 1704067200);
	registers[0x32] = 0;
	assert_int_equal(cmos_unix_time(), 1704067200);
}

static void test_waits_for_the_update(void **state) {
	(void)state;
	set(HOURS_24, 2024, 1, 1, 0, 0, 0);
	busy = 1000;
	assert_int_equal(cmos_unix_time(), 1704067200);
	assert_false(stale);
	/* A clock that never gets ready is waited for no longer than so long. */
	busy = ~0u;
	(void)cmos_unix_time();
}

static void test_rubbish(void **state) {
	(void)state;
	memset(registers, 0xff, sizeof(registers));
	assert_int_equal(cmos_unix_time(), 0);
	memset(registers, 0, sizeof(registers));
	assert_int_equal(cmos_unix_time(), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_dates, setup),
		cmocka_unit_test_setup(test_leap_days, setup),
		cmocka_unit_test_setup(test_no_century, setup),
		cmocka_unit_test_setup(test_waits_for_the_update, setup),
		cmocka_unit_test_setup(test_rubbish, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
