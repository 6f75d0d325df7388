// sources: platform/load.c platform/load_linux.c platform/load_multiboot.c
// sources: platform/layout.c platform/acpi_tables.c tests/load_fixture.c tests/fakes.c
/* The multiboot loader, with made-up images: by address fields, ELF32 and ELF64. */
#include "tests/load_fixture.h"

#include <stdlib.h>
#include <string.h>

#include "boot/multiboot.h"

#define MEMORY	     MiB(8)
#define IMAGE_SIZE   0x3000u
#define MAGIC	     0x1badb002u
#define HEADER_AT    0x800u
#define WITH_ADDRESS 0x10000u

#define ELF_PHOFF_32 28
#define ELF_PHOFF_64 32
#define ELF_ENTRY    24
#define PHDR_AT	     0x100u

static u8 image[IMAGE_SIZE];
static u8 module_a[PAGE_SIZE + 1], module_b[100];
static struct load_fixture fix;

static void set(u32 at, unsigned size, u64 value) {
	for (unsigned i = 0; i < size; i++) image[at + i] = (u8)(value >> (8 * i));
}

static void set_header(u32 at, u32 flags) {
	set(at, 4, MAGIC);
	set(at + 4, 4, flags);
	set(at + 8, 4, 0u - (MAGIC + flags));
}

/* header, load, load end, bss end, entry */
static void set_addresses(u32 at, const u32 field[5]) {
	for (u32 i = 0; i < 5; i++) set(at + 12 + i * 4, 4, field[i]);
}

/* An image at 1 MiB whose header is at its place in the file, with 0x1000 bytes of bss. */
static void make_flat(void) {
	set_header(HEADER_AT, WITH_ADDRESS | 3);
	set_addresses(HEADER_AT, (const u32[]){MiB(1) + HEADER_AT, MiB(1), MiB(1) + IMAGE_SIZE,
					       MiB(1) + IMAGE_SIZE + 0x1000, MiB(1) + 0x900});
}

static void make_elf_header(bool wide, u16 headers) {
	static const u8 magic[] = {0x7f, 'E', 'L', 'F'};

	memcpy(image, magic, sizeof(magic));
	image[4] = wide ? 2 : 1;
	image[5] = image[6] = 1;
	set(16, 2, 2);
	set(18, 2, wide ? 62 : 3);
	set(wide ? ELF_PHOFF_64 : ELF_PHOFF_32, wide ? 8 : 4, PHDR_AT);
	set(wide ? 54 : 42, 2, wide ? 56 : 32);
	set(wide ? 56 : 44, 2, headers);
	set_header(HEADER_AT, 0);
}

struct segment_fields {
	u64 offset, vaddr, paddr, filesz, memsz;
};

static void set_segment(bool wide, u32 i, const struct segment_fields *fields) {
	u32 at = PHDR_AT + i * (wide ? 56 : 32);

	set(at, 4, 1);
	if (wide) {
		set(at + 8, 8, fields->offset);
		set(at + 16, 8, fields->vaddr);
		set(at + 24, 8, fields->paddr);
		set(at + 32, 8, fields->filesz);
		set(at + 40, 8, fields->memsz);
	} else {
		set(at + 4, 4, fields->offset);
		set(at + 8, 4, fields->vaddr);
		set(at + 12, 4, fields->paddr);
		set(at + 16, 4, fields->filesz);
		set(at + 20, 4, fields->memsz);
	}
}

/* Code at 1 MiB that is linked high, data with bss at 2 MiB. */
static void make_elf(bool wide) {
	u64 high = wide ? 0xffffffff80000000 : 0xc0000000;

	make_elf_header(wide, 2);
	set_segment(wide, 0, &(struct segment_fields){0x1000, high + MiB(1), MiB(1), 0x800, 0x800});
	set_segment(wide, 1, &(struct segment_fields){0x2000, high + MiB(2), MiB(2), 0x400, 0x900});
	set(ELF_ENTRY, wide ? 8 : 4, high + MiB(1) + 0x20);
}

