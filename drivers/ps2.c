/* The PS/2 keyboard (IBM PS/2 Hardware Interface Technical Reference), in scan code set 1. */
#include "drivers/ps2.h"

#include "lib/x86.h"

#define PORT_DATA	0x60
#define PORT_STATUS	0x64  /* to write: commands */
#define STATUS_FULL	0x01u /* a byte waits for us */
#define STATUS_BUSY	0x02u /* our last byte was not taken yet */
#define STATUS_MOUSE	0x20u /* the byte comes from the mouse */
#define CMD_READ_CONFIG 0x20
#define CMD_SET_CONFIG	0x60
#define CMD_MOUSE_OFF	0xa7
#define CMD_KEYS_OFF	0xad
#define CMD_KEYS_ON	0xae
#define CONFIG_IRQ	0x01u
#define CONFIG_MOUSE	0x02u /* the mouse's interrupt */
#define CONFIG_KEYS_OFF 0x10u
#define CONFIG_SET1	0x40u
#define KEYBOARD_SCAN	0xf4
#define WAIT_ROUNDS	50000u /* status reads, of a microsecond each on real buses */
#define POLL_ROUNDS	64u

#define KEY_CTRL	0x1d
#define KEY_SHIFT_LEFT	0x2a
#define KEY_SHIFT_RIGHT 0x36
#define KEY_CAPS	0x3a
#define KEY_PAD		0x47 /* the first of the keypad */
#define RELEASED	0x80u
#define EXTENDED	0xe0
#define ESC		0x1b

static bool present, shift, ctrl, caps, extended;

/* By scan code: without and with shift. 0: nothing. */
static const char keys[2][KEY_CAPS] = {
	"\0\0331234567890-=\177\tqwertyuiop[]\r\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ",
	"\0\033!@#$%^&*()_+\177\tQWERTYUIOP{}\r\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 ",
};

/* A letter ends an escape sequence: Home, up, left, right, End, down. */
static const char pad[] = "HA\0-D\0C+FB";

static bool wait_status(u8 mask, u8 value) {
	for (u32 i = 0; i < WAIT_ROUNDS; i++)
		if ((inb(PORT_STATUS) & mask) == value) return true;
	return false;
}

/* Writes to the controller or to the keyboard; one that stays busy is found out by read_data(). */
static void send(u16 port, u8 value) {
	if (wait_status(STATUS_BUSY, 0)) outb(port, value);
}

/* A byte that was asked for, -1 when none comes. */
static int read_data(void) { return wait_status(STATUS_FULL, STATUS_FULL) ? inb(PORT_DATA) : -1; }

int ps2_init(void) {
	/* Without a controller the bus floats: busy for ever, and always a byte. */
	if (inb(PORT_STATUS) == 0xff) return E_NOENT;
	send(PORT_STATUS, CMD_KEYS_OFF);
	send(PORT_STATUS, CMD_MOUSE_OFF);
	for (u32 i = 0; i < POLL_ROUNDS && (inb(PORT_STATUS) & STATUS_FULL); i++)
		(void)inb(PORT_DATA);
	send(PORT_STATUS, CMD_READ_CONFIG);
	int config = read_data();
	if (config < 0) return E_NOENT;
	send(PORT_STATUS, CMD_SET_CONFIG);
	config &= (int)~(CONFIG_MOUSE | CONFIG_KEYS_OFF);
	send(PORT_DATA, (u8)config | CONFIG_IRQ | CONFIG_SET1);
	send(PORT_STATUS, CMD_KEYS_ON);
	send(PORT_DATA, KEYBOARD_SCAN);
	/* The acknowledgement. A keyboard that is plugged in later scans without being told. */
	(void)read_data();
	present = true;
	return 0;
}

static void key(u8 code, void (*rx)(u8 byte)) {
	bool pressed = !(code & RELEASED), was_extended = extended;
	char c = 0;

	extended = code == EXTENDED;
	if (extended) return;
	code &= (u8)~RELEASED;
	switch (code) {
	case KEY_SHIFT_LEFT:
	case KEY_SHIFT_RIGHT:
		/* Cursor keys send shifts of their own. */
		if (!was_extended) shift = pressed;
		return;
	case KEY_CTRL: ctrl = pressed; return;
	case KEY_CAPS: caps ^= pressed; return;
	default: break;
	}
	if (!pressed) return;
	if (code < KEY_CAPS)
		c = keys[shift][code];
	else if (code >= KEY_PAD && code - KEY_PAD < (int)sizeof(pad))
		c = pad[code - KEY_PAD];
	if (code >= KEY_PAD && c >= 'A') {
		rx(ESC);
		rx('[');
	} else {
		if (caps && (c | 0x20) >= 'a' && (c | 0x20) <= 'z') c ^= 0x20;
		if (ctrl && c >= '@') c &= 0x1f;
	}
	if (c) rx((u8)c);
}

void ps2_poll(void (*rx)(u8 byte)) {
	if (!present) return;
	for (u32 i = 0; i < POLL_ROUNDS; i++) {
		u8 status = inb(PORT_STATUS);
		u8 byte;

		if (!(status & STATUS_FULL)) return;
		byte = inb(PORT_DATA);
		if (!(status & STATUS_MOUSE)) key(byte, rx);
	}
}
