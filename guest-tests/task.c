/*
 * Hardware task switches (SDM 3A 7, APM 2 12): by JMP, CALL and IRET, through task gates of all
 * kinds, what they save, load, mark and refuse. The main task makes one of them with known
 * registers; the other task, or the one that a task gate leads to, notes what it has got and goes
 * back.
 *
 * Where QEMU 7.2's TCG differs from the manuals is told in one place: tcg_differs().
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/mode.h"
#include "guest-tests/lib/trap.h"
#include "guest-tests/task.h"

const char test_name[] = "task";

struct tss {
	u32 link, stack[6], cr3, eip, eflags, gpr[8], seg[6], ldt;
	u16 trap, iomap;
};
struct tss16 {
	u16 link, stack[6], ip, flags, gpr[8], seg[4], ldt;
};

_Static_assert(sizeof(struct tss) == 104, "SDM 3A figure 7-2");
_Static_assert(sizeof(struct tss16) == 44, "SDM 3A figure 7-10");

enum { ES, CS, SS, DS, FS, GS };

static struct tss16 tss16 __aligned(64);
static u64 table[32] __aligned(16), ldt[4] __aligned(16), gates[256];
static char other_stack[4096] __aligned(16), fault_stack[4096] __aligned(16);
static char ring0_stack[4096] __aligned(16);

/* The assembly's, in task.S. */
extern const char task_main[], task_main_end[], task_other[], task_fault[];
extern const char op_far_jmp[], op_far_call[], op_int[], op_int3[], op_iret[], op_gp[], op_pf[],
	op_df[], op_interrupt[], op_nmi[], op_debug[];
extern const char leave_iret[], leave_iret_end[], leave_jmp[], leave_resume[], leave_nmi[];
extern const char trap_1[], trap_8[], trap_10[], trap_11[], trap_12[], trap_13[], trap_14[];
extern const char ring0_entry[], fault_inside[], v86_code[], v86_code_end[], ring3_code[], stub16[],
	stub16_end[];

/* What it finds here. */
struct tss main_tss __aligned(128), other_tss __aligned(128), fault_tss __aligned(128);
u32 main_note[NR_NOTES], other_note[NR_NOTES], fault_note[NR_NOTES], trap_note[NR_TRAP_NOTES];
const char *task_op;	  /* what the main task does */
u32 task_target[2];	  /* far pointer for it */
u32 task_at, task_resume; /* its address, and where the main task goes on after it */
const char *other_leave;  /* how the other tasks go back */
const char *fault_leave;
const u32 *task_probe; /* what this points to is noted */

/* ---- preparation ---- */

/* Where QEMU 7.2's TCG does not do what the manuals say. */
enum difference {
	TCG_NO_T_BIT,	       /* switch_tss_ra() reads the T bit and leaves it at that */
	TCG_SS_ABSENT,	       /* #NP where it is #SS */
	TCG_CONFORMING,	       /* wants DPL = RPL of conforming code as well */
	TCG_NO_ACCESSED,       /* loads descriptors without the accessed bit, and leaves it so */
	TCG_FAULT_IN_NEW_TASK, /* EIP of the switching instruction, not of the new task */
};

static bool tcg_differs(const char *name, enum difference what) {
	static const char *const text[] = {
		[TCG_NO_T_BIT] = "TCG ignores the T bit of a TSS",
		[TCG_SS_ABSENT] = "TCG raises #NP for an absent stack segment",
		[TCG_CONFORMING] = "TCG wants DPL = RPL of conforming code",
		[TCG_NO_ACCESSED] = "TCG does not set the accessed bit",
		[TCG_FAULT_IN_NEW_TASK] = "TCG leaves EIP at the switching instruction",
	};

	if (!on_tcg()) return false;
	skip(name, text[what]);
	return true;
}

static u64 descriptor(u64 base, u64 limit, u64 access, u64 flags) {
	return (limit & 0xffff) | (base & 0xffffff) << 16 | access << 40 |
	       (limit >> 16 & 0xf) << 48 | flags << 52 | (base >> 24 & 0xff) << 56;
}

static u64 flat(u64 access) { return descriptor(0, 0xfffff, access, 0xc); }

