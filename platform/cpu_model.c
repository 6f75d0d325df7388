/*
 * Builds the capability record of a VM. The host's CPUID is never passed on raw: each feature bit a
 * guest sees is in the list below, because the host has it and it needs nothing from Roost, or
 * because Roost emulates it. What is not listed is not there, and its MSRs and control-register
 * bits fault.
 *
 * Not offered: MONITOR, five-level paging, performance counters, machine-check banks, and the
 * speculation-control MSRs, which nothing here switches between vCPUs.
 */
#include "platform/cpu_model.h"

#include "kernel/vm.h"
#include "platform/kvm_pv.h"

enum { EAX, EBX, ECX, EDX };

/* Words of feature bits: one register of one leaf each. */
#define WORDS(X)                            \
	X(W1_ECX, 1, 0, ECX)                \
	X(W1_EDX, 1, 0, EDX)                \
	X(W7_EBX, 7, 0, EBX)                \
	X(W7_ECX, 7, 0, ECX)                \
	X(W7_EDX, 7, 0, EDX)                \
	X(W71_EAX, 7, 1, EAX)               \
	X(WD1_EAX, 0xd, 1, EAX)             \
	X(WX1_ECX, CPUID_EXT + 1, 0, ECX)   \
	X(WX1_EDX, CPUID_EXT + 1, 0, EDX)   \
	X(WX8_EBX, CPUID_EXT + 8, 0, EBX)   \
	X(WXA_EDX, CPUID_EXT + 0xa, 0, EDX) \
	X(WX21_EAX, CPUID_EXT + 0x21, 0, EAX)

#define WORD_NUMBER(name, leaf, subleaf, reg) name,
#define WORD_PLACE(name, leaf, subleaf, reg)  [name] = {leaf, subleaf, reg},

enum word { WORDS(WORD_NUMBER) NR_WORDS };

static const struct {
	u32 leaf, subleaf;
	u8 reg;
} words[NR_WORDS] = {WORDS(WORD_PLACE)};

/* State components (APM 2 11.5.2, SDM 1 13.1). */
#define XCR0_LEGACY  0x003u /* x87 and SSE: every XSAVE has them */
#define XCR0_AVX     0x004u
#define XCR0_AVX512  0x0e0u /* opmask, upper halves, upper registers: all or none */
#define XCR0_PKRU    0x200u

#define NEEDS_XSAVE  XCR0_LEGACY
#define NEEDS_AVX    (XCR0_LEGACY | XCR0_AVX)
#define NEEDS_AVX512 (NEEDS_AVX | XCR0_AVX512)
#define NEEDS_PKRU   (XCR0_LEGACY | XCR0_PKRU)

enum source {
	HOST,	  /* there when the host has it */
	HOST_AMD, /* the same, on AMD only: reserved on Intel */
	EMULATED, /* always there: Roost provides it */
	EMULATED_AMD,
	NESTED_AMD, /* the same, on AMD for a guest that may be a hypervisor */
	NESTED_INTEL,
};

struct features {
	u8 word;   /* enum word */
	u8 source; /* enum source */
	u16 needs; /* components of XCR0 without which they are hidden */
	u32 bits;
};

#define B(n) (1u << (n))

/* A row has features of one word with the same source and needs, named in the order of their bits.
 */
