// sources: platform/acpi_tables.c
/* The guest's ACPI tables, read the way a guest reads them: from the RSDP on, by address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/error.h"
#include "lib/types.h"
#include "platform/load.h"
#include "platform/layout.h"
#include "platform/pmio.h"

#define BASE LAYOUT_ACPI

static const u8 *memory; /* as it lies at BASE */
static int total;

static u8 sum(const u8 *bytes, size_t length) {
	u8 result = 0;

	for (size_t i = 0; i < length; i++) result = (u8)(result + bytes[i]);
	return result;
}

static u64 number(const u8 *at, unsigned size) {
	u64 value = 0;

	for (unsigned i = 0; i < size; i++) value |= (u64)at[i] << (8 * i);
	return value;
}

static int build(u32 nr_vcpus) {
	const void *tables = NULL;

	total = (int)acpi_tables_build(nr_vcpus, &tables);
	memory = tables;
	return total;
}

/* The bytes behind a guest address that a table names. */
static const u8 *at_address(u64 address, u64 length) {
	assert_true(address >= BASE);
	assert_true(range_within(address - BASE, length, (u64)total));
	return memory + (address - BASE);
}

/* A table by its address, its signature, length and checksum checked. */
static const u8 *table(u64 address, const char *signature, u64 *length) {
	const u8 *header = at_address(address, 36);

	assert_int_equal(address % 16, 0);
	assert_memory_equal(header, signature, 4);
	*length = number(header + 4, 4);
	assert_true(*length >= 36);
	at_address(address, *length);
	assert_int_equal(sum(header, *length), 0);
	assert_memory_equal(header + 10, "ROOST ", 6);
	return header;
}

/* Entry i of the XSDT; the RSDT must say the same. */
static u64 root_entry(unsigned i) {
	u64 rsdt_length, xsdt_length;
	const u8 *rsdt = table(number(memory + 16, 4), "RSDT", &rsdt_length);
	const u8 *xsdt = table(number(memory + 24, 8), "XSDT", &xsdt_length);

	assert_int_equal((rsdt_length - 36) / 4, (xsdt_length - 36) / 8);
	assert_true(36 + (i + 1) * 8 <= xsdt_length);
	u64 entry = number(xsdt + 36 + i * 8, 8);
	assert_int_equal(entry, number(rsdt + 36 + i * 4, 4));
	return entry;
}

static void test_root_pointer_has_both_checksums(void **state) {
	(void)state;
	assert_true(build(2) > 0);
	assert_memory_equal(memory, "RSD PTR ROOST ", 8);
	assert_memory_equal(memory + 9, "ROOST ", 6);
	assert_int_equal(memory[15], 2);
	assert_int_equal(number(memory + 20, 4), 36);
	assert_int_equal(sum(memory, 20), 0);
	assert_int_equal(sum(memory, 36), 0);
}

static void test_fixed_table_names_the_devices(void **state) {
	u64 length;

	(void)state;
	assert_true(build(2) > 0);
	const u8 *fadt = table(root_entry(0), "FACP", &length);
	assert_int_equal(length, 268);
	assert_int_equal(number(fadt + 46, 2), PMIO_SCI_GSI);
	assert_int_equal(number(fadt + 48, 4), 0); /* no SMI command: always in ACPI mode */
	assert_int_equal(number(fadt + 56, 4), PMIO_PM1_EVT);
	assert_int_equal(number(fadt + 64, 4), PMIO_PM1_CNT);
	assert_int_equal(number(fadt + 76, 4), PMIO_TIMER);
	assert_int_equal(fadt[88], 4);
	assert_int_equal(fadt[89], 2);
	assert_int_equal(fadt[91], 4);
	assert_int_equal(number(fadt + 109, 2), 0x5); /* legacy devices; no 8042, no VGA; an RTC */
	assert_true(number(fadt + 112, 4) & 1u << 8); /* 32-bit timer */
	assert_true(number(fadt + 112, 4) & 1u << 10);
	assert_int_equal(fadt[116], 1); /* reset register in I/O space, 8 bits */
	assert_int_equal(fadt[117], 8);
	assert_int_equal(number(fadt + 120, 8), PMIO_RESET);
	assert_int_equal(fadt[128], PMIO_RESET_VALUE);

	/* The extended addresses say the same as the old ones. */
	assert_int_equal(number(fadt + 152, 8), PMIO_PM1_EVT);
	assert_int_equal(number(fadt + 176, 8), PMIO_PM1_CNT);
	assert_int_equal(number(fadt + 212, 8), PMIO_TIMER);
	assert_int_equal(number(fadt + 140, 8), number(fadt + 40, 4));

	const u8 *facs = at_address(number(fadt + 36, 4), 64);
	assert_memory_equal(facs, "FACS", 4);
	assert_int_equal(number(facs + 4, 4), 64);
	assert_int_equal(number(fadt + 36, 4) % 64, 0);
	/* The DSDT comes behind all others. */
	assert_int_equal(number(fadt + 40, 4), BASE + (u64)total);
	assert_int_equal(total % 16, 0);
}

