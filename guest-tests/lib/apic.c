/* Access to the interrupt controllers. */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/trap.h"

static volatile u32 *lapic_at(u32 reg) { return (volatile u32 *)(LAPIC_BASE + reg); }

bool lapic_has_x2apic(void) { return cpuid_bit(1, 2, 21); }

bool lapic_in_x2apic(void) { return (rdmsr(X86_MSR_APIC_BASE) & APIC_BASE_X2APIC) != 0; }

void lapic_enter_x2apic(void) {
	wrmsr(X86_MSR_APIC_BASE, rdmsr(X86_MSR_APIC_BASE) | APIC_BASE_X2APIC | APIC_BASE_ENABLE);
}

u32 lapic_read(u32 reg) {
	if (lapic_in_x2apic()) return (u32)rdmsr(X86_MSR_X2APIC + (reg >> 4));
	return mmio_read32(lapic_at(reg));
}

void lapic_write(u32 reg, u32 value) {
	if (lapic_in_x2apic())
		wrmsr(X86_MSR_X2APIC + (reg >> 4), value);
	else
		mmio_write32(lapic_at(reg), value);
}

u32 lapic_id(void) {
	u32 id = lapic_read(LAPIC_ID);

	return lapic_in_x2apic() ? id : id >> 24;
}

void lapic_eoi(void) { lapic_write(LAPIC_EOI, 0); }

void lapic_send(u32 dest, u32 icr) {
	if (lapic_in_x2apic()) {
		wrmsr(X86_MSR_X2APIC + (LAPIC_ICR >> 4), (u64)dest << 32 | icr);
		return;
	}
	mmio_write32(lapic_at(LAPIC_ICR_HIGH), dest << 24);
	mmio_write32(lapic_at(LAPIC_ICR), icr);
	for (unsigned i = 0; i < 1000000 && mmio_read32(lapic_at(LAPIC_ICR)) & ICR_BUSY; i++)
		cpu_pause();
}

bool lapic_bit(u32 reg, u8 vector) {
	return (lapic_read(reg + (vector / 32u) * 0x10) >> (vector % 32u) & 1) != 0;
}

static void spurious(struct regs *regs) { (void)regs; }

void lapic_init(void) {
	static const u16 lvts[] = {LAPIC_LVT_TIMER, LAPIC_LVT_LINT0, LAPIC_LVT_LINT1,
				   LAPIC_LVT_ERROR};

	trap_set_handler(VECTOR_SPURIOUS, spurious);
	lapic_write(LAPIC_SVR, 0x100 | VECTOR_SPURIOUS);
	for (unsigned i = 0; i < ARRAY_SIZE(lvts); i++) lapic_write(lvts[i], LVT_MASKED);
	lapic_write(LAPIC_TPR, 0);
	lapic_write(LAPIC_TIMER_INIT, 0);
}

u32 ioapic_read(u32 index) {
	mmio_write32((volatile void *)IOAPIC_BASE, index);
	return mmio_read32((const volatile void *)(IOAPIC_BASE + 0x10));
}

void ioapic_write(u32 index, u32 value) {
	mmio_write32((volatile void *)IOAPIC_BASE, index);
	mmio_write32((volatile void *)(IOAPIC_BASE + 0x10), value);
}

void ioapic_route(u32 pin, u32 low, u8 dest) {
	ioapic_write(0x10 + 2 * pin, LVT_MASKED);
	ioapic_write(0x11 + 2 * pin, (u32)dest << 24);
	ioapic_write(0x10 + 2 * pin, low);
}

void pic_init(u8 base) {
	outb(0x20, 0x11);
	outb(0xa0, 0x11);
	outb(0x21, base);
	outb(0xa1, (u8)(base + 8));
	outb(0x21, 4); /* the second on input 2 */
	outb(0xa1, 2);
	outb(0x21, 1);
	outb(0xa1, 1);
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}

void pic_eoi(unsigned irq) {
	if (irq >= 8) outb(0xa0, 0x20);
	outb(0x20, 0x20);
}
