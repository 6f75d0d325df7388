/* 64-bit scaling with a 128-bit intermediate, without the compiler's library functions. */
#pragma once

#include "lib/types.h"

/* value * mul / div, rounded down; saturates at 2^64-1. div is not 0. */
static inline u64 mul_div(u64 value, u64 mul, u64 div) {
	unsigned __int128 product = (unsigned __int128)value * mul;
	u64 low = (u64)product, high = (u64)(product >> 64);

	if (high >= div) return ~0ul;
	__asm__("divq %2" : "+a"(low), "+d"(high) : "rm"(div) : "cc");
	return low;
}
