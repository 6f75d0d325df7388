/* The guest page-table walk, in every paging mode (APM 2 5.2 to 5.6, SDM 3A 4.3 to 4.7). */
#include "platform/gwalk.h"

#include "kernel/backend.h"
#include "kernel/vm.h"
#include "mm/gmem.h"
#include "platform/cpu_model.h"

/*
 * Bits 8:5 and 2:1 of a PAE page-directory-pointer entry (APM 2 figure 5-10), but for bit 5: QEMU
 * 7.2 sets the accessed bit there when a guest walks its tables, as in any other entry.
 */
#define PDPTE_RESERVED (GENMASK(8, 6) | GENMASK(2, 1) | X86_PTE_NX)

/* How often an entry may change under the walk before the guest gets to try again. */
#define MAX_RETRIES 16

/* By the number of levels: 0 no paging, 2 of 32 bits, 3 PAE, 4 and 5 long mode. */
static const struct {
	u64 root; /* the address in CR3 */
	u64 half; /* size of either half of the canonical addresses */
	u8 shift; /* of what an entry covers at the top, for PAE below it */
} modes[] = {
	[2] = {GENMASK(31, 12), 0, 22},
	[3] = {GENMASK(31, 5), 0, 21},
	[4] = {X86_PTE_ADDR, BIT(47), 39},
	[5] = {X86_PTE_ADDR, BIT(56), 48},
};

static u64 reserved_bits(const struct gwalk *walk) {
	u64 high = ~0ul << walk->phys_bits & GENMASK(51, 0);

	if (walk->levels == 3) high |= GENMASK(62, 52);
	return walk->nx ? high : high | X86_PTE_NX;
}

void gwalk_init(struct gwalk *walk, struct vcpu *vcpu) {
	const struct cpu_model *model = vcpu->vm->cpu_model;
	u64 efer = vcpu_reg(vcpu, VREG_EFER);

	walk->cr0 = vcpu_reg(vcpu, VREG_CR0);
	walk->cr4 = vcpu_reg(vcpu, VREG_CR4);
	walk->user = vcpu_cpl(vcpu) == 3 ? ACCESS_USER : 0;
	walk->gmem = vcpu->vm->gmem;
	walk->l2 = vcpu->l2 ? vcpu : NULL;
	walk->phys_bits = model ? model->phys_bits : 52;
	walk->ac = vcpu->rflags & X86_RFLAGS_AC;
	if (likely(efer & X86_EFER_LMA))
		walk->levels = walk->cr4 & X86_CR4_LA57 ? 5 : 4;
	else
		walk->levels = !(walk->cr0 & X86_CR0_PG) ? 0 : walk->cr4 & X86_CR4_PAE ? 3 : 2;
	walk->nx = efer & X86_EFER_NXE && walk->levels != 2;
	walk->root = vcpu_reg(vcpu, VREG_CR3) & modes[walk->levels].root;
	walk->half = modes[walk->levels].half;
	walk->reserved = reserved_bits(walk);
}

/* The I bit of the error code means something only where a fetch can be refused. */
static int page_fault(const struct gwalk *walk, gva_t gva, u32 access, u32 bits,
		      struct fault *fault) {
	if (!walk->nx && !(walk->cr4 & X86_CR4_SMEP)) access &= ~ACCESS_FETCH;
	fault->vector = X86_PF;
	fault->error = (access & (ACCESS_WRITE | ACCESS_USER | ACCESS_FETCH)) | bits;
	fault->address = gva;
	return E_FAULT;
}

/* A supervisor's access to a user page (APM 2 5.6.6, SDM 3A 4.6.1). */
static bool supervisor_on_user_page(const struct gwalk *walk, u32 access) {
	if (access & ACCESS_FETCH) return !(walk->cr4 & X86_CR4_SMEP);
	return !(walk->cr4 & X86_CR4_SMAP) || (walk->ac && !(access & ACCESS_IMPLICIT));
}

/* rights: the AND over all levels of W, U and the inverse of NX (APM 2 5.6, SDM 3A 4.6). */
static inline bool permitted(const struct gwalk *walk, u64 rights, u32 access) {
	bool writable = rights & X86_PTE_W, user_page = rights & X86_PTE_U;

	if (access & ACCESS_FETCH && !(rights & X86_PTE_NX)) return false;
	if (access & ACCESS_USER) return user_page && (!(access & ACCESS_WRITE) || writable);
	if (access & ACCESS_WRITE && !writable && walk->cr0 & X86_CR0_WP) return false;
	return !user_page || supervisor_on_user_page(walk, access);
}

/*
 * Sets accessed and dirty bits in an entry as the processor does: only when it still is what the
 * walk has judged (APM 2 5.4.2). False when it changed, and must be looked at again. What is no RAM
 * has all bits set.
 */
static inline bool set_bits(const struct gwalk *walk, gpa_t at, unsigned size, u64 seen, u64 bits) {
	if (likely((seen & bits) == bits)) return true;
	void *entry = gmem_ptr_write(walk->gmem, at, size);
	return entry && cmpxchg(entry, size, seen, seen | bits);
}

/* Of an L2: *at from its physical address to one of L1's. access: ACCESS_TABLE for an entry. */
static inline int to_l1(const struct gwalk *walk, gpa_t *at, u32 access, struct fault *fault) {
	if (likely(!walk->l2)) return 0;
	return walk->l2->backend->l2_translate(walk->l2, *at, access, at, fault);
}

/* The entry of 4 or 8 bytes at *at, which becomes an address of L1's. What is no RAM reads as ones.
 */
