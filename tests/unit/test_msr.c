// sources: platform/msr.c platform/cr.c platform/cpu_model.c tests/fakes.c
/* MSRs: the table, and what each register accepts. */
#include "tests/fakes.h"

#include <stdlib.h>
#include <string.h>

#include "lib/x86.h"
#include "platform/cpu_model.h"
#include "platform/cr.h"
#include "platform/kvm_pv.h"
#include "platform/lapic.h"
#include "platform/msr.h"
#include "tests/fake_hosts.h"

static struct cpu_model model;
static struct vm *vm;
static struct vcpu *vcpu;

/* ---- the local APIC and the paravirtual part, as recorders ---- */

static struct lapic apic;
static u64 deadline, x2apic_value, kvm_value;
static u32 x2apic_msr, kvm_msr, apic_tsc_moves, clock_moves;

int lapic_set_base(struct vcpu *v, u64 value) {
	if (value & 1) return E_INVAL;
	v->lapic->base = value;
	return 0;
}

u64 lapic_deadline(struct vcpu *v) {
	(void)v;
	return deadline;
}

void lapic_set_deadline(struct vcpu *v, u64 value) {
	(void)v;
	deadline = value;
}

void lapic_tsc_changed(struct vcpu *v) {
	(void)v;
	apic_tsc_moves++;
}

int lapic_msr_read(struct vcpu *v, u32 msr, u64 *value) {
	(void)v;
	x2apic_msr = msr;
	*value = x2apic_value;
	return msr == 0x8ff ? E_INVAL : 0;
}

int lapic_msr_write(struct vcpu *v, u32 msr, u64 value) {
	(void)v;
	x2apic_msr = msr;
	x2apic_value = value;
	return msr == 0x8ff ? E_INVAL : 0;
}

void lapic_set_tpr(struct vcpu *v, u8 tpr) {
	(void)v;
	(void)tpr;
}

int kvm_pv_msr_read(struct vcpu *v, u32 msr, u64 *value) {
	(void)v;
	kvm_msr = msr;
	*value = kvm_value;
	return 0;
}

int kvm_pv_msr_write(struct vcpu *v, u32 msr, u64 value) {
	(void)v;
	kvm_msr = msr;
	kvm_value = value;
	return value == 3 ? E_INVAL : 0;
}

void kvm_pv_tsc_changed(struct vcpu *v) {
	(void)v;
	clock_moves++;
}

void vcpu_set_tsc_offset(struct vcpu *v, u64 offset) { v->tsc_offset = offset; }

/* ---- frame ---- */

static bool nested;

static void use_host(const struct cpu_model_host *host) {
	struct cpu_model_config config = {.nr_vcpus = 2, .tsc_khz = FAKE_TSC_KHZ, .nested = nested};

	assert_int_equal(cpu_model_build(&model, host, &config), 0);
	msr_reset(vcpu);
}

static int set_up(void **state) {
	(void)state;
	fake_reset();
	vm = fake_vm_create(2, 0);
	vm->cpu_model = &model;
	for (u32 i = 0; i < 2; i++) vm->vcpus[i]->msrs = calloc(1, sizeof(struct msr_state));
	vcpu = vm->vcpus[0];
	nested = false;
	use_host(&fake_amd);
	vcpu->lapic = &apic;
	apic.base = deadline = x2apic_value = kvm_value = 0;
	x2apic_msr = kvm_msr = apic_tsc_moves = clock_moves = 0;
	return 0;
}

static int tear_down(void **state) {
	(void)state;
	for (u32 i = 0; i < 2; i++) free(vm->vcpus[i]->msrs);
	fake_vm_destroy(vm);
	return 0;
}

/* One RDMSR or WRMSR through the exit handlers; true when it did not fault. */
static bool rdmsr_exit(u32 msr, u64 *value) {
	vcpu->gpr[RCX] = 0xffffffff00000000 | msr;
	vcpu->gpr[RAX] = vcpu->gpr[RDX] = 0x5555555555555555;
	vcpu->exception.pending = false;
	enum outcome outcome = msr_read_exit(vcpu);
	if (outcome == INJECTED) {
		assert_true(vcpu->exception.pending && vcpu->exception.has_error);
		assert_int_equal(vcpu->exception.vector, X86_GP);
		assert_int_equal(vcpu->exception.error, 0);
		assert_int_equal(vcpu->gpr[RAX], 0x5555555555555555);
		assert_int_equal(vcpu->gpr[RDX], 0x5555555555555555);
		return false;
	}
	assert_int_equal(outcome, ADVANCE);
	assert_false(vcpu->exception.pending);
	assert_int_equal(vcpu->gpr[RAX] >> 32, 0);
	assert_int_equal(vcpu->gpr[RDX] >> 32, 0);
	*value = vcpu->gpr[RDX] << 32 | vcpu->gpr[RAX];
	return true;
}

