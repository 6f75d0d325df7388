// sources: drivers/screen.c drivers/fb.c
/* The text screen, and its characters as pixels of every depth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "boot/bootinfo.h"
#include "drivers/mmio.h"
#include "drivers/screen.h"
#include "lib/error.h"
#include "lib/spinlock.h"
#include "lib/string.h"

#define COLUMNS	   20
#define ROWS	   5
#define GUARD	   0x5au
#define FB_ADDRESS 0xc0000000ul

bool spin_panic;

extern u8 font_glyphs[96 * 16];
u8 font_glyphs[96 * 16];

static u8 cells[SCREEN_ROWS_MAX][SCREEN_COLUMNS_MAX];
static unsigned drawn;
static u8 *memory;
static u64 memory_size;

volatile void *mmio_map_wc(hpa_t hpa, u64 size) {
	assert_int_equal(hpa, FB_ADDRESS);
	memory_size = size;
	memory = malloc(size + 64);
	memset(memory, GUARD, size + 64);
	return memory;
}

static void draw(size_t column, size_t row, u8 cell) {
	assert_in_range(column, 0, SCREEN_COLUMNS_MAX - 1);
	assert_in_range(row, 0, SCREEN_ROWS_MAX - 1);
	assert_in_range(cell & 0x7f, ' ', SCREEN_OTHER);
	cells[row][column] = cell;
	drawn++;
}

static void say(const char *text) { screen_write(text, strlen(text)); }

/* Empty, whatever was written before, with the cursor in the corner. */
static int setup(void **state) {
	(void)state;
	screen_init(COLUMNS, ROWS, draw);
	say("\33[0m\r\33[H\33[J");
	drawn = 0;
	return 0;
}

/* A row as text, with the cursor's cell as _ where it is blank, else in upper case. */
static void assert_row(size_t row, const char *text) {
	char have[COLUMNS + 1];
	size_t length = 0;

	for (size_t i = 0; i < COLUMNS; i++) {
		u8 c = cells[row][i] & 0x7f;

		if (cells[row][i] & SCREEN_INVERT) c = c == ' ' ? '_' : c & 0xdf;
		have[i] = (char)(c == SCREEN_OTHER ? '?' : c);
		if (c != ' ') length = i + 1;
	}
	have[length] = 0;
	assert_string_equal(have, text);
}

static void test_nothing_without_screen(void **state) {
	(void)state;
	say("nobody sees this");
	assert_int_equal(drawn, 0);
}

static void test_text(void **state) {
	(void)state;
	say("one\ntwo\r\nthree");
	assert_row(0, "one");
	assert_row(1, "two");
	assert_row(2, "three_");
	assert_row(3, "");
	/* Written once each, and the cursor on three rows. */
	assert_in_range(drawn, 11, 14);
	drawn = 0;
	say("x");
	assert_int_equal(drawn, 2);
}

static void test_wrap(void **state) {
	(void)state;
	say("01234567890123456789\n");
	assert_row(0, "01234567890123456789");
	assert_row(1, "_");
	say("01234567890123456789");
	say("ab");
	assert_row(2, "ab_");
}

static void test_scroll(void **state) {
	(void)state;
	say("a\nb\nc\nd\ne");
	assert_row(0, "a");
	assert_row(4, "e_");
	say("\n");
	assert_row(0, "b");
	assert_row(3, "e");
	assert_row(4, "_");
	say("1\n2\n3\n4\n5\n6\n7\n");
	assert_row(0, "4");
	assert_row(3, "7");
	assert_row(4, "_");
}

static void test_control_characters(void **state) {
	(void)state;
	say("abc\b\bX\tY\a\1\177");
	screen_write("\0", 1);
	assert_row(0, "aXc     Y_");
	say("\rQ\b\b\b\t\t\t\t\tE");
	assert_row(0, "QXc     Y          E");
}

static void test_characters_beyond_ascii(void **state) {
	(void)state;
	say("a\303\244b\342\202\254c\360\237\230\200d\200\377");
	assert_row(0, "a?b?c?d?_");
}

static void test_sequences(void **state) {
	(void)state;
	say("abcdef\33[3DX\33[CY");
	assert_row(0, "abcXeY_");
	say("\33[100D-\33[1;31mred\33[0m\33[?25l\33[6n\33(B\33[99;99H+");
	assert_row(0, "-red+Y");
	say("\n\n\33[Aup\33[2Bdown\33[9Atop");
	assert_row(0, "-red+Ytop_");
	assert_row(1, "up");
	assert_row(3, "  down");
}

static void test_erase(void **state) {
	(void)state;
	say("aaaa\nbbbb\ncccc\33[A\33[2D\33[K");
	assert_row(0, "aaaa");
	assert_row(1, "bb_");
	assert_row(2, "cccc");
	say("\33[J");
	assert_row(2, "");
	say("\33[1Jx\33[2K");
	assert_row(1, "   _");
	say("\33[2J");
	assert_row(0, "");
	say("\33[Htop");
	assert_row(0, "top_");
}

/* An argument without an end, and sequences that lead off the screen. */
static void test_hostile_sequences(void **state) {
	(void)state;
	say("\33[99999999999999999999999B\33[99999999999C\33[999A\33[4294967297D*\33[");
	for (int i = 0; i < 100; i++) say("9;");
	say("m.\33\33\33[[[[\33[\33[\1\377\200");
	for (int i = 0; i < 20000; i++) {
		char byte = (char)(rand() >> 7);

		screen_write(&byte, 1);
	}
}

