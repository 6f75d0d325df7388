// sources: platform/gwalk.c tests/fakes.c
/*
 * The guest page-table walk in every paging mode: addresses, rights, reserved bits, error codes,
 * accessed and dirty bits. T-P1 (nothing at any level).
 */
#include "tests/fakes.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "platform/cpu_model.h"
#include "platform/gwalk.h"

#define RAM_SIZE MiB(2)

#define P	 1ul
#define W	 2ul
#define U	 4ul
#define A	 0x20ul
#define D	 0x40ul
#define PS	 0x80ul
#define NX	 BIT(63)

#define CR0_PG	 BIT(31)
#define CR0_WP	 BIT(16)
#define CR4_PSE	 BIT(4)
#define CR4_PAE	 BIT(5)
#define CR4_LA57 BIT(12)
#define CR4_SMEP BIT(20)
#define CR4_SMAP BIT(21)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)

/* Error codes as the manual's table has them. */
#define PF_P 1u
#define PF_W 2u
#define PF_U 4u
#define PF_R 8u
#define PF_I 16u

/* Tables lie at fixed places of guest RAM: level 5 first, the page table last. */
#define TABLE(level) (0x10000ul + 0x1000ul * (level))
#define DATA	     0x80000ul
#define DATA2	     0x90000ul

static struct vm *vm;
static struct vcpu *vcpu;
static struct cpu_model model;

static u64 *entry64(unsigned level, unsigned index) {
	return (u64 *)(void *)(fake_ram(vm) + TABLE(level) + 8 * index);
}

static u32 *entry32(unsigned level, unsigned index) {
	return (u32 *)(void *)(fake_ram(vm) + TABLE(level) + 4 * index);
}

static void set_paging(u64 cr0, u64 cr3, u64 cr4, u64 efer) {
	vcpu_set_reg(vcpu, VREG_CR0, cr0 | 1);
	vcpu_set_reg(vcpu, VREG_CR3, cr3);
	vcpu_set_reg(vcpu, VREG_CR4, cr4);
	vcpu_set_reg(vcpu, VREG_EFER, efer);
}

static int setup(void **state) {
	(void)state;
	fake_reset();
	vm = fake_vm_create(1, RAM_SIZE);
	vcpu = vm->vcpus[0];
	model.phys_bits = 40;
	vm->cpu_model = &model;
	return 0;
}

static int teardown(void **state) {
	(void)state;
	fake_vm_destroy(vm);
	return 0;
}

/* Long mode; gva 0x8080604000 + x goes through entries 1, 2, 3, 4 of the four levels. */
#define GVA 0x8080604123ul

static void long_mode(u64 extra_cr4) {
	set_paging(CR0_PG | CR0_WP, TABLE(4), CR4_PAE | extra_cr4, EFER_LMA | EFER_NXE);
	*entry64(4, 1) = TABLE(3) | P | W | U;
	*entry64(3, 2) = TABLE(2) | P | W | U;
	*entry64(2, 3) = TABLE(1) | P | W | U;
	*entry64(1, 4) = DATA | P | W | U;
}

/* Translates; returns the gpa, or all ones with *error (its vector and address are checked). */
static gpa_t translate_at(gva_t gva, u32 access, u32 *error) {
	struct gwalk walk;
	struct fault fault = {0};
	gpa_t gpa = 0;

	gwalk_init(&walk, vcpu);
	int err = gwalk_translate(&walk, gva, access, &gpa, &fault);
	*error = 0;
	if (!err) return gpa;
	assert_int_equal(err, E_FAULT);
	assert_int_equal(fault.vector, 14);
	assert_int_equal(fault.address, gva);
	*error = fault.error;
	return ~0ul;
}

static void expect_gpa(gva_t gva, u32 access, gpa_t gpa) {
	u32 error;

	assert_int_equal(translate_at(gva, access, &error), gpa);
}

static void expect_fault(gva_t gva, u32 access, u32 expected) {
	u32 error;

	assert_int_equal(translate_at(gva, access, &error), ~0ul);
	assert_int_equal(error, expected);
}

