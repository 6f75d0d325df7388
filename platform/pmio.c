/* ACPI power-management registers and small port devices; see pmio.h. ACPI means 5.1, chapter 4. */
#include "platform/pmio.h"

enum { PORT_PCI_ADDRESS = 0xcf8, PORT_PCI_DATA = 0xcfc };
enum { PORT_92 = 0x92, PORT_KBD = 0x64, PORT_POST = 0x80, PORT_DELAY = 0xed, PORT_DEBUG = 0xe9 };

#define KBD_RESET 0xfe /* pulse output port bit 0, the reset line */

/* PM1 status and enable (ACPI 4.8.3.1), then control (ACPI 4.8.3.2). */
enum { PM1_TIMER = 0x001, PM1_GLOBAL = 0x020, PM1_POWER = 0x100, PM1_SLEEP = 0x200 };
enum { PM1_RTC = 0x400, PM1_ENABLE_ALL = PM1_TIMER | PM1_GLOBAL | PM1_POWER | PM1_SLEEP | PM1_RTC };
enum { CNT_SCI_EN = 0x0001, CNT_SLP_EN = 0x2000, CNT_WRITABLE = 0x1c02 /* SLP_TYP, BM_RLD */ };

#define CNT_SLP_TYP(v) ((v) >> 10 & 7)

/* Reset control register of PC chipsets, and port 92: a reset happens when the bit rises. */
enum { RST_CPU = 0x04, RST_WRITABLE = 0x0e, P92_CPU = 0x01, P92_WRITABLE = 0x03 };

#define TIMER_TOP_SHIFT 31 /* the 32-bit timer: TMR_STS when bit 31 changes */

static u64 timer_now(const struct pmio *pmio) {
	return mul_div(time_tsc() - pmio->base, PMIO_TIMER_HZ, tsc_khz * 1000);
}

/* Notes changes of the timer's top bit, drives the SCI, and arms the timer for the next one. */
static void update(void *dev) {
	struct pmio *pmio = dev;
	u64 carry = timer_now(pmio) >> TIMER_TOP_SHIFT, next;

	lock_assert_held(&pmio->dev.lock);
	if (carry != pmio->carry) {
		pmio->carry = carry;
		pmio->status |= PM1_TIMER;
	}
	bool sci = pmio->status & pmio->enable & PM1_ENABLE_ALL;
	if (pmio->enable & ~pmio->status & PM1_TIMER) {
		next = mul_div((carry + 1) << TIMER_TOP_SHIFT, tsc_khz * 1000, PMIO_TIMER_HZ);
		timer_arm(&pmio->dev.timer, pmio->base + next + 1);
	} else {
		timer_cancel(&pmio->dev.timer);
	}
	device_set_line(&pmio->dev, PMIO_SCI_GSI, sci);
}

void pmio_power_button(struct pmio *pmio) {
	spin_guard(&pmio->dev.lock);
	pmio->status |= PM1_POWER;
	update(pmio);
}

/* ---- PM1 and PM timer: bytes, words and double words of one block ---- */

/* The eight bytes from PMIO_PM1_EVT on. */
static u64 pm1_block(struct pmio *pmio) {
	return pmio->status | (u64)pmio->enable << 16 | (u64)(pmio->control | CNT_SCI_EN) << 32;
}

static u64 pm1_read(void *dev, u64 port, unsigned size __unused) {
	struct pmio *pmio = dev;

	spin_guard(&pmio->dev.lock);
	update(pmio);
	return (pm1_block(pmio) | ~0ul << 48) >> (port & 7) * 8;
}

static void pm1_write(void *dev, u64 port, unsigned size, u64 value) {
	struct pmio *pmio = dev;
	unsigned shift = (port & 7) * 8;
	u64 mask = ~0ul >> (64 - 8 * size) << shift, data = value << shift, block;
	bool off = false;

	spin_lock(&pmio->dev.lock);
	update(pmio);
	/* Status: ones clear. Enable and control: bytes not written keep what they have. */
	block = (pm1_block(pmio) & ~mask) | (data & mask);
	if (mask & 0xffff) pmio->status &= (u16)~data;
	pmio->enable = (u16)(block >> 16) & PM1_ENABLE_ALL;
	if (mask >> 32 & 0xffff) {
		pmio->control = (u16)(block >> 32) & CNT_WRITABLE;
		/* The other sleep states do not exist. */
		off = block >> 32 & CNT_SLP_EN && CNT_SLP_TYP(block >> 32) == PMIO_S5_TYPE;
	}
	update(pmio);
	spin_unlock(&pmio->dev.lock);
	if (off) vm_end(pmio->dev.vm, VM_END_POWEROFF);
}

static u64 timer_read(void *dev, u64 port, unsigned size __unused) {
	return (u32)timer_now(dev) >> (port & 3) * 8;
}

/* ---- registers of a byte: resets, delays ---- */

