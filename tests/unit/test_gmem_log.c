// sources: mm/gmem.c mm/shadow.c mm/ptable.c mm/ptable_formats.c mm/frame.c
// The dirty log: what it says after writes of the guest's and of Roost's own.
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

#define ARENA_SIZE GiB(4)

u64 direct_base_;

static u8 *arena;
static struct gmem gm;
static struct frame_stats before;

static int setup(void **state) {
	(void)state;
	arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(arena != MAP_FAILED);
	direct_base_ = (u64)arena;
	frame_init();
	assert_int_equal(frame_add(PAGE_SIZE, MiB(160) - PAGE_SIZE), 0);
	frame_stats(&before);
	return 0;
}

static int teardown(void **state) {
	struct frame_stats after;

	(void)state;
	gmem_destroy(&gm);
	frame_stats(&after);
	assert_int_equal(after.free, before.free);
	munmap(arena, ARENA_SIZE);
	return 0;
}

static void create(u8 level, bool lazy) {
	struct gmem_config config = {.max_leaf = level, .lazy = lazy};

	assert_int_equal(gmem_create(&gm, &pt_format_npt, &config), 0);
}

/* The guest writes: faults until it may, as a processor without a TLB. */
static void guest_write(gpa_t gpa) {
	struct pt_mapping m;

	for (u32 faults = 0; !pt_walk(&gm.pt, gpa, &m) || !(m.attrs & PT_WRITE); faults++) {
		assert_true(faults < 2);
		assert_int_equal(gmem_fault(&gm, gpa, true, false), 0);
	}
	assert_ptr_equal(phys_to_virt(m.pa), gmem_ptr(&gm, gpa, 1));
}

static void guest_read(gpa_t gpa) {
	struct pt_mapping m;

	assert_int_equal(gmem_fault(&gm, gpa, false, true), 0);
	assert_true(pt_walk(&gm.pt, gpa, &m));
}

static u64 taken[1024];

static u64 take(gfn_t gfn, u64 npages) {
	u64 count = 0;

	assert_true(npages <= sizeof(taken) * 8);
	for (u64 i = 0; i < npages / 64; i++) {
		assert_int_equal(gmem_log_take(&gm, gfn + i * 64, &taken[i]), 0);
		count += (u64)__builtin_popcountl(taken[i]);
	}
	return count;
}

static bool has(gfn_t gfn) { return taken[gfn / 64] >> gfn % 64 & 1; }

/* T-P2: one byte in a large page is one page in the log, and its neighbours are clear. */
static void test_T_P2_one_page_of_a_large_one(void **state) {
	struct pt_mapping m;

	(void)state;
	for (unsigned lazy = 0; lazy < 2; lazy++) {
		create(PT_LEVEL_2M, lazy);
		assert_int_equal(gmem_add_ram(&gm, 0, MiB(8)), 0);
		guest_write(MiB(2) + 5);
		assert_int_equal(gmem_log_start(&gm), 0);
		assert_true(pt_walk(&gm.pt, MiB(2), &m) && m.level == 1);
		guest_read(MiB(4));
		assert_int_equal(take(0, 2048), 0);
		guest_write(MiB(2) + 0x5123);
		assert_int_equal(take(0, 2048), 1);
		assert_true(has(512 + 5));
		/* The next write is seen again, and only it. */
		assert_int_equal(take(0, 2048), 0);
		guest_write(MiB(2) + 0x5fff);
		guest_write(MiB(6));
		assert_int_equal(take(0, 2048), 2);
		assert_true(has(512 + 5) && has(1536));
		assert_int_equal(gmem_log_stop(&gm), 0);
		assert_true(pt_walk(&gm.pt, MiB(2), &m));
		assert_int_equal(m.level, 1);
		assert_true(m.attrs & PT_WRITE);
		gmem_destroy(&gm);
	}
}

