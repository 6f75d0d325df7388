/*
 * Shadow tables (mm/shadow.h; docs/memory.md has a drawing). A page belongs to one place in one
 * root, so its entries are found by gpa2 alone. Levels that table 12 lacks, and pages that take a
 * large page of L1's apart, have no table 12 behind them, and follow the entry above them.
 *
 * A page that goes is unlinked by one store; all below it goes along, unchanged. It is dead until
 * every vCPU has flushed, then its entries are taken apart one page at a time, when pages are
 * needed: no step here does more than a few pages' worth of work.
 */
#include "mm/shadow.h"

#include "lib/x86.h"
#include "mm/gmem.h"

#define ENTRIES	    512u
#define TOP	    3
#define GPA2_LIMIT  BIT(48)
#define ADDR	    GENMASK(51, 12)
#define LARGE	    BIT(7)
#define EPT_RWX	    (SHADOW_R | SHADOW_W | SHADOW_X)
#define EPT_TYPE    GENMASK(6, 3)
#define EPT_A	    BIT(8)
#define EPT_D	    BIT(9)

#define LOG_ENTRIES 512u

#define IDLE_ROOTS  32	 /* that are kept beside those in use */
#define MAX_CHANCES 32	 /* pages in use that are passed over when one is to be recycled */
#define MAX_STEPS   2048 /* pages that a flush compares */
#define NOWHERE	    (~0ul)

/* A reference to an entry is its page's number * 512 + its index; 0: none. */
struct shadow_page {
	_Atomic u64 table[ENTRIES]; /* what the CPU walks */
	u64 seen[ENTRIES];	    /* entry of table 12 when this one was composed */
	struct {
		u32 next, prev; /* of a leaf: the reverse map; of a table: next is its page */
	} link[ENTRIES];
	u64 used[ENTRIES / 64]; /* bit n: entry n is in use */
	struct list node;	/* in free, dead or roots */
	gpa_t base;	    /* of the entry of table 12 behind index 0; NOWHERE: there is none */
	u64 key;	    /* of a root: base | role */
	u64 dead_at;	    /* generation from which on nobody finds it */
	_Atomic u64 wanted; /* flushes of a root that L1 has asked for ... */
	_Atomic u64 done;   /* ... and that have been carried out */
	u32 number;	    /* in shadow.pages */
	u32 parent;	    /* reference to the entry that points here; 0: a root, or not in use */
	u16 nr_tables;	    /* entries in use that are no leaves */
	u8 level, role;
};

_Static_assert(sizeof(struct shadow_page) <= 4 * PAGE_SIZE,
	       "a byte more, and its block is twice as large");
_Static_assert(SHADOW_NR_ROLES <= 32, "a key holds the role below a base of PAE's");

/* ---- table 12 ---- */

struct format {
	u64 base_mask;	       /* the address in nCR3 or EPTP */
	u64 present;	       /* an entry with none of these is absent */
	u64 large;	       /* marks a leaf above level 0 */
	u64 invert;	       /* right bits whose absence grants */
	u64 read, write, exec; /* what all entries have to grant */
	u64 accessed, dirty;
	u64 reserved;	    /* in each entry ... */
	u64 reserved_table; /* ... that points to a table; ... */
	u64 reserved_large; /* ... in a large leaf, where its address is too low for it */
	u64 pdpte;	    /* PAE: at the top, where there are no rights nor accessed bits */
	u32 bad_rights, bad_types; /* EPT: combinations of bits 2:0, and in a leaf 5:3, refused */
	u8 size;		   /* of an entry, bytes */
	u8 top, va_bits;
	bool ept;
};

#define NPT                                                                                    \
	.present = X86_PTE_P, .invert = X86_PTE_NX, .read = X86_PTE_U,                         \
	.write = X86_PTE_U | X86_PTE_W, .exec = X86_PTE_U | X86_PTE_NX, .accessed = X86_PTE_A, \
	.dirty = X86_PTE_D
