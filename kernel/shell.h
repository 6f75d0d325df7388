/* Roost's own command line on the console, for when no guest has it. */
#pragma once

#include "lib/types.h"

/* One byte of input. On the boot processor, from its run loop. */
void shell_input(u8 byte);

/* Shows the prompt; called when the console becomes the shell's. */
void shell_prompt(void);
