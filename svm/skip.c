/* The end of an intercepted instruction where skip.h does not know it: by decoding. */
#include "svm/skip.h"

#include "platform/emulate.h"

u64 svm_next_rip_slow(struct vcpu *vcpu) {
	const struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	struct insn insn;

	if ((vmcb->cs.attr & SEG_ATTR_L) && (vmcb->efer & X86_EFER_LMA))
		fetch_remember(vcpu, vcpu->rip, vmcb->cr3);
	if (decode_current(vcpu, &insn)) return vcpu->rip;
	/* RIP wraps at 4 GiB outside of 64-bit code, as the instruction pointer does. */
	u64 next = vcpu->rip + insn.length;
	return vmcb->cs.attr & SEG_ATTR_L ? next : (u32)next;
}
