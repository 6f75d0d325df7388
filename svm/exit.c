/*
 * Exits: one table of {name, handler}, one way through it, one tail (kernel/backend.h). Handlers
 * turn SVM's facts into neutral ones and call platform/.
 */
#include "svm/svm.h"

#include "kernel/panic.h"
#include "kernel/vm.h"
#include "lib/log.h"
#include "mm/gmem.h"
#include "platform/cr.h"
#include "platform/emulate.h"
#include "platform/exits.h"
#include "platform/kvm_pv.h"
#include "platform/lapic.h"
#include "platform/msr.h"
#include "svm/quirks.h"
#include "svm/skip.h"

static enum outcome exit_msr(struct vcpu *vcpu) {
	return svm_of(vcpu)->vmcb->exit_info1 ? msr_write_exit(vcpu) : msr_read_exit(vcpu);
}

static enum outcome exit_io(struct vcpu *vcpu) {
	const struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	u32 info = (u32)vmcb->exit_info1;
	u16 port = (u16)(info >> 16);
	unsigned size = info >> 4 & 7; /* SZ8, SZ16, SZ32 are the size */

	vcpu->next_rip = vmcb->exit_info2;
	if (info & IOIO_STR)
		return emulate_string_io(vcpu, port, size, info & IOIO_IN, info & IOIO_REP);
	return exit_in_out(vcpu, port, size, info & IOIO_IN);
}

static enum outcome exit_ac(struct vcpu *vcpu) {
	return inject_exception_error(vcpu, X86_AC, (u32)svm_of(vcpu)->vmcb->exit_info1);
}

/* The machine's own failure, whoever ran: the exit has consumed the exception (APM 2 15.12.15). */
static enum outcome exit_mc(struct vcpu *vcpu) {
	panic("machine check while vCPU %u of '%s' ran", vcpu->id, vcpu->vm->name);
}

enum outcome svm_npf_device(struct vcpu *vcpu, gpa_t gpa) {
	const struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	u64 info = vmcb->exit_info1;

	/* The access was the processor's, not the instruction's at RIP: a stack or a table. */
	if (unlikely(vmcb->exit_int_info & EVENTINJ_VALID)) return vcpu_triple_fault(vcpu);
	/* Nothing answers there: the bus reads all ones, which is an undefined instruction. */
	if (info & NPF_FETCH) return inject_ud(vcpu);
	return emulate_mmio(vcpu, gpa, info & NPF_WRITE, info & NPF_PAGE_WALK);
}

static enum outcome exit_npf(struct vcpu *vcpu) {
	const struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	u64 info = vmcb->exit_info1;
	gpa_t gpa = vmcb->exit_info2;
	int err = gmem_fault(vcpu->vm->gmem, gpa, info & NPF_WRITE, info & NPF_FETCH);

	if (err == 0) return RESUME;
	if (unlikely(err == E_NOMEM))
		return vcpu_stop_reason(vcpu, "no memory to map address %lx", gpa);
	return svm_npf_device(vcpu, gpa);
}

/* An exit that was not asked for: a hypervisor below this one may do that. */
static enum outcome exit_unasked(struct vcpu *vcpu) {
	log_guest("%s: exit %lx was not asked for, resumed", vcpu->vm->name,
		  svm_of(vcpu)->vmcb->exit_code);
	return RESUME;
}

#pragma GCC diagnostic ignored "-Woverride-init" /* by what follows the table's first line */

const struct exit_entry svm_exits[SVM_NR_EXITS] = {
	[0 ... SVM_NR_EXITS - 1] = {"not asked for", exit_unasked},
	[EXIT_CR0_WRITE] = {"CR0 write", svm_exit_cr},
	[EXIT_CR4_WRITE] = {"CR4 write", svm_exit_cr},
	[EXIT_CR8_READ] = {"CR8 read", svm_exit_cr},
	[EXIT_CR8_WRITE] = {"CR8 write", svm_exit_cr},
	[EXIT_EXCEPTION + X86_DB] = {"#DB", svm_exit_db},
	[EXIT_EXCEPTION + X86_AC] = {"#AC", exit_ac},
	[EXIT_EXCEPTION + X86_MC] = {"#MC", exit_mc},
	[EXIT_INTR] = {"interrupt", exit_host_interrupt},
	[EXIT_NMI] = {"NMI", exit_host_interrupt},
	[EXIT_SMI] = {"SMI", exit_host_interrupt},
	[EXIT_INIT] = {"INIT", exit_host_interrupt},
	[EXIT_VINTR] = {"interrupt window", svm_exit_vintr},
	[EXIT_CR0_SEL] = {"CR0 write, selective", svm_exit_cr},
	[EXIT_RDTSC] = {"RDTSC", exit_unasked},
	[EXIT_RDPMC] = {"RDPMC", exit_rdpmc},
	[EXIT_CPUID] = {"CPUID", cpuid_exit},
	[EXIT_RSM] = {"RSM", inject_ud},
	[EXIT_IRET] = {"IRET", svm_exit_iret},
	[EXIT_INVD] = {"INVD", exit_nop},
	[EXIT_PAUSE] = {"PAUSE", exit_pause},
	[EXIT_HLT] = {"HLT", exit_hlt},
	[EXIT_INVLPGA] = {"INVLPGA", svm_exit_invlpga},
	[EXIT_IOIO] = {"port I/O", exit_io},
	[EXIT_MSR] = {"MSR", exit_msr},
	[EXIT_FERR] = {"FERR freeze", exit_unasked},
	[EXIT_SHUTDOWN] = {"shutdown", vcpu_triple_fault}, /* (APM 2 15.14.3) */
	[EXIT_VMRUN] = {"VMRUN", svm_exit_vmrun},
	[EXIT_VMMCALL] = {"VMMCALL", hypercall_exit},
	[EXIT_VMLOAD] = {"VMLOAD", svm_exit_vmload},
	[EXIT_VMSAVE] = {"VMSAVE", svm_exit_vmsave},
	[EXIT_STGI] = {"STGI", svm_exit_gif},
	[EXIT_CLGI] = {"CLGI", svm_exit_gif},
	[EXIT_SKINIT] = {"SKINIT", inject_ud},
	[EXIT_WBINVD] = {"WBINVD", exit_nop},
	[EXIT_MONITOR] = {"MONITOR", inject_ud},
	[EXIT_MWAIT] = {"MWAIT", inject_ud},
	[EXIT_XSETBV] = {"XSETBV", xsetbv_exit},
	[EXIT_RDPRU] = {"RDPRU", inject_ud},
	[INDEX_NPF] = {"nested page fault", exit_npf},
	[INDEX_INVALID] = {"invalid", svm_exit_invalid},
};

