/*
 * A 16550A UART of a VM (PC16550D datasheet): COM1 at 0x3f8, ISA IRQ 4; COM2 at 0x2f8, ISA IRQ 3.
 * Bytes leave at once: the transmitter is empty whenever the guest looks. Bytes for the guest come
 * through uart_rx().
 */
#pragma once

#include "platform/device.h"

#define UART_COM1     0x3f8
#define UART_COM1_GSI 4
#define UART_COM2     0x2f8
#define UART_COM2_GSI 3
#define UART_FIFO     16

struct uart_backend {
	/* One byte that the guest has sent. Called on the vCPU's CPU, without locks of the UART. */
	void (*tx)(void *ctx, u8 byte);
	/* There may be room for uart_rx() again. Called in the same way; may be NULL. */
	void (*room)(void *ctx);
	void *ctx;
};

struct uart {
	struct device dev;
	_Atomic u8 lsr; /* as the next read shows it */
	u8 ier, lcr, mcr, scr;
	u8 fcr; /* enable and trigger level */
	u8 dll, dlm;
	u8 msr_delta; /* bits 3:0 of MSR */
	bool thre_pending;
	_Atomic bool lsr_read; /* since the last byte sent */
	bool timeout; /* bytes below the trigger level have waited for four characters' time */
	u8 head, count;
	u8 fifo[UART_FIFO];
	struct uart_backend backend;
};

extern const struct device_type uart_type, uart2_type;

/* A byte for the guest, from any CPU. False, with nothing changed, when there is no room for it. */
bool uart_rx(struct uart *uart, u8 byte);
