/*
 * Messages for the person at the console. lib/ only declares them; kernel/log.c formats, keeps the
 * last ones in a ring and writes to the consoles. Messages that a guest can provoke must go through
 * the limited variant, so that no guest can flood the console.
 */
#pragma once

#include "lib/types.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* One message; a newline is added. Longer than 255 bytes is cut. Any CPU, any context but NMI. */
void log_msg(enum log_level level, const char *fmt, ...) __format_printf(2, 3);

struct log_limit {
	u32 count; /* messages written so far */
	u32 max;   /* at most this many ever */
};

/* True when one more message may be written under this limit. */
bool log_allowed(struct log_limit *limit);

#define log_error(...) log_msg(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_msg(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_msg(LOG_INFO, __VA_ARGS__)

/* For what a guest can provoke: each place writes at most 16 messages in the life of the machine.
 */
#define log_guest(...)                                                    \
	do {                                                              \
		static struct log_limit limit_ = {0, 16};                 \
		if (log_allowed(&limit_)) log_msg(LOG_WARN, __VA_ARGS__); \
	} while (0)
