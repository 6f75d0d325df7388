/*
 * The ACPI tables that a guest finds at LAYOUT_ACPI: RSDP, RSDT, XSDT, FACS, FADT, MADT (ACPI 5.1,
 * chapter 5). The DSDT, compiled from platform/dsdt.asl, belongs right behind them.
 */
#pragma once

#include "lib/types.h"

/* Fills them for that many vCPUs, at most VM_MAX_VCPUS. Their size. *out stays until the next call.
 */
u32 acpi_tables_build(u32 nr_vcpus, const void **out);
