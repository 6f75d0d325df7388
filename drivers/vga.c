/* VGA text mode: cells of a character and an attribute. */
#include "drivers/screen.h"

#include "boot/bootinfo.h"
#include "drivers/acpi.h"
#include "drivers/mmio.h"
#include "lib/x86.h"

#define TEXT_MEMORY	0xb8000ul
#define COLUMNS		80
#define ROWS		25
#define NORMAL		0x0700u
#define INVERTED	0x7000u
#define CRTC_INDEX	0x3d4
#define CRTC_DATA	0x3d5
#define CRTC_CURSOR	0x0a
#define CURSOR_DISABLED 0x20

static volatile u16 *cells;
static u32 columns;

static void draw(size_t column, size_t row, u8 cell) {
	u8 c = cell & (u8)~SCREEN_INVERT;

	cells[row * columns + column] =
		(u16)((cell & SCREEN_INVERT ? INVERTED : NORMAL) | (c == SCREEN_OTHER ? '?' : c));
}

/* Character memory is there when it keeps what is written. */
static bool answers(void) {
	u16 old = cells[0];

	cells[0] = 0x0752;
	cells[1] = 0x074f;
	bool same = cells[0] == 0x0752 && cells[1] == 0x074f;
	cells[0] = old;
	return same;
}

int vga_init(const struct boot_info *boot, const struct acpi_info *acpi) {
	struct boot_fb fb = {.address = TEXT_MEMORY, .width = COLUMNS, .height = ROWS};

	if (boot->fb.type == FB_TEXT)
		fb = boot->fb;
	else if (boot->fb.type != FB_NONE || boot->efi || acpi->no_vga)
		return E_NOENT;
	columns = fb.width;
	cells = mmio_map(fb.address, (u64)fb.width * fb.height * 2);
	if (!cells || !answers()) return E_NOENT;
	outb(CRTC_INDEX, CRTC_CURSOR);
	outb(CRTC_DATA, CURSOR_DISABLED);
	screen_init(fb.width, fb.height, draw);
	return 0;
}
