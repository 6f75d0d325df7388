/* The IOAPIC: registers, edge and level interrupts, masks, destinations, remote IRR and EOI. */
#include "guest-tests/lib/acpi.h"
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "ioapic";

#define VECTOR	   0x61
#define HIGHER	   0x81
#define LEVEL	   BIT(15)
#define REMOTE_IRR BIT(14)
#define PENDING	   BIT(12)
#define LOGICAL	   BIT(11)
#define UART_PIN   4
#define COM1	   0x3f8

static unsigned hits, nmis;
static u8 last;
static unsigned quiet_after; /* the handler quiets the UART at this hit */
static bool remote_seen;

static void on_irq(struct regs *r) {
	hits++;
	last = (u8)r->vector;
	remote_seen = (ioapic_read(0x10 + 2 * UART_PIN) & REMOTE_IRR) != 0;
	if (hits >= quiet_after) outb(COM1 + 1, 0);
	lapic_eoi();
}

static void on_nmi(struct regs *r) {
	(void)r;
	nmis++;
}

static void window(void) {
	delay_us(200);
	for (unsigned i = 0; i < 50; i++) cpu_irq_window();
}

static bool wait_hit(void) { return wait_until((cpu_irq_window(), hits > 0), 500000); }

static u32 pit_pin(void) {
	/* The MADT's override for ISA IRQ 0 (type 2: bus, source, GSI); pin 0 without one. */
	const struct acpi_header *madt = acpi_table("APIC");

	for (const u8 *at = (const u8 *)madt + 44;
	     madt && at + 2 <= (const u8 *)madt + madt->length && at[1] >= 2; at += at[1])
		if (at[0] == 2 && at[3] == 0) return at[4];
	return 0;
}

/* One rising edge on the PIT's pin, as soon as it is programmed. */
static void raise_pit(void) {
	outb(0x43, 0x30);
	outb(0x40, 20);
	outb(0x40, 0);
}

/* The UART's line goes up and stays until the transmitter interrupt is turned off. */
static void raise_uart(void) {
	wait_until((inb(COM1 + 5) & 0x60) == 0x60, 500000);
	outb(COM1 + 4, 0x0b);
	outb(COM1 + 1, 2);
}

static void lower_uart(void) {
	outb(COM1 + 1, 0);
	(void)inb(COM1 + 2);
}

static void test_registers(void) {
	u32 version = ioapic_read(1), pins = (version >> 16 & 0xff) + 1;
	u32 id = ioapic_read(0), low;

	check_range("version", version & 0xff, 0x11, 0x20);
	check_eq("24 pins", pins, 24);
	ioapic_write(0, 0x05000000);
	check_eq("the id reads back", ioapic_read(0) & 0x0f000000, 0x05000000);
	ioapic_write(0, id);
	ioapic_write(1, 0);
	check_eq("the version is read-only", ioapic_read(1), version);
	for (u32 pin = 0; pin < pins; pin++) {
		ioapic_write(0x11 + 2 * pin, 0xff000000);
		ioapic_write(0x10 + 2 * pin, 0xffffffff);
		low = ioapic_read(0x10 + 2 * pin);
		check_eq(name_of("pin %u: low half, status bits are read-only", pin), low & 0x1ffff,
			 0x1afff);
		if (!on_bare_tcg())
			check_eq(name_of("pin %u: low half, reserved bits are 0", pin), low >> 17,
				 0);
		check_eq(name_of("pin %u: high half", pin), ioapic_read(0x11 + 2 * pin) >> 24,
			 0xff);
		ioapic_route(pin, LVT_MASKED, 0);
	}
	check_eq("the index register reads back",
		 (ioapic_read(0x12), mmio_read32((const volatile void *)IOAPIC_BASE) & 0xff), 0x12);
}

