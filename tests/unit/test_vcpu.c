// sources: kernel/vcpu.c
/* The vCPU's life between exits: combined exceptions, order of events, windows, HLT, INIT, SIPI. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "kernel/backend.h"
#include "kernel/cpu.h"
#include "kernel/guest.h"
#include "kernel/smp.h"
#include "kernel/vm.h"
#include "lib/x86.h"

/* ---- a back end that takes down what is asked of it ---- */

static struct {
	u64 regs[NR_VREGS];
	struct event injected[8];
	unsigned nr_injected;
	bool queued, shadow, nmi_masked;
	bool window;	      /* the interrupt window */
	unsigned nmi_windows; /* asked for */
	unsigned flushes, resets, inits, runs;
	u64 at_run; /* requests that the guest sends to itself while it runs */
	struct segment segs[NR_SEGS];
	u64 tsc_offset;
	unsigned lent;
} hw;

static struct vm vm;
static struct vcpu vcpus[2];
static struct vcpu *v = &vcpus[0];
static struct cpu host[2];
static int irq; /* the next interrupt, -1: none */
static bool pv_kick, by_processor;
static unsigned kicks, clocks, inits, accepted;
static enum vm_end ended;
static struct vcpu *during_window; /* gets these requests while interrupts are on */
static u64 during_window_bits;

struct cpu *cpus[MAX_CPUS] = {&host[0], &host[1]};

struct cpu *this_cpu(void) {
	return &host[0];
}

void smp_kick(struct cpu *cpu) { kicks += cpu != this_cpu(); }

static struct vcpu *woken, *swept;

void sched_wake(struct vcpu *vcpu) { woken = vcpu; }

void sched_sweep(struct vcpu *vcpu) { swept = vcpu; }

void cpu_irq_window(void) {
	if (during_window) vcpu_request(during_window, during_window_bits);
	during_window = NULL;
}

void timers_run(void) {}

void vm_end(struct vm *which, enum vm_end how) {
	assert_ptr_equal(which, &vm);
	ended = how;
	for (unsigned i = 0; i < which->nr_vcpus; i++) vcpu_request(which->vcpus[i], REQ_STOP);
}

int irq_next(struct vcpu *vcpu) {
	(void)vcpu;
	return irq;
}

bool irq_by_processor(struct vcpu *vcpu) {
	(void)vcpu;
	return by_processor;
}

int irq_accept(struct vcpu *vcpu) {
	int vector = irq;

	(void)vcpu;
	irq = -1;
	accepted++;
	return vector;
}

void guest_before_events(struct vcpu *vcpu) { (void)vcpu; }

void guest_after_accept(struct vcpu *vcpu) { (void)vcpu; }

bool guest_take_kick(struct vcpu *vcpu) {
	bool kick = pv_kick;

	(void)vcpu;
	pv_kick = false;
	return kick;
}

void guest_clock_update(struct vcpu *vcpu) {
	(void)vcpu;
	clocks++;
}

void guest_vcpu_init(struct vcpu *vcpu) {
	(void)vcpu;
	inits++;
}

static u64 hw_reg(struct vcpu *vcpu, enum vreg reg) {
	(void)vcpu;
	return hw.regs[reg];
}

static void hw_set_reg(struct vcpu *vcpu, enum vreg reg, u64 value) {
	(void)vcpu;
	hw.regs[reg] = value;
}

static void hw_segment(struct vcpu *vcpu, enum seg seg, struct segment *out) {
	(void)vcpu;
	*out = hw.segs[seg];
}

static void hw_set_segment(struct vcpu *vcpu, enum seg seg, const struct segment *in) {
	(void)vcpu;
	hw.segs[seg] = *in;
}

static void hw_reset(struct vcpu *vcpu, bool init) {
	(void)vcpu;
	hw.inits += init;
	hw.resets++;
}

static void hw_run(struct vcpu *vcpu) {
	if (!vcpu_prepare(vcpu)) return;
	hw.runs++;
	vcpu_request_self(vcpu, hw.at_run);
}

static bool hw_event_queued(struct vcpu *vcpu) {
	(void)vcpu;
	return hw.queued;
}

static bool hw_interrupt_allowed(struct vcpu *vcpu) {
	return (vcpu->rflags & X86_RFLAGS_IF) && !hw.shadow;
}

