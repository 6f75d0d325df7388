/*
 * Events across VMRUN and #VMEXIT: none is lost, late or doubled (T-X2; APM 2 15.17, 15.20, 15.21).
 *
 * A model in this file says for every combination of what is pending, masked, intercepted and
 * injected which handlers run in L2, at which instruction, what ends its run and what is left for
 * L1.
 *
 * vm: machine=amd
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/svm.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "svm_event";

#define VECTOR_IRQ  0x61 /* physical, for L1 */
#define VECTOR_VIRQ 0x62 /* virtual, by V_IRQ */
#define VECTOR_INJ  0x63 /* injected by EVENTINJ */
#define IN_HANDLER  9	 /* the position of an event that came in another one's handler */
#define MAX_TRACE   8

/* L2's programs: four instructions of which the last is VMMCALL. */
enum program { IF_CLEAR, IF_SET, STI_FIRST, NR_PROGRAMS };
static const u8 code[NR_PROGRAMS][8] = {
	[IF_CLEAR] = {0x90, 0x90, 0x90, 0x0f, 0x01, 0xd9},
	[IF_SET] = {0x90, 0x90, 0x90, 0x0f, 0x01, 0xd9},
	[STI_FIRST] = {0xfb, 0x90, 0x90, 0x0f, 0x01, 0xd9},
};

enum injection { INJ_NONE, INJ_INTR, INJ_SOFT, INJ_EXCEPTION, NR_INJECTIONS };
static const u64 injections[NR_INJECTIONS] = {
	[INJ_INTR] = EVENTINJ_VALID | EVENTINJ_INTR << 8 | VECTOR_INJ,
	[INJ_SOFT] = EVENTINJ_VALID | EVENTINJ_SOFT << 8 | VECTOR_INJ,
	[INJ_EXCEPTION] = EVENTINJ_VALID | EVENTINJ_EXCEPTION << 8 | X86_UD,
};

struct setting {
	enum program program;
	enum injection injection;
	bool irq, nmi, virq;		    /* pending */
	bool l1_if, masking;		    /* RFLAGS.IF at VMRUN, V_INTR_MASKING */
	bool exit_irq, exit_nmi, exit_virq; /* intercepted */
};

struct result {
	u64 code;
	u8 position; /* of L2's RIP */
	u8 nr;
	u16 trace[MAX_TRACE]; /* vector << 8 | position, in the order in which handlers ran */
	u8 l1_irqs, l1_nmis;  /* taken in L1 afterwards */
};

/* ---- what the manual says ---- */

static const struct setting *set;
static struct result *out;
static bool irq, nmi, virq, nmi_blocked;

static bool take(u8 vector, u8 position);

/* What is taken before the next instruction; false: the L2's run has ended. */
static bool boundary(bool flag, bool shadow, u8 position) {
	for (;;) {
		bool open = set->masking ? set->l1_if : flag && !shadow;

		out->position = position;
		if (nmi && !nmi_blocked) {
			out->code = EXIT_NMI;
			if (set->exit_nmi) return false;
			nmi = false;
			nmi_blocked = true;
			if (!take(X86_NMI, position)) return false;
			nmi_blocked = false;
		} else if (irq && open) {
			out->code = EXIT_INTR;
			if (set->exit_irq) return false;
			irq = false;
			if (!take(VECTOR_IRQ, position)) return false;
		} else if (virq && flag && !shadow) {
			out->code = EXIT_VINTR;
			if (set->exit_virq) return false;
			virq = false;
			if (!take(VECTOR_VIRQ, position)) return false;
		} else {
			return true;
		}
	}
}

/* A handler runs with IF clear. */
static bool take(u8 vector, u8 position) {
	if (!boundary(false, false, IN_HANDLER)) return false;
	out->trace[out->nr++] = (u16)(vector << 8 | position);
	return true;
}

static void expect(const struct setting *setting, struct result *result) {
	bool flag = setting->program == IF_SET, shadow = false;

	set = setting;
	out = result;
	*out = (struct result){0};
	irq = setting->irq;
	nmi = setting->nmi;
	virq = setting->virq;
	nmi_blocked = false;
	out->code = EXIT_VMMCALL;
	if (setting->injection &&
	    !take(setting->injection == INJ_EXCEPTION ? X86_UD : VECTOR_INJ, 0))
		goto end;
	for (u8 at = 0; at < 3; at++) {
		if (!boundary(flag, shadow, at)) goto end;
		shadow = setting->program == STI_FIRST && at == 0;
		flag = flag || shadow;
	}
	if (boundary(flag, false, 3)) out->code = EXIT_VMMCALL;
end:
	out->l1_irqs = irq;
	out->l1_nmis = nmi;
}

