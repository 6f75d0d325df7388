// sources: mm/ptable.c mm/ptable_formats.c mm/frame.c
// The page-table engine. A walker of the test's own, written from the manuals, is what hardware
// would see. A hook runs it after each single change of a linked table: every page must have its
// old or its new translation then. A second one starts from tables remembered earlier, as a
// paging-structure cache would, until they are reclaimed.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/error.h"
#include "mm/direct.h"
#include "mm/frame.h"
#include "mm/ptable.h"

#define ARENA_PAGES 8192u
#define RWX	    (PT_READ | PT_WRITE | PT_EXEC)
#define RW	    (PT_READ | PT_WRITE)

u64 direct_base_;

static u8 *arena;
static u8 used[ARENA_PAGES];
static u32 nr_used;
static u32 fail_after; /* allocations until one fails; 0: none fails */
static struct ptable pt;

/* Page 0 is never given out, so that an entry without an address shows. */
static int take(void *ctx, hpa_t *page)
{
	static u32 next = 1;

	(void)ctx;
	if (fail_after && --fail_after == 0)
		return E_NOMEM;
	for (u32 i = 0; i < ARENA_PAGES; i++, next++) {
		u32 at = next % ARENA_PAGES;

		if (at == 0 || used[at])
			continue;
		used[at] = 1;
		nr_used++;
		*page = at * PAGE_SIZE;
		memset(phys_to_virt(*page), 0, PAGE_SIZE);
		return 0;
	}
	return E_NOMEM;
}

/* A freed page looks like a table of nonsense. */
static void give_back(void *ctx, hpa_t page)
{
	(void)ctx;
	assert_true(page && page % PAGE_SIZE == 0 && page / PAGE_SIZE < ARENA_PAGES);
	assert_int_equal(used[page / PAGE_SIZE], 1);
	used[page / PAGE_SIZE] = 0;
	nr_used--;
	memset(phys_to_virt(page), 0xdb, PAGE_SIZE);
}

static const struct pt_alloc test_pages = {.alloc = take, .free = give_back};

static int setup(void **state)
{
	(void)state;
	arena = aligned_alloc(PAGE_SIZE, ARENA_PAGES * PAGE_SIZE);
	direct_base_ = (u64)arena;
	memset(used, 0, sizeof(used));
	nr_used = 0;
	fail_after = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pt_store_hook = NULL;
	free(arena);
	return 0;
}

static u64 rng_state = 88172645463325252ul;

