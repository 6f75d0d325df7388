/*
 * Paging as a guest sees it through nested tables: accessed and dirty bits, rights, NX, WP, SMEP,
 * SMAP, large pages, flushes (APM 2 chapter 5, SDM 3A chapter 4).
 */
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "paging";

#define VA	  (TEST_VA + GiB(16))
#define RW	  (PTE_PRESENT | PTE_WRITE)
#define AD	  (PTE_ACCESSED | PTE_DIRTY)
#define LARGE_RAM MiB(32) /* a 2 MiB page of RAM that nothing else uses */

static u64 probe_read(u64 va) {
	u64 value;

	__asm__ volatile(TRY "mov (%1), %0" END_TRY : "=r"(value) : "r"(va) : TRY_SPOILS);
	return trap_taken().vector;
}

static u64 probe_write(u64 va, u64 value) {
	__asm__ volatile(TRY "mov %0, (%1)" END_TRY : : "r"(value), "r"(va) : TRY_SPOILS);
	return trap_taken().vector;
}

static u64 probe_call(u64 va) {
	__asm__ volatile(TRY "call *%0" END_TRY : : "r"(va) : TRY_SPOILS, "rax");
	return trap_taken().vector;
}

static void expect_fault(const char *name, u64 vector, u64 error) {
	check_eq(name_of("%s: #PF", name), vector, X86_PF);
	check_eq(name_of("%s: error code", name), trap_taken().error, error);
}

static void clear_bits(u64 va, u64 bits) {
	for (unsigned level = 1; level <= 4; level++) {
		u64 *entry = page_find(va, level);

		if (entry) *entry &= ~bits;
	}
	write_cr3(read_cr3());
}

static void test_accessed(void) {
	page_map(VA, (u64)page_alloc(), RW);
	u64 *leaf = page_find(VA, 1);
	clear_bits(VA, AD);
	(void)probe_read(VA);
	check_eq("read: accessed, not dirty", *leaf & AD, PTE_ACCESSED);
	for (unsigned level = 2; level <= 4; level++)
		check_eq(name_of("read: level %u is accessed", level),
			 *page_find(VA, level) & PTE_ACCESSED, PTE_ACCESSED);
	(void)probe_write(VA, 1);
	check_eq("write: dirty", *leaf & AD, AD);
	clear_bits(VA, AD);
	(void)probe_write(VA, 2);
	check_eq("first access is a write: both at once", *leaf & AD, AD);
	clear_bits(VA, PTE_DIRTY);
	(void)probe_write(VA, 3);
	check_eq("dirty cleared, flushed, written: dirty again", *leaf & AD, AD);
	clear_bits(VA, AD);
	__asm__ volatile("lock cmpxchgq %1, (%0)" : : "r"(VA), "r"(5ul), "a"(99ul) : "memory");
	check_eq("a compare that fails is a write as well", *leaf & AD, AD);
	*leaf = 0;
	clear_bits(VA, AD);
	(void)probe_read(VA);
	check_eq("a page that is not there: no bits", *leaf, 0);
}

static void test_write_protect(void) {
	u64 *leaf, cr0 = read_cr0();

	page_map(VA, (u64)page_alloc(), PTE_PRESENT);
	leaf = page_find(VA, 1);
	clear_bits(VA, AD);
	expect_fault("WP: ring 0 writes a read-only page", probe_write(VA, 1),
		     PF_PRESENT | PF_WRITE);
	check_eq("WP: not dirty", *leaf & PTE_DIRTY, 0);
	write_cr0(cr0 & ~X86_CR0_WP);
	check_eq("WP clear: ring 0 may", probe_write(VA, 1), TRAP_NONE);
	check_eq("WP clear: dirty", *leaf & PTE_DIRTY, PTE_DIRTY);
	write_cr0(cr0);
	expect_fault("WP set again: at once", probe_write(VA, 2), PF_PRESENT | PF_WRITE);
	/* The right to write is the AND over all levels. */
	page_map(VA, (u64)page_alloc(), RW);
	*page_find(VA, 2) &= ~PTE_WRITE;
	write_cr3(read_cr3());
	expect_fault("read-only one level up", probe_write(VA, 1), PF_PRESENT | PF_WRITE);
	*page_find(VA, 2) |= PTE_WRITE;
	write_cr3(read_cr3());
	check_eq("writable again", probe_write(VA, 1), TRAP_NONE);
}