static bool wrmsr_exit(u32 msr, u64 value) {
	vcpu->gpr[RCX] = 0xffffffff00000000 | msr;
	vcpu->gpr[RAX] = 0xabcdabcd00000000 | (u32)value;
	vcpu->gpr[RDX] = 0xabcdabcd00000000 | value >> 32;
	vcpu->exception.pending = false;
	enum outcome outcome = msr_write_exit(vcpu);
	assert_int_equal(outcome, vcpu->exception.pending ? INJECTED : ADVANCE);
	return outcome == ADVANCE;
}

static u64 get(u32 msr) {
	u64 value;

	assert_true(rdmsr_exit(msr, &value));
	return value;
}

static void keeps(u32 msr, u64 value) {
	assert_true(wrmsr_exit(msr, value));
	assert_int_equal(get(msr), value);
}

static void refuses(u32 msr, u64 value) {
	u64 before = get(msr);

	assert_false(wrmsr_exit(msr, value));
	assert_int_equal(get(msr), before);
}

static void absent(u32 msr) {
	u64 value;

	assert_false(rdmsr_exit(msr, &value));
	assert_false(wrmsr_exit(msr, 0));
}

/* ---- the table ---- */

/* Ranges must ascend, be apart and be readable. 0, or the 1-based index of the first wrong one. */
static u32 check_table(const struct msr_range *table, u32 len) {
	for (u32 i = 0; i < len; i++) {
		if (table[i].first > table[i].last || !table[i].read ||
		    table[i].vendor > MSR_XSAVES)
			return i + 1;
		if (i && table[i - 1].last >= table[i].first) return i + 1;
	}
	return 0;
}

static void test_T_G1_table_is_sorted(void **state) {
	static struct msr_range copy[128];
	u32 len = MSR_RANGES;

	(void)state;
	assert_int_equal(check_table(msr_table, len), 0);
	assert_true(len > 3 && len < ARRAY_SIZE(copy));
	for (u32 i = 0; i + 1 < len; i++) { /* any two neighbours exchanged are noticed */
		memcpy(copy, msr_table, len * sizeof(copy[0]));
		copy[i] = msr_table[i + 1];
		copy[i + 1] = msr_table[i];
		assert_int_equal(check_table(copy, len), i + 2);
		copy[i] = copy[i + 1] = msr_table[i];
		assert_int_equal(check_table(copy, len), i + 2); /* a duplicate */
	}
	memcpy(copy, msr_table, len * sizeof(copy[0]));
	copy[2].read = NULL;
	assert_int_equal(check_table(copy, len), 3);
	copy[2] = msr_table[2];
	copy[2].last = copy[2].first - 1;
	assert_int_equal(check_table(copy, len), 3);
}

static bool in_table(u32 msr) {
	const bool there[] = {
		[MSR_ANY] = true,
		[MSR_AMD] = model.is_amd,
		[MSR_INTEL] = !model.is_amd,
		[MSR_SVM] = model.has_svm,
		[MSR_RDTSCP] = model.has_rdtscp,
		[MSR_XSAVES] = model.has_xsaves,
	};

	for (u32 i = 0; i < MSR_RANGES; i++)
		if (msr >= msr_table[i].first && msr <= msr_table[i].last)
			return there[msr_table[i].vendor];
	return false;
}

/* T-G1: in the ranges that hardware has MSRs in, members read and everything else is #GP(0). */
static void test_T_G1_sweep(void **state) {
	static const u32 starts[] = {0, 0x40000000, 0x4b564d00, 0xc0000000, 0xc0010000, 0xfffff000};
	const struct cpu_model_host *hosts[] = {&fake_amd, &fake_intel};

	(void)state;
	for (size_t h = 0; h < ARRAY_SIZE(hosts); h++) {
		use_host(hosts[h]);
		for (size_t s = 0; s < ARRAY_SIZE(starts); s++)
			for (u32 i = 0; i < 0x2000; i++) {
				u32 msr = starts[s] + i;
				u64 value;

				assert_int_equal(rdmsr_exit(msr, &value),
						 in_table(msr) && msr != 0x8ff);
				if (!in_table(msr)) assert_false(wrmsr_exit(msr, 0));
				if (msr == ~0u) break;
			}
	}
}

