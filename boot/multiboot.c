/*
 * Multiboot information, version 1 and 2, to struct boot_info. The loader is trusted to mean well
 * but not to be right: every structure is copied once through phys_peek() and checked in the copy,
 * every list has an end of its own, and what makes no sense is named and left out.
 */
#include "boot/multiboot.h"

#include "boot/bootinfo.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/string.h"

/* Far above what loaders produce; lists that claim to be longer are cut there. */
#define MMAP_BYTES_MAX KiB(64)
#define MB2_BYTES_MAX  MiB(1)
#define FB_BYTES_MAX   GiB(1)
#define FB_SIDE_MAX    16384u

/* Copies a structure out of physical memory. False when it is not readable. */
static bool peek_copy(void *to, hpa_t from, size_t length) {
	const void *data = phys_peek(from, length);

	if (data) memcpy(to, data, length);
	return data != NULL;
}

/*
 * Copies a string that ends at a 0 or after max bytes into to[size], always with a final 0, control
 * characters as blanks, so that it cannot steer a terminal. Returns whether it was all copied.
 */
static bool copy_string(char *to, size_t size, hpa_t from, u64 max) {
	for (u64 i = 0; i < max; i++) {
		const char *byte = phys_peek(from + i, 1);

		*to = 0;
		if (!byte || !*byte) return true;
		if (i + 1 >= size) return false;
		*to++ = (u8)*byte < ' ' || *byte == 0x7f ? ' ' : *byte;
	}
	*to = 0;
	return true;
}

static void set_cmdline(struct boot_info *out, hpa_t from, u64 max) {
	if (!copy_string(out->cmdline, sizeof(out->cmdline), from, max))
		log_warn("command line: longer than %u bytes, the rest is ignored",
			 BOOT_CMDLINE_MAX - 1);
}

static void set_loader(struct boot_info *out, hpa_t from, u64 max) {
	(void)copy_string(out->loader, sizeof(out->loader), from, max);
	out->cmdline_has_name = !strcmp(out->loader, "qemu") || !strcmp(out->loader, "Roost");
}

/* Splits a module's string in place: the name, less its directories, then the arguments. */
static void name_module(struct boot_module *module, u32 number, char *text) {
	while (*text == ' ') text++;
	const char *name = text;
	for (; *text && *text != ' '; text++)
		if (*text == '/') name = text + 1;
	if (name == text)
		snprintf(module->name, BOOT_NAME_MAX, "module%u", number);
	else if (snprintf(module->name, BOOT_NAME_MAX, "%.*s", (int)(text - name), name) >=
		 BOOT_NAME_MAX)
		log_warn("module %u: the name is cut to %u characters", number, BOOT_NAME_MAX - 1);
	while (*text == ' ') text++;
	module->args = text;
}

/* False when there is no room for it. */
static bool add_module(struct boot_info *out, hpa_t start, hpa_t end, hpa_t string, u64 max) {
	struct boot_module *module = &out->module[out->nr_modules];
	char *text = out->text + out->text_used;

	if (out->nr_modules == BOOT_MAX_MODULES) {
		log_warn("modules: only %u are supported, the module at 0x%lx is left out",
			 BOOT_MAX_MODULES, start);
		return false;
	}
	module->start = start;
	module->end = end;
	if (!copy_string(text, BOOT_TEXT_MAX - out->text_used, string, max))
		log_warn("module %u: its string is cut, there are too many", out->nr_modules);
	/* The pool's last byte stays a 0 for whoever comes when it is full. */
	out->text_used = (u32)min_u64(out->text_used + strlen(text) + 1, BOOT_TEXT_MAX - 1);
	name_module(module, out->nr_modules++, text);
	return true;
}

static void add_memory(struct boot_info *out, hpa_t base, u64 length, u32 type) {
	static const enum mem_type kinds[] = {
		[0] = MEM_RESERVED,	  [MB_MEM_USABLE] = MEM_USABLE, [2] = MEM_RESERVED,
		[MB_MEM_ACPI] = MEM_ACPI, [MB_MEM_NVS] = MEM_NVS,	[MB_MEM_BAD] = MEM_BAD,
	};

	if (memmap_add(&out->memory, base, length,
		       type < ARRAY_SIZE(kinds) ? kinds[type] : MEM_RESERVED))
		log_warn("memory map: impossible range 0x%lx + 0x%lx is not used", base, length);
}

