// sources: kernel/guests.c kernel/config.c lib/parse.c platform/layout.c tests/fakes.c
/* The life of VMs: every request in every state, resets, crashes, and what destroying gives back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fakes.h"

#include "boot/bootinfo.h"
#include "kernel/backend.h"
#include "kernel/cmdline.h"
#include "kernel/config.h"
#include "kernel/cpu.h"
#include "kernel/guest.h"
#include "kernel/guests.h"
#include "kernel/host_io.h"
#include "kernel/panic.h"
#include "kernel/power.h"
#include "kernel/sched.h"
#include "kernel/shell.h"
#include "kernel/space.h"
#include "mm/frame.h"
#include "platform/cpu_model.h"
#include "platform/emulate.h"
#include "platform/load.h"
#include "platform/msr.h"
#include "platform/platform.h"

static struct boot_info boot;
static struct guest_error error;
static unsigned pages; /* blocks that are not given back */
static unsigned parts; /* memories, platforms, back ends' vCPUs that are not given back */
static int fail_at;    /* the so-manieth allocation from now fails; 0: none */
static int load_result;
static unsigned loads, resets, clears, buttons, idles, attaches, forgotten;
static u32 exit_value;
static u64 load_ticks, clear_ticks;
static unsigned clear_steps; /* that the memory takes to be cleared */
static bool quiet, quiet_asked;
static char last_cmdline[64];

/* ---- what the code under test stands on ---- */

u32 nr_cpus = 2;
struct cpu_features cpu_features = {.amd = true, .phys_bits = 40};
extern const u8 demo_image[1], demo_image_end[1];
const u8 demo_image[1], demo_image_end[1];

static bool refused(void) { return fail_at && !--fail_at; }

void *page_alloc(u64 size) {
	void *block = refused() ? NULL : calloc(1, size);

	pages += block != NULL;
	return block;
}

void page_free(const void *pages_or_null, u64 size) {
	void *block = (void *)(u64)pages_or_null;

	if (!block) return;
	memset(block, 0xdd, size); /* and the sanitizer knows whether there were so many bytes */
	free(block);
	pages--;
}

void frame_stats(struct frame_stats *stats) {
	*stats = (struct frame_stats){.total = 1 << 20, .free = 1 << 18};
}

static int make_part(void) {
	if (refused()) return E_NOMEM;
	parts++;
	return 0;
}

int gmem_create(struct gmem *gm, const struct pt_format *format, const struct gmem_config *c) {
	(void)format;
	(void)c;
	if (make_part()) return E_NOMEM;
	gm->nr_runs = 1;
	gm->clean = true;
	return 0;
}

int gmem_add_ram(struct gmem *gm, gpa_t gpa, u64 size) {
	(void)gm;
	(void)gpa;
	(void)size;
	return refused() ? E_NOMEM : 0;
}

void gmem_destroy(struct gmem *gm) {
	parts -= gm->nr_runs;
	gm->nr_runs = 0;
}

bool gmem_clear(struct gmem *gm, u64 most) {
	(void)most;
	clears += !gm->clean;
	gm->clean = gm->clean || !clear_steps || !--clear_steps;
	fake_advance(clear_ticks);
	return gm->clean;
}

int cpu_model_build(struct cpu_model *model, const struct cpu_model_host *machine,
		    const struct cpu_model_config *config) {
	(void)machine;
	(void)config;
	model->phys_bits = 40;
	return 0;
}

int platform_create(struct vm *vm, const struct platform_options *options) {
	assert_ptr_equal(options->console.ctx, vm);
	if (make_part()) return E_NOMEM;
	vm->platform = calloc(1, sizeof(*vm->platform) + vm->nr_vcpus * sizeof(struct lapic));
	return 0;
}

void platform_reset(struct vm *vm) {
	assert_non_null(vm->platform);
	assert_int_equal(atomic_load(&vm->active), 0);
	resets++;
}

void platform_destroy(struct vm *vm) {
	if (!vm->platform) return;
	free(vm->platform);
	vm->platform = NULL;
	parts--;
}

static int vcpu_create(struct vcpu *vcpu) {
	(void)vcpu;
	return make_part();
}

static void vcpu_destroy(struct vcpu *vcpu) {
	(void)vcpu;
	parts--;
}

