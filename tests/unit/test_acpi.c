// sources: drivers/acpi.c
/*
 * ACPI tables: what a good machine gives, and every way in which a bad one can lie. The tables lie
 * in an arena that stands for the first 2 MiB of physical memory. Each mapping is a copy of exactly
 * the bytes that were asked for, so that the address sanitizer sees any read beyond them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "boot/bootinfo.h"
#include "drivers/acpi.h"
#include "drivers/acpi_tables.h"
#include "lib/error.h"
#include "lib/log.h"
#include "lib/types.h"

#define ARENA_SIZE MiB(8)
#define TABLES_AT  MiB(1)

static u8 arena[ARENA_SIZE];
static void *mapping[2048];
static unsigned nr_mappings;
static struct boot_info boot;
static struct acpi_info info;
static char log_text[65536];
static unsigned nr_logged;

static hpa_t next_free;
static hpa_t listed[1024];
static u32 nr_listed;

const void *acpi_map(hpa_t address, size_t length)
{
	void *copy;

	if (!range_within(address, length, ARENA_SIZE))
		return NULL;
	assert_true(nr_mappings < ARRAY_SIZE(mapping));
	copy = malloc(length);
	assert_non_null(copy);
	memcpy(copy, arena + address, length);
	mapping[nr_mappings++] = copy;
	return copy;
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	size_t used = strlen(log_text);
	va_list args;

	(void)level;
	va_start(args, fmt);
	vsnprintf(log_text + used, sizeof(log_text) - used, fmt, args);
	va_end(args);
	nr_logged++;
}

static bool logged(const char *text)
{
	return strstr(log_text, text) != NULL;
}

static int setup(void **state)
{
	(void)state;
	memset(arena, 0, sizeof(arena));
	memset(&boot, 0, sizeof(boot));
	memset(&info, 0xcc, sizeof(info));
	log_text[0] = 0;
	nr_logged = 0;
	nr_listed = 0;
	next_free = TABLES_AT;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	while (nr_mappings)
		free(mapping[--nr_mappings]);
	return 0;
}

/* The value that makes data[length] sum to zero; data[at] is where it will go. */
static void fix_sum(void *data, size_t length, size_t at)
{
	u8 *byte = data;
	u8 sum = 0;

	byte[at] = 0;
	for (size_t i = 0; i < length; i++)
		sum = (u8)(sum + byte[i]);
	byte[at] = (u8)-sum;
}

/* Puts a table into the arena; the header is filled in. Returns its address. */
static hpa_t put_table(const char *signature, u8 revision, const void *body, size_t length)
{
	struct acpi_header header = {.length = (u32)(sizeof(header) + length),
				     .revision = revision};
	hpa_t at = next_free;

	memcpy(header.signature, signature, 4);
	assert_true(at + header.length <= ARENA_SIZE);
	memcpy(arena + at, &header, sizeof(header));
	memcpy(arena + at + sizeof(header), body, length);
	fix_sum(arena + at, header.length, offsetof(struct acpi_header, checksum));
	next_free = align_up(at + header.length, 16) + 16;
	return at;
}

static hpa_t add_table(const char *signature, u8 revision, const void *body, size_t length)
{
	hpa_t at = put_table(signature, revision, body, length);

	listed[nr_listed++] = at;
	return at;
}

/* A table whose structure has the header already. */
static hpa_t add_struct(const char *signature, u8 revision, const void *table, size_t length)
{
	return add_table(signature, revision, (const u8 *)table + sizeof(struct acpi_header),
			 length - sizeof(struct acpi_header));
}

static void refresh_sum(hpa_t at)
{
	struct acpi_header header;

	memcpy(&header, arena + at, sizeof(header));
	fix_sum(arena + at, header.length, offsetof(struct acpi_header, checksum));
}

static hpa_t put_root(u32 width)
{
	u8 body[1024 * 8];

	for (u32 i = 0; i < nr_listed; i++)
		memcpy(body + i * width, &listed[i], width);
	return put_table(width == 8 ? "XSDT" : "RSDT", 1, body, nr_listed * width);
}

static struct acpi_rsdp make_rsdp(hpa_t rsdt, hpa_t xsdt)
{
	struct acpi_rsdp rsdp = {.signature = "RSD PTR ",
				 .revision = xsdt ? 2 : 0,
				 .rsdt = (u32)rsdt,
				 .length = 36,
				 .xsdt = xsdt};

	fix_sum(&rsdp, 20, offsetof(struct acpi_rsdp, checksum));
	fix_sum(&rsdp, 36, offsetof(struct acpi_rsdp, extended_checksum));
	return rsdp;
}

static void give_rsdp(struct acpi_rsdp rsdp, u32 size)
{
	memcpy(boot.rsdp, &rsdp, size);
	boot.rsdp_size = size;
}

/* Everything that was added, in an XSDT that the boot loader tells of. */
static int parse(void)
{
	give_rsdp(make_rsdp(0, put_root(8)), 36);
	return acpi_parse(&boot, &info);
}

