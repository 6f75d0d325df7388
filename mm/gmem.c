/*
 * Guest physical memory.
 *
 *   slot    what was asked for: [gpa, gpa + size) is RAM
 *   run     up to 512 adjoining blocks of one order; at most 18 orders on the way up to the largest
 *           alignment and 18 down again, so few runs describe any slot
 *   block   2^order host frames, aligned alike in guest and host memory, so that it can be mapped
 *           by the largest leaves
 *
 *   gpa ---- runs[]: last one used, else binary search ---- blocks[(gpa - run) >> shift] ---- hpa
 */
#include "mm/gmem.h"

#include "lib/error.h"
#include "lib/string.h"
#include "mm/direct.h"
#include "mm/shadow.h"

#define GMEM_ATTRS (PT_READ | PT_WRITE | PT_EXEC | PT_WB)

static __noinline const struct gmem_run *search_runs(struct gmem *gm, gpa_t gpa) {
	u32 lo = 0, hi = gm->nr_runs;

	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2;
		const struct gmem_run *run = &gm->runs[mid];

		if (gpa < run->gpa) {
			hi = mid;
		} else if (gpa - run->gpa >= run->size) {
			lo = mid + 1;
		} else {
			atomic_store_explicit(&gm->last_run, run, memory_order_relaxed);
			return run;
		}
	}
	return NULL;
}

/* The run that holds gpa, or NULL. */
static inline const struct gmem_run *find_run(struct gmem *gm, gpa_t gpa) {
	const struct gmem_run *last = atomic_load_explicit(&gm->last_run, memory_order_relaxed);

	return likely(gpa - last->gpa < last->size) ? last : search_runs(gm, gpa);
}

/* The host address of a gpa in this run. */
static inline hpa_t run_address(const struct gmem_run *run, gpa_t gpa) {
	u64 offset = gpa - run->gpa;

	if (!run->blocks)
		return run->first + offset;
	return run->blocks[offset >> run->shift] | (offset & ~(~0ul << run->shift));
}

/* Bytes from gpa to the end of its block. */
static u64 block_rest(const struct gmem_run *run, gpa_t gpa) {
	u64 size = 1ul << run->shift;

	return size - (gpa & (size - 1));
}

static inline void *pointer(struct gmem *gm, gpa_t gpa, size_t len) {
	const struct gmem_run *run = find_run(gm, gpa);

	if (unlikely(!run) || len > PAGE_SIZE - (gpa & ~PAGE_MASK))
		return NULL;
	return phys_to_virt(run_address(run, gpa));
}

const void *gmem_ptr(struct gmem *gm, gpa_t gpa, size_t len) { return pointer(gm, gpa, len); }

void *gmem_ptr_write(struct gmem *gm, gpa_t gpa, size_t len) { return pointer(gm, gpa, len); }

bool gmem_find(struct gmem *gm, gpa_t gpa, hpa_t *hpa, unsigned *shift) {
	const struct gmem_run *run = find_run(gm, gpa);

	if (unlikely(!run))
		return false;
	*hpa = run_address(run, gpa);
	*shift = run->shift;
	return true;
}

u64 gmem_pages(const struct gmem *gm) {
	u64 pages = 0;

	for (u32 i = 0; i < gm->nr_slots; i++)
		pages += gm->slots[i].size >> PAGE_SHIFT;
	return pages;
}

static bool is_ram(struct gmem *gm, gpa_t gpa, u64 len) {
	while (len) {
		const struct gmem_run *run = find_run(gm, gpa);
		u64 rest;

		if (!run)
			return false;
		rest = run->size - (gpa - run->gpa);
		if (rest >= len)
			return true;
		gpa += rest;
		len -= rest;
	}
	return true;
}

/* The piece of [gpa, gpa + len) up to the end of its block; the range is known to be RAM. */
static void *next_piece(struct gmem *gm, gpa_t gpa, size_t len, size_t *piece) {
	const struct gmem_run *run = find_run(gm, gpa);

	*piece = min_u64(len, block_rest(run, gpa));
	return phys_to_virt(run_address(run, gpa));
}

/* Copies to `to`, or else from `from`, or else sets all bytes to value. */
static inline int access(struct gmem *gm, gpa_t gpa, u8 *to, const u8 *from, u8 value, size_t len) {
	size_t piece;

	if (!is_ram(gm, gpa, len))
		return E_FAULT;
	for (size_t done = 0; done < len; done += piece) {
		void *ram = next_piece(gm, gpa + done, len - done, &piece);

		if (to)
			memcpy(to + done, ram, piece);
		else if (from)
			memcpy(ram, from + done, piece);
		else
			memset(ram, value, piece);
	}
	return 0;
}

int gmem_read(struct gmem *gm, gpa_t gpa, void *to, size_t len) {
	return access(gm, gpa, to, NULL, 0, len);
}

