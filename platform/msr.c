/*
 * Every MSR a guest may name, and the handlers behind it (APM 2 appendix A, SDM 4 chapter 2): those
 * of what CPUID offers, and model-specific ones that systems touch without asking. An MSR that
 * should be inert accepts only what it can keep and faults on the rest.
 */
#include "platform/msr.h"

#include "kernel/vm.h"
#include "platform/cpu_model.h"
#include "platform/cr.h"
#include "platform/kvm_pv.h"
#include "platform/lapic.h"

#define MTRR_FIX64K	  0x250u
#define MTRR_DEF_TYPE	  0x2ffu

#define MTRR_CAP_FIXED	  BIT(8)
#define MTRR_CAP_WC	  BIT(10)

#define MTRR_ENABLE_FIXED BIT(10)
#define MTRR_ENABLE	  BIT(11)
#define MTRR_MASK_VALID	  BIT(11)

static bool is_amd(const struct vcpu *vcpu) { return vcpu->vm->cpu_model->is_amd; }

/* Bits of an address that the VM's physical width leaves out, and the lowest twelve. */
static u64 not_frame_bits(const struct vcpu *vcpu) {
	return ~GENMASK(vcpu->vm->cpu_model->phys_bits - 1, PAGE_SHIFT);
}

static bool canonical(u64 address) {
	return (u64)((s64)(address << 16) >> 16) == address; /* 48 bits; no five-level paging */
}

u64 guest_tsc(struct vcpu *vcpu) { return vm_tsc(vcpu->vm, time_tsc()) + vcpu->tsc_offset; }

/* TSC, TSC_ADJUST and the deadline are one unit (SDM 3B 17.17.3). */
void msr_move_tsc(struct vcpu *vcpu, u64 delta) {
	if (!delta) return;
	vcpu->tsc_adjust += delta;
	vcpu_set_tsc_offset(vcpu, vcpu->tsc_offset + delta);
	lapic_tsc_changed(vcpu);
	kvm_pv_tsc_changed(vcpu);
}

static int read_zero(struct vcpu *vcpu __unused, u32 msr __unused, u64 *value) {
	*value = 0;
	return 0;
}

/* Registers of which each is a case of its own. */
static int read_value(struct vcpu *vcpu, u32 msr, u64 *value) {
	switch (msr) {
	case 0x10: *value = guest_tsc(vcpu); break;
	case 0x1b: *value = vcpu->lapic->base; break;
	case 0x3a: /* FEATURE_CONTROL: locked, and VMX on where it is offered (SDM 3C 23.7) */
		*value = vcpu->vm->cpu_model->has_vmx ? BIT(0) | BIT(2) : BIT(0);
		break;
	case 0x8b: /* a microcode revision that exists, so that systems do not complain */
		*value = is_amd(vcpu) ? 0x01000065 : 1ul << 32;
		break;
	case MSR_TSC_ADJUST: *value = vcpu->tsc_adjust; break;
	case 0xfe: /* MTRRcap */ *value = MTRR_VARIABLE | MTRR_CAP_FIXED | MTRR_CAP_WC; break;
	case MSR_TSC_DEADLINE: *value = lapic_deadline(vcpu); break;
	default: /* OSVW_ID_LENGTH: errata 0 to 3 have a status bit, and none of them applies */
		*value = 4;
		break;
	}
	return 0;
}

static int write_value(struct vcpu *vcpu, u32 msr, u64 value) {
	switch (msr) {
	case 0x10: msr_move_tsc(vcpu, value - guest_tsc(vcpu)); return 0;
	case 0x1b: return lapic_set_base(vcpu, value);
	case MSR_TSC_ADJUST: msr_move_tsc(vcpu, value - vcpu->tsc_adjust); return 0;
	case MSR_TSC_DEADLINE: lapic_set_deadline(vcpu, value); return 0;
	default: return efer_set(vcpu, value);
	}
}

static int write_zero_only(struct vcpu *vcpu __unused, u32 msr __unused, u64 value) {
	return value ? E_INVAL : 0;
}

/* ---- registers that the back end holds ---- */

_Static_assert(VREG_SYSENTER_EIP == VREG_SYSENTER_CS + 2 && VREG_SFMASK == VREG_STAR + 3,
	       "in the order of their MSRs");

static enum vreg vreg_of(u32 msr) {
	switch (msr) {
	case 0x174 ... 0x176: return (enum vreg)(VREG_SYSENTER_CS + (msr - 0x174));
	case X86_MSR_PAT: return VREG_PAT;
	case X86_MSR_EFER: return VREG_EFER;
	case X86_MSR_STAR ... X86_MSR_SFMASK: return (enum vreg)(VREG_STAR + (msr - X86_MSR_STAR));
	case X86_MSR_KERNEL_GS_BASE: return VREG_KERNEL_GS_BASE;
	default: return VREG_TSC_AUX;
	}
}

