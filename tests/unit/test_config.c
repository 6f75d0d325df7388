// sources: kernel/config.c lib/parse.c
/* roost.conf: what it can say, every kind of mistake in it, and what holds without it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "boot/bootinfo.h"
#include "kernel/config.h"
#include "lib/log.h"
#include "lib/types.h"
#include "platform/load.h"

static struct boot_info boot;
u32 nr_cpus = 8;
static struct config config;
static char reports[16384];

void log_msg(enum log_level level, const char *fmt, ...) {
	size_t used = strlen(reports);
	va_list args;

	assert_int_equal(level, LOG_WARN);
	va_start(args, fmt);
	used += (size_t)vsnprintf(reports + used, sizeof(reports) - used, fmt, args);
	va_end(args);
	assert_true(used + 1 < sizeof(reports));
	strcpy(reports + used, "\n");
}

static void add_module(const char *name, const char *args) {
	struct boot_module *module = &boot.module[boot.nr_modules++];

	strcpy(module->name, name);
	module->args = args;
	module->start = MiB(16) * boot.nr_modules;
	module->end = module->start + KiB(100);
}

static int setup(void **state) {
	(void)state;
	memset(&boot, 0, sizeof(boot));
	memset(&config, 0xcc, sizeof(config));
	reports[0] = 0;
	add_module("vmlinuz", "console=ttyS0 panic=-1");
	add_module("initrd", "");
	add_module("tool.elf", "");
	add_module("torn", "");
	boot.module[3].fault = MODULE_OVERLAP;
	return 0;
}

/* Parses a copy that ends where its bytes end, so that the sanitizer sees each read beyond. */
static u32 parse_bytes(const char *bytes, size_t length) {
	char *copy = malloc(length ? length : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, length);
	reports[0] = 0;
	u32 mistakes = config_parse("roost.conf", (struct text){copy, length}, &boot, &config);
	assert_int_equal(mistakes, config.mistakes);
	free(copy);
	return mistakes;
}

static u32 parse(const char *text) { return parse_bytes(text, strlen(text)); }

static void assert_reported(const char *text) {
	if (!strstr(reports, text)) fail_msg("\"%s\" is not in \"%s\"", text, reports);
}

/* ---- what is right ---- */

static void test_all_keys(void **state) {
	static const char text[] = "# a comment\n"
				   "[vm debian]\n"
				   "kernel = vmlinuz\n"
				   "initrd=initrd\n"
				   "  cmdline = root=/dev/vda quiet   ; a comment\n"
				   "memory = 512M\n"
				   "cpus = 4\n"
				   "boot = linux\n"
				   "page-size = 2M\n"
				   "populate = lazy\n"
				   "debug-exit = yes\n"
				   "log = debug-port\n"
				   "autostart = no\n"
				   "nested = off\n"
				   "on-crash = pause\n"
				   "weight = 10000\n"
				   "cap = 6400\n"
				   "pin = 0, 2-5 ,63\n"
				   "\n"
				   "[ vm  test-2_x.y ]\r\n"
				   "kernel = \"tool.elf\"\r\n"
				   "modules = initrd, tool.elf a b\r\n"
				   "memory = 0x4000000\r\n"
				   "boot = multiboot";
	const struct vm_config *vm = config.vm;

	(void)state;
	if (parse(text)) fail_msg("%s", reports);
	assert_int_equal(config.nr_vms, 2);
	assert_string_equal(vm->name, "debian");
	assert_ptr_equal(vm->kernel, &boot.module[0]);
	assert_ptr_equal(vm->initrd, &boot.module[1]);
	assert_string_equal(vm->cmdline, "root=/dev/vda quiet");
	assert_int_equal(vm->memory, MiB(512));
	assert_int_equal(vm->cpus, 4);
	assert_int_equal(vm->boot, LOAD_LINUX);
	assert_int_equal(vm->max_leaf, 1);
	assert_true(vm->lazy);
	assert_true(vm->debug_exit);
	assert_int_equal(vm->log, CONFIG_LOG_DEBUG_PORT);
	assert_false(vm->autostart);
	assert_false(vm->nested);
	assert_int_equal(vm->on_crash, CONFIG_CRASH_PAUSE);
	assert_int_equal(vm->weight, 10000);
	assert_int_equal(vm->cap, 6400);
	assert_int_equal(vm->pin, 0x800000000000003d);
	assert_int_equal(vm->nr_modules, 0);
	vm++;
	assert_string_equal(vm->name, "test-2_x.y");
	assert_ptr_equal(vm->kernel, &boot.module[2]);
	assert_null(vm->initrd);
	assert_string_equal(vm->cmdline, "");
	assert_int_equal(vm->memory, MiB(64));
	assert_int_equal(vm->boot, LOAD_MULTIBOOT);
	assert_int_equal(vm->nr_modules, 2);
	assert_ptr_equal(vm->modules[0].module, &boot.module[1]);
	assert_string_equal(vm->modules[0].args, "");
	assert_ptr_equal(vm->modules[1].module, &boot.module[2]);
	assert_string_equal(vm->modules[1].args, "a b");
}

