// sources: platform/emulate.c platform/emulate_alu.c platform/emulate_mem.c platform/emulate_ops.c
// sources: platform/emulate_string.c platform/decode.c platform/decode_tables.c platform/gwalk.c
// sources: platform/fetch.c tests/emulate_rig.c tests/fakes.c
/*
 * What the emulator does around an instruction: device accesses and their sizes, faults, limits,
 * modes, restarts. Results and flags are compared in test_emulate_native.c. T-E1, T-E6, T-S1.
 */
#include "lib/x86.h"
#include "tests/emulate_rig.h"

#include <string.h>

#define FLAG_AC	    BIT(18)

#define VECTOR_NONE 0xff

static u64 *gpr(void) { return rig_vcpu->gpr; }

static u8 *ram(gpa_t gpa) { return fake_ram(rig_vm) + gpa; }

static void expect_exception(u8 vector, u32 error) {
	assert_true(rig_vcpu->exception.pending);
	assert_int_equal(rig_vcpu->exception.vector, vector);
	assert_int_equal(rig_vcpu->exception.error, error);
	rig_vcpu->exception.pending = false;
}

static void expect_page_fault(gva_t address, u32 error) {
	expect_exception(14, error);
	assert_int_equal(vcpu_reg(rig_vcpu, VREG_CR2), address);
}

static void expect_access(unsigned index, gpa_t gpa, unsigned size, u64 value, bool write) {
	assert_true(index < rig_nr_accesses);
	assert_int_equal(rig_accesses[index].gpa, gpa);
	assert_int_equal(rig_accesses[index].size, size);
	assert_int_equal(rig_accesses[index].value, value);
	assert_int_equal(rig_accesses[index].write, write);
}

static void edit_segment(enum seg seg, u64 base, u32 limit, u16 attr) {
	struct segment s;

	vcpu_segment(rig_vcpu, seg, &s);
	s.base = base;
	s.limit = limit;
	s.attr = attr;
	vcpu_set_segment(rig_vcpu, seg, &s);
}

/* T-E1: a doorbell written by forms of 2, 6 and 10 bytes and with prefixes rings once each. */
static void doorbell_rings_once_per_write(void **state) {
	(void)state;
	gpr()[RBX] = DEVICE;
	gpr()[RAX] = 0x1122334455667788;
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(RUN(DEVICE_GPA, true, 0x89, 0x03), ADVANCE);
		assert_int_equal(rig_vcpu->next_rip, CODE + 2);
		assert_int_equal(RUN(DEVICE_GPA, true, 0xc7, 0x03, 1, 2, 3, 4), ADVANCE);
		assert_int_equal(rig_vcpu->next_rip, CODE + 6);
		assert_int_equal(RUN(DEVICE_GPA, true, 0xc7, 0x83, 0, 0, 0, 0, 5, 6, 7, 8),
				 ADVANCE);
		assert_int_equal(rig_vcpu->next_rip, CODE + 10);
		assert_int_equal(RUN(DEVICE_GPA, true, 0x3e, 0x26, 0x48, 0x89, 0x03), ADVANCE);
		assert_int_equal(rig_vcpu->next_rip, CODE + 5);
	}
	assert_int_equal(rig_nr_accesses, 400);
	expect_access(0, DEVICE_GPA, 4, 0x55667788, true);
	expect_access(1, DEVICE_GPA, 4, 0x04030201, true);
	expect_access(2, DEVICE_GPA, 4, 0x08070605, true);
	expect_access(3, DEVICE_GPA, 8, 0x1122334455667788, true);
	assert_int_equal(rig_vcpu->rip, CODE);
}

/* The fault's gpa is where the access goes: the walk to the operand is not repeated. */
static void gpa_of_the_fault_is_used(void **state) {
	(void)state;
	gpr()[RBX] = DEVICE + 0x20;
	assert_int_equal(RUN(DEVICE_GPA + SECOND + 0x20, true, 0x88, 0x03), ADVANCE);
	expect_access(0, DEVICE_GPA + SECOND + 0x20, 1, 0, true);
	/* Another offset in the page: it cannot be the operand's, so that is translated. */
	assert_int_equal(RUN(DEVICE_GPA + SECOND + 0x28, true, 0x88, 0x03), ADVANCE);
	expect_access(1, DEVICE_GPA + 0x20, 1, 0, true);
}

