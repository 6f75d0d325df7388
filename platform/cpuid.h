/* CPUID as a vCPU sees it: the VM's capability record, plus what depends on the vCPU's state. */
#pragma once

#include "kernel/vcpu.h"

/* Leaf in EAX, sub-leaf in ECX; writes RAX to RBX, upper halves 0. ADVANCE always, at any CPL. */
enum outcome cpuid_exit(struct vcpu *vcpu);
