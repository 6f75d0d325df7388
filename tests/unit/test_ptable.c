// sources: mm/ptable.c mm/ptable_formats.c tests/ptable_rig.c
/* The page-table engine: what each operation leads to, its errors, and what becomes of its tables.
 */
#include "tests/ptable_rig.h"

#include <string.h>

#include "lib/error.h"
#include "mm/frame.h"

/* The entries of each format bit for bit, as the manuals draw them. */
static void test_encodings(void **state) {
	static const struct {
		const struct pt_format *format;
		u32 attrs;
		u64 leaf_4k, leaf_2m;
	} cases[] = {
		{&pt_format_host, PT_READ, 0x8000000000000021, 0x80000000000000a1},
		{&pt_format_host, RW, 0x8000000000000063, 0x80000000000000e3},
		{&pt_format_host, PT_READ | PT_EXEC | PT_GLOBAL, 0x121, 0x1a1},
		{&pt_format_host, RW | PT_UC, 0x800000000000007b, 0x80000000000000fb},
		{&pt_format_host, RW | PT_WC, 0x80000000000000e3, 0x80000000000010e3},
		{&pt_format_npt, PT_READ, 0x8000000000000025, 0x80000000000000a5},
		{&pt_format_npt, RWX, 0x67, 0xe7},
		{&pt_format_npt, RWX | PT_GLOBAL, 0x67, 0xe7},
		{&pt_format_npt, RW | PT_UC, 0x800000000000007f, 0x80000000000000ff},
		{&pt_format_ept, PT_READ, 0x131, 0x1b1},
		{&pt_format_ept, RW, 0x333, 0x3b3},
		{&pt_format_ept, RWX, 0x337, 0x3b7},
		{&pt_format_ept, RW | PT_UC, 0x303, 0x383},
		{&pt_format_ept, RW | PT_WC, 0x30b, 0x38b},
	};
	unsigned level;
	u64 upper;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct pt_format *f = cases[i].format;
		struct pt_mapping m;

		rig_start(f, PT_LEVEL_1G);
		assert_int_equal(pt_map(&pt, MiB(2), MiB(64), MiB(2) + KiB(4), cases[i].attrs), 0);
		assert_int_equal(hw_entry(f, pt.root, 3, MiB(2), &level),
				 cases[i].leaf_2m | MiB(64));
		assert_int_equal(level, 1);
		assert_int_equal(hw_entry(f, pt.root, 3, MiB(4), &level),
				 cases[i].leaf_4k | MiB(66));
		assert_int_equal(level, 0);
		memcpy(&upper, rig_arena + pt.root, 8);
		assert_int_equal(upper & 0xfff, f == &pt_format_host  ? 0x23
						: f == &pt_format_npt ? 0x27
								      : 0x107);
		assert_true(pt_walk(&pt, MiB(2), &m));
		assert_int_equal(m.attrs & ~PT_GLOBAL, cases[i].attrs & ~PT_GLOBAL);
		assert_true(pt_walk(&pt, MiB(4), &m));
		assert_int_equal(m.attrs & ~PT_GLOBAL, cases[i].attrs & ~PT_GLOBAL);
		rig_finish();
	}
}

static void test_largest_leaves(void **state) {
	(void)state;
	rig_start(&pt_format_npt, PT_LEVEL_1G);
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
	rig_finish();

	/* Both addresses must be aligned, and the owner's limit holds. */
	rig_start(&pt_format_npt, PT_LEVEL_1G);
	assert_int_equal(pt_map(&pt, GiB(1), GiB(2) + MiB(2), GiB(1), RWX), 0);
	assert_maps(GiB(1), GiB(2) + MiB(2), RWX, 1);
	assert_int_equal(pt_map(&pt, GiB(4), GiB(2) + KiB(4), MiB(2), RWX), 0);
	assert_maps(GiB(4), GiB(2) + KiB(4), RWX, 0);
	rig_finish();
	rig_start(&pt_format_npt, PT_LEVEL_2M);
	assert_int_equal(pt_map(&pt, GiB(1), GiB(1), GiB(1), RWX), 0);
	assert_maps(GiB(1), GiB(1), RWX, 1);
	rig_finish();
	rig_start(&pt_format_npt, PT_LEVEL_4K);
	assert_int_equal(pt_map(&pt, MiB(2), MiB(2), MiB(2), RWX), 0);
	assert_maps(MiB(2), MiB(2), RWX, 0);
	rig_finish();
}

