// sources: vmx/exit.c vmx/event.c vmx/check.c vmx/fields.c vmx/apic.c
// sources:
/* The way through an exit on VMX: what it costs in VMREADs and VMWRITEs, and what it leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "kernel/smp.h"
#include "kernel/vm.h"
#include "lib/log.h"
#include "lib/printf.h"
#include "lib/x86.h"
#include "mm/gmem.h"
#include "platform/bus.h"
#include "platform/exits.h"
#include "platform/cr.h"
#include "platform/emulate.h"
#include "platform/kvm_pv.h"
#include "platform/msr.h"
#include "vmx/vmx.h"

#define MAX_READS  6u
#define MAX_WRITES 3u
#define RIP	   0x401000ul

static u64 fields[0x7000];
static unsigned reads, writes;

static struct vm vm;
static struct vcpu vcpu;
static struct vmx_vcpu arch;
static u32 vapic[1024];
static struct lapic apic;
static struct gmem gmem;
static u64 counts[VMX_NR_EXITS];
static bool ram_there;
static unsigned stopped, mmio, halts, queued, flushes, tlb_flushes, logged;
static unsigned gave_way;
static u64 long_mode;
static char stop_reason[200];

struct vmx_config vmx_config = {
	.caps.msr[VMX_MSR_MISC - VMX_MSR_FIRST] = 5, /* of the preemption timer */
};
u64 tsc_khz = 3200000;

u64 vmread(struct vmcs_field field) {
	reads++;
	return fields[field.encoding];
}

u64 vmread_any(struct vmcs_field field) { return vmread(field); }

void vmwrite(struct vmcs_field field, u64 value) {
	writes++;
	fields[field.encoding] = value;
}

/* ---- what exits lead to ---- */

enum outcome cpuid_exit(struct vcpu *v) {
	v->gpr[RAX] = 0x16;
	return ADVANCE;
}

enum outcome msr_read_exit(struct vcpu *v) {
	v->gpr[RAX] = 1;
	return ADVANCE;
}

enum outcome msr_write_exit(struct vcpu *v) {
	(void)v;
	return ADVANCE;
}

enum outcome hypercall_exit(struct vcpu *v) {
	(void)v;
	return ADVANCE;
}

enum outcome xsetbv_exit(struct vcpu *v) {
	(void)v;
	return ADVANCE;
}

enum outcome vmx_exit_cr(struct vcpu *v) {
	(void)v;
	return ADVANCE;
}

/* A task switch that ends as a test wants it, with a page-table root of its own. */
static struct task_switch switched;
static int switch_result;
static bool pae, pdptes_valid;

int emulate_task_switch(struct vcpu *v, const struct task_switch *to) {
	(void)v;
	switched = *to;
	fields[VMCS(guest_cr3).encoding] += 0x1000;
	return switch_result;
}

bool vmx_pae_paging(struct vcpu *v) { return (void)v, pae; }

bool vmx_load_pdptes(struct vcpu *v) { return (void)v, pdptes_valid; }

void vmx_set_apic_mode(u8 mode, bool usual) { (void)mode, (void)usual; }

bool irq_by_processor(struct vcpu *v) {
	(void)v;
	return true;
}

void lapic_set_virtual(struct vcpu *v, void *page, u8 can_deliver) {
	(void)v, (void)page, (void)can_deliver;
}

/* An interrupt came while the processor had the local APIC. */
void lapic_lend(struct vcpu *v, struct lapic_lent *lent) {
	(void)v;
	lent->status = 0x51;
}

u8 lapic_threshold(struct lapic *which) {
	(void)which;
	return 0;
}

void lapic_eoi_level(struct lapic *which, u8 vector) { (void)which, (void)vector; }

void lapic_virtual_write(struct vcpu *v, u32 offset) { (void)v, (void)offset; }

enum outcome emulate_string_io(struct vcpu *v, u16 port, unsigned size, bool in, bool rep) {
	(void)v, (void)port, (void)size, (void)in, (void)rep;
	return RESUME;
}

