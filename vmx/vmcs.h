/*
 * The virtual machine control structure (SDM 3C 24 and appendix B): names of its fields, access to
 * them, and the bits of its controls. A field is a structure of its own, so that an encoding can
 * not be taken for a value, nor the other way round.
 */
#pragma once

#include "lib/types.h"

struct vmcs_field {
	u32 encoding;
};

#define VMCS_FIELD(encoding) ((struct vmcs_field){encoding})

/* 16 bits. */
#define VMCS_VPID	       VMCS_FIELD(0x0000)
#define VMCS_GUEST_SELECTOR(n) VMCS_FIELD(0x0800 + 2 * (n)) /* enum seg */
#define VMCS_HOST_ES_SELECTOR  VMCS_FIELD(0x0c00)
#define VMCS_HOST_CS_SELECTOR  VMCS_FIELD(0x0c02)
#define VMCS_HOST_SS_SELECTOR  VMCS_FIELD(0x0c04)
#define VMCS_HOST_DS_SELECTOR  VMCS_FIELD(0x0c06)
#define VMCS_HOST_FS_SELECTOR  VMCS_FIELD(0x0c08)
#define VMCS_HOST_GS_SELECTOR  VMCS_FIELD(0x0c0a)
#define VMCS_HOST_TR_SELECTOR  VMCS_FIELD(0x0c0c)

/* 64 bits. */
#define VMCS_MSR_BITMAP	    VMCS_FIELD(0x2004)
#define VMCS_TSC_OFFSET	    VMCS_FIELD(0x2010)
#define VMCS_EPTP	    VMCS_FIELD(0x201a)
#define VMCS_XSS_EXITING    VMCS_FIELD(0x202c)
#define VMCS_GUEST_PA	    VMCS_FIELD(0x2400)
#define VMCS_LINK	    VMCS_FIELD(0x2800)
#define VMCS_GUEST_DEBUGCTL VMCS_FIELD(0x2802)
#define VMCS_GUEST_PAT	    VMCS_FIELD(0x2804)
#define VMCS_GUEST_EFER	    VMCS_FIELD(0x2806)
#define VMCS_GUEST_PDPTE(n) VMCS_FIELD(0x280a + 2 * (n))
#define VMCS_HOST_PAT	    VMCS_FIELD(0x2c00)
#define VMCS_HOST_EFER	    VMCS_FIELD(0x2c02)

/* 32 bits. */
#define VMCS_PIN_CONTROLS	VMCS_FIELD(0x4000)
#define VMCS_PROC_CONTROLS	VMCS_FIELD(0x4002)
#define VMCS_EXCEPTION_BITMAP	VMCS_FIELD(0x4004)
#define VMCS_PF_ERROR_MASK	VMCS_FIELD(0x4006)
#define VMCS_PF_ERROR_MATCH	VMCS_FIELD(0x4008)
#define VMCS_CR3_TARGETS	VMCS_FIELD(0x400a)
#define VMCS_EXIT_CONTROLS	VMCS_FIELD(0x400c)
#define VMCS_EXIT_MSR_STORES	VMCS_FIELD(0x400e)
#define VMCS_EXIT_MSR_LOADS	VMCS_FIELD(0x4010)
#define VMCS_ENTRY_CONTROLS	VMCS_FIELD(0x4012)
#define VMCS_ENTRY_MSR_LOADS	VMCS_FIELD(0x4014)
#define VMCS_ENTRY_EVENT	VMCS_FIELD(0x4016)
#define VMCS_ENTRY_ERROR	VMCS_FIELD(0x4018)
#define VMCS_ENTRY_LENGTH	VMCS_FIELD(0x401a)
#define VMCS_PROC2_CONTROLS	VMCS_FIELD(0x401e)
#define VMCS_INSTRUCTION_ERROR	VMCS_FIELD(0x4400)
#define VMCS_EXIT_REASON	VMCS_FIELD(0x4402)
#define VMCS_EXIT_EVENT		VMCS_FIELD(0x4404)
#define VMCS_EXIT_ERROR		VMCS_FIELD(0x4406)
#define VMCS_VECTORING_EVENT	VMCS_FIELD(0x4408)
#define VMCS_VECTORING_ERROR	VMCS_FIELD(0x440a)
#define VMCS_INSTRUCTION_LENGTH VMCS_FIELD(0x440c)
#define VMCS_GUEST_LIMIT(n)	VMCS_FIELD(0x4800 + 2 * (n)) /* enum seg */
#define VMCS_GUEST_GDTR_LIMIT	VMCS_FIELD(0x4810)
#define VMCS_GUEST_IDTR_LIMIT	VMCS_FIELD(0x4812)
#define VMCS_GUEST_ACCESS(n)	VMCS_FIELD(0x4814 + 2 * (n)) /* enum seg */
#define VMCS_GUEST_SHADOW	VMCS_FIELD(0x4824)
#define VMCS_GUEST_ACTIVITY	VMCS_FIELD(0x4826)
#define VMCS_GUEST_SYSENTER_CS	VMCS_FIELD(0x482a)
#define VMCS_TICK		VMCS_FIELD(0x482e) /* of the preemption timer */
#define VMCS_HOST_SYSENTER_CS	VMCS_FIELD(0x4c00)

