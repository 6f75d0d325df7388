/*
 * From the encoding of a VMCS field, as a guest chose it, to its place in struct vmcs_values: one
 * sorted table and a binary search. An encoding that is not in the table leads nowhere.
 */
#include "vmx/fields.h"

#define AT(name)		    (u8)(offsetof(struct vmcs_values, name) / sizeof(u64))
#define RUN_ONE(encoding, name)	    {encoding, 1, AT(name), #name},
#define RUN_MANY(encoding, name, n) {encoding, n, AT(name), #name},

_Static_assert(sizeof(struct vmcs_values) / sizeof(u64) <= 256, "a byte counts them");

const struct vmcs_run vmcs_runs[] = {VMCS_FIELDS(RUN_ONE, RUN_MANY)};
const unsigned vmcs_nr_runs = ARRAY_SIZE(vmcs_runs);

const struct vmcs_run *vmcs_run_of(u64 encoding) {
	unsigned first = 0, end = ARRAY_SIZE(vmcs_runs);

	/* The last one that does not begin behind it. */
	while (end - first > 1) {
		unsigned middle = (first + end) / 2;

		if (vmcs_runs[middle].encoding <= encoding)
			first = middle;
		else
			end = middle;
	}
	u64 distance = encoding - vmcs_runs[first].encoding;
	return distance % 2 == 0 && distance / 2 < vmcs_runs[first].count ? &vmcs_runs[first]
									  : NULL;
}

u64 *vmcs_values_at(struct vmcs_values *values, u64 encoding) {
	const struct vmcs_run *run = vmcs_run_of(encoding);

	return run ? (u64 *)values + run->at + (encoding - run->encoding) / 2 : NULL;
}