static u32 low32(const void *at) { return (u32)(u64)at; }

static u64 gate(const char *entry, u64 access) {
	u64 at = (u64)entry;

	return (at & 0xffff) | (u64)SEL_CODE32 << 16 | access << 40 | (at >> 16 & 0xffff) << 48;
}

static u64 task_gate(u16 selector) { return (u64)selector << 16 | (u64)TYPE_TASK_GATE << 40; }

static u8 type_of(u16 selector) { return table[selector >> 3] >> 40 & 0xf; }

static bool busy(u16 selector) { return type_of(selector) & BUSY; }

static void fill_table(void) {
	extern const u64 gdt[];

	memset(table, 0, sizeof(table));
	memcpy(table, gdt, SEL_FREE);
	table[SEL_CODE_ABSENT >> 3] = flat(0x1b);
	table[SEL_DATA_ABSENT >> 3] = flat(0x13);
	table[SEL_READ_ONLY >> 3] = flat(0x91);
	table[SEL_EXECUTE_ONLY >> 3] = flat(0x99);
	table[SEL_CONFORMING >> 3] = flat(0x9f);
	table[SEL_NEVER_USED >> 3] = flat(0x92);
	table[SEL_LDT >> 3] = descriptor((u64)ldt, sizeof(ldt) - 1, TYPE_LDT, 0);
	table[SEL_LDT_ABSENT >> 3] = descriptor((u64)ldt, sizeof(ldt) - 1, TYPE_LDT & 0x7f, 0);
	table[SEL_MAIN >> 3] = descriptor((u64)&main_tss, 103, TYPE_TSS, 0);
	table[SEL_OTHER >> 3] = descriptor((u64)&other_tss, 103, TYPE_TSS, 0);
	table[SEL_FAULT >> 3] = descriptor((u64)&fault_tss, 103, TYPE_TSS, 0);
	table[SEL_GATE >> 3] = task_gate(SEL_OTHER);
	table[SEL_TSS_ABSENT >> 3] = descriptor((u64)&other_tss, 103, TYPE_TSS & 0x7f, 0);
	table[SEL_TSS_SHORT >> 3] = descriptor((u64)&other_tss, 102, TYPE_TSS, 0);
	table[SEL_TSS16 >> 3] = descriptor((u64)&tss16, 43, TYPE_TSS16, 0);
	table[SEL_TSS16_SHORT >> 3] = descriptor((u64)&tss16, 42, TYPE_TSS16, 0);
}

static void fill_gates(void) {
	static const char *const traps[15] = {
		[1] = trap_1,	[8] = trap_8,	[10] = trap_10, [11] = trap_11,
		[12] = trap_12, [13] = trap_13, [14] = trap_14};

	memset(gates, 0, sizeof(gates));
	for (unsigned v = 0; v < ARRAY_SIZE(traps); v++)
		if (traps[v]) gates[v] = gate(traps[v], TYPE_INTERRUPT);
	gates[VECTOR_RING0] = gate(ring0_entry, TYPE_INTERRUPT | 0x60);
}

/* In the general registers of the tasks, beside their numbers. */
#define OTHER_MARK 0xabcd0000
#define FAULT_MARK 0xfa170000

/* A task with registers of its own: byte n of the general ones is `mark`, the low digit says which.
 */
static void fill_tss(struct tss *t, const char *code, char *stack, u32 mark) {
	memset(t, 0, sizeof(*t));
	t->eip = low32(code);
	t->eflags = 2;
	for (u32 i = 0; i < 8; i++) t->gpr[i] = mark | i;
	t->gpr[4] = low32(stack) + 4096 - 64;
	t->stack[0] = low32(ring0_stack) + 4096; /* ESP0, SS0 */
	t->stack[1] = SEL_DATA;
	for (u32 i = 0; i < 6; i++) t->seg[i] = SEL_DATA;
	t->seg[CS] = SEL_CODE32;
	t->seg[FS] = t->seg[GS] = 0;
	t->iomap = 104;
}

/* Each scenario is one check; what is wrong in it is printed before. */
static const char *scenario;
static bool good;

