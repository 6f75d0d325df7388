/* The host's ACPI tables (ACPI 6.5), as far as Roost needs them. Of AML only _S5_ is looked for. */
#pragma once

#include "lib/types.h"

struct boot_info;

#define ACPI_MAX_CPUS	  256
#define ACPI_MAX_IOAPICS  16
#define ACPI_MAX_ISA_IRQS 16

struct acpi_ioapic {
	u32 gsi_base;
	hpa_t address;
};

/* Where an ISA interrupt arrives. Without an override: GSI = IRQ, edge, active high. */
struct acpi_irq {
	u32 gsi;
	bool active_low, level;
};

struct acpi_info {
	u32 nr_cpus;
	u32 apic_ids[ACPI_MAX_CPUS]; /* each once, in the firmware's order */
	u32 nr_ioapics;
	struct acpi_ioapic ioapics[ACPI_MAX_IOAPICS];
	struct acpi_irq irq[ACPI_MAX_ISA_IRQS];
	hpa_t lapic;   /* physical address of the local APIC; 0 when no MADT says so */
	bool has_8042; /* the keyboard controller, which can reset the machine as well */
	bool no_vga;   /* IAPC_BOOT_ARCH: VGA must not be touched */

	/* I/O ports; 0: there is no such register. */
	u16 pm_timer, pm1a_control, pm1b_control, reset;
	u8 reset_value;
	u16 smi_command; /* 0: the machine is in ACPI mode always */
	u8 acpi_enable;	 /* to be written there to get into ACPI mode */
	bool has_s5;
	u8 s5_type_a, s5_type_b; /* SLP_TYP of power-off for PM1a and PM1b control, 0 to 7 */

	hpa_t hpet;    /* registers; 0: none */
	u16 spcr_port; /* of a serial console; 0: none */
	u32 spcr_baud; /* 0: as the firmware has set it */
};

/*
 * A table or an entry that is malformed is named in a warning and left out. *out is defined in
 * every case. 0, E_NOENT without an RSDP, E_FORMAT without a usable root table.
 */
int acpi_parse(const struct boot_info *boot, struct acpi_info *out) __must_check;