static void test_bad_arguments(void **state) {
	struct pt_mapping m;

	(void)state;
	rig_start(&pt_format_npt, PT_LEVEL_1G);
	assert_int_equal(pt_map(&pt, 1, 0, 4096, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, 1, 4096, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, 0, 4095, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, 0, 0, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, 0, 4096, PT_WRITE), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, 0, 4096, RWX | 0x300), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, 0, 4096, RWX | 0x1000), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, 1ul << 52, 4096, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, (1ul << 52) - 4096, 8192, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, 1ul << 48, 0, 4096, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, (1ul << 48) - 4096, 0, 8192, RWX), E_INVAL);
	assert_int_equal(pt_map(&pt, PAGE_MASK, 0, 8192, RWX), E_INVAL);
	assert_int_equal(pt_protect(&pt, 0, 1, RW), E_INVAL);
	assert_int_equal(pt_protect(&pt, KiB(8), 0 - KiB(4), RW), E_INVAL); /* wraps around */
	assert_int_equal(pt_protect(&pt, 0, 4096, PT_EXEC), E_INVAL);
	assert_int_equal(pt_map(&pt, 0, 0, 4096, PT_NONE), E_INVAL);
	assert_int_equal(pt_merge(&pt, 0, 0), E_INVAL);
	assert_false(pt_walk(&pt, 1ul << 48, &m));
	rig_finish();

	rig_start(&pt_format_host, PT_LEVEL_1G);
	assert_int_equal(pt_map(&pt, 0, 0, 4096, RWX), E_INVAL); /* W^X */
	assert_int_equal(pt_map(&pt, 1ul << 47, 0, 4096, RW), E_INVAL);
	assert_int_equal(pt_map(&pt, 0x00007ffffffff000, 0, 8192, RW), E_INVAL);
	/* From one half to the other, over the hole. */
	assert_int_equal(pt_protect(&pt, 0x00007ffffffff000, 0xffff000000002000, RW), E_INVAL);
	assert_int_equal(pt_map(&pt, 0xffff7ffffffff000, 0, 8192, RW), E_INVAL);
	assert_int_equal(pt_map(&pt, 0xfffffffffffff000, 0, 8192, RW), E_INVAL);
	assert_false(pt_walk(&pt, 1ul << 47, &m));
	assert_int_equal(pt_map(&pt, 0xffff800000000000, 0, GiB(4), RW), 0);
	assert_int_equal(pt_map(&pt, 0xffffffffc0000000, 0, GiB(1), RW), 0);
	assert_int_equal(pt_map(&pt, 0x00007ffffffff000, 0, 4096, RW), 0);
	assert_maps(0xffffffffffffffff, GiB(1) - 1, RW, 2);
	assert_maps(0xffff800000000fff, 0xfff, RW, 2);
	assert_int_equal(pt_protect(&pt, 0xffff800000000000, 4096, RWX), E_INVAL);
	assert_int_equal(pt_protect(&pt, 0xffffffffffe00000, MiB(2), PT_READ), 1);
	assert_maps(0xffffffffffffffff, GiB(1) - 1, PT_READ, 1);
	assert_maps(0xffffffffffdfffff, GiB(1) - MiB(2) - 1, RW, 1);
	rig_finish();
}

static void test_nothing_is_mapped_twice(void **state) {
	(void)state;
	rig_start(&pt_format_ept, PT_LEVEL_1G);
	assert_int_equal(pt_map(&pt, MiB(4), MiB(4), MiB(2), RWX), 0);
	u32 pages = rig_nr_used;
	assert_int_equal(pt_map(&pt, MiB(4) + KiB(4), 0, KiB(4), RWX), E_EXIST);
	assert_int_equal(pt_map(&pt, MiB(4), MiB(8), MiB(2), RWX), E_EXIST);
	assert_int_equal(pt_map(&pt, 0, 0, GiB(1), RWX), E_EXIST);
	assert_int_equal(rig_nr_used, pages);
	/* What comes before the collision stays. */
	assert_int_equal(pt_map(&pt, MiB(3), GiB(1) + MiB(3), MiB(2), RWX), E_EXIST);
	assert_maps(MiB(4) - 1, GiB(1) + MiB(4) - 1, RWX, 0);
	assert_maps(MiB(4), MiB(4), RWX, 1);
	assert_nothing_at(MiB(3) - 1);
	rig_finish();
}

