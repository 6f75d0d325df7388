/*
 * The ACPI tables that a guest finds at LAYOUT_ACPI: RSDP, RSDT, XSDT, FACS, FADT, MADT (ACPI 5.1,
 * chapter 5). The DSDT, compiled from platform/dsdt.asl, belongs right behind them.
 */
#pragma once

#include "lib/types.h"

/*
 * Fills the tables for vCPUs with the APIC ids 0 to nr_vcpus - 1. Returns their size in bytes, or
 * E_INVAL when nr_vcpus is not 1 to VM_MAX_VCPUS. *out stays until the next call.
 */
int acpi_tables_build(u32 nr_vcpus, const void **out) __must_check;
