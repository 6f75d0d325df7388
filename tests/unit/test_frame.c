// sources: mm/frame.c
// The frame allocator over an arena that plays physical memory.
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
#include "tests/random.h"

#define ARENA_SIZE  MiB(64)
#define ARENA_PAGES (ARENA_SIZE / PAGE_SIZE)

u64 direct_base_;

static u8 *arena;
static u64 arena_size;

/* Physical addresses [base, base + size) are fresh memory full of 0xaa, or untouched if sparse. */
static void make_arena(hpa_t base, u64 size, bool sparse) {
	arena = mmap(NULL, size + GiB(1), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(arena != MAP_FAILED);
	arena_size = size;
	direct_base_ = (u64)arena - base;
	if (!sparse) memset(arena, 0xaa, size);
	frame_init();
}

static int setup(void **state) {
	(void)state;
	make_arena(0, ARENA_SIZE, false);
	return 0;
}

static int teardown(void **state) {
	(void)state;
	munmap(arena, arena_size + GiB(1));
	return 0;
}

static u64 free_frames(void) {
	struct frame_stats stats;
	u64 sum = 0;

	frame_stats(&stats);
	for (unsigned order = 0; order <= FRAME_MAX_ORDER; order++)
		sum += stats.blocks[order] << order;
	assert_int_equal(sum, stats.free);
	assert_true(stats.free_zero <= stats.free);
	assert_true(stats.free <= stats.total);
	return sum;
}

static bool reads_zero(pfn_t pfn, unsigned order) {
	const u8 *mem = phys_to_virt(pfn << PAGE_SHIFT);

	for (u64 i = 0; i < PAGE_SIZE << order; i++)
		if (mem[i]) return false;
	return true;
}

static void test_metadata_is_a_byte_a_frame(void **state) {
	static const struct {
		u64 frames, kept;
	} cases[] = {{1, 1}, {2, 1}, {100, 1}, {4097, 1}, {4098, 2}, {8194, 2}};
	struct frame_stats stats;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		frame_init();
		assert_int_equal(frame_add(PAGE_SIZE, cases[i].frames * PAGE_SIZE), 0);
		frame_stats(&stats);
		assert_int_equal(stats.metadata, cases[i].kept);
		assert_int_equal(stats.total, cases[i].frames - cases[i].kept);
		assert_int_equal(free_frames(), stats.total);
	}
}

static void test_two_pages_are_enough(void **state) {
	pfn_t pfn;

	(void)state;
	assert_int_equal(frame_add(PAGE_SIZE * 7, PAGE_SIZE * 2), 0);
	assert_int_equal(frame_alloc(0, 0, &pfn), 0);
	assert_true(pfn == 7 || pfn == 8);
	assert_int_equal(frame_alloc(0, 0, &pfn), E_NOMEM);
}

static void test_bad_ranges(void **state) {
	u32 i;

	(void)state;
	assert_int_equal(frame_add(MiB(1), MiB(1)), 0);
	assert_int_equal(frame_add(MiB(4) + 1, PAGE_SIZE), E_INVAL);
	assert_int_equal(frame_add(MiB(4), PAGE_SIZE + 1), E_INVAL);
	assert_int_equal(frame_add(MiB(4), 0), E_INVAL);
	assert_int_equal(frame_add(1ul << 52, PAGE_SIZE), E_INVAL);
	assert_int_equal(frame_add((1ul << 52) - PAGE_SIZE, 2 * PAGE_SIZE), E_INVAL);
	assert_int_equal(frame_add(PAGE_SIZE, ~0ul & PAGE_MASK), E_INVAL);
	assert_int_equal(frame_add(MiB(1), MiB(1)), E_EXIST);
	assert_int_equal(frame_add(MiB(1) + KiB(8), KiB(8)), E_EXIST);
	assert_int_equal(frame_add(MiB(2) - PAGE_SIZE, MiB(1)), E_EXIST);
	assert_int_equal(frame_add(KiB(512), KiB(516)), E_EXIST);
	assert_int_equal(frame_add(KiB(512), MiB(8)), E_EXIST);
	assert_int_equal(free_frames(), 255);
	for (i = 1; i < FRAME_MAX_RANGES; i++)
		assert_int_equal(frame_add(MiB(4) + i * KiB(16), KiB(8)), 0);
	assert_int_equal(frame_add(MiB(4) + i * KiB(16), KiB(8)), E_NOMEM);
}

