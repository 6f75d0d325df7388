/*
 * VM entries and exits: what is loaded and stored, controls, exit information, what the host gets
 * back (SDM 3C 24 to 27), with EPT and without.
 *
 * vm: machine=intel
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"
#include "guest-tests/lib/vmx.h"

const char test_name[] = "vmx_run";

/* ---- state ---- */

static void code_exit(void) {
	vmx_l2_exit(0x1234);
	vmx_l2_exit(0x5678);
}

static void test_round(void) {
	vmx_l2_new(code_exit);
	check_eq("VMRESUME before VMLAUNCH: fails", ({
			 extern u64 vmx_enter_l2(struct vmx_registers *, u64);
			 vmx_enter_l2(vmx_regs(), 1);
		 }),
		 VM_FAIL);
	check_eq("VMRESUME before VMLAUNCH: error", vmread(VMCS(instruction_error)), 5);
	check_eq("VMLAUNCH and VMCALL", vmx_l2_run(), REASON_VMCALL);
	check_eq("RAX of L2", vmx_regs()->rax, 0x1234);
	u64 rip = vmread(VMCS(guest_rip));
	check_eq("RIP is at VMCALL", *(const u32 *)rip & 0xffffff, 0xc1010f);
	check_eq("instruction length", vmread(VMCS(instruction_length)), 3);
	check_eq("no event to inject is left", vmread(VMCS(entry_event)) & EVENT_VALID, 0);
	check_eq("no event was interrupted", vmread(VMCS(vectoring_event)) & EVENT_VALID, 0);
	vmwrite(VMCS(guest_rip), rip + 3);
	check_eq("VMRESUME and the next VMCALL", vmx_l2_run(), REASON_VMCALL);
	check_eq("RAX of L2, again", vmx_regs()->rax, 0x5678);
}

/* Every general register goes in and comes out. */
extern const char code_registers[];
__asm__(".pushsection .text\n"
	"code_registers:\n"
	"add $1, %rax; add $2, %rcx; add $3, %rdx; add $4, %rbx; add $5, %rbp; add $6, %rsi\n"
	"add $7, %rdi; add $8, %r8; add $9, %r9; add $10, %r10; add $11, %r11; add $12, %r12\n"
	"add $13, %r13; add $14, %r14; add $15, %r15\n"
	"sub $64, %rsp\n"
	"vmcall\n"
	".popsection");

static void test_registers(void) {
	vmx_l2_new(code_registers);
	u64 *reg = (u64 *)vmx_regs(), rsp = vmread(VMCS(guest_rsp));

	for (unsigned i = 0; i < 15; i++) reg[i] = 0x1111111111111111ul * (i + 1);
	vmx_l2_run();
	for (unsigned i = 0; i < 15; i++)
		check_eq(name_of("general register %u", i), reg[i],
			 0x1111111111111111ul * (i + 1) + i + 1);
	check_eq("RSP", vmread(VMCS(guest_rsp)), rsp - 64);
}

/* What L2 does to its own state is in the VMCS, and not in the host. */
static void code_state(void) {
	write_cr2(0x123000);
	__asm__ volatile("mov %0, %%db7" : : "r"(0x700ul));
	wrmsr(X86_MSR_FS_BASE, 0x9000);
	wrmsr(X86_MSR_KERNEL_GS_BASE, 0x77000);
	wrmsr(X86_MSR_SYSENTER_CS + 1, 0x55000);
	__asm__ volatile("std; stc; mov %0, %%es" : : "r"(0));
	vmx_l2_exit(1);
}