static void byte_swapping_moves(void **state) {
	(void)state;
	gpr()[RBX] = DEVICE + 8;
	gpr()[RCX] = 0x1122334455667788;
	assert_int_equal(RUN(DEVICE_GPA + 8, true, 0x0f, 0x38, 0xf1, 0x0b), ADVANCE);
	expect_access(0, DEVICE_GPA + 8, 4, 0x88776655, true);
	assert_int_equal(RUN(DEVICE_GPA + 8, true, 0x66, 0x0f, 0x38, 0xf1, 0x0b), ADVANCE);
	expect_access(1, DEVICE_GPA + 8, 2, 0x8877, true);
	assert_int_equal(RUN(DEVICE_GPA + 8, true, 0x48, 0x0f, 0x38, 0xf1, 0x0b), ADVANCE);
	expect_access(2, DEVICE_GPA + 8, 8, 0x8877665544332211, true);
	assert_int_equal(RUN(DEVICE_GPA + 8, false, 0x0f, 0x38, 0xf0, 0x0b), ADVANCE);
	assert_int_equal(gpr()[RCX], 0x11223344);
	/* F2 makes it CRC32 */
	assert_int_equal(RUN(DEVICE_GPA + 8, false, 0xf2, 0x0f, 0x38, 0xf1, 0x0b), STOP_VM);
}

/* An operand on two pages: each part goes to its own place, in pieces that a bus can do. */
static void operand_across_pages(void **state) {
	(void)state;
	gpr()[RBX] = DEVICE + 0xffd;
	gpr()[RAX] = 0x1122334455667788;
	assert_int_equal(RUN(DEVICE_GPA + 0xffd, true, 0x48, 0x89, 0x03), ADVANCE);
	assert_int_equal(rig_nr_accesses, 4);
	expect_access(0, DEVICE_GPA + 0xffd, 2, 0x7788, true);
	expect_access(1, DEVICE_GPA + 0xfff, 1, 0x66, true);
	expect_access(2, DEVICE_GPA + SECOND, 4, 0x22334455, true);
	expect_access(3, DEVICE_GPA + SECOND + 4, 1, 0x11, true);
	gpr()[RCX] = 0;
	assert_int_equal(RUN(DEVICE_GPA + 0xffd, false, 0x48, 0x8b, 0x0b), ADVANCE);
	assert_int_equal(gpr()[RCX], 0x1122334455667788);
	/* one page is RAM, the other the device */
	rig_map(DEVICE, DATA_GPA | PTE_P | PTE_W);
	assert_int_equal(RUN(DEVICE_GPA + SECOND, true, 0x48, 0x89, 0x03), ADVANCE);
	assert_memory_equal(ram(DATA_GPA + 0xffd), "\x88\x77\x66", 3);
	/* the second page is missing: nothing happens to the first */
	rig_map(DEVICE + 4096, 0);
	gpr()[RAX] = 0;
	assert_int_equal(RUN(DEVICE_GPA + 0xffd, true, 0x48, 0x89, 0x03), INJECTED);
	expect_page_fault(DEVICE + 4096, 2);
	assert_memory_equal(ram(DATA_GPA + 0xffd), "\x88\x77\x66", 3);
}

/*
 * A read-modify-write whose first access, a read, faulted: that the guest may write there is not
 * known, and is checked before the device notices anything.
 */
static void read_modify_write_needs_a_writable_page(void **state) {
	(void)state;
	gpr()[RBX] = DEVICE;
	rig_map(DEVICE, DEVICE_GPA | PTE_P);
	assert_int_equal(RUN(DEVICE_GPA, false, 0x01, 0x03), INJECTED);
	expect_page_fault(DEVICE, 3);
	assert_int_equal(rig_nr_accesses, 0);
	assert_int_equal(RUN(DEVICE_GPA, false, 0x3b, 0x03), ADVANCE);	     /* CMP only reads */
	assert_int_equal(RUN(DEVICE_GPA, false, 0x0f, 0xa3, 0x03), ADVANCE); /* so does BT */
	assert_int_equal(rig_nr_accesses, 2);
}

static void page_walk_fault(void **state) {
	(void)state;
	gpr()[RBX] = DEVICE;
	vcpu_set_reg(rig_vcpu, VREG_CR3, 0xfee01000);
	rig_code((const u8[]){0x89, 0x03}, 2);
	assert_int_equal(emulate_mmio(rig_vcpu, 0xfee01000, true, true), INJECTED);
	expect_page_fault(CODE, 0x19); /* present, reserved bits, fetch */
	assert_int_equal(rig_nr_accesses, 0);
}

