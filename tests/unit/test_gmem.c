// sources: mm/gmem.c mm/shadow.c mm/ptable.c mm/ptable_formats.c mm/frame.c
// Guest memory over the real frame allocator, whose physical memory is an arena of the test.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "lib/error.h"
#include "mm/direct.h"
#include "mm/frame.h"
#include "mm/gmem.h"
#include "tests/random.h"

#define ARENA_SIZE MiB(160)

u64 direct_base_;

static u8 *arena;
static struct gmem gm;
static struct frame_stats before;

static const struct gmem_config eager_2m = {.max_leaf = PT_LEVEL_2M};
static const struct gmem_config lazy_2m = {.max_leaf = PT_LEVEL_2M, .lazy = true};
static const struct gmem_config lazy_4k = {.max_leaf = PT_LEVEL_4K, .lazy = true};

/* Memory is full of 0xaa at first, as firmware may leave it. */
static int setup(void **state) {
	(void)state;
	arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(arena != MAP_FAILED);
	memset(arena, 0xaa, ARENA_SIZE);
	direct_base_ = (u64)arena;
	frame_init();
	assert_int_equal(frame_add(PAGE_SIZE, ARENA_SIZE - PAGE_SIZE), 0);
	frame_stats(&before);
	return 0;
}

static int teardown(void **state) {
	(void)state;
	munmap(arena, ARENA_SIZE);
	return 0;
}

static void create(const struct gmem_config *config) {
	assert_int_equal(gmem_create(&gm, &pt_format_npt, config), 0);
}

/* In parts that fit neither runs nor blocks. */
static void clear(void) {
	while (!gmem_clear(&gm, MiB(3) + KiB(4))) continue;
	assert_true(gm.clean);
}

/* Everything is back, the guest's part known to be zero and so in fact. */
static void destroy(void) {
	u64 guest = gm.nr_pages;
	struct frame_stats after;

	gm.clean = false;
	clear();
	gmem_destroy(&gm);
	frame_stats(&after);
	assert_int_equal(after.free, before.free);
	assert_true(after.free_zero >= guest);
	gmem_destroy(&gm);
}

static u64 frames_in_use(void) {
	struct frame_stats now;

	frame_stats(&now);
	return before.free - now.free;
}

static bool all_bytes(const u8 *mem, u64 len, u8 value) {
	for (u64 i = 0; i < len; i++)
		if (mem[i] != value) return false;
	return true;
}

static void test_cleared_memory_is_zero(void **state) {
	static u8 buf[MiB(1)];

	(void)state;
	create(&eager_2m);
	assert_int_equal(gmem_add_ram(&gm, 0, MiB(20)), 0);
	assert_false(gm.clean);
	clear();
	for (gpa_t gpa = 0; gpa < MiB(20); gpa += sizeof(buf)) {
		memset(buf, 1, sizeof(buf));
		assert_int_equal(gmem_read(&gm, gpa, buf, sizeof(buf)), 0);
		assert_true(all_bytes(buf, sizeof(buf), 0));
	}
	destroy();
}

/* What one guest wrote is in no frame any more when the next may get it. */
static void test_no_secret_survives(void **state) {
	struct frame_stats after;
	pfn_t pfn[64];
	u32 n = 0;

	(void)state;
	create(&eager_2m);
	assert_int_equal(gmem_add_ram(&gm, 0, MiB(100)), 0);
	assert_int_equal(gmem_fill(&gm, 0, 0x5e, MiB(100)), 0);
	destroy();
	for (u64 at = 0; at < ARENA_SIZE; at += PAGE_SIZE)
		assert_int_not_equal(arena[at + 100], 0x5e);
	frame_stats(&after);
	assert_true(after.free_zero >= MiB(100) >> PAGE_SHIFT);
	while (n < 64 && !frame_alloc(9, FRAME_ZERO, &pfn[n]))
		assert_true(all_bytes(phys_to_virt(pfn[n++] << PAGE_SHIFT), MiB(2), 0));
	assert_true(n > 45);
}

