/* The direct map at start-up: boot/head.S maps 4 GiB; what firmware keeps above is mapped here. */
#include "boot/bootinfo.h"
#include "boot/layout.h"
#include "kernel/cpu.h"
#include "lib/x86.h"

extern u64 boot_pdpt_low[512];

const void *phys_peek(hpa_t address, size_t length) {
	u64 limit = cpu_features.pages_1g ? GiB(512) : GiB(4);

	/* No loader puts anything at 0: an address of 0 is one that was never filled in. */
	if (!address || !length || !range_within(address, length, limit)) return NULL;
	for (u64 gib = address / GiB(1); gib <= (address + length - 1) / GiB(1); gib++)
		if (!boot_pdpt_low[gib])
			boot_pdpt_low[gib] = gib * GiB(1) | X86_PTE_P | X86_PTE_W | X86_PTE_PS;
	return (const void *)(DIRECT_BASE + address);
}
