/* Roost's own command line: words of the form name=value (docs/configuration.md). */
#pragma once

#include "lib/log.h"
#include "lib/parse.h"

struct boot_info;

#define OPTIONS_MAX_CPUS 64 /* what kernel/cpu.h has room for */

/* What happens when the last guest has ended. */
enum on_idle { IDLE_SHELL, IDLE_POWEROFF, IDLE_REBOOT };

struct options {
	bool console_serial; /* write to a serial port */
	bool console_screen; /* use the screen and a PS/2 keyboard where there are such */
	u16 console_port;    /* first I/O port; 0: what the firmware says, else COM1 */
	u32 console_baud;    /* 0: leave the speed alone */
	u8 log_level;	     /* enum log_level */
	u32 max_cpus;	     /* 1 to OPTIONS_MAX_CPUS */
	u8 on_idle;	     /* enum on_idle */
	u32 debug_exit;	     /* I/O port through which a test rig's emulator is ended; 0: none */
	struct text vmx;     /* what the VMX back end is to leave alone, for it to read */
};

/*
 * Every option's default, and then what the command line says. A word that is not right is reported
 * with what would be, and changes nothing; of an option given twice the last good one counts.
 */
void options_parse(const struct boot_info *boot, struct options *options);
