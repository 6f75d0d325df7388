/*
 * Who handles what ends an L2's run: Roost itself, L1, or Roost in the place of the hardware that
 * L2 believes in. One rule an exit reason (SDM 3C 25.1), and one for each event that is not an exit
 * of the CPU's.
 */
#include "kernel/guest.h"
#include "kernel/nested.h"
#include "kernel/time.h"
#include "kernel/vm.h"
#include "lib/x86.h"
#include "mm/gmem.h"
#include "platform/msr.h"
#include "vmx/vmx.h"

#define DR6_ALL 0xe00ful

enum rule {
	OWN,	   /* the machine's own affairs */
	ALWAYS,	   /* L1's: no control turns it off */
	PROC,	   /* L1's when its control is set */
	PROC2,	   /* the same, of the secondary ones */
	WINDOW,	   /* as PROC, but Roost's own window closes */
	EXCEPTION, /* L1's by its exception bitmap */
	CR,	   /* L1's by its masks and controls */
	IO,	   /* L1's by its bitmaps */
	MSR,
	FIELD,
	HLT,  /* as PROC; no sleep in L1's interrupt window */
	TICK, /* L1's when its time is over */
	FUNC, /* as L1's controls and list of EPT pointers have it */
	EPT,  /* Roost's when its own tables are what is missing */
	FAIL, /* the entry of 02 has failed */
};

#define RULE(number, constant, name, handler, rule, control) [number] = {rule, (u32)(control)},
static const struct {
	u8 rule;
	u32 control;
} rules[VMX_NR_EXITS] = {VMX_EXITS(RULE)};

bool vmx_l1_takes_interrupts(struct vcpu *vcpu) {
	return vmx_of(vcpu)->nested.vmcs12->pin_controls & PIN_INTERRUPT;
}

bool vmx_l1_window_open(struct vcpu *vcpu) {
	vmx_borrow(vcpu);
	return vmx_of(vcpu)->nested.vmcs12->proc_controls & PROC_INTERRUPT_WINDOW &&
	       (vcpu->rflags & X86_RFLAGS_IF) && !(vmread(VMCS(guest_shadow)) & SHADOW_NEXT);
}

/* Virtual NMIs leave physical ones unmasked (SDM 3C 25.3). */
bool vmx_l1_takes_nmis(struct vcpu *vcpu) {
	u64 both = PIN_NMI | PIN_VNMI, pin = vmx_of(vcpu)->nested.vmcs12->pin_controls;

	if (!(pin & PIN_NMI)) return false;
	vmx_borrow(vcpu);
	return (pin & both) == both || !(vmread(VMCS(guest_shadow)) & SHADOW_NMI);
}

/* A bit of a bitmap of L1's; what is not in memory reads as ones. */
static bool map_bit(struct vcpu *vcpu, gpa_t map, u32 bit) {
	u8 byte;

	if (gmem_read(vcpu->vm->gmem, map + bit / 8, &byte, 1)) return true;
	return byte >> bit % 8 & 1;
}

/* SDM 3C 25.1.3: every port of the access counts, and so does one that wraps around. */
static bool io_wanted(struct vcpu *vcpu, const struct vmcs_values *l1) {
	u64 info = vmread(VMCS(qualification));
	u32 port = (u32)(info >> 16 & 0xffff), size = (u32)(info & 7) + 1;

	if (!(l1->proc_controls & PROC_IO_BITMAPS)) return l1->proc_controls & PROC_ALL_IO;
	if (port + size > 0x10000) return true;
	for (; size; size--, port++)
		if (map_bit(vcpu, l1->io_bitmap[port >> 15], port & 0x7fff)) return true;
	return false;
}

static bool msr_wanted(struct vcpu *vcpu, const struct vmcs_values *l1, bool write) {
	u32 msr = (u32)vcpu->gpr[RCX], bit = msr & 0x1fff;

	if (!(l1->proc_controls & PROC_MSR_BITMAP)) return true;
	if (msr != bit && msr != (bit | 0xc0000000)) return true;
	return map_bit(vcpu, l1->msr_bitmap + (msr == bit ? 0 : 1024) + (write ? 2048 : 0), bit);
}

