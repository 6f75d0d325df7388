/* The host's real-time clock (MC146818 datasheet), read once at start-up. */
#include "drivers/cmos.h"

#include "lib/x86.h"

#define REG_SECONDS 0x00
#define REG_MINUTES 0x02
#define REG_HOURS   0x04
#define REG_DAY	    0x07
#define REG_MONTH   0x08
#define REG_YEAR    0x09
#define REG_A	    0x0a
#define REG_B	    0x0b
#define REG_CENTURY 0x32
#define UIP	    BIT(7)
#define MODE_BINARY BIT(2)
#define MODE_24H    BIT(1)
#define HOUR_PM	    0x80u
#define MAX_ROUNDS  200000u /* an update takes 2 ms at most */

struct reading {
	u8 second, minute, hour, day, month, year, century;
};

static u8 reg(u8 index) {
	outb(0x70, index);
	return inb(0x71);
}

static void read_all(struct reading *r) {
	for (u32 i = 0; i < MAX_ROUNDS && (reg(REG_A) & UIP); i++)
		cpu_pause();
	r->second = reg(REG_SECONDS);
	r->minute = reg(REG_MINUTES);
	r->hour = reg(REG_HOURS);
	r->day = reg(REG_DAY);
	r->month = reg(REG_MONTH);
	r->year = reg(REG_YEAR);
	r->century = reg(REG_CENTURY);
}

static u32 from_bcd(u8 v, bool binary) { return binary ? v : (u32)(v >> 4) * 10 + (v & 15); }

/* Days from 1970 to a date of the Gregorian calendar. */
static u64 days(u32 year, u32 month, u32 day) {
	/* Years that begin in March: the leap day comes last. */
	u32 y = month <= 2 ? year - 1 : year;
	u32 m = month <= 2 ? month + 9 : month - 3;
	u32 era_days = y * 365 + y / 4 - y / 100 + y / 400;

	return era_days + (153 * m + 2) / 5 + day - 1 - 719468;
}

u64 cmos_unix_time(void) {
	struct reading r;
	u8 mode;
	bool binary;
	u32 hour, month, day, year;

	read_all(&r);
	mode = reg(REG_B);
	binary = mode & MODE_BINARY;
	hour = from_bcd(r.hour & (u8)~HOUR_PM, binary);
	if (!(mode & MODE_24H))
		hour = hour % 12 + (r.hour & HOUR_PM ? 12 : 0);
	month = from_bcd(r.month, binary);
	day = from_bcd(r.day, binary);
	year = from_bcd(r.century, binary) * 100 + from_bcd(r.year, binary);
	if (year < 1970 || year > 2200) /* no century register */
		year = 2000 + from_bcd(r.year, binary);
	if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23)
		return 0;
	return days(year, month, day) * 86400 + hour * 3600ul + from_bcd(r.minute, binary) * 60ul +
	       from_bcd(r.second, binary);
}
