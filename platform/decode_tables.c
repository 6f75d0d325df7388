/*
 * What follows each opcode of the one-byte and the 0F map (APM 3 appendix A, SDM 2D appendix A).
 * Every opcode has an entry; one without operand bytes is 0. The 0F38 map is uniform (ModRM), and
 * so is 0F3A (ModRM and one immediate byte), so they need no table.
 */
#include "platform/decode_tables.h"

#define b   A_BYTE
#define M   A_MODRM
#define Mb  (A_MODRM | A_BYTE)
#define MI8 (A_MODRM | A_IMM8)
#define MIb (A_MODRM | A_IMM8 | A_BYTE)
#define MIz (A_MODRM | A_IMMZ)
#define MR  (A_MODRM | A_REGS)
#define I8  A_IMM8
#define Ib  (A_IMM8 | A_BYTE)
#define I16 A_IMM16
#define Iz  A_IMMZ
#define Iv  A_IMMV
#define O   A_MOFFS
#define Ob  (A_MOFFS | A_BYTE)
#define D   A_D64
#define J8  (A_IMM8 | A_D64) /* jumps, LOOP, PUSH */
#define Jz  (A_IMMZ | A_D64)
#define SG  (A_NO64 | A_D64)  /* PUSH and POP of a segment register */
#define AJ  (A_NO64 | A_BYTE) /* DAA, DAS, AAA, AAS */
#define N6  A_NO64
#define N6I (A_NO64 | A_IMM8) /* AAM, AAD */
#define N6M (A_NO64 | MIb)
#define FAR (A_NO64 | A_FAR)
#define RET (A_IMM16 | A_D64)
#define ENT (A_IMM16_8 | A_D64)
#define G3  (A_MODRM | A_IMMZ | A_GROUP3)
#define G3b (A_MODRM | A_IMM8 | A_BYTE | A_GROUP3)
#define PF  A_PREFIX
#define RX  A_REX /* outside of 64-bit mode INC and DEC */
#define ES  A_ESCAPE
#define N6R (A_NO64 | A_MODRM) /* BOUND, LES, LDS; in 64-bit mode EVEX and VEX */
#define POP (A_MODRM | A_D64)
#define UD  A_UNDEF

/* PUSH, CALL and JMP in FF default to 64 bits: decode() knows. */
const u16 decode_map_1byte[256] = {
	Mb,  M,	  Mb,  M,   Ib,	 Iz,  SG,  SG,	Mb,  M,	  Mb,  M,   Ib, Iz, SG, ES,  /* 00 */
	Mb,  M,	  Mb,  M,   Ib,	 Iz,  SG,  SG,	Mb,  M,	  Mb,  M,   Ib, Iz, SG, SG,  /* 10 */
	Mb,  M,	  Mb,  M,   Ib,	 Iz,  PF,  AJ,	Mb,  M,	  Mb,  M,   Ib, Iz, PF, AJ,  /* 20 */
	Mb,  M,	  Mb,  M,   Ib,	 Iz,  PF,  AJ,	Mb,  M,	  Mb,  M,   Ib, Iz, PF, AJ,  /* 30 */
	RX,  RX,  RX,  RX,  RX,	 RX,  RX,  RX,	RX,  RX,  RX,  RX,  RX, RX, RX, RX,  /* 40 */
	D,   D,	  D,   D,   D,	 D,   D,   D,	D,   D,	  D,   D,   D,	D,  D,	D,   /* 50 */
	N6,  N6,  N6R, M,   PF,	 PF,  PF,  PF,	Jz,  MIz, J8,  MI8, b,	0,  b,	0,   /* 60 */
	J8,  J8,  J8,  J8,  J8,	 J8,  J8,  J8,	J8,  J8,  J8,  J8,  J8, J8, J8, J8,  /* 70 */
	MIb, MIz, N6M, MI8, Mb,	 M,   Mb,  M,	Mb,  M,	  Mb,  M,   M,	M,  M,	POP, /* 80 */
	0,   0,	  0,   0,   0,	 0,   0,   0,	0,   0,	  FAR, 0,   D,	D,  0,	0,   /* 90 */
	Ob,  O,	  Ob,  O,   b,	 0,   b,   0,	Ib,  Iz,  b,   0,   b,	0,  b,	0,   /* A0 */
	Ib,  Ib,  Ib,  Ib,  Ib,	 Ib,  Ib,  Ib,	Iv,  Iv,  Iv,  Iv,  Iv, Iv, Iv, Iv,  /* B0 */
	MIb, MI8, RET, D,   N6R, N6R, MIb, MIz, ENT, D,	  I16, 0,   0,	I8, N6, 0,   /* C0 */
	Mb,  M,	  Mb,  M,   N6I, N6I, N6,  b,	M,   M,	  M,   M,   M,	M,  M,	M,   /* D0 */
	J8,  J8,  J8,  J8,  Ib,	 I8,  Ib,  I8,	Jz,  Jz,  FAR, J8,  b,	0,  b,	0,   /* E0 */
	PF,  0,	  PF,  PF,  0,	 0,   G3b, G3,	0,   0,	  0,   0,   0,	0,  Mb, M,   /* F0 */
};

