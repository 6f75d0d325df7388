/*
 * Exits: one table of {name, handler, what to read}, one way through it, one tail.
 *
 * VMREAD and VMWRITE are the cost of an exit. RIP, RFLAGS and the reason are always read; the table
 * says what else a handler needs. In the tail RIP, RFLAGS and RSP are written when they changed.
 */
#include "kernel/vm.h"
#include "lib/log.h"
#include "lib/x86.h"
#include "mm/gmem.h"
#include "platform/bus.h"
#include "platform/cpuid.h"
#include "platform/cr.h"
#include "platform/emulate.h"
#include "platform/kvm_pv.h"
#include "platform/lapic.h"
#include "platform/msr.h"
#include "vmx/vmx.h"

/* What is read before the handler is called. */
#define READ_LENGTH	   1u /* valid for this reason (SDM 3C 27.2.5) */
#define READ_QUALIFICATION 2u
#define READ_EVENT	   4u /* the exit may have come while an event was delivered */

#define LEN		   READ_LENGTH
#define QUAL		   READ_QUALIFICATION
#define EVENT		   READ_EVENT

struct exit_entry {
	const char *name;
	enum outcome (*handler)(struct vcpu *vcpu);
	u32 reads;
} __aligned(32); /* an index is a shift */

void vmx_need_rsp(struct vcpu *vcpu)
{
	struct vmx_vcpu *arch = vmx_of(vcpu);

	if (arch->rsp_known)
		return;
	arch->rsp_known = true;
	arch->saved_rsp = vmread(VMCS_GUEST_RSP);
	vcpu->gpr[RSP] = arch->saved_rsp;
}

/* ---- handlers ---- */

/* Nothing to do here: the run loop takes the interrupt. */
static enum outcome exit_host_interrupt(struct vcpu *vcpu)
{
	vcpu_request_self(vcpu, REQ_LOOP);
	return RESUME;
}

static enum outcome exit_tick(struct vcpu *vcpu)
{
	vmwrite(VMCS_TICK, vmx_tick());
	vcpu_request_self(vcpu, REQ_LOOP);
	return RESUME;
}

static enum outcome exit_triple_fault(struct vcpu *vcpu)
{
	return vcpu_triple_fault(vcpu);
}

static enum outcome exit_hlt(struct vcpu *vcpu)
{
	vcpu_halt(vcpu);
	return ADVANCE;
}

static enum outcome exit_nop(struct vcpu *vcpu)
{
	(void)vcpu;
	return ADVANCE;
}

/* Instructions that the CPU model does not offer. */
static enum outcome exit_ud(struct vcpu *vcpu)
{
	return inject_ud(vcpu);
}

static enum outcome exit_rdpmc(struct vcpu *vcpu)
{
	return inject_gp(vcpu, 0);
}

static enum outcome exit_io(struct vcpu *vcpu)
{
	const struct vmx_vcpu *arch = vmx_of(vcpu);
	struct bus *bus = vm_bus(vcpu->vm);
	u64 info = arch->qualification;
	u16 port = (u16)(info >> 16);
	unsigned size = (info & 7) + 1;
	bool in = info & BIT(3);
	u64 rax = vcpu->gpr[RAX];
	u32 value;

	if (unlikely(info & BIT(4)))
		return emulate_string_io(vcpu, port, size, in, info & BIT(5));
	if (!in) {
		bus_io_write(bus, vcpu, port, size, (u32)rax & (u32)(~0u >> (32 - 8 * size)));
		return ADVANCE;
	}
	value = bus_io_read(bus, vcpu, port, size);
	if (size == 4)
		vcpu->gpr[RAX] = value;
	else if (size == 2)
		vcpu->gpr[RAX] = (rax & ~0xfffful) | (u16)value;
	else
		vcpu->gpr[RAX] = (rax & ~0xfful) | (u8)value;
	return ADVANCE;
}

