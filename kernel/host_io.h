/*
 * The person at the machine: which consoles there are, where input goes, and how guests' serial
 * output is shown.
 */
#pragma once

#include "lib/types.h"

struct acpi_info;
struct boot_info;
struct options;
struct vm;

/* The serial console, as soon as the command line and SPCR are known. */
void host_consoles_early(const struct acpi_info *acpi, const struct options *options);

/* The screen, once device memory can be mapped. */
void host_consoles_late(const struct boot_info *boot, const struct acpi_info *acpi,
			const struct options *options);

/* Input by interrupt. After the IOAPICs are known. */
void host_io_init(const struct acpi_info *acpi);

/*
 * The shell's work, from the scheduler's loop of every CPU, where no vCPU of this CPU is in the
 * guest. Input only interrupts; what it leads to is done here. host_io_wake() leads here.
 */
void host_io_run(void);
void host_io_wake(void);

/* Where received bytes go: the VM's UART, or Roost's own shell when vm is NULL. */
void host_io_attach(struct vm *vm);

/* The VM is about to go: nothing here may know it any more. */
void host_io_forget(struct vm *vm);

/*
 * A byte that a guest's UART sent. The attached VM's go out as they are; lines of others are
 * gathered and shown whole, behind the VM's name. Any CPU.
 */
void host_io_guest_output(struct vm *vm, u8 byte);

/* The VM's UART can take input again. Any CPU. */
void host_io_guest_room(struct vm *vm);