/* VMCS shadowing (SDM 3C 24.10): what passes goes to the VMCS of L1's link pointer. */
static bool field_wanted(struct vcpu *vcpu, const struct vmcs_values *l1, bool write) {
	u64 gpr = vmread(VMCS(instruction_info)) >> 28 & 0xf;

	if (!(vmx_proc2_of(l1) & PROC2_SHADOW_VMCS)) return true;
	if (gpr == RSP) vmx_need_rsp(vcpu);
	u64 encoding = vcpu->gpr[gpr];
	if (!(vmx_privilege(vcpu) & PRIV_64BIT)) encoding = (u32)encoding;
	return encoding >> 15 ||
	       map_bit(vcpu, write ? l1->vmwrite_bitmap : l1->vmread_bitmap, (u32)encoding);
}

static bool cr_wanted(struct vcpu *vcpu, const struct vmcs_values *l1) {
	u64 info = vmread(VMCS(qualification)), value;
	unsigned cr = info & 0xf, gpr = info >> 8 & 0xf, access = info >> 4 & 3;

	if (access == 1) return cr != 8 || (l1->proc_controls & PROC_CR8_STORE);
	if (access) return true; /* CLTS and LMSW: no bit of theirs is Roost's */
	if (gpr == RSP) vmx_need_rsp(vcpu);
	value = vcpu->gpr[gpr];
	if (!(vmx_privilege(vcpu) & PRIV_64BIT)) value = (u32)value;
	switch (cr) {
	case 0: return (value ^ l1->cr0_shadow) & l1->cr0_mask;
	case 4: return (value ^ l1->cr4_shadow) & l1->cr4_mask;
	case 8: return l1->proc_controls & PROC_CR8_LOAD;
	default: return true;
	}
}

static bool exception_wanted(const struct vmcs_values *l1) {
	u64 info = vmread(VMCS(exit_event));
	u8 vector = info & 0x1f;

	if (EVENT_TYPE(info) == EVENT_TYPE_NMI || vector == X86_MC) return false;
	return l1->exception_bitmap >> vector & 1;
}

/* RDMSR of the TSC by L2 itself tells what RDTSC does. */
static enum outcome own_msr(struct vcpu *vcpu, u64 index) {
	const struct vmx_vcpu *arch = vmx_of(vcpu);
	u64 tsc =
		tsc_scale(time_tsc(), arch->nested.merged.tsc_multiplier) + arch->level->tsc_offset;

	if ((u32)vcpu->gpr[RCX] != X86_MSR_TSC || index != REASON_RDMSR)
		return vmx_handle(vcpu, index);
	vcpu->gpr[RAX] = (u32)tsc;
	vcpu->gpr[RDX] = tsc >> 32;
	return ADVANCE;
}

static enum outcome own_hlt(struct vcpu *vcpu) {
	vmx_of(vcpu)->nested.halted = true;
	vmx_nested_halt(vcpu);
	return ADVANCE;
}

/* The exit as the CPU has made it. */
static enum outcome reflect(struct vcpu *vcpu, u64 reason) {
	vmx_nested_leave(vcpu, &(struct vmx_exit_to){.reason = (u32)reason,
						     .hardware = true,
						     .qualification = vmread(VMCS(qualification))});
	return RESUME;
}

static enum outcome decide(struct vcpu *vcpu, u64 index) {
	const struct vmcs_values *l1 = vmx_of(vcpu)->nested.vmcs12;
	u32 control = rules[index].control;
	bool wants = true;
	int err;

	switch ((enum rule)rules[index].rule) {
	case OWN: return vmx_handle(vcpu, index);
	case ALWAYS: break;
	case PROC: wants = l1->proc_controls & control; break;
	case PROC2: wants = vmx_proc2_of(l1) & control; break;
	case WINDOW:
		vmx_handle(vcpu, index);
		if (!(l1->proc_controls & control)) return RESUME;
		break;
	case EXCEPTION: wants = exception_wanted(l1); break;
	case CR: wants = cr_wanted(vcpu, l1); break;
	case IO: wants = io_wanted(vcpu, l1); break;
	case FIELD: wants = field_wanted(vcpu, l1, index == REASON_VMWRITE); break;
	case MSR:
		if (!msr_wanted(vcpu, l1, index == REASON_WRMSR)) return own_msr(vcpu, index);
		break;
	case HLT:
		if (!(l1->proc_controls & control)) return own_hlt(vcpu);
		break;
	case TICK:
		vmx_handle(vcpu, index);
		if (vmx_nested_ticks(vcpu)) return RESUME;
		break;
	case FUNC:
		err = vmx_nested_switch_eptp(vcpu);
		if (err == 0) return ADVANCE;
		if (err == E_BUSY) return RESUME;
		break;
	case EPT: return vmx_nested_ept_violation(vcpu);
	case FAIL: return reflect(vcpu, index | REASON_ENTRY_FAILED);
	}
	return wants ? reflect(vcpu, index) : vmx_handle(vcpu, index);
}

