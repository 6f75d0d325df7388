/* A log for unit tests. */
#include "tests/log_rig.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/log.h"

char rig_log_text[65536];
unsigned rig_nr_logged;
unsigned rig_log_levels;

void log_msg(enum log_level level, const char *fmt, ...) {
	size_t used = strlen(rig_log_text);
	va_list args;

	va_start(args, fmt);
	vsnprintf(rig_log_text + used, sizeof(rig_log_text) - used, fmt, args);
	va_end(args);
	rig_nr_logged++;
	rig_log_levels |= 1u << level;
}

void rig_log_clear(void) {
	rig_log_text[0] = 0;
	rig_nr_logged = 0;
	rig_log_levels = 0;
}

bool rig_logged(const char *text) { return strstr(rig_log_text, text) != NULL; }
