/* The 8259A pair; see pic.h. ICW, OCW and the priorities are those of the 8259A datasheet. */
#include "platform/pic.h"

#include "lib/string.h"
#include "platform/lapic.h"

/* Ports; the edge/level registers of both chips lie side by side. */
enum { MASTER = 0x20, SLAVE = 0xa0, ELCR = 0x4d0 };

#define CASCADE 2

enum { ICW1_ICW4 = 0x01, ICW1_SINGLE = 0x02, ICW1_LEVEL = 0x08, ICW1_INIT = 0x10 };
enum { ICW4_AUTO = 0x02, ICW4_NESTED = 0x10 };
enum { OCW3_POLL = 0x04, OCW3 = 0x08 };
enum { OCW2_EOI = 0x20, OCW2_SPECIFIC = 0x40, OCW2_ROTATE = 0x80 };

/* Distance from the highest priority, 0 to 7, of the best of these inputs; 8 when there is none. */
static unsigned best(const struct pic_chip *chip, u8 inputs) {
	unsigned first = (chip->lowest + 1u) & 7;
	u8 rotated = (u8)(inputs >> first | inputs << (8 - first));

	return rotated ? (unsigned)__builtin_ctz(rotated) : 8;
}

static unsigned input_at(const struct pic_chip *chip, unsigned distance) {
	return (chip->lowest + 1 + distance) & 7;
}

/* In special mask mode a masked input holds nobody back, and no non-specific EOI ends it. */
static u8 in_service(const struct pic_chip *chip) {
	return chip->special_mask ? chip->isr & (u8)~chip->imr : chip->isr;
}

/* Which input the chip would have served next, or 8. */
static unsigned requested(const struct pic_chip *chip, bool master) {
	u8 service = in_service(chip);
	unsigned asks = best(chip, chip->irr & (u8)~chip->imr);

	if (asks == 8 || chip->init_step) return 8;
	/* Special fully nested: the slave may ask again while it is in service. */
	if (chip->special_nested && master) service &= (u8) ~(1u << CASCADE);
	return asks < best(chip, service) ? input_at(chip, asks) : 8;
}

/* Recomputes what the inputs ask for. */
static void sample(struct pic_chip *chip) {
	u8 level = chip->level_all ? 0xff : chip->elcr;

	chip->edges &= chip->lines;
	chip->irr = (chip->lines & level) | (chip->edges & (u8)~level);
}

static void set_input(struct pic_chip *chip, unsigned input, bool level) {
	u8 bit = (u8)(1u << input);

	if (level && !(chip->lines & bit)) chip->edges |= bit;
	chip->lines = level ? chip->lines | bit : chip->lines & (u8)~bit;
	sample(chip);
}

/* Lets the slave's output reach the master and the master's the processor. */
static void update(struct pic *pic) {
	lock_assert_held(&pic->dev.lock);
	set_input(&pic->chip[0], CASCADE, requested(&pic->chip[1], false) < 8);
	lapic_set_lint0(pic->dev.vm->vcpus[0], requested(&pic->chip[0], true) < 8);
}

void pic_set_irq(struct pic *pic, unsigned irq, bool level) {
	if (irq > 15 || irq == CASCADE) return;
	spin_guard(&pic->dev.lock);
	set_input(&pic->chip[irq >> 3], irq & 7, level);
	update(pic);
}

/* ---- acknowledge ---- */

static void end_of_interrupt(struct pic_chip *chip, unsigned input, bool rotate) {
	chip->isr &= (u8) ~(1u << input);
	if (rotate) chip->lowest = (u8)input;
}

/* One chip's part of the cycle: the input served, 7 when the request has gone. */
static unsigned acknowledge(struct pic_chip *chip, bool master) {
	unsigned input = requested(chip, master);

	if (input == 8) return 7; /* the default vector; ISR is not set */
	chip->edges &= (u8) ~(1u << input);
	sample(chip);
	chip->isr |= (u8)(1u << input);
	if (chip->auto_eoi) end_of_interrupt(chip, input, chip->rotate_auto_eoi);
	return input;
}

/* An acknowledge cycle of both chips: the vector. */
static int acknowledge_both(struct pic_chip chip[2]) {
	unsigned input = acknowledge(chip, true);

	if (input == CASCADE) input = acknowledge(++chip, false);
	return chip->base + (int)input;
}

int pic_peek(struct pic *pic) {
	struct pic_chip copy[2];

	spin_guard(&pic->dev.lock);
	memcpy(copy, pic->chip, sizeof(copy));
	return acknowledge_both(copy);
}

