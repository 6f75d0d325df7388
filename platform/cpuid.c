/* CPUID: an entry of the capability record, then what the vCPU has switched on (SDM 2A CPUID). */
#include "platform/exits.h"

#include "kernel/vm.h"
#include "platform/cpu_model.h"
#include "platform/lapic.h"

#define LEAF1_ECX_OSXSAVE (1u << 27)
#define LEAF1_EDX_APIC	  (1u << 9)
#define LEAF7_ECX_OSPKE	  (1u << 4)

/* Out of line, so that the leaves that are the same for all pay one comparison. */
static __noinline enum outcome show_live(struct vcpu *vcpu, const struct cpuid_leaf *l,
					 u32 subleaf) {
	switch (l->leaf) {
	case 1:
		vcpu->gpr[RBX] |= (u64)(vcpu->id & 0xff) << 24;
		if (vcpu_reg(vcpu, VREG_CR4) & X86_CR4_OSXSAVE) vcpu->gpr[RCX] |= LEAF1_ECX_OSXSAVE;
		__attribute__((fallthrough));
	case CPUID_EXT + 1: /* the APIC bit follows that of IA32_APIC_BASE (APM 2 16.3.1) */
		if (vcpu->lapic->mode == LAPIC_DISABLED) vcpu->gpr[RDX] &= ~(u64)LEAF1_EDX_APIC;
		break;
	case 7:
		if (vcpu_reg(vcpu, VREG_CR4) & X86_CR4_PKE) vcpu->gpr[RCX] |= LEAF7_ECX_OSPKE;
		break;
	case 0xd: /* the size for the current XCR0 */
		vcpu->gpr[RBX] =
			cpu_model_xsave_size(vcpu->vm->cpu_model, vcpu_reg(vcpu, VREG_XCR0),
					     l->subleaf ? XSAVE_COMPACTED : XSAVE_STANDARD);
		break;
	case 0xb:
	case 0x1f: /* topology, of which the last level echoes the sub-leaf asked for */
		if (l->flags & CPUID_REST) vcpu->gpr[RCX] = subleaf & 0xff;
		vcpu->gpr[RDX] = vcpu->id;
		break;
	default: /* AMD's topology: APIC id, core id */
		vcpu->gpr[RAX] = vcpu->id;
		vcpu->gpr[RBX] = vcpu->id & 0xff;
		break;
	}
	return ADVANCE;
}

enum outcome cpuid_exit(struct vcpu *vcpu) {
	u32 subleaf = (u32)vcpu->gpr[RCX];
	const struct cpuid_leaf *l =
		cpu_model_leaf(vcpu->vm->cpu_model, (u32)vcpu->gpr[RAX], subleaf);

	vcpu->gpr[RAX] = l->eax;
	vcpu->gpr[RBX] = l->ebx;
	vcpu->gpr[RCX] = l->ecx;
	vcpu->gpr[RDX] = l->edx;
	if (unlikely(l->live)) return show_live(vcpu, l, subleaf);
	return ADVANCE;
}