static void test_no_execute(void) {
	u8 *page = page_alloc();

	page[0] = 0xc3;
	wrmsr(X86_MSR_EFER, rdmsr(X86_MSR_EFER) | X86_EFER_NXE);
	page_map(VA, (u64)page, RW);
	check_eq("a page without NX can be called", probe_call(VA), TRAP_NONE);
	page_map(VA, (u64)page, RW | PTE_NX);
	expect_fault("NX", probe_call(VA), PF_PRESENT | PF_FETCH);
	check_eq("NX: it can be read", probe_read(VA), TRAP_NONE);
	page_map(VA, (u64)page, RW);
	*page_find(VA, 3) |= PTE_NX;
	write_cr3(read_cr3());
	expect_fault("NX two levels up", probe_call(VA), PF_PRESENT | PF_FETCH);
	*page_find(VA, 3) &= ~PTE_NX;
	write_cr3(read_cr3());
	wrmsr(X86_MSR_EFER, rdmsr(X86_MSR_EFER) & ~X86_EFER_NXE);
	page_map(VA, (u64)page, RW | PTE_NX);
	if (on_tcg())
		skip("NX bit without EFER.NXE is reserved: error code", "TCG's is wrong");
	else
		expect_fault("NX bit without EFER.NXE is reserved", probe_read(VA),
			     PF_PRESENT | PF_RESERVED);
	page_map(VA, 0, 0);
	wrmsr(X86_MSR_EFER, rdmsr(X86_MSR_EFER) | X86_EFER_NXE);
}

static void test_supervisor_modes(void) {
	u64 cr4 = read_cr4();
	u8 *page = page_alloc();

	page[0] = 0xc3;
	page_map(VA, (u64)page, RW | PTE_USER);
	check_eq("without SMEP ring 0 runs a user page", probe_call(VA), TRAP_NONE);
	if (cpuid_bit(7, 1, 7)) {
		write_cr4(cr4 | X86_CR4_SMEP);
		expect_fault("SMEP", probe_call(VA), PF_PRESENT | PF_FETCH);
		check_eq("SMEP: it can be read", probe_read(VA), TRAP_NONE);
		write_cr4(cr4);
	} else {
		skip("SMEP", "not offered");
	}
	if (cpuid_bit(7, 1, 20)) {
		write_cr4(cr4 | X86_CR4_SMAP);
		expect_fault("SMAP: read", probe_read(VA), PF_PRESENT);
		expect_fault("SMAP: write", probe_write(VA, 0xc3), PF_PRESENT | PF_WRITE);
		__asm__ volatile("stac");
		check_eq("SMAP: with AC it may be read", probe_read(VA), TRAP_NONE);
		__asm__ volatile("clac");
		expect_fault("SMAP: AC clear again", probe_read(VA), PF_PRESENT);
		write_cr4(cr4);
	} else {
		skip("SMAP", "not offered");
	}
	page_map(VA, 0, 0);
}

static void test_large(void) {
	u64 *two = page_entry(VA + GiB(1), 2), *one;
	u64 va = VA + GiB(1);

	*two = LARGE_RAM | RW | PTE_LARGE;
	write_cr3(read_cr3());
	*(volatile u64 *)(va + 0x123450) = 0x1122334455667788;
	check_eq("2 MiB page: the address within it", *(volatile u64 *)(LARGE_RAM + 0x123450),
		 0x1122334455667788);
	check_eq("2 MiB page: accessed and dirty", *two & AD, AD);
	*two = (LARGE_RAM + MiB(2)) | RW | PTE_LARGE;
	invlpg(va + 0x1fffff);
	*(volatile u64 *)va = 0x99;
	check_eq("2 MiB page moved, INVLPG at its end: the new one",
		 *(volatile u64 *)(LARGE_RAM + MiB(2)), 0x99);
	*two = LARGE_RAM | RW | PTE_LARGE | BIT(13);
	invlpg(va);
	if (on_tcg())
		skip("2 MiB page: bit 13 is reserved: error code", "TCG's is wrong");
	else
		expect_fault("2 MiB page: bit 13 is reserved", probe_read(va),
			     PF_PRESENT | PF_RESERVED);
	*two = 0;
	invlpg(va);
	if (!cpuid_bit(0x80000001, 3, 26)) {
		skip("1 GiB page", "not offered");
		return;
	}
	va = VA + GiB(64);
	one = page_entry(va, 3);
	*one = RW | PTE_LARGE;
	write_cr3(read_cr3());
	*(volatile u64 *)(va + LARGE_RAM + 8) = 0x77;
	check_eq("1 GiB page: the address within it", *(volatile u64 *)(LARGE_RAM + 8), 0x77);
	check_eq("1 GiB page: accessed and dirty", *one & AD, AD);
	*one = 0;
	write_cr3(read_cr3());
}