int pic_accept(struct pic *pic) {
	spin_guard(&pic->dev.lock);
	int vector = acknowledge_both(pic->chip);
	update(pic);
	return vector;
}

/* ---- commands ---- */

static void start_init(struct pic_chip *chip, u8 icw1) {
	*chip = (struct pic_chip){
		.lines = chip->lines,
		.elcr = chip->elcr,
		.elcr_mask = chip->elcr_mask,
		.base = chip->base,
		.lowest = 7,
		.init_step = 2,
		.needs_icw4 = icw1 & ICW1_ICW4,
		.single = icw1 & ICW1_SINGLE,
		.level_all = icw1 & ICW1_LEVEL,
	};
	sample(chip);
}

static void write_ocw2(struct pic_chip *chip, u8 value) {
	bool specific = value & OCW2_SPECIFIC, rotate = value & OCW2_ROTATE;
	unsigned input = value & 7;

	if (value & OCW2_EOI) {
		unsigned served = best(chip, in_service(chip));

		if (!specific && served == 8) return;
		end_of_interrupt(chip, specific ? input : input_at(chip, served), rotate);
	} else if (!specific) {
		chip->rotate_auto_eoi = rotate;
	} else if (rotate) {
		chip->lowest = (u8)input;
	}
}

static void write_ocw3(struct pic_chip *chip, u8 value) {
	if (value & 0x40) chip->special_mask = value & 0x20;
	if (value & OCW3_POLL)
		chip->poll = true;
	else if (value & 2)
		chip->read_isr = value & 1;
}

static void write_odd(struct pic_chip *chip, u8 value) {
	switch (chip->init_step) {
	case 2:
		chip->base = value & 0xf8;
		chip->init_step = chip->single ? (chip->needs_icw4 ? 4 : 0) : 3;
		break;
	case 3: /* who is on which input is wired here, not programmed */
		chip->init_step = chip->needs_icw4 ? 4 : 0;
		break;
	case 4:
		chip->special_nested = value & ICW4_NESTED;
		chip->auto_eoi = value & ICW4_AUTO;
		chip->init_step = 0;
		break;
	default: chip->imr = value; break;
	}
}

/* A read after the poll command acknowledges: bit 7 and the input, or 0. */
static u8 poll(struct pic_chip *chip, bool master) {
	bool asks = requested(chip, master) < 8;

	chip->poll = false;
	return asks ? (u8)(0x80 | acknowledge(chip, master)) : 0;
}

static struct pic_chip *chip_of(struct pic *pic, u64 port) {
	return &pic->chip[port >= ELCR ? port & 1 : port >= SLAVE];
}

static u64 pic_read(void *dev, u64 port, unsigned size __unused) {
	struct pic *pic = dev;
	struct pic_chip *chip = chip_of(pic, port);

	spin_guard(&pic->dev.lock);
	if (port >= ELCR) return chip->elcr;
	if (!chip->poll) return port & 1 ? chip->imr : chip->read_isr ? chip->isr : chip->irr;
	u8 value = poll(chip, chip == &pic->chip[0]);
	update(pic);
	return value;
}

static void pic_write(void *dev, u64 port, unsigned size __unused, u64 value) {
	struct pic *pic = dev;
	struct pic_chip *chip = chip_of(pic, port);
	u8 byte = (u8)value;

	spin_guard(&pic->dev.lock);
	if (port >= ELCR) {
		chip->elcr = byte & chip->elcr_mask;
		sample(chip);
	} else if (port & 1) {
		write_odd(chip, byte);
	} else if (byte & ICW1_INIT) {
		start_init(chip, byte);
	} else if (byte & OCW3) {
		write_ocw3(chip, byte);
	} else {
		write_ocw2(chip, byte);
	}
	update(pic);
}

static void reset(void *dev) {
	struct pic *pic = dev;

	for (unsigned i = 0; i < 2; i++) {
		/* IRQ 0, 1, 2, 8 and 13 are always edges (PIIX3 datasheet, ELCR). */
		/* As firmware leaves them: at 0x08 and 0x70, everything masked. */
		pic->chip[i] = (struct pic_chip){.lowest = 7,
						 .elcr_mask = i ? 0xde : 0xf8,
						 .base = i ? 0x70 : 0x08,
						 .imr = 0xff};
	}
	update(pic);
}

const struct device_type pic_type = {
	.reset = reset,
	.range = {{MASTER, MASTER + 1, pic_read, pic_write, true, NULL},
		  {SLAVE, SLAVE + 1, pic_read, pic_write, true, NULL},
		  {ELCR, ELCR + 1, pic_read, pic_write, true, NULL}},
};
