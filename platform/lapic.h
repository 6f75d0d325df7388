/*
 * The local APIC of each vCPU: registers through the xAPIC page or the x2APIC MSRs, interrupt
 * acceptance, timer and IPIs (SDM 3A chapter 10, APM 2 chapter 16). Anyone may post an interrupt,
 * without a lock; everything else belongs to the CPU that runs the vCPU.
 *
 *   senders on any CPU --> irr, tmr (atomic OR) + REQ_EVENT
 *                              |
 *   run loop of the vCPU: irq_next() --> irq_accept(): irr to isr --> guest --> lapic_eoi()
 *
 * Where the processor has a virtual APIC of its own (Intel: SDM 3C 29), the back end lends it TPR,
 * ISR and IRR before an entry, and whoever needs them here takes them back first: lapic_own().
 *
 * x2APIC is offered whether or not the host has it. The registers are those of version 0x14 with
 * six LVT entries and suppression of EOI broadcasts. The APIC id is the vCPU's number and cannot
 * be changed.
 */
#pragma once

#include "kernel/guest.h"
#include "kernel/time.h"
#include "kernel/vm.h"

#define LAPIC_BASE_RESET  0xfee00000ul
#define LAPIC_BASE_BSP	  BIT(8)
#define LAPIC_BASE_X2APIC BIT(10)
#define LAPIC_BASE_ENABLE BIT(11)

#define MSR_TSC_DEADLINE  0x6e0u
#define MSR_X2APIC_FIRST  0x800u
#define MSR_X2APIC_LAST	  0x8ffu

#define LAPIC_VTPR	  32 /* in words of 32 bits, on the virtual-APIC page */

enum lapic_mode { LAPIC_DISABLED, LAPIC_XAPIC, LAPIC_X2APIC };

/* In register order from 0x320 on. */
enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, NR_LVTS };

struct lapic_timer {
	struct timer host;
	u64 start;    /* host TSC when the count began */
	u64 first;    /* counts from start to the first expiry; 0: stopped */
	u64 next;     /* counts from start to the expiry that is armed */
	u64 deadline; /* IA32_TSC_DEADLINE as written; 0: disarmed or expired */
	u32 initial;  /* initial-count register */
	u32 divide;   /* divide-configuration register */
	u32 shift;    /* log2 of the divisor */
};

struct lapic {
	/* Any CPU sets bits; only the vCPU's own clears those of irr. Vector n: word n / 64. */
	_Atomic u64 irr[4];
	_Atomic u64 tmr[4];

	/* Written by the vCPU's own CPU, read by nobody else. */
	u64 isr[4] __aligned(64);
	u32 isr_words; /* bit n: isr[n] is not 0 */
	u32 tpr;
	struct vcpu *vcpu;
	u32 *vapic;	/* the processor's virtual-APIC page; NULL: it has none */
	bool lent;	/* what is said above is there */
	u8 delivers;	/* the mode, while ISR and IRR are there too: the processor delivers */
	bool moved;	/* delivers or page may have changed; for who has set vapic to clear */
	u8 can_deliver; /* in which modes it could: bits by enum lapic_mode */
	gpa_t page;	/* of the register page; ~0 while there is none */

	/* Written by the vCPU's own CPU, read by senders. */
	_Atomic u32 mode; /* enum lapic_mode */
	_Atomic u32 svr, ldr, dfr;
	_Atomic u32 lvt[NR_LVTS];

	_Atomic u32 errors; /* seen since the last write of the ESR; any CPU sets */
	_Atomic bool lint0; /* level of the input */
	u32 esr;
	u64 icr;
	u64 base; /* IA32_APIC_BASE */
	u64 base_reserved;
	struct lapic_timer timer;
};

/* Ties a zeroed structure to its vCPU and resets it. phys_bits: of guest addresses, 36 to 52. */
void lapic_setup(struct lapic *lapic, struct vcpu *vcpu, unsigned phys_bits);

/* Power-up reset: IA32_APIC_BASE too; on vCPU 0 LINT0 and LINT1 as PC firmware leaves them (MP
 * specification 3.6.2.2, virtual wire). While the vCPU does not run. */
void lapic_reset(struct vcpu *vcpu);

/* INIT (SDM 3A 10.4.7.3): everything but the id and IA32_APIC_BASE. On the vCPU's own CPU. */
void lapic_init_reset(struct vcpu *vcpu);

/* ---- for the run loop, on the vCPU's own CPU; kernel/guest.h has irq_next(), irq_accept() ---- */

/* lapic_virtual.c: takes TPR, ISR and IRR back from the processor; they are lent again in time. */
void lapic_take_back(struct lapic *lapic);

static inline void lapic_own(struct lapic *lapic) {
	if (likely(!lapic->vapic)) return;
	if (lapic->lent)
		lapic_take_back(lapic);
	else
		lapic->tpr = (u8)lapic->vapic[LAPIC_VTPR];
}

