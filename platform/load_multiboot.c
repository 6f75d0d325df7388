/*
 * Multiboot 1 (Multiboot Specification 0.6.96), as a boot loader. ELF64 without address fields is
 * an extension: it is entered in 32-bit mode too, so its entry point must lie below 4 GiB. Modules
 * follow the image. The information goes to INFO_ADDRESS in low memory unless some of the image is
 * there; then it follows the last module.
 */
#include "platform/load.h"

#include "boot/multiboot.h"
#include "lib/printf.h"
#include "platform/layout.h"

#define HEADER_SEARCH	 8192u
#define HEADER_MAGIC	 0x1badb002u
#define HEADER_ADDRESSES 0x00010000u
#define HEADER_REQUIRED	 0x0000ffffu
#define HEADER_KNOWN	 0x00000007u /* page-aligned modules, memory information, video mode */

#define INFO_ADDRESS	 0x9000ul
#define MAX_SEGMENTS	 64u

struct mb1_header {
	u32 magic, flags, checksum;
	u32 header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
} __packed;

#define HEADER_MIN offsetof(struct mb1_header, header_addr)

/* A loadable segment, as the file says it: nothing of it is checked. */
struct elf_segment {
	u64 offset, vaddr, paddr, file_size, memory_size;
};

/* What was loaded; vaddr plays no part. One load at a time; too large for a stack. */
static struct {
	u32 nr_segments;
	struct elf_segment segment[MAX_SEGMENTS];
	gpa_t start, end; /* of all segments, and modules; end is at least LAYOUT_HIGH_LOAD */
	gpa_t entry;
} image;

/* The information and what it points to, but for the GDT and the strings, which follow. */
static struct info_block {
	struct mb1_info info;
	struct mb1_mmap mmap[LAYOUT_MAX_MAP];
	struct mb1_module modules[LOAD_MAX_MODULES + 1];
} __packed block;

/* The offset of the header, or a negative error. */
static int find_header(const struct blob *kernel, struct mb1_header *header) {
	u64 limit = min_u64(kernel->size, HEADER_SEARCH);

	for (u64 at = 0; at + HEADER_MIN <= limit; at += 4) {
		memcpy(header, kernel->data + at, HEADER_MIN);
		if (header->magic != HEADER_MAGIC ||
		    header->magic + header->flags + header->checksum != 0)
			continue;
		if (!(header->flags & HEADER_ADDRESSES)) return (int)at;
		if (at + sizeof(*header) > limit) return E_TRUNC;
		memcpy(header, kernel->data + at, sizeof(*header));
		return (int)at;
	}
	return E_FORMAT;
}

bool multiboot_detect(const struct blob *kernel) {
	struct mb1_header header;

	return find_header(kernel, &header) != E_FORMAT;
}

/* Only RAM that the memory map gives to the image may be loaded to. */
static bool is_free_ram(const struct load_target *to, gpa_t address, u64 size) {
	if (address < LAYOUT_EBDA) return range_within(address, size, LAYOUT_EBDA);
	return address >= LAYOUT_HIGH_LOAD && range_within(address, size, to->low_end);
}

/* Checks a segment against the file, guest memory and those before it, and loads it. */
static int add_segment(const struct load_target *to, const struct elf_segment *segment) {
	const struct blob *kernel = &to->spec->kernel;
	gpa_t end = segment->paddr + segment->memory_size;

	if (!segment->memory_size) return 0;
	if (!range_within(segment->offset, segment->file_size, kernel->size))
		return load_fail(to, E_TRUNC, "truncated, %lu bytes at %#lx are not all there",
				 segment->file_size, segment->offset);
	if (segment->file_size > segment->memory_size)
		return load_fail(to, E_FORMAT,
				 "segment at %#lx has more bytes in the file than in memory",
				 segment->paddr);
	if (!is_free_ram(to, segment->paddr, segment->memory_size))
		return load_fail(to, E_RANGE,
				 "segment of %lu KiB at %#lx is not in the VM's memory",
				 load_kib(segment->memory_size), segment->paddr);
	for (u32 i = 0; i < image.nr_segments; i++) {
		const struct elf_segment *other = &image.segment[i];

		if (segment->paddr < other->paddr + other->memory_size && other->paddr < end)
			return load_fail(to, E_EXIST, "segments overlap at %#lx",
					 max_u64(segment->paddr, other->paddr));
	}
	if (image.nr_segments == MAX_SEGMENTS)
		return load_fail(to, E_NOSUPP, "more than %u segments", MAX_SEGMENTS);
	image.start = min_u64(image.start, segment->paddr);
	image.end = max_u64(image.end, end);
	image.segment[image.nr_segments++] = *segment;
	return load_write(to, segment->paddr, kernel->data + segment->offset, segment->file_size)
		       ?: load_write(to, segment->paddr + segment->file_size, NULL,
				     segment->memory_size - segment->file_size);
}