#define NPT_32 .base_mask = GENMASK(31, 12), .size = 4, .top = 1, .va_bits = 32, NPT
/* The entry at the top: APM 2 5.2.2, but for bit 5, see PDPTE_RESERVED in platform/gwalk.c. */
#define NPT_PAE                                                                          \
	.base_mask = GENMASK(31, 5), .size = 8, .top = 2, .va_bits = 32, .large = LARGE, \
	.reserved_large = GENMASK(20, 13),                                               \
	.pdpte = GENMASK(8, 6) | X86_PTE_U | X86_PTE_W | X86_PTE_NX, NPT
#define NPT_LONG                                                               \
	.base_mask = ADDR, .size = 8, .top = 3, .va_bits = 48, .large = LARGE, \
	.reserved_large = GENMASK(29, 13), NPT
/* SDM 3C 29.3.2, tables 29-1 to 29-7; 29.3.3.1 for combinations. */
#define EPT                                                                                        \
	.base_mask = ADDR, .size = 8, .top = 3, .va_bits = 48, .large = LARGE, .present = EPT_RWX, \
	.read = SHADOW_R, .write = SHADOW_W, .exec = SHADOW_X, .reserved_table = EPT_TYPE,         \
	.reserved_large = GENMASK(29, 12),                                                         \
	.bad_rights = 1u << SHADOW_W | 1u << (SHADOW_W | SHADOW_X),                                \
	.bad_types = 1u << 2 | 1u << 3 | 1u << 7, .ept = true

static const struct format formats[SHADOW_NR_ROLES] = {
	[SHADOW_NPT_32] = {NPT_32},
	[SHADOW_NPT_32_PSE] = {NPT_32, .large = LARGE, .reserved_large = BIT(21)},
	[SHADOW_NPT_PAE] = {NPT_PAE, .reserved = GENMASK(63, 52)},
	[SHADOW_NPT_PAE_NX] = {NPT_PAE, .reserved = GENMASK(62, 52)},
	[SHADOW_NPT_LONG] = {NPT_LONG, .reserved = X86_PTE_NX},
	[SHADOW_NPT_LONG_NX] = {NPT_LONG},
	[SHADOW_EPT] = {EPT},
	[SHADOW_EPT_AD] = {EPT, .accessed = EPT_A, .dirty = EPT_D},
};

/* What a walk has seen, by levels of the shadow; entries are 0 where table 12 has no such level. */
struct walk {
	u64 entry[TOP + 1];
	gpa_t base[TOP + 1]; /* of the page's entries, as in struct shadow_page */
	u64 rights;
	unsigned level;
	bool write;
};

static u64 index_of(u64 gpa2, unsigned level) { return (gpa2 >> pt_level_shift(level)) % ENTRIES; }

/* Of the bytes that an entry of table 12 covers. */
static unsigned shift_of(const struct format *f, unsigned level) {
	return f->size == 4 && level ? 22 : pt_level_shift(level);
}

/* Two entries of the shadow stand for one of 4 MiB. */
static unsigned scale_of(const struct format *f, unsigned level) {
	return shift_of(f, level) - pt_level_shift(level);
}

/* Reads the entry of this index in a table, once. Outside of RAM all bits are set. */
static inline u64 read_entry(const struct format *f, const void *table, u64 index) {
	if (f->size == 4)
		return table ? __atomic_load_n((const u32 *)table + index, __ATOMIC_ACQUIRE) : ~0u;
	return table ? __atomic_load_n((const u64 *)table + index, __ATOMIC_ACQUIRE) : ~0ul;
}

/* Sets bits in an entry if it still is what the walk has judged; false when it has changed. */
static bool set_bits(struct shadow *sh, const struct format *f, gpa_t at, u64 *entry, u64 bits) {
	void *ram = gmem_ptr_write(sh->gmem, at, f->size);
	u64 old = *entry;

	*entry |= bits;
	return ram && cmpxchg(ram, f->size, old, *entry);
}