static const struct features features[] = {
	/* SSE3, PCLMULQDQ, SSSE3, CMPXCHG16B, PCID, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, RDRAND */
	{W1_ECX, HOST, 0,
	 B(0) | B(1) | B(9) | B(13) | B(17) | B(19) | B(20) | B(22) | B(23) | B(25) | B(30)},
	{W1_ECX, HOST, NEEDS_AVX, B(12) | B(28) | B(29)}, /* FMA, AVX, F16C */
	{W1_ECX, EMULATED, 0, B(21) | B(24) | B(31)},	  /* x2APIC, TSC deadline, a hypervisor */
	{W1_ECX, HOST, NEEDS_XSAVE, B(26)},		  /* XSAVE */
	{W1_ECX, NESTED_INTEL, 0, B(5)},		  /* VMX */
	/* x87, virtual-8086 extensions, debugging extensions, 4 MiB pages, TSC, MSRs, PAE,
	 * CMPXCHG8B, SYSENTER, global pages, CMOV, PAT, PSE-36, CLFLUSH, MMX, FXSAVE, SSE, SSE2 */
	{W1_EDX, HOST, 0,
	 B(0) | B(1) | B(2) | B(3) | B(4) | B(5) | B(6) | B(8) | B(11) | B(13) | B(15) | B(16) |
		 B(17) | B(19) | B(23) | B(24) | B(25) | B(26)},
	/* machine check exception (no banks), APIC, MTRRs, machine check architecture */
	{W1_EDX, EMULATED, 0, B(7) | B(9) | B(12) | B(14)},
	/* FSGSBASE, BMI1, x87 data pointer updated on exceptions only, SMEP, BMI2, fast REP
	 * MOVSB, INVPCID, x87 CS and DS deprecated, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA */
	{W7_EBX, HOST, 0,
	 B(0) | B(3) | B(6) | B(7) | B(8) | B(9) | B(10) | B(13) | B(18) | B(19) | B(20) | B(23) |
		 B(24) | B(29)},
	{W7_EBX, EMULATED, 0, B(1)},	 /* IA32_TSC_ADJUST */
	{W7_EBX, HOST, NEEDS_AVX, B(5)}, /* AVX2 */
	/* AVX512F, AVX512DQ, AVX512_IFMA, AVX512CD, AVX512BW, AVX512VL */
	{W7_EBX, HOST, NEEDS_AVX512, B(16) | B(17) | B(21) | B(28) | B(30) | B(31)},
	/* AVX512_VBMI, AVX512_VBMI2, AVX512_VNNI, AVX512_BITALG, AVX512_VPOPCNTDQ */
	{W7_ECX, HOST, NEEDS_AVX512, B(1) | B(6) | B(11) | B(12) | B(14)},
	/* UMIP, GFNI, RDPID, CLDEMOTE, MOVDIRI, MOVDIR64B */
	{W7_ECX, HOST, 0, B(2) | B(8) | B(22) | B(25) | B(27) | B(28)},
	{W7_ECX, HOST, NEEDS_PKRU, B(3)},	 /* user protection keys */
	{W7_ECX, HOST, NEEDS_AVX, B(9) | B(10)}, /* VAES, VPCLMULQDQ */
	/* AVX512_4VNNIW, AVX512_4FMAPS, AVX512_VP2INTERSECT, AVX512_FP16 */
	{W7_EDX, HOST, NEEDS_AVX512, B(2) | B(3) | B(8) | B(23)},
	{W7_EDX, HOST, 0, B(4) | B(14)},	  /* fast short REP MOVSB, SERIALIZE */
	{W71_EAX, HOST, NEEDS_AVX, B(4) | B(23)}, /* AVX_VNNI, AVX_IFMA */
	{W71_EAX, HOST, NEEDS_AVX512, B(5)},	  /* AVX512_BF16 */
	/* fast zero-length REP MOVSB, fast short REP STOSB, fast short REP CMPSB and SCASB */
	{W71_EAX, HOST, 0, B(10) | B(11) | B(12)},
	/* XSAVEOPT, XSAVEC, XGETBV with ECX 1, XSAVES with IA32_XSS */
	{WD1_EAX, HOST, NEEDS_XSAVE, B(0) | B(1) | B(2) | B(3)},
	{WX1_ECX, HOST, 0, B(0) | B(5) | B(8)}, /* LAHF in 64-bit mode, LZCNT, PREFETCHW */
	/* LOCK MOV CR0 is MOV CR8, SSE4A, misaligned SSE, TBM, topology extensions */
	{WX1_ECX, HOST_AMD, 0, B(4) | B(6) | B(7) | B(21) | B(22)},
	{WX1_ECX, EMULATED_AMD, 0, B(9)},	       /* OS visible workarounds */
	{WX1_ECX, NESTED_AMD, 0, B(2)},		       /* SVM */
	{WX1_ECX, HOST_AMD, NEEDS_AVX, B(11) | B(16)}, /* XOP, FMA4 */
	/* as in leaf 1, but 22 MMX extensions, 25 EFER.FFXSR, 30 3DNow! extensions, 31 3DNow! */
	{WX1_EDX, HOST_AMD, 0,
	 B(0) | B(1) | B(2) | B(3) | B(4) | B(5) | B(6) | B(8) | B(13) | B(15) | B(16) | B(17) |
		 B(22) | B(23) | B(24) | B(25) | B(30) | B(31)},
	{WX1_EDX, EMULATED_AMD, 0, B(7) | B(9) | B(12) | B(14)}, /* as in leaf 1 */
	/* SYSCALL, no-execute, 1 GiB pages, RDTSCP, long mode */
	{WX1_EDX, HOST, 0, B(11) | B(20) | B(26) | B(27) | B(29)},
	{WX8_EBX, HOST_AMD, 0, B(0) | B(2)}, /* CLZERO, FXRSTOR restores error pointers */
	/* nested paging, next RIP saved, flush by ASID, decode assists, virtual VMLOAD and VMSAVE,
	 * any address of memory for VMRUN and its like */
	{WXA_EDX, NESTED_AMD, 0, B(0) | B(3) | B(6) | B(7) | B(15) | B(28)},
	/* LFENCE is always serializing, a null selector clears the base */
	{WX21_EAX, HOST_AMD, 0, B(2) | B(6)},
};

