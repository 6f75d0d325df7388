/* What each form of an instruction does with its memory operand, and the tables of emul_find(). */
#include "platform/emulate_internal.h"

static unsigned op_size(const struct emul *e) { return e->insn.op_size; }

/* LOCK is for what reads, modifies and writes its operand (APM 3 1.2.5): the others refuse it. */
static bool locked(const struct emul *e) { return unlikely(e->insn.prefixes & PFX_LOCK); }

/* The low three bits of ModRM.reg: opcode extension of a group. */
static u8 extension(const struct emul *e) { return e->insn.reg & 7; }

/* MOV and its relatives: to memory. */

static int store(struct emul *e, u64 value) {
	struct operand op;
	int err = locked(e) ? emul_fault(e, X86_UD)
			    : emul_operand(e, 0, op_size(e), ACCESS_WRITE, &op);

	if (!err) emul_write(e, &op, value);
	return err;
}

static int store_reg(struct emul *e) { return store(e, emul_reg_read(e, e->insn.reg, op_size(e))); }

static int store_rax(struct emul *e) { return store(e, e->vcpu->gpr[RAX]); }

static int store_imm(struct emul *e) { return extension(e) ? E_NOSUPP : store(e, e->insn.imm); }

static int setcc(struct emul *e) {
	return store(e, alu_condition(e->insn.opcode & 15, e->vcpu->rflags));
}

static int movnti(struct emul *e) { return op_size(e) == 2 ? E_NOSUPP : store_reg(e); }

/* The memory operand, delta bytes on, and what it holds. */
static int read_operand(struct emul *e, u64 delta, unsigned size, u32 access, struct operand *op,
			u64 *value) {
	int err = locked(e) && access != ACCESS_WRITE ? emul_fault(e, X86_UD)
						      : emul_operand(e, delta, size, access, op);

	if (!err) *value = emul_read(e, op);
	return err;
}

/* To a register. */

static int load(struct emul *e, unsigned src_size, u64 *value) {
	struct operand op;

	return read_operand(e, 0, src_size, ACCESS_READ, &op, value);
}

static u64 sign_extend(u64 value, unsigned size) {
	unsigned unused = 64 - 8 * size;

	return (u64)((s64)(value << unused) >> unused);
}

/* The source has src_size bytes; sign-extended or not, it goes into one of the operand size. */
static int load_to(struct emul *e, u8 reg, unsigned src_size, bool is_signed) {
	u64 value;
	int err = load(e, src_size, &value);

	if (!err)
		emul_reg_write(e, reg, op_size(e),
			       is_signed ? sign_extend(value, src_size) : value);
	return err;
}

static int load_reg(struct emul *e) { return load_to(e, e->insn.reg, op_size(e), false); }

static int load_rax(struct emul *e) { return load_to(e, RAX, op_size(e), false); }

/* MOVZX and MOVSX: opcodes B6 and BE (from bytes), B7 and BF (from words). */
static int mov_extend(struct emul *e) {
	u8 opcode = e->insn.opcode;

	return load_to(e, e->insn.reg, opcode & 1 ? 2 : 1, opcode & 8);
}

/* MOVSXD; the same opcode is ARPL outside 64-bit mode. */
static int movsxd(struct emul *e) {
	if (e->mode != MODE_64) return E_NOSUPP;
	return load_to(e, e->insn.reg, op_size(e) == 2 ? 2 : 4, true);
}

/* CMOVcc always reads; a 32-bit one clears the upper half even when the condition is false. */
static int cmovcc(struct emul *e) {
	u64 value;
	int err = load(e, op_size(e), &value);

	if (err) return err;
	if (!alu_condition(e->insn.opcode & 15, e->vcpu->rflags))
		value = emul_reg_read(e, e->insn.reg, op_size(e));
	emul_reg_write(e, e->insn.reg, op_size(e), value);
	return 0;
}

static u64 swap_bytes(u64 value, unsigned size) {
	return __builtin_bswap64(value) >> (64 - 8 * size);
}

/* MOVBE, from memory (F0) and to it (F1); with F2 these opcodes are CRC32. */
static int movbe(struct emul *e) {
	unsigned size = op_size(e);
	u64 value;

	if (e->insn.prefixes & PFX_REPNE) return E_NOSUPP;
	if (e->insn.opcode & 1)
		return store(e, swap_bytes(emul_reg_read(e, e->insn.reg, size), size));
	int err = load(e, size, &value);
	if (!err) emul_reg_write(e, e->insn.reg, size, swap_bytes(value, size));
	return err;
}

/* Arithmetic with the memory operand as destination, or as the first one of a comparison. */

