/*
 * Nested paging of an L2 (APM 2 15.25): what is mapped where and with which rights, what L1 is told
 * of a fault, accessed and dirty bits (T-P6), flushes (T-X1), changes between tables and none
 * (T-X5), the formats of L1's modes, devices that L1 passes on (T-E6), tables that make no sense.
 *
 * vm: machine=amd
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/mode.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/svm.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "svm_npt";

#define ALL	       (PTE_PRESENT | PTE_WRITE | PTE_USER)
#define FINAL	       BIT(32)
#define WALK	       BIT(33)
#define ASID_ONLY      3 /* TLB_CONTROL: this ASID's */
#define FLUSH_BY_ASID  BIT(6)
#define VIRTUAL_VMLOAD BIT(15)

static u64 root; /* the nested tables */
static volatile u64 *page_a, *page_b;

/* What L2 does: an access at RDI, the value in RAX. */
extern const char code_read[], code_write[], code_call[], code_read_cpuid[];
__asm__(".pushsection .text\n"
	"code_read: mov (%rdi), %rax\n vmmcall\n"
	"code_write: mov %rsi, (%rdi)\n vmmcall\n"
	"code_call: jmp *%rdi\n"
	".popsection");

static struct vmcb *block; /* of the L2 that ran last */

static u64 *leaf(u64 gpa2) { return page_entry_in(root, gpa2, 1); }

static u64 run(const void *code, volatile void *at, u64 value) {
	block = l2_new(code);
	l2_use_npt(block, root);
	l2_regs.rdi = (u64)at;
	l2_regs.rsi = value;
	return l2_run(block);
}

static void expect_read(const char *name, volatile void *at, u64 value) {
	u64 code = run(code_read, at, 0);

	if (check_eq(name_of("%s: no exit", name), code, EXIT_VMMCALL))
		check_eq(name, block->rax, value);
	else
		print("# info 0x%lx address 0x%lx\n", block->exit_info1, block->exit_info2);
}

static void test_mapping(void) {
	u64 *entry = leaf((u64)page_a);

	page_a[0] = 0xaaaa;
	page_b[0] = 0xbbbb;
	expect_read("one to one", page_a, 0xaaaa);
	*entry = (u64)page_b | ALL;
	expect_read("another page behind the address", page_a, 0xbbbb);
	run(code_write, page_a, 0xcccc);
	check_eq("a write goes to the other page", page_b[0], 0xcccc);
	check_eq("a write leaves the first page alone", page_a[0], 0xaaaa);
	*entry = (u64)page_a | ALL;
	expect_read("one to one again", page_a, 0xaaaa);
}

/* ---- faults ---- */

static void expect_npf(const char *name, const void *code, volatile void *at, u64 info,
		       u64 address) {
	u64 exit = run(code, at, 0x99);

	check_eq(name_of("%s: exit", name), exit, EXIT_NPF);
	check_eq(name_of("%s: EXITINFO1", name), block->exit_info1, info);
	check_eq(name_of("%s: EXITINFO2", name), block->exit_info2, address);
}