/* A MADT from entries that are strung together in body. */
static hpa_t add_madt(const void *entries, size_t length)
{
	u8 body[8192];
	u32 head[2] = {0xfee00000, MADT_HAS_8259};

	memcpy(body, head, sizeof(head));
	memcpy(body + sizeof(head), entries, length);
	return add_table("APIC", 3, body, sizeof(head) + length);
}

static struct acpi_fadt make_fadt(void)
{
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

/* ---- finding the root ---- */

static void test_no_rsdp(void **state)
{
	(void)state;
	assert_int_equal(acpi_parse(&boot, &info), E_NOENT);
	assert_int_equal(info.nr_cpus, 0);
	assert_int_equal(info.irq[5].gsi, 5);
}

static void test_rsdp_v1_scanned_in_bios_area(void **state)
{
	static const u8 cpu[] = {0, 8, 0, 7, 1, 0, 0, 0};
	struct acpi_rsdp rsdp;

	(void)state;
	add_madt(cpu, sizeof(cpu));
	rsdp = make_rsdp(put_root(4), 0);
	memcpy(arena + 0xfffe0, &rsdp, 20); /* the last place but one */
	assert_int_equal(acpi_parse(&boot, &info), 0);
	assert_int_equal(nr_logged, 0);
	assert_int_equal(info.nr_cpus, 1);
	assert_int_equal(info.cpus[0].apic_id, 7);
}

static void test_rsdp_scanned_in_ebda(void **state)
{
	static const u8 cpu[] = {0, 8, 0, 3, 1, 0, 0, 0};
	struct acpi_rsdp rsdp;
	u16 segment = 0x9fc0;

	(void)state;
	add_madt(cpu, sizeof(cpu));
	rsdp = make_rsdp(0, put_root(8));
	memcpy(arena + 0x40e, &segment, 2);
	memcpy(arena + 0x9fc10, &rsdp, 36);
	assert_int_equal(acpi_parse(&boot, &info), 0);
	assert_int_equal(info.cpus[0].apic_id, 3);
}

static void test_rsdp_not_on_16_bytes_is_not_found(void **state)
{
	struct acpi_rsdp rsdp = make_rsdp(put_root(4), 0);

	(void)state;
	memcpy(arena + 0xe0008, &rsdp, 20);
	assert_int_equal(acpi_parse(&boot, &info), E_NOENT);
}

static void test_rsdp_bad_checksum_is_passed_over(void **state)
{
	static const u8 cpu[] = {0, 8, 0, 9, 1, 0, 0, 0};
	struct acpi_rsdp rsdp;

	(void)state;
	add_madt(cpu, sizeof(cpu));
	rsdp = make_rsdp(put_root(4), 0);
	memcpy(arena + 0xf0000, &rsdp, 20);
	rsdp.checksum++;
	memcpy(arena + 0xe0000, &rsdp, 20);
	give_rsdp(rsdp, 20);
	assert_int_equal(acpi_parse(&boot, &info), 0);
	assert_true(logged("RSDP is corrupt"));
	assert_int_equal(info.cpus[0].apic_id, 9);
}

static void test_rsdp_v2_bad_second_part_uses_rsdt(void **state)
{
	static const u8 cpu[] = {0, 8, 0, 5, 1, 0, 0, 0};
	struct acpi_rsdp rsdp;

	(void)state;
	add_madt(cpu, sizeof(cpu));
	rsdp = make_rsdp(put_root(4), MiB(7));
	rsdp.extended_checksum++;
	give_rsdp(rsdp, 36);
	assert_int_equal(acpi_parse(&boot, &info), 0);
	assert_true(logged("second part"));
	assert_int_equal(info.cpus[0].apic_id, 5);
	/* The same when the loader has copied 20 bytes only. */
	give_rsdp(make_rsdp(put_root(4), MiB(7)), 20);
	assert_int_equal(acpi_parse(&boot, &info), 0);
	assert_int_equal(info.cpus[0].apic_id, 5);
}

static void test_bad_xsdt_falls_back_to_rsdt(void **state)
{
	static const u8 cpu[] = {0, 8, 0, 5, 1, 0, 0, 0};
	hpa_t xsdt;

	(void)state;
	add_madt(cpu, sizeof(cpu));
	xsdt = put_root(8);
	arena[xsdt + 20]++;
	give_rsdp(make_rsdp(put_root(4), xsdt), 36);
	assert_int_equal(acpi_parse(&boot, &info), 0);
	assert_true(logged("table XSDT"));
	assert_true(logged("wrong checksum"));
	assert_int_equal(info.nr_cpus, 1);
}

static void test_no_root_table(void **state)
{
	(void)state;
	give_rsdp(make_rsdp(0, 0xffffffffffffff00), 36);
	assert_int_equal(acpi_parse(&boot, &info), E_FORMAT);
	/* A table of another kind is no root. */
	give_rsdp(make_rsdp(put_table("SSDT", 1, "", 0), 0), 20);
	assert_int_equal(acpi_parse(&boot, &info), E_FORMAT);
	assert_true(logged("no RSDT"));
	/* A root whose length is smaller than its header. */
	next_free = MiB(2);
	give_rsdp(make_rsdp(put_root(4), 0), 20);
	memset(arena + MiB(2) + 4, 0, 4);
	assert_int_equal(acpi_parse(&boot, &info), E_FORMAT);
	assert_true(logged("impossible length of 0"));
}

static void test_root_with_absurd_count(void **state)
{
	static const u8 cpu[] = {0, 8, 0, 1, 1, 0, 0, 0};

	(void)state;
	add_madt(cpu, sizeof(cpu));
	for (u32 i = 0; i < 1000; i++)
		listed[nr_listed++] = i % 3 ? 0 : 0xfffffffffffffff0;
	assert_int_equal(parse(), 0);
	assert_true(logged("1001 tables listed"));
	assert_int_equal(info.nr_cpus, 1);
	assert_true(nr_logged <= 257);
}

static void test_root_with_ragged_length(void **state)
{
	static const u8 body[13] = {0};

	(void)state;
	give_rsdp(make_rsdp(0, put_table("XSDT", 1, body, sizeof(body))), 36);
	assert_int_equal(acpi_parse(&boot, &info), 0);
	assert_int_equal(nr_logged, 1); /* one whole entry, of address 0 */
}

/* ---- damaged tables ---- */

static void test_bad_checksum_leaves_table_out(void **state)
{
	static const u8 cpu[] = {0, 8, 0, 1, 1, 0, 0, 0};
	struct acpi_fadt fadt = make_fadt();
	hpa_t at;

	(void)state;
	at = add_madt(cpu, sizeof(cpu));
	arena[at + 50] ^= 0x40;
	add_struct("FACP", 3, &fadt, sizeof(fadt));
	assert_int_equal(parse(), 0);
	assert_true(logged("table APIC"));
	assert_true(logged("wrong checksum"));
	assert_int_equal(info.nr_cpus, 0);
	assert_int_equal(info.lapic, 0);
	assert_int_equal(info.pm_timer.address, 0x608);
}

static void test_impossible_table_lengths(void **state)
{
	static const u32 lengths[] = {0, 8, 35, 43, (u32)MiB(4) + 1, 0xffffffff, (u32)MiB(4)};
	static const u8 cpu[] = {0, 8, 0, 1, 1, 0, 0, 0};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(lengths); i++) {
		hpa_t at = add_madt(cpu, sizeof(cpu));

		/* Too near to the end of memory for 4 MiB. */
		next_free = MiB(5) + i * KiB(64);
		memcpy(arena + at + 4, &lengths[i], 4);
	}
	assert_int_equal(parse(), 0);
	assert_int_equal(info.nr_cpus, 0);
	assert_true(logged("impossible length of 0,"));
	assert_true(logged("impossible length of 43,"));
	assert_true(logged("impossible length of 4294967295,"));
	assert_true(logged("is not mappable"));
	assert_int_equal(nr_logged, ARRAY_SIZE(lengths));
}

