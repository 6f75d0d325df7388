/* Registers of a 16550 UART and their bits (PC16550D datasheet), of the host's and the guests'. */
#pragma once

/* Registers, by offset from the base; DLAB changes 0 and 1. LSR_IDLE: THRE and TEMT. */
enum { RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

enum { IER_RX = 0x01, IER_THRE = 0x02, IER_LINE = 0x04, IER_MODEM = 0x08, IER_WRITABLE = 0x0f };
enum { IIR_NONE = 0x01, IIR_MODEM = 0x00, IIR_THRE = 0x02, IIR_RX = 0x04, IIR_LINE = 0x06 };
enum { IIR_TIMEOUT = 0x0c, IIR_FIFOS = 0xc0 };
enum { FCR_ENABLE = 0x01, FCR_CLEAR_RX = 0x02, FCR_CLEAR_TX = 0x04, FCR_TRIGGER_SHIFT = 6 };
enum { LCR_8N1 = 0x03, LCR_BREAK = 0x40, LCR_DLAB = 0x80 };
enum { MCR_DTR = 0x01, MCR_RTS = 0x02, MCR_OUT1 = 0x04, MCR_OUT2 = 0x08, MCR_LOOP = 0x10 };
enum { LSR_DR = 0x01, LSR_OE = 0x02, LSR_BI = 0x10, LSR_ERRORS = 0x1e, LSR_THRE = 0x20 };
enum { MSR_TERI = 0x04, MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };
enum { LSR_IDLE = 0x60, MCR_WRITABLE = 0x1f, MSR_DELTA = 0x0f };