static int read_vreg(struct vcpu *vcpu, u32 msr, u64 *value) {
	*value = vcpu_reg(vcpu, vreg_of(msr));
	return 0;
}

static int write_vreg(struct vcpu *vcpu, u32 msr, u64 value) {
	vcpu_set_reg(vcpu, vreg_of(msr), value);
	return 0;
}

/* Registers of 32 bits whose upper half is not kept. */
static int write_vreg_low(struct vcpu *vcpu, u32 msr, u64 value) {
	return write_vreg(vcpu, msr, (u32)value);
}

static int write_vreg_canonical(struct vcpu *vcpu, u32 msr, u64 value) {
	return canonical(value) ? write_vreg(vcpu, msr, value) : E_INVAL;
}

/* SYSENTER's stack and entry point have 32 bits on AMD, which knows it in legacy mode only. */
static int write_sysenter(struct vcpu *vcpu, u32 msr, u64 value) {
	return is_amd(vcpu) ? write_vreg_low(vcpu, msr, value)
			    : write_vreg_canonical(vcpu, msr, value);
}

static int write_pat(struct vcpu *vcpu, u32 msr, u64 value) {
	return pat_valid(value) ? write_vreg(vcpu, msr, value) : E_INVAL;
}

/* The upper half: AMD drops it, Intel refuses it (SDM 4 table 2-2). */
static int write_tsc_aux(struct vcpu *vcpu, u32 msr, u64 value) {
	return !is_amd(vcpu) && value >> 32 ? E_INVAL : write_vreg_low(vcpu, msr, value);
}

static enum seg seg_of(u32 msr) { return msr == X86_MSR_FS_BASE ? SEG_FS : SEG_GS; }

static int read_seg_base(struct vcpu *vcpu, u32 msr, u64 *value) {
	struct segment seg;

	vcpu_segment(vcpu, seg_of(msr), &seg);
	*value = seg.base;
	return 0;
}

static int write_seg_base(struct vcpu *vcpu, u32 msr, u64 value) {
	struct segment seg;

	if (!canonical(value)) return E_INVAL;
	vcpu_segment(vcpu, seg_of(msr), &seg);
	seg.base = value;
	vcpu_set_segment(vcpu, seg_of(msr), &seg);
	return 0;
}

/* ---- registers that are kept in memory ---- */

static u64 *kept(struct vcpu *vcpu, u32 msr) {
	struct msr_state *s = vcpu->msrs;

	switch (msr) {
	case 0x17a: return &s->mcg_status;
	case 0x1a0: return &s->misc_enable;
	case 0x200 ... 0x20f: return &s->mtrr_variable[msr - 0x200];
	case MTRR_FIX64K: return &s->mtrr_fixed[0];
	case 0x258 ... 0x259: return &s->mtrr_fixed[1 + msr - 0x258];
	case 0x268 ... 0x26f: return &s->mtrr_fixed[3 + msr - 0x268];
	case MTRR_DEF_TYPE: return &s->mtrr_def_type;
	case 0xc0010010: return &s->syscfg;
	case 0xc0010015: return &s->hwcr;
	case 0xc0010016 ... 0xc0010019: return &s->iorr[msr - 0xc0010016];
	case 0xc001001a: return &s->top_mem;
	case 0xc001001d: return &s->top_mem2;
	case 0xc001001f: return &s->nb_cfg;
	case 0xc0010114: return &s->vm_cr;
	case 0xc0010117: return &s->vm_hsave_pa;
	default: return &s->de_cfg;
	}
}

static int read_kept(struct vcpu *vcpu, u32 msr, u64 *value) {
	*value = *kept(vcpu, msr);
	return 0;
}

/* ---- MTRRs (APM 2 7.7): kept, not acted upon; nested paging decides the memory types ---- */

/* A type in each byte: those of the PAT but for 7, UC- (APM 2 7.6.1). */
static bool types_valid(u64 types) {
	return pat_valid(types) && !(types & types >> 1 & 0x0101010101010101);
}