static void want(const char *what, u64 got, u64 expected) {
	if (got == expected) return;
	good = false;
	print("# %s: %s: expected 0x%lx got 0x%lx\n", scenario, what, expected, got);
}

static void verdict(void) {
	if (scenario) check(scenario, good);
}

static void prepare(const char *name, const char *op, const char *leave) {
	static const u32 probe = 0x600d0000;

	verdict();
	scenario = name;
	good = true;
	fill_table();
	fill_gates();
	/* What it holds is seen to be overwritten, but for what is never saved. */
	fill_tss(&main_tss, task_main, ring0_stack, 0xeeeeeee0);
	fill_tss(&other_tss, task_other, other_stack, OTHER_MARK);
	fill_tss(&fault_tss, task_fault, fault_stack, FAULT_MARK);
	memset(main_note, 0, sizeof(main_note));
	memset(other_note, 0, sizeof(other_note));
	memset(fault_note, 0, sizeof(fault_note));
	memset(trap_note, 0, sizeof(trap_note));
	task_op = op;
	task_target[1] = SEL_OTHER;
	other_leave = leave;
	fault_leave = leave;
	task_probe = &probe;
}

static void run(enum mode mode) {
	struct mode_tables tables = {low32(gates), sizeof(gates) - 1};
	struct __packed {
		u16 limit;
		u64 base;
	} pointer = {sizeof(table) - 1, (u64)table};

	__asm__ volatile("lgdt %0" : : "m"(pointer));
	mode_run(mode, &tables, task_main, (size_t)(task_main_end - task_main));
	trap_init_cpu(&cpus[0]);
}

/* ---- the ways to switch ---- */

/* The main task goes on with its registers, whoever was there in between. */
static void check_main(void) {
	const u32 *g = main_note;

	want("the main task goes on", g[NOTE_RUNS], 1);
	want("with its registers",
	     g[0] == 0x11111111 && g[1] == 0x22222222 && g[2] == 0x33333333 && g[3] == 0x44444444 &&
		     g[5] == 0x55555555 && g[6] == 0x66666666 && g[7] == 0x77777777,
	     true);
	want("in TR", g[NOTE_TR], SEL_MAIN);
	want("its page tables", g[NOTE_CR3], main_tss.cr3);
}

/* What the switch away from the main task has saved. */
static void check_saved(u32 eip) {
	const struct tss *t = &main_tss;

	want("flags of the main task", main_note[NOTE_FLAGS] & (FLAG_NT | FLAG_VM), 0);
	want("flags saved", t->eflags & (FLAG_NT | FLAG_VM), 0);
	want("EIP saved", t->eip, eip);
	want("registers saved",
	     t->gpr[0] == 0x11111111 && t->gpr[1] == 0x22222222 && t->gpr[2] == 0x33333333 &&
		     t->gpr[3] == 0x44444444 && t->gpr[4] == main_note[4] &&
		     t->gpr[5] == 0x55555555 && t->gpr[6] == 0x66666666 && t->gpr[7] == 0x77777777,
	     true);
	want("selectors saved",
	     (u16)t->seg[CS] == SEL_CODE32 && (u16)t->seg[SS] == SEL_DATA &&
		     (u16)t->seg[DS] == SEL_DATA && (u16)t->seg[ES] == SEL_DATA,
	     true);
}

/* What a task has found: everything from its TSS. */
static void check_task(const u32 *note, const struct tss *t, u16 selector, bool nested, u32 mark) {
	bool gprs = true, segs = true;

	for (u32 i = 0; i < 8; i++)
		if (i != 4 && note[i] != (mark | i)) gprs = false;
	for (u32 i = 0; i < 6; i++)
		if ((u16)note[NOTE_SEG + i] != (u16)t->seg[i]) segs = false;
	want("it ran", note[NOTE_RUNS], 1);
	want("general registers", gprs, true);
	want("segment registers", segs, true);
	want("NT", note[NOTE_FLAGS] & FLAG_NT, nested ? FLAG_NT : 0);
	want("TR", note[NOTE_TR], selector);
	want("CR0.TS", note[NOTE_CR0] & (u32)X86_CR0_TS, X86_CR0_TS);
}