/* ---- what happens ---- */

static struct result got;
static bool in_l2;

static u8 position_of(u64 rip) {
	u64 offset = rip - (u64)code[set->program];

	return offset < 8 ? (u8)offset : IN_HANDLER;
}

static void note(u8 vector, struct regs *r) {
	if (in_l2 && got.nr < MAX_TRACE)
		got.trace[got.nr++] = (u16)(vector << 8 | position_of(r->rip));
}

static void on_irq(struct regs *r) {
	note(VECTOR_IRQ, r);
	got.l1_irqs += !in_l2;
	lapic_eoi();
}

static void on_nmi(struct regs *r) {
	note(X86_NMI, r);
	got.l1_nmis += !in_l2;
}

static void on_other(struct regs *r) { note((u8)r->vector, r); }

static void prepare(struct vmcb *vmcb) {
	u32 exits = (u32)(INTERCEPT_HLT | INTERCEPT_SHUTDOWN);

	exits |= set->exit_irq ? INTERCEPT_INTR : 0;
	exits |= set->exit_nmi ? INTERCEPT_NMI : 0;
	exits |= set->exit_virq ? INTERCEPT_VINTR : 0;
	vmcb->intercept_misc1 = exits;
	vmcb->vintr = (u32)((set->masking ? V_MASKING : 0) | (set->virq ? V_IRQ | V_PRIO_MAX : 0));
	vmcb->vintr_vector = VECTOR_VIRQ;
	if (set->program == IF_SET) vmcb->rflags |= X86_RFLAGS_IF;
	vmcb->event_inj = injections[set->injection];
}

static void run(const struct setting *setting) {
	struct vmcb *vmcb = l2_new(code[setting->program]);

	set = setting;
	got = (struct result){0};
	prepare(vmcb);
	clgi();
	if (set->irq) lapic_send(0, ICR_SELF | ICR_FIXED | VECTOR_IRQ);
	if (set->nmi) lapic_send(lapic_id(), ICR_NMI);
	in_l2 = true;
	if (set->l1_if) __asm__ volatile("sti");
	got.code = l2_enter(vmcb);
	in_l2 = false;
	__asm__ volatile("cli");
	stgi(); /* an NMI comes now */
	__asm__ volatile("sti; nop; nop; cli" : : : "memory");
	got.position = position_of(vmcb->rip);
	if (vmcb->exit_int_info & EVENTINJ_VALID) got.code |= BIT(32);
}

static bool same(const struct result *a, const struct result *b) {
	if (a->code != b->code || a->position != b->position || a->nr != b->nr ||
	    a->l1_irqs != b->l1_irqs || a->l1_nmis != b->l1_nmis)
		return false;
	for (u8 i = 0; i < a->nr; i++)
		if (a->trace[i] != b->trace[i]) return false;
	return true;
}

static void show(const char *what, const struct result *r) {
	print("#   %s: exit 0x%lx at %u, L1 took %u and %u, trace", what, r->code, r->position,
	      r->l1_irqs, r->l1_nmis);
	for (u8 i = 0; i < r->nr; i++) print(" %x@%u", r->trace[i] >> 8, r->trace[i] & 0xff);
	print("\n");
}

static u32 wrong, tried;

/*
 * TCG forgets V_IRQ when it takes a physical interrupt in L2, and looks late for a physical
 * interrupt behind an NMI.
 */
static bool tcg_is_wrong(const struct setting *s) {
	return on_bare_tcg() && s->irq &&
	       ((s->virq && !s->exit_irq) || (s->nmi && !s->exit_nmi && s->masking));
}

static void try(const struct setting *s) {
	struct result expected;

	if (tcg_is_wrong(s)) return;
	expect(s, &expected);
	run(s);
	tried++;
	if (same(&got, &expected)) return;
	if (wrong++ < 5) {
		print("# program %u injection %u pending irq %u nmi %u virq %u, IF %u masking %u, "
		      "exits irq %u nmi %u virq %u\n",
		      s->program, s->injection, s->irq, s->nmi, s->virq, s->l1_if, s->masking,
		      s->exit_irq, s->exit_nmi, s->exit_virq);
		show("expected", &expected);
		show("got", &got);
	}
}

