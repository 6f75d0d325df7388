/* Registers and memory operands: address, segment checks (APM 2 4.5 to 4.12), translation, bytes.
 */
#include "platform/emulate_internal.h"

#include "kernel/vm.h"
#include "mm/gmem.h"
#include "platform/bus.h"

/* Segment type bits (APM 2 4.8). */
#define TYPE_CODE	 0x8u
#define TYPE_EXPAND_DOWN 0x4u /* data segments */
#define TYPE_WRITE	 0x2u /* data segments: writable; code segments: readable */

int emul_fault(struct emul *e, u8 vector) {
	e->fault = (struct fault){.vector = vector};
	return E_FAULT;
}

/* AH, CH, DH, BH: byte registers 4 to 7 without any REX prefix. */
static bool is_high_byte(const struct emul *e, u8 reg, unsigned size) {
	return size == 1 && reg >= 4 && reg < 8 && !e->insn.rex;
}

u64 emul_reg_read(const struct emul *e, u8 reg, unsigned size) {
	if (is_high_byte(e, reg, size)) return e->vcpu->gpr[reg - 4] >> 8 & 0xff;
	return e->vcpu->gpr[reg] & size_mask(size);
}

void emul_reg_write(struct emul *e, u8 reg, unsigned size, u64 value) {
	u64 *gpr = e->vcpu->gpr;

	if (is_high_byte(e, reg, size))
		gpr[reg - 4] = (gpr[reg - 4] & ~0xff00ul) | (value & 0xff) << 8;
	else if (size >= 4)
		gpr[reg] = value & size_mask(size);
	else
		gpr[reg] = (gpr[reg] & ~size_mask(size)) | (value & size_mask(size));
}

/* Offset of the memory operand in its segment, plus delta, cut to the address size. */
static inline u64 operand_offset(const struct emul *e, u64 delta) {
	const struct insn *insn = &e->insn;
	const u64 *gpr = e->vcpu->gpr;
	u64 offset = delta;

	if (!(insn->attr & INSN_MODRM)) return (offset + insn->imm) & size_mask(insn->addr_size);
	offset += (u64)(s64)insn->disp;
	if (insn->base < NR_GPRS)
		offset += gpr[insn->base];
	else if (insn->base == REG_RIP)
		offset += e->vcpu->rip + insn->length;
	if (insn->index < NR_GPRS) offset += gpr[insn->index] << insn->scale;
	return offset & size_mask(insn->addr_size);
}

enum seg emul_data_segment(const struct emul *e) {
	const struct insn *insn = &e->insn;

	if (insn->seg != REG_NONE) return (enum seg)insn->seg;
	return insn->base == RSP || insn->base == RBP ? SEG_SS : SEG_DS;
}

/* Do the segment's type and presence allow this access? */
static bool type_allows(const struct segment *seg, u32 access) {
	if (!(seg->attr & SEG_ATTR_P) || !(seg->attr & SEG_ATTR_S)) return false;
	if (access & ACCESS_WRITE) return (seg->attr & (TYPE_CODE | TYPE_WRITE)) == TYPE_WRITE;
	return (seg->attr & (TYPE_CODE | TYPE_WRITE)) != TYPE_CODE;
}

static bool limit_allows(const struct segment *seg, u64 offset, unsigned size) {
	u64 last = offset + size - 1;

	if ((seg->attr & (TYPE_CODE | TYPE_EXPAND_DOWN)) != TYPE_EXPAND_DOWN)
		return last <= seg->limit;
	return offset > seg->limit && last <= (seg->attr & SEG_ATTR_DB ? 0xfffffffful : 0xffff);
}

/* User data that is not aligned while CR0.AM and RFLAGS.AC ask for #AC (APM 2 8.2.18). */
static bool misaligned(struct emul *e, gva_t linear, unsigned size) {
	return linear & (size - 1) && e->vcpu->rflags & X86_RFLAGS_AC && emul_walk(e)->user &&
	       e->walk.cr0 & X86_CR0_AM;
}

static int to_linear(struct emul *e, enum seg seg, u64 offset, unsigned size, u32 access,
		     gva_t *linear) {
	struct segment s;

	if (likely(e->mode == MODE_64)) {
		if (seg == SEG_FS || seg == SEG_GS) {
			vcpu_segment(e->vcpu, seg, &s);
			offset += s.base;
		}
		if (unlikely(!gva_canonical(emul_walk(e), offset, size)))
			return emul_fault(e, seg == SEG_SS ? X86_SS : X86_GP);
		*linear = offset;
	} else {
		vcpu_segment(e->vcpu, seg, &s);
		if ((!e->real && !type_allows(&s, access)) || !limit_allows(&s, offset, size))
			return emul_fault(e, seg == SEG_SS ? X86_SS : X86_GP);
		*linear = (u32)(s.base + offset);
	}
	return misaligned(e, *linear, size) ? emul_fault(e, X86_AC) : 0;
}

