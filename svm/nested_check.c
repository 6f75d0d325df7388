/* What VMRUN refuses (APM 2 15.5.1, 15.20, 15.25.4); emulated machines check less. */
#include "lib/x86.h"
#include "platform/cpu_model.h"
#include "svm/intercept.h"
#include "svm/svm.h"

/* Bits 11:0 of the address of a permission map are ignored. */
static bool map_fits(u64 base, u64 size, const struct cpu_model *model) {
	return range_within(base & PAGE_MASK, size, 1ul << model->phys_bits);
}

static bool event_valid(u64 event) {
	u64 type = event >> EVENTINJ_TYPE_SHIFT & 7;
	u8 vector = (u8)event;

	if (!(event & EVENTINJ_VALID)) return true;
	if (type == EVENTINJ_EXCEPTION) return vector < 32 && vector != X86_NMI;
	return type == EVENTINJ_INTR || type == EVENTINJ_NMI || type == EVENTINJ_SOFT;
}

bool svm_vmcb_control_valid(const struct vmcb *c, const struct cpu_model *model, bool l1_paging) {
	if (!(c->intercept_misc2 & INTERCEPT_VMRUN) || !c->asid) return false;
	if (!map_fits(c->iopm_base, IOPM_SIZE, model) ||
	    !map_fits(c->msrpm_base, MSRPM_SIZE, model))
		return false;
	if ((c->np_enable & NP_ENABLE) && (!l1_paging || c->ncr3 >> model->phys_bits)) return false;
	return event_valid(c->event_inj);
}

static bool cr0_valid(u64 cr0) {
	return !(cr0 >> 32) && (cr0 & (X86_CR0_NW | X86_CR0_CD)) != X86_CR0_NW;
}

/* CR0.PG without CR0.PE is no mistake: paged real mode (APM 2 15.19). */
static bool long_mode_valid(const struct vmcb *s) {
	const u64 both = SEG_ATTR_L | SEG_ATTR_DB;

	if (!(s->efer & X86_EFER_LME) || !(s->cr0 & X86_CR0_PG)) return true;
	return (s->cr4 & X86_CR4_PAE) && (s->cr0 & X86_CR0_PE) && (s->cs.attr & both) != both;
}

bool svm_vmcb_state_valid(const struct vmcb *s, const struct cpu_model *model) {
	if (!(s->efer & X86_EFER_SVME) || s->efer & ~model->efer_allowed) return false;
	if (!cr0_valid(s->cr0) || s->cr3 >> model->phys_bits || s->cr4 & model->cr4_reserved)
		return false;
	return !(s->dr6 >> 32) && !(s->dr7 >> 32) && long_mode_valid(s) && pat_valid(s->g_pat);
}
