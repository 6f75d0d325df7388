// sources: tests/fakes.c platform/bus.c platform/lapic.c platform/lapic_timer.c
// sources: platform/lapic_ipi.c platform/ioapic.c platform/pic.c platform/pit.c platform/rtc.c
// sources: platform/uart.c platform/pmio.c platform/platform.c platform/layout.c
// sources: platform/lapic_virtual.c
/*
 * The local APIC that is lent to the processor: the test plays the processor (SDM 3C 29.1, 29.2) on
 * the virtual-APIC page, and everything has to go on as if Roost did it.
 */
#include "tests/rig.h"

#include <string.h>

/* Registers, as numbers of 16-byte slots. */
enum { ID = 2, VERSION, TPR = 8, PPR = 10, EOI, LDR = 13, DFR, SVR, ISR = 16, TMR = 24, IRR = 32 };
enum { ESR = 0x28, ICR = 0x30, ICR2, TIMER, LINT0 = 0x35, COUNT = 0x38, CURRENT, DIVIDE = 0x3e };
enum { SELF = 0x3f };

static u32 page[1024];
static struct lapic_lent lent;

/* The processor's own note of what is highest on the page. */
static u16 status(void);

static void lend(struct vcpu *vcpu) {
	lent.status = status();
	lapic_lend(vcpu, &lent);
	assert_int_equal(lent.status, status());
}

static u32 reg(u32 n) { return page[n * 4]; }

static bool bit(u32 base, u8 vector) { return reg(base + vector / 32) >> vector % 32 & 1; }

static void flip(u32 base, u8 vector) { page[(base + vector / 32) * 4] ^= 1u << vector % 32; }

static u8 top(u32 base) {
	for (int n = 255; n > 0; n--)
		if (bit(base, (u8)n)) return (u8)n;
	return 0;
}

static u16 status(void) { return (u16)(top(ISR) << 8 | top(IRR)); }

/* What the processor does by itself: PPR, delivery, EOI. */

static u8 ppr(void) {
	u8 serving = top(ISR);

	return reg(TPR) >> 4 >= serving >> 4 ? (u8)reg(TPR) : serving & 0xf0;
}

static int processor_delivers(void) {
	u8 waiting = top(IRR);

	if (waiting >> 4 <= ppr() >> 4) return -1;
	flip(IRR, waiting);
	flip(ISR, waiting);
	return waiting;
}

/* True: the exit of an end that has to be told. */
static bool processor_ends(struct vcpu *vcpu) {
	u8 vector = top(ISR);

	if (!vector) return false;
	flip(ISR, vector);
	if (!(lent.levels[vector / 64] >> vector % 64 & 1)) return false;
	lapic_eoi_level(vcpu->lapic, vector);
	return true;
}

#define BOTH_MODES (BIT(LAPIC_XAPIC) | BIT(LAPIC_X2APIC))

/* mode: in which the processor delivers; LAPIC_DISABLED: it has a TPR shadow alone. */
static struct vcpu *start(struct vm **vm, enum lapic_mode mode) {
	*vm = rig_create(2);
	struct vcpu *vcpu = (*vm)->vcpus[0];

	memset(page, 0, sizeof(page));
	memset(&lent, 0, sizeof(lent));
	lapic_set_virtual(vcpu, page, mode ? BOTH_MODES : 0);
	lapic_mmio_write(vcpu, SVR * 16, 4, 0xff);
	assert_false(irq_by_processor(vcpu)); /* software disables it */
	lapic_mmio_write(vcpu, SVR * 16, 4, 0x1ff);
	lapic_mmio_write(vcpu, LINT0 * 16, 4, 0x10000);
	assert_int_equal(irq_by_processor(vcpu), mode != LAPIC_DISABLED);
	if (mode == LAPIC_X2APIC) assert_int_equal(lapic_set_base(vcpu, 0xfee00d00), 0);
	assert_int_equal(vcpu->lapic->delivers, mode);
	fake_take_requests(vcpu);
	return vcpu;
}

static u64 msr(struct vcpu *vcpu, u32 n) {
	u64 value = 0;

	if (vcpu->lapic->mode == LAPIC_XAPIC) return lapic_mmio_read(vcpu, n * 16, 4);
	assert_int_equal(lapic_msr_read(vcpu, 0x800 + n, &value), 0);
	return value;
}

