/*
 * Port and memory-mapped I/O of one VM: non-overlapping ranges, found by binary search. Ranges are
 * added before the VM's vCPUs run and do not change afterwards. What moves while the guest runs
 * stands beside the tables: the local APIC page, which is each vCPU's own, and the windows of PCI
 * BARs, which the PCI part looks up when the tables have nothing.
 */
#pragma once

#include "lib/types.h"

struct vcpu;
struct vm;
struct pci;

/*
 * size is 1, 2 or 4 for ports; 1, 2, 4 or 8 for memory. A handler sees each access as the guest
 * made it and owns the rules for widths: what its register does not support reads as all ones and
 * is ignored on write unless the datasheet says otherwise. Results are cut to size by the bus.
 */
typedef u32 (*io_read_fn)(struct vcpu *vcpu, void *dev, u16 port, unsigned size);
typedef void (*io_write_fn)(struct vcpu *vcpu, void *dev, u16 port, unsigned size, u32 value);
typedef u64 (*mmio_read_fn)(struct vcpu *vcpu, void *dev, u64 offset, unsigned size);
typedef void (*mmio_write_fn)(struct vcpu *vcpu, void *dev, u64 offset, unsigned size, u64 value);

struct io_range {
	u16 first, last; /* ports, both inclusive */
	io_read_fn read;
	io_write_fn write;
	void *dev;
	const char *name;
	bool bytes; /* 8-bit device: it sees wider accesses as bytes to the ports that follow */
};

struct mmio_range {
	gpa_t base;
	u64 size; /* bytes, not 0 */
	mmio_read_fn read;
	mmio_write_fn write;
	void *dev;
	const char *name;
};

#define BUS_MAX_IO   48
#define BUS_MAX_MMIO 32

struct bus {
	/* Where a port's range most likely is, by port_hint(): saves the search. */
	u8 io_hint[256];
	struct io_range io[BUS_MAX_IO];
	struct mmio_range mmio[BUS_MAX_MMIO];
	u32 nr_io, nr_mmio;
	struct pci *pci; /* NULL: no BAR windows */
};

/* 0; E_NOMEM: table full; E_EXIST: overlap; E_INVAL: it is empty, wraps, or lacks a handler. */
int bus_add_io(struct bus *bus, const struct io_range *range) __must_check;
int bus_add_mmio(struct bus *bus, const struct mmio_range *range) __must_check;

/* All port ranges of one device, which becomes their dev; stops at the first error. */
int bus_add_ports(struct bus *bus, void *dev, const struct io_range *ranges, u32 nr) __must_check;

/* What is unclaimed reads as all ones. An access belongs to the range of its first byte. */
u32 bus_io_read(struct bus *bus, struct vcpu *vcpu, u16 port, unsigned size);
void bus_io_write(struct bus *bus, struct vcpu *vcpu, u16 port, unsigned size, u32 value);
u64 bus_mmio_read(struct bus *bus, struct vcpu *vcpu, gpa_t gpa, unsigned size);
void bus_mmio_write(struct bus *bus, struct vcpu *vcpu, gpa_t gpa, unsigned size, u64 value);

/* The bus of a VM (platform/platform.c). */
struct bus *vm_bus(struct vm *vm);
