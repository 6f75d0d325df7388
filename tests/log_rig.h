/* lib/log.h for unit tests: what was logged since rig_log_clear(). */
#pragma once

#include <stdbool.h>

extern char rig_log_text[65536]; /* one message behind the other */
extern unsigned rig_nr_logged;
extern unsigned rig_log_levels; /* a bit for each one used */

void rig_log_clear(void);
bool rig_logged(const char *text);
