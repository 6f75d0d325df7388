/*
 * The ways between a guest that is a hypervisor (L1) and its guest (L2): VM entries and exits.
 *
 * What L1 has written since the last entry is known by field: only that is written to VMCS 02
 * again, and the controls are merged anew only when one of them is among it. An exit stores in VMCS
 * 12 what a hypervisor looks at each time; the rest of L2's state stays in 02 until L1 asks for it.
 *
 * L1's own registers stay in VMCS 01. MSRs that no VMCS has stay in the CPU, as on hardware.
 */
#include "kernel/time.h"
#include "kernel/vm.h"
#include "lib/string.h"
#include "lib/x86.h"
#include "mm/direct.h"
#include "mm/gmem.h"
#include "kernel/space.h"
#include "platform/cpu_model.h"
#include "platform/msr.h"
#include "vmx/check.h"
#include "vmx/vmx.h"

#define MAX_LIST   512u /* entries of an MSR list (SDM 3D A.6) */
#define DEBUG_BTF  BIT(1)
#define PAGING_BIT (X86_CR0_PE | X86_CR0_PG)
#define QUAL_PDPTE 2u /* of an entry that failed (26.7) */

/* By the flags of vmx/fields.h and by kind; controls and checked: but for fields with a flag. */
static struct vmcs_mask plain, controls, injection, host_state, checked, any_checked;
struct vmcs_mask vmx_nested_rare;
static u16 encodings[VMCS_WORDS];

static void mask_add(struct vmcs_mask *mask, const struct vmcs_run *run) {
	for (unsigned i = run->at; i < run->at + run->count; i++) mask->word[i / 64] |= BIT(i % 64);
}

static bool mask_meets(const struct vmcs_mask *a, const struct vmcs_mask *b) {
	for (unsigned w = 0; w < DIRTY_WORDS; w++)
		if (a->word[w] & b->word[w]) return true;
	return false;
}

/* Takes the first bit out of the mask; false: there is none. */
static inline bool mask_take(struct vmcs_mask *mask, unsigned *bit) {
	for (unsigned w = 0; w < DIRTY_WORDS; w++) {
		if (!mask->word[w]) continue;
		*bit = 64 * w + (unsigned)__builtin_ctzl(mask->word[w]);
		mask->word[w] &= mask->word[w] - 1;
		return true;
	}
	return false;
}

void vmx_nested_init(void) {
	struct vmcs_mask *const kinds[] = {
		[VMCS_CONTROL] = &controls, [VMCS_GUEST] = &checked, [VMCS_HOST] = &host_state};

	for (unsigned r = 0; r < vmcs_nr_runs; r++) {
		const struct vmcs_run *run = &vmcs_runs[r];
		enum vmcs_kind kind = vmcs_kind(run->encoding);

		for (unsigned i = 0; i < run->count; i++)
			encodings[run->at + i] = (u16)(run->encoding + 2 * i);
		if (run->flags & F_SAME) mask_add(&plain, run);
		if (run->flags == F_RARE) mask_add(&vmx_nested_rare, run);
		if (kind == VMCS_INFO || run->flags & F_LOOSE) continue;
		mask_add(&any_checked, run);
		mask_add(run->flags & F_EVENT ? &injection : kinds[kind], run);
	}
}

/* ---- making and resetting ---- */

int vmx_nested_create(struct vcpu *vcpu) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;

	n->vmxon = n->current = NO_VMCS;
	if (!vcpu->vm->cpu_model->has_vmx) return 0;
	u8 *block = page_alloc(3 * PAGE_SIZE);
	if (!block) return E_NOMEM;
	n->vmcs12 = (void *)block;
	n->msr_map = block + PAGE_SIZE;
	memset(n->msr_map, 0xff, PAGE_SIZE);
	int err = vmx_shadow_create(vcpu);
	if (err) return err;
	vmx_switch_level(vcpu);
	err = vmx_new_vmcs(vcpu);
	if (!err) {
		vmx_borrow(vcpu);
		vmwrite(VMCS(msr_bitmap), virt_to_phys(n->msr_map));
		/* Of VM functions 02 has none: each exits. */
	}
	vmx_switch_level(vcpu);
	return err;
}