/* Bits that the rules below name. */
#define W1_ECX_VMX	   5
#define W1_ECX_XSAVE	   26
#define W1_EDX_HTT	   28
#define W7_ECX_PKU	   3
#define W7_ECX_RDPID	   22
#define WD1_EAX_XSAVEC	   1
#define WD1_EAX_XSAVES	   3
#define WX1_ECX_CMP_LEGACY 1
#define WX1_ECX_SVM	   2
#define WX1_ECX_TOPOEXT	   22
#define WX1_EDX_GBPAGES	   26
#define WX1_EDX_RDTSCP	   27
#define WX1_EDX_LM	   29

/* Bits of CR4 and EFER that a feature makes legal (APM 2 3.1.3, 3.1.7, SDM 3A 2.5, 2.2.1). */
static const struct {
	u64 cr4, efer;
	u8 word, bit;
} control_features[] = {
	{X86_CR4_VME | X86_CR4_PVI, 0, W1_EDX, 1},
	{X86_CR4_TSD, 0, W1_EDX, 4},
	{X86_CR4_DE, 0, W1_EDX, 2},
	{X86_CR4_PSE, 0, W1_EDX, 3},
	{X86_CR4_PAE, 0, W1_EDX, 6},
	{X86_CR4_MCE, 0, W1_EDX, 7},
	{X86_CR4_PGE, 0, W1_EDX, 13},
	{X86_CR4_OSFXSR, 0, W1_EDX, 24},
	{X86_CR4_OSXMMEXCPT, 0, W1_EDX, 25},
	{X86_CR4_UMIP, 0, W7_ECX, 2},
	{X86_CR4_VMXE, 0, W1_ECX, W1_ECX_VMX},
	{X86_CR4_FSGSBASE, 0, W7_EBX, 0},
	{X86_CR4_PCIDE, 0, W1_ECX, 17},
	{X86_CR4_OSXSAVE, 0, W1_ECX, W1_ECX_XSAVE},
	{X86_CR4_SMEP, 0, W7_EBX, 7},
	{X86_CR4_SMAP, 0, W7_EBX, 20},
	{X86_CR4_PKE, 0, W7_ECX, W7_ECX_PKU},
	{0, X86_EFER_NXE, WX1_EDX, 20},
	{0, X86_EFER_FFXSR, WX1_EDX, 25},
	{0, X86_EFER_SVME, WX1_ECX, WX1_ECX_SVM},
};

