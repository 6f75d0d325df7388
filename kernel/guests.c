/*
 * The life of a VM, from its configuration to the return of its memory.
 *
 *   create -> start -> [pause, resume] -> vCPUs leave -> ended() -> restart() -> start
 *                                                               \-> off       -> start, bury()
 *
 * Starting, first or after a reset, is always the same: clear its memory, reset its platform and
 * its vCPUs, load its images, give its vCPUs to the schedulers. The end takes two steps: vm_end(),
 * from any CPU, marks the VM and asks its vCPUs to leave; when the last has left its CPU, CPU 0
 * does the rest in ended(). Everything but vm_end() happens on CPU 0 between two turns of its
 * loop, one thing after the other, so that no lock guards it.
 *
 * Destroying: no vCPU runs, no timer is armed any more. What another CPU has still in its hands (a
 * timer's call, a message between local APICs) it has let go of when it has passed the top of its
 * loop: reap() looks for that each millisecond, and frees then.
 */
#include "kernel/guests.h"

#include "boot/bootinfo.h"
#include "kernel/backend.h"
#include "kernel/cmdline.h"
#include "kernel/config.h"
#include "kernel/cpu.h"
#include "kernel/guest.h"
#include "kernel/host_io.h"
#include "kernel/log.h"
#include "kernel/power.h"
#include "kernel/sched.h"
#include "kernel/shell.h"
#include "kernel/vm.h"
#include "lib/printf.h"
#include "lib/string.h"
#include "mm/direct.h"
#include "mm/frame.h"
#include "mm/gmem.h"
#include "platform/cpu_model.h"
#include "platform/emulate.h"
#include "platform/fetch.h"
#include "platform/kvm_pv.h"
#include "platform/layout.h"
#include "platform/load.h"
#include "platform/msr.h"
#include "platform/platform.h"

_Static_assert(CONFIG_MAX_MODULES <= LOAD_MAX_MODULES, "loaders have room for them");

#define MAX_GUESTS    CONFIG_MAX_VMS
#define QUIET_POLL_NS 1000000ul
#define RESET_MAX_NS  1000000000ul /* the longest wait of a guest that resets itself */
#define CLEAR_NS      500000ul	   /* of clearing memory at a stretch */
#define CLEAR_STEP    MiB(1)

/* What is to follow the end: what the end itself says, or what was asked for since. */
enum next { NEXT_AUTO, NEXT_START, NEXT_OFF, NEXT_DESTROY };

struct guest {
	struct vm vm;
	struct gmem gmem;
	struct cpu_model model;
	struct vm_config config;
	struct timer work; /* on CPU 0: the next step after vCPUs have left */
	struct quiet quiet;
	enum next next;
	bool live;		  /* from its start until ended() has switched it off */
	u64 started, start_ticks; /* when its start was done, how long it took */
	struct config *own;	  /* with the text, of one that was made at the console */
};

/* The demonstration guest, a multiboot image inside Roost's own (platform/blobs.S). */
extern const u8 demo_image[], demo_image_end[];

static struct guest *guests[MAX_GUESTS];
static u32 nr_guests;
static u32 nr_live;
static const struct boot_info *boot;
static u8 on_idle; /* enum on_idle */
static bool any_crash;
static void ended(struct timer *work);
static void restart(struct timer *work);
static struct config config;

struct vm *guests_get(u32 index) {
	return index < nr_guests ? &guests[index]->vm : NULL;
}

bool guests_any(void) { return nr_live; }

static struct guest *guest_of(struct vm *vm) { return container_of(vm, struct guest, vm); }

struct vm *guests_find(struct text name) {
	for (u32 i = 0; i < nr_guests; i++)
		if (text_is(name, guests[i]->vm.name)) return &guests[i]->vm;
	return NULL;
}

enum guest_state guests_state(struct vm *vm) {
	const struct guest *g = guest_of(vm);
	u32 state = atomic_load(&vm->state);

	if (g->next == NEXT_DESTROY) return GUEST_DYING;
	if (!g->live && vm->end == VM_END_CRASH) return GUEST_CRASHED;
	if (g->live && g->work.fn == restart) return GUEST_STARTING;
	if (g->live && vm->end != VM_END_NONE) return GUEST_STOPPING;
	return (enum guest_state)state;
}

