/*
 * Linux x86 boot protocol, 2.12 and later, 64-bit entry (Linux: Documentation/x86/boot.rst).
 *
 * A bzImage is a sector of setup header, some sectors of real-mode code that is not used here, and
 * the protected-mode part, which is loaded in one piece and entered 0x200 bytes from its start.
 * What the kernel needs to be told lies in low memory:
 *
 *   0x0500  GDT with the two segments that the protocol names
 *   0x7000  boot_params ("zero page")
 *   0x9000  page tables: 4 GiB mapped one to one with 2 MiB pages, so that any CPU can use them
 *   0x20000 command line
 */
#include "platform/load.h"

#include "lib/error.h"
#include "lib/string.h"
#include "lib/x86.h"
#include "platform/layout.h"

#define GDT_ADDRESS	    0x500ul
#define PARAMS_ADDRESS	    0x7000ul
#define TABLES_ADDRESS	    0x9000ul
#define CMDLINE_ADDRESS	    0x20000ul

#define SECTOR		    512u
#define HEADER_MAGIC	    0x53726448u /* "HdrS" */
#define PROTOCOL_2_12	    0x020cu
#define BOOT_FLAG	    0xaa55u
#define LOADFLAGS_HIGH	    0x01u
#define XLF_KERNEL_64	    0x0001u
#define ENTRY_64	    0x200u
#define LOADER_UNDEFINED    0xffu
#define DEFAULT_SETUP_SECTS 4u

#define TABLE_ENTRIES	    512u
#define MAPPED_GIB	    4u
#define PTE_TABLE	    (X86_PTE_P | X86_PTE_W)

/* The setup header as it lies at 0x1f1 of the file and of boot_params. */
struct setup_header {
	u8 setup_sects;
	u16 root_flags;
	u32 syssize; /* protected-mode part, in units of 16 bytes */
	u16 ram_size, vid_mode, root_dev, boot_flag;
	u8 jump, jump_length; /* the header ends where this jump goes */
	u32 magic;
	u16 version;
	u32 realmode_switch;
	u16 start_sys_seg, kernel_version;
	u8 type_of_loader, loadflags;
	u16 setup_move_size;
	u32 code32_start, ramdisk_image, ramdisk_size, bootsect_kludge;
	u16 heap_end_ptr;
	u8 ext_loader_ver, ext_loader_type;
	u32 cmd_line_ptr, initrd_addr_max, kernel_alignment;
	u8 relocatable_kernel, min_alignment;
	u16 xloadflags;
	u32 cmdline_size, hardware_subarch;
	u64 hardware_subarch_data;
	u32 payload_offset, payload_length;
	u64 setup_data, pref_address;
	u32 init_size, handover_offset, kernel_info_offset;
} __packed;

#define HEADER_OFFSET 0x1f1u
#define HEADER_JUMP   0x202u /* where the jump counts from */

_Static_assert(HEADER_OFFSET + offsetof(struct setup_header, jump) == 0x200, "setup header");
_Static_assert(HEADER_OFFSET + offsetof(struct setup_header, cmd_line_ptr) == 0x228, "header");
_Static_assert(HEADER_OFFSET + offsetof(struct setup_header, xloadflags) == 0x236, "setup header");
_Static_assert(HEADER_OFFSET + offsetof(struct setup_header, pref_address) == 0x258, "header");
_Static_assert(HEADER_OFFSET + sizeof(struct setup_header) == 0x26c, "setup header");

struct e820_entry {
	u64 base, size;
	u32 type;
} __packed;

struct boot_params {
	u8 unused0[0x070];
	u64 acpi_rsdp_addr;
	u8 unused1[0x1e8 - 0x078];
	u8 e820_entries;
	u8 unused2[HEADER_OFFSET - 0x1e9];
	struct setup_header header;
	u8 unused3[0x2d0 - 0x26c];
	struct e820_entry e820[128];
	u8 unused4[PAGE_SIZE - 0xcd0];
} __packed;

_Static_assert(sizeof(struct boot_params) == PAGE_SIZE, "boot_params");
_Static_assert(offsetof(struct boot_params, e820) == 0x2d0, "boot_params");

