/* A keyboard at the PS/2 controller (8042), with the US layout, as bytes of a terminal. */
#pragma once

#include "lib/types.h"

/* Sets controller and keyboard up. E_NOENT when no controller answers. */
int ps2_init(void) __must_check;

/*
 * Gives what was typed to rx: characters, control characters, CR for Enter, DEL for Backspace, and
 * for the cursor keys, Home and End what a VT100 sends. From interrupt or loop, on one CPU only.
 */
void ps2_poll(void (*rx)(u8 byte));
