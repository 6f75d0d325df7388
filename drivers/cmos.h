/* The host's real-time clock. */
#pragma once

#include "lib/types.h"

/* Seconds since 1970 (UTC, as the RTC is taken to run); 0 when there is no sensible clock. */
u64 cmos_unix_time(void);