/* Bits 20:13 of a 4 MiB leaf are bits 39:32 of its address (APM 2 5.2.1). */
static gpa_t leaf_address(const struct format *f, u64 entry, unsigned level) {
	u64 high = f->size == 4 && level ? (entry >> 13 & 0xff) << 32 : 0;

	return (entry & ADDR & ~0ul << shift_of(f, level)) | high;
}

static inline bool is_reserved(const struct shadow *sh, const struct format *f, u64 entry,
			       unsigned level, bool leaf) {
	u64 bits = f->reserved | sh->high_bits | (level == 2 ? f->pdpte : 0);

	/* Bit 2 alone is no right of NPT's: the entry would be absent. */
	if ((f->bad_rights | sh->bad_rights) >> (entry & 7) & 1) return true;
	if (!leaf) return entry & (bits | f->reserved_table);
	if (level && (level > sh->max_large || leaf_address(f, entry, level) & sh->high_bits))
		return true;
	bits |= f->reserved_large & ~(~0ul << shift_of(f, level));
	return entry & bits || (f->bad_types >> (entry >> 3 & 7) & 1);
}

static enum shadow_answer refuse(const struct format *f, u64 rights, unsigned level,
				 enum shadow_refusal why, struct shadow_found *found) {
	*found = (struct shadow_found){.refusal = (u8)why, .level = (u8)level};
	found->rights = (u8)(((rights & f->read) == f->read ? SHADOW_R : 0) |
			     ((rights & f->write) == f->write ? SHADOW_W : 0) |
			     ((rights & f->exec) == f->exec ? SHADOW_X : 0));
	return SHADOW_REFLECT;
}

/* A log that is no RAM keeps nothing. */
static void log_page(struct shadow *sh, const struct shadow_vcpu *v, gpa_t gpa2) {
	u64 *entry =
		gmem_ptr_write(sh->gmem, v->log + *v->log_index * sizeof(*entry), sizeof(*entry));

	if (entry) *entry = gpa2 & PAGE_MASK;
	*v->log_index = (u16)(*v->log_index - 1);
}

/*
 * Walks table 12 as L1's processor would, each entry read once. L2's own page walk is a write in
 * NPT (APM 2 15.25.5), and in EPT with accessed and dirty bits (SDM 3C 29.3.5).
 */
static enum shadow_answer walk_table(struct shadow *sh, u32 vcpu, gpa_t gpa2, u32 access,
				     struct walk *w, struct shadow_found *found) {
	const struct shadow_vcpu *v = &sh->vcpus[vcpu];
	const struct shadow_page *root = v->root;
	const struct format *f = &formats[root->role];
	bool write = access & SHADOW_WRITE || (access & SHADOW_TABLE && f->dirty);
	u64 need = access & SHADOW_FETCH ? f->exec : write ? f->write : f->read;
	gpa_t base = root->key & f->base_mask;
	u64 rights = ~0ul;

	*w = (struct walk){.base = {NOWHERE, NOWHERE, NOWHERE, NOWHERE}, .write = write};
	if (gpa2 >> f->va_bits) return refuse(f, 0, f->top, SHADOW_ABSENT, found);
	for (unsigned level = f->top;; level--) {
		u64 pdpte = level == 2 ? f->pdpte : 0, bits = pdpte ? 0 : f->accessed;
		unsigned shift = shift_of(f, level);
		gpa_t at = base + (gpa2 >> shift & (f->size == 4 ? 1023 : 511)) * f->size;
		u64 entry = read_entry(f, gmem_ptr(sh->gmem, at, f->size), 0);
		bool leaf = level == 0 || entry & f->large;

		if (!(entry & f->present)) return refuse(f, 0, level, SHADOW_ABSENT, found);
		rights &= (entry ^ f->invert) | pdpte;
		if (is_reserved(sh, f, entry, level, leaf))
			return refuse(f, rights, level, SHADOW_RESERVED, found);
		if (leaf && (rights & need) != need)
			return refuse(f, rights, level, SHADOW_RIGHTS, found);
		if (leaf && write) bits |= f->dirty;
		if ((entry & bits) != bits) {
			bool clean = bits & ~entry & f->dirty;

			if (v->log_index && *v->log_index >= LOG_ENTRIES)
				return refuse(f, rights, level, SHADOW_LOG_FULL, found);
			if (!set_bits(sh, f, at, &entry, bits)) return SHADOW_RETRY;
			if (clean && v->log_index) log_page(sh, v, gpa2);
		}
		w->base[level] = at - (index_of(gpa2, level) >> scale_of(f, level)) * f->size;
		w->entry[level] = entry;
		if (leaf) {
			w->rights = rights;
			w->level = level;
			found->gpa1 = leaf_address(f, entry, level) | (gpa2 & ~(~0ul << shift));
			return SHADOW_FIXED;
		}
		base = entry & ADDR;
	}
}

