// sources: mm/shadow.c mm/gmem.c mm/ptable.c mm/ptable_formats.c mm/frame.c tests/shadow_rig.c
// Shadow tables, law by law: what a shadow says after faults, flushes and changes below it.
#include "tests/shadow_rig.h"

#include <string.h>

#define BITS 40

static gpa_t base;

/* 16 MiB of L1's memory in blocks of 2 MiB, tables from 1 MiB on. */
static void small_l1(void) {
	rig_ram_range(0, MiB(16), 21);
	rig_start(2, BITS);
	rig_tables_at(MiB(1));
	base = rig_new_table();
}

static enum shadow_answer fault(u32 vcpu, gpa_t gpa2, u32 access) {
	struct shadow_found found;

	return shadow_fault(rig_sh, vcpu, gpa2, access, &found);
}

/* Looks for a refusal with these facts. */
static void refused(gpa_t gpa2, u32 access, enum shadow_refusal why, u32 rights, u32 level) {
	struct shadow_found found;

	assert_int_equal(shadow_fault(rig_sh, 0, gpa2, access, &found), SHADOW_REFLECT);
	assert_int_equal(found.refusal, why);
	assert_int_equal(found.rights, rights);
	assert_int_equal(found.level, level);
	assert_int_equal(shadow_translate(rig_sh, 0, gpa2, access, &found), SHADOW_REFLECT);
	assert_int_equal(found.refusal, why);
}

static void test_maps_what_l1_maps(void **state) {
	struct shadow_found found;

	(void)state;
	small_l1();
	rig_map(base, 0x7fff00005000, 0, 0x345000 | PWU, PWU);
	hpa_t root = rig_use(0, SHADOW_NPT_LONG_NX, base);
	assert_false(rig_hw(false, root, 0x7fff00005000).present);
	assert_int_equal(shadow_translate(rig_sh, 0, 0x7fff00005123, 0, &found), SHADOW_FIXED);
	assert_int_equal(found.gpa1, 0x345123);
	assert_false(rig_hw(false, root, 0x7fff00005000).present);
	assert_int_equal(shadow_fault(rig_sh, 0, 0x7fff00005123, 0, &found), SHADOW_FIXED);
	assert_int_equal(found.gpa1, 0x345123);
	struct rig_page hw = rig_hw(false, root, 0x7fff00005123);
	assert_true(hw.present);
	assert_int_equal(hw.address, rig_hpa(0x345123));
	assert_int_equal(hw.rights, SHADOW_R | SHADOW_X);
	assert_int_equal(fault(0, 0x7fff00005123, SHADOW_WRITE), SHADOW_FIXED);
	assert_int_equal(rig_hw(false, root, 0x7fff00005000).rights,
			 SHADOW_R | SHADOW_W | SHADOW_X);
	refused(0x7fff00006000, 0, SHADOW_ABSENT, 0, 0);
	refused(0x7fff40006000, 0, SHADOW_ABSENT, 0, 2);
	refused(1ul << 48, 0, SHADOW_ABSENT, 0, 3);
	refused(~0ul, SHADOW_WRITE, SHADOW_ABSENT, 0, 3);
}

/* L1 maps what is no RAM: L0's device, or nothing; the bits are set as for RAM. */
static void test_devices(void **state) {
	struct shadow_found found;

	(void)state;
	small_l1();
	gpa_t entry = rig_map(base, 0x200000, 0, 0xfee00000 | PWU, PWU);
	hpa_t root = rig_use(0, SHADOW_NPT_LONG, base);
	assert_int_equal(shadow_fault(rig_sh, 0, 0x200080, SHADOW_WRITE, &found), SHADOW_DEVICE);
	assert_int_equal(found.gpa1, 0xfee00080);
	assert_false(rig_hw(false, root, 0x200000).present);
	assert_int_equal(*rig_at(entry) & (A | D), A | D);
	assert_int_equal(shadow_translate(rig_sh, 0, 0x200abc, 0, &found), SHADOW_DEVICE);
	assert_int_equal(found.gpa1, 0xfee00abc);
}

/* What table 12 refuses, and what L1 is told of it. */
static void test_refusals_npt(void **state) {
	(void)state;
	small_l1();
	rig_map(base, 0, 0, 0x3000 | P | U | NX, PWU);
	rig_map(base, 0x1000, 0, 0x3000 | P | W, PWU);
	rig_map(base, 0x2000, 0, 0x3000 | PWU | BIT(BITS), PWU);
	rig_map(base, MiB(2), 1, MiB(2) | PWU | PS | BIT(13), PWU);
	rig_map(base, GiB(1), 2, PWU | PS | BIT(29), PWU);
	rig_map(base, 1ul << 39, 3, PWU | PS, PWU);
	rig_map(base, 2ul << 39, 3, (1ul << 39) | PWU, PWU); /* a table that is no RAM */
	rig_use(0, SHADOW_NPT_LONG_NX, base);
	refused(0, SHADOW_WRITE, SHADOW_RIGHTS, SHADOW_R, 0);
	refused(0, SHADOW_FETCH, SHADOW_RIGHTS, SHADOW_R, 0);
	refused(0, SHADOW_TABLE, SHADOW_RIGHTS, SHADOW_R, 0);
	refused(0x1000, 0, SHADOW_RIGHTS, 0, 0);
	refused(0x2000, 0, SHADOW_RESERVED, 7, 0);
	refused(MiB(2), 0, SHADOW_RESERVED, 7, 1);
	refused(GiB(1), 0, SHADOW_RESERVED, 7, 2);
	refused(1ul << 39, 0, SHADOW_RESERVED, 7, 3);
	refused(2ul << 39, 0, SHADOW_RESERVED, 3, 2);
	/* Bit 63 is reserved when EFER.NXE is clear: another role, another verdict (T-X5). */
	rig_use(0, SHADOW_NPT_LONG, base);
	refused(0, 0, SHADOW_RESERVED, SHADOW_R, 0);
}

