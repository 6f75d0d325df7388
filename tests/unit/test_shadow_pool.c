// sources: mm/shadow.c mm/gmem.c mm/ptable.c mm/ptable_formats.c mm/frame.c tests/shadow_rig.c
// The pages of shadow tables: bounded, recycled, and not before every vCPU has flushed.
#include "tests/shadow_rig.h"

#include <string.h>

static gpa_t base;

static enum shadow_answer fault(u32 vcpu, gpa_t gpa2, u32 access) {
	struct shadow_found found;

	return shadow_fault(rig_sh, vcpu, gpa2, access, &found);
}

/* A top table all of whose entries point at itself: every address is mapped, to that table. */
static void hostile_l1(u32 nr_vcpus) {
	rig_ram_range(0, MiB(16), 21);
	rig_start(nr_vcpus, 40);
	rig_tables_at(MiB(1));
	base = rig_new_table();
	for (u32 i = 0; i < 512; i++) *rig_at(base + i * 8) = base | PWU;
	for (u32 v = 0; v < nr_vcpus; v++) rig_use(v, SHADOW_NPT_LONG, base);
}

static u64 frames_free(void) {
	struct frame_stats stats;

	frame_stats(&stats);
	return stats.free;
}

/* A walk over all of an L2's addresses, 256 TiB, costs recycling and no memory. */
static void test_hostile_walk(void **state) {
	(void)state;
	hostile_l1(1);
	u64 floor = frames_free() - (u64)rig_sh->max_pages * 4;
	for (u32 i = 0; i < 50000; i++) {
		gpa_t gpa2 = rig_rng(1ul << 48);

		assert_int_equal(fault(0, gpa2, SHADOW_WRITE), SHADOW_FIXED);
		assert_int_equal(rig_hw(false, rig_use(0, SHADOW_NPT_LONG, base), gpa2).address,
				 rig_hpa(base | (gpa2 & 4095)));
		assert_true(frames_free() >= floor);
		if (i % 5000 == 0) shadow_flush(rig_sh, base);
	}
	assert_int_equal(rig_sh->nr_pages, rig_sh->max_pages);
}

static u32 nr_roots(void) {
	u32 n = 0;

	for (struct list *at = rig_sh->roots.next; at != &rig_sh->roots; at = at->next) n++;
	return n;
}

/* As many nested tables as L1 likes: few are kept, those in use among them. */
static void test_many_roots(void **state) {
	(void)state;
	hostile_l1(2);
	hpa_t root = rig_use(1, SHADOW_NPT_LONG, base);
	assert_int_equal(fault(1, 0, 0), SHADOW_FIXED);
	for (u32 i = 1; i < 20000; i++) {
		rig_use(0, SHADOW_NPT_LONG, base + i * PAGE_SIZE);
		if (rig_is_ram(base + i * PAGE_SIZE))
			assert_int_equal(fault(0, 0, 0), SHADOW_REFLECT);
		assert_true(i % 100 || nr_roots() <= 40);
	}
	assert_true(rig_hw(false, root, 0).present);
	assert_int_equal(rig_use(1, SHADOW_NPT_LONG, base), root);
	/* One that went comes back empty. */
	rig_use(0, SHADOW_NPT_LONG, base + PAGE_SIZE);
	assert_int_equal(fault(0, 0, 0), SHADOW_REFLECT);
}

/* The machine has no memory left: what is there is recycled. */
static void test_no_memory(void **state) {
	static pfn_t hog[MiB(97) / PAGE_SIZE];
	u32 n = 0;

	(void)state;
	hostile_l1(3);
	while (frame_alloc(0, 0, &hog[n]) == 0) n++;
	for (u32 i = 0; i < 3000; i++) {
		gpa_t gpa2 = rig_rng(1ul << 48);

		/* Three roots in use, and enough for a way down. */
		if (i % 100 < 3)
			rig_use(i % 100, SHADOW_NPT_LONG, base + (i % 100) * 32 * PAGE_SIZE);
		assert_int_not_equal(fault(i % 3, gpa2, 0), SHADOW_RETRY);
	}
	while (n) assert_int_equal(frame_free(hog[--n], 0, 0), 0);
}

static void test_no_memory_for_a_shadow(void **state) {
	static pfn_t hog[MiB(97) / PAGE_SIZE];
	struct shadow_config config = {.nr_vcpus = 1, .phys_bits = 40};
	u32 n = 0, failed = 0;
	int err;

	(void)state;
	rig_ram_range(0, MiB(16), 21);
	while (frame_alloc(0, 0, &hog[n]) == 0) n++;
	do {
		u64 before = frames_free();

		err = shadow_create(&rig_gm, &config);
		assert_true(!err || err == E_NOMEM);
		assert_true(!err || frames_free() == before);
		failed += err != 0;
		for (u32 i = 0; i < 4; i++) assert_int_equal(frame_free(hog[--n], 0, 0), 0);
	} while (err);
	assert_true(failed > 3);
	while (n) assert_int_equal(frame_free(hog[--n], 0, 0), 0);
}

