/*
 * The instructions of VMX in a guest, but VMLAUNCH and VMRESUME (SDM 3C 30.3). The processor has
 * checked before it exits that the code is neither in real, virtual-8086 nor compatibility mode;
 * what it cannot know is the guest's CR4.VMXE, whether the guest is in VMX operation, and its
 * privilege level.
 */
#include "kernel/vm.h"
#include "lib/string.h"
#include "lib/x86.h"
#include "mm/gmem.h"
#include "platform/cpu_model.h"
#include "platform/emulate.h"
#include "vmx/vmx.h"

#define STATUS_FLAGS  0x8d5ul /* CF, PF, AF, ZF, SF, OF */
#define RFLAGS_CF     BIT(0)
#define RFLAGS_ZF     BIT(6)
#define INFO_REGISTER BIT(10) /* of instruction_info: the operand is no memory */
#define INVVPID_ALL   2u

/* A VMCS as it lies in L1's memory (SDM 3C 24.2). */
struct vmcs12_region {
	u32 revision, abort;
	u32 launched, unused;
	struct vmcs_values values;
};

_Static_assert(sizeof(struct vmcs12_region) <= PAGE_SIZE, "the capability MSR promises that");

/* ---- how they end ---- */

static enum outcome succeed(struct vcpu *vcpu) {
	vcpu->rflags &= ~STATUS_FLAGS;
	return ADVANCE;
}

static enum outcome fail_invalid(struct vcpu *vcpu) {
	vcpu->rflags = (vcpu->rflags & ~STATUS_FLAGS) | RFLAGS_CF;
	return ADVANCE;
}

static enum outcome fail_valid(struct vcpu *vcpu, struct vmcs_values *vmcs, enum vmx_error error) {
	vmcs->instruction_error = error;
	vcpu->rflags = (vcpu->rflags & ~STATUS_FLAGS) | RFLAGS_ZF;
	return ADVANCE;
}

enum outcome vmx_fail(struct vcpu *vcpu, enum vmx_error error) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;

	if (n->current == NO_VMCS || !error) return fail_invalid(vcpu);
	return fail_valid(vcpu, n->vmcs12, error);
}

/* As vmx_privilege(), but compatibility mode has raised #UD before the exit. */
static inline u32 privilege_now(void) {
	_Static_assert(X86_EFER_LMA >> 8 == PRIV_64BIT, "one bit becomes the other");
	return (u32)(vmread(VMCS_AT(guest_access, SEG_SS)) >> 5 & PRIV_CPL) |
	       (u32)((vmread(VMCS(guest_efer)) & X86_EFER_LMA) >> 8);
}

static inline enum outcome allowed(struct vcpu *vcpu, u32 privilege) {
	if (unlikely(vmx_of(vcpu)->nested.vmxon == NO_VMCS)) return inject_ud(vcpu);
	return unlikely(privilege & PRIV_CPL) ? inject_gp(vcpu, 0) : ADVANCE;
}

enum outcome vmx_insn_allowed(struct vcpu *vcpu) { return allowed(vcpu, privilege_now()); }

/* ---- operands ---- */

/* A memory operand of up to 16 bytes, read or written. ADVANCE: done. */
static enum outcome memory_operand(struct vcpu *vcpu, u64 *data, unsigned size, bool write) {
	struct insn insn;
	struct fault fault;

	vmx_need_rsp(vcpu);
	int err = decode_current(vcpu, &insn);
	if (err) return decode_outcome(err);
	if (write)
		err = emulate_write_operand(vcpu, &insn, *data, size, &fault);
	else
		for (unsigned done = 0; done < size && !err; done += 8)
			err = emulate_read_operand(vcpu, &insn, done, &data[done / 8],
						   (unsigned)min_u64(size - done, 8), &fault);
	if (err == E_FAULT) return fault_inject(vcpu, &fault);
	return err ? RESUME : ADVANCE;
}

static u64 *gpr(struct vcpu *vcpu, u64 number) {
	if (number == RSP) vmx_need_rsp(vcpu);
	return &vcpu->gpr[number];
}

/* A page of L1's by its address: aligned and within what the processor's addresses reach. */
static bool page_valid(struct vcpu *vcpu, gpa_t gpa) {
	return !(gpa & ~PAGE_MASK) && !(gpa >> vcpu->vm->cpu_model->phys_bits);
}

/* What is no RAM reads as ones: no revision. */
u32 vmx_revision_at(struct vcpu *vcpu, gpa_t gpa) {
	u32 revision = ~0u;

	if (gmem_read(vcpu->vm->gmem, gpa, &revision, sizeof(revision))) revision = ~0u;
	return revision;
}

