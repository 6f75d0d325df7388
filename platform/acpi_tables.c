/*
 * The guest's ACPI tables (ACPI Specification 5.1, chapter 5). In the order in which they lie:
 *
 *   RSDP  RSDT  XSDT  FACS  DSDT  FADT  MADT
 *
 * All numbers that describe devices come from the headers of those devices. The hardware is always
 * in ACPI mode: there is no SMI command port (4.8.2.5 "SCI_EN", table 5-34 "SMI_CMD").
 */
#include "platform/acpi_tables.h"

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
#define FADT_WBINVD	   (1u << 0)
#define FADT_PROC_C1	   (1u << 2)
#define FADT_SLP_BUTTON	   (1u << 5) /* there is no fixed sleep button */
#define FADT_FIX_RTC	   (1u << 6) /* RTC wake status is not in the fixed registers */
#define FADT_TMR_VAL_EXT   (1u << 8) /* the PM timer has 32 bits */
#define FADT_RESET_REG_SUP (1u << 10)
/* IA-PC boot architecture flags (table 5-36); no 8042: its bit stays 0. */
#define BOOT_LEGACY_DEVICES (1u << 0)
#define BOOT_NO_VGA	    (1u << 2)
/* C2 and C3 latencies beyond these limits mean that there are no such states (table 5-34). */
#define NO_C2_LATENCY	    101
#define NO_C3_LATENCY	    1001

#define MADT_PCAT_COMPAT    (1u << 0) /* the PIC pair is there too */
#define MADT_LAPIC	    0
#define MADT_IOAPIC	    1
#define MADT_OVERRIDE	    2
#define MADT_LAPIC_NMI	    4
#define LAPIC_ENABLED	    (1u << 0)
#define ALL_PROCESSORS	    0xff
#define OVERRIDE_HIGH_EDGE  0x5 /* polarity 1:0, trigger mode 3:2 (table 5-46) */
#define OVERRIDE_HIGH_LEVEL 0xd

#define RTC_CENTURY	    0x32 /* where platform/rtc.c has the century */

#define GAS_SYSTEM_IO	    1
#define GAS_BYTE	    1
#define GAS_WORD	    2
#define GAS_DWORD	    3

struct rsdp {
	char signature[8];
	u8 checksum; /* of the first 20 bytes */
	char oem_id[6];
	u8 revision;
	u32 rsdt, length;
	u64 xsdt;
	u8 extended_checksum, reserved[3];
} __packed;

struct table_header {
	char signature[4];
	u32 length;
	u8 revision, checksum;
	char oem_id[6], oem_table_id[8];
	u32 oem_revision;
	char creator_id[4];
	u32 creator_revision;
} __packed;

struct gas {
	u8 space, bit_width, bit_offset, access_size;
	u64 address;
} __packed;

#define NR_TABLES 2 /* that RSDT and XSDT list: FADT, MADT */

struct rsdt {
	struct table_header header;
	u32 entry[NR_TABLES];
} __packed;

struct xsdt {
	struct table_header header;
	u64 entry[NR_TABLES];
} __packed;

struct facs {
	char signature[4];
	u32 length, hardware_signature, waking_vector, global_lock, flags;
	u64 x_waking_vector;
	u8 version, reserved[31];
} __packed;

struct fadt {
	struct table_header header;
	u32 firmware_ctrl, dsdt;
	u8 reserved0, preferred_pm_profile;
	u16 sci_int;
	u32 smi_cmd;
	u8 acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	u32 pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr, gpe0, gpe1;
	u8 pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_len, gpe1_len, gpe1_base,
		cst_cnt;
	u16 c2_latency, c3_latency, flush_size, flush_stride;
	u8 duty_offset, duty_width, day_alarm, month_alarm, century;
	u16 boot_arch;
	u8 reserved1;
	u32 flags;
	struct gas reset_reg;
	u8 reset_value;
	u16 arm_boot_arch;
	u8 minor_version;
	u64 x_firmware_ctrl, x_dsdt;
	struct gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr, x_gpe0,
		x_gpe1;
	struct gas sleep_control, sleep_status;
} __packed;

struct madt {
	struct table_header header;
	u32 lapic_address, flags;
} __packed;

struct madt_lapic {
	u8 type, length, uid, apic_id;
	u32 flags;
} __packed;

struct madt_ioapic {
	u8 type, length, id, reserved;
	u32 address, gsi_base;
} __packed;

struct madt_override {
	u8 type, length, bus, source;
	u32 gsi;
	u16 flags;
} __packed;

struct madt_lapic_nmi {
	u8 type, length, uid;
	u16 flags;
	u8 lint;
} __packed;

