// sources: vmx/check.c vmx/fields.c
/*
 * The checks of VM entry, rule by rule: from an image that is fine, one thing is broken, and just
 * that rule has to speak. A rule that nothing here breaks fails the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "kernel/vcpu.h"
#include "lib/x86.h"
#include "vmx/check.h"
#include "vmx/check_rules.h"

#define WORD(field)	 (offsetof(struct vmcs_values, field) / sizeof(u64))
#define CODE_SEG	 0xa09bul
#define DATA_SEG	 0xc093ul
#define REAL_CODE	 0x9bul
#define TSS_BUSY	 0x8bul
#define LDT		 0x82ul
#define DPL3		 0x60ul
#define BAD_ADDRESS	 BIT(39) /* one bit more than the processor has */
#define NOT_CANONICAL	 0x0000800000000000ul
#define EXCEPTION(n)	 (EVENT_VALID | EVENT_TYPE_EXCEPTION << 8 | (n))
#define INJECT(type, n)	 (EVENT_VALID | EVENT_TYPE_##type << 8 | (n))
#define REVISION	 0x2bu
#define CURRENT		 0x9000ul
#define ALLOW(low, high) ((u64)(high) << 32 | (low))

static struct vmcs_values v;
static struct vmx_limits l;
static struct vmx_rule_broken why;

/* ---- the rules there are ---- */

#define NO_SECTION(text)
#define LISTED(field, rule, when, must) {WORD(field), rule, false},

static struct rule {
	size_t word;
	const char *text;
	bool seen;
} rules[] = {CONTROL_RULES(NO_SECTION, LISTED) HOST_RULES(NO_SECTION, LISTED)
		     GUEST_RULES(NO_SECTION, LISTED) SEGMENT_RULES(NO_SECTION, LISTED)
			     NMI_RULES(NO_SECTION, LISTED) LINK_RULES(NO_SECTION, LISTED)
				     PDPTE_RULES(NO_SECTION, LISTED)};

static const struct vmcs_run *run_of_word(size_t word) {
	const struct vmcs_run *run = vmcs_runs;

	while (run->at + run->count <= word) run++;
	return run;
}

static void mark_seen(const char *field, const char *text) {
	bool found = false;

	for (unsigned i = 0; i < ARRAY_SIZE(rules); i++) {
		if (strcmp(run_of_word(rules[i].word)->name, field) || strcmp(rules[i].text, text))
			continue;
		rules[i].seen = found = true;
	}
	assert_true(found);
}

/* ---- an image that is fine ---- */

static void set_limits(void) {
	u64 *msr = l.caps.msr;

	memset(&l, 0, sizeof(l));
	msr[VMX_MSR_BASIC - VMX_MSR_FIRST] = REVISION | BASIC_TRUE;
	/* The old MSRs allow less than the true ones, which count. */
	for (unsigned i = 0; i < 4; i++) msr[VMX_MSR_PIN - VMX_MSR_FIRST + i] = ALLOW(~0u, 0);
	msr[VMX_MSR_TRUE_PIN - VMX_MSR_FIRST + VMX_PIN] = ALLOW(0x16, 0xff);
	msr[VMX_MSR_TRUE_PIN - VMX_MSR_FIRST + VMX_PROC] = ALLOW(0x72, ~PROC_MTF);
	msr[VMX_MSR_TRUE_PIN - VMX_MSR_FIRST + VMX_EXIT] = ALLOW(0x33, 0x7fffff);
	msr[VMX_MSR_TRUE_PIN - VMX_MSR_FIRST + VMX_ENTRY] = ALLOW(0x11, 0xffff);
	msr[VMX_MSR_PROC2 - VMX_MSR_FIRST] = ALLOW(0, 0x2977fff);
	msr[VMX_MSR_MISC - VMX_MSR_FIRST] = 4ul << 16 | 7ul << 6;
	msr[VMX_MSR_CR0_FIXED0 - VMX_MSR_FIRST] = X86_CR0_PE | X86_CR0_NE | X86_CR0_PG;
	msr[VMX_MSR_CR0_FIXED0 + 1 - VMX_MSR_FIRST] = 0xffffffff;
	msr[VMX_MSR_CR4_FIXED0 - VMX_MSR_FIRST] = X86_CR4_VMXE;
	msr[VMX_MSR_CR4_FIXED0 + 1 - VMX_MSR_FIRST] = 0x3727ff;
	msr[VMX_MSR_EPT_VPID - VMX_MSR_FIRST] = EPT_CAP_4_LEVELS | EPT_CAP_WB | EPT_CAP_AD;
	msr[VMX_MSR_VMFUNC - VMX_MSR_FIRST] = VMFUNC_EPTP;
	l.caps.phys_bits = 39;
	l.caps.linear_bits = 48;
	l.current = CURRENT;
	l.debugctl = 0xffc3;
	l.efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
	l.link_revision = REVISION;
	l.vtpr = 0x40;
	l.ia32e = true;
}