static void test_defaults_of_a_vm(void **state) {
	const struct vm_config *vm = config.vm;

	(void)state;
	assert_int_equal(parse("[vm a]\nkernel=vmlinuz\n"), 0);
	assert_int_equal(config.nr_vms, 1);
	/* The command line of the boot loader's module line. */
	assert_string_equal(vm->cmdline, "console=ttyS0 panic=-1");
	assert_null(vm->initrd);
	assert_int_equal(vm->memory, 0);
	assert_int_equal(vm->cpus, 1);
	assert_int_equal(vm->boot, LOAD_AUTO);
	assert_int_equal(vm->max_leaf, 2);
	assert_false(vm->lazy);
	assert_false(vm->debug_exit);
	assert_true(vm->autostart);
	assert_int_equal(vm->weight, 100);
	assert_int_equal(vm->cap, 0);
	assert_int_equal(vm->pin, ~0ul);
	assert_true(vm->nested);
	/* An empty one is empty. */
	assert_int_equal(parse("[vm a]\nkernel=vmlinuz\ncmdline=\n"), 0);
	assert_string_equal(vm->cmdline, "");
	assert_int_equal(parse("[vm a]\nkernel=vmlinuz\ncmdline=\"\"\n"), 0);
	assert_string_equal(vm->cmdline, "");
}

static void test_empty_files(void **state) {
	static const char *const texts[] = {
		"",	 "\n", "\n\n\n", "# nothing\n;\n#", "\xef\xbb\xbf", "\xef\xbb\xbf# mark\n",
		"  \t ",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		assert_int_equal(parse(texts[i]), 0);
		assert_int_equal(config.nr_vms, 0);
	}
}

static void test_quotes_and_comments(void **state) {
	static const struct {
		const char *value, *result;
	} good[] = {
		{"a b", "a b"},
		{"a#b;c", "a#b;c"},
		{"a #b", "a"},
		{"a\t;b", "a"},
		{"# all", ""},
		{"\"a # b ; c\"", "a # b ; c"},
		{"\"  a  \"", "  a  "},
		{"\"a\" # b", "a"},
		{"\"say \\\"hi\\\" \\\\ \\n\" ; x", "say \"hi\" \\ \\n"},
		{"dyndbg=\"file a.c +p # x\" y # z", "dyndbg=\"file a.c +p # x\" y"},
		{"a\\b", "a\\b"},
		{"x=1 y=2", "x=1 y=2"},
		{"it's", "it's"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		char text[128];

		snprintf(text, sizeof(text), "[vm a]\nkernel=vmlinuz\ncmdline = %s\n",
			 good[i].value);
		if (parse(text)) fail_msg("%s: %s", good[i].value, reports);
		assert_string_equal(config.vm[0].cmdline, good[i].result);
	}
}

static void test_module_lists(void **state) {
	const struct vm_config *vm = config.vm;

	(void)state;
	assert_int_equal(parse("[vm a]\nkernel=vmlinuz\n"
			       "modules = \"initrd x, y\" , tool.elf \"p,q\",initrd # end\n"),
			 0);
	assert_int_equal(vm->nr_modules, 3);
	assert_string_equal(vm->modules[0].args, "x, y");
	assert_string_equal(vm->modules[1].args, "\"p,q\"");
	assert_string_equal(vm->modules[2].args, "");
}

static void test_sizes(void **state) {
	static const struct {
		const char *text;
		u64 size;
	} good[] = {
		{"2M", MiB(2)},	   {"2048K", MiB(2)},	{"3g", GiB(3)},
		{"1T", GiB(1024)}, {"4194304", MiB(4)}, {"\"64M\"", MiB(64)},
	};
	static const char *const bad[] = {
		"",	 "M",	   "512",     "1M",	"-1",
		"2.5G",	 "2 G",	   "2MB",     "8193K1", "99999999999999999999",
		"5000T", "2049K1", "2097153", "lots",
	};
	char text[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		snprintf(text, sizeof(text), "[vm a]\nkernel=vmlinuz\nmemory=%s", good[i].text);
		assert_int_equal(parse(text), 0);
		assert_int_equal(config.vm[0].memory, good[i].size);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "[vm a]\nmemory=%s\nkernel=vmlinuz\n", bad[i]);
		assert_int_equal(parse(text), 1);
		assert_reported("roost.conf:2: vm a: memory cannot be");
		assert_reported("expected a size");
		assert_int_equal(config.nr_vms, 1);
		assert_int_equal(config.vm[0].memory, 0);
	}
}

