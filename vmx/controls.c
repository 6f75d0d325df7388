/*
 * What the CPU's VMX can do against what Roost needs (SDM 3C appendix A), and the control fields of
 * a VMCS. The capability MSRs are read once on the boot processor; every further CPU must offer the
 * same, because a vCPU's VMCS is written once for all of them.
 */
#include "kernel/space.h"
#include "kernel/traps.h"
#include "kernel/vm.h"
#include "lib/log.h"
#include "lib/string.h"
#include "lib/x86.h"
#include "mm/direct.h"
#include "mm/gmem.h"
#include "platform/cpu_model.h"
#include "vmx/vmx.h"

#define MSR_BASIC	   0x480u
#define MSR_MISC	   0x485u
#define MSR_CR0_FIXED0	   0x486u
#define MSR_CR4_FIXED0	   0x488u
#define MSR_PROC2	   0x48bu
#define MSR_EPT_VPID	   0x48cu

#define BASIC_TRUE	   BIT(55) /* the MSRs 0x48d and up tell more precisely what must be 1 */

#define EPT_CAP_4_LEVELS   BIT(6)
#define EPT_CAP_WB	   BIT(14)
#define EPT_CAP_INVEPT	   BIT(20)
#define EPT_CAP_AD	   BIT(21)
#define EPT_CAP_INVEPT_ONE BIT(25)
#define EPT_CAP_INVEPT_ALL BIT(26)
#define VPID_CAP_INVVPID   BIT(32)
#define VPID_CAP_ONE	   BIT(41)
#define VPID_CAP_ALL	   BIT(42)

#define EPTP_WB		   6ul
#define EPTP_4_LEVELS	   (3ul << 3)
#define EPTP_AD		   BIT(6)

struct control {
	u64 bit;
	const char *name;
	bool needed; /* else used where it is */
};

static const struct control pin_controls[] = {
	{PIN_INTERRUPT, "external-interrupt exiting", true},
	{PIN_NMI, "NMI exiting", true},
	{PIN_VNMI, "virtual NMIs", true},
	{PIN_TICK, "the preemption timer", false},
	{0, NULL, false},
};

static const struct control proc_controls[] = {
	{PROC_TSC_OFFSET, "TSC offsetting", true},
	{PROC_HLT, "HLT exiting", true},
	{PROC_MWAIT, "MWAIT exiting", true},
	{PROC_RDPMC, "RDPMC exiting", true},
	{PROC_CR8_LOAD, "CR8-load exiting", true},
	{PROC_CR8_STORE, "CR8-store exiting", true},
	{PROC_ALL_IO, "unconditional I/O exiting", true},
	{PROC_MSR_BITMAP, "MSR bitmaps", true},
	{PROC_MONITOR, "MONITOR exiting", true},
	{PROC_SECONDARY, "secondary controls", true},
	{0, NULL, false},
};

static const struct control proc2_controls[] = {
	{PROC2_EPT, "EPT (nested paging)", true},
	{PROC2_UNRESTRICTED, "unrestricted guest (real mode)", true},
	{PROC2_WBINVD, "WBINVD exiting", true},
	{PROC2_RDTSCP, "RDTSCP in guests", false},
	{PROC2_VPID, "VPID", false},
	{PROC2_INVPCID, "INVPCID in guests", false},
	{PROC2_XSAVES, "XSAVES in guests", false},
	{0, NULL, false},
};

static const struct control exit_controls[] = {
	{EXIT_SAVE_DEBUG, "saving of debug controls", true},
	{EXIT_HOST_64, "a 64-bit host", true},
	{EXIT_LOAD_PAT, "loading of the PAT at exits", true},
	{EXIT_SAVE_EFER, "saving of EFER", true},
	{EXIT_LOAD_EFER, "loading of EFER at exits", true},
	{EXIT_SAVE_TICK, "saving of the preemption timer", false},
	{0, NULL, false},
};

static const struct control entry_controls[] = {
	{ENTRY_LOAD_DEBUG, "loading of debug controls", true},
	{ENTRY_LOAD_PAT, "loading of the PAT at entries", true},
	{ENTRY_LOAD_EFER, "loading of EFER at entries", true},
	{0, NULL, false},
};

struct vmx_config vmx_config;
static hpa_t msr_bitmap;