static void test_faults(void) {
	u64 *entry = leaf((u64)page_a), at = (u64)page_a + 0x128;
	volatile void *p = (volatile void *)at;
	u64 efer = rdmsr(X86_MSR_EFER);
	u32 r[4];

	wrmsr(X86_MSR_EFER, efer | X86_EFER_NXE);
	*entry = 0;
	expect_npf("read, not present", code_read, p, FINAL | 4, at);
	expect_npf("write, not present", code_write, p, FINAL | 6, at);
	expect_npf("fetch, not present", code_call, p, FINAL | 0x14, at);
	*entry = (u64)page_a | PTE_PRESENT | PTE_USER;
	expect_read("read-only: read", page_a, 0xaaaa);
	expect_npf("read-only: write", code_write, p, FINAL | 7, at);
	check_eq("read-only: no dirty bit", *entry & PTE_DIRTY, 0);
	*entry = (u64)page_a | PTE_PRESENT | PTE_WRITE;
	expect_npf("supervisor page: read", code_read, p, FINAL | 5, at);
	*entry = (u64)page_a | ALL | PTE_NX;
	expect_npf("no-execute: fetch", code_call, p, FINAL | 0x15, at);
	expect_read("no-execute: read", page_a, 0xaaaa);
	cpuid(0x80000008, 0, r);
	*entry = (u64)page_a | ALL | BIT(51);
	if (on_bare_tcg())
		skip("reserved bit", "TCG says not present");
	else if ((r[0] & 0xff) < 52)
		expect_npf("reserved bit: read", code_read, p, FINAL | 0xd, at);
	*entry = (u64)page_a | ALL;
	/* Without EFER.NXE of L1 the bit is reserved. */
	wrmsr(X86_MSR_EFER, efer & ~X86_EFER_NXE);
	*entry |= PTE_NX;
	if (!on_bare_tcg()) expect_npf("NX without NXE: read", code_read, p, FINAL | 0xd, at);
	*entry = (u64)page_a | ALL;
	wrmsr(X86_MSR_EFER, efer | X86_EFER_NXE);
}

/* An entry of L2's own tables is read and written by the walk, as a user would. */
static void test_walk_faults(void) {
	u64 va = TEST_VA + GiB(3), table = (u64)page_alloc();

	page_map(va, (u64)page_a, ALL);
	u64 *pde = page_find(va, 2);
	table = *pde & PTE_ADDRESS;
	u64 *entry = leaf(table);
	*entry = 0;
	expect_npf("L2's table not present", code_read, (volatile void *)va, WALK | 6,
		   table + (va >> 12 & 511) * 8);
	*entry = table | PTE_PRESENT | PTE_USER;
	*page_find(va, 1) &= ~PTE_ACCESSED;
	expect_npf("L2's table read-only", code_read, (volatile void *)va, WALK | 7,
		   table + (va >> 12 & 511) * 8);
	*entry = table | ALL;
	expect_read("L2's table writable", (volatile void *)va, 0xaaaa);
	check_eq("L2's entry is accessed", *page_find(va, 1) & PTE_ACCESSED, PTE_ACCESSED);
	check_eq("the nested leaf of L2's table is dirty", *entry & PTE_DIRTY, PTE_DIRTY);
}

/* ---- T-P6 ---- */

static void test_accessed_dirty(void) {
	u64 *entry = leaf((u64)page_a), *other = leaf((u64)page_b);
	u64 *upper[3] = {page_entry_in(root, (u64)page_a, 2), page_entry_in(root, (u64)page_a, 3),
			 page_entry_in(root, (u64)page_a, 4)};

	*entry = (u64)page_a | ALL;
	*other = (u64)page_b | ALL;
	for (unsigned i = 0; i < 3; i++) *upper[i] &= ~PTE_ACCESSED;
	run(code_read, page_a, 0);
	check_eq("T-P6: a read sets accessed", *entry & (PTE_ACCESSED | PTE_DIRTY), PTE_ACCESSED);
	for (unsigned i = 0; i < 3; i++)
		check_eq(name_of("T-P6: accessed at level %u", i + 2), *upper[i] & PTE_ACCESSED,
			 PTE_ACCESSED);
	check_eq("T-P6: no other leaf", *other & (PTE_ACCESSED | PTE_DIRTY), 0);
	run(code_write, page_a, 0xaaaa);
	check_eq("T-P6: a write sets dirty", *entry & PTE_DIRTY, PTE_DIRTY);
	for (unsigned round = 0; round < 100; round++) {
		*entry &= ~(PTE_DIRTY | PTE_ACCESSED);
		run(code_write, page_a, 0xaaaa);
		if ((*entry & (PTE_DIRTY | PTE_ACCESSED)) != (PTE_DIRTY | PTE_ACCESSED)) {
			check("T-P6: dirty again and again", false);
			return;
		}
	}
	check("T-P6: dirty again and again", true);
}

/* ---- T-X1 ---- */

