/*
 * VMCS shadowing (SDM 3C 24.10): the processor carries out L1's VMREAD and VMWRITE of a few fields
 * by itself, on a shadow VMCS. Those are what a hypervisor looks at or changes at most of its
 * exits; each more costs every change of level. From an exit to L1 on they are there, and at the
 * next entry what L1 may have written comes back to VMCS 12.
 */
#include "lib/string.h"
#include "mm/direct.h"
#include "mm/frame.h"
#include "vmx/vmx.h"

/* Told of an exit; and changed before an entry. */
#define INFO_FIELDS(F) \
	F(exit_reason) \
	F(exit_event)  \
	F(exit_error)  \
	F(vectoring_event) F(instruction_length) F(qualification) F(guest_pa) F(pml_index)
#define ENTRY_FIELDS(F) \
	F(guest_rip)    \
	F(guest_rsp) F(guest_rflags) F(guest_shadow) F(entry_event) F(proc_controls) F(tick)

static u8 *maps; /* for VMREAD, for VMWRITE; NULL: no shadowing */

#define PASS_READ(name)	 maps[VMCS_##name / 8] &= (u8)~BIT(VMCS_##name % 8);
#define PASS_WRITE(name) maps[PAGE_SIZE + VMCS_##name / 8] &= (u8)~BIT(VMCS_##name % 8);
#define PUT(name)	 vmwrite(VMCS(name), v->name);
#define GET(name)                                          \
	value = vmread(VMCS(name));                        \
	if (value != v->name) {                            \
		v->name = value;                           \
		vmcs_mask_set(&n->dirty, VMCS_WORD(name)); \
	}

int vmx_shadow_init(void) {
	if (!(vmx_config.proc2 & PROC2_SHADOW_VMCS)) return 0;
	maps = page_alloc(2 * PAGE_SIZE);
	if (!maps) return E_NOMEM;
	memset(maps, 0xff, 2 * PAGE_SIZE);
	INFO_FIELDS(PASS_READ)
	ENTRY_FIELDS(PASS_READ)
	/* The processor may not have this one. */
	if (!(vmx_config.proc2 & PROC2_PML))
		maps[VMCS_pml_index / 8] |= (u8)BIT(VMCS_pml_index % 8);
	ENTRY_FIELDS(PASS_WRITE)
	return 0;
}

int vmx_shadow_create(struct vcpu *vcpu) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;

	if (!maps) return 0;
	n->shadow = page_alloc(PAGE_SIZE);
	if (!n->shadow) return E_NOMEM;
	*n->shadow = BASIC_REVISION(vmx_cap(&vmx_config.caps, VMX_MSR_BASIC)) | SHADOW_VMCS;
	vmx_vmclear(virt_to_phys(n->shadow));
	vmx_borrow(vcpu);
	vmwrite(VMCS(vmread_bitmap), virt_to_phys(maps));
	vmwrite(VMCS(vmwrite_bitmap), virt_to_phys(maps + PAGE_SIZE));
	return 0;
}

void vmx_shadow_use(struct vcpu *vcpu, bool on) {
	const u32 *shadow = vmx_of(vcpu)->nested.shadow;

	if (!shadow) return;
	vmx_borrow(vcpu);
	u64 proc2 = vmread(VMCS(proc2_controls)) & ~PROC2_SHADOW_VMCS;
	vmwrite(VMCS(proc2_controls), on ? proc2 | PROC2_SHADOW_VMCS : proc2);
	vmwrite(VMCS(link), on ? virt_to_phys(shadow) : ~0ul);
}

void vmx_shadow_put(struct vcpu *vcpu) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;
	const struct vmcs_values *v = n->vmcs12;

	if (!n->shadow) return;
	vmx_vmptrld(virt_to_phys(n->shadow));
	INFO_FIELDS(PUT)
	ENTRY_FIELDS(PUT)
	vmx_vmptrld(vmx_of(vcpu)->level->vmcs_pa);
}

void vmx_shadow_get(struct vcpu *vcpu) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;
	struct vmcs_values *v = n->vmcs12;
	u64 value;

	if (!n->shadow) return;
	vmx_vmptrld(virt_to_phys(n->shadow));
	ENTRY_FIELDS(GET)
	vmx_vmptrld(vmx_of(vcpu)->level->vmcs_pa);
}
