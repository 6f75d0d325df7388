/*
 * Formatted output into a buffer: what Roost uses of the C standard's. Conversions: d u x s %.
 * Flags: - 0 #. Width. Precision of strings, also as `*`. Length: l.
 */
#pragma once

#include "lib/types.h"

/*
 * Both write at most size bytes, the final 0 included, and return how long the whole text is
 * without it. A conversion that is not known is written as it stands and takes no argument.
 */
int vsnprintf(char *buf, size_t size, const char *fmt, va_list args) __format_printf(3, 0);
int snprintf(char *buf, size_t size, const char *fmt, ...) __format_printf(3, 4);
