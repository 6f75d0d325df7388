// sources: platform/load.c platform/load_linux.c platform/load_multiboot.c
// sources: platform/layout.c platform/acpi_tables.c tests/load_fixture.c tests/fakes.c
/* The Linux loader, with a made-up bzImage whose header is complete and whose code is a pattern. */
#include "tests/load_fixture.h"

#include <stdlib.h>
#include <string.h>

#define MEMORY	     MiB(48)
#define SETUP_SECTS  2u
#define PAYLOAD_AT   ((SETUP_SECTS + 1) * 512u)
#define PAYLOAD_SIZE 0x2000u
#define IMAGE_SIZE   (PAYLOAD_AT + PAYLOAD_SIZE)
#define PREFERRED    MiB(16)
#define INIT_SIZE    MiB(8)
#define INITRD_MAX   0x7fffffffu

/* Where the protocol wants things (Linux: boot.rst, zero-page.rst). */
#define PARAM_RSDP	 0x070
#define PARAM_E820_COUNT 0x1e8
#define PARAM_E820	 0x2d0
#define HDR_SETUP_SECTS	 0x1f1
#define HDR_SYSSIZE	 0x1f4
#define HDR_BOOT_FLAG	 0x1fe
#define HDR_JUMP	 0x200
#define HDR_MAGIC	 0x202
#define HDR_VERSION	 0x206
#define HDR_LOADER	 0x210
#define HDR_LOADFLAGS	 0x211
#define HDR_RAMDISK	 0x218
#define HDR_RAMDISK_SIZE 0x21c
#define HDR_CMDLINE	 0x228
#define HDR_INITRD_MAX	 0x22c
#define HDR_ALIGNMENT	 0x230
#define HDR_RELOCATABLE	 0x234
#define HDR_XLOADFLAGS	 0x236
#define HDR_CMDLINE_SIZE 0x238
#define HDR_PREF_ADDRESS 0x258
#define HDR_INIT_SIZE	 0x260
#define HDR_KERNEL_INFO	 0x268

static u8 image[IMAGE_SIZE];
static u8 initrd[MiB(1) + 5];
static struct load_fixture fix;

static void set(u32 at, unsigned size, u64 value) {
	for (unsigned i = 0; i < size; i++) image[at + i] = (u8)(value >> (8 * i));
}

static int open_vm(void **state) {
	(void)state;
	memset(image, 0, sizeof(image));
	for (u32 i = 0; i < PAYLOAD_SIZE; i++) image[PAYLOAD_AT + i] = (u8)(i * 3 + (i >> 8));
	for (u32 i = 0; i < sizeof(initrd); i++) initrd[i] = (u8)(i * 5 + (i >> 8));
	set(HDR_SETUP_SECTS, 1, SETUP_SECTS);
	set(HDR_SYSSIZE, 4, PAYLOAD_SIZE / 16);
	set(HDR_BOOT_FLAG, 2, 0xaa55);
	set(HDR_JUMP, 2, 0x6aeb); /* header ends at 0x202 + 0x6a */
	set(HDR_MAGIC, 4, 0x53726448);
	set(HDR_VERSION, 2, 0x020f);
	set(HDR_LOADFLAGS, 1, 1);
	set(HDR_INITRD_MAX, 4, INITRD_MAX);
	set(HDR_ALIGNMENT, 4, MiB(2));
	set(HDR_RELOCATABLE, 1, 1);
	set(HDR_XLOADFLAGS, 2, 0x3f);
	set(HDR_CMDLINE_SIZE, 4, 2047);
	set(HDR_PREF_ADDRESS, 8, PREFERRED);
	set(HDR_INIT_SIZE, 4, INIT_SIZE);
	set(HDR_KERNEL_INFO, 4, 0x1234);
	load_fixture_open(&fix, 2, MEMORY);
	return 0;
}

static int close_vm(void **state) {
	(void)state;
	load_fixture_close(&fix);
	return 0;
}

static int run(void) { return load_fixture_run(&fix, image, sizeof(image)); }

static void expect(int error, const char *text) {
	load_fixture_expect(&fix, image, sizeof(image), error, text);
}

static void add_initrd(u64 size) {
	fix.spec.initrd = (struct blob){.data = initrd, .size = size, .name = "initrd.img"};
}