static u64 rng64(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

static u64 rng(u64 below)
{
	return rng64() % below;
}

/* The entry that translates va, starting at a table of this level, as hardware reads it; 0: none.
 */
static u64 hw_entry(const struct pt_format *f, hpa_t table, unsigned level, u64 va, unsigned *leaf)
{
	u64 present = f == &pt_format_ept ? 7 : 1;

	for (;; level--) {
		u64 entry;

		assert_true(table / PAGE_SIZE < ARENA_PAGES);
		memcpy(&entry, arena + table + (va >> (12 + 9 * level) & 511) * 8, 8);
		*leaf = level;
		if (!(entry & present))
			return 0;
		if (level == 0 || entry & 0x80)
			return entry;
		table = entry & 0x000ffffffffff000ul;
	}
}

/* A translation in one word: page address, rights and cacheability; 0 when there is none. */
static u64 hw_page_from(const struct pt_format *f, hpa_t table, unsigned from, u64 va)
{
	unsigned level = 0;
	u64 entry = hw_entry(f, table, from, va, &level);
	u64 size = 1ul << (12 + 9 * level);
	u64 page;

	if (!entry)
		return 0;
	page = (entry & 0x000ffffffffff000ul & ~(size - 1)) | (va & (size - 1) & PAGE_MASK);
	if (f == &pt_format_ept)
		return page | (entry & 0x3f);
	return page | (entry & 0x1f) | (entry >> 63) << 8 |
	       (entry >> (level ? 12 : 7) & 1) << 9; /* PAT */
}

static u64 hw_page(u64 va)
{
	return hw_page_from(pt.format, pt.root, 3, va);
}

static void start(const struct pt_format *format, u8 max_leaf)
{
	assert_int_equal(pt_init(&pt, format, &test_pages, max_leaf), 0);
}

static void finish(void)
{
	pt_destroy(&pt);
	assert_int_equal(nr_used, 0);
}

static void assert_maps(u64 va, u64 pa, u32 attrs, u8 level)
{
	struct pt_mapping m;

	assert_true(pt_walk(&pt, va, &m));
	assert_int_equal(m.pa, pa);
	assert_int_equal(m.attrs, attrs);
	assert_int_equal(m.level, level);
	assert_int_equal(hw_page(va) & 0x000ffffffffff000ul, pa & PAGE_MASK);
}

static void assert_nothing_at(u64 va)
{
	struct pt_mapping m;

	assert_false(pt_walk(&pt, va, &m));
	assert_int_equal(hw_page(va), 0);
}

/* The entries of each format bit for bit, as the manuals draw them. */
static void test_encodings(void **state)
{
	static const struct {
		const struct pt_format *format;
		u32 attrs;
		u64 leaf_4k, leaf_2m;
	} cases[] = {
		{&pt_format_host, PT_READ, 0x8000000000000021, 0x80000000000000a1},
		{&pt_format_host, RW, 0x8000000000000063, 0x80000000000000e3},
		{&pt_format_host, PT_READ | PT_EXEC | PT_GLOBAL, 0x121, 0x1a1},
		{&pt_format_host, RW | PT_WT, 0x800000000000006b, 0x80000000000000eb},
		{&pt_format_host, RW | PT_UC_MINUS, 0x8000000000000073, 0x80000000000000f3},
		{&pt_format_host, RW | PT_UC, 0x800000000000007b, 0x80000000000000fb},
		{&pt_format_host, RW | PT_WC, 0x80000000000000e3, 0x80000000000010e3},
		{&pt_format_host, RW | PT_WP, 0x80000000000000eb, 0x80000000000010eb},
		{&pt_format_npt, PT_READ, 0x8000000000000025, 0x80000000000000a5},
		{&pt_format_npt, RWX, 0x67, 0xe7},
		{&pt_format_npt, RWX | PT_GLOBAL, 0x67, 0xe7},
		{&pt_format_npt, RW | PT_UC, 0x800000000000007f, 0x80000000000000ff},
		{&pt_format_ept, PT_READ, 0x131, 0x1b1},
		{&pt_format_ept, RW, 0x333, 0x3b3},
		{&pt_format_ept, RWX, 0x337, 0x3b7},
		{&pt_format_ept, RW | PT_UC, 0x303, 0x383},
		{&pt_format_ept, RW | PT_WC, 0x30b, 0x38b},
		{&pt_format_ept, RW | PT_WT, 0x323, 0x3a3},
		{&pt_format_ept, RW | PT_WP, 0x32b, 0x3ab},
	};
	unsigned level;
	u64 upper;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct pt_format *f = cases[i].format;
		struct pt_mapping m;

		start(f, PT_LEVEL_1G);
		assert_int_equal(pt_map(&pt, MiB(2), MiB(64), MiB(2) + KiB(4), cases[i].attrs), 0);
		assert_int_equal(hw_entry(f, pt.root, 3, MiB(2), &level),
				 cases[i].leaf_2m | MiB(64));
		assert_int_equal(level, 1);
		assert_int_equal(hw_entry(f, pt.root, 3, MiB(4), &level),
				 cases[i].leaf_4k | MiB(66));
		assert_int_equal(level, 0);
		memcpy(&upper, arena + pt.root, 8);
		assert_int_equal(upper & 0xfff, f == &pt_format_host  ? 0x23
						: f == &pt_format_npt ? 0x27
								      : 0x107);
		assert_true(pt_walk(&pt, MiB(2), &m));
		assert_int_equal(m.attrs & ~PT_GLOBAL, cases[i].attrs & ~PT_GLOBAL);
		assert_true(pt_walk(&pt, MiB(4), &m));
		assert_int_equal(m.attrs & ~PT_GLOBAL, cases[i].attrs & ~PT_GLOBAL);
		finish();
	}
}

static void test_largest_leaves(void **state)
{
	(void)state;
	start(&pt_format_npt, PT_LEVEL_1G);
	assert_int_equal(pt_map(&pt, MiB(1), MiB(1), GiB(3) + KiB(4), RWX), 0);
	assert_nothing_at(MiB(1) - 1);
	assert_maps(MiB(1), MiB(1), RWX, 0);
	assert_maps(MiB(2) - 1, MiB(2) - 1, RWX, 0);
	assert_maps(MiB(2), MiB(2), RWX, 1);
	assert_maps(GiB(1) - 1, GiB(1) - 1, RWX, 1);
	assert_maps(GiB(1), GiB(1), RWX, 2);
	assert_maps(GiB(3) - 1, GiB(3) - 1, RWX, 2);
	assert_maps(GiB(3) + MiB(1) + 4095, GiB(3) + MiB(1) + 4095, RWX, 0);
	assert_nothing_at(GiB(3) + MiB(1) + 4096);
	assert_int_equal(pt_generation(&pt), 0);
	finish();

	/* Both addresses must be aligned, and the owner's limit holds. */
	start(&pt_format_npt, PT_LEVEL_1G);
	assert_int_equal(pt_map(&pt, GiB(1), GiB(2) + MiB(2), GiB(1), RWX), 0);
	assert_maps(GiB(1), GiB(2) + MiB(2), RWX, 1);
	assert_int_equal(pt_map(&pt, GiB(4), GiB(2) + KiB(4), MiB(2), RWX), 0);
	assert_maps(GiB(4), GiB(2) + KiB(4), RWX, 0);
	finish();
	start(&pt_format_npt, PT_LEVEL_2M);
	assert_int_equal(pt_map(&pt, GiB(1), GiB(1), GiB(1), RWX), 0);
	assert_maps(GiB(1), GiB(1), RWX, 1);
	finish();
	start(&pt_format_npt, PT_LEVEL_4K);
	assert_int_equal(pt_map(&pt, MiB(2), MiB(2), MiB(2), RWX), 0);
	assert_maps(MiB(2), MiB(2), RWX, 0);
	finish();
}

