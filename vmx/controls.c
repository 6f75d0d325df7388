/*
 * What the CPU's VMX can do against what Roost needs and wants (SDM 3C appendix A), and the control
 * fields of a VMCS. The capability MSRs are read once on the boot processor; every further CPU must
 * offer the same, because a vCPU's VMCS is written once for all of them.
 */
#include "kernel/traps.h"
#include "kernel/vm.h"
#include "lib/log.h"
#include "lib/string.h"
#include "lib/x86.h"
#include "mm/frame.h"
#include "mm/gmem.h"
#include "platform/cpu_model.h"
#include "vmx/vmx.h"

/* A loop of PAUSEs, at most so many ticks apart, that has lasted so long waits for another vCPU. */
#define PLE_GAP	       128u
#define PLE_WINDOW     4096u

#define VIRTUAL_X2APIC (PROC2_X2APIC | PROC2_APIC_REGS | PROC2_VID)
#define EPTP_WB	       6ul
#define EPTP_4_LEVELS  (3ul << 3)

/*
 * Everything that is asked for. Without an option it is needed; the others are used where they are,
 * unless vmx=-OPTION turns them off. Those with an empty one cannot be turned off.
 */
static const struct control {
	u8 word; /* enum vmx_word */
	u32 bit;
	const char *name, *option;
} controls[] = {
	{VMX_PIN, PIN_INTERRUPT, "external-interrupt exiting", NULL},
	{VMX_PIN, PIN_NMI, "NMI exiting", NULL},
	{VMX_PIN, PIN_VNMI, "virtual NMIs", NULL},
	{VMX_PIN, PIN_TICK, "the preemption timer", "preemption-timer"},
	{VMX_PROC, PROC_TSC_OFFSET, "TSC offsetting", NULL},
	{VMX_PROC, PROC_HLT, "HLT exiting", NULL},
	{VMX_PROC, PROC_MWAIT, "MWAIT exiting", NULL},
	{VMX_PROC, PROC_RDPMC, "RDPMC exiting", NULL},
	{VMX_PROC, PROC_CR8_LOAD, "CR8-load exiting", NULL},
	{VMX_PROC, PROC_CR8_STORE, "CR8-store exiting", NULL},
	{VMX_PROC, PROC_ALL_IO, "unconditional I/O exiting", NULL},
	{VMX_PROC, PROC_MSR_BITMAP, "MSR bitmaps", NULL},
	{VMX_PROC, PROC_MONITOR, "MONITOR exiting", NULL},
	{VMX_PROC, PROC_SECONDARY, "secondary controls", NULL},
	{VMX_PROC, PROC_TPR_SHADOW, "a TPR shadow", "tpr-shadow"},
	{VMX_PROC2, PROC2_APIC_ACCESS, "APIC accesses", "apic-access"},
	{VMX_PROC2, PROC2_X2APIC, "virtual x2APIC mode", "x2apic"},
	{VMX_PROC2, PROC2_APIC_REGS, "APIC registers", "apic-registers"},
	{VMX_PROC2, PROC2_VID, "virtual-interrupt delivery", "virtual-interrupts"},
	{VMX_PROC2, PROC2_EPT, "EPT (nested paging)", NULL},
	{VMX_PROC2, PROC2_UNRESTRICTED, "unrestricted guest (real mode)", NULL},
	{VMX_PROC2, PROC2_WBINVD, "WBINVD exiting", NULL},
	{VMX_PROC2, PROC2_RDTSCP, "RDTSCP in guests", ""},
	{VMX_PROC2, PROC2_VPID, "VPID", "vpid"},
	{VMX_PROC2, PROC2_PLE, "PAUSE loops", "pause-loop"},
	{VMX_PROC2, PROC2_INVPCID, "INVPCID in guests", ""},
	{VMX_PROC2, PROC2_SHADOW_VMCS, "VMCS shadowing", "vmcs-shadowing"},
	{VMX_PROC2, PROC2_PML, "PML", "pml"},
	{VMX_PROC2, PROC2_XSAVES, "XSAVES in guests", "xsaves"},
	{VMX_PROC2, PROC2_TSC_SCALING, "TSC scaling", "tsc-scaling"},
	{VMX_EXIT, EXIT_SAVE_DEBUG, "saving of debug controls", NULL},
	{VMX_EXIT, EXIT_HOST_64, "a 64-bit host", NULL},
	{VMX_EXIT, EXIT_LOAD_PAT, "loading of the PAT at exits", NULL},
	{VMX_EXIT, EXIT_SAVE_EFER, "saving of EFER", NULL},
	{VMX_EXIT, EXIT_LOAD_EFER, "loading of EFER at exits", NULL},
	{VMX_EXIT, EXIT_SAVE_TICK, "saving of the timer", ""},
	{VMX_ENTRY, ENTRY_LOAD_DEBUG, "loading of debug controls", NULL},
	{VMX_ENTRY, ENTRY_LOAD_PAT, "loading of the PAT at entries", NULL},
	{VMX_ENTRY, ENTRY_LOAD_EFER, "loading of EFER at entries", NULL},
	{VMX_EPT, EPT_CAP_4_LEVELS, "EPT of four levels", NULL},
	{VMX_EPT, EPT_CAP_WB, "write-back EPT tables", NULL},
	{VMX_EPT, EPT_CAP_INVEPT, "INVEPT", NULL},
	{VMX_EPT, EPT_CAP_INVEPT_ALL, "INVEPT of all contexts", NULL},
	{VMX_EPT, EPT_CAP_AD, "A/D flags in EPT", "ept-ad"},
	{VMX_EPT, EPT_CAP_2M, "EPT pages of 2 MiB", "2m"},
	{VMX_EPT, EPT_CAP_1G, "EPT pages of 1 GiB", "1g"},
};