/* Variable ranges, even: base and type, odd: mask and valid bit; fixed ranges; the default type. */
static int write_mtrr(struct vcpu *vcpu, u32 msr, u64 value) {
	u64 reserved = 0, types = value;

	if (msr < MTRR_FIX64K) {
		reserved = not_frame_bits(vcpu) & (msr & 1 ? ~MTRR_MASK_VALID : ~0xfful);
		types = msr & 1 ? 0 : value & 0xff;
	} else if (msr == MTRR_DEF_TYPE) {
		reserved = ~(0xfful | MTRR_ENABLE_FIXED | MTRR_ENABLE);
		types = value & 0xff;
	}
	if ((value & reserved) || !types_valid(types)) return E_INVAL;
	*kept(vcpu, msr) = value;
	return 0;
}

/* ---- registers that keep some bits and refuse the others ---- */

/* What of such a register may be changed. */
static u64 writable(const struct vcpu *vcpu, u32 msr) {
	u64 frames = ~not_frame_bits(vcpu);

	switch (msr) {
	case 0x17a: /* MCG_STATUS: RIPV, EIPV, MCIP */ return 7;
	case 0x1a0: /* MISC_ENABLE: fast strings */ return BIT(0);
	case 0xc0010010: /* SYSCFG: MTRR fixed enable, variable enable, TOM2 and its type */
		return BIT(18) | BIT(20) | BIT(21) | BIT(22);
	case 0xc0010015: /* HWCR: TlbCacheDis, INVD as WBINVD, FFDIS, IGNNE_EM, McStatusWrEn */
		return BIT(3) | BIT(4) | BIT(6) | BIT(8) | BIT(18);
	case 0xc0010016: /* IORR base: read and write to memory */
	case 0xc0010018: return frames | BIT(3) | BIT(4);
	case 0xc0010017: /* IORR mask: valid */
	case 0xc0010019: return frames | BIT(11);
	case 0xc001001a: /* TOP_MEM, TOM2 */
	case 0xc001001d: return frames & ~(MiB(8) - 1);
	case 0xc001001f: /* NB_CFG: EnableCf8ExtCfg, InitApicIdCpuIdLo */ return BIT(46) | BIT(54);
	case 0xc0010117: /* VM_HSAVE_PA */ return frames;
	default: /* DE_CFG: LFENCE is serializing, and stays so */ return 0;
	}
}

static int write_kept(struct vcpu *vcpu, u32 msr, u64 value) {
	u64 *at = kept(vcpu, msr);

	if ((value ^ *at) & ~writable(vcpu, msr)) return E_INVAL;
	*at = value;
	return 0;
}

/* ---- models and revisions ---- */

/* There are no VM functions where there is no control for them. */
static int read_vmx(struct vcpu *vcpu, u32 msr, u64 *value) {
	*value = vcpu->vm->cpu_model->vmx_msrs[msr - VMX_FEATURE_MSR];
	return msr == VMX_FEATURE_MSR + VMX_FEATURE_VMFUNC && !*value ? E_INVAL : 0;
}

/* LOCK fixes itself and SVMDIS, which cannot be set while SVM is in use (APM 2 15.30.1). */
static int write_vm_cr(struct vcpu *vcpu, u32 msr __unused, u64 value) {
	u64 *vm_cr = &vcpu->msrs->vm_cr, fixed = VM_CR_LOCK | VM_CR_SVMDIS;

	if (value & ~0x1ful) return E_INVAL;
	if (*vm_cr & VM_CR_LOCK) value = (value & ~fixed) | (*vm_cr & fixed);
	if ((value & VM_CR_SVMDIS) && (vcpu_reg(vcpu, VREG_EFER) & X86_EFER_SVME)) return E_INVAL;
	*vm_cr = value;
	return 0;
}

/* Intel: software writes 0 before CPUID to have it reported (SDM 3A 9.11.7.1). AMD: read only. */
static int write_microcode(struct vcpu *vcpu, u32 msr __unused, u64 value __unused) {
	return is_amd(vcpu) ? E_INVAL : 0;
}

/* ---- the table ---- */

