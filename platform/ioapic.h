/*
 * The IOAPIC of a VM: 24 pins, version 0x20, at 0xfec00000 (82093AA datasheet; the EOI register of
 * later ones). Lines come from irq_set(); messages leave through apic_send().
 */
#pragma once

#include "lib/spinlock.h"
#include "lib/types.h"
#include "platform/bus.h"

struct vm;

#define IOAPIC_BASE    0xfec00000ul
#define IOAPIC_SIZE    0x1000ul
#define IOAPIC_PINS    24
#define IOAPIC_VERSION 0x20

struct ioapic {
	struct spinlock lock; /* guards the rest; may be taken with a device's lock held */
	u32 lines;	      /* levels of the pins */
	u32 select;	      /* IOREGSEL */
	u32 id;		      /* bits 27:24 */
	struct vm *vm;
	u64 entries[IOAPIC_PINS];
};

/* For a zeroed structure: adds the registers to the bus. 0 or the bus's error. */
int ioapic_setup(struct ioapic *ioapic, struct vm *vm, struct bus *bus) __must_check;
void ioapic_reset(struct ioapic *ioapic);

/* A local APIC has ended a level-triggered interrupt with this vector. Any CPU. */
void ioapic_eoi(struct ioapic *ioapic, u8 vector);
