/* The map of physical memory; see memmap.h. Each page gets the highest type of all calls. */
#include "boot/memmap.h"

#include "lib/log.h"

static hpa_t range_end(const struct mem_range *range) { return range->base + range->length; }

static void remove_at(struct memmap *map, u32 at) {
	map->count--;
	for (u32 i = at; i < map->count; i++) map->range[i] = map->range[i + 1];
}

/*
 * Saves one entry of a full map without ever making a page usable, by what loses least: the
 * smallest usable range is given up, or the smallest hole between two reserved ranges becomes
 * reserved.
 */
static void make_room(struct memmap *map) {
	struct mem_range *range = map->range;
	u64 least = ~0ul;
	u32 at = 0;

	if (!map->dropped++)
		log_warn("memory map: more than %u ranges, small ones are not used", MEMMAP_MAX);
	for (u32 i = 0; i < map->count; i++) {
		u64 loss = ~0ul;

		if (range[i].type == MEM_USABLE)
			loss = range[i].length;
		else if (i + 1 < map->count && range[i + 1].type != MEM_USABLE)
			loss = range[i + 1].base - range_end(&range[i]);
		if (loss < least) {
			least = loss;
			at = i;
		}
	}
	if (range[at].type != MEM_USABLE) {
		range[at + 1].length = range_end(&range[at + 1]) - range[at].base;
		range[at + 1].base = range[at].base;
		if (range[at].type != range[at + 1].type) range[at + 1].type = MEM_RESERVED;
	}
	remove_at(map, at);
}

/* The first range that ends past the address; map->count when there is none. */
static u32 find(const struct memmap *map, hpa_t address) {
	u32 i = 0;

	while (i < map->count && range_end(&map->range[i]) <= address) i++;
	return i;
}

static void insert(struct memmap *map, u32 at, hpa_t base, hpa_t end, enum mem_type type) {
	for (u32 i = map->count++; i > at; i--) map->range[i] = map->range[i - 1];
	map->range[at] = (struct mem_range){base, end - base, type};
}

/* Makes two of a range that an address lies inside of. */
static void split(struct memmap *map, hpa_t address) {
	u32 at = find(map, address);
	struct mem_range *range = &map->range[at];

	if (at == map->count || range->base >= address) return;
	insert(map, at + 1, address, range_end(range), range->type);
	range->length = address - range->base;
}

static void merge_neighbours(struct memmap *map) {
	for (u32 i = map->count; i-- > 1;) {
		struct mem_range *range = &map->range[i - 1];

		if (range[0].type == range[1].type && range_end(range) == range[1].base) {
			range->length += range[1].length;
			remove_at(map, i);
		}
	}
}

/* Gives [base, end) the type wherever the map has a hole or a lower type. */
static void apply(struct memmap *map, hpa_t base, hpa_t end, enum mem_type type) {
	while (base < end) {
		split(map, base);
		u32 at = find(map, base);
		bool covered = at < map->count && map->range[at].base <= base;
		hpa_t stop = covered	       ? range_end(&map->range[at])
			     : at < map->count ? map->range[at].base
					       : end;

		stop = min_u64(stop, end);
		if (!covered) {
			insert(map, at, base, stop, type);
		} else if (map->range[at].type < type) {
			split(map, stop);
			map->range[at].type = type;
		}
		base = stop;
		merge_neighbours(map);
		while (map->count > MEMMAP_MAX) make_room(map);
	}
}

int memmap_add(struct memmap *map, hpa_t base, u64 length, enum mem_type type) {
	if (!length) return 0;
	if (type == MEM_USABLE && (base >= MEMMAP_LIMIT || length > ~base)) return E_RANGE;
	if (base >= MEMMAP_LIMIT) return 0;
	hpa_t end = length > MEMMAP_LIMIT - base ? MEMMAP_LIMIT : base + length;
	if (type == MEM_USABLE) {
		base = align_up(base, PAGE_SIZE);
		end = align_down(end, PAGE_SIZE);
	} else {
		base = align_down(base, PAGE_SIZE);
		end = align_up(end, PAGE_SIZE);
	}
	apply(map, base, end, type);
	return 0;
}

bool memmap_is(const struct memmap *map, hpa_t base, u64 length, enum mem_type type) {
	u32 at = find(map, base);

	/* Neighbours of one type are always merged, so that one range must hold it all. */
	if (at == map->count || map->range[at].type != type || base < map->range[at].base)
		return false;
	return length <= range_end(&map->range[at]) - base;
}

u64 memmap_total(const struct memmap *map, enum mem_type type) {
	u64 total = 0;

	for (u32 i = 0; i < map->count; i++)
		if (map->range[i].type == type) total += map->range[i].length;
	return total;
}