void vmx_nested_destroy(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);

	if (vcpu->l2) vmx_switch_level(vcpu);
	page_free(arch->other->vmcs, PAGE_SIZE);
	page_free(arch->nested.vmcs12, 3 * PAGE_SIZE);
	page_free(arch->nested.shadow, PAGE_SIZE);
}

static void switch_to(struct vcpu *vcpu, bool l2) {
	vmx_switch_level(vcpu);
	vcpu_set_level(vcpu, l2);
}

/* Of L2, which is left: 02 is active between its runs. */
static void leave_hlt(struct vcpu *vcpu) {
	vmx_borrow(vcpu);
	vmwrite(VMCS(guest_activity), 0);
	vmx_of(vcpu)->nested.halted = false;
}

void vmx_nested_reset(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	struct vmx_nested *n = &arch->nested;

	if (vcpu->l2) {
		leave_hlt(vcpu);
		switch_to(vcpu, false);
	}
	if (n->vmcs12) vmx_nested_flush_ept(vcpu, NULL);
	n->vmxon = n->current = NO_VMCS;
	n->rare_in_02 = n->init_held = arch->hides_apic = false;
	arch->level->cr0_owned |= PAGING_BIT;
	vmx_borrow(vcpu);
	vmx_shadow_use(vcpu, false);
	vmwrite(VMCS(cr0_mask), ~arch->level->cr0_owned);
}

/* ---- the TSC of L2: that of L1, multiplied and moved once more (SDM 3C 25.3) ---- */

static u64 tsc_multiplier(const struct vmcs_values *l1) {
	bool scaled = l1->proc_controls & PROC_TSC_OFFSET && vmx_proc2_of(l1) & PROC2_TSC_SCALING;

	return scaled ? l1->tsc_multiplier : 1ul << TSC_FRACTION;
}

/* An offset is signed: mostly L1's TSC is less than Roost's. */
u64 vmx_nested_tsc_offset(struct vcpu *vcpu, u64 offset) {
	const struct vmcs_values *l1 = vmx_of(vcpu)->nested.vmcs12;

	if (!(l1->proc_controls & PROC_TSC_OFFSET)) return offset;
	return (u64)((__int128)(s64)offset * tsc_multiplier(l1) >> TSC_FRACTION) + l1->tsc_offset;
}

/* Of the running level, as it should be. */
static void update_tsc_offset(struct vcpu *vcpu) {
	u64 offset = vcpu->l2 ? vmx_nested_tsc_offset(vcpu, vcpu->tsc_offset) : vcpu->tsc_offset;

	if (vmx_of(vcpu)->level->tsc_offset != offset) vmx_set_tsc_offset(vcpu, vcpu->tsc_offset);
}

/* ---- the preemption timer (SDM 3C 25.5.1) ---- */

static void start_timer(struct vcpu *vcpu) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;

	n->deadline = n->tick_from = ~0ul;
	if (likely(!(n->vmcs12->pin_controls & PIN_TICK))) return;
	/* L1 reckons by its own TSC. */
	n->deadline = time_tsc() + vm_host_tsc(vcpu->vm, n->vmcs12->tick << vmx_tick_shift());
	n->tick_from = n->deadline - ((u64)vmx_tick() << vmx_tick_shift());
}

static u64 time_left(const struct vmx_nested *n) {
	u64 now = time_tsc();

	return n->deadline > now ? n->deadline - now : 0;
}

u32 vmx_nested_ticks(struct vcpu *vcpu) {
	u64 left = vm_tsc(vcpu->vm, time_left(&vmx_of(vcpu)->nested));

	return (u32)min_u64(left >> vmx_tick_shift(), ~0u);
}

