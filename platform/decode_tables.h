/* The tables of the decoder: what follows each opcode. For platform/decode*.c only. */
#pragma once

#include "platform/decode.h"

#define A_MODRM	  INSN_MODRM
#define A_IMM	  0x000eu /* the kind of immediate, one of: */
#define A_IMM8	  0x0002u /* one byte, sign-extended */
#define A_IMMZ	  0x0004u /* 2 or 4 bytes, by operand size, sign-extended */
#define A_IMMV	  0x0006u /* 2, 4 or 8 bytes, by operand size */
#define A_IMM16	  0x0008u /* 2 bytes */
#define A_IMM16_8 0x000au /* 2 bytes and one: ENTER */
#define A_FAR	  0x000cu /* A_IMMZ and a selector: far pointer */
#define A_MOFFS	  0x000eu /* an address of the address size */
#define A_BYTE	  0x0080u /* operands are bytes */
#define A_D64	  0x0100u /* in 64-bit mode the operand size is 64 unless prefixed to 16 */
#define A_NO64	  0x0200u /* undefined in 64-bit mode */
#define A_PREFIX  0x0400u /* not an opcode but a legacy prefix */
#define A_ESCAPE  0x0800u /* 0F, or 0F38 or 0F3A behind it */
#define A_GROUP3  0x1000u /* has the immediate for ModRM.reg 0 and 1 only: TEST */
#define A_UNDEF	  0x2000u /* no such opcode */
#define A_REGS	  0x4000u /* MOV CR/DR: ModRM names registers whatever mod is; native size */
#define A_REX	  0x8000u /* a REX prefix in 64-bit mode */

extern const u16 decode_map_1byte[256];
extern const u16 decode_map_0f[256];
