// sources: mm/ptable.c mm/ptable_formats.c tests/ptable_rig.c
/*
 * The page-table engine while tables change under those that walk them. A hook runs the rig's
 * walker after each single change of a linked table: every page must have its old or its new
 * translation then. A second walk starts from tables remembered earlier, as a paging-structure
 * cache would, until they are reclaimed. Then threads walk beside threads that change.
 */
#include "tests/ptable_rig.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "lib/error.h"

/*
 * Recording memory. The window is where random operations happen: 8 MiB at the border of two
 * gigabytes, so that every level takes part.
 */
#define WINDOW_PAGES 2048u
#define WINDOW	     (GiB(3) - MiB(4))

static u64 old_page[WINDOW_PAGES], new_page[WINDOW_PAGES];
static hpa_t cached_table[4][2]; /* of levels 1 and 0 over each 2 MiB, as of the last reclaim */
static u64 stores;

static u64 window_va(u32 i) { return WINDOW + i * PAGE_SIZE; }

static void check_old_or_new(void) {
	stores++;
	/* Every page each 16th time, a random one of each 16 otherwise. */
	for (u32 i = 0; i < WINDOW_PAGES; i++) {
		u64 page;

		if (stores % 16 && i % 16 != rig_below(16)) continue;
		page = hw_page(window_va(i));
		assert_true(page == old_page[i] || page == new_page[i]);
	}
}

/* The table of a level that translates va, 0 when there is none. */
static hpa_t table_for(u64 va, unsigned level) {
	hpa_t table = pt.root;

	for (unsigned l = 3; l > level; l--) {
		u64 entry;

		memcpy(&entry, rig_arena + table + (va >> (12 + 9 * l) & 511) * 8, 8);
		if (!(entry & (pt.format == &pt_format_ept ? 7 : 1)) || entry & 0x80) return 0;
		table = entry & 0x000ffffffffff000ul;
	}
	return table;
}

static void remember_tables(void) {
	for (u32 i = 0; i < 4; i++)
		for (unsigned level = 0; level < 2; level++)
			cached_table[i][level] = table_for(WINDOW + i * MiB(2), level);
}

/* Until the reclaim a CPU may use tables it knows from before: what they say was true once. */
static void check_stale_walks(void) {
	for (u32 i = 0; i < WINDOW_PAGES; i++) {
		for (unsigned level = 0; level < 2; level++) {
			hpa_t table = cached_table[i / 512][level];
			u64 page;

			if (!table) continue;
			page = hw_page_from(pt.format, table, level, window_va(i));
			assert_true(page == 0 || page == old_page[i] || page == new_page[i]);
		}
	}
}

static u64 as_page(u64 pa, u32 attrs) {
	if (pt.format == &pt_format_ept)
		return pa | (attrs & 7) | (attrs & PT_TYPE_MASK ? 0 : 6 << 3);
	return pa | 5 | (attrs & PT_WRITE ? 2 : 0) | (attrs & PT_TYPE_MASK ? 0x18 : 0) |
	       (attrs & PT_EXEC ? 0ul : 1ul) << 8;
}

static u32 random_attrs(void) {
	return PT_READ | (rig_below(2) ? PT_WRITE : 0) | (rig_below(2) ? PT_EXEC : 0) |
	       (rig_below(4) ? PT_WB : PT_UC);
}

/* One random operation over random pages of the window, with what it is to lead to in new_page[].
 */
static void random_operation(void) {
	static const u32 grain[] = {1, 16, 512, 1024};
	u32 g = grain[rig_below(ARRAY_SIZE(grain))];
	u32 first = (u32)rig_below(WINDOW_PAGES / g) * g;
	u32 count = (u32)(1 + rig_below((WINDOW_PAGES - first) / g)) * g;
	u32 attrs = random_attrs();
	u64 pa = GiB(5) - MiB(4) + first * PAGE_SIZE + (rig_below(4) ? 0 : KiB(4));
	u64 op = rig_below(3);
	bool empty = true;
	int ret = 0;

	for (u32 i = first; i < first + count; i++) {
		empty &= !old_page[i];
		if (op == 0 && !old_page[i])
			new_page[i] = as_page(pa + (i - first) * PAGE_SIZE, attrs);
		else if (op == 1 && old_page[i])
			new_page[i] = as_page(old_page[i] & 0x000ffffffffff000ul, attrs);
	}
	if (op == 0)
		ret = pt_map(&pt, window_va(first), pa, count * PAGE_SIZE, attrs);
	else if (op == 1)
		ret = pt_protect(&pt, window_va(first), count * PAGE_SIZE, attrs);
	else
		ret = pt_merge(&pt, window_va(first), count * PAGE_SIZE);
	if (op == 0) {
		assert_int_equal(ret, empty ? 0 : E_EXIST);
		for (u32 i = first; ret && i < first + count; i++) /* as far as it came */
			if (!hw_page(window_va(i))) new_page[i] = 0;
	} else {
		assert_true(ret >= 0);
	}
}

