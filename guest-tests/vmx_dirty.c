/*
 * The dirty log of a VM on Intel: what the guest writes itself, and what its L2 does. From outside
 * come letters at the serial port, for each of which this writes to some of 64 pages and says to
 * which; whoever sends them takes the log in between: suite_nested_intel.py. `g`: the guest, `n`:
 * an L2 without EPT, `e`: one with EPT; `v`: the processor, to one that is the virtual APIC of an
 * L2; `m`: the guest, to more pages than a page-modification log has entries; `q` ends it.
 *
 * vm: machine=intel
 */
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/vmx.h"

const char test_name[] = "vmx_dirty";

#define PAGES	 64
#define COM1	 0x3f8
#define COM1_LSR 0x3fd
#define WINDOW	 MiB(16) /* in one word of the log; nobody else has a use for it */
#define MANY	 MiB(32)
#define NR_MANY	 1500

static u64 seed = 0x123456789abcdef;

static u64 draw(void) {
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void write_pages(u64 pages) {
	for (u64 i = 0; i < PAGES; i++)
		if (pages >> i & 1) ++*(volatile u64 *)(WINDOW + i * PAGE_SIZE + 8);
}

/* The same as an L2, which has the pages in RSI. */
static void code_write(void) {
	u64 pages;

	__asm__ volatile("" : "=S"(pages));
	write_pages(pages);
	vmx_l2_exit(pages);
}

static u64 l2_writes(u64 root, u64 pages) {
	vmx_l2_new(code_write);
	if (root) vmx_l2_use_ept(root);
	vmx_regs()->rsi = pages;
	return vmx_l2_result();
}

static void code_cr8(void) {
	__asm__ volatile("mov %0, %%cr8" : : "r"(5ul));
	vmx_l2_exit(0);
}

static u64 cr8_writes(u64 page) {
	vmx_l2_new(code_cr8);
	vmwrite(VMCS(proc_controls), vmread(VMCS(proc_controls)) | PROC_TPR_SHADOW);
	vmwrite(VMCS(virtual_apic), WINDOW + page * PAGE_SIZE);
	vmwrite(VMCS(tpr_threshold), 0);
	vmx_l2_result();
	return BIT(page);
}

/* Bochs ends no guest for a host's interrupt that came while IF was clear. */
static u8 next_letter(void) {
	while (!(inb(COM1_LSR) & 1)) cpu_irq_window();
	return inb(COM1);
}

void test_main(void) {
	bool vmx = vmx_init();
	u64 root = vmx ? ept_new() : 0;

	print("ready %s\n", vmx && vmx_can(VMX_MSR_PROC2, PROC2_EPT) ? "L2 too" : "alone");
	for (;;) {
		u64 pages = draw() & draw();

		switch (next_letter()) {
		case 'g': write_pages(pages); break;
		case 'n': pages = l2_writes(0, pages); break;
		case 'e': pages = l2_writes(root, pages); break;
		case 'v': pages = cr8_writes(pages % PAGES); break;
		case 'm':
			for (u64 i = 0; i < NR_MANY; i++)
				*(volatile u8 *)(MANY + i * PAGE_SIZE) = 1;
			pages = 0;
			break;
		case 'q': check("it was told to end", true); return;
		default: continue; /* the Enter behind each */
		}
		print("wrote %016lx\n", pages);
	}
}