static void set_controls(void) {
	v.pin_controls = 0x16 | PIN_INTERRUPT | PIN_NMI | PIN_VNMI | PIN_TICK;
	v.proc_controls = 0x72 | PROC_SECONDARY | PROC_TPR_SHADOW | PROC_IO_BITMAPS |
			  PROC_MSR_BITMAP | PROC_NMI_WINDOW;
	v.proc2_controls = PROC2_EPT | PROC2_VPID | PROC2_APIC_ACCESS | PROC2_PML |
			   PROC2_SHADOW_VMCS | PROC2_VMFUNC | PROC2_TSC_SCALING;
	v.exit_controls = 0x33 | EXIT_HOST_64 | EXIT_LOAD_PAT | EXIT_LOAD_EFER | EXIT_SAVE_TICK;
	v.entry_controls = 0x11 | ENTRY_IA32E | ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER;
	v.cr3_targets = 4;
	v.io_bitmap[0] = v.io_bitmap[1] = v.msr_bitmap = v.virtual_apic = 0x1000;
	v.apic_access = v.pml_address = v.vmread_bitmap = v.vmwrite_bitmap = v.eptp_list = 0x2000;
	v.tpr_threshold = 4;
	v.vpid = 1;
	v.eptp = 0x3000 | EPTP_AD | 3 << 3 | 6;
	v.vm_functions = VMFUNC_EPTP;
	v.tsc_multiplier = BIT(48);
	v.exit_msr_stores = v.exit_msr_loads = v.entry_msr_loads = 2;
	v.exit_msr_store = v.exit_msr_load = v.entry_msr_load = 0x7fffffffe0;
	v.link = ~0ul;
}

static void set_host(void) {
	v.host_cr0 = v.guest_cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_PG;
	v.host_cr4 = v.guest_cr4 = X86_CR4_PAE | X86_CR4_VMXE;
	v.host_cr3 = v.guest_cr3 = 0x4000;
	v.host_pat = v.guest_pat = 0x0007040600070406;
	v.host_efer = v.guest_efer = X86_EFER_LME | X86_EFER_LMA;
	v.host_selector[SEG_CS] = 8;
	v.host_selector[SEG_SS] = 0;
	v.host_tr_selector = 0x18;
	v.host_rip = 0xffffffff80000000;
}

static void set_guest(void) {
	for (unsigned i = 0; i < NR_SEGS; i++) {
		v.guest_selector[i] = 0x10;
		v.guest_access[i] = DATA_SEG;
		v.guest_limit[i] = 0xffffffff;
	}
	v.guest_access[SEG_CS] = CODE_SEG;
	v.guest_access[SEG_LDTR] = LDT;
	v.guest_access[SEG_TR] = TSS_BUSY;
	v.guest_limit[SEG_LDTR] = v.guest_limit[SEG_TR] = 0x67;
	v.guest_rflags = X86_RFLAGS_FIXED | X86_RFLAGS_IF;
	v.guest_rip = 0xffffffff81000000;
	v.guest_dr7 = 0x400;
}

static void reset(void) {
	memset(&v, 0, sizeof(v));
	set_limits();
	set_controls();
	set_host();
	set_guest();
}

static bool check(void) { return vmx_check(&v, &l, CHECK_ALL, &why); }

static void check_fine(int line) {
	if (!check())
		fail_msg("line %d: %s of SDM 3C %s: %s", line, why.field, why.section, why.rule);
}

static void check_broken(int line, size_t word, const char *text, u32 error, u32 qualification) {
	const struct vmcs_run *run = run_of_word(word);

	if (check()) fail_msg("line %d: nothing is broken", line);
	if (strcmp(why.rule, text) || strcmp(why.field, run->name))
		fail_msg("line %d: %s %s is broken", line, why.field, why.rule);
	assert_int_equal(why.encoding, run->encoding + 2 * (word - run->at));
	assert_int_equal(why.error, error);
	assert_int_equal(why.qualification, qualification);
	assert_memory_equal(why.section, error ? "26.2." : "26.3.1.", error ? 5 : 7);
	mark_seen(why.field, why.rule);
}

/* From the fine image: these statements, and the field breaks the rule. */
#define BREAKS(field, rule, error, qualification, ...)                           \
	do {                                                                     \
		reset();                                                         \
		__VA_ARGS__;                                                     \
		check_broken(__LINE__, WORD(field), rule, error, qualification); \
	} while (0)
#define CONTROL(field, rule, ...) BREAKS(field, rule, 7, 0, __VA_ARGS__)
#define HOST(field, rule, ...)	  BREAKS(field, rule, 8, 0, __VA_ARGS__)
#define GUEST(field, rule, ...)	  BREAKS(field, rule, 0, 0, __VA_ARGS__)
#define FINE(...)                     \
	do {                          \
		reset();              \
		__VA_ARGS__;          \
		check_fine(__LINE__); \
	} while (0)

/* ---- images of other kinds ---- */

static void unrestricted(void) { v.proc2_controls |= PROC2_UNRESTRICTED; }

static void legacy(void) {
	v.entry_controls &= ~ENTRY_IA32E;
	v.guest_efer = 0;
	v.guest_rip = 0x1000;
	v.guest_access[SEG_CS] = 0xc09b;
}

static void real_mode(void) {
	unrestricted();
	legacy();
	v.guest_cr0 = X86_CR0_NE | X86_CR0_CD | X86_CR0_NW;
	for (unsigned i = 0; i <= SEG_GS; i++) {
		v.guest_access[i] = i == SEG_CS ? REAL_CODE : 0x93;
		v.guest_limit[i] = 0xffff;
	}
}

