/*
 * A rig for tests of shadow tables: an L1 whose memory is placed block by block as a test likes, a
 * builder for the tables that L1 makes, a walker of what the CPU would see in the shadow, and a
 * naive walker of table 12, written from the manuals, to compare it with.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/error.h"
#include "lib/types.h"
#include "mm/frame.h"
#include "mm/gmem.h"
#include "mm/shadow.h"

/* Entries of table 12, NPT and EPT. */
#define P    BIT(0)
#define W    BIT(1)
#define U    BIT(2)
#define A    BIT(5)
#define D    BIT(6)
#define PS   BIT(7)
#define NX   BIT(63)
#define PWU  (P | W | U)
#define ER   BIT(0)
#define EW   BIT(1)
#define EX   BIT(2)
#define ERWX (ER | EW | EX)
#define EWB  (6ul << 3)
#define EA   BIT(8)
#define ED   BIT(9)

extern struct gmem rig_gm;
extern struct shadow *rig_sh;

/*
 * cmocka's setup and teardown. The setup makes an L1 without memory and two vCPUs, the teardown
 * sees that every frame came back.
 */
int rig_setup(void **state);
int rig_teardown(void **state);

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

/* RAM at gpa1: one block of 2^shift bytes, somewhere. In rising order of addresses. */
void rig_ram(gpa_t gpa1, unsigned shift);
/* Many of them, to size. */
void rig_ram_range(gpa_t gpa1, u64 size, unsigned shift);

/* Makes rig_sh; after the RAM. */
void rig_start(u32 nr_vcpus, u8 phys_bits);

/* L1's memory: 8 bytes at gpa1, which must be RAM; where that is in host memory. */
_Atomic u64 *rig_at(gpa_t gpa1);
hpa_t rig_hpa(gpa_t gpa1);
gpa_t rig_gpa1(hpa_t hpa);
bool rig_is_ram(gpa_t gpa1);

/* Fresh zeroed pages of L1's for its tables, from RAM at gpa1 on. */
void rig_tables_at(gpa_t gpa1);
gpa_t rig_new_table(void);

/*
 * L1 maps gpa2 at an entry of this level (1: 2 MiB) in the four-level table at base: tables on the
 * way are made with `table` bits. Returns the gpa1 of the entry.
 */
gpa_t rig_map(gpa_t base, gpa_t gpa2, unsigned level, u64 entry, u64 table);

/* The entry's place, or 0 when a table on the way is missing. */
gpa_t rig_entry(gpa_t base, gpa_t gpa2, unsigned level);

/* What the CPU would find in the shadow. */
struct rig_page {
	bool present;
	hpa_t address; /* of gpa2 itself */
	u32 rights;    /* SHADOW_R, W, X */
	u32 level;
	u64 entry;
	hpa_t tables[4]; /* on the way, by level; 0 below where it ended */
};

struct rig_page rig_hw(bool ept, hpa_t root, gpa_t gpa2);

/* What table 12 says, by a naive walk that changes nothing. */
struct rig_walk {
	bool mapped; /* all entries are present and well-formed */
	gpa_t gpa1;
	u32 rights; /* of L1's entries, whatever the dirty bit says */
	bool dirty; /* it is set, or there is none */
	u32 level;
	gpa_t passed[4]; /* entries that point to a table and have been followed */
	u32 nr_passed;
	gpa_t leaf; /* the last entry */
};

void rig_walk(enum shadow_role role, u64 reg, u8 phys_bits, gpa_t gpa2, struct rig_walk *out);

/* The page of L1's memory is marked in the dirty log. */
bool rig_logged(gpa_t gpa1);

/* shadow_use() on a vCPU, which must succeed. */
hpa_t rig_use(u32 vcpu, enum shadow_role role, u64 reg);

u64 rig_rng(u64 below);
