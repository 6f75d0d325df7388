/* Other processors: start, kick, call. */
#pragma once

#include "lib/types.h"

struct acpi_info;
struct cpu;

/*
 * Makes the boot processor CPU 0 and starts the others that the MADT names, at most max_cpus in
 * all. Each has 3 s to come up; one that does not is named and left out.
 */
void smp_init(const struct acpi_info *acpi, hpa_t page, u32 max_cpus);

/* Makes a CPU leave its guest or wake from idle. Cheap; any CPU but for itself no effect. */
void smp_kick(struct cpu *cpu);

/*
 * Calls fn(arg) on every other CPU, with interrupts off there, and waits until all are done: at
 * most a second, then the CPU that did not answer is named. Not from within a call.
 */
void smp_call_others(void (*fn)(void *arg), void *arg);

/* Called by an AP on its own stack once its area is ready; does not return. Set by main. */
extern void (*smp_ap_main)(void);

/* From trampoline.S. */
void smp_ap_start(void);
