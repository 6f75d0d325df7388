/*
 * A guest that touches every kind of physical address: RAM to its end, the holes, device pages, all
 * that its address width reaches. Where there is nothing, reads give all ones and writes are lost.
 */
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "touchall";

#define WINDOW (TEST_VA + GiB(4))

static u64 physical_limit(void) {
	u32 r[4];

	cpuid(0x80000008, 0, r);
	return BIT(r[0] & 0xff);
}

/* The page of the address, in a window; the same one each time. */
static volatile u32 *window(u64 pa) {
	page_map(WINDOW, pa & ~0xffful, PTE_PRESENT | PTE_WRITE);
	return (volatile u32 *)(WINDOW + (pa & 0xfff));
}

static bool is_ram(u64 pa) {
	const struct ram_range *ranges;
	u32 nr = ram_ranges(&ranges);

	for (u32 i = 0; i < nr; i++)
		if (ranges[i].type == 1 && pa - ranges[i].base < ranges[i].size) return true;
	return false;
}

static bool is_device(u64 pa) {
	return (pa >= 0xa0000 && pa < 0x100000) || (pa >= 0xfec00000 && pa < 0xfef00000);
}

static u32 faults, not_ones, touched;

static void touch(u64 pa) {
	volatile u32 *at = window(pa);
	u32 value = 0;

	__asm__ volatile(TRY "mov (%1), %0" END_TRY : "+r"(value) : "r"(at) : TRY_SPOILS);
	touched++;
	if (trap_taken().vector != TRAP_NONE) {
		faults++;
		return;
	}
	if (is_ram(pa) || is_device(pa)) return;
	if (value != 0xffffffff) not_ones++;
	__asm__ volatile(TRY "mov %0, (%1)" END_TRY : : "r"(0x12345678), "r"(at) : TRY_SPOILS);
	if (trap_taken().vector != TRAP_NONE) faults++;
	if (*at != 0xffffffff) not_ones++;
}

static void report(const char *name) {
	print("# %s: %u pages\n", name, touched);
	check_eq(name_of("%s: faults", name), faults, 0);
	check_eq(name_of("%s: answers but all ones", name), not_ones, 0);
	faults = not_ones = touched = 0;
}

/* Every byte of RAM can hold what is written, up to the last. */
static void test_ram(void) {
	const struct ram_range *ranges;
	u32 nr = ram_ranges(&ranges), wrong = 0;
	extern char image_end[];

	for (u32 i = 0; i < nr; i++) {
		u64 from = max_u64(ranges[i].base, align_up((u64)image_end, PAGE_SIZE));
		u64 end = ranges[i].base + ranges[i].size;

		if (ranges[i].type != 1 || end <= MiB(1)) continue;
		print("# RAM 0x%lx to 0x%lx\n", ranges[i].base, end);
		for (u64 pa = from; pa + 8 <= end; pa += PAGE_SIZE) {
			volatile u32 *at = window(pa);

			*at = (u32)(pa >> 12);
			at[1023] = ~(u32)(pa >> 12);
		}
		for (u64 pa = from; pa + 8 <= end; pa += PAGE_SIZE) {
			volatile u32 *at = window(pa);

			if (*at != (u32)(pa >> 12) || at[1023] != ~(u32)(pa >> 12)) wrong++;
		}
		check_eq(name_of("RAM at 0x%lx: pages that lost their content", ranges[i].base),
			 wrong, 0);
	}
}

void test_main(void) {
	u64 limit = physical_limit();

	test_ram();
	if (on_bare_tcg()) {
		skip("addresses outside of RAM", "the bare machine has devices there");
		return;
	}
	for (u64 pa = 0xa0000; pa < 0x100000; pa += PAGE_SIZE) touch(pa);
	report("from 640 KiB to 1 MiB");
	for (u64 pa = 0xfec00000; pa < 0xfef00000; pa += 16 * PAGE_SIZE) touch(pa);
	report("APIC pages");
	for (u64 pa = 0; pa < GiB(4); pa += MiB(2)) touch(pa + 0x1ffffc);
	report("below 4 GiB, by 2 MiB");
	for (u64 pa = GiB(4); pa < limit && pa < GiB(1024); pa += GiB(1)) touch(pa + 0x1234);
	report("to 1 TiB, by 1 GiB");
	for (u64 pa = GiB(4); pa && pa < limit; pa <<= 1) {
		touch(pa - 4);
		touch(pa);
	}
	touch(limit - 4);
	report("powers of two and the last word");
}
