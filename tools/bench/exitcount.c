/*
 * A plugin for QEMU's TCG that counts what a hypervisor costs, from outside: executed instructions,
 * entries into its guest, and the instructions that it executes between an exit and the next entry.
 *
 * The hypervisor is whoever executes the first VMRUN of the machine, and any other within NEAR
 * bytes of it; a VMRUN elsewhere is its guest's own, and is counted as such only. One CPU only.
 * Counting is by translated block, so a figure taken in the middle of one is high by a few
 * instructions.
 *
 * A program anywhere in the machine takes a reading by executing the long no-operation
 * `nopl MARK(%rax,%rax)` whose displacement is 0x6d6b0000 + a small number: it costs no exit.
 *
 * Memory that the hypervisor fills is counted on its own: the repetitions of its REP STOS.
 *
 * Arguments: out=FILE for the report; first=ADDRESS (hexadecimal): where what the firmware starts,
 * hypervisor or kernel, begins; from=ADDRESS and to=ADDRESS: what is executed from the first time
 * that a block begins at the one to the last time that one begins at the other is counted as well,
 * without the filling of memory.
 *
 * The few declarations below are QEMU's plugin interface, version 1, whose header Debian does not
 * ship.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT	     __attribute__((visibility("default")))
#define INLINE_ADD   0 /* enum qemu_plugin_op */
#define CB_NO_REGS   0 /* enum qemu_plugin_cb_flags */
#define MARK_BASE    0x6d6b0000u
#define MAX_MARKS    256
#define VMRUN_LENGTH 3
#define NEAR	     256
#define MAX_EXACT    65536

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*tb_translated)(plugin_id, struct qemu_plugin_tb *);
typedef void (*executed)(unsigned cpu, void *data);
typedef void (*at_exit)(plugin_id, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, tb_translated);
void qemu_plugin_register_atexit_cb(plugin_id, at_exit, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int op, void *counter,
					      uint64_t amount);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed, int flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, executed, int flags,
					    void *data);
EXPORT int qemu_plugin_install(plugin_id, const void *info, int argc, char **argv);

EXPORT int qemu_plugin_version = 1;

struct reading {
	uint64_t total, entries, host, nested;
	unsigned mark;
};

static uint64_t total;	  /* instructions of the whole machine */
static uint64_t scrub;	  /* of these, filling of memory by the hypervisor */
static uint64_t vmrun_at; /* the hypervisor's VMRUN, 0 before the first */
static uint64_t entries;
static uint64_t nested;	      /* VMRUNs of guests */
static uint64_t first_total;  /* total at the first entry */
static uint64_t before_first; /* the same without scrubbing */
static uint64_t start_total;  /* total when first= was reached */
static uint64_t host;	      /* between exits and entries, without scrubbing */
static uint64_t exit_total, exit_scrub;
static bool in_guest;
static uint64_t entered_at;	  /* the VMRUN that was the last entry */
static uint64_t exact[MAX_EXACT]; /* exits by their cost */
static struct reading readings[MAX_MARKS];
static unsigned nr_readings;
static uint64_t first_address, from_address, to_address;
static uint64_t span_begin, span;
static const char *out_path = "exitcount.txt";

/* Within NEAR bytes of the hypervisor's first VMRUN. */
static bool is_near(uint64_t at) { return vmrun_at && at + NEAR - vmrun_at < 2 * NEAR; }

static void on_vmrun(unsigned cpu, void *data) {
	uint64_t at = (uint64_t)data, cost;

	(void)cpu;
	if (!vmrun_at) {
		vmrun_at = at;
		first_total = total;
		before_first = total - scrub;
	}
	if (!is_near(at)) nested++;
	if (!is_near(at) || in_guest) return;
	if (entries++) {
		cost = (total - exit_total) - (scrub - exit_scrub);
		host += cost;
		exact[cost < MAX_EXACT ? cost : MAX_EXACT - 1]++;
	}
	in_guest = true;
	entered_at = at;
}

/*
 * A block near VMRUN runs (data: its address from there and its instructions); if it is the one
 * behind that, the guest has exited. The block is in `total` already.
 */
static void on_exit_block(unsigned cpu, void *data) {
	uint64_t count = (uint64_t)data & 0xffff, at = vmrun_at - NEAR + ((uint64_t)data >> 16);

	(void)cpu;
	if (!in_guest || at != entered_at + VMRUN_LENGTH) return;
	in_guest = false;
	exit_total = total - count;
	exit_scrub = scrub;
}

static void on_mark(unsigned cpu, void *data) {
	(void)cpu;
	if (nr_readings < MAX_MARKS)
		readings[nr_readings++] =
			(struct reading){total, entries, host, nested, (unsigned)(uintptr_t)data};
}

static void on_first(unsigned cpu, void *data) {
	(void)cpu;
	(void)data;
	if (!start_total) start_total = total;
}

