/*
 * Linux x86 boot protocol, 2.12 and later, 64-bit entry (Linux: Documentation/x86/boot.rst): the
 * protected-mode part of a bzImage is loaded in one piece, and entered 0x200 bytes from its start.
 *
 *   0x0500  GDT with the two segments that the protocol names
 *   0x7000  boot_params ("zero page")
 *   0x9000  page tables: 4 GiB mapped one to one with 2 MiB pages, so that any CPU can use them
 *   0x20000 command line
 */
#include "platform/load.h"

#include "platform/layout.h"

#define GDT_ADDRESS	    0x500ul
#define PARAMS_ADDRESS	    0x7000ul
#define TABLES_ADDRESS	    0x9000ul
#define CMDLINE_ADDRESS	    0x20000ul

#define SECTOR		    512u
#define HEADER_MAGIC	    0x53726448u /* "HdrS" */
#define PROTOCOL_2_12	    0x020cu
#define BOOT_MARK	    0xaa55u
#define LOADFLAGS_HIGH	    0x01u
#define XLF_KERNEL_64	    0x0001u
#define ENTRY_64	    0x200u
#define LOADER_UNDEFINED    0xffu
#define DEFAULT_SETUP_SECTS 4u

#define TABLE_ENTRIES	    512u
#define MAPPED_GIB	    4u
#define PTE_TABLE	    (X86_PTE_P | X86_PTE_W)

/*
 * Offsets in the file's first sectors and, alike, in boot_params (Linux: boot.rst, zero-page.rst).
 * A header of 2.12 ends before HANDOVER_OFFSET, today's at HEADER_END.
 */
enum { ACPI_RSDP_ADDR = 0x070, E820_ENTRIES = 0x1e8, E820_TABLE = 0x2d0, E820_SIZE = 20 };
enum { HEADER = 0x1f1, SETUP_SECTS = 0x1f1, SYSSIZE = 0x1f4, BOOT_FLAG = 0x1fe };
enum { JUMP_LENGTH = 0x201, JUMP_END, MAGIC = 0x202, VERSION = 0x206, TYPE_OF_LOADER = 0x210 };
enum { LOADFLAGS = 0x211, CODE32_START = 0x214, RAMDISK_IMAGE = 0x218, RAMDISK_SIZE = 0x21c };
enum { CMD_LINE_PTR = 0x228, INITRD_ADDR_MAX = 0x22c, KERNEL_ALIGNMENT = 0x230 };
enum { RELOCATABLE_KERNEL = 0x234, XLOADFLAGS = 0x236, CMDLINE_SIZE = 0x238, SETUP_DATA = 0x250 };
enum { PREF_ADDRESS = 0x258, INIT_SIZE = 0x260, HANDOVER_OFFSET = 0x264, HEADER_END = 0x26c };

/* What the checked header says, and where things go. */
struct linux_image {
	u32 header_end;	    /* of what this kernel has of it */
	u64 payload_offset; /* protected-mode part in the file */
	u64 payload_size;
	gpa_t load;	/* where it goes */
	gpa_t load_end; /* end of what the kernel uses until it reads the memory map */
	gpa_t initrd;	/* 0: none */
};

/* boot_params, with the header from the start, and page tables; loads come one at a time. */
static u8 params[PAGE_SIZE];
static u64 tables[2 + MAPPED_GIB][TABLE_ENTRIES];

static u64 get(u32 at, u32 size) { return load_field(params + at, size); }

static void put(u32 at, u32 size, u64 value) { memcpy(params + at, &value, size); }

bool linux_detect(const struct blob *kernel) {
	return kernel->size >= VERSION && load_field(kernel->data + BOOT_FLAG, 2) == BOOT_MARK &&
	       load_field(kernel->data + MAGIC, 4) == HEADER_MAGIC;
}

