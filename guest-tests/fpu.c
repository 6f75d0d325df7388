/*
 * T-F1: x87, XMM, YMM, MXCSR and FCW stay as they are over exits, timer interrupts and IPIs, on
 * CPUs that share one. T-F2: CR0.TS in 32-bit PAE and real mode, with one #NM and no value changed.
 * vm: cpus=3 host_cpus=2 limit=150
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/mode.h"
#include "guest-tests/lib/smp.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "fpu";

#define VECTOR_TICK 0x61
#define VECTOR_IPI  0x62
#define ROUNDS	    3000
#define TICK_US	    100
#define XSTATE_YMM  4

/* The XSAVE area up to the end of the upper halves of YMM (SDM 1 13.4). */
struct __packed image {
	u16 fcw, fsw;
	u8 ftw, reserved0;
	u16 fop;
	u64 fip, fdp;
	u32 mxcsr, mxcsr_mask;
	u8 st[8][16];
	u8 xmm[16][16];
	u8 reserved1[96];
	u64 present, compact, header[6];
	u8 ymm_high[16][16];
	u8 rest[512];
};

_Static_assert(offsetof(struct image, st) == 32, "FXSAVE layout");
_Static_assert(offsetof(struct image, xmm) == 160, "FXSAVE layout");
_Static_assert(offsetof(struct image, present) == 512, "XSAVE layout");
_Static_assert(offsetof(struct image, ymm_high) == 576, "XSAVE layout");

static struct image wanted[MAX_CPUS] __aligned(64), found[MAX_CPUS] __aligned(64);
static bool have_xsave, have_avx;
static volatile u32 ticks[MAX_CPUS], ipis[MAX_CPUS];
static volatile u32 finished;
static u32 nr, wrong[MAX_CPUS];

static void on_tick(struct regs *r) {
	(void)r;
	ticks[this_cpu()->index]++;
	lapic_eoi();
}

static void on_ipi(struct regs *r) {
	(void)r;
	ipis[this_cpu()->index]++;
	lapic_eoi();
}

static void fpu_on(void) {
	write_cr0((read_cr0() | X86_CR0_MP | X86_CR0_NE) & ~(X86_CR0_TS | X86_CR0_EM));
	write_cr4(read_cr4() | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT);
	have_xsave = cpuid_bit(1, 2, 26);
	if (!have_xsave) return;
	write_cr4(read_cr4() | X86_CR4_OSXSAVE);
	have_avx = cpuid_bit(1, 2, 28);
	xsetbv(0, have_avx ? 7 : 3);
}

static u64 mix(u64 *state) {
	*state = *state * 6364136223846793005ul + 1442695040888963407ul;
	return *state >> 11 ^ *state << 23;
}

static void fill(u8 *bytes, size_t size, u64 *state) {
	for (size_t i = 0; i < size; i++) bytes[i] = (u8)mix(state);
}

/* A state that belongs to this CPU and round only, with nothing that raises an exception. */
static void make_image(struct image *image, u64 tag) {
	u64 state = tag;

	memset(image, 0, sizeof(*image));
	/* All exceptions masked; bit 6 reads as 1 (SDM 1 8.1.5); the rounding varies. */
	image->fcw = (u16)(0x037f | (tag & 3) << 10);
	image->ftw = 0xff;
	image->mxcsr = 0x1f80 | (u32)(tag & 3) << 13;
	for (unsigned i = 0; i < 8; i++) {
		fill(image->st[i], 8, &state);
		image->st[i][7] |= 0x80; /* a normal number: the integer bit is set */
		image->st[i][8] = (u8)tag;
		image->st[i][9] = 0x3f;
	}
	fill(image->xmm[0], sizeof(image->xmm), &state);
	if (have_avx) fill(image->ymm_high[0], sizeof(image->ymm_high), &state);
	image->present = have_avx ? 7 : 3;
}

static void load(const struct image *image) {
	if (have_xsave)
		__asm__ volatile("xrstor64 %0" : : "m"(*image), "a"(7), "d"(0));
	else
		__asm__ volatile("fxrstor64 %0" : : "m"(*image));
}

static void save(struct image *image) {
	memset(image, 0, sizeof(*image));
	if (have_xsave)
		__asm__ volatile("xsave64 %0" : "+m"(*image) : "a"(7), "d"(0));
	else
		__asm__ volatile("fxsave64 %0" : "+m"(*image));
}