static int __format_printf(3, 4) fail(struct guest_error *error, int code, const char *fmt, ...) {
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error->text, sizeof(error->text), fmt, ap);
	va_end(ap);
	return code;
}

/* Nobody at the console has asked for it. */
static void failed(const struct guest_error *error) {
	log_error("%s", error->text);
	any_crash = true;
}

bool guest_input(struct vm *vm, u8 byte) {
	return atomic_load(&vm->state) == VM_RUNNING && uart_rx(&vm->platform->uart, byte);
}

/* ---- making a VM ---- */

static void destroy(struct guest *g) {
	struct vm *vm = &g->vm;

	platform_destroy(vm);
	console_destroy(vm);
	for (u32 i = 0; i < vm->nr_vcpus; i++) {
		struct vcpu *vcpu = vm->vcpus[i];

		backend->vcpu_destroy(vcpu);
		page_free(vcpu, 2 * PAGE_SIZE);
	}
	gmem_destroy(&g->gmem);
	page_free(g->own, sizeof(*g->own));
	page_free(g, sizeof(*g));
}

/* A vCPU, its parts that the platform keeps and its exit counters share one block of two pages. */
struct vcpu_block {
	struct vcpu vcpu;
	struct kvm_pv pv;
	struct msr_state msrs;
	struct fetch_cache fetch[2];
	u64 exit_counts[256], exits_seen[256];
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
	vcpu->exits_seen = block->exits_seen;
	vcpu->cpu = (nr_guests + id) % nr_cpus; /* where the devices' timers are */
	if (backend->vcpu_create(vcpu)) {
		page_free(block, 2 * PAGE_SIZE);
		return E_NOMEM;
	}
	vm->vcpus[id] = vcpu;
	vm->nr_vcpus = id + 1;
	return 0;
}

static int build_model(struct guest *g) {
	const struct cpu_model_host host = {
		.host_cpuid = cpuid,
		.no_xsavec = !cpu_features.xsavec,
		.no_xsaves = !cpu_features.xsaves,
		.host_xcr0 = cpu_features.xcr0,
		/* What four levels of nested paging translate. */
		.gpa_bits = (u8)min_u64(cpu_features.phys_bits, 48),
		.is_amd = cpu_features.amd,
		.vmx_msrs = backend->nested_msrs,
	};
	const struct cpu_model_config model = {
		.nr_vcpus = g->config.cpus,
		.tsc_khz = g->config.tsc_khz ? g->config.tsc_khz : tsc_khz,
		.dedicated = g->config.cpus <= nr_cpus,
		.nested = g->config.nested,
	};

	if (model.tsc_khz != tsc_khz) {
		if (!backend->scales_tsc || !backend->scales_tsc()) return E_RANGE;
		g->vm.tsc_multiplier = mul_div(model.tsc_khz, 1ul << TSC_FRACTION, tsc_khz);
	}
	g->vm.cpu_model = &g->model;
	return cpu_model_build(&g->model, &host, &model);
}

static int add_memory(struct guest *g) {
	const struct gmem_config gmem = {
		.max_leaf = g->config.max_leaf,
		.lazy = g->config.lazy,
	};
	struct guest_range ram[LAYOUT_MAX_RAM];
	u32 n = layout_ram(g->config.memory, ram);
	int err = gmem_create(&g->gmem, backend->pt_format, &gmem);

	g->vm.gmem = &g->gmem;
	for (u32 i = 0; i < n && !err; i++) err = gmem_add_ram(&g->gmem, ram[i].base, ram[i].size);
	return err;
}

static int build(struct guest *g) {
	struct vm *vm = &g->vm;
	struct platform_options options = {
		.memory = g->config.memory,
		.debug_exit = g->config.debug_exit,
		.console = {.tx = console_output, .room = console_room, .ctx = vm},
	};
	const struct uart_backend log = {.tx = console_log, .ctx = vm};
	int err = add_memory(g) ?: console_create(vm);

	if (g->config.log == CONFIG_LOG_COM2) options.com2 = log;
	if (g->config.log == CONFIG_LOG_DEBUG_PORT) options.debug_port = log;

	if (!err) err = build_model(g);
	options.phys_bits = g->model.phys_bits;
	for (u32 i = 0; i < g->config.cpus && !err; i++) err = create_vcpu(vm, i);
	return err ? err : platform_create(vm, &options);
}

