// sources: svm/event.c svm/quirks.c
/* Events in the VMCB: injection, windows, masked NMIs, what an exit interrupted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "kernel/smp.h"
#include "lib/x86.h"
#include "platform/emulate.h"
#include "svm/quirks.h"
#include "svm/svm.h"

#define V_WINDOW    (V_IRQ | V_PRIO_MAX | V_IGN_TPR)
#define IRET_EXITS  (1u << 20)
#define VINTR_EXITS (1u << 4)

struct svm_features svm_features;

static struct vcpu vcpu;
static struct svm_vcpu arch;
static struct vmcb vmcb;
static unsigned self_kicks, injected;
static const struct event nmi = {.type = EVENT_NMI, .vector = 2};

void smp_kick_self(void) { self_kicks++; }

enum outcome inject_exception(struct vcpu *v, u8 vector) {
	(void)v;
	injected = vector;
	return INJECTED;
}

enum outcome inject_exception_error(struct vcpu *v, u8 vector, u32 error) {
	(void)error;
	return inject_exception(v, vector);
}

enum outcome vcpu_stop_reason(struct vcpu *v, const char *fmt, ...) {
	(void)v;
	(void)fmt;
	return STOP_VM;
}

void svm_nested_leave(struct vcpu *v, u64 code, u64 info1, u64 info2, u64 event) {
	(void)v;
	(void)code;
	(void)info1;
	(void)info2;
	(void)event;
}

/* Nothing here is an instruction that quirks.c knows. */
int decode_current(struct vcpu *v, struct insn *out) {
	(void)v;
	memset(out, 0, sizeof(*out));
	return 0;
}

static int setup(void **state) {
	(void)state;
	memset(&svm_features, 0, sizeof(svm_features));
	memset(&vcpu, 0, sizeof(vcpu));
	memset(&arch, 0, sizeof(arch));
	memset(&vmcb, 0, sizeof(vmcb));
	vcpu.arch = &arch;
	arch.vmcb = arch.vmcb01 = &vmcb;
	vmcb.vintr = V_GIF;
	vcpu.rflags = X86_RFLAGS_FIXED | X86_RFLAGS_IF;
	vcpu.rip = 0x1000;
	self_kicks = 0;
	injected = ~0u;
	return 0;
}

/* APM 2 figure 15-4. */
static void test_injection_word(void **state) {
	static const struct event events[] = {
		{.type = EVENT_INTERRUPT, .vector = 0xe1},
		{.type = EVENT_NMI, .vector = 2},
		{.type = EVENT_EXCEPTION, .vector = 6},
		{.type = EVENT_EXCEPTION, .vector = 14, .has_error = true, .error = 0x8000001f},
	};
	static const u64 words[] = {0x800000e1, 0x80000202, 0x80000306, 0x8000001f80000b0e};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		assert_false(svm_event_queued(&vcpu));
		svm_inject(&vcpu, &events[i]);
		assert_int_equal(vmcb.event_inj, words[i]);
		assert_true(svm_event_queued(&vcpu));
		vmcb.event_inj = 0;
	}
}

/* An interrupt is one of INT n's type there for level 0; else this CPU interrupts itself. */
static void test_interrupt_on_tcg(void **state) {
	static const struct event interrupt = {.type = EVENT_INTERRUPT, .vector = 0xe1};

	(void)state;
	svm_features.tcg = true;
	svm_inject(&vcpu, &interrupt);
	assert_int_equal(vmcb.event_inj, 0x800004e1);
	assert_int_equal(self_kicks, 0);
	vmcb.cpl = 3;
	svm_inject(&vcpu, &interrupt);
	assert_int_equal(vmcb.event_inj, 0x800000e1);
	assert_int_equal(self_kicks, 1);
}

/* Its delivery is told from that of the guest's INT n by where it was. */
static void test_interrupted_delivery_on_tcg(void **state) {
	static const struct event interrupt = {.type = EVENT_INTERRUPT, .vector = 0xe1};

	(void)state;
	svm_features.tcg = true;
	svm_inject(&vcpu, &interrupt);
	vmcb.event_inj = 0;
	vmcb.exit_int_info = 0x800004e1;
	svm_take_exit_event(&vcpu);
	assert_int_equal(vmcb.event_inj, 0x800004e1);
	vmcb.event_inj = 0;
	vmcb.exit_int_info = 0x80000480;
	svm_take_exit_event(&vcpu);
	assert_int_equal(vmcb.event_inj, 0);
	vmcb.exit_int_info = 0x800004e1;
	vcpu.rip++;
	svm_take_exit_event(&vcpu);
	assert_int_equal(vmcb.event_inj, 0);
}