/* How many ASIDs a guest has for its guests: as many as hardware has, they cost nothing. */
#define NESTED_ASIDS 0x8000u

/* In leaf 1 EDX for 64-bit guests: x87, PSE, TSC, MSR, PAE, CX8, FXSR, SSE and SSE2. */
#define W1_EDX_PROMISED 0x07000179u

struct builder {
	struct cpu_model *model;
	const struct cpu_model_host *host;
	const struct cpu_model_config *config;
	u32 host_max_basic, host_max_ext;
	u32 word[NR_WORDS];
	u32 core_bits; /* APIC id bits that number the cores: ceil(log2(nr_vcpus)) */
};

/* The host's answer; zeros for a leaf it does not have, whatever its vendor returns for that. */
static void host_leaf(const struct builder *b, u32 leaf, u32 subleaf, u32 out[4]) {
	u32 max = leaf >= CPUID_EXT ? b->host_max_ext : b->host_max_basic;

	__builtin_memset(out, 0, 4 * sizeof(*out));
	if (leaf <= max) b->host->host_cpuid(leaf, subleaf, out);
}

static void read_host_limits(struct builder *b) {
	u32 out[4];

	b->host->host_cpuid(0, 0, out);
	b->host_max_basic = out[EAX];
	b->host->host_cpuid(CPUID_EXT, 0, out);
	b->host_max_ext = out[EAX] >= CPUID_EXT && out[EAX] < CPUID_EXT + 0x10000 ? out[EAX] : 0;
}

static u32 host_word(const struct builder *b, enum word w) {
	u32 out[4];

	host_leaf(b, words[w].leaf, 0, out);
	if (words[w].leaf == 7 && words[w].subleaf > out[EAX]) return 0;
	if (words[w].subleaf) host_leaf(b, words[w].leaf, words[w].subleaf, out);
	return out[words[w].reg];
}

static bool has(const struct builder *b, enum word w, unsigned bit) {
	return b->word[w] >> bit & 1;
}

static void drop(struct builder *b, enum word w, unsigned bit) { b->word[w] &= ~(1u << bit); }

/* The layout of one state component; false when the host's description makes no sense. */
static bool read_component(struct builder *b, unsigned index) {
	struct xsave_component *c = &b->model->component[index];
	u32 out[4];

	host_leaf(b, 0xd, index, out);
	if (!out[EAX] || out[EAX] > PAGE_SIZE || out[EBX] < 576 || out[EBX] > PAGE_SIZE)
		return false;
	c->size = out[EAX];
	c->offset = out[EBX];
	c->align64 = out[ECX] >> 1 & 1;
	return true;
}

/*
 * What XCR0 may hold: what the host has, Roost switches and this file knows. A component without
 * an area, which some emulated hosts have, goes with its features.
 */
static void build_xcr0(struct builder *b) {
	u64 known = XCR0_LEGACY | XCR0_AVX | XCR0_AVX512 | XCR0_PKRU;
	u32 out[4];

	host_leaf(b, 0xd, 0, out);
	u64 xcr0 = b->host->host_xcr0 & known & out[EAX];
	if ((xcr0 & XCR0_LEGACY) != XCR0_LEGACY || !(host_word(b, W1_ECX) >> W1_ECX_XSAVE & 1))
		xcr0 = 0;
	if (!(host_word(b, W7_ECX) >> W7_ECX_PKU & 1)) xcr0 &= ~(u64)XCR0_PKRU;
	for (unsigned i = 2; i < XSAVE_COMPONENTS; i++)
		if ((xcr0 & BIT(i)) && !read_component(b, i)) xcr0 &= ~BIT(i);
	if (!(xcr0 & XCR0_AVX) || (xcr0 & XCR0_AVX512) != XCR0_AVX512) xcr0 &= ~(u64)XCR0_AVX512;
	b->model->xcr0_allowed = xcr0;
	b->model->xsave_size = cpu_model_xsave_size(b->model, xcr0, XSAVE_STANDARD);
}

