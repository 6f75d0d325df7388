/* The VGA text screen, where there is one. */
#pragma once

#include "lib/types.h"

/* cells: the mapped character memory; columns x rows cells of two bytes. */
void vga_init(volatile void *cells, unsigned columns, unsigned rows);

/* Writes text at the cursor and scrolls. Only "\n" and "\r" are control characters. */
void vga_write(const char *text, size_t len);
