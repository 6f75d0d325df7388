/*
 * The page-table engine, by the rules of mm/ptable.h. All changes of linked tables go through
 * replace(). A linked table other than the root is never empty; an unlinked one is never written.
 */
#include "mm/ptable.h"

#include "lib/string.h"
#include "mm/direct.h"
#include "mm/frame.h"

#define ENTRIES	  512u
#define ADDR_MASK GENMASK(51, 12)
#define PA_LIMIT  (1ul << 52)

typedef _Atomic u64 entry_t;

#ifdef UNIT_TEST
void (*pt_store_hook)(void);
#endif

static int alloc_page(hpa_t *page) {
	pfn_t pfn;
	int err = frame_alloc(0, FRAME_ZERO, &pfn);

	if (!err) *page = pfn << PAGE_SHIFT;
	return err;
}

static void free_page(hpa_t page) { (void)frame_free(page >> PAGE_SHIFT, 0, 0); }

static entry_t *table_at(hpa_t table) { return phys_to_virt(table); }

static entry_t *slot_of(hpa_t table, u64 va, unsigned level) {
	return table_at(table) + (va >> pt_level_shift(level)) % ENTRIES;
}

static u64 load(const entry_t *slot) { return atomic_load_explicit(slot, memory_order_acquire); }

/* The only way by which a linked table changes. False when it is not `old` any more. */
static bool replace(entry_t *slot, u64 old, u64 new) {
	bool done = atomic_compare_exchange_strong(slot, &old, new);

#ifdef UNIT_TEST
	if (done && pt_store_hook) pt_store_hook();
#endif
	return done;
}

static bool is_present(const struct pt_format *f, u64 entry) { return entry & f->present; }

static bool is_leaf(const struct pt_format *f, u64 entry, unsigned level) {
	return level == 0 || (entry & f->large);
}

static u64 encode(const struct pt_format *f, u32 attrs, unsigned level) {
	u32 type = (attrs & PT_TYPE_MASK) >> PT_TYPE_SHIFT;

	return f->leaf | (level ? f->large | f->type_large[type] : f->type[type]) |
	       (attrs & PT_WRITE ? f->write : 0) | (attrs & PT_EXEC ? f->exec : f->no_exec) |
	       (attrs & PT_GLOBAL ? f->global : 0);
}

static u32 decode(const struct pt_format *f, u64 entry, unsigned level) {
	const u64 *types = level ? f->type_large : f->type;
	u64 type = entry & (level ? f->type_mask_large : f->type_mask);
	u64 write = f->write & ~f->accessed_dirty;
	bool exec = f->exec ? (entry & f->exec) : !(entry & f->no_exec);
	u32 attrs = PT_READ;
	u32 i = 0;

	while (i < PT_NR_TYPES - 1 && types[i] != type) i++;
	attrs |= i << PT_TYPE_SHIFT;
	attrs |= entry & write ? PT_WRITE : 0;
	attrs |= exec ? PT_EXEC : 0;
	attrs |= entry & f->global ? PT_GLOBAL : 0;
	return attrs;
}

static u64 leaf_address(u64 entry, unsigned level) {
	return entry & ADDR_MASK & ~(pt_level_size(level) - 1);
}

/* True when the format can address va. */
static bool is_valid_address(const struct pt_format *f, u64 va) {
	if (f->canonical) return (u64)((s64)(va << (64 - f->va_bits)) >> (64 - f->va_bits)) == va;
	return va >> f->va_bits == 0;
}

static bool is_valid_range(const struct pt_format *f, u64 va, u64 size) {
	u64 last = va + (size - 1);

	if (size == 0 || (va | size) & ~PAGE_MASK || last < va) return false;
	/* The first and the last address in the same half: nothing between them is a hole. */
	return is_valid_address(f, va) && is_valid_address(f, last) && (s64)(va ^ last) >= 0;
}

static bool is_valid_attrs(const struct pt_format *f, u32 attrs) {
	u32 known = PT_READ | PT_WRITE | PT_EXEC | PT_GLOBAL | PT_TYPE_MASK;

	if (!(attrs & PT_READ) || attrs & ~known ||
	    (attrs & PT_TYPE_MASK) >> PT_TYPE_SHIFT >= PT_NR_TYPES)
		return false;
	return !f->w_xor_x || (attrs & (PT_WRITE | PT_EXEC)) != (PT_WRITE | PT_EXEC);
}

/*
 * The logs of unlinked tables, which must not be written: pages of 511 entries, address and level,
 * and a link list them. Room for every table is reserved when it is made, with a page more because
 * each log may end in a page half used: unlinking can then not fail.
 */
#define LOG_ENTRIES (ENTRIES - 1)

enum { LOG_NOW, LOG_WAITING };

