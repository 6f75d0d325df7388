/* The pair of 8259A: masks, requests, service, priorities, EOI forms, poll, edge/level registers.
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "pic";

#define BASE	   0x40
#define UART_IRQ   4
#define RTC_IRQ	   8
#define READ_IRR   0x0a
#define READ_ISR   0x0b
#define POLL	   0x0c
#define EOI	   0x20
#define EOI_NUMBER 0x60

static unsigned hits[16];
static u8 isr_first, isr_second;
static bool no_eoi;

static u8 read_first(u8 command) {
	outb(0x20, command);
	return inb(0x20);
}

static u8 read_second(u8 command) {
	outb(0xa0, command);
	return inb(0xa0);
}

static void on_irq(struct regs *r) {
	unsigned irq = (unsigned)(r->vector & 15);

	hits[irq]++;
	isr_first = read_first(READ_ISR);
	isr_second = read_second(READ_ISR);
	if (!no_eoi) pic_eoi(irq);
}

static void window(void) {
	for (unsigned i = 0; i < 50; i++) cpu_irq_window();
}

static void clear_hits(void) { memset(hits, 0, sizeof(hits)); }

/* One rising edge of IRQ 0: mode 0's output rises when the count ends. */
static void raise_irq0(void) {
	outb(0x43, 0x30);
	outb(0x40, 20);
	outb(0x40, 0);
	wait_until((read_first(READ_IRR) & 1) != 0, 500000);
}

static void raise_uart(void) {
	outb(0x3fc, 0x0b); /* OUT2 lets the interrupt out */
	outb(0x3f9, 0x02); /* transmitter empty, which it soon is */
	wait_until((read_first(READ_IRR) & 1u << UART_IRQ) != 0, 500000);
}

static void lower_uart(void) { outb(0x3f9, 0); }

static void test_masks(void) {
	static const u8 values[] = {0xff, 0x00, 0xa5, 0x5a, 0xff};

	for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
		outb(0x21, values[i]);
		outb(0xa1, (u8)~values[i]);
		check_eq(name_of("first mask 0x%x reads back", values[i]), inb(0x21), values[i]);
		check_eq(name_of("second mask 0x%x reads back", (u8)~values[i]), inb(0xa1),
			 (u8)~values[i]);
	}
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}

static void test_request(void) {
	pic_init(BASE);
	clear_hits();
	raise_irq0();
	check_eq("a masked request is in IRR", read_first(READ_IRR) & 1, 1);
	window();
	check_eq("a masked request is not delivered", hits[0], 0);
	outb(0x21, 0xfe);
	window();
	check_eq("unmasked, it is delivered once", hits[0], 1);
	check_eq("in ISR while handled", isr_first, 1);
	check_eq("out of ISR after EOI", read_first(READ_ISR), 0);
	check_eq("out of IRR", read_first(READ_IRR) & 1, 0);
}

static void test_vector_base(void) {
	pic_init(0x70);
	clear_hits();
	outb(0x21, 0xfe);
	raise_irq0();
	window();
	check_eq("ICW2 moves the vectors", hits[0], 1);
	pic_init(BASE);
}

static void test_priority(void) {
	clear_hits();
	no_eoi = true;
	outb(0x21, 0xee);
	raise_irq0();
	window();
	raise_uart();
	window();
	check_eq("IRQ 0 in service", hits[0], 1);
	check_eq("a lower priority waits for its EOI", hits[UART_IRQ], 0);
	outb(0x20, EOI);
	window();
	check_eq("and comes then", hits[UART_IRQ], 1);
	raise_irq0();
	window();
	check_eq("a higher priority does not wait", hits[0], 2);
	check_eq("both are in service", read_first(READ_ISR), 0x11);
	outb(0x20, EOI);
	check_eq("EOI ends the higher", read_first(READ_ISR), 0x10);
	outb(0x20, EOI_NUMBER | UART_IRQ);
	check_eq("EOI by number ends the other", read_first(READ_ISR), 0);
	lower_uart();
	no_eoi = false;
	window();
	pic_init(BASE);
}

