/*
 * Exits: one table of {name, handler}, one way through it, one tail (kernel/backend.h).
 *
 * VMREAD and VMWRITE are the cost of an exit. RIP, RFLAGS and the reason are always read, all else
 * by the handler that needs it: the instruction's length by the tail, after ADVANCE only, where it
 * is valid (SDM 3C 27.2.5). In the tail RIP, RFLAGS and RSP are written when they changed.
 */
#include "kernel/vm.h"
#include "lib/log.h"
#include "lib/x86.h"
#include "mm/gmem.h"
#include "platform/cr.h"
#include "platform/emulate.h"
#include "platform/exits.h"
#include "platform/kvm_pv.h"
#include "platform/lapic.h"
#include "platform/msr.h"
#include "vmx/check.h"
#include "vmx/vmx.h"

void vmx_need_rsp(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);

	if (arch->rsp_known) return;
	arch->rsp_known = true;
	arch->saved_rsp = vmread(VMCS(guest_rsp));
	vcpu->gpr[RSP] = arch->saved_rsp;
}

/* RIP wraps at 4 GiB outside of 64-bit code, as the instruction pointer does. */
static inline u64 next_rip(struct vcpu *vcpu) {
	if (vcpu->next_rip) return vcpu->next_rip;
	u64 next = vcpu->rip + vmread(VMCS(instruction_length));
	bool far = (next ^ vcpu->rip) >> 32;
	return unlikely(far) && !(vmx_privilege(vcpu) & PRIV_64BIT) ? (u32)next : next;
}

/* ---- handlers ---- */

static enum outcome exit_tick(struct vcpu *vcpu) {
	vmwrite(VMCS(tick), vmx_tick());
	vcpu_request_self(vcpu, REQ_LOOP);
	return RESUME;
}

static enum outcome exit_io(struct vcpu *vcpu) {
	u64 info = vmread(VMCS(qualification));
	u16 port = (u16)(info >> 16);
	unsigned size = (info & 7) + 1;
	bool in = info & BIT(3);

	if (unlikely(info & BIT(4))) return emulate_string_io(vcpu, port, size, in, info & BIT(5));
	return exit_in_out(vcpu, port, size, in);
}

enum outcome vmx_ept_device(struct vcpu *vcpu, gpa_t gpa, u64 info) {
	bool page_walk = !(info & EPT_QUAL_LINEAR) || !(info & EPT_QUAL_FINAL);

	/* Nothing answers there: the bus reads all ones, which is an undefined instruction. */
	if (info & EPT_QUAL_FETCH) return inject_ud(vcpu);
	vmx_need_rsp(vcpu);
	return emulate_mmio(vcpu, gpa, info & EPT_QUAL_WRITE, page_walk);
}

void vmx_resume_delivery(struct vcpu *vcpu, u64 info) {
	vmx_take_exit_event(vcpu);
	/* The IRET that ended NMI blocking runs again (SDM 3C 27.2.3). */
	if (unlikely((info & EPT_QUAL_NMI_UNBLOCKED) && !vmx_of(vcpu)->event))
		vmwrite(VMCS(guest_shadow), vmread(VMCS(guest_shadow)) | SHADOW_NMI);
}

static enum outcome exit_ept_violation(struct vcpu *vcpu) {
	u64 info = vmread(VMCS(qualification));
	gpa_t gpa = vmread(VMCS(guest_pa));

	vmx_resume_delivery(vcpu, info);
	if (gmem_fault(vcpu->vm->gmem, gpa, info & EPT_QUAL_WRITE, info & EPT_QUAL_FETCH) == 0 ||
	    vmx_map_apic(vcpu, gpa, info))
		return RESUME;
	return vmx_ept_device(vcpu, gpa, info);
}

/* The write comes again. Qualification: as of an EPT violation, bit 12 alone (27.2.1). */
static enum outcome exit_pml_full(struct vcpu *vcpu) {
	vmx_resume_delivery(vcpu, vmread(VMCS(qualification)));
	gmem_log_collect_of(vcpu->vm->gmem, vmx_of(vcpu)->level->pml);
	vmwrite(VMCS(pml_index), PML_FIRST);
	return RESUME;
}

static enum outcome exit_ept_misconfig(struct vcpu *vcpu) {
	return vcpu_stop_reason(vcpu, "EPT misconfiguration at %lx", vmread(VMCS(guest_pa)));
}

