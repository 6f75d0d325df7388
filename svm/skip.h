/*
 * Where an intercepted instruction ends. The exit code tells which instruction it is, so only
 * prefixes can be in question; without nRIP the code is looked at. Inline, for nearly every exit.
 */
#pragma once

#include "platform/fetch.h"
#include "svm/svm.h"

#define SKIP_LONGEST 4u /* of the instructions that are looked for there */

/* exit.c: the ways that are rare: code not known yet, prefixes, code that is not 64-bit. */
u64 svm_next_rip_slow(struct vcpu *vcpu);

/*
 * Length of an intercepted instruction that has no prefix and is not decoded anyway: HLT, the
 * three-byte ones of group 7 (VMMCALL, XSETBV ...), and CPUID, RDMSR, WRMSR, WBINVD ... 0 when it
 * begins with anything else.
 */
static inline unsigned skip_plain_length(const u8 *code) {
	if (likely(code[0] == 0x0f)) return code[1] == 0x01 ? 3 : 2;
	return code[0] == 0xf4 ? 1 : 0;
}

/* 64-bit code that lies in one page as far as it is looked at. */
static inline bool skip_in_known_code(const struct vmcb *vmcb, gva_t rip) {
	return (vmcb->cs.attr & SEG_ATTR_L) && (vmcb->efer & X86_EFER_LMA) &&
	       (rip & ~PAGE_MASK) <= PAGE_SIZE - SKIP_LONGEST;
}

/* RIP behind the instruction that exited; RIP itself when another vCPU has changed it meanwhile. */
static inline u64 svm_next_rip(struct vcpu *vcpu, const struct vmcb *vmcb) {
	gva_t rip = vcpu->rip;
	const u8 *code;
	unsigned length;

	if (svm_features.nrips) return vmcb->next_rip;
	if (unlikely(!skip_in_known_code(vmcb, rip))) return svm_next_rip_slow(vcpu);
	code = fetch_known(vcpu, rip, vmcb->cr3);
	length = likely(code) ? skip_plain_length(code) : 0;
	return likely(length) ? rip + length : svm_next_rip_slow(vcpu);
}
