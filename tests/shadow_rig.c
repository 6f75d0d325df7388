/* The rig for shadow tables: see tests/shadow_rig.h. */
#include "tests/shadow_rig.h"

#include <string.h>
#include <sys/mman.h>

#include "mm/direct.h"

#define ARENA	    GiB(64) /* sparse */
#define FRAMES_SIZE MiB(96)
#define RAM_START   GiB(1) /* L1's memory in host memory: 3 GiB and more */

u64 direct_base_;

struct gmem rig_gm;
struct shadow *rig_sh;

static u8 *arena;
static struct frame_stats before;
static hpa_t next_ram;
static gpa_t next_table;
static struct gmem_run runs[16384], *own_runs;

int rig_setup(void **state) {
	static const struct gmem_config config = {.max_leaf = PT_LEVEL_1G, .lazy = true};

	(void)state;
	arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(arena != MAP_FAILED);
	direct_base_ = (u64)arena;
	frame_init();
	assert_int_equal(frame_add(PAGE_SIZE, FRAMES_SIZE), 0);
	frame_stats(&before);
	assert_int_equal(gmem_create(&rig_gm, &pt_format_npt, &config), 0);
	own_runs = rig_gm.runs;
	memset(runs, 0, sizeof(runs));
	next_ram = RAM_START;
	rig_sh = NULL;
	return 0;
}

int rig_teardown(void **state) {
	struct frame_stats after;

	(void)state;
	/* The runs are the rig's, not of the frame allocator. */
	rig_gm.nr_runs = 0;
	rig_gm.runs = own_runs;
	gmem_destroy(&rig_gm);
	frame_stats(&after);
	assert_int_equal(after.free, before.free);
	munmap(arena, ARENA);
	return 0;
}

void rig_ram(gpa_t gpa1, unsigned shift) {
	struct gmem_run *run = &runs[rig_gm.nr_runs];

	assert_true(rig_gm.nr_runs < ARRAY_SIZE(runs) && gpa1 % (1ul << shift) == 0);
	/* Never right behind the last block, so that nothing larger than a block is contiguous. */
	next_ram = align_up(next_ram + PAGE_SIZE, 1ul << shift);
	assert_true(next_ram + (1ul << shift) <= ARENA);
	*run = (struct gmem_run){
		.gpa = gpa1,
		.size = 1ul << shift,
		.first = next_ram,
		.count = 1,
		.shift = (u8)shift,
	};
	next_ram += 1ul << shift;
	rig_gm.nr_runs++;
	rig_gm.nr_pages += 1ul << (shift - PAGE_SHIFT);
	rig_gm.last_run = rig_gm.runs = runs;
}

void rig_ram_range(gpa_t gpa1, u64 size, unsigned shift) {
	for (u64 at = 0; at < size; at += 1ul << shift) rig_ram(gpa1 + at, shift);
}

void rig_start(u32 nr_vcpus, u8 phys_bits) {
	struct shadow_config config = {
		.nr_vcpus = nr_vcpus,
		.phys_bits = phys_bits,
		.gbpages = true,
		.exec_only = true,
	};

	assert_int_equal(shadow_create(&rig_gm, &config), 0);
	rig_sh = rig_gm.shadow;
	assert_int_equal(shadow_create(&rig_gm, &config), 0);
	assert_ptr_equal(rig_gm.shadow, rig_sh);
}

static const struct gmem_run *run_of(gpa_t gpa1) {
	u32 lo = 0, hi = rig_gm.nr_runs;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (gpa1 < runs[mid].gpa)
			hi = mid;
		else if (gpa1 - runs[mid].gpa >= runs[mid].size)
			lo = mid + 1;
		else
			return &runs[mid];
	}
	return NULL;
}

bool rig_is_ram(gpa_t gpa1) { return run_of(gpa1); }

hpa_t rig_hpa(gpa_t gpa1) {
	const struct gmem_run *run = run_of(gpa1);

	assert_non_null(run);
	return run->first + (gpa1 - run->gpa);
}

