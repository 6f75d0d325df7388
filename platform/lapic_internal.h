/* What the files of the local APIC share with each other only. */
#pragma once

#include "platform/lapic.h"

#define LVT_MASKED	      BIT32(16)
#define LVT_LEVEL	      BIT32(15)
#define LVT_DELIVERY	      0x700u
#define LVT_VECTOR	      0xffu
#define LVT_MODE	      (3u << 17)
#define LVT_MODE_PERIODIC     (1u << 17)
#define LVT_MODE_TSC_DEADLINE (2u << 17)

#define SVR_ENABLE	      BIT32(8)
#define SVR_FOCUS_OFF	      BIT32(9)
#define SVR_NO_EOI_BROADCAST  BIT32(12)

#define ICR_WRITABLE	      0xccfffu /* of its lower half, in xAPIC mode */

#define ESR_SEND_ILLEGAL      BIT32(5)
#define ESR_RECEIVE_ILLEGAL   BIT32(6)
#define ESR_ILLEGAL_REGISTER  BIT32(7)

#define BIT32(n)	      (1u << (n))

/* Register numbers: offset in the page / 16, or MSR - 0x800. */
enum { REG_ID = 0x02, REG_VERSION, REG_TPR = 0x08, REG_APR, REG_PPR, REG_EOI, REG_REMOTE_READ };
enum { REG_LDR = 0x0d, REG_DFR, REG_SVR, REG_ISR = 0x10, REG_TMR = 0x18, REG_IRR = 0x20 };
enum { REG_ESR = 0x28, REG_ICR = 0x30, REG_ICR_HIGH, REG_LVT, REG_LVT_LAST = REG_LVT + LVT_ERROR };
enum { REG_TIMER_INITIAL = 0x38, REG_TIMER_CURRENT, REG_TIMER_DIVIDE = 0x3e, REG_SELF_IPI };

/* Delivery modes; 2 is SMI and 3 reserved. */
enum { DELIVER_FIXED, DELIVER_LOWEST, DELIVER_NMI = 4, DELIVER_INIT, DELIVER_SIPI, DELIVER_EXTINT };

#define load_relaxed(p)	    atomic_load_explicit(p, memory_order_relaxed)
#define store_relaxed(p, v) atomic_store_explicit(p, v, memory_order_relaxed)

static inline bool lapic_enabled(struct lapic *lapic) {
	return load_relaxed(&lapic->mode) != LAPIC_DISABLED &&
	       load_relaxed(&lapic->svr) & SVR_ENABLE;
}

/*
 * Puts a vector into IRR. A bit that was set already has had its request: the vCPU has seen it and
 * waits for an EOI, a lower TPR or an open window, each of which looks again.
 */
static inline void lapic_post(struct lapic *lapic, u8 vector, bool level) {
	u64 bit = BIT(vector & 63);
	unsigned word = vector >> 6;

	if (level)
		atomic_fetch_or_explicit(&lapic->tmr[word], bit, memory_order_relaxed);
	else if (load_relaxed(&lapic->tmr[word]) & bit)
		atomic_fetch_and_explicit(&lapic->tmr[word], ~bit, memory_order_relaxed);
	if (!(atomic_fetch_or(&lapic->irr[word], bit) & bit)) vcpu_request(lapic->vcpu, REQ_EVENT);
}

/* Highest vector in IRR; 0 when there is none (vectors below 16 never get there). */
u32 lapic_highest_irr(struct lapic *lapic);

/* What a register reads as; 0 when there is none. */
u32 lapic_register(struct lapic *lapic, u32 reg);

/* lapic_virtual.c: TPR goes to the virtual-APIC page, with a look at what that changes. */
void lapic_show_tpr(struct lapic *lapic);

/*
 * Does the processor deliver? After a change of the mode, or of whether software has enabled the
 * local APIC; not lent.
 */
void lapic_choose(struct lapic *lapic);

/* And these registers read on the virtual-APIC page as they do here. */
void lapic_show(struct lapic *lapic, u64 regs);

/* The ICR as the guest left it there: in xAPIC mode not all of its writes exit (SDM 3C 29.4.3). */
void lapic_fetch_icr(struct lapic *lapic);

/* Notes errors in the ESR to be; the first of a kind raises the error interrupt. Any CPU. */
void lapic_error(struct lapic *lapic, u32 bits);

/* Raises the interrupt of an LVT entry unless it is masked. Any CPU. */
void lapic_deliver_lvt(struct lapic *lapic, enum lapic_lvt which);

/* lapic_timer.c; on the vCPU's own CPU. */
void lapic_timer_setup(struct lapic *lapic);
void lapic_timer_stop(struct lapic *lapic);
void lapic_timer_set_initial(struct lapic *lapic, u32 count);
void lapic_timer_set_divide(struct lapic *lapic, u32 value);
u32 lapic_timer_current(struct lapic *lapic);

/* After the timer's LVT entry has changed from old to what it is now. */
void lapic_timer_lvt_changed(struct lapic *lapic, u32 old);

/* lapic_ipi.c: sends what this value of the ICR says, in the layout of the APIC's mode. */
void lapic_icr_command(struct lapic *lapic, u64 icr);