static u64 read_with(u8 tlb_control, u32 asid, u64 ncr3) {
	struct vmcb *vmcb = l2_new(code_read);

	l2_use_npt(vmcb, ncr3);
	vmcb->tlb_control = tlb_control;
	vmcb->asid = asid;
	l2_regs.rdi = (u64)page_a;
	return l2_result(vmcb);
}

static void test_flushes(void) {
	static const char *const names[] = {"TLB_CONTROL 1", "TLB_CONTROL 3", "another ASID",
					    "INVLPGA"};
	u64 *entry = leaf((u64)page_a);

	for (unsigned how = 0; how < ARRAY_SIZE(names); how++) {
		u8 control = 0;
		u32 asid = 7;

		if (how == 1 && !(svm_feature_bits() & FLUSH_BY_ASID)) {
			skip("TLB_CONTROL 3", "no flush by ASID");
			continue;
		}
		*entry = (u64)page_a | ALL;
		read_with(TLB_FLUSH_ALL, asid, root);
		*entry = (u64)page_b | ALL;
		if (how < 2)
			control = how == 0 ? TLB_FLUSH_ALL : ASID_ONLY;
		else if (how == 2)
			asid = 8;
		else
			__asm__ volatile("invlpga" : : "a"(page_a), "c"(asid) : "memory");
		check_eq(name_of("T-X1: %s shows the change", names[how]),
			 read_with(control, asid, root), page_b[0]);
	}
	*entry = (u64)page_a | ALL;
	check_eq("T-X1: nCR3 with PWT and PCD", read_with(TLB_FLUSH_ALL, 1, root | 0x18),
		 page_a[0]);
	/* More ASIDs than Roost keeps apart, all with changes that each must see. */
	for (u32 asid = 1; asid <= 40; asid++) {
		*entry = (u64)(asid & 1 ? page_a : page_b) | ALL;
		if (read_with(0, 100 + asid, root) != (asid & 1 ? page_a : page_b)[0]) {
			check_eq("T-X1: a fresh ASID sees what is there", asid, 0);
			break;
		}
	}
	*entry = (u64)page_a | ALL;
}

/* ---- T-X5 ---- */

static void test_alternate(void) {
	u64 second = npt_new();
	u32 wrong = 0;

	*leaf((u64)page_a) = (u64)page_b | ALL;
	*page_entry_in(second, (u64)page_a, 1) = ((u64)page_b + PAGE_SIZE) | ALL;
	for (u64 i = 0; i < 1000; i++) {
		struct vmcb *vmcb = l2_new(code_write);
		u64 kind = i % 3;

		vmcb->tlb_control = 0;
		vmcb->asid = (u32)kind + 1;
		if (kind) {
			vmcb->np_enable = NP_ENABLE;
			vmcb->ncr3 = kind == 1 ? root : second;
		}
		l2_regs.rdi = (u64)page_a;
		l2_regs.rsi = i;
		l2_result(vmcb);
		wrong += (kind == 0 ? page_a : kind == 1 ? page_b : page_b + 512)[0] != i;
	}
	check_eq("T-X5: three kinds of L2 in turn, wrong pages", wrong, 0);
	*leaf((u64)page_a) = (u64)page_a | ALL;
	page_a[0] = 0xaaaa;
}

/* ---- sizes ---- */

static void test_large(void) {
	u64 tables = npt_new();
	u64 *pde = page_entry_in(tables, GiB(1) + MiB(4), 2), old = root;

	root = tables;
	/* L2's linear addresses are one to one: gpa2 1 GiB + 4 MiB is the first 2 MiB of page_a. */
	*pde = ((u64)page_a & ~(MiB(2) - 1)) | ALL | PTE_LARGE;
	expect_read("a 2 MiB page elsewhere",
		    (volatile void *)(GiB(1) + MiB(4) + ((u64)page_a & (MiB(2) - 1))), 0xaaaa);
	check_eq("a 2 MiB page is accessed", *pde & (PTE_ACCESSED | PTE_DIRTY), PTE_ACCESSED);
	if (cpuid_bit(0x80000001, 3, 26)) {
		u64 *pdpe = page_entry_in(tables, GiB(2), 3);

		*pdpe = 0 | ALL | PTE_LARGE;
		expect_read("a 1 GiB page elsewhere", (volatile void *)(GiB(2) + (u64)page_a),
			    0xaaaa);
		*pdpe = BIT(13) | ALL | PTE_LARGE;
		if (!on_bare_tcg())
			expect_npf("a 1 GiB page with a reserved bit", code_read,
				   (volatile void *)(GiB(2) + (u64)page_a), FINAL | 0xd,
				   GiB(2) + (u64)page_a);
	} else {
		skip("a 1 GiB page", "no such pages");
	}
	root = old;
}