static void test_refusals_ept(void **state) {
	static const u64 bad[] = {
		EW, EW | EX, ER | BIT(BITS), ER | 2ul << 3, ER | 3ul << 3, ER | 7ul << 3};

	(void)state;
	small_l1();
	gpa_t entry = rig_map(base, 0, 0, 0x3000 | ER | EWB, ERWX);
	rig_use(0, SHADOW_EPT_AD, base | 0x5e);
	refused(0, SHADOW_WRITE, SHADOW_RIGHTS, SHADOW_R, 0);
	refused(0, SHADOW_FETCH, SHADOW_RIGHTS, SHADOW_R, 0);
	refused(0, SHADOW_TABLE, SHADOW_RIGHTS, SHADOW_R, 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		*rig_at(entry) = 0x3000 | bad[i];
		refused(0, 0, SHADOW_RESERVED, (u32)bad[i] & 7, 0);
	}
	*rig_at(entry) = 0x3000 | EX | EWB;
	refused(0, 0, SHADOW_RIGHTS, SHADOW_X, 0);
	assert_int_equal(fault(0, 0, SHADOW_FETCH), SHADOW_FIXED);
	*rig_at(rig_entry(base, 0, 1)) |= BIT(3);
	refused(0, 0, SHADOW_RESERVED, ERWX, 1);
	*rig_at(rig_entry(base, 0, 1)) = ERWX | EWB | PS | BIT(12);
	refused(0, 0, SHADOW_RESERVED, ERWX, 1);
	/* Without accessed and dirty bits L2's page walk reads. */
	*rig_at(rig_entry(base, 0, 1)) = ER | EWB | PS;
	rig_use(0, SHADOW_EPT, base | 0x1e);
	assert_int_equal(fault(0, 0, SHADOW_TABLE), SHADOW_FIXED);
	refused(0, SHADOW_TABLE | SHADOW_WRITE, SHADOW_RIGHTS, SHADOW_R, 1);
}

/* EPT: the leaf's memory type goes into the shadow. */
static void test_ept_memory_type(void **state) {
	(void)state;
	small_l1();
	rig_map(base, 0, 0, 0x3000 | ERWX | 0ul << 3, ERWX);
	rig_map(base, MiB(2), 1, MiB(2) | ERWX | PS | 1ul << 3 | BIT(6), ERWX);
	hpa_t root = rig_use(0, SHADOW_EPT, base);
	assert_int_equal(fault(0, 0, 0), SHADOW_FIXED);
	assert_int_equal(fault(0, MiB(2), 0), SHADOW_FIXED);
	assert_int_equal(rig_hw(true, root, 0).entry & GENMASK(6, 3), 0);
	assert_int_equal(rig_hw(true, root, MiB(2)).entry & GENMASK(6, 3), BIT(3) | BIT(6));
}

/* T-X1: a root's identity is its address, whatever the flags beside it. */
static void test_T_X1_identity_by_address(void **state) {
	(void)state;
	small_l1();
	gpa_t entry = rig_map(base, 0, 0, 0x3000 | ERWX | EWB, ERWX);
	hpa_t root = rig_use(0, SHADOW_EPT_AD, base | 0x5e);
	hpa_t again = rig_use(1, SHADOW_EPT_AD, base | BIT(63) | 0x40);
	assert_int_equal(root, again);
	for (u32 vcpu = 0; vcpu < 2; vcpu++)
		assert_int_equal(fault(vcpu, 0, SHADOW_WRITE), SHADOW_FIXED);
	*rig_at(entry) = 0x4000 | ERWX | EWB;
	/* The address with other flags: accessed and dirty bits off. */
	shadow_flush(rig_sh, base | 0x1e);
	assert_int_equal(rig_use(0, SHADOW_EPT_AD, base | 0x5e), root);
	assert_false(rig_hw(true, root, 0).present);
	assert_int_equal(fault(1, 0, 0), SHADOW_FIXED);
	assert_int_equal(rig_hw(true, root, 0).address, rig_hpa(0x4000));
	for (u32 i = 0; i < 100000; i++) {
		u64 reg = base | (rig_rng(~0ul) & ~GENMASK(51, 12));

		assert_int_equal(rig_use(0, SHADOW_EPT_AD, reg), root);
		assert_int_not_equal(rig_use(1, SHADOW_EPT_AD, reg ^ BIT(12 + rig_rng(40))), root);
	}
}

