/*
 * Nested VMX: a guest (L1) that is a hypervisor, and its guest (L2). docs/nested.md tells how.
 *
 * VMCS 12 is the one that L1 has made current: a copy in Roost's memory, from VMPTRLD until L1
 * takes its leave of it. 01 is what Roost runs L1 with, 02 what it runs L2 with.
 */
#pragma once

#include "kernel/vcpu.h"
#include "vmx/vmcs.h"

struct event;
struct fault;

#define NO_VMCS		(~0ul)
#define SHADOW_VMCS	0x80000000u /* of a revision (SDM 3C 24.2) */
#define VMCS_WORDS	(sizeof(struct vmcs_values) / sizeof(u64))
#define DIRTY_WORDS	((VMCS_WORDS + 63) / 64)
#define VMCS12_REVISION 0x52530001u /* of the format in L1's memory: struct vmcs12_region */

/* A bit for each field of struct vmcs_values. */
struct vmcs_mask {
	u64 word[DIRTY_WORDS];
};

static inline bool vmcs_mask_has(const struct vmcs_mask *mask, u64 word) {
	return mask->word[word / 64] >> word % 64 & 1;
}

static inline void vmcs_mask_set(struct vmcs_mask *mask, u64 word) {
	mask->word[word / 64] |= BIT(word % 64);
}

extern struct vmcs_mask vmx_nested_rare; /* what exits leave in VMCS 02 alone */

/* What merge_controls() has written to 02, to spare the same write. */
struct vmx_merged {
	u64 proc2, exceptions, cr0_mask, cr4_mask, tsc_multiplier;
};

/* The part of struct vmx_vcpu that is in use for a guest that is offered VMX. */
struct vmx_nested {
	struct vmcs_values *vmcs12; /* NULL: not offered */
	u8 *msr_map;		    /* MSR bitmap of 02, and a page for a virtual APIC */
	u32 *shadow;		    /* the processor's shadow of VMCS 12; NULL: it has none */
	gpa_t vmxon;		    /* NO_VMCS: L1 is not in VMX operation */
	gpa_t current;		    /* of VMCS 12; NO_VMCS: none is current */
	struct vmcs_mask dirty;	    /* written by L1 since 02 was made of them */
	struct vmx_merged merged;
	u64 deadline;	   /* of L1's preemption timer, in Roost's TSC */
	u64 tick_from;	   /* from here on Roost's own tick may be too late for it; ~0: no timer */
	hpa_t apic_access; /* what 02 has; 0: it does not virtualize APIC accesses */
	u64 ran_eptp;	   /* whose translations the TLB may hold for 02 */
	u32 ran_vpid;
	bool launched;	 /* of VMCS 12 */
	bool is_shadow;	 /* the same: no L2 can be entered with it */
	bool rare_in_02; /* guest state that is seldom looked at is still in VMCS 02 alone */
	bool halted;	 /* L2 is in HLT */
	bool init_held;	 /* INIT has come and waits for VMXOFF or L2 */
};

static inline u64 vmx_proc2_of(const struct vmcs_values *l1) {
	return l1->proc_controls & PROC_SECONDARY ? l1->proc2_controls : 0;
}

/* VM-instruction errors (SDM 3C 30.4). */
enum vmx_error {
	ERROR_VMCLEAR_ADDRESS = 2,
	ERROR_VMCLEAR_VMXON = 3,
	ERROR_LAUNCH_NOT_CLEAR = 4,
	ERROR_RESUME_NOT_LAUNCHED = 5,
	ERROR_CONTROLS = 7,
	ERROR_HOST_STATE = 8,
	ERROR_VMPTRLD_ADDRESS = 9,
	ERROR_VMPTRLD_VMXON = 10,
	ERROR_VMPTRLD_REVISION = 11,
	ERROR_NO_FIELD = 12,
	ERROR_VMXON_AGAIN = 15,
	ERROR_MOV_SS = 26,
	ERROR_INVALIDATE = 28,
};

/* An exit to L1. Without `hardware` qualification and event are the caller's. */
struct vmx_exit_to {
	u32 reason;
	bool hardware; /* the CPU's own exit from 02: all it tells is passed on */
	u64 qualification;
	u32 event, error; /* exit_event and exit_error */
	gpa_t gpa;
};

/* nested_caps.c: the capability MSRs of a guest, from BASIC on; all 0 when VMX is not offered */
extern u64 vmx_nested_msrs[];
void vmx_nested_caps(void);