/* ---- L1 in 32-bit modes: the format of its nested tables follows ---- */

extern const char legacy_code[], legacy_code_end[];
__asm__(".pushsection .text\n"
	"legacy_code:\n"
	".code32\n"
	"mov 0x7000, %eax\n" /* struct mode_data */
	"mov 0x7004, %edi\n"
	"mov 0x7008, %esi\n"
	"clgi\n"
	"vmrun\n"
	"stgi\n"
	"ret\n"
	".code64\n"
	"legacy_code_end:\n"
	".popsection");

static void run_legacy(enum mode mode, const void *code, u64 table, u64 value) {
	block = l2_new(code);
	l2_use_npt(block, table);
	mode_data()->value[0] = (u32)(u64)block;
	mode_data()->value[1] = (u32)(u64)page_a;
	mode_data()->value[2] = (u32)value;
	mode_run(mode, NULL, legacy_code, (size_t)(legacy_code_end - legacy_code));
}

static void test_32bit_format(void) {
	u32 *narrow = page_alloc(), *narrow_table = page_alloc();
	u32 at = (u32)(u64)page_a;

	if (on_bare_tcg()) {
		skip("L1 with 32-bit paging", "TCG does not find the page");
		return;
	}
	for (u32 i = 0; i < 1024; i++) narrow[i] = i << 22 | (u32)(ALL | PTE_LARGE);
	for (u32 i = 0; i < 1024; i++) narrow_table[i] = (at & ~0x3fffffu) | i << 12 | (u32)ALL;
	narrow[at >> 22] = (u32)(u64)narrow_table | (u32)ALL;
	narrow_table[at >> 12 & 1023] = (u32)(u64)page_b | (u32)ALL;
	run_legacy(MODE_PAGING32, code_write, (u64)narrow, 0x3232);
	check_eq("L1 with 32-bit paging: exit", block->exit_code, EXIT_VMMCALL);
	check_eq("L1 with 32-bit paging: written where its tables say", page_b[0], 0x3232);
	check_eq("L1 with 32-bit paging: dirty", narrow_table[at >> 12 & 1023] & PTE_DIRTY,
		 PTE_DIRTY);
	narrow_table[at >> 12 & 1023] = 0;
	run_legacy(MODE_PAGING32, code_write, (u64)narrow, 0);
	check_eq("L1 with 32-bit paging: fault", block->exit_code, EXIT_NPF);
	check_eq("L1 with 32-bit paging: EXITINFO1", block->exit_info1, FINAL | 6);
}