static inline u64 exit_index(u64 code) {
	if (likely(code < INDEX_NPF)) return code;
	if (code >= EXIT_NPF && code < EXIT_NPF + 4) return code - EXIT_NPF + INDEX_NPF;
	/* 64 bits of ones by the manual, 32 on QEMU 7.2. */
	return (s32)code == -1 ? INDEX_INVALID : INDEX_UNKNOWN;
}

/* The end of an intercepted instruction where skip.h does not know it: by decoding. */
u64 svm_next_rip_slow(struct vcpu *vcpu) {
	const struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	struct insn insn;

	if ((vmcb->cs.attr & SEG_ATTR_L) && (vmcb->efer & X86_EFER_LMA))
		fetch_remember(vcpu, vcpu->rip, vmcb->cr3);
	if (decode_current(vcpu, &insn)) return vcpu->rip;
	/* RIP wraps at 4 GiB outside of 64-bit code, as the instruction pointer does. */
	u64 next = vcpu->rip + insn.length;
	return vmcb->cs.attr & SEG_ATTR_L ? next : (u32)next;
}

/* Registers that VMRUN takes from the VMCB. */
static inline void write_back(struct vcpu *vcpu, struct vmcb *vmcb) {
	vmcb->rip = vcpu->rip;
	vmcb->rflags = vcpu->rflags;
	vmcb->rax = vcpu->gpr[RAX];
	vmcb->rsp = vcpu->gpr[RSP];
}

void svm_write_back(struct vcpu *vcpu) { write_back(vcpu, svm_of(vcpu)->vmcb); }

enum outcome svm_handle(struct vcpu *vcpu, u64 index) {
	if (svm_of(vcpu)->vmcb->exit_int_info & EVENTINJ_VALID) svm_take_exit_event(vcpu);
	return svm_exits[index].handler(vcpu);
}

/* The order keeps few values alive across calls: each would cost a register saved and restored. */
hpa_t svm_exit(struct vcpu *vcpu) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct vmcb *vmcb = arch->vmcb;
	enum outcome outcome;

	vmcb->event_inj = 0;
	if (unlikely(vmcb->exit_int_info & EVENTINJ_VALID) && !vcpu->l2) svm_take_exit_event(vcpu);
	u64 rip = vmcb->rip;
	vcpu->rip = rip;
	vcpu->rflags = vmcb->rflags;
	vcpu->gpr[RAX] = vmcb->rax;
	vcpu->gpr[RSP] = vmcb->rsp;
	vcpu->next_rip = 0;
	u64 index = exit_index(vmcb->exit_code);
	note_exit(vcpu, rip, index);

	if (unlikely(vcpu->l2))
		outcome = svm_nested_exit(vcpu, index);
	else
		outcome = svm_exits[index].handler(vcpu);
	if (outcome == ADVANCE) {
		vmcb = svm_of(vcpu)->vmcb;
		vcpu->rip = vcpu->next_rip ? vcpu->next_rip : svm_next_rip(vcpu, vmcb);
		vmcb->int_state &= ~INT_SHADOW;
		if (unlikely(vcpu->rflags & (X86_RFLAGS_TF | X86_RFLAGS_RF)))
			vcpu_end_instruction(vcpu);
	} else if (unlikely(svm_of(vcpu)->vmcb->int_state & INT_SHADOW)) {
		vcpu_request_self(vcpu, REQ_LOOP); /* svm_run() keeps it: svm_quirk_shadow() */
	}
	if (unlikely(vcpu_needs_prepare(vcpu)) && !vcpu_prepare(vcpu)) return 0;
	arch = svm_of(vcpu);
	write_back(vcpu, arch->vmcb); /* of L1 or of L2: it may have changed */
	if (unlikely(arch->tlb_work)) svm_tlb_enter(vcpu);
	return arch->vmcb_pa;
}