static gpa_t params(void) { return fix.state.gpr[RSI]; }

static void test_kernel_lies_at_its_preferred_address(void **state) {
	(void)state;
	assert_int_equal(run(), 0);
	assert_memory_equal(fix.ram + PREFERRED, image + PAYLOAD_AT, PAYLOAD_SIZE);
	assert_int_equal(fix.state.rip, PREFERRED + 0x200);
}

static void test_alignment_moves_a_relocatable_kernel_up(void **state) {
	(void)state;
	set(HDR_PREF_ADDRESS, 8, PREFERRED + PAGE_SIZE);
	assert_int_equal(run(), 0);
	assert_int_equal(fix.state.rip, PREFERRED + MiB(2) + 0x200);
	set(HDR_RELOCATABLE, 1, 0);
	assert_int_equal(run(), 0);
	assert_int_equal(fix.state.rip, PREFERRED + PAGE_SIZE + 0x200);
}

static void test_zero_setup_sectors_mean_four(void **state) {
	static u8 bigger[5 * 512 + PAYLOAD_SIZE];

	(void)state;
	set(HDR_SETUP_SECTS, 1, 0);
	memcpy(bigger, image, 1024);
	memset(bigger + 5 * 512, 0x5a, PAYLOAD_SIZE);
	assert_int_equal(load_fixture_run(&fix, bigger, sizeof(bigger)), 0);
	assert_memory_equal(fix.ram + PREFERRED, bigger + 5 * 512, PAYLOAD_SIZE);
}

/* Follows one linear address through the tables as the CPU does (APM 2 5.3). */
static gpa_t translate(u64 address) {
	gpa_t table = fix.state.cr3;
	unsigned shift = 39;

	for (;; shift -= 9) {
		u64 entry = guest_u64(&fix, table + (address >> shift & 511) * 8);

		assert_int_equal(entry & 3, 3);
		table = entry & 0x000ffffffffff000;
		if (shift == 21) {
			assert_true(entry & 0x80);
			return table + (address & (MiB(2) - 1));
		}
		assert_false(entry & 0x80);
	}
}

static void test_first_4_gib_are_mapped_one_to_one(void **state) {
	(void)state;
	assert_int_equal(run(), 0);
	for (u64 address = 0; address < GiB(4); address += MiB(2))
		assert_int_equal(translate(address + 0x12345), address + 0x12345);
	assert_int_equal(guest_u64(&fix, fix.state.cr3 + 8), 0);
	assert_int_equal(guest_u64(&fix, (guest_u64(&fix, fix.state.cr3) & PAGE_MASK) + 4 * 8), 0);
}

static void test_state_is_64_bit_with_the_named_segments(void **state) {
	const struct boot_state *boot = &fix.state;

	(void)state;
	assert_int_equal(run(), 0);
	assert_int_equal(boot->cr0 & 0x80000001, 0x80000001);
	assert_int_equal(boot->cr0 & 0x60000000, 0); /* caches on */
	assert_int_equal(boot->cr4, 0x20);
	assert_int_equal(boot->efer, 0x500);
	assert_int_equal(boot->rflags, 2);
	assert_int_equal(boot->seg[SEG_CS].selector, 0x10);
	assert_int_equal(boot->seg[SEG_CS].attr, 0xa9b); /* G, L, P, code, accessed */
	for (u32 i = 0; i < 3; i++) {
		static const enum seg data[] = {SEG_DS, SEG_ES, SEG_SS};

		assert_int_equal(boot->seg[data[i]].selector, 0x18);
		assert_int_equal(boot->seg[data[i]].attr, 0xc93);
		assert_int_equal(boot->seg[data[i]].limit, 0xffffffff);
		assert_int_equal(boot->seg[data[i]].base, 0);
	}
	assert_int_equal(boot->seg[SEG_TR].attr, 0x8b);
	assert_int_equal(boot->gdt_limit, 31);
	assert_int_equal(guest_u64(&fix, boot->gdt_base), 0);
	assert_int_equal(guest_u64(&fix, boot->gdt_base + 0x10), 0x00af9b000000ffff);
	assert_int_equal(guest_u64(&fix, boot->gdt_base + 0x18), 0x00cf93000000ffff);
}