/* nested.c: the ways between L1 and L2 */
void vmx_nested_init(void);			       /* once */
int vmx_nested_create(struct vcpu *vcpu) __must_check; /* 0 or E_NOMEM; needs 01 */
void vmx_nested_destroy(struct vcpu *vcpu);
void vmx_nested_reset(struct vcpu *vcpu);	  /* in L1, not in VMX operation */
enum outcome vmx_exit_vmentry(struct vcpu *vcpu); /* VMLAUNCH, VMRESUME */
void vmx_nested_halt(struct vcpu *vcpu);	  /* L2 is in HLT, with nested.halted set */
void vmx_nested_leave(struct vcpu *vcpu, const struct vmx_exit_to *to);
/* VMCS 12 has all that 02 knows of it. */
void vmx_nested_fetch_rare(struct vcpu *vcpu);
/* From Roost's TSC, multiplied as merged.tsc_multiplier says, to L2's; offset: of L1's own. */
u64 vmx_nested_tsc_offset(struct vcpu *vcpu, u64 offset);
u32 vmx_nested_ticks(struct vcpu *vcpu); /* until L1's preemption timer ends L2's run */
/* The timer of 02 is Roost's tick, or the nearer end of L1's time. */
void vmx_nested_set_tick(const struct vmx_nested *n);

/* nested_insn.c: the instructions but the entries */
/* #UD and #GP(0) that all but VMXON have in common; ADVANCE: go on. */
enum outcome vmx_insn_allowed(struct vcpu *vcpu);
/* VMfailInvalid without a current VMCS or an error. */
enum outcome vmx_fail(struct vcpu *vcpu, enum vmx_error error);
u32 vmx_revision_at(struct vcpu *vcpu, gpa_t gpa); /* of the VMCS there */
enum outcome vmx_exit_vmxon(struct vcpu *vcpu);
enum outcome vmx_exit_vmxoff(struct vcpu *vcpu);
enum outcome vmx_exit_vmptr(struct vcpu *vcpu); /* VMCLEAR, VMPTRLD */
enum outcome vmx_exit_vmptrst(struct vcpu *vcpu);
enum outcome vmx_exit_vmread(struct vcpu *vcpu);
enum outcome vmx_exit_vmwrite(struct vcpu *vcpu);
enum outcome vmx_exit_invalidate(struct vcpu *vcpu); /* INVEPT, INVVPID */
/* May CR0 or CR4 have this value? Not all that the CPU model allows may in VMX operation. */
bool vmx_nested_cr_valid(struct vcpu *vcpu, unsigned cr, u64 value);

/* nested_shadow.c: what of VMCS 12 L1 reaches without an exit; 01 is current */
int vmx_shadow_init(void);			       /* once; 0 or E_NOMEM */
int vmx_shadow_create(struct vcpu *vcpu) __must_check; /* the same */
void vmx_shadow_use(struct vcpu *vcpu, bool on);       /* a VMCS 12 is current */
void vmx_shadow_put(struct vcpu *vcpu);		       /* VMCS 12 has changed */
void vmx_shadow_get(struct vcpu *vcpu);		       /* VMCS 12 is to be used */

/* nested_ept.c: L2's EPT, and the flushes that L1 makes */
bool vmx_nested_ept(struct vcpu *vcpu); /* L1 uses it */
bool vmx_eptp_valid(struct vcpu *vcpu, u64 eptp);
/* 0 and the EPT pointer of 02; E_BUSY: VMLAUNCH has to be tried again; E_NOMEM. */
int vmx_nested_use_tables(struct vcpu *vcpu, u64 *eptp) __must_check;
void vmx_nested_flush_ept(struct vcpu *vcpu, const u64 *eptp); /* NULL: all */
void vmx_nested_tlb_enter(struct vcpu *vcpu);		       /* just before each entry of L2 */
enum outcome vmx_nested_ept_violation(struct vcpu *vcpu);
/* L2's VMFUNC. 0; E_BUSY: it has to run again; E_INVAL: L1 gets the exit. */
int vmx_nested_switch_eptp(struct vcpu *vcpu) __must_check;

/* nested_apic.c: L2's virtual APIC; 02 is current but for vmx_nested_threshold_kept() */
u64 vmx_nested_merge_apic(struct vcpu *vcpu); /* returns secondary controls of 02 */
/* With a TPR shadow: VTPR lies in L1's memory, and changes without VMWRITE (SDM 3C 26.2.1.1). */
bool vmx_nested_threshold_kept(struct vcpu *vcpu);
/* The CPU has refused an entry. True: VTPR has changed since it was looked at, L1 has a failure. */
bool vmx_nested_refused(struct vcpu *vcpu);
bool vmx_nested_interrupt_waits(struct vcpu *vcpu); /* a virtual one, which wakes L2 */
/* An EPT violation at L1's gpa. True: it is L1's APIC-access page, without RAM; L1 has the exit. */
bool vmx_nested_apic_access(struct vcpu *vcpu, gpa_t gpa, u64 info);
void vmx_nested_log_apic(struct vcpu *vcpu); /* the CPU has written the virtual-APIC page */

/* nested_exit.c: who handles an exit from L2 */
enum outcome vmx_nested_exit(struct vcpu *vcpu, u64 index);
/* L1 wants the exit, whatever L2 masks. */
bool vmx_l1_takes_interrupts(struct vcpu *vcpu);
/* The next entry ends at once in the window that L1 waits for, which comes before interrupts. */
bool vmx_l1_window_open(struct vcpu *vcpu);
bool vmx_l1_takes_nmis(struct vcpu *vcpu);