/* T-X1: a flush names the tables that it names, and no others. */
static void test_T_X1_flush_is_precise(void **state) {
	gpa_t entry[2];
	hpa_t root[2];

	(void)state;
	small_l1();
	gpa_t base2 = rig_new_table();
	entry[0] = rig_map(base, 0, 0, 0x3000 | PWU, PWU);
	entry[1] = rig_map(base2, 0, 0, 0x3000 | PWU, PWU);
	for (u32 i = 0; i < 2; i++) {
		root[i] = rig_use(i, SHADOW_NPT_LONG, i ? base2 : base);
		assert_int_equal(fault(i, 0, 0), SHADOW_FIXED);
		*rig_at(entry[i]) = 0;
	}
	shadow_flush(rig_sh, base2 | 0x18);
	for (u32 i = 0; i < 2; i++)
		assert_int_equal(rig_use(i, SHADOW_NPT_LONG, i ? base2 : base), root[i]);
	assert_true(rig_hw(false, root[0], 0).present);
	assert_false(rig_hw(false, root[1], 0).present);
	shadow_flush_all(rig_sh);
	assert_int_equal(rig_use(0, SHADOW_NPT_LONG, base), root[0]);
	assert_false(rig_hw(false, root[0], 0).present);
}

/* A flush keeps what is still true: nothing faults again. */
static void test_flush_keeps_the_rest(void **state) {
	(void)state;
	small_l1();
	for (u64 i = 0; i < 600; i++)
		rig_map(base, i * PAGE_SIZE, 0, MiB(4) + i * PAGE_SIZE + PWU, PWU);
	rig_map(base, GiB(3), 1, MiB(8) | PWU | PS, PWU);
	hpa_t root = rig_use(0, SHADOW_NPT_LONG, base);
	for (u64 i = 0; i < 600; i++)
		assert_int_equal(fault(0, i * PAGE_SIZE, SHADOW_WRITE), SHADOW_FIXED);
	assert_int_equal(fault(0, GiB(3), 0), SHADOW_FIXED);
	u64 generation = rig_sh->generation;
	shadow_flush(rig_sh, base);
	rig_use(0, SHADOW_NPT_LONG, base);
	assert_int_equal(rig_sh->generation, generation);
	*rig_at(rig_entry(base, 599 * PAGE_SIZE, 0)) &= ~A;
	*rig_at(rig_entry(base, GiB(3), 1)) = MiB(10) | PWU | PS;
	shadow_flush(rig_sh, base);
	rig_use(0, SHADOW_NPT_LONG, base);
	assert_int_equal(rig_sh->generation, generation + 2);
	for (u64 i = 0; i < 600; i++)
		assert_int_equal(rig_hw(false, root, i * PAGE_SIZE).present, i != 599);
	assert_false(rig_hw(false, root, GiB(3)).present);
	/* A change above takes all below along. */
	*rig_at(rig_entry(base, 0, 2)) &= ~(u64)W;
	shadow_flush(rig_sh, base);
	rig_use(0, SHADOW_NPT_LONG, base);
	for (u64 i = 0; i < 600; i++) assert_false(rig_hw(false, root, i * PAGE_SIZE).present);
	assert_int_equal(fault(0, 0, SHADOW_WRITE), SHADOW_REFLECT);
	assert_int_equal(fault(0, 0, 0), SHADOW_FIXED);
	assert_int_equal(rig_hw(false, root, 0).rights, SHADOW_R | SHADOW_X);
}

/* More rights need no flush. */
static void test_adding_rights_needs_no_flush(void **state) {
	(void)state;
	small_l1();
	gpa_t entry = rig_map(base, 0, 0, 0x3000 | P | U, PWU);
	hpa_t root = rig_use(0, SHADOW_NPT_LONG, base);
	assert_int_equal(fault(0, 0, 0), SHADOW_FIXED);
	assert_int_equal(fault(0, 0, SHADOW_WRITE), SHADOW_REFLECT);
	*rig_at(entry) |= W;
	assert_int_equal(fault(0, 0, SHADOW_WRITE), SHADOW_FIXED);
	assert_int_equal(rig_hw(false, root, 0).rights, 7);
}

/* Rights that came and went above a page, without a flush between: the flush at the end knows. */
static void test_rights_that_come_and_go(void **state) {
	_Atomic u64 *directory;
	hpa_t root;

	(void)state;
	small_l1();
	rig_map(base, 0, 0, 0x3000 | PWU, PWU);
	directory = rig_at(rig_entry(base, 0, 1));
	root = rig_use(0, SHADOW_NPT_LONG, base);
	*directory &= ~(u64)W;
	assert_int_equal(fault(0, 0, 0), SHADOW_FIXED);
	*directory |= W;
	assert_int_equal(fault(0, 0, SHADOW_WRITE), SHADOW_FIXED);
	*directory &= ~(u64)W;
	shadow_flush(rig_sh, base);
	rig_use(0, SHADOW_NPT_LONG, base);
	assert_int_equal(rig_hw(false, root, 0).rights & SHADOW_W, 0);
}

/* An entry of table 12, in its format. */
static void set_entry(bool narrow, gpa_t table, u64 index, u64 entry) {
	if (narrow)
		((_Atomic u32 *)(void *)rig_at(table))[index] = (u32)entry;
	else
		*rig_at(table + index * 8) = entry;
}

