/* Reader of x86 ELF executables. */
#include "platform/elf.h"

#include "lib/error.h"
#include "lib/string.h"

#define CLASS_32      1
#define CLASS_64      2
#define LITTLE_ENDIAN 1
#define TYPE_EXEC     2
#define MACHINE_386   3
#define MACHINE_AMD64 62
#define PT_LOAD	      1

struct elf_ident {
	u8 magic[4], class, encoding, version, unused[9];
	u16 type, machine;
	u32 version2;
} __packed;

struct elf32_header {
	struct elf_ident ident;
	u32 entry, phoff, shoff, flags;
	u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
} __packed;

struct elf64_header {
	struct elf_ident ident;
	u64 entry, phoff, shoff;
	u32 flags;
	u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
} __packed;

struct elf32_program {
	u32 type, offset, vaddr, paddr, filesz, memsz, flags, align;
} __packed;

struct elf64_program {
	u32 type, flags;
	u64 offset, vaddr, paddr, filesz, memsz, align;
} __packed;

_Static_assert(sizeof(struct elf32_header) == 52, "ELF32 header");
_Static_assert(sizeof(struct elf64_header) == 64, "ELF64 header");
_Static_assert(sizeof(struct elf32_program) == 32, "ELF32 program header");
_Static_assert(sizeof(struct elf64_program) == 56, "ELF64 program header");

static bool is_executable(const struct elf_ident *ident)
{
	static const u8 magic[4] = {0x7f, 'E', 'L', 'F'};

	return !memcmp(ident->magic, magic, sizeof(magic)) && ident->encoding == LITTLE_ENDIAN &&
	       ident->type == TYPE_EXEC &&
	       ((ident->class == CLASS_32 && ident->machine == MACHINE_386) ||
		(ident->class == CLASS_64 && ident->machine == MACHINE_AMD64));
}

static int check_headers(const struct elf_image *elf, u64 size)
{
	u64 least = elf->is_64 ? sizeof(struct elf64_program) : sizeof(struct elf32_program);

	if (elf->header_size < least)
		return E_FORMAT;
	if (!range_within(elf->headers, (u64)elf->nr_headers * elf->header_size, size))
		return E_TRUNC;
	return 0;
}

int elf_open(const u8 *data, u64 size, struct elf_image *elf)
{
	struct elf_ident ident;

	*elf = (struct elf_image){.data = data};
	if (size < sizeof(ident))
		return E_TRUNC;
	memcpy(&ident, data, sizeof(ident));
	if (!is_executable(&ident))
		return E_FORMAT;
	elf->is_64 = ident.class == CLASS_64;
	if (elf->is_64) {
		struct elf64_header header;

		if (size < sizeof(header))
			return E_TRUNC;
		memcpy(&header, data, sizeof(header));
		elf->headers = header.phoff;
		elf->entry = header.entry;
		elf->nr_headers = header.phnum;
		elf->header_size = header.phentsize;
	} else {
		struct elf32_header header;

		if (size < sizeof(header))
			return E_TRUNC;
		memcpy(&header, data, sizeof(header));
		elf->headers = header.phoff;
		elf->entry = header.entry;
		elf->nr_headers = header.phnum;
		elf->header_size = header.phentsize;
	}
	return check_headers(elf, size);
}

bool elf_segment(const struct elf_image *elf, u32 index, struct elf_segment *out)
{
	const u8 *at = elf->data + elf->headers + (u64)index * elf->header_size;

	if (elf->is_64) {
		struct elf64_program header;

		memcpy(&header, at, sizeof(header));
		*out = (struct elf_segment){header.offset, header.vaddr, header.paddr,
					    header.filesz, header.memsz};
		return header.type == PT_LOAD;
	}

	struct elf32_program header;

	memcpy(&header, at, sizeof(header));
	*out = (struct elf_segment){header.offset, header.vaddr, header.paddr, header.filesz,
				    header.memsz};
	return header.type == PT_LOAD;
}
