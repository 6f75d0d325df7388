/* Port and memory-mapped I/O: two sorted tables and the search in them; see bus.h. */
#include "platform/bus.h"

#include "platform/lapic.h"

/* All ones in size bytes, 1 to 8. */
static u64 ones(unsigned size) { return ~0ul >> (64 - 8 * size); }

static bool valid_size(unsigned size, unsigned max) {
	return size && size <= max && !(size & (size - 1));
}

/* Devices lie on multiples of 4, and few of them 1 KiB apart. */
static u8 port_hint(u16 port) { return (u8)(port >> 2); }

static void fill_hints(struct bus *bus) {
	const struct bus_table *io = &bus->table[BUS_IO];

	for (u32 i = io->count; i-- > 0;)
		for (u64 port = io->range[i].first; port <= io->range[i].last; port++)
			bus->io_hint[port_hint((u16)port)] = (u8)i;
}

void bus_add(struct bus *bus, enum bus_space space, void *dev, const struct bus_range *ranges,
	     u32 nr) {
	struct bus_table *table = &bus->table[space];

	for (u32 i = 0; i < nr; i++) {
		u32 at = table->count++;

		for (; at && table->range[at - 1].first > ranges[i].first; at--)
			table->range[at] = table->range[at - 1];
		table->range[at] = ranges[i];
		table->range[at].dev = dev;
	}
	fill_hints(bus);
}

static const struct bus_range *search(const struct bus_table *table, u64 address) {
	u32 low = 0, high = table->count;

	while (low < high) {
		u32 middle = (low + high) / 2;
		const struct bus_range *range = &table->range[middle];

		if (address < range->first)
			high = middle;
		else if (address > range->last)
			low = middle + 1;
		else
			return range;
	}
	return NULL;
}

/* An unused entry of the table, all zero, can only be hit by port 0: handlers tell. */
static const struct bus_range *find_io(const struct bus *bus, u16 port) {
	const struct bus_table *io = &bus->table[BUS_IO];
	const struct bus_range *range = &io->range[bus->io_hint[port_hint(port)]];

	if (likely(port >= range->first && port <= range->last && range->read)) return range;
	return search(io, port);
}

/* As the ISA bus does for an 8-bit device: one cycle a byte, low byte first. */
static __noinline u32 read_bytes(struct bus *bus, u16 port, unsigned size) {
	u32 value = 0;

	for (unsigned i = 0; i < size; i++) value |= bus_io_read(bus, (u16)(port + i), 1) << 8 * i;
	return value;
}

static __noinline void write_bytes(struct bus *bus, u16 port, unsigned size, u32 value) {
	for (unsigned i = 0; i < size; i++)
		bus_io_write(bus, (u16)(port + i), 1, value >> 8 * i & 0xff);
}

u32 bus_io_read(struct bus *bus, u16 port, unsigned size) {
	const struct bus_range *range = find_io(bus, port);
	u64 value = ~0ul;

	if (unlikely(!valid_size(size, 4))) return ~0u;
	if (unlikely(size > 1 && range && range->bytes))
		value = read_bytes(bus, port, size);
	else if (likely(range))
		value = range->read(range->dev, port, size);
	return (u32)(value & ones(size));
}

void bus_io_write(struct bus *bus, u16 port, unsigned size, u32 value) {
	const struct bus_range *range = find_io(bus, port);

	if (unlikely(!valid_size(size, 4))) return;
	value &= (u32)ones(size);
	if (unlikely(size > 1 && range && range->bytes))
		write_bytes(bus, port, size, value);
	else if (likely(range))
		range->write(range->dev, port, size, value);
}

u64 bus_mmio_read(struct bus *bus, struct vcpu *vcpu, gpa_t gpa, unsigned size) {
	u64 value = ~0ul;

	if (unlikely(!valid_size(size, 8))) return value;
	if (lapic_claims(vcpu, gpa))
		return lapic_mmio_read(vcpu, (u32)(gpa & ~PAGE_MASK), size) & ones(size);
	const struct bus_range *range = search(&bus->table[BUS_MMIO], gpa);
	if (likely(range)) value = range->read(range->dev, gpa - range->first, size);
	return value & ones(size);
}

void bus_mmio_write(struct bus *bus, struct vcpu *vcpu, gpa_t gpa, unsigned size, u64 value) {
	if (unlikely(!valid_size(size, 8))) return;
	value &= ones(size);
	if (lapic_claims(vcpu, gpa)) {
		lapic_mmio_write(vcpu, (u32)(gpa & ~PAGE_MASK), size, value);
		return;
	}
	const struct bus_range *range = search(&bus->table[BUS_MMIO], gpa);
	if (likely(range)) range->write(range->dev, gpa - range->first, size, value);
}

void bus_ignore_write(void *dev __unused, u64 at __unused, unsigned size __unused,
		      u64 value __unused) {}
