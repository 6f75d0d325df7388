/*
 * Nested paging of L1's for its L2 (APM 2 15.25), by the shadow of mm/shadow.h: which root an entry
 * takes, nested page faults of L2, and L2's addresses for the emulator.
 *
 * L1 tells its flushes by ASID. Which tables may be cached of an ASID is remembered for a few of
 * them: only what is known to be fresh is not compared with L1's tables when L1 runs it again.
 */
#include "svm/svm.h"

#include "kernel/nested.h"
#include "lib/x86.h"
#include "platform/cpu_model.h"
#include "platform/gwalk.h"

_Static_assert(ACCESS_WRITE == SHADOW_WRITE && ACCESS_FETCH == SHADOW_FETCH &&
		       ACCESS_TABLE == SHADOW_TABLE,
	       "gwalk's accesses are passed on as they are");

/* The format of L1's tables follows the paging mode that L1 itself is in. */
static enum shadow_role role_of(const struct svm_vcpu *arch) {
	const struct vmcb *l1 = arch->vmcb01;
	bool nx = arch->nested.efer01 & X86_EFER_NXE;

	if (l1->efer & X86_EFER_LMA) return nx ? SHADOW_NPT_LONG_NX : SHADOW_NPT_LONG;
	if (l1->cr4 & X86_CR4_PAE) return nx ? SHADOW_NPT_PAE_NX : SHADOW_NPT_PAE;
	return l1->cr4 & X86_CR4_PSE ? SHADOW_NPT_32_PSE : SHADOW_NPT_32;
}

/* ---- what L1 flushes ---- */

static struct svm_asid *find_asid(struct svm_nested *n, u32 asid) {
	for (u32 i = 0; i < ARRAY_SIZE(n->asids); i++)
		if (n->asids[i].asid == asid) return &n->asids[i];
	return NULL;
}

void svm_nested_flush_asid(struct vcpu *vcpu, u32 asid) {
	struct svm_nested *n = &svm_of(vcpu)->nested;
	struct svm_asid *known = find_asid(n, asid);
	struct shadow *sh = nested_shadow(vcpu);

	svm_tlb_flush_l2(vcpu);
	if (!known) return;
	if (sh && known->ncr3 != NO_NCR3) shadow_flush(sh, known->ncr3);
	known->asid = 0;
}

void svm_nested_flush_all(struct vcpu *vcpu) {
	struct svm_nested *n = &svm_of(vcpu)->nested;
	struct shadow *sh = nested_shadow(vcpu);

	svm_tlb_flush(vcpu);
	for (u32 i = 0; i < ARRAY_SIZE(n->asids); i++) n->asids[i].asid = 0;
	if (sh) shadow_flush_all(sh);
}

/* Is about to run with this ASID and these tables: what may be stale of them is compared. */
static void use_asid(struct vcpu *vcpu, u32 asid, u64 ncr3) {
	struct svm_nested *n = &svm_of(vcpu)->nested;
	struct svm_asid *known = find_asid(n, asid);
	struct shadow *sh = nested_shadow(vcpu);

	if (asid != n->running.asid || ncr3 != n->running.ncr3)
		svm_tlb_flush_l2(vcpu); /* all of them share the one ASID of VMCB 02 */
	n->running = (struct svm_asid){.asid = asid, .ncr3 = ncr3};
	if (known && known->ncr3 == ncr3) return;
	if (!known) known = &n->asids[n->next_asid++ % ARRAY_SIZE(n->asids)];
	*known = n->running;
	if (sh && ncr3 != NO_NCR3) shadow_flush(sh, ncr3);
}

int svm_nested_use_tables(struct vcpu *vcpu, hpa_t *root) {
	struct svm_vcpu *arch = svm_of(vcpu);
	const struct vmcb *l1 = arch->nested.vmcb12;

	if (l1->tlb_control == TLB_FLUSH_ALL)
		svm_nested_flush_all(vcpu); /* L1's own as well (APM 2 15.16.1) */
	else if (l1->tlb_control)
		svm_nested_flush_asid(vcpu, l1->asid);
	*root = arch->vmcb01->ncr3;
	if (!svm_nested_paging(&arch->nested)) {
		use_asid(vcpu, l1->asid, NO_NCR3);
		return 0;
	}
	struct shadow *sh = nested_shadow(vcpu);
	if (unlikely(!sh)) {
		bool gbpages = vcpu->vm->cpu_model->has_gbpages;

		sh = nested_make_shadow(vcpu, (struct shadow_config){.gbpages = gbpages});
		if (!sh) return E_NOMEM;
	}
	use_asid(vcpu, l1->asid, l1->ncr3);
	int err = shadow_use(sh, vcpu->id, role_of(arch), l1->ncr3, root);
	if (err) nested_hurry(vcpu, sh);
	return err;
}

