/*
 * VPIDs and TLB flushes (SDM 3C 28.3), and the ledger of flushes.
 *
 * Every vCPU has a VPID of its own for life, so its translations are told from all others;
 * afterwards another may have it. A change of the nested page tables needs INVEPT; the guest's
 * translations through them go with INVVPID.
 */
#include "kernel/panic.h"
#include "kernel/vm.h"
#include "lib/string.h"
#include "mm/gmem.h"
#include "mm/ptable.h"
#include "platform/fetch.h"
#include "vmx/vmx.h"

#define LAST_VPID 0xffffu
#define INV_ONE	  1ul /* INVEPT and INVVPID: one context */
#define INV_ALL	  2ul /* all of them, but for VPID 0 */

/* A bit for each VPID in use. The first entry on a CPU flushes what another had (vmx_load()). */
static _Atomic u64 vpids[(LAST_VPID + 1) / 64];

int vmx_new_vpid(struct vmx_level *level) {
	if (!(vmx_config.proc2 & PROC2_VPID)) return 0;
	for (u32 vpid = 1; vpid <= LAST_VPID; vpid++) {
		u64 bit = BIT(vpid % 64);

		if (atomic_fetch_or(&vpids[vpid / 64], bit) & bit) continue;
		level->vpid = (u16)vpid;
		return 0;
	}
	return E_NOMEM;
}

void vmx_free_vpid(struct vmx_level *level) {
	if (level->vpid) atomic_fetch_and(&vpids[level->vpid / 64], ~BIT(level->vpid % 64));
	level->vpid = 0;
}

static void invept(u64 eptp) {
	u64 caps = vmx_cap(&vmx_config.caps, VMX_MSR_EPT_VPID);

	vmx_inv(true, caps & EPT_CAP_INVEPT_ONE ? INV_ONE : INV_ALL, eptp);
}

static void invvpid(u16 vpid) {
	u64 caps = vmx_cap(&vmx_config.caps, VMX_MSR_EPT_VPID);

	vmx_inv(false, caps & VPID_CAP_ONE ? INV_ONE : INV_ALL, vpid);
}

void vmx_tlb_flush_level(struct vcpu *vcpu, struct vmx_level *level, bool l2) {
	struct fetch_cache *fetch = vcpu->fetches[l2];

	level->flush = true;
	/* What was found through the old tables is not to be found again. */
	memset(fetch->pages, 0, sizeof(fetch->pages));
}

void vmx_tlb_flush(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);

	vmx_tlb_flush_level(vcpu, arch->level, vcpu->l2);
	if (arch->other->vmcs) vmx_tlb_flush_level(vcpu, arch->other, !vcpu->l2);
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
		invept(arch->level->eptp);
	/* Without VPIDs every entry and exit does this. */
	if (arch->level->vpid) invvpid(arch->level->vpid);
	arch->level->flush = arch->level->moved = false;
	arch->level->flushed_generation = generation;
}
