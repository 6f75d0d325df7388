/*
 * L1's EPT for its L2 (SDM 3C 28.2), by the shadow of mm/shadow.h: which root an entry takes, EPT
 * violations of L2, L2's addresses for the emulator, and the flushes that L1 makes.
 */
#include "kernel/nested.h"
#include "mm/gmem.h"
#include "platform/cpu_model.h"
#include "platform/gwalk.h"
#include "vmx/vmx.h"

#define NO_EPTP	       (~0ul)
#define EPTP_FLAGS     0xffful
#define EPTP_WB_4      0x1eul	     /* write-back, four levels */
#define EPTP_LIST      512u	     /* entries */
#define QUAL_RIGHTS    GENMASK(5, 3) /* which the entries grant */
#define QUAL_RIGHTS_AT 3
#define REFUSAL_AT     30 /* in fault->error */

_Static_assert(ACCESS_WRITE == SHADOW_WRITE && ACCESS_FETCH == SHADOW_FETCH &&
		       ACCESS_TABLE == SHADOW_TABLE,
	       "gwalk's accesses are passed on as they are");

static u64 offered(struct vcpu *vcpu) {
	return vcpu->vm->cpu_model->vmx_msrs[VMX_MSR_EPT_VPID - VMX_MSR_FIRST];
}

bool vmx_nested_ept(struct vcpu *vcpu) {
	return vmx_proc2_of(vmx_of(vcpu)->nested.vmcs12) & PROC2_EPT;
}

static u32 vpid_of(const struct vmcs_values *l1) {
	return vmx_proc2_of(l1) & PROC2_VPID ? (u32)l1->vpid : 0;
}

/* ---- what L1 flushes ---- */

bool vmx_eptp_valid(struct vcpu *vcpu, u64 eptp) {
	u64 ad = offered(vcpu) & EPT_CAP_AD ? EPTP_AD : 0;

	return (eptp & EPTP_FLAGS & ~ad) == EPTP_WB_4 && !(eptp >> vcpu->vm->cpu_model->phys_bits);
}

void vmx_nested_flush_ept(struct vcpu *vcpu, const u64 *eptp) {
	struct shadow *sh = nested_shadow(vcpu);

	vmx_tlb_flush_l2(vcpu);
	if (!sh) return;
	if (eptp)
		shadow_flush(sh, *eptp);
	else
		shadow_flush_all(sh);
}

/*
 * All L2s of a vCPU share a VPID of Roost's. Without one of L1's, its own is 0, whose translations
 * go at every entry and exit (SDM 3C 28.3.3.1).
 */
static void use_vpid(struct vcpu *vcpu, u64 eptp) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;
	u32 vpid = vpid_of(n->vmcs12);

	if (!vpid) vmx_tlb_flush(vcpu);
	if (vpid != n->ran_vpid || eptp != n->ran_eptp) vmx_tlb_flush_l2(vcpu);
	n->ran_vpid = vpid;
	n->ran_eptp = eptp;
}

int vmx_nested_use_tables(struct vcpu *vcpu, u64 *eptp) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	u64 wanted = arch->nested.vmcs12->eptp, ad = wanted & EPTP_AD;
	hpa_t root;

	*eptp = arch->level->eptp;
	if (!vmx_nested_ept(vcpu)) {
		use_vpid(vcpu, NO_EPTP);
		return 0;
	}
	struct shadow *sh = nested_shadow(vcpu);
	if (unlikely(!sh)) {
		u64 caps = offered(vcpu);

		sh = nested_make_shadow(
			vcpu, (struct shadow_config){.gbpages = caps & EPT_CAP_1G,
						     .exec_only = caps & EPT_CAP_EXEC_ONLY});
		if (!sh) return E_NOMEM;
	}
	int err = shadow_use(sh, vcpu->id, ad ? SHADOW_EPT_AD : SHADOW_EPT, wanted, &root);
	if (err) {
		nested_hurry(vcpu, sh);
		return err;
	}
	use_vpid(vcpu, wanted);
	*eptp = root | (vmx_config.ept_flags & ~EPTP_AD) | ad;
	return 0;
}

/* EPTP switching is the one function that there is (SDM 3C 25.5.5.3). */
int vmx_nested_switch_eptp(struct vcpu *vcpu) {
	struct vmcs_values *l1 = vmx_of(vcpu)->nested.vmcs12;
	u32 function = (u32)vcpu->gpr[RAX], entry = (u32)vcpu->gpr[RCX];
	u64 old = l1->eptp, eptp;

	if (function || !(l1->vm_functions & VMFUNC_EPTP) || entry >= EPTP_LIST ||
	    gmem_read(vcpu->vm->gmem, l1->eptp_list + entry * sizeof(eptp), &eptp, sizeof(eptp)) ||
	    !vmx_eptp_valid(vcpu, eptp))
		return E_INVAL;
	l1->eptp = eptp;
	int err = vmx_nested_use_tables(vcpu, &eptp);
	if (err)
		l1->eptp = old;
	else
		vmwrite_new(VMCS(eptp), &vmx_of(vcpu)->level->eptp, eptp);
	return err;
}

/* ---- around an entry ---- */