/* What a vCPU may walk is not recycled before it has left or flushed. */
static void test_recycling_waits_for_the_flush(void **state) {
	gpa_t gpa2 = 0;
	u32 fixed = 0;

	(void)state;
	hostile_l1(2);
	assert_true(shadow_enter(rig_sh, 1));
	while (fault(0, gpa2, 0) == SHADOW_FIXED) {
		gpa2 += 1ul << 39;
		fixed++;
		assert_true(fixed < 1000);
	}
	assert_true(fixed > 10);
	/* Named until it leaves; vCPU 0 itself is out while it faults. */
	assert_int_equal(shadow_laggards(rig_sh), BIT(1));
	assert_int_equal(fault(0, gpa2, 0), SHADOW_RETRY);
	shadow_exit(rig_sh, 1);
	assert_int_equal(shadow_laggards(rig_sh), 0);
	assert_int_equal(fault(0, gpa2, 0), SHADOW_FIXED);
	/* It enters again: with a flush, for much has gone meanwhile; and then with none. */
	assert_true(shadow_enter(rig_sh, 1));
	assert_int_equal(shadow_laggards(rig_sh), 0);
	assert_false(shadow_enter(rig_sh, 1));
}

/* A root that is new to a vCPU's TLB is a flush, also when nothing has gone. */
static void test_change_of_roots_flushes(void **state) {
	(void)state;
	hostile_l1(1);
	assert_true(shadow_enter(rig_sh, 0));
	shadow_exit(rig_sh, 0);
	assert_false(shadow_enter(rig_sh, 0));
	rig_use(0, SHADOW_NPT_LONG, 0);
	assert_true(shadow_enter(rig_sh, 0));
	assert_false(shadow_enter(rig_sh, 0));
}

/* A flush of more than can be compared in one go drops all, and nothing stale stays. */
static void test_flush_of_very_many_pages(void **state) {
	(void)state;
	rig_ram_range(0, MiB(16), 21);
	for (u64 i = 1; i < 5; i++) rig_ram(GiB(i), 30);
	rig_start(1, 40);
	rig_tables_at(MiB(1));
	base = rig_new_table();
	rig_map(base, 0, 0, 0x3000 | PWU, PWU);
	gpa_t directory = rig_entry(base, 0, 1);
	/* 1 GiB after the other, all of them of one page directory and one page table. */
	for (u32 i = 1; i < 512; i++) *rig_at(directory + i * 8) = *rig_at(directory);
	for (u32 i = 1; i < 512; i++)
		*rig_at(rig_entry(base, 0, 2) + i * 8) = *rig_at(rig_entry(base, 0, 2));
	hpa_t root = rig_use(0, SHADOW_NPT_LONG, base);
	for (u64 i = 0; i < 3000; i++)
		assert_int_equal(fault(0, i * MiB(2), SHADOW_WRITE), SHADOW_FIXED);
	shadow_flush_all(rig_sh);
	rig_use(0, SHADOW_NPT_LONG, base);
	for (u64 i = 0; i < 3000; i++) assert_false(rig_hw(false, root, i * MiB(2)).present);
	for (u64 i = 0; i < 1500; i++)
		assert_int_equal(fault(0, i * MiB(2), SHADOW_WRITE), SHADOW_FIXED);
	shadow_flush_all(rig_sh);
	rig_use(0, SHADOW_NPT_LONG, base);
	for (u64 i = 0; i < 1500; i++) assert_true(rig_hw(false, root, i * MiB(2)).present);
	*rig_at(rig_entry(base, 0, 0)) = 0;
	shadow_flush_all(rig_sh);
	rig_use(0, SHADOW_NPT_LONG, base);
	for (u64 i = 0; i < 1500; i++) assert_false(rig_hw(false, root, i * MiB(2)).present);
}

/* One frame behind very many addresses: taken away from all of them. */
static void test_one_frame_everywhere(void **state) {
	(void)state;
	hostile_l1(1);
	hpa_t root = rig_use(0, SHADOW_NPT_LONG, base);
	for (u64 i = 0; i < 512; i++)
		assert_int_equal(fault(0, i * PAGE_SIZE, SHADOW_WRITE), SHADOW_FIXED);
	shadow_forget(rig_sh, base >> PAGE_SHIFT, 1);
	for (u64 i = 0; i < 512; i++) assert_false(rig_hw(false, root, i * PAGE_SIZE).present);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_hostile_walk),
		TEST(test_many_roots),
		TEST(test_no_memory),
		TEST(test_no_memory_for_a_shadow),
		TEST(test_recycling_waits_for_the_flush),
		TEST(test_change_of_roots_flushes),
		TEST(test_flush_of_very_many_pages),
		TEST(test_one_frame_everywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