/* The a.out way: the header says where it is itself, and the rest follows (specification 3.1.3). */
static int read_addresses(const struct load_target *to, const struct mb1_header *header,
			  u64 header_offset) {
	u64 before = (u64)header->header_addr - header->load_addr;
	struct elf_segment segment = {.offset = header_offset - before, .paddr = header->load_addr};

	if (header->load_addr > header->header_addr || before > header_offset ||
	    (header->load_end_addr && header->load_end_addr <= header->load_addr))
		return load_fail(to, E_FORMAT,
				 "address fields of its multiboot header contradict each other");
	segment.file_size = header->load_end_addr ? header->load_end_addr - header->load_addr
						  : to->spec->kernel.size - segment.offset;
	segment.memory_size = segment.file_size;
	if (header->bss_end_addr) {
		if (header->bss_end_addr < segment.paddr + segment.file_size)
			return load_fail(to, E_FORMAT, "its bss ends before it begins, at %#x",
					 header->bss_end_addr);
		segment.memory_size = header->bss_end_addr - segment.paddr;
	}
	image.entry = header->entry_addr;
	return add_segment(to, &segment);
}

/* ---- ELF of both classes (System V ABI, chapters 4 and 5) ---- */

#define ELF_MAGIC     0x464c457f /* "\x7fELF" */
#define LITTLE_ENDIAN 1
#define TYPE_EXEC     2
#define PT_LOAD	      1

/* Offsets in the file header. */
#define E_CLASS	  4
#define E_DATA	  5
#define E_TYPE	  16
#define E_MACHINE 18
#define E_ENTRY	  24 /* then e_phoff and e_shoff, an address each */

/* What the class decides: sizes, and where e_phentsize and behind it e_phnum lie. */
static const struct elf_class {
	u8 word_size, machine, header_size, phentsize, program_size;
} classes[] = {
	[1] = {4, 3 /* EM_386 */, 52, 42, 32},
	[2] = {8, 62 /* EM_X86_64 */, 64, 54, 56},
};

/* E_FORMAT: no little-endian x86 executable; E_TRUNC: its header is missing. */
static int elf_class(const u8 *data, u64 size, const struct elf_class **out) {
	if (size < E_ENTRY) return E_TRUNC;
	const struct elf_class *class =
		data[E_CLASS] < ARRAY_SIZE(classes) ? &classes[data[E_CLASS]] : &classes[0];
	if (load_field(data, 4) != ELF_MAGIC || data[E_DATA] != LITTLE_ENDIAN ||
	    load_field(data + E_TYPE, 2) != TYPE_EXEC ||
	    load_field(data + E_MACHINE, 2) != class->machine || !class->word_size)
		return E_FORMAT;
	*out = class;
	return size < class->header_size ? E_TRUNC : 0;
}

/* One program header: behind p_type, and p_flags that fill up to an address's width. */
static int load_program(const struct load_target *to, const u8 *at, u32 word, u64 entry) {
	struct elf_segment segment = {load_field(at + word, word), load_field(at + 2 * word, word),
				      load_field(at + 3 * word, word),
				      load_field(at + 4 * word, word),
				      load_field(at + 5 * word, word)};

	if (load_field(at, 4) != PT_LOAD) return 0;
	/* e_entry is a virtual address where a segment's virtual addresses contain it. */
	if (entry - segment.vaddr < segment.memory_size)
		image.entry = segment.paddr + (entry - segment.vaddr);
	return add_segment(to, &segment);
}

static int read_elf(const struct load_target *to) {
	const u8 *data = to->spec->kernel.data;
	u64 size = to->spec->kernel.size, headers, step, count;
	const struct elf_class *class;
	int rc = elf_class(data, size, &class);

	if (!rc) {
		image.entry = load_field(data + E_ENTRY, class->word_size);
		headers = load_field(data + E_ENTRY + class->word_size, class->word_size);
		step = load_field(data + class->phentsize, 2);
		count = load_field(data + class->phentsize + 2, 2);
		if (step < class->program_size)
			rc = E_FORMAT;
		else if (!range_within(headers, count * step, size))
			rc = E_TRUNC;
	}
	if (rc)
		return load_fail(to, rc,
				 rc == E_TRUNC ? "truncated inside its ELF headers"
					       : "no x86 ELF executable, and no address fields");
	u64 entry = image.entry;
	for (u64 i = 0; !rc && i < count; i++)
		rc = load_program(to, data + headers + i * step, class->word_size, entry);
	return rc;
}

static int check_entry(const struct load_target *to) {
	for (u32 i = 0; i < image.nr_segments; i++)
		if (image.entry - image.segment[i].paddr < image.segment[i].memory_size) return 0;
	return load_fail(to, E_FORMAT, "entry point %#lx is not in its image", image.entry);
}

