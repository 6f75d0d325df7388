/*
 * TLB flushes (SDM 3C 28.3), and the ledger of flushes.
 *
 * A VPID tells the translations of L1 from those of its L2 and of Roost. It is the same for all
 * vCPUs: one that comes to a CPU flushes what others have left there (vmx_load()). A change of the
 * nested page tables needs INVEPT; the guest's translations through them go with INVVPID.
 */
#include "kernel/panic.h"
#include "kernel/vm.h"
#include "lib/string.h"
#include "mm/gmem.h"
#include "mm/ptable.h"
#include "platform/fetch.h"
#include "vmx/vmx.h"

#define INV_ONE 1ul /* INVEPT and INVVPID: one context */
#define INV_ALL 2ul /* all of them, but for VPID 0 */

/* INVEPT or INVVPID of an EPT pointer or VPID, or of all where the CPU cannot do one. */
static void invalidate(bool ept, u64 context) {
	u64 one = ept ? EPT_CAP_INVEPT_ONE : VPID_CAP_ONE;
	u64 caps = vmx_cap(&vmx_config.caps, VMX_MSR_EPT_VPID);

	vmx_inv(ept, caps & one ? INV_ONE : INV_ALL, context);
}

static void flush(struct vcpu *vcpu, bool l2) {
	struct fetch_cache *fetch = vcpu->fetches[l2];

	vmx_of(vcpu)->levels[l2].flush = true;
	/* What was found through the old tables is not to be found again. */
	memset(fetch->pages, 0, sizeof(fetch->pages));
}

void vmx_tlb_flush_l2(struct vcpu *vcpu) { flush(vcpu, true); }

void vmx_tlb_flush(struct vcpu *vcpu) {
	flush(vcpu, false);
	if (vmx_of(vcpu)->nested.vmcs12) flush(vcpu, true);
}

void vmx_tlb_enter(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	struct ptable *pt = &vcpu->vm->gmem->pt;
	u64 generation = pt_generation(pt);

	if (unlikely(vcpu->l2)) vmx_nested_tlb_enter(vcpu);
	if (!arch->level->flush && arch->level->flushed_generation == generation) return;
#ifdef ROOST_DEBUG
	if (!arch->level->flush)
		panic("vCPU %u entered with nested page tables changed and not flushed", vcpu->id);
#endif
	if (arch->level->moved || arch->level->flushed_generation != generation)
		invalidate(true, arch->level->eptp);
	/* Without VPIDs every entry and exit does this. */
	if (arch->level->vpid) invalidate(false, arch->level->vpid);
	arch->level->flush = arch->level->moved = false;
	arch->level->flushed_generation = generation;
}
