// sources: vmx/nested.c vmx/nested_apic.c vmx/nested_caps.c vmx/fields.c tests/fakes.c
/* What an L2 runs with: Roost's controls and L1's together, and each field at its own place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/space.h"
#include "lib/x86.h"
#include "platform/cpu_model.h"
#include "platform/msr.h"
#include "tests/fakes.h"
#include "vmx/check.h"
#include "vmx/vmx.h"

#define NR_ENCODINGS 0x7000
#define EPTP	     0x123401e

static u64 vmcs[2][NR_ENCODINGS]; /* 01 and 02 */
static bool at_02;
static struct vm vm;
static struct vcpu vcpu;
static struct vmx_vcpu arch;
static struct cpu_model model;
static u64 seed = 1;
static unsigned halts, checks, hidden, flushes, cleared;
static bool ept;
u64 direct_base_;
hpa_t vmx_apic_access = 0xacce55000;

struct vmx_config vmx_config;

u64 vmread(struct vmcs_field field) { return vmcs[at_02][field.encoding]; }
void vmwrite(struct vmcs_field field, u64 value) { vmcs[at_02][field.encoding] = value; }

void vmx_switch_level(struct vcpu *v) {
	struct vmx_level *left = vmx_of(v)->level;

	vmx_of(v)->level = vmx_of(v)->other;
	vmx_of(v)->other = left;
	at_02 = !at_02;
}

struct vcpu *vmx_borrow_slow(struct vcpu *v) {
	(void)v;
	return NULL;
}

void vmx_give_back_slow(struct vcpu *lent) { (void)lent; }

int vmx_new_vmcs(struct vcpu *v) {
	(void)v;
	return 0;
}

/* Registers as they are in the VMCS: nothing here is hidden from L1. */
u64 vmx_reg(struct vcpu *v, enum vreg reg) {
	(void)v;
	return reg == VREG_CR0	 ? vmread(VMCS(guest_cr0))
	       : reg == VREG_CR4 ? vmread(VMCS(guest_cr4))
				 : vmread(VMCS(guest_efer));
}

u64 vmx_cr0(const struct vmx_vcpu *a) {
	(void)a;
	return vmread(VMCS(guest_cr0));
}

u64 vmx_cr4(const struct vmx_vcpu *a) {
	(void)a;
	return vmread(VMCS(guest_cr4));
}

void vmx_write_back(struct vcpu *v) {
	vmwrite(VMCS(guest_rip), v->rip);
	vmwrite(VMCS(guest_rflags), v->rflags);
	vmwrite(VMCS(guest_rsp), v->gpr[RSP]);
}

void vmx_set_tsc_offset(struct vcpu *v, u64 offset) {
	(void)v;
	vmwrite(VMCS(tsc_offset), offset);
}

int vmx_shadow_create(struct vcpu *v) {
	(void)v;
	return 0;
}

void vmx_shadow_use(struct vcpu *v, bool on) { (void)v, (void)on; }
void vmx_shadow_put(struct vcpu *v) { (void)v; }
void vmx_shadow_get(struct vcpu *v) { (void)v; }

void *page_alloc(u64 size) { return calloc(1, size); }

void page_free(const void *pages, u64 size) {
	(void)size;
	free((void *)(uintptr_t)pages);
}

void vmx_need_rsp(struct vcpu *v) { (void)v; }
void vmx_end_shadow(struct vcpu *v) { (void)v; }
void vmx_tlb_flush(struct vcpu *v) { (void)v; }
void vmx_nested_flush_ept(struct vcpu *v, const u64 *eptp) { (void)v, (void)eptp; }
void vmx_msr_bitmap_merge(u8 *to, const u8 *l1) { (void)to, (void)l1; }

/* Of the last call: the controls; ~0 when it was to let nothing pass. */
static u64 x2apic;
void vmx_msr_bitmap_x2apic(u8 *to, const u8 *l1, u64 proc2) {
	(void)to;
	x2apic = l1 ? proc2 : ~0ul;
}

