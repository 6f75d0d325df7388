// sources: boot/multiboot.c boot/memmap.c
/*
 * Multiboot information of either version from arbitrary bytes. The input is physical memory from
 * 4 KiB on; its first byte chooses the version, the information begins behind it. What comes out
 * must hold what boot/bootinfo.h and boot/memmap.h promise.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -DUNIT_TEST -I. tests/fuzz/fuzz_multiboot.c
 * <sources>
 */
#include <stdlib.h>
#include <string.h>

#include "boot/bootinfo.h"
#include "boot/multiboot.h"
#include "lib/log.h"

#define BASE 0x1000

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static const u8 *input;
static size_t input_size;
static struct boot_info info;

const void *phys_peek(hpa_t address, size_t length) {
	if (address < BASE || !range_within(address - BASE, length, input_size)) return NULL;
	return input + (address - BASE);
}

void log_msg(enum log_level level, const char *fmt, ...) {
	(void)level;
	(void)fmt;
}

static void require(bool condition) {
	if (!condition) abort();
}

static void check_memory(const struct memmap *map) {
	require(map->count <= MEMMAP_MAX);
	for (u32 i = 0; i < map->count; i++) {
		const struct mem_range *range = &map->range[i];

		require(range->length && !((range->base | range->length) & ~PAGE_MASK));
		require(range_within(range->base, range->length, MEMMAP_LIMIT));
		if (i) require(range[-1].base + range[-1].length <= range->base);
	}
}

static void check_modules(void) {
	require(info.nr_modules <= BOOT_MAX_MODULES);
	for (u32 i = 0; i < info.nr_modules; i++) {
		const struct boot_module *a = &info.module[i];

		require(a->name[0] && strnlen(a->name, BOOT_NAME_MAX) < BOOT_NAME_MAX);
		require(a->args >= info.text && a->args < info.text + BOOT_TEXT_MAX);
		require(memchr(a->args, 0, (size_t)(info.text + BOOT_TEXT_MAX - a->args)));
		for (u32 j = 0; a->fault == MODULE_OK && j < i; j++)
			require(info.module[j].fault != MODULE_OK ||
				a->end <= info.module[j].start || info.module[j].end <= a->start);
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
	if (!size) return 0;
	input = data + 1;
	input_size = size - 1;
	if (boot_info_parse(*data & 1 ? MB1_BOOT_MAGIC : MB2_BOOT_MAGIC, BASE, &info) == 0)
		boot_info_reserve(&info, MiB(2), MiB(3));
	check_memory(&info.memory);
	check_modules();
	require(memchr(info.cmdline, 0, sizeof(info.cmdline)));
	require(memchr(info.loader, 0, sizeof(info.loader)));
	require(!memmap_is(&info.memory, MiB(2), MiB(1), MEM_USABLE));
	return 0;
}
