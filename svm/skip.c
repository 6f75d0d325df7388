/*
 * The end of an intercepted instruction. The exit code tells which instruction it is, so only
 * prefixes can be in question; without nRIP they are read from the guest's code.
 */
#include "svm/skip.h"

#include "lib/x86.h"
#include "platform/emulate.h"
#include "svm/svm.h"

/* RIP wraps at 4 GiB outside of 64-bit code, as the instruction pointer does. */
static u64 after(struct vcpu *vcpu, u64 length)
{
	u64 rip = vcpu->rip + length;

	return svm_of(vcpu)->vmcb->cs.attr & SEG_ATTR_L ? rip : (u32)rip;
}

u64 svm_next_rip(struct vcpu *vcpu)
{
	struct insn insn;

	if (svm_features.nrips)
		return svm_of(vcpu)->vmcb->next_rip;
	if (decode_current(vcpu, &insn))
		return vcpu->rip;
	return after(vcpu, insn.length);
}
