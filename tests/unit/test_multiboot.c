// sources: boot/multiboot.c boot/memmap.c tests/log_rig.c
/*
 * Boot information: both multiboot formats and the checks on modules, with firmware and loader data
 * in an arena that stands for the first 128 KiB of physical memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "boot/bootinfo.h"
#include "boot/memmap.h"
#include "boot/multiboot.h"
#include "lib/error.h"
#include "lib/types.h"
#include "tests/log_rig.h"
#include "tests/memmap_rig.h"

#define ARENA_SIZE KiB(128)

static u8 arena[ARENA_SIZE];
static struct boot_info info;

const void *phys_peek(hpa_t address, size_t length) {
	return address && range_within(address, length, ARENA_SIZE) ? arena + address : NULL;
}

static int setup(void **state) {
	(void)state;
	memset(arena, 0, sizeof(arena));
	memset(&info, 0xcc, sizeof(info));
	rig_log_clear();
	return 0;
}

static void put(hpa_t at, const void *data, size_t length) {
	assert_true(range_within(at, length, ARENA_SIZE));
	memcpy(arena + at, data, length);
}

static void put_string(hpa_t at, const char *text) { put(at, text, strlen(text) + 1); }

/* ---- multiboot 1 ---- */

#define MB1_AT	   0x1000
#define MODULES_AT 0x2000
#define MMAP_AT	   0x3000
#define TEXT_AT	   0x4000

static struct mb1_info mb1;
static u32 mmap_length;

static void mb1_range(u64 base, u64 length, u32 type) {
	struct mb1_mmap entry = {20, base, length, type};

	put(MMAP_AT + mmap_length, &entry, sizeof(entry));
	mmap_length += (u32)sizeof(entry);
}

/* A machine with 128 MiB, as QEMU describes it. */
static void mb1_qemu(const char *cmdline) {
	memset(&mb1, 0, sizeof(mb1));
	mmap_length = 0;
	mb1_range(0, 0x9fc00, 1);
	mb1_range(0x9fc00, 0x400, 2);
	mb1_range(0xf0000, 0x10000, 2);
	mb1_range(MiB(1), MiB(126), 1);
	mb1_range(MiB(127), MiB(1), 2);
	put_string(TEXT_AT, cmdline);
	put_string(TEXT_AT + 0x800, "qemu");
	mb1.flags = 0x24f;
	mb1.mmap_addr = MMAP_AT;
	mb1.cmdline = TEXT_AT;
	mb1.loader_name = TEXT_AT + 0x800;
}

static void mb1_module(u32 number, u32 start, u32 end, const char *text) {
	u32 at = TEXT_AT + 0x1000 + number * 0x100;
	struct mb1_module module = {start, end, at, 0};

	put_string(at, text);
	put(MODULES_AT + number * sizeof(module), &module, sizeof(module));
	mb1.mods_addr = MODULES_AT;
	mb1.mods_count = number + 1;
}

static int mb1_parse(void) {
	mb1.mmap_length = mmap_length;
	put(MB1_AT, &mb1, sizeof(mb1));
	return boot_info_parse(MB1_BOOT_MAGIC, MB1_AT, &info);
}

/* Roost itself gives its guests the kernel's name before the command line, as QEMU does. */
static void test_mb1_roost(void **state) {
	(void)state;
	mb1_qemu("roost.img on-idle=poweroff");
	put_string(TEXT_AT + 0x800, "Roost");
	assert_int_equal(mb1_parse(), 0);
	assert_true(info.cmdline_has_name);
	put_string(TEXT_AT + 0x800, "Roosts");
	assert_int_equal(mb1_parse(), 0);
	assert_false(info.cmdline_has_name);
}

static void test_mb1_qemu(void **state) {
	(void)state;
	mb1_qemu("build/roost.elf console=com1 loglevel=debug");
	mb1_module(0, MiB(4), MiB(5), "out/vmlinuz console=ttyS0 quiet");
	mb1_module(1, MiB(5), MiB(6) + 17, "initrd.img");
	assert_int_equal(mb1_parse(), 0);
	assert_int_equal(rig_nr_logged, 0);
	assert_sane(&info.memory);
	assert_int_equal(info.memory.count, 5);
	assert_range(&info.memory, 0, 0, 0x9f000, MEM_USABLE);
	assert_range(&info.memory, 1, 0x9f000, 0xa0000, MEM_RESERVED);
	assert_range(&info.memory, 2, 0xf0000, 0x100000, MEM_RESERVED);
	assert_range(&info.memory, 3, MiB(1), MiB(127), MEM_USABLE);
	assert_string_equal(info.loader, "qemu");
	assert_true(info.cmdline_has_name);
	assert_string_equal(info.cmdline, "build/roost.elf console=com1 loglevel=debug");
	assert_int_equal(info.nr_modules, 2);
	assert_string_equal(info.module[0].name, "vmlinuz");
	assert_string_equal(info.module[0].args, "console=ttyS0 quiet");
	assert_int_equal(info.module[0].fault, MODULE_OK);
	assert_string_equal(info.module[1].name, "initrd.img");
	assert_string_equal(info.module[1].args, "");
	assert_int_equal(info.module[1].end, MiB(6) + 17);
	assert_int_equal(info.rsdp_size, 0);
	assert_int_equal(info.fb.type, FB_NONE);
	assert_false(info.efi);
	assert_ptr_equal(boot_module_find(&info, "initrd.img"), &info.module[1]);
	assert_null(boot_module_find(&info, "vmlinu"));
}