enum outcome emulate_mmio(struct vcpu *v, gpa_t gpa, bool write, bool page_walk) {
	(void)gpa, (void)write, (void)page_walk;
	mmio++;
	v->gpr[RSP] += 8; /* as POP would */
	v->next_rip = v->rip + 4;
	return ADVANCE;
}

int gmem_fault(struct gmem *gm, gpa_t gpa, bool write, bool exec) {
	(void)gm, (void)gpa, (void)write, (void)exec;
	return ram_there ? 0 : E_FAULT;
}

u32 bus_io_read(struct vm *v, u16 port, unsigned size) {
	(void)v;
	return (port == 0x70 ? 0xaabbccdd : ~0u) & ~0u >> (32 - 8 * size);
}

void bus_io_write(struct vm *v, u16 port, unsigned size, u32 value) {
	(void)v, (void)port, (void)size, (void)value;
}

void vcpu_halt(struct vcpu *v) {
	(void)v;
	halts++;
}

enum outcome vcpu_triple_fault(struct vcpu *v) {
	(void)v;
	stopped++;
	return STOP_VM;
}

enum outcome vcpu_stop_reason(struct vcpu *v, const char *fmt, ...) {
	va_list ap;

	(void)v;
	va_start(ap, fmt);
	vsnprintf(stop_reason, sizeof(stop_reason), fmt, ap);
	va_end(ap);
	stopped++;
	return STOP_VM;
}

enum outcome inject_exception(struct vcpu *v, u8 vector) {
	(void)v;
	queued = vector;
	return INJECTED;
}

enum outcome inject_exception_error(struct vcpu *v, u8 vector, u32 error) {
	(void)error;
	return inject_exception(v, vector);
}

void sched_give_way(struct vcpu *v) { gave_way += v == &vcpu; }

void vcpu_end_instruction(struct vcpu *v) { v->rflags &= ~X86_RFLAGS_RF; }

bool vcpu_prepare(struct vcpu *v) {
	if (v->lend) vmx_lend_apic(v);
	return !(atomic_load(&v->requests) & REQ_LOOP);
}

u64 vmx_reg(struct vcpu *v, enum vreg reg) {
	(void)v;
	return reg == VREG_CR0 ? X86_CR0_PE : reg == VREG_CR2 ? 0xfa017 : 0;
}

void vmx_set_reg(struct vcpu *v, enum vreg reg, u64 value) { (void)v, (void)reg, (void)value; }

u32 vmx_privilege(struct vcpu *v) {
	(void)v;
	return (u32)long_mode;
}

void vmx_tlb_enter(struct vcpu *v) {
	vmx_of(v)->level->flush = false;
	flushes++;
}

struct vcpu *vmx_borrow_slow(struct vcpu *v) {
	(void)v;
	return NULL;
}

void vmx_give_back_slow(struct vcpu *lent) { (void)lent; }

/* The guest is no hypervisor. */
#define NO_NESTED(handler)                          \
	enum outcome handler(struct vcpu *v) {      \
		(void)v;                            \
		return inject_exception(v, X86_UD); \
	}
NO_NESTED(vmx_exit_vmentry)
NO_NESTED(vmx_exit_vmxon)
NO_NESTED(vmx_exit_vmxoff)
NO_NESTED(vmx_exit_vmptr)
NO_NESTED(vmx_exit_vmptrst)
NO_NESTED(vmx_exit_vmread)
NO_NESTED(vmx_exit_vmwrite)
NO_NESTED(vmx_exit_invalidate)

enum outcome vmx_nested_exit(struct vcpu *v, u64 index) {
	(void)v, (void)index;
	return STOP_VM;
}

bool vmx_nested_refused(struct vcpu *v) {
	(void)v;
	return false;
}

bool vmx_l1_takes_interrupts(struct vcpu *v) {
	(void)v;
	return false;
}

bool vmx_l1_window_open(struct vcpu *v) {
	(void)v;
	return false;
}

