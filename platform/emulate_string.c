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

/*
 * One of the two pointers. The translation of its page is kept while this exit lasts, as a TLB
 * would: no invalidation can be due before the guest runs again.
 */
struct stream {
	enum seg seg;
	enum gpr reg;
	u32 access;
	bool used;   /* this instruction moves it */
	bool cached; /* page and frame are valid */
	gva_t page;
	gpa_t frame;
};

struct string_op {
	struct emul *e;
	struct stream src, dst;
	struct operand from, to; /* the element, where src and dst are used */
	unsigned size;
	void (*step)(struct string_op *s);
	u16 port; /* INS, OUTS */
	bool repeated;
	bool compares; /* REPE and REPNE look at ZF */
};

static int stream_operand(struct string_op *s, struct stream *stream, struct operand *op) {
	struct emul *e = s->e;
	u64 offset = e->vcpu->gpr[stream->reg] & size_mask(e->insn.addr_size);
	gva_t linear;
	int err = emul_linear(e, stream->seg, offset, s->size, stream->access, &linear);

	if (err) return err;
	if (stream->cached && (linear & PAGE_MASK) == stream->page &&
	    (linear & ~PAGE_MASK) + s->size <= PAGE_SIZE) {
		op->gpa[0] = stream->frame | (linear & ~PAGE_MASK);
		op->size = op->first = (u8)s->size;
		op->device = false;
		return 0;
	}
	err = emul_translate(e, linear, s->size, stream->access, op);
	stream->cached = !err && op->first == op->size;
	stream->page = linear & PAGE_MASK;
	stream->frame = op->gpa[0] & PAGE_MASK;
	return err;
}

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

/* Both operands are translated before the first is read: it may be a device. */
static int element(struct string_op *s) {
	int err = s->src.used ? stream_operand(s, &s->src, &s->from) : 0;

	if (!err && s->dst.used) err = stream_operand(s, &s->dst, &s->to);
	if (!err) s->step(s);
	return err;
}

/* Moves the pointers that the instruction uses past the element just done. */
static void advance(struct string_op *s) {
	struct emul *e = s->e;
	u64 delta = e->vcpu->rflags & RFLAGS_DF ? -(u64)s->size : s->size;
	u8 width = e->insn.addr_size;

	if (s->src.used) emul_reg_write(e, RSI, width, e->vcpu->gpr[RSI] + delta);
	if (s->dst.used) emul_reg_write(e, RDI, width, e->vcpu->gpr[RDI] + delta);
}

/* After an element: REPE ends on a difference, REPNE on a match. */
static bool comparison_ends(const struct string_op *s) {
	bool equal = s->e->vcpu->rflags & RFLAGS_ZF;

	return s->compares && equal == !(s->e->insn.prefixes & PFX_REP);
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

static const struct form {
	void (*step)(struct string_op *s);
	bool src, dst, writes;
} forms[] = {
	/* from 6C on, two opcodes each, then from A4 on */
	{step_ins, false, true, true},	 {step_outs, true, false, false},
	{step_movs, true, true, true},	 {step_cmps, true, true, false},
	{NULL, false, false, false}, /* A8: TEST */
	{step_stos, false, true, true},	 {step_lods, true, false, false},
	{step_scas, false, true, false},
};

/* The source is DS:rSI unless overridden; the destination always is ES:rDI. */
static struct string_op string_op(struct emul *e, const struct form *form) {
	return (struct string_op){
		.e = e,
		.src = {emul_data_segment(e), RSI, ACCESS_READ, .used = form->src},
		.dst = {SEG_ES, RDI, form->writes ? ACCESS_WRITE : ACCESS_READ, .used = form->dst},
		.size = e->insn.op_size,
		.step = form->step,
		.repeated = e->insn.prefixes & (PFX_REP | PFX_REPNE),
		.compares = form->dst && !form->writes,
	};
}

int emul_string(struct emul *e) {
	struct string_op s = string_op(e, &forms[(e->insn.opcode - 0xa0u) / 2]);

	if (e->insn.prefixes & PFX_LOCK) return emul_fault(e, X86_UD);
	return run(&s);
}

enum outcome emulate_string_io(struct vcpu *vcpu, u16 port, unsigned size, bool in, bool rep) {
	struct emul e;
	int err = emul_begin(&e, vcpu);

	if (err) return emul_finish(&e, err);
	/* Another vCPU may have changed the code since the processor looked at it. */
	if (e.insn.map != MAP_1BYTE || (e.insn.opcode & 0xfe) != (in ? 0x6c : 0x6e))
		return emul_finish(&e, E_NOSUPP);
	struct string_op s = string_op(&e, &forms[in ? 0 : 1]);
	s.port = port;
	s.size = size;
	s.repeated = rep;
	return emul_finish(&e, run(&s));
}
