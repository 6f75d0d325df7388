/* The decoder: the parts of an instruction in their order (APM 3 1.1), by the tables' attributes.
 */
#include "platform/decode.h"

#include "platform/decode_tables.h"

struct cursor {
	const u8 *bytes;
	unsigned at, len;
	unsigned wanted; /* where the first bytes end that were not there; 0: all were */
};

/* True when the next n bytes are there. Once some were not, what is decoded has no meaning. */
static inline bool has(struct cursor *c, unsigned n) {
	if (likely(c->at + n <= c->len)) return true;
	if (!c->wanted) c->wanted = c->at + n;
	return false;
}

/* The next 1, 2, 4 or 8 bytes, little-endian and sign-extended; 0 when they are not there. */
static inline u64 take(struct cursor *c, unsigned size) {
	const u8 *from = c->bytes + c->at;
	s16 value16;
	s32 value32;
	u64 value64;

	if (!has(c, size)) return 0;
	c->at += size;
	switch (size) {
	case 1: return (u64)(s64)(s8)*from;
	case 2: __builtin_memcpy(&value16, from, sizeof(value16)); return (u64)(s64)value16;
	case 4: __builtin_memcpy(&value32, from, sizeof(value32)); return (u64)(s64)value32;
	default: __builtin_memcpy(&value64, from, sizeof(value64)); return value64;
	}
}

/* The next byte as such. */
static inline u8 take_byte(struct cursor *c) { return has(c, 1) ? c->bytes[c->at++] : 0; }

/* Notes one legacy prefix byte. In 64-bit mode the overrides of ES, CS, SS, DS do nothing. */
static void legacy_prefix(struct insn *insn, u8 byte, enum cpu_mode mode) {
	switch (byte) {
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
		if (mode != MODE_64) insn->seg = byte >> 3 & 3;
		break;
	case 0x64:
	case 0x65: insn->seg = byte == 0x64 ? SEG_FS : SEG_GS; break;
	case 0x66: insn->prefixes |= PFX_OPSIZE; break;
	case 0x67: insn->prefixes |= PFX_ADDRSIZE; break;
	case 0xf0: insn->prefixes |= PFX_LOCK; break;
	case 0xf2: insn->prefixes = (u8)((insn->prefixes & ~PFX_REP) | PFX_REPNE); break;
	default: insn->prefixes = (u8)((insn->prefixes & ~PFX_REPNE) | PFX_REP); break;
	}
}

/* Takes all prefixes and the first opcode byte; its attribute. A REX counts only right before it.
 */
static u16 take_prefixes(struct cursor *c, enum cpu_mode mode, struct insn *insn) {
	for (;;) {
		u8 byte = take_byte(c);
		u16 attr = decode_map_1byte[byte];

		if (attr & A_PREFIX) {
			insn->rex = 0;
			legacy_prefix(insn, byte, mode);
		} else if (attr & A_REX && mode == MODE_64) {
			insn->rex = byte;
		} else {
			insn->opcode = byte;
			return attr;
		}
	}
}

/* Goes on from 0F to the opcode proper; its attribute. */
static u16 take_opcode(struct cursor *c, struct insn *insn) {
	insn->map = MAP_0F;
	insn->opcode = take_byte(c);
	if (insn->opcode == 0x78 && insn->prefixes & (PFX_OPSIZE | PFX_REPNE))
		return A_MODRM | A_IMM16; /* EXTRQ, INSERTQ: two bytes, taken as one */
	u16 attr = decode_map_0f[insn->opcode];
	if (likely(!(attr & A_ESCAPE))) return attr;
	insn->map = insn->opcode == 0x38 ? MAP_0F38 : MAP_0F3A;
	insn->opcode = take_byte(c);
	return insn->map == MAP_0F38 ? A_MODRM : A_MODRM | A_IMM8;
}

/* Base and index of 16-bit addressing (APM 3 table A-33). */
static const struct {
	u8 base, index;
} address16[8] = {
	{RBX, RSI},	 {RBX, RDI},	  {RBP, RSI},	   {RBP, RDI},
	{RSI, REG_NONE}, {RDI, REG_NONE}, {RBP, REG_NONE}, {RBX, REG_NONE},
};

/* Sets base and index of a 16-bit address; returns the size of the displacement. */
static unsigned memory16(struct insn *insn) {
	u8 rm = insn->rm & 7;

	if (insn->mod == 0 && rm == 6) return 2;
	insn->base = address16[rm].base;
	insn->index = address16[rm].index;
	return insn->mod;
}

