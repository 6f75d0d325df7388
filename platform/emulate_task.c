/*
 * Hardware task switches (SDM 3A 7.3). What can fault for the old task comes first, and changes
 * nothing but accessed and dirty bits. Then it is saved, and everything else belongs to the new
 * task: its segment registers are without a segment until each has passed its checks (table 7-1).
 */
#include "platform/emulate_internal.h"

#include "platform/cr.h"

/* Bits of a selector, and of types: of code and data, of a TSS; the type of an LDT. */
enum { SELECTOR_RPL = 3, SELECTOR_LDT = 4 };
enum { TYPE_ACCESSED = 1, TYPE_RW = 2, TYPE_CONFORMING = 4, TYPE_CODE = 8 };
enum { TYPE_TSS = 1, TYPE_BUSY = 2, TYPE_32 = 8, TYPE_LDT = 2 };

#define ATTR_NO_CS    0xc9bu /* there is no unusable one */
#define ATTR_V86      0x0f3u

#define RFLAGS_LOADED 0x3f7fd5ul
#define DR6_BT	      BIT(15)
#define DR7_LOCAL     0x155ul

/* What is loaded and, from IP to the segments, saved: in the order of a TSS of 32 bits. */
enum { FIELD_CR3, FIELD_IP, FIELD_FLAGS, FIELD_GPR, FIELD_SEG = FIELD_GPR + 8 };
enum { FIELD_LDT = FIELD_SEG + SEG_LDTR, FIELD_TRAP, NR_FIELDS };

/* One of 16 bits lacks CR3, FS, GS and T. */
static const struct format {
	u8 width; /* of registers, and of an error code pushed */
	u8 limit; /* at least */
	u8 offset[NR_FIELDS];
} formats[] = {
	{2, 0x2b, {0, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 0, 0, 42, 0}},
	{4, 0x67, {28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 76, 80, 84, 88, 92, 96, 100}},
};

struct descriptor {
	gva_t at;
	struct segment seg;
	struct operand type; /* its byte with P, DPL and type */
};

struct task {
	struct emul e;
	const struct task_switch *to;
	const struct format *format;
	bool returns; /* IRET */
	bool nests;   /* the new task can return; the old one stays busy */
	struct descriptor tss;
	struct operand link;
	u64 field[NR_FIELDS];
};

static int fault(struct emul *e, u8 vector, u16 selector) {
	e->fault = (struct fault){.vector = vector, .error = selector & ~(u32)SELECTOR_RPL};
	return E_FAULT;
}

static int locate(struct emul *e, u64 at, unsigned size, u32 access, struct operand *op) {
	return emul_translate(e, (u32)at, size, access | ACCESS_IMPLICIT, op);
}

static int read_system(struct emul *e, u64 at, unsigned size, u64 *value) {
	struct operand op;
	int err = locate(e, at, size, ACCESS_READ, &op);

	if (!err) *value = emul_read(e, &op);
	return err;
}

/* Outside of its table it is an exception of this vector. access: of what is in d->type. */
static int read_descriptor(struct emul *e, u16 selector, u8 vector, u32 access,
			   struct descriptor *d) {
	struct segment table = {.attr = SEG_ATTR_P,
				.base = vcpu_reg(e->vcpu, VREG_GDTR_BASE),
				.limit = (u32)vcpu_reg(e->vcpu, VREG_GDTR_LIMIT)};
	u64 raw = 0;

	if (selector & SELECTOR_LDT) vcpu_segment(e->vcpu, SEG_LDTR, &table);
	if (!(table.attr & SEG_ATTR_P) || (selector | 7u) > table.limit)
		return fault(e, vector, selector);
	d->at = table.base + (selector & ~7u);
	int err = read_system(e, d->at, 8, &raw) ?: locate(e, d->at + 5, 1, access, &d->type);
	d->seg.selector = selector;
	d->seg.attr = (raw >> 40 & 0xff) | (raw >> 44 & 0xf00);
	d->seg.base = (raw >> 16 & 0xffffff) | (raw >> 56 << 24);
	d->seg.limit = (raw & 0xffff) | (raw >> 32 & 0xf0000);
	if (raw & BIT(55)) d->seg.limit = d->seg.limit << 12 | 0xfff;
	return err;
}

/* E_BUSY when it is another descriptor now. */
static int set_type(struct emul *e, struct descriptor *d, u8 bit) {
	u8 old = (u8)d->seg.attr;

	d->seg.attr |= bit;
	return emul_update(e, &d->type, old, old | bit, true);
}