static void add_spare(struct ptable *pt, hpa_t page) {
	*(u64 *)phys_to_virt(page) = pt->spare;
	pt->spare = page;
}

static hpa_t take_spare(struct ptable *pt) {
	hpa_t page = pt->spare;

	pt->spare = *(u64 *)phys_to_virt(page);
	return page;
}

static int log_reserve(struct ptable *pt) {
	while ((u64)pt->log_pages * LOG_ENTRIES < pt->nr_tables + 1ul + LOG_ENTRIES) {
		hpa_t page;
		int err = alloc_page(&page);

		if (err) return err;
		add_spare(pt, page);
		pt->log_pages++;
	}
	return 0;
}

static void unlink_table(struct ptable *pt, hpa_t table, unsigned level) {
	struct pt_log *log = &pt->log[LOG_NOW];

	if (!log->pages || log->used == LOG_ENTRIES) {
		hpa_t page = take_spare(pt);

		*(u64 *)phys_to_virt(page) = log->pages;
		log->pages = page;
		log->used = 0;
	}
	u64 *entries = phys_to_virt(log->pages);
	entries[++log->used] = table | level;
}

/* Something that a TLB may hold has changed, or a table was unlinked. */
static void note_change(struct ptable *pt) {
	u64 old = atomic_fetch_add_explicit(&pt->generation, 1, memory_order_release);

	pt->log[LOG_NOW].generation = old + 1;
}

static int new_table(struct ptable *pt, hpa_t *table) {
	int err = log_reserve(pt) ?: alloc_page(table);

	if (!err) pt->nr_tables++;
	return err;
}

/* Frees a table of this level and all below it, bottom up. Nobody else sees them any more. */
static u32 free_tree(struct ptable *pt, hpa_t table, unsigned level) {
	u32 freed = 1;

	for (u32 i = 0; level > 0 && i < ENTRIES; i++) {
		u64 entry = load(table_at(table) + i);

		if (is_present(pt->format, entry) && !is_leaf(pt->format, entry, level))
			freed += free_tree(pt, entry & ADDR_MASK, level - 1);
	}
	free_page(table);
	pt->nr_tables--;
	return freed;
}

int pt_init(struct ptable *pt, const struct pt_format *format, u8 max_leaf) {
	memset(pt, 0, sizeof(*pt));
	pt->format = format;
	pt->max_leaf = max_leaf < format->max_leaf ? max_leaf : format->max_leaf;
	if (new_table(pt, &pt->root) == 0) return 0;
	pt->root = 0;
	pt_destroy(pt);
	return E_NOMEM;
}

/* Frees what a log lists; the pages of the log become spare. */
static u32 free_logged(struct ptable *pt, struct pt_log *log) {
	u32 freed = 0;

	while (log->pages) {
		hpa_t page = log->pages;
		u64 *entries = phys_to_virt(page);

		for (u32 i = 1; i <= log->used; i++)
			freed += free_tree(pt, entries[i] & ADDR_MASK,
					   (unsigned)(entries[i] & ~ADDR_MASK));
		log->pages = entries[0];
		log->used = LOG_ENTRIES;
		add_spare(pt, page);
	}
	return freed;
}

u32 pt_reclaim(struct ptable *pt, u64 flushed) {
	struct pt_log *now = &pt->log[LOG_NOW], *waiting = &pt->log[LOG_WAITING];
	u32 freed = 0;

	spin_guard(&pt->lock);
	if (flushed >= waiting->generation) freed += free_logged(pt, waiting);
	if (flushed >= now->generation) freed += free_logged(pt, now);
	/* However fast tables are unlinked, those that wait now need no newer flush than this. */
	if (!waiting->pages) {
		*waiting = *now;
		now->pages = 0;
	}
	return freed;
}

void pt_destroy(struct ptable *pt) {
	if (pt->root) free_tree(pt, pt->root, pt->format->levels - 1u);
	pt->root = 0;
	free_logged(pt, &pt->log[LOG_NOW]);
	free_logged(pt, &pt->log[LOG_WAITING]);
	while (pt->spare) free_page(take_spare(pt));
	pt->log_pages = 0;
}

/* Where the way to va ends. */
struct place {
	entry_t *slot;
	u64 entry;
	unsigned level;
};

/* Down to the first entry that points to no table, or to the one of the level `lowest`. */
static inline __attribute__((always_inline)) struct place descend(const struct ptable *pt, u64 va,
								  unsigned lowest) {
	const struct pt_format *f = pt->format;
	hpa_t table = pt->root;

	for (unsigned level = f->levels - 1u;; level--) {
		entry_t *slot = slot_of(table, va, level);
		u64 entry = load(slot);

		if (level == lowest || !is_present(f, entry) || is_leaf(f, entry, level))
			return (struct place){slot, entry, level};
		table = entry & ADDR_MASK;
	}
}