static void test_state_is_applied_to_a_vcpu(void **state) {
	struct vcpu *vcpu = fix.vm->vcpus[0];
	struct segment segment;

	(void)state;
	assert_int_equal(run(), 0);
	boot_state_apply(vcpu, &fix.state);
	assert_int_equal(vcpu->rip, fix.state.rip);
	assert_int_equal(vcpu->rflags, 2);
	assert_memory_equal(vcpu->gpr, fix.state.gpr, sizeof(vcpu->gpr));
	assert_int_equal(vcpu_reg(vcpu, VREG_CR0), fix.state.cr0);
	assert_int_equal(vcpu_reg(vcpu, VREG_CR3), fix.state.cr3);
	assert_int_equal(vcpu_reg(vcpu, VREG_CR4), fix.state.cr4);
	assert_int_equal(vcpu_reg(vcpu, VREG_EFER), fix.state.efer);
	assert_int_equal(vcpu_reg(vcpu, VREG_GDTR_BASE), fix.state.gdt_base);
	assert_int_equal(vcpu_reg(vcpu, VREG_GDTR_LIMIT), fix.state.gdt_limit);
	vcpu_segment(vcpu, SEG_CS, &segment);
	assert_int_equal(segment.attr, 0xa9b);
	vcpu_segment(vcpu, SEG_TR, &segment);
	assert_int_equal(segment.limit, 0x67);
}

static void test_parameters_carry_the_header_and_no_more(void **state) {
	(void)state;
	set(0x1e9, 1, 0xaa); /* of the boot sector, before the header: not to be copied */
	set(0x26c, 4, 0xdeadbeef);
	assert_int_equal(run(), 0);
	assert_int_equal(fix.ram[params() + 0x1e9], 0);
	assert_int_equal(fix.ram[params() + 0x1ef], 0); /* the sentinel */
	assert_int_equal(guest_u32(&fix, params() + 0x26c), 0);
	assert_int_equal(guest_u32(&fix, params() + HDR_MAGIC), 0x53726448);
	assert_int_equal(guest_u32(&fix, params() + HDR_KERNEL_INFO), 0x1234);
	assert_int_equal(fix.ram[params() + HDR_LOADER], 0xff);
	assert_int_equal(guest_u64(&fix, params() + PARAM_RSDP), LAYOUT_ACPI);
	assert_memory_equal(fix.ram + LAYOUT_ACPI, "RSD PTR ", 8);
	assert_int_equal(guest_u32(&fix, params() + HDR_RAMDISK), 0);
	assert_int_equal(guest_u32(&fix, params() + HDR_RAMDISK_SIZE), 0);
}

static void test_shorter_header_is_copied_as_far_as_it_goes(void **state) {
	(void)state;
	set(HDR_VERSION, 2, 0x020c);
	set(HDR_JUMP + 1, 1, 0x264 - 0x202); /* ends before handover_offset */
	set(0x264, 4, 0xdeadbeef);
	assert_int_equal(run(), 0);
	assert_int_equal(guest_u32(&fix, params() + HDR_INIT_SIZE), INIT_SIZE);
	assert_int_equal(guest_u32(&fix, params() + 0x264), 0);
	set(HDR_JUMP + 1, 1, 0x263 - 0x202);
	expect(E_FORMAT, "too short for its version");
}

static void check_e820(gpa_t at, u64 base, u64 size, u32 type) {
	assert_int_equal(guest_u64(&fix, at), base);
	assert_int_equal(guest_u64(&fix, at + 8), size);
	assert_int_equal(guest_u32(&fix, at + 16), type);
}

static void test_memory_map(void **state) {
	(void)state;
	assert_int_equal(run(), 0);
	assert_int_equal(fix.ram[params() + PARAM_E820_COUNT], 5);
	gpa_t at = params() + PARAM_E820;
	check_e820(at, 0, 0x9fc00, 1);
	check_e820(at + 20, 0x9fc00, 0x400, 2);
	check_e820(at + 40, 0xf0000, 0x10000, 2);
	check_e820(at + 60, 0x100000, MEMORY - 0x100000, 1);
	check_e820(at + 80, 0xfec00000, 0x1400000, 2);
	assert_int_equal(guest_u16(&fix, 0x40e), 0x9fc0);
	assert_int_equal(guest_u16(&fix, 0x413), 639);
}

