/*
 * The page-table formats, as constants for mm/ptable.c. Memory types of host and NPT go through the
 * page attribute table, which holds PT_PAT: the index is PWT (bit 3), PCD (bit 4), and PAT, which
 * is bit 7 in a 4 KiB leaf and bit 12 in a larger one (APM 2 7.8).
 */
#include "mm/ptable.h"

#include "lib/x86.h"

#define X86_PAT	      BIT(7)
#define X86_PAT_LARGE BIT(12)

/* In the order of PT_WB, PT_UC, PT_WC: their indices in PT_PAT. */
#define X86_TYPES(pat) \
	{ 0, X86_PTE_PCD | X86_PTE_PWT, (pat) }

/* What the host's tables and nested ones have in common. */
#define X86_FORMAT                                                                                \
	.max_leaf = PT_LEVEL_1G, .present = X86_PTE_P, .large = X86_PTE_PS,                       \
	.write = X86_PTE_W | X86_PTE_D, .no_exec = X86_PTE_NX,                                    \
	.accessed_dirty = X86_PTE_A | X86_PTE_D, .type = X86_TYPES(X86_PAT),                      \
	.type_large = X86_TYPES(X86_PAT_LARGE), .type_mask = X86_PTE_PWT | X86_PTE_PCD | X86_PAT, \
	.type_mask_large = X86_PTE_PWT | X86_PTE_PCD | X86_PAT_LARGE

const struct pt_format pt_format_host = {
	.canonical = true,
	.w_xor_x = true,
	.table = X86_PTE_P | X86_PTE_W | X86_PTE_A,
	.leaf = X86_PTE_P | X86_PTE_A,
	.global = X86_PTE_G,
	X86_FORMAT,
};

/* Every nested access is a user access (APM 2 15.25.5), hence U in all entries. */
const struct pt_format pt_format_npt = {
	.table = X86_PTE_P | X86_PTE_W | X86_PTE_U | X86_PTE_A,
	.leaf = X86_PTE_P | X86_PTE_U | X86_PTE_A,
	X86_FORMAT,
};

#define EPT_R	    BIT(0)
#define EPT_W	    BIT(1)
#define EPT_X	    BIT(2)
#define EPT_TYPE(t) ((u64)(t) << 3)
#define EPT_LARGE   BIT(7)
#define EPT_A	    BIT(8)
#define EPT_D	    BIT(9)

/* Memory types by their numbers in SDM 3A table 12-2. */
#define EPT_TYPES \
	{ EPT_TYPE(6), EPT_TYPE(0), EPT_TYPE(1) }

const struct pt_format pt_format_ept = {
	.max_leaf = PT_LEVEL_1G,
	.present = EPT_R | EPT_W | EPT_X,
	.table = EPT_R | EPT_W | EPT_X | EPT_A,
	.leaf = EPT_R | EPT_A,
	.large = EPT_LARGE,
	.write = EPT_W | EPT_D,
	.exec = EPT_X,
	.accessed_dirty = EPT_A | EPT_D,
	.type = EPT_TYPES,
	.type_large = EPT_TYPES,
	.type_mask = EPT_TYPE(7),
	.type_mask_large = EPT_TYPE(7),
};
