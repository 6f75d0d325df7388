/* The page tables of the test itself: 4 GiB one to one in 2 MiB pages, and what tests add. */
#pragma once

#include "guest-tests/lib/guest.h"

#define PTE_PRESENT  BIT(0)
#define PTE_WRITE    BIT(1)
#define PTE_USER     BIT(2)
#define PTE_ACCESSED BIT(5)
#define PTE_DIRTY    BIT(6)
#define PTE_LARGE    BIT(7)
#define PTE_GLOBAL   BIT(8)
#define PTE_NX	     BIT(63)
#define PTE_ADDRESS  GENMASK(51, 12)

#define PF_PRESENT   1
#define PF_WRITE     2
#define PF_USER	     4
#define PF_RESERVED  8
#define PF_FETCH     16

/* Free for tests: nothing is mapped from here up. */
#define TEST_VA 0x100000000000ul

/* A zeroed page of RAM that is not used for anything else; the pool holds a few hundred. */
void *page_alloc(void);
/* The entry that maps va at a level (1: 4 KiB, 2: 2 MiB, 3: 1 GiB), tables and splits made. */
u64 *page_entry(u64 va, unsigned level);
/* The same in the tables below root. */
u64 *page_entry_in(u64 root, u64 va, unsigned level);
/* Entry of any level as it is, NULL when a table above it is missing or a larger page is there. */
u64 *page_find(u64 va, unsigned level);
/* Maps 4 KiB and flushes. flags: PTE_*, PTE_PRESENT is not implied. */
void page_map(u64 va, u64 pa, u64 flags);

/*
 * Runs machine code at CPL 3, from a page and with a stack of its own, until it faults, traps or
 * uses INT: trap_taken() says how, with rip and offset counted from the code's first byte.
 */
void user_run(const void *code, size_t size);

#define USER_CODE  (TEST_VA + GiB(512))
#define USER_STACK (USER_CODE + MiB(1)) /* top; one page below it */
#define USER_DATA  (USER_CODE + MiB(2)) /* one page, writable */
