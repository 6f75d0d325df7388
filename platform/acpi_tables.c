/*
 * The guest's ACPI tables (ACPI Specification 5.1, chapter 5). In the order in which they lie:
 *
 *   RSDP  RSDT  XSDT  FACS  DSDT  FADT  MADT
 *
 * All numbers that describe devices come from the headers of those devices. The hardware is always
 * in ACPI mode: there is no SMI command port (4.8.2.5 "SCI_EN", table 5-34 "SMI_CMD").
 */
#include "platform/acpi_tables.h"

#include "drivers/acpi_tables.h"
#include "lib/error.h"
#include "lib/string.h"
#include "platform/layout.h"
#include "platform/pmio.h"

#define MAX_VCPUS     64
#define MIB_1	      0x100000ul

#define FADT_REVISION 5
#define FADT_MINOR    1
#define MADT_REVISION 3
#define FACS_VERSION  2

/* FADT flags (table 5-35). The power button is a fixed one: PWR_BUTTON stays 0. */
#define FADT_WBINVD	(1u << 0)
#define FADT_PROC_C1	(1u << 2)
#define FADT_SLP_BUTTON (1u << 5) /* there is no fixed sleep button */
#define FADT_FIX_RTC	(1u << 6) /* RTC wake status is not in the fixed registers */
/* IA-PC boot architecture flags (table 5-36); no 8042: its bit stays 0. */
#define BOOT_LEGACY_DEVICES (1u << 0)
/* C2 and C3 latencies beyond these limits mean that there are no such states (table 5-34). */
#define NO_C2_LATENCY	    101
#define NO_C3_LATENCY	    1001

#define ALL_PROCESSORS	    0xff
#define OVERRIDE_HIGH_EDGE  0x5 /* polarity 1:0, trigger mode 3:2 (table 5-46) */
#define OVERRIDE_HIGH_LEVEL 0xd

#define RTC_CENTURY	    0x32 /* where platform/rtc.c has the century */

#define GAS_SYSTEM_IO	    1
#define GAS_BYTE	    1
#define GAS_WORD	    2

#define NR_TABLES	    2 /* that RSDT and XSDT list: FADT, MADT */

struct rsdt {
	struct acpi_header header;
	u32 entry[NR_TABLES];
} __packed;

struct xsdt {
	struct acpi_header header;
	u64 entry[NR_TABLES];
} __packed;

struct facs {
	char signature[4];
	u32 length, hardware_signature, waking_vector, global_lock, flags;
	u64 x_waking_vector;
	u8 version, reserved[31];
} __packed;

struct fadt {
	struct acpi_fadt old; /* as far as hosts' tables are read */
	struct acpi_gas sleep_control, sleep_status;
} __packed;

_Static_assert(sizeof(struct facs) == 64, "ACPI 5.1 table 5-37");
_Static_assert(sizeof(struct fadt) == 268, "ACPI 5.1 table 5-34");

/* Where the tables are written, and how far. */
struct builder {
	u8 *out;
	size_t size, used;
	gpa_t base;
	bool full; /* something did not fit; what was asked for later is not written either */
};

static u8 checksum(const void *data, size_t length) { return (u8)(0 - acpi_sum(data, length)); }

/* Appends length bytes; returns their offset. */
static size_t append(struct builder *b, const void *data, size_t length) {
	size_t at = b->used;

	if (b->full || length > b->size - b->used) {
		b->full = true;
		return 0;
	}
	memcpy(b->out + at, data, length);
	b->used += length;
	return at;
}

static void align_16(struct builder *b) {
	static const u8 zero[16];

	append(b, zero, (16 - b->used % 16) % 16);
}

static u32 address_of(const struct builder *b, size_t offset) { return (u32)(b->base + offset); }

/* Writes the header of a table that is complete otherwise. */
static void seal(void *table, const char *signature, u8 revision, size_t length) {
	struct acpi_header *header = table;

	*header = (struct acpi_header){.length = (u32)length,
				       .revision = revision,
				       .oem_revision = 1,
				       .creator_revision = 1};
	memcpy(header->signature, signature, sizeof(header->signature));
	memcpy(header->oem, "ROOST ", sizeof(header->oem));
	memcpy(header->oem_table, "ROOSTVM ", sizeof(header->oem_table));
	memcpy(&header->creator, "RST ", sizeof(header->creator));
	header->checksum = checksum(table, length);
}

static struct acpi_gas io_register(u16 port, u8 bits, u8 access) {
	return (struct acpi_gas){
		.space = GAS_SYSTEM_IO, .width = bits, .access = access, .address = port};
}

static size_t add_fadt(struct builder *b, size_t facs, size_t dsdt) {
	const struct acpi_fadt old = {
		.facs = address_of(b, facs),
		.dsdt = address_of(b, dsdt),
		.x_dsdt = address_of(b, dsdt),
		.sci = PMIO_SCI_GSI,
		.pm1a_event = PMIO_PM1_EVT,
		.pm1a_control = PMIO_PM1_CNT,
		.pm_timer = PMIO_TIMER,
		.pm1_event_length = 4,
		.pm1_control_length = 2,
		.pm_timer_length = 4,
		.c2_latency = NO_C2_LATENCY,
		.c3_latency = NO_C3_LATENCY,
		.century = RTC_CENTURY,
		.boot_arch = BOOT_LEGACY_DEVICES | FADT_ARCH_NO_VGA,
		.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC |
			 FADT_TIMER_32BIT | FADT_HAS_RESET,
		.reset = io_register(PMIO_RESET, 8, GAS_BYTE),
		.reset_value = PMIO_RESET_VALUE,
		.minor = FADT_MINOR,
		.x_pm1a_event = io_register(PMIO_PM1_EVT, 32, GAS_WORD),
		.x_pm1a_control = io_register(PMIO_PM1_CNT, 16, GAS_WORD),
		.x_pm_timer = io_register(PMIO_TIMER, 32, ACPI_ACCESS_32),
	};
	struct fadt fadt = {.old = old};

	seal(&fadt, "FACP", FADT_REVISION, sizeof(fadt));
	align_16(b);
	return append(b, &fadt, sizeof(fadt));
}

