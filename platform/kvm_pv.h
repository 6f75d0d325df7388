/*
 * The paravirtual interface that guests know as KVM's: clock, wall clock, EOI without an exit,
 * hypercalls. The ABI is that of Linux Documentation/virt/kvm/x86/{cpuid,msr,hypercalls}.rst; only
 * what is in KVM_PV_FEATURES is offered, and MSRs of the rest do not exist.
 */
#pragma once

#include "kernel/vcpu.h"

/* CPUID 0x40000001 EAX */
#define KVM_FEATURE_CLOCK	 (1u << 0)
#define KVM_FEATURE_NO_IO_DELAY	 (1u << 1)
#define KVM_FEATURE_CLOCK2	 (1u << 3)
#define KVM_FEATURE_PV_EOI	 (1u << 6)
#define KVM_FEATURE_KICK	 (1u << 7)
#define KVM_FEATURE_SEND_IPI	 (1u << 11)
#define KVM_FEATURE_POLL_CONTROL (1u << 12)
#define KVM_FEATURE_CLOCK_STABLE (1u << 24)

#define KVM_PV_FEATURES                                                                          \
	(KVM_FEATURE_CLOCK | KVM_FEATURE_NO_IO_DELAY | KVM_FEATURE_CLOCK2 | KVM_FEATURE_PV_EOI | \
	 KVM_FEATURE_KICK | KVM_FEATURE_SEND_IPI | KVM_FEATURE_POLL_CONTROL |                    \
	 KVM_FEATURE_CLOCK_STABLE)

/* CPUID 0x40000001 EDX: vCPUs are never preempted for long */
#define KVM_HINT_DEDICATED	(1u << 0)

#define MSR_KVM_WALL_CLOCK_OLD	0x11u
#define MSR_KVM_SYSTEM_TIME_OLD 0x12u
#define MSR_KVM_WALL_CLOCK	0x4b564d00u
#define MSR_KVM_SYSTEM_TIME	0x4b564d01u
#define MSR_KVM_PV_EOI		0x4b564d04u
#define MSR_KVM_POLL_CONTROL	0x4b564d05u

/* One vCPU's part; vcpu->pv points to it. Zero-filled is the state after reset. */
struct kvm_pv {
	u64 wall_clock;	   /* MSR value: where the wall clock was last written */
	u64 system_time;   /* MSR value: bit 0 enabled, else the address */
	u64 eoi;	   /* MSR value: bit 0 enabled, else the address */
	u64 no_poll;	   /* 1: Roost is not to poll when the vCPU halts; it never does */
	u32 clock_version; /* even between updates */
	bool eoi_armed;	   /* the flag in guest memory was set and not yet looked at */
	_Atomic bool kicked;
};

/* MSRs above. 0, or E_INVAL for #GP. */
int kvm_pv_msr_read(struct vcpu *vcpu, u32 msr, u64 *value);
int kvm_pv_msr_write(struct vcpu *vcpu, u32 msr, u64 value) __must_check;

/* After vcpu->tsc_offset changed: all vCPUs rewrite their clock (their TSCs may differ now). */
void kvm_pv_tsc_changed(struct vcpu *vcpu);

/*
 * PV EOI. Guest memory holds a flag, set by guest_after_accept() when the highest interrupt in
 * service is edge-triggered and nothing else waits: the guest may clear it instead of writing EOI.
 * kvm_pv_eoi_sync() takes it back, before interrupts are evaluated or an APIC register is accessed.
 */
void kvm_pv_eoi_take(struct vcpu *vcpu);

static inline void kvm_pv_eoi_sync(struct vcpu *vcpu) {
	if (vcpu->pv && unlikely(vcpu->pv->eoi_armed)) kvm_pv_eoi_take(vcpu);
}

/* VMMCALL and VMCALL: number in RAX, arguments in RBX, RCX, RDX, RSI; result in RAX. ADVANCE. */
enum outcome hypercall_exit(struct vcpu *vcpu);