/* Frames that come back uncleared are not taken for zero, those that come back cleared are. */
static void test_what_is_known_to_be_zero(void **state) {
	(void)state;
	create(&eager_2m);
	assert_int_equal(gmem_add_ram(&gm, 0, MiB(64)), 0);
	assert_int_equal(gmem_fill(&gm, 0, 0x5e, MiB(64)), 0);
	gmem_destroy(&gm);
	create(&eager_2m);
	assert_int_equal(gmem_add_ram(&gm, 0, MiB(64)), 0);
	assert_false(gm.clean);
	destroy();
	create(&eager_2m);
	assert_int_equal(gmem_add_ram(&gm, 0, MiB(64)), 0);
	assert_true(gm.clean);
	destroy();
}

/* Random reads and writes against a flat copy; the RAM has holes. */
static void test_against_a_flat_copy(void **state) {
	static const struct {
		gpa_t gpa;
		u64 size;
	} ram[] = {{0, KiB(640)}, {MiB(1), MiB(9)}, {MiB(10), KiB(4)}, {MiB(16), MiB(8) + KiB(12)}};
	u64 span = MiB(28);
	u8 *copy = calloc(1, span), *is_ram = calloc(1, span / PAGE_SIZE);
	u8 *buf = malloc(MiB(3)), *got = malloc(MiB(3));

	(void)state;
	create(&lazy_2m);
	for (size_t i = 0; i < ARRAY_SIZE(ram); i++) {
		assert_int_equal(gmem_add_ram(&gm, ram[i].gpa, ram[i].size), 0);
		memset(is_ram + ram[i].gpa / PAGE_SIZE, 1, ram[i].size / PAGE_SIZE);
	}
	clear();
	for (u32 round = 0; round < 4000; round++) {
		gpa_t gpa = rig_below(span - MiB(3));
		size_t len = rig_below(16) ? rig_below(KiB(20)) : rig_below(MiB(3));
		bool ok = true;
		u8 value = (u8)rig_below(256);

		for (u64 p = gpa / PAGE_SIZE; len && p <= (gpa + len - 1) / PAGE_SIZE; p++)
			ok &= is_ram[p];
		switch (rig_below(3)) {
		case 0:
			for (size_t i = 0; i < len; i++) buf[i] = (u8)(value + i);
			assert_int_equal(gmem_write(&gm, gpa, buf, len), ok ? 0 : E_FAULT);
			if (ok) memcpy(copy + gpa, buf, len);
			break;
		case 1:
			assert_int_equal(gmem_fill(&gm, gpa, value, len), ok ? 0 : E_FAULT);
			if (ok) memset(copy + gpa, value, len);
			break;
		default:
			assert_int_equal(gmem_read(&gm, gpa, got, len), ok ? 0 : E_FAULT);
			if (ok) assert_memory_equal(got, copy + gpa, len);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(ram); i++)
		for (gpa_t gpa = ram[i].gpa; gpa < ram[i].gpa + ram[i].size; gpa += PAGE_SIZE)
			assert_memory_equal(gmem_ptr(&gm, gpa, PAGE_SIZE), copy + gpa, PAGE_SIZE);
	free(copy);
	free(is_ram);
	free(buf);
	free(got);
	destroy();
}

static void test_edges_of_access(void **state) {
	u8 buf[16] = {0};

	(void)state;
	create(&lazy_2m);
	assert_null(gmem_ptr(&gm, 0, 1));
	assert_int_equal(gmem_read(&gm, 0, buf, 1), E_FAULT);
	assert_int_equal(gmem_add_ram(&gm, MiB(2), MiB(2)), 0);
	clear();
	assert_int_equal(gmem_read(&gm, MiB(2), buf, 0), 0);
	assert_int_equal(gmem_read(&gm, MiB(2) - 1, buf, 1), E_FAULT);
	assert_int_equal(gmem_read(&gm, MiB(2) - 1, buf, 2), E_FAULT);
	assert_int_equal(gmem_read(&gm, MiB(4) - 1, buf, 1), 0);
	assert_int_equal(gmem_write(&gm, MiB(4) - 1, buf, 2), E_FAULT);
	assert_int_equal(gmem_write(&gm, MiB(4), buf, 1), E_FAULT);
	assert_int_equal(gmem_fill(&gm, MiB(2), 1, ~0ul), E_FAULT);
	assert_int_equal(gmem_fill(&gm, MiB(2), 1, 0 - MiB(2)), E_FAULT);
	assert_int_equal(gmem_read(&gm, ~0ul, buf, 2), E_FAULT);
	assert_int_equal(*(u8 *)gmem_ptr(&gm, MiB(2), 1), 0);
	assert_non_null(gmem_ptr(&gm, MiB(2) + 4088, 8));
	assert_null(gmem_ptr(&gm, MiB(2) + 4089, 8));
	assert_null(gmem_ptr(&gm, MiB(2), 4097));
	assert_null(gmem_ptr(&gm, MiB(2) + 8, ~0ul));
	assert_null(gmem_ptr(&gm, MiB(4), 1));
	assert_null(gmem_ptr(&gm, MiB(2) - 1, 1));
	assert_null(gmem_ptr(&gm, ~0ul, 1));
	/* A write that fails has written nothing. */
	memset(buf, 0xff, sizeof(buf));
	assert_int_equal(gmem_write(&gm, MiB(4) - 8, buf, 16), E_FAULT);
	assert_int_equal(*(const u64 *)gmem_ptr(&gm, MiB(4) - 8, 8), 0);
	destroy();
}

static void test_bad_ranges(void **state) {
	(void)state;
	create(&eager_2m);
	assert_int_equal(gmem_add_ram(&gm, 0, 0), E_INVAL);
	assert_int_equal(gmem_add_ram(&gm, 1, PAGE_SIZE), E_INVAL);
	assert_int_equal(gmem_add_ram(&gm, 0, PAGE_SIZE + 1), E_INVAL);
	assert_int_equal(gmem_add_ram(&gm, 1ul << 48, PAGE_SIZE), E_INVAL);
	assert_int_equal(gmem_add_ram(&gm, PAGE_SIZE, ~0ul & PAGE_MASK), E_INVAL);
	assert_int_equal(gmem_add_ram(&gm, MiB(1), MiB(1)), 0);
	assert_int_equal(gmem_add_ram(&gm, MiB(1), MiB(1)), E_INVAL);
	assert_int_equal(gmem_add_ram(&gm, 0, MiB(1)), E_INVAL);
	assert_int_equal(gmem_add_ram(&gm, MiB(2) - PAGE_SIZE, MiB(1)), E_INVAL);
	assert_int_equal(gm.nr_pages, 256);
	destroy();
}

/* Eager: all is mapped by the largest leaves the blocks allow, each to the frame gmem_ptr() gives.
 */
static void test_eager_mapping(void **state) {
	struct pt_mapping m;

	(void)state;
	create(&eager_2m);
	assert_int_equal(gmem_add_ram(&gm, MiB(1), MiB(31) + KiB(8)), 0);
	for (gpa_t gpa = MiB(1); gpa < MiB(32) + KiB(8); gpa += PAGE_SIZE) {
		assert_true(pt_walk(&gm.pt, gpa, &m));
		assert_ptr_equal(phys_to_virt(m.pa), gmem_ptr(&gm, gpa, 1));
		assert_int_equal(m.attrs, PT_READ | PT_WRITE | PT_EXEC | PT_WB);
		assert_int_equal(m.level, gpa >= MiB(2) && gpa < MiB(32));
	}
	assert_false(pt_walk(&gm.pt, MiB(1) - 1, &m));
	assert_false(pt_walk(&gm.pt, MiB(32) + KiB(8), &m));
	assert_int_equal(pt_generation(&gm.pt), 0);
	assert_int_equal(gmem_fault(&gm, MiB(5), true, true), 0); /* spurious */
	destroy();
}

static void fault_all(const struct gmem_config *config, u8 level) {
	struct pt_mapping m;

	create(config);
	assert_int_equal(gmem_add_ram(&gm, MiB(1), MiB(5)), 0);
	for (gpa_t gpa = MiB(1); gpa < MiB(6); gpa += KiB(68) + 5) {
		bool was = pt_walk(&gm.pt, gpa, &m);

		assert_int_equal(gmem_fault(&gm, gpa, rig_below(2), rig_below(2)), 0);
		assert_true(pt_walk(&gm.pt, gpa, &m));
		assert_ptr_equal(phys_to_virt(m.pa), gmem_ptr(&gm, gpa, 1));
		assert_int_equal(m.level, gpa >= MiB(2) ? level : 0);
		assert_true(!was || level);
		assert_int_equal(gmem_fault(&gm, gpa, true, true), 0);
	}
	assert_int_equal(gmem_fault(&gm, MiB(1) - 1, false, false), E_FAULT);
	assert_int_equal(gmem_fault(&gm, MiB(6), false, false), E_FAULT);
	assert_int_equal(gmem_fault(&gm, ~0ul, true, false), E_FAULT);
	assert_false(pt_walk(&gm.pt, MiB(6), &m));
	destroy();
}

static void test_lazy_mapping(void **state) {
	(void)state;
	fault_all(&lazy_4k, 0);
	fault_all(&lazy_2m, 1);
}

/* Beside a page that is mapped already, a small leaf is all that comes. */
static void test_fault_beside_small_leaves(void **state) {
	struct pt_mapping m;

	(void)state;
	create(&lazy_2m);
	assert_int_equal(gmem_add_ram(&gm, MiB(2), MiB(2)), 0);
	assert_int_equal(pt_map(&gm.pt, MiB(3) + KiB(8),
				virt_to_phys(gmem_ptr(&gm, MiB(3) + KiB(8), 1)), KiB(4), PT_READ),
			 0);
	assert_int_equal(gmem_fault(&gm, MiB(3) + 5, false, false), 0);
	assert_true(pt_walk(&gm.pt, MiB(3), &m));
	assert_int_equal(m.level, 0);
	assert_ptr_equal(phys_to_virt(m.pa), gmem_ptr(&gm, MiB(3), 1));
	assert_false(pt_walk(&gm.pt, MiB(3) + KiB(4), &m));
	destroy();
}

static void *fault_everywhere(void *arg) {
	u64 failed = 0;

	(void)arg;
	for (gpa_t gpa = 0; gpa < MiB(96); gpa += PAGE_SIZE)
		failed += gmem_fault(&gm, gpa, true, false) != 0;
	return (void *)failed;
}

/* Two vCPUs touch the same pages: whoever comes second is told to go on as well. */
static void test_two_cpus_fault_at_once(void **state) {
	pthread_t other;
	void *failed;

	(void)state;
	create(&lazy_4k);
	assert_int_equal(gmem_add_ram(&gm, 0, MiB(96)), 0);
	assert_int_equal(pthread_create(&other, NULL, fault_everywhere, NULL), 0);
	assert_null(fault_everywhere(NULL));
	pthread_join(other, &failed);
	assert_null(failed);
	destroy();
}

/* A fault gives back what the dirty log took, for one page, and no other right. */
static void test_fault_gives_back_the_right_to_write(void **state) {
	struct pt_mapping m;

	(void)state;
	create(&eager_2m);
	assert_int_equal(gmem_add_ram(&gm, 0, MiB(4)), 0);
	assert_int_equal(pt_protect(&gm.pt, 0, MiB(2), PT_READ | PT_EXEC), 1);
	assert_int_equal(pt_protect(&gm.pt, MiB(2), KiB(4), PT_READ | PT_WRITE), 1);
	assert_int_equal(gmem_fault(&gm, KiB(4), false, true), 0);
	assert_int_equal(gmem_fault(&gm, KiB(4), true, false), 0);
	assert_true(pt_walk(&gm.pt, KiB(4), &m) && m.level == 0 && m.attrs & PT_WRITE);
	assert_true(pt_walk(&gm.pt, KiB(8), &m) && !(m.attrs & PT_WRITE));
	assert_int_equal(gmem_fault(&gm, MiB(2), false, true), E_FAULT);
	destroy();
}

/* Takes all memory but every second frame, or every second pair. */
static void fragment(unsigned order, pfn_t *kept, u32 *nr_kept) {
	static pfn_t all[ARENA_SIZE / PAGE_SIZE];
	u32 n = 0;

	*nr_kept = 0;
	while (frame_alloc(order, 0, &all[n]) == 0) n++;
	for (u32 i = 0; i < n; i++) {
		if (all[i] >> order & 1)
			assert_int_equal(frame_free(all[i], order, 0), 0);
		else
			kept[(*nr_kept)++] = all[i];
	}
}

static void test_fragmented_memory_serves(void **state) {
	static pfn_t kept[ARENA_SIZE / PAGE_SIZE];
	static u8 buf[KiB(64)];
	struct pt_mapping m;
	u32 nr_kept;

	(void)state;
	for (unsigned order = 0; order < 4; order += 3) {
		fragment(order, kept, &nr_kept);
		create(&eager_2m);
		assert_int_equal(gmem_add_ram(&gm, MiB(3), MiB(64)), 0);
		for (gpa_t gpa = MiB(3); gpa < MiB(67); gpa += sizeof(buf)) {
			memset(buf, (int)(gpa >> 16), sizeof(buf));
			assert_int_equal(gmem_write(&gm, gpa, buf, sizeof(buf)), 0);
		}
		for (gpa_t gpa = MiB(3); gpa < MiB(67); gpa += PAGE_SIZE) {
			assert_true(pt_walk(&gm.pt, gpa, &m));
			assert_ptr_equal(phys_to_virt(m.pa), gmem_ptr(&gm, gpa, 1));
			assert_true(all_bytes(gmem_ptr(&gm, gpa, 1), PAGE_SIZE, (u8)(gpa >> 16)));
		}
		gmem_destroy(&gm);
		for (u32 i = 0; i < nr_kept; i++)
			assert_int_equal(frame_free(kept[i], order, 0), 0);
		assert_int_equal(frames_in_use(), 0);
	}
}

/* However little memory is left, all of it is given back. */
static void too_little_memory(gpa_t gpa, u64 size) {
	static pfn_t taken[ARENA_SIZE / PAGE_SIZE];
	u32 nr_taken = 0, late = 0;
	struct pt_mapping m;

	while (frame_alloc(0, 0, &taken[nr_taken]) == 0) nr_taken++;
	for (u32 i = nr_taken - 1; i > 0; i--) {
		u32 other = (u32)rig_below(i + 1);
		pfn_t pfn = taken[i];

		taken[i] = taken[other];
		taken[other] = pfn;
	}
	for (;;) {
		u64 in_use;
		int err;

		/* One frame more each time, scattered. */
		assert_int_equal(frame_free(taken[--nr_taken], 0, 0), 0);
		in_use = frames_in_use();
		err = gmem_create(&gm, &pt_format_npt, &eager_2m);
		if (!err) err = gmem_add_ram(&gm, gpa, size);
		if (!err) break;
		assert_int_equal(err, E_NOMEM);
		gmem_destroy(&gm);
		late += ARENA_SIZE / PAGE_SIZE - in_use > size / PAGE_SIZE + 50;
		assert_int_equal(frames_in_use(), in_use);
	}
	assert_int_equal(late, 0);
	assert_true(pt_walk(&gm.pt, gpa + size - 1, &m));
	gmem_destroy(&gm);
	while (nr_taken) assert_int_equal(frame_free(taken[--nr_taken], 0, 0), 0);
}

static void test_too_little_memory_leaves_nothing(void **state) {
	(void)state;
	create(&eager_2m);
	assert_int_equal(gmem_add_ram(&gm, 0, ARENA_SIZE), E_NOMEM);
	gmem_destroy(&gm);
	too_little_memory(MiB(1), MiB(8) + KiB(4));
	too_little_memory(0, KiB(640));
	too_little_memory(GiB(2), MiB(1));
	assert_int_equal(frames_in_use(), 0);
}

/* T-P3: RAM across 256 GiB and at the top; what aliases modulo 4 GiB is not touched. */
static void test_high_addresses(void **state) {
	static const gpa_t bases[] = {GiB(256) - MiB(2), (1ul << 40) - MiB(4),
				      (1ul << 48) - MiB(4)};
	u8 buf[8192];

	(void)state;
	create(&lazy_2m);
	assert_int_equal(gmem_add_ram(&gm, 0, MiB(4)), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++)
		assert_int_equal(gmem_add_ram(&gm, bases[i], MiB(4)), 0);
	clear();
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		memset(buf, (int)i + 1, sizeof(buf));
		assert_int_equal(gmem_write(&gm, bases[i] + MiB(2) - 4096, buf, 8192), 0);
		assert_int_equal(gmem_fault(&gm, bases[i] + MiB(4) - 1, true, false), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		assert_int_equal(gmem_read(&gm, bases[i] + MiB(2) - 4096, buf, 8192), 0);
		assert_true(all_bytes(buf, 8192, (u8)(i + 1)));
	}
	for (gpa_t gpa = 0; gpa < MiB(4); gpa += PAGE_SIZE)
		assert_true(all_bytes(gmem_ptr(&gm, gpa, 1), PAGE_SIZE, 0));
	destroy();
}

/* More runs than one page describes: ranges that begin and end next to a large alignment. */
static void test_many_runs(void **state) {
	gpa_t first = KiB(4);

	(void)state;
	create(&lazy_2m);
	for (gpa_t gpa = first; gpa < MiB(64); gpa += MiB(4)) {
		assert_int_equal(gmem_add_ram(&gm, gpa, MiB(2) - KiB(8)), 0);
		/* The array may have moved; nothing may point into the old one. */
		assert_true(gm.last_run >= gm.runs && gm.last_run < gm.runs + gm.nr_runs);
		for (u64 at = 0; at < MiB(2) - KiB(8); at += PAGE_SIZE)
			*(u64 *)gmem_ptr_write(&gm, gpa + at, 8) = gpa + at;
	}
	assert_true(gm.nr_runs > 200);
	for (gpa_t gpa = first; gpa < MiB(64); gpa += MiB(4)) {
		assert_null(gmem_ptr(&gm, gpa - 1, 1));
		assert_null(gmem_ptr(&gm, gpa + MiB(2) - KiB(8), 1));
		for (u64 at = 0; at < MiB(2) - KiB(8); at += PAGE_SIZE)
			assert_int_equal(*(const u64 *)gmem_ptr(&gm, gpa + at, 8), gpa + at);
	}
	destroy();
}

/* Tables and book-keeping: under 0.3 % with large blocks, whatever the size of the leaves. */
static void test_overhead(void **state) {
	static const struct gmem_config eager_4k = {.max_leaf = PT_LEVEL_4K};

	(void)state;
	create(&eager_2m);
	assert_int_equal(gmem_add_ram(&gm, 0, KiB(640)), 0);
	assert_int_equal(gmem_add_ram(&gm, MiB(1), MiB(127)), 0);
	assert_true((frames_in_use() << PAGE_SHIFT) - (gm.nr_pages << PAGE_SHIFT) <
		    MiB(128) / 2000);
	destroy();
	create(&eager_4k);
	assert_int_equal(gmem_add_ram(&gm, 0, KiB(640)), 0);
	assert_int_equal(gmem_add_ram(&gm, MiB(1), MiB(127)), 0);
	assert_true((frames_in_use() << PAGE_SHIFT) - (gm.nr_pages << PAGE_SHIFT) <
		    MiB(128) * 3 / 1000);
	destroy();
}

/* The frames of tables come and go. */
static void test_tables_from_the_frame_allocator(void **state) {
	const u32 rwx = PT_READ | PT_WRITE | PT_EXEC;
	struct frame_stats after;
	struct pt_mapping m;
	struct ptable pt;

	(void)state;
	frame_init();
	assert_int_equal(frame_add(PAGE_SIZE, MiB(1)), 0);
	frame_stats(&before);
	assert_int_equal(pt_init(&pt, &pt_format_npt, PT_LEVEL_2M), 0);
	assert_int_equal(pt_map(&pt, 0, 0, MiB(2) - KiB(4), rwx), 0);
	frame_stats(&after);
	assert_int_equal(before.free - after.free, 4); /* levels */
	assert_false(pt_walk(&pt, MiB(2) - KiB(4), &m));
	assert_int_equal(pt_map(&pt, 0x800000000000, 0, MiB(2) * 300, rwx | PT_WC), 0);
	assert_int_equal(pt_map(&pt, MiB(4), KiB(4), GiB(1), rwx), E_NOMEM);
	pt_destroy(&pt);
	frame_stats(&after);
	assert_int_equal(before.free, after.free);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_cleared_memory_is_zero),
		TEST(test_no_secret_survives),
		TEST(test_what_is_known_to_be_zero),
		TEST(test_against_a_flat_copy),
		TEST(test_edges_of_access),
		TEST(test_bad_ranges),
		TEST(test_eager_mapping),
		TEST(test_lazy_mapping),
		TEST(test_fault_beside_small_leaves),
		TEST(test_two_cpus_fault_at_once),
		TEST(test_fault_gives_back_the_right_to_write),
		TEST(test_fragmented_memory_serves),
		TEST(test_too_little_memory_leaves_nothing),
		TEST(test_high_addresses),
		TEST(test_many_runs),
		TEST(test_overhead),
		TEST(test_tables_from_the_frame_allocator),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
