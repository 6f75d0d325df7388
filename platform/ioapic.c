/* The IOAPIC; see ioapic.h. */
#include "platform/ioapic.h"

#include "platform/platform.h"

/* Redirection entry. */
#define ENTRY_VECTOR	  0xfful
#define ENTRY_DELIVERY(e) ((e) >> 8 & 7)
#define ENTRY_LOGICAL	  BIT(11)
#define ENTRY_REMOTE_IRR  BIT(14)
#define ENTRY_LEVEL	  BIT(15)
#define ENTRY_MASKED	  BIT(16)
#define ENTRY_DEST(e)	  ((u32)((e) >> 56))
/* Polarity (bit 13) is kept and has no effect: a line here is asserted or not. */
#define ENTRY_WRITABLE (0xff0000000001afffUL & ~(BIT(12) | ENTRY_REMOTE_IRR))

/* Offsets of the directly addressed registers, and the numbers of the others. */
enum { IOREGSEL = 0x00, IOWIN = 0x10, IOEOI = 0x40 };
enum { REG_ID, REG_VERSION, REG_ARBITRATION, REG_ENTRIES = 0x10 };

#define REG_END (REG_ENTRIES + 2 * IOAPIC_PINS)

static void send(struct ioapic *ioapic, u64 *entry) {
	struct apic_msg msg = {
		.dest = ENTRY_DEST(*entry),
		.vector = (u8)(*entry & ENTRY_VECTOR),
		.delivery = (u8)ENTRY_DELIVERY(*entry),
		.logical = *entry & ENTRY_LOGICAL,
		.level = *entry & ENTRY_LEVEL,
		.assert = true,
	};

	/* Remote IRR only for what will be answered by an EOI: fixed and lowest priority. */
	if (msg.delivery > 1) msg.level = false;
	if (apic_send(ioapic->dev.vm, &msg) && msg.level) *entry |= ENTRY_REMOTE_IRR;
}

/* Sends for a pin that is level-triggered, asserted, unmasked and not in service. */
static void send_level(struct ioapic *ioapic, unsigned pin) {
	u64 *entry = &ioapic->entries[pin];

	lock_assert_held(&ioapic->dev.lock);
	if ((*entry & (ENTRY_LEVEL | ENTRY_MASKED | ENTRY_REMOTE_IRR)) == ENTRY_LEVEL &&
	    ioapic->lines >> pin & 1)
		send(ioapic, entry);
}

static void set_pin(struct ioapic *ioapic, unsigned pin, bool level) {
	u32 bit = 1u << pin, old;

	spin_guard(&ioapic->dev.lock);
	old = ioapic->lines;
	ioapic->lines = level ? old | bit : old & ~bit;
	if (ioapic->lines == old || !level) return;
	/* An edge on a masked pin is lost, as on the 82093AA. */
	if (ioapic->entries[pin] & ENTRY_LEVEL)
		send_level(ioapic, pin);
	else if (!(ioapic->entries[pin] & ENTRY_MASKED))
		send(ioapic, &ioapic->entries[pin]);
}

void irq_set(struct vm *vm, unsigned gsi, bool level) {
	if (gsi >= IOAPIC_PINS) return;
	pic_set_irq(&vm->platform->pic, gsi, level);
	/* ISA IRQ 0 is on pin 2 (the MADT says so); no line leads to pin 0. */
	set_pin(&vm->platform->ioapic, gsi ? gsi : 2, level);
}

void ioapic_eoi(struct ioapic *ioapic, u8 vector) {
	spin_guard(&ioapic->dev.lock);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		u64 *entry = &ioapic->entries[pin];

		if ((*entry & ENTRY_VECTOR) != vector || !(*entry & ENTRY_REMOTE_IRR)) continue;
		*entry &= ~ENTRY_REMOTE_IRR;
		send_level(ioapic, pin);
	}
}

static u32 read_register(const struct ioapic *ioapic) {
	u32 reg = ioapic->select;

	switch (reg) {
	case REG_ID:
	case REG_ARBITRATION: return ioapic->id;
	case REG_VERSION: return IOAPIC_VERSION | (IOAPIC_PINS - 1) << 16;
	case REG_ENTRIES ... REG_END - 1:
		return (u32)(ioapic->entries[(reg - REG_ENTRIES) / 2] >> (reg & 1) * 32);
	default: return ~0u;
	}
}

static void write_entry(struct ioapic *ioapic, unsigned pin, bool high, u32 value) {
	u64 *entry = &ioapic->entries[pin];
	u64 keep = *entry & (high ? 0xffffffffUL : ~0xffffffffUL);
	u64 remote_irr = *entry & ENTRY_REMOTE_IRR;

	*entry = (keep | (u64)value << (high ? 32 : 0)) & ENTRY_WRITABLE;
	/* Switching to edge ends what was in service: how software does without IOEOI. */
	if (*entry & ENTRY_LEVEL) *entry |= remote_irr;
	send_level(ioapic, pin);
}

static void write_register(struct ioapic *ioapic, u32 value) {
	u32 reg = ioapic->select;

	if (reg == REG_ID)
		ioapic->id = value & 0x0f000000;
	else if (reg >= REG_ENTRIES && reg < REG_END)
		write_entry(ioapic, (reg - REG_ENTRIES) / 2, reg & 1, value);
}

u64 ioapic_read(struct ioapic *ioapic, u64 offset, unsigned size) {
	spin_guard(&ioapic->dev.lock);
	if (size <= 4 && !(offset & (size - 1)) && offset < 4) return ioapic->select >> offset * 8;
	return offset == IOWIN && size == 4 ? read_register(ioapic) : ~0ul;
}

void ioapic_write(struct ioapic *ioapic, u64 offset, unsigned size, u64 value) {
	if (offset == IOEOI && size == 4) {
		ioapic_eoi(ioapic, (u8)value);
		return;
	}
	spin_guard(&ioapic->dev.lock);
	if (offset == IOREGSEL && size <= 4)
		ioapic->select = value & 0xff;
	else if (offset == IOWIN && size == 4)
		write_register(ioapic, (u32)value);
}

static void reset(void *dev) {
	struct ioapic *ioapic = dev;

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) ioapic->entries[pin] = ENTRY_MASKED;
	ioapic->select = 0;
	ioapic->id = 0;
	ioapic->lines = 0;
}

const struct device_type ioapic_type = {.reset = reset};