gpa_t rig_gpa1(hpa_t hpa) {
	for (u32 i = 0; i < rig_gm.nr_runs; i++)
		if (hpa - runs[i].first < runs[i].size) return runs[i].gpa + (hpa - runs[i].first);
	fail_msg("no RAM at %lx", hpa);
	return 0;
}

_Atomic u64 *rig_at(gpa_t gpa1) {
	return (_Atomic u64 *)(void *)(arena + rig_hpa(align_down(gpa1, 8)));
}

void rig_tables_at(gpa_t gpa1) { next_table = gpa1; }

gpa_t rig_new_table(void) {
	gpa_t table = next_table;

	memset((void *)rig_at(table), 0, PAGE_SIZE);
	next_table += PAGE_SIZE;
	return table;
}

static u64 index_of(gpa_t gpa2, unsigned level) { return gpa2 >> (12 + 9 * level) & 511; }

gpa_t rig_entry(gpa_t base, gpa_t gpa2, unsigned level) {
	for (unsigned l = 3; l > level; l--) {
		u64 entry = *rig_at(base + index_of(gpa2, l) * 8);

		if (!(entry & 7) || (entry & PS)) return 0;
		base = entry & GENMASK(51, 12);
	}
	return base + index_of(gpa2, level) * 8;
}

gpa_t rig_map(gpa_t base, gpa_t gpa2, unsigned level, u64 entry, u64 table) {
	for (unsigned l = 3; l > level; l--) {
		_Atomic u64 *at = rig_at(base + index_of(gpa2, l) * 8);

		if (!(*at & 7)) *at = rig_new_table() | table;
		base = *at & GENMASK(51, 12);
	}
	*rig_at(base + index_of(gpa2, level) * 8) = entry;
	return base + index_of(gpa2, level) * 8;
}

struct rig_page rig_hw(bool ept, hpa_t root, gpa_t gpa2) {
	struct rig_page page = {.rights = 7};
	u64 table = root;

	if (gpa2 >> 48) return (struct rig_page){0};
	for (unsigned level = 3;; level--) {
		u64 entry = ((_Atomic u64 *)(void *)(arena + table))[index_of(gpa2, level)];
		u64 size = 1ul << (12 + 9 * level);

		assert_true(table % PAGE_SIZE == 0 && table && table < FRAMES_SIZE + PAGE_SIZE);
		page.tables[level] = table;
		if (!(entry & (ept ? 7 : P))) {
			page.rights = 0;
			return page;
		}
		if (ept)
			page.rights &= (u32)entry & 7;
		else
			page.rights &=
				(entry & U ? 1u : 0) | (entry & W ? 2u : 0) | (entry & NX ? 0 : 4u);
		if (level == 0 || (entry & PS)) {
			assert_true(level < 3 && (entry & GENMASK(51, 12)) % size == 0);
			page.present = true;
			page.address = (entry & GENMASK(51, 12)) | (gpa2 & (size - 1));
			page.level = level;
			page.entry = entry;
			return page;
		}
		table = entry & GENMASK(51, 12);
	}
}

/* An entry as L1's CPU would read it. */
static u64 read_entry(gpa_t gpa1, bool narrow) {
	const struct gmem_run *run = run_of(gpa1);
	u64 value = ~0ul;

	if (run) memcpy(&value, arena + run->first + (gpa1 - run->gpa), narrow ? 4 : 8);
	return narrow ? (u32)value : value;
}

static bool is_wide_npt_reserved(enum shadow_role role, u64 e, unsigned level, u64 high) {
	bool pae = role <= SHADOW_NPT_PAE_NX;

	if (e & high) return true;
	if ((role == SHADOW_NPT_PAE || role == SHADOW_NPT_LONG) && e & NX) return true;
	if (pae && e & GENMASK(62, 52)) return true;
	if (pae && level == 2) return e & (GENMASK(8, 6) | W | U | NX);
	if (!(e & PS) || level == 0) return false;
	return level == 3 || e & GENMASK(11 + 9 * level, 13);
}

static bool is_ept_misconfigured(u64 e, unsigned level, u64 high) {
	u64 type = e >> 3 & 7;

	if (e & high || (e & 7) == 2 || (e & 7) == 6) return true;
	if (level && !(e & PS)) return e & GENMASK(6, 3);
	if (level && (level == 3 || e & (GENMASK(11 + 9 * level, 12)))) return true;
	return type == 2 || type == 3 || type == 7;
}

