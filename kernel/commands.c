/* The commands of the shell: one table, and what each does. docs/console.md describes them. */
#include "boot/bootinfo.h"
#include "kernel/backend.h"
#include "kernel/host_io.h"
#include "kernel/cpu.h"
#include "kernel/guests.h"
#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/power.h"
#include "kernel/shell.h"
#include "kernel/vm.h"
#include "lib/printf.h"
#include "mm/frame.h"
#include "mm/gmem.h"
#include "platform/gwalk.h"

#define for_each_vm(vm) for (u32 vi_ = 0; ((vm) = guests_get(vi_)); vi_++)

static const struct boot_info *boot;

static void attach(const struct shell_args *args) {
	shell_print("'%s' has the console now, until Ctrl-]\n", args->vm->name);
	shell_attach(args->vm);
}

static void batch(const struct shell_args *args) { shell_set_batch(!args->choice); }

static void cpu_list(const struct shell_args *args __unused) {
	const struct cpu *cpu;
	const struct vm *vm;
	const struct vcpu *vcpu;

	for_each_cpu(cpu) {
		shell_print("CPU %u: APIC id %u, %u vCPUs, %lu interrupts\n", cpu->id, cpu->apic_id,
			    atomic_load(&cpu->nr_vcpus), cpu->irq_count);
		for_each_vm(vm)
			for_each_vcpu(vcpu, vm)
				if (atomic_load(&vm->active) && vcpu->cpu == cpu->id)
					shell_print("  vCPU %u of '%s'\n", vcpu->id, vm->name);
	}
}

static void dump(const struct shell_args *args) {
	u64 at = args->number[0], length = args->number[1];
	u8 bytes[16];

	if (length > 4096) return shell_error("at most 4096 bytes");
	for (u32 n; length; at += n, length -= n) {
		char hex[3 * sizeof(bytes) + 1], ascii[sizeof(bytes) + 1];

		n = (u32)min_u64(length, sizeof(bytes));
		if (gmem_read(args->vm->gmem, at, bytes, n))
			return shell_error("%lx is not RAM of '%s'", at, args->vm->name);
		for (u32 i = 0; i < n; i++) {
			snprintf(&hex[3 * i], 4, " %02x", bytes[i]);
			ascii[i] = bytes[i] >= ' ' && bytes[i] < 0x7f ? (char)bytes[i] : '.';
		}
		shell_print("%016lx %-48s  %.*s\n", at, hex, (int)n, ascii);
	}
}

static void help(const struct shell_args *args) {
	bool found = false;

	for (const struct command *c = commands; c < commands + nr_commands; c++) {
		if (!text_begins(text_of(c->name), args->text)) continue;
		found = true;
		shell_print("%-11s %-20s %s\n", c->name, c->params, c->help);
	}
	if (!found) shell_error("there is no such command");
}

static void show_log(const struct shell_args *args __unused) {
	char part[1024];
	u64 at = 0;

	/* What comes meanwhile may go on for ever. */
	for (u32 i = 0; i < LOG_SIZE / sizeof(part); i++)
		log_show(SHOW_SHELL, part, log_read(&at, part, sizeof(part)));
}

static void memory(const struct shell_args *args __unused) {
	struct frame_stats stats;
	const struct vm *vm;

	frame_stats(&stats);
	shell_print("%lu KiB, %lu KiB free\n", stats.total * 4, stats.free * 4);
	for (u32 i = 0; i <= FRAME_MAX_ORDER; i++)
		if (stats.blocks[i])
			shell_print("  %6lu free blocks of %lu KiB\n", stats.blocks[i], 4ul << i);
	for_each_vm(vm)
		shell_print("vm %s: %lu KiB, console %u KiB\n", vm->name, vm->gmem->nr_pages * 4,
			    CONSOLE_SCROLLBACK >> 10);
}

static void modules(const struct shell_args *args __unused) {
	/* By enum module_fault. */
	static const char *const faults[] = {"", ": empty", ": outside of RAM", ": overlaps"};

	for (u32 i = 0; i < boot->nr_modules; i++) {
		const struct boot_module *m = &boot->module[i];

		shell_print("%-24s %10lu bytes at %lx%s\n", m->name, m->end - m->start, m->start,
			    faults[m->fault]);
	}
}

static void send(const struct shell_args *args) {
	if (atomic_load(&args->vm->state) != VM_RUNNING)
		return shell_error("'%s' does not run", args->vm->name);
	u32 sent = console_send(args->vm, args->text.at, args->text.len);
	if (sent < args->text.len || !console_send(args->vm, "\r", 1))
		shell_error("it does not read: %u characters are on their way", sent);
}

enum { END_PANIC, END_POWEROFF, END_REBOOT };

static void end(const struct shell_args *args) {
	if (args->choice == END_PANIC) panic("asked for at the console");
	if (args->choice == END_POWEROFF) power_off();
	power_reboot();
}