static void test_state(void) {
	u64 cr0 = read_cr0(), cr3 = read_cr3(), cr4 = read_cr4(), flags, dr7;
	u16 es;

	vmx_l2_new(code_state);
	vmwrite(VMCS(host_sysenter_esp), 0x3000);
	vmx_l2_result();
	check_eq("FS base of L2", vmread(VMCS_AT(guest_base, 4)), 0x9000);
	check_eq("SYSENTER_ESP of L2", vmread(VMCS(guest_sysenter_esp)), 0x55000);
	check_eq("DR7 of L2", vmread(VMCS(guest_dr7)), 0x700);
	check_eq("ES of L2", vmread(VMCS_AT(guest_selector, 0)), 0);
	check_eq("ES of L2 is unusable", vmread(VMCS_AT(guest_access, 0)) & ACCESS_UNUSABLE,
		 ACCESS_UNUSABLE);
	check_eq("CR0 of L2", vmread(VMCS(guest_cr0)), cr0);
	check_eq("CR4 of L2", vmread(VMCS(guest_cr4)), cr4);
	check_eq("RFLAGS.DF and CF of L2", vmread(VMCS(guest_rflags)) & 0x401, 0x401);
	__asm__ volatile("pushfq; pop %0; mov %%es, %1" : "=r"(flags), "=r"(es));
	__asm__ volatile("mov %%db7, %0" : "=r"(dr7));
	check_eq("RFLAGS.DF of the host", flags & 0x400, 0);
	check_eq("ES of the host", es, SEL_DATA);
	check_eq("CR0 of the host", read_cr0(), cr0);
	check_eq("CR3 of the host", read_cr3(), cr3);
	check_eq("CR4 of the host", read_cr4(), cr4);
	check_eq("DR7 of the host has no breakpoints", dr7, 0x400);
	check_eq("CR2 is what L2 left", read_cr2(), 0x123000);
	check_eq("FS base of the host", rdmsr(X86_MSR_FS_BASE), vmread(VMCS(host_fs_base)));
	check_eq("KERNEL_GS_BASE is what L2 left", rdmsr(X86_MSR_KERNEL_GS_BASE), 0x77000);
	check_eq("SYSENTER_ESP of the host", rdmsr(X86_MSR_SYSENTER_CS + 1), 0x3000);
	/* What L1 changes goes in, what it does not stays. */
	vmwrite(VMCS_AT(guest_base, 4), 0xa000);
	vmx_l2_restart(code_exit);
	vmx_l2_result();
	check_eq("FS base of L2, written", vmread(VMCS_AT(guest_base, 4)), 0xa000);
	check_eq("SYSENTER_ESP of L2, not written", vmread(VMCS(guest_sysenter_esp)), 0x55000);
}

/* ---- controls ---- */

struct exiting {
	const char *name, *bytes;
	u8 length, reason;
	u64 proc, proc2; /* the control that makes it exit; 0: always */
	u64 rcx;
	bool faults; /* where nothing makes it exit */
};

static const struct exiting insns[] = {
	{"CPUID", "\x0f\xa2", 2, REASON_CPUID, 0, 0, 0, false},
	{"INVD", "\x0f\x08", 2, 13, 0, 0, 0, false},
	{"VMCALL", "\x0f\x01\xc1", 3, REASON_VMCALL, 0, 0, 0, false},
	{"VMXOFF", "\x0f\x01\xc4", 3, REASON_VMXOFF, 0, 0, 0, false},
	{"VMLAUNCH", "\x0f\x01\xc2", 3, REASON_VMLAUNCH, 0, 0, 0, false},
	{"VMREAD", "\x0f\x78\xc2", 3, REASON_VMREAD, 0, 0, 0, false},
	{"HLT", "\xf4", 1, REASON_HLT, PROC_HLT, 0, 0, true},
	{"INVLPG", "\x0f\x01\x3c\x24", 4, REASON_INVLPG, PROC_INVLPG, 0, 0, false},
	{"RDPMC", "\x0f\x33", 2, 15, PROC_RDPMC, 0, 0, true},
	{"RDTSC", "\x0f\x31", 2, 16, PROC_RDTSC, 0, 0, false},
	{"MOV from CR3", "\x0f\x20\xd8", 3, REASON_CR, PROC_CR3_STORE, 0, 0, false},
	{"MOV from CR8", "\x44\x0f\x20\xc0", 4, REASON_CR, PROC_CR8_STORE, 0, 0, false},
	{"MOV to CR8", "\x44\x0f\x22\xc3", 4, REASON_CR, PROC_CR8_LOAD, 0, 0, false},
	{"MOV from DR0", "\x0f\x21\xc0", 3, 29, PROC_DR, 0, 0, false},
	{"PAUSE", "\xf3\x90", 2, 40, PROC_PAUSE, 0, 0, false},
	{"IN", "\xec", 1, REASON_IO, PROC_ALL_IO, 0, 0, false},
	{"WBINVD", "\x0f\x09", 2, REASON_WBINVD, 0, PROC2_WBINVD, 0, false},
	{"SGDT", "\x0f\x01\x44\x24\xf0", 5, 46, 0, PROC2_TABLES, 0, false},
	{"STR", "\x0f\x00\xc8", 3, 47, 0, PROC2_TABLES, 0, false},
	{"RDRAND", "\x0f\xc7\xf0", 3, 57, 0, PROC2_RDRAND, 0, false},
};

