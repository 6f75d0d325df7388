/*
 * Control registers, EFER and XCR0 as software writes them: the manuals' checks, then the new value
 * and what follows from it (EFER.LMA, TLB flushes). CPL has been checked where MOV CR does before
 * it exits, and the value cut to 32 bits outside of 64-bit mode. Each returns ADVANCE, or INJECTED
 * with #GP(0) or #UD queued and nothing changed.
 */
#pragma once

#include "kernel/vcpu.h"

/* MOV to and from CR0, CR2, CR3, CR4 and CR8; another number is #UD. */
enum outcome cr_write(struct vcpu *vcpu, unsigned nr, u64 value);
enum outcome cr_read(struct vcpu *vcpu, unsigned nr, u64 *value);

enum outcome cr_clts(struct vcpu *vcpu);

/* LMSW: the low four bits of CR0, of which PE cannot be cleared. */
enum outcome cr_lmsw(struct vcpu *vcpu, u16 value);

/* EFER. 0, or E_INVAL, with nothing changed, where WRMSR raises #GP(0). */
int efer_set(struct vcpu *vcpu, u64 value) __must_check;

/* XSETBV, with the index in ECX and the value in EDX:EAX. Checks CPL and CR4.OSXSAVE itself. */
enum outcome xsetbv_exit(struct vcpu *vcpu);
