/*
 * The local APIC while the processor has a virtual one of its own: what goes to and fro between
 * struct lapic and the virtual-APIC page (SDM 3C 29.1). Everything here is for the vCPU's own CPU.
 */
#include "platform/lapic_internal.h"

#define AT(reg) ((reg)*4u) /* in words: a register every 16 bytes */

/* What is on the page to be read alone; the rest is lent, and the timer's count is not there. */
#define SHOWN                                                                        \
	(BIT(REG_ID) | BIT(REG_VERSION) | GENMASK(REG_SVR, REG_LDR) | BIT(REG_ESR) | \
	 GENMASK(REG_TIMER_INITIAL, REG_ICR) | BIT(REG_TIMER_DIVIDE))

/* 64 of the 256 vectors of ISR, TMR or IRR. */
static u64 vectors(const struct lapic *lapic, u32 reg, u32 i) {
	const u32 *at = &lapic->vapic[AT(reg + 2 * i)];

	return at[0] | (u64)at[AT(1)] << 32;
}

static void set_vectors(struct lapic *lapic, u32 reg, u32 i, u64 value) {
	u32 *at = &lapic->vapic[AT(reg + 2 * i)];

	at[0] = (u32)value;
	at[AT(1)] = (u32)(value >> 32);
}

bool lapic_idle(const struct lapic *lapic) {
	u32 any = 0;

	for (u32 i = 0; i < 8; i++) any |= lapic->vapic[AT(REG_IRR + i)];
	return !any && !lapic_has_new(lapic);
}

void lapic_take_back(struct lapic *lapic) {
	lapic->tpr = (u8)lapic->vapic[LAPIC_VTPR];
	lapic_fetch_icr(lapic);
	lapic->lent = false;
	vcpu_request_self(lapic->vcpu, REQ_EVENT);
	lapic->isr_words = 0;
	for (u32 i = 0; i < 4; i++) {
		u64 waiting = vectors(lapic, REG_IRR, i);

		lapic->isr[i] = vectors(lapic, REG_ISR, i);
		if (lapic->isr[i]) lapic->isr_words |= BIT32(i);
		if (!waiting) continue;
		set_vectors(lapic, REG_IRR, i, 0);
		atomic_fetch_or(&lapic->irr[i], waiting);
	}
}

void lapic_set_virtual(struct vcpu *vcpu, void *page, u8 can_deliver) {
	struct lapic *lapic = vcpu->lapic;

	lapic->vapic = page;
	lapic->can_deliver = can_deliver;
	lapic_choose(lapic);
}

void lapic_choose(struct lapic *lapic) {
	u32 mode = load_relaxed(&lapic->mode);

	lapic->delivers = lapic_enabled(lapic) && lapic->can_deliver & BIT32(mode) ? (u8)mode : 0;
	lapic->moved = true;
	if (lapic->vapic) lapic_show_tpr(lapic);
	if (lapic->delivers) lapic_show(lapic, ~0ul);
}

void lapic_show_tpr(struct lapic *lapic) {
	lapic->vapic[LAPIC_VTPR] = lapic->tpr;
	lapic->vcpu->lend = true;
	vcpu_request_self(lapic->vcpu, REQ_EVENT);
}

void lapic_fetch_icr(struct lapic *lapic) {
	const u32 *at = lapic->vapic;

	if (lapic->delivers != LAPIC_XAPIC) return;
	lapic->icr = (u64)at[AT(REG_ICR_HIGH)] << 32 | (at[AT(REG_ICR)] & ICR_WRITABLE);
}

/* The ICR is one register of 64 bits in x2APIC mode. */
void lapic_show(struct lapic *lapic, u64 regs) {
	for (regs &= SHOWN; regs; regs &= regs - 1) {
		u32 reg = (u32)__builtin_ctzl(regs);

		lapic->vapic[AT(reg)] = lapic_register(lapic, reg);
	}
	lapic->vapic[AT(REG_ICR) + 1] = (u32)(lapic->icr >> 32);
}

/* What waits goes to the processor, vector by vector of 64. Returns the highest one, or highest. */
static u32 lend_vectors(struct lapic *lapic, struct lapic_lent *lent, bool fresh, u32 top) {
	for (u32 i = 0; i < 4; i++) {
		u64 levels = load_relaxed(&lapic->tmr[i]), waiting = load_relaxed(&lapic->irr[i]);

		if (fresh) set_vectors(lapic, REG_ISR, i, lapic->isr[i]);
		if (levels != lent->levels[i]) set_vectors(lapic, REG_TMR, i, levels);
		lent->levels[i] = levels;
		if (!waiting) continue;
		waiting = atomic_exchange(&lapic->irr[i], 0);
		set_vectors(lapic, REG_IRR, i, vectors(lapic, REG_IRR, i) | waiting);
		top = (u32)max_u64(top, i * 64 + 63 - (u32)__builtin_clzl(waiting));
	}
	return top;
}

void lapic_lend(struct vcpu *vcpu, struct lapic_lent *lent) {
	struct lapic *lapic = vcpu->lapic;
	bool fresh = !lapic->lent;
	u32 serving = fresh ? lapic_in_service(lapic) : lent->status >> 8;
	u32 top = lend_vectors(lapic, lent, fresh, fresh ? 0 : (u8)lent->status);

	lapic->lent = true;
	lent->status = (u16)(serving << 8 | top);
}

u8 lapic_threshold(struct lapic *lapic) {
	u32 class = lapic->vapic[LAPIC_VTPR] >> 4 & 0xf;

	if (likely(!class)) return 0;
	u32 waiting = lapic_highest_irr(lapic) >> 4;
	return (u8)(waiting <= class ? waiting : 0);
}

void lapic_virtual_write(struct vcpu *vcpu, u32 offset) {
	u32 value = vcpu->lapic->vapic[AT(offset >> 4 & 0xff)];

	if (vcpu->lapic->delivers == LAPIC_XAPIC)
		lapic_mmio_write(vcpu, offset & 0xff0, 4, value);
	else if (lapic_msr_write(vcpu, MSR_X2APIC_FIRST + (offset >> 4 & 0xff), value))
		inject_gp(vcpu, 0);
}