static int open_vm(void **state) {
	(void)state;
	for (u32 i = 0; i < sizeof(image); i++) image[i] = (u8)(i * 3 + (i >> 8) + 1);
	memset(image, 0, 0x200);
	memset(module_a, 0xa1, sizeof(module_a));
	memset(module_b, 0xb2, sizeof(module_b));
	load_fixture_open(&fix, 1, MEMORY);
	memset(fix.ram + MiB(1), 0xcc, MEMORY - MiB(1)); /* so that zeroed bytes show */
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

static gpa_t info(void) {
	assert_int_equal(fix.state.gpr[RAX], 0x2badb002);
	return fix.state.gpr[RBX];
}

static u32 info_field(size_t offset) { return guest_u32(&fix, info() + offset); }

#define INFO(field) info_field(offsetof(struct mb1_info, field))

static const char *guest_text(u32 gpa) {
	assert_true(gpa < MEMORY);
	assert_non_null(memchr(fix.ram + gpa, 0, MEMORY - gpa));
	return (const char *)fix.ram + gpa;
}

static bool all_bytes(gpa_t at, u64 size, u8 value) {
	for (u64 i = 0; i < size; i++)
		if (fix.ram[at + i] != value) return false;
	return true;
}

static void test_address_fields(void **state) {
	(void)state;
	make_flat();
	assert_int_equal(run(), 0);
	assert_memory_equal(fix.ram + MiB(1), image, IMAGE_SIZE);
	assert_true(all_bytes(MiB(1) + IMAGE_SIZE, 0x1000, 0));
	assert_int_equal(fix.ram[MiB(1) + IMAGE_SIZE + 0x1000], 0xcc);
	assert_int_equal(fix.state.rip, MiB(1) + 0x900);

	/* The header need not be at the same place in both: the difference is skipped in the file.
	 */
	set_addresses(HEADER_AT,
		      (const u32[]){MiB(2) + 0x10, MiB(2), MiB(2) + 0x100, 0, MiB(2) + 0x20});
	assert_int_equal(run(), 0);
	assert_memory_equal(fix.ram + MiB(2), image + HEADER_AT - 0x10, 0x100);
	assert_int_equal(fix.ram[MiB(2) + 0x100], 0xcc);

	/* No end: the whole rest of the file. */
	set_addresses(HEADER_AT, (const u32[]){MiB(2), MiB(2), 0, 0, MiB(2) + 0x20});
	assert_int_equal(run(), 0);
	assert_memory_equal(fix.ram + MiB(2), image + HEADER_AT, IMAGE_SIZE - HEADER_AT);
}

static void check_elf(bool wide) {
	make_elf(wide);
	assert_int_equal(run(), 0);
	assert_memory_equal(fix.ram + MiB(1), image + 0x1000, 0x800);
	assert_int_equal(fix.ram[MiB(1) + 0x800], 0xcc);
	assert_memory_equal(fix.ram + MiB(2), image + 0x2000, 0x400);
	assert_true(all_bytes(MiB(2) + 0x400, 0x500, 0));
	assert_int_equal(fix.ram[MiB(2) + 0x900], 0xcc);
	assert_int_equal(fix.state.rip, MiB(1) + 0x20); /* entry point translated */

	/* An entry point that is physical already, and a header that loads nothing. */
	set(ELF_ENTRY, wide ? 8 : 4, MiB(2) + 4);
	assert_int_equal(run(), 0);
	assert_int_equal(fix.state.rip, MiB(2) + 4);
	set(PHDR_AT, 4, 6);
	memset(fix.ram + MiB(1), 0xcc, 0x800);
	assert_int_equal(run(), 0);
	assert_int_equal(fix.ram[MiB(1)], 0xcc);
}

static void test_elf32(void **state) {
	(void)state;
	check_elf(false);
}

static void test_elf64(void **state) {
	(void)state;
	check_elf(true);
}

static void test_state_is_flat_protected_mode(void **state) {
	const struct boot_state *boot = &fix.state;

	(void)state;
	make_flat();
	assert_int_equal(run(), 0);
	assert_int_equal(boot->cr0 & 0x80000001, 1);
	assert_int_equal(boot->cr3 | boot->cr4 | boot->efer, 0);
	assert_int_equal(boot->rflags, 2);
	assert_int_equal(boot->seg[SEG_CS].attr, 0xc9b);
	for (enum seg seg = SEG_ES; seg <= SEG_GS; seg++) {
		assert_int_equal(boot->seg[seg].base, 0);
		assert_int_equal(boot->seg[seg].limit, 0xffffffff);
		if (seg != SEG_CS) assert_int_equal(boot->seg[seg].attr, 0xc93);
	}
	/* The descriptors say the same as the selectors. */
	assert_int_equal(guest_u64(&fix, boot->gdt_base + boot->seg[SEG_CS].selector),
			 0x00cf9b000000ffff);
	assert_int_equal(guest_u64(&fix, boot->gdt_base + boot->seg[SEG_DS].selector),
			 0x00cf93000000ffff);
}

static void test_information(void **state) {
	u64 usable = 0, seen = 0;

	(void)state;
	make_flat();
	fix.spec.cmdline = "one two";
	assert_int_equal(run(), 0);
	assert_int_equal(INFO(flags), 0x24d);
	assert_int_equal(INFO(mem_lower), 639);
	assert_int_equal(INFO(mem_upper), (MEMORY - MiB(1)) / 1024);
	assert_string_equal(guest_text(INFO(cmdline)), "image one two");
	assert_string_equal(guest_text(INFO(loader_name)), "Roost");
	assert_int_equal(INFO(mods_count), 0);
	for (gpa_t at = INFO(mmap_addr); seen < INFO(mmap_length); seen += 24, at += 24) {
		assert_int_equal(guest_u32(&fix, at), 20);
		if (guest_u32(&fix, at + 20) == 1) usable += guest_u64(&fix, at + 12);
	}
	assert_int_equal(seen, INFO(mmap_length));
	assert_int_equal(usable, MEMORY - MiB(1) + 0x9fc00);

	fix.spec.cmdline = NULL;
	assert_int_equal(run(), 0);
	assert_string_equal(guest_text(INFO(cmdline)), "image");
}

static void test_modules(void **state) {
	const struct load_module modules[] = {
		{.blob = {.data = module_b, .size = sizeof(module_b), .name = "b"}, .args = "x y"},
		{.blob = {.data = module_b, .size = 0, .name = "empty"}},
	};
	gpa_t mods, start = MiB(1) + IMAGE_SIZE + 0x1000;

	(void)state;
	make_flat();
	fix.spec.initrd =
		(struct blob){.data = module_a, .size = sizeof(module_a), .name = "initrd.img"};
	fix.spec.modules = modules;
	fix.spec.nr_modules = 2;
	assert_int_equal(run(), 0);
	assert_int_equal(INFO(mods_count), 3);
	mods = INFO(mods_addr);
	assert_int_equal(guest_u32(&fix, mods), start);
	assert_int_equal(guest_u32(&fix, mods + 4), start + sizeof(module_a));
	assert_string_equal(guest_text(guest_u32(&fix, mods + 8)), "initrd.img");
	assert_true(all_bytes(start, sizeof(module_a), 0xa1));
	assert_int_equal(guest_u32(&fix, mods + 16), start + 2 * PAGE_SIZE);
	assert_int_equal(guest_u32(&fix, mods + 20), start + 2 * PAGE_SIZE + sizeof(module_b));
	assert_string_equal(guest_text(guest_u32(&fix, mods + 24)), "b x y");
	assert_true(all_bytes(start + 2 * PAGE_SIZE, sizeof(module_b), 0xb2));
	assert_string_equal(guest_text(guest_u32(&fix, mods + 40)), "empty");
	assert_int_equal(guest_u32(&fix, mods + 32), guest_u32(&fix, mods + 36));
}

static void test_module_that_does_not_fit(void **state) {
	struct load_module module = {.blob = {.data = module_a, .name = "big"}};
	u64 room = MEMORY - (MiB(1) + IMAGE_SIZE + 0x1000);

	(void)state;
	make_flat();
	fix.spec.modules = &module;
	fix.spec.nr_modules = 1;
	module.blob.size = room + KiB(2);
	expect(E_NOMEM, "module 'big' of 7154 KiB does not fit: 2 KiB are missing");
	module.blob.size = ~0ul;
	expect(E_NOMEM, "does not fit");
}

static void test_long_strings_are_refused(void **state) {
	struct load_module module = {.blob = {.data = module_a, .size = 1, .name = "m"}};
	char *text = malloc(LOAD_MAX_STRING);

	(void)state;
	make_flat();
	memset(text, 'a', LOAD_MAX_STRING); /* without an end */
	fix.spec.cmdline = text;
	expect(E_RANGE, "the string of 'image' is longer than 4095 characters");
	fix.spec.cmdline = NULL;
	module.args = text;
	fix.spec.modules = &module;
	fix.spec.nr_modules = 1;
	expect(E_RANGE, "the string of 'm' is longer than 4095 characters");
	text[LOAD_MAX_STRING - 3] = '\0'; /* "m " and the end fill it up */
	assert_int_equal(run(), 0);
	assert_int_equal(strlen(guest_text(guest_u32(&fix, INFO(mods_addr) + 8))), 4095);
	free(text);
}

static void test_information_keeps_away_from_a_low_image(void **state) {
	struct load_module module = {.blob = {.data = module_a, .size = 1, .name = "m"}};

	(void)state;
	set_header(HEADER_AT, WITH_ADDRESS);
	set_addresses(HEADER_AT,
		      (const u32[]){0x8000 + HEADER_AT, 0x8000, 0x8000 + IMAGE_SIZE, 0, 0x8000});
	fix.spec.modules = &module;
	fix.spec.nr_modules = 1;
	assert_int_equal(run(), 0);
	assert_memory_equal(fix.ram + 0x8000, image, IMAGE_SIZE);
	assert_int_equal(guest_u32(&fix, INFO(mods_addr)), MiB(1));
	assert_int_equal(info(), MiB(1) + PAGE_SIZE);
	assert_string_equal(guest_text(INFO(cmdline)), "image");

	/* And there must be room for it there. */
	fix.spec.nr_modules = 0;
	set_segment(false, 0, &(struct segment_fields){0x1000, 0x9000, 0x9000, 0x100, 0x100});
	make_elf_header(false, 2);
	set_segment(false, 1,
		    &(struct segment_fields){0x1000, MiB(1), MiB(1), 0x100, MEMORY - MiB(1)});
	set(ELF_ENTRY, 4, 0x9000);
	expect(E_RANGE, "32 bytes of guest memory at 0x800318 are missing");
}

static void test_wrong_headers_are_named(void **state) {
	static const struct {
		u32 flags;
		u32 field[5];
		int error;
		const char *text;
	} cases[] = {
		{WITH_ADDRESS | 8, {0}, E_NOSUPP, "requires unknown features, flags 0x10008"},
		{WITH_ADDRESS | 0x8000, {0}, E_NOSUPP, "requires unknown features"},
		{WITH_ADDRESS,
		 {MiB(1), MiB(1) + 1, 0, 0, MiB(1)},
		 E_FORMAT,
		 "contradict each other"},
		{WITH_ADDRESS,
		 {MiB(1) + HEADER_AT + 1, MiB(1), 0, 0, MiB(1)},
		 E_FORMAT,
		 "contradict each other"},
		{WITH_ADDRESS,
		 {MiB(1), MiB(1), MiB(1), 0, MiB(1)},
		 E_FORMAT,
		 "contradict each other"},
		{WITH_ADDRESS,
		 {MiB(1), MiB(1), MiB(1) + IMAGE_SIZE, 0, MiB(1)},
		 E_TRUNC,
		 "truncated, 12288 bytes at 0x800 are not all there"},
		{WITH_ADDRESS, {MiB(1), MiB(1), ~0u, 0, MiB(1)}, E_TRUNC, "truncated"},
		{WITH_ADDRESS,
		 {MiB(1), MiB(1), MiB(1) + 256, MiB(1) + 255, MiB(1)},
		 E_FORMAT,
		 "its bss ends before it begins"},
		{WITH_ADDRESS,
		 {MiB(1), MiB(1), MiB(1) + 256, MEMORY + 1, MiB(1)},
		 E_RANGE,
		 "segment of 7169 KiB at 0x100000 is not in the VM's memory"},
		{WITH_ADDRESS,
		 {0xf0000, 0xf0000, 0xf0100, 0, 0xf0000},
		 E_RANGE,
		 "at 0xf0000 is not in"},
		{WITH_ADDRESS,
		 {0x9fc00, 0x9fc00, 0x9fc10, 0, 0x9fc00},
		 E_RANGE,
		 "at 0x9fc00 is not in"},
		{WITH_ADDRESS,
		 {0x9fb00, 0x9fb00, 0x9fc01, 0, 0x9fb00},
		 E_RANGE,
		 "at 0x9fb00 is not in"},
		{WITH_ADDRESS, {MEMORY, MEMORY, MEMORY + 1, 0, MEMORY}, E_RANGE, "is not in"},
		{WITH_ADDRESS,
		 {MiB(1), MiB(1), MiB(1) + 256, 0, MiB(1) + 256},
		 E_FORMAT,
		 "entry point 0x100100 is not in its image"},
		{WITH_ADDRESS,
		 {MiB(1), MiB(1), MiB(1) + 256, 0, 0},
		 E_FORMAT,
		 "entry point 0 is not in"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		set_header(HEADER_AT, cases[i].flags);
		set_addresses(HEADER_AT, cases[i].field);
		expect(cases[i].error, cases[i].text);
	}
	set_header(HEADER_AT, 0);
	expect(E_FORMAT, "no x86 ELF executable, and no address fields");
	image[HEADER_AT + 8]++;
	fix.spec.kind = LOAD_MULTIBOOT;
	expect(E_FORMAT, "no multiboot header in its first 8 KiB");
	fix.spec.kind = LOAD_AUTO;
	expect(E_NOSUPP, "neither a Linux bzImage nor a multiboot image");
}

static void test_header_must_be_aligned_and_in_the_first_8_kib(void **state) {
	(void)state;
	make_elf(false);
	memset(image + HEADER_AT, 0, 12);
	set_header(8192 - 12, 0);
	assert_int_equal(run(), 0);
	memset(image + 8192 - 12, 0, 12);
	set_header(8192 - 8, 0);
	expect(E_NOSUPP, "neither");
	set_header(HEADER_AT + 2, 0);
	expect(E_NOSUPP, "neither");
	make_flat();
	memset(image + HEADER_AT, 0, 32);
	set_header(8192 - 12, WITH_ADDRESS);
	expect(E_TRUNC, "truncated inside its multiboot header");
}

static void check_wrong_elf(bool wide) {
	const struct segment_fields good = {0x1000, MiB(1), MiB(1), 0x800, 0x800};
	static const struct {
		struct segment_fields fields;
		int error;
		const char *text;
	} cases[] = {
		{{IMAGE_SIZE, MiB(2), MiB(2), 1, 1}, E_TRUNC, "truncated, 1 bytes at 0x3000"},
		{{0xffffffff, MiB(2), MiB(2), 0x10, 0x10}, E_TRUNC, "truncated"},
		{{0, MiB(2), MiB(2), 0xffffffff, 0xffffffff}, E_TRUNC, "truncated"},
		{{0, MiB(2), MiB(2), 0x10, 0xf}, E_FORMAT, "more bytes in the file than in memory"},
		{{0, MiB(1), MiB(1) + 0x7ff, 1, 1}, E_EXIST, "segments overlap at 0x1007ff"},
		{{0, MiB(1), MiB(1) - 1, 1, 2}, E_RANGE, "is not in the VM's memory"},
		{{0, MiB(2), MEMORY - 1, 1, 2}, E_RANGE, "is not in the VM's memory"},
		{{0, MiB(2), 0xfffffff0, 1, 0x20}, E_RANGE, "is not in the VM's memory"},
	};

	make_elf_header(wide, 2);
	set(ELF_ENTRY, wide ? 8 : 4, MiB(1));
	set_segment(wide, 0, &good);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		set_segment(wide, 1, &cases[i].fields);
		expect(cases[i].error, cases[i].text);
	}
}

static void test_wrong_elf_segments_are_named(void **state) {
	(void)state;
	check_wrong_elf(false);
	check_wrong_elf(true);

	/* Numbers that only 64 bits have: nothing may wrap around. */
	set_segment(true, 1, &(struct segment_fields){~0ul - 1, MiB(2), MiB(2), 4, 4});
	expect(E_TRUNC, "truncated");
	set_segment(true, 1, &(struct segment_fields){0, MiB(2), ~0ul - 1, 4, 4});
	expect(E_RANGE, "is not in the VM's memory");
	set_segment(true, 1, &(struct segment_fields){0, MiB(2), MiB(2), 4, ~0ul});
	expect(E_RANGE, "is not in the VM's memory");
	set_segment(true, 1, &(struct segment_fields){0, MiB(2), GiB(4), 4, 4});
	expect(E_RANGE, "is not in the VM's memory");
	set_segment(true, 1, &(struct segment_fields){0, MiB(2), MiB(2), 4, 4});
	set(ELF_ENTRY, 8, GiB(4) + MiB(1));
	expect(E_FORMAT, "entry point 0x100100000 is not in its image");
}

static void test_wrong_elf_headers(void **state) {
	static const struct {
		u32 at;
		u8 value;
		int error;
	} cases[] = {
		{4, 3, E_FORMAT},    /* class */
		{5, 2, E_FORMAT},    /* big endian */
		{16, 3, E_FORMAT},   /* shared object */
		{18, 40, E_FORMAT},  /* ARM */
		{18, 62, E_FORMAT},  /* AMD64 in a 32-bit file */
		{42, 31, E_FORMAT},  /* program headers too small */
		{45, 0xff, E_TRUNC}, /* 65282 of them */
		{31, 0x80, E_TRUNC}, /* far away */
	};
	static u8 good[IMAGE_SIZE];

	(void)state;
	make_elf(false);
	memcpy(good, image, sizeof(good));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		memcpy(image, good, sizeof(image));
		image[cases[i].at] = cases[i].value;
		expect(cases[i].error, cases[i].error == E_TRUNC
					       ? "truncated inside its ELF headers"
					       : "no x86 ELF executable");
	}
	/* Nothing to load. */
	memcpy(image, good, sizeof(image));
	set(44, 2, 0);
	expect(E_FORMAT, "is not in its image");
}

