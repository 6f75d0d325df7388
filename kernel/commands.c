/* The commands of the shell: one table, and what each does. docs/console.md describes them. */
#include "boot/bootinfo.h"
#include "kernel/backend.h"
#include "kernel/cpu.h"
#include "kernel/guests.h"
#include "kernel/host_io.h"
#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/power.h"
#include "kernel/shell.h"
#include "kernel/vm.h"
#include "lib/error.h"
#include "lib/muldiv.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/frame.h"
#include "mm/gmem.h"
#include "platform/gwalk.h"

#define DUMP_MAX	4096u

#define for_each_vm(vm) for (u32 vi_ = 0; ((vm) = guests_get(vi_)); vi_++)

static const struct boot_info *boot;

static const char *const states[] = {"created", "running", "paused", "stopped"};

static int attach(const struct shell_args *args) {
	host_io_attach(args->vm);
	return 0;
}

static int batch(const struct shell_args *args) {
	shell_set_batch(!args->choice);
	return 0;
}

static int cpu_list(const struct shell_args *args __unused) {
	struct cpu *cpu;

	for_each_cpu(cpu) {
		spin_guard(&cpu->queue_lock);
		shell_print("CPU %u: APIC id %u, %u vCPUs, %lu interrupts\n", cpu->id, cpu->apic_id,
			    cpu->nr_queue, cpu->irq_count);
		for (u32 i = 0; i < cpu->nr_queue; i++)
			shell_print("  vCPU %u of '%s'\n", cpu->queue[i]->id,
				    cpu->queue[i]->vm->name);
	}
	return 0;
}

static int dump(const struct shell_args *args) {
	u64 at = args->number[0], length = args->number[1];
	u8 bytes[16];

	if (length > DUMP_MAX) return shell_error(E_RANGE, "at most %u bytes", DUMP_MAX);
	for (u32 n; length; at += n, length -= n) {
		char hex[3 * sizeof(bytes) + 1], ascii[sizeof(bytes) + 1];

		n = (u32)min_u64(length, sizeof(bytes));
		if (gmem_read(args->vm->gmem, at, bytes, n))
			return shell_error(E_FAULT, "%lx is not RAM of '%s'", at, args->vm->name);
		for (u32 i = 0; i < n; i++) {
			snprintf(&hex[3 * i], 4, " %02x", bytes[i]);
			ascii[i] = bytes[i] >= ' ' && bytes[i] < 0x7f ? (char)bytes[i] : '.';
		}
		shell_print("%016lx %-48s  %.*s\n", at, hex, (int)n, ascii);
	}
	return 0;
}

static int help(const struct shell_args *args) {
	const struct command *c = commands;
	bool found = false;

	for (; c < commands + nr_commands; c++) {
		char usage[64];

		if (strlen(c->name) < args->text.len ||
		    memcmp(c->name, args->text.at, args->text.len))
			continue;
		found = true;
		snprintf(usage, sizeof(usage), "%s %s", c->name, c->params);
		shell_print("%-32s %s\n", usage, c->help);
	}
	return found ? 0 : shell_error(E_NOENT, "there is no such command");
}

static int show_log(const struct shell_args *args __unused) {
	char part[1024];
	u64 at = 0;

	/* What comes meanwhile may go on for ever. */
	for (u32 i = 0; i < LOG_SIZE / sizeof(part); i++)
		log_show(SHOW_SHELL, part, log_read(&at, part, sizeof(part)));
	return 0;
}

static int memory(const struct shell_args *args __unused) {
	struct frame_stats stats;
	const struct vm *vm;

	frame_stats(&stats);
	shell_print("%lu KiB, %lu KiB free\n", stats.total * 4, stats.free * 4);
	for (u32 i = 0; i <= FRAME_MAX_ORDER; i++)
		if (stats.blocks[i])
			shell_print("  %6lu free blocks of %lu KiB\n", stats.blocks[i], 4ul << i);
	for_each_vm(vm) shell_print("vm %s: %lu KiB\n", vm->name, vm->gmem->nr_pages * 4);
	return 0;
}

