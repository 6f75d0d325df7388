// sources: drivers/acpi.c tests/acpi_fixture.c tests/log_rig.c
/* ACPI tables: finding them, damaged ones, and the MADT. */
#include <string.h>

#include "lib/error.h"
#include "tests/acpi_fixture.h"
#include "tests/log_rig.h"

/* ---- finding the root ---- */

static void test_no_rsdp(void **state) {
	(void)state;
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), E_NOENT);
	assert_int_equal(acpi_info.nr_cpus, 0);
	assert_int_equal(acpi_info.irq[5].gsi, 5);
}

static void test_rsdp_v1_scanned_in_bios_area(void **state) {
	static const u8 cpu[] = {0, 8, 0, 7, 1, 0, 0, 0};

	(void)state;
	acpi_add_madt(cpu, sizeof(cpu));
	struct acpi_rsdp rsdp = acpi_make_rsdp(acpi_put_root(4), 0);
	memcpy(acpi_arena + 0xfffe0, &rsdp, 20); /* the last place but one */
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), 0);
	assert_int_equal(rig_nr_logged, 0);
	assert_int_equal(acpi_info.nr_cpus, 1);
	assert_int_equal(acpi_info.apic_ids[0], 7);
}

static void test_rsdp_scanned_in_ebda(void **state) {
	static const u8 cpu[] = {0, 8, 0, 3, 1, 0, 0, 0};
	u16 segment = 0x9fc0;

	(void)state;
	acpi_add_madt(cpu, sizeof(cpu));
	struct acpi_rsdp rsdp = acpi_make_rsdp(0, acpi_put_root(8));
	memcpy(acpi_arena + 0x40e, &segment, 2);
	memcpy(acpi_arena + 0x9fc10, &rsdp, 36);
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), 0);
	assert_int_equal(acpi_info.apic_ids[0], 3);
}

static void test_rsdp_not_on_16_bytes_is_not_found(void **state) {
	struct acpi_rsdp rsdp = acpi_make_rsdp(acpi_put_root(4), 0);

	(void)state;
	memcpy(acpi_arena + 0xe0008, &rsdp, 20);
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), E_NOENT);
}

static void test_rsdp_bad_checksum_is_passed_over(void **state) {
	static const u8 cpu[] = {0, 8, 0, 9, 1, 0, 0, 0};

	(void)state;
	acpi_add_madt(cpu, sizeof(cpu));
	struct acpi_rsdp rsdp = acpi_make_rsdp(acpi_put_root(4), 0);
	memcpy(acpi_arena + 0xf0000, &rsdp, 20);
	rsdp.checksum++;
	memcpy(acpi_arena + 0xe0000, &rsdp, 20);
	acpi_give_rsdp(rsdp, 20);
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), 0);
	assert_true(rig_logged("RSDP is corrupt"));
	assert_int_equal(acpi_info.apic_ids[0], 9);
}

static void test_rsdp_v2_bad_second_part_uses_rsdt(void **state) {
	static const u8 cpu[] = {0, 8, 0, 5, 1, 0, 0, 0};

	(void)state;
	acpi_add_madt(cpu, sizeof(cpu));
	struct acpi_rsdp rsdp = acpi_make_rsdp(acpi_put_root(4), MiB(7));
	rsdp.extended_checksum++;
	acpi_give_rsdp(rsdp, 36);
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), 0);
	assert_true(rig_logged("second part"));
	assert_int_equal(acpi_info.apic_ids[0], 5);
	/* The same when the loader has copied 20 bytes only. */
	acpi_give_rsdp(acpi_make_rsdp(acpi_put_root(4), MiB(7)), 20);
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), 0);
	assert_int_equal(acpi_info.apic_ids[0], 5);
}

static void test_bad_xsdt_falls_back_to_rsdt(void **state) {
	static const u8 cpu[] = {0, 8, 0, 5, 1, 0, 0, 0};

	(void)state;
	acpi_add_madt(cpu, sizeof(cpu));
	hpa_t xsdt = acpi_put_root(8);
	acpi_arena[xsdt + 20]++;
	acpi_give_rsdp(acpi_make_rsdp(acpi_put_root(4), xsdt), 36);
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), 0);
	assert_true(rig_logged("table XSDT"));
	assert_true(rig_logged("wrong checksum"));
	assert_int_equal(acpi_info.nr_cpus, 1);
}

