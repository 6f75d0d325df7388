/* Exit handlers that have files of their own. */
#pragma once

#include "kernel/vcpu.h"

#define SVM_NR_EXITS 0xc6u

/* cr.c: MOV to CR0, CR4, CR8, MOV from CR8, LMSW, CLTS. */
enum outcome svm_exit_cr(struct vcpu *vcpu);
