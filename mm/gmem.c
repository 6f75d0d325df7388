/*
 *   run     up to 512 adjoining blocks of one order; at most 18 orders on the way up to the largest
 *           alignment and 18 down again, so few runs describe any range
 *   block   2^order host frames, aligned alike in guest and host memory, so that it can be mapped
 *           by the largest leaves
 *
 *   gpa ---- runs[]: last one used, else binary search ---- blocks[(gpa - run) >> shift] ---- hpa
 */
#include "mm/gmem.h"

#include "lib/string.h"
#include "mm/shadow.h"

#define GMEM_ATTRS  (PT_READ | PT_WRITE | PT_EXEC | PT_WB)
#define WORD_SHIFT  18 /* of the bytes that a word of the dirty log stands for */
#define GMEM_LOGGED (PT_READ | PT_EXEC | PT_WB) /* until the first write */
#define GMEM_CLEAN  (GMEM_ATTRS | PT_CLEAN)	/* the same with page-modification logs */
#define PML_ENTRIES (PAGE_SIZE / sizeof(u64))
#define PML_NONE    (~0ul)

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

	if (!run->blocks) return run->first + offset;
	return run->blocks[offset >> run->shift] | (offset & ~(~0ul << run->shift));
}

/* Bytes from gpa to the end of its block. */
static u64 block_rest(const struct gmem_run *run, gpa_t gpa) {
	u64 size = 1ul << run->shift;

	return size - (gpa & (size - 1));
}

/* The word of the dirty log that holds the bit of this page of the run's. */
static _Atomic u64 *log_word(struct gmem *gm, const struct gmem_run *run, gfn_t gfn) {
	return &gm->log[run->log + (gfn >> (WORD_SHIFT - PAGE_SHIFT))];
}

/* Notes the pages of [gpa, gpa + len), all in this run, as written. */
static inline void mark(struct gmem *gm, const struct gmem_run *run, gpa_t gpa, u64 len) {
	if (likely(!gm->logging)) return;
	for (gfn_t gfn = gpa >> PAGE_SHIFT; gfn <= (gpa + len - 1) >> PAGE_SHIFT; gfn++)
		atomic_fetch_or(log_word(gm, run, gfn), BIT(gfn % 64));
}

static inline void *pointer(struct gmem *gm, gpa_t gpa, size_t len, bool write) {
	const struct gmem_run *run = find_run(gm, gpa);

	if (unlikely(!run) || len > PAGE_SIZE - (gpa & ~PAGE_MASK)) return NULL;
	if (write) mark(gm, run, gpa, 1);
	return phys_to_virt(run_address(run, gpa));
}

const void *gmem_ptr(struct gmem *gm, gpa_t gpa, size_t len) {
	return pointer(gm, gpa, len, false);
}

void *gmem_ptr_write(struct gmem *gm, gpa_t gpa, size_t len) { return pointer(gm, gpa, len, true); }

bool gmem_find(struct gmem *gm, gpa_t gpa, hpa_t *hpa, unsigned *shift) {
	const struct gmem_run *run = find_run(gm, gpa);

	if (unlikely(!run)) return false;
	*hpa = run_address(run, gpa);
	*shift = run->shift;
	return true;
}

static bool is_ram(struct gmem *gm, gpa_t gpa, u64 len) {
	while (len) {
		const struct gmem_run *run = find_run(gm, gpa);
		u64 rest;

		if (!run) return false;
		rest = run->size - (gpa - run->gpa);
		if (rest >= len) return true;
		gpa += rest;
		len -= rest;
	}
	return true;
}