static int set_msr(struct vcpu *vcpu, u32 n, u64 value) {
	return lapic_msr_write(vcpu, 0x800 + n, value);
}

static void post(struct vcpu *vcpu, u8 vector, bool level) {
	struct apic_msg msg = {.dest = vcpu->id, .vector = vector, .assert = true, .level = level};

	assert_int_equal(apic_send(vcpu->vm, &msg), 1);
}

static void what_is_lent_comes_back(void **state) {
	struct vm *vm;
	struct vcpu *vcpu = start(&vm, LAPIC_X2APIC);

	(void)state;
	assert_true(irq_by_processor(vcpu));
	lapic_set_tpr(vcpu, 0x23);
	post(vcpu, 0x41, false);
	post(vcpu, 0xf3, false);
	assert_int_equal(irq_accept(vcpu), 0xf3);
	fake_take_requests(vcpu);
	lend(vcpu);
	assert_int_equal(lent.status, 0xf341);
	assert_int_equal(reg(TPR), 0x23);
	assert_true(bit(ISR, 0xf3) && bit(IRR, 0x41) && top(IRR) == 0x41);
	assert_int_equal(atomic_load(&vcpu->lapic->irr[1]), 0);

	/* The guest ends one, takes the other and moves TPR. */
	assert_false(processor_ends(vcpu));
	assert_int_equal(processor_delivers(), 0x41);
	page[TPR * 4] = 0x32;
	/* One more while the processor has it: it is asked to leave the guest, and then it has
	 * both. */
	post(vcpu, 0x55, false);
	assert_true(fake_take_requests(vcpu) & REQ_EVENT);
	lend(vcpu);
	assert_int_equal(lent.status, 0x4155);
	assert_int_equal(reg(TPR), 0x32);

	/* Whoever looks takes everything back, and it is lent again in time. */
	assert_int_equal(lapic_tpr(vcpu), 0x32);
	assert_true(fake_take_requests(vcpu) & REQ_EVENT);
	assert_int_equal(irq_next(vcpu), 0x55);
	assert_int_equal(lapic_in_service(vcpu->lapic), 0x41);
	assert_int_equal(top(IRR), 0);
	lapic_eoi(vcpu);
	assert_int_equal(lapic_in_service(vcpu->lapic), 0);

	/* Unless there is nothing; a vector on the page or beside it is something. */
	assert_int_equal(irq_accept(vcpu), 0x55);
	lend(vcpu);
	assert_int_equal(irq_next(vcpu), -1);
	assert_true(vcpu->lapic->lent);
	post(vcpu, 0x20, false);
	assert_int_equal(irq_next(vcpu), -1); /* of a lower class than what is in service */
	assert_false(vcpu->lapic->lent);
	rig_destroy(vm);
}

/* Everybody who looks at TPR, ISR or IRR has to take it back first. */
static void all_look_at_their_own(void **state) {
	struct vm *vm;
	struct vcpu *vcpu = start(&vm, LAPIC_X2APIC);

	(void)state;
#define TAKES_BACK(what)                                        \
	do {                                                    \
		post(vcpu, 0x80, false);                        \
		lend(vcpu);                                     \
		page[TPR * 4] = 0x10;                           \
		assert_true(vcpu->lapic->lent);                 \
		what;                                           \
		assert_false(vcpu->lapic->lent);                \
		assert_int_equal(vcpu->lapic->tpr & ~0x10u, 0); \
	} while (0)
	TAKES_BACK(irq_next(vcpu));
	TAKES_BACK(irq_accept(vcpu));
	TAKES_BACK(lapic_eoi(vcpu));
	TAKES_BACK(lapic_tpr(vcpu));
	TAKES_BACK(lapic_set_tpr(vcpu, 0));
	TAKES_BACK(msr(vcpu, PPR));
	TAKES_BACK(assert_int_equal(set_msr(vcpu, EOI, 0), 0));
	TAKES_BACK(lapic_init_reset(vcpu));
	assert_int_equal(set_msr(vcpu, SVR, 0x1ff), 0);
	TAKES_BACK(assert_int_equal(set_msr(vcpu, SVR, 0xff), 0));
	assert_int_equal(set_msr(vcpu, SVR, 0x1ff), 0);
	TAKES_BACK(assert_int_equal(lapic_set_base(vcpu, 0xfee00100), 0));
	/* An IPI does not. */
	assert_int_equal(lapic_set_base(vcpu, 0xfee00900), 0);
	assert_int_equal(lapic_set_base(vcpu, 0xfee00d00), 0);
	assert_int_equal(set_msr(vcpu, SVR, 0x1ff), 0);
	lend(vcpu);
	assert_int_equal(set_msr(vcpu, ICR, 0x40080), 0);
	assert_true(vcpu->lapic->lent);
	rig_destroy(vm);
}