static void virtual_8086(void) {
	legacy();
	v.guest_rflags |= BIT(17);
	for (unsigned i = 0; i <= SEG_GS; i++) {
		v.guest_selector[i] = 0x1233 + i;
		v.guest_base[i] = v.guest_selector[i] * 16;
		v.guest_limit[i] = 0xffff;
		v.guest_access[i] = 0xf3;
	}
}

static void level_3(void) {
	v.guest_selector[SEG_CS] = v.guest_selector[SEG_SS] = 0x13;
	v.guest_access[SEG_CS] |= DPL3;
	v.guest_access[SEG_SS] |= DPL3;
}

static void host_32(void) {
	legacy();
	l.ia32e = false;
	v.exit_controls &= ~EXIT_HOST_64;
	v.host_efer = 0;
	v.host_selector[SEG_SS] = 0x10;
	v.host_rip = 0x1000;
}

static void test_what_is_fine(void **state) {
	(void)state;
	FINE();
	FINE(unrestricted());
	FINE(legacy());
	FINE(real_mode());
	FINE(virtual_8086());
	FINE(level_3());
	FINE(host_32());
	FINE(l.caps.msr[0] &= ~BASIC_TRUE; for (unsigned i = 1; i < 5; i++) {
		l.caps.msr[i] = ALLOW(0, ~0u);
		l.caps.msr[VMX_MSR_TRUE_PIN - VMX_MSR_FIRST + i - 1] = ALLOW(~0u, 0);
	});
	/* Without the control that turns them on, fields hold anything. */
	FINE(v.proc_controls &= ~PROC_SECONDARY; v.proc2_controls = ~0ul; v.eptp = ~0ul; v.vpid = 0;
	     v.tsc_multiplier = 0; v.eptp_list = 1);
	FINE(v.exit_controls &= ~(EXIT_LOAD_PAT | EXIT_LOAD_EFER); v.host_pat = v.host_efer = 2);
	FINE(v.entry_controls &= ~(ENTRY_LOAD_PAT | ENTRY_LOAD_EFER | ENTRY_LOAD_DEBUG);
	     v.guest_pat = v.guest_efer = 2; v.guest_debugctl = ~0ul; v.guest_dr7 = ~0ul);
	FINE(v.exit_msr_stores = 0; v.exit_msr_store = 3);
	/* What is not usable need not be right. */
	FINE(for (unsigned i = 0; i < SEG_TR; i++) if (i != SEG_CS) {
		v.guest_access[i] = ACCESS_UNUSABLE | 0xf00;
		v.guest_base[i] = i == SEG_FS || i == SEG_GS ? 0 : NOT_CANONICAL;
	});
	FINE(v.guest_rip = 0x0000800000000000); /* one bit beyond what is canonical */
	FINE(v.entry_event = INJECT(INTERRUPT, 0x31));
	FINE(v.entry_event = INJECT(NMI, 2); v.guest_activity = 1);
	FINE(v.entry_event = EXCEPTION(13) | EVENT_HAS_ERROR; v.entry_error = 0xffff);
	FINE(v.entry_event = EXCEPTION(6); v.guest_shadow = SHADOW_NMI);
	FINE(v.entry_event = EXCEPTION(18); v.guest_activity = 2);
	FINE(v.entry_event = EVENT_VALID | 4 << 8 | 0x80; v.entry_length = 2);
	FINE(v.guest_activity = 3);
	FINE(v.guest_activity = 1; v.guest_rflags |= X86_RFLAGS_TF; v.guest_pending_db = BIT(14));
	FINE(v.guest_rflags |= X86_RFLAGS_TF; v.guest_debugctl = 2; v.guest_shadow = SHADOW_STI);
	FINE(l.rtm = true; v.guest_pending_db = BIT(16) | BIT(12));
	FINE(v.link = 0xa000; l.link_revision |= 0x80000000);
	/* PAE's pointers: what is not present may be anything. */
	FINE(legacy(); v.guest_pdpte[0] = ~1ul; v.guest_pdpte[3] = 0x5001);
	FINE(v.guest_pdpte[0] = ~0ul);
}

/* ---- 26.2.1 ---- */

#define BITS_OF_MSR "bits as the capability MSR has them"
#define AT_A_PAGE   "at a page of memory"
#define AN_AREA	    "16-byte aligned, all within memory"