static void no_paging(void **state) {
	(void)state;
	set_paging(0, 0, 0, 0);
	expect_gpa(0x12345678, ACCESS_WRITE, 0x12345678);
	expect_gpa(0xffffffff, ACCESS_FETCH, 0xffffffff);
}

static void four_levels(void **state) {
	(void)state;
	long_mode(0);
	expect_gpa(GVA, ACCESS_READ, DATA + 0x123);
	expect_gpa(GVA, ACCESS_FETCH, DATA + 0x123);
	/* CR3 holds flags or a PCID in its low bits, and the upper half of addresses works. */
	set_paging(CR0_PG, TABLE(4) | 0xfff, CR4_PAE, EFER_LMA);
	expect_gpa(GVA, ACCESS_READ, DATA + 0x123);
	*entry64(4, 511) = TABLE(3) | P;
	*entry64(3, 511) = TABLE(2) | P;
	*entry64(2, 511) = TABLE(1) | P;
	*entry64(1, 511) = DATA2 | P;
	expect_gpa(~0ul, ACCESS_READ, DATA2 + 0xfff);
}

static void five_levels(void **state) {
	(void)state;
	long_mode(CR4_LA57);
	set_paging(CR0_PG, TABLE(5), CR4_PAE | CR4_LA57, EFER_LMA);
	*entry64(5, 7) = TABLE(4) | P | W;
	expect_gpa(GVA | 7ul << 48, ACCESS_WRITE, DATA + 0x123);
	assert_int_equal(*entry64(5, 7), TABLE(4) | P | W | A);
	expect_fault(GVA, ACCESS_READ, 0);
}

static void large_pages(void **state) {
	(void)state;
	long_mode(0);
	*entry64(2, 3) = 0x2345e00000 | P | W | PS;
	expect_gpa(0x8080600000 + 0x1abcde, ACCESS_WRITE, 0x2345e00000 + 0x1abcde);
	assert_int_equal(*entry64(2, 3), 0x2345e00000 | P | W | PS | A | D);
	/* bit 12 of a large leaf is PAT, not address */
	*entry64(2, 3) |= BIT(12);
	expect_gpa(0x8080600000, ACCESS_READ, 0x2345e00000);
	*entry64(3, 2) = 0x1240000000 | P | PS;
	expect_gpa(0x8080000000 + 0x3fedcba9, ACCESS_READ, 0x1240000000 + 0x3fedcba9);
}

/* T-P1: nothing at each level in turn; the levels above have been used and say so. */
static void nothing_at_any_level(void **state) {
	static const unsigned index[5] = {0, 4, 3, 2, 1};

	(void)state;
	for (unsigned level = 1; level <= 4; level++) {
		long_mode(0);
		*entry64(level, index[level]) &= ~P;
		expect_fault(GVA, ACCESS_READ, 0);
		expect_fault(GVA, ACCESS_WRITE, PF_W);
		expect_fault(GVA, ACCESS_FETCH, PF_I);
		fake_cpl = 3;
		expect_fault(GVA, ACCESS_READ, PF_U);
		expect_fault(GVA, ACCESS_WRITE, PF_U | PF_W);
		expect_fault(GVA, ACCESS_READ | ACCESS_IMPLICIT, 0);
		fake_cpl = 0;
		assert_false(*entry64(level, index[level]) & A);
		for (unsigned above = level + 1; above <= 4; above++)
			assert_true(*entry64(above, index[above]) & A);
	}
}

static void accessed_and_dirty(void **state) {
	(void)state;
	long_mode(0);
	expect_gpa(GVA, ACCESS_READ, DATA + 0x123);
	assert_int_equal(*entry64(4, 1), TABLE(3) | P | W | U | A);
	assert_int_equal(*entry64(3, 2), TABLE(2) | P | W | U | A);
	assert_int_equal(*entry64(2, 3), TABLE(1) | P | W | U | A);
	assert_int_equal(*entry64(1, 4), DATA | P | W | U | A);
	expect_gpa(GVA, ACCESS_WRITE, DATA + 0x123);
	assert_int_equal(*entry64(1, 4), DATA | P | W | U | A | D);
	assert_int_equal(*entry64(2, 3), TABLE(1) | P | W | U | A);
	/* A refused access does not touch the leaf. */
	*entry64(1, 4) = DATA | P | U;
	expect_fault(GVA, ACCESS_WRITE, PF_P | PF_W);
	assert_int_equal(*entry64(1, 4), DATA | P | U);
}

