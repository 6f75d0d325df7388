// sources: kernel/shell.c lib/parse.c
/*
 * The shell against a terminal that knows only characters, backspaces and line ends: what it shows
 * is what is run. The parser of parameters, completion, history, questions, batch mode.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/cpu.h"
#include "kernel/guests.h"
#include "kernel/host_io.h"
#include "kernel/log.h"
#include "kernel/shell.h"
#include "kernel/vm.h"

#define PROMPT "roost> "

static char rows[64][2048]; /* the last 64 lines, without their ends */
static size_t row, column;
static bool cut; /* a message has begun another line */
static unsigned runs;
static char given[SHELL_LINE_MAX];
static struct shell_args got;
static struct cpu host;
static struct vm vms[3];
static struct vcpu vcpu[2];
static u32 nr_vms;
static const struct vm *dying;
static bool live;	 /* of them runs */
static struct vm *owner; /* of the console */
static bool quiet_begun, quiet_over;

void sched_quiet_begin(struct quiet *quiet) {
	(void)quiet;
	quiet_begun = true;
}

bool sched_quiet_over(const struct quiet *quiet) {
	(void)quiet;
	return quiet_over;
}

struct cpu *this_cpu(void) {
	return &host;
}

struct vm *guests_get(u32 index) {
	return index < nr_vms ? &vms[index] : NULL;
}

struct vm *guests_find(struct text name) {
	for (u32 i = 0; i < nr_vms; i++)
		if (text_is(name, vms[i].name)) return &vms[i];
	return NULL;
}

bool guests_any(void) { return live; }

enum guest_state guests_state(struct vm *vm) {
	return vm == dying ? GUEST_DYING : (enum guest_state)atomic_load(&vm->state);
}

static void newline(void) {
	row = (row + 1) % 64;
	column = 0;
	memset(rows[row], 0, sizeof(rows[row]));
}

void log_show(enum log_owner by, const char *text, size_t len) {
	assert_int_equal(by, SHOW_SHELL);
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n') {
			newline();
		} else if (text[i] == '\b') {
			assert_true(column > 0);
			column--;
		} else {
			assert_in_range(text[i], ' ', '~');
			assert_true(column < sizeof(rows[0]) - 1);
			rows[row][column++] = text[i];
		}
	}
	if (len) cut = text[len - 1] == '\n';
}

bool log_shell_line(void) { return !cut; }

void console_attach(struct vm *vm) { owner = vm; }

static void record(const struct shell_args *args) {
	runs++;
	got = *args;
	assert_true(args->text.len < sizeof(given));
	if (args->text.len) memcpy(given, args->text.at, args->text.len);
	given[args->text.len] = 0;
}

static void say(const struct shell_args *args) {
	record(args);
	shell_error("said %u", args->choice);
}

static void attach(const struct shell_args *args) { shell_attach(args->vm); }

static void set_batch(const struct shell_args *args) { shell_set_batch(!args->choice); }

const struct command commands[] = {
	{"attach", "VM", "", attach, 0, 0},
	{"batch", "on|off", "", set_batch, 0, 0},
	{"dump", "VM ADDRESS LENGTH", "", record, 0, 0},
	{"echo", "TEXT", "", record, 0, 0},
	{"help", "[COMMAND]", "", record, 0, 0},
	{"log", "", "", record, COMMAND_SETTLES, 0},
	{"off", "", "", record, COMMAND_ASKS, 0},
	{"regs", "VM VCPU", "", record, COMMAND_ON_VCPU, 0},
	{"say", "", "", say, 0, 7},
	{"stat", "[VM] [VCPU]", "", record, 0, 0},
	{"vm dirty", "VM on|get|off", "", record, 0, 0},
	{"vm list", "", "", record, 0, 0},
	{"vm name", "NAME", "", record, 0, 0},
};
const u32 nr_commands = sizeof(commands) / sizeof(commands[0]);

static void bytes(const char *text, size_t len) {
	for (size_t i = 0; i < len; i++) shell_input((u8)text[i]);
	shell_prompt();
}

static void type(const char *text) { bytes(text, strlen(text)); }

/* The line that is `back` lines above the last, without blanks at its end. */
static const char *shown(unsigned back) {
	static char text[sizeof(rows[0])];
	size_t len;

	strcpy(text, rows[(row - back) % 64]);
	for (len = strlen(text); len && text[len - 1] == ' '; len--) text[len - 1] = 0;
	return text;
}