static void test_jmp(enum mode mode, const char *name) {
	prepare(name, op_far_jmp, leave_jmp);
	other_tss.link = 0x1234;
	run(mode);
	check_task(other_note, &other_tss, SEL_OTHER, false, OTHER_MARK);
	want("ESP", other_note[4], low32(other_stack) + 4096 - 64);
	check_main();
	check_saved(task_resume);
	want("no back link", other_tss.link, 0x1234);
	want("the task that was left is not busy", busy(SEL_OTHER), false);
	want("the running task is busy", busy(SEL_MAIN), true);
}

static void check_nested(void) {
	check_task(other_note, &other_tss, SEL_OTHER, true, OTHER_MARK);
	check_main();
	check_saved(task_resume);
	want("back link", (u16)other_tss.link, SEL_MAIN);
	want("NT is not saved by IRET", other_tss.eflags & FLAG_NT, 0);
	want("the task that was left is not busy", busy(SEL_OTHER), false);
	want("the running task is busy", busy(SEL_MAIN), true);
}

/* CALL, INT n and INT3 save the address behind them (SDM 3A 7.2.1). */
static void test_nested(void) {
	prepare("CALL", op_far_call, leave_iret);
	run(MODE_PROTECTED32);
	check_nested();
	prepare("CALL to a task gate", op_far_call, leave_iret);
	task_target[1] = SEL_GATE;
	run(MODE_PROTECTED32);
	check_nested();
	prepare("INT", op_int, leave_iret);
	gates[VECTOR_GATE] = task_gate(SEL_OTHER);
	run(MODE_PROTECTED32);
	check_nested();
	want("nothing on the stack", other_note[4], low32(other_stack) + 4096 - 64);
	prepare("INT3", op_int3, leave_iret);
	gates[X86_BP] = task_gate(SEL_OTHER);
	run(MODE_PROTECTED32);
	check_nested();
}

/* Out of an event: EIP of the faulting instruction is saved, an error code is on the new stack. */
static void test_fault(enum mode mode, u32 error) {
	run(mode);
	check_task(fault_note, &fault_tss, SEL_FAULT, true, FAULT_MARK);
	check_main();
	want("EIP saved", fault_note[NOTE_EIP], task_at);
	want("error code", fault_note[NOTE_ERROR], error);
	want("on the stack", fault_note[4], low32(fault_stack) + 4096 - 68);
	want("back link", (u16)fault_tss.link, SEL_MAIN);
}

static void test_faults(void) {
	prepare("#GP", op_gp, leave_resume);
	gates[X86_GP] = task_gate(SEL_FAULT);
	test_fault(MODE_PROTECTED32, 0x1110);
	prepare("#PF", op_pf, leave_resume);
	gates[X86_PF] = task_gate(SEL_FAULT);
	test_fault(MODE_PAGING32, 2);
	prepare("#DF", op_df, leave_resume);
	gates[X86_GP] = 0;
	gates[X86_DF] = task_gate(SEL_FAULT);
	test_fault(MODE_PROTECTED32, 0);
}

static void test_events(void) {
	prepare("interrupt", op_interrupt, leave_iret);
	gates[VECTOR_INTERRUPT] = task_gate(SEL_OTHER);
	lapic_write(LAPIC_SVR, 0x1ff);
	run(MODE_PROTECTED32);
	lapic_eoi();
	check_task(other_note, &other_tss, SEL_OTHER, true, OTHER_MARK);
	check_main();
	want("EIP saved", other_note[NOTE_EIP] >= task_at && other_note[NOTE_EIP] <= task_resume,
	     true);
	want("nothing on the stack", other_note[4], low32(other_stack) + 4096 - 64);

	prepare("NMI", op_nmi, leave_nmi);
	gates[X86_NMI] = task_gate(SEL_OTHER);
	run(MODE_PROTECTED32);
	check_main();
	want("another one waits", other_note[NOTE_RUNS_LEFT], 1);
	want("until IRET", other_note[NOTE_RUNS], 2);
	want("no trap", trap_note[TRAP_COUNT], 0);
	want("TF is not in the saved flags", other_tss.eflags & 0x100, 0);
}

/* ---- what belongs to the task ---- */