static void test_bad_arguments(void **state)
{
	struct pt_mapping m;

	(void)state;
	start(&pt_format_npt, PT_LEVEL_1G);
	assert_int_equal(pt_map(&pt, 1, 0, 4096, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, 1, 4096, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, 0, 4095, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, 0, 0, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, 0, 4096, PT_WRITE), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, 0, 4096, RWX | 0x600), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, 0, 4096, RWX | 0x1000), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, 1ul << 52, 4096, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, (1ul << 52) - 4096, 8192, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, 1ul << 48, 0, 4096, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, (1ul << 48) - 4096, 0, 8192, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, PAGE_MASK, 0, 8192, RWX), E_INVAL);
	assert_int_equal(pt_unmap(&pt, 0, 1), E_INVAL);
	assert_int_equal(pt_unmap(&pt, KiB(8), 0 - KiB(4)), E_INVAL); /* wraps around */
	assert_int_equal(pt_protect(&pt, 0, 4096, 0), E_INVAL);
	assert_int_equal(pt_merge(&pt, 0, 0), E_INVAL);
	assert_false(pt_walk(&pt, 1ul << 48, &m));
	finish();

	start(&pt_format_host, PT_LEVEL_1G);
	assert_int_equal(pt_map(&pt, 0, 0, 4096, RWX), E_INVAL); /* W^X */
	assert_int_equal(pt_map(&pt, 1ul << 47, 0, 4096, RW), E_INVAL);
	assert_int_equal(pt_map(&pt, 0x00007ffffffff000, 0, 8192, RW), E_INVAL);
	/* From one half to the other, over the hole. */
	assert_int_equal(pt_unmap(&pt, 0x00007ffffffff000, 0xffff000000002000), E_INVAL);
	assert_int_equal(pt_map(&pt, 0xffff7ffffffff000, 0, 8192, RW), E_INVAL);
	assert_int_equal(pt_map(&pt, 0xfffffffffffff000, 0, 8192, RW), E_INVAL);
	assert_false(pt_walk(&pt, 1ul << 47, &m));
	assert_int_equal(pt_map(&pt, 0xffff800000000000, 0, GiB(4), RW), 0);
	assert_int_equal(pt_map(&pt, 0xffffffffc0000000, 0, GiB(1), RW), 0);
	assert_int_equal(pt_map(&pt, 0x00007ffffffff000, 0, 4096, RW), 0);
	assert_maps(0xffffffffffffffff, GiB(1) - 1, RW, 2);
	assert_maps(0xffff800000000fff, 0xfff, RW, 2);
	assert_int_equal(pt_protect(&pt, 0xffff800000000000, 4096, RWX), E_INVAL);
	assert_int_equal(pt_unmap(&pt, 0xffffffffffe00000, MiB(2)), 1);
	assert_nothing_at(0xffffffffffffffff);
	assert_maps(0xffffffffffdfffff, GiB(1) - MiB(2) - 1, RW, 1);
	finish();
}

static void test_nothing_is_mapped_twice(void **state)
{
	u32 tables;

	(void)state;
	start(&pt_format_ept, PT_LEVEL_1G);
	assert_int_equal(pt_map(&pt, MiB(4), MiB(4), MiB(2), RWX), 0);
	tables = pt.nr_tables;
	/* What was mapped before the collision is gone again. */
	assert_int_equal(pt_map(&pt, MiB(3), MiB(3), MiB(2), RWX), E_EXIST);
	assert_int_equal(pt_map(&pt, MiB(2), MiB(2), MiB(4), RWX), E_EXIST);
	assert_int_equal(pt_map(&pt, MiB(4) + KiB(4), 0, KiB(4), RWX), E_EXIST);
	assert_int_equal(pt_map(&pt, 0, 0, GiB(1), RWX), E_EXIST);
	assert_nothing_at(MiB(4) - 1);
	assert_nothing_at(MiB(2));
	assert_maps(MiB(4), MiB(4), RWX, 1);
	pt_reclaim(&pt, pt_generation(&pt));
	assert_int_equal(pt.nr_tables, tables);
	finish();
}

