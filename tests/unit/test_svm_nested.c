// sources: svm/nested.c svm/nested_check.c svm/nested_exit.c svm/event.c svm/quirks.c tests/fakes.c
/*
 * T-X3: the ways between L1 and L2 as a state machine, beside a model that knows two levels and one
 * event at a time: what VMRUN injects is delivered or told of once, an entry is followed by one
 * exit, a refused one by none, and L1's virtual interrupt survives the windows that Roost opens in
 * L2.
 */
#include <string.h>

#include "kernel/smp.h"
#include "lib/x86.h"
#include "platform/cpu_model.h"
#include "platform/emulate.h"
#include "platform/msr.h"
#include "svm/intercept.h"
#include "svm/quirks.h"
#include "svm/skip.h"
#include "svm/svm.h"
#include "tests/fakes.h"

#define STEPS	  200000u
#define BLOCK	  0x3000ul /* of VMCB 12, in L1's memory */
#define CODE_NONE 0xdeadul

struct svm_features svm_features;

static struct vm *vm;
static struct vcpu *vcpu;
static struct svm_vcpu arch;
static struct vmcb vmcb01;
static struct cpu_model model;
static struct msr_state msrs;
static u64 seed = 1;

/* ---- what is not under test ---- */

void svm_intercept_setup(struct vmcb *vmcb) { vmcb->intercept_misc2 = INTERCEPT_VMRUN; }

void svm_msrpm_merge(u8 *to, const u8 *l1) {
	(void)to;
	(void)l1;
}

int svm_msr_bit(u32 msr) { return (int)msr * 2; }

enum outcome svm_page_operand(struct vcpu *v, gpa_t *gpa) {
	*gpa = v->gpr[RAX];
	v->next_rip = v->rip + 3;
	return ADVANCE;
}

int svm_nested_use_tables(struct vcpu *v, hpa_t *root) {
	(void)v;
	*root = 0x5000;
	return 0;
}

enum outcome svm_nested_npf(struct vcpu *v) {
	(void)v;
	return RESUME;
}

void svm_update_efer(struct svm_vcpu *a) { (void)a; }
void svm_write_back(struct vcpu *v) { svm_of(v)->vmcb->rip = v->rip; }
u64 svm_reg(struct vcpu *v, enum vreg reg) { return reg == VREG_EFER ? svm_of(v)->vmcb->efer : 0; }
u64 svm_next_rip_slow(struct vcpu *v) { return v->rip + 1; }
void smp_kick_self(void) {}
gva_t emulate_operand_address(struct vcpu *v, const struct insn *insn) {
	(void)v;
	return (u64)insn->disp;
}

int decode_current(struct vcpu *v, struct insn *out) {
	(void)v;
	memset(out, 0, sizeof(*out));
	return 0;
}

enum outcome inject_exception(struct vcpu *v, u8 vector) {
	(void)v;
	(void)vector;
	return INJECTED;
}

enum outcome inject_exception_error(struct vcpu *v, u8 vector, u32 error) {
	(void)error;
	return inject_exception(v, vector);
}

/* As Roost's handlers of the exits that L1 does not want. */
enum outcome svm_handle(struct vcpu *v, u64 index) {
	if (index == EXIT_VINTR) return svm_exit_vintr(v);
	if (svm_of(v)->vmcb->exit_int_info & EVENTINJ_VALID) svm_take_exit_event(v);
	return RESUME;
}

/* ---- the model ---- */

static struct {
	bool l2;
	u64 injecting;	/* by VMRUN or by Roost, and not delivered yet */
	bool virq;	/* L1's, pending in L2 */
	u64 vintr_exit; /* L1 intercepts it */
	u64 entries, exits, refused;
} m;

static u64 draw(u64 below) {
	seed = seed * 6364136223846793005ul + 1442695040888963407ul;
	return (seed >> 33) % below;
}

static struct vmcb *block(void) { return (struct vmcb *)(void *)(fake_ram(vm) + BLOCK); }

static u64 draw_event(void) {
	static const u64 events[] = {0,		 0x80000040,	     0x80000202,
				     0x80000306, 0x0000001180000b0d, 0x80000480};

	return events[draw(ARRAY_SIZE(events))];
}

/* After each step: level, block and flags are those of one level. */
static void look(void) {
	assert_int_equal(vcpu->l2, m.l2);
	assert_ptr_equal(arch.vmcb, m.l2 ? arch.nested.vmcb02 : arch.vmcb01);
	assert_int_equal(m.entries, m.exits + m.l2);
	if (!m.l2) {
		assert_false(arch.nested.window);
		return;
	}
	assert_true(svm_gif(&arch));
	assert_int_equal(arch.vmcb->event_inj, m.injecting);
	const struct vmcb *irq = arch.nested.window ? arch.nested.vmcb12 : arch.vmcb;
	assert_int_equal(!!(irq->vintr & V_IRQ), m.virq);
	if (arch.nested.window)
		assert_true(arch.vmcb->intercept_misc1 & INTERCEPT_VINTR);
	else
		assert_int_equal(arch.vmcb->intercept_misc1 & INTERCEPT_VINTR, m.vintr_exit);
}

/* One exit has come to L1, with what was being delivered, and nothing else. */
static void left(u64 code, u64 int_info) {
	struct vmcb *b = block();

	assert_true(m.l2);
	m.l2 = false;
	m.exits++;
	assert_int_equal(b->exit_code, code);
	assert_int_equal(b->exit_int_info & EVENTINJ_VALID ? b->exit_int_info : 0, int_info);
	assert_int_equal(b->event_inj, 0);
	assert_int_equal(!!(b->vintr & V_IRQ), m.virq);
	assert_false(svm_gif(&arch));
	b->exit_code = CODE_NONE;
}

