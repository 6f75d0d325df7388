/* The page-table engine: all changes of linked tables go through replace(), unlinked ones stay. */
#include "mm/ptable.h"

#include "lib/string.h"
#include "mm/frame.h"

#define ENTRIES	  512u
#define ADDR_MASK GENMASK(51, 12)
#define PA_LIMIT  (1ul << 52)

typedef _Atomic u64 entry_t;

#ifdef UNIT_TEST
void (*pt_store_hook)(void);
#endif

/* 0: there is no memory. */
static hpa_t new_table(void) {
	const void *page = page_alloc(PAGE_SIZE);

	return page ? virt_to_phys(page) : 0;
}

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
	       (attrs & PT_WRITE ? f->write & ~(attrs & PT_CLEAN ? f->accessed_dirty : 0) : 0) |
	       (attrs & PT_EXEC ? f->exec : f->no_exec) | (attrs & PT_GLOBAL ? f->global : 0);
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
	if (f->canonical) return (u64)((s64)(va << (64 - PT_VA_BITS)) >> (64 - PT_VA_BITS)) == va;
	return va >> PT_VA_BITS == 0;
}

static bool is_valid_range(const struct pt_format *f, u64 va, u64 size) {
	u64 last = va + (size - 1);

	if (size == 0 || (va | size) & ~PAGE_MASK || last < va) return false;
	/* The first and the last address in the same half: nothing between them is a hole. */
	return is_valid_address(f, va) && is_valid_address(f, last) && (s64)(va ^ last) >= 0;
}

static bool is_valid_attrs(const struct pt_format *f, u32 attrs) {
	u32 known = PT_READ | PT_WRITE | PT_EXEC | PT_GLOBAL | PT_CLEAN | PT_TYPE_MASK;

	if (!(attrs & PT_READ) || attrs & ~known ||
	    (attrs & PT_TYPE_MASK) >> PT_TYPE_SHIFT >= PT_NR_TYPES)
		return false;
	return !f->w_xor_x || (attrs & (PT_WRITE | PT_EXEC)) != (PT_WRITE | PT_EXEC);
}

/* What pt_merge() has unlinked and CPUs may still walk: such a table cannot be written. */
struct pt_unlinked {
	struct pt_unlinked *next;
	u64 count;
	void *table[ENTRIES - 2];
};

_Static_assert(sizeof(struct pt_unlinked) == PAGE_SIZE, "a page lists what one page can");

/* Notes a table before it is unlinked. False: no memory to note it in. */
static bool note_unlinked(struct ptable *pt, hpa_t table) {
	struct pt_unlinked *list = pt->unlinked;

	if (!list || list->count == ARRAY_SIZE(list->table)) {
		list = page_alloc(PAGE_SIZE);
		if (!list) return false;
		list->next = pt->unlinked;
		pt->unlinked = list;
	}
	list->table[list->count++] = table_at(table);
	return true;
}

/* A TLB may hold something that is no more. */
static void note_change(struct ptable *pt) {
	atomic_fetch_add_explicit(&pt->generation, 1, memory_order_release);
}

/* Frees a table of this level and all below it. Nobody walks them any more. */
static void free_tree(const struct pt_format *f, hpa_t table, unsigned level) {
	for (u32 i = 0; level > 0 && i < ENTRIES; i++) {
		u64 entry = load(table_at(table) + i);

		if (is_present(f, entry) && !is_leaf(f, entry, level))
			free_tree(f, entry & ADDR_MASK, level - 1);
	}
	page_free(table_at(table), PAGE_SIZE);
}

int pt_init(struct ptable *pt, const struct pt_format *format, u8 max_leaf) {
	memset(pt, 0, sizeof(*pt));
	pt->format = format;
	pt->max_leaf = max_leaf < format->max_leaf ? max_leaf : format->max_leaf;
	pt->root = new_table();
	return pt->root ? 0 : E_NOMEM;
}

void pt_reclaim(struct ptable *pt, u64 flushed) {
	spin_guard(&pt->lock);
	while (pt->unlinked && flushed >= pt_generation(pt)) {
		struct pt_unlinked *list = pt->unlinked;

		for (u64 i = 0; i < list->count; i++) page_free(list->table[i], PAGE_SIZE);
		pt->unlinked = list->next;
		page_free(list, PAGE_SIZE);
	}
}

