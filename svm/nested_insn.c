/*
 * The instructions of SVM in a guest, but VMRUN. The processor has checked before it exits that the
 * code is in protected mode and at CPL 0; what it cannot know is whether the guest has EFER.SVME
 * set, because Roost always has.
 */
#include "svm/svm.h"

#include "kernel/vm.h"
#include "lib/x86.h"
#include "mm/direct.h"
#include "mm/gmem.h"
#include "platform/cpu_model.h"
#include "platform/emulate.h"
#include "svm/skip.h"

#define PLAIN_LENGTH 3 /* without prefixes */

static bool svm_enabled(struct vcpu *vcpu) { return svm_of(vcpu)->efer & X86_EFER_SVME; }

/* rAX by the effective address size, where a prefix or another mode may have changed it. */
static __noinline enum outcome short_address(struct vcpu *vcpu, u64 *address) {
	struct insn insn;
	int err = decode_current(vcpu, &insn);

	if (err) return decode_outcome(err);
	*address &= ~0ul >> (64 - 8 * insn.addr_size);
	return ADVANCE;
}

/* L2 uses the instruction, and L1 has not asked to see it. */
static enum outcome l2_page(struct vcpu *vcpu, gpa_t *gpa) {
	struct fault fault;

	if ((*gpa & ~PAGE_MASK) || *gpa >> vcpu->vm->cpu_model->phys_bits)
		return inject_gp(vcpu, 0);
	int err = svm_l2_translate(vcpu, *gpa, ACCESS_WRITE, gpa, &fault);
	if (err == E_FAULT) return fault_inject(vcpu, &fault);
	return err ? RESUME : ADVANCE;
}

enum outcome svm_page_operand(struct vcpu *vcpu, gpa_t *gpa) {
	const struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	enum outcome outcome = ADVANCE;

	if (!svm_enabled(vcpu)) return inject_ud(vcpu);
	*gpa = vcpu->gpr[RAX];
	vcpu->next_rip = svm_next_rip(vcpu, vmcb);
	if (unlikely(vcpu->next_rip - vcpu->rip != PLAIN_LENGTH) || !(vmcb->cs.attr & SEG_ATTR_L))
		outcome = short_address(vcpu, gpa);
	if (unlikely(outcome != ADVANCE)) return outcome;
	if (unlikely(vcpu->l2)) return l2_page(vcpu, gpa);
	return *gpa & ~PAGE_MASK ? inject_gp(vcpu, 0) : ADVANCE;
}

/*
 * The state is in the CPU: the host's own instruction moves it, as virtual VMLOAD would do. What
 * happens to a page that is not RAM but below the limit is left open by the manual: #GP, as above.
 */
__attribute__((always_inline)) static inline enum outcome move_state(struct vcpu *vcpu, bool load) {
	gpa_t gpa = 0;
	enum outcome outcome = svm_page_operand(vcpu, &gpa);

	if (unlikely(outcome != ADVANCE)) return outcome;
	const void *ram = load ? gmem_ptr(vcpu->vm->gmem, gpa, PAGE_SIZE)
			       : gmem_ptr_write(vcpu->vm->gmem, gpa, PAGE_SIZE);
	if (unlikely(!ram)) return inject_gp(vcpu, 0);
	load ? svm_vmload(virt_to_phys(ram)) : svm_vmsave(virt_to_phys(ram));
	return ADVANCE;
}

enum outcome svm_exit_vmload(struct vcpu *vcpu) { return move_state(vcpu, true); }

enum outcome svm_exit_vmsave(struct vcpu *vcpu) { return move_state(vcpu, false); }

enum outcome svm_exit_gif(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct vmcb *vmcb01 = arch->vmcb01;

	if (!svm_enabled(vcpu)) return inject_ud(vcpu);
	if (arch->vmcb->exit_code == EXIT_CLGI) {
		vmcb01->vintr &= (u32)~V_GIF;
		return ADVANCE;
	}
	vmcb01->vintr |= V_GIF;
	if (vmcb01->vintr & V_GIF_ENABLE)
		vmcb01->intercept_misc2 &= (u32)~INTERCEPT_STGI; /* it was to see this moment */
	vcpu_request_self(vcpu, arch->nested.init_held ? REQ_EVENT | REQ_INIT : REQ_EVENT);
	arch->nested.init_held = false;
	return ADVANCE;
}

/* Flushes more than the one page: the ASIDs of L1 are not those of the CPU. */
enum outcome svm_exit_invlpga(struct vcpu *vcpu) {
	if (!svm_enabled(vcpu)) return inject_ud(vcpu);
	if ((u32)vcpu->gpr[RCX])
		svm_nested_flush_asid(vcpu, (u32)vcpu->gpr[RCX]);
	else
		svm_tlb_flush(vcpu);
	return ADVANCE;
}

void svm_update_svme(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct vmcb *vmcb = arch->vmcb01;
	bool on = svm_enabled(vcpu);
	u32 own = 0;

	if (on && svm_features.vgif) own |= INTERCEPT_STGI | INTERCEPT_CLGI;
	if (on && svm_features.vmsave) own |= INTERCEPT_VMLOAD | INTERCEPT_VMSAVE;
	vmcb->intercept_misc2 |=
		(u32)(INTERCEPT_STGI | INTERCEPT_CLGI | INTERCEPT_VMLOAD | INTERCEPT_VMSAVE);
	vmcb->intercept_misc2 &= ~own;
	vmcb->lbr_enable = own & INTERCEPT_VMLOAD ? VMSAVE_ENABLE : 0;
	vmcb->vintr &= (u32)~V_GIF_ENABLE;
	if (own & INTERCEPT_STGI) vmcb->vintr |= V_GIF_ENABLE;
	if (!on) vmcb->vintr |= V_GIF;
}
