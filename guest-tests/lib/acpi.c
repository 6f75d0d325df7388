/* Finding ACPI tables: RSDP, then XSDT or RSDT (ACPI 6.4 5.2.5 to 5.2.8). */
#include "guest-tests/lib/acpi.h"

u8 acpi_sum(const void *table, size_t length) {
	const u8 *bytes = table;
	u8 sum = 0;

	for (size_t i = 0; i < length; i++) sum = (u8)(sum + bytes[i]);
	return sum;
}

const struct acpi_rsdp *acpi_rsdp(void) {
	for (u64 at = 0xe0000; at < 0x100000; at += 16) {
		const struct acpi_rsdp *rsdp = (const struct acpi_rsdp *)at;

		if (!memcmp(rsdp->signature, "RSD PTR ", 8) && acpi_sum(rsdp, 20) == 0) return rsdp;
	}
	return NULL;
}

static u64 entry_at(const struct acpi_header *root, u64 size, u64 i) {
	u64 entry = 0;

	memcpy(&entry, (const char *)root + sizeof(*root) + i * size, size);
	return entry;
}

const struct acpi_header *acpi_table(const char *signature) {
	const struct acpi_rsdp *rsdp = acpi_rsdp();
	u64 size = 4;

	if (!rsdp) return NULL;
	const struct acpi_header *root = (const struct acpi_header *)(u64)rsdp->rsdt;
	if (rsdp->revision >= 2 && rsdp->xsdt && rsdp->xsdt < GiB(4)) {
		root = (const struct acpi_header *)rsdp->xsdt;
		size = 8;
	}
	if (root->length < sizeof(*root) || root->length > 4096) return NULL;
	for (u64 i = 0; i < (root->length - sizeof(*root)) / size; i++) {
		u64 entry = entry_at(root, size, i);

		if (entry && entry < GiB(4) && !memcmp((const void *)entry, signature, 4))
			return (const struct acpi_header *)entry;
	}
	return NULL;
}
