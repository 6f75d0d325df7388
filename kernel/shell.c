/* The shell: a line editor and a table of commands. */
#include "kernel/shell.h"

#include "kernel/cpu.h"
#include "kernel/guests.h"
#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/power.h"
#include "kernel/vm.h"
#include "lib/string.h"
#include "mm/frame.h"

#define LINE_MAX  80u
#define BACKSPACE 0x08
#define DELETE	  0x7f

struct command {
	const char *name;
	const char *help;
	void (*run)(void);
};

static char line[LINE_MAX + 1];
static u32 length;

static void cmd_help(void);

static void cmd_vms(void) {
	static const char *const states[] = {"created", "running", "paused", "stopped"};

	for (u32 i = 0; guests_get(i); i++) {
		const struct vm *vm = guests_get(i);

		log_raw("%-16s %-8s %2u vCPUs %s\n", vm->name, states[atomic_load(&vm->state)],
			vm->nr_vcpus, vm->stop_reason);
	}
}

static void cmd_memory(void) {
	struct frame_stats stats;

	frame_stats(&stats);
	log_raw("%lu KiB, %lu KiB free\n", stats.total * 4, stats.free * 4);
}

static void cmd_cpus(void) {
	const struct cpu *cpu;

	for_each_cpu(cpu)
		log_raw("CPU %u: APIC id %u, %u vCPUs, %lu interrupts\n", cpu->id, cpu->apic_id,
			cpu->nr_queue, cpu->irq_count);
}

static void cmd_panic(void) { panic("asked for at the console"); }

static const struct command commands[] = {
	{"cpus", "the CPUs in use", cmd_cpus},
	{"help", "this list", cmd_help},
	{"memory", "how much there is", cmd_memory},
	{"panic", "stop with a report, to see one", cmd_panic},
	{"poweroff", "switch the machine off", power_off},
	{"reboot", "restart the machine", power_reboot},
	{"vms", "the guests and their states", cmd_vms},
};

static void cmd_help(void) {
	for (u32 i = 0; i < ARRAY_SIZE(commands); i++)
		log_raw("%-10s %s\n", commands[i].name, commands[i].help);
}

void shell_prompt(void) { log_raw("roost> "); }

static void run_line(void) {
	line[length] = 0;
	length = 0;
	if (!line[0]) return;
	for (u32 i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!strcmp(line, commands[i].name)) {
			commands[i].run();
			return;
		}
	}
	log_raw("unknown command '%s'; 'help' lists them\n", line);
}

void shell_input(u8 byte) {
	if (byte == '\r' || byte == '\n') {
		log_raw("\n");
		run_line();
		shell_prompt();
	} else if ((byte == BACKSPACE || byte == DELETE) && length) {
		length--;
		log_raw("\b \b");
	} else if (byte >= ' ' && byte < DELETE && length < LINE_MAX) {
		line[length++] = (char)byte;
		log_raw("%c", byte);
	}
}
