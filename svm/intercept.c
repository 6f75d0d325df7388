/*
 * Intercepts (APM 2 15.9 to 15.14). Every port exits. An MSR exits unless it is the guest's own:
 * switched by VMLOAD and VMSAVE or by fpu_load(), and of no meaning to Roost.
 */
#include "svm/intercept.h"

#include "kernel/space.h"
#include "lib/string.h"
#include "lib/x86.h"
#include "mm/direct.h"
#include "svm/quirks.h"

#define IOPM_SIZE  (3 * PAGE_SIZE)
#define MSRPM_SIZE (2 * PAGE_SIZE)

static hpa_t iopm, msrpm;

static const u32 guest_msrs[] = {
	X86_MSR_SYSENTER_CS, X86_MSR_SYSENTER_CS + 1, X86_MSR_SYSENTER_CS + 2, X86_MSR_STAR,
	X86_MSR_LSTAR,	     X86_MSR_CSTAR,	      X86_MSR_SFMASK,	       X86_MSR_FS_BASE,
	X86_MSR_GS_BASE,     X86_MSR_KERNEL_GS_BASE,
};

/* Two bits an MSR, read then write, in three ranges of 2 KiB each (APM 2 15.11). */
static void pass_msr(u8 *map, u32 msr) {
	u32 range = msr < 0x2000 ? 0 : msr < 0xc0010000 ? 1 : 2;
	u32 bit = (range * 0x2000 + (msr & 0x1fff)) * 2;

	map[bit / 8] &= (u8) ~(3u << bit % 8);
}

int svm_intercept_init(void) {
	u8 *io = page_alloc(4 * PAGE_SIZE); /* three are used: blocks are powers of two */
	u8 *msr = page_alloc(MSRPM_SIZE);

	if (!io || !msr) {
		if (io)
			page_free(io, 4 * PAGE_SIZE);
		if (msr)
			page_free(msr, MSRPM_SIZE);
		return E_NOMEM;
	}
	memset(io, 0xff, IOPM_SIZE);
	memset(msr, 0xff, MSRPM_SIZE);
	for (unsigned i = 0; i < ARRAY_SIZE(guest_msrs); i++)
		pass_msr(msr, guest_msrs[i]);
	if (cpu_features.rdtscp)
		pass_msr(msr, X86_MSR_TSC_AUX);
	iopm = virt_to_phys(io);
	msrpm = virt_to_phys(msr);
	return 0;
}

void svm_intercept_setup(struct vmcb *vmcb) {
	vmcb->intercept_cr_write = BIT(4) | BIT(8);
	vmcb->intercept_cr_read = BIT(8);
	vmcb->intercept_exceptions = BIT(X86_DB) | BIT(X86_AC) | BIT(X86_MC);
	vmcb->intercept_misc1 =
		(u32)(INTERCEPT_INTR | INTERCEPT_NMI | INTERCEPT_INIT | INTERCEPT_RDPMC |
		      INTERCEPT_CPUID | INTERCEPT_RSM | INTERCEPT_INVD | INTERCEPT_HLT |
		      INTERCEPT_INVLPGA | INTERCEPT_IOIO | INTERCEPT_MSR | INTERCEPT_FERR |
		      INTERCEPT_SHUTDOWN);
	if (svm_quirk_cr0_unchecked())
		vmcb->intercept_misc1 |= (u32)INTERCEPT_CR0_SEL;
	vmcb->intercept_misc2 =
		(u32)(INTERCEPT_VMRUN | INTERCEPT_VMMCALL | INTERCEPT_VMLOAD | INTERCEPT_VMSAVE |
		      INTERCEPT_STGI | INTERCEPT_CLGI | INTERCEPT_SKINIT | INTERCEPT_WBINVD |
		      INTERCEPT_MONITOR | INTERCEPT_MWAIT | INTERCEPT_XSETBV | INTERCEPT_RDPRU);
	vmcb->vintr = (u32)V_MASKING;
	vmcb->iopm_base = iopm;
	vmcb->msrpm_base = msrpm;
}

/*
 * MOV CR0 needs Roost only while EFER.LME waits for paging to be turned on: then the checks of
 * long-mode activation are Roost's (see svm_update_efer()). Else the guest writes CR0 itself.
 */
void svm_intercept_cr0(struct svm_vcpu *arch, bool on) {
	if (on)
		arch->vmcb->intercept_cr_write |= BIT(0);
	else
		arch->vmcb->intercept_cr_write &= (u16)~BIT(0);
}