static void test_generation_moves_with_what_must_be_flushed(void **state)
{
	u64 g;

	(void)state;
	start(&pt_format_npt, PT_LEVEL_1G);
	assert_int_equal(pt_map(&pt, 0, 0, MiB(4), RWX), 0);
	assert_int_equal(pt_map(&pt, GiB(1), GiB(1), GiB(1), RWX), 0);
	assert_int_equal(pt_generation(&pt), 0);
	assert_int_equal(pt_unmap(&pt, MiB(4), MiB(100)), 0);
	assert_int_equal(pt_protect(&pt, MiB(4), MiB(100), RW), 0);
	assert_int_equal(pt_protect(&pt, 0, MiB(4), RWX), 0);
	assert_int_equal(pt_merge(&pt, 0, GiB(2)), 0);
	assert_int_equal(pt_generation(&pt), 0);
	g = pt_generation(&pt);
	assert_int_equal(pt_protect(&pt, 0, MiB(2), PT_READ), 1);
	assert_true(pt_generation(&pt) > g);
	g = pt_generation(&pt);
	assert_int_equal(pt_unmap(&pt, 0, MiB(2)), 1);
	assert_true(pt_generation(&pt) > g);
	g = pt_generation(&pt);
	assert_int_equal(pt_protect(&pt, GiB(1) + KiB(4), KiB(4), RWX), 0); /* splits */
	assert_true(pt_generation(&pt) > g);
	g = pt_generation(&pt);
	assert_int_equal(pt_merge(&pt, GiB(1), GiB(1)), 1);
	assert_true(pt_generation(&pt) > g);
	assert_maps(GiB(1) + 5, GiB(1) + 5, RWX, 2);
	finish();
}

static void test_tables_wait_for_the_flush(void **state)
{
	u64 g;
	u32 tables;

	(void)state;
	start(&pt_format_npt, PT_LEVEL_2M);
	assert_int_equal(pt_map(&pt, 0, KiB(4), MiB(64), RWX), 0);
	tables = pt.nr_tables;
	g = pt_generation(&pt);
	assert_int_equal(pt_unmap(&pt, 0, MiB(64)), 1);
	assert_int_equal(pt.nr_tables, tables);
	assert_int_equal(pt_reclaim(&pt, g), 0);
	assert_int_equal(pt.nr_tables, tables);
	assert_int_equal(pt_reclaim(&pt, pt_generation(&pt)), tables - 1);
	assert_int_equal(pt.nr_tables, 1);
	assert_int_equal(pt_reclaim(&pt, pt_generation(&pt)), 0);
	finish();
}

/* More unlinked tables than one page of the log lists, then all of it once more. */
static void test_many_unlinked_tables(void **state)
{
	(void)state;
	start(&pt_format_npt, PT_LEVEL_2M);
	for (u32 round = 0; round < 3; round++) {
		assert_int_equal(pt_map(&pt, 0, KiB(4), MiB(2) * 1500, RWX), 0);
		for (u64 i = 0; i < 1500; i++)
			assert_int_equal(pt_unmap(&pt, i * MiB(2), MiB(2)), 1);
		assert_true(pt.nr_tables > 1500);
		assert_true(pt_reclaim(&pt, pt_generation(&pt)) > 1500);
		assert_int_equal(pt.nr_tables, 1);
	}
	assert_int_equal(pt_map(&pt, 0, KiB(4), MiB(2) * 600, RWX), 0);
	for (u64 i = 0; i < 600; i++)
		assert_int_equal(pt_unmap(&pt, i * MiB(2), MiB(2)), 1);
	finish(); /* destroying frees what was never reclaimed, too */
}