/* Those of the row that the guest gets. */
static u32 features_offered(const struct builder *b, const struct features *f, u32 host) {
	const u64 *vmx = b->host->vmx_msrs;

	if (f->source == NESTED_INTEL)
		return !b->host->is_amd && b->config->nested && vmx && *vmx ? f->bits : 0;
	if (f->source != HOST && f->source != EMULATED && !b->host->is_amd) return 0;
	if ((b->model->xcr0_allowed & f->needs) != f->needs) return 0;
	if (f->source == NESTED_AMD && !b->config->nested) return 0;
	return f->source == HOST || f->source == HOST_AMD ? f->bits & host : f->bits;
}

static void build_features(struct builder *b) {
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		const struct features *f = &features[i];

		b->word[f->word] |= features_offered(b, f, host_word(b, (enum word)f->word));
	}
	if (b->host->no_xsavec) drop(b, WD1_EAX, WD1_EAX_XSAVEC);
	if (b->host->no_xsaves || !has(b, WD1_EAX, WD1_EAX_XSAVEC))
		drop(b, WD1_EAX, WD1_EAX_XSAVES);
	if (b->host_max_ext < CPUID_EXT + 0x1e)
		drop(b, WX1_ECX, WX1_ECX_TOPOEXT); /* its leaves are missing */
	if (b->config->nr_vcpus > 1) {
		b->word[W1_EDX] |= 1u << W1_EDX_HTT;
		if (b->host->is_amd) b->word[WX1_ECX] |= 1u << WX1_ECX_CMP_LEGACY;
	}
}

/* MAXPHYADDR: no more than nested paging can translate. */
static u8 build_phys_bits(const struct builder *b) {
	u32 out[4];

	host_leaf(b, CPUID_EXT + 8, 0, out);
	u32 bits = out[EAX] & 0xff;
	if (bits < 36 || bits > 52) bits = 36;
	if (b->host->gpa_bits && bits > b->host->gpa_bits) bits = b->host->gpa_bits;
	return (u8)bits;
}

static void build_reserved_bits(struct builder *b) {
	struct cpu_model *m = b->model;
	u64 cr4 = X86_CR4_PCE; /* RDPMC as such is older than CPUID's bit for counters */

	m->efer_allowed = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA;
	for (size_t i = 0; i < ARRAY_SIZE(control_features); i++) {
		if (!has(b, (enum word)control_features[i].word, control_features[i].bit)) continue;
		cr4 |= control_features[i].cr4;
		m->efer_allowed |= control_features[i].efer;
	}
	m->cr4_reserved = ~cr4;
	m->cr0_reserved = GENMASK(63, 32); /* others are ignored, not refused: APM 2 3.1.1 */
	m->has_svm = has(b, WX1_ECX, WX1_ECX_SVM);
	m->has_vmx = has(b, W1_ECX, W1_ECX_VMX);
	if (m->has_vmx) {
		__builtin_memcpy(m->vmx_msrs, b->host->vmx_msrs, sizeof(m->vmx_msrs));
		m->vmx_msrs[VMX_FEATURE_CR4_FIXED1] = cr4;
	}
	m->has_rdtscp = has(b, WX1_EDX, WX1_EDX_RDTSCP) || has(b, W7_ECX, W7_ECX_RDPID);
	m->has_xsaves = has(b, WD1_EAX, WD1_EAX_XSAVES);
	m->has_gbpages = has(b, WX1_EDX, WX1_EDX_GBPAGES);
}

/* ---- leaves, added in ascending order ---- */

static struct cpuid_leaf *add(struct builder *b, u32 leaf, u32 eax, u32 ebx, u32 ecx, u32 edx) {
	struct cpu_model *m = b->model;
	struct cpuid_leaf *l = &m->leaves[m->nr_leaves];

	/* The last slot stays empty: it ends the walk over the sub-leaves of the last leaf. No host
	 * brings more leaves than fit. */
	if (m->nr_leaves < CPUID_MAX_LEAVES - 1) m->nr_leaves++;
	*l = (struct cpuid_leaf){.leaf = leaf, .eax = eax, .ebx = ebx, .ecx = ecx, .edx = edx};
	return l;
}

