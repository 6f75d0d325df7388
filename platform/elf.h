/* Reader of x86 ELF executables, 32 and 64 bit (System V ABI, chapters 4 and 5). */
#pragma once

#include "lib/types.h"

struct elf_image {
	const u8 *headers; /* the program headers, which lie wholly in the file */
	u64 entry;	   /* e_entry */
	u32 nr_headers;	   /* at most 65535 */
	u32 header_size;   /* bytes from one to the next */
	u32 word_size;	   /* 4 or 8: bytes of an address */
};

/* A loadable segment, as the file says it: nothing of it is checked. */
struct elf_segment {
	u64 offset, vaddr, paddr, file_size, memory_size;
};

/* 0; E_FORMAT: no little-endian x86 executable; E_TRUNC: headers are missing. Bytes must stay. */
int elf_open(const u8 *data, u64 size, struct elf_image *elf) __must_check;

/* Program header `index`, below nr_headers; false when it describes nothing to load. */
bool elf_segment(const struct elf_image *elf, u32 index, struct elf_segment *out);
