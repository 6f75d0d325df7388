/* PCI configuration mechanism 1: address register, absent devices, the host bridge, sizes. */
#include "guest-tests/lib/guest.h"

const char test_name[] = "pci";

#define ADDRESS 0xcf8
#define DATA	0xcfc
#define ENABLE	0x80000000u

static void select(u32 bus, u32 device, u32 function, u32 reg) {
	outl(ADDRESS, ENABLE | bus << 16 | device << 11 | function << 8 | (reg & 0xfc));
}

static u32 read32(u32 bus, u32 device, u32 function, u32 reg) {
	select(bus, device, function, reg);
	return inl(DATA);
}

static void write32(u32 bus, u32 device, u32 function, u32 reg, u32 value) {
	select(bus, device, function, reg);
	outl(DATA, value);
}

static void test_address(void) {
	outl(ADDRESS, 0x80000004);
	check_eq("the address reads back", inl(ADDRESS), 0x80000004);
	outl(ADDRESS, 0xffffffff);
	check_eq("the address: bits 30:24 and 1:0 are 0, or kept", inl(ADDRESS) & 0x80fffffc,
		 0x80fffffc);
	outl(ADDRESS, 0x80000004);
	u32 before = inl(ADDRESS);
	outb(ADDRESS, 0x55);
	outw(ADDRESS, 0x5555);
	check_eq("8- and 16-bit writes do not reach it", inl(ADDRESS), before);
	outl(ADDRESS, 0);
	check_eq("disabled: data reads as ones", inl(DATA), 0xffffffff);
}

static void test_host_bridge(void) {
	u32 id = read32(0, 0, 0, 0), class = read32(0, 0, 0, 8);

	check_ne("00:00.0 is there", id, 0xffffffff);
	print("# host bridge %04x:%04x\n", id & 0xffff, id >> 16);
	check_eq("00:00.0 is a host bridge", class >> 16, 0x0600);
	check_eq("00:00.0 header type 0", read32(0, 0, 0, 0xc) >> 16 & 0x7f, 0);
	select(0, 0, 0, 0);
	check_eq("16 bits at offset 0: vendor", inw(DATA), id & 0xffff);
	check_eq("16 bits at offset 2: device", inw(DATA + 2), id >> 16);
	for (u16 i = 0; i < 4; i++)
		check_eq(name_of("byte %u", i), inb((u16)(DATA + i)), id >> (8 * i) & 0xff);
	write32(0, 0, 0, 0, 0x12345678);
	check_eq("the ids are read-only", read32(0, 0, 0, 0), id);
	write32(0, 0, 0, 8, 0);
	check_eq("the class is read-only", read32(0, 0, 0, 8), class);
}

static void test_absent(void) {
	check_eq("absent bus", read32(0xff, 0, 0, 0), 0xffffffff);
	check_eq("absent function", read32(0, 0, 7, 0), 0xffffffff);
	select(0xff, 31, 7, 0);
	check_eq("absent, 16 bits", inw(DATA), 0xffff);
	check_eq("absent, 8 bits", inb(DATA + 3), 0xff);
	write32(0xff, 31, 7, 0, 0);
	check_eq("absent, after a write", read32(0xff, 31, 7, 0), 0xffffffff);
}

/* Sizing: all ones written, what comes back tells the size; then the old value again. */
static void test_bar(u32 device, u32 function, u32 reg) {
	u32 old = read32(0, device, function, reg), command = read32(0, device, function, 4), mask;

	write32(0, device, function, 4, command & 0xfff8);
	write32(0, device, function, reg, 0xffffffff);
	mask = read32(0, device, function, reg);
	write32(0, device, function, reg, old);
	write32(0, device, function, 4, command & 0xffff);
	if (!mask) return;
	mask &= mask & 1 ? ~3u : ~15u;
	check(name_of("00:%02x.%x BAR at 0x%x: its size is a power of two", device, function, reg),
	      (~mask & (~mask + 1)) == 0 || (mask & 0xffff0000) == 0);
	check_eq(name_of("00:%02x.%x BAR at 0x%x: restored", device, function, reg),
		 read32(0, device, function, reg), old);
}

static void test_scan(void) {
	u32 found = 0;

	for (u32 device = 0; device < 32; device++) {
		for (u32 function = 0; function < 8; function++) {
			u32 id = read32(0, device, function, 0);

			if (id == 0xffffffff) continue;
			found++;
			if ((read32(0, device, function, 0xc) >> 16 & 0x7f) != 0) continue;
			if (device) /* the bridge of a bare machine has registers there */
				for (u32 bar = 0x10; bar < 0x28; bar += 4)
					test_bar(device, function, bar);
		}
	}
	print("# %u functions on bus 0\n", found);
	check_range("functions on bus 0", found, 1, 256);
}

void test_main(void) {
	test_address();
	test_host_bridge();
	test_absent();
	test_scan();
}
