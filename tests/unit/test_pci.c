// sources: tests/fakes.c platform/bus.c platform/lapic.c platform/lapic_timer.c
// sources: platform/lapic_ipi.c platform/ioapic.c platform/pic.c platform/pit.c platform/rtc.c
// sources: platform/uart.c platform/pmio.c platform/pci.c platform/platform.c platform/layout.c
// sources: platform/lapic_virtual.c
/* PCI configuration mechanism 1, BAR sizing, and windows that move. */
#include "tests/rig.h"

#include <string.h>

#define ADDRESS 0xcf8
#define DATA	0xcfc

static u32 select(u8 devfn, u32 reg) { return 0x80000000u | (u32)devfn << 8 | reg; }

static u32 rd(struct vm *vm, u8 devfn, u32 reg, unsigned size) {
	out(vm, ADDRESS, 4, select(devfn, reg & 0xfc));
	return in(vm, (u16)(DATA + (reg & 3)), size);
}

static void wr(struct vm *vm, u8 devfn, u32 reg, unsigned size, u32 value) {
	out(vm, ADDRESS, 4, select(devfn, reg & 0xfc));
	out(vm, (u16)(DATA + (reg & 3)), size, value);
}

/* A function with an I/O BAR, a 32-bit and a 64-bit one, which keeps the last access. */
struct card {
	struct pci_function function;
	u64 offset, value;
	unsigned size, written;
	u8 written_offset;
};

static u64 dev_io_read(void *dev, u64 port, unsigned size) {
	struct card *d = dev;

	d->offset = port;
	d->size = size;
	return 0x12345678;
}

static void dev_io_write(void *dev, u64 port, unsigned size, u64 value) {
	dev_io_read(dev, port, size);
	((struct card *)dev)->value = value;
}

static u64 dev_read(void *dev, u64 offset, unsigned size) {
	struct card *d = dev;

	d->offset = offset;
	d->size = size;
	return 0x1122334455667788;
}

static void dev_write(void *dev, u64 offset, unsigned size, u64 value) {
	dev_read(dev, offset, size);
	((struct card *)dev)->value = value;
}

static void dev_written(struct pci_function *function, u8 offset, unsigned size) {
	struct card *d = container_of(function, struct card, function);

	d->written++;
	d->written_offset = offset;
	d->size = size;
}

static void make_device(struct card *d, u8 devfn) {
	struct pci_bar mem = {
		.type = PCI_BAR_MEM32, .size = 0x1000, .read = dev_read, .write = dev_write};

	memset(d, 0, sizeof(*d));
	d->function.devfn = devfn;
	d->function.dev = d;
	d->function.written = dev_written;
	memcpy(d->function.config, "\xf4\x1a\x42\x10", 4);
	d->function.writable[PCI_INT_LINE] = 0xff;
	d->function.bar[0].type = PCI_BAR_IO;
	d->function.bar[0].size = 64;
	d->function.bar[0].read = dev_io_read;
	d->function.bar[0].write = dev_io_write;
	d->function.bar[1] = mem;
	mem.type = PCI_BAR_MEM64;
	mem.size = GiB(8);
	d->function.bar[2] = mem;
}

static void mechanism_1(void **state) {
	struct vm *vm = rig_create(1);

	(void)state;
	out(vm, ADDRESS, 4, 0xffffffff);
	assert_int_equal(in(vm, ADDRESS, 4), 0x80fffffc);
	/* Narrower accesses are none. */
	assert_int_equal(in(vm, ADDRESS, 2), 0xffff);
	out(vm, ADDRESS, 2, 0);
	assert_int_equal(in(vm, ADDRESS, 4), 0x80fffffc);
	/* The host bridge, whole and in parts. */
	assert_int_equal(rd(vm, 0, 0, 4), 0x12378086);
	assert_int_equal(rd(vm, 0, 2, 2), 0x1237);
	assert_int_equal(rd(vm, 0, 1, 1), 0x80);
	assert_int_equal(rd(vm, 0, 8, 4), 0x06000002);
	wr(vm, 0, 0, 4, 0);
	wr(vm, 0, 4, 4, 0xffffffff);
	assert_int_equal(rd(vm, 0, 0, 4), 0x12378086);
	assert_int_equal(rd(vm, 0, 4, 4), 0);
	/* Nobody else; other buses; not enabled; across the double word. */
	for (u32 devfn = 1; devfn < 256; devfn++)
		assert_int_equal(rd(vm, (u8)devfn, 0, 4), 0xffffffff);
	out(vm, ADDRESS, 4, 0x80010000);
	assert_int_equal(in(vm, DATA, 4), 0xffffffff);
	out(vm, ADDRESS, 4, 0);
	assert_int_equal(in(vm, DATA, 4), 0xffffffff);
	out(vm, ADDRESS, 4, 0x80000000);
	assert_int_equal(in(vm, DATA + 2, 4), 0xffffffff);
	assert_int_equal(in(vm, DATA + 3, 2), 0xffff);
	rig_destroy(vm);
}

