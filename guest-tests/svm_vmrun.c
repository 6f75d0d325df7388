/*
 * VMRUN and #VMEXIT: what is loaded and stored, intercepts, permission maps, exit information, what
 * the host gets back (APM 2 15.5 to 15.14).
 *
 * vm: machine=amd
 */
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/svm.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "svm_vmrun";

#define NRIPS	       BIT(3)
#define DECODE_ASSISTS BIT(7)
#define MOV	       BIT(63)

/* ---- state ---- */

static void code_exit(void) {
	l2_exit(0x1234);
	l2_exit(0x5678);
}

static void test_round(void) {
	struct vmcb *vmcb = l2_new(code_exit);
	u64 rip;

	check_eq("VMRUN and VMMCALL", l2_run(vmcb), EXIT_VMMCALL);
	check_eq("RAX of L2", vmcb->rax, 0x1234);
	check_eq("RIP is at VMMCALL", *(const u32 *)vmcb->rip & 0xffffff, 0xd9010f);
	rip = vmcb->rip;
	if (svm_feature_bits() & NRIPS)
		check_eq("nRIP", vmcb->next_rip, rip + 3);
	else
		skip("nRIP", "not offered");
	check_eq("EVENTINJ is clear", vmcb->event_inj & EVENTINJ_VALID, 0);
	check_eq("no event was interrupted", vmcb->exit_int_info & EVENTINJ_VALID, 0);
	check_eq("CPL", vmcb->cpl, 0);
	vmcb->rip += 3;
	check_eq("on to the next VMMCALL", l2_run(vmcb), EXIT_VMMCALL);
	check_eq("RAX of L2, again", vmcb->rax, 0x5678);
}

/* Every general register goes in and comes out. */
extern const char code_registers[];
__asm__(".pushsection .text\n"
	"code_registers:\n"
	"add $1, %rbx; add $2, %rcx; add $3, %rdx; add $4, %rsi; add $5, %rdi; add $6, %rbp\n"
	"add $7, %r8; add $8, %r9; add $9, %r10; add $10, %r11; add $11, %r12; add $12, %r13\n"
	"add $13, %r14; add $14, %r15\n"
	"sub $64, %rsp\n"
	"vmmcall\n"
	".popsection");

static void test_registers(void) {
	struct vmcb *vmcb = l2_new(code_registers);
	u64 *reg = (u64 *)&l2_regs, rsp = vmcb->rsp;

	for (unsigned i = 0; i < 14; i++) reg[i] = 0x1111111111111111ul * (i + 1);
	l2_run(vmcb);
	for (unsigned i = 0; i < 14; i++)
		check_eq(name_of("general register %u", i), reg[i],
			 0x1111111111111111ul * (i + 1) + i + 1);
	check_eq("RSP", vmcb->rsp, rsp - 64);
}

/* What L2 does to its own state is in the control block, and not in the host. */
static void code_state(void) {
	write_cr2(0x123000);
	__asm__ volatile("mov %0, %%db6" : : "r"(0xffff0ff1ul));
	__asm__ volatile("std; stc; mov %0, %%es" : : "r"(0));
	l2_exit(1);
}

static void test_state(void) {
	struct vmcb *vmcb = l2_new(code_state);
	u64 cr0 = read_cr0(), cr3 = read_cr3(), cr4 = read_cr4(), flags, dr7, cr2;
	u16 es;

	vmcb->cr2 = 0x777;
	write_cr2(0x888);
	__asm__ volatile("mov %0, %%db7" : : "r"(0x700ul));
	l2_run(vmcb);
	check_eq("CR2 of L2", vmcb->cr2, 0x123000);
	check_eq("DR6 of L2", vmcb->dr6 & 0xf, 1);
	check_eq("ES of L2", vmcb->es.selector, 0);
	check_eq("RFLAGS.DF and CF of L2", vmcb->rflags & 0x401, 0x401);
	__asm__ volatile("pushfq; pop %0; mov %%es, %1" : "=r"(flags), "=r"(es));
	__asm__ volatile("mov %%db7, %0" : "=r"(dr7));
	cr2 = read_cr2();
	check_eq("RFLAGS.DF of the host", flags & 0x400, 0);
	check_eq("ES of the host", es, SEL_DATA);
	check_eq("CR0 of the host", read_cr0(), cr0);
	check_eq("CR3 of the host", read_cr3(), cr3);
	check_eq("CR4 of the host", read_cr4(), cr4);
	if (on_bare_tcg()) {
		skip("DR7 and CR2 of the host", "TCG restores DR7, and CR2 is its own");
	} else {
		check_eq("DR7 of the host has no breakpoints", dr7, 0x400);
		check_eq("CR2 of the host is what L2 left", cr2, 0x123000);
	}
	__asm__ volatile("mov %0, %%db7; mov %1, %%db6" : : "r"(0x400ul), "r"(0xffff0ff0ul));
}

