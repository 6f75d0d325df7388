/* A lock, an interrupt line and a timer: what the devices have in common. platform.c makes them. */
#pragma once

#include "kernel/time.h"
#include "kernel/vm.h"
#include "lib/spinlock.h"
#include "platform/bus.h"

#define DEVICE_RANGES 12

/* Of each function the argument is the structure that begins with the struct device, locked. */
struct device_type {
	void (*reset)(void *dev);	       /* to the state after power-up */
	void (*expired)(void *dev);	       /* by the timer; NULL: it is not used */
	struct bus_range range[DEVICE_RANGES]; /* up to one without a read function */
};

struct device {
	struct spinlock lock; /* guards the structure that begins with this */
	struct vm *vm;
	const struct device_type *type;
	struct timer timer; /* on vCPU 0's CPU */
	bool line;	    /* level of the interrupt line */
};

/*
 * Sets the level of a line of the VM, from any CPU, device locks may be held. 0 to 15 are the ISA
 * IRQs and go to the PIC pair, too; the IOAPIC has ISA IRQ 0 at pin 2. What exceeds 23 is ignored.
 * An edge is a raise and a lower.
 */
void irq_set(struct vm *vm, unsigned gsi, bool level);

/* Drives the interrupt line; the lock is held. */
static inline void device_set_line(struct device *dev, unsigned gsi, bool level) {
	if (level == dev->line) return;
	dev->line = level;
	irq_set(dev->vm, gsi, level);
}
