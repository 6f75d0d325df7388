// sources: tests/fakes.c platform/bus.c platform/lapic.c platform/lapic_timer.c
// sources: platform/lapic_ipi.c platform/ioapic.c platform/pic.c platform/pit.c platform/rtc.c
// sources: platform/uart.c platform/pmio.c platform/platform.c platform/layout.c
// sources: platform/lapic_virtual.c
/* The 16550A: FIFOs, interrupt conditions and their priorities, loopback, modem lines. */
#include "tests/rig.h"

#define BASE UART_COM1
enum { DATA = BASE, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

static struct vm *make(void) {
	struct vm *vm = rig_create(1);

	byte_out(vm, MCR, 0x0b); /* OUT2 lets interrupts through */
	byte_in(vm, MSR);
	return vm;
}

static bool line(struct vm *vm) { return vm->platform->ioapic.lines >> 4 & 1; }

static bool rx(struct vm *vm, u8 byte) { return uart_rx(&vm->platform->uart, byte); }

static void reset_state(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	assert_int_equal(byte_in(vm, IER), 0);
	assert_int_equal(byte_in(vm, IIR), 1);
	assert_int_equal(byte_in(vm, LCR), 0);
	assert_int_equal(byte_in(vm, MCR), 0);
	assert_int_equal(byte_in(vm, LSR), 0x60);
	assert_int_equal(byte_in(vm, MSR), 0xb0);
	assert_false(line(vm));
	/* A wider access is one to each register in turn: IER, IIR, LCR, MCR. */
	assert_int_equal(in(vm, IER, 4), 0x00000100);
	rig_destroy(vm);
}

static void registers_hold(void **state) {
	struct vm *vm = make();

	(void)state;
	for (u32 i = 0; i < 256; i++) {
		byte_out(vm, SCR, (u8)i);
		assert_int_equal(byte_in(vm, SCR), i);
	}
	byte_out(vm, IER, 0xf0);
	assert_int_equal(byte_in(vm, IER), 0);
	byte_out(vm, MCR, 0xe0);
	assert_int_equal(byte_in(vm, MCR), 0);
	/* The divisor hides data and IER. */
	byte_out(vm, LCR, 0x83);
	byte_out(vm, DATA, 0x34);
	byte_out(vm, IER, 0x12);
	assert_int_equal(byte_in(vm, DATA), 0x34);
	assert_int_equal(byte_in(vm, IER), 0x12);
	byte_out(vm, LCR, 0x03);
	assert_int_equal(byte_in(vm, IER), 0);
	assert_int_equal(rig_sent_count, 0);
	rig_destroy(vm);
}

static void all_bytes_are_sent(void **state) {
	struct vm *vm = make();

	(void)state;
	for (u32 i = 0; i < 256; i++) {
		assert_int_equal(byte_in(vm, LSR), 0x60);
		byte_out(vm, DATA, (u8)i);
	}
	assert_int_equal(rig_sent_count, 256);
	for (u32 i = 0; i < 256; i++) assert_int_equal(rig_sent[i], i);
	rig_destroy(vm);
}

static void transmitter_interrupt(void **state) {
	struct vm *vm = make();

	(void)state;
	byte_out(vm, IER, 2);
	assert_true(line(vm)); /* THR is empty: at once */
	assert_int_equal(byte_in(vm, IIR), 2);
	assert_false(line(vm)); /* reading IIR took it */
	assert_int_equal(byte_in(vm, IIR), 1);
	byte_out(vm, IER, 2); /* was set already */
	assert_false(line(vm));
	byte_out(vm, DATA, 'x');
	assert_true(line(vm));
	byte_out(vm, IER, 0);
	assert_false(line(vm));
	assert_int_equal(byte_in(vm, IIR), 1);
	byte_out(vm, IER, 2);
	assert_true(line(vm));
	/* OUT2 is the gate of a PC. */
	byte_out(vm, MCR, 0x03);
	assert_false(line(vm));
	byte_out(vm, MCR, 0x0b);
	assert_true(line(vm));
	rig_destroy(vm);
}

/* A driver that never reads IIR: each time it has seen room and filled it there is a new edge. */
static void transmitter_edges(void **state) {
	static const u8 icw[] = {0x20, 0x04, 0x01, 0xef}; /* IRQ 4 alone, as vector 0x24 */
	struct vm *vm = make();

	(void)state;
	byte_out(vm, 0x20, 0x11);
	for (u32 i = 0; i < ARRAY_SIZE(icw); i++) byte_out(vm, 0x21, icw[i]);
	byte_out(vm, IER, 2);
	for (u32 i = 0; i < 3; i++) {
		assert_int_equal(pic_accept(&vm->platform->pic), 0x24);
		byte_out(vm, 0x20, 0x20);
		assert_int_equal(pic_peek(&vm->platform->pic), 0x27); /* spurious */
		assert_int_equal(byte_in(vm, LSR), 0x60);
		for (u32 n = 0; n < 16; n++) byte_out(vm, DATA, (u8)n);
		assert_int_equal(pic_peek(&vm->platform->pic), 0x24);
	}
	rig_destroy(vm);
}

static void receiver_without_fifo(void **state) {
	struct vm *vm = make();

	(void)state;
	byte_out(vm, IER, 1);
	assert_true(rx(vm, 0xe1));
	assert_true(line(vm));
	assert_int_equal(byte_in(vm, IIR), 4);
	assert_int_equal(byte_in(vm, LSR), 0x61);
	assert_false(rx(vm, 0xe2)); /* the host keeps it */
	assert_int_equal(byte_in(vm, DATA), 0xe1);
	assert_false(line(vm));
	assert_int_equal(byte_in(vm, LSR), 0x60);
	assert_int_equal(byte_in(vm, DATA), 0xe1); /* nothing new */
	rig_destroy(vm);
}

static void fifo_trigger_and_timeout(void **state) {
	static const u8 levels[] = {1, 4, 8, 14};
	struct vm *vm = make();

	(void)state;
	byte_out(vm, LCR, 0x03);
	byte_out(vm, IER, 1);
	for (u32 i = 0; i < 4; i++) {
		byte_out(vm, FCR, (u8)(i << 6 | 7));
		assert_int_equal(byte_in(vm, IIR), 0xc1);
		for (u32 n = 1; n <= 16; n++) {
			assert_true(rx(vm, (u8)(0x80 + n)));
			assert_int_equal(line(vm), n >= levels[i]);
		}
		assert_false(rx(vm, 0));
		assert_int_equal(byte_in(vm, IIR), 0xc4);
		for (u32 n = 1; n <= 16; n++) {
			assert_int_equal(byte_in(vm, DATA), 0x80 + n);
			assert_int_equal(line(vm), 16 - n >= levels[i]);
		}
	}
	/* Four characters of ten bits at 9600 baud without another byte or read. */
	rx(vm, 1);
	rx(vm, 2);
	fake_advance_ns(4100000);
	assert_false(line(vm));
	fake_advance_ns(100000);
	assert_true(line(vm));
	assert_int_equal(byte_in(vm, IIR), 0xcc);
	assert_int_equal(byte_in(vm, DATA), 1);
	assert_false(line(vm));
	fake_advance_ns(4200000);
	assert_int_equal(byte_in(vm, IIR), 0xcc);
	assert_int_equal(byte_in(vm, DATA), 2);
	assert_int_equal(byte_in(vm, IIR), 0xc1);
	assert_int_equal(fake_timers_armed(), 0);
	rig_destroy(vm);
}

static void fifo_control(void **state) {
	struct vm *vm = make();

	(void)state;
	byte_out(vm, FCR, 0xc6); /* without enable nothing of it counts */
	assert_int_equal(byte_in(vm, IIR) & 0xc0, 0);
	byte_out(vm, FCR, 1);
	assert_int_equal(byte_in(vm, IIR) & 0xc0, 0xc0);
	rx(vm, 1);
	rx(vm, 2);
	byte_out(vm, FCR, 3); /* clear the receiver */
	assert_int_equal(byte_in(vm, LSR), 0x60);
	rx(vm, 1);
	byte_out(vm, FCR, 0); /* switching clears too */
	assert_int_equal(byte_in(vm, LSR), 0x60);
	rig_destroy(vm);
}

static void loopback(void **state) {
	struct vm *vm = make();

	(void)state;
	byte_out(vm, FCR, 7);
	byte_out(vm, MCR, 0x1b);
	for (u32 i = 0; i < 256; i += 16) {
		for (u32 n = 0; n < 16; n++) byte_out(vm, DATA, (u8)(i + n));
		for (u32 n = 0; n < 16; n++) assert_int_equal(byte_in(vm, DATA), i + n);
	}
	assert_int_equal(rig_sent_count, 0);
	assert_false(rx(vm, 1)); /* the input is cut off */
	/* The 17th byte is an overrun; the FIFO keeps what it has. */
	byte_out(vm, IER, 4);
	for (u32 n = 0; n < 17; n++) byte_out(vm, DATA, (u8)n);
	assert_int_equal(byte_in(vm, IIR), 0xc6);
	assert_int_equal(byte_in(vm, LSR), 0x63);
	assert_int_equal(byte_in(vm, LSR), 0x61);
	assert_int_equal(byte_in(vm, IIR), 0xc1);
	assert_int_equal(byte_in(vm, DATA), 0);
	/* A break comes back as a zero with a mark. */
	byte_out(vm, FCR, 3);
	byte_out(vm, LCR, 0x43);
	assert_int_equal(byte_in(vm, LSR), 0x71);
	assert_int_equal(byte_in(vm, DATA), 0);
	rig_destroy(vm);
}

static void modem_lines(void **state) {
	struct vm *vm = make();

	(void)state;
	byte_out(vm, IER, 8);
	assert_int_equal(byte_in(vm, MSR), 0xb0);
	/* In loopback DTR, RTS, OUT1, OUT2 are DSR, CTS, RI, DCD; changes leave their mark. */
	for (u32 mcr = 0; mcr < 16; mcr++) {
		u32 lines = (mcr & 1) << 5 | (mcr & 2) << 3 | (mcr & 4) << 4 | (mcr & 8) << 4;

		byte_out(vm, MCR, (u8)(0x10 | mcr));
		assert_int_equal(byte_in(vm, MSR) & 0xf0, lines);
		assert_int_equal(byte_in(vm, MSR), lines);
	}
	byte_out(vm, MCR, 0x14);
	byte_in(vm, MSR);
	byte_out(vm, MCR, 0x16);
	assert_int_equal(byte_in(vm, IIR), 0x00);
	assert_int_equal(byte_in(vm, MSR), 0x51);
	assert_int_equal(byte_in(vm, IIR), 0x01);
	byte_out(vm, MCR, 0x12); /* trailing edge of RI */
	assert_int_equal(byte_in(vm, MSR), 0x14);
	rig_destroy(vm);
}

static void interrupt_priorities(void **state) {
	struct vm *vm = make();

	(void)state;
	byte_out(vm, FCR, 7);
	byte_out(vm, MCR, 0x1b);
	byte_in(vm, MSR);
	byte_out(vm, MCR, 0x1f);
	byte_out(vm, MCR, 0x1b);			      /* modem */
	for (u32 n = 0; n < 17; n++) byte_out(vm, DATA, 'x'); /* overrun, data, transmitter */
	byte_out(vm, IER, 0x0f);
	assert_int_equal(byte_in(vm, IIR) & 15, 6);
	byte_in(vm, LSR);
	assert_int_equal(byte_in(vm, IIR) & 15, 4);
	for (u32 n = 0; n < 16; n++) byte_in(vm, DATA);
	assert_int_equal(byte_in(vm, IIR) & 15, 2);
	assert_int_equal(byte_in(vm, IIR) & 15, 0);
	byte_in(vm, MSR);
	assert_int_equal(byte_in(vm, IIR) & 15, 1);
	rig_destroy(vm);
}

static void line_changes_once(void **state) {
	struct vm *vm = make();

	(void)state;
	/* A burst of 16 bytes, as a driver with a FIFO writes it, is one edge. */
	out(vm, 0x21, 1, 0);
	byte_out(vm, FCR, 1);
	byte_out(vm, IER, 2);
	byte_in(vm, IIR);
	vm->platform->pic.chip[0].edges = 0;
	for (u32 n = 0; n < 16; n++) {
		byte_out(vm, DATA, 'x');
		assert_int_equal(vm->platform->pic.chip[0].edges, n ? 0 : 0x10);
		vm->platform->pic.chip[0].edges = 0;
	}
	rig_destroy(vm);
}

static void hostile_values(void **state) {
	struct vm *vm = make();

	(void)state;
	for (u32 i = 0; i < 1000; i++) {
		rig_storm(vm, BASE, BASE + 7, 200);
		rx(vm, (u8)i);
	}
	rig_destroy(vm);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reset_state),
		cmocka_unit_test(registers_hold),
		cmocka_unit_test(all_bytes_are_sent),
		cmocka_unit_test(transmitter_interrupt),
		cmocka_unit_test(transmitter_edges),
		cmocka_unit_test(receiver_without_fifo),
		cmocka_unit_test(fifo_trigger_and_timeout),
		cmocka_unit_test(fifo_control),
		cmocka_unit_test(loopback),
		cmocka_unit_test(modem_lines),
		cmocka_unit_test(interrupt_priorities),
		cmocka_unit_test(line_changes_once),
		cmocka_unit_test(hostile_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