static enum outcome exit_ept_violation(struct vcpu *vcpu)
{
	const struct vmx_vcpu *arch = vmx_of(vcpu);
	u64 info = arch->qualification;
	gpa_t gpa = vmread(VMCS_GUEST_PA);
	bool write = info & EPT_QUAL_WRITE;
	bool fetch = info & EPT_QUAL_FETCH;
	bool page_walk = !(info & EPT_QUAL_LINEAR) || !(info & EPT_QUAL_FINAL);

	/* The IRET that ended NMI blocking runs again (SDM 3C 27.2.3). */
	if (unlikely((info & EPT_QUAL_NMI_UNBLOCKED) && !arch->event))
		vmwrite(VMCS_GUEST_SHADOW, vmread(VMCS_GUEST_SHADOW) | SHADOW_NMI);
	if (gmem_fault(vcpu->vm->gmem, gpa, write, fetch) == 0)
		return RESUME;
	/* Nothing answers there: the bus reads all ones, which is an undefined instruction. */
	if (fetch)
		return inject_ud(vcpu);
	vmx_need_rsp(vcpu);
	return emulate_mmio(vcpu, gpa, write, page_walk);
}

static enum outcome exit_ept_misconfig(struct vcpu *vcpu)
{
	return vcpu_stop_reason(vcpu, "EPT misconfiguration at %lx", vmread(VMCS_GUEST_PA));
}

/* VMX has no guest without this exit, but for one that never switches tasks by hardware. */
static enum outcome exit_task_switch(struct vcpu *vcpu)
{
	return vcpu_stop_reason(vcpu, "hardware task switch at rip %lx", vcpu->rip);
}

static enum outcome exit_bad_state(struct vcpu *vcpu)
{
	return vcpu_stop_reason(
		vcpu,
		"VM entry refused the state: cr0 %lx cr3 %lx cr4 %lx efer %lx rip %lx cs %lx "
		"ss %lx rflags %lx event %lx shadow %lx",
		vmread(VMCS_GUEST_CR0), vmread(VMCS_GUEST_CR3), vmread(VMCS_GUEST_CR4),
		vmread(VMCS_GUEST_EFER), vcpu->rip, vmread(VMCS_GUEST_ACCESS(SEG_CS)),
		vmread(VMCS_GUEST_ACCESS(SEG_SS)), vcpu->rflags, vmread(VMCS_ENTRY_EVENT),
		vmread(VMCS_GUEST_SHADOW));
}

static enum outcome exit_bad_entry(struct vcpu *vcpu)
{
	return vcpu_stop_reason(vcpu, "VM entry failed: reason %lx, qualification %lx",
				vmread(VMCS_EXIT_REASON), vmread(VMCS_QUALIFICATION));
}

/* Nobody knows what the guest waits for. */
static enum outcome exit_unasked(struct vcpu *vcpu)
{
	return vcpu_stop_reason(vcpu, "exit reason %lx, which was not asked for, at rip %lx",
				vmread(VMCS_EXIT_REASON), vcpu->rip);
}

#define UNASKED                                  \
	{                                        \
		"not asked for", exit_unasked, 0 \
	}

