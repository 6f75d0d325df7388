/* What the kernel's run loop asks of the platform (kernel/guest.h). */
#include "kernel/guest.h"

#include "kernel/vcpu.h"
#include "platform/kvm_pv.h"
#include "platform/lapic.h"

void guest_before_events(struct vcpu *vcpu) { kvm_pv_eoi_sync(vcpu); }

void guest_after_accept(struct vcpu *vcpu) { kvm_pv_eoi_offer(vcpu); }

bool guest_take_kick(struct vcpu *vcpu) { return kvm_pv_take_kick(vcpu); }

void guest_clock_update(struct vcpu *vcpu) { kvm_pv_clock_update(vcpu); }

void guest_vcpu_init(struct vcpu *vcpu) {
	lapic_init_reset(vcpu);
	kvm_pv_init(vcpu);
}
