/*
 * The ways between a guest that is a hypervisor (L1) and its guest (L2): VMRUN and #VMEXIT.
 *
 * VMRUN copies VMCB 12 from L1's memory once: the control area to `vmcb12`, where it is checked and
 * then merged into VMCB 02; the state to VMCB 02, where it is checked. #VMEXIT stores what VMCB 02
 * holds, and the exit's information, in VMCB 12; L1 goes on with VMCB 01.
 *
 * L1's own state stays in VMCB 01: nothing is ever written to its host save area. What VMLOAD loads
 * stays in the CPU, as on hardware.
 */
#include "svm/svm.h"

#include "kernel/vm.h"
#include "lib/string.h"
#include "lib/x86.h"
#include "mm/frame.h"
#include "mm/gmem.h"
#include "platform/cpu_model.h"
#include "svm/intercept.h"
#include "svm/quirks.h"
#include "svm/skip.h"

/* VMCB 02, the copy of 12, and the permission map of 02 in one block. */
#define NESTED_SIZE  (2 * PAGE_SIZE + MSRPM_SIZE)

#define CONTROL_SIZE offsetof(struct vmcb, insn_len) /* what VMRUN reads of the control area */

int svm_nested_create(struct vcpu *vcpu) {
	struct svm_nested *n = &svm_of(vcpu)->nested;

	if (!vcpu->vm->cpu_model->has_svm) return 0;
	u8 *block = page_alloc(NESTED_SIZE);
	if (!block) return E_NOMEM;
	n->vmcb02 = (void *)block;
	n->vmcb12 = (void *)(block + PAGE_SIZE);
	n->msrpm = block + 2 * PAGE_SIZE;
	memset(n->msrpm, 0xff, MSRPM_SIZE);
	svm_intercept_setup(n->vmcb02);
	memcpy(n->intercepts, n->vmcb02, sizeof(n->intercepts));
	return 0;
}

void svm_nested_destroy(struct vcpu *vcpu) { page_free(svm_of(vcpu)->nested.vmcb02, NESTED_SIZE); }

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
}

static void load_registers(struct vcpu *vcpu, const struct vmcb *vmcb) {
	vcpu->rip = vmcb->rip;
	vcpu->rflags = vmcb->rflags;
	vcpu->gpr[RAX] = vmcb->rax;
	vcpu->gpr[RSP] = vmcb->rsp;
}

/* What both VMRUN loads and #VMEXIT stores (APM 2 15.5.1, 15.6), in the same places. */
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
#undef COPY
}

/* ---- VMRUN ---- */

/* Intercepts of L1 that mean something here; others are reserved, or of what L1 is not offered. */
static const u64 may_intercept[3] = {~0ul, ~0ul, GENMASK(14, 0)};

static void merge_control(struct vcpu *vcpu, hpa_t root) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct svm_nested *n = &arch->nested;
	const struct vmcb *l1 = n->vmcb12;
	struct vmcb *vmcb = n->vmcb02;

	for (unsigned i = 0; i < ARRAY_SIZE(n->intercepts); i++)
		((u64 *)(void *)vmcb)[i] =
			n->intercepts[i] | (((const u64 *)(const void *)l1)[i] & may_intercept[i]);
	if (arch->nmi_masked && !arch->iret_seen) vmcb->intercept_misc1 |= (u32)INTERCEPT_IRET;
	/* An L1 that intercepts PAUSE has no filter and sees each one. */
	vmcb->pause_count = l1->intercept_misc1 & INTERCEPT_PAUSE ? 0 : SVM_PAUSE_COUNT;
	vmcb->tsc_offset = vcpu->tsc_offset + l1->tsc_offset;
	vmcb->vintr = (l1->vintr & (u32)(V_TPR | V_IRQ | V_PRIO_MAX | V_IGN_TPR)) | (u32)V_MASKING;
	vmcb->vintr_vector = l1->vintr_vector;
	vmcb->int_state = l1->int_state & INT_SHADOW;
	vmcb->event_inj = l1->event_inj & EVENTINJ_VALID ? l1->event_inj : 0;
	vmcb->ncr3 = root;
	vmcb->msrpm_base = arch->vmcb01->msrpm_base;
	if (l1->intercept_misc1 & INTERCEPT_MSR) {
		svm_msrpm_merge(n->msrpm,
				gmem_ptr(vcpu->vm->gmem, l1->msrpm_base & PAGE_MASK, PAGE_SIZE));
		vmcb->msrpm_base = virt_to_phys(n->msrpm);
	}
}

static void enter_l2(struct vcpu *vcpu, hpa_t root) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct vmcb *vmcb = arch->nested.vmcb02;

	merge_control(vcpu, root);
	/* LMA is what the mode makes it, whatever L1 has written. */
	arch->efer = vmcb->efer & ~X86_EFER_LMA;
	arch->vmcb01->vintr |= V_GIF;
	switch_to(vcpu, true);
	svm_update_efer(arch);
	load_registers(vcpu, vmcb);
	vmcb->event_inj = svm_quirk_inject(vcpu, vmcb->event_inj);
}

