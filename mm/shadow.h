/*
 * Shadow tables: what the CPU walks while a guest of a guest (L2) runs with nested paging. Composed
 * from the tables that L1 made (table 12, in L1's memory) and the VM's own memory (mm/gmem.h), for
 * NPT and EPT alike. gpa2 is L2-physical, gpa1 L1-physical; both in bytes, of any value.
 *
 * A shadow is a TLB in software. Faults fill it, each by a walk of table 12, and it may keep what
 * L1 has changed until L1 flushes. A flush compares the entries in use with those of table 12 and
 * drops what differs. Rights are the intersection of all levels.
 *
 * How a back end uses it, on the vCPU's own CPU unless it says otherwise:
 *
 *   L1 enters an L2        shadow_create() once, shadow_use(): the root for nCR3 or EPTP
 *   before the CPU enters  shadow_enter(): says whether to flush the L2's translations
 *   after it has left      shadow_exit()
 *   #NPF, EPT violation    shadow_fault()
 *   emulation for the L2   shadow_translate()
 *   L1 flushes             shadow_flush(), shadow_flush_all(); the next shadow_use() does the work
 */
#pragma once

#include "lib/list.h"
#include "lib/spinlock.h"

struct gmem;
struct shadow_page;

#define SHADOW_MAX_VCPUS 64

/*
 * The format of table 12 and all that decides how it is read. Of NPT it is L1's mode at its VMRUN
 * (APM 2 15.25.3): paging mode, EFER.NXE, CR4.PSE. L1's other paging controls change nothing,
 * because every nested access is a user's.
 */
enum shadow_role {
	SHADOW_NPT_32,	   /* two levels of 4-byte entries, no 4 MiB pages */
	SHADOW_NPT_32_PSE, /* with them */
	SHADOW_NPT_PAE,	   /* three levels, bit 63 reserved */
	SHADOW_NPT_PAE_NX, /* bit 63 forbids execution */
	SHADOW_NPT_LONG,   /* four levels */
	SHADOW_NPT_LONG_NX,
	/* EPT by bit 6 of L1's EPTP, and the CPU's must have it like L1's (SDM 3C 29.3.5). */
	SHADOW_EPT,    /* four levels; accessed and dirty bits are not touched */
	SHADOW_EPT_AD, /* they are; L2's page walks write */
	SHADOW_NR_ROLES,
};

/* An access: bits of the page-fault error code, and SHADOW_TABLE. Nothing: a read. */
#define SHADOW_WRITE 0x002u
#define SHADOW_FETCH 0x010u
#define SHADOW_TABLE 0x200u /* to an entry of L2's own page tables */

enum shadow_answer {
	SHADOW_FIXED,	/* mapped: enter again; from shadow_translate(): it may be done, at gpa1 */
	SHADOW_DEVICE,	/* L1 maps and permits it, but gpa1 is no RAM: emulate it there */
	SHADOW_REFLECT, /* table 12 refuses: L1 gets the exit */
	SHADOW_RETRY,	/* enter again; where shadow_laggards() names vCPUs, make them exit first */
};

enum shadow_refusal {
	SHADOW_ABSENT,	 /* an entry is not present, or gpa2 is beyond what the tables reach */
	SHADOW_RIGHTS,	 /* all are present, a right is missing */
	SHADOW_RESERVED, /* NPT: reserved bits (with present); EPT: misconfiguration */
	SHADOW_LOG_FULL, /* the vCPU's log has no room, and a bit would have to be set */
};

/* Rights as in bits 2:0 of an EPT entry. */
#define SHADOW_R 0x1u
#define SHADOW_W 0x2u
#define SHADOW_X 0x4u

struct shadow_found {
	gpa_t gpa1; /* with SHADOW_FIXED and SHADOW_DEVICE */
	u8 refusal; /* with SHADOW_REFLECT: enum shadow_refusal */
	u8 rights;  /* SHADOW_R, W, X that all entries grant; 0 where one is absent */
	u8 level;   /* where the walk ended: 0 a 4 KiB entry, 1, 2, 3 the entries above it */
};

/* What L1 was told of its processor, and how many of them it has: 1 to SHADOW_MAX_VCPUS. */
struct shadow_config {
	u32 nr_vcpus;
	u8 phys_bits;	/* width of gpa1, 32 to 52: the bits above are reserved in table 12 */
	bool gbpages;	/* table 12 may have 1 GiB pages */
	bool exec_only; /* EPT: execution without reading may be granted */
};

#define SHADOW_OUT (~0ul)

