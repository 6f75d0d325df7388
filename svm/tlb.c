/*
 * ASIDs and TLB flushes (APM 2 15.16). An ASID belongs to a CPU. A vCPU keeps its ASID while it
 * stays on its CPU and that CPU has not started a new generation; a flush of one vCPU is a new
 * ASID, or TLB_CONTROL 3 where the CPU can flush by ASID. When the ASIDs of a CPU have run out,
 * everything is flushed and all start anew.
 */
#include "svm/svm.h"

#include "kernel/panic.h"
#include "kernel/vm.h"
#include "lib/string.h"
#include "mm/gmem.h"
#include "mm/ptable.h"
#include "platform/fetch.h"

static void flush(struct vcpu *vcpu, struct svm_tlb *tlb, struct fetch_cache *fetch) {
	tlb->flush = true;
	svm_of(vcpu)->tlb_work = true;
	/* What was found through the old tables is not to be found again. */
	memset(fetch->pages, 0, sizeof(fetch->pages));
}

void svm_tlb_flush_l2(struct vcpu *vcpu) { flush(vcpu, &svm_of(vcpu)->tlb02, vcpu->fetches[1]); }

void svm_tlb_flush(struct vcpu *vcpu) {
	flush(vcpu, &svm_of(vcpu)->tlb01, vcpu->fetches[0]);
	if (svm_of(vcpu)->nested.vmcb02) svm_tlb_flush_l2(vcpu);
}

static void new_asid(struct vmcb *vmcb, struct svm_tlb *tlb, struct svm_cpu *cpu) {
	if (cpu->next_asid >= svm_features.nr_asids) {
		cpu->asid_generation++;
		cpu->next_asid = 1;
		vmcb->tlb_control = TLB_FLUSH_ALL;
	}
	vmcb->asid = cpu->next_asid++;
	tlb->asid_generation = cpu->asid_generation;
}

void svm_tlb_enter(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct svm_tlb *tlb = arch->tlb;
	struct vmcb *vmcb = arch->vmcb;
	struct cpu *cpu = this_cpu();
	struct svm_cpu *svm = cpu->backend_data;
	u64 generation = pt_generation(&vcpu->vm->gmem->pt);
	bool again = svm_nested_tlb_enter(vcpu);

	vmcb->tlb_control = 0;
	if (tlb->asid_cpu != cpu->id || tlb->asid_generation != svm->asid_generation) {
		new_asid(vmcb, tlb, svm);
		tlb->asid_cpu = cpu->id;
	} else if (tlb->flush || tlb->flushed_generation != generation) {
#ifdef ROOST_DEBUG
		if (!tlb->flush)
			panic("vCPU %u entered with nested page tables changed and not flushed",
			      vcpu->id);
#endif
		if (svm_features.flush_by_asid)
			vmcb->tlb_control = TLB_FLUSH_ASID;
		else
			new_asid(vmcb, tlb, svm);
	}
	tlb->flush = false;
	tlb->flushed_generation = generation;
	/* The request to the CPU must not stay for the entry after the next. */
	arch->tlb_work = again || vmcb->tlb_control;
}
