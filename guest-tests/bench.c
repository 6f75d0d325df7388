/*
 * What an operation costs, in TSC ticks, one line each: `bench NAME TICKS`. Where the TSC counts
 * instructions (QEMU with -icount shift=0, Bochs) the figures are instructions and repeat exactly.
 * Each is the mean over many rounds, less what the empty loop costs.
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/svm.h"
#include "guest-tests/lib/trap.h"
#include "guest-tests/lib/vmx.h"

const char test_name[] = "bench";

#define ROUNDS		  1000
#define PAGES		  1024
#define PAGES_BASE	  MiB(64)
#define UART_BYTES	  64
#define VECTOR_BENCH	  0x41
#define TIMER_AHEAD	  20000 /* ticks from arming to expiry */
#define MSR_TSC_ADJUST	  0x3b
#define HYPERCALL_UNKNOWN 0x7ffffff0 /* no interface defines it: it is refused at once */

static u64 floor_ticks; /* of ROUNDS empty rounds */

/* Ticks for ROUNDS rounds of a statement. */
#define ROUNDS_OF(statement)                                  \
	({                                                    \
		u64 start_ = rdtsc();                         \
		for (u64 round_ = ROUNDS; round_; round_--) { \
			__asm__ volatile("" : : : "memory");  \
			statement;                            \
		}                                             \
		rdtsc() - start_;                             \
	})

static void report_total(const char *name, u64 ticks, u64 floor, u64 rounds) {
	u64 net = ticks > floor ? ticks - floor : 0;

	print("bench %s %lu\n", name, (net + rounds / 2) / rounds);
}

static void not_here(const char *name) { print("bench %s none\n", name); }

#define BENCH(name, statement) report_total(name, ROUNDS_OF(statement), floor_ticks, ROUNDS)

static void bench_floor(void) {
	floor_ticks = ROUNDS_OF((void)0);
	report_total("floor", floor_ticks, 0, ROUNDS);
}

static void one_cpuid(void) {
	u32 r[4];

	cpuid(0x80000000, 0, r);
}

static bool hypercall_answers(void) {
	(void)hypercall(HYPERCALL_UNKNOWN, 0, 0, 0, 0);
	return trap_taken().vector == TRAP_NONE;
}

static void bench_exits(void) {
	BENCH("cpuid", one_cpuid());
	if (!hypercall_answers()) {
		not_here("hypercall");
	} else if (cpu_is_amd()) {
		BENCH("hypercall", ({
			      u64 rax = HYPERCALL_UNKNOWN;
			      __asm__ volatile("vmmcall" : "+a"(rax) : : "memory");
		      }));
	} else {
		BENCH("hypercall", ({
			      u64 rax = HYPERCALL_UNKNOWN;
			      __asm__ volatile("vmcall" : "+a"(rax) : : "memory");
		      }));
	}
	BENCH("port-pic", inb(0x21));
	BENCH("port-pmtimer", inl(PM_TIMER_PORT));
}

static void bench_msr(void) {
	u64 value;

	if (msr_read(MSR_TSC_ADJUST, &value) != TRAP_NONE) {
		not_here("msr-read");
		not_here("msr-write");
		return;
	}
	BENCH("msr-read", rdmsr(MSR_TSC_ADJUST));
	BENCH("msr-write", wrmsr(MSR_TSC_ADJUST, value));
}

static void bench_cr0(void) {
	u64 cr0 = read_cr0();

	BENCH("cr0-wp-toggle", ({
		      write_cr0(cr0 & ~X86_CR0_WP);
		      write_cr0(cr0 | X86_CR0_WP);
	      }));
}

static void bench_mmio(void) { BENCH("mmio-write", mmio_write32((volatile void *)IOAPIC_BASE, 1)); }

static u64 touch_pages(void) {
	u64 start = rdtsc();

	for (u64 i = 0; i < PAGES; i++) *(volatile u8 *)(PAGES_BASE + i * PAGE_SIZE) = 1;
	return rdtsc() - start;
}

