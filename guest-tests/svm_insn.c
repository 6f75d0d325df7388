/*
 * The instructions of SVM, and who may use them: EFER.SVME, VM_CR, VM_HSAVE_PA, modes, privilege,
 * addresses (APM 2 15.4, 15.30; APM 3 VMRUN, VMLOAD, STGI ...).
 *
 * vm: machine=amd
 */
#include "guest-tests/lib/mode.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/svm.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "svm_insn";

#define LAST_OPCODE 0xdf /* 0F 01 D8 to DF, in this order: */
static const char *const names[] = {"VMRUN", "VMMCALL", "VMLOAD", "VMSAVE",
				    "STGI",  "CLGI",	"SKINIT", "INVLPGA"};
enum { VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT, INVLPGA };

static u64 rax_operand;

/* What the instruction raises; code is a page's worth of `0F 01 xx` and RET at 8 bytes each. */
static u64 try_insn(unsigned insn, u64 rax) {
	static u8 code[8][8];

	memcpy(code[insn], (u8[]){0x0f, 0x01, (u8)(0xd8 + insn), 0xc3}, 4);
	__asm__ volatile(TRY "call *%[code]" END_TRY
			 : "+a"(rax)
			 : [code] "r"(code[insn]), "c"(1)
			 : TRY_SPOILS, "rbx", "rdx");
	return trap_taken().vector;
}

static void test_svme_clear(void) {
	u64 efer = rdmsr(X86_MSR_EFER);

	wrmsr(X86_MSR_EFER, efer & ~X86_EFER_SVME);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		if (i == VMMCALL && under_roost())
			continue; /* a hypercall of L1, whatever EFER says */
		check_eq(name_of("%s without EFER.SVME", names[i]), try_insn(i, rax_operand),
			 X86_UD);
	}
	wrmsr(X86_MSR_EFER, efer);
}

static void test_addresses(void) {
	static const unsigned insns[] = {VMRUN, VMLOAD, VMSAVE};
	u32 r[4];

	cpuid(0x80000008, 0, r);
	for (unsigned i = 0; i < ARRAY_SIZE(insns); i++) {
		const char *name = names[insns[i]];

		for (u64 low = 1; low < PAGE_SIZE; low <<= 1)
			check_eq(name_of("%s at a page + 0x%lx", name, low),
				 try_insn(insns[i], rax_operand + low), X86_GP);
		for (unsigned bit = r[0] & 0xff; bit < 64; bit++)
			check_eq(name_of("%s with address bit %u", name, bit),
				 try_insn(insns[i], rax_operand | BIT(bit)), X86_GP);
	}
}

static void test_gif(void) {
	check_eq("CLGI", try_insn(CLGI, 0), TRAP_NONE);
	check_eq("STGI", try_insn(STGI, 0), TRAP_NONE);
	check_eq("INVLPGA", try_insn(INVLPGA, 0), TRAP_NONE);
	check_eq("INVLPGA of a non-canonical address", try_insn(INVLPGA, BIT(63)), TRAP_NONE);
	check_eq("SKINIT, which CPUID does not show",
		 cpuid_bit(0x80000001, 2, 12) ? X86_UD : try_insn(SKINIT, 0), X86_UD);
}

/* VMSAVE and VMLOAD: each field in its place (APM 3 VMSAVE), nothing else touched. */
static void test_vmsave(void) {
	struct vmcb *a = page_alloc(), *b = page_alloc();
	u64 kernel_gs = rdmsr(X86_MSR_KERNEL_GS_BASE), lstar = rdmsr(X86_MSR_LSTAR);

	memset(a, 0x5a, sizeof(*a));
	wrmsr(X86_MSR_KERNEL_GS_BASE, 0x123456789000);
	wrmsr(X86_MSR_LSTAR, 0xffff800012345678);
	wrmsr(X86_MSR_CSTAR, 0x1234567890);
	wrmsr(X86_MSR_STAR, 0x1122334455667788);
	wrmsr(X86_MSR_SFMASK, 0x47700);
	wrmsr(X86_MSR_SYSENTER_CS, 0x33);
	__asm__ volatile("vmsave" : : "a"(a) : "memory");
	check_eq("VMSAVE: KernelGSbase", a->kernel_gs_base, 0x123456789000);
	check_eq("VMSAVE: LSTAR", a->lstar, 0xffff800012345678);
	check_eq("VMSAVE: CSTAR", a->cstar, 0x1234567890);
	check_eq("VMSAVE: STAR", a->star, 0x1122334455667788);
	check_eq("VMSAVE: SFMASK", a->sfmask, 0x47700);
	check_eq("VMSAVE: SYSENTER_CS", a->sysenter_cs, 0x33);
	check_eq("VMSAVE: GS base", a->gs.base, (u64)this_cpu());
	check_eq("VMSAVE: TR selector", a->tr.selector, SEL_TSS);
	check_eq("VMSAVE leaves CS alone", a->cs.selector, 0x5a5a);
	check_eq("VMSAVE leaves RIP alone", a->rip, 0x5a5a5a5a5a5a5a5a);
	check_eq("VMSAVE leaves the control area alone", a->exit_code, 0x5a5a5a5a5a5a5a5a);

	*b = *a;
	b->kernel_gs_base = 0x1000;
	b->lstar = 0x2000;
	b->cstar = 0x3000;
	b->star = 0x4000500060007000;
	b->sfmask = 0x100;
	b->sysenter_cs = 0x44;
	b->sysenter_esp = 0x5000;
	b->sysenter_eip = 0x6000;
	b->fs.base = 0x7000;
	__asm__ volatile("vmload" : : "a"(b) : "memory");
	check_eq("VMLOAD: KernelGSbase", rdmsr(X86_MSR_KERNEL_GS_BASE), 0x1000);
	check_eq("VMLOAD: LSTAR", rdmsr(X86_MSR_LSTAR), 0x2000);
	check_eq("VMLOAD: CSTAR", rdmsr(X86_MSR_CSTAR), 0x3000);
	check_eq("VMLOAD: STAR", rdmsr(X86_MSR_STAR), 0x4000500060007000);
	check_eq("VMLOAD: SFMASK", rdmsr(X86_MSR_SFMASK), 0x100);
	check_eq("VMLOAD: SYSENTER_CS", rdmsr(X86_MSR_SYSENTER_CS), 0x44);
	check_eq("VMLOAD: SYSENTER_ESP", rdmsr(X86_MSR_SYSENTER_CS + 1), 0x5000);
	check_eq("VMLOAD: SYSENTER_EIP", rdmsr(X86_MSR_SYSENTER_CS + 2), 0x6000);
	check_eq("VMLOAD: FS base", rdmsr(X86_MSR_FS_BASE), 0x7000);
	__asm__ volatile("vmload" : : "a"(a) : "memory");
	wrmsr(X86_MSR_KERNEL_GS_BASE, kernel_gs);
	wrmsr(X86_MSR_LSTAR, lstar);
	wrmsr(X86_MSR_FS_BASE, 0);
}