/* ---- mistakes ---- */

static void test_bad_values_cost_their_line_only(void **state) {
	static const struct {
		const char *line, *report;
	} bad[] = {
		{"cpus = 0", "cpus cannot be 0; expected a number from 1 to 64"},
		{"cpus = 65", "from 1 to 64"},
		{"cpus = all", "from 1 to 64"},
		{"cpus =", "from 1 to 64"},
		{"boot = efi", "expected auto, linux or multiboot"},
		{"page-size = 4M", "expected 4K, 2M or 1G"},
		{"populate = yes", "expected eager or lazy"},
		{"debug-exit = 1", "debug-exit cannot be 1; expected yes or no"},
		{"log = com1", "log cannot be com1; expected none, com2 or debug-port"},
		{"autostart = YES", "expected yes or no"},
		{"nested = yes", "expected on or off"},
		{"on-crash = halt", "expected stop, reset or pause"},
		{"weight = 0", "weight cannot be 0; expected a number from 1 to 10000"},
		{"weight = 10001", "from 1 to 10000"},
		{"cap = 6401", "expected a number of percent from 0 to 6400"},
		{"cap = 50%", "cap cannot be 50%"},
		{"pin =", "pin cannot be ; expected CPUs of this machine, such as 0,2-5"},
		{"pin = 64", "expected CPUs"},
		{"pin = 8-63", "expected CPUs of this machine"},
		{"pin = 3-1", "expected CPUs"},
		{"pin = 1-", "expected CPUs"},
		{"pin = 1,,2", "expected CPUs"},
		{"pin = all", "expected CPUs"},
		{"memroy = 1G", "unknown key memroy; expected kernel, initrd, cmdline, modules, "
				"memory, cpus, boot, page-size, populate, debug-exit, log, "
				"autostart, nested, on-crash, weight, cap, tsc-khz, pin"},
		{"Cpus = 2", "unknown key Cpus"},
		{"= 2", "unknown key ;"},
		{"nonsense", "nonsense is no setting; expected key = value"},
		{"cmdline = \"a", "expected a closing quote"},
		{"cmdline = \"a\\\"", "expected a closing quote"},
		{"cmdline = \"", "expected a closing quote"},
		{"cmdline = \"a\" b", "text follows the closing quote"},
		{"cmdline = a\x01z", "control characters"},
		{"\x7f"
		 "ELF",
		 "control characters"},
	};
	char text[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text),
			 "[vm a]\nmemory = 8M\n%s\nkernel = vmlinuz\n[vm b]\nkernel = tool.elf\n",
			 bad[i].line);
		assert_int_equal(parse(text), 1);
		assert_reported("roost.conf:3: ");
		assert_reported(bad[i].report);
		assert_int_equal(config.nr_vms, 2);
		assert_int_equal(config.vm[0].memory, MiB(8));
		assert_int_equal(config.vm[0].cpus, 1);
		assert_ptr_equal(config.vm[0].kernel, &boot.module[0]);
		assert_ptr_equal(config.vm[1].kernel, &boot.module[2]);
	}
}