bool vmx_l1_takes_nmis(struct vcpu *v) {
	(void)v;
	return false;
}

void smp_kick_self(void) {}

u64 direct_base_;

void *page_alloc(u64 size) {
	(void)size;
	return NULL;
}

int pt_map(struct ptable *pt, u64 va, u64 pa, u64 size, u32 attrs) {
	(void)pt, (void)va, (void)pa, (void)size, (void)attrs;
	return E_NOMEM;
}

int pt_protect(struct ptable *pt, u64 va, u64 size, u32 attrs) {
	(void)pt, (void)va, (void)size, (void)attrs;
	return 0;
}

void vcpu_request(struct vcpu *v, u64 bits) { (void)v, (void)bits; }

void gmem_log_collect_of(struct gmem *gm, _Atomic u64 *pml) { (void)gm, (void)pml; }

/* ---- the tests ---- */

static int setup(void **state) {
	(void)state;
	memset(fields, 0, sizeof(fields));
	memset(&vcpu, 0, sizeof(vcpu));
	memset(&arch, 0, sizeof(arch));
	memset(counts, 0, sizeof(counts));
	vm.gmem = &gmem;
	vcpu.vm = &vm;
	vcpu.arch = &arch;
	memset(&apic, 0, sizeof(apic));
	apic.vapic = arch.vapic = vapic;
	vcpu.lapic = &apic;
	vcpu.exit_counts = counts;
	arch.level = &arch.levels[0];
	arch.other = &arch.levels[1];
	arch.loaded = true;
	ram_there = true;
	stopped = mmio = halts = flushes = tlb_flushes = logged = 0;
	queued = ~0u;
	long_mode = PRIV_64BIT;
	switch_result = 0;
	pae = false;
	fields[VMCS(guest_rip).encoding] = RIP;
	fields[VMCS(guest_rsp).encoding] = 0x7000;
	fields[VMCS(guest_rflags).encoding] = X86_RFLAGS_FIXED | X86_RFLAGS_IF;
	fields[VMCS(instruction_length).encoding] = 2;
	return 0;
}

static bool leave(u32 reason) {
	fields[VMCS(exit_reason).encoding] = reason;
	reads = writes = 0;
	return vmx_exit(&vcpu);
}

static void check_cheap(u32 reason) {
	setup(NULL);
	assert_true(leave(reason));
	assert_in_range(reads, 1, MAX_READS);
	assert_in_range(writes, 0, MAX_WRITES);
	/* The same while an interrupt has come for a virtual APIC: one VMREAD more. */
	setup(NULL);
	vcpu.lend = apic.lent = true;
	apic.delivers = LAPIC_X2APIC;
	atomic_store(&apic.irr[1], 1);
	vcpu_request_self(&vcpu, REQ_EVENT);
	assert_true(leave(reason));
	assert_in_range(reads, 1, MAX_READS + 1);
	assert_in_range(writes, 0, MAX_WRITES);
	assert_int_equal(fields[VMCS_guest_interrupt_status], 0x51);
}

static void test_common_exits_are_cheap(void **state) {
	static const u32 reasons[] = {
		REASON_CPUID,		REASON_HLT,   REASON_VMCALL, REASON_IO,
		REASON_RDMSR,		REASON_WRMSR, REASON_CR,     REASON_WBINVD,
		REASON_EPT_VIOLATION,	REASON_TPR,   REASON_EOI,    REASON_APIC_WRITE,
		REASON_INTERRUPT_WINDOW};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++) check_cheap(reasons[i]);
}

static void test_an_instruction_ends(void **state) {
	(void)state;
	fields[VMCS(guest_shadow).encoding] = SHADOW_STI | SHADOW_NMI;
	fields[VMCS(guest_rflags).encoding] |= X86_RFLAGS_RF;
	assert_true(leave(REASON_CPUID));
	assert_int_equal(fields[VMCS(guest_rip).encoding], RIP + 2);
	assert_int_equal(fields[VMCS(guest_shadow).encoding], SHADOW_NMI);
	assert_int_equal(fields[VMCS(guest_rflags).encoding], X86_RFLAGS_FIXED | X86_RFLAGS_IF);
	assert_int_equal(counts[REASON_CPUID], 1);
}