static void test_ldt(void) {
	static u32 data[4];

	prepare("LDT", op_far_call, leave_iret);
	data[0] = 0x10ca1;
	ldt[2] = descriptor((u64)data, sizeof(data) - 1, 0x93, 4);
	other_tss.ldt = SEL_LDT;
	other_tss.seg[FS] = IN_LDT(2);
	run(MODE_PROTECTED32);
	check_nested();
	want("in LDTR", other_note[NOTE_LDT], SEL_LDT);
	want("what is in its segment", other_note[NOTE_IN_FS], 0x10ca1);
}

#define PROBE 0x20000000u

static u32 probe_pages[2][1024] __aligned(4096);
static u64 probe_tables[2][512] __aligned(4096); /* of either size of entries */

static void probe_setup(bool pae) {
	memset(probe_tables, 0, sizeof(probe_tables));
	for (unsigned i = 0; i < 2; i++) {
		probe_pages[i][0] = 0x900d + i;
		if (pae)
			probe_tables[i][0] = (u64)probe_pages[i] | 7;
		else
			((u32 *)probe_tables[i])[0] = low32(probe_pages[i]) | 7;
	}
	task_probe = (const u32 *)(u64)PROBE;
}

static void check_spaces(void) {
	check_nested();
	want("in CR3", other_note[NOTE_CR3], other_tss.cr3);
	want("what the task reads", other_note[NOTE_PROBE], 0x900e);
	want("what the main task reads", main_note[NOTE_PROBE], 0x900d);
}

static void test_cr3(void) {
	static u32 directory[1024] __aligned(4096);
	static u64 pae_directory[512] __aligned(4096), pointers[4] __aligned(32);

	prepare("CR3", op_far_call, leave_iret);
	probe_setup(false);
	mode_directory()[PROBE >> 22] = low32(probe_tables[0]) | 7;
	memcpy(directory, mode_directory(), sizeof(directory));
	directory[PROBE >> 22] = low32(probe_tables[1]) | 7;
	other_tss.cr3 = low32(directory);
	run(MODE_PAGING32);
	check_spaces();

	prepare("CR3 in PAE paging", op_far_call, leave_iret);
	probe_setup(true);
	mode_pae_directory(0)[PROBE >> 21] = (u64)probe_tables[0] | 7;
	memcpy(pae_directory, mode_pae_directory(0), sizeof(pae_directory));
	pae_directory[PROBE >> 21] = (u64)probe_tables[1] | 7;
	for (unsigned i = 0; i < 4; i++) pointers[i] = (u64)mode_pae_directory(i) | 1;
	pointers[0] = (u64)pae_directory | 1;
	other_tss.cr3 = low32(pointers);
	run(MODE_PAGING32_PAE);
	check_spaces();
}

static void test_debug(void) {
	static const char name[] = "T bit";

	prepare("DR7", op_debug, leave_jmp);
	run(MODE_PROTECTED32);
	check_main();
	want("local breakpoints are off, global ones are not", other_note[NOTE_DR7] & 0xff, 2);
	if (tcg_differs(name, TCG_NO_T_BIT)) return;
	prepare(name, op_far_jmp, leave_jmp);
	other_tss.trap = 1;
	run(MODE_PROTECTED32);
	check_main();
	want("#DB", trap_note[TRAP_VECTOR], X86_DB);
	want("once", trap_note[TRAP_COUNT], 1);
	want("before the task's first instruction", trap_note[TRAP_EIP], low32(task_other));
	want("in the new task", trap_note[TRAP_TR], SEL_OTHER);
	want("DR6.BT", trap_note[TRAP_DR6] & 0xe00f, 0x8000);
}

/* ---- tasks of other kinds ---- */

static void check_ring0(u32 cs, u32 flags) {
	check_main();
	want("it ran", mode_data()->value[4] & 0xffff, 0xbeef);
	want("it came to ring 0 by its TSS", trap_note[TRAP_COUNT], 1);
	want("CS", trap_note[TRAP_CS] & 0xffff, cs);
	want("flags", trap_note[TRAP_FLAGS] & (FLAG_VM | FLAG_IOPL3), flags);
}

#define LOW_CODE 0xa000 /* free in mode.h's area */