/* Ranges in random order, so that the table of ranges is seen to be sorted. */
static void add_scattered(void) {
	assert_int_equal(frame_add(MiB(40), MiB(24)), 0);
	assert_int_equal(frame_add(0, KiB(640)), 0);
	assert_int_equal(frame_add(MiB(12), MiB(4) + KiB(36)), 0);
	assert_int_equal(frame_add(MiB(1) + PAGE_SIZE, KiB(28)), 0);
	assert_int_equal(frame_add(MiB(8), MiB(4)), 0);
}

static bool was_added(pfn_t pfn) {
	u64 pa = pfn << PAGE_SHIFT;

	return pa < KiB(640) || (pa > MiB(1) && pa < MiB(1) + KiB(32)) ||
	       (pa >= MiB(8) && pa < MiB(16) + KiB(36)) || pa >= MiB(40);
}

struct block {
	pfn_t pfn;
	unsigned order;
};

static struct block blocks[ARENA_PAGES];
static u8 owned[ARENA_PAGES];

static void test_everything_out_and_back(void **state) {
	struct frame_stats before, after;
	u32 n = 0;

	(void)state;
	add_scattered();
	frame_stats(&before);
	memset(owned, 0, sizeof(owned));
	while (free_frames()) {
		struct block b = {0, (unsigned)rig_below(12)};

		while (frame_alloc(b.order, 0, &b.pfn)) b.order--;
		assert_int_equal(b.pfn % (1ul << b.order), 0);
		for (pfn_t p = b.pfn; p < b.pfn + (1ul << b.order); p++) {
			assert_true(was_added(p));
			assert_int_equal(owned[p]++, 0);
		}
		/* Were this metadata, or a free block's links, chaos would follow. */
		memset(phys_to_virt(b.pfn << PAGE_SHIFT), 0xff, PAGE_SIZE << b.order);
		blocks[n++] = b;
	}
	assert_int_equal(frame_alloc(0, 0, &blocks[n].pfn), E_NOMEM);
	while (n) {
		u32 i = (u32)rig_below(n);

		assert_int_equal(frame_free(blocks[i].pfn, blocks[i].order, 0), 0);
		blocks[i] = blocks[--n];
	}
	frame_stats(&after);
	assert_memory_equal(before.blocks, after.blocks, sizeof(before.blocks));
	assert_int_equal(before.free, after.free);
}

static void test_random_traffic(void **state) {
	struct frame_stats before, after;
	u32 n = 0;

	(void)state;
	add_scattered();
	frame_stats(&before);
	memset(owned, 0, sizeof(owned));
	for (u32 round = 0; round < 60000; round++) {
		bool zero = rig_below(2);
		struct block b = {0, (unsigned)rig_below(7)};

		if (rig_below(2) && !frame_alloc(b.order, zero ? FRAME_ZERO : 0, &b.pfn)) {
			assert_true(!zero || reads_zero(b.pfn, b.order));
			assert_int_equal(owned[b.pfn], 0);
			owned[b.pfn] = 1;
			memset(phys_to_virt(b.pfn << PAGE_SHIFT), 0xff, PAGE_SIZE);
			blocks[n++] = b;
		} else if (n) {
			u32 i = (u32)rig_below(n);

			b = blocks[i];
			owned[b.pfn] = 0;
			if (zero)
				memset(phys_to_virt(b.pfn << PAGE_SHIFT), 0, PAGE_SIZE << b.order);
			assert_int_equal(frame_free(b.pfn, b.order, zero ? FRAME_SCRUBBED : 0), 0);
			blocks[i] = blocks[--n];
		}
	}
	while (n--) assert_int_equal(frame_free(blocks[n].pfn, blocks[n].order, 0), 0);
	frame_stats(&after);
	assert_memory_equal(before.blocks, after.blocks, sizeof(before.blocks));
}

static void test_no_merge_across_ranges(void **state) {
	struct frame_stats stats;
	pfn_t pfn;

	(void)state;
	assert_int_equal(frame_add(MiB(4), MiB(2)), 0);
	assert_int_equal(frame_add(MiB(6), MiB(2)), 0);
	for (u32 i = 0; i < 1022; i++) assert_int_equal(frame_alloc(0, 0, &pfn), 0);
	assert_int_equal(frame_alloc(0, 0, &pfn), E_NOMEM);
	for (pfn = MiB(4) >> 12; pfn < MiB(8) >> 12; pfn++)
		(void)frame_free(pfn, 0, 0); /* two are metadata */
	assert_int_equal(free_frames(), 1022);
	frame_stats(&stats);
	assert_int_equal(stats.blocks[10], 0);
	assert_int_equal(stats.blocks[9], 0);
	assert_int_equal(stats.blocks[8], 2);
}

