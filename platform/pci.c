/* PCI configuration and BAR windows; see pci.h. Sections are those of PCI Local Bus 3.0. */
#include "platform/pci.h"

#include "lib/error.h"
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
	return bytes[0] | (u32)bytes[1] << 8 | (u32)bytes[2] << 16 | (u32)bytes[3] << 24;
}

static void put32(u8 *bytes, u32 value) {
	for (unsigned i = 0; i < 4; i++)
		bytes[i] = (u8)(value >> 8 * i);
}

/* ---- BARs ---- */

/* Address in a BAR, flags removed. */
static u64 bar_address(const struct pci_function *function, unsigned index) {
	const struct pci_bar *bar = &function->bar[index];
	u64 low = get32(function->config + PCI_BAR0 + 4 * index);

	if (bar->type == PCI_BAR_MEM64)
		low |= (u64)get32(function->config + PCI_BAR0 + 4 * index + 4) << 32;
	return low & ~(bar->size - 1);
}

/* Opens and closes windows as COMMAND and the BARs now say. */
static void update_windows(struct pci_function *function) {
	u32 command = function->config[PCI_COMMAND];

	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &function->bar[i];
		u32 needs = bar->type == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEM;
		u64 base = bar_address(function, i);

		if (bar->type == PCI_BAR_NONE)
			continue;
		/* All ones are being written to size it; a window at 0 or past the end is none. */
		if (!(command & needs) || !base || base + (bar->size - 1) < base ||
		    (bar->type == PCI_BAR_IO && base + (bar->size - 1) > 0xffff))
			base = WINDOW_CLOSED;
		atomic_store_explicit(&bar->base, base, memory_order_release);
	}
}

static bool valid_bar(const struct pci_function *function, unsigned index) {
	const struct pci_bar *bar = &function->bar[index];

	if (bar->type == PCI_BAR_NONE)
		return true;
	if (!bar->size || bar->size & (bar->size - 1))
		return false;
	if (bar->type == PCI_BAR_IO)
		return bar->size >= 4 && bar->size <= 256 && bar->io_read && bar->io_write;
	if (bar->size < 16 || !bar->mmio_read || !bar->mmio_write)
		return false;
	if (bar->type == PCI_BAR_MEM32)
		return bar->size <= GiB(2);
	return index + 1 < PCI_BARS && function->bar[index + 1].type == PCI_BAR_NONE;
}

/* What of a BAR can be written: the address bits above its size (6.2.5.1). */
static void init_bar(struct pci_function *function, unsigned index) {
	struct pci_bar *bar = &function->bar[index];
	unsigned offset = PCI_BAR0 + 4 * index;
	u32 flags = bar->type == PCI_BAR_IO ? BAR_IO : bar->type == PCI_BAR_MEM64 ? BAR_MEM64 : 0;
	u64 mask = ~(bar->size - 1);

	atomic_store_explicit(&bar->base, WINDOW_CLOSED, memory_order_relaxed);
	if (bar->type == PCI_BAR_NONE)
		return;
	put32(function->config + offset, get32(function->config + offset) | flags);
	put32(function->writable + offset, (u32)mask);
	if (bar->type == PCI_BAR_MEM64)
		put32(function->writable + offset + 4, (u32)(mask >> 32));
}

/* ---- configuration space ---- */

static struct pci_function *find_function(struct pci *pci, u8 devfn) {
	for (u32 i = 0; i < pci->nr_functions; i++)
		if (pci->functions[i]->devfn == devfn)
			return pci->functions[i];
	return NULL;
}

/* The function that CONFIG_ADDRESS selects; NULL when there is none. */
static struct pci_function *selected(struct pci *pci) {
	if (!(pci->address & ADDRESS_ENABLE) || ADDRESS_BUS(pci->address))
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
	if (function->written)
		function->written(function, (u8)offset, size);
}

/* CONFIG_ADDRESS is a double word; anything narrower is not for it (3.2.2.3.2). */
static u32 address_read(struct vcpu *vcpu __unused, void *dev, u16 port __unused, unsigned size) {
	struct pci *pci = dev;
	u32 value;

	spin_lock(&pci->lock);
	value = size == 4 ? pci->address : ~0u;
	spin_unlock(&pci->lock);
	return value;
}

static void address_write(struct vcpu *vcpu __unused, void *dev, u16 port __unused, unsigned size,
			  u32 value) {
	struct pci *pci = dev;

	spin_lock(&pci->lock);
	if (size == 4)
		pci->address = value & ADDRESS_MASK;
	spin_unlock(&pci->lock);
}

static u32 data_read(struct vcpu *vcpu __unused, void *dev, u16 port, unsigned size) {
	struct pci *pci = dev;
	struct pci_function *function;
	unsigned offset = port & 3;
	u32 value = ~0u;

	if (offset + size > 4)
		return ~0u;
	spin_lock(&pci->lock);
	function = selected(pci);
	if (function)
		value = get32(function->config + ADDRESS_REG(pci->address)) >> 8 * offset;
	spin_unlock(&pci->lock);
	return value;
}