/* T-E6 (iii): neither skipped nor tried again; RIP and bytes are named. */
static void unknown_instruction_stops_the_vm(void **state) {
	(void)state;
	gpr()[RBX] = DEVICE;
	assert_int_equal(RUN(DEVICE_GPA, true, 0x0f, 0x11, 0x03), STOP_VM); /* MOVUPS */
	assert_non_null(strstr(rig_vm->stop_reason, "400000"));
	assert_non_null(strstr(rig_vm->stop_reason, "0f1103"));
	assert_int_equal(rig_nr_accesses, 0);
	assert_int_equal(RUN(DEVICE_GPA, true, 0xff, 0x13), STOP_VM); /* CALL */
	assert_int_equal(RUN(DEVICE_GPA, true, 0xf7, 0x33), STOP_VM); /* DIV */
	assert_int_equal(RUN(DEVICE_GPA, true, 0x8f, 0x0b), STOP_VM); /* POP with extension 1 */
	assert_int_equal(RUN(DEVICE_GPA, true, 0xc7, 0x0b, 0, 0, 0, 0), STOP_VM);
	assert_int_equal(RUN(DEVICE_GPA, true, 0xc5, 0xf8, 0x11, 0x03), STOP_VM); /* VEX */
	assert_int_equal(RUN(DEVICE_GPA, true, 0x89, 0xc3), STOP_VM); /* no memory operand */
	assert_int_equal(RUN(DEVICE_GPA, true, 0x0f, 0xba, 0x1b, 1), STOP_VM); /* group 8, /3 */
	assert_int_equal(RUN(DEVICE_GPA, true, 0x06), STOP_VM);		       /* no opcode */
	assert_int_equal(rig_nr_accesses, 0);
}

static void lock_where_it_does_not_belong(void **state) {
	static const u8 forms[][6] = {
		{0xf0, 0x89, 0x03},	  {0xf0, 0x8b, 0x03},
		{0xf0, 0x03, 0x03},	  {0xf0, 0x39, 0x03},
		{0xf0, 0x83, 0x3b, 1},	  {0xf0, 0x85, 0x03},
		{0xf0, 0xf7, 0x03},	  {0xf0, 0xff, 0x33},
		{0xf0, 0x8f, 0x03},	  {0xf0, 0x0f, 0xa3, 0x03},
		{0xf0, 0x0f, 0xba, 0x23}, {0xf0, 0x0f, 0x94, 0x03},
		{0xf0, 0x0f, 0x44, 0x03}, {0xf0, 0xa4},
		{0xf0, 0xc7, 0x03},	  {0xf0, 0x0f, 0x38, 0xf1, 3},
	};

	(void)state;
	gpr()[RBX] = gpr()[RSI] = gpr()[RDI] = DEVICE;
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		assert_int_equal(rig_run(forms[i], 6, DEVICE_GPA, true), INJECTED);
		expect_exception(6, 0);
	}
	assert_int_equal(rig_nr_accesses, 0);
}

/* ---- addresses that are refused ---- */

static void addresses_that_are_not_canonical(void **state) {
	(void)state;
	gpr()[RSI] = DEVICE;
	gpr()[RDI] = BIT(47);
	assert_int_equal(RUN(DEVICE_GPA, false, 0xa4), INJECTED);
	expect_exception(13, 0);
	gpr()[RDI] = 0x7ffffffffffd; /* its last byte is not */
	assert_int_equal(RUN(DEVICE_GPA, false, 0xa5), INJECTED);
	expect_exception(13, 0);
	assert_int_equal(rig_nr_accesses, 0);
	/* the stack: #SS, for PUSH and for an operand at RBP; FS is not the stack */
	gpr()[RBX] = DEVICE;
	gpr()[RSP] = BIT(63);
	assert_int_equal(RUN(DEVICE_GPA, false, 0xff, 0x33), INJECTED);
	expect_exception(12, 0);
	gpr()[RBP] = BIT(47);
	assert_int_equal(RUN(DEVICE_GPA + 8, true, 0x89, 0x45, 0), INJECTED);
	expect_exception(12, 0);
	assert_int_equal(RUN(DEVICE_GPA, true, 0x64, 0x89, 0x45, 0), INJECTED);
	expect_exception(13, 0);
}

