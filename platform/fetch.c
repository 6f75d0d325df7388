/* Remembered code pages (fetch.h): the walk that fills them. */
#include "platform/fetch.h"

#include "kernel/backend.h"
#include "kernel/vm.h"
#include "mm/gmem.h"
#include "platform/gwalk.h"

#define TOP 39 /* shift of the top level's index */

/* RAM at a physical address of the level that runs; NULL: none, or not now. */
static const void *ram_at(struct vcpu *vcpu, gpa_t gpa, u32 access, size_t len) {
	struct fault fault;

	if (vcpu->l2 && vcpu->backend->l2_translate(vcpu, gpa, access, &gpa, &fault)) return NULL;
	return gmem_ptr(vcpu->vm->gmem, gpa, len);
}

void fetch_remember(struct vcpu *vcpu, gva_t gva, u64 cr3) {
	struct fetch_page *p = fetch_slot(vcpu, gva);
	gpa_t table = cr3 & X86_PTE_ADDR;
	unsigned shift = TOP;
	u32 level = 0;

	p->page = 0;
	for (; level < FETCH_LEVELS; shift -= 9) {
		const u64 *entry = ram_at(vcpu, table + (gva >> shift & 511) * 8, ACCESS_TABLE, 8);
		u64 pte = entry ? __atomic_load_n(entry, __ATOMIC_RELAXED) : 0;

		/* An entry without its accessed bit is about to change. */
		if ((pte & (X86_PTE_P | X86_PTE_A)) != (X86_PTE_P | X86_PTE_A)) return;
		p->entry[level] = entry;
		p->seen[level++] = pte;
		table = pte & X86_PTE_ADDR;
		if (shift == PAGE_SHIFT || (pte & X86_PTE_PS)) break;
	}
	if (shift > 30) return;
	for (; level < FETCH_LEVELS; level++) {
		p->entry[level] = p->entry[level - 1];
		p->seen[level] = p->seen[level - 1];
	}
	table = (table & ~(BIT(shift) - 1)) | (gva & (BIT(shift) - 1) & PAGE_MASK);
	p->code = ram_at(vcpu, table, ACCESS_FETCH, PAGE_SIZE);
	if (!p->code) return;
	p->cr3 = cr3;
	p->page = (gva >> PAGE_SHIFT) + 1;
}