/* A changed entry is seen after each kind of flush that the manuals promise. */
static void test_flush(void) {
	u64 *a = page_alloc(), *b = page_alloc(), *leaf;
	u64 cr4 = read_cr4();

	a[0] = 0xaaaa;
	b[0] = 0xbbbb;
	page_map(VA, (u64)a, RW);
	leaf = page_find(VA, 1);
	check_eq("mapped to the first page", *(volatile u64 *)VA, 0xaaaa);
	*leaf = (u64)b | RW;
	invlpg(VA);
	check_eq("INVLPG: the second page", *(volatile u64 *)VA, 0xbbbb);
	*leaf = (u64)a | RW;
	write_cr3(read_cr3());
	check_eq("MOV CR3: the first page", *(volatile u64 *)VA, 0xaaaa);
	write_cr4(cr4 | X86_CR4_PGE);
	*leaf = (u64)a | RW | PTE_GLOBAL;
	invlpg(VA);
	(void)*(volatile u64 *)VA;
	*leaf = (u64)b | RW | PTE_GLOBAL;
	write_cr4(cr4 & ~X86_CR4_PGE);
	check_eq("CR4.PGE changed: global pages too", *(volatile u64 *)VA, 0xbbbb);
	write_cr4(cr4);
	*leaf = 0;
	invlpg(VA);
	check_eq("unmapped: #PF", probe_read(VA), X86_PF);
	*leaf = (u64)a | RW;
	check_eq("mapped where nothing was: no flush needed", probe_read(VA), TRAP_NONE);
}

/* Tables of its own, entered by MOV CR3, that map the same address elsewhere. */
static void test_two_roots(void) {
	u64 *root = page_alloc(), *old = (u64 *)(read_cr3() & PTE_ADDRESS);
	u64 *a = page_alloc(), *b = page_alloc(), cr3 = read_cr3();
	unsigned wrong = 0;

	page_map(VA, (u64)a, RW);
	memcpy(root, old, PAGE_SIZE);
	root[VA >> 39 & 511] = 0;
	write_cr3((u64)root);
	page_map(VA, (u64)b, RW);
	for (u64 i = 0; i < 1000; i++) {
		write_cr3((u64)root);
		*(volatile u64 *)VA = i;
		write_cr3(cr3);
		*(volatile u64 *)VA = ~i;
		if (*(volatile u64 *)a != ~i || *(volatile u64 *)b != i) wrong++;
	}
	check_eq("two page-table roots, 1000 times in turn: wrong", wrong, 0);
}

/* Ring 3 through the user bit of every level. */
static void test_user(void) {
	/* mov rax, imm64; mov rbx, [rax]; ud2 */
	static u8 code[] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0x8b, 0x18, 0x0f, 0x0b};
	u64 va = VA;

	memcpy(code + 2, &va, sizeof(va));
	page_map(VA, (u64)page_alloc(), RW | PTE_USER);
	user_run(code, sizeof(code));
	check_eq("ring 3 reads a user page, then UD2", trap_taken().vector, X86_UD);
	*page_find(VA, 2) &= ~PTE_USER;
	write_cr3(read_cr3());
	user_run(code, sizeof(code));
	expect_fault("ring 3, supervisor one level up", trap_taken().vector, PF_PRESENT | PF_USER);
	check_eq("ring 3: CR2", trap_taken().cr2, VA);
	*page_find(VA, 2) |= PTE_USER;
	page_map(VA, 0, 0);
	user_run(code, sizeof(code));
	expect_fault("ring 3, absent page", trap_taken().vector, PF_USER);
}

/* Tables in memory that is not there read as all ones: a fault for the guest, no more. */
static void test_tables_nowhere(void) {
	u64 *two = page_entry(VA + GiB(2), 2);

	if (on_bare_tcg()) {
		skip("a page table outside of memory", "what is there depends on the machine");
		return;
	}
	*two = 0xd0000000 | RW;
	write_cr3(read_cr3());
	check_eq("a page table outside of memory: #PF", probe_read(VA + GiB(2)), X86_PF);
	*two = 0;
	write_cr3(read_cr3());
}

void test_main(void) {
	test_accessed();
	test_write_protect();
	test_no_execute();
	test_supervisor_modes();
	test_large();
	test_flush();
	test_two_roots();
	test_user();
	test_tables_nowhere();
}