/* What lies behind the metadata must not be taken for the buddy's. */
static void test_no_merge_past_the_end(void **state) {
	pfn_t pfn[8], last = (MiB(4) >> PAGE_SHIFT) + 6;

	(void)state;
	assert_int_equal(frame_add(MiB(4) + PAGE_SIZE, 6 * PAGE_SIZE), 0);
	memset((u8 *)phys_to_virt(MiB(4) + PAGE_SIZE) + 5, 0x60, PAGE_SIZE - 5);
	for (u32 i = 0; i < 5; i++) assert_int_equal(frame_alloc(0, 0, &pfn[i]), 0);
	assert_int_equal(frame_free(last, 0, 0), 0);
	assert_int_equal(frame_alloc(0, 0, &pfn[0]), 0);
	assert_int_equal(pfn[0], last);
	assert_int_equal(free_frames(), 0);
}

static void test_known_zero_is_not_scrubbed_again(void **state) {
	struct frame_stats stats;
	pfn_t pfn;

	(void)state;
	assert_int_equal(frame_add(MiB(4) - PAGE_SIZE, MiB(4) + PAGE_SIZE), 0);
	frame_stats(&stats);
	assert_int_equal(stats.free_zero, 0);

	assert_int_equal(frame_alloc(10, FRAME_ZERO, &pfn), 0);
	assert_true(reads_zero(pfn, 10));
	assert_int_equal(frame_free(pfn, 10, FRAME_SCRUBBED), 0);
	frame_stats(&stats);
	assert_int_equal(stats.free_zero, 1024);

	/* A mark behind the allocator's back is still there: nobody wrote the page. */
	u8 *mem = phys_to_virt(pfn << PAGE_SHIFT);
	mem[PAGE_SIZE * 5 + 100] = 1;
	assert_int_equal(frame_alloc(10, FRAME_ZERO, &pfn), 0);
	assert_int_equal(mem[PAGE_SIZE * 5 + 100], 1);
	mem[PAGE_SIZE * 5 + 100] = 0;
	assert_true(reads_zero(pfn, 10));
	frame_stats(&stats);
	assert_int_equal(stats.free_zero, 0);

	/* What is freed as it is gets scrubbed. */
	memset(mem, 0x55, MiB(4));
	assert_int_equal(frame_free(pfn, 10, 0), 0);
	assert_int_equal(frame_alloc(10, FRAME_ZERO, &pfn), 0);
	assert_true(reads_zero(pfn, 10));
}

static void test_zero_is_known_for_each_frame(void **state) {
	struct frame_stats stats;
	pfn_t big, pfn;
	pfn_t page[1024];

	(void)state;
	assert_int_equal(frame_add(MiB(4) - PAGE_SIZE, MiB(4) + PAGE_SIZE), 0);
	for (u32 i = 0; i < 1024; i++) assert_int_equal(frame_alloc(0, FRAME_ZERO, &page[i]), 0);
	for (u32 i = 0; i < 1024; i++) {
		bool dirty = page[i] % 3 == 0;

		memset(phys_to_virt(page[i] << PAGE_SHIFT), dirty, PAGE_SIZE);
		assert_int_equal(frame_free(page[i], 0, dirty ? 0 : FRAME_SCRUBBED), 0);
	}
	frame_stats(&stats);
	assert_int_equal(stats.blocks[10], 1);
	assert_int_equal(stats.free_zero, 1024 - 341);
	assert_int_equal(frame_alloc(10, FRAME_ZERO, &big), 0);
	assert_true(reads_zero(big, 10));
	assert_int_equal(frame_free(big, 10, FRAME_SCRUBBED), 0);

	/* Pieces of it are as good. */
	assert_int_equal(frame_alloc(3, FRAME_ZERO, &pfn), 0);
	assert_true(reads_zero(pfn, 3));
	frame_stats(&stats);
	assert_int_equal(stats.free_zero, 1024 - 8);
}

