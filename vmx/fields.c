/* From an encoding, as a guest chose it, to the place in struct vmcs_values, or to nowhere. */
#include "vmx/fields.h"

#define AT(name)			 (u8) VMCS_WORD(name)
#define RUN_ONE(encoding, name, ...)	 {encoding, 1, AT(name), __VA_ARGS__ + 0, #name},
#define RUN_MANY(encoding, name, n, ...) {encoding, n, AT(name), __VA_ARGS__ + 0, #name},

_Static_assert(sizeof(struct vmcs_values) / sizeof(u64) <= 256, "a byte counts them");

const struct vmcs_run vmcs_runs[] = {VMCS_FIELDS(RUN_ONE, RUN_MANY)};
const unsigned vmcs_nr_runs = ARRAY_SIZE(vmcs_runs);

#define START(e, name)		   (0x100 | (u8)(AT(name) - VMCS_SLOT(e)))
#define SLOT_ONE(e, name, ...)	   [VMCS_SLOT(e)] = START(e, name),
#define SLOT_MANY(e, name, n, ...) [VMCS_SLOT(e)... VMCS_SLOT(e) + (n)-1] = START(e, name),

const u16 vmcs_slots[512] = {VMCS_FIELDS(SLOT_ONE, SLOT_MANY)};