static void test_no_root_table(void **state) {
	(void)state;
	acpi_give_rsdp(acpi_make_rsdp(0, 0xffffffffffffff00), 36);
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), E_FORMAT);
	/* A table of another kind is no root. */
	acpi_give_rsdp(acpi_make_rsdp(acpi_put_table("SSDT", 1, "", 0), 0), 20);
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), E_FORMAT);
	assert_true(rig_logged("no RSDT"));
	/* A root whose length is smaller than its header. */
	acpi_next_free = MiB(2);
	acpi_give_rsdp(acpi_make_rsdp(acpi_put_root(4), 0), 20);
	memset(acpi_arena + MiB(2) + 4, 0, 4);
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), E_FORMAT);
	assert_true(rig_logged("impossible length of 0"));
}

static void test_root_with_absurd_count(void **state) {
	static const u8 cpu[] = {0, 8, 0, 1, 1, 0, 0, 0};

	(void)state;
	acpi_add_madt(cpu, sizeof(cpu));
	for (u32 i = 0; i < 1000; i++)
		acpi_listed[acpi_nr_listed++] = i % 3 ? 0 : 0xfffffffffffffff0;
	assert_int_equal(acpi_parse_listed(), 0);
	assert_true(rig_logged("1001 tables listed"));
	assert_int_equal(acpi_info.nr_cpus, 1);
	assert_true(rig_nr_logged <= 257);
}

static void test_root_with_ragged_length(void **state) {
	static const u8 body[13] = {0};

	(void)state;
	acpi_give_rsdp(acpi_make_rsdp(0, acpi_put_table("XSDT", 1, body, sizeof(body))), 36);
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), 0);
	assert_int_equal(rig_nr_logged, 1); /* one whole entry, of address 0 */
}

/* ---- damaged tables ---- */

static void test_bad_checksum_leaves_table_out(void **state) {
	static const u8 cpu[] = {0, 8, 0, 1, 1, 0, 0, 0};
	struct acpi_fadt fadt = acpi_make_fadt();

	(void)state;
	hpa_t at = acpi_add_madt(cpu, sizeof(cpu));
	acpi_arena[at + 50] ^= 0x40;
	acpi_add_struct("FACP", 3, &fadt, sizeof(fadt));
	assert_int_equal(acpi_parse_listed(), 0);
	assert_true(rig_logged("table APIC"));
	assert_true(rig_logged("wrong checksum"));
	assert_int_equal(acpi_info.nr_cpus, 0);
	assert_int_equal(acpi_info.lapic, 0);
	assert_int_equal(acpi_info.pm_timer, 0x608);
}

static void test_impossible_table_lengths(void **state) {
	static const u32 lengths[] = {0, 8, 35, 43, (u32)MiB(4) + 1, 0xffffffff, (u32)MiB(4)};
	static const u8 cpu[] = {0, 8, 0, 1, 1, 0, 0, 0};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(lengths); i++) {
		hpa_t at = acpi_add_madt(cpu, sizeof(cpu));

		/* Too near to the end of memory for 4 MiB. */
		acpi_next_free = MiB(5) + i * KiB(64);
		memcpy(acpi_arena + at + 4, &lengths[i], 4);
	}
	assert_int_equal(acpi_parse_listed(), 0);
	assert_int_equal(acpi_info.nr_cpus, 0);
	assert_true(rig_logged("impossible length of 0,"));
	assert_true(rig_logged("impossible length of 43,"));
	assert_true(rig_logged("impossible length of 4294967295,"));
	assert_true(rig_logged("is not mappable"));
	assert_int_equal(rig_nr_logged, ARRAY_SIZE(lengths));
}

static void test_garbage_signature_is_not_printed(void **state) {
	hpa_t at = acpi_put_table("\x1b[2J", 1, "", 0);

	(void)state;
	acpi_give_rsdp(acpi_make_rsdp(at, 0), 20);
	acpi_arena[at + 4] = 1;
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), E_FORMAT);
	assert_true(rig_logged("no RSDT at"));
	assert_false(rig_logged("\x1b"));
}

static void test_unknown_tables_are_passed_over(void **state) {
	(void)state;
	acpi_add_table("WAET", 1, "abcd", 4);
	acpi_arena[acpi_add_table("OEM0", 1, "abcd", 4) + 9]++; /* not even its checksum matters */
	assert_int_equal(acpi_parse_listed(), 0);
	assert_int_equal(rig_nr_logged, 0);
}

/* ---- MADT ---- */

