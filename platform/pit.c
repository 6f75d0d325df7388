/* The 8254 timer and port 0x61; see pit.h. */
#include "platform/pit.h"

enum { PORT_COUNTER = 0x40, PORT_CONTROL = 0x43, PORT_61 = 0x61 };
enum { STATUS_OUT = 0x80, STATUS_NULL = 0x40 };
enum { PORT61_GATE2 = 0x01, PORT61_WRITABLE = 0x0f, PORT61_REFRESH = 0x10, PORT61_OUT2 = 0x20 };

/* The refresh bit of a PC/AT toggles every 15 us. */
#define REFRESH_TICKS 18

/* A shorter period of counter 0 interrupts at this pace, so that no guest buries its CPU. */
#define MIN_IRQ_TICKS (PIT_HZ / 10000)

static u64 now_ticks(const struct pit *pit) {
	return mul_div(time_tsc() - pit->base, PIT_HZ, tsc_khz * 1000);
}

static bool periodic(const struct pit_counter *c) { return c->mode == 2 || c->mode == 3; }

/* Modes in which a rising gate, not a written count, begins the counting. */
static bool triggered(const struct pit_counter *c) { return c->mode == 1 || c->mode == 5; }

/* ---- what counting has come to ---- */

static u64 elapsed(const struct pit_counter *c, u64 now) {
	if (!c->gate && !triggered(c)) return c->paused;
	return now > c->start ? now - c->start : 0;
}

/* Phase in the period of modes 2 and 3, and which count that period has. */
static u32 phase(const struct pit_counter *c, u64 now, u32 *count) {
	if (c->gate && now < c->start && c->previous) {
		u32 left = (u32)min_u64(c->start - now, c->previous);

		*count = c->previous;
		return c->previous - left;
	}
	*count = c->count;
	return (u32)(elapsed(c, now) % c->count);
}

static u16 to_bcd(u32 value) {
	return (u16)(value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 |
		     value / 1000 % 10 << 12);
}

static u32 from_bcd(u32 value) {
	return (value & 15) + (value >> 4 & 15) * 10 + (value >> 8 & 15) * 100 +
	       (value >> 12 & 15) * 1000;
}

/* The counting element as it would be read. */
static u16 current_count(const struct pit_counter *c, u64 now) {
	u32 modulus = c->bcd ? 10000 : 0x10000, count, at, half, value;

	if (!c->armed) return 0;
	if (!periodic(c)) {
		value = (u32)(c->count + modulus - elapsed(c, now) % modulus);
	} else {
		at = phase(c, now, &count);
		half = (count + 1) / 2;
		if (c->mode == 2)
			value = count - at;
		else /* by twos, each half of the square wave from the even count down */
			value = (count & ~1u) - 2 * (at < half ? at : at - half);
	}
	return c->bcd ? to_bcd(value % modulus) : (u16)value;
}

static bool output(const struct pit_counter *c, u64 now) {
	u32 count, at;

	if (!c->armed) return c->mode != 0;
	switch (c->mode) {
	case 0:
	case 1: return elapsed(c, now) >= c->count;
	case 2: at = phase(c, now, &count); return !c->gate || at != count - 1;
	case 3: at = phase(c, now, &count); return !c->gate || at < (count + 1) / 2;
	default: return elapsed(c, now) != c->count;
	}
}

/* ---- counter 0 and its interrupt ---- */

static void disarm_irq(struct pit *pit) {
	pit->next = ~0ul;
	timer_cancel(&pit->dev.timer);
}

/* Arms the first rise of OUT 0 after this tick, or nothing when there will be none. */
static void arm_irq(struct pit *pit, u64 after) {
	struct pit_counter *c = &pit->counter[0];
	u64 next = c->start;

	lock_assert_held(&pit->dev.lock);
	disarm_irq(pit);
	if (!c->armed || triggered(c)) return;
	if (!periodic(c)) {
		/* Mode 4 strobes low for one tick; what rises is its end. */
		next += c->count + (c->mode == 4);
		if (next <= after) return;
	} else if (after >= c->start || !c->previous) {
		if (c->count < MIN_IRQ_TICKS) after += MIN_IRQ_TICKS;
		u64 periods = after < c->start ? 0 : (after - c->start) / c->count;
		next += (periods + 1) * c->count;
	}
	pit->next = next;
	timer_arm(&pit->dev.timer, pit->base + mul_div(next, tsc_khz * 1000, PIT_HZ) + 1);
}

static void irq_expired(void *dev) {
	struct pit *pit = dev;

	/* Another CPU may have reprogrammed the counter while this call was on its way. */
	if (now_ticks(pit) >= pit->next) {
		/* Up until the next rise: the 8259A wants it up until it is acknowledged. */
		irq_set(pit->dev.vm, 0, false);
		irq_set(pit->dev.vm, 0, true);
		arm_irq(pit, now_ticks(pit));
	}
}

/* ---- programming ---- */

static void trigger(struct pit_counter *c, u64 now) {
	c->count = c->written;
	c->previous = 0;
	c->start = now + 1; /* loaded with the next pulse of the clock */
	c->armed = true;
	c->untriggered = false;
}

