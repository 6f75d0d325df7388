/* Where messages go; lib/log.h is how they are made. */
#pragma once

#include "lib/log.h"

/* A place for text. write() may be called on any CPU, under the log's lock, and must not wait. */
struct console {
	const char *name;
	void (*write)(const char *text, size_t len);
};

/* Up to 4; everything logged so far is written to it first. E_NOMEM when all places are taken. */
int log_add_console(const struct console *console) __must_check;

/* Messages above this level are dropped. */
void log_set_level(enum log_level level);

/* Text as it is, without prefix, newline or level: panics, banners, guest output. */
void log_raw(const char *fmt, ...) __format_printf(1, 2);
void log_write(const char *text, size_t len);

/* From now on no lock is taken. */
void log_panic_mode(void);
