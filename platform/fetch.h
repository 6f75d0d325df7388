/*
 * Where the code at RIP lies, and what it decodes to, remembered for a few pages a vCPU: by the
 * entries that the walk went through, and what they held. While CR3 and all of them are the same, a
 * walk would find the same page: the check is exact. Only the frames behind may change unseen, so a
 * flush of the TLB empties the memory. Only 64-bit code with four levels is remembered.
 */
#pragma once

#include "platform/decode.h"

#define FETCH_PAGES   8 /* a power of two */
#define FETCH_LEVELS  4
#define FETCH_DECODED 8 /* a power of two */

struct fetch_page {
	u64 page; /* linear address >> 12, plus one; 0: empty */
	u64 cr3;
	const u8 *code; /* the page's bytes */
	/* Fewer levels than these, for a large page: the last one again. */
	const u64 *entry[FETCH_LEVELS];
	u64 seen[FETCH_LEVELS];
	u64 unused[5]; /* makes the size a power of two */
};

_Static_assert(sizeof(struct fetch_page) == 128, "found by a shift");

/* What the decoder has made of 15 bytes of 64-bit code; it depends on nothing but these. */
struct fetch_decoded {
	u64 low, high;	  /* bytes 0 to 7 and 7 to 14 */
	struct insn insn; /* length 0: empty */
};

struct fetch_cache {
	struct fetch_page pages[FETCH_PAGES];
	struct fetch_decoded decoded[FETCH_DECODED]; /* by the low bits of RIP */
};

static inline struct fetch_page *fetch_slot(struct vcpu *vcpu, gva_t gva) {
	return &vcpu->fetch->pages[gva >> PAGE_SHIFT & (FETCH_PAGES - 1)];
}

static inline bool fetch_same(const struct fetch_page *p, u32 level) {
	return __atomic_load_n(p->entry[level], __ATOMIC_RELAXED) == p->seen[level];
}

/* The byte at gva of 64-bit code, with what follows up to the page's end; NULL: not known. */
static inline const u8 *fetch_known(struct vcpu *vcpu, gva_t gva, u64 cr3) {
	const struct fetch_page *p = fetch_slot(vcpu, gva);

	if (unlikely(p->page != (gva >> PAGE_SHIFT) + 1 || p->cr3 != cr3)) return NULL;
	if (unlikely(!fetch_same(p, 0) || !fetch_same(p, 1) || !fetch_same(p, 2) ||
		     !fetch_same(p, 3)))
		return NULL;
	return p->code + (gva & ~PAGE_MASK);
}

/* Walks and remembers, for a gva just fetched from, when all entries are present and in RAM. */
void fetch_remember(struct vcpu *vcpu, gva_t gva, u64 cr3);
