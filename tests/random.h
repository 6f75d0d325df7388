/* Random numbers for tests: the same in each run (Marsaglia's xorshift). */
#pragma once

#include "lib/types.h"

static inline u64 rig_random(void) {
	static u64 state = 88172645463325252ul;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static inline u64 rig_below(u64 limit) { return rig_random() % limit; }