static void test_rip_wraps_outside_of_64_bit_code(void **state) {
	(void)state;
	fields[VMCS(guest_rip).encoding] = 0xffffffff;
	long_mode = 0;
	leave(REASON_CPUID);
	assert_int_equal(fields[VMCS(guest_rip).encoding], 1);

	fields[VMCS(guest_rip).encoding] = 0xffffffff;
	long_mode = PRIV_64BIT;
	leave(REASON_CPUID);
	assert_int_equal(fields[VMCS(guest_rip).encoding], 0x100000001);
}

static void test_port_reads_by_size(void **state) {
	static const struct {
		u64 info, rax;
	} cases[] = {
		{0x70ul << 16 | BIT(3) | 0, 0x11111111111111dd},
		{0x70ul << 16 | BIT(3) | 1, 0x111111111111ccdd},
		{0x70ul << 16 | BIT(3) | 3, 0xaabbccdd},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		vcpu.gpr[RAX] = 0x1111111111111111;
		fields[VMCS(qualification).encoding] = cases[i].info;
		leave(REASON_IO);
		assert_int_equal(vcpu.gpr[RAX], cases[i].rax);
	}
}

static void test_rsp_goes_both_ways_for_the_emulator(void **state) {
	(void)state;
	ram_there = false;
	fields[VMCS(qualification).encoding] = EPT_QUAL_LINEAR | EPT_QUAL_FINAL;
	assert_true(leave(REASON_EPT_VIOLATION));
	assert_int_equal(mmio, 1);
	assert_int_equal(fields[VMCS(guest_rsp).encoding], 0x7008);
	assert_int_equal(fields[VMCS(guest_rip).encoding], RIP + 4);
}

static void test_code_from_nowhere_is_undefined(void **state) {
	(void)state;
	ram_there = false;
	fields[VMCS(qualification).encoding] = EPT_QUAL_FETCH | EPT_QUAL_LINEAR | EPT_QUAL_FINAL;
	leave(REASON_EPT_VIOLATION);
	assert_int_equal(mmio, 0);
	assert_int_equal(queued, X86_UD);
}

/* SDM 3C 27.2.4: what an exit interrupted. */
static void test_interrupted_delivery(void **state) {
	const u64 interrupt = EVENT_VALID | 0x31, nmi = EVENT_VALID | 2ul << 8 | 2;
	const u64 soft = EVENT_VALID | 4ul << 8 | 0x80;
	const u64 fault = EVENT_VALID | EVENT_HAS_ERROR | 3ul << 8 | X86_PF;

	(void)state;
	fields[VMCS(vectoring_event).encoding] = interrupt;
	leave(REASON_EPT_VIOLATION);
	assert_true(vmx_event_queued(&vcpu));
	assert_int_equal(fields[VMCS(entry_event).encoding], interrupt);

	setup(NULL);
	fields[VMCS(vectoring_event).encoding] = nmi;
	fields[VMCS(guest_shadow).encoding] = SHADOW_NMI;
	leave(REASON_EPT_VIOLATION);
	assert_int_equal(fields[VMCS(entry_event).encoding], nmi);
	assert_int_equal(fields[VMCS(guest_shadow).encoding], 0);

	setup(NULL);
	fields[VMCS(vectoring_event).encoding] = soft;
	leave(REASON_EPT_VIOLATION);
	assert_false(vmx_event_queued(&vcpu));

	setup(NULL);
	fields[VMCS(vectoring_event).encoding] = fault;
	fields[VMCS(vectoring_error).encoding] = 7;
	leave(REASON_EPT_VIOLATION);
	assert_false(vmx_event_queued(&vcpu));
	assert_true(vcpu.exception.pending && vcpu.exception.has_error);
	assert_int_equal(vcpu.exception.vector, X86_PF);
	assert_int_equal(vcpu.exception.error, 7);
	/* CR2 has it already (27.1), and gets it once more. */
	assert_int_equal(vcpu.exception.address, 0xfa017);
}

