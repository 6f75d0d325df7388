/* The demonstration guest, a multiboot image inside Roost's own (guest-tests/demo). */
#pragma once

#include "lib/types.h"

extern const u8 demo_image[], demo_image_end[];