_Static_assert(ARRAY_SIZE(controls) <= 64, "a bit for each in a word");

struct vmx_config vmx_config;
static u64 off;		     /* by vmx=: a bit for each line of the table */
static hpa_t msr_bitmaps[2]; /* the other one where the processor virtualizes x2APIC mode */

/* ---- the command line ---- */

static bool optional(unsigned line) { return controls[line].option && controls[line].option[0]; }

/* The options of those lines that `rows` has a bit for. */
static void list_options(char *to, size_t size, u64 rows) {
	to[0] = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(controls); i++)
		if (rows >> i & 1 && optional(i)) text_list(to, size, controls[i].option, "");
}

/* -NAME or +NAME. */
static void read_option(struct text item) {
	struct text name = {item.at + 1, item.len - 1};
	bool sign = item.len && (item.at[0] == '-' || item.at[0] == '+');
	char known[256];
	u64 rows = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(controls) && sign; i++)
		if (optional(i) && (text_is(name, controls[i].option) || text_is(name, "all")))
			rows |= BIT(i);
	if (!rows) {
		list_options(known, sizeof(known), ~0ul);
		log_warn("command line: vmx= does not know %.*s; there are -all, and - before %s",
			 (int)min_u64(item.len, 32), item.at, known);
	}
	off = sign && item.at[0] == '-' ? off | rows : off & ~rows;
}

void vmx_read_options(struct text list) {
	struct text item;
	bool more = list.len;

	while (more) {
		more = text_split(list, ',', &item, &list);
		read_option(item);
	}
}

/* ---- negotiation ---- */

/* Each MSR is there when a bit of one before it says so. */
static void read_caps(struct vmx_caps *caps) {
	u32 r[4];

	for (u32 msr = VMX_MSR_BASIC; msr <= VMX_MSR_VMFUNC; msr++) {
		u64 proc2 = vmx_cap(caps, VMX_MSR_PROC2) >> 32;
		u64 condition = BIT(0);

		if (msr == VMX_MSR_PROC2)
			condition = vmx_cap(caps, VMX_MSR_PIN + 1) >> 32 & PROC_SECONDARY;
		else if (msr == VMX_MSR_EPT_VPID)
			condition = proc2 & (PROC2_EPT | PROC2_VPID);
		else if (msr == VMX_MSR_VMFUNC)
			condition = proc2 & PROC2_VMFUNC;
		else if (msr >= VMX_MSR_TRUE_PIN)
			condition = vmx_cap(caps, VMX_MSR_BASIC) & BASIC_TRUE;
		caps->msr[msr - VMX_MSR_BASIC] = condition ? rdmsr(msr) : 0;
	}
	cpuid(0x80000008, 0, r);
	caps->phys_bits = (u8)r[0];
	caps->linear_bits = (u8)(r[0] >> 8);
}