static void segment_bases(void **state) {
	(void)state;
	edit_segment(SEG_FS, DEVICE, 0, 0xc93);
	edit_segment(SEG_GS, (u64)-0x1000, 0, 0xc93);
	gpr()[RAX] = 0x77;
	assert_int_equal(RUN(DEVICE_GPA + 0x11, true, 0x64, 0x88, 0x04, 0x25, 0x10, 0, 0, 0),
			 ADVANCE);
	expect_access(0, DEVICE_GPA + 0x10, 1, 0x77, true);
	gpr()[RBX] = DEVICE + 0x1020;
	assert_int_equal(RUN(DEVICE_GPA + 0x21, true, 0x65, 0x88, 0x03), ADVANCE);
	expect_access(1, DEVICE_GPA + 0x20, 1, 0x77, true);
	/* the other segments' bases mean nothing in 64-bit mode */
	edit_segment(SEG_DS, 0x5000, 0, 0);
	gpr()[RBX] = DEVICE + 0x30;
	assert_int_equal(RUN(DEVICE_GPA + 0x31, true, 0x88, 0x03), ADVANCE);
	expect_access(2, DEVICE_GPA + 0x30, 1, 0x77, true);
}

static void segment_checks_in_protected_mode(void **state) {
	static const struct {
		enum seg seg;
		u32 limit;
		u16 attr;
		u64 offset;
		bool write;
		u8 vector;
	} cases[] = {
		{SEG_DS, 0x103, 0xc93, 0x100, true, VECTOR_NONE},
		{SEG_DS, 0x102, 0xc93, 0x100, true, X86_GP},
		{SEG_SS, 0x102, 0xc93, 0x100, true, X86_SS},
		{SEG_DS, 0x0ff, 0xc97, 0x100, true, VECTOR_NONE}, /* expand-down */
		{SEG_DS, 0x100, 0xc97, 0x100, true, X86_GP},
		{SEG_DS, 0x0ff, 0x097, 0xfffe, true, X86_GP}, /* its upper end, 16 bits */
		{SEG_DS, 0x0ff, 0xc97, 0xfffe, true, VECTOR_NONE},
		{SEG_DS, ~0u, 0xc91, 0x100, true, X86_GP}, /* read-only */
		{SEG_DS, ~0u, 0xc91, 0x100, false, VECTOR_NONE},
		{SEG_CS, ~0u, 0xc9b, 0x100, true, X86_GP}, /* code */
		{SEG_CS, ~0u, 0xc9b, 0x100, false, VECTOR_NONE},
		{SEG_CS, ~0u, 0xc99, 0x100, false, X86_GP}, /* execute-only */
		{SEG_ES, ~0u, 0xc13, 0x100, false, X86_GP}, /* not present */
		{SEG_SS, ~0u, 0xc13, 0x100, false, X86_SS},
		{SEG_ES, ~0u, 0, 0x100, false, X86_GP},		/* null */
		{SEG_DS, ~0u, 0xc93, 0xfffffffd, true, X86_GP}, /* past 4 GiB */
	};

	(void)state;
	rig_protected_mode();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		static const u8 prefix[] = {0x26, 0x2e, 0x36, 0x3e};
		u8 code[] = {prefix[cases[i].seg], (u8)(cases[i].write ? 0x89 : 0x8b), 0x03};
		enum outcome outcome;

		edit_segment(cases[i].seg, DEVICE_GPA, cases[i].limit, cases[i].attr);
		if (cases[i].seg == SEG_CS) /* code itself must be found */
			edit_segment(SEG_CS, 0, cases[i].limit, cases[i].attr);
		gpr()[RBX] = cases[i].offset;
		outcome = rig_run(code, 3, DEVICE_GPA + (cases[i].offset & 0xfff), cases[i].write);
		if (cases[i].vector == VECTOR_NONE ? outcome != ADVANCE : outcome != INJECTED)
			fail_msg("case %zu: outcome %d", i, (int)outcome);
		if (cases[i].vector != VECTOR_NONE) expect_exception(cases[i].vector, 0);
		edit_segment(SEG_CS, 0, ~0u, 0xc9b);
		edit_segment(cases[i].seg, 0, ~0u, cases[i].seg == SEG_CS ? 0xc9b : 0xc93);
	}
}

