// sources: tests/fakes.c platform/bus.c platform/lapic.c platform/lapic_timer.c
// sources: platform/lapic_ipi.c platform/ioapic.c platform/pic.c platform/pit.c platform/rtc.c
// sources: platform/uart.c platform/pmio.c platform/platform.c platform/layout.c
// sources: platform/lapic_virtual.c
/* The 8254: counts, outputs, latches and interrupts in each mode, against its datasheet. */
#include "tests/rig.h"

#define CONTROL 0x43

/* The tests count from begin(), which may lie anywhere in a tick. */
static u64 started;

static void begin(void) { started = time_tsc(); }

/* Moves the clock to a quarter past tick n. */
static void to_tick(u64 n) {
	u64 when =
		started + (u64)((unsigned __int128)(4 * n + 1) * FAKE_TSC_KHZ * 1000 / PIT_HZ / 4);

	fake_advance(when - time_tsc());
}

static void program(struct vm *vm, unsigned counter, unsigned mode, u16 count) {
	byte_out(vm, CONTROL, (u8)(counter << 6 | 0x30 | mode << 1));
	byte_out(vm, (u16)(0x40 + counter), (u8)count);
	byte_out(vm, (u16)(0x40 + counter), (u8)(count >> 8));
}

/* Both bytes of a count, low byte first. */
static u16 both(struct vm *vm, u16 port) {
	u8 low = byte_in(vm, port);

	return (u16)(low | byte_in(vm, port) << 8);
}

static u16 latched(struct vm *vm, unsigned counter) {
	byte_out(vm, CONTROL, (u8)(counter << 6));
	return both(vm, (u16)(0x40 + counter));
}

static bool out2(struct vm *vm) { return byte_in(vm, 0x61) & 0x20; }

static u8 status(struct vm *vm, unsigned counter) {
	byte_out(vm, CONTROL, (u8)(0xe0 | 2 << counter));
	return byte_in(vm, (u16)(0x40 + counter));
}

static bool irq0(struct vm *vm) { return vm->platform->pic.chip[0].lines & 1; }

static u32 edges(struct vm *vm) {
	u32 taken = vm->platform->pic.chip[0].edges & 1;

	vm->platform->pic.chip[0].edges = 0;
	return taken;
}

static void mode_0_ends_high(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	byte_out(vm, 0x61, 1);
	begin();
	program(vm, 2, 0, 100);
	assert_false(out2(vm));
	/* One tick loads, a hundred count. */
	to_tick(51);
	assert_int_equal(latched(vm, 2), 50);
	to_tick(100);
	assert_false(out2(vm));
	to_tick(101);
	assert_true(out2(vm));
	to_tick(102);
	assert_int_equal(latched(vm, 2), 0xffff); /* goes on counting */
	assert_true(out2(vm));
	rig_destroy(vm);
}

static void mode_0_gate_holds_the_count(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	byte_out(vm, 0x61, 1);
	begin();
	program(vm, 2, 0, 1000);
	to_tick(101);
	byte_out(vm, 0x61, 0);
	to_tick(5000);
	assert_int_equal(latched(vm, 2), 900);
	byte_out(vm, 0x61, 1);
	to_tick(5100);
	assert_int_equal(latched(vm, 2), 800);
	to_tick(5899);
	assert_false(out2(vm));
	to_tick(5901);
	assert_true(out2(vm));
	rig_destroy(vm);
}

static void mode_0_first_byte_stops(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	byte_out(vm, 0x61, 1);
	begin();
	program(vm, 2, 0, 10);
	to_tick(20);
	assert_true(out2(vm));
	byte_out(vm, 0x42, 10);
	assert_false(out2(vm));
	to_tick(100);
	assert_false(out2(vm));
	byte_out(vm, 0x42, 0);
	to_tick(112);
	assert_true(out2(vm));
	rig_destroy(vm);
}

static void mode_1_needs_a_trigger(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	begin();
	program(vm, 2, 1, 50);
	assert_int_equal(status(vm, 2), 0x80 | 0x40 | 0x30 | 1 << 1); /* high, null count */
	to_tick(100);
	assert_true(out2(vm));
	byte_out(vm, 0x61, 1);
	to_tick(149);
	assert_false(out2(vm));
	to_tick(152);
	assert_true(out2(vm));
	/* Retriggered while low: the full count again. */
	byte_out(vm, 0x61, 0);
	byte_out(vm, 0x61, 1);
	to_tick(180);
	byte_out(vm, 0x61, 0);
	byte_out(vm, 0x61, 1);
	to_tick(220);
	assert_false(out2(vm));
	to_tick(232);
	assert_true(out2(vm));
	rig_destroy(vm);
}