static bool hw_nmi_allowed(struct vcpu *vcpu) {
	(void)vcpu;
	return !hw.nmi_masked && !hw.shadow;
}

static void hw_inject(struct vcpu *vcpu, const struct event *event) {
	(void)vcpu;
	hw.injected[hw.nr_injected++ % 8] = *event;
	if (event->type == EVENT_NMI) hw.nmi_masked = true;
}

static void hw_window(struct vcpu *vcpu, bool open) {
	(void)vcpu;
	hw.window = open;
}

static void hw_nmi_window(struct vcpu *vcpu) {
	(void)vcpu;
	hw.nmi_windows++;
}

static void hw_end_shadow(struct vcpu *vcpu) {
	(void)vcpu;
	hw.shadow = false;
}

static void hw_flush(struct vcpu *vcpu) {
	(void)vcpu;
	hw.flushes++;
}

static void hw_tsc_offset(struct vcpu *vcpu, u64 offset) {
	(void)vcpu;
	hw.tsc_offset = offset;
}

static void hw_lend_apic(struct vcpu *vcpu) {
	(void)vcpu;
	hw.lent++;
}

static const struct backend fake_backend = {
	.lend_apic = hw_lend_apic,
	.set_tsc_offset = hw_tsc_offset,
	.reg = hw_reg,
	.set_reg = hw_set_reg,
	.segment = hw_segment,
	.set_segment = hw_set_segment,
	.vcpu_reset = hw_reset,
	.run = hw_run,
	.event_queued = hw_event_queued,
	.interrupt_allowed = hw_interrupt_allowed,
	.nmi_allowed = hw_nmi_allowed,
	.inject = hw_inject,
	.interrupt_window = hw_window,
	.nmi_window = hw_nmi_window,
	.end_shadow = hw_end_shadow,
	.tlb_flush = hw_flush,
};

static int setup(void **state) {
	(void)state;
	memset(&hw, 0, sizeof(hw));
	memset(&vm, 0, sizeof(vm));
	memset(vcpus, 0, sizeof(vcpus));
	vm.nr_vcpus = 2;
	atomic_store(&vm.state, VM_RUNNING);
	for (u32 i = 0; i < 2; i++) {
		vcpus[i].vm = &vm;
		vcpus[i].id = vcpus[i].cpu = i;
		vcpus[i].backend = &fake_backend;
		vm.vcpus[i] = &vcpus[i];
	}
	hw.regs[VREG_CR0] = X86_CR0_PE;
	v->rflags = X86_RFLAGS_FIXED | X86_RFLAGS_IF;
	irq = -1;
	pv_kick = by_processor = false;
	kicks = clocks = inits = accepted = 0;
	woken = swept = NULL;
	ended = VM_END_NONE;
	during_window = NULL;
	return 0;
}

static u64 requests(struct vcpu *vcpu) { return atomic_load(&vcpu->requests); }

/* ---- exceptions ---- */

enum { SERIAL, DOUBLE, TRIPLE };

/* APM 2 table 8-6: rows the first exception, columns the second. */
static void test_combined(void **state) {
	static const u8 kinds[] = {X86_DB, X86_UD, X86_AC, X86_DE, X86_TS,
				   X86_NP, X86_SS, X86_GP, X86_PF};

	(void)state;
	for (unsigned i = 0; i < sizeof(kinds); i++) {
		for (unsigned j = 0; j < sizeof(kinds); j++) {
			bool first = i >= 3 && i < 8, second = j >= 3 && j < 8;
			bool fault = kinds[i] == X86_PF, page = kinds[j] == X86_PF;
			bool twice = (first && second) || (fault && (second || page));

			setup(state);
			inject_exception(v, kinds[i]);
			assert_int_equal(inject_exception_error(v, kinds[j], 0x5a), INJECTED);
			assert_true(v->exception.pending);
			assert_int_equal(v->exception.vector, twice ? X86_DF : kinds[j]);
			assert_int_equal(v->exception.error, twice ? 0 : 0x5a);
			assert_true(v->exception.has_error);
			assert_int_equal(ended, VM_END_NONE);
		}
	}
}

