/* What the kernel asks of the platform when it takes a vCPU out of service (kernel/guest.h). */
#include "kernel/guest.h"

#include "kernel/vm.h"
#include "mm/gmem.h"
#include "platform/gwalk.h"
#include "platform/lapic_internal.h"
#include "platform/platform.h"

void guest_vcpu_off(struct vcpu *vcpu) { lapic_timer_stop(vcpu->lapic); }

void guest_vcpu_move(struct vcpu *vcpu, u32 cpu) {
	timer_move(&vcpu->lapic->timer.host, cpu);
	if (!vcpu->id) platform_move(vcpu->vm, cpu);
}

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
