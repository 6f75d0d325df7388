/*
 * What a vCPU keeps in the CPU between exits and gives up only to another vCPU, the same for every
 * back end: x87 and vector state, XCR0, debug registers 0 to 3, TSC_AUX.
 *
 * All functions but create and destroy: on the CPU that holds the registers, or for a vCPU whose
 * registers no CPU holds.
 */
#pragma once

#include "lib/types.h"

struct guest_fpu {
	void *image; /* XSAVE image */
	u64 dr[4];
	u64 tsc_aux;
	u64 xcr0;
	bool loaded; /* between fpu_load() and fpu_put(): the CPU holds all of these */
};

/* Takes XSAVEC out of cpu_features where it is not as the manual says. Before there is a guest. */
void fpu_check(void);

/* The image, in the state after RESET but for fpu_reset(). 0, E_NOMEM, or E_NOSUPP: too large. */
int fpu_create(struct guest_fpu *fpu) __must_check;
void fpu_destroy(struct guest_fpu *fpu);

/* Values after RESET, of all but the debug registers. While not loaded. */
void fpu_reset(struct guest_fpu *fpu);

/* The CPU's registers become this guest's, or are saved back. Interrupts off. */
void fpu_load(struct guest_fpu *fpu);
void fpu_put(struct guest_fpu *fpu);

/* INIT: the debug registers become 0. */
void fpu_clear_debug(struct guest_fpu *fpu);

u64 fpu_tsc_aux(const struct guest_fpu *fpu);
void fpu_set_tsc_aux(struct guest_fpu *fpu, u64 value);
u64 fpu_xcr0(const struct guest_fpu *fpu);
void fpu_set_xcr0(struct guest_fpu *fpu, u64 value);