static void reserved_bits(void **state) {
	static const unsigned index[5] = {0, 4, 3, 2, 1};

	(void)state;
	for (unsigned level = 1; level <= 4; level++) {
		for (unsigned bit = 39; bit <= 52; bit++) {
			long_mode(0);
			*entry64(level, index[level]) |= BIT(bit);
			if (bit >= 40 && bit < 52)
				expect_fault(GVA, ACCESS_READ, PF_P | PF_R);
			else if (level == 1)
				expect_gpa(GVA, ACCESS_READ,
					   (DATA | (bit == 39 ? BIT(39) : 0)) + 0x123);
		}
		/* NX is reserved while EFER.NXE is 0, and the I bit is not reported then. */
		long_mode(0);
		set_paging(CR0_PG, TABLE(4), CR4_PAE, EFER_LMA);
		*entry64(level, index[level]) |= NX;
		expect_fault(GVA, ACCESS_FETCH, PF_P | PF_R);
	}
	/* PS in the top level; address bits below a large page's size. */
	long_mode(0);
	*entry64(4, 1) |= PS;
	expect_fault(GVA, ACCESS_READ, PF_P | PF_R);
	long_mode(0);
	*entry64(3, 2) = BIT(30) | BIT(29) | P | PS;
	expect_fault(GVA, ACCESS_READ, PF_P | PF_R);
	*entry64(3, 2) = BIT(30) | BIT(13) | P | PS;
	expect_fault(GVA, ACCESS_READ, PF_P | PF_R);
	long_mode(0);
	*entry64(2, 3) = BIT(21) | BIT(20) | P | PS;
	expect_fault(GVA, ACCESS_READ, PF_P | PF_R);
	/* Reserved comes before refused: no rights at all, yet R. */
	long_mode(0);
	*entry64(1, 4) = DATA | P | BIT(50);
	fake_cpl = 3;
	expect_fault(GVA, ACCESS_WRITE, PF_P | PF_R | PF_U | PF_W);
}

/* Rights at a level other than the leaf count as well. */
static void rights_of_all_levels(void **state) {
	static const unsigned index[5] = {0, 4, 3, 2, 1};

	(void)state;
	for (unsigned level = 1; level <= 4; level++) {
		long_mode(0);
		*entry64(level, index[level]) &= ~W;
		expect_fault(GVA, ACCESS_WRITE, PF_P | PF_W);
		expect_gpa(GVA, ACCESS_READ, DATA + 0x123);
		long_mode(0);
		*entry64(level, index[level]) &= ~U;
		fake_cpl = 3;
		expect_fault(GVA, ACCESS_READ, PF_P | PF_U);
		fake_cpl = 0;
		long_mode(0);
		*entry64(level, index[level]) |= NX;
		expect_fault(GVA, ACCESS_FETCH, PF_P | PF_I);
		expect_gpa(GVA, ACCESS_WRITE, DATA + 0x123);
	}
}