/* What is written back as it was read is accepted, unless the register is read only. */
static void test_every_value_read_can_be_written_back(void **state) {
	const struct cpu_model_host *hosts[] = {&fake_amd, &fake_intel};

	(void)state;
	for (size_t h = 0; h < ARRAY_SIZE(hosts); h++) {
		use_host(hosts[h]);
		for (u32 i = 0; i < MSR_RANGES; i++) {
			const struct msr_range *r = &msr_table[i];

			for (u32 msr = r->first; msr <= r->last && msr != 0x8ff; msr++) {
				if (!in_table(msr) || msr == 0x8b) continue;
				assert_int_equal(wrmsr_exit(msr, get(msr)), r->write != NULL);
			}
		}
	}
}

/* What CPUID offers has its MSRs, and what it hides does not. */
static void test_msrs_agree_with_cpuid(void **state) {
	(void)state;
	for (u32 msr = 0x200; msr < 0x200 + 2 * (get(0xfe) & 0xff); msr++) get(msr);
	absent(0x200 + 2 * (u32)(get(0xfe) & 0xff));
	assert_int_equal(get(0xfe), 0x508);
	assert_int_equal(get(0x179) & 0xff, 0); /* no banks, so no bank registers */
	absent(0x400);
	absent(0x17b);	    /* MCG_CTL_P is clear */
	absent(0x48);	    /* SPEC_CTRL */
	absent(0xc0010117); /* VM_HSAVE_PA: no SVM */
	absent(0x480);	    /* VMX */
	absent(0xc0010000); /* performance counters */
	absent(0x4b564d02); /* asynchronous page faults */
	absent(0x4b564d03); /* steal time */
	absent(0xe7);	    /* MPERF */
	absent(0xce);	    /* PLATFORM_INFO */
	model.has_vmx = true;
	assert_int_equal(get(0x480), 0);
	absent(0x491); /* no VM functions */
	model.vmx_msrs[VMX_FEATURE_VMFUNC] = 1;
	assert_int_equal(get(0x491), 1);
	model.has_vmx = false;
	absent(0x491);
	model.has_rdtscp = false;
	absent(0xc0000103);
	model.has_xsaves = false;
	absent(0xda0);
}

static void test_vendors_have_their_own(void **state) {
	(void)state;
	absent(0x3a);
	absent(0x1a0);
	assert_int_equal(get(0xc0010114), 0x18); /* SVM disabled, locked */
	assert_int_equal(get(0xc0011029), 2);
	assert_int_equal(get(0xc0010015), BIT(24));
	assert_int_equal(get(0x8b), 0x01000065);
	assert_false(wrmsr_exit(0x8b, 0));
	use_host(&fake_intel);
	assert_int_equal(get(0x3a), 1);
	assert_false(wrmsr_exit(0x3a, 1)); /* locked */
	assert_int_equal(get(0x1a0), 0x1801);
	keeps(0x1a0, 0x1800);
	refuses(0x1a0, BIT(34));
	assert_true(wrmsr_exit(0x8b, 0));
	assert_int_equal(get(0x8b), 1ul << 32);
	absent(0xc0010010);
	absent(0xc0010114);
	absent(0xc0011029);
}

/* ---- time ---- */

static void test_tsc_and_adjust_are_one_unit(void **state) {
	(void)state;
	assert_int_equal(get(0x10), FAKE_TSC_START);
	assert_true(wrmsr_exit(0x3b, 1000));
	assert_int_equal(get(0x10), FAKE_TSC_START + 1000);
	assert_int_equal(vcpu->tsc_offset, 1000);
	assert_true(wrmsr_exit(0x10, 5));
	assert_int_equal(get(0x10), 5);
	assert_int_equal(get(0x3b), 5 - FAKE_TSC_START);
	assert_int_equal(apic_tsc_moves, 2);
	assert_int_equal(clock_moves, 2);
	fake_advance(77);
	assert_int_equal(get(0x10), 82);
	assert_true(wrmsr_exit(0x3b, 0)); /* back to the start, modulo 2^64 */
	assert_int_equal(vcpu->tsc_offset, 0);
	assert_true(wrmsr_exit(0x3b, 0));
	assert_int_equal(apic_tsc_moves, 3); /* nothing moved the last time */
	assert_int_equal(vm->vcpus[1]->tsc_offset, 0);
}