/* For loaders that give no map: what lies below 1 MiB and what begins there, in KiB. */
static void add_basic_memory(struct boot_info *out, u32 lower, u32 upper) {
	add_memory(out, 0, KiB(min_u64(lower, 640)), MB_MEM_USABLE);
	add_memory(out, MiB(1), KiB(upper), MB_MEM_USABLE);
}

static bool fb_fits(const struct boot_fb *fb) {
	u64 line = (u64)fb->width * fb->bpp / 8;

	if (!fb->address || !fb->width || !fb->height) return false;
	if (fb->width > FB_SIDE_MAX || fb->height > FB_SIDE_MAX || fb->bpp < 8 || fb->bpp > 32)
		return false;
	return line <= fb->pitch && (u64)fb->pitch * fb->height <= FB_BYTES_MAX &&
	       range_within(fb->address, (u64)fb->pitch * fb->height, MEMMAP_LIMIT);
}

static bool rgb_fits(const u8 rgb[6], u8 bpp) {
	for (u32 i = 0; i < 6; i += 2)
		if (!rgb[i + 1] || rgb[i + 1] > 8 || rgb[i] + rgb[i + 1] > bpp) return false;
	return true;
}

static void set_fb(struct boot_info *out, const struct mb_fb *in, const u8 rgb[6]) {
	struct boot_fb fb = {FB_NONE, in->address, in->pitch, in->width, in->height, in->bpp, {0}};

	if (in->type == MB_FB_INDEXED) {
		fb.type = FB_INDEXED;
	} else if (in->type == MB_FB_TEXT) {
		/* A character and an attribute byte a cell, whatever bpp says (it is often 0). */
		fb.type = FB_TEXT;
		fb.bpp = 16;
	} else if (in->type == MB_FB_RGB && rgb_fits(rgb, in->bpp)) {
		fb.type = FB_RGB;
		memcpy(fb.rgb, rgb, sizeof(fb.rgb));
	}
	if (fb.type == FB_NONE || !fb_fits(&fb)) {
		log_warn("frame buffer: its description makes no sense, it is not used");
		return;
	}
	out->fb = fb;
}

static void mb1_modules(struct boot_info *out, u32 count, hpa_t list) {
	for (u32 i = 0; i < count; i++) {
		struct mb1_module module;

		if (!peek_copy(&module, list + i * sizeof(module), sizeof(module))) {
			log_warn("modules: the list ends in unreadable memory");
			return;
		}
		if (!add_module(out, module.start, module.end, module.string,
				module.string ? BOOT_TEXT_MAX : 0))
			return;
	}
}

static void mb1_memory(struct boot_info *out, u32 length, hpa_t list) {
	struct mb1_mmap entry;
	u64 at = 0;

	if (length > MMAP_BYTES_MAX) {
		log_warn("memory map: %u bytes long, cut to %lu", length, MMAP_BYTES_MAX);
		length = MMAP_BYTES_MAX;
	}
	while (range_within(at, sizeof(entry), length)) {
		if (!peek_copy(&entry, list + at, sizeof(entry)) ||
		    entry.size < sizeof(entry) - sizeof(entry.size)) {
			log_warn("memory map: broken at byte %lu, the rest is ignored", at);
			return;
		}
		add_memory(out, entry.base, entry.length, entry.type);
		at += entry.size + sizeof(entry.size);
	}
}

static int parse_mb1(hpa_t address, struct boot_info *out) {
	struct mb1_info info;

	memset(&info, 0, sizeof(info));
	if (!peek_copy(&info, address, MB1_INFO_MIN)) return E_FAULT;
	if (info.flags & MB1_HAS_LOADER) set_loader(out, info.loader_name, sizeof(out->loader));
	if (info.flags & MB1_HAS_CMDLINE) set_cmdline(out, info.cmdline, BOOT_CMDLINE_MAX);
	if (info.flags & MB1_HAS_MMAP) mb1_memory(out, info.mmap_length, info.mmap_addr);
	if ((info.flags & MB1_HAS_MEM) && !out->memory.count)
		add_basic_memory(out, info.mem_lower, info.mem_upper);
	if (info.flags & MB1_HAS_MODULES) mb1_modules(out, info.mods_count, info.mods_addr);
	if ((info.flags & MB1_HAS_FB) && peek_copy(&info, address, sizeof(info)))
		set_fb(out, &info.fb, info.rgb);
	return 0;
}

