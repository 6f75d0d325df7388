/* Page tables of the test, and running code at CPL 3. */
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"

#define POOL_PAGES 256

static u8 pool[POOL_PAGES][PAGE_SIZE] __aligned(4096);
static unsigned pool_used;
static u8 user_trap_stack[8192] __aligned(16);

void *page_alloc(void) {
	if (pool_used == POOL_PAGES) {
		check("the page pool is large enough", false);
		test_end();
	}
	memset(pool[pool_used], 0, PAGE_SIZE);
	return pool[pool_used++];
}

static u64 *table_slot(u64 *table, u64 va, unsigned level) {
	return &table[va >> (3 + 9 * level) & 511];
}

static u64 *table_of(u64 entry) { return (u64 *)(entry & PTE_ADDRESS); }

/* Replaces a large page by a table that maps the same. */
static void split(u64 *slot, unsigned level) {
	u64 *table = page_alloc();
	u64 step = 1ul << (3 + 9 * (level - 1));
	u64 flags = *slot & ~PTE_ADDRESS;

	if (level == 2) flags &= ~PTE_LARGE;
	for (u64 i = 0; i < 512; i++)
		table[i] = (*slot & PTE_ADDRESS & ~(step * 512 - 1)) + i * step + flags;
	*slot = (u64)table | PTE_PRESENT | PTE_WRITE | PTE_USER;
}

u64 *page_entry(u64 va, unsigned level) { return page_entry_in(read_cr3(), va, level); }

u64 *page_entry_in(u64 root, u64 va, unsigned level) {
	u64 *table = table_of(root);

	for (unsigned at = 4; at > level; at--) {
		u64 *slot = table_slot(table, va, at);

		if (!(*slot & PTE_PRESENT))
			*slot = (u64)page_alloc() | PTE_PRESENT | PTE_WRITE | PTE_USER;
		else if (at < 4 && *slot & PTE_LARGE)
			split(slot, at);
		table = table_of(*slot);
	}
	return table_slot(table, va, level);
}

u64 *page_find(u64 va, unsigned level) {
	u64 *table = table_of(read_cr3());

	for (unsigned at = 4; at > level; at--) {
		u64 *slot = table_slot(table, va, at);

		if (!(*slot & PTE_PRESENT) || (at < 4 && *slot & PTE_LARGE)) return NULL;
		table = table_of(*slot);
	}
	return table_slot(table, va, level);
}

void page_map(u64 va, u64 pa, u64 flags) {
	*page_entry(va, 1) = pa | flags;
	invlpg(va);
}

static void user_prepare(void) {
	static bool done;

	if (done) return;
	done = true;
	page_map(USER_CODE, (u64)page_alloc(), PTE_PRESENT | PTE_WRITE | PTE_USER);
	page_map(USER_STACK - PAGE_SIZE, (u64)page_alloc(), PTE_PRESENT | PTE_WRITE | PTE_USER);
	page_map(USER_DATA, (u64)page_alloc(), PTE_PRESENT | PTE_WRITE | PTE_USER);
}

void user_run(const void *code, size_t size) {
	user_prepare();
	/* Through the page's own address below 4 GiB: SMAP may be on. */
	memcpy((void *)(*page_entry(USER_CODE, 1) & PTE_ADDRESS), code, size);
	trap_set_rsp0((u64)user_trap_stack + sizeof(user_trap_stack));
	__asm__ volatile("push %%rbp\n\t"
			 "push %%rbx\n\t" TRY "push %[ss]\n\t"
			 "push %[stack]\n\t"
			 "pushfq\n\t"
			 "push %[cs]\n\t"
			 "push %[rip]\n\t"
			 "mov %[rip], %%gs:" TRAP_STR(CPU_START) "\n\t"
								 "iretq" END_TRY "pop %%rbx\n\t"
								 "pop %%rbp"
			 :
			 : [ss] "i"(SEL_USER_DATA), [stack] "r"(USER_STACK),
			   [cs] "i"(SEL_USER_CODE64), [rip] "r"(USER_CODE)
			 : TRY_SPOILS, "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r12",
			   "r13", "r14", "r15");
}
