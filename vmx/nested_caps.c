/*
 * What a guest that is a hypervisor is told of VMX (SDM 3D appendix A): of each control word what
 * Roost carries out for an L2 and this CPU has. The checks of VM entries go by the same values.
 */
#include "lib/x86.h"
#include "mm/gmem.h"
#include "platform/cpu_model.h"
#include "vmx/vmx.h"

#define REGION_SIZE   (PAGE_SIZE << 32)
#define BASIC_WB      (6ul << 50)
#define BASIC_IO_INFO BIT(54)
#define MISC_LMA      BIT(5) /* exits store EFER.LMA in the entry control */
#define MISC_HLT      BIT(6)
#define TICK_SHIFT    GENMASK(4, 0)
#define CR3_TARGETS   GENMASK(24, 16)
#define LAST_FIELD    (VMCS_tsc_multiplier & 0x3fe) /* the highest index of an encoding */

u64 vmx_nested_msrs[VMX_FEATURE_MSRS];

/* Bits that must be 1, by the old rule and by the true one; those that may be. */
static const struct {
	u32 ones, true_ones, may;
} words[] = {
	[VMX_PIN] = {0x16, 0x16, PIN_INTERRUPT | PIN_NMI | PIN_VNMI | PIN_TICK},
	[VMX_PROC] = {0x0401e172, 0x04006172,
		      (u32)(PROC_INTERRUPT_WINDOW | PROC_TSC_OFFSET | PROC_HLT | PROC_INVLPG |
			    PROC_MWAIT | PROC_RDPMC | PROC_RDTSC | PROC_CR3_LOAD | PROC_CR3_STORE |
			    PROC_CR8_LOAD | PROC_CR8_STORE | PROC_NMI_WINDOW | PROC_DR |
			    PROC_ALL_IO | PROC_IO_BITMAPS | PROC_MSR_BITMAP | PROC_MONITOR |
			    PROC_MTF | PROC_PAUSE | PROC_SECONDARY | PROC_TPR_SHADOW)},
	[VMX_EXIT] = {0x36dff, 0x36dfb,
		      EXIT_SAVE_DEBUG | EXIT_HOST_64 | EXIT_ACK | EXIT_SAVE_PAT | EXIT_LOAD_PAT |
			      EXIT_SAVE_EFER | EXIT_LOAD_EFER | EXIT_SAVE_TICK},
	[VMX_ENTRY] = {0x11ff, 0x11fb,
		       ENTRY_LOAD_DEBUG | ENTRY_IA32E | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER},
	[VMX_PROC2] = {0, 0,
		       PROC2_APIC_ACCESS | PROC2_X2APIC | PROC2_APIC_REGS | PROC2_VID | PROC2_EPT |
			       PROC2_TABLES | PROC2_RDTSCP | PROC2_VPID | PROC2_WBINVD |
			       PROC2_UNRESTRICTED | PROC2_RDRAND | PROC2_INVPCID | PROC2_RDSEED |
			       PROC2_VMFUNC | PROC2_PML | PROC2_XSAVES | PROC2_TSC_SCALING},
};

static void set(u32 msr, u64 value) { vmx_nested_msrs[msr - VMX_MSR_FIRST] = value; }

static void set_words(void) {
	for (enum vmx_word w = VMX_PIN; w <= VMX_ENTRY; w++) {
		u64 may = words[w].may & vmx_word_cap(&vmx_config.caps, w) >> 32;

		/* By Roost's own tick. */
		if (w == VMX_PIN) may &= ~PIN_TICK | vmx_config.pin;
		if (w == VMX_EXIT) may &= ~EXIT_SAVE_TICK | vmx_config.exit;
		set(VMX_MSR_PIN + w, (may | words[w].ones) << 32 | words[w].ones);
		set(VMX_MSR_TRUE_PIN + w, (may | words[w].ones) << 32 | words[w].true_ones);
	}
	u64 may = words[VMX_PROC2].may & vmx_word_cap(&vmx_config.caps, VMX_PROC2) >> 32;
	may |= PROC2_SHADOW_VMCS; /* Roost carries it out */
	/* The same, but Linux reads its index at each exit: L1 has to reach that without one. */
	if (~vmx_config.proc2 & (PROC2_PML | PROC2_SHADOW_VMCS)) may &= ~(u64)PROC2_PML;
	/* These are for an L2 only where Roost lets its own guests have them. */
	may &= ~(u64)(PROC2_RDTSCP | PROC2_INVPCID | PROC2_VPID | PROC2_VID | PROC2_XSAVES |
		      PROC2_TSC_SCALING) |
	       vmx_config.proc2;
	set(VMX_MSR_PROC2, may << 32);
	/* By Roost; what the processor has to do is to exit. */
	set(VMX_MSR_VMFUNC, may & PROC2_VMFUNC ? VMFUNC_EPTP : 0);
}

void vmx_nested_caps(void) {
	const struct vmx_caps *host = &vmx_config.caps;
	u64 misc = vmx_cap(host, VMX_MSR_MISC);
	u64 ept = EPT_CAP_EXEC_ONLY | EPT_CAP_4_LEVELS | EPT_CAP_WB | EPT_CAP_2M | EPT_CAP_1G |
		  EPT_CAP_INVEPT | EPT_CAP_INVEPT_ONE | EPT_CAP_INVEPT_ALL | VPID_CAP_INVVPID |
		  VPID_CAP_TYPES;

	if (vmx_config.ept & EPT_CAP_AD) ept |= EPT_CAP_AD;
	set(VMX_MSR_BASIC,
	    VMCS12_REVISION | REGION_SIZE | BASIC_WB | BASIC_TRUE |
		    (vmx_cap(host, VMX_MSR_BASIC) & (BASIC_IO_INFO | BASIC_ANY_ERROR)));
	set_words();
	set(VMX_MSR_MISC, (misc & (TICK_SHIFT | CR3_TARGETS | MISC_LENGTH_0)) | MISC_LMA |
				  MISC_HLT | MISC_WRITE_ALL);
	set(VMX_MSR_CR0_FIXED0, X86_CR0_PE | X86_CR0_NE | X86_CR0_PG);
	set(VMX_MSR_CR0_FIXED0 + 1, UINT32_MAX);
	set(VMX_MSR_CR4_FIXED0, X86_CR4_VMXE); /* the record knows which bits may be 1 */
	set(VMX_MSR_VMCS_ENUM, LAST_FIELD);
	set(VMX_MSR_EPT_VPID,
	    ept & (vmx_cap(host, VMX_MSR_EPT_VPID) | EPT_CAP_2M | EPT_CAP_1G | EPT_CAP_INVEPT_ONE |
		   EPT_CAP_INVEPT_ALL | VPID_CAP_INVVPID | VPID_CAP_TYPES));
}
