/*
 * Exits for control registers (APM 2 15.8). The exit code names the register, the instruction the
 * operand: with decode assists EXITINFO1 does, else it is decoded.
 */
#include "svm/exit.h"

#include "lib/x86.h"
#include "platform/cr.h"
#include "platform/emulate.h"
#include "svm/svm.h"

#define INFO_MOV      BIT(63) /* a MOV, and bits 3:0 are the general register */
#define OPCODE_GROUP7 0x01u
#define OPCODE_CLTS   0x06u
#define OPCODE_FROM   0x20u
#define OPCODE_TO     0x22u
#define LMSW	      6u

static enum outcome move(struct vcpu *vcpu, unsigned cr, bool write, unsigned gpr)
{
	bool wide = vcpu_code_mode(vcpu) == MODE_64;
	enum outcome outcome;
	u64 value = 0;

	if (write)
		return cr_write(vcpu, cr, wide ? vcpu->gpr[gpr] : (u32)vcpu->gpr[gpr]);
	outcome = cr_read(vcpu, cr, &value);
	if (outcome == ADVANCE)
		vcpu->gpr[gpr] = wide ? value : (u32)value;
	return outcome;
}

/* LMSW with a memory operand: the word is read as the instruction would. */
static enum outcome lmsw(struct vcpu *vcpu, const struct insn *insn)
{
	struct fault fault;
	u16 value = 0;
	int err;

	if (!insn_has_memory(insn))
		return cr_lmsw(vcpu, (u16)vcpu->gpr[insn->rm]);
	err = emulate_read_operand(vcpu, insn, &value, sizeof(value), &fault);
	if (err == E_FAULT)
		return fault_inject(vcpu, &fault);
	if (err)
		return decode_outcome(err);
	return cr_lmsw(vcpu, value);
}

enum outcome svm_exit_cr(struct vcpu *vcpu)
{
	const struct vmcb *vmcb = svm_of(vcpu)->vmcb;
	bool write = vmcb->exit_code >= EXIT_CR0_WRITE;
	unsigned cr = (unsigned)vmcb->exit_code & 0xf;
	struct insn insn;
	int err;

	if (svm_features.decode_assists && svm_features.nrips && (vmcb->exit_info1 & INFO_MOV)) {
		vcpu->next_rip = vmcb->next_rip;
		return move(vcpu, cr, write, vmcb->exit_info1 & 0xf);
	}
	err = decode_current(vcpu, &insn);
	if (err)
		return decode_outcome(err);
	vcpu->next_rip = vcpu->rip + insn.length;
	if (insn.map == MAP_0F && (insn.opcode == OPCODE_FROM || insn.opcode == OPCODE_TO))
		return move(vcpu, cr, write, insn.rm);
	if (insn.map == MAP_0F && insn.opcode == OPCODE_CLTS)
		return cr_clts(vcpu);
	if (insn.map == MAP_0F && insn.opcode == OPCODE_GROUP7 && (insn.reg & 7) == LMSW)
		return lmsw(vcpu, &insn);
	/* The guest has changed its code meanwhile: what is there now runs instead. */
	return RESUME;
}