static void test_garbage_signature_is_printable(void **state)
{
	hpa_t at = put_table("\x1b[2J", 1, "", 0);

	(void)state;
	give_rsdp(make_rsdp(at, 0), 20);
	arena[at + 4] = 1;
	assert_int_equal(acpi_parse(&boot, &info), E_FORMAT);
	assert_true(logged("?[2J"));
	assert_false(logged("\x1b"));
}

static void test_unknown_tables_are_passed_over(void **state)
{
	(void)state;
	add_table("WAET", 1, "abcd", 4);
	arena[add_table("OEM0", 1, "abcd", 4) + 9]++; /* not even its checksum matters */
	assert_int_equal(parse(), 0);
	assert_int_equal(nr_logged, 0);
}

/* ---- MADT ---- */

static void test_madt_processors(void **state)
{
	static const u8 entries[] = {
		0, 8,  0, 0,	1,    0,    0,	  0,				/* enabled */
		0, 8,  1, 2,	2,    0,    0,	  0,				/* online capable */
		0, 8,  2, 4,	0,    0,    0,	  0,				/* empty socket */
		0, 8,  3, 0xff, 1,    0,    0,	  0,				/* empty slot */
		9, 16, 0, 0,	0x34, 0x12, 0,	  0,	1, 0, 0, 0, 5, 0, 0, 0, /* x2APIC 0x1234 */
		9, 16, 0, 0,	2,    0,    0,	  0,	1, 0, 0, 0, 6, 0, 0, 0, /* APIC id 2 once
										   more */
		9, 16, 0, 0,	0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 7, 0, 0, 0, 77,
		5, 1,  2, 3, /* a type of the future */
	};

	(void)state;
	add_madt(entries, sizeof(entries));
	assert_int_equal(parse(), 0);
	assert_int_equal(info.lapic, 0xfee00000);
	assert_true(info.has_8259);
	assert_int_equal(info.nr_cpus, 3);
	assert_int_equal(info.cpus[0].apic_id, 0);
	assert_true(info.cpus[0].enabled);
	assert_false(info.cpus[0].online_capable);
	assert_int_equal(info.cpus[1].apic_id, 2);
	assert_false(info.cpus[1].enabled);
	assert_true(info.cpus[1].online_capable);
	assert_int_equal(info.cpus[2].apic_id, 0x1234);
	assert_int_equal(info.cpus[2].uid, 5);
	assert_int_equal(nr_logged, 1);
	assert_true(logged("APIC id 2 is listed twice"));
}