static void test_mb1_without_memory_map(void **state) {
	(void)state;
	mb1_qemu("x");
	mb1.flags = MB1_HAS_MEM;
	mb1.mem_lower = 639;
	mb1.mem_upper = 31 * 1024;
	assert_int_equal(mb1_parse(), 0);
	assert_range(&info.memory, 0, 0, 0x9f000, MEM_USABLE);
	assert_range(&info.memory, 1, MiB(1), MiB(32), MEM_USABLE);
	assert_string_equal(info.cmdline, "");
	assert_string_equal(info.loader, "");
	assert_int_equal(info.nr_modules, 0);
}

static void test_mb1_no_memory_at_all(void **state) {
	(void)state;
	mb1_qemu("x");
	mb1.flags = 0;
	assert_int_equal(mb1_parse(), E_NOENT);
}

static void test_unknown_magic(void **state) {
	(void)state;
	mb1_qemu("x");
	put(MB1_AT, &mb1, sizeof(mb1));
	assert_int_equal(boot_info_parse(0x12345678, MB1_AT, &info), E_FORMAT);
	assert_int_equal(info.memory.count, 0);
	assert_int_equal(info.nr_modules, 0);
}

static void test_unreadable_info(void **state) {
	(void)state;
	assert_int_equal(boot_info_parse(MB1_BOOT_MAGIC, ARENA_SIZE - 8, &info), E_FAULT);
	assert_int_equal(boot_info_parse(MB1_BOOT_MAGIC, 0xfffffffc, &info), E_FAULT);
	assert_int_equal(boot_info_parse(MB2_BOOT_MAGIC, ARENA_SIZE - 4, &info), E_FAULT);
	assert_int_equal(boot_info_parse(MB2_BOOT_MAGIC, 0, &info), E_FAULT);
}

static void test_mb1_hostile_pointers(void **state) {
	(void)state;
	mb1_qemu("x");
	mb1.flags |= MB1_HAS_FB;
	mb1.cmdline = 0xfffffff0;
	mb1.loader_name = 0xfffffff0;
	mb1.mods_count = 0xffffffff;
	mb1.mods_addr = 0xfffffff8;
	assert_int_equal(mb1_parse(), 0);
	assert_true(rig_logged("unreadable memory"));
	assert_string_equal(info.cmdline, "");
	assert_int_equal(info.nr_modules, 0);
	assert_int_equal(info.fb.type, FB_NONE);

	mb1.mmap_addr = 0xfffffff8;
	assert_int_equal(mb1_parse(), E_NOENT);
	assert_true(rig_logged("broken at byte 0"));
}

static void test_mb1_memory_map_entry_sizes(void **state) {
	u32 size = 0;

	(void)state;
	/* An entry of size 0 ends the list instead of being read for ever. */
	mb1_qemu("x");
	put(MMAP_AT + 3 * sizeof(struct mb1_mmap), &size, sizeof(size));
	assert_int_equal(mb1_parse(), 0);
	assert_true(rig_logged("broken at byte 72"));
	assert_int_equal(memmap_total(&info.memory, MEM_USABLE), 0x9f000);

	/* A size that leads out of the list ends it, too. */
	size = 0xfffffff0;
	put(MMAP_AT + 3 * sizeof(struct mb1_mmap), &size, sizeof(size));
	assert_int_equal(mb1_parse(), 0);
	assert_int_equal(memmap_total(&info.memory, MEM_USABLE), 0x9f000 + MiB(126));
}

static void test_mb1_absurd_memory_map_length(void **state) {
	(void)state;
	mb1_qemu("x");
	mmap_length = 0xffffffff;
	assert_int_equal(mb1_parse(), 0);
	assert_true(rig_logged("cut to"));
}