/* VMLOAD's registers stay in the CPU across VMRUN. */
static void code_kernel_gs(void) {
	u64 seen = rdmsr(X86_MSR_KERNEL_GS_BASE);

	wrmsr(X86_MSR_KERNEL_GS_BASE, seen + 0x1000);
	wrmsr(X86_MSR_FS_BASE, 0x9000);
	l2_exit(seen);
}

static void test_vmload_state_stays(void) {
	struct vmcb *vmcb = l2_new(code_kernel_gs);

	wrmsr(X86_MSR_KERNEL_GS_BASE, 0x100000);
	vmcb->kernel_gs_base = 0x5000;
	check_eq("VMRUN leaves KernelGSbase alone", l2_result(vmcb), 0x100000);
	check_eq("#VMEXIT leaves KernelGSbase alone", rdmsr(X86_MSR_KERNEL_GS_BASE), 0x101000);
	check_eq("#VMEXIT leaves FS alone", rdmsr(X86_MSR_FS_BASE), 0x9000);
	check_eq("#VMEXIT does not store what VMSAVE stores", vmcb->kernel_gs_base, 0x5000);
	wrmsr(X86_MSR_FS_BASE, 0);
}

/* ---- intercepts ---- */

static const struct {
	const char *name, *bytes;
	u8 length;
	u8 code;
	u8 tcg; /* what TCG makes of it: another code, or 0 for none */
	u64 rax, rcx;
	u64 operand; /* EXITINFO1 by decode assists; of INVLPG, to be added to RSP */
} insns[] = {
	{"MOV from CR0", "\x0f\x20\xc3", 3, 0x00, 0x00, 0, 0, MOV | 3},
	{"MOV from CR3", "\x0f\x20\xdb", 3, 0x03, 0x03, 0, 0, MOV | 3},
	{"MOV from CR3 to R12", "\x41\x0f\x20\xdc", 4, 0x03, 0x03, 0, 0, MOV | 12},
	{"SMSW", "\x0f\x01\xe3", 3, 0x00, 0x00, 0, 0, 0},
	{"MOV from CR4", "\x0f\x20\xe3", 3, 0x04, 0x04, 0, 0, MOV | 3},
	{"MOV from CR8", "\x44\x0f\x20\xc3", 4, 0x08, 0x08, 0, 0, MOV | 3},
	{"MOV to CR0", "\x0f\x22\xc0", 3, 0x10, 0x10, 0, 0, MOV},
	{"CLTS", "\x0f\x06", 2, 0x10, 0x10, 0, 0, 0},
	{"LMSW", "\x0f\x01\xf3", 3, 0x10, 0x10, 0, 0, 0},
	{"MOV to CR3", "\x0f\x22\xd8", 3, 0x13, 0x13, 0, 0, MOV},
	{"MOV from RSI to CR3", "\x0f\x22\xde", 3, 0x13, 0x13, 0, 0, MOV | 6},
	{"MOV to CR4", "\x0f\x22\xe0", 3, 0x14, 0x14, 0, 0, MOV},
	{"MOV to CR8", "\x44\x0f\x22\xc0", 4, 0x18, 0x18, 0, 0, MOV},
	{"MOV from DR0", "\x0f\x21\xc3", 3, 0x20, 0x20, 0, 0, 3},
	{"MOV from DR7", "\x0f\x21\xfb", 3, 0x27, 0x27, 0, 0, 3},
	{"MOV to DR3", "\x0f\x23\xd8", 3, 0x33, 0x33, 0, 0, 0},
	{"MOV to DR6", "\x0f\x23\xf0", 3, 0x36, 0x36, 0, 0, 0},
	{"UD2", "\x0f\x0b", 0, 0x46, 0x46, 0, 0, 0},
	{"SIDT", "\x0f\x01\x4c\x24\xf0", 5, 0x66, 0x66, 0, 0, 0},
	{"SGDT", "\x0f\x01\x44\x24\xf0", 5, 0x67, 0x67, 0, 0, 0},
	{"SLDT", "\x0f\x00\xc0", 3, 0x68, 0x68, 0, 0, 0},
	{"STR", "\x0f\x00\xc8", 3, 0x69, 0x69, 0, 0, 0},
	{"LIDT", "\x0f\x01\x5c\x24\xf0", 5, 0x6a, 0x6a, 0, 0, 0},
	{"LGDT", "\x0f\x01\x54\x24\xf0", 5, 0x6b, 0x6b, 0, 0, 0},
	{"LLDT", "\x0f\x00\xd0", 3, 0x6c, 0x6c, 0, 0, 0},
	{"LTR", "\x0f\x00\xd8", 3, 0x6d, 0x6d, 0, 0, 0},
	{"RDTSC", "\x0f\x31", 2, 0x6e, 0x6e, 0, 0, 0},
	{"RDPMC", "\x0f\x33", 2, 0x6f, 0x6f, 0, 0, 0},
	{"PUSHF", "\x9c", 1, 0x70, 0x70, 0, 0, 0},
	{"POPF", "\x9d", 1, 0x71, 0x71, 0, 0, 0},
	{"CPUID", "\x0f\xa2", 2, 0x72, 0x72, 0, 0, 0},
	{"CPUID with prefixes", "\x66\x2e\x0f\xa2", 4, 0x72, 0x72, 0, 0, 0},
	{"RSM", "\x0f\xaa", 2, 0x73, 0, 0, 0, 0},
	{"IRETQ", "\x48\xcf", 2, 0x74, 0x74, 0, 0, 0},
	{"INT n", "\xcd\x80", 2, 0x75, 0x75, 0, 0, 0x80},
	{"INVD", "\x0f\x08", 2, 0x76, 0x89, 0, 0, 0},
	{"PAUSE", "\xf3\x90", 2, 0x77, 0x77, 0, 0, 0},
	{"HLT", "\xf4", 1, 0x78, 0x78, 0, 0, 0},
	{"INVLPG", "\x0f\x01\x3c\x24", 4, 0x79, 0x79, 0, 0, 0},
	{"INVLPG, scaled", "\x0f\x01\x7c\x4c\x10", 5, 0x79, 0x79, 0, 0x1000, 0x2010},
	{"INVLPGA", "\x0f\x01\xdf", 3, 0x7a, 0x7a, 0, 0, 0},
	{"RDMSR", "\x0f\x32", 2, 0x7c, 0x7c, 0, 0xc0000080, 0},
	{"WRMSR", "\x0f\x30", 2, 0x7c, 0x7c, 0, 0xc0000080, 0},
	{"VMRUN", "\x0f\x01\xd8", 3, 0x80, 0x80, 0, 0, 0},
	{"VMMCALL", "\x0f\x01\xd9", 3, 0x81, 0x81, 0, 0, 0},
	{"VMLOAD", "\x0f\x01\xda", 3, 0x82, 0x82, 0, 0, 0},
	{"VMSAVE", "\x0f\x01\xdb", 3, 0x83, 0x83, 0, 0, 0},
	{"STGI", "\x0f\x01\xdc", 3, 0x84, 0x84, 0, 0, 0},
	{"CLGI", "\x0f\x01\xdd", 3, 0x85, 0x85, 0, 0, 0},
	{"SKINIT", "\x0f\x01\xde", 3, 0x86, 0x86, 0, 0, 0},
	{"RDTSCP", "\x0f\x01\xf9", 3, 0x87, 0x6e, 0, 0, 0},
	{"ICEBP", "\xf1", 1, 0x88, 0, 0, 0, 0},
	{"WBINVD", "\x0f\x09", 2, 0x89, 0x89, 0, 0, 0},
	{"MONITOR", "\x0f\x01\xc8", 3, 0x8a, 0x8a, 0, 0, 0},
	{"MWAIT", "\x0f\x01\xc9", 3, 0x8b, 0x8b, 0, 0, 0},
};