/* The same for 32 and 64 bits, with the SIB byte. */
static unsigned memory32(struct cursor *c, enum cpu_mode mode, struct insn *insn) {
	static const u8 disp_size[3] = {0, 1, 4};

	if ((insn->rm & 7) != 4) {
		if (insn->mod == 0 && (insn->rm & 7) == 5) {
			insn->base = mode == MODE_64 ? REG_RIP : REG_NONE;
			return 4;
		}
		insn->base = insn->rm;
		return disp_size[insn->mod];
	}
	u8 sib = take_byte(c);
	insn->scale = sib >> 6;
	insn->index = (u8)((sib >> 3 & 7) | (insn->rex & REX_X) << 2);
	if (insn->index == RSP) insn->index = REG_NONE;
	if (insn->mod == 0 && (sib & 7) == 5) return 4;
	insn->base = (u8)((sib & 7) | (insn->rex & REX_B) << 3);
	return disp_size[insn->mod];
}

static void take_modrm(struct cursor *c, enum cpu_mode mode, struct insn *insn, u16 attr) {
	u8 byte = take_byte(c);

	insn->mod = attr & A_REGS ? 3 : byte >> 6;
	insn->reg = (u8)((byte >> 3 & 7) | (insn->rex & REX_R) << 1);
	insn->rm = (u8)((byte & 7) | (insn->rex & REX_B) << 3);
	if (insn->mod == 3) return;
	unsigned size = insn->addr_size == 2 ? memory16(insn) : memory32(c, mode, insn);
	if (size) insn->disp = (s32)take(c, size);
}

/* Bytes of the first immediate. */
static unsigned immediate_size(const struct insn *insn, u16 kind) {
	switch (kind) {
	case A_IMM8: return 1;
	case A_IMM16:
	case A_IMM16_8: return 2;
	case A_IMMV: return insn->op_size;
	case A_MOFFS: return insn->addr_size;
	default: return insn->op_size == 2 ? 2 : 4;
	}
}

static void take_immediates(struct cursor *c, struct insn *insn, u16 attr) {
	u16 kind = attr & A_IMM;
	unsigned first = immediate_size(insn, kind);
	unsigned second = kind == A_FAR ? 2 : kind == A_IMM16_8; /* nobody asks what they are */

	if ((attr & A_GROUP3 && (insn->reg & 7) > 1) || !has(c, first + second)) return;
	insn->imm = take(c, first);
	/* Addresses and the sizes that RET and ENTER have are not signed. */
	if (kind >= A_IMM16 && first < 8) insn->imm &= (1ul << (8 * first)) - 1;
	c->at += second;
}

/* Operand size by mode, prefixes and the opcode's own rules (APM 3 1.2.2 and 2.5). */
static u8 operand_size(const struct insn *insn, enum cpu_mode mode, u16 attr) {
	bool prefixed = insn->prefixes & PFX_OPSIZE;

	if (attr & A_BYTE) return 1;
	if (mode != MODE_64) return attr & A_REGS ? 4 : (mode == MODE_32) != prefixed ? 4 : 2;
	if (attr & A_REGS || insn->rex & REX_W) return 8;
	if (prefixed) return 2;
	return attr & A_D64 ? 8 : 4;
}

static u8 address_size(u8 prefixes, enum cpu_mode mode) {
	static const u8 sizes[3][2] = {{2, 4}, {4, 2}, {8, 4}};

	return sizes[mode][!!(prefixes & PFX_ADDRSIZE)];
}

int decode(const u8 *bytes, unsigned len, enum cpu_mode mode, struct insn *out) {
	struct cursor c = {bytes, 0, len < INSN_MAX_LEN ? len : INSN_MAX_LEN, 0};

	*out = (struct insn){.seg = REG_NONE, .base = REG_NONE, .index = REG_NONE};
	u16 attr = take_prefixes(&c, mode, out);
	if (unlikely(attr & A_ESCAPE)) attr = take_opcode(&c, out);
	if (unlikely(attr & A_UNDEF || (attr & A_NO64 && mode == MODE_64)) && !c.wanted)
		return E_NOSUPP;
	out->attr = attr & INSN_MODRM;
	out->addr_size = address_size(out->prefixes, mode);
	out->rm = (u8)((out->opcode & 7) | (out->rex & REX_B) << 3);
	if (attr & A_MODRM) {
		take_modrm(&c, mode, out, attr);
		/* Group 5: CALL, JMP near (2, 4) and PUSH (6) are 64-bit by default. */
		if (out->opcode == 0xff && out->map == MAP_1BYTE && out->reg & 6 && !(out->reg & 1))
			attr |= A_D64;
	}
	out->op_size = operand_size(out, mode, attr);
	if (attr & A_IMM) take_immediates(&c, out, attr);
	if (unlikely(c.wanted)) /* too long for any processor, or just not given */
		return c.wanted > INSN_MAX_LEN ? E_INVAL : E_TRUNC;
	out->length = (u8)c.at;
	return 0;
}
