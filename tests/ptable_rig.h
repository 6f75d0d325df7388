/*
 * A rig for tests of the page-table engine: an arena that plays physical memory and gives out pages
 * for tables, each filled with nonsense once it is freed, and a walker of the test's own, written
 * from the manuals, which is what hardware would see.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/types.h"
#include "mm/ptable.h"
#include "tests/random.h"

#define RWX (PT_READ | PT_WRITE | PT_EXEC)
#define RW  (PT_READ | PT_WRITE)

extern u8 *rig_arena;	   /* physical address 0 */
extern u32 rig_nr_used;	   /* pages given out and not freed */
extern u32 rig_fail_after; /* allocations until one fails; 0: none fails */
extern struct ptable pt;   /* the tables under test */

/* cmocka's setup and teardown: an empty arena; no hook. */
int rig_setup(void **state);
int rig_teardown(void **state);

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

/* Makes pt, with pages of the arena. Destroys it, and sees that each page came back. */
void rig_start(const struct pt_format *format, u8 max_leaf);
void rig_finish(void);

/* The entry that translates va, starting at a table of this level, as hardware reads it; 0: none.
 * In *leaf the level at which the walk ended. */
u64 hw_entry(const struct pt_format *f, hpa_t table, unsigned level, u64 va, unsigned *leaf);

/* A translation in one word: page address, rights and cacheability; 0 when there is none. The first
 * starts at a table of level from, the second at the root of pt. */
u64 hw_page_from(const struct pt_format *f, hpa_t table, unsigned from, u64 va);
u64 hw_page(u64 va);

/* What pt_walk() says of an address in pt, and that hardware sees the same. */
void assert_maps(u64 va, u64 pa, u32 attrs, u8 level);
void assert_nothing_at(u64 va);
