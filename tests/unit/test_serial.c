// sources: drivers/serial.c
/* The host's serial port against a 16550 that sends only as fast as the test lets it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "drivers/serial.h"
#include "lib/error.h"
#include "lib/spinlock.h"
#include "lib/x86.h"

#define PORT	    0x3f8
#define BUFFER	    131072u
#define LSR_DATA    0x01
#define LSR_THRE    0x20
#define LSR_TEMT    0x40
#define MAX_SENT    (4 * BUFFER)
#define STUCK_READS 10000000u

bool spin_panic;

static struct {
	bool present;
	u8 ier, lcr, mcr, fcr, scratch;
	u16 divisor;
	unsigned fifo, shifting; /* bytes in the transmitter, and of its shift register */
	bool stuck;		 /* it sends nothing */
	unsigned status_reads;
	const char *input;
} uart;

static char sent[MAX_SENT];
static size_t nr_sent;

u8 inb(u16 port) {
	u8 value;

	assert_in_range(port, PORT, PORT + 7);
	if (!uart.present) return 0xff;
	switch (port - PORT) {
	case 0: assert_true(uart.input && *uart.input); return (u8)*uart.input++;
	case 5:
		uart.status_reads++;
		assert_in_range(uart.status_reads, 0, STUCK_READS);
		value = uart.fifo ? 0 : uart.shifting ? LSR_THRE : LSR_THRE | LSR_TEMT;
		if (!uart.stuck) {
			uart.shifting = uart.fifo; /* gone by the look after the next */
			uart.fifo = 0;
		}
		return (u8)(value | (uart.input && *uart.input ? LSR_DATA : 0));
	case 7: return uart.scratch;
	default: return 0;
	}
}

void outb(u16 port, u8 v) {
	bool latch = uart.lcr & 0x80;

	assert_in_range(port, PORT, PORT + 7);
	switch (port - PORT) {
	case 0:
		if (latch) {
			uart.divisor = (u16)((uart.divisor & 0xff00) | v);
			break;
		}
		assert_in_range(uart.fifo, 0, 15); /* never more than the FIFO holds */
		uart.fifo++;
		sent[nr_sent++ % MAX_SENT] = (char)v;
		break;
	case 1:
		if (latch)
			uart.divisor = (u16)((uart.divisor & 0xff) | v << 8);
		else
			uart.ier = v;
		break;
	case 2: uart.fcr = v; break;
	case 3: uart.lcr = v; break;
	case 4: uart.mcr = v; break;
	default: uart.scratch = v; break;
	}
}

static char received[256];
static unsigned nr_received;

static void receive(u8 byte) { received[nr_received++ % sizeof(received)] = (char)byte; }

static int setup(void **state) {
	(void)state;
	memset(&uart, 0, sizeof(uart));
	uart.present = true;
	assert_int_equal(serial_init(PORT, 0), 0);
	serial_drain();
	nr_sent = nr_received = 0;
	uart.fifo = uart.status_reads = 0;
	return 0;
}

static void test_no_uart(void **state) {
	(void)state;
	memset(&uart, 0, sizeof(uart));
	assert_int_equal(serial_init(PORT, 9600), E_NOENT);
	/* Nor does anything else touch a port that is not there. */
	assert_false(serial_present());
	serial_write("x", 1);
	serial_poll(receive);
	serial_drain();
	assert_int_equal(uart.status_reads, 0);
}

static void test_set_up(void **state) {
	(void)state;
	assert_int_equal(serial_init(PORT, 9600), 0);
	assert_int_equal(uart.divisor, 12);
	assert_int_equal(uart.lcr, 3);
	assert_int_equal(uart.ier, 0);
	assert_int_equal(uart.mcr & 0x0b, 0x0b);
	assert_int_equal(uart.fcr & 1, 1);
	assert_int_equal(serial_init(PORT, 115200), 0);
	assert_int_equal(uart.divisor, 1);
	/* No speed, or one that this divisor cannot make: what was set stays. */
	assert_int_equal(serial_init(PORT, 0), 0);
	assert_int_equal(serial_init(PORT, 230400), 0);
	assert_int_equal(uart.divisor, 1);
	assert_int_equal(uart.lcr, 3);
}

