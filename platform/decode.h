/*
 * The x86 instruction decoder: the length and the parts of every instruction of the one-byte and 0F
 * maps. It has no state. VEX, EVEX and XOP encodings it takes for what they are outside of 64-bit
 * mode (LES, LDS, BOUND, POP with a wrong ModRM), or for none: nothing here could execute them.
 *
 * Where the vendors differ it follows AMD: a near branch with an operand-size prefix in 64-bit mode
 * has a 16-bit displacement (APM 3, "Jcc").
 */
#pragma once

#include "kernel/vcpu.h"

#define INSN_MAX_LEN 15

/* What the code segment says: 16-bit (real, virtual-8086 and 16-bit protected mode), 32, 64. */
enum cpu_mode { MODE_16, MODE_32, MODE_64 };

enum opcode_map { MAP_1BYTE, MAP_0F, MAP_0F38, MAP_0F3A };

/* Bits of insn.prefixes. Of REP and REPNE at most one is set: the last that was there. */
#define PFX_OPSIZE   0x01u /* 66 */
#define PFX_ADDRSIZE 0x02u /* 67 */
#define PFX_LOCK     0x04u /* F0 */
#define PFX_REPNE    0x08u /* F2 */
#define PFX_REP	     0x10u /* F3 */

/* Bits of insn.rex. */
#define REX_B 0x01u
#define REX_X 0x02u
#define REX_R 0x04u
#define REX_W 0x08u

/* Values of insn.base, insn.index and insn.seg beside register numbers. */
#define REG_NONE 0xffu
#define REG_RIP	 0x10u

/* Bits of insn.attr, that callers may use; the others are the decoder's. */
#define INSN_MODRM 0x0001u /* there is a ModRM byte */

struct insn {
	u64 imm;   /* first immediate, branch displacement (both sign-extended) or moffs address */
	s32 disp;  /* of the memory operand, sign-extended; 0 when there is none */
	u16 attr;  /* INSN_MODRM */
	u8 length; /* in bytes, 1 to 15 */
	u8 map;	   /* enum opcode_map */
	u8 opcode; /* last opcode byte */
	u8 prefixes;  /* PFX_ */
	u8 rex;	      /* REX_ */
	u8 seg;	      /* segment override as enum seg, else REG_NONE */
	u8 op_size;   /* operand size in bytes: 1 when the opcode works on bytes, else 2, 4, 8 */
	u8 addr_size; /* address size in bytes: 2, 4, 8 */
	u8 mod;	      /* 3: the operand is the register rm */
	u8 reg;	      /* ModRM.reg, extended by REX.R; opcode extensions use the low 3 bits */
	u8 rm;	      /* ModRM.rm, extended by REX.B; without ModRM the opcode's low 3 bits */
	u8 base;      /* of the memory operand: a register, REG_RIP or REG_NONE */
	u8 index;     /* a register or REG_NONE */
	u8 scale;     /* 0 to 3: the index counts 1, 2, 4 or 8 times */
};

/*
 * Decodes one instruction from the first len bytes. Returns 0; E_TRUNC when it goes on past len;
 * E_INVAL when it is longer than 15 bytes (#GP on a processor); E_NOSUPP when there is no such
 * opcode in this mode (#UD). *out is only meaningful with 0; else its length is 0.
 */
int decode(const u8 *bytes, unsigned len, enum cpu_mode mode, struct insn *out) __must_check;

/* True when the ModRM operand is in memory. */
static inline bool insn_has_memory(const struct insn *insn) {
	return (insn->attr & INSN_MODRM) && insn->mod != 3;
}
