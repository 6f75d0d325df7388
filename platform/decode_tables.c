/*
 * What follows each opcode of the one-byte and the 0F map (APM 3 appendix A, SDM 2D appendix A).
 * Every opcode has an entry; one without operand bytes is 0. The 0F38 map is uniform (ModRM), and
 * so is 0F3A (ModRM and one immediate byte), so they need no table.
 */
#include "platform/decode_tables.h"

#define MB  (A_MODRM | A_BYTE)
#define M8  (A_MODRM | A_IMM8)
#define MB8 (A_MODRM | A_IMM8 | A_BYTE)

/* Six opcodes of one arithmetic operation, and the two others of its row. */
#define ARITH(op, x6, x7)                                                             \
	[(op) + 0] = MB, [(op) + 1] = A_MODRM, [(op) + 2] = MB, [(op) + 3] = A_MODRM, \
		[(op) + 4] = A_IMM8 | A_BYTE, [(op) + 5] = A_IMMZ, [(op) + 6] = (x6), \
		[(op) + 7] = (x7)

#define STACK_SEG (A_NO64 | A_D64)  /* PUSH and POP of a segment register */
#define ADJUST	  (A_NO64 | A_BYTE) /* DAA, DAS, AAA, AAS */

/* The forms of one operation for bytes and for larger operands. */
#define BOTH(op) [(op)] = MB, [(op) + 1] = A_MODRM

const u16 decode_map_1byte[256] = {
	ARITH(0x00, STACK_SEG, STACK_SEG),
	ARITH(0x08, STACK_SEG, A_ESCAPE),
	ARITH(0x10, STACK_SEG, STACK_SEG),
	ARITH(0x18, STACK_SEG, STACK_SEG),
	ARITH(0x20, A_PREFIX, ADJUST),
	ARITH(0x28, A_PREFIX, ADJUST),
	ARITH(0x30, A_PREFIX, ADJUST),
	ARITH(0x38, A_PREFIX, ADJUST),

	[0x40 ... 0x4f] = A_REX,     /* INC, DEC outside 64-bit mode */
	[0x50 ... 0x5f] = A_D64,     /* PUSH, POP */
	[0x60 ... 0x61] = A_NO64,    /* PUSHA, POPA */
	[0x62] = A_MODRM | A_ESCAPE, /* BOUND or EVEX */
	[0x63] = A_MODRM,	     /* ARPL, MOVSXD */
	[0x64 ... 0x67] = A_PREFIX,
	[0x68] = A_IMMZ | A_D64,
	[0x69] = A_MODRM | A_IMMZ,
	[0x6a] = A_IMM8 | A_D64,
	[0x6b] = M8,
	[0x6c] = A_BYTE,
	[0x6e] = A_BYTE, /* INS, OUTS */
	[0x70 ... 0x7f] = A_IMM8 | A_D64,

	[0x80] = MB8,
	[0x81] = A_MODRM | A_IMMZ,
	[0x82] = MB8 | A_NO64,
	[0x83] = M8,
	BOTH(0x84),
	BOTH(0x86),
	BOTH(0x88),
	BOTH(0x8a),
	[0x8c ... 0x8e] = A_MODRM,
	[0x8f] = A_MODRM | A_D64 | A_ESCAPE, /* POP or XOP */
	[0x9a] = A_FAR | A_NO64,
	[0x9c ... 0x9d] = A_D64, /* PUSHF, POPF */
	[0xa0] = A_MOFFS | A_BYTE,
	[0xa1] = A_MOFFS,
	[0xa2] = A_MOFFS | A_BYTE,
	[0xa3] = A_MOFFS,
	[0xa4] = A_BYTE,
	[0xa6] = A_BYTE,
	[0xa8] = A_IMM8 | A_BYTE,
	[0xa9] = A_IMMZ,
	[0xaa] = A_BYTE,
	[0xac] = A_BYTE,
	[0xae] = A_BYTE,
	[0xb0 ... 0xb7] = A_IMM8 | A_BYTE,
	[0xb8 ... 0xbf] = A_IMMV,

	[0xc0] = MB8,
	[0xc1] = M8,
	[0xc2] = A_IMM16 | A_D64,
	[0xc3] = A_D64,
	[0xc4 ... 0xc5] = A_MODRM | A_ESCAPE, /* LES, LDS or VEX */
	[0xc6] = MB8,
	[0xc7] = A_MODRM | A_IMMZ,
	[0xc8] = A_IMM16_8 | A_D64,
	[0xc9] = A_D64,
	[0xca] = A_IMM16,
	[0xcd] = A_IMM8,
	[0xce] = A_NO64,
	BOTH(0xd0),
	BOTH(0xd2),
	[0xd4 ... 0xd5] = A_IMM8 | A_NO64,
	[0xd6] = A_NO64,
	[0xd7] = A_BYTE,
	[0xd8 ... 0xdf] = A_MODRM, /* x87 */
	[0xe0 ... 0xe3] = A_IMM8 | A_D64,
	[0xe4] = A_IMM8 | A_BYTE,
	[0xe5] = A_IMM8,
	[0xe6] = A_IMM8 | A_BYTE,
	[0xe7] = A_IMM8,
	[0xe8 ... 0xe9] = A_IMMZ | A_D64,
	[0xea] = A_FAR | A_NO64,
	[0xeb] = A_IMM8 | A_D64,
	[0xec] = A_BYTE,
	[0xee] = A_BYTE,
	[0xf0] = A_PREFIX,
	[0xf2 ... 0xf3] = A_PREFIX,
	[0xf6] = MB | A_IMM8 | A_GROUP3,
	[0xf7] = A_MODRM | A_IMMZ | A_GROUP3,
	BOTH(0xfe), /* PUSH, CALL and JMP in it default to 64 bits: decode() knows */
};

