/*
 * The ways between a guest that is a hypervisor (L1) and its guest (L2): VMRUN and #VMEXIT.
 *
 *   L1's memory     VMCB 12   control area --copied once--> vmcb12: checked, merged into --> VMCB
 * 02 state        --copied once--------------- checked in ------> VMCB 02 #VMEXIT: exit information
 * and state of VMCB 02 --> VMCB 12; L1 goes on with VMCB 01
 *
 * L1's own state stays in VMCB 01: nothing is ever written to its host save area. What VMLOAD loads
 * stays in the CPU, as on hardware.
 */
#include "svm/svm.h"

#include "kernel/space.h"
#include "kernel/vm.h"
#include "lib/string.h"
#include "lib/x86.h"
#include "mm/direct.h"
#include "mm/gmem.h"
#include "platform/cpu_model.h"
#include "svm/intercept.h"
#include "svm/skip.h"

/* VMCB 02, the copy of 12, and the permission map of 02 in one block. */
#define NESTED_SIZE  (2 * PAGE_SIZE + MSRPM_SIZE)

#define CONTROL_SIZE offsetof(struct vmcb, insn_len) /* what VMRUN reads of the control area */

int svm_nested_create(struct vcpu *vcpu) {
	struct svm_nested *n = &svm_of(vcpu)->nested;
	u8 *block;

	if (!vcpu->vm->cpu_model->has_svm)
		return 0;
	block = page_alloc(NESTED_SIZE);
	if (!block)
		return E_NOMEM;
	n->vmcb02 = (void *)block;
	n->vmcb12 = (void *)(block + PAGE_SIZE);
	n->msrpm = block + 2 * PAGE_SIZE;
	memset(n->msrpm, 0xff, MSRPM_SIZE);
	svm_intercept_setup(n->vmcb02);
	memcpy(n->intercepts, n->vmcb02, sizeof(n->intercepts));
	return 0;
}

void svm_nested_destroy(struct vcpu *vcpu) {
	struct svm_nested *n = &svm_of(vcpu)->nested;

	if (n->vmcb02)
		page_free(n->vmcb02, NESTED_SIZE);
}

/* The level whose registers the vCPU has. */
static void switch_to(struct vcpu *vcpu, bool l2) {
	struct svm_vcpu *arch = svm_of(vcpu);

	arch->vmcb = l2 ? arch->nested.vmcb02 : arch->vmcb01;
	arch->vmcb_pa = l2 ? virt_to_phys(arch->vmcb) : arch->vmcb01_pa;
	arch->tlb = l2 ? &arch->tlb02 : &arch->tlb01;
	arch->tlb_work = true;
	vcpu_set_level(vcpu, l2);
}

void svm_nested_reset(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);

	switch_to(vcpu, false);
	arch->vmcb01->vintr |= V_GIF;
	arch->nested.window = arch->nested.init_held = false;
	arch->nested.asid = 0;
}

static void save_registers(struct vcpu *vcpu, struct vmcb *vmcb) {
	vmcb->rip = vcpu->rip;
	vmcb->rflags = vcpu->rflags;
	vmcb->rax = vcpu->gpr[RAX];
	vmcb->rsp = vcpu->gpr[RSP];
}

static void load_registers(struct vcpu *vcpu, const struct vmcb *vmcb) {
	vcpu->rip = vmcb->rip;
	vcpu->rflags = vmcb->rflags;
	vcpu->gpr[RAX] = vmcb->rax;
	vcpu->gpr[RSP] = vmcb->rsp;
}

/* What both VMRUN loads and #VMEXIT stores (APM 2 15.5.1, 15.6), field for field in the same place.
 */
static void copy_state(struct vmcb *to, const struct vmcb *from) {
#define COPY(first, last)                                                 \
	__builtin_memcpy(&to->first, &from->first,                        \
			 offsetof(struct vmcb, last) + sizeof(to->last) - \
				 offsetof(struct vmcb, first))
	COPY(es, ds);
	COPY(gdtr, gdtr);
	COPY(idtr, idtr);
	COPY(cpl, cpl);
	COPY(efer, efer);
	COPY(cr4, rip);
	COPY(rsp, rsp);
	COPY(rax, rax);
	COPY(cr2, cr2);
	COPY(g_pat, g_pat);
#undef COPY
}

