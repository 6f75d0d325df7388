// sources: platform/cpu_model.c tests/fakes.c
/* The capability record: what is offered, and that all its parts agree (T-G1 for CPUID leaves). */
#include "tests/fakes.h"

#include <string.h>

#include "lib/x86.h"
#include "platform/cpu_model.h"
#include "platform/kvm_pv.h"
#include "tests/fake_hosts.h"

#define KHZ 2600000ul

static struct cpu_model model;

static void build_on(const struct cpu_model_host *host, u32 nr_vcpus) {
	struct cpu_model_config config = {.nr_vcpus = nr_vcpus, .tsc_khz = KHZ};

	assert_int_equal(cpu_model_build(&model, host, &config), 0);
}

static const struct cpuid_leaf *leaf(u32 nr, u32 sub) { return cpu_model_leaf(&model, nr, sub); }

/* A processor with every feature bit set, whose maxima and areas are plausible. */
static void everything(u32 nr, u32 sub, u32 out[4]) {
	fake_leaf(out, ~0u, ~0u, ~0u, ~0u);
	if (nr == 0)
		out[0] = 0x20;
	else if (nr == CPUID_EXT)
		out[0] = CPUID_EXT + 0x26;
	else if (nr == CPUID_EXT + 8)
		out[0] = 0x3934;
	else if (nr == 7)
		out[0] = 2;
	else if (nr == 0xd && sub >= 2)
		fake_xsave_component(sub, out);
	else if ((nr == 4 || nr == CPUID_EXT + 0x1d) && sub > 3)
		out[0] = 0;
}

static const struct cpu_model_host all_amd = {
	.host_cpuid = everything, .host_xcr0 = ~0ul, .gpa_bits = 48, .is_amd = true};
static const struct cpu_model_host all_intel = {
	.host_cpuid = everything, .host_xcr0 = ~0ul, .gpa_bits = 48, .is_amd = false};

static void test_vendor_and_model_are_the_hosts(void **state) {
	(void)state;
	build_on(&fake_amd, 2);
	assert_int_equal(leaf(0, 0)->eax, 0xd);
	assert_int_equal(leaf(0, 0)->ebx, 0x68747541);
	assert_int_equal(leaf(0, 0)->ecx, 0x444d4163);
	assert_int_equal(leaf(0, 0)->edx, 0x69746e65);
	assert_int_equal(leaf(1, 0)->eax, 0x00800f12);
	assert_int_equal(leaf(CPUID_EXT, 0)->ebx, 0x68747541);
	build_on(&fake_intel, 2);
	assert_int_equal(leaf(0, 0)->ebx, 0x756e6547);
	assert_int_equal(leaf(CPUID_EXT, 0)->ebx, 0);
}

/* SVM is there only for a guest that may be a hypervisor, on AMD; then all of it is Roost's. */
static void test_svm_is_offered(void **state) {
	struct cpu_model_config config = {.nr_vcpus = 1, .tsc_khz = KHZ, .nested = true};

	(void)state;
	assert_int_equal(cpu_model_build(&model, &fake_amd, &config), 0);
	assert_true(leaf(CPUID_EXT + 1, 0)->ecx & BIT(2));
	assert_true(model.has_svm);
	assert_true(model.efer_allowed & X86_EFER_SVME);
	assert_int_equal(leaf(CPUID_EXT + 0xa, 0)->eax, 1);
	assert_int_equal(leaf(CPUID_EXT + 0xa, 0)->ebx, 0x8000);
	assert_int_equal(leaf(CPUID_EXT + 0xa, 0)->ecx, 0);
	assert_int_equal(leaf(CPUID_EXT + 0xa, 0)->edx,
			 BIT(0) | BIT(3) | BIT(6) | BIT(7) | BIT(15) | BIT(28));
	config.nested = false;
	assert_int_equal(cpu_model_build(&model, &fake_amd, &config), 0);
	assert_false(leaf(CPUID_EXT + 1, 0)->ecx & BIT(2));
	assert_false(model.has_svm);
	assert_false(model.efer_allowed & X86_EFER_SVME);
	config.nested = true;
	assert_int_equal(cpu_model_build(&model, &fake_intel, &config), 0);
	assert_false(model.has_svm);
}

