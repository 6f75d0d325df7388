/* What of the guest's doings exits: the VMCB's intercept words and the permission maps. */
#pragma once

#include "svm/svm.h"

#define SVM_PAUSE_COUNT 3000 /* PAUSEs of a guest until one exits */

#define IOPM_SIZE	(3 * PAGE_SIZE)
#define MSRPM_SIZE	(2 * PAGE_SIZE)

/* Allocates the permission maps, shared by all VMs. Once. 0 or E_NOMEM. */
int svm_intercept_init(void) __must_check;

/* The intercepts every vCPU has. */
void svm_intercept_setup(struct vmcb *vmcb);

/* What of an MSR's accesses exits: the first of its two bits, RDMSR's; -1: all of them. */
int svm_msr_bit(u32 msr);

/*
 * The map for an L2: whatever Roost or L1 wants to see exits. l1 is L1's map, of which one page is
 * read, NULL for one that is not in memory; to, MSRPM_SIZE bytes, has been filled with ones once.
 */
void svm_msrpm_merge(u8 *to, const u8 *l1);

/* Writes to CR0 exit, or no longer. */
void svm_intercept_cr0(struct svm_vcpu *arch, bool on);
