/*
 * Intercepts (APM 2 15.9 to 15.14). Every port exits. An MSR exits unless it is the guest's own:
 * switched by VMLOAD and VMSAVE or by fpu_load(), and of no meaning to Roost.
 */
#include "svm/intercept.h"

#include "kernel/cpu.h"
#include "lib/string.h"
#include "mm/frame.h"

static hpa_t iopm, msrpm;
static u64 *own_map;	  /* msrpm */
static u16 open_words[8]; /* of the map: those with a clear bit */
static unsigned nr_open;

static const u32 guest_msrs[] = {
	X86_MSR_SYSENTER_CS, X86_MSR_SYSENTER_CS + 1, X86_MSR_SYSENTER_CS + 2, X86_MSR_STAR,
	X86_MSR_LSTAR,	     X86_MSR_CSTAR,	      X86_MSR_SFMASK,	       X86_MSR_FS_BASE,
	X86_MSR_GS_BASE,     X86_MSR_KERNEL_GS_BASE,
};

/* Two bits an MSR, read then write, in three ranges of 2 KiB each (APM 2 15.11). */
int svm_msr_bit(u32 msr) {
	static const u32 first[] = {0, 0xc0000000, 0xc0010000};

	for (u32 i = 0; i < ARRAY_SIZE(first); i++)
		if (msr - first[i] < 0x2000) return (int)(i * 0x2000 + (msr & 0x1fff)) * 2;
	return -1;
}

static void pass_msr(u8 *map, u32 msr) {
	int bit = svm_msr_bit(msr);

	map[bit / 8] &= (u8) ~(3u << bit % 8);
}

static void find_open_words(void) {
	nr_open = 0;
	for (u32 i = 0; i < MSRPM_SIZE / 8 && nr_open < ARRAY_SIZE(open_words); i++)
		if (own_map[i] != ~0ul) open_words[nr_open++] = (u16)i;
}

/* What Roost lets pass lies in the first page. */
void svm_msrpm_merge(u8 *to, const u8 *l1) {
	for (unsigned i = 0; i < nr_open; i++) {
		u32 word = open_words[i];
		u64 wanted =
			l1 ? __atomic_load_n((const u64 *)(const void *)l1 + word, __ATOMIC_RELAXED)
			   : ~0ul;

		((u64 *)(void *)to)[word] = own_map[word] | wanted;
	}
}

int svm_intercept_init(void) {
	u8 *io = page_alloc(IOPM_SIZE);
	u8 *msr = page_alloc(MSRPM_SIZE);

	if (!io || !msr) {
		page_free(io, IOPM_SIZE);
		page_free(msr, MSRPM_SIZE);
		return E_NOMEM;
	}
	memset(io, 0xff, IOPM_SIZE);
	memset(msr, 0xff, MSRPM_SIZE);
	for (unsigned i = 0; i < ARRAY_SIZE(guest_msrs); i++) pass_msr(msr, guest_msrs[i]);
	if (cpu_features.rdtscp) pass_msr(msr, X86_MSR_TSC_AUX);
	iopm = virt_to_phys(io);
	msrpm = virt_to_phys(msr);
	own_map = (u64 *)(void *)msr;
	find_open_words();
	return 0;
}

/* What every guest exits for; an exit code is the number of its bit in the VMCB. */
static const u8 exits_wanted[] = {
	EXIT_CR8_READ, EXIT_CR4_WRITE, EXIT_CR8_WRITE, EXIT_INTR,     EXIT_NMI,	   EXIT_INIT,
	EXIT_RDPMC,    EXIT_CPUID,     EXIT_RSM,       EXIT_INVD,     EXIT_HLT,	   EXIT_INVLPGA,
	EXIT_IOIO,     EXIT_MSR,       EXIT_FERR,      EXIT_SHUTDOWN, EXIT_VMRUN,  EXIT_VMMCALL,
	EXIT_VMLOAD,   EXIT_VMSAVE,    EXIT_STGI,      EXIT_CLGI,     EXIT_SKINIT, EXIT_WBINVD,
	EXIT_MONITOR,  EXIT_MWAIT,     EXIT_XSETBV,    EXIT_RDPRU,
};

void svm_intercept_setup(struct vmcb *vmcb) {
	vmcb->intercept_exceptions = BIT(X86_DB) | BIT(X86_AC) | BIT(X86_MC);
	for (u32 i = 0; i < ARRAY_SIZE(exits_wanted); i++)
		((u8 *)vmcb)[exits_wanted[i] / 8] |= (u8)(1u << exits_wanted[i] % 8);
	if (svm_features.tcg) vmcb->intercept_misc1 |= (u32)INTERCEPT_CR0_SEL;
	/* A guest that spins gives way (APM 2 15.14.4); without the filter every PAUSE would exit.
	 */
	if (svm_features.pause_filter) {
		vmcb->intercept_misc1 |= (u32)INTERCEPT_PAUSE;
		vmcb->pause_count = SVM_PAUSE_COUNT;
	}
	vmcb->vintr = (u32)V_MASKING;
	vmcb->np_enable = NP_ENABLE;
	vmcb->iopm_base = iopm;
	vmcb->msrpm_base = msrpm;
}

/*
 * MOV CR0 needs Roost only while EFER.LME waits for paging to be turned on: then the checks of
 * long-mode activation are Roost's (see svm_update_efer()). Else the guest writes CR0 itself.
 */
void svm_intercept_cr0(struct svm_vcpu *arch, bool on) {
	u16 write = (u16)on;

	/* An L1 that watches the bits of CR0 sees paging turned on, and enters L2 anew. */
	if (arch->vmcb != arch->vmcb01) {
		const struct vmcb *l1 = arch->nested.vmcb12;

		if (l1->intercept_misc1 & INTERCEPT_CR0_SEL) write = 0;
		write |= l1->intercept_cr_write & 1;
	}
	arch->vmcb->intercept_cr_write = (arch->vmcb->intercept_cr_write & (u16)~BIT(0)) | write;
}