static void test_nothing_unlisted_leaks(void **state) {
	(void)state;
	build_on(&all_amd, 4);
	assert_int_equal(leaf(1, 0)->ecx & BIT(3), 0);	/* MONITOR */
	assert_int_equal(leaf(1, 0)->ecx & BIT(5), 0);	/* VMX */
	assert_int_equal(leaf(1, 0)->ecx & BIT(27), 0); /* OSXSAVE is the vCPU's */
	assert_int_equal(leaf(1, 0)->ecx, 0xf7fa3203);
	assert_int_equal(leaf(1, 0)->edx, 0x178bfbff);
	assert_int_equal(leaf(7, 0)->ebx, 0xf1bf27eb);
	assert_int_equal(leaf(7, 0)->ecx & BIT(16), 0);		   /* LA57 */
	assert_int_equal(leaf(7, 0)->ecx & BIT(4), 0);		   /* OSPKE is the vCPU's */
	assert_int_equal(leaf(7, 0)->edx & 0xfc000000, 0);	   /* speculation controls */
	assert_int_equal(leaf(CPUID_EXT + 1, 0)->ecx & BIT(2), 0); /* SVM */
	assert_int_equal(leaf(CPUID_EXT + 1, 0)->ecx, 0x00610bf3);
	assert_int_equal(leaf(CPUID_EXT + 7, 0)->edx, BIT(8));
	assert_int_equal(leaf(CPUID_EXT + 7, 0)->ebx, 0);
	assert_int_equal(leaf(CPUID_EXT + 8, 0)->ebx, 5);
	assert_int_equal(leaf(CPUID_EXT + 0xa, 0)->edx, 0);  /* SVM features */
	assert_int_equal(leaf(CPUID_EXT + 0x1f, 0)->eax, 0); /* SEV */
	assert_int_equal(leaf(5, 0)->eax | leaf(5, 0)->edx, 0);
	assert_int_equal(leaf(0xa, 0)->eax, 0);
	build_on(&all_intel, 4);
	assert_int_equal(leaf(1, 0)->ecx, 0xf7fa3203);
	assert_int_equal(leaf(CPUID_EXT + 1, 0)->ecx, BIT(0) | BIT(5) | BIT(8));
	assert_int_equal(leaf(CPUID_EXT + 1, 0)->edx,
			 BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29));
	assert_int_equal(leaf(0xa, 0)->eax, 0);
}

static void test_emulated_features_are_always_there(void **state) {
	(void)state;
	build_on(&fake_amd, 1);
	assert_true(leaf(1, 0)->ecx & BIT(21)); /* x2APIC */
	assert_true(leaf(1, 0)->ecx & BIT(24));
	assert_true(leaf(1, 0)->ecx & BIT(31));
	assert_true(leaf(7, 0)->ebx & BIT(1));
	assert_true(leaf(6, 0)->eax & BIT(2));
	assert_true(leaf(CPUID_EXT + 7, 0)->edx & BIT(8));
	assert_true(leaf(CPUID_EXT + 1, 0)->ecx & BIT(9));
	build_on(&fake_intel, 1);
	assert_false(leaf(CPUID_EXT + 1, 0)->ecx & BIT(9));
}

static void no_xsave(u32 nr, u32 sub, u32 out[4]) {
	fake_amd_cpuid(nr, sub, out);
	if (nr == 1) out[2] &= ~(1u << 26);
}