/* Anything new for a processor that has been lent the rest; or anything at all: nobody waits. */
static inline bool lapic_has_new(const struct lapic *lapic) {
	u64 any = 0;

	for (u32 i = 0; i < 4; i++)
		any |= atomic_load_explicit(&lapic->irr[i], memory_order_relaxed);
	return any;
}
bool lapic_idle(const struct lapic *lapic);

/* What the processor has to know beside the page (SDM 3C 24.4.2, 24.6.8). */
struct lapic_lent {
	u16 status;    /* highest vector that waits, and the highest in service above it */
	u64 levels[4]; /* vectors whose end has to be told: lapic_eoi_level() */
};

/*
 * The processor has a virtual APIC for this vCPU from now on, on this zeroed page: it has TPR
 * there, and in the modes in which it can deliver interrupts, all registers, while software enables
 * the local APIC: the processor would deliver without that. On the vCPU's own CPU.
 */
void lapic_set_virtual(struct vcpu *vcpu, void *page, u8 can_deliver);

/* lent: as the last call left it; but status as the processor has it now, if lapic->lent. */
void lapic_lend(struct vcpu *vcpu, struct lapic_lent *lent);

/* Where it has TPR alone: the priority class below which something that waits could be delivered.
 */
u8 lapic_threshold(struct lapic *lapic);

/* The end of a level-triggered interrupt: whoever still holds the line asks again. */
void lapic_eoi_level(struct lapic *lapic, u8 vector);

/* The guest wrote a register of the page that needs more than that, at this offset. */
void lapic_virtual_write(struct vcpu *vcpu, u32 offset);

/* Task priority, 8 bits; CR8 is its upper four. */
static inline u32 lapic_tpr(struct vcpu *vcpu) {
	lapic_own(vcpu->lapic);
	return vcpu->lapic->tpr;
}

/* Highest vector in ISR; 0: nothing is in service. */
static inline u32 lapic_in_service(const struct lapic *lapic) {
	if (!lapic->isr_words) return 0;
	u32 word = 31 - (u32)__builtin_clz(lapic->isr_words);
	return word * 64 + 63 - (u32)__builtin_clzl(lapic->isr[word]);
}

/* The PIC asks and this vCPU's LINT0 lets it through. */
bool extint_pending(struct vcpu *vcpu);

/* The one place that ends an interrupt: ISR, level EOI to the IOAPIC, then whatever waits. */
void lapic_eoi(struct vcpu *vcpu);

/* Task priority, see lapic_tpr(). */
void lapic_set_tpr(struct vcpu *vcpu, u8 tpr);

/* ---- registers, on the vCPU's own CPU ---- */

/* True when gpa is in this vCPU's xAPIC page. */
static inline bool lapic_claims(struct vcpu *vcpu, gpa_t gpa) {
	return (gpa & PAGE_MASK) == vcpu->lapic->page;
}

/* offset 0 to 0xfff, size 1, 2, 4 or 8. Only aligned 4-byte writes have an effect. */
u32 lapic_mmio_read(struct vcpu *vcpu, u32 offset, unsigned size);
void lapic_mmio_write(struct vcpu *vcpu, u32 offset, unsigned size, u64 value);

/* x2APIC MSRs MSR_X2APIC_FIRST to MSR_X2APIC_LAST. 0, or E_INVAL where the manual says #GP. */
int lapic_msr_read(struct vcpu *vcpu, u32 msr, u64 *value) __must_check;
int lapic_msr_write(struct vcpu *vcpu, u32 msr, u64 value) __must_check;

/* IA32_APIC_BASE. 0, or E_INVAL for reserved bits and forbidden transitions (SDM 3A 10.12.5). */
int lapic_set_base(struct vcpu *vcpu, u64 value) __must_check;

/* IA32_TSC_DEADLINE, in guest TSC ticks; 0 when disarmed. */
u64 lapic_deadline(struct vcpu *vcpu);
void lapic_set_deadline(struct vcpu *vcpu, u64 value);

/* To be called after vcpu->tsc_offset has changed: the deadline moves with the guest's TSC. */
void lapic_tsc_changed(struct vcpu *vcpu);

/* ---- for senders, any CPU ---- */

/* A message of the APIC bus. apic_send() bounds each field, whatever a guest has put there. */
struct apic_msg {
	u32 dest; /* APIC id, or logical destination; 8 bits from xAPIC, IOAPIC and MSI */
	u8 vector;
	u8 delivery; /* 0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 6 SIPI, 7 ExtINT */
	bool logical;
	bool level;  /* trigger mode: level */
	bool assert; /* for INIT level de-assert: false */
};

/* Delivers to every matching local APIC of the VM. Returns how many took it. Any CPU. */
unsigned apic_send(struct vm *vm, const struct apic_msg *msg);

/* Level of LINT0, the PIC's output; nothing drives LINT1. */
void lapic_set_lint0(struct vcpu *vcpu, bool level);

/* An NMI for this vCPU: one waits while another is handled, more are lost. */
void lapic_post_nmi(struct vcpu *vcpu);