static int choose_words(struct vmx_config *c) {
	int err = 0;

	for (enum vmx_word word = 0; word < VMX_NR_WORDS; word++)
		c->word[word] = (u32)vmx_word_cap(&c->caps, word);
	for (unsigned i = 0; i < ARRAY_SIZE(controls); i++) {
		const struct control *want = &controls[i];

		if (want->word == VMX_EPT && !(c->proc2 & PROC2_EPT)) continue;
		if (vmx_word_cap(&c->caps, want->word) >> 32 & want->bit) {
			if (!(off >> i & 1)) c->word[want->word] |= want->bit;
		} else if (!want->option) {
			log_error("this CPU's VMX has no %s", want->name);
			err = E_NOSUPP;
		}
	}
	return err;
}

/* What is of no use alone goes. */
static void drop_lonely(struct vmx_config *c) {
	u64 vpid_caps = vmx_cap(&c->caps, VMX_MSR_EPT_VPID);

	/* A VPID whose entries cannot be flushed. */
	if (!(vpid_caps & VPID_CAP_INVVPID) || !(vpid_caps & (VPID_CAP_ONE | VPID_CAP_ALL)))
		c->proc2 &= (u32)~PROC2_VPID;
	/* Registers that the guest cannot reach, or no interrupts by them. */
	if (!(c->proc & PROC_TPR_SHADOW) || !(c->proc2 & PROC2_VID) ||
	    !(c->proc2 & (PROC2_X2APIC | PROC2_APIC_ACCESS)))
		c->proc2 &= (u32) ~(VIRTUAL_X2APIC | PROC2_APIC_ACCESS);
	/* What exits tell could not be put into the shadow, or a field of it is not there. */
	if (!(vmx_cap(&c->caps, VMX_MSR_MISC) & MISC_WRITE_ALL) ||
	    !(vmx_word_cap(&c->caps, VMX_PIN) >> 32 & PIN_TICK))
		c->proc2 &= (u32)~PROC2_SHADOW_VMCS;
	if (c->proc & PROC_TPR_SHADOW) c->proc &= (u32) ~(PROC_CR8_LOAD | PROC_CR8_STORE);
	/* It is the setting of dirty flags that is logged. */
	if (!(c->ept & EPT_CAP_AD)) c->proc2 &= (u32)~PROC2_PML;
	/* No guest's CPUID has XSAVES then. */
	if (!cpu_features.xsavec) c->proc2 &= (u32)~PROC2_XSAVES;
	/* A timer that each exit sets back. */
	if (!(c->exit & EXIT_SAVE_TICK)) c->pin &= (u32)~PIN_TICK;
	if (!(c->pin & PIN_TICK)) c->exit &= (u32)~EXIT_SAVE_TICK;
}

static int negotiate(struct vmx_config *c) {
	read_caps(&c->caps);
	int err = choose_words(c);
	if (err) return err;
	drop_lonely(c);
	c->ept_flags = EPTP_WB | EPTP_4_LEVELS | (c->ept & EPT_CAP_AD ? EPTP_AD : 0);
	/* Unrestricted guests may clear PE and PG (SDM 3C 23.8). */
	c->cr0_fixed = vmx_cap(&c->caps, VMX_MSR_CR0_FIXED0) & ~(X86_CR0_PE | X86_CR0_PG);
	c->cr4_fixed = vmx_cap(&c->caps, VMX_MSR_CR4_FIXED0);
	return 0;
}

int vmx_negotiate(void) {
	char used[256];
	u64 rows = 0;
	int err = negotiate(&vmx_config);

	if (!(vmx_config.proc2 & PROC2_XSAVES)) cpu_features.xsaves = false;
	for (unsigned i = 0; i < ARRAY_SIZE(controls); i++)
		if (vmx_config.word[controls[i].word] & controls[i].bit) rows |= BIT(i);
	list_options(used, sizeof(used), rows);
	if (!err) log_info("VMX: EPT, unrestricted guest; %s", used[0] ? used : "no option");
	return err;
}

int vmx_check_cpu(u32 cpu) {
	struct vmx_config own;

	memset(&own, 0, sizeof(own));
	if (negotiate(&own) == 0 && !memcmp(&own, &vmx_config, sizeof(own))) return 0;
	log_error("CPU %u: its VMX differs from the boot processor's", cpu);
	return E_NOSUPP;
}

/* ---- MSRs ---- */

