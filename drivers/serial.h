/* The host's serial port: a 16550 at I/O ports, for the console and for guests' output. */
#pragma once

#include "lib/types.h"

/* Sets the port up: 8N1, FIFOs on. baud 0 leaves the speed alone. E_NOENT when no UART answers. */
int serial_init(u16 port, u32 baud) __must_check;

/*
 * Queues bytes as they are. Never waits: what the transmitter does not take at once stays in a
 * 128 KiB buffer. What that cannot hold is dropped, and when half of it is free again that is said:
 * `[N bytes dropped]`. Any CPU.
 */
void serial_write(const char *text, size_t len);

/* True when so much is queued that more than a screen or two should wait. */
bool serial_busy(void);

/*
 * Moves buffered output to the transmitter and received bytes to `rx`. From interrupt or loop. True
 * when more may have been received: its interrupt is an edge and does not come for what is left.
 */
bool serial_poll(void (*rx)(u8 byte));

/* Interrupt on received data (and on an empty transmitter while output is buffered). */
void serial_enable_irq(void);

/* Waits until everything is out, at most about a second; for panic and power-off. */
void serial_drain(void);

bool serial_present(void);