static void test_memory_is_split_around_the_pci_hole(void **state) {
	static const u64 sizes[] = {MiB(2), GiB(1), GiB(3), GiB(3) + PAGE_SIZE, GiB(64)};
	struct guest_range ram[LAYOUT_MAX_RAM], map[LAYOUT_MAX_MAP];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		u32 slots = layout_ram(sizes[i], ram), count = layout_map(sizes[i], map);
		u64 high = sizes[i] > GiB(3) ? sizes[i] - GiB(3) : 0, usable = 0;

		assert_int_equal(slots, high ? 2 : 1);
		assert_int_equal(ram[0].base, 0);
		assert_int_equal(ram[0].size, sizes[i] - high);
		if (high) {
			assert_int_equal(ram[1].base, GiB(4));
			assert_int_equal(ram[1].size, high);
		}
		for (u32 j = 0; j < count; j++) {
			assert_true(map[j].size > 0);
			assert_true(!j || map[j - 1].base + map[j - 1].size <= map[j].base);
			usable += map[j].type == GUEST_RAM ? map[j].size : 0;
		}
		assert_int_equal(usable, sizes[i] - 0x100000 + 0x9fc00);
	}
}

static void test_command_line_and_its_limit(void **state) {
	char line[2050];

	(void)state;
	assert_int_equal(run(), 0);
	assert_string_equal(fix.ram + guest_u32(&fix, params() + HDR_CMDLINE), "");

	fix.spec.cmdline = "console=ttyS0 quiet";
	assert_int_equal(run(), 0);
	assert_string_equal(fix.ram + guest_u32(&fix, params() + HDR_CMDLINE), fix.spec.cmdline);

	memset(line, 'a', sizeof(line));
	line[2047] = '\0';
	fix.spec.cmdline = line;
	assert_int_equal(run(), 0);
	assert_string_equal(fix.ram + guest_u32(&fix, params() + HDR_CMDLINE), line);

	line[2047] = 'a';
	line[2048] = '\0';
	expect(E_RANGE, "command line of 2048 characters, it takes at most 2047");
}

static void test_endless_command_line_is_cut_off_in_time(void **state) {
	char *line = malloc(LOAD_MAX_STRING);

	(void)state;
	memset(line, 'a', LOAD_MAX_STRING); /* without an end */
	set(HDR_CMDLINE_SIZE, 4, 0xffffffff);
	fix.spec.cmdline = line;
	expect(E_RANGE, "4096 characters or more");
	line[LOAD_MAX_STRING - 1] = '\0';
	assert_int_equal(run(), 0);
	free(line);
}

static void test_initrd_lies_at_the_end_of_memory(void **state) {
	u64 start = align_down(MEMORY - sizeof(initrd), PAGE_SIZE);

	(void)state;
	add_initrd(sizeof(initrd));
	assert_int_equal(run(), 0);
	assert_int_equal(guest_u32(&fix, params() + HDR_RAMDISK), start);
	assert_int_equal(guest_u32(&fix, params() + HDR_RAMDISK_SIZE), sizeof(initrd));
	assert_memory_equal(fix.ram + start, initrd, sizeof(initrd));
}

static void test_initrd_obeys_the_header_limit(void **state) {
	(void)state;
	add_initrd(sizeof(initrd));
	set(HDR_INITRD_MAX, 4, MiB(32) - 1);
	assert_int_equal(run(), 0);
	assert_int_equal(guest_u32(&fix, params() + HDR_RAMDISK), MiB(32) - MiB(1) - PAGE_SIZE);

	/* The limit is the last byte that may be used: one less takes a page away. */
	add_initrd(MiB(1));
	assert_int_equal(run(), 0);
	assert_int_equal(guest_u32(&fix, params() + HDR_RAMDISK), MiB(32) - MiB(1));
	set(HDR_INITRD_MAX, 4, MiB(32) - 2);
	assert_int_equal(run(), 0);
	assert_int_equal(guest_u32(&fix, params() + HDR_RAMDISK), MiB(32) - MiB(1) - PAGE_SIZE);
}