/*
 * Every task switch exits (SDM 3C 25.4.2). RIP is at the instruction that wants it; for an event it
 * is where the old task goes on (27.3.3).
 */
static enum outcome exit_task_switch(struct vcpu *vcpu) {
	u64 info = vmread(VMCS(qualification)), event = vmread(VMCS(vectoring_event));
	u64 type = event & EVENT_VALID ? EVENT_TYPE(event) : EVENT_TYPE_SOFT_FIRST;
	u64 shadow = vmread(VMCS(guest_shadow)), cr3 = vmread(VMCS(guest_cr3));
	struct task_switch to = {
		.selector = (u16)info,
		.source = info >> 30 & 3,
		.external = type < EVENT_TYPE_SOFT_FIRST,
		.has_error = type == EVENT_TYPE_EXCEPTION && event & EVENT_HAS_ERROR,
		.error = (u32)vmread(VMCS(vectoring_error)),
	};

	vmx_need_rsp(vcpu);
	to.rip = to.external ? vcpu->rip : next_rip(vcpu);
	if (type == EVENT_TYPE_EXCEPTION) vmx_take_exit_event(vcpu);
	if (emulate_task_switch(vcpu, &to) == E_BUSY) {
		vmx_take_exit_event(vcpu);
		return RESUME;
	}
	if (type == EVENT_TYPE_NMI) shadow |= SHADOW_NMI;
	if (to.source == TASK_IRET) shadow &= ~SHADOW_NMI;
	vmwrite(VMCS(guest_shadow), shadow & ~SHADOW_NEXT);
	if (vmread(VMCS(guest_cr3)) != cr3 && vmx_pae_paging(vcpu) && !vmx_load_pdptes(vcpu))
		inject_gp(vcpu, 0);
	return RESUME;
}

/* The processor refused an entry: the rules of SDM 3C 26 tell which field is wrong, and how. */
static enum outcome entry_refused(struct vcpu *vcpu, const char *what, u64 number) {
	struct vmx_limits limits = {
		.caps = vmx_config.caps,
		.current = vmx_of(vcpu)->level->vmcs_pa,
		.debugctl = DEBUGCTL_DEFINED,
		.efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE,
		.ia32e = true,
		.link_revision = BASIC_REVISION(vmx_cap(&vmx_config.caps, VMX_MSR_BASIC)) | BIT(31),
		.rtm = true,
		.vtpr = vmx_of(vcpu)->vapic ? (u8)vmx_of(vcpu)->vapic[0x80 / 4] : 0,
	};
	struct vmx_rule_broken why;
	struct vmcs_values values;

	for (unsigned i = 0; i < vmcs_nr_runs; i++)
		for (u32 at = 0; at < vmcs_runs[i].count; at++) {
			u32 encoding = vmcs_runs[i].encoding + 2 * at;

			*vmcs_values_at(&values, encoding) = vmread_any(VMCS_FIELD(encoding));
		}
	if (vmx_check(&values, &limits, CHECK_ALL, &why))
		return vcpu_stop_reason(vcpu, "VM entry refused, %s %lu, for no known rule", what,
					number);
	return vcpu_stop_reason(vcpu, "VM entry refused, %s %lu: %s (%x) is %lx; SDM 3C %s: %s",
				what, number, why.field, why.encoding,
				*vmcs_values_at(&values, why.encoding), why.section, why.rule);
}

static enum outcome exit_bad_state(struct vcpu *vcpu) {
	return entry_refused(vcpu, "qualification", vmread(VMCS(qualification)));
}

static enum outcome exit_bad_entry(struct vcpu *vcpu) {
	return vcpu_stop_reason(vcpu, "VM entry failed: reason %lx, qualification %lx",
				vmread(VMCS(exit_reason)), vmread(VMCS(qualification)));
}

/* ---- exits that no control asked for: a hypervisor below may make them all the same ---- */

static enum outcome exit_unasked(struct vcpu *vcpu) {
	static _Atomic bool said[NR_REASONS];
	u64 reason = (u16)vmread(VMCS(exit_reason)), tsc = guest_tsc(vcpu);

