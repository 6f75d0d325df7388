// sources: mm/shadow.c mm/gmem.c mm/ptable.c mm/ptable_formats.c mm/frame.c tests/shadow_rig.c
// Shadow tables in random histories, beside a naive model. An L1 of two vCPUs edits its tables at
// random (loops, self-maps, reserved bits, addresses beyond RAM), flushes, faults; Roost forgets
// frames and keeps a dirty log; pages are few, so that they are recycled all the time.
#include "tests/shadow_rig.h"

#include <string.h>

#define BITS	    40
#define NR_TABLES   12u
#define NR_ROOTS    3u
#define NR_GPA2	    40u
#define NR_VCPUS    2u
#define TABLES	    0x10000ul
#define MAX_HISTORY 24u
#define NR_FRAMES   (MiB(97) / PAGE_SIZE)

static enum shadow_role role;
static bool ept, narrow, pae;
static gpa_t gpa2s[NR_GPA2];
static hpa_t roots[NR_ROOTS]; /* 0: never used */
static bool stale[NR_ROOTS];  /* a flush has been asked for and not been carried out */

/* What table 12 has said since the root's last flush: where gpa2 leads, with which rights. */
static struct {
	hpa_t address;
	u32 rights;
} history[NR_ROOTS][NR_GPA2][MAX_HISTORY];
static u32 nr_history[NR_ROOTS][NR_GPA2];

/* Each vCPU: what its TLB may have cached of the shadow's structure, and which root it uses. */
static struct {
	bool inside;
	u32 root;
	u64 place[NR_FRAMES]; /* of the table in this frame: root, level, base of gpa2; 0: none */
} vcpus[NR_VCPUS];

static gpa_t base_of(u32 root) { return TABLES + root * PAGE_SIZE; }

static struct rig_walk walk(u32 root, u32 g) {
	struct rig_walk w;

	rig_walk(role, base_of(root), BITS, gpa2s[g], &w);
	return w;
}

static void note_history(void) {
	for (u32 r = 0; r < NR_ROOTS; r++) {
		for (u32 g = 0; g < NR_GPA2; g++) {
			struct rig_walk w = walk(r, g);
			u32 rights = w.rights & (w.dirty ? 7 : 5), n = nr_history[r][g], i = 0;
			hpa_t address;

			if (!w.mapped || !rig_is_ram(w.gpa1)) continue;
			address = rig_hpa(w.gpa1);
			while (i < n && (history[r][g][i].address != address ||
					 history[r][g][i].rights != rights))
				i++;
			assert_true(i < MAX_HISTORY);
			history[r][g][i].address = address;
			history[r][g][i].rights = rights;
			nr_history[r][g] += i == n;
		}
	}
}

/* Rights are never more than those that table 12 has given at some time since the last flush. */
static void check_rights(u32 r, u32 g, const struct rig_page *hw) {
	bool good = false;

	for (u32 i = 0; i < nr_history[r][g]; i++)
		good |= history[r][g][i].address == hw->address &&
			!(hw->rights & ~history[r][g][i].rights);
	assert_true(good);
}

/* A table that a vCPU may still walk is where it was. */
static void check_places(u32 r, u32 g, const struct rig_page *hw) {
	for (unsigned level = 0; level < 4; level++) {
		u64 frame = hw->tables[level] >> PAGE_SHIFT;
		u64 gpa2 = gpa2s[g] & GENMASK(47, 0);
		u64 place = (r + 1) | level << 8 | align_down(gpa2, 1ul << (21 + 9 * level));

		if (!frame) continue;
		for (u32 v = 0; v < NR_VCPUS; v++) {
			if (!vcpus[v].inside) continue;
			assert_true(!vcpus[v].place[frame] || vcpus[v].place[frame] == place);
			if (vcpus[v].root == r) vcpus[v].place[frame] = place;
		}
	}
}

static void check_all(void) {
	for (u32 r = 0; r < NR_ROOTS; r++) {
		for (u32 g = 0; roots[r] && g < NR_GPA2; g++) {
			struct rig_page hw = rig_hw(ept, roots[r], gpa2s[g]);

			check_places(r, g, &hw);
			if (!hw.present) continue;
			check_rights(r, g, &hw);
			/* With the log on, what may be written is marked (P8), page by page. */
			if (rig_gm.logging && hw.rights & SHADOW_W) {
				assert_int_equal(hw.level, 0);
				assert_true(rig_logged(rig_gpa1(hw.address)));
			}
		}
	}
}

