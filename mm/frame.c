/*
 * The frame allocator.
 *
 * Memory comes in ranges. Each carries its own metadata, one byte a frame, in its first or last
 * frames, whichever spoils less of the large blocks:
 *
 *   bits 4:0  order of the block
 *   bit 5     HEAD: a block begins at this frame
 *   bit 6     FREE: the block is on the free list of its order
 *   bit 7     ZERO: while free, this frame is known to be zero
 *
 * All but ZERO is 0 where no block begins. ZERO belongs to the frame: splitting and merging blocks
 * leave it alone. It does not mean anything while the frame is allocated.
 *
 * The free lists run through the free blocks themselves; a block that is taken off gets zeros in
 * place of the links. Blocks whose first frame is zero stand at the tails, so both kinds of
 * requests are likely to find what suits them.
 */
#include "mm/frame.h"

#include "lib/list.h"
#include "lib/spinlock.h"
#include "lib/string.h"

#define META_HEAD 0x20u
#define META_FREE 0x40u
#define META_ZERO 0x80u

#define PFN_LIMIT (1ul << 40) /* 52 address bits (APM 2 5.1) */

struct range {
	pfn_t first;
	u64 count; /* frames, metadata not counted */
	pfn_t outer_first;
	u64 outer_count; /* frames, metadata counted */
	u8 *meta;
};

static struct spinlock lock; /* guards everything below and all metadata */
static struct range ranges[FRAME_MAX_RANGES];
static u32 nr_ranges; /* sorted by first */
static struct list free_lists[FRAME_MAX_ORDER + 1];
static struct frame_stats stats_now;
static _Atomic u64 zero_frames; /* free ones with ZERO; not guarded by the lock */

static struct list *links(pfn_t pfn) { return phys_to_virt(pfn << PAGE_SHIFT); }

/* The range with the highest start that is not above pfn, or NULL. */
static struct range *range_below(pfn_t pfn) {
	u32 lo = 0, hi = nr_ranges;

	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;

		if (ranges[mid].outer_first <= pfn)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? &ranges[lo - 1] : NULL;
}

/* True when the whole block can be in this range; metadata has no bytes of its own. */
static bool range_holds(const struct range *range, pfn_t pfn, unsigned order) {
	return pfn >= range->first && range_within(pfn - range->first, 1ul << order, range->count);
}

static u8 *meta_of(const struct range *range, pfn_t pfn) {
	return &range->meta[pfn - range->first];
}

/* A block becomes free; the ZERO bits of its frames are set already. */
static void list_block(struct range *range, pfn_t pfn, unsigned order) {
	u8 *meta = meta_of(range, pfn);

	if (*meta & META_ZERO)
		list_add_tail(&free_lists[order], links(pfn));
	else
		list_add_head(&free_lists[order], links(pfn));
	*meta = (u8)((*meta & META_ZERO) | order | META_HEAD | META_FREE);
	stats_now.blocks[order]++;
	stats_now.free += 1ul << order;
}

/* Takes a block off its list; it is no block at all afterwards. */
static void unlist_block(struct range *range, pfn_t pfn, unsigned order) {
	*meta_of(range, pfn) &= META_ZERO;
	list_remove(links(pfn));
	*links(pfn) = (struct list){NULL, NULL};
	stats_now.blocks[order]--;
	stats_now.free -= 1ul << order;
}

static bool is_free_block(const struct range *range, pfn_t pfn, unsigned order) {
	return range_holds(range, pfn, order) &&
	       (*meta_of(range, pfn) & (u8)~META_ZERO) == (order | META_HEAD | META_FREE);
}

/* Frees a block, merged with its buddy as long as that is free. */
static void insert_block(struct range *range, pfn_t pfn, unsigned order) {
	while (order < FRAME_MAX_ORDER && is_free_block(range, pfn ^ (1ul << order), order)) {
		unlist_block(range, pfn ^ (1ul << order), order);
		pfn &= ~(1ul << order);
		order++;
	}
	list_block(range, pfn, order);
}

void frame_init(void) {
	nr_ranges = 0;
	memset(&stats_now, 0, sizeof(stats_now));
	atomic_store(&zero_frames, 0);
	for (unsigned order = 0; order <= FRAME_MAX_ORDER; order++) list_init(&free_lists[order]);
}

/* How well a frame number is aligned, as an order. */
static unsigned alignment(pfn_t pfn) {
	unsigned order = pfn ? (unsigned)__builtin_ctzl(pfn) : FRAME_MAX_ORDER;

	return order < FRAME_MAX_ORDER ? order : FRAME_MAX_ORDER;
}

/* Chooses where in the range its metadata lies. */
static struct range lay_out(pfn_t first, u64 count) {
	u64 kept = (count + PAGE_SIZE) / (PAGE_SIZE + 1); /* frames for count - kept bytes */
	bool at_end = alignment(first) > alignment(first + count);
	pfn_t meta = at_end ? first + count - kept : first;

	return (struct range){
		.first = at_end ? first : first + kept,
		.count = count - kept,
		.outer_first = first,
		.outer_count = count,
		.meta = phys_to_virt(meta << PAGE_SHIFT),
	};
}