/* ---- VMRUN ---- */

/* Intercepts of L1 that mean something here; others are reserved, or of what L1 is not offered. */
static const u64 may_intercept[3] = {~0ul, ~0ul, GENMASK(14, 0)};

static void merge_control(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct svm_nested *n = &arch->nested;
	const struct vmcb *l1 = n->vmcb12;
	struct vmcb *vmcb = n->vmcb02;

	for (unsigned i = 0; i < ARRAY_SIZE(n->intercepts); i++)
		((u64 *)(void *)vmcb)[i] =
			n->intercepts[i] | (((const u64 *)(const void *)l1)[i] & may_intercept[i]);
	if (arch->nmi_masked && !arch->iret_seen)
		vmcb->intercept_misc1 |= (u32)INTERCEPT_IRET;
	vmcb->tsc_offset = vcpu->tsc_offset + l1->tsc_offset;
	vmcb->vintr = (l1->vintr & (u32)(V_TPR | V_IRQ | V_PRIO_MAX | V_IGN_TPR)) | (u32)V_MASKING;
	vmcb->vintr_vector = l1->vintr_vector;
	vmcb->int_state = l1->int_state & INT_SHADOW;
	vmcb->event_inj = l1->event_inj & EVENTINJ_VALID ? l1->event_inj : 0;
	vmcb->ncr3 = arch->vmcb01->ncr3;
	vmcb->msrpm_base = arch->vmcb01->msrpm_base;
	if (l1->intercept_misc1 & INTERCEPT_MSR) {
		svm_msrpm_merge(n->msrpm,
				gmem_ptr(vcpu->vm->gmem, l1->msrpm_base & PAGE_MASK, PAGE_SIZE));
		vmcb->msrpm_base = virt_to_phys(n->msrpm);
	}
}

/*
 * L2's translations have one ASID of the CPU's, whatever L1 calls them: another number, or other
 * tables, begin with an empty TLB.
 */
static void merge_tlb(struct vcpu *vcpu) {
	struct svm_nested *n = &svm_of(vcpu)->nested;
	const struct vmcb *l1 = n->vmcb12;
	u64 ncr3 = l1->np_enable & NP_ENABLE ? l1->ncr3 : ~0ul;

	if (l1->tlb_control == TLB_FLUSH_ALL)
		svm_tlb_flush(vcpu); /* L1's own as well (APM 2 15.16.1) */
	else if (l1->tlb_control || l1->asid != n->asid || ncr3 != n->ncr3)
		svm_tlb_flush_l2(vcpu);
	n->asid = l1->asid;
	n->ncr3 = ncr3;
}

static void enter_l2(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct vmcb *vmcb = arch->nested.vmcb02;

	merge_control(vcpu);
	merge_tlb(vcpu);
	/* LMA is what the mode makes it, whatever L1 has written. */
	arch->efer = vmcb->efer & ~X86_EFER_LMA;
	if ((vmcb->efer & X86_EFER_LME) && (vmcb->cr0 & X86_CR0_PG))
		vmcb->efer |= X86_EFER_LMA;
	else
		vmcb->efer &= ~X86_EFER_LMA;
	if (!(arch->nested.vmcb12->np_enable & NP_ENABLE))
		vmcb->g_pat = arch->vmcb01->g_pat;
	arch->vmcb01->vintr |= V_GIF;
	switch_to(vcpu, true);
	svm_update_efer(arch);
	load_registers(vcpu, vmcb);
}

/* Copies the VMCB of L1's at vmcb12_gpa and checks the copy. */
static bool take_vmcb12(struct vcpu *vcpu, const struct vmcb *ram) {
	const struct cpu_model *model = vcpu->vm->cpu_model;
	struct svm_vcpu *arch = svm_of(vcpu);
	struct svm_nested *n = &arch->nested;
	struct svm_limits limits = {.cr4_reserved = model->cr4_reserved,
				    .efer_allowed = model->efer_allowed,
				    .phys_bits = model->phys_bits,
				    .paging = arch->vmcb01->cr0 & X86_CR0_PG};

	memcpy(n->vmcb12, ram, CONTROL_SIZE);
	copy_state(n->vmcb02, ram);
	return svm_vmcb_control_valid(n->vmcb12, &limits) &&
	       svm_vmcb_state_valid(n->vmcb02, &limits, n->vmcb12->np_enable & NP_ENABLE);
}