/* Copies to `to`, or else from `from`, or else sets all bytes to value. */
static inline int access(struct gmem *gm, gpa_t gpa, u8 *to, const u8 *from, u8 value, size_t len) {
	size_t piece;

	if (!is_ram(gm, gpa, len)) return E_FAULT;
	for (size_t done = 0; done < len; done += piece) {
		const struct gmem_run *run = find_run(gm, gpa + done);
		void *ram = phys_to_virt(run_address(run, gpa + done));

		piece = min_u64(len - done, block_rest(run, gpa + done));
		if (to)
			memcpy(to + done, ram, piece);
		else if (from)
			memcpy(ram, from + done, piece);
		else
			memset(ram, value, piece);
		/* Afterwards: who takes the bit from the log finds what was written. */
		if (!to) mark(gm, run, gpa + done, piece);
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
	memset(gm, 0, sizeof(*gm));
	gm->config = *config;
	gm->clean = true;
	gm->runs_size = PAGE_SIZE;
	gm->runs = page_alloc(gm->runs_size);
	gm->last_run = gm->runs;
	if (gm->runs && pt_init(&gm->pt, format, config->max_leaf) == 0) return 0;
	gmem_destroy(gm);
	return E_NOMEM;
}

bool gmem_clear(struct gmem *gm, u64 most) {
	u64 at = gm->cleared;

	for (u32 i = 0; !gm->clean && i < gm->nr_runs; at -= gm->runs[i++].size) {
		const struct gmem_run *run = &gm->runs[i];

		if (at >= run->size) continue;
		most = min_u64(most, run->size - at);
		gm->cleared += most;
		return gmem_fill(gm, run->gpa + at, 0, most) > 0; /* never: it is RAM */
	}
	gm->cleared = 0;
	gm->clean = true;
	return true;
}

static void free_run(const struct gmem_run *run, bool clean) {
	unsigned order = run->shift - (unsigned)PAGE_SHIFT;

	for (u32 i = 0; i < run->count; i++) {
		pfn_t pfn = (run->blocks ? run->blocks[i] : run->first) >> PAGE_SHIFT;

		(void)frame_free(pfn, order, clean ? FRAME_SCRUBBED : 0);
	}
	page_free(run->blocks, PAGE_SIZE);
}

void gmem_destroy(struct gmem *gm) {
	if (!gm->runs) return;
	shadow_destroy(gm->shadow);
	page_free((void *)gm->log, gm->log_size);
	while (gm->nr_pmls) page_free((void *)gm->pml[--gm->nr_pmls], PAGE_SIZE);
	pt_destroy(&gm->pt);
	for (u32 i = 0; i < gm->nr_runs; i++) free_run(&gm->runs[i], gm->clean);
	page_free(gm->runs, gm->runs_size);
	memset(gm, 0, sizeof(*gm));
}

/* Makes the array of runs twice as large when it is full. */
static int grow_runs(struct gmem *gm) {
	if ((gm->nr_runs + 1) * sizeof(*gm->runs) <= gm->runs_size) return 0;
	struct gmem_run *larger = page_alloc(2 * gm->runs_size);
	if (!larger) return E_NOMEM;
	memcpy(larger, gm->runs, gm->nr_runs * sizeof(*larger));
	page_free(gm->runs, gm->runs_size);
	gm->runs = larger;
	gm->runs_size *= 2;
	gm->last_run = gm->runs;
	return 0;
}

/* Puts a block behind the last one: into its run, if it fits, else into a new one. */
static int add_block(struct gmem *gm, gpa_t gpa, hpa_t block, unsigned order) {
	struct gmem_run *run = &gm->runs[gm->nr_runs - 1];
	u8 shift = (u8)(PAGE_SHIFT + order);

	if (!gm->nr_runs || run->gpa + run->size != gpa || run->shift != shift ||
	    run->count == GMEM_RUN_BLOCKS) {
		int err = grow_runs(gm);

		if (err) return err;
		gm->runs[gm->nr_runs++] = (struct gmem_run){.gpa = gpa,
							    .size = 1ul << shift,
							    .first = block,
							    .count = 1,
							    .shift = shift};
		return 0;
	}
	if (!run->blocks) {
		run->blocks = page_alloc(PAGE_SIZE);
		if (!run->blocks) return E_NOMEM;
		run->blocks[0] = run->first;
	}
	run->blocks[run->count++] = block;
	run->size += 1ul << shift;
	return 0;
}

/* The largest order that fits alignment and size. */
static unsigned best_order(gpa_t gpa, u64 size) {
	unsigned order = FRAME_MAX_ORDER;

	while (order > 0 && (gpa % (PAGE_SIZE << order) || size < PAGE_SIZE << order)) order--;
	return order;
}

/* Backs the range. Once there is no block of an order left, larger ones are not tried again. */
static int add_blocks(struct gmem *gm, gpa_t gpa, u64 size) {
	unsigned limit = FRAME_MAX_ORDER;

	for (u64 done = 0; done < size;) {
		unsigned order = best_order(gpa + done, size - done);
		pfn_t pfn;

		if (order > limit) order = limit;
		int err = frame_alloc(order, FRAME_ASK, &pfn);
		if (err < 0 && order > 0) {
			limit = order - 1;
			continue;
		}
		if (err < 0) return err;
		if (err) gm->clean = false;
		err = add_block(gm, gpa + done, pfn << PAGE_SHIFT, order);
		if (err) {
			(void)frame_free(pfn, order, 0);
			return err;
		}
		if (!gm->config.lazy)
			err = pt_map(&gm->pt, gpa + done, pfn << PAGE_SHIFT, PAGE_SIZE << order,
				     GMEM_ATTRS);
		if (err) return err;
		done += PAGE_SIZE << order;
	}
	return 0;
}

int gmem_add_ram(struct gmem *gm, gpa_t gpa, u64 size) {
	struct frame_stats stats;

	if (size == 0 || (gpa | size) & ~PAGE_MASK || gpa < gm->end ||
	    !range_within(gpa, size, 1ul << PT_VA_BITS))
		return E_INVAL;
	/* Asked first, or all that is there would be taken from the others for a moment. */
	frame_stats(&stats);
	if (size >> PAGE_SHIFT > stats.free) return E_NOMEM;
	gm->end = gpa + size;
	gm->nr_pages += size >> PAGE_SHIFT;
	return add_blocks(gm, gpa, size);
}

/* The first write to a page that the log does not see yet, nor its neighbours of a large page. */
static int open_page(struct gmem *gm, const struct gmem_run *run, gpa_t gpa) {
	u64 size = min_u64(1ul << run->shift, pt_level_size(PT_LEVEL_2M));
	int err;

	if (gm->nr_pmls) {
		/* Each of its pages has a dirty flag of its own now, and the processor logs. */
		err = pt_protect(&gm->pt, gpa & PAGE_MASK, PAGE_SIZE, GMEM_CLEAN);
		if (err >= 0) err = pt_protect(&gm->pt, align_down(gpa, size), size, GMEM_CLEAN);
		return err;
	}
	/* In this order: a page that is writable is in the log, or will be. */
	err = pt_protect(&gm->pt, gpa & PAGE_MASK, PAGE_SIZE, GMEM_ATTRS);
	if (err >= 0) mark(gm, run, gpa, 1);
	return err;
}

/* Maps the largest leaf around gpa, or a smaller one where a part of that is mapped already. */
int gmem_fault(struct gmem *gm, gpa_t gpa, bool write, bool exec) {
	u32 need = PT_READ | (write ? PT_WRITE : 0) | (exec ? PT_EXEC : 0);
	const struct gmem_run *run = find_run(gm, gpa);
	unsigned level = gm->pt.max_leaf;
	struct pt_mapping m;
	int err;

	if (!run) return E_FAULT;
	while (pt_level_shift(level) > run->shift) level--;
	do {
		bool logging = gm->logging;
		u64 size = pt_level_size(level);
		gpa_t page = align_down(gpa, size);

		m.attrs = logging ? GMEM_LOGGED : GMEM_ATTRS;
		err = pt_map(&gm->pt, page, run_address(run, page), size, m.attrs);
		if (likely(!err && !logging)) {
			/* This leaf may have come too late for a log that has begun meanwhile. */
			mark(gm, run, page, size);
			return 0;
		}
		if (err == E_EXIST && pt_walk(&gm->pt, gpa, &m)) err = 0;
	} while (err == E_EXIST && level-- > 0);
	need &= ~m.attrs;
	if (err || !(need & PT_WRITE)) return err ? err : need ? E_FAULT : 0;
	err = open_page(gm, run, gpa);
	return err < 0 ? err : 0;
}

/* Sets the rights of all RAM, and makes large leaves of small ones where that gives any. */
static int protect_all(struct gmem *gm, u32 attrs) {
	for (u32 i = 0; i < gm->nr_runs; i++) {
		const struct gmem_run *run = &gm->runs[i];
		u64 step = min_u64(1ul << run->shift, pt_level_size(gm->pt.max_leaf));

		for (u64 at = 0; at < run->size; at += step) {
			int ret = pt_protect(&gm->pt, run->gpa + at, step, attrs);

			if (ret >= 0 && attrs & PT_WRITE)
				ret = pt_merge(&gm->pt, run->gpa + at, step);
			if (ret < 0) return ret;
		}
	}
	if (gm->shadow) shadow_forget_all(gm->shadow);
	return 0;
}

_Atomic u64 *gmem_new_pml(struct gmem *gm) {
	void *pml = gm->nr_pmls < GMEM_MAX_PMLS ? page_alloc(PAGE_SIZE) : NULL;

	if (!pml) return NULL;
	memset(pml, 0xff, PAGE_SIZE);
	return gm->pml[gm->nr_pmls++] = pml;
}

void gmem_log_collect_of(struct gmem *gm, _Atomic u64 *pml) {
	for (u64 i = 0; i < PML_ENTRIES; i++) {
		if (atomic_load_explicit(pml + i, memory_order_relaxed) == PML_NONE) continue;
		/* Bochs 2.7 leaves the offset in the page. */
		gpa_t gpa = atomic_exchange(pml + i, PML_NONE) & PAGE_MASK;
		const struct gmem_run *run = find_run(gm, gpa);

		if (run) mark(gm, run, gpa, 1);
	}
}

void gmem_log_collect(struct gmem *gm) {
	for (u32 n = 0; n < gm->nr_pmls; n++) gmem_log_collect_of(gm, gm->pml[n]);
}

int gmem_log_start(struct gmem *gm) {
	u64 words = 0;

	if (gm->logging) return E_BUSY;
	for (u32 i = 0; i < gm->nr_runs; i++) {
		u64 first = gm->runs[i].gpa >> WORD_SHIFT;

		gm->runs[i].log = words - first;
		words += ((gm->runs[i].gpa + gm->runs[i].size - 1) >> WORD_SHIFT) - first + 1;
	}
	/* Kept when the log ends, for those who have seen it on. */
	if (gm->log_size != words * sizeof(u64)) {
		page_free((void *)gm->log, gm->log_size);
		gm->log_size = words * sizeof(u64);
		gm->log = page_alloc(gm->log_size);
	}
	if (!gm->log) return E_NOMEM;
	gmem_log_collect(gm); /* what has come after the last one's end */
	memset((void *)gm->log, 0, gm->log_size);
	gm->logging = true;
	return protect_all(gm, GMEM_LOGGED);
}

int gmem_log_stop(struct gmem *gm) {
	gm->logging = false;
	return protect_all(gm, GMEM_ATTRS);
}

/* Takes the bits of one word, from gfn on, out of the log; the pages' next writes are seen again.
 */
static int take_word(struct gmem *gm, _Atomic u64 *word, gfn_t gfn, u64 *out) {
	u64 bits = atomic_exchange(word, 0);

	for (u64 left = bits; left; left &= left - 1) {
		gfn_t page = gfn + (u64)__builtin_ctzl(left);
		struct pt_mapping m;
		int ret = 0;

		/* What only Roost has written need not be taken apart. */
		if (pt_walk(&gm->pt, page << PAGE_SHIFT, &m) && m.attrs & PT_WRITE)
			ret = pt_protect(&gm->pt, page << PAGE_SHIFT, PAGE_SIZE,
					 gm->nr_pmls ? GMEM_CLEAN : GMEM_LOGGED);
		if (ret < 0) {
			atomic_fetch_or(word, left);
			*out |= bits ^ left;
			return ret;
		}
		if (gm->shadow) shadow_forget(gm->shadow, page, 1);
	}
	*out |= bits;
	return 0;
}

int gmem_log_take(struct gmem *gm, gfn_t gfn, u64 *bits) {
	*bits = 0;
	if (!gm->logging) return E_BUSY;
	for (u32 i = 0; i < gm->nr_runs; i++) {
		const struct gmem_run *run = &gm->runs[i];

		if (gfn + 64 <= run->gpa >> PAGE_SHIFT) continue;
		if (gfn >= (run->gpa + run->size) >> PAGE_SHIFT) continue;
		int err = take_word(gm, log_word(gm, run, gfn), gfn, bits);
		if (err) return err;
	}
	return 0;
}
