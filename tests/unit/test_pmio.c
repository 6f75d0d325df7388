// sources: tests/fakes.c platform/bus.c platform/lapic.c platform/lapic_timer.c
// sources: platform/lapic_ipi.c platform/ioapic.c platform/pic.c platform/pit.c platform/rtc.c
// sources: platform/uart.c platform/pmio.c platform/platform.c platform/layout.c
// sources: platform/lapic_virtual.c
/* Power management ports, resets, delays and the debug exit. */
#include "tests/rig.h"

#define STATUS	PMIO_PM1_EVT
#define ENABLE	(PMIO_PM1_EVT + 2)
#define CONTROL PMIO_PM1_CNT

static bool sci(struct vm *vm) { return vm->platform->ioapic.lines >> PMIO_SCI_GSI & 1; }

static void registers(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	assert_int_equal(in(vm, STATUS, 4), 0);
	assert_int_equal(in(vm, CONTROL, 2), 1); /* SCI_EN: ACPI mode */
	assert_int_equal(in(vm, CONTROL, 4), 0xffff0001);
	out(vm, ENABLE, 2, 0xffff);
	assert_int_equal(in(vm, ENABLE, 2), 0x0721);
	byte_out(vm, ENABLE, 0);
	assert_int_equal(in(vm, ENABLE, 2), 0x0700);
	assert_int_equal(byte_in(vm, ENABLE + 1), 0x07);
	out(vm, CONTROL, 2, 0x1c02);
	assert_int_equal(in(vm, CONTROL, 2), 0x1c03);
	assert_int_equal(vm->end, VM_END_NONE); /* without SLP_EN */
	rig_destroy(vm);
}

static void power_off(void **state) {
	(void)state;
	for (u32 type = 0; type < 8; type++) {
		struct vm *vm = rig_create(1);

		out(vm, CONTROL, 2, type << 10 | 0x2000);
		assert_int_equal(vm->end, type == PMIO_S5_TYPE ? VM_END_POWEROFF : VM_END_NONE);
		assert_int_equal(in(vm, CONTROL, 2) & 0x2000, 0); /* write-only */
		rig_destroy(vm);
	}
	/* As two bytes. */
	struct vm *vm = rig_create(1);

	byte_out(vm, CONTROL, 0);
	assert_int_equal(vm->end, VM_END_NONE);
	byte_out(vm, CONTROL + 1, 0x34);
	assert_int_equal(vm->end, VM_END_POWEROFF);
	rig_destroy(vm);
}

static void power_button(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	pmio_power_button(&vm->platform->pmio);
	assert_false(sci(vm));
	assert_int_equal(in(vm, STATUS, 2), 0x100);
	out(vm, ENABLE, 2, 0x100);
	assert_true(sci(vm));
	out(vm, STATUS, 2, 0x001); /* ones clear, and only those written */
	assert_true(sci(vm));
	out(vm, STATUS, 2, 0x100);
	assert_false(sci(vm));
	assert_int_equal(in(vm, STATUS, 2), 0);
	rig_destroy(vm);
}

static void timer(void **state) {
	struct vm *vm = rig_create(1);
	u32 last = 0;

	(void)state;
	for (u32 i = 1; i <= 1000; i++) {
		u32 now;

		fake_advance_ns(1000000);
		now = in(vm, PMIO_TIMER, 4);
		assert_in_range(now - last, 3579, 3580);
		last = now;
	}
	assert_in_range(last, 3579544, 3579545);
	assert_int_equal(in(vm, PMIO_TIMER, 2), last & 0xffff);
	assert_int_equal(byte_in(vm, PMIO_TIMER + 1), last >> 8 & 0xff);
	out(vm, PMIO_TIMER, 4, 0);
	assert_int_equal(in(vm, PMIO_TIMER, 4), last);
	/* The top bit changes every 600 s. */
	out(vm, ENABLE, 2, 1);
	fake_advance_ns(598900000000);
	assert_false(sci(vm));
	fake_advance_ns(100000000);
	assert_true(sci(vm));
	assert_int_equal(in(vm, PMIO_TIMER, 4) >> 31, 1);
	out(vm, STATUS, 2, 1);
	assert_false(sci(vm));
	fake_advance_ns(600000000000);
	assert_true(sci(vm));
	assert_int_equal(in(vm, PMIO_TIMER, 4) >> 31, 0);
	/* Without the enable bit the status comes all the same, but no timer runs. */
	out(vm, STATUS, 4, 1);
	assert_int_equal(fake_timers_armed(), 0);
	fake_advance_ns(600000000000);
	assert_int_equal(in(vm, STATUS, 2), 1);
	rig_destroy(vm);
}

