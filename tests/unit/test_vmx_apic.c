// sources: vmx/apic.c
/* The processor's virtual APIC: what goes into the VMCS, when, and in how many VMWRITEs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "kernel/vm.h"
#include "platform/lapic.h"
#include "vmx/vmx.h"

#define MAX_WRITES 3u

static u64 fields[0x7000];
static unsigned writes, modes, windows_closed, ended, written;
static u32 at;
static bool mode_x2apic, by_processor;
static struct lapic_lent next;
static u16 status_before;
static u8 threshold;
static struct lapic lapic;
static struct vcpu vcpu;
static struct vmx_vcpu arch;
static u32 page[1024];

struct vmx_config vmx_config;

u64 vmread(struct vmcs_field field) { return fields[field.encoding]; }

void vmwrite(struct vmcs_field field, u64 value) {
	writes++;
	fields[field.encoding] = value;
}

void vmx_set_x2apic(bool on) {
	modes++;
	mode_x2apic = on;
}

void vmx_interrupt_window(struct vcpu *v, bool open) {
	(void)v;
	assert_false(open);
	windows_closed++;
}

bool irq_by_processor(struct vcpu *v) {
	(void)v;
	return by_processor;
}

void lapic_set_virtual(struct vcpu *v, void *p, bool can_deliver) {
	v->lapic->vapic = p;
	v->lapic->can_deliver = can_deliver;
}

void lapic_lend(struct vcpu *v, struct lapic_lent *io) {
	status_before = io->status;
	*io = next;
	v->lapic->lent = true;
}

u8 lapic_threshold(struct lapic *which) {
	(void)which;
	return threshold;
}

void lapic_virtual_eoi(struct vcpu *v, u8 vector) {
	(void)v;
	ended = vector;
}

void lapic_virtual_write(struct vcpu *v, u32 offset) {
	(void)v;
	written++;
	at = offset;
}

static int setup(void **state) {
	(void)state;
	memset(fields, 0, sizeof(fields));
	memset(&arch, 0, sizeof(arch));
	memset(&vcpu, 0, sizeof(vcpu));
	memset(&lapic, 0, sizeof(lapic));
	memset(&next, 0, sizeof(next));
	vcpu.arch = &arch;
	vcpu.lapic = &lapic;
	arch.level = &arch.levels[0];
	arch.vapic = page;
	lapic.delivers = true;
	atomic_store(&lapic.irr[1], 1);
	by_processor = true;
	vmx_config.proc2 = PROC2_VID;
	threshold = 0;
	writes = modes = windows_closed = ended = written = 0;
	return 0;
}

static void lend(void) {
	writes = 0;
	vcpu.lend = true;
	vmx_lend_apic(&vcpu);
	assert_int_equal(vcpu.lend, vcpu.l2 || lapic.delivers);
}

static void test_the_page_is_told_once(void **state) {
	(void)state;
	lend();
	assert_ptr_equal(lapic.vapic, page);
	assert_true(lapic.can_deliver);
	setup(NULL);
	vmx_config.proc2 = 0;
	lend();
	assert_false(lapic.can_deliver);
}

/* An interrupt costs one VMWRITE; what ends with an exit is written when it changes. */
static void test_status_and_levels(void **state) {
	(void)state;
	lend(); /* and the mode */
	next.status = 0x3171;
	fields[VMCS_guest_interrupt_status] = 0x4243;
	lend();
	assert_int_equal(status_before, 0x4243); /* as the processor left it */
	assert_int_equal(fields[VMCS_guest_interrupt_status], 0x3171);
	assert_int_equal(writes, 1);
	assert_int_equal(windows_closed, 2);
	next.levels[1] = 0x42;
	lend();
	assert_int_equal(fields[VMCS_eoi_exits + 2], 0x42);
	assert_in_range(writes, 1, MAX_WRITES);
	lend();
	assert_int_equal(writes, 1);
	next.levels[1] = 0;
	lend();
	assert_int_equal(fields[VMCS_eoi_exits + 2], 0);
	/* Nothing is new: the processor has all of it. */
	atomic_store(&lapic.irr[1], 0);
	lend();
	assert_int_equal(writes, 0);
	/* A PIC's interrupt waits in a window. */
	by_processor = false;
	windows_closed = 0;
	lend();
	assert_int_equal(windows_closed, 0);
}

static void test_threshold(void **state) {
	(void)state;
	lapic.delivers = false;
	threshold = 5;
	lend();
	assert_int_equal(fields[VMCS_tpr_threshold], 5);
	assert_int_equal(writes, 1);
	lend();
	assert_int_equal(writes, 0);
	assert_int_equal(vmx_exit_tpr(&vcpu), RESUME);
	assert_true(atomic_load(&vcpu.requests) & REQ_EVENT);
}

static void test_modes(void **state) {
	(void)state;
	lapic.delivers = false;
	lend();
	assert_int_equal(modes, 0);
	lapic.delivers = true;
	lend();
	lend();
	assert_int_equal(modes, 1);
	assert_true(mode_x2apic);
	lapic.delivers = false;
	lend();
	assert_int_equal(modes, 2);
	assert_false(mode_x2apic);
}

/* While an L2 runs, the VMCS is not touched. */
static void test_l2(void **state) {
	(void)state;
	vcpu.l2 = true;
	lend();
	assert_int_equal(writes + modes, 0);
}

static void test_exits(void **state) {
	(void)state;
	fields[VMCS_qualification] = 0x71;
	assert_int_equal(vmx_exit_eoi(&vcpu), RESUME);
	assert_int_equal(ended, 0x71);
	fields[VMCS_qualification] = 0x3f0;
	assert_int_equal(vmx_exit_apic_write(&vcpu), RESUME);
	assert_int_equal(written, 1);
	assert_int_equal(at, 0x3f0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_the_page_is_told_once, setup),
		cmocka_unit_test_setup(test_status_and_levels, setup),
		cmocka_unit_test_setup(test_threshold, setup),
		cmocka_unit_test_setup(test_modes, setup),
		cmocka_unit_test_setup(test_l2, setup),
		cmocka_unit_test_setup(test_exits, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
