/* Device registers in the host's address space; kernel/space.c provides the mapping. */
#pragma once

#include "lib/types.h"

/* Maps size bytes at hpa, uncached, writable, never executable. NULL when there is no room. */
volatile void *mmio_map(hpa_t hpa, u64 size);

/* The same for video memory: writes are combined, and reads are slow. */
volatile void *mmio_map_wc(hpa_t hpa, u64 size);