/* What the checked header says, and where things go. */
struct linux_image {
	struct setup_header header;
	u32 header_size;    /* bytes of the header that this kernel has */
	u64 payload_offset; /* protected-mode part in the file */
	u64 payload_size;
	gpa_t load;	/* where it goes */
	gpa_t load_end; /* end of what the kernel uses until it reads the memory map */
	gpa_t initrd;	/* 0: none */
};

/* The tables are built here page by page; loads come one at a time. */
static union {
	struct boot_params params;
	u64 table[TABLE_ENTRIES];
} scratch;

bool linux_detect(const struct blob *kernel) {
	const size_t marks = offsetof(struct setup_header, version);
	struct setup_header header;

	if (kernel->size < HEADER_OFFSET + marks)
		return false;
	memcpy(&header, kernel->data + HEADER_OFFSET, marks);
	return header.boot_flag == BOOT_FLAG && header.magic == HEADER_MAGIC;
}

/* Copies the header once, no further than it says it goes. */
static int read_header(const struct load_target *to, struct linux_image *image) {
	const struct blob *kernel = &to->spec->kernel;
	u64 end;

	if (kernel->size < HEADER_JUMP + 4)
		return load_fail(to, E_TRUNC, "%lu bytes long, too short for a Linux setup header",
				 kernel->size);
	if (!linux_detect(kernel))
		return load_fail(to, E_FORMAT, "no Linux setup header (HdrS)");
	end = HEADER_JUMP + kernel->data[HEADER_JUMP - 1];
	if (kernel->size < end)
		return load_fail(to, E_TRUNC, "%lu bytes long, but its setup header takes %lu",
				 kernel->size, end);
	image->header_size = (u32)min_u64(end - HEADER_OFFSET, sizeof(image->header));
	memcpy(&image->header, kernel->data + HEADER_OFFSET, image->header_size);
	return 0;
}

static int check_header(const struct load_target *to, const struct linux_image *image) {
	const struct setup_header *header = &image->header;

	if (header->version < PROTOCOL_2_12)
		return load_fail(to, E_NOSUPP, "boot protocol %u.%02u, at least 2.12 is needed",
				 header->version >> 8, header->version & 0xffu);
	if (image->header_size < offsetof(struct setup_header, handover_offset))
		return load_fail(to, E_FORMAT,
				 "setup header of %u bytes, too short for its version",
				 image->header_size);
	if (!(header->loadflags & LOADFLAGS_HIGH))
		return load_fail(to, E_NOSUPP, "a zImage for low memory, a bzImage is needed");
	if (!(header->xloadflags & XLF_KERNEL_64))
		return load_fail(to, E_NOSUPP, "no 64-bit entry point, a 64-bit kernel is needed");
	return 0;
}

/* Where the protected-mode part lies in the file, and that it is all there. */
static int find_payload(const struct load_target *to, struct linux_image *image) {
	u64 sectors = image->header.setup_sects ? image->header.setup_sects : DEFAULT_SETUP_SECTS;
	u64 end;

	image->payload_offset = (sectors + 1) * SECTOR;
	image->payload_size = (u64)image->header.syssize * 16;
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
	const struct setup_header *header = &image->header;
	u64 align = header->kernel_alignment, load = header->pref_address;

	if (load < LAYOUT_HIGH_LOAD || load >= LAYOUT_PCI_HOLE || load % PAGE_SIZE)
		return load_fail(to, E_FORMAT, "cannot be loaded at its preferred address %#lx",
				 load);
	if (header->relocatable_kernel) {
		if (!align || align & (align - 1) || align > GiB(1))
			return load_fail(to, E_FORMAT, "alignment %#lx is no power of 2", align);
		load = align_up(load, align);
	}
	image->load = load;
	image->load_end =
		align_up(load + max_u64(header->init_size, image->payload_size), PAGE_SIZE);
	if (image->load_end > to->low_end)
		return load_fail(to, E_NOMEM,
				 "does not fit: needs memory up to %lu KiB, %lu KiB are missing",
				 image->load_end >> 10, load_kib(image->load_end - to->low_end));
	return 0;
}