	if (!atomic_exchange(&said[reason], true))
		log_warn("vm %s: exit %lu (%s) was not asked for", vcpu->vm->name, reason,
			 vmx_exits[reason].name);
	switch (reason) {
	case REASON_TRAP_FLAG: return RESUME;
	case REASON_INVLPG:
	case REASON_INVPCID: vmx_tlb_flush(vcpu); return ADVANCE;
	case REASON_RDTSC:
	case REASON_RDTSCP:
		vcpu->gpr[RAX] = (u32)tsc;
		vcpu->gpr[RDX] = tsc >> 32;
		if (reason == REASON_RDTSCP) vcpu->gpr[RCX] = (u32)vmx_reg(vcpu, VREG_TSC_AUX);
		return ADVANCE;
	default: return inject_ud(vcpu); /* the guest's CPU model does not have it */
	}
}

/* The instruction would have to be carried out, and nothing here can. */
static enum outcome unasked_stop(struct vcpu *vcpu) {
	return vcpu_stop_reason(vcpu, "exit reason %lx, which was not asked for, at rip %lx",
				vmread(VMCS(exit_reason)), vcpu->rip);
}

#pragma GCC diagnostic ignored "-Woverride-init" /* by what follows the table's first line */

#define ENTRY(number, constant, name, handler, ...) [number] = {name, handler},
const struct exit_entry vmx_exits[VMX_NR_EXITS] = {[0 ... NR_REASONS] = {"unknown", unasked_stop},
						   VMX_EXITS(ENTRY)};

enum outcome vmx_handle(struct vcpu *vcpu, u64 index) { return vmx_exits[index].handler(vcpu); }

/* ---- the way through ---- */

void vmx_write_back(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);

	vmwrite(VMCS(guest_rip), vcpu->rip);
	vmwrite(VMCS(guest_rflags), vcpu->rflags);
	vmwrite(VMCS(guest_rsp), vcpu->gpr[RSP]);
	arch->rsp_known = false;
}

/* The instruction is done: what was for it alone ends (SDM 3B 17.3.1.1, 3A 6.8.3). */
static inline void advance(struct vcpu *vcpu) {
	u64 shadow = vmread(VMCS(guest_shadow));

	vcpu->rip = next_rip(vcpu);
	if (unlikely(shadow & SHADOW_NEXT)) vmwrite(VMCS(guest_shadow), shadow & ~SHADOW_NEXT);
	if (unlikely(vcpu->rflags & (X86_RFLAGS_TF | X86_RFLAGS_RF))) vcpu_end_instruction(vcpu);
}

/* The basic reason of an entry that failed; else a reason that no manual names yet. */
static u64 odd_reason(u64 reason) {
	return reason & REASON_ENTRY_FAILED ? min_u64((u16)reason, NR_REASONS) : NR_REASONS;
}

bool vmx_exit(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	u64 index = vmread(VMCS(exit_reason));
	u64 rip = vmread(VMCS(guest_rip));
	u64 rflags = vmread(VMCS(guest_rflags));

	if (unlikely(index >= NR_REASONS)) index = odd_reason(index);
	vcpu->rip = arch->saved_rip = rip;
	vcpu->rflags = arch->saved_rflags = rflags;
	vcpu->next_rip = 0;
	arch->rsp_known = false;
	arch->event = false;
	note_exit(vcpu, rip, index);
	enum outcome outcome =
		likely(!vcpu->l2) ? vmx_exits[index].handler(vcpu) : vmx_nested_exit(vcpu, index);
	if (outcome == ADVANCE) advance(vcpu);
	if (unlikely(vcpu_needs_prepare(vcpu)) && !vcpu_prepare(vcpu)) {
		vmx_need_rsp(vcpu);
		return false;
	}
	if (vcpu->rip != arch->saved_rip) vmwrite(VMCS(guest_rip), vcpu->rip);
	if (unlikely(vcpu->rflags != arch->saved_rflags)) vmwrite(VMCS(guest_rflags), vcpu->rflags);
	if (unlikely(arch->rsp_known) && vcpu->gpr[RSP] != arch->saved_rsp)
		vmwrite(VMCS(guest_rsp), vcpu->gpr[RSP]);
	if (unlikely(arch->level->flush || vcpu->l2)) vmx_tlb_enter(vcpu);
	return true;
}

bool vmx_entry_refused(struct vcpu *vcpu) {
	vmx_of(vcpu)->level->launched = 0;
	if (vmx_nested_refused(vcpu)) return false;
	entry_refused(vcpu, "VM-instruction error", vmread(VMCS(instruction_error)));
	return false;
}