static void test_sections(void **state) {
	static const struct {
		const char *line, *report;
	} bad[] = {
		{"[vm]", "cannot be the name of a VM"},
		{"[vm a b]", "a b cannot be the name of a VM; expected 1 to 31"},
		{"[vm \xc3\xa4]", "cannot be the name"},
		{"[vm a/b]", "cannot be the name"},
		{"[vm abcdefghijklmnopqrstuvwxyz0123456]", "cannot be the name"},
		{"[net a]", "unknown section [net a]; expected [vm NAME]"},
		{"[]", "unknown section"},
		{"[", "is no section"},
		{"[vm a", "is no section"},
		{"[vm a] x", "is no section"},
	};
	char text[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		/* What is in such a section is not looked at. */
		snprintf(text, sizeof(text),
			 "[vm good]\nkernel = vmlinuz\n%s\nkernel = none\nxyz\n[vm b]\nkernel = "
			 "initrd",
			 bad[i].line);
		assert_int_equal(parse(text), 1);
		assert_reported("roost.conf:3: ");
		assert_reported(bad[i].report);
		assert_int_equal(config.nr_vms, 2);
		assert_string_equal(config.vm[0].name, "good");
		assert_ptr_equal(config.vm[0].kernel, &boot.module[0]);
		assert_string_equal(config.vm[1].name, "b");
	}
}

static void test_longest_name(void **state) {
	(void)state;
	assert_int_equal(parse("[vm abcdefghijklmnopqrstuvwxyz01234]\nkernel=vmlinuz\n"), 0);
	assert_string_equal(config.vm[0].name, "abcdefghijklmnopqrstuvwxyz01234");
}

static void test_settings_before_any_section(void **state) {
	(void)state;
	assert_int_equal(parse("kernel = vmlinuz\n[vm a]\nkernel = vmlinuz\n"), 1);
	assert_reported("roost.conf:1: kernel = vmlinuz stands before any section");
	assert_int_equal(config.nr_vms, 1);
}

static void test_duplicate_vm(void **state) {
	(void)state;
	assert_int_equal(parse("[vm a]\nkernel = vmlinuz\n[vm b]\nkernel = initrd\n"
			       "[vm a]\nkernel = tool.elf\ncpus = 7\n[vm c]\nkernel = vmlinuz\n"),
			 1);
	assert_reported("roost.conf:5: there is a VM a already");
	assert_int_equal(config.nr_vms, 3);
	assert_ptr_equal(config.vm[0].kernel, &boot.module[0]);
	assert_int_equal(config.vm[0].cpus, 1);
	assert_string_equal(config.vm[2].name, "c");
}

/* The name of a VM that was left out is free again. */
static void test_name_of_a_vm_left_out(void **state) {
	(void)state;
	assert_int_equal(parse("[vm a]\nkernel = gone\n[vm a]\nkernel = initrd\n"), 2);
	assert_int_equal(config.nr_vms, 1);
	assert_ptr_equal(config.vm[0].kernel, &boot.module[1]);
}

static void test_duplicate_key(void **state) {
	(void)state;
	assert_int_equal(parse("[vm a]\nkernel = gone\nkernel = vmlinuz\nmodules = initrd\n"
			       "modules = tool.elf\n"),
			 3);
	assert_reported("roost.conf:3: vm a: kernel is given twice");
	assert_int_equal(config.nr_vms, 1);
	assert_ptr_equal(config.vm[0].kernel, &boot.module[0]);
	assert_int_equal(config.vm[0].nr_modules, 1);
	assert_ptr_equal(config.vm[0].modules[0].module, &boot.module[2]);
	/* The same key in two sections is no repetition. */
	assert_int_equal(parse("[vm a]\nkernel=vmlinuz\n[vm b]\nkernel=vmlinuz\n"), 0);
}