void vmx_hide_apic(struct vcpu *v) {
	(void)v;
	hidden++;
}

void vmx_tlb_flush_l2(struct vcpu *v) {
	(void)v;
	flushes++;
}

void vmx_vmclear(hpa_t pa) {
	(void)pa;
	cleared++;
}

void vmx_vmptrld(hpa_t pa) { (void)pa; }

/* L1's RAM is below 1 MiB, and 4 GiB higher in the host. */
static u8 ram[MiB(1)];

bool gmem_find(struct gmem *gm, gpa_t gpa, hpa_t *hpa, unsigned *shift) {
	(void)gm;
	if (gpa >= sizeof(ram)) return false;
	*hpa = gpa + GiB(4);
	*shift = PAGE_SHIFT;
	return true;
}

int gmem_read(struct gmem *gm, gpa_t gpa, void *to, size_t len) {
	(void)gm;
	if (gpa + len > sizeof(ram)) return E_FAULT;
	memcpy(to, ram + gpa, len);
	return 0;
}

void *gmem_ptr_write(struct gmem *gm, gpa_t gpa, size_t len) {
	(void)gm;
	return gpa + len > sizeof(ram) ? NULL : ram + gpa;
}

const void *gmem_ptr(struct gmem *gm, gpa_t gpa, size_t len) {
	return gmem_ptr_write(gm, gpa, len);
}

u32 vmx_revision_at(struct vcpu *v, gpa_t gpa) {
	(void)v, (void)gpa;
	return ~0u;
}

bool vmx_pae_paging(struct vcpu *v) {
	(void)v;
	return true;
}

bool vmx_load_pdptes(struct vcpu *v) {
	(void)v;
	return true;
}

bool vmx_nested_ept(struct vcpu *v) {
	(void)v;
	return ept;
}

bool vmx_l1_window_open(struct vcpu *v) {
	(void)v;
	return false;
}

int vmx_nested_use_tables(struct vcpu *v, u64 *eptp) {
	(void)v;
	*eptp = EPTP;
	return 0;
}

enum outcome vmx_insn_allowed(struct vcpu *v) {
	(void)v;
	return ADVANCE;
}

enum outcome vmx_fail(struct vcpu *v, enum vmx_error error) {
	vmx_of(v)->nested.vmcs12->instruction_error = error;
	return ADVANCE;
}

void vcpu_halt(struct vcpu *v) {
	(void)v;
	halts++;
}

enum outcome vcpu_stop_reason(struct vcpu *v, const char *fmt, ...) {
	(void)v, (void)fmt;
	return STOP_VM;
}

int msr_read(struct vcpu *v, u32 msr, u64 *value) {
	(void)v, (void)msr, (void)value;
	return E_INVAL;
}

int msr_write(struct vcpu *v, u32 msr, u64 value) {
	(void)v, (void)msr, (void)value;
	return E_INVAL;
}

/* Each part that is asked for counts. */
bool vmx_check(const struct vmcs_values *v, const struct vmx_limits *l, u32 parts,
	       struct vmx_rule_broken *out) {
	(void)v, (void)l, (void)out;
	checks += (unsigned)__builtin_popcount(parts);
	return true;
}

/* ---- the tests ---- */

