/* A text screen in memory, whose changed cells a driver shows (fb.c, vga.c); none are read back. */
#pragma once

#include "lib/types.h"

struct acpi_info;
struct boot_fb;
struct boot_info;

#define SCREEN_COLUMNS_MAX 160
#define SCREEN_ROWS_MAX	   64

/* A cell: a character from ' ' to '~' or SCREEN_OTHER, and whether it is shown inverted. */
#define SCREEN_OTHER  0x7f /* stands for every character that is not ASCII */
#define SCREEN_INVERT 0x80

/* Starts blank. draw shows a cell; it is called under the screen's lock and must not wait. */
void screen_init(size_t columns, size_t rows, void (*draw)(size_t column, size_t row, u8 cell));

/*
 * Writes text at the cursor: printable characters, UTF-8, CR, BS, TAB, LF (which goes to the next
 * line's beginning), and CUU, CUD, CUF, CUB, ED, EL and CUP to the upper left corner. Any CPU.
 */
void screen_write(const char *text, size_t len);

/*
 * Draws what has changed. Until the first call, and in a panic, each write does: to draw every line
 * that scrolls by takes longer than anybody can read it.
 */
void screen_refresh(void);

/* fb.c: a linear frame buffer. E_NOENT when it is not FB_RGB; E_NOMEM without room. */
int fb_init(const struct boot_fb *fb) __must_check;

/* vga.c: VGA's character memory. E_NOENT when there is none, as far as one can know. */
int vga_init(const struct boot_info *boot, const struct acpi_info *acpi) __must_check;
