// sources: vmx/nested_shadow.c vmx/fields.c
/* What L1 reaches without an exit: exactly the fields that go to the shadow VMCS and come back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "mm/direct.h"
#include "mm/frame.h"
#include "vmx/vmx.h"

#define NR_ENCODINGS 0x8000
#define PA_01	     0x1000

static u64 vmcs[2][NR_ENCODINGS]; /* 01, shadow */
static bool at_shadow;
static struct vcpu vcpu;
static struct vmx_vcpu arch;
static struct vmcs_values v12;
static void *pages[8];
static unsigned nr_pages;

struct vmx_config vmx_config;
u64 direct_base_;

u64 vmread(struct vmcs_field field) { return vmcs[at_shadow][field.encoding]; }
void vmwrite(struct vmcs_field field, u64 value) { vmcs[at_shadow][field.encoding] = value; }
void vmx_vmclear(hpa_t pa) { assert_int_equal(pa, virt_to_phys(arch.nested.shadow)); }

void vmx_vmptrld(hpa_t pa) {
	at_shadow = pa != PA_01;
	if (at_shadow) assert_int_equal(pa, virt_to_phys(arch.nested.shadow));
}

struct vcpu *vmx_borrow_slow(struct vcpu *v) {
	(void)v;
	return NULL;
}

void vmx_give_back_slow(struct vcpu *lent) { (void)lent; }

void *page_alloc(u64 size) {
	assert_true(nr_pages < ARRAY_SIZE(pages));
	return pages[nr_pages++] = calloc(1, size);
}

static int setup(void **state) {
	(void)state;
	memset(vmcs, 0, sizeof(vmcs));
	memset(&arch, 0, sizeof(arch));
	memset(&v12, 0, sizeof(v12));
	vcpu.arch = &arch;
	arch.level = &arch.levels[0];
	arch.level->vmcs_pa = PA_01;
	arch.loaded = true;
	arch.nested.vmcs12 = &v12;
	vmx_config.proc2 = PROC2_SHADOW_VMCS | PROC2_EPT;
	vmx_config.caps.msr[0] = 0x2b;
	assert_int_equal(vmx_shadow_init(), 0);
	assert_int_equal(vmx_shadow_create(&vcpu), 0);
	return 0;
}

static int teardown(void **state) {
	(void)state;
	while (nr_pages) free(pages[--nr_pages]);
	return 0;
}

static bool passes(u32 bitmap, u32 encoding) {
	const u8 *map = phys_to_virt(vmcs[0][bitmap]);

	return !(map[encoding / 8] >> encoding % 8 & 1);
}

static void test_on_and_off(void **state) {
	(void)state;
	assert_int_equal(*arch.nested.shadow, 0x8000002b);
	vmcs[0][VMCS_proc2_controls] = PROC2_EPT;
	vmx_shadow_use(&vcpu, true);
	assert_int_equal(vmcs[0][VMCS_proc2_controls], PROC2_EPT | PROC2_SHADOW_VMCS);
	assert_int_equal(vmcs[0][VMCS_link], virt_to_phys(arch.nested.shadow));
	vmx_shadow_use(&vcpu, false);
	assert_int_equal(vmcs[0][VMCS_proc2_controls], PROC2_EPT);
	assert_int_equal(vmcs[0][VMCS_link], ~0ul);
}

/* What passes is there with its own value, and what L1 writes there comes back, and is noted. */
static void test_what_passes(void **state) {
	u64 *values = (u64 *)&v12;
	unsigned reads = 0, writes = 0;

	(void)state;
	for (unsigned i = 0; i < VMCS_WORDS; i++) values[i] = 0x100 + i;
	vmx_shadow_put(&vcpu);
	assert_false(at_shadow);
	for (u32 e = 0; e < NR_ENCODINGS; e++) {
		const u64 *value = vmcs_values_at(&v12, e);

		assert_true(passes(VMCS_vmread_bitmap, e) || !passes(VMCS_vmwrite_bitmap, e));
		if (passes(VMCS_vmread_bitmap, e)) {
			assert_non_null(value);
			assert_int_equal(vmcs[1][e], *value);
			reads++;
		}
		if (!passes(VMCS_vmwrite_bitmap, e)) continue;
		assert_true(vmcs_kind(e) == VMCS_CONTROL || vmcs_kind(e) == VMCS_GUEST);
		vmcs[1][e] = 0x1000 + e;
		writes++;
	}
	assert_in_range(reads, 10, 20);
	assert_in_range(writes, 5, 10);
	vmx_shadow_get(&vcpu);
	assert_false(at_shadow);
	for (u32 e = 0; e < NR_ENCODINGS; e++) {
		const u64 *value = vmcs_values_at(&v12, e);

		if (!value) continue;
		u64 word = (u64)(value - values);
		bool written = passes(VMCS_vmwrite_bitmap, e);
		assert_int_equal(*value, written ? 0x1000 + e : 0x100 + word);
		assert_int_equal(vmcs_mask_has(&arch.nested.dirty, word), written);
	}
	/* What has not changed is no news. */
	memset(&arch.nested.dirty, 0, sizeof(arch.nested.dirty));
	vmx_shadow_get(&vcpu);
	for (unsigned i = 0; i < DIRTY_WORDS; i++) assert_int_equal(arch.nested.dirty.word[i], 0);
}

/* Without shadowing nothing of it is touched. */
static void test_without(void **state) {
	(void)state;
	arch.nested.shadow = NULL;
	vmcs[0][VMCS_link] = ~0ul;
	vmx_shadow_use(&vcpu, true);
	vmx_shadow_put(&vcpu);
	vmx_shadow_get(&vcpu);
	assert_int_equal(vmcs[0][VMCS_proc2_controls], 0);
	assert_int_equal(vmcs[0][VMCS_link], ~0ul);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_on_and_off, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_passes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without, setup, teardown),
	};
	return cmocka_run_group_tests_name("tests", tests, NULL, NULL);
}