static void sizing(void **state) {
	struct vm *vm = rig_create(1);
	struct card d;

	(void)state;
	make_device(&d, 0x18);
	assert_int_equal(pci_add(&vm->platform->pci, &d.function), 0);
	assert_int_equal(rd(vm, 0x18, 0, 4), 0x10421af4);
	for (u32 bar = 0; bar < 6; bar++) wr(vm, 0x18, 0x10 + 4 * bar, 4, 0xffffffff);
	assert_int_equal(rd(vm, 0x18, 0x10, 4), 0xffffffc1);
	assert_int_equal(rd(vm, 0x18, 0x14, 4), 0xfffff000);
	assert_int_equal(rd(vm, 0x18, 0x18, 4), 0x00000004);
	assert_int_equal(rd(vm, 0x18, 0x1c, 4), 0xfffffffe);
	assert_int_equal(rd(vm, 0x18, 0x20, 4), 0);
	wr(vm, 0x18, 4, 2, 0xffff);
	assert_int_equal(rd(vm, 0x18, 4, 2), 0x0007);
	/* Bytes of the header one at a time. */
	d.written = 0;
	wr(vm, 0x18, 0x3c, 1, 11);
	assert_int_equal(rd(vm, 0x18, 0x3c, 4), 11);
	assert_int_equal(d.written, 1);
	assert_int_equal(d.written_offset, 0x3c);
	assert_int_equal(d.size, 1);
	rig_destroy(vm);
}

static void windows(void **state) {
	struct vm *vm = rig_create(1);
	struct bus *bus = vm_bus(vm);
	struct vcpu *vcpu = vm->vcpus[0];
	struct card d;

	(void)state;
	make_device(&d, 0x18);
	assert_int_equal(pci_add(&vm->platform->pci, &d.function), 0);
	wr(vm, 0x18, 0x10, 4, 0xc040);
	wr(vm, 0x18, 0x14, 4, 0xd0001000);
	wr(vm, 0x18, 0x18, 4, 0);
	wr(vm, 0x18, 0x1c, 4, 0x40);
	/* Closed until COMMAND opens them. */
	assert_int_equal(in(vm, 0xc040, 4), 0xffffffff);
	assert_int_equal(bus_mmio_read(bus, vcpu, 0xd0001000, 8), ~0ul);
	wr(vm, 0x18, 4, 2, PCI_COMMAND_IO);
	assert_int_equal(in(vm, 0xc05f, 1), 0x78);
	assert_int_equal(d.offset, 0x1f);
	assert_int_equal(in(vm, 0xc03f, 1), 0xff);
	assert_int_equal(in(vm, 0xc080, 1), 0xff);
	out(vm, 0xc044, 2, 0xabcd);
	assert_int_equal(d.value, 0xabcd);
	assert_int_equal(bus_mmio_read(bus, vcpu, 0xd0001000, 4), 0xffffffff);
	wr(vm, 0x18, 4, 2, PCI_COMMAND_MEM);
	assert_int_equal(in(vm, 0xc040, 1), 0xff);
	assert_int_equal(bus_mmio_read(bus, vcpu, 0xd0001ffc, 4), 0x55667788);
	assert_int_equal(d.offset, 0xffc);
	assert_int_equal(bus_mmio_read(bus, vcpu, 0xd0002000, 4), 0xffffffff);
	bus_mmio_write(bus, vcpu, 0x4000000010, 8, 77);
	assert_int_equal(d.offset, 0x10);
	assert_int_equal(d.value, 77);
	assert_int_equal(bus_mmio_read(bus, vcpu, 0x41ffffffff, 1), 0x88);
	assert_int_equal(bus_mmio_read(bus, vcpu, 0x4200000000, 1), 0xff);
	/* It moves while it is open; what is fixed cannot be taken over. */
	wr(vm, 0x18, 0x14, 4, 0xfec00000);
	assert_int_equal(bus_mmio_read(bus, vcpu, 0xd0001000, 4), 0xffffffff);
	d.size = 99;
	bus_mmio_read(bus, vcpu, 0xfec00000, 4);
	assert_int_equal(d.size, 99);
	/* A reset closes it and empties the header. */
	wr(vm, 0x18, 0x14, 4, 0xd0001000);
	platform_reset(vm);
	assert_int_equal(bus_mmio_read(bus, vcpu, 0xd0001000, 4), 0xffffffff);
	assert_int_equal(rd(vm, 0x18, 0x14, 4), 0);
	assert_int_equal(rd(vm, 0x18, 0, 4), 0x10421af4);
	rig_destroy(vm);
}