static bool have(const struct exiting *e) {
	return (!e->proc || vmx_can(VMX_MSR_TRUE_PIN + 1, e->proc)) &&
	       (!e->proc2 || vmx_can(VMX_MSR_PROC2, e->proc2));
}

static u8 insn_code[32];

static void prepare(const struct exiting *e) {
	memset(insn_code, 0x0f, sizeof(insn_code));
	memcpy(insn_code, e->bytes, e->length);
	memcpy(insn_code + e->length, "\x0f\x01\xc1", 3);
	vmx_l2_new(insn_code);
	vmx_regs()->rcx = e->rcx;
	vmx_regs()->rdx = 0x80; /* a port that answers to nothing */
}

static void test_exits(void) {
	for (unsigned i = 0; i < ARRAY_SIZE(insns); i++) {
		const struct exiting *e = &insns[i];

		if (!have(e)) {
			skip(e->name, "its control is not offered");
			continue;
		}
		prepare(e);
		vmwrite(VMCS(proc_controls), vmread(VMCS(proc_controls)) | e->proc);
		if (e->proc2) vmx_l2_add(e->proc2);
		check_eq(name_of("%s exits", e->name), vmx_l2_run(), e->reason);
		check_eq(name_of("%s: RIP", e->name), vmread(VMCS(guest_rip)), (u64)insn_code);
		check_eq(name_of("%s: length", e->name), vmread(VMCS(instruction_length)),
			 e->length);
		if (e->faults || (!e->proc && !e->proc2)) continue;
		prepare(e);
		vmwrite(VMCS(proc_controls), vmread(VMCS(proc_controls)) & ~e->proc);
		check_eq(name_of("%s does not exit", e->name), vmx_l2_run(), REASON_VMCALL);
		check_eq(name_of("%s: RIP behind it", e->name), vmread(VMCS(guest_rip)),
			 (u64)insn_code + e->length);
	}
}

static u8 io_maps[2][PAGE_SIZE] __aligned(4096), msr_map[PAGE_SIZE] __aligned(4096);

static void set_bit(u8 *map, u32 bit, bool on) {
	map[bit / 8] = (u8)((map[bit / 8] & ~(1u << bit % 8)) | (unsigned)on << bit % 8);
}

static void test_io_maps(void) {
	static const struct {
		u16 port;
		const char *bytes;
		u8 size;
	} ports[] = {{0x80, "\xec", 1}, {0x7fff, "\xec", 1}, {0x8000, "\xec", 1},
		     {0x80, "\xed", 4}, {0x7ffe, "\xed", 4}, {0xfffc, "\xed", 4}};

	for (unsigned i = 0; i < ARRAY_SIZE(ports); i++) {
		struct exiting in = {"IN", ports[i].bytes, 1, REASON_IO, 0, 0, 0, false};

		for (int bit = -1; bit < ports[i].size; bit++) {
			u32 at = ports[i].port + (u32)bit;

			memset(io_maps, 0, sizeof(io_maps));
			if (bit >= 0) set_bit(io_maps[at >> 15], at & 0x7fff, true);
			prepare(&in);
			vmx_regs()->rdx = ports[i].port;
			vmwrite(VMCS(proc_controls), vmread(VMCS(proc_controls)) | PROC_IO_BITMAPS);
			vmwrite(VMCS_AT(io_bitmap, 0), (u64)io_maps[0]);
			vmwrite(VMCS_AT(io_bitmap, 1), (u64)io_maps[1]);
			check_eq(name_of("IN of %u bytes at 0x%x, bit %d", ports[i].size,
					 ports[i].port, bit),
				 vmx_l2_run(), bit < 0 ? REASON_VMCALL : REASON_IO);
			if (bit >= 0)
				check_eq("its qualification", vmread(VMCS(qualification)),
					 (u64)ports[i].port << 16 | BIT(3) | (ports[i].size - 1u));
		}
	}
}

static void test_msr_map(void) {
	static const u32 msrs[] = {0x174, 0x176, 0x10, 0xc0000081, 0xc0000100, 0xc0000102};

	for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
		u32 base = msrs[i] >> 31 ? 1024 * 8 : 0, bit = base + (msrs[i] & 0x1fff);
		struct exiting rd = {"RDMSR", "\x0f\x32", 2, REASON_RDMSR, 0, 0, msrs[i], false};

		for (unsigned set = 0; set < 3; set++) {
			memset(msr_map, 0, sizeof(msr_map));
			if (set) set_bit(msr_map, bit + (set == 2 ? 2048 * 8 : 0), true);
			prepare(&rd);
			vmwrite(VMCS(msr_bitmap), (u64)msr_map);
			check_eq(name_of("RDMSR 0x%x, map %u", msrs[i], set), vmx_l2_run(),
				 set == 1 ? REASON_RDMSR : REASON_VMCALL);
		}
		prepare(&rd);
		vmwrite(VMCS(proc_controls), vmread(VMCS(proc_controls)) & ~PROC_MSR_BITMAP);
		check_eq(name_of("RDMSR 0x%x without a map", msrs[i]), vmx_l2_run(), REASON_RDMSR);
	}
}

