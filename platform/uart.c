/* The 16550A UART; see uart.h. Section names are those of the PC16550D datasheet. */
#include "platform/uart.h"

#include "lib/ns16550.h"
/* The clock of a PC's UART: the divisor counts 16ths of a bit of it. */
#define UART_CLOCK_HZ 1843200ul

static u8 lsr(struct uart *uart) { return atomic_load_explicit(&uart->lsr, memory_order_relaxed); }

static void set_lsr(struct uart *uart, u8 value) {
	atomic_store_explicit(&uart->lsr, value, memory_order_relaxed);
}

static bool fifos(const struct uart *uart) { return uart->fcr & FCR_ENABLE; }

static u8 room(const struct uart *uart) { return fifos(uart) ? UART_FIFO : 1; }

static u8 trigger_level(const struct uart *uart) {
	static const u8 levels[] = {1, 4, 8, 14};

	return fifos(uart) ? levels[uart->fcr >> FCR_TRIGGER_SHIFT] : 1;
}

/* The interrupt with the highest priority (table III). */
static u8 interrupt_id(struct uart *uart) {
	if (uart->ier & IER_LINE && lsr(uart) & LSR_ERRORS) return IIR_LINE;
	if (uart->ier & IER_RX && uart->count) {
		if (uart->count >= trigger_level(uart)) return IIR_RX;
		if (uart->timeout) return IIR_TIMEOUT;
	}
	if (uart->ier & IER_THRE && uart->thre_pending) return IIR_THRE;
	if (uart->ier & IER_MODEM && uart->msr_delta) return IIR_MODEM;
	return IIR_NONE;
}

