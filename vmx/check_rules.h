/*
 * The rules of VM entry. S(section of SDM 3C) and then R(field, rule, when it holds, what must be
 * true). Expanded in check.c, which defines the kinds of rules in lower case.
 *
 * Controls for whose fields vmx/fields.h has no name (posted interrupts, #VE, Intel PT, CET and
 * others) are not offered to anybody: the capabilities in struct vmx_limits have to exclude them.
 */
#pragma once

/* clang-format off */
#define PIN(bit)    (v->pin_controls & PIN_##bit)
#define PROC(bit)   (v->proc_controls & PROC_##bit)
#define PROC2(bit)  (PROC(SECONDARY) ? v->proc2_controls & PROC2_##bit : 0)
#define EXIT(bit)   (v->exit_controls & EXIT_##bit)
#define ENTRY(bit)  (v->entry_controls & ENTRY_##bit)
#define CR0(bit)    (v->guest_cr0 & X86_CR0_##bit)
#define CR4(bit)    (v->guest_cr4 & X86_CR4_##bit)
#define SHADOW(bit) (v->guest_shadow & SHADOW_##bit)
#define CAP(msr)    vmx_cap(&l->caps, VMX_MSR_##msr)
#define EPT_CAP(n)  (CAP(EPT_VPID) >> (n) & 1)
#define EVENT	    (v->entry_event & EVENT_VALID)
#define TYPE	    EVENT_TYPE(v->entry_event)
#define IS(type)    (EVENT && TYPE == EVENT_TYPE_##type)
#define DPL(seg)    (v->guest_access[seg] >> 5 & 3)
#define V86	    (v->guest_rflags & RFLAGS_VM)
#define CODE_64	    (ENTRY(IA32E) && (v->guest_access[SEG_CS] & ACCESS_L))

/* Kinds of rules that there are many of. */
#define CAPS(R, field, word, when) \
	R(field, "bits as the capability MSR has them", when, allowed(l, word, v->field))
