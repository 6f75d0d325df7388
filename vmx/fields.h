/*
 * Every field of a VMCS that Roost or a hypervisor inside of a guest can name (SDM 3C appendix B),
 * in one list sorted by encoding. From it come the encodings for VMREAD and VMWRITE (vmx/vmcs.h), a
 * plain structure of values, and the table by which an encoding that a guest chose finds its value;
 * there is no other way from such an encoding to memory.
 */
#pragma once

#include "lib/types.h"

/* What nested VMX does with a field beside what its kind says. */
enum vmcs_flags {
	F_SAME = BIT(0),	  /* VMCS 02 has it as VMCS 12 has it */
	F_RARE = F_SAME | BIT(1), /* and exits leave it in 02 alone */
	F_LOOSE = BIT(2),	  /* any value will do */
	F_CPU = F_SAME | F_LOOSE, /* the processor checks it in 02 as it would in 12 */
	F_EVENT = BIT(3),	  /* of the event to inject: checked, but not merged anew */
};

/*
 * F(encoding, name, flags); A(encoding, name, count, flags): as many fields, their encodings two
 * apart. The segments in an array stand in the order of enum seg. Width and kind are in the
 * encoding.
 */
/* clang-format off */
#define VMCS_FIELDS(F, A) \
	F(0x0000, vpid)					F(0x0004, eptp_index) \
	A(0x0800, guest_selector, 8, F_RARE) \
	F(0x0810, guest_interrupt_status, F_CPU) \
	F(0x0812, pml_index, F_LOOSE)			A(0x0c00, host_selector, 6) \
	F(0x0c0c, host_tr_selector)			A(0x2000, io_bitmap, 2) \
	F(0x2004, msr_bitmap)				F(0x2006, exit_msr_store) \
	F(0x2008, exit_msr_load)			F(0x200a, entry_msr_load) \
	F(0x200e, pml_address)				F(0x2010, tsc_offset) \
	F(0x2012, virtual_apic)				F(0x2014, apic_access) \
	F(0x2018, vm_functions)				F(0x201a, eptp) \
	A(0x201c, eoi_exits, 4)				F(0x2024, eptp_list) \
	F(0x2026, vmread_bitmap)			F(0x2028, vmwrite_bitmap) \
	F(0x202c, xss_exiting)				F(0x2032, tsc_multiplier) \
	F(0x2400, guest_pa)				F(0x2800, link) \
	F(0x2802, guest_debugctl)			F(0x2804, guest_pat) \
	F(0x2806, guest_efer)				A(0x280a, guest_pdpte, 4, F_RARE) \
	F(0x2c00, host_pat)				F(0x2c02, host_efer) \
	F(0x4000, pin_controls)				F(0x4002, proc_controls) \
	F(0x4004, exception_bitmap)			F(0x4006, pf_error_mask, F_SAME) \
	F(0x4008, pf_error_match, F_SAME)		F(0x400a, cr3_targets, F_SAME) \
	F(0x400c, exit_controls)			F(0x400e, exit_msr_stores) \
	F(0x4010, exit_msr_loads)			F(0x4012, entry_controls) \
	F(0x4014, entry_msr_loads)			F(0x4016, entry_event, F_EVENT) \
	F(0x4018, entry_error, F_EVENT)			F(0x401a, entry_length, F_EVENT) \
	F(0x401c, tpr_threshold)			F(0x401e, proc2_controls) \
	F(0x4020, ple_gap)				F(0x4022, ple_window) \
	F(0x4400, instruction_error)			F(0x4402, exit_reason) \
	F(0x4404, exit_event)				F(0x4406, exit_error) \
	F(0x4408, vectoring_event)			F(0x440a, vectoring_error) \
	F(0x440c, instruction_length)			F(0x440e, instruction_info) \
	A(0x4800, guest_limit, 8, F_RARE)		F(0x4810, guest_gdtr_limit, F_RARE) \
	F(0x4812, guest_idtr_limit, F_RARE)		A(0x4814, guest_access, 8, F_RARE) \
	F(0x4824, guest_shadow, F_CPU) /* "interruptibility state" */ \
	F(0x4826, guest_activity)			F(0x482a, guest_sysenter_cs, F_RARE) \
	F(0x482e, tick, F_LOOSE) /* of the preemption timer */ \
	F(0x4c00, host_sysenter_cs)			F(0x6000, cr0_mask) \
	F(0x6002, cr4_mask)				F(0x6004, cr0_shadow) \
	F(0x6006, cr4_shadow)				A(0x6008, cr3_target, 4, F_SAME) \
	F(0x6400, qualification)			F(0x6402, io_rcx) \
	F(0x6404, io_rsi)				F(0x6406, io_rdi) \
	F(0x6408, io_rip)				F(0x640a, guest_linear) \
	F(0x6800, guest_cr0)				F(0x6802, guest_cr3, F_SAME) \
	F(0x6804, guest_cr4)				A(0x6806, guest_base, 8, F_RARE) \
	F(0x6816, guest_gdtr_base, F_RARE)		F(0x6818, guest_idtr_base, F_RARE) \
	F(0x681a, guest_dr7)				F(0x681c, guest_rsp, F_CPU) \
	F(0x681e, guest_rip, F_CPU)		F(0x6820, guest_rflags, F_CPU) \
	F(0x6822, guest_pending_db)			F(0x6824, guest_sysenter_esp, F_RARE) \
	F(0x6826, guest_sysenter_eip, F_RARE)		F(0x6c00, host_cr0) \
	F(0x6c02, host_cr3)				F(0x6c04, host_cr4) \
	F(0x6c06, host_fs_base)				F(0x6c08, host_gs_base) \
	F(0x6c0a, host_tr_base)				F(0x6c0c, host_gdtr_base) \
	F(0x6c0e, host_idtr_base)			F(0x6c10, host_sysenter_esp) \
	F(0x6c12, host_sysenter_eip)			F(0x6c14, host_rsp) \
	F(0x6c16, host_rip)
