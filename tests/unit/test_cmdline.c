// sources: kernel/cmdline.c lib/parse.c tests/log_rig.c
/* Roost's command line: each option, its bad values, unknown words and repetitions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "boot/bootinfo.h"
#include "kernel/cmdline.h"
#include "lib/types.h"
#include "tests/log_rig.h"

static struct boot_info boot;
static struct options options;

/* Parses the words; returns the number of complaints. */
static unsigned parse(const char *words) {
	memset(&boot, 0, sizeof(boot));
	memset(&options, 0xcc, sizeof(options));
	rig_log_clear();
	assert_true(strlen(words) < sizeof(boot.cmdline));
	memcpy(boot.cmdline, words, strlen(words) + 1);
	options_parse(&boot, &options);
	assert_int_equal(rig_log_levels & ~(1u << LOG_WARN), 0);
	return rig_nr_logged;
}

static void assert_logged(const char *text) {
	if (!strstr(rig_log_text, text)) fail_msg("\"%s\" is not in \"%s\"", text, rig_log_text);
}

static void assert_defaults(void) {
	assert_true(options.console_serial);
	assert_true(options.console_screen);
	assert_int_equal(options.console_port, 0);
	assert_int_equal(options.console_baud, 0);
	assert_int_equal(options.log_level, LOG_INFO);
	assert_int_equal(options.max_cpus, OPTIONS_MAX_CPUS);
	assert_int_equal(options.on_idle, IDLE_SHELL);
	assert_int_equal(options.debug_exit, 0);
}

static void test_defaults(void **state) {
	(void)state;
	assert_int_equal(parse(""), 0);
	assert_defaults();
	assert_int_equal(parse("  \t  "), 0);
	assert_defaults();
}

static void test_all_options(void **state) {
	(void)state;
	assert_int_equal(parse("console=com2,57600 loglevel=debug\tcpus=3  on-idle=poweroff "
			       "debug-exit=0xf4 vmx=-vpid,-pml"),
			 0);
	assert_true(options.console_serial);
	assert_false(options.console_screen);
	assert_int_equal(options.console_port, 0x2f8);
	assert_int_equal(options.console_baud, 57600);
	assert_int_equal(options.log_level, LOG_DEBUG);
	assert_int_equal(options.max_cpus, 3);
	assert_int_equal(options.on_idle, IDLE_POWEROFF);
	assert_int_equal(options.debug_exit, 0xf4);
	assert_true(text_is(options.vmx, "-vpid,-pml"));
}

static void test_console_lists(void **state) {
	static const struct {
		const char *words;
		bool serial, screen;
		u16 port;
		u32 baud;
	} good[] = {
		{"console=none", false, false, 0, 0},
		{"console=screen", false, true, 0, 0},
		{"console=com1", true, false, 0x3f8, 0},
		{"console=com3", true, false, 0x3e8, 0},
		{"console=com4", true, false, 0x2e8, 0},
		{"console=0xe000", true, false, 0xe000, 0},
		{"console=0xFFF8", true, false, 0xfff8, 0},
		{"console=0x3f8,9600", true, false, 0x3f8, 9600},
		{"console=screen,com1,115200", true, true, 0x3f8, 115200},
		{"console=com1,115200,screen", true, true, 0x3f8, 115200},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(parse(good[i].words), 0);
		assert_int_equal(options.console_serial, good[i].serial);
		assert_int_equal(options.console_screen, good[i].screen);
		assert_int_equal(options.console_port, good[i].port);
		assert_int_equal(options.console_baud, good[i].baud);
	}
}

static void test_bad_values_change_nothing(void **state) {
	static const char *const bad[] = {
		"console=",
		"console",
		"console=com5",
		"console=com1,",
		"console=,com1",
		"console=none,screen",
		"console=115200",
		"console=screen,9600",
		"console=com1,com2",
		"console=com1,7",
		"console=com1,9600,19200",
		"console=com1,0",
		"console=com1,99999999999999999999",
		"console=0x0",
		"console=0xfff9",
		"console=0x",
		"console=COM1",
		"loglevel=",
		"loglevel=verbose",
		"loglevel=3",
		"loglevel",
		"cpus=0",
		"cpus=65",
		"cpus=-1",
		"cpus=1K",
		"cpus=",
		"on-idle=halt",
		"on-idle=shell ",
		"debug-exit=0x10000",
		"debug-exit=yes",
		"debug-exit",
		"vmx=",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (!strcmp(bad[i], "on-idle=shell ")) {
			assert_int_equal(parse(bad[i]), 0); /* the blank is no part of it */
			continue;
		}
		if (parse(bad[i]) != 1) fail_msg("%s: %u messages", bad[i], rig_nr_logged);
		assert_logged(bad[i]);
		assert_logged("expected");
		assert_defaults();
	}
}

static void test_expected_values_are_listed(void **state) {
	(void)state;
	parse("loglevel=loud");
	assert_logged("error, warn, info or debug");
	parse("on-idle=loud");
	assert_logged("shell, poweroff or reboot");
	parse("cpus=loud");
	assert_logged("1 to 64");
}

static void test_unknown_words(void **state) {
	(void)state;
	assert_int_equal(parse("quiet loglevel=warn root=/dev/sda =x = consoles=screen"), 5);
	assert_logged("unknown word quiet;");
	assert_logged("unknown word root=/dev/sda;");
	assert_logged("unknown word =x;");
	assert_logged("unknown word consoles=screen;");
	assert_logged("console=, loglevel=, cpus=, on-idle=, debug-exit=, vmx=");
	assert_int_equal(options.log_level, LOG_WARN);
}

static void test_repetition(void **state) {
	(void)state;
	assert_int_equal(parse("cpus=2 cpus=4"), 1);
	assert_logged("cpus= is given more than once, 4 counts");
	assert_int_equal(options.max_cpus, 4);
	/* A bad one does not replace a good one. */
	assert_int_equal(parse("cpus=2 cpus=many"), 1);
	assert_int_equal(options.max_cpus, 2);
	assert_int_equal(parse("console=com1,9600 console=screen"), 1);
	assert_false(options.console_serial);
	assert_int_equal(options.console_baud, 0);
	assert_true(options.console_screen);
}

static void test_file_name_of_qemu(void **state) {
	(void)state;
	memset(&boot, 0, sizeof(boot));
	strcpy(boot.cmdline, "build/roost.elf cpus=2");
	boot.cmdline_has_name = true;
	rig_nr_logged = 0;
	options_parse(&boot, &options);
	assert_int_equal(rig_nr_logged, 0);
	assert_int_equal(options.max_cpus, 2);
	/* Without being told so, the first word counts. */
	boot.cmdline_has_name = false;
	options_parse(&boot, &options);
	assert_int_equal(rig_nr_logged, 1);
}

static void test_long_words_are_cut_in_messages(void **state) {
	char words[1000];

	(void)state;
	memset(words, 'w', sizeof(words) - 1);
	words[sizeof(words) - 1] = 0;
	assert_int_equal(parse(words), 1);
	assert_true(strlen(rig_log_text) < 250);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_all_options),
		cmocka_unit_test(test_console_lists),
		cmocka_unit_test(test_bad_values_change_nothing),
		cmocka_unit_test(test_expected_values_are_listed),
		cmocka_unit_test(test_unknown_words),
		cmocka_unit_test(test_repetition),
		cmocka_unit_test(test_file_name_of_qemu),
		cmocka_unit_test(test_long_words_are_cut_in_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
