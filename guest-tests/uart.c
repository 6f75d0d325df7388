/*
 * The 16550A at COM1, which is also where this test prints: each group works in loopback without
 * printing and reports when it is out of it again. With com2 on the command line that at COM2.
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "uart";

#define COM1	    0x3f8
#define COM2	    0x2f8
#define RBR	    ((u16)(base + 0))
#define IER	    ((u16)(base + 1))
#define IIR	    ((u16)(base + 2))
#define FCR	    ((u16)(base + 2))
#define LCR	    ((u16)(base + 3))
#define MCR	    ((u16)(base + 4))
#define LSR	    ((u16)(base + 5))
#define MSR	    ((u16)(base + 6))
#define SCR	    ((u16)(base + 7))
#define MCR_OUT2    0x08
#define MCR_LOOP    0x10
#define LSR_DR	    0x01
#define LSR_OE	    0x02
#define LSR_IDLE    0x60
#define VECTOR_BASE 0x40

static u16 base = COM1;
static u8 irq = 4;
static unsigned hits;
static u8 iirs[16];

static void on_irq(struct regs *r) {
	(void)r;
	if (hits < ARRAY_SIZE(iirs)) iirs[hits] = inb(IIR);
	hits++;
	pic_eoi(irq);
}

static void idle(void) { wait_until((inb(LSR) & LSR_IDLE) == LSR_IDLE, 1000000); }

static void enter_loop(void) {
	idle();
	outb(IER, 0);
	outb(MCR, MCR_LOOP | MCR_OUT2);
	outb(FCR, 0x07); /* FIFOs on and empty, trigger level 1 */
	(void)inb(LSR);
	(void)inb(MSR);
}

static void leave_loop(void) {
	outb(IER, 0);
	outb(FCR, 0x07);
	outb(LCR, 3);
	outb(MCR, 0x03);
	(void)inb(LSR);
}

static void test_registers(void) {
	u8 scratch[2];

	idle();
	outb(SCR, 0x5a);
	scratch[0] = inb(SCR);
	outb(SCR, 0xa5);
	scratch[1] = inb(SCR);
	outb(LCR, 0x83);
	u8 divisor_low = inb(RBR);
	u8 divisor_high = inb(IER);
	outb(RBR, 0x34);
	outb(IER, 0x12);
	u8 low = inb(RBR);
	u8 high = inb(IER);
	outb(RBR, divisor_low);
	outb(IER, divisor_high);
	outb(LCR, 3);
	u8 lcr = inb(LCR);
	outb(IER, 0xf0);
	u8 ier = inb(IER);
	outb(IER, 0);
	check_eq("divisor, low byte", low, 0x34);
	check_eq("divisor, high byte", high, 0x12);
	check_eq("scratch 0x5a", scratch[0], 0x5a);
	check_eq("scratch 0xa5", scratch[1], 0xa5);
	check_eq("LCR reads back", lcr, 3);
	check_eq("IER bits 7:4 are zero", ier, 0);
	outb(FCR, 0);
	check_eq("IIR without FIFOs and interrupts", inb(IIR), 0x01);
	outb(FCR, 7);
	check_eq("IIR with FIFOs", inb(IIR), 0xc1);
	idle();
	check_eq("LSR idle", inb(LSR), LSR_IDLE);
}

static void fill_fifo(void) {
	for (unsigned i = 0; i < 16; i++) {
		outb(RBR, (u8)i);
		idle();
	}
}

/* V3: every value goes through the FIFO unharmed, in chunks of 16. */
static void test_fifo(void) {
	unsigned wrong = 0, missing = 0;
	u8 after, overrun, again, kept = 0;

	enter_loop();
	for (unsigned from = 0; from < 256; from += 16) {
		for (unsigned i = 0; i < 16; i++) outb(RBR, (u8)(from + i));
		idle();
		for (unsigned i = 0; i < 16; i++) {
			if (!wait_until((inb(LSR) & LSR_DR) != 0, 10000)) {
				missing++;
				continue;
			}
			if (inb(RBR) != (u8)(from + i)) wrong++;
		}
	}
	after = inb(LSR) & LSR_DR;
	fill_fifo();
	outb(RBR, 16);
	delay_us(2000);
	overrun = inb(LSR) & LSR_OE;
	again = inb(LSR) & LSR_OE;
	for (unsigned i = 0; i < 17 && inb(LSR) & LSR_DR; i++, kept++) (void)inb(RBR);
	leave_loop();
	check_eq("256 values through the FIFO: missing", missing, 0);
	check_eq("256 values through the FIFO: wrong", wrong, 0);
	check_eq("the FIFO is empty then", after, 0);
	check_eq("the 17th byte overruns", overrun, LSR_OE);
	check_eq("reading LSR clears the overrun", again, 0);
	check_eq("16 bytes are kept", kept, 16);
}

