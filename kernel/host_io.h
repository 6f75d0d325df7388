/* The person at the machine: consoles, where input goes, how guests' serial output is shown. */
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

/* A VM's scrollback: 0 or E_NOMEM. destroy: nobody uses it. */
int console_create(struct vm *vm) __must_check;
void console_destroy(struct vm *vm);

/* Gives the VM the console, and shows what it wrote last; NULL: to the shell. */
void console_attach(struct vm *vm);

/* The VM is about to go. */
void console_forget(struct vm *vm);

/* Types at any VM's console: how many bytes there was room for. */
u32 console_send(struct vm *vm, const char *text, size_t len);

/*
 * The three with `vm`, a struct vm, are for its UARTs (platform/uart.h), on any CPU. A byte that
 * one sent: the attached VM's go out as they are, within a millisecond; lines of others are
 * gathered and shown whole, behind the VM's name.
 */
void console_output(void *vm, u8 byte);

/* What the attached VM has written goes out now. */
void console_flush(struct vm *vm);

/* A byte that it sent to Roost's log, which keeps whole lines, behind the VM's name. */
void console_log(void *vm, u8 byte);

/* The UART can take input again. */
void console_room(void *vm);
