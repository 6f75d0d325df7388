/* The text screen on a linear frame buffer, as the boot loader or UEFI left it. */
#pragma once

#include "lib/types.h"

struct boot_fb;

/*
 * Starts the screen when it is FB_RGB with 15 to 32 bits a pixel. E_NOENT when it is not; E_NOMEM
 * when it cannot be mapped or has room for no character.
 */
int fb_init(const struct boot_fb *fb) __must_check;
