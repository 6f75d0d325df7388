/*
 * Events across VM entries and exits: none is lost, late or doubled (T-X2; SDM 3C 25.2, 26.6, 26.7,
 * 27.1).
 *
 * A model in this file says for every combination of what is pending, masked, injected and asked
 * for which handlers run in L2, at which instruction, what ends its run and what is left for L1.
 *
 * vm: machine=intel limit=300
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/trap.h"
#include "guest-tests/lib/vmx.h"

const char test_name[] = "vmx_event";

#define VECTOR_IRQ 0x61 /* physical, for L1 */
#define VECTOR_INJ 0x63 /* injected */
#define IN_HANDLER 9	/* the position of an event that came in another one's handler */
#define MAX_TRACE  8

/* L2's programs: four instructions of which the last is VMCALL. */
enum program { IF_CLEAR, IF_SET, STI_FIRST, NR_PROGRAMS };
static const u8 code[NR_PROGRAMS][8] = {
	[IF_CLEAR] = {0x90, 0x90, 0x90, 0x0f, 0x01, 0xc1},
	[IF_SET] = {0x90, 0x90, 0x90, 0x0f, 0x01, 0xc1},
	[STI_FIRST] = {0xfb, 0x90, 0x90, 0x0f, 0x01, 0xc1},
};

enum injection { INJ_NONE, INJ_INTR, INJ_SOFT, INJ_EXCEPTION, INJ_NMI, NR_INJECTIONS };
static const struct {
	const char *name;
	u64 info;
	u8 vector;
} injections[NR_INJECTIONS] = {
	[INJ_NONE] = {"nothing", 0, 0},
	[INJ_INTR] = {"an interrupt", EVENT_VALID | VECTOR_INJ, VECTOR_INJ},
	[INJ_SOFT] = {"a software interrupt",
		      EVENT_VALID | EVENT_TYPE_SOFT_FIRST << EVENT_TYPE_SHIFT | VECTOR_INJ,
		      VECTOR_INJ},
	[INJ_EXCEPTION] = {"an exception",
			   EVENT_VALID | EVENT_TYPE_EXCEPTION << EVENT_TYPE_SHIFT | X86_UD, X86_UD},
	[INJ_NMI] = {"an NMI", EVENT_VALID | EVENT_TYPE_NMI << EVENT_TYPE_SHIFT | X86_NMI, X86_NMI},
};

struct setting {
	enum program program;
	enum injection injection;
	bool irq, nmi;			 /* pending */
	bool exit_irq, exit_nmi, window; /* controls */
	bool ack;			 /* the exit acknowledges the interrupt */
	bool halted;			 /* activity state HLT */
};

struct result {
	u64 reason;
	u64 event;   /* interruption information */
	u8 position; /* of L2's RIP */
	u8 activity;
	u8 nr;
	u16 trace[MAX_TRACE]; /* vector << 8 | position, in the order in which handlers ran */
	u8 l1_irqs, l1_nmis;  /* taken in L1 afterwards */
};

/* ---- what the manual says ---- */

static const struct setting *set;
static struct result *out;
static bool irq, nmi, nmi_blocked, halted;

static bool take(u8 vector, u8 position);

