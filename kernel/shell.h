/*
 * Roost's command line on the console: a line editor, and what finds a command in the one table
 * (kernel/commands.c), checks its parameters and runs it. docs/console.md describes all of it.
 */
#pragma once

#include "lib/parse.h"
#include "lib/types.h"

#define ROOST_VERSION	  "0.1"
#define SHELL_LINE_MAX	  256u
#define SHELL_NUMBERS_MAX 2u

struct boot_info;
struct vm;
struct vcpu;

/* The checked parameters of a command. */
struct shell_args {
	struct vm *vm;
	struct vcpu *vcpu; /* of vm; NULL when it was left out */
	u64 number[SHELL_NUMBERS_MAX];
	u32 nr_numbers;
	u32 choice;	  /* which of the words of a|b|c */
	struct text word; /* NAME, KEY */
	struct text text; /* TEXT, COMMAND: the rest of the line; may be empty if it is optional */
};

#define COMMAND_DANGEROUS 1u /* asks while guests are there, but in batch mode */
#define COMMAND_ON_VCPU	  2u /* runs on the vCPU's CPU, which is not in the guest meanwhile */

/*
 * name: words with one blank between. params: words with one blank between, each a kind: VM, VCPU,
 * ADDRESS, LENGTH, NAME, TEXT, COMMAND, or words to choose from, with | between; in brackets: may
 * be left out. run: 0, an E_*, or what shell_error() returned.
 */
struct command {
	const char *name;
	const char *params;
	const char *help;
	int (*run)(const struct shell_args *args);
	u32 flags;
};

/* Sorted by name, in ASCII. */
extern const struct command commands[];
extern const u32 nr_commands;

/* Once; the modules are for a command to list. Panics when the table is not sorted. */
void commands_init(const struct boot_info *boot);

/* One byte of input, on the CPU that has the console. */
void shell_input(u8 byte);

/* Shows the prompt and what is typed so far, unless they stand there or there is no prompt. */
void shell_prompt(void);

/* The CPU that is to have the shell now; there shell_continue() runs what the others left to it. */
u32 shell_cpu(void);
void shell_continue(void);

/* Output of a command. */
void shell_print(const char *fmt, ...) __format_printf(1, 2);

/* Says what is wrong, in place of what the returned error means. */
int shell_error(int error, const char *fmt, ...) __format_printf(2, 3);

/* Changes batch mode: no prompt, no echo, no questions; each command ends in `ok` or `error: ...`.
 */
void shell_set_batch(bool on);