/* Ring 3: STGI and the others are #GP, but VMMCALL. */
static void test_user(void) {
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		u8 code[] = {0x0f, 0x01, (u8)(0xd8 + i), 0x0f, 0x0b};

		if (i == VMMCALL || i == SKINIT) continue;
		user_run(code, sizeof(code));
		check_eq(name_of("ring 3: %s", names[i]), trap_taken().vector, X86_GP);
	}
}

extern const char real_code[], real_code_end[];
__asm__(".pushsection .text\n"
	"real_code:\n"
	".code16\n"
	"clgi\n"
	"ret\n"
	".code64\n"
	"real_code_end:\n"
	".popsection");

/* The interrupt table of real mode: #UD stores a mark and goes on behind the instruction. */
extern const char real_ud[], real_ud_end[];
__asm__(".pushsection .text\n"
	"real_ud:\n"
	".code16\n"
	"push %bp\n"
	"mov %sp, %bp\n"
	"addw $3, 2(%bp)\n"
	"movl $0x600d, 0x7000\n"
	"pop %bp\n"
	"iretw\n"
	".code64\n"
	"real_ud_end:\n"
	".popsection");

static void test_real_mode(void) {
	memcpy((void *)0x7800, real_ud, (size_t)(real_ud_end - real_ud));
	mode_real_vector(X86_UD, 0x7800);
	mode_data()->value[0] = 0;
	mode_run(MODE_REAL, NULL, real_code, (size_t)(real_code_end - real_code));
	check_eq("CLGI in real mode: #UD", mode_data()->value[0], 0x600d);
}

static void test_msrs(void) {
	u64 value, efer = rdmsr(X86_MSR_EFER);
	u32 r[4];

	cpuid(0x80000008, 0, r);
	check_eq("VM_HSAVE_PA keeps an address", msr_write(X86_MSR_VM_HSAVE_PA, 0x5000), TRAP_NONE);
	msr_read(X86_MSR_VM_HSAVE_PA, &value);
	check_eq("VM_HSAVE_PA reads it", value, 0x5000);
	if (!under_roost()) {
		skip("VM_HSAVE_PA, VM_CR, EFER: reserved bits", "TCG checks none");
		return;
	}
	check_eq("VM_HSAVE_PA within a page", msr_write(X86_MSR_VM_HSAVE_PA, 0x5008), X86_GP);
	check_eq("VM_HSAVE_PA beyond memory", msr_write(X86_MSR_VM_HSAVE_PA, BIT(r[0] & 0xff)),
		 X86_GP);
	msr_read(X86_MSR_VM_CR, &value);
	check_eq("VM_CR at reset", value, 0);
	check_eq("VM_CR: reserved bit", msr_write(X86_MSR_VM_CR, BIT(5)), X86_GP);
	check_eq("VM_CR.SVMDIS while SVM is on", msr_write(X86_MSR_VM_CR, BIT(4)), X86_GP);
	wrmsr(X86_MSR_EFER, efer & ~X86_EFER_SVME);
	check_eq("VM_CR.SVMDIS", msr_write(X86_MSR_VM_CR, BIT(4)), TRAP_NONE);
	check_eq("EFER.SVME with VM_CR.SVMDIS", msr_write(X86_MSR_EFER, efer), X86_GP);
	check_eq("VM_CR.SVMDIS cleared", msr_write(X86_MSR_VM_CR, 0), TRAP_NONE);
	check_eq("EFER.SVME without VM_CR.SVMDIS", msr_write(X86_MSR_EFER, efer), TRAP_NONE);
}

void test_main(void) {
	if (!svm_init()) return;
	rax_operand = (u64)page_alloc();
	check("SVM has nested paging", svm_feature_bits() & 1 || under_roost());
	test_svme_clear();
	test_addresses();
	test_gif();
	test_vmsave();
	test_user();
	test_real_mode();
	test_msrs();
}
