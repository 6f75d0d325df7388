/* The host's serial port (NS16550A). Output is buffered: no slow reader holds up a guest. */
#include "drivers/serial.h"

#include "lib/ns16550.h"
#include "lib/printf.h"
#include "lib/spinlock.h"
#include "lib/x86.h"

#define FIFO_SIZE    16u
#define BUFFER_SIZE  131072u
#define DRAIN_ROUNDS 2000000u /* of a status read each: about two seconds of real bus time */
#define RX_ROUNDS    64u

static u16 base;
static u8 buffer[BUFFER_SIZE];
static u32 head, tail; /* written, sent; modulo 2^32 */
static u32 dropped;    /* bytes, since there was no room */
static u8 ier;
static struct spinlock lock;

bool serial_present(void) { return base != 0; }

int serial_init(u16 port, u32 baud) {
	/* No UART: the scratch register does not hold a value. */
	outb((u16)(port + SCR), 0x5a);
	if (inb((u16)(port + SCR)) != 0x5a) return E_NOENT;
	outb((u16)(port + IER), 0);
	if (baud && baud <= 115200) {
		u32 divisor = 115200 / baud;

		outb((u16)(port + LCR), LCR_DLAB);
		outb((u16)(port + RBR_THR), (u8)divisor);
		outb((u16)(port + IER), (u8)(divisor >> 8));
	}
	outb((u16)(port + LCR), LCR_8N1);
	outb((u16)(port + IIR_FCR), FCR_ENABLE | FCR_CLEAR_RX | FCR_CLEAR_TX);
	outb((u16)(port + MCR), MCR_DTR | MCR_RTS | MCR_OUT2); /* the interrupt line is on */
	base = port;
	return 0;
}

static void set_ier(u8 value) {
	if (value != ier) {
		ier = value;
		outb((u16)(base + IER), value);
	}
}

static void put(u8 byte) {
	if (dropped || head - tail == BUFFER_SIZE)
		dropped++;
	else
		buffer[head++ % BUFFER_SIZE] = byte;
}

/* Once there is room again, it is said how much did not find any. */
static void put_dropped(void) {
	char text[48];
	int len = snprintf(text, sizeof(text), "\r\n[%u bytes dropped]\r\n", dropped);

	dropped = 0;
	for (int i = 0; i < len; i++) put((u8)text[i]);
}

/* Fills the transmitter's FIFO from the buffer when it is empty. */
static void push_out(void) {
	if (dropped && head - tail < BUFFER_SIZE / 2) put_dropped();
	if (head != tail && (inb((u16)(base + LSR)) & LSR_THRE)) {
		for (unsigned i = 0; i < FIFO_SIZE && head != tail; i++)
			outb((u16)(base + RBR_THR), buffer[tail++ % BUFFER_SIZE]);
	}
	if (ier) set_ier(head != tail ? IER_RX | IER_THRE : IER_RX);
}

void serial_write(const char *text, size_t len) {
	spin_guard_unless_panic(&lock);
	if (!base) return;
	for (size_t i = 0; i < len; i++) put((u8)text[i]);
	push_out();
}

bool serial_busy(void) { return head - tail > BUFFER_SIZE / 4; }

bool serial_poll(void (*rx)(u8 byte)) {
	u8 bytes[RX_ROUNDS];
	unsigned n = 0;

	if (!base) return false;
	spin_lock(&lock);
	while (n < RX_ROUNDS && (inb((u16)(base + LSR)) & LSR_DR))
		bytes[n++] = inb((u16)(base + RBR_THR));
	push_out();
	spin_unlock(&lock);
	for (unsigned i = 0; i < n; i++) rx(bytes[i]);
	return n == RX_ROUNDS;
}

void serial_enable_irq(void) {
	spin_guard(&lock);
	if (base) set_ier(IER_RX);
}

void serial_drain(void) {
	if (!base) return;
	for (u32 i = 0; i < DRAIN_ROUNDS; i++) {
		spin_guard_unless_panic(&lock);
		push_out();
		if (head == tail && (inb((u16)(base + LSR)) & LSR_IDLE) == LSR_IDLE) return;
	}
}
