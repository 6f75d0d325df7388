/* Registers and the acceptance of interrupts; lapic_timer.c has the timer, lapic_ipi.c the ICR. */
#include "platform/lapic_internal.h"

#include "platform/kvm_pv.h"
#include "platform/platform.h"

/* Version 0x14, highest LVT entry 5, EOI broadcasts can be suppressed (SDM 3A 10.4.8). */
#define VERSION_VALUE (0x14u | (NR_LVTS - 1) << 16 | BIT32(24))

#define SVR_RESET     0xffu
#define SVR_WRITABLE  (0xffu | SVR_ENABLE | SVR_FOCUS_OFF | SVR_NO_EOI_BROADCAST)

#define LVT_READ_ONLY (BIT32(12) | BIT32(14))
#define LVT_LINT      (LVT_VECTOR | LVT_DELIVERY | BIT32(13) | LVT_LEVEL | LVT_MASKED)

/* Who knows a register: xAPIC's page or x2APIC's MSRs. A write of what is read only is ignored. */
enum { X_READ = 1, X_WRITE = 2, X2_READ = 4, X2_WRITE = 8 };
enum { X_ONLY = X_READ | X_WRITE, CONSTANT = X_ONLY | X2_READ, ALL = CONSTANT | X2_WRITE };

/* All registers there are, each with the bits that only read as 0 (SDM 3A 10.12.1.2, figure 10-8).
 */
static const struct {
	u8 access;
	u32 reserved; /* setting them raises #GP in x2APIC mode */
} registers[] = {
	[REG_ID... REG_VERSION] = {CONSTANT, 0},
	[REG_TPR] = {ALL, ~0xffu},
	[REG_APR] = {X_ONLY, 0},
	[REG_PPR] = {CONSTANT, 0},
	[REG_EOI] = {X_ONLY | X2_WRITE, ~0u},
	[REG_REMOTE_READ] = {X_ONLY, 0},
	[REG_LDR] = {CONSTANT, 0},
	[REG_DFR] = {X_ONLY, 0},
	[REG_SVR] = {ALL, ~SVR_WRITABLE},
	[REG_ISR... REG_IRR + 7] = {X_READ | X2_READ, 0},
	[REG_ESR] = {ALL, ~0u},
	/* Bits 31:20, 17:16 and 13; bit 12 is delivery status on some processors and ignored. */
	[REG_ICR] = {ALL, 0xfff32000},
	[REG_ICR_HIGH] = {X_ONLY, 0},
	[REG_LVT + LVT_TIMER] = {ALL, ~(LVT_VECTOR | LVT_MASKED | LVT_MODE | LVT_READ_ONLY)},
	[REG_LVT + LVT_THERMAL... REG_LVT +
		LVT_PERF] = {ALL, ~(LVT_VECTOR | LVT_DELIVERY | LVT_MASKED | LVT_READ_ONLY)},
	[REG_LVT + LVT_LINT0... REG_LVT + LVT_LINT1] = {ALL, ~(LVT_LINT | LVT_READ_ONLY)},
	[REG_LVT_LAST] = {ALL, ~(LVT_VECTOR | LVT_MASKED | LVT_READ_ONLY)},
	[REG_TIMER_INITIAL] = {ALL, 0},
	[REG_TIMER_CURRENT] = {CONSTANT, 0},
	[REG_TIMER_DIVIDE] = {ALL, ~0xbu},
	[REG_SELF_IPI] = {X2_WRITE, ~0xffu},
};

static bool knows(u32 reg, u8 access) {
	return reg < ARRAY_SIZE(registers) && registers[reg].access & access;
}

/* ---- acceptance ---- */

u32 lapic_highest_irr(struct lapic *lapic) {
	for (u32 word = 4; word-- > 0;) {
		u64 bits = atomic_load_explicit(&lapic->irr[word], memory_order_acquire);

		if (bits) return word * 64 + 63 - (u32)__builtin_clzl(bits);
	}
	return 0;
}

/* Processor priority (SDM 3A 10.8.3.1). */
static u32 priority(const struct lapic *lapic) {
	u32 service = lapic_in_service(lapic);

	return lapic->tpr >> 4 >= service >> 4 ? lapic->tpr : service & 0xf0;
}

/* Highest vector in IRR whose class is above that of PPR, or -1. */
static int pending_vector(struct vcpu *vcpu) {
	struct lapic *lapic = vcpu->lapic;

	if (lapic->vapic) lapic->tpr = (u8)lapic->vapic[LAPIC_VTPR];
	u32 vector = lapic_highest_irr(lapic);
	if (!vector) return -1;
	if (vector >> 4 <= priority(lapic) >> 4) {
		vcpu->lend |= !!lapic->vapic; /* it has to know what waits for a lower TPR */
		return -1;
	}
	if (unlikely(load_relaxed(&lapic->mode) == LAPIC_DISABLED)) return -1;
	return (int)vector;
}

