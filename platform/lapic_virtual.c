/*
 * The local APIC while the processor has a virtual one of its own: what goes to and fro between
 * struct lapic and the virtual-APIC page (SDM 3C 29.1). Everything here is for the vCPU's own CPU.
 */
#include "platform/lapic_internal.h"

#include "lib/string.h"

#define AT(reg) ((reg)*4u) /* in words: a register every 16 bytes */

static void get_vectors(const struct lapic *lapic, u32 reg, u64 out[4]) {
	for (u32 i = 0; i < 4; i++)
		out[i] = lapic->vapic[AT(reg + 2 * i)] | (u64)lapic->vapic[AT(reg + 2 * i + 1)]
								 << 32;
}

static void put_vectors(struct lapic *lapic, u32 reg, const u64 in[4]) {
	for (u32 i = 0; i < 8; i++) lapic->vapic[AT(reg + i)] = (u32)(in[i / 2] >> i % 2 * 32);
}

static u8 highest(const u64 in[4]) {
	for (u32 i = 4; i-- > 0;)
		if (in[i]) return (u8)(i * 64 + 63 - (u32)__builtin_clzl(in[i]));
	return 0;
}

void lapic_take_back(struct lapic *lapic) {
	static const u64 none[4];
	u64 waiting[4];

	lapic->lent = false;
	lapic->tpr = (u8)lapic->vapic[AT(REG_TPR)];
	vcpu_request_self(lapic->vcpu, REQ_EVENT);
	if (!lapic->delivers) return;
	get_vectors(lapic, REG_IRR, waiting);
	get_vectors(lapic, REG_ISR, lapic->isr);
	put_vectors(lapic, REG_IRR, none);
	lapic->isr_words = 0;
	for (u32 i = 0; i < 4; i++) {
		if (waiting[i]) atomic_fetch_or(&lapic->irr[i], waiting[i]);
		if (lapic->isr[i]) lapic->isr_words |= BIT32(i);
	}
}

void lapic_set_virtual(struct vcpu *vcpu, void *page, bool delivers) {
	struct lapic *lapic = vcpu->lapic;

	lapic->vapic = page;
	lapic->delivers = delivers;
	lapic->stale = delivers;
}

/* What reads of the page show without an exit. The ICR is one register of 64 bits in x2APIC mode.
 */
static void show_registers(struct lapic *lapic) {
	for (u32 reg = REG_ID; reg <= REG_TIMER_DIVIDE; reg++)
		lapic->vapic[AT(reg)] = reg == REG_TIMER_CURRENT ? 0 : lapic_register(lapic, reg);
	lapic->vapic[AT(REG_ICR) + 1] = lapic->vapic[AT(REG_ICR_HIGH)];
	lapic->stale = false;
}

void lapic_lend(struct vcpu *vcpu, struct lapic_lent *out) {
	struct lapic *lapic = vcpu->lapic;
	u64 waiting[4], serving[4];

	if (!lapic->lent) {
		if (lapic->stale && lapic->delivers) show_registers(lapic);
		lapic->vapic[AT(REG_TPR)] = lapic->tpr;
		if (lapic->delivers) put_vectors(lapic, REG_ISR, lapic->isr);
	}
	if (lapic->delivers) get_vectors(lapic, REG_IRR, waiting);
	for (u32 i = 0; i < 4; i++) {
		out->levels[i] = load_relaxed(&lapic->tmr[i]);
		if (!lapic->delivers)
			waiting[i] = load_relaxed(&lapic->irr[i]);
		else if (load_relaxed(&lapic->irr[i]))
			waiting[i] |= atomic_exchange(&lapic->irr[i], 0);
	}
	out->threshold = highest(waiting) >> 4;
	if (out->threshold > lapic->vapic[AT(REG_TPR)] >> 4) out->threshold = 0;
	lapic->lent = true;
	if (!lapic->delivers) return;
	put_vectors(lapic, REG_IRR, waiting);
	put_vectors(lapic, REG_TMR, out->levels);
	get_vectors(lapic, REG_ISR, serving);
	out->status = (u16)(highest(serving) << 8 | highest(waiting));
}

void lapic_virtual_eoi(struct vcpu *vcpu, u8 vector) { lapic_eoi_level(vcpu->lapic, vector); }

void lapic_virtual_write(struct vcpu *vcpu, u32 offset) {
	struct lapic *lapic = vcpu->lapic;
	u32 value = lapic->vapic[offset / 4 % 1024];

	if (load_relaxed(&lapic->mode) != LAPIC_X2APIC)
		lapic_mmio_write(vcpu, offset & 0xff0, 4, value);
	else if (lapic_msr_write(vcpu, MSR_X2APIC_FIRST + (offset >> 4 & 0xff), value))
		inject_gp(vcpu, 0);
}
