/*
 * The formats of the multiboot information that boot/multiboot.c reads and tests write:
 * Multiboot Specification 0.6.96 3.3, and Multiboot2 Specification 2.0 3.6. Everything is packed
 * little-endian; nothing is aligned to more than 4 (version 1) or 8 (version 2, tags) bytes.
 */
#pragma once

#include "lib/types.h"

#define MB1_BOOT_MAGIC	0x2badb002u
#define MB2_BOOT_MAGIC	0x36d76289u
#define MB1_HAS_MEM	(1u << 0)
#define MB1_HAS_CMDLINE (1u << 2)
#define MB1_HAS_MODULES (1u << 3)
#define MB1_HAS_MMAP	(1u << 6)
#define MB1_HAS_LOADER	(1u << 9)
#define MB1_HAS_FB	(1u << 12)

#define MB_MEM_USABLE	1
#define MB_MEM_ACPI	3
#define MB_MEM_NVS	4
#define MB_MEM_BAD	5
#define MB_FB_INDEXED	0
#define MB_FB_RGB	1
#define MB_FB_TEXT	2

struct mb_fb {
	u64 address;
	u32 pitch, width, height;
	u8 bpp, type;
} __packed;

struct mb1_info {
	u32 flags;
	u32 mem_lower, mem_upper; /* KiB below 1 MiB, and above it up to the first hole */
	u32 boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_length, mmap_addr;
	u32 drives_length, drives_addr, config_table, loader_name, apm_table, vbe[4];
	struct mb_fb fb; /* only present when flags say so, as is rgb */
	u8 rgb[6];	 /* of red, green, blue: position of the lowest bit and number of bits */
} __packed;

#define MB1_INFO_MIN offsetof(struct mb1_info, vbe)

struct mb1_module {
	u32 start, end, string, reserved;
} __packed;

struct mb1_mmap {
	u32 size; /* of what follows, so that the next entry is size + 4 further */
	u64 base, length;
	u32 type;
} __packed;

enum mb2_tag_type {
	MB2_END = 0,
	MB2_CMDLINE = 1,
	MB2_LOADER = 2,
	MB2_MODULE = 3,
	MB2_MEM = 4,
	MB2_MMAP = 6,
	MB2_FB = 8,
	MB2_EFI32 = 11,
	MB2_EFI64 = 12,
	MB2_ACPI_OLD = 14,
	MB2_ACPI_NEW = 15,
	MB2_EFI_MMAP = 17,
};

struct mb2_info {
	u32 total_size, reserved;
} __packed;

struct mb2_tag {
	u32 type, size; /* size with this header; the next tag is at the next multiple of 8 */
} __packed;

struct mb2_module {
	u32 start, end; /* the string follows */
} __packed;

/* The beginning of both memory maps, BIOS and EFI. */
struct mb2_mmap {
	u32 entry_size, entry_version;
} __packed;

struct mb2_mmap_entry {
	u64 base, length;
	u32 type, reserved;
} __packed;

/* UEFI 2.10 7.2.1, 7.2.3. Every type that is not listed is firmware's or a device's. */
enum efi_memory_type {
	EFI_LOADER_CODE = 1,
	EFI_LOADER_DATA = 2,
	EFI_BOOT_CODE = 3,
	EFI_BOOT_DATA = 4,
	EFI_CONVENTIONAL = 7,
	EFI_UNUSABLE = 8,
	EFI_ACPI = 9,
	EFI_NVS = 10,
};

struct efi_descriptor {
	u32 type, padding;
	u64 base, virtual_base;
	u64 pages; /* of 4 KiB */
	u64 attributes;
} __packed;

struct mb2_fb {
	struct mb_fb fb;
	u16 reserved;
	u8 rgb[6];
} __packed;

_Static_assert(sizeof(struct mb1_info) == 116, "multiboot 1 information");
_Static_assert(offsetof(struct mb1_info, mmap_length) == 44, "multiboot 1 memory map");
_Static_assert(offsetof(struct mb1_info, loader_name) == 64, "multiboot 1 loader name");
_Static_assert(offsetof(struct mb1_info, fb) == 88, "multiboot 1 frame buffer");
_Static_assert(sizeof(struct mb1_mmap) == 24, "multiboot 1 memory map entry");
_Static_assert(sizeof(struct mb2_mmap_entry) == 24, "multiboot 2 memory map entry");
_Static_assert(sizeof(struct mb2_fb) == 30, "multiboot 2 frame buffer");