static void test_number_of_segments_is_bounded(void **state) {
	const u32 most = 64;

	(void)state;
	memset(image, 0, sizeof(image));
	make_elf_header(false, (u16)(most + 1));
	set_header(PHDR_AT + (most + 1) * 32, 0);
	set(ELF_ENTRY, 4, MiB(1));
	for (u32 i = 0; i <= most; i++)
		set_segment(false, i,
			    &(struct segment_fields){0, 0, MiB(1) + i * PAGE_SIZE, 16, PAGE_SIZE});
	expect(E_NOSUPP, "more than 64 segments");
	set(44, 2, most);
	assert_int_equal(run(), 0);
}

static void test_truncated_at_every_length(void **state) {
	(void)state;
	fix.spec.kind = LOAD_MULTIBOOT;
	make_elf(true);
	for (u64 size = 1; size < 0x2400; size += size < 0x900 ? 1 : 61)
		assert_true(load_fixture_run(&fix, image, size) < 0);
	assert_int_equal(load_fixture_run(&fix, image, 0x2400), 0);
	make_flat();
	for (u64 size = 1; size < IMAGE_SIZE; size += size < 0x900 ? 1 : 61)
		assert_true(load_fixture_run(&fix, image, size) < 0);
}

static void test_random_images_do_no_harm(void **state) {
	static u8 good[IMAGE_SIZE];
	u64 seed = 0xb00b5eed;
	u32 loaded = 0;

	(void)state;
	for (u32 round = 0; round < 6000; round++) {
		u32 changes = 1 + fuzz_next(&seed) % 4;

		if (round % 2000 == 0) {
			memset(image, 0, 0x900);
			if (round == 4000)
				make_flat();
			else
				make_elf(round == 2000);
			memcpy(good, image, sizeof(good));
		}
		memcpy(image, good, 0x900);
		while (changes--) {
			static const u32 area[] = {0, PHDR_AT, HEADER_AT + 12};

			image[area[fuzz_next(&seed) % 3] + fuzz_next(&seed) % 0x70] =
				(u8)fuzz_next(&seed);
		}
		if (!run()) {
			loaded++;
			assert_true(fix.state.rip < MEMORY);
			assert_string_equal(guest_text(INFO(cmdline)), "image");
		}
	}
	assert_true(loaded > 100);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_vm, close_vm)

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_address_fields),
		TEST(test_elf32),
		TEST(test_elf64),
		TEST(test_state_is_flat_protected_mode),
		TEST(test_information),
		TEST(test_modules),
		TEST(test_module_that_does_not_fit),
		TEST(test_long_strings_are_refused),
		TEST(test_information_keeps_away_from_a_low_image),
		TEST(test_wrong_headers_are_named),
		TEST(test_header_must_be_aligned_and_in_the_first_8_kib),
		TEST(test_wrong_elf_segments_are_named),
		TEST(test_wrong_elf_headers),
		TEST(test_number_of_segments_is_bounded),
		TEST(test_truncated_at_every_length),
		TEST(test_random_images_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
