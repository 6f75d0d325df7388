/* PCI configuration and BAR windows; see pci.h. Sections are those of PCI Local Bus 3.0. */
#include "platform/pci.h"

#include "lib/string.h"

#define PORT_ADDRESS   0xcf8
#define PORT_DATA      0xcfc

#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_MASK   0x80fffffcu
#define ADDRESS_BUS(a) ((a) >> 16 & 0xff)
#define ADDRESS_FN(a)  ((u8)((a) >> 8))
#define ADDRESS_REG(a) ((a)&0xfc)

#define BAR_IO	       1u
#define BAR_MEM64      4u

#define HEADER_BYTES   64

#define WINDOW_CLOSED  (~0ul)

static u32 get32(const u8 *bytes) {
	u32 value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

static void put32(u8 *bytes, u32 value) { memcpy(bytes, &value, sizeof(value)); }

/* ---- BARs ---- */

/* Address in a BAR, flags removed. */
static u64 bar_address(const struct pci_function *function, unsigned index) {
	const struct pci_bar *bar = &function->bar[index];
	u64 low = get32(function->config + PCI_BAR0 + 4 * index);

	if (bar->type == PCI_BAR_MEM64)
		low |= (u64)get32(function->config + PCI_BAR0 + 4 * index + 4) << 32;
	return low & ~(bar->size - 1);
}

/* The bit of COMMAND that opens it. */
static u8 command_bit(const struct pci_bar *bar) {
	return bar->type == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEM;
}

/* Opens and closes windows as COMMAND and the BARs now say. */
static void update_windows(struct pci_function *function) {
	u32 command = function->config[PCI_COMMAND];

	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &function->bar[i];
		u64 base = bar_address(function, i);

		if (bar->type == PCI_BAR_NONE) continue;
		/* All ones are being written to size it; a window at 0 or past the end is none. */
		if (!(command & command_bit(bar)) || !base || base + (bar->size - 1) < base ||
		    (bar->type == PCI_BAR_IO && base + (bar->size - 1) > 0xffff))
			base = WINDOW_CLOSED;
		atomic_store_explicit(&bar->base, base, memory_order_release);
	}
}

static bool valid_bar(const struct pci_function *function, unsigned index) {
	const struct pci_bar *bar = &function->bar[index];

	if (bar->type == PCI_BAR_NONE) return true;
	if (!bar->size || bar->size & (bar->size - 1) || !bar->read || !bar->write) return false;
	switch (bar->type) {
	case PCI_BAR_IO: return bar->size >= 4 && bar->size <= 256;
	case PCI_BAR_MEM32: return bar->size >= 16 && bar->size <= GiB(2);
	default:
		return bar->size >= 16 && index + 1 < PCI_BARS &&
		       function->bar[index + 1].type == PCI_BAR_NONE;
	}
}

/* What of a BAR can be written: the address bits above its size (6.2.5.1), and its enable bit. */
static void init_bar(struct pci_function *function, unsigned index) {
	static const u8 flags[] = {[PCI_BAR_IO] = BAR_IO, [PCI_BAR_MEM64] = BAR_MEM64};
	struct pci_bar *bar = &function->bar[index];
	unsigned offset = PCI_BAR0 + 4 * index;
	u64 mask = ~(bar->size - 1);

	atomic_store_explicit(&bar->base, WINDOW_CLOSED, memory_order_relaxed);
	if (bar->type == PCI_BAR_NONE) return;
	function->config[offset] |= flags[bar->type];
	put32(function->writable + offset, (u32)mask);
	if (bar->type == PCI_BAR_MEM64) put32(function->writable + offset + 4, (u32)(mask >> 32));
	function->writable[PCI_COMMAND] |= command_bit(bar) | PCI_COMMAND_MASTER;
}

/* ---- configuration space ---- */

static struct pci_function *find_function(struct pci *pci, u8 devfn) {
	for (u32 i = 0; i < pci->nr_functions; i++)
		if (pci->functions[i]->devfn == devfn) return pci->functions[i];
	return NULL;
}

/* The function that CONFIG_ADDRESS selects; NULL when there is none, or across the register's end.
 */
static struct pci_function *selected(struct pci *pci, u64 port, unsigned size) {
	if (!(pci->address & ADDRESS_ENABLE) || ADDRESS_BUS(pci->address) || (port & 3) + size > 4)
		return NULL;
	return find_function(pci, ADDRESS_FN(pci->address));
}

