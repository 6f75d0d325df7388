/* What unit tests ask of a memory map. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "boot/memmap.h"
#include "lib/types.h"

/* The map has to be sorted, page aligned, without overlaps, and neighbours merged. */
static inline void assert_sane(const struct memmap *map) {
	assert_true(map->count <= MEMMAP_MAX);
	for (u32 i = 0; i < map->count; i++) {
		const struct mem_range *range = &map->range[i];

		assert_true(range->length > 0);
		assert_int_equal(range->base % PAGE_SIZE, 0);
		assert_int_equal(range->length % PAGE_SIZE, 0);
		assert_true(range_within(range->base, range->length, MEMMAP_LIMIT));
		if (!i) continue;
		assert_true(range[-1].base + range[-1].length <= range->base);
		if (range[-1].base + range[-1].length == range->base)
			assert_int_not_equal(range[-1].type, range->type);
	}
}

static inline void assert_range(const struct memmap *map, u32 i, hpa_t base, hpa_t end,
				enum mem_type type) {
	assert_true(i < map->count);
	assert_int_equal(map->range[i].base, base);
	assert_int_equal(map->range[i].base + map->range[i].length, end);
	assert_int_equal(map->range[i].type, type);
}