/* As high as the header allows, so that the kernel can unpack below it. */
static int place_initrd(const struct load_target *to, struct linux_image *image) {
	const struct blob *initrd = &to->spec->initrd;
	u64 limit = min_u64(to->low_end, (u64)image->header.initrd_addr_max + 1);
	u64 top = align_down(limit, PAGE_SIZE);

	if (!initrd->data || !initrd->size)
		return 0;
	image->initrd = align_down(top - initrd->size, PAGE_SIZE);
	return load_check_room(to, "initrd", initrd,
			       top > image->load_end ? top - image->load_end : 0);
}

static int write_cmdline(const struct load_target *to, const struct linux_image *image) {
	const char *cmdline = to->spec->cmdline ? to->spec->cmdline : "";
	u64 length = strnlen(cmdline, LOAD_MAX_STRING);
	/* cmdline_size does not count the final 0. */
	u64 most = min_u64(image->header.cmdline_size, LOAD_MAX_STRING - 1);

	if (length > most)
		return load_fail(to, E_RANGE,
				 "command line of %lu characters%s, it takes at most %lu", length,
				 length == LOAD_MAX_STRING ? " or more" : "", most);
	return load_write(to, CMDLINE_ADDRESS, cmdline, length + 1);
}

/* Everything that is not set here stays 0, which says "not there" (Linux: zero-page.rst). */
static int write_params(const struct load_target *to, const struct linux_image *image) {
	struct boot_params *params = &scratch.params;
	struct setup_header *header = &params->header;
	struct guest_range map[LAYOUT_MAX_MAP];
	u32 count = layout_map(to->memory, map);

	memset(params, 0, sizeof(*params));
	memcpy(header, &image->header, image->header_size);
	header->type_of_loader = LOADER_UNDEFINED;
	header->cmd_line_ptr = CMDLINE_ADDRESS;
	header->ramdisk_image = (u32)image->initrd;
	header->ramdisk_size = image->initrd ? (u32)to->spec->initrd.size : 0;
	header->code32_start = (u32)image->load;
	header->setup_data = 0;
	params->acpi_rsdp_addr = LAYOUT_ACPI;
	params->e820_entries = (u8)count;
	for (u32 i = 0; i < count; i++)
		params->e820[i] = (struct e820_entry){map[i].base, map[i].size, map[i].type};
	return load_write(to, PARAMS_ADDRESS, params, sizeof(*params));
}

/* A page table whose first entries count up from `first` in this step; the others are empty. */
static int write_table(const struct load_target *to, gpa_t table, u32 count, u64 first, u64 step) {
	memset(scratch.table, 0, PAGE_SIZE);
	for (u32 i = 0; i < count; i++)
		scratch.table[i] = first + i * step;
	return load_write(to, table, scratch.table, PAGE_SIZE);
}

/* One PML4, one PDPT, a page directory for each GiB. */
static int write_page_tables(const struct load_target *to) {
	const gpa_t pdpt = TABLES_ADDRESS + PAGE_SIZE, first_pd = pdpt + PAGE_SIZE;
	int rc = write_table(to, TABLES_ADDRESS, 1, pdpt | PTE_TABLE, 0)
			 ?: write_table(to, pdpt, MAPPED_GIB, first_pd | PTE_TABLE, PAGE_SIZE);

	for (u64 gib = 0; !rc && gib < MAPPED_GIB; gib++)
		rc = write_table(to, first_pd + gib * PAGE_SIZE, TABLE_ENTRIES,
				 GiB(gib) | PTE_TABLE | X86_PTE_PS, MiB(2));
	return rc;
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
	int rc;

	if (spec->nr_modules)
		return load_fail(to, E_RANGE, "Linux takes an initrd, but no modules");
	rc = read_header(to, &image) ?: check_header(to, &image) ?:
	     find_payload(to, &image) ?: place_kernel(to, &image) ?: place_initrd(to, &image) ?:
	     load_flat_state(to, GDT_ADDRESS, LOAD_CODE_64) ?: write_page_tables(to) ?:
	     write_cmdline(to, &image) ?: write_params(to, &image) ?:
	     load_write(to, image.load, spec->kernel.data + image.payload_offset,
			image.payload_size) ?:
	     load_write(to, image.initrd, spec->initrd.data,
			image.initrd ? spec->initrd.size : 0);
	if (!rc)
		set_entry_state(to->state, &image);
	return rc;
}
