/* Other processors: start, kick, call. */
#pragma once

#include "lib/types.h"

struct acpi_info;
struct cpu;

/* The boot processor becomes CPU 0, up to max_cpus of the MADT follow; each has 3 s to come up. */
void smp_init(const struct acpi_info *acpi, hpa_t page, u32 max_cpus);

/* Makes a CPU leave its guest or wake from idle. Cheap; any CPU but for itself no effect. */
void smp_kick(struct cpu *cpu);

/* An interrupt for the CPU itself: its guest leaves at the next boundary that takes interrupts. */
void smp_kick_self(void);

/* From trampoline.S. */
void smp_ap_start(void);