/* Control and debug registers, INT n, INVLPG (APM 2 15.8). */
static bool tells_operand(u8 exit) { return exit < 0x40 || exit == 0x75 || exit == 0x79; }

/* Everything is intercepted: each instruction is seen by its own code, with nRIP behind it. */
static void test_all_intercepts(void) {
	static u8 code[16], map[2 * PAGE_SIZE] __aligned(4096);

	memset(map, 0xff, sizeof(map));
	for (unsigned i = 0; i < ARRAY_SIZE(insns); i++) {
		struct vmcb *vmcb = l2_new(code);
		u8 expected = on_tcg() ? insns[i].tcg : insns[i].code;

		if (!expected) continue;
		memset(code, 0x0f, sizeof(code));
		memcpy(code, insns[i].bytes, sizeof(code) - 1);
		memset(vmcb, 0xff, 0x10);
		vmcb->intercept_misc2 = 0x7fff;
		vmcb->msrpm_base = (u64)map;
		vmcb->rax = insns[i].rax;
		l2_regs.rcx = insns[i].rcx;
		check_eq(name_of("%s intercepted", insns[i].name), l2_run(vmcb), expected);
		check_eq(name_of("%s: RIP", insns[i].name), vmcb->rip, (u64)code);
		if (svm_feature_bits() & NRIPS)
			check_eq(name_of("%s: nRIP", insns[i].name), vmcb->next_rip,
				 insns[i].length ? (u64)code + insns[i].length : 0);
		if ((svm_feature_bits() & DECODE_ASSISTS) && tells_operand(insns[i].code))
			check_eq(name_of("%s: EXITINFO1", insns[i].name), vmcb->exit_info1,
				 insns[i].operand + (insns[i].code == 0x79 ? vmcb->rsp : 0));
		check_eq(name_of("%s: no instruction bytes", insns[i].name), vmcb->insn_len, 0);
	}
}