/* One vCPU's line in the ledger of flushes; written by its own CPU. */
struct shadow_vcpu {
	_Atomic u64 walking;	  /* it may walk what was there at this generation, or SHADOW_OUT */
	u64 flushed;		  /* generation of its last flush */
	struct shadow_page *root; /* in use, so not to be recycled; changed under the lock */
	const struct shadow_page *tagged; /* whose translations its TLB may hold */
	gpa_t log;			  /* shadow_log() */
	u64 *log_index;
} __aligned(64);

struct shadow {
	_Atomic u64 generation; /* counts what a TLB may still hold although it is gone */
	struct gmem *gmem;
	u64 high_bits;	/* reserved: beyond L1's physical addresses */
	u32 bad_rights; /* bit n: no EPT entry has n in bits 2:0 */
	u32 nr_vcpus;
	unsigned max_large;	 /* highest level with leaves in table 12 */
	struct spinlock lock;	 /* guards all below, and all tables; nothing waits under it */
	u32 nr_pages, max_pages; /* page 0 is none */
	u64 pages_size;		 /* bytes of the array below */
	u32 nr_free;
	u32 hand; /* where the search for a page to recycle goes on */
	unsigned heads_order;
	struct shadow_page **pages; /* by number */
	u32 *heads;		    /* the reverse map: hash table of chains of leaves */
	struct list free, dead, roots;
	struct shadow_vcpu vcpus[SHADOW_MAX_VCPUS];
};

/* Makes gm->shadow if there is none yet; any CPU. 0 or E_NOMEM. gmem_destroy() gives it back. */
int shadow_create(struct gmem *gm, const struct shadow_config *config) __must_check;
void shadow_destroy(struct shadow *sh);

/*
 * The vCPU is about to run an L2 with this table 12. reg is nCR3 or EPTP as L1 wrote it. 0 and
 * *root, the shadow's top table, of four levels, which stays until the vCPU uses another; all
 * flushes that L1 has made are carried out. E_BUSY as SHADOW_RETRY. vCPUs share roots.
 */
int shadow_use(struct shadow *sh, u32 vcpu, enum shadow_role role, u64 reg,
	       hpa_t *root) __must_check;

/*
 * L1's page-modification log for the vCPU (SDM 3C 28.3.6), a page at gpa1: each dirty bit that is
 * set in table 12 adds an address at *index, which counts down. NULL: no log.
 */
static inline void shadow_log(struct shadow *sh, u32 vcpu, gpa_t log, u64 *index) {
	sh->vcpus[vcpu].log = log;
	sh->vcpus[vcpu].log_index = index;
}

/* The access failed in the shadow that the vCPU uses. Sets accessed and dirty bits in table 12. */
enum shadow_answer shadow_fault(struct shadow *sh, u32 vcpu, gpa_t gpa2, u32 access,
				struct shadow_found *found) __must_check;

/* The same walk, accessed and dirty bits included, for an access that Roost itself makes. */
enum shadow_answer shadow_translate(struct shadow *sh, u32 vcpu, gpa_t gpa2, u32 access,
				    struct shadow_found *found) __must_check;

/*
 * L1 flushes what may be cached of the nested tables at reg (the address decides, whatever the
 * flags; SDM 3C 29.4.3), or of all. The CPU's own TLB is the caller's business.
 */
void shadow_flush(struct shadow *sh, u64 reg);
void shadow_flush_all(struct shadow *sh);

/*
 * No leaf maps these frames of L1's, or any, any more. Any CPU. Until every vCPU has flushed
 * (shadow_enter() tells those that enter), one may still use what its TLB holds.
 */
void shadow_forget(struct shadow *sh, gfn_t gfn, u64 npages);
void shadow_forget_all(struct shadow *sh);

/* vCPUs (bit n: vCPU n) that have to exit before pages can be recycled. Any CPU. */
u64 shadow_laggards(struct shadow *sh);

/*
 * The CPU is about to enter the L2. True: flush all translations of the L2 with this entry, or with
 * the next one if this does not take place.
 */
static inline bool shadow_enter(struct shadow *sh, u32 vcpu) {
	struct shadow_vcpu *v = &sh->vcpus[vcpu];
	u64 now;

	/* Said before the generation is looked at: what is recycled from here on is not walked. */
	atomic_exchange(&v->walking, v->flushed);
	now = atomic_load(&sh->generation);
	if (likely(v->flushed == now && v->tagged == v->root)) return false;
	v->flushed = now;
	v->tagged = v->root;
	atomic_store_explicit(&v->walking, now, memory_order_release);
	return true;
}

/* The CPU has left the L2 and walks nothing; as often as one likes. */
static inline void shadow_exit(struct shadow *sh, u32 vcpu) {
	atomic_store_explicit(&sh->vcpus[vcpu].walking, SHADOW_OUT, memory_order_release);
}
