/*
 * ACPI tables for unit tests: an arena that stands for the first 8 MiB of physical memory, and the
 * means to put tables into it. Each mapping that the code under test asks for is a copy of exactly
 * those bytes, so that the address sanitizer sees any read beyond them.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "boot/bootinfo.h"
#include "drivers/acpi.h"
#include "drivers/acpi_tables.h"
#include "lib/types.h"

#define ACPI_ARENA_SIZE	  MiB(8)
#define ACPI_ARENA_TABLES MiB(1) /* the first table goes here */
#define ACPI_MAX_LISTED	  1024

extern u8 acpi_arena[ACPI_ARENA_SIZE];
extern struct boot_info acpi_boot;
extern struct acpi_info acpi_info;

/* Where the next table goes, and the tables that the root will list. */
extern hpa_t acpi_next_free;
extern hpa_t acpi_listed[ACPI_MAX_LISTED];
extern u32 acpi_nr_listed;

int acpi_setup(void **state);
int acpi_teardown(void **state);

#define ACPI_TEST(name) cmocka_unit_test_setup_teardown(name, acpi_setup, acpi_teardown)

/* Puts a table into the arena, with header and checksum. Returns its address. */
hpa_t acpi_put_table(const char *signature, u8 revision, const void *body, size_t length);

/* The same, and lists it in the root; the second one for structures that begin with a header. */
hpa_t acpi_add_table(const char *signature, u8 revision, const void *body, size_t length);
hpa_t acpi_add_struct(const char *signature, u8 revision, const void *table, size_t length);

/* A MADT from entries that are strung together. */
hpa_t acpi_add_madt(const void *entries, size_t length);

/* Makes the checksum of a changed table right again. */
void acpi_refresh_sum(hpa_t at);

/* An XSDT (width 8) or RSDT (4) of all listed tables. Returns its address. */
hpa_t acpi_put_root(u32 width);

/* An RSDP of revision 2, or 0 when there is no XSDT; and giving it to the code under test. */
struct acpi_rsdp acpi_make_rsdp(hpa_t rsdt, hpa_t xsdt);
void acpi_give_rsdp(struct acpi_rsdp rsdp, u32 size);

/* acpi_parse() of all listed tables, in an XSDT that the boot loader tells of. */
int acpi_parse_listed(void);

/* A FADT of revision 3 as a PC has it, without a DSDT. */
struct acpi_fadt acpi_make_fadt(void);