static void test_mb1_unsorted_overlapping_map(void **state) {
	(void)state;
	mb1_qemu("x");
	mb1_range(MiB(100), MiB(100), 1);
	mb1_range(MiB(50), MiB(1), 5);
	mb1_range(MiB(10), 0, 2);
	mb1_range(~0ul - 4096, ~0ul, 1);
	mb1_range(MiB(60), 1, 77);
	assert_int_equal(mb1_parse(), 0);
	assert_sane(&info.memory);
	assert_true(rig_logged("impossible range"));
	assert_true(memmap_is(&info.memory, MiB(128), MiB(72), MEM_USABLE));
	assert_true(memmap_is(&info.memory, MiB(127), MiB(1), MEM_RESERVED));
	assert_true(memmap_is(&info.memory, MiB(50), MiB(1), MEM_BAD));
	assert_true(memmap_is(&info.memory, MiB(60), PAGE_SIZE, MEM_RESERVED));
	assert_true(memmap_is(&info.memory, MiB(1), MiB(49), MEM_USABLE));
}

static void test_module_overlap_and_bounds(void **state) {
	(void)state;
	mb1_qemu("x");
	mb1_module(0, MiB(4), MiB(6), "good");
	mb1_module(1, MiB(8), MiB(10), "first");
	mb1_module(2, MiB(10) - 1, MiB(12), "second");
	mb1_module(3, MiB(200), MiB(201), "outside");
	mb1_module(4, MiB(126), MiB(127) + 1, "tail");
	mb1_module(5, MiB(20), MiB(20), "empty");
	mb1_module(6, MiB(22), MiB(21), "backwards");
	mb1_module(7, MiB(6), MiB(7), "touching");
	mb1_module(8, MiB(19), MiB(23), "around-the-empty");
	assert_int_equal(mb1_parse(), 0);
	assert_int_equal(info.nr_modules, 9);
	assert_int_equal(info.module[8].fault, MODULE_OK);
	assert_int_equal(info.module[0].fault, MODULE_OK);
	assert_int_equal(info.module[1].fault, MODULE_OVERLAP);
	assert_int_equal(info.module[2].fault, MODULE_OVERLAP);
	assert_int_equal(info.module[3].fault, MODULE_OUTSIDE_RAM);
	assert_int_equal(info.module[4].fault, MODULE_OUTSIDE_RAM);
	assert_int_equal(info.module[5].fault, MODULE_EMPTY);
	assert_int_equal(info.module[6].fault, MODULE_EMPTY);
	assert_int_equal(info.module[7].fault, MODULE_OK);
	assert_true(rig_logged("module first"));
	assert_true(rig_logged("module second"));
	assert_null(boot_module_find(&info, "first"));
	assert_non_null(boot_module_find(&info, "good"));
}

static void test_reserve(void **state) {
	(void)state;
	mb1_qemu("x");
	mb1_module(0, MiB(4), MiB(5) + 1, "good");
	mb1_module(1, MiB(2) + 0x1000, MiB(4), "in-roost");
	mb1_module(2, MiB(8), MiB(10), "first");
	mb1_module(3, MiB(9), MiB(11), "second");
	assert_int_equal(mb1_parse(), 0);
	assert_int_equal(info.module[1].fault, MODULE_OK);
	boot_info_reserve(&info, MiB(2), MiB(3) + 5);
	assert_sane(&info.memory);
	assert_int_equal(info.module[0].fault, MODULE_OK);
	assert_int_equal(info.module[1].fault, MODULE_OVERLAP);
	assert_true(rig_logged("overlaps Roost"));
	assert_true(memmap_is(&info.memory, 0, 0x9f000, MEM_ROOST));
	assert_true(memmap_is(&info.memory, MiB(1), MiB(1), MEM_USABLE));
	assert_true(memmap_is(&info.memory, MiB(2), MiB(1) + 0x1000, MEM_ROOST));
	assert_true(memmap_is(&info.memory, MiB(4), MiB(1) + 0x1000, MEM_MODULE));
	assert_true(memmap_is(&info.memory, MiB(8), MiB(3), MEM_MODULE));
	assert_true(memmap_is(&info.memory, MiB(11), MiB(116), MEM_USABLE));
}

