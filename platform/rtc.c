/*
 * The real-time clock; see rtc.h. Time registers are computed when they are read and decoded when
 * the clock goes on from them; flags in register C follow from the time that has passed since they
 * were last looked at. A host timer runs only for interrupts that are enabled. Names are those of
 * the MC146818 datasheet.
 */
#include "platform/rtc.h"

#include "kernel/vm.h"
#include "platform/irq.h"

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
enum { B_SET = 0x80, B_PIE = 0x40, B_AIE = 0x20, B_UIE = 0x10, B_BINARY = 0x04, B_24_HOURS = 0x02 };
enum { C_IRQ = 0x80, C_PERIODIC = 0x40, C_ALARM = 0x20, C_UPDATE = 0x10, C_FLAGS = 0x70 };
#define D_VALID	  0x80

#define HOUR_PM	  0x80
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
	u64 year = time->year - (time->month <= 2);
	u64 month = time->month > 2 ? time->month - 3 : time->month + 9;
	u64 days = (153 * month + 2) / 5 + time->day - 1 + 365 * (year % 400) + year % 400 / 4 -
		   year % 400 / 100 + year / 400 * DAYS_PER_ERA;

	return (days - DAYS_TO_1970) * DAY + time->hour * 3600ul + time->minute * 60 + time->second;
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
	return (u8)(rtc->cmos[REG_B] & B_BINARY ? value : value / 10 % 10 << 4 | value % 10);
}

static u32 decode(const struct rtc *rtc, u8 value) {
	return rtc->cmos[REG_B] & B_BINARY ? value : (value >> 4) * 10u + (value & 15);
}

static u8 encode_hour(const struct rtc *rtc, u32 hour) {
	if (rtc->cmos[REG_B] & B_24_HOURS) return encode(rtc, hour);
	return encode(rtc, (hour + 11) % 12 + 1) | (hour >= 12 ? HOUR_PM : 0);
}

static u32 decode_hour(const struct rtc *rtc, u8 value) {
	if (rtc->cmos[REG_B] & B_24_HOURS) return decode(rtc, value);
	return decode(rtc, value & 0x7f) % 12 + (value & HOUR_PM ? 12 : 0);
}

static bool is_time(unsigned reg) {
	return reg <= REG_YEAR ? reg > REG_HOURS_ALARM || !(reg & 1) : reg == REG_CENTURY;
}