static inline int read_entry(const struct gwalk *walk, gpa_t *at, unsigned size, u64 *pte,
			     struct fault *fault) {
	const void *entry;
	int err = to_l1(walk, at, ACCESS_TABLE, fault);

	if (unlikely(err)) return err;
	entry = gmem_ptr(walk->gmem, *at, size);
	if (size == 4)
		*pte = entry ? __atomic_load_n((const u32 *)entry, __ATOMIC_RELAXED) : ~0u;
	else
		*pte = likely(entry) ? __atomic_load_n((const u64 *)entry, __ATOMIC_RELAXED) : ~0ul;
	return 0;
}

/* PAE: four entries at the top without rights or an accessed bit (APM 2 5.2.2). */
static int pae_directory(const struct gwalk *walk, gva_t gva, u32 access, u64 *directory,
			 struct fault *fault) {
	gpa_t at = walk->root + (gva >> 30 & 3) * 8;
	u64 pdpte;
	int err = read_entry(walk, &at, 8, &pdpte, fault);

	if (err) return err;
	if (!(pdpte & X86_PTE_P)) return page_fault(walk, gva, access, 0, fault);
	if (pdpte & (walk->reserved | PDPTE_RESERVED))
		return page_fault(walk, gva, access, PF_PRESENT | PF_RESERVED, fault);
	*directory = pdpte & X86_PTE_ADDR;
	return 0;
}

/* Where a leaf's page begins. In one of 4 MiB, bits 20:13 are bits 39:32 (APM 2 5.2.1). */
static inline gpa_t leaf_address(u64 pte, unsigned shift) {
	if (unlikely(shift == 22)) return (pte & GENMASK(31, 22)) | (pte >> 13 & 0xff) << 32;
	return pte & X86_PTE_ADDR & ~(BIT(shift) - 1);
}

/*
 * Bits that are 0 in a large leaf: below its address all but PAT; with 4 MiB, bit 21 and what the
 * processor's addresses do not reach. There is none above 1 GiB.
 */
static u64 large_reserved(const struct gwalk *walk, unsigned shift) {
	u64 reachable = walk->phys_bits > 32 ? GENMASK(walk->phys_bits - 1, 32) : 0;

	if (shift == 22) return BIT(21) | (~reachable >> 32 & 0xff) << 13;
	return shift > 30 ? ~0ul : (BIT(shift) - 1) & GENMASK(29, 13);
}

/* From a table whose entries cover 2^shift bytes; with 32 bits it has 1024, of 4 bytes. */
static int walk_tables(const struct gwalk *walk, u64 table, unsigned shift, gva_t gva, u32 access,
		       gpa_t *gpa, struct fault *fault) {
	unsigned size = walk->levels == 2 ? 4 : 8, bits = walk->levels == 2 ? 10 : 9;
	bool may_be_large = size == 8 || walk->cr4 & X86_CR4_PSE;
	u64 leaf_bits = access & ACCESS_WRITE ? X86_PTE_A | X86_PTE_D : X86_PTE_A;
	u64 rights = ~0ul;

	for (unsigned retries = 0; retries < MAX_RETRIES;) {
		gpa_t at = table + (gva >> shift & (BIT(bits) - 1)) * size;
		bool large, leaf;
		u64 pte, here;
		int err = read_entry(walk, &at, size, &pte, fault);

		if (unlikely(err)) return err;
		here = rights & (pte ^ X86_PTE_NX);
		large = shift > PAGE_SHIFT && pte & X86_PTE_PS && may_be_large;
		leaf = large || shift == PAGE_SHIFT;
		if (unlikely(!(pte & X86_PTE_P))) return page_fault(walk, gva, access, 0, fault);
		if (unlikely(pte & walk->reserved || (large && pte & large_reserved(walk, shift))))
			return page_fault(walk, gva, access, PF_PRESENT | PF_RESERVED, fault);
		if (unlikely(leaf && !permitted(walk, here, access)))
			return page_fault(walk, gva, access, PF_PRESENT, fault);
		if (!set_bits(walk, at, size, pte, leaf ? leaf_bits : X86_PTE_A)) {
			retries++;
			continue;
		}
		if (leaf) {
			*gpa = leaf_address(pte, shift) | (gva & (BIT(shift) - 1));
			return to_l1(walk, gpa, access, fault);
		}
		rights = here;
		table = pte & X86_PTE_ADDR;
		shift -= bits;
	}
	return E_BUSY;
}

int gwalk_translate(const struct gwalk *walk, gva_t gva, u32 access, gpa_t *gpa,
		    struct fault *fault) {
	u64 table = walk->root;

	if (!(access & ACCESS_IMPLICIT)) access |= walk->user;
	if (unlikely(!walk->levels)) {
		*gpa = gva;
		return to_l1(walk, gpa, access, fault);
	}
	if (unlikely(walk->levels == 3)) {
		int err = pae_directory(walk, gva, access, &table, fault);
		if (err) return err;
	}
	return walk_tables(walk, table, modes[walk->levels].shift, gva, access, gpa, fault);
}

enum outcome fault_inject(struct vcpu *vcpu, const struct fault *fault) {
	switch (fault->vector) {
	case X86_PF: return inject_page_fault(vcpu, fault->address, fault->error);
	case X86_DB:
	case X86_UD: return inject_exception(vcpu, fault->vector);
	case FAULT_NESTED: vcpu->backend->l2_fault(vcpu, fault); return RESUME;
	default: return inject_exception_error(vcpu, fault->vector, fault->error);
	}
}