static void test_triple_fault(void **state) {
	static const u8 seconds[] = {X86_DE, X86_TS, X86_NP, X86_SS, X86_GP, X86_PF};

	for (unsigned i = 0; i < sizeof(seconds); i++) {
		setup(state);
		inject_exception_error(v, X86_DF, 0);
		assert_int_equal(inject_exception(v, seconds[i]), STOP_VM);
		assert_int_equal(ended, VM_END_CRASH);
		assert_non_null(strstr(vm.stop_reason, "triple fault"));
	}
	setup(state);
	inject_exception_error(v, X86_DF, 0);
	assert_int_equal(inject_exception(v, X86_UD), INJECTED);
	assert_int_equal(ended, VM_END_NONE);
}

static void test_first_reason_stays(void **state) {
	(void)state;
	assert_int_equal(vcpu_stop_reason(v, "one %u", 1), STOP_VM);
	vcpu_stop_reason(&vcpus[1], "two");
	assert_string_equal(vm.stop_reason, "vCPU 0: one 1");
}

static void test_page_fault_sets_cr2(void **state) {
	(void)state;
	inject_page_fault(v, 0x123456789000, 7);
	assert_true(vcpu_prepare(v));
	assert_int_equal(hw.regs[VREG_CR2], 0x123456789000);
	assert_int_equal(hw.nr_injected, 1);
	assert_int_equal(hw.injected[0].vector, X86_PF);
	assert_true(hw.injected[0].has_error);
	assert_int_equal(hw.injected[0].error, 7);
	assert_false(v->exception.pending);
}

static void test_real_mode_has_no_error_codes(void **state) {
	(void)state;
	hw.regs[VREG_CR0] = 0;
	inject_gp(v, 0);
	inject_gp(v, 0); /* #DF */
	vcpu_prepare(v);
	assert_int_equal(hw.injected[0].vector, X86_DF);
	assert_false(hw.injected[0].has_error);
}

static void test_debug_exception_ends_general_detection(void **state) {
	(void)state;
	hw.regs[VREG_DR7] = 0x400 | X86_DR7_GD | 1;
	inject_ud(v);
	vcpu_prepare(v);
	assert_int_equal(hw.regs[VREG_DR7], 0x400 | X86_DR7_GD | 1);
	inject_exception(v, X86_DB);
	vcpu_prepare(v);
	assert_int_equal(hw.regs[VREG_DR7], 0x400 | 1);
}

static void test_end_of_instruction(void **state) {
	(void)state;
	v->rflags |= X86_RFLAGS_RF;
	vcpu_end_instruction(v);
	assert_int_equal(v->rflags, X86_RFLAGS_FIXED | X86_RFLAGS_IF);
	assert_false(v->exception.pending);
	v->rflags |= X86_RFLAGS_TF;
	vcpu_end_instruction(v);
	assert_true(v->exception.pending);
	assert_int_equal(v->exception.vector, X86_DB);
	assert_int_equal(hw.regs[VREG_DR6], BIT(14));
	assert_true(v->rflags & X86_RFLAGS_TF);
}

/* ---- delivery ---- */

static void expect_events(unsigned nr, enum event_type type, u8 vector) {
	assert_int_equal(hw.nr_injected, nr);
	assert_int_equal(hw.injected[nr - 1].type, type);
	assert_int_equal(hw.injected[nr - 1].vector, vector);
}

/* T-X2: one at a time, and none is left without a window that brings it. */
static void test_order_of_events(void **state) {
	(void)state;
	inject_gp(v, 0);
	atomic_store(&v->nmi_pending, 1);
	irq = 0x40;
	assert_true(vcpu_prepare(v));
	expect_events(1, EVENT_EXCEPTION, X86_GP);
	assert_int_equal(hw.nmi_windows, 1);
	assert_true(hw.window);
	assert_int_equal(accepted, 0);

	vcpu_prepare(v);
	expect_events(2, EVENT_NMI, X86_NMI);
	assert_int_equal(atomic_load(&v->nmi_pending), 0);
	assert_int_equal(accepted, 0);

	vcpu_prepare(v);
	expect_events(3, EVENT_INTERRUPT, 0x40);
	assert_int_equal(accepted, 1);
	vcpu_prepare(v);
	assert_int_equal(hw.nr_injected, 3);
}