const u16 decode_map_0f[256] = {
	[0x00 ... 0x03] = A_MODRM,
	[0x04] = A_UNDEF,
	[0x0a] = A_UNDEF,
	[0x0c] = A_UNDEF,
	[0x0d] = A_MODRM,
	[0x0f] = M8, /* 3DNow!: the last byte is the opcode proper */
	[0x10 ... 0x1f] = A_MODRM,
	[0x20 ... 0x23] = A_MODRM | A_REGS,
	[0x24 ... 0x27] = A_UNDEF,
	[0x28 ... 0x2f] = A_MODRM,
	[0x36] = A_UNDEF,
	[0x38] = A_ESCAPE,
	[0x39] = A_UNDEF,
	[0x3a] = A_ESCAPE,
	[0x3b ... 0x3f] = A_UNDEF,
	[0x40 ... 0x6f] = A_MODRM,
	[0x70 ... 0x73] = M8,
	[0x74 ... 0x76] = A_MODRM,
	[0x78 ... 0x79] = A_MODRM, /* SSE4a's immediates: decode() knows */
	[0x7a ... 0x7b] = A_UNDEF,
	[0x7c ... 0x7f] = A_MODRM,
	[0x80 ... 0x8f] = A_IMMZ | A_D64,
	[0x90 ... 0x9f] = MB,
	[0xa0 ... 0xa1] = A_D64,
	[0xa3] = A_MODRM,
	[0xa4] = M8,
	[0xa5] = A_MODRM,
	[0xa6 ... 0xa7] = A_UNDEF,
	[0xa8 ... 0xa9] = A_D64,
	[0xab] = A_MODRM,
	[0xac] = M8,
	[0xad ... 0xaf] = A_MODRM,
	[0xb0] = MB,
	[0xb1 ... 0xb9] = A_MODRM,
	[0xba] = M8,
	[0xbb ... 0xbf] = A_MODRM,
	[0xc0] = MB,
	[0xc1] = A_MODRM,
	[0xc2] = M8,
	[0xc3] = A_MODRM,
	[0xc4 ... 0xc6] = M8,
	[0xc7] = A_MODRM,
	[0xd0 ... 0xff] = A_MODRM,
};
