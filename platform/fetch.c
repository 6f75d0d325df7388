/* Remembered code pages (fetch.h): the walk that fills them. */
#include "platform/fetch.h"

#include "kernel/vm.h"
#include "lib/x86.h"
#include "mm/gmem.h"

#define TOP 39 /* shift of the top level's index */

void fetch_remember(struct vcpu *vcpu, gva_t gva, u64 cr3) {
	struct fetch_page *p = fetch_slot(vcpu, gva);
	struct gmem *gmem = vcpu->vm->gmem;
	gpa_t table = cr3 & X86_PTE_ADDR;
	unsigned shift = TOP;
	u32 level = 0;

	p->page = 0;
	for (; level < FETCH_LEVELS; shift -= 9) {
		const u64 *entry = gmem_ptr(gmem, table + (gva >> shift & 511) * 8, 8);
		u64 pte = entry ? __atomic_load_n(entry, __ATOMIC_RELAXED) : 0;

		/* An entry without its accessed bit is about to change. */
		if ((pte & (X86_PTE_P | X86_PTE_A)) != (X86_PTE_P | X86_PTE_A))
			return;
		p->entry[level] = entry;
		p->seen[level++] = pte;
		table = pte & X86_PTE_ADDR;
		if (shift == PAGE_SHIFT || (pte & X86_PTE_PS))
			break;
	}
	if (shift > 30)
		return;
	for (; level < FETCH_LEVELS; level++) {
		p->entry[level] = p->entry[level - 1];
		p->seen[level] = p->seen[level - 1];
	}
	table = (table & ~(BIT(shift) - 1)) | (gva & (BIT(shift) - 1) & PAGE_MASK);
	p->code = gmem_ptr(gmem, table, PAGE_SIZE);
	if (!p->code)
		return;
	p->cr3 = cr3;
	p->page = (gva >> PAGE_SHIFT) + 1;
}
