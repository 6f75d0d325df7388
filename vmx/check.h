/*
 * The checks of VM entry (SDM 3C 26.2, 26.3) on a copy of the VMCS: pure functions. They say why
 * the processor refused an entry of Roost's own, and they decide on those of a hypervisor inside of
 * a guest. The rules themselves are a table, vmx/check_rules.h.
 */
#pragma once

#include "vmx/vmcs.h"

struct vmx_rule_broken {
	const char *section; /* of SDM 3C */
	const char *field;   /* as vmx/fields.h names it */
	const char *rule;
	u32 encoding; /* of the field; in an array, of the element */
	u32 error;    /* VM-instruction error: 7 (controls), 8 (host state); 0: guest state */
	u32 qualification;
};

/* What the rules have to know beside the VMCS itself. */
struct vmx_limits {
	struct vmx_caps caps;
	hpa_t current;	   /* address of the VMCS */
	u64 debugctl;	   /* bits of IA32_DEBUGCTL that the processor has */
	u64 efer;	   /* the same of EFER */
	u32 link_revision; /* the first word behind the VMCS link pointer, when there is one */
	u8 vtpr;	   /* of the virtual-APIC page, when the VMCS names one */
	bool ia32e;	   /* the processor is in IA-32e mode */
	bool rtm;
};

enum { CHECK_CONTROLS = BIT(0), CHECK_HOST = BIT(1), CHECK_GUEST = BIT(2), CHECK_ALL = 7 };

/* Of these parts. True: fine. Otherwise *out tells of the first rule that is broken. */
bool vmx_check(const struct vmcs_values *v, const struct vmx_limits *l, u32 parts,
	       struct vmx_rule_broken *out);
