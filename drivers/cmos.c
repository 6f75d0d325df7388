/* The host's real-time clock (MC146818 datasheet), read once at start-up. */
#include "drivers/cmos.h"

#include "lib/x86.h"

#define REG_A	    0x0a
#define REG_B	    0x0b
#define UIP	    BIT(7)
#define MODE_BINARY BIT(2)
#define MODE_24H    BIT(1)
#define HOUR_PM	    0x80u
#define MAX_ROUNDS  200000u /* an update takes 2 ms at most */

enum { SECOND, MINUTE, HOUR, DAY, MONTH, YEAR, CENTURY, NR_FIELDS };

static u8 reg(u8 index) {
	outb(0x70, index);
	return inb(0x71);
}

/* Days from 1970 to a date of the Gregorian calendar. */
static u64 days(u32 year, u32 month, u32 day) {
	/* Years that begin in March: the leap day comes last. */
	u32 y = month <= 2 ? year - 1 : year;
	u32 m = month <= 2 ? month + 9 : month - 3;
	u32 era_days = y * 365 + y / 4 - y / 100 + y / 400;

	return era_days + (153 * m + 2) / 5 + day - 1 - 719468;
}

u64 cmos_unix_time(void) {
	static const u8 regs[NR_FIELDS] = {0x00, 0x02, 0x04, 0x07, 0x08, 0x09, 0x32};
	u8 raw[NR_FIELDS];
	u32 value[NR_FIELDS];

	for (u32 i = 0; i < MAX_ROUNDS && (reg(REG_A) & UIP); i++) cpu_pause();
	for (u32 i = 0; i < NR_FIELDS; i++) raw[i] = reg(regs[i]);
	u8 mode = reg(REG_B);
	for (u32 i = 0; i < NR_FIELDS; i++) {
		u8 byte = i == HOUR ? raw[i] & (u8)~HOUR_PM : raw[i];

		value[i] = mode & MODE_BINARY ? byte : (byte >> 4) * 10u + (byte & 15);
	}
	if (!(mode & MODE_24H)) value[HOUR] = value[HOUR] % 12 + (raw[HOUR] & HOUR_PM ? 12 : 0);
	u32 year = value[CENTURY] * 100 + value[YEAR];
	if (year < 1970 || year > 2200) /* no century register */
		year = 2000 + value[YEAR];
	if (value[MONTH] < 1 || value[MONTH] > 12 || value[DAY] < 1 || value[DAY] > 31 ||
	    value[HOUR] > 23)
		return 0;
	return days(year, value[MONTH], value[DAY]) * 86400 + value[HOUR] * 3600ul +
	       value[MINUTE] * 60ul + value[SECOND];
}