/* ---- control registers ---- */

static u64 cr0_wanted, cr4_wanted;

static void code_read_cr(void) { vmx_l2_exit(read_cr0() ^ read_cr4() << 32); }

static void code_write_cr0(void) {
	write_cr0(cr0_wanted);
	vmx_l2_exit(read_cr0());
}

static void code_write_cr4(void) {
	write_cr4(cr4_wanted);
	vmx_l2_exit(read_cr4());
}

static void test_cr_masks(void) {
	u64 cr0 = read_cr0(), cr4 = read_cr4();

	vmx_l2_new(code_read_cr);
	check_eq("CR0 and CR4 without masks", vmx_l2_result(), cr0 ^ cr4 << 32);
	vmx_l2_restart(code_read_cr);
	vmwrite(VMCS(cr0_mask), X86_CR0_NE | X86_CR0_TS | X86_CR0_CD);
	vmwrite(VMCS(cr0_shadow), X86_CR0_TS | X86_CR0_CD);
	vmwrite(VMCS(cr4_mask), X86_CR4_VMXE | X86_CR4_DE);
	vmwrite(VMCS(cr4_shadow), X86_CR4_DE);
	check_eq("CR0 and CR4 by masks and shadows", vmx_l2_result(),
		 ((cr0 & ~X86_CR0_NE) | X86_CR0_TS | X86_CR0_CD) ^
			 ((cr4 & ~X86_CR4_VMXE) | X86_CR4_DE) << 32);
	check_eq("CR0 itself", vmread(VMCS(guest_cr0)), cr0);
	check_eq("CR4 itself", vmread(VMCS(guest_cr4)), cr4);
	vmx_l2_restart(code_write_cr0);
	cr0_wanted = (cr0 & ~X86_CR0_NE) | X86_CR0_TS | X86_CR0_CD | X86_CR0_AM;
	check_eq("a write that the mask lets pass", vmx_l2_result(), cr0_wanted);
	check_eq("CR0.AM changed, NE and TS did not", vmread(VMCS(guest_cr0)), cr0 | X86_CR0_AM);
	vmx_l2_restart(code_write_cr0);
	cr0_wanted = cr0;
	check_eq("a write of masked bits exits", vmx_l2_run(), REASON_CR);
	check_eq("CR0 is as it was", vmread(VMCS(guest_cr0)), cr0 | X86_CR0_AM);
	check_eq("qualification: MOV to CR0", vmread(VMCS(qualification)) & 0x3f, 0);
	/* A bit that Roost looks after, and L1 does not. */
	vmx_l2_new(code_write_cr0);
	cr0_wanted = cr0 | X86_CR0_CD;
	check_eq("CR0.CD without a mask", vmx_l2_result(), cr0 | X86_CR0_CD);
	check_eq("CR0.CD is in the VMCS", vmread(VMCS(guest_cr0)), cr0 | X86_CR0_CD);
	vmx_l2_new(code_write_cr4);
	cr4_wanted = cr4 ^ X86_CR4_TSD;
	check_eq("CR4.TSD without a mask", vmx_l2_result(), cr4 ^ X86_CR4_TSD);
	check_eq("CR4.TSD is in the VMCS", vmread(VMCS(guest_cr4)), cr4 ^ X86_CR4_TSD);
	vmx_l2_restart(code_write_cr4);
	vmwrite(VMCS(cr4_mask), X86_CR4_DE);
	vmwrite(VMCS(cr4_shadow), 0);
	cr4_wanted = cr4 | X86_CR4_DE;
	check_eq("CR4.DE, masked", vmx_l2_run(), REASON_CR);
	vmx_l2_restart(code_write_cr4);
	cr4_wanted = (cr4 ^ X86_CR4_PCE) & ~X86_CR4_DE;
	check_eq("CR4.PCE beside a mask", vmx_l2_result(), cr4_wanted);
}

/* ---- exceptions ---- */

