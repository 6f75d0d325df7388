/* RDMSR and WRMSR: what guests use all the time at once, the rest by a search of the table. */
#include "platform/msr.h"

#include "kernel/vm.h"
#include "platform/cpu_model.h"
#include "platform/kvm_pv.h"
#include "platform/lapic.h"

#define X2APIC_MSRS (MSR_X2APIC_LAST - MSR_X2APIC_FIRST + 1)

u64 guest_tsc(struct vcpu *vcpu) { return vm_tsc(vcpu->vm, time_tsc()) + vcpu->tsc_offset; }

/* TSC, TSC_ADJUST and the deadline are one unit (SDM 3B 17.17.3). */
void msr_move_tsc(struct vcpu *vcpu, u64 delta) {
	if (!delta) return;
	vcpu->tsc_adjust += delta;
	vcpu_set_tsc_offset(vcpu, vcpu->tsc_offset + delta);
	lapic_tsc_changed(vcpu);
	kvm_pv_tsc_changed(vcpu);
}

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
	u32 low = 0, high = msr_table_len;

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