static u64 byte_read(void *dev, u64 port, unsigned size) {
	struct pmio *pmio = dev;

	if (size != 1) return ~0ul;
	switch (port) {
	case PORT_92: return pmio->port92;
	case PMIO_RESET: return pmio->reset_control;
	case PORT_POST: return pmio->post;
	case PORT_DEBUG: return pmio->debug.tx ? PORT_DEBUG : ~0ul;
	default: return ~0ul; /* no keyboard controller is there; a delay says nothing */
	}
}

static void byte_write(void *dev, u64 port, unsigned size, u64 value) {
	struct pmio *pmio = dev;
	bool reset = false;

	if (size != 1) return;
	switch (port) {
	case PORT_92: /* bit 1 would gate A20, which is always open here */
		reset = value & (u8)~atomic_exchange(&pmio->port92, value & P92_WRITABLE) & P92_CPU;
		break;
	case PMIO_RESET:
		reset = value & (u8)~atomic_exchange(&pmio->reset_control, value & RST_WRITABLE) &
			RST_CPU;
		break;
	case PORT_KBD: reset = value == KBD_RESET; break;
	case PORT_POST: pmio->post = (u8)value; break;
	case PORT_DEBUG:
		if (pmio->debug.tx) pmio->debug.tx(pmio->debug.ctx, (u8)value);
		break;
	default: break;
	}
	if (reset) vm_end(pmio->dev.vm, VM_END_RESET);
}

/* ---- the debug exit ---- */

static void debug_exit_write(void *dev, u64 port, unsigned size __unused, u64 value) {
	struct pmio *pmio = dev;

	if (port != PMIO_DEBUG_EXIT || !pmio->debug_exit) return;
	spin_lock(&pmio->dev.vm->lock);
	if (pmio->dev.vm->end == VM_END_NONE) pmio->dev.vm->debug_exit_value = (u32)value;
	spin_unlock(&pmio->dev.vm->lock);
	vm_end(pmio->dev.vm, VM_END_DEBUG_EXIT);
}

/* ---- PCI configuration mechanism 1 (PCI 3.0 3.2.2.3.2) ---- */

#define PCI_ENABLE 0x80000000u
#define PCI_MASK   0x80fffffcu
#define PCI_REG	   0x000000fcu

/* CONFIG_ADDRESS is a double word; anything narrower is not for it. */
static u64 pci_address_read(void *dev, u64 port __unused, unsigned size) {
	struct pmio *pmio = dev;

	return size == 4 ? pmio->pci_address : ~0u;
}

static void pci_address_write(void *dev, u64 port __unused, unsigned size, u64 value) {
	struct pmio *pmio = dev;

	if (size == 4) pmio->pci_address = value & PCI_MASK;
}

/* The host bridge, 00:00.0: nothing to program, and the ids of the 82441FX that software knows. */
static u64 pci_data_read(void *dev, u64 port, unsigned size) {
	u32 address = ((struct pmio *)dev)->pci_address, value = 0;

	if ((address & ~PCI_REG) != PCI_ENABLE || (port & 3) + size > 4) return ~0ul;
	if ((address & PCI_REG) == 0x00) value = 0x12378086; /* device, vendor */
	if ((address & PCI_REG) == 0x08) value = 0x06000002; /* a host bridge, revision 2 */
	return value >> 8 * (port & 3);
}

static void reset(void *dev) {
	struct pmio *pmio = dev;

	pmio->base = time_tsc();
	pmio->carry = 0;
	pmio->status = pmio->enable = pmio->control = 0;
	pmio->reset_control = 0;
	pmio->port92 = 2;
	pmio->pci_address = 0;
	update(pmio);
}

const struct device_type pmio_type = {
	.reset = reset,
	.expired = update,
	.range = {{PMIO_PM1_EVT, PMIO_PM1_CNT + 1, pm1_read, pm1_write, false, NULL},
		  {PMIO_TIMER, PMIO_TIMER + 3, timer_read, bus_ignore_write, false, NULL},
		  {PMIO_RESET, PMIO_RESET, byte_read, byte_write, false, NULL},
		  {PORT_KBD, PORT_KBD, byte_read, byte_write, false, NULL},
		  {PORT_92, PORT_92, byte_read, byte_write, false, NULL},
		  {PORT_POST, PORT_POST, byte_read, byte_write, false, NULL},
		  {PORT_DELAY, PORT_DELAY, byte_read, byte_write, false, NULL},
		  {PORT_DEBUG, PORT_DEBUG, byte_read, byte_write, false, NULL},
		  {PMIO_DEBUG_EXIT, PMIO_DEBUG_EXIT + 3, byte_read, debug_exit_write, false, NULL},
		  {PORT_PCI_ADDRESS, PORT_PCI_ADDRESS, pci_address_read, pci_address_write, false,
		   NULL},
		  {PORT_PCI_DATA, PORT_PCI_DATA + 3, pci_data_read, bus_ignore_write, false, NULL}},
};