static void test_execution_controls(void **state) {
	(void)state;
	CONTROL(pin_controls, BITS_OF_MSR, v.pin_controls &= ~2ul);
	CONTROL(pin_controls, BITS_OF_MSR, v.pin_controls |= BIT(8));
	CONTROL(proc_controls, BITS_OF_MSR, v.proc_controls &= ~2ul);
	CONTROL(proc_controls, BITS_OF_MSR, v.proc_controls |= PROC_MTF);
	CONTROL(proc2_controls, BITS_OF_MSR, v.proc2_controls |= BIT(24));
	CONTROL(cr3_targets, "no more than there are", v.cr3_targets = 5);
	CONTROL(io_bitmap[0], AT_A_PAGE, v.io_bitmap[0]++);
	CONTROL(io_bitmap[1], AT_A_PAGE, v.io_bitmap[1] = BAD_ADDRESS);
	CONTROL(msr_bitmap, AT_A_PAGE, v.msr_bitmap += 8);
	CONTROL(virtual_apic, AT_A_PAGE, v.virtual_apic = BAD_ADDRESS);
	CONTROL(virtual_apic, AT_A_PAGE, l.caps.msr[0] |= BASIC_32_BITS;
		v.exit_msr_stores = v.exit_msr_loads = v.entry_msr_loads = 0;
		v.virtual_apic = BIT(32));
	CONTROL(tpr_threshold, "bits 31:4 are 0", v.tpr_threshold = 0x10);
	CONTROL(tpr_threshold, "not above VTPR", v.proc2_controls &= ~PROC2_APIC_ACCESS;
		v.tpr_threshold = 5);
	CONTROL(pin_controls, "virtual NMIs only with NMI exiting", v.pin_controls &= ~PIN_NMI);
	CONTROL(proc_controls, "NMI-window exiting only with virtual NMIs",
		v.pin_controls &= ~PIN_VNMI);
	CONTROL(apic_access, AT_A_PAGE, v.apic_access |= 0x800);
	CONTROL(proc2_controls, "a virtual APIC only with a TPR shadow",
		v.proc_controls &= ~PROC_TPR_SHADOW;
		v.proc2_controls |= PROC2_APIC_REGS);
	CONTROL(proc2_controls, "virtual x2APIC not with APIC accesses",
		v.proc2_controls |= PROC2_X2APIC);
	CONTROL(proc2_controls, "virtual interrupts only with interrupt exiting",
		v.proc2_controls |= PROC2_VID;
		v.pin_controls &= ~PIN_INTERRUPT);
	CONTROL(vpid, "not 0", v.vpid = 0);
	CONTROL(eptp, "a memory type that tables may have", v.eptp &= ~7ul); /* UC is not offered */
	CONTROL(eptp, "a memory type that tables may have", v.eptp |= 1);
	CONTROL(eptp, "a length of walk that there is", v.eptp ^= 7 << 3); /* 5 levels are not */
	CONTROL(eptp, "a length of walk that there is", v.eptp ^= 1 << 3);
	CONTROL(eptp, "reserved bits are 0", v.eptp |= BIT(8));
	CONTROL(eptp, "reserved bits are 0", v.eptp |= BAD_ADDRESS);
	CONTROL(eptp, "reserved bits are 0", v.eptp |= EPTP_SSS);
	CONTROL(eptp, "reserved bits are 0",
		l.caps.msr[VMX_MSR_EPT_VPID - VMX_MSR_FIRST] &= ~EPT_CAP_AD);
	CONTROL(proc2_controls, "unrestricted guest and page-modification log only with EPT",
		v.proc2_controls &= ~(PROC2_EPT | PROC2_PML);
		unrestricted());
	CONTROL(proc2_controls, "unrestricted guest and page-modification log only with EPT",
		v.proc2_controls &= ~PROC2_EPT);
	CONTROL(pml_address, AT_A_PAGE, v.pml_address++);
	CONTROL(vmread_bitmap, AT_A_PAGE, v.vmread_bitmap++);
	CONTROL(vmwrite_bitmap, AT_A_PAGE, v.vmwrite_bitmap++);
	CONTROL(vm_functions, BITS_OF_MSR, v.vm_functions |= 2);
	CONTROL(vm_functions, "EPTP switching only with EPT",
		v.proc2_controls &= ~(PROC2_EPT | PROC2_PML));
	CONTROL(eptp_list, AT_A_PAGE, v.eptp_list++);
	CONTROL(tsc_multiplier, "not 0", v.tsc_multiplier = 0);
}