/* With a TPR shadow alone, nothing but TPR is the processor's. */
static void tpr_alone(void **state) {
	struct vm *vm;
	struct vcpu *vcpu = start(&vm, LAPIC_DISABLED);

	(void)state;
	assert_false(irq_by_processor(vcpu));
	lapic_set_tpr(vcpu, 0x60);
	assert_true(fake_take_requests(vcpu) & REQ_EVENT);
	assert_int_equal(reg(TPR), 0x60);
	assert_int_equal(lapic_threshold(vcpu->lapic), 0);
	post(vcpu, 0x55, false);
	fake_take_requests(vcpu);
	vcpu->lend = false;
	assert_int_equal(irq_next(vcpu), -1);
	assert_true(vcpu->lend);			   /* the threshold is another */
	assert_int_equal(lapic_threshold(vcpu->lapic), 5); /* below it, that one could come */
	assert_int_equal(top(IRR), 0);
	page[TPR * 4] = 0x40;
	assert_int_equal(lapic_tpr(vcpu), 0x40);
	assert_int_equal(fake_take_requests(vcpu), 0); /* a look costs nothing more */
	assert_int_equal(irq_next(vcpu), 0x55);
	assert_int_equal(lapic_threshold(vcpu->lapic), 0); /* it comes anyway */
	assert_int_equal(reg(TPR), 0x40);
	assert_int_equal(lapic_set_base(vcpu, 0xfee00d00), 0);
	assert_false(irq_by_processor(vcpu));
	lapic_init_reset(vcpu);
	assert_int_equal(reg(TPR), 0);
	rig_destroy(vm);
}

/* What RDMSR and reads of the page find without an exit is what the software would have said. */
static void registers_on_the_page(void **state) {
	static const u8 shown[] = {ID, VERSION, LDR, SVR, ESR, ICR, TIMER, LINT0, COUNT, DIVIDE};
	static const u64 writes[][2] = {{TIMER, 0x10052}, {DIVIDE, 0xb}, {0x37, 5},
					{ICR, 5},	  {ESR, 0},	 {ICR, 0x100000441},
					{COUNT, 77},	  {SVR, 0x1fe}};
	struct vm *vm;
	struct vcpu *vcpu = start(&vm, LAPIC_X2APIC);

	(void)state;
	for (unsigned i = 0; i <= ARRAY_SIZE(writes); i++) {
		for (unsigned k = 0; k < ARRAY_SIZE(shown); k++)
			assert_int_equal(reg(shown[k]), (u32)msr(vcpu, shown[k]));
		assert_int_equal(page[ICR * 4 + 1], msr(vcpu, ICR) >> 32);
		lend(vcpu);
		if (i < ARRAY_SIZE(writes))
			assert_int_equal(set_msr(vcpu, (u32)writes[i][0], writes[i][1]), 0);
	}
	assert_int_equal(reg(ESR) & 0x20, 0x20); /* an illegal vector was sent */
	assert_int_equal(page[ICR * 4 + 1], 1);
	assert_int_equal(reg(CURRENT), 0);
	lapic_init_reset(vcpu);
	assert_int_equal(msr(vcpu, SVR), 0xff);
	assert_int_equal(vcpu->lapic->delivers, 0);
	rig_destroy(vm);
}

