/*
 * L2s on two CPUs that share EPT tables, while L1 changes them: nothing is written through what L1
 * has taken away and flushed, and no write is missing from the dirty flags (T-P4). Then a VMCS that
 * goes from one CPU to the other.
 * vm: machine=intel cpus=2 host_cpus=1 limit=400
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/smp.h"
#include "guest-tests/lib/trap.h"
#include "guest-tests/lib/vmx.h"

const char test_name[] = "vmx_smp";

#define VECTOR	  0x61
#define RWX_WB	  0x37ul
#define EPT_DIRTY BIT(9)
#define PAGES	  16
#define WINDOW	  GiB(3) /* in gpa2: pages of which nothing else is mapped */
#define WAIT_US	  5000000ul
#define ROUNDS	  20

static u64 root, pointer;
static u64 frames[2][PAGES]; /* two frames for each page of the window */

/* What the worker's L2 does: for ever, in each page of the window, count in its first quadword. */
extern const char code_count[];
__asm__(".pushsection .text\n"
	"code_count:\n"
	"1: mov %rdi, %rax\n"
	"mov $16, %ecx\n"
	"2: incq (%rax)\n"
	"add $4096, %rax\n"
	"dec %ecx\n"
	"jnz 2b\n"
	"jmp 1b\n"
	".popsection");

static volatile bool stop;
static volatile u64 asked, flushed, faults, strange;

static void on_ipi(struct regs *r) {
	(void)r;
	lapic_eoi();
}

/* A hypervisor's loop: run, take the interrupt that ended it, flush when asked to. */
static void worker(void *arg) {
	(void)arg;
	lapic_init();
	vmx_init();
	vmx_l2_new(code_count);
	vmx_l2_use_ept(root);
	vmwrite(VMCS(eptp), pointer);
	vmx_l2_add(PROC2_VPID);
	vmwrite(VMCS(vpid), 1);
	vmx_regs()->rdi = WINDOW;
	while (!stop) {
		if (flushed != asked) {
			u64 now = asked;

			vmx_invept(1, pointer);
			__atomic_store_n(&flushed, now, __ATOMIC_SEQ_CST);
		}
		u64 reason = vmx_l2_run();
		__asm__ volatile("sti; nop; nop; cli" : : : "memory");
		if (reason == REASON_EPT_VIOLATION)
			faults++;
		else if (reason != REASON_INTERRUPT)
			strange = reason + 1;
	}
	vmx_clear(vmx_l2_vmcs());
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

static void test_dirty(void) {
	u64 seen[PAGES], missing = 0, changed = 0;

	for (u64 round = 0; round < ROUNDS; round++) {
		for (u64 i = 0; i < PAGES; i++)
			__atomic_and_fetch(leaf(i), ~EPT_DIRTY, __ATOMIC_SEQ_CST);
		if (!flush_worker()) break;
		for (u64 i = 0; i < PAGES; i++) seen[i] = *frame(0, i);
		started(PAGES - 1);
		for (u64 i = 0; i < PAGES; i++) {
			u64 now = *frame(0, i);

			changed += now != seen[i];
			missing += now != seen[i] && !(*leaf(i) & EPT_DIRTY);
		}
	}
	check("T-P4: pages were written", changed > ROUNDS);
	check_eq("T-P4: changed pages without a dirty flag", missing, 0);
}

/* Each round another frame stands behind each page; the one taken away must stay as it is. */
static void test_remap(void) {
	u64 stray = 0, which = 0, rounds = 0;

	for (; rounds < ROUNDS; rounds++) {
		u64 kept[PAGES];

		which ^= 1;
		for (u64 i = 0; i < PAGES; i++) *leaf(i) = frames[which][i] | RWX_WB;
		if (!flush_worker()) break;
		for (u64 i = 0; i < PAGES; i++) kept[i] = *frame(which ^ 1, i);
		if (!started(PAGES - 1)) break;
		for (u64 i = 0; i < PAGES; i++) stray += *frame(which ^ 1, i) != kept[i];
	}
	check_eq("rounds of other frames", rounds, ROUNDS);
	check_eq("pages written through what was flushed", stray, 0);
}

/* ---- one VMCS, two CPUs ---- */

static void code_exit(void) {
	vmx_l2_exit(0x1234);
	vmx_l2_exit(0x5678);
}

static u64 other_vmcs;
static volatile u64 seen_rip, seen_reason, seen_rax;

/* Goes on with the L2 that the other CPU has left. */
static void take_over(void *arg) {
	u64 own = vmx_l2_vmcs();

	(void)arg;
	vmx_clear(own);
	vmx_ptrld(other_vmcs);
	seen_rip = vmread(VMCS(guest_rip));
	vmwrite(VMCS(guest_rip), seen_rip + 3);
	seen_reason = vmx_l2_run(); /* VMLAUNCH: it has been cleared */
	seen_rax = vmx_regs()->rax;
	vmx_clear(other_vmcs);
}

static void test_migration(void) {
	vmx_init();
	vmx_l2_new(code_exit);
	check_eq("the first run", vmx_l2_result(), 0x1234);
	u64 rip = vmread(VMCS(guest_rip));
	vmwrite(VMCS(host_gs_base), (u64)&cpus[1]);
	vmwrite(VMCS(host_tr_selector), SEL_TSS + 16);
	vmwrite(VMCS_AT(guest_base, 5), (u64)&cpus[1]);
	other_vmcs = vmx_l2_vmcs();
	vmx_clear(other_vmcs);
	smp_start(1, take_over, NULL);
	check("the other CPU has run it", smp_wait(1, WAIT_US));
	check_eq("RIP came along", seen_rip, rip);
	check_eq("its exit there", seen_reason, REASON_VMCALL);
	check_eq("RAX of L2", seen_rax, 0x5678);
	vmx_ptrld(other_vmcs);
	check_eq("RIP has come back", vmread(VMCS(guest_rip)) > rip, true);
	vmx_clear(other_vmcs);
}

void test_main(void) {
	if (!cpuid_bit(1, 2, 5)) {
		skip("VMX", "this machine has none");
		return;
	}
	lapic_init();
	trap_set_handler(VECTOR, on_ipi);
	if (!check_eq("two CPUs", smp_init(), 2)) return;
	if (!(rdmsr(VMX_MSR_EPT_VPID) & EPT_CAP_AD)) {
		skip("EPT accessed and dirty flags", "not offered");
		return;
	}
	root = ept_new();
	pointer = ept_pointer(root) | EPTP_AD;
	for (u64 i = 0; i < PAGES; i++) {
		for (u64 which = 0; which < 2; which++) frames[which][i] = (u64)page_alloc();
		*leaf(i) = frames[0][i] | RWX_WB;
		*page_entry(WINDOW + i * PAGE_SIZE, 1) =
			(WINDOW + i * PAGE_SIZE) | PTE_PRESENT | PTE_WRITE;
	}
	smp_start(1, worker, NULL);
	check("the other CPU's L2 counts", started(PAGES - 1));
	test_dirty();
	test_remap();
	stop = true;
	lapic_send(cpus[1].apic_id, ICR_FIXED | VECTOR);
	check("the other CPU has ended", smp_wait(1, WAIT_US));
	check_eq("exits that there should not be", strange, 0);
	test_migration();
}
