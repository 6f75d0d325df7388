/* Control registers, EFER and XCR0: APM 2 3.1, 5.3, 11.5, 14.6; SDM 3A 2.5, 4.1, 4.10, 9.8. */
#include "platform/cr.h"

#include "kernel/vm.h"
#include "platform/cpu_model.h"
#include "platform/lapic.h"
#include "platform/msr.h"

#define CR0_KNOWN                                                                      \
	(X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | X86_CR0_NE | \
	 X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)

/* A change of these makes the processor forget translations; global ones too, but for PCIDE. */
#define CR4_FLUSH \
	(X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE | X86_CR4_SMEP | X86_CR4_SMAP)

#define CR3_NO_FLUSH BIT(63) /* with CR4.PCIDE, in the value written; never kept */
#define CR3_PCID     0xffful

#define XCR0_X87     BIT(0)
#define XCR0_SSE     BIT(1)
#define XCR0_AVX     BIT(2)
#define XCR0_AVX512  (BIT(5) | BIT(6) | BIT(7))

static bool long_mode_active(struct vcpu *vcpu) { return vcpu_reg(vcpu, VREG_EFER) & X86_EFER_LMA; }

static bool cs_is_long(struct vcpu *vcpu) {
	struct segment cs;

	vcpu_segment(vcpu, SEG_CS, &cs);
	return cs.attr & SEG_ATTR_L;
}

/* ---- CR0 ---- */

static bool cr0_consistent(u64 cr0) {
	if ((cr0 & X86_CR0_NW) && !(cr0 & X86_CR0_CD)) return false;
	return !(cr0 & X86_CR0_PG) || (cr0 & X86_CR0_PE);
}

/* Turning paging on activates long mode when LME says so (APM 2 14.6.2). */
static bool may_enable_paging(struct vcpu *vcpu) {
	if (!(vcpu_reg(vcpu, VREG_EFER) & X86_EFER_LME)) return true;
	return (vcpu_reg(vcpu, VREG_CR4) & X86_CR4_PAE) && !cs_is_long(vcpu);
}

/* Not from 64-bit mode (only compatibility mode may leave), and not with PCIDs on. */
static bool may_disable_paging(struct vcpu *vcpu) {
	if (vcpu_reg(vcpu, VREG_CR4) & X86_CR4_PCIDE) return false;
	return !(long_mode_active(vcpu) && cs_is_long(vcpu));
}

static enum outcome set_cr0(struct vcpu *vcpu, u64 value) {
	u64 old = vcpu_reg(vcpu, VREG_CR0), changed;

	if ((value & vcpu->vm->cpu_model->cr0_reserved) || !cr0_consistent(value))
		return inject_gp(vcpu, 0);
	value = (value & CR0_KNOWN) | X86_CR0_ET;
	changed = old ^ value;
	if (changed & X86_CR0_PG) {
		if (!(value & X86_CR0_PG ? may_enable_paging(vcpu) : may_disable_paging(vcpu)))
			return inject_gp(vcpu, 0);
		vcpu_request(vcpu, REQ_TLB_FLUSH);
	}
	if (changed) vcpu_set_reg(vcpu, VREG_CR0, value);
	return ADVANCE;
}

/* ---- CR3 ---- */

/*
 * Bits beyond MAXPHYADDR fault in long mode; before it the register has 32 bits. Page-directory
 * pointers of PAE paging are not checked here: with nested paging the processor reads them when it
 * walks (APM 2 15.25.10).
 */
static enum outcome set_cr3(struct vcpu *vcpu, u64 value) {
	bool keep = false;

	if (vcpu_reg(vcpu, VREG_CR4) & X86_CR4_PCIDE) {
		keep = value & CR3_NO_FLUSH;
		value &= ~CR3_NO_FLUSH;
	}
	if (value >> vcpu->vm->cpu_model->phys_bits) {
		if (long_mode_active(vcpu)) return inject_gp(vcpu, 0);
		value &= UINT32_MAX;
	}
	vcpu_set_reg(vcpu, VREG_CR3, value);
	if (!keep) vcpu_request(vcpu, REQ_TLB_FLUSH);
	return ADVANCE;
}

/* ---- CR4 ---- */

static bool cr4_change_legal(struct vcpu *vcpu, u64 old, u64 value) {
	bool long_mode = long_mode_active(vcpu);

	if (long_mode && !(value & X86_CR4_PAE)) return false;
	if (!(value & ~old & X86_CR4_PCIDE)) return true;
	return long_mode && !(vcpu_reg(vcpu, VREG_CR3) & CR3_PCID);
}