/* Its own bit of the block alone makes it exit. */
static void test_single_intercepts(void) {
	static u8 code[16];

	for (unsigned i = 0; i < ARRAY_SIZE(insns); i++) {
		struct vmcb *vmcb = l2_new(code);
		u8 bit = on_tcg() ? insns[i].tcg : insns[i].code;

		if (!bit || bit == 0x7c) continue;
		memset(code, 0x0f, sizeof(code));
		memcpy(code, insns[i].bytes, sizeof(code) - 1);
		memset(vmcb, 0, 0x18);
		vmcb->intercept_misc2 = (u32)INTERCEPT_VMRUN;
		vmcb->intercept_misc1 = (u32)INTERCEPT_SHUTDOWN;
		((u8 *)vmcb)[bit / 8] |= (u8)(1 << bit % 8);
		check_eq(name_of("%s, the only intercept", insns[i].name), l2_run(vmcb), bit);
	}
}

/* CR0: only what changes other bits than TS and MP (APM 2 15.9). */
static void test_selective_cr0(void) {
	static const struct {
		const char *name;
		u64 change;
		bool exits;
	} cases[] = {{"nothing", 0, false},
		     {"TS", BIT(3), false},
		     {"MP", BIT(1), false},
		     {"WP", BIT(16), true},
		     {"TS and AM", BIT(3) | BIT(18), true}};
	static const u8 code[] = {0x0f, 0x22, 0xc3, 0x0f, 0x01, 0xd9};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vmcb *vmcb = l2_new(code);

		vmcb->intercept_misc1 |= (u32)INTERCEPT_CR0_SEL;
		l2_regs.rbx = vmcb->cr0 ^ cases[i].change;
		check_eq(name_of("selective CR0 write: %s", cases[i].name), l2_run(vmcb),
			 cases[i].exits ? EXIT_CR0_SEL : EXIT_VMMCALL);
		if (cases[i].exits && (svm_feature_bits() & DECODE_ASSISTS))
			check_eq(name_of("selective CR0 write: %s: EXITINFO1", cases[i].name),
				 vmcb->exit_info1, MOV | 3);
	}
}

