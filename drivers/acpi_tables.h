/*
 * Layouts of the ACPI tables that drivers/acpi.c reads and platform/acpi_tables.c writes (ACPI 6.5
 * 5.2; IA-PC HPET 1.0a 3.2.4; PCI Firmware 3.0 4.1.2; Serial Port Console Redirection 1.07).
 * Little-endian, packed, at any address.
 */
#pragma once

#include "lib/types.h"

struct acpi_rsdp {
	char signature[8];
	u8 checksum; /* of the first 20 bytes */
	char oem[6];
	u8 revision;
	u32 rsdt, length; /* length and what follows: with revision 2 */
	u64 xsdt;
	u8 extended_checksum, reserved[3];
} __packed;

struct acpi_header {
	char signature[4];
	u32 length; /* with this header */
	u8 revision, checksum;
	char oem[6], oem_table[8];
	u32 oem_revision, creator, creator_revision;
} __packed;

/* Generic address structure, 5.2.3.2, and of its address spaces those that Roost can use. */
enum acpi_space { ACPI_SPACE_MEMORY = 0, ACPI_SPACE_IO = 1 };

struct acpi_gas {
	u8 space, width, offset, access;
	u64 address;
} __packed;

#define ACPI_ACCESS_32 3 /* access: double words */

/* The beginning of each entry of variable length. */
struct acpi_entry {
	u8 type, length;
} __packed;

struct acpi_madt {
	struct acpi_header header;
	u32 lapic, flags;
} __packed;

#define MADT_HAS_8259	 0x1u
#define MADT_CPU_ENABLED 0x1u
#define MADT_POLARITY	 0x3u
#define MADT_ACTIVE_LOW	 0x3u
#define MADT_TRIGGER	 0xcu
#define MADT_LEVEL	 0xcu

enum madt_type {
	MADT_LAPIC = 0,
	MADT_IOAPIC = 1,
	MADT_OVERRIDE = 2,
	MADT_LAPIC_NMI = 4,
	MADT_LAPIC_ADDRESS = 5,
	MADT_X2APIC = 9,
};

struct madt_lapic {
	struct acpi_entry entry;
	u8 uid, apic_id;
	u32 flags;
} __packed;

struct madt_ioapic {
	struct acpi_entry entry;
	u8 id, reserved;
	u32 address, gsi_base;
} __packed;

struct madt_override {
	struct acpi_entry entry;
	u8 bus, source;
	u32 gsi;
	u16 flags;
} __packed;

struct madt_lapic_nmi {
	struct acpi_entry entry;
	u8 uid; /* 0xff: all */
	u16 flags;
	u8 lint;
} __packed;

struct madt_lapic_address {
	struct acpi_entry entry;
	u16 reserved;
	u64 address;
} __packed;

struct madt_x2apic {
	struct acpi_entry entry;
	u16 reserved;
	u32 apic_id, flags, uid;
} __packed;

struct acpi_fadt {
	struct acpi_header header;
	u32 facs, dsdt;
	u8 reserved0, profile;
	u16 sci;
	u32 smi_command;
	u8 acpi_enable, acpi_disable, s4bios, pstate_control;
	u32 pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control;
	u32 pm_timer, gpe0, gpe1;
	u8 pm1_event_length, pm1_control_length, pm2_control_length, pm_timer_length;
	u8 gpe0_length, gpe1_length, gpe1_base, cstate_control;
	u16 c2_latency, c3_latency, flush_size, flush_stride;
	u8 duty_offset, duty_width, day_alarm, month_alarm, century;
	u16 boot_arch;
	u8 reserved1;
	u32 flags;
	struct acpi_gas reset; /* from here on with revision 2 */
	u8 reset_value;
	u16 arm_boot_arch;
	u8 minor;
	u64 x_facs, x_dsdt;
	struct acpi_gas x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2_control;
	struct acpi_gas x_pm_timer, x_gpe0, x_gpe1;
} __packed;

#define FADT_V1_SIZE	 offsetof(struct acpi_fadt, reset)
#define FADT_TIMER_32BIT (1u << 8)
#define FADT_HAS_RESET	 (1u << 10)
#define FADT_ARCH_8042	 (1u << 1)
#define FADT_ARCH_NO_VGA (1u << 2)

struct acpi_hpet {
	struct acpi_header header;
	u32 id;
	struct acpi_gas base;
	u8 number;
	u16 min_tick;
	u8 attributes;
} __packed;

struct acpi_spcr_table {
	struct acpi_header header;
	u8 interface, reserved0[3];
	struct acpi_gas base;
	u8 irq_types, irq;
	u32 gsi;
	u8 baud, parity, stop_bits, flow_control;
	/* terminal type and PCI identity follow; Roost has no use for them */
} __packed;

#define SPCR_16550     0x00
#define SPCR_16450     0x01
#define SPCR_16550_GAS 0x12

/* AML, as much as the _S5_ package needs (ACPI 6.5 20.2, 20.3). */
#define AML_ZERO    0x00
#define AML_ONE	    0x01
#define AML_NAME    0x08
#define AML_BYTE    0x0a
#define AML_WORD    0x0b
#define AML_DWORD   0x0c
#define AML_QWORD   0x0e
#define AML_PACKAGE 0x12
#define AML_ONES    0xff

_Static_assert(sizeof(struct acpi_rsdp) == 36 && sizeof(struct acpi_header) == 36 &&
		       sizeof(struct acpi_gas) == 12 && sizeof(struct acpi_madt) == 44,
	       "RSDP, table header, generic address, MADT");
_Static_assert(sizeof(struct madt_lapic) == 8 && sizeof(struct madt_ioapic) == 12 &&
		       sizeof(struct madt_override) == 10 && sizeof(struct madt_lapic_nmi) == 6 &&
		       sizeof(struct madt_lapic_address) == 12 && sizeof(struct madt_x2apic) == 16,
	       "entries of the MADT");
_Static_assert(offsetof(struct acpi_fadt, pm1a_event) == 56 && FADT_V1_SIZE == 116 &&
		       offsetof(struct acpi_fadt, boot_arch) == 109 &&
		       offsetof(struct acpi_fadt, x_pm1a_event) == 148 &&
		       sizeof(struct acpi_fadt) == 244,
	       "FADT");
_Static_assert(sizeof(struct acpi_hpet) == 56 && offsetof(struct acpi_spcr_table, baud) == 58,
	       "HPET, SPCR");

/* The sum of all bytes: 0 for a table that is not corrupt. */
static inline u8 acpi_sum(const void *data, size_t length) {
	const u8 *byte = data;
	u8 sum = 0;

	for (size_t i = 0; i < length; i++) sum = (u8)(sum + byte[i]);
	return sum;
}