void vmx_nested_set_tick(const struct vmx_nested *n) {
	if (time_tsc() < n->tick_from) return;
	u64 left = time_left(n) >> vmx_tick_shift();
	if (left < vmread(VMCS(tick))) vmwrite(VMCS(tick), left);
}

void vmx_nested_fetch_rare(struct vcpu *vcpu) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;
	struct vmcs_mask left = vmx_nested_rare;
	u64 *values = (u64 *)n->vmcs12;
	unsigned i;

	if (!n->rare_in_02) return;
	n->rare_in_02 = false;
	vmx_switch_level(vcpu);
	while (mask_take(&left, &i)) values[i] = vmread(VMCS_FIELD(encodings[i]));
	vmx_switch_level(vcpu);
}

/* ---- MSR lists (SDM 3C 24.7.2, 26.4) ---- */

struct msr_entry {
	u32 msr, reserved;
	u64 value;
};

/* Also refuses what a list may not have: x2APIC; to be loaded, bases of segments. */
static __noinline bool move_msr(struct vcpu *vcpu, gpa_t at, bool load) {
	struct msr_entry entry;

	if (gmem_read(vcpu->vm->gmem, at, &entry, sizeof(entry)) || entry.reserved ||
	    entry.msr >> 8 == 8)
		return false;
	if (load)
		return entry.msr != X86_MSR_FS_BASE && entry.msr != X86_MSR_GS_BASE &&
		       !msr_write(vcpu, entry.msr, entry.value);
	return !msr_read(vcpu, entry.msr, &entry.value) &&
	       !gmem_write(vcpu->vm->gmem, at, &entry, sizeof(entry));
}

/* 0, or the number of the first entry that cannot be loaded or stored. */
static inline u32 move_msrs(struct vcpu *vcpu, gpa_t list, u64 count, bool load) {
	for (u32 i = 0; i < count; i++)
		if (i >= MAX_LIST || !move_msr(vcpu, list + i * sizeof(struct msr_entry), load))
			return i + 1;
	return 0;
}

/* ---- VM exit: SDM 3C 27 ---- */

/* Hardware turns the processor off. */
static void abort_vmx(struct vcpu *vcpu, const char *why) {
	vcpu_stop_reason(vcpu, "VMX abort: %s of a VM exit failed", why);
}

static void set_host_segment(enum seg seg, u64 selector, u64 base, u64 access) {
	vmwrite(VMCS_AT(guest_selector, seg), selector);
	vmwrite(VMCS_AT(guest_base, seg), base);
	vmwrite(VMCS_AT(guest_limit, seg), seg == SEG_TR ? 0x67 : ~0u);
	vmwrite(VMCS_AT(guest_access, seg), selector || seg == SEG_CS ? access : ACCESS_UNUSABLE);
}

static void load_host_segments(const struct vmcs_values *l1, bool wide) {
	static const u64 data = 0xc093;

	set_host_segment(SEG_ES, l1->host_selector[SEG_ES], 0, data);
	set_host_segment(SEG_CS, l1->host_selector[SEG_CS], 0, wide ? 0xa09b : 0xc09b);
	set_host_segment(SEG_SS, l1->host_selector[SEG_SS], 0, data);
	set_host_segment(SEG_DS, l1->host_selector[SEG_DS], 0, data);
	set_host_segment(SEG_FS, l1->host_selector[SEG_FS], l1->host_fs_base, data);
	set_host_segment(SEG_GS, l1->host_selector[SEG_GS], l1->host_gs_base, data);
	set_host_segment(SEG_LDTR, 0, 0, 0);
	set_host_segment(SEG_TR, l1->host_tr_selector, l1->host_tr_base, 0x8b);
	vmwrite(VMCS(guest_gdtr_base), l1->host_gdtr_base);
	vmwrite(VMCS(guest_idtr_base), l1->host_idtr_base);
	vmwrite(VMCS(guest_gdtr_limit), 0xffff);
	vmwrite(VMCS(guest_idtr_limit), 0xffff);
}