static void write_config(struct pci_function *function, unsigned offset, unsigned size, u32 value) {
	for (unsigned i = 0; i < size; i++, value >>= 8) {
		u8 mask = function->writable[offset + i];
		u8 *byte = &function->config[offset + i];

		*byte = (u8)((*byte & ~mask) | (value & mask));
	}
	if (offset < PCI_BAR0 + 4 * PCI_BARS && offset + size > PCI_COMMAND)
		update_windows(function);
	if (function->written) function->written(function, (u8)offset, size);
}

/* CONFIG_ADDRESS is a double word; anything narrower is not for it (3.2.2.3.2). */
static u64 address_read(void *dev, u64 port __unused, unsigned size) {
	struct pci *pci = dev;

	spin_guard(&pci->dev.lock);
	return size == 4 ? pci->address : ~0u;
}

static void address_write(void *dev, u64 port __unused, unsigned size, u64 value) {
	struct pci *pci = dev;

	spin_guard(&pci->dev.lock);
	if (size == 4) pci->address = value & ADDRESS_MASK;
}

static u64 data_read(void *dev, u64 port, unsigned size) {
	struct pci *pci = dev;

	spin_guard(&pci->dev.lock);
	struct pci_function *function = selected(pci, port, size);
	if (!function) return ~0ul;
	return get32(function->config + ADDRESS_REG(pci->address)) >> 8 * (port & 3);
}

static void data_write(void *dev, u64 port, unsigned size, u64 value) {
	struct pci *pci = dev;

	spin_guard(&pci->dev.lock);
	struct pci_function *function = selected(pci, port, size);
	if (function)
		write_config(function, ADDRESS_REG(pci->address) + (port & 3), size, (u32)value);
}

/* ---- windows ---- */

/* The BAR that answers at this address, with its device; the address becomes the offset into it. */
static const struct pci_bar *find_window(struct pci *pci, enum bus_space space, u64 *address,
					 void **dev) {
	for (u32 i = 0; pci && i < pci->nr_functions; i++) {
		struct pci_function *function = pci->functions[i];

		for (unsigned n = 0; n < PCI_BARS; n++) {
			const struct pci_bar *bar = &function->bar[n];
			u64 base = atomic_load_explicit(&bar->base, memory_order_acquire);

			if ((bar->type == PCI_BAR_IO) != (space == BUS_IO) ||
			    base == WINDOW_CLOSED || *address - base >= bar->size)
				continue;
			*address -= base;
			*dev = function->dev;
			return bar;
		}
	}
	return NULL;
}

u64 pci_bar_read(struct pci *pci, enum bus_space space, u64 address, unsigned size) {
	void *dev;
	const struct pci_bar *bar = find_window(pci, space, &address, &dev);

	return bar ? bar->read(dev, address, size) : ~0ul;
}

void pci_bar_write(struct pci *pci, enum bus_space space, u64 address, unsigned size, u64 value) {
	void *dev;
	const struct pci_bar *bar = find_window(pci, space, &address, &dev);

	if (bar) bar->write(dev, address, size, value);
}

/* ---- set-up ---- */

int pci_add(struct pci *pci, struct pci_function *function) {
	if (find_function(pci, function->devfn)) return E_EXIST;
	if (pci->nr_functions == PCI_MAX_FUNCTIONS) return E_NOMEM;
	for (unsigned i = 0; i < PCI_BARS; i++)
		if (!valid_bar(function, i)) return E_INVAL;
	for (unsigned i = 0; i < PCI_BARS; i++) init_bar(function, i);
	memcpy(pci->reset_config[pci->nr_functions], function->config, HEADER_BYTES);
	pci->functions[pci->nr_functions++] = function;
	return 0;
}

static void reset(void *dev) {
	struct pci *pci = dev;

	pci->address = 0;
	for (u32 i = 0; i < pci->nr_functions; i++) {
		memcpy(pci->functions[i]->config, pci->reset_config[i], HEADER_BYTES);
		update_windows(pci->functions[i]);
	}
}

/* The host bridge has nothing to program, and the ids of the 82441FX that software knows. */
int pci_add_host_bridge(struct pci *pci) {
	struct pci_function *bridge = &pci->host_bridge;

	put32(bridge->config + PCI_VENDOR, 0x12378086);
	bridge->config[PCI_REVISION] = 2;
	bridge->config[PCI_CLASS + 2] = 6; /* bridge, host */
	return pci_add(pci, bridge);
}

const struct device_type pci_type = {
	.reset = reset,
	.nr_ranges = 2,
	.range = {{PORT_ADDRESS, PORT_ADDRESS, address_read, address_write, false, NULL},
		  {PORT_DATA, PORT_DATA + 3, data_read, data_write, false, NULL}},
};
