// sources: vmx/tlb.c
/*
 * The ledger of flushes, beside a model of a TLB that keeps all that it is not told of
 * (SDM 3C 28.3): mappings of guest physical addresses under an EPT pointer, and combined ones under
 * a VPID.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/panic.h"
#include "kernel/vm.h"
#include "mm/gmem.h"
#include "platform/fetch.h"
#include "vmx/vmx.h"

#define VCPUS 6
#define VMS   2
#define CPUS  2
#define VPIDS 3u

struct vmx_config vmx_config;

static struct vm vms[VMS];
static struct gmem gmems[VMS];
static struct {
	struct vcpu vcpu;
	struct vmx_vcpu arch;
	struct fetch_cache fetch;
	u64 version; /* of its translations: what an entry of it must show */
	unsigned life;
} v[VCPUS];

/* What a CPU holds under each VPID: whose, which version, by which EPT; 0: nothing. */
static struct {
	unsigned life;
	u64 version, generation, eptp;
} combined[CPUS][VPIDS];
static u64 physical[CPUS][VMS]; /* generation + 1 */
static unsigned cpu, lives, loaded, invs[2];

void panic(const char *fmt, ...) {
	(void)fmt;
	abort();
}

void vmx_nested_tlb_enter(struct vcpu *vcpu) {
	(void)vcpu;
	fail();
}

static u64 eptp_of(unsigned vm) { return (vm + 1) * PAGE_SIZE | vmx_config.ept_flags; }

void vmx_inv(bool ept, u64 type, u64 context) {
	invs[ept]++;
	assert_true(type == 1 || type == 2);
	assert_true(type == 1 || !(vmx_cap(&vmx_config.caps, VMX_MSR_EPT_VPID) &
				   (ept ? EPT_CAP_INVEPT_ONE : VPID_CAP_ONE)));
	assert_true(ept || type == 2 || context); /* VPID 0 is refused */
	for (u32 i = 0; i < VPIDS; i++)
		if (type == 2 || (ept ? combined[cpu][i].eptp == context : i == context))
			memset(&combined[cpu][i], 0, sizeof(combined[cpu][i]));
	for (unsigned i = 0; i < VMS && ept; i++)
		if (type == 2 || eptp_of(i) == context) physical[cpu][i] = 0;
}

static void make(unsigned i) {
	memset(&v[i], 0, sizeof(v[i]));
	v[i].vcpu.id = i;
	v[i].vcpu.vm = &vms[i % VMS];
	v[i].vcpu.arch = &v[i].arch;
	v[i].arch.level = &v[i].arch.levels[0];
	v[i].arch.other = &v[i].arch.levels[1];
	v[i].vcpu.fetch = v[i].vcpu.fetches[0] = v[i].vcpu.fetches[1] = &v[i].fetch;
	v[i].arch.level->eptp = eptp_of(i % VMS);
	v[i].life = ++lives;
	v[i].arch.level->vpid = vmx_config.proc2 & PROC2_VPID ? 1 : 0;
}

/* As vmx_load(), which comes before its first entry behind another's. */
static void load(unsigned i) {
	v[i].arch.level->moved = v[i].arch.level->flush = true;
	loaded = i;
}

static void set_caps(u64 caps) {
	vmx_config.caps.msr[VMX_MSR_EPT_VPID - VMX_MSR_FIRST] = caps;
	vmx_config.proc2 = PROC2_VPID;
	vmx_config.ept_flags = 0x5e;
}

static int setup(void **state) {
	(void)state;
	memset(combined, 0, sizeof(combined));
	memset(physical, 0, sizeof(physical));
	memset(gmems, 0, sizeof(gmems));
	set_caps(EPT_CAP_INVEPT_ONE | VPID_CAP_ONE);
	for (unsigned i = 0; i < VMS; i++) {
		vms[i].gmem = &gmems[i];
		gmems[i].pt.root = eptp_of(i) & PAGE_MASK;
	}
	for (unsigned i = VCPUS; i--;) {
		make(i);
		load(i);
	}
	cpu = invs[0] = invs[1] = 0;
	return 0;
}

/* Enters: what the TLB still has for it must be right; then it fills. */
static void enter(unsigned i) {
	u64 generation = pt_generation(&gmems[i % VMS].pt);
	u16 vpid = v[i].arch.level->vpid;

	if (loaded != i) load(i);
	vmx_tlb_enter(&v[i].vcpu);
	if (combined[cpu][vpid].life) {
		assert_int_equal(combined[cpu][vpid].life, v[i].life);
		assert_int_equal(combined[cpu][vpid].version, v[i].version);
		assert_int_equal(combined[cpu][vpid].generation, generation);
	}
	if (physical[cpu][i % VMS]) assert_int_equal(physical[cpu][i % VMS], generation + 1);
	combined[cpu][vpid].life = v[i].life;
	combined[cpu][vpid].version = v[i].version;
	combined[cpu][vpid].generation = generation;
	combined[cpu][vpid].eptp = eptp_of(i % VMS);
	physical[cpu][i % VMS] = generation + 1;
}

static void change_tables(unsigned vm) {
	atomic_fetch_add(&gmems[vm].pt.generation, 1);
	for (unsigned i = vm; i < VCPUS; i += VMS) vmx_tlb_flush(&v[i].vcpu);
}

static void test_what_a_flush_costs(void **state) {
	(void)state;
	enter(0);
	assert_int_equal(invs[0], 1); /* it may have been here before */
	assert_int_equal(invs[1], 1);
	enter(0);
	assert_int_equal(invs[0] + invs[1], 2);
	v[0].version++;
	v[0].fetch.pages[0].cr3 = 1;
	vmx_tlb_flush(&v[0].vcpu);
	assert_int_equal(v[0].fetch.pages[0].cr3, 0);
	enter(0);
	assert_int_equal(invs[0], 2);
	assert_int_equal(invs[1], 1); /* the guest's own tables are no matter of EPT */
	change_tables(0);
	enter(0);
	assert_int_equal(invs[0], 3);
	assert_int_equal(invs[1], 2);
}

static void test_without_vpids(void **state) {
	(void)state;
	vmx_config.proc2 = 0;
	make(0);
	assert_int_equal(v[0].arch.level->vpid, 0);
	load(0);
	vmx_tlb_enter(&v[0].vcpu);
	assert_int_equal(invs[0], 0);
	assert_int_equal(invs[1], 1);
}

static void random_life(u64 caps) {
	setup(NULL);
	set_caps(caps);
	srand(1);
	for (unsigned n = 0; n < 3000; n++) {
		unsigned i = (unsigned)rand() % VCPUS;

		switch (rand() % 8) {
		case 0:
			v[i].version++;
			vmx_tlb_flush(&v[i].vcpu);
			break;
		case 1: change_tables(i % VMS); break;
		case 2: /* all go to the other CPU, as they do one by one */
			cpu ^= 1;
			for (unsigned k = 0; k < VCPUS; k++) load(k);
			break;
		case 3: /* another vCPU comes after it */
			make(i);
			load(i);
			break;
		default: enter(i); break;
		}
	}
}

static void test_random_lives(void **state) {
	(void)state;
	random_life(EPT_CAP_INVEPT_ONE | VPID_CAP_ONE);
	random_life(EPT_CAP_INVEPT_ONE);
	random_life(VPID_CAP_ONE);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_what_a_flush_costs, setup),
		cmocka_unit_test_setup(test_without_vpids, setup),
		cmocka_unit_test_setup(test_random_lives, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
