/* The host's local APIC (SDM 3A 11, APM 2 16). A register's name is its xAPIC offset. */
#include "drivers/lapic.h"

#include "lib/x86.h"

#define REG_ID		 0x020u
#define REG_TPR		 0x080u
#define REG_EOI		 0x0b0u
#define REG_SPURIOUS	 0x0f0u
#define REG_ESR		 0x280u
#define REG_ICR		 0x300u
#define REG_ICR_HIGH	 0x310u
#define REG_LVT_TIMER	 0x320u
#define REG_LVT_LINT0	 0x350u
#define REG_LVT_LINT1	 0x360u
#define REG_LVT_ERROR	 0x370u
#define REG_COUNT	 0x380u
#define REG_CURRENT	 0x390u
#define REG_DIVIDE	 0x3e0u

#define SPURIOUS_ENABLE	 0x100u
#define LVT_MASKED	 0x10000u
#define LVT_TSC_DEADLINE 0x40000u
#define ICR_BUSY	 0x1000u
#define ICR_ASSERT	 0x4000u
#define ICR_NMI		 0x400u
#define ICR_INIT	 0x500u
#define ICR_STARTUP	 0x600u
#define ICR_ALL_BUT_SELF 0xc0000u
#define DIVIDE_BY_1	 0xbu
#define APIC_BASE_ENABLE BIT(11)
#define APIC_BASE_EXTD	 BIT(10)
#define ICR_WAIT_ROUNDS	 100000

static volatile u8 *page; /* xAPIC registers; NULL in x2APIC mode */
static bool ready;

static u32 reg_read(u32 reg) {
	return page ? mmio_read32(page + reg) : (u32)rdmsr(X86_MSR_X2APIC + (reg >> 4));
}

static void reg_write(u32 reg, u32 value) {
	if (page)
		mmio_write32(page + reg, value);
	else
		wrmsr(X86_MSR_X2APIC + (reg >> 4), value);
}

void lapic_init_host(volatile void *regs) {
	page = regs;
	lapic_init_cpu();
}

void lapic_init_cpu(void) {
	u64 base = rdmsr(X86_MSR_APIC_BASE);

	/* EN is never cleared: that is one-way on more than one machine. */
	base |= APIC_BASE_ENABLE;
	if (!page) base |= APIC_BASE_EXTD;
	wrmsr(X86_MSR_APIC_BASE, base);

	reg_write(REG_LVT_TIMER, LVT_MASKED);
	reg_write(REG_LVT_LINT0, LVT_MASKED);
	reg_write(REG_LVT_LINT1, ICR_NMI);
	reg_write(REG_LVT_ERROR, LVT_MASKED);
	reg_write(REG_TPR, 0);
	reg_write(REG_SPURIOUS, SPURIOUS_ENABLE | 0xff);
	reg_write(REG_ESR, 0);
	ready = true;
}

bool lapic_is_x2apic(void) { return !page; }

u32 lapic_id_host(void) {
	u32 id = reg_read(REG_ID);

	return page ? id >> 24 : id;
}

void lapic_eoi_host(void) { reg_write(REG_EOI, 0); }

static void write_icr(u32 apic_id, u32 low) {
	if (!page) {
		/* Not serializing: earlier stores must be seen first (SDM 3A 11.12.3). */
		__asm__ volatile("mfence; lfence" : : : "memory");
		wrmsr(X86_MSR_X2APIC + (REG_ICR >> 4), (u64)apic_id << 32 | low);
		return;
	}
	for (unsigned i = 0; i < ICR_WAIT_ROUNDS && (reg_read(REG_ICR) & ICR_BUSY); i++)
		cpu_pause();
	reg_write(REG_ICR_HIGH, apic_id << 24);
	reg_write(REG_ICR, low);
}

void lapic_send_ipi(u32 apic_id, u8 vector) { write_icr(apic_id, ICR_ASSERT | vector); }

void lapic_send_init(u32 apic_id) { write_icr(apic_id, ICR_ASSERT | ICR_INIT); }

void lapic_send_startup(u32 apic_id, u8 start_page) {
	write_icr(apic_id, ICR_ASSERT | ICR_STARTUP | start_page);
}

void lapic_nmi_others(void) {
	if (ready) write_icr(0, ICR_ALL_BUT_SELF | ICR_ASSERT | ICR_NMI);
}

void lapic_timer_init(u8 vector, bool deadline) {
	reg_write(REG_DIVIDE, DIVIDE_BY_1);
	reg_write(REG_LVT_TIMER, vector | (deadline ? LVT_TSC_DEADLINE : 0));
	/* The mode must be set before the deadline's MSR is written (SDM 3A 11.5.4.1). */
	if (deadline) __asm__ volatile("mfence" : : : "memory");
}

void lapic_timer_count(u32 count) { reg_write(REG_COUNT, count); }

void lapic_timer_deadline(u64 tsc) { wrmsr(X86_MSR_TSC_DEADLINE, tsc); }

u32 lapic_timer_count_left(void) { return reg_read(REG_CURRENT); }