static void test_wide(void) {
	enter_loop();
	outb(SCR, 0x5a);
	outb(RBR, 0x99);
	idle();
	u16 word = inw(LCR);
	u32 dword = inl(MCR);
	leave_loop();
	/* A 16-bit access to 8-bit registers is two of them. */
	check_eq("inw at LCR is LCR and MCR", word, (MCR_LOOP | MCR_OUT2) << 8 | 3);
	check_eq("inl at MCR: its first and last byte", dword & 0xff0000ff,
		 0x5a000000u | MCR_LOOP | MCR_OUT2);
}

static void test_modem(void) {
	enter_loop();
	outb(MCR, MCR_LOOP);
	(void)inb(MSR);
	u8 none = inb(MSR);
	outb(MCR, MCR_LOOP | 0x0f);
	u8 delta = inb(MSR);
	u8 all = inb(MSR);
	outb(MCR, MCR_LOOP);
	u8 clear = inb(MSR);
	leave_loop();
	check_eq("loop: MSR without MCR bits", none, 0);
	check_eq("loop: MSR shows DTR, RTS, OUT1, OUT2", all, 0xf0);
	if (on_bare_tcg()) {
		skip("loop: deltas", "QEMU's UART has none");
		return;
	}
	check_eq("loop: deltas of CTS, DSR, DCD", delta & 0x0b, 0x0b);
	check_eq("loop: trailing edge of RI", clear & 0x04, 0x04);
}

static void window(void) {
	delay_us(200);
	for (unsigned i = 0; i < 50; i++) cpu_irq_window();
}

/* Not in loopback: that turns OUT2 off, and with it the interrupt (16550D data sheet 8.6). */
static void test_transmit_interrupt(void) {
	idle();
	outb(MCR, 0x03 | MCR_OUT2);
	hits = 0;
	outb(IER, 2);
	window();
	unsigned first = hits;
	u8 iir = iirs[0];
	window();
	unsigned second = hits;
	outb(RBR, '\n');
	idle();
	window();
	unsigned third = hits;
	leave_loop();
	check_eq("transmitter empty: interrupt when enabled", first, 1);
	check_eq("transmitter empty: IIR", iir, 0xc2);
	check_eq("transmitter empty: reading IIR clears it", second, 1);
	check_eq("transmitter empty: again after a byte", third, 2);
}

static void test_receive_interrupt(void) {
	u8 after;

	enter_loop();
	outb(FCR, 0x47); /* trigger level 4 */
	outb(IER, 1);
	for (unsigned i = 0; i < 3; i++) outb(RBR, (u8)i);
	idle();
	unsigned below = inb(IIR) & 0x0f;
	outb(RBR, 3);
	idle();
	u8 iir = inb(IIR);
	for (unsigned i = 0; i < 3; i++) (void)inb(RBR);
	/* One byte left: after four character times the timeout says so. */
	wait_until((inb(IIR) & 0x0f) == 0x0c, 500000);
	u8 timeout_iir = inb(IIR);
	(void)inb(RBR);
	after = inb(IIR);
	leave_loop();
	check("receive: nothing or only the timeout below the trigger level",
	      below == 1 || below == 0x0c);
	check_eq("receive: IIR at the trigger level", iir, 0xc4);
	check_eq("receive: timeout IIR", timeout_iir, 0xcc);
	check_eq("receive: nothing once read", after, 0xc1);
}

static void test_line_status(void) {
	enter_loop();
	outb(IER, 5);
	fill_fifo();
	outb(RBR, 16);
	delay_us(2000);
	u8 iir = inb(IIR);
	(void)inb(LSR);
	u8 after = inb(IIR);
	leave_loop();
	check_eq("line status comes before received data: IIR", iir, 0xc6);
	check_eq("reading LSR clears it: received data is left", after, 0xc4);
}

static void test_out2(void) {
	enter_loop();
	leave_loop();
	hits = 0;
	outb(MCR, 0x03);
	outb(IER, 2);
	window();
	unsigned without = hits;
	outb(MCR, 0x03 | MCR_OUT2);
	window();
	unsigned with = hits;
	leave_loop();
	if (on_bare_tcg())
		skip("OUT2 gates the interrupt", "QEMU's UART ignores it");
	else
		check("OUT2 gates the interrupt", without == 0 && with == 1);
}

void test_main(void) {
	if (cmdline_has("com2")) {
		base = COM2;
		irq = 3;
	}
	lapic_init();
	lapic_write(LAPIC_LVT_LINT0, 0x700);
	trap_set_handler(VECTOR_BASE + irq, on_irq);
	pic_init(VECTOR_BASE);
	outb(0x21, (u8) ~(1u << irq));
	test_registers();
	test_fifo();
	test_wide();
	test_modem();
	test_transmit_interrupt();
	test_receive_interrupt();
	test_line_status();
	test_out2();
	outb(0x21, 0xff);
}
