/* The guest physical address space: where RAM lies and what map of it a guest is told. */
#include "platform/layout.h"

gpa_t layout_low_end(u64 memory) { return min_u64(memory, LAYOUT_PCI_HOLE); }

static void add_range(struct guest_range *out, gpa_t base, gpa_t end, enum guest_range_type type) {
	*out = (struct guest_range){.base = base, .size = end - base, .type = type};
}

u32 layout_ram(u64 memory, struct guest_range out[LAYOUT_MAX_RAM]) {
	gpa_t low_end = layout_low_end(memory);

	add_range(&out[0], 0, low_end, GUEST_RAM);
	add_range(&out[1], LAYOUT_ABOVE_4G, LAYOUT_ABOVE_4G + (memory - low_end), GUEST_RAM);
	return memory > low_end ? 2 : 1;
}

u32 layout_map(u64 memory, struct guest_range out[LAYOUT_MAX_MAP]) {
	gpa_t low_end = layout_low_end(memory);
	u32 count = 0;

	add_range(&out[count++], 0, LAYOUT_EBDA, GUEST_RAM);
	add_range(&out[count++], LAYOUT_EBDA, LAYOUT_VGA, GUEST_RESERVED);
	add_range(&out[count++], LAYOUT_ACPI, LAYOUT_ACPI_END, GUEST_RESERVED);
	add_range(&out[count++], LAYOUT_HIGH_LOAD, low_end, GUEST_RAM);
	add_range(&out[count++], LAYOUT_IOAPIC, LAYOUT_ABOVE_4G, GUEST_RESERVED);
	if (memory > low_end)
		add_range(&out[count++], LAYOUT_ABOVE_4G, LAYOUT_ABOVE_4G + (memory - low_end),
			  GUEST_RAM);
	return count;
}