int gmem_write(struct gmem *gm, gpa_t gpa, const void *from, size_t len) {
	return access(gm, gpa, NULL, from, 0, len);
}

int gmem_fill(struct gmem *gm, gpa_t gpa, u8 value, size_t len) {
	return access(gm, gpa, NULL, NULL, value, len);
}

int gmem_create(struct gmem *gm, const struct pt_format *format, const struct gmem_config *config) {
	int err;

	if (config->max_leaf_order % 9 || config->max_leaf_order > FRAME_MAX_ORDER)
		return E_INVAL;
	memset(gm, 0, sizeof(*gm));
	gm->config = *config;
	gm->runs = frame_block(0);
	if (!gm->runs)
		return E_NOMEM;
	gm->last_run = gm->runs;
	err = pt_init(&gm->pt, format, &pt_alloc_frames, (u8)(config->max_leaf_order / 9));
	if (err) {
		frame_block_free(gm->runs, 0);
		gm->runs = NULL;
	}
	return err;
}

static void free_run(struct gmem_run *run, bool scrubbed) {
	unsigned order = run->shift - (unsigned)PAGE_SHIFT;

	for (u32 i = 0; i < run->count; i++) {
		pfn_t pfn = (run->blocks ? run->blocks[i] : run->first) >> PAGE_SHIFT;

		if (!scrubbed)
			frame_scrub(pfn, order);
		(void)frame_free(pfn, order, FRAME_SCRUBBED);
	}
	if (run->blocks)
		frame_block_free(run->blocks, 0);
}

void gmem_destroy(struct gmem *gm) {
	if (!gm->runs)
		return;
	shadow_destroy(gm->shadow);
	pt_destroy(&gm->pt);
	for (u32 i = 0; i < gm->nr_runs; i++)
		free_run(&gm->runs[i], false);
	frame_block_free(gm->runs, gm->runs_order);
	memset(gm, 0, sizeof(*gm));
}

/* The place among the runs where one that begins at gpa goes. */
static u32 run_index(const struct gmem *gm, gpa_t gpa) {
	u32 at = gm->nr_runs;

	while (at > 0 && gm->runs[at - 1].gpa > gpa)
		at--;
	return at;
}

/* Makes the array of runs twice as large when it is full. */
static int grow_runs(struct gmem *gm) {
	struct gmem_run *larger;

	if ((gm->nr_runs + 1) * sizeof(*larger) <= PAGE_SIZE << gm->runs_order)
		return 0;
	larger = gm->runs_order < FRAME_MAX_ORDER ? frame_block(gm->runs_order + 1) : NULL;
	if (!larger)
		return E_NOMEM;
	memcpy(larger, gm->runs, gm->nr_runs * sizeof(*larger));
	frame_block_free(gm->runs, gm->runs_order);
	gm->runs = larger;
	gm->runs_order++;
	return 0;
}

static int new_run(struct gmem *gm, gpa_t gpa, hpa_t block, unsigned order) {
	u32 at = run_index(gm, gpa);
	int err = grow_runs(gm);

	if (err)
		return err;
	memmove(&gm->runs[at + 1], &gm->runs[at], (gm->nr_runs - at) * sizeof(gm->runs[0]));
	gm->runs[at] = (struct gmem_run){
		.gpa = gpa,
		.size = PAGE_SIZE << order,
		.first = block,
		.count = 1,
		.shift = (u8)(PAGE_SHIFT + order),
	};
	gm->nr_runs++;
	return 0;
}

/* Puts a block in place: into the run that ends there, if it fits, else into a new one. */
static int add_block(struct gmem *gm, gpa_t slot, gpa_t gpa, hpa_t block, unsigned order) {
	u32 at = run_index(gm, gpa);
	struct gmem_run *run;

	if (at == 0)
		return new_run(gm, gpa, block, order);
	run = &gm->runs[at - 1];
	if (run->gpa < slot || run->shift != PAGE_SHIFT + order || run->count == GMEM_RUN_BLOCKS)
		return new_run(gm, gpa, block, order);
	if (!run->blocks) {
		run->blocks = frame_block(0);
		if (!run->blocks)
			return E_NOMEM;
		run->blocks[0] = run->first;
	}
	run->blocks[run->count++] = block;
	run->size += PAGE_SIZE << order;
	return 0;
}

/* The largest order that fits alignment and size. */
static unsigned best_order(gpa_t gpa, u64 size) {
	unsigned order = FRAME_MAX_ORDER;

	while (order > 0 && (gpa % (PAGE_SIZE << order) || size < PAGE_SIZE << order))
		order--;
	return order;
}