/* On the vCPU's CPU: all that its guest has is where the back end finds it. */
static void regs(const struct shell_args *args) {
	struct text names = text_of(
		"rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 cr0 cr2 cr3 cr4 "
		"efer "
		"dr6 dr7 gdtr gdtr.limit idtr idtr.limit star lstar cstar sfmask kernel_gs "
		"sysenter_cs "
		"sysenter_sp sysenter_ip pat tsc_aux debugctl xcr0 es cs ss ds fs gs ldtr tr");
	struct text word;
	struct vcpu *vcpu = args->vcpu;

	shell_print("%-11s %016lx  rflags %lx%s", "rip", vcpu->rip, vcpu->rflags,
		    vcpu->l2 ? ", in a guest of the guest" : "");
	for (u32 i = 0; i < NR_GPRS + NR_VREGS && text_next_word(&names, &word); i++)
		shell_print("%s%-11.*s %016lx", i % 2 ? "  " : "\n", (int)word.len, word.at,
			    i < NR_GPRS ? vcpu->gpr[i] : vcpu_reg(vcpu, i - NR_GPRS));
	for (u32 i = 0; i < NR_SEGS && text_next_word(&names, &word); i++) {
		struct segment s;

		vcpu_segment(vcpu, i, &s);
		shell_print("\n%-11.*s %04x base %016lx limit %08x attributes %04x", (int)word.len,
			    word.at, s.selector, s.base, s.limit, s.attr);
	}
	shell_print("\n");
}

/* Counts by reason, and how many a second since this was shown last. */
static void show_exits(struct vcpu *vcpu) {
	u64 hz = tsc_khz * 1000, all = 0, all_new = 0;
	u64 ticks = time_tsc() - max_u64(vcpu->exits_seen_tsc, vcpu->vm->boot_tsc) + 1;

	for (u32 reason = 0; reason < backend->nr_exits; reason++) {
		u64 count = vcpu->exit_counts[reason], new = count - vcpu->exits_seen[reason];

		all += count;
		all_new += new;
		vcpu->exits_seen[reason] = count;
		if (count)
			shell_print("%12lu %9lu/s  %s\n", count, mul_div(new, hz, ticks),
				    backend->exits[reason].name);
	}
	shell_print("%12lu %9lu/s  vm %s, vCPU %u\n", all, mul_div(all_new, hz, ticks),
		    vcpu->vm->name, vcpu->id);
	vcpu->exits_seen_tsc = time_tsc();
}

static void sched(const struct shell_args *args __unused) {
	const struct vcpu *vcpu;
	const struct vm *vm;

	for_each_vm(vm)
		for_each_vcpu(vcpu, vm) {
			const struct vcpu_sched *s = &vcpu->sched;

			shell_print("vm %s, vCPU %u, CPU %u: ran %lu us in %lu turns, waits",
				    vm->name, vcpu->id, vcpu->cpu,
				    tsc_to_ns(sched_ran(vcpu)) / 1000, s->switches);
			for (u32 i = 0; i < SCHED_LATENCIES; i++) shell_print(" %u", s->latency[i]);
			shell_print("\n");
		}
}

static void stat(const struct shell_args *args) {
	const struct vm *vm;
	struct vcpu *vcpu;

	for_each_vm(vm)
		for_each_vcpu(vcpu, vm)
			if ((!args->vm || args->vm == vm) && (!args->vcpu || args->vcpu == vcpu))
				show_exits(vcpu);
}

static void translate(const struct shell_args *args) {
	u64 gva = args->number[0], gpa, hpa = 0;
	struct gwalk walk;
	struct fault fault;
	unsigned shift;

	gwalk_init(&walk, args->vcpu);
	if (!gva_canonical(&walk, gva, 1)) return shell_error("not canonical");
	int err = gwalk_translate(&walk, gva, ACCESS_READ | ACCESS_IMPLICIT, &gpa, &fault);
	if (err == E_FAULT)
		return shell_error("exception %u, error code %x, address %lx", fault.vector,
				   fault.error, fault.address);
	if (err) return shell_error("other vCPUs change its page tables");
	bool ram = gmem_find(args->vm->gmem, gpa, &hpa, &shift);
	shell_print("%lx is guest physical %lx, ", gva, gpa);
	shell_print(ram ? "host physical %lx\n" : "no RAM\n", hpa);
}

static void version(const struct shell_args *args __unused) {
	shell_print("Roost " ROOST_VERSION ", %s, %u CPUs\n", backend ? backend->name : "no guests",
		    nr_cpus);
}

static void vm_list(const struct shell_args *args) {
	static const char *const mp_states[] = {"running", "halted", "waits for a start-up IPI"};
	const struct vcpu *vcpu;
	struct vm *vm;

	for_each_vm(vm) {
		if (args->vm && args->vm != vm) continue;
		shell_print("%-16s %-8s %2u vCPUs %8lu KiB %s\n", vm->name,
			    guest_states[guests_state(vm)], vm->nr_vcpus, vm->gmem->nr_pages * 4,
			    vm->stop_reason);
		if (!args->vm) continue;
		for_each_vcpu(vcpu, vm)
			shell_print("  vCPU %u: CPU %u, %s\n", vcpu->id, vcpu->cpu,
				    mp_states[atomic_load(&vcpu->mp_state)]);
	}
}

