// sources: svm/intercept.c
/*
 * What exits, as a list: every bit of the intercept words and of the permission maps. A change here
 * is a change of what a guest may touch.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "lib/error.h"
#include "mm/frame.h"
#include "svm/intercept.h"

u64 direct_base_;
struct cpu_features cpu_features;

static void *blocks[2];
static unsigned nr_blocks, fail_at, freed;
struct svm_features svm_features;

void *page_alloc(u64 size) {
	if (nr_blocks + 1 == fail_at) return NULL;
	void *block = aligned_alloc(PAGE_SIZE, size);
	memset(block, 0x5a, size);
	blocks[nr_blocks++ % 2] = block;
	return block;
}

void page_free(const void *pages, u64 size) {
	(void)size;
	freed += pages != NULL;
	free((void *)(u64)pages);
}

static int setup(void **state) {
	(void)state;
	nr_blocks = fail_at = freed = 0;
	svm_features.tcg = svm_features.pause_filter = false;
	cpu_features.rdtscp = true;
	return 0;
}

static void free_blocks(void) {
	for (unsigned i = 0; i < nr_blocks; i++) free(blocks[i]);
}

static bool bit(const u8 *map, u64 n) { return map[n / 8] >> n % 8 & 1; }

/* APM 2 15.11: where the two bits of an MSR are; the third range ends with its 2 KiB. */
static u64 msr_bit(u32 msr) {
	if (msr < 0x2000) return msr * 2ul;
	if (msr >= 0xc0000000 && msr < 0xc0002000) return 0x800 * 8 + (msr - 0xc0000000) * 2ul;
	return 0x1000 * 8 + (msr - 0xc0010000) * 2ul;
}

static void check_msrs(const u8 *map, bool tsc_aux) {
	static const u32 passed[] = {
		0x174,	    0x175,	0x176,	    /* SYSENTER */
		0xc0000081, 0xc0000082, 0xc0000083, /* STAR, LSTAR, CSTAR */
		0xc0000084, 0xc0000100, 0xc0000101, /* SFMASK, FS, GS */
		0xc0000102, 0xc0000103,		    /* KernelGSbase, TSC_AUX */
	};
	u8 expected[2 * PAGE_SIZE];

	memset(expected, 0xff, sizeof(expected));
	for (unsigned i = 0; i < ARRAY_SIZE(passed); i++) {
		u64 n = msr_bit(passed[i]);

		if (passed[i] == 0xc0000103 && !tsc_aux) continue;
		expected[n / 8] &= (u8) ~(3u << n % 8);
	}
	for (u64 n = 0; n < sizeof(expected) * 8; n++)
		if (bit(map, n) != bit(expected, n))
			fail_msg("bit %#lx of the MSR map is %d", n, bit(map, n));
}

static void test_permission_maps(void **state) {
	struct vmcb *vmcb = aligned_alloc(PAGE_SIZE, PAGE_SIZE);

	(void)state;
	memset(vmcb, 0, PAGE_SIZE);
	assert_int_equal(svm_intercept_init(), 0);
	svm_intercept_setup(vmcb);
	const u8 *io = phys_to_virt(vmcb->iopm_base);
	for (u64 n = 0; n < 0x10000 + 3; n++) /* an access may reach beyond the last port */
		assert_true(bit(io, n));
	check_msrs(phys_to_virt(vmcb->msrpm_base), true);
	assert_int_equal(vmcb->iopm_base & ~PAGE_MASK, 0);
	assert_int_equal(vmcb->msrpm_base & ~PAGE_MASK, 0);
	free_blocks();
	free(vmcb);
}

static void test_tsc_aux_only_where_it_exists(void **state) {
	struct vmcb *vmcb = aligned_alloc(PAGE_SIZE, PAGE_SIZE);

	(void)state;
	memset(vmcb, 0, PAGE_SIZE);
	cpu_features.rdtscp = false;
	assert_int_equal(svm_intercept_init(), 0);
	svm_intercept_setup(vmcb);
	check_msrs(phys_to_virt(vmcb->msrpm_base), false);
	free_blocks();
	free(vmcb);
}