static void mb2_entry(struct boot_info *out, hpa_t at) {
	struct mb2_mmap_entry entry;

	if (peek_copy(&entry, at, sizeof(entry)))
		add_memory(out, entry.base, entry.length, entry.type);
}

/* What loader and boot services had is free; where the loader's own map differs, it is not used. */
static void efi_entry(struct boot_info *out, hpa_t at) {
	static const u8 types[] = {
		[EFI_LOADER_CODE] = MB_MEM_USABLE,  [EFI_LOADER_DATA] = MB_MEM_USABLE,
		[EFI_BOOT_CODE] = MB_MEM_USABLE,    [EFI_BOOT_DATA] = MB_MEM_USABLE,
		[EFI_CONVENTIONAL] = MB_MEM_USABLE, [EFI_UNUSABLE] = MB_MEM_BAD,
		[EFI_ACPI] = MB_MEM_ACPI,	    [EFI_NVS] = MB_MEM_NVS,
	};
	struct efi_descriptor entry;

	if (peek_copy(&entry, at, sizeof(entry)))
		add_memory(out, entry.base,
			   min_u64(entry.pages, MEMMAP_LIMIT / PAGE_SIZE) * PAGE_SIZE,
			   entry.type < ARRAY_SIZE(types) ? types[entry.type] : 0);
}

/* Either memory map: entries of at least `least` bytes, each for add(). */
static void mb2_memory(struct boot_info *out, hpa_t at, u32 length, size_t least,
		       void (*add)(struct boot_info *out, hpa_t at)) {
	struct mb2_mmap head;
	hpa_t end = at + length;

	if (length < sizeof(head) || !peek_copy(&head, at, sizeof(head)) ||
	    head.entry_size < least) {
		log_warn("memory map: malformed, ignored");
		return;
	}
	for (at += sizeof(head); end - at >= head.entry_size; at += head.entry_size) add(out, at);
}

static void mb2_rsdp(struct boot_info *out, hpa_t at, u32 length, u32 size) {
	/* Version 2 contains all that version 1 has. */
	if (size < out->rsdp_size) return;
	if (length < size || !peek_copy(out->rsdp, at, size))
		log_warn("ACPI: the boot loader's RSDP is too short");
	else
		out->rsdp_size = size;
}

static void mb2_screen(struct boot_info *out, hpa_t at, u32 length) {
	struct mb2_fb fb;

	memset(&fb, 0, sizeof(fb));
	if (length < sizeof(fb.fb) || !peek_copy(&fb, at, min_u64(length, sizeof(fb))))
		log_warn("frame buffer: its description is too short");
	else
		set_fb(out, &fb.fb, fb.rgb);
}

/* basic[] is the size of lower and upper memory, for want of a map. */
static void mb2_tag(struct boot_info *out, u32 basic[2], u32 type, hpa_t at, u32 length) {
	struct mb2_module module;

	switch (type) {
	case MB2_CMDLINE: set_cmdline(out, at, length); break;
	case MB2_LOADER: set_loader(out, at, length); break;
	case MB2_MODULE:
		if (length < sizeof(module) || !peek_copy(&module, at, sizeof(module)))
			log_warn("modules: a malformed one is left out");
		else
			(void)add_module(out, module.start, module.end, at + sizeof(module),
					 length - sizeof(module));
		break;
	case MB2_MEM:
		if (length >= sizeof(u32[2]) && !peek_copy(basic, at, sizeof(u32[2])))
			log_warn("memory size: unreadable");
		break;
	case MB2_MMAP: mb2_memory(out, at, length, sizeof(struct mb2_mmap_entry), mb2_entry); break;
	case MB2_FB: mb2_screen(out, at, length); break;
	case MB2_EFI_MMAP:
		out->efi = true;
		mb2_memory(out, at, length, sizeof(struct efi_descriptor), efi_entry);
		break;
	case MB2_EFI32:
	case MB2_EFI64: out->efi = true; break;
	case MB2_ACPI_OLD: mb2_rsdp(out, at, length, RSDP_V1_SIZE); break;
	case MB2_ACPI_NEW: mb2_rsdp(out, at, length, RSDP_V2_SIZE); break;
	default: /* a tag that was not asked for */ break;
	}
}