/* After PPR may have sunk. Most often nothing waits at all. */
static void look_again(struct lapic *lapic) {
	if (lapic_has_new(lapic) && pending_vector(lapic->vcpu) >= 0)
		vcpu_request(lapic->vcpu, REQ_EVENT);
}

bool extint_pending(struct vcpu *vcpu) {
	struct lapic *lapic = vcpu->lapic;

	/* The PIC is wired to the LINT0 of vCPU 0 only. */
	if (!load_relaxed(&lapic->lint0)) return false;
	if (load_relaxed(&lapic->mode) == LAPIC_DISABLED) return true;
	u32 lvt = load_relaxed(&lapic->lvt[LVT_LINT0]);
	return (lvt & (LVT_MASKED | LVT_DELIVERY)) == DELIVER_EXTINT << 8;
}

bool irq_by_processor(struct vcpu *vcpu) {
	return vcpu->lapic->delivers && !vcpu->l2 && !extint_pending(vcpu);
}

/* Out of the way, so that who has nothing lent saves no registers. */
static __noinline int taken_back(struct vcpu *vcpu, int (*then)(struct vcpu *vcpu)) {
	lapic_take_back(vcpu->lapic);
	return then(vcpu);
}

int irq_next(struct vcpu *vcpu) {
	if (unlikely(vcpu->lapic->lent)) {
		/* What is lent stays there while an L2 comes and goes. */
		if (lapic_idle(vcpu->lapic) && !extint_pending(vcpu)) return -1;
		return taken_back(vcpu, irq_next);
	}
	if (unlikely(extint_pending(vcpu))) return pic_peek(&vcpu->vm->platform->pic);
	return pending_vector(vcpu);
}

int irq_accept(struct vcpu *vcpu) {
	if (unlikely(vcpu->lapic->lent)) return taken_back(vcpu, irq_accept);
	if (unlikely(extint_pending(vcpu))) return pic_accept(&vcpu->vm->platform->pic);
	int vector = pending_vector(vcpu);
	if (vector < 0) return vector;
	struct lapic *lapic = vcpu->lapic;
	u32 word = (u32)vector >> 6;
	u64 bit = BIT(vector & 63);
	atomic_fetch_and_explicit(&lapic->irr[word], ~bit, memory_order_relaxed);
	lapic->isr[word] |= bit;
	lapic->isr_words |= BIT32(word);
	return vector;
}

__noinline void lapic_eoi_level(struct lapic *lapic, u8 vector) {
	u32 lvt = load_relaxed(&lapic->lvt[LVT_LINT0]);

	if (load_relaxed(&lapic->lint0) && lvt & LVT_LEVEL && (lvt & LVT_VECTOR) == vector)
		lapic_deliver_lvt(lapic, LVT_LINT0);
	if (!(load_relaxed(&lapic->svr) & SVR_NO_EOI_BROADCAST))
		ioapic_eoi(&lapic->vcpu->vm->platform->ioapic, vector);
}

static int eoi(struct vcpu *vcpu) {
	lapic_eoi(vcpu);
	return 0;
}

void lapic_eoi(struct vcpu *vcpu) {
	struct lapic *lapic = vcpu->lapic;

	if (unlikely(lapic->lent)) {
		taken_back(vcpu, eoi);
		return;
	}
	u32 vector = lapic_in_service(lapic), word = vector >> 6;
	if (unlikely(!vector)) return;
	lapic->isr[word] &= ~BIT(vector & 63);
	if (!lapic->isr[word]) lapic->isr_words &= ~BIT32(word);
	if (unlikely(load_relaxed(&lapic->tmr[word]) & BIT(vector & 63)))
		lapic_eoi_level(lapic, (u8)vector);
	look_again(lapic);
}

void lapic_set_tpr(struct vcpu *vcpu, u8 tpr) {
	struct lapic *lapic = vcpu->lapic;

	lapic_own(lapic);
	u32 old = lapic->tpr;
	lapic->tpr = tpr;
	if (lapic->vapic) lapic_show_tpr(lapic);
	if (tpr < old) look_again(lapic);
}

/* ---- local interrupts and errors ---- */