static u64 draw(void) {
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static const struct vmcs_run *run_of(u32 encoding) {
	const struct vmcs_run *run = vmcs_runs;

	while (run->encoding != encoding) run++;
	return run;
}

static struct vmcs_values *l1(void) { return arch.nested.vmcs12; }

static void touch_all(void) { memset(&arch.nested.dirty, 0xff, sizeof(arch.nested.dirty)); }

static int setup(void **state) {
	(void)state;
	fake_reset();
	free(arch.nested.vmcs12);
	memset(&vcpu, 0, sizeof(vcpu));
	memset(&arch, 0, sizeof(arch));
	memset(vmcs, 0, sizeof(vmcs));
	at_02 = false;
	vm.cpu_model = &model;
	vcpu.vm = &vm;
	vcpu.arch = &arch;
	arch.level = &arch.levels[0];
	arch.other = &arch.levels[1];
	arch.loaded = true;
	arch.nested.vmcs12 = calloc(1, sizeof(struct vmcs_values));
	arch.nested.current = 0x5000;
	arch.level->cr0_owned = arch.other->cr0_owned = 0xff;
	arch.level->cr4_owned = arch.other->cr4_owned = 0xfff;
	vmx_config.proc = (u32)(PROC_HLT | PROC_ALL_IO | PROC_MSR_BITMAP | PROC_TPR_SHADOW |
				PROC_SECONDARY | PROC_TSC_OFFSET);
	vmx_config.proc2 = (u32)(PROC2_EPT | PROC2_VPID | PROC2_UNRESTRICTED | PROC2_RDTSCP |
				 PROC2_INVPCID | PROC2_XSAVES | PROC2_VID | PROC2_X2APIC |
				 PROC2_APIC_REGS | PROC2_WBINVD | PROC2_APIC_ACCESS);
	checks = halts = hidden = flushes = cleared = 0;
	x2apic = 0;
	ept = true;
	memset(ram, 0, sizeof(ram));
	vmcs[0][VMCS_exit_reason] = REASON_VMLAUNCH;
	touch_all();
	return 0;
}

static void launch(void) {
	assert_int_equal(vmx_exit_vmentry(&vcpu), RESUME);
	assert_true(vcpu.l2);
	assert_true(at_02);
}

static void leave(void) {
	const struct vmx_exit_to to = {.reason = REASON_HLT, .hardware = true};

	vmx_nested_leave(&vcpu, &to);
	assert_false(vcpu.l2);
	assert_false(at_02);
}

/* Whatever L1 asks for, Roost gets the exits that it needs, and no L2 what L1 has not given it. */
static void test_roosts_controls_stay(void **state) {
	u64 need = PROC_HLT | PROC_ALL_IO | PROC_MSR_BITMAP | PROC_SECONDARY | PROC_TSC_OFFSET |
		   PROC_CR8_LOAD | PROC_CR8_STORE;
	u64 need2 = PROC2_EPT | PROC2_VPID | PROC2_WBINVD;
	u64 given = PROC2_RDTSCP | PROC2_INVPCID | PROC2_UNRESTRICTED | PROC2_XSAVES;
	u64 never = PROC2_VID | PROC2_X2APIC | PROC2_APIC_REGS;

	for (unsigned round = 0; round < 1000; round++) {
		setup(state);
		l1()->proc_controls = (u32)draw() & ~PROC_TPR_SHADOW;
		l1()->proc2_controls = (u32)draw() & ~(u32)(never | PROC2_APIC_ACCESS);
		l1()->exception_bitmap = (u32)draw();
		l1()->cr0_mask = draw();
		l1()->cr4_mask = draw();
		launch();
		u64 proc = vmread(VMCS(proc_controls)), proc2 = vmread(VMCS(proc2_controls));
		u64 asked = l1()->proc_controls & PROC_SECONDARY ? l1()->proc2_controls : 0;
		u64 bitmaps = PROC_IO_BITMAPS | PROC_MSR_BITMAP;

		assert_int_equal(proc & need, need);
		assert_int_equal(proc & (PROC_TPR_SHADOW | PROC_IO_BITMAPS), 0);
		assert_int_equal(l1()->proc_controls & ~bitmaps & ~proc, 0);
		assert_int_equal(proc2 & need2, need2);
		assert_int_equal(proc2 & given, asked & given);
		assert_int_equal(proc2 & never, 0);
		/* L2 is in L1's local APIC. */
		assert_true(proc2 & PROC2_APIC_ACCESS);
		assert_int_equal(vmread(VMCS(apic_access)), vmx_apic_access);
		assert_int_equal(vmread(VMCS(exception_bitmap)),
				 VMX_EXCEPTIONS | l1()->exception_bitmap);
		assert_int_equal(vmread(VMCS(cr0_mask)), ~0xfful | l1()->cr0_mask);
		assert_int_equal(vmread(VMCS(cr4_mask)), ~0xffful | l1()->cr4_mask);
		assert_int_equal(vmread(VMCS(eptp)), EPTP);
	}
}

/* What L1 has of the processor's virtual APIC is in 02 as it wants it, and nothing of Roost's. */
static void test_virtual_apic(void **state) {
	u64 all = PROC2_APIC_ACCESS | PROC2_X2APIC | PROC2_APIC_REGS | PROC2_VID;

	for (unsigned round = 0; round < 1000; round++) {
		setup(state);
		ept = draw() & 1;
		l1()->proc_controls =
			(u32)((draw() & PROC_CR8_LOAD) | PROC_TPR_SHADOW | PROC_SECONDARY);
		l1()->proc2_controls = draw() & all;
		l1()->virtual_apic = 0x3000;
		l1()->apic_access = 0x7000;
		l1()->guest_interrupt_status = 0x4243;
		for (unsigned i = 0; i < 4; i++) l1()->eoi_exits[i] = 0x1000 + i;
		launch();
		u64 proc = vmread(VMCS(proc_controls)), asked = l1()->proc2_controls;

		assert_int_equal(proc & (PROC_CR8_LOAD | PROC_CR8_STORE | PROC_TPR_SHADOW),
				 l1()->proc_controls & ~PROC_SECONDARY);
		assert_int_equal(vmread(VMCS(proc2_controls)) & all, asked);
		assert_int_equal(vmread(VMCS(virtual_apic)), GiB(4) + 0x3000);
		if (asked & PROC2_APIC_ACCESS)
			assert_int_equal(vmread(VMCS(apic_access)), GiB(4) + 0x7000);
		if (asked & PROC2_VID)
			for (unsigned i = 0; i < 4; i++)
				assert_int_equal(vmread(VMCS_AT(eoi_exits, i)), 0x1000 + i);
		assert_int_equal(vmread(VMCS(guest_interrupt_status)), 0x4243);
		assert_int_equal(hidden, !ept);
		vmcs[1][VMCS_guest_interrupt_status] = 0x5253;
		leave();
		assert_int_equal(l1()->guest_interrupt_status, asked & PROC2_VID ? 0x5253 : 0x4243);
		/* And then L1 does without all of it. */
		touch_all();
		l1()->proc_controls = l1()->proc2_controls = 0;
		vmcs[0][VMCS_exit_reason] = REASON_VMRESUME;
		x2apic = 0;
		launch();
		assert_int_equal(x2apic, asked & PROC2_X2APIC ? ~0ul : 0);
		assert_int_equal(vmread(VMCS(proc2_controls)) & all, PROC2_APIC_ACCESS);
		assert_int_equal(vmread(VMCS(apic_access)), vmx_apic_access);
	}
}

/* Another page of APIC accesses needs a flush, the same one none. What is no RAM is Roost's. */
static void test_pages_of_the_apic(void **state) {
	(void)state;
	l1()->proc_controls = (u32)(PROC_TPR_SHADOW | PROC_SECONDARY);
	l1()->proc2_controls = PROC2_APIC_ACCESS;
	l1()->virtual_apic = l1()->apic_access = MiB(1);
	arch.nested.msr_map = (u8 *)0x5000;
	launch();
	assert_int_equal(vmread(VMCS(virtual_apic)), 0x6000 - direct_base_);
	assert_int_equal(vmread(VMCS(apic_access)), vmx_apic_access);
	assert_int_equal(flushes, 1);
	leave();
	touch_all();
	vmcs[0][VMCS_exit_reason] = REASON_VMRESUME;
	launch();
	assert_int_equal(flushes, 1);
	leave();
	touch_all();
	l1()->apic_access = 0x2000;
	launch();
	assert_int_equal(flushes, 2);
	assert_true(arch.level->moved);
}

/* VTPR is looked at each time, even when L1 has written no field. */
static void test_threshold(void **state) {
	(void)state;
	l1()->proc_controls = (u32)PROC_TPR_SHADOW;
	l1()->virtual_apic = 0x3000;
	l1()->tpr_threshold = 5;
	ram[0x3080] = 0x5f;
	launch();
	assert_int_equal(vmread(VMCS(tpr_threshold)), 5);
	leave();
	vmcs[0][VMCS_exit_reason] = REASON_VMRESUME;
	ram[0x3080] = 0x4f;
	assert_int_equal(vmx_exit_vmentry(&vcpu), ADVANCE);
	assert_int_equal(l1()->instruction_error, ERROR_CONTROLS);
	ram[0x3080] = 0x50;
	launch();
	/* The processor has seen another value. */
	assert_true(vmx_nested_refused(&vcpu));
	assert_false(vcpu.l2);
	assert_int_equal(cleared, 1);
	assert_int_equal(l1()->exit_reason, REASON_BAD_STATE | REASON_ENTRY_FAILED);
	assert_false(vmx_nested_refused(&vcpu));
	l1()->proc_controls = 0;
	touch_all();
	launch();
	assert_false(vmx_nested_refused(&vcpu));
}

/* HLT does not last while an interrupt can come in. */
static void test_waking(void **state) {
	static const struct {
		u16 status;
		u8 vtpr;
		bool open, wakes;
	} cases[] = {{0x0000, 0, true, false},	 {0x0055, 0, true, true},
		     {0x0055, 0, false, false},	 {0x0055, 0x50, true, false},
		     {0x0055, 0x4f, true, true}, {0x5055, 0, true, false},
		     {0x4f55, 0x30, true, true}, {0x1055, 0x60, true, false}};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		setup(state);
		l1()->proc_controls = (u32)(PROC_TPR_SHADOW | PROC_SECONDARY);
		l1()->proc2_controls = PROC2_VID;
		l1()->virtual_apic = 0x3000;
		l1()->guest_interrupt_status = cases[i].status;
		l1()->guest_rflags = cases[i].open ? X86_RFLAGS_IF : 0;
		l1()->guest_activity = 1;
		ram[0x3080] = cases[i].vtpr;
		launch();
		assert_int_equal(halts, !cases[i].wakes);
		assert_int_equal(arch.nested.halted, !cases[i].wakes);
	}
}