/* ---- entries of the shadow, and the reverse map ---- */

static u64 load(const struct shadow_page *page, u64 i) {
	return atomic_load_explicit(&page->table[i], memory_order_relaxed);
}

static bool is_leaf(const struct shadow_page *page, u64 i) {
	return page->level == 0 || load(page, i) & LARGE;
}

static bool is_table(const struct shadow_page *page, u64 i) {
	return load(page, i) && !is_leaf(page, i);
}

/* No break out of this: it is two loops. */
#define for_each_used(i, page)                                                    \
	for (u64 i, word_ = 0; word_ < ENTRIES / 64; word_++)                     \
		for (u64 bits_ = (page)->used[word_];                             \
		     bits_ && ((i) = word_ * 64 + (u64)__builtin_ctzl(bits_), 1); \
		     bits_ &= bits_ - 1)

static struct shadow_page *child_of(struct shadow *sh, const struct shadow_page *page, u64 i) {
	return sh->pages[page->link[i].next];
}

/* Where the chain of the leaves begins that map the page at this address, at any level. */
static u32 *head_of(struct shadow *sh, u64 entry) {
	return &sh->heads[(entry & ADDR) * 0x9e3779b97f4a7c15 >>
			  (64 - (PAGE_SHIFT - 2) - sh->heads_order)];
}

static void link_leaf(struct shadow *sh, struct shadow_page *page, u64 i) {
	u32 *head = head_of(sh, load(page, i)), ref = page->number * ENTRIES + (u32)i;

	page->link[i].prev = 0;
	page->link[i].next = *head;
	if (*head) sh->pages[*head / ENTRIES]->link[*head % ENTRIES].prev = ref;
	*head = ref;
}

static void unlink_leaf(struct shadow *sh, const struct shadow_page *page, u64 i) {
	u32 next = page->link[i].next, prev = page->link[i].prev;

	if (next) sh->pages[next / ENTRIES]->link[next % ENTRIES].prev = prev;
	if (prev)
		sh->pages[prev / ENTRIES]->link[prev % ENTRIES].next = next;
	else
		*head_of(sh, load(page, i)) = next;
}

static void set_entry(struct shadow_page *page, u64 i, u64 entry, u64 seen) {
	page->seen[i] = seen;
	page->used[i / 64] = (page->used[i / 64] & ~BIT(i % 64)) | (entry ? BIT(i % 64) : 0);
	atomic_store_explicit(&page->table[i], entry, memory_order_release);
}

/* No live entry points here any more. */
static void bury(struct shadow *sh, struct shadow_page *page) {
	page->parent = 0;
	page->dead_at = atomic_fetch_add(&sh->generation, 1) + 1;
	list_add_tail(&sh->dead, &page->node);
}

static void drop_entry(struct shadow *sh, struct shadow_page *page, u64 i) {
	bool leaf = is_leaf(page, i);

	if (leaf) unlink_leaf(sh, page, i);
	set_entry(page, i, 0, 0);
	if (leaf) {
		atomic_fetch_add(&sh->generation, 1);
	} else {
		page->nr_tables--;
		bury(sh, child_of(sh, page, i));
	}
}