static void test_edge(u32 pin, u8 self) {
	hits = 0;
	ioapic_route(pin, VECTOR, self);
	raise_pit();
	check("edge: delivered", wait_hit());
	window();
	check_eq("edge: once", hits, 1);
	check_eq("edge: the vector", last, VECTOR);

	ioapic_route(pin, LVT_MASKED | VECTOR, self);
	hits = 0;
	raise_pit();
	delay_us(2000);
	window();
	check_eq("edge: masked, nothing comes", hits, 0);

	ioapic_route(pin, HIGHER, self);
	hits = 0;
	raise_pit();
	check("edge: another vector", wait_hit() && last == HIGHER);

	ioapic_route(pin, VECTOR, (u8)(self + 100));
	window();
	hits = 0;
	raise_pit();
	delay_us(2000);
	window();
	check_eq("edge: to another CPU, nothing comes", hits, 0);

	lapic_write(LAPIC_LDR, 0x04000000);
	ioapic_route(pin, LOGICAL | VECTOR, 0x04);
	window();
	hits = 0;
	raise_pit();
	check("edge: logical destination", wait_hit());
	ioapic_route(pin, LOGICAL | 0x100 | VECTOR, 0xff);
	window();
	hits = 0;
	raise_pit();
	check("edge: lowest priority among all", wait_hit());
	ioapic_route(pin, LVT_MASKED, 0);
}

static void test_nmi(u32 pin, u8 self) {
	nmis = 0;
	ioapic_route(pin, 0x400, self);
	raise_pit();
	check("delivery as NMI", wait_until(nmis == 1, 500000));
	ioapic_route(pin, LVT_MASKED, 0);
}

static void test_level(u8 self) {
	hits = 0;
	quiet_after = 1;
	ioapic_route(UART_PIN, LEVEL | VECTOR, self);
	raise_uart();
	check("level: delivered", wait_hit());
	window();
	check_eq("level: once when the handler quiets the device", hits, 1);
	check("level: remote IRR is set while handled", remote_seen);
	check_eq("level: remote IRR is clear after EOI",
		 ioapic_read(0x10 + 2 * UART_PIN) & REMOTE_IRR, 0);
	check_eq("level: TMR", lapic_bit(LAPIC_TMR, VECTOR), 1);
	lower_uart();

	hits = 0;
	quiet_after = 3;
	raise_uart();
	check("level: it comes again after EOI while the line is up",
	      wait_until((cpu_irq_window(), hits >= 3), 500000));
	lower_uart();
	window();
	hits = 0;
	window();
	check_eq("level: none once the line is down", hits, 0);

	ioapic_route(UART_PIN, LEVEL | LVT_MASKED | VECTOR, self);
	raise_uart();
	window();
	check_eq("level: masked, nothing comes", hits, 0);
	quiet_after = 1;
	ioapic_write(0x10 + 2 * UART_PIN, (u32)(LEVEL | VECTOR));
	check("level: unmasked while the line is up, it comes", wait_hit());
	lower_uart();
	ioapic_route(UART_PIN, LVT_MASKED, 0);
}

static void test_outside(void) {
	u32 version = ioapic_read(1);

	for (u32 index = 0x40; index < 0x100; index += 3) ioapic_write(index, 0xffffffff);
	check_eq("indices past the last pin change nothing", ioapic_read(1), version);
	mmio_write32((volatile void *)(IOAPIC_BASE + 0x200), 0x1234);
	check_eq("offsets past the registers change nothing", ioapic_read(1), version);
}

void test_main(void) {
	u32 pin = pit_pin();

	lapic_init();
	u8 self = (u8)lapic_id();
	trap_set_handler(VECTOR, on_irq);
	trap_set_handler(HIGHER, on_irq);
	trap_set_handler(X86_NMI, on_nmi);
	check_eq("the MADT moves ISA IRQ 0 to pin 2", pin, 2);
	test_registers();
	test_edge(pin, self);
	test_nmi(pin, self);
	test_level(self);
	test_outside();
}