/* Drives the line. On a PC, OUT2 gates it; in loopback OUT2's pin is inactive. */
static void update(struct uart *uart) {
	bool level = uart->ier && interrupt_id(uart) != IIR_NONE &&
		     (uart->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;

	lock_assert_held(&uart->dev.lock);
	device_set_line(&uart->dev, uart->dev.type == &uart_type ? UART_COM1_GSI : UART_COM2_GSI,
			level);
}

/* ---- receiver ---- */

/* Four characters of start, data, parity and stop bits (FIFO interrupt mode operation). */
static u64 timeout_ns(const struct uart *uart) {
	u32 divisor = uart->dll | (u32)uart->dlm << 8;
	u32 bits = 1 + 5 + (uart->lcr & 3u) + (uart->lcr >> 3 & 1u) + 1 + (uart->lcr >> 2 & 1u);

	return (u64)(divisor ? divisor : 1) * 16 * 4 * bits * 1000000000ul / UART_CLOCK_HZ;
}

/* (Re)starts the wait for more bytes, when a lone few would otherwise not interrupt. */
static void restart_timeout(struct uart *uart) {
	uart->timeout = false;
	if (fifos(uart) && uart->count && uart->count < trigger_level(uart))
		timer_arm(&uart->dev.timer, time_tsc() + ns_to_tsc(timeout_ns(uart)));
	else
		timer_cancel(&uart->dev.timer);
}

static void rx_timeout(void *dev) {
	struct uart *uart = dev;

	if (uart->count && fifos(uart)) {
		uart->timeout = true;
		update(uart);
	}
}

/* A byte arrives at the receiver; one too many is an overrun (LSR bit 1). */
static void receive(struct uart *uart, u8 byte) {
	if (uart->count >= room(uart)) {
		/* The FIFO keeps what it has; a lone RBR is overwritten. */
		if (!fifos(uart)) uart->fifo[uart->head] = byte;
		set_lsr(uart, lsr(uart) | LSR_OE);
	} else {
		uart->fifo[(u8)(uart->head + uart->count++) % UART_FIFO] = byte;
		set_lsr(uart, lsr(uart) | LSR_DR);
		restart_timeout(uart);
	}
}

bool uart_rx(struct uart *uart, u8 byte) {
	spin_guard(&uart->dev.lock);
	/* In loopback the input is disconnected. */
	bool taken = !(uart->mcr & MCR_LOOP) && uart->count < room(uart);
	if (taken) receive(uart, byte);
	update(uart);
	return taken;
}

static void clear_rx(struct uart *uart) {
	uart->head = 0;
	uart->count = 0;
	set_lsr(uart, lsr(uart) & (u8) ~(LSR_DR | LSR_BI));
	restart_timeout(uart);
}

static u8 read_rbr(struct uart *uart) {
	u8 byte = uart->fifo[uart->head];

	if (!uart->count) return byte;
	if (--uart->count)
		uart->head = (u8)(uart->head + 1) % UART_FIFO;
	else
		set_lsr(uart, lsr(uart) & (u8)~LSR_DR);
	restart_timeout(uart);
	return byte;
}

/* ---- registers ---- */

/* In loopback the outputs are the inputs; otherwise a terminal is there and ready. */
static u8 modem_lines(u8 mcr) {
	if (!(mcr & MCR_LOOP)) return MSR_CTS | MSR_DSR | MSR_DCD;
	return (u8)((mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) |
		    (mcr & MCR_OUT1 ? MSR_RI : 0) | (mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void write_mcr(struct uart *uart, u8 value) {
	u8 before = modem_lines(uart->mcr), after = modem_lines(value);

	uart->mcr = value & MCR_WRITABLE;
	/* Delta bits; that of RI is set by its trailing edge only. */
	uart->msr_delta |= (u8)((before ^ after) >> 4 & (MSR_DELTA & ~MSR_TERI));
	if (before & ~after & MSR_RI) uart->msr_delta |= MSR_TERI;
}

static void write_fcr(struct uart *uart, u8 value) {
	bool toggled = (value ^ uart->fcr) & FCR_ENABLE;

	/* Changing the enable clears the FIFOs; the other bits need it set (FCR bit 0). */
	uart->fcr = value & FCR_ENABLE ? value & (0xc0 | FCR_ENABLE) : 0;
	if (toggled || (value & FCR_ENABLE && value & FCR_CLEAR_RX))
		clear_rx(uart);
	else
		restart_timeout(uart);
}

static u8 read_register(struct uart *uart, unsigned reg) {
	bool dlab = uart->lcr & LCR_DLAB;
	u8 value;

	switch (reg) {
	case RBR_THR: return dlab ? uart->dll : read_rbr(uart);
	case IER: return dlab ? uart->dlm : uart->ier;
	case IIR_FCR:
		value = interrupt_id(uart);
		if (value == IIR_THRE) uart->thre_pending = false;
		return fifos(uart) ? value | IIR_FIFOS : value;
	case LCR: return uart->lcr;
	case MCR: return uart->mcr;
	case LSR:
		value = lsr(uart);
		set_lsr(uart, value & (u8)~LSR_ERRORS);
		return value;
	case MSR:
		value = modem_lines(uart->mcr) | uart->msr_delta;
		uart->msr_delta = 0;
		return value;
	default: return uart->scr;
	}
}

/* A break looped back to the receiver is a zero with the break bit. */
static void write_lcr(struct uart *uart, u8 value) {
	bool starts = value & ~uart->lcr & LCR_BREAK;

	uart->lcr = value;
	if (starts && uart->mcr & MCR_LOOP) {
		set_lsr(uart, lsr(uart) | LSR_BI);
		receive(uart, 0);
	}
}

/*
 * THR fills, which ends its interrupt, and empties again within the write: an edge, for a driver
 * that has seen the last one. One for each FIFO's load will do: who looks at neither IIR nor LSR in
 * between has not had the time of a byte on a line.
 */
static void fill_thr(struct uart *uart) {
	if (uart->lsr_read && uart->thre_pending) {
		uart->thre_pending = false;
		update(uart);
	}
	atomic_store_explicit(&uart->lsr_read, false, memory_order_relaxed);
	uart->thre_pending = true;
}

/* True: the byte goes to the back end. */
static bool write_register(struct uart *uart, unsigned reg, u8 value) {
	bool dlab = uart->lcr & LCR_DLAB;

	switch (reg) {
	case RBR_THR:
		if (dlab) {
			uart->dll = value;
			break;
		}
		fill_thr(uart);
		if (likely(!(uart->mcr & MCR_LOOP))) return uart->backend.tx;
		receive(uart, value);
		break;
	case IER:
		if (dlab) {
			uart->dlm = value;
			break;
		}
		/* Enabling it while THR is empty interrupts at once. */
		if (value & ~uart->ier & IER_THRE) uart->thre_pending = true;
		uart->ier = value & IER_WRITABLE;
		break;
	case IIR_FCR: write_fcr(uart, value); break;
	case LCR: write_lcr(uart, value); break;
	case MCR: write_mcr(uart, value); break;
	case SCR: uart->scr = value; break;
	default: /* LSR and MSR: writes are for factory tests */ break;
	}
	return false;
}

static u64 uart_read(void *dev, u64 port, unsigned size __unused) {
	struct uart *uart = dev;
	unsigned reg = port & 7;
	u8 value = lsr(uart);

	if (reg == LSR) atomic_store_explicit(&uart->lsr_read, true, memory_order_relaxed);
	/* The common poll needs no lock: there is nothing to clear. */
	if (likely(reg == LSR && !(value & LSR_ERRORS))) return value;
	spin_lock(&uart->dev.lock);
	value = read_register(uart, reg);
	update(uart);
	spin_unlock(&uart->dev.lock);
	if (reg == RBR_THR && uart->backend.room) uart->backend.room(uart->backend.ctx);
	return value;
}

static void uart_write(void *dev, u64 port, unsigned size __unused, u64 value) {
	struct uart *uart = dev;
	unsigned reg = port & 7;

	spin_lock(&uart->dev.lock);
	bool send = write_register(uart, reg, (u8)value);
	update(uart);
	spin_unlock(&uart->dev.lock);
	if (send)
		uart->backend.tx(uart->backend.ctx, (u8)value);
	else if ((reg == IIR_FCR || reg == MCR) && uart->backend.room)
		uart->backend.room(uart->backend.ctx);
}

static void reset(void *dev) {
	struct uart *uart = dev;

	uart->ier = uart->lcr = uart->mcr = uart->fcr = uart->scr = uart->msr_delta = 0;
	uart->dll = 12; /* 9600 baud, as firmware leaves it */
	uart->dlm = 0;
	uart->thre_pending = true;
	set_lsr(uart, LSR_IDLE);
	clear_rx(uart);
	update(uart);
}

#define UART_TYPE(port)                                                             \
	{                                                                           \
		.reset = reset, .expired = rx_timeout,                              \
		.range = {{(port), (port) + 7, uart_read, uart_write, true, NULL}}, \
	}

const struct device_type uart_type = UART_TYPE(UART_COM1), uart2_type = UART_TYPE(UART_COM2);
