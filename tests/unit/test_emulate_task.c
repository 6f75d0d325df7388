// sources: platform/emulate_task.c platform/cr.c platform/emulate.c platform/emulate_alu.c
// sources: platform/emulate_mem.c platform/emulate_ops.c platform/emulate_string.c
// sources: platform/decode.c platform/decode_tables.c platform/gwalk.c platform/fetch.c
// sources: vmx/check.c vmx/fields.c tests/emulate_rig.c tests/fakes.c
/*
 * Hardware task switches: what guest-tests/task.c cannot show on an emulator. That nothing has
 * happened when a switch fails for the old task, what an external event adds, other vCPUs in
 * between, and that the processor can enter whatever a hostile guest has in its TSS.
 */
#include "tests/emulate_rig.h"
#include "tests/random.h"

#include "platform/cpu_model.h"
#include "platform/lapic.h"
#include "vmx/check.h"

#include <string.h>

#define GDT	0x50000ul
#define OLD	0x51000ul
#define NEW	0x52000ul
#define TOP	0x54000ul
#define RAM	KiB(512)

#define SEL_OLD 0x20
#define SEL_NEW 0x28
#define BUSY	2u

#define ENTRIES 32

static struct cpu_model model = {.phys_bits = 39};
static u8 before[RAM];

void lapic_set_tpr(struct vcpu *vcpu, u8 tpr) { (void)vcpu, (void)tpr; }

u8 vcpu_cpl(struct vcpu *vcpu) {
	struct segment ss;

	vcpu_segment(vcpu, SEG_SS, &ss);
	return ss.attr >> 5 & 3;
}

static u8 *at(gpa_t gpa) { return fake_ram(rig_vm) + gpa; }

static u64 *descriptor(u16 selector) { return (u64 *)(void *)at(GDT + (selector & ~7u)); }

static void put(gpa_t gpa, u32 value) { memcpy(at(gpa), &value, 4); }

static u32 get(gpa_t gpa) {
	u32 value;

	memcpy(&value, at(gpa), 4);
	return value;
}

static u64 make(u64 base, u64 limit, u64 access, u64 flags) {
	return (limit & 0xffff) | (base & 0xffffff) << 16 | access << 40 |
	       (limit >> 16 & 0xf) << 48 | flags << 52 | base >> 24 << 56;
}

static u8 type(u16 selector) { return *descriptor(selector) >> 40 & 0xf; }

static void fill(u64 old_base, u64 new_base) {
	struct segment tr = {SEL_OLD, 0x8b, 103, old_base};

	rig_vm->cpu_model = &model;
	descriptor(8)[0] = make(0, 0xfffff, 0x9b, 0xc);
	descriptor(16)[0] = make(0, 0xfffff, 0x93, 0xc);
	descriptor(SEL_OLD)[0] = make(old_base, 103, 0x8b, 0);
	descriptor(SEL_NEW)[0] = make(new_base, 103, 0x89, 0);
	vcpu_set_reg(rig_vcpu, VREG_GDTR_BASE, GDT);
	vcpu_set_reg(rig_vcpu, VREG_GDTR_LIMIT, 8 * ENTRIES - 1);
	vcpu_set_segment(rig_vcpu, SEG_TR, &tr);
	for (unsigned i = 0; i < 8; i++) rig_vcpu->gpr[i] = 0x1000 + i;
	rig_vcpu->rip = 0x1234;
	rig_vcpu->rflags = 2;
	for (unsigned i = 0; i < 8; i++) put(NEW + 0x28 + 4 * i, 0x2000 + i);
	put(NEW + 0x20, 0x5678);
	put(NEW + 0x24, 2);
	put(NEW + 0x38, TOP);
	for (unsigned i = 0; i < 6; i++) put(NEW + 0x48 + 4 * i, i == SEG_CS ? 8 : 16);
	put(NEW + 0x60, 0);
	put(NEW + 0x64, 0);
}

static void fill_flat(void) {
	rig_protected_mode();
	fill(OLD, NEW);
}

static int go(enum task_source source) {
	return emulate_task_switch(rig_vcpu, &(struct task_switch){.selector = SEL_NEW,
								   .source = source,
								   .rip = 0x1236});
}