/* After a flush: what the shadow says is what table 12 says, or nothing. */
static void check_synced(u32 r) {
	for (u32 g = 0; g < NR_GPA2; g++) {
		struct rig_page hw = rig_hw(ept, roots[r], gpa2s[g]);
		struct rig_walk w = walk(r, g);

		nr_history[r][g] = 0;
		if (!hw.present) continue;
		assert_true(w.mapped && rig_is_ram(w.gpa1));
		assert_int_equal(hw.address, rig_hpa(w.gpa1));
		assert_int_equal(hw.rights & ~w.rights, 0);
		assert_int_equal(hw.rights & 5, w.rights & 5);
		assert_true(hw.level <= w.level);
		if (hw.rights & SHADOW_W) assert_true(w.dirty);
	}
	note_history();
}

static void use(u32 v, u32 r) {
	if (vcpus[v].inside) {
		shadow_exit(rig_sh, v);
		vcpus[v].inside = false;
	}
	for (u32 tries = 0; shadow_use(rig_sh, v, role, base_of(r), &roots[r]); tries++) {
		u32 other = 1 - v;

		assert_true(tries == 0 && shadow_laggards(rig_sh) == BIT(other));
		shadow_exit(rig_sh, other);
		vcpus[other].inside = false;
	}
	vcpus[v].root = r;
	if (stale[r]) check_synced(r);
	stale[r] = false;
}

static void flush(u32 v) {
	u32 r = (u32)rig_rng(NR_ROOTS);

	if (rig_rng(3)) {
		shadow_flush(rig_sh, base_of(r) | rig_rng(pae ? 32 : 4096));
		stale[r] = true;
	} else {
		shadow_flush_all(rig_sh);
		memset(stale, true, sizeof(stale));
	}
	use(v, r);
}

static void enter(u32 v) {
	if (shadow_enter(rig_sh, v)) memset(vcpus[v].place, 0, sizeof(vcpus[v].place));
	vcpus[v].inside = true;
}

/* Half of all bits, more or less likely. */
static u64 sometimes(u64 bits, u64 percent) { return rig_rng(100) < percent ? bits : 0; }

static u64 random_entry(void) {
	u64 large = sometimes(PS, 25), address, entry;

	switch (rig_rng(10)) {
	case 0: return 0;
	case 1: address = rig_rng(1ul << 42); break;
	case 2:
	case 3:
	case 4: address = rig_rng(MiB(8)); break;
	case 5: address = GiB(1) + rig_rng(GiB(1)); break;
	default: address = TABLES + rig_rng(NR_TABLES) * PAGE_SIZE; large = 0;
	}
	address &= narrow ? GENMASK(31, 12) : GENMASK(51, 12);
	if (large && rig_rng(10)) address &= ~(rig_rng(3) ? MiB(narrow ? 4 : 2) - 1 : GiB(1) - 1);
	if (ept)
		entry = sometimes(ER, 95) | sometimes(EW, 90) | sometimes(EX, 90) |
			(large || rig_rng(2) ? sometimes(EWB, 90) : 0) | sometimes(EA, 50) |
			sometimes(ED, 50) | sometimes(rig_rng(~0ul) & 0xff8, 2);
	else
		entry = sometimes(P, 97) | sometimes(W, 90) | sometimes(U, 95) | sometimes(A, 50) |
			sometimes(D, 50) | sometimes(NX, 10) | sometimes(rig_rng(~0ul) & 0xff8, 2);
	return address | entry | large | sometimes(BIT(BITS + rig_rng(24)), 1);
}

static _Atomic u32 *narrow_at(gpa_t gpa1) {
	return (_Atomic u32 *)(void *)((u8 *)(void *)rig_at(gpa1) + (gpa1 & 4));
}

/* Indices are few, so that all of it hangs together. */
static u64 random_index(u64 limit) {
	static const u64 favourites[] = {0, 1, 2, 3, 511, 1023};

	return favourites[rig_rng(ARRAY_SIZE(favourites))] % limit;
}

/* Entries at the top of PAE have no rights, and reserved bits in their place. */
static u64 random_pdpte(void) {
	return TABLES + rig_rng(NR_TABLES) * PAGE_SIZE + (sometimes(P, 95) | sometimes(W, 5));
}