/* What is taken before the next instruction; false: the L2's run has ended. */
static bool boundary(bool flag, bool shadow, u8 position) {
	for (;;) {
		out->position = position;
		if (nmi && !nmi_blocked) {
			nmi = false;
			if (set->exit_nmi) {
				out->reason = REASON_EXCEPTION;
				out->event = injections[INJ_NMI].info;
				return false;
			}
			halted = false;
			nmi_blocked = true;
			if (!take(X86_NMI, position)) return false;
			nmi_blocked = false;
		} else if (set->window && flag && !shadow) {
			out->reason = REASON_INTERRUPT_WINDOW;
			return false;
		} else if (irq && set->exit_irq) {
			out->reason = REASON_INTERRUPT;
			if (set->ack) {
				out->event = EVENT_VALID | VECTOR_IRQ;
				irq = false;
			}
			return false;
		} else if (irq && flag && !shadow) {
			irq = halted = false;
			if (!take(VECTOR_IRQ, position)) return false;
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
	*out = (struct result){.reason = REASON_VMCALL};
	irq = setting->irq;
	nmi = setting->nmi;
	nmi_blocked = setting->injection == INJ_NMI;
	halted = setting->halted && !setting->injection;
	if (setting->injection && !take(injections[setting->injection].vector, 0)) goto end;
	nmi_blocked = false;
	for (u8 at = 0; at < 3; at++) {
		if (!boundary(flag, shadow, at)) goto end;
		shadow = setting->program == STI_FIRST && at == 0;
		flag = flag || shadow;
	}
	if (boundary(flag, false, 3)) out->reason = REASON_VMCALL;
end:
	out->activity = halted;
	out->l1_irqs = irq;
	out->l1_nmis = nmi;
}

/* An L2 that would sleep for ever, and injections that an entry refuses (SDM 3C 26.3.1.5). */
static bool makes_sense(const struct setting *s) {
	if (s->injection == INJ_INTR && s->program != IF_SET) return false;
	if (!s->halted) return true;
	if (s->injection == INJ_SOFT || s->injection == INJ_EXCEPTION) return false;
	return s->injection || s->nmi || (s->irq && (s->exit_irq || s->program == IF_SET)) ||
	       (s->window && s->program == IF_SET);
}

/* ---- what happens ---- */

static struct result got;
static bool in_l2, run_in_nmi;

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

static void on_other(struct regs *r) { note((u8)r->vector, r); }

static void prepare(void) {
	u64 pin = 0, proc = vmread(VMCS(proc_controls)), leave = vmread(VMCS(exit_controls));

	if (set->exit_irq) pin |= PIN_INTERRUPT;
	if (set->exit_nmi) pin |= PIN_NMI;
	if (set->window) proc |= PROC_INTERRUPT_WINDOW;
	if (set->ack) leave |= EXIT_ACK;
	vmwrite(VMCS(pin_controls), vmx_controls(VMX_MSR_TRUE_PIN, pin));
	vmwrite(VMCS(proc_controls), proc);
	vmwrite(VMCS(exit_controls), leave);
	vmwrite(VMCS(guest_activity), set->halted);
	if (set->program == IF_SET) vmwrite(VMCS(guest_rflags), X86_RFLAGS_FIXED | X86_RFLAGS_IF);
	vmwrite(VMCS(entry_event), injections[set->injection].info);
	vmwrite(VMCS(entry_length), 0);
}

static void run_now(void) {
	if (set->irq) lapic_send(0, ICR_SELF | ICR_FIXED | VECTOR_IRQ);
	in_l2 = true;
	got.reason = vmx_l2_run();
	in_l2 = false;
	got.position = position_of(vmread(VMCS(guest_rip)));
	got.activity = (u8)vmread(VMCS(guest_activity));
	if (got.reason == REASON_EXCEPTION || got.reason == REASON_INTERRUPT)
		got.event = vmread(VMCS(exit_event));
	if (!(got.event & EVENT_VALID)) got.event = 0;
	if (vmread(VMCS(vectoring_event)) & EVENT_VALID) got.reason |= BIT(32);
	if (vmread(VMCS(entry_event)) & EVENT_VALID) got.reason |= BIT(33);
	if (got.event == (EVENT_VALID | VECTOR_IRQ)) lapic_eoi();
}

/* An NMI that is pending at an entry has come in the handler of another one. */
static void on_nmi(struct regs *r) {
	if (run_in_nmi) {
		run_in_nmi = false;
		lapic_send(lapic_id(), ICR_NMI);
		run_now();
		return;
	}
	note(X86_NMI, r);
	got.l1_nmis += !in_l2;
}

static void run(const struct setting *setting) {
	vmx_l2_new(code[setting->program]);
	set = setting;
	__asm__ volatile("int %0" : : "i"(VECTOR_INJ) : "memory"); /* its IRET unblocks NMIs */
	got = (struct result){0};
	prepare();
	if (set->nmi) {
		run_in_nmi = true;
		lapic_send(lapic_id(), ICR_NMI);
	} else {
		run_now();
	}
	__asm__ volatile("sti; nop; nop; cli" : : : "memory");
}

static bool same(const struct result *a, const struct result *b) {
	if (a->reason != b->reason || a->event != b->event || a->position != b->position ||
	    a->activity != b->activity || a->nr != b->nr || a->l1_irqs != b->l1_irqs ||
	    a->l1_nmis != b->l1_nmis)
		return false;
	for (u8 i = 0; i < a->nr; i++)
		if (a->trace[i] != b->trace[i]) return false;
	return true;
}

/* Nothing is lost and nothing comes twice, whenever it comes. */
static bool complete(const struct setting *s, const struct result *r) {
	u32 nmis = r->l1_nmis, irqs = r->l1_irqs, injected = 0;

	nmis += r->event == injections[INJ_NMI].info;
	irqs += r->event == (EVENT_VALID | VECTOR_IRQ);
	for (u8 i = 0; i < r->nr; i++) {
		u8 vector = (u8)(r->trace[i] >> 8);

		nmis += vector == X86_NMI;
		irqs += vector == VECTOR_IRQ;
		injected += vector == injections[s->injection].vector && vector != X86_NMI;
	}
	if (s->injection == INJ_NMI) injected = nmis-- ? 1 : 0;
	injected += r->position == IN_HANDLER;
	return nmis == s->nmi && irqs == s->irq && injected == 1 && !(r->reason >> 32);
}

static void show(const char *what, const struct result *r) {
	print("#   %s: exit 0x%lx event 0x%lx at %u activity %u, L1 took %u and %u, trace", what,
	      r->reason, r->event, r->position, r->activity, r->l1_irqs, r->l1_nmis);
	for (u8 i = 0; i < r->nr; i++) print(" %x@%u", r->trace[i] >> 8, r->trace[i] & 0xff);
	print("\n");
}

static u32 wrong, tried;

static void try(const struct setting *s) {
	struct result expected;

	if (!makes_sense(s)) return;
	expect(s, &expected);
	run(s);
	tried++;
	if (same(&got, &expected)) return;
	/* Bochs 2.7: an entry that unblocks NMIs leaves them blocked for its window until IRET. */
	if (s->nmi && s->injection && complete(s, &got)) return;
	if (wrong++ < 5) {
		print("# program %u injection %u pending irq %u nmi %u, exits irq %u nmi %u "
		      "window %u, ack %u halted %u\n",
		      s->program, s->injection, s->irq, s->nmi, s->exit_irq, s->exit_nmi, s->window,
		      s->ack, s->halted);
		show("expected", &expected);
		show("got", &got);
	}
}

static void test_combinations(void) {
	static const char *const programs[] = {"IF clear", "IF set", "STI first"};

	u32 first = (u32)cmdline_number("first", 0), last = (u32)cmdline_number("last", 128);

	for (u32 program = (u32)cmdline_number("program", 0); program < NR_PROGRAMS; program++) {
		for (u32 injection = (u32)cmdline_number("injection", 0); injection < NR_INJECTIONS;
		     injection++) {
			wrong = tried = 0;
			for (u32 bits = first; bits < last; bits++) {
				struct setting s = {
					.program = (enum program)program,
					.injection = (enum injection)injection,
					.irq = bits & 1,
					.nmi = bits & 2,
					.exit_irq = bits & 4,
					.exit_nmi = bits & 8,
					.window = bits & 16,
					.ack = bits & 32,
					.halted = bits & 64,
				};

				try(&s);
			}
			if (!tried) continue;
			check_eq(name_of("L2 with %s, %s injected: of %u combinations wrong",
					 programs[program], injections[injection].name, tried),
				 wrong, 0);
		}
	}
}

void test_main(void) {
	if (!vmx_init()) return;
	lapic_init();
	trap_set_handler(VECTOR_IRQ, on_irq);
	trap_set_handler(VECTOR_INJ, on_other);
	trap_set_handler(X86_UD, on_other);
	trap_set_handler(X86_NMI, on_nmi);
	test_combinations();
}
