/*
 * The real-time clock; see rtc.h. Time registers are computed when they are read; flags in register
 * C follow from the time that has passed since they were last looked at. A host timer runs only for
 * interrupts that are enabled. Names are those of the MC146818 datasheet.
 */
#include "platform/rtc.h"

#include "drivers/cmos.h"

#define PORT_INDEX  0x70
#define PORT_DATA   0x71

#define SECOND_NS   1000000000ul
#define DAY	    86400ul
#define UIP_NS	    2228000ul /* 244 us of warning, 1984 us of update */
#define END_OF_TIME 253402300800ul

enum { REG_SECONDS, REG_SECONDS_ALARM, REG_MINUTES, REG_MINUTES_ALARM, REG_HOURS, REG_HOURS_ALARM };
enum { REG_WEEKDAY = 6, REG_DAY, REG_MONTH, REG_YEAR, REG_A, REG_B, REG_C, REG_D };
enum { REG_CENTURY = 0x32 };

/* The flags of register C stand where register B has their enables. */
enum { A_UIP = 0x80, A_DIVIDER = 0x70, A_DIVIDER_ON = 0x20, A_RATE = 0x0f };
enum { B_SET = 0x80, B_PIE = 0x40, B_AIE = 0x20, B_UIE = 0x10 };
enum { C_IRQ = 0x80, C_PERIODIC = 0x40, C_ALARM = 0x20, C_UPDATE = 0x10, C_FLAGS = 0x70 };
#define D_VALID	  0x80

#define ALARM_ANY 0xc0 /* an alarm byte with both bits set matches everything */

/* ---- calendar ---- */

/* Days from civil and back count from 1 March of year 0, so that the leap day ends a year. */
#define DAYS_TO_1970 719468ul
#define DAYS_PER_ERA 146097ul /* 400 years */

void rtc_from_unix(u64 seconds, struct rtc_time *out) {
	u64 days = seconds / DAY + DAYS_TO_1970;
	u32 of_day = (u32)(seconds % DAY);
	u32 in_era = (u32)(days % DAYS_PER_ERA);
	u32 year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	u32 in_year = in_era - (365 * year + year / 4 - year / 100);
	u32 month = (5 * in_year + 2) / 153; /* from March */

	out->second = of_day % 60;
	out->minute = of_day / 60 % 60;
	out->hour = of_day / 3600;
	out->weekday = (u32)((days + 3) % 7) + 1;
	out->day = in_year - (153 * month + 2) / 5 + 1;
	out->month = month < 10 ? month + 3 : month - 9;
	out->year = year + (u32)(days / DAYS_PER_ERA) * 400 + (out->month <= 2);
}

u64 rtc_to_unix(const struct rtc_time *time) {
	return cmos_days(time->year, time->month, time->day) * DAY + time->hour * 3600ul +
	       time->minute * 60 + time->second;
}

/* ---- the clock ---- */

static bool running(const struct rtc *rtc) {
	return (rtc->cmos[REG_A] & A_DIVIDER) == A_DIVIDER_ON && !(rtc->cmos[REG_B] & B_SET);
}

/* The host's wall clock, shifted so that the guest's seconds begin where these do. */
static u64 local_ns(const struct rtc *rtc) { return platform_wall_clock_ns() + rtc->phase; }

/* The guest's time in seconds since 1970 at a local time; the clock runs. */
static u64 guest_seconds(const struct rtc *rtc, u64 local) {
	return (local / SECOND_NS + rtc->offset) % END_OF_TIME;
}

static u8 encode(const struct rtc *rtc, u32 value) {
	return (u8)(rtc->cmos[REG_B] & CMOS_BINARY ? value : value / 10 % 10 << 4 | value % 10);
}

static u8 encode_hour(const struct rtc *rtc, u32 hour) {
	if (rtc->cmos[REG_B] & CMOS_24_HOURS) return encode(rtc, hour);
	return encode(rtc, (hour + 11) % 12 + 1) | (hour >= 12 ? CMOS_PM : 0);
}

/* What a time or alarm register holds, in plain numbers; the century is always BCD. */
static u32 decode(const struct rtc *rtc, unsigned reg) {
	u8 value = rtc->cmos[reg], mode = rtc->cmos[REG_B];

	if (reg == REG_CENTURY) mode &= (u8)~CMOS_BINARY;
	return reg == REG_HOURS || reg == REG_HOURS_ALARM ? cmos_decode_hour(mode, value)
							  : cmos_decode(mode, value);
}

static bool is_time(unsigned reg) {
	return reg <= REG_YEAR ? reg > REG_HOURS_ALARM || !(reg & 1) : reg == REG_CENTURY;
}

/* What no clock can show becomes the nearest it can. */
static u32 clamped(const struct rtc *rtc, unsigned reg, u32 low, u32 high) {
	return (u32)max_u64(low, min_u64(decode(rtc, reg), high));
}

