/* The local APIC (by MMIO or by MSR, whichever mode it is in), the IOAPIC and the PIC pair. */
#pragma once

#include "guest-tests/lib/guest.h"

#define LAPIC_BASE	   0xfee00000ul
#define IOAPIC_BASE	   0xfec00000ul

#define LAPIC_ID	   0x020
#define LAPIC_VERSION	   0x030
#define LAPIC_TPR	   0x080
#define LAPIC_PPR	   0x0a0
#define LAPIC_EOI	   0x0b0
#define LAPIC_LDR	   0x0d0
#define LAPIC_DFR	   0x0e0
#define LAPIC_SVR	   0x0f0
#define LAPIC_ISR	   0x100
#define LAPIC_TMR	   0x180
#define LAPIC_IRR	   0x200
#define LAPIC_ESR	   0x280
#define LAPIC_ICR	   0x300
#define LAPIC_ICR_HIGH	   0x310
#define LAPIC_LVT_TIMER	   0x320
#define LAPIC_LVT_THERMAL  0x330
#define LAPIC_LVT_PMC	   0x340
#define LAPIC_LVT_LINT0	   0x350
#define LAPIC_LVT_LINT1	   0x360
#define LAPIC_LVT_ERROR	   0x370
#define LAPIC_TIMER_INIT   0x380
#define LAPIC_TIMER_NOW	   0x390
#define LAPIC_TIMER_DIVIDE 0x3e0
#define LAPIC_SELF_IPI	   0x3f0 /* x2APIC only */

#define LVT_MASKED	   BIT(16)
#define LVT_PERIODIC	   BIT(17)
#define LVT_DEADLINE	   BIT(18)
#define DIVIDE_BY_1	   0xbu

#define ICR_FIXED	   0x00000u
#define ICR_LOWEST	   0x00100u
#define ICR_NMI		   0x00400u
#define ICR_INIT	   0x00500u
#define ICR_SIPI	   0x00600u
#define ICR_LOGICAL	   0x00800u
#define ICR_BUSY	   0x01000u
#define ICR_ASSERT	   0x04000u
#define ICR_LEVEL	   0x08000u
#define ICR_SELF	   0x40000u
#define ICR_ALL		   0x80000u
#define ICR_OTHERS	   0xc0000u

#define VECTOR_SPURIOUS	   0xff
#define VECTOR_WAKE	   0xfe /* smp.c */

#define APIC_BASE_ENABLE   BIT(11)
#define APIC_BASE_X2APIC   BIT(10)
#define APIC_BASE_BSP	   BIT(8)

/* Software-enables the local APIC of this CPU, all LVTs masked, TPR 0. */
void lapic_init(void);
bool lapic_has_x2apic(void);
/* Switches this CPU to x2APIC mode; the way back goes over disabled, which not every CPU allows. */
void lapic_enter_x2apic(void);
bool lapic_in_x2apic(void);
u32 lapic_read(u32 reg);
void lapic_write(u32 reg, u32 value);
u32 lapic_id(void);
void lapic_eoi(void);
/* dest: APIC id or logical destination as the mode has it. Waits for delivery in xAPIC mode. */
void lapic_send(u32 dest, u32 icr);
/* One bit of the 256-bit register that starts at reg (ISR, TMR or IRR). */
bool lapic_bit(u32 reg, u8 vector);

u32 ioapic_read(u32 index);
void ioapic_write(u32 index, u32 value);
/* low: vector, delivery mode and so on; dest: the top byte. */
void ioapic_route(u32 pin, u32 low, u8 dest);

/* ICW1 to ICW4 for both, vectors from base on, everything masked. */
void pic_init(u8 base);
void pic_eoi(unsigned irq);
