/* Measures the frequencies of the TSC and of the LAPIC timer against a clock of known frequency. */
#pragma once

#include "lib/types.h"

struct acpi_info;

struct clock_measure {
	const char *source; /* "HPET", "ACPI PM timer" or "PIT" */
	u64 tsc_khz;
	u64 tsc_ticks;	 /* counted ... */
	u64 lapic_ticks; /* ... in the same time */
};

/*
 * Tries HPET, PM timer, PIT in this order; takes about 8 ms. The LAPIC timer counts down from its
 * maximum afterwards and must be set again. Falls back to 1 GHz with source "guess" when no clock
 * moves.
 */
void clock_measure(const struct acpi_info *acpi, struct clock_measure *out);