static void expect_exception(u8 vector, u32 error) {
	assert_true(rig_vcpu->exception.pending);
	assert_int_equal(rig_vcpu->exception.vector, vector);
	assert_int_equal(rig_vcpu->exception.error, error);
	rig_vcpu->exception.pending = false;
}

/* The switch to come fails for the old task, and leaves it and its memory alone. */
static void expect_nothing(enum task_source source, int result) {
	struct vcpu vcpu;

	memcpy(before, at(0), RAM);
	memcpy(&vcpu, rig_vcpu, sizeof(vcpu));
	assert_int_equal(go(source), result);
	assert_memory_equal(rig_vcpu->gpr, vcpu.gpr, sizeof(vcpu.gpr));
	assert_int_equal(rig_vcpu->rip, vcpu.rip);
	assert_int_equal(rig_vcpu->rflags, vcpu.rflags);
	assert_memory_equal(at(GDT), before + GDT, RAM - GDT);
}

static void switches(void **state) {
	struct segment s;

	(void)state;
	fill_flat();
	vcpu_set_reg(rig_vcpu, VREG_DR7, 0x7ff);
	assert_int_equal(go(TASK_CALL), 0);
	assert_false(rig_vcpu->exception.pending);
	assert_int_equal(get(OLD + 0x20), 0x1236);
	assert_int_equal(get(OLD + 0x2c), 0x1000 + RCX);
	assert_int_equal(get(NEW) & 0xffff, SEL_OLD);
	assert_int_equal(type(SEL_OLD), 0xb);
	assert_int_equal(type(SEL_NEW), 0xb);
	assert_int_equal(rig_vcpu->rip, 0x5678);
	assert_int_equal(rig_vcpu->rflags, BIT(14) | 2);
	assert_int_equal(rig_vcpu->gpr[RDI], 0x2007);
	assert_int_equal(vcpu_reg(rig_vcpu, VREG_DR7), 0x7ff & ~0x155);
	assert_true(vcpu_reg(rig_vcpu, VREG_CR0) & BIT(3));
	vcpu_segment(rig_vcpu, SEG_TR, &s);
	assert_int_equal(s.selector, SEL_NEW);
	assert_int_equal(s.attr, 0x8b);
	assert_int_equal(s.base, NEW);
}

/* The descriptor as it is now counts, whatever the processor has seen there. */
static void descriptor_is_checked(void **state) {
	static const struct {
		enum task_source source;
		u64 value;
		u8 vector;
	} all[] = {
		{TASK_JMP, 0x8b, X86_GP},  {TASK_GATE, 0x8b, X86_GP}, {TASK_IRET, 0x89, X86_TS},
		{TASK_JMP, 0x99, X86_GP},  {TASK_CALL, 0x82, X86_GP}, {TASK_IRET, 0x93, X86_TS},
		{TASK_CALL, 0x09, X86_NP}, {TASK_IRET, 0x0b, X86_NP},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		fill_flat();
		*descriptor(SEL_NEW) = make(NEW, 103, all[i].value, 0);
		expect_nothing(all[i].source, 0);
		expect_exception(all[i].vector, SEL_NEW);
	}
	fill_flat();
	*descriptor(SEL_NEW) = make(NEW, 102, 0x89, 0);
	expect_nothing(TASK_JMP, 0);
	expect_exception(X86_TS, SEL_NEW);
	*descriptor(SEL_NEW) = make(NEW, 42, 0x81, 0);
	expect_nothing(TASK_JMP, 0);
	expect_exception(X86_TS, SEL_NEW);
	vcpu_set_reg(rig_vcpu, VREG_GDTR_LIMIT, SEL_NEW + 6);
	expect_nothing(TASK_JMP, 0);
	expect_exception(X86_GP, SEL_NEW);
	/* In an LDT there may be one, but not for this. */
	fill_flat();
	struct segment table = {0x40, 0x82, 8 * ENTRIES - 1, GDT};
	vcpu_set_segment(rig_vcpu, SEG_LDTR, &table);
	memcpy(before, at(0), RAM);
	assert_int_equal(
		emulate_task_switch(rig_vcpu, &(struct task_switch){.selector = SEL_NEW | 4}), 0);
	expect_exception(X86_GP, SEL_NEW | 4);
	assert_memory_equal(at(0), before, RAM);
	fill_flat();
	struct segment tr = {SEL_OLD, 0x8b, 102, OLD};
	vcpu_set_segment(rig_vcpu, SEG_TR, &tr);
	expect_nothing(TASK_JMP, 0);
	expect_exception(X86_TS, SEL_OLD);
}