static u64 free_memory(void) {
	struct frame_stats stats;

	frame_stats(&stats);
	return stats.free << PAGE_SHIFT;
}

static int report_build(const struct vm_config *c, int err, struct guest_error *error) {
	if (err == E_NOMEM)
		return fail(error, err, "vm %s: not enough memory: %lu KiB wanted, %lu KiB free",
			    c->name, c->memory >> 10, free_memory() >> 10);
	if (err == E_RANGE)
		return fail(error, err, "vm %s: tsc-khz=%u: this CPU cannot scale the TSC, of %lu",
			    c->name, c->tsc_khz, tsc_khz);
	return fail(error, err, "vm %s: could not be made (error %d)", c->name, err);
}

static void apply(struct guest *g) {
	struct vcpu *vcpu;

	g->vm.weight = g->config.weight;
	g->vm.cap = g->config.cap;
	atomic_store(&g->vm.pin, g->config.pin);
	for_each_vcpu(vcpu, &g->vm) vcpu_request(vcpu, REQ_STOP); /* to its scheduler */
}

/* The VM comes to the end of the table. own: where its configuration's text is, NULL: it stays. */
static int create(const struct vm_config *c, struct config *own, struct guest_error *error) {
	static u64 serial;
	struct guest *g;

	if (nr_guests == MAX_GUESTS)
		return fail(error, E_NOMEM, "vm %s: there are %u VMs already", c->name, nr_guests);
	int err = (g = page_alloc(sizeof(*g))) ? 0 : E_NOMEM;
	if (g) {
		g->config = *c;
		g->vm.serial = ++serial;
		apply(g);
		memcpy(g->vm.name, c->name, sizeof(g->vm.name));
		timer_init(&g->work, ended, 0);
		err = build(g);
	}
	if (err) {
		err = report_build(c, err, error);
		if (g) destroy(g);
		return err;
	}
	g->own = own;
	guests[nr_guests++] = g;
	return 0;
}

/* ---- starting it ---- */

static void set_blob(struct blob *out, const struct boot_module *m) {
	out->data = phys_to_virt(m->start);
	out->size = m->end - m->start;
	out->name = m->name;
}

static void fill_spec(const struct guest *g, struct load_spec *spec, struct load_module *modules) {
	const struct vm_config *c = &g->config;

	*spec = (struct load_spec){.kind = c->boot, .cmdline = c->cmdline, .modules = modules};
	if (c->kernel)
		set_blob(&spec->kernel, c->kernel);
	else
		spec->kernel =
			(struct blob){demo_image, (u64)(demo_image_end - demo_image), "demo"};
	if (c->initrd) set_blob(&spec->initrd, c->initrd);
	spec->nr_modules = c->nr_modules;
	for (u32 i = 0; i < c->nr_modules; i++) {
		set_blob(&modules[i].blob, c->modules[i].module);
		modules[i].args = c->modules[i].args;
	}
}

/*
 * Clears some of its memory. False: there is more, and g->work will come when the others on this
 * CPU have had as much time.
 */
static bool clear(struct guest *g) {
	u64 begin = time_tsc(), now;
	bool done;

	do {
		done = gmem_clear(&g->gmem, CLEAR_STEP);
		now = time_tsc();
	} while (!done && now - begin < ns_to_tsc(CLEAR_NS));
	g->start_ticks += now - begin;
	if (!done) timer_arm(&g->work, 2 * now - begin);
	return done;
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
		vcpu->tsc_offset = 0 - vm_tsc(vm, vm->boot_tsc);
		msr_reset(vcpu);
		msr_firmware_mtrrs(vcpu, LAYOUT_PCI_HOLE);
		vcpu_reset(vcpu, false);
	}
}

/* check: it only finds out whether it could. */
static int load(struct guest *g, bool check, struct boot_state *state, struct guest_error *error) {
	static struct load_module modules[CONFIG_MAX_MODULES];
	struct load_error why = {""};
	struct load_spec spec;

	fill_spec(g, &spec, modules);
	spec.check = check;
	int err = load_guest(&g->vm, g->config.memory, &spec, state, &why);
	return err ? fail(error, err, "vm %s: %s", g->vm.name, why.text) : 0;
}