static void resets(void **state) {
	static const struct {
		u16 port;
		u8 first, second;
		bool resets;
	} table[] = {
		{0xcf9, 0x02, 0x06, true}, {0xcf9, 0x0a, 0x0e, true}, {0xcf9, 0x00, 0x02, false},
		{0xcf9, 0x06, 0x00, true}, {0x64, 0xfe, 0xfe, true},  {0x64, 0xff, 0xd1, false},
		{0x92, 0x00, 0x01, true},  {0x92, 0x02, 0x00, false}, {0x60, 0xfe, 0xfe, false},
	};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(table); i++) {
		struct vm *vm = rig_create(1);

		byte_out(vm, table[i].port, table[i].first);
		byte_out(vm, table[i].port, table[i].second);
		assert_int_equal(vm->end, table[i].resets ? VM_END_RESET : VM_END_NONE);
		rig_destroy(vm);
	}
	struct vm *vm = rig_create(1);

	assert_int_equal(byte_in(vm, 0x64), 0xff);
	byte_out(vm, 0xcf9, 0xfb);
	assert_int_equal(byte_in(vm, 0xcf9), 0x0a);
	out(vm, 0xcf9, 2, 6); /* byte register */
	assert_int_equal(vm->end, VM_END_NONE);
	byte_out(vm, 0x92, 0xfe);
	assert_int_equal(byte_in(vm, 0x92), 2);
	byte_out(vm, 0x80, 0x5a);
	assert_int_equal(byte_in(vm, 0x80), 0x5a);
	byte_out(vm, 0xed, 1);
	assert_int_equal(byte_in(vm, 0xed), 0xff);
	rig_destroy(vm);
}

static void debug_exit(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	out(vm, 0xf5, 1, 1);
	assert_int_equal(vm->end, VM_END_NONE);
	out(vm, 0xf4, 4, 0xdeadbeef);
	assert_int_equal(vm->end, VM_END_DEBUG_EXIT);
	assert_int_equal(vm->debug_exit_value, 0xdeadbeef);
	out(vm, 0xf4, 1, 1); /* the first one counts */
	assert_int_equal(vm->debug_exit_value, 0xdeadbeef);
	rig_destroy(vm);
}

static void debug_exit_is_an_option(void **state) {
	struct platform_options options = {.memory = MiB(16), .phys_bits = 40};
	struct vm *vm = fake_vm_create(1, 0);

	(void)state;
	assert_int_equal(platform_create(vm, &options), 0);
	byte_out(vm, 0xf4, 1);
	assert_int_equal(vm->end, VM_END_NONE);
	assert_int_equal(byte_in(vm, 0xf4), 0xff);
	platform_destroy(vm);
	platform_destroy(vm); /* nothing left: no effect */
	assert_null(vm->platform);
	fake_vm_destroy(vm);
}

static void hostile_values(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	rig_storm(vm, 0x600, 0x60f, 200000);
	rig_storm(vm, 0x60, 0xff, 200000);
	rig_destroy(vm);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers),
		cmocka_unit_test(power_off),
		cmocka_unit_test(power_button),
		cmocka_unit_test(timer),
		cmocka_unit_test(resets),
		cmocka_unit_test(debug_exit),
		cmocka_unit_test(debug_exit_is_an_option),
		cmocka_unit_test(hostile_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