static struct cpuid_leaf *add_sub(struct builder *b, u32 leaf, u32 subleaf, u32 eax, u32 ebx,
				  u32 ecx, u32 edx) {
	struct cpuid_leaf *l = add(b, leaf, eax, ebx, ecx, edx);

	l->subleaf = subleaf;
	l->flags = CPUID_SUBLEAVES;
	return l;
}

/* One host leaf through a mask per register. */
static void add_masked(struct builder *b, u32 leaf, u32 eax, u32 ebx, u32 ecx, u32 edx) {
	u32 r[4];

	host_leaf(b, leaf, 0, r);
	add(b, leaf, r[EAX] & eax, r[EBX] & ebx, r[ECX] & ecx, r[EDX] & edx);
}

/*
 * Cache descriptions (leaf 4, or 8000001D on AMD: same layout, APM 3 E.4.15). The first two levels
 * belong to a core, the third to all. EAX[25:14]: how many share, less one; Intel counts APIC ids.
 */
static void add_caches(struct builder *b, u32 leaf) {
	u32 ids = b->host->is_amd ? b->config->nr_vcpus : 1u << b->core_bits;

	for (u32 sub = 0; sub < 8; sub++) {
		u32 r[4];

		host_leaf(b, leaf, sub, r);
		if (!(r[EAX] & 0x1f)) break;
		if ((r[EAX] >> 5 & 7) >= 3)
			r[EAX] = (r[EAX] & 0x3fff) | (ids - 1) << 14;
		else
			r[EAX] &= 0x3fff;
		if (!b->host->is_amd) r[EAX] |= ((1u << b->core_bits) - 1) << 26;
		add_sub(b, leaf, sub, r[EAX], r[EBX], r[ECX], r[EDX]);
	}
}

/* Extended topology: one thread a core, all cores in one package (APM 3 E.3.9). */
static void add_topology(struct builder *b, u32 leaf) {
	u32 nr = b->config->nr_vcpus;

	add_sub(b, leaf, 0, 0, 1, 1 << 8, 0)->live = true;
	add_sub(b, leaf, 1, b->core_bits, nr, 1 | 2 << 8, 0)->live = true;
	struct cpuid_leaf *l = add_sub(b, leaf, 2, 0, 0, 0, 0);
	l->live = true;
	l->flags |= CPUID_REST;
}

static void add_leaf_7(struct builder *b) {
	const u32 *word = b->word;
	bool more = word[W71_EAX] != 0;

	add_sub(b, 7, 0, more, word[W7_EBX], word[W7_ECX], word[W7_EDX])->live = true;
	if (more) add_sub(b, 7, 1, word[W71_EAX], 0, 0, 0);
}

static void add_leaf_d(struct builder *b) {
	const struct cpu_model *m = b->model;
	u64 xcr0 = m->xcr0_allowed;

	if (!xcr0) return;
	add_sub(b, 0xd, 0, (u32)xcr0, 0, m->xsave_size, (u32)(xcr0 >> 32))->live = true;
	/* EBX counts only where XSAVEC or XSAVES exist (SDM 2A CPUID, 0DH). */
	add_sub(b, 0xd, 1, b->word[WD1_EAX], 0, 0, 0)->live = has(b, WD1_EAX, WD1_EAX_XSAVEC);
	for (u32 i = 2; i < XSAVE_COMPONENTS; i++) {
		const struct xsave_component *c = &m->component[i];

		if (xcr0 & BIT(i)) add_sub(b, 0xd, i, c->size, c->offset, c->align64 ? 2 : 0, 0);
	}
}

/* The highest basic leaf: as the host, but at least what Roost provides itself. */
static u32 max_basic(const struct builder *b) {
	if (b->host->is_amd) return b->model->xcr0_allowed ? 0xd : 0xb;
	return b->host_max_basic >= 0x1f ? 0x1f : 0x16;
}

