/*
 * Host physical memory: a buddy allocator for blocks of 2^order frames, each aligned to its size,
 * from 4 KiB (order 0) to 1 GiB (order 18). Any CPU may call. What was scrubbed when it was freed
 * is not scrubbed again when it is handed out with FRAME_ZERO.
 */
#pragma once

#include "mm/direct.h"

#define FRAME_MAX_ORDER	 18  /* 1 GiB */
#define FRAME_MAX_RANGES 256 /* pieces of memory that frame_add() takes */

#define FRAME_ZERO	 1u /* frame_alloc(): the block reads as zeros */
#define FRAME_ASK	 2u /* frame_alloc(): returns 1 when it may not */
#define FRAME_SCRUBBED	 1u /* frame_free(): the caller has set the block to zeros */

struct frame_stats {
	u64 total;			 /* frames managed, metadata not counted */
	u64 metadata;			 /* frames that the allocator keeps for itself */
	u64 free;			 /* frames */
	u64 free_zero;			 /* of these, known to be zero */
	u64 blocks[FRAME_MAX_ORDER + 1]; /* free blocks by order */
};

/* Forgets all memory. To be called once, before anything else. */
void frame_init(void);

/*
 * Hands [base, base + length), in whole pages and mapped at the direct map, to the allocator, which
 * keeps a byte a frame of it for metadata, at least a page. 0; E_INVAL when not in whole pages,
 * empty, or past 2^52; E_EXIST when it overlaps what was added before; E_NOMEM when there are
 * FRAME_MAX_RANGES pieces already.
 */
int frame_add(hpa_t base, u64 length) __must_check;

/* A block of 2^order frames; 0; E_NOMEM; E_INVAL: order is too high. */
int frame_alloc(unsigned order, u32 flags, pfn_t *out) __must_check;

/*
 * Gives back a block of the order it was allocated with; flags is 0 or FRAME_SCRUBBED. 0; E_INVAL,
 * with nothing changed, for what is no allocated block of this order.
 */
int frame_free(pfn_t pfn, unsigned order, u32 flags);

void frame_stats(struct frame_stats *stats);

/* Order of the smallest block that holds size bytes; FRAME_MAX_ORDER for more than that. */
static inline unsigned frame_order(u64 size) {
	unsigned order = 0;

	while (order < FRAME_MAX_ORDER && (PAGE_SIZE << order) < size) order++;
	return order;
}

/* Memory of Roost's own: a zeroed block of size bytes or more, in the direct map; NULL: none. */
void *page_alloc(u64 size) __must_check;

/* Gives back a block with the size that it was allocated with; NULL is none. */
void page_free(const void *pages, u64 size);