/* One page and one access against each control bit (APM 2 5.6). */
static const struct {
	u64 page;
	u64 cr0, cr4;
	u32 access;
	u8 cpl;
	bool ac;
	u32 error; /* 0: allowed */
} rights[] = {
	/* WP */
	{P, 0, 0, ACCESS_WRITE, 0, false, 0},
	{P, CR0_WP, 0, ACCESS_WRITE, 0, false, PF_P | PF_W},
	{P | U, 0, 0, ACCESS_WRITE, 3, false, PF_P | PF_W | PF_U},
	{P | U, 0, 0, ACCESS_WRITE, 2, false, 0},
	{P | U, 0, 0, ACCESS_WRITE | ACCESS_IMPLICIT, 3, false, 0},
	/* U/S */
	{P | W, CR0_WP, 0, ACCESS_READ, 3, false, PF_P | PF_U},
	{P | W, CR0_WP, 0, ACCESS_FETCH, 3, false, PF_P | PF_U | PF_I},
	{P | W, CR0_WP, 0, ACCESS_READ | ACCESS_IMPLICIT, 3, false, 0},
	{P | W | U, CR0_WP, 0, ACCESS_WRITE, 3, false, 0},
	/* NX */
	{P | U | NX, CR0_WP, 0, ACCESS_FETCH, 3, false, PF_P | PF_U | PF_I},
	{P | NX, CR0_WP, 0, ACCESS_FETCH, 0, false, PF_P | PF_I},
	{P | NX, CR0_WP, 0, ACCESS_READ, 0, false, 0},
	/* SMEP */
	{P | U, CR0_WP, CR4_SMEP, ACCESS_FETCH, 0, false, PF_P | PF_I},
	{P | U, CR0_WP, CR4_SMEP, ACCESS_FETCH, 3, false, 0},
	{P, CR0_WP, CR4_SMEP, ACCESS_FETCH, 0, false, 0},
	{P | U, CR0_WP, CR4_SMEP, ACCESS_READ, 0, false, 0},
	/* SMAP */
	{P | U, CR0_WP, CR4_SMAP, ACCESS_READ, 0, false, PF_P},
	{P | U | W, CR0_WP, CR4_SMAP, ACCESS_WRITE, 0, false, PF_P | PF_W},
	{P | U, CR0_WP, CR4_SMAP, ACCESS_READ, 0, true, 0},
	{P | U, CR0_WP, CR4_SMAP, ACCESS_READ | ACCESS_IMPLICIT, 0, true, PF_P},
	{P | U, CR0_WP, CR4_SMAP, ACCESS_READ | ACCESS_IMPLICIT, 3, true, PF_P},
	{P | U, CR0_WP, CR4_SMAP, ACCESS_READ, 3, false, 0},
	{P | U, CR0_WP, CR4_SMAP, ACCESS_FETCH, 0, false, 0},
	{P, CR0_WP, CR4_SMAP, ACCESS_READ, 0, false, 0},
};

static void rights_and_control_bits(void **state) {
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rights); i++) {
		u32 error;

		long_mode(0);
		set_paging(CR0_PG | rights[i].cr0, TABLE(4), CR4_PAE | rights[i].cr4,
			   EFER_LMA | EFER_NXE);
		*entry64(1, 4) = DATA | rights[i].page;
		fake_cpl = rights[i].cpl;
		vcpu->rflags = rights[i].ac ? BIT(18) : 0;
		translate_at(GVA, rights[i].access, &error);
		if (error != rights[i].error)
			fail_msg("case %zu: error %x, expected %x", i, error, rights[i].error);
	}
}

/* Without NX and SMEP the I bit is never reported; with SMEP alone it is. */
static void fetch_bit(void **state) {
	(void)state;
	long_mode(0);
	*entry64(1, 4) = 0;
	set_paging(CR0_PG, TABLE(4), CR4_PAE, EFER_LMA);
	expect_fault(GVA, ACCESS_FETCH, 0);
	set_paging(CR0_PG, TABLE(4), CR4_PAE | CR4_SMEP, EFER_LMA);
	expect_fault(GVA, ACCESS_FETCH, PF_I);
}

