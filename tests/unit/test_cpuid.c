// sources: platform/cpuid.c platform/cpu_model.c tests/fakes.c
/* CPUID on a vCPU: what it has switched on shows, and nobody else's state does. */
#include "tests/fakes.h"

#include "lib/x86.h"
#include "platform/cpu_model.h"
#include "platform/exits.h"
#include "platform/lapic.h"
#include "tests/fake_hosts.h"

static struct cpu_model model;
static struct vm *vm;
static struct lapic apic;

static int set_up(void **state) {
	struct cpu_model_config config = {.nr_vcpus = 3, .tsc_khz = 2600000};

	(void)state;
	fake_reset();
	vm = fake_vm_create(3, 0);
	vm->cpu_model = &model;
	for (u32 i = 0; i < 3; i++) vm->vcpus[i]->lapic = &apic;
	apic.mode = LAPIC_XAPIC;
	return cpu_model_build(&model, &fake_amd, &config);
}

static int tear_down(void **state) {
	(void)state;
	fake_vm_destroy(vm);
	return 0;
}

static struct vcpu *ask(u32 id, u32 leaf, u32 subleaf) {
	struct vcpu *vcpu = vm->vcpus[id];

	for (unsigned i = 0; i < NR_GPRS; i++) vcpu->gpr[i] = 0xdeadbeefcafef00d;
	vcpu->gpr[RAX] = 0xffffffff00000000 | leaf;
	vcpu->gpr[RCX] = 0xffffffff00000000 | subleaf;
	assert_int_equal(cpuid_exit(vcpu), ADVANCE);
	for (unsigned i = 0; i < NR_GPRS; i++)
		if (i == RAX || i == RCX || i == RDX || i == RBX)
			assert_int_equal(vcpu->gpr[i] >> 32, 0);
		else
			assert_int_equal(vcpu->gpr[i], 0xdeadbeefcafef00d);
	return vcpu;
}

static void test_registers_are_written_whole(void **state) {
	struct vcpu *vcpu = ask(0, 0, 0);

	(void)state;
	assert_int_equal(vcpu->gpr[RAX], 0xd);
	assert_int_equal(vcpu->gpr[RBX], 0x68747541);
	assert_int_equal(vcpu->gpr[RCX], 0x444d4163);
	assert_int_equal(vcpu->gpr[RDX], 0x69746e65);
	vcpu = ask(0, 0x12345678, 0);
	assert_int_equal(vcpu->gpr[RAX] | vcpu->gpr[RBX] | vcpu->gpr[RCX] | vcpu->gpr[RDX], 0);
}

static void test_apic_ids_are_the_vcpus(void **state) {
	(void)state;
	for (u32 id = 0; id < 3; id++) {
		assert_int_equal(ask(id, 1, 0)->gpr[RBX], id << 24 | 3 << 16 | 0x800);
		assert_int_equal(ask(id, 0xb, 0)->gpr[RDX], id);
		assert_int_equal(ask(id, 0xb, 1)->gpr[RDX], id);
		assert_int_equal(ask(id, 0xb, 0x345)->gpr[RDX], id);
		assert_int_equal(vm->vcpus[id]->gpr[RCX], 0x45);
		assert_int_equal(vm->vcpus[id]->gpr[RAX] | vm->vcpus[id]->gpr[RBX], 0);
		assert_int_equal(ask(id, CPUID_EXT + 0x1e, 0)->gpr[RAX], id);
		assert_int_equal(vm->vcpus[id]->gpr[RBX], id);
	}
}

static void test_osxsave_follows_cr4(void **state) {
	(void)state;
	assert_int_equal(ask(1, 1, 0)->gpr[RCX] >> 27 & 1, 0);
	vcpu_set_reg(vm->vcpus[1], VREG_CR4, X86_CR4_OSXSAVE);
	assert_int_equal(ask(1, 1, 0)->gpr[RCX] >> 27 & 1, 1);
	assert_int_equal(ask(0, 1, 0)->gpr[RCX] >> 27 & 1, 0);
}

static void test_ospke_follows_cr4(void **state) {
	(void)state;
	assert_int_equal(ask(1, 7, 0)->gpr[RCX] >> 4 & 1, 0);
	vcpu_set_reg(vm->vcpus[1], VREG_CR4, X86_CR4_PKE);
	assert_int_equal(ask(1, 7, 0)->gpr[RCX] >> 4 & 1, 1);
	assert_int_equal(ask(1, 7, 1)->gpr[RCX], 0);
}

static void test_apic_bit_follows_its_enable(void **state) {
	(void)state;
	apic.mode = LAPIC_X2APIC;
	assert_int_equal(ask(0, 1, 0)->gpr[RDX] >> 9 & 1, 1);
	assert_int_equal(ask(0, CPUID_EXT + 1, 0)->gpr[RDX] >> 9 & 1, 1);
	apic.mode = LAPIC_DISABLED;
	assert_int_equal(ask(0, 1, 0)->gpr[RDX] >> 9 & 1, 0);
	assert_int_equal(ask(0, CPUID_EXT + 1, 0)->gpr[RDX] >> 9 & 1, 0);
	assert_int_equal(ask(0, 1, 0)->gpr[RDX], 0x178bfbff & ~0x200);
}

static void test_xsave_size_follows_xcr0(void **state) {
	(void)state;
	vcpu_set_reg(vm->vcpus[0], VREG_XCR0, 3);
	assert_int_equal(ask(0, 0xd, 0)->gpr[RBX], 576);
	assert_int_equal(ask(0, 0xd, 1)->gpr[RBX], 576);
	vcpu_set_reg(vm->vcpus[0], VREG_XCR0, 7);
	assert_int_equal(ask(0, 0xd, 0)->gpr[RBX], 832);
	assert_int_equal(ask(0, 0xd, 1)->gpr[RBX], 832);
	assert_int_equal(ask(0, 0xd, 0)->gpr[RCX], 832);
	assert_int_equal(ask(0, 0xd, 2)->gpr[RBX], 576);
}

/* The record is shared by all vCPUs: asking must not change it. */
static void test_asking_leaves_the_record_alone(void **state) {
	static struct cpu_model before;

	(void)state;
	before = model;
	apic.mode = LAPIC_DISABLED;
	vcpu_set_reg(vm->vcpus[2], VREG_CR4, ~0ul);
	for (u32 leaf = 0; leaf < 0x30; leaf++)
		for (u32 sub = 0; sub < 12; sub++) {
			ask(2, leaf, sub);
			ask(2, CPUID_EXT + leaf, sub);
			ask(2, CPUID_HV + leaf, sub);
		}
	assert_memory_equal(&before, &model, sizeof(model));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_registers_are_written_whole, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_apic_ids_are_the_vcpus, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_osxsave_follows_cr4, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ospke_follows_cr4, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_apic_bit_follows_its_enable, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_xsave_size_follows_xcr0, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_asking_leaves_the_record_alone, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
