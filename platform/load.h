/*
 * Loaders: they put an image and what belongs to it into guest memory, and say in which state vCPU
 * 0 begins. An image is hostile: every length and offset in it is checked against the bytes that
 * are there, and each mistake becomes one sentence for the user.
 */
#pragma once

#include "kernel/vcpu.h"
#include "lib/string.h"

struct vm;

/* Bytes of a boot module in the direct map. data is NULL when there is no such module. */
struct blob {
	const u8 *data;
	u64 size;
	const char *name; /* for messages and for the guest; not NULL when data is not */
};

struct load_module {
	struct blob blob;
	const char *args; /* what the guest's module string says after the name; NULL: nothing */
};

#define LOAD_MAX_MODULES 32
#define LOAD_MAX_STRING	 4096 /* bytes of a command line or module string, with the final 0 */

enum load_kind { LOAD_AUTO, LOAD_LINUX, LOAD_MULTIBOOT };

struct load_spec {
	enum load_kind kind; /* LOAD_AUTO: by what the kernel's bytes say */
	struct blob kernel;
	struct blob initrd;  /* multiboot: the first module, before `modules` */
	const char *cmdline; /* without the kernel's name; NULL: empty */
	const struct load_module *modules;
	u32 nr_modules; /* at most LOAD_MAX_MODULES; Linux takes none */
	bool check;	/* write nothing: only find out whether it can be loaded */
};

struct load_error {
	char text[160]; /* one sentence without a newline; "" when there was no error */
};

/* The state in which a vCPU begins, without an IDT. CR2, debug registers and MSRs: as reset. */
struct boot_state {
	u64 gpr[NR_GPRS];
	u64 rip, rflags;
	struct segment seg[NR_SEGS];
	u64 cr0, cr3, cr4, efer;
	u64 gdt_base;
	u32 gdt_limit;
};

/*
 * Loads a guest into vm->gmem, whose RAM must be as layout_ram(memory, ...) says and may hold
 * anything: ACPI tables, the BIOS data area, the image, its modules. One CPU at a time. 0 and the
 * state of vCPU 0; or, with a sentence in err, E_FORMAT (not an image that can be started, or a
 * corrupt one), E_TRUNC (shorter than it says), E_NOMEM (does not fit), E_NOSUPP (a kind of image
 * that Roost does not start), E_RANGE (addresses outside of RAM, modules for Linux, long strings),
 * E_EXIST (parts overlap).
 */
int load_guest(struct vm *vm, u64 memory, const struct load_spec *spec, struct boot_state *state,
	       struct load_error *err) __must_check;

/* Puts the state into a vCPU that has not run since it was created or reset. */
void boot_state_apply(struct vcpu *vcpu, const struct boot_state *state);

/* ---- for the loaders ---- */

/* Where a loader works: one load_guest() call. */
struct load_target {
	struct vm *vm;
	u64 memory;    /* bytes */
	gpa_t low_end; /* end of the RAM below the PCI hole */
	const struct load_spec *spec;
	struct boot_state *state;
	struct load_error *err;
};

/* Writes "kernel 'NAME': " and the sentence; returns `error`: a check is `return load_fail(...)`.
 */
int load_fail(const struct load_target *to, int error, const char *fmt, ...) __format_printf(3, 4);

/* 0 when the blob fits into `room` bytes; `what` is its part for the message: "initrd". */
int load_check_room(const struct load_target *to, const char *what, const struct blob *blob,
		    u64 room) __must_check;

/*
 * acpi_tables.c: fills the tables for LAYOUT_ACPI (ACPI 5.1, chapter 5), for that many vCPUs; the
 * DSDT belongs right behind them. Their size. *out stays until the next call.
 */
u32 acpi_tables_build(u32 nr_vcpus, const void **out);

/* Writes guest memory; from NULL: zeros. */
int load_write(const struct load_target *to, gpa_t gpa, const void *from, u64 size) __must_check;

#define LOAD_CS	      0x10
#define LOAD_DS	      0x18
#define LOAD_GDT_SIZE 32 /* bytes */
#define LOAD_CODE_32  0x00cf9b000000ffff
#define LOAD_CODE_64  0x00af9b000000ffff

/*
 * What every boot protocol begins from: protected mode without paging, flat segments, valid TR and
 * LDTR, interrupts off. Writes the GDT, whose code segment is the descriptor `code`.
 */
int load_flat_state(const struct load_target *to, gpa_t gdt, u64 code) __must_check;

/* A little-endian field of 1 to 8 bytes. */
static inline u64 load_field(const u8 *at, u32 size) {
	u64 value = 0;

	memcpy(&value, at, size);
	return value;
}

/* Bytes as whole KiB, for messages. */
static inline u64 load_kib(u64 bytes) { return (bytes >> 10) + (bytes % 1024 != 0); }

/* detect: whether the bytes have the mark of such an image. load: 0 or an error of load_guest(). */
bool linux_detect(const struct blob *kernel);
int linux_load(const struct load_target *to) __must_check;
bool multiboot_detect(const struct blob *kernel);
int multiboot_load(const struct load_target *to) __must_check;
