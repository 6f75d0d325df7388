/* The pair of 8259A of a VM (datasheet; PIIX3: ELCR). Its output is LINT0 of vCPU 0. */
#pragma once

#include "platform/device.h"

struct pic_chip {
	u8 lines; /* levels of the inputs */
	u8 edges; /* inputs that have risen and not been acknowledged since */
	u8 irr;	  /* what asks now: risen and still high, or high where level-triggered */
	u8 imr, isr;
	u8 elcr;      /* 1: level-triggered */
	u8 elcr_mask; /* which bits of elcr software may set */
	u8 base;      /* vector of input 0 */
	u8 lowest;    /* input with the lowest priority, 7 after reset */
	u8 init_step; /* next ICW expected at the odd port, 2 to 4; 0: operating */
	bool needs_icw4, single, level_all;
	bool special_mask, special_nested, auto_eoi, rotate_auto_eoi;
	bool read_isr, poll;
};

struct pic {
	struct device dev;
	struct pic_chip chip[2]; /* master, slave on its input 2 */
};

extern const struct device_type pic_type;

/* Sets the level of an ISA IRQ. 2 is the cascade and ignored, as is what exceeds 15. Any CPU. */
void pic_set_irq(struct pic *pic, unsigned irq, bool level);

/* The vector that an acknowledge cycle would return now; the spurious one when nothing asks. */
int pic_peek(struct pic *pic);

/* The acknowledge cycle: moves the request into service and returns its vector. */
int pic_accept(struct pic *pic);
