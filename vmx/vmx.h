/* What the files of the VMX back end share. */
#pragma once

#include "kernel/backend.h"
#include "kernel/cpu.h"
#include "kernel/fpu.h"
#include "lib/parse.h"
#include "platform/lapic.h"
#include "vmx/nested.h"
#include "vmx/vmcs.h"

/* The last index of the exit table is for reasons that no manual named yet. */
#define VMX_NR_EXITS (NR_REASONS + 1u)

/* What all CPUs agreed on: words that have every bit that Roost wants and can use. */
struct vmx_config {
	struct vmx_caps caps;
	union {
		u32 word[VMX_NR_WORDS];
		struct {
			u32 pin, proc, exit, entry, proc2, ept;
		};
	};
	u64 cr0_fixed, cr4_fixed; /* bits that must be 1 in VMX operation */
	u64 ept_flags;		  /* of the EPT pointer: memory type, walk length, A/D */
};

extern struct vmx_config vmx_config;

/* Exceptions that exit from every guest. */
#define VMX_EXCEPTIONS (BIT(X86_DB) | BIT(X86_AC) | BIT(X86_MC))

/* Per-CPU state. */
struct vmx_cpu {
	struct vcpu *current; /* whose VMCS VMREAD and VMWRITE reach */
};

/* MSRs that Roost itself never uses, VREG_STAR and on: the CPU holds the guest's until another
 * vCPU comes. */
enum { NR_GUEST_MSRS = VREG_KERNEL_GS_BASE - VREG_STAR + 1 };

/* A VMCS and what goes with it: 01, or 02 of an L2. entry.S knows the first two fields. */
struct vmx_level {
	u8 launched;  /* 0: VMRESUME instead of VMLAUNCH */
	u64 host_rsp; /* 8: what HOST_RSP holds; 0: nothing yet */
	void *vmcs;
	hpa_t vmcs_pa;
	_Atomic u64 *pml;	    /* its page-modification log; NULL: it has none */
	bool host_ready;	    /* the host's part of it is this CPU's */
	bool flush;		    /* its TLB entries must go before the next entry */
	bool moved;		    /* the CPU may hold entries of earlier times there */
	u16 vpid;		    /* 1 of 01, 2 of 02; 0: the CPU has none */
	u64 proc, eptp, tsc_offset; /* what these fields hold */
	u64 flushed_generation;	    /* page-table generation at the last flush: the ledger */
	/* Bits that the guest changes without an exit, unless it is an L2 and L1 has them as well.
	 */
	u64 cr0_owned, cr4_owned;
	u64 cr0_l1, cr4_l1; /* of L2: the bits that L1 has */
};

/* The back end's part of a vCPU: vcpu->arch. */
struct vmx_vcpu {
	struct vmx_level *level;    /* first: the one that the vCPU's registers are in */
	struct vmx_level *other;    /* of a guest that is offered VMX */
	struct vmx_level levels[2]; /* 01, 02 */

	/* Of the exit that is being handled: what the VMCS holds. */
	u64 saved_rip, saved_rflags;
	u64 saved_rsp; /* when rsp_known */
	bool rsp_known;

	bool event;		/* VMCS(entry_event) is set for the next entry */
	bool loaded;		/* between vmx_load() and vmx_put() */
	struct vcpu *lent_by;	/* while the VMCS is borrowed: whose was the current one */
	u32 *vapic;		/* the processor's virtual APIC; NULL: it has none */
	bool usual_apic;	/* its registers are where they are after reset */
	bool hides_apic;	/* and must not be found there by an L2 */
	u64 tpr_threshold;	/* as the VMCS has it */
	struct lapic_lent lent; /* what the VMCS has of it */
	u64 cr2;
	u64 dr6;
	u64 msr[NR_GUEST_MSRS];
	struct guest_fpu fpu;
	struct vmx_nested nested;
};

static inline struct vmx_vcpu *vmx_of(struct vcpu *vcpu) { return vcpu->arch; }

/* vmx.c: the vCPU's VMCS as the current one for a moment; NULL when it is that already. */
struct vcpu *vmx_borrow_slow(struct vcpu *vcpu);
void vmx_give_back_slow(struct vcpu *lent);

static inline void vmx_give_back(struct vcpu *const *lent) {
	if (unlikely(*lent)) vmx_give_back_slow(*lent);
}

/* Makes it the current one to the end of the block, also on a CPU that does not run the vCPU. */
#define vmx_borrow(vcpu)                                                           \
	__attribute__((cleanup(vmx_give_back), unused)) struct vcpu *const lent_ = \
		likely(vmx_of(vcpu)->loaded) ? NULL : vmx_borrow_slow(vcpu)

/* The vCPU's registers are from now on in the VMCS of the other level. */
void vmx_switch_level(struct vcpu *vcpu);
int vmx_new_vmcs(struct vcpu *vcpu) __must_check; /* of vmx_of(vcpu)->level; 0 or E_NOMEM */