static u32 clamp(u32 value, u32 low, u32 high) {
	return value < low ? low : value > high ? high : value;
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

/*
 * Starts the clock with what the time registers hold. What no clock can show becomes the nearest it
 * can, days past a month's end are of the next; the weekday follows from the date.
 */
static void start_clock(struct rtc *rtc, u64 fraction_ns) {
	u64 wall = platform_wall_clock_ns();
	const u8 *cmos = rtc->cmos;
	u32 century = (cmos[REG_CENTURY] >> 4) * 10u + (cmos[REG_CENTURY] & 15);
	struct rtc_time time = {
		.second = clamp(decode(rtc, cmos[REG_SECONDS]), 0, 59),
		.minute = clamp(decode(rtc, cmos[REG_MINUTES]), 0, 59),
		.hour = clamp(decode_hour(rtc, cmos[REG_HOURS]), 0, 23),
		.day = clamp(decode(rtc, cmos[REG_DAY]), 1, 31),
		.month = clamp(decode(rtc, cmos[REG_MONTH]), 1, 12),
		.year = clamp(century, 19, 99) * 100 + clamp(decode(rtc, cmos[REG_YEAR]), 0, 99),
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

/* What an alarm byte asks for; ALARM_ANY or more matches everything. */
static u32 alarm_field(const struct rtc *rtc, unsigned reg) {
	u8 value = rtc->cmos[reg];

	if (value >= ALARM_ANY) return ALARM_ANY;
	return reg == REG_HOURS_ALARM ? decode_hour(rtc, value) : decode(rtc, value);
}

static bool matches(u32 field, u32 value) { return field == ALARM_ANY || field == value; }

static bool possible(u32 field, u32 end) { return field == ALARM_ANY || field < end; }

/* First second of a day, not before `at`, at which the alarm goes off; DAY: not in this. */
static u32 alarm_in_day(const struct rtc *rtc, u32 at) {
	u32 hour = alarm_field(rtc, REG_HOURS_ALARM);
	u32 minute = alarm_field(rtc, REG_MINUTES_ALARM);
	u32 second = alarm_field(rtc, REG_SECONDS_ALARM);

	if (!possible(hour, 24) || !possible(minute, 60) || !possible(second, 60)) return DAY;
	/* At most 24 steps by hours; by minutes and by seconds, at most twice 60. */
	while (at < DAY) {
		if (!matches(hour, at / 3600))
			at = (at / 3600 + 1) * 3600;
		else if (!matches(minute, at / 60 % 60))
			at = (at / 60 + 1) * 60;
		else if (!matches(second, at % 60))
			at++;
		else
			return at;
	}
	return DAY;
}

/* First second after this one at which the alarm goes off; ~0 when it never does. */
static u64 next_alarm(const struct rtc *rtc, u64 after) {
	u64 day = (after + 1) / DAY * DAY;
	u32 at = alarm_in_day(rtc, (u32)((after + 1) % DAY));

	if (at == DAY) {
		day += DAY;
		at = alarm_in_day(rtc, 0);
	}
	return at < DAY ? day + at : ~0ul;
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
static void update(struct rtc *rtc) {
	u64 now = local_ns(rtc), next = ~0ul;

	lock_assert_held(&rtc->lock);
	if (running(rtc)) collect(rtc, now);
	bool line = rtc->cmos[REG_B] & rtc->cmos[REG_C] & C_FLAGS;
	rtc->cmos[REG_C] = (rtc->cmos[REG_C] & C_FLAGS) | (line ? C_IRQ : 0);
	if (running(rtc)) next = next_event(rtc, now);
	if (next != ~0ul)
		timer_arm(&rtc->timer, time_tsc() + ns_to_tsc(next - now) + 1);
	else
		timer_cancel(&rtc->timer);
	if (line != rtc->line) {
		rtc->line = line;
		irq_set(rtc->vm, RTC_GSI, line);
	}
}

static void timer_expired(struct timer *timer) {
	struct rtc *rtc = container_of(timer, struct rtc, timer);

	spin_guard(&rtc->lock);
	update(rtc);
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

	spin_guard(&rtc->lock);
	return port == PORT_INDEX ? 0xff : read_cmos(rtc, rtc->index);
}

static void rtc_write(void *dev, u64 port, unsigned size __unused, u64 value) {
	struct rtc *rtc = dev;

	spin_guard(&rtc->lock);
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

/* The bytes in which PC firmware notes the memory it has found. */
static void note_memory(struct rtc *rtc, u64 low, u64 high) {
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

void rtc_reset(struct rtc *rtc) {
	spin_guard(&rtc->lock);
	rtc->cmos[REG_A] = A_DIVIDER_ON | 6; /* 1024 Hz, as firmware leaves it */
	rtc->cmos[REG_B] = B_24_HOURS;
	rtc->cmos[REG_C] = 0;
	rtc->index = 0;
	update(rtc);
}

int rtc_setup(struct rtc *rtc, struct vm *vm, struct bus *bus, u64 low, u64 high) {
	static const struct bus_range ports = {PORT_INDEX, PORT_DATA, rtc_read,
					       rtc_write,  true,      NULL};

	rtc->vm = vm;
	timer_init(&rtc->timer, timer_expired, vm->vcpus[0]->cpu);
	note_memory(rtc, low, high);
	rtc_reset(rtc);
	return bus_add(bus, BUS_IO, rtc, &ports, 1);
}
