/*
 * Interrupt lines of one VM, by GSI: 0 to 15 are the ISA IRQs and go to the PIC pair, too; the
 * IOAPIC has ISA IRQ 0 at pin 2. Lines are levels: an edge is a raise and a lower.
 */
#pragma once

#include "lib/types.h"

struct vm;

/* Sets the level of a line, from any CPU, device locks may be held. A gsi past 23 is ignored. */
void irq_set(struct vm *vm, unsigned gsi, bool level);

/* A message of the APIC bus. apic_send() bounds each field, whatever a guest has put there. */
struct apic_msg {
	u32 dest; /* APIC id, or logical destination; 8 bits from xAPIC, IOAPIC and MSI */
	u8 vector;
	u8 delivery; /* 0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 6 SIPI, 7 ExtINT */
	bool logical;
	bool level;  /* trigger mode: level */
	bool assert; /* for INIT level de-assert: false */
};

/* Delivers to every matching local APIC of the VM. Returns how many took it. Any CPU. */
unsigned apic_send(struct vm *vm, const struct apic_msg *msg);