static void real_mode(void **state) {
	(void)state;
	rig_real_mode();
	edit_segment(SEG_ES, DEVICE_GPA, 0xffff, 0x93);
	gpr()[RBX] = 0xffff0010; /* only BX counts */
	gpr()[RSI] = 0x12340008;
	gpr()[RAX] = 0x1234;
	assert_int_equal(RUN(DEVICE_GPA + 0x20, true, 0x26, 0x89, 0x40, 0x08), ADVANCE);
	expect_access(0, DEVICE_GPA + 0x20, 2, 0x1234, true);
	assert_int_equal(rig_vcpu->next_rip, 0x7c04);
	/* 32-bit operand and address; a code segment may be written in real mode */
	edit_segment(SEG_CS, 0, 0xffff, 0x9b);
	gpr()[RBX] = 0x20;
	assert_int_equal(RUN(DEVICE_GPA + 0x20, true, 0x66, 0x67, 0x26, 0xc7, 0x03, 1, 2, 3, 4),
			 ADVANCE);
	expect_access(1, DEVICE_GPA + 0x20, 4, 0x04030201, true);
	assert_int_equal(RUN(DEVICE_GPA, true, 0x2e, 0x89, 0x1e, 0x20, 0x50), ADVANCE);
	assert_memory_equal(ram(0x5020), "\x20\0", 2);
	/* the last byte is past the limit */
	gpr()[RBX] = 0xffff;
	assert_int_equal(RUN(DEVICE_GPA + 0xfff, true, 0x26, 0x89, 0x07), INJECTED);
	expect_exception(13, 0);
	/* virtual-8086 mode checks like real mode */
	rig_code((const u8[]){0x26, 0x89, 0x07}, 3);
	vcpu_set_reg(rig_vcpu, VREG_CR0, 1);
	rig_vcpu->rflags |= BIT(17);
	edit_segment(SEG_ES, DEVICE_GPA, 0xffff, 0x91);
	gpr()[RBX] = 0x30;
	assert_int_equal(emulate_mmio(rig_vcpu, DEVICE_GPA + 0x30, true, false), ADVANCE);
}

static void alignment_check(void **state) {
	(void)state;
	gpr()[RBX] = DEVICE + 2;
	fake_cpl = 3;
	rig_vcpu->rflags |= FLAG_AC;
	assert_int_equal(RUN(DEVICE_GPA + 2, true, 0x89, 0x03), ADVANCE); /* CR0.AM is 0 */
	vcpu_set_reg(rig_vcpu, VREG_CR0, vcpu_reg(rig_vcpu, VREG_CR0) | BIT(18));
	assert_int_equal(RUN(DEVICE_GPA + 2, true, 0x89, 0x03), INJECTED);
	expect_exception(17, 0);
	assert_int_equal(RUN(DEVICE_GPA + 2, true, 0x66, 0x89, 0x03), ADVANCE);
	fake_cpl = 0;
	assert_int_equal(RUN(DEVICE_GPA + 2, true, 0x89, 0x03), ADVANCE);
}

/* ---- the stack ---- */

static void push_with_a_narrow_stack(void **state) {
	(void)state;
	rig_protected_mode();
	edit_segment(SEG_SS, STACK_GPA, ~0u, 0x93); /* B = 0: SP, not ESP */
	gpr()[RSP] = 0x55550002;
	gpr()[RBX] = DEVICE_GPA;
	memcpy(rig_device, "\x11\x22\x33\x44", 4);
	assert_int_equal(RUN(DEVICE_GPA, false, 0x66, 0xff, 0x33), ADVANCE);
	assert_int_equal(gpr()[RSP], 0x55550000);
	assert_memory_equal(ram(STACK_GPA), "\x11\x22", 2);
	/* SP wraps: the top is at 0xfffc */
	gpr()[RSP] = 0x55550000;
	assert_int_equal(RUN(DEVICE_GPA, false, 0xff, 0x33), ADVANCE);
	assert_int_equal(gpr()[RSP], 0x5555fffc);
	assert_memory_equal(ram(STACK_GPA + 0xfffc), "\x11\x22\x33\x44", 4);
	assert_int_equal(RUN(DEVICE_GPA, true, 0x8f, 0x43, 0x10), ADVANCE);
	assert_int_equal(gpr()[RSP], 0x55550000);
	assert_memory_equal(rig_device + 0x10, "\x11\x22\x33\x44", 4);
}

static void push_to_a_missing_stack_reads_nothing(void **state) {
	(void)state;
	gpr()[RBX] = DEVICE;
	gpr()[RSP] = UNMAPPED + 8;
	assert_int_equal(RUN(DEVICE_GPA, false, 0xff, 0x33), INJECTED);
	expect_page_fault(UNMAPPED, 2);
	assert_int_equal(gpr()[RSP], UNMAPPED + 8);
	assert_int_equal(rig_nr_accesses, 0);
}

/* ---- atomic operations on RAM ---- */

