/*
 * The dirty log of a VM whose L2 writes (T-P8). From outside come letters at the serial port, for
 * each of which this does one thing and says so; whoever sends them takes the log in between:
 * suite_nested.py. `c` clears the dirty bits of L1's nested tables; `w` lets L2 write some of 64
 * pages through them, `f` the same with a flush; `t` lets L2 read all over a terabyte, which is one
 * page of L1's; `q` ends it.
 *
 * vm: machine=amd
 */
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/svm.h"

const char test_name[] = "svm_dirty";

#define PAGES	 64
#define COM1	 0x3f8
#define COM1_LSR 0x3fd
#define WINDOW	 GiB(3)	 /* in gpa2: as many pages as a word of the log has */
#define FRAMES	 MiB(16) /* behind it, in one word of the log; L1 itself has no use for them */
#define ALL	 (PTE_PRESENT | PTE_WRITE | PTE_USER)
#define AD	 (PTE_ACCESSED | PTE_DIRTY)

static u64 root, seed = 0x123456789abcdef;

/* L2 writes to each page of the 64 from RDI on whose bit in RSI is set. */
extern const char code_write[];
__asm__(".pushsection .text\n"
	"code_write:\n"
	"1: shr $1, %rsi\n"
	"jnc 2f\n"
	"incq (%rdi)\n"
	"2: lea 4096(%rdi), %rdi\n"
	"test %rsi, %rsi\n"
	"jnz 1b\n"
	"vmmcall\n"
	".popsection");

static u64 *leaf(u64 page) { return page_entry_in(root, WINDOW + page * PAGE_SIZE, 1); }

static u64 draw(void) {
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static u8 next_letter(void) {
	while (!(inb(COM1_LSR) & 1)) cpu_pause();
	return inb(COM1);
}

static void clear(void) {
	for (u64 i = 0; i < PAGES; i++) *leaf(i) &= ~AD;
	print("cleared\n");
}

/* Few pages, and now and then many. What L1's table has to say of them is written into it. */
static void write(struct vmcb *vmcb, u8 flush) {
	u64 pages = draw(), table = 0, wrong = 0;

	if (pages & 7) pages &= draw() & draw() & draw();
	for (u64 i = 0; i < PAGES; i++) table |= (pages >> i & 1) && (*leaf(i) & AD) != AD;
	l2_restart(vmcb, code_write);
	vmcb->tlb_control = flush;
	l2_regs.rdi = WINDOW;
	l2_regs.rsi = pages;
	u64 exit = l2_run(vmcb);
	for (u64 i = 0; i < PAGES; i++) wrong += (pages >> i & 1) && (*leaf(i) & AD) != AD;
	print("wrote %016lx table %lu wrong %lu\n", pages, table, wrong + (exit != EXIT_VMMCALL));
}

/* Reads RCX times from RDI on, RSI further each time, below RDX + 1. */
extern const char code_far[];
__asm__(".pushsection .text\n"
	"code_far:\n"
	"1: mov (%rdi), %rax\n"
	"add %rsi, %rdi\n"
	"and %rdx, %rdi\n"
	"dec %rcx\n"
	"jnz 1b\n"
	"vmmcall\n"
	".popsection");

/* L2's own tables map its addresses one to one, L1's all but the first 4 GiB to one page. */
static void terabyte(void) {
	static u64 far, own;
	struct vmcb *vmcb = l2_new(code_far);

	if (!far) {
		u64 *tables[4] = {page_alloc(), page_alloc(), page_alloc(), page_alloc()};
		u64 *pml4 = page_alloc();

		for (unsigned level = 1; level < 4; level++)
			for (unsigned i = 0; i < 512; i++)
				tables[level][i] = (u64)tables[level - 1] | ALL;
		far = npt_new();
		((u64 *)far)[1] = (u64)tables[3] | ALL;
		for (unsigned i = 4; i < 512; i++)
			*page_entry_in(far, GiB(1) * i, 3) = (u64)tables[2] | ALL;
		own = (u64)pml4;
		for (u64 i = 0; i < 1024; i++)
			*page_entry_in(own, GiB(1) * i, 3) = GiB(1) * i | ALL | PTE_LARGE;
	}
	l2_use_npt(vmcb, far);
	vmcb->cr3 = own;
	l2_regs.rdi = GiB(4);
	l2_regs.rsi = GiB(1) + MiB(2) + PAGE_SIZE;
	l2_regs.rdx = GiB(1024) - 1;
	l2_regs.rcx = 20000;
	u64 exit = l2_run(vmcb);
	print("read %lu exit %lx\n", 20000 - l2_regs.rcx, exit);
}

void test_main(void) {
	struct vmcb *vmcb;

	if (!svm_init()) return;
	root = npt_new();
	for (u64 i = 0; i < PAGES; i++) *leaf(i) = (FRAMES + i * PAGE_SIZE) | ALL;
	vmcb = l2_new(code_write);
	l2_use_npt(vmcb, root);
	print("window %lx table %lx block %lx\n", FRAMES, (u64)leaf(0) & PTE_ADDRESS, (u64)vmcb);
	for (;;) {
		switch (next_letter()) {
		case 'c': clear(); break;
		case 'w': write(vmcb, 0); break;
		case 'f': write(vmcb, TLB_FLUSH_ALL); break;
		case 't': terabyte(); break;
		case 'q': check("it was told to end", true); return;
		default: break; /* the Enter behind each */
		}
	}
}