static const struct exit_entry exits[] = {{"CPUID", NULL}, {"HLT", NULL}};

static const struct backend fake_backend = {
	.vcpu_create = vcpu_create,
	.vcpu_destroy = vcpu_destroy,
	.exits = exits,
	.nr_exits = ARRAY_SIZE(exits),
};
const struct backend *backend = &fake_backend;

int load_guest(struct vm *vm, u64 memory, const struct load_spec *spec, struct boot_state *state,
	       struct load_error *err) {
	(void)vm;
	(void)memory;
	(void)state;
	loads += !spec->check;
	snprintf(last_cmdline, sizeof(last_cmdline), "%s", spec->cmdline);
	fake_advance(spec->check ? 0 : load_ticks);
	if (load_result) snprintf(err->text, sizeof(err->text), "it is empty");
	return load_result;
}

void boot_state_apply(struct vcpu *vcpu, const struct boot_state *state) {
	(void)state;
	vcpu->rip = 0x100000;
}

void msr_reset(struct vcpu *vcpu) { (void)vcpu; }

void msr_firmware_mtrrs(struct vcpu *vcpu, u64 ram_end) {
	(void)vcpu;
	(void)ram_end;
}

void vcpu_reset(struct vcpu *vcpu, bool init) {
	(void)vcpu;
	assert_false(init);
}

u32 guest_code(struct vcpu *vcpu, u8 *bytes, u32 max) {
	(void)vcpu;
	assert_true(max >= 2);
	bytes[0] = 0x0f;
	bytes[1] = 0x0b;
	return 2;
}

void sched_add(struct vcpu *vcpu) { assert_int_equal(atomic_load(&vcpu->vm->state), VM_RUNNING); }

bool shell_waits(void) { return false; }

void sched_quiet_begin(struct quiet *q) {
	(void)q;
	quiet_asked = true;
}

bool sched_quiet_over(const struct quiet *q) {
	(void)q;
	return quiet;
}

int console_create(struct vm *vm) {
	(void)vm;
	return 0;
}

void console_flush(struct vm *vm) { (void)vm; }

void console_destroy(struct vm *vm) { (void)vm; }

void console_attach(struct vm *vm) { attaches += vm != NULL; }

void console_forget(struct vm *vm) {
	assert_non_null(vm);
	forgotten++;
}

void console_output(void *vm, u8 byte) {
	(void)vm;
	(void)byte;
}

void console_log(void *vm, u8 byte) {
	(void)vm;
	(void)byte;
}

void console_room(void *vm) { (void)vm; }

bool uart_rx(struct uart *uart, u8 byte) {
	(void)uart;
	return byte == 'x';
}

void pmio_power_button(struct pmio *pmio) {
	assert_non_null(pmio);
	buttons++;
}

void shell_prompt(void) { idles++; }

void power_debug_exit(u32 value) { exit_value = value; }

void power_off(void) { abort(); }

void power_reboot(void) { abort(); }

void panic(const char *fmt, ...) {
	fail_msg("%s", fmt);
	abort();
}

const struct boot_module *boot_module_find(const struct boot_info *info, const char *name) {
	(void)info;
	(void)name;
	return NULL;
}

/* ---- helpers ---- */

static struct vm *find(const char *name) { return guests_find(text_of(name)); }

static int create(const char *name, const char *words) {
	return guests_create(text_of(name), text_of(words), &error);
}

static int request(enum guest_op op) { return guests_do(find("a"), op, &error); }

/* The vCPUs leave their CPUs, as the schedulers make them do; then CPU 0 goes round its loop. */
static void leave(void) {
	struct vm *vm = find("a");

	if (vm && atomic_load(&vm->state) == VM_STOPPED && atomic_exchange(&vm->active, 0))
		sched_vm_ended(vm);
	fake_advance(1);
}

static void settle(void) {
	for (unsigned i = 0; i < 3; i++) {
		leave();
		fake_advance_ns(1100000000);
	}
}

static enum guest_state state(void) { return guests_state(find("a")); }

static void crash(void) {
	struct vm *vm = find("a");

	vm->stop_vcpu = 1;
	snprintf(vm->stop_reason, sizeof(vm->stop_reason), "vCPU 1: triple fault at rip 7c00");
	vm_end(vm, VM_END_CRASH);
}

