// sources: platform/cr.c platform/cpu_model.c tests/fakes.c
/* Writes of control registers, EFER and XCR0: each rule of the manuals, both ways. */
#include "tests/fakes.h"

#include "lib/x86.h"
#include "platform/cpu_model.h"
#include "platform/cr.h"
#include "platform/lapic.h"
#include "tests/fake_hosts.h"

#define RESET_CR0 0x60000010ul

static struct cpu_model model;
static struct vm *vm;
static struct vcpu *vcpu;
static struct lapic apic;
static u32 page[1024];

void lapic_set_tpr(struct vcpu *v, u8 value) { v->lapic->tpr = value; }

void lapic_take_back(struct lapic *lapic) {
	lapic->lent = false;
	lapic->tpr = 0x90;
}

static void use_host(const struct cpu_model_host *host) {
	struct cpu_model_config config = {.nr_vcpus = 1, .tsc_khz = 2600000};

	assert_int_equal(cpu_model_build(&model, host, &config), 0);
}

static int set_up(void **state) {
	(void)state;
	fake_reset();
	apic.tpr = 0;
	vm = fake_vm_create(1, 0);
	vcpu = vm->vcpus[0];
	vcpu->lapic = &apic;
	vm->cpu_model = &model;
	use_host(&fake_intel); /* it has PCID and protection keys */
	vcpu_set_reg(vcpu, VREG_CR0, RESET_CR0);
	vcpu_set_reg(vcpu, VREG_XCR0, 1);
	return 0;
}

static int tear_down(void **state) {
	(void)state;
	fake_vm_destroy(vm);
	return 0;
}

#define reg(r) vcpu_reg(vcpu, VREG_##r)

/* As WRMSR's handler does it. */
static enum outcome write_efer(struct vcpu *target, u64 value) {
	return efer_set(target, value) ? inject_gp(target, 0) : ADVANCE;
}

static void accepted(enum outcome outcome) {
	assert_int_equal(outcome, ADVANCE);
	assert_false(vcpu->exception.pending);
}

static void faults(enum outcome outcome, u8 vector) {
	assert_int_equal(outcome, INJECTED);
	assert_true(vcpu->exception.pending);
	assert_int_equal(vcpu->exception.vector, vector);
	assert_int_equal(vcpu->exception.has_error, vector == X86_GP);
	assert_int_equal(vcpu->exception.error, 0);
	vcpu->exception.pending = false;
}

/* A write of CRn that must fault and change nothing. */
static void refused(unsigned nr, u64 value) {
	static const enum vreg regs[] = {[0] = VREG_CR0, [3] = VREG_CR3, [4] = VREG_CR4};
	u64 before = vcpu_reg(vcpu, regs[nr]), efer = reg(EFER);

	faults(cr_write(vcpu, nr, value), X86_GP);
	assert_int_equal(vcpu_reg(vcpu, regs[nr]), before);
	assert_int_equal(reg(EFER), efer);
	assert_int_equal(fake_take_requests(vcpu), 0);
}

static void set_cs(u16 attr) {
	struct segment cs = {.attr = attr};

	vcpu_set_segment(vcpu, SEG_CS, &cs);
}

static void enter_long_mode(void) {
	accepted(cr_write(vcpu, 0, X86_CR0_PE));
	accepted(cr_write(vcpu, 4, X86_CR4_PAE));
	accepted(write_efer(vcpu, X86_EFER_LME));
	accepted(cr_write(vcpu, 3, 0x1000));
	accepted(cr_write(vcpu, 0, X86_CR0_PE | X86_CR0_PG));
	set_cs(SEG_ATTR_L | SEG_ATTR_P);
	fake_take_requests(vcpu);
}

static void test_cr0_reserved_and_combinations(void **state) {
	(void)state;
	refused(0, BIT(32));
	refused(0, BIT(63) | X86_CR0_PE);
	refused(0, X86_CR0_NW);
	refused(0, X86_CR0_PG);
	refused(0, X86_CR0_PG | X86_CR0_CD);
	accepted(cr_write(vcpu, 0, X86_CR0_CD));
	accepted(cr_write(vcpu, 0, X86_CR0_CD | X86_CR0_NW));
}

static void test_cr0_unknown_low_bits_are_dropped_and_ET_stays(void **state) {
	(void)state;
	accepted(cr_write(vcpu, 0, 0x1ffaffc0 | X86_CR0_PE));
	assert_int_equal(reg(CR0), X86_CR0_PE | X86_CR0_ET);
	accepted(cr_write(vcpu, 0, 0));
	assert_int_equal(reg(CR0), X86_CR0_ET);
	assert_int_equal(fake_take_requests(vcpu), 0);
}