static void test_pae_format(void) {
	u64 *pdpt = page_alloc(), *pae_table = page_alloc(), *pd[4];
	u32 at = (u32)(u64)page_a;

	for (u32 i = 0; i < 4; i++) {
		pd[i] = page_alloc();
		pdpt[i] = (u64)pd[i] | PTE_PRESENT;
		for (u64 n = 0; n < 512; n++) pd[i][n] = GiB(i) + n * MiB(2) + (ALL | PTE_LARGE);
	}
	for (u64 i = 0; i < 512; i++) pae_table[i] = (at & ~(MiB(2) - 1)) + i * PAGE_SIZE + ALL;
	pd[at >> 30][at >> 21 & 511] = (u64)pae_table | ALL;
	pae_table[at >> 12 & 511] = (u64)page_b | ALL;
	run_legacy(MODE_PAGING32_PAE, code_write, (u64)pdpt, 0x7ae);
	check_eq("L1 with PAE paging: exit", block->exit_code, EXIT_VMMCALL);
	check_eq("L1 with PAE paging: written where its tables say", page_b[0], 0x7ae);
	check_eq("L1 with PAE paging: dirty", pae_table[at >> 12 & 511] & PTE_DIRTY, PTE_DIRTY);
	pae_table[at >> 12 & 511] = 0;
	run_legacy(MODE_PAGING32_PAE, code_write, (u64)pdpt, 0);
	check_eq("L1 with PAE paging: fault", block->exit_code, EXIT_NPF);
	check_eq("L1 with PAE paging: EXITINFO1", block->exit_info1, FINAL | 6);
	/* Without paging L1 has no format for them. */
	run_legacy(MODE_PROTECTED32, code_write, (u64)pdpt, 0);
	if (on_bare_tcg())
		skip("L1 without paging", "TCG runs");
	else
		check_eq("L1 without paging: refused", block->exit_code, EXIT_INVALID);
}

/* ---- devices, T-E6 ---- */

#define IOAPIC_WINDOW (IOAPIC_BASE + 0x10)

/* In L2: the redirection entry of pin 5 by index and window, read, changed, read again. */
static void code_ioapic(void) {
	volatile u32 *index = (volatile u32 *)IOAPIC_BASE, *window = (volatile u32 *)IOAPIC_WINDOW;

	*index = 0x10 + 2 * 5;
	u32 before = *window;
	*window = before ^ 0xff;
	u32 after = *window;
	*window |= 0x10000;
	l2_exit((u64)after << 32 | before);
}

static u64 ud_hits;

static void on_ud(struct regs *r) {
	ud_hits++;
	r->rip += 3; /* MOVNTPS (RDI) */
}

/* MOVNTPS to a device: nobody emulates that. */
extern const char code_movntps[];
__asm__(".pushsection .text\n"
	"code_movntps: movntps %xmm0, (%rdi)\n vmmcall\n"
	".popsection");

static void test_devices(void) {
	struct vmcb *vmcb = l2_new(code_ioapic);
	u64 cr4 = read_cr4(), got;
	u32 before = ioapic_read(0x10 + 2 * 5);

	l2_use_npt(vmcb, root);
	got = l2_result(vmcb);
	check_eq("a device that L1 passes on: read", (u32)got, before);
	check_eq("a device that L1 passes on: write", got >> 32, before ^ 0xff);
	check_eq("a device that L1 passes on: read-modify-write", ioapic_read(0x10 + 2 * 5),
		 (before ^ 0xff) | 0x10000);
	ioapic_write(0x10 + 2 * 5, before);

	write_cr4(cr4 | X86_CR4_OSFXSR);
	*leaf(IOAPIC_BASE) = 0;
	expect_npf("T-E6: a device that L1 has not mapped", code_movntps,
		   (volatile void *)IOAPIC_BASE, FINAL | 6, IOAPIC_BASE);
	*leaf(IOAPIC_BASE) = IOAPIC_BASE | ALL;
	if (on_bare_tcg()) {
		skip("T-E6", "the emulator executes it");
		write_cr4(cr4);
		return;
	}
	trap_set_handler(X86_UD, on_ud);
	check_eq("T-E6: unknown to the emulator, in L2: it goes on",
		 run(code_movntps, (volatile void *)IOAPIC_BASE, 0), EXIT_VMMCALL);
	check_eq("T-E6: it was #UD", ud_hits, 1);
	write_cr4(cr4);
	trap_set_handler(X86_UD, NULL);
}

/* ---- virtual VMLOAD and VMSAVE (APM 2 15.33.1): rAX of L2 is an address of L2's ---- */

extern const char code_vmsave[], code_vmload[];
__asm__(".pushsection .text\n"
	"code_vmsave: mov %rdi, %rax\n vmsave\n vmmcall\n"
	"code_vmload: mov %rdi, %rax\n vmload\n vmmcall\n"
	".popsection");

