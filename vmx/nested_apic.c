/*
 * The virtual APIC that L1 gives its L2 (SDM 3C 29): the processor's own, in VMCS 02, on the pages
 * of L1's memory that VMCS 12 names. RAM does not move while a VM runs, so an address is good until
 * L1 names another.
 *
 * A virtual-APIC page that is no RAM is a page of Roost's for this vCPU alone. An APIC-access page
 * that is none has no translation, and the EPT violation becomes the exit of L1's.
 */
#include "kernel/vm.h"
#include "lib/string.h"
#include "lib/x86.h"
#include "mm/gmem.h"
#include "vmx/vmx.h"

#define VTPR	      0x80u
#define VIRTUAL_APIC  (PROC2_APIC_ACCESS | PROC2_X2APIC | PROC2_APIC_REGS | PROC2_VID)
#define CLASS(vector) ((vector)&0xf0u)

static hpa_t page_of(struct vcpu *vcpu, gpa_t gpa, hpa_t otherwise) {
	unsigned shift;
	hpa_t hpa;

	return gmem_find(vcpu->vm->gmem, gpa, &hpa, &shift) ? hpa : otherwise;
}

static u8 vtpr_of(struct vcpu *vcpu) {
	u8 vtpr;

	if (gmem_read(vcpu->vm->gmem, vmx_of(vcpu)->nested.vmcs12->virtual_apic + VTPR, &vtpr, 1))
		return 0xff;
	return vtpr;
}

/* What the CPU remembers of accesses to one APIC-access page is not for another (28.3.3.4). */
static void use_access_page(struct vcpu *vcpu, hpa_t page) {
	struct vmx_vcpu *arch = vmx_of(vcpu);

	if (likely(arch->nested.apic_access == page)) return;
	arch->nested.apic_access = page;
	if (page) vmwrite(VMCS(apic_access), page);
	vmx_tlb_flush_l2(vcpu);
	arch->level->moved = true;
}

u64 vmx_nested_merge_apic(struct vcpu *vcpu) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;
	const struct vmcs_values *l1 = n->vmcs12;
	u64 proc2 = vmx_proc2_of(l1) & VIRTUAL_APIC, own = vmx_config.proc2 & PROC2_APIC_ACCESS;
	bool shadow = l1->proc_controls & PROC_TPR_SHADOW;

	/* Such an L2 is in L1's own local APIC, each access to which exits. */
	if (likely(!shadow && !proc2)) {
		use_access_page(vcpu, own ? vmx_apic_access : 0);
		return own;
	}
	if (!vmx_nested_ept(vcpu)) vmx_hide_apic(vcpu);
	use_access_page(vcpu, proc2 & PROC2_APIC_ACCESS
				      ? page_of(vcpu, l1->apic_access, vmx_apic_access)
				      : 0);
	if (shadow) {
		vmwrite(VMCS(virtual_apic),
			page_of(vcpu, l1->virtual_apic, virt_to_phys(n->msr_map + PAGE_SIZE)));
		vmwrite(VMCS(tpr_threshold), l1->tpr_threshold);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(l1->eoi_exits) && proc2 & PROC2_VID; i++)
		vmwrite(VMCS_AT(eoi_exits, i), l1->eoi_exits[i]);
	return proc2;
}

bool vmx_nested_threshold_kept(struct vcpu *vcpu) {
	const struct vmcs_values *l1 = vmx_of(vcpu)->nested.vmcs12;

	return vmx_proc2_of(l1) & (PROC2_VID | PROC2_APIC_ACCESS) ||
	       (l1->tpr_threshold & 0xf) <= vtpr_of(vcpu) >> 4;
}

bool vmx_nested_refused(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);

	if (!vcpu->l2 || !(arch->level->proc & PROC_TPR_SHADOW) ||
	    arch->nested.merged.proc2 & (PROC2_VID | PROC2_APIC_ACCESS))
		return false;
	/* It may have been launched before, or not. */
	vmx_vmclear(arch->level->vmcs_pa);
	vmx_vmptrld(arch->level->vmcs_pa);
	vmx_nested_leave(vcpu, &(struct vmx_exit_to){
				       .reason = (u32)(REASON_BAD_STATE | REASON_ENTRY_FAILED)});
	return true;
}

/* SDM 3C 29.2.1. */
bool vmx_nested_interrupt_waits(struct vcpu *vcpu) {
	if (!(vmx_of(vcpu)->nested.merged.proc2 & PROC2_VID) || !(vcpu->rflags & X86_RFLAGS_IF))
		return false;
	u64 status = vmread(VMCS(guest_interrupt_status));
	return CLASS(status) > max_u64(CLASS(status >> 8), CLASS(vtpr_of(vcpu)));
}

bool vmx_nested_apic_access(struct vcpu *vcpu, gpa_t gpa, u64 info) {
	const struct vmcs_values *l1 = vmx_of(vcpu)->nested.vmcs12;
	bool event = vmread(VMCS(vectoring_event)) & EVENT_VALID;
	u64 kind = info & EPT_QUAL_FETCH   ? APIC_KIND_FETCH
		   : info & EPT_QUAL_WRITE ? APIC_KIND_WRITE
					   : APIC_KIND_READ;

	if (!(vmx_proc2_of(l1) & PROC2_APIC_ACCESS) || (gpa & PAGE_MASK) != l1->apic_access ||
	    gmem_ptr(vcpu->vm->gmem, gpa, 1))
		return false;
	if (event) kind = APIC_KIND_EVENT;
	if (!(info & EPT_QUAL_FINAL)) kind = event ? APIC_PHYSICAL_EVENT : APIC_PHYSICAL;
	vmx_nested_leave(vcpu, &(struct vmx_exit_to){.reason = REASON_APIC_ACCESS,
						     .hardware = true,
						     .qualification = (gpa & ~PAGE_MASK) |
								      kind << APIC_KIND_SHIFT});
	return true;
}

void vmx_nested_log_apic(struct vcpu *vcpu) {
	const struct vmcs_values *l1 = vmx_of(vcpu)->nested.vmcs12;

	if (l1->proc_controls & PROC_TPR_SHADOW)
		(void)gmem_ptr_write(vcpu->vm->gmem, l1->virtual_apic, 1);
}
