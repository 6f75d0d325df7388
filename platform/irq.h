/*
 * Interrupt lines of one VM. A device drives a GSI by number; irq_set() (platform/ioapic.c) fans it
 * out to the PIC pair (GSI 0 to 15 are the ISA IRQs) and to the IOAPIC (same number, except ISA IRQ
 * 0, which the MADT moves to pin 2). Lines are levels: an edge is a raise and a lower.
 */
#pragma once

#include "lib/types.h"

struct vm;

/* Sets the level of a line, from any CPU, device locks may be held. A gsi past 23 is ignored. */
void irq_set(struct vm *vm, unsigned gsi, bool level);

/*
 * One message of the APIC bus, as an IPI, an IOAPIC entry or an MSI makes it. Every field is
 * decoded and bounded by apic_send() (platform/lapic.c), whatever a guest has put there.
 */
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