static void test_initrd_that_does_not_fit(void **state) {
	(void)state;
	/* Exactly the place between kernel and limit, then a byte more. */
	set(HDR_INITRD_MAX, 4, PREFERRED + INIT_SIZE + MiB(1) - 1);
	add_initrd(MiB(1));
	assert_int_equal(run(), 0);
	assert_int_equal(guest_u32(&fix, params() + HDR_RAMDISK), PREFERRED + INIT_SIZE);
	add_initrd(MiB(1) + 1);
	expect(E_NOMEM, "initrd 'initrd.img' of 1025 KiB does not fit: 1 KiB are missing");
	set(HDR_INITRD_MAX, 4, 0);
	expect(E_NOMEM, "1025 KiB are missing");
}

static void test_kernel_that_does_not_fit(void **state) {
	(void)state;
	set(HDR_INIT_SIZE, 4, MEMORY - PREFERRED);
	assert_int_equal(run(), 0);
	set(HDR_INIT_SIZE, 4, MEMORY - PREFERRED + 1);
	expect(E_NOMEM, "needs memory up to 49156 KiB, 4 KiB are missing");
	set(HDR_INIT_SIZE, 4, 0xffffffff);
	expect(E_NOMEM, "does not fit");
}

static void test_init_size_below_the_image_is_not_believed(void **state) {
	(void)state;
	set(HDR_INIT_SIZE, 4, 0);
	set(HDR_INITRD_MAX, 4, PREFERRED + PAYLOAD_SIZE + MiB(1) - 1);
	add_initrd(MiB(1));
	assert_int_equal(run(), 0);
	assert_int_equal(guest_u32(&fix, params() + HDR_RAMDISK), PREFERRED + PAYLOAD_SIZE);
	assert_memory_equal(fix.ram + PREFERRED, image + PAYLOAD_AT, PAYLOAD_SIZE);
	add_initrd(MiB(1) + 1);
	expect(E_NOMEM, "1 KiB are missing");
}

static void test_wrong_headers_are_named(void **state) {
	static const struct {
		u32 at;
		unsigned size;
		u64 value;
		int error;
		const char *text;
	} cases[] = {
		{HDR_MAGIC, 4, 0, E_FORMAT, "no Linux setup header (HdrS)"},
		{HDR_BOOT_FLAG, 2, 0, E_FORMAT, "no Linux setup header (HdrS)"},
		{HDR_VERSION, 2, 0x020b, E_NOSUPP, "boot protocol 2.11, at least 2.12 is needed"},
		{HDR_VERSION, 2, 0x0000, E_NOSUPP, "boot protocol 0.00"},
		{HDR_JUMP + 1, 1, 0x10, E_FORMAT, "setup header of 33 bytes, too short"},
		{HDR_LOADFLAGS, 1, 0, E_NOSUPP, "zImage for low memory"},
		{HDR_XLOADFLAGS, 2, 0x3e, E_NOSUPP, "no 64-bit entry point"},
		{HDR_SYSSIZE, 4, 0, E_FORMAT, "has only 0 bytes"},
		{HDR_SYSSIZE, 4, 0x20, E_FORMAT, "has only 512 bytes"},
		{HDR_SYSSIZE, 4, PAYLOAD_SIZE / 16 + 1, E_TRUNC, "truncated, 16 of 9744 bytes"},
		{HDR_SYSSIZE, 4, 0xffffffff, E_TRUNC, "truncated"},
		{HDR_SETUP_SECTS, 1, 3, E_TRUNC, "truncated, 512 of 10240 bytes are missing"},
		{HDR_SETUP_SECTS, 1, 255, E_TRUNC, "truncated"},
		{HDR_PREF_ADDRESS, 8, 0, E_FORMAT, "preferred address 0"},
		{HDR_PREF_ADDRESS, 8, 0xff000, E_FORMAT, "preferred address 0xff000"},
		{HDR_PREF_ADDRESS, 8, 0x1000800, E_FORMAT, "preferred address 0x1000800"},
		{HDR_PREF_ADDRESS, 8, 0xc0000000, E_FORMAT, "preferred address 0xc0000000"},
		{HDR_PREF_ADDRESS, 8, ~0ul - 4095, E_FORMAT, "preferred address"},
		{HDR_PREF_ADDRESS, 8, 0xbffff000, E_NOMEM, "does not fit"},
		{HDR_ALIGNMENT, 4, 0, E_FORMAT, "alignment 0 is no power of 2"},
		{HDR_ALIGNMENT, 4, 0x3000, E_FORMAT, "alignment 0x3000 is no power of 2"},
		{HDR_ALIGNMENT, 4, 0x80000000, E_FORMAT, "alignment 0x80000000"},
	};
	static u8 good[IMAGE_SIZE];

	(void)state;
	memcpy(good, image, sizeof(good));
	fix.spec.kind = LOAD_LINUX;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		memcpy(image, good, sizeof(image));
		set(cases[i].at, cases[i].size, cases[i].value);
		expect(cases[i].error, cases[i].text);
	}
}