/* T-P2: what is filled at once is written page by page: 512 bits and not one. */
static void test_T_P2_ranges(void **state) {
	static u8 buf[MiB(2)];

	(void)state;
	create(PT_LEVEL_2M, false);
	assert_int_equal(gmem_add_ram(&gm, 0, KiB(640)), 0);
	assert_int_equal(gmem_add_ram(&gm, MiB(1), MiB(7)), 0);
	assert_int_equal(gmem_log_start(&gm), 0);
	assert_int_equal(gmem_fill(&gm, MiB(2), 7, MiB(2)), 0);
	assert_int_equal(take(0, 2048), 512);
	for (gfn_t gfn = 0; gfn < 2048; gfn++) assert_int_equal(has(gfn), gfn >= 512 && gfn < 1024);
	assert_int_equal(gmem_write(&gm, MiB(4) - 1, buf, 2), 0);
	assert_int_equal(take(0, 2048), 2);
	assert_true(has(1023) && has(1024));
	/* Across the end of a slot: nothing is written, nothing is in the log. */
	assert_int_equal(gmem_write(&gm, KiB(636), buf, 8192), E_FAULT);
	assert_int_equal(take(0, 2048), 0);
	/* Looking is not writing. */
	assert_non_null(gmem_ptr(&gm, MiB(4), 8));
	assert_int_equal(gmem_read(&gm, MiB(4), buf, MiB(1)), 0);
	assert_int_equal(take(0, 2048), 0);
	assert_non_null(gmem_ptr_write(&gm, MiB(4), 8));
	assert_int_equal(take(1024, 64), 1);
	assert_true(taken[0] == 1);
}

/* Slots that begin and end inside of a word of the log do not share bits. */
static void test_slots_beside_each_other(void **state) {
	(void)state;
	create(PT_LEVEL_2M, false);
	for (gpa_t gpa = 0; gpa < KiB(4) * 160; gpa += KiB(40))
		assert_int_equal(gmem_add_ram(&gm, gpa, KiB(20)), 0);
	assert_int_equal(gmem_log_start(&gm), 0);
	for (gfn_t gfn = 0; gfn < 160; gfn++) {
		if (gfn % 10 >= 5) continue;
		guest_write(gfn << PAGE_SHIFT);
		assert_int_equal(take(0, 192), 1);
		assert_true(has(gfn));
	}
}

static void test_states(void **state) {
	(void)state;
	create(PT_LEVEL_2M, false);
	assert_int_equal(gmem_add_ram(&gm, 0, MiB(8)), 0);
	assert_int_equal(gmem_log_take(&gm, 0, taken), E_BUSY);
	assert_int_equal(gmem_log_start(&gm), 0);
	assert_int_equal(gmem_log_start(&gm), E_BUSY);
	guest_write(0);
	assert_int_equal(gmem_log_stop(&gm), 0);
	assert_int_equal(gmem_log_take(&gm, 0, taken), E_BUSY);
	/* A new log begins empty. */
	assert_int_equal(gmem_log_start(&gm), 0);
	assert_int_equal(take(0, 2048), 0);
}

static void begin_logging(void) { gm.logging = true; }

/* A page mapped writable while the log begins, too late to be protected: it counts as written. */
static void test_log_begins_during_a_fault(void **state) {
	struct pt_mapping m;

	(void)state;
	create(PT_LEVEL_2M, true);
	assert_int_equal(gmem_add_ram(&gm, 0, MiB(8)), 0);
	assert_int_equal(gmem_log_start(&gm), 0);
	assert_int_equal(gmem_log_stop(&gm), 0);
	pt_store_hook = begin_logging;
	assert_int_equal(gmem_fault(&gm, MiB(4), false, false), 0);
	pt_store_hook = NULL;
	assert_true(pt_walk(&gm.pt, MiB(4), &m) && m.attrs & PT_WRITE);
	assert_int_equal(take(0, 2048), 512);
	assert_true(pt_walk(&gm.pt, MiB(4), &m) && !(m.attrs & PT_WRITE));
}

/* T-P3: bits beyond 2^31 pages are where they belong; what aliases modulo 4 GiB has none. */
static void test_T_P3_high_pages(void **state) {
	static const gpa_t bases[] = {0, GiB(256) - MiB(2), GiB(256), 1ul << 44,
				      (1ul << 48) - MiB(4)};

	(void)state;
	create(PT_LEVEL_2M, true);
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++)
		assert_int_equal(gmem_add_ram(&gm, bases[i], MiB(2)), 0);
	assert_int_equal(gmem_log_start(&gm), 0); /* nothing has been mapped yet */
	for (size_t i = 1; i < ARRAY_SIZE(bases); i++) {
		u64 page = rig_below(512);

		guest_write(bases[i] + page * PAGE_SIZE);
		for (size_t k = 0; k < ARRAY_SIZE(bases); k++) {
			assert_int_equal(take(bases[k] >> PAGE_SHIFT, 512), i == k);
			assert_true(i != k || has(page));
		}
	}
}

