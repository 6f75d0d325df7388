/*
 * From a configuration to running guests, and what comes after: reset, end, on-idle.
 *
 * A VM is made once. Starting it, first or after a reset, is always the same: clear its memory,
 * reset its platform and its vCPUs, load its images, give its vCPUs to the schedulers.
 */
#include "kernel/guests.h"

#include "boot/bootinfo.h"
#include "kernel/backend.h"
#include "kernel/cmdline.h"
#include "kernel/config.h"
#include "kernel/cpu.h"
#include "kernel/host_io.h"
#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/power.h"
#include "kernel/sched.h"
#include "kernel/shell.h"
#include "kernel/space.h"
#include "kernel/vm.h"
#include "lib/string.h"
#include "lib/x86.h"
#include "mm/direct.h"
#include "mm/frame.h"
#include "mm/gmem.h"
#include "platform/cpu_model.h"
#include "platform/demo.h"
#include "platform/fetch.h"
#include "platform/kvm_pv.h"
#include "platform/layout.h"
#include "platform/load.h"
#include "platform/msr.h"
#include "platform/platform.h"

#define MAX_GUESTS CONFIG_MAX_VMS

struct guest {
	struct vm vm;
	struct gmem gmem;
	struct cpu_model model;
	const struct vm_config *config;
	bool demo;	/* the image inside Roost instead of a module */
	bool restarted; /* memory must be cleared before it is loaded again */
};

static struct guest *guests[MAX_GUESTS];
static u32 nr_guests;
static _Atomic u32 nr_alive;
static const struct boot_info *boot;
static enum on_idle on_idle;
static bool any_crash;
static u32 planned[MAX_CPUS]; /* vCPUs made for each CPU, which its queue has room for */
static struct config config;

struct vm *guests_get(u32 index) {
	return index < nr_guests ? &guests[index]->vm : NULL;
}

static struct guest *guest_of(struct vm *vm) { return container_of(vm, struct guest, vm); }

bool guest_input(struct vm *vm, u8 byte) {
	return atomic_load(&vm->state) == VM_RUNNING && uart_rx(&vm->platform->uart, byte);
}

static void console_tx(void *ctx, u8 byte) { host_io_guest_output(ctx, byte); }

static void console_room(void *ctx) { host_io_guest_room(ctx); }

/* ---- making a VM ---- */

static void destroy(struct guest *g) {
	struct vm *vm = &g->vm;

	platform_destroy(vm);
	for (u32 i = 0; i < vm->nr_vcpus; i++) {
		struct vcpu *vcpu = vm->vcpus[i];

		planned[vcpu->cpu]--;
		backend->vcpu_destroy(vcpu);
		page_free(vcpu, 2 * PAGE_SIZE);
	}
	gmem_destroy(&g->gmem);
	page_free(g, sizeof(*g));
}

/* A vCPU, its parts that the platform keeps and its exit counters share one block of two pages. */
struct vcpu_block {
	struct vcpu vcpu;
	struct kvm_pv pv;
	struct msr_state msrs;
	struct fetch_cache fetch[2];
	u64 exit_counts[256];
};

_Static_assert(sizeof(struct vcpu_block) <= 2 * PAGE_SIZE, "two pages a vCPU");

static int create_vcpu(struct vm *vm, u32 id) {
	struct vcpu_block *block = page_alloc(2 * PAGE_SIZE);

	if (!block) return E_NOMEM;
	struct vcpu *vcpu = &block->vcpu;
	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->backend = backend;
	vcpu->pv = &block->pv;
	vcpu->msrs = &block->msrs;
	vcpu->fetch = vcpu->fetches[0] = &block->fetch[0];
	vcpu->fetches[1] = &block->fetch[1];
	vcpu->exit_counts = block->exit_counts;
	vcpu->cpu = (vm->id + id) % nr_cpus;
	if (planned[vcpu->cpu] == SCHED_QUEUE || backend->vcpu_create(vcpu)) {
		page_free(block, 2 * PAGE_SIZE);
		return E_NOMEM;
	}
	planned[vcpu->cpu]++;
	vm->vcpus[id] = vcpu;
	vm->nr_vcpus = id + 1;
	return 0;
}