static void test_offset_given_by_the_vm_is_no_adjustment(void **state) {
	(void)state;
	vcpu->tsc_offset = -FAKE_TSC_START; /* the VM's TSC began at 0 */
	assert_int_equal(get(0x10), 0);
	assert_int_equal(get(0x3b), 0);
	assert_true(wrmsr_exit(0x3b, 50));
	assert_int_equal(get(0x10), 50);
}

static void test_deadline_and_apic_go_to_the_apic(void **state) {
	(void)state;
	keeps(0x6e0, 0x123456789abcdef0);
	assert_int_equal(deadline, 0x123456789abcdef0);
	assert_true(wrmsr_exit(0x80b, 0));
	assert_int_equal(x2apic_msr, 0x80b);
	keeps(0x808, 0x1122334455667788);
	absent(0x8ff);
	keeps(0x1b, 0xfee00900);
	refuses(0x1b, 1);
	keeps(0x4b564d01, 0x1001);
	assert_int_equal(kvm_msr, 0x4b564d01);
	assert_false(wrmsr_exit(0x4b564d04, 3));
}

/* ---- registers of the processor ---- */

static void test_addresses_must_be_canonical(void **state) {
	static const u32 msrs[] = {0xc0000082, 0xc0000083, 0xc0000100, 0xc0000101, 0xc0000102};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++) {
		keeps(msrs[i], 0x00007fffffffffff);
		keeps(msrs[i], 0xffff800000000000);
		refuses(msrs[i], 0x0000800000000000);
		refuses(msrs[i], 0xffff7fffffffffff);
		refuses(msrs[i], BIT(63));
	}
}

static void test_segment_bases_leave_the_rest_alone(void **state) {
	struct segment fs = {.base = 1, .limit = 0xffff, .selector = 0x28, .attr = 0x93}, gs = fs;

	(void)state;
	vcpu_set_segment(vcpu, SEG_FS, &fs);
	vcpu_set_segment(vcpu, SEG_GS, &gs);
	keeps(0xc0000100, 0x1000);
	keeps(0xc0000101, 0x2000);
	vcpu_segment(vcpu, SEG_FS, &fs);
	vcpu_segment(vcpu, SEG_GS, &gs);
	assert_int_equal(fs.base, 0x1000);
	assert_int_equal(gs.base, 0x2000);
	assert_int_equal(fs.selector, 0x28);
	assert_int_equal(fs.attr, 0x93);
	assert_int_equal(fs.limit, 0xffff);
}

/* Each MSR reaches the register of its name. */
static void test_back_end_registers(void **state) {
	static const struct {
		u32 msr;
		enum vreg reg;
	} map[] = {
		{0x174, VREG_SYSENTER_CS},  {0x175, VREG_SYSENTER_ESP},
		{0x176, VREG_SYSENTER_EIP}, {0xc0000081, VREG_STAR},
		{0xc0000082, VREG_LSTAR},   {0xc0000083, VREG_CSTAR},
		{0xc0000084, VREG_SFMASK},  {0xc0000102, VREG_KERNEL_GS_BASE},
		{0xc0000103, VREG_TSC_AUX}, {0x277, VREG_PAT},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(map); i++) {
		u64 value = map[i].msr == 0x277 ? 0x0007040600070406 : 0x1000 + i;

		assert_true(wrmsr_exit(map[i].msr, value));
		assert_int_equal(vcpu_reg(vcpu, map[i].reg), value);
		assert_int_equal(get(map[i].msr), value);
	}
}

static void test_upper_halves_by_vendor(void **state) {
	(void)state;
	assert_true(wrmsr_exit(0xc0000103, 0xffffffff00000007));
	assert_int_equal(get(0xc0000103), 7);
	assert_true(wrmsr_exit(0x175, 0xffffffff80000000));
	assert_int_equal(get(0x175), 0x80000000);
	use_host(&fake_intel);
	refuses(0xc0000103, 0x100000000);
	keeps(0xc0000103, 0xffffffff);
	keeps(0x175, 0xffffffff80000000);
	refuses(0x176, 0x8000000000000000);
}

