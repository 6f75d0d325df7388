/* The host's IOAPICs (82093AA datasheet) and the switching off of its 8259A pair. */
#include "drivers/ioapic.h"

#include "lib/x86.h"

#define IOREGSEL    0x00
#define IOWIN	    0x10
#define REG_VERSION 1u
#define REG_TABLE   0x10u
#define RTE_MASKED  0x10000u
#define RTE_LEVEL   0x8000u
#define RTE_LOW	    0x2000u

static struct ioapic {
	volatile u8 *regs;
	u32 gsi_base, inputs;
} ioapics[ACPI_MAX_IOAPICS];
static unsigned nr_ioapics;

static u32 reg_read(volatile u8 *regs, u32 reg) {
	mmio_write32(regs + IOREGSEL, reg);
	return mmio_read32(regs + IOWIN);
}

static void reg_write(volatile u8 *regs, u32 reg, u32 value) {
	mmio_write32(regs + IOREGSEL, reg);
	mmio_write32(regs + IOWIN, value);
}

void ioapic_add_host(volatile void *regs, u32 gsi_base) {
	u32 inputs = (reg_read(regs, REG_VERSION) >> 16 & 0xff) + 1;
	for (u32 pin = 0; pin < inputs; pin++) reg_write(regs, REG_TABLE + 2 * pin, RTE_MASKED);
	ioapics[nr_ioapics++] = (struct ioapic){regs, gsi_base, inputs};
}

int ioapic_route(const struct acpi_irq *irq, u8 vector, u32 apic_id) {
	for (unsigned i = 0; i < nr_ioapics; i++) {
		u32 pin = irq->gsi - ioapics[i].gsi_base;

		if (pin >= ioapics[i].inputs) continue;
		reg_write(ioapics[i].regs, REG_TABLE + 2 * pin + 1, apic_id << 24);
		reg_write(ioapics[i].regs, REG_TABLE + 2 * pin,
			  vector | (irq->level ? RTE_LEVEL : 0) | (irq->active_low ? RTE_LOW : 0));
		return 0;
	}
	return E_NOENT;
}

void pic_disable_host(void) {
	/* ICW1 to ICW4 put both at vectors 0x20 to 0x2f (8259A datasheet), then all is masked. */
	static const u8 master[] = {0x20, 4, 1, 0xff}, slave[] = {0x28, 2, 1, 0xff};

	outb(0x20, 0x11);
	outb(0xa0, 0x11);
	for (unsigned i = 0; i < ARRAY_SIZE(master); i++) {
		outb(0x21, master[i]);
		outb(0xa1, slave[i]);
	}
}