/* PAE: the top entries have no rights, no accessed bit, and reserved bits of their own. */
static void pae(void **state) {
	const gva_t gva = 0x80604567;

	(void)state;
	set_paging(CR0_PG | CR0_WP, TABLE(3) + 0x20, CR4_PAE, EFER_NXE);
	*entry64(3, 4 + 2) = TABLE(2) | P;
	*entry64(2, 3) = TABLE(1) | P | W | U;
	*entry64(1, 4) = 0x1200000000 | P | W | U;
	fake_cpl = 3;
	expect_gpa(gva, ACCESS_WRITE, 0x1200000567);
	assert_int_equal(*entry64(3, 4 + 2), TABLE(2) | P);
	assert_int_equal(*entry64(2, 3), TABLE(1) | P | W | U | A);
	assert_int_equal(*entry64(1, 4), 0x1200000000 | P | W | U | A | D);
	*entry64(2, 3) = 0x1200200000 | P | W | U | PS;
	expect_gpa(gva, ACCESS_READ, 0x1200204567);
	/* bits 62:52 are ignored in long mode, reserved here */
	*entry64(2, 3) |= BIT(55);
	expect_fault(gva, ACCESS_READ, PF_P | PF_R | PF_U);
	for (unsigned bit = 1; bit < 64; bit++) {
		/* bit 5 by the manual too, but QEMU 7.2 sets it */
		bool reserved = bit == 1 || bit == 2 || (bit >= 6 && bit <= 8) || bit >= 40;

		if (bit >= 12 && bit < 40) continue;
		*entry64(2, 3) = TABLE(1) | P | W | U;
		*entry64(3, 4 + 2) = TABLE(2) | P | BIT(bit);
		if (reserved)
			expect_fault(gva, ACCESS_READ, PF_P | PF_R | PF_U);
		else
			expect_gpa(gva, ACCESS_READ, 0x1200000567);
	}
	*entry64(3, 4 + 2) = 0;
	expect_fault(gva, ACCESS_READ, PF_U);
}

static void two_levels(void **state) {
	const gva_t gva = 0x00c04567; /* entries 3 and 4 */

	(void)state;
	/* NXE has no meaning without PAE, nor have reserved bits. */
	set_paging(CR0_PG | CR0_WP, TABLE(2), 0, EFER_NXE);
	*entry32(2, 3) = (u32)(TABLE(1) | P | W | U | PS);
	*entry32(1, 4) = 0xfffff000u | (u32)(P | W);
	expect_gpa(gva, ACCESS_WRITE, 0xfffff567);
	assert_int_equal(*entry32(2, 3), TABLE(1) | P | W | U | PS | A);
	assert_int_equal(*entry32(1, 4), 0xfffff000u | (u32)(P | W | A | D));
	fake_cpl = 3;
	expect_fault(gva, ACCESS_FETCH, PF_P | PF_U);
	fake_cpl = 0;
	*entry32(1, 4) = 0;
	expect_fault(gva, ACCESS_WRITE, PF_W);
	*entry32(2, 3) = 0;
	expect_fault(gva, ACCESS_READ, 0);
}

/* 4 MiB pages: address bits 39:32 sit in bits 20:13; bit 21 and bits past the width are 0. */
static void pse36(void **state) {
	const gva_t gva = 0x00c04567;

	(void)state;
	set_paging(CR0_PG | CR0_WP, TABLE(2), CR4_PSE, 0);
	*entry32(2, 3) = 0xabc00000u | 0xa5u << 13 | (u32)(P | W | PS);
	expect_gpa(gva, ACCESS_WRITE, 0xa5abc04567);
	assert_int_equal(*entry32(2, 3), 0xabc00000u | 0xa5u << 13 | (u32)(P | W | PS | A | D));
	*entry32(2, 3) |= BIT(21);
	expect_fault(gva, ACCESS_READ, PF_P | PF_R);
	model.phys_bits = 36;
	*entry32(2, 3) = 0x0fu << 13 | (u32)(P | PS);
	expect_gpa(gva, ACCESS_READ, 0xf00004567);
	*entry32(2, 3) = 0x10u << 13 | (u32)(P | PS);
	expect_fault(gva, ACCESS_READ, PF_P | PF_R);
}

/* A table where there is no RAM reads as all ones: reserved bits are set. */
static void tables_outside_ram(void **state) {
	(void)state;
	long_mode(0);
	*entry64(2, 3) = RAM_SIZE | P | W | U;
	expect_fault(GVA, ACCESS_READ, PF_P | PF_R);
	long_mode(0);
	set_paging(CR0_PG, 0xfffffff000, CR4_PAE, EFER_LMA);
	expect_fault(GVA, ACCESS_WRITE, PF_P | PF_R | PF_W);
	set_paging(CR0_PG, RAM_SIZE, CR4_PAE, 0);
	expect_fault(0x1000, ACCESS_READ, PF_P | PF_R);
	/* 32-bit tables of ones lead to ones, and to the page at the top, which has all rights */
	set_paging(CR0_PG, RAM_SIZE, 0, 0);
	expect_gpa(0x1234, ACCESS_WRITE, 0xfffff234);
	/* a table that leads to itself ends after four steps */
	long_mode(0);
	*entry64(4, 1) = TABLE(4) | P | W;
	expect_gpa(1ul << 39 | 1ul << 30 | 1ul << 21 | 1ul << 12, ACCESS_WRITE, TABLE(4));
}

