/*
 * Exits for control registers (APM 2 15.8). The exit code names the register, the instruction the
 * operand: with decode assists EXITINFO1 does, else it is decoded.
 */
#include "svm/svm.h"

#include "platform/cr.h"
#include "platform/emulate.h"
#include "svm/skip.h"

#define OPCODE_GROUP7 0x01u
#define OPCODE_CLTS   0x06u
#define OPCODE_FROM   0x20u
#define OPCODE_TO     0x22u
#define LMSW	      6u
#define REX_B_PREFIX  0x41u

/* Bits of CR0 that stand for themselves: changing them is always legal and flushes nothing. */
#define CR0_FREE (X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM)

/* The common write of CR0: WP off and on around a store. False: cr_write() has to look. */
static bool quick_cr0(struct vcpu *vcpu, u64 value) {
	struct vmcb *vmcb = svm_of(vcpu)->vmcb;

	if ((vmcb->cr0 ^ value) & ~CR0_FREE) return false;
	vmcb->cr0 = value;
	return true;
}

/* CR8 of an L2 with V_INTR_MASKING is V_TPR, not L1's priority (APM 2 15.21.2). */
static enum outcome move_virtual_tpr(struct vcpu *vcpu, bool write, u64 *value) {
	u32 *vintr = &svm_of(vcpu)->vmcb->vintr;

	if (write && *value >> 4) return inject_gp(vcpu, 0);
	if (write)
		*vintr = (*vintr & ~(u32)V_TPR) | (u32)*value;
	else
		*value = *vintr & V_TPR;
	return ADVANCE;
}

static enum outcome move(struct vcpu *vcpu, unsigned cr, bool write, unsigned gpr) {
	bool wide = vcpu_privilege(vcpu) & PRIV_64BIT;
	u64 value = wide ? vcpu->gpr[gpr] : (u32)vcpu->gpr[gpr];

	if (cr == 8 && unlikely(vcpu->l2) && (svm_of(vcpu)->nested.vmcb12->vintr & V_MASKING))
		return move_virtual_tpr(vcpu, write, write ? &value : &vcpu->gpr[gpr]);
	if (write) return cr_write(vcpu, cr, value);
	enum outcome outcome = cr_read(vcpu, cr, &value);
	if (outcome == ADVANCE) vcpu->gpr[gpr] = wide ? value : (u32)value;
	return outcome;
}

/*
 * MOV to and from CR in 64-bit code, without prefixes but REX.B: all that compilers make, and read
 * where svm_next_rip() reads. Returns the general register, or -1 for the decoder to look.
 */
static int plain_move(struct vcpu *vcpu, const struct vmcb *vmcb) {
	gva_t rip = vcpu->rip;

	if (!skip_in_known_code(vmcb, rip)) return -1;
	const u8 *code = fetch_known(vcpu, rip, vmcb->cr3);
	if (!code) return -1;
	unsigned high = code[0] == REX_B_PREFIX;
	code += high;
	if (code[0] != 0x0f || (code[1] != OPCODE_FROM && code[1] != OPCODE_TO)) return -1;
	vcpu->next_rip = rip + high + 3;
	return (int)(code[2] & 7u) | (int)(high << 3);
}

/* LMSW with a memory operand: the word is read as the instruction would. */
static enum outcome lmsw(struct vcpu *vcpu, const struct insn *insn) {
	struct fault fault;
	u16 value = 0;

	if (!insn_has_memory(insn)) return cr_lmsw(vcpu, (u16)vcpu->gpr[insn->rm]);
	int err = emulate_read_operand(vcpu, insn, 0, &value, sizeof(value), &fault);
	if (err == E_FAULT) return fault_inject(vcpu, &fault);
	if (err) return decode_outcome(err);
	return cr_lmsw(vcpu, value);
}

enum outcome svm_exit_cr(struct vcpu *vcpu) {
	const struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	bool write = vmcb->exit_code >= EXIT_CR0_WRITE;
	unsigned cr = vmcb->exit_code == EXIT_CR0_SEL ? 0 : (unsigned)vmcb->exit_code & 0xf;
	struct insn insn;

	if (svm_features.decode_assists && svm_features.nrips && (vmcb->exit_info1 & CR_INFO_MOV)) {
		vcpu->next_rip = vmcb->next_rip;
		return move(vcpu, cr, write, vmcb->exit_info1 & 0xf);
	}
	int gpr = plain_move(vcpu, vmcb);
	if (gpr >= 0 && cr == 0 && quick_cr0(vcpu, vcpu->gpr[gpr])) return ADVANCE;
	if (gpr >= 0) return move(vcpu, cr, write, (unsigned)gpr);
	int err = decode_current(vcpu, &insn);
	if (err) return decode_outcome(err);
	vcpu->next_rip = vcpu->rip + insn.length;
	if (insn.map == MAP_0F && (insn.opcode == OPCODE_FROM || insn.opcode == OPCODE_TO))
		return move(vcpu, cr, write, insn.rm);
	if (insn.map == MAP_0F && insn.opcode == OPCODE_CLTS) return cr_clts(vcpu);
	if (insn.map == MAP_0F && insn.opcode == OPCODE_GROUP7 && (insn.reg & 7) == LMSW)
		return lmsw(vcpu, &insn);
	/* The guest has changed its code meanwhile: what is there now runs instead. */
	return RESUME;
}