/* The processor has checked the descriptor, but another vCPU may have changed it since. */
static int read_new(struct task *t) {
	u16 selector = t->to->selector;
	u8 vector = t->returns ? X86_TS : X86_GP;
	u32 access = t->returns ? ACCESS_READ : ACCESS_WRITE;
	struct segment *s = &t->tss.seg;
	int err;

	if (selector & SELECTOR_LDT) return fault(&t->e, vector, selector);
	err = read_descriptor(&t->e, selector, vector, access, &t->tss);
	if (err) return err;
	if ((s->attr & (SEG_ATTR_S | 7)) != (TYPE_TSS | (t->returns ? TYPE_BUSY : 0)))
		return fault(&t->e, vector, selector);
	if (!(s->attr & SEG_ATTR_P)) return fault(&t->e, X86_NP, selector);
	t->format = &formats[!!(s->attr & TYPE_32)];
	if (s->limit < t->format->limit) return fault(&t->e, X86_TS, selector);
	if (t->nests) err = locate(&t->e, s->base, 2, ACCESS_WRITE, &t->link);
	for (unsigned i = 0; i < NR_FIELDS && !err; i++)
		if (t->format->offset[i])
			err = read_system(&t->e, s->base + t->format->offset[i],
					  i < FIELD_SEG ? t->format->width : 2, &t->field[i]);
	return err;
}

static u64 old_field(const struct task *t, unsigned i) {
	struct vcpu *vcpu = t->e.vcpu;
	struct segment s;

	if (i == FIELD_IP) return t->to->rip;
	if (i == FIELD_FLAGS) return vcpu->rflags & ~(t->returns ? X86_RFLAGS_NT : 0);
	if (i < FIELD_SEG) return vcpu->gpr[i - FIELD_GPR];
	vcpu_segment(vcpu, (enum seg)(i - FIELD_SEG), &s);
	return s.selector;
}

static int save_old(struct task *t) {
	struct operand at[FIELD_LDT];
	const struct format *f;
	struct descriptor old;
	struct segment tr;
	int err = 0;

	vcpu_segment(t->e.vcpu, SEG_TR, &tr);
	f = &formats[!!(tr.attr & TYPE_32)];
	if (tr.limit < f->limit) return fault(&t->e, X86_TS, tr.selector);
	for (unsigned i = FIELD_IP; i < FIELD_LDT && !err; i++)
		if (f->offset[i])
			err = locate(&t->e, tr.base + f->offset[i], i < FIELD_SEG ? f->width : 2,
				     ACCESS_WRITE, &at[i]);
	if (!err && !t->nests)
		err = read_descriptor(&t->e, tr.selector, X86_TS, ACCESS_WRITE, &old);
	if (!err && !t->returns) err = set_type(&t->e, &t->tss, TYPE_BUSY);
	if (err) return err;

	/* Nothing fails any more. */
	if (t->nests)
		emul_write(&t->e, &t->link, tr.selector);
	else
		emul_write(&t->e, &old.type, old.seg.attr & ~(u32)TYPE_BUSY);
	for (unsigned i = FIELD_IP; i < FIELD_LDT; i++)
		if (f->offset[i]) emul_write(&t->e, &at[i], old_field(t, i));
	return 0;
}

static bool segment_fits(enum seg seg, const struct segment *s, u8 cpl) {
	u8 dpl = s->attr >> 5 & 3, rpl = s->selector & SELECTOR_RPL;
	bool code = s->attr & TYPE_CODE, conforming = code && s->attr & TYPE_CONFORMING;

	if (seg == SEG_LDTR) return (s->attr & 0x1f) == TYPE_LDT;
	if (!(s->attr & SEG_ATTR_S)) return false;
	if (seg == SEG_CS) return code && (conforming ? dpl <= rpl : dpl == rpl);
	if (seg == SEG_SS) return !code && s->attr & TYPE_RW && dpl == rpl && dpl == cpl;
	return (!code || s->attr & TYPE_RW) && (conforming || (dpl >= rpl && dpl >= cpl));
}

/* What goes into the register: nothing usable, when the selector is null. */
static int load_segment(struct emul *e, enum seg seg, u16 selector, u8 cpl, struct segment *s) {
	u8 absent = seg == SEG_SS ? X86_SS : seg == SEG_LDTR ? X86_TS : X86_NP;
	struct descriptor d;
	int err;

	*s = (struct segment){.selector = selector};
	if (selector <= SELECTOR_RPL)
		return seg == SEG_CS || seg == SEG_SS ? fault(e, X86_TS, selector) : 0;
	err = read_descriptor(e, selector, X86_TS, ACCESS_READ, &d);
	if (err) return err;
	if (!segment_fits(seg, &d.seg, cpl)) return fault(e, X86_TS, selector);
	if (!(d.seg.attr & SEG_ATTR_P)) return fault(e, absent, selector);
	if (seg != SEG_LDTR && !(d.seg.attr & TYPE_ACCESSED))
		err = locate(e, d.at + 5, 1, ACCESS_WRITE, &d.type)
			      ?: set_type(e, &d, TYPE_ACCESSED);
	*s = d.seg;
	return err;
}