static void test_truncated_at_every_length(void **state) {
	(void)state;
	for (u64 size = 1; size < sizeof(image); size += size < PAYLOAD_AT ? 1 : 97) {
		fix.spec.kind = LOAD_LINUX;
		assert_int_equal(load_fixture_run(&fix, image, size), E_TRUNC);
		fix.spec.kind = LOAD_AUTO;
		assert_true(load_fixture_run(&fix, image, size) < 0);
	}
	fix.spec.kind = LOAD_LINUX;
	load_fixture_expect(&fix, image, 12, E_TRUNC,
			    "kernel 'image': 12 bytes long, too short for a Linux setup header");
	load_fixture_expect(&fix, image, 0, E_TRUNC, "kernel 'image': 0 bytes long");
}

static void test_unknown_image_and_bad_requests(void **state) {
	static const struct load_module module = {.blob = {.data = initrd, .size = 1, .name = "m"}};

	(void)state;
	fix.spec.nr_modules = 1;
	fix.spec.modules = &module;
	expect(E_RANGE, "takes an initrd, but no modules");
	fix.spec.nr_modules = 0;
	set(HDR_MAGIC, 4, 0);
	expect(E_NOSUPP, "neither a Linux bzImage nor a multiboot image");
}

static void test_missing_guest_memory_is_reported(void **state) {
	(void)state;
	/* The caller claims more memory than the slots have. */
	fix.memory = MEMORY + MiB(16);
	add_initrd(sizeof(initrd));
	expect(E_RANGE, "bytes of guest memory at");
}

static void test_random_headers_do_no_harm(void **state) {
	static u8 good[IMAGE_SIZE];
	u64 seed = 0x5eed;
	u32 loaded = 0;

	(void)state;
	memcpy(good, image, sizeof(good));
	add_initrd(5000);
	fix.spec.kind = LOAD_LINUX;
	for (u32 round = 0; round < 4000; round++) {
		u32 changes = 1 + fuzz_next(&seed) % 4;

		memcpy(image, good, 0x280);
		while (changes--) image[0x1f1 + fuzz_next(&seed) % 0x80] = (u8)fuzz_next(&seed);
		if (!load_fixture_run(&fix, image,
				      PAYLOAD_AT + fuzz_next(&seed) % (PAYLOAD_SIZE + 1)))
			loaded++;
		if (!run()) {
			loaded++;
			assert_true(fix.state.rip >= LAYOUT_HIGH_LOAD + 0x200);
			assert_true(fix.state.rip < MEMORY);
		}
	}
	assert_true(loaded > 100); /* the changes leave some images whole */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_vm, close_vm)

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_kernel_lies_at_its_preferred_address),
		TEST(test_alignment_moves_a_relocatable_kernel_up),
		TEST(test_zero_setup_sectors_mean_four),
		TEST(test_first_4_gib_are_mapped_one_to_one),
		TEST(test_state_is_64_bit_with_the_named_segments),
		TEST(test_state_is_applied_to_a_vcpu),
		TEST(test_parameters_carry_the_header_and_no_more),
		TEST(test_shorter_header_is_copied_as_far_as_it_goes),
		TEST(test_memory_map),
		TEST(test_memory_is_split_around_the_pci_hole),
		TEST(test_command_line_and_its_limit),
		TEST(test_endless_command_line_is_cut_off_in_time),
		TEST(test_initrd_lies_at_the_end_of_memory),
		TEST(test_initrd_obeys_the_header_limit),
		TEST(test_initrd_that_does_not_fit),
		TEST(test_kernel_that_does_not_fit),
		TEST(test_init_size_below_the_image_is_not_believed),
		TEST(test_wrong_headers_are_named),
		TEST(test_truncated_at_every_length),
		TEST(test_unknown_image_and_bad_requests),
		TEST(test_missing_guest_memory_is_reported),
		TEST(test_random_headers_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
