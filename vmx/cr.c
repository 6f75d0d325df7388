/* Exits for control registers (SDM 3C 27.2.1, table 27-3): bits that belong to Roost, and CR8. */
#include "kernel/vm.h"
#include "lib/x86.h"
#include "mm/gmem.h"
#include "platform/cpu_model.h"
#include "platform/cr.h"
#include "vmx/vmx.h"

#define NR_PDPTES      4
#define PDPTE_P	       BIT(0)
#define PDPTE_RESERVED 0x1e6ul /* bits 2:1 and 8:5 (SDM 3A table 4-8) */
#define CR3_PAE_MASK   0xffffffe0ul

enum cr_access { ACCESS_TO, ACCESS_FROM, ACCESS_CLTS, ACCESS_LMSW };

bool vmx_pae_paging(struct vcpu *vcpu) {
	return (vmx_reg(vcpu, VREG_CR0) & X86_CR0_PG) && (vmx_reg(vcpu, VREG_CR4) & X86_CR4_PAE) &&
	       !(vmx_reg(vcpu, VREG_EFER) & X86_EFER_LMA);
}

/*
 * What MOV to CR0 and CR4, and a task switch, do in PAE paging: the four page-directory pointers go
 * into registers, which are fields of the VMCS. False: a reserved bit is set, and the MOV has to
 * fault.
 */
bool vmx_load_pdptes(struct vcpu *vcpu) {
	u64 reserved = PDPTE_RESERVED | ~GENMASK(vcpu->vm->cpu_model->phys_bits - 1, 0);
	u64 table[NR_PDPTES];

	if (gmem_read(vcpu->vm->gmem, vmx_reg(vcpu, VREG_CR3) & CR3_PAE_MASK, table, sizeof(table)))
		return false;
	for (unsigned i = 0; i < NR_PDPTES; i++)
		if ((table[i] & PDPTE_P) && (table[i] & reserved)) return false;
	for (unsigned i = 0; i < NR_PDPTES; i++) vmwrite(VMCS_AT(guest_pdpte, i), table[i]);
	return true;
}

static bool wide(struct vcpu *vcpu) { return vmx_privilege(vcpu) & PRIV_64BIT; }

/* A write that the policy allowed is taken back when PAE paging cannot begin with it. */
static enum outcome write_checked(struct vcpu *vcpu, unsigned cr, u64 value, bool lmsw) {
	const struct vmx_level *level = vmx_of(vcpu)->level;
	u64 cr0 = vmx_reg(vcpu, VREG_CR0), cr4 = vmx_reg(vcpu, VREG_CR4);

	/* L1's bits stay, and it does not want to know of this write. */
	if (cr == 0) value = blend(value, level->cr0_l1, cr0);
	if (cr == 4) value = blend(value, level->cr4_l1, cr4);
	if (!vmx_nested_cr_valid(vcpu, cr, value)) return inject_gp(vcpu, 0);
	enum outcome outcome = lmsw ? cr_lmsw(vcpu, (u16)value) : cr_write(vcpu, cr, value);

	if (outcome != ADVANCE || (cr != 0 && cr != 4) || !vmx_pae_paging(vcpu) ||
	    vmx_load_pdptes(vcpu))
		return outcome;
	vmx_set_reg(vcpu, VREG_CR4, cr4);
	vmx_set_reg(vcpu, VREG_CR0, cr0);
	return inject_gp(vcpu, 0);
}

enum outcome vmx_exit_cr(struct vcpu *vcpu) {
	u64 info = vmread(VMCS(qualification));
	unsigned cr = info & 0xf, gpr = info >> 8 & 0xf;
	enum outcome outcome;
	u64 value = 0;

	if (gpr == RSP) vmx_need_rsp(vcpu);
	switch ((enum cr_access)(info >> 4 & 3)) {
	case ACCESS_TO:
		value = wide(vcpu) ? vcpu->gpr[gpr] : (u32)vcpu->gpr[gpr];
		if (cr == 8) return cr_write(vcpu, cr, value);
		return write_checked(vcpu, cr, value, false);
	case ACCESS_FROM:
		outcome = cr_read(vcpu, cr, &value);
		if (outcome == ADVANCE) vcpu->gpr[gpr] = wide(vcpu) ? value : (u32)value;
		return outcome;
	case ACCESS_CLTS: return cr_clts(vcpu);
	default: return write_checked(vcpu, 0, info >> 16 & 0xffff, true);
	}
}