/* Backs the slot. Once there is no block of an order left, larger ones are not tried again. */
static int add_blocks(struct gmem *gm, gpa_t gpa, u64 size) {
	unsigned limit = FRAME_MAX_ORDER;
	int err;

	for (u64 done = 0; done < size;) {
		unsigned order = best_order(gpa + done, size - done);
		pfn_t pfn;

		if (order > limit)
			order = limit;
		err = frame_alloc(order, FRAME_ZERO, &pfn);
		if (err && order > 0) {
			limit = order - 1;
			continue;
		}
		if (err)
			return err;
		err = add_block(gm, gpa, gpa + done, pfn << PAGE_SHIFT, order);
		if (err) {
			(void)frame_free(pfn, order, FRAME_SCRUBBED);
			return err;
		}
		done += PAGE_SIZE << order;
	}
	return 0;
}

/* Takes back what add_blocks() and map_slot() did; no vCPU has run meanwhile. */
static void remove_blocks(struct gmem *gm, gpa_t gpa, u64 size) {
	u32 first = run_index(gm, gpa), last;

	if (first > 0 && gm->runs[first - 1].gpa == gpa)
		first--;
	last = first;
	for (; last < gm->nr_runs && gm->runs[last].gpa - gpa < size; last++)
		free_run(&gm->runs[last], true);
	memmove(&gm->runs[first], &gm->runs[last], (gm->nr_runs - last) * sizeof(gm->runs[0]));
	gm->nr_runs -= last - first;
	memset(&gm->runs[gm->nr_runs], 0, (last - first) * sizeof(gm->runs[0]));
}

static int map_run(struct gmem *gm, const struct gmem_run *run) {
	u64 block = 1ul << run->shift;
	int err = 0;

	for (u64 at = 0; !err && at < run->size; at += block)
		err = pt_map(&gm->pt, run->gpa + at, run_address(run, run->gpa + at), block,
			     GMEM_ATTRS);
	return err;
}

static int map_slot(struct gmem *gm, gpa_t gpa, u64 size) {
	int err = 0;

	for (u32 i = 0; !err && i < gm->nr_runs; i++)
		if (gm->runs[i].gpa - gpa < size)
			err = map_run(gm, &gm->runs[i]);
	if (err && pt_unmap(&gm->pt, gpa, size) >= 0)
		pt_reclaim(&gm->pt, pt_generation(&gm->pt));
	return err;
}

/* Where the slot goes; or E_EXIST. */
static int slot_index(const struct gmem *gm, gpa_t gpa, u64 size, u32 *out) {
	u32 at = 0;

	while (at < gm->nr_slots && gm->slots[at].gpa + gm->slots[at].size <= gpa)
		at++;
	*out = at;
	return at < gm->nr_slots && gm->slots[at].gpa < gpa + size ? E_EXIST : 0;
}

static int check_slot(const struct gmem *gm, gpa_t gpa, u64 size) {
	struct frame_stats stats;

	if (size == 0 || (gpa | size) & ~PAGE_MASK ||
	    !range_within(gpa, size, 1ul << gm->pt.format->va_bits))
		return E_INVAL;
	/* Asked first, because all that is there would be scrubbed before the end is reached. */
	frame_stats(&stats);
	return size >> PAGE_SHIFT > stats.free || gm->nr_slots == GMEM_MAX_SLOTS ? E_NOMEM : 0;
}

int gmem_add_ram(struct gmem *gm, gpa_t gpa, u64 size) {
	int err = check_slot(gm, gpa, size);
	u32 at;

	if (!err)
		err = slot_index(gm, gpa, size, &at);
	if (err)
		return err;
	err = add_blocks(gm, gpa, size);
	if (!err && !gm->config.lazy)
		err = map_slot(gm, gpa, size);
	if (err)
		remove_blocks(gm, gpa, size);
	gm->last_run = gm->runs; /* runs have moved */
	if (err)
		return err;
	memmove(&gm->slots[at + 1], &gm->slots[at], (gm->nr_slots - at) * sizeof(gm->slots[0]));
	gm->slots[at] = (struct gmem_slot){gpa, size};
	gm->nr_slots++;
	return 0;
}

/* Maps the largest leaf around gpa, or a smaller one where a part of that is mapped already. */
int gmem_fault(struct gmem *gm, gpa_t gpa, bool write, bool exec) {
	u32 need = PT_READ | (write ? PT_WRITE : 0) | (exec ? PT_EXEC : 0);
	const struct gmem_run *run = find_run(gm, gpa);
	unsigned level = gm->pt.max_leaf;

	if (!run)
		return E_FAULT;
	while (pt_level_shift(level) > run->shift)
		level--;
	for (;; level--) {
		u64 size = pt_level_size(level);
		gpa_t page = align_down(gpa, size);
		int err = pt_map(&gm->pt, page, run_address(run, page), size, GMEM_ATTRS);
		struct pt_mapping mapping;

		if (err != E_EXIST)
			return err;
		if (pt_walk(&gm->pt, gpa, &mapping))
			return need & ~mapping.attrs ? E_FAULT : 0;
		if (level == 0)
			return 0; /* mapped and unmapped meanwhile: the guest tries again */
	}
}