/* Nothing is intercepted that VMRUN does not demand: the instruction runs on. */
static void test_no_intercepts(void) {
	static u8 code[16];

	for (unsigned i = 0; i < ARRAY_SIZE(insns); i++) {
		struct vmcb *vmcb = l2_new(code);
		u8 at = insns[i].code;

		/* Harmless ones that fall through. */
		if (at == 0x46 || at == 0x71 || (at >= 0x73 && at <= 0x75) || at == 0x78 ||
		    (at >= 0x80 && at <= 0x83) || at == 0x6f || at == 0x8a || at == 0x8b ||
		    (at >= 0x6a && at <= 0x6d) || (at >= 0x10 && at < 0x18) ||
		    (at >= 0x85 && at <= 0x88 && at != 0x87))
			continue;
		memcpy(code, insns[i].bytes, insns[i].length);
		memcpy(code + insns[i].length, "\x0f\x01\xd9", 3);
		vmcb->rax = at == 0x7c && insns[i].bytes[1] == 0x30 ? (u32)rdmsr(X86_MSR_EFER) : 0;
		l2_regs.rcx = insns[i].rcx;
		check_eq(name_of("%s not intercepted", insns[i].name), l2_run(vmcb), EXIT_VMMCALL);
		check_eq(name_of("%s not intercepted: RIP", insns[i].name), vmcb->rip,
			 (u64)code + insns[i].length);
	}
}

/* VMMCALL that L1 does not intercept is #UD in L2 and no hypercall of L1. */
static void test_vmmcall_undefined(void) {
	static const u8 code[] = {0x0f, 0x01, 0xd9};
	struct vmcb *vmcb = l2_new(code);

	vmcb->intercept_misc2 = (u32)INTERCEPT_VMRUN;
	vmcb->intercept_exceptions = BIT(X86_UD);
	check_eq("VMMCALL not intercepted: #UD", l2_run(vmcb), EXIT_EXCEPTION + X86_UD);
	check_eq("VMMCALL not intercepted: RIP", vmcb->rip, (u64)code);
}

/* Bits 11:0 of a map's address are ignored, but by TCG. */
static u64 ignored_bits(void) { return on_bare_tcg() ? 0 : 0x123; }

/* ---- ports ---- */

static void code_ports(void) {
	inb(0x70);
	inw(0x70);
	inl(0x70);
	outl(0x70, 0);
	l2_exit(0);
}

static void test_io_map(void) {
	static u8 map[3 * PAGE_SIZE] __aligned(4096);

	for (unsigned port = 0x6f; port < 0x75; port++) {
		struct vmcb *vmcb = l2_new(code_ports);
		bool hit[4] = {port == 0x70, port == 0x70 || port == 0x71,
			       port >= 0x70 && port < 0x74, port >= 0x70 && port < 0x74};
		static const u64 info[4] = {0x700011, 0x700021, 0x700041, 0x700040};

		memset(map, 0, sizeof(map));
		map[port / 8] |= (u8)(1 << port % 8);
		vmcb->intercept_misc1 |= (u32)INTERCEPT_IOIO;
		vmcb->iopm_base = (u64)map | ignored_bits();
		for (unsigned i = 0; i < 4; i++) {
			u64 code;

			if (!hit[i]) continue;
			code = l2_run(vmcb);
			check_eq(name_of("port map bit 0x%x: access %u exits", port, i), code,
				 EXIT_IOIO);
			check_eq(name_of("port map bit 0x%x: access %u information", port, i),
				 vmcb->exit_info1 & 0xffff007d, info[i]);
			check("EXITINFO2 is behind it",
			      vmcb->exit_info2 > vmcb->rip && vmcb->exit_info2 < vmcb->rip + 4);
			vmcb->rip = vmcb->exit_info2;
		}
		check_eq(name_of("port map bit 0x%x: then the end", port), l2_run(vmcb),
			 EXIT_VMMCALL);
	}
}

