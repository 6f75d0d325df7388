/*
 * Page tables: one engine for the host's own tables, for NPT and for EPT, driven by a constant
 * description of the format (mm/ptable_formats.c).
 *
 * Hardware and other CPUs may walk a table at any moment. Each change is one compare-exchange of
 * one entry and leaves, for every page, the old or the new translation; a new table is filled
 * before it is linked. Tables that are no longer linked stay as they were until pt_reclaim() is
 * told that no CPU can still be walking them.
 */
#pragma once

#include "lib/spinlock.h"

/* Attributes of a mapping: rights, then the memory type in bits 9:8. */
#define PT_NONE	      0x000u /* pt_protect() only: the leaf goes */
#define PT_READ	      0x001u /* must be given */
#define PT_WRITE      0x002u
#define PT_EXEC	      0x004u
#define PT_GLOBAL     0x008u /* host only; ignored elsewhere */
#define PT_CLEAN      0x010u /* pt_protect() only: nothing has been accessed or written yet */
#define PT_WB	      0x000u /* write-back */
#define PT_UC	      0x100u /* uncached */
#define PT_WC	      0x200u /* write-combining */
#define PT_TYPE_MASK  0x300u
#define PT_TYPE_SHIFT 8
#define PT_NR_TYPES   3

/* The PAT that the formats host and NPT count on, for IA32_PAT: WB WT UC- UC WC WP UC- UC. */
#define PT_PAT 0x0007050100070406ul

/* Levels count from the leaves: 0 is a 4 KiB page or its table, 1 is 2 MiB, 2 is 1 GiB. */
#define PT_LEVEL_4K 0
#define PT_LEVEL_2M 1
#define PT_LEVEL_1G 2
#define PT_LEVELS   4
#define PT_VA_BITS  48

struct pt_format {
	u8 max_leaf;	/* highest level that the format has leaves for */
	bool canonical; /* addresses are sign-extended from PT_VA_BITS */
	bool w_xor_x;	/* nothing may be writable and executable */
	u64 present;	/* an entry with any of these is in use */
	u64 table;	/* bits of an entry that points to a table */
	u64 leaf;	/* bits of every leaf */
	u64 large;	/* further bits of a leaf above level 0; tells it from a table */
	u64 write;	/* bits for PT_WRITE; the dirty bit is set beforehand */
	u64 exec;	/* bits for PT_EXEC ... */
	u64 no_exec;	/* ... and for its absence */
	u64 global;
	u64 accessed_dirty; /* what hardware sets on its own */
	u64 type[PT_NR_TYPES];
	u64 type_large[PT_NR_TYPES];
	u64 type_mask, type_mask_large;
};

extern const struct pt_format pt_format_host; /* x86-64, 4 levels (APM 2 5.3) */
extern const struct pt_format pt_format_npt;  /* nested paging (APM 2 15.25) */
extern const struct pt_format pt_format_ept;  /* SDM 3C 29.3.2 */

struct pt_unlinked;

struct ptable {
	const struct pt_format *format;
	hpa_t root;
	_Atomic u64 generation;
	struct spinlock lock;	      /* guards all changes of the tables and everything below */
	u8 max_leaf;		      /* highest level at which leaves are made */
	struct pt_unlinked *unlinked; /* what waits for pt_reclaim() */
};

/* A translation as pt_walk() finds it. */
struct pt_mapping {
	u64 pa; /* of the address itself, not of its page */
	u32 attrs;
	u8 level;
};

/* An empty table. Leaves are made up to max_leaf or what the format has. 0 or E_NOMEM. */
int pt_init(struct ptable *pt, const struct pt_format *format, u8 max_leaf) __must_check;

/* Gives every page back. No CPU may be using the table any more. Harmless when pt_init() failed. */
void pt_destroy(struct ptable *pt);

/*
 * Maps [va, va + size) to [pa, pa + size) with the largest leaves that fit. Everything in whole
 * pages, bytes. 0; E_INVAL, nothing mapped, for bad arguments (alignment, a range that the format
 * cannot address, no PT_READ, writable and executable where the format forbids it); E_EXIST, where
 * it meets what is mapped already, or E_NOMEM: what comes before that is mapped.
 */
int pt_map(struct ptable *pt, u64 va, u64 pa, u64 size, u32 attrs) __must_check;

/*
 * Gives what is mapped in the range other attributes. 1 when something has fewer rights or another
 * type now, so that the owner must flush; 0. E_INVAL; E_NOMEM, nothing changed, when a large leaf
 * had to be split.
 */
int pt_protect(struct ptable *pt, u64 va, u64 size, u32 attrs) __must_check;

/* Replaces whole tables of like, adjoining leaves in the range by larger leaves. 1, 0, E_INVAL. */
int pt_merge(struct ptable *pt, u64 va, u64 size) __must_check;

/* Finds the translation of va. Without a lock, by a CPU that has to answer pt_reclaim()'s flush. */
bool pt_walk(const struct ptable *pt, u64 va, struct pt_mapping *out);

/* Frees what pt_merge() has unlinked if every CPU has flushed at generation `flushed` or later. */
void pt_reclaim(struct ptable *pt, u64 flushed);

/*
 * Counts the changes after which something stale may be in a TLB. Each vCPU notes it at its last
 * flush: entering with an older note is a missing flush. No emulator shows such a bug; debug builds
 * stop on it, and all builds flush.
 */
static inline u64 pt_generation(struct ptable *pt) {
	return atomic_load_explicit(&pt->generation, memory_order_acquire);
}

static inline unsigned pt_level_shift(unsigned level) { return PAGE_SHIFT + 9 * level; }

/* Bytes that one entry of a table of this level covers. */
static inline u64 pt_level_size(unsigned level) { return 1ul << pt_level_shift(level); }

#ifdef UNIT_TEST
extern void (*pt_store_hook)(void); /* called after each change of a linked table */
#endif
