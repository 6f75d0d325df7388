// sources: svm/tlb.c
/* ASIDs and flushes as a state machine, beside a model of the TLB that keeps all it is not told of.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/vm.h"
#include "mm/gmem.h"
#include "platform/fetch.h"
#include "svm/svm.h"

#define VCPUS 5
#define ASIDS 4u

struct svm_features svm_features;

static struct cpu host[2];
static struct svm_cpu svm[2];
static unsigned running; /* this CPU */
static struct vm vm;
static struct gmem gmem;

static struct {
	struct vcpu vcpu;
	struct svm_vcpu arch;
	struct vmcb vmcb;
	struct fetch_cache fetch;
	u64 version; /* of its translations: what a TLB entry of it must show */
} v[VCPUS];

/* What each CPU's TLB holds under each ASID: whose, in which version. 0: nothing. */
static struct {
	unsigned owner;
	u64 version, generation;
} tlb[2][ASIDS];

static bool shadowed; /* it runs an L2 with tables of mm/shadow.h */

bool svm_nested_tlb_enter(struct vcpu *vcpu) {
	(void)vcpu;
	return shadowed;
}

struct cpu *this_cpu(void) {
	return &host[running];
}

static int setup(void **state) {
	(void)state;
	memset(v, 0, sizeof(v));
	memset(tlb, 0, sizeof(tlb));
	memset(&gmem, 0, sizeof(gmem));
	svm_features = (struct svm_features){.nr_asids = ASIDS};
	vm.gmem = &gmem;
	for (u32 i = 0; i < 2; i++) {
		host[i].id = i;
		host[i].backend_data = &svm[i];
		svm[i] = (struct svm_cpu){.next_asid = ASIDS, .asid_generation = 1};
	}
	for (u32 i = 0; i < VCPUS; i++) {
		v[i].vcpu.vm = &vm;
		v[i].vcpu.arch = &v[i].arch;
		v[i].vcpu.fetch = &v[i].fetch;
		v[i].vcpu.fetches[0] = &v[i].fetch;
		v[i].arch.vmcb = &v[i].vmcb;
		v[i].arch.tlb = &v[i].arch.tlb01;
		v[i].arch.tlb->asid_cpu = ~0u;
		v[i].version = 1;
	}
	return 0;
}

static void flush(unsigned i) {
	v[i].version++;
	svm_tlb_flush(&v[i].vcpu);
}

/* VMRUN: obeys TLB_CONTROL, then no entry of this ASID may be another's or older than it must. */
static void enter(unsigned i, bool first) {
	u64 generation = pt_generation(&gmem.pt);

	if (first || v[i].arch.tlb_work) svm_tlb_enter(&v[i].vcpu);
	u32 asid = v[i].vmcb.asid;
	assert_in_range(asid, 1, ASIDS - 1);
	assert_false(v[i].arch.tlb->flush);
	if (v[i].vmcb.tlb_control == TLB_FLUSH_ALL)
		memset(tlb[running], 0, sizeof(tlb[running]));
	else if (v[i].vmcb.tlb_control == TLB_FLUSH_ASID)
		memset(&tlb[running][asid], 0, sizeof(tlb[running][asid]));
	else
		assert_int_equal(v[i].vmcb.tlb_control, 0);
	if (tlb[running][asid].owner) {
		assert_int_equal(tlb[running][asid].owner, i + 1);
		assert_int_equal(tlb[running][asid].version, v[i].version);
		assert_int_equal(tlb[running][asid].generation, generation);
	}
	tlb[running][asid].owner = i + 1;
	tlb[running][asid].version = v[i].version;
	tlb[running][asid].generation = generation;
}

static void test_asid_is_kept(void **state) {
	(void)state;
	enter(0, true);
	u32 asid = v[0].vmcb.asid;
	for (unsigned i = 0; i < 10; i++) {
		enter(0, i & 1);
		assert_int_equal(v[0].vmcb.asid, asid);
		assert_int_equal(v[0].vmcb.tlb_control, 0);
	}
}

static void test_first_entry_flushes_what_firmware_left(void **state) {
	(void)state;
	enter(0, true);
	setup(state);
	tlb[0][1].owner = 99;
	enter(0, true);
}

static void test_flush_by_asid(void **state) {
	(void)state;
	svm_features.flush_by_asid = true;
	enter(0, true);
	enter(0, false);
	u32 asid = v[0].vmcb.asid;
	flush(0);
	enter(0, false);
	assert_int_equal(v[0].vmcb.asid, asid);
	assert_int_equal(v[0].vmcb.tlb_control, TLB_FLUSH_ASID);
	enter(0, false); /* once, not for ever */
	assert_int_equal(v[0].vmcb.tlb_control, 0);
	assert_false(v[0].arch.tlb_work);
}

/* An L2 whose tables have a ledger of their own is looked at before each entry. */
static void test_shadow_is_asked_each_time(void **state) {
	(void)state;
	shadowed = true;
	enter(0, true);
	enter(0, false);
	assert_true(v[0].arch.tlb_work);
	shadowed = false;
	enter(0, false);
	assert_false(v[0].arch.tlb_work);
}

static void test_flush_forgets_code_pages(void **state) {
	(void)state;
	v[0].fetch.pages[3].page = 7;
	flush(0);
	assert_int_equal(v[0].fetch.pages[3].page, 0);
}

#ifndef ROOST_DEBUG
/* A change of the nested table that nobody has asked a flush for is seen by the ledger. */
static void test_changed_table_is_flushed(void **state) {
	(void)state;
	enter(0, true);
	atomic_fetch_add(&gmem.pt.generation, 1);
	enter(0, true);
}
#endif

/* T-X1, T-X5: any order of flushes, entries and CPUs, with and without flush by ASID. */
static void test_random_walk(void **state) {
	(void)state;
	srand(1);
	for (unsigned step = 0; step < 200000; step++) {
		unsigned i = (unsigned)rand() % VCPUS;

		u32 home = v[i].arch.tlb->asid_cpu;

		running = home == ~0u || rand() % 50 == 0 ? (unsigned)rand() % 2 : home;
		if (step == 100000) svm_features.flush_by_asid = true;
		switch (rand() % 8) {
		case 0: flush(i); break;
		case 1:
			atomic_fetch_add(&gmem.pt.generation, 1);
			for (unsigned j = 0; j < VCPUS; j++) flush(j);
			break;
		default:
			enter(i, true);
			enter(i, false);
			break;
		}
	}
	running = 0;
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_asid_is_kept, setup),
		cmocka_unit_test_setup(test_first_entry_flushes_what_firmware_left, setup),
		cmocka_unit_test_setup(test_flush_by_asid, setup),
		cmocka_unit_test_setup(test_shadow_is_asked_each_time, setup),
		cmocka_unit_test_setup(test_flush_forgets_code_pages, setup),
#ifndef ROOST_DEBUG
		cmocka_unit_test_setup(test_changed_table_is_flushed, setup),
#endif
		cmocka_unit_test_setup(test_random_walk, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