static void test_out_of_memory_anywhere(void **state)
{
	struct pt_mapping m;
	u32 n, before;
	int err;

	(void)state;
	for (n = 1, err = E_NOMEM; err; n++) {
		fail_after = n;
		err = pt_init(&pt, &pt_format_npt, &test_pages, PT_LEVEL_1G);
		assert_int_equal(err, n <= 3 ? E_NOMEM : 0);
		assert_true(nr_used == 0 || !err);
	}
	before = nr_used;
	for (n = 1, err = E_NOMEM; err; n++) {
		fail_after = n;
		err = pt_map(&pt, GiB(1) - MiB(3), GiB(7) - MiB(3), GiB(1) + MiB(6), RWX);
		fail_after = 0;
		if (!err)
			break;
		assert_int_equal(err, E_NOMEM);
		for (u64 va = GiB(1) - MiB(4); va < GiB(2) + MiB(8); va += KiB(512))
			assert_nothing_at(va);
		pt_reclaim(&pt, pt_generation(&pt));
		assert_int_equal(nr_used, before);
	}
	assert_int_equal(n, 6); /* two level-1 tables beside one level-2, two level-0 */
	for (n = 1, err = E_NOMEM; err < 0; n++) {
		fail_after = n;
		err = pt_unmap(&pt, GiB(1) + KiB(4), MiB(512));
		fail_after = 0;
		if (err < 0)
			for (u64 va = GiB(1) - MiB(3); va < GiB(2) + MiB(3); va += KiB(4))
				assert_int_equal(hw_page(va), (va + GiB(6)) | 7);
	}
	assert_int_equal(err, 1);
	assert_true(pt_walk(&pt, GiB(1), &m));
	assert_nothing_at(GiB(1) + KiB(4));
	assert_nothing_at(GiB(1) + MiB(512));
	assert_maps(GiB(1) + MiB(512) + KiB(4), GiB(7) + MiB(512) + KiB(4), RWX, 0);
	finish();
}

/* T-P2: a dirty large leaf that is split leaves every small page dirty; merging keeps dirt. */
static void test_dirty_survives_split_and_merge(void **state)
{
	unsigned level;
	u64 *entry;

	(void)state;
	start(&pt_format_npt, PT_LEVEL_2M);
	assert_int_equal(pt_map(&pt, 0, 0, MiB(2), RWX), 0);
	assert_int_equal(pt_protect(&pt, 0, MiB(2), PT_READ | PT_EXEC), 1);
	assert_int_equal(pt_protect(&pt, KiB(8), KiB(4), RWX), 1);
	for (u64 va = 0; va < MiB(2); va += KiB(4))
		assert_int_equal(hw_entry(pt.format, pt.root, 3, va, &level) & 0x60, 0x60);
	finish();

	start(&pt_format_npt, PT_LEVEL_2M);
	assert_int_equal(pt_map(&pt, 0, MiB(2), MiB(2) - KiB(4), PT_READ), 0);
	assert_int_equal(pt_map(&pt, MiB(2) - KiB(4), MiB(4) - KiB(4), KiB(4), PT_READ), 0);
	assert_int_equal(hw_entry(pt.format, pt.root, 3, 0, &level) & 0x40, 0);
	entry = (u64 *)arena; /* the CPU makes one page dirty: find its entry in the arena */
	while (*entry != (0x8000000000000025 | (MiB(2) + KiB(40))))
		entry++;
	*entry |= 0x40;
	assert_int_equal(pt_merge(&pt, 0, MiB(2)), 1);
	assert_int_equal(hw_entry(pt.format, pt.root, 3, 0, &level), 0x80000000000000e5 | MiB(2));
	assert_int_equal(level, 1);
	finish();
}

/* A page that differs in address, rights or type, is missing or is misaligned prevents a merge. */
static void test_no_false_merge(void **state)
{
	(void)state;
	start(&pt_format_ept, PT_LEVEL_2M);
	assert_int_equal(pt_map(&pt, 0, KiB(4), MiB(2), RWX), 0);
	assert_int_equal(pt_merge(&pt, 0, MiB(2)), 0);
	assert_int_equal(pt_unmap(&pt, 0, MiB(2)), 1);
	assert_int_equal(pt_map(&pt, 0, 0, MiB(2), RWX), 0);
	for (u64 va = 0; va < MiB(2); va += KiB(508)) {
		va &= PAGE_MASK;
		assert_int_equal(pt_protect(&pt, va, KiB(4), RW), 1);
		assert_int_equal(pt_merge(&pt, 0, MiB(2)), 0);
		assert_int_equal(pt_protect(&pt, va, KiB(4), RWX | PT_UC), 1);
		assert_int_equal(pt_merge(&pt, 0, MiB(2)), 0);
		assert_int_equal(pt_unmap(&pt, va, KiB(4)), 1);
		assert_int_equal(pt_merge(&pt, 0, MiB(2)), 0);
		assert_int_equal(pt_map(&pt, va, GiB(1), KiB(4), RWX), 0);
		assert_int_equal(pt_merge(&pt, 0, MiB(2)), 0);
		assert_int_equal(pt_unmap(&pt, va, KiB(4)), 1);
		assert_int_equal(pt_map(&pt, va, va, KiB(4), RWX), 0);
	}
	assert_int_equal(pt_merge(&pt, KiB(4), MiB(2)), 0); /* not the whole of it */
	assert_int_equal(pt_merge(&pt, 0, MiB(2)), 1);
	assert_maps(MiB(1), MiB(1), RWX, 1);
	finish();
}

