// sources: vmx/apic.c
/* The processor's virtual APIC: what goes into the VMCS, when, and in how many VMWRITEs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "kernel/vm.h"
#include "mm/gmem.h"
#include "platform/emulate.h"
#include "platform/lapic.h"
#include "vmx/vmx.h"

#define MAX_WRITES 3u

static u64 fields[0x7000];
static unsigned writes, modes, windows_closed, ended, written;
static u32 at;
static u8 mode_set;
static bool by_processor, usual_set;
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

void vmx_set_apic_mode(u8 mode, bool usual_page) {
	usual_set = usual_page;
	modes++;
	mode_set = mode;
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

void lapic_set_virtual(struct vcpu *v, void *p, u8 can_deliver) {
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

void lapic_eoi_level(struct lapic *which, u8 vector) {
	(void)which;
	ended = vector;
}

void lapic_virtual_write(struct vcpu *v, u32 offset) {
	(void)v;
	written++;
	at = offset;
}

/* EPT, of which only the page of the local APIC matters; 0: nothing is mapped. */
static u32 ept;
static unsigned flushes, asked;
u64 direct_base_;

void *page_alloc(u64 size) {
	static u8 memory[PAGE_SIZE];

	assert_int_equal(size, PAGE_SIZE);
	return memory;
}

int pt_map(struct ptable *pt, u64 va, u64 pa, u64 size, u32 attrs) {
	(void)pt, (void)pa;
	assert_int_equal(va, 0xfee00000);
	assert_int_equal(size, PAGE_SIZE);
	if (ept) return E_EXIST;
	ept = attrs;
	return 0;
}

int pt_protect(struct ptable *pt, u64 va, u64 size, u32 attrs) {
	bool less = ept & ~attrs;

	(void)pt, (void)va, (void)size;
	if (ept) ept = attrs;
	return less;
}

void vmx_tlb_flush(struct vcpu *v) {
	(void)v;
	flushes++;
}

void vcpu_request(struct vcpu *v, u64 bits) {
	assert_int_equal(bits, REQ_TLB_FLUSH);
	asked += 1 + v->id;
}

void vmx_take_exit_event(struct vcpu *v) { (void)v; }

void vmx_need_rsp(struct vcpu *v) { (void)v; }

static struct {
	gpa_t gpa;
	bool write, page_walk;
} emulated;

enum outcome emulate_mmio(struct vcpu *v, gpa_t gpa, bool write, bool page_walk) {
	(void)v;
	emulated.gpa = gpa;
	emulated.write = write;
	emulated.page_walk = page_walk;
	return ADVANCE;
}

static struct gmem gmem;
static struct vm vm = {.gmem = &gmem, .nr_vcpus = 2};
static struct vcpu second;
static struct vmx_vcpu second_arch;

static int setup(void **state) {
	(void)state;
	memset(fields, 0, sizeof(fields));
	memset(&arch, 0, sizeof(arch));
	memset(&vcpu, 0, sizeof(vcpu));
	memset(&lapic, 0, sizeof(lapic));
	memset(&next, 0, sizeof(next));
	memset(&second_arch, 0, sizeof(second_arch));
	vcpu.arch = &arch;
	vcpu.lapic = &lapic;
	arch.level = &arch.levels[0];
	atomic_store(&lapic.irr[1], 1);
	vcpu.vm = second.vm = &vm;
	vm.vcpus[0] = &vcpu;
	vm.vcpus[1] = &second;
	second.arch = &second_arch;
	second.id = 1;
	lapic.page = ~0ul;
	ept = flushes = asked = 0;
	arch.vapic = page;
	lapic.delivers = LAPIC_X2APIC;
	by_processor = true;
	vmx_config.proc2 = PROC2_VID | PROC2_X2APIC;
	threshold = 0;
	writes = modes = windows_closed = ended = written = 0;
	return 0;
}

static void lend(void) {
	static u64 page_before;
	static u8 mode_before;

	lapic.moved = lapic.page != page_before || lapic.delivers != mode_before;
	if (!vcpu.l2) {
		page_before = lapic.page;
		mode_before = lapic.delivers;
	}
	writes = 0;
	vcpu.lend = true;
	vmx_lend_apic(&vcpu);
	assert_int_equal(vcpu.lend, vcpu.l2 || lapic.delivers);
}