static void switch_task(u64 source, u64 event) {
	setup(NULL);
	fields[VMCS(qualification).encoding] = source << 30 | 0x28;
	fields[VMCS(vectoring_event).encoding] = event;
	fields[VMCS(vectoring_error).encoding] = 0x1234;
	fields[VMCS(guest_shadow).encoding] = SHADOW_NMI | SHADOW_MOV_SS;
}

/* SDM 3C 27.3.3: where the old task goes on; 27.2.4: what comes with an event. */
static void test_task_switches(void **state) {
	static const struct {
		u64 source, event, rip, shadow;
		bool external, error;
	} all[] = {
		{TASK_CALL, 0, RIP + 2, SHADOW_NMI, false, false},
		{TASK_IRET, 0, RIP + 2, 0, false, false},
		{TASK_JMP, 0, RIP + 2, SHADOW_NMI, false, false},
		{TASK_GATE, EVENT_VALID | 4ul << 8 | 0x80, RIP + 2, SHADOW_NMI, false, false},
		{TASK_GATE, EVENT_VALID | 6ul << 8 | X86_BP, RIP + 2, SHADOW_NMI, false, false},
		{TASK_GATE, EVENT_VALID | 0x31, RIP, SHADOW_NMI, true, false},
		{TASK_GATE, EVENT_VALID | 3ul << 8 | X86_DE, RIP, SHADOW_NMI, true, false},
		{TASK_GATE, EVENT_VALID | EVENT_HAS_ERROR | 3ul << 8 | X86_GP, RIP, SHADOW_NMI,
		 true, true},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		switch_task(all[i].source, all[i].event);
		leave(9);
		assert_int_equal(switched.selector, 0x28);
		assert_int_equal(switched.source, all[i].source);
		assert_int_equal(switched.rip, all[i].rip);
		assert_int_equal(switched.external, all[i].external);
		assert_int_equal(switched.has_error, all[i].error);
		assert_int_equal(switched.error, 0x1234);
		assert_int_equal(fields[VMCS(guest_shadow).encoding], all[i].shadow);
		assert_int_equal(fields[VMCS(guest_rip).encoding], RIP);
		/* So that another exception on top of it is seen. */
		assert_int_equal(vcpu.exception.pending, (all[i].event & 0x700) == 0x300);
		assert_false(vmx_event_queued(&vcpu));
		assert_int_equal(stopped, 0);
	}
	switch_task(TASK_GATE, EVENT_VALID | 2ul << 8 | 2);
	fields[VMCS(guest_shadow).encoding] = 0;
	leave(9);
	assert_int_equal(fields[VMCS(guest_shadow).encoding], SHADOW_NMI);
}

/* What the switch was for comes again. */
static void test_task_switch_again(void **state) {
	(void)state;
	switch_task(TASK_GATE, EVENT_VALID | 0x31);
	switch_result = E_BUSY;
	leave(9);
	assert_true(vmx_event_queued(&vcpu));
	assert_int_equal(fields[VMCS(entry_event).encoding], EVENT_VALID | 0x31);
	assert_int_equal(fields[VMCS(guest_shadow).encoding], SHADOW_NMI | SHADOW_MOV_SS);
}

static void test_task_switch_in_pae_paging(void **state) {
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		switch_task(TASK_JMP, 0);
		pae = i & 1;
		pdptes_valid = i & 2;
		leave(9);
		assert_int_equal(queued, i == 1 ? X86_GP : ~0u);
	}
}

/* Whoever spins gives the CPU up, and goes on behind the PAUSE. */
static void test_a_pause_loop_gives_way(void **state) {
	(void)state;
	gave_way = 0;
	leave(40);
	assert_int_equal(gave_way, 1);
	assert_int_equal(vcpu.rip, RIP + 2);
}