static int start(struct guest *g, struct guest_error *error) {
	struct vm *vm = &g->vm;
	struct boot_state state = {0};
	u64 begin = time_tsc();

	while (!gmem_clear(&g->gmem, ~0ul)) continue;
	g->gmem.clean = false;
	platform_reset(vm);
	reset_vcpus(vm);
	int err = load(g, false, &state, error);
	if (err) return err;
	boot_state_apply(vm->vcpus[0], &state);
	vm->end = VM_END_NONE;
	vm->stop_reason[0] = 0;
	g->work.fn = ended;
	g->next = NEXT_AUTO;
	g->started = time_tsc();
	g->start_ticks += g->started - begin;
	if (!g->live) nr_live++;
	g->live = true;
	atomic_store(&vm->active, vm->nr_vcpus);
	atomic_store(&vm->state, VM_RUNNING);
	for (u32 i = 0; i < vm->nr_vcpus; i++) sched_add(vm->vcpus[i]);
	return 0;
}

/* ---- its end ---- */

void vm_end(struct vm *vm, enum vm_end how) {
	u32 none = VM_END_NONE;
	struct vcpu *vcpu;

	if (!atomic_compare_exchange_strong(&vm->end, &none, how)) return;
	atomic_store(&vm->state, VM_STOPPED);
	for_each_vcpu(vcpu, vm) vcpu_request(vcpu, REQ_STOP);
}

/* The bytes at the vCPU's RIP, behind the reason. */
static void add_code(struct vm *vm) {
	u8 code[8];
	u32 n = guest_code(vm->vcpus[vm->stop_vcpu], code, sizeof(code));
	size_t used = strlen(vm->stop_reason);

	for (u32 i = 0; i < n && used + 4 < sizeof(vm->stop_reason); i++)
		used += (size_t)snprintf(vm->stop_reason + used, sizeof(vm->stop_reason) - used,
					 "%s%02x", i ? " " : ", code ", code[i]);
}

static void report_crash(struct vm *vm) {
	add_code(vm);
	log_error("vm %s: stopped: %s", vm->name, vm->stop_reason);
	for (u32 v = 0; v < vm->nr_vcpus; v++) {
		const struct vcpu *vcpu = vm->vcpus[v];

		for (u32 i = 1; i <= VCPU_TRACE && i <= vcpu->nr_exits; i++) {
			const struct vcpu_trace *t =
				&vcpu->trace[(vcpu->nr_exits - i) % VCPU_TRACE];

			log_info("vm %s: vCPU %u exit -%u: %s at %lx", vm->name, vcpu->id, i,
				 vcpu->backend->exits[t->reason].name, t->rip);
		}
	}
}