static const struct exit_entry exits[VMX_NR_EXITS] = {
	[REASON_EXCEPTION] = {"exception", vmx_exit_exception, QUAL | EVENT},
	[REASON_INTERRUPT] = {"interrupt", exit_host_interrupt, 0},
	[REASON_TRIPLE_FAULT] = {"triple fault", exit_triple_fault, 0},
	[REASON_INIT] = {"INIT", exit_host_interrupt, 0},
	[REASON_SIPI] = {"SIPI", exit_host_interrupt, 0},
	[REASON_IO_SMI] = {"SMI", exit_host_interrupt, 0},
	[REASON_SMI] = {"SMI", exit_host_interrupt, 0},
	[REASON_INTERRUPT_WINDOW] = {"interrupt window", vmx_exit_interrupt_window, 0},
	[REASON_NMI_WINDOW] = {"NMI window", vmx_exit_nmi_window, 0},
	[REASON_TASK_SWITCH] = {"task switch", exit_task_switch, QUAL | EVENT},
	[REASON_CPUID] = {"CPUID", cpuid_exit, LEN},
	[REASON_GETSEC] = {"GETSEC", exit_ud, 0},
	[REASON_HLT] = {"HLT", exit_hlt, LEN},
	[REASON_INVD] = {"INVD", exit_nop, LEN},
	[REASON_INVLPG] = UNASKED,
	[REASON_RDPMC] = {"RDPMC", exit_rdpmc, 0},
	[REASON_RDTSC] = UNASKED,
	[REASON_RSM] = {"RSM", exit_ud, 0},
	[REASON_VMCALL] = {"VMCALL", hypercall_exit, LEN},
	[REASON_VMX_FIRST... REASON_VMX_LAST] = {"VMX instruction", exit_ud, 0},
	[REASON_CR] = {"control register", vmx_exit_cr, LEN | QUAL},
	[REASON_DR] = UNASKED,
	[REASON_IO] = {"port I/O", exit_io, LEN | QUAL},
	[REASON_RDMSR] = {"RDMSR", msr_read_exit, LEN},
	[REASON_WRMSR] = {"WRMSR", msr_write_exit, LEN},
	[REASON_BAD_STATE] = {"invalid state", exit_bad_state, 0},
	[REASON_BAD_MSR] = {"MSR loading", exit_bad_entry, 0},
	[35] = UNASKED,
	[REASON_MWAIT] = {"MWAIT", exit_ud, 0},
	[REASON_TRAP_FLAG] = UNASKED,
	[38] = UNASKED,
	[REASON_MONITOR] = {"MONITOR", exit_ud, 0},
	[REASON_PAUSE] = {"PAUSE", exit_nop, LEN},
	[REASON_MACHINE_CHECK] = {"machine check", exit_bad_entry, 0},
	[42] = UNASKED,
	[REASON_TPR] = UNASKED,
	[REASON_APIC_ACCESS] = UNASKED,
	[REASON_EOI] = UNASKED,
	[REASON_DESCRIPTOR_TABLE] = UNASKED,
	[REASON_LDTR_TR] = UNASKED,
	[REASON_EPT_VIOLATION] = {"EPT violation", exit_ept_violation, QUAL | EVENT},
	[REASON_EPT_MISCONFIG] = {"EPT misconfiguration", exit_ept_misconfig, 0},
	[REASON_INVEPT] = {"INVEPT", exit_ud, 0},
	[REASON_RDTSCP] = UNASKED,
	[REASON_TICK] = {"tick", exit_tick, 0},
	[REASON_INVVPID] = {"INVVPID", exit_ud, 0},
	[REASON_WBINVD] = {"WBINVD", exit_nop, LEN},
	[REASON_XSETBV] = {"XSETBV", xsetbv_exit, LEN},
	[REASON_APIC_WRITE... NR_REASONS] = UNASKED,
};

const char *vmx_exit_name(u64 index)
{
	return index < VMX_NR_EXITS ? exits[index].name : "unknown";
}

/* ---- the way through ---- */

void vmx_write_back(struct vcpu *vcpu)
{
	struct vmx_vcpu *arch = vmx_of(vcpu);

	vmwrite(VMCS_GUEST_RIP, vcpu->rip);
	vmwrite(VMCS_GUEST_RFLAGS, vcpu->rflags);
	vmwrite(VMCS_GUEST_RSP, vcpu->gpr[RSP]);
	arch->rsp_known = false;
}

static inline void note_exit(struct vcpu *vcpu, u64 rip, u64 index)
{
	struct vcpu_trace *t = &vcpu->trace[vcpu->nr_exits++ % VCPU_TRACE];

	t->rip = rip;
	t->reason = index;
	vcpu->exit_counts[index]++;
}