/* Each field has a value of its own: it is in 02 at its own place, and comes back to it. */
static void test_state_is_at_its_place(void **state) {
	static const u16 same[] = {
		VMCS_guest_selector,	 VMCS_guest_limit,	  VMCS_guest_access,
		VMCS_guest_base,	 VMCS_guest_gdtr_limit,	  VMCS_guest_idtr_limit,
		VMCS_guest_gdtr_base,	 VMCS_guest_idtr_base,	  VMCS_guest_sysenter_cs,
		VMCS_guest_sysenter_esp, VMCS_guest_sysenter_eip, VMCS_guest_pdpte,
		VMCS_guest_rip,		 VMCS_guest_rsp,	  VMCS_guest_rflags,
		VMCS_guest_cr3,		 VMCS_guest_shadow,	  VMCS_guest_pending_db,
		VMCS_pf_error_mask,	 VMCS_pf_error_match,	  VMCS_cr3_target,
	};
	u64 *values = (u64 *)l1();

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(same); i++) {
		const struct vmcs_run *run = run_of(same[i]);

		for (unsigned n = 0; n < run->count; n++)
			values[run->at + n] = 0x1000000 + run->at + n;
	}
	launch();
	for (unsigned i = 0; i < ARRAY_SIZE(same); i++) {
		const struct vmcs_run *run = run_of(same[i]);

		for (unsigned n = 0; n < run->count; n++) {
			assert_int_equal(vmcs[1][run->encoding + 2 * n], 0x1000000 + run->at + n);
			if (vmcs_kind(run->encoding) == VMCS_GUEST) /* L2 changes it */
				vmcs[1][run->encoding + 2 * n] += 0x2000000;
		}
	}
	vcpu.rip += 0x2000000;
	vcpu.rflags += 0x2000000;
	vcpu.gpr[RSP] += 0x2000000;
	leave();
	vmx_nested_fetch_rare(&vcpu);
	for (unsigned i = 0; i < ARRAY_SIZE(same); i++) {
		const struct vmcs_run *run = run_of(same[i]);

		if (vmcs_kind(run->encoding) != VMCS_GUEST) continue;
		for (unsigned n = 0; n < run->count; n++)
			assert_int_equal(values[run->at + n], 0x3000000 + run->at + n);
	}
}