static void test_automatic_eoi(void) {
	outb(0x20, 0x11);
	outb(0x21, BASE);
	outb(0x21, 4);
	outb(0x21, 3);
	outb(0x21, 0xfe);
	clear_hits();
	no_eoi = true;
	raise_irq0();
	window();
	check_eq("automatic EOI: delivered", hits[0], 1);
	check_eq("automatic EOI: not in ISR while handled", isr_first, 0);
	raise_irq0();
	window();
	check_eq("automatic EOI: the next one follows", hits[0], 2);
	no_eoi = false;
	pic_init(BASE);
}

static void test_poll(void) {
	outb(0x21, 0xfe);
	raise_irq0();
	check_eq("poll: IRQ 0", read_first(POLL) & 0x87, 0x80);
	check_eq("poll acknowledges: in ISR", read_first(READ_ISR), 1);
	outb(0x20, EOI);
	outb(0x20, POLL);
	check_eq("poll: nothing", inb(0x20) & 0x80, 0);
	pic_init(BASE);
}

static u8 cmos(u8 index) {
	outb(0x70, index);
	return inb(0x71);
}

static void set_cmos(u8 index, u8 value) {
	outb(0x70, index);
	outb(0x71, value);
}

/* The RTC's periodic interrupt at 1024 Hz is on the second chip. */
static void test_second(void) {
	u8 b = cmos(0x0b);

	clear_hits();
	outb(0x21, 0xfb);
	outb(0xa1, 0xfe);
	set_cmos(0x0a, 0x26);
	set_cmos(0x0b, (u8)(b | 0x40));
	(void)cmos(0x0c);
	wait_until((cpu_irq_window(), hits[RTC_IRQ] > 0), 500000);
	set_cmos(0x0b, b);
	(void)cmos(0x0c);
	check_range("IRQ 8 of the second chip", hits[RTC_IRQ], 1, 3);
	check_eq("in service in the first chip: input 2", isr_first, 4);
	check_eq("in service in the second chip: input 0", isr_second, 1);
	outb(0xa1, 0xff);
	outb(0x21, 0xff);
}

static void test_lint0(void) {
	clear_hits();
	outb(0x21, 0xfe);
	lapic_write(LAPIC_LVT_LINT0, LVT_MASKED | 0x700);
	raise_irq0();
	window();
	check_eq("LINT0 masked: nothing comes", hits[0], 0);
	lapic_write(LAPIC_LVT_LINT0, 0x700);
	window();
	check_eq("LINT0 open: it comes", hits[0], 1);
	outb(0x21, 0xff);
}

static void test_hlt(void) {
	clear_hits();
	outb(0x21, 0xfe);
	outb(0x43, 0x30);
	outb(0x40, 0xff);
	outb(0x40, 0x3f); /* 14 ms */
	cpu_sti_hlt_cli();
	check_eq("HLT ends with the interrupt", hits[0], 1);
	outb(0x21, 0xff);
}

static void test_elcr(void) {
	u8 first = inb(0x4d0), second = inb(0x4d1);

	outb(0x4d0, 0xff);
	outb(0x4d1, 0xff);
	check_eq("edge/level register: IRQs 0, 1, 2 are edge", inb(0x4d0), 0xf8);
	check_eq("edge/level register: IRQs 8, 13 are edge", inb(0x4d1), 0xde);
	outb(0x4d0, first);
	outb(0x4d1, second);
}

void test_main(void) {
	lapic_init();
	lapic_write(LAPIC_LVT_LINT0, 0x700);
	for (unsigned i = 0; i < 16; i++) {
		trap_set_handler((u8)(BASE + i), on_irq);
		trap_set_handler((u8)(0x70 + i), on_irq);
	}
	pic_init(BASE);
	test_masks();
	test_request();
	test_vector_base();
	test_priority();
	test_automatic_eoi();
	test_poll();
	test_second();
	test_lint0();
	test_hlt();
	test_elcr();
}
