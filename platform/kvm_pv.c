/*
 * KVM's paravirtual interface (Linux Documentation/virt/kvm/x86/msr.rst and hypercalls.rst).
 *
 * Addresses come from the guest and are looked up anew at each use: one that is not RAM, or whose
 * structure crosses a page, makes the feature silent, as it is on KVM.
 */
#include "platform/kvm_pv.h"

#include "platform/cpu_model.h"
#include "platform/lapic.h"
#include "mm/gmem.h"

/* ---- clock ---- */

#define ENABLED		 1u /* bit 0 of the MSRs that hold an address */

#define CLOCK_TSC_STABLE 1u /* flags: the clocks of all vCPUs agree */

/*
 * struct pvclock_vcpu_time_info: 32 bytes, aligned to 4 only, so it is written in words of 4. Word
 * 0 is the version, 4 and 5 are the time, 0 here; the last has s8 shift, u8 flags and padding.
 */
enum { CLOCK_TSC_LOW = 2, CLOCK_TSC_HIGH, CLOCK_MUL = 6, CLOCK_SHIFT_FLAGS, CLOCK_WORDS };

/* struct pvclock_wall_clock: version, seconds, nanoseconds. */
#define WALL_WORDS 3

/* ns = (ticks << shift) * mul / 2^32: a negative shift goes right, and mul is in [2^31, 2^32). */
static u32 clock_factor(u64 khz, s8 *shift) {
	u64 num = 1000000, den = khz;

	*shift = 0;
	while (num >= den) {
		den <<= 1;
		++*shift;
	}
	while (num << 1 < den) {
		num <<= 1;
		--*shift;
	}
	return (u32)((num << 32) / den);
}

static void store_word(_Atomic u32 *word, u32 value) {
	atomic_store_explicit(word, value, memory_order_relaxed);
}

/* Word 0 is a version, odd while the others change, so that a reader elsewhere starts again. */
static void publish(_Atomic u32 *to, const u32 *from, unsigned words, u32 version) {
	store_word(&to[0], version | 1);
	atomic_thread_fence(memory_order_release);
	for (unsigned i = 1; i < words; i++) store_word(&to[i], from[i]);
	atomic_store_explicit(&to[0], (version | 1) + 1, memory_order_release);
}

/* Guest code reads vCPU 0's structure on any vCPU when told that all agree, so their TSCs must. */
static bool tscs_agree(struct vm *vm) {
	u64 first = __atomic_load_n(&vm->vcpus[0]->tsc_offset, __ATOMIC_RELAXED);
	struct vcpu *vcpu;

	for_each_vcpu(vcpu, vm)
		if (__atomic_load_n(&vcpu->tsc_offset, __ATOMIC_RELAXED) != first) return false;
	return true;
}

/* An address from an MSR with its enable bit; NULL when there is nothing to write to. */
static void *structure(struct vcpu *vcpu, u64 msr, size_t len) {
	if (!(msr & ENABLED) || (msr & 2)) return NULL;
	return gmem_ptr_write(vcpu->vm->gmem, msr & ~(u64)ENABLED, len);
}

/* Time is a function of the host TSC: it drifts nowhere, and changes with the TSC offset only. */
void guest_clock_update(struct vcpu *vcpu) {
	struct kvm_pv *pv = vcpu->pv;
	_Atomic u32 *to = structure(vcpu, pv->system_time, CLOCK_WORDS * sizeof(u32));
	u64 start = vm_tsc(vcpu->vm, vcpu->vm->boot_tsc) + vcpu->tsc_offset;
	u32 words[CLOCK_WORDS] = {
		[CLOCK_TSC_LOW] = (u32)start, [CLOCK_TSC_HIGH] = (u32)(start >> 32)};
	u32 flags = tscs_agree(vcpu->vm) ? CLOCK_TSC_STABLE : 0;
	s8 shift;

	if (!to) return;
	words[CLOCK_MUL] = clock_factor(vcpu->vm->cpu_model->tsc_khz, &shift);
	words[CLOCK_SHIFT_FLAGS] = (u8)shift | flags << 8;
	publish(to, words, CLOCK_WORDS, pv->clock_version);
	pv->clock_version = (pv->clock_version | 1) + 1;
}