static void test_combinations(void) {
	static const char *const programs[] = {"IF clear", "IF set", "STI first"};
	static const char *const names[] = {"nothing", "an interrupt", "a software interrupt",
					    "an exception"};

	for (u32 program = 0; program < NR_PROGRAMS; program++) {
		for (u32 injection = 0; injection < NR_INJECTIONS; injection++) {
			wrong = tried = 0;
			for (u32 bits = 0; bits < 256; bits++) {
				struct setting s = {
					.program = (enum program)program,
					.injection = (enum injection)injection,
					.irq = bits & 1,
					.nmi = bits & 2,
					.virq = bits & 4,
					.l1_if = bits & 8,
					.masking = bits & 16,
					.exit_irq = bits & 32,
					.exit_nmi = bits & 64,
					.exit_virq = bits & 128,
				};

				try(&s);
			}
			check_eq(name_of("L2 with %s, %s injected: of %u combinations wrong",
					 programs[program], names[injection], tried),
				 wrong, 0);
		}
	}
}

/* ---- virtual TPR, shadow ---- */

/* A virtual interrupt waits for a priority above V_TPR, or ignores it (APM 2 15.21.1). */
static void test_tpr(void) {
	static const struct setting plain = {.program = IF_SET, .masking = true, .exit_virq = true};
	u32 bad = 0, changed = 0;

	for (u32 tpr = 0; tpr < 16; tpr++) {
		for (u32 priority = 0; priority < 16; priority++) {
			for (u32 ignore = 0; ignore < 2; ignore++) {
				struct vmcb *vmcb = l2_new(code[IF_SET]);

				if (on_tcg() && tpr == priority) continue; /* it is taken there */
				set = &plain;
				prepare(vmcb);
				vmcb->vintr |= (u32)(V_IRQ | ignore * V_IGN_TPR) |
					       priority << V_PRIO_SHIFT | tpr;
				bool taken = l2_run(vmcb) == EXIT_VINTR;
				bad += taken != (ignore || priority > tpr);
				changed += (vmcb->vintr & V_TPR) != tpr;
				changed += !(vmcb->vintr & V_IRQ);
			}
		}
	}
	check_eq("V_TPR: interrupts taken or not, wrong ones", bad, 0);
	check_eq("V_TPR and V_IRQ after the exit: changed", changed, 0);
}

extern const char code_cr8[];
__asm__(".pushsection .text\n"
	"code_cr8: mov $5, %eax\n"
	"mov %rax, %cr8\n"
	"xor %eax, %eax\n"
	"mov %cr8, %rax\n"
	"vmmcall\n"
	".popsection");

/* CR8 of L2 is V_TPR with V_INTR_MASKING, and L1's own else. */
static void test_cr8(void) {
	for (u32 masking = 0; masking < 2; masking++) {
		struct vmcb *vmcb = l2_new(code_cr8);
		u64 cr8;

		vmcb->vintr = masking ? (u32)V_MASKING : 0;
		check_eq(name_of("CR8 in L2, V_INTR_MASKING %u: reads back", masking),
			 l2_result(vmcb), 5);
		__asm__ volatile("mov %%cr8, %0" : "=r"(cr8));
		check_eq(name_of("CR8 in L2, V_INTR_MASKING %u: L1's", masking), cr8,
			 masking ? 0 : 5);
		if (masking) check_eq("CR8 in L2: V_TPR", vmcb->vintr & V_TPR, 5);
		__asm__ volatile("mov %0, %%cr8" : : "r"(0ul));
	}
}