/* Fills the time registers; the century is BCD whatever register B says. */
static void show_time(struct rtc *rtc, u64 local) {
	struct rtc_time time;

	rtc_from_unix(guest_seconds(rtc, local), &time);
	rtc->cmos[REG_SECONDS] = encode(rtc, time.second);
	rtc->cmos[REG_MINUTES] = encode(rtc, time.minute);
	rtc->cmos[REG_HOURS] = encode_hour(rtc, time.hour);
	rtc->cmos[REG_WEEKDAY] = encode(rtc, time.weekday);
	rtc->cmos[REG_DAY] = encode(rtc, time.day);
	rtc->cmos[REG_MONTH] = encode(rtc, time.month);
	rtc->cmos[REG_YEAR] = encode(rtc, time.year % 100);
	rtc->cmos[REG_CENTURY] = (u8)(time.year / 1000 << 4 | time.year / 100 % 10);
}

/* Starts the clock with what the time registers hold; the weekday follows from the date. */
static void start_clock(struct rtc *rtc, u64 fraction_ns) {
	u64 wall = platform_wall_clock_ns();
	struct rtc_time time = {
		.second = clamped(rtc, REG_SECONDS, 0, 59),
		.minute = clamped(rtc, REG_MINUTES, 0, 59),
		.hour = clamped(rtc, REG_HOURS, 0, 23),
		.day = clamped(rtc, REG_DAY, 1, 31),
		.month = clamped(rtc, REG_MONTH, 1, 12),
		.year = clamped(rtc, REG_CENTURY, 19, 99) * 100 + clamped(rtc, REG_YEAR, 0, 99),
	};

	if (time.year < 1970) /* before what the host's clock can count */
		time.year = time.year % 100 + 2000;
	rtc->phase = (fraction_ns + SECOND_NS - wall % SECOND_NS) % SECOND_NS;
	rtc->seen = wall + rtc->phase;
	rtc->offset = rtc_to_unix(&time) - rtc->seen / SECOND_NS;
}

/* ---- flags and the interrupt ---- */

/* Nanoseconds between periodic interrupts; 0 when there are none (datasheet table 5). */
static u64 period_ns(const struct rtc *rtc) {
	u32 rate = rtc->cmos[REG_A] & A_RATE;

	if (!rate || !running(rtc)) return 0;
	if (rate < 3) rate += 7;
	return (SECOND_NS << (rate - 1)) / 32768;
}

/* True when an alarm register asks for this second, minute or hour. */
static bool matches(const struct rtc *rtc, unsigned alarm, u64 value) {
	return rtc->cmos[alarm] >= ALARM_ANY || decode(rtc, alarm) == value;
}

/* First second after this one at which the alarm goes off; ~0 when it never does. */
static u64 next_alarm(const struct rtc *rtc, u64 after) {
	u64 at = after + 1;

	/* At most 25 steps by hours, 60 by minutes and 60 by seconds to what matches. */
	for (unsigned steps = 0; steps < 25 + 60 + 60; steps++) {
		if (!matches(rtc, REG_HOURS_ALARM, at / 3600 % 24))
			at = (at / 3600 + 1) * 3600;
		else if (!matches(rtc, REG_MINUTES_ALARM, at / 60 % 60))
			at = (at / 60 + 1) * 60;
		else if (!matches(rtc, REG_SECONDS_ALARM, at % 60))
			at++;
		else
			return at;
	}
	return ~0ul;
}

/* Sets the flags for what has happened up to now, a local time. */
static void collect(struct rtc *rtc, u64 now) {
	u64 period = period_ns(rtc), seen = rtc->seen;

	if (now <= seen) return;
	rtc->seen = now;
	if (period && now / period != seen / period) rtc->cmos[REG_C] |= C_PERIODIC;
	if (now / SECOND_NS != seen / SECOND_NS) {
		rtc->cmos[REG_C] |= C_UPDATE;
		if (next_alarm(rtc, guest_seconds(rtc, seen)) <= guest_seconds(rtc, now))
			rtc->cmos[REG_C] |= C_ALARM;
	}
}

/* Local time of the next event that is enabled and not yet flagged; ~0 when there is none. */
static u64 next_event(const struct rtc *rtc, u64 now) {
	u8 want = rtc->cmos[REG_B] & (u8)~rtc->cmos[REG_C] & C_FLAGS;
	u64 next = ~0ul, period = period_ns(rtc), seconds, alarm;

	if (want & C_PERIODIC && period) next = (now / period + 1) * period;
	if (want & C_UPDATE) next = min_u64(next, (now / SECOND_NS + 1) * SECOND_NS);
	if (want & C_ALARM) {
		seconds = guest_seconds(rtc, now);
		alarm = next_alarm(rtc, seconds);
		if (alarm != ~0ul)
			next = min_u64(next, (now / SECOND_NS + alarm - seconds) * SECOND_NS);
	}
	return next;
}

