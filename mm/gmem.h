/*
 * Guest physical memory: RAM, its backing frames, and the only ways by which Roost reads or
 * writes them. Every access is bounded here, once; nothing else turns a gpa into a pointer.
 */
#pragma once

#include "mm/frame.h"
#include "mm/ptable.h"

#define GMEM_RUN_BLOCKS 512 /* so that the list of a run's blocks fits a page */
#define GMEM_MAX_PMLS	128 /* page-modification logs */

struct shadow;

/* Adjoining blocks of host memory, all of one order, each aligned to its size on both sides. */
struct gmem_run {
	gpa_t gpa;
	u64 size;      /* bytes; 0: unused */
	hpa_t first;   /* the first block */
	hpa_t *blocks; /* all of them; NULL when there is only one */
	u32 count;
	u8 shift; /* of a block's size in bytes */
	u64 log;  /* word of the dirty log that gpa 0 would have, modulo 2^64 */
};

struct gmem_config {
	u8 max_leaf; /* level of the largest leaf: PT_LEVEL_4K to PT_LEVEL_1G */
	bool lazy;   /* map when the guest first touches; else all at once */
};

/* One VM's guest physical memory. Runs change while no vCPU runs, so readers take no lock. */
struct gmem {
	struct ptable pt; /* the nested page table; has its own lock */
	struct gmem_config config;
	u64 nr_pages; /* of RAM */
	gpa_t end;    /* of the highest RAM */
	u64 cleared;  /* bytes from the first run on, by gmem_clear() */
	bool clean;   /* all RAM is known to be zero; false as soon as somebody writes there */
	u32 nr_runs;
	struct gmem_run *runs;			 /* sorted by gpa */
	u64 runs_size;				 /* bytes that are there for them */
	const struct gmem_run *_Atomic last_run; /* the one used last, so tried first */
	struct shadow *_Atomic shadow; /* of its guests' guests; NULL until there is one */
	_Atomic bool logging;	       /* writes are noted in the log */
	u32 nr_pmls;		       /* 0: the first write to a page is seen by its fault */
	_Atomic u64 *pml[GMEM_MAX_PMLS];
	_Atomic u64 *log; /* a bit a page */
	u64 log_size;	  /* bytes */
};

/* An empty address space. 0 or E_NOMEM. */
int gmem_create(struct gmem *gm, const struct pt_format *format,
		const struct gmem_config *config) __must_check;

/*
 * Gives all frames back, those of the guest as zero when they are known to be: gmem_clear() comes
 * before. Harmless twice. No vCPU may run any more.
 */
void gmem_destroy(struct gmem *gm);

/*
 * Adds RAM at [gpa, gpa + size), above what there is, while no vCPU runs. 0; E_INVAL when it
 * is not, not in whole pages, empty or past what the table can address; E_NOMEM, after which only
 * gmem_destroy() is of use.
 */
int gmem_add_ram(struct gmem *gm, gpa_t gpa, u64 size) __must_check;

/*
 * Sets the next so many bytes of RAM to zero, while no vCPU runs. True: all is, and from now on it
 * is counted as such, until gm->clean is made false.
 */
bool gmem_clear(struct gmem *gm, u64 most);

/* Maps what the guest touched. 0: enter again; E_FAULT: no RAM or no right; E_NOMEM. Any CPU. */
int gmem_fault(struct gmem *gm, gpa_t gpa, bool write, bool exec) __must_check;

/* Between Roost and guest RAM, across pages and runs. E_FAULT, nothing done: a byte is no RAM. */
int gmem_read(struct gmem *gm, gpa_t gpa, void *to, size_t len) __must_check;
int gmem_write(struct gmem *gm, gpa_t gpa, const void *from, size_t len) __must_check;
int gmem_fill(struct gmem *gm, gpa_t gpa, u8 value, size_t len) __must_check;

/*
 * A host pointer to len bytes of guest RAM within one 4 KiB page, else NULL. The guest may change
 * the bytes at any time: copy once, then check the copy. The pointer to write through is good for
 * this exit only: afterwards the write would be missing from the dirty log.
 */
const void *gmem_ptr(struct gmem *gm, gpa_t gpa, size_t len);
void *gmem_ptr_write(struct gmem *gm, gpa_t gpa, size_t len);

/* True: *hpa is the address of gpa's RAM, 2^*shift bytes around it are one block on both sides. */
bool gmem_find(struct gmem *gm, gpa_t gpa, hpa_t *hpa, unsigned *shift);

/*
 * The dirty log: which pages of RAM have been written, by the guest, by its guests, or by Roost
 * (gmem_write(), gmem_fill(), gmem_ptr_write()). One caller at a time, any CPU; vCPUs may run.
 * After each of the three every vCPU has to leave the guest and flush before the caller goes on,
 * to look at the pages that it took, for instance. 0 or an error:
 *
 * start: the log is empty, and sees all from here on. E_BUSY when it runs already; E_NOMEM.
 * stop: large pages come back.
 * take: bit n of bits says whether page gfn + n has been written since the last time, or the start.
 * gfn is a multiple of 64; what is no RAM has not been written. One page at a time is locked.
 * E_BUSY when there is no log; E_NOMEM: bits is good, the rest is still in the log.
 */
int gmem_log_start(struct gmem *gm) __must_check;
int gmem_log_stop(struct gmem *gm) __must_check;
int gmem_log_take(struct gmem *gm, gfn_t gfn, u64 *bits) __must_check;

/*
 * Page-modification logs (SDM 3C 28.3.6): pages into which the processor writes the addresses of
 * what the guest writes first. All vCPUs have one, which is told before they run and goes with the
 * address space. Its entries may be taken out at any time, by any CPU: gmem_log_collect() does, and
 * comes before gmem_log_take(), for what has been written so far.
 */
_Atomic u64 *gmem_new_pml(struct gmem *gm) __must_check; /* NULL: no memory */
void gmem_log_collect(struct gmem *gm);
void gmem_log_collect_of(struct gmem *gm, _Atomic u64 *pml); /* of one alone, which is full */