static void on_from(unsigned cpu, void *data) {
	(void)cpu;
	(void)data;
	if (!span_begin) span_begin = total - scrub;
}

static void on_to(unsigned cpu, void *data) {
	(void)cpu;
	(void)data;
	if (span_begin) span = total - scrub - span_begin;
}

/* One more repetition: the emulator translates a repeated instruction as a block that is entered
 * again for each. */
static void on_fill(unsigned cpu, void *data) {
	(void)cpu;
	(void)data;
	if (!in_guest && start_total) scrub++;
}

/* F3 (REX) AA or AB: REP STOS. */
static bool is_fill(const struct qemu_plugin_insn *insn) {
	const uint8_t *code = qemu_plugin_insn_data(insn);
	size_t size = qemu_plugin_insn_size(insn);

	return size >= 2 && size <= 3 && code[0] == 0xf3 && (code[size - 1] & 0xfe) == 0xaa;
}

static bool is_vmrun(const uint8_t *code, size_t size) {
	return size == VMRUN_LENGTH && !memcmp(code, "\x0f\x01\xd8", VMRUN_LENGTH);
}

/* 0F 1F 84 00 disp32: nopl disp32(%rax,%rax). */
static bool is_mark(const uint8_t *code, size_t size, unsigned *mark) {
	uint32_t displacement;

	if (size != 8 || memcmp(code, "\x0f\x1f\x84\x00", 4)) return false;
	memcpy(&displacement, code + 4, sizeof(displacement));
	*mark = displacement - MARK_BASE;
	return *mark < MAX_MARKS;
}

static void on_translation(plugin_id id, struct qemu_plugin_tb *tb) {
	size_t count = qemu_plugin_tb_n_insns(tb);
	uint64_t at = qemu_plugin_tb_vaddr(tb);

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD, &total, count);
	if (is_fill(qemu_plugin_tb_get_insn(tb, 0)))
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_fill, CB_NO_REGS, NULL);
	if (first_address && at == first_address && !start_total)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_first, CB_NO_REGS, NULL);
	if (from_address && at == from_address)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_from, CB_NO_REGS, NULL);
	if (to_address && at == to_address)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_to, CB_NO_REGS, NULL);
	if (is_near(at))
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_exit_block, CB_NO_REGS,
						     (void *)((at + NEAR - vmrun_at) << 16 |
							      (count & 0xffff)));
	for (size_t i = 0; i < count; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		const uint8_t *code = qemu_plugin_insn_data(insn);
		size_t size = qemu_plugin_insn_size(insn);
		unsigned mark;

		if (is_vmrun(code, size))
			qemu_plugin_register_vcpu_insn_exec_cb(
				insn, on_vmrun, CB_NO_REGS, (void *)qemu_plugin_insn_vaddr(insn));
		else if (is_mark(code, size, &mark))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark, CB_NO_REGS,
							       (void *)(uintptr_t)mark);
	}
}

/* The most frequent costs of an exit, at most 20. */
static void print_commonest(FILE *out) {
	for (unsigned row = 0; row < 20; row++) {
		unsigned best = 0;

		for (unsigned cost = 1; cost < MAX_EXACT; cost++)
			if (exact[cost] > exact[best]) best = cost;
		if (!exact[best]) return;
		fprintf(out, "cost %u times %lu\n", best, exact[best]);
		exact[best] = 0;
	}
}

static void report(plugin_id id, void *data) {
	FILE *out = fopen(out_path, "w");

	(void)id;
	(void)data;
	if (!out) {
		perror(out_path);
		return;
	}
	fprintf(out, "total %lu\nscrub %lu\nentries %lu\nbefore_first %lu\nhost %lu\n", total,
		scrub, entries, before_first, host);
	fprintf(out, "first_total %lu\nstart_total %lu\nspan %lu\n", first_total, start_total,
		span);
	for (unsigned i = 0; i < nr_readings; i++)
		fprintf(out, "mark %u total %lu entries %lu host %lu nested %lu\n",
			readings[i].mark, readings[i].total, readings[i].entries, readings[i].host,
			readings[i].nested);
	print_commonest(out);
	fclose(out);
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4)) {
			out_path = strdup(argv[i] + 4);
		} else if (!strncmp(argv[i], "first=", 6)) {
			first_address = strtoull(argv[i] + 6, NULL, 16);
		} else if (!strncmp(argv[i], "from=", 5)) {
			from_address = strtoull(argv[i] + 5, NULL, 16);
		} else if (!strncmp(argv[i], "to=", 3)) {
			to_address = strtoull(argv[i] + 3, NULL, 16);
		} else {
			fprintf(stderr, "exitcount: unknown argument %s\n", argv[i]);
			return -1;
		}
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
	qemu_plugin_register_atexit_cb(id, report, NULL);
	return 0;
}