/* Walks the MADT by its lengths; counts[] by type. */
static void walk_madt(u32 nr_vcpus, unsigned counts[8]) {
	u64 length, at = 44;
	const u8 *madt = table(root_entry(1), "APIC", &length);

	assert_int_equal(number(madt + 36, 4), 0xfee00000);
	assert_int_equal(number(madt + 40, 4), 1);
	memset(counts, 0, 8 * sizeof(counts[0]));
	while (at < length) {
		const u8 *entry = madt + at;

		assert_true(length - at >= 2 && entry[1] >= 2 && entry[1] <= length - at);
		assert_true(entry[0] < 8);
		if (entry[0] == 0) {
			assert_int_equal(entry[1], 8);
			assert_int_equal(entry[3], counts[0]); /* APIC ids 0, 1, 2 ... */
			assert_int_equal(number(entry + 4, 4), 1);
		} else if (entry[0] == 1) {
			assert_int_equal(entry[1], 12);
			assert_int_equal(entry[2], nr_vcpus); /* no LAPIC has this id */
			assert_int_equal(number(entry + 4, 4), 0xfec00000);
			assert_int_equal(number(entry + 8, 4), 0);
		} else if (entry[0] == 2) {
			bool timer = entry[3] == 0;

			assert_int_equal(entry[1], 10);
			assert_int_equal(entry[2], 0);
			assert_int_equal(entry[3], timer ? 0 : 9);
			assert_int_equal(number(entry + 4, 4), timer ? 2 : 9);
			assert_int_equal(number(entry + 8, 2), timer ? 0x5 : 0xd);
		} else if (entry[0] == 4) {
			assert_int_equal(entry[1], 6);
			assert_int_equal(entry[2], 0xff);
			assert_int_equal(entry[5], 1);
		}
		counts[entry[0]]++;
		at += entry[1];
	}
	assert_int_equal(at, length);
}

static void test_processors_are_all_listed(void **state) {
	static const u32 vcpus[] = {1, 2, 3, 63, 64};
	unsigned counts[8];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vcpus); i++) {
		assert_true(build(vcpus[i]) > 0);
		walk_madt(vcpus[i], counts);
		assert_int_equal(counts[0], vcpus[i]);
		assert_int_equal(counts[1], 1);
		assert_int_equal(counts[2], 2);
		assert_int_equal(counts[4], 1);
	}
}

static void test_tables_do_not_overlap(void **state) {
	/* Each table's bytes are marked once: RSDP, RSDT, XSDT, FADT, MADT, FACS. */
	static u8 used[0x4000];
	u64 address[6] = {BASE}, length[6] = {36};
	const u8 *fadt;

	(void)state;
	assert_true(build(64) > 0);
	address[1] = number(memory + 16, 4);
	address[2] = number(memory + 24, 8);
	address[3] = root_entry(0);
	address[4] = root_entry(1);
	fadt = table(address[3], "FACP", &length[3]);
	address[5] = number(fadt + 36, 4);
	memset(used, 0, sizeof(used));
	for (unsigned i = 0; i < 6; i++) {
		if (i) length[i] = number(at_address(address[i], 8) + 4, 4);
		for (u64 byte = 0; byte < length[i]; byte++)
			assert_int_equal(used[address[i] - BASE + byte]++, 0);
	}
}

static void test_tables_are_the_same_when_built_again(void **state) {
	static u8 first[0x4000];
	int size;

	(void)state;
	size = build(3);
	assert_in_range(size, 1, sizeof(first));
	memcpy(first, memory, (size_t)size);
	assert_int_equal(build(3), size);
	assert_memory_equal(memory, first, (size_t)size);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_root_pointer_has_both_checksums),
		cmocka_unit_test(test_fixed_table_names_the_devices),
		cmocka_unit_test(test_processors_are_all_listed),
		cmocka_unit_test(test_tables_do_not_overlap),
		cmocka_unit_test(test_tables_are_the_same_when_built_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