static void test_module_names(void **state) {
	(void)state;
	mb1_qemu("x");
	mb1_module(0, MiB(4), MiB(5), "");
	mb1_module(1, MiB(5), MiB(6), "   ");
	mb1_module(2, MiB(6), MiB(7), "/boot/dir/");
	mb1_module(3, MiB(7), MiB(8), "  /boot/kernel   a=/b/c  d ");
	mb1_module(4, MiB(8), MiB(9), "a-name-that-is-far-longer-than-thirty-one-characters x");
	mb1_module(5, MiB(9), MiB(10), "tab\there\x1b[2J");
	for (u32 i = 6; i < 12; i++) mb1_module(i, (u32)MiB(4 + i), (u32)MiB(5 + i), "");
	assert_int_equal(mb1_parse(), 0);
	assert_string_equal(info.module[0].name, "module0");
	assert_string_equal(info.module[1].name, "module1");
	assert_string_equal(info.module[2].name, "module2");
	assert_string_equal(info.module[3].name, "kernel");
	assert_string_equal(info.module[3].args, "a=/b/c  d ");
	assert_string_equal(info.module[4].name, "a-name-that-is-far-longer-than-");
	assert_string_equal(info.module[4].args, "x");
	assert_true(rig_logged("cut to 31"));
	assert_string_equal(info.module[5].name, "tab");
	assert_string_equal(info.module[5].args, "here [2J");
	assert_string_equal(info.module[11].name, "module11");
}

static void test_too_many_modules(void **state) {
	(void)state;
	mb1_qemu("x");
	mb1_module(0, MiB(4), MiB(5), "one");
	mb1.mods_count = 0xffffffff; /* the rest of the list is zeros: empty modules */
	assert_int_equal(mb1_parse(), 0);
	assert_int_equal(info.nr_modules, BOOT_MAX_MODULES);
	assert_true(rig_logged("64 are supported"));
	assert_int_equal(rig_nr_logged, 1 + 63); /* and one for each empty module */
	assert_int_equal(info.module[0].fault, MODULE_OK);
	assert_int_equal(info.module[63].fault, MODULE_EMPTY);
	assert_string_equal(info.module[63].name, "module63");
}

static void test_long_strings(void **state) {
	(void)state;
	mb1_qemu("x");
	memset(arena + TEXT_AT, 'a', 0x700); /* Roost's command line: 1792 characters */
	for (u32 i = 0; i < 3; i++) {
		struct mb1_module module = {(u32)MiB(4 + i), (u32)MiB(5 + i), 0x10000, 0};

		put(MODULES_AT + i * sizeof(module), &module, sizeof(module));
	}
	memset(arena + 0x10000, 'b', 0x10000); /* and a string of modules without any end */
	mb1.mods_addr = MODULES_AT;
	mb1.mods_count = 3;
	assert_int_equal(mb1_parse(), 0);
	assert_int_equal(strlen(info.cmdline), BOOT_CMDLINE_MAX - 1);
	assert_true(rig_logged("longer than 1023"));
	assert_true(rig_logged("its string is cut"));
	assert_int_equal(strlen(info.module[0].name), BOOT_NAME_MAX - 1);
	assert_string_equal(info.module[0].args, "");
	/* The pool is used up: what comes later has no string, but is there. */
	assert_string_equal(info.module[2].name, "module2");
	assert_string_equal(info.module[2].args, "");
}

static void test_mb1_framebuffer(void **state) {
	(void)state;
	mb1_qemu("x");
	mb1.flags |= MB1_HAS_FB;
	mb1.fb = (struct mb_fb){0xb8000, 160, 80, 25, 0, MB_FB_TEXT};
	assert_int_equal(mb1_parse(), 0);
	assert_int_equal(info.fb.type, FB_TEXT);
	assert_int_equal(info.fb.width, 80);
	assert_int_equal(info.fb.bpp, 16);

	mb1.fb = (struct mb_fb){0xfd000000, 3200, 800, 600, 32, MB_FB_RGB};
	memcpy(mb1.rgb, (const u8[]){16, 8, 8, 8, 0, 8}, sizeof(mb1.rgb));
	assert_int_equal(mb1_parse(), 0);
	assert_int_equal(info.fb.type, FB_RGB);
	assert_int_equal(info.fb.rgb[0], 16);
	assert_int_equal(info.fb.rgb[5], 8);
	assert_int_equal(rig_nr_logged, 0);
}

static void test_framebuffer_nonsense(void **state) {
	static const struct mb_fb bad[] = {
		{0, 3200, 800, 600, 32, MB_FB_RGB},
		{0xfd000000, 3199, 800, 600, 32, MB_FB_RGB},
		{0xfd000000, 3200, 800, 0, 32, MB_FB_RGB},
		{0xfd000000, 3200, 0, 600, 32, MB_FB_RGB},
		{0xfd000000, 0xffffffff, 16384, 16384, 32, MB_FB_RGB},
		{0xfd000000, 3200, 0xffffffff, 600, 32, MB_FB_RGB},
		{0xfd000000, 3200, 800, 600, 0, MB_FB_RGB},
		{0xfd000000, 3200, 800, 600, 33, MB_FB_RGB},
		{0xfd000000, 3200, 800, 600, 32, 3},
		{0xfffffffffff00000, 3200, 800, 600, 32, MB_FB_RGB},
		{0xfd000000, 3200, 800, 600, 16, MB_FB_RGB}, /* red would lie past bit 15 */
	};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		mb1_qemu("x");
		mb1.flags |= MB1_HAS_FB;
		mb1.fb = bad[i];
		memcpy(mb1.rgb, (const u8[]){16, 8, 8, 8, 0, 8}, sizeof(mb1.rgb));
		assert_int_equal(mb1_parse(), 0);
		assert_int_equal(info.fb.type, FB_NONE);
		assert_int_equal(rig_nr_logged, i + 1);
	}
}