/* ---- MSRs ---- */

static u32 msr_under_test;

static void code_rdmsr(void) { l2_exit(rdmsr(msr_under_test)); }

static void code_wrmsr(void) {
	wrmsr(msr_under_test, 0x1000);
	l2_exit(0);
}

static void test_msr_map(void) {
	static u8 map[2 * PAGE_SIZE] __aligned(4096);
	static const u32 msrs[] = {0x174,      0x175,	   0x176,      0xc0000081,
				   0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100,
				   0xc0000102, 0x277,	   0x10,       0xc0010117};

	for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
		u32 msr = msrs[i];
		u32 bit = 2 * (msr < 0x2000	  ? msr
			       : msr < 0xc0010000 ? 0x2000 + (msr & 0x1fff)
						  : 0x4000 + (msr & 0x1fff));

		for (unsigned write = 0; write < 2; write++) {
			for (unsigned set = 0; set < 2; set++) {
				struct vmcb *vmcb = l2_new(write ? code_wrmsr : code_rdmsr);

				if (write && !set &&
				    (msr == 0x277 || msr == 0x10 || msr > 0xc0010000))
					continue;
				memset(map, 0, sizeof(map));
				map[(bit + write) / 8] = (u8)(set << (bit + write) % 8);
				/* The other direction's bit must not count. */
				map[(bit + !write) / 8] |= (u8)(1 << (bit + !write) % 8);
				msr_under_test = msr;
				vmcb->intercept_misc1 |= (u32)INTERCEPT_MSR;
				vmcb->msrpm_base = (u64)map | ignored_bits();
				check_eq(name_of("%s 0x%x, bit %u", write ? "WRMSR" : "RDMSR", msr,
						 set),
					 l2_run(vmcb), set ? EXIT_MSR : EXIT_VMMCALL);
				if (set)
					check_eq(name_of("%s 0x%x: EXITINFO1",
							 write ? "WRMSR" : "RDMSR", msr),
						 vmcb->exit_info1, write);
			}
		}
	}
	wrmsr(X86_MSR_FS_BASE, 0);
}

/* MSRs that have no bits in the map exit always. */
static void test_msr_outside_of_map(void) {
	struct vmcb *vmcb = l2_new(code_rdmsr);

	msr_under_test = 0x4b564d01;
	vmcb->intercept_misc1 |= (u32)INTERCEPT_MSR;
	check_eq("RDMSR outside of the map", l2_run(vmcb), EXIT_MSR);
}

/* ---- time ---- */

static void code_tsc(void) { l2_exit(rdtsc()); }

static void code_tsc_msr(void) { l2_exit(rdmsr(X86_MSR_TSC)); }

static void code_tscp(void) {
	u32 low, high;

	__asm__ volatile("rdtscp" : "=a"(low), "=d"(high) : : "rcx");
	l2_exit((u64)high << 32 | low);
}

/* However L2 reads it, its TSC is L1's and the offset. */
static void test_tsc_offset(void) {
	static const struct {
		const char *name;
		void (*code)(void);
	} ways[] = {{"RDTSC", code_tsc}, {"RDTSCP", code_tscp}, {"RDMSR of the TSC", code_tsc_msr}};

	for (unsigned i = 0; i < 2 * ARRAY_SIZE(ways); i++) {
		struct vmcb *vmcb = l2_new(ways[i / 2].code);
		u64 offset = i & 1 ? -BIT(60) : BIT(50);

		if ((i / 2 == 1 && !cpuid_bit(0x80000001, 3, 27)) ||
		    (i / 2 == 2 && on_bare_tcg())) {
			skip(ways[i / 2].name, "not here, or TCG reads 0");
			continue;
		}
		vmcb->tsc_offset = offset;
		u64 before = rdtsc();
		u64 got = l2_result(vmcb) - offset;
		check_range(name_of("%s with an offset", ways[i / 2].name), got, before, rdtsc());
	}
}

