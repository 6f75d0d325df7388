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

/* ---- a VMCS that another CPU changes ---- */

static volatile bool done;

/* Its memory, which is nobody's business while the VMCS is current elsewhere. */
static void scribble(void *arg) {
	u64 *words = arg, n = 0;

	while (!done)
		for (unsigned i = 2; i < PAGE_SIZE / 8; i++) words[i] = n++ * 0x9e3779b97f4a7c15;
}

/* The same VMCS, current here as well: each value is wrong for a while, then right again. */
static void share(void *arg) {
	static const struct {
		u32 field;
		u64 bad;
	} fields[] = {{VMCS_guest_rflags, 0},
		      {VMCS_pin_controls, 0},
		      {VMCS_guest_activity, 5},
		      {VMCS_guest_cr0, 1},
		      {VMCS_entry_event, EVENT_VALID | EVENT_TYPE_RESERVED << EVENT_TYPE_SHIFT},
		      {VMCS_link, 1},
		      {VMCS_guest_access + 14, 0},
		      {VMCS_entry_msr_loads, 0xffffff}};
	u64 vmcs = *(u64 *)arg, good;

	while (!done)
		for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
			vmx_ptrld(vmcs);
			vmx_read(fields[i].field, &good);
			vmx_write(fields[i].field, fields[i].bad);
			vmx_clear(vmcs);
			vmx_ptrld(vmcs);
			vmx_write(fields[i].field, good);
			vmx_clear(vmcs);
		}
	vmx_off();
}

static void test_changed(void) {
	u64 vmcs = vmx_l2_vmcs(), ran = 0, refused = 0;

	vmx_l2_new(code_exit);
	done = false;
	smp_start(1, scribble, (void *)vmcs);
	for (unsigned i = 0; i < 200; i++) {
		vmx_l2_restart(code_exit);
		ran += vmx_l2_run() == REASON_VMCALL;
	}
	done = true;
	check("who scribbles comes back", smp_wait(1, WAIT_US));
	check_eq("entries with a VMCS whose memory changes", ran, 200);
	vmx_clear(vmcs);

	done = false;
	ran = 0;
	smp_start(1, share, &vmcs);
	for (unsigned i = 0; i < 500; i++) {
		vmx_clear(vmcs);
		vmx_ptrld(vmcs);
		vmx_write(VMCS_guest_rip, (u64)code_exit);
		u64 reason = vmx_l2_run();
		ran += reason == REASON_VMCALL;
		refused += (reason & VM_FAILED) == VM_FAILED || reason & REASON_ENTRY_FAILED;
	}
	done = true;
	check("who shares comes back", smp_wait(1, WAIT_US));
	check_eq("entries with a VMCS that two CPUs have run or are refused", ran + refused, 500);
	vmx_clear(vmcs);
}

/* ---- INIT ---- */

static volatile u64 init_reason, turns;
static volatile bool leave;

extern const char code_spin[];
__asm__(".pushsection .text\ncode_spin: jmp code_spin\n.popsection");

static void wait_for_init(void *arg) {
	vmx_init();
	if (arg) {
		vmx_l2_new(code_spin);
		turns = 1;
		init_reason = vmx_l2_run();
	}
	while (!leave) turns++;
	vmx_off();
	for (;;) turns++;
}

static bool goes_on(void) {
	u64 before = turns;

	return wait_until(turns != before, 100000);
}

/* It ends an L2's run, and waits in VMX root operation (25.2). */
static void test_init(void) {
	for (u64 l2 = 0; l2 < 2; l2++) {
		init_reason = ~0ul;
		turns = 0;
		leave = false;
		smp_start(1, wait_for_init, l2 ? frames : NULL);
		check("the other CPU is in VMX operation", wait_until(turns, WAIT_US));
		lapic_send(cpus[1].apic_id, ICR_INIT | ICR_ASSERT);
		if (l2) {
			check("INIT ends an L2's run", wait_until(init_reason != ~0ul, WAIT_US));
			check_eq("exit", init_reason, REASON_INIT);
			leave = true;
			check("it was for the exit alone", goes_on() && goes_on());
		} else {
			check("INIT waits in VMX operation", goes_on() && goes_on());
			leave = true;
			check("and comes with VMXOFF", wait_until(!goes_on(), WAIT_US));
		}
		check("the CPU begins anew", smp_boot(1));
	}
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
	test_changed();
	test_init();
}
