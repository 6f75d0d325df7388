// sources: tests/fakes.c platform/bus.c platform/lapic.c platform/lapic_timer.c
// sources: platform/lapic_ipi.c platform/ioapic.c platform/pic.c platform/pit.c platform/rtc.c
// sources: platform/uart.c platform/pmio.c platform/pci.c platform/platform.c platform/layout.c
// sources: platform/lapic_virtual.c
/* The buses: order and overlap of ranges (T-G1), the search, widths, what nobody claims. */
#include "tests/rig.h"

#include <stdlib.h>
#include <string.h>

static u16 last_port;
static u64 last_offset, last_value;
static unsigned last_size;
static void *last_dev;

static u64 io_read(void *dev, u64 port, unsigned size) {
	last_port = (u16)port;
	last_size = size;
	last_dev = dev;
	return 0x89abcdef;
}

static void io_write(void *dev, u64 port, unsigned size, u64 value) {
	io_read(dev, port, size);
	last_value = value;
}

static u64 mmio_read(void *dev, u64 offset, unsigned size) {
	last_offset = offset;
	last_size = size;
	last_dev = dev;
	return 0x0123456789abcdef;
}

static void mmio_write(void *dev, u64 offset, unsigned size, u64 value) {
	mmio_read(dev, offset, size);
	last_value = value;
}

/* Tells ranges apart in a test: the address of one of these. */
static u8 tags[BUS_MAX_RANGES + 1];

static void add_io(struct bus *bus, u16 first, u16 last, void *dev) {
	struct bus_range range = {first, last, io_read, io_write, false, NULL};

	bus_add(bus, BUS_IO, dev, &range, 1);
}

static void add_mmio(struct bus *bus, gpa_t base, u64 size, void *dev) {
	struct bus_range range = {base, base + size - 1, mmio_read, mmio_write, false, NULL};

	bus_add(bus, BUS_MMIO, dev, &range, 1);
}

static struct vcpu *vcpu_without_apic_page(struct lapic *lapic) {
	static struct vcpu vcpu;

	memset(lapic, 0, sizeof(*lapic));
	lapic->page = ~0ul;
	vcpu.lapic = lapic;
	return &vcpu;
}

static void random_ranges_against_a_map(void **state) {
	static u8 *owner[0x10000];

	(void)state;
	for (u32 round = 0; round < 20; round++) {
		struct bus bus = {0};

		memset(owner, 0, sizeof(owner));
		for (u32 i = 0; i < 300; i++) {
			u32 first = rig_random() & 0xffff;
			u32 last = first + (rig_random() & 0x3ff);
			bool taken = bus.table[BUS_IO].count == BUS_MAX_RANGES;

			last = last > 0xffff ? 0xffff : last;
			for (u32 port = first; port <= last; port++) taken = taken || owner[port];
			if (taken) continue;
			u8 *tag = tags + bus.table[BUS_IO].count;
			add_io(&bus, (u16)first, (u16)last, tag);
			for (u32 port = first; port <= last; port++) owner[port] = tag;
		}
		for (u32 i = 1; i < bus.table[BUS_IO].count; i++)
			assert_true(bus.table[BUS_IO].range[i - 1].last <
				    bus.table[BUS_IO].range[i].first);
		for (u32 port = 0; port < 0x10000; port++) {
			last_dev = NULL;
			assert_int_equal(bus_io_read(&bus, (u16)port, 2),
					 owner[port] ? 0xcdef : 0xffff);
			assert_ptr_equal(last_dev, owner[port]);
		}
	}
}

static void mmio_search(void **state) {
	struct lapic lapic;
	struct vcpu *vcpu = vcpu_without_apic_page(&lapic);
	struct bus bus = {0};

	(void)state;
	/* Added in an order that is not theirs. */
	for (u32 i = 0; i < BUS_MAX_RANGES; i++) {
		u32 n = i * 13 % BUS_MAX_RANGES;

		add_mmio(&bus, 0x100000000ul * (n + 1), 0x1000, tags + n);
	}
	for (u32 n = 0; n < BUS_MAX_RANGES; n++) {
		gpa_t base = 0x100000000ul * (n + 1);

		bus_mmio_write(&bus, vcpu, base + 0xfff, 1, ~0ul);
		assert_ptr_equal(last_dev, tags + n);
		assert_int_equal(last_offset, 0xfff);
		assert_int_equal(last_value, 0xff);
		assert_int_equal(bus_mmio_read(&bus, vcpu, base - 1, 8), ~0ul);
		assert_int_equal(bus_mmio_read(&bus, vcpu, base + 0x1000, 4), 0xffffffff);
	}
}

static void widths(void **state) {
	struct lapic lapic;
	struct vcpu *vcpu = vcpu_without_apic_page(&lapic);
	struct bus bus = {0};

	(void)state;
	add_io(&bus, 0x100, 0x107, tags);
	add_mmio(&bus, 0x1000, 0x1000, tags);
	assert_int_equal(bus_io_read(&bus, 0x100, 1), 0xef);
	assert_int_equal(bus_io_read(&bus, 0x100, 2), 0xcdef);
	assert_int_equal(bus_io_read(&bus, 0x100, 4), 0x89abcdef);
	bus_io_write(&bus, 0x107, 2, 0x12345678);
	assert_int_equal(last_value, 0x5678);
	assert_int_equal(last_port, 0x107);
	assert_int_equal(last_size, 2);
	assert_int_equal(bus_mmio_read(&bus, vcpu, 0x1008, 8), 0x0123456789abcdef);
	assert_int_equal(bus_mmio_read(&bus, vcpu, 0x1008, 2), 0xcdef);
	assert_int_equal(last_offset, 8);
	/* Widths that no instruction has reach nobody. */
	last_size = 77;
	assert_int_equal(bus_io_read(&bus, 0x100, 8), 0xffffffff);
	assert_int_equal(bus_io_read(&bus, 0x100, 3), 0xffffffff);
	assert_int_equal(bus_mmio_read(&bus, vcpu, 0x1000, 16), ~0ul);
	bus_io_write(&bus, 0x100, 0, 1);
	bus_mmio_write(&bus, vcpu, 0x1000, 0, 1);
	assert_int_equal(last_size, 77);
	assert_int_equal(bus_io_read(&bus, 0x99, 1), 0xff);
	bus_io_write(&bus, 0x99, 4, 1);
	bus_mmio_write(&bus, vcpu, 0x99, 4, 1);
	assert_int_equal(last_size, 77);
}

/* The tables of a whole virtual PC are sorted and free of overlaps. */
static void a_whole_platform(void **state) {
	struct vm *vm = rig_create(64);

	(void)state;
	assert_true(vm_bus(vm)->table[BUS_IO].count > 10);
	for (u32 space = 0; space < 2; space++) {
		const struct bus_table *table = &vm_bus(vm)->table[space];

		assert_true(table->count <= BUS_MAX_RANGES);
		for (u32 i = 0; i < table->count; i++) {
			const struct bus_range *range = &table->range[i];

			assert_true(range->first <= range->last && range->read && range->write);
			assert_true(!i || range[-1].last < range->first);
		}
	}
	/* Every port, every width. */
	for (u32 port = 0; port < 0x10000; port++)
		for (unsigned size = 1; size <= 4; size *= 2) {
			u64 value = in(vm, (u16)port, size);

			assert_true(value >> 8 * size == 0);
			out(vm, (u16)port, size, ~0u);
		}
	rig_destroy(vm);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_ranges_against_a_map),
		cmocka_unit_test(mmio_search),
		cmocka_unit_test(widths),
		cmocka_unit_test(a_whole_platform),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
