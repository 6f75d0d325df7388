// sources: drivers/acpi.c tests/acpi_fixture.c tests/log_rig.c
/* ACPI tables: FADT, power-off values of the DSDT, HPET, SPCR, and all of them damaged. */
#include <string.h>

#include "lib/error.h"
#include "tests/acpi_fixture.h"
#include "tests/log_rig.h"

/* ---- FADT and power-off ---- */

static void test_fadt_revision_1(void **state) {
	struct acpi_fadt fadt = acpi_make_fadt();

	(void)state;
	fadt.flags = 0;
	fadt.smi_command = 0x10000; /* no port */
	acpi_add_struct("FACP", 1, &fadt, FADT_V1_SIZE);
	assert_int_equal(acpi_parse_listed(), 0);
	assert_int_equal(acpi_info.pm_timer, 0x608);
	assert_int_equal(acpi_info.pm1a_control, 0x604);
	assert_int_equal(acpi_info.pm1b_control, 0);
	assert_int_equal(acpi_info.smi_command, 0);
	assert_int_equal(acpi_info.reset, 0);
	assert_true(acpi_info.has_8042);
	assert_int_equal(rig_nr_logged, 1); /* there is no DSDT */
}

static void test_fadt_64_bit_fields(void **state) {
	struct acpi_fadt fadt = acpi_make_fadt();

	(void)state;
	fadt.boot_arch = FADT_ARCH_NO_VGA;
	fadt.x_pm_timer = (struct acpi_gas){ACPI_SPACE_IO, 32, 0, 3, 0x10000}; /* no port */
	fadt.x_pm1a_control = (struct acpi_gas){ACPI_SPACE_MEMORY, 16, 0, 2, 0xfed80804};
	fadt.x_pm1b_control = (struct acpi_gas){0x7f, 16, 0, 2, 0x700}; /* a space of CPUs */
	acpi_add_struct("FACP", 5, &fadt, sizeof(fadt));
	assert_int_equal(acpi_parse_listed(), 0);
	assert_int_equal(acpi_info.pm_timer, 0x608); /* the old field steps in */
	assert_int_equal(acpi_info.pm1a_control, 0x604);
	assert_int_equal(acpi_info.pm1b_control, 0);
	assert_int_equal(acpi_info.smi_command, 0xb2);
	assert_int_equal(acpi_info.acpi_enable, 2);
	assert_int_equal(acpi_info.reset, 0xcf9);
	assert_int_equal(acpi_info.reset_value, 6);
	assert_false(acpi_info.has_8042);
	assert_true(acpi_info.no_vga);
}

static void test_fadt_too_short(void **state) {
	struct acpi_fadt fadt = acpi_make_fadt();

	(void)state;
	acpi_add_struct("FACP", 1, &fadt, FADT_V1_SIZE - 1);
	assert_int_equal(acpi_parse_listed(), 0);
	assert_int_equal(acpi_info.pm_timer, 0);
	assert_true(rig_logged("impossible length of 115"));
}

/* Parses a machine whose DSDT holds these bytes. */
static void parse_dsdt(const void *code, size_t length) {
	struct acpi_fadt fadt = acpi_make_fadt();

	acpi_nr_listed = 0;
	fadt.dsdt = (u32)acpi_put_table("DSDT", 2, code, length);
	acpi_add_struct("FACP", 3, &fadt, sizeof(fadt));
	assert_int_equal(acpi_parse_listed(), 0);
}

static void test_s5_values(void **state) {
	static const u8 bytes[] = "xx\x08_S5_\x12\x0a\x04\x0a\x05\x0a\x07\x00\x00yy";
	static const u8 rooted[] = "\x08\\_S5_\x12\x06\x04\x00\x01\x00\x00";
	static const u8 longer[] = "\x08_S5_\x12\x4a\x00\x02\x0b\x03\x01\x0c\x02\x00\x00\x00";
	static const u8 single[] = "\x08_S5_\x12\x04\x01\x0a\x06";
	static const u8 ones[] = "\x08_S5_\x12\x04\x02\xff\x0e\x04\x00\x00\x00\x00\x00\x00\x00";

	(void)state;
	parse_dsdt(bytes, sizeof(bytes) - 1);
	assert_true(acpi_info.has_s5);
	assert_int_equal(acpi_info.s5_type_a, 5);
	assert_int_equal(acpi_info.s5_type_b, 7);
	parse_dsdt(rooted, sizeof(rooted) - 1);
	assert_true(acpi_info.has_s5);
	assert_int_equal(acpi_info.s5_type_a, 0);
	assert_int_equal(acpi_info.s5_type_b, 1);
	parse_dsdt(longer, sizeof(longer) - 1);
	assert_true(acpi_info.has_s5);
	assert_int_equal(acpi_info.s5_type_a, 3);
	assert_int_equal(acpi_info.s5_type_b, 2);
	parse_dsdt(single, sizeof(single) - 1);
	assert_true(acpi_info.has_s5);
	assert_int_equal(acpi_info.s5_type_a, 6);
	assert_int_equal(acpi_info.s5_type_b, 0);
	parse_dsdt(ones, sizeof(ones) - 1);
	assert_true(acpi_info.has_s5);
	assert_int_equal(acpi_info.s5_type_a, 7);
	assert_int_equal(acpi_info.s5_type_b, 4);
	assert_int_equal(rig_nr_logged, 0);
}