static void test_cr0_wp_needs_no_flush(void **state) {
	(void)state;
	enter_long_mode();
	accepted(cr_write(vcpu, 0, reg(CR0) | X86_CR0_WP));
	assert_true(reg(CR0) & X86_CR0_WP);
	assert_int_equal(fake_take_requests(vcpu), 0);
}

static void test_paging_activates_long_mode(void **state) {
	u64 on = X86_CR0_PE | X86_CR0_PG;

	(void)state;
	vcpu_set_reg(vcpu, VREG_EFER, X86_EFER_LME);
	refused(0, on); /* without PAE */
	accepted(cr_write(vcpu, 4, X86_CR4_PAE));
	fake_take_requests(vcpu);
	set_cs(SEG_ATTR_L);
	refused(0, on);
	set_cs(0);
	accepted(cr_write(vcpu, 0, on));
	assert_int_equal(reg(CR0), on | X86_CR0_ET);
	assert_int_equal(reg(EFER), X86_EFER_LME | X86_EFER_LMA);
	assert_int_equal(fake_take_requests(vcpu), REQ_TLB_FLUSH);
}

static void test_paging_without_LME_stays_legacy(void **state) {
	(void)state;
	accepted(cr_write(vcpu, 0, X86_CR0_PE | X86_CR0_PG));
	assert_int_equal(reg(EFER), 0);
	assert_int_equal(fake_take_requests(vcpu), REQ_TLB_FLUSH);
}

static void test_leaving_paging(void **state) {
	(void)state;
	enter_long_mode();
	refused(0, X86_CR0_PE); /* from 64-bit mode */
	set_cs(SEG_ATTR_P);
	accepted(cr_write(vcpu, 0, X86_CR0_PE));
	assert_int_equal(reg(EFER), X86_EFER_LME);
	assert_int_equal(fake_take_requests(vcpu), REQ_TLB_FLUSH);
	enter_long_mode();
	set_cs(SEG_ATTR_P);
	accepted(cr_write(vcpu, 4, X86_CR4_PAE | X86_CR4_PCIDE));
	accepted(cr_write(vcpu, 3, 0x1001));
	fake_take_requests(vcpu);
	refused(0, X86_CR0_PE); /* with PCIDs */
}

static void test_cr3_width(void **state) {
	u64 top = BIT(model.phys_bits);

	(void)state;
	enter_long_mode();
	refused(3, top);
	refused(3, BIT(51));
	refused(3, BIT(63)); /* without PCIDE it is reserved as any other */
	accepted(cr_write(vcpu, 3, top - 1));
	assert_int_equal(reg(CR3), top - 1);
	assert_int_equal(fake_take_requests(vcpu), REQ_TLB_FLUSH);
}

static void test_cr3_pcid_and_no_flush(void **state) {
	(void)state;
	enter_long_mode();
	accepted(cr_write(vcpu, 4, X86_CR4_PAE | X86_CR4_PCIDE));
	fake_take_requests(vcpu);
	accepted(cr_write(vcpu, 3, BIT(63) | 0x2005));
	assert_int_equal(reg(CR3), 0x2005);
	assert_int_equal(fake_take_requests(vcpu), 0);
	accepted(cr_write(vcpu, 3, 0x3006));
	assert_int_equal(fake_take_requests(vcpu), REQ_TLB_FLUSH);
	refused(3, BIT(62) | 0x2000);
	refused(3, BIT(63) | BIT(model.phys_bits));
}

static void test_cr4_reserved(void **state) {
	(void)state;
	for (unsigned bit = 0; bit < 64; bit++) {
		u64 value = BIT(bit);

		if (value == X86_CR4_PCIDE) /* known, but only in long mode */
			continue;
		if (model.cr4_reserved & value)
			refused(4, value);
		else
			accepted(cr_write(vcpu, 4, value));
		fake_take_requests(vcpu);
	}
	refused(4, X86_CR4_VMXE);
	refused(4, X86_CR4_LA57);
	refused(4, BIT(23)); /* CET */
}

static void test_cr4_in_long_mode_keeps_PAE(void **state) {
	(void)state;
	enter_long_mode();
	refused(4, 0);
	refused(4, X86_CR4_PGE);
	accepted(cr_write(vcpu, 4, X86_CR4_PAE | X86_CR4_PGE));
}