/* Ascending: a unit test sees to it. */
const struct msr_range msr_table[MSR_RANGES] = {
	{0x0, 0x1, MSR_ANY, read_zero, write_zero_only},	  /* P5_MC_ADDR, P5_MC_TYPE */
	{0x10, 0x10, MSR_ANY, read_value, write_value},		  /* TSC */
	{0x11, 0x12, MSR_ANY, kvm_pv_msr_read, kvm_pv_msr_write}, /* KVM, old numbers */
	{0x17, 0x17, MSR_INTEL, read_zero, NULL},		  /* PLATFORM_ID */
	{0x1b, 0x1b, MSR_ANY, read_value, write_value},		  /* APIC_BASE */
	{0x3a, 0x3a, MSR_INTEL, read_value, NULL},		  /* FEATURE_CONTROL */
	{0x3b, 0x3b, MSR_ANY, read_value, write_value},		  /* TSC_ADJUST */
	{0x8b, 0x8b, MSR_ANY, read_value, write_microcode},	  /* BIOS_SIGN_ID, PATCH_LEVEL */
	{0xfe, 0xfe, MSR_ANY, read_value, NULL},		  /* MTRRcap */
	{0x174, 0x174, MSR_ANY, read_vreg, write_vreg_low},	  /* SYSENTER_CS */
	{0x175, 0x176, MSR_ANY, read_vreg, write_sysenter},	  /* SYSENTER_ESP, _EIP */
	{0x179, 0x179, MSR_ANY, read_zero, NULL},		  /* MCG_CAP: no banks */
	{0x17a, 0x17a, MSR_ANY, read_kept, write_kept},		  /* MCG_STATUS */
	{0x1a0, 0x1a0, MSR_INTEL, read_kept, write_kept},	  /* MISC_ENABLE */
	{0x1d9, 0x1d9, MSR_ANY, read_zero, write_zero_only},	  /* DEBUGCTL */
	{0x1db, 0x1de, MSR_AMD, read_zero, NULL},		  /* last branch, last interrupt */
	{0x200, 0x20f, MSR_ANY, read_kept, write_mtrr},
	{0x250, 0x250, MSR_ANY, read_kept, write_mtrr}, /* MTRRfix64K */
	{0x258, 0x259, MSR_ANY, read_kept, write_mtrr}, /* MTRRfix16K */
	{0x268, 0x26f, MSR_ANY, read_kept, write_mtrr}, /* MTRRfix4K */
	{0x277, 0x277, MSR_ANY, read_vreg, write_pat},	/* PAT */
	{0x2ff, 0x2ff, MSR_ANY, read_kept, write_mtrr},
	{VMX_FEATURE_MSR, VMX_FEATURE_MSR + VMX_FEATURE_MSRS - 1, MSR_VMX, read_vmx, NULL},
	{MSR_TSC_DEADLINE, MSR_TSC_DEADLINE, MSR_ANY, read_value, write_value},
	{MSR_X2APIC_FIRST, MSR_X2APIC_LAST, MSR_ANY, lapic_msr_read, lapic_msr_write},
	{0xda0, 0xda0, MSR_XSAVES, read_zero, write_zero_only}, /* XSS: no component is offered */
	{MSR_KVM_WALL_CLOCK, MSR_KVM_SYSTEM_TIME, MSR_ANY, kvm_pv_msr_read, kvm_pv_msr_write},
	{MSR_KVM_PV_EOI, MSR_KVM_POLL_CONTROL, MSR_ANY, kvm_pv_msr_read, kvm_pv_msr_write},
	{0xc0000080, 0xc0000080, MSR_ANY, read_vreg, write_value},	    /* EFER */
	{0xc0000081, 0xc0000081, MSR_ANY, read_vreg, write_vreg},	    /* STAR */
	{0xc0000082, 0xc0000083, MSR_ANY, read_vreg, write_vreg_canonical}, /* LSTAR, CSTAR */
	{0xc0000084, 0xc0000084, MSR_ANY, read_vreg, write_vreg_low},	    /* SFMASK */
	{0xc0000100, 0xc0000101, MSR_ANY, read_seg_base, write_seg_base},
	{0xc0000102, 0xc0000102, MSR_ANY, read_vreg, write_vreg_canonical}, /* KernelGSbase */
	{0xc0000103, 0xc0000103, MSR_RDTSCP, read_vreg, write_tsc_aux},
	{0xc0010010, 0xc0010010, MSR_AMD, read_kept, write_kept},  /* SYSCFG */
	{0xc0010015, 0xc001001a, MSR_AMD, read_kept, write_kept},  /* HWCR, IORRs, TOP_MEM */
	{0xc001001d, 0xc001001d, MSR_AMD, read_kept, write_kept},  /* TOM2 */
	{0xc001001f, 0xc001001f, MSR_AMD, read_kept, write_kept},  /* NB_CFG */
	{0xc0010114, 0xc0010114, MSR_AMD, read_kept, write_vm_cr}, /* VM_CR */
	{0xc0010117, 0xc0010117, MSR_SVM, read_kept, write_kept},  /* VM_HSAVE_PA */
	{0xc0010140, 0xc0010140, MSR_AMD, read_value, NULL},	   /* OSVW_ID_LENGTH */
	{0xc0010141, 0xc0010141, MSR_AMD, read_zero, NULL},	   /* OSVW_STATUS */
	{0xc0011029, 0xc0011029, MSR_AMD, read_kept, write_kept},  /* DE_CFG */
};

