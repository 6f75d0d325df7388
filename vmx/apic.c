/*
 * The processor's virtual APIC (SDM 3C 29): the vCPU's page for it, and what of the local APIC's
 * state goes into the VMCS. What is on the page is platform/lapic_virtual.c's.
 *
 * With a TPR shadow alone, the guest moves CR8 without an exit unless something waits for a lower
 * priority. With virtual-interrupt delivery the processor delivers what waits in IRR as soon as the
 * guest can take it, and ends it, without an exit.
 *
 * Of a guest in xAPIC mode, the processor sees accesses to the APIC-access page and takes them to
 * the virtual-APIC page, or exits (29.4). EPT leads to it, which a VM's vCPUs share. To one whose
 * registers are elsewhere or nowhere it is memory: all ones, as where no device answers, and read
 * only, so that a write is an EPT violation, and then one of all vCPUs.
 */
#include "kernel/vm.h"
#include "lib/string.h"
#include "mm/gmem.h"
#include "platform/emulate.h"
#include "platform/lapic.h"
#include "vmx/vmx.h"

#define APIC_PAGE_READ (PT_READ | PT_WB)

hpa_t vmx_apic_access;

int vmx_apic_init(void) {
	void *page = page_alloc(PAGE_SIZE);

	if (!page) return E_NOMEM;
	memset(page, 0xff, PAGE_SIZE);
	vmx_apic_access = virt_to_phys(page);
	return 0;
}

/* EPT has less than before. The other vCPUs may go on with that until they flush. */
static void flush_all(struct vcpu *vcpu) {
	struct vcpu *other;

	vmx_tlb_flush(vcpu);
	for_each_vcpu(other, vcpu->vm)
		if (other != vcpu) vcpu_request(other, REQ_TLB_FLUSH);
}

/* The vCPU's APIC may be in another mode or place than before. */
static __noinline void move_apic(struct vcpu *vcpu) {
	struct lapic *lapic = vcpu->lapic;
	struct ptable *pt = &vcpu->vm->gmem->pt;
	bool usual = lapic->page == LAPIC_BASE_RESET;

	lapic->moved = false;
	vmx_set_apic_mode(lapic->delivers, usual);
	spin_lock(&vcpu->vm->lock);
	vmx_of(vcpu)->usual_apic = usual;
	bool less = !usual && pt_protect(pt, LAPIC_BASE_RESET, PAGE_SIZE, APIC_PAGE_READ) > 0;
	spin_unlock(&vcpu->vm->lock);
	if (less) flush_all(vcpu);
}

/*
 * An L2 that has no EPT of L1's, but a virtual APIC of its own, or another APIC-access page: here
 * it would meet that virtual APIC, or memory that all VMs share.
 */
void vmx_hide_apic(struct vcpu *vcpu) {
	if (likely(vmx_of(vcpu)->hides_apic)) return;
	spin_lock(&vcpu->vm->lock);
	vmx_of(vcpu)->hides_apic = true;
	bool less = pt_protect(&vcpu->vm->gmem->pt, LAPIC_BASE_RESET, PAGE_SIZE, PT_NONE) > 0;
	spin_unlock(&vcpu->vm->lock);
	if (less) flush_all(vcpu);
}

bool vmx_map_apic(struct vcpu *vcpu, gpa_t gpa, u64 info) {
	struct ptable *pt = &vcpu->vm->gmem->pt;
	u32 attrs = APIC_PAGE_READ | PT_WRITE;
	struct vcpu *other;

	if ((gpa & PAGE_MASK) != LAPIC_BASE_RESET || info & EPT_QUAL_FETCH ||
	    !(vmx_config.proc2 & PROC2_APIC_ACCESS))
		return false;
	spin_guard(&vcpu->vm->lock);
	for_each_vcpu(other, vcpu->vm) {
		if (vmx_of(other)->hides_apic) return false;
		if (!vmx_of(other)->usual_apic) attrs = APIC_PAGE_READ;
	}
	if (info & EPT_QUAL_WRITE && !(attrs & PT_WRITE)) return false;
	int err = pt_map(pt, LAPIC_BASE_RESET, vmx_apic_access, PAGE_SIZE, attrs);
	if (err == E_EXIST) err = pt_protect(pt, LAPIC_BASE_RESET, PAGE_SIZE, attrs);
	return err >= 0;
}

static void lend_all(struct vcpu *vcpu) {
	struct lapic_lent *lent = &vmx_of(vcpu)->lent, before = *lent;

	if (vcpu->lapic->lent && !lapic_has_new(vcpu->lapic)) return;
	if (vcpu->lapic->lent) lent->status = (u16)vmread(VMCS(guest_interrupt_status));
	lapic_lend(vcpu, lent);
	vmwrite(VMCS(guest_interrupt_status), lent->status);
	/* The ends of level-triggered interrupts make an exit. */
	for (unsigned i = 0; i < 4; i++)
		vmwrite_new(VMCS_AT(eoi_exits, i), &before.levels[i], lent->levels[i]);
}

/* In which the processor can deliver interrupts. */
static u8 modes(void) {
	u32 proc2 = vmx_config.proc2;

	if (!(proc2 & PROC2_VID)) return 0;
	return (u8)((proc2 & PROC2_APIC_ACCESS ? BIT(LAPIC_XAPIC) : 0) |
		    (proc2 & PROC2_X2APIC ? BIT(LAPIC_X2APIC) : 0));
}

void vmx_lend_apic(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	struct lapic *lapic = vcpu->lapic;

	/* An L2's VMCS has nothing of this; L1's interrupts end it as any exit does. */
	if (vcpu->l2) return;
	if (unlikely(!lapic->vapic)) lapic_set_virtual(vcpu, arch->vapic, modes());
	if (unlikely(lapic->moved)) move_apic(vcpu);
	vcpu->lend = lapic->delivers;
	if (lapic->delivers) {
		lend_all(vcpu);
		if (irq_by_processor(vcpu)) vmx_interrupt_window(vcpu, false);
		return;
	}
	vmwrite_new(VMCS(tpr_threshold), &arch->tpr_threshold, lapic_threshold(lapic));
}

/* The guest's TPR has sunk, and what waits may be delivered now. */
enum outcome vmx_exit_tpr(struct vcpu *vcpu) {
	vcpu->lend = true;
	vcpu_request_self(vcpu, REQ_EVENT);
	return RESUME;
}

/* These two come behind the instruction (29.1.4, 29.4.3.3). */
enum outcome vmx_exit_eoi(struct vcpu *vcpu) {
	lapic_eoi_level(vcpu->lapic, (u8)vmread(VMCS(qualification)));
	return RESUME;
}

enum outcome vmx_exit_apic_write(struct vcpu *vcpu) {
	lapic_virtual_write(vcpu, (u32)vmread(VMCS(qualification)) & 0xfff);
	return RESUME;
}

/* An access that the processor does not virtualize, or one of an L2 without EPT of L1's. */
enum outcome vmx_exit_apic_access(struct vcpu *vcpu) {
	u64 info = vmread(VMCS(qualification)), kind = APIC_KIND(info);

	vmx_take_exit_event(vcpu);
	vmx_need_rsp(vcpu);
	return emulate_mmio(vcpu, LAPIC_BASE_RESET | (info & ~PAGE_MASK), kind == APIC_KIND_WRITE,
			    kind & APIC_PHYSICAL_BIT);
}
