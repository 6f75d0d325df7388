/*
 * Port and memory-mapped I/O of one VM: non-overlapping ranges, added before the vCPUs run, found
 * by binary search. What moves while the guest runs stands beside the tables: each vCPU's local
 * APIC page.
 */
#pragma once

#include "lib/types.h"

struct vcpu;
struct vm;

enum bus_space { BUS_IO, BUS_MMIO };

/*
 * Handlers of a device's range. `at` is the port, or the offset into a range of memory; size is 1,
 * 2 or 4 for ports, 1, 2, 4 or 8 for memory. A handler sees each access as the guest made it and
 * owns the rules for widths: what its register does not support reads as all ones and is ignored on
 * write unless the datasheet says otherwise. Results are cut to size by the bus.
 */
typedef u64 (*bus_read_fn)(void *dev, u64 at, unsigned size);
typedef void (*bus_write_fn)(void *dev, u64 at, unsigned size, u64 value);
void bus_ignore_write(void *dev, u64 at, unsigned size, u64 value);

struct bus_range {
	u64 first, last; /* ports or guest physical addresses, both inclusive */
	bus_read_fn read;
	bus_write_fn write;
	bool bytes; /* 8-bit ports: it sees wider accesses as bytes to the ports that follow */
	void *dev;  /* set by bus_add() */
};

#define BUS_MAX_RANGES 48

struct bus_table {
	u32 count;
	struct bus_range range[BUS_MAX_RANGES]; /* sorted */
};

struct bus {
	/* Where a port's range most likely is, by port_hint(): saves the search. */
	u8 io_hint[256];
	struct bus_table table[2]; /* by enum bus_space */
};

/* Ranges are constants that neither overlap nor are too many: a test looks at the whole platform.
 */
void bus_add(struct bus *bus, enum bus_space space, void *dev, const struct bus_range *ranges,
	     u32 nr);

/* What is unclaimed reads as all ones. An access belongs to the range of its first byte. */
u32 bus_io_read(struct bus *bus, u16 port, unsigned size);
void bus_io_write(struct bus *bus, u16 port, unsigned size, u32 value);
u64 bus_mmio_read(struct bus *bus, struct vcpu *vcpu, gpa_t gpa, unsigned size);
void bus_mmio_write(struct bus *bus, struct vcpu *vcpu, gpa_t gpa, unsigned size, u64 value);

/* The bus of a VM (platform/platform.c). */
struct bus *vm_bus(struct vm *vm);