/*
 * Recording memory. The window is where random operations happen: 8 MiB at the border of two
 * gigabytes, so that every level takes part.
 */
#define WINDOW_PAGES 2048u
#define WINDOW	     (GiB(3) - MiB(4))

static u64 old_page[WINDOW_PAGES], new_page[WINDOW_PAGES];
static hpa_t cached_table[4][2]; /* of levels 1 and 0 over each 2 MiB, as of the last reclaim */
static u64 stores;

static u64 window_va(u32 i)
{
	return WINDOW + i * PAGE_SIZE;
}

static void check_old_or_new(void)
{
	stores++;
	/* Every page each 16th time, a random one of each 16 otherwise. */
	for (u32 i = 0; i < WINDOW_PAGES; i++) {
		u64 page;

		if (stores % 16 && i % 16 != rng(16))
			continue;
		page = hw_page(window_va(i));
		assert_true(page == old_page[i] || page == new_page[i]);
	}
}

/* The table of a level that translates va, 0 when there is none. */
static hpa_t table_for(u64 va, unsigned level)
{
	hpa_t table = pt.root;

	for (unsigned l = 3; l > level; l--) {
		u64 entry;

		memcpy(&entry, arena + table + (va >> (12 + 9 * l) & 511) * 8, 8);
		if (!(entry & (pt.format == &pt_format_ept ? 7 : 1)) || entry & 0x80)
			return 0;
		table = entry & 0x000ffffffffff000ul;
	}
	return table;
}

static void remember_tables(void)
{
	for (u32 i = 0; i < 4; i++)
		for (unsigned level = 0; level < 2; level++)
			cached_table[i][level] = table_for(WINDOW + i * MiB(2), level);
}

/* Until the reclaim a CPU may use tables it knows from before: what they say was true once. */
static void check_stale_walks(void)
{
	for (u32 i = 0; i < WINDOW_PAGES; i++) {
		for (unsigned level = 0; level < 2; level++) {
			hpa_t table = cached_table[i / 512][level];
			u64 page;

			if (!table)
				continue;
			page = hw_page_from(pt.format, table, level, window_va(i));
			assert_true(page == 0 || page == old_page[i] || page == new_page[i]);
		}
	}
}

static u64 as_page(u64 pa, u32 attrs)
{
	if (pt.format == &pt_format_ept)
		return pa | (attrs & 7) | (attrs & PT_TYPE_MASK ? 0 : 6 << 3);
	return pa | 5 | (attrs & PT_WRITE ? 2 : 0) | (attrs & PT_TYPE_MASK ? 0x18 : 0) |
	       (attrs & PT_EXEC ? 0ul : 1ul) << 8;
}

static u32 random_attrs(void)
{
	return PT_READ | (rng(2) ? PT_WRITE : 0) | (rng(2) ? PT_EXEC : 0) |
	       (rng(4) ? PT_WB : PT_UC);
}

/* One random operation over random pages of the window, with what it is to lead to in new_page[].
 */
static void random_operation(void)
{
	static const u32 grain[] = {1, 16, 512, 1024};
	u32 g = grain[rng(ARRAY_SIZE(grain))];
	u32 first = (u32)rng(WINDOW_PAGES / g) * g;
	u32 count = (u32)(1 + rng((WINDOW_PAGES - first) / g)) * g;
	u32 attrs = random_attrs();
	u64 pa = GiB(5) - MiB(4) + first * PAGE_SIZE + (rng(4) ? 0 : KiB(4));
	u64 op = rng(4);
	bool empty = true, any = false;
	int ret = 0;

	for (u32 i = first; i < first + count; i++) {
		empty &= !old_page[i];
		any |= old_page[i] != 0;
		if (op == 0)
			new_page[i] = as_page(pa + (i - first) * PAGE_SIZE, attrs);
		else if (op == 1)
			new_page[i] = 0;
		else if (op == 2 && old_page[i])
			new_page[i] = as_page(old_page[i] & 0x000ffffffffff000ul, attrs);
	}
	if (op == 0)
		ret = pt_map(&pt, window_va(first), pa, count * PAGE_SIZE, attrs);
	else if (op == 1)
		ret = pt_unmap(&pt, window_va(first), count * PAGE_SIZE);
	else if (op == 2)
		ret = pt_protect(&pt, window_va(first), count * PAGE_SIZE, attrs);
	else
		ret = pt_merge(&pt, window_va(first), count * PAGE_SIZE);
	if (op == 0) {
		assert_int_equal(ret, empty ? 0 : E_EXIST);
		if (ret)
			memcpy(new_page, old_page, sizeof(new_page));
	} else if (op == 1) {
		assert_int_equal(ret, any);
	} else {
		assert_true(ret >= 0);
	}
}

