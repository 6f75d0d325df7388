// sources:
// lib/printf.c against the C library's printf, conversion by conversion; the file is included,
// under other names, because the names are taken here.
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define snprintf  roost_snprintf
#define vsnprintf roost_vsnprintf
#include "lib/printf.c"
#undef snprintf
#undef vsnprintf

#pragma GCC diagnostic ignored "-Wformat"
#pragma GCC diagnostic ignored "-Wformat-truncation"
#pragma GCC diagnostic ignored "-Wformat-overflow"
#pragma GCC diagnostic ignored "-Wformat-zero-length"

/* The same text, the same return value, in full and at every size of buffer. */
#define same(...)                                                                         \
	do {                                                                              \
		char want_[300], got_[300];                                               \
		int len_ = snprintf(want_, sizeof(want_), __VA_ARGS__);                   \
                                                                                          \
		assert_int_equal(roost_snprintf(got_, sizeof(got_), __VA_ARGS__), len_);  \
		assert_string_equal(got_, want_);                                         \
		for (size_t size_ = 0; size_ < 12; size_++) {                             \
			memset(want_, 'z', sizeof(want_));                                \
			memset(got_, 'z', sizeof(got_));                                  \
			snprintf(want_, size_, __VA_ARGS__);                              \
			assert_int_equal(roost_snprintf(got_, size_, __VA_ARGS__), len_); \
			assert_memory_equal(got_, want_, sizeof(got_));                   \
		}                                                                         \
	} while (0)

static void test_text(void **state) {
	(void)state;
	same("");
	same("plain");
	same("%s|%10s|%-10s|", "abc", "def", "ghi");
	same("%.2s|%.0s|%.9s|%5.1s|", "abc", "def", "ghi", "jkl");
	same("%.*s|%.*s|%.s", 2, "defg", -1, "hij", "k");
	same("100%%");
}

static void test_unterminated_text_with_precision(void **state) {
	char raw[3] = {'a', 'b', 'c'};
	char got[16];

	(void)state;
	assert_int_equal(roost_snprintf(got, sizeof(got), "%.3s", raw), 3);
	assert_string_equal(got, "abc");
}

static void test_integers(void **state) {
	static const s64 values[] = {0,
				     1,
				     -1,
				     9,
				     10,
				     255,
				     -128,
				     4096,
				     INT_MAX,
				     INT_MIN,
				     LONG_MAX,
				     LONG_MIN,
				     0x123456789abcdef};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		s64 v = values[i];

		same("%d %u %x", (int)v, (int)v, (int)v);
		same("%ld %lu %lx", v, v, v);
		same("%8lx|%-8lx|%08lx|%#lx|%#010lx", v, v, v, v, v);
		same("%20ld|%-20ld|%020ld|%-020ld", v, v, v, v);
	}
}

static void test_own_choices(void **state) {
	char got[64];

	(void)state;
	assert_int_equal(roost_snprintf(got, sizeof(got), "%s", (const char *)NULL), 6);
	assert_string_equal(got, "(null)");
	assert_int_equal(roost_snprintf(got, sizeof(got), "a%qb%d", 7), 5);
	assert_string_equal(got, "a%qb7");
	assert_int_equal(roost_snprintf(got, sizeof(got), "50%"), 3);
	assert_string_equal(got, "50%");
	assert_int_equal(roost_snprintf(got, sizeof(got), "5%-08"), 5);
	assert_string_equal(got, "5%-08");
}

static void test_hostile_width(void **state) {
	char got[8];

	(void)state;
	assert_int_equal(roost_snprintf(got, sizeof(got), "%99999999999d", 1), WIDTH_MAX);
	assert_int_equal(roost_snprintf(got, sizeof(got), "%099999999999d", 1), WIDTH_MAX);
	assert_string_equal(got, "0000000");
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_unterminated_text_with_precision),
		cmocka_unit_test(test_integers),
		cmocka_unit_test(test_own_choices),
		cmocka_unit_test(test_hostile_width),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