/* ---- VMXON and VMXOFF ---- */

bool vmx_nested_cr_valid(struct vcpu *vcpu, unsigned cr, u64 value) {
	const struct vmx_nested *n = &vmx_of(vcpu)->nested;
	u64 ones =
		vcpu->vm->cpu_model
			->vmx_msrs[(cr ? VMX_MSR_CR4_FIXED0 : VMX_MSR_CR0_FIXED0) - VMX_MSR_FIRST];

	if (!n->vmcs12 || n->vmxon == NO_VMCS) return true;
	if (vcpu->l2 && !cr && (n->merged.proc2 & PROC2_UNRESTRICTED))
		ones &= ~(X86_CR0_PE | X86_CR0_PG);
	return (value & ones) == ones;
}

/* In VMX operation Roost sees L1 turn off paging, which must fault. */
static void set_operation(struct vcpu *vcpu, gpa_t vmxon) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	u64 cr0 = vmx_reg(vcpu, VREG_CR0), paging = X86_CR0_PE | X86_CR0_PG;

	arch->nested.vmxon = vmxon;
	arch->nested.current = NO_VMCS;
	arch->level->cr0_owned = vmxon == NO_VMCS ? arch->level->cr0_owned | paging
						  : arch->level->cr0_owned & ~paging;
	vmwrite(VMCS(cr0_mask), ~arch->level->cr0_owned);
	vmx_set_reg(vcpu, VREG_CR0, cr0);
}

enum outcome vmx_exit_vmxon(struct vcpu *vcpu) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;
	u64 cr4 = vmx_reg(vcpu, VREG_CR4), operand;

	if (!n->vmcs12 || !(cr4 & X86_CR4_VMXE)) return inject_ud(vcpu);
	if (privilege_now() & PRIV_CPL) return inject_gp(vcpu, 0);
	if (n->vmxon != NO_VMCS) return vmx_fail(vcpu, ERROR_VMXON_AGAIN);
	n->vmxon = 0; /* as if in VMX operation */
	bool valid = vmx_nested_cr_valid(vcpu, 0, vmx_reg(vcpu, VREG_CR0)) &&
		     vmx_nested_cr_valid(vcpu, 4, cr4);
	n->vmxon = NO_VMCS;
	if (!valid) return inject_gp(vcpu, 0);
	enum outcome outcome = memory_operand(vcpu, &operand, 8, false);
	if (outcome != ADVANCE) return outcome;
	if (!page_valid(vcpu, operand) || vmx_revision_at(vcpu, operand) != VMCS12_REVISION)
		return fail_invalid(vcpu);
	set_operation(vcpu, operand);
	return succeed(vcpu);
}

/* The copy goes back to L1's memory, where VMPTRLD finds it, on whatever processor. */
static void put_current(struct vcpu *vcpu) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;

	if (n->current == NO_VMCS) return;
	struct vmcs12_region *region = gmem_ptr_write(vcpu->vm->gmem, n->current, PAGE_SIZE);
	vmx_nested_fetch_rare(vcpu);
	vmx_shadow_get(vcpu);
	vmx_shadow_use(vcpu, false);
	if (region) {
		region->launched = n->launched;
		memcpy(&region->values, n->vmcs12, sizeof(region->values));
	}
	n->current = NO_VMCS;
}

enum outcome vmx_exit_vmxoff(struct vcpu *vcpu) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;
	enum outcome outcome = vmx_insn_allowed(vcpu);

	if (outcome != ADVANCE) return outcome;
	put_current(vcpu);
	set_operation(vcpu, NO_VMCS);
	if (n->init_held) vcpu_request_self(vcpu, REQ_INIT);
	n->init_held = false;
	return succeed(vcpu);
}

/* ---- the current VMCS ---- */

static enum outcome clear_vmcs(struct vcpu *vcpu, gpa_t gpa) {
	if (gpa == vmx_of(vcpu)->nested.current) put_current(vcpu);
	struct vmcs12_region *region = gmem_ptr_write(vcpu->vm->gmem, gpa, PAGE_SIZE);
	if (region) region->launched = 0; /* what is no RAM keeps nothing */
	return succeed(vcpu);
}

/* Each field in its width, so that VMREAD and the checks see no more than VMWRITE could make. */
static void take_values(struct vmcs_values *to, const struct vmcs_values *from) {
	static const u64 widths[] = {[VMCS_16] = UINT16_MAX,
				     [VMCS_64] = ~0ul,
				     [VMCS_32] = UINT32_MAX,
				     [VMCS_NATURAL] = ~0ul};
	u64 *values = (u64 *)to;

	memcpy(to, from, sizeof(*to));
	for (unsigned r = 0; r < vmcs_nr_runs; r++)
		for (unsigned i = 0; i < vmcs_runs[r].count; i++)
			values[vmcs_runs[r].at + i] &= widths[vmcs_width(vmcs_runs[r].encoding)];
}