/* ---- the pool ---- */

/* The vCPUs that may walk what went before this generation; the counterpart of shadow_enter(). */
static u64 walkers_before(struct shadow *sh, u64 generation) {
	u64 mask = 0;

	for (u32 i = 0; i < sh->nr_vcpus; i++)
		mask |= atomic_load(&sh->vcpus[i].walking) < generation ? BIT(i) : 0;
	return mask;
}

u64 shadow_laggards(struct shadow *sh) { return walkers_before(sh, sh->generation); }

/*
 * Frees the page that has been dead for longest, if its flush is done. What it points to has been
 * unreachable for as long, and is next.
 */
static bool exhume(struct shadow *sh) {
	struct shadow_page *page = container_of(sh->dead.next, struct shadow_page, node);

	if (list_empty(&sh->dead) || walkers_before(sh, page->dead_at)) return false;
	list_remove(&page->node);
	for_each_used(i, page) {
		if (is_table(page, i)) {
			struct shadow_page *child = child_of(sh, page, i);

			child->parent = 0;
			child->dead_at = page->dead_at;
			list_add_head(&sh->dead, &child->node);
		} else {
			unlink_leaf(sh, page, i);
		}
		set_entry(page, i, 0, 0);
	}
	page->nr_tables = 0;
	list_add_head(&sh->free, &page->node);
	sh->nr_free++;
	return true;
}

/* One page more, while the limit and the machine's memory allow. */
static bool grow(struct shadow *sh) {
	if (sh->nr_pages >= sh->max_pages) return false;
	struct shadow_page *page = page_alloc(sizeof(*page));
	if (!page) return false;
	page->number = ++sh->nr_pages;
	sh->pages[page->number] = page;
	list_add_head(&sh->free, &page->node);
	sh->nr_free++;
	return true;
}

/* Unlinks a page that has not been walked lately, if chance finds one. No root. */
static bool evict(struct shadow *sh) {
	for (u32 n = 0; n < 2 * sh->nr_pages; n++) {
		struct shadow_page *page, *parent;
		u64 accessed;

		sh->hand = sh->hand % sh->nr_pages + 1;
		page = sh->pages[sh->hand];
		if (!page->parent) continue;
		parent = sh->pages[page->parent / ENTRIES];
		accessed = formats[page->role].ept ? EPT_A : X86_PTE_A;
		if (n < MAX_CHANCES && n < sh->nr_pages &&
		    atomic_fetch_and(&parent->table[page->parent % ENTRIES], ~accessed) & accessed)
			continue;
		drop_entry(sh, parent, page->parent % ENTRIES);
		return true;
	}
	return false;
}

/* Sees to it that so many pages are free. False: vCPUs have to flush first. */
static bool reserve(struct shadow *sh, u32 pages) {
	while (sh->nr_free < pages)
		if (!exhume(sh) && !grow(sh) && !(list_empty(&sh->dead) && evict(sh))) return false;
	return true;
}

/* One of those reserved: no entry is in use. */
static struct shadow_page *take_page(struct shadow *sh, unsigned level, u8 role, gpa_t base) {
	struct shadow_page *page = container_of(sh->free.next, struct shadow_page, node);

	list_remove(&page->node);
	sh->nr_free--;
	page->base = base;
	page->level = (u8)level;
	page->role = role;
	return page;
}

/* ---- faults ---- */

static struct shadow_page *make_child(struct shadow *sh, struct shadow_page *page, u64 i,
				      const struct walk *w) {
	unsigned level = page->level;
	struct shadow_page *child = take_page(sh, level - 1, page->role, w->base[level - 1]);
	u64 bits = formats[page->role].ept ? EPT_RWX : X86_PTE_P | X86_PTE_W | X86_PTE_U;

	if (load(page, i)) drop_entry(sh, page, i);
	child->parent = page->number * ENTRIES + (u32)i;
	page->link[i].next = child->number;
	page->nr_tables++;
	set_entry(page, i, virt_to_phys(child) | bits, w->entry[level]);
	return child;
}

