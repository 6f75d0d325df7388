/* The host's local APIC: xAPIC through its page or x2APIC through MSRs, IPIs, and the one timer. */
#pragma once

#include "lib/types.h"

/*
 * Chooses the mode of all local APICs, xAPIC with its register page mapped at regs or x2APIC when
 * regs is NULL, and sets up the boot processor's. The others call lapic_init_cpu().
 */
void lapic_init_host(volatile void *regs);
void lapic_init_cpu(void);

/* x2APIC mode, the only one whose IPIs reach APIC ids above 254. */
bool lapic_is_x2apic(void);

u32 lapic_id_host(void);
void lapic_eoi_host(void);

/* Fixed-vector IPI to one CPU by APIC id; waits until the previous one has left (bounded). */
void lapic_send_ipi(u32 apic_id, u8 vector);

/* INIT and start-up IPIs (SDM 3A 9.4.4). page: page number of the start code, below 256. */
void lapic_send_init(u32 apic_id);
void lapic_send_startup(u32 apic_id, u8 page);

/* NMI to all other CPUs; only for panic(). No effect before lapic_init_host(). */
void lapic_nmi_others(void);

/* The timer, as one-shot: to a TSC value with the deadline, else by its own ticks; 0 stops it. */
void lapic_timer_init(u8 vector, bool deadline);
void lapic_timer_count(u32 count);
void lapic_timer_deadline(u64 tsc);
u32 lapic_timer_count_left(void);