static bool same(const struct image *a, const struct image *b) {
	bool good = a->fcw == b->fcw && a->mxcsr == b->mxcsr && a->ftw == b->ftw;

	for (unsigned i = 0; i < 8; i++) good = good && !memcmp(a->st[i], b->st[i], 10);
	good = good && !memcmp(a->xmm, b->xmm, sizeof(a->xmm));
	if (have_avx) good = good && !memcmp(a->ymm_high, b->ymm_high, sizeof(a->ymm_high));
	return good;
}

/* Exits of several kinds, an IPI to the next CPU, and time for a few interrupts. */
static void disturb(u32 me, u32 round) {
	u32 r[4];

	cpu_sti();
	cpuid(0, 0, r);
	(void)inb(0x21);
	(void)rdmsr(X86_MSR_APIC_BASE);
	(void)mmio_read32((const volatile void *)(LAPIC_BASE + LAPIC_VERSION));
	lapic_send(nr > 1 ? cpus[(me + 1) % nr].apic_id : cpus[me].apic_id, VECTOR_IPI);
	if (round % 16 == 0) __asm__ volatile("hlt");
	cpu_cli();
}

static void storm(void *arg) {
	u32 me = this_cpu()->index;

	(void)arg;
	fpu_on();
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
	lapic_write(LAPIC_LVT_TIMER, LVT_PERIODIC | VECTOR_TICK);
	lapic_write(LAPIC_TIMER_INIT, TICK_US * 1000);
	for (u32 round = 0; round < ROUNDS; round++) {
		make_image(&wanted[me], (u64)me << 32 | round);
		load(&wanted[me]);
		disturb(me, round);
		save(&found[me]);
		if (!same(&wanted[me], &found[me])) wrong[me]++;
	}
	lapic_write(LAPIC_TIMER_INIT, 0);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
	__atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
}

static void test_storm(void) {
	for (u32 i = 1; i < nr; i++) smp_start(i, storm, NULL);
	storm(NULL);
	/* The others may still wait in HLT for this CPU's IPIs. */
	wait_until((cpu_irq_window(), finished == nr), 60000000);
	check_eq("T-F1: every CPU came to its end", finished, nr);
	for (u32 i = 0; i < nr; i++) {
		check_eq(name_of("T-F1 CPU %u: wrong states in %u rounds", i, ROUNDS), wrong[i], 0);
		check_ne(name_of("T-F1 CPU %u: timer interrupts", i), ticks[i], 0);
		check_ne(name_of("T-F1 CPU %u: IPIs", i), ipis[i], 0);
	}
}

/* A CPU that is started again finds its registers as INIT leaves them: XCR0 and the rest. */
static void look_at_reset(void *arg) {
	if (have_xsave) {
		write_cr4(read_cr4() | X86_CR4_OSXSAVE);
		*(volatile u64 *)arg = xgetbv(0);
	}
}

static void test_xcr0(void) {
	volatile u64 seen = 0;

	if (!have_xsave) {
		skip("XCR0 per CPU", "no XSAVE");
		return;
	}
	if (nr > 1) {
		smp_start(1, look_at_reset, (void *)(u64)&seen);
		smp_wait(1, 1000000);
		check_eq("XCR0 belongs to the CPU: CPU 1 has its own", seen, have_avx ? 7 : 3);
	}
	if (!have_avx) return;
	xsetbv(0, 3);
	for (unsigned i = 0; i < 100; i++) (void)inb(0x21);
	check_eq("XCR0 stays over exits", xgetbv(0), 3);
	if (nr > 1) {
		smp_start(1, look_at_reset, (void *)(u64)&seen);
		smp_wait(1, 1000000);
		check_eq("XCR0 of CPU 1 did not change along", seen, 7);
	}
	__asm__ volatile(TRY "vxorps %%ymm0, %%ymm0, %%ymm0" END_TRY : : : TRY_SPOILS);
	check_eq("AVX with its XCR0 bit clear: #UD", trap_taken().vector, X86_UD);
	xsetbv(0, 7);
	__asm__ volatile(TRY "vxorps %%ymm0, %%ymm0, %%ymm0" END_TRY : : : TRY_SPOILS);
	check_eq("AVX with its XCR0 bit set", trap_taken().vector, TRAP_NONE);
}

/* The compacted format begins behind the header, as the standard one does (SDM 1 13.4.3). */
static void test_compacted(void) {
	u32 r[4];

	cpuid(0xd, 1, r);
	if (!have_avx || !(r[0] & BIT(1))) {
		skip("XSAVEC", "not offered");
		return;
	}
	make_image(&wanted[0], 1);
	load(&wanted[0]);
	memset(&found[0], 0, sizeof(found[0]));
	__asm__ volatile("xsavec64 %0" : "+m"(found[0]) : "a"(4), "d"(0));
	check_eq("XSAVEC: the components that it has", found[0].compact, BIT(63) | 4);
	check("XSAVEC: YMM behind the header",
	      !memcmp(found[0].ymm_high, wanted[0].ymm_high, sizeof(found[0].ymm_high)));
	check_eq("XSAVEC: nothing else in the header", found[0].header[0], 0);
}

