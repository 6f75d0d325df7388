/*
 * Control blocks that make no sense, and guests that do what they like: whatever an L1 runs, it
 * comes back to itself with its own state, and neither it nor its neighbours notice more than an
 * exit. First each bit of a good block is changed, one at a time, and what VMRUN makes of it is
 * held against the manual.
 *
 * Each round takes an L2 that is locked up: its 16 pages are all that its nested tables map, every
 * port and MSR exits, and a timer ends what goes on for ever. Then up to three fields of its
 * control block are changed at random, but for what keeps it locked up, and it runs random
 * instructions. `rounds=` and `seed=` on the command line choose how many and which.
 *
 * vm: machine=amd limit=240
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/svm.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "svm_hostile";

#define VECTOR_TIMER 0x40
#define TIMER_TICKS  20000
#define PAGES	     16
#define ALL	     (PTE_PRESENT | PTE_WRITE | PTE_USER)
#define PTE_FRAME    (~(PAGE_SIZE - 1))
/* L2-physical: three tables of its own, then code and stack. */
#define L2_TABLES  0x1000ul
#define L2_CODE	   0x4000ul
#define CODE_BYTES 64u
#define L2_STACK   0x7000ul

/* A canary on both sides. */
static u8 cage[(PAGES + 2) * PAGE_SIZE] __aligned(4096);
static u8 ones[3 * PAGE_SIZE] __aligned(4096); /* both permission maps */
static u8 own_state[PAGE_SIZE] __aligned(4096);
static u64 seed, root;

static u64 draw(u64 below) {
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 11) % below;
}

static void *in_cage(u64 gpa2) { return cage + PAGE_SIZE + gpa2; }

static void vmload(void *block) { __asm__ volatile("vmload" : : "a"(block) : "memory"); }

static void on_timer(struct regs *regs) {
	(void)regs;
	lapic_eoi();
}

/* ---- addresses that are no RAM ---- */

static u64 try_at(unsigned opcode, u64 address) {
	if (opcode == 0xd8)
		__asm__ volatile(TRY "vmrun" END_TRY : "+a"(address) : : TRY_SPOILS);
	else if (opcode == 0xda)
		__asm__ volatile(TRY "vmload" END_TRY : "+a"(address) : : TRY_SPOILS);
	else
		__asm__ volatile(TRY "vmsave" END_TRY : "+a"(address) : : TRY_SPOILS);
	return trap_taken().vector;
}

static void test_addresses(void) {
	static const struct {
		const char *name;
		u64 address;
	} places[] = {{"the local APIC", LAPIC_BASE},
		      {"the IOAPIC", IOAPIC_BASE},
		      {"a hole", 0xd0000000},
		      {"beyond RAM", GiB(5)},
		      {"the first page of ROM", 0xc0000}};
	static const char *const names[] = {"VMRUN", "", "VMLOAD", "VMSAVE"};
	u8 *last = (void *)(ram_top() - PAGE_SIZE);

	if (!under_roost()) {
		skip("control blocks outside of RAM", "hardware does as it likes");
		return;
	}
	for (unsigned i = 0; i < 4; i++) {
		if (i == 1) continue;
		for (unsigned j = 0; j < ARRAY_SIZE(places) - 1; j++)
			check_eq(name_of("%s at %s", names[i], places[j].name),
				 try_at(0xd8 + i, places[j].address), X86_GP);
		check_eq(name_of("%s behind the last page of RAM", names[i]),
			 try_at(0xd8 + i, ram_top()), X86_GP);
	}
	static const u8 code[] = {0x0f, 0x01, 0xd9};
	memcpy(last, l2_new(code), PAGE_SIZE);
	clgi();
	l2_enter_at((u64)last);
	stgi();
	check_eq("a control block in the last page of RAM",
		 ((const struct vmcb *)(const void *)last)->exit_code, EXIT_VMMCALL);
}

/* The manual leaves open what happens then; L1 still has what it had. */
extern const char code_clear_svme[], code_leave[];
__asm__(".pushsection .text\n"
	"code_clear_svme: mov $0xc0000080, %ecx\n"
	"rdmsr\n"
	"btr $12, %eax\n"
	"wrmsr\n"
	"code_leave: vmmcall\n"
	".popsection");

static void test_svme(void) {
	struct vmcb *vmcb = l2_new(code_clear_svme);
	u64 efer = rdmsr(X86_MSR_EFER), code = l2_run(vmcb);

	check("L2 clears EFER.SVME: it ends",
	      code == EXIT_VMMCALL || code == EXIT_SHUTDOWN || code == EXIT_INVALID);
	check_eq("L2 clears EFER.SVME: L1's is set", rdmsr(X86_MSR_EFER), efer);
	vmcb->efer &= ~X86_EFER_SVME;
	check_eq("L2 without EFER.SVME: refused", l2_run(vmcb), EXIT_INVALID);
	check_eq("L2 goes on with it", l2_run(l2_new(code_leave)), EXIT_VMMCALL);
}