static void locked_operation_on_ram(void **state) {
	(void)state;
	/* The fault is elsewhere by now: another CPU has changed the mapping. The operand is RAM.
	 */
	gpr()[RBX] = DATA + 0x10;
	gpr()[RAX] = 5;
	memcpy(ram(DATA_GPA + 0x10), "\x07\0\0\0", 4);
	assert_int_equal(RUN(DEVICE_GPA, true, 0xf0, 0x01, 0x03), ADVANCE);
	assert_int_equal(*ram(DATA_GPA + 0x10), 12);
	assert_int_equal(rig_nr_accesses, 0);
}

static void racing(void *at) {
	if (at == ram(DATA_GPA + 0x10)) *(u8 *)at += 1;
}

static void locked_operation_that_lost_a_race(void **state) {
	static const u8 sizes[4][4] = {{0xf0, 0x00, 0x03},
				       {0x66, 0xf0, 0x01, 0x03},
				       {0xf0, 0x01, 0x03},
				       {0xf0, 0x48, 0x01, 0x03}};

	(void)state;
	gpr()[RBX] = DATA + 0x10;
	gpr()[RAX] = 5;
	rig_vcpu->rflags = 0x246;
	rig_gmem_hook = racing;
	for (unsigned i = 0; i < 4; i++) {
		u8 before = *ram(DATA_GPA + 0x10);

		assert_int_equal(rig_run(sizes[i], 4, DEVICE_GPA, true), RESUME);
		assert_int_equal(*ram(DATA_GPA + 0x10), before + 1);
		assert_int_equal(rig_vcpu->rflags, 0x246);
		assert_int_equal(rig_vcpu->next_rip, 0);
	}
}

/* ---- fetching ---- */

static void instruction_across_pages(void **state) {
	static const u8 code[] = {0xc7, 0x03, 1, 2, 3, 4};

	(void)state;
	gpr()[RBX] = DEVICE;
	memcpy(ram(CODE_GPA + 0xffd), code, 3);
	memcpy(ram(CODE_GPA + SECOND), code + 3, 3);
	rig_vcpu->rip = CODE + 0xffd;
	assert_int_equal(emulate_mmio(rig_vcpu, DEVICE_GPA, true, false), ADVANCE);
	expect_access(0, DEVICE_GPA, 4, 0x04030201, true);
	assert_int_equal(rig_vcpu->next_rip, CODE + 0x1003);
	/* the second page is missing; an instruction that ends before it does not mind */
	rig_map(CODE + 4096, 0);
	assert_int_equal(emulate_mmio(rig_vcpu, DEVICE_GPA, true, false), INJECTED);
	expect_page_fault(CODE + 4096, 0x10);
	rig_vcpu->rip = CODE + 0xffe;
	memcpy(ram(CODE_GPA + 0xffe), "\x89\x03", 2);
	assert_int_equal(emulate_mmio(rig_vcpu, DEVICE_GPA, true, false), ADVANCE);
	assert_int_equal(rig_nr_accesses, 2);
	/* code that is no longer in RAM */
	rig_map(CODE, DEVICE_GPA | PTE_P);
	assert_int_equal(emulate_mmio(rig_vcpu, DEVICE_GPA, true, false), STOP_VM);
	assert_non_null(strstr(rig_vm->stop_reason, "not in RAM"));
}

static void instruction_at_the_limit(void **state) {
	struct insn insn;

	(void)state;
	rig_real_mode();
	edit_segment(SEG_CS, 0, 0x7c03, 0x9b);
	rig_code((const u8[]){0xc7, 0x07, 1, 2}, 4);
	assert_int_equal(decode_current(rig_vcpu, &insn), 0);
	assert_int_equal(insn.length, 4);
	edit_segment(SEG_CS, 0, 0x7c02, 0x9b);
	assert_int_equal(decode_current(rig_vcpu, &insn), E_FAULT);
	expect_exception(13, 0);
	edit_segment(SEG_CS, 0, 0x7bff, 0x9b);
	assert_int_equal(decode_current(rig_vcpu, &insn), E_FAULT);
	expect_exception(13, 0);
}

static void fetch_that_is_refused(void **state) {
	struct insn insn;

	(void)state;
	rig_vcpu->rip = BIT(47);
	assert_int_equal(decode_current(rig_vcpu, &insn), E_FAULT);
	expect_exception(13, 0);
	rig_vcpu->rip = UNMAPPED;
	fake_cpl = 3;
	assert_int_equal(decode_current(rig_vcpu, &insn), E_FAULT);
	expect_page_fault(UNMAPPED, 0x14);
	rig_vcpu->rip = DEVICE;
	assert_int_equal(decode_current(rig_vcpu, &insn), E_RANGE);
	assert_int_equal(decode_outcome(E_RANGE), STOP_VM);
	assert_non_null(strstr(rig_vm->stop_reason, "not in RAM"));
	assert_int_equal(decode_outcome(E_FAULT), INJECTED);
	assert_int_equal(decode_outcome(E_BUSY), RESUME);
}