static void edit(void) {
	gpa_t table = TABLES + rig_rng(NR_TABLES) * PAGE_SIZE;

	if (narrow) {
		_Atomic u32 *at = narrow_at(table + random_index(1024) * 4);

		if (rig_rng(3))
			*at = (u32)random_entry();
		else
			*at &= ~(u32)(rig_rng(2) ? A | D : W);
	} else {
		u64 index = random_index(512);
		_Atomic u64 *at = rig_at(table + index * 8);

		if (pae && table < base_of(NR_ROOTS) && index < 4)
			*at = random_pdpte();
		else if (rig_rng(3))
			*at = random_entry();
		else if (ept)
			*at &= rig_rng(2) ? ~(EA | ED) : ~(u64)EW;
		else
			*at &= rig_rng(2) ? ~(A | D) : ~(u64)W;
	}
	note_history();
}

/* The bits that an access sets (T-P6), in a copy of the tables. */
static void set_bit(u8 *copy, gpa_t at, u64 bits) {
	u64 entry;

	if (at < TABLES || at >= TABLES + NR_TABLES * PAGE_SIZE) return;
	memcpy(&entry, copy + (at - TABLES), narrow ? 4 : 8);
	entry |= bits;
	memcpy(copy + (at - TABLES), &entry, narrow ? 4 : 8);
}

static void copy_tables(u8 *copy) {
	for (u32 t = 0; t < NR_TABLES; t++)
		memcpy(copy + t * PAGE_SIZE, (void *)rig_at(TABLES + t * PAGE_SIZE), PAGE_SIZE);
}

/* An access of L2's: the answer, and each bit in L1's tables, are those of the model. */
static void access(u32 v, bool translate) {
	static u8 expected[NR_TABLES * PAGE_SIZE], after[NR_TABLES * PAGE_SIZE];
	static const u32 kinds[] = {0, SHADOW_WRITE, SHADOW_FETCH, SHADOW_TABLE};
	u32 kind = kinds[rig_rng(4)], g = (u32)rig_rng(NR_GPA2), r = vcpus[v].root;
	u64 a = role == SHADOW_EPT ? 0 : ept ? EA : A, d = role == SHADOW_EPT ? 0 : ept ? ED : D;
	bool write = kind == SHADOW_WRITE || (kind == SHADOW_TABLE && role != SHADOW_EPT);
	u32 need = kind == SHADOW_FETCH ? SHADOW_X : write ? SHADOW_W : SHADOW_R;
	enum shadow_answer answer, expect = SHADOW_REFLECT;
	struct rig_walk w = walk(r, g);
	struct shadow_found found;
	struct rig_page hw;

	copy_tables(expected);
	for (u32 i = 0; i < w.nr_passed; i++) set_bit(expected, w.passed[i], a);
	if (w.mapped && w.rights & need) {
		set_bit(expected, w.leaf, write ? a | d : a);
		expect = rig_is_ram(w.gpa1) ? SHADOW_FIXED : SHADOW_DEVICE;
	}
	if (translate) {
		answer = shadow_translate(rig_sh, v, gpa2s[g], kind, &found);
	} else {
		vcpus[v].inside = false;
		answer = shadow_fault(rig_sh, v, gpa2s[g], kind, &found);
		if (answer == SHADOW_RETRY) {
			u32 other = 1 - v;

			assert_int_equal(shadow_laggards(rig_sh), BIT(other));
			shadow_exit(rig_sh, other);
			vcpus[other].inside = false;
			answer = shadow_fault(rig_sh, v, gpa2s[g], kind, &found);
		}
	}
	copy_tables(after);
	assert_memory_equal(after, expected, sizeof(after));
	note_history();
	assert_int_equal(answer, expect);
	if (answer != SHADOW_REFLECT) assert_int_equal(found.gpa1, w.gpa1);
	if (answer != SHADOW_FIXED || translate) return;
	w = walk(r, g);
	hw = rig_hw(ept, roots[r], gpa2s[g]);
	assert_true(hw.present && hw.rights & need);
	assert_int_equal(hw.address, rig_hpa(w.gpa1));
	assert_int_equal(hw.rights & ~w.rights, 0);
	assert_true(!(hw.rights & SHADOW_W) || w.dirty);
}