static void random_operations(const struct pt_format *format)
{
	start(format, PT_LEVEL_1G);
	memset(old_page, 0, sizeof(old_page));
	memset(new_page, 0, sizeof(new_page));
	stores = 0;
	for (u32 round = 0; round < 250; round++) {
		remember_tables();
		pt_store_hook = check_old_or_new;
		random_operation();
		pt_store_hook = NULL;
		for (u32 i = 0; i < WINDOW_PAGES; i++)
			assert_int_equal(hw_page(window_va(i)), new_page[i]);
		check_stale_walks();
		memcpy(old_page, new_page, sizeof(old_page));
		pt_reclaim(&pt, pt_generation(&pt));
	}
	assert_true(stores > 1000);
	assert_int_equal(pt_unmap(&pt, WINDOW, MiB(8)) >= 0, 1);
	pt_reclaim(&pt, pt_generation(&pt));
	assert_int_equal(pt.nr_tables, 1);
	finish();
}

static void test_every_store_shows_old_or_new(void **state)
{
	(void)state;
	random_operations(&pt_format_npt);
	random_operations(&pt_format_ept);
}

/* A gigabyte leaf taken apart and put together again. */
static void test_gigabyte_split_shows_no_hole(void **state)
{
	(void)state;
	start(&pt_format_npt, PT_LEVEL_1G);
	assert_int_equal(pt_map(&pt, GiB(2), GiB(8), GiB(2), RWX), 0);
	for (u32 i = 0; i < WINDOW_PAGES; i++)
		old_page[i] = new_page[i] = as_page(window_va(i) + GiB(6), RWX);
	pt_store_hook = check_old_or_new;
	new_page[1024] = as_page(window_va(1024) + GiB(6), PT_READ);
	assert_int_equal(pt_protect(&pt, GiB(3), KiB(4), PT_READ), 1);
	memcpy(old_page, new_page, sizeof(old_page));
	for (u32 i = 1023; i < 1026; i++)
		new_page[i] = 0;
	assert_int_equal(pt_unmap(&pt, window_va(1023), KiB(12)), 1);
	memcpy(old_page, new_page, sizeof(old_page));
	for (u32 i = 1023; i < 1026; i++)
		new_page[i] = as_page(window_va(i) + GiB(6), RWX);
	assert_int_equal(pt_map(&pt, window_va(1023), window_va(1023) + GiB(6), KiB(12), RWX), 0);
	memcpy(old_page, new_page, sizeof(old_page));
	assert_int_equal(pt_merge(&pt, 0, GiB(4)), 1);
	pt_store_hook = NULL;
	assert_maps(GiB(3), GiB(9), RWX, 2);
	assert_maps(GiB(3) - 1, GiB(9) - 1, RWX, 2);
	assert_int_equal(pt_reclaim(&pt, pt_generation(&pt)), 4);
	finish();
}

/* T-P3: 52-bit frames at 48-bit addresses against plain arithmetic; the alias 4 GiB lower is free.
 */
static void test_wide_addresses(void **state)
{
	static const u64 bases[] = {GiB(256) - MiB(2), (1ul << 48) - MiB(4), (1ul << 40) - MiB(4)};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		start(&pt_format_npt, PT_LEVEL_4K);
		assert_int_equal(pt_map(&pt, bases[i], (1ul << 52) - MiB(4), MiB(4), RWX), 0);
		for (u64 at = 0; at < MiB(4); at += 4095)
			assert_maps(bases[i] + at, (1ul << 52) - MiB(4) + at, RWX, 0);
		for (u64 at = 0; at < MiB(4); at += KiB(4))
			assert_nothing_at((bases[i] + at) & 0xffffffff);
		finish();
	}
	for (u32 i = 0; i < 1500; i++) {
		u64 va = rng64() >> 16 & PAGE_MASK, pa = rng64() >> 12 & PAGE_MASK;

		start(&pt_format_ept, PT_LEVEL_1G);
		assert_int_equal(pt_map(&pt, va, pa, KiB(4), RWX), 0);
		assert_maps(va + 123, pa + 123, RWX, 0);
		assert_nothing_at(va ^ 1ul << (12 + rng(36)));
		assert_int_equal(pt_unmap(&pt, va, KiB(4)), 1);
		finish();
	}
}

/*
 * T-P1: two CPUs map, split, merge and unmap 2 MiB windows while two others walk them. A walk finds
 * the one right frame or nothing. Tables are reclaimed only when the walkers have acknowledged.
 */
static _Atomic u64 acknowledged[2];
static _Atomic bool stop_walking;
static _Atomic u64 walks_found, walks_missed;