/* The last byte of canonical space is fetched; the one behind it does not exist. */
static void instruction_at_the_end_of_canonical_space(void **state) {
	u64 *pml4 = (u64 *)(void *)ram(0x1000);
	struct insn insn;

	(void)state;
	/* the whole lower half's end leads to the second code page */
	pml4[255] = 0x2000 | PTE_P | PTE_W | PTE_U;
	((u64 *)(void *)ram(0x2000))[511] = 0x3000 | PTE_P | PTE_W | PTE_U;
	((u64 *)(void *)ram(0x3000))[511] = 0x4000 | PTE_P | PTE_W | PTE_U;
	((u64 *)(void *)ram(0x4000))[511] = (CODE_GPA + SECOND) | PTE_P | PTE_U;
	rig_vcpu->rip = 0x7fffffffffff;
	*ram(CODE_GPA + SECOND + 0xfff) = 0x90;
	assert_int_equal(decode_current(rig_vcpu, &insn), 0);
	assert_int_equal(insn.length, 1);
	*ram(CODE_GPA + SECOND + 0xfff) = 0x0f;
	assert_int_equal(decode_current(rig_vcpu, &insn), E_FAULT);
	expect_exception(13, 0);
}

/* In 32-bit code the byte after the last is the first. */
static void instruction_around_4_gib(void **state) {
	struct insn insn;

	(void)state;
	rig_protected_mode();
	edit_segment(SEG_CS, 0x1000, ~0u, 0xc9b);
	*ram(0) = 0x03;
	rig_vcpu->rip = 0xffffefff; /* linear 0xffffffff is not RAM */
	assert_int_equal(decode_current(rig_vcpu, &insn), E_RANGE);
	/* with paging on it can be: 0xfffff000 to the code page, 0 to the data page */
	((u32 *)(void *)ram(0x6000))[1023] = 0x7000 | PTE_P;
	((u32 *)(void *)ram(0x6000))[0] = 0x7000 | PTE_P;
	((u32 *)(void *)ram(0x7000))[1023] = (u32)(CODE_GPA | PTE_P);
	((u32 *)(void *)ram(0x7000))[0] = (u32)(DATA_GPA | PTE_P);
	vcpu_set_reg(rig_vcpu, VREG_CR3, 0x6000);
	vcpu_set_reg(rig_vcpu, VREG_CR0, BIT(31) | 1);
	*ram(CODE_GPA + 0xfff) = 0x89;
	*ram(DATA_GPA) = 0x0b;
	assert_int_equal(decode_current(rig_vcpu, &insn), 0);
	assert_int_equal(insn.length, 2);
	assert_int_equal(insn.base, RBX);
}

/* The opcode at RIP; asked often enough to be remembered at every stage. */
static u8 opcode_here(void) {
	struct insn insn;

	for (unsigned i = 0; i < 3; i++) assert_int_equal(decode_current(rig_vcpu, &insn), 0);
	return insn.opcode;
}

/* Code that has been seen is found again, but never after anything about it has changed. */
static void remembered_code(void **state) {
	struct insn insn;

	(void)state;
	rig_code((const u8[]){0x89, 0x03}, 2);
	assert_int_equal(opcode_here(), 0x89);
	*ram(CODE_GPA) = 0x8b;
	assert_int_equal(opcode_here(), 0x8b);
	/* a change that only the last bytes show */
	rig_code((const u8[]){0xc7, 0x83, 0, 0, 0, 0, 1, 2, 3, 4}, 10);
	assert_int_equal(opcode_here(), 0xc7);
	*ram(CODE_GPA + 9) = 5;
	assert_int_equal(decode_current(rig_vcpu, &insn), 0);
	assert_int_equal(insn.imm, 0x05030201);
	*ram(CODE_GPA + SECOND) = 0x90;
	rig_map(CODE, (CODE_GPA + SECOND) | PTE_P | PTE_U);
	assert_int_equal(opcode_here(), 0x90);
	/* the same bytes in code of another width */
	rig_map(CODE, CODE_GPA | PTE_P | PTE_U);
	*ram(CODE_GPA) = 0x06;
	edit_segment(SEG_CS, 0, ~0u, 0xc9b);
	assert_int_equal(opcode_here(), 0x06);
	edit_segment(SEG_CS, 0, ~0u, 0xa9b);
	assert_int_equal(decode_current(rig_vcpu, &insn), E_FAULT);
	expect_exception(6, 0);
	/* another top table, which has nothing */
	memset(ram(0x8000), 0, 4096);
	vcpu_set_reg(rig_vcpu, VREG_CR3, 0x8000);
	assert_int_equal(decode_current(rig_vcpu, &insn), E_FAULT);
	expect_page_fault(CODE, 0x10);
	vcpu_set_reg(rig_vcpu, VREG_CR3, 0x1000);
	rig_map(CODE, 0);
	assert_int_equal(decode_current(rig_vcpu, &insn), E_FAULT);
	expect_page_fault(CODE, 0x10);
}