_Static_assert(sizeof(struct rsdp) == 36, "ACPI 5.1 table 5-27");
_Static_assert(sizeof(struct table_header) == 36, "ACPI 5.1 table 5-28");
_Static_assert(sizeof(struct facs) == 64, "ACPI 5.1 table 5-37");
_Static_assert(sizeof(struct fadt) == 268, "ACPI 5.1 table 5-34");
_Static_assert(offsetof(struct fadt, century) == 108, "ACPI 5.1 table 5-34");
_Static_assert(offsetof(struct fadt, reset_reg) == 116, "ACPI 5.1 table 5-34");
_Static_assert(offsetof(struct fadt, x_pm1a_evt) == 148, "ACPI 5.1 table 5-34");
_Static_assert(sizeof(struct madt) == 44, "ACPI 5.1 table 5-43");
_Static_assert(sizeof(struct madt_lapic) == 8, "ACPI 5.1 table 5-45");
_Static_assert(sizeof(struct madt_ioapic) == 12, "ACPI 5.1 table 5-46");
_Static_assert(sizeof(struct madt_override) == 10, "ACPI 5.1 table 5-47");
_Static_assert(sizeof(struct madt_lapic_nmi) == 6, "ACPI 5.1 table 5-50");

/* Where the tables are written, and how far. */
struct builder {
	u8 *out;
	size_t size, used;
	gpa_t base;
	bool full; /* something did not fit; what was asked for later is not written either */
};

static u8 checksum(const void *data, size_t length)
{
	const u8 *byte = data;
	u8 sum = 0;

	for (size_t i = 0; i < length; i++)
		sum = (u8)(sum + byte[i]);
	return (u8)(0 - sum);
}

/* Appends length bytes; returns their offset. */
static size_t append(struct builder *b, const void *data, size_t length)
{
	size_t at = b->used;

	if (b->full || length > b->size - b->used) {
		b->full = true;
		return 0;
	}
	memcpy(b->out + at, data, length);
	b->used += length;
	return at;
}

static void align_16(struct builder *b)
{
	static const u8 zero[16];

	append(b, zero, (16 - b->used % 16) % 16);
}

static u32 address_of(const struct builder *b, size_t offset)
{
	return (u32)(b->base + offset);
}

static void set_header(struct table_header *header, const char *signature, u8 revision,
		       size_t length)
{
	*header = (struct table_header){.length = (u32)length,
					.revision = revision,
					.oem_revision = 1,
					.creator_revision = 1};
	memcpy(header->signature, signature, sizeof(header->signature));
	memcpy(header->oem_id, "ROOST ", sizeof(header->oem_id));
	memcpy(header->oem_table_id, "ROOSTVM ", sizeof(header->oem_table_id));
	memcpy(header->creator_id, "RST ", sizeof(header->creator_id));
}

static struct gas io_register(u16 port, u8 bits, u8 access)
{
	return (struct gas){
		.space = GAS_SYSTEM_IO, .bit_width = bits, .access_size = access, .address = port};
}

static size_t add_facs(struct builder *b)
{
	struct facs facs = {.length = sizeof(facs), .version = FACS_VERSION};

	memcpy(facs.signature, "FACS", sizeof(facs.signature));
	return append(b, &facs, sizeof(facs));
}

static size_t add_fadt(struct builder *b, size_t facs, size_t dsdt)
{
	struct fadt fadt = {
		.firmware_ctrl = address_of(b, facs),
		.dsdt = address_of(b, dsdt),
		.x_dsdt = address_of(b, dsdt),
		.sci_int = PMIO_SCI_GSI,
		.pm1a_evt = PMIO_PM1_EVT,
		.pm1a_cnt = PMIO_PM1_CNT,
		.pm_tmr = PMIO_TIMER,
		.pm1_evt_len = 4,
		.pm1_cnt_len = 2,
		.pm_tmr_len = 4,
		.c2_latency = NO_C2_LATENCY,
		.c3_latency = NO_C3_LATENCY,
		.century = RTC_CENTURY,
		.boot_arch = BOOT_LEGACY_DEVICES | BOOT_NO_VGA,
		.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC |
			 FADT_TMR_VAL_EXT | FADT_RESET_REG_SUP,
		.reset_reg = io_register(PMIO_RESET, 8, GAS_BYTE),
		.reset_value = PMIO_RESET_VALUE,
		.minor_version = FADT_MINOR,
		.x_pm1a_evt = io_register(PMIO_PM1_EVT, 32, GAS_WORD),
		.x_pm1a_cnt = io_register(PMIO_PM1_CNT, 16, GAS_WORD),
		.x_pm_tmr = io_register(PMIO_TIMER, 32, GAS_DWORD),
	};

	set_header(&fadt.header, "FACP", FADT_REVISION, sizeof(fadt));
	fadt.header.checksum = checksum(&fadt, sizeof(fadt));
	align_16(b);
	return append(b, &fadt, sizeof(fadt));
}

static void add_override(struct builder *b, u8 irq, u32 gsi, u16 flags)
{
	const struct madt_override entry = {.type = MADT_OVERRIDE,
					    .length = sizeof(entry),
					    .source = irq,
					    .gsi = gsi,
					    .flags = flags};

	append(b, &entry, sizeof(entry));
}