/* ---- multiboot 2 ---- */

#define MB2_AT 0x1000

static u32 mb2_end;

static void mb2_begin(void) {
	memset(arena, 0, sizeof(arena));
	mb2_end = 8;
}

static void mb2_tag(u32 type, const void *data, size_t length) {
	struct mb2_tag tag = {type, (u32)(sizeof(tag) + length)};

	put(MB2_AT + mb2_end, &tag, sizeof(tag));
	if (length) put(MB2_AT + mb2_end + sizeof(tag), data, length);
	mb2_end = (u32)align_up(mb2_end + tag.size, 8);
}

static void mb2_memory_tag(u32 entry_size) {
	static const struct mb2_mmap_entry entries[] = {
		{0, 0xa0000, 1, 0},	   {MiB(1), MiB(255), 1, 0}, {MiB(4), MiB(1), 3, 0},
		{MiB(8), PAGE_SIZE, 4, 0}, {GiB(4), GiB(1), 1, 0},
	};
	u8 data[512] = {0};
	struct mb2_mmap head = {entry_size, 0};
	size_t at = sizeof(head);

	memcpy(data, &head, sizeof(head));
	for (u32 i = 0; i < ARRAY_SIZE(entries); i++, at += entry_size)
		memcpy(data + at, &entries[i], sizeof(entries[i]));
	mb2_tag(MB2_MMAP, data, at);
}

static void mb2_module_tag(u32 start, u32 end, const char *text) {
	u8 data[256];
	struct mb2_module module = {start, end};

	memcpy(data, &module, sizeof(module));
	memcpy(data + sizeof(module), text, strlen(text) + 1);
	mb2_tag(MB2_MODULE, data, sizeof(module) + strlen(text) + 1);
}

static int mb2_parse_size(u32 total) {
	struct mb2_info head = {total, 0};

	put(MB2_AT, &head, sizeof(head));
	return boot_info_parse(MB2_BOOT_MAGIC, MB2_AT, &info);
}

static int mb2_parse(void) {
	mb2_tag(MB2_END, NULL, 0);
	return mb2_parse_size(mb2_end);
}

static void test_mb2_grub_uefi(void **state) {
	struct mb2_fb fb = {{0x80000000, 2400, 800, 600, 24, MB_FB_RGB}, 0, {16, 8, 8, 8, 0, 8}};
	u8 rsdp1[20], rsdp2[36];
	u64 systab = 0x7e9018;
	u32 efi_map[2] = {48, 1};

	(void)state;
	memset(rsdp1, 0x11, sizeof(rsdp1));
	memset(rsdp2, 0x22, sizeof(rsdp2));
	mb2_begin();
	mb2_tag(21, "\0\0\040", 4);
	mb2_tag(MB2_CMDLINE, "console=com1", 13);
	mb2_tag(MB2_LOADER, "GRUB 2.06-13", 13);
	mb2_module_tag(MiB(16), MiB(17), "debian root=/dev/vda");
	mb2_memory_tag(24);
	mb2_tag(MB2_FB, &fb, sizeof(fb));
	mb2_tag(MB2_EFI64, &systab, sizeof(systab));
	mb2_tag(MB2_ACPI_NEW, rsdp2, sizeof(rsdp2));
	mb2_tag(MB2_ACPI_OLD, rsdp1, sizeof(rsdp1));
	mb2_tag(MB2_EFI_MMAP, efi_map, sizeof(efi_map));
	assert_int_equal(mb2_parse(), 0);
	assert_int_equal(rig_nr_logged, 0);
	assert_string_equal(info.cmdline, "console=com1");
	assert_string_equal(info.loader, "GRUB 2.06-13");
	assert_false(info.cmdline_has_name);
	assert_int_equal(info.nr_modules, 1);
	assert_string_equal(info.module[0].name, "debian");
	assert_string_equal(info.module[0].args, "root=/dev/vda");
	assert_int_equal(info.module[0].fault, MODULE_OK);
	assert_true(memmap_is(&info.memory, MiB(4), MiB(1), MEM_ACPI));
	assert_true(memmap_is(&info.memory, MiB(8), PAGE_SIZE, MEM_NVS));
	assert_true(memmap_is(&info.memory, GiB(4), GiB(1), MEM_USABLE));
	assert_int_equal(info.fb.type, FB_RGB);
	assert_int_equal(info.fb.pitch, 2400);
	assert_int_equal(info.rsdp_size, RSDP_V2_SIZE);
	assert_memory_equal(info.rsdp, rsdp2, sizeof(rsdp2));
	assert_true(info.efi);
	boot_info_reserve(&info, MiB(2), MiB(3));
	assert_true(
		memmap_is(&info.memory, 0x80000000, align_up(2400 * 600, PAGE_SIZE), MEM_RESERVED));
}

