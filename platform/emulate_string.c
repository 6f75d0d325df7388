/*
 * String instructions. A repeated one does a bounded number of elements per exit. After each, RSI,
 * RDI and RCX say what is left, for a fault, an interrupt or the next exit (APM 3 1.2.6): an
 * element is done once or not at all.
 */
#include "platform/emulate_internal.h"

#include "kernel/vm.h"
#include "platform/bus.h"

/* Elements per exit: short enough not to hold up interrupts. */
#define MAX_ELEMENTS 256

#define DR6_BS	     BIT(14)

struct string_op {
	struct emul *e;
	const struct form *form;
	struct operand from, to; /* the element, of what the form has */
	unsigned size;
	u16 port; /* INS, OUTS */
	bool repeated;
};

struct form {
	void (*step)(struct string_op *s);
	bool src, dst; /* it uses and moves RSI, RDI */
	bool writes;   /* to the latter; what only reads it compares */
};

static void step_movs(struct string_op *s) { emul_write(s->e, &s->to, emul_read(s->e, &s->from)); }

static void step_stos(struct string_op *s) {
	emul_write(s->e, &s->to, emul_reg_read(s->e, RAX, s->size));
}

static void step_lods(struct string_op *s) {
	emul_reg_write(s->e, RAX, s->size, emul_read(s->e, &s->from));
}

static void step_cmps(struct string_op *s) {
	u64 first = emul_read(s->e, &s->from);

	alu_execute(ALU_CMP, first, emul_read(s->e, &s->to), s->size, &s->e->vcpu->rflags);
}

static void step_scas(struct string_op *s) {
	alu_execute(ALU_CMP, emul_reg_read(s->e, RAX, s->size), emul_read(s->e, &s->to), s->size,
		    &s->e->vcpu->rflags);
}

static void step_ins(struct string_op *s) {
	emul_write(s->e, &s->to, bus_io_read(s->e->vcpu->vm, s->port, s->size));
}

static void step_outs(struct string_op *s) {
	bus_io_write(s->e->vcpu->vm, s->port, s->size, (u32)emul_read(s->e, &s->from));
}

/* The element at one of the two pointers. */
static int locate(struct string_op *s, enum seg seg, enum gpr reg, u32 access, struct operand *op) {
	u64 offset = s->e->vcpu->gpr[reg] & size_mask(s->e->insn.addr_size);

	return emul_address(s->e, seg, offset, s->size, access, op);
}

/*
 * The source is DS:rSI unless overridden; the destination always is ES:rDI. Both are translated
 * before the first is read: it may be a device.
 */
static int element(struct string_op *s) {
	const struct form *form = s->form;
	u32 access = form->writes ? ACCESS_WRITE : ACCESS_READ;
	int err = form->src ? locate(s, emul_data_segment(s->e), RSI, ACCESS_READ, &s->from) : 0;

	if (!err && form->dst) err = locate(s, SEG_ES, RDI, access, &s->to);
	if (!err) form->step(s);
	return err;
}

/* Moves the pointers that the instruction uses past the element just done. */
static void advance(struct string_op *s) {
	struct emul *e = s->e;
	u64 delta = e->vcpu->rflags & RFLAGS_DF ? -(u64)s->size : s->size;
	u8 width = e->insn.addr_size;

	if (s->form->src) emul_reg_write(e, RSI, width, e->vcpu->gpr[RSI] + delta);
	if (s->form->dst) emul_reg_write(e, RDI, width, e->vcpu->gpr[RDI] + delta);
}

/* After an element: REPE ends on a difference, REPNE on a match. */
static bool comparison_ends(const struct string_op *s) {
	bool equal = s->e->vcpu->rflags & RFLAGS_ZF, compares = s->form->dst && !s->form->writes;

	return compares && equal == !(s->e->insn.prefixes & PFX_REP);
}

/* Single-stepping stops after each element, RIP still at the instruction (APM 2 13.1.4). */
static int step_trap(struct emul *e) {
	vcpu_set_reg(e->vcpu, VREG_DR6, vcpu_reg(e->vcpu, VREG_DR6) | DR6_BS);
	return emul_fault(e, X86_DB);
}

static int run(struct string_op *s) {
	struct emul *e = s->e;
	u8 width = e->insn.addr_size;
	u64 left;
	int err;

	for (unsigned done = 0; done < MAX_ELEMENTS; done++) {
		left = e->vcpu->gpr[RCX] & size_mask(width);
		if (s->repeated && !left) return 0;
		err = element(s);
		if (err) return err;
		advance(s);
		if (!s->repeated) return 0;
		emul_reg_write(e, RCX, width, left - 1);
		if (left == 1 || comparison_ends(s)) return 0;
		if (e->vcpu->rflags & X86_RFLAGS_TF) return step_trap(e);
		if (atomic_load_explicit(&e->vcpu->requests, memory_order_relaxed)) break;
	}
	return E_BUSY;
}

static const struct form forms[] = {
	/* from 6C on, two opcodes each, then from A4 on */
	{step_ins, false, true, true},	 {step_outs, true, false, false},
	{step_movs, true, true, true},	 {step_cmps, true, true, false},
	{NULL, false, false, false}, /* A8: TEST */
	{step_stos, false, true, true},	 {step_lods, true, false, false},
	{step_scas, false, true, false},
};

int emul_string(struct emul *e) {
	struct string_op s = {.e = e,
			      .form = &forms[(e->insn.opcode - 0xa0u) / 2],
			      .size = e->insn.op_size,
			      .repeated = e->insn.prefixes & (PFX_REP | PFX_REPNE)};

	return e->insn.prefixes & PFX_LOCK ? emul_fault(e, X86_UD) : run(&s);
}

enum outcome emulate_string_io(struct vcpu *vcpu, u16 port, unsigned size, bool in, bool rep) {
	struct emul e;
	struct string_op s = {
		.e = &e, .form = &forms[in ? 0 : 1], .size = size, .port = port, .repeated = rep};
	int err = emul_begin(&e, vcpu);

	/* Another vCPU may have changed the code since the processor looked at it. */
	if (!err && (e.insn.map != MAP_1BYTE || (e.insn.opcode & 0xfe) != (in ? 0x6c : 0x6e)))
		err = E_NOSUPP;
	return emul_finish(&e, err ? err : run(&s));
}
