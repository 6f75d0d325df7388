/* The host's address space, built once at start-up and shared by all CPUs. */
#pragma once

#include "lib/types.h"

struct boot_info;

/* Frames, then the tables, then CR3. The boot tables only start other processors afterwards. */
void space_init(const struct boot_info *info);

/* Loads the host's tables on another processor. */
void space_load(void);

/* Maps size bytes of fresh zeroed frames at va, writable. 0 or E_NOMEM. */
int space_map_new(u64 va, u64 size) __must_check;
