/* Roost's command line on the console; docs/console.md describes it. */
#pragma once

#include "lib/parse.h"

#define ROOST_VERSION  "0.1"
#define SHELL_LINE_MAX 256u

struct boot_info;
struct vm;

/* The checked parameters of a command. */
struct shell_args {
	struct vm *vm;
	struct vcpu *vcpu; /* of vm; NULL when it was left out */
	u64 number[2];
	u32 nr_numbers;
	u32 choice;	  /* which of the words of a|b|c; else the command's own number */
	struct text word; /* the last one */
	struct text text; /* TEXT, COMMAND: the rest of the line */
};

#define COMMAND_ASKS	1u /* while guests are there, but in batch mode */
#define COMMAND_SETTLES 4u /* answers when every CPU has left its guest once, or looked at it */
#define COMMAND_ON_VCPU 2u /* runs on the vCPU's CPU, which is not in the guest meanwhile */

/*
 * name: words with one blank between. params: likewise, each a kind: VM, VCPU, ADDRESS, LENGTH,
 * NAME, TEXT, COMMAND, or words to choose from, with | between; in brackets: may be left out.
 */
struct command {
	const char *name, *params, *help;
	void (*run)(const struct shell_args *args);
	u32 flags, number;
};

/* Sorted by name, in ASCII. */
extern const struct command commands[];
extern const u32 nr_commands;

/* Once; the modules are for a command to list. */
void commands_init(const struct boot_info *boot);

/* One byte of input, on the CPU that has the shell. */
void shell_input(u8 byte);

/* Shows the prompt and what is typed so far, unless they stand there or there is no prompt. */
void shell_prompt(void);

/* The CPU that is to have the shell now; there shell_continue() runs what the others left to it. */
u32 shell_cpu(void);

/* A command waits for another CPU: what its parameters name has to stay. */
bool shell_waits(void);
void shell_continue(void);

/* Output of a command; and what is wrong, as its last line. */
void shell_print(const char *fmt, ...) __format_printf(1, 2);
void shell_fail(void);
#define shell_error(...) (shell_print("error: "), shell_print(__VA_ARGS__), shell_fail())

/* Gives the VM the console, behind the answer to the command that runs. */
void shell_attach(struct vm *vm);

/* Changes batch mode: no prompt, no echo, no questions; each command ends in `ok` or `error: ...`.
 */
void shell_set_batch(bool on);