static void test_rings(void) {
	prepare("ring 3", op_far_jmp, leave_jmp);
	for (u32 i = 0; i < 4; i++) other_tss.seg[i] = SEL_USER_DATA;
	other_tss.seg[CS] = SEL_USER_CODE32;
	other_tss.eip = low32(ring3_code);
	mode_data()->value[4] = 0;
	run(MODE_PROTECTED32);
	check_ring0(SEL_USER_CODE32, 0);

	prepare("virtual-8086 mode", op_far_jmp, leave_jmp);
	memcpy((void *)LOW_CODE, v86_code, (size_t)(v86_code_end - v86_code));
	other_tss.eflags = 2 | FLAG_VM | FLAG_IOPL3;
	other_tss.seg[CS] = LOW_CODE >> 4;
	other_tss.eip = 0;
	for (u32 i = 0; i < 6; i++)
		if (i != CS) other_tss.seg[i] = 0;
	other_tss.gpr[4] = 0x8800;
	mode_data()->value[4] = 0;
	run(MODE_PROTECTED32);
	check_ring0(LOW_CODE >> 4, FLAG_VM | FLAG_IOPL3);
}

/* A TSS of 16 bits: the low halves; no FS, GS, CR3, T. */
static void test_tss16(void) {
	bool gprs = true;

	prepare("16-bit TSS", op_far_call, leave_iret);
	memcpy((void *)LOW_CODE, stub16, (size_t)(stub16_end - stub16));
	memset(&tss16, 0, sizeof(tss16));
	tss16.ip = LOW_CODE;
	tss16.flags = 2;
	for (u32 i = 0; i < 8; i++) tss16.gpr[i] = (u16)(0xab00 | i);
	for (u32 i = 0; i < 4; i++) tss16.seg[i] = SEL_DATA;
	tss16.seg[CS] = SEL_CODE32;
	tss16.seg[SS] = SEL_DATA16;
	tss16.gpr[4] = 0x8800;
	task_target[1] = SEL_TSS16;
	run(MODE_PROTECTED32);
	check_main();
	for (u32 i = 0; i < 8; i++)
		if (i != 4 && (other_note[i] & 0xffff) != (0xab00 | i)) gprs = false;
	want("it ran", other_note[NOTE_RUNS], 1);
	want("registers", gprs, true);
	want("SP", other_note[4] & 0xffff, 0x8800);
	want("TR", other_note[NOTE_TR], SEL_TSS16);
	want("SS", other_note[NOTE_SEG + SS], SEL_DATA16);
	want("FS and GS", other_note[NOTE_SEG + FS] | other_note[NOTE_SEG + GS], 0);
	want("NT", other_note[NOTE_FLAGS] & FLAG_NT, FLAG_NT);
	want("back link", tss16.link, SEL_MAIN);
	want("IP saved", tss16.ip, (u16)low32(leave_iret_end));
	want("flags saved", tss16.flags & FLAG_NT, 0);
	want("SP saved", tss16.gpr[4], 0x8800 - 4);
	want("not busy", busy(SEL_TSS16), false);
}

/* ---- what is refused ---- */

/* Before anything has changed: the fault is the main task's, and it can go on. */
static void check_refused(u8 vector, u32 error, u32 at) {
	check_main();
	want("fault", trap_note[TRAP_VECTOR], vector);
	want("error code", trap_note[TRAP_ERROR], error);
	want("EIP", trap_note[TRAP_EIP], at);
	want("once", trap_note[TRAP_COUNT], 1);
	want("in the old task", trap_note[TRAP_TR], SEL_MAIN);
	want("the old task is busy", busy(SEL_MAIN), true);
	want("nobody else ran", other_note[NOTE_RUNS], 0);
}

