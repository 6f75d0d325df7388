/* Port and memory-mapped I/O: two sorted tables and the search in them; see bus.h. */
#include "platform/bus.h"

#include "kernel/vcpu.h"
#include "lib/error.h"
#include "platform/lapic.h"
#include "platform/pci.h"

/* All ones in size bytes, 1 to 8. */
static u64 ones(unsigned size) { return ~0ul >> (64 - 8 * size); }

static bool valid_size(unsigned size, unsigned max) {
	return size && size <= max && !(size & (size - 1));
}

/* Devices lie on multiples of 4, and few of them 1 KiB apart. */
static u8 port_hint(u16 port) { return (u8)(port >> 2); }

static void fill_hints(struct bus *bus) {
	for (u32 i = bus->nr_io; i-- > 0;)
		for (u32 port = bus->io[i].first; port <= bus->io[i].last; port++)
			bus->io_hint[port_hint((u16)port)] = (u8)i;
}

int bus_add_io(struct bus *bus, const struct io_range *range) {
	u32 at = 0;

	if (range->first > range->last || !range->read || !range->write)
		return E_INVAL;
	if (bus->nr_io == BUS_MAX_IO)
		return E_NOMEM;
	while (at < bus->nr_io && bus->io[at].last < range->first)
		at++;
	if (at < bus->nr_io && bus->io[at].first <= range->last)
		return E_EXIST;
	for (u32 i = bus->nr_io; i > at; i--)
		bus->io[i] = bus->io[i - 1];
	bus->io[at] = *range;
	bus->nr_io++;
	fill_hints(bus);
	return 0;
}

int bus_add_ports(struct bus *bus, void *dev, const struct io_range *ranges, u32 nr) {
	int error = 0;

	for (u32 i = 0; i < nr && !error; i++) {
		struct io_range range = ranges[i];

		range.dev = dev;
		error = bus_add_io(bus, &range);
	}
	return error;
}

int bus_add_mmio(struct bus *bus, const struct mmio_range *range) {
	u32 at = 0;

	if (!range->size || range->base + (range->size - 1) < range->base || !range->read ||
	    !range->write)
		return E_INVAL;
	if (bus->nr_mmio == BUS_MAX_MMIO)
		return E_NOMEM;
	while (at < bus->nr_mmio && bus->mmio[at].base + (bus->mmio[at].size - 1) < range->base)
		at++;
	if (at < bus->nr_mmio && bus->mmio[at].base <= range->base + (range->size - 1))
		return E_EXIST;
	for (u32 i = bus->nr_mmio; i > at; i--)
		bus->mmio[i] = bus->mmio[i - 1];
	bus->mmio[at] = *range;
	bus->nr_mmio++;
	return 0;
}

static const struct io_range *search_io(const struct bus *bus, u16 port) {
	u32 low = 0, high = bus->nr_io;

	while (low < high) {
		u32 middle = (low + high) / 2;
		const struct io_range *range = &bus->io[middle];

		if (port < range->first)
			high = middle;
		else if (port > range->last)
			low = middle + 1;
		else
			return range;
	}
	return NULL;
}

/* An unused entry of the table, all zero, can only be hit by port 0: handlers tell. */
static const struct io_range *find_io(const struct bus *bus, u16 port) {
	const struct io_range *range = &bus->io[bus->io_hint[port_hint(port)]];

	if (likely(port >= range->first && port <= range->last && range->read))
		return range;
	return search_io(bus, port);
}

static const struct mmio_range *find_mmio(const struct bus *bus, gpa_t gpa) {
	u32 low = 0, high = bus->nr_mmio;

	while (low < high) {
		u32 middle = (low + high) / 2;
		const struct mmio_range *range = &bus->mmio[middle];

		if (gpa < range->base)
			high = middle;
		else if (gpa - range->base >= range->size)
			low = middle + 1;
		else
			return range;
	}
	return NULL;
}

/* As the ISA bus does for an 8-bit device: one cycle a byte, low byte first. */
static __noinline u32 read_bytes(struct bus *bus, struct vcpu *vcpu, u16 port, unsigned size) {
	u32 value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= bus_io_read(bus, vcpu, (u16)(port + i), 1) << 8 * i;
	return value;
}

static __noinline void write_bytes(struct bus *bus, struct vcpu *vcpu, u16 port, unsigned size,
				   u32 value) {
	for (unsigned i = 0; i < size; i++)
		bus_io_write(bus, vcpu, (u16)(port + i), 1, value >> 8 * i & 0xff);
}

u32 bus_io_read(struct bus *bus, struct vcpu *vcpu, u16 port, unsigned size) {
	const struct io_range *range = find_io(bus, port);
	u32 value = ~0u;

	if (unlikely(!valid_size(size, 4)))
		return ~0u;
	if (unlikely(size > 1 && range && range->bytes))
		value = read_bytes(bus, vcpu, port, size);
	else if (likely(range))
		value = range->read(vcpu, range->dev, port, size);
	else if (bus->pci)
		pci_bar_io_read(bus->pci, vcpu, port, size, &value);
	return value & (u32)ones(size);
}

void bus_io_write(struct bus *bus, struct vcpu *vcpu, u16 port, unsigned size, u32 value) {
	const struct io_range *range = find_io(bus, port);

	if (unlikely(!valid_size(size, 4)))
		return;
	value &= (u32)ones(size);
	if (unlikely(size > 1 && range && range->bytes))
		write_bytes(bus, vcpu, port, size, value);
	else if (likely(range))
		range->write(vcpu, range->dev, port, size, value);
	else if (bus->pci)
		pci_bar_io_write(bus->pci, vcpu, port, size, value);
}

u64 bus_mmio_read(struct bus *bus, struct vcpu *vcpu, gpa_t gpa, unsigned size) {
	const struct mmio_range *range;
	u64 value = ~0ul;

	if (unlikely(!valid_size(size, 8)))
		return ~0ul;
	if (lapic_claims(vcpu, gpa))
		return lapic_mmio_read(vcpu, (u32)(gpa & ~PAGE_MASK), size) & ones(size);
	range = find_mmio(bus, gpa);
	if (likely(range))
		value = range->read(vcpu, range->dev, gpa - range->base, size);
	else if (bus->pci)
		pci_bar_mmio_read(bus->pci, vcpu, gpa, size, &value);
	return value & ones(size);
}

void bus_mmio_write(struct bus *bus, struct vcpu *vcpu, gpa_t gpa, unsigned size, u64 value) {
	const struct mmio_range *range;

	if (unlikely(!valid_size(size, 8)))
		return;
	value &= ones(size);
	if (lapic_claims(vcpu, gpa)) {
		lapic_mmio_write(vcpu, (u32)(gpa & ~PAGE_MASK), size, value);
		return;
	}
	range = find_mmio(bus, gpa);
	if (likely(range))
		range->write(vcpu, range->dev, gpa - range->base, size, value);
	else if (bus->pci)
		pci_bar_mmio_write(bus->pci, vcpu, gpa, size, value);
}
