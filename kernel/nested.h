/* What the nested halves of both back ends do in the same way with a VM's shadow tables. */
#pragma once

#include "kernel/vm.h"
#include "mm/gmem.h"
#include "mm/shadow.h"

/* The VM's shadow; NULL before its first L2 needed one. */
static inline struct shadow *nested_shadow(const struct vcpu *vcpu) {
	return atomic_load_explicit(&vcpu->vm->gmem->shadow, memory_order_acquire);
}

/* After an exit from L2. */
static inline void nested_left(const struct vcpu *vcpu) {
	struct shadow *sh = nested_shadow(vcpu);

	if (sh) shadow_exit(sh, vcpu->id);
}

/*
 * Makes it, or finds what another vCPU has made meanwhile. Of the configuration the caller says
 * what L1's format has; the VM says the rest. NULL without memory.
 */
struct shadow *nested_make_shadow(struct vcpu *vcpu, struct shadow_config config);

/* Other vCPUs hold what is to be recycled: they leave their L2 for a moment. */
void nested_hurry(const struct vcpu *vcpu, struct shadow *sh);
