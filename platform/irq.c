/* The interrupt lines of a VM: where each GSI goes; see irq.h. */
#include "platform/irq.h"

#include "platform/ioapic.h"
#include "platform/pic.h"
#include "platform/platform.h"

#define ISA_IRQS 16

void irq_set(struct vm *vm, unsigned gsi, bool level) {
	struct platform *platform = vm->platform;

	if (gsi >= IOAPIC_PINS) return;
	if (gsi < ISA_IRQS) pic_set_irq(&platform->pic, gsi, level);
	/* ISA IRQ 0 is on pin 2 (the MADT says so); no line leads to pin 0. */
	ioapic_set_pin(&platform->ioapic, gsi ? gsi : 2, level);
}