static int modify_at(struct emul *e, u64 delta, unsigned alu, u64 src, u64 *old) {
	u32 access = alu_writes(alu) ? ACCESS_WRITE : ACCESS_READ;
	u64 new, flags = e->vcpu->rflags;
	struct operand op;
	int err = read_operand(e, delta, op_size(e), access, &op, old);

	if (err) return err;
	new = alu_execute(alu, *old, src & size_mask(op_size(e)), op_size(e), &flags);
	/* XCHG is atomic with or without LOCK. */
	if (alu_writes(alu)) err = emul_update(e, &op, *old, new, locked(e) || alu == ALU_MOV);
	if (!err) e->vcpu->rflags = flags;
	return err;
}

static int modify(struct emul *e, unsigned alu, u64 src) {
	u64 old;

	return modify_at(e, 0, alu, src, &old);
}

/* Bits 5:3 of the opcodes 00 to 3B name the operation. */
static unsigned alu_of_opcode(const struct emul *e) { return e->insn.opcode >> 3 & 7; }

static int alu_mem_reg(struct emul *e) {
	return modify(e, alu_of_opcode(e), emul_reg_read(e, e->insn.reg, op_size(e)));
}

static int alu_reg_mem(struct emul *e) {
	u64 value, old, result, flags = e->vcpu->rflags;
	unsigned alu = alu_of_opcode(e);
	int err = load(e, op_size(e), &value);

	if (err) return err;
	old = emul_reg_read(e, e->insn.reg, op_size(e));
	result = alu_execute(alu, old, value, op_size(e), &flags);
	if (alu_writes(alu)) emul_reg_write(e, e->insn.reg, op_size(e), result);
	e->vcpu->rflags = flags;
	return 0;
}

/* Group 1. */
static int alu_mem_imm(struct emul *e) { return modify(e, extension(e), e->insn.imm); }

static int test_reg(struct emul *e) {
	return modify(e, ALU_TEST, emul_reg_read(e, e->insn.reg, op_size(e)));
}

/* Group 3: TEST, TEST, NOT, NEG; multiplication and division are not here. */
static int group3(struct emul *e) {
	switch (extension(e)) {
	case 0:
	case 1: return modify(e, ALU_TEST, e->insn.imm);
	case 2: return modify(e, ALU_NOT, 0);
	case 3: return modify(e, ALU_NEG, 0);
	default: return E_NOSUPP;
	}
}

/* XCHG and XADD: the register gets what the operand was. */
static int exchange(struct emul *e, unsigned alu) {
	u64 old;
	int err = modify_at(e, 0, alu, emul_reg_read(e, e->insn.reg, op_size(e)), &old);

	if (!err) emul_reg_write(e, e->insn.reg, op_size(e), old);
	return err;
}

static int xchg(struct emul *e) { return exchange(e, ALU_MOV); }

static int xadd(struct emul *e) { return exchange(e, ALU_ADD); }

/* CMPXCHG writes in either case: the old value back when it differs from the accumulator. */
static int cmp_xchg(struct emul *e) {
	unsigned size = op_size(e);
	struct operand op;
	u64 old, new, flags = e->vcpu->rflags;
	int err = read_operand(e, 0, size, ACCESS_WRITE, &op, &old);

	if (err) return err;
	alu_execute(ALU_CMP, emul_reg_read(e, RAX, size), old, size, &flags);
	new = flags &RFLAGS_ZF ? emul_reg_read(e, e->insn.reg, size) : old;
	err = emul_update(e, &op, old, new, locked(e));
	if (err) return err;
	if (!(flags & RFLAGS_ZF)) emul_reg_write(e, RAX, size, old);
	e->vcpu->rflags = flags;
	return 0;
}

/* The bit offset in a register is signed and reaches beyond the operand (APM 3, "BT"). */
static int bit_test_reg(struct emul *e) {
	unsigned size = op_size(e), alu = ALU_BT + (e->insn.opcode >> 3 & 3);
	s64 offset = (s64)sign_extend(emul_reg_read(e, e->insn.reg, size), size);
	u64 delta = (u64)(offset >> 3) & ~(u64)(size - 1), old;

	return modify_at(e, delta, alu, BIT((u64)offset & (8 * size - 1)), &old);
}

/* Group 8: extensions 4 to 7. */
static int bit_test_imm(struct emul *e) {
	if (extension(e) < 4) return E_NOSUPP;
	return modify(e, ALU_BT + (extension(e) & 3), BIT(e->insn.imm & (8 * op_size(e) - 1)));
}

/* Stack. */

