/* Results and flags of arithmetic instructions (APM 3, each one's "rFLAGS Affected"). */
#include "platform/emulate_internal.h"

#define FLAGS_RESULT (RFLAGS_PF | RFLAGS_ZF | RFLAGS_SF)
#define FLAGS_ALL    (RFLAGS_CF | RFLAGS_AF | RFLAGS_OF | FLAGS_RESULT)

/* PF, ZF and SF of a result. */
static u64 result_flags(u64 result, unsigned size) {
	u64 flags = 0;

	result &= size_mask(size);
	if (!__builtin_parity((u32)result & 0xff)) flags |= RFLAGS_PF;
	if (!result) flags |= RFLAGS_ZF;
	if (result >> (8 * size - 1)) flags |= RFLAGS_SF;
	return flags;
}

static u64 carry_flags(u64 carries, u64 overflow, unsigned size) {
	unsigned top = 8 * size - 1;

	return (carries >> top & 1 ? RFLAGS_CF : 0) | (carries & 8 ? RFLAGS_AF : 0) |
	       (overflow >> top & 1 ? RFLAGS_OF : 0);
}

/* The carry out of each bit position is the majority of both operands and the inverted sum. */
static u64 add(u64 dst, u64 src, u64 carry, unsigned size, u64 *flags) {
	u64 sum = dst + src + carry;
	u64 carries = (dst & src) | ((dst | src) & ~sum);

	*flags = carry_flags(carries, (dst ^ sum) & (src ^ sum), size) | result_flags(sum, size);
	return sum;
}

static u64 subtract(u64 dst, u64 src, u64 borrow, unsigned size, u64 *flags) {
	u64 rest = dst - src - borrow;
	u64 borrows = (~dst & src) | (~(dst ^ src) & rest);

	*flags = carry_flags(borrows, (dst ^ src) & (dst ^ rest), size) | result_flags(rest, size);
	return rest;
}

/* These clear CF and OF; AF is undefined and 0 on the processors at hand. */
static u64 logic(u64 result, unsigned size, u64 *flags) {
	*flags = result_flags(result, size);
	return result;
}

u64 alu_execute(unsigned op, u64 dst, u64 src, unsigned size, u64 *rflags) {
	u64 carry = *rflags & RFLAGS_CF, affected = FLAGS_ALL, flags = 0, result = dst;

	switch (op) {
	case ALU_ADD:
	case ALU_ADC: result = add(dst, src, op == ALU_ADC ? carry : 0, size, &flags); break;
	case ALU_SUB:
	case ALU_SBB: result = subtract(dst, src, op == ALU_SBB ? carry : 0, size, &flags); break;
	case ALU_CMP: subtract(dst, src, 0, size, &flags); break;
	case ALU_OR: result = logic(dst | src, size, &flags); break;
	case ALU_AND: result = logic(dst & src, size, &flags); break;
	case ALU_XOR: result = logic(dst ^ src, size, &flags); break;
	case ALU_TEST: logic(dst & src, size, &flags); break;
	case ALU_INC: result = add(dst, 1, 0, size, &flags); break;
	case ALU_DEC: result = subtract(dst, 1, 0, size, &flags); break;
	case ALU_NEG: result = subtract(0, dst, 0, size, &flags); break;
	case ALU_NOT: return ~dst & size_mask(size);
	case ALU_MOV: return src & size_mask(size);
	default: /* BT and its relatives */
		result = op == ALU_BTS ? dst | src : op == ALU_BTR ? dst & ~src : dst ^ src;
		if (op == ALU_BT) result = dst;
		flags = dst & src ? RFLAGS_CF : 0;
		affected = RFLAGS_CF;
		break;
	}
	if (op == ALU_INC || op == ALU_DEC) affected &= ~RFLAGS_CF;
	*rflags = (*rflags & ~affected) | (flags & affected);
	return result & size_mask(size);
}

bool alu_condition(u8 code, u64 rflags) {
	/* Any of these flags makes the condition true; the last two add SF != OF to it. */
	static const u8 any[8] = {0,	     RFLAGS_CF, RFLAGS_ZF, RFLAGS_CF | RFLAGS_ZF,
				  RFLAGS_SF, RFLAGS_PF, 0,	   RFLAGS_ZF};
	bool of = rflags & RFLAGS_OF, less = of != !!(rflags & RFLAGS_SF);
	bool base = rflags & any[code >> 1];

	if (code < 2)
		base = of;
	else if (code >= 12)
		base = base || less;
	return base != (code & 1);
}
