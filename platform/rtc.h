/* The MC146818 of a VM (datasheet): the host's wall clock plus an offset, which setting changes. */
#pragma once

#include "kernel/guest.h"
#include "platform/device.h"

#define RTC_GSI	 8
#define RTC_CMOS 128

/* A time of day, in plain numbers. */
struct rtc_time {
	u32 second, minute, hour; /* 0-59, 0-59, 0-23 */
	u32 weekday;		  /* 1 is Sunday */
	u32 day, month, year;	  /* from 1, from 1, 0 to 9999 */
};

struct rtc {
	struct device dev;
	u64 phase;   /* 0 to 999999999: local time = platform_wall_clock_ns() + phase */
	u64 offset;  /* guest's time - local time, in seconds modulo 2^64 */
	u64 held_ns; /* of the second in which the clock was stopped */
	u64 seen;    /* local time in ns up to which the flags in register C are known */
	u8 index;
	u8 cmos[RTC_CMOS]; /* the time registers are valid while the clock is stopped */
};

/* Writes the bytes in which PC firmware notes the RAM it has found, below and above 4 GiB. */
void rtc_note_memory(struct rtc *rtc, u64 low, u64 high);

extern const struct device_type rtc_type;

/* Seconds since 1970-01-01 to calendar and back. Any u64 below 253402300800 (year 10000). */
void rtc_from_unix(u64 seconds, struct rtc_time *out);
u64 rtc_to_unix(const struct rtc_time *time);
