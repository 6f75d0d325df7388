/*
 * Messages between local APICs: who is meant, and what each delivery mode does to them (SDM
 * 3A 10.6, 10.12.9, 10.12.10). A destination is any 32-bit value a guest can think of: it is
 * compared with the vCPUs that exist, and never indexes anything unchecked.
 */
#include "platform/lapic_internal.h"

#define DEST_BROADCAST 0xffffffffu

/* ICR fields. */
#define ICR_LOGICAL	   BIT32(11)
#define ICR_ASSERT	   BIT32(14)
#define ICR_LEVEL	   BIT32(15)
#define ICR_SHORTHAND(icr) ((icr) >> 18 & 3)

enum shorthand { TO_DEST, TO_SELF, TO_ALL, TO_OTHERS };

_Static_assert(VM_MAX_VCPUS <= 64, "a set of vCPUs is one 64-bit mask, ids are below 255");

static u64 all_vcpus(const struct vm *vm) { return vm->nr_vcpus ? ~0ul >> (64 - vm->nr_vcpus) : 0; }

/* Logical destination against one local APIC (SDM 3A 10.6.2.2, 10.12.10.2). */
static bool match_logical(struct lapic *lapic, u32 dest) {
	u32 ldr = load_relaxed(&lapic->ldr);

	if (load_relaxed(&lapic->mode) == LAPIC_X2APIC)
		return dest >> 16 == ldr >> 16 && dest & ldr & 0xffff;
	if (load_relaxed(&lapic->mode) == LAPIC_DISABLED || dest > 0xff) return false;
	ldr >>= 24;
	switch (load_relaxed(&lapic->dfr) >> 28) {
	case 0xf: /* flat */ return dest & ldr;
	case 0: /* cluster; 15 is every cluster */
		return (dest >> 4 == ldr >> 4 || dest >> 4 == 0xf) && dest & ldr & 0xf;
	default: return false;
	}
}

/* The vCPUs that a destination names, as a mask of their numbers. */
static u64 destination_set(const struct vm *vm, u32 dest, bool logical) {
	u64 set = 0;

	if (dest == DEST_BROADCAST) return all_vcpus(vm);
	if (!logical) return dest < vm->nr_vcpus ? BIT(dest) : 0;
	for (u32 id = 0; id < vm->nr_vcpus; id++)
		if (match_logical(vm->vcpus[id]->lapic, dest)) set |= BIT(id);
	return set;
}

/* Of the candidates that accept, the one that the vector picks: even, and repeatable. */
static u64 lowest_priority(const struct vm *vm, u64 set, u8 vector) {
	u64 able = 0;
	u32 count = 0;

	for (u64 rest = set; rest; rest &= rest - 1) {
		if (lapic_enabled(vm->vcpus[__builtin_ctzl(rest)]->lapic)) {
			able |= rest & -rest;
			count++;
		}
	}
	for (u32 nth = count ? vector % count : 0; nth; nth--) able &= able - 1;
	return able & -able;
}

/* True when the local APIC takes the message. */
static bool deliver(struct vcpu *vcpu, const struct apic_msg *msg) {
	struct lapic *lapic = vcpu->lapic;

	if (load_relaxed(&lapic->mode) == LAPIC_DISABLED) return false;
	switch (msg->delivery) {
	case DELIVER_FIXED:
	case DELIVER_LOWEST:
		if (!lapic_enabled(lapic)) return false;
		if (msg->vector < 16) {
			lapic_error(lapic, ESR_RECEIVE_ILLEGAL);
			return false;
		}
		lapic_post(lapic, msg->vector, msg->level);
		return true;
	case DELIVER_NMI: lapic_post_nmi(vcpu); return true;
	case DELIVER_INIT:
		if (msg->level && !msg->assert)
			return true; /* de-assert: only arbitration ids of old processors */
		vcpu_request(vcpu, REQ_INIT);
		return true;
	case DELIVER_SIPI:
		atomic_store(&vcpu->sipi_vector, msg->vector);
		vcpu_request(vcpu, REQ_SIPI);
		return true;
	default: return false; /* no SMM, no second source of ExtINT, a reserved mode */
	}
}

static unsigned deliver_set(struct vm *vm, u64 set, const struct apic_msg *msg) {
	unsigned count = 0;

	if (msg->delivery == DELIVER_LOWEST) set = lowest_priority(vm, set, msg->vector);
	for (; set; set &= set - 1) count += deliver(vm->vcpus[__builtin_ctzl(set)], msg);
	return count;
}

/* 255 is everyone for those who have eight bits only, x2APIC receivers included. */
static u32 from_8_bits(u32 dest) { return dest == 0xff ? DEST_BROADCAST : dest; }

unsigned apic_send(struct vm *vm, const struct apic_msg *msg) {
	return deliver_set(vm, destination_set(vm, from_8_bits(msg->dest), msg->logical), msg);
}

/* Shorthands that name the sender do nothing but fixed interrupts (SDM 3A table 10-3). */
static u64 shorthand_set(struct vcpu *vcpu, enum shorthand shorthand, u32 delivery) {
	u64 self = BIT(vcpu->id);

	if (shorthand == TO_OTHERS) return all_vcpus(vcpu->vm) & ~self;
	if (delivery != DELIVER_FIXED) return 0;
	return shorthand == TO_SELF ? self : all_vcpus(vcpu->vm);
}

void lapic_icr_command(struct lapic *lapic, u64 icr) {
	struct vcpu *vcpu = lapic->vcpu;
	enum shorthand shorthand = ICR_SHORTHAND(icr);
	bool x2apic = load_relaxed(&lapic->mode) == LAPIC_X2APIC;
	struct apic_msg msg = {
		.dest = x2apic ? (u32)(icr >> 32) : from_8_bits((u32)(icr >> 56)),
		.vector = (u8)icr,
		.delivery = icr >> 8 & 7,
		.logical = icr & ICR_LOGICAL,
		/* The trigger mode has a meaning for INIT only (SDM 3A 10.6.1). */
		.level = icr & ICR_LEVEL && (icr >> 8 & 7) == DELIVER_INIT,
		.assert = icr & ICR_ASSERT,
	};

	if (msg.delivery <= DELIVER_LOWEST && msg.vector < 16) {
		lapic_error(lapic, ESR_SEND_ILLEGAL);
		return;
	}
	deliver_set(vcpu->vm,
		    shorthand == TO_DEST ? destination_set(vcpu->vm, msg.dest, msg.logical)
					 : shorthand_set(vcpu, shorthand, msg.delivery),
		    &msg);
}