static void *walker(void *arg)
{
	u64 me = (u64)arg, seed = me + 1;
	bool bad = false;

	while (!atomic_load(&stop_walking)) {
		atomic_store(&acknowledged[me], pt_generation(&pt));
		for (u32 i = 0; i < 64; i++) {
			struct pt_mapping m;
			u64 va;

			seed = seed * 6364136223846793005ul + 1442695040888963407ul;
			va = seed >> 32 & (MiB(4) - 1);
			if (!pt_walk(&pt, va, &m)) {
				atomic_fetch_add(&walks_missed, 1);
				continue;
			}
			atomic_fetch_add(&walks_found, 1);
			bad |= m.pa != va + GiB(1) || !(m.attrs & PT_READ);
		}
	}
	atomic_store(&acknowledged[me], ~0ul);
	return (void *)(u64)bad;
}

static void *mutator(void *arg)
{
	u64 base = (u64)arg * MiB(2);
	bool bad = false;

	for (u32 round = 0; round < 3000; round++) {
		u64 page = base + KiB(4) * (round * 37 % 512);
		u64 low;

		bad |= pt_map(&pt, base, base + GiB(1), MiB(2), RWX) != 0;
		bad |= pt_protect(&pt, page, KiB(4), PT_READ) != 1;
		bad |= pt_protect(&pt, page, KiB(4), RWX) != 1;
		bad |= pt_merge(&pt, base, MiB(2)) != 1;
		bad |= pt_unmap(&pt, page, KiB(4)) != 1;
		bad |= pt_unmap(&pt, base, MiB(2)) != 1;
		low = min_u64(atomic_load(&acknowledged[0]), atomic_load(&acknowledged[1]));
		pt_reclaim(&pt, low);
	}
	return (void *)(u64)bad;
}

static void test_walks_beside_changes(void **state)
{
	pthread_t walkers[2], mutators[2];
	void *bad;

	(void)state;
	start(&pt_format_npt, PT_LEVEL_2M);
	atomic_store(&stop_walking, false);
	for (u64 i = 0; i < 2; i++) {
		acknowledged[i] = 0;
		assert_int_equal(pthread_create(&walkers[i], NULL, walker, (void *)i), 0);
		assert_int_equal(pthread_create(&mutators[i], NULL, mutator, (void *)i), 0);
	}
	for (u64 i = 0; i < 2; i++) {
		pthread_join(mutators[i], &bad);
		assert_null(bad);
	}
	atomic_store(&stop_walking, true);
	for (u64 i = 0; i < 2; i++) {
		pthread_join(walkers[i], &bad);
		assert_null(bad);
	}
	assert_true(walks_found && walks_missed);
	pt_reclaim(&pt, pt_generation(&pt));
	assert_int_equal(pt.nr_tables, 1);
	finish();
}

/* The frames behind pt_alloc_frames come and go. */
static void test_tables_from_the_frame_allocator(void **state)
{
	struct frame_stats before, after;

	(void)state;
	memset(arena, 0xaa, MiB(2));
	frame_init();
	assert_int_equal(frame_add(PAGE_SIZE, MiB(1)), 0);
	frame_stats(&before);
	assert_int_equal(pt_init(&pt, &pt_format_npt, &pt_alloc_frames, PT_LEVEL_2M), 0);
	assert_int_equal(pt_map(&pt, 0, 0, MiB(2) - KiB(4), RWX), 0);
	frame_stats(&after);
	assert_int_equal(before.free - after.free, 6); /* four levels, two pages for logs */
	assert_nothing_at(MiB(2) - KiB(4));
	assert_int_equal(pt_map(&pt, 0x800000000000, 0, MiB(2) * 300, RWX | PT_WC), 0);
	assert_int_equal(pt_map(&pt, MiB(4), KiB(4), GiB(1), RWX), E_NOMEM);
	assert_nothing_at(MiB(4));
	pt_destroy(&pt);
	frame_stats(&after);
	assert_int_equal(before.free, after.free);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_encodings),
		TEST(test_largest_leaves),
		TEST(test_bad_arguments),
		TEST(test_nothing_is_mapped_twice),
		TEST(test_generation_moves_with_what_must_be_flushed),
		TEST(test_tables_wait_for_the_flush),
		TEST(test_many_unlinked_tables),
		TEST(test_out_of_memory_anywhere),
		TEST(test_dirty_survives_split_and_merge),
		TEST(test_no_false_merge),
		TEST(test_every_store_shows_old_or_new),
		TEST(test_gigabyte_split_shows_no_hole),
		TEST(test_wide_addresses),
		TEST(test_walks_beside_changes),
		TEST(test_tables_from_the_frame_allocator),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
