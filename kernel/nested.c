/* The shadow tables of VMs whose guests are hypervisors, for both back ends; see nested.h. */
#include "kernel/nested.h"

#include "kernel/cpu.h"
#include "kernel/smp.h"
#include "platform/cpu_model.h"

struct shadow *nested_make_shadow(struct vcpu *vcpu, struct shadow_config config) {
	config.nr_vcpus = vcpu->vm->nr_vcpus;
	config.phys_bits = vcpu->vm->cpu_model->phys_bits;
	return shadow_create(vcpu->vm->gmem, &config) ? NULL : nested_shadow(vcpu);
}

void nested_hurry(const struct vcpu *vcpu, struct shadow *sh) {
	u64 late = shadow_laggards(sh);
	const struct vcpu *other;

	for_each_vcpu(other, vcpu->vm)
		if (late >> other->id & 1) smp_kick(cpus[other->cpu]);
}
