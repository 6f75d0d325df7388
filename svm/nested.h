/*
 * Nested SVM: a guest (L1) that is a hypervisor, and its guest (L2). docs/nested.md tells how.
 *
 * VMCB 12 is what L1 wrote, in L1's memory; 01 is what Roost runs L1 with, 02 what it runs L2 with.
 */
#pragma once

#include "kernel/vcpu.h"
#include "svm/vmcb.h"

struct event;

/* The part of struct svm_vcpu that is in use for a guest that is offered SVM. */
struct svm_nested {
	struct vmcb *vmcb02; /* NULL: not offered */
	struct vmcb *vmcb12; /* the control area as L1's VMRUN found it, copied once */
	u8 *msrpm;	     /* permission map of 02 */
	gpa_t vmcb12_gpa;
	u64 intercepts[3]; /* what exits from an L2 whatever L1 wants */
	u64 efer01;	   /* L1's EFER while L2 runs */
	u64 ncr3;	/* of the L2 that ran last, ~0 without nested paging, and its ASID: ... */
	u32 asid;	/* ... whose translations are in the TLB under the ASID of 02 */
	bool window;	/* V_IRQ in 02 is Roost's window; L1's is in vmcb12->vintr */
	bool init_held; /* INIT has come and waits for GIF */
};

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
struct svm_limits {
	u64 cr4_reserved, efer_allowed;
	u8 phys_bits;
	bool paging; /* L1's CR0.PG: nested paging has tables */
};
bool svm_vmcb_control_valid(const struct vmcb *control, const struct svm_limits *limits);
/* np: nested paging is on, so that g_pat counts. */
bool svm_vmcb_state_valid(const struct vmcb *state, const struct svm_limits *limits, bool np);

/* nested_insn.c: the instructions but VMRUN */
/*
 * #UD and #GP of the instructions that take the address of a page in rAX, in their order (APM 3
 * VMRUN). ADVANCE: *gpa is the address, and vcpu->next_rip is set.
 */
enum outcome svm_page_operand(struct vcpu *vcpu, gpa_t *gpa);
enum outcome svm_exit_vmload(struct vcpu *vcpu);
enum outcome svm_exit_vmsave(struct vcpu *vcpu);
enum outcome svm_exit_gif(struct vcpu *vcpu); /* STGI, CLGI */
enum outcome svm_exit_invlpga(struct vcpu *vcpu);
/* What of them exits: follows EFER.SVME. */
void svm_update_svme(struct vcpu *vcpu);

/* nested_exit.c: who handles an exit from L2 */
enum outcome svm_nested_exit(struct vcpu *vcpu, u64 index);
bool svm_nested_event(struct vcpu *vcpu, const struct event *event);