static void test_exit_and_entry_controls(void **state) {
	(void)state;
	CONTROL(exit_controls, BITS_OF_MSR, v.exit_controls &= ~1ul);
	CONTROL(exit_controls, BITS_OF_MSR, v.exit_controls |= BIT(28));
	CONTROL(exit_controls, "the preemption timer is saved only where it runs",
		v.pin_controls &= ~PIN_TICK);
	CONTROL(exit_msr_store, AN_AREA, v.exit_msr_store |= 8);
	CONTROL(exit_msr_load, AN_AREA, v.exit_msr_load = BAD_ADDRESS);
	CONTROL(entry_msr_load, AN_AREA, v.entry_msr_loads = 3); /* its end is outside */
	CONTROL(entry_controls, BITS_OF_MSR, v.entry_controls &= ~1ul);
	CONTROL(entry_controls, "nothing of SMM outside of it", v.entry_controls |= ENTRY_SMM);
	CONTROL(entry_controls, "nothing of SMM outside of it", v.entry_controls |= ENTRY_END_DUAL);
	CONTROL(entry_event, "bits 30:12 are 0", v.entry_event = INJECT(INTERRUPT, 0x31) | BIT(12));
	CONTROL(entry_event, "no reserved type", v.entry_event = INJECT(RESERVED, 0));
	CONTROL(entry_event, "no reserved type", v.entry_event = INJECT(OTHER, 0));
	CONTROL(entry_event, "a vector that the type may have", v.entry_event = INJECT(NMI, 3));
	CONTROL(entry_event, "a vector that the type may have", v.entry_event = EXCEPTION(32));
	CONTROL(entry_event, "a vector that the type may have",
		l.caps.msr[VMX_MSR_TRUE_PIN + 1 - VMX_MSR_FIRST] |= PROC_MTF << 32;
		v.entry_event = INJECT(OTHER, 1));
	CONTROL(entry_event, "an error code where there is one, only there",
		v.entry_event = EXCEPTION(14));
	CONTROL(entry_event, "an error code where there is one, only there",
		v.entry_event = EXCEPTION(6) | EVENT_HAS_ERROR);
	CONTROL(entry_event, "an error code where there is one, only there",
		v.entry_event = INJECT(INTERRUPT, 0x31) | EVENT_HAS_ERROR);
	CONTROL(entry_event, "an error code where there is one, only there", real_mode();
		v.entry_event = EXCEPTION(13) | EVENT_HAS_ERROR);
	FINE(l.caps.msr[0] |= BASIC_ANY_ERROR; v.entry_event = EXCEPTION(6) | EVENT_HAS_ERROR);
	CONTROL(entry_error, "bits 31:16 are 0", v.entry_event = EXCEPTION(13) | EVENT_HAS_ERROR;
		v.entry_error = 0x10000);
	CONTROL(entry_length, "1 to 15, or 0 where it may be",
		v.entry_event = EVENT_VALID | 6 << 8 | 3);
	CONTROL(entry_length, "1 to 15, or 0 where it may be",
		v.entry_event = EVENT_VALID | 5 << 8 | 1;
		v.entry_length = 16);
	FINE(l.caps.msr[VMX_MSR_MISC - VMX_MSR_FIRST] |= MISC_LENGTH_0;
	     v.entry_event = EVENT_VALID | 4 << 8 | 1);
}

/* ---- 26.2.2 to 26.2.4 ---- */

static void test_host_state(void **state) {
	(void)state;
	HOST(host_cr0, "bits as VMX demands", v.host_cr0 &= ~X86_CR0_PE);
	HOST(host_cr0, "bits as VMX demands", v.host_cr0 |= BIT(32));
	HOST(host_cr4, "bits as VMX demands", v.host_cr4 &= ~X86_CR4_VMXE);
	HOST(host_cr4, "bits as VMX demands", v.host_cr4 |= BIT(23));
	HOST(host_cr3, "within the physical width", v.host_cr3 |= BAD_ADDRESS);
	HOST(host_sysenter_esp, "canonical", v.host_sysenter_esp = NOT_CANONICAL);
	HOST(host_sysenter_eip, "canonical", v.host_sysenter_eip = ~NOT_CANONICAL);
	HOST(host_pat, "memory types that there are", v.host_pat = 2);
	HOST(host_efer, "reserved bits are 0", v.host_efer |= X86_EFER_SVME);
	HOST(host_efer, "LMA and LME as the host's address-space size", v.host_efer = X86_EFER_LMA);
	HOST(host_efer, "LMA and LME as the host's address-space size", host_32();
	     v.host_efer = X86_EFER_LME);
	for (unsigned i = SEG_ES; i <= SEG_GS; i++)
		HOST(host_selector, "RPL and TI are 0", v.host_selector[i] |= 1u << i % 3);
	HOST(host_tr_selector, "RPL and TI are 0, the rest not", v.host_tr_selector |= 4);
	HOST(host_tr_selector, "RPL and TI are 0, the rest not", v.host_tr_selector = 0);
	HOST(host_selector, "CS is not 0", v.host_selector[SEG_CS] = 0);
	HOST(host_selector, "SS is not 0 in a 32-bit host", host_32(); v.host_selector[SEG_SS] = 0);
	HOST(host_fs_base, "canonical", v.host_fs_base = NOT_CANONICAL);
	HOST(host_gs_base, "canonical", v.host_gs_base = NOT_CANONICAL);
	HOST(host_tr_base, "canonical", v.host_tr_base = NOT_CANONICAL);
	HOST(host_gdtr_base, "canonical", v.host_gdtr_base = NOT_CANONICAL);
	HOST(host_idtr_base, "canonical", v.host_idtr_base = NOT_CANONICAL);
	HOST(exit_controls, "the address-space size is the mode that the processor is in",
	     l.ia32e = false);
	HOST(exit_controls, "the address-space size is the mode that the processor is in",
	     host_32();
	     l.ia32e = true);
	HOST(entry_controls, "no IA-32e guest of a 32-bit host", host_32();
	     v.entry_controls |= ENTRY_IA32E);
	HOST(host_cr4, "no PCIDE in a 32-bit host", host_32(); v.host_cr4 |= X86_CR4_PCIDE);
	HOST(host_rip, "32 bits in a 32-bit host", host_32(); v.host_rip = BIT(32));
	HOST(host_cr4, "PAE in a 64-bit host", v.host_cr4 &= ~X86_CR4_PAE);
	HOST(host_rip, "canonical in a 64-bit host", v.host_rip = NOT_CANONICAL);
}

/* ---- 26.3.1.1, 26.3.1.3, 26.3.1.4 ---- */