void lapic_error(struct lapic *lapic, u32 bits) {
	u32 old = atomic_fetch_or(&lapic->errors, bits);
	u32 lvt = load_relaxed(&lapic->lvt[LVT_ERROR]);

	if (!(bits & ~old) || lvt & LVT_MASKED || !lapic_enabled(lapic)) return;
	/* An illegal vector here is one more error, but must not come round for ever. */
	if ((lvt & LVT_VECTOR) < 16)
		atomic_fetch_or(&lapic->errors, ESR_RECEIVE_ILLEGAL);
	else
		lapic_post(lapic, (u8)(lvt & LVT_VECTOR), false);
}

void lapic_post_nmi(struct vcpu *vcpu) {
	u32 old = load_relaxed(&vcpu->nmi_pending);

	while (old < 2 && !atomic_compare_exchange_weak(&vcpu->nmi_pending, &old, old + 1))
		;
	vcpu_request(vcpu, REQ_NMI);
}

void lapic_deliver_lvt(struct lapic *lapic, enum lapic_lvt which) {
	u32 lvt = load_relaxed(&lapic->lvt[which]);
	u8 vector = (u8)(lvt & LVT_VECTOR);

	if (lvt & LVT_MASKED || load_relaxed(&lapic->mode) == LAPIC_DISABLED) return;
	/* SMI finds no SMM and INIT is not allowed here; ExtINT is asked for by level. */
	switch (lvt >> 8 & 7) {
	case DELIVER_FIXED:
		if (vector < 16)
			lapic_error(lapic, ESR_RECEIVE_ILLEGAL);
		else
			lapic_post(lapic, vector, which == LVT_LINT0 && lvt & LVT_LEVEL);
		break;
	case DELIVER_NMI: lapic_post_nmi(lapic->vcpu); break;
	default: break;
	}
}

void lapic_set_lint0(struct vcpu *vcpu, bool level) {
	struct lapic *lapic = vcpu->lapic;

	if (atomic_exchange(&lapic->lint0, level) || !level) return;
	lapic_deliver_lvt(lapic, LVT_LINT0);
	if (extint_pending(vcpu)) vcpu_request(vcpu, REQ_EVENT);
}

/* ---- reset and modes ---- */

static u32 x2apic_ldr(const struct lapic *lapic) {
	u32 id = lapic->vcpu->id;

	return id >> 4 << 16 | BIT32(id & 15); /* SDM 3A 10.12.10.2 */
}

void lapic_init_reset(struct vcpu *vcpu) {
	struct lapic *lapic = vcpu->lapic;

	lapic_own(lapic);
	lapic_timer_stop(lapic);
	for (u32 i = 0; i < 4; i++) {
		atomic_store(&lapic->irr[i], 0);
		atomic_store(&lapic->tmr[i], 0);
		lapic->isr[i] = 0;
	}
	lapic->isr_words = 0;
	lapic->tpr = 0;
	lapic->icr = 0;
	lapic->esr = 0;
	atomic_store(&lapic->errors, 0);
	for (u32 i = 0; i < NR_LVTS; i++) store_relaxed(&lapic->lvt[i], LVT_MASKED);
	store_relaxed(&lapic->svr, SVR_RESET);
	store_relaxed(&lapic->dfr, ~0u);
	store_relaxed(&lapic->ldr,
		      load_relaxed(&lapic->mode) == LAPIC_X2APIC ? x2apic_ldr(lapic) : 0);
	lapic_choose(lapic);
}

/* Takes over a checked IA32_APIC_BASE. */
static void apply_base(struct lapic *lapic, u64 value) {
	enum lapic_mode mode = LAPIC_DISABLED;

	if (value & LAPIC_BASE_ENABLE)
		mode = value & LAPIC_BASE_X2APIC ? LAPIC_X2APIC : LAPIC_XAPIC;
	lapic_own(lapic);
	lapic->base = value;
	lapic->page = mode == LAPIC_XAPIC ? value & ~lapic->base_reserved & PAGE_MASK : ~0ul;
	store_relaxed(&lapic->mode, mode);
}

void lapic_setup(struct lapic *lapic, struct vcpu *vcpu, unsigned phys_bits) {
	lapic->vcpu = vcpu;
	lapic->base_reserved = ~GENMASK(phys_bits - 1, 8) | BIT(9) | 0xff;
	vcpu->lapic = lapic;
	lapic_timer_setup(lapic);
	lapic_reset(vcpu);
}