static void vmrun(void) {
	struct vmcb *b = block();
	bool good = draw(4);

	memset(b, 0, sizeof(*b));
	b->exit_code = CODE_NONE;
	b->intercept_misc2 = INTERCEPT_VMRUN;
	b->intercept_misc1 = (u32)draw(32) | INTERCEPT_HLT | INTERCEPT_CPUID;
	b->intercept_exceptions = (u32)draw(2) << X86_PF;
	b->asid = good;
	b->efer = X86_EFER_SVME;
	b->vintr = (u32)(draw(2) * V_MASKING | draw(2) * (V_IRQ | V_PRIO_MAX));
	b->rflags = draw(2) * X86_RFLAGS_IF;
	b->event_inj = draw_event();
	b->rip = 0x1000;
	vmcb01.rflags = vcpu->rflags = draw(2) * X86_RFLAGS_IF;
	vcpu->gpr[RAX] = BLOCK;
	assert_int_equal(svm_exit_vmrun(vcpu), RESUME);
	if (!good) {
		m.refused++;
		assert_int_equal(b->exit_code, EXIT_INVALID);
		assert_int_equal(b->exit_int_info, 0);
		return;
	}
	assert_int_equal(b->exit_code, CODE_NONE); /* nothing is stored before an exit */
	m.l2 = true;
	m.entries++;
	m.injecting = b->event_inj;
	m.virq = b->vintr & V_IRQ;
	m.vintr_exit = b->intercept_misc1 & INTERCEPT_VINTR;
}

static bool wants(u64 code) {
	return ((const u32 *)(const void *)arch.nested.vmcb12)[code / 32] >> code % 32 & 1;
}

/* The processor delivers what is injected, or is interrupted in it, and exits. */
static void hardware_exit(u64 code) {
	struct vmcb *vmcb = arch.vmcb;
	u64 interrupted = draw(3) ? 0 : m.injecting;
	bool window = arch.nested.window;
	bool reflected = code != EXIT_INTR && wants(code); /* that one is the machine's own */

	vmcb->exit_code = code;
	vmcb->exit_int_info = interrupted;
	vmcb->event_inj = 0; /* as svm_exit() */
	m.injecting = 0;
	if (code == EXIT_VINTR && window) reflected = false;
	(void)svm_nested_exit(vcpu, code);
	if (reflected) {
		left(code, interrupted);
		return;
	}
	/* Roost's own: an interrupt and an NMI are put in again, an exception is raised again. */
	u64 type = interrupted >> EVENTINJ_TYPE_SHIFT & 7;
	if (code != EXIT_VINTR && interrupted && (type == EVENTINJ_INTR || type == EVENTINJ_NMI))
		m.injecting = interrupted;
	vcpu->exception.pending = false;
}

/* Something comes for L1 while L2 runs: it ends L2 when L1 wants that, at once. */
static void event(void) {
	static const struct event events[] = {{.type = EVENT_INTERRUPT, .vector = 0x55},
					      {.type = EVENT_NMI, .vector = 2},
					      {.type = EVENT_EXCEPTION, .vector = X86_PF}};
	static const u64 codes[] = {EXIT_INTR, EXIT_NMI, EXIT_EXCEPTION + X86_PF};
	u64 which = draw(3);
	bool wanted = wants(codes[which]);

	assert_int_equal(svm_nested_event(vcpu, &events[which]), wanted);
	if (wanted) {
		left(codes[which], m.injecting);
		m.injecting = 0;
	} else if (!svm_event_queued(vcpu)) {
		svm_inject(vcpu, &events[which]);
		m.injecting = arch.vmcb->event_inj;
	}
}

static void step(void) {
	static const u64 codes[] = {EXIT_HLT, EXIT_CPUID, EXIT_INTR, EXIT_WBINVD};

	if (!m.l2) {
		vmrun();
		return;
	}
	switch (draw(8)) {
	case 0: event(); break;
	case 1: svm_interrupt_window(vcpu, true); break;
	case 2: svm_interrupt_window(vcpu, false); break;
	case 3:
		if (arch.nested.window || (m.vintr_exit && m.virq)) hardware_exit(EXIT_VINTR);
		break;
	case 4: /* the processor takes the virtual interrupt, which no intercept holds back */
		if (!m.virq || arch.nested.window || m.vintr_exit || m.injecting) break;
		arch.vmcb->vintr &= ~(u32)V_IRQ;
		m.virq = false;
		break;
	default: hardware_exit(codes[draw(ARRAY_SIZE(codes))]); break;
	}
}

static void test_T_X3_levels_and_events(void **state) {
	(void)state;
	vm = fake_vm_create(1, 64 << 10);
	vcpu = vm->vcpus[0];
	model = (struct cpu_model){.has_svm = true, .phys_bits = 40, .efer_allowed = X86_EFER_SVME};
	vm->cpu_model = &model;
	void *fake = vcpu->arch;
	vcpu->arch = &arch;
	vcpu->msrs = &msrs;
	arch.vmcb01 = &vmcb01;
	assert_int_equal(svm_nested_create(vcpu), 0);
	svm_nested_reset(vcpu);
	for (u32 i = 0; i < STEPS; i++) {
		step();
		look();
	}
	assert_true(m.refused > STEPS / 100 && m.exits > STEPS / 20);
	svm_nested_destroy(vcpu);
	vcpu->arch = fake;
	fake_vm_destroy(vm);
}

int main(void) {
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_T_X3_levels_and_events)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
