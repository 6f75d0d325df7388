/* The host's real-time clock (MC146818 datasheet), read once at start-up. */
#include "drivers/cmos.h"

#include "lib/x86.h"

#define REG_A	   0x0a
#define REG_B	   0x0b
#define UIP	   BIT(7)
#define MAX_ROUNDS 200000u /* an update takes 2 ms at most */

enum { SECOND, MINUTE, HOUR, DAY, MONTH, YEAR, CENTURY, NR_FIELDS };

static u8 reg(u8 index) {
	outb(0x70, index);
	return inb(0x71);
}

u64 cmos_unix_time(void) {
	static const u8 regs[NR_FIELDS] = {0x00, 0x02, 0x04, 0x07, 0x08, 0x09, 0x32};
	u8 raw[NR_FIELDS];
	u32 value[NR_FIELDS];

	for (u32 i = 0; i < MAX_ROUNDS && (reg(REG_A) & UIP); i++) cpu_pause();
	for (u32 i = 0; i < NR_FIELDS; i++) raw[i] = reg(regs[i]);
	u8 mode = reg(REG_B);
	for (u32 i = 0; i < NR_FIELDS; i++) value[i] = cmos_decode(mode, raw[i]);
	value[HOUR] = cmos_decode_hour(mode, raw[HOUR]);
	u32 year = value[CENTURY] * 100 + value[YEAR];
	if (year < 1970 || year > 2200) /* no century register */
		year = 2000 + value[YEAR];
	if (value[MONTH] < 1 || value[MONTH] > 12 || value[DAY] < 1 || value[DAY] > 31 ||
	    value[HOUR] > 23)
		return 0;
	return cmos_days(year, value[MONTH], value[DAY]) * 86400 + value[HOUR] * 3600ul +
	       value[MINUTE] * 60ul + value[SECOND];
}