/* Makes everything in the range free, in the largest aligned blocks. */
static void release_all(struct range *range) {
	pfn_t pfn = range->first;
	pfn_t end = range->first + range->count;

	memset(range->meta, 0, range->count);
	while (pfn < end) {
		unsigned order = alignment(pfn);

		while (1ul << order > end - pfn) order--;
		list_block(range, pfn, order);
		pfn += 1ul << order;
	}
	stats_now.total += range->count;
	stats_now.metadata += range->outer_count - range->count;
}

int frame_add(hpa_t base, u64 length) {
	pfn_t first = base >> PAGE_SHIFT;
	u64 count = length >> PAGE_SHIFT;

	if (length == 0 || (base | length) & ~PAGE_MASK ||
	    !range_within(base, length, PFN_LIMIT << PAGE_SHIFT))
		return E_INVAL;
	spin_guard(&lock);
	struct range *below = range_below(first + count - 1);
	u32 at = below ? (u32)(below - ranges) + 1 : 0;
	if (below && below->outer_first + below->outer_count > first) return E_EXIST;
	if (nr_ranges == FRAME_MAX_RANGES) return E_NOMEM;
	memmove(&ranges[at + 1], &ranges[at], (nr_ranges - at) * sizeof(ranges[0]));
	nr_ranges++;
	ranges[at] = lay_out(first, count);
	release_all(&ranges[at]);
	return 0;
}

/* Cuts a block that is on no list down to the wanted order; the upper halves become free. */
static void split_block(struct range *range, pfn_t pfn, unsigned from, unsigned to) {
	while (from > to) {
		from--;
		list_block(range, pfn + (1ul << from), from);
	}
	*meta_of(range, pfn) |= (u8)(to | META_HEAD);
}

/* Takes a block of this order; *meta is its metadata. */
static int take_block(unsigned order, bool want_zero, pfn_t *out, u8 **meta) {
	spin_guard(&lock);
	for (unsigned o = order; o <= FRAME_MAX_ORDER; o++) {
		struct list *head = &free_lists[o];
		struct range *range;

		if (list_empty(head)) continue;
		*out = virt_to_phys(want_zero ? head->prev : head->next) >> PAGE_SHIFT;
		range = range_below(*out);
		unlist_block(range, *out, o);
		split_block(range, *out, o, order);
		*meta = meta_of(range, *out);
		return 0;
	}
	return E_NOMEM;
}

/* How many of so many frames are known to be zero, eight at a time: there may be 2^18. */
static u64 count_zero(const u8 *meta, u64 nr) {
	const u64 ones = 0x0101010101010101;
	u64 known = 0, bits;

	for (; nr >= 8; nr -= 8, meta += 8) {
		memcpy(&bits, meta, sizeof(bits));
		known += (bits / META_ZERO & ones) * ones >> 56;
	}
	while (nr--) known += *meta++ / META_ZERO;
	return known;
}

/* Settles the ZERO bits of a block that has just been allocated. True: all of it is zero. */
static bool prepare(pfn_t pfn, unsigned order, const u8 *meta, bool want_zero) {
	u64 nr = 1ul << order, known = count_zero(meta, nr);

	for (u64 i = 0; want_zero && known < nr && i < nr; i++)
		if (!(meta[i] & META_ZERO))
			memset(phys_to_virt((pfn + i) << PAGE_SHIFT), 0, PAGE_SIZE);
	if (known) atomic_fetch_sub_explicit(&zero_frames, known, memory_order_relaxed);
	return known == nr;
}

int frame_alloc(unsigned order, u32 flags, pfn_t *out) {
	u8 *meta;

	if (order > FRAME_MAX_ORDER) return E_INVAL;
	int err = take_block(order, flags & FRAME_ZERO, out, &meta);
	if (err) return err;
	return !prepare(*out, order, meta, flags & FRAME_ZERO) && flags & FRAME_ASK;
}

int frame_free(pfn_t pfn, unsigned order, u32 flags) {
	bool zero = flags & FRAME_SCRUBBED;

	if (order > FRAME_MAX_ORDER) return E_INVAL;
	spin_guard(&lock);
	struct range *range = range_below(pfn);
	if (!range || !range_holds(range, pfn, order) ||
	    (*meta_of(range, pfn) & (u8)~META_ZERO) != (order | META_HEAD))
		return E_INVAL;
	memset(meta_of(range, pfn), zero ? META_ZERO : 0, 1ul << order);
	if (zero) atomic_fetch_add_explicit(&zero_frames, 1ul << order, memory_order_relaxed);
	insert_block(range, pfn, order);
	return 0;
}

void frame_stats(struct frame_stats *stats) {
	spin_guard(&lock);
	*stats = stats_now;
	stats->free_zero = atomic_load_explicit(&zero_frames, memory_order_relaxed);
}

void *page_alloc(u64 size) {
	pfn_t pfn;

	if (size > PAGE_SIZE << FRAME_MAX_ORDER || frame_alloc(frame_order(size), FRAME_ZERO, &pfn))
		return NULL;
	return phys_to_virt(pfn << PAGE_SHIFT);
}

void page_free(const void *pages, u64 size) {
	if (pages && frame_free(virt_to_phys(pages) >> PAGE_SHIFT, frame_order(size), 0))
		__builtin_trap(); /* not an allocation: a mistake of the caller's */
}