static void bad_functions(void **state) {
	struct vm *vm = rig_create(1);
	struct pci *pci = &vm->platform->pci;
	static struct card many[PCI_MAX_FUNCTIONS + 1];
	struct card d;

	(void)state;
	make_device(&d, 0);
	assert_int_equal(pci_add(pci, &d.function), E_EXIST);
	d.function.devfn = 8;
	d.function.bar[1].size = 0x1001;
	assert_int_equal(pci_add(pci, &d.function), E_INVAL);
	d.function.bar[1].size = 8;
	assert_int_equal(pci_add(pci, &d.function), E_INVAL);
	d.function.bar[1].size = 4096;
	d.function.bar[0].size = 512;
	assert_int_equal(pci_add(pci, &d.function), E_INVAL);
	d.function.bar[0].size = 0;
	assert_int_equal(pci_add(pci, &d.function), E_INVAL);
	d.function.bar[0].size = 4;
	d.function.bar[5] = d.function.bar[2]; /* no room for its upper half */
	assert_int_equal(pci_add(pci, &d.function), E_INVAL);
	d.function.bar[5].type = PCI_BAR_NONE;
	d.function.bar[3] = d.function.bar[1]; /* in the upper half of another */
	assert_int_equal(pci_add(pci, &d.function), E_INVAL);
	d.function.bar[3].type = PCI_BAR_NONE;
	d.function.bar[1].read = NULL;
	assert_int_equal(pci_add(pci, &d.function), E_INVAL);
	for (u32 i = 1; i < PCI_MAX_FUNCTIONS; i++) {
		make_device(&many[i], (u8)(i * 8));
		assert_int_equal(pci_add(pci, &many[i].function), 0);
	}
	make_device(&many[0], 0xf8);
	assert_int_equal(pci_add(pci, &many[0].function), E_NOMEM);
	rig_destroy(vm);
}

static void hostile_values(void **state) {
	struct vm *vm = rig_create(1);
	struct card d;

	(void)state;
	make_device(&d, 0x18);
	assert_int_equal(pci_add(&vm->platform->pci, &d.function), 0);
	for (u32 i = 0; i < 200000; i++) {
		u64 dice = rig_random();

		wr(vm, 0x18, dice & 255, 1u << (dice >> 8) % 3, (u32)(dice >> 32));
		rd(vm, 0x18, dice >> 16 & 255, 1u << (dice >> 10) % 3);
		in(vm, (u16)(dice >> 40), 4);
		bus_mmio_read(vm_bus(vm), vm->vcpus[0], dice >> (dice & 63), 8);
	}
	assert_true(d.offset < GiB(8));
	rig_storm(vm, 0xcf8, 0xcff, 100000);
	rig_destroy(vm);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mechanism_1),	  cmocka_unit_test(sizing),
		cmocka_unit_test(windows),	  cmocka_unit_test(bad_functions),
		cmocka_unit_test(hostile_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