void kvm_pv_tsc_changed(struct vcpu *changed) {
	struct vcpu *vcpu;

	for_each_vcpu(vcpu, changed->vm)
		if (vcpu != changed) vcpu_request(vcpu, REQ_CLOCK);
	if (changed->pv->system_time & ENABLED) guest_clock_update(changed);
}

/* The time of day at which the VM started; the guest adds its clock to it. */
static void write_wall_clock(struct vcpu *vcpu, gpa_t gpa) {
	_Atomic u32 *to = structure(vcpu, gpa | ENABLED, WALL_WORDS * sizeof(u32));
	u64 since_start = tsc_to_ns(time_tsc() - vcpu->vm->boot_tsc);
	u64 start = platform_wall_clock_ns() - since_start;
	u32 words[WALL_WORDS] = {0, (u32)(start / 1000000000), (u32)(start % 1000000000)};

	if (to) publish(to, words, WALL_WORDS, atomic_load_explicit(&to[0], memory_order_relaxed));
}

/* ---- EOI ---- */

/* True when ending the interrupt in service has no effect beyond the APIC's own ISR. */
static bool eoi_is_silent(struct lapic *lapic) {
	u32 vector = lapic_in_service(lapic);

	if (!vector || lapic_has_new(lapic)) return false;
	return !(atomic_load_explicit(&lapic->tmr[vector / 64], memory_order_relaxed) &
		 BIT(vector % 64));
}

static u8 *eoi_flag(struct vcpu *vcpu) { return structure(vcpu, vcpu->pv->eoi, sizeof(u32)); }

void guest_before_events(struct vcpu *vcpu) { kvm_pv_eoi_sync(vcpu); }

void guest_after_accept(struct vcpu *vcpu) {
	struct kvm_pv *pv = vcpu->pv;

	if (!pv || !(pv->eoi & ENABLED) || pv->eoi_armed || !eoi_is_silent(vcpu->lapic)) return;
	u8 *flag = eoi_flag(vcpu);
	if (!flag) return;
	__atomic_fetch_or(flag, 1, __ATOMIC_RELAXED);
	pv->eoi_armed = true;
}

/* A flag that has become unreadable counts as still set: the guest will write EOI itself. */
void kvm_pv_eoi_take(struct vcpu *vcpu) {
	u8 *flag = eoi_flag(vcpu);

	vcpu->pv->eoi_armed = false;
	if (flag && !(__atomic_fetch_and(flag, 0xfe, __ATOMIC_RELAXED) & 1)) lapic_eoi(vcpu);
}

/* ---- MSRs ---- */

/* INIT: PV EOI is off again, as its consumer, the APIC, is reset; clocks stay. */
void guest_vcpu_init(struct vcpu *vcpu) {
	lapic_init_reset(vcpu);
	vcpu->pv->eoi = 0;
	vcpu->pv->eoi_armed = false;
	atomic_store(&vcpu->pv->kicked, false);
}

static u64 *msr_value(struct kvm_pv *pv, u32 msr) {
	switch (msr) {
	case MSR_KVM_WALL_CLOCK_OLD:
	case MSR_KVM_WALL_CLOCK: return &pv->wall_clock;
	case MSR_KVM_SYSTEM_TIME_OLD:
	case MSR_KVM_SYSTEM_TIME: return &pv->system_time;
	case MSR_KVM_POLL_CONTROL: return &pv->no_poll;
	default: return &pv->eoi;
	}
}

int kvm_pv_msr_read(struct vcpu *vcpu, u32 msr, u64 *value) {
	*value = *msr_value(vcpu->pv, msr) ^ (msr == MSR_KVM_POLL_CONTROL);
	return 0;
}

int kvm_pv_msr_write(struct vcpu *vcpu, u32 msr, u64 value) {
	struct kvm_pv *pv = vcpu->pv;
	u64 *at = msr_value(pv, msr);

	if ((at == &pv->eoi && value & 2) || (at == &pv->no_poll && value > 1)) return E_INVAL;
	if (at == &pv->eoi) kvm_pv_eoi_sync(vcpu);
	*at = value ^ (at == &pv->no_poll);
	if (at == &pv->wall_clock) write_wall_clock(vcpu, value);
	if (at == &pv->system_time) guest_clock_update(vcpu);
	return 0;
}