static void test_bad_frees_change_nothing(void **state) {
	struct frame_stats before, after;
	pfn_t a, b;

	(void)state;
	assert_int_equal(frame_add(MiB(8), MiB(8)), 0);
	assert_int_equal(frame_alloc(4, 0, &a), 0);
	assert_int_equal(frame_alloc(0, 0, &b), 0);
	frame_stats(&before);
	assert_int_equal(frame_free(a, 3, 0), E_INVAL);	    /* a piece */
	assert_int_equal(frame_free(a, 5, 0), E_INVAL);	    /* more than it was */
	assert_int_equal(frame_free(a + 1, 0, 0), E_INVAL); /* inside of it */
	assert_int_equal(frame_free(a, 19, 0), E_INVAL);    /* no such order */
	assert_int_equal(frame_free(a, 64, 0), E_INVAL);
	assert_int_equal(frame_free(MiB(8) >> 12, 0, 0), E_INVAL); /* metadata, or free */
	assert_int_equal(frame_free((MiB(16) >> 12) - 1, 0, 0), E_INVAL);
	assert_int_equal(frame_free(MiB(16) >> 12, 0, 0), E_INVAL); /* past the end */
	assert_int_equal(frame_free(0, 0, 0), E_INVAL);		    /* below all */
	assert_int_equal(frame_free(~0ul, 0, 0), E_INVAL);
	assert_int_equal(frame_free(~0ul, 18, 0), E_INVAL);
	frame_stats(&after);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(frame_free(a, 4, 0), 0);
	assert_int_equal(frame_free(a, 4, 0), E_INVAL); /* twice */
	assert_int_equal(frame_free(b, 0, 0), 0);
	assert_int_equal(frame_free(b, 0, 0), E_INVAL);
	assert_int_equal(frame_alloc(19, 0, &a), E_INVAL);
}

/* Gigabyte blocks at the very top of what x86 can address, the memory itself never touched. */
static void test_top_of_physical_memory(void **state) {
	hpa_t base = (1ul << 52) - GiB(8);
	struct frame_stats before, after;
	pfn_t pfn[8];

	teardown(state);
	make_arena(base, GiB(8), true);
	assert_int_equal(frame_add(base, GiB(8)), 0);
	frame_stats(&before);
	assert_int_equal(before.blocks[18], 7);
	assert_int_equal(before.metadata, 512);
	for (u32 i = 0; i < 7; i++) {
		assert_int_equal(frame_alloc(18, 0, &pfn[i]), 0);
		assert_true(pfn[i] >= base >> 12 && pfn[i] <= (1ul << 40) - (1ul << 18));
		assert_int_equal(pfn[i] % (1ul << 18), 0);
	}
	assert_int_equal(frame_alloc(18, 0, &pfn[7]), E_NOMEM);
	for (u32 i = 0; i < 7; i++) assert_int_equal(frame_free(pfn[i], 18, 0), 0);
	frame_stats(&after);
	assert_memory_equal(&before, &after, sizeof(before));
}

static void *traffic(void *arg) {
	u64 seed = (u64)arg;
	pfn_t mine[64];
	u32 n = 0;

	for (u32 round = 0; round < 20000; round++) {
		seed = seed * 6364136223846793005ul + 1442695040888963407ul;
		if (n < 64 && seed >> 63 && !frame_alloc(1, FRAME_ZERO, &mine[n])) {
			u64 *mem = phys_to_virt(mine[n++] << PAGE_SHIFT);

			if (mem[0] || mem[512]) return (void *)1;
			mem[0] = (u64)arg;
			mem[512] = (u64)arg;
		} else if (n) {
			u64 *mem = phys_to_virt(mine[--n] << PAGE_SHIFT);

			if (mem[0] != (u64)arg || mem[512] != (u64)arg) return (void *)1;
			if (frame_free(mine[n], 1, 0)) return (void *)1;
		}
	}
	while (n)
		if (frame_free(mine[--n], 1, 0)) return (void *)1;
	return NULL;
}

static void test_four_cpus(void **state) {
	struct frame_stats before, after;
	pthread_t threads[4];

	(void)state;
	assert_int_equal(frame_add(MiB(2), MiB(1)), 0);
	frame_stats(&before);
	for (u64 i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, traffic, (void *)(i + 1)), 0);
	for (u64 i = 0; i < 4; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	frame_stats(&after);
	assert_int_equal(before.free, after.free);
	assert_memory_equal(before.blocks, after.blocks, sizeof(before.blocks));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_metadata_is_a_byte_a_frame),
		TEST(test_two_pages_are_enough),
		TEST(test_bad_ranges),
		TEST(test_everything_out_and_back),
		TEST(test_random_traffic),
		TEST(test_no_merge_across_ranges),
		TEST(test_no_merge_past_the_end),
		TEST(test_known_zero_is_not_scrubbed_again),
		TEST(test_zero_is_known_for_each_frame),
		TEST(test_bad_frees_change_nothing),
		TEST(test_top_of_physical_memory),
		TEST(test_four_cpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