static void bench_pages(void) {
	if (ram_top() < PAGES_BASE + PAGES * PAGE_SIZE) {
		not_here("page-fill");
		return;
	}
	u64 first = touch_pages();
	u64 again = touch_pages();
	report_total("page-fill", first, again, PAGES);
}

static void bench_uart(void) {
	u64 start = rdtsc(), ticks;

	for (unsigned i = 0; i < UART_BYTES; i++) print_char('.');
	ticks = rdtsc() - start;
	print_char('\n');
	report_total("uart-byte", ticks, 0, UART_BYTES);
}

/* Enters, notes the time, returns; the EOI is left to the caller, outside of what is timed. */
static volatile u64 handler_tsc;
void bench_handler(void);
__asm__(".text\n"
	"bench_handler:\n\t"
	"push %rax\n\t"
	"push %rdx\n\t"
	"rdtsc\n\t"
	"shl $32, %rdx\n\t"
	"or %rdx, %rax\n\t"
	"mov %rax, handler_tsc(%rip)\n\t"
	"pop %rdx\n\t"
	"pop %rax\n\t"
	"iretq\n");

/* From the IPI's sending to the first instruction of its handler. */
static void bench_self_ipi(const char *name) {
	bool x2apic = lapic_in_x2apic();
	u64 ticks = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		u64 start;

		handler_tsc = 0;
		start = rdtsc();
		if (x2apic)
			wrmsr(X86_MSR_X2APIC + (LAPIC_ICR >> 4), ICR_SELF | VECTOR_BENCH);
		else
			mmio_write32((volatile void *)(LAPIC_BASE + LAPIC_ICR),
				     ICR_SELF | VECTOR_BENCH);
		__asm__ volatile("sti; nop" : : : "memory");
		while (!handler_tsc) cpu_pause();
		cpu_cli();
		ticks += handler_tsc - start;
		lapic_eoi();
	}
	report_total(name, ticks, 0, ROUNDS);
}

/* The time to arm it, plus the time from its expiry to the first instruction of the handler. */
static void bench_deadline(void) {
	u64 ticks = 0;

	if (!cpuid_bit(1, 2, 24)) {
		not_here("tsc-deadline");
		return;
	}
	lapic_write(LAPIC_LVT_TIMER, LVT_DEADLINE | VECTOR_BENCH);
	for (unsigned i = 0; i < ROUNDS; i++) {
		u64 start, armed, deadline;

		handler_tsc = 0;
		start = rdtsc();
		deadline = start + TIMER_AHEAD;
		wrmsr(X86_MSR_TSC_DEADLINE, deadline);
		armed = rdtsc();
		cpu_sti();
		while (!handler_tsc)
			;
		cpu_cli();
		ticks += armed - start + (handler_tsc - deadline);
		lapic_eoi();
	}
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
	report_total("tsc-deadline", ticks, 0, ROUNDS);
}

static void bench_lapic(void) {
	lapic_init();
	trap_set_entry(VECTOR_BENCH, bench_handler);
	BENCH("eoi-mmio", mmio_write32((volatile void *)(LAPIC_BASE + LAPIC_EOI), 0));
	bench_self_ipi("self-ipi-xapic");
	bench_deadline();
	if (!lapic_has_x2apic()) {
		not_here("eoi-x2apic");
		not_here("self-ipi-x2apic");
		return;
	}
	lapic_enter_x2apic();
	BENCH("eoi-x2apic", wrmsr(X86_MSR_X2APIC + (LAPIC_EOI >> 4), 0));
	bench_self_ipi("self-ipi-x2apic");
}

/* An L2 that reads the TSC and leaves; and one that writes to RCX pages from RDI on first. */
extern const char l2_reads_tsc[], l2_touches[];
__asm__(".pushsection .text\n"
	"l2_reads_tsc: rdtsc\n"
	"vmmcall\n"
	"l2_touches: rdtsc\n"
	"mov %eax, %ebx\n"
	"1: movb $1, (%rdi)\n"
	"add $4096, %rdi\n"
	"dec %rcx\n"
	"jnz 1b\n"
	"rdtsc\n"
	"sub %ebx, %eax\n"
	"vmmcall\n"
	".popsection");

