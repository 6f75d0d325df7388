/* MSRs as a vCPU sees them: one sorted table names all there are. No host MSR is used. */
#pragma once

#include "kernel/vcpu.h"

#define MSR_TSC_ADJUST 0x3bu

#define MTRR_VARIABLE  8  /* base and mask pairs */
#define MTRR_FIXED     11 /* 64 KiB, two of 16 KiB, eight of 4 KiB */

#define MTRR_UC	       0u
#define MTRR_WB	       6u

/* VM_CR (APM 2 15.30.1) */
#define VM_CR_R_INIT BIT(1)
#define VM_CR_LOCK   BIT(3)
#define VM_CR_SVMDIS BIT(4)

/* MSRs that no hardware holds for the guest; vcpu->msrs points to one of each vCPU. */
struct msr_state {
	u64 mtrr_def_type;
	u64 mtrr_fixed[MTRR_FIXED];
	u64 mtrr_variable[2 * MTRR_VARIABLE]; /* base, mask, base, ... */
	u64 mcg_status;
	u64 misc_enable;		  /* Intel */
	u64 syscfg, hwcr, nb_cfg, de_cfg; /* AMD */
	u64 iorr[4], top_mem, top_mem2;	  /* AMD */
	u64 vm_cr, vm_hsave_pa;		  /* AMD: SVM */
};

/* Values after reset, of this structure and of TSC_ADJUST; INIT changes none of them. */
void msr_reset(struct vcpu *vcpu);

/*
 * MTRRs as firmware leaves them: memory is write-back, but for the VGA window and the hole for
 * devices from hole_base, a multiple of 64 KiB from 1 GiB on, to 4 GiB, as far as eight ranges
 * reach.
 */
void msr_firmware_mtrrs(struct vcpu *vcpu, u64 hole_base);

/* The guest's TSC now. */
u64 guest_tsc(struct vcpu *vcpu);

/* RDMSR and WRMSR at CPL 0: number in ECX, value in EDX:EAX. ADVANCE, or INJECTED with #GP(0). */
enum outcome msr_read_exit(struct vcpu *vcpu);
enum outcome msr_write_exit(struct vcpu *vcpu);

/* The same by value, for other front ends. 0, or E_INVAL where the instruction would fault. */
int msr_read(struct vcpu *vcpu, u32 msr, u64 *value) __must_check;
int msr_write(struct vcpu *vcpu, u32 msr, u64 value) __must_check;

/* ---- the table ---- */

/* Where an MSR exists: everywhere, for one vendor, or with the feature that has it. */
enum msr_vendor { MSR_ANY, MSR_AMD, MSR_INTEL, MSR_SVM, MSR_VMX, MSR_RDTSCP, MSR_XSAVES };

struct msr_range {
	u32 first, last; /* both inclusive */
	u8 vendor;	 /* enum msr_vendor */
	int (*read)(struct vcpu *vcpu, u32 msr, u64 *value);
	int (*write)(struct vcpu *vcpu, u32 msr, u64 value); /* NULL: read only, writes are #GP */
};

#define MSR_RANGES 44
extern const struct msr_range msr_table[MSR_RANGES];

/* Moves the guest's TSC by delta (modulo 2^64), and TSC_ADJUST and the deadline timer with it. */
void msr_move_tsc(struct vcpu *vcpu, u64 delta);