/* ---- hypercalls ---- */

enum hypercall { HC_POLL_IRQ = 1, HC_KICK_CPU = 5, HC_SEND_IPI = 10 };

/* Negative results, with the numbers that Linux gives them. */
#define HC_EPERM	  (-1l)
#define HC_EINVAL	  (-22l)
#define HC_ENOSYS	  (-1000l)

#define ICR_DELIVERY(icr) ((u8)((icr) >> 8 & 7))
#define ICR_LOGICAL	  BIT(11)
#define ICR_SHORTHAND	  (BIT(18) | BIT(19))

enum { DELIVERY_FIXED = 0, DELIVERY_NMI = 4 };

/* RCX: the APIC id, which is the vCPU's number. One that does not exist is nobody's concern. */
static s64 kick_cpu(struct vcpu *vcpu, u64 apic_id) {
	if (apic_id >= vcpu->vm->nr_vcpus) return 0;
	struct vcpu *target = vcpu->vm->vcpus[apic_id];
	atomic_store_explicit(&target->pv->kicked, true, memory_order_release);
	vcpu_request(target, REQ_EVENT);
	return 0;
}

/*
 * RBX and RCX: a bitmap of destinations, the first of which has the APIC id in RDX; 64 bits each,
 * or 32 from a 32-bit caller. RSI: the low half of the ICR. Returns how many APICs took it.
 *
 * The walk is over the vCPUs that exist, never over what the guest claims: no id can lead outside.
 */
static __noinline s64 send_ipi(struct vcpu *vcpu, u64 mask, unsigned map_bits) {
	u64 map[2] = {vcpu->gpr[RBX] & mask, vcpu->gpr[RCX] & mask}, icr = vcpu->gpr[RSI] & mask;
	u32 first = (u32)vcpu->gpr[RDX];
	struct apic_msg msg = {.vector = (u8)icr, .delivery = ICR_DELIVERY(icr), .assert = true};
	s64 taken = 0;

	if (icr & (ICR_LOGICAL | ICR_SHORTHAND)) return HC_EINVAL;
	if (msg.delivery != DELIVERY_FIXED && msg.delivery != DELIVERY_NMI) return HC_EINVAL;
	for (u32 id = first; id < vcpu->vm->nr_vcpus; id++) {
		u32 bit = id - first;

		if (bit >= 2 * map_bits) break;
		if (!(map[bit / map_bits] >> bit % map_bits & 1)) continue;
		msg.dest = id;
		taken += apic_send(vcpu->vm, &msg);
	}
	return taken;
}

bool guest_take_kick(struct vcpu *vcpu) {
	return vcpu->pv && atomic_load_explicit(&vcpu->pv->kicked, memory_order_relaxed) &&
	       atomic_exchange_explicit(&vcpu->pv->kicked, false, memory_order_acquire);
}

static s64 dispatch(struct vcpu *vcpu, u64 nr, bool wide) {
	u64 mask = wide ? ~0ul : UINT32_MAX;

	switch (nr) {
	case HC_POLL_IRQ: return 0; /* the exit was all the guest wanted */
	case HC_KICK_CPU: return kick_cpu(vcpu, vcpu->gpr[RCX] & mask);
	case HC_SEND_IPI: return send_ipi(vcpu, mask, wide ? 64 : 32);
	default: return HC_ENOSYS;
	}
}

enum outcome hypercall_exit(struct vcpu *vcpu) {
	u32 privilege = vcpu_privilege(vcpu);
	bool wide = privilege & PRIV_64BIT;
	u64 nr = wide ? vcpu->gpr[RAX] : (u32)vcpu->gpr[RAX];
	s64 result = privilege & PRIV_CPL ? HC_EPERM : dispatch(vcpu, nr, wide);

	vcpu->gpr[RAX] = wide ? (u64)result : (u32)result;
	return ADVANCE;
}