static const u32 guest_msrs[] = {
	X86_MSR_SYSENTER_CS, X86_MSR_SYSENTER_CS + 1, X86_MSR_SYSENTER_CS + 2, X86_MSR_STAR,
	X86_MSR_LSTAR,	     X86_MSR_CSTAR,	      X86_MSR_SFMASK,	       X86_MSR_FS_BASE,
	X86_MSR_GS_BASE,     X86_MSR_KERNEL_GS_BASE,
};

/* Registers of the virtual-APIC page that x2APIC's RDMSR may read there: not the current count. */
static const u8 x2apic_reads[][2] = {{0x02, 0x03}, {0x08, 0x08}, {0x0a, 0x0a}, {0x0d, 0x0d},
				     {0x0f, 0x28}, {0x30, 0x30}, {0x32, 0x38}, {0x3e, 0x3e}};
/* TPR, which needs no virtual-interrupt delivery; EOI, self IPI. */
static const u8 x2apic_writes[] = {0x08, 0x0b, 0x3f};
#define MAX_PASSING 8 /* SYSENTER, STAR to SFMASK, FS base to TSC_AUX: twice, and room */

/* Four maps of 1 KiB: reads of low and high MSRs, then writes (SDM 3C 24.6.9). */
static void pass_msr(u8 *map, u32 msr, bool read, bool write) {
	u32 at = (msr >= 0xc0000000 ? 1024 : 0) + (msr & 0x1fff) / 8;
	u8 clear = (u8) ~(1u << msr % 8);

	if (read) map[at] &= clear;
	if (write) map[at + 2048] &= clear;
}

static void pass_x2apic(u8 *map) {
	for (unsigned i = 0; i < ARRAY_SIZE(x2apic_writes); i++)
		pass_msr(map, X86_MSR_X2APIC + x2apic_writes[i], false, true);
	for (unsigned i = 0; i < ARRAY_SIZE(x2apic_reads) && vmx_config.proc2 & PROC2_APIC_REGS;
	     i++)
		for (u32 reg = x2apic_reads[i][0]; reg <= x2apic_reads[i][1]; reg++)
			pass_msr(map, X86_MSR_X2APIC + reg, true, false);
}

/* The bytes of the map that let something pass. */
static u16 passing[MAX_PASSING];
static unsigned nr_passing;
static const u8 *plain_map; /* without x2APIC's registers */

void vmx_msr_bitmap_merge(u8 *to, const u8 *l1) {
	for (unsigned i = 0; i < nr_passing; i++)
		to[passing[i]] = l1 ? plain_map[passing[i]] | l1[passing[i]] : 0xff;
}

void vmx_msr_bitmap_x2apic(u8 *to, const u8 *l1, u64 proc2) {
	static const u32 reads = X86_MSR_X2APIC / 8, writes = reads + 2048, size = 0x100 / 8;

	memset(to + reads, 0xff, size);
	memset(to + writes, 0xff, size);
	if (!l1) return;
	if (proc2 & PROC2_APIC_REGS) memcpy(to + reads, l1 + reads, size);
	for (unsigned i = 0; i < ARRAY_SIZE(x2apic_writes); i++) {
		u32 at = x2apic_writes[i] / 8, bit = 1u << x2apic_writes[i] % 8;

		if (!i) to[reads + at] &= (u8)(l1[reads + at] | ~bit);
		if (!i || proc2 & PROC2_VID) to[writes + at] &= (u8)(l1[writes + at] | ~bit);
	}
}

int vmx_msr_bitmap_init(void) {
	for (unsigned n = 0; n < ARRAY_SIZE(msr_bitmaps); n++) {
		u8 *map = page_alloc(PAGE_SIZE);

		if (!map) return E_NOMEM;
		memset(map, 0xff, PAGE_SIZE);
		for (unsigned i = 0; i < ARRAY_SIZE(guest_msrs); i++)
			pass_msr(map, guest_msrs[i], true, true);
		if (cpu_features.rdtscp) pass_msr(map, X86_MSR_TSC_AUX, true, true);
		if (n) pass_x2apic(map);
		msr_bitmaps[n] = virt_to_phys(map);
	}
	plain_map = phys_to_virt(msr_bitmaps[0]);
	for (u16 i = 0; i < PAGE_SIZE && nr_passing < MAX_PASSING; i++)
		if (plain_map[i] != 0xff) passing[nr_passing++] = i;
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

	arch->level->cr0_owned = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_WP |
				 X86_CR0_AM | X86_CR0_PG;
	arch->level->cr4_owned = ~(reserved | X86_CR4_MCE | vmx_config.cr4_fixed);
	vmwrite(VMCS(cr0_mask), ~arch->level->cr0_owned);
	vmwrite(VMCS(cr4_mask), ~arch->level->cr4_owned);
}

