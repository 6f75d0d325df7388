/* The text screen: cells, cursor, scrolling, and the few control sequences that shells use. */
#include "drivers/screen.h"

#include "lib/spinlock.h"
#include "lib/string.h"

#define TAB_WIDTH    8u
#define ESC	     0x1b
#define ARGUMENT_MAX 9999u

static u8 wanted[SCREEN_ROWS_MAX][SCREEN_COLUMNS_MAX], shown[SCREEN_ROWS_MAX][SCREEN_COLUMNS_MAX];
static void (*draw_cell)(size_t column, size_t row, u8 cell);
static size_t columns, rows;
static size_t x, y;	   /* the cursor; x is columns behind a full line */
static size_t top, bottom; /* rows that may differ from what is shown */
static size_t argument;	   /* of a control sequence: its last number */
static enum { TEXT, ESCAPE, SEQUENCE } state;
static struct spinlock lock;
static bool unlocked; /* a panic: who holds the lock may have been stopped */

/* Makes cells of a row blank, and all of the rows behind it up to the last one. */
static void blank(size_t row, size_t from, size_t last) {
	for (; row <= last; row++, from = 0) memset(&wanted[row][from], ' ', columns - from);
}

static void newline(void) {
	x = 0;
	if (++y < rows) return;
	memmove(wanted[0], wanted[1], --y * sizeof(wanted[0]));
	blank(y, 0, y);
	top = 0;
}

static void put(u8 cell) {
	if (x == columns) newline();
	wanted[y][x++] = cell;
}

static void text_byte(u8 c) {
	switch (c) {
	case '\n': newline(); break;
	case '\r': x = 0; break;
	case '\b': x -= x > 0; break;
	case '\t': x = min_u64(align_up(x + 1, TAB_WIDTH), columns - 1); break;
	case ESC: state = ESCAPE; break;
	default:
		if (c >= ' ' && c <= '~')
			put(c);
		else if (c >= 0xc0) /* the first byte of a character in UTF-8 */
			put(SCREEN_OTHER);
	}
}

/* The last byte of a control sequence (ECMA-48 8.3). */
static void sequence_end(u8 final) {
	size_t count = max_u64(argument, 1);
	bool all = argument == 2, line = final == 'K';

	switch (final) {
	case 'A': y -= min_u64(count, y); break;
	case 'B': y = min_u64(y + count, rows - 1); break;
	case 'C': x = min_u64(x + count, columns - 1); break;
	case 'D': x -= min_u64(count, x); break;
	case 'H':
		if (!argument) x = y = 0;
		break;
	case 'J':
	case 'K':
		if (argument == 1) break;
		blank(all && !line ? 0 : y, all ? 0 : x, line ? y : rows - 1);
		top = all && !line ? 0 : top;
		bottom = line ? bottom : rows - 1;
		break;
	default: break;
	}
}

static void take(u8 c) {
	if (state == TEXT) {
		text_byte(c);
	} else if (state == ESCAPE) {
		argument = 0;
		if (c == '[')
			state = SEQUENCE;
		else if (c >= '0') /* below are intermediate bytes (ECMA-48 5.3) */
			state = TEXT;
	} else if (c >= '@') {
		state = TEXT;
		sequence_end(c);
	} else if (c >= '0' && c <= '9') {
		argument = min_u64(argument * 10 + (c - '0'), ARGUMENT_MAX);
	} else if (c == ';') {
		argument = 0;
	}
	top = min_u64(top, y);
	bottom = max_u64(bottom, y);
}

static void refresh(void) {
	u8 *cursor = &wanted[y][min_u64(x, columns - 1)];

	*cursor |= SCREEN_INVERT;
	for (size_t row = top; row <= bottom; row++) {
		for (size_t column = 0; column < columns; column++) {
			u8 cell = wanted[row][column];

			if (cell != shown[row][column])
				draw_cell(column, row, shown[row][column] = cell);
		}
	}
	*cursor ^= SCREEN_INVERT;
	top = bottom = y;
}

void screen_init(size_t width, size_t height, void (*draw)(size_t column, size_t row, u8 cell)) {
	columns = min_u64(width, SCREEN_COLUMNS_MAX);
	rows = min_u64(height, SCREEN_ROWS_MAX);
	bottom = rows - 1;
	blank(0, 0, bottom);
	draw_cell = draw;
	refresh();
}

void screen_panic_mode(void) { unlocked = true; }

void screen_write(const char *text, size_t len) {
	spin_guard_if(!unlocked, &lock);
	if (!draw_cell) return;
	for (size_t i = 0; i < len; i++) take((u8)text[i]);
	refresh();
}