static void load_font(void) {
	FILE *file = fopen("drivers/font.bin", "rb");

	assert_non_null(file);
	assert_int_equal(fread(font_glyphs, 1, sizeof(font_glyphs) + 1, file), sizeof(font_glyphs));
	fclose(file);
}

static u32 pixel(const struct boot_fb *fb, u32 x, u32 y) {
	u32 size = (fb->bpp + 7u) / 8, value = 0;

	memcpy(&value, memory + (u64)y * fb->pitch + x * size, size);
	return value;
}

/* Shows a line that is as long as the screen is wide, and looks at every pixel. */
static void check_fb(u32 width, u32 height, u32 pitch, u8 bpp, const u8 rgb[6], u32 ink) {
	struct boot_fb fb = {FB_RGB,
			     FB_ADDRESS,
			     pitch,
			     width,
			     height,
			     bpp,
			     {rgb[0], rgb[1], rgb[2], rgb[3], rgb[4], rgb[5]}};
	char text[SCREEN_COLUMNS_MAX + 1];
	size_t columns = min_u64(fb.width / 8, SCREEN_COLUMNS_MAX);

	assert_int_equal(fb_init(&fb), 0);
	for (size_t i = 0; i < columns; i++) text[i] = (char)(' ' + i % 95);
	text[columns] = 0;
	say("\33[H");
	say(text);
	say("\n\177\303\244");
	for (u32 y = 0; y < 32; y++) {
		for (u32 x = 0; x < columns * 8; x++) {
			char c = y < 16 ? text[x / 8] : x < 8 ? SCREEN_OTHER : ' ';
			bool dot = font_glyphs[(u32)(c - ' ') * 16 + y % 16] << x % 8 & 0x80;

			if (y >= 16 && x / 8 == 1) dot = true; /* the cursor */
			assert_int_equal(pixel(&fb, x, y), dot ? ink : 0);
		}
	}
	for (u64 i = 0; i < 64; i++) assert_int_equal(memory[memory_size + i], GUARD);
	for (u32 y = 0; y < fb.height; y++) assert_int_equal(pixel(&fb, fb.width - 1, y) & ~ink, 0);
	free(memory);
}

static void test_depths(void **state) {
	/* Red, green, blue: lowest bit and number of bits. */
	static const u8 usual[] = {16, 8, 8, 8, 0, 8}, odd[] = {0, 8, 8, 8, 24, 8},
			bits16[] = {11, 5, 5, 6, 0, 5}, bits15[] = {10, 5, 5, 5, 0, 5};

	(void)state;
	load_font();
	check_fb(640, 480, 2560, 32, usual, 0xaaaaaa);
	/* Wider and higher than the screen, lines longer than the picture. */
	check_fb(2000, 1500, 8192, 32, odd, 0xaa00aaaa);
	check_fb(801, 607, 2404, 24, usual, 0xaaaaaa);
	check_fb(800, 600, 1600, 16, bits16, 0xad55);
	check_fb(800, 600, 1600, 15, bits15, 0x56b5);
}

static void test_no_frame_buffer(void **state) {
	struct boot_fb fb = {.type = FB_TEXT,
			     .address = 0xb8000,
			     .width = 80,
			     .height = 25,
			     .pitch = 160,
			     .bpp = 16};

	(void)state;
	assert_int_equal(fb_init(&fb), E_NOENT);
	fb.type = FB_INDEXED;
	assert_int_equal(fb_init(&fb), E_NOENT);
	fb.type = FB_RGB;
	fb.bpp = 8;
	assert_int_equal(fb_init(&fb), E_NOENT);
	fb.bpp = 32;
	fb.width = 7;
	assert_int_equal(fb_init(&fb), E_NOMEM);
}

/* From the first refresh on, that draws, and what has scrolled by meanwhile never is. */
static void test_drawn_later(void **state) {
	(void)state;
	screen_refresh();
	drawn = 0;
	say("one");
	assert_int_equal(drawn, 0);
	assert_row(0, "_");
	for (int i = 0; i < 1000; i++) say("a line\n");
	screen_refresh();
	assert_row(0, "a line");
	assert_row(ROWS - 1, "_");
	assert_true(drawn <= ROWS * COLUMNS);
	drawn = 0;
	screen_refresh();
	assert_int_equal(drawn, 0);
}

/* The last test: there is no way back from a panic. */
static void test_panic_output_needs_no_lock(void **state) {
	(void)state;
	screen_refresh();
	spin_panic = true;
	say("PANIC");
	assert_row(0, "PANIC_");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_without_screen),
		cmocka_unit_test_setup(test_text, setup),
		cmocka_unit_test_setup(test_wrap, setup),
		cmocka_unit_test_setup(test_scroll, setup),
		cmocka_unit_test_setup(test_control_characters, setup),
		cmocka_unit_test_setup(test_characters_beyond_ascii, setup),
		cmocka_unit_test_setup(test_sequences, setup),
		cmocka_unit_test_setup(test_erase, setup),
		cmocka_unit_test_setup(test_hostile_sequences, setup),
		cmocka_unit_test_setup(test_depths, setup),
		cmocka_unit_test(test_no_frame_buffer),
		cmocka_unit_test_setup(test_drawn_later, setup),
		cmocka_unit_test_setup(test_panic_output_needs_no_lock, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