static void add_madt_entries(struct builder *b, u32 nr_vcpus)
{
	const struct madt_ioapic ioapic = {.type = MADT_IOAPIC,
					   .length = sizeof(ioapic),
					   .id = (u8)nr_vcpus, /* the first that no LAPIC has */
					   .address = LAYOUT_IOAPIC};
	const struct madt_lapic_nmi nmi = {
		.type = MADT_LAPIC_NMI, .length = sizeof(nmi), .uid = ALL_PROCESSORS, .lint = 1};

	for (u32 i = 0; i < nr_vcpus; i++) {
		const struct madt_lapic lapic = {.type = MADT_LAPIC,
						 .length = sizeof(lapic),
						 .uid = (u8)i,
						 .apic_id = (u8)i,
						 .flags = LAPIC_ENABLED};

		append(b, &lapic, sizeof(lapic));
	}
	append(b, &ioapic, sizeof(ioapic));
	add_override(b, 0, 2, OVERRIDE_HIGH_EDGE); /* the timer is on pin 2 (platform/irq.h) */
	add_override(b, PMIO_SCI_GSI, PMIO_SCI_GSI, OVERRIDE_HIGH_LEVEL);
	append(b, &nmi, sizeof(nmi));
}

static size_t add_madt(struct builder *b, u32 nr_vcpus)
{
	struct madt madt = {.lapic_address = LAYOUT_LAPIC, .flags = MADT_PCAT_COMPAT};
	size_t at;
	u8 sum;

	align_16(b);
	at = append(b, &madt, sizeof(madt));
	add_madt_entries(b, nr_vcpus);
	if (b->full)
		return 0;
	set_header(&madt.header, "APIC", MADT_REVISION, b->used - at);
	memcpy(b->out + at, &madt, sizeof(madt));
	sum = checksum(b->out + at, b->used - at);
	b->out[at + offsetof(struct table_header, checksum)] = sum;
	return at;
}

/* The compiler has made header and checksum. */
static bool is_definition_block(const struct acpi_params *params)
{
	struct table_header header;

	if (params->dsdt_size < sizeof(header))
		return false;
	memcpy(&header, params->dsdt, sizeof(header));
	return !memcmp(header.signature, "DSDT", sizeof(header.signature)) &&
	       header.length == params->dsdt_size && !checksum(params->dsdt, params->dsdt_size);
}

/* RSDP, RSDT and XSDT come first in memory; their place has been kept. */
static void write_roots(struct builder *b, size_t fadt, size_t madt)
{
	struct rsdp rsdp = {.revision = 2, .length = sizeof(rsdp)};
	struct rsdt rsdt = {.entry = {address_of(b, fadt), address_of(b, madt)}};
	struct xsdt xsdt = {.entry = {address_of(b, fadt), address_of(b, madt)}};
	size_t rsdt_at = 48, xsdt_at = 96;

	memcpy(rsdp.signature, "RSD PTR ", sizeof(rsdp.signature));
	memcpy(rsdp.oem_id, "ROOST ", sizeof(rsdp.oem_id));
	rsdp.rsdt = address_of(b, rsdt_at);
	rsdp.xsdt = address_of(b, xsdt_at);
	rsdp.checksum = checksum(&rsdp, offsetof(struct rsdp, length));
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	memcpy(b->out, &rsdp, sizeof(rsdp));

	set_header(&rsdt.header, "RSDT", 1, sizeof(rsdt));
	rsdt.header.checksum = checksum(&rsdt, sizeof(rsdt));
	memcpy(b->out + rsdt_at, &rsdt, sizeof(rsdt));

	set_header(&xsdt.header, "XSDT", 1, sizeof(xsdt));
	xsdt.header.checksum = checksum(&xsdt, sizeof(xsdt));
	memcpy(b->out + xsdt_at, &xsdt, sizeof(xsdt));
}

#define ROOTS_SIZE 192

_Static_assert(48 + sizeof(struct rsdt) <= 96 && 96 + sizeof(struct xsdt) <= ROOTS_SIZE,
	       "the roots lie one behind the other");
_Static_assert(ROOTS_SIZE % 64 == 0, "the FACS, which comes next, is 64-byte aligned (5.2.10)");

int acpi_tables_build(const struct acpi_params *params, u8 *out, size_t size)
{
	static const u8 roots[ROOTS_SIZE];
	struct builder b = {.out = out, .size = size, .base = params->base};
	size_t dsdt, facs, fadt, madt;

	if (!params->nr_vcpus || params->nr_vcpus > MAX_VCPUS || params->base % 64 ||
	    params->base > MIB_1 - ACPI_TABLES_MAX)
		return E_INVAL;
	if (!is_definition_block(params))
		return E_FORMAT;
	append(&b, roots, sizeof(roots));
	facs = add_facs(&b);
	dsdt = append(&b, params->dsdt, params->dsdt_size);
	fadt = add_fadt(&b, facs, dsdt);
	madt = add_madt(&b, params->nr_vcpus);
	if (b.full || b.used > ACPI_TABLES_MAX)
		return E_NOMEM;
	write_roots(&b, fadt, madt);
	return (int)b.used;
}
