/*
 * L2s on two CPUs that share nested tables, while L1 changes them: nothing is written through what
 * L1 has taken away and flushed, and no write is missing from the dirty bits (T-P4). Then control
 * blocks that both CPUs have at once (T-S3), writes into live tables (T-E3), and INIT in an L2.
 * vm: cpus=2 memory=96M limit=240 machine=amd
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/smp.h"
#include "guest-tests/lib/svm.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "svm_smp";

#define VECTOR	0x61
#define ALL	(PTE_PRESENT | PTE_WRITE | PTE_USER)
#define PAGES	64
#define R_INIT	BIT(1) /* of VM_CR */
#define WINDOW	GiB(3) /* in gpa2: 64 pages, of which nothing else is mapped */
#define WAIT_US 5000000ul

static u64 root;
static u64 frames[2][PAGES]; /* two frames for each page of the window */

/* What the worker's L2 does: for ever, in each page of the window, count in its first quadword. */
extern const char code_count[], code_round[];
__asm__(".pushsection .text\n"
	"code_count:\n"
	"1: mov %rdi, %rax\n"
	"mov $64, %ecx\n"
	"2: incq (%rax)\n"
	"add $4096, %rax\n"
	"dec %ecx\n"
	"jnz 2b\n"
	"jmp 1b\n"
	"code_round: mov $64, %ecx\n" /* the same once */
	"2: incq (%rdi)\n"
	"add $4096, %rdi\n"
	"dec %ecx\n"
	"jnz 2b\n"
	"vmmcall\n"
	".popsection");

static volatile bool stop;
static volatile u64 asked, flushed, faults, strange;
static u8 control = TLB_FLUSH_ALL;

static void on_ipi(struct regs *r) {
	(void)r;
	lapic_eoi();
}

/* A hypervisor's loop: run, take the interrupt that ended it, flush when asked to. */
static void worker(void *arg) {
	(void)arg;
	lapic_init();
	svm_init();
	struct vmcb *vmcb = l2_new(code_count);
	l2_use_npt(vmcb, root);
	l2_regs.rdi = WINDOW;
	while (!stop) {
		u64 exit;

		clgi();
		__asm__ volatile("sti");
		if (flushed != asked) {
			u64 now = asked;

			vmcb->tlb_control = control;
			__atomic_store_n(&flushed, now, __ATOMIC_SEQ_CST);
		}
		exit = l2_enter(vmcb);
		vmcb->tlb_control = 0;
		__asm__ volatile("cli");
		stgi();
		__asm__ volatile("sti; nop; nop; cli" : : : "memory");
		if (exit == EXIT_NPF)
			faults++;
		else if (exit != EXIT_INTR)
			strange = exit;
	}
}

/* As for L1's own processors: they are made to leave L2, and enter it with a flush. */
static bool flush_worker(void) {
	u64 want = asked + 1;

	__atomic_store_n(&asked, want, __ATOMIC_SEQ_CST);
	lapic_send(cpus[1].apic_id, ICR_FIXED | VECTOR);
	return wait_until(flushed == want || strange, WAIT_US) && !strange;
}

static u64 *leaf(u64 page) { return page_entry_in(root, WINDOW + page * PAGE_SIZE, 1); }

static volatile u64 *frame(u64 which, u64 page) { return (volatile u64 *)frames[which][page]; }

static bool started(u64 page) {
	u64 before = *frame(0, page) + *frame(1, page);

	return wait_until(*frame(0, page) + *frame(1, page) != before || strange, WAIT_US);
}

/* T-P4 */
static void test_dirty(u64 rounds) {
	u64 seen[PAGES], missing = 0, changed = 0;

	for (u64 round = 0; round < rounds; round++) {
		for (u64 i = 0; i < PAGES; i++)
			__atomic_and_fetch(leaf(i), ~PTE_DIRTY, __ATOMIC_SEQ_CST);
		if (!flush_worker()) break;
		for (u64 i = 0; i < PAGES; i++) seen[i] = *frame(0, i);
		started(PAGES - 1);
		for (u64 i = 0; i < PAGES; i++) {
			u64 now = *frame(0, i);

			changed += now != seen[i];
			missing += now != seen[i] && !(*leaf(i) & PTE_DIRTY);
		}
	}
	check("T-P4: pages were written", changed > rounds);
	check_eq("T-P4: changed pages without a dirty bit", missing, 0);
}

/* Each round another frame stands behind each page; the one taken away must stay as it is. */
static void test_remap(u64 rounds) {
	u64 stray = 0, which = 0;

	for (u64 round = 0; round < rounds; round++) {
		u64 kept[PAGES];

		which ^= 1;
		for (u64 i = 0; i < PAGES; i++) *leaf(i) = frames[which][i] | ALL;
		if (!flush_worker()) break;
		for (u64 i = 0; i < PAGES; i++) kept[i] = *frame(which ^ 1, i);
		started(PAGES - 1);
		for (u64 i = 0; i < PAGES; i++) stray += *frame(which ^ 1, i) != kept[i];
	}
	for (u64 i = 0; i < PAGES; i++) *leaf(i) = frames[0][i] | ALL;
	flush_worker();
	check_eq("pages written through what was flushed", stray, 0);
}

