/*
 * PCI of a VM: one bus, configuration mechanism 1 (PCI 3.0, 3.2.2.3.2), a host bridge at 00:00.0,
 * and a registry of functions. A function gives its configuration space with a mask of what
 * software may write; BARs and the COMMAND register that turns them on are handled here.
 */
#pragma once

#include "platform/device.h"

struct pci_function;

#define PCI_MAX_FUNCTIONS 16
#define PCI_BARS	  6
#define PCI_DEVFN(d, f)	  ((u8)((d) << 3 | (f)))

/* Offsets in configuration space. The class is three bytes: interface, sub-class, class. */
enum { PCI_VENDOR = 0x00, PCI_DEVICE = 0x02, PCI_COMMAND = 0x04, PCI_STATUS = 0x06 };
enum { PCI_REVISION = 0x08, PCI_CLASS = 0x09, PCI_HEADER = 0x0e, PCI_BAR0 = 0x10 };
enum { PCI_SUBSYS_VENDOR = 0x2c, PCI_SUBSYS_DEVICE = 0x2e, PCI_CAPABILITIES = 0x34 };
enum { PCI_INT_LINE = 0x3c, PCI_INT_PIN = 0x3d };

#define PCI_COMMAND_IO	    0x0001u
#define PCI_COMMAND_MEM	    0x0002u
#define PCI_COMMAND_MASTER  0x0004u
#define PCI_COMMAND_NO_INTX 0x0400u

enum pci_bar_type { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 };

struct pci_bar {
	u8 type;  /* enum pci_bar_type; a 64-bit one takes the next index too, which stays NONE */
	u64 size; /* bytes, a power of two: 4 to 256 for I/O, 16 and more for memory */
	/* As on the bus, for the function's dev; `at` counts from the BAR's base. */
	bus_read_fn read;
	bus_write_fn write;
	_Atomic u64 base; /* where it answers now; ~0 while it does not */
};

struct pci_function {
	u8 devfn;
	u8 config[256];
	u8 writable[256]; /* bits that software may set; COMMAND and BARs are added by pci_add() */
	struct pci_bar bar[PCI_BARS];
	void *dev;
	/* After a write of config[offset, offset + size), the PCI lock held; may be NULL. */
	void (*written)(struct pci_function *function, u8 offset, unsigned size);
};

struct pci {
	struct device dev;
	u32 address; /* CONFIG_ADDRESS */
	u32 nr_functions;
	struct pci_function *functions[PCI_MAX_FUNCTIONS];
	struct pci_function host_bridge;
	u8 reset_config[PCI_MAX_FUNCTIONS][64]; /* headers as pci_add() found them */
};

int pci_add_host_bridge(struct pci *pci) __must_check;

extern const struct device_type pci_type;

/*
 * Adds a function before the vCPUs run; it stays the caller's. 0; E_EXIST when its devfn is taken;
 * E_NOMEM when there is no room; E_INVAL when a BAR has an impossible size or no handlers.
 */
int pci_add(struct pci *pci, struct pci_function *function) __must_check;

/* For the bus: an access that no fixed range claims. Without a BAR there: all ones, ignored. */
u64 pci_bar_read(struct pci *pci, enum bus_space space, u64 address, unsigned size);
void pci_bar_write(struct pci *pci, enum bus_space space, u64 address, unsigned size, u64 value);