/* ---- random rounds ---- */

/* Begins of instructions that a hypervisor has to do with. */
static const char *const beginnings[] = {
	"\x0f\x01", "\x0f\x20", "\x0f\x22", "\x0f\x21", "\x0f\x23", "\x0f\x30", "\x0f\x32",
	"\x0f\xa2", "\xf4",	"\xe4\x60", "\xe6\xf4", "\xec",	    "\xef",	"\xcd\x80",
	"\xcc",	    "\xcf",	"\x0f\x00", "\x0f\x09", "\x0f\xc7", "\xf3\x90", "\xfb",
	"\xfa",	    "\x9d",	"\x0f\x05", "\x0f\x07", "\x0f\x34", "\x0f\x06", "\x8e",
	"\xf3\x6e", "\xea",	"\xeb\xfe", "\x0f\x31", "\x0f\x33", "\xf1",	"\x0f\xae",
	"\x0f\x0b", "\x48\xa3", "\x0f\x35", "\x66\xf2", "\x0f\x08"};

static void make_code(void) {
	u8 *code = in_cage(L2_CODE);
	unsigned at = 0;

	while (at < CODE_BYTES) {
		const char *begin = beginnings[draw(ARRAY_SIZE(beginnings))];

		while (*begin && draw(8)) code[at++] = (u8)*begin++;
		for (u64 i = draw(4); i; i--) code[at++] = (u8)draw(256);
	}
	if (!draw(3)) at = 0;
	/* VMMCALL, then for ever. */
	memcpy(code + at, (const u8[]){0x0f, 0x01, 0xd9, 0xeb, 0xfe}, 5);
}

/* Its own tables map the cage one to one; in 64-bit, 32-bit or real mode. */
static struct vmcb *make_l2(u64 mode) {
	struct vmcb *vmcb = l2_new(NULL);
	u64 *tables = in_cage(L2_TABLES);

	memset(tables, 0, 3 * PAGE_SIZE);
	tables[0] = (L2_TABLES + PAGE_SIZE) | ALL;
	tables[512] = (L2_TABLES + 2 * PAGE_SIZE) | ALL;
	tables[1024] = ALL | PTE_LARGE;
	vmcb->cr3 = L2_TABLES;
	vmcb->gdtr.base = vmcb->idtr.base = 0x8000;
	vmcb->rip = L2_CODE;
	vmcb->rsp = L2_STACK;
	if (mode) {
		vmcb->efer = X86_EFER_SVME;
		vmcb->cr0 = mode == 1 ? 0x11 : 0x10;
		vmcb->cr4 = 0;
		vmcb->cs.attr = mode == 1 ? 0xc9b : 0x9b;
		if (mode == 2) vmcb->cs.selector = 0;
	}
	for (u64 *reg = (u64 *)&l2_regs; reg < (u64 *)(&l2_regs + 1); reg++)
		*reg = draw(2) ? draw(PAGES * PAGE_SIZE) : seed;
	return vmcb;
}

/* A field of what VMRUN reads. */
static u64 *draw_field(struct vmcb *vmcb) {
	u64 control = offsetof(struct vmcb, insn_len), first = offsetof(struct vmcb, es);
	u64 state = offsetof(struct vmcb, debugctl) - first, at = draw(control + state);

	if (at >= control) at += first - control;
	return (u64 *)((u8 *)vmcb + (at & ~7ul));
}

static void mutate(struct vmcb *vmcb) {
	u64 *field = draw_field(vmcb);

	switch (draw(4)) {
	case 0: *field = seed; break;
	case 1: *field = *draw_field(vmcb); break;
	case 2: *field = draw(2) ? 0 : ~0ul; break;
	default: *field ^= BIT(draw(64)); break;
	}
}

static void lock_up(struct vmcb *vmcb, bool tables) {
	/* QEMU 7.2 dies of breakpoints that are on at an exit. */
	vmcb->intercept_dr_write = 0xffff;
	vmcb->dr7 = 0x400;
	vmcb->intercept_misc1 |= (u32)(INTERCEPT_INTR | INTERCEPT_NMI | INTERCEPT_IOIO |
				       INTERCEPT_MSR | INTERCEPT_HLT | INTERCEPT_SHUTDOWN);
	vmcb->intercept_misc2 |= (u32)(INTERCEPT_STGI | INTERCEPT_CLGI);
	vmcb->vintr |= (u32)V_MASKING;
	vmcb->np_enable |= NP_ENABLE;
	if (tables) {
		vmcb->iopm_base = vmcb->msrpm_base = (u64)ones;
		vmcb->ncr3 = root;
	} else { /* invalid, or nothing is there */
		vmcb->iopm_base |= BIT(51);
		vmcb->msrpm_base |= BIT(51);
		vmcb->ncr3 |= draw(2) ? BIT(51) : GiB(32);
	}
}