/* The MSRs may be passed only where the processor virtualizes them: they would be the host's. */
void vmx_set_apic_mode(u8 delivers, bool usual_page) {
	u64 shadow = PROC2_SHADOW_VMCS, proc2 = vmx_config.proc2 & ~shadow;

	if (!delivers) proc2 &= ~(PROC2_APIC_REGS | PROC2_VID);
	if (delivers != LAPIC_X2APIC) proc2 &= ~PROC2_X2APIC;
	if (!usual_page) proc2 &= ~PROC2_APIC_ACCESS;
	vmwrite(VMCS(proc2_controls), proc2 | (vmread(VMCS(proc2_controls)) & shadow));
	vmwrite(VMCS(msr_bitmap), msr_bitmaps[delivers == LAPIC_X2APIC]);
}

void vmx_setup_controls(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	const struct vmx_config *c = &vmx_config;

	/* What nobody sets is 0; VMWRITE of a field that this CPU has not does nothing. */
	for (unsigned i = 0; i < vmcs_nr_runs; i++)
		for (unsigned n = 0; n < vmcs_runs[i].count; n++)
			vmwrite(VMCS_FIELD(vmcs_runs[i].encoding + 2 * n), 0);
	arch->level->proc = c->proc;
	vmwrite(VMCS(pin_controls), c->pin);
	vmwrite(VMCS(proc_controls), c->proc);
	vmx_set_apic_mode(LAPIC_DISABLED, false);
	vmwrite(VMCS(exit_controls), c->exit);
	vmwrite(VMCS(entry_controls), c->entry);
	vmwrite(VMCS(exception_bitmap), VMX_EXCEPTIONS);
	if (c->proc & PROC_TPR_SHADOW) vmwrite(VMCS(virtual_apic), virt_to_phys(arch->vapic));
	if (c->proc2 & PROC2_APIC_ACCESS) vmwrite(VMCS(apic_access), vmx_apic_access);
	vmwrite(VMCS(link), ~0ul);
	arch->level->eptp = vcpu->vm->gmem->pt.root | c->ept_flags;
	vmwrite(VMCS(eptp), arch->level->eptp);
	if (arch->level->vpid) vmwrite(VMCS(vpid), arch->level->vpid);
	if (arch->level->pml) {
		vmwrite(VMCS(pml_address), virt_to_phys((void *)arch->level->pml));
		vmwrite(VMCS(pml_index), PML_FIRST);
	}
	if (c->proc2 & PROC2_TSC_SCALING)
		vmwrite(VMCS(tsc_multiplier), vcpu->vm->tsc_multiplier ?: 1ul << TSC_FRACTION);
	if (c->pin & PIN_TICK) vmwrite(VMCS(tick), vmx_tick());
	if (c->proc2 & PROC2_PLE) {
		vmwrite(VMCS(ple_gap), PLE_GAP);
		vmwrite(VMCS(ple_window), PLE_WINDOW);
	}
	setup_cr_masks(vcpu);
}

void vmx_setup_host(struct cpu *cpu) {
	vmwrite(VMCS(host_cr0), read_cr0());
	vmwrite(VMCS(host_cr3), read_cr3());
	vmwrite(VMCS(host_cr4), read_cr4());
	for (enum seg seg = SEG_ES; seg <= SEG_DS; seg++)
		vmwrite(VMCS_AT(host_selector, seg), seg == SEG_CS ? HOST_CS : HOST_DS);
	vmwrite(VMCS(host_tr_selector), HOST_TSS);
	vmwrite(VMCS(host_tr_base), (u64)&cpu->tss);
	vmwrite(VMCS(host_gdtr_base), (u64)cpu->gdt);
	vmwrite(VMCS(host_idtr_base), idt_pointer.base);
	vmwrite(VMCS(host_pat), rdmsr(X86_MSR_PAT));
	vmwrite(VMCS(host_efer), rdmsr(X86_MSR_EFER));
	vmwrite(VMCS(host_rip), (u64)vmx_exit_entry);
}