static void decoding_at_rip(void **state) {
	struct insn insn;
	u8 prefixes[16];

	(void)state;
	rig_code((const u8[]){0x44, 0x0f, 0x20, 0xc0}, 4); /* mov %cr8, %rax */
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(decode_current(rig_vcpu, &insn), 0);
		assert_int_equal(insn.reg, 8);
	}
	rig_code((const u8[]){0x06}, 1);
	assert_int_equal(decode_current(rig_vcpu, &insn), E_FAULT);
	expect_exception(6, 0);
	memset(prefixes, 0x66, sizeof(prefixes));
	rig_code(prefixes, 16);
	assert_int_equal(decode_current(rig_vcpu, &insn), E_FAULT);
	expect_exception(13, 0);
	/* CPUID with 13 prefixes is the longest there is */
	memcpy(prefixes + 13, "\x0f\xa2", 2);
	rig_code(prefixes, 15);
	assert_int_equal(decode_current(rig_vcpu, &insn), 0);
	assert_int_equal(insn.length, 15);
	/* compatibility mode under long mode */
	edit_segment(SEG_CS, 0, ~0u, 0xc9b);
	assert_int_equal(decode_current(rig_vcpu, &insn), 0);
	assert_int_equal(insn.addr_size, 4);
	edit_segment(SEG_CS, 0, ~0u, 0x89b);
	assert_int_equal(decode_current(rig_vcpu, &insn), 0);
	assert_int_equal(insn.addr_size, 2);
}

static void reading_an_operand(void **state) {
	struct insn insn;
	struct fault fault;
	u16 value = 0;

	(void)state;
	gpr()[RBX] = DATA + 0x20;
	memcpy(ram(DATA_GPA + 0x20), "\x34\x12\xff", 3);
	rig_code((const u8[]){0x0f, 0x01, 0x33}, 3); /* LMSW (%rbx) */
	assert_int_equal(decode_current(rig_vcpu, &insn), 0);
	assert_int_equal(emulate_read_operand(rig_vcpu, &insn, 0, &value, 2, &fault), 0);
	assert_int_equal(value, 0x1234);
	gpr()[RBX] = UNMAPPED;
	assert_int_equal(emulate_read_operand(rig_vcpu, &insn, 0, &value, 2, &fault), E_FAULT);
	assert_int_equal(fault.vector, 14);
	assert_int_equal(fault.address, UNMAPPED);
	assert_false(rig_vcpu->exception.pending);
}

#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void) {
	const struct CMUnitTest tests[] = {
		T(doorbell_rings_once_per_write),
		T(gpa_of_the_fault_is_used),
		T(byte_swapping_moves),
		T(operand_across_pages),
		T(read_modify_write_needs_a_writable_page),
		T(page_walk_fault),
		T(unknown_instruction_stops_the_vm),
		T(lock_where_it_does_not_belong),
		T(addresses_that_are_not_canonical),
		T(segment_bases),
		T(segment_checks_in_protected_mode),
		T(real_mode),
		T(alignment_check),
		T(push_with_a_narrow_stack),
		T(push_to_a_missing_stack_reads_nothing),
		T(locked_operation_on_ram),
		T(locked_operation_that_lost_a_race),
		T(instruction_across_pages),
		T(instruction_at_the_limit),
		T(fetch_that_is_refused),
		T(instruction_at_the_end_of_canonical_space),
		T(instruction_around_4_gib),
		T(remembered_code),
		T(decoding_at_rip),
		T(reading_an_operand),
	};

	return cmocka_run_group_tests_name("emulate", tests, NULL, NULL);
}