void vmx_nested_tlb_enter(struct vcpu *vcpu) {
	const struct vmx_nested *n = &vmx_of(vcpu)->nested;
	struct vmx_level *level = vmx_of(vcpu)->level;

	if (vmx_nested_ept(vcpu) && shadow_enter(nested_shadow(vcpu), vcpu->id))
		level->flush = level->moved = true;
	if (unlikely(n->tick_from != ~0ul)) vmx_nested_set_tick(n);
}

/* ---- violations and addresses of L2 ---- */

/* For a walk of L1's tables, which may set dirty flags there. */
static struct shadow *shadow_with_log(struct vcpu *vcpu) {
	struct vmcs_values *l1 = vmx_of(vcpu)->nested.vmcs12;
	struct shadow *sh = nested_shadow(vcpu);

	shadow_log(sh, vcpu->id, l1->pml_address,
		   vmx_proc2_of(l1) & PROC2_PML ? &l1->pml_index : NULL);
	return sh;
}

static void reflect(struct vcpu *vcpu, const struct shadow_found *found, u64 info, gpa_t gpa2,
		    bool hardware) {
	static const u32 reasons[] = {[SHADOW_ABSENT] = REASON_EPT_VIOLATION,
				      [SHADOW_RIGHTS] = REASON_EPT_VIOLATION,
				      [SHADOW_RESERVED] = REASON_EPT_MISCONFIG,
				      [SHADOW_LOG_FULL] = REASON_PML_FULL};

	info = found->refusal == SHADOW_LOG_FULL
		       ? info & EPT_QUAL_NMI_UNBLOCKED
		       : (info & ~QUAL_RIGHTS) | (u64)found->rights << QUAL_RIGHTS_AT;
	vmx_nested_leave(vcpu, &(struct vmx_exit_to){.reason = reasons[found->refusal],
						     .hardware = hardware,
						     .qualification = info,
						     .gpa = gpa2});
}

enum outcome vmx_nested_ept_violation(struct vcpu *vcpu) {
	u64 info = vmread(VMCS(qualification));
	gpa_t gpa2 = vmread(VMCS(guest_pa));
	struct shadow_found found;
	u32 access = 0;

	if (!vmx_nested_ept(vcpu))
		return vmx_nested_apic_access(vcpu, gpa2, info)
			       ? RESUME
			       : vmx_handle(vcpu, REASON_EPT_VIOLATION);
	struct shadow *sh = shadow_with_log(vcpu);
	if (info & EPT_QUAL_WRITE) access |= SHADOW_WRITE;
	if (info & EPT_QUAL_FETCH) access |= SHADOW_FETCH;
	if (!(info & EPT_QUAL_LINEAR) || !(info & EPT_QUAL_FINAL)) access |= SHADOW_TABLE;
	switch (shadow_fault(sh, vcpu->id, gpa2, access, &found)) {
	case SHADOW_DEVICE:
		if (vmx_nested_apic_access(vcpu, found.gpa1, info)) return RESUME;
		vmx_resume_delivery(vcpu, info);
		return vmx_ept_device(vcpu, found.gpa1, info);
	case SHADOW_REFLECT: reflect(vcpu, &found, info, gpa2, true); return RESUME;
	case SHADOW_RETRY: nested_hurry(vcpu, sh); break;
	case SHADOW_FIXED: break;
	}
	vmx_resume_delivery(vcpu, info);
	return RESUME;
}

int vmx_l2_translate(struct vcpu *vcpu, gpa_t gpa2, u32 access, gpa_t *gpa1, struct fault *fault) {
	struct shadow_found found;

	*gpa1 = gpa2;
	if (!vmx_nested_ept(vcpu)) return 0;
	struct shadow *sh = shadow_with_log(vcpu);
	access &= SHADOW_WRITE | SHADOW_FETCH | SHADOW_TABLE;
	switch (shadow_translate(sh, vcpu->id, gpa2, access, &found)) {
	case SHADOW_RETRY: nested_hurry(vcpu, sh); return E_BUSY;
	case SHADOW_REFLECT:
		/* Kept until vmx_l2_fault(), in the form of the qualification's low bits. */
		fault->vector = FAULT_NESTED;
		fault->address = gpa2;
		fault->error = access & SHADOW_FETCH   ? EPT_QUAL_FETCH
			       : access & SHADOW_WRITE ? EPT_QUAL_WRITE
						       : EPT_QUAL_READ;
		fault->error |= (u32)found.refusal << REFUSAL_AT | (u32)found.rights
									   << QUAL_RIGHTS_AT;
		return E_FAULT;
	default: *gpa1 = found.gpa1; return 0;
	}
}

/* No linear address goes with it: the qualification does not claim one. */
void vmx_l2_fault(struct vcpu *vcpu, const struct fault *fault) {
	struct shadow_found found = {.refusal = (u8)(fault->error >> REFUSAL_AT),
				     .rights = (u8)(fault->error >> QUAL_RIGHTS_AT & 7)};

	reflect(vcpu, &found, fault->error & (EPT_QUAL_READ | EPT_QUAL_WRITE | EPT_QUAL_FETCH),
		fault->address, false);
}
