/* What the files of the SVM back end share. */
#pragma once

#include "kernel/backend.h"
#include "kernel/cpu.h"
#include "kernel/fpu.h"
#include "svm/nested.h"
#include "svm/vmcb.h"

/* What this machine's SVM offers (CPUID 8000_000A). */
struct svm_features {
	bool nrips, decode_assists, flush_by_asid, pause_filter, vgif, vmsave;
	bool tcg; /* for svm/quirks.h */
	u32 nr_asids;
};

extern struct svm_features svm_features;

/* Index of an exit code: 0x000 to 0x0bf as they are, 0x400 to 0x403 behind them. */
#define INDEX_NPF     0xc0u
#define INDEX_INVALID 0xc4u
#define INDEX_UNKNOWN 0xc5u
#define SVM_NR_EXITS  0xc6u /* entries of the exit table */

/* Per-CPU state. */
struct svm_cpu {
	hpa_t host_vmcb_pa; /* FS, GS, TR, LDTR and syscall MSRs of the host, by VMSAVE */
	u32 next_asid;
	u64 asid_generation; /* grows when the ASIDs have run out and all TLB entries go */
};

/* The ASID of one VMCB, and what is to be flushed under it. */
struct svm_tlb {
	u64 flushed_generation; /* page-table generation at the last flush: the ledger */
	u64 asid_generation;
	u32 asid_cpu; /* whose ASID it is; ~0: none */
	bool flush;   /* its TLB entries must go before the next entry */
};

/*
 * The back end's part of a vCPU: vcpu->arch. A vCPU whose guest runs a guest of its own (L2) does
 * so with a VMCB of its own, 02; what is "the" VMCB is always the one of the level that runs. What
 * VMLOAD loads is the same for both levels, and kept in 01. entry.S knows the first field.
 */
struct svm_vcpu {
	hpa_t vmcb_pa;
	struct vmcb *vmcb;
	struct svm_tlb *tlb;
	u64 efer; /* as the guest sees it, LMA left out: the VMCB's LME may lag (svm/regs.c) */
	hpa_t vmcb01_pa;
	struct vmcb *vmcb01;
	struct svm_tlb tlb01;
	struct svm_tlb tlb02;
	bool tlb_work; /* svm_tlb_enter() has to be called before the next entry */
	bool entered;  /* the CPU, not VMCB 01, holds what VMLOAD loads */
	bool nmi_masked;
	bool iret_seen;	      /* the IRET that unmasks NMIs stands at iret_rip, or is done */
	bool nmi_single_step; /* it is being stepped over to see NMIs unmasked */
	u64 iret_rip;
	u64 step_rflags; /* TF as the guest had it */
	u64 soft_rip;	 /* where svm_quirk_inject() has put an interrupt in last, and which */
	u64 soft_event;
	struct guest_fpu fpu;
	struct svm_nested nested;
};

static inline struct svm_vcpu *svm_of(struct vcpu *vcpu) { return vcpu->arch; }

/* L1's global interrupt flag: a bit of VMCB 01, which the CPU itself changes where it can. */
static inline bool svm_gif(const struct svm_vcpu *arch) { return arch->vmcb01->vintr & V_GIF; }

/* FS, GS, TR, LDTR and the syscall MSRs, between the CPU and a VMCB (APM 3 VMSAVE). */
static inline void svm_vmsave(hpa_t vmcb_pa) {
	__asm__ volatile("vmsave" : : "a"(vmcb_pa) : "memory");
}

static inline void svm_vmload(hpa_t vmcb_pa) {
	__asm__ volatile("vmload" : : "a"(vmcb_pa) : "memory");
}

/* What kernel/backend.h explains. */
BACKEND_FUNCTIONS(BACKEND_PROTOTYPE, svm)

/* exit.c */
extern const struct exit_entry svm_exits[SVM_NR_EXITS];
void svm_write_back(struct vcpu *vcpu);
/* Called by entry.S: the VMCB to enter with, 0 to leave. */
hpa_t svm_exit(struct vcpu *vcpu);
/* A nested page fault where there is no RAM at gpa, an address of L1's. */
enum outcome svm_npf_device(struct vcpu *vcpu, gpa_t gpa);
/* The handler of the running level's exit, which has not asked for anything by itself. */
enum outcome svm_handle(struct vcpu *vcpu, u64 index);

/* entry.S: runs until svm_exit() says 0. GIF is 0, IF 1. shadow: see svm_quirk_shadow(). */
void svm_enter(struct vcpu *vcpu, bool shadow);

/* cr.c: MOV to CR0, CR4, CR8, MOV from CR8, LMSW, CLTS */
enum outcome svm_exit_cr(struct vcpu *vcpu);

/* event.c */
void svm_take_exit_event(struct vcpu *vcpu);
/* EXITINTINFO of the last exit as the manual has it, 0 without an event. */
u64 svm_interrupted_event(struct vcpu *vcpu);
enum outcome svm_exit_vintr(struct vcpu *vcpu);
enum outcome svm_exit_iret(struct vcpu *vcpu);
enum outcome svm_exit_db(struct vcpu *vcpu);

/* regs.c */
void svm_update_efer(struct svm_vcpu *arch);

/* tlb.c: ASIDs and the flush ledger */
void svm_tlb_flush_l2(struct vcpu *vcpu);
void svm_tlb_enter(struct vcpu *vcpu); /* just before entry */