enum outcome vmx_nested_exit(struct vcpu *vcpu, u64 index) {
	struct vmx_vcpu *arch = vmx_of(vcpu);

	nested_left(vcpu);
	if (unlikely(vcpu->vm->gmem->logging)) vmx_nested_log_apic(vcpu);
	/* It has entered as if in HLT for its window's exit alone, or is still in it; Bochs 2.7
	 * forgets that. */
	if (unlikely(arch->nested.halted) && index != REASON_INTERRUPT_WINDOW) {
		arch->nested.halted = arch->nested.tick_from != ~0ul;
		vmwrite(VMCS(guest_activity), arch->nested.halted);
	}
	enum outcome outcome = decide(vcpu, index);
	/* The monitor trap flag's exit follows an instruction that Roost has carried out, too. */
	if (outcome == ADVANCE && arch->nested.vmcs12->proc_controls & PROC_MTF && !arch->event) {
		arch->event = true;
		vmwrite(VMCS(entry_event), EVENT_VALID | EVENT_TYPE_OTHER << EVENT_TYPE_SHIFT);
	}
	return outcome;
}

/* ---- events ---- */

/* INIT is held back in VMX root operation, and an exit outside of it (SDM 3C 25.2). */
static bool take_init(struct vcpu *vcpu) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;

	if (!n->vmcs12 || n->vmxon == NO_VMCS) return false;
	if (vcpu->l2)
		vmx_nested_leave(vcpu, &(struct vmx_exit_to){.reason = REASON_INIT});
	else
		n->init_held = true;
	return true;
}

static bool exception_taken(const struct vmcs_values *l1, const struct event *event) {
	bool wanted = l1->exception_bitmap >> event->vector & 1;

	if (event->vector != X86_PF) return wanted;
	return wanted == ((event->error & l1->pf_error_mask) == l1->pf_error_match);
}

/* The interrupt is acknowledged for L1 when it has asked for that. */
static bool take_interrupt(struct vcpu *vcpu, const struct vmcs_values *l1) {
	struct vmx_exit_to to = {.reason = REASON_INTERRUPT};
	int vector;

	if (!vmx_l1_takes_interrupts(vcpu)) return false;
	if (!(l1->exit_controls & EXIT_ACK)) {
		vmx_nested_leave(vcpu, &to);
		return true;
	}
	vector = irq_accept(vcpu);
	if (vector < 0) return false;
	to.event = (u32)(EVENT_VALID | (u32)vector);
	vmx_nested_leave(vcpu, &to);
	guest_after_accept(vcpu);
	return true;
}

bool vmx_nested_event(struct vcpu *vcpu, const struct event *event) {
	const struct vmcs_values *l1 = vmx_of(vcpu)->nested.vmcs12;
	struct vmx_exit_to to = {.reason = REASON_EXCEPTION};

	switch (event->type) {
	case EVENT_INIT: return take_init(vcpu);
	case EVENT_INTERRUPT: return take_interrupt(vcpu, l1);
	case EVENT_NMI:
		if (!(l1->pin_controls & PIN_NMI)) return false;
		atomic_fetch_sub(&vcpu->nmi_pending, 1);
		to.event = (u32)(EVENT_VALID | EVENT_TYPE_NMI << EVENT_TYPE_SHIFT | X86_NMI);
		break;
	case EVENT_SHUTDOWN: to.reason = REASON_TRIPLE_FAULT; break;
	default:
		if (!exception_taken(l1, event)) return false;
		to.event = (u32)(EVENT_VALID | EVENT_TYPE_EXCEPTION << EVENT_TYPE_SHIFT |
				 event->vector | (event->has_error ? EVENT_HAS_ERROR : 0));
		to.error = event->error;
		if (event->vector == X86_PF) to.qualification = event->address;
		if (event->vector == X86_DB) to.qualification = vmx_reg(vcpu, VREG_DR6) & DR6_ALL;
		break;
	}
	vmx_nested_leave(vcpu, &to);
	return true;
}
