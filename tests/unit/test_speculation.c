// sources: tests/log_rig.c
/* What is done against speculation, on processors of either vendor that have some of it or nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/cpu.h"
#include "lib/x86.h"
#include "tests/log_rig.h"

static void test_cpuid(u32 leaf, u32 sub, u32 out[4]);
static u64 test_rdmsr(u32 msr);
static void test_wrmsr(u32 msr, u64 value);

#define cpuid test_cpuid
#define rdmsr test_rdmsr
#define wrmsr test_wrmsr
#include "kernel/speculation.c"

struct cpu_features cpu_features;

/* The processor. */
static struct {
	u32 leaf7_edx, leaf72_edx, amd_ebx, amd_eax, threads;
	u64 caps;
} has;

static u64 efer, written_spec, ibpbs, flushes;

static void test_cpuid(u32 leaf, u32 sub, u32 out[4]) {
	memset(out, 0, 4 * sizeof(out[0]));
	assert_true(leaf <= (leaf >> 31 ? cpu_features.max_ext_leaf : cpu_features.max_leaf));
	if (leaf == 7) {
		out[3] = sub ? has.leaf72_edx : has.leaf7_edx;
	} else if (leaf == 0xb) {
		out[1] = has.threads;
	} else if (leaf == 0x80000008) {
		out[1] = has.amd_ebx;
	} else if (leaf == 0x80000021) {
		out[0] = has.amd_eax;
	}
}

/* Each would be #GP on a processor that does not tell of it. */
static u64 test_rdmsr(u32 msr) {
	if (msr == X86_MSR_EFER) return efer;
	assert_int_equal(msr, 0x10a);
	assert_true(has.leaf7_edx & BIT(29));
	return has.caps;
}

static void test_wrmsr(u32 msr, u64 value) {
	bool intel = cpu_features.intel;

	switch (msr) {
	case X86_MSR_EFER: efer = value; break;
	case 0x48:
		assert_true(has.leaf7_edx & BIT(26));
		written_spec = value;
		break;
	case 0x49:
		assert_true(intel ? has.leaf7_edx & BIT(26) : has.amd_ebx & BIT(12));
		assert_int_equal(value, 1);
		ibpbs++;
		break;
	default:
		assert_int_equal(msr, 0x10b);
		assert_true(has.leaf7_edx & BIT(28));
		assert_int_equal(value, 1);
		flushes++;
	}
}

static int setup(void **state) {
	(void)state;
	memset(&has, 0, sizeof(has));
	barriers = 0;
	spec_ctrl = efer = written_spec = ibpbs = flushes = 0;
	auto_ibrs = false;
	rig_log_clear();
	return 0;
}

static void start_intel(u32 edx, u64 caps) {
	cpu_features = (struct cpu_features){.intel = true, .max_leaf = 0xd};
	has.leaf7_edx = edx;
	has.caps = caps;
	speculation_init();
	speculation_barrier();
}

static void start_amd(u32 sizes_ebx, u32 more_eax) {
	cpu_features = (struct cpu_features){
		.amd = true, .max_leaf = 0x10, .max_ext_leaf = more_eax ? 0x80000021 : 0x80000008};
	has.amd_ebx = sizes_ebx;
	has.amd_eax = more_eax;
	efer = X86_EFER_NXE;
	speculation_init();
	speculation_barrier();
}

static void test_nothing(void **state) {
	(void)state;
	has.threads = 2;
	start_intel(0, 0);
	assert_int_equal(ibpbs + flushes + written_spec, 0);
	start_amd(0, 0);
	assert_int_equal(ibpbs + flushes + written_spec, 0);
	assert_int_equal(efer, X86_EFER_NXE);
	assert_int_equal(rig_nr_logged, 0);
	cpu_features = (struct cpu_features){.intel = true, .max_leaf = 6};
	speculation_init();
}

/* Before the leak was mended: all is needed. */
static void test_old_intel(void **state) {
	(void)state;
	start_intel(BIT(10) | BIT(26) | BIT(28), 0);
	assert_int_equal(ibpbs, 1);
	assert_int_equal(flushes, 1);
	assert_int_equal(written_spec, 0);
	assert_true(rig_logged("between VMs: IBPB L1-flush VERW"));
	assert_false(rig_logged("IBRS"));
	assert_false(rig_logged("spy"));
}

/* The caches of a processor that is not affected, or below a hypervisor that flushes, stay warm. */
static void test_new_intel(void **state) {
	(void)state;
	start_intel(BIT(26) | BIT(28) | BIT(29), CAPS_RDCL_NO | CAPS_IBRS_ALL);
	assert_int_equal(ibpbs, 1);
	assert_int_equal(flushes, 0);
	assert_int_equal(written_spec, SPEC_IBRS);
	assert_true(rig_logged("between VMs: IBPB; for Roost: IBRS"));

	setup(NULL);
	has.leaf72_edx = BIT(4);
	start_intel(BIT(26) | BIT(28) | BIT(29), CAPS_SKIP_L1D | CAPS_IBRS_ALL);
	assert_int_equal(flushes, 0);
	assert_int_equal(written_spec, SPEC_IBRS | SPEC_BHI_DIS_S);
}

static void test_threads(void **state) {
	(void)state;
	has.threads = 2;
	start_intel(BIT(10), 0);
	assert_true(rig_logged("other thread of its core"));
	setup(NULL);
	has.threads = 2;
	start_intel(BIT(26) | BIT(29), CAPS_RDCL_NO);
	assert_false(rig_logged("thread"));
}

static void test_amd(void **state) {
	(void)state;
	start_amd(BIT(12), 0);
	assert_int_equal(ibpbs, 1);
	assert_int_equal(efer, X86_EFER_NXE);
	start_amd(BIT(12), BIT(8));
	assert_int_equal(efer, X86_EFER_NXE | BIT(21));
	assert_true(rig_logged("between VMs: IBPB; for Roost: IBRS"));
	efer = X86_EFER_NXE;
	speculation_init_cpu();
	assert_int_equal(efer, X86_EFER_NXE | BIT(21));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_nothing, setup),
		cmocka_unit_test_setup(test_old_intel, setup),
		cmocka_unit_test_setup(test_new_intel, setup),
		cmocka_unit_test_setup(test_threads, setup),
		cmocka_unit_test_setup(test_amd, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