static void add_override(struct builder *b, u8 irq, u32 gsi, u16 flags) {
	const struct madt_override entry = {
		{MADT_OVERRIDE, sizeof(entry)}, .source = irq, .gsi = gsi, .flags = flags};

	append(b, &entry, sizeof(entry));
}

static void add_madt_entries(struct builder *b, u32 nr_vcpus) {
	/* Its id is the first that no LAPIC has. */
	const struct madt_ioapic ioapic = {
		{MADT_IOAPIC, sizeof(ioapic)}, .id = (u8)nr_vcpus, .address = LAYOUT_IOAPIC};
	const struct madt_lapic_nmi nmi = {
		{MADT_LAPIC_NMI, sizeof(nmi)}, .uid = ALL_PROCESSORS, .lint = 1};

	for (u32 i = 0; i < nr_vcpus; i++) {
		const struct madt_lapic lapic = {
			{MADT_LAPIC, sizeof(lapic)}, (u8)i, (u8)i, MADT_CPU_ENABLED};

		append(b, &lapic, sizeof(lapic));
	}
	append(b, &ioapic, sizeof(ioapic));
	add_override(b, 0, 2, OVERRIDE_HIGH_EDGE); /* the timer is on pin 2 (platform/irq.h) */
	add_override(b, PMIO_SCI_GSI, PMIO_SCI_GSI, OVERRIDE_HIGH_LEVEL);
	append(b, &nmi, sizeof(nmi));
}

static size_t add_madt(struct builder *b, u32 nr_vcpus) {
	const struct acpi_madt madt = {.lapic = LAYOUT_LAPIC, .flags = MADT_HAS_8259};
	size_t at;

	align_16(b);
	at = append(b, &madt, sizeof(madt));
	add_madt_entries(b, nr_vcpus);
	if (b->full)
		return 0;
	seal(b->out + at, "APIC", MADT_REVISION, b->used - at);
	return at;
}

/* The compiler has made header and checksum. */
static bool is_definition_block(const struct acpi_params *params) {
	struct acpi_header header;

	if (params->dsdt_size < sizeof(header))
		return false;
	memcpy(&header, params->dsdt, sizeof(header));
	return !memcmp(header.signature, "DSDT", sizeof(header.signature)) &&
	       header.length == params->dsdt_size && !acpi_sum(params->dsdt, params->dsdt_size);
}

/* RSDP, RSDT and XSDT come first in memory; their place has been kept. */
static void write_roots(struct builder *b, size_t fadt, size_t madt) {
	struct acpi_rsdp rsdp = {"RSD PTR ", .oem = "ROOST ", .revision = 2,
				 .length = sizeof(rsdp)};
	struct rsdt rsdt = {.entry = {address_of(b, fadt), address_of(b, madt)}};
	struct xsdt xsdt = {.entry = {address_of(b, fadt), address_of(b, madt)}};
	size_t rsdt_at = 48, xsdt_at = 96;

	rsdp.rsdt = address_of(b, rsdt_at);
	rsdp.xsdt = address_of(b, xsdt_at);
	rsdp.checksum = checksum(&rsdp, offsetof(struct acpi_rsdp, length));
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	memcpy(b->out, &rsdp, sizeof(rsdp));
	seal(&rsdt, "RSDT", 1, sizeof(rsdt));
	memcpy(b->out + rsdt_at, &rsdt, sizeof(rsdt));
	seal(&xsdt, "XSDT", 1, sizeof(xsdt));
	memcpy(b->out + xsdt_at, &xsdt, sizeof(xsdt));
}

#define ROOTS_SIZE 192

_Static_assert(48 + sizeof(struct rsdt) <= 96 && 96 + sizeof(struct xsdt) <= ROOTS_SIZE,
	       "the roots lie one behind the other");
_Static_assert(ROOTS_SIZE % 64 == 0, "the FACS, which comes next, is 64-byte aligned (5.2.10)");

int acpi_tables_build(const struct acpi_params *params, u8 *out, size_t size) {
	static const u8 roots[ROOTS_SIZE];
	const struct facs facs = {"FACS", sizeof(facs), .version = FACS_VERSION};
	struct builder b = {.out = out, .size = size, .base = params->base};
	size_t dsdt, facs_at, fadt, madt;

	if (!params->nr_vcpus || params->nr_vcpus > MAX_VCPUS || params->base % 64 ||
	    params->base > MIB_1 - ACPI_TABLES_MAX)
		return E_INVAL;
	if (!is_definition_block(params))
		return E_FORMAT;
	append(&b, roots, sizeof(roots));
	facs_at = append(&b, &facs, sizeof(facs));
	dsdt = append(&b, params->dsdt, params->dsdt_size);
	fadt = add_fadt(&b, facs_at, dsdt);
	madt = add_madt(&b, params->nr_vcpus);
	if (b.full || b.used > ACPI_TABLES_MAX)
		return E_NOMEM;
	write_roots(&b, fadt, madt);
	return (int)b.used;
}