static void test_the_page_is_told_once(void **state) {
	(void)state;
	lend();
	assert_ptr_equal(lapic.vapic, page);
	assert_int_equal(lapic.can_deliver, BIT(LAPIC_X2APIC));
	setup(NULL);
	vmx_config.proc2 = PROC2_VID | PROC2_APIC_ACCESS;
	lend();
	assert_int_equal(lapic.can_deliver, BIT(LAPIC_XAPIC));
	setup(NULL);
	vmx_config.proc2 = 0;
	lend();
	assert_int_equal(lapic.can_deliver, 0);
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
	lapic.delivers = 0;
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
	lapic.delivers = 0;
	lend();
	assert_int_equal(modes, 0);
	lapic.delivers = LAPIC_X2APIC;
	lend();
	lend();
	assert_int_equal(modes, 1);
	assert_int_equal(mode_set, LAPIC_X2APIC);
	lapic.delivers = 0;
	lend();
	assert_int_equal(modes, 2);
	assert_int_equal(mode_set, 0);
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

/* EPT leads writers to the page while the APICs of all vCPUs are there, and readers always. */
static void test_the_page_of_xapic(void **state) {
	const u32 read = PT_READ | PT_WB, all = read | PT_WRITE;

	(void)state;
	assert_int_equal(vmx_apic_init(), 0);
	assert_false(vmx_map_apic(&vcpu, 0xfee00300, EPT_QUAL_READ)); /* vmx=-apic-access */
	vmx_config.proc2 |= PROC2_APIC_ACCESS;
	lapic.delivers = LAPIC_XAPIC;
	lapic.page = 0xfee00000;
	lend();
	assert_int_equal(mode_set, LAPIC_XAPIC);
	assert_true(usual_set);
	assert_false(vmx_map_apic(&vcpu, 0xfee01000, EPT_QUAL_READ));
	assert_false(vmx_map_apic(&vcpu, 0xfee00300, EPT_QUAL_FETCH));
	/* The other one's is elsewhere. */
	assert_false(vmx_map_apic(&vcpu, 0xfee00300, EPT_QUAL_WRITE));
	assert_int_equal(ept, 0);
	assert_true(vmx_map_apic(&vcpu, 0xfee00300, EPT_QUAL_READ));
	assert_int_equal(ept, read);
	second_arch.usual_apic = true;
	assert_true(vmx_map_apic(&second, 0xfee00300, EPT_QUAL_READ | EPT_QUAL_WRITE));
	assert_int_equal(ept, all);
	assert_int_equal(flushes + asked, 0);

	lapic.page = 0xfee10000;
	lend();
	assert_false(usual_set);
	assert_int_equal(ept, read);
	assert_int_equal(flushes, 1);
	assert_int_equal(asked, 2); /* of the other one alone */
	assert_false(vmx_map_apic(&second, 0xfee00300, EPT_QUAL_WRITE));
	lend();
	lapic.page = ~0ul;
	lend();
	assert_int_equal(flushes, 1);
	lapic.page = 0xfee00000;
	lend();
	assert_int_equal(ept, read);
	assert_true(vmx_map_apic(&vcpu, 0xfee00300, EPT_QUAL_WRITE));
	assert_int_equal(ept, all);
}

/* An L2 of the vCPU must not meet it: it is in nobody's way until a reset. */
static void test_the_page_hides(void **state) {
	(void)state;
	vmx_config.proc2 |= PROC2_APIC_ACCESS;
	arch.usual_apic = second_arch.usual_apic = true;
	assert_true(vmx_map_apic(&second, 0xfee00300, EPT_QUAL_WRITE));
	vmx_hide_apic(&vcpu);
	assert_int_equal(ept, 0);
	assert_int_equal(flushes, 1);
	assert_int_equal(asked, 2);
	vmx_hide_apic(&vcpu);
	assert_int_equal(flushes, 1);
	assert_false(vmx_map_apic(&vcpu, 0xfee00300, EPT_QUAL_READ));
	assert_false(vmx_map_apic(&second, 0xfee00300, EPT_QUAL_READ));
	arch.hides_apic = false;
	assert_true(vmx_map_apic(&second, 0xfee00300, EPT_QUAL_READ));
	assert_int_not_equal(ept, 0);
}

static void test_accesses_that_exit(void **state) {
	(void)state;
	fields[VMCS_qualification] = 0x390;
	assert_int_equal(vmx_exit_apic_access(&vcpu), ADVANCE);
	assert_int_equal(emulated.gpa, 0xfee00390);
	assert_false(emulated.write || emulated.page_walk);
	fields[VMCS_qualification] = 0x1390;
	vmx_exit_apic_access(&vcpu);
	assert_true(emulated.write && !emulated.page_walk);
	fields[VMCS_qualification] = 0xf000;
	vmx_exit_apic_access(&vcpu);
	assert_true(!emulated.write && emulated.page_walk);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_the_page_is_told_once, setup),
		cmocka_unit_test_setup(test_status_and_levels, setup),
		cmocka_unit_test_setup(test_threshold, setup),
		cmocka_unit_test_setup(test_modes, setup),
		cmocka_unit_test_setup(test_l2, setup),
		cmocka_unit_test_setup(test_exits, setup),
		cmocka_unit_test_setup(test_the_page_of_xapic, setup),
		cmocka_unit_test_setup(test_the_page_hides, setup),
		cmocka_unit_test_setup(test_accesses_that_exit, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