/* Without rights a leaf is none, and there is room for another. */
static void test_a_leaf_goes(void **state) {
	(void)state;
	rig_start(&pt_format_ept, PT_LEVEL_1G);
	assert_int_equal(pt_map(&pt, MiB(4), MiB(4), MiB(2), RWX), 0);
	assert_int_equal(pt_protect(&pt, MiB(4) + KiB(4), KiB(4), PT_NONE), 1);
	assert_int_equal(pt_generation(&pt), 1);
	assert_nothing_at(MiB(4) + KiB(4));
	assert_maps(MiB(4) + KiB(8), MiB(4) + KiB(8), RWX, 0);
	assert_int_equal(pt_protect(&pt, MiB(4) + KiB(4), KiB(4), PT_NONE), 0);
	assert_int_equal(pt_map(&pt, MiB(4) + KiB(4), GiB(1), KiB(4), PT_READ), 0);
	assert_maps(MiB(4) + KiB(4), GiB(1), PT_READ, 0);
	rig_finish();
}

static void test_generation_moves_with_what_must_be_flushed(void **state) {
	(void)state;
	rig_start(&pt_format_npt, PT_LEVEL_1G);
	assert_int_equal(pt_map(&pt, 0, 0, MiB(4), RWX), 0);
	assert_int_equal(pt_map(&pt, GiB(1), GiB(1), GiB(1), RWX), 0);
	assert_int_equal(pt_generation(&pt), 0);
	assert_int_equal(pt_protect(&pt, MiB(4), MiB(100), RW), 0);
	assert_int_equal(pt_protect(&pt, 0, MiB(4), RWX), 0);
	assert_int_equal(pt_merge(&pt, 0, GiB(2)), 0);
	assert_int_equal(pt_generation(&pt), 0);
	u64 g = pt_generation(&pt);
	assert_int_equal(pt_protect(&pt, 0, MiB(2), PT_READ), 1);
	assert_true(pt_generation(&pt) > g);
	g = pt_generation(&pt);
	/* Neither a split nor a right more: what a TLB still has is no more than there is. */
	assert_int_equal(pt_protect(&pt, GiB(1) + KiB(4), KiB(4), RWX), 0);
	assert_int_equal(pt_generation(&pt), g);
	assert_int_equal(pt_protect(&pt, MiB(2), MiB(2), RW), 1);
	g = pt_generation(&pt);
	assert_int_equal(pt_protect(&pt, MiB(2), MiB(2), RWX), 0);
	assert_int_equal(pt_generation(&pt), g);
	assert_int_equal(pt_protect(&pt, MiB(2), MiB(2), RWX | PT_UC), 1);
	assert_true(pt_generation(&pt) > g);
	g = pt_generation(&pt);
	assert_int_equal(pt_merge(&pt, GiB(1), GiB(1)), 1);
	assert_true(pt_generation(&pt) > g);
	assert_maps(GiB(1) + 5, GiB(1) + 5, RWX, 2);
	rig_finish();
}

/* More unlinked tables than one page lists. They stay until the flush, or until all is destroyed.
 */
static void test_tables_wait_for_the_flush(void **state) {
	(void)state;
	rig_start(&pt_format_npt, PT_LEVEL_2M);
	assert_int_equal(pt_map(&pt, 0, 0, MiB(2) * 1500, RWX), 0);
	u32 pages = rig_nr_used;
	for (u32 round = 0; round < 3; round++) {
		for (u64 i = 0; i < 1500; i++)
			assert_int_equal(pt_protect(&pt, i * MiB(2), KiB(4), RW), 1);
		for (u64 i = 0; i < 1500; i++)
			assert_int_equal(pt_protect(&pt, i * MiB(2), KiB(4), RWX), 0);
		assert_int_equal(rig_nr_used, pages + 1500);
		u64 g = pt_generation(&pt);
		assert_int_equal(pt_merge(&pt, 0, MiB(2) * 1500), 1);
		pt_reclaim(&pt, g);
		assert_int_equal(rig_nr_used, pages + 1500 + 3);
		if (round < 2) {
			pt_reclaim(&pt, pt_generation(&pt));
			assert_int_equal(rig_nr_used, pages);
		}
	}
	rig_finish();
}