/* In each format: a flush drops the pages whose entry has changed, and none beside them. */
static void exact_flush(enum shadow_role role) {
	bool narrow = role <= SHADOW_NPT_32_PSE, pae = !narrow && role <= SHADOW_NPT_PAE_NX;
	bool ept = role >= SHADOW_EPT;
	u64 table = ept ? ERWX : PWU, leaf = ept ? ERWX | EWB : PWU,
	    step = narrow ? MiB(4) : MiB(2);
	gpa_t directory, tables[8];
	hpa_t root;
	u64 generation;

	directory = rig_new_table();
	for (u32 i = 0; i < 8; i++)
		set_entry(narrow, directory, i, (tables[i] = rig_new_table()) | table);
	for (u32 i = 0; i < 8 * 16; i++)
		set_entry(narrow, tables[i / 16], i % 16 * (narrow ? 64 : 32) + i / 16,
			  (0x3000 + i % 3 * PAGE_SIZE) | leaf);
	base = narrow ? directory : rig_new_table();
	if (!narrow) set_entry(false, base, 0, directory | (pae ? P : table));
	if (!narrow && !pae) {
		gpa_t above = rig_new_table();

		set_entry(false, above, 0, base | table);
		base = above;
	}
	root = rig_use(0, role, base);
#define GPA2(i) ((i) / 16 * step + ((i) % 16 * (narrow ? 64 : 32) + (i) / 16) * PAGE_SIZE)
	for (u32 i = 0; i < 8 * 16; i++)
		assert_int_equal(fault(0, GPA2(i), SHADOW_WRITE), SHADOW_FIXED);
	generation = rig_sh->generation;
	shadow_flush(rig_sh, base);
	rig_use(0, role, base);
	assert_int_equal(rig_sh->generation, generation);
	for (u32 i = 0; i < 8 * 16; i += 7)
		set_entry(narrow, tables[i / 16], i % 16 * (narrow ? 64 : 32) + i / 16,
			  0x7000 | leaf);
	shadow_flush(rig_sh, base);
	rig_use(0, role, base);
	for (u32 i = 0; i < 8 * 16; i++)
		assert_int_equal(rig_hw(ept, root, GPA2(i)).present, i % 7 != 0);
#undef GPA2
}

static void test_flush_is_exact_in_each_format(void **state) {
	(void)state;
	small_l1();
	for (u32 role = 0; role < SHADOW_NR_ROLES; role++) exact_flush((enum shadow_role)role);
}

/* 4 MiB pages: 40 bits of address in an entry of 32, as far as the processor's reach. */
static void test_pse36(void **state) {
	(void)state;
	rig_ram_range(0, MiB(2), 21);
	rig_ram(GiB(8), 22);
	rig_start(1, 36);
	rig_tables_at(MiB(1));
	base = rig_new_table();
	set_entry(true, base, 1, PWU | PS | 2u << 13);
	set_entry(true, base, 2, PWU | PS | 16u << 13);
	set_entry(true, base, 3, PWU | PS | BIT(21));
	hpa_t root = rig_use(0, SHADOW_NPT_32_PSE, base);
	assert_int_equal(fault(0, MiB(4) + 5, 0), SHADOW_FIXED);
	assert_int_equal(fault(0, MiB(6) + 5, SHADOW_WRITE), SHADOW_FIXED);
	assert_int_equal(rig_hw(false, root, MiB(4) + 5).address, rig_hpa(GiB(8) + 5));
	assert_int_equal(rig_hw(false, root, MiB(6) + 5).address, rig_hpa(GiB(8) + MiB(2) + 5));
	refused(MiB(8), 0, SHADOW_RESERVED, 7, 1);
	refused(MiB(12), 0, SHADOW_RESERVED, 7, 1);
	refused(GiB(4), 0, SHADOW_ABSENT, 0, 1);
}

/* T-X5: the format is part of a root's key. One table, read in each of the eight ways. */
static void test_T_X5_roles(void **state) {
	hpa_t roots[SHADOW_NR_ROLES];

	(void)state;
	small_l1();
	for (u32 i = 0; i < 512; i++)
		*rig_at(base + i * 8) = 0x1000 | PWU | (u64)(0x2000 | PWU) << 32;
	for (u32 role = 0; role < SHADOW_NR_ROLES; role++) {
		roots[role] = rig_use(0, (enum shadow_role)role, base);
		for (u32 other = 0; other < role; other++)
			assert_int_not_equal(roots[role], roots[other]);
	}
	for (u32 round = 0; round < 1000; round++)
		for (u32 role = 0; role < SHADOW_NR_ROLES; role++)
			assert_int_equal(rig_use(0, (enum shadow_role)role, base), roots[role]);
}

/* T-X5: two nested tables in turn, each with its own page at the same address. */
static void test_T_X5_two_roots_alternate(void **state) {
	gpa_t bases[2];
	hpa_t roots[2];

	(void)state;
	small_l1();
	for (u32 i = 0; i < 2; i++) {
		bases[i] = rig_new_table();
		rig_map(bases[i], 0x8000, 0, (0x3000 + i * 0x1000) | PWU, PWU);
		roots[i] = rig_use(0, SHADOW_NPT_LONG_NX, bases[i]);
		assert_int_equal(fault(0, 0x8000, SHADOW_WRITE), SHADOW_FIXED);
	}
	for (u32 round = 0; round < 1000; round++) {
		u32 i = round % 2;

		assert_int_equal(rig_use(0, SHADOW_NPT_LONG_NX, bases[i]), roots[i]);
		assert_int_equal(rig_hw(false, roots[i], 0x8000).address,
				 rig_hpa(0x3000 + i * 0x1000));
		/* One ASID for both: a flush with each change of roots, and none without. */
		assert_true(shadow_enter(rig_sh, 0));
		shadow_exit(rig_sh, 0);
		assert_false(shadow_enter(rig_sh, 0));
		shadow_exit(rig_sh, 0);
	}
}