/* Makes the VM "a" and brings it into a state. */
static void bring(enum guest_state to) {
	assert_int_equal(create("a", "kernel=k memory=4M cpus=2 cmdline=\"one two\""), 0);
	if (to == (enum guest_state)VM_CREATED) return;
	assert_int_equal(request(GUEST_START), 0);
	if (to == (enum guest_state)VM_RUNNING) return;
	if (to == (enum guest_state)VM_PAUSED) {
		assert_int_equal(request(GUEST_PAUSE), 0);
	} else if (to == GUEST_CRASHED) {
		crash();
		settle();
	} else if (to == GUEST_DYING) {
		assert_int_equal(request(GUEST_DESTROY), 0);
	} else if (to == GUEST_STARTING) {
		assert_int_equal(request(GUEST_STOP), 0);
		settle();
		clear_steps = 3;
		clear_ticks = ns_to_tsc(600000);
		assert_int_equal(request(GUEST_START), 0);
	} else {
		assert_int_equal(request(GUEST_STOP), 0);
		if (to != GUEST_STOPPING) settle();
	}
}

static void bury_all(void) {
	quiet = true;
	while (guests_get(0)) {
		if (guests_state(guests_get(0)) != GUEST_DYING)
			assert_int_equal(guests_do(guests_get(0), GUEST_DESTROY, &error), 0);
		atomic_store(&guests_get(0)->active, 0);
		if (!fake_timers_armed()) sched_vm_ended(guests_get(0));
		fake_advance_ns(1100000000);
	}
	assert_int_equal(pages, 0);
	assert_int_equal(parts, 0);
}

static int setup(void **unused) {
	static const struct options options = {.on_idle = IDLE_SHELL};

	(void)unused;
	fake_reset();
	boot.nr_modules = 1;
	strcpy(boot.module[0].name, "k");
	boot.module[0].args = "";
	boot.module[0].end = KiB(100);
	load_result = fail_at = 0;
	load_ticks = 10;
	clear_steps = 0;
	clear_ticks = 0;
	quiet = true;
	quiet_asked = false;
	guests_init(&boot, &options);
	bury_all(); /* the default VM */
	quiet_asked = false;
	loads = resets = clears = buttons = idles = attaches = forgotten = 0;
	exit_value = 0;
	return 0;
}

static int teardown(void **unused) {
	(void)unused;
	bury_all();
	assert_int_equal(fake_timers_armed(), 0);
	return 0;
}

/* ---- tests ---- */

/* Rows: states; columns: start, pause, resume, reset, shutdown, stop, destroy. A dot refuses; a
 * letter is the state that follows when all has settled, "-" for a VM that is gone. */
static void test_each_request_in_each_state(void **unused) {
	static const char *const after[] = {
		[VM_CREATED] = "R.....-",     [VM_RUNNING] = ".P.RRS-",
		[VM_PAUSED] = "..RRPS-",      [VM_STOPPED] = "R.....-",
		[GUEST_STOPPING] = "R..R.S-", [GUEST_STARTING] = "R..R.S-",
		[GUEST_CRASHED] = "R..R.S-",  [GUEST_DYING] = ".......",
	};
	static const char letters[] = "CRPS?X";

	(void)unused;
	for (u32 from = 0; from < ARRAY_SIZE(after); from++) {
		for (u32 op = 0; op <= GUEST_DESTROY; op++) {
			char expected = after[from][op];

			quiet = false;
			bring((enum guest_state)from);
			quiet = true;
			int err = request((enum guest_op)op);
			if (from != GUEST_DYING) settle();
			char got = !find("a") ? '-' : letters[state() % sizeof(letters)];
			if (err == E_BUSY) got = '.';
			if (got != expected)
				fail_msg("%s, request %u: %c, expected %c", guest_states[from], op,
					 got, expected);
			if (err) {
				assert_int_equal(err, E_BUSY);
				assert_non_null(strstr(error.text, guest_states[from]));
			}
			bury_all();
		}
	}
}