static int setup(void **state) {
	(void)state;
	shell_set_batch(false);
	host.id = 0;
	nr_vms = 3;
	dying = NULL;
	live = false;
	for (u32 i = 0; i < 3; i++) vms[i] = (struct vm){.nr_vcpus = 2};
	strcpy(vms[0].name, "alpha");
	strcpy(vms[1].name, "alpine");
	strcpy(vms[2].name, "beta");
	for (u32 i = 0; i < 2; i++) {
		vms[2].vcpus[i] = &vcpu[i];
		vcpu[i].cpu = i;
	}
	type("\x03"); /* away with what the last test has left */
	runs = 0;
	memset(&got, 0, sizeof(got));
	return 0;
}

static void test_prompt(void **state) {
	(void)state;
	newline();
	cut = true;
	type("");
	assert_string_equal(shown(0), "roost>");
	type("vm li");
	assert_string_equal(shown(0), PROMPT "vm li");
	/* A message came between: the line is shown once more, the cursor where it was. */
	type("\x1b[D");
	newline();
	cut = true;
	shell_prompt();
	assert_string_equal(shown(0), PROMPT "vm li");
	type("x");
	assert_string_equal(shown(0), PROMPT "vm lxi");
	assert_int_equal(column, strlen(PROMPT) + 5);
}

static void test_keys(void **state) {
	(void)state;
	type("echo one two\x01\x1b[C\x06\x1b[3~H\x05\x02\x02\x02\x17");
	assert_string_equal(shown(0), PROMPT "ecHo two");
	type("\x1b[HX\x1b[4~\x7f\x08Y\x1bOHZ\x1b[8~\x1b[1~W\x1b[F\x1b[7~\x1b[4;5xV\x1b[9~");
	assert_string_equal(shown(0), PROMPT "VWZXecHo tY");
	type("\x1b[D\x01\x0b");
	assert_string_equal(shown(0), "roost>");
}

static void test_kill(void **state) {
	(void)state;
	type("echo 123456\x02\x02\x0b");
	assert_string_equal(shown(0), PROMPT "echo 1234");
	type("\x02\x15");
	assert_string_equal(shown(0), PROMPT "4");
	type("\x15 \x04\x04\x17\x17\x7f\x7f\x15");
	assert_string_equal(shown(0), "roost>");
	type("abc\x03");
	assert_string_equal(shown(1), PROMPT "abc^C");
	assert_int_equal(runs, 0);
}

static void test_history(void **state) {
	(void)state;
	type("echo 1\recho 2\r\recho thr\x10\x10");
	assert_string_equal(shown(0), PROMPT "echo 1");
	type("\x1b[B\x1b[B\x1b[B");
	assert_string_equal(shown(0), PROMPT "echo thr");
	type("ee\r\x1b[A\x1b[A\x1b[A\x0e\r");
	assert_string_equal(given, "2");
	for (unsigned i = 0; i < 40; i++) type("echo again\r");
	for (unsigned i = 0; i < 40; i++) type("\x1b[A");
	assert_string_equal(shown(0), PROMPT "echo again");
	for (unsigned i = 0; i < 40; i++) type("\x1b[B");
	assert_string_equal(shown(0), "roost>");
}

static void test_parameters(void **state) {
	(void)state;
	type("  dump  beta  0x1000 4K \r");
	assert_int_equal(runs, 1);
	assert_ptr_equal(got.vm, &vms[2]);
	assert_int_equal(got.nr_numbers, 2);
	assert_int_equal(got.number[0], 0x1000);
	assert_int_equal(got.number[1], 4096);
	type("vm   dirty alpha get\r");
	assert_int_equal(got.choice, 1);
	assert_ptr_equal(got.vm, &vms[0]);
	type("stat\r");
	assert_null(got.vm);
	type("stat beta 1\r");
	assert_ptr_equal(got.vcpu, &vcpu[1]);
	type("help\r");
	assert_string_equal(given, "");
	type("echo  a  b \r");
	assert_string_equal(given, "a  b");
	type("vm name x-y\r");
	assert_memory_equal(got.word.at, "x-y", 3);
	assert_int_equal(got.word.len, 3);
	assert_int_equal(runs, 7);
}