static void test_features_go_with_their_state(void **state) {
	struct cpu_model_host host = fake_amd;

	(void)state;
	host.host_xcr0 = 3; /* Roost does not switch AVX */
	build_on(&host, 1);
	assert_true(leaf(1, 0)->ecx & BIT(26));
	assert_int_equal(leaf(1, 0)->ecx & (BIT(28) | BIT(12) | BIT(29)), 0);
	assert_int_equal(leaf(7, 0)->ebx & BIT(5), 0);
	assert_int_equal(model.xcr0_allowed, 3);
	assert_int_equal(leaf(0xd, 0)->ecx, 576);
	host.host_xcr0 = 0;
	build_on(&host, 1);
	assert_int_equal(leaf(1, 0)->ecx & BIT(26), 0);
	assert_int_equal(leaf(0, 0)->eax, 0xb);
	assert_int_equal(leaf(0xd, 0)->eax, 0);
	assert_true(model.cr4_reserved & X86_CR4_OSXSAVE);
	host.host_xcr0 = 7;
	host.host_cpuid = no_xsave;
	build_on(&host, 1);
	assert_int_equal(model.xcr0_allowed, 0);
	assert_int_equal(leaf(1, 0)->ecx & BIT(28), 0);
	assert_int_equal(leaf(0xd, 1)->eax, 0);
}

static void no_pkru_area(u32 nr, u32 sub, u32 out[4]) {
	fake_intel_cpuid(nr, sub, out);
	if (nr == 0xd && sub == 9) fake_leaf(out, 0, 0, 0, 0);
}

/* A known emulator advertises PKU without an area for PKRU; Linux stalls on that. */
static void test_protection_keys_need_an_area(void **state) {
	struct cpu_model_host host = fake_intel;

	(void)state;
	build_on(&host, 1);
	assert_true(leaf(7, 0)->ecx & BIT(3));
	assert_true(model.xcr0_allowed & BIT(9));
	assert_int_equal(model.cr4_reserved & X86_CR4_PKE, 0);
	host.host_cpuid = no_pkru_area;
	build_on(&host, 1);
	assert_int_equal(leaf(7, 0)->ecx & BIT(3), 0);
	assert_int_equal(model.xcr0_allowed & BIT(9), 0);
	assert_true(model.cr4_reserved & X86_CR4_PKE);
}

static void test_avx512_is_whole_or_absent(void **state) {
	struct cpu_model_host host = fake_intel;

	(void)state;
	build_on(&host, 1);
	assert_int_equal(model.xcr0_allowed, 0x2e7);
	assert_true(leaf(7, 0)->ebx & BIT(16));
	assert_int_equal(leaf(0xd, 7)->eax, 1024);
	host.host_xcr0 = 0x267; /* upper registers missing */
	build_on(&host, 1);
	assert_int_equal(model.xcr0_allowed, 0x207);
	assert_int_equal(leaf(7, 0)->ebx & (BIT(16) | BIT(31)), 0);
	assert_int_equal(leaf(0xd, 5)->eax, 0);
}

static void test_xsave_sizes(void **state) {
	(void)state;
	build_on(&fake_intel, 1);
	assert_int_equal(cpu_model_xsave_size(&model, 3, XSAVE_STANDARD), 576);
	assert_int_equal(cpu_model_xsave_size(&model, 7, XSAVE_STANDARD), 832);
	assert_int_equal(cpu_model_xsave_size(&model, 0x203, XSAVE_STANDARD), 2696);
	assert_int_equal(model.xsave_size, 2696);
	assert_int_equal(leaf(0xd, 0)->ecx, 2696);
	assert_int_equal(leaf(0xd, 0)->eax, 0x2e7);
	assert_int_equal(cpu_model_xsave_size(&model, 1, XSAVE_COMPACTED), 576);
	assert_int_equal(cpu_model_xsave_size(&model, 7, XSAVE_COMPACTED), 832);
	assert_int_equal(cpu_model_xsave_size(&model, 0x207, XSAVE_COMPACTED), 840);
	assert_int_equal(cpu_model_xsave_size(&model, 0x22, XSAVE_COMPACTED),
			 576 + 64); /* no AVX */
	assert_int_equal(cpu_model_xsave_size(&model, 0x2e7, XSAVE_COMPACTED),
			 576 + 256 + 64 + 512 + 1024 + 8);
	assert_int_equal(leaf(0xd, 9)->ecx, 2);
	assert_int_equal(leaf(0xd, 3)->eax, 0); /* MPX: not offered */
	assert_int_equal(leaf(0xd, 1)->ecx, 0); /* no supervisor components */
	assert_int_equal(leaf(0xd, 63)->eax, 0);
	assert_int_equal(leaf(0xd, ~0u)->eax, 0);
}

