// sources: tests/fakes.c platform/bus.c platform/lapic.c platform/lapic_timer.c
// sources: platform/lapic_ipi.c platform/ioapic.c platform/pic.c platform/pit.c platform/rtc.c
// sources: platform/uart.c platform/pmio.c platform/platform.c platform/layout.c
// sources: platform/lapic_virtual.c
/* The 8259A pair: initialisation, priorities, all EOI and masking modes, polling, edge and level.
 */
#include "tests/rig.h"

#define M0 0x20
#define M1 0x21
#define S0 0xa0
#define S1 0xa1

static void init_chips(struct vm *vm, u8 icw1, u8 master_icw4, u8 slave_icw4) {
	byte_out(vm, M0, icw1);
	byte_out(vm, M1, 0x30);
	byte_out(vm, M1, 0x04);
	byte_out(vm, M1, master_icw4);
	byte_out(vm, S0, icw1);
	byte_out(vm, S1, 0x38);
	byte_out(vm, S1, 0x02);
	byte_out(vm, S1, slave_icw4);
}

/* Vectors 0x30 to 0x3f, nothing masked, normal EOI. */
static struct vm *make(void) {
	struct vm *vm = rig_create(1);

	init_chips(vm, 0x11, 1, 1);
	return vm;
}

static struct pic *pic(struct vm *vm) { return &vm->platform->pic; }

static bool intr(struct vm *vm) { return extint_pending(vm->vcpus[0]); }

static u8 isr(struct vm *vm, u16 port) {
	byte_out(vm, port, 0x0b);
	return byte_in(vm, port);
}

static u8 irr(struct vm *vm, u16 port) {
	byte_out(vm, port, 0x0a);
	return byte_in(vm, port);
}

static void raise(struct vm *vm, unsigned irq) {
	irq_set(vm, irq, false);
	irq_set(vm, irq, true);
}

static void power_up_is_masked(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	for (unsigned irq = 0; irq < 16; irq++) raise(vm, irq);
	assert_false(intr(vm));
	assert_int_equal(byte_in(vm, M1), 0xff);
	rig_destroy(vm);
}

static void each_input_has_its_vector(void **state) {
	struct vm *vm = make();

	(void)state;
	for (unsigned irq = 0; irq < 16; irq++) {
		if (irq == 2) continue;
		raise(vm, irq);
		assert_true(intr(vm));
		assert_int_equal(irq_next(vm->vcpus[0]), 0x30 + irq);
		assert_int_equal(irq_accept(vm->vcpus[0]), 0x30 + irq);
		assert_false(intr(vm));
		assert_int_equal(isr(vm, M0), irq < 8 ? 1 << irq : 4);
		assert_int_equal(isr(vm, S0), irq < 8 ? 0 : 1 << (irq - 8));
		if (irq >= 8) byte_out(vm, S0, 0x20);
		byte_out(vm, M0, 0x20);
		assert_int_equal(isr(vm, M0) | isr(vm, S0), 0);
		/* The line is still up: an edge is one interrupt. */
		assert_false(intr(vm));
	}
	rig_destroy(vm);
}

static void fixed_priorities_nest(void **state) {
	struct vm *vm = make();
	struct vcpu *vcpu = vm->vcpus[0];

	(void)state;
	raise(vm, 5);
	raise(vm, 12);
	raise(vm, 3);
	assert_int_equal(irq_accept(vcpu), 0x3c); /* cascade is input 2 */
	assert_false(intr(vm));
	raise(vm, 1);
	assert_int_equal(irq_accept(vcpu), 0x31);
	byte_out(vm, M0, 0x20);
	assert_false(intr(vm));
	/* A better input of the slave waits for the master's EOI in fully nested mode. */
	raise(vm, 8);
	assert_false(intr(vm));
	byte_out(vm, M0, 0x20);
	assert_int_equal(irq_accept(vcpu), 0x38);
	byte_out(vm, S0, 0x20);
	byte_out(vm, M0, 0x20);
	assert_int_equal(irq_accept(vcpu), 0x33);
	byte_out(vm, M0, 0x63); /* specific */
	assert_int_equal(irq_accept(vcpu), 0x35);
	byte_out(vm, M0, 0x63); /* of another input: no effect */
	assert_int_equal(isr(vm, M0), 0x20);
	assert_int_equal(isr(vm, S0), 0x10);
	rig_destroy(vm);
}

