// sources: boot/peek.c
/* Physical memory at start-up: what the start-up tables map, and what is added to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "boot/bootinfo.h"
#include "boot/layout.h"
#include "kernel/cpu.h"

#define LARGE_PAGE 0x83u

extern u64 boot_pdpt_low[512];
u64 boot_pdpt_low[512];
struct cpu_features cpu_features;

static int setup(void **state) {
	(void)state;
	memset(boot_pdpt_low, 0, sizeof(boot_pdpt_low));
	for (u64 i = 0; i < 4; i++) boot_pdpt_low[i] = 0x1003;
	cpu_features.pages_1g = true;
	return 0;
}

static void assert_peek(hpa_t address, size_t length, bool readable) {
	const void *expected = readable ? (const void *)(DIRECT_BASE + address) : NULL;

	assert_ptr_equal(phys_peek(address, length), expected);
}

static void test_below_4g(void **state) {
	(void)state;
	assert_peek(0, 8, false);
	assert_peek(1, 0, false);
	assert_peek(1, GiB(4) - 1, true);
	for (u32 i = 0; i < 512; i++) assert_int_equal(boot_pdpt_low[i], i < 4 ? 0x1003 : 0);
}

static void test_above_4g(void **state) {
	(void)state;
	assert_peek(GiB(5) - 4, 8, true);
	assert_int_equal(boot_pdpt_low[4], GiB(4) | LARGE_PAGE);
	assert_int_equal(boot_pdpt_low[5], GiB(5) | LARGE_PAGE);
	assert_int_equal(boot_pdpt_low[6], 0);
	assert_peek(GiB(512) - 1, 1, true);
	assert_peek(GiB(4) - 1, 2, true);
	assert_int_equal(boot_pdpt_low[3], 0x1003);
}

/* Refused, and the caller says what it is that cannot be read. */
static void test_out_of_reach(void **state) {
	(void)state;
	assert_peek(GiB(512) - 1, 2, false);
	assert_peek(1ul << 41, 36, false);
	assert_peek(~0ul, 2, false);
	cpu_features.pages_1g = false;
	assert_peek(GiB(4), 1, false);
	assert_peek(GiB(4) - 1, 2, false);
	assert_int_equal(boot_pdpt_low[4], 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_below_4g, setup),
		cmocka_unit_test_setup(test_above_4g, setup),
		cmocka_unit_test_setup(test_out_of_reach, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
