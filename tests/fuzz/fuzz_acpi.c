// sources: drivers/acpi.c
/*
 * ACPI tables from arbitrary bytes: the input is physical memory from 1 MiB on, and begins with an
 * XSDT. Checksums of what looks like a table are made right first, or nothing would get past them.
 * Mappings are copies of exactly the bytes asked for, so that each read beyond them is seen.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -DUNIT_TEST -I. tests/fuzz/fuzz_acpi.c
 * <sources>
 */
#include <stdlib.h>
#include <string.h>

#include "boot/bootinfo.h"
#include "drivers/acpi.h"
#include "drivers/acpi_tables.h"
#include "lib/log.h"

#define BASE	    MiB(1)
#define MEMORY_SIZE 65536
#define MAPPINGS    1024

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static u8 memory[MEMORY_SIZE];
static size_t memory_size;
static void *mapping[MAPPINGS];
static unsigned nr_mappings;
static struct boot_info boot;
static struct acpi_info info;

static u8 sum(const u8 *bytes, size_t length) {
	u8 total = 0;

	for (size_t i = 0; i < length; i++) total = (u8)(total + bytes[i]);
	return total;
}

/* A table of at most 64 KiB whose checksum is made right; other mappings are left alone. */
static void mend(u8 *copy, size_t length) {
	const size_t at = offsetof(struct acpi_header, checksum);

	if (length > sizeof(struct acpi_header)) copy[at] = (u8)(copy[at] - sum(copy, length));
}

const void *phys_peek(hpa_t address, size_t length) {
	u8 *copy;

	if (address < BASE || !range_within(address - BASE, length, memory_size)) return NULL;
	if (nr_mappings == MAPPINGS) abort(); /* the number of tables is not bounded */
	copy = malloc(length ? length : 1);
	if (!copy) abort();
	memcpy(copy, memory + (address - BASE), length);
	mend(copy, length);
	mapping[nr_mappings++] = copy;
	return copy;
}

void log_msg(enum log_level level, const char *fmt, ...) {
	(void)level;
	(void)fmt;
}

static void give_rsdp(void) {
	struct acpi_rsdp rsdp = {
		.signature = "RSD PTR ", .revision = 2, .length = 36, .xsdt = BASE};

	rsdp.checksum = (u8)-sum((u8 *)&rsdp, RSDP_V1_SIZE);
	rsdp.extended_checksum = (u8)-sum((u8 *)&rsdp, RSDP_V2_SIZE);
	memcpy(boot.rsdp, &rsdp, sizeof(rsdp));
	boot.rsdp_size = RSDP_V2_SIZE;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
	memory_size = min_u64(size, sizeof(memory));
	memcpy(memory, data, memory_size);
	give_rsdp();
	(void)!acpi_parse(&boot, &info);
	while (nr_mappings) free(mapping[--nr_mappings]);
	if (info.nr_cpus > ACPI_MAX_CPUS || info.nr_ioapics > ACPI_MAX_IOAPICS ||
	    info.s5_type_a > 7 || info.s5_type_b > 7)
		abort();
	return 0;
}
