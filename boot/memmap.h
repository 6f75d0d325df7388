/*
 * The map of physical memory. Whatever order, overlap or nonsense the firmware's list has, the map
 * is sorted, free of overlaps and in whole pages at every moment, because that is how ranges are
 * added: where two ranges meet, the one of the higher type wins.
 */
#pragma once

#include "lib/types.h"

/* In the order of precedence: what is usable loses against everything. */
enum mem_type {
	MEM_USABLE,   /* free RAM */
	MEM_ACPI,     /* ACPI tables, could be reclaimed */
	MEM_MODULE,   /* a boot module lies here */
	MEM_ROOST,    /* Roost itself, the first MiB, what the loader left for it */
	MEM_NVS,      /* firmware's, to be kept over sleep */
	MEM_RESERVED, /* not RAM for anybody */
	MEM_BAD,      /* defective RAM */
	NR_MEM_TYPES,
};

#define MEMMAP_MAX   256
#define MEMMAP_LIMIT (1ul << 52) /* no x86 has more physical address bits (APM 2 5.1) */

struct mem_range {
	hpa_t base;
	u64 length; /* bytes, not 0; base and length are multiples of 4 KiB */
	enum mem_type type;
};

struct memmap { /* all 0: empty */
	u32 count;
	u32 dropped; /* how often an entry was saved because the map was full */
	struct mem_range range[MEMMAP_MAX + 2]; /* two to spare while one is added */
};

/*
 * Adds [base, base + length), usable memory rounded inward to whole pages, everything else outward,
 * cut off at MEMMAP_LIMIT. When the map is full holes between reserved ranges are closed and small
 * usable ranges given up: no reserved page becomes usable. 0, or E_RANGE for a usable
 * range that wraps around or begins past the limit (not added).
 */
int memmap_add(struct memmap *map, hpa_t base, u64 length, enum mem_type type);

/* True when every byte of [base, base + length) is of this type; length is not 0. */
bool memmap_is(const struct memmap *map, hpa_t base, u64 length, enum mem_type type);

/* Bytes of all ranges of a type. */
u64 memmap_total(const struct memmap *map, enum mem_type type);