/* Makes one, or does to one what the command's number says. */
static void vm_do(const struct shell_args *args) {
	struct guest_error error;
	int err = !args->vm			 ? guests_create(args->word, args->text, &error)
		  : args->choice > GUEST_DESTROY ? guests_set(args->vm, args->text, &error)
						 : guests_do(args->vm, args->choice, &error);

	if (err) shell_error("%s", error.text);
}

/* The pages written, as the words of the log that are not 0: the first page's address, 64 bits. */
static int take_log(struct gmem *gm) {
	u64 word, written = 0, lines = 0;

	gmem_log_collect(gm);
	for (u64 gfn = 0; gfn < gm->end >> PAGE_SHIFT; gfn += 64) {
		int err = gmem_log_take(gm, gfn, &word);

		if (err) return err;
		if (word && lines++ < 256) shell_print("%012lx %016lx\n", gfn << PAGE_SHIFT, word);
		for (; word; word &= word - 1) written++;
	}
	shell_print("%lu of %lu pages written\n", written, gm->nr_pages);
	return 0;
}

static void vm_dirty(const struct shell_args *args) {
	static int (*const what[])(struct gmem * gm) = {gmem_log_start, take_log, gmem_log_stop};
	struct gmem *gm = args->vm->gmem;
	u64 generation = pt_generation(&gm->pt);
	bool flushed = true;
	struct vcpu *vcpu;

	/* Tables that the last `off` has replaced come back when no vCPU can know them any more. */
	for_each_vcpu(vcpu, args->vm) flushed &= !(atomic_load(&vcpu->requests) & REQ_TLB_FLUSH);
	if (flushed) pt_reclaim(&gm->pt, generation);
	int err = what[args->choice](gm);
	/* What the vCPUs remember of the tables is old (mm/gmem.h): the answer comes behind that.
	 */
	for_each_vcpu(vcpu, args->vm) vcpu_request(vcpu, REQ_TLB_FLUSH);
	if (err) shell_error(err == E_BUSY ? "not in this state" : "not enough memory");
}

const struct command commands[] = {
	{"attach", "VM", "give the VM the console; Ctrl-] gives it back", attach, 0, 0},
	{"batch", "on|off", "no prompt and no echo; each command ends in ok or error", batch, 0, 0},
	{"cpu list", "", "the CPUs in use and the vCPUs on each", cpu_list, 0, 0},
	{"dump", "VM ADDRESS LENGTH", "guest physical memory", dump, 0, 0},
	{"help", "[COMMAND]", "this list, or the part that begins like that", help, 0, 0},
	{"log", "", "Roost's last messages", show_log, 0, 0},
	{"memory", "", "total and free, by size of block; the VMs' shares", memory, 0, 0},
	{"modules", "", "what the boot loader brought", modules, 0, 0},
	{"panic", "", "stop with a report, to see one", end, COMMAND_ASKS, END_PANIC},
	{"poweroff", "", "switch the machine off", end, COMMAND_ASKS, END_POWEROFF},
	{"reboot", "", "restart the machine", end, COMMAND_ASKS, END_REBOOT},
	{"regs", "VM VCPU", "the registers of a vCPU", regs, COMMAND_ON_VCPU, 0},
	{"sched", "", "time and turns of vCPUs, waits to run of <10 us, <100 us...", sched, 0, 0},
	{"send", "VM TEXT", "types a line at the VM's console", send, 0, 0},
	{"stat", "[VM] [VCPU]", "exits by reason, and a second since last time", stat, 0, 0},
	{"translate", "VM VCPU ADDRESS", "a guest linear address", translate, COMMAND_ON_VCPU, 0},
	{"version", "", "of Roost, and what runs the guests", version, 0, 0},
	{"vm create", "NAME TEXT", "a VM, from key=value words as in roost.conf", vm_do, 0, 0},
	{"vm destroy", "VM", "give all its memory back", vm_do, COMMAND_ASKS, GUEST_DESTROY},
	{"vm dirty", "VM on|get|off", "which pages are written", vm_dirty, COMMAND_SETTLES, 0},
	{"vm list", "", "the VMs and their states", vm_list, 0, 0},
	{"vm pause", "VM", "its vCPUs stand still, its clocks go on", vm_do, 0, GUEST_PAUSE},
	{"vm reset", "VM", "as its reset button does", vm_do, COMMAND_ASKS, GUEST_RESET},
	{"vm resume", "VM", "after a pause", vm_do, 0, GUEST_RESUME},
	{"vm set", "VM TEXT", "weight, cap, pin, on-crash", vm_do, 0, GUEST_DESTROY + 1},
	{"vm show", "VM", "one VM and its vCPUs", vm_list, 0, 0},
	{"vm shutdown", "VM", "press its power button", vm_do, 0, GUEST_SHUTDOWN},
	{"vm start", "VM", "from the beginning", vm_do, 0, GUEST_START},
	{"vm stop", "VM", "switch it off", vm_do, COMMAND_ASKS, GUEST_STOP},
};
const u32 nr_commands = ARRAY_SIZE(commands);

void commands_init(const struct boot_info *info) { boot = info; }
