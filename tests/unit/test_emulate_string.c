// sources: platform/emulate.c platform/emulate_alu.c platform/emulate_mem.c platform/emulate_ops.c
// sources: platform/emulate_string.c platform/decode.c platform/decode_tables.c platform/gwalk.c
// sources: platform/fetch.c tests/emulate_rig.c tests/fakes.c
/*
 * String instructions: an element is done once or not at all, whatever ends an exit: a fault, the
 * bound, a request, a single step. T-S1.
 */
#include "tests/emulate_rig.h"

#include <string.h>

#define FLAG_ZF BIT(6)
#define FLAG_TF BIT(8)
#define FLAG_DF BIT(10)

static u64 *gpr(void) { return rig_vcpu->gpr; }

static u8 *ram(gpa_t gpa) { return fake_ram(rig_vm) + gpa; }

static void expect_page_fault(gva_t address, u32 error) {
	assert_true(rig_vcpu->exception.pending);
	assert_int_equal(rig_vcpu->exception.vector, 14);
	assert_int_equal(rig_vcpu->exception.error, error);
	assert_int_equal(vcpu_reg(rig_vcpu, VREG_CR2), address);
	rig_vcpu->exception.pending = false;
}

/* Enters again as the run loop would until the instruction is done; returns the number of exits. */
static unsigned run_to_end(void) {
	unsigned exits = 1;

	while (emulate_mmio(rig_vcpu, DEVICE_GPA, true, false) == RESUME)
		assert_true(exits++ < 100);
	assert_int_equal(rig_vcpu->next_rip, CODE + 2);
	return exits;
}

/* T-S1: REP STOSB into a page that is not there; the handler maps it; the instruction ends. */
static void stos_into_a_missing_page(void **state) {
	(void)state;
	rig_map(DEVICE + 4096, 0);
	gpr()[RDI] = DEVICE + 4096 - 24;
	gpr()[RCX] = 40;
	gpr()[RAX] = 0x5a;
	assert_int_equal(RUN(DEVICE_GPA + 4096 - 24, true, 0xf3, 0xaa), INJECTED);
	expect_page_fault(DEVICE + 4096, 2);
	assert_int_equal(gpr()[RDI], DEVICE + 4096);
	assert_int_equal(gpr()[RCX], 16);
	assert_int_equal(rig_nr_accesses, 24);
	assert_int_equal(rig_vcpu->next_rip, 0);
	rig_map(DEVICE + 4096, (DEVICE_GPA + SECOND) | PTE_P | PTE_W);
	assert_int_equal(emulate_mmio(rig_vcpu, DEVICE_GPA + SECOND, true, false), ADVANCE);
	assert_int_equal(gpr()[RDI], DEVICE + 4096 + 16);
	assert_int_equal(gpr()[RCX], 0);
	assert_int_equal(rig_nr_accesses, 40);
	assert_int_equal(rig_device[4096 + 15], 0x5a);
	assert_int_equal(rig_device[4096 + 16], 0);
}

/* T-S1: the same for REP INSB; no byte of the port is lost. */
static void ins_into_a_missing_page(void **state) {
	(void)state;
	rig_map(DATA + 4096, 0);
	gpr()[RDI] = DATA + 4096 - 3;
	gpr()[RCX] = 5;
	rig_code((const u8[]){0xf3, 0x6c}, 2);
	assert_int_equal(emulate_string_io(rig_vcpu, 0x60, 1, true, true), INJECTED);
	expect_page_fault(DATA + 4096, 2);
	assert_int_equal(gpr()[RDI], DATA + 4096);
	assert_int_equal(gpr()[RCX], 2);
	assert_int_equal(rig_nr_in, 3);
	rig_map(DATA + 4096, (DATA_GPA + SECOND) | PTE_P | PTE_W);
	assert_int_equal(emulate_string_io(rig_vcpu, 0x60, 1, true, true), ADVANCE);
	assert_int_equal(rig_nr_in, 5);
	assert_int_equal(rig_port, 0x60);
	assert_memory_equal(ram(DATA_GPA + 4096 - 3), "\1\2\3", 3);
	assert_memory_equal(ram(DATA_GPA + SECOND), "\4\5", 2);
	assert_int_equal(rig_vcpu->next_rip, CODE + 2);
}