/* Natural width. */
#define VMCS_CR0_MASK		VMCS_FIELD(0x6000)
#define VMCS_CR4_MASK		VMCS_FIELD(0x6002)
#define VMCS_CR0_SHADOW		VMCS_FIELD(0x6004)
#define VMCS_CR4_SHADOW		VMCS_FIELD(0x6006)
#define VMCS_QUALIFICATION	VMCS_FIELD(0x6400)
#define VMCS_GUEST_CR0		VMCS_FIELD(0x6800)
#define VMCS_GUEST_CR3		VMCS_FIELD(0x6802)
#define VMCS_GUEST_CR4		VMCS_FIELD(0x6804)
#define VMCS_GUEST_BASE(n)	VMCS_FIELD(0x6806 + 2 * (n)) /* enum seg */
#define VMCS_GUEST_GDTR_BASE	VMCS_FIELD(0x6816)
#define VMCS_GUEST_IDTR_BASE	VMCS_FIELD(0x6818)
#define VMCS_GUEST_DR7		VMCS_FIELD(0x681a)
#define VMCS_GUEST_RSP		VMCS_FIELD(0x681c)
#define VMCS_GUEST_RIP		VMCS_FIELD(0x681e)
#define VMCS_GUEST_RFLAGS	VMCS_FIELD(0x6820)
#define VMCS_GUEST_PENDING_DB	VMCS_FIELD(0x6822)
#define VMCS_GUEST_SYSENTER_ESP VMCS_FIELD(0x6824)
#define VMCS_GUEST_SYSENTER_EIP VMCS_FIELD(0x6826)
#define VMCS_HOST_CR0		VMCS_FIELD(0x6c00)
#define VMCS_HOST_CR3		VMCS_FIELD(0x6c02)
#define VMCS_HOST_CR4		VMCS_FIELD(0x6c04)
#define VMCS_HOST_FS_BASE	VMCS_FIELD(0x6c06)
#define VMCS_HOST_GS_BASE	VMCS_FIELD(0x6c08)
#define VMCS_HOST_TR_BASE	VMCS_FIELD(0x6c0a)
#define VMCS_HOST_GDTR_BASE	VMCS_FIELD(0x6c0c)
#define VMCS_HOST_IDTR_BASE	VMCS_FIELD(0x6c0e)
#define VMCS_HOST_SYSENTER_ESP	VMCS_FIELD(0x6c10)
#define VMCS_HOST_SYSENTER_EIP	VMCS_FIELD(0x6c12)
#define VMCS_HOST_RIP		VMCS_FIELD(0x6c16) /* entry.S writes HOST_RSP */

#ifdef UNIT_TEST
/* Unit tests play the VMCS. */
u64 vmread(struct vmcs_field field);
void vmwrite(struct vmcs_field field, u64 value);
#else
/* Of the current VMCS. All fields named above exist once vmx_probe() has been content. */
static inline u64 vmread(struct vmcs_field field) {
	u64 value;

	__asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((u64)field.encoding) : "cc");
	return value;
}

static inline void vmwrite(struct vmcs_field field, u64 value) {
	__asm__ volatile("vmwrite %1, %0"
			 :
			 : "r"((u64)field.encoding), "r"(value)
			 : "cc", "memory");
}
#endif

/* Pin-based controls (SDM 3C 24.6.1). */
#define PIN_INTERRUPT BIT(0)
#define PIN_NMI	      BIT(3)
#define PIN_VNMI      BIT(5)
#define PIN_TICK      BIT(6) /* the preemption timer */

/* Primary processor-based controls (24.6.2). */
#define PROC_INTERRUPT_WINDOW BIT(2)
#define PROC_TSC_OFFSET	      BIT(3)
#define PROC_HLT	      BIT(7)
#define PROC_MWAIT	      BIT(10)
#define PROC_RDPMC	      BIT(11)
#define PROC_CR8_LOAD	      BIT(19)
#define PROC_CR8_STORE	      BIT(20)
#define PROC_NMI_WINDOW	      BIT(22)
#define PROC_ALL_IO	      BIT(24)
#define PROC_MSR_BITMAP	      BIT(28)
#define PROC_MONITOR	      BIT(29)
#define PROC_SECONDARY	      BIT(31)

/* Secondary processor-based controls (24.6.2). */
#define PROC2_EPT	   BIT(1)
#define PROC2_RDTSCP	   BIT(3)
#define PROC2_VPID	   BIT(5)
#define PROC2_WBINVD	   BIT(6)
#define PROC2_UNRESTRICTED BIT(7)
#define PROC2_INVPCID	   BIT(12)
#define PROC2_XSAVES	   BIT(20)