/* What L1 has not touched is neither checked nor written again, and L2's state stays in 02. */
static void test_untouched_state_stays(void **state) {
	(void)state;
	l1()->guest_rip = 0x1111;
	launch();
	assert_int_equal(checks, 3);
	vmcs[1][VMCS_guest_base] = 0x7777; /* L2 has loaded ES */
	leave();
	vmcs[0][VMCS_exit_reason] = REASON_VMRESUME;
	l1()->guest_rip = 0x2222;
	vmcs_mask_set(&arch.nested.dirty, VMCS_WORD(guest_rip));
	vmcs_mask_set(&arch.nested.dirty, VMCS_WORD(tick));
	vmcs_mask_set(&arch.nested.dirty, VMCS_WORD(pml_index));
	launch();
	assert_int_equal(checks, 3);
	assert_int_equal(vmread(VMCS(guest_rip)), 0x2222);
	assert_int_equal(vmread(VMCS(guest_base)), 0x7777);
}

static void test_launch_state(void **state) {
	(void)state;
	vmcs[0][VMCS_exit_reason] = REASON_VMRESUME;
	assert_int_equal(vmx_exit_vmentry(&vcpu), ADVANCE);
	assert_int_equal(l1()->instruction_error, ERROR_RESUME_NOT_LAUNCHED);
	vmcs[0][VMCS_exit_reason] = REASON_VMLAUNCH;
	launch();
	leave();
	assert_int_equal(vmx_exit_vmentry(&vcpu), ADVANCE);
	assert_int_equal(l1()->instruction_error, ERROR_LAUNCH_NOT_CLEAR);
	vmcs[0][VMCS_guest_shadow] = SHADOW_MOV_SS;
	assert_int_equal(vmx_exit_vmentry(&vcpu), ADVANCE);
	assert_int_equal(l1()->instruction_error, ERROR_MOV_SS);
}