/* L1 is in the mode that it was in: EFER.LMA, and the entry control for it, are right. */
static void load_host_registers(const struct vmcs_values *l1, bool wide) {
	u64 kept = X86_CR0_CD | X86_CR0_NW | X86_CR0_ET;
	u64 cr0 = blend(l1->host_cr0, kept, vmread(VMCS(cr0_shadow)));
	u64 cr4 = wide ? l1->host_cr4 | X86_CR4_PAE : l1->host_cr4;

	if (l1->exit_controls & EXIT_LOAD_EFER) vmwrite(VMCS(guest_efer), l1->host_efer);
	vmwrite(VMCS(cr4_shadow), cr4);
	vmwrite(VMCS(guest_cr4), vmx_real_cr4(cr4));
	vmwrite(VMCS(cr0_shadow), cr0);
	vmwrite(VMCS(guest_cr0), vmx_real_cr0(cr0));
	vmwrite(VMCS(guest_cr3), l1->host_cr3);
	vmwrite(VMCS(guest_sysenter_cs), l1->host_sysenter_cs);
	vmwrite(VMCS(guest_sysenter_esp), l1->host_sysenter_esp);
	vmwrite(VMCS(guest_sysenter_eip), l1->host_sysenter_eip);
	if (l1->exit_controls & EXIT_LOAD_PAT) vmwrite(VMCS(guest_pat), l1->host_pat);
	vmwrite(VMCS(guest_dr7), 0x400);
	vmwrite(VMCS(guest_debugctl), 0);
}

/* L1 goes on where VMCS 12 says. 01 is current. */
static void load_host(struct vcpu *vcpu, bool nmi_blocked) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	const struct vmcs_values *l1 = arch->nested.vmcs12;
	bool wide = l1->exit_controls & EXIT_HOST_64;

	load_host_registers(l1, wide);
	load_host_segments(l1, wide);
	vcpu->rip = l1->host_rip;
	vcpu->gpr[RSP] = l1->host_rsp;
	vcpu->rflags = X86_RFLAGS_FIXED;
	vmx_write_back(vcpu);
	arch->saved_rip = vcpu->rip;
	arch->saved_rflags = vcpu->rflags;
	vmwrite(VMCS(guest_shadow), nmi_blocked ? SHADOW_NMI : 0);
	update_tsc_offset(vcpu);
	if (!(vmx_proc2_of(l1) & PROC2_VPID)) vmx_tlb_flush(vcpu);
	if (!wide && (l1->host_cr4 & X86_CR4_PAE) && !vmx_load_pdptes(vcpu))
		abort_vmx(vcpu, "the page-directory pointers");
	if (move_msrs(vcpu, l1->exit_msr_load, l1->exit_msr_loads, true))
		abort_vmx(vcpu, "the MSR loading");
}

/* L2's state into VMCS 12; 02 is current and goes on having it. */
static void store_l2(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	struct vmx_nested *n = &arch->nested;
	struct vmcs_values *l1 = n->vmcs12;

	vmx_need_rsp(vcpu);
	vmx_write_back(vcpu);
	l1->guest_rip = vcpu->rip;
	l1->guest_rsp = vcpu->gpr[RSP];
	l1->guest_rflags = vcpu->rflags;
	l1->guest_cr0 = vmx_cr0(arch);
	l1->guest_cr4 = vmx_cr4(arch);
	l1->guest_cr3 = vmread(VMCS(guest_cr3));
	l1->guest_shadow = vmread(VMCS(guest_shadow));
	l1->guest_pending_db = vmread(VMCS(guest_pending_db));
	l1->guest_activity = n->halted;
	if (n->merged.proc2 & PROC2_VID)
		l1->guest_interrupt_status = vmread(VMCS(guest_interrupt_status));
	u64 efer = vmread(VMCS(guest_efer));
	l1->entry_controls &= ~ENTRY_IA32E;
	if (efer & X86_EFER_LMA) l1->entry_controls |= ENTRY_IA32E;
	if (l1->exit_controls & EXIT_SAVE_EFER) l1->guest_efer = efer;
	if (l1->exit_controls & EXIT_SAVE_PAT) l1->guest_pat = vmread(VMCS(guest_pat));
	if (l1->exit_controls & EXIT_SAVE_DEBUG) {
		l1->guest_dr7 = vmread(VMCS(guest_dr7));
		l1->guest_debugctl = vmread(VMCS(guest_debugctl));
	}
	if (l1->exit_controls & EXIT_SAVE_TICK) l1->tick = vmx_nested_ticks(vcpu);
	n->rare_in_02 = true;
	if (move_msrs(vcpu, l1->exit_msr_store, l1->exit_msr_stores, false))
		abort_vmx(vcpu, "the MSR storing");
}