#define EFI_PAGES(bytes) ((bytes) / PAGE_SIZE)

/* An EFI memory map, whose entries are larger than what we know of them. */
static void mb2_efi_tag(const struct efi_descriptor *entries, u32 count) {
	u8 data[2048] = {0};
	struct mb2_mmap head = {48, 1};

	memcpy(data, &head, sizeof(head));
	for (u32 i = 0; i < count; i++)
		memcpy(data + sizeof(head) + i * 48, &entries[i], sizeof(entries[i]));
	mb2_tag(MB2_EFI_MMAP, data, sizeof(head) + count * 48);
}

/* What boot services and loader had is reclaimed; the firmware's own is not, whoever says so. */
static void test_mb2_efi_memory(void **state) {
	static const struct efi_descriptor entries[] = {
		{EFI_CONVENTIONAL, 0, MiB(1), 0, EFI_PAGES(MiB(15)), 15},
		{EFI_LOADER_CODE, 0, MiB(16), 0, 1, 15},
		{EFI_LOADER_DATA, 0, MiB(16) + PAGE_SIZE, 0, 1, 15},
		{EFI_BOOT_CODE, 0, MiB(16) + 2 * PAGE_SIZE, 0, 1, 15},
		{EFI_BOOT_DATA, 0, MiB(16) + 3 * PAGE_SIZE, 0, EFI_PAGES(MiB(16)) - 3, 15},
		{EFI_ACPI, 0, MiB(32), 0, 1, 15},
		{EFI_NVS, 0, MiB(33), 0, 1, 15},
		{5, 0, MiB(34), 0, 1, 1ul << 63 | 15}, /* runtime services */
		{6, 0, MiB(35), 0, 1, 1ul << 63 | 15},
		{EFI_UNUSABLE, 0, MiB(36), 0, 1, 15},
		{11, 0, MiB(37), 0, 1, 1},  /* devices */
		{14, 0, MiB(38), 0, 1, 15}, /* persistent memory */
		{0x80000005, 0, MiB(39), 0, 1, 15},
		{EFI_CONVENTIONAL, 0, 1ul << 40, 0, EFI_PAGES(GiB(64)), 15},
		{EFI_CONVENTIONAL, 0, ~0ul & PAGE_MASK, 0, ~0ul, 15},
		{5, 0, 1ul << 50, 0, ~0ul, 15},
	};
	static const enum mem_type types[] = {MEM_ACPI, MEM_NVS,      MEM_RESERVED, MEM_RESERVED,
					      MEM_BAD,	MEM_RESERVED, MEM_RESERVED, MEM_RESERVED};

	(void)state;
	mb2_begin();
	mb2_efi_tag(entries, ARRAY_SIZE(entries));
	assert_int_equal(mb2_parse(), 0);
	assert_true(info.efi);
	assert_sane(&info.memory);
	assert_true(memmap_is(&info.memory, MiB(1), MiB(31), MEM_USABLE));
	for (u32 i = 0; i < ARRAY_SIZE(types); i++)
		assert_true(memmap_is(&info.memory, MiB(32 + i), PAGE_SIZE, types[i]));
	assert_true(memmap_is(&info.memory, 1ul << 40, GiB(64), MEM_USABLE));
	assert_true(memmap_is(&info.memory, 1ul << 50, MEMMAP_LIMIT - (1ul << 50), MEM_RESERVED));
	assert_true(rig_logged("impossible range"));

	/* With the loader's map beside it, in either order, only what both call usable is. */
	for (u32 order = 0; order < 2; order++) {
		mb2_begin();
		if (order) mb2_memory_tag(24);
		mb2_efi_tag(entries, ARRAY_SIZE(entries));
		if (!order) mb2_memory_tag(24);
		assert_int_equal(mb2_parse(), 0);
		assert_true(memmap_is(&info.memory, MiB(4), MiB(1), MEM_ACPI));
		assert_true(memmap_is(&info.memory, MiB(34), PAGE_SIZE, MEM_RESERVED));
		assert_true(memmap_is(&info.memory, MiB(16), MiB(16), MEM_USABLE));
	}
}