static void test_madt_interrupts(void **state)
{
	static const u8 entries[] = {
		1,  12, 0,    0,   0,	 0,    0xc0, 0xfe, 0,	0, 0, 0, /* IOAPIC 0 */
		1,  12, 1,    0,   0,	 0x10, 0xc0, 0xfe, 24,	0, 0, 0, /* IOAPIC 1 */
		1,  12, 2,    0,   0,	 0x20, 0xc0, 0xfe, 24,	0, 0, 0, /* same GSI base */
		1,  12, 3,    0,   0,	 0,    0,    0,	   48,	0, 0, 0, /* no address */
		2,  10, 0,    0,   2,	 0,    0,    0,	   0,	0,	 /* IRQ 0 -> GSI 2 */
		2,  10, 0,    9,   9,	 0,    0,    0,	   0xf, 0,	 /* IRQ 9: level, low */
		2,  10, 0,    10,  10,	 0,    0,    0,	   0xd, 0,	 /* IRQ 10: level, high */
		2,  10, 0,    16,  16,	 0,    0,    0,	   0,	0,	 /* no ISA IRQ */
		2,  10, 1,    3,   40,	 0,    0,    0,	   0,	0,	 /* no ISA bus */
		4,  6,	0xff, 5,   0,	 1, /* NMI: all, edge, high, LINT1 */
		4,  6,	3,    0xf, 0,	 0, /* NMI: UID 3, level, low, LINT0 */
		4,  6,	3,    0,   0,	 2, /* there is no LINT2 */
		10, 12, 0,    0,   0xff, 0xff, 0xff, 0xff, 1,	0, 0, 0,
		5,  12, 0,    0,   0,	 0,    0xe0, 0xfe, 1,	0, 0, 0, /* local APIC elsewhere */
	};

	(void)state;
	add_madt(entries, sizeof(entries));
	assert_int_equal(parse(), 0);
	assert_int_equal(info.nr_ioapics, 2);
	assert_int_equal(info.ioapics[0].address, 0xfec00000);
	assert_int_equal(info.ioapics[1].id, 1);
	assert_int_equal(info.ioapics[1].gsi_base, 24);
	assert_int_equal(info.irq[0].gsi, 2);
	assert_false(info.irq[0].level);
	assert_true(info.irq[9].level);
	assert_true(info.irq[9].active_low);
	assert_true(info.irq[10].level);
	assert_false(info.irq[10].active_low);
	assert_int_equal(info.irq[3].gsi, 3);
	assert_int_equal(info.nr_cpu_nmis, 3);
	assert_int_equal(info.cpu_nmis[0].uid, ACPI_ALL_CPUS);
	assert_int_equal(info.cpu_nmis[0].lint, 1);
	assert_false(info.cpu_nmis[0].level);
	assert_int_equal(info.cpu_nmis[1].uid, 3);
	assert_true(info.cpu_nmis[1].level);
	assert_true(info.cpu_nmis[1].active_low);
	assert_int_equal(info.cpu_nmis[2].uid, ACPI_ALL_CPUS);
	assert_int_equal(info.lapic, 0x1fee00000);
	assert_int_equal(nr_logged, 5);
}

static void test_madt_zero_length_entry_ends(void **state)
{
	static const u8 entries[] = {
		0, 8, 0, 1, 1, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 8, 0, 3, 1, 0, 0, 0,
	};

	(void)state;
	add_madt(entries, sizeof(entries));
	assert_int_equal(parse(), 0);
	assert_int_equal(info.nr_cpus, 1);
	assert_int_equal(nr_logged, 1);
	assert_true(logged("entry of impossible length"));
}

static void test_madt_entry_past_the_end(void **state)
{
	static const u8 entries[] = {0, 8, 0, 1, 1, 0, 0, 0, 0, 9, 0, 2, 1, 0, 0, 0};
	static const u8 lone[] = {0, 8, 0, 1, 1, 0, 0, 0, 0};

	(void)state;
	add_madt(entries, sizeof(entries));
	assert_int_equal(parse(), 0);
	assert_int_equal(info.nr_cpus, 1);
	assert_int_equal(nr_logged, 1);
	/* A single byte where an entry would begin. */
	nr_listed = 0;
	add_madt(lone, sizeof(lone));
	assert_int_equal(parse(), 0);
	assert_int_equal(info.nr_cpus, 1);
	assert_int_equal(nr_logged, 2);
}