static int modules(const struct shell_args *args __unused) {
	static const char *const faults[] = {
		[MODULE_OK] = "",
		[MODULE_EMPTY] = ", unusable: empty",
		[MODULE_OUTSIDE_RAM] = ", unusable: outside of the memory",
		[MODULE_OVERLAP] = ", unusable: overlaps",
	};

	for (u32 i = 0; i < boot->nr_modules; i++) {
		const struct boot_module *m = &boot->module[i];

		shell_print("%-24s %10lu bytes at %lx%s\n", m->name, m->end - m->start, m->start,
			    faults[m->fault]);
	}
	return 0;
}

static int do_panic(const struct shell_args *args __unused) { panic("asked for at the console"); }

static int poweroff(const struct shell_args *args __unused) {
	power_off();
	return 0;
}

static int reboot(const struct shell_args *args __unused) {
	power_reboot();
	return 0;
}

/* On the vCPU's CPU, so all that its guest has is saved where the back end finds it. */
static int regs(const struct shell_args *args) {
	static const char *const gprs[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					   "r8",  "r9",	 "r10", "r11", "r12", "r13", "r14", "r15"};
	static const char *const segs[] = {"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};
	static const char *const vregs[] = {
		"cr0",	       "cr2",	"cr3",	      "cr4",	   "efer",	  "dr6",
		"dr7",	       "gdtr",	"gdtr.limit", "idtr",	   "idtr.limit",  "star",
		"lstar",       "cstar", "sfmask",     "kernel_gs", "sysenter_cs", "sysenter_sp",
		"sysenter_ip", "pat",	"tsc_aux",    "debugctl",  "xcr0"};
	struct vcpu *vcpu = args->vcpu;
	struct segment s;

	shell_print("%-11s %016lx  rflags %lx%s\n", "rip", vcpu->rip, vcpu->rflags,
		    vcpu->l2 ? ", in a guest of the guest" : "");
	for (u32 i = 0; i < NR_GPRS; i++)
		shell_print("%-11s %016lx%s", gprs[i], vcpu->gpr[i], i % 2 ? "\n" : "  ");
	for (u32 i = 0; i < NR_SEGS; i++) {
		vcpu_segment(vcpu, i, &s);
		shell_print("%-11s %04x base %016lx limit %08x attributes %04x\n", segs[i],
			    s.selector, s.base, s.limit, s.attr);
	}
	for (u32 i = 0; i < NR_VREGS; i++)
		shell_print("%-11s %016lx%s", vregs[i], vcpu_reg(vcpu, i),
			    i % 2 || i == NR_VREGS - 1 ? "\n" : "  ");
	return 0;
}

/* Exits a second since the last time, of `seen` exits then. */
static u64 rate(const struct vcpu *vcpu, u64 count, u64 seen) {
	u64 ticks = time_tsc() - max_u64(vcpu->exits_seen_tsc, vcpu->vm->boot_tsc);

	return mul_div(count - seen, tsc_khz * 1000, ticks | 1);
}

/* Counts by reason, of one vCPU of the VM or of all. */
static void show_exits(const struct vm *vm, const struct vcpu *only) {
	u32 from = only ? only->id : 0, to = only ? from + 1 : vm->nr_vcpus;

	for (u32 i = from; i < to; i++) {
		const struct vcpu *vcpu = vm->vcpus[i];
		u64 count = 0, seen = 0;

		for (u32 reason = 0; reason < backend->nr_exits; reason++) {
			count += vcpu->exit_counts[reason];
			seen += vcpu->exits_seen[reason];
		}
		shell_print("vm %s, vCPU %u: %lu exits, %lu/s\n", vm->name, i, count,
			    rate(vcpu, count, seen));
	}
	for (u32 reason = 0; reason < backend->nr_exits; reason++) {
		u64 count = 0, per_second = 0;

		for (u32 i = from; i < to; i++) {
			struct vcpu *vcpu = vm->vcpus[i];
			u64 now = vcpu->exit_counts[reason];

			count += now;
			per_second += rate(vcpu, now, vcpu->exits_seen[reason]);
			vcpu->exits_seen[reason] = now;
		}
		if (count)
			shell_print("%12lu %9lu/s  %s\n", count, per_second,
				    backend->exits[reason].name);
	}
	for (u32 i = from; i < to; i++) vm->vcpus[i]->exits_seen_tsc = time_tsc();
}

static int stat(const struct shell_args *args) {
	const struct vm *vm;

	for_each_vm(vm)
		if (!args->vm || args->vm == vm) show_exits(vm, args->vcpu);
	return 0;
}

static int translate(const struct shell_args *args) {
	u64 gva = args->number[0], gpa, hpa = 0;
	struct gwalk walk;
	struct fault fault;
	unsigned shift;

	gwalk_init(&walk, args->vcpu);
	if (!gva_canonical(&walk, gva, 1)) return shell_error(E_RANGE, "not canonical");
	int err = gwalk_translate(&walk, gva, ACCESS_READ | ACCESS_IMPLICIT, &gpa, &fault);
	if (err == E_FAULT)
		return shell_error(err, "exception %u, error code %x, address %lx", fault.vector,
				   fault.error, fault.address);
	if (err) return err;
	bool ram = gmem_find(args->vm->gmem, gpa, &hpa, &shift);
	shell_print("%lx is guest physical %lx, ", gva, gpa);
	shell_print(ram ? "host physical %lx\n" : "no RAM\n", hpa);
	return 0;
}

static int version(const struct shell_args *args __unused) {
	shell_print("Roost " ROOST_VERSION ", %s, %u CPUs\n", backend ? backend->name : "no guests",
		    nr_cpus);
	return 0;
}

static int vm_list(const struct shell_args *args __unused) {
	const struct vm *vm;

	for_each_vm(vm)
		shell_print("%-16s %-8s %2u vCPUs %s\n", vm->name, states[atomic_load(&vm->state)],
			    vm->nr_vcpus, vm->stop_reason);
	return 0;
}

static int vm_show(const struct shell_args *args) {
	static const char *const mp_states[] = {"running", "halted", "waits for a start-up IPI"};
	const struct vm *vm = args->vm;
	const struct vcpu *vcpu;

	shell_print("%s: %s, %lu KiB, %u vCPUs %s\n", vm->name, states[atomic_load(&vm->state)],
		    vm->gmem->nr_pages * 4, vm->nr_vcpus, vm->stop_reason);
	for_each_vcpu(vcpu, vm)
		shell_print("  vCPU %u: CPU %u, %s\n", vcpu->id, vcpu->cpu,
			    mp_states[atomic_load(&vcpu->mp_state)]);
	return 0;
}

const struct command commands[] = {
	{"attach", "VM", "give the VM the console; Ctrl-] gives it back", attach, 0},
	{"batch", "on|off", "no prompt and no echo; each command ends in ok or error", batch, 0},
	{"cpu list", "", "the CPUs in use and the vCPUs on each", cpu_list, 0},
	{"dump", "VM ADDRESS LENGTH", "guest physical memory", dump, 0},
	{"help", "[COMMAND]", "this list, or the part that begins like that", help, 0},
	{"log", "", "Roost's last messages", show_log, 0},
	{"memory", "", "how much there is, the free blocks by size, the VMs' shares", memory, 0},
	{"modules", "", "what the boot loader brought", modules, 0},
	{"panic", "", "stop with a report, to see one", do_panic, COMMAND_DANGEROUS},
	{"poweroff", "", "switch the machine off", poweroff, COMMAND_DANGEROUS},
	{"reboot", "", "restart the machine", reboot, COMMAND_DANGEROUS},
	{"regs", "VM VCPU", "the registers of a vCPU", regs, COMMAND_ON_VCPU},
	{"stat", "[VM] [VCPU]", "exits by reason, and a second since last time", stat, 0},
	{"translate", "VM VCPU ADDRESS", "a guest linear address", translate, COMMAND_ON_VCPU},
	{"version", "", "of Roost, and what runs the guests", version, 0},
	{"vm list", "", "the VMs and their states", vm_list, 0},
	{"vm show", "VM", "one VM and its vCPUs", vm_show, 0},
};
const u32 nr_commands = ARRAY_SIZE(commands);

void commands_init(const struct boot_info *info) {
	boot = info;
	for (u32 i = 1; i < nr_commands; i++)
		if (strcmp(commands[i - 1].name, commands[i].name) >= 0)
			panic("entry %u of the table of commands is out of order", i);
}
