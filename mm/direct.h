/* All physical memory, writable and never executable; in unit tests an arena of the test. */
#pragma once

#include "lib/types.h"

#ifdef UNIT_TEST
extern u64 direct_base_;
#define DIRECT_OFFSET direct_base_
#else
#define DIRECT_BASE   0xffff800000000000 /* also in boot/layout.h */
#define DIRECT_OFFSET DIRECT_BASE
#endif

static inline void *phys_to_virt(hpa_t pa) { return (void *)(DIRECT_OFFSET + pa); }

/* Only for pointers into the direct map, not for the image's own variables. */
static inline hpa_t virt_to_phys(const void *va) { return (u64)va - DIRECT_OFFSET; }