/* Intel says frequencies in CPUID (SDM 2A, 15H and 16H); AMD has no such leaves. */
static void add_intel_frequencies(struct builder *b) {
	u32 khz = (u32)b->config->tsc_khz, mhz = (khz / 1000) & 0xffff;

	/* The crystal is also what the APIC timer counts: TSC Hz = ECX * EBX / EAX. */
	add(b, 0x15, APIC_BUS_KHZ, khz, APIC_BUS_KHZ * 1000u, 0);
	add(b, 0x16, mhz, mhz, APIC_BUS_KHZ / 1000, 0);
}

static void add_basic_leaves(struct builder *b) {
	u32 count = b->host->is_amd ? b->config->nr_vcpus : 1u << b->core_bits;
	u32 r[4];

	host_leaf(b, 0, 0, r);
	add(b, 0, max_basic(b), r[EBX], r[ECX], r[EDX]);
	host_leaf(b, 1, 0, r);
	add(b, 1, r[EAX] & 0x0fff3fff, (r[EBX] & 0xff00) | count << 16, b->word[W1_ECX],
	    b->word[W1_EDX])
		->live = true;
	if (!b->host->is_amd) {
		add_masked(b, 2, ~0u, ~0u, ~0u, ~0u);
		add_caches(b, 4);
	}
	add(b, 6, 1 << 2, 0, 0, 0); /* ARAT: the APIC timer never stops */
	add_leaf_7(b);
	add_topology(b, 0xb);
	add_leaf_d(b);
	if (!b->host->is_amd) {
		add_intel_frequencies(b);
		if (max_basic(b) >= 0x1f) add_topology(b, 0x1f);
	}
}

/* "KVMKVMKVM" and what follows from it, and the frequencies where VMware put them. */
static void add_hypervisor_leaves(struct builder *b) {
	add(b, CPUID_HV, CPUID_HV + 0x10, 0x4b4d564b, 0x564b4d56, 0x4d);
	add(b, CPUID_HV + 1, KVM_PV_FEATURES, 0, 0, b->config->dedicated ? KVM_HINT_DEDICATED : 0);
	add(b, CPUID_HV + 0x10, (u32)b->config->tsc_khz, APIC_BUS_KHZ, 0, 0);
}

static u32 max_ext(const struct builder *b) {
	return (u32)min_u64(b->host_max_ext, CPUID_EXT + (b->host->is_amd ? 0x21 : 8));
}

static void add_amd_leaves(struct builder *b) {
	u32 max = max_ext(b);

	if (b->model->has_svm) add(b, CPUID_EXT + 0xa, 1, NESTED_ASIDS, 0, b->word[WXA_EDX]);
	if (max >= CPUID_EXT + 0x19)
		add_masked(b, CPUID_EXT + 0x19, ~0u, ~0u, 0, 0); /* 1 GiB TLBs */
	if (max >= CPUID_EXT + 0x1a)
		add_masked(b, CPUID_EXT + 0x1a, 7, 0, 0, 0); /* vector unit widths */
	if (has(b, WX1_ECX, WX1_ECX_TOPOEXT)) {
		add_caches(b, CPUID_EXT + 0x1d);
		add(b, CPUID_EXT + 0x1e, 0, 0, 0, 0)->live = true;
	}
	if (max >= CPUID_EXT + 0x21) add(b, CPUID_EXT + 0x21, b->word[WX21_EAX], 0, 0, 0);
}