static void test_madt_short_entries(void **state)
{
	static const u8 types[] = {0, 1, 2, 4, 5, 9, 10};
	u8 entries[ARRAY_SIZE(types) * 5 + 8];
	u32 at = 0;

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(types); i++, at += 5)
		memcpy(entries + at, (u8[]){types[i], 5, 1, 1, 1}, 5);
	memcpy(entries + at, (u8[]){0, 8, 0, 1, 1, 0, 0, 0}, 8);
	add_madt(entries, sizeof(entries));
	assert_int_equal(parse(), 0);
	assert_int_equal(nr_logged, ARRAY_SIZE(types));
	assert_int_equal(info.nr_cpus, 1);
	assert_int_equal(info.nr_ioapics, 0);
	assert_int_equal(info.nr_cpu_nmis, 0);
	assert_int_equal(info.lapic, 0xfee00000);
}

static void test_madt_absurd_counts(void **state)
{
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
	for (u32 i = 0; i < 100; i++, at += 6)
		memcpy(entries + at, (u8[]){4, 6, (u8)i, 0, 0, 1}, 6);
	add_madt(entries, at);
	assert_int_equal(parse(), 0);
	assert_int_equal(info.nr_cpus, ACPI_MAX_CPUS);
	assert_int_equal(info.nr_ioapics, ACPI_MAX_IOAPICS);
	assert_int_equal(info.nr_cpu_nmis, ACPI_MAX_CPU_NMIS);
	assert_int_equal(info.cpus[255].apic_id, 255);
	assert_true(logged("more than 256 CPUs"));
}

static void test_madt_twice(void **state)
{
	static const u8 one[] = {0, 8, 0, 1, 1, 0, 0, 0};
	static const u8 two[] = {0, 8, 0, 2, 1, 0, 0, 0};

	(void)state;
	add_madt(one, sizeof(one));
	add_madt(two, sizeof(two));
	assert_int_equal(parse(), 0);
	assert_int_equal(info.nr_cpus, 1);
	assert_true(logged("second MADT"));
}

/* ---- FADT and power-off ---- */

static void test_fadt_revision_1(void **state)
{
	struct acpi_fadt fadt = make_fadt();

	(void)state;
	fadt.flags = 0;
	fadt.smi_command = 0x10000; /* no port */
	add_struct("FACP", 1, &fadt, FADT_V1_SIZE);
	assert_int_equal(parse(), 0);
	assert_int_equal(info.pm_timer.address, 0x608);
	assert_int_equal(info.pm_timer.space, ACPI_SPACE_IO);
	assert_int_equal(info.pm_timer.width, 32);
	assert_false(info.pm_timer_32bit);
	assert_int_equal(info.pm1a_control.address, 0x604);
	assert_int_equal(info.pm1a_event.address, 0x600);
	assert_int_equal(info.pm1b_control.address, 0);
	assert_int_equal(info.sci, 9);
	assert_int_equal(info.smi_command, 0);
	assert_int_equal(info.reset.address, 0);
	assert_true(info.has_8042);
	assert_int_equal(nr_logged, 1); /* there is no DSDT */
}

static void test_fadt_64_bit_fields(void **state)
{
	struct acpi_fadt fadt = make_fadt();

	(void)state;
	fadt.boot_arch = FADT_ARCH_NO_VGA;
	fadt.x_pm_timer = (struct acpi_gas){ACPI_SPACE_IO, 32, 0, 3, 0x1808};
	fadt.x_pm1a_control = (struct acpi_gas){ACPI_SPACE_MEMORY, 16, 0, 2, 0xfed80804};
	fadt.x_pm1a_event = (struct acpi_gas){ACPI_SPACE_IO, 32, 0, 2, 0x10000}; /* no port */
	fadt.x_pm1b_control = (struct acpi_gas){0x7f, 16, 0, 2, 0x700}; /* a space of CPUs */
	add_struct("FACP", 5, &fadt, sizeof(fadt));
	assert_int_equal(parse(), 0);
	assert_int_equal(info.pm_timer.address, 0x1808);
	assert_true(info.pm_timer_32bit);
	assert_int_equal(info.pm1a_control.address, 0xfed80804);
	assert_int_equal(info.pm1a_control.space, ACPI_SPACE_MEMORY);
	assert_int_equal(info.pm1a_event.address, 0x600); /* the old field steps in */
	assert_int_equal(info.pm1b_control.address, 0);
	assert_int_equal(info.smi_command, 0xb2);
	assert_int_equal(info.acpi_enable, 2);
	assert_int_equal(info.reset.address, 0xcf9);
	assert_int_equal(info.reset_value, 6);
	assert_false(info.has_8042);
	assert_true(info.no_vga);
}