/* What L1 injects is queued once, and is gone from VMCS 12 after the exit. */
static void test_injection(void **state) {
	(void)state;
	l1()->entry_event = EVENT_VALID | 0x55;
	l1()->guest_activity = 1;
	launch();
	assert_true(arch.event);
	assert_int_equal(vmread(VMCS(entry_event)), EVENT_VALID | 0x55);
	assert_int_equal(halts, 0); /* the event ends HLT */
	arch.event = false;
	leave();
	assert_int_equal(l1()->entry_event, 0x55);
	assert_int_equal(l1()->guest_activity, 0);
	touch_all();
	vmcs[0][VMCS_exit_reason] = REASON_VMRESUME;
	l1()->guest_activity = 1;
	launch();
	assert_int_equal(halts, 1);
	leave();
	assert_int_equal(l1()->guest_activity, 1);
}

static u64 scaled(u64 tsc, u64 multiplier) {
	return (u64)((unsigned __int128)tsc * multiplier >> TSC_FRACTION);
}

/* L2's TSC by 02 is what L1's multiplier and offset make of L1's TSC. */
static void test_tsc(void **state) {
	for (unsigned round = 0; round < 10000; round++) {
		u64 host = draw() >> 20, one = BIT(TSC_FRACTION);

		setup(state);
		vmx_config.proc2 |= (u32)PROC2_TSC_SCALING;
		vm.tsc_multiplier = draw() % 2 ? draw() % (4 * one) + 1 : 0;
		u64 own = scaled(host, vm.tsc_multiplier ?: one);
		vcpu.tsc_offset = draw() % 2 ? 0 - draw() % (own + 1) : draw() >> 20;
		l1()->proc_controls = (u32)(PROC_SECONDARY | (draw() % 4 ? PROC_TSC_OFFSET : 0));
		l1()->proc2_controls = draw() % 4 ? PROC2_TSC_SCALING : 0;
		l1()->tsc_multiplier = draw() % 8 ? draw() % (4 * one) + 1 : draw() % 3 + 1;
		l1()->tsc_offset = draw();
		launch();
		bool moved = l1()->proc_controls & PROC_TSC_OFFSET, times = l1()->proc2_controls;
		u64 of_l1 = own + vcpu.tsc_offset;
		u64 wanted = moved && times ? scaled(of_l1, l1()->tsc_multiplier) : of_l1;
		u64 got = scaled(host, vmread(VMCS(tsc_multiplier)));

		if (moved) wanted += l1()->tsc_offset;
		assert_true(vmread(VMCS(tsc_multiplier)));
		got += vmx_nested_tsc_offset(&vcpu, vcpu.tsc_offset);
		assert_in_range(got - wanted + 6, 0, 12); /* rounded at several places */
	}
	vm.tsc_multiplier = 0;
}

