// sources: tests/fakes.c platform/bus.c platform/lapic.c platform/lapic_timer.c
// sources: platform/lapic_ipi.c platform/ioapic.c platform/pic.c platform/pit.c platform/rtc.c
// sources: platform/uart.c platform/pmio.c platform/platform.c platform/layout.c
// sources: platform/lapic_virtual.c
/* The IOAPIC: registers, edge and level, remote IRR and both ways to end it, destinations. */
#include "tests/rig.h"

#define MASKED	   BIT(16)
#define LEVEL	   BIT(15)
#define REMOTE_IRR BIT(14)

static void irq_pulse(struct vm *vm, unsigned gsi) {
	irq_set(vm, gsi, true);
	irq_set(vm, gsi, false);
}

static u32 rd(struct vm *vm, u32 reg) {
	bus_mmio_write(vm->vcpus[0], IOAPIC_BASE, 4, reg);
	return (u32)bus_mmio_read(vm->vcpus[0], IOAPIC_BASE + 0x10, 4);
}

static void wr(struct vm *vm, u32 reg, u32 value) {
	bus_mmio_write(vm->vcpus[0], IOAPIC_BASE, 4, reg);
	bus_mmio_write(vm->vcpus[0], IOAPIC_BASE + 0x10, 4, value);
}

static u64 entry(struct vm *vm, u32 pin) {
	return rd(vm, 0x10 + 2 * pin) | (u64)rd(vm, 0x11 + 2 * pin) << 32;
}

static void set_entry(struct vm *vm, u32 pin, u64 value) {
	wr(vm, 0x11 + 2 * pin, (u32)(value >> 32));
	wr(vm, 0x10 + 2 * pin, (u32)value);
}

static struct vm *make(u32 vcpus) {
	struct vm *vm = rig_create(vcpus);

	for (u32 i = 0; i < vcpus; i++) lapic_mmio_write(vm->vcpus[i], 0xf0, 4, 0x1ff);
	return vm;
}

static int take(struct vm *vm, u32 id) { return irq_accept(vm->vcpus[id]); }

static void registers(void **state) {
	struct vm *vm = make(1);

	(void)state;
	assert_int_equal(rd(vm, 1), 0x00170020);
	wr(vm, 1, 0);
	assert_int_equal(rd(vm, 1), 0x00170020);
	wr(vm, 0, 0xffffffff);
	assert_int_equal(rd(vm, 0), 0x0f000000);
	assert_int_equal(rd(vm, 2), 0x0f000000);
	assert_int_equal(rd(vm, 3), 0xffffffff);
	assert_int_equal(rd(vm, 0x40), 0xffffffff);
	for (u32 pin = 0; pin < 24; pin++) {
		assert_int_equal(entry(vm, pin), MASKED);
		set_entry(vm, pin, ~0ul);
		/* Delivery status and remote IRR are read-only, 55:17 reserved. */
		assert_int_equal(entry(vm, pin), 0xff0000000001afff);
	}
	rig_destroy(vm);
}

static void access_widths(void **state) {
	struct vm *vm = make(1);
	struct vcpu *vcpu = vm->vcpus[0];

	(void)state;
	bus_mmio_write(vcpu, IOAPIC_BASE, 1, 1);
	assert_int_equal(bus_mmio_read(vcpu, IOAPIC_BASE, 4), 1);
	assert_int_equal(bus_mmio_read(vcpu, IOAPIC_BASE, 1), 1);
	assert_int_equal(bus_mmio_read(vcpu, IOAPIC_BASE + 0x10, 1), 0xff);
	assert_int_equal(bus_mmio_read(vcpu, IOAPIC_BASE + 0x10, 8), ~0ul);
	bus_mmio_write(vcpu, IOAPIC_BASE, 4, 0x10);
	bus_mmio_write(vcpu, IOAPIC_BASE + 0x10, 2, 0x77);
	bus_mmio_write(vcpu, IOAPIC_BASE + 0x10, 8, 0x77);
	assert_int_equal(entry(vm, 0), MASKED);
	assert_int_equal(bus_mmio_read(vcpu, IOAPIC_BASE + 0x20, 4), 0xffffffff);
	rig_destroy(vm);
}

static void edges(void **state) {
	struct vm *vm = make(1);

	(void)state;
	set_entry(vm, 5, 0x45);
	irq_set(vm, 5, true);
	assert_int_equal(take(vm, 0), 0x45);
	irq_set(vm, 5, true); /* no new edge */
	assert_int_equal(take(vm, 0), -1);
	lapic_eoi(vm->vcpus[0]);
	irq_pulse(vm, 5);
	irq_pulse(vm, 5); /* two of them, one interrupt */
	assert_int_equal(take(vm, 0), 0x45);
	lapic_eoi(vm->vcpus[0]);
	assert_int_equal(take(vm, 0), -1);
	/* On a masked pin an edge is lost. */
	set_entry(vm, 5, MASKED | 0x45);
	irq_set(vm, 5, false);
	irq_set(vm, 5, true);
	set_entry(vm, 5, 0x45);
	assert_int_equal(take(vm, 0), -1);
	rig_destroy(vm);
}