/* What was there may stay in TLBs until L1 or shadow_forget()'s caller flushes them. */
static void set_leaf(struct shadow *sh, struct shadow_page *page, u64 i, u64 entry, u64 seen) {
	if (is_table(page, i))
		drop_entry(sh, page, i);
	else if (load(page, i))
		unlink_leaf(sh, page, i);
	set_entry(page, i, entry, seen);
	link_leaf(sh, page, i);
}

/* NPT: L1's memory types do not pass on, being indices for a PAT of its own. */
static u64 leaf_entry(const struct format *f, const struct walk *w, unsigned level, hpa_t hpa,
		      bool writable) {
	u64 entry = (hpa & ~(pt_level_size(level) - 1)) | (level ? LARGE : 0);

	if (f->ept)
		return entry | EPT_A | EPT_D | (w->entry[w->level] & EPT_TYPE) |
		       (w->rights & (SHADOW_R | SHADOW_X)) | (writable ? SHADOW_W : 0);
	return entry | X86_PTE_P | X86_PTE_U | X86_PTE_A | X86_PTE_D | (writable ? X86_PTE_W : 0) |
	       (~w->rights & X86_PTE_NX);
}

/*
 * Puts what the walk has found into the shadow, at the level of the smaller of both pages, or lower
 * where there are tables already. A page that L1 has no dirty bit for yet is not writable.
 */
static enum shadow_answer install(struct shadow *sh, struct shadow_page *page, gpa_t gpa2,
				  gpa_t gpa1, const struct walk *w) {
	const struct format *f = &formats[page->role];
	unsigned level = (unsigned)min_u64(w->level, sh->gmem->pt.max_leaf), block_shift;
	bool writable =
		(w->rights & f->write) == f->write && (w->entry[w->level] & f->dirty) == f->dirty;
	hpa_t hpa;
	u64 i;

	if (!gmem_find(sh->gmem, gpa1, &hpa, &block_shift)) return SHADOW_DEVICE;
	while (pt_level_shift(level) > block_shift) level--;
	/* The dirty log sees each page's first write. */
	if (sh->gmem->logging) {
		writable &= w->write;
		level = w->write ? 0 : level;
	}
	if (!reserve(sh, TOP - level)) return SHADOW_RETRY;
	if (w->write) (void)gmem_ptr_write(sh->gmem, gpa1, 1);
	for (;;) {
		i = index_of(gpa2, page->level);
		if (is_table(page, i) && page->seen[i] == w->entry[page->level])
			page = child_of(sh, page, i);
		else if (page->level > level)
			page = make_child(sh, page, i, w);
		else
			break;
	}
	set_leaf(sh, page, i, leaf_entry(f, w, page->level, hpa, writable), w->entry[page->level]);
	return SHADOW_FIXED;
}

enum shadow_answer shadow_translate(struct shadow *sh, u32 vcpu, gpa_t gpa2, u32 access,
				    struct shadow_found *found) {
	enum shadow_answer answer;
	struct walk w;

	answer = walk_table(sh, vcpu, gpa2, access, &w, found);
	if (answer == SHADOW_FIXED && !gmem_ptr(sh->gmem, found->gpa1, 1)) return SHADOW_DEVICE;
	return answer;
}

enum shadow_answer shadow_fault(struct shadow *sh, u32 vcpu, gpa_t gpa2, u32 access,
				struct shadow_found *found) {
	enum shadow_answer answer;
	struct walk w;

	shadow_exit(sh, vcpu);
	spin_guard(&sh->lock);
	answer = walk_table(sh, vcpu, gpa2, access, &w, found);
	if (answer != SHADOW_FIXED) return answer;
	return install(sh, sh->vcpus[vcpu].root, gpa2, found->gpa1, &w);
}

/* ---- L1's flushes ---- */