/* Either TSS on two pages, of which one is missing or read-only. */
static void pages_are_missing(void **state) {
	static const struct {
		gva_t old_base, new_base, address;
		u64 pte;
		enum task_source source;
		u32 error;
	} all[] = {
		{OLD, DATA + 0xfd0, DATA + 0x1000, 0, TASK_JMP, 0},
		{OLD, DATA + 0x1010, DATA + 0x1010, 0, TASK_CALL, 2},
		{OLD, DATA + 0x1010, DATA + 0x102c, 0, TASK_JMP, 0},
		{OLD, DATA + 0x1010, DATA + 0x1010, 1, TASK_GATE, 3},
		{DATA + 0xfd0, NEW, DATA + 0x1000, 0, TASK_JMP, 2},
		{DATA + 0xfd0, NEW, DATA + 0x1000, 1, TASK_IRET, 3},
	};

	(void)state;
	for (u64 page = 0; page < RAM; page += PAGE_SIZE) rig_map(page, page | 3);
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		gpa_t second = DATA_GPA + SECOND;

		fill(all[i].old_base, all[i].new_base);
		if (all[i].source == TASK_IRET) *descriptor(SEL_NEW) |= (u64)BUSY << 40;
		rig_map(DATA + 0x1000, all[i].pte ? second | 1 : 0);
		expect_nothing(all[i].source, 0);
		expect_exception(X86_PF, all[i].error);
		assert_int_equal(vcpu_reg(rig_vcpu, VREG_CR2), all[i].address);
	}
}

/* From the commit point on it is the new task's page tables, and its level, that count. */
static void new_task_has_other_pages(void **state) {
	struct task_switch to = {
		.selector = SEL_NEW, .source = TASK_GATE, .external = true, .has_error = true};

	(void)state;
	for (u64 page = 0; page < RAM; page += PAGE_SIZE) rig_map(page, page | 3);
	fill(OLD, NEW);
	put(NEW + 0x1c, 0x60000); /* nothing is there */
	assert_int_equal(emulate_task_switch(rig_vcpu, &to), 0);
	expect_exception(X86_PF, 0);
	assert_int_equal(vcpu_reg(rig_vcpu, VREG_CR2), GDT + 8);
	assert_int_equal(rig_vcpu->rip, 0x5678);

	/* A task of level 3, whose stack is the supervisor's */
	vcpu_set_reg(rig_vcpu, VREG_CR3, 0x1000);
	fill(OLD, NEW);
	put(NEW + 0x1c, 0x1000);
	*descriptor(0x30) = make(0, 0xfffff, 0xfb, 0xc);
	*descriptor(0x38) = make(0, 0xfffff, 0xf3, 0xc);
	for (unsigned i = 0; i < 6; i++) put(NEW + 0x48 + 4 * i, i == SEG_CS ? 0x33 : 0x3b);
	assert_int_equal(emulate_task_switch(rig_vcpu, &to), 0);
	expect_exception(X86_PF, PTE_P | PTE_W | PTE_U);
	assert_int_equal(vcpu_reg(rig_vcpu, VREG_CR2), TOP - 4);

	/* Data of level 0 is not for it, whatever RPL asks for. */
	fill(OLD, NEW);
	for (unsigned i = 0; i < 6; i++)
		put(NEW + 0x48 + 4 * i, i == SEG_CS ? 0x33 : i == SEG_ES ? 16 : 0x3b);
	assert_int_equal(emulate_task_switch(rig_vcpu, &to), 0);
	expect_exception(X86_TS, 16 | 1);
}

static void other_cpu_was_here(void *where) {
	if (where == at(GDT + SEL_NEW + 5)) *(u8 *)where = 0x81;
}

static void other_cpu_changes_ds(void *where) {
	if (where == at(GDT + 0x38 + 5)) *(u8 *)where ^= 4;
}