/* Chooses a control word: bits 31:0 of the MSR must be 1, bits 63:32 may be (SDM 3C A.2). */
static int choose(u32 msr, const struct control *controls, u32 *word) {
	u64 caps = rdmsr(msr);
	u64 value = (u32)caps;
	int err = 0;

	for (const struct control *c = controls; c->name; c++) {
		if (caps >> 32 & c->bit) {
			value |= c->bit;
		} else if (c->needed) {
			log_error("this CPU's VMX has no %s", c->name);
			err = E_NOSUPP;
		}
	}
	*word = (u32)value;
	return err;
}

static int choose_words(struct vmx_config *c) {
	u64 basic = rdmsr(MSR_BASIC);
	u32 first = basic & BASIC_TRUE ? 0x48d : 0x481;
	int err = 0;

	c->revision = (u32)basic & 0x7fffffff;
	err |= choose(first, pin_controls, &c->pin);
	err |= choose(first + 1, proc_controls, &c->proc);
	err |= choose(first + 2, exit_controls, &c->exit);
	err |= choose(first + 3, entry_controls, &c->entry);
	if (c->proc & PROC_SECONDARY)
		err |= choose(MSR_PROC2, proc2_controls, &c->proc2);
	return err ? E_NOSUPP : 0;
}

static int choose_ept(struct vmx_config *c) {
	u64 caps = rdmsr(MSR_EPT_VPID);
	u64 needed = EPT_CAP_4_LEVELS | EPT_CAP_WB | EPT_CAP_INVEPT;

	if ((caps & needed) != needed || !(caps & (EPT_CAP_INVEPT_ONE | EPT_CAP_INVEPT_ALL))) {
		log_error("this CPU's EPT lacks four levels, write-back tables or INVEPT");
		return E_NOSUPP;
	}
	c->ept_flags = EPTP_WB | EPTP_4_LEVELS | (caps & EPT_CAP_AD ? EPTP_AD : 0);
	c->invept_context = caps & EPT_CAP_INVEPT_ONE;
	c->invvpid_context = caps & VPID_CAP_ONE;
	/* A VPID whose entries cannot be flushed is of no use. */
	if (!(caps & VPID_CAP_INVVPID) || !(caps & (VPID_CAP_ONE | VPID_CAP_ALL)))
		c->proc2 &= (u32)~PROC2_VPID;
	return 0;
}

static int negotiate(struct vmx_config *c) {
	int err = choose_words(c);

	if (!err)
		err = choose_ept(c);
	if (err)
		return err;
	/* Unrestricted guests may clear PE and PG (SDM 3C 23.8). */
	c->cr0_fixed = rdmsr(MSR_CR0_FIXED0) & ~(X86_CR0_PE | X86_CR0_PG);
	c->cr4_fixed = rdmsr(MSR_CR4_FIXED0);
	c->tick_shift = rdmsr(MSR_MISC) & 0x1f;
	/* The timer is only of use when an exit does not set it back. */
	if (!(c->exit & EXIT_SAVE_TICK))
		c->pin &= (u32)~PIN_TICK;
	if (!(c->pin & PIN_TICK))
		c->exit &= (u32)~EXIT_SAVE_TICK;
	return 0;
}

int vmx_negotiate(void) { return negotiate(&vmx_config); }

int vmx_check_cpu(u32 cpu) {
	struct vmx_config own;

	memset(&own, 0, sizeof(own));
	if (negotiate(&own) == 0 && !memcmp(&own, &vmx_config, sizeof(own)))
		return 0;
	log_error("CPU %u: its VMX differs from the boot processor's", cpu);
	return E_NOSUPP;
}

/* ---- MSRs ---- */

static const u32 guest_msrs[] = {
	X86_MSR_SYSENTER_CS, X86_MSR_SYSENTER_CS + 1, X86_MSR_SYSENTER_CS + 2, X86_MSR_STAR,
	X86_MSR_LSTAR,	     X86_MSR_CSTAR,	      X86_MSR_SFMASK,	       X86_MSR_FS_BASE,
	X86_MSR_GS_BASE,     X86_MSR_KERNEL_GS_BASE,
};

/* Four maps of 1 KiB: reads of low and high MSRs, then writes (SDM 3C 24.6.9). */
static void pass_msr(u8 *map, u32 msr) {
	u32 at = (msr >= 0xc0000000 ? 1024 : 0) + (msr & 0x1fff) / 8;
	u8 clear = (u8) ~(1u << msr % 8);

	map[at] &= clear;
	map[at + 2048] &= clear;
}