static void test_cr4_PCIDE(void **state) {
	u64 on = X86_CR4_PAE | X86_CR4_PCIDE;

	(void)state;
	refused(4, on); /* outside of long mode */
	enter_long_mode();
	accepted(cr_write(vcpu, 3, 0x1018)); /* PWT and PCD would become a PCID */
	fake_take_requests(vcpu);
	refused(4, on);
	accepted(cr_write(vcpu, 3, 0x1000));
	accepted(cr_write(vcpu, 4, on));
	accepted(cr_write(vcpu, 3, 0x1007));
	accepted(cr_write(vcpu, 4, on | X86_CR4_PGE)); /* only turning it on looks at CR3 */
	accepted(cr_write(vcpu, 4, X86_CR4_PAE));
	use_host(&fake_amd); /* no PCID there */
	fake_take_requests(vcpu);
	refused(4, on);
}

static void test_cr4_flushes(void **state) {
	static const u64 flushing[] = {X86_CR4_PSE, X86_CR4_PGE, X86_CR4_PAE, X86_CR4_SMEP};
	static const u64 silent[] = {X86_CR4_OSXSAVE, X86_CR4_OSFXSR, X86_CR4_TSD, X86_CR4_DE};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(flushing); i++) {
		accepted(cr_write(vcpu, 4, flushing[i]));
		assert_int_equal(fake_take_requests(vcpu), REQ_TLB_FLUSH);
		accepted(cr_write(vcpu, 4, flushing[i]));
		assert_int_equal(fake_take_requests(vcpu), 0); /* no change */
		accepted(cr_write(vcpu, 4, 0));
		assert_int_equal(fake_take_requests(vcpu), REQ_TLB_FLUSH);
	}
	for (size_t i = 0; i < ARRAY_SIZE(silent); i++) {
		accepted(cr_write(vcpu, 4, silent[i]));
		assert_int_equal(reg(CR4), silent[i]);
		assert_int_equal(fake_take_requests(vcpu), 0);
		accepted(cr_write(vcpu, 4, 0));
	}
}

static void test_efer_bits(void **state) {
	const struct cpu_model_host *hosts[] = {&fake_amd, &fake_intel};

	(void)state;
	for (size_t h = 0; h < ARRAY_SIZE(hosts); h++) {
		use_host(hosts[h]);
		for (unsigned bit = 0; bit < 64; bit++) {
			u64 value = BIT(bit);

			if (value == X86_EFER_LMA) continue;
			vcpu_set_reg(vcpu, VREG_EFER, 0);
			if (model.efer_allowed & value)
				accepted(write_efer(vcpu, value));
			else
				faults(write_efer(vcpu, value), X86_GP);
			assert_int_equal(reg(EFER), model.efer_allowed & value);
		}
	}
	faults(write_efer(vcpu, X86_EFER_SVME), X86_GP);
}

static void test_efer_LMA_is_derived(void **state) {
	(void)state;
	use_host(&fake_amd);
	faults(write_efer(vcpu, X86_EFER_LMA), X86_GP); /* AMD: must not differ */
	enter_long_mode();
	faults(write_efer(vcpu, X86_EFER_LME), X86_GP);
	accepted(write_efer(vcpu, X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE));
	assert_int_equal(reg(EFER), X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE);
	use_host(&fake_intel);
	accepted(write_efer(vcpu, X86_EFER_LME)); /* Intel: ignored */
	assert_int_equal(reg(EFER), X86_EFER_LME | X86_EFER_LMA);
}

static void test_efer_LME_is_fixed_under_paging(void **state) {
	(void)state;
	accepted(cr_write(vcpu, 0, X86_CR0_PE | X86_CR0_PG));
	faults(write_efer(vcpu, X86_EFER_LME), X86_GP);
	accepted(write_efer(vcpu, X86_EFER_SCE));
	accepted(cr_write(vcpu, 0, X86_CR0_PE));
	accepted(write_efer(vcpu, X86_EFER_LME));
	fake_take_requests(vcpu);
	accepted(write_efer(vcpu, X86_EFER_LME | X86_EFER_NXE));
	assert_int_equal(fake_take_requests(vcpu), REQ_TLB_FLUSH);
}