static u64 run_virtual(const void *code) {
	block = l2_new(code);
	l2_use_npt(block, root);
	block->lbr_enable = VMSAVE_ENABLE;
	l2_regs.rdi = (u64)page_a;
	return l2_run(block);
}

static void test_virtual_vmload(void) {
	struct vmcb *there = (struct vmcb *)(u64)page_b;
	u64 star = rdmsr(X86_MSR_STAR);

	if (!(svm_feature_bits() & VIRTUAL_VMLOAD)) {
		skip("virtual VMLOAD and VMSAVE", "not offered");
		return;
	}
	wrmsr(X86_MSR_STAR, 0x1234567800000000);
	memset((void *)(u64)page_a, 0, PAGE_SIZE);
	memset(there, 0, PAGE_SIZE);
	*leaf((u64)page_a) = (u64)page_b | ALL;
	check_eq("virtual VMSAVE: no exit", run_virtual(code_vmsave), EXIT_VMMCALL);
	check_eq("virtual VMSAVE: through L1's tables", there->star, 0x1234567800000000);
	check_eq("virtual VMSAVE: nothing where they do not lead", page_a[0x600 / 8], 0);
	there->star = 0x8765432100000000;
	check_eq("virtual VMLOAD: no exit", run_virtual(code_vmload), EXIT_VMMCALL);
	check_eq("virtual VMLOAD: loads", rdmsr(X86_MSR_STAR), 0x8765432100000000);
	*leaf((u64)page_a) = (u64)page_b | PTE_PRESENT | PTE_USER;
	check_eq("virtual VMSAVE to a page that is read-only: exit", run_virtual(code_vmsave),
		 EXIT_NPF);
	check_eq("virtual VMSAVE to a page that is read-only: EXITINFO1", block->exit_info1,
		 FINAL | 7);
	check_eq("virtual VMSAVE to a page that is read-only: EXITINFO2", block->exit_info2,
		 (u64)page_a);
	*leaf((u64)page_a) = (u64)page_a | ALL;
	wrmsr(X86_MSR_STAR, star);
	page_a[0] = 0xaaaa;
}

/* ---- tables that make no sense ---- */

static void test_strange_tables(void) {
	u64 *strange = page_alloc(), old = root, hole = 0xd0000000;
	u32 r[4];

	root = (u64)strange;
	/* Every level is the same page: any address ends in it. */
	for (unsigned i = 0; i < 512; i++) strange[i] = (u64)strange | ALL;
	run(code_read, page_a, 0);
	check("tables that are their own: L1 is alive", true);
	for (unsigned i = 0; i < 512; i++) strange[i] = 0x1234567890abcdeful * (i + 1);
	run(code_read, page_a, 0);
	check("tables of noise: L1 is alive", true);
	root = old;
	if (on_bare_tcg()) return;
	cpuid(0x80000008, 0, r);
	root = BIT((r[0] & 0xff) - 1);
	check_eq("a root beyond RAM: exit", run(code_read, page_a, 0), EXIT_NPF);
	check_eq("a root beyond RAM: all bits are set", block->exit_info1 & 0xd, 0xd);
	root = old;
	*leaf((u64)page_a) = hole | ALL;
	expect_read("a page that is a hole reads as ones", page_a, ~0ul);
	run(code_write, page_a, 0x5555);
	*leaf((u64)page_a) = (u64)page_a | ALL;
	expect_read("and back", page_a, 0xaaaa);
}

void test_main(void) {
	if (!svm_init()) return;
	if (!(svm_feature_bits() & 1)) {
		skip("nested paging", "this machine has none");
		return;
	}
	root = npt_new();
	page_a = page_alloc();
	page_b = page_alloc();
	page_alloc(); /* what follows page_b */
	test_mapping();
	test_faults();
	test_walk_faults();
	test_accessed_dirty();
	test_flushes();
	test_alternate();
	test_large();
	test_32bit_format();
	test_pae_format();
	test_devices();
	test_virtual_vmload();
	test_strange_tables();
}