static void data_write(struct vcpu *vcpu __unused, void *dev, u16 port, unsigned size, u32 value) {
	struct pci *pci = dev;
	struct pci_function *function;
	unsigned offset = port & 3;

	if (offset + size > 4)
		return;
	spin_lock(&pci->lock);
	function = selected(pci);
	if (function)
		write_config(function, ADDRESS_REG(pci->address) + offset, size, value);
	spin_unlock(&pci->lock);
}

/* ---- windows ---- */

/* The BAR that answers at this address, and the offset into it. */
static struct pci_bar *find_window(struct pci *pci, u64 address, bool io, void **dev, u64 *offset) {
	for (u32 i = 0; i < pci->nr_functions; i++) {
		struct pci_function *function = pci->functions[i];

		for (unsigned n = 0; n < PCI_BARS; n++) {
			struct pci_bar *bar = &function->bar[n];
			u64 base = atomic_load_explicit(&bar->base, memory_order_acquire);

			if (bar->type == PCI_BAR_NONE || (bar->type == PCI_BAR_IO) != io ||
			    base == WINDOW_CLOSED || address - base >= bar->size)
				continue;
			*offset = address - base;
			*dev = function->dev;
			return bar;
		}
	}
	return NULL;
}

bool pci_bar_io_read(struct pci *pci, struct vcpu *vcpu, u16 port, unsigned size, u32 *value) {
	u64 offset;
	void *dev;
	struct pci_bar *bar = find_window(pci, port, true, &dev, &offset);

	if (bar)
		*value = bar->io_read(vcpu, dev, (u16)offset, size);
	return bar;
}

bool pci_bar_io_write(struct pci *pci, struct vcpu *vcpu, u16 port, unsigned size, u32 value) {
	u64 offset;
	void *dev;
	struct pci_bar *bar = find_window(pci, port, true, &dev, &offset);

	if (bar)
		bar->io_write(vcpu, dev, (u16)offset, size, value);
	return bar;
}

bool pci_bar_mmio_read(struct pci *pci, struct vcpu *vcpu, gpa_t gpa, unsigned size, u64 *value) {
	u64 offset;
	void *dev;
	struct pci_bar *bar = find_window(pci, gpa, false, &dev, &offset);

	if (bar)
		*value = bar->mmio_read(vcpu, dev, offset, size);
	return bar;
}

bool pci_bar_mmio_write(struct pci *pci, struct vcpu *vcpu, gpa_t gpa, unsigned size, u64 value) {
	u64 offset;
	void *dev;
	struct pci_bar *bar = find_window(pci, gpa, false, &dev, &offset);

	if (bar)
		bar->mmio_write(vcpu, dev, offset, size, value);
	return bar;
}

/* ---- set-up ---- */

int pci_add(struct pci *pci, struct pci_function *function) {
	u8 command = 0;

	if (find_function(pci, function->devfn))
		return E_EXIST;
	if (pci->nr_functions == PCI_MAX_FUNCTIONS)
		return E_NOMEM;
	for (unsigned i = 0; i < PCI_BARS; i++)
		if (!valid_bar(function, i))
			return E_INVAL;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		init_bar(function, i);
		if (function->bar[i].type != PCI_BAR_NONE)
			command |= function->bar[i].type == PCI_BAR_IO ? PCI_COMMAND_IO
								       : PCI_COMMAND_MEM;
	}
	if (command)
		function->writable[PCI_COMMAND] |= command | PCI_COMMAND_MASTER;
	memcpy(pci->reset_config[pci->nr_functions], function->config, HEADER_BYTES);
	pci->functions[pci->nr_functions++] = function;
	return 0;
}

void pci_reset(struct pci *pci) {
	spin_lock(&pci->lock);
	pci->address = 0;
	for (u32 i = 0; i < pci->nr_functions; i++) {
		memcpy(pci->functions[i]->config, pci->reset_config[i], HEADER_BYTES);
		update_windows(pci->functions[i]);
	}
	spin_unlock(&pci->lock);
}

/* A host bridge that has nothing to program, with the ids of the 82441FX that software knows. */
static int add_host_bridge(struct pci *pci) {
	struct pci_function *bridge = &pci->host_bridge;

	put32(bridge->config + PCI_VENDOR, 0x12378086);
	bridge->config[PCI_REVISION] = 2;
	bridge->config[PCI_CLASS + 2] = 6; /* bridge, host */
	return pci_add(pci, bridge);
}

int pci_setup(struct pci *pci, struct bus *bus) {
	static const struct io_range ports[] = {
		{PORT_ADDRESS, PORT_ADDRESS, address_read, address_write, NULL, "pci-address",
		 false},
		{PORT_DATA, PORT_DATA + 3, data_read, data_write, NULL, "pci-data", false},
	};
	int error = bus_add_ports(bus, pci, ports, ARRAY_SIZE(ports));

	bus->pci = pci;
	return error ? error : add_host_bridge(pci);
}
