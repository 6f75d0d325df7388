/*
 * The ACPI tables that a guest finds: RSDP, RSDT, XSDT, FADT, FACS, MADT, DSDT (ACPI 5.1, chapter
 * 5). Built as bytes for one fixed guest physical address, without touching guest memory.
 */
#pragma once

#include "lib/types.h"

#define ACPI_TABLES_MAX 0x4000 /* bytes that all tables together take at most */

struct acpi_params {
	gpa_t base; /* where the tables will lie: 64-byte aligned, below 1 MiB; the RSDP is first */
	u32 nr_vcpus;	/* 1 to 64; their APIC ids are 0 to nr_vcpus - 1 */
	const u8 *dsdt; /* compiled platform/dsdt.asl */
	u32 dsdt_size;
};

/*
 * Writes the tables to out and returns their length. E_INVAL for a vCPU count or an address that is
 * out of range, E_FORMAT when dsdt is no definition block, E_NOMEM when size does not suffice.
 */
int acpi_tables_build(const struct acpi_params *params, u8 *out, size_t size) __must_check;
