// sources: tests/fakes.c platform/bus.c platform/lapic.c platform/lapic_timer.c
// sources: platform/lapic_ipi.c platform/ioapic.c platform/pic.c platform/pit.c platform/rtc.c
// sources: platform/uart.c platform/pmio.c platform/platform.c platform/layout.c
// sources: platform/lapic_virtual.c
/* The bus: overlap of ranges (T-G1), the search, widths, what nobody claims. */
#include "tests/rig.h"

#include <stdlib.h>
#include <string.h>

static u16 last_port;
static u64 last_value;
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

/* Tells ranges apart in a test: the address of one of these. */
static u8 tags[BUS_MAX_RANGES + 1];

/* A VM with nothing but a bus, which is empty. */
static struct vm *vm_with_bus(void) {
	static struct platform platform;
	static struct vm vm = {.platform = &platform};

	memset(&platform, 0, sizeof(platform));
	return &vm;
}

static void add_io(struct vm *vm, u16 first, u16 last, void *dev) {
	struct bus_range range = {first, last, io_read, io_write, false, NULL};

	bus_add(&vm->platform->bus, dev, &range);
}

static void random_ranges_against_a_map(void **state) {
	static u8 *owner[0x10000];

	(void)state;
	for (u32 round = 0; round < 20; round++) {
		struct vm *vm = vm_with_bus();
		struct bus *bus = &vm->platform->bus;

		memset(owner, 0, sizeof(owner));
		for (u32 i = 0; i < 300; i++) {
			u32 first = rig_random() & 0xffff;
			u32 last = first + (rig_random() & 0x3ff);
			bool taken = bus->count == BUS_MAX_RANGES;

			last = last > 0xffff ? 0xffff : last;
			for (u32 port = first; port <= last; port++) taken = taken || owner[port];
			if (taken) continue;
			u8 *tag = tags + bus->count;
			add_io(vm, (u16)first, (u16)last, tag);
			for (u32 port = first; port <= last; port++) owner[port] = tag;
		}
		for (u32 port = 0; port < 0x10000; port++) {
			last_dev = NULL;
			assert_int_equal(bus_io_read(vm, (u16)port, 2),
					 owner[port] ? 0xcdef : 0xffff);
			assert_ptr_equal(last_dev, owner[port]);
		}
	}
}

static void widths(void **state) {
	struct vm *vm = vm_with_bus();

	(void)state;
	add_io(vm, 0x100, 0x107, tags);
	assert_int_equal(bus_io_read(vm, 0x100, 1), 0xef);
	assert_int_equal(bus_io_read(vm, 0x100, 2), 0xcdef);
	assert_int_equal(bus_io_read(vm, 0x100, 4), 0x89abcdef);
	bus_io_write(vm, 0x107, 2, 0x12345678);
	assert_int_equal(last_value, 0x5678);
	assert_int_equal(last_port, 0x107);
	assert_int_equal(last_size, 2);
	last_size = 77;
	assert_int_equal(bus_io_read(vm, 0x99, 1), 0xff);
	bus_io_write(vm, 0x99, 4, 1);
	assert_int_equal(last_size, 77);
}

/* Around the pages that there are: the IOAPIC's, and the local APIC's wherever that is. */
static void memory(void **state) {
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = vm->vcpus[0];

	(void)state;
	bus_mmio_write(vcpu, IOAPIC_BASE, 4, 0x1ff); /* IOREGSEL, of which 8 bits are kept */
	assert_int_equal(bus_mmio_read(vcpu, IOAPIC_BASE, 1), 0xff);
	assert_int_equal(bus_mmio_read(vcpu, IOAPIC_BASE + 0xff8, 8), ~0ul);
	bus_mmio_write(vcpu, IOAPIC_BASE - 4, 4, 1);
	bus_mmio_write(vcpu, IOAPIC_BASE + IOAPIC_SIZE, 4, 1);
	assert_int_equal(bus_mmio_read(vcpu, IOAPIC_BASE, 4), 0xff);
	assert_int_equal(bus_mmio_read(vcpu, IOAPIC_BASE + IOAPIC_SIZE, 2), 0xffff);
	assert_int_equal(bus_mmio_read(vcpu, LAPIC_BASE_RESET + 0x30, 1), 0x14);
	assert_int_equal(bus_mmio_read(vcpu, LAPIC_BASE_RESET - 4, 4), 0xffffffff);
	assert_int_equal(bus_mmio_read(vcpu, 0, 8), ~0ul);
	rig_destroy(vm);
}

/* The ranges of a whole virtual PC do not overlap. */
static void a_whole_platform(void **state) {
	struct vm *vm = rig_create(64);

	(void)state;
	const struct bus *bus = &vm->platform->bus;

	assert_in_range(bus->count, 10, BUS_MAX_RANGES);
	for (u32 i = 0; i < bus->count; i++) {
		const struct bus_range *range = &bus->range[i];

		assert_true(range->first <= range->last && range->read && range->write);
		for (u32 j = 0; j < i; j++)
			assert_true(bus->range[j].last < range->first ||
				    range->last < bus->range[j].first);
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
		cmocka_unit_test(memory),
		cmocka_unit_test(widths),
		cmocka_unit_test(a_whole_platform),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