unsigned emul_stack_width(struct emul *e) {
	struct segment ss;

	if (e->mode == MODE_64) return 8;
	vcpu_segment(e->vcpu, SEG_SS, &ss);
	return ss.attr & SEG_ATTR_DB ? 4 : 2;
}

/* Two operands in memory: which of them the nested fault was for is not known. */
static int push_mem(struct emul *e) {
	unsigned size = op_size(e), width = emul_stack_width(e);
	u64 top = e->vcpu->gpr[RSP] - size;
	struct operand src, stack;

	if (locked(e)) return emul_fault(e, X86_UD);
	e->direct = false;
	int err = emul_operand(e, 0, size, ACCESS_READ, &src)
			  ?: emul_address(e, SEG_SS, top & size_mask(width), size, ACCESS_WRITE,
					  &stack);
	if (err) return err;
	emul_write(e, &stack, emul_read(e, &src));
	emul_reg_write(e, RSP, width, top);
	return 0;
}

/* The destination's address is formed with the RSP that POP leaves (APM 3, "POP"). */
static int pop_mem(struct emul *e) {
	unsigned size = op_size(e), width = emul_stack_width(e);
	u64 top = e->vcpu->gpr[RSP];
	struct operand dst, stack;

	if (extension(e)) return E_NOSUPP;
	if (locked(e)) return emul_fault(e, X86_UD);
	e->direct = false;
	int err = emul_address(e, SEG_SS, top & size_mask(width), size, ACCESS_READ, &stack)
			  ?: emul_operand(e, e->insn.base == RSP ? size : 0, size, ACCESS_WRITE,
					  &dst);
	if (err) return err;
	emul_write(e, &dst, emul_read(e, &stack));
	emul_reg_write(e, RSP, width, top + size);
	return 0;
}

/* Groups 4 and 5: INC, DEC, and PUSH in the latter; no CALL, no JMP. */
static int group5(struct emul *e) {
	switch (extension(e)) {
	case 0: return modify(e, ALU_INC, 0);
	case 1: return modify(e, ALU_DEC, 0);
	case 6: return e->insn.opcode == 0xff ? push_mem(e) : E_NOSUPP;
	default: return E_NOSUPP;
	}
}

/* The four ModRM forms of one arithmetic operation. */
#define ALU_FORMS(op)                                                             \
	[(op)] = alu_mem_reg, [(op) + 1] = alu_mem_reg, [(op) + 2] = alu_reg_mem, \
	[(op) + 3] = alu_reg_mem

static const emul_fn ops_1byte[256] = {
	ALU_FORMS(0x00),
	ALU_FORMS(0x08),
	ALU_FORMS(0x10),
	ALU_FORMS(0x18),
	ALU_FORMS(0x20),
	ALU_FORMS(0x28),
	ALU_FORMS(0x30),
	ALU_FORMS(0x38),
	[0x63] = movsxd,
	[0x80 ... 0x83] = alu_mem_imm,
	[0x84 ... 0x85] = test_reg,
	[0x86 ... 0x87] = xchg,
	[0x88 ... 0x89] = store_reg,
	[0x8a ... 0x8b] = load_reg,
	[0x8f] = pop_mem,
	[0xa0 ... 0xa1] = load_rax,
	[0xa2 ... 0xa3] = store_rax,
	[0xa4 ... 0xa7] = emul_string,
	[0xaa ... 0xaf] = emul_string,
	[0xc6 ... 0xc7] = store_imm,
	[0xf6 ... 0xf7] = group3,
	[0xfe ... 0xff] = group5,
};

static const emul_fn ops_0f[256] = {
	[0x40 ... 0x4f] = cmovcc,     [0x90 ... 0x9f] = setcc,	    [0xa3] = bit_test_reg,
	[0xab] = bit_test_reg,	      [0xb3] = bit_test_reg,	    [0xbb] = bit_test_reg,
	[0xb0 ... 0xb1] = cmp_xchg,   [0xb6 ... 0xb7] = mov_extend, [0xba] = bit_test_imm,
	[0xbe ... 0xbf] = mov_extend, [0xc0 ... 0xc1] = xadd,	    [0xc3] = movnti,
};

emul_fn emul_find(const struct insn *insn) {
	if (insn->attr & INSN_MODRM && insn->mod == 3) return NULL;
	if (likely(insn->map == MAP_1BYTE)) return ops_1byte[insn->opcode];
	if (insn->map == MAP_0F) return ops_0f[insn->opcode];
	if (insn->map == MAP_0F38 && (insn->opcode & 0xfe) == 0xf0) return movbe;
	return NULL;
}