/* Brings flags, line and timer up to date. */
static void update(void *dev) {
	struct rtc *rtc = dev;
	u64 now = local_ns(rtc), next = ~0ul;

	lock_assert_held(&rtc->dev.lock);
	if (running(rtc)) collect(rtc, now);
	bool line = rtc->cmos[REG_B] & rtc->cmos[REG_C] & C_FLAGS;
	rtc->cmos[REG_C] = (rtc->cmos[REG_C] & C_FLAGS) | (line ? C_IRQ : 0);
	if (running(rtc)) next = next_event(rtc, now);
	if (next != ~0ul)
		timer_arm(&rtc->dev.timer, time_tsc() + ns_to_tsc(next - now) + 1);
	else
		timer_cancel(&rtc->dev.timer);
	device_set_line(&rtc->dev, RTC_GSI, line);
}

/* ---- registers ---- */

/* A stopped clock keeps its time; a divider let go makes its first update after half a second. */
static void write_control(struct rtc *rtc, unsigned reg, u8 value) {
	bool was_running = running(rtc);
	bool divider_held = (rtc->cmos[REG_A] & A_DIVIDER) != A_DIVIDER_ON;
	u64 now = local_ns(rtc);

	if (reg == REG_A)
		rtc->cmos[REG_A] = value & (u8)~A_UIP;
	else /* setting SET clears UIE */
		rtc->cmos[REG_B] = value & B_SET ? value & (u8)~B_UIE : value;
	if (was_running && !running(rtc)) {
		show_time(rtc, now);
		rtc->held_ns = now % SECOND_NS;
	} else if (!was_running && running(rtc)) {
		start_clock(rtc, divider_held ? SECOND_NS / 2 : rtc->held_ns);
	}
}

static u8 read_cmos(struct rtc *rtc, unsigned reg) {
	bool updating;
	u8 value;

	if (is_time(reg) && running(rtc)) show_time(rtc, local_ns(rtc));
	switch (reg) {
	case REG_A:
		updating = running(rtc) && local_ns(rtc) % SECOND_NS >= SECOND_NS - UIP_NS;
		return rtc->cmos[REG_A] | (updating ? A_UIP : 0);
	case REG_C:
		update(rtc);
		value = rtc->cmos[REG_C];
		rtc->cmos[REG_C] = 0;
		device_set_line(&rtc->dev, RTC_GSI, false); /* an edge, if it rises again at once */
		update(rtc);
		return value;
	case REG_D: return D_VALID;
	default: return rtc->cmos[reg];
	}
}

static void write_cmos(struct rtc *rtc, unsigned reg, u8 value) {
	bool time_goes_on = is_time(reg) && running(rtc);
	u64 now = local_ns(rtc);

	update(rtc); /* by the rules that held until now */
	if (time_goes_on) show_time(rtc, now);
	if (reg == REG_A || reg == REG_B)
		write_control(rtc, reg, value);
	else if (reg != REG_C && reg != REG_D)
		rtc->cmos[reg] = value;
	if (time_goes_on) start_clock(rtc, now % SECOND_NS);
	update(rtc);
}

static u64 rtc_read(void *dev, u64 port, unsigned size __unused) {
	struct rtc *rtc = dev;

	spin_guard(&rtc->dev.lock);
	return port == PORT_INDEX ? 0xff : read_cmos(rtc, rtc->index);
}

static void rtc_write(void *dev, u64 port, unsigned size __unused, u64 value) {
	struct rtc *rtc = dev;

	spin_guard(&rtc->dev.lock);
	if (port == PORT_DATA)
		write_cmos(rtc, rtc->index, (u8)value);
	else
		rtc->index = value & (RTC_CMOS - 1); /* bit 7 would mask NMIs */
}

/* ---- set-up ---- */

static void put16(struct rtc *rtc, unsigned reg, u64 value) {
	rtc->cmos[reg] = (u8)value;
	rtc->cmos[reg + 1] = (u8)(value >> 8);
}

void rtc_note_memory(struct rtc *rtc, u64 low, u64 high) {
	u64 extended = low > MiB(1) ? (low - MiB(1)) >> 10 : 0;
	u64 above_16m = low > MiB(16) ? (low - MiB(16)) >> 16 : 0;

	put16(rtc, 0x15, 640);
	put16(rtc, 0x17, min_u64(extended, 0xffff));
	put16(rtc, 0x30, min_u64(extended, 0xffff));
	put16(rtc, 0x34, min_u64(above_16m, 0xffff));
	put16(rtc, 0x5b, min_u64(high >> 16, 0xffffff));
	rtc->cmos[0x5d] = (u8)(min_u64(high >> 16, 0xffffff) >> 16);
	rtc->cmos[0x14] = 0x02; /* a coprocessor, no floppy, no display */
}

static void reset(void *dev) {
	struct rtc *rtc = dev;

	rtc->cmos[REG_A] = A_DIVIDER_ON | 6; /* 1024 Hz, as firmware leaves it */
	rtc->cmos[REG_B] = CMOS_24_HOURS;
	rtc->cmos[REG_C] = 0;
	rtc->index = 0;
	update(rtc);
}

const struct device_type rtc_type = {
	.reset = reset,
	.expired = update,
	.range = {{PORT_INDEX, PORT_DATA, rtc_read, rtc_write, true, NULL}},
};
