// sources: boot/memmap.c tests/log_rig.c
/* The map of physical memory: sorted, without overlaps, in whole pages, whatever was added how. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "boot/memmap.h"
#include "lib/error.h"
#include "lib/types.h"
#include "tests/log_rig.h"
#include "tests/memmap_rig.h"

static struct memmap memory;

static void test_memmap_sorts_and_merges(void **state) {
	struct memmap *map = &memory;

	(void)state;
	*map = (struct memmap){0};
	assert_int_equal(memmap_add(map, MiB(64), MiB(64), MEM_USABLE), 0);
	assert_int_equal(memmap_add(map, MiB(1), MiB(15), MEM_USABLE), 0);
	assert_int_equal(memmap_add(map, 0, 0xa0000, MEM_USABLE), 0);
	assert_int_equal(memmap_add(map, MiB(16), MiB(48), MEM_USABLE), 0);
	assert_sane(map);
	assert_int_equal(map->count, 2);
	assert_range(map, 0, 0, 0xa0000, MEM_USABLE);
	assert_range(map, 1, MiB(1), MiB(128), MEM_USABLE);
	assert_int_equal(memmap_total(map, MEM_USABLE), 0xa0000 + MiB(127));
}

static void test_memmap_reserved_wins_in_any_order(void **state) {
	struct memmap *map = &memory;

	(void)state;
	for (int order = 0; order < 2; order++) {
		*map = (struct memmap){0};
		for (int i = 0; i < 2; i++)
			if (i == order)
				assert_int_equal(memmap_add(map, 0, MiB(16), MEM_USABLE), 0);
			else
				assert_int_equal(memmap_add(map, MiB(4), MiB(1), MEM_RESERVED), 0);
		assert_sane(map);
		assert_int_equal(map->count, 3);
		assert_range(map, 0, 0, MiB(4), MEM_USABLE);
		assert_range(map, 1, MiB(4), MiB(5), MEM_RESERVED);
		assert_range(map, 2, MiB(5), MiB(16), MEM_USABLE);
	}
}

static void test_memmap_alignment(void **state) {
	struct memmap *map = &memory;

	(void)state;
	*map = (struct memmap){0};
	assert_int_equal(memmap_add(map, 0x1001, 0x9fbfe, MEM_USABLE), 0);
	assert_int_equal(memmap_add(map, 0x50fff, 2, MEM_NVS), 0);
	assert_int_equal(memmap_add(map, 0x200001, 0xffe, MEM_USABLE), 0); /* not one whole page */
	assert_sane(map);
	assert_int_equal(map->count, 3);
	assert_range(map, 0, 0x2000, 0x50000, MEM_USABLE);
	assert_range(map, 1, 0x50000, 0x52000, MEM_NVS);
	assert_range(map, 2, 0x52000, 0xa0000, MEM_USABLE);
}

static void test_memmap_zero_and_wrapping(void **state) {
	struct memmap *map = &memory;

	(void)state;
	*map = (struct memmap){0};
	assert_int_equal(memmap_add(map, 0x5000, 0, MEM_USABLE), 0);
	assert_int_equal(memmap_add(map, ~0ul - 10, 0x5000, MEM_USABLE), E_RANGE);
	assert_int_equal(memmap_add(map, MiB(1), ~0ul, MEM_USABLE), E_RANGE);
	assert_int_equal(memmap_add(map, 1ul << 60, MiB(1), MEM_USABLE), E_RANGE);
	assert_int_equal(map->count, 0);
	assert_int_equal(memmap_add(map, 1ul << 60, MiB(1), MEM_RESERVED), 0);
	assert_int_equal(memmap_add(map, ~0ul - 10, 0x5000, MEM_RESERVED), 0);
	assert_int_equal(map->count, 0);
	assert_int_equal(memmap_add(map, GiB(1), ~0ul, MEM_RESERVED), 0);
	assert_int_equal(memmap_add(map, 0, MEMMAP_LIMIT + MiB(1), MEM_USABLE), 0);
	assert_sane(map);
	assert_int_equal(map->count, 2);
	assert_range(map, 0, 0, GiB(1), MEM_USABLE);
	assert_range(map, 1, GiB(1), MEMMAP_LIMIT, MEM_RESERVED);
}

static void test_memmap_holes(void **state) {
	struct memmap *map = &memory;

	(void)state;
	*map = (struct memmap){0};
	assert_int_equal(memmap_add(map, MiB(1), MiB(1), MEM_USABLE), 0);
	assert_int_equal(memmap_add(map, MiB(4), MiB(1), MEM_USABLE), 0);
	assert_true(memmap_is(map, MiB(1), MiB(1), MEM_USABLE));
	assert_false(memmap_is(map, MiB(1), MiB(1) + 1, MEM_USABLE));
	assert_false(memmap_is(map, MiB(1) - 1, 2, MEM_USABLE));
	assert_false(memmap_is(map, MiB(2), MiB(1), MEM_USABLE));
	assert_false(memmap_is(map, MiB(4), ~0ul, MEM_USABLE));
	assert_false(memmap_is(map, MiB(9), 1, MEM_USABLE));
	(void)memmap_add(map, 0, MiB(8), MEM_ROOST);
	assert_sane(map);
	assert_int_equal(map->count, 1);
	assert_range(map, 0, 0, MiB(8), MEM_ROOST);
}