static void test_cr8_is_the_task_priority(void **state) {
	u64 value;

	(void)state;
	accepted(cr_write(vcpu, 8, 9));
	assert_int_equal(apic.tpr, 0x90);
	faults(cr_write(vcpu, 8, 16), X86_GP);
	faults(cr_write(vcpu, 8, BIT(40)), X86_GP);
	assert_int_equal(apic.tpr, 0x90);
	apic.tpr = 0xa7;
	accepted(cr_read(vcpu, 8, &value));
	assert_int_equal(value, 10);
	apic.vapic = page; /* the processor has it */
	page[LAPIC_VTPR] = 0x50;
	accepted(cr_read(vcpu, 8, &value));
	assert_int_equal(value, 5);
	apic.lent = true; /* ... and more than that */
	accepted(cr_read(vcpu, 8, &value));
	assert_int_equal(value, 9);
	apic.vapic = NULL;
}

static void test_registers_that_do_not_exist(void **state) {
	u64 value;

	(void)state;
	for (unsigned nr = 0; nr < 16; nr++) {
		if (nr == 0 || nr == 2 || nr == 3 || nr == 4 || nr == 8) continue;
		faults(cr_write(vcpu, nr, 0), X86_UD);
		faults(cr_read(vcpu, nr, &value), X86_UD);
	}
	accepted(cr_write(vcpu, 2, ~0ul));
	accepted(cr_read(vcpu, 2, &value));
	assert_int_equal(value, ~0ul);
	accepted(cr_write(vcpu, 3, 0x5000));
	accepted(cr_read(vcpu, 3, &value));
	assert_int_equal(value, 0x5000);
}

static void test_clts_and_lmsw(void **state) {
	(void)state;
	vcpu_set_reg(vcpu, VREG_CR0, RESET_CR0 | X86_CR0_TS);
	accepted(cr_clts(vcpu));
	assert_int_equal(reg(CR0), RESET_CR0);
	accepted(cr_lmsw(vcpu, 0xffff));
	assert_int_equal(reg(CR0), RESET_CR0 | 0xf);
	accepted(cr_lmsw(vcpu, 0));
	assert_int_equal(reg(CR0), RESET_CR0 | X86_CR0_PE); /* PE cannot be cleared */
}

static enum outcome xsetbv_value(u32 index, u64 value) {
	vcpu->gpr[RCX] = 0xabcd000000000000 | index;
	vcpu->gpr[RAX] = 0x1111111100000000 | (u32)value;
	vcpu->gpr[RDX] = 0x2222222200000000 | value >> 32;
	return xsetbv_exit(vcpu);
}

static void test_xsetbv(void **state) {
	static const u64 good[] = {1, 3, 7, 0xe7, 0x203, 0x201, 0x2e7};
	static const u64 bad[] = {0,	2,    5,	  6,	      4,	   0x23,       0x67,
				  0xe3, 0x27, BIT(3) | 3, BIT(8) | 3, BIT(62) | 7, BIT(63) | 1};

	(void)state;
	faults(xsetbv_value(0, 1), X86_UD); /* CR4.OSXSAVE is clear */
	vcpu_set_reg(vcpu, VREG_CR4, X86_CR4_OSXSAVE);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		accepted(xsetbv_value(0, good[i]));
		assert_int_equal(reg(XCR0), good[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		faults(xsetbv_value(0, bad[i]), X86_GP);
		assert_int_equal(reg(XCR0), 0x2e7);
	}
	faults(xsetbv_value(1, 1), X86_GP);
	fake_cpl = 3;
	faults(xsetbv_value(0, 1), X86_GP);
	fake_cpl = 0;
	use_host(&fake_amd);
	faults(xsetbv_value(0, 0x203), X86_GP);
	accepted(xsetbv_value(0, 7));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_cr0_reserved_and_combinations),
		TEST(test_cr0_unknown_low_bits_are_dropped_and_ET_stays),
		TEST(test_cr0_wp_needs_no_flush),
		TEST(test_paging_activates_long_mode),
		TEST(test_paging_without_LME_stays_legacy),
		TEST(test_leaving_paging),
		TEST(test_cr3_width),
		TEST(test_cr3_pcid_and_no_flush),
		TEST(test_cr4_reserved),
		TEST(test_cr4_in_long_mode_keeps_PAE),
		TEST(test_cr4_PCIDE),
		TEST(test_cr4_flushes),
		TEST(test_efer_bits),
		TEST(test_efer_LMA_is_derived),
		TEST(test_efer_LME_is_fixed_under_paging),
		TEST(test_cr8_is_the_task_priority),
		TEST(test_registers_that_do_not_exist),
		TEST(test_clts_and_lmsw),
		TEST(test_xsetbv),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