static void forget(void) {
	gfn_t gfn = rig_rng(2) ? rig_rng(2048) : GiB(1) / PAGE_SIZE + rig_rng(GiB(1) / PAGE_SIZE);
	u64 n = rig_rng(2) ? 1 : 512;

	shadow_forget(rig_sh, gfn, n);
	for (u32 r = 0; r < NR_ROOTS; r++) {
		for (u32 g = 0; roots[r] && g < NR_GPA2; g++) {
			struct rig_page hw = rig_hw(ept, roots[r], gpa2s[g]);
			gfn_t first, last;

			if (!hw.present) continue;
			first = rig_gpa1(align_down(hw.address, 1ul << (12 + 9 * hw.level))) >> 12;
			last = first + (1ul << 9 * hw.level) - 1;
			assert_true(last < gfn || first >= gfn + n);
		}
	}
}

static void log_operation(void) {
	static u64 bitmap[32];

	if (!rig_gm.logging)
		assert_int_equal(gmem_log_start(&rig_gm), 0);
	else if (rig_rng(4))
		for (u32 i = 0; i < 32; i++)
			assert_int_equal(gmem_log_take(&rig_gm, i * 64, &bitmap[i]), 0);
	else
		assert_int_equal(gmem_log_stop(&rig_gm), 0);
}

static void start_l1(u32 max_pages) {
	rig_ram_range(0, MiB(2), 12);
	rig_ram_range(MiB(2), MiB(6), 21);
	rig_ram(GiB(1), 30);
	rig_ram((1ul << BITS) - MiB(2), 21);
	rig_start(NR_VCPUS, BITS);
	if (max_pages) rig_sh->max_pages = max_pages;
	memset(roots, 0, sizeof(roots));
	memset(nr_history, 0, sizeof(nr_history));
	memset(vcpus, 0, sizeof(vcpus));
	memset(stale, 0, sizeof(stale));
	for (u32 g = 0; g < NR_GPA2; g++) {
		gpa2s[g] = rig_rng(PAGE_SIZE);
		if (narrow)
			gpa2s[g] |= random_index(1024) << 22 | random_index(1024) << 12;
		else
			for (u32 level = 0; level < 4; level++)
				gpa2s[g] |= random_index(512) << (12 + 9 * level);
		if (rig_rng(30) == 0) gpa2s[g] |= BIT(48 + rig_rng(16));
		if (pae && rig_rng(10)) gpa2s[g] &= GENMASK(31, 0);
	}
	for (u32 i = 0; i < 200; i++) edit();
	memset(nr_history, 0, sizeof(nr_history));
	note_history();
	for (u32 v = 0; v < NR_VCPUS; v++) use(v, v);
}

static void live(u32 steps, u32 max_pages) {
	start_l1(max_pages);
	for (u32 step = 0; step < steps; step++) {
		u32 v = (u32)rig_rng(NR_VCPUS), dice = (u32)rig_rng(100);

		if (dice < 30)
			edit();
		else if (dice < 65)
			access(v, false);
		else if (dice < 70)
			access(v, true);
		else if (dice < 80 || step % 20 == 0)
			flush(v);
		else if (dice < 93)
			enter(v);
		else if (dice < 96)
			forget();
		else
			log_operation();
		check_all();
		/* What is remembered is bounded: all roots are flushed now and then. */
		if (step % 8 == 0) {
			shadow_flush_all(rig_sh);
			memset(stale, true, sizeof(stale));
			for (u32 r = 0; r < NR_ROOTS; r++) use(v, r);
		}
	}
}

static void live_as(enum shadow_role as) {
	role = as;
	ept = as >= SHADOW_EPT;
	narrow = as <= SHADOW_NPT_32_PSE;
	pae = !narrow && as <= SHADOW_NPT_PAE_NX;
	live(1500, 0);
	rig_teardown(NULL);
	rig_setup(NULL);
	live(1500, 16);
}

#define ROLE_TEST(role)                             \
	static void test_T_P_##role(void **state) { \
		(void)state;                        \
		live_as(SHADOW_##role);             \
	}

ROLE_TEST(NPT_32)
ROLE_TEST(NPT_32_PSE)
ROLE_TEST(NPT_PAE)
ROLE_TEST(NPT_PAE_NX)
ROLE_TEST(NPT_LONG)
ROLE_TEST(NPT_LONG_NX)
ROLE_TEST(EPT)
ROLE_TEST(EPT_AD)

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_T_P_NPT_32),	   TEST(test_T_P_NPT_32_PSE), TEST(test_T_P_NPT_PAE),
		TEST(test_T_P_NPT_PAE_NX), TEST(test_T_P_NPT_LONG),   TEST(test_T_P_NPT_LONG_NX),
		TEST(test_T_P_EPT),	   TEST(test_T_P_EPT_AD),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