/* ---- every bit of the block ---- */

static u64 cr4_known(void) {
	static const struct {
		u8 cr4, reg, bit;
		u32 leaf;
	} features[] = {{0, 3, 1, 1},	{1, 3, 1, 1},	{2, 3, 4, 1},	{3, 3, 2, 1},
			{4, 3, 3, 1},	{5, 3, 6, 1},	{6, 3, 7, 1},	{7, 3, 13, 1},
			{9, 3, 24, 1},	{10, 3, 25, 1}, {17, 2, 17, 1}, {18, 2, 26, 1},
			{11, 2, 2, 7},	{12, 2, 16, 7}, {16, 1, 0, 7},	{20, 1, 7, 7},
			{21, 1, 20, 7}, {22, 2, 3, 7},	{23, 2, 7, 7}};
	u64 known = BIT(8);

	for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
		if (cpuid_bit(features[i].leaf, features[i].reg, features[i].bit))
			known |= BIT(features[i].cr4);
	return known;
}

static u64 efer_known(void) {
	u64 known = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_SVME;

	if (cpuid_bit(0x80000001, 3, 20)) known |= X86_EFER_NXE;
	return cpuid_bit(0x80000001, 3, 25) ? known | X86_EFER_FFXSR : known;
}

static unsigned physical_bits(void) {
	u32 r[4];

	cpuid(0x80000008, 0, r);
	return r[0] & 0xff;
}

static bool event_refused(u64 event) {
	u64 type = event >> 8 & 7;
	u8 vector = (u8)event;

	if (!(event & EVENTINJ_VALID)) return false;
	return type == 1 || type > 4 || (type == 3 && (vector == 2 || vector > 31));
}

static bool pat_refused(u64 pat) {
	for (unsigned i = 0; i < 64; i += 8)
		if ((pat >> i & 0xff) > 7 || (pat >> i & 6) == 2) return true;
	return false;
}

/* What APM 2 15.5.1, 15.20 and 15.25.4 say of a block with nested paging. */
static bool refused(const struct vmcb *v) {
	u64 top = BIT(physical_bits());
	bool paging = (v->efer & X86_EFER_LME) && (v->cr0 & X86_CR0_PG);

	if (!(v->intercept_misc2 & INTERCEPT_VMRUN) || !v->asid || v->ncr3 >= top) return true;
	if ((v->iopm_base & PTE_FRAME) + 3 * PAGE_SIZE > top ||
	    (v->msrpm_base & PTE_FRAME) + 2 * PAGE_SIZE > top)
		return true;
	if (!(v->efer & X86_EFER_SVME) || (v->efer & ~efer_known())) return true;
	if (v->cr0 >> 32 || ((v->cr0 & X86_CR0_NW) && !(v->cr0 & X86_CR0_CD))) return true;
	if (v->cr3 >= top || (v->cr4 & ~cr4_known()) || v->dr6 >> 32 || v->dr7 >> 32) return true;
	if (paging && (!(v->cr4 & X86_CR4_PAE) || !(v->cr0 & X86_CR0_PE))) return true;
	if (paging && (v->cs.attr & 0x600) == 0x600) return true;
	return event_refused(v->event_inj) || pat_refused(v->g_pat);
}

/* What would let L2 out of its cage, or is QEMU's end: see lock_up(). */
static bool untouched(unsigned offset, unsigned bit, unsigned physical) {
	if (offset == offsetof(struct vmcb, ncr3)) return bit >= 12 && bit < physical;
	return (offset == offsetof(struct vmcb, np_enable) && !bit) ||
	       (offset == offsetof(struct vmcb, dr7) && bit < 32);
}