/* An event whose delivery an exit interrupted goes first; an interrupt is not accepted over it. */
static void test_queued_event_holds_back_the_rest(void **state) {
	(void)state;
	hw.queued = true;
	atomic_store(&v->nmi_pending, 1);
	irq = 0x40;
	vcpu_prepare(v);
	assert_int_equal(hw.nr_injected, 0);
	assert_int_equal(accepted, 0);
	assert_int_equal(hw.nmi_windows, 1);
	assert_true(hw.window);
}

static void test_blocked_interrupt_opens_a_window(void **state) {
	(void)state;
	irq = 0x40;
	v->rflags &= ~X86_RFLAGS_IF;
	vcpu_prepare(v);
	assert_int_equal(hw.nr_injected, 0);
	assert_true(hw.window);
	v->rflags |= X86_RFLAGS_IF;
	hw.window = false;
	hw.shadow = true;
	vcpu_prepare(v);
	assert_int_equal(hw.nr_injected, 0);
	assert_true(hw.window);
	hw.shadow = hw.window = false;
	vcpu_prepare(v);
	expect_events(1, EVENT_INTERRUPT, 0x40);
	assert_false(hw.window);
}

static void test_masked_nmi_waits_once(void **state) {
	(void)state;
	atomic_store(&v->nmi_pending, 2);
	vcpu_prepare(v);
	expect_events(1, EVENT_NMI, X86_NMI);
	assert_int_equal(hw.nmi_windows, 1); /* the second one waits from now on */
	vcpu_prepare(v);
	assert_int_equal(hw.nr_injected, 1);
	assert_int_equal(hw.nmi_windows, 2);
	assert_int_equal(atomic_load(&v->nmi_pending), 1);
	hw.nmi_masked = false;
	vcpu_prepare(v);
	assert_int_equal(hw.nr_injected, 2);
	assert_int_equal(atomic_load(&v->nmi_pending), 0);
}

static void test_blocked_nmi_holds_no_interrupt_back(void **state) {
	(void)state;
	atomic_store(&v->nmi_pending, 1);
	hw.nmi_masked = true;
	irq = 0x40;
	vcpu_prepare(v);
	expect_events(1, EVENT_INTERRUPT, 0x40);
	assert_int_equal(hw.nmi_windows, 1);
	assert_int_equal(atomic_load(&v->nmi_pending), 1);
}

static void test_prepare_serves_what_is_local(void **state) {
	(void)state;
	vcpu_request(v, REQ_TLB_FLUSH | REQ_CLOCK | REQ_EVENT | REQ_NMI);
	assert_int_equal(kicks, 0);
	assert_true(vcpu_prepare(v));
	assert_int_equal(requests(v), 0);
	assert_int_equal(hw.flushes, 1);
	assert_int_equal(clocks, 1);

	static const u64 others[] = {REQ_STOP, REQ_INIT, REQ_SIPI, REQ_SCHED, REQ_LOOP};

	for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
		atomic_store(&v->requests, others[i] | REQ_TLB_FLUSH);
		assert_false(vcpu_prepare(v));
		assert_int_equal(requests(v), others[i] | REQ_TLB_FLUSH);
	}
	assert_int_equal(hw.flushes, 1);
}

static void test_request_kicks_the_other_cpu(void **state) {
	(void)state;
	vcpu_request(&vcpus[1], REQ_EVENT);
	assert_int_equal(kicks, 1);
	assert_int_equal(requests(&vcpus[1]), REQ_EVENT);
	/* A flood is one kick: who set the bit first has made the CPU look. */
	for (unsigned i = 0; i < 100; i++) vcpu_request(&vcpus[1], REQ_EVENT);
	assert_int_equal(kicks, 1);
	vcpu_request(&vcpus[1], REQ_EVENT | REQ_NMI);
	assert_int_equal(kicks, 2);
	assert_null(woken);
	/* Asleep, it is woken whatever is set; to stop, it is taken out of its queue. */
	atomic_store(&vcpus[1].asleep, true);
	vcpu_request(&vcpus[1], REQ_EVENT);
	assert_ptr_equal(woken, &vcpus[1]);
	atomic_store(&vcpus[1].asleep, false);
	vcpu_request(&vcpus[1], REQ_STOP);
	assert_ptr_equal(swept, &vcpus[1]);
	assert_int_equal(kicks, 2);
}