/* The end of a level-triggered interrupt is told to the IOAPIC, and the line asks again. */
static void level_triggered(void **state) {
	struct vm *vm;
	struct vcpu *vcpu = start(&vm, LAPIC_X2APIC);

	(void)state;
	bus_mmio_write(vcpu, 0xfec00000, 4, 0x10 + 2 * 20);
	bus_mmio_write(vcpu, 0xfec00010, 4, 0x8071);
	irq_set(vm, 20, true);
	lend(vcpu);
	assert_int_equal(lent.status, 0x71);
	assert_int_equal(lent.levels[1], BIT(0x71 - 64));
	assert_true(bit(TMR, 0x71));
	assert_int_equal(processor_delivers(), 0x71);
	fake_take_requests(vcpu);
	assert_true(processor_ends(vcpu));
	assert_true(fake_take_requests(vcpu) & REQ_EVENT);
	lend(vcpu);
	assert_int_equal(lent.status, 0x71);
	assert_int_equal(processor_delivers(), 0x71);
	irq_set(vm, 20, false);
	assert_true(processor_ends(vcpu));
	lend(vcpu);
	assert_int_equal(lent.status, 0);
	/* The same vector by an edge: no more exit. */
	post(vcpu, 0x71, false);
	lend(vcpu);
	assert_int_equal(lent.levels[1], 0);
	rig_destroy(vm);
}

/* The PIC's interrupt is Roost's to inject, and an L2's interrupts are exits to L1. */
static void what_the_processor_cannot(void **state) {
	struct vm *vm;
	struct vcpu *vcpu = start(&vm, LAPIC_X2APIC);

	(void)state;
	vcpu->l2 = true;
	assert_false(irq_by_processor(vcpu));
	vcpu->l2 = false;
	assert_int_equal(set_msr(vcpu, LINT0, 0x700), 0);
	lapic_set_lint0(vcpu, true);
	assert_false(irq_by_processor(vcpu));
	lapic_set_lint0(vcpu, false);
	assert_true(irq_by_processor(vcpu));
	rig_destroy(vm);
}

/* A write that the processor cannot finish: a self IPI of an illegal vector; and any offset. */
static void writes_that_exit(void **state) {
	struct vm *vm;
	struct vcpu *vcpu = start(&vm, LAPIC_X2APIC);

	(void)state;
	for (u32 offset = 0; offset < 0x1000; offset++) {
		lend(vcpu);
		lapic_virtual_write(vcpu, offset);
	}
	assert_int_equal(set_msr(vcpu, SVR, 0x1ff), 0);
	assert_int_equal(set_msr(vcpu, ESR, 0), 0);
	lend(vcpu);
	page[SELF * 4] = 5;
	lapic_virtual_write(vcpu, SELF * 16);
	assert_int_equal(atomic_load(&vcpu->lapic->errors) & 0x20, 0x20);
	rig_destroy(vm);
}

/*
 * Two local APICs get the same at random, one of them lent to the processor between any two steps.
 * The guest must not be able to tell which is which.
 */
static void at_random(enum lapic_mode mode) {
	struct vm *vm;
	struct vcpu *virtual = start(&vm, mode), *plain = vm->vcpus[1];
	unsigned delivered = 0, exits = 0;

	lapic_mmio_write(plain, SVR * 16, 4, 0x1ff);
	for (unsigned i = 0; i < 20000; i++) {
		u64 dice = rig_random();
		u8 vector = (u8)(16 + (dice >> 8) % 240);
		bool level = dice >> 32 & 1;
		int expected;

		lend(virtual);
		switch (dice % 4) {
		case 0:
			post(virtual, vector, level);
			post(plain, vector, level);
			break;
		case 1:
			page[TPR * 4] = (u8)(dice >> 40 & 0x7f);
			lapic_set_tpr(plain, (u8)(dice >> 40 & 0x7f));
			break;
		case 2:
			exits += processor_ends(virtual);
			lapic_eoi(plain);
			break;
		default:
			expected = irq_accept(plain);
			assert_int_equal(processor_delivers(), expected);
			delivered += expected >= 0;
			break;
		}
		if (dice >> 50 & 1) lend(virtual);
		for (u32 n = 0; n < 8; n++) {
			u32 waiting = (u32)(atomic_load(&virtual->lapic->irr[n / 2]) >> n % 2 * 32);

			assert_int_equal(reg(ISR + n), lapic_mmio_read(plain, (ISR + n) * 16, 4));
			assert_int_equal(reg(IRR + n) | waiting,
					 lapic_mmio_read(plain, (IRR + n) * 16, 4));
		}
		if (!(dice >> 51 & 15)) {
			assert_int_equal(msr(virtual, TPR), lapic_mmio_read(plain, TPR * 16, 4));
			assert_int_equal(msr(virtual, PPR), lapic_mmio_read(plain, PPR * 16, 4));
			for (u32 n = ISR; n < ESR; n++)
				assert_int_equal(msr(virtual, n),
						 lapic_mmio_read(plain, n * 16, 4));
		}
	}
	assert_true(delivered > 1000 && exits > 100);
	rig_destroy(vm);
}

