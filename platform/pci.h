/* PCI of a VM: a host bridge at 00:00.0, by configuration mechanism 1 (PCI 3.0 3.2.2.3.2). */
#pragma once

#include "platform/device.h"

struct pci {
	struct device dev;
	u32 address; /* CONFIG_ADDRESS */
};

extern const struct device_type pci_type;
