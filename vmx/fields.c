/*
 * From the encoding of a VMCS field, as a guest chose it, to its place in struct vmcs_values: a
 * table of all that an encoding can be. One that is no field leads nowhere.
 */
#include "vmx/fields.h"

#define AT(name)		    (u8)(offsetof(struct vmcs_values, name) / sizeof(u64))
#define RUN_ONE(encoding, name)	    {encoding, 1, AT(name), #name},
#define RUN_MANY(encoding, name, n) {encoding, n, AT(name), #name},

_Static_assert(sizeof(struct vmcs_values) / sizeof(u64) <= 256, "a byte counts them");

const struct vmcs_run vmcs_runs[] = {VMCS_FIELDS(RUN_ONE, RUN_MANY)};
const unsigned vmcs_nr_runs = ARRAY_SIZE(vmcs_runs);

/* Numbers of the runs, from 1 on, by what an encoding is made of: 2 bits, 2 bits, 5 bits. */
#define SLOT_BITS		0x6c3eul
#define SLOT(e)			(((e) >> 13 & 3) << 7 | ((e) >> 10 & 3) << 5 | ((e) >> 1 & 31))
#define NUMBER_ONE(e, name)	RUN_##name,
#define NUMBER_MANY(e, name, n) RUN_##name,
#define SLOT_ONE(e, name)	[SLOT(e)] = RUN_##name,
#define SLOT_MANY(e, name, n)	[SLOT(e)... SLOT(e) + (n)-1] = RUN_##name,

enum { NO_RUN, VMCS_FIELDS(NUMBER_ONE, NUMBER_MANY) };
static const u8 slots[512] = {VMCS_FIELDS(SLOT_ONE, SLOT_MANY)};

const struct vmcs_run *vmcs_run_of(u64 encoding) {
	if (encoding & ~SLOT_BITS) return NULL;
	u8 number = slots[SLOT(encoding)];
	return number ? &vmcs_runs[number - 1] : NULL;
}

u64 *vmcs_values_at(struct vmcs_values *values, u64 encoding) {
	const struct vmcs_run *run = vmcs_run_of(encoding);

	return run ? (u64 *)values + run->at + (encoding - run->encoding) / 2 : NULL;
}