static void levels(void **state) {
	struct vm *vm = make(1);
	struct vcpu *vcpu = vm->vcpus[0];

	(void)state;
	set_entry(vm, 9, LEVEL | 0x59);
	irq_set(vm, 9, true);
	assert_int_equal(entry(vm, 9), LEVEL | REMOTE_IRR | 0x59);
	assert_int_equal(lapic_mmio_read(vcpu, 0x180 + 0x20, 4), 1u << 25); /* TMR */
	assert_int_equal(take(vm, 0), 0x59);
	irq_set(vm, 9, false);
	irq_set(vm, 9, true); /* in service: waits */
	assert_int_equal(take(vm, 0), -1);
	lapic_eoi(vcpu);
	assert_int_equal(take(vm, 0), 0x59);
	irq_set(vm, 9, false);
	lapic_eoi(vcpu);
	assert_int_equal(take(vm, 0), -1);
	assert_int_equal(entry(vm, 9), LEVEL | 0x59);
	/* While masked it waits, and comes when the mask goes. */
	set_entry(vm, 9, MASKED | LEVEL | 0x59);
	irq_set(vm, 9, true);
	assert_int_equal(take(vm, 0), -1);
	set_entry(vm, 9, LEVEL | 0x59);
	assert_int_equal(take(vm, 0), 0x59);
	/* Writing the entry does not clear remote IRR, switching it to edge does. */
	set_entry(vm, 9, MASKED | LEVEL | 0x59);
	assert_int_equal(entry(vm, 9), MASKED | LEVEL | REMOTE_IRR | 0x59);
	set_entry(vm, 9, MASKED | 0x59);
	set_entry(vm, 9, MASKED | LEVEL | 0x59);
	assert_int_equal(entry(vm, 9), MASKED | LEVEL | 0x59);
	/* An edge of the same vector clears its TMR bit: no broadcast then. */
	lapic_eoi(vcpu);
	set_entry(vm, 5, 0x59);
	irq_pulse(vm, 5);
	assert_int_equal(lapic_mmio_read(vcpu, 0x180 + 0x20, 4), 0);
	rig_destroy(vm);
}

static void eoi_register_and_suppression(void **state) {
	struct vm *vm = make(1);
	struct vcpu *vcpu = vm->vcpus[0];

	(void)state;
	lapic_mmio_write(vcpu, 0xf0, 4, 0x11ff); /* no EOI broadcasts */
	set_entry(vm, 9, LEVEL | 0x59);
	irq_set(vm, 9, true);
	assert_int_equal(take(vm, 0), 0x59);
	irq_set(vm, 9, false);
	lapic_eoi(vcpu);
	assert_int_equal(entry(vm, 9), LEVEL | REMOTE_IRR | 0x59);
	bus_mmio_write(vcpu, IOAPIC_BASE + 0x40, 4, 0x58);
	assert_int_equal(entry(vm, 9), LEVEL | REMOTE_IRR | 0x59);
	bus_mmio_write(vcpu, IOAPIC_BASE + 0x40, 4, 0x59);
	assert_int_equal(entry(vm, 9), LEVEL | 0x59);
	rig_destroy(vm);
}

static void destinations_and_modes(void **state) {
	struct vm *vm = make(3);

	(void)state;
	set_entry(vm, 4, 0x44 | 2ul << 56);
	irq_pulse(vm, 4);
	assert_int_equal(take(vm, 2), 0x44);
	/* Logical, to 0 and 1. */
	for (u32 i = 0; i < 3; i++) lapic_mmio_write(vm->vcpus[i], 0xd0, 4, 1u << (24 + i));
	set_entry(vm, 4, 0x64 | BIT(11) | 3ul << 56);
	irq_pulse(vm, 4);
	assert_int_equal(take(vm, 0), 0x64);
	assert_int_equal(take(vm, 1), 0x64);
	assert_int_equal(take(vm, 2), -1);
	/* NMI ignores vector and level: nothing will end it. */
	set_entry(vm, 4, 4 << 8 | LEVEL | 1ul << 56);
	irq_set(vm, 4, true);
	assert_int_equal(vm->vcpus[1]->nmi_pending, 1);
	assert_int_equal(entry(vm, 4) & REMOTE_IRR, 0);
	irq_set(vm, 4, false);
	/* Nobody there: no remote IRR that would never go. */
	set_entry(vm, 4, 0x77 | LEVEL | 77ul << 56);
	irq_set(vm, 4, true);
	assert_int_equal(entry(vm, 4) & REMOTE_IRR, 0);
	rig_destroy(vm);
}

static void lines(void **state) {
	struct vm *vm = make(1);

	(void)state;
	for (u32 pin = 0; pin < 24; pin++) set_entry(vm, pin, 0x40 + pin);
	for (u32 gsi = 0; gsi < 40; gsi++) {
		irq_set(vm, gsi, true);
		irq_set(vm, gsi, false);
		/* ISA IRQ 0 is on pin 2; what there is not is ignored. */
		assert_int_equal(take(vm, 0), gsi == 0 ? 0x42 : gsi < 24 ? 0x40 + (int)gsi : -1);
		lapic_eoi(vm->vcpus[0]);
	}
	rig_destroy(vm);
}

static void hostile_values(void **state) {
	struct vm *vm = make(2);

	(void)state;
	for (u32 i = 0; i < 200000; i++) {
		u64 dice = rig_random();
		gpa_t gpa = IOAPIC_BASE + (dice & 0x70) + (dice >> 60 ? 0 : dice >> 8 & 15);

		bus_mmio_write(vm->vcpus[0], gpa, 1u << (dice >> 12 & 3),
			       dice >> 16 >> (dice & 31));
		bus_mmio_read(vm->vcpus[0], gpa, 1u << (dice >> 14 & 3));
		irq_set(vm, dice >> 20 & 31, dice & 1);
		if (take(vm, dice >> 30 & 1) >= 0) lapic_eoi(vm->vcpus[dice >> 30 & 1]);
	}
	rig_destroy(vm);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers),
		cmocka_unit_test(access_widths),
		cmocka_unit_test(edges),
		cmocka_unit_test(levels),
		cmocka_unit_test(eoi_register_and_suppression),
		cmocka_unit_test(destinations_and_modes),
		cmocka_unit_test(lines),
		cmocka_unit_test(hostile_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