static void descriptor_changes_meanwhile(void **state) {
	(void)state;
	fill_flat();
	rig_gmem_hook = other_cpu_was_here;
	assert_int_equal(go(TASK_CALL), E_BUSY);
	assert_int_equal(get(NEW), 0);
	assert_int_equal(get(OLD + 0x20), 0);
	assert_int_equal(rig_vcpu->rip, 0x1234);
	assert_false(rig_vcpu->exception.pending);

	/* Behind the commit point nothing can begin anew: accessed bit of DS. */
	fill_flat();
	*descriptor(SEL_NEW) = make(NEW, 103, 0x81 | 8, 0);
	*descriptor(0x38) = make(0, 0xfffff, 0x92, 0xc);
	put(NEW + 0x54, 0x38);
	rig_gmem_hook = other_cpu_changes_ds;
	assert_int_equal(go(TASK_JMP), 0);
	expect_exception(X86_TS, SEL_NEW);
	assert_int_equal(rig_vcpu->rip, 0x5678);
}

/* EXT in error codes, and what is on the stack. */
static void external_events(void **state) {
	struct task_switch to = {.selector = SEL_NEW, .source = TASK_GATE, .external = true};

	(void)state;
	fill_flat();
	to.has_error = true;
	to.error = 0xabcd;
	rig_vcpu->exception = (struct vcpu_exception){.pending = true, .vector = X86_GP};
	assert_int_equal(emulate_task_switch(rig_vcpu, &to), 0);
	assert_false(rig_vcpu->exception.pending);
	assert_int_equal(rig_vcpu->gpr[RSP], TOP - 4);
	assert_int_equal(get(TOP - 4), 0xabcd);

	fill_flat();
	put(NEW + 0x54, 0x7f8);
	assert_int_equal(emulate_task_switch(rig_vcpu, &to), 0);
	expect_exception(X86_TS, 0x7f8 | 1);
	assert_int_equal(rig_vcpu->gpr[RSP], TOP);

	/* A stack of 16 bits: the upper half of ESP is kept. */
	fill_flat();
	*descriptor(16) = make(0, 0xfffff, 0x93, 8);
	assert_int_equal(emulate_task_switch(rig_vcpu, &to), 0);
	assert_int_equal(rig_vcpu->gpr[RSP], TOP - 4);
	assert_int_equal(get((TOP & 0xffff) - 4), 0xabcd);

	/* No room for the error code */
	fill_flat();
	*descriptor(16) = make(0, TOP - 5, 0x93, 4);
	assert_int_equal(emulate_task_switch(rig_vcpu, &to), 0);
	expect_exception(X86_SS, 1);
	assert_int_equal(rig_vcpu->rip, 0x5678);
}

/* The old format has its registers' low halves; what it lacks stays out of the way. */
static void old_format(void **state) {
	struct segment s;

	(void)state;
	fill_flat();
	memset(at(NEW), 0, 104);
	for (unsigned i = 0; i < 8; i++) put(NEW + 0x12 + 2 * i, 0x3000 + i);
	put(NEW + 0x0e, 0x5678 | 2 << 16);
	put(NEW + 0x22, 16 | 8 << 16);
	put(NEW + 0x26, 16 | 16 << 16);
	put(NEW + 0x2a, 0xffff0000);
	*descriptor(SEL_NEW) = make(NEW, 43, 0x81, 0);
	assert_int_equal(go(TASK_JMP), 0);
	assert_false(rig_vcpu->exception.pending);
	assert_int_equal(rig_vcpu->rip, 0x5678);
	assert_int_equal(rig_vcpu->gpr[RDI], 0x3007);
	vcpu_segment(rig_vcpu, SEG_FS, &s);
	assert_int_equal(s.selector | (s.attr & 0x80), 0);
	vcpu_segment(rig_vcpu, SEG_DS, &s);
	assert_int_equal(s.attr, 0xc93);

	/* And back, from it */
	*descriptor(SEL_OLD) |= (u64)BUSY << 40;
	rig_vcpu->rflags |= BIT(14);
	rig_vcpu->gpr[RCX] = 0x89abcdef;
	struct task_switch back = {.selector = SEL_OLD, .source = TASK_IRET, .rip = 0x4321};
	assert_int_equal(emulate_task_switch(rig_vcpu, &back), 0);
	assert_int_equal(get(NEW + 0x0e), 0x4321 | 2 << 16);
	assert_int_equal(get(NEW + 0x14) & 0xffff, 0xcdef);
	assert_int_equal(type(SEL_NEW), 1);
	assert_int_equal(rig_vcpu->gpr[RCX], 0x1000 + RCX);
}