static void mode_2_divides(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	byte_out(vm, 0x61, 1);
	begin();
	program(vm, 2, 2, 10);
	for (u32 i = 0; i < 30; i++) {
		to_tick(1 + i);
		assert_int_equal(latched(vm, 2), 10 - i % 10);
		assert_int_equal(out2(vm), i % 10 != 9);
	}
	/* A closed gate holds OUT high and opening it starts a whole period. */
	to_tick(37);
	byte_out(vm, 0x61, 0);
	to_tick(40);
	assert_true(out2(vm));
	byte_out(vm, 0x61, 1);
	to_tick(44);
	assert_int_equal(latched(vm, 2), 7);
	rig_destroy(vm);
}

static void mode_2_new_count_waits_for_the_period(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	byte_out(vm, 0x61, 1);
	begin();
	program(vm, 2, 2, 100);
	to_tick(31); /* 30 of 100 */
	byte_out(vm, 0x42, 40);
	byte_out(vm, 0x42, 0);
	to_tick(61);
	assert_int_equal(latched(vm, 2), 40);
	assert_int_equal(status(vm, 2) & 0x40, 0x40);
	to_tick(100);
	assert_false(out2(vm));
	to_tick(101);
	assert_int_equal(status(vm, 2) & 0x40, 0);
	assert_int_equal(latched(vm, 2), 40);
	to_tick(111);
	assert_int_equal(latched(vm, 2), 30);
	rig_destroy(vm);
}

static void mode_3_is_square(void **state) {
	struct vm *vm = rig_create(1);
	static const u16 even[] = {6, 4, 2, 6, 4, 2};
	static const u16 odd[] = {4, 2, 0, 4, 2};

	(void)state;
	byte_out(vm, 0x61, 1);
	begin();
	program(vm, 2, 3, 6);
	for (u32 i = 0; i < 24; i++) {
		to_tick(1 + i);
		assert_int_equal(latched(vm, 2), even[i % 6]);
		assert_int_equal(out2(vm), i % 6 < 3);
	}
	begin();
	program(vm, 2, 3, 5);
	for (u32 i = 0; i < 20; i++) {
		to_tick(1 + i);
		assert_int_equal(out2(vm), i % 5 < 3);
		assert_int_equal(latched(vm, 2), odd[i % 5]);
	}
	rig_destroy(vm);
}

static void mode_4_and_5_strobe(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	byte_out(vm, 0x61, 1);
	begin();
	program(vm, 2, 4, 20);
	to_tick(20);
	assert_true(out2(vm));
	to_tick(21);
	assert_false(out2(vm));
	to_tick(22);
	assert_true(out2(vm));

	program(vm, 2, 5, 20);
	to_tick(100);
	assert_true(out2(vm));
	byte_out(vm, 0x61, 0);
	byte_out(vm, 0x61, 1);
	to_tick(120);
	assert_true(out2(vm));
	to_tick(121);
	assert_false(out2(vm));
	to_tick(122);
	assert_true(out2(vm));
	rig_destroy(vm);
}

static void bcd_counts_in_decimal(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	byte_out(vm, 0x61, 1);
	begin();
	byte_out(vm, CONTROL, 0x80 | 0x30 | 1); /* mode 0, BCD */
	byte_out(vm, 0x42, 0x00);
	byte_out(vm, 0x42, 0x10); /* 1000 */
	to_tick(2);
	assert_int_equal(latched(vm, 2), 0x0999);
	to_tick(1002);
	assert_int_equal(latched(vm, 2), 0x9999);
	/* 0 is 10000. */
	begin();
	byte_out(vm, CONTROL, 0x80 | 0x30 | 1);
	byte_out(vm, 0x42, 0);
	byte_out(vm, 0x42, 0);
	to_tick(3);
	assert_in_range(latched(vm, 2), 0x9997, 0x9999);
	rig_destroy(vm);
}