/* T-P3: addresses of all widths, on both sides. */
static void test_T_P3_wide_addresses(void **state) {
	static const gpa_t ram[] = {GiB(256) - MiB(2), GiB(256), (1ul << 52) - MiB(4),
				    (1ul << 52) - MiB(2)};

	(void)state;
	rig_ram_range(0, MiB(16), 21);
	for (size_t i = 0; i < ARRAY_SIZE(ram); i++) rig_ram(ram[i], 21);
	rig_start(1, 52);
	rig_tables_at(MiB(1));
	base = rig_new_table();
	hpa_t root = rig_use(0, SHADOW_NPT_LONG_NX, base);
	for (u32 round = 0; round < 2000; round++) {
		gpa_t gpa2 = rig_rng(1ul << 52) & PAGE_MASK;
		gpa_t gpa1 = ram[rig_rng(ARRAY_SIZE(ram))] + rig_rng(512) * PAGE_SIZE;
		struct shadow_found found;

		if (round % 500 == 0) {
			rig_tables_at(MiB(1) + PAGE_SIZE);
			memset((void *)rig_at(base), 0, PAGE_SIZE);
		}
		if (gpa2 >> 48) {
			assert_int_equal(fault(0, gpa2, 0), SHADOW_REFLECT);
			gpa2 &= GENMASK(47, 0);
		}
		rig_map(base, gpa2, 0, gpa1 | PWU, PWU);
		assert_int_equal(shadow_fault(rig_sh, 0, gpa2 + 9, SHADOW_WRITE, &found),
				 SHADOW_FIXED);
		assert_int_equal(found.gpa1, gpa1 + 9);
		assert_int_equal(rig_hw(false, root, gpa2 + 9).address, rig_hpa(gpa1) + 9);
	}
}

/* T-P5: each size below each size: the smaller one wins, and the frame is found again by any. */
static void test_T_P5_sizes(void **state) {
	static const gpa_t blocks[] = {MiB(512), GiB(1), GiB(2)};

	(void)state;
	rig_ram_range(0, MiB(4), 21);
	rig_ram_range(MiB(512), MiB(4), 12);
	rig_ram_range(GiB(1), MiB(8), 21);
	rig_ram(GiB(2), 30);
	rig_start(2, BITS);
	rig_tables_at(MiB(1));
	base = rig_new_table();
	hpa_t root = rig_use(0, SHADOW_NPT_LONG_NX, base);
	for (unsigned l0 = 0; l0 < 3; l0++) {
		for (unsigned l1 = 0; l1 < 3; l1++) {
			gpa_t gpa2 = GiB(10 * l0 + l1), at = l1 == 2 ? GiB(l0) : blocks[l0];
			gpa_t gpa1 = blocks[l0] + (l1 == 1 ? MiB(2) : 0x5000);
			u64 size = 1ul << (12 + 9 * (l0 < l1 ? l0 : l1)), off = 0;

			if (l1 == 2 && l0 == 0)
				at = 0; /* 1 GiB that holds the small blocks in its middle */
			else if (l1 < 2)
				at = gpa1;
			off = l1 == 2 ? gpa1 - at : 0x123;
			rig_map(base, gpa2, l1, at | PWU | (l1 ? PS : 0), PWU);
			if (!l1) off = 0x123;
			assert_int_equal(fault(0, gpa2 + off, SHADOW_WRITE), SHADOW_FIXED);
			assert_int_equal(rig_hw(false, root, gpa2 + off).address,
					 rig_hpa(at + off));
			assert_int_equal(rig_hw(false, root, gpa2 + off).level, l0 < l1 ? l0 : l1);
			/* Another frame of that block: not found, unless the leaf holds it. */
			shadow_forget(rig_sh, (at + off + size) >> PAGE_SHIFT, 1);
			assert_true(rig_hw(false, root, gpa2 + off).present);
			/* By the first frame of the block that L0 takes away, and by the last. */
			shadow_forget(rig_sh, align_down(at + off, MiB(2)) >> PAGE_SHIFT, 512);
			assert_false(rig_hw(false, root, gpa2 + off).present);
		}
	}
}