static enum outcome load_vmcs(struct vcpu *vcpu, gpa_t gpa) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;

	u32 revision = vmx_revision_at(vcpu, gpa);

	if ((revision & ~SHADOW_VMCS) != VMCS12_REVISION)
		return vmx_fail(vcpu, ERROR_VMPTRLD_REVISION);
	if (gpa == n->current) return succeed(vcpu);
	const struct vmcs12_region *region = gmem_ptr(vcpu->vm->gmem, gpa, PAGE_SIZE);
	if (!region) return vmx_fail(vcpu, ERROR_VMPTRLD_REVISION);
	put_current(vcpu);
	take_values(n->vmcs12, &region->values);
	n->launched = __atomic_load_n(&region->launched, __ATOMIC_RELAXED);
	n->current = gpa;
	n->is_shadow = revision & SHADOW_VMCS;
	memset(&n->dirty, 0xff, sizeof(n->dirty));
	vmx_shadow_put(vcpu);
	vmx_shadow_use(vcpu, true);
	return succeed(vcpu);
}

enum outcome vmx_exit_vmptr(struct vcpu *vcpu) {
	bool clear = vmread(VMCS(exit_reason)) == REASON_VMCLEAR;
	enum outcome outcome = vmx_insn_allowed(vcpu);
	u64 gpa;

	if (outcome == ADVANCE) outcome = memory_operand(vcpu, &gpa, 8, false);
	if (outcome != ADVANCE) return outcome;
	if (!page_valid(vcpu, gpa))
		return vmx_fail(vcpu, clear ? ERROR_VMCLEAR_ADDRESS : ERROR_VMPTRLD_ADDRESS);
	if (gpa == vmx_of(vcpu)->nested.vmxon)
		return vmx_fail(vcpu, clear ? ERROR_VMCLEAR_VMXON : ERROR_VMPTRLD_VMXON);
	return clear ? clear_vmcs(vcpu, gpa) : load_vmcs(vcpu, gpa);
}

enum outcome vmx_exit_vmptrst(struct vcpu *vcpu) {
	enum outcome outcome = vmx_insn_allowed(vcpu);

	if (outcome == ADVANCE)
		outcome = memory_operand(vcpu, &vmx_of(vcpu)->nested.current, 8, true);
	return outcome == ADVANCE ? succeed(vcpu) : outcome;
}

/* ---- VMREAD and VMWRITE ---- */

/* VMCS 12, or the shadow VMCS that L1 lets its L2 have; NULL: there is none. */
static inline struct vmcs_values *addressed(struct vcpu *vcpu) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;

	if (likely(!vcpu->l2)) return n->current == NO_VMCS ? NULL : n->vmcs12;
	struct vmcs12_region *region = gmem_ptr_write(vcpu->vm->gmem, n->vmcs12->link, PAGE_SIZE);
	return region ? &region->values : NULL;
}

/* Where the field is; NULL: there is none, and *outcome says how the instruction ends. */
__attribute__((always_inline)) static inline u64 *
find_field(struct vcpu *vcpu, struct vmcs_values *vmcs, u64 encoding, enum outcome *outcome) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;
	bool upper = (encoding & VMCS_HIGH) && vmcs_width((u32)encoding) == VMCS_64;
	u64 *field = vmcs_values_at(vmcs, upper ? encoding - VMCS_HIGH : encoding);

	if (unlikely(!field)) {
		*outcome = fail_valid(vcpu, vmcs, ERROR_NO_FIELD);
		return NULL;
	}
	if (n->rare_in_02 && vmcs == n->vmcs12 &&
	    vmcs_mask_has(&vmx_nested_rare, (u64)(field - (u64 *)n->vmcs12)))
		vmx_nested_fetch_rare(vcpu);
	return field;
}

enum outcome vmx_exit_vmread(struct vcpu *vcpu) {
	u64 info = vmread(VMCS(instruction_info));
	u32 privilege = privilege_now();
	enum outcome outcome = allowed(vcpu, privilege);
	bool is_wide = privilege & PRIV_64BIT;