int vmx_msr_bitmap_init(void) {
	u8 *map = page_alloc(PAGE_SIZE);

	if (!map)
		return E_NOMEM;
	memset(map, 0xff, PAGE_SIZE);
	for (unsigned i = 0; i < ARRAY_SIZE(guest_msrs); i++)
		pass_msr(map, guest_msrs[i]);
	if (cpu_features.rdtscp)
		pass_msr(map, X86_MSR_TSC_AUX);
	msr_bitmap = virt_to_phys(map);
	return 0;
}

/* ---- a VMCS ---- */

/*
 * The guest changes a bit of CR0 and CR4 by itself unless Roost has to know, or the hardware needs
 * it otherwise: NE, VMXE and MCE are 1 below the guest; CD and NW would not leave the CPU with the
 * guest (SDM 3C 27.5.1); bits that the CPU model does not offer must fault.
 */
static void setup_cr_masks(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	u64 reserved = vcpu->vm->cpu_model->cr4_reserved;

	arch->cr0_owned = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_WP |
			  X86_CR0_AM | X86_CR0_PG;
	arch->cr4_owned = ~(reserved | X86_CR4_MCE | vmx_config.cr4_fixed);
	vmwrite(VMCS(cr0_mask), ~arch->cr0_owned);
	vmwrite(VMCS(cr4_mask), ~arch->cr4_owned);
}

void vmx_setup_controls(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	const struct vmx_config *c = &vmx_config;

	arch->proc = c->proc;
	vmwrite(VMCS(pin_controls), c->pin);
	vmwrite(VMCS(proc_controls), c->proc);
	vmwrite(VMCS(proc2_controls), c->proc2);
	vmwrite(VMCS(exit_controls), c->exit);
	vmwrite(VMCS(entry_controls), c->entry);
	vmwrite(VMCS(exception_bitmap), BIT(X86_DB) | BIT(X86_AC) | BIT(X86_MC));
	vmwrite(VMCS(pf_error_mask), 0);
	vmwrite(VMCS(pf_error_match), 0);
	vmwrite(VMCS(cr3_targets), 0);
	vmwrite(VMCS(exit_msr_stores), 0);
	vmwrite(VMCS(exit_msr_loads), 0);
	vmwrite(VMCS(entry_msr_loads), 0);
	vmwrite(VMCS(entry_event), 0);
	vmwrite(VMCS(msr_bitmap), msr_bitmap);
	vmwrite(VMCS(link), ~0ul);
	vmwrite(VMCS(eptp), vcpu->vm->gmem->pt.root | c->ept_flags);
	if (arch->vpid)
		vmwrite(VMCS(vpid), arch->vpid);
	if (c->proc2 & PROC2_XSAVES)
		vmwrite(VMCS(xss_exiting), 0);
	if (c->pin & PIN_TICK)
		vmwrite(VMCS(tick), vmx_tick());
	setup_cr_masks(vcpu);
}

void vmx_setup_host(struct cpu *cpu) {
	vmwrite(VMCS(host_cr0), read_cr0());
	vmwrite(VMCS(host_cr3), read_cr3());
	vmwrite(VMCS(host_cr4), read_cr4());
	for (enum seg seg = SEG_ES; seg <= SEG_GS; seg++)
		vmwrite(VMCS_AT(host_selector, seg), seg == SEG_CS   ? HOST_CS
						     : seg <= SEG_DS ? HOST_DS
								     : 0);
	vmwrite(VMCS(host_tr_selector), HOST_TSS);
	vmwrite(VMCS(host_fs_base), 0);
	vmwrite(VMCS(host_gs_base), 0);
	vmwrite(VMCS(host_tr_base), (u64)&cpu->tss);
	vmwrite(VMCS(host_gdtr_base), (u64)cpu->gdt);
	vmwrite(VMCS(host_idtr_base), idt_pointer.base);
	vmwrite(VMCS(host_sysenter_cs), 0);
	vmwrite(VMCS(host_sysenter_esp), 0);
	vmwrite(VMCS(host_sysenter_eip), 0);
	vmwrite(VMCS(host_pat), rdmsr(X86_MSR_PAT));
	vmwrite(VMCS(host_efer), rdmsr(X86_MSR_EFER));
	vmwrite(VMCS(host_rip), (u64)vmx_exit_entry);
}
