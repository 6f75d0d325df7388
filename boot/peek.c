/*
 * Reading physical memory during start-up, before the frames and the host's address space are set
 * up: through the direct map, of which the start-up tables (boot/head.S) hold the first 4 GiB.
 */
#include "boot/bootinfo.h"
#include "boot/layout.h"

const void *phys_peek(hpa_t address, size_t length) {
	/* No loader puts anything at 0: an address of 0 is one that was never filled in. */
	if (!address || !range_within(address, length, GiB(4)))
		return NULL;
	return (const void *)(DIRECT_BASE + address);
}
