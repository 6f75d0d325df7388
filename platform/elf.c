/* The headers of both ELF classes differ in the width of addresses, and what follows from it. */
#include "platform/elf.h"

#include "platform/load.h"

#define MAGIC	      0x464c457f /* "\x7fELF" */
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

int elf_open(const u8 *data, u64 size, struct elf_image *elf) {
	if (size < E_ENTRY) return E_TRUNC;
	const struct elf_class *class =
		data[E_CLASS] < ARRAY_SIZE(classes) ? &classes[data[E_CLASS]] : &classes[0];
	if (load_field(data, 4) != MAGIC || data[E_DATA] != LITTLE_ENDIAN ||
	    load_field(data + E_TYPE, 2) != TYPE_EXEC ||
	    load_field(data + E_MACHINE, 2) != class->machine || !class->word_size)
		return E_FORMAT;
	if (size < class->header_size) return E_TRUNC;
	u64 offset = load_field(data + E_ENTRY + class->word_size, class->word_size);
	*elf = (struct elf_image){
		.entry = load_field(data + E_ENTRY, class->word_size),
		.header_size = (u32)load_field(data + class->phentsize, 2),
		.nr_headers = (u32)load_field(data + class->phentsize + 2, 2),
		.word_size = class->word_size,
	};
	if (elf->header_size < class->program_size) return E_FORMAT;
	if (!range_within(offset, (u64)elf->nr_headers * elf->header_size, size)) return E_TRUNC;
	elf->headers = data + offset;
	return 0;
}

bool elf_segment(const struct elf_image *elf, u32 index, struct elf_segment *out) {
	const u8 *at = elf->headers + (u64)index * elf->header_size;
	u32 size = elf->word_size;

	/* Behind p_type, and p_flags that fill up to an address's width. */
	*out = (struct elf_segment){load_field(at + size, size), load_field(at + 2 * size, size),
				    load_field(at + 3 * size, size),
				    load_field(at + 4 * size, size),
				    load_field(at + 5 * size, size)};
	return load_field(at, 4) == PT_LOAD;
}