/*
 * From VMRUN until L2 runs, and from L2's VMMCALL until L1 does; flush: TLB_CONTROL. Without names,
 * what the first of them costs is only returned.
 */
static u64 bench_l2(const char *enter, const char *leave, struct vmcb *vmcb, u8 flush) {
	u64 in = 0, back = 0;

	for (unsigned i = 0; i < ROUNDS + 1; i++) {
		u64 start, inside, end;

		vmcb->rip = (u64)l2_reads_tsc;
		vmcb->tlb_control = flush;
		clgi();
		start = rdtsc();
		l2_enter(vmcb);
		end = rdtsc();
		stgi();
		inside = l2_regs.rdx << 32 | (u32)vmcb->rax;
		if (!i) continue; /* the first one fills caches and tables */
		in += inside - start;
		back += end - inside;
	}
	if (enter) report_total(enter, in, 0, ROUNDS);
	if (leave) report_total(leave, back, 0, ROUNDS);
	return in;
}

static u64 l2_touch(struct vmcb *vmcb, u64 pages) {
	l2_regs.rdi = PAGES_BASE;
	l2_regs.rcx = pages;
	l2_restart(vmcb, l2_touches);
	vmcb->tlb_control = 0;
	l2_run(vmcb);
	return vmcb->rax;
}

/* What an L2 with nested paging costs: a page that L1 has mapped, and a flush by L1. */
static void bench_nested_paging(struct vmcb *vmcb) {
	u64 root = npt_new(), pages = 0, first = 0, again = 0;

	if (ram_top() < PAGES_BASE + PAGES * PAGE_SIZE) return;
	for (u64 i = 0; i < PAGES; i++)
		*page_entry_in(root, PAGES_BASE + i * PAGE_SIZE, 1) =
			(PAGES_BASE + i * PAGE_SIZE) | PTE_PRESENT | PTE_WRITE | PTE_USER;
	l2_use_npt(vmcb, root);
	l2_run(vmcb);
	u64 plain = bench_l2("vmrun-npt", "l2-vmmcall-npt", vmcb, 0);
	while (pages < PAGES) {
		pages = pages ? PAGES : PAGES / 16;
		first = l2_touch(vmcb, pages);
		again = l2_touch(vmcb, pages);
		report_total(pages == PAGES ? "l1-flush-1024" : "l1-flush-64",
			     bench_l2(NULL, NULL, vmcb, TLB_FLUSH_ASID), plain, ROUNDS);
	}
	report_total("l2-page-fill", first, again, PAGES - PAGES / 16);
}

static void bench_svm(void) {
	static const char *const names[] = {"vmrun",	      "l2-vmmcall",   "vmrun-npt",
					    "l2-vmmcall-npt", "l2-page-fill", "l1-flush-64",
					    "l1-flush-1024",  "vmload",	      "vmsave",
					    "stgi",	      "clgi"};
	struct vmcb *vmcb;

	if (!cpu_is_amd() || !svm_init()) {
		for (unsigned i = 0; i < ARRAY_SIZE(names); i++) not_here(names[i]);
		return;
	}
	vmcb = l2_new(l2_reads_tsc);
	bench_l2("vmrun", "l2-vmmcall", vmcb, 0);
	bench_nested_paging(vmcb);
	__asm__ volatile("vmsave" : : "a"(vmcb) : "memory");
	BENCH("vmload", ({ __asm__ volatile("vmload" : : "a"(vmcb) : "memory"); }));
	BENCH("vmsave", ({ __asm__ volatile("vmsave" : : "a"(vmcb) : "memory"); }));
	BENCH("stgi", stgi());
	BENCH("clgi", clgi());
	stgi();
}

/*
 * Round trips: L1 notes the time in RBX, enters, L2 in RSI, exits, L1 at last in RDI. The general
 * registers are no affair of VMX.
 */