static int build_model(struct guest *g) {
	const struct cpu_model_host host = {
		.host_cpuid = cpuid,
		.no_xsavec = !cpu_features.xsavec,
		.host_xcr0 = cpu_features.xcr0,
		/* What four levels of nested paging translate. */
		.gpa_bits = (u8)min_u64(cpu_features.phys_bits, 48),
		.is_amd = cpu_features.amd,
	};
	const struct cpu_model_config model = {
		.nr_vcpus = g->config->cpus,
		.tsc_khz = tsc_khz,
		.dedicated = g->config->cpus <= nr_cpus,
		.nested = g->config->nested,
	};

	g->vm.cpu_model = &g->model;
	return cpu_model_build(&g->model, &host, &model);
}

static int add_memory(struct guest *g) {
	const struct gmem_config gmem = {
		.max_leaf_order = g->config->leaf_order,
		.lazy = g->config->lazy,
	};
	struct guest_range ram[LAYOUT_MAX_RAM];
	u32 n = layout_ram(g->config->memory, ram);
	int err = gmem_create(&g->gmem, backend->pt_format, &gmem);

	g->vm.gmem = &g->gmem;
	for (u32 i = 0; i < n && !err; i++) err = gmem_add_ram(&g->gmem, ram[i].base, ram[i].size);
	return err;
}

static int build(struct guest *g) {
	struct vm *vm = &g->vm;
	struct platform_options options = {
		.memory = g->config->memory,
		.debug_exit = g->config->debug_exit,
		.console = {.tx = console_tx, .room = console_room, .ctx = vm},
	};
	int err = add_memory(g);

	if (!err) err = build_model(g);
	options.phys_bits = g->model.phys_bits;
	for (u32 i = 0; i < g->config->cpus && !err; i++) err = create_vcpu(vm, i);
	return err ? err : platform_create(vm, &options);
}

static void report_build(const struct vm_config *c, int err) {
	struct frame_stats stats;

	frame_stats(&stats);
	if (err == E_NOMEM)
		log_error("vm %s: not enough memory: %lu KiB wanted, %lu KiB free", c->name,
			  c->memory >> 10, stats.free * 4);
	else
		log_error("vm %s: could not be made (error %d)", c->name, err);
}

static struct guest *create(const struct vm_config *c) {
	struct guest *g = page_alloc(sizeof(*g));
	int err = E_NOMEM;

	if (g) {
		g->config = c;
		g->vm.id = nr_guests;
		str_copy(g->vm.name, sizeof(g->vm.name), c->name);
		err = build(g);
	}
	if (!err) return g;
	report_build(c, err);
	if (g) destroy(g);
	return NULL;
}

/* ---- starting it ---- */

static void set_blob(struct blob *out, const struct boot_module *m) {
	out->data = phys_to_virt(m->start);
	out->size = m->end - m->start;
	out->name = m->name;
}

static void fill_spec(const struct guest *g, struct load_spec *spec, struct load_module *modules) {
	static const enum load_kind kinds[] = {
		[CONFIG_BOOT_AUTO] = LOAD_AUTO,
		[CONFIG_BOOT_LINUX] = LOAD_LINUX,
		[CONFIG_BOOT_MULTIBOOT] = LOAD_MULTIBOOT,
	};
	const struct vm_config *c = g->config;

	*spec = (struct load_spec){
		.kind = kinds[c->boot], .cmdline = c->cmdline, .modules = modules};
	if (g->demo) {
		spec->kernel.data = demo_image;
		spec->kernel.size = (u64)(demo_image_end - demo_image);
		spec->kernel.name = "demo";
		return;
	}
	set_blob(&spec->kernel, c->kernel);
	if (c->initrd) set_blob(&spec->initrd, c->initrd);
	spec->nr_modules = c->nr_modules;
	for (u32 i = 0; i < c->nr_modules; i++) {
		set_blob(&modules[i].blob, c->modules[i].module);
		modules[i].args = c->modules[i].args;
	}
}

