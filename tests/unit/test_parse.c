// sources: lib/parse.c
// Numbers, sizes, words and lines out of bounded text. Each text is copied into memory of exactly
// its size, so that the address sanitizer sees a read past its end.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/error.h"
#include "lib/parse.h"

static char *exact;

static struct text exactly(const char *string) {
	size_t len = strlen(string);

	free(exact);
	exact = malloc(len ? len : 1);
	memcpy(exact, string, len);
	return (struct text){exact, len};
}

static int free_exact(void **state) {
	(void)state;
	free(exact);
	exact = NULL;
	return 0;
}

static void size(const char *string, int err, u64 want) {
	u64 got = 0xdead;

	assert_int_equal(text_to_size(exactly(string), &got), err);
	assert_int_equal(got, err ? 0xdead : want);
}

static void test_numbers(void **state) {
	(void)state;
	size("0", 0, 0);
	size("42", 0, 42);
	size("007", 0, 7);
	size("0x2A", 0, 42);
	size("0Xdeadbeef", 0, 0xdeadbeef);
	size("18446744073709551615", 0, ~0ul);
	size("0xffffffffffffffff", 0, ~0ul);
	size("0x00000000000000000001", 0, 1);
	size("18446744073709551616", E_RANGE, 0);
	size("99999999999999999999999999", E_RANGE, 0);
	size("0x10000000000000000", E_RANGE, 0);
	size("", E_INVAL, 0);
	size("0x", E_INVAL, 0);
	size("-1", E_INVAL, 0);
	size("+1", E_INVAL, 0);
	size("1 ", E_INVAL, 0);
	size("1a", E_INVAL, 0);
	size("0xg", E_INVAL, 0);
	size("99999999999999999999999999x", E_INVAL, 0);
}

static void test_sizes(void **state) {
	(void)state;
	size("512", 0, 512);
	size("4k", 0, 4096);
	size("512M", 0, 512ul << 20);
	size("3g", 0, 3ul << 30);
	size("64T", 0, 64ul << 40);
	size("0x10M", 0, 16ul << 20);
	size("16777215T", 0, 16777215ul << 40);
	size("16777216T", E_RANGE, 0);
	size("18446744073709551615K", E_RANGE, 0);
	size("M", E_INVAL, 0);
	size("", E_INVAL, 0);
	size("1MM", E_INVAL, 0);
	size("1B", E_INVAL, 0);
	size("1 M", E_INVAL, 0);
}

static void test_words(void **state) {
	struct text rest = exactly("  one\ttwo=3  \r\nlast ");
	struct text word;

	(void)state;
	assert_true(text_next_word(&rest, &word));
	assert_true(text_is(word, "one"));
	assert_false(text_is(word, "on"));
	assert_false(text_is(word, "ones"));
	assert_true(text_next_word(&rest, &word));
	assert_true(text_is(word, "two=3"));
	assert_true(text_next_word(&rest, &word));
	assert_true(text_is(word, "last"));
	assert_false(text_next_word(&rest, &word));
	assert_int_equal(word.len, 0);
	assert_false(text_next_word(&rest, &word));
}

static void test_split_and_trim(void **state) {
	struct text before, after;

	(void)state;
	assert_true(text_split(exactly("key=a=b"), '=', &before, &after));
	assert_true(text_is(before, "key"));
	assert_true(text_is(after, "a=b"));
	assert_true(text_split(exactly("="), '=', &before, &after));
	assert_int_equal(before.len + after.len, 0);
	assert_false(text_split(exactly("key"), '=', &before, &after));
	assert_true(text_is(before, "key"));
	assert_int_equal(after.len, 0);
	assert_true(text_is(text_trim(exactly(" \t a b \r\n")), "a b"));
	assert_int_equal(text_trim(exactly("  \n")).len, 0);
	assert_true(text_is(text_of("abc"), "abc"));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_split_and_trim),
	};

	return cmocka_run_group_tests(tests, NULL, free_exact);
}