/* The shadow that VMRUN loads lasts one instruction; that of an STI before the exit is stored. */
static void test_shadow(void) {
	static const struct setting shadowed = {.program = IF_SET, .masking = true, .virq = true};
	static const u8 code_sti[] = {0xfb, 0x0f, 0x01, 0xd9};
	struct vmcb *vmcb = l2_new(code_sti);

	check_eq("VMMCALL behind STI", l2_run(vmcb), EXIT_VMMCALL);
	check_eq("VMMCALL behind STI: a shadow", vmcb->int_state & INT_SHADOW, 1);
	if (on_bare_tcg()) {
		skip("a shadow that VMRUN loads", "TCG does not load it");
		return;
	}
	vmcb = l2_new(code[IF_SET]);
	set = &shadowed;
	got = (struct result){0};
	prepare(vmcb);
	vmcb->int_state = INT_SHADOW;
	in_l2 = true;
	check_eq("V_IRQ and a shadow: exit", l2_run(vmcb), EXIT_VMMCALL);
	in_l2 = false;
	check_eq("V_IRQ and a shadow: taken", got.nr, 1);
	check_eq("V_IRQ and a shadow: behind one instruction", got.trace[0], VECTOR_VIRQ << 8 | 1);
}

/* ---- deliveries that an exit interrupts ---- */

static const u8 code_int[] = {0xcd, VECTOR_INJ, 0x0f, 0x01, 0xd9};

/*
 * The descriptor table of L2 is not there: the delivery ends in a nested page fault, which tells of
 * the event. Given to VMRUN again, it comes once.
 */
static void interrupt_delivery(const char *name, u64 event, u64 vintr, const void *program,
			       u64 expected) {
	u64 root = npt_new();
	struct vmcb *vmcb = l2_new(program);
	u64 *entry = page_entry_in(root, vmcb->idtr.base, 1), there = *entry;
	u64 *next = page_entry_in(root, vmcb->idtr.base + 0xfff, 1), then = *next;

	l2_use_npt(vmcb, root);
	*entry = *next = 0;
	vmcb->event_inj = event;
	vmcb->vintr |= (u32)vintr;
	vmcb->vintr_vector = VECTOR_INJ;
	if (vintr) vmcb->rflags |= X86_RFLAGS_IF;
	got = (struct result){0};
	check_eq(name_of("%s interrupted: exit", name), l2_run(vmcb), EXIT_NPF);
	check_eq(name_of("%s interrupted: EXITINTINFO", name), vmcb->exit_int_info, expected);
	*entry = there;
	*next = then;
	vmcb->tlb_control = TLB_FLUSH_ALL;
	/* INT n and what is virtual and still pending come by themselves. */
	bool again = program != code_int && !(vmcb->vintr & V_IRQ);
	vmcb->event_inj = again ? vmcb->exit_int_info : 0;
	in_l2 = true;
	check_eq(name_of("%s again: exit", name), l2_run(vmcb), EXIT_VMMCALL);
	in_l2 = false;
	check_eq(name_of("%s again: it came once", name), got.nr, 1);
	check_eq(name_of("%s again: vector", name), got.trace[0] >> 8, (u8)expected);
}

static void test_interrupted_deliveries(void) {
	const void *nops = code[IF_CLEAR];
	u64 interrupt = EVENTINJ_VALID | VECTOR_INJ;

	if (!(svm_feature_bits() & 1) || on_bare_tcg()) {
		skip("interrupted deliveries", "no nested paging, or TCG's own types");
		return;
	}
	set = &(const struct setting){.program = IF_CLEAR};
	interrupt_delivery("an injected interrupt", injections[INJ_INTR], 0, nops, interrupt);
	interrupt_delivery("an injected NMI", EVENTINJ_VALID | EVENTINJ_NMI << 8 | X86_NMI, 0, nops,
			   EVENTINJ_VALID | EVENTINJ_NMI << 8 | X86_NMI);
	interrupt_delivery("an injected exception", injections[INJ_EXCEPTION], 0, nops,
			   injections[INJ_EXCEPTION]);
	interrupt_delivery("INT n", 0, 0, code_int, injections[INJ_SOFT]);
	interrupt_delivery("a virtual interrupt", 0, V_IRQ | V_PRIO_MAX, nops, interrupt);
}

void test_main(void) {
	if (!svm_init()) return;
	lapic_init();
	trap_set_handler(VECTOR_IRQ, on_irq);
	trap_set_handler(VECTOR_VIRQ, on_other);
	trap_set_handler(VECTOR_INJ, on_other);
	trap_set_handler(X86_UD, on_other);
	trap_set_handler(X86_NMI, on_nmi);
	test_combinations();
	test_tpr();
	test_cr8();
	test_shadow();
	test_interrupted_deliveries();
}