static void test_bad_parameters(void **state) {
	static const struct {
		const char *line, *error;
	} bad[] = {
		{"nonsense", "unknown command 'nonsense'; 'help' lists them"},
		{"vm", "unknown command 'vm'; 'help' lists them"},
		{"vm lists", "unknown command 'vm lists'; 'help' lists them"},
		{"vm list x", "usage: vm list"},
		{"echo", "usage: echo TEXT"},
		{"dump beta 1", "usage: dump VM ADDRESS LENGTH"},
		{"dump beta 1 2 3", "usage: dump VM ADDRESS LENGTH"},
		{"dump gamma 1 2", "there is no VM 'gamma'"},
		{"dump alph 1 2", "there is no VM 'alph'"},
		{"dump beta 1x 2", "'1x' is no number"},
		{"dump beta -1 2", "'-1' is no number"},
		{"dump beta 0x10000000000000000 2", "'0x10000000000000000' is too large"},
		{"regs beta 2", "the vCPUs of 'beta' are 0 to 1"},
		{"regs beta 4294967296", "the vCPUs of 'beta' are 0 to 1"},
		{"vm dirty beta", "usage: vm dirty VM on|get|off"},
		{"vm dirty beta o", "'o' is none of on|get|off"},
		{"vm dirty beta on|get", "'on|get' is none of on|get|off"},
		{"batch |", "'|' is none of on|off"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char expected[200];

		type(bad[i].line);
		type("\r");
		snprintf(expected, sizeof(expected), "error: %s", bad[i].error);
		assert_string_equal(shown(1), expected);
	}
	/* A VM that is on its way out is nobody's any more. */
	dying = &vms[0];
	type("stat alpha\r");
	assert_string_equal(shown(1), "error: 'alpha' is being destroyed");
	assert_int_equal(runs, 0);
}

static void test_errors(void **state) {
	(void)state;
	type("say\r");
	assert_string_equal(shown(1), "error: said 7");
	/* What one command said does not outlive it. */
	type("batch on\rsay\rvm list\r");
	assert_string_equal(shown(2), "error: said 7");
	assert_string_equal(shown(1), "ok");
}

static void test_completion(void **state) {
	(void)state;
	type("e\t");
	assert_string_equal(shown(0), PROMPT "echo");
	type("x\r");
	assert_string_equal(given, "x");
	type("vm\t");
	type("l\t\r");
	assert_int_equal(runs, 2);
	type("vm d\tal\t");
	assert_string_equal(shown(0), PROMPT "vm dirty alp");
	type("\t");
	assert_string_equal(shown(2), "alpha");
	assert_string_equal(shown(1), "alpine");
	assert_string_equal(shown(0), PROMPT "vm dirty alp");
	type("i\tg\t\r");
	assert_ptr_equal(got.vm, &vms[1]);
	assert_int_equal(got.choice, 1);
	/* Not where nothing can be known, nor behind the last parameter. */
	type("echo \t");
	assert_string_equal(shown(0), PROMPT "echo");
	type("\x15vm dirty beta get \t\tzz\t");
	assert_string_equal(shown(0), PROMPT "vm dirty beta get zz");
	type("\x15help vm l\t");
	assert_string_equal(shown(0), PROMPT "help vm list");
	type("\x15regs b\t1\x02\x02\x02\x02\t");
	assert_string_equal(shown(0), PROMPT "regs beta ta 1");
	type("\x05\x15\t");
	assert_string_equal(shown(1), "vm name");
	assert_string_equal(shown(0), "roost>");
}

static void test_dangerous(void **state) {
	(void)state;
	type("off\r");
	assert_int_equal(runs, 1); /* nobody is there to be harmed */
	live = true;
	type("off\r");
	assert_string_equal(shown(0), "guests are there; really? (y/n)");
	type("n\r");
	assert_string_equal(shown(1), "error: not done");
	type("off\r\r");
	assert_string_equal(shown(1), "error: not done");
	type("off\r\x03vm list\r");
	assert_int_equal(runs, 2);
	type("off\ry\r");
	assert_int_equal(runs, 3);
	type("off\ryes\r");
	assert_int_equal(runs, 4);
	type("y\r");
	assert_string_equal(shown(1), "error: unknown command 'y'; 'help' lists them");
	type("batch on\roff\r");
	assert_int_equal(runs, 5);
}

static void test_batch(void **state) {
	(void)state;
	type("batch on\r");
	size_t begin = row;
	type("vm list\r\n\r\nnonsense\rvm\tlist\n");
	assert_string_equal(rows[begin], "ok");
	assert_string_equal(rows[(begin + 1) % 64],
			    "error: unknown command 'nonsense'; 'help' lists them");
	assert_string_equal(rows[(begin + 2) % 64], "ok");
	assert_int_equal(column, 0);
	assert_int_equal(runs, 2);
	/* The answer comes before the console is another's. */
	owner = NULL;
	type("attach beta\r");
	assert_string_equal(shown(1), "ok");
	assert_ptr_equal(owner, &vms[2]);
	owner = NULL;
	type("attach nobody\rbatch off\r");
	assert_null(owner);
	assert_string_equal(shown(1), "ok");
	assert_string_equal(shown(0), "roost>");
}

static void test_other_cpu(void **state) {
	(void)state;
	type("regs beta 0\r");
	assert_int_equal(runs, 1);
	assert_int_equal(shell_cpu(), 0);
	for (const char *c = "regs beta 1\r"; *c; c++) shell_input((u8)*c);
	assert_int_equal(runs, 1);
	assert_int_equal(shell_cpu(), 1);
	host.id = 1;
	shell_continue();
	assert_int_equal(runs, 2);
	assert_ptr_equal(got.vcpu, &vcpu[1]);
	assert_int_equal(shell_cpu(), 0);
	shell_continue();
	assert_int_equal(runs, 2);
}

/* It has run, but is not answered before every CPU has let go of what it had in its hands. */
static void test_answer_when_all_have_settled(void **state) {
	(void)state;
	type("batch on\r");
	quiet_begun = quiet_over = false;
	size_t begin = row;
	type("log\r");
	assert_int_equal(runs, 1);
	assert_true(quiet_begun && shell_waits());
	shell_continue();
	assert_true(shell_waits());
	assert_int_equal(row, begin);
	quiet_over = true;
	shell_continue();
	assert_int_equal(runs, 1);
	assert_false(shell_waits());
	assert_int_equal(row, begin + 1);
	assert_string_equal(shown(1), "ok");
	type("batch off\r");
}

static void test_long_line(void **state) {
	(void)state;
	type("echo ");
	for (unsigned i = 0; i < 10000; i++) shell_input('x');
	type("\r");
	assert_string_equal(shown(1), "error: a line has at most 255 characters");
	assert_int_equal(runs, 0);
	for (unsigned i = 0; i < 300; i++) shell_input('x');
	type("\x15vm list\r");
	assert_int_equal(runs, 1);
	type("echo ");
	for (unsigned i = 0; i < 250; i++) shell_input('x');
	type("\r");
	assert_int_equal(strlen(given), 250);
}

/* Any bytes: nothing is read or written out of bounds, and what the terminal shows is what is run.
 */
static void test_any_bytes(void **state) {
	static const char keys[] =
		"\x01\x02\x04\x05\x06\x08\x0b\x0e\x10\x15\x17\x7f\x1b[Oabc xyz~139;\t";

	(void)state;
	srand(1);
	for (unsigned round = 0; round < 3000; round++) {
		char line[sizeof(rows[0])];

		for (unsigned i = 0; i < 40; i++) {
			u8 any = (u8)rand();

			if (any == '\r' || any == '\n' || any == 3) continue;
			shell_input(i % 8 ? (u8)keys[(unsigned)rand() % (sizeof(keys) - 1)] : any);
		}
		type("~~\x01"
		     "echo ");
		strcpy(line, shown(0));
		type("\r");
		if (strlen(line) < strlen(PROMPT) + SHELL_LINE_MAX - 8)
			assert_string_equal(given,
					    line + strlen(PROMPT "echo") +
						    strspn(&line[strlen(PROMPT "echo")], " "));
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_prompt, setup),
		cmocka_unit_test_setup(test_keys, setup),
		cmocka_unit_test_setup(test_kill, setup),
		cmocka_unit_test_setup(test_history, setup),
		cmocka_unit_test_setup(test_parameters, setup),
		cmocka_unit_test_setup(test_bad_parameters, setup),
		cmocka_unit_test_setup(test_errors, setup),
		cmocka_unit_test_setup(test_completion, setup),
		cmocka_unit_test_setup(test_dangerous, setup),
		cmocka_unit_test_setup(test_batch, setup),
		cmocka_unit_test_setup(test_other_cpu, setup),
		cmocka_unit_test_setup(test_answer_when_all_have_settled, setup),
		cmocka_unit_test_setup(test_long_line, setup),
		cmocka_unit_test_setup(test_any_bytes, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