void pt_destroy(struct ptable *pt) {
	if (pt->root) free_tree(pt->format, pt->root, PT_LEVELS - 1);
	pt->root = 0;
	pt_reclaim(pt, ~0ul);
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

	for (unsigned level = PT_LEVELS - 1;; level--) {
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

/* A leaf becomes a table of smaller ones, filled again when A or D changes meanwhile. */
static int split(const struct pt_format *f, entry_t *slot, unsigned level) {
	hpa_t table = new_table();
	u64 entry;

	if (!table) return E_NOMEM;
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
static int split_across(const struct ptable *pt, u64 va) {
	for (;;) {
		struct place p = descend(pt, va, 0);

		if (va % pt_level_size(p.level) == 0 || !is_present(pt->format, p.entry)) return 0;
		int err = split(pt->format, p.slot, p.level);
		if (err) return err;
	}
}

/* True when a TLB must not go on with the old attributes; that it has fewer rights does no harm. */
static bool is_less(u32 old, u32 new) {
	return (old & ~new & ~PT_TYPE_MASK) || (old ^ new) & PT_TYPE_MASK;
}

/* Gives a leaf other attributes. True when a TLB must not go on with those it had. */
static bool protect_leaf(const struct pt_format *f, entry_t *slot, unsigned level, u32 attrs) {
	u64 entry, new;

	do {
		entry = load(slot);
		new = attrs ? encode(f, attrs, level) | leaf_address(entry, level) : 0;
		if (attrs && !(attrs & PT_CLEAN)) new |= entry & f->accessed_dirty;
		if (new == entry) return false;
	} while (!replace(slot, entry, new));
	return attrs & PT_CLEAN || is_less(decode(f, entry, level), attrs);
}

/* The end of the address space needs no split: 0 is aligned to everything. */
int pt_protect(struct ptable *pt, u64 va, u64 size, u32 attrs) {
	bool less = false;

	if (!is_valid_range(pt->format, va, size) ||
	    (attrs != PT_NONE && !is_valid_attrs(pt->format, attrs)))
		return E_INVAL;
	spin_guard(&pt->lock);
	int err = split_across(pt, va) ?: split_across(pt, va + size);
	if (err) return err;
	for (u64 done = 0; done < size;) {
		struct place p = descend(pt, va + done, 0);
		u64 covered = pt_level_size(p.level);

		if (is_present(pt->format, p.entry))
			less |= protect_leaf(pt->format, p.slot, p.level, attrs);
		done += min_u64(covered - (va + done) % covered, size - done);
	}
	if (less) note_change(pt);
	return less;
}

/* The highest level up to `level` whose entries begin at these addresses and cover no more. */
static unsigned best_level(unsigned level, u64 addresses, u64 size) {
	while (level > 0 && (addresses % pt_level_size(level) || size < pt_level_size(level)))
		level--;
	return level;
}

/* The slot of this level on the way to va, with the tables above it made where they are missing. */
static int make_slot(const struct ptable *pt, u64 va, unsigned level, entry_t **slot) {
	for (;;) {
		struct place p = descend(pt, va, level);

		*slot = p.slot;
		if (p.level == level) return 0;
		if (is_present(pt->format, p.entry)) return E_EXIST;
		hpa_t table = new_table();
		if (!table) return E_NOMEM;
		replace(p.slot, p.entry, table | pt->format->table);
	}
}

/* Maps the first leaves of the range, as many as one table holds. *done: bytes mapped. */
static int map_run(const struct ptable *pt, u64 va, u64 pa, u64 size, u32 attrs, u64 *done) {
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
	int err = 0;

	if (!is_valid_range(pt->format, va, size) || !is_valid_attrs(pt->format, attrs) ||
	    pa & ~PAGE_MASK || !range_within(pa, size, PA_LIMIT))
		return E_INVAL;
	spin_guard(&pt->lock);
	for (u64 mapped = 0, done; !err && mapped < size; mapped += done)
		err = map_run(pt, va + mapped, pa + mapped, size - mapped, attrs, &done);
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
	if (!note_unlinked(pt, table)) return false;
	/* A leaf is made dirty when it is writable: no write after the look above gets lost. */
	replace(p.slot, p.entry,
		encode(f, decode(f, first, level - 1), level) | bits |
			leaf_address(first, level - 1));
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