/* ---- exceptions ---- */

static void code_gp(void) { __asm__ volatile("mov (%0), %0" : : "r"(BIT(63))); }

static void code_pf(void) {
	write_cr2(0x77000);
	__asm__ volatile("mov %%rax, (%0)" : : "r"(TEST_VA + 0x123));
}

static void code_divide(void) {
	__asm__ volatile("xor %%edx, %%edx; div %%edx" : : : "rax", "rdx");
}

static void code_step(void) {
	__asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq; nop" : : : "memory");
}

static void code_no_fpu(void) {
	write_cr0(read_cr0() | X86_CR0_TS);
	__asm__ volatile("fnop");
}

static void code_not_present(void) { __asm__ volatile("mov %0, %%ds" : : "r"(SEL_FREE)); }

static void code_stack(void) { __asm__ volatile("mov %0, %%ss" : : "r"(SEL_FREE)); }

static void code_undefined(void) { __asm__ volatile("ud2"); }

/* Each by its bit alone, with its error code. */
static void test_exceptions(void) {
	static const struct {
		const char *name;
		void (*code)(void);
		u8 vector;
		u64 error;
	} cases[] = {{"#DE", code_divide, X86_DE, 0},
		     {"#DB", code_step, X86_DB, 0},
		     {"#UD", code_undefined, X86_UD, 0},
		     {"#NM", code_no_fpu, X86_NM, 0},
		     {"#NP", code_not_present, X86_NP, SEL_FREE},
		     {"#SS", code_stack, X86_SS, SEL_FREE},
		     {"#GP", code_gp, X86_GP, 0},
		     {"#PF", code_pf, X86_PF, PF_WRITE}};
	struct {
		u16 limit;
		u64 base;
	} __packed gdtr;
	struct vmcb *vmcb = NULL;

	/* A data segment that is not present. */
	__asm__ volatile("sgdt %0" : "=m"(gdtr));
	*(u64 *)(gdtr.base + SEL_FREE) = 0x00cf12000000ffff;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		vmcb = l2_new(cases[i].code);
		vmcb->intercept_exceptions = (u32)BIT(cases[i].vector);
		check_eq(name_of("%s intercepted", cases[i].name), l2_run(vmcb),
			 EXIT_EXCEPTION + cases[i].vector);
		if (cases[i].error)
			check_eq(name_of("%s: error code", cases[i].name), vmcb->exit_info1,
				 cases[i].error);
	}
	check_eq("#PF: address", vmcb->exit_info2, TEST_VA + 0x123);
	check_eq("#PF: CR2 stays", vmcb->cr2, 0x77000);
	*(u64 *)(gdtr.base + SEL_FREE) = 0;
}

/* A triple fault ends L2 and not L1. */
static void test_shutdown(void) {
	struct vmcb *vmcb = l2_new(code_divide);

	vmcb->idtr.limit = 0;
	check_eq("triple fault", l2_run(vmcb), EXIT_SHUTDOWN);
}

/* ---- consistency checks ---- */

static struct vmcb good, bad;

static void expect_invalid(const char *name) {
	struct vmcb *vmcb = l2_new(code_exit);

	memcpy(vmcb, &bad, sizeof(bad));
	vmcb->exit_code = 0x55;
	vmcb->exit_info1 = vmcb->exit_info2 = 0x66;
	memcpy(&bad, vmcb, sizeof(bad));
	l2_run(vmcb);
	check_eq(name_of("VMRUN refuses %s", name), (u32)vmcb->exit_code, (u32)EXIT_INVALID);
	if (on_bare_tcg()) return;
	check_eq(name_of("%s: EXITCODE has 64 bits", name), vmcb->exit_code, EXIT_INVALID);
	check(name_of("%s: the state is not touched", name),
	      !memcmp(&vmcb->es, &bad.es, 0x1000 - 0x400));
}

