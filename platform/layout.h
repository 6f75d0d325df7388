/*
 * The guest physical address space, the same for every VM.
 *
 *   0x00000000  RAM: real-mode vectors, BIOS data area, what a loader leaves for the guest
 *   0x0009fc00  RAM, reported reserved: where a PC has its extended BIOS data area
 *   0x000a0000  RAM that no map reports (there is no VGA), so that a scan for ROMs causes no exits
 *   0x000f0000  RAM, reported reserved: the ACPI tables
 *   0x00100000  RAM up to the end of memory or up to the PCI hole
 *   0xc0000000  PCI hole: devices' memory windows
 *   0xfec00000  IOAPIC; 0xfee00000 local APICs; nothing else up to 4 GiB
 *   4 GiB       RAM: whatever did not fit below the hole
 */
#pragma once

#include "lib/types.h"

#define LAYOUT_EBDA	 0x9fc00ul
#define LAYOUT_VGA	 0xa0000ul
#define LAYOUT_ACPI	 0xf0000ul
#define LAYOUT_ACPI_END	 0x100000ul
#define LAYOUT_HIGH_LOAD 0x100000ul /* where RAM for images begins */
#define LAYOUT_PCI_HOLE	 0xc0000000ul
#define LAYOUT_IOAPIC	 0xfec00000ul
#define LAYOUT_LAPIC	 0xfee00000ul
#define LAYOUT_ABOVE_4G	 0x100000000ul

enum guest_range_type { GUEST_RAM = 1, GUEST_RESERVED = 2 }; /* values of e820 and multiboot */

struct guest_range {
	gpa_t base;
	u64 size; /* bytes, not 0 */
	enum guest_range_type type;
};

#define LAYOUT_MAX_RAM 2
#define LAYOUT_MAX_MAP 6

/* The RAM of a VM, 1 or 2 ranges: [0, end) and, for the rest, from 4 GiB on. */
u32 layout_ram(u64 memory, struct guest_range out[LAYOUT_MAX_RAM]);

/* End of the RAM below the PCI hole. */
gpa_t layout_low_end(u64 memory);

/* The memory map that a guest is told, sorted, free of overlaps. Returns the number of ranges. */
u32 layout_map(u64 memory, struct guest_range out[LAYOUT_MAX_MAP]);
