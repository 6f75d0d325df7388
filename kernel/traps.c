/* An exception in Roost is a bug and ends in panic(). Interrupts only take note; the loop acts. */
#include "kernel/traps.h"

#include "boot/layout.h"
#include "drivers/lapic.h"
#include "kernel/cpu.h"
#include "kernel/panic.h"
#include "lib/x86.h"

struct idt_gate {
	u16 offset_low;
	u16 selector;
	u8 ist;
	u8 type;
	u16 offset_mid;
	u32 offset_high;
	u32 reserved;
};

_Static_assert(sizeof(struct idt_gate) == 16, "APM 2 figure 4-24");

#define GATE_INTERRUPT 0x8e /* present, DPL 0, 64-bit interrupt gate */
#define IST_DF	       1
#define IST_NMI	       2
#define IST_MC	       3

extern const char trap_stubs[];

static struct idt_gate idt[256] __aligned(16);
static void (*irq_handlers[256])(void);

struct descriptor_pointer idt_pointer = {sizeof(idt) - 1, (u64)idt};

void irq_install(u8 vector, void (*fn)(void)) { irq_handlers[vector] = fn; }

void traps_init(void) {
	for (unsigned v = 0; v < 256; v++) {
		u64 stub = (u64)trap_stubs + 16ul * v;

		idt[v] = (struct idt_gate){
			.offset_low = (u16)stub,
			.selector = HOST_CS,
			.type = GATE_INTERRUPT,
			.offset_mid = (u16)(stub >> 16),
			.offset_high = (u32)(stub >> 32),
		};
	}
	idt[X86_DF].ist = IST_DF;
	idt[X86_NMI].ist = IST_NMI;
	idt[X86_MC].ist = IST_MC;
}

void trap_dispatch(struct trap_frame *frame) {
	u8 vector = (u8)frame->vector;

	if (vector >= 32) {
		this_cpu()->irq_count++;
		panic_report_nmis(this_cpu());
		if (vector != VEC_SPURIOUS) lapic_eoi_host();
		if (irq_handlers[vector]) irq_handlers[vector]();
		return;
	}
	if (vector != X86_NMI) panic_trap(frame);
	panic_nmi();
}
