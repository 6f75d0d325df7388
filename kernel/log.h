/* Where messages go; lib/log.h is how they are made. */
#pragma once

#include "lib/log.h"

/*
 * A place for text, one of LOG_CONSOLES; everything logged so far is written to it first. Called on
 * any CPU, under the log's lock, and must not wait.
 */
#define LOG_CONSOLES 2
typedef void (*log_console)(const char *text, size_t len);
void log_add_console(log_console write);

/* Messages above this level are dropped. */
void log_set_level(enum log_level level);

/* Text as it is, without prefix, newline or level: panics, banners. */
void log_raw(const char *fmt, ...) __format_printf(1, 2);

/* Copies what the ring holds behind *at, which moves on; from the oldest when it is 0. */
#define LOG_SIZE 16384u
size_t log_read(u64 *at, char *to, size_t size);

/*
 * Text for the consoles alone, by whom: what one begins while the other's line is not at its end
 * begins a new one. A guest's goes out byte for byte.
 */
enum log_owner { SHOW_MESSAGE, SHOW_SHELL, SHOW_GUEST };
void log_show(enum log_owner owner, const char *text, size_t len);

/* True while the last line on the consoles is the shell's, and not at its end. */
bool log_shell_line(void);