static void finish(u64 rights, bool dirty, u64 gpa1, unsigned level, struct rig_walk *out) {
	out->mapped = true;
	out->rights = (u32)rights;
	out->dirty = dirty;
	out->gpa1 = gpa1;
	out->level = level;
}

static void walk_32(enum shadow_role role, u64 reg, u8 phys_bits, gpa_t gpa2,
		    struct rig_walk *out) {
	gpa_t at = (reg & GENMASK(31, 12)) + (gpa2 >> 22) * 4;
	u64 pde, pte, both, high;

	if (gpa2 >> 32) return;
	pde = read_entry(at, true);
	out->leaf = at;
	if (!(pde & P)) return;
	if (role == SHADOW_NPT_32_PSE && pde & PS) {
		high = (pde >> 13 & 0xff) << 32;
		if (!(pde & BIT(21)) && !(high >> phys_bits))
			finish(pde & U ? 5 | (pde & W) : 0, pde & D,
			       high | (pde & GENMASK(31, 22)) | (gpa2 & GENMASK(21, 0)), 1, out);
		return;
	}
	out->passed[out->nr_passed++] = at;
	at = (pde & GENMASK(31, 12)) + (gpa2 >> 12 & 1023) * 4;
	pte = read_entry(at, true);
	out->leaf = at;
	both = pde & pte;
	if (pte & P)
		finish(both & U ? 5 | (both & W) : 0, pte & D,
		       (pte & GENMASK(31, 12)) | (gpa2 & 4095), 0, out);
}

void rig_walk(enum shadow_role role, u64 reg, u8 phys_bits, gpa_t gpa2, struct rig_walk *out) {
	u64 high = ~0ul << phys_bits & GENMASK(51, 0), rights = 7;
	bool ept = role >= SHADOW_EPT, pae = role == SHADOW_NPT_PAE || role == SHADOW_NPT_PAE_NX;
	gpa_t table = reg & (pae ? GENMASK(31, 5) : GENMASK(51, 12));

	*out = (struct rig_walk){0};
	if (role <= SHADOW_NPT_32_PSE) {
		walk_32(role, reg, phys_bits, gpa2, out);
		return;
	}
	if (gpa2 >> (pae ? 32 : 48)) return;
	for (unsigned level = pae ? 2 : 3;; level--) {
		gpa_t at = table + index_of(gpa2, level) * 8;
		u64 e = read_entry(at, false), size = 1ul << (12 + 9 * level);

		out->leaf = at;
		if (!(e & (ept ? 7 : P)) || (ept ? is_ept_misconfigured(e, level, high)
						 : is_wide_npt_reserved(role, e, level, high)))
			return;
		if (ept)
			rights &= e & 7;
		else if (!pae || level < 2)
			rights &= (e & U ? 1u : 0) | (e & W ? 2u : 0) | (e & NX ? 0 : 4u);
		if (level == 0 || (e & PS)) {
			/* What a user must not reach, no access reaches. */
			if (!ept && !(rights & 1)) rights = 0;
			finish(rights, role == SHADOW_EPT || e & (ept ? ED : D),
			       (e & GENMASK(51, 12) & ~(size - 1)) | (gpa2 & (size - 1)), level,
			       out);
			return;
		}
		if (!pae || level < 2) out->passed[out->nr_passed++] = at;
		table = e & GENMASK(51, 12);
	}
}

bool rig_logged(gpa_t gpa1) {
	const struct gmem_run *run = run_of(gpa1);
	gfn_t gfn = gpa1 >> PAGE_SHIFT;

	return rig_gm.log[run->log + gfn / 64] >> gfn % 64 & 1;
}

hpa_t rig_use(u32 vcpu, enum shadow_role role, u64 reg) {
	hpa_t root;

	assert_int_equal(shadow_use(rig_sh, vcpu, role, reg, &root), 0);
	return root;
}

u64 rig_rng(u64 below) {
	static u64 state = 88172645463325252ul;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}