static int clear_memory(struct guest *g) {
	struct guest_range ram[LAYOUT_MAX_RAM];
	u32 n = layout_ram(g->config->memory, ram);

	for (u32 i = 0; i < n; i++)
		if (gmem_fill(&g->gmem, ram[i].base, 0, ram[i].size)) return E_FAULT;
	return 0;
}

static void reset_vcpus(struct vm *vm) {
	struct vcpu *vcpu;

	vm->boot_tsc = time_tsc();
	for_each_vcpu(vcpu, vm) {
		atomic_store(&vcpu->requests, REQ_EVENT);
		atomic_store(&vcpu->nmi_pending, 0);
		atomic_store(&vcpu->mp_state, vcpu->id ? MP_WAIT_SIPI : MP_RUNNING);
		memset(vcpu->pv, 0, sizeof(*vcpu->pv));
		memset(vcpu->fetches[0], 0, 2 * sizeof(*vcpu->fetch));
		vcpu->tsc_offset = 0 - vm->boot_tsc;
		msr_reset(vcpu);
		msr_firmware_mtrrs(vcpu, LAYOUT_PCI_HOLE);
		vcpu_reset(vcpu, false);
	}
}

static bool start(struct guest *g) {
	static struct load_module modules[LOAD_MAX_MODULES];
	struct vm *vm = &g->vm;
	struct load_error error = {""};
	struct boot_state state = {0};
	struct load_spec spec;

	fill_spec(g, &spec, modules);
	if (g->restarted && clear_memory(g)) return false;
	g->restarted = true;
	platform_reset(vm);
	reset_vcpus(vm);
	if (load_guest(vm, g->config->memory, &spec, &state, &error)) {
		log_error("vm %s: %s", vm->name, error.text);
		return false;
	}
	boot_state_apply(vm->vcpus[0], &state);
	vm->end = VM_END_NONE;
	vm->stop_reason[0] = 0;
	atomic_store(&vm->active, vm->nr_vcpus);
	atomic_store(&vm->state, VM_RUNNING);
	for (u32 i = 0; i < vm->nr_vcpus; i++)
		if (sched_add(vm->vcpus[i]))
			panic("no room for vCPU %u of '%s' in its CPU's queue", i, vm->name);
	return true;
}

/* ---- its end ---- */

void vm_end(struct vm *vm, enum vm_end how) {
	struct vcpu *vcpu;

	spin_lock(&vm->lock);
	bool first = vm->end == VM_END_NONE;
	if (first) vm->end = how;
	spin_unlock(&vm->lock);
	if (!first) return;
	atomic_store(&vm->state, VM_STOPPED);
	for_each_vcpu(vcpu, vm) vcpu_request(vcpu, REQ_STOP);
}

static void report_crash(const struct vm *vm) {
	log_error("vm %s: stopped: %s", vm->name, vm->stop_reason);
	for (u32 v = 0; v < vm->nr_vcpus; v++) {
		const struct vcpu *vcpu = vm->vcpus[v];

		for (u32 i = 1; i <= VCPU_TRACE && i <= vcpu->nr_exits; i++) {
			const struct vcpu_trace *t =
				&vcpu->trace[(vcpu->nr_exits - i) % VCPU_TRACE];

			log_info("vm %s: vCPU %u exit -%u: %s at %lx", vm->name, vcpu->id, i,
				 vcpu->backend->exit_name(t->reason), t->rip);
		}
	}
}

/* How often which exit came, for those who ask for it by loglevel=debug. */
static void report_exits(const struct vm *vm) {
	for (u32 reason = 0; reason < backend->nr_exit_reasons; reason++) {
		u64 count = 0;

		for (u32 v = 0; v < vm->nr_vcpus; v++) count += vm->vcpus[v]->exit_counts[reason];
		if (count)
			log_debug("vm %s: %lu exits: %s", vm->name, count,
				  backend->exit_name(reason));
	}
}