/* Why L2 has been left (SDM 3C 27.2). */
static void store_reason(struct vcpu *vcpu, const struct vmx_exit_to *to) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	struct vmcs_values *l1 = arch->nested.vmcs12;

	l1->exit_reason = to->reason;
	l1->qualification = to->qualification;
	if (to->reason & REASON_ENTRY_FAILED) return;
	l1->entry_event &= ~EVENT_VALID;
	l1->guest_pa = to->gpa;
	l1->exit_event = to->event;
	l1->exit_error = to->error;
	l1->vectoring_event = arch->event ? vmread(VMCS(entry_event)) : 0;
	l1->vectoring_error = arch->event ? vmread(VMCS(entry_error)) : 0;
	if (!to->hardware) return;
	l1->exit_event = vmread(VMCS(exit_event));
	if (l1->exit_event & EVENT_HAS_ERROR) l1->exit_error = vmread(VMCS(exit_error));
	l1->vectoring_event = vmread(VMCS(vectoring_event));
	if (l1->vectoring_event & EVENT_HAS_ERROR)
		l1->vectoring_error = vmread(VMCS(vectoring_error));
	l1->instruction_length = vmread(VMCS(instruction_length));
	l1->instruction_info = vmread(VMCS(instruction_info));
	l1->guest_linear = vmread(VMCS(guest_linear));
}

void vmx_nested_leave(struct vcpu *vcpu, const struct vmx_exit_to *to) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	struct vmcs_values *l1 = arch->nested.vmcs12;
	bool failed = to->reason & REASON_ENTRY_FAILED, nmi = false;

	store_reason(vcpu, to);
	if (!failed) {
		store_l2(vcpu);
		nmi = !(l1->pin_controls & PIN_VNMI) && (l1->guest_shadow & SHADOW_NMI);
		if (EVENT_TYPE(l1->exit_event) == EVENT_TYPE_NMI && (l1->exit_event & EVENT_VALID))
			nmi = true;
	}
	if (unlikely(arch->nested.halted)) leave_hlt(vcpu);
	if (arch->event) vmwrite(VMCS(entry_event), 0);
	arch->event = vcpu->exception.pending = false;
	if (vcpu->l2) switch_to(vcpu, false);
	vmx_shadow_put(vcpu);
	load_host(vcpu, nmi);
}

/* ---- VM entry: SDM 3C 26 ---- */