/* ---- around an entry ---- */

bool svm_nested_tlb_enter(struct vcpu *vcpu) {
	if (!vcpu->l2 || !svm_nested_paging(&svm_of(vcpu)->nested)) return false;
	if (shadow_enter(nested_shadow(vcpu), vcpu->id)) svm_tlb_flush_l2(vcpu);
	return true;
}

/* ---- faults and addresses of L2 ---- */

/* EXITINFO1 but for what says which kind of access it was (APM 2 15.25.6). */
static u64 refusal_bits(const struct shadow_found *found) {
	u64 bits = NPF_USER;

	if (found->refusal != SHADOW_ABSENT) bits |= NPF_PRESENT;
	if (found->refusal == SHADOW_RESERVED) bits |= NPF_RESERVED;
	return bits;
}

enum outcome svm_nested_npf(struct vcpu *vcpu) {
	struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	u64 info = vmcb->exit_info1, gpa2 = vmcb->exit_info2;
	u32 access = (u32)info & (SHADOW_WRITE | SHADOW_FETCH);
	struct shadow *sh = nested_shadow(vcpu);
	struct shadow_found found;

	if (!svm_nested_paging(&svm_of(vcpu)->nested)) return svm_handle(vcpu, INDEX_NPF);
	access |= info & NPF_PAGE_WALK ? SHADOW_TABLE : 0;
	switch (shadow_fault(sh, vcpu->id, gpa2, access, &found)) {
	case SHADOW_DEVICE: return svm_npf_device(vcpu, found.gpa1);
	case SHADOW_REFLECT:
		info = (info & ~(NPF_PRESENT | NPF_RESERVED)) | refusal_bits(&found);
		vcpu->next_rip = 0;
		svm_nested_leave(vcpu, EXIT_NPF, info, gpa2, svm_interrupted_event(vcpu));
		return RESUME;
	case SHADOW_RETRY: nested_hurry(vcpu, sh); break;
	case SHADOW_FIXED: break;
	}
	if (vmcb->exit_int_info & EVENTINJ_VALID) svm_take_exit_event(vcpu);
	return RESUME;
}

int svm_l2_translate(struct vcpu *vcpu, gpa_t gpa2, u32 access, gpa_t *gpa1, struct fault *fault) {
	struct shadow_found found;

	*gpa1 = gpa2;
	if (!svm_nested_paging(&svm_of(vcpu)->nested)) return 0;
	struct shadow *sh = nested_shadow(vcpu);
	access &= SHADOW_WRITE | SHADOW_FETCH | SHADOW_TABLE;
	switch (shadow_translate(sh, vcpu->id, gpa2, access, &found)) {
	case SHADOW_RETRY: nested_hurry(vcpu, sh); return E_BUSY;
	case SHADOW_REFLECT:
		/* Kept until svm_l2_fault(): a walk of L2's tables is always a write. */
		fault->vector = FAULT_NESTED;
		fault->address = gpa2;
		fault->error = (u32)refusal_bits(&found) | access;
		if (access & SHADOW_TABLE) fault->error |= SHADOW_WRITE;
		return E_FAULT;
	default: *gpa1 = found.gpa1; return 0;
	}
}

void svm_l2_fault(struct vcpu *vcpu, const struct fault *fault) {
	u64 where = fault->error & SHADOW_TABLE ? NPF_PAGE_WALK : NPF_FINAL;
	u64 info = (fault->error & ~SHADOW_TABLE) | where;

	vcpu->next_rip = 0;
	svm_nested_leave(vcpu, EXIT_NPF, info, fault->address, svm_of(vcpu)->vmcb->event_inj);
}