/* controls.c: what the CPU offers against what Roost needs. E_NOSUPP after a message. */
void vmx_read_options(struct text list); /* vmx= of the command line */
int vmx_negotiate(void) __must_check;
int vmx_check_cpu(u32 cpu) __must_check; /* the same on a further CPU, against vmx_config */
int vmx_msr_bitmap_init(void) __must_check;
/* Adds what of L1's map, NULL for none, lets fewer MSRs pass than Roost; `to` is of ones else. */
void vmx_msr_bitmap_merge(u8 *to, const u8 *l1);
/* The same of x2APIC's MSRs, as far as those controls of 02 virtualize them. */
void vmx_msr_bitmap_x2apic(u8 *to, const u8 *l1, u64 proc2);
void vmx_setup_controls(struct vcpu *vcpu);	      /* VMCS current */
void vmx_set_apic_mode(u8 delivers, bool usual_page); /* the same; of struct vmx_vcpu */
void vmx_setup_host(struct cpu *cpu);		      /* the same, each time it comes to a CPU */

static inline unsigned vmx_tick_shift(void) {
	return MISC_TICK_SHIFT(vmx_cap(&vmx_config.caps, VMX_MSR_MISC));
}

/*
 * Ticks of the preemption timer in 1 ms: so long a guest may run at most before Roost looks at its
 * timers and at what other CPUs want. Bochs 2.7 needs it, where interrupts do not end the guest
 * that was entered with IF clear; elsewhere it is a second line of defence.
 */
static inline u32 vmx_tick(void) { return (u32)min_u64(tsc_khz >> vmx_tick_shift(), ~0u); }

/* What the processor has in CR0 and CR4 for a guest that is to have this. */
static inline u64 vmx_real_cr0(u64 value) {
	return (value | vmx_config.cr0_fixed | X86_CR0_ET) & ~(X86_CR0_CD | X86_CR0_NW);
}

static inline u64 vmx_real_cr4(u64 value) { return value | vmx_config.cr4_fixed | X86_CR4_MCE; }

/* entry.S: enters and handles exits until vmx_exit() says false. Interrupts are off. */
void vmx_enter(struct vcpu *vcpu);
void vmx_exit_entry(void); /* where the CPU goes on after an exit */

/* What kernel/backend.h explains. */
BACKEND_FUNCTIONS(BACKEND_PROTOTYPE, vmx)

/* exit.c */
bool vmx_exit(struct vcpu *vcpu);	   /* called by entry.S; true: enter again */
bool vmx_entry_refused(struct vcpu *vcpu); /* the same, after VMLAUNCH or VMRESUME failed */
void vmx_write_back(struct vcpu *vcpu);
extern const struct exit_entry vmx_exits[VMX_NR_EXITS];
void vmx_need_rsp(struct vcpu *vcpu); /* reads RSP for those who want to know it */

/* apic.c */
extern hpa_t vmx_apic_access;	      /* the page that stands for the xAPIC's in all EPTs */
int vmx_apic_init(void) __must_check; /* 0 or E_NOMEM */
/* From now on no EPT of the VM leads to that page, until this vCPU is reset. */
void vmx_hide_apic(struct vcpu *vcpu);
void vmx_lend_apic(struct vcpu *vcpu);
enum outcome vmx_exit_tpr(struct vcpu *vcpu);
enum outcome vmx_exit_eoi(struct vcpu *vcpu);
enum outcome vmx_exit_apic_write(struct vcpu *vcpu);
enum outcome vmx_exit_apic_access(struct vcpu *vcpu);
/* An EPT violation where the xAPIC's registers mostly are. True: EPT has been changed. */
bool vmx_map_apic(struct vcpu *vcpu, gpa_t gpa, u64 info);
/* An EPT violation is out of the way: what it interrupted goes on. info: its qualification. */
void vmx_resume_delivery(struct vcpu *vcpu, u64 info);
/* The rest of an EPT violation at gpa, where L1 has no RAM. */
enum outcome vmx_ept_device(struct vcpu *vcpu, gpa_t gpa, u64 info);
enum outcome vmx_handle(struct vcpu *vcpu, u64 index); /* the handler of such an exit from L1 */

/* cr.c */
enum outcome vmx_exit_cr(struct vcpu *vcpu);
bool vmx_pae_paging(struct vcpu *vcpu);
bool vmx_load_pdptes(struct vcpu *vcpu);

/* event.c */
void vmx_take_exit_event(struct vcpu *vcpu);
enum outcome vmx_exit_interrupt_window(struct vcpu *vcpu);
enum outcome vmx_exit_nmi_window(struct vcpu *vcpu);
enum outcome vmx_exit_exception(struct vcpu *vcpu);

/* regs.c */
/* The bits of the mask from the second value, all others from the first. */
static inline u64 blend(u64 value, u64 mask, u64 other) { return (value & ~mask) | (other & mask); }

u64 vmx_cr0(const struct vmx_vcpu *arch); /* as it works in the guest; VMCS current */
u64 vmx_cr4(const struct vmx_vcpu *arch);
void vmx_load_msrs(struct vmx_vcpu *arch);
void vmx_put_msrs(struct vmx_vcpu *arch);

/* tlb.c: the flush ledger */
void vmx_tlb_flush_l2(struct vcpu *vcpu);
void vmx_tlb_enter(struct vcpu *vcpu); /* just before entry */
