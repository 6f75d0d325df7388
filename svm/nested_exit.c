/*
 * Who handles what ends an L2's run: Roost itself, L1, or Roost in the place of the hardware that
 * L2 believes in. One rule an exit code, and one for each event that is not an exit of the CPU's.
 */
#include "svm/svm.h"

#include "kernel/nested.h"
#include "kernel/time.h"
#include "kernel/vm.h"
#include "lib/x86.h"
#include "mm/gmem.h"
#include "platform/emulate.h"
#include "platform/msr.h"
#include "svm/intercept.h"
#include "svm/quirks.h"
#include "svm/skip.h"

#define OPCODE_MOV    0x20u /* MOV from CR, from DR, to CR, to DR */
#define OPCODE_MOV_DR 1u

enum rule {
	ASK,	 /* L1's when it intercepts that, else Roost's as for L1 itself: most exits */
	OPERAND, /* the same, and L1 is told the operand */
	OWN,	 /* the machine's own affairs */
	VINTR,	 /* ASK, but for Roost's window */
	IRET,	 /* ASK, after Roost has seen it when it waits for the end of an NMI */
	DEBUG,	 /* ASK, but for Roost's single step */
	IO,	 /* L1's when it intercepts the port */
	MSR,	 /* L1's when it intercepts the MSR */
	HLT,	 /* ASK; no sleep over a virtual interrupt */
	VMMCALL, /* L1's or #UD: no hypercall of L2 is one of L1 (APM 2 15.14) */
	NPF,	 /* Roost's when its own tables are what is missing */
	INVALID, /* VMRUN of 02 has failed */
};

/* An exit code is the number of its intercept bit, from the first of the control area on. */
static const u8 rules[SVM_NR_EXITS] = {
	[0 ... EXIT_EXCEPTION - 1] = OPERAND, /* control and debug registers */
	[EXIT_CR0_SEL] = OPERAND,
	[EXIT_SWINT] = OPERAND,
	[EXIT_INVLPG] = OPERAND,
	[EXIT_EXCEPTION + X86_DB] = DEBUG,
	[EXIT_EXCEPTION + X86_MC] = OWN,
	[EXIT_INTR] = OWN,
	[EXIT_NMI] = OWN,
	[EXIT_SMI] = OWN,
	[EXIT_INIT] = OWN,
	[EXIT_VINTR] = VINTR,
	[EXIT_IRET] = IRET,
	[EXIT_HLT] = HLT,
	[EXIT_IOIO] = IO,
	[EXIT_MSR] = MSR,
	[EXIT_VMMCALL] = VMMCALL,
	[INDEX_NPF] = NPF,
	[INDEX_NPF + 1 ... INDEX_NPF + 3] = OWN,
	[INDEX_INVALID] = INVALID,
	[INDEX_UNKNOWN] = OWN,
};

static bool intercepted(const struct svm_nested *n, u64 code) {
	return ((const u32 *)(const void *)n->vmcb12)[code / 32] >> code % 32 & 1;
}

/* One or two bits of a permission map of L1; what is not in memory reads as ones. */
static bool map_bits(struct vcpu *vcpu, u64 map, u64 bit, u32 mask) {
	u8 bytes[2] = {0xff, 0xff};
	size_t len = mask << bit % 8 > 0xff ? 2 : 1;

	if (gmem_read(vcpu->vm->gmem, (map & PAGE_MASK) + bit / 8, bytes, len)) return true;
	return (u32)(bytes[0] | bytes[1] << 8) >> bit % 8 & mask;
}

/* A port of n bytes has n bits (APM 2 15.10.1). */
static bool io_intercepted(struct vcpu *vcpu, const struct svm_nested *n, u64 info) {
	u32 mask = (1u << (info >> 4 & 7)) - 1;

	return map_bits(vcpu, n->vmcb12->iopm_base, info >> 16 & 0xffff, mask);
}

static bool msr_intercepted(struct vcpu *vcpu, const struct svm_nested *n, u64 write) {
	int bit = svm_msr_bit((u32)vcpu->gpr[RCX]);

	return bit < 0 || map_bits(vcpu, n->vmcb12->msrpm_base, (u64)bit + write, 1);
}

/* V_IRQ would be taken now (APM 2 15.21.4): HLT does not sleep. */
static bool virtual_interrupt(struct vcpu *vcpu, const struct vmcb *vmcb) {
	u32 vintr = vmcb->vintr;

	if (!(vintr & V_IRQ) || !(vcpu->rflags & X86_RFLAGS_IF)) return false;
	return (vintr & V_IGN_TPR) || (vintr >> V_PRIO_SHIFT & 0xf) > (vintr & 0xf);
}

/*
 * RIP behind the instruction, for exits that an instruction has asked for; else 0 (APM 2 15.7.1).
 * What skip.h knows by its first bytes are those that Roost itself intercepts.
 */
static u64 next_rip(struct vcpu *vcpu, const struct vmcb *vmcb, u64 code) {
	bool of_insn = code < EXIT_EXCEPTION || code == EXIT_EXCEPTION + X86_BP ||
		       code == EXIT_EXCEPTION + X86_OF || (code > EXIT_VINTR && code < EXIT_TASK) ||
		       (code >= EXIT_VMRUN && code <= EXIT_RDPRU);

	if (svm_features.nrips) return vmcb->next_rip;
	if (!of_insn) return 0;
	if (code == EXIT_IOIO) return vmcb->exit_info2;
	return code < EXIT_RDTSC || code == EXIT_INVLPG ? svm_next_rip_slow(vcpu)
							: svm_next_rip(vcpu, vmcb);
}

