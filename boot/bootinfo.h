/* What boot loader and firmware said: all of it a copy, but for physical addresses. */
#pragma once

#include "boot/memmap.h"

#define BOOT_MAX_MODULES 64
#define BOOT_NAME_MAX	 32    /* a module's name with its final 0 */
#define BOOT_CMDLINE_MAX 1024  /* Roost's command line with its final 0 */
#define BOOT_TEXT_MAX	 16384 /* the strings of all modules together */

/* Why a module cannot be used; its bytes are not to be touched then. */
enum module_fault {
	MODULE_OK,
	MODULE_EMPTY,	    /* ends where it begins, or before */
	MODULE_OUTSIDE_RAM, /* not wholly in what the memory map calls usable */
	MODULE_OVERLAP,	    /* shares bytes with another module, or with Roost itself */
};

struct boot_module {
	hpa_t start, end; /* end is exclusive */
	enum module_fault fault;
	char name[BOOT_NAME_MAX]; /* first word of the string, without directories; never empty */
	const char *args; /* the rest of the string, in boot_info.text; "" when there is none */
};

enum boot_fb_type { FB_NONE, FB_INDEXED, FB_RGB, FB_TEXT };

/* A linear frame buffer or a text screen, checked: a line fits in pitch, the whole in 1 GiB. */
struct boot_fb {
	enum boot_fb_type type;
	hpa_t address;
	u32 pitch;	   /* bytes a line */
	u32 width, height; /* pixels, or characters for FB_TEXT */
	u8 bpp;		   /* bits a pixel; 16 for FB_TEXT */
	u8 rgb[6];	   /* FB_RGB: lowest bit and number of bits of red, green, blue */
};

#define RSDP_V1_SIZE 20
#define RSDP_V2_SIZE 36

/* Not to be copied by assignment: module[].args point into text. */
struct boot_info {
	struct memmap memory;
	hpa_t trampoline; /* a free page below 640 KiB for the other processors' start; 0: none */
	u32 nr_modules;
	struct boot_module module[BOOT_MAX_MODULES];
	char cmdline[BOOT_CMDLINE_MAX];
	bool cmdline_has_name; /* word 0 of cmdline is the name of Roost's file (of QEMU and Roost)
				*/
	char loader[64];       /* "GRUB 2.06-13", "qemu", ... or "" */
	u32 rsdp_size;	       /* 0: to be searched for; else RSDP_V1_SIZE or RSDP_V2_SIZE */
	u8 rsdp[RSDP_V2_SIZE]; /* the loader's copy, not yet checked */
	struct boot_fb fb;
	bool efi; /* started by UEFI firmware: no BIOS areas to look into */
	u32 text_used;
	char text[BOOT_TEXT_MAX];
};

/* Readable memory, or NULL: the only way to what firmware and boot loader have left. */
const void *phys_peek(hpa_t address, size_t length);

/*
 * Reads the information of either multiboot version; magic and address are what the loader left in
 * EAX and EBX. 0; E_FORMAT for an unknown magic; E_FAULT when it cannot be read; E_NOENT without
 * usable memory. *out is defined in every case.
 */
int boot_info_parse(u32 magic, hpa_t address, struct boot_info *out) __must_check;

/*
 * Carves the first MiB, Roost's image, every module and the frame buffer out of the usable memory,
 * chooses the trampoline's page, and marks modules that overlap the image. To be called once.
 */
void boot_info_reserve(struct boot_info *info, hpa_t image_start, hpa_t image_end);

/* The usable module of this name (the first one), or NULL. */
const struct boot_module *boot_module_find(const struct boot_info *info, const char *name);
