/* The host's address space (boot/layout.h draws it): W^X and NX throughout. */
#include "kernel/space.h"

#include "boot/bootinfo.h"
#include "boot/layout.h"
#include "drivers/mmio.h"
#include "kernel/cpu.h"
#include "kernel/panic.h"
#include "lib/log.h"
#include "lib/spinlock.h"
#include "lib/x86.h"
#include "mm/direct.h"
#include "mm/frame.h"
#include "mm/ptable.h"

#define BOOT_MAP_END GiB(4) /* what the start-up tables map */
#define DIRECT_SIZE  (CPU_AREA_BASE - DIRECT_BASE)
#define RW	     (PT_READ | PT_WRITE | PT_GLOBAL)

extern char text_start[], text_end[], rodata_start[], data_start[], data_end[];

static struct ptable host;
static struct spinlock mmio_lock;
static u64 mmio_next = MMIO_BASE;

/* RAM of whatever use; the rest of the map may be device registers and stays unmapped. */
static bool is_ram(enum mem_type type) { return type <= MEM_ROOST; }

/* Hands the usable part of [from, to) to the allocator. */
static void add_frames(const struct memmap *map, u64 from, u64 to) {
	for (u32 i = 0; i < map->count; i++) {
		const struct mem_range *r = &map->range[i];
		u64 start = max_u64(r->base, from);
		u64 end = min_u64(r->base + r->length, to);

		if (r->type == MEM_USABLE && start < end && end - start > PAGE_SIZE &&
		    frame_add(start, end - start))
			log_warn("memory at %lx could not be used", start);
	}
}

static void map_or_panic(u64 va, hpa_t pa, u64 size, u32 attrs) {
	int err = pt_map(&host, va, pa, size, attrs);

	if (err) panic("cannot map %lx: error %d", va, err);
}

/*
 * Neighbouring ranges of RAM are mapped as one, so that large pages cross their borders. RAM for
 * which the direct map has no room is not used.
 */
static void map_direct(const struct memmap *map) {
	for (u32 i = 0; i < map->count;) {
		u64 base = map->range[i].base;
		u64 end = base + map->range[i].length;

		if (!is_ram(map->range[i++].type)) continue;
		while (i < map->count && map->range[i].base == end && is_ram(map->range[i].type))
			end += map->range[i++].length;
		if (end > DIRECT_SIZE)
			log_warn("memory from %lx to %lx is not used, but for what is below %lx",
				 base, end, DIRECT_SIZE);
		if (base < DIRECT_SIZE)
			map_or_panic(DIRECT_BASE + base, base, min_u64(end, DIRECT_SIZE) - base,
				     RW);
	}
}

static void map_image(char *start, char *end, u32 attrs) {
	u64 va = (u64)start;

	map_or_panic(va, va - KERNEL_BASE, align_up((u64)end, PAGE_SIZE) - va, attrs | PT_GLOBAL);
}

void space_load(void) {
	wrmsr(X86_MSR_PAT, PT_PAT);
	if (cpu_features.nx) wrmsr(X86_MSR_EFER, rdmsr(X86_MSR_EFER) | X86_EFER_NXE);
	write_cr3(host.root);
}

void space_init(const struct boot_info *info) {
	frame_init();
	add_frames(&info->memory, 0, BOOT_MAP_END);
	if (pt_init(&host, &pt_format_host, cpu_features.pages_1g ? PT_LEVEL_1G : PT_LEVEL_2M))
		panic("no memory for page tables");
	map_direct(&info->memory);
	map_image(text_start, text_end, PT_READ | PT_EXEC);
	map_image(rodata_start, data_start, PT_READ);
	map_image(data_start, data_end, PT_READ | PT_WRITE);
	space_load();
	add_frames(&info->memory, BOOT_MAP_END, DIRECT_SIZE);
}

int space_map_new(u64 va, u64 size) {
	for (u64 at = 0; at < size; at += PAGE_SIZE) {
		pfn_t pfn;
		int err = frame_alloc(0, FRAME_ZERO, &pfn);

		if (!err) err = pt_map(&host, va + at, pfn << PAGE_SHIFT, PAGE_SIZE, RW);
		if (err) return err;
	}
	return 0;
}

static volatile void *map_device(hpa_t hpa, u64 size, u32 type) {
	u64 offset = hpa & ~PAGE_MASK;
	u64 bytes = align_up(offset + size, PAGE_SIZE);

	spin_lock(&mmio_lock);
	u64 va = mmio_next;
	mmio_next += bytes;
	spin_unlock(&mmio_lock);
	if (pt_map(&host, va, hpa - offset, bytes, RW | type)) return NULL;
	return (volatile void *)(va + offset);
}

volatile void *mmio_map(hpa_t hpa, u64 size) { return map_device(hpa, size, PT_UC); }

volatile void *mmio_map_wc(hpa_t hpa, u64 size) { return map_device(hpa, size, PT_WC); }
