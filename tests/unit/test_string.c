// sources:
// The memory and string functions of lib/string.c against the C library's, over all small lengths,
// offsets and overlaps. The file is included, under other names, because the names are taken here.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define memcpy	roost_memcpy
#define memmove roost_memmove
#define memset	roost_memset
#define memcmp	roost_memcmp
#define strlen	roost_strlen
#define strnlen roost_strnlen
#define strcmp	roost_strcmp
#include "lib/string.c"
#undef memcpy
#undef memmove
#undef memset
#undef memcmp
#undef strlen
#undef strnlen
#undef strcmp

static void fill(unsigned char *buf, size_t len) {
	for (size_t i = 0; i < len; i++) buf[i] = (unsigned char)(i * 7 + 1);
}

static void test_copy(void **state) {
	unsigned char from[96], got[96], want[96];

	(void)state;
	fill(from, sizeof(from));
	for (size_t off = 0; off < 9; off++) {
		for (size_t len = 0; len <= 64; len++) {
			memset(got, 0xee, sizeof(got));
			memset(want, 0xee, sizeof(want));
			memcpy(want + off, from + 3, len);
			assert_ptr_equal(roost_memcpy(got + off, from + 3, len), got + off);
			assert_memory_equal(got, want, sizeof(got));
		}
	}
}

static void test_move_overlapping(void **state) {
	unsigned char got[96], want[96];

	(void)state;
	for (size_t to = 0; to < 24; to++) {
		for (size_t from = 0; from < 24; from++) {
			for (size_t len = 0; len <= 48; len++) {
				fill(got, sizeof(got));
				fill(want, sizeof(want));
				memmove(want + to, want + from, len);
				assert_ptr_equal(roost_memmove(got + to, got + from, len),
						 got + to);
				assert_memory_equal(got, want, sizeof(got));
			}
		}
	}
}

static void test_set(void **state) {
	unsigned char got[96], want[96];

	(void)state;
	for (size_t off = 0; off < 9; off++) {
		for (size_t len = 0; len <= 64; len++) {
			fill(got, sizeof(got));
			fill(want, sizeof(want));
			memset(want + off, 0x1a5, len);
			assert_ptr_equal(roost_memset(got + off, 0x1a5, len), got + off);
			assert_memory_equal(got, want, sizeof(got));
		}
	}
}

static int sign(int v) { return (v > 0) - (v < 0); }

static void test_compare(void **state) {
	static const char *const words[] = {"",	   "a",	   "b",	   "ab",   "abc",
					    "abd", "\x80", "\xff", "a\x80"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(words); j++) {
			const char *a = words[i], *b = words[j];

			assert_int_equal(sign(roost_strcmp(a, b)), sign(strcmp(a, b)));
		}
	}
	assert_int_equal(roost_memcmp("a\0b", "a\0b", 3), 0);
	assert_true(roost_memcmp("a\0b", "a\0\xf0", 3) < 0);
	assert_true(roost_memcmp("b", "a", 1) > 0);
	assert_int_equal(roost_memcmp("b", "a", 0), 0);
}

static void test_lengths(void **state) {
	const char *s = "hello, world";

	(void)state;
	assert_int_equal(roost_strlen(s), 12);
	assert_int_equal(roost_strlen(""), 0);
	assert_int_equal(roost_strnlen(s, 4), 4);
	assert_int_equal(roost_strnlen(s, 40), 12);
}

static void test_zero_page(void **state) {
	static unsigned char pages[3 * 4096] __aligned(4096);

	(void)state;
	memset(pages, 0xff, sizeof(pages));
	roost_memset(pages + 4096, 0, 4096);
	assert_int_equal(pages[4095], 0xff);
	assert_int_equal(pages[8192], 0xff);
	for (size_t i = 4096; i < 8192; i++) assert_int_equal(pages[i], 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copy),	cmocka_unit_test(test_move_overlapping),
		cmocka_unit_test(test_set),	cmocka_unit_test(test_compare),
		cmocka_unit_test(test_lengths), cmocka_unit_test(test_zero_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
