/* ACPI tables: found, checksummed, bounded, and true to the machine. */
#include "guest-tests/lib/acpi.h"
#include "guest-tests/lib/apic.h"

const char test_name[] = "acpi";

#define FADT_DSDT	40
#define FADT_PM1A_CNT	64
#define FADT_PM_TIMER	76
#define FADT_FLAGS	112
#define FADT_X_DSDT	140
#define MADT_LAPIC_BASE 36
#define MADT_FIRST	44

static u32 field32(const struct acpi_header *table, u32 offset) {
	u32 value = 0;

	if (offset + 4 <= table->length) memcpy(&value, (const char *)table + offset, 4);
	return value;
}

static u64 field64(const struct acpi_header *table, u32 offset) {
	return (u64)field32(table, offset + 4) << 32 | field32(table, offset);
}

static const char *signature_of(const struct acpi_header *table) {
	static char text[5];

	memcpy(text, table->signature, 4);
	return text;
}

static void check_table(const struct acpi_header *table) {
	if (!check(name_of("%s has a sane length", signature_of(table)),
		   table->length >= sizeof(*table) && table->length < MiB(1)))
		return;
	check_eq(name_of("%s checksum", signature_of(table)), acpi_sum(table, table->length), 0);
}

static void test_root(const struct acpi_header *root, u32 size) {
	check_table(root);
	u32 nr = (root->length - (u32)sizeof(*root)) / size;
	check_range(name_of("%s entries", signature_of(root)), nr, 2, 64);
	for (u32 i = 0; i < nr; i++) {
		u64 at = size == 8 ? field64(root, (u32)sizeof(*root) + 8 * i)
				   : field32(root, (u32)sizeof(*root) + 4 * i);

		if (check(name_of("entry %u is below 4 GiB and not 0", i), at && at < GiB(4)))
			check_table((const struct acpi_header *)at);
	}
}

static void test_fadt(void) {
	const struct acpi_header *fadt = acpi_table("FACP");

	if (!check("there is a FADT", fadt != NULL)) return;
	check_eq("FADT: PM timer port", field32(fadt, FADT_PM_TIMER), PM_TIMER_PORT);
	check_eq("FADT: PM1a control port", field32(fadt, FADT_PM1A_CNT), 0x604);
	u64 dsdt = field32(fadt, FADT_DSDT);
	if (!dsdt && fadt->length >= FADT_X_DSDT + 8) dsdt = field64(fadt, FADT_X_DSDT);
	if (check("FADT: there is a DSDT", dsdt && dsdt < GiB(4)))
		check_table((const struct acpi_header *)dsdt);
	check("FADT: HLT and WBINVD flags", (field32(fadt, FADT_FLAGS) & 5) == 5);
}

static void test_madt(void) {
	const struct acpi_header *madt = acpi_table("APIC");
	u32 lapics = 0, ioapics = 0, overrides = 0;
	bool self = false, sane = true;
	const u8 *at;

	if (!check("there is a MADT", madt != NULL)) return;
	check_eq("MADT: local APIC address", field32(madt, MADT_LAPIC_BASE), LAPIC_BASE);
	const u8 *end = (const u8 *)madt + madt->length;
	for (at = (const u8 *)madt + MADT_FIRST; at < end; at += at[1]) {
		if (at + 2 > end || at[1] < 2 || at + at[1] > end) {
			sane = false;
			break;
		}
		if (at[0] == 0 && at[4] & 1) {
			lapics++;
			self = self || at[3] == lapic_id();
		} else if (at[0] == 1) {
			u32 base;

			ioapics++;
			memcpy(&base, at + 4, 4);
			check_eq("MADT: IOAPIC address", base, IOAPIC_BASE);
		} else if (at[0] == 2) {
			overrides++;
			check("MADT: an override is of the ISA bus", at[2] == 0 && at[3] < 16);
		}
	}
	check("MADT: entries are well formed", sane);
	check_eq("MADT: one IOAPIC", ioapics, 1);
	check_range("MADT: local APICs", lapics, 1, 64);
	check("MADT: this CPU is in it", self);
	check_range("MADT: overrides", overrides, 1, 16);
}

void test_main(void) {
	const struct acpi_rsdp *rsdp = acpi_rsdp();

	if (!check("there is an RSDP with a good checksum", rsdp != NULL)) return;
	if (rsdp->revision >= 2) {
		check_eq("RSDP: extended checksum", acpi_sum(rsdp, rsdp->length), 0);
		test_root((const struct acpi_header *)rsdp->xsdt, 8);
	}
	if (rsdp->rsdt) test_root((const struct acpi_header *)(u64)rsdp->rsdt, 4);
	test_fadt();
	test_madt();
}