static void access_modes(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	byte_out(vm, 0x61, 1);
	begin();
	byte_out(vm, CONTROL, 0x80 | 0x10); /* low byte only */
	byte_out(vm, 0x42, 0x80);
	to_tick(1);
	assert_int_equal(byte_in(vm, 0x42), 0x80);
	assert_int_equal(byte_in(vm, 0x42), 0x80);
	begin();
	byte_out(vm, CONTROL, 0x80 | 0x20); /* high byte only */
	byte_out(vm, 0x42, 0x80);
	to_tick(3);
	assert_int_equal(byte_in(vm, 0x42), 0x7f);
	/* A second latch before the first is read changes nothing. */
	begin();
	program(vm, 2, 0, 0x8000);
	to_tick(11);
	byte_out(vm, CONTROL, 0x80);
	to_tick(100);
	byte_out(vm, CONTROL, 0x80);
	assert_int_equal(both(vm, 0x42), 0x8000 - 10);
	/* Status and count latched together: status comes first. */
	byte_out(vm, CONTROL, 0xc0 | 8);
	assert_int_equal(byte_in(vm, 0x42), 0x30);
	assert_int_equal(both(vm, 0x42), 0x8000 - 99);
	/* Control is write-only; a word is two bytes, of two ports. */
	assert_int_equal(byte_in(vm, CONTROL), 0xff);
	assert_int_equal(in(vm, 0x42, 2) & 0xff00, 0xff00);
	rig_destroy(vm);
}

static void irq0_is_periodic_without_drift(void **state) {
	struct vm *vm = rig_create(1);
	u32 count = 0;
	u64 begun = time_tsc();

	(void)state;
	program(vm, 0, 2, 11932); /* 10 ms */
	assert_false(irq0(vm));
	for (u32 i = 0; i < 100000; i++) {
		fake_advance_ns(100000); /* 10 s in all */
		count += edges(vm);
	}
	assert_int_equal(count, (10 * PIT_HZ - 1) / 11932);
	/* The next one is where arithmetic says, to the tick. */
	u64 tick = 1 + (u64)(count + 1) * 11932;
	u64 when = begun + (u64)((unsigned __int128)tick * FAKE_TSC_KHZ * 1000 / PIT_HZ);

	assert_in_range(fake_next_deadline(), when, when + 2);
	rig_destroy(vm);
}

static void irq0_once_in_mode_0(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	program(vm, 0, 0, 1193);
	fake_advance_ns(990000);
	assert_int_equal(edges(vm), 0);
	fake_advance_ns(20000);
	assert_int_equal(edges(vm), 1);
	assert_int_equal(fake_timers_armed(), 0);
	/* Programming it again takes the line down. */
	byte_out(vm, CONTROL, 0x30);
	assert_false(irq0(vm));
	rig_destroy(vm);
}

static void tiny_periods_are_bounded(void **state) {
	struct vm *vm = rig_create(1);
	u32 count = 0;

	(void)state;
	for (u32 i = 0; i < 2; i++) {
		program(vm, 0, 2 + i, (u16)(1 + i));
		for (count = 0; count < 1000; count++) {
			u64 next = fake_next_deadline() - time_tsc();

			assert_true(next >= ns_to_tsc(95000));
			fake_advance(next);
			assert_int_equal(edges(vm), 1);
		}
	}
	rig_destroy(vm);
}

/* vCPU 0 goes to another CPU: so do the timers, those that run and those that do not. */
static void timers_move(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	program(vm, 0, 2, 11932);
	edges(vm);
	guest_vcpu_move(vm->vcpus[0], 5);
	assert_int_equal(vm->platform->pit.dev.timer.cpu, 5);
	assert_int_equal(vm->platform->uart.dev.timer.cpu, 5);
	assert_int_equal(vm->platform->rtc.dev.timer.cpu, 5);
	fake_advance_ns(11000000);
	assert_int_equal(edges(vm), 1);
	rig_destroy(vm);
}

static void hostile_values(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	rig_storm(vm, 0x40, 0x43, 50000);
	rig_storm(vm, 0x40, 0x61, 50000);
	rig_destroy(vm);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mode_0_ends_high),
		cmocka_unit_test(mode_0_gate_holds_the_count),
		cmocka_unit_test(mode_0_first_byte_stops),
		cmocka_unit_test(mode_1_needs_a_trigger),
		cmocka_unit_test(mode_2_divides),
		cmocka_unit_test(mode_2_new_count_waits_for_the_period),
		cmocka_unit_test(mode_3_is_square),
		cmocka_unit_test(mode_4_and_5_strobe),
		cmocka_unit_test(bcd_counts_in_decimal),
		cmocka_unit_test(access_modes),
		cmocka_unit_test(irq0_is_periodic_without_drift),
		cmocka_unit_test(irq0_once_in_mode_0),
		cmocka_unit_test(tiny_periods_are_bounded),
		cmocka_unit_test(timers_move),
		cmocka_unit_test(hostile_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
