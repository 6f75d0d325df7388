/*
 * The virtual machine control structure (SDM 3C 24 and appendix B): access to its fields, which
 * vmx/fields.h names, and the bits of its controls. A field is a structure of its own, so that an
 * encoding can not be taken for a value, nor the other way round.
 */
#pragma once

#include "lib/types.h"
#include "vmx/exits.h"
#include "vmx/fields.h"

struct vmcs_field {
	u32 encoding;
};

#define VMCS_FIELD(encoding) ((struct vmcs_field){encoding})
#define VMCS(name)	     VMCS_FIELD(VMCS_##name)
#define VMCS_AT(name, n)     VMCS_FIELD(VMCS_##name + 2 * (u32)(n)) /* of an array */

#ifdef UNIT_TEST
/* Unit tests play the VMCS. */
void vmx_vmclear(hpa_t vmcs);
void vmx_vmptrld(hpa_t vmcs);
u64 vmread(struct vmcs_field field);
u64 vmread_any(struct vmcs_field field);
void vmwrite(struct vmcs_field field, u64 value);
void vmx_inv(bool ept, u64 type, u64 context);
#else
/* Of the current VMCS. What Roost itself uses is there once vmx_probe() has been content. */
static inline u64 vmread(struct vmcs_field field) {
	u64 value;

	__asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((u64)field.encoding) : "cc");
	return value;
}

/* The same for a field that the processor may not have: 0, and the instruction error changes. */
static inline u64 vmread_any(struct vmcs_field field) {
	u64 value = 0;

	__asm__ volatile("vmread %1, %0" : "+r"(value) : "r"((u64)field.encoding) : "cc");
	return value;
}

static inline void vmwrite(struct vmcs_field field, u64 value) {
	__asm__ volatile("vmwrite %1, %0"
			 :
			 : "r"((u64)field.encoding), "r"(value)
			 : "cc", "memory");
}

static inline void vmx_vmclear(hpa_t vmcs) {
	__asm__ volatile("vmclear %0" : : "m"(vmcs) : "cc", "memory");
}

static inline void vmx_vmptrld(hpa_t vmcs) {
	__asm__ volatile("vmptrld %0" : : "m"(vmcs) : "cc", "memory");
}

/* INVEPT or INVVPID. */
static inline void vmx_inv(bool ept, u64 type, u64 context) {
	struct {
		u64 context, address;
	} which = {context, 0};

	if (ept)
		__asm__ volatile("invept %0, %1" : : "m"(which), "r"(type) : "cc", "memory");
	else
		__asm__ volatile("invvpid %0, %1" : : "m"(which), "r"(type) : "cc", "memory");
}
#endif

/* VMWRITE, unless the field has the value already: `has` is what was written last. */
static inline void vmwrite_new(struct vmcs_field field, u64 *has, u64 value) {
	if (likely(*has == value)) return;
	*has = value;
	vmwrite(field, value);
}

/* Pin-based controls (SDM 3C 24.6.1). */
#define PIN_INTERRUPT BIT(0)
#define PIN_NMI	      BIT(3)
#define PIN_VNMI      BIT(5)
#define PIN_TICK      BIT(6) /* the preemption timer */

/* Primary processor-based controls (24.6.2). */
#define PROC_INTERRUPT_WINDOW BIT(2)
#define PROC_TSC_OFFSET	      BIT(3)
#define PROC_HLT	      BIT(7)
#define PROC_INVLPG	      BIT(9)
#define PROC_MWAIT	      BIT(10)
#define PROC_RDPMC	      BIT(11)
#define PROC_RDTSC	      BIT(12)
#define PROC_CR3_LOAD	      BIT(15)
#define PROC_CR3_STORE	      BIT(16)
#define PROC_CR8_LOAD	      BIT(19)
#define PROC_CR8_STORE	      BIT(20)
#define PROC_TPR_SHADOW	      BIT(21)
#define PROC_NMI_WINDOW	      BIT(22)
#define PROC_DR		      BIT(23)
#define PROC_ALL_IO	      BIT(24)
#define PROC_IO_BITMAPS	      BIT(25)
#define PROC_MTF	      BIT(27)
#define PROC_MSR_BITMAP	      BIT(28)
#define PROC_MONITOR	      BIT(29)
#define PROC_PAUSE	      BIT(30)
#define PROC_SECONDARY	      BIT(31)