static int load_image(const struct load_target *to) {
	struct mb1_header header;
	int offset = find_header(&to->spec->kernel, &header), rc;

	if (offset == E_TRUNC)
		return load_fail(to, E_TRUNC, "truncated inside its multiboot header");
	if (offset < 0) return load_fail(to, E_FORMAT, "no multiboot header in its first 8 KiB");
	if (header.flags & HEADER_REQUIRED & ~HEADER_KNOWN)
		return load_fail(to, E_NOSUPP,
				 "its multiboot header requires unknown features, flags %#x",
				 header.flags);
	image.nr_segments = 0;
	image.start = ~0ul;
	image.end = LAYOUT_HIGH_LOAD;
	rc = header.flags & HEADER_ADDRESSES ? read_addresses(to, &header, (u64)offset)
					     : read_elf(to);
	return rc ?: check_entry(to);
}

/* Module i as the guest sees them: the initrd, if there is one, comes first. */
static struct load_module get_module(const struct load_spec *spec, u32 i) {
	if (!spec->initrd.data) return spec->modules[i];
	return i ? spec->modules[i - 1] : (struct load_module){.blob = spec->initrd};
}

/* Puts the modules behind the image, each at a page's start, and enters them in the block. */
static int load_modules(const struct load_target *to) {
	const struct load_spec *spec = to->spec;
	u32 count = spec->nr_modules + (spec->initrd.data ? 1 : 0);
	int rc = 0;

	block.info.mods_count = count;
	for (u32 i = 0; !rc && i < count; i++) {
		struct load_module module = get_module(spec, i);
		gpa_t start = align_up(image.end, PAGE_SIZE);

		image.end = start + module.blob.size;
		block.modules[i] = (struct mb1_module){.start = (u32)start, .end = (u32)image.end};
		rc = load_check_room(to, "module", &module.blob,
				     to->low_end > start ? to->low_end - start : 0)
			     ?: load_write(to, start, module.blob.data, module.blob.size);
	}
	return rc;
}

/* Writes "name args" with its final 0 to *at, which moves past it. */
static int write_string(const struct load_target *to, gpa_t *at, const char *name,
			const char *args) {
	static char text[LOAD_MAX_STRING];
	gpa_t gpa = *at;
	int length;

	if (!args) args = "";
	length = snprintf(text, sizeof(text), "%.*s%s%.*s", LOAD_MAX_STRING, name, *args ? " " : "",
			  LOAD_MAX_STRING, args);
	if (length >= LOAD_MAX_STRING)
		return load_fail(to, E_RANGE, "the string of '%s' is longer than %u characters",
				 name, LOAD_MAX_STRING - 1);
	*at += (u32)length + 1;
	return load_write(to, gpa, text, (u32)length + 1);
}

static int write_strings(const struct load_target *to, gpa_t at) {
	const struct load_spec *spec = to->spec;

	block.info.loader_name = (u32)at;
	int rc = write_string(to, &at, "Roost", NULL);
	block.info.cmdline = (u32)at;
	rc = rc ?: write_string(to, &at, spec->kernel.name, spec->cmdline);
	for (u32 i = 0; !rc && i < block.info.mods_count; i++) {
		struct load_module module = get_module(spec, i);

		block.modules[i].string = (u32)at;
		rc = write_string(to, &at, module.blob.name, module.args);
	}
	return rc;
}

/* All of the block that does not depend on modules and strings, for its place in the guest. */
static void fill_block(const struct load_target *to, gpa_t at) {
	struct guest_range map[LAYOUT_MAX_MAP];
	u32 count = layout_map(to->memory, map);

	block.info.flags =
		MB1_HAS_MEM | MB1_HAS_CMDLINE | MB1_HAS_MODULES | MB1_HAS_MMAP | MB1_HAS_LOADER;
	block.info.mem_lower = LAYOUT_EBDA >> 10;
	block.info.mem_upper = (u32)((to->low_end - LAYOUT_HIGH_LOAD) >> 10);
	block.info.mods_addr = (u32)(at + offsetof(struct info_block, modules));
	block.info.mmap_addr = (u32)(at + offsetof(struct info_block, mmap));
	block.info.mmap_length = count * (u32)sizeof(struct mb1_mmap);
	for (u32 i = 0; i < count; i++)
		block.mmap[i] = (struct mb1_mmap){sizeof(struct mb1_mmap) - sizeof(u32),
						  map[i].base, map[i].size, map[i].type};
}

int multiboot_load(const struct load_target *to) {
	gpa_t info = INFO_ADDRESS, gdt;

	memset(&block, 0, sizeof(block));
	int rc = load_image(to) ?: load_modules(to);
	if (rc) return rc;
	if (image.start < LAYOUT_EBDA) info = align_up(image.end, PAGE_SIZE);
	fill_block(to, info);
	/* The specification promises no GDT (3.2), but there are kernels that rely on one. */
	gdt = align_up(info + sizeof(block), 8);
	rc = load_flat_state(to, gdt, LOAD_CODE_32) ?:
	     write_strings(to, gdt + LOAD_GDT_SIZE) ?:
	     load_write(to, info, &block, sizeof(block));
	to->state->gpr[RAX] = MB1_BOOT_MAGIC;
	to->state->gpr[RBX] = info;
	to->state->rip = image.entry;
	return rc;
}