bool pt_walk(const struct ptable *pt, u64 va, struct pt_mapping *out) {
	if (!is_valid_address(pt->format, va)) return false;
	struct place p = descend(pt, va, 0);
	if (!is_present(pt->format, p.entry)) return false;
	out->pa = leaf_address(p.entry, p.level) | (va & (pt_level_size(p.level) - 1));
	out->attrs = decode(pt->format, p.entry, p.level);
	out->level = (u8)p.level;
	return true;
}

/*
 * Replaces the leaf in *slot by a table of leaves of the next level that say the same; filled once
 * more when accessed or dirty bits change meanwhile.
 */
static int split(struct ptable *pt, entry_t *slot, unsigned level) {
	const struct pt_format *f = pt->format;
	hpa_t table;
	u64 entry;
	int err = new_table(pt, &table);

	if (err) return err;
	do {
		entry = load(slot);
		for (u64 i = 0; i < ENTRIES; i++)
			atomic_store_explicit(
				table_at(table) + i,
				encode(f, decode(f, entry, level), level - 1) |
					(entry & f->accessed_dirty) |
					(leaf_address(entry, level) + i * pt_level_size(level - 1)),
				memory_order_relaxed);
	} while (!replace(slot, entry, table | f->table));
	return 0;
}

/* Splits until no leaf lies across va. */
static int split_across(struct ptable *pt, u64 va) {
	for (;;) {
		struct place p = descend(pt, va, 0);

		if (va % pt_level_size(p.level) == 0 || !is_present(pt->format, p.entry)) return 0;
		int err = split(pt, p.slot, p.level);
		if (err) return err;
	}
}

static bool is_empty(const struct pt_format *f, hpa_t table) {
	for (u32 i = 0; i < ENTRIES; i++)
		if (is_present(f, load(table_at(table) + i))) return false;
	return true;
}

/* Unlinks the tables on the way to va that have become empty. */
static bool prune(struct ptable *pt, u64 va) {
	struct place p = descend(pt, va, 0);
	bool changed = false;

	if (is_present(pt->format, p.entry)) return false;
	for (unsigned level = p.level + 1; level < pt->format->levels; level++) {
		p = descend(pt, va, level);
		if (!is_empty(pt->format, p.entry & ADDR_MASK)) break;
		replace(p.slot, p.entry, 0);
		unlink_table(pt, p.entry & ADDR_MASK, level - 1);
		changed = true;
	}
	return changed;
}

/* One step over a range: what is to happen to the leaves. */
struct change {
	bool remove; /* else: new attributes */
	u32 attrs;
	bool changed;
};

/* True when a TLB must not go on with the old attributes; that it has fewer rights does no harm. */
static bool is_less(u32 old, u32 new) {
	return (old & ~new & ~PT_TYPE_MASK) || (old ^ new) & PT_TYPE_MASK;
}

static void change_leaf(const struct pt_format *f, entry_t *slot, unsigned level,
			struct change *c) {
	u64 entry, new;

	do {
		entry = load(slot);
		new = encode(f, c->attrs, level) | (entry & f->accessed_dirty) |
		      leaf_address(entry, level);
		if (c->remove) new = 0;
		if (new == entry) return;
	} while (!replace(slot, entry, new));
	if (c->remove || is_less(decode(f, entry, level), c->attrs)) c->changed = true;
}

/* The highest level up to `level` whose entries begin at these addresses and cover no more. */
static unsigned best_level(unsigned level, u64 addresses, u64 size) {
	while (level > 0 && (addresses % pt_level_size(level) || size < pt_level_size(level)))
		level--;
	return level;
}

/*
 * Does the change at the highest entry on the way to va that lies wholly in the `left` bytes from
 * there. Returns how many bytes that entry covers from va on. No leaf lies across the ends.
 */
static u64 change_step(struct ptable *pt, u64 va, u64 left, struct change *c) {
	const struct pt_format *f = pt->format;
	struct place p = descend(pt, va, c->remove ? best_level(f->levels - 1u, va, left) : 0);
	u64 size = pt_level_size(p.level);

	if (is_present(f, p.entry) && is_leaf(f, p.entry, p.level)) {
		change_leaf(f, p.slot, p.level, c);
	} else if (is_present(f, p.entry)) {
		replace(p.slot, p.entry, 0);
		unlink_table(pt, p.entry & ADDR_MASK, p.level - 1);
		c->changed = true;
	}
	return size - va % size;
}

/* Changes a range whose ends no leaf lies across; tables that this empties go as well. */
static bool apply(struct ptable *pt, u64 va, u64 size, struct change *c) {
	bool pruned = false;

	for (u64 done = 0; done < size;)
		done += min_u64(change_step(pt, va + done, size - done, c), size - done);
	if (c->remove) {
		pruned = prune(pt, va);
		pruned |= prune(pt, va + (size - 1));
	}
	if (c->changed || pruned) note_change(pt);
	return c->changed;
}