static void load_count(struct pit *pit, unsigned index, u32 raw) {
	struct pit_counter *c = &pit->counter[index];
	u64 now = now_ticks(pit);
	u32 count;

	raw = c->bcd ? from_bcd(raw) : raw;
	c->written = raw ? raw : c->bcd ? 10000 : 0x10000;
	if (triggered(c)) {
		c->untriggered = true;
		return;
	}
	if (periodic(c) && c->armed && c->gate) {
		/* The period under way ends with its old count (datasheet, modes 2 and 3). */
		u32 at = phase(c, now, &count);

		c->previous = count;
		c->start = now + (count - at);
		c->count = c->written;
	} else {
		trigger(c, now);
		c->paused = 0;
	}
	if (index == 0) arm_irq(pit, now);
}

static void write_count(struct pit *pit, unsigned index, u8 value) {
	struct pit_counter *c = &pit->counter[index];

	if (c->access == PIT_LOW_HIGH) c->write_high = !c->write_high;
	if (!c->write_high) {
		load_count(pit, index, c->access == PIT_LOW ? value : (u32)value << 8 | c->low);
		return;
	}
	c->low = value;
	/* Mode 0: the first byte of two stops the counting and OUT falls. */
	if (c->mode == 0) c->armed = false;
	if (c->mode == 0 && index == 0) disarm_irq(pit);
}

static void latch_count(struct pit_counter *c, u64 now) {
	if (c->latched) return;
	c->latch = current_count(c, now);
	c->latched = c->access == PIT_LOW_HIGH ? 2 : 1;
}

static void latch_status(struct pit_counter *c, u64 now) {
	bool null = c->untriggered || !c->armed || now < c->start;

	if (c->has_status) return;
	c->status = (u8)((output(c, now) ? STATUS_OUT : 0) | (null ? STATUS_NULL : 0) |
			 c->access << 4 | c->mode << 1 | c->bcd);
	c->has_status = true;
}

static void read_back(struct pit *pit, u8 command) {
	u64 now = now_ticks(pit);

	for (unsigned i = 0; i < 3; i++) {
		if (!(command & 2 << i)) continue;
		if (!(command & 0x20)) latch_count(&pit->counter[i], now);
		if (!(command & 0x10)) latch_status(&pit->counter[i], now);
	}
}

static void write_control(struct pit *pit, u8 value) {
	unsigned index = value >> 6;

	if (index == 3) {
		read_back(pit, value);
		return;
	}
	struct pit_counter *c = &pit->counter[index];
	if ((value >> 4 & 3) == PIT_LATCH) {
		latch_count(c, now_ticks(pit));
		return;
	}
	*c = (struct pit_counter){
		.access = value >> 4 & 3,
		.mode = (value >> 1 & 7) > 5 ? value >> 1 & 3 : value >> 1 & 7,
		.bcd = value & 1,
		.gate = c->gate,
	};
	if (index == 0) {
		disarm_irq(pit);
		irq_set(pit->dev.vm, 0, false);
	}
}

static void set_gate(struct pit *pit, struct pit_counter *c, bool gate) {
	u64 now = now_ticks(pit);

	if (c->gate == gate) return;
	if (!gate)
		c->paused = c->armed ? elapsed(c, now) : 0;
	else if (triggered(c) ? c->written : periodic(c) && c->armed)
		trigger(c, now);
	else
		c->start = now - min_u64(c->paused, now);
	c->gate = gate;
}

static u8 read_count(struct pit_counter *c, u64 now) {
	bool high = c->access == PIT_HIGH;

	if (c->has_status) {
		c->has_status = false;
		return c->status;
	}
	u16 value = c->latched ? c->latch : current_count(c, now);
	if (c->latched) c->latched--;
	if (c->access == PIT_LOW_HIGH) {
		high = c->read_high;
		c->read_high = !c->read_high;
	}
	return (u8)(high ? value >> 8 : value);
}

/* ---- ports ---- */

static u64 pit_read(void *dev, u64 port, unsigned size __unused) {
	struct pit *pit = dev;
	u64 now = now_ticks(pit);

	spin_guard(&pit->dev.lock);
	if (port == PORT_61)
		return pit->port61 | (now / REFRESH_TICKS & 1 ? PORT61_REFRESH : 0) |
		       (output(&pit->counter[2], now) ? PORT61_OUT2 : 0);
	return port == PORT_CONTROL ? 0xff : read_count(&pit->counter[port & 3], now);
}

static void pit_write(void *dev, u64 port, unsigned size __unused, u64 value) {
	struct pit *pit = dev;

	spin_guard(&pit->dev.lock);
	if (port == PORT_61) {
		pit->port61 = value & PORT61_WRITABLE;
		set_gate(pit, &pit->counter[2], value & PORT61_GATE2);
	} else if (port == PORT_CONTROL) {
		write_control(pit, (u8)value);
	} else {
		write_count(pit, port & 3, (u8)value);
	}
}

static void reset(void *dev) {
	struct pit *pit = dev;

	disarm_irq(pit);
	pit->base = time_tsc();
	pit->port61 = 0;
	for (unsigned i = 0; i < 3; i++)
		pit->counter[i] = (struct pit_counter){.access = PIT_LOW_HIGH, .gate = i != 2};
	irq_set(pit->dev.vm, 0, false);
}

const struct device_type pit_type = {
	.reset = reset,
	.expired = irq_expired,
	.range = {{PORT_COUNTER, PORT_CONTROL, pit_read, pit_write, true, NULL},
		  {PORT_61, PORT_61, pit_read, pit_write, true, NULL}},
};