static void trap_bit(void **state) {
	(void)state;
	fill_flat();
	put(NEW + 0x64, 1);
	assert_int_equal(go(TASK_JMP), 0);
	expect_exception(X86_DB, 0);
	assert_true(vcpu_reg(rig_vcpu, VREG_DR6) & BIT(15));
}

/* ---- a hostile guest ---- */

static u32 access_rights(u16 attr) {
	return (attr & 0xffu) | (attr & 0xf00u) << 4 | (attr & SEG_ATTR_P ? 0 : BIT(16));
}

/* The rules of SDM 3C 26.3.1 for what emulate_task_switch() writes. */
static void expect_enterable(void) {
	static struct vmx_limits limits = {
		.caps = {.phys_bits = 39, .linear_bits = 48},
		.efer = ~0ul,
	};
	struct vmcs_values v = {
		.proc_controls = PROC_SECONDARY,
		.proc2_controls = PROC2_EPT | PROC2_UNRESTRICTED,
		.guest_cr0 = X86_CR0_PE | X86_CR0_NE,
		.link = ~0ul,
		.guest_pat = 0x0007040600070406,
		.guest_rip = rig_vcpu->rip,
		.guest_rflags = rig_vcpu->rflags,
	};
	struct vmx_rule_broken why;

	limits.caps.msr[VMX_MSR_CR0_FIXED0 + 1 - VMX_MSR_FIRST] = ~0ul;
	limits.caps.msr[VMX_MSR_CR0_FIXED0 + 3 - VMX_MSR_FIRST] = ~0ul;
	for (enum seg seg = 0; seg < NR_SEGS; seg++) {
		struct segment s;

		vcpu_segment(rig_vcpu, seg, &s);
		v.guest_selector[seg] = s.selector;
		v.guest_base[seg] = s.base;
		v.guest_limit[seg] = s.limit;
		v.guest_access[seg] = access_rights(s.attr);
	}
	if (!vmx_check(&v, &limits, CHECK_GUEST, &why)) fail_msg("%s: %s", why.field, why.rule);
}

static void random_task(void) {
	static const u8 likely_types[] = {0x93, 0xf3, 0x9b, 0xfb, 0x9f, 0x82, 0x91, 0x13};

	for (u16 i = 3; i < ENTRIES; i++) {
		u64 bits = rig_random();

		if (i == SEL_OLD / 8 || i == SEL_NEW / 8) continue;
		if (bits & 7)
			bits = (bits & ~(0xfful << 40)) |
			       (u64)likely_types[rig_below(ARRAY_SIZE(likely_types))] << 40;
		*descriptor((u16)(i * 8)) = bits;
	}
	for (unsigned i = 0; i < 26; i++) {
		bool selector = i >= 18;

		if (!selector || !rig_below(4))
			put(NEW + 4 * i, (u32)rig_random() & (selector ? 0xff : ~0u));
	}
	if (rig_below(4)) put(NEW + 0x24, get(NEW + 0x24) & ~(u32)BIT(17));
}

static void hostile_guests(void **state) {
	unsigned done = 0, v86 = 0;

	(void)state;
	for (unsigned round = 0; round < 50000; round++) {
		fill_flat();
		random_task();
		struct task_switch to = {
			.selector = SEL_NEW,
			.source = (enum task_source)(rig_below(2) ? TASK_JMP : TASK_GATE),
			.has_error = rig_below(2),
		};
		assert_int_equal(emulate_task_switch(rig_vcpu, &to), 0);
		expect_enterable();
		done += !rig_vcpu->exception.pending;
		v86 += rig_vcpu->rflags >> 17 & 1;
		rig_vcpu->exception.pending = false;
	}
	assert_true(done > 500);
	assert_true(v86 > 500);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(switches),		 TEST(descriptor_is_checked),
		TEST(pages_are_missing), TEST(descriptor_changes_meanwhile),
		TEST(external_events),	 TEST(old_format),
		TEST(trap_bit),		 TEST(new_task_has_other_pages),
		TEST(hostile_guests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
