/* The text screen: cells, cursor, scrolling, and the few control sequences that shells use. */
#include "drivers/screen.h"

#include "lib/spinlock.h"
#include "lib/string.h"

#define TAB_WIDTH    8u
#define ESC	     0x1b
#define ARGUMENT_MAX 9999u
#define GROUP	     8u /* cells that are compared at once, also behind the last one */

static u8 wanted[SCREEN_ROWS_MAX * SCREEN_COLUMNS_MAX + GROUP], shown[sizeof(wanted)];
static void (*draw_cell)(size_t column, size_t row, u8 cell);
static size_t columns, rows;
static size_t x, y;	  /* the cursor; x is columns behind a full line */
static size_t first, end; /* cells that may differ from what is shown, and the one behind them */
static size_t argument;	  /* of a control sequence: its last number */
static enum { TEXT, ESCAPE, SEQUENCE } state;
static struct spinlock lock;
static bool later; /* screen_refresh() draws */

static size_t cursor(void) { return y * columns + min_u64(x, columns - 1); }

static void blank(size_t from, size_t behind) {
	memset(&wanted[from], ' ', behind - from);
	first = min_u64(first, from);
	end = max_u64(end, behind);
}

static void newline(void) {
	x = 0;
	if (++y < rows) return;
	memmove(wanted, &wanted[columns], --y * columns);
	blank(y * columns, rows * columns);
	first = 0;
}

static void put(u8 cell) {
	if (x == columns) newline();
	wanted[y * columns + x++] = cell;
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
		blank((all && !line ? 0 : y * columns) + (all ? 0 : x),
		      (line ? y + 1 : rows) * columns);
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
	first = min_u64(first, cursor());
	end = max_u64(end, cursor() + 1);
}

static void refresh(void) {
	size_t at = cursor();

	wanted[at] |= SCREEN_INVERT;
	for (size_t i = first, step; i < end; i += step) {
		step = __builtin_memcmp(&wanted[i], &shown[i], GROUP) ? 1 : GROUP;
		if (wanted[i] != shown[i])
			draw_cell(i % columns, i / columns, shown[i] = wanted[i]);
	}
	wanted[at] ^= SCREEN_INVERT;
	first = at;
	end = at + 1;
}

void screen_init(size_t width, size_t height, void (*draw)(size_t column, size_t row, u8 cell)) {
	columns = min_u64(width, SCREEN_COLUMNS_MAX);
	rows = min_u64(height, SCREEN_ROWS_MAX);
	blank(0, rows * columns);
	draw_cell = draw;
	later = false;
	refresh();
}

void screen_write(const char *text, size_t len) {
	spin_guard_unless_panic(&lock);
	if (!draw_cell) return;
	for (size_t i = 0; i < len; i++) take((u8)text[i]);
	if (!later || spin_panic) refresh();
}

void screen_refresh(void) {
	spin_guard_unless_panic(&lock);
	if (!draw_cell) return;
	later = true;
	refresh();
}
