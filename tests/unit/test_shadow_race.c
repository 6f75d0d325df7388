// sources: mm/shadow.c mm/gmem.c mm/ptable.c mm/ptable_formats.c mm/frame.c tests/shadow_rig.c
// sanitizer: thread
// Shadow tables with real threads: an L2 that writes, an L1 that clears dirty bits, a dirty log.
#include "tests/shadow_rig.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "mm/direct.h"

#define PAGES  32u
#define ROUNDS 200u

static gpa_t base;
static _Atomic bool over;

/* A processor that runs L2, with a TLB that keeps all it is not told of. */
static struct cpu {
	u32 vcpu;
	hpa_t root;
	struct rig_page tlb[PAGES];
	_Atomic u64 asked, answered; /* exits that others wait for */
	_Atomic bool flush;	     /* L1 has flushed: its next VMRUN says so */
	u64 writes, faults;
} cpus[2];

static gpa_t gpa2_of(u32 page) { return GiB(5) + page * PAGE_SIZE; }

static void vmrun(struct cpu *cpu) {
	if (atomic_exchange(&cpu->flush, false)) {
		shadow_flush(rig_sh, base);
		memset(cpu->tlb, 0, sizeof(cpu->tlb));
	}
	while (shadow_use(rig_sh, cpu->vcpu, SHADOW_NPT_LONG, base, &cpu->root))
		;
	if (shadow_enter(rig_sh, cpu->vcpu)) memset(cpu->tlb, 0, sizeof(cpu->tlb));
}

/* Leaves L2 when another processor wants it; it has then done all that it had begun. */
static void poll(struct cpu *cpu) {
	u64 asked = atomic_load(&cpu->asked);

	if (asked == atomic_load(&cpu->answered)) return;
	shadow_exit(rig_sh, cpu->vcpu);
	atomic_store(&cpu->answered, asked);
	vmrun(cpu);
}

static void kick(struct cpu *cpu) {
	u64 asked = atomic_fetch_add(&cpu->asked, 1) + 1;

	while (atomic_load(&cpu->answered) < asked) sched_yield();
}

/* Reads first, so that what a read leaves behind is tried for writing. */
static void write_page(struct cpu *cpu, u32 page) {
	struct shadow_found found;

	for (u32 access = 0;; access = SHADOW_WRITE) {
		if (cpu->tlb[page].rights & SHADOW_W) break;
		poll(cpu);
		cpu->tlb[page] = rig_hw(false, cpu->root, gpa2_of(page));
		if (cpu->tlb[page].rights & SHADOW_W) break;
		assert_int_not_equal(shadow_fault(rig_sh, cpu->vcpu, gpa2_of(page), access, &found),
				     SHADOW_REFLECT);
		cpu->faults++;
		vmrun(cpu);
	}
	atomic_fetch_add((_Atomic u64 *)phys_to_virt(cpu->tlb[page].address), 1);
	cpu->writes++;
}

static void *run_l2(void *arg) {
	struct cpu *cpu = arg;
	u64 seed = cpu->vcpu + 1;

	vmrun(cpu);
	while (!atomic_load(&over)) {
		seed = seed * 6364136223846793005ul + 1442695040888963407ul;
		write_page(cpu, seed >> 33 & (PAGES - 1));
		poll(cpu);
	}
	shadow_exit(rig_sh, cpu->vcpu);
	return NULL;
}

static gpa_t page_of(u32 page) { return MiB(8) + page * PAGE_SIZE; }

static void start(u32 max_pages) {
	rig_ram_range(0, MiB(16), 21);
	rig_start(2, 40);
	if (max_pages) rig_sh->max_pages = max_pages;
	rig_tables_at(MiB(1));
	base = rig_new_table();
	for (u32 i = 0; i < PAGES; i++) rig_map(base, gpa2_of(i), 0, page_of(i) | PWU, PWU);
	atomic_store(&over, false);
	memset(cpus, 0, sizeof(cpus));
	for (u32 i = 0; i < 2; i++) cpus[i].vcpu = i;
}