	if (unlikely(outcome != ADVANCE)) return outcome;
	struct vmcs_values *vmcs = addressed(vcpu);
	if (unlikely(!vmcs)) return fail_invalid(vcpu);
	u64 encoding = *gpr(vcpu, info >> 28 & 0xf);
	if (!is_wide) encoding = (u32)encoding;
	const u64 *field = find_field(vcpu, vmcs, encoding, &outcome);
	if (unlikely(!field)) return outcome;
	u64 value = encoding & VMCS_HIGH ? *field >> 32 : *field;
	if (!is_wide) value = (u32)value;
	if (likely(info & INFO_REGISTER)) {
		*gpr(vcpu, info >> 3 & 0xf) = value;
		return succeed(vcpu);
	}
	outcome = memory_operand(vcpu, &value, is_wide ? 8 : 4, true);
	return outcome == ADVANCE ? succeed(vcpu) : outcome;
}

/* The part of a field that the encoding names takes the value, in its width. */
static u64 changed_field(u64 old, u64 encoding, u64 value) {
	enum vmcs_width width = vmcs_width((u32)encoding);

	if (likely(width == VMCS_NATURAL)) return value; /* RIP and RFLAGS, at each exit */
	if (width == VMCS_16) return (u16)value;
	if (width == VMCS_32) return (u32)value;
	return encoding & VMCS_HIGH ? value << 32 | (u32)old : value;
}

enum outcome vmx_exit_vmwrite(struct vcpu *vcpu) {
	struct vmx_nested *n = &vmx_of(vcpu)->nested;
	u64 info = vmread(VMCS(instruction_info)), value;
	u32 privilege = privilege_now();
	enum outcome outcome = allowed(vcpu, privilege);
	bool is_wide = privilege & PRIV_64BIT;

	if (unlikely(outcome != ADVANCE)) return outcome;
	struct vmcs_values *vmcs = addressed(vcpu);
	if (unlikely(!vmcs)) return fail_invalid(vcpu);
	/* The value stays in a register that way. */
	if (likely(info & INFO_REGISTER)) {
		value = *gpr(vcpu, info >> 3 & 0xf);
	} else {
		u64 operand = 0;

		outcome = memory_operand(vcpu, &operand, is_wide ? 8 : 4, false);
		if (outcome != ADVANCE) return outcome;
		value = operand;
	}
	u64 encoding = *gpr(vcpu, info >> 28 & 0xf);
	if (!is_wide) {
		encoding = (u32)encoding;
		value = (u32)value;
	}
	u64 *field = find_field(vcpu, vmcs, encoding, &outcome);
	if (unlikely(!field)) return outcome;
	value = changed_field(*field, encoding, value);
	if (*field == value) return succeed(vcpu);
	*field = value;
	if (unlikely(vmcs != n->vmcs12)) return succeed(vcpu);
	if (unlikely(vmcs_kind((u32)encoding) == VMCS_INFO || encoding == VMCS_pml_index)) {
		vmx_shadow_get(vcpu);
		vmx_shadow_put(vcpu);
	}
	vmcs_mask_set(&n->dirty, (u64)(field - (u64 *)n->vmcs12));
	return succeed(vcpu);
}

/* ---- INVEPT and INVVPID ---- */

/* Each may flush more than it names: all of an L2 shares one VPID of Roost's. */
static bool invalidate_ept(struct vcpu *vcpu, u64 type, const u64 *descriptor) {
	if (type < 1 || type > 2) return false;
	if (type == 1 && !vmx_eptp_valid(vcpu, descriptor[0])) return false;
	vmx_nested_flush_ept(vcpu, type == 1 ? descriptor : NULL);
	return true;
}

static bool invalidate_vpid(struct vcpu *vcpu, u64 type, const u64 *descriptor) {
	u64 vpid = descriptor[0], address = descriptor[1];

	if (type > 3 || vpid >> 16) return false;
	if (type != INVVPID_ALL && !vpid) return false;
	if (!type && (u64)((s64)(address << 16) >> 16) != address) return false;
	vmx_tlb_flush_l2(vcpu);
	return true;
}

enum outcome vmx_exit_invalidate(struct vcpu *vcpu) {
	bool ept = vmread(VMCS(exit_reason)) == REASON_INVEPT;
	u64 info = vmread(VMCS(instruction_info)), type, descriptor[2];
	enum outcome outcome = vmx_insn_allowed(vcpu);

	if (outcome != ADVANCE) return outcome;
	type = *gpr(vcpu, info >> 28 & 0xf);
	if (!(privilege_now() & PRIV_64BIT)) type = (u32)type;
	outcome = memory_operand(vcpu, descriptor, sizeof(descriptor), false);
	if (outcome != ADVANCE) return outcome;
	bool valid = ept ? invalidate_ept(vcpu, type, descriptor)
			 : invalidate_vpid(vcpu, type, descriptor);
	return valid ? succeed(vcpu) : vmx_fail(vcpu, ERROR_INVALIDATE);
}