/* The exit as the CPU has made it. */
static enum outcome reflect(struct vcpu *vcpu) {
	const struct vmcb *vmcb = svm_of(vcpu)->vmcb;

	vcpu->next_rip = next_rip(vcpu, vmcb, vmcb->exit_code);
	svm_nested_leave(vcpu, vmcb->exit_code, vmcb->exit_info1, vmcb->exit_info2,
			 svm_interrupted_event(vcpu));
	return RESUME;
}

/* What EXITINFO1 says of the instruction with decode assists (APM 2 15.8), if need be without them.
 */
static __noinline void tell_operand(struct vcpu *vcpu) {
	struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	struct insn insn;

	if (svm_features.decode_assists || decode_current(vcpu, &insn)) return;
	vmcb->exit_info1 = 0;
	if (vmcb->exit_code == EXIT_INVLPG)
		vmcb->exit_info1 = emulate_operand_address(vcpu, &insn);
	else if (vmcb->exit_code == EXIT_SWINT)
		vmcb->exit_info1 = (u8)insn.imm;
	else if ((insn.opcode & ~3u) == OPCODE_MOV) /* not CLTS, LMSW, SMSW */
		vmcb->exit_info1 = insn.rm | (insn.opcode & OPCODE_MOV_DR ? 0 : CR_INFO_MOV);
}

/* RDMSR of the TSC by L2 itself has both offsets, as RDTSC has. */
static enum outcome handle_msr(struct vcpu *vcpu, u64 index) {
	struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	u64 tsc = time_tsc() + vmcb->tsc_offset;

	if ((u32)vcpu->gpr[RCX] != X86_MSR_TSC || vmcb->exit_info1) return svm_handle(vcpu, index);
	vcpu->gpr[RAX] = (u32)tsc;
	vcpu->gpr[RDX] = tsc >> 32;
	return ADVANCE;
}

enum outcome svm_nested_exit(struct vcpu *vcpu, u64 index) {
	struct svm_vcpu *arch = svm_of(vcpu);
	struct svm_nested *n = &arch->nested;
	const struct vmcb *vmcb = arch->vmcb;
	enum rule rule = rules[index];
	bool wants = index < INDEX_NPF && intercepted(n, index);

	nested_left(vcpu);
	switch (rule) {
	case ASK: break;
	case OPERAND:
		if (wants) tell_operand(vcpu);
		break;
	case OWN: return svm_handle(vcpu, index);
	case VINTR:
		svm_quirk_find_interrupt();
		wants = wants && !n->window;
		break;
	case IRET:
		if (arch->nmi_masked) svm_exit_iret(vcpu);
		break;
	case DEBUG: wants = wants && !arch->nmi_single_step; break;
	case IO: wants = wants && io_intercepted(vcpu, n, vmcb->exit_info1); break;
	case MSR:
		if (!wants || !msr_intercepted(vcpu, n, vmcb->exit_info1))
			return handle_msr(vcpu, index);
		break;
	case HLT:
		if (!wants && virtual_interrupt(vcpu, vmcb)) return ADVANCE;
		break;
	case VMMCALL:
		if (!wants) return inject_ud(vcpu);
		break;
	case NPF: return svm_nested_npf(vcpu);
	case INVALID: return svm_exit_invalid(vcpu);
	}
	return wants ? reflect(vcpu) : svm_handle(vcpu, index);
}

/* INIT waits for GIF; VM_CR.R_INIT turns it into an exception (APM 2 15.28). */
static bool hold_init(struct vcpu *vcpu) {
	struct svm_nested *n = &svm_of(vcpu)->nested;

	if (vcpu->l2 && intercepted(n, EXIT_INIT)) svm_nested_leave(vcpu, EXIT_INIT, 0, 0, 0);
	n->init_held = !svm_gif(svm_of(vcpu));
	if (n->init_held) {
		svm_of(vcpu)->vmcb01->intercept_misc2 |= (u32)INTERCEPT_STGI;
		return true;
	}
	if (!(vcpu->msrs->vm_cr & VM_CR_R_INIT)) return false;
	inject_exception_error(vcpu, X86_SX, 1);
	return true;
}

bool svm_nested_event(struct vcpu *vcpu, const struct event *event) {
	const struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	u64 code, info1 = 0, info2 = 0;

	vcpu->next_rip = 0;
	switch (event->type) {
	case EVENT_INTERRUPT: code = EXIT_INTR; break;
	case EVENT_NMI: code = EXIT_NMI; break;
	case EVENT_SHUTDOWN: code = EXIT_SHUTDOWN; break;
	case EVENT_INIT: return hold_init(vcpu);
	default:
		code = EXIT_EXCEPTION + event->vector;
		info1 = event->error;
		info2 = event->address;
		break;
	}
	if (!intercepted(&svm_of(vcpu)->nested, code)) return false;
	svm_nested_leave(vcpu, code, info1, info2, vmcb->event_inj);
	return true;
}