static void test_guest_registers(void **state) {
	(void)state;
	GUEST(guest_cr0, "bits as VMX demands", v.guest_cr0 &= ~X86_CR0_NE);
	GUEST(guest_cr0, "bits as VMX demands", legacy(); v.guest_cr0 &= ~X86_CR0_PG);
	GUEST(guest_cr0, "bits as VMX demands", unrestricted(); v.guest_cr0 |= BIT(32));
	GUEST(guest_cr0, "PG only with PE", real_mode(); v.guest_cr0 |= X86_CR0_PG);
	GUEST(guest_cr4, "bits as VMX demands", v.guest_cr4 &= ~X86_CR4_VMXE);
	GUEST(guest_cr4, "bits as VMX demands", v.guest_cr4 |= BIT(63));
	GUEST(guest_debugctl, "reserved bits are 0", v.guest_debugctl = 4);
	GUEST(guest_cr0, "PG in IA-32e mode", unrestricted(); v.guest_cr0 &= ~X86_CR0_PG);
	GUEST(guest_cr4, "PAE in IA-32e mode", v.guest_cr4 &= ~X86_CR4_PAE);
	GUEST(guest_cr4, "PCIDE only in IA-32e mode", legacy(); v.guest_cr4 |= X86_CR4_PCIDE);
	GUEST(guest_cr3, "within the physical width", v.guest_cr3 |= BIT(63));
	GUEST(guest_dr7, "bits 63:32 are 0", v.guest_dr7 |= BIT(32));
	GUEST(guest_sysenter_esp, "canonical", v.guest_sysenter_esp = NOT_CANONICAL);
	GUEST(guest_sysenter_eip, "canonical", v.guest_sysenter_eip = NOT_CANONICAL);
	GUEST(guest_pat, "memory types that there are", v.guest_pat = 3);
	GUEST(guest_efer, "reserved bits are 0", v.guest_efer |= BIT(1));
	GUEST(guest_efer, "LMA as the control for IA-32e mode", v.guest_efer &= ~X86_EFER_LMA);
	GUEST(guest_efer, "LMA as the control for IA-32e mode", legacy();
	      v.guest_efer = X86_EFER_LMA);
	GUEST(guest_efer, "LME as LMA while PG is 1", v.guest_efer &= ~X86_EFER_LME);
	FINE(real_mode(); v.guest_efer = X86_EFER_LME);
	GUEST(guest_gdtr_base, "canonical", v.guest_gdtr_base = NOT_CANONICAL);
	GUEST(guest_idtr_base, "canonical", v.guest_idtr_base = NOT_CANONICAL);
	GUEST(guest_gdtr_limit, "bits 31:16 are 0", v.guest_gdtr_limit = 0x10000);
	GUEST(guest_idtr_limit, "bits 31:16 are 0", v.guest_idtr_limit = 0x10000);
	GUEST(guest_rip, "32 bits outside of 64-bit code", legacy(); v.guest_rip = BIT(32));
	GUEST(guest_rip, "32 bits outside of 64-bit code", v.guest_access[SEG_CS] = 0xc09b);
	GUEST(guest_rip, "bits beyond the linear width are alike", v.guest_rip = BIT(48));
	GUEST(guest_rflags, "reserved bits", v.guest_rflags &= ~X86_RFLAGS_FIXED);
	GUEST(guest_rflags, "reserved bits", v.guest_rflags |= BIT(15));
	GUEST(guest_rflags, "VM only in protected mode of 32 bits", v.guest_rflags |= BIT(17));
	GUEST(guest_rflags, "VM only in protected mode of 32 bits", real_mode();
	      v.guest_rflags |= BIT(17));
	GUEST(guest_rflags, "IF is 1 for an interrupt", v.guest_rflags &= ~X86_RFLAGS_IF;
	      v.entry_event = INJECT(INTERRUPT, 0x31));
}

/* ---- 26.3.1.2 ---- */

