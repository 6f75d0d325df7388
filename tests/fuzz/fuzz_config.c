// sources: kernel/config.c kernel/cmdline.c lib/parse.c
/*
 * roost.conf, and the same bytes as Roost's command line. What comes out must be what the headers
 * say.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -DUNIT_TEST -I. tests/fuzz/fuzz_config.c
 * <sources>
 */
#include <stdlib.h>
#include <string.h>

#include "boot/bootinfo.h"
#include "kernel/cmdline.h"
#include "kernel/config.h"
#include "kernel/cpu.h"
#include "lib/log.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static struct boot_info boot = {
	.nr_modules = 3,
	.module =
		{
			{.name = "k", .args = "quiet"},
			{.name = "initrd", .args = ""},
			{.name = "torn", .args = "", .fault = MODULE_OVERLAP},
		},
};
static struct config config;
u32 nr_cpus = 8;

void log_msg(enum log_level level, const char *fmt, ...) {
	(void)level;
	(void)fmt;
}

static void require(bool condition) {
	if (!condition) abort();
}

static void check_string(const char *string) {
	if (string >= config.text && string < config.text + CONFIG_TEXT_MAX)
		require(memchr(string, 0, (size_t)(config.text + CONFIG_TEXT_MAX - string)));
	else
		require(string == boot.module[0].args || string == boot.module[1].args);
}

static void check_vm(const struct vm_config *vm) {
	require(vm->name[0] && memchr(vm->name, 0, sizeof(vm->name)));
	require(vm->kernel == &boot.module[0] || vm->kernel == &boot.module[1]);
	require(!vm->initrd || vm->initrd->fault == MODULE_OK);
	check_string(vm->cmdline);
	require(vm->nr_modules <= CONFIG_MAX_MODULES);
	for (u32 i = 0; i < vm->nr_modules; i++) {
		require(vm->modules[i].module->fault == MODULE_OK);
		check_string(vm->modules[i].args);
	}
	require(!vm->memory || vm->memory >= CONFIG_MIN_MEMORY);
	require(vm->memory % PAGE_SIZE == 0 && vm->memory <= MEMMAP_LIMIT);
	require(vm->cpus >= 1 && vm->cpus <= VM_MAX_VCPUS);
	require(vm->max_leaf <= CONFIG_MAX_LEAF);
}

static void check_options(const u8 *data, size_t size) {
	size_t length = min_u64(size, sizeof(boot.cmdline) - 1);
	struct options options;

	memcpy(boot.cmdline, data, length);
	boot.cmdline[length] = 0;
	options_parse(&boot, &options);
	require(options.max_cpus >= 1 && options.max_cpus <= OPTIONS_MAX_CPUS);
	require(options.log_level <= LOG_DEBUG && options.on_idle <= IDLE_REBOOT);
	require(options.console_port <= 0x10000 - 8);
	require(!options.console_baud || 115200 % options.console_baud == 0);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
	config_parse("roost.conf", (struct text){(const char *)data, size}, &boot, &config);
	require(config.nr_vms <= CONFIG_MAX_VMS && config.text_used <= CONFIG_TEXT_MAX);
	for (u32 i = 0; i < config.nr_vms; i++) {
		check_vm(&config.vm[i]);
		for (u32 j = 0; j < i; j++)
			require(strcmp(config.vm[i].name, config.vm[j].name) != 0);
	}
	config_share_memory(&config, size * MiB(1));
	check_options(data, size);
	return 0;
}