int emul_translate(struct emul *e, gva_t linear, unsigned size, u32 access, struct operand *op) {
	u64 first = min_u64(size, PAGE_SIZE - (linear & ~PAGE_MASK));

	*op = (struct operand){.size = (u8)size, .first = (u8)first};
	int err = gwalk_translate(emul_walk(e), linear, access, &op->gpa[0], &e->fault);
	if (err || first == size) return err;
	gva_t second = e->mode == MODE_64 ? linear + first : (u32)(linear + first);
	return gwalk_translate(&e->walk, second, access, &op->gpa[1], &e->fault);
}

int emul_address(struct emul *e, enum seg seg, u64 offset, unsigned size, u32 access,
		 struct operand *op) {
	gva_t linear;

	return to_linear(e, seg, offset, size, access, &linear)
		       ?: emul_translate(e, linear, size, access, op);
}

/*
 * The common case: 64-bit mode, a flat segment, an aligned operand at the page offset of the fault.
 * The processor has checked its address before it faulted there.
 */
static inline bool operand_is_device(const struct emul *e, u64 offset, unsigned size, u32 access,
				     struct operand *op) {
	if (e->mode != MODE_64 || !e->direct || e->insn.seg != REG_NONE ||
	    (offset ^ e->device_gpa) & ~PAGE_MASK || offset & (size - 1) ||
	    (access & ACCESS_WRITE && !e->device_write))
		return false;
	op->gpa[0] = e->device_gpa;
	op->size = op->first = (u8)size;
	op->device = true;
	return true;
}

int emul_operand(struct emul *e, u64 delta, unsigned size, u32 access, struct operand *op) {
	u64 offset = operand_offset(e, delta);

	if (likely(operand_is_device(e, offset, size, access, op))) return 0;
	return emul_address(e, emul_data_segment(e), offset, size, access, op);
}

gva_t emulate_operand_address(struct vcpu *vcpu, const struct insn *insn) {
	struct emul e = {.vcpu = vcpu, .insn = *insn};
	enum seg seg = emul_data_segment(&e);
	u64 offset = operand_offset(&e, 0);
	bool wide = vcpu_privilege(vcpu) & PRIV_64BIT;
	struct segment s;

	if (wide && seg != SEG_FS && seg != SEG_GS) return offset;
	vcpu_segment(vcpu, seg, &s);
	return wide ? s.base + offset : (u32)(s.base + offset);
}

/* The largest access that a bus makes for len bytes: 1, 2, 4 or 8. */
static unsigned bus_size(unsigned len) { return len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1; }

static u64 read_part(struct emul *e, gpa_t gpa, unsigned len) {
	u64 value = 0;

	if (!gmem_read(e->vcpu->vm->gmem, gpa, &value, len)) return value;
	for (unsigned done = 0, size; done < len; done += size) {
		size = bus_size(len - done);
		value |= bus_mmio_read(e->vcpu, gpa + done, size) << (8 * done);
	}
	return value;
}

static void write_part(struct emul *e, gpa_t gpa, unsigned len, u64 value) {
	if (!gmem_write(e->vcpu->vm->gmem, gpa, &value, len)) return;
	for (unsigned done = 0, size; done < len; done += size) {
		size = bus_size(len - done);
		bus_mmio_write(e->vcpu, gpa + done, size, value >> (8 * done) & size_mask(size));
	}
}

u64 emul_read(struct emul *e, const struct operand *op) {
	if (likely(op->device)) return bus_mmio_read(e->vcpu, op->gpa[0], op->size);
	u64 value = read_part(e, op->gpa[0], op->first);
	if (op->first < op->size)
		value |= read_part(e, op->gpa[1], op->size - op->first) << (8 * op->first);
	return value;
}

void emul_write(struct emul *e, const struct operand *op, u64 value) {
	value &= size_mask(op->size);
	if (likely(op->device)) {
		bus_mmio_write(e->vcpu, op->gpa[0], op->size, value);
		return;
	}
	write_part(e, op->gpa[0], op->first, value);
	if (op->first < op->size)
		write_part(e, op->gpa[1], op->size - op->first, value >> (8 * op->first));
}

int emul_update(struct emul *e, const struct operand *op, u64 old, u64 value, bool atomic) {
	if (atomic && !op->device && op->first == op->size) {
		void *at = gmem_ptr_write(e->vcpu->vm->gmem, op->gpa[0], op->size);

		if (at) return cmpxchg(at, op->size, old, value) ? 0 : E_BUSY;
	}
	emul_write(e, op, value);
	return 0;
}