static void test_missing_modules_leave_the_vm_out(void **state) {
	static const struct {
		const char *lines, *report;
	} bad[] = {
		{"kernel = vmlinux", "no usable module has the name vmlinux; there is vmlinuz, "
				     "initrd, tool.elf"},
		{"kernel = torn", "the name torn"},
		{"kernel =", "the name ;"},
		{"kernel = vmlinuz quiet", "the name vmlinuz quiet"},
		{"initrd = none\nkernel = vmlinuz", "the name none"},
		{"modules = initrd, gone x\nkernel = vmlinuz", "the name gone"},
		{"modules = initrd,,initrd\nkernel = vmlinuz", "expected a list"},
		{"modules =\nkernel = vmlinuz", "expected a list"},
		{"modules = \"initrd\nkernel = vmlinuz", "closing quote"},
		{"modules = \" \"\nkernel = vmlinuz", "expected a list"},
		{"memory = 64M", "roost.conf:4: vm b: no kernel"},
	};
	char text[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text),
			 "[vm a]\nkernel=vmlinuz\n\n[vm b]\n%s\n[vm c]\nkernel=vmlinuz\n",
			 bad[i].lines);
		assert_int_equal(parse(text), 2);
		assert_reported(bad[i].report);
		assert_reported("roost.conf:4: vm b: left out");
		assert_int_equal(config.nr_vms, 2);
		assert_string_equal(config.vm[0].name, "a");
		assert_string_equal(config.vm[1].name, "c");
	}
	boot.nr_modules = 0;
	assert_int_equal(parse("[vm a]\nkernel=vmlinuz"), 2);
	assert_reported("there is no usable module");
}

static void test_too_many(void **state) {
	static char text[8192];
	size_t used = 0;

	(void)state;
	for (u32 i = 0; i < 70; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 "[vm v%u]\nkernel=vmlinuz\n", i);
	assert_int_equal(parse(text), 6);
	assert_reported("roost.conf:129: too many VMs; expected at most 64");
	assert_int_equal(config.nr_vms, 64);
	assert_string_equal(config.vm[63].name, "v63");

	used = (size_t)snprintf(text, sizeof(text), "[vm a]\nkernel=vmlinuz\nmodules=initrd");
	for (u32 i = 0; i < 32; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, ",initrd");
	assert_int_equal(parse(text), 2);
	assert_reported("too many modules; expected at most 32");
	assert_int_equal(config.nr_vms, 0);
	text[used - 7] = 0;
	assert_int_equal(parse(text), 0);
	assert_int_equal(config.vm[0].nr_modules, 32);
}

static void test_text_limits(void **state) {
	static char text[80000];
	char line[3000];
	size_t used = 0;

	(void)state;
	memset(line, 'x', sizeof(line));
	line[2047] = 0;
	snprintf(text, sizeof(text), "[vm a]\nkernel=vmlinuz\ncmdline=%s\n", line);
	assert_int_equal(parse(text), 0);
	assert_string_equal(config.vm[0].cmdline, line);
	line[2047] = 'x';
	line[2048] = 0;
	snprintf(text, sizeof(text), "[vm a]\nkernel=vmlinuz\ncmdline=%s\n", line);
	assert_int_equal(parse(text), 1);
	assert_reported("expected at most 2047 bytes");

	/* All of the room: 16 strings of 2048 bytes, then not even an empty one. */
	line[2047] = 0;
	for (u32 i = 0; i < 17; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
					 "[vm v%u]\nkernel=vmlinuz\ncmdline=%s\n", i,
					 i < 16 ? line : "");
	assert_int_equal(parse(text), 1);
	assert_reported("no room for more text");
	assert_int_equal(config.nr_vms, 17);
	assert_string_equal(config.vm[15].cmdline, line);
}

/* A file that is no text at all does not flood the console. */
static void test_binary_file(void **state) {
	static char bytes[100000];
	u32 mistakes, lines = 0;

	(void)state;
	srand(3);
	for (size_t i = 0; i < sizeof(bytes); i++) bytes[i] = (char)rand();
	mistakes = parse_bytes(bytes, sizeof(bytes));
	assert_true(mistakes > CONFIG_ERRORS_MAX);
	assert_int_equal(config.nr_vms, 0);
	assert_reported("mistakes more");
	for (const char *c = reports; *c; c++) {
		lines += *c == '\n';
		assert_true(*c == '\n' || (u8)*c >= ' ');
	}
	assert_int_equal(lines, CONFIG_ERRORS_MAX + 1);
}

