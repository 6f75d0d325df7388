/*
 * The end of an intercepted instruction. The exit code tells which instruction it is, so only
 * prefixes can be in question; without nRIP the code is looked at.
 */
#include "svm/skip.h"

#include "lib/x86.h"
#include "platform/emulate.h"
#include "platform/fetch.h"
#include "svm/svm.h"

#define LONGEST 3u /* of the instructions below */

/* RIP wraps at 4 GiB outside of 64-bit code, as the instruction pointer does. */
static u64 after(struct vcpu *vcpu, u64 length)
{
	u64 rip = vcpu->rip + length;

	return svm_of(vcpu)->vmcb->cs.attr & SEG_ATTR_L ? rip : (u32)rip;
}

static bool in_64bit_code(const struct vmcb *vmcb)
{
	return (vmcb->cs.attr & SEG_ATTR_L) && (vmcb->efer & X86_EFER_LMA);
}

/*
 * Length of an intercepted instruction that has no prefix and is not decoded anyway: HLT, the
 * three-byte ones of group 7 (VMMCALL, XSETBV ...), and CPUID, RDMSR, WRMSR, WBINVD ... 0 when it
 * begins with anything else.
 */
static unsigned plain_length(const u8 *code)
{
	if (code[0] == 0x0f)
		return code[1] == 0x01 ? 3 : 2;
	return code[0] == 0xf4 ? 1 : 0;
}

/* Out of line: the way that matters needs no room for a decoded instruction. */
static __noinline u64 decoded_next_rip(struct vcpu *vcpu)
{
	struct insn insn;

	if (decode_current(vcpu, &insn))
		return vcpu->rip;
	return after(vcpu, insn.length);
}

u64 svm_next_rip(struct vcpu *vcpu)
{
	const struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	gva_t rip = vcpu->rip;
	const u8 *code;
	unsigned length;

	if (svm_features.nrips)
		return vmcb->next_rip;
	if (unlikely(!in_64bit_code(vmcb) || (rip & ~PAGE_MASK) > PAGE_SIZE - LONGEST))
		return decoded_next_rip(vcpu);
	code = fetch_known(vcpu, rip, vmcb->cr3);
	if (unlikely(!code))
		code = fetch_remember(vcpu, rip, vmcb->cr3);
	length = code ? plain_length(code) : 0;
	return likely(length) ? rip + length : decoded_next_rip(vcpu);
}