/* Holes of 4 GiB, and memory above 1 TiB. */
static void test_mb2_large_machine(void **state) {
	static const struct mb2_mmap_entry entries[] = {
		{0, 0xa0000, 1, 0},
		{MiB(1), GiB(2) - MiB(1), 1, 0},
		{GiB(6), GiB(2), 1, 0},
		{GiB(12), GiB(1012), 1, 0},
		{GiB(1024) + GiB(12), GiB(2048), 1, 0},
	};
	u8 data[256];
	struct mb2_mmap head = {24, 0};

	(void)state;
	memcpy(data, &head, sizeof(head));
	memcpy(data + sizeof(head), entries, sizeof(entries));
	mb2_begin();
	mb2_tag(MB2_MMAP, data, sizeof(head) + sizeof(entries));
	assert_int_equal(mb2_parse(), 0);
	boot_info_reserve(&info, MiB(2), MiB(3));
	assert_int_equal(rig_nr_logged, 0);
	assert_int_equal(memmap_total(&info.memory, MEM_USABLE),
			 GiB(2) - MiB(2) + GiB(2) + GiB(1012) + GiB(2048));
	for (u32 i = 2; i < ARRAY_SIZE(entries); i++)
		assert_true(
			memmap_is(&info.memory, entries[i].base, entries[i].length, MEM_USABLE));
	assert_false(memmap_is(&info.memory, GiB(2), PAGE_SIZE, MEM_USABLE));
	assert_false(memmap_is(&info.memory, GiB(1024), PAGE_SIZE, MEM_USABLE));
}

/* GRUB puts small modules below 1 MiB: the trampoline must not lie on one. */
static void test_trampoline(void **state) {
	static const struct efi_descriptor high = {EFI_CONVENTIONAL, 0, MiB(1), 0, 512, 15};

	(void)state;
	mb2_begin();
	mb2_memory_tag(24);
	mb2_module_tag(0x9f000, 0x9f05c, "roost.conf");
	mb2_module_tag(0x9d800, 0x9e001, "other");
	assert_int_equal(mb2_parse(), 0);
	boot_info_reserve(&info, MiB(2), MiB(3));
	assert_int_equal(info.trampoline, 0x9c000);
	assert_int_equal(info.module[0].fault, MODULE_OK);

	mb2_begin();
	mb2_efi_tag(&high, 1);
	assert_int_equal(mb2_parse(), 0);
	boot_info_reserve(&info, MiB(2), MiB(3));
	assert_int_equal(info.trampoline, 0);
}

static void test_mb2_old_rsdp(void **state) {
	u8 rsdp1[20];

	(void)state;
	memset(rsdp1, 0x11, sizeof(rsdp1));
	mb2_begin();
	mb2_memory_tag(40); /* larger entries of a later version */
	mb2_tag(MB2_ACPI_OLD, rsdp1, sizeof(rsdp1));
	mb2_tag(MB2_ACPI_NEW, rsdp1, sizeof(rsdp1)); /* too short: not taken */
	assert_int_equal(mb2_parse(), 0);
	assert_int_equal(info.rsdp_size, RSDP_V1_SIZE);
	assert_true(rig_logged("too short"));
	assert_true(memmap_is(&info.memory, GiB(4), GiB(1), MEM_USABLE));
}

static void test_mb2_too_many_modules(void **state) {
	(void)state;
	mb2_begin();
	mb2_memory_tag(24);
	for (u32 i = 0; i < 70; i++) mb2_module_tag((u32)MiB(16 + i), (u32)MiB(17 + i), "m");
	assert_int_equal(mb2_parse(), 0);
	assert_int_equal(info.nr_modules, BOOT_MAX_MODULES);
	assert_int_equal(rig_nr_logged, 6);
	assert_int_equal(info.module[63].end, MiB(80));
}

static void test_mb2_basic_memory(void **state) {
	u32 memory[2] = {639, 15 * 1024};

	(void)state;
	mb2_begin();
	mb2_tag(MB2_MEM, memory, sizeof(memory));
	assert_int_equal(mb2_parse(), 0);
	assert_range(&info.memory, 1, MiB(1), MiB(16), MEM_USABLE);
}

