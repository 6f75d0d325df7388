/* CPUID as a vCPU sees it: the VM's capability record, plus what depends on the vCPU's state. */
#pragma once

#include "kernel/vcpu.h"

/*
 * Executes CPUID: leaf in EAX, sub-leaf in ECX; writes RAX, RBX, RCX and RDX, upper halves 0.
 * ADVANCE always: CPUID is legal at any privilege level.
 */
enum outcome cpuid_exit(struct vcpu *vcpu);