static void code_gp(void) { __asm__ volatile("mov (%0), %0" : : "r"(BIT(63))); }

static void code_pf(void) {
	write_cr2(0x77000);
	__asm__ volatile("mov %%rax, (%0)" : : "r"(TEST_VA + 0x123));
}

static void code_db(void) { __asm__ volatile("pushf; orl $0x100, (%rsp); popf; nop; nop"); }

static void code_divide(void) {
	__asm__ volatile("xor %%edx, %%edx; div %%edx" : : : "rax", "rdx");
}

static void exception(const char *name, const void *code, u64 bitmap, u64 event) {
	vmx_l2_new(code);
	vmwrite(VMCS(exception_bitmap), bitmap);
	check_eq(name, vmx_l2_run(), REASON_EXCEPTION);
	check_eq(name_of("%s: interruption information", name), vmread(VMCS(exit_event)),
		 EVENT_VALID | event);
}

static void test_exceptions(void) {
	u64 hard = EVENT_TYPE_EXCEPTION << EVENT_TYPE_SHIFT;

	exception("#DE", code_divide, BIT(X86_DE), hard | X86_DE);
	exception("#GP", code_gp, BIT(X86_GP), hard | EVENT_HAS_ERROR | X86_GP);
	check_eq("#GP: error code", vmread(VMCS(exit_error)), 0);
	exception("#PF", code_pf, BIT(X86_PF), hard | EVENT_HAS_ERROR | X86_PF);
	check_eq("#PF: error code", vmread(VMCS(exit_error)), PF_WRITE);
	check_eq("#PF: address", vmread(VMCS(qualification)), TEST_VA + 0x123);
	check_eq("#PF: CR2 stays", read_cr2(), 0x77000);
	exception("#DB", code_db, BIT(X86_DB), hard | X86_DB);
	check_eq("#DB: single step", vmread(VMCS(qualification)), BIT(14));
}

/* #PF exits by mask and match; else L2's own handler runs, here none: a triple fault. */
static void test_pf_mask(void) {
	for (unsigned i = 0; i < 4; i++) {
		bool in_bitmap = i & 1, match = i & 2;

		vmx_l2_new(code_pf);
		vmwrite(VMCS(exception_bitmap), in_bitmap ? BIT(X86_PF) : 0);
		vmwrite(VMCS(pf_error_mask), PF_WRITE);
		vmwrite(VMCS(pf_error_match), match ? PF_WRITE : 0);
		vmwrite(VMCS(guest_idtr_limit), 0);
		check_eq(name_of("#PF with bit %u, match %u", in_bitmap, match), vmx_l2_run(),
			 in_bitmap == match ? REASON_EXCEPTION : REASON_TRIPLE_FAULT);
	}
}

/* ---- events that are injected ---- */

static volatile u64 events, event_error;

static void count_event(struct regs *regs) {
	events++;
	event_error = regs->error;
}

static void inject(const char *name, u64 info, u64 error, u8 vector) {
	events = 0;
	trap_set_handler(vector, count_event);
	vmx_l2_new(code_exit);
	vmwrite(VMCS(entry_event), EVENT_VALID | info);
	vmwrite(VMCS(entry_error), error);
	vmwrite(VMCS(entry_length), 0);
	if (info >> 8 == 0) vmwrite(VMCS(guest_rflags), X86_RFLAGS_FIXED | X86_RFLAGS_IF);
	check_eq(name_of("%s: L2 runs on", name), vmx_l2_run(), REASON_VMCALL);
	check_eq(name_of("%s: its handler has run", name), events, 1);
	if (info & EVENT_HAS_ERROR) check_eq(name_of("%s: error code", name), event_error, error);
	check_eq(name_of("%s: is no longer there", name), vmread(VMCS(entry_event)) & EVENT_VALID,
		 0);
	trap_set_handler(vector, NULL);
}

static void test_injection(void) {
	inject("an interrupt", 0x55, 0, 0x55);
	inject("#GP", EVENT_TYPE_EXCEPTION << 8 | EVENT_HAS_ERROR | X86_GP, 0x58, X86_GP);
	inject("#UD", EVENT_TYPE_EXCEPTION << 8 | X86_UD, 0, X86_UD);
	inject("an NMI", EVENT_TYPE_NMI << 8 | X86_NMI, 0, X86_NMI);
}

/* ---- EPT ---- */

static volatile u64 touched __aligned(4096);

static void code_touch(void) {
	touched = 0x77;
	vmx_l2_exit(touched);
}

