// sources: tests/fakes.c platform/bus.c platform/lapic.c platform/lapic_timer.c
// sources: platform/lapic_ipi.c platform/ioapic.c platform/pic.c platform/pit.c platform/rtc.c
// sources: platform/uart.c platform/pmio.c platform/platform.c platform/layout.c
// sources: platform/lapic_virtual.c
/* PCI configuration mechanism 1. */
#include "tests/rig.h"

#define ADDRESS 0xcf8
#define DATA	0xcfc

static u32 select(u8 devfn, u32 reg) { return 0x80000000u | (u32)devfn << 8 | reg; }

static u32 rd(struct vm *vm, u8 devfn, u32 reg, unsigned size) {
	out(vm, ADDRESS, 4, select(devfn, reg & 0xfc));
	return in(vm, (u16)(DATA + (reg & 3)), size);
}

static void wr(struct vm *vm, u8 devfn, u32 reg, unsigned size, u32 value) {
	out(vm, ADDRESS, 4, select(devfn, reg & 0xfc));
	out(vm, (u16)(DATA + (reg & 3)), size, value);
}

static void mechanism_1(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	out(vm, ADDRESS, 4, 0xffffffff);
	assert_int_equal(in(vm, ADDRESS, 4), 0x80fffffc);
	/* Narrower accesses are none. */
	assert_int_equal(in(vm, ADDRESS, 2), 0xffff);
	out(vm, ADDRESS, 2, 0);
	assert_int_equal(in(vm, ADDRESS, 4), 0x80fffffc);
	/* The host bridge, whole and in parts. */
	assert_int_equal(rd(vm, 0, 0, 4), 0x12378086);
	assert_int_equal(rd(vm, 0, 2, 2), 0x1237);
	assert_int_equal(rd(vm, 0, 1, 1), 0x80);
	assert_int_equal(rd(vm, 0, 8, 4), 0x06000002);
	wr(vm, 0, 0, 4, 0);
	wr(vm, 0, 4, 4, 0xffffffff);
	assert_int_equal(rd(vm, 0, 0, 4), 0x12378086);
	assert_int_equal(rd(vm, 0, 4, 4), 0);
	/* Nobody else; other buses; not enabled; across the double word. */
	for (u32 devfn = 1; devfn < 256; devfn++)
		assert_int_equal(rd(vm, (u8)devfn, 0, 4), 0xffffffff);
	out(vm, ADDRESS, 4, 0x80010000);
	assert_int_equal(in(vm, DATA, 4), 0xffffffff);
	out(vm, ADDRESS, 4, 0);
	assert_int_equal(in(vm, DATA, 4), 0xffffffff);
	out(vm, ADDRESS, 4, 0x80000000);
	assert_int_equal(in(vm, DATA + 2, 4), 0xffffffff);
	assert_int_equal(in(vm, DATA + 3, 2), 0xffff);
	rig_destroy(vm);
}

static void hostile_values(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	rig_storm(vm, 0xcf8, 0xcff, 200000);
	assert_int_equal(rd(vm, 0, 0, 4), 0x12378086);
	out(vm, ADDRESS, 4, 0x80000004);
	platform_reset(vm);
	assert_int_equal(in(vm, ADDRESS, 4), 0);
	rig_destroy(vm);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(mechanism_1),
					   cmocka_unit_test(hostile_values)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