/* VM-exit controls (24.7.1). */
#define EXIT_SAVE_DEBUG BIT(2)
#define EXIT_HOST_64	BIT(9)
#define EXIT_LOAD_PAT	BIT(19)
#define EXIT_SAVE_EFER	BIT(20)
#define EXIT_LOAD_EFER	BIT(21)
#define EXIT_SAVE_TICK	BIT(22)

/* VM-entry controls (24.8.1). */
#define ENTRY_LOAD_DEBUG BIT(2)
#define ENTRY_IA32E	 BIT(9)
#define ENTRY_LOAD_PAT	 BIT(14)
#define ENTRY_LOAD_EFER	 BIT(15)

/* Interruption information: of entries, exits and interrupted delivery (24.8.3, 24.9.2, 24.9.3). */
#define EVENT_TYPE_SHIFT     8
#define EVENT_TYPE(info)     ((info) >> EVENT_TYPE_SHIFT & 7)
#define EVENT_TYPE_INTERRUPT 0ul
#define EVENT_TYPE_NMI	     2ul
#define EVENT_TYPE_EXCEPTION 3ul
#define EVENT_HAS_ERROR	     BIT(11)
#define EVENT_NMI_UNBLOCKED  BIT(12) /* of exits: an IRET had ended NMI blocking */
#define EVENT_VALID	     BIT(31)

/* VMCS_GUEST_SHADOW, "interruptibility state" (24.4.2). */
#define SHADOW_STI    BIT(0)
#define SHADOW_MOV_SS BIT(1)
#define SHADOW_NMI    BIT(3)
#define SHADOW_NEXT   (SHADOW_STI | SHADOW_MOV_SS)

/* VMCS_GUEST_ACCESS: the format of struct segment, spread, and a bit for "no segment" (24.4.1). */
#define ACCESS_UNUSABLE BIT(16)

/* VMCS_QUALIFICATION of EPT violations (27.2.1). */
#define EPT_QUAL_WRITE	       BIT(1)
#define EPT_QUAL_FETCH	       BIT(2)
#define EPT_QUAL_LINEAR	       BIT(7) /* there is a linear address ... */
#define EPT_QUAL_FINAL	       BIT(8) /* ... and it is its own translation, not a page walk */
#define EPT_QUAL_NMI_UNBLOCKED BIT(12)

/* Of the exit reason: the entry failed (27.2.1). */
#define REASON_ENTRY_FAILED BIT(31)

/* Basic exit reasons (appendix C). */
enum exit_reason {
	REASON_EXCEPTION = 0,
	REASON_INTERRUPT = 1,
	REASON_TRIPLE_FAULT = 2,
	REASON_INIT = 3,
	REASON_SIPI = 4,
	REASON_IO_SMI = 5,
	REASON_SMI = 6,
	REASON_INTERRUPT_WINDOW = 7,
	REASON_NMI_WINDOW = 8,
	REASON_TASK_SWITCH = 9,
	REASON_CPUID = 10,
	REASON_GETSEC = 11,
	REASON_HLT = 12,
	REASON_INVD = 13,
	REASON_INVLPG = 14,
	REASON_RDPMC = 15,
	REASON_RDTSC = 16,
	REASON_RSM = 17,
	REASON_VMCALL = 18,
	REASON_VMX_FIRST = 19, /* VMCLEAR, VMLAUNCH, VMPTRLD, VMPTRST, VMREAD, VMRESUME, ... */
	REASON_VMX_LAST = 27,  /* ... VMWRITE, VMXOFF, VMXON */
	REASON_CR = 28,
	REASON_DR = 29,
	REASON_IO = 30,
	REASON_RDMSR = 31,
	REASON_WRMSR = 32,
	REASON_BAD_STATE = 33,
	REASON_BAD_MSR = 34,
	REASON_MWAIT = 36,
	REASON_TRAP_FLAG = 37,
	REASON_MONITOR = 39,
	REASON_PAUSE = 40,
	REASON_MACHINE_CHECK = 41,
	REASON_TPR = 43,
	REASON_APIC_ACCESS = 44,
	REASON_EOI = 45,
	REASON_DESCRIPTOR_TABLE = 46,
	REASON_LDTR_TR = 47,
	REASON_EPT_VIOLATION = 48,
	REASON_EPT_MISCONFIG = 49,
	REASON_INVEPT = 50,
	REASON_RDTSCP = 51,
	REASON_TICK = 52,
	REASON_INVVPID = 53,
	REASON_WBINVD = 54,
	REASON_XSETBV = 55,
	REASON_APIC_WRITE = 56,
	REASON_RDRAND = 57,
	REASON_INVPCID = 58,
	REASON_VMFUNC = 59,
	REASON_ENCLS = 60,
	REASON_RDSEED = 61,
	REASON_PML_FULL = 62,
	REASON_XSAVES = 63,
	REASON_XRSTORS = 64,
	REASON_PCONFIG = 65,
	REASON_SPP = 66,
	REASON_UMWAIT = 67,
	REASON_TPAUSE = 68,
	REASON_LOADIWKEY = 69,
	NR_REASONS = 80, /* room for those that later manuals add */
};