static void test_pat_types(void **state) {
	(void)state;
	for (u64 type = 0; type < 256; type++) {
		bool valid = type <= 7 && type != 2 && type != 3;

		for (unsigned byte = 0; byte < 64; byte += 8) {
			vcpu_set_reg(vcpu, VREG_PAT, 0x0007040600070406);
			if (valid)
				keeps(0x277, type << byte);
			else
				refuses(0x277, type << byte);
		}
	}
}

static void test_efer(void **state) {
	(void)state;
	keeps(0xc0000080, X86_EFER_SCE | X86_EFER_NXE);
	refuses(0xc0000080, X86_EFER_SVME);
	refuses(0xc0000080, BIT(40));
}

static void test_xss_and_debugctl_hold_nothing(void **state) {
	(void)state;
	keeps(0xda0, 0);
	refuses(0xda0, BIT(11));
	keeps(0x1d9, 0);
	refuses(0x1d9, 1);
}

/* ---- MTRRs and what AMD has beside them ---- */

static void test_mtrr_validity(void **state) {
	u64 top = BIT(model.phys_bits);

	(void)state;
	keeps(0x2ff, 0xc06);
	keeps(0x2ff, 0);
	refuses(0x2ff, 0xc02);
	refuses(0x2ff, 0x1006);
	refuses(0x2ff, BIT(63));
	refuses(0xfe, 0x508);
	keeps(0x200, 0x80000006);
	refuses(0x200, 0x80000002);
	refuses(0x200, 0x80000007);
	refuses(0x200, 0x80000106);
	refuses(0x200, top);
	keeps(0x201, (top - 1) & ~0xffful);
	keeps(0x20f, BIT(11) | 0x1000);
	refuses(0x201, BIT(10));
	refuses(0x201, 6);
	refuses(0x201, top | BIT(11));
	keeps(0x250, 0x0605040100060504);
	keeps(0x26f, 0x0606060606060606);
	refuses(0x268, 0x0606060602060606);
	refuses(0x259, 0x0706060606060606);
	assert_int_equal(get(0x258), 0);
	assert_int_equal(get(0x268), 0);
}

static void test_fixed_mtrrs_are_apart(void **state) {
	static const u32 msrs[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
				   0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
	static const u64 types[] = {0, 1, 4, 5, 6};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++)
		assert_true(wrmsr_exit(msrs[i], types[i % 5] << 8 | types[i / 5]));
	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++)
		assert_int_equal(get(msrs[i]), types[i % 5] << 8 | types[i / 5]);
	for (u32 msr = 0x200; msr < 0x210; msr++) assert_true(wrmsr_exit(msr, (u64)msr << 12));
	for (u32 msr = 0x200; msr < 0x210; msr++) assert_int_equal(get(msr), (u64)msr << 12);
}

static void test_firmware_mtrrs(void **state) {
	u64 covered = 0;

	(void)state;
	msr_firmware_mtrrs(vcpu, 0xe0000000 - 0x10000000);
	assert_int_equal(get(0x2ff), 0xc06);
	assert_int_equal(get(0x250), 0x0606060606060606);
	assert_int_equal(get(0x258), 0x0606060606060606);
	assert_int_equal(get(0x259), 0);
	assert_int_equal(get(0x268), 0x0606060606060606);
	for (u32 n = 0; n < 8; n++) {
		u64 base = get(0x200 + 2 * n), mask = get(0x201 + 2 * n), size;

		if (!(mask & BIT(11))) continue;
		size = BIT(model.phys_bits) - (mask & ~0xffful);
		assert_int_equal(base, 0xd0000000 + covered);
		assert_int_equal(size & (size - 1), 0);
		assert_int_equal(base & (size - 1), 0);
		covered += size;
	}
	assert_int_equal(covered, 0x30000000);
	/* All of it is what a guest could write itself. */
	for (u32 i = 0x200; i < 0x210; i++) assert_true(wrmsr_exit(i, get(i)));
}