/* T-P5: a random reverse map beside brute force. */
static void test_T_P5_against_brute_force(void **state) {
	static gpa_t gpa2s[400];
	gpa_t bases[3];
	hpa_t roots[3];

	(void)state;
	small_l1();
	for (u32 r = 0; r < 3; r++) bases[r] = rig_new_table();
	for (u32 i = 0; i < ARRAY_SIZE(gpa2s); i++)
		gpa2s[i] = rig_rng(64) * MiB(2) + rig_rng(4) * PAGE_SIZE;
	for (u32 round = 0; round < 3000; round++) {
		u32 r = (u32)rig_rng(3);
		gpa_t gpa2 = gpa2s[rig_rng(ARRAY_SIZE(gpa2s))];
		bool large = gpa2 / MiB(2) % 2;
		gpa_t gpa1 = MiB(8) + (large ? rig_rng(4) * MiB(2) : rig_rng(2048) * PAGE_SIZE);
		u64 first, n;

		roots[r] = rig_use(0, SHADOW_NPT_LONG, bases[r]);
		rig_map(bases[r], large ? align_down(gpa2, MiB(2)) : gpa2, large,
			gpa1 | PWU | (large ? PS : 0), PWU);
		assert_int_equal(fault(0, gpa2, SHADOW_WRITE), SHADOW_FIXED);
		if (round % 10) continue;
		first = MiB(8) / PAGE_SIZE + rig_rng(2048);
		n = 1 + rig_rng(round % 100 ? 3 : 600);
		for (r = 0; r < 3; r++) {
			bool hit[ARRAY_SIZE(gpa2s)], was[ARRAY_SIZE(gpa2s)];

			roots[r] = rig_use(0, SHADOW_NPT_LONG, bases[r]);
			for (u32 i = 0; i < ARRAY_SIZE(gpa2s); i++) {
				struct rig_page p = rig_hw(false, roots[r], gpa2s[i]);
				u64 size = 1ul << (12 + 9 * p.level);

				hit[i] = false;
				was[i] = p.present;
				for (u64 f = first; f < first + n; f++)
					hit[i] |= rig_is_ram(f << 12) &&
						  align_down(rig_hpa(f << 12), size) ==
							  align_down(p.address, size);
			}
			/* All at once for the last root; what was seen for the others stays true.
			 */
			if (r == 0) shadow_forget(rig_sh, first, n);
			for (u32 i = 0; i < ARRAY_SIZE(gpa2s); i++)
				assert_int_equal(rig_hw(false, roots[r], gpa2s[i]).present,
						 r == 0 ? was[i] && !hit[i] : was[i]);
			if (r)
				for (u32 i = 0; i < ARRAY_SIZE(gpa2s); i++)
					assert_false(was[i] && hit[i]);
		}
	}
}

/* The A and D bits of the four entries on the way, leaf last, as letters. */
static const char *bits_on_the_way(gpa_t gpa2, u64 a, u64 d) {
	static char text[9];

	for (unsigned level = 0; level < 4; level++) {
		u64 entry = *rig_at(rig_entry(base, gpa2, level));

		text[6 - 2 * level] = entry & a ? 'A' : '-';
		text[7 - 2 * level] = entry & d ? 'D' : '-';
	}
	return text;
}

/* T-P6: accessed and dirty bits come back to L1 as from its own processor. */
static void accessed_and_dirty(enum shadow_role role) {
	bool ept = role >= SHADOW_EPT, kept = role != SHADOW_EPT;
	u64 a = ept ? EA : A, d = ept ? ED : D, table = ept ? ERWX : PWU;
	u64 leaf = ept ? ERWX | EWB : PWU, read_only = ept ? ER | EWB : P | U;

	small_l1();
	rig_map(base, 0, 0, 0x3000 | leaf, table);
	rig_map(base, 0x1000, 0, 0x4000 | read_only, table);
	rig_map(base, 0x2000, 0, 0x5000 | leaf, table);
	rig_map(base, 0x3000, 0, 0x6000 | leaf, table);
	hpa_t root = rig_use(0, role, base);
	assert_int_equal(fault(0, 0x1000, SHADOW_WRITE), SHADOW_REFLECT);
	assert_string_equal(bits_on_the_way(0x1000, a, d), kept ? "A-A-A---" : "--------");
	assert_int_equal(fault(0, 0, 0), SHADOW_FIXED);
	assert_string_equal(bits_on_the_way(0, a, d), kept ? "A-A-A-A-" : "--------");
	/* Not writable, so that the first write is seen. */
	assert_int_equal(rig_hw(ept, root, 0).rights, kept ? 5 : 7);
	assert_int_equal(fault(0, 0, SHADOW_WRITE), SHADOW_FIXED);
	assert_string_equal(bits_on_the_way(0, a, d), kept ? "A-A-A-AD" : "--------");
	assert_int_equal(rig_hw(ept, root, 0).rights, 7);
	assert_string_equal(bits_on_the_way(0x2000, a, d), kept ? "A-A-A---" : "--------");
	/* L1 clears D and flushes: writes are seen once more. */
	*rig_at(rig_entry(base, 0, 0)) &= ~d;
	shadow_flush(rig_sh, base);
	rig_use(0, role, base);
	assert_int_equal(rig_hw(ept, root, 0).present, !kept);
	assert_int_equal(fault(0, 0, SHADOW_WRITE), SHADOW_FIXED);
	assert_string_equal(bits_on_the_way(0, a, d), kept ? "A-A-A-AD" : "--------");
	/* L2's page walk dirties its table. */
	assert_int_equal(fault(0, 0x2000, SHADOW_TABLE), SHADOW_FIXED);
	assert_string_equal(bits_on_the_way(0x2000, a, d), kept ? "A-A-A-AD" : "--------");
	/* So does Roost when it writes for the L2. */
	{
		struct shadow_found found;

		assert_int_equal(shadow_translate(rig_sh, 0, 0x3000, SHADOW_WRITE, &found),
				 SHADOW_FIXED);
	}
	assert_string_equal(bits_on_the_way(0x3000, a, d), kept ? "A-A-A-AD" : "--------");
	assert_int_equal(fault(0, 0x3000, 0), SHADOW_FIXED);
	assert_int_equal(rig_hw(ept, root, 0x3000).rights, 7);
}

