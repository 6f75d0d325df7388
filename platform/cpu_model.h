/*
 * The capability record: CPUID, the feature MSRs and the reserved bits of CR0, CR4, EFER and XCR0
 * derive from it, so that nothing is offered in one place and refused in another.
 */
#pragma once

#include "lib/types.h"

#define CPUID_SUBLEAVES BIT(0) /* the answer depends on ECX: look for the sub-leaf */
#define CPUID_REST	BIT(1) /* the last of such a leaf: answers every higher sub-leaf too */

struct cpuid_leaf { /* of a power of two: found by a shift at each CPUID */
	_Alignas(32) u32 leaf;
	u32 subleaf;
	u32 eax, ebx, ecx, edx;
	u8 flags;  /* CPUID_SUBLEAVES, CPUID_REST */
	bool live; /* differs between vCPUs, or changes while one runs: cpuid.c */
};

#define CPUID_EXT	 0x80000000u
#define CPUID_HV	 0x40000000u
#define CPUID_MAX_LEAVES 64
#define XSAVE_COMPONENTS 10 /* x87, SSE and AVX up to PKRU: 0 to 9 */

/*
 * Where the index of a leaf's first entry is: three ranges, what the hypervisor's has not, and what
 * is out of range: the zeros on AMD, the highest basic leaf on Intel.
 */
enum { CPUID_SLOT_EXT = 0x20, CPUID_SLOT_HV = CPUID_SLOT_EXT + 0x22 };
enum { CPUID_SLOT_NONE = CPUID_SLOT_HV + 0x11, CPUID_SLOT_BEYOND, CPUID_SLOTS };

static inline u32 cpuid_slot(u32 leaf) {
	if (leaf < CPUID_SLOT_EXT) return leaf;
	if (leaf - CPUID_EXT < CPUID_SLOT_HV - CPUID_SLOT_EXT)
		return CPUID_SLOT_EXT + (leaf - CPUID_EXT);
	if (leaf - CPUID_HV < CPUID_SLOT_NONE - CPUID_SLOT_HV)
		return CPUID_SLOT_HV + (leaf - CPUID_HV);
	return leaf >> 28 == 4 ? CPUID_SLOT_NONE : CPUID_SLOT_BEYOND;
}

/* The APIC bus runs at 1 GHz; the APIC timer counts it (CPUID 0x40000010 EBX, 0x15 ECX). */
#define APIC_BUS_KHZ 1000000u

/* VMX's feature MSRs (SDM 3D appendix A): 480 to 491. */
#define VMX_FEATURE_MSR	       0x480u
#define VMX_FEATURE_MSRS       18
#define VMX_FEATURE_CR4_FIXED1 9
#define VMX_FEATURE_VMFUNC     17

struct xsave_component {
	u32 size, offset; /* in the standard format; size 0: not there */
	bool align64;	  /* starts on a multiple of 64 in the compacted format */
};

struct cpu_model {
	/* Sorted by leaf, then sub-leaf; [0] is no leaf but the answer of zeros, as is a slot of 0.
	 */
	struct cpuid_leaf leaves[CPUID_MAX_LEAVES];
	u32 nr_leaves;
	u8 slot[CPUID_SLOTS];

	u32 nr_vcpus;
	u64 tsc_khz;
	u8 phys_bits; /* MAXPHYADDR of the guest */
	bool is_amd;

	u64 cr0_reserved; /* bits that must not be set: #GP */
	u64 cr4_reserved;
	u64 efer_allowed; /* all bits that may be set, LMA included */
	u64 xcr0_allowed; /* 0: no XSAVE */

	struct xsave_component component[XSAVE_COMPONENTS];
	u32 xsave_size; /* bytes, standard format, for all of xcr0_allowed */

	bool has_rdtscp; /* or RDPID: IA32_TSC_AUX is there */
	bool has_xsaves; /* IA32_XSS is there; it holds 0 only */
	bool has_gbpages;
	bool has_svm; /* the guest may be a hypervisor */
	bool has_vmx;
	u64 vmx_msrs[VMX_FEATURE_MSRS];
};

/* What the back end knows about the machine below. */
struct cpu_model_host {
	/* The host's CPUID: out is EAX, EBX, ECX, EDX. */
	void (*host_cpuid)(u32 leaf, u32 sub, u32 out[4]);
	u64 host_xcr0;	/* state components that Roost switches between vCPUs; 0 without XSAVE */
	u8 gpa_bits;	/* width of guest physical addresses that nested paging translates */
	bool is_amd;	/* AMD or Hygon; else Intel */
	bool no_xsavec; /* XSAVEC, and XSAVES with it, cannot be trusted */
	bool no_xsaves; /* the back end does not let guests have it */
	/* VMX's feature MSRs as a guest may have them; NULL or all 0: it is not offered. */
	const u64 *vmx_msrs;
};

struct cpu_model_config {
	u32 nr_vcpus;	/* 1 to VM_MAX_VCPUS */
	u64 tsc_khz;	/* the guest's TSC: not 0, 32 bits */
	bool dedicated; /* no vCPU shares its CPU: the guest need not yield while it spins */
	bool nested;	/* the guest may use the host's kind of virtualization itself */
};

/* Fills the record. 0; E_NOSUPP when the host lacks what every guest is promised (long mode,
 * PAE...).
 */
int cpu_model_build(struct cpu_model *model, const struct cpu_model_host *host,
		    const struct cpu_model_config *config) __must_check;

/* Among the entries of one leaf, from its first: the one for a sub-leaf. */
const struct cpuid_leaf *cpu_model_subleaf(const struct cpu_model *model,
					   const struct cpuid_leaf *first, u32 subleaf);

/* The entry for a leaf and sub-leaf; never NULL, zeros when there is none. */
static inline const struct cpuid_leaf *cpu_model_leaf(const struct cpu_model *m, u32 leaf,
						      u32 subleaf) {
	const struct cpuid_leaf *l = &m->leaves[m->slot[cpuid_slot(leaf)]];

	return l->flags & CPUID_SUBLEAVES ? cpu_model_subleaf(m, l, subleaf) : l;
}

/* Bytes that XSAVE (standard) or XSAVEC (compacted) need for the components in xcr0. */
enum xsave_format { XSAVE_STANDARD, XSAVE_COMPACTED };
u32 cpu_model_xsave_size(const struct cpu_model *model, u64 xcr0, enum xsave_format format);
