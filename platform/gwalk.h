/*
 * The guest's own page tables: from a guest linear address to a guest physical one, as the
 * processor's table walker would, with every right checked and accessed and dirty bits set. Of an
 * L2 all addresses are translated to L1's: what gwalk_translate() returns is always the VM's.
 *
 * Each entry is read once, where it lies; outside of RAM it reads as all ones. Protection keys are
 * not applied: PKRU is guest vector state that Roost does not read.
 */
#pragma once

#include "kernel/vcpu.h"

struct gmem;

/* Kinds of access; the values are those of the page-fault error code (APM 2 8.4.2). */
#define ACCESS_READ	0x00u
#define ACCESS_WRITE	0x02u
#define ACCESS_USER	0x04u /* gwalk_translate() adds it when the CPL is 3 */
#define ACCESS_FETCH	0x10u
#define ACCESS_IMPLICIT 0x100u /* a system structure: supervisor whatever the CPL, ignores AC */
#define ACCESS_TABLE	0x200u /* an entry of L2's page tables: for backend->l2_translate() only */

/* The other bits of that error code. */
#define PF_PRESENT   0x01u
#define PF_RESERVED  0x08u

#define FAULT_NESTED 0xff /* no exception but an exit to L1, whose nested tables refuse */

/* An exception, not queued until fault_inject(). The back end knows what FAULT_NESTED has in it. */
struct fault {
	u64 address; /* CR2; for #PF only */
	u32 error;
	u8 vector;
};

/* What a walk needs to know of the vCPU; filled once per emulated instruction. */
struct gwalk {
	struct gmem *gmem;
	struct vcpu *l2; /* the vCPU, when physical addresses are an L2's; else NULL */
	u64 root;	 /* gpa of the top table */
	u64 reserved;	 /* bits that are 0 in every present 8-byte entry */
	u64 half;	 /* size of either half of the canonical addresses; 0 outside long mode */
	u64 cr0, cr4;	 /* as the guest sees them */
	bool nx;	 /* EFER.NXE in a mode with 8-byte entries */
	bool ac;	 /* RFLAGS.AC: supervisor may touch user pages under SMAP */
	u8 levels;	 /* 0: no paging; 2: 32-bit; 3: PAE; 4 and 5: long mode */
	u8 phys_bits;
	u32 user; /* ACCESS_USER when the CPL is 3, else 0 */
};

/* Takes CR0, CR3, CR4, EFER, RFLAGS.AC and the CPL as they are now. */
void gwalk_init(struct gwalk *walk, struct vcpu *vcpu);

/*
 * Translates a canonical linear address for ACCESS_READ, ACCESS_WRITE or ACCESS_FETCH; the CPL says
 * whether of a user unless ACCESS_IMPLICIT is added. 0: *gpa is set. E_FAULT: *fault is the page
 * fault to raise. E_BUSY: other vCPUs kept changing an entry; enter the guest again.
 */
int gwalk_translate(const struct gwalk *walk, gva_t gva, u32 access, gpa_t *gpa,
		    struct fault *fault) __must_check;

/* True when [gva, gva + len), 1 to 4096 bytes, is canonical in this mode, and in one half. */
static inline bool gva_canonical(const struct gwalk *walk, gva_t gva, u64 len) {
	u64 first = gva + walk->half, last = first + len - 1;

	if (unlikely(!walk->half)) return true;
	return last < 2 * walk->half && first <= last && !((first ^ last) & walk->half);
}

/* Queues the exception, one of the vectors above; returns INJECTED. */
enum outcome fault_inject(struct vcpu *vcpu, const struct fault *fault);