/* 0F ends in an opcode proper (3DNow!), which MI8 takes; 78's SSE4a immediates decode() knows. */
const u16 decode_map_0f[256] = {
	M,   M,	  M,   M,   UD,	 0,   0,   0,  0,  0,  UD,  0,	UD,  M,	 0,  MI8, /* 00 */
	M,   M,	  M,   M,   M,	 M,   M,   M,  M,  M,  M,   M,	M,   M,	 M,  M,	  /* 10 */
	MR,  MR,  MR,  MR,  UD,	 UD,  UD,  UD, M,  M,  M,   M,	M,   M,	 M,  M,	  /* 20 */
	0,   0,	  0,   0,   0,	 0,   UD,  0,  ES, UD, ES,  UD, UD,  UD, UD, UD,  /* 30 */
	M,   M,	  M,   M,   M,	 M,   M,   M,  M,  M,  M,   M,	M,   M,	 M,  M,	  /* 40 */
	M,   M,	  M,   M,   M,	 M,   M,   M,  M,  M,  M,   M,	M,   M,	 M,  M,	  /* 50 */
	M,   M,	  M,   M,   M,	 M,   M,   M,  M,  M,  M,   M,	M,   M,	 M,  M,	  /* 60 */
	MI8, MI8, MI8, MI8, M,	 M,   M,   0,  M,  M,  UD,  UD, M,   M,	 M,  M,	  /* 70 */
	Jz,  Jz,  Jz,  Jz,  Jz,	 Jz,  Jz,  Jz, Jz, Jz, Jz,  Jz, Jz,  Jz, Jz, Jz,  /* 80 */
	Mb,  Mb,  Mb,  Mb,  Mb,	 Mb,  Mb,  Mb, Mb, Mb, Mb,  Mb, Mb,  Mb, Mb, Mb,  /* 90 */
	D,   D,	  0,   M,   MI8, M,   UD,  UD, D,  D,  0,   M,	MI8, M,	 M,  M,	  /* A0 */
	Mb,  M,	  M,   M,   M,	 M,   M,   M,  M,  M,  MI8, M,	M,   M,	 M,  M,	  /* B0 */
	Mb,  M,	  MI8, M,   MI8, MI8, MI8, M,  0,  0,  0,   0,	0,   0,	 0,  0,	  /* C0 */
	M,   M,	  M,   M,   M,	 M,   M,   M,  M,  M,  M,   M,	M,   M,	 M,  M,	  /* D0 */
	M,   M,	  M,   M,   M,	 M,   M,   M,  M,  M,  M,   M,	M,   M,	 M,  M,	  /* E0 */
	M,   M,	  M,   M,   M,	 M,   M,   M,  M,  M,  M,   M,	M,   M,	 M,  M,	  /* F0 */
};
