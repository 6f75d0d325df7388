/* ACPI tables for unit tests. */
#include "tests/acpi_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/error.h"
#include "tests/log_rig.h"

u8 acpi_arena[ACPI_ARENA_SIZE];
static void *mapping[2048];
static unsigned nr_mappings;
struct boot_info acpi_boot;
struct acpi_info acpi_info;

hpa_t acpi_next_free;
hpa_t acpi_listed[ACPI_MAX_LISTED];
u32 acpi_nr_listed;

const void *phys_peek(hpa_t address, size_t length) {
	if (!range_within(address, length, ACPI_ARENA_SIZE)) return NULL;
	assert_true(nr_mappings < ARRAY_SIZE(mapping));
	void *copy = malloc(length);
	assert_non_null(copy);
	memcpy(copy, acpi_arena + address, length);
	mapping[nr_mappings++] = copy;
	return copy;
}

int acpi_setup(void **state) {
	(void)state;
	memset(acpi_arena, 0, sizeof(acpi_arena));
	memset(&acpi_boot, 0, sizeof(acpi_boot));
	memset(&acpi_info, 0xcc, sizeof(acpi_info));
	rig_log_clear();
	acpi_nr_listed = 0;
	acpi_next_free = ACPI_ARENA_TABLES;
	return 0;
}

int acpi_teardown(void **state) {
	(void)state;
	while (nr_mappings) free(mapping[--nr_mappings]);
	return 0;
}

/* The value that makes data[length] sum to zero; data[at] is where it will go. */
static void fix_sum(void *data, size_t length, size_t at) {
	u8 *byte = data;
	u8 sum = 0;

	byte[at] = 0;
	for (size_t i = 0; i < length; i++) sum = (u8)(sum + byte[i]);
	byte[at] = (u8)-sum;
}

/* Puts a table into the acpi_arena; the header is filled in. Returns its address. */
hpa_t acpi_put_table(const char *signature, u8 revision, const void *body, size_t length) {
	struct acpi_header header = {.length = (u32)(sizeof(header) + length),
				     .revision = revision};
	hpa_t at = acpi_next_free;

	memcpy(header.signature, signature, 4);
	assert_true(at + header.length <= ACPI_ARENA_SIZE);
	memcpy(acpi_arena + at, &header, sizeof(header));
	memcpy(acpi_arena + at + sizeof(header), body, length);
	fix_sum(acpi_arena + at, header.length, offsetof(struct acpi_header, checksum));
	acpi_next_free = align_up(at + header.length, 16) + 16;
	return at;
}

hpa_t acpi_add_table(const char *signature, u8 revision, const void *body, size_t length) {
	hpa_t at = acpi_put_table(signature, revision, body, length);

	acpi_listed[acpi_nr_listed++] = at;
	return at;
}

/* A table whose structure has the header already. */
hpa_t acpi_add_struct(const char *signature, u8 revision, const void *table, size_t length) {
	return acpi_add_table(signature, revision, (const u8 *)table + sizeof(struct acpi_header),
			      length - sizeof(struct acpi_header));
}

void acpi_refresh_sum(hpa_t at) {
	struct acpi_header header;

	memcpy(&header, acpi_arena + at, sizeof(header));
	fix_sum(acpi_arena + at, header.length, offsetof(struct acpi_header, checksum));
}

hpa_t acpi_put_root(u32 width) {
	u8 body[1024 * 8];

	for (u32 i = 0; i < acpi_nr_listed; i++) memcpy(body + i * width, &acpi_listed[i], width);
	return acpi_put_table(width == 8 ? "XSDT" : "RSDT", 1, body, acpi_nr_listed * width);
}

struct acpi_rsdp acpi_make_rsdp(hpa_t rsdt, hpa_t xsdt) {
	struct acpi_rsdp rsdp = {.signature = "RSD PTR ",
				 .revision = xsdt ? 2 : 0,
				 .rsdt = (u32)rsdt,
				 .length = 36,
				 .xsdt = xsdt};

	fix_sum(&rsdp, 20, offsetof(struct acpi_rsdp, checksum));
	fix_sum(&rsdp, 36, offsetof(struct acpi_rsdp, extended_checksum));
	return rsdp;
}

void acpi_give_rsdp(struct acpi_rsdp rsdp, u32 size) {
	memcpy(acpi_boot.rsdp, &rsdp, size);
	acpi_boot.rsdp_size = size;
}

/* Everything that was added, in an XSDT that the acpi_boot loader tells of. */
int acpi_parse_listed(void) {
	acpi_give_rsdp(acpi_make_rsdp(0, acpi_put_root(8)), 36);
	return acpi_parse(&acpi_boot, &acpi_info);
}

/* A MADT from entries that are strung together in body. */
hpa_t acpi_add_madt(const void *entries, size_t length) {
	u8 body[8192];
	u32 head[2] = {0xfee00000, MADT_HAS_8259};

	memcpy(body, head, sizeof(head));
	memcpy(body + sizeof(head), entries, length);
	return acpi_add_table("APIC", 3, body, sizeof(head) + length);
}

struct acpi_fadt acpi_make_fadt(void) {
	return (struct acpi_fadt){
		.sci = 9,
		.smi_command = 0xb2,
		.acpi_enable = 2,
		.pm1a_event = 0x600,
		.pm1a_control = 0x604,
		.pm_timer = 0x608,
		.pm1_event_length = 4,
		.pm1_control_length = 2,
		.pm_timer_length = 4,
		.boot_arch = FADT_ARCH_8042,
		.flags = FADT_TIMER_32BIT | FADT_HAS_RESET,
		.reset = {ACPI_SPACE_IO, 8, 0, 1, 0xcf9},
		.reset_value = 6,
	};
}