static void test_nothing_is_freed_before_the_quiet_period_is_over(void **unused) {
	(void)unused;
	bring((enum guest_state)VM_RUNNING);
	unsigned pages_before = pages;
	quiet = false;
	assert_int_equal(request(GUEST_DESTROY), 0);
	fake_advance_ns(5000000);
	assert_false(quiet_asked); /* its vCPUs still run */
	leave();
	assert_true(quiet_asked);
	assert_int_equal(forgotten, 1);
	fake_advance_ns(50000000);
	assert_int_equal(pages, pages_before);
	assert_int_equal(state(), GUEST_DYING);
	assert_int_equal(create("a", "kernel=k memory=4M"), E_EXIST);
	quiet = true;
	fake_advance_ns(2000000);
	assert_null(find("a"));
	assert_int_equal(pages, 0);
	assert_int_equal(parts, 0);
}

static void test_others_keep_their_places(void **unused) {
	(void)unused;
	bring((enum guest_state)VM_RUNNING);
	assert_int_equal(create("b", "kernel=k memory=4M"), 0);
	assert_int_equal(create("c", "kernel=k memory=4M"), 0);
	assert_int_equal(guests_do(find("b"), GUEST_DESTROY, &error), 0);
	fake_advance_ns(2000000);
	assert_ptr_equal(guests_get(0), find("a"));
	assert_ptr_equal(guests_get(1), find("c"));
	assert_null(guests_get(2));
	assert_int_equal(create("a", "kernel=k memory=4M"), E_EXIST);
}

/* A stop and a start right behind each other are both done; so are the other way round. */
static void test_what_is_asked_for_last_counts(void **unused) {
	(void)unused;
	bring((enum guest_state)VM_RUNNING);
	assert_int_equal(request(GUEST_STOP), 0);
	assert_int_equal(request(GUEST_START), 0);
	settle();
	assert_int_equal(state(), VM_RUNNING);
	assert_int_equal(loads, 2);
	assert_true(clears > 0);
	assert_int_equal(exit_value, 0); /* never was there no guest */
	vm_end(find("a"), VM_END_RESET); /* by itself */
	assert_int_equal(request(GUEST_STOP), 0);
	settle();
	assert_int_equal(state(), VM_STOPPED);
	assert_true(exit_value);
}

static void test_guest_resets_itself(void **unused) {
	(void)unused;
	bring((enum guest_state)VM_RUNNING);
	for (unsigned i = 2; i < 102; i++) {
		vm_end(find("a"), VM_END_RESET);
		assert_int_equal(state(), GUEST_STOPPING);
		settle();
		assert_int_equal(state(), VM_RUNNING);
		assert_int_equal(loads, i);
	}
	assert_int_equal(exit_value, 0);
}

/* One that resets at once waits four times as long as its start has taken, a second at most. */
static void test_resets_in_a_row_leave_time_to_others(void **unused) {
	static const struct {
		u64 load_ns, wait_ns;
	} cases[] = {{1000000, 4000000}, {10000000000, 1000000000}};

	(void)unused;
	for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
		load_ticks = ns_to_tsc(cases[i].load_ns);
		bring((enum guest_state)VM_RUNNING);
		vm_end(find("a"), VM_END_RESET);
		leave();
		load_ticks = 0;
		fake_advance_ns(cases[i].wait_ns - 1000);
		assert_int_equal(state(), GUEST_STARTING);
		fake_advance_ns(2000);
		assert_int_equal(state(), VM_RUNNING);
		/* Who has run for long does not wait. */
		fake_advance_ns(2000000000);
		vm_end(find("a"), VM_END_RESET);
		leave();
		assert_int_equal(state(), VM_RUNNING);
		bury_all();
	}
}

static void test_stop_and_destroy_while_it_waits_to_start_again(void **unused) {
	(void)unused;
	for (enum guest_op op = GUEST_STOP; op <= GUEST_DESTROY; op++) {
		load_ticks = ns_to_tsc(1000000000);
		bring((enum guest_state)VM_RUNNING);
		loads = 0;
		vm_end(find("a"), VM_END_RESET);
		leave();
		assert_int_equal(request(op), 0);
		fake_advance_ns(1100000000);
		fake_advance_ns(2000000);
		assert_int_equal(loads, 0);
		if (op == GUEST_STOP)
			assert_int_equal(state(), VM_STOPPED);
		else
			assert_null(find("a"));
		bury_all();
	}
}

/*
 * Clearing much memory is done in parts of 0.5 ms, after each of which the others have as much
 * time: from the console, at a reset, and when it is destroyed.
 */