static void test_T_P6_npt(void **state) {
	(void)state;
	accessed_and_dirty(SHADOW_NPT_LONG);
}

static void test_T_P6_ept(void **state) {
	(void)state;
	accessed_and_dirty(SHADOW_EPT);
}

static void test_T_P6_ept_with_bits(void **state) {
	(void)state;
	accessed_and_dirty(SHADOW_EPT_AD);
}

#define LOG 0x7000ul

/* Nothing is set in table 12, and the refusal says why. */
static void log_is_full(gpa_t gpa2, u32 access) {
	u64 before = *rig_at(rig_entry(base, gpa2, 0));

	refused(gpa2, access, SHADOW_LOG_FULL, 7, 3);
	assert_int_equal(*rig_at(rig_entry(base, gpa2, 0)), before);
}

/* Each dirty bit that is set in table 12 is in L1's log once, until that is full. */
static void test_log(void **state) {
	u64 index = 1;
	struct shadow_found found;

	(void)state;
	small_l1();
	for (gpa_t gpa2 = 0; gpa2 < 0x5000; gpa2 += 0x1000)
		rig_map(base, gpa2, 0, (MiB(8) + gpa2) | ERWX | EWB, ERWX);
	rig_map(base, GiB(512), 1, MiB(4) | ERWX | EWB | PS, ERWX);
	rig_use(0, SHADOW_EPT_AD, base);
	*rig_at(LOG) = *rig_at(LOG + 8) = 0x55;
	shadow_log(rig_sh, 0, LOG, &index);
	assert_int_equal(fault(0, 0x1000, 0), SHADOW_FIXED);
	assert_int_equal(index, 1);
	assert_int_equal(fault(0, 0x1123, SHADOW_WRITE), SHADOW_FIXED);
	assert_int_equal(index, 0);
	assert_int_equal(*rig_at(LOG + 8), 0x1000);
	assert_int_equal(*rig_at(LOG), 0x55);
	assert_int_equal(fault(0, 0x1456, SHADOW_WRITE), SHADOW_FIXED);
	assert_int_equal(index, 0);
	/* The page itself, of a large one; and by Roost. */
	assert_int_equal(shadow_translate(rig_sh, 0, GiB(512) + 0x12345, SHADOW_WRITE, &found),
			 SHADOW_FIXED);
	assert_int_equal(index, 0xffff);
	assert_int_equal(*rig_at(LOG), GiB(512) + 0x12000);
	assert_int_equal(fault(0, 0x1789, SHADOW_WRITE), SHADOW_FIXED);
	index = 512;
	*rig_at(base) &= ~EA; /* not even an accessed bit can be set */
	log_is_full(0x2000, SHADOW_WRITE);
	log_is_full(0x2000, 0);
	assert_int_equal(index, 512);
	index = 511;
	assert_int_equal(fault(0, 0x2000, SHADOW_TABLE), SHADOW_FIXED);
	assert_int_equal(*rig_at(LOG + 511 * 8), 0x2000);
	/* No RAM; no log; flags that table 12 does not have; another vCPU. */
	shadow_log(rig_sh, 0, 0xfee00000, &index);
	assert_int_equal(fault(0, 0x3000, SHADOW_WRITE), SHADOW_FIXED);
	assert_int_equal(index, 509);
	rig_use(1, SHADOW_EPT_AD, base);
	assert_int_equal(fault(1, 0x4000, SHADOW_WRITE), SHADOW_FIXED);
	rig_use(0, SHADOW_EPT, base);
	assert_int_equal(fault(0, 0, SHADOW_WRITE), SHADOW_FIXED);
	assert_int_equal(index, 509);
	shadow_log(rig_sh, 0, LOG, NULL);
	rig_use(0, SHADOW_EPT_AD, base);
	assert_int_equal(fault(0, 0, SHADOW_WRITE), SHADOW_FIXED);
	assert_int_equal(index, 509);
}

/* T-P7: what points elsewhere by now is left alone. */
static void test_T_P7_moved_on(void **state) {
	(void)state;
	small_l1();
	gpa_t entry = rig_map(base, 0, 0, MiB(8) | PWU, PWU);
	hpa_t root = rig_use(0, SHADOW_NPT_LONG, base);
	assert_int_equal(fault(0, 0, SHADOW_WRITE), SHADOW_FIXED);
	*rig_at(entry) = MiB(10) | PWU;
	assert_int_equal(fault(0, 0, SHADOW_WRITE), SHADOW_FIXED);
	u64 generation = rig_sh->generation;
	shadow_forget(rig_sh, MiB(8) >> PAGE_SHIFT, 512);
	assert_int_equal(rig_sh->generation, generation);
	assert_int_equal(rig_hw(false, root, 0).address, rig_hpa(MiB(10)));
	shadow_forget(rig_sh, MiB(10) >> PAGE_SHIFT, 1);
	assert_int_equal(rig_sh->generation, generation + 1);
	assert_false(rig_hw(false, root, 0).present);
}