static void test_every_bit(void) {
	unsigned wrong = 0, tried = 0, seen = 0, physical = physical_bits();

	for (unsigned offset = 0; offset < offsetof(struct vmcb, debugctl); offset += 8) {
		if (offset >= offsetof(struct vmcb, insn_len) && offset < offsetof(struct vmcb, es))
			continue;
		for (unsigned bit = 0; bit < 64; bit++) {
			struct vmcb *vmcb = make_l2(0);

			if (untouched(offset, bit, physical)) continue;
			memcpy(in_cage(L2_CODE), "\x0f\x01\xd9\xeb\xfe", 5);
			lock_up(vmcb, true);
			*(u64 *)((u8 *)vmcb + offset) ^= BIT(bit);
			bool expected = refused(vmcb);
			clgi(); /* the timer must not be over before VMRUN */
			lapic_write(LAPIC_TIMER_INIT, TIMER_TICKS);
			u64 code = l2_enter(vmcb);
			vmload(own_state);
			stgi();
			lapic_eoi(); /* L2 may have got the interrupt, without its intercept */
			tried++;
			seen += expected;
			if ((code == EXIT_INVALID) != expected && wrong++ < 10)
				print("# offset 0x%x bit %u: exit 0x%lx\n", offset, bit, code);
		}
	}
	print("# %u bits changed, %u refused\n", tried, seen);
	check("every bit: some are refused", seen > 300 && tried > 6000);
	check_eq("every bit: result is not the manual's", wrong, 0);
}

static u64 own_registers(void) {
	return read_cr0() ^ read_cr3() ^ read_cr4() ^ rdmsr(X86_MSR_EFER);
}

static bool canaries_live(void) {
	for (unsigned i = 0; i < PAGE_SIZE; i++)
		if (cage[i] != 0xc5 || cage[(PAGES + 1) * PAGE_SIZE + i] != 0xc5) return false;
	return true;
}

enum {
	SEEN_INVALID,
	SEEN_VMMCALL,
	SEEN_NPF,
	SEEN_INTR,
	SEEN_SHUTDOWN,
	SEEN_MSR,
	SEEN_IO,
	SEEN_ODD
};

static unsigned kind(u64 code) {
	switch (code) {
	case EXIT_INVALID: return SEEN_INVALID;
	case EXIT_VMMCALL: return SEEN_VMMCALL;
	case EXIT_NPF: return SEEN_NPF;
	case EXIT_INTR: return SEEN_INTR;
	case EXIT_SHUTDOWN: return SEEN_SHUTDOWN;
	case EXIT_MSR: return SEEN_MSR;
	case EXIT_IOIO: return SEEN_IO;
	default: return SEEN_ODD;
	}
}

static void test_rounds(u64 rounds) {
	static const char *const names[] = {"a refused block", "VMMCALL",  "a nested page fault",
					    "the timer",       "shutdown", "an MSR",
					    "a port"};
	u64 seen[SEEN_ODD + 1] = {0}, own = own_registers(), changed = 0, strange = 0;

	for (u64 i = 0; i < rounds; i++) {
		struct vmcb *vmcb = make_l2(draw(3));

		make_code();
		for (u64 n = draw(4); n; n--) mutate(vmcb);
		lock_up(vmcb, draw(16));
		u64 first = seed;
		clgi(); /* the timer must not be over before VMRUN */
		lapic_write(LAPIC_TIMER_INIT, TIMER_TICKS);
		u64 code = l2_enter(vmcb);
		vmload(own_state); /* L2 may have changed what VMRUN does not switch */
		stgi();
		seen[kind(code)]++;
		if (own_registers() != own) changed++;
		if (code >= 0xc0 && code != EXIT_NPF && code != EXIT_INVALID && !strange++)
			print("# exit 0x%lx, seed 0x%lx\n", code, first);
	}
	check_eq("exits that there are not", strange, 0);
	check_eq("rounds that changed L1's own registers", changed, 0);
	check("what L2 cannot reach has not changed", canaries_live());
	for (unsigned i = 0; i < SEEN_ODD; i++)
		check(name_of("some rounds ended by %s", names[i]), seen[i] > 0);
	print("# %lu refused, %lu to their end, %lu by the timer, %lu shut down\n",
	      seen[SEEN_INVALID], seen[SEEN_VMMCALL], seen[SEEN_INTR], seen[SEEN_SHUTDOWN]);
}

void test_main(void) {
	if (!svm_init()) return;
	if (!(svm_feature_bits() & 1)) {
		skip("nested paging", "this machine has none");
		return;
	}
	lapic_init();
	pic_init(0x20);
	trap_set_handler(VECTOR_TIMER, on_timer);
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
	lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
	__asm__ volatile("vmsave" : : "a"(own_state) : "memory");
	memset(cage, 0xc5, sizeof(cage));
	memset(ones, 0xff, sizeof(ones));
	root = (u64)page_alloc();
	for (u64 gpa2 = 0; gpa2 < PAGES * PAGE_SIZE; gpa2 += PAGE_SIZE)
		*page_entry_in(root, gpa2, 1) = (u64)in_cage(gpa2) | ALL;
	test_addresses();
	test_svme();
	seed = cmdline_number("seed", 0x123456789abcdef);
	cpu_sti();
	test_every_bit();
	test_rounds(cmdline_number("rounds", 10000));
	cpu_cli();
}
