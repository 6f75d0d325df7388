/* The checks of VM entry: the kinds of rules in vmx/check_rules.h, and the way through them. */
#include "vmx/check.h"

#include "kernel/vcpu.h"
#include "lib/x86.h"
#include "vmx/check_rules.h"

#define ACCESS_L	BIT(13)
#define ACCESS_DB	BIT(14)
#define ACCESS_G	BIT(15)
#define DB_ENABLED	BIT(12) /* a breakpoint that was met is enabled */
#define DB_BS		BIT(14)
#define DB_RTM		BIT(16)
#define DB_RESERVED	(~(0xful | DB_ENABLED | DB_BS | DB_RTM))
#define DEBUGCTL_BTF	BIT(1)
#define RFLAGS_VM	BIT(17)
#define RFLAGS_RESERVED 0xffffffffffc0802a /* the one that is always 1 as well */
#define LONG_MODE	(X86_EFER_LME | X86_EFER_LMA)
#define WITH_ERROR	0x27d00u /* the vectors of #DF, #TS, #NP, #SS, #GP, #PF, #AC */

/* ---- kinds of rules ---- */

static bool allowed(const struct vmx_limits *l, enum vmx_word word, u64 value) {
	u64 cap = vmx_word_cap(&l->caps, word);

	return !(~value & (u32)cap) && !(value & ~(cap >> 32));
}

/* The MSR after that of the bits that must be 1 has those that may be (A.7, A.8). */
static bool fixed(const struct vmx_limits *l, u32 msr, u64 value, u64 exempt) {
	return !(~value & vmx_cap(&l->caps, msr) & ~exempt) &&
	       !(value & ~vmx_cap(&l->caps, msr + 1) & ~exempt);
}

static bool within(const struct vmx_limits *l, u64 value) { return !(value >> l->caps.phys_bits); }

/* VMX's own structures lie below 4 GiB on some processors (A.1). */
static bool vmx_memory(const struct vmx_limits *l, u64 address) {
	return within(l, address) && (!(address >> 32) || !(CAP(BASIC) & BASIC_32_BITS));
}

static bool page(const struct vmx_limits *l, u64 address) {
	return !(address & 0xfff) && vmx_memory(l, address);
}

static bool msr_area(const struct vmx_limits *l, u64 address, u64 count) {
	return !(address & 0xf) && vmx_memory(l, address) &&
	       vmx_memory(l, address + count * 16 - 1);
}

static bool sign_extended(u64 value, unsigned bits) {
	return bits >= 64 || !(value >> bits) || !(~value >> bits);
}

static bool canonical(const struct vmx_limits *l, u64 value) {
	return sign_extended(value, l->caps.linear_bits - 1u);
}

static u64 host_selectors(const struct vmcs_values *v) {
	u64 all = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(v->host_selector); i++) all |= v->host_selector[i];
	return all;
}

static bool type_vector(const struct vmcs_values *v) {
	u8 vector = (u8)v->entry_event;

	if (IS(NMI)) return vector == X86_NMI;
	if (IS(EXCEPTION)) return vector < 32;
	return !IS(OTHER) || vector == 0;
}

/* Some processors do not mind whether there is one, BASIC_ANY_ERROR. */
static bool error_code_fits(const struct vmcs_values *v, const struct vmx_limits *l) {
	bool has = v->entry_event & EVENT_HAS_ERROR;

	if (!IS(EXCEPTION) || !CR0(PE)) return !has;
	return (CAP(BASIC) & BASIC_ANY_ERROR) || has == (WITH_ERROR >> (v->entry_event & 31) & 1);
}

static bool activity_known(const struct vmcs_values *v, const struct vmx_limits *l) {
	u64 state = v->guest_activity;

	return !state ||
	       (state <= ACTIVITY_SIPI && (MISC_ACTIVITIES(CAP(MISC)) >> (state - 1) & 1));
}

static bool event_wakes(const struct vmcs_values *v) {
	u8 vector = (u8)v->entry_event;

	switch (v->guest_activity) {
	case 0: return true;
	case ACTIVITY_HLT:
		if (IS(EXCEPTION)) return vector == X86_DB || vector == X86_MC;
		return IS(INTERRUPT) || IS(NMI) || IS(OTHER);
	case ACTIVITY_SHUT: return IS(NMI) || (IS(EXCEPTION) && vector == X86_MC);
	default: return false;
	}
}

static bool single_step(const struct vmcs_values *v) {
	return (v->guest_rflags & X86_RFLAGS_TF) && !(v->guest_debugctl & DEBUGCTL_BTF);
}

/* ---- the way through ---- */

static bool broken(struct vmx_rule_broken *out, unsigned word, const char *rule) {
	const struct vmcs_run *run = vmcs_runs;

	while (run->at + run->count <= word) run++;
	out->field = run->name;
	out->encoding = run->encoding + 2 * (word - run->at);
	out->rule = rule;
	return false;
}

#define SECTION(text) out->section = text;
#define MUST(field, rule, when, must) \
	if ((when) && !(must))        \
		return broken(out, offsetof(struct vmcs_values, field) / sizeof(u64) + at, rule);

/* Cold: more than a hundred rules are better small than fast. */
__attribute__((cold)) bool vmx_check(const struct vmcs_values *v, const struct vmx_limits *l,
				     u32 parts, struct vmx_rule_broken *out) {
	unsigned at = 0;

	*out = (struct vmx_rule_broken){.error = 7};
	if (parts & CHECK_CONTROLS) {
		CONTROL_RULES(SECTION, MUST)
	}
	out->error = 8;
	if (parts & CHECK_HOST) {
		HOST_RULES(SECTION, MUST)
	}
	if (!(parts & CHECK_GUEST)) return true;
	out->error = 0;
	GUEST_RULES(SECTION, MUST)
	for (at = SEG_ES; at < NR_SEGS; at++) {
		SEGMENT_RULES(SECTION, MUST)
	}
	at = 0;
	out->qualification = 3;
	NMI_RULES(SECTION, MUST)
	out->qualification = 4;
	if (v->link != ~0ul) {
		LINK_RULES(SECTION, MUST)
	}
	out->qualification = 2;
	bool pae = CR0(PG) && CR4(PAE) && !ENTRY(IA32E) && PROC2(EPT);
	for (; pae && at < ARRAY_SIZE(v->guest_pdpte); at++) {
		PDPTE_RULES(SECTION, MUST)
	}
	return true;
}