static void test_mb2_broken_tags(void **state) {
	struct mb2_tag tag = {MB2_CMDLINE, 0};

	(void)state;
	/* A tag of size 0, then one that is longer than everything. */
	for (u32 size = 0; size < 8; size++) {
		mb2_begin();
		mb2_memory_tag(24);
		tag.size = size;
		put(MB2_AT + mb2_end, &tag, sizeof(tag));
		assert_int_equal(mb2_parse_size(mb2_end + 64), 0);
		assert_true(rig_logged("broken at byte"));
		assert_string_equal(info.cmdline, "");
	}
	rig_log_text[0] = 0;
	tag.size = 0xfffffff9;
	put(MB2_AT + mb2_end, &tag, sizeof(tag));
	assert_int_equal(mb2_parse_size(mb2_end + 64), 0);
	assert_true(rig_logged("broken at byte"));
}

static void test_mb2_short_payloads(void **state) {
	static const u32 types[] = {MB2_MODULE,	  MB2_MMAP,	MB2_FB,
				    MB2_ACPI_OLD, MB2_ACPI_NEW, MB2_EFI_MMAP};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(types); i++) {
		mb2_begin();
		mb2_memory_tag(24);
		mb2_tag(types[i], "\1\0\0\0\0", 5);
		rig_nr_logged = 0;
		assert_int_equal(mb2_parse(), 0);
		assert_int_equal(rig_nr_logged, 1);
	}
	assert_int_equal(info.rsdp_size, 0);
	assert_true(info.efi);
	assert_int_equal(info.nr_modules, 0);
}

static void test_mb2_memory_entry_size(void **state) {
	struct mb2_mmap head = {0, 0};

	(void)state;
	mb2_begin();
	mb2_tag(MB2_MMAP, &head, sizeof(head)); /* entries of 0 bytes: not read for ever */
	assert_int_equal(mb2_parse(), E_NOENT);
	assert_true(rig_logged("malformed"));
}

static void test_mb2_no_end_and_absurd_size(void **state) {
	(void)state;
	mb2_begin();
	mb2_memory_tag(24);
	assert_int_equal(mb2_parse_size(0xffffffff), 0);
	assert_true(rig_logged("cut to"));
	assert_int_equal(mb2_parse_size(4), E_NOENT);
}

static void test_mb2_string_without_end(void **state) {
	(void)state;
	mb2_begin();
	mb2_memory_tag(24);
	mb2_tag(MB2_CMDLINE, "loglevel", 8); /* the tag ends before a 0 does */
	mb2_tag(MB2_LOADER, "loader", 6);
	assert_int_equal(mb2_parse(), 0);
	assert_string_equal(info.cmdline, "loglevel");
	assert_string_equal(info.loader, "loader");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_mb1_qemu, setup),
		cmocka_unit_test_setup(test_mb1_roost, setup),
		cmocka_unit_test_setup(test_mb1_without_memory_map, setup),
		cmocka_unit_test_setup(test_mb1_no_memory_at_all, setup),
		cmocka_unit_test_setup(test_unknown_magic, setup),
		cmocka_unit_test_setup(test_unreadable_info, setup),
		cmocka_unit_test_setup(test_mb1_hostile_pointers, setup),
		cmocka_unit_test_setup(test_mb1_memory_map_entry_sizes, setup),
		cmocka_unit_test_setup(test_mb1_absurd_memory_map_length, setup),
		cmocka_unit_test_setup(test_mb1_unsorted_overlapping_map, setup),
		cmocka_unit_test_setup(test_module_overlap_and_bounds, setup),
		cmocka_unit_test_setup(test_reserve, setup),
		cmocka_unit_test_setup(test_module_names, setup),
		cmocka_unit_test_setup(test_too_many_modules, setup),
		cmocka_unit_test_setup(test_long_strings, setup),
		cmocka_unit_test_setup(test_mb1_framebuffer, setup),
		cmocka_unit_test_setup(test_framebuffer_nonsense, setup),
		cmocka_unit_test_setup(test_mb2_grub_uefi, setup),
		cmocka_unit_test_setup(test_mb2_efi_memory, setup),
		cmocka_unit_test_setup(test_mb2_large_machine, setup),
		cmocka_unit_test_setup(test_trampoline, setup),
		cmocka_unit_test_setup(test_mb2_old_rsdp, setup),
		cmocka_unit_test_setup(test_mb2_too_many_modules, setup),
		cmocka_unit_test_setup(test_mb2_basic_memory, setup),
		cmocka_unit_test_setup(test_mb2_broken_tags, setup),
		cmocka_unit_test_setup(test_mb2_short_payloads, setup),
		cmocka_unit_test_setup(test_mb2_memory_entry_size, setup),
		cmocka_unit_test_setup(test_mb2_no_end_and_absurd_size, setup),
		cmocka_unit_test_setup(test_mb2_string_without_end, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