void lapic_reset(struct vcpu *vcpu) {
	struct lapic *lapic = vcpu->lapic;
	u64 bsp = vcpu->id == 0 ? LAPIC_BASE_BSP : 0;

	apply_base(lapic, LAPIC_BASE_RESET | LAPIC_BASE_ENABLE | bsp);
	lapic_init_reset(vcpu);
	if (vcpu->id == 0) {
		store_relaxed(&lapic->svr, SVR_RESET | SVR_ENABLE);
		store_relaxed(&lapic->lvt[LVT_LINT0], DELIVER_EXTINT << 8);
		store_relaxed(&lapic->lvt[LVT_LINT1], DELIVER_NMI << 8);
	}
	lapic_choose(lapic);
}

int lapic_set_base(struct vcpu *vcpu, u64 value) {
	struct lapic *lapic = vcpu->lapic;
	enum lapic_mode old = load_relaxed(&lapic->mode);
	bool enable = value & LAPIC_BASE_ENABLE, x2apic = value & LAPIC_BASE_X2APIC;

	if (value & lapic->base_reserved || (x2apic && !enable)) return E_INVAL;
	/* x2APIC is entered from xAPIC only and left by disabling only (SDM 3A 10.12.5). */
	if (old == LAPIC_DISABLED && x2apic) return E_INVAL;
	if (old == LAPIC_X2APIC && enable && !x2apic) return E_INVAL;
	apply_base(lapic, value);
	if (load_relaxed(&lapic->mode) != old) {
		if (x2apic) {
			lapic->icr &= 0xffffffff;
			store_relaxed(&lapic->ldr, x2apic_ldr(lapic));
		} else {
			lapic_init_reset(vcpu);
		}
	}
	lapic_choose(lapic);
	if (extint_pending(vcpu)) vcpu_request(vcpu, REQ_EVENT);
	return 0;
}

/* ---- registers ---- */

static u32 read_vectors(const _Atomic u64 *words, u32 index) {
	return (u32)(load_relaxed(&words[index / 2]) >> (index & 1) * 32);
}

u32 lapic_register(struct lapic *lapic, u32 reg) {
	switch (reg) {
	case REG_ID:
		return load_relaxed(&lapic->mode) == LAPIC_X2APIC ? lapic->vcpu->id
								  : lapic->vcpu->id << 24;
	case REG_VERSION: return VERSION_VALUE;
	case REG_TPR: return lapic->tpr;
	case REG_PPR: return priority(lapic);
	case REG_LDR: return load_relaxed(&lapic->ldr);
	case REG_DFR: return load_relaxed(&lapic->dfr);
	case REG_SVR: return load_relaxed(&lapic->svr);
	case REG_ISR ... REG_ISR + 7: return (u32)(lapic->isr[(reg & 7) / 2] >> (reg & 1) * 32);
	case REG_TMR ... REG_TMR + 7: return read_vectors(lapic->tmr, reg & 7);
	case REG_IRR ... REG_IRR + 7: return read_vectors(lapic->irr, reg & 7);
	case REG_ESR: return lapic->esr;
	case REG_ICR: return (u32)lapic->icr;
	case REG_ICR_HIGH: return (u32)(lapic->icr >> 32);
	case REG_LVT ... REG_LVT_LAST: return load_relaxed(&lapic->lvt[reg - REG_LVT]);
	case REG_TIMER_INITIAL: return lapic->timer.initial;
	case REG_TIMER_CURRENT: return lapic_timer_current(lapic);
	case REG_TIMER_DIVIDE: return lapic->timer.divide;
	default: return 0;
	}
}

static void write_lvt(struct lapic *lapic, enum lapic_lvt which, u32 value) {
	u32 old = load_relaxed(&lapic->lvt[which]);

	value &= ~(registers[REG_LVT + which].reserved | LVT_READ_ONLY);
	/* Software-disabled: mask bits are set and stay so (SDM 3A 10.4.7.2). */
	if (!(load_relaxed(&lapic->svr) & SVR_ENABLE)) value |= LVT_MASKED;
	store_relaxed(&lapic->lvt[which], value);
	if (which == LVT_TIMER) lapic_timer_lvt_changed(lapic, old);
	if (which != LVT_LINT0 || !load_relaxed(&lapic->lint0)) return;
	/* The PIC's line is up: what was masked may pass now. */
	if (extint_pending(lapic->vcpu))
		vcpu_request(lapic->vcpu, REQ_EVENT);
	else if (old & LVT_MASKED && value & LVT_LEVEL)
		lapic_deliver_lvt(lapic, LVT_LINT0);
}

static void write_svr(struct lapic *lapic, u32 value) {
	lapic_own(lapic);
	store_relaxed(&lapic->svr, value & SVR_WRITABLE);
	for (u32 i = 0; i < NR_LVTS && !(value & SVR_ENABLE); i++)
		write_lvt(lapic, i, load_relaxed(&lapic->lvt[i]));
	lapic_choose(lapic);
}