static void test_pm_timer_in_memory(void **state)
{
	struct acpi_fadt fadt = make_fadt();

	(void)state;
	fadt.x_pm_timer = (struct acpi_gas){ACPI_SPACE_MEMORY, 32, 0, 3, 0xfed80808};
	add_struct("FACP", 5, &fadt, sizeof(fadt));
	assert_int_equal(parse(), 0);
	assert_int_equal(info.pm_timer.address, 0xfed80808);
	assert_int_equal(info.pm_timer.space, ACPI_SPACE_MEMORY);
}

static void test_fadt_too_short(void **state)
{
	struct acpi_fadt fadt = make_fadt();

	(void)state;
	add_struct("FACP", 1, &fadt, FADT_V1_SIZE - 1);
	assert_int_equal(parse(), 0);
	assert_int_equal(info.pm_timer.address, 0);
	assert_true(logged("impossible length of 115"));
}

/* Parses a machine whose DSDT holds these bytes. */
static void parse_dsdt(const void *code, size_t length)
{
	struct acpi_fadt fadt = make_fadt();

	nr_listed = 0;
	fadt.dsdt = (u32)put_table("DSDT", 2, code, length);
	add_struct("FACP", 3, &fadt, sizeof(fadt));
	assert_int_equal(parse(), 0);
}

static void test_s5_values(void **state)
{
	static const u8 bytes[] = "xx\x08_S5_\x12\x0a\x04\x0a\x05\x0a\x07\x00\x00yy";
	static const u8 rooted[] = "\x08\\_S5_\x12\x06\x04\x00\x01\x00\x00";
	static const u8 longer[] = "\x08_S5_\x12\x4a\x00\x02\x0b\x03\x01\x0c\x02\x00\x00\x00";
	static const u8 single[] = "\x08_S5_\x12\x04\x01\x0a\x06";
	static const u8 ones[] = "\x08_S5_\x12\x04\x02\xff\x0e\x04\x00\x00\x00\x00\x00\x00\x00";

	(void)state;
	parse_dsdt(bytes, sizeof(bytes) - 1);
	assert_true(info.has_s5);
	assert_int_equal(info.s5_type_a, 5);
	assert_int_equal(info.s5_type_b, 7);
	parse_dsdt(rooted, sizeof(rooted) - 1);
	assert_true(info.has_s5);
	assert_int_equal(info.s5_type_a, 0);
	assert_int_equal(info.s5_type_b, 1);
	parse_dsdt(longer, sizeof(longer) - 1);
	assert_true(info.has_s5);
	assert_int_equal(info.s5_type_a, 3);
	assert_int_equal(info.s5_type_b, 2);
	parse_dsdt(single, sizeof(single) - 1);
	assert_true(info.has_s5);
	assert_int_equal(info.s5_type_a, 6);
	assert_int_equal(info.s5_type_b, 0);
	parse_dsdt(ones, sizeof(ones) - 1);
	assert_true(info.has_s5);
	assert_int_equal(info.s5_type_a, 7);
	assert_int_equal(info.s5_type_b, 4);
	assert_int_equal(nr_logged, 0);
}

/* Cut at each byte, and with a wrong byte at each place: never a crash, never a wrong value. */
static void test_s5_damaged(void **state)
{
	static const u8 good[] = "\x08_S5_\x12\x0a\x04\x0a\x05\x0a\x07\x00\x00";
	u8 code[sizeof(good)];

	(void)state;
	for (size_t length = 0; length < 12; length++) {
		parse_dsdt(good, length);
		assert_false(info.has_s5);
	}
	for (size_t i = 0; i < 9; i++) {
		if (i == 6)
			continue; /* the package's length is not needed */
		memcpy(code, good, sizeof(good));
		code[i] = i == 7 ? 0 : 0xa4;
		parse_dsdt(code, sizeof(good) - 1);
		assert_false(info.has_s5);
	}
	/* A length of four bytes at the very end. */
	parse_dsdt("\x08_S5_\x12\xc0\x04", 8);
	assert_false(info.has_s5);
	/* The name alone, as a reference to it. */
	parse_dsdt("_S5__S5_\x12\x04\x02\x00\x00", 13);
	assert_false(info.has_s5);
}

static void test_s5_in_ssdt_and_x_dsdt(void **state)
{
	static const u8 code[] = "\x08_S5_\x12\x06\x04\x0a\x05\x0a\x05\x00\x00";
	struct acpi_fadt fadt = make_fadt();

	(void)state;
	fadt.x_dsdt = put_table("DSDT", 2, "", 0);
	fadt.dsdt = 0xfffffff0;
	add_struct("FACP", 3, &fadt, sizeof(fadt));
	add_table("SSDT", 2, code, sizeof(code) - 1);
	assert_int_equal(parse(), 0);
	assert_true(info.has_s5);
	assert_int_equal(info.s5_type_a, 5);
	assert_int_equal(nr_logged, 0);
}