static void no_xsavec(u32 nr, u32 sub, u32 out[4]) {
	fake_amd_cpuid(nr, sub, out);
	if (nr == 0xd && sub == 1) out[0] &= ~2u;
}

static void test_xsaves_needs_xsavec(void **state) {
	struct cpu_model_host host = fake_amd;

	(void)state;
	build_on(&host, 1);
	assert_int_equal(leaf(0xd, 1)->eax, 0xf);
	assert_true(leaf(0xd, 1)->live);
	assert_true(model.has_xsaves);
	host.host_cpuid = no_xsavec;
	build_on(&host, 1);
	assert_int_equal(leaf(0xd, 1)->eax, 5);
	assert_false(leaf(0xd, 1)->live);
	assert_false(model.has_xsaves);
	/* Or the back end keeps it. */
	host = fake_amd;
	host.no_xsaves = true;
	build_on(&host, 1);
	assert_int_equal(leaf(0xd, 1)->eax, 7);
	assert_false(model.has_xsaves);
	/* Or the host's is wrong. */
	host = fake_amd;
	host.no_xsavec = true;
	build_on(&host, 1);
	assert_int_equal(leaf(0xd, 1)->eax, 5);
	assert_false(model.has_xsaves);
}

static void test_reserved_bits_follow_features(void **state) {
	(void)state;
	build_on(&fake_amd, 1);
	/* This host has VME, SMEP, SMAP, UMIP, FSGSBASE, XSAVE, no PCID, no protection keys. */
	assert_int_equal(~model.cr4_reserved, 0x350fff);
	assert_int_equal(model.cr0_reserved, 0xffffffff00000000);
	assert_int_equal(model.efer_allowed, 0x4d01);
	build_on(&fake_intel, 1);
	assert_int_equal(model.efer_allowed, 0xd01);
	assert_int_equal(~model.cr4_reserved & X86_CR4_VMXE, 0);
	build_on(&all_amd, 1);
	assert_int_equal(~model.cr4_reserved, 0x770fff);
	assert_int_equal(model.efer_allowed & X86_EFER_SVME, 0);
}