/* Drops the entries that table 12 does not say any more; accessed bits that it adds do no harm. */
static void sync_page(struct shadow *sh, struct shadow_page *page) {
	const struct format *f = &formats[page->role];
	const void *table12 = gmem_ptr(sh->gmem, page->base, 4);
	unsigned scale = scale_of(f, page->level);
	u64 harmless = f->accessed | f->dirty;

	if (page->base == NOWHERE) return;
	for_each_used(i, page) {
		u64 now = read_entry(f, table12, i >> scale);

		if ((now ^ page->seen[i]) & ~(now & harmless)) drop_entry(sh, page, i);
	}
}

/*
 * Compares the first page at or behind *at below a root, and those above it that begin there, and
 * moves *at past it. False after the last one.
 */
static bool sync_step(struct shadow *sh, struct shadow_page *page, u64 *at) {
	for (;;) {
		u64 size = pt_level_size(page->level), first = index_of(*at, page->level);
		u64 i = page->nr_tables ? first : ENTRIES;

		if (*at % (size * ENTRIES) == 0) sync_page(sh, page);
		while (i < ENTRIES && !is_table(page, i))
			i += page->used[i / 64] >> i % 64 ? 1 : 64 - i % 64;
		if (i != first) *at = align_down(*at, size * ENTRIES) + i * size;
		if (i == ENTRIES) return *at < GPA2_LIMIT;
		page = child_of(sh, page, i);
	}
}

static void drop_all(struct shadow *sh, struct shadow_page *root) {
	for_each_used(i, root) drop_entry(sh, root, i);
}

/* Carries out the flushes that have been asked for. What is too much to compare goes as a whole. */
static void sync_root(struct shadow *sh, struct shadow_page *root) {
	u64 wanted = root->wanted, at = 0;
	bool more = root->done != wanted;

	for (u32 steps = 0; more; steps++) {
		spin_guard(&sh->lock);
		more = steps < MAX_STEPS && sync_step(sh, root, &at);
		if (steps == MAX_STEPS) drop_all(sh, root);
		if (!more) root->done = max_u64(root->done, wanted);
	}
}

#define for_each_root(root, sh)                                                                \
	for (struct list *at_ = (sh)->roots.next;                                              \
	     at_ != &(sh)->roots && ((root) = container_of(at_, struct shadow_page, node), 1); \
	     at_ = at_->next)

static bool is_pinned(const struct shadow *sh, const struct shadow_page *root) {
	for (u32 i = 0; i < sh->nr_vcpus; i++)
		if (sh->vcpus[i].root == root) return true;
	return false;
}

/* The root of this key, made when there is none; NULL when no page can be had now. */
static struct shadow_page *find_root(struct shadow *sh, u64 key) {
	u8 role = (u8)(key % SHADOW_NR_ROLES);
	struct shadow_page *root, *idle = NULL;
	u32 count = 0;

	for_each_root(root, sh) {
		if (root->key == key) {
			list_remove(&root->node);
			list_add_head(&sh->roots, &root->node);
			return root;
		}
		count++;
		if (!is_pinned(sh, root))
			idle = root; /* the last one has not been asked for for longest */
	}
	if (idle && count >= sh->nr_vcpus + IDLE_ROOTS) {
		list_remove(&idle->node);
		bury(sh, idle);
	}
	if (!reserve(sh, 1)) return NULL;
	root = take_page(sh, TOP, role, formats[role].top == TOP ? key & ADDR : NOWHERE);
	root->key = key;
	list_add_head(&sh->roots, &root->node);
	return root;
}

int shadow_use(struct shadow *sh, u32 vcpu, enum shadow_role role, u64 reg, hpa_t *root) {
	struct shadow_vcpu *v = &sh->vcpus[vcpu];
	u64 key = (reg & formats[role].base_mask) | role;

	if (!v->root || v->root->key != key) {
		struct shadow_page *found;

		shadow_exit(sh, vcpu);
		spin_lock(&sh->lock);
		found = find_root(sh, key);
		v->root = found ? found : v->root;
		spin_unlock(&sh->lock);
		if (!found) return E_BUSY;
	}
	sync_root(sh, v->root);
	*root = virt_to_phys(v->root);
	return 0;
}