/* Of each word no more is offered than the processor has, and what must be 1 may be 1. */
static void test_capabilities(void **state) {
	(void)state;
	for (u32 i = 0; i < VMX_NR_MSRS; i++)
		vmx_config.caps.msr[i] =
			i == VMX_MSR_BASIC - VMX_MSR_FIRST ? BASIC_TRUE : ~0ul << 32;
	vmx_config.proc2 |= (u32)(PROC2_TSC_SCALING | PROC2_PML | PROC2_SHADOW_VMCS);
	vmx_nested_caps();
	for (u32 i = 0; i < 4; i++) {
		u64 old = vmx_nested_msrs[1 + i], real = vmx_nested_msrs[13 + i];

		assert_int_equal((u32)old & ~(old >> 32), 0);
		assert_int_equal((u32)real & ~(u32)old, 0);
		assert_int_equal(old >> 32, real >> 32);
	}
	assert_int_equal(vmx_nested_msrs[0] & BIT(31), 0);
	u64 shared = PROC2_XSAVES | PROC2_TSC_SCALING | PROC2_PML;
	assert_int_equal(vmx_nested_msrs[VMX_MSR_PROC2 - VMX_MSR_FIRST] >> 32 & shared, shared);
	vmx_config.proc2 &= (u32)~shared;
	vmx_nested_caps();
	u64 offered2 = vmx_nested_msrs[VMX_MSR_PROC2 - VMX_MSR_FIRST] >> 32;
	assert_int_equal(offered2 & (PROC2_PML | PROC2_XSAVES | PROC2_TSC_SCALING), 0);
	for (u32 i = 1; i < VMX_NR_MSRS; i++) vmx_config.caps.msr[i] = 0;
	vmx_nested_caps();
	/* What Roost does by itself is there all the same. */
	assert_int_equal(vmx_nested_msrs[VMX_MSR_PROC2 - VMX_MSR_FIRST], PROC2_SHADOW_VMCS << 32);
	assert_int_equal(vmx_nested_msrs[1] >> 32, 0x16);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_roosts_controls_stay, setup),
		cmocka_unit_test_setup(test_virtual_apic, setup),
		cmocka_unit_test_setup(test_pages_of_the_apic, setup),
		cmocka_unit_test_setup(test_threshold, setup),
		cmocka_unit_test_setup(test_waking, setup),
		cmocka_unit_test_setup(test_state_is_at_its_place, setup),
		cmocka_unit_test_setup(test_untouched_state_stays, setup),
		cmocka_unit_test_setup(test_launch_state, setup),
		cmocka_unit_test_setup(test_injection, setup),
		cmocka_unit_test_setup(test_tsc, setup),
		cmocka_unit_test_setup(test_capabilities, setup),
	};

	vmx_nested_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