static void test_injection_word(void **state) {
	static const struct event fault = {
		.type = EVENT_EXCEPTION, .vector = X86_GP, .has_error = true, .error = 0x18};

	(void)state;
	fields[VMCS(guest_shadow).encoding] = SHADOW_MOV_SS;
	vmx_inject(&vcpu, &fault);
	assert_int_equal(fields[VMCS(entry_event).encoding], 0x80000b0d);
	assert_int_equal(fields[VMCS(entry_error).encoding], 0x18);
	assert_int_equal(fields[VMCS(guest_shadow).encoding], 0);
	assert_true(vmx_event_queued(&vcpu));
	leave(REASON_INTERRUPT_WINDOW);
	assert_false(vmx_event_queued(&vcpu));
}

static void test_what_may_enter(void **state) {
	(void)state;
	vcpu.rflags = X86_RFLAGS_FIXED | X86_RFLAGS_IF;
	assert_true(vmx_interrupt_allowed(&vcpu) && vmx_nmi_allowed(&vcpu));
	fields[VMCS(guest_shadow).encoding] = SHADOW_NMI;
	assert_true(vmx_interrupt_allowed(&vcpu) && !vmx_nmi_allowed(&vcpu));
	fields[VMCS(guest_shadow).encoding] = SHADOW_STI;
	assert_false(vmx_interrupt_allowed(&vcpu) || vmx_nmi_allowed(&vcpu));
	vmx_end_shadow(&vcpu);
	assert_true(vmx_interrupt_allowed(&vcpu));
	vcpu.rflags = X86_RFLAGS_FIXED;
	assert_false(vmx_interrupt_allowed(&vcpu));
}

static void test_the_tick_leaves_the_guest(void **state) {
	(void)state;
	assert_false(leave(REASON_TICK));
	assert_int_equal(fields[VMCS(tick).encoding], tsc_khz >> 5);
	assert_int_equal(vcpu.gpr[RSP], 0x7000);
}

u64 guest_tsc(struct vcpu *v) {
	(void)v;
	return 0x123456789abc;
}

void vmx_tlb_flush(struct vcpu *v) {
	(void)v;
	tlb_flushes++;
}

void log_msg(enum log_level level, const char *fmt, ...) {
	(void)fmt;
	assert_int_equal(level, LOG_WARN);
	logged++;
}

/* What no control asks for: done as the processor would have, told once. */
static void test_unasked_exits(void **state) {
	(void)state;
	leave(REASON_INVLPG);
	assert_int_equal(tlb_flushes, 1);
	assert_int_equal(fields[VMCS(guest_rip).encoding], RIP + 2);
	assert_int_equal(logged, 1);
	setup(NULL);
	leave(REASON_INVLPG);
	assert_int_equal(logged, 0);

	leave(REASON_RDTSCP);
	assert_int_equal(vcpu.gpr[RAX], 0x56789abc);
	assert_int_equal(vcpu.gpr[RDX], 0x1234);
	assert_int_equal(vcpu.gpr[RCX], 0);
	assert_int_equal(fields[VMCS(guest_rip).encoding], RIP + 4);

	setup(NULL);
	leave(37 /* monitor trap flag */);
	assert_int_equal(fields[VMCS(guest_rip).encoding], RIP);
	assert_int_equal(stopped, 0);
	leave(59 /* VMFUNC */);
	assert_int_equal(queued, X86_UD);
	assert_int_equal(stopped, 0);
	leave(29 /* MOV DR */);
	assert_int_equal(stopped, 1);
}

