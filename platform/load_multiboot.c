/*
 * Multiboot 1 (Multiboot Specification 0.6.96), as a boot loader: reads the header, loads the image
 * by its address fields or as ELF32 or ELF64, places modules and information, and enters it in
 * 32-bit protected mode.
 *
 * An ELF64 image without address fields is an extension: it is loaded by its program headers and
 * entered in 32-bit mode too, so its entry point must lie below 4 GiB.
 *
 * Modules follow the image, each at a page's start. The information goes to INFO_ADDRESS in low
 * memory unless the image lies there; then it follows the last module.
 */
#include "platform/load_multiboot.h"

#include "boot/multiboot.h"
#include "lib/error.h"
#include "lib/string.h"
#include "platform/elf.h"
#include "platform/layout.h"

#define HEADER_SEARCH	 8192u
#define HEADER_MAGIC	 0x1badb002u
#define HEADER_ADDRESSES 0x00010000u
#define HEADER_REQUIRED	 0x0000ffffu
#define HEADER_KNOWN	 0x00000007u /* page-aligned modules, memory information, video mode */

#define INFO_ADDRESS	 0x9000ul
#define LOADER_NAME	 "Roost"
#define MAX_SEGMENTS	 64u
#define CODE_SELECTOR	 0x08
#define DATA_SELECTOR	 0x10

struct mb1_header {
	u32 magic, flags, checksum;
	u32 header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
} __packed;

#define HEADER_MIN offsetof(struct mb1_header, header_addr)

/* A piece of the image: size bytes from the file, then zeros up to memory_size. */
struct piece {
	u64 offset, size;
	gpa_t address;
	u64 memory_size;
};

struct mb_image {
	u32 nr_pieces;
	struct piece piece[MAX_SEGMENTS];
	gpa_t start, end; /* of all pieces */
	gpa_t entry;
};

/* Where modules and information go. */
struct mb_layout {
	gpa_t module[LOAD_MAX_MODULES + 1];
	u32 nr_modules;
	gpa_t info; /* struct mb1_info, then what the others point to */
	gpa_t gdt, mmap, mods, strings;
};

/* One load at a time; too large for a stack. */
static struct mb_image image;