static void test_topology_is_one_socket_of_cores(void **state) {
	static const struct {
		u32 vcpus, bits;
	} cases[] = {{1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {33, 6}, {64, 6}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		u32 n = cases[i].vcpus, bits = cases[i].bits;

		build_on(&fake_amd, n);
		assert_int_equal(leaf(1, 0)->ebx, n << 16 | 0x800);
		assert_int_equal(leaf(1, 0)->edx >> 28 & 1, n > 1);
		assert_int_equal(leaf(CPUID_EXT + 1, 0)->ecx >> 1 & 1, n > 1);
		assert_int_equal(leaf(CPUID_EXT + 8, 0)->ecx, bits << 12 | (n - 1));
		assert_int_equal(leaf(0xb, 0)->eax, 0);
		assert_int_equal(leaf(0xb, 0)->ebx, 1);
		assert_int_equal(leaf(0xb, 0)->ecx, 0x100);
		assert_int_equal(leaf(0xb, 1)->eax, bits);
		assert_int_equal(leaf(0xb, 1)->ebx, n);
		assert_int_equal(leaf(0xb, 1)->ecx, 0x201);
		assert_int_equal(leaf(0xb, 2)->ebx, 0);
		assert_true(leaf(0xb, 2)->flags & CPUID_REST);
		assert_true(leaf(0xb, 77)->flags & CPUID_REST);
		assert_int_equal(leaf(CPUID_EXT + 0x1d, 2)->eax, 0x143);
		assert_int_equal(leaf(CPUID_EXT + 0x1d, 3)->eax, 0x163 | (n - 1) << 14);
		assert_int_equal(leaf(CPUID_EXT + 0x1d, 4)->eax, 0);
		assert_true(leaf(CPUID_EXT + 0x1e, 0)->live);
		assert_int_equal(leaf(4, 0)->eax, 0);
		build_on(&fake_intel, n);
		assert_int_equal(leaf(1, 0)->ebx, 1u << bits << 16 | 0x800);
		assert_int_equal(leaf(4, 3)->eax,
				 ((1u << bits) - 1) << 26 | 0x163 | ((1u << bits) - 1) << 14);
		assert_int_equal(leaf(4, 0)->eax, ((1u << bits) - 1) << 26 | 0x121);
		assert_int_equal(leaf(4, 4)->eax, 0);
		assert_int_equal(leaf(CPUID_EXT + 8, 0)->ecx, 0);
	}
}

static void test_hypervisor_leaves(void **state) {
	struct cpu_model_config config = {.nr_vcpus = 1, .tsc_khz = KHZ, .dedicated = true};

	(void)state;
	build_on(&fake_amd, 1);
	const struct cpuid_leaf *l = leaf(CPUID_HV, 0);
	assert_int_equal(l->eax, 0x40000010);
	assert_memory_equal(&l->ebx, "KVMK", 4);
	assert_memory_equal(&l->ecx, "VMKV", 4);
	assert_memory_equal(&l->edx, "M\0\0\0", 4);
	assert_int_equal(leaf(CPUID_HV + 1, 0)->eax, 0x10018cb);
	assert_int_equal(leaf(CPUID_HV + 1, 0)->edx, 0);
	assert_int_equal(leaf(CPUID_HV + 0x10, 0)->eax, KHZ);
	assert_int_equal(leaf(CPUID_HV + 0x10, 0)->ebx, 1000000);
	assert_int_equal(leaf(CPUID_HV + 2, 0)->eax, 0);
	assert_int_equal(leaf(CPUID_HV + 0x11, 0)->eax, 0);
	assert_int_equal(cpu_model_build(&model, &fake_amd, &config), 0);
	assert_int_equal(leaf(CPUID_HV + 1, 0)->edx, 1);
}

static void assert_same(u32 nr, u32 sub, const struct cpuid_leaf *expected) {
	assert_ptr_equal(leaf(nr, sub), expected);
}

static void test_leaves_out_of_range(void **state) {
	static const u32 beyond[] = {0x17,	 0x1f,	     0x20,	 0x3fffffff, 0x50000000,
				     0x80000009, 0x80000021, 0x80000022, 0xc0000000, ~0u};

	(void)state;
	build_on(&fake_amd, 2);
	for (size_t i = 0; i < ARRAY_SIZE(beyond); i++)
		assert_same(beyond[i], 0, &model.leaves[0]); /* AMD: zeros */
	assert_same(0x15, 0, &model.leaves[0]);
	assert_same(0x16, 0, &model.leaves[0]);
	build_on(&fake_intel, 2);
	assert_int_equal(leaf(0x16, 0)->eax, 2600);
	for (size_t i = 0; i < ARRAY_SIZE(beyond); i++)
		assert_same(beyond[i], 0, leaf(0x16, 0)); /* Intel: the highest basic leaf */
	assert_same(0x40000099, 0, &model.leaves[0]);
	assert_same(3, 0, &model.leaves[0]); /* inside the range, but not there */
}

static void test_intel_frequencies(void **state) {
	(void)state;
	build_on(&fake_intel, 1);
	const struct cpuid_leaf *l = leaf(0x15, 0);
	assert_int_equal((u64)l->ecx * l->ebx / l->eax, KHZ * 1000);
	assert_int_equal(l->ecx, 1000000000); /* what the APIC timer counts */
}

static void test_physical_width(void **state) {
	struct cpu_model_host host = all_amd;

	(void)state;
	build_on(&host, 1);
	assert_int_equal(model.phys_bits, 48); /* host 52, nested paging 48 */
	assert_int_equal(leaf(CPUID_EXT + 8, 0)->eax, 0x3030);
	host.gpa_bits = 0;
	build_on(&host, 1);
	assert_int_equal(model.phys_bits, 52);
}

static void too_old(u32 nr, u32 sub, u32 out[4]) {
	fake_amd_cpuid(nr, sub, out);
	if (nr == CPUID_EXT + 1) out[3] &= ~(1u << 29);
}

static void test_host_without_long_mode(void **state) {
	struct cpu_model_config config = {.nr_vcpus = 1, .tsc_khz = KHZ};
	struct cpu_model_host host = fake_amd;

	(void)state;
	host.host_cpuid = too_old;
	assert_int_equal(cpu_model_build(&model, &host, &config), E_NOSUPP);
}

/* Order, indices and bounds of the leaves. 0 or E_FORMAT. */
static int check_leaves(const struct cpu_model *m) {
	if (m->nr_leaves < 2 || m->nr_leaves >= CPUID_MAX_LEAVES) return E_FORMAT;
	for (u32 i = 0; i < CPUID_SLOTS; i++)
		if (m->slot[i] >= m->nr_leaves) return E_FORMAT;
	for (u32 i = 1; i < m->nr_leaves; i++) {
		const struct cpuid_leaf *l = &m->leaves[i], *before = l - 1;

		if (i > 1 && before->leaf > l->leaf) return E_FORMAT;
		if (i > 1 && before->leaf == l->leaf &&
		    (before->subleaf >= l->subleaf || !(before->flags & CPUID_SUBLEAVES)))
			return E_FORMAT;
		if (cpu_model_leaf(m, l->leaf, l->subleaf) != l) return E_FORMAT;
	}
	return 0;
}

/* T-G1: strictly ascending, no duplicates, and the indices point at the first entry of a leaf. */
static void test_T_G1_leaves_are_sorted(void **state) {
	const struct cpu_model_host *hosts[] = {&fake_amd, &fake_intel, &all_amd, &all_intel};

	(void)state;
	for (size_t h = 0; h < ARRAY_SIZE(hosts); h++) {
		struct cpuid_leaf saved;

		build_on(hosts[h], 64);
		assert_int_equal(check_leaves(&model), 0);
		for (u32 i = 1; i < model.nr_leaves; i++) {
			const struct cpuid_leaf *l = &model.leaves[i];

			assert_ptr_equal(leaf(l->leaf, l->subleaf), l);
		}
		saved = model.leaves[3];
		model.leaves[3] = model.leaves[2];
		assert_int_equal(check_leaves(&model), E_FORMAT);
		model.leaves[3] = saved;
		model.leaves[3].leaf = 0x7fffffff;
		assert_int_equal(check_leaves(&model), E_FORMAT);
		model.leaves[3] = saved;
		for (u32 i = 2; i < model.nr_leaves; i++) {
			struct cpuid_leaf *l = &model.leaves[i];

			if (l[-1].leaf != l->leaf) continue;
			saved = *l;
			l->subleaf = l[-1].subleaf;
			assert_int_equal(check_leaves(&model), E_FORMAT);
			*l = saved;
		}
		model.slot[CPUID_SLOT_EXT + 8]++;
		assert_int_equal(check_leaves(&model), E_FORMAT);
		model.slot[CPUID_SLOT_EXT + 8]--;
		assert_int_equal(check_leaves(&model), 0);
	}
}

static u32 noise;

static void random_cpuid(u32 nr, u32 sub, u32 out[4]) {
	for (unsigned i = 0; i < 4; i++) {
		noise = noise * 1664525 + 1013904223;
		out[i] = noise ^ noise >> 13 ^ nr ^ sub << 7;
	}
	if (nr == 0) out[0] &= 0x3f;
	if (nr == CPUID_EXT) out[0] = CPUID_EXT + (out[0] & 0x3f);
	if (nr == 1) out[3] |= 0x07000179;
	if (nr == CPUID_EXT + 1) out[3] |= 1u << 29;
}

/* Whatever a host claims, the record is in order and every question has an answer. */
/* As the back end of an Intel machine says, and never on AMD's. */
static void test_vmx_is_offered(void **state) {
	struct cpu_model_config config = {.nr_vcpus = 1, .tsc_khz = KHZ, .nested = true};
	u64 msrs[VMX_FEATURE_MSRS] = {0x1234};
	struct cpu_model_host host = {.host_cpuid = fake_intel_cpuid, .vmx_msrs = msrs};

	(void)state;
	assert_int_equal(cpu_model_build(&model, &host, &config), 0);
	assert_true(model.has_vmx);
	assert_true(leaf(1, 0)->ecx >> 5 & 1);
	assert_false(model.cr4_reserved & X86_CR4_VMXE);
	assert_int_equal(model.vmx_msrs[0], 0x1234);
	assert_int_equal(model.vmx_msrs[VMX_FEATURE_CR4_FIXED1], ~model.cr4_reserved);
	config.nested = false;
	assert_int_equal(cpu_model_build(&model, &host, &config), 0);
	assert_false(model.has_vmx);
	assert_false(leaf(1, 0)->ecx >> 5 & 1);
	assert_true(model.cr4_reserved & X86_CR4_VMXE);
	config.nested = true;
	msrs[0] = 0;
	assert_int_equal(cpu_model_build(&model, &host, &config), 0);
	assert_false(model.has_vmx);
	host.vmx_msrs = NULL;
	assert_int_equal(cpu_model_build(&model, &host, &config), 0);
	assert_false(model.has_vmx);
	msrs[0] = 1;
	host = (struct cpu_model_host){
		.host_cpuid = fake_amd_cpuid, .is_amd = true, .vmx_msrs = msrs};
	assert_int_equal(cpu_model_build(&model, &host, &config), 0);
	assert_false(model.has_vmx);
}

static void test_any_host_gives_a_sound_record(void **state) {
	struct cpu_model_config config = {.nr_vcpus = 1, .tsc_khz = KHZ};
	unsigned built = 0;

	(void)state;
	for (u32 round = 0; round < 2000; round++) {
		struct cpu_model_host host = {random_cpuid, ~0ul,      (u8)(round & 63),
					      round & 1,    round & 2, round & 4,
					      NULL};
		int err;

		config.nr_vcpus = 1 + round % VM_MAX_VCPUS;
		err = cpu_model_build(&model, &host, &config);
		assert_true(err == 0 || err == E_NOSUPP);
		if (err) continue;
		built++;
		assert_int_equal(check_leaves(&model), 0);
		assert_true(model.nr_leaves < CPUID_MAX_LEAVES - 1); /* all have fit */
		for (u32 nr = 0; nr < 0x30; nr++)
			for (u32 sub = 0; sub < 12; sub++) {
				assert_non_null(leaf(nr, sub));
				assert_non_null(leaf(CPUID_EXT + nr, sub));
			}
		assert_true(model.xsave_size <= 2 * PAGE_SIZE);
	}
	assert_true(built > 500);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vendor_and_model_are_the_hosts),
		cmocka_unit_test(test_svm_is_offered),
		cmocka_unit_test(test_vmx_is_offered),
		cmocka_unit_test(test_nothing_unlisted_leaks),
		cmocka_unit_test(test_emulated_features_are_always_there),
		cmocka_unit_test(test_features_go_with_their_state),
		cmocka_unit_test(test_protection_keys_need_an_area),
		cmocka_unit_test(test_avx512_is_whole_or_absent),
		cmocka_unit_test(test_xsave_sizes),
		cmocka_unit_test(test_xsaves_needs_xsavec),
		cmocka_unit_test(test_reserved_bits_follow_features),
		cmocka_unit_test(test_topology_is_one_socket_of_cores),
		cmocka_unit_test(test_hypervisor_leaves),
		cmocka_unit_test(test_leaves_out_of_range),
		cmocka_unit_test(test_intel_frequencies),
		cmocka_unit_test(test_physical_width),
		cmocka_unit_test(test_host_without_long_mode),
		cmocka_unit_test(test_T_G1_leaves_are_sorted),
		cmocka_unit_test(test_any_host_gives_a_sound_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