/* More ranges than the map holds: memory is lost, a reserved page never becomes usable. */
static void test_memmap_overflow_is_conservative(void **state) {
	struct memmap *map = &memory;

	(void)state;
	*map = (struct memmap){0};
	assert_int_equal(memmap_add(map, 0, GiB(4), MEM_USABLE), 0);
	for (u64 i = 0; i < 1000; i++)
		assert_int_equal(memmap_add(map, MiB(1) + i * MiB(2), KiB(4), MEM_RESERVED), 0);
	assert_sane(map);
	assert_true(map->dropped > 0);
	assert_true(rig_logged("more than 256"));
	for (u64 i = 0; i < 1000; i++)
		assert_false(memmap_is(map, MiB(1) + i * MiB(2), 1, MEM_USABLE));
	assert_true(memmap_total(map, MEM_USABLE) >= GiB(2));
}

static void test_memmap_full_of_reserved(void **state) {
	struct memmap *map = &memory;

	(void)state;
	*map = (struct memmap){0};
	for (u64 i = 0; i < 1000; i++)
		assert_int_equal(memmap_add(map, i * MiB(2), KiB(4), MEM_RESERVED), 0);
	assert_sane(map);
	assert_int_equal(map->count, MEMMAP_MAX);
	/* A hole that could not be recorded as reserved may only become usable if nobody objects.
	 */
	assert_int_equal(memmap_add(map, GiB(8), MiB(1), MEM_USABLE), 0);
	assert_sane(map);
}

/* A full map closes its smallest hole; what has two types then is reserved. */
static void test_memmap_full_closes_smallest_hole(void **state) {
	struct memmap *map = &memory;

	(void)state;
	*map = (struct memmap){0};
	for (u64 i = 0; i < MEMMAP_MAX - 1; i++)
		assert_int_equal(memmap_add(map, i * MiB(2), KiB(4), MEM_RESERVED), 0);
	assert_int_equal(memmap_add(map, MiB(200) - KiB(8), KiB(4), MEM_NVS), 0);
	assert_int_equal(map->count, MEMMAP_MAX);
	assert_int_equal(memmap_add(map, GiB(8), MiB(1), MEM_USABLE), 0);
	assert_sane(map);
	assert_int_equal(map->count, MEMMAP_MAX);
	assert_true(memmap_is(map, MiB(200) - KiB(8), KiB(12), MEM_RESERVED));
	assert_true(memmap_is(map, GiB(8), MiB(1), MEM_USABLE));
	assert_false(memmap_is(map, MiB(198) + KiB(4), 1, MEM_RESERVED));
}

/* Every page against a plain array: the highest type wins, in random order. */
static void test_memmap_against_model(void **state) {
	enum { PAGES = 200 };
	struct memmap *map = &memory;

	(void)state;
	srand(7);
	for (int round = 0; round < 500; round++) {
		int model[PAGES];

		memset(model, 0xff, sizeof(model));
		*map = (struct memmap){0};
		for (int n = 0; n < 40; n++) {
			int first = rand() % PAGES, count = rand() % (PAGES - first);
			int type = rand() % NR_MEM_TYPES;

			assert_int_equal(memmap_add(map, (u64)first * PAGE_SIZE,
						    (u64)count * PAGE_SIZE, (enum mem_type)type),
					 0);
			for (int i = first; i < first + count; i++)
				if (model[i] < type) model[i] = type;
		}
		assert_sane(map);
		for (int i = 0; i < PAGES; i++)
			for (int type = 0; type < NR_MEM_TYPES; type++)
				assert_int_equal(memmap_is(map, (u64)i * PAGE_SIZE, PAGE_SIZE,
							   (enum mem_type)type),
						 model[i] == type);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memmap_sorts_and_merges),
		cmocka_unit_test(test_memmap_reserved_wins_in_any_order),
		cmocka_unit_test(test_memmap_alignment),
		cmocka_unit_test(test_memmap_zero_and_wrapping),
		cmocka_unit_test(test_memmap_holes),
		cmocka_unit_test(test_memmap_overflow_is_conservative),
		cmocka_unit_test(test_memmap_full_of_reserved),
		cmocka_unit_test(test_memmap_full_closes_smallest_hole),
		cmocka_unit_test(test_memmap_against_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