static void test_segments(void **state) {
	(void)state;
	GUEST(guest_selector[SEG_TR], "TI is 0", v.guest_selector[SEG_TR] |= 4);
	GUEST(guest_selector[SEG_LDTR], "TI is 0", v.guest_selector[SEG_LDTR] |= 4);
	GUEST(guest_selector[SEG_SS], "RPL of SS is that of CS", v.guest_selector[SEG_SS] |= 1);
	FINE(unrestricted(); v.guest_selector[SEG_SS] |= 1);
	GUEST(guest_base[SEG_GS], "16 times the selector in virtual-8086 mode", virtual_8086();
	      v.guest_base[SEG_GS]++);
	GUEST(guest_base[SEG_FS], "canonical", v.guest_base[SEG_FS] = NOT_CANONICAL);
	GUEST(guest_base[SEG_GS], "canonical", v.guest_access[SEG_GS] |= ACCESS_UNUSABLE;
	      v.guest_base[SEG_GS] = NOT_CANONICAL);
	GUEST(guest_base[SEG_LDTR], "canonical", v.guest_base[SEG_LDTR] = NOT_CANONICAL);
	GUEST(guest_base[SEG_TR], "canonical", v.guest_base[SEG_TR] = NOT_CANONICAL);
	GUEST(guest_base[SEG_CS], "32 bits", v.guest_base[SEG_CS] = BIT(32));
	GUEST(guest_base[SEG_DS], "32 bits", v.guest_base[SEG_DS] = BIT(32));
	GUEST(guest_limit[SEG_ES], "0xffff in virtual-8086 mode", virtual_8086();
	      v.guest_limit[SEG_ES] = 0xfffff);
	GUEST(guest_access[SEG_FS], "0xf3 in virtual-8086 mode", virtual_8086();
	      v.guest_access[SEG_FS] = 0x93);
	GUEST(guest_access[SEG_CS], "accessed code in CS, or data in an unrestricted guest",
	      v.guest_access[SEG_CS] ^= 1);
	GUEST(guest_access[SEG_CS], "accessed code in CS, or data in an unrestricted guest",
	      v.guest_access[SEG_CS] ^= 8);
	FINE(real_mode(); v.guest_access[SEG_CS] = 0x93);
	GUEST(guest_access[SEG_SS], "writable, accessed data in SS", v.guest_access[SEG_SS] ^= 2);
	GUEST(guest_access[SEG_ES], "DS, ES, FS, GS are accessed", v.guest_access[SEG_ES] ^= 1);
	GUEST(guest_access[SEG_GS], "code in DS, ES, FS, GS is readable",
	      v.guest_access[SEG_GS] = 0xc099);
	GUEST(guest_access[SEG_FS], "S is 1 in code and data", v.guest_access[SEG_FS] &= ~0x10ul);
	GUEST(guest_access[SEG_CS], "data in CS is of level 0", real_mode();
	      v.guest_access[SEG_CS] = 0xb3);
	GUEST(guest_access[SEG_CS], "CS has the level of SS, a conforming one at most",
	      v.guest_access[SEG_CS] |= 0x20);
	GUEST(guest_access[SEG_CS], "CS has the level of SS, a conforming one at most",
	      v.guest_access[SEG_CS] |= 0x24);
	FINE(level_3(); v.guest_access[SEG_CS] = (v.guest_access[SEG_CS] & ~DPL3) | 4);
	GUEST(guest_access[SEG_SS], "SS has the level of its RPL", level_3();
	      v.guest_selector[SEG_CS] = v.guest_selector[SEG_SS] = 0x12);
	GUEST(guest_access[SEG_SS], "SS is of level 0 in real mode or while CS is data",
	      real_mode();
	      v.guest_access[SEG_SS] |= DPL3; v.guest_access[SEG_CS] |= DPL3);
	GUEST(guest_access[SEG_SS], "SS is of level 0 in real mode or while CS is data",
	      unrestricted();
	      legacy(); v.guest_access[SEG_CS] = 0xc093; v.guest_access[SEG_SS] |= DPL3);
	GUEST(guest_access[SEG_DS], "DS, ES, FS, GS have at least the level of their RPL",
	      v.guest_selector[SEG_DS] |= 3);
	FINE(v.guest_selector[SEG_DS] |= 3; v.guest_access[SEG_DS] = 0xc09f);
	GUEST(guest_access[SEG_CS], "not both L and D/B in CS", v.guest_access[SEG_CS] |= BIT(14));
	GUEST(guest_access[SEG_TR], "TR is usable", v.guest_access[SEG_TR] |= ACCESS_UNUSABLE);
	GUEST(guest_access[SEG_TR], "TR is a busy TSS, of 32 bits in IA-32e mode",
	      v.guest_access[SEG_TR] = 0x83);
	GUEST(guest_access[SEG_TR], "TR is a busy TSS, of 32 bits in IA-32e mode", legacy();
	      v.guest_access[SEG_TR] = 0x89);
	FINE(legacy(); v.guest_access[SEG_TR] = 0x83);
	GUEST(guest_access[SEG_LDTR], "LDTR is an LDT", v.guest_access[SEG_LDTR] ^= 1);
	GUEST(guest_access[SEG_TR], "S is 0 in TR and LDTR", v.guest_access[SEG_TR] |= 0x10);
	GUEST(guest_access[SEG_LDTR], "S is 0 in TR and LDTR", v.guest_access[SEG_LDTR] |= 0x10);
	for (unsigned i = 0; i < NR_SEGS; i++) {
		GUEST(guest_access[i], "P is 1", v.guest_access[i] &= ~0x80ul);
		GUEST(guest_access[i], "reserved bits are 0", v.guest_access[i] |= BIT(8 + i % 4));
		GUEST(guest_access[i], "reserved bits are 0", v.guest_access[i] |= BIT(17 + i));
		GUEST(guest_access[i], "G is 0 unless bits 11:0 of the limit are all 1",
		      v.guest_access[i] |= BIT(15);
		      v.guest_limit[i] = 0xffffeff);
		GUEST(guest_access[i], "G is 1 when bits 31:20 of the limit are not 0",
		      v.guest_access[i] &= ~BIT(15);
		      v.guest_limit[i] = 0x100fff);
	}
}

/* ---- 26.3.1.5, 26.3.1.6 ---- */

