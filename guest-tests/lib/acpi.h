/* Finds ACPI tables below 4 GiB, as firmware left them. */
#pragma once

#include "guest-tests/lib/guest.h"

struct __packed acpi_header {
	char signature[4];
	u32 length;
	u8 revision, checksum;
	char oem_id[6], oem_table_id[8];
	u32 oem_revision;
	char creator_id[4];
	u32 creator_revision;
};

struct __packed acpi_rsdp {
	char signature[8];
	u8 checksum;
	char oem_id[6];
	u8 revision;
	u32 rsdt;
	u32 length; /* from here on: revision 2 */
	u64 xsdt;
	u8 extended_checksum;
	u8 reserved[3];
};

/* NULL when there is none in 0xE0000 to 0xFFFFF with a good checksum. */
const struct acpi_rsdp *acpi_rsdp(void);
/* The table that the XSDT, else the RSDT, names by its signature; NULL when there is none. */
const struct acpi_header *acpi_table(const char *signature);
u8 acpi_sum(const void *table, size_t length);