/* ---- RDMSR and WRMSR: what guests use all the time at once, the rest by a search of the table
 * ---- */

#define X2APIC_MSRS (MSR_X2APIC_LAST - MSR_X2APIC_FIRST + 1)

static bool exists(const struct cpu_model *model, u8 vendor) {
	switch (vendor) {
	case MSR_ANY: return true;
	case MSR_AMD: return model->is_amd;
	case MSR_INTEL: return !model->is_amd;
	case MSR_SVM: return model->has_svm;
	case MSR_VMX: return model->has_vmx;
	case MSR_RDTSCP: return model->has_rdtscp;
	default: return model->has_xsaves;
	}
}

/* The entry whose range holds the MSR and that exists for the VM, or NULL. */
static const struct msr_range *find(struct vcpu *vcpu, u32 msr) {
	u32 low = 0, high = MSR_RANGES;

	while (low < high) {
		u32 mid = (low + high) / 2;
		const struct msr_range *range = &msr_table[mid];

		if (msr > range->last)
			low = mid + 1;
		else if (msr < range->first)
			high = mid;
		else
			return exists(vcpu->vm->cpu_model, range->vendor) ? range : NULL;
	}
	return NULL;
}

int msr_read(struct vcpu *vcpu, u32 msr, u64 *value) {
	if (msr - MSR_X2APIC_FIRST < X2APIC_MSRS) return lapic_msr_read(vcpu, msr, value);
	if (msr == MSR_TSC_ADJUST) {
		*value = vcpu->tsc_adjust;
		return 0;
	}
	const struct msr_range *range = find(vcpu, msr);
	return range ? range->read(vcpu, msr, value) : E_INVAL;
}

int msr_write(struct vcpu *vcpu, u32 msr, u64 value) {
	if (msr - MSR_X2APIC_FIRST < X2APIC_MSRS) return lapic_msr_write(vcpu, msr, value);
	if (msr == MSR_TSC_DEADLINE) {
		lapic_set_deadline(vcpu, value);
		return 0;
	}
	if (msr == MSR_TSC_ADJUST) {
		msr_move_tsc(vcpu, value - vcpu->tsc_adjust);
		return 0;
	}
	const struct msr_range *range = find(vcpu, msr);
	return range && range->write ? range->write(vcpu, msr, value) : E_INVAL;
}

enum outcome msr_read_exit(struct vcpu *vcpu) {
	u64 value;

	if (unlikely(msr_read(vcpu, (u32)vcpu->gpr[RCX], &value))) return inject_gp(vcpu, 0);
	vcpu->gpr[RAX] = (u32)value;
	vcpu->gpr[RDX] = value >> 32;
	return ADVANCE;
}

enum outcome msr_write_exit(struct vcpu *vcpu) {
	u64 value = vcpu->gpr[RDX] << 32 | (u32)vcpu->gpr[RAX];

	if (unlikely(msr_write(vcpu, (u32)vcpu->gpr[RCX], value))) return inject_gp(vcpu, 0);
	return ADVANCE;
}

/* ---- state at reset and as firmware leaves it ---- */

void msr_reset(struct vcpu *vcpu) {
	*vcpu->msrs = (struct msr_state){
		.misc_enable = BIT(0) | BIT(11) | BIT(12), /* fast strings; no BTS, no PEBS */
		.hwcr = BIT(24),			   /* the TSC counts at a constant rate */
		.de_cfg = BIT(1),
		.vm_cr = vcpu->vm->cpu_model->has_svm ? 0 : VM_CR_LOCK | VM_CR_SVMDIS,
	};
	vcpu->tsc_adjust = 0;
}

void msr_firmware_mtrrs(struct vcpu *vcpu, u64 hole_base) {
	struct msr_state *s = vcpu->msrs;
	u64 frames = ~not_frame_bits(vcpu), base = hole_base;

	for (unsigned i = 0; i < MTRR_FIXED; i++) s->mtrr_fixed[i] = 0x0101010101010101ul * MTRR_WB;
	s->mtrr_fixed[2] = 0x0101010101010101ul * MTRR_UC; /* A0000 to BFFFF: VGA */
	for (unsigned n = 0; n < MTRR_VARIABLE && base < GiB(4); n++) {
		u64 size = base & -base; /* the largest block that may start here ends by 4 GiB */

		s->mtrr_variable[2 * n] = base | MTRR_UC;
		s->mtrr_variable[2 * n + 1] = (~(size - 1) & frames) | MTRR_MASK_VALID;
		base += size;
	}
	s->mtrr_def_type = MTRR_ENABLE | MTRR_ENABLE_FIXED | MTRR_WB;
}