/* With some memory, then more, until it is enough: no error leaves a wrong translation. */
static void test_out_of_memory_anywhere(void **state) {
	struct pt_mapping m;
	int err = E_NOMEM;
	u32 n;

	(void)state;
	rig_fail_after = 1;
	assert_int_equal(pt_init(&pt, &pt_format_npt, PT_LEVEL_1G), E_NOMEM);
	pt_destroy(&pt); /* harmless */
	for (n = 1; err; n++) {
		rig_start(&pt_format_npt, PT_LEVEL_1G);
		rig_fail_after = n;
		err = pt_map(&pt, GiB(1) - MiB(3), GiB(7) - MiB(3), GiB(1) + MiB(6), RWX);
		rig_fail_after = 0;
		assert_true(err == 0 || err == E_NOMEM);
		for (u64 va = GiB(1) - MiB(4); va < GiB(2) + MiB(8); va += KiB(512))
			if (pt_walk(&pt, va, &m)) assert_int_equal(m.pa, va + GiB(6));
		if (err) rig_finish();
	}
	assert_int_equal(n, 7); /* a level-2 table, two level-1, two level-0 */
	for (n = 1, err = E_NOMEM; err < 0; n++) {
		rig_fail_after = n;
		err = pt_protect(&pt, GiB(1) + KiB(4), MiB(512), RW);
		rig_fail_after = 0;
		if (err < 0)
			for (u64 va = GiB(1) - MiB(3); va < GiB(2) + MiB(3); va += KiB(4))
				assert_int_equal(hw_page(va), (va + GiB(6)) | 7);
	}
	assert_int_equal(err, 1);
	assert_maps(GiB(1), GiB(7), RWX, 0);
	assert_maps(GiB(1) + KiB(4), GiB(7) + KiB(4), RW, 0);
	assert_maps(GiB(1) + MiB(512), GiB(7) + MiB(512), RW, 0);
	assert_maps(GiB(1) + MiB(512) + KiB(4), GiB(7) + MiB(512) + KiB(4), RWX, 0);
	/* Without memory to note a table in, it is not merged. */
	assert_int_equal(pt_protect(&pt, GiB(1), GiB(1), RWX), 0);
	rig_fail_after = 1;
	assert_int_equal(pt_merge(&pt, GiB(1), MiB(2)), 0);
	assert_int_equal(pt_merge(&pt, GiB(1), GiB(1)), 1);
	assert_maps(GiB(1), GiB(7), RWX, 2);
	rig_finish();
}

/* T-P2: a dirty large leaf that is split leaves every small page dirty; merging keeps dirt. */
static void test_dirty_survives_split_and_merge(void **state) {
	unsigned level;
	u64 *entry;

	(void)state;
	rig_start(&pt_format_npt, PT_LEVEL_2M);
	assert_int_equal(pt_map(&pt, 0, 0, MiB(2), RWX), 0);
	assert_int_equal(pt_protect(&pt, 0, MiB(2), PT_READ | PT_EXEC), 1);
	assert_int_equal(pt_protect(&pt, KiB(8), KiB(4), RWX), 0);
	for (u64 va = 0; va < MiB(2); va += KiB(4))
		assert_int_equal(hw_entry(pt.format, pt.root, 3, va, &level) & 0x60, 0x60);
	rig_finish();

	rig_start(&pt_format_npt, PT_LEVEL_2M);
	assert_int_equal(pt_map(&pt, 0, MiB(2), MiB(2) - KiB(4), PT_READ), 0);
	assert_int_equal(pt_map(&pt, MiB(2) - KiB(4), MiB(4) - KiB(4), KiB(4), PT_READ), 0);
	assert_int_equal(hw_entry(pt.format, pt.root, 3, 0, &level) & 0x40, 0);
	entry = (u64 *)rig_arena; /* the CPU makes one page dirty: find its entry in the arena */
	while (*entry != (0x8000000000000025 | (MiB(2) + KiB(40)))) entry++;
	*entry |= 0x40;
	assert_int_equal(pt_merge(&pt, 0, MiB(2)), 1);
	assert_int_equal(hw_entry(pt.format, pt.root, 3, 0, &level), 0x80000000000000e5 | MiB(2));
	assert_int_equal(level, 1);
	rig_finish();
}