static void test_memory_is_cleared_in_parts(void **unused) {
	(void)unused;
	bring(GUEST_STARTING);
	assert_int_equal(loads, 1);
	fake_advance_ns(500000);
	assert_int_equal(clear_steps, 2);
	fake_advance_ns(200000); /* and the second part takes 0.6 ms of its own */
	assert_int_equal(clear_steps, 1);
	assert_int_equal(state(), GUEST_STARTING);
	fake_advance_ns(2000000);
	assert_int_equal(state(), VM_RUNNING);
	assert_int_equal(loads, 2);

	clear_steps = 2;
	vm_end(find("a"), VM_END_RESET);
	leave();
	fake_advance_ns(20000000);
	assert_int_equal(clear_steps, 0);
	assert_int_equal(state(), VM_RUNNING);

	clear_steps = 2;
	assert_int_equal(request(GUEST_DESTROY), 0);
	leave();
	fake_advance_ns(100000);
	assert_int_equal(clear_steps, 1);
	assert_int_equal(state(), GUEST_DYING);
	fake_advance_ns(1300000);
	assert_null(find("a"));
}

static void test_crash(void **unused) {
	(void)unused;
	bring(GUEST_CRASHED);
	assert_string_equal(find("a")->stop_reason, "vCPU 1: triple fault at rip 7c00, code 0f 0b");
	assert_int_equal(exit_value, EXIT_CRASHED);
	assert_int_equal(atomic_load(&find("a")->state), VM_STOPPED);
	bury_all();

	assert_int_equal(create("a", "kernel=k memory=4M cpus=2 on-crash=reset"), 0);
	assert_int_equal(request(GUEST_START), 0);
	crash();
	settle();
	assert_int_equal(state(), VM_RUNNING);
	assert_string_equal(find("a")->stop_reason, "");
	bury_all();

	assert_int_equal(create("a", "kernel=k memory=4M cpus=2 on-crash=pause"), 0);
	assert_int_equal(request(GUEST_START), 0);
	crash();
	resets = 0;
	settle();
	assert_int_equal(state(), GUEST_CRASHED);
	assert_int_equal(atomic_load(&find("a")->state), VM_PAUSED);
	assert_int_equal(resets, 0); /* all is as it was */
	assert_int_equal(request(GUEST_RESUME), E_BUSY);
	assert_int_equal(request(GUEST_STOP), 0);
	assert_int_equal(state(), VM_STOPPED);
	assert_true(resets > 0);
}

static void test_mistakes_refuse_the_vm(void **unused) {
	static const struct {
		const char *name, *words, *said;
	} cases[] = {
		{"a", "memory=4M", "no kernel"},
		{"a", "kernel=none", "none; there is k"},
		{"a", "kernel=k memory=1", "memory cannot be"},
		{"a", "kernel=k colour=red", "unknown key colour"},
		{"a", "kernel=k memory=4M memory=4M", "given twice"},
		{"a", "kernel=k memory=4M on-crash=maybe", "stop, reset or pause"},
		{"a", "kernel=k \"memory=4M", "unknown key"},
		{"a", "kernel=k memory=4M pin=2-5", "CPUs of this machine"},
		{"a b", "kernel=k", "cannot be the name"},
		{"", "kernel=k", "cannot be the name"},
	};

	(void)unused;
	for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(create(cases[i].name, cases[i].words), E_INVAL);
		if (!strstr(error.text, cases[i].said)) fail_msg("%u: %s", i, error.text);
		assert_int_equal(pages, 0);
		assert_null(guests_get(0));
	}
}

/* Whichever allocation fails, nothing is left behind, and the next try succeeds. */
static void test_out_of_memory(void **unused) {
	int n = 1;

	(void)unused;
	for (;; n++) {
		fail_at = n;
		int err = create("a", "kernel=k memory=4M cpus=3");
		if (!err) break;
		assert_int_equal(err, E_NOMEM);
		assert_non_null(strstr(error.text, "not enough memory"));
		assert_int_equal(pages, 0);
		assert_int_equal(parts, 0);
	}
	assert_in_range(n, 8, 20);
	fail_at = 0;
}

static void test_too_many(void **unused) {
	char name[16];

	(void)unused;
	for (u32 i = 0; i < CONFIG_MAX_VMS; i++) {
		snprintf(name, sizeof(name), "v%u", i);
		assert_int_equal(create(name, "kernel=k memory=4M"), 0);
	}
	assert_int_equal(create("a", "kernel=k memory=4M"), E_NOMEM);
	assert_non_null(strstr(error.text, "64 VMs"));
}

