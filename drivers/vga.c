/* VGA text mode: 80x25 cells of character and attribute. Caller serializes. */
#include "drivers/vga.h"

#include "lib/x86.h"

#define ATTRIBUTE 0x0700u
#define BLANK	  (ATTRIBUTE | ' ')

static volatile u16 *cells;
static unsigned columns, rows, x, y;

static void clear_row(unsigned row) {
	for (unsigned i = 0; i < columns; i++)
		cells[row * columns + i] = BLANK;
}

void vga_init(volatile void *memory, unsigned cols, unsigned lines) {
	cells = memory;
	columns = cols;
	rows = lines;
	for (unsigned row = 0; row < rows; row++)
		clear_row(row);
}

static void newline(void) {
	x = 0;
	if (++y < rows)
		return;
	for (unsigned i = 0; i < columns * (rows - 1); i++)
		cells[i] = cells[i + columns];
	y = rows - 1;
	clear_row(y);
}

static void move_cursor(void) {
	u16 at = (u16)(y * columns + x);

	outb(0x3d4, 0x0e);
	outb(0x3d5, (u8)(at >> 8));
	outb(0x3d4, 0x0f);
	outb(0x3d5, (u8)at);
}

void vga_write(const char *text, size_t len) {
	if (!cells)
		return;
	for (size_t i = 0; i < len; i++) {
		u8 c = (u8)text[i];

		if (c == '\n') {
			newline();
		} else if (c == '\r') {
			x = 0;
		} else {
			cells[y * columns + x] =
				(u16)(ATTRIBUTE | (c >= ' ' && c < 0x7f ? c : '.'));
			if (++x == columns)
				newline();
		}
	}
	move_cursor();
}