static void merge_controls(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	struct vmx_nested *n = &arch->nested;
	const struct vmcs_values *l1 = n->vmcs12;
	const struct vmx_config *c = &vmx_config;
	u64 given = PROC2_RDTSCP | PROC2_INVPCID | PROC2_UNRESTRICTED | PROC2_XSAVES;
	u64 asked = PROC2_TABLES | PROC2_WBINVD | PROC2_RDRAND | PROC2_VMFUNC | PROC2_RDSEED;
	u64 bitmaps = PROC_IO_BITMAPS | PROC_MSR_BITMAP;
	/* The virtual APIC of 01 is L1's, and so is the shadow VMCS. */
	u64 theirs =
		PROC2_APIC_ACCESS | PROC2_X2APIC | PROC2_APIC_REGS | PROC2_VID | PROC2_SHADOW_VMCS;
	u64 cr8 = PROC_CR8_LOAD | PROC_CR8_STORE, l1_proc2 = vmx_proc2_of(l1);
	u64 proc = (c->proc & ~(PROC_TPR_SHADOW | cr8)) |
		   (l1->proc_controls & PROC_TPR_SHADOW ? 0 : cr8);
	u64 proc2 = (c->proc2 & ~(given | theirs)) | (c->proc2 & given & l1_proc2) |
		    (asked & l1_proc2) | vmx_nested_merge_apic(vcpu);

	/* It would log L2's addresses. The shadow sees first writes by itself. */
	if (l1_proc2 & PROC2_EPT) proc2 &= ~(u64)PROC2_PML;
	if (n->merged.proc2 & ~proc2 & PROC2_X2APIC) vmx_msr_bitmap_x2apic(n->msr_map, NULL, 0);
	vmwrite_new(VMCS(proc_controls), &arch->level->proc, proc | (l1->proc_controls & ~bitmaps));
	vmwrite_new(VMCS(proc2_controls), &n->merged.proc2, proc2);
	vmwrite_new(VMCS(exception_bitmap), &n->merged.exceptions,
		    VMX_EXCEPTIONS | l1->exception_bitmap);
	vmwrite_new(VMCS(cr0_mask), &n->merged.cr0_mask, ~arch->level->cr0_owned | l1->cr0_mask);
	vmwrite_new(VMCS(cr4_mask), &n->merged.cr4_mask, ~arch->level->cr4_owned | l1->cr4_mask);
	/* The product of both; 0 is not allowed. */
	vmwrite_new(VMCS(tsc_multiplier), &n->merged.tsc_multiplier,
		    vm_tsc(vcpu->vm, tsc_multiplier(l1)) ?: 1);
	arch->level->cr0_l1 = l1->cr0_mask;
	arch->level->cr4_l1 = l1->cr4_mask;
}

static void merge_msr_map(struct vcpu *vcpu) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;
	const u8 *map = NULL;

	if (n->vmcs12->proc_controls & PROC_MSR_BITMAP)
		map = gmem_ptr(vcpu->vm->gmem, n->vmcs12->msr_bitmap, PAGE_SIZE);
	vmx_msr_bitmap_merge(n->msr_map, map);
	if (unlikely(n->merged.proc2 & PROC2_X2APIC))
		vmx_msr_bitmap_x2apic(n->msr_map, map, n->merged.proc2);
}

/* Registers that an entry loads or leaves, as a control says; theirs: what L1 has in them. */
struct optional {
	u64 efer, pat, dr7;
};

static void load_optional(struct vcpu *vcpu, const struct optional *theirs) {
	const struct vmcs_values *l1 = vmx_of(vcpu)->nested.vmcs12;
	u64 ia32e = l1->entry_controls & ENTRY_IA32E, lma = X86_EFER_LMA | X86_EFER_LME;
	u64 efer = ia32e ? theirs->efer | lma : theirs->efer & ~lma;
	bool debug = l1->entry_controls & ENTRY_LOAD_DEBUG;

	if (l1->entry_controls & ENTRY_LOAD_EFER) efer = l1->guest_efer;
	vmwrite(VMCS(entry_controls), (vmx_config.entry & ~ENTRY_IA32E) | ia32e);
	vmwrite(VMCS(guest_efer), efer);
	vmwrite(VMCS(guest_pat), l1->entry_controls & ENTRY_LOAD_PAT ? l1->guest_pat : theirs->pat);
	vmwrite(VMCS(guest_dr7), debug ? l1->guest_dr7 : theirs->dr7);
	vmwrite(VMCS(guest_debugctl), debug ? l1->guest_debugctl & DEBUG_BTF : 0);
}

