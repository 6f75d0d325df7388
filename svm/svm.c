/* The SVM back end: detection, per-CPU start, creation of vCPUs, the run around entry.S. */
#include "svm/svm.h"

#include "kernel/panic.h"
#include "kernel/vm.h"
#include "lib/log.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gmem.h"
#include "mm/ptable.h"
#include "svm/intercept.h"
#include "svm/quirks.h"

#define CPUID_SVM    0x8000000a
#define VM_CR_SVMDIS BIT(4)

_Static_assert(offsetof(struct vcpu, arch) == 160 && offsetof(struct vcpu, gpr) == 0 &&
		       offsetof(struct svm_vcpu, vmcb_pa) == 0,
	       "entry.S knows these");

struct svm_features svm_features;

static int refuse(const char *why) {
	log_error("%s", why);
	return E_NOSUPP;
}

int svm_probe(const struct options *options __unused) {
	u32 r[4];

	cpuid(0x80000001, 0, r);
	if (!(r[2] & BIT(2))) return refuse("this CPU has no SVM (AMD-V)");
	if (rdmsr(X86_MSR_VM_CR) & VM_CR_SVMDIS)
		return refuse("SVM is disabled by the firmware (VM_CR.SVMDIS): enable it in the "
			      "firmware's set-up");
	cpuid(CPUID_SVM, 0, r);
	if (!(r[3] & BIT(0))) return refuse("this CPU's SVM has no nested paging");
	svm_features = (struct svm_features){
		.nrips = r[3] & BIT(3),
		.flush_by_asid = r[3] & BIT(6),
		.decode_assists = r[3] & BIT(7),
		.pause_filter = r[3] & BIT(10),
		.vmsave = r[3] & BIT(15),
		.vgif = r[3] & BIT(16),
		.tcg = svm_quirk_is_tcg(),
		.nr_asids = r[1],
	};
	if (svm_features.nr_asids < 2) return refuse("this CPU's SVM has no ASID for a guest");
	log_info("SVM: %u ASIDs%s%s%s%s", svm_features.nr_asids, svm_features.nrips ? ", nRIP" : "",
		 svm_features.decode_assists ? ", decode assists" : "",
		 svm_features.flush_by_asid ? ", flush by ASID" : "",
		 svm_features.vgif ? ", virtual GIF" : "");
	return svm_intercept_init();
}

/* EFER.SVME, the host save area (each CPU its own), and what VMLOAD gives back to the host. */
int svm_cpu_on(struct cpu *cpu) {
	void *hsave = page_alloc(PAGE_SIZE);
	void *host = page_alloc(PAGE_SIZE);
	struct svm_cpu *svm = page_alloc(PAGE_SIZE);

	if (!hsave || !host || !svm) return E_NOMEM;
	wrmsr(X86_MSR_EFER, rdmsr(X86_MSR_EFER) | X86_EFER_SVME);
	wrmsr(X86_MSR_VM_HSAVE_PA, virt_to_phys(hsave));
	svm->host_vmcb_pa = virt_to_phys(host);
	svm->next_asid = svm_features.nr_asids; /* the first entry flushes what was there before */
	svm->asid_generation = 1;
	cpu->backend_data = svm;
	svm_vmsave(svm->host_vmcb_pa);
	return 0;
}

void svm_vcpu_destroy(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);

	if (!arch) return;
	fpu_destroy(&arch->fpu);
	svm_nested_destroy(vcpu);
	page_free(arch->vmcb01, PAGE_SIZE);
	page_free(arch, PAGE_SIZE);
	vcpu->arch = NULL;
}

int svm_vcpu_create(struct vcpu *vcpu) {
	struct svm_vcpu *arch = page_alloc(PAGE_SIZE);

	if (!arch) return E_NOMEM;
	vcpu->arch = arch;
	arch->vmcb01 = page_alloc(PAGE_SIZE);
	if (!arch->vmcb01 || fpu_create(&arch->fpu) || svm_nested_create(vcpu)) {
		svm_vcpu_destroy(vcpu);
		return E_NOMEM;
	}
	arch->vmcb01_pa = virt_to_phys(arch->vmcb01);
	arch->tlb01.asid_cpu = arch->tlb02.asid_cpu = ~0u;
	svm_intercept_setup(arch->vmcb01);
	svm_nested_reset(vcpu);
	return 0;
}

void svm_load(struct vcpu *vcpu) { fpu_load(&svm_of(vcpu)->fpu); }

void svm_put(struct vcpu *vcpu) { fpu_put(&svm_of(vcpu)->fpu); }

/*
 * IF is 1 while GIF is 0: with V_INTR_MASKING it is the host's IF that lets physical interrupts
 * end VMRUN (APM 2 15.21.1), and none is taken before STGI, after the host's own TR is back.
 */
void svm_run(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);
	const struct svm_cpu *svm = this_cpu()->backend_data;

	if (!vcpu_prepare(vcpu)) return;
	__asm__ volatile("clgi; sti" : : : "memory");
	svm_vmload(arch->vmcb01_pa);
	arch->entered = true;
	svm_write_back(vcpu);
	svm_tlb_enter(vcpu);
	svm_enter(vcpu, svm_quirk_shadow(vcpu));
	arch->entered = false;
	svm_vmsave(arch->vmcb01_pa);
	svm_vmload(svm->host_vmcb_pa);
	svm_quirk_find_interrupt();
	__asm__ volatile("cli; stgi" : : : "memory");
}

const struct backend svm_backend = {
	BACKEND_ENTRIES(svm, "SVM"),
	.pt_format = &pt_format_npt,
	.exits = svm_exits,
	.nr_exits = SVM_NR_EXITS,
};