/* The table itself goes, and its page is used for something else at once. */
static void test_table_reuse(u64 rounds) {
	u64 *pde = page_entry_in(root, WINDOW, 2), damaged = 0;
	u64 *tables[2] = {(u64 *)(*pde & PTE_ADDRESS), page_alloc()};

	for (u64 round = 0; round < rounds; round++) {
		u64 *old = tables[round & 1], *new = tables[~round & 1];

		memcpy(new, old, PAGE_SIZE);
		__atomic_store_n(pde, (u64) new | ALL, __ATOMIC_SEQ_CST);
		if (!flush_worker()) break;
		for (u64 i = 0; i < 512; i++)
			old[i] = (u64)old | ALL; /* would let L2 write into it */
		started(PAGES - 1);
		for (u64 i = 0; i < 512; i++)
			damaged += (old[i] & ~(PTE_ACCESSED | PTE_DIRTY)) != ((u64)old | ALL);
	}
	check_eq("tables written after they were taken away", damaged, 0);
}

/*
 * T-E3: L1 writes, by an instruction that no emulator here knows, to a page that is a live table of
 * its L2's: nothing stands in the way of such a write, it is done at once and once.
 */
static void test_table_writes(u64 rounds) {
	volatile u64 *slot = page_entry_in(root, WINDOW + MiB(1), 1);
	u64 wrong = 0, cr4 = read_cr4();

	write_cr4(cr4 | X86_CR4_OSFXSR);
	for (u64 round = 0; round < rounds; round++) {
		u64 value[2] __aligned(16) = {round << 12, ~round << 12};

		__asm__ volatile("movaps %1, %%xmm0; movntps %%xmm0, %0; sfence"
				 : "=m"(*(u64(*)[2])(u64)slot)
				 : "m"(value));
		wrong += slot[0] != value[0] || slot[1] != value[1];
		if (round % 16 == 0) wrong += !started(0);
	}
	slot[0] = slot[1] = 0;
	write_cr4(cr4);
	check_eq("T-E3: writes into a live table that are wrong or stop the L2", wrong, 0);
}

/* Both CPUs fill the same tables at once. */
static void test_both(u64 rounds) {
	static u64 counts[PAGES];
	u64 wrong = 0;

	for (u64 round = 0; round < rounds; round++) {
		struct vmcb *vmcb;

		for (u64 i = 0; i < PAGES; i++) *leaf(i) = 0;
		if (!flush_worker()) break;
		for (u64 i = 0; i < PAGES; i++) counts[i] = *frame(0, i);
		for (u64 i = 0; i < PAGES; i++) *leaf(i) = frames[0][i] | ALL;
		vmcb = l2_new(code_round);
		l2_use_npt(vmcb, root);
		l2_regs.rdi = WINDOW;
		wrong += l2_run(vmcb) != EXIT_VMMCALL;
		for (u64 i = 0; i < PAGES; i++) wrong += *frame(0, i) == counts[i];
	}
	check_eq("two L2s in the same tables: pages that do not count, odd exits", wrong, 0);
}

/* ---- one control block, two CPUs ---- */

extern const char code_leave[];
__asm__(".pushsection .text\n"
	"code_leave: vmmcall\n"
	"jmp code_leave\n"
	".popsection");

static volatile bool done;

/* Fields that VMRUN checks, now right, now wrong. */
static void change(void *arg) {
	volatile struct vmcb *v = arg;
	const struct vmcb good = *(const struct vmcb *)arg;

	while (!done) {
		v->efer = 0;
		v->cr3 = BIT(60);
		v->efer = good.efer;
		v->cr4 = BIT(60);
		v->cr3 = good.cr3;
		v->cr0 = good.cr0 ^ BIT(40);
		v->cr4 = good.cr4;
		v->asid = 0;
		v->cr0 = good.cr0;
		v->event_inj = EVENTINJ_VALID | 1ul << EVENTINJ_TYPE_SHIFT;
		v->asid = good.asid;
		v->iopm_base = ~0ul;
		v->event_inj = 0;
		v->ncr3 = BIT(60);
		v->iopm_base = good.iopm_base;
		v->dr7 = BIT(40);
		v->ncr3 = good.ncr3;
		v->dr7 = good.dr7;
	}
	memcpy(arg, &good, sizeof(good));
}

/* Runs the block that the other CPU runs, too. */
static void share(void *arg) {
	svm_init();
	clgi();
	while (!done) {
		u64 exit = l2_enter(arg);

		if (exit != EXIT_VMMCALL) strange = exit;
	}
	stgi();
}