/* ---- HLT ---- */

static void halted(void) {
	assert_int_equal(atomic_load(&v->mp_state), MP_HALTED);
	assert_true(requests(v) & REQ_SCHED);
	atomic_fetch_and(&v->requests, ~REQ_SCHED);
	assert_false(vcpu_runnable(v));
}

static void test_halt_and_wake(void **state) {
	(void)state;
	vcpu_halt(v);
	halted();
	vcpu_request(v, REQ_EVENT); /* for nothing */
	assert_false(vcpu_runnable(v));
	irq = 0x40;
	assert_false(vcpu_runnable(v)); /* nobody has said so */
	vcpu_request(v, REQ_EVENT);
	assert_true(vcpu_runnable(v));
	assert_int_equal(atomic_load(&v->mp_state), MP_RUNNING);
	assert_true(vcpu_prepare(v));
	expect_events(1, EVENT_INTERRUPT, 0x40);
}

/* STI; HLT with the interrupt there already: no sleep, although the shadow is on. */
static void test_no_sleep_over_an_interrupt(void **state) {
	(void)state;
	irq = 0x40;
	hw.shadow = true;
	vcpu_halt(v);
	assert_int_equal(atomic_load(&v->mp_state), MP_RUNNING);
	assert_true(requests(v) & REQ_EVENT);
	assert_false(hw.shadow);
}

static void test_halt_with_interrupts_off(void **state) {
	(void)state;
	v->rflags &= ~X86_RFLAGS_IF;
	irq = 0x40;
	vcpu_halt(v);
	halted();
	vcpu_request(v, REQ_EVENT);
	assert_false(vcpu_runnable(v));
	atomic_store(&v->nmi_pending, 1);
	vcpu_request(v, REQ_NMI);
	assert_true(vcpu_runnable(v));
}

static void test_masked_nmi_wakes_nobody(void **state) {
	(void)state;
	hw.nmi_masked = true;
	atomic_store(&v->nmi_pending, 1);
	vcpu_halt(v);
	halted();
	vcpu_request(v, REQ_NMI);
	assert_false(vcpu_runnable(v));
}

/* HLT with TF: the trap comes behind it, not with the next interrupt. */
static void test_trap_of_halt(void **state) {
	(void)state;
	v->rflags |= X86_RFLAGS_TF;
	vcpu_halt(v);
	vcpu_end_instruction(v);
	assert_true(vcpu_runnable(v));
	hw.at_run = REQ_STOP;
	vcpu_run(v, &(bool){false});
	expect_events(1, EVENT_EXCEPTION, X86_DB);
}

static void test_paravirtual_kick_wakes_once(void **state) {
	(void)state;
	vcpu_halt(v);
	halted();
	pv_kick = true;
	vcpu_request(v, REQ_EVENT);
	assert_true(vcpu_runnable(v));
	vcpu_halt(v);
	halted();
}

static void test_paused_vm_runs_nobody(void **state) {
	(void)state;
	atomic_store(&vm.state, VM_PAUSED);
	vcpu_request(v, REQ_INIT);
	assert_false(vcpu_runnable(v));
}

/* ---- INIT and SIPI ---- */