static void test_ept(void) {
	static u64 elsewhere[512] __aligned(4096);
	u64 at = (u64)&touched;

	if (!vmx_can(VMX_MSR_PROC2, PROC2_EPT)) {
		skip("EPT", "not offered");
		return;
	}
	u64 root = ept_new(), *entry;
	vmx_l2_new(code_exit);
	vmx_l2_use_ept(root);
	check_eq("with EPT", vmx_l2_result(), 0x1234);
	vmx_l2_restart(code_touch);
	check_eq("RAM through EPT", vmx_l2_result(), 0x77);
	check_eq("it is L1's RAM", touched, 0x77);

	entry = page_entry_in(root, at, 1);
	u64 leaf = *entry;
	*entry = (u64)elsewhere | 0x37;
	vmx_invept(1, ept_pointer(root));
	touched = 0x1;
	vmx_l2_restart(code_touch);
	check_eq("another page", vmx_l2_result(), 0x77);
	check_eq("L1's own page is not touched", touched, 1);
	check_eq("the other page is", elsewhere[0], 0x77);

	static const struct {
		const char *name;
		u64 bits, reason, qualification;
	} cases[] = {
		{"not present", 0, REASON_EPT_VIOLATION, 0x182},
		{"read only", 1, REASON_EPT_VIOLATION, 0x18a},
		{"read and execute", 5, REASON_EPT_VIOLATION, 0x1aa},
		{"write only", 2, REASON_EPT_MISCONFIG, 0},
		{"write and execute", 6, REASON_EPT_MISCONFIG, 0},
		{"memory type 2", 7 | 2 << 3, REASON_EPT_MISCONFIG, 0},
	};
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		*entry = (leaf & PTE_ADDRESS) | cases[i].bits | (cases[i].bits >> 3 ? 0 : 0x30);
		if (!cases[i].bits) *entry = 0;
		vmx_invept(1, ept_pointer(root));
		vmx_l2_restart(code_touch);
		check_eq(cases[i].name, vmx_l2_run(), cases[i].reason);
		check_eq(name_of("%s: the address", cases[i].name), vmread(VMCS(guest_pa)), at);
		if (cases[i].reason != REASON_EPT_VIOLATION) continue;
		check_eq(name_of("%s: qualification", cases[i].name), vmread(VMCS(qualification)),
			 cases[i].qualification);
		check_eq(name_of("%s: linear address", cases[i].name), vmread(VMCS(guest_linear)),
			 at);
	}
	*entry = leaf;
	vmx_invept(2, 0);
	vmx_l2_restart(code_touch);
	check_eq("mapped again", vmx_l2_result(), 0x77);
}

#define EPT_ACCESSED BIT(8)
#define EPT_DIRTY    BIT(9)
#define REMAPPED     0xd0000000ul /* L2-physical, no RAM of L1's */

static volatile u64 *code_target;

static void code_read(void) { vmx_l2_exit(*code_target); }

static void code_write(void) {
	*code_target = 0x99;
	vmx_l2_exit(1);
}

static void code_read_32(void) { vmx_l2_exit(*(volatile u32 *)code_target); }

/* Accessed and dirty flags are L1's to read, when its EPT pointer asks for them (T-P6). */
static void test_ept_flags(void) {
	u64 root = ept_new(), *entry = page_entry_in(root, (u64)&touched, 1);

	if (!(rdmsr(VMX_MSR_EPT_VPID) & EPT_CAP_AD)) {
		skip("EPT accessed and dirty flags", "not offered");
		return;
	}
	code_target = &touched;
	for (unsigned ad = 0; ad < 2; ad++) {
		u64 set = ad ? EPT_ACCESSED : 0, both = ad ? EPT_ACCESSED | EPT_DIRTY : 0;

		*entry &= ~(EPT_ACCESSED | EPT_DIRTY);
		vmx_l2_new(code_read);
		vmx_l2_use_ept(root);
		vmwrite(VMCS(eptp), ept_pointer(root) | (ad ? EPTP_AD : 0));
		vmx_invept(2, 0);
		vmx_l2_result();
		check_eq(name_of("flags after a read, A/D %u", ad),
			 *entry & (EPT_ACCESSED | EPT_DIRTY), set);
		vmx_l2_restart(code_write);
		vmx_l2_result();
		check_eq(name_of("flags after a write, A/D %u", ad),
			 *entry & (EPT_ACCESSED | EPT_DIRTY), both);
		/* INVEPT goes by the address of the tables alone (T-X1). */
		*entry &= ~(EPT_ACCESSED | EPT_DIRTY);
		vmx_invept(1, ept_pointer(root) | (ad ? 0 : EPTP_AD));
		vmx_l2_restart(code_write);
		vmx_l2_result();
		check_eq(name_of("flags after a flush and a write, A/D %u", ad),
			 *entry & (EPT_ACCESSED | EPT_DIRTY), both);
	}
}