/* Cut at each byte, and with a wrong byte at each place: never a crash, never a wrong value. */
static void test_s5_damaged(void **state) {
	static const u8 good[] = "\x08_S5_\x12\x0a\x04\x0a\x05\x0a\x07\x00\x00";
	u8 code[sizeof(good)];

	(void)state;
	for (size_t length = 0; length < 12; length++) {
		parse_dsdt(good, length);
		assert_false(acpi_info.has_s5);
	}
	for (size_t i = 0; i < 9; i++) {
		if (i == 6) continue; /* the package's length is not needed */
		memcpy(code, good, sizeof(good));
		code[i] = i == 7 ? 0 : 0xa4;
		parse_dsdt(code, sizeof(good) - 1);
		assert_false(acpi_info.has_s5);
	}
	/* A length of four bytes at the very end. */
	parse_dsdt("\x08_S5_\x12\xc0\x04", 8);
	assert_false(acpi_info.has_s5);
	/* The name alone, as a reference to it. */
	parse_dsdt("_S5__S5_\x12\x04\x02\x00\x00", 13);
	assert_false(acpi_info.has_s5);
}

static void test_s5_in_ssdt_and_x_dsdt(void **state) {
	static const u8 code[] = "\x08_S5_\x12\x06\x04\x0a\x05\x0a\x05\x00\x00";
	struct acpi_fadt fadt = acpi_make_fadt();

	(void)state;
	fadt.x_dsdt = acpi_put_table("DSDT", 2, "", 0);
	fadt.dsdt = 0xfffffff0;
	acpi_add_struct("FACP", 3, &fadt, sizeof(fadt));
	acpi_add_table("SSDT", 2, code, sizeof(code) - 1);
	assert_int_equal(acpi_parse_listed(), 0);
	assert_true(acpi_info.has_s5);
	assert_int_equal(acpi_info.s5_type_a, 5);
	assert_int_equal(rig_nr_logged, 0);
}

static void test_dsdt_damaged(void **state) {
	static const u8 code[] = "\x08_S5_\x12\x06\x04\x0a\x05\x0a\x05\x00\x00";
	struct acpi_fadt fadt = acpi_make_fadt();

	(void)state;
	fadt.dsdt = (u32)acpi_put_table("DSDT", 2, code, sizeof(code) - 1);
	acpi_arena[fadt.dsdt + 40]++;
	acpi_add_struct("FACP", 3, &fadt, sizeof(fadt));
	fadt.dsdt = (u32)acpi_put_table("JUNK", 2, code, sizeof(code) - 1);
	acpi_add_struct("FACP", 3, &fadt, sizeof(fadt));
	assert_int_equal(acpi_parse_listed(), 0);
	assert_false(acpi_info.has_s5);
	assert_true(rig_logged("table DSDT"));
	assert_true(rig_logged("second FADT"));
	acpi_nr_listed = 0;
	acpi_add_struct("FACP", 3, &fadt, sizeof(fadt));
	assert_int_equal(acpi_parse_listed(), 0);
	assert_false(acpi_info.has_s5);
	assert_true(rig_logged("no DSDT at"));
}

/* ---- HPET, SPCR ---- */

static void test_hpet(void **state) {
	struct acpi_hpet hpet = {.base = {ACPI_SPACE_MEMORY, 64, 0, 0, 0xfed00000}};

	(void)state;
	acpi_add_struct("HPET", 1, &hpet, sizeof(hpet));
	hpet.base.address = 0xfed01000;
	acpi_add_struct("HPET", 1, &hpet, sizeof(hpet));
	assert_int_equal(acpi_parse_listed(), 0);
	assert_int_equal(acpi_info.hpet, 0xfed00000);

	acpi_nr_listed = 0;
	hpet.base.space = ACPI_SPACE_IO;
	acpi_add_struct("HPET", 1, &hpet, sizeof(hpet));
	hpet.base = (struct acpi_gas){ACPI_SPACE_IO, 64, 0, 0, 0x1000};
	acpi_add_struct("HPET", 1, &hpet, sizeof(hpet));
	acpi_add_struct("HPET", 1, &hpet, sizeof(hpet) - 1);
	assert_int_equal(acpi_parse_listed(), 0);
	assert_int_equal(acpi_info.hpet, 0);
}

static struct acpi_spcr_table make_spcr(void) {
	return (struct acpi_spcr_table){
		.interface = SPCR_16550,
		.base = {ACPI_SPACE_IO, 8, 0, 1, 0x2f8},
		.irq_types = 1,
		.irq = 3,
		.baud = 7,
	};
}