static void test_madt_processors(void **state) {
	static const u8 entries[] = {
		0, 8,  0, 0,	1,    0,    0,	  0, /* enabled */
		0, 8,  1, 2,	2,    0,    0,	  0, /* online capable: not there */
		0, 8,  2, 4,	0,    0,    0,	  0, /* empty socket */
		0, 8,  3, 0xff, 1,    0,    0,	  0, /* empty slot */
		9, 16, 0, 0,	0x34, 0x12, 0,	  0,	1, 0, 0, 0, 5, 0, 0, 0, /* x2APIC 0x1234 */
		9, 16, 0, 0,	0,    0,    0,	  0,	1, 0, 0, 0, 6, 0, 0, 0, /* APIC id 0 once
										   more */
		9, 16, 0, 0,	0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 7, 0, 0, 0, 77,
		5, 1,  2, 3, /* a type of the future */
	};

	(void)state;
	acpi_add_madt(entries, sizeof(entries));
	assert_int_equal(acpi_parse_listed(), 0);
	assert_int_equal(acpi_info.lapic, 0xfee00000);
	assert_int_equal(acpi_info.nr_cpus, 2);
	assert_int_equal(acpi_info.apic_ids[0], 0);
	assert_int_equal(acpi_info.apic_ids[1], 0x1234);
	assert_int_equal(rig_nr_logged, 1);
	assert_true(rig_logged("APIC id 0 is listed twice"));
}

static void test_madt_interrupts(void **state) {
	static const u8 entries[] = {
		1, 12, 0,    0,	 0,  0,	   0xc0, 0xfe, 0,   0, 0, 0, /* IOAPIC 0 */
		1, 12, 1,    0,	 0,  0x10, 0xc0, 0xfe, 24,  0, 0, 0, /* IOAPIC 1 */
		1, 12, 3,    0,	 0,  0,	   0,	 0,    48,  0, 0, 0, /* no address */
		2, 10, 0,    0,	 2,  0,	   0,	 0,    0,   0,	     /* IRQ 0 -> GSI 2 */
		2, 10, 0,    9,	 9,  0,	   0,	 0,    0xf, 0,	     /* IRQ 9: level, low */
		2, 10, 0,    10, 10, 0,	   0,	 0,    0xd, 0,	     /* IRQ 10: level, high */
		2, 10, 0,    16, 16, 0,	   0,	 0,    0,   0,	     /* no ISA IRQ */
		2, 10, 1,    3,	 40, 0,	   0,	 0,    0,   0,	     /* no ISA bus */
		4, 6,  0xff, 5,	 0,  1,				     /* NMI on LINT1: not needed */
		5, 12, 0,    0,	 0,  0,	   0xe0, 0xfe, 1,   0, 0, 0, /* local APIC elsewhere */
	};

	(void)state;
	acpi_add_madt(entries, sizeof(entries));
	assert_int_equal(acpi_parse_listed(), 0);
	assert_int_equal(acpi_info.nr_ioapics, 2);
	assert_int_equal(acpi_info.ioapics[0].address, 0xfec00000);
	assert_int_equal(acpi_info.ioapics[1].gsi_base, 24);
	assert_int_equal(acpi_info.irq[0].gsi, 2);
	assert_false(acpi_info.irq[0].level);
	assert_true(acpi_info.irq[9].level);
	assert_true(acpi_info.irq[9].active_low);
	assert_true(acpi_info.irq[10].level);
	assert_false(acpi_info.irq[10].active_low);
	assert_int_equal(acpi_info.irq[3].gsi, 3);
	assert_int_equal(acpi_info.lapic, 0x1fee00000);
	assert_int_equal(rig_nr_logged, 3);
}

static void test_madt_zero_length_entry_ends(void **state) {
	static const u8 entries[] = {
		0, 8, 0, 1, 1, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 8, 0, 3, 1, 0, 0, 0,
	};

	(void)state;
	acpi_add_madt(entries, sizeof(entries));
	assert_int_equal(acpi_parse_listed(), 0);
	assert_int_equal(acpi_info.nr_cpus, 1);
	assert_int_equal(rig_nr_logged, 1);
	assert_true(rig_logged("entry of impossible length"));
}

static void test_madt_entry_past_the_end(void **state) {
	static const u8 entries[] = {0, 8, 0, 1, 1, 0, 0, 0, 0, 9, 0, 2, 1, 0, 0, 0};
	static const u8 lone[] = {0, 8, 0, 1, 1, 0, 0, 0, 0};

	(void)state;
	acpi_add_madt(entries, sizeof(entries));
	assert_int_equal(acpi_parse_listed(), 0);
	assert_int_equal(acpi_info.nr_cpus, 1);
	assert_int_equal(rig_nr_logged, 1);
	/* A single byte where an entry would begin. */
	acpi_nr_listed = 0;
	acpi_add_madt(lone, sizeof(lone));
	assert_int_equal(acpi_parse_listed(), 0);
	assert_int_equal(acpi_info.nr_cpus, 1);
	assert_int_equal(rig_nr_logged, 2);
}

