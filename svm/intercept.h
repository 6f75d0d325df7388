/* What of the guest's doings exits: the VMCB's intercept words and the permission maps. */
#pragma once

#include "svm/svm.h"

/* Allocates the permission maps, shared by all VMs. Once. 0 or E_NOMEM. */
int svm_intercept_init(void) __must_check;

/* The intercepts every vCPU has. */
void svm_intercept_setup(struct vmcb *vmcb);

/* Writes to CR0 exit, or no longer. */
void svm_intercept_cr0(struct svm_vcpu *arch, bool on);