static void test_refused(void) {
	static const struct {
		const char *jmp, *call;
		u16 selector;
		u8 vector;
	} all[] = {
		{"JMP to a busy TSS", "CALL to a busy TSS", SEL_OTHER, X86_GP},
		{"JMP beyond the GDT", "CALL beyond the GDT", SEL_BEYOND, X86_GP},
		{"JMP to a TSS in an LDT", "CALL to a TSS in an LDT", SEL_OTHER | 4, X86_GP},
		{"JMP to an absent TSS", "CALL to an absent TSS", SEL_TSS_ABSENT, X86_NP},
		{"JMP to a short TSS", "CALL to a short TSS", SEL_TSS_SHORT, X86_TS},
		{"JMP to a short 16-bit TSS", "CALL to a short 16-bit TSS", SEL_TSS16_SHORT,
		 X86_TS},
	};

	for (unsigned i = 0; i < 2 * ARRAY_SIZE(all); i++) {
		bool call = i & 1;

		prepare(call ? all[i / 2].call : all[i / 2].jmp, call ? op_far_call : op_far_jmp,
			leave_jmp);
		table[SEL_OTHER >> 3] |= (u64)BUSY << 40;
		task_target[1] = all[i / 2].selector;
		run(MODE_PROTECTED32);
		check_refused(all[i / 2].vector, all[i / 2].selector, task_at);
	}
}

/* IRET with NT looks at the back link; its TSS has to be busy (SDM 2A, IRET). */
static void test_iret(void) {
	static const struct {
		const char *name;
		u16 link;
	} all[] = {
		{"IRET to a TSS that is not busy", SEL_OTHER},
		{"IRET to no TSS", SEL_DATA},
		{"IRET beyond the GDT", SEL_BEYOND},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		prepare(all[i].name, op_iret, leave_jmp);
		main_tss.link = all[i].link;
		run(MODE_PROTECTED32);
		check_refused(X86_TS, all[i].link, task_resume - 1);
	}
	prepare("IRET", op_iret, leave_jmp);
	main_tss.link = SEL_OTHER;
	table[SEL_OTHER >> 3] |= (u64)BUSY << 40;
	run(MODE_PROTECTED32);
	check_task(other_note, &other_tss, SEL_OTHER, false, OTHER_MARK);
	check_main();
	check_saved(task_resume);
}

/* A page of the new TSS is missing: CR2 tells it, and nothing has happened. */
static void test_missing_page(void) {
	prepare("missing page", op_far_jmp, leave_jmp);
	table[SEL_OTHER >> 3] = descriptor(MISSING + 8, 103, TYPE_TSS, 0);
	run(MODE_PAGING32);
	check_refused(X86_PF, 0, task_at);
	want("CR2", trap_note[TRAP_CR2] >= MISSING + 8 && trap_note[TRAP_CR2] < MISSING + 8 + 104,
	     true);
	want("the new task is not busy", busy(SEL_OTHER), false);
}

/*
 * Selectors that are wrong (SDM 3A table 7-1): the fault is the new task's, whose state may not be
 * usable; so a task gate leads to a third one.
 */
