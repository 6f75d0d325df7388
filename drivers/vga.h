/* The text screen on VGA's character memory, where there is one. */
#pragma once

#include "lib/types.h"

struct acpi_info;
struct boot_info;

/* Starts the screen. E_NOENT when the machine has no VGA in text mode, as far as one can know. */
int vga_init(const struct boot_info *boot, const struct acpi_info *acpi) __must_check;
