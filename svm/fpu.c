/*
 * What a vCPU keeps in the CPU between exits and gives up only to another vCPU: x87 and vector
 * state, XCR0, debug registers, TSC_AUX. The only file of Roost with vector instructions.
 *
 * Order (law T-F1): the image is saved and restored with XCR0 at the host's maximum, so that no
 * component the guest has switched off for the moment is lost; the guest's own XCR0 is loaded last
 * and saved first. Interrupts are off from the first step to the last.
 */
#include "svm/svm.h"

#include "kernel/space.h"
#include "lib/string.h"
#include "lib/x86.h"

#define FCW_OFFSET   0
#define MXCSR_OFFSET 24
#define FXSAVE_SIZE  512u
#define XSAVE_HEADER 64u
#define FCW_RESET    0x40
#define MXCSR_RESET  0x1f80
#define MAX_XSAVE    (4 * PAGE_SIZE)

static u64 image_size(void)
{
	return align_up(max_u64(cpu_features.xsave_size, FXSAVE_SIZE + XSAVE_HEADER), PAGE_SIZE);
}

int svm_fpu_create(struct svm_vcpu *arch)
{
	if (image_size() > MAX_XSAVE)
		return E_NOSUPP;
	arch->fpu = page_alloc(image_size());
	return arch->fpu ? 0 : E_NOMEM;
}

void svm_fpu_destroy(struct svm_vcpu *arch)
{
	if (arch->fpu)
		page_free(arch->fpu, image_size());
	arch->fpu = NULL;
}

/* State after RESET (APM 2 14.1.3): an empty XSAVE header means initial values for the rest. */
void svm_fpu_reset(struct svm_vcpu *arch)
{
	u16 fcw = FCW_RESET;
	u32 mxcsr = MXCSR_RESET;
	u8 *image = arch->fpu;
	u64 x87_and_sse = cpu_features.xcr0 ? 3 : 0;

	memset(image, 0, image_size());
	memcpy(image + FCW_OFFSET, &fcw, sizeof(fcw));
	memcpy(image + MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
	memcpy(image + FXSAVE_SIZE, &x87_and_sse, sizeof(x87_and_sse));
}

static void save_image(void *image)
{
	if (cpu_features.xcr0)
		__asm__ volatile("xsave64 (%0)" : : "r"(image), "a"(~0u), "d"(~0u) : "memory");
	else
		__asm__ volatile("fxsave64 (%0)" : : "r"(image) : "memory");
}

static void restore_image(const void *image)
{
	if (cpu_features.xcr0)
		__asm__ volatile("xrstor64 (%0)" : : "r"(image), "a"(~0u), "d"(~0u) : "memory");
	else
		__asm__ volatile("fxrstor64 (%0)" : : "r"(image) : "memory");
}

void svm_load(struct vcpu *vcpu)
{
	struct svm_vcpu *arch = svm_of(vcpu);

	if (cpu_features.xcr0)
		xsetbv(0, cpu_features.xcr0);
	restore_image(arch->fpu);
	if (cpu_features.xcr0)
		xsetbv(0, arch->xcr0);
	write_dr0(arch->dr[0]);
	write_dr1(arch->dr[1]);
	write_dr2(arch->dr[2]);
	write_dr3(arch->dr[3]);
	if (cpu_features.rdtscp)
		wrmsr(X86_MSR_TSC_AUX, arch->tsc_aux);
	arch->loaded = true;
}

void svm_put(struct vcpu *vcpu)
{
	struct svm_vcpu *arch = svm_of(vcpu);

	arch->loaded = false;
	if (cpu_features.rdtscp)
		arch->tsc_aux = rdmsr(X86_MSR_TSC_AUX);
	arch->dr[0] = read_dr0();
	arch->dr[1] = read_dr1();
	arch->dr[2] = read_dr2();
	arch->dr[3] = read_dr3();
	if (cpu_features.xcr0) {
		/* Read back, because QEMU 7.2 lets a guest change it without an exit. */
		arch->xcr0 = xgetbv(0);
		xsetbv(0, cpu_features.xcr0);
	}
	save_image(arch->fpu);
}