/* The offset of the header, or a negative error. */
static int find_header(const struct blob *kernel, struct mb1_header *header) {
	u64 limit = min_u64(kernel->size, HEADER_SEARCH);

	for (u64 at = 0; at + HEADER_MIN <= limit; at += 4) {
		memcpy(header, kernel->data + at, HEADER_MIN);
		if (header->magic != HEADER_MAGIC ||
		    header->magic + header->flags + header->checksum != 0)
			continue;
		if (!(header->flags & HEADER_ADDRESSES))
			return (int)at;
		if (at + sizeof(*header) > limit)
			return E_TRUNC;
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
	if (address < LAYOUT_EBDA)
		return range_within(address, size, LAYOUT_EBDA);
	return address >= LAYOUT_HIGH_LOAD && range_within(address, size, to->low_end);
}

/* Checks a piece against the file, guest memory and the pieces before it, and takes it in. */
static int add_piece(const struct load_target *to, const struct piece *piece) {
	const struct blob *kernel = &to->spec->kernel;

	if (!piece->memory_size)
		return 0;
	if (!range_within(piece->offset, piece->size, kernel->size))
		return load_fail(to->err, E_TRUNC,
				 "kernel '%s': truncated, %lu bytes at %#lx are not all there",
				 kernel->name, piece->size, piece->offset);
	if (piece->size > piece->memory_size)
		return load_fail(
			to->err, E_FORMAT,
			"kernel '%s': segment at %#lx has more bytes in the file than in memory",
			kernel->name, piece->address);
	if (!is_free_ram(to, piece->address, piece->memory_size))
		return load_fail(
			to->err, E_RANGE,
			"kernel '%s': segment of %lu KiB at %#lx is not in the VM's memory",
			kernel->name, (piece->memory_size + 1023) >> 10, piece->address);
	for (u32 i = 0; i < image.nr_pieces; i++) {
		const struct piece *other = &image.piece[i];

		if (piece->address < other->address + other->memory_size &&
		    other->address < piece->address + piece->memory_size)
			return load_fail(to->err, E_EXIST, "kernel '%s': segments overlap at %#lx",
					 kernel->name, max_u64(piece->address, other->address));
	}
	if (image.nr_pieces == MAX_SEGMENTS)
		return load_fail(to->err, E_NOSUPP, "kernel '%s': more than %u segments",
				 kernel->name, MAX_SEGMENTS);
	image.start = min_u64(image.start, piece->address);
	image.end = max_u64(image.end, piece->address + piece->memory_size);
	image.piece[image.nr_pieces++] = *piece;
	return 0;
}

/* The a.out way: the header says where it is itself, and the rest follows (specification 3.1.3). */
static int read_addresses(const struct load_target *to, const struct mb1_header *header,
			  u64 header_offset) {
	const struct blob *kernel = &to->spec->kernel;
	u64 before = (u64)header->header_addr - header->load_addr;
	struct piece piece = {.address = header->load_addr};

	if (header->load_addr > header->header_addr || before > header_offset ||
	    (header->load_end_addr && header->load_end_addr <= header->load_addr))
		return load_fail(
			to->err, E_FORMAT,
			"kernel '%s': address fields of its multiboot header contradict each other",
			kernel->name);
	piece.offset = header_offset - before;
	piece.size = header->load_end_addr ? header->load_end_addr - header->load_addr
					   : kernel->size - piece.offset;
	piece.memory_size = piece.size;
	if (header->bss_end_addr) {
		if (header->bss_end_addr < piece.address + piece.size)
			return load_fail(to->err, E_FORMAT,
					 "kernel '%s': its bss ends before it begins, at %#x",
					 kernel->name, header->bss_end_addr);
		piece.memory_size = header->bss_end_addr - piece.address;
	}
	image.entry = header->entry_addr;
	return add_piece(to, &piece);
}

static int read_elf(const struct load_target *to) {
	const struct blob *kernel = &to->spec->kernel;
	struct elf_image elf;
	struct elf_segment segment;
	int rc = elf_open(kernel->data, kernel->size, &elf);

	if (rc)
		return load_fail(to->err, rc, "kernel '%s': %s", kernel->name,
				 rc == E_TRUNC ? "truncated inside its ELF headers"
					       : "no x86 ELF executable, and no address fields");
	image.entry = elf.entry;
	for (u32 i = 0; i < elf.nr_headers; i++) {
		if (!elf_segment(&elf, i, &segment))
			continue;
		rc = add_piece(to, &(struct piece){segment.offset, segment.file_size, segment.paddr,
						   segment.memory_size});
		if (rc)
			return rc;
		/* e_entry is a virtual address where a segment's virtual addresses contain it. */
		if (elf.entry >= segment.vaddr && elf.entry - segment.vaddr < segment.memory_size)
			image.entry = segment.paddr + (elf.entry - segment.vaddr);
	}
	return 0;
}

static int check_image(const struct load_target *to) {
	for (u32 i = 0; i < image.nr_pieces; i++) {
		const struct piece *piece = &image.piece[i];

		if (image.entry >= piece->address &&
		    image.entry - piece->address < piece->memory_size)
			return 0;
	}
	return load_fail(to->err, E_FORMAT, "kernel '%s': entry point %#lx is not in its image",
			 to->spec->kernel.name, image.entry);
}

static int read_image(const struct load_target *to) {
	const char *name = to->spec->kernel.name;
	struct mb1_header header;
	int offset = find_header(&to->spec->kernel, &header), rc;

	if (offset == E_TRUNC)
		return load_fail(to->err, E_TRUNC,
				 "kernel '%s': truncated inside its multiboot header", name);
	if (offset < 0)
		return load_fail(to->err, E_FORMAT,
				 "kernel '%s': no multiboot header in its first 8 KiB", name);
	if (header.flags & HEADER_REQUIRED & ~HEADER_KNOWN)
		return load_fail(
			to->err, E_NOSUPP,
			"kernel '%s': its multiboot header requires unknown features, flags %#x",
			name, header.flags);
	image = (struct mb_image){.start = ~0ul};
	rc = header.flags & HEADER_ADDRESSES ? read_addresses(to, &header, (u64)offset)
					     : read_elf(to);
	return rc ? rc : check_image(to);
}

/* Module i as the guest sees them: the initrd, if there is one, comes first. */
static struct load_module get_module(const struct load_spec *spec, u32 i) {
	if (spec->initrd.data) {
		if (i == 0)
			return (struct load_module){.blob = spec->initrd};
		i--;
	}
	return spec->modules[i];
}

static u64 string_size(const char *name, const char *args) {
	u64 length = load_string_length(args);

	return load_string_length(name) + (length ? 1 + length : 0) + 1;
}

static int place_modules(const struct load_target *to, struct mb_layout *layout, gpa_t *cursor) {
	const struct load_spec *spec = to->spec;

	layout->nr_modules = spec->nr_modules + (spec->initrd.data ? 1 : 0);
	for (u32 i = 0; i < layout->nr_modules; i++) {
		struct load_module module = get_module(spec, i);
		gpa_t start = align_up(*cursor, PAGE_SIZE);
		u64 room = to->low_end > start ? to->low_end - start : 0;

		if (string_size(module.blob.name, module.args) > LOAD_MAX_STRING)
			return load_fail(to->err, E_RANGE,
					 "module '%s': its string is longer than %u characters",
					 module.blob.name, LOAD_MAX_STRING - 1);
		if (module.blob.size > room)
			return load_fail(to->err, E_NOMEM,
					 "module '%s' of %lu KiB does not fit: %lu KiB are missing",
					 module.blob.name, (module.blob.size + 1023) >> 10,
					 (module.blob.size - room + 1023) >> 10);
		layout->module[i] = start;
		*cursor = start + module.blob.size;
	}
	return 0;
}

/* The information and all it points to is one block: structure, GDT, map, modules, strings. */
static int place_info(const struct load_target *to, struct mb_layout *layout, gpa_t cursor) {
	const struct load_spec *spec = to->spec;
	u64 gdt = align_up(sizeof(struct mb1_info), 8);
	u64 mmap = gdt + 3 * 8;
	u64 mods = mmap + LAYOUT_MAX_MAP * sizeof(struct mb1_mmap);
	u64 strings = mods + layout->nr_modules * sizeof(struct mb1_module);
	u64 size = strings + sizeof(LOADER_NAME) + string_size(spec->kernel.name, spec->cmdline);

	for (u32 i = 0; i < layout->nr_modules; i++) {
		struct load_module module = get_module(spec, i);

		size += string_size(module.blob.name, module.args);
	}
	layout->info = INFO_ADDRESS;
	if (image.start < INFO_ADDRESS + size && image.end > INFO_ADDRESS) {
		layout->info = align_up(cursor, PAGE_SIZE);
		if (layout->info > to->low_end || size > to->low_end - layout->info)
			return load_fail(to->err, E_NOMEM,
					 "kernel '%s': no room for its boot information",
					 spec->kernel.name);
	}
	layout->gdt = layout->info + gdt;
	layout->mmap = layout->info + mmap;
	layout->mods = layout->info + mods;
	layout->strings = layout->info + strings;
	return 0;
}

static int write_image(const struct load_target *to) {
	int rc = 0;

	for (u32 i = 0; !rc && i < image.nr_pieces; i++) {
		const struct piece *piece = &image.piece[i];

		rc = load_write(to, piece->address, to->spec->kernel.data + piece->offset,
				piece->size);
		if (!rc)
			rc = load_zero(to, piece->address + piece->size,
				       piece->memory_size - piece->size);
	}
	return rc;
}

/* "name args" with its final 0 at *at, which moves past it. */
static int write_string(const struct load_target *to, gpa_t *at, const char *name,
			const char *args) {
	u64 length = load_string_length(name), args_length = load_string_length(args);
	int rc = load_write(to, *at, name, length);

	*at += length;
	if (!rc && args_length) {
		rc = load_write(to, *at, " ", 1);
		if (!rc)
			rc = load_write(to, *at + 1, args, args_length);
		*at += 1 + args_length;
	}
	if (!rc)
		rc = load_zero(to, *at, 1);
	*at += 1;
	return rc;
}

static int write_modules(const struct load_target *to, const struct mb_layout *layout,
			 gpa_t *strings) {
	int rc = 0;

	for (u32 i = 0; !rc && i < layout->nr_modules; i++) {
		struct load_module module = get_module(to->spec, i);
		gpa_t start = layout->module[i];
		struct mb1_module entry = {(u32)start, (u32)(start + module.blob.size),
					   (u32)*strings, 0};

		rc = load_write(to, start, module.blob.data, module.blob.size);
		if (!rc)
			rc = load_write(to, layout->mods + i * sizeof(entry), &entry,
					sizeof(entry));
		if (!rc)
			rc = write_string(to, strings, module.blob.name, module.args);
	}
	return rc;
}

static int write_map(const struct load_target *to, const struct mb_layout *layout, u32 *length) {
	struct guest_range map[LAYOUT_MAX_MAP];
	struct mb1_mmap entry[LAYOUT_MAX_MAP];
	u32 count = layout_map(to->memory, map);

	for (u32 i = 0; i < count; i++)
		entry[i] = (struct mb1_mmap){sizeof(entry[i]) - sizeof(entry[i].size), map[i].base,
					     map[i].size, map[i].type};
	*length = count * (u32)sizeof(entry[0]);
	return load_write(to, layout->mmap, entry, *length);
}

static int write_info(const struct load_target *to, const struct mb_layout *layout) {
	const struct load_spec *spec = to->spec;
	gpa_t strings = layout->strings;
	struct mb1_info info = {
		.flags = MB1_HAS_MEM | MB1_HAS_CMDLINE | MB1_HAS_MODULES | MB1_HAS_MMAP |
			 MB1_HAS_LOADER,
		.mem_lower = LAYOUT_EBDA >> 10,
		.mem_upper = (u32)((to->low_end - LAYOUT_HIGH_LOAD) >> 10),
		.mods_count = layout->nr_modules,
		.mods_addr = (u32)layout->mods,
		.mmap_addr = (u32)layout->mmap,
		.loader_name = (u32)layout->strings,
	};
	u32 map_length = 0;
	int rc = write_map(to, layout, &map_length);

	info.mmap_length = map_length;
	if (!rc)
		rc = write_string(to, &strings, LOADER_NAME, NULL);
	info.cmdline = (u32)strings;
	if (!rc)
		rc = write_string(to, &strings, spec->kernel.name, spec->cmdline);
	if (!rc)
		rc = write_modules(to, layout, &strings);
	if (!rc)
		rc = load_write(to, layout->info, &info, sizeof(info));
	return rc;
}

/* The specification promises no GDT (3.2), but there are kernels that rely on one. */
static int write_gdt(const struct load_target *to, const struct mb_layout *layout) {
	/* Null, 32-bit code, data (APM 2 4.7). */
	static const u64 gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};

	to->state->gdtr = (struct boot_table){.base = layout->gdt, .limit = sizeof(gdt) - 1};
	return load_write(to, layout->gdt, gdt, sizeof(gdt));
}

int multiboot_load(const struct load_target *to) {
	const struct load_spec *spec = to->spec;
	struct mb_layout layout = {0};
	gpa_t cursor;
	int rc = read_image(to);

	if (rc)
		return rc;
	if (string_size(spec->kernel.name, spec->cmdline) > LOAD_MAX_STRING)
		return load_fail(to->err, E_RANGE,
				 "command line of kernel '%s' is longer than %u characters",
				 spec->kernel.name, LOAD_MAX_STRING - 1);
	cursor = max_u64(image.end, LAYOUT_HIGH_LOAD);
	rc = place_modules(to, &layout, &cursor);
	if (!rc)
		rc = place_info(to, &layout, cursor);
	if (rc)
		return rc;

	load_flat_state(to->state, CODE_SELECTOR, DATA_SELECTOR);
	rc = write_gdt(to, &layout);
	if (!rc)
		rc = write_image(to);
	if (!rc)
		rc = write_info(to, &layout);
	to->state->gpr[RAX] = MB1_BOOT_MAGIC;
	to->state->gpr[RBX] = layout.info;
	to->state->rip = image.entry;
	return rc;
}