static void test_output_is_in_order(void **state) {
	char text[100];

	(void)state;
	for (unsigned i = 0; i < sizeof(text); i++) text[i] = (char)(' ' + i % 64);
	serial_write(text, sizeof(text));
	for (unsigned i = 0; i < 50; i++) serial_poll(receive);
	assert_int_equal(nr_sent, sizeof(text));
	assert_memory_equal(sent, text, sizeof(text));
}

/* A line that stands still holds nobody up; what is too much is dropped, the oldest stays, and
 * how much it was is said where it is missing. */
static void test_slow_line_holds_nobody_up(void **state) {
	static const char notice[] = "\r\n[4099 bytes dropped]\r\n";
	static char text[BUFFER + 4096];

	(void)state;
	for (unsigned i = 0; i < sizeof(text); i++) text[i] = (char)(i * 7 % 251);
	uart.stuck = true;
	uart.fifo = 16;
	serial_write(text, sizeof(text));
	assert_in_range(uart.status_reads, 0, 100);
	assert_int_equal(nr_sent, 0);
	assert_true(serial_busy());
	uart.stuck = false;
	/* Nothing comes between before there is room for the notice. */
	serial_poll(receive);
	serial_write("abc", 3);
	serial_drain();
	assert_false(serial_busy());
	serial_write("on", 2);
	serial_drain();
	assert_int_equal(nr_sent, BUFFER + strlen(notice) + 2);
	assert_memory_equal(sent, text, BUFFER);
	assert_memory_equal(&sent[BUFFER], notice, strlen(notice));
	assert_memory_equal(&sent[BUFFER + strlen(notice)], "on", 2);
}

/* What is in the transmitter when the machine is switched off would be lost. */
static void test_drain_waits_for_the_last_bit(void **state) {
	(void)state;
	serial_write("x", 1);
	assert_int_equal(uart.fifo, 1);
	serial_drain();
	assert_int_equal(uart.fifo, 0);
	assert_int_equal(uart.shifting, 0);
}

static void test_drain_has_a_limit(void **state) {
	(void)state;
	uart.stuck = true;
	uart.fifo = 16;
	serial_write("x", 1);
	serial_drain(); /* the fake fails the test when it is read for ever */
	uart.stuck = false;
	serial_drain();
	assert_int_equal(nr_sent, 1);
}

static void test_transmitter_interrupt_only_while_there_is_output(void **state) {
	(void)state;
	serial_enable_irq();
	assert_int_equal(uart.ier, 1);
	uart.fifo = 16;
	uart.stuck = true;
	serial_write("abc", 3);
	assert_int_equal(uart.ier, 3);
	uart.stuck = false;
	serial_poll(receive);
	serial_poll(receive);
	assert_int_equal(nr_sent, 3);
	assert_int_equal(uart.ier, 1);
}

static void test_input(void **state) {
	(void)state;
	uart.input = "help\r\xff";
	assert_false(serial_poll(receive));
	assert_int_equal(nr_received, 6);
	assert_memory_equal(received, "help\r\xff", 6);
}

/* A line that never stops does not keep the interrupt's handler, which is told to come again. */
static void test_endless_input(void **state) {
	static char endless[1000];

	(void)state;
	memset(endless, 'x', sizeof(endless) - 1);
	uart.input = endless;
	assert_true(serial_poll(receive));
	assert_in_range(nr_received, 16, 256);
	while (serial_poll(receive)) continue;
	assert_int_equal(nr_received, sizeof(endless) - 1);
}

/* The last test: there is no way back from a panic. */
static void test_panic_output_needs_no_lock(void **state) {
	(void)state;
	spin_panic = true;
	serial_write("PANIC", 5);
	serial_drain();
	assert_memory_equal(sent, "PANIC", 5);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_uart),
		cmocka_unit_test_setup(test_set_up, setup),
		cmocka_unit_test_setup(test_output_is_in_order, setup),
		cmocka_unit_test_setup(test_slow_line_holds_nobody_up, setup),
		cmocka_unit_test_setup(test_drain_waits_for_the_last_bit, setup),
		cmocka_unit_test_setup(test_drain_has_a_limit, setup),
		cmocka_unit_test_setup(test_transmitter_interrupt_only_while_there_is_output,
				       setup),
		cmocka_unit_test_setup(test_input, setup),
		cmocka_unit_test_setup(test_endless_input, setup),
		cmocka_unit_test_setup(test_panic_output_needs_no_lock, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
