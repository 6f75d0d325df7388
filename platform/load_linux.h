/* Loader for Linux kernels by the x86 boot protocol, entered in 64-bit mode. */
#pragma once

#include "platform/load.h"

/* True when the bytes have the mark of a Linux setup header, of whatever version. */
bool linux_detect(const struct blob *kernel);

/* Loads spec->kernel, spec->initrd and spec->cmdline. 0 or an error as load_guest() lists. */
int linux_load(const struct load_target *to) __must_check;