/* What L1 has from Roost's emulation it may hand on to its L2 (T-E6). */
static void test_ept_device(void) {
	u64 root = ept_new();
	u32 id = *(volatile u32 *)0xfee00020ul;

	if (!id) id = *(volatile u32 *)0xfee00030ul; /* the version says more than an id of 0 */
	*page_entry_in(root, REMAPPED, 1) = 0xfee00000 | 7;
	code_target = (volatile u64 *)(REMAPPED + (*(volatile u32 *)0xfee00020ul ? 0x20 : 0x30));
	vmx_l2_new(code_read_32);
	vmx_l2_use_ept(root);
	check_eq("a device's register through EPT", vmx_l2_result(), id);
	*page_entry_in(root, REMAPPED, 1) = 0;
	vmx_invept(1, ept_pointer(root));
	vmx_l2_restart(code_read_32);
	check_eq("the same when L1 has taken it away", vmx_l2_run(), REASON_EPT_VIOLATION);
	check_eq("its address", vmread(VMCS(guest_pa)), (u64)code_target);
}

/* L2's page tables are read through EPT, too: a violation there says so. */
static void test_ept_walk(void) {
	u64 root = ept_new(), *pml4 = page_alloc(), *entry;

	memcpy(pml4, (const void *)(read_cr3() & PTE_ADDRESS), PAGE_SIZE);
	entry = page_entry_in(root, (u64)pml4, 1);
	*entry = 0;
	code_target = &touched;
	vmx_l2_new(code_read);
	vmx_l2_use_ept(root);
	vmwrite(VMCS(guest_cr3), (u64)pml4);
	check_eq("L2's top table is not mapped", vmx_l2_run(), REASON_EPT_VIOLATION);
	check_eq("the table's address", vmread(VMCS(guest_pa)) & PTE_ADDRESS, (u64)pml4);
	check_eq("it is not the final access",
		 vmread(VMCS(qualification)) & (EPT_QUAL_LINEAR | EPT_QUAL_FINAL), EPT_QUAL_LINEAR);
	*entry = (u64)pml4 | 0x37;
	check_eq("mapped, L2 goes on", vmx_l2_result(), touched);
}

/* ---- entries that fail ---- */

static void refused(const char *name, u64 error) {
	check_eq(name_of("VMLAUNCH refuses %s", name), vmx_l2_run(), VM_FAILED | VM_FAIL);
	check_eq(name_of("%s: error", name), vmread(VMCS(instruction_error)), error);
}

static void test_refused(void) {
	vmx_l2_new(code_exit);
	vmwrite(VMCS(pin_controls), 0);
	refused("no default bits in the pin-based controls", 7);
	vmx_l2_new(code_exit);
	vmwrite(VMCS(host_cr0), read_cr0() & ~X86_CR0_PE);
	refused("CR0.PE clear in the host", 8);
	vmx_l2_new(code_exit);
	vmwrite(VMCS(guest_rflags), 0);
	check_eq("bit 1 of RFLAGS clear", vmx_l2_run(), REASON_BAD_STATE | REASON_ENTRY_FAILED);
	check_eq("its qualification", vmread(VMCS(qualification)), 0);
	check_eq("the state is as it was", vmread(VMCS(guest_rflags)), 0);
	vmwrite(VMCS(guest_rflags), 2);
	check_eq("and can be entered when mended", vmx_l2_run(), REASON_VMCALL);
	vmx_clear(vmx_l2_vmcs());
	vmx_ptrld(vmx_l2_vmcs());
	vmx_l2_restart(code_exit);
	check_eq("VMCLEAR keeps the state", vmx_l2_run(), REASON_VMCALL);
}

/* L1 leaves its local APIC to L2, with EPT and without: it must not meet the page of L1's. */
static void code_apic(void) {
	u32 version = mmio_read32((volatile void *)(LAPIC_BASE + LAPIC_VERSION));

	mmio_write32((volatile void *)(LAPIC_BASE + LAPIC_TPR), 0x50);
	vmx_l2_exit((u64)version << 32 | mmio_read32((volatile void *)(LAPIC_BASE + LAPIC_TPR)));
}

