// sources: tests/fakes.c platform/fetch.c
/* Remembered code pages: what is found is what a walk would find, or nothing. */
#include <string.h>

#include "tests/fakes.h"

#include "platform/fetch.h"

#define RAM	MiB(8)
#define PML4	0x10000ul
#define PDPT	0x11000ul
#define PD	0x12000ul
#define PT	0x13000ul
#define CODE	0x20000ul
#define OTHER	0x21000ul
#define GVA	0x00007f1234567ff0ul
#define PRESENT 0x21ul /* with its accessed bit */
#define LARGE	0x80ul

static struct vm *vm;
static struct vcpu *vcpu;
static struct fetch_cache cache;

static u64 *slot(gpa_t table, unsigned shift) {
	return (u64 *)(void *)(fake_ram(vm) + table) + (GVA >> shift & 511);
}

static int setup(void **state) {
	(void)state;
	fake_reset();
	vm = fake_vm_create(1, RAM);
	vcpu = vm->vcpus[0];
	memset(&cache, 0, sizeof(cache));
	vcpu->fetch = &cache;
	*slot(PML4, 39) = PDPT | PRESENT;
	*slot(PDPT, 30) = PD | PRESENT;
	*slot(PD, 21) = PT | PRESENT;
	*slot(PT, 12) = CODE | PRESENT;
	return 0;
}

static int teardown(void **state) {
	(void)state;
	vcpu->fetch = NULL;
	fake_vm_destroy(vm);
	return 0;
}

static const u8 *known(void) { return fetch_known(vcpu, GVA, PML4); }

static void test_found_after_the_walk(void **state) {
	(void)state;
	assert_null(known());
	fetch_remember(vcpu, GVA, PML4);
	assert_ptr_equal(known(), fake_ram(vm) + CODE + (GVA & 0xfff));
	assert_ptr_equal(fetch_known(vcpu, GVA & PAGE_MASK, PML4), fake_ram(vm) + CODE);
	/* Bits of CR3 that are no address do not move the table. */
	fetch_remember(vcpu, GVA, PML4 | 0x18);
	assert_ptr_equal(fetch_known(vcpu, GVA, PML4 | 0x18), fake_ram(vm) + CODE + 0xff0);
}

static void test_other_addresses_are_not_found(void **state) {
	(void)state;
	fetch_remember(vcpu, GVA, PML4);
	assert_null(fetch_known(vcpu, GVA, PML4 + PAGE_SIZE));
	assert_null(fetch_known(vcpu, GVA, PML4 | 8));
	for (unsigned bit = 12; bit < 64; bit++)
		assert_null(fetch_known(vcpu, GVA ^ BIT(bit), PML4));
}

/* Any bit of any entry on the way. */
static void test_change_of_an_entry_is_seen(void **state) {
	static const struct {
		gpa_t table;
		unsigned shift;
	} levels[] = {{PML4, 39}, {PDPT, 30}, {PD, 21}, {PT, 12}};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		for (unsigned bit = 0; bit < 64; bit++) {
			u64 *entry = slot(levels[i].table, levels[i].shift);

			fetch_remember(vcpu, GVA, PML4);
			assert_non_null(known());
			*entry ^= BIT(bit);
			assert_null(known());
			*entry ^= BIT(bit);
			assert_non_null(known());
		}
	}
}

static void test_new_frame_is_found_after_a_new_walk(void **state) {
	(void)state;
	fetch_remember(vcpu, GVA, PML4);
	*slot(PT, 12) = OTHER | PRESENT;
	assert_null(known());
	fetch_remember(vcpu, GVA, PML4);
	assert_ptr_equal(known(), fake_ram(vm) + OTHER + 0xff0);
}

static void test_large_pages(void **state) {
	(void)state;
	*slot(PD, 21) = MiB(4) | LARGE | PRESENT | BIT(12) /* PAT */;
	fetch_remember(vcpu, GVA, PML4);
	assert_ptr_equal(known(), fake_ram(vm) + MiB(4) + (GVA & (MiB(2) - 1)));
	*slot(PD, 21) ^= BIT(1);
	assert_null(known());
	/* A 1 GiB page whose part here lies beyond RAM. */
	*slot(PDPT, 30) = LARGE | PRESENT;
	fetch_remember(vcpu, GVA, PML4);
	assert_null(known());
	/* One whose part here lies in RAM; and there is no larger page than that. */
	const gva_t low = (GVA & ~(BIT(39) - 1)) | 0x5123;
	u64 *first = (u64 *)(void *)(fake_ram(vm) + PDPT);

	*first = LARGE | PRESENT;
	fetch_remember(vcpu, low, PML4);
	assert_ptr_equal(fetch_known(vcpu, low, PML4), fake_ram(vm) + 0x5123);
	*slot(PML4, 39) = LARGE | PRESENT;
	fetch_remember(vcpu, low, PML4);
	assert_null(fetch_known(vcpu, low, PML4));
}

static void test_incomplete_walks_are_not_remembered(void **state) {
	static const struct {
		gpa_t table;
		unsigned shift;
	} levels[] = {{PML4, 39}, {PDPT, 30}, {PD, 21}, {PT, 12}};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		u64 *entry = slot(levels[i].table, levels[i].shift);
		u64 good = *entry;
		const u64 bad[] = {good & ~1ul, good & ~0x20ul, RAM | PRESENT,
				   GENMASK(51, 12) | PRESENT};

		for (unsigned j = 0; j < 4; j++) {
			fetch_remember(vcpu, GVA, PML4);
			assert_non_null(known());
			*entry = bad[j];
			fetch_remember(vcpu, GVA, PML4);
			assert_null(known());
			*entry = good;
			assert_null(known());
		}
	}
	fetch_remember(vcpu, GVA, GENMASK(51, 12));
	assert_null(fetch_known(vcpu, GVA, GENMASK(51, 12)));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_found_after_the_walk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_addresses_are_not_found, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_change_of_an_entry_is_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_new_frame_is_found_after_a_new_walk, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_large_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_incomplete_walks_are_not_remembered, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