static void report_end(struct vm *vm) {
	/* A guest can reset itself for ever. */
	static struct log_limit resets = {0, 64};

	console_flush(vm);
	switch (atomic_load(&vm->end)) {
	case VM_END_POWEROFF: log_info("vm %s: powered off", vm->name); break;
	case VM_END_DEBUG_EXIT:
		log_info("vm %s: debug exit %u", vm->name, vm->debug_exit_value);
		break;
	case VM_END_STOP: log_info("vm %s: switched off", vm->name); break;
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
	console_attach(NULL);
}

static void all_ended(void) {
	log_info("no guest is running");
	power_debug_exit(any_crash ? EXIT_CRASHED : EXIT_ALL_ENDED);
	idle();
}

/* On the CPU of the vCPU that left last; no vCPU of the VM runs any more. */
void sched_vm_ended(struct vm *vm) { timer_arm(&guest_of(vm)->work, 0); }

static void reap(struct timer *work) {
	struct guest *g = container_of(work, struct guest, work);
	u32 at = 0;

	if (shell_waits() || !sched_quiet_over(&g->quiet)) {
		timer_arm(work, time_tsc() + ns_to_tsc(QUIET_POLL_NS));
		return;
	}
	if (!clear(g)) return;
	while (guests[at] != g) at++;
	nr_guests--;
	for (; at < nr_guests; at++) guests[at] = guests[at + 1];
	log_info("vm %s: destroyed", g->vm.name);
	destroy(g);
}

/* No vCPU of it runs, and none will again. */
static void bury(struct guest *g) {
	console_forget(&g->vm);
	platform_reset(&g->vm); /* stops every timer */
	sched_quiet_begin(&g->quiet);
	g->work.fn = reap;
	timer_arm(&g->work, 0);
}

/* It stays off, until someone starts it. */
static void off(struct guest *g) {
	bool kept = g->vm.end == VM_END_CRASH && g->config.on_crash == CONFIG_CRASH_PAUSE;

	g->live = false;
	g->work.fn = ended;
	if (kept)
		atomic_store(&g->vm.state, VM_PAUSED); /* all is left as it was, to be looked at */
	else
		platform_reset(&g->vm); /* no timer of its devices may fire any more */
	if (!--nr_live) all_ended();
	if (g->next == NEXT_DESTROY) bury(g);
}

static void restart(struct timer *work) {
	struct guest *g = container_of(work, struct guest, work);
	struct guest_error error;

	if (g->next >= NEXT_OFF) {
		off(g);
	} else if (!clear(g)) {
		return;
	} else if (start(g, &error)) {
		failed(&error);
		off(g);
	}
}

/*
 * All vCPUs have left. A guest that resets itself for ever has to run four times as long as its
 * start takes, or to wait: what it takes of CPU 0 is bounded, for the sake of those who share it.
 */
static void ended(struct timer *work) {
	struct guest *g = container_of(work, struct guest, work);
	u32 end = g->vm.end;

	report_end(&g->vm);
	if (g->next == NEXT_AUTO && end != VM_END_RESET &&
	    !(end == VM_END_CRASH && g->config.on_crash == CONFIG_CRASH_RESET))
		g->next = NEXT_OFF;
	if (g->next >= NEXT_OFF) {
		off(g);
		return;
	}
	work->fn = restart;
	timer_arm(work, g->next == NEXT_START ? 0
					      : g->started + min_u64(4 * g->start_ticks,
								     ns_to_tsc(RESET_MAX_NS)));
	g->start_ticks = 0;
}

/* From the console: at once, if there is little to clear. */
static int begin(struct guest *g, struct guest_error *error) {
	struct boot_state state = {0}; /* of which load() fills all */
	int err = load(g, true, &state, error);

	if (err) return err;
	g->start_ticks = 0;
	g->work.fn = restart;
	if (clear(g)) return start(g, error);
	g->vm.end = VM_END_RESET;
	atomic_store(&g->vm.state, VM_STOPPED);
	g->next = NEXT_AUTO;
	g->live = true;
	nr_live++;
	return 0;
}

/* ---- what can be asked for ---- */

const char *const guest_states[] = {"created",	"running",  "paused",  "stopped",
				    "stopping", "starting", "crashed", "dying"};

static const struct {
	const char *done;
	u8 states; /* in which it can be: bits by enum guest_state */
} ops[] = {
	[GUEST_START] = {"started", BIT(VM_CREATED) | BIT(VM_STOPPED) | BIT(GUEST_STOPPING) |
					    BIT(GUEST_STARTING) | BIT(GUEST_CRASHED)},
	[GUEST_PAUSE] = {"paused", BIT(VM_RUNNING)},
	[GUEST_RESUME] = {"resumed", BIT(VM_PAUSED)},
	[GUEST_RESET] = {"reset", BIT(VM_RUNNING) | BIT(VM_PAUSED) | BIT(GUEST_STOPPING) |
					  BIT(GUEST_STARTING) | BIT(GUEST_CRASHED)},
	[GUEST_SHUTDOWN] = {"shut down", BIT(VM_RUNNING) | BIT(VM_PAUSED)},
	[GUEST_STOP] = {"stopped", BIT(VM_RUNNING) | BIT(VM_PAUSED) | BIT(GUEST_STOPPING) |
					   BIT(GUEST_STARTING) | BIT(GUEST_CRASHED)},
	[GUEST_DESTROY] = {"destroyed", BIT(GUEST_DYING) - 1},
};

/* Pauses and resumes; false when the guest itself has ended meanwhile. */
static bool change(struct vm *vm, u32 from, u32 to, u64 request) {
	struct vcpu *vcpu;

	if (!atomic_compare_exchange_strong(&vm->state, &from, to)) return false;
	for_each_vcpu(vcpu, vm) vcpu_request(vcpu, request);
	return true;
}

/* True when it is done. Whether the state allows it is known. */
static bool carry_out(struct guest *g, enum guest_op op) {
	struct vm *vm = &g->vm;

	switch (op) {
	case GUEST_PAUSE: return change(vm, VM_RUNNING, VM_PAUSED, REQ_STOP);
	case GUEST_RESUME: return change(vm, VM_PAUSED, VM_RUNNING, REQ_EVENT);
	case GUEST_SHUTDOWN: pmio_power_button(&vm->platform->pmio); return true;
	case GUEST_DESTROY: g->next = NEXT_DESTROY; break;
	case GUEST_STOP: g->next = NEXT_OFF; break;
	default: g->next = NEXT_START; break;
	}
	/* It may have ended already, and its vCPUs be about to leave. */
	if (g->live) {
		vm_end(vm, g->next >= NEXT_OFF ? VM_END_STOP : VM_END_RESET);
	} else if (g->next == NEXT_DESTROY) {
		bury(g);
	} else { /* after a crash */
		vm->end = VM_END_STOP;
		atomic_store(&vm->state, VM_STOPPED);
		platform_reset(vm);
	}
	return true;
}

int guests_do(struct vm *vm, enum guest_op op, struct guest_error *error) {
	struct guest *g = guest_of(vm);
	bool can = ops[op].states >> guests_state(vm) & 1;

	if (can && !g->live && (op == GUEST_START || op == GUEST_RESET)) return begin(g, error);
	if (can && carry_out(g, op)) return 0;
	return fail(error, E_BUSY, "vm %s is %s and cannot be %s", vm->name,
		    guest_states[guests_state(vm)], ops[op].done);
}

/* What an entry says in general becomes what this machine has. */
static void complete(struct config *c) {
	config_share_memory(c, free_memory());
	for (u32 i = 0; i < c->nr_vms; i++)
		if (!c->vm[i].cpus) c->vm[i].cpus = (u32)min_u64(nr_cpus, VM_MAX_VCPUS);
}

/* Makes a VM of words, or changes one that is there. */
static int parse(struct guest *g, struct text name, struct text words, struct guest_error *error) {
	struct config *c = page_alloc(sizeof(*c));

	if (!c) return fail(error, E_NOMEM, "not enough memory");
	int err = config_parse_words(name, words, g ? &g->config : NULL, boot, c) ? E_INVAL : 0;
	if (err) {
		fail(error, err, "%s", c->first_mistake);
	} else if (g) {
		g->config = c->vm[0];
		apply(g);
	} else {
		complete(c);
		err = create(&c->vm[0], c, error);
		if (!err) return 0; /* which keeps the text */
	}
	page_free(c, sizeof(*c));
	return err;
}

int guests_create(struct text name, struct text words, struct guest_error *error) {
	if (!backend) return fail(error, E_NOSUPP, "this machine cannot run guests");
	if (!guests_find(name)) return parse(NULL, name, words, error);
	return fail(error, E_EXIST, "there is a VM %.*s already", TEXT_QUOTE(name));
}

int guests_set(struct vm *vm, struct text words, struct guest_error *error) {
	return parse(guest_of(vm), text_of(vm->name), words, error);
}

/* ---- start-up ---- */

static void read_config(void) {
	const struct boot_module *m = boot_module_find(boot, CONFIG_FILE);
	struct text text;

	if (m) {
		text.at = phys_to_virt(m->start);
		text.len = m->end - m->start;
		config_parse(CONFIG_FILE, text, boot, &config);
	} else {
		config_default(boot, &config);
	}
	complete(&config);
}

static void start_all(void) {
	struct guest_error error;
	u32 started = 0;

	for (u32 i = 0; i < nr_guests; i++) {
		struct guest *g = guests[i];

		if (!g->config.autostart) continue;
		if (start(g, &error)) {
			failed(&error);
			continue;
		}
		log_info("vm %s: started, %lu MiB, %u vCPUs", g->vm.name, g->config.memory >> 20,
			 g->vm.nr_vcpus);
		if (!started++) console_attach(&g->vm);
	}
	if (!nr_live) all_ended();
}

void guests_init(const struct boot_info *info, const struct options *options) {
	struct guest_error error;

	boot = info;
	on_idle = options->on_idle;
	if (!backend) {
		idle();
		return;
	}
	read_config();
	for (u32 i = 0; i < config.nr_vms; i++)
		if (create(&config.vm[i], NULL, &error)) failed(&error);
	start_all();
}