/* SDM 3A table 9-1: RESET sets everything, INIT leaves some registers alone. */
static void check_reset(bool init) {
	static const u8 kept[] = {VREG_STAR,	    VREG_LSTAR,	       VREG_CSTAR,
				  VREG_SFMASK,	    VREG_PAT,	       VREG_KERNEL_GS_BASE,
				  VREG_SYSENTER_CS, VREG_SYSENTER_ESP, VREG_DEBUGCTL,
				  VREG_SYSENTER_EIP};

	memset(hw.regs, 0x5a, sizeof(hw.regs));
	hw.regs[VREG_CR0] = X86_CR0_PG | X86_CR0_NW;
	memset(hw.segs, 0x5a, sizeof(hw.segs));
	memset(v->gpr, 0x5a, sizeof(v->gpr));
	v->exception.pending = true;
	v->tsc_offset = 1234;
	hw.flushes = 0;
	vcpu_reset(v, init);
	assert_int_equal(hw.inits, init);
	assert_int_equal(hw.tsc_offset, 1234);
	assert_int_equal(hw.flushes, 1);
	assert_false(v->exception.pending);
	assert_int_equal(v->gpr[RAX] | v->gpr[RSP] | v->gpr[R15], 0);
	assert_int_equal(v->rip, 0xfff0);
	assert_int_equal(v->rflags, 2);
	assert_int_equal(hw.regs[VREG_CR0], X86_CR0_ET | X86_CR0_NW | (init ? 0 : X86_CR0_CD));
	assert_int_equal(
		hw.regs[VREG_EFER] | hw.regs[VREG_CR2] | hw.regs[VREG_CR3] | hw.regs[VREG_CR4], 0);
	assert_int_equal(hw.regs[VREG_DR6], 0xffff0ff0);
	assert_int_equal(hw.regs[VREG_DR7], 0x400);
	assert_int_equal(hw.regs[VREG_GDTR_LIMIT], 0xffff);
	assert_int_equal(hw.regs[VREG_IDTR_BASE], 0);
	for (unsigned i = 0; i < ARRAY_SIZE(kept); i++)
		assert_int_equal(hw.regs[kept[i]], init			 ? 0x5a5a5a5a5a5a5a5a
						   : kept[i] == VREG_PAT ? 0x0007040600070406
									 : 0);
	assert_int_equal(hw.segs[SEG_CS].base, 0xffff0000);
	assert_int_equal(hw.segs[SEG_CS].selector, 0xf000);
	assert_int_equal(hw.segs[SEG_CS].attr, 0x9b);
	assert_int_equal(hw.segs[SEG_GS].base | hw.segs[SEG_GS].selector, 0);
	assert_int_equal(hw.segs[SEG_GS].attr, 0x93);
	assert_int_equal(hw.segs[SEG_LDTR].attr, 0x82);
	assert_int_equal(hw.segs[SEG_TR].attr, 0x8b);
	assert_int_equal(hw.segs[SEG_TR].limit, 0xffff);
}

static void test_reset(void **state) {
	(void)state;
	check_reset(false);
}

static void test_init(void **state) {
	(void)state;
	check_reset(true);
}

static void test_init_then_sipi(void **state) {
	struct vcpu *ap = &vcpus[1];

	(void)state;
	vcpu_request(ap, REQ_SIPI); /* not heard: it runs */
	atomic_store(&ap->sipi_vector, 0x55);
	hw.at_run = REQ_STOP;
	vcpu_run(ap, &(bool){false});
	assert_int_equal(hw.runs, 1);

	atomic_store(&ap->nmi_pending, 1);
	vcpu_request(ap, REQ_INIT);
	assert_true(vcpu_runnable(ap));
	vcpu_run(ap, &(bool){false});
	assert_int_equal(hw.resets, 1);
	assert_int_equal(inits, 1);
	assert_int_equal(hw.runs, 1);
	assert_int_equal(atomic_load(&ap->mp_state), MP_WAIT_SIPI);
	assert_int_equal(atomic_load(&ap->nmi_pending), 0);
	vcpu_request(ap, REQ_EVENT | REQ_NMI);
	assert_false(vcpu_runnable(ap));

	atomic_store(&ap->sipi_vector, 0x9a);
	vcpu_request(ap, REQ_SIPI);
	assert_true(vcpu_runnable(ap));
	vcpu_run(ap, &(bool){false});
	assert_int_equal(hw.runs, 2);
	assert_int_equal(hw.segs[SEG_CS].selector, 0x9a00);
	assert_int_equal(hw.segs[SEG_CS].base, 0x9a000);
	assert_int_equal(ap->rip, 0);
	assert_int_equal(atomic_load(&ap->mp_state), MP_RUNNING);
}

/* Both came before it looked. */
static void test_init_and_sipi_at_once(void **state) {
	struct vcpu *ap = &vcpus[1];

	(void)state;
	atomic_store(&ap->sipi_vector, 8);
	vcpu_request(ap, REQ_INIT);
	vcpu_request(ap, REQ_SIPI);
	hw.at_run = REQ_STOP;
	vcpu_run(ap, &(bool){false});
	assert_int_equal(hw.runs, 1);
	assert_int_equal(hw.segs[SEG_CS].base, 0x8000);
}