enum outcome svm_exit_vmrun(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct svm_nested *n = &arch->nested;
	struct vmcb *vmcb01 = arch->vmcb01;
	const struct vmcb *ram;
	enum outcome outcome = svm_page_operand(vcpu, &n->vmcb12_gpa);

	if (outcome != ADVANCE)
		return outcome;
	ram = gmem_ptr(vcpu->vm->gmem, n->vmcb12_gpa, PAGE_SIZE);
	if (!ram)
		return inject_gp(vcpu, 0);
	vcpu->rip = vcpu->next_rip;
	vcpu->rflags &= ~X86_RFLAGS_RF;
	vmcb01->int_state = 0;
	save_registers(vcpu, vmcb01);
	n->efer01 = arch->efer;
	if (take_vmcb12(vcpu, ram))
		enter_l2(vcpu);
	else
		svm_nested_leave(vcpu, EXIT_INVALID, 0, 0, 0);
	return RESUME;
}

/* ---- #VMEXIT ---- */

/* VMCB 02 as L1 is to see it. */
static void finish_state(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct vmcb *vmcb = arch->vmcb;

	if (arch->nmi_single_step)
		vcpu->rflags = (vcpu->rflags & ~X86_RFLAGS_TF) | arch->step_rflags;
	arch->nmi_single_step = false;
	save_registers(vcpu, vmcb);
	vmcb->efer = svm_reg(vcpu, VREG_EFER);
}

static void write_exit(struct svm_nested *n, struct vmcb *to, u64 next_rip) {
	const struct vmcb *vmcb = n->vmcb02;
	const struct vmcb *irq = n->window ? n->vmcb12 : vmcb;
	u64 pat = to->g_pat;

	copy_state(to, vmcb);
	if (!(n->vmcb12->np_enable & NP_ENABLE))
		to->g_pat = pat;
	to->vintr = (n->vmcb12->vintr & (u32) ~(V_TPR | V_IRQ)) | (vmcb->vintr & (u32)V_TPR) |
		    (irq->vintr & (u32)V_IRQ);
	to->int_state = vmcb->int_state;
	to->event_inj = 0;
	to->next_rip = next_rip;
}

/* Of what VMRUN does not save and #VMEXIT does not load, L1 gets what L2 has left. */
static void inherit(struct svm_vcpu *arch) {
	const struct vmcb *vmcb = arch->vmcb;

	arch->vmcb01->cr2 = vmcb->cr2;
	arch->vmcb01->dr6 = vmcb->dr6;
	if (!(arch->nested.vmcb12->np_enable & NP_ENABLE))
		arch->vmcb01->g_pat = vmcb->g_pat;
}

void svm_nested_leave(struct vcpu *vcpu, u64 code, u64 info1, u64 info2, u64 int_info) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct svm_nested *n = &arch->nested;
	struct vmcb *vmcb01 = arch->vmcb01;
	struct vmcb *to = gmem_ptr_write(vcpu->vm->gmem, n->vmcb12_gpa, PAGE_SIZE);

	if (code != EXIT_INVALID) {
		finish_state(vcpu);
		write_exit(n, to, vcpu->next_rip);
		inherit(arch);
	}
	to->exit_code = code;
	to->exit_info1 = info1;
	to->exit_info2 = info2;
	to->exit_int_info = int_info;

	/* All breakpoints off, GIF clear; CR0.PE is set (APM 2 15.6). */
	vmcb01->dr7 = 0x400;
	vmcb01->vintr &= (u32)~V_GIF;
	vmcb01->intercept_misc1 &= (u32)~INTERCEPT_IRET;
	if (arch->nmi_masked && !arch->iret_seen)
		vmcb01->intercept_misc1 |= (u32)INTERCEPT_IRET;
	arch->efer = n->efer01;
	n->window = false;
	vcpu->exception.pending = false;
	switch_to(vcpu, false);
	load_registers(vcpu, vmcb01);
}
