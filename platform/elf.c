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

static bool is_executable(const struct elf_ident *ident) {
	static const u8 magic[4] = {0x7f, 'E', 'L', 'F'};

	return !memcmp(ident->magic, magic, sizeof(magic)) && ident->encoding == LITTLE_ENDIAN &&
	       ident->type == TYPE_EXEC &&
	       ((ident->class == CLASS_32 && ident->machine == MACHINE_386) ||
		(ident->class == CLASS_64 && ident->machine == MACHINE_AMD64));
}

int elf_open(const u8 *data, u64 size, struct elf_image *elf) {
	union {
		struct elf_ident ident;
		struct elf32_header h32;
		struct elf64_header h64;
	} in;
	bool is_64;

	if (size < sizeof(in.ident))
		return E_TRUNC;
	memcpy(&in, data, min_u64(size, sizeof(in)));
	if (!is_executable(&in.ident))
		return E_FORMAT;
	is_64 = in.ident.class == CLASS_64;
	if (size < (is_64 ? sizeof(in.h64) : sizeof(in.h32)))
		return E_TRUNC;
	*elf = (struct elf_image){.data = data, .is_64 = is_64};
	elf->headers = is_64 ? in.h64.phoff : in.h32.phoff;
	elf->entry = is_64 ? in.h64.entry : in.h32.entry;
	elf->nr_headers = is_64 ? in.h64.phnum : in.h32.phnum;
	elf->header_size = is_64 ? in.h64.phentsize : in.h32.phentsize;
	if (elf->header_size <
	    (is_64 ? sizeof(struct elf64_program) : sizeof(struct elf32_program)))
		return E_FORMAT;
	if (!range_within(elf->headers, (u64)elf->nr_headers * elf->header_size, size))
		return E_TRUNC;
	return 0;
}

bool elf_segment(const struct elf_image *elf, u32 index, struct elf_segment *out) {
	const u8 *at = elf->data + elf->headers + (u64)index * elf->header_size;

	union {
		struct elf32_program p32;
		struct elf64_program p64;
	} in;

	memcpy(&in, at, elf->is_64 ? sizeof(in.p64) : sizeof(in.p32));
	if (elf->is_64)
		*out = (struct elf_segment){in.p64.offset, in.p64.vaddr, in.p64.paddr,
					    in.p64.filesz, in.p64.memsz};
	else
		*out = (struct elf_segment){in.p32.offset, in.p32.vaddr, in.p32.paddr,
					    in.p32.filesz, in.p32.memsz};
	return in.p32.type == PT_LOAD; /* both classes begin with it */
}