static enum outcome set_cr4(struct vcpu *vcpu, u64 value) {
	u64 old = vcpu_reg(vcpu, VREG_CR4);

	if ((value & vcpu->vm->cpu_model->cr4_reserved) || !cr4_change_legal(vcpu, old, value))
		return inject_gp(vcpu, 0);
	if (old == value) return ADVANCE;
	vcpu_set_reg(vcpu, VREG_CR4, value);
	if ((old ^ value) & CR4_FLUSH) vcpu_request(vcpu, REQ_TLB_FLUSH);
	return ADVANCE;
}

/* ---- all of them ---- */

enum outcome cr_write(struct vcpu *vcpu, unsigned nr, u64 value) {
	switch (nr) {
	case 0: return set_cr0(vcpu, value);
	case 2: vcpu_set_reg(vcpu, VREG_CR2, value); return ADVANCE;
	case 3: return set_cr3(vcpu, value);
	case 4: return set_cr4(vcpu, value);
	case 8:
		if (value > 15) return inject_gp(vcpu, 0);
		lapic_set_tpr(vcpu, (u8)(value << 4));
		return ADVANCE;
	default: return inject_ud(vcpu);
	}
}

enum outcome cr_read(struct vcpu *vcpu, unsigned nr, u64 *value) {
	static const enum vreg regs[] = {
		[0] = VREG_CR0, [2] = VREG_CR2, [3] = VREG_CR3, [4] = VREG_CR4};

	if (nr == 8)
		*value = lapic_tpr(vcpu) >> 4;
	else if (nr < ARRAY_SIZE(regs) && nr != 1)
		*value = vcpu_reg(vcpu, regs[nr]);
	else
		return inject_ud(vcpu);
	return ADVANCE;
}

enum outcome cr_clts(struct vcpu *vcpu) {
	vcpu_set_reg(vcpu, VREG_CR0, vcpu_reg(vcpu, VREG_CR0) & ~X86_CR0_TS);
	return ADVANCE;
}

enum outcome cr_lmsw(struct vcpu *vcpu, u16 value) {
	u64 cr0 = vcpu_reg(vcpu, VREG_CR0);
	u64 low = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS;

	return set_cr0(vcpu, (cr0 & ~low) | (value & low) | (cr0 & X86_CR0_PE));
}

/*
 * LMA is hardware's: AMD refuses a value that differs (APM 2 3.1.7), Intel ignores it (SDM 3A
 * 2.2.1). LME cannot change while paging is on.
 */
int efer_set(struct vcpu *vcpu, u64 value) {
	const struct cpu_model *model = vcpu->vm->cpu_model;
	u64 old = vcpu_reg(vcpu, VREG_EFER);

	if (!model->is_amd) value = (value & ~X86_EFER_LMA) | (old & X86_EFER_LMA);
	if ((value & ~model->efer_allowed) || ((value ^ old) & X86_EFER_LMA)) return E_INVAL;
	if (((value ^ old) & X86_EFER_LME) && (vcpu_reg(vcpu, VREG_CR0) & X86_CR0_PG))
		return E_INVAL;
	if ((value & X86_EFER_SVME) && (vcpu->msrs->vm_cr & VM_CR_SVMDIS)) return E_INVAL;
	if (value == old) return 0;
	vcpu_set_reg(vcpu, VREG_EFER, value);
	if ((value ^ old) & X86_EFER_NXE) vcpu_request(vcpu, REQ_TLB_FLUSH);
	return 0;
}

/* APM 2 11.5.2, SDM 1 13.3: x87 always, AVX not without SSE, AVX-512 whole and not without AVX. */
static bool xcr0_valid(struct vcpu *vcpu, u64 value) {
	u64 avx512 = value & XCR0_AVX512;

	if (!(value & XCR0_X87) || (value & ~vcpu->vm->cpu_model->xcr0_allowed)) return false;
	if ((value & XCR0_AVX) && !(value & XCR0_SSE)) return false;
	return !avx512 || (avx512 == XCR0_AVX512 && (value & XCR0_AVX));
}

enum outcome xsetbv_exit(struct vcpu *vcpu) {
	u64 value = vcpu->gpr[RDX] << 32 | (u32)vcpu->gpr[RAX];

	if (!(vcpu_reg(vcpu, VREG_CR4) & X86_CR4_OSXSAVE)) return inject_ud(vcpu);
	if (vcpu_cpl(vcpu) || (u32)vcpu->gpr[RCX] || !xcr0_valid(vcpu, value))
		return inject_gp(vcpu, 0);
	vcpu_set_reg(vcpu, VREG_XCR0, value);
	return ADVANCE;
}