static void report_end(struct vm *vm) {
	/* A guest can reset itself for ever. */
	static struct log_limit resets = {0, 64};

	report_exits(vm);
	switch (vm->end) {
	case VM_END_POWEROFF: log_info("vm %s: powered off", vm->name); break;
	case VM_END_DEBUG_EXIT:
		log_info("vm %s: debug exit %u", vm->name, vm->debug_exit_value);
		break;
	case VM_END_RESET:
		if (log_allowed(&resets)) log_info("vm %s: reset", vm->name);
		break;
	default:
		any_crash = true;
		report_crash(vm);
		break;
	}
}

/* Nothing runs and nothing will: what the command line wants then. */
static void idle(void) {
	if (on_idle == IDLE_POWEROFF) power_off();
	if (on_idle == IDLE_REBOOT) power_reboot();
	host_io_attach(NULL);
	shell_prompt();
}

static void all_ended(void) {
	log_info("no guest is running");
	power_debug_exit(any_crash ? EXIT_CRASHED : EXIT_ALL_ENDED);
	idle();
}

/* On the CPU of the vCPU that left last; no vCPU of the VM runs any more. */
static void on_ended(struct vm *vm) {
	struct guest *g = guest_of(vm);

	report_end(vm);
	if (vm->end == VM_END_RESET) {
		if (start(g)) return;
		any_crash = true;
	}
	/* No timer of its devices may fire for a VM that is off. */
	platform_reset(vm);
	if (atomic_fetch_sub(&nr_alive, 1) == 1) all_ended();
}

/* ---- start-up ---- */

static void add(const struct vm_config *c, bool demo) {
	struct guest *g = create(c);

	if (!g) {
		any_crash = true;
		return;
	}
	g->demo = demo;
	guests[nr_guests++] = g;
}

/* Nothing was given to run: the guest inside the image shows that it works. */
static void add_demo(void) {
	static struct vm_config demo = {
		.name = "demo",
		.cmdline = "",
		.memory = MiB(32),
		.cpus = 1,
		.leaf_order = FRAME_MAX_ORDER,
		.autostart = true,
	};

	add(&demo, true);
}

static void read_config(u64 free) {
	const struct boot_module *m = boot_module_find(boot, CONFIG_FILE);
	struct text text;

	if (m) {
		text.at = phys_to_virt(m->start);
		text.len = m->end - m->start;
		config_parse(CONFIG_FILE, text, boot, &config);
	} else {
		config_default(boot, &config);
	}
	config_share_memory(&config, free);
}

static void start_all(void) {
	u32 started = 0;

	/* Counted beforehand: a guest may have ended before the next one is started. */
	atomic_store(&nr_alive, nr_guests + 1);
	for (u32 i = 0; i < nr_guests; i++) {
		struct guest *g = guests[i];

		if (!g->config->autostart || !start(g)) {
			any_crash = any_crash || g->config->autostart;
			atomic_fetch_sub(&nr_alive, 1);
			continue;
		}
		log_info("vm %s: started, %lu MiB, %u vCPUs", g->vm.name, g->config->memory >> 20,
			 g->vm.nr_vcpus);
		if (!started++) host_io_attach(&g->vm);
	}
	if (atomic_fetch_sub(&nr_alive, 1) == 1) all_ended();
}

void guests_init(const struct boot_info *info, const struct options *options) {
	struct frame_stats stats;

	u32 bad_msr = msr_table_check(msr_table, msr_table_len);
	if (bad_msr) panic("entry %u of the MSR table is out of order", bad_msr);
	boot = info;
	on_idle = options->on_idle;
	sched_vm_ended = on_ended;
	if (!backend) {
		idle();
		return;
	}
	frame_stats(&stats);
	read_config(stats.free << PAGE_SHIFT);
	for (u32 i = 0; i < config.nr_vms; i++) {
		if (!config.vm[i].cpus) config.vm[i].cpus = (u32)min_u64(nr_cpus, VM_MAX_VCPUS);
		add(&config.vm[i], false);
	}
	if (!boot->nr_modules) add_demo();
	start_all();
}