static void test_init_of_the_boot_processor_resets(void **state) {
	(void)state;
	vcpu_request(v, REQ_INIT);
	vcpu_run(v, &(bool){false});
	assert_int_equal(ended, VM_END_RESET);
	assert_int_equal(hw.runs, 0);
}

/* ---- the run loop ---- */

static void test_loop_looks_at_what_came_in_the_window(void **state) {
	(void)state;
	during_window = v;
	during_window_bits = REQ_STOP;
	vcpu_run(v, &(bool){false});
	assert_int_equal(hw.runs, 0);
	vcpu_run(v, &(bool){true});
	assert_int_equal(hw.runs, 0);
	/* What only asks for a look at the host's interrupts ends nothing and loses no event. */
	irq = 0x40;
	vcpu_request(v, REQ_LOOP | REQ_EVENT);
	hw.at_run = REQ_STOP;
	vcpu_run(v, &(bool){false});
	assert_int_equal(hw.runs, 1);
	expect_events(1, EVENT_INTERRUPT, 0x40);
}

/* A processor that delivers interrupts itself gets all but those that are not its own. */
static void test_a_virtual_apic(void **state) {
	(void)state;
	v->lend = true;
	irq = 0x41;
	vcpu_request_self(v, REQ_EVENT);
	assert_true(vcpu_prepare(v));
	assert_int_equal(hw.nr_injected, 1);
	assert_int_equal(hw.lent, 1);
	by_processor = true;
	irq = 0x42;
	assert_true(vcpu_prepare(v));
	assert_int_equal(hw.nr_injected, 1);
	assert_int_equal(accepted, 1);
	assert_false(hw.window);
	assert_int_equal(hw.lent, 2);
	/* Other events go their way. */
	inject_gp(v, 0);
	assert_true(vcpu_prepare(v));
	assert_int_equal(hw.nr_injected, 2);
	assert_int_equal(hw.lent, 3);
	/* There is nothing to lend. */
	v->lend = false;
	assert_true(vcpu_prepare(v));
	assert_int_equal(hw.nr_injected, 3);
	assert_int_equal(hw.lent, 3);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_virtual_apic, setup),
		cmocka_unit_test_setup(test_combined, setup),
		cmocka_unit_test_setup(test_triple_fault, setup),
		cmocka_unit_test_setup(test_first_reason_stays, setup),
		cmocka_unit_test_setup(test_page_fault_sets_cr2, setup),
		cmocka_unit_test_setup(test_real_mode_has_no_error_codes, setup),
		cmocka_unit_test_setup(test_debug_exception_ends_general_detection, setup),
		cmocka_unit_test_setup(test_end_of_instruction, setup),
		cmocka_unit_test_setup(test_order_of_events, setup),
		cmocka_unit_test_setup(test_queued_event_holds_back_the_rest, setup),
		cmocka_unit_test_setup(test_blocked_interrupt_opens_a_window, setup),
		cmocka_unit_test_setup(test_masked_nmi_waits_once, setup),
		cmocka_unit_test_setup(test_blocked_nmi_holds_no_interrupt_back, setup),
		cmocka_unit_test_setup(test_prepare_serves_what_is_local, setup),
		cmocka_unit_test_setup(test_request_kicks_the_other_cpu, setup),
		cmocka_unit_test_setup(test_halt_and_wake, setup),
		cmocka_unit_test_setup(test_no_sleep_over_an_interrupt, setup),
		cmocka_unit_test_setup(test_halt_with_interrupts_off, setup),
		cmocka_unit_test_setup(test_masked_nmi_wakes_nobody, setup),
		cmocka_unit_test_setup(test_trap_of_halt, setup),
		cmocka_unit_test_setup(test_paravirtual_kick_wakes_once, setup),
		cmocka_unit_test_setup(test_paused_vm_runs_nobody, setup),
		cmocka_unit_test_setup(test_reset, setup),
		cmocka_unit_test_setup(test_init, setup),
		cmocka_unit_test_setup(test_init_then_sipi, setup),
		cmocka_unit_test_setup(test_init_and_sipi_at_once, setup),
		cmocka_unit_test_setup(test_init_of_the_boot_processor_resets, setup),
		cmocka_unit_test_setup(test_loop_looks_at_what_came_in_the_window, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
