/* What the kernel's run loop asks of the platform (kernel/guest.h). */
#include "kernel/guest.h"

#include "kernel/vm.h"
#include "mm/gmem.h"
#include "platform/gwalk.h"
#include "platform/kvm_pv.h"
#include "platform/lapic_internal.h"

void guest_before_events(struct vcpu *vcpu) { kvm_pv_eoi_sync(vcpu); }

void guest_after_accept(struct vcpu *vcpu) { kvm_pv_eoi_offer(vcpu); }

bool guest_take_kick(struct vcpu *vcpu) { return kvm_pv_take_kick(vcpu); }

void guest_clock_update(struct vcpu *vcpu) { kvm_pv_clock_update(vcpu); }

void guest_vcpu_init(struct vcpu *vcpu) {
	lapic_init_reset(vcpu);
	kvm_pv_init(vcpu);
}

void guest_vcpu_off(struct vcpu *vcpu) { lapic_timer_stop(vcpu->lapic); }

u32 guest_code(struct vcpu *vcpu, u8 *bytes, u32 max) {
	struct segment cs;
	struct gwalk walk;
	struct fault fault;
	gpa_t gpa;

	if (vcpu->l2) return 0; /* where that lies is L1's affair */
	vcpu_segment(vcpu, SEG_CS, &cs);
	gwalk_init(&walk, vcpu);
	gva_t at = vcpu_privilege(vcpu) & PRIV_64BIT ? vcpu->rip : (u32)(cs.base + vcpu->rip);
	u32 n = (u32)min_u64(max, PAGE_SIZE - (at & ~PAGE_MASK));
	if (!gva_canonical(&walk, at, n) || gwalk_translate(&walk, at, ACCESS_FETCH, &gpa, &fault))
		return 0;
	return gmem_read(vcpu->vm->gmem, gpa, bytes, n) ? 0 : n;
}
