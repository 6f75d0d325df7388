/* Which VMs there are to be: roost.conf, or what is sensible without it (docs/configuration.md). */
#pragma once

#include "boot/bootinfo.h"
#include "kernel/vm.h"
#include "lib/parse.h"

#define CONFIG_FILE	   "roost.conf" /* the name of the module that holds it */
#define CONFIG_MAX_VMS	   64
#define CONFIG_MAX_MODULES 32	 /* of one VM */
#define CONFIG_TEXT_MAX	   32768 /* bytes of all strings together */
#define CONFIG_STRING_MAX  2048	 /* bytes of one string, with its final 0 */
#define CONFIG_WEIGHT	   SCHED_WEIGHT
#define CONFIG_MIN_MEMORY  MiB(2)
#define CONFIG_MAX_LEAF	   2  /* PT_LEVEL_1G */
#define CONFIG_ERRORS_MAX  32 /* so many mistakes are reported one by one */

enum config_crash { CONFIG_CRASH_STOP, CONFIG_CRASH_RESET, CONFIG_CRASH_PAUSE };

enum config_log { CONFIG_LOG_NONE, CONFIG_LOG_COM2, CONFIG_LOG_DEBUG_PORT };

struct config_module {
	const struct boot_module *module;
	const char *args; /* what follows the name; "" when nothing does */
};

struct vm_config {
	char name[VM_NAME_MAX];
	const struct boot_module *kernel; /* NULL: the demonstration guest */
	const struct boot_module *initrd; /* NULL: none */
	const char *cmdline;		  /* never NULL, without the kernel's name */
	u32 nr_modules;
	struct config_module modules[CONFIG_MAX_MODULES];
	u64 memory;  /* bytes, whole pages; 0: an equal share of what is free */
	u32 cpus;    /* 1 to VM_MAX_VCPUS; 0: as many as the host has */
	u32 weight;  /* share of a CPU that others want, too: 1 to 10000 */
	u32 cap;     /* percent of a CPU, 0: no limit */
	u32 tsc_khz; /* what the guest's TSC counts; 0: as the host's */
	u64 pin;     /* CPUs that may run it, a bit each */
	u8 boot;     /* enum load_kind */
	u8 on_crash; /* enum config_crash */
	u8 log;	     /* enum config_log: what of the VM goes to Roost's log */
	u8 max_leaf; /* level of the largest page of the nested table: PT_LEVEL_4K to _1G */
	bool lazy;   /* map memory when the guest first touches it */
	bool debug_exit;
	bool autostart;
	bool nested; /* the guest may be a hypervisor */
};

/* About 100 KiB; not to be copied by assignment, strings point into it. */
struct config {
	u32 nr_vms;
	struct vm_config vm[CONFIG_MAX_VMS];
	u32 mistakes; /* found so far */
	char first_mistake[224];
	u32 text_used;
	char text[CONFIG_TEXT_MAX];
};

/*
 * Reads a configuration into *out, whose former content is lost. Modules are looked up among those
 * of *boot, which has to stay. A mistake is logged and costs its line only; a VM whose kernel,
 * initrd or modules are missing is left out. Returns the number of mistakes.
 */
u32 config_parse(const char *file, struct text text, const struct boot_info *boot,
		 struct config *out);

/*
 * One VM from words key=value, as lines of a section have them; what contains blanks is in quotes.
 * With `from`, one that may run, a copy with those keys changed that can be. Mistakes are not
 * logged: out->first_mistake has one. Returns their number; with none there is out->vm[0].
 */
u32 config_parse_words(struct text name, struct text words, const struct vm_config *from,
		       const struct boot_info *boot, struct config *out);

/*
 * The configuration without roost.conf: a VM "vm0" with all CPUs and most of the memory, of the
 * first usable module as kernel and the second as initrd. Further modules are reported. Without
 * modules it is the demonstration guest.
 */
void config_default(const struct boot_info *boot, struct config *out);

/*
 * Gives each VM without a size an equal share of `free` bytes, less what the other VMs are to get
 * and what Roost keeps for page tables and devices; in whole 2 MiB, 0 when nothing is left.
 */
void config_share_memory(struct config *config, u64 free);