#define PAGE(R, field, when) R(field, "at a page of memory", when, page(l, v->field))
#define AREA(R, field) R(field, "16-byte aligned, all within memory", v->field##s, \
			 msr_area(l, v->field, v->field##s))
#define CANON(R, field) R(field, "canonical", 1, canonical(l, v->field))
#define SHORT(R, field) R(field, "bits 31:16 are 0", 1, !(v->field >> 16))

#define CONTROL_RULES(S, R) S("26.2.1.1") \
CAPS(R, pin_controls, VMX_PIN, 1) CAPS(R, proc_controls, VMX_PROC, 1) \
CAPS(R, proc2_controls, VMX_PROC2, PROC(SECONDARY)) \
R(cr3_targets, "no more than there are", 1, v->cr3_targets <= MISC_CR3_TARGETS(CAP(MISC))) \
PAGE(R, io_bitmap[0], PROC(IO_BITMAPS)) PAGE(R, io_bitmap[1], PROC(IO_BITMAPS)) \
PAGE(R, msr_bitmap, PROC(MSR_BITMAP)) PAGE(R, virtual_apic, PROC(TPR_SHADOW)) \
R(tpr_threshold, "bits 31:4 are 0", PROC(TPR_SHADOW) && !PROC2(VID), !(v->tpr_threshold >> 4)) \
R(tpr_threshold, "not above VTPR", PROC(TPR_SHADOW) && !PROC2(VID) && !PROC2(APIC_ACCESS), \
	(v->tpr_threshold & 0xf) <= l->vtpr >> 4) \
R(pin_controls, "virtual NMIs only with NMI exiting", PIN(VNMI), PIN(NMI)) \
R(proc_controls, "NMI-window exiting only with virtual NMIs", PROC(NMI_WINDOW), PIN(VNMI)) \
PAGE(R, apic_access, PROC2(APIC_ACCESS)) \
R(proc2_controls, "a virtual APIC only with a TPR shadow", \
	PROC2(X2APIC) || PROC2(APIC_REGS) || PROC2(VID), PROC(TPR_SHADOW)) \
R(proc2_controls, "virtual x2APIC not with APIC accesses", PROC2(X2APIC), !PROC2(APIC_ACCESS)) \
R(proc2_controls, "virtual interrupts only with interrupt exiting", PROC2(VID), PIN(INTERRUPT)) \
R(vpid, "not 0", PROC2(VPID), v->vpid) \
R(eptp, "a memory type that tables may have", PROC2(EPT), \
	((v->eptp & 7) == 0 || (v->eptp & 7) == 6) && EPT_CAP(8 + (v->eptp & 7))) \
R(eptp, "a length of walk that there is", PROC2(EPT), \
	((v->eptp >> 3 & 7) == 3 || (v->eptp >> 3 & 7) == 4) && EPT_CAP(3 + (v->eptp >> 3 & 7))) \
R(eptp, "reserved bits are 0", PROC2(EPT), within(l, v->eptp) && !(v->eptp & 0xf00) && \
	(!(v->eptp & EPTP_AD) || EPT_CAP(21)) && (!(v->eptp & EPTP_SSS) || EPT_CAP(23))) \
R(proc2_controls, "unrestricted guest and page-modification log only with EPT", \
	PROC2(UNRESTRICTED) || PROC2(PML), PROC2(EPT)) \
PAGE(R, pml_address, PROC2(PML)) \
PAGE(R, vmread_bitmap, PROC2(SHADOW_VMCS)) PAGE(R, vmwrite_bitmap, PROC2(SHADOW_VMCS)) \
R(vm_functions, "bits as the capability MSR has them", PROC2(VMFUNC), \
	!(v->vm_functions & ~CAP(VMFUNC))) \
R(vm_functions, "EPTP switching only with EPT", \
	PROC2(VMFUNC) && (v->vm_functions & VMFUNC_EPTP), PROC2(EPT)) \
PAGE(R, eptp_list, PROC2(VMFUNC) && (v->vm_functions & VMFUNC_EPTP)) \
R(tsc_multiplier, "not 0", PROC2(TSC_SCALING), v->tsc_multiplier) \
S("26.2.1.2") CAPS(R, exit_controls, VMX_EXIT, 1) \
R(exit_controls, "the preemption timer is saved only where it runs", EXIT(SAVE_TICK), PIN(TICK)) \
AREA(R, exit_msr_store) AREA(R, exit_msr_load) \
S("26.2.1.3") CAPS(R, entry_controls, VMX_ENTRY, 1) \
R(entry_controls, "nothing of SMM outside of it", 1, !ENTRY(SMM) && !ENTRY(END_DUAL)) \
R(entry_event, "bits 30:12 are 0", EVENT, !(v->entry_event & 0x7ffff000)) \
R(entry_event, "no reserved type", EVENT, TYPE != EVENT_TYPE_RESERVED && \
	(TYPE != EVENT_TYPE_OTHER || vmx_word_cap(&l->caps, VMX_PROC) >> 32 & PROC_MTF)) \
R(entry_event, "a vector that the type may have", EVENT, type_vector(v)) \
R(entry_event, "an error code where there is one, only there", EVENT, error_code_fits(v, l)) \
R(entry_error, "bits 31:16 are 0", EVENT && (v->entry_event & EVENT_HAS_ERROR), \
	!(v->entry_error >> 16)) \
R(entry_length, "1 to 15, or 0 where it may be", \
	EVENT && TYPE >= EVENT_TYPE_SOFT_FIRST && TYPE <= EVENT_TYPE_SOFT_LAST, \
	v->entry_length <= 15 && (v->entry_length || CAP(MISC) & MISC_LENGTH_0)) \
AREA(R, entry_msr_load)

#define HOST_RULES(S, R) S("26.2.2") \
R(host_cr0, "bits as VMX demands", 1, fixed(l, VMX_MSR_CR0_FIXED0, v->host_cr0, 0)) \
R(host_cr4, "bits as VMX demands", 1, fixed(l, VMX_MSR_CR4_FIXED0, v->host_cr4, 0)) \
R(host_cr3, "within the physical width", 1, within(l, v->host_cr3)) \
CANON(R, host_sysenter_esp) CANON(R, host_sysenter_eip) \
R(host_pat, "memory types that there are", EXIT(LOAD_PAT), pat_valid(v->host_pat)) \
R(host_efer, "reserved bits are 0", EXIT(LOAD_EFER), !(v->host_efer & ~l->efer)) \
R(host_efer, "LMA and LME as the host's address-space size", EXIT(LOAD_EFER), \
	(v->host_efer & LONG_MODE) == (EXIT(HOST_64) ? LONG_MODE : 0)) \
S("26.2.3") R(host_selector, "RPL and TI are 0", 1, !(host_selectors(v) & 7)) \
R(host_tr_selector, "RPL and TI are 0, the rest not", 1, \
	!(v->host_tr_selector & 7) && v->host_tr_selector) \
R(host_selector, "CS is not 0", 1, v->host_selector[SEG_CS]) \
R(host_selector, "SS is not 0 in a 32-bit host", !EXIT(HOST_64), v->host_selector[SEG_SS]) \
CANON(R, host_fs_base) CANON(R, host_gs_base) CANON(R, host_tr_base) \
CANON(R, host_gdtr_base) CANON(R, host_idtr_base) \
S("26.2.4") R(exit_controls, "the address-space size is the mode that the processor is in", 1, \
	!EXIT(HOST_64) == !l->ia32e) \
R(entry_controls, "no IA-32e guest of a 32-bit host", !EXIT(HOST_64), !ENTRY(IA32E)) \
R(host_cr4, "no PCIDE in a 32-bit host", !EXIT(HOST_64), !(v->host_cr4 & X86_CR4_PCIDE)) \
R(host_rip, "32 bits in a 32-bit host", !EXIT(HOST_64), !(v->host_rip >> 32)) \
R(host_cr4, "PAE in a 64-bit host", EXIT(HOST_64), v->host_cr4 & X86_CR4_PAE) \
R(host_rip, "canonical in a 64-bit host", EXIT(HOST_64), canonical(l, v->host_rip))

#define GUEST_RULES(S, R) S("26.3.1.1") \
R(guest_cr0, "bits as VMX demands", 1, fixed(l, VMX_MSR_CR0_FIXED0, v->guest_cr0, \
	X86_CR0_NW | X86_CR0_CD | (PROC2(UNRESTRICTED) ? X86_CR0_PE | X86_CR0_PG : 0))) \
R(guest_cr0, "PG only with PE", CR0(PG), CR0(PE)) \
R(guest_cr4, "bits as VMX demands", 1, fixed(l, VMX_MSR_CR4_FIXED0, v->guest_cr4, 0)) \
R(guest_debugctl, "reserved bits are 0", ENTRY(LOAD_DEBUG), !(v->guest_debugctl & ~l->debugctl)) \
R(guest_cr0, "PG in IA-32e mode", ENTRY(IA32E), CR0(PG)) \
R(guest_cr4, "PAE in IA-32e mode", ENTRY(IA32E), CR4(PAE)) \
R(guest_cr4, "PCIDE only in IA-32e mode", !ENTRY(IA32E), !CR4(PCIDE)) \
R(guest_cr3, "within the physical width", 1, within(l, v->guest_cr3)) \
R(guest_dr7, "bits 63:32 are 0", ENTRY(LOAD_DEBUG), !(v->guest_dr7 >> 32)) \
CANON(R, guest_sysenter_esp) CANON(R, guest_sysenter_eip) \
R(guest_pat, "memory types that there are", ENTRY(LOAD_PAT), pat_valid(v->guest_pat)) \
R(guest_efer, "reserved bits are 0", ENTRY(LOAD_EFER), !(v->guest_efer & ~l->efer)) \
R(guest_efer, "LMA as the control for IA-32e mode", ENTRY(LOAD_EFER), \
	!(v->guest_efer & X86_EFER_LMA) == !ENTRY(IA32E)) \
R(guest_efer, "LME as LMA while PG is 1", ENTRY(LOAD_EFER) && CR0(PG), \
	!(v->guest_efer & X86_EFER_LME) == !ENTRY(IA32E)) \
S("26.3.1.3") CANON(R, guest_gdtr_base) CANON(R, guest_idtr_base) \
SHORT(R, guest_gdtr_limit) SHORT(R, guest_idtr_limit) \
S("26.3.1.4") R(guest_rip, "32 bits outside of 64-bit code", !CODE_64, !(v->guest_rip >> 32)) \
R(guest_rip, "bits beyond the linear width are alike", CODE_64, \
	sign_extended(v->guest_rip, l->caps.linear_bits)) \
R(guest_rflags, "reserved bits", 1, (v->guest_rflags & RFLAGS_RESERVED) == X86_RFLAGS_FIXED) \
R(guest_rflags, "VM only in protected mode of 32 bits", ENTRY(IA32E) || !CR0(PE), !V86) \
R(guest_rflags, "IF is 1 for an interrupt", IS(INTERRUPT), v->guest_rflags & X86_RFLAGS_IF) \
S("26.3.1.5") R(guest_activity, "a state that the processor has", 1, activity_known(v, l)) \
R(guest_activity, "HLT only at level 0", v->guest_activity == ACTIVITY_HLT, !DPL(SEG_SS)) \
R(guest_activity, "active while STI or MOV SS blocks", SHADOW(NEXT), !v->guest_activity) \
R(guest_activity, "the event is not blocked", EVENT, event_wakes(v)) \
R(guest_shadow, "bits 31:5 are 0, and bit 4 without SGX", 1, !(v->guest_shadow >> 4)) \
R(guest_shadow, "STI and MOV SS do not block together", SHADOW(STI), !SHADOW(MOV_SS)) \
R(guest_shadow, "STI blocks only while IF is 1", SHADOW(STI), v->guest_rflags & X86_RFLAGS_IF) \
R(guest_shadow, "nothing blocks an interrupt", IS(INTERRUPT), !SHADOW(NEXT)) \
R(guest_shadow, "MOV SS does not block an NMI", IS(NMI), !SHADOW(MOV_SS)) \
R(guest_shadow, "no SMI blocks outside of SMM", 1, !SHADOW(SMI)) \
R(guest_shadow, "no NMI blocks a virtual one", IS(NMI) && PIN(VNMI), !SHADOW(NMI)) \
R(guest_pending_db, "reserved bits are 0", 1, !(v->guest_pending_db & DB_RESERVED)) \
R(guest_pending_db, "BS where a single step waits, only there", \
	SHADOW(NEXT) || v->guest_activity == ACTIVITY_HLT, \
	!(v->guest_pending_db & DB_BS) == !single_step(v)) \
R(guest_pending_db, "RTM with bit 12 alone, not behind MOV SS", v->guest_pending_db & DB_RTM, \
	l->rtm && v->guest_pending_db == (DB_RTM | DB_ENABLED) && !SHADOW(MOV_SS))

/* These fail with a qualification of their own (26.8). */
#define PDPTE_RULES(S, R) S("26.3.1.6") \
R(guest_pdpte, "reserved bits of a present entry are 0", v->guest_pdpte[at] & X86_PTE_P, \
	within(l, v->guest_pdpte[at]) && !(v->guest_pdpte[at] & 0x1e6))
#define NMI_RULES(S, R) S("26.3.1.5") \
R(guest_shadow, "STI does not block an NMI", IS(NMI), !SHADOW(STI))
#define LINK_RULES(S, R) S("26.3.1.5") PAGE(R, link, 1) \
R(link, "another VMCS than the current one", 1, v->link != l->current) \
R(link, "of the right revision, a shadow VMCS where shadowing is on", 1, \
	l->link_revision == (BASIC_REVISION(CAP(BASIC)) | (PROC2(SHADOW_VMCS) ? BIT(31) : 0)))

/* Of each segment register, `at`. In virtual-8086 mode, the first six have one right value. */
#define SELECTOR    v->guest_selector[at]
#define ACCESS	    v->guest_access[at]
#define KIND	    (ACCESS & 0xf)
#define USABLE	    (at == SEG_CS || at == SEG_TR || !(ACCESS & ACCESS_UNUSABLE))
#define REAL_SEG    (V86 && at <= SEG_GS)
#define CODE_DATA   (!V86 && at <= SEG_GS && USABLE)
#define DATA	    (CODE_DATA && at != SEG_CS && at != SEG_SS)
#define CS	    (!V86 && at == SEG_CS)
#define SS	    (!V86 && at == SEG_SS)
#define RESTRICTED  !PROC2(UNRESTRICTED)
#define ANY	    (!REAL_SEG && USABLE)

#define SEGMENT_RULES(S, R) S("26.3.1.2") \
R(guest_selector, "TI is 0", at == SEG_TR || (at == SEG_LDTR && USABLE), !(SELECTOR & 4)) \
R(guest_selector, "RPL of SS is that of CS", SS && RESTRICTED, \
	!((SELECTOR ^ v->guest_selector[SEG_CS]) & 3)) \
R(guest_base, "16 times the selector in virtual-8086 mode", REAL_SEG, \
	v->guest_base[at] == SELECTOR << 4) \
R(guest_base, "canonical", at >= SEG_FS && (USABLE || at != SEG_LDTR), \
	canonical(l, v->guest_base[at])) \
R(guest_base, "32 bits", at <= SEG_DS && USABLE, !(v->guest_base[at] >> 32)) \
R(guest_limit, "0xffff in virtual-8086 mode", REAL_SEG, v->guest_limit[at] == 0xffff) \
R(guest_access, "0xf3 in virtual-8086 mode", REAL_SEG, ACCESS == 0xf3) \
R(guest_access, "accessed code in CS, or data in an unrestricted guest", CS, \
	(KIND & 9) == 9 || (KIND == 3 && PROC2(UNRESTRICTED))) \
R(guest_access, "writable, accessed data in SS", SS && USABLE, KIND == 3 || KIND == 7) \
R(guest_access, "DS, ES, FS, GS are accessed", DATA, KIND & 1) \
R(guest_access, "code in DS, ES, FS, GS is readable", DATA && (KIND & 8), KIND & 2) \
R(guest_access, "S is 1 in code and data", CODE_DATA, ACCESS & SEG_ATTR_S) \
R(guest_access, "data in CS is of level 0", CS && KIND == 3, !DPL(at)) \
R(guest_access, "CS has the level of SS, a conforming one at most", CS && (KIND & 8), \
	DPL(at) == DPL(SEG_SS) || ((KIND & 4) && DPL(at) < DPL(SEG_SS))) \
R(guest_access, "SS has the level of its RPL", SS && RESTRICTED, DPL(at) == (SELECTOR & 3)) \
R(guest_access, "SS is of level 0 in real mode or while CS is data", \
	SS && (!CR0(PE) || (v->guest_access[SEG_CS] & 0xf) == 3), !DPL(at)) \
R(guest_access, "DS, ES, FS, GS have at least the level of their RPL", \
	DATA && RESTRICTED && KIND <= 11, DPL(at) >= (SELECTOR & 3)) \
R(guest_access, "not both L and D/B in CS", CS && CODE_64, !(ACCESS & ACCESS_DB)) \
R(guest_access, "TR is usable", at == SEG_TR, !(ACCESS & ACCESS_UNUSABLE)) \
R(guest_access, "TR is a busy TSS, of 32 bits in IA-32e mode", at == SEG_TR, \
	KIND == 11 || (KIND == 3 && !ENTRY(IA32E))) \
R(guest_access, "LDTR is an LDT", at == SEG_LDTR && USABLE, KIND == 2) \
R(guest_access, "S is 0 in TR and LDTR", at >= SEG_LDTR && USABLE, !(ACCESS & SEG_ATTR_S)) \
R(guest_access, "P is 1", ANY, ACCESS & SEG_ATTR_P) \
R(guest_access, "reserved bits are 0", ANY, !(ACCESS & 0xfffe0f00)) \
R(guest_access, "G is 0 unless bits 11:0 of the limit are all 1", \
	ANY && (~v->guest_limit[at] & 0xfff), !(ACCESS & ACCESS_G)) \
R(guest_access, "G is 1 when bits 31:20 of the limit are not 0", \
	ANY && v->guest_limit[at] >> 20, ACCESS & ACCESS_G)
/* clang-format on */