/* The numbers are APM 2 appendix B's, on purpose not the names of vmcb.h. */
static void test_intercept_words(void **state) {
	static const u8 word3[] = {0, 1, 3, 15, 18, 19, 22, 24, 26, 27, 28, 30, 31};
	static const u8 word4[] = {0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 13, 14};
	struct vmcb *vmcb = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	u32 misc1 = 0, misc2 = 0;

	(void)state;
	memset(vmcb, 0, PAGE_SIZE);
	svm_intercept_setup(vmcb);
	for (unsigned i = 0; i < sizeof(word3); i++) misc1 |= 1u << word3[i];
	for (unsigned i = 0; i < sizeof(word4); i++) misc2 |= 1u << word4[i];
	assert_int_equal(vmcb->intercept_cr_read, 0x100);
	assert_int_equal(vmcb->intercept_cr_write, 0x110);
	assert_int_equal(vmcb->intercept_dr_read, 0);
	assert_int_equal(vmcb->intercept_dr_write, 0);
	assert_int_equal(vmcb->intercept_exceptions, 1u << 1 | 1u << 17 | 1u << 18);
	assert_int_equal(vmcb->intercept_misc1, misc1);
	assert_int_equal(vmcb->intercept_misc2, misc2);
	assert_int_equal(vmcb->intercept_misc3, 0);
	assert_int_equal(vmcb->vintr, 1u << 24);
	svm_features.tcg = true;
	svm_intercept_setup(vmcb);
	assert_int_equal(vmcb->intercept_misc1, misc1 | 1u << 5);
	/* PAUSE only where a filter lets most of them pass. */
	assert_int_equal(vmcb->pause_count, 0);
	svm_features.pause_filter = true;
	svm_intercept_setup(vmcb);
	assert_int_equal(vmcb->intercept_misc1, misc1 | 1u << 5 | 1u << 23);
	assert_in_range(vmcb->pause_count, 100, 65535);
	free(vmcb);
}

static void test_cr0_writes(void **state) {
	struct vmcb *vmcb = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	struct vmcb *l1 = calloc(1, PAGE_SIZE);
	struct svm_vcpu arch = {.vmcb = vmcb, .vmcb01 = vmcb, .nested.vmcb12 = l1};

	(void)state;
	memset(vmcb, 0, PAGE_SIZE);
	svm_intercept_setup(vmcb);
	svm_intercept_cr0(&arch, true);
	assert_int_equal(vmcb->intercept_cr_write, 0x111);
	svm_intercept_cr0(&arch, false);
	assert_int_equal(vmcb->intercept_cr_write, 0x110);
	/* In an L2, L1's wish counts as well. */
	arch.vmcb01 = NULL;
	svm_intercept_cr0(&arch, true);
	assert_int_equal(vmcb->intercept_cr_write, 0x111);
	l1->intercept_cr_write = 1;
	svm_intercept_cr0(&arch, false);
	assert_int_equal(vmcb->intercept_cr_write, 0x111);
	/* And one that sees the bits change sees paging turned on. */
	l1->intercept_cr_write = 0;
	l1->intercept_misc1 = 1u << 5;
	svm_intercept_cr0(&arch, true);
	assert_int_equal(vmcb->intercept_cr_write, 0x110);
	free(vmcb);
	free(l1);
}

/* Every bit: set in the map for L2 when Roost or L1 has set it. */
static void test_merged_map(void **state) {
	u8 *to = malloc(MSRPM_SIZE), *l1 = malloc(MSRPM_SIZE);
	struct vmcb vmcb;

	(void)state;
	memset(&vmcb, 0, sizeof(vmcb));
	assert_int_equal(svm_intercept_init(), 0);
	svm_intercept_setup(&vmcb);
	const u8 *own = phys_to_virt(vmcb.msrpm_base);
	memset(to, 0xff, MSRPM_SIZE);
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < MSRPM_SIZE; i++) l1[i] = (u8)rand();
		svm_msrpm_merge(to, l1);
		for (unsigned i = 0; i < MSRPM_SIZE; i++)
			if (own[i] != 0xff)
				assert_int_equal(to[i], own[i] | l1[i]);
			else
				assert_int_equal(to[i], 0xff);
	}
	svm_msrpm_merge(to, NULL);
	for (unsigned i = 0; i < MSRPM_SIZE; i++) assert_int_equal(to[i], 0xff);
	free_blocks();
	free(to);
	free(l1);
}

static void test_msr_bits(void **state) {
	static const u32 outside[] = {0x2000,	  0xbfffffff, 0xc0002000, 0xc000ffff,
				      0xc0012000, 0x4b564d00, ~0u};

	(void)state;
	for (u32 i = 0; i < 0x2000; i++) {
		assert_int_equal(svm_msr_bit(i), msr_bit(i));
		assert_int_equal(svm_msr_bit(0xc0000000 + i), msr_bit(0xc0000000 + i));
		assert_int_equal(svm_msr_bit(0xc0010000 + i), msr_bit(0xc0010000 + i));
	}
	for (unsigned i = 0; i < ARRAY_SIZE(outside); i++)
		assert_int_equal(svm_msr_bit(outside[i]), -1);
}

static void test_no_memory(void **state) {
	(void)state;
	fail_at = 1;
	assert_int_equal(svm_intercept_init(), E_NOMEM);
	assert_int_equal(freed, nr_blocks);
	setup(state);
	fail_at = 2;
	assert_int_equal(svm_intercept_init(), E_NOMEM);
	assert_int_equal(freed, 1);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_permission_maps, setup),
		cmocka_unit_test_setup(test_tsc_aux_only_where_it_exists, setup),
		cmocka_unit_test_setup(test_intercept_words, setup),
		cmocka_unit_test_setup(test_cr0_writes, setup),
		cmocka_unit_test_setup(test_merged_map, setup),
		cmocka_unit_test_setup(test_msr_bits, setup),
		cmocka_unit_test_setup(test_no_memory, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