static int parse_mb2(hpa_t address, struct boot_info *out) {
	u32 basic[2] = {0, 0};
	struct mb2_info info;
	struct mb2_tag tag;
	hpa_t at;

	if (!peek_copy(&info, address, sizeof(info))) return E_FAULT;
	if (info.total_size > MB2_BYTES_MAX) {
		log_warn("boot information: %u bytes long, cut to %lu", info.total_size,
			 MB2_BYTES_MAX);
		info.total_size = MB2_BYTES_MAX;
	}
	hpa_t end = address + info.total_size;
	for (at = address + sizeof(info); at + sizeof(tag) <= end;
	     at = align_up(at + tag.size, 8)) {
		if (!peek_copy(&tag, at, sizeof(tag)) || tag.size < sizeof(tag) ||
		    tag.size > end - at) {
			log_warn("boot information: broken at byte %lu, the rest is ignored",
				 at - address);
			break;
		}
		if (tag.type == MB2_END) break;
		mb2_tag(out, basic, tag.type, at + sizeof(tag), tag.size - (u32)sizeof(tag));
	}
	if (!out->memory.count) add_basic_memory(out, basic[0], basic[1]);
	return 0;
}

static void module_fault(struct boot_module *module, enum module_fault fault, const char *why) {
	module->fault = fault;
	log_error("module %s (0x%lx to 0x%lx) %s: it is left out", module->name, module->start,
		  module->end, why);
}

static bool overlap(const struct boot_module *a, hpa_t start, hpa_t end) {
	return a->start < end && start < a->end;
}

/* Two modules that overlap are both bad: nobody knows whose bytes are there. */
static void check_modules(struct boot_info *out) {
	for (u32 i = 0; i < out->nr_modules; i++) {
		struct boot_module *module = &out->module[i];

		if (module->start >= module->end)
			module_fault(module, MODULE_EMPTY, "is empty");
		else if (!memmap_is(&out->memory, module->start, module->end - module->start,
				    MEM_USABLE))
			module_fault(module, MODULE_OUTSIDE_RAM, "is outside of RAM");
	}
	for (u32 i = 0; i < out->nr_modules; i++) {
		struct boot_module *a = &out->module[i];

		for (u32 j = 0; j < out->nr_modules; j++) {
			const struct boot_module *b = &out->module[j];

			if (i != j && a->fault == MODULE_OK && b->fault != MODULE_EMPTY &&
			    overlap(a, b->start, b->end))
				module_fault(a, MODULE_OVERLAP, "overlaps another one");
		}
	}
}

int boot_info_parse(u32 magic, hpa_t address, struct boot_info *out) {
	int error = E_FORMAT;

	memset(out, 0, sizeof(*out));
	if (magic == MB1_BOOT_MAGIC)
		error = parse_mb1(address, out);
	else if (magic == MB2_BOOT_MAGIC)
		error = parse_mb2(address, out);
	if (error) return error;
	check_modules(out);
	return memmap_total(&out->memory, MEM_USABLE) ? 0 : E_NOENT;
}

/* The highest page that is free, modules left out: it is far from the real-mode vectors. */
static hpa_t find_trampoline(const struct memmap *map) {
	hpa_t page = KiB(640);

	do page -= PAGE_SIZE;
	while (page && !memmap_is(map, page, PAGE_SIZE, MEM_USABLE));
	return page;
}

void boot_info_reserve(struct boot_info *info, hpa_t image_start, hpa_t image_end) {
	for (u32 i = 0; i < info->nr_modules; i++) {
		struct boot_module *module = &info->module[i];

		if (module->fault == MODULE_OK && overlap(module, image_start, image_end))
			module_fault(module, MODULE_OVERLAP, "overlaps Roost itself");
		/* A module that overlaps another one stays reserved too: some of it may be good. */
		if (module->fault == MODULE_OK || module->fault == MODULE_OVERLAP)
			(void)memmap_add(&info->memory, module->start, module->end - module->start,
					 MEM_MODULE);
	}
	(void)memmap_add(&info->memory, image_start, image_end - image_start, MEM_ROOST);
	(void)memmap_add(&info->memory, info->fb.address, (u64)info->fb.pitch * info->fb.height,
			 MEM_RESERVED);
	info->trampoline = find_trampoline(&info->memory);
	(void)memmap_add(&info->memory, 0, MiB(1), MEM_ROOST);
}

const struct boot_module *boot_module_find(const struct boot_info *info, const char *name) {
	for (u32 i = 0; i < info->nr_modules; i++)
		if (info->module[i].fault == MODULE_OK && !strcmp(info->module[i].name, name))
			return &info->module[i];
	return NULL;
}