static void parse_spcr(const struct acpi_spcr_table *spcr) {
	u8 table[80] = {0};

	acpi_nr_listed = 0;
	memcpy(table, spcr, sizeof(*spcr));
	acpi_add_struct("SPCR", 2, table, sizeof(table));
	assert_int_equal(acpi_parse_listed(), 0);
}

static void test_spcr(void **state) {
	static const u32 rates[] = {0, 0, 0, 9600, 19200, 0, 57600, 115200, 0};
	struct acpi_spcr_table spcr = make_spcr();

	(void)state;
	parse_spcr(&spcr);
	assert_int_equal(acpi_info.spcr_port, 0x2f8);
	for (u32 i = 0; i < ARRAY_SIZE(rates); i++) {
		spcr.baud = (u8)i;
		parse_spcr(&spcr);
		assert_int_equal(acpi_info.spcr_baud, rates[i]);
	}
	spcr.interface = SPCR_16550_GAS;
	parse_spcr(&spcr);
	assert_int_equal(acpi_info.spcr_port, 0x2f8);
	assert_int_equal(rig_nr_logged, 0);
}

static void test_spcr_unusable(void **state) {
	struct acpi_spcr_table spcr = make_spcr();

	(void)state;
	spcr.base.address = 0;
	parse_spcr(&spcr);
	assert_int_equal(acpi_info.spcr_port, 0);
	assert_int_equal(rig_nr_logged, 0);
	spcr = make_spcr();
	spcr.interface = 3; /* an ARM PL011 */
	parse_spcr(&spcr);
	assert_int_equal(acpi_info.spcr_port, 0);
	assert_true(rig_logged("type 3"));
	spcr = make_spcr();
	spcr.base = (struct acpi_gas){ACPI_SPACE_MEMORY, 32, 0, 3, 0xfe034000};
	parse_spcr(&spcr);
	assert_int_equal(acpi_info.spcr_port, 0);
	assert_int_equal(rig_nr_logged, 2);
}

/* Every byte of a whole set of tables overwritten in turn, checksums made right again. */
static void test_any_byte_may_be_wrong(void **state) {
	static const u8 entries[] = {0,	   8, 0, 0, 1, 0, 0,  0, 1, 12, 0, 0, 0, 0, 0xc0,
				     0xfe, 0, 0, 0, 0, 2, 10, 0, 0, 2,	0, 0, 0, 0, 0};
	static const u8 code[] = "\x08_S5_\x12\x06\x04\x0a\x05\x0a\x05\x00\x00";
	static const u8 values[] = {0, 1, 0x7f, 0xff};
	struct acpi_fadt fadt = acpi_make_fadt();
	struct acpi_hpet hpet = {.base = {ACPI_SPACE_MEMORY, 64, 0, 0, 0xfed00000}};

	(void)state;
	fadt.dsdt = (u32)acpi_put_table("DSDT", 2, code, sizeof(code) - 1);
	acpi_add_madt(entries, sizeof(entries));
	acpi_add_struct("FACP", 3, &fadt, sizeof(fadt));
	acpi_add_struct("HPET", 1, &hpet, sizeof(hpet));
	acpi_give_rsdp(acpi_make_rsdp(0, acpi_put_root(8)), 36);
	hpa_t end = acpi_next_free;
	for (hpa_t at = ACPI_ARENA_TABLES; at < end; at++) {
		u8 old = acpi_arena[at];

		for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
			acpi_arena[at] = values[i];
			for (u32 t = 0; t < acpi_nr_listed; t++)
				if (at >= acpi_listed[t] + 8 && at < acpi_listed[t] + 400 &&
				    (t + 1 == acpi_nr_listed || at < acpi_listed[t + 1]))
					acpi_refresh_sum(acpi_listed[t]);
			(void)!acpi_parse(&acpi_boot, &acpi_info);
			assert_true(acpi_info.nr_cpus <= ACPI_MAX_CPUS);
			acpi_teardown(NULL);
		}
		acpi_arena[at] = old;
		for (u32 t = 0; t < acpi_nr_listed; t++) acpi_refresh_sum(acpi_listed[t]);
	}
	assert_int_equal(acpi_parse(&acpi_boot, &acpi_info), 0);
	assert_int_equal(acpi_info.nr_cpus, 1);
	assert_true(acpi_info.has_s5);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		ACPI_TEST(test_fadt_revision_1),
		ACPI_TEST(test_fadt_64_bit_fields),
		ACPI_TEST(test_fadt_too_short),
		ACPI_TEST(test_s5_values),
		ACPI_TEST(test_s5_damaged),
		ACPI_TEST(test_s5_in_ssdt_and_x_dsdt),
		ACPI_TEST(test_dsdt_damaged),
		ACPI_TEST(test_hpet),
		ACPI_TEST(test_spcr),
		ACPI_TEST(test_spcr_unusable),
		ACPI_TEST(test_any_byte_may_be_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