/* SDM 3C 26.8: a failed entry names its reason and no more; the VM's end names field and rule. */
static void test_a_refused_entry_is_explained(void **state) {
	static const u64 values[][2] = {
		{VMCS_guest_rflags, X86_RFLAGS_FIXED},
		{VMCS_guest_access + 2, 0x209b},
		{VMCS_guest_access + 14, 0x8b},
		{VMCS_guest_limit + 14, 0x67},
		{VMCS_exit_controls, EXIT_HOST_64},
		{VMCS_host_cr4, X86_CR4_PAE},
		{VMCS_host_selector + 2, 8},
		{VMCS_host_tr_selector, 0x18},
		{VMCS_link, ~0ul},
		{VMCS_host_rip, 0xffffffff80000000},
	};
	struct vmx_caps *caps = &vmx_config.caps;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(values); i++) fields[values[i][0]] = values[i][1];
	for (unsigned i = 0; i < 8; i++)
		fields[VMCS_guest_access + 2 * i] |= i == 1 || i == 7 ? 0 : ACCESS_UNUSABLE;
	caps->phys_bits = 40;
	caps->linear_bits = 48;
	for (unsigned i = 1; i < 5; i++) caps->msr[i] = ~0ul << 32;
	caps->msr[VMX_MSR_CR0_FIXED0 + 1 - VMX_MSR_FIRST] = ~0ul;
	caps->msr[VMX_MSR_CR4_FIXED0 + 1 - VMX_MSR_FIRST] = ~0ul;

	fields[VMCS_qualification] = 0;
	assert_false(leave((u32)REASON_ENTRY_FAILED | REASON_BAD_STATE) && !stopped);
	assert_string_equal(stop_reason, "VM entry refused, qualification 0, for no known rule");
	fields[VMCS_guest_base + 14] = 1ul << 47;
	leave((u32)REASON_ENTRY_FAILED | REASON_BAD_STATE);
	assert_string_equal(stop_reason, "VM entry refused, qualification 0: guest_base (6814) is "
					 "800000000000; SDM 3C 26.3.1.2: canonical");
	fields[VMCS_instruction_error] = 7;
	fields[VMCS_cr3_targets] = 1;
	assert_false(vmx_entry_refused(&vcpu));
	assert_string_equal(stop_reason,
			    "VM entry refused, VM-instruction error 7: cr3_targets (400a) "
			    "is 1; SDM 3C 26.2.1.1: no more than there are");
	memset(caps->msr + 1, 0, 4 * sizeof(u64));
}

static void test_every_reason_has_a_handler(void **state) {
	(void)state;
	for (u32 i = 0; i < VMX_NR_EXITS; i++) {
		setup(NULL);
		assert_non_null(vmx_exits[i].name);
		if (i != REASON_EXCEPTION) /* may be the host's own NMI or #MC */
			leave(i);
	}
	setup(NULL);
	leave(0xffff);
	assert_int_equal(stopped, 1);
	setup(NULL);
	leave((u32)REASON_ENTRY_FAILED | REASON_BAD_STATE);
	assert_int_equal(stopped, 1);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_common_exits_are_cheap, setup),
		cmocka_unit_test_setup(test_an_instruction_ends, setup),
		cmocka_unit_test_setup(test_rip_wraps_outside_of_64_bit_code, setup),
		cmocka_unit_test_setup(test_port_reads_by_size, setup),
		cmocka_unit_test_setup(test_rsp_goes_both_ways_for_the_emulator, setup),
		cmocka_unit_test_setup(test_code_from_nowhere_is_undefined, setup),
		cmocka_unit_test_setup(test_interrupted_delivery, setup),
		cmocka_unit_test_setup(test_a_pause_loop_gives_way, setup),
		cmocka_unit_test_setup(test_injection_word, setup),
		cmocka_unit_test_setup(test_what_may_enter, setup),
		cmocka_unit_test_setup(test_the_tick_leaves_the_guest, setup),
		cmocka_unit_test_setup(test_task_switches, setup),
		cmocka_unit_test_setup(test_task_switch_again, setup),
		cmocka_unit_test_setup(test_task_switch_in_pae_paging, setup),
		cmocka_unit_test_setup(test_unasked_exits, setup),
		cmocka_unit_test_setup(test_a_refused_entry_is_explained, setup),
		cmocka_unit_test_setup(test_every_reason_has_a_handler, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