static int load_segments(struct task *t) {
	static const u8 order[] = {SEG_LDTR, SEG_CS, SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS};
	struct vcpu *vcpu = t->e.vcpu;
	const u64 *selector = t->field + FIELD_SEG;
	bool v86 = vcpu->rflags & RFLAGS_VM;
	u8 cpl = selector[SEG_CS] & SELECTOR_RPL;
	struct segment s;
	int err;

	for (enum seg seg = SEG_ES; seg <= SEG_LDTR; seg++) {
		u16 attr = (seg == SEG_CS ? ATTR_NO_CS : 0) | (u16)(cpl << 5);

		s = (struct segment){(u16)selector[seg], attr, ~0u, 0};
		if (v86 && seg < SEG_LDTR)
			s = (struct segment){s.selector, ATTR_V86, 0xffff, selector[seg] << 4};
		vcpu_set_segment(vcpu, seg, &s);
	}
	for (unsigned i = 0; i < (v86 ? 1 : ARRAY_SIZE(order)); i++) {
		err = load_segment(&t->e, order[i], (u16)selector[order[i]], cpl, &s);
		if (err) return err;
		vcpu_set_segment(vcpu, order[i], &s);
	}
	return 0;
}

static int push_error(struct task *t) {
	struct emul *e = &t->e;
	unsigned size = t->format->width, width = emul_stack_width(e);
	u64 top = e->vcpu->gpr[RSP] - size;
	struct operand op;
	int err = emul_address(e, SEG_SS, top & size_mask(width), size, ACCESS_WRITE, &op);

	if (err) return err;
	emul_write(e, &op, t->to->error);
	emul_reg_write(e, RSP, width, top);
	return 0;
}

static int enter_new(struct task *t) {
	struct vcpu *vcpu = t->e.vcpu;
	u64 cr0 = vcpu_reg(vcpu, VREG_CR0);
	int err;

	vcpu_set_segment(vcpu, SEG_TR, &t->tss.seg);
	vcpu_set_reg(vcpu, VREG_CR0, cr0 | X86_CR0_TS);
	vcpu_set_reg(vcpu, VREG_DR7, vcpu_reg(vcpu, VREG_DR7) & ~DR7_LOCAL);
	if (t->format->offset[FIELD_CR3] && cr0 & X86_CR0_PG)
		cr_write(vcpu, 3, t->field[FIELD_CR3]);
	vcpu->rip = t->field[FIELD_IP];
	vcpu->rflags = (t->field[FIELD_FLAGS] & RFLAGS_LOADED) | X86_RFLAGS_FIXED;
	if (t->nests) vcpu->rflags |= X86_RFLAGS_NT;
	for (enum gpr r = RAX; r <= RDI; r++) vcpu->gpr[r] = t->field[FIELD_GPR + r];
	t->e.has_walk = false; /* it was of the old task's page tables and level */
	err = load_segments(t);
	return err || !t->to->has_error ? err : push_error(t);
}

int emulate_task_switch(struct vcpu *vcpu, const struct task_switch *to) {
	struct task t = {.e = {.vcpu = vcpu, .mode = MODE_32},
			 .to = to,
			 .returns = to->source == TASK_IRET,
			 .nests = to->source == TASK_CALL || to->source == TASK_GATE};
	int err = read_new(&t) ?: save_old(&t);

	if (err == E_BUSY) return err;
	if (!err) err = enter_new(&t);
	/* Too late to begin anew. */
	if (err == E_BUSY) err = fault(&t.e, X86_TS, to->selector);
	if (err) {
		if (t.e.fault.vector != X86_PF) t.e.fault.error |= to->external;
		fault_inject(vcpu, &t.e.fault);
		return 0;
	}
	vcpu->exception.pending = false;
	if (t.field[FIELD_TRAP] & 1) {
		vcpu_set_reg(vcpu, VREG_DR6, vcpu_reg(vcpu, VREG_DR6) | DR6_BT);
		inject_exception(vcpu, X86_DB);
	}
	return 0;
}
