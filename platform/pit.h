/* The 8254 of a VM (datasheet), and port 0x61. Counts follow from the host TSC: no ticks. */
#pragma once

#include "platform/device.h"

#define PIT_HZ 1193182ul

/* The RW field of a control word: which bytes of the count are accessed. */
enum pit_access { PIT_LATCH, PIT_LOW, PIT_HIGH, PIT_LOW_HIGH };

struct pit_counter {
	u64 start;	 /* PIT tick at which the count in force began; may lie ahead */
	u64 paused;	 /* ticks counted until the gate closed (modes 0 and 4) */
	u32 count;	 /* in force: 1 to 0x10000, BCD up to 10000 */
	u32 previous;	 /* in force until start (modes 2 and 3) */
	u32 written;	 /* by software last; in force after the next trigger or period */
	u16 latch;	 /* latched count */
	u8 status;	 /* latched status */
	u8 mode;	 /* 0 to 5 */
	u8 access;	 /* enum pit_access, never PIT_LATCH */
	u8 low;		 /* first byte of a two-byte write */
	u8 latched;	 /* bytes of the latched count still to be read, 0 to 2 */
	bool has_status; /* a latched status is still to be read */
	bool bcd, gate;
	bool armed;		    /* a count is in force */
	bool untriggered;	    /* written waits for a trigger (modes 1 and 5) */
	bool write_high, read_high; /* next byte of a two-byte access */
};

struct pit {
	struct device dev;
	u64 base; /* host TSC at PIT tick 0 */
	u64 next; /* PIT tick of the rise of OUT 0 that the timer waits for; ~0: none */
	struct pit_counter counter[3];
	u8 port61; /* bits 3:0 as written */
};

extern const struct device_type pit_type;
