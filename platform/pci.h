/*
 * PCI of a VM: one bus with a host bridge at 00:00.0 and nothing else, behind configuration
 * mechanism 1 (PCI Local Bus 3.0, 3.2.2.3.2) at ports 0xcf8 and 0xcfc.
 */
#pragma once

#include "platform/device.h"

struct pci {
	struct device dev;
	u32 address; /* CONFIG_ADDRESS */
};

extern const struct device_type pci_type;