static void test_amd_memory_registers(void **state) {
	u64 top = BIT(model.phys_bits);

	(void)state;
	keeps(0xc001001a, 0xe0000000);
	keeps(0xc001001d, 0x120000000);
	refuses(0xc001001a, 0x400000); /* a multiple of 8 MiB */
	refuses(0xc001001d, top);
	keeps(0xc0010016, 0xfe000018);
	keeps(0xc0010017, 0xfe000800);
	keeps(0xc0010019, 0x800);
	refuses(0xc0010016, 1);
	refuses(0xc0010017, 0x18);
	assert_int_equal(get(0xc0010018), 0);
	keeps(0xc0010010, BIT(18) | BIT(20));
	refuses(0xc0010010, BIT(23)); /* memory encryption */
	refuses(0xc0010010, BIT(19));
}

static void test_amd_model_registers(void **state) {
	(void)state;
	refuses(0xc0010015, 0); /* the TSC's constant rate is a fact */
	keeps(0xc0010015, BIT(24) | BIT(3));
	refuses(0xc0010015, BIT(24) | BIT(0));
	keeps(0xc001001f, BIT(46));
	refuses(0xc001001f, BIT(5));
	keeps(0xc0011029, 2);
	refuses(0xc0011029, 0);
	refuses(0xc0011029, 2 | BIT(9));
	assert_true(wrmsr_exit(0xc0010114, 0));
	assert_int_equal(get(0xc0010114), 0x18);
	refuses(0xc0010114, BIT(5));
	assert_int_equal(get(0xc0010140), 4);
	assert_int_equal(get(0xc0010141), 0);
	assert_false(wrmsr_exit(0xc0010141, 1));
	keeps(0x17a, 7);
	refuses(0x17a, 8);
}

/* APM 2 15.30.1, 15.30.4. */
static void test_svm_registers(void **state) {
	(void)state;
	absent(0xc0010117);
	nested = true;
	use_host(&fake_amd);
	keeps(0xc0010117, 0x7000);
	refuses(0xc0010117, 0x7008);
	refuses(0xc0010117, 1ul << model.phys_bits);
	assert_int_equal(get(0xc0010114), 0);
	refuses(0xc0010114, BIT(5));
	keeps(0xc0010114, 0x07);
	vcpu_set_reg(vcpu, VREG_EFER, X86_EFER_SVME);
	assert_false(wrmsr_exit(0xc0010114, 0x10));
	assert_int_equal(get(0xc0010114), 7);
	vcpu_set_reg(vcpu, VREG_EFER, 0);
	keeps(0xc0010114, 0x10);
	keeps(0xc0010114, 0x00);
	keeps(0xc0010114, 0x18);
	/* Locked: both bits stay, the others do not. */
	assert_true(wrmsr_exit(0xc0010114, 0x01));
	assert_int_equal(get(0xc0010114), 0x19);
	use_host(&fake_intel);
	absent(0xc0010117);
}

static void test_reset_forgets(void **state) {
	(void)state;
	msr_firmware_mtrrs(vcpu, GiB(3));
	assert_true(wrmsr_exit(0x3b, 9));
	assert_true(wrmsr_exit(0xc001001a, 0xe0000000));
	msr_reset(vcpu);
	assert_int_equal(get(0x2ff), 0); /* MTRRs are off after reset (APM 2 7.7.3) */
	assert_int_equal(get(0x201), 0);
	assert_int_equal(get(0x3b), 0);
	assert_int_equal(get(0xc001001a), 0);
	assert_int_equal(get(0xc0010015), BIT(24));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_T_G1_table_is_sorted),
		TEST(test_T_G1_sweep),
		TEST(test_every_value_read_can_be_written_back),
		TEST(test_msrs_agree_with_cpuid),
		TEST(test_vendors_have_their_own),
		TEST(test_tsc_and_adjust_are_one_unit),
		TEST(test_offset_given_by_the_vm_is_no_adjustment),
		TEST(test_deadline_and_apic_go_to_the_apic),
		TEST(test_addresses_must_be_canonical),
		TEST(test_segment_bases_leave_the_rest_alone),
		TEST(test_back_end_registers),
		TEST(test_upper_halves_by_vendor),
		TEST(test_pat_types),
		TEST(test_efer),
		TEST(test_xss_and_debugctl_hold_nothing),
		TEST(test_mtrr_validity),
		TEST(test_fixed_mtrrs_are_apart),
		TEST(test_firmware_mtrrs),
		TEST(test_amd_memory_registers),
		TEST(test_amd_model_registers),
		TEST(test_svm_registers),
		TEST(test_reset_forgets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
