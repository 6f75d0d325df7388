// sources: drivers/ps2.c
/* The keyboard against an 8042: its set-up, its scan codes, and controllers that are not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/ps2.h"
#include "lib/error.h"
#include "lib/x86.h"

#define MAX_READS 1000000u

static struct {
	enum { ABSENT, DEAF, BUSY, STUFFED, MUTE, GOOD } kind;
	u8 config;
	bool keys_on, mouse_on, scanning, awaits_config;
	u8 queue[64];
	bool from_mouse[64];
	unsigned count, reads;
} chip;

static char typed[64];
static unsigned nr_typed;

static void queue(u8 byte, bool mouse) {
	chip.from_mouse[chip.count] = mouse;
	chip.queue[chip.count++] = byte;
}

u8 inb(u16 port) {
	assert_in_range(++chip.reads, 0, MAX_READS);
	if (chip.kind == ABSENT) return 0xff;
	if (port == 0x64)
		return (u8)((chip.count || chip.kind == STUFFED) | (chip.kind == BUSY) << 1 |
			    (chip.count && chip.from_mouse[0]) << 5);
	assert_int_equal(port, 0x60);
	if (!chip.count) return 0x55;
	u8 byte = chip.queue[0];
	chip.count--;
	memmove(chip.queue, chip.queue + 1, chip.count);
	memmove(chip.from_mouse, chip.from_mouse + 1, chip.count * sizeof(bool));
	return byte;
}

void outb(u16 port, u8 value) {
	assert_int_not_equal(chip.kind, BUSY);
	if (chip.kind == DEAF) return;
	if (port == 0x64) {
		switch (value) {
		case 0x20: queue(chip.config, false); break;
		case 0x60: chip.awaits_config = true; break;
		case 0xa7: chip.mouse_on = false; break;
		case 0xad: chip.keys_on = false; break;
		case 0xae: chip.keys_on = true; break;
		default: fail_msg("unknown command %x", value);
		}
		return;
	}
	assert_int_equal(port, 0x60);
	if (chip.awaits_config) {
		chip.config = value;
		chip.awaits_config = false;
	} else if (chip.kind == GOOD) {
		assert_int_equal(value, 0xf4);
		assert_true(chip.keys_on);
		chip.scanning = true;
		queue(0xfa, false);
	}
}

static void receive(u8 byte) {
	assert_in_range(nr_typed, 0, sizeof(typed) - 2);
	typed[nr_typed++] = (char)byte;
	typed[nr_typed] = 0;
}

static int start(int kind) {
	memset(&chip, 0, sizeof(chip));
	chip.kind = kind;
	chip.config = 0x32; /* the mouse's interrupt on, ours off, keyboard off, no translation */
	chip.mouse_on = true;
	return ps2_init();
}

static int setup(void **state) {
	(void)state;
	nr_typed = 0;
	typed[0] = 0;
	return start(GOOD);
}

static void test_controllers_that_are_none(void **state) {
	(void)state;
	assert_int_equal(start(ABSENT), E_NOENT);
	ps2_poll(receive);
	assert_int_equal(chip.reads, 1);
	assert_int_equal(start(DEAF), E_NOENT);
	assert_int_equal(start(BUSY), E_NOENT);
	assert_int_equal(nr_typed, 0);
}

static void test_set_up(void **state) {
	(void)state;
	assert_int_equal(chip.config, 0x61);
	assert_true(chip.keys_on);
	assert_true(chip.scanning);
	assert_false(chip.mouse_on);
	assert_int_equal(chip.count, 0);
	/* No keyboard is plugged in: it may come later. */
	assert_int_equal(start(MUTE), 0);
}

/* A byte that never goes away does not hold up the poll. */
static void test_endless_input(void **state) {
	(void)state;
	assert_int_equal(start(STUFFED), 0);
	chip.reads = 0;
	ps2_poll(receive);
	assert_in_range(chip.reads, 2, 1000);
	setup(state);
}

static void keys(const char *codes, size_t count) {
	for (size_t i = 0; i < count; i++) queue((u8)codes[i], false);
	ps2_poll(receive);
}

#define KEYS(codes) keys(codes, sizeof(codes) - 1)

static void assert_typed(const char *text) {
	assert_string_equal(typed, text);
	nr_typed = 0;
	typed[0] = 0;
}

/* Every key that types something, without and with shift. */
static void type_all(void) {
	for (char code = 1; code < 0x3a; code++)
		if (code != 0x1d && code != 0x2a && code != 0x36) keys(&code, 1);
}

static void test_layout(void **state) {
	(void)state;
	type_all();
	assert_typed("\0331234567890-=\177\tqwertyuiop[]\rasdfghjkl;'`\\zxcvbnm,./* ");
	KEYS("\x36");
	type_all();
	KEYS("\xb6");
	assert_typed("\033!@#$%^&*()_+\177\tQWERTYUIOP{}\rASDFGHJKL:\"~|ZXCVBNM<>?* ");
}

static void test_modifiers(void **state) {
	(void)state;
	KEYS("\x1e\x9e\x2a\x1e\x9e\x02\x82\xaa\x1e\x9e"); /* a, shift+a, shift+1, a */
	assert_typed("aA!a");
	KEYS("\x3a\xba\x1e\x9e\x02\x82\x2a\x1e\x9e\x02\x82\xaa\x3a\xba\x1e\x9e"); /* caps lock */
	assert_typed("A1a!a");
	KEYS("\x1d\x2e\xae\x1a\x9a\x02\x82\x9d\x2e\xae"); /* ctrl+c, ctrl+[, ctrl+1, c */
	assert_typed("\3\0331c");
	KEYS("\xe0\x1d\x20\xa0\xe0\x9d"); /* right ctrl+d */
	assert_typed("\4");
	KEYS("\x39\xb9\x1c\x9c\x0e\x8e\xe0\x1c\xe0\x9c");
	assert_typed(" \r\177\r");
}

static void test_cursor_keys(void **state) {
	(void)state;
	/* The keyboard puts a shift of its own around them. */
	KEYS("\xe0\x2a\xe0\x48\xe0\xc8\xe0\xaa\x1e\x9e");
	assert_typed("\33[Aa");
	KEYS("\x47\xc7\x4b\xcb\x4d\xcd\x4f\xcf\x50\xd0\x4a\x4e\x49\x4c\x51\x52\x53\x54\x7f");
	assert_typed("\33[H\33[D\33[C\33[F\33[B-+");
}

static void test_mouse_and_noise(void **state) {
	(void)state;
	queue(0x1e, true);
	queue(0x1e, false);
	ps2_poll(receive);
	assert_typed("a");
	for (unsigned code = 0; code < 256; code++) {
		char byte = (char)code;

		keys(&byte, 1);
		KEYS("\xe0");
		keys(&byte, 1);
		nr_typed = 0;
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_controllers_that_are_none),
		cmocka_unit_test_setup(test_set_up, setup),
		cmocka_unit_test_setup(test_endless_input, setup),
		cmocka_unit_test_setup(test_layout, setup),
		cmocka_unit_test_setup(test_modifiers, setup),
		cmocka_unit_test_setup(test_cursor_keys, setup),
		cmocka_unit_test_setup(test_mouse_and_noise, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