/* Whatever runs short, no write is lost: what could not be taken stays in the log. */
static void test_no_memory_for_a_split(void **state) {
	static pfn_t hog[MiB(160) / PAGE_SIZE];
	u32 n = 0;

	(void)state;
	create(PT_LEVEL_2M, false);
	assert_int_equal(gmem_add_ram(&gm, 0, MiB(8)), 0);
	assert_int_equal(gmem_log_start(&gm), 0);
	while (frame_alloc(0, 0, &hog[n]) == 0) n++;
	assert_int_equal(gmem_fault(&gm, MiB(2), true, false), E_NOMEM);
	assert_int_equal(gmem_write(&gm, MiB(2), "x", 1), 0);
	/* Not writable for the guest: needs no split. */
	assert_int_equal(take(0, 2048), 1);
	assert_int_equal(gmem_write(&gm, 0, "x", 1), 0);
	assert_int_equal(gmem_write(&gm, MiB(2) + KiB(8), "x", 1), 0);
	assert_int_equal(gmem_write(&gm, MiB(2) + KiB(12), "x", 1), 0);
	/* A leaf that became writable while the log began. */
	assert_int_equal(pt_protect(&gm.pt, MiB(2), MiB(2), PT_READ | PT_WRITE | PT_EXEC), 0);
	assert_int_equal(take(0, 512), 1);
	assert_int_equal(gmem_log_take(&gm, 512, taken), E_NOMEM);
	assert_int_equal(taken[0], 0);
	while (n) assert_int_equal(frame_free(hog[--n], 0, 0), 0);
	assert_int_equal(take(0, 2048), 2);
	assert_true(has(514) && has(515));
}

/* Reads or writes at gpa in some way; returns how many bytes have been written. */
static u64 write_somehow(gpa_t gpa, u64 len) {
	static u8 buf[KiB(40)];

	switch (rig_below(6)) {
	case 0: return gmem_ptr_write(&gm, gpa, 1) ? 1 : 0;
	case 1: return gmem_write(&gm, gpa, buf, len) ? 0 : len;
	case 2: return gmem_fill(&gm, gpa, 1, len) ? 0 : len;
	case 3: return gmem_read(&gm, gpa, buf, len) == 1;
	case 4:
		if (gmem_ptr(&gm, gpa, 1)) guest_read(gpa);
		return 0;
	default:
		if (!gmem_ptr(&gm, gpa, 1)) return 0;
		guest_write(gpa);
		return 1;
	}
}