static void test_dsdt_damaged(void **state)
{
	static const u8 code[] = "\x08_S5_\x12\x06\x04\x0a\x05\x0a\x05\x00\x00";
	struct acpi_fadt fadt = make_fadt();

	(void)state;
	fadt.dsdt = (u32)put_table("DSDT", 2, code, sizeof(code) - 1);
	arena[fadt.dsdt + 40]++;
	add_struct("FACP", 3, &fadt, sizeof(fadt));
	fadt.dsdt = (u32)put_table("JUNK", 2, code, sizeof(code) - 1);
	add_struct("FACP", 3, &fadt, sizeof(fadt));
	assert_int_equal(parse(), 0);
	assert_false(info.has_s5);
	assert_true(logged("table DSDT"));
	assert_true(logged("second FADT"));
	nr_listed = 0;
	add_struct("FACP", 3, &fadt, sizeof(fadt));
	assert_int_equal(parse(), 0);
	assert_false(info.has_s5);
	assert_true(logged("no DSDT at"));
}

/* ---- HPET, MCFG, SPCR ---- */

static void test_hpet(void **state)
{
	struct acpi_hpet hpet = {.base = {ACPI_SPACE_MEMORY, 64, 0, 0, 0xfed00000}};

	(void)state;
	add_struct("HPET", 1, &hpet, sizeof(hpet));
	hpet.base.address = 0xfed01000;
	add_struct("HPET", 1, &hpet, sizeof(hpet));
	assert_int_equal(parse(), 0);
	assert_int_equal(info.hpet, 0xfed00000);

	nr_listed = 0;
	hpet.base.space = ACPI_SPACE_IO;
	add_struct("HPET", 1, &hpet, sizeof(hpet));
	hpet.base = (struct acpi_gas){ACPI_SPACE_IO, 64, 0, 0, 0x1000};
	add_struct("HPET", 1, &hpet, sizeof(hpet));
	add_struct("HPET", 1, &hpet, sizeof(hpet) - 1);
	assert_int_equal(parse(), 0);
	assert_int_equal(info.hpet, 0);
}

static void test_mcfg(void **state)
{
	struct {
		u64 reserved;
		struct mcfg_entry entry[12];
	} __packed body = {.entry = {
				   {0xb0000000, 0, 0, 255, 0},
				   {0, 1, 0, 255, 0},
				   {0xc0000000, 2, 9, 8, 0},
				   {0xc0001000, 3, 0, 1, 0},
				   {~0xffffful, 4, 0, 1, 0},
				   {0xd0000000, 5, 3, 3, 0},
			   }};

	(void)state;
	add_table("MCFG", 1, &body, 8 + 6 * 16 + 7); /* a torn entry at the end is none */
	assert_int_equal(parse(), 0);
	assert_int_equal(nr_logged, 4);
	assert_int_equal(info.nr_ecams, 2);
	assert_int_equal(info.ecams[0].base, 0xb0000000);
	assert_int_equal(info.ecams[0].last_bus, 255);
	assert_int_equal(info.ecams[1].segment, 5);
	assert_int_equal(info.ecams[1].first_bus, 3);

	nr_listed = 0;
	for (u32 i = 0; i < 12; i++)
		body.entry[i] = (struct mcfg_entry){GiB(4) * (i + 1), (u16)i, 0, 255, 0};
	add_table("MCFG", 1, &body, sizeof(body));
	assert_int_equal(parse(), 0);
	assert_int_equal(info.nr_ecams, ACPI_MAX_ECAMS);
}

static struct acpi_spcr_table make_spcr(void)
{
	return (struct acpi_spcr_table){
		.interface = SPCR_16550,
		.base = {ACPI_SPACE_IO, 8, 0, 1, 0x2f8},
		.irq_types = SPCR_IRQ_8259 | SPCR_IRQ_IOAPIC,
		.irq = 3,
		.gsi = 19,
		.baud = 7,
	};
}

static void parse_spcr(const struct acpi_spcr_table *spcr)
{
	u8 table[80] = {0};

	nr_listed = 0;
	memcpy(table, spcr, sizeof(*spcr));
	add_struct("SPCR", 2, table, sizeof(table));
	assert_int_equal(parse(), 0);
}

static void test_spcr(void **state)
{
	static const u32 rates[] = {0, 0, 0, 9600, 19200, 0, 57600, 115200, 0};
	struct acpi_spcr_table spcr = make_spcr();

	(void)state;
	parse_spcr(&spcr);
	assert_true(info.spcr.present);
	assert_int_equal(info.spcr.reg.address, 0x2f8);
	assert_int_equal(info.spcr.reg.space, ACPI_SPACE_IO);
	assert_int_equal(info.spcr.stride, 1);
	assert_int_equal(info.spcr.gsi, 19);
	for (u32 i = 0; i < ARRAY_SIZE(rates); i++) {
		spcr.baud = (u8)i;
		parse_spcr(&spcr);
		assert_int_equal(info.spcr.baud, rates[i]);
	}
	spcr.irq_types = SPCR_IRQ_8259;
	parse_spcr(&spcr);
	assert_int_equal(info.spcr.gsi, 3);
	spcr.irq_types = 0;
	spcr.interface = SPCR_16550_GAS;
	spcr.base = (struct acpi_gas){ACPI_SPACE_MEMORY, 32, 0, 3, 0xfe034000};
	parse_spcr(&spcr);
	assert_int_equal(info.spcr.gsi, 0);
	assert_int_equal(info.spcr.stride, 4);
	assert_int_equal(info.spcr.reg.space, ACPI_SPACE_MEMORY);
	assert_int_equal(nr_logged, 0);
}