/* clang-format on */

#define VMCS_ENCODING(encoding, name, ...) VMCS_##name = (encoding),
enum { VMCS_FIELDS(VMCS_ENCODING, VMCS_ENCODING) };
#undef VMCS_ENCODING

#define VMCS_ONE(encoding, name, ...)	      u64 name;
#define VMCS_MANY(encoding, name, count, ...) u64 name[count];
/* A copy of a VMCS in memory: a word for each field, whatever its width. */
struct vmcs_values {
	VMCS_FIELDS(VMCS_ONE, VMCS_MANY)
};
#undef VMCS_ONE
#undef VMCS_MANY

#define VMCS_WORD(name) (offsetof(struct vmcs_values, name) / sizeof(u64))

/* Width and kind of a field are in its encoding (SDM 3C B.1, table 24-17). */
#define VMCS_HIGH BIT(0) /* the upper half of a field of 64 bits */
enum vmcs_kind { VMCS_CONTROL, VMCS_INFO, VMCS_GUEST, VMCS_HOST };
enum vmcs_width { VMCS_16, VMCS_64, VMCS_32, VMCS_NATURAL };

static inline enum vmcs_kind vmcs_kind(u32 encoding) { return encoding >> 10 & 3; }

static inline enum vmcs_width vmcs_width(u32 encoding) { return encoding >> 13 & 3; }

/* Fields one after the other in struct vmcs_values, their encodings two apart. */
struct vmcs_run {
	u16 encoding;
	u8 count, at; /* at: of the first one, in words */
	u8 flags;     /* enum vmcs_flags */
	const char *name;
};

extern const struct vmcs_run vmcs_runs[]; /* all fields, sorted by encoding */
extern const unsigned vmcs_nr_runs;

/*
 * By what an encoding is made of, 2 bits, 2 bits and 5 bits: 0 where there is no field, else its
 * word in struct vmcs_values, less the slot's own number so that an array has one value, and a bit.
 */
#define VMCS_SLOT_BITS 0x6c3eul
#define VMCS_SLOT(e)   (((e) >> 13 & 3) << 7 | ((e) >> 10 & 3) << 5 | ((e) >> 1 & 31))
extern const u16 vmcs_slots[512];

/* Its value in a copy, or NULL. */
static inline u64 *vmcs_values_at(struct vmcs_values *values, u64 encoding) {
	u64 slot = VMCS_SLOT(encoding), start = vmcs_slots[slot];

	if (encoding & ~VMCS_SLOT_BITS || !start) return NULL;
	return (u64 *)values + (u8)(start + slot);
}
