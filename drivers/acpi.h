/*
 * The host's ACPI tables, as far as Roost needs them (ACPI 6.5, and the HPET and SPCR
 * specifications that it names). AML is not interpreted; of it only _S5_ is looked for.
 */
#pragma once

#include "lib/types.h"

struct boot_info;

#define ACPI_MAX_CPUS	  256
#define ACPI_MAX_IOAPICS  16
#define ACPI_MAX_ISA_IRQS 16

/* Address spaces of a generic address structure (ACPI 6.5 5.2.3.2) that Roost can use. */
enum acpi_space { ACPI_SPACE_MEMORY = 0, ACPI_SPACE_IO = 1 };

/* A register. address 0: not there. In ACPI_SPACE_IO the address is at most 0xffff. */
struct acpi_reg {
	u64 address;
	enum acpi_space space;
};

struct acpi_cpu {
	u32 apic_id;
	bool enabled; /* may be started; else it could be added while running */
};

struct acpi_ioapic {
	u32 id, gsi_base;
	hpa_t address;
};

/* Where an ISA interrupt arrives. Without an override: GSI = IRQ, edge, active high. */
struct acpi_irq {
	u32 gsi;
	bool active_low, level;
};

struct acpi_spcr {
	bool present; /* a 16550 or 16450 compatible port */
	struct acpi_reg reg;
	u32 baud; /* 0: as the firmware has set it */
};

struct acpi_info {
	u32 nr_cpus;
	struct acpi_cpu cpus[ACPI_MAX_CPUS]; /* each APIC id once, in the firmware's order */
	u32 nr_ioapics;
	struct acpi_ioapic ioapics[ACPI_MAX_IOAPICS];
	struct acpi_irq irq[ACPI_MAX_ISA_IRQS];
	hpa_t lapic;   /* physical address of the local APIC; 0 when no MADT says so */
	bool has_8042; /* the keyboard controller, which can reset the machine as well */
	bool no_vga;   /* IAPC_BOOT_ARCH: VGA must not be touched */

	struct acpi_reg pm_timer;
	struct acpi_reg pm1a_control, pm1b_control;
	u32 smi_command; /* port; 0: the machine is in ACPI mode always */
	u8 acpi_enable;	 /* to be written there to get into ACPI mode */
	struct acpi_reg reset;
	u8 reset_value;
	bool has_s5;
	u8 s5_type_a, s5_type_b; /* SLP_TYP of power-off for PM1a and PM1b control, 0 to 7 */

	hpa_t hpet; /* registers; 0: none */
	struct acpi_spcr spcr;
};

/*
 * A table or an entry that is malformed is named in a warning and left out. *out is defined in
 * every case. 0, E_NOENT without an RSDP, E_FORMAT without a usable root table.
 */
int acpi_parse(const struct boot_info *boot, struct acpi_info *out) __must_check;