static void test_spcr_unusable(void **state)
{
	struct acpi_spcr_table spcr = make_spcr();

	(void)state;
	spcr.base.address = 0;
	parse_spcr(&spcr);
	assert_false(info.spcr.present);
	assert_int_equal(nr_logged, 0);
	spcr = make_spcr();
	spcr.interface = 3; /* an ARM PL011 */
	parse_spcr(&spcr);
	assert_false(info.spcr.present);
	assert_true(logged("type 3"));
	spcr = make_spcr();
	spcr.base.space = 2; /* PCI configuration space */
	parse_spcr(&spcr);
	assert_false(info.spcr.present);
	assert_int_equal(nr_logged, 2);
}

/* Every byte of a whole set of tables overwritten in turn, checksums made right again. */
static void test_any_byte_may_be_wrong(void **state)
{
	static const u8 entries[] = {0,	   8, 0, 0, 1, 0, 0,  0, 1, 12, 0, 0, 0, 0, 0xc0,
				     0xfe, 0, 0, 0, 0, 2, 10, 0, 0, 2,	0, 0, 0, 0, 0};
	static const u8 code[] = "\x08_S5_\x12\x06\x04\x0a\x05\x0a\x05\x00\x00";
	static const u8 values[] = {0, 1, 0x7f, 0xff};
	struct acpi_fadt fadt = make_fadt();
	struct acpi_hpet hpet = {.base = {ACPI_SPACE_MEMORY, 64, 0, 0, 0xfed00000}};
	hpa_t end;

	(void)state;
	fadt.dsdt = (u32)put_table("DSDT", 2, code, sizeof(code) - 1);
	add_madt(entries, sizeof(entries));
	add_struct("FACP", 3, &fadt, sizeof(fadt));
	add_struct("HPET", 1, &hpet, sizeof(hpet));
	give_rsdp(make_rsdp(0, put_root(8)), 36);
	end = next_free;
	for (hpa_t at = TABLES_AT; at < end; at++) {
		u8 old = arena[at];

		for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
			arena[at] = values[i];
			for (u32 t = 0; t < nr_listed; t++)
				if (at >= listed[t] + 8 && at < listed[t] + 400 &&
				    (t + 1 == nr_listed || at < listed[t + 1]))
					refresh_sum(listed[t]);
			log_text[0] = 0;
			(void)!acpi_parse(&boot, &info);
			assert_true(info.nr_cpus <= ACPI_MAX_CPUS);
			teardown(NULL);
		}
		arena[at] = old;
		for (u32 t = 0; t < nr_listed; t++)
			refresh_sum(listed[t]);
	}
	assert_int_equal(acpi_parse(&boot, &info), 0);
	assert_int_equal(info.nr_cpus, 1);
	assert_true(info.has_s5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_no_rsdp),
		TEST(test_rsdp_v1_scanned_in_bios_area),
		TEST(test_rsdp_scanned_in_ebda),
		TEST(test_rsdp_not_on_16_bytes_is_not_found),
		TEST(test_rsdp_bad_checksum_is_passed_over),
		TEST(test_rsdp_v2_bad_second_part_uses_rsdt),
		TEST(test_bad_xsdt_falls_back_to_rsdt),
		TEST(test_no_root_table),
		TEST(test_root_with_absurd_count),
		TEST(test_root_with_ragged_length),
		TEST(test_bad_checksum_leaves_table_out),
		TEST(test_impossible_table_lengths),
		TEST(test_garbage_signature_is_printable),
		TEST(test_unknown_tables_are_passed_over),
		TEST(test_madt_processors),
		TEST(test_madt_interrupts),
		TEST(test_madt_zero_length_entry_ends),
		TEST(test_madt_entry_past_the_end),
		TEST(test_madt_short_entries),
		TEST(test_madt_absurd_counts),
		TEST(test_madt_twice),
		TEST(test_fadt_revision_1),
		TEST(test_fadt_64_bit_fields),
		TEST(test_pm_timer_in_memory),
		TEST(test_fadt_too_short),
		TEST(test_s5_values),
		TEST(test_s5_damaged),
		TEST(test_s5_in_ssdt_and_x_dsdt),
		TEST(test_dsdt_damaged),
		TEST(test_hpet),
		TEST(test_mcfg),
		TEST(test_spcr),
		TEST(test_spcr_unusable),
		TEST(test_any_byte_may_be_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