/* Secondary processor-based controls (24.6.2). */
#define PROC2_APIC_ACCESS  BIT(0)
#define PROC2_EPT	   BIT(1)
#define PROC2_TABLES	   BIT(2) /* GDTR, IDTR, LDTR, TR */
#define PROC2_RDTSCP	   BIT(3)
#define PROC2_X2APIC	   BIT(4)
#define PROC2_VPID	   BIT(5)
#define PROC2_WBINVD	   BIT(6)
#define PROC2_UNRESTRICTED BIT(7)
#define PROC2_APIC_REGS	   BIT(8)
#define PROC2_VID	   BIT(9)  /* virtual-interrupt delivery */
#define PROC2_PLE	   BIT(10) /* PAUSE-loop exiting */
#define PROC2_RDRAND	   BIT(11)
#define PROC2_INVPCID	   BIT(12)
#define PROC2_VMFUNC	   BIT(13)
#define PROC2_SHADOW_VMCS  BIT(14)
#define PROC2_RDSEED	   BIT(16)
#define PROC2_PML	   BIT(17)
#define PROC2_XSAVES	   BIT(20)
#define PROC2_TSC_SCALING  BIT(25)

#define PML_FIRST	   511 /* pml_index counts down (28.3.6) */

/* VM-exit controls (24.7.1). */
#define EXIT_SAVE_DEBUG BIT(2)
#define EXIT_HOST_64	BIT(9)
#define EXIT_ACK	BIT(15) /* acknowledge the interrupt */
#define EXIT_SAVE_PAT	BIT(18)
#define EXIT_LOAD_PAT	BIT(19)
#define EXIT_SAVE_EFER	BIT(20)
#define EXIT_LOAD_EFER	BIT(21)
#define EXIT_SAVE_TICK	BIT(22)

/* VM-entry controls (24.8.1). */
#define ENTRY_LOAD_DEBUG BIT(2)
#define ENTRY_IA32E	 BIT(9)
#define ENTRY_SMM	 BIT(10)
#define ENTRY_END_DUAL	 BIT(11) /* deactivate dual-monitor treatment */
#define ENTRY_LOAD_PAT	 BIT(14)
#define ENTRY_LOAD_EFER	 BIT(15)

/* Capability MSRs (appendix A). */
#define VMX_MSR_FIRST	   0x480u
#define VMX_MSR_BASIC	   0x480u
#define VMX_MSR_PIN	   0x481u /* and proc, exit, entry */
#define VMX_MSR_MISC	   0x485u
#define VMX_MSR_CR0_FIXED0 0x486u
#define VMX_MSR_CR4_FIXED0 0x488u
#define VMX_MSR_VMCS_ENUM  0x48au
#define VMX_MSR_PROC2	   0x48bu
#define VMX_MSR_EPT_VPID   0x48cu
#define VMX_MSR_TRUE_PIN   0x48du /* and proc, exit, entry: what must really be 1 */
#define VMX_MSR_VMFUNC	   0x491u
#define VMX_NR_MSRS	   18
#define BASIC_TRUE	   BIT(55)

struct vmx_caps {
	u64 msr[VMX_NR_MSRS]; /* from VMX_MSR_FIRST on */
	u8 phys_bits, linear_bits;
};

static inline u64 vmx_cap(const struct vmx_caps *caps, u32 msr) {
	return caps->msr[msr - VMX_MSR_FIRST];
}

/* Control words, in the order of their capability MSRs; the last one is of EPT capabilities. */
enum vmx_word { VMX_PIN, VMX_PROC, VMX_EXIT, VMX_ENTRY, VMX_PROC2, VMX_EPT, VMX_NR_WORDS };

/* Of a control word: bits 31:0 must be 1, bits 63:32 may be (A.2). */
static inline u64 vmx_word_cap(const struct vmx_caps *caps, enum vmx_word word) {
	bool exact = vmx_cap(caps, VMX_MSR_BASIC) & BASIC_TRUE;

	if (word == VMX_EPT) return vmx_cap(caps, VMX_MSR_EPT_VPID) << 32;
	if (word == VMX_PROC2) return vmx_cap(caps, VMX_MSR_PROC2);
	return vmx_cap(caps, word + (exact ? VMX_MSR_TRUE_PIN : VMX_MSR_PIN));
}