static void test_madt_short_entries(void **state) {
	static const u8 types[] = {0, 1, 2, 5, 9};
	u8 entries[ARRAY_SIZE(types) * 5 + 8];
	u32 at = 0;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(types); i++, at += 5)
		memcpy(entries + at, (u8[]){types[i], 5, 1, 1, 1}, 5);
	memcpy(entries + at, (u8[]){0, 8, 0, 1, 1, 0, 0, 0}, 8);
	acpi_add_madt(entries, sizeof(entries));
	assert_int_equal(acpi_parse_listed(), 0);
	assert_int_equal(rig_nr_logged, ARRAY_SIZE(types));
	assert_int_equal(acpi_info.nr_cpus, 1);
	assert_int_equal(acpi_info.nr_ioapics, 0);
	assert_int_equal(acpi_info.lapic, 0xfee00000);
}

static void test_madt_absurd_counts(void **state) {
	static u8 entries[8000];
	u32 at = 0;

	(void)state;
	for (u32 id = 0; id < 300; id++, at += 16)
		memcpy(entries + at,
		       (u8[]){9, 16, 0, 0, (u8)id, (u8)(id >> 8), 0, 0, 1, 0, 0, 0, 0, 0, 0, 0},
		       16);
	for (u32 i = 0; i < 100; i++, at += 12)
		memcpy(entries + at, (u8[]){1, 12, (u8)i, 0, 0, 0, (u8)i, 0xfe, (u8)i, 0, 0, 0},
		       12);
	acpi_add_madt(entries, at);
	assert_int_equal(acpi_parse_listed(), 0);
	assert_int_equal(acpi_info.nr_cpus, ACPI_MAX_CPUS);
	assert_int_equal(acpi_info.nr_ioapics, ACPI_MAX_IOAPICS);
	assert_int_equal(acpi_info.apic_ids[255], 255);
	assert_true(rig_logged("more than 256 CPUs"));
}

static void test_madt_twice(void **state) {
	static const u8 one[] = {0, 8, 0, 1, 1, 0, 0, 0};
	static const u8 two[] = {0, 8, 0, 2, 1, 0, 0, 0};

	(void)state;
	acpi_add_madt(one, sizeof(one));
	acpi_add_madt(two, sizeof(two));
	assert_int_equal(acpi_parse_listed(), 0);
	assert_int_equal(acpi_info.nr_cpus, 1);
	assert_true(rig_logged("second MADT"));
}

/*
 * Under UEFI nothing is looked for in BIOS areas. A machine without tables may well have a keyboard
 * controller: whoever wants it has to try.
 */
static void test_no_tables(void **state) {
	struct acpi_rsdp rsdp = acpi_make_rsdp((u32)acpi_put_root(4), 0);

	(void)state;
	memcpy(acpi_arena + 0xe0000, &rsdp, 20);
	acpi_boot.efi = true;
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), E_NOENT);
	assert_true(acpi_info.has_8042);
	assert_false(acpi_info.no_vga);
	acpi_boot.efi = false;
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		ACPI_TEST(test_no_tables),
		ACPI_TEST(test_no_rsdp),
		ACPI_TEST(test_rsdp_v1_scanned_in_bios_area),
		ACPI_TEST(test_rsdp_scanned_in_ebda),
		ACPI_TEST(test_rsdp_not_on_16_bytes_is_not_found),
		ACPI_TEST(test_rsdp_bad_checksum_is_passed_over),
		ACPI_TEST(test_rsdp_v2_bad_second_part_uses_rsdt),
		ACPI_TEST(test_bad_xsdt_falls_back_to_rsdt),
		ACPI_TEST(test_no_root_table),
		ACPI_TEST(test_root_with_absurd_count),
		ACPI_TEST(test_root_with_ragged_length),
		ACPI_TEST(test_bad_checksum_leaves_table_out),
		ACPI_TEST(test_impossible_table_lengths),
		ACPI_TEST(test_garbage_signature_is_not_printed),
		ACPI_TEST(test_unknown_tables_are_passed_over),
		ACPI_TEST(test_madt_processors),
		ACPI_TEST(test_madt_interrupts),
		ACPI_TEST(test_madt_zero_length_entry_ends),
		ACPI_TEST(test_madt_entry_past_the_end),
		ACPI_TEST(test_madt_short_entries),
		ACPI_TEST(test_madt_absurd_counts),
		ACPI_TEST(test_madt_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