/* Not while an NMI waits, whose interrupt to itself would end the guest in the shadow each time. */
static void test_shadow_on_tcg(void **state) {
	(void)state;
	assert_false(svm_quirk_shadow(&vcpu));
	vmcb.int_state = 1;
	assert_true(svm_quirk_shadow(&vcpu));
	atomic_store(&vcpu.nmi_pending, 1);
	assert_false(svm_quirk_shadow(&vcpu));
}

static void test_interrupt_needs_flag_and_no_shadow(void **state) {
	(void)state;
	assert_true(svm_interrupt_allowed(&vcpu));
	vmcb.int_state = 1;
	assert_false(svm_interrupt_allowed(&vcpu));
	assert_false(svm_nmi_allowed(&vcpu));
	svm_end_shadow(&vcpu);
	assert_true(svm_interrupt_allowed(&vcpu));
	vcpu.rflags = X86_RFLAGS_FIXED;
	assert_false(svm_interrupt_allowed(&vcpu));
	assert_true(svm_nmi_allowed(&vcpu));
}

static void test_interrupt_window(void **state) {
	(void)state;
	vmcb.vintr = V_MASKING | V_GIF;
	svm_interrupt_window(&vcpu, true);
	assert_int_equal(vmcb.vintr, V_MASKING | V_GIF | V_WINDOW);
	assert_true(vmcb.intercept_misc1 & VINTR_EXITS);
	assert_int_equal(svm_exit_vintr(&vcpu), RESUME);
	assert_int_equal(vmcb.vintr, V_MASKING | V_GIF);
	assert_int_equal(vmcb.intercept_misc1, 0);
	assert_true(atomic_load(&vcpu.requests) & REQ_EVENT);
}

/* With GIF clear nothing is taken; STGI is what is waited for, or the CPU holds it back itself. */
static void test_gif_clear(void **state) {
	(void)state;
	vmcb.vintr = V_MASKING;
	assert_false(svm_interrupt_allowed(&vcpu));
	assert_false(svm_nmi_allowed(&vcpu));
	svm_interrupt_window(&vcpu, true);
	assert_int_equal(vmcb.vintr, V_MASKING);
	svm_nmi_window(&vcpu);
	assert_int_equal(self_kicks, 0);
	assert_true(vmcb.intercept_misc2 & INTERCEPT_STGI);
	vmcb.vintr = V_MASKING | V_GIF_ENABLE;
	svm_interrupt_window(&vcpu, true);
	assert_int_equal(vmcb.vintr, V_MASKING | V_GIF_ENABLE | V_WINDOW);
}

/* ---- NMIs ---- */

/* Until IRET has executed, and not only until it is reached, no further NMI. */
static void test_nmi_stays_masked_through_iret(void **state) {
	(void)state;
	svm_inject(&vcpu, &nmi);
	assert_false(svm_nmi_allowed(&vcpu));
	assert_true(vmcb.intercept_misc1 & IRET_EXITS);
	vcpu.rip = 0x2000;
	assert_false(svm_nmi_allowed(&vcpu));
	assert_int_equal(svm_exit_iret(&vcpu), RESUME);
	assert_false(vmcb.intercept_misc1 & IRET_EXITS);
	assert_false(svm_nmi_allowed(&vcpu)); /* an exit before it executes */
	assert_false(vcpu.rflags & X86_RFLAGS_TF);
	vcpu.rip = 0x3000;
	assert_true(svm_nmi_allowed(&vcpu));
}

/* With another one waiting, one step takes the guest over the IRET. */
static void test_waiting_nmi_steps_over_iret(void **state) {
	(void)state;
	svm_inject(&vcpu, &nmi);
	atomic_store(&vcpu.nmi_pending, 1);
	svm_nmi_window(&vcpu); /* masked: IRET will exit */
	assert_int_equal(self_kicks, 0);
	assert_false(vcpu.rflags & X86_RFLAGS_TF);
	svm_exit_iret(&vcpu);
	assert_true(vcpu.rflags & X86_RFLAGS_TF);
	vmcb.dr6 = 0xffff4ff0;
	assert_int_equal(svm_exit_db(&vcpu), RESUME);
	assert_int_equal(vmcb.dr6, 0xffff0ff0);
	assert_int_equal(injected, ~0u);
	assert_true(svm_nmi_allowed(&vcpu));
	assert_true(atomic_load(&vcpu.requests) & REQ_EVENT);
}

/* It comes when the IRET has been reached already; asked for twice, stepped once. */
static void test_nmi_between_iret_exit_and_iret(void **state) {
	(void)state;
	svm_inject(&vcpu, &nmi);
	svm_exit_iret(&vcpu);
	svm_nmi_window(&vcpu);
	assert_true(vcpu.rflags & X86_RFLAGS_TF);
	svm_nmi_window(&vcpu);
	assert_int_equal(svm_exit_db(&vcpu), RESUME);
	assert_int_equal(injected, ~0u);
	assert_true(svm_nmi_allowed(&vcpu));
}

