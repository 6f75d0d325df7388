/*
 * Where Roost works round an emulated machine that differs from the manual: here and nowhere else,
 * but for the places that this names.
 *
 * - QEMU 7.2: MOV to CR3 with reserved bits ends in VMEXIT_INVALID instead of #GP: quirks.c.
 * - QEMU 7.2: no #GP for MOV to CR0 with reserved combinations of bits; the next VMRUN refuses
 * them. There, writes of CR0 exit, and platform/cr.c checks them: intercept.c.
 * - QEMU 7.2: EFER.LME without CR4.PAE across an exit ruins the host: svm_update_efer() in regs.c.
 * - QEMU 7.2: an accessed bit in PAE page-directory-pointer entries: platform/gwalk.c.
 * - QEMU 7.2: virtual interrupts in EXITINTINFO have the type of exceptions: event.c.
 * - QEMU 7.2: VMRUN does not load the interrupt shadow: svm_quirk_shadow().
 * - QEMU 7.2: an injected interrupt may come twice: svm_quirk_inject().
 * - QEMU 7.2: VMRUN with V_IRQ set may lose a physical interrupt: svm_quirk_find_interrupt().
 */
#pragma once

#include "kernel/vcpu.h"

/* True when this machine is QEMU's TCG, for svm_features.tcg. */
bool svm_quirk_is_tcg(void);

/* The event_inj that brings this event once; and the other way round. */
u64 svm_quirk_inject(struct vcpu *vcpu, u64 event);
u64 svm_quirk_injected(struct vcpu *vcpu, u64 event);

/* True when the next entry is to come right behind an STI, for the guest is in a shadow. */
bool svm_quirk_shadow(struct vcpu *vcpu);

/* To be called between an entry with V_IRQ set and a long wait for the next interrupt. */
void svm_quirk_find_interrupt(void);

/* VMEXIT_INVALID: of a guest's CR3 on QEMU, else of the VMCB: L1's fault, or it stops the VM. */
enum outcome svm_exit_invalid(struct vcpu *vcpu);
