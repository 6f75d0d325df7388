/* Results and flags of the arithmetic instructions (APM 3, each instruction's "rFLAGS Affected").
 */
#include "platform/emulate_internal.h"

#define FLAGS_RESULT (RFLAGS_PF | RFLAGS_ZF | RFLAGS_SF)
#define FLAGS_ALL    (RFLAGS_CF | RFLAGS_AF | RFLAGS_OF | FLAGS_RESULT)

/* PF, ZF and SF of a result. */
static u64 result_flags(u64 result, unsigned size)
{
	u64 flags = 0;

	result &= size_mask(size);
	if (!__builtin_parity((u32)result & 0xff))
		flags |= RFLAGS_PF;
	if (!result)
		flags |= RFLAGS_ZF;
	if (result >> (8 * size - 1))
		flags |= RFLAGS_SF;
	return flags;
}

static u64 carry_flags(u64 carries, u64 overflow, unsigned size)
{
	unsigned top = 8 * size - 1;

	return (carries >> top & 1 ? RFLAGS_CF : 0) | (carries & 8 ? RFLAGS_AF : 0) |
	       (overflow >> top & 1 ? RFLAGS_OF : 0);
}

/* The carry out of each bit position is the majority of both operands and the inverted sum. */
static u64 add(u64 dst, u64 src, u64 carry, unsigned size, u64 *flags)
{
	u64 sum = dst + src + carry;
	u64 carries = (dst & src) | ((dst | src) & ~sum);

	*flags = carry_flags(carries, (dst ^ sum) & (src ^ sum), size) | result_flags(sum, size);
	return sum;
}

static u64 subtract(u64 dst, u64 src, u64 borrow, unsigned size, u64 *flags)
{
	u64 rest = dst - src - borrow;
	u64 borrows = (~dst & src) | (~(dst ^ src) & rest);

	*flags = carry_flags(borrows, (dst ^ src) & (dst ^ rest), size) | result_flags(rest, size);
	return rest;
}

/* AND, OR, XOR, TEST: CF and OF are 0; AF is undefined and 0 on the processors at hand. */
static u64 logical(u64 result, unsigned size, u64 *flags)
{
	*flags = result_flags(result, size);
	return result;
}

u64 alu_execute(enum alu_op op, u64 dst, u64 src, unsigned size, u64 *rflags)
{
	u64 carry = *rflags & RFLAGS_CF, affected = FLAGS_ALL, flags = 0, result = dst;

	switch (op) {
	case ALU_ADD:
		result = add(dst, src, 0, size, &flags);
		break;
	case ALU_ADC:
		result = add(dst, src, carry, size, &flags);
		break;
	case ALU_SBB:
		result = subtract(dst, src, carry, size, &flags);
		break;
	case ALU_SUB:
		result = subtract(dst, src, 0, size, &flags);
		break;
	case ALU_CMP:
		subtract(dst, src, 0, size, &flags);
		break;
	case ALU_OR:
		result = logical(dst | src, size, &flags);
		break;
	case ALU_AND:
		result = logical(dst & src, size, &flags);
		break;
	case ALU_XOR:
		result = logical(dst ^ src, size, &flags);
		break;
	case ALU_TEST:
		logical(dst & src, size, &flags);
		break;
	case ALU_INC:
		result = add(dst, 1, 0, size, &flags);
		affected &= ~RFLAGS_CF;
		break;
	case ALU_DEC:
		result = subtract(dst, 1, 0, size, &flags);
		affected &= ~RFLAGS_CF;
		break;
	case ALU_NEG:
		result = subtract(0, dst, 0, size, &flags);
		break;
	case ALU_NOT:
		result = ~dst;
		affected = 0;
		break;
	}
	*rflags = (*rflags & ~affected) | (flags & affected);
	return result & size_mask(size);
}

bool alu_condition(u8 code, u64 rflags)
{
	bool cf = rflags & RFLAGS_CF, zf = rflags & RFLAGS_ZF;
	bool less = !(rflags & RFLAGS_SF) != !(rflags & RFLAGS_OF);
	bool base;

	switch (code >> 1) {
	case 0:
		base = rflags & RFLAGS_OF;
		break;
	case 1:
		base = cf;
		break;
	case 2:
		base = zf;
		break;
	case 3:
		base = cf || zf;
		break;
	case 4:
		base = rflags & RFLAGS_SF;
		break;
	case 5:
		base = rflags & RFLAGS_PF;
		break;
	case 6:
		base = less;
		break;
	default:
		base = less || zf;
		break;
	}
	return base != (code & 1);
}