extern const char vmx_round_l2[], vmx_round_back[], vmx_touches[];
u64 vmx_round(u64 *inside, u64 *end, u64 resume);
__asm__(".pushsection .text\n"
	".macro note_time to\n"
	"rdtsc\n"
	"shl $32, %rdx\n"
	"lea (%rax, %rdx), \\to\n"
	".endm\n"
	"vmx_round: push %rbx\n"
	"push %rdi\n"
	"push %rsi\n"
	"mov $0x6c14, %eax\n" /* HOST_RSP */
	"vmwrite %rsp, %rax\n"
	"mov %rdx, %rcx\n"
	"note_time %rbx\n"
	"test %rcx, %rcx\n"
	"jnz 1f\n"
	"vmlaunch\n"
	"1: vmresume\n"
	"ud2\n"
	"vmx_round_l2: note_time %rsi\n"
	"vmcall\n"
	"vmx_round_back: note_time %rdi\n"
	"pop %rdx\n"
	"mov %rdi, (%rdx)\n"
	"pop %rdx\n"
	"mov %rsi, (%rdx)\n"
	"mov %rbx, %rax\n"
	"pop %rbx\n"
	"ret\n"
	"vmx_touches: rdtsc\n"
	"mov %eax, %ebx\n"
	"1: movb $1, (%rdi)\n"
	"add $4096, %rdi\n"
	"dec %rcx\n"
	"jnz 1b\n"
	"rdtsc\n"
	"sub %ebx, %eax\n"
	"vmcall\n"
	".popsection");

static void bench_vmx_l2(const char *enter, const char *leave, bool resume) {
	u64 in = 0, back = 0;

	for (unsigned i = 0; i < ROUNDS + 1; i++) {
		u64 start, inside, end;

		vmwrite(VMCS(guest_rip), (u64)vmx_round_l2);
		if (!resume) {
			vmx_clear(vmx_l2_vmcs());
			vmx_ptrld(vmx_l2_vmcs());
		}
		start = vmx_round(&inside, &end, resume);
		if (!i) continue;
		in += inside - start;
		back += end - inside;
	}
	report_total(enter, in, 0, ROUNDS);
	if (leave) report_total(leave, back, 0, ROUNDS);
}

/* The first touch by L2 of pages that L1 has mapped, in 4 KiB as well. */
static void bench_vmx_pages(u64 root) {
	u64 ticks[2];

	if (ram_top() < PAGES_BASE + PAGES * PAGE_SIZE) return;
	for (u64 i = 0; i < PAGES; i++)
		*page_entry_in(root, PAGES_BASE + i * PAGE_SIZE, 1) =
			(PAGES_BASE + i * PAGE_SIZE) | 7 /* all rights */ | 6 << 3;
	vmx_invept(2, 0);
	vmx_clear(vmx_l2_vmcs());
	vmx_ptrld(vmx_l2_vmcs());
	for (unsigned i = 0; i < 2; i++) {
		vmx_regs()->rdi = PAGES_BASE;
		vmx_regs()->rcx = PAGES;
		vmx_l2_restart(vmx_touches);
		ticks[i] = vmx_l2_result();
	}
	report_total("l2-ept-fill", ticks[0], ticks[1], PAGES);
}

static void bench_vmx(void) {
	static const char *const names[] = {"vmlaunch", "vmresume", "l2-vmcall",
					    "vmread",	"vmwrite",  "l2-ept-fill"};

	if (cpu_is_amd() || !vmx_init()) {
		for (unsigned i = 0; i < ARRAY_SIZE(names); i++) not_here(names[i]);
		return;
	}
	u64 root = ept_new();
	vmx_l2_new(vmx_round_l2);
	vmx_l2_use_ept(root);
	vmx_l2_add(PROC2_VPID);
	vmwrite(VMCS(vpid), 1);
	vmwrite(VMCS(host_rip), (u64)vmx_round_back);
	bench_vmx_l2("vmlaunch", NULL, false);
	bench_vmx_l2("vmresume", "l2-vmcall", true);
	BENCH("vmread", vmread(VMCS(guest_rip)));
	BENCH("vmwrite", vmwrite(VMCS(guest_rip), round_));
	bench_vmx_pages(root);
	vmx_off();
}

void test_main(void) {
	bench_floor();
	bench_exits();
	bench_msr();
	bench_cr0();
	bench_mmio();
	bench_pages();
	bench_uart();
	bench_lapic();
	bench_svm();
	bench_vmx();
	check("every operation was measured", true);
}
