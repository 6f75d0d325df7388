/*
 * A guest that reads and writes every port in every size. Nobody may mind: what no device claims
 * reads as all ones, and the machine goes on. Left out are the ports that end it on purpose.
 * vm: limit=120
 */
#include "guest-tests/lib/trap.h"

const char test_name[] = "ioscan";

/* Ports that a write may end or reset the machine by, and the UART that this test prints on. */
static bool dangerous(u32 port, u32 size) {
	static const struct {
		u16 first, last;
	} ranges[] = {
		{0x60, 0x64},	/* keyboard controller: its reset line */
		{0x92, 0x92},	/* fast reset */
		{0xf4, 0xf7},	/* debug exit */
		{0x3f8, 0x3ff}, /* COM1 */
		{0x600, 0x607}, /* PM1a: power-off */
		{0xcf9, 0xcf9}, /* reset */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++)
		if (port + size > ranges[i].first && port <= ranges[i].last) return true;
	return false;
}

static u32 read_port(u16 port, u32 size) {
	if (size == 1) return inb(port);
	return size == 2 ? inw(port) : inl(port);
}

static void write_port(u16 port, u32 size, u32 value) {
	if (size == 1)
		outb(port, (u8)value);
	else if (size == 2)
		outw(port, (u16)value);
	else
		outl(port, value);
}

static void scan_reads(u32 size) {
	u32 all_ones = size == 1 ? 0xff : size == 2 ? 0xffff : 0xffffffff, claimed = 0;

	for (u32 port = 0; port < 0x10000; port++)
		if (read_port((u16)port, size) != all_ones) claimed++;
	print("# reads of %u bytes: %u ports answer with more than ones\n", size, claimed);
	check_range(name_of("reads of %u bytes: few ports answer", size), claimed, 1, 400);
}

static void scan_writes(u32 size, u32 value) {
	for (u32 port = 0; port < 0x10000; port++)
		if (!dangerous(port, size)) write_port((u16)port, size, value);
	check(name_of("writes of %u bytes of 0x%x", size, value), true);
}

/* The end of the port space: a wide access reaches past it. */
static void test_end_of_ports(void) {
	check_eq("16 bits at port 0xffff", inw(0xffff) & 0xff, 0xff);
	check_eq("32 bits at port 0xfffe", inl(0xfffe) & 0xffff, 0xffff);
	outl(0xffff, 0);
	check("32 bits written to port 0xffff", true);
}

static void test_unclaimed(void) {
	static const u16 ports[] = {0x1234, 0x0300, 0x5658, 0xe000, 0xfff0};

	for (unsigned i = 0; i < ARRAY_SIZE(ports); i++) {
		outl(ports[i], 0x12345678);
		check_eq(name_of("port 0x%x is nobody's", ports[i]), inl(ports[i]), 0xffffffff);
	}
}

void test_main(void) {
	if (on_bare_tcg()) {
		skip("every port", "the bare machine has devices that a blind write upsets");
		return;
	}
	for (u32 size = 1; size <= 4; size *= 2) scan_reads(size);
	test_end_of_ports();
	test_unclaimed();
	for (u32 size = 1; size <= 4; size *= 2) {
		scan_writes(size, 0xffffffff);
		scan_writes(size, 0);
	}
	u32 before = pm_timer();
	delay_us(1000);
	check_ne("the PM timer still runs", pm_timer(), before);
}