static void load_l2(struct vcpu *vcpu, const struct optional *theirs) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	struct vmx_nested *n = &arch->nested;
	struct vmcs_values *l1 = n->vmcs12;
	const u64 *values = (const u64 *)l1;
	struct vmcs_mask write;
	unsigned i;

	for (unsigned w = 0; w < DIRTY_WORDS; w++) write.word[w] = n->dirty.word[w] & plain.word[w];
	while (mask_take(&write, &i)) vmwrite(VMCS_FIELD(encodings[i]), values[i]);
	if (mask_meets(&n->dirty, &controls)) merge_controls(vcpu);
	memset(&n->dirty, 0, sizeof(n->dirty));
	load_optional(vcpu, theirs);
	vmwrite(VMCS(guest_cr0), vmx_real_cr0(l1->guest_cr0));
	vmwrite(VMCS(cr0_shadow), blend(l1->guest_cr0, l1->cr0_mask, l1->cr0_shadow));
	vmwrite(VMCS(guest_cr4), vmx_real_cr4(l1->guest_cr4));
	vmwrite(VMCS(cr4_shadow), blend(l1->guest_cr4, l1->cr4_mask, l1->cr4_shadow));
	vmwrite(VMCS(guest_pending_db), l1->guest_pending_db);
	vcpu->rip = arch->saved_rip = l1->guest_rip;
	vcpu->rflags = arch->saved_rflags = l1->guest_rflags;
	vcpu->gpr[RSP] = arch->saved_rsp = l1->guest_rsp;
	arch->rsp_known = true;
}

/* The event that L1 injects (SDM 3C 24.8.3). */
static void queue_event(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	const struct vmcs_values *l1 = arch->nested.vmcs12;

	if (!(l1->entry_event & EVENT_VALID)) return;
	/* 02 has virtual NMIs always: an NMI comes in, and blocks others then (26.3.1.5). */
	if (EVENT_TYPE(l1->entry_event) == EVENT_TYPE_NMI && (l1->guest_shadow & SHADOW_NMI))
		vmwrite(VMCS(guest_shadow), l1->guest_shadow & ~SHADOW_NMI);
	vmwrite(VMCS(entry_event), l1->entry_event);
	vmwrite(VMCS(entry_error), l1->entry_error);
	vmwrite(VMCS(entry_length), l1->entry_length);
	arch->event = true;
}

/* PAE paging without EPT of L1's takes its directory pointers from memory. */
static bool load_pdptes(struct vcpu *vcpu) {
	bool ept = vmx_proc2_of(vmx_of(vcpu)->nested.vmcs12) & PROC2_EPT;

	return ept || !vmx_pae_paging(vcpu) || vmx_load_pdptes(vcpu);
}

static enum outcome fail_entry(struct vcpu *vcpu, u64 reason, u64 qualification) {
	vmx_nested_leave(vcpu, &(struct vmx_exit_to){.reason = (u32)(reason | REASON_ENTRY_FAILED),
						     .qualification = qualification});
	return RESUME;
}

/* Where L1's timer runs, the processor waits for it. */
void vmx_nested_halt(struct vcpu *vcpu) {
	vmx_end_shadow(vcpu);
	if (vmx_l1_window_open(vcpu)) return;
	if (vmx_nested_interrupt_waits(vcpu))
		vmx_of(vcpu)->nested.halted = false;
	else if (vmx_of(vcpu)->nested.tick_from == ~0ul)
		vcpu_halt(vcpu);
	else
		vmwrite(VMCS(guest_activity), ACTIVITY_HLT);
}

static enum outcome enter_l2(struct vcpu *vcpu, u64 eptp) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	struct vmx_nested *n = &arch->nested;
	const struct optional theirs = {.efer = vmread(VMCS(guest_efer)),
					.pat = vmread(VMCS(guest_pat)),
					.dr7 = vmread(VMCS(guest_dr7))};

	switch_to(vcpu, true);
	vmwrite_new(VMCS(eptp), &arch->level->eptp, eptp);
	load_l2(vcpu, &theirs);
	merge_msr_map(vcpu);
	update_tsc_offset(vcpu);
	if (!load_pdptes(vcpu)) return fail_entry(vcpu, REASON_BAD_STATE, QUAL_PDPTE);
	u32 bad = move_msrs(vcpu, n->vmcs12->entry_msr_load, n->vmcs12->entry_msr_loads, true);
	if (bad) return fail_entry(vcpu, REASON_MSR_LOADING, bad);
	n->launched = true;
	start_timer(vcpu);
	n->halted = n->vmcs12->guest_activity && !(n->vmcs12->entry_event & EVENT_VALID);
	queue_event(vcpu);
	if (n->halted) vmx_nested_halt(vcpu);
	return RESUME;
}