/* Another CPU counts in the bits that software owns while the walk sets A and D beside them. */
static _Atomic bool stop;
static u64 counted;

static void *count_in_entry(void *entry) {
	while (!atomic_load(&stop)) {
		__atomic_fetch_and((u64 *)entry, ~(A | D), __ATOMIC_SEQ_CST);
		__atomic_fetch_add((u64 *)entry, BIT(52), __ATOMIC_SEQ_CST);
		counted++;
	}
	return NULL;
}

static void no_update_is_lost(void **state) {
	struct gwalk walk;
	struct fault fault;
	pthread_t thread;
	gpa_t gpa;

	(void)state;
	long_mode(0);
	gwalk_init(&walk, vcpu);
	atomic_store(&stop, false);
	counted = 0;
	assert_int_equal(pthread_create(&thread, NULL, count_in_entry, entry64(1, 4)), 0);
	for (unsigned i = 0; i < 200000; i++) {
		int err = gwalk_translate(&walk, GVA, ACCESS_WRITE, &gpa, &fault);

		assert_true(err == E_BUSY || (!err && gpa == DATA + 0x123));
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(*entry64(1, 4) >> 52 & 0x7ff, counted & 0x7ff);
}

static void canonical(void **state) {
	struct gwalk walk;

	(void)state;
	long_mode(0);
	gwalk_init(&walk, vcpu);
	assert_true(gva_canonical(&walk, 0x7fffffffffff, 1));
	assert_false(gva_canonical(&walk, 0x7fffffffffff, 2));
	assert_false(gva_canonical(&walk, 0x800000000000, 1));
	assert_false(gva_canonical(&walk, 0xffff7fffffffffff, 2));
	assert_true(gva_canonical(&walk, 0xffff800000000000, 8));
	assert_true(gva_canonical(&walk, ~0ul, 1));
	assert_false(gva_canonical(&walk, ~0ul, 2));
	long_mode(CR4_LA57);
	set_paging(CR0_PG, TABLE(5), CR4_PAE | CR4_LA57, EFER_LMA);
	gwalk_init(&walk, vcpu);
	assert_true(gva_canonical(&walk, 0x800000000000, 1));
	assert_true(gva_canonical(&walk, 0xffffffffffffff, 1));
	assert_false(gva_canonical(&walk, 0xffffffffffffff, 2));
}

static void faults_are_queued(void **state) {
	const struct fault pf = {.vector = 14, .error = 7, .address = 0x1234};
	const struct fault gp = {.vector = 13}, ud = {.vector = 6};

	(void)state;
	assert_int_equal(fault_inject(vcpu, &pf), INJECTED);
	assert_int_equal(vcpu->exception.vector, 14);
	assert_int_equal(vcpu->exception.error, 7);
	assert_int_equal(vcpu_reg(vcpu, VREG_CR2), 0x1234);
	fault_inject(vcpu, &gp);
	assert_int_equal(vcpu->exception.vector, 13);
	assert_true(vcpu->exception.has_error);
	fault_inject(vcpu, &ud);
	assert_int_equal(vcpu->exception.vector, 6);
	assert_false(vcpu->exception.has_error);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
	const struct CMUnitTest tests[] = {
		T(no_paging),
		T(four_levels),
		T(five_levels),
		T(large_pages),
		T(nothing_at_any_level),
		T(accessed_and_dirty),
		T(reserved_bits),
		T(rights_of_all_levels),
		T(rights_and_control_bits),
		T(fetch_bit),
		T(pae),
		T(two_levels),
		T(pse36),
		T(tables_outside_ram),
		T(no_update_is_lost),
		T(canonical),
		T(faults_are_queued),
	};

	return cmocka_run_group_tests_name("gwalk", tests, NULL, NULL);
}