/* A good file with each byte changed, and cut at each byte. */
static void test_any_byte_may_be_wrong(void **state) {
	static const char good[] = "[vm a]\nkernel = vmlinuz # c\ncmdline = \"a \\\" b\" ; c\n"
				   "modules = initrd x, \"tool.elf y,z\"\nmemory=64M\ncpus = 2\n";
	static const char values[] = {0, '"', '\\', '[', ']', '=', '\n', ',', '#', ' ', '\x80'};
	char text[sizeof(good)];

	(void)state;
	for (size_t i = 0; i < sizeof(good) - 1; i++) {
		(void)parse_bytes(good, i);
		for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
			memcpy(text, good, sizeof(good));
			text[i] = values[v];
			(void)parse_bytes(text, sizeof(good) - 1);
			assert_true(config.nr_vms <= 1);
		}
	}
}

static void test_reports_go_to_the_log(void **state) {
	(void)state;
	assert_int_equal(config_parse("roost.conf", text_of("[vm a]\nkernel = vmlinuz\nx = 1\n"),
				      &boot, &config),
			 1);
	assert_reported("roost.conf:3: vm a: unknown key x");
}

/* ---- without a file ---- */

static void test_default_configuration(void **state) {
	const struct vm_config *vm = config.vm;

	(void)state;
	boot.nr_modules = 0;
	config_default(&boot, &config);
	assert_int_equal(config.nr_vms, 1);
	assert_string_equal(vm->name, "demo");
	assert_string_equal(vm->cmdline, "");
	assert_null(vm->kernel);
	assert_int_equal(vm->cpus, 1);
	assert_int_equal(vm->memory, MiB(32));

	boot.nr_modules = 1;
	config_default(&boot, &config);
	assert_int_equal(config.nr_vms, 1);
	assert_string_equal(vm->name, "vm0");
	assert_ptr_equal(vm->kernel, &boot.module[0]);
	assert_null(vm->initrd);
	assert_string_equal(vm->cmdline, "console=ttyS0 panic=-1");
	assert_int_equal(vm->memory, 0);
	assert_int_equal(vm->cpus, 0);
	assert_true(vm->autostart);
	assert_int_equal(vm->max_leaf, 2);

	boot.nr_modules = 2;
	config_default(&boot, &config);
	assert_ptr_equal(vm->initrd, &boot.module[1]);
	assert_string_equal(reports, "");

	/* Unusable modules do not count, a third usable one is reported. */
	boot.nr_modules = 4;
	config_default(&boot, &config);
	assert_int_equal(config.nr_vms, 1);
	assert_int_equal(vm->nr_modules, 0);
	assert_non_null(strstr(reports, "module tool.elf is not used"));
	assert_null(strstr(reports, "torn"));
	boot.module[0].fault = MODULE_EMPTY;
	config_default(&boot, &config);
	assert_ptr_equal(vm->kernel, &boot.module[1]);
}