/* Copies the header once, no further than it says it goes. */
static int read_header(const struct load_target *to, struct linux_image *image) {
	const struct blob *kernel = &to->spec->kernel;

	if (kernel->size < VERSION)
		return load_fail(to, E_TRUNC, "%lu bytes long, too short for a Linux setup header",
				 kernel->size);
	if (!linux_detect(kernel)) return load_fail(to, E_FORMAT, "no Linux setup header (HdrS)");
	u64 end = JUMP_END + kernel->data[JUMP_LENGTH];
	if (kernel->size < end)
		return load_fail(to, E_TRUNC, "%lu bytes long, but its setup header takes %lu",
				 kernel->size, end);
	image->header_end = (u32)min_u64(end, HEADER_END);
	memset(params, 0, sizeof(params));
	memcpy(params + HEADER, kernel->data + HEADER, image->header_end - HEADER);
	return 0;
}

static int check_header(const struct load_target *to, const struct linux_image *image) {
	u64 version = get(VERSION, 2);

	if (version < PROTOCOL_2_12)
		return load_fail(to, E_NOSUPP, "boot protocol %lu.%02lu, at least 2.12 is needed",
				 version >> 8, version & 0xff);
	if (image->header_end < HANDOVER_OFFSET)
		return load_fail(to, E_FORMAT,
				 "setup header of %u bytes, too short for its version",
				 image->header_end - HEADER);
	if (!(get(LOADFLAGS, 1) & LOADFLAGS_HIGH))
		return load_fail(to, E_NOSUPP, "a zImage for low memory, a bzImage is needed");
	if (!(get(XLOADFLAGS, 2) & XLF_KERNEL_64))
		return load_fail(to, E_NOSUPP, "no 64-bit entry point, a 64-bit kernel is needed");
	return 0;
}

/* Where the protected-mode part lies in the file, and that it is all there. */
static int find_payload(const struct load_target *to, struct linux_image *image) {
	u64 sectors = get(SETUP_SECTS, 1), end;

	image->payload_offset = ((sectors ? sectors : DEFAULT_SETUP_SECTS) + 1) * SECTOR;
	image->payload_size = get(SYSSIZE, 4) * 16;
	end = image->payload_offset + image->payload_size;
	if (image->payload_size <= ENTRY_64)
		return load_fail(to, E_FORMAT, "its header says that the kernel has only %lu bytes",
				 image->payload_size);
	if (end > to->spec->kernel.size)
		return load_fail(to, E_TRUNC, "truncated, %lu of %lu bytes are missing",
				 end - to->spec->kernel.size, end);
	return 0;
}

/*
 * The kernel goes where it wants to be: a 64-bit kernel loaded lower unpacks itself to pref_address
 * all the same, and one loaded higher only takes memory from others.
 */
static int place_kernel(const struct load_target *to, struct linux_image *image) {
	u64 align = get(KERNEL_ALIGNMENT, 4), load = get(PREF_ADDRESS, 8);

	if (load < LAYOUT_HIGH_LOAD || load >= LAYOUT_PCI_HOLE || load % PAGE_SIZE)
		return load_fail(to, E_FORMAT, "cannot be loaded at its preferred address %#lx",
				 load);
	if (get(RELOCATABLE_KERNEL, 1)) {
		if (!align || align & (align - 1) || align > GiB(1))
			return load_fail(to, E_FORMAT, "alignment %#lx is no power of 2", align);
		load = align_up(load, align);
	}
	image->load = load;
	image->load_end =
		align_up(load + max_u64(get(INIT_SIZE, 4), image->payload_size), PAGE_SIZE);
	if (image->load_end > to->low_end)
		return load_fail(to, E_NOMEM,
				 "does not fit: needs memory up to %lu KiB, %lu KiB are missing",
				 image->load_end >> 10, load_kib(image->load_end - to->low_end));
	return 0;
}

/* As high as the header allows, so that the kernel can unpack below it. */
static int place_initrd(const struct load_target *to, struct linux_image *image) {
	const struct blob *initrd = &to->spec->initrd;
	u64 limit = min_u64(to->low_end, get(INITRD_ADDR_MAX, 4) + 1);
	u64 top = align_down(limit, PAGE_SIZE);

	if (!initrd->data || !initrd->size) return 0;
	image->initrd = align_down(top - initrd->size, PAGE_SIZE);
	return load_check_room(to, "initrd", initrd,
			       top > image->load_end ? top - image->load_end : 0);
}