/*
 * Splits at both ends, then changes what is between. The end of the address space needs no split: 0
 * is aligned to everything.
 */
static int change_mappings(struct ptable *pt, u64 va, u64 size, struct change *c) {
	if (!is_valid_range(pt->format, va, size)) return E_INVAL;
	spin_guard(&pt->lock);
	return split_across(pt, va) ?: split_across(pt, va + size) ?: apply(pt, va, size, c);
}

int pt_unmap(struct ptable *pt, u64 va, u64 size) {
	struct change c = {.remove = true};

	return change_mappings(pt, va, size, &c);
}

int pt_protect(struct ptable *pt, u64 va, u64 size, u32 attrs) {
	struct change c = {.attrs = attrs};

	return is_valid_attrs(pt->format, attrs) ? change_mappings(pt, va, size, &c) : E_INVAL;
}

/* The slot of this level on the way to va, with the tables above it made where they are missing. */
static int make_slot(struct ptable *pt, u64 va, unsigned level, entry_t **slot) {
	for (;;) {
		struct place p = descend(pt, va, level);
		hpa_t table;

		*slot = p.slot;
		if (p.level == level) return 0;
		if (is_present(pt->format, p.entry)) return E_EXIST;
		int err = new_table(pt, &table);
		if (err) return err;
		replace(p.slot, p.entry, table | pt->format->table);
	}
}

/* Maps the first leaves of the range, as many as one table holds. *done: bytes mapped. */
static int map_run(struct ptable *pt, u64 va, u64 pa, u64 size, u32 attrs, u64 *done) {
	unsigned level = best_level(pt->max_leaf, va | pa, size);
	u64 step = pt_level_size(level);
	u64 bits = encode(pt->format, attrs, level);
	u64 room = ENTRIES - (va >> pt_level_shift(level)) % ENTRIES;
	u64 count = min_u64(room, size >> pt_level_shift(level));
	entry_t *slot;
	int err = make_slot(pt, va, level, &slot);

	for (*done = 0; !err && *done < count * step; *done += step, slot++) {
		u64 old = load(slot);

		if (is_present(pt->format, old) || !replace(slot, old, bits | (pa + *done)))
			return E_EXIST;
	}
	return err;
}

int pt_map(struct ptable *pt, u64 va, u64 pa, u64 size, u32 attrs) {
	u64 mapped = 0;
	int err = 0;

	if (!is_valid_range(pt->format, va, size) || !is_valid_attrs(pt->format, attrs) ||
	    pa & ~PAGE_MASK || !range_within(pa, size, PA_LIMIT))
		return E_INVAL;
	spin_guard(&pt->lock);
	while (!err && mapped < size) {
		u64 done;

		err = map_run(pt, va + mapped, pa + mapped, size - mapped, attrs, &done);
		mapped += done;
	}
	if (err) {
		struct change c = {.remove = true};

		if (mapped) apply(pt, va, mapped, &c);
		if (prune(pt, va + mapped)) note_change(pt);
	}
	return err;
}

/* Replaces the table at the slot of this level by one leaf, if its 512 leaves make one. */
static bool merge_table(struct ptable *pt, u64 va, unsigned level) {
	const struct pt_format *f = pt->format;
	struct place p = descend(pt, va, level);
	hpa_t table = p.entry & ADDR_MASK;
	u64 bits = 0;

	if (p.level != level || !is_present(f, p.entry) || is_leaf(f, p.entry, level)) return false;
	u64 first = load(table_at(table)) & ~f->accessed_dirty;
	if (leaf_address(first, level - 1) % pt_level_size(level)) return false;
	for (u64 i = 0; i < ENTRIES; i++) {
		u64 e = load(table_at(table) + i);

		if (!is_present(f, e) || !is_leaf(f, e, level - 1) ||
		    (e & ~f->accessed_dirty) != first + i * pt_level_size(level - 1))
			return false;
		bits |= e & f->accessed_dirty;
	}
	/* A leaf is made dirty when it is writable: no write after the look above gets lost. */
	replace(p.slot, p.entry,
		encode(f, decode(f, first, level - 1), level) | bits |
			leaf_address(first, level - 1));
	unlink_table(pt, table, level - 1);
	note_change(pt);
	return true;
}

int pt_merge(struct ptable *pt, u64 va, u64 size) {
	bool changed = false;

	if (!is_valid_range(pt->format, va, size)) return E_INVAL;
	spin_guard(&pt->lock);
	for (unsigned level = 1; level <= pt->max_leaf; level++) {
		u64 step = pt_level_size(level);
		u64 skip = (step - va % step) % step;

		for (u64 at = skip; at < size && step <= size - at; at += step)
			changed |= merge_table(pt, va + at, level);
	}
	return changed;
}