static void test_apic_of_l1(bool ept) {
	const char *how = ept ? "with EPT" : "without EPT";
	u32 version = lapic_read(LAPIC_VERSION); /* and L1 has used the page */

	lapic_write(LAPIC_TPR, 0x20);
	vmx_l2_new(code_apic);
	if (ept) vmx_l2_use_ept(ept_new());
	check_eq(name_of("L2, %s, in L1's local APIC", how), vmx_l2_result(),
		 (u64)version << 32 | 0x50);
	check_eq(name_of("L2, %s: L1 sees what it wrote", how), lapic_read(LAPIC_TPR), 0x50);
	lapic_write(LAPIC_TPR, 0);
}

static const struct exiting rdtsc_insn = {"RDTSC", "\x0f\x31", 2, 16, 0, 0, 0, false};

static void test_tsc_offset(void) {
	prepare(&rdtsc_insn);
	vmwrite(VMCS(proc_controls), vmread(VMCS(proc_controls)) | PROC_TSC_OFFSET);
	vmwrite(VMCS(tsc_offset), BIT(60));
	check_eq("RDTSC with an offset", vmx_l2_run(), REASON_VMCALL);
	check_eq("the offset is there", vmx_regs()->rdx >> 28, 1);
	check_eq("and not in the host", rdtsc() >> 60, 0);
}

/* What L2 reads lies between what L1 reads before and behind its run, scaled and moved. */
static void read_scaled(const struct exiting *insn, u64 multiplier, u64 offset, bool moved) {
	u64 scale = moved ? multiplier : 1ul << 48, add = moved ? offset : 0;

	prepare(insn);
	vmx_l2_add(PROC2_TSC_SCALING);
	vmwrite(VMCS(tsc_multiplier), multiplier);
	vmwrite(VMCS(tsc_offset), offset);
	if (moved) vmwrite(VMCS(proc_controls), vmread(VMCS(proc_controls)) | PROC_TSC_OFFSET);
	u64 before = rdtsc();
	check_eq(name_of("%s times 0x%lx", insn->name, multiplier), vmx_l2_run(), REASON_VMCALL);
	u64 after = rdtsc(), value = (u32)vmx_regs()->rax | vmx_regs()->rdx << 32;

	/* Two ticks for what is rounded. */
	check_range(name_of("%s times 0x%lx, offset 0x%lx, %u", insn->name, multiplier, add, moved),
		    value + 2, (u64)((unsigned __int128)before * scale >> 48) + add,
		    (u64)((unsigned __int128)after * scale >> 48) + add + 4);
}

static void test_tsc_scaling(void) {
	static const struct exiting rdmsr_insn = {
		"RDMSR of the TSC", "\x0f\x32", 2, REASON_RDMSR, 0, 0, 0x10, false};
	static const u64 multipliers[] = {
		BIT(48), BIT(49), BIT(47) + BIT(48), BIT(46) + 12345, BIT(53), BIT(20), 1};

	if (!vmx_can(VMX_MSR_PROC2, PROC2_TSC_SCALING)) {
		skip("TSC scaling", "not offered");
		return;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(multipliers); i++)
		for (unsigned n = 0; n < 4; n++)
			read_scaled(n & 1 ? &rdmsr_insn : &rdtsc_insn, multipliers[i], BIT(60),
				    n & 2);
	read_scaled(&rdtsc_insn, BIT(49), 0 - rdtsc(), true);
	vmx_l2_new(code_exit);
	vmx_l2_add(PROC2_TSC_SCALING);
	vmwrite(VMCS(tsc_multiplier), 0);
	refused("a TSC multiplier of 0", 7);
	vmx_l2_new(code_exit);
	check_eq("without the control it may be 0", vmx_l2_result(), 0x1234);
}

void test_main(void) {
	if (!vmx_init()) return;
	test_round();
	test_registers();
	test_state();
	test_exits();
	test_io_maps();
	test_msr_map();
	test_cr_masks();
	test_exceptions();
	test_pf_mask();
	test_injection();
	test_ept();
	if (vmx_can(VMX_MSR_PROC2, PROC2_EPT)) {
		test_ept_flags();
		test_ept_device();
		test_ept_walk();
	}
	test_refused();
	test_tsc_offset();
	test_tsc_scaling();
	lapic_init();
	test_apic_of_l1(false);
	if (vmx_can(VMX_MSR_PROC2, PROC2_EPT)) test_apic_of_l1(true);
}