/*
 * T-P4: L1 clears dirty bits, flushes both processors, and looks at the pages. What has changed
 * since the last look was dirty.
 */
static void test_T_P4_no_write_without_a_dirty_bit(void **state) {
	static u64 last[PAGES];
	pthread_t threads[2];
	u32 changed = 0;

	(void)state;
	start(0);
	memset(last, 0, sizeof(last));
	for (u32 i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_l2, &cpus[i]), 0);
	for (u32 round = 0; round < ROUNDS; round++) {
		bool was[PAGES];

		for (u32 i = 0; i < PAGES; i++)
			was[i] = atomic_fetch_and(rig_at(rig_entry(base, gpa2_of(i), 0)), ~(u64)D) &
				 D;
		for (u32 i = 0; i < 2; i++) {
			atomic_store(&cpus[i].flush, true);
			kick(&cpus[i]);
		}
		for (u32 i = 0; i < PAGES; i++) {
			u64 now = atomic_load(rig_at(page_of(i)));

			assert_true(now == last[i] || was[i] ||
				    *rig_at(rig_entry(base, gpa2_of(i), 0)) & D);
			changed += now != last[i];
			last[i] = now;
		}
	}
	atomic_store(&over, true);
	for (u32 i = 0; i < 2; i++) pthread_join(threads[i], NULL);
	assert_true(changed > ROUNDS && cpus[0].faults && cpus[1].faults);
}

/* T-P8: the dirty log of the VM misses no write of two processors that run L2. */
static void test_T_P8_no_write_without_a_mark(void **state) {
	static u64 last[PAGES], bitmap[64];
	pthread_t threads[2];
	u32 changed = 0;

	(void)state;
	start(0);
	memset(last, 0, sizeof(last));
	assert_int_equal(gmem_log_start(&rig_gm), 0);
	for (u32 i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_l2, &cpus[i]), 0);
	for (u32 round = 0; round < ROUNDS; round++) {
		for (u32 i = 0; i < 64; i++)
			assert_int_equal(gmem_log_take(&rig_gm, i * 64, &bitmap[i]), 0);
		for (u32 i = 0; i < 2; i++) kick(&cpus[i]);
		for (u32 i = 0; i < PAGES; i++) {
			u64 now = atomic_load(rig_at(page_of(i)));
			gfn_t gfn = page_of(i) >> PAGE_SHIFT;

			assert_true(now == last[i] || bitmap[gfn / 64] >> gfn % 64 & 1 ||
				    rig_logged(page_of(i)));
			changed += now != last[i];
			last[i] = now;
		}
	}
	atomic_store(&over, true);
	for (u32 i = 0; i < 2; i++) pthread_join(threads[i], NULL);
	assert_true(changed > ROUNDS && cpus[0].faults && cpus[1].faults);
}

/* L0 takes frames away, one or all, below two processors. Each write lands in some page of L1's. */
static void test_T_P7_forgotten_below_two_processors(void **state) {
	static u64 before[PAGES];
	pthread_t threads[2];
	u64 sum = 0;

	(void)state;
	start(10);
	for (u32 i = 0; i < PAGES; i++) before[i] = *rig_at(page_of(i));
	for (u32 i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_l2, &cpus[i]), 0);
	for (u32 round = 0; round < ROUNDS; round++) {
		gfn_t gfn = (MiB(8) >> PAGE_SHIFT) + rig_rng(PAGES);

		shadow_forget(rig_sh, gfn, 1);
		if (round % 4 == 0) shadow_forget_all(rig_sh);
		kick(&cpus[round % 2]);
	}
	atomic_store(&over, true);
	for (u32 i = 0; i < 2; i++) pthread_join(threads[i], NULL);
	for (u32 i = 0; i < PAGES; i++) sum += *rig_at(page_of(i)) - before[i];
	assert_int_equal(sum, cpus[0].writes + cpus[1].writes);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_T_P4_no_write_without_a_dirty_bit),
		TEST(test_T_P8_no_write_without_a_mark),
		TEST(test_T_P7_forgotten_below_two_processors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