static void test_guest_activity(void **state) {
	(void)state;
	GUEST(guest_activity, "a state that the processor has", v.guest_activity = 4);
	GUEST(guest_activity, "a state that the processor has", v.guest_activity = 2;
	      l.caps.msr[VMX_MSR_MISC - VMX_MSR_FIRST] &= ~BIT(7));
	GUEST(guest_activity, "HLT only at level 0", level_3(); v.guest_activity = 1);
	GUEST(guest_activity, "active while STI or MOV SS blocks", v.guest_activity = 1;
	      v.guest_shadow = SHADOW_STI);
	GUEST(guest_activity, "the event is not blocked", v.guest_activity = 1;
	      v.entry_event = EXCEPTION(6));
	GUEST(guest_activity, "the event is not blocked", v.guest_activity = 2;
	      v.entry_event = INJECT(INTERRUPT, 0x31));
	GUEST(guest_activity, "the event is not blocked", v.guest_activity = 3;
	      v.entry_event = INJECT(NMI, 2));
	GUEST(guest_shadow, "bits 31:5 are 0, and bit 4 without SGX", v.guest_shadow = BIT(4));
	GUEST(guest_shadow, "bits 31:5 are 0, and bit 4 without SGX", v.guest_shadow = BIT(31));
	GUEST(guest_shadow, "STI and MOV SS do not block together", v.guest_shadow = 3);
	GUEST(guest_shadow, "STI blocks only while IF is 1", v.guest_shadow = SHADOW_STI;
	      v.guest_rflags &= ~X86_RFLAGS_IF);
	GUEST(guest_shadow, "nothing blocks an interrupt", v.guest_shadow = SHADOW_STI;
	      v.entry_event = INJECT(INTERRUPT, 0x31));
	GUEST(guest_shadow, "MOV SS does not block an NMI", v.guest_shadow = SHADOW_MOV_SS;
	      v.entry_event = INJECT(NMI, 2));
	BREAKS(guest_shadow, "STI does not block an NMI", 0, 3, v.guest_shadow = SHADOW_STI;
	       v.entry_event = INJECT(NMI, 2));
	GUEST(guest_shadow, "no SMI blocks outside of SMM", v.guest_shadow = SHADOW_SMI);
	GUEST(guest_shadow, "no NMI blocks a virtual one", v.guest_shadow = SHADOW_NMI;
	      v.entry_event = INJECT(NMI, 2));
}

static void test_guest_debug_link_and_pointers(void **state) {
	(void)state;
	GUEST(guest_pending_db, "reserved bits are 0", v.guest_pending_db = BIT(4));
	GUEST(guest_pending_db, "reserved bits are 0", v.guest_pending_db = BIT(13));
	GUEST(guest_pending_db, "reserved bits are 0", v.guest_pending_db = BIT(63));
	GUEST(guest_pending_db, "BS where a single step waits, only there",
	      v.guest_rflags |= X86_RFLAGS_TF;
	      v.guest_shadow = SHADOW_STI);
	GUEST(guest_pending_db, "BS where a single step waits, only there", v.guest_activity = 1;
	      v.guest_pending_db = BIT(14));
	GUEST(guest_pending_db, "BS where a single step waits, only there",
	      v.guest_rflags |= X86_RFLAGS_TF;
	      v.guest_debugctl = 2; v.guest_shadow = SHADOW_MOV_SS; v.guest_pending_db = BIT(14));
	GUEST(guest_pending_db, "RTM with bit 12 alone, not behind MOV SS",
	      v.guest_pending_db = BIT(16) | BIT(12));
	GUEST(guest_pending_db, "RTM with bit 12 alone, not behind MOV SS", l.rtm = true;
	      v.guest_pending_db = BIT(16) | BIT(12) | 1);
	GUEST(guest_pending_db, "RTM with bit 12 alone, not behind MOV SS", l.rtm = true;
	      v.guest_pending_db = BIT(16) | BIT(12); v.guest_shadow = SHADOW_MOV_SS);
	BREAKS(link, AT_A_PAGE, 0, 4, v.link = 0xa001);
	BREAKS(link, AT_A_PAGE, 0, 4, v.link = BAD_ADDRESS);
	BREAKS(link, "another VMCS than the current one", 0, 4, v.link = CURRENT);
	BREAKS(link, "of the right revision, a shadow VMCS where shadowing is on", 0, 4,
	       v.link = 0xa000);
	BREAKS(link, "of the right revision, a shadow VMCS where shadowing is on", 0, 4,
	       v.link = 0xa000;
	       v.proc2_controls &= ~PROC2_SHADOW_VMCS; l.link_revision++);
	for (unsigned i = 0; i < 4; i++) {
		BREAKS(guest_pdpte[i], "reserved bits of a present entry are 0", 0, 2, legacy();
		       v.guest_pdpte[i] = 3);
		BREAKS(guest_pdpte[i], "reserved bits of a present entry are 0", 0, 2, legacy();
		       v.guest_pdpte[i] = 1 | BAD_ADDRESS);
	}
}

/* The last one. */
static void test_every_rule_was_broken(void **state) {
	(void)state;
	assert_true(ARRAY_SIZE(rules) > 120);
	for (unsigned i = 0; i < ARRAY_SIZE(rules); i++)
		if (!rules[i].seen)
			fail_msg("%s: %s: no test breaks this rule",
				 run_of_word(rules[i].word)->name, rules[i].text);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_fine),
		cmocka_unit_test(test_execution_controls),
		cmocka_unit_test(test_exit_and_entry_controls),
		cmocka_unit_test(test_host_state),
		cmocka_unit_test(test_guest_registers),
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_guest_activity),
		cmocka_unit_test(test_guest_debug_link_and_pointers),
		cmocka_unit_test(test_every_rule_was_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