/* What the checks of L1's entries go by: the processor that L1 has been offered. */
static void l1_limits(struct vcpu *vcpu, struct vmx_limits *limits) {
	const struct cpu_model *model = vcpu->vm->cpu_model;
	const struct vmx_nested *n = &vmx_of(vcpu)->nested;

	*limits = (struct vmx_limits){
		.caps = {.phys_bits = model->phys_bits, .linear_bits = 48},
		.current = n->current,
		.link_revision = vmx_revision_at(vcpu, n->vmcs12->link),
		.debugctl = DEBUG_BTF,
		.efer = model->efer_allowed,
		.ia32e = vmx_reg(vcpu, VREG_EFER) & X86_EFER_LMA,
		.vtpr = 0xff, /* looked at each time */
	};
	memcpy(limits->caps.msr, model->vmx_msrs, sizeof(model->vmx_msrs));
}

/*
 * The checks of what L1 has touched since it last passed them. What the processor checks in 02 as
 * it would in VMCS 12 is left to it: that exit is passed on. 0, or the error or reason of the
 * failure.
 */
static u32 check_entry(struct vcpu *vcpu, struct vmx_rule_broken *broken) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;
	struct vmx_limits limits;
	u32 parts = 0;

	if (likely(!mask_meets(&n->dirty, &any_checked))) return 0;
	if (mask_meets(&n->dirty, &controls)) parts = CHECK_ALL;
	if (mask_meets(&n->dirty, &injection)) parts |= CHECK_CONTROLS;
	if (mask_meets(&n->dirty, &host_state)) parts |= CHECK_HOST;
	if (mask_meets(&n->dirty, &checked)) parts |= CHECK_GUEST;
	l1_limits(vcpu, &limits);
	if (parts & CHECK_GUEST) vmx_nested_fetch_rare(vcpu);
	if (vmx_check(n->vmcs12, &limits, parts, broken)) return 0;
	return broken->error ?: REASON_BAD_STATE;
}

enum outcome vmx_exit_vmentry(struct vcpu *vcpu) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;
	bool launch = vmread(VMCS(exit_reason)) == REASON_VMLAUNCH;
	enum outcome outcome = vmx_insn_allowed(vcpu);
	struct vmx_rule_broken broken;
	u64 eptp;

	if (outcome != ADVANCE) return outcome;
	if (n->current == NO_VMCS || n->is_shadow) return vmx_fail(vcpu, 0);
	if (vmread(VMCS(guest_shadow)) & SHADOW_MOV_SS) return vmx_fail(vcpu, ERROR_MOV_SS);
	if (launch == n->launched)
		return vmx_fail(vcpu, launch ? ERROR_LAUNCH_NOT_CLEAR : ERROR_RESUME_NOT_LAUNCHED);
	vmx_shadow_get(vcpu);
	u32 failure = check_entry(vcpu, &broken);
	if (!failure && unlikely(n->vmcs12->proc_controls & PROC_TPR_SHADOW) &&
	    !vmx_nested_threshold_kept(vcpu))
		failure = ERROR_CONTROLS;
	if (failure == REASON_BAD_STATE) return fail_entry(vcpu, failure, broken.qualification);
	if (failure) return vmx_fail(vcpu, failure);
	int err = vmx_nested_use_tables(vcpu, &eptp);
	if (err == E_BUSY) return RESUME;
	if (err) return vcpu_stop_reason(vcpu, "no memory for the tables of its guests");
	return enter_l2(vcpu, eptp);
}
