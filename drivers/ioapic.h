/* The host's IOAPICs: routes the few interrupt lines that Roost itself uses. */
#pragma once

#include "drivers/acpi.h"

/* regs: mapped registers of the IOAPIC whose first input is gsi_base. All its inputs are masked.
 * At most ACPI_MAX_IOAPICS. */
void ioapic_add_host(volatile void *regs, u32 gsi_base);

/* Delivers an interrupt as a fixed vector to one CPU. E_NOENT when no IOAPIC has it. */
int ioapic_route(const struct acpi_irq *irq, u8 vector, u32 apic_id);

/* Masks both 8259A, after moving them away from the exception vectors. */
void pic_disable_host(void);