static void test_image_that_does_not_load(void **unused) {
	(void)unused;
	bring((enum guest_state)VM_CREATED);
	load_result = E_FORMAT;
	assert_int_equal(request(GUEST_START), E_FORMAT);
	assert_string_equal(error.text, "vm a: it is empty");
	assert_int_equal(state(), VM_CREATED);
	load_result = 0;
	assert_int_equal(request(GUEST_START), 0);
	assert_string_equal(last_cmdline, "one two"); /* its own copy of the text */
	/* The same at a reset: it is off then. */
	load_result = E_FORMAT;
	vm_end(find("a"), VM_END_RESET);
	settle();
	assert_int_equal(state(), VM_STOPPED);
	assert_int_equal(exit_value, EXIT_CRASHED);
}

static void test_power_button_and_input(void **unused) {
	(void)unused;
	bring((enum guest_state)VM_RUNNING);
	assert_int_equal(request(GUEST_SHUTDOWN), 0);
	assert_int_equal(buttons, 1);
	assert_int_equal(state(), VM_RUNNING);
	assert_true(guest_input(find("a"), 'x'));
	assert_false(guest_input(find("a"), 'y'));
	assert_int_equal(request(GUEST_PAUSE), 0);
	assert_false(guest_input(find("a"), 'x'));
}

/* Who ends first says how; a pause that comes between does not bring it back to life. */
static void test_end_while_paused(void **unused) {
	(void)unused;
	bring((enum guest_state)VM_PAUSED);
	vm_end(find("a"), VM_END_POWEROFF); /* in its last exit */
	vm_end(find("a"), VM_END_CRASH);
	assert_int_equal(request(GUEST_RESUME), E_BUSY);
	settle();
	assert_int_equal(state(), VM_STOPPED);
	assert_int_equal(find("a")->end, VM_END_POWEROFF);
}

static void test_set(void **unused) {
	static const struct {
		const char *words, *said;
	} bad[] = {
		{"weight=0", "from 1 to 10000"},	  {"cpus=4", "cpus cannot be changed"},
		{"kernel=k", "kernel cannot be changed"}, {"pin=2,3", "CPUs of this machine"},
		{"cap=7000", "percent from 0 to 6400"},	  {"fast", "no setting"},
	};

	(void)unused;
	assert_int_equal(create("a", "kernel=k memory=4M cpus=2 weight=300 cap=50 pin=1"), 0);
	const struct vm *vm = find("a");
	assert_int_equal(vm->weight, 300);
	assert_int_equal(vm->cap, 50);
	assert_int_equal(vm->pin, 2);
	assert_int_equal(request(GUEST_START), 0);
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(guests_set(find("a"), text_of(bad[i].words), &error), E_INVAL);
		if (!strstr(error.text, bad[i].said)) fail_msg("%s: %s", bad[i].words, error.text);
	}
	assert_int_equal(vm->weight, 300);
	assert_int_equal(guests_set(find("a"), text_of("weight=7 pin=0 on-crash=reset"), &error),
			 0);
	assert_int_equal(vm->weight, 7);
	assert_int_equal(vm->cap, 50);
	assert_int_equal(vm->pin, 1);
	assert_true(fake_take_requests(vm->vcpus[1]) & REQ_STOP); /* through its scheduler */
	crash();
	settle();
	assert_int_equal(state(), VM_RUNNING);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_each_request_in_each_state),
		TEST(test_nothing_is_freed_before_the_quiet_period_is_over),
		TEST(test_others_keep_their_places),
		TEST(test_what_is_asked_for_last_counts),
		TEST(test_guest_resets_itself),
		TEST(test_resets_in_a_row_leave_time_to_others),
		TEST(test_stop_and_destroy_while_it_waits_to_start_again),
		TEST(test_memory_is_cleared_in_parts),
		TEST(test_crash),
		TEST(test_mistakes_refuse_the_vm),
		TEST(test_out_of_memory),
		TEST(test_too_many),
		TEST(test_image_that_does_not_load),
		TEST(test_power_button_and_input),
		TEST(test_end_while_paused),
		TEST(test_set),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