/* A section in one line, as the console has it. */
static void test_words(void **state) {
	static const struct {
		const char *words, *report;
	} bad[] = {
		{"", "no kernel"},
		{"kernel=vmlinuz memory=1K", "memory cannot be 1K"},
		{"kernel=vmlinuz quiet", "quiet is no setting"},
		{"kernel=vmlinuz cmdline=\"a b", "closing quote"},
		{"kernel=vmlinuz\x01", "control characters"},
		{"kernel=vmlinuz [vm b]", "[vm is no setting"},
	};
	static const char words[] = "  kernel=tool.elf cmdline=\"a  \\\"b c\\\"\"  cpus=3 "
				    "modules=initrd,\"vmlinuz x, y\" ";
	static struct config changed;
	const struct vm_config *vm = config.vm;

	(void)state;
	assert_int_equal(config_parse_words(text_of("new"), text_of(words), NULL, &boot, &config),
			 0);
	assert_int_equal(config.nr_vms, 1);
	assert_string_equal(vm->name, "new");
	assert_string_equal(vm->cmdline, "a  \"b c\"");
	assert_int_equal(vm->cpus, 3);
	assert_int_equal(vm->nr_modules, 2);
	assert_string_equal(vm->modules[0].args, "");
	assert_string_equal(vm->modules[1].args, "x, y");
	/* A change: what is not named stays; what cannot be changed is refused. */
	assert_int_equal(config_parse_words(text_of("new"), text_of("cap=20"), vm, &boot, &changed),
			 0);
	assert_int_equal(changed.vm[0].cap, 20);
	assert_int_equal(changed.vm[0].weight, 100);
	assert_ptr_equal(changed.vm[0].cmdline, vm->cmdline);
	assert_int_equal(
		config_parse_words(text_of("new"), text_of("memory=8M"), vm, &boot, &changed), 1);
	assert_string_equal(changed.first_mistake, "vm new: memory cannot be changed any more");
	/* The guest inside Roost has no kernel among the modules. */
	static const struct vm_config demo = {.name = "demo", .cmdline = ""};
	assert_int_equal(config_parse_words(text_of("demo"), text_of("weight=7"), &demo, &boot,
					    &changed),
			 0);
	assert_int_equal(changed.vm[0].weight, 7);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_true(config_parse_words(text_of("n"), text_of(bad[i].words), NULL, &boot,
					       &config) > 0);
		if (!strstr(config.first_mistake, bad[i].report))
			fail_msg("%s: %s", bad[i].words, config.first_mistake);
		assert_string_equal(reports, "");
	}
}

static void test_share_memory(void **state) {
	(void)state;
	config_default(&boot, &config);
	config_share_memory(&config, MiB(1024));
	assert_int_equal(config.vm[0].memory, MiB(992)); /* 1024 - 16 - 16 */

	assert_int_equal(parse("[vm a]\nkernel=vmlinuz\n[vm b]\nkernel=vmlinuz\nmemory=256M\n"
			       "[vm c]\nkernel=vmlinuz\n"),
			 0);
	config_share_memory(&config, MiB(1024));
	assert_int_equal(config.vm[0].memory, MiB(368));
	assert_int_equal(config.vm[1].memory, MiB(256));
	assert_int_equal(config.vm[2].memory, MiB(368));

	/* Nothing is left, and sums do not wrap. */
	config.vm[0].memory = 0;
	config.vm[1].memory = ~0ul - 5;
	config_share_memory(&config, MiB(1024));
	assert_int_equal(config.vm[0].memory, 0);
	config.vm[1].memory = MiB(1023);
	config_share_memory(&config, MiB(1024));
	assert_int_equal(config.vm[0].memory, 0);
	config.nr_vms = 0;
	config_share_memory(&config, MiB(1024));
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_all_keys, setup),
		cmocka_unit_test_setup(test_defaults_of_a_vm, setup),
		cmocka_unit_test_setup(test_empty_files, setup),
		cmocka_unit_test_setup(test_quotes_and_comments, setup),
		cmocka_unit_test_setup(test_module_lists, setup),
		cmocka_unit_test_setup(test_sizes, setup),
		cmocka_unit_test_setup(test_bad_values_cost_their_line_only, setup),
		cmocka_unit_test_setup(test_sections, setup),
		cmocka_unit_test_setup(test_longest_name, setup),
		cmocka_unit_test_setup(test_settings_before_any_section, setup),
		cmocka_unit_test_setup(test_duplicate_vm, setup),
		cmocka_unit_test_setup(test_name_of_a_vm_left_out, setup),
		cmocka_unit_test_setup(test_duplicate_key, setup),
		cmocka_unit_test_setup(test_missing_modules_leave_the_vm_out, setup),
		cmocka_unit_test_setup(test_too_many, setup),
		cmocka_unit_test_setup(test_text_limits, setup),
		cmocka_unit_test_setup(test_binary_file, setup),
		cmocka_unit_test_setup(test_any_byte_may_be_wrong, setup),
		cmocka_unit_test_setup(test_reports_go_to_the_log, setup),
		cmocka_unit_test_setup(test_default_configuration, setup),
		cmocka_unit_test_setup(test_words, setup),
		cmocka_unit_test_setup(test_share_memory, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