#define BASIC_REVISION(basic)  ((u32)(basic)&0x7fffffff)
#define BASIC_32_BITS	       BIT(48)	     /* VMX's own structures lie below 4 GiB */
#define BASIC_ANY_ERROR	       BIT(56)	     /* exceptions enter with or without an error code */
#define MISC_TICK_SHIFT(misc)  ((misc)&0x1f) /* the tick counts this bit of the TSC */
#define MISC_CR3_TARGETS(misc) ((misc) >> 16 & 0x1ff)
#define MISC_ACTIVITIES(misc)  ((misc) >> 6 & 7) /* bit n: state n + 1 */
#define MISC_WRITE_ALL	       BIT(29)		 /* VMWRITE changes every field */
#define MISC_LENGTH_0	       BIT(30)
#define EPT_CAP_EXEC_ONLY      BIT(0)
#define EPT_CAP_4_LEVELS       BIT(6)
#define EPT_CAP_WB	       BIT(14)
#define EPT_CAP_2M	       BIT(16)
#define EPT_CAP_1G	       BIT(17)
#define EPT_CAP_INVEPT	       BIT(20)
#define EPT_CAP_AD	       BIT(21)
#define EPT_CAP_INVEPT_ONE     BIT(25)
#define EPT_CAP_INVEPT_ALL     BIT(26)
#define VPID_CAP_INVVPID       BIT(32)
#define VPID_CAP_TYPES	       GENMASK(43, 40) /* all four of INVVPID */
#define VPID_CAP_ONE	       BIT(41)
#define VPID_CAP_ALL	       BIT(42)
#define EPTP_AD		       BIT(6)
#define VMFUNC_EPTP	       BIT(0)
#define EPTP_SSS	       BIT(7) /* supervisor shadow stacks */

/* Interruption information: of entries, exits and interrupted delivery (24.8.3, 24.9.2, 24.9.3). */
#define EVENT_TYPE_SHIFT      8
#define EVENT_TYPE(info)      ((info) >> EVENT_TYPE_SHIFT & 7)
#define EVENT_TYPE_INTERRUPT  0ul
#define EVENT_TYPE_NMI	      2ul
#define EVENT_TYPE_EXCEPTION  3ul
#define EVENT_TYPE_RESERVED   1ul
#define EVENT_TYPE_SOFT_FIRST 4ul /* software interrupt, privileged one, software exception */
#define EVENT_TYPE_SOFT_LAST  6ul
#define EVENT_TYPE_OTHER      7ul /* monitor trap flag */
#define EVENT_HAS_ERROR	      BIT(11)
#define EVENT_NMI_UNBLOCKED   BIT(12) /* of exits: an IRET had ended NMI blocking */
#define EVENT_VALID	      BIT(31)

/* VMCS(guest_shadow), "interruptibility state" (24.4.2). */
#define SHADOW_STI    BIT(0)
#define SHADOW_MOV_SS BIT(1)
#define SHADOW_SMI    BIT(2)
#define SHADOW_NMI    BIT(3)
#define SHADOW_NEXT   (SHADOW_STI | SHADOW_MOV_SS)

#define ACTIVITY_HLT  1u
#define ACTIVITY_SHUT 2u
#define ACTIVITY_SIPI 3u

/* VMCS(guest_access): the format of struct segment, spread, and a bit for "no segment" (24.4.1). */
#define ACCESS_UNUSABLE BIT(16)

/* Kinds of APIC accesses, of the qualification (table 27-6). Physical: no linear address's, but a
 * table's of the guest. */
#define APIC_KIND_SHIFT	    12
#define APIC_KIND(info)	    ((info) >> APIC_KIND_SHIFT & 0xf)
#define APIC_KIND_READ	    0ul
#define APIC_KIND_WRITE	    1ul
#define APIC_KIND_FETCH	    2ul
#define APIC_KIND_EVENT	    3ul
#define APIC_PHYSICAL_EVENT 10ul
#define APIC_PHYSICAL	    15ul
#define APIC_PHYSICAL_BIT   BIT(3) /* in both of them */

/* VMCS(qualification) of EPT violations (27.2.1). */
#define EPT_QUAL_READ	       BIT(0)
#define EPT_QUAL_WRITE	       BIT(1)
#define EPT_QUAL_FETCH	       BIT(2)
#define EPT_QUAL_LINEAR	       BIT(7) /* there is a linear address ... */
#define EPT_QUAL_FINAL	       BIT(8) /* ... and it is its own translation, not a page walk */
#define EPT_QUAL_NMI_UNBLOCKED BIT(12)

#define DEBUGCTL_DEFINED       0xffc7ul /* bits of IA32_DEBUGCTL that some processor has (SDM 4 2) */

/* Of the exit reason: the entry failed (27.2.1). */
#define REASON_ENTRY_FAILED BIT(31)

/* The basic exit reasons; room for those that later manuals add. */
#define VMX_REASON(number, name, ...) REASON_##name = (number),
enum exit_reason { VMX_EXITS(VMX_REASON) NR_REASONS = 80 };
#undef VMX_REASON
