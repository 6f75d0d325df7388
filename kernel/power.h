/* Turning the machine off and on again. */
#pragma once

#include "lib/types.h"

struct acpi_info;

/* Keeps what is needed below. debug_exit: port that ends a test rig's emulator; 0: none. */
void power_init(const struct acpi_info *acpi, u16 debug_exit);

/* ACPI S5; when that fails, says so and halts. */
__noreturn void power_off(void);

/* ACPI reset register, 0xCF9, keyboard controller, triple fault, in this order. */
__noreturn void power_reboot(void);

/* Writes to the rig's port when one was configured; returns when nothing happened. */
void power_debug_exit(u32 value);
