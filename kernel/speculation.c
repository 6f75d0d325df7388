/*
 * What one VM leaves in a CPU's branch predictors, its L1 cache and its buffers, another could read
 * by speculation. No state of the architecture tells of it, so that no emulator shows it either:
 * what is done here follows the manufacturers' papers, which docs/isolation.md names.
 */
#include "kernel/speculation.h"

#include "boot/layout.h"
#include "kernel/cpu.h"
#include "lib/log.h"
#include "lib/x86.h"

#define MSR_SPEC_CTRL	0x048u
#define MSR_PRED_CMD	0x049u /* bit 0: IBPB */
#define MSR_ARCH_CAPS	0x10au
#define MSR_FLUSH_CMD	0x10bu /* bit 0: the L1 data cache */

#define SPEC_IBRS	BIT(0)
#define SPEC_BHI_DIS_S	BIT(10)
#define CAPS_RDCL_NO	BIT(0)	/* neither Meltdown nor L1TF */
#define CAPS_IBRS_ALL	BIT(1)	/* set once, IBRS keeps guests' predictions out of the host's */
#define CAPS_SKIP_L1D	BIT(3)	/* the hypervisor below does it */
#define EFER_AUTO_IBRS	BIT(21) /* (APM 2 3.1.7) the same, of AMD */

#define BARRIER_IBPB	1u
#define BARRIER_L1D	2u
#define BARRIER_BUFFERS 4u

static u32 barriers;   /* BARRIER_... between two VMs */
static u64 spec_ctrl;  /* of each CPU, for good; 0: it stays as it is */
static bool auto_ibrs; /* the same */

/* A register of a CPUID leaf; 0 where there is no such leaf. */
static u32 leaf_bits(u32 leaf, u32 sub, unsigned reg) {
	u32 r[4], last = leaf >> 31 ? cpu_features.max_ext_leaf : cpu_features.max_leaf;

	if (leaf > last) return 0;
	cpuid(leaf, sub, r);
	return r[reg];
}

/* SDM 2A CPUID leaf 7; SDM 4 table 2-2. */
static void detect_intel(void) {
	u32 edx = leaf_bits(7, 0, 3);
	u64 caps = edx & BIT(29) ? rdmsr(MSR_ARCH_CAPS) : 0;

	if (edx & BIT(10)) barriers |= BARRIER_BUFFERS;
	if (edx & BIT(28) && !(caps & (CAPS_RDCL_NO | CAPS_SKIP_L1D))) barriers |= BARRIER_L1D;
	if (!(edx & BIT(26))) return;
	barriers |= BARRIER_IBPB;
	if (caps & CAPS_IBRS_ALL) spec_ctrl = SPEC_IBRS;
	if (leaf_bits(7, 2, 3) & BIT(4)) spec_ctrl |= SPEC_BHI_DIS_S;
}

/* APM 3 E.4. */
static void detect_amd(void) {
	if (leaf_bits(0x80000008, 0, 1) & BIT(12)) barriers |= BARRIER_IBPB;
	auto_ibrs = leaf_bits(0x80000021, 0, 0) & BIT(8);
}

void speculation_init(void) {
	if (cpu_features.amd)
		detect_amd();
	else
		detect_intel();
	if (barriers)
		log_info("speculation: between VMs:%s%s%s%s",
			 barriers & BARRIER_IBPB ? " IBPB" : "",
			 barriers & BARRIER_L1D ? " L1-flush" : "",
			 barriers & BARRIER_BUFFERS ? " VERW" : "",
			 spec_ctrl || auto_ibrs ? "; for Roost: IBRS" : "");
	/* Threads of a core share what the barriers clear, and run at the same time. */
	if (barriers & (BARRIER_L1D | BARRIER_BUFFERS) && (u16)leaf_bits(0xb, 0, 1) > 1)
		log_warn(
			"speculation: a VM may spy on another that runs on the other thread of its "
			"core; pin VMs to cores of their own, or turn threads off");
	speculation_init_cpu();
}

void speculation_init_cpu(void) {
	if (spec_ctrl) wrmsr(MSR_SPEC_CTRL, spec_ctrl);
	if (auto_ibrs) wrmsr(X86_MSR_EFER, rdmsr(X86_MSR_EFER) | EFER_AUTO_IBRS);
}

/* VERW clears the buffers only with a segment's selector from memory (SDM 2B VERW). */
static void clear_buffers(void) {
	static const u16 selector = HOST_DS;

	__asm__ volatile("verw %0" : : "m"(selector) : "cc", "memory");
}

void speculation_barrier(void) {
	if (likely(!barriers)) return;
	if (barriers & BARRIER_IBPB) wrmsr(MSR_PRED_CMD, 1);
	if (barriers & BARRIER_L1D) wrmsr(MSR_FLUSH_CMD, 1);
	if (barriers & BARRIER_BUFFERS) clear_buffers();
}