static void test_segments(void) {
	enum { LDTR = 6, ANY = -1 };
	static const struct {
		const char *name;
		u8 seg, vector;
		u16 selector;
		s8 differs;
	} all[] = {
		{"null CS", CS, X86_TS, 0, ANY},
		{"CS beyond the GDT", CS, X86_TS, SEL_BEYOND, ANY},
		{"CS of data", CS, X86_TS, SEL_DATA, ANY},
		{"CS of a TSS", CS, X86_TS, SEL_MAIN, ANY},
		{"CS with another RPL", CS, X86_TS, SEL_CODE32 | 3, ANY},
		{"absent CS", CS, X86_NP, SEL_CODE_ABSENT, ANY},
		{"CS in no LDT", CS, X86_TS, IN_LDT(1), ANY},
		{"null SS", SS, X86_TS, 0, ANY},
		{"SS beyond the GDT", SS, X86_TS, SEL_BEYOND, ANY},
		{"read-only SS", SS, X86_TS, SEL_READ_ONLY, ANY},
		{"SS of code", SS, X86_TS, SEL_CODE32, ANY},
		{"SS with another RPL", SS, X86_TS, SEL_DATA | 3, ANY},
		{"SS of another level", SS, X86_TS, SEL_USER_DATA, ANY},
		{"absent SS", SS, X86_SS, SEL_DATA_ABSENT, TCG_SS_ABSENT},
		{"DS beyond the GDT", DS, X86_TS, SEL_BEYOND, ANY},
		{"ES of execute-only code", ES, X86_TS, SEL_EXECUTE_ONLY, ANY},
		{"FS of a TSS", FS, X86_TS, SEL_MAIN, ANY},
		{"GS with too low a level", GS, X86_TS, SEL_DATA | 3, ANY},
		{"absent DS", DS, X86_NP, SEL_DATA_ABSENT, ANY},
		{"LDT in an LDT", LDTR, X86_TS, SEL_LDT | 4, ANY},
		{"LDT beyond the GDT", LDTR, X86_TS, SEL_BEYOND, ANY},
		{"LDT that is none", LDTR, X86_TS, SEL_DATA, ANY},
		{"absent LDT", LDTR, X86_TS, SEL_LDT_ABSENT, ANY},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		const char *name = all[i].name;

		if (all[i].differs != ANY && tcg_differs(name, (enum difference)all[i].differs))
			continue;
		prepare(name, op_far_jmp, leave_jmp);
		*(all[i].seg == LDTR ? &other_tss.ldt : &other_tss.seg[all[i].seg]) =
			all[i].selector;
		/* All else is right then. */
		if (all[i].selector == (SEL_CODE32 | 3))
			other_tss.seg[ES] = other_tss.seg[SS] = other_tss.seg[DS] = SEL_USER_DATA;
		gates[all[i].vector] = task_gate(SEL_FAULT);
		run(MODE_PROTECTED32);
		check_main();
		check_task(fault_note, &fault_tss, SEL_FAULT, true, FAULT_MARK);
		want("error code", fault_note[NOTE_ERROR], all[i].selector & 0xfffc);
		want("in the new task", (u16)fault_tss.link, SEL_OTHER);
		want("which has not run", other_note[NOTE_RUNS], 0);
		want("its ESP", other_tss.gpr[4], low32(other_stack) + 4096 - 64);
	}
}

/* The same with a handler in the new task: it has a stack when CS and SS are good. */
static void test_fault_inside(void) {
	static const char name[] = "fault in the new task";

	if (tcg_differs(name, TCG_FAULT_IN_NEW_TASK)) return;
	prepare(name, op_far_jmp, leave_jmp);
	other_tss.seg[DS] = SEL_BEYOND;
	gates[X86_TS] = gate(fault_inside, TYPE_INTERRUPT);
	run(MODE_PROTECTED32);
	check_main();
	want("error code", trap_note[TRAP_ERROR], SEL_BEYOND);
	want("EIP", trap_note[TRAP_EIP], low32(task_other));
	want("CS", trap_note[TRAP_CS], SEL_CODE32);
	want("TR", trap_note[TRAP_TR], SEL_OTHER);
}

static void test_good_segments(void) {
	prepare("unused ES", op_far_jmp, leave_jmp);
	other_tss.seg[ES] = SEL_NEVER_USED;
	run(MODE_PROTECTED32);
	check_task(other_note, &other_tss, SEL_OTHER, false, OTHER_MARK);
	if (!tcg_differs("unused ES: accessed", TCG_NO_ACCESSED))
		want("accessed", type_of(SEL_NEVER_USED), 3);
	if (tcg_differs("conforming CS", TCG_CONFORMING)) return;
	prepare("conforming CS", op_far_jmp, leave_jmp);
	for (u32 i = 0; i < 4; i++) other_tss.seg[i] = SEL_USER_DATA;
	other_tss.seg[CS] = SEL_CONFORMING | 3;
	other_tss.eip = low32(ring3_code);
	mode_data()->value[4] = 0;
	run(MODE_PROTECTED32);
	check_ring0(SEL_CONFORMING | 3, 0);
}

void test_main(void) {
	mode_directory()[MISSING >> 22] = 0;
	lapic_init();
	test_jmp(MODE_PROTECTED32, "JMP");
	test_jmp(MODE_PAGING32, "JMP with paging");
	test_jmp(MODE_PAGING32_PAE, "JMP with PAE paging");
	test_nested();
	test_faults();
	test_events();
	test_ldt();
	test_cr3();
	test_debug();
	test_rings();
	test_tss16();
	test_refused();
	test_iret();
	test_missing_page();
	test_segments();
	test_fault_inside();
	test_good_segments();
	verdict();
}
