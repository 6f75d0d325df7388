/* What the files of the SVM back end share. */
#pragma once

#include "kernel/backend.h"
#include "kernel/cpu.h"
#include "kernel/fpu.h"
#include "svm/vmcb.h"

/* What this machine's SVM offers (CPUID 8000_000A). */
struct svm_features {
	bool nrips, decode_assists, flush_by_asid, vgif, clean_bits, pause_filter;
	u32 nr_asids;
};

extern struct svm_features svm_features;

#define SVM_NR_EXITS 0xc6u /* entries of the exit table */

/* Per-CPU state. */
struct svm_cpu {
	hpa_t host_vmcb_pa; /* FS, GS, TR, LDTR and syscall MSRs of the host, by VMSAVE */
	u32 next_asid;
	u64 asid_generation; /* grows when the ASIDs have run out and all TLB entries go */
};

/* The back end's part of a vCPU: vcpu->arch. entry.S knows the first three fields. */
struct svm_vcpu {
	hpa_t vmcb_pa;		/* 0 */
	struct vmcb *vmcb;	/* 8 */
	u64 host_vmcb_pa;	/* 16: of the CPU it runs on */
	u64 efer;		/* as the guest sees it: the VMCB's LME may lag (svm/regs.c) */
	u64 flushed_generation; /* page-table generation at the last flush: the ledger */
	u64 asid_generation;
	u32 asid_cpu;  /* whose ASID it is; ~0: none */
	bool flush;    /* its TLB entries must go before the next entry */
	bool tlb_work; /* svm_tlb_enter() has to be called before the next entry */
	bool entered;  /* the CPU, not the VMCB, holds what VMLOAD loads */
	bool nmi_masked;
	bool iret_seen;	      /* the IRET that unmasks NMIs stands at iret_rip, or is done */
	bool nmi_single_step; /* it is being stepped over to see NMIs unmasked */
	u64 iret_rip;
	u64 step_rflags; /* TF as the guest had it */
	struct guest_fpu fpu;
};

static inline struct svm_vcpu *svm_of(struct vcpu *vcpu) { return vcpu->arch; }

/* FS, GS, TR, LDTR and the syscall MSRs, between the CPU and a VMCB (APM 3 VMSAVE). */
static inline void svm_vmsave(hpa_t vmcb_pa) {
	__asm__ volatile("vmsave" : : "a"(vmcb_pa) : "memory");
}

static inline void svm_vmload(hpa_t vmcb_pa) {
	__asm__ volatile("vmload" : : "a"(vmcb_pa) : "memory");
}

/* exit.c */
const char *svm_exit_name(u64 index);
void svm_write_back(struct vcpu *vcpu);
bool svm_exit(struct vcpu *vcpu); /* called by entry.S; true: enter again */

/* entry.S: enters and handles exits until svm_exit() says false. GIF is 0. */
void svm_enter(struct vcpu *vcpu);

/* cr.c: MOV to CR0, CR4, CR8, MOV from CR8, LMSW, CLTS */
enum outcome svm_exit_cr(struct vcpu *vcpu);

/* event.c */
bool svm_event_queued(struct vcpu *vcpu);
bool svm_interrupt_allowed(struct vcpu *vcpu);
bool svm_nmi_allowed(struct vcpu *vcpu);
void svm_inject(struct vcpu *vcpu, const struct event *event);
void svm_interrupt_window(struct vcpu *vcpu, bool open);
void svm_nmi_window(struct vcpu *vcpu);
void svm_end_shadow(struct vcpu *vcpu);
void svm_take_exit_event(struct vcpu *vcpu);
enum outcome svm_exit_vintr(struct vcpu *vcpu);
enum outcome svm_exit_iret(struct vcpu *vcpu);
enum outcome svm_exit_db(struct vcpu *vcpu);

/* regs.c */
u64 svm_reg(struct vcpu *vcpu, enum vreg reg);
void svm_set_reg(struct vcpu *vcpu, enum vreg reg, u64 value);
void svm_segment(struct vcpu *vcpu, enum seg seg, struct segment *out);
void svm_set_segment(struct vcpu *vcpu, enum seg seg, const struct segment *in);
u32 svm_privilege(struct vcpu *vcpu);
void svm_set_tsc_offset(struct vcpu *vcpu, u64 offset);
void svm_vcpu_reset(struct vcpu *vcpu, bool init);
void svm_update_efer(struct svm_vcpu *arch);

/* tlb.c: ASIDs and the flush ledger */
void svm_tlb_flush(struct vcpu *vcpu);
void svm_tlb_enter(struct vcpu *vcpu); /* just before entry */
