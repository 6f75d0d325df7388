/*
 * Nested SVM: a guest (L1) that is a hypervisor, and its guest (L2). docs/nested.md tells how.
 *
 * VMCB 12 is what L1 wrote, in L1's memory; 01 is what Roost runs L1 with, 02 what it runs L2 with.
 */
#pragma once

#include "kernel/vcpu.h"
#include "svm/vmcb.h"

struct cpu_model;
struct event;
struct fault;

#define NO_NCR3 (~0ul) /* no nested paging */

/* An ASID of L1's and the tables it stands for. */
struct svm_asid {
	u64 ncr3;
	u32 asid; /* 0: none */
};

/* The part of struct svm_vcpu that is in use for a guest that is offered SVM. */
struct svm_nested {
	struct vmcb *vmcb02; /* NULL: not offered */
	struct vmcb *vmcb12; /* the control area as L1's VMRUN found it, copied once */
	u8 *msrpm;	     /* permission map of 02 */
	gpa_t vmcb12_gpa;
	u64 intercepts[3];	  /* what exits from an L2 whatever L1 wants */
	u64 efer01;		  /* L1's EFER while L2 runs */
	struct svm_asid running;  /* whose translations the TLB has under the ASID of 02 */
	struct svm_asid asids[8]; /* not flushed by L1 since they ran */
	u32 next_asid;		  /* the place among them that is given away next */
	bool window;		  /* V_IRQ in 02 is Roost's window; L1's is in vmcb12->vintr */
	bool init_held;		  /* INIT has come and waits for GIF */
};

static inline bool svm_nested_paging(const struct svm_nested *n) {
	return n->vmcb12->np_enable & NP_ENABLE;
}

/* nested.c: the ways between L1 and L2 */
int svm_nested_create(struct vcpu *vcpu) __must_check; /* 0 or E_NOMEM */
void svm_nested_destroy(struct vcpu *vcpu);
void svm_nested_reset(struct vcpu *vcpu); /* in L1, GIF set */
enum outcome svm_exit_vmrun(struct vcpu *vcpu);
/*
 * #VMEXIT from L2 to L1 (APM 2 15.6). int_info: the event whose delivery it interrupted, or 0.
 * EXIT_INVALID for a VMCB that could not be entered with: its state stays as it was.
 */
void svm_nested_leave(struct vcpu *vcpu, u64 code, u64 info1, u64 info2, u64 int_info);

/* nested_check.c: APM 2 15.5.1 */
bool svm_vmcb_control_valid(const struct vmcb *control, const struct cpu_model *model,
			    bool l1_paging);
bool svm_vmcb_state_valid(const struct vmcb *state, const struct cpu_model *model);

/* nested_insn.c: the instructions but VMRUN */
/*
 * #UD and #GP of the instructions that take the address of a page in rAX, in their order (APM 3
 * VMRUN). ADVANCE: *gpa is the address of a page, which need not be there: #GP then, too; and
 * vcpu->next_rip is set.
 */
enum outcome svm_page_operand(struct vcpu *vcpu, gpa_t *gpa);
enum outcome svm_exit_vmload(struct vcpu *vcpu);
enum outcome svm_exit_vmsave(struct vcpu *vcpu);
enum outcome svm_exit_gif(struct vcpu *vcpu); /* STGI, CLGI */
enum outcome svm_exit_invlpga(struct vcpu *vcpu);
/* What of them exits: follows EFER.SVME. */
void svm_update_svme(struct vcpu *vcpu);

/* nested_npt.c: L2's nested paging, and the flushes that L1 makes */
/*
 * Carries out the TLB_CONTROL of the copied VMCB 12 and finds the root of the nested tables for 02.
 * 0; E_BUSY: VMRUN has to be tried again; E_NOMEM.
 */
int svm_nested_use_tables(struct vcpu *vcpu, hpa_t *root) __must_check;
void svm_nested_flush_asid(struct vcpu *vcpu, u32 asid);
void svm_nested_flush_all(struct vcpu *vcpu); /* of all ASIDs, L1's own included */
/* Just before each entry; true when it has to be called before the next one, too. */
bool svm_nested_tlb_enter(struct vcpu *vcpu);
enum outcome svm_nested_npf(struct vcpu *vcpu);

/* nested_exit.c: who handles an exit from L2 */
enum outcome svm_nested_exit(struct vcpu *vcpu, u64 index);
