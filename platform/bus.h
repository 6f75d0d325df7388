/*
 * Port and memory-mapped I/O of one VM. Ports belong to ranges that do not overlap, added before
 * the vCPUs run. Of memory there are only the local APIC page of each vCPU, which its guest may
 * move, and the IOAPIC. What is unclaimed reads as all ones.
 */
#pragma once

#include "lib/types.h"

struct vcpu;
struct vm;

/*
 * Handlers of a device's ports; size is 1, 2 or 4. A handler sees each access as the guest made it
 * and owns the rules for widths: what its register does not support reads as all ones and is
 * ignored on write unless the datasheet says otherwise. Results are cut to size by the bus.
 */
typedef u64 (*bus_read_fn)(void *dev, u64 port, unsigned size);
typedef void (*bus_write_fn)(void *dev, u64 port, unsigned size, u64 value);
void bus_ignore_write(void *dev, u64 port, unsigned size, u64 value);

struct bus_range {
	u16 first, last; /* ports, both inclusive */
	bus_read_fn read;
	bus_write_fn write;
	bool bytes; /* 8-bit ports: it sees wider accesses as bytes to the ports that follow */
	void *dev;  /* set by bus_add() */
};

#define BUS_MAX_RANGES 32

struct bus {
	/* Which range a port most likely belongs to, by port_hint(): saves the search. */
	u8 hint[256];
	u32 count;
	struct bus_range range[BUS_MAX_RANGES];
};

/* Ranges neither overlap nor are too many: a test looks at the whole platform. */
void bus_add(struct bus *bus, void *dev, const struct bus_range *range);

/* An access belongs to the range of its first byte; size: 1, 2, 4, of memory also 8. */
u32 bus_io_read(struct vm *vm, u16 port, unsigned size);
void bus_io_write(struct vm *vm, u16 port, unsigned size, u32 value);
u64 bus_mmio_read(struct vcpu *vcpu, gpa_t gpa, unsigned size);
void bus_mmio_write(struct vcpu *vcpu, gpa_t gpa, unsigned size, u64 value);