static void flush_roots(struct shadow *sh, u64 reg, u64 mask) {
	struct shadow_page *root;

	spin_guard(&sh->lock);
	for_each_root(root, sh)
		root->wanted += !((root->key ^ reg) & mask & formats[root->role].base_mask);
}

void shadow_flush(struct shadow *sh, u64 reg) { flush_roots(sh, reg, ~0ul); }

void shadow_flush_all(struct shadow *sh) { flush_roots(sh, 0, 0); }

/* ---- what L0 takes away ---- */

/* Drops the leaves of this level that map the page at hpa. */
static void forget_page(struct shadow *sh, hpa_t hpa, unsigned level) {
	for (u32 next, ref = *head_of(sh, hpa); ref; ref = next) {
		struct shadow_page *page = sh->pages[ref / ENTRIES];
		u64 i = ref % ENTRIES;

		next = page->link[i].next;
		if (page->level == level && (load(page, i) & ADDR) == hpa) drop_entry(sh, page, i);
	}
}

void shadow_forget(struct shadow *sh, gfn_t gfn, u64 npages) {
	for (u64 i = 0; i < npages; i++) {
		unsigned block_shift;
		hpa_t hpa;

		if (!gmem_find(sh->gmem, (gfn + i) << PAGE_SHIFT, &hpa, &block_shift)) continue;
		spin_guard(&sh->lock);
		for (unsigned level = 0; level < TOP; level++)
			forget_page(sh, align_down(hpa, pt_level_size(level)), level);
	}
}

void shadow_forget_all(struct shadow *sh) {
	struct shadow_page *root;

	spin_guard(&sh->lock);
	for_each_root(root, sh) drop_all(sh, root);
}

/* ---- the whole ---- */

int shadow_create(struct gmem *gm, const struct shadow_config *config) {
	struct shadow *none = NULL, *sh;

	if (gm->shadow) return 0;
	sh = page_alloc(sizeof(*sh));
	if (!sh) return E_NOMEM;
	sh->gmem = gm;
	sh->nr_vcpus = config->nr_vcpus;
	sh->high_bits = ~0ul << config->phys_bits & ADDR;
	sh->max_large = config->gbpages ? 2 : 1;
	sh->bad_rights = config->exec_only ? 0 : 1u << SHADOW_X;
	/* All of L1's memory by 4 KiB pages, twice; roots, and the ways to what they are for. */
	sh->max_pages = (u32)(gm->nr_pages / 256) + config->nr_vcpus * 5 + IDLE_ROOTS * 2;
	sh->heads_order = frame_order(sh->max_pages * 256ul);
	sh->pages_size = (sh->max_pages + 1) * sizeof(void *);
	sh->pages = page_alloc(sh->pages_size);
	sh->heads = page_alloc(PAGE_SIZE << sh->heads_order);
	list_init(&sh->free);
	list_init(&sh->dead);
	list_init(&sh->roots);
	for (u32 i = 0; i < config->nr_vcpus; i++) sh->vcpus[i].walking = SHADOW_OUT;
	/* As many as there have to be so that one can always be recycled. Another may be faster. */
	if (sh->pages && sh->heads && reserve(sh, config->nr_vcpus + TOP) &&
	    atomic_compare_exchange_strong(&gm->shadow, &none, sh))
		return 0;
	shadow_destroy(sh);
	return gm->shadow ? 0 : E_NOMEM;
}

void shadow_destroy(struct shadow *sh) {
	if (!sh) return;
	for (u32 i = 1; sh->pages && i <= sh->nr_pages; i++)
		page_free(sh->pages[i], sizeof(*sh->pages[i]));
	page_free(sh->pages, sh->pages_size);
	page_free(sh->heads, PAGE_SIZE << sh->heads_order);
	page_free(sh, sizeof(*sh));
}
