/* The host's real-time clock. */
#pragma once

#include "lib/types.h"

/* Bits of register B, and of an hour that counts to 12 (MC146818 datasheet). */
enum { CMOS_BINARY = 0x04, CMOS_24_HOURS = 0x02, CMOS_PM = 0x80 };

/* What a register means in the format that register B says. */
static inline u32 cmos_decode(u8 reg_b, u8 value) {
	return reg_b & CMOS_BINARY ? value : (value >> 4) * 10u + (value & 15);
}

static inline u32 cmos_decode_hour(u8 reg_b, u8 value) {
	if (reg_b & CMOS_24_HOURS) return cmos_decode(reg_b, value);
	return cmos_decode(reg_b, value & 0x7f) % 12 + (value & CMOS_PM ? 12 : 0);
}

/* Days from 1970 to a date of the Gregorian calendar; month and day count from 1. */
static inline u64 cmos_days(u64 year, u32 month, u32 day) {
	/* Years that begin in March: the leap day comes last. */
	u64 y = year - (month <= 2);
	u32 m = month <= 2 ? month + 9 : month - 3;

	return y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

/* Seconds since 1970 (UTC, as the RTC is taken to run); 0 when there is no sensible clock. */
u64 cmos_unix_time(void);