/* An IRET to another task saves TF in the old one: it is not stepped, an exit behind it is enough.
 */
static void test_nmi_waits_for_an_iret_to_another_task(void **state) {
	(void)state;
	svm_inject(&vcpu, &nmi);
	atomic_store(&vcpu.nmi_pending, 1);
	vcpu.rip = 0x1000;
	vcpu.rflags |= X86_RFLAGS_NT;
	svm_exit_iret(&vcpu);
	assert_false(vcpu.rflags & X86_RFLAGS_TF);
	assert_true(atomic_load(&vcpu.requests) & REQ_EVENT);
	assert_false(svm_nmi_allowed(&vcpu));
	vcpu.rip = 0x2000;
	assert_true(svm_nmi_allowed(&vcpu));
}

/* A guest that steps itself gets the trap that is its own. */
static void test_own_trap_of_a_stepping_guest(void **state) {
	(void)state;
	vcpu.rflags |= X86_RFLAGS_TF;
	svm_inject(&vcpu, &nmi);
	atomic_store(&vcpu.nmi_pending, 1);
	svm_exit_iret(&vcpu);
	assert_int_equal(svm_exit_db(&vcpu), INJECTED);
	assert_int_equal(injected, X86_DB);
	injected = ~0u;
	assert_int_equal(svm_exit_db(&vcpu), INJECTED);
	assert_int_equal(injected, X86_DB);
}

/* A shadow, with interrupts off or on, ends soon; so does the delivery of an exception. */
static void test_nmi_behind_a_shadow(void **state) {
	(void)state;
	vcpu.rflags = X86_RFLAGS_FIXED;
	vmcb.int_state = 1;
	svm_nmi_window(&vcpu);
	assert_int_equal(self_kicks, 1);
	assert_true(atomic_load(&vcpu.requests) & REQ_EVENT);
	/* Not again and again for a delivery that the kick itself interrupts. */
	vmcb.exit_int_info = EVENTINJ_VALID;
	svm_nmi_window(&vcpu);
	assert_int_equal(self_kicks, 1);
}

/* ---- events that an exit interrupted ---- */

static void test_interrupted_delivery(void **state) {
	static const struct {
		u64 info;
		bool exception;
		u64 inject; /* what is to be injected again as it stands */
	} cases[] = {
		{0x80000040, false, 0x80000040}, /* interrupt */
		{0x80000202, false, 0x80000202}, /* NMI */
		{0x80000480, false, 0},		 /* INT 0x80: executes again */
		{0x80000303, false, 0},		 /* INT3 */
		{0x80000304, false, 0},		 /* INTO */
		{0x80000340, false, 0x80000040}, /* QEMU's type of a virtual interrupt */
		{0x80000306, true, 0},		 /* #UD */
		{0x0000000280000b0e, true, 0},	 /* #PF with its error code */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		setup(state);
		vmcb.exit_int_info = cases[i].info;
		svm_take_exit_event(&vcpu);
		assert_int_equal(vmcb.event_inj, cases[i].inject);
		assert_int_equal(vcpu.exception.pending, cases[i].exception);
		if (!cases[i].exception) continue;
		assert_int_equal(vcpu.exception.vector, (u8)cases[i].info);
		assert_int_equal(vcpu.exception.has_error, cases[i].info >> 11 & 1);
		assert_int_equal(vcpu.exception.error, cases[i].info >> 32);
		assert_true(vcpu.exception.again);
		assert_true(atomic_load(&vcpu.requests) & REQ_EVENT);
	}
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_injection_word, setup),
		cmocka_unit_test_setup(test_interrupt_on_tcg, setup),
		cmocka_unit_test_setup(test_interrupted_delivery_on_tcg, setup),
		cmocka_unit_test_setup(test_shadow_on_tcg, setup),
		cmocka_unit_test_setup(test_interrupt_needs_flag_and_no_shadow, setup),
		cmocka_unit_test_setup(test_interrupt_window, setup),
		cmocka_unit_test_setup(test_gif_clear, setup),
		cmocka_unit_test_setup(test_nmi_stays_masked_through_iret, setup),
		cmocka_unit_test_setup(test_waiting_nmi_steps_over_iret, setup),
		cmocka_unit_test_setup(test_nmi_between_iret_exit_and_iret, setup),
		cmocka_unit_test_setup(test_nmi_waits_for_an_iret_to_another_task, setup),
		cmocka_unit_test_setup(test_own_trap_of_a_stepping_guest, setup),
		cmocka_unit_test_setup(test_nmi_behind_a_shadow, setup),
		cmocka_unit_test_setup(test_interrupted_delivery, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