/* T-F2. Slots of struct mode_data. */
enum { SAW_FCW, SAW_MXCSR, SAW_TS_BEFORE, SAW_TS_AFTER, SAW_NM, SAW_DONE, SET_FCW, SET_MXCSR };

#define CODE(name, bits, text)                                                       \
	extern const char name[], name##_end[];                                      \
	__asm__(".pushsection .rodata\n.code" #bits "\n" #name ":\n" text "\n" #name \
		"_end:\n.code64\n.popsection\n")

/* TS set, 300 times four exits, FNSTCW; the handler of #NM counts and clears TS. */
#define TS_CODE                                            \
	"fninit\nfldcw 0x7018\nldmxcsr 0x701c\n"           \
	"mov %cr0, %eax\nor $8, %eax\nmov %eax, %cr0\n"    \
	"movl $8, 0x7008\n"                                \
	"mov $300, %esi\n"                                 \
	"1: xor %eax, %eax\ncpuid\ninb $0x21, %al\n"       \
	"mov $0x1b, %ecx\nrdmsr\n"                         \
	"mov %cr0, %eax\nand %eax, 0x7008\n"               \
	"dec %esi\njnz 1b\n"                               \
	"fnstcw 0x7000\n"                                  \
	"stmxcsr 0x7004\n"                                 \
	"mov %cr0, %eax\nand $8, %eax\nmov %eax, 0x700c\n" \
	"movl $0x600df00d, 0x7014\nret\n"

CODE(ts_real, 16, TS_CODE "nm_real: incl 0x7010\nclts\niret\n");
CODE(ts_pae, 32, TS_CODE "nm_pae: incl 0x7010\nclts\niret\n");
extern const char nm_real[], nm_pae[];

static u64 gates[256];

static void test_ts(const char *name, enum mode mode, const char *code, const char *end) {
	struct mode_tables tables = {(u32)(u64)gates, sizeof(gates) - 1};
	const u16 fcw[] = {0x0340, 0x027f, 0x0f7f};
	u32 *value = mode_data()->value;

	for (unsigned i = 0; i < ARRAY_SIZE(fcw); i++) {
		memset(mode_data(), 0, sizeof(*mode_data()));
		value[SET_FCW] = fcw[i] | 0x3f;
		value[SET_MXCSR] = 0x1f80 | i << 13;
		mode_run(mode, mode == MODE_REAL ? NULL : &tables, code, (size_t)(end - code));
		check_eq(name_of("T-F2 %s %u: came to its end", name, i), value[SAW_DONE],
			 0x600df00d);
		check_eq(name_of("T-F2 %s %u: FCW", name, i), value[SAW_FCW] & 0xffff,
			 (fcw[i] | 0x3fu) & 0xffff);
		check_eq(name_of("T-F2 %s %u: MXCSR", name, i), value[SAW_MXCSR], 0x1f80 | i << 13);
		check_eq(name_of("T-F2 %s %u: TS stays set", name, i), value[SAW_TS_BEFORE], 8);
		check_eq(name_of("T-F2 %s %u: one #NM", name, i), value[SAW_NM], 1);
		check_eq(name_of("T-F2 %s %u: TS stays clear", name, i), value[SAW_TS_AFTER], 0);
	}
}

static void test_modes(void) {
	u64 at = LOW_BASE + (u64)(nm_pae - ts_pae);

	gates[X86_NM] = (at & 0xffff) | (u64)SEL_CODE32 << 16 | 0x8e00ul << 32 | (at >> 16) << 48;
	mode_real_vector(X86_NM, (u16)(LOW_BASE + (nm_real - ts_real)));
	test_ts("real mode", MODE_REAL, ts_real, ts_real_end);
	test_ts("32-bit PAE", MODE_PAGING32_PAE, ts_pae, ts_pae_end);
	test_ts("32-bit paging", MODE_PAGING32, ts_pae, ts_pae_end);
}

void test_main(void) {
	trap_set_handler(VECTOR_TICK, on_tick);
	trap_set_handler(VECTOR_IPI, on_ipi);
	nr = smp_init();
	test_storm();
	test_xcr0();
	test_compacted();
	fpu_on();
	test_modes();
}