static void outs_forms(void **state) {
	(void)state;
	memcpy(ram(DATA_GPA), "\x11\x22\x33\x44\x55\x66\x77\x88", 8);
	gpr()[RSI] = DATA;
	gpr()[RCX] = 2;
	rig_code((const u8[]){0xf3, 0x6f}, 2);
	assert_int_equal(emulate_string_io(rig_vcpu, 0xcf8, 4, false, true), ADVANCE);
	assert_int_equal(rig_nr_out, 2);
	assert_int_equal(rig_port_size, 4);
	assert_int_equal(rig_port_out[0], 0x44332211);
	assert_int_equal(rig_port_out[1], 0x88776655);
	assert_int_equal(gpr()[RSI], DATA + 8);
	/* not repeated, backwards, 32-bit address and a segment of its own */
	vcpu_set_segment(rig_vcpu, SEG_FS, &(struct segment){.base = DATA, .attr = 0xc93});
	gpr()[RSI] = 0xffffffff00000002;
	rig_vcpu->rflags |= FLAG_DF;
	rig_code((const u8[]){0x64, 0x67, 0x66, 0x6f}, 4);
	assert_int_equal(emulate_string_io(rig_vcpu, 0x80, 2, false, false), ADVANCE);
	assert_int_equal(rig_port_out[2], 0x4433);
	assert_int_equal(gpr()[RSI], 0);
	assert_int_equal(gpr()[RCX], 0);
	assert_int_equal(rig_vcpu->next_rip, CODE + 4);
	/* REX.W does not make it wider than 4 bytes */
	gpr()[RSI] = DATA + 4;
	rig_code((const u8[]){0x48, 0x6f}, 2);
	assert_int_equal(emulate_string_io(rig_vcpu, 0x80, 4, false, false), ADVANCE);
	assert_int_equal(rig_port_out[3], 0x88776655);
	assert_int_equal(gpr()[RSI], DATA);
}

static void outs_from_a_missing_page_writes_nothing(void **state) {
	(void)state;
	gpr()[RSI] = UNMAPPED;
	rig_code((const u8[]){0x6e}, 1);
	assert_int_equal(emulate_string_io(rig_vcpu, 0x80, 1, false, false), INJECTED);
	expect_page_fault(UNMAPPED, 0);
	assert_int_equal(rig_nr_out, 0);
}

/* INS in real mode: ES:DI, which wraps at 64 KiB, and the destination's override is ignored. */
static void ins_in_real_mode(void **state) {
	(void)state;
	rig_real_mode();
	vcpu_set_segment(rig_vcpu, SEG_ES,
			 &(struct segment){.base = 0x10000, .limit = 0xffff, .attr = 0x93});
	gpr()[RDI] = 0x1234fffe;
	gpr()[RCX] = 0x77770002;
	rig_code((const u8[]){0xf3, 0x2e, 0x6d}, 3);
	assert_int_equal(emulate_string_io(rig_vcpu, 0x1f0, 2, true, true), ADVANCE);
	assert_int_equal(gpr()[RDI], 0x12340002);
	assert_int_equal(gpr()[RCX], 0x77770000);
	assert_memory_equal(ram(0x1fffe), "\1\0", 2);
	assert_memory_equal(ram(0x10000), "\2\0", 2);
}

/* Other code than the exit was for: it has been changed under way, and is not executed. */
static void string_io_of_another_instruction(void **state) {
	(void)state;
	gpr()[RSI] = gpr()[RDI] = DATA;
	rig_code((const u8[]){0x90}, 1);
	assert_int_equal(emulate_string_io(rig_vcpu, 0x80, 1, false, false), STOP_VM);
	rig_code((const u8[]){0x6c}, 1);
	assert_int_equal(emulate_string_io(rig_vcpu, 0x80, 1, false, false), STOP_VM);
	assert_int_equal(rig_nr_out + rig_nr_in, 0);
}

/* A long one takes several exits; each element happens once. */
static void bounded_part_per_exit(void **state) {
	(void)state;
	gpr()[RDI] = DEVICE;
	gpr()[RCX] = 1000;
	assert_int_equal(RUN(DEVICE_GPA, true, 0xf3, 0xab), RESUME);
	assert_in_range(gpr()[RCX], 1, 999);
	assert_int_equal(gpr()[RDI], DEVICE + 4 * (1000 - gpr()[RCX]));
	assert_int_equal(rig_nr_accesses, 1000 - gpr()[RCX]);
	assert_int_equal(rig_vcpu->rip, CODE);
	assert_in_range(run_to_end(), 1, 10);
	assert_int_equal(rig_nr_accesses, 1000);
	assert_int_equal(gpr()[RDI], DEVICE + 4000);
	assert_int_equal(gpr()[RCX], 0);
}

/* A count of the guest's choosing never means a long stay. */
static void enormous_count(void **state) {
	(void)state;
	gpr()[RDI] = DEVICE;
	gpr()[RCX] = ~0ul;
	rig_vcpu->rflags |= FLAG_DF;
	assert_int_equal(RUN(DEVICE_GPA, true, 0xf3, 0xaa),
			 INJECTED); /* below the device: nothing */
	expect_page_fault(DEVICE - 1, 2);
	assert_int_equal(gpr()[RCX], ~0ul - 1);
	assert_int_equal(gpr()[RDI], DEVICE - 1);
	gpr()[RDI] = DEVICE + 4095;
	assert_int_equal(RUN(DEVICE_GPA, true, 0xf3, 0xaa), RESUME);
	assert_true(rig_nr_accesses < 1000);
}

