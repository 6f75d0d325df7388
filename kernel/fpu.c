/*
 * The only file of Roost with vector instructions. Order (law T-F1): the image is saved and
 * restored with XCR0 at the host's maximum, so that no component the guest has switched off for the
 * moment is lost; the guest's own XCR0 is loaded last and saved first. Interrupts are off from the
 * first step to the last.
 */
#include "kernel/fpu.h"

#include "kernel/cpu.h"
#include "lib/string.h"
#include "lib/x86.h"
#include "mm/frame.h"

#define FCW_OFFSET   0
#define MXCSR_OFFSET 24
#define FXSAVE_SIZE  512u
#define XSAVE_HEADER 64u
#define FCW_RESET    0x40
#define MXCSR_RESET  0x1f80
#define MAX_XSAVE    (4 * PAGE_SIZE)

/*
 * Bochs 2.7 begins the compacted format 416 bytes too early, over the header, so that a guest's
 * kernel that uses it loses its state. The upper halves of YMM belong at 576 (SDM 1 13.4.3).
 */
void fpu_check(void) {
	static u8 image[FXSAVE_SIZE + XSAVE_HEADER + 256] __aligned(64);
	u8 *const header = image + FXSAVE_SIZE, *const ymm = header + XSAVE_HEADER;
	const u32 avx = 4;

	if (!cpu_features.xsavec || !(cpu_features.xcr0 & avx)) return;
	memcpy(header, &avx, sizeof(avx));
	*ymm = 1;
	__asm__ volatile("xrstor64 %0" : : "m"(image), "a"(avx), "d"(0));
	memset(image, 0, sizeof(image));
	__asm__ volatile("xsavec64 %0" : "+m"(image) : "a"(avx), "d"(0));
	cpu_features.xsavec = *ymm;
}

static u64 image_size(void) {
	return align_up(max_u64(cpu_features.xsave_size, FXSAVE_SIZE + XSAVE_HEADER), PAGE_SIZE);
}

int fpu_create(struct guest_fpu *fpu) {
	if (image_size() > MAX_XSAVE) return E_NOSUPP;
	fpu->image = page_alloc(image_size());
	return fpu->image ? 0 : E_NOMEM;
}

void fpu_destroy(struct guest_fpu *fpu) {
	page_free(fpu->image, image_size());
	fpu->image = NULL;
}

/* An empty XSAVE header means initial values for the rest (APM 2 14.1.3). */
void fpu_reset(struct guest_fpu *fpu) {
	u16 fcw = FCW_RESET;
	u32 mxcsr = MXCSR_RESET;
	u8 *image = fpu->image;
	u64 x87_and_sse = cpu_features.xcr0 ? 3 : 0;

	memset(image, 0, image_size());
	memcpy(image + FCW_OFFSET, &fcw, sizeof(fcw));
	memcpy(image + MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
	memcpy(image + FXSAVE_SIZE, &x87_and_sse, sizeof(x87_and_sse));
	fpu->tsc_aux = 0;
	fpu->xcr0 = 1;
}

static void save_image(void *image) {
	if (cpu_features.xcr0)
		__asm__ volatile("xsave64 (%0)" : : "r"(image), "a"(~0u), "d"(~0u) : "memory");
	else
		__asm__ volatile("fxsave64 (%0)" : : "r"(image) : "memory");
}

/*
 * AMD processors before XSaveErPtr leave the last x87 instruction's addresses alone when the image
 * has no pending exception: they would be the guest's that ran before. Any x87 load overwrites them
 * (APM 5 FXRSTOR, APM 3 Fn8000_0008_EBX[2]).
 */
static void forget_x87_pointers(void) {
	static const u32 zero;

	__asm__ volatile("fnclex; emms; fildl %0" : : "m"(zero));
}

static void restore_image(const void *image) {
	if (cpu_features.x87_leak) forget_x87_pointers();
	if (cpu_features.xcr0)
		__asm__ volatile("xrstor64 (%0)" : : "r"(image), "a"(~0u), "d"(~0u) : "memory");
	else
		__asm__ volatile("fxrstor64 (%0)" : : "r"(image) : "memory");
}

static void load_debug_registers(const struct guest_fpu *fpu) {
	write_dr0(fpu->dr[0]);
	write_dr1(fpu->dr[1]);
	write_dr2(fpu->dr[2]);
	write_dr3(fpu->dr[3]);
}

void fpu_load(struct guest_fpu *fpu) {
	if (cpu_features.xcr0) xsetbv(0, cpu_features.xcr0);
	restore_image(fpu->image);
	if (cpu_features.xcr0) xsetbv(0, fpu->xcr0);
	load_debug_registers(fpu);
	if (cpu_features.rdtscp) wrmsr(X86_MSR_TSC_AUX, fpu->tsc_aux);
	fpu->loaded = true;
}

void fpu_put(struct guest_fpu *fpu) {
	fpu->loaded = false;
	if (cpu_features.rdtscp) fpu->tsc_aux = rdmsr(X86_MSR_TSC_AUX);
	fpu->dr[0] = read_dr0();
	fpu->dr[1] = read_dr1();
	fpu->dr[2] = read_dr2();
	fpu->dr[3] = read_dr3();
	if (cpu_features.xcr0) {
		/* Read back, because QEMU 7.2 lets a guest change it without an exit. */
		fpu->xcr0 = xgetbv(0);
		xsetbv(0, cpu_features.xcr0);
	}
	save_image(fpu->image);
}

void fpu_clear_debug(struct guest_fpu *fpu) {
	memset(fpu->dr, 0, sizeof(fpu->dr));
	if (fpu->loaded) load_debug_registers(fpu);
}

u64 fpu_tsc_aux(const struct guest_fpu *fpu) {
	return fpu->loaded && cpu_features.rdtscp ? rdmsr(X86_MSR_TSC_AUX) : fpu->tsc_aux;
}

void fpu_set_tsc_aux(struct guest_fpu *fpu, u64 value) {
	fpu->tsc_aux = value;
	if (fpu->loaded && cpu_features.rdtscp) wrmsr(X86_MSR_TSC_AUX, value);
}

u64 fpu_xcr0(const struct guest_fpu *fpu) {
	return fpu->loaded && cpu_features.xcr0 ? xgetbv(0) : fpu->xcr0;
}

void fpu_set_xcr0(struct guest_fpu *fpu, u64 value) {
	fpu->xcr0 = value;
	if (fpu->loaded && cpu_features.xcr0) xsetbv(0, value);
}
