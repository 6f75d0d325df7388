/* The page-table engine's rig: memory for tables, and a walker written from the manuals. */
#include "tests/ptable_rig.h"

#include <stdlib.h>
#include <string.h>

#include "lib/error.h"
#include "mm/frame.h"

#define ARENA_PAGES 8192u

u64 direct_base_;

u8 *rig_arena;
static u8 used[ARENA_PAGES];
u32 rig_nr_used;
u32 rig_fail_after;
struct ptable pt;

/* Page 0 is never given out, so that an entry without an address shows. */
void *page_alloc(u64 size) {
	static u32 next = 1;

	assert_int_equal(size, PAGE_SIZE);
	if (rig_fail_after && --rig_fail_after == 0) return NULL;
	for (u32 i = 0; i < ARENA_PAGES; i++, next++) {
		u32 at = next % ARENA_PAGES;

		if (at == 0 || used[at]) continue;
		used[at] = 1;
		rig_nr_used++;
		return memset(phys_to_virt(at * PAGE_SIZE), 0, PAGE_SIZE);
	}
	return NULL;
}

/* A freed page looks like a table of nonsense. */
void page_free(const void *page, u64 size) {
	pfn_t pfn = virt_to_phys(page) >> PAGE_SHIFT;

	assert_true(size == PAGE_SIZE && pfn && pfn < ARENA_PAGES);
	assert_int_equal(used[pfn], 1);
	used[pfn] = 0;
	rig_nr_used--;
	memset(phys_to_virt(pfn * PAGE_SIZE), 0xdb, PAGE_SIZE);
}

int rig_setup(void **state) {
	(void)state;
	rig_arena = aligned_alloc(PAGE_SIZE, ARENA_PAGES * PAGE_SIZE);
	direct_base_ = (u64)rig_arena;
	memset(used, 0, sizeof(used));
	rig_nr_used = 0;
	rig_fail_after = 0;
	return 0;
}

int rig_teardown(void **state) {
	(void)state;
	pt_store_hook = NULL;
	free(rig_arena);
	return 0;
}

u64 hw_entry(const struct pt_format *f, hpa_t table, unsigned level, u64 va, unsigned *leaf) {
	u64 present = f == &pt_format_ept ? 7 : 1;

	for (;; level--) {
		u64 entry;

		assert_true(table / PAGE_SIZE < ARENA_PAGES);
		memcpy(&entry, rig_arena + table + (va >> (12 + 9 * level) & 511) * 8, 8);
		*leaf = level;
		if (!(entry & present)) return 0;
		if (level == 0 || entry & 0x80) return entry;
		table = entry & 0x000ffffffffff000ul;
	}
}

u64 hw_page_from(const struct pt_format *f, hpa_t table, unsigned from, u64 va) {
	unsigned level = 0;
	u64 entry = hw_entry(f, table, from, va, &level);
	u64 size = 1ul << (12 + 9 * level);

	if (!entry) return 0;
	u64 page = (entry & 0x000ffffffffff000ul & ~(size - 1)) | (va & (size - 1) & PAGE_MASK);
	if (f == &pt_format_ept) return page | (entry & 0x3f);
	return page | (entry & 0x1f) | (entry >> 63) << 8 |
	       (entry >> (level ? 12 : 7) & 1) << 9; /* PAT */
}

u64 hw_page(u64 va) { return hw_page_from(pt.format, pt.root, 3, va); }

void rig_start(const struct pt_format *format, u8 max_leaf) {
	assert_int_equal(pt_init(&pt, format, max_leaf), 0);
}

void rig_finish(void) {
	pt_destroy(&pt);
	assert_int_equal(rig_nr_used, 0);
}

void assert_maps(u64 va, u64 pa, u32 attrs, u8 level) {
	struct pt_mapping m;

	assert_true(pt_walk(&pt, va, &m));
	assert_int_equal(m.pa, pa);
	assert_int_equal(m.attrs, attrs);
	assert_int_equal(m.level, level);
	assert_int_equal(hw_page(va) & 0x000ffffffffff000ul, pa & PAGE_MASK);
}

void assert_nothing_at(u64 va) {
	struct pt_mapping m;

	assert_false(pt_walk(&pt, va, &m));
	assert_int_equal(hw_page(va), 0);
}
