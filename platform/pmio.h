/*
 * Small port devices of a VM: ACPI power management (PM1 event and control registers, PM timer),
 * the ways to reset a PC, fast A20, the delay port, the debug port 0xE9, the debug-exit port of
 * test rigs, and PCI's two registers, behind which there is a host bridge alone.
 *
 * The machine is in ACPI mode from the start: SCI_EN reads 1 and there is no SMI command port.
 */
#pragma once

#include "platform/uart.h"

/* PM1 status, enable and control have 16 bits each, the timer 32. */
enum { PMIO_PM1_EVT = 0x600, PMIO_PM1_CNT = 0x604, PMIO_TIMER = 0x608 };
enum { PMIO_DEBUG_EXIT = 0xf4, PMIO_RESET = 0xcf9, PMIO_RESET_VALUE = 0x06 };
enum { PMIO_SCI_GSI = 9, PMIO_S5_TYPE = 5 /* SLP_TYP of soft off */ };

#define PMIO_TIMER_HZ 3579545ul

struct pmio {
	struct device dev;
	u64 base;  /* host TSC at which the PM timer began */
	u64 carry; /* top-bit changes of the PM timer noted in status so far */
	u16 status, enable, control;
	bool debug_exit;	   /* a write to PMIO_DEBUG_EXIT ends the VM */
	struct uart_backend debug; /* of port 0xE9; tx is NULL: there is none */
	_Atomic u8 reset_control;
	_Atomic u8 port92;
	_Atomic u32 pci_address; /* CONFIG_ADDRESS */
	_Atomic u8 post;	 /* what was written to port 0x80 last */
};

extern const struct device_type pmio_type;

/* Someone presses the power button: the guest gets an SCI when it has asked for one. Any CPU. */
void pmio_power_button(struct pmio *pmio);