/* Each entry is refused or comes to its end, by one view of the block; odd exits are counted. */
static void test_block(const char *name, void (*other)(void *), u64 rounds, bool may_refuse) {
	struct vmcb *vmcb = l2_new(code_leave);
	u64 refused = 0, ran = 0;

	l2_use_npt(vmcb, root);
	done = false;
	check(name_of("%s: the other CPU begins", name), smp_start(1, other, vmcb));
	for (u64 i = 0; i < rounds; i++) {
		u64 exit = l2_run(vmcb);

		refused += exit == EXIT_INVALID;
		ran += exit == EXIT_VMMCALL;
	}
	done = true;
	check(name_of("%s: the other CPU comes back", name), smp_wait(1, WAIT_US));
	check_eq(name_of("%s: other exits", name), rounds - refused - ran, 0);
	check(name_of("%s: some ran to their end", name), ran > 0);
	check_eq(name_of("%s: some were refused", name), refused > 0, may_refuse);
	check_eq(name_of("%s: odd exits there", name), strange, 0);
}

/*
 * INIT comes while an L2 runs and L1 has asked to see it: an exit; then it waits for STGI, which
 * resets the CPU, or raises #SX when VM_CR.R_INIT says so (APM 2 15.28).
 */
static volatile u64 init_exit;
extern volatile u64 after_stgi;
volatile u64 after_stgi;

/* Does not return: TCG pushes no error code for #SX. INIT is to reset this CPU again. */
void sx_entry(void);
__asm__(".pushsection .text\n"
	"sx_entry:\n"
	"movq $30, after_stgi\n"
	"mov $0xc0010114, %ecx\n"
	"xor %eax, %eax\n"
	"xor %edx, %edx\n"
	"wrmsr\n"
	"1: hlt\n"
	"jmp 1b\n"
	".popsection");

static void meet_init(void *redirect) {
	svm_init();
	wrmsr(X86_MSR_VM_CR, redirect ? R_INIT : 0);
	struct vmcb *vmcb = l2_new(code_count);
	l2_use_npt(vmcb, root);
	vmcb->intercept_misc1 |= (u32)BIT(EXIT_INIT - EXIT_INTR);
	l2_regs.rdi = WINDOW;
	clgi();
	u64 exit = l2_enter(vmcb);
	after_stgi = 0;
	__atomic_store_n(&init_exit, exit, __ATOMIC_SEQ_CST);
	delay_us(1000);
	stgi();
	__asm__ volatile("nop");
	if (!redirect) after_stgi = 1;
	wrmsr(X86_MSR_VM_CR, 0);
}

static void test_init_exit(void) {
	u64 before;

	trap_set_entry(X86_SX, sx_entry);
	for (u64 redirect = 0; redirect < 2; redirect++) {
		init_exit = 0;
		before = *frame(0, 0);
		check("INIT in L2: the other CPU begins",
		      smp_boot(1) && smp_start(1, meet_init, (void *)redirect) &&
			      wait_until(*frame(0, 0) != before, WAIT_US));
		lapic_send(cpus[1].apic_id, ICR_INIT | ICR_LEVEL | ICR_ASSERT);
		check("INIT in L2, intercepted: it ends", wait_until(init_exit, WAIT_US));
		check_eq("INIT in L2, intercepted: exit", init_exit, EXIT_INIT);
		delay_us(20000);
		check_eq(redirect ? "INIT redirected, behind STGI: #SX"
				  : "INIT behind STGI: the CPU does not go on",
			 after_stgi, redirect ? X86_SX : 0);
	}
	trap_set_entry(X86_SX, NULL);
}

/* INIT comes while an L2 runs, and L1 has not asked to see it: the CPU begins anew. */
static void test_init(u64 rounds) {
	u64 lost = 0;

	for (u64 round = 0; round < rounds; round++) {
		if (!smp_boot(1) || !smp_start(1, worker, NULL) || !started(0)) lost++;
		if (lost) break;
	}
	check_eq("INIT in L2: CPUs that do not run an L2 again", lost, 0);
}

void test_main(void) {
	u64 rounds = cmdline_number("rounds", 200);

	if (!svm_init() || !(svm_feature_bits() & 1)) return;
	if (smp_init() < 2) {
		skip("L2s on two CPUs", "there is one");
		return;
	}
	trap_set_handler(VECTOR, on_ipi);
	if (svm_feature_bits() & BIT(6)) control = 3;
	root = npt_new();
	for (u64 i = 0; i < PAGES; i++) {
		frames[0][i] = (u64)page_alloc();
		frames[1][i] = (u64)page_alloc();
		*leaf(i) = frames[0][i] | ALL;
	}
	check("the other CPU runs an L2", smp_start(1, worker, NULL) && started(0));
	test_dirty(cmdline_number("dirty", rounds));
	test_remap(rounds);
	test_table_reuse(rounds);
	test_both(rounds / 4);
	test_init(rounds / 20);
	if (on_bare_tcg())
		skip("INIT in L2, intercepted", "TCG resets the CPU at once");
	else
		test_init_exit();
	smp_boot(1);
	smp_start(1, worker, NULL);
	test_table_writes(rounds);
	stop = true;
	lapic_send(cpus[1].apic_id, ICR_FIXED | VECTOR);
	check("the other CPU comes back", smp_wait(1, WAIT_US));
	check_eq("no odd exit there", strange, 0);
	test_block("T-S3, a block that changes", change, rounds * 20, true);
	test_block("a block that both CPUs run", share, rounds * 20, false);
	print("# %lu nested faults of the other CPU's L2\n", faults);
}
