/* Port and memory-mapped I/O; see bus.h. */
#include "platform/bus.h"

#include "platform/platform.h"

/* All ones in size bytes, 1 to 8. */
static u64 ones(unsigned size) { return ~0ul >> (64 - 8 * size); }

/* Devices lie on multiples of 4, and few of them 1 KiB apart. */
static u8 port_hint(u16 port) { return (u8)(port >> 2); }

void bus_add(struct bus *bus, void *dev, const struct bus_range *range) {
	bus->range[bus->count] = *range;
	bus->range[bus->count].dev = dev;
	for (u32 port = range->first; port <= range->last; port++)
		bus->hint[port_hint((u16)port)] = (u8)bus->count;
	bus->count++;
}

static const struct bus_range *find_io(const struct bus *bus, u16 port) {
	const struct bus_range *range = &bus->range[bus->hint[port_hint(port)]];

	if (likely(port >= range->first && port <= range->last)) return range;
	for (u32 i = 0; i < bus->count; i++)
		if (port >= bus->range[i].first && port <= bus->range[i].last)
			return &bus->range[i];
	return NULL;
}

/* As the ISA bus does for an 8-bit device: one cycle a byte, low byte first. */
static __noinline u32 read_bytes(struct vm *vm, u16 port, unsigned size) {
	u32 value = 0;

	for (unsigned i = 0; i < size; i++) value |= bus_io_read(vm, (u16)(port + i), 1) << 8 * i;
	return value;
}

static __noinline void write_bytes(struct vm *vm, u16 port, unsigned size, u32 value) {
	for (unsigned i = 0; i < size; i++)
		bus_io_write(vm, (u16)(port + i), 1, value >> 8 * i & 0xff);
}

u32 bus_io_read(struct vm *vm, u16 port, unsigned size) {
	const struct bus_range *range = find_io(&vm->platform->bus, port);
	u64 value = ~0ul;

	if (unlikely(size > 1 && range && range->bytes))
		value = read_bytes(vm, port, size);
	else if (likely(range))
		value = range->read(range->dev, port, size);
	return (u32)(value & ones(size));
}

void bus_io_write(struct vm *vm, u16 port, unsigned size, u32 value) {
	const struct bus_range *range = find_io(&vm->platform->bus, port);

	value &= (u32)ones(size);
	if (unlikely(size > 1 && range && range->bytes))
		write_bytes(vm, port, size, value);
	else if (likely(range))
		range->write(range->dev, port, size, value);
}

u64 bus_mmio_read(struct vcpu *vcpu, gpa_t gpa, unsigned size) {
	u64 value = ~0ul;

	if (lapic_claims(vcpu, gpa))
		value = lapic_mmio_read(vcpu, (u32)(gpa & ~PAGE_MASK), size);
	else if (likely(gpa - IOAPIC_BASE < IOAPIC_SIZE))
		value = ioapic_read(&vcpu->vm->platform->ioapic, gpa - IOAPIC_BASE, size);
	return value & ones(size);
}

void bus_mmio_write(struct vcpu *vcpu, gpa_t gpa, unsigned size, u64 value) {
	value &= ones(size);
	if (lapic_claims(vcpu, gpa))
		lapic_mmio_write(vcpu, (u32)(gpa & ~PAGE_MASK), size, value);
	else if (likely(gpa - IOAPIC_BASE < IOAPIC_SIZE))
		ioapic_write(&vcpu->vm->platform->ioapic, gpa - IOAPIC_BASE, size, value);
}

void bus_ignore_write(void *dev __unused, u64 port __unused, unsigned size __unused,
		      u64 value __unused) {}