static void random_against_software(void **state) {
	(void)state;
	at_random(LAPIC_X2APIC);
	at_random(LAPIC_XAPIC);
}

/*
 * The page of xAPIC: what the processor has written there without an exit, the other writes, and
 * what an access that it leaves to the emulator finds.
 */
static void xapic_page(void **state) {
	static const u32 writes[][2] = {{LDR, 0x55ffffff}, {DFR, 0x0fffffff}, {TIMER, 0x10052},
					{ID, 0x7f000000},  {DIVIDE, 0xff},    {SVR, 0x1fe}};
	struct vm *vm;
	struct vcpu *vcpu = start(&vm, LAPIC_XAPIC);

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(writes); i++) {
		u32 n = writes[i][0];

		lend(vcpu);
		page[n * 4] = writes[i][1];
		lapic_virtual_write(vcpu, n * 16);
		assert_int_equal(reg(n), lapic_mmio_read(vcpu, n * 16, 4));
	}
	assert_int_equal(reg(ID), 0);
	assert_int_equal(reg(LDR), 0x55000000);

	/* The upper half of the ICR is seen when the lower half is written, or read. */
	lend(vcpu);
	page[ICR2 * 4] = 0x01000000;
	page[ICR * 4] = 0xfffff041;
	assert_int_equal(lapic_mmio_read(vcpu, ICR2 * 16, 4), 0x01000000);
	lend(vcpu);
	page[ICR * 4] = 0x4041;
	lapic_virtual_write(vcpu, ICR * 16);
	assert_int_equal(irq_next(vm->vcpus[1]), -1); /* software disabled */
	lapic_mmio_write(vm->vcpus[1], SVR * 16, 4, 0x1ff);
	lend(vcpu);
	page[ICR2 * 4] = 0x01000000;
	page[ICR * 4] = 0x4042;
	lapic_virtual_write(vcpu, ICR * 16);
	assert_int_equal(irq_next(vm->vcpus[1]), 0x42);
	assert_int_equal(reg(ICR), 0x4042);

	/* A self IPI that the processor has made. */
	lend(vcpu);
	page[ICR * 4] = 0x40043;
	flip(IRR, 0x43);
	assert_int_equal(lapic_mmio_read(vcpu, ICR * 16, 4), 0x40043);
	assert_int_equal(irq_next(vcpu), 0x43);

	/* Another place, and none; the processor has to be told. */
	fake_take_requests(vcpu);
	assert_int_equal(lapic_set_base(vcpu, 0xfee10900), 0);
	assert_true(fake_take_requests(vcpu) & REQ_EVENT);
	assert_int_equal(vcpu->lapic->delivers, LAPIC_XAPIC);
	assert_int_equal(lapic_set_base(vcpu, 0xfee00100), 0);
	assert_false(irq_by_processor(vcpu));
	rig_destroy(vm);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_lent_comes_back),
		cmocka_unit_test(all_look_at_their_own),
		cmocka_unit_test(tpr_alone),
		cmocka_unit_test(registers_on_the_page),
		cmocka_unit_test(level_triggered),
		cmocka_unit_test(what_the_processor_cannot),
		cmocka_unit_test(writes_that_exit),
		cmocka_unit_test(random_against_software),
		cmocka_unit_test(xapic_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