/* value has more than 32 bits for x2APIC's ICR only. */
static void write_register(struct lapic *lapic, u32 reg, u64 value) {
	u32 low = (u32)value;

	switch (reg) {
	case REG_TPR: lapic_set_tpr(lapic->vcpu, (u8)value); break;
	case REG_EOI: lapic_eoi(lapic->vcpu); break;
	case REG_LDR: store_relaxed(&lapic->ldr, low & 0xff000000); break;
	case REG_DFR: store_relaxed(&lapic->dfr, low | 0x0fffffff); break;
	case REG_SVR: write_svr(lapic, low); break;
	case REG_ESR: lapic->esr = atomic_exchange(&lapic->errors, 0); break;
	case REG_ICR:
		lapic->icr = value & ~BIT(12);
		lapic_icr_command(lapic, value);
		break;
	case REG_ICR_HIGH:
		lapic->icr = (lapic->icr & 0xffffffff) | (value & 0xff000000) << 32;
		break;
	case REG_LVT ... REG_LVT_LAST: write_lvt(lapic, reg - REG_LVT, low); break;
	case REG_TIMER_INITIAL: lapic_timer_set_initial(lapic, low); break;
	case REG_TIMER_DIVIDE: lapic_timer_set_divide(lapic, low); break;
	case REG_SELF_IPI: lapic_icr_command(lapic, low | BIT(18)); break;
	default: break; /* read only */
	}
	if (lapic->delivers) lapic_show(lapic, BIT(reg));
}

/* ---- xAPIC page ---- */

u32 lapic_mmio_read(struct vcpu *vcpu, u32 offset, unsigned size) {
	kvm_pv_eoi_sync(vcpu);
	lapic_own(vcpu->lapic);
	/* Only the first four bytes of each 16 exist; SDM 3A 10.4.1 leaves the rest undefined. */
	if ((offset & 15) + size > 4) return 0;
	if (knows(offset >> 4, X_READ))
		return lapic_register(vcpu->lapic, offset >> 4) >> (offset & 3) * 8;
	lapic_error(vcpu->lapic, ESR_ILLEGAL_REGISTER);
	return 0;
}

void lapic_mmio_write(struct vcpu *vcpu, u32 offset, unsigned size, u64 value) {
	struct lapic *lapic = vcpu->lapic;
	u32 reg = offset >> 4;

	if (size != 4 || offset & 15) return;
	kvm_pv_eoi_sync(vcpu);
	if (reg == REG_ICR) {
		lapic_fetch_icr(lapic);
		value = (value & ICR_WRITABLE) | (lapic->icr & ~0xfffffffful);
	}
	if (knows(reg, X_WRITE))
		write_register(lapic, reg, value);
	else
		lapic_error(lapic, ESR_ILLEGAL_REGISTER);
}

/* ---- x2APIC MSRs (SDM 3A 10.12.1.2) ---- */

int lapic_msr_read(struct vcpu *vcpu, u32 msr, u64 *value) {
	struct lapic *lapic = vcpu->lapic;
	u32 reg = msr - MSR_X2APIC_FIRST;

	kvm_pv_eoi_sync(vcpu);
	lapic_own(lapic);
	if (load_relaxed(&lapic->mode) != LAPIC_X2APIC || !knows(reg, X2_READ)) return E_INVAL;
	*value = reg == REG_ICR ? lapic->icr : lapic_register(lapic, reg);
	return 0;
}

/* Out of line, so that an EOI saves no registers. */
static __noinline int write_msr(struct vcpu *vcpu, u32 reg, u64 value) {
	kvm_pv_eoi_sync(vcpu);
	if (load_relaxed(&vcpu->lapic->mode) != LAPIC_X2APIC || !knows(reg, X2_WRITE) ||
	    (u32)value & registers[reg].reserved || (value >> 32 && reg != REG_ICR))
		return E_INVAL;
	write_register(vcpu->lapic, reg, value);
	return 0;
}

int lapic_msr_write(struct vcpu *vcpu, u32 msr, u64 value) {
	if (unlikely(msr != MSR_X2APIC_FIRST + REG_EOI || value ||
		     load_relaxed(&vcpu->lapic->mode) != LAPIC_X2APIC))
		return write_msr(vcpu, msr - MSR_X2APIC_FIRST, value);
	kvm_pv_eoi_sync(vcpu);
	lapic_eoi(vcpu);
	return 0;
}
