/* The IOAPIC of a VM: 24 pins, version 0x20 (82093AA datasheet; the EOI register of later ones). */
#pragma once

#include "platform/device.h"

#define IOAPIC_BASE    0xfec00000ul
#define IOAPIC_SIZE    0x1000ul
#define IOAPIC_PINS    24
#define IOAPIC_VERSION 0x20

struct ioapic {
	struct device dev;
	u32 lines;  /* levels of the pins */
	u32 select; /* IOREGSEL */
	u32 id;	    /* bits 27:24 */
	u64 entries[IOAPIC_PINS];
};

extern const struct device_type ioapic_type;

/* Its page, at IOAPIC_BASE; size 1, 2, 4 or 8. */
u64 ioapic_read(struct ioapic *ioapic, u64 offset, unsigned size);
void ioapic_write(struct ioapic *ioapic, u64 offset, unsigned size, u64 value);

/* A local APIC has ended a level-triggered interrupt with this vector. Any CPU. */
void ioapic_eoi(struct ioapic *ioapic, u8 vector);