static void random_operations(const struct pt_format *format) {
	stores = 0;
	rig_start(format, PT_LEVEL_1G);
	for (u32 round = 0; round < 400; round++) {
		if (round % 10 == 0) { /* the window has filled up */
			rig_finish();
			rig_start(format, PT_LEVEL_1G);
			memset(old_page, 0, sizeof(old_page));
			memset(new_page, 0, sizeof(new_page));
		}
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
	rig_finish();
}

static void test_every_store_shows_old_or_new(void **state) {
	(void)state;
	random_operations(&pt_format_npt);
	random_operations(&pt_format_ept);
}

/* A gigabyte leaf taken apart and put together again. */
static void test_gigabyte_split_shows_no_hole(void **state) {
	(void)state;
	rig_start(&pt_format_npt, PT_LEVEL_1G);
	assert_int_equal(pt_map(&pt, GiB(2), GiB(8), GiB(2), RWX), 0);
	for (u32 i = 0; i < WINDOW_PAGES; i++)
		old_page[i] = new_page[i] = as_page(window_va(i) + GiB(6), RWX);
	pt_store_hook = check_old_or_new;
	new_page[1024] = as_page(window_va(1024) + GiB(6), PT_READ);
	assert_int_equal(pt_protect(&pt, GiB(3), KiB(4), PT_READ), 1);
	memcpy(old_page, new_page, sizeof(old_page));
	for (u32 i = 1023; i < 1026; i++) new_page[i] = as_page(window_va(i) + GiB(6), RW);
	assert_int_equal(pt_protect(&pt, window_va(1023), KiB(12), RW), 1);
	memcpy(old_page, new_page, sizeof(old_page));
	for (u32 i = 1023; i < 1026; i++) new_page[i] = as_page(window_va(i) + GiB(6), RWX);
	assert_int_equal(pt_protect(&pt, window_va(1023), KiB(12), RWX), 0);
	memcpy(old_page, new_page, sizeof(old_page));
	assert_int_equal(pt_merge(&pt, 0, GiB(4)), 1);
	pt_store_hook = NULL;
	assert_maps(GiB(3), GiB(9), RWX, 2);
	assert_maps(GiB(3) - 1, GiB(9) - 1, RWX, 2);
	u32 pages = rig_nr_used;
	pt_reclaim(&pt, pt_generation(&pt));
	assert_int_equal(pages - rig_nr_used, 4 + 1); /* two tables of each gigabyte, their list */
	rig_finish();
}

/*
 * T-P1: two CPUs map, split and merge 2 MiB windows while two others walk them. A walk finds the
 * one right frame, or nothing before the first mapping. Tables are reclaimed only when the walkers
 * have acknowledged.
 */
static _Atomic u64 acknowledged[2];
static _Atomic bool stop_walking;
static _Atomic u64 walks_found, walks_missed;

static void *walker(void *arg) {
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

/* When neither changes anything, one waits for the walkers and reclaims. */
static pthread_barrier_t quiet;

static void *mutator(void *arg) {
	u64 base = (u64)arg * MiB(2);
	bool bad = false;

	while (!atomic_load(&walks_missed)) sched_yield();
	bad |= pt_map(&pt, base, base + GiB(1), MiB(2), RWX) != 0;
	for (u32 round = 0; round < 2000; round++) {
		u64 page = base + KiB(4) * (round * 37 % 512);

		bad |= pt_protect(&pt, page, KiB(4), PT_READ) != 1;
		bad |= pt_protect(&pt, page, KiB(4), RWX) != 0;
		bad |= pt_merge(&pt, base, MiB(2)) != 1;
		if (round % 16) continue;
		pthread_barrier_wait(&quiet);
		while (!base && min_u64(atomic_load(&acknowledged[0]),
					atomic_load(&acknowledged[1])) < pt_generation(&pt))
			sched_yield();
		if (!base) pt_reclaim(&pt, pt_generation(&pt));
		pthread_barrier_wait(&quiet);
	}
	return (void *)(u64)bad;
}

static void test_walks_beside_changes(void **state) {
	pthread_t walkers[2], mutators[2];
	void *bad;

	(void)state;
	rig_start(&pt_format_npt, PT_LEVEL_2M);
	atomic_store(&stop_walking, false);
	pthread_barrier_init(&quiet, NULL, 2);
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
	assert_int_equal(rig_nr_used, 3); /* one of each level above the two leaves */
	rig_finish();
}

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_every_store_shows_old_or_new),
		TEST(test_gigabyte_split_shows_no_hole),
		TEST(test_walks_beside_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
