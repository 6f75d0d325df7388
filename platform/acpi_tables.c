/*
 * The guest's ACPI tables (ACPI Specification 5.1, chapter 5): one structure as it lies in guest
 * memory, in which only processors, lengths and checksums are written at run time. The hardware is
 * always in ACPI mode: there is no SMI command port (4.8.2.5 "SCI_EN", table 5-34 "SMI_CMD").
 */
#include "drivers/acpi_tables.h"
#include "kernel/vm.h"
#include "platform/layout.h"
#include "platform/load.h"
#include "platform/pmio.h"

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

struct madt {
	struct acpi_madt head;
	struct madt_ioapic ioapic;
	struct madt_override timer, sci;
	struct madt_lapic_nmi nmi;
	struct madt_lapic lapic[VM_MAX_VCPUS]; /* the table ends behind the last vCPU's */
} __packed;

/* Each table at a multiple of 16 bytes, the FACS at one of 64 (5.2.10). */
struct guest_acpi {
	struct acpi_rsdp rsdp __aligned(16);
	struct {
		struct acpi_header header;
		u32 entry[2];
	} __packed rsdt __aligned(16);
	struct {
		struct acpi_header header;
		u64 entry[2];
	} __packed xsdt __aligned(16);
	struct facs facs __aligned(64);
	struct fadt fadt __aligned(16);
	struct madt madt __aligned(16);
};

_Static_assert(sizeof(struct facs) == 64, "ACPI 5.1 table 5-37");
_Static_assert(sizeof(struct fadt) == 268, "ACPI 5.1 table 5-34");
_Static_assert(LAYOUT_ACPI % 64 == 0, "alignment of the FACS");
_Static_assert(sizeof(struct guest_acpi) < KiB(32), "leaves half of the space to the DSDT");

#define ADDRESS(table) ((u32)(LAYOUT_ACPI + offsetof(struct guest_acpi, table)))
#define ADDRESS_DSDT   ((u32)(LAYOUT_ACPI + sizeof(struct guest_acpi)))
#define ENTRY(kind, field) \
	{ kind, sizeof(tables.madt.field) }
/* A register in I/O space; access: 1 byte, 2 word, 3 double word. */
#define PORT(port, bits, access) \
	{ 1, bits, 0, access, port }
#define HEADER(sign, rev, table)                                                    \
	{                                                                           \
		.signature = sign, .length = sizeof(tables.table), .revision = rev, \
		.oem = "ROOST ", .oem_table = "ROOSTVM ", .oem_revision = 1,        \
		.creator = 0x20545352 /* "RST " */, .creator_revision = 1           \
	}

/* Loads come one at a time. */
static struct guest_acpi tables = {
	.rsdp = {"RSD PTR ", .oem = "ROOST ", .revision = 2, .length = sizeof(tables.rsdp),
		 .rsdt = ADDRESS(rsdt), .xsdt = ADDRESS(xsdt)},
	.rsdt = {HEADER("RSDT", 1, rsdt), {ADDRESS(fadt), ADDRESS(madt)}},
	.xsdt = {HEADER("XSDT", 1, xsdt), {ADDRESS(fadt), ADDRESS(madt)}},
	.facs = {"FACS", sizeof(tables.facs), .version = 2},
	.fadt.old = {.header = HEADER("FACP", 5, fadt),
		     .facs = ADDRESS(facs),
		     .dsdt = ADDRESS_DSDT,
		     .x_dsdt = ADDRESS_DSDT,
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
		     .reset = PORT(PMIO_RESET, 8, 1),
		     .reset_value = PMIO_RESET_VALUE,
		     .minor = 1,
		     .x_pm1a_event = PORT(PMIO_PM1_EVT, 32, 2),
		     .x_pm1a_control = PORT(PMIO_PM1_CNT, 16, 2),
		     .x_pm_timer = PORT(PMIO_TIMER, 32, ACPI_ACCESS_32)},
	.madt = {.head = {HEADER("APIC", 3, madt), .lapic = LAYOUT_LAPIC, .flags = MADT_HAS_8259},
		 .ioapic = {ENTRY(MADT_IOAPIC, ioapic), .address = LAYOUT_IOAPIC},
		 /* The timer is on pin 2 (platform/device.h). */
		 .timer = {ENTRY(MADT_OVERRIDE, timer), .gsi = 2, .flags = OVERRIDE_HIGH_EDGE},
		 .sci = {ENTRY(MADT_OVERRIDE, sci), .source = PMIO_SCI_GSI, .gsi = PMIO_SCI_GSI,
			 .flags = OVERRIDE_HIGH_LEVEL},
		 .nmi = {ENTRY(MADT_LAPIC_NMI, nmi), .uid = ALL_PROCESSORS, .lint = 1}},
};

/* Makes the sum of all bytes 0. */
static void seal(void *table, size_t length, u8 *checksum) {
	*checksum = 0;
	*checksum = (u8)(0 - acpi_sum(table, length));
}

static void seal_table(struct acpi_header *header) {
	seal(header, header->length, &header->checksum);
}

u32 acpi_tables_build(u32 nr_vcpus, const void **out) {
	for (u32 i = 0; i < nr_vcpus; i++)
		tables.madt.lapic[i] = (struct madt_lapic){ENTRY(MADT_LAPIC, lapic[0]), (u8)i,
							   (u8)i, MADT_CPU_ENABLED};
	tables.madt.head.header.length = (u32)offsetof(struct madt, lapic[nr_vcpus]);
	tables.madt.ioapic.id = (u8)nr_vcpus; /* the first that no LAPIC has */
	seal(&tables.rsdp, offsetof(struct acpi_rsdp, length), &tables.rsdp.checksum);
	seal(&tables.rsdp, sizeof(tables.rsdp), &tables.rsdp.extended_checksum);
	seal_table(&tables.rsdt.header);
	seal_table(&tables.xsdt.header);
	seal_table(&tables.fadt.old.header);
	seal_table(&tables.madt.head.header);
	*out = &tables;
	return sizeof(tables);
}