static void add_extended_leaves(struct builder *b) {
	bool amd = b->host->is_amd;
	u32 all = amd ? ~0u : 0, vendor[4], id[4];

	host_leaf(b, CPUID_EXT, 0, vendor);
	add(b, CPUID_EXT, max_ext(b), vendor[EBX] & all, vendor[ECX] & all, vendor[EDX] & all);
	host_leaf(b, CPUID_EXT + 1, 0, id);
	add(b, CPUID_EXT + 1, id[EAX] & all & 0x0fff0fff, 0, b->word[WX1_ECX], b->word[WX1_EDX])
		->live = amd;
	for (u32 leaf = CPUID_EXT + 2; leaf <= CPUID_EXT + 4; leaf++) /* processor name */
		add_masked(b, leaf, ~0u, ~0u, ~0u, ~0u);
	add_masked(b, CPUID_EXT + 5, all, all, all, all); /* first-level caches and TLBs */
	add_masked(b, CPUID_EXT + 6, all, all, ~0u, all);
	add(b, CPUID_EXT + 7, 0, 0, 0, 1 << 8); /* invariant TSC */
	add(b, CPUID_EXT + 8, 48u << 8 | b->model->phys_bits, b->word[WX8_EBX],
	    amd ? b->core_bits << 12 | (b->config->nr_vcpus - 1) : 0, 0);
	if (amd) add_amd_leaves(b);
}

/* Slots of leaves that do not exist within their ranges: zeros below the maximum, else as beyond.
 */
static void build_index(struct builder *b) {
	struct cpu_model *m = b->model;
	u32 top_basic = max_basic(b), top_ext = max_ext(b) - CPUID_EXT;

	for (u32 i = m->nr_leaves - 1; i > 0; i--) m->slot[cpuid_slot(m->leaves[i].leaf)] = (u8)i;
	/* SDM 2A CPUID: the data of the highest basic leaf */
	u8 beyond = b->host->is_amd ? 0 : m->slot[top_basic];
	m->slot[CPUID_SLOT_BEYOND] = beyond;
	for (u32 i = top_basic + 1; i < CPUID_SLOT_EXT; i++) m->slot[i] = beyond;
	for (u32 i = CPUID_SLOT_EXT + top_ext + 1; i < CPUID_SLOT_HV; i++) m->slot[i] = beyond;
}

int cpu_model_build(struct cpu_model *model, const struct cpu_model_host *host,
		    const struct cpu_model_config *config) {
	struct builder b = {.model = model, .host = host, .config = config};

	*model = (struct cpu_model){.nr_leaves = 1, /* leaves[0]: the answer of zeros */
				    .nr_vcpus = config->nr_vcpus,
				    .tsc_khz = config->tsc_khz,
				    .is_amd = host->is_amd};
	while (1u << b.core_bits < config->nr_vcpus) b.core_bits++;
	read_host_limits(&b);
	model->phys_bits = build_phys_bits(&b);
	build_xcr0(&b);
	build_features(&b);
	if ((b.word[W1_EDX] & W1_EDX_PROMISED) != W1_EDX_PROMISED ||
	    !has(&b, WX1_EDX, WX1_EDX_LM) || b.host_max_ext < CPUID_EXT + 8)
		return E_NOSUPP;
	build_reserved_bits(&b);
	add_basic_leaves(&b);
	add_hypervisor_leaves(&b);
	add_extended_leaves(&b);
	build_index(&b);
	return 0;
}

/* The walk ends at the next leaf, at the latest at the empty slot that add() leaves. */
const struct cpuid_leaf *cpu_model_subleaf(const struct cpu_model *m,
					   const struct cpuid_leaf *first, u32 subleaf) {
	for (const struct cpuid_leaf *l = first; l->leaf == first->leaf; l++)
		if (l->subleaf == subleaf || ((l->flags & CPUID_REST) && subleaf > l->subleaf))
			return l;
	return &m->leaves[0];
}

u32 cpu_model_xsave_size(const struct cpu_model *m, u64 xcr0, enum xsave_format format) {
	u32 size = 576; /* the legacy area and the header: APM 2 11.5.2 */

	for (unsigned i = 2; i < XSAVE_COMPONENTS; i++) {
		const struct xsave_component *c = &m->component[i];

		if (!(xcr0 & BIT(i))) continue;
		if (format == XSAVE_COMPACTED)
			size = (u32)align_up(size, c->align64 ? 64 : 1) + c->size;
		else
			size = (u32)max_u64(size, c->offset + c->size);
	}
	return size;
}