/* Copies the VMCB of L1's and checks the copy. Without nested paging both levels share the PAT. */
static bool take_vmcb12(struct vcpu *vcpu, const struct vmcb *ram) {
	const struct cpu_model *model = vcpu->vm->cpu_model;
	struct svm_nested *n = &svm_of(vcpu)->nested;
	const struct vmcb *vmcb01 = svm_of(vcpu)->vmcb01;

	memcpy(n->vmcb12, ram, CONTROL_SIZE);
	copy_state(n->vmcb02, ram);
	n->vmcb02->g_pat = svm_nested_paging(n) ? ram->g_pat : vmcb01->g_pat;
	return svm_vmcb_control_valid(n->vmcb12, model, vmcb01->cr0 & X86_CR0_PG) &&
	       svm_vmcb_state_valid(n->vmcb02, model);
}

enum outcome svm_exit_vmrun(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct svm_nested *n = &arch->nested;
	hpa_t root;
	enum outcome outcome = svm_page_operand(vcpu, &n->vmcb12_gpa);
	int err = 0;

	if (outcome != ADVANCE) return outcome;
	const struct vmcb *ram = gmem_ptr(vcpu->vm->gmem, n->vmcb12_gpa, PAGE_SIZE);
	if (!ram) return inject_gp(vcpu, 0);
	n->efer01 = arch->efer;
	bool valid = take_vmcb12(vcpu, ram);
	if (valid) err = svm_nested_use_tables(vcpu, &root);
	if (err == E_BUSY) return RESUME;
	if (err) return vcpu_stop_reason(vcpu, "no memory for the tables of its guests");
	vcpu->rip = vcpu->next_rip;
	vcpu->rflags &= ~X86_RFLAGS_RF;
	arch->vmcb->int_state = 0;
	svm_write_back(vcpu);
	if (valid)
		enter_l2(vcpu, root);
	else
		svm_nested_leave(vcpu, EXIT_INVALID, 0, 0, 0);
	return RESUME;
}

/* ---- #VMEXIT ---- */

/*
 * What L2 has left: its state to L1's block; and of what VMRUN does not save and #VMEXIT does not
 * load, to L1 itself.
 */
static void store_l2(struct vcpu *vcpu, struct vmcb *to) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct svm_nested *n = &arch->nested;
	struct vmcb *vmcb = arch->vmcb, *vmcb01 = arch->vmcb01;
	const struct vmcb *irq = n->window ? n->vmcb12 : vmcb;

	if (arch->nmi_single_step)
		vcpu->rflags = (vcpu->rflags & ~X86_RFLAGS_TF) | arch->step_rflags;
	arch->nmi_single_step = false;
	svm_write_back(vcpu);
	vmcb->efer = svm_reg(vcpu, VREG_EFER);
	copy_state(to, vmcb);
	to->vintr = (n->vmcb12->vintr & (u32) ~(V_TPR | V_IRQ)) | (vmcb->vintr & (u32)V_TPR) |
		    (irq->vintr & (u32)V_IRQ);
	to->int_state = vmcb->int_state;
	to->event_inj = 0;
	to->next_rip = vcpu->next_rip;
	to->insn_len = 0; /* no bytes were fetched for L1 */
	*(svm_nested_paging(n) ? &to->g_pat : &vmcb01->g_pat) = vmcb->g_pat;
	vmcb01->cr2 = vmcb->cr2;
	vmcb01->dr6 = vmcb->dr6;
}

void svm_nested_leave(struct vcpu *vcpu, u64 code, u64 info1, u64 info2, u64 int_info) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct svm_nested *n = &arch->nested;
	struct vmcb *vmcb01 = arch->vmcb01;
	struct vmcb *to = gmem_ptr_write(vcpu->vm->gmem, n->vmcb12_gpa, PAGE_SIZE);

	if (code != EXIT_INVALID) store_l2(vcpu, to);
	to->exit_code = code;
	to->exit_info1 = info1;
	to->exit_info2 = info2;
	to->exit_int_info = svm_quirk_injected(vcpu, int_info);

	/* All breakpoints off, GIF clear; CR0.PE is set (APM 2 15.6). */
	vmcb01->dr7 = 0x400;
	vmcb01->vintr &= (u32)~V_GIF;
	vmcb01->intercept_misc1 &= (u32)~INTERCEPT_IRET;
	if (arch->nmi_masked && !arch->iret_seen) vmcb01->intercept_misc1 |= (u32)INTERCEPT_IRET;
	arch->efer = n->efer01;
	n->window = false;
	vcpu->exception.pending = false;
	switch_to(vcpu, false);
	load_registers(vcpu, vmcb01);
}