static void test_forget_all(void **state) {
	(void)state;
	small_l1();
	rig_map(base, 0, 0, MiB(8) | PWU, PWU);
	rig_map(base, GiB(700), 1, MiB(8) | PWU | PS, PWU);
	hpa_t root = rig_use(0, SHADOW_NPT_LONG, base);
	assert_int_equal(fault(0, 0, SHADOW_WRITE), SHADOW_FIXED);
	assert_int_equal(fault(0, GiB(700), SHADOW_WRITE), SHADOW_FIXED);
	shadow_forget_all(rig_sh);
	assert_false(rig_hw(false, root, 0).present);
	assert_false(rig_hw(false, root, GiB(700)).present);
	assert_int_equal(fault(0, GiB(700), SHADOW_WRITE), SHADOW_FIXED);
}

static u64 log_count(u64 *bitmap) {
	u64 count = 0;

	for (u32 i = 0; i < 64; i++) {
		assert_int_equal(gmem_log_take(&rig_gm, i * 64, &bitmap[i]), 0);
		count += (u64)__builtin_popcountl(bitmap[i]);
	}
	return count;
}

/*
 * T-P8: the dirty log of an L1 whose L2 writes. The first write brings the page and the tables that
 * got accessed and dirty bits; from then on each round sees the page alone, and sees it always.
 */
static void log_below_l2(enum shadow_role role) {
	bool ept = role >= SHADOW_EPT, kept = role != SHADOW_EPT;
	u64 table = ept ? ERWX : PWU, leaf = table | PS | (ept ? EWB : 0), bitmap[64];

	small_l1();
	rig_map(base, 0, 1, MiB(8) | leaf, table);
	hpa_t root = rig_use(0, role, base);
	assert_int_equal(fault(0, 0x3000, SHADOW_WRITE), SHADOW_FIXED);
	assert_int_equal(rig_hw(ept, root, 0x3000).level, 1);
	assert_int_equal(gmem_log_start(&rig_gm), 0); /* L1 itself has touched nothing */
	assert_false(rig_hw(ept, root, 0x3000).present);
	*rig_at(rig_entry(base, 0, 1)) &= ept ? ~(EA | ED) : ~(A | D);
	shadow_flush(rig_sh, base);
	rig_use(0, role, base);
	assert_int_equal(fault(0, 0x3000, 0), SHADOW_FIXED);
	assert_int_equal(log_count(bitmap), kept);
	for (u32 round = 0; round < 100; round++) {
		u64 page = 0x3000 + round % 2 * 0x1000;

		assert_int_not_equal(rig_hw(ept, root, page).rights & SHADOW_W, SHADOW_W);
		assert_int_equal(fault(0, page, SHADOW_WRITE), SHADOW_FIXED);
		assert_int_equal(rig_hw(ept, root, page).rights, 7);
		assert_int_equal(rig_hw(ept, root, page).level, 0);
		assert_int_equal(log_count(bitmap), 1 + (!round && kept));
		assert_true(bitmap[(MiB(8) + page) / PAGE_SIZE / 64] >> page / PAGE_SIZE & 1);
		/* Reads are none; a walk of L2's is a write where it sets bits. */
		assert_int_equal(fault(0, page, 0), SHADOW_FIXED);
		assert_int_equal(log_count(bitmap), 0);
		assert_int_equal(fault(0, 0x9000, SHADOW_TABLE), SHADOW_FIXED);
		assert_int_equal(log_count(bitmap), kept);
	}
	assert_int_equal(gmem_log_stop(&rig_gm), 0);
	assert_int_equal(fault(0, 0x3000, SHADOW_WRITE), SHADOW_FIXED);
	assert_int_equal(rig_hw(ept, root, 0x3000).level, 1);
}

static void test_T_P8_npt(void **state) {
	(void)state;
	log_below_l2(SHADOW_NPT_LONG);
}

static void test_T_P8_ept(void **state) {
	(void)state;
	log_below_l2(SHADOW_EPT);
}

static void test_T_P8_ept_with_bits(void **state) {
	(void)state;
	log_below_l2(SHADOW_EPT_AD);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_maps_what_l1_maps),
		TEST(test_devices),
		TEST(test_refusals_npt),
		TEST(test_refusals_ept),
		TEST(test_ept_memory_type),
		TEST(test_T_X1_identity_by_address),
		TEST(test_T_X1_flush_is_precise),
		TEST(test_flush_keeps_the_rest),
		TEST(test_adding_rights_needs_no_flush),
		TEST(test_rights_that_come_and_go),
		TEST(test_flush_is_exact_in_each_format),
		TEST(test_pse36),
		TEST(test_T_X5_roles),
		TEST(test_T_X5_two_roots_alternate),
		TEST(test_T_P3_wide_addresses),
		TEST(test_T_P5_sizes),
		TEST(test_T_P5_against_brute_force),
		TEST(test_T_P6_npt),
		TEST(test_T_P6_ept),
		TEST(test_T_P6_ept_with_bits),
		TEST(test_log),
		TEST(test_T_P7_moved_on),
		TEST(test_forget_all),
		TEST(test_T_P8_npt),
		TEST(test_T_P8_ept),
		TEST(test_T_P8_ept_with_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
