/* PCI configuration space; see pci.h. */
#include "platform/pci.h"

enum { PORT_ADDRESS = 0xcf8, PORT_DATA = 0xcfc };

#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_MASK   0x80fffffcu
#define ADDRESS_REG    0x000000fcu

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

/* The host bridge has nothing to program, and the ids of the 82441FX that software knows. */
static u64 data_read(void *dev, u64 port, unsigned size) {
	struct pci *pci = dev;
	u64 value = 0;

	spin_guard(&pci->dev.lock);
	if ((pci->address & ~ADDRESS_REG) != ADDRESS_ENABLE || (port & 3) + size > 4) return ~0ul;
	switch (pci->address & ADDRESS_REG) {
	case 0x00: value = 0x12378086; break; /* device, vendor */
	case 0x08: value = 0x06000002; break; /* a host bridge, revision 2 */
	default: break;
	}
	return value >> 8 * (port & 3);
}

static void reset(void *dev) {
	struct pci *pci = dev;

	pci->address = 0;
}

const struct device_type pci_type = {
	.reset = reset,
	.nr_ranges = 2,
	.range = {{PORT_ADDRESS, PORT_ADDRESS, address_read, address_write, false, NULL},
		  {PORT_DATA, PORT_DATA + 3, data_read, bus_ignore_write, false, NULL}},
};