static void special_fully_nested(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	init_chips(vm, 0x11, 0x11, 1);
	raise(vm, 12);
	assert_int_equal(irq_accept(vm->vcpus[0]), 0x3c);
	raise(vm, 8);
	assert_int_equal(irq_accept(vm->vcpus[0]), 0x38);
	raise(vm, 9); /* not above 8 */
	assert_false(intr(vm));
	rig_destroy(vm);
}

static void masks(void **state) {
	struct vm *vm = make();

	(void)state;
	byte_out(vm, M1, 0x08);
	raise(vm, 3);
	assert_false(intr(vm));
	assert_int_equal(irr(vm, M0), 0x08);
	byte_out(vm, M1, 0);
	assert_true(intr(vm));
	byte_out(vm, M1, 0x08);
	assert_false(intr(vm));
	raise(vm, 10);
	byte_out(vm, M1, 0x0c); /* the cascade */
	assert_false(intr(vm));
	byte_out(vm, S1, 0x04);
	byte_out(vm, M1, 0x08);
	assert_false(intr(vm));
	assert_int_equal(byte_in(vm, S1), 0x04);
	rig_destroy(vm);
}

static void special_mask_mode(void **state) {
	struct vm *vm = make();
	struct vcpu *vcpu = vm->vcpus[0];

	(void)state;
	raise(vm, 1);
	assert_int_equal(irq_accept(vcpu), 0x31);
	raise(vm, 6);
	assert_false(intr(vm));
	byte_out(vm, M1, 0x02);
	assert_false(intr(vm)); /* masked, but still in service */
	byte_out(vm, M0, 0x68);
	assert_true(intr(vm));
	assert_int_equal(irq_accept(vcpu), 0x36);
	/* A non-specific EOI does not end what is masked. */
	byte_out(vm, M0, 0x20);
	assert_int_equal(isr(vm, M0), 0x02);
	byte_out(vm, M0, 0x61);
	assert_int_equal(isr(vm, M0), 0);
	byte_out(vm, M0, 0x48);
	rig_destroy(vm);
}

static void rotation(void **state) {
	struct vm *vm = make();
	struct vcpu *vcpu = vm->vcpus[0];

	(void)state;
	raise(vm, 4);
	assert_int_equal(irq_accept(vcpu), 0x34);
	byte_out(vm, M0, 0xa0); /* rotate on non-specific EOI: 4 is lowest now */
	raise(vm, 4);
	raise(vm, 3);
	raise(vm, 5);
	assert_int_equal(irq_accept(vcpu), 0x35);
	byte_out(vm, M0, 0x20);
	assert_int_equal(irq_accept(vcpu), 0x33);
	byte_out(vm, M0, 0xe3); /* rotate on specific EOI of 3 */
	raise(vm, 3);
	assert_int_equal(irq_accept(vcpu), 0x34);
	byte_out(vm, M0, 0x20);
	byte_out(vm, M0, 0xc6); /* set priority: 6 lowest, 7 highest */
	raise(vm, 7);
	assert_int_equal(irq_accept(vcpu), 0x37);
	rig_destroy(vm);
}

static void automatic_eoi(void **state) {
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = vm->vcpus[0];

	(void)state;
	init_chips(vm, 0x11, 3, 3);
	raise(vm, 4);
	raise(vm, 9);
	assert_int_equal(irq_accept(vcpu), 0x39);
	assert_int_equal(isr(vm, M0) | isr(vm, S0), 0);
	assert_int_equal(irq_accept(vcpu), 0x34);
	/* With rotation. */
	byte_out(vm, M0, 0x80);
	raise(vm, 3);
	assert_int_equal(irq_accept(vcpu), 0x33);
	raise(vm, 3);
	raise(vm, 5);
	assert_int_equal(irq_accept(vcpu), 0x35);
	byte_out(vm, M0, 0x00);
	assert_int_equal(irq_accept(vcpu), 0x33);
	rig_destroy(vm);
}

static void polling(void **state) {
	struct vm *vm = make();

	(void)state;
	byte_out(vm, M0, 0x0c);
	assert_int_equal(byte_in(vm, M0) & 0x80, 0);
	raise(vm, 6);
	byte_out(vm, M0, 0x0c);
	assert_int_equal(byte_in(vm, M0), 0x86);
	assert_false(intr(vm));
	assert_int_equal(isr(vm, M0), 0x40);
	byte_out(vm, M0, 0x20);
	raise(vm, 11);
	byte_out(vm, S0, 0x0c);
	assert_int_equal(byte_in(vm, S0), 0x83);
	assert_int_equal(isr(vm, S0), 0x08);
	rig_destroy(vm);
}

