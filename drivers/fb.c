/* Characters as pixels: 8 x 16 each, grey on black, written once and never read. */
#include "drivers/screen.h"

#include "boot/bootinfo.h"
#include "drivers/mmio.h"

#define GLYPH_WIDTH  8u
#define GLYPH_HEIGHT 16u
#define GREY	     0xaau

extern const u8 font_glyphs[]; /* platform/blobs.S */

static volatile u8 *pixels;
static u32 pitch, pixel_size; /* bytes */
static u32 ink;

static void put_pixel(volatile u8 *at, u32 colour) {
	if (pixel_size == 4) {
		*(volatile u32 *)at = colour;
	} else if (pixel_size == 2) {
		*(volatile u16 *)at = (u16)colour;
	} else {
		for (u32 i = 0; i < pixel_size; i++, colour >>= 8) at[i] = (u8)colour;
	}
}

static void draw(size_t column, size_t row, u8 cell) {
	const u8 *glyph = &font_glyphs[((cell & (u8)~SCREEN_INVERT) - ' ') * GLYPH_HEIGHT];
	volatile u8 *line = pixels + row * GLYPH_HEIGHT * pitch + column * GLYPH_WIDTH * pixel_size;

	for (u32 i = 0; i < GLYPH_HEIGHT; i++, line += pitch) {
		u32 dots = cell & SCREEN_INVERT ? ~glyph[i] : glyph[i];

		for (u32 dot = 0; dot < GLYPH_WIDTH; dot++, dots <<= 1)
			put_pixel(line + dot * pixel_size, dots & 0x80 ? ink : 0);
	}
}

int fb_init(const struct boot_fb *fb) {
	u64 size = (u64)fb->pitch * fb->height;

	if (fb->type != FB_RGB || fb->bpp < 15) return E_NOENT;
	pixel_size = (fb->bpp + 7u) / 8;
	pitch = fb->pitch;
	if (fb->width < GLYPH_WIDTH || fb->height < GLYPH_HEIGHT) return E_NOMEM;
	pixels = mmio_map_wc(fb->address, size);
	if (!pixels) return E_NOMEM;
	ink = 0;
	for (u32 i = 0; i < 6; i += 2) /* the upper bits of the intensity, as many as there are */
		ink |= GREY >> (8 - fb->rgb[i + 1]) << fb->rgb[i];
	for (u64 i = 0; i + 4 <= size; i += 4) *(volatile u32 *)(pixels + i) = 0;
	screen_init(fb->width / GLYPH_WIDTH, fb->height / GLYPH_HEIGHT, draw);
	return 0;
}