/* RIP wraps at 4 GiB outside of 64-bit code, as the instruction pointer does. */
static u64 wrapped(struct vcpu *vcpu, u64 rip)
{
	return vmx_privilege(vcpu) & PRIV_64BIT ? rip : (u32)rip;
}

static u64 next_rip(struct vcpu *vcpu, const struct vmx_vcpu *arch)
{
	u64 next = vcpu->next_rip;

	if (!next) {
		next = vcpu->rip + arch->length;
		if (unlikely((next ^ vcpu->rip) >> 32))
			next = wrapped(vcpu, next);
	}
	return next;
}

/* The instruction is done: what was for it alone ends (SDM 3B 17.3.1.1, 3A 6.8.3). */
static inline void advance(struct vcpu *vcpu, const struct vmx_vcpu *arch)
{
	u64 shadow = vmread(VMCS_GUEST_SHADOW);

	vcpu->rip = next_rip(vcpu, arch);
	if (unlikely(shadow & SHADOW_NEXT))
		vmwrite(VMCS_GUEST_SHADOW, shadow & ~SHADOW_NEXT);
	if (unlikely(vcpu->rflags & (X86_RFLAGS_TF | X86_RFLAGS_RF)))
		vcpu_end_instruction(vcpu);
}

/* The basic reason of an entry that failed; else a reason that no manual names yet. */
static u64 odd_reason(u64 reason)
{
	return reason & REASON_ENTRY_FAILED ? min_u64((u16)reason, NR_REASONS) : NR_REASONS;
}

bool vmx_exit(struct vcpu *vcpu)
{
	struct vmx_vcpu *arch = vmx_of(vcpu);
	u64 index = vmread(VMCS_EXIT_REASON);
	u64 rip = vmread(VMCS_GUEST_RIP);
	u64 rflags = vmread(VMCS_GUEST_RFLAGS);
	const struct exit_entry *entry;
	enum outcome outcome;

	if (unlikely(index >= NR_REASONS))
		index = odd_reason(index);
	entry = &exits[index];
	vcpu->rip = rip;
	vcpu->rflags = rflags;
	vcpu->next_rip = 0;
	arch->rsp_known = false;
	arch->event = false;
	note_exit(vcpu, rip, index);
	if (entry->reads & READ_LENGTH)
		arch->length = (u32)vmread(VMCS_INSTRUCTION_LENGTH);
	if (entry->reads & READ_QUALIFICATION)
		arch->qualification = vmread(VMCS_QUALIFICATION);
	if (entry->reads & READ_EVENT)
		vmx_take_exit_event(vcpu);

	outcome = entry->handler(vcpu);
	if (outcome == ADVANCE)
		advance(vcpu, arch);
	if (unlikely(vcpu_needs_prepare(vcpu)) && !vcpu_prepare(vcpu)) {
		vmx_need_rsp(vcpu);
		return false;
	}
	if (vcpu->rip != rip)
		vmwrite(VMCS_GUEST_RIP, vcpu->rip);
	if (unlikely(vcpu->rflags != rflags))
		vmwrite(VMCS_GUEST_RFLAGS, vcpu->rflags);
	if (unlikely(arch->rsp_known) && vcpu->gpr[RSP] != arch->saved_rsp)
		vmwrite(VMCS_GUEST_RSP, vcpu->gpr[RSP]);
	if (unlikely(arch->flush))
		vmx_tlb_enter(vcpu);
	return true;
}

bool vmx_entry_refused(struct vcpu *vcpu)
{
	vmx_of(vcpu)->launched = 0;
	vcpu_stop_reason(vcpu,
			 "VM entry refused the controls: VM-instruction error %lu (SDM 3C "
			 "30.4)",
			 vmread(VMCS_INSTRUCTION_ERROR));
	return false;
}