static void a_dropped_line_is_spurious(void **state) {
	struct vm *vm = make();

	(void)state;
	irq_set(vm, 3, true);
	assert_true(intr(vm));
	irq_set(vm, 3, false);
	assert_false(intr(vm));
	/* The processor has begun its acknowledge cycle all the same. */
	assert_int_equal(pic_accept(pic(vm)), 0x37);
	assert_int_equal(isr(vm, M0), 0);
	/* So on the slave: the master's input 2 falls with it. */
	irq_set(vm, 14, true);
	irq_set(vm, 14, false);
	assert_int_equal(pic_accept(pic(vm)), 0x37);
	rig_destroy(vm);
}

static void level_triggered(void **state) {
	struct vm *vm = make();
	struct vcpu *vcpu = vm->vcpus[0];

	(void)state;
	/* IRQ 0, 1, 2, 8 and 13 cannot be. */
	byte_out(vm, 0x4d0, 0xff);
	byte_out(vm, 0x4d1, 0xff);
	assert_int_equal(in(vm, 0x4d0, 2), 0xdef8);
	out(vm, 0x4d0, 2, 0x0220);
	assert_int_equal(byte_in(vm, 0x4d0), 0x20);
	assert_int_equal(byte_in(vm, 0x4d1), 0x02);
	irq_set(vm, 5, true);
	assert_int_equal(irq_accept(vcpu), 0x35);
	byte_out(vm, M0, 0x20);
	assert_int_equal(irq_accept(vcpu), 0x35); /* still up */
	irq_set(vm, 5, false);
	byte_out(vm, M0, 0x20);
	assert_false(intr(vm));
	irq_set(vm, 9, true);
	assert_int_equal(irq_accept(vcpu), 0x39);
	byte_out(vm, S0, 0x20);
	byte_out(vm, M0, 0x20);
	assert_int_equal(irq_accept(vcpu), 0x39);
	rig_destroy(vm);
}

static void initialisation(void **state) {
	struct vm *vm = make();

	(void)state;
	byte_out(vm, M1, 0xff);
	irq_set(vm, 4, true);
	/* ICW1 clears IMR and the edge latch; nothing interrupts until the last word. */
	byte_out(vm, M0, 0x11);
	irq_set(vm, 6, true);
	assert_false(intr(vm));
	byte_out(vm, M1, 0x47);
	byte_out(vm, M1, 4);
	assert_false(intr(vm));
	byte_out(vm, M1, 1);
	assert_int_equal(irq_accept(vm->vcpus[0]), 0x46); /* low bits of the base are the input */
	assert_int_equal(byte_in(vm, M1), 0);
	/* Without ICW4, and single: two words. */
	byte_out(vm, M0, 0x12);
	byte_out(vm, M1, 0x60);
	byte_out(vm, M1, 0xa5);
	assert_int_equal(byte_in(vm, M1), 0xa5);
	rig_destroy(vm);
}

static void hostile_values(void **state) {
	struct vm *vm = make();

	(void)state;
	for (u32 i = 0; i < 200000; i++) {
		static const u16 ports[] = {M0, M1, S0, S1, 0x4d0, 0x4d1};
		u64 dice = rig_random();

		irq_set(vm, dice & 31, dice & 32);
		out(vm, ports[(dice >> 8) % 6], 1u << (dice >> 16) % 3, (u32)(dice >> 20));
		in(vm, ports[(dice >> 40) % 6], 1u << (dice >> 48) % 3);
		if (dice & 64 && irq_next(vm->vcpus[0]) >= 0)
			assert_in_range(irq_accept(vm->vcpus[0]), 0, 255);
		pic_accept(pic(vm));
	}
	rig_destroy(vm);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_up_is_masked),
		cmocka_unit_test(each_input_has_its_vector),
		cmocka_unit_test(fixed_priorities_nest),
		cmocka_unit_test(special_fully_nested),
		cmocka_unit_test(masks),
		cmocka_unit_test(special_mask_mode),
		cmocka_unit_test(rotation),
		cmocka_unit_test(automatic_eoi),
		cmocka_unit_test(polling),
		cmocka_unit_test(a_dropped_line_is_spurious),
		cmocka_unit_test(level_triggered),
		cmocka_unit_test(initialisation),
		cmocka_unit_test(hostile_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