/* A page that differs in address, rights or type, is missing or is misaligned prevents a merge. */
static void test_no_false_merge(void **state) {
	(void)state;
	rig_start(&pt_format_ept, PT_LEVEL_2M);
	assert_int_equal(pt_map(&pt, MiB(2), KiB(4), MiB(2), RWX), 0);
	assert_int_equal(pt_merge(&pt, MiB(2), MiB(2)), 0);
	for (u64 odd = 0; odd < MiB(2); odd += KiB(508)) {
		u64 va = MiB(4) + MiB(2) * (odd / KiB(508));

		assert_int_equal(pt_map(&pt, va, 0, MiB(2), RWX), 0);
		assert_int_equal(pt_protect(&pt, va + odd, KiB(4), RW), 1);
		assert_int_equal(pt_merge(&pt, va, MiB(2)), 0);
		assert_int_equal(pt_protect(&pt, va + odd, KiB(4), RWX | PT_UC), 1);
		assert_int_equal(pt_merge(&pt, va, MiB(2)), 0);
		assert_int_equal(pt_protect(&pt, va + odd, KiB(4), RWX), 1);
		assert_int_equal(pt_merge(&pt, va + KiB(4), MiB(2)), 0); /* not the whole of it */
		assert_int_equal(pt_merge(&pt, va, MiB(2)), 1);
		assert_maps(va + MiB(1), MiB(1), RWX, 1);
	}
	for (u64 odd = 0; odd < MiB(2); odd += KiB(508)) {
		u64 va = GiB(1) + MiB(2) * (odd / KiB(508));

		/* All but one page, then another frame there. */
		if (odd) assert_int_equal(pt_map(&pt, va, 0, odd, RWX), 0);
		assert_int_equal(pt_map(&pt, va + odd + KiB(4), odd + KiB(4), MiB(2) - KiB(4) - odd,
					RWX),
				 0);
		assert_int_equal(pt_merge(&pt, va, MiB(2)), 0);
		assert_int_equal(pt_map(&pt, va + odd, GiB(1), KiB(4), RWX), 0);
		assert_int_equal(pt_merge(&pt, va, MiB(2)), 0);
	}
	rig_finish();
}

/* T-P3: 52-bit frames at 48-bit addresses against plain arithmetic; the alias 4 GiB lower is free.
 */
static void test_wide_addresses(void **state) {
	static const u64 bases[] = {GiB(256) - MiB(2), (1ul << 48) - MiB(4), (1ul << 40) - MiB(4)};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		rig_start(&pt_format_npt, PT_LEVEL_4K);
		assert_int_equal(pt_map(&pt, bases[i], (1ul << 52) - MiB(4), MiB(4), RWX), 0);
		for (u64 at = 0; at < MiB(4); at += 4095)
			assert_maps(bases[i] + at, (1ul << 52) - MiB(4) + at, RWX, 0);
		for (u64 at = 0; at < MiB(4); at += KiB(4))
			assert_nothing_at((bases[i] + at) & 0xffffffff);
		rig_finish();
	}
	for (u32 i = 0; i < 1500; i++) {
		u64 va = rig_random() >> 16 & PAGE_MASK, pa = rig_random() >> 12 & PAGE_MASK;

		rig_start(&pt_format_ept, PT_LEVEL_1G);
		assert_int_equal(pt_map(&pt, va, pa, KiB(4), RWX), 0);
		assert_maps(va + 123, pa + 123, RWX, 0);
		assert_nothing_at(va ^ 1ul << (12 + rig_below(36)));
		rig_finish();
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_encodings),
		TEST(test_largest_leaves),
		TEST(test_bad_arguments),
		TEST(test_nothing_is_mapped_twice),
		TEST(test_a_leaf_goes),
		TEST(test_generation_moves_with_what_must_be_flushed),
		TEST(test_tables_wait_for_the_flush),
		TEST(test_out_of_memory_anywhere),
		TEST(test_dirty_survives_split_and_merge),
		TEST(test_no_false_merge),
		TEST(test_wide_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