static void expect_valid(const char *name) {
	struct vmcb *vmcb = l2_new(code_exit);

	memcpy(vmcb, &bad, sizeof(bad));
	check_eq(name_of("VMRUN accepts %s", name), l2_run(vmcb), EXIT_VMMCALL);
}

#define REFUSED(name, statement)      \
	do {                          \
		bad = good;           \
		statement;            \
		expect_invalid(name); \
	} while (0)
#define ACCEPTED(name, statement)   \
	do {                        \
		bad = good;         \
		statement;          \
		expect_valid(name); \
	} while (0)

static void test_checks(void) {
	u32 r[4];

	cpuid(0x80000008, 0, r);
	u64 top = BIT(r[0] & 0xff);
	memcpy(&good, l2_new(code_exit), sizeof(good));
	ACCEPTED("the block as it is", (void)0);
	REFUSED("EFER.SVME clear", bad.efer &= ~X86_EFER_SVME);
	REFUSED("CR0.NW without CD", bad.cr0 |= X86_CR0_NW);
	for (unsigned i = 32; i < 64; i += 31) REFUSED("CR0[63:32]", bad.cr0 |= BIT(i));
	REFUSED("CR3 beyond memory", bad.cr3 |= top);
	REFUSED("CR3 bit 63", bad.cr3 |= BIT(63));
	REFUSED("CR4 bit 63", bad.cr4 |= BIT(63));
	REFUSED("CR4 bit 15", bad.cr4 |= BIT(15));
	REFUSED("DR6[63:32]", bad.dr6 |= BIT(32));
	REFUSED("DR7[63:32]", bad.dr7 |= BIT(63));
	REFUSED("LME and PG without PAE", bad.cr4 &= ~X86_CR4_PAE);
	REFUSED("CS.L with CS.D", bad.cs.attr |= 0x400);
	REFUSED("no intercept of VMRUN", bad.intercept_misc2 &= (u32)~INTERCEPT_VMRUN);
	REFUSED("ASID 0", bad.asid = 0);
	REFUSED("an MSR map beyond memory", bad.msrpm_base = top - PAGE_SIZE);
	REFUSED("a port map beyond memory", bad.iopm_base = top - 2 * PAGE_SIZE);
	REFUSED("an injected exception 2", bad.event_inj = EVENTINJ_VALID | 3 << 8 | 2);
	REFUSED("an injected exception 32", bad.event_inj = EVENTINJ_VALID | 3 << 8 | 32);
	for (u64 type = 1; type < 8; type += type == 1 ? 4 : 1)
		REFUSED("an injected event of a reserved type",
			bad.event_inj = EVENTINJ_VALID | type << 8 | 0x20);
	if (!on_bare_tcg()) {
		REFUSED("EFER reserved bits", bad.efer |= BIT(20));
		REFUSED("LME and PG without PE", bad.cr0 &= ~X86_CR0_PE);
	} else {
		skip("EFER reserved bits, CR0.PE", "TCG does not check them");
	}
	ACCEPTED("an event of a reserved type that is not valid", bad.event_inj = 0x120);
	ACCEPTED("reserved intercepts", bad.intercept_misc3 = ~0u);
	ACCEPTED("reserved bits of INT_CTL", bad.vintr |= 0xe0000000);
	ACCEPTED("a host save area of its own", bad.exit_int_info = ~0ul);
}

void test_main(void) {
	if (!svm_init()) return;
	test_round();
	test_registers();
	test_state();
	test_vmload_state_stays();
	test_all_intercepts();
	test_single_intercepts();
	test_selective_cr0();
	test_no_intercepts();
	test_vmmcall_undefined();
	test_io_map();
	test_msr_map();
	test_msr_outside_of_map();
	test_tsc_offset();
	test_exceptions();
	test_shutdown();
	test_checks();
}