static int write_cmdline(const struct load_target *to) {
	const char *cmdline = to->spec->cmdline ? to->spec->cmdline : "";
	u64 length = strnlen(cmdline, LOAD_MAX_STRING);
	/* cmdline_size does not count the final 0. */
	u64 most = min_u64(get(CMDLINE_SIZE, 4), LOAD_MAX_STRING - 1);

	if (length > most)
		return load_fail(to, E_RANGE,
				 "command line of %lu characters%s, it takes at most %lu", length,
				 length == LOAD_MAX_STRING ? " or more" : "", most);
	return load_write(to, CMDLINE_ADDRESS, cmdline, length + 1);
}

/* Everything that is not set here stays 0, which says "not there" (Linux: zero-page.rst). */
static int write_params(const struct load_target *to, const struct linux_image *image) {
	struct guest_range map[LAYOUT_MAX_MAP];
	u32 count = layout_map(to->memory, map);

	put(TYPE_OF_LOADER, 1, LOADER_UNDEFINED);
	put(CMD_LINE_PTR, 4, CMDLINE_ADDRESS);
	put(RAMDISK_IMAGE, 4, image->initrd);
	put(RAMDISK_SIZE, 4, image->initrd ? to->spec->initrd.size : 0);
	put(CODE32_START, 4, image->load);
	put(SETUP_DATA, 8, 0);
	put(ACPI_RSDP_ADDR, 8, LAYOUT_ACPI);
	put(E820_ENTRIES, 1, count);
	for (u32 i = 0; i < count; i++) {
		put(E820_TABLE + i * E820_SIZE, 8, map[i].base);
		put(E820_TABLE + i * E820_SIZE + 8, 8, map[i].size);
		put(E820_TABLE + i * E820_SIZE + 16, 4, map[i].type);
	}
	return load_write(to, PARAMS_ADDRESS, params, sizeof(params));
}

/* One PML4, one PDPT, a page directory for each GiB. */
static int write_page_tables(const struct load_target *to) {
	const gpa_t pdpt = TABLES_ADDRESS + PAGE_SIZE, first_pd = pdpt + PAGE_SIZE;

	tables[0][0] = pdpt | PTE_TABLE;
	for (u32 gib = 0; gib < MAPPED_GIB; gib++)
		tables[1][gib] = (first_pd + gib * PAGE_SIZE) | PTE_TABLE;
	for (u32 i = 0; i < MAPPED_GIB * TABLE_ENTRIES; i++)
		tables[2 + i / TABLE_ENTRIES][i % TABLE_ENTRIES] =
			i * MiB(2) | PTE_TABLE | X86_PTE_PS;
	return load_write(to, TABLES_ADDRESS, tables, sizeof(tables));
}

/* Linux: boot.rst, "64-bit Boot Protocol". */
static void set_entry_state(struct boot_state *state, const struct linux_image *image) {
	state->cr0 |= X86_CR0_PG;
	state->cr3 = TABLES_ADDRESS;
	state->cr4 = X86_CR4_PAE;
	state->efer = X86_EFER_LME | X86_EFER_LMA;
	state->rip = image->load + ENTRY_64;
	state->gpr[RSI] = PARAMS_ADDRESS;
}

int linux_load(const struct load_target *to) {
	const struct load_spec *spec = to->spec;
	struct linux_image image = {0};

	if (spec->nr_modules)
		return load_fail(to, E_RANGE, "Linux takes an initrd, but no modules");
	int rc = read_header(to, &image) ?: check_header(to, &image) ?:
	     find_payload(to, &image) ?: place_kernel(to, &image) ?: place_initrd(to, &image) ?:
	     load_flat_state(to, GDT_ADDRESS, LOAD_CODE_64) ?: write_page_tables(to) ?:
	     write_cmdline(to) ?: write_params(to, &image) ?:
	     load_write(to, image.load, spec->kernel.data + image.payload_offset,
			image.payload_size) ?:
	     load_write(to, image.initrd, spec->initrd.data,
			image.initrd ? spec->initrd.size : 0);
	if (!rc) set_entry_state(to->state, &image);
	return rc;
}
