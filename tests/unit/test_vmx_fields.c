// sources: vmx/fields.c
/* From an encoding that a guest chose to its field: every one of them, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "vmx/vmcs.h"

#define WORDS (sizeof(struct vmcs_values) / sizeof(u64))

static struct vmcs_values values;

static void test_the_table_is_sorted_and_whole(void **state) {
	unsigned at = 0;
	u32 next = 0;

	(void)state;
	for (unsigned i = 0; i < vmcs_nr_runs; i++) {
		const struct vmcs_run *run = &vmcs_runs[i];

		assert_true(run->encoding >= next);
		assert_int_equal(run->encoding & VMCS_HIGH, 0);
		assert_int_equal(run->at, at);
		assert_true(run->count >= 1);
		assert_non_null(run->name);
		at += run->count;
		next = run->encoding + 2u * run->count;
		/* No array goes beyond its kind and width. */
		assert_int_equal(run->encoding >> 10, (next - 2) >> 10);
	}
	assert_int_equal(at, WORDS);
}

/* Each encoding of 16 bits leads to a word of its own or nowhere; all words are found. */
static void test_every_encoding(void **state) {
	unsigned found = 0;

	(void)state;
	for (u64 encoding = 0; encoding < 0x20000; encoding++) {
		u64 *at = vmcs_values_at(&values, encoding);

		if (!at) continue;
		assert_ptr_equal(at, (u64 *)&values + found);
		found++;
	}
	assert_int_equal(found, WORDS);
}

static void test_named_fields(void **state) {
	(void)state;
	assert_ptr_equal(vmcs_values_at(&values, VMCS_vpid), &values.vpid);
	assert_ptr_equal(vmcs_values_at(&values, VMCS_guest_rip), &values.guest_rip);
	assert_ptr_equal(vmcs_values_at(&values, VMCS_host_rip), &values.host_rip);
	assert_ptr_equal(vmcs_values_at(&values, VMCS_guest_selector + 14),
			 &values.guest_selector[7]);
	assert_ptr_equal(vmcs_values_at(&values, VMCS_eoi_exits + 6), &values.eoi_exits[3]);
}

static void test_what_is_no_field(void **state) {
	static const u64 none[] = {0x0002, 0x0001,    0x2001,	  VMCS_guest_rip + 1,
				   0x6c18, 0x7ffe,    0xffffffff, 0x100000000 + VMCS_vpid,
				   ~0ul,   1ul << 63, 0x10000,	  VMCS_vpid + 0x8000};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(none); i++)
		assert_null(vmcs_values_at(&values, none[i]));
}

static void test_kind_and_width(void **state) {
	(void)state;
	assert_int_equal(vmcs_kind(VMCS_exit_reason), VMCS_INFO);
	assert_int_equal(vmcs_width(VMCS_exit_reason), VMCS_32);
	assert_int_equal(vmcs_kind(VMCS_guest_rip), VMCS_GUEST);
	assert_int_equal(vmcs_width(VMCS_guest_rip), VMCS_NATURAL);
	assert_int_equal(vmcs_kind(VMCS_host_selector), VMCS_HOST);
	assert_int_equal(vmcs_width(VMCS_host_selector), VMCS_16);
	assert_int_equal(vmcs_kind(VMCS_eptp), VMCS_CONTROL);
	assert_int_equal(vmcs_width(VMCS_eptp), VMCS_64);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_table_is_sorted_and_whole),
		cmocka_unit_test(test_every_encoding),
		cmocka_unit_test(test_named_fields),
		cmocka_unit_test(test_what_is_no_field),
		cmocka_unit_test(test_kind_and_width),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
