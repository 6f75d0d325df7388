/* Where an intercepted instruction ends, on CPUs with and without nRIP. */
#pragma once

#include "kernel/vcpu.h"

/*
 * RIP behind the instruction that exited; from the VMCB where the CPU saves it, else by reading the
 * instruction. When it cannot be read (another vCPU changed it meanwhile) RIP itself: the guest
 * then executes what is there now.
 */
u64 svm_next_rip(struct vcpu *vcpu);