static void count_of_zero(void **state) {
	(void)state;
	gpr()[RDI] = UNMAPPED;
	gpr()[RCX] = 0x100000000; /* ECX is 0: 32-bit addresses */
	assert_int_equal(RUN(DEVICE_GPA, true, 0xf3, 0x67, 0xaa), ADVANCE);
	assert_int_equal(gpr()[RDI], UNMAPPED);
	assert_int_equal(gpr()[RCX], 0x100000000);
	gpr()[RCX] = 0;
	rig_code((const u8[]){0xf3, 0x6e}, 2);
	assert_int_equal(emulate_string_io(rig_vcpu, 0x80, 1, false, true), ADVANCE);
	assert_int_equal(rig_nr_out, 0);
}

static void request_ends_the_exit(void **state) {
	(void)state;
	gpr()[RDI] = DEVICE;
	gpr()[RCX] = 10;
	vcpu_request(rig_vcpu, REQ_EVENT);
	assert_int_equal(RUN(DEVICE_GPA, true, 0xf3, 0xaa), RESUME);
	assert_int_equal(gpr()[RCX], 9);
	assert_int_equal(rig_nr_accesses, 1);
	fake_take_requests(rig_vcpu);
	assert_int_equal(run_to_end(), 1);
	assert_int_equal(rig_nr_accesses, 10);
}

/* Single-stepping: a trap after each element at the same RIP; the tail raises the last one. */
static void single_step(void **state) {
	(void)state;
	gpr()[RDI] = DEVICE;
	gpr()[RCX] = 2;
	rig_vcpu->rflags |= FLAG_TF;
	vcpu_set_reg(rig_vcpu, VREG_DR6, 0xffff0ff0);
	assert_int_equal(RUN(DEVICE_GPA, true, 0xf3, 0xaa), INJECTED);
	assert_int_equal(rig_vcpu->exception.vector, 1);
	assert_false(rig_vcpu->exception.has_error);
	assert_int_equal(vcpu_reg(rig_vcpu, VREG_DR6), 0xffff4ff0);
	assert_int_equal(gpr()[RCX], 1);
	assert_int_equal(RUN(DEVICE_GPA, true, 0xf3, 0xaa), ADVANCE);
	assert_int_equal(gpr()[RCX], 0);
}

/* MOVS from a device to a page that refuses: the device is not read for nothing. */
static void movs_checks_before_it_reads(void **state) {
	(void)state;
	gpr()[RSI] = DEVICE;
	gpr()[RDI] = DATA;
	rig_map(DATA, DATA_GPA | PTE_P);
	assert_int_equal(RUN(DEVICE_GPA, false, 0xa4), INJECTED);
	expect_page_fault(DATA, 3);
	assert_int_equal(rig_nr_accesses, 0);
	/* the source's fault comes first */
	gpr()[RSI] = UNMAPPED;
	assert_int_equal(RUN(DEVICE_GPA, true, 0xa4), INJECTED);
	expect_page_fault(UNMAPPED, 0);
}

/* Same offset in both pages: the fault's gpa must not be taken for the wrong one. */
static void movs_between_ram_and_device(void **state) {
	(void)state;
	memcpy(ram(DATA_GPA + 0x40), "abcdefgh", 8);
	gpr()[RSI] = DATA + 0x40;
	gpr()[RDI] = DEVICE + 0x40;
	gpr()[RCX] = 8;
	assert_int_equal(RUN(DEVICE_GPA + 0x40, true, 0xf3, 0xa4), ADVANCE);
	assert_memory_equal(rig_device + 0x40, "abcdefgh", 8);
	assert_int_equal(rig_nr_accesses, 8);
	/* back across the end of the device's first page, one element on two pages */
	memcpy(rig_device + 4094, "wxyz", 4);
	gpr()[RSI] = DEVICE + 4094;
	gpr()[RDI] = DATA;
	assert_int_equal(RUN(DEVICE_GPA + 4094, false, 0xa5), ADVANCE);
	assert_memory_equal(ram(DATA_GPA), "wxyz", 4);
}

/* Flags of a comparison that a fault interrupts are those of the last element done. */
static void scas_keeps_flags_over_a_fault(void **state) {
	(void)state;
	rig_map(DEVICE + 4096, 0);
	rig_device[4095] = 7;
	gpr()[RDI] = DEVICE + 4094;
	gpr()[RCX] = 5;
	gpr()[RAX] = 9;
	rig_vcpu->rflags |= FLAG_ZF;
	assert_int_equal(RUN(DEVICE_GPA + 4094, false, 0xf2, 0xae), INJECTED);
	expect_page_fault(DEVICE + 4096, 0);
	assert_int_equal(gpr()[RCX], 3);
	assert_false(rig_vcpu->rflags & FLAG_ZF);
}

#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void) {
	const struct CMUnitTest tests[] = {
		T(stos_into_a_missing_page),
		T(ins_into_a_missing_page),
		T(outs_forms),
		T(outs_from_a_missing_page_writes_nothing),
		T(ins_in_real_mode),
		T(string_io_of_another_instruction),
		T(bounded_part_per_exit),
		T(enormous_count),
		T(count_of_zero),
		T(request_ends_the_exit),
		T(single_step),
		T(movs_checks_before_it_reads),
		T(movs_between_ram_and_device),
		T(scas_keeps_flags_over_a_fault),
	};

	return cmocka_run_group_tests_name("emulate_string", tests, NULL, NULL);
}
