/* Loader for Multiboot 1 kernels (Multiboot Specification 0.6.96). */
#pragma once

#include "platform/load.h"

/* True when there is a valid header in the first 8 KiB. */
bool multiboot_detect(const struct blob *kernel);

/* Loads spec->kernel and its modules. 0 or an error as load_guest() lists. */
int multiboot_load(const struct load_target *to) __must_check;