/* T-P2: random writes by all ways, random sizes of leaves: the log is their union, exactly. */
static void test_T_P2_log_is_the_union_of_writes(void **state) {
	static const u64 pages = MiB(64) / PAGE_SIZE;
	static bool expected[MiB(64) / PAGE_SIZE];

	(void)state;
	for (u32 round = 0; round < 6; round++) {
		create((u8)(round % 3), round / 3);
		assert_int_equal(gmem_add_ram(&gm, 0, KiB(640)), 0);
		assert_int_equal(gmem_add_ram(&gm, MiB(1), MiB(20) - KiB(12)), 0);
		assert_int_equal(gmem_add_ram(&gm, MiB(30), MiB(34)), 0);
		memset(expected, 0, sizeof(expected));
		assert_int_equal(gmem_log_start(&gm), 0);
		for (u32 step = 0; step < 4000; step++) {
			gpa_t gpa = rig_below(MiB(64));
			u64 len = write_somehow(gpa, 1 + rig_below(KiB(40)));

			for (u64 i = 0; i < len; i++) expected[(gpa + i) / PAGE_SIZE] = true;
			if (rig_below(100) == 0) {
				gfn_t gfn = rig_below(pages / 64) * 64;
				u64 n = (1 + rig_below((pages - gfn) / 64)) * 64;

				take(gfn, n);
				for (u64 i = 0; i < n; i++) {
					assert_int_equal(has(i), expected[gfn + i]);
					expected[gfn + i] = false;
				}
			}
		}
		assert_int_equal(gmem_log_stop(&gm), 0);
		for (gpa_t gpa = MiB(32); gpa < MiB(64); gpa += MiB(2)) {
			struct pt_mapping m;

			guest_write(gpa);
			assert_true(pt_walk(&gm.pt, gpa, &m));
			assert_true(round / 3 || m.level == (round % 3 ? 1 : 0));
		}
		gmem_destroy(&gm);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* ---- page-modification logs: the test plays the processor (SDM 3C 28.3.6) ---- */

#define EPT_WRITE BIT(1)
#define EPT_LEAF  BIT(7)
#define EPT_DIRTY BIT(9)

static _Atomic u64 *pml;
static unsigned pml_left, faults;

static u64 *ept_leaf(gpa_t gpa, unsigned *level) {
	u64 *table = phys_to_virt(gm.pt.root);

	for (*level = 3;; --*level) {
		u64 *entry = &table[gpa >> pt_level_shift(*level) & 511];

		if (!*level || (*entry & EPT_LEAF)) return entry;
		table = phys_to_virt(*entry & PAGE_MASK & GENMASK(51, 0));
	}
}

static void pml_write(gpa_t gpa) {
	unsigned level;

	while (!(*ept_leaf(gpa, &level) & EPT_WRITE)) {
		assert_int_equal(gmem_fault(&gm, gpa, true, false), 0);
		faults++;
	}
	u64 *leaf = ept_leaf(gpa, &level);
	if (*leaf & EPT_DIRTY) return;
	*leaf |= EPT_DIRTY;
	if (!pml_left) {
		gmem_log_collect_of(&gm, pml);
		pml_left = 512;
	}
	atomic_store(&pml[--pml_left], gpa);
}

static u64 collect_and_take(gfn_t gfn, u64 npages) {
	gmem_log_collect(&gm);
	return take(gfn, npages);
}

/* T-P2 once more: the same pages, by one fault for each large page. */
static void test_T_P2_by_the_processor(void **state) {
	struct gmem_config config = {.max_leaf = PT_LEVEL_1G};
	unsigned level;

	(void)state;
	pml_left = 512;
	faults = 0;
	assert_int_equal(gmem_create(&gm, &pt_format_ept, &config), 0);
	assert_int_equal(gmem_add_ram(&gm, 0, MiB(8) + KiB(64)), 0);
	pml = gmem_new_pml(&gm);
	assert_non_null(gmem_new_pml(&gm)); /* of another vCPU */
	pml_write(MiB(2));
	assert_int_equal(faults, 0);
	assert_int_equal(pml_left, 512); /* without a log nothing is noted */
	assert_int_equal(gmem_log_start(&gm), 0);
	assert_int_equal(collect_and_take(0, 2048), 0);
	pml_write(MiB(2) + 0x5123);
	pml_write(MiB(2) + 0x5456);
	pml_write(MiB(2) + 0x6000);
	pml_write(MiB(8) + 0x3000); /* in a block of less than 2 MiB */
	assert_int_equal(collect_and_take(0, 4096), 3);
	assert_true(has(512 + 5) && has(512 + 6) && has(2048 + 3));
	assert_int_equal(faults, 2);
	assert_int_equal(collect_and_take(0, 4096), 0);
	/* The next write is seen again. */
	pml_write(MiB(2) + 0x5000);
	assert_int_equal(collect_and_take(0, 4096), 1);
	/* What Roost writes, and an address that is nobody's, as a hostile L2's might be. */
	assert_int_equal(gmem_fill(&gm, MiB(2) + 0x7000, 1, 1), 0);
	atomic_store(&pml[0], 0x123456789000);
	assert_int_equal(collect_and_take(0, 4096), 1);
	assert_int_equal(collect_and_take(0, 4096), 0);
	/* More than a log has entries. */
	for (u64 i = 0; i < 2 * 512 + 7; i++) pml_write(MiB(4) + i * PAGE_SIZE);
	assert_int_equal(collect_and_take(0, 4096), 2 * 512 + 7);
	assert_int_equal(faults, 4);
	/* What comes late is of no log. */
	pml_write(MiB(4));
	assert_int_equal(gmem_log_stop(&gm), 0);
	ept_leaf(MiB(4), &level);
	assert_int_equal(level, 1);
	assert_int_equal(gmem_log_start(&gm), 0);
	assert_int_equal(collect_and_take(0, 4096), 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_T_P2_one_page_of_a_large_one), TEST(test_T_P2_ranges),
		TEST(test_slots_beside_each_other),	 TEST(test_states),
		TEST(test_log_begins_during_a_fault),	 TEST(test_T_P3_high_pages),
		TEST(test_no_memory_for_a_split),	 TEST(test_T_P2_log_is_the_union_of_writes),
		TEST(test_T_P2_by_the_processor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
