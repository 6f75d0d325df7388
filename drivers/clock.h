/* Measures the frequencies of the TSC and of the LAPIC timer against a clock of known frequency. */
#pragma once

#include "lib/types.h"

struct acpi_info;

struct clock_measure {
	const char *source; /* "HPET", "ACPI PM timer", "PIT", "CPUID" or "guess" */
	u64 tsc_khz;
	u64 tsc_ticks;	 /* counted ... */
	u64 lapic_ticks; /* ... in the same time */
};

/*
 * Tries HPET, PM timer, PIT; takes about 8 ms. When none moves, the TSC's frequency is the claimed
 * one, or 1 GHz when that is 0. The LAPIC timer counts down afterwards and must be set again.
 */
void clock_measure(const struct acpi_info *acpi, u64 claimed_khz, struct clock_measure *out);
