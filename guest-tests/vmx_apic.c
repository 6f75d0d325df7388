/*
 * The virtual APIC that a hypervisor gives its guest (SDM 3C 29): TPR shadow, x2APIC mode,
 * registers, virtual interrupts, the APIC-access page; with EPT and without. L1's own local APIC
 * must not notice, and L2 must not meet it where L1 does not want that.
 *
 * vm: machine=intel
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"
#include "guest-tests/lib/vmx.h"

const char test_name[] = "vmx_apic";

#define REFUSED	 (VM_FAILED | VM_FAIL)
#define HOLE	 0xd0000000ul /* in L1's memory: nothing */
#define X2APIC	 X86_MSR_X2APIC
#define EPT_PAGE 0x37ul /* write-back, all rights */
#define VECTOR	 0x55

static u32 vapic[PAGE_SIZE / 4] __aligned(4096);  /* L2's virtual APIC */
static u32 access[PAGE_SIZE / 4] __aligned(4096); /* what stands for its registers */
static u8 msr_map[PAGE_SIZE] __aligned(4096);
static u64 root, phys_bits;
static bool with_ept;

static volatile u32 *reg(u32 offset) { return &vapic[offset / 4]; }

static void set_vector(u32 first, u8 vector) {
	*reg(first + vector / 32 * 16) |= 1u << vector % 32;
}

static bool has_vector(u32 first, u8 vector) {
	return *reg(first + vector / 32 * 16) >> vector % 32 & 1;
}

/* An L2 with these controls beside a TPR shadow and, perhaps, EPT. */
static void prepare(const void *code, u64 proc2) {
	vmx_l2_new(code);
	if (with_ept) vmx_l2_use_ept(root);
	if (proc2) vmx_l2_add(proc2);
	memset(vapic, 0, sizeof(vapic));
	memset(msr_map, 0, sizeof(msr_map));
	vmwrite(VMCS(proc_controls), vmread(VMCS(proc_controls)) | PROC_TPR_SHADOW);
	vmwrite(VMCS(msr_bitmap), (u64)msr_map);
	vmwrite(VMCS(virtual_apic), (u64)vapic);
	vmwrite(VMCS(tpr_threshold), 0);
	vmwrite(VMCS(apic_access), (u64)access);
	vmwrite(VMCS(guest_interrupt_status), 0);
	for (unsigned i = 0; i < 4; i++) vmwrite(VMCS_AT(eoi_exits, i), 0);
}

static void refused(const char *name) {
	check_eq(name, vmx_l2_run(), REFUSED);
	check_eq(name_of("%s: error", name), vmread(VMCS(instruction_error)), 7);
}

static void set_proc(u64 bits, bool on) {
	u64 proc = vmread(VMCS(proc_controls));

	vmwrite(VMCS(proc_controls), on ? proc | bits : proc & ~bits);
}

/* ---- a TPR shadow ---- */

/* RSI into CR8, then out of it. */
extern const char code_cr8[], code_cr8_written[];
__asm__(".pushsection .text\n"
	"code_cr8: mov %rsi, %cr8\n"
	"code_cr8_written: mov %cr8, %rax\n"
	"vmcall\n"
	".popsection");

static u64 run_cr8(u64 value) {
	vmx_regs()->rsi = value;
	return vmx_l2_run();
}

static void test_tpr(void) {
	write_cr8(3);
	prepare(code_cr8, 0);
	check_eq("MOV to CR8 does not exit", run_cr8(5), REASON_VMCALL);
	check_eq("CR8 as L2 reads it", vmx_regs()->rax, 5);
	check_eq("VTPR", *reg(LAPIC_TPR), 0x50);
	check_eq("CR8 of L1", read_cr8(), 3);
	*reg(LAPIC_TPR) = 0x70;
	vmx_l2_restart(code_cr8_written);
	check_eq("CR8 as L1 has written it", vmx_l2_result(), 7);
	set_proc(PROC_CR8_LOAD, true);
	vmx_l2_restart(code_cr8);
	check_eq("MOV to CR8 exits", run_cr8(2), REASON_CR);
	check_eq("its qualification", vmread(VMCS(qualification)), 8 | 6 << 8);
	check_eq("VTPR stays", *reg(LAPIC_TPR), 0x70);
	set_proc(PROC_CR8_LOAD, false);
	set_proc(PROC_CR8_STORE, true);
	check_eq("MOV from CR8 exits, MOV to CR8 does not", run_cr8(2), REASON_CR);
	check_eq("its qualification, too", vmread(VMCS(qualification)), 8 | 1 << 4);
	check_eq("VTPR changes", *reg(LAPIC_TPR), 0x20);
	set_proc(PROC_CR8_STORE | PROC_TPR_SHADOW, false);
	vmx_l2_restart(code_cr8);
	check_eq("without a shadow", run_cr8(4), REASON_VMCALL);
	check_eq("L2 has L1's CR8", read_cr8(), 4);
	check_eq("and VTPR stays", *reg(LAPIC_TPR), 0x20);
	write_cr8(0);
}

static void test_threshold(void) {
	prepare(code_cr8, 0);
	*reg(LAPIC_TPR) = 0x80;
	vmwrite(VMCS(tpr_threshold), 8);
	check_eq("a threshold that VTPR does not fall below", run_cr8(9), REASON_VMCALL);
	vmx_l2_restart(code_cr8);
	check_eq("the threshold itself", run_cr8(8), REASON_VMCALL);
	vmx_l2_restart(code_cr8);
	check_eq("below it", run_cr8(7), REASON_TPR);
	check_eq("behind the instruction", vmread(VMCS(guest_rip)), (u64)code_cr8_written);
	check_eq("its qualification", vmread(VMCS(qualification)), 0);
	check_eq("VTPR", *reg(LAPIC_TPR), 0x70);
	/* L1 has not executed VMWRITE since. */
	refused("the entry with VTPR below the threshold");
	*reg(LAPIC_TPR) = 0x8f;
	check_eq("and when it has risen again", vmx_l2_run(), REASON_VMCALL);
	vmwrite(VMCS(tpr_threshold), 0x18);
	refused("bits 31:4 of the threshold");
	vmwrite(VMCS(tpr_threshold), 9);
	refused("a threshold above VTPR");
}

static void test_places(void) {
	const u64 places[] = {LAPIC_BASE,
			      IOAPIC_BASE,
			      HOLE,
			      ram_top(),
			      0xff000,
			      0xb8000,
			      BIT(phys_bits) - PAGE_SIZE};
	u64 last = ram_top() - PAGE_SIZE;

	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		prepare(code_cr8, 0);
		vmwrite(VMCS(virtual_apic), places[i]);
		check_eq(name_of("a virtual APIC at 0x%lx, which is no RAM", places[i]), run_cr8(6),
			 REASON_VMCALL);
		prepare(code_cr8, 0);
		vmwrite(VMCS(virtual_apic), places[i]);
		vmwrite(VMCS(tpr_threshold), 9);
		u64 end = run_cr8(1);
		check(name_of("the same with a threshold: 0x%lx", end),
		      end == REASON_TPR || end == REFUSED || end >> 31 == 1);
	}
	prepare(code_cr8, 0);
	vmwrite(VMCS(virtual_apic), last);
	check_eq("a virtual APIC in the last page", run_cr8(6), REASON_VMCALL);
	check_eq("it is there", *(u32 *)(last + LAPIC_TPR), 0x60);
	vmwrite(VMCS(virtual_apic), (u64)vapic + 8);
	refused("a virtual APIC that is not at a page");
	vmwrite(VMCS(virtual_apic), BIT(phys_bits));
	refused("a virtual APIC beyond memory");
	prepare(code_cr8, PROC2_APIC_ACCESS);
	vmwrite(VMCS(apic_access), (u64)access + 8);
	refused("an APIC-access page that is none");
	vmwrite(VMCS(apic_access), BIT(phys_bits));
	refused("an APIC-access page beyond memory");
}

static void test_rules(void) {
	static const u64 need_shadow[] = {PROC2_X2APIC, PROC2_APIC_REGS, PROC2_VID};

	for (unsigned i = 0; i < ARRAY_SIZE(need_shadow); i++) {
		prepare(code_cr8, need_shadow[i]);
		set_proc(PROC_TPR_SHADOW, false);
		refused(name_of("control 0x%lx without a TPR shadow", need_shadow[i]));
	}
	prepare(code_cr8, PROC2_X2APIC | PROC2_APIC_ACCESS);
	refused("x2APIC mode with APIC accesses");
	prepare(code_cr8, PROC2_VID);
	vmwrite(VMCS(pin_controls), vmread(VMCS(pin_controls)) & ~PIN_INTERRUPT);
	refused("virtual interrupts without exits of interrupts");
}

/* ---- x2APIC mode ---- */

extern const char code_rdmsr[], code_wrmsr[];
__asm__(".pushsection .text\n"
	"code_wrmsr: wrmsr\n"
	"code_rdmsr: rdmsr\n"
	"vmcall\n"
	".popsection");

/* RDMSR of an L2 that begins there, or WRMSR and then RDMSR of VTPR. Faults exit. */
static u64 run_msr(u64 proc2, u32 msr, bool write, u64 value, u32 map_bit) {
	prepare(write ? code_wrmsr : code_rdmsr, proc2);
	for (u32 at = 0; at < 0x400; at += 16) *reg(at) = 0x1000 + at;
	*reg(LAPIC_TPR) = 0x90;
	*reg(LAPIC_ISR) = 0;
	vmwrite(VMCS(exception_bitmap), BIT(X86_GP));
	if (map_bit) msr_map[map_bit / 8] |= (u8)(1u << map_bit % 8);
	vmx_regs()->rcx = msr;
	vmx_regs()->rax = (u32)value;
	vmx_regs()->rdx = value >> 32;
	u64 reason = vmx_l2_run();
	/* The RDMSR behind a WRMSR is of no interest. */
	if (write && vmread(VMCS(guest_rip)) == (u64)code_rdmsr && reason == REASON_EXCEPTION)
		reason = REASON_VMCALL;
	return reason;
}

/* All MSRs of the range but `but` are L1's own, which is not in x2APIC mode: #GP. */
static void others_fault(const char *name, u64 proc2, bool write, const u8 *but, unsigned count) {
	unsigned odd = 0;

	for (u32 i = 0; i < 0x100; i++) {
		bool skipped = false;

		for (unsigned n = 0; n < count; n++) skipped |= but[n] == i;
		if (skipped) continue;
		if (run_msr(proc2, X2APIC + i, write, 0, 0) != REASON_EXCEPTION) odd++;
	}
	check_eq(name, odd, 0);
}

static void test_x2apic(void) {
	static const u8 tpr[] = {8}, writes[] = {0x08, 0x0b, 0x3f};

	lapic_write(LAPIC_TPR, 0x20);
	check_eq("x2APIC, WRMSR of TPR", run_msr(PROC2_X2APIC, X2APIC + 8, true, 0x60, 0),
		 REASON_VMCALL);
	check_eq("x2APIC, RDMSR of TPR", vmx_regs()->rax, 0x60);
	check_eq("x2APIC, VTPR", *reg(LAPIC_TPR), 0x60);
	check_eq("x2APIC, TPR of L1", lapic_read(LAPIC_TPR), 0x20);
	check_eq("x2APIC, TPR with reserved bits",
		 run_msr(PROC2_X2APIC, X2APIC + 8, true, 0x100, 0), REASON_EXCEPTION);
	check_eq("x2APIC, RDMSR of TPR that L1 wants",
		 run_msr(PROC2_X2APIC, X2APIC + 8, false, 0, X2APIC + 8), REASON_RDMSR);
	check_eq("x2APIC, WRMSR of TPR that L1 wants",
		 run_msr(PROC2_X2APIC, X2APIC + 8, true, 0, X2APIC + 8 + 0x4000), REASON_WRMSR);
	others_fault("x2APIC, other reads", PROC2_X2APIC, false, tpr, 1);
	others_fault("x2APIC, other writes", PROC2_X2APIC, true, tpr, 1);
	prepare(code_wrmsr, PROC2_X2APIC);
	*reg(LAPIC_TPR) = 0x80;
	vmwrite(VMCS(tpr_threshold), 8);
	vmx_regs()->rcx = X2APIC + 8;
	vmx_regs()->rax = 0x7f;
	vmx_regs()->rdx = 0;
	check_eq("x2APIC, TPR below the threshold", vmx_l2_run(), REASON_TPR);
	check_eq("x2APIC, no mode without the control", run_msr(0, X2APIC + 8, false, 0, 0),
		 REASON_EXCEPTION);

	if (!vmx_can(VMX_MSR_PROC2, PROC2_APIC_REGS)) {
		skip("APIC registers", "not offered");
	} else {
		u64 both = PROC2_X2APIC | PROC2_APIC_REGS;
		unsigned odd = 0;

		for (u32 i = 0; i < 0x40; i++) {
			u64 end = run_msr(both, X2APIC + i, false, 0, 0);

			if (end != REASON_VMCALL || (u32)vmx_regs()->rax != *reg(i * 16)) odd++;
		}
		check_eq("registers, reads that differ from the page", odd, 0);
		check_eq("registers, a read that L1 wants",
			 run_msr(both, X2APIC + 3, false, 0, X2APIC + 3), REASON_RDMSR);
		others_fault("registers, writes", both, true, tpr, 1);
		check_eq("registers, none without the mode",
			 run_msr(PROC2_APIC_REGS, X2APIC + 3, false, 0, 0), REASON_EXCEPTION);
	}
	if (vmx_can(VMX_MSR_PROC2, PROC2_VID))
		others_fault("virtual interrupts, other writes", PROC2_X2APIC | PROC2_VID, true,
			     writes, 3);
	lapic_write(LAPIC_TPR, 0);
}

/* ---- virtual interrupts ---- */

static volatile u64 taken, taken_vector;

static void on_vector(struct regs *regs) {
	taken++;
	taken_vector = regs->vector;
}

/* A guest that takes interrupts, in x2APIC mode: EOI, TPR and self-IPI are MSRs. */
extern const char code_open[], code_lower[], code_end[], code_self[], code_sleep[];
__asm__(".pushsection .text\n"
	"code_open: sti; nop; nop; cli; vmcall\n"
	"code_lower: mov $0x808, %ecx; xor %edx, %edx; mov $0x10, %eax\n"
	"sti; nop; wrmsr; nop; nop; cli; vmcall\n"
	"code_end: mov $0x80b, %ecx; xor %edx, %edx; xor %eax, %eax; wrmsr; nop; vmcall\n"
	"code_self: mov $0x83f, %ecx; xor %edx, %edx; mov %rsi, %rax\n"
	"sti; nop; wrmsr; nop; nop; cli; vmcall\n"
	"code_sleep: sti; hlt; cli; vmcall\n"
	".popsection");

#define MODE (PROC2_X2APIC | PROC2_VID)

static void prepare_waiting(const void *code, u8 vector) {
	prepare(code, MODE);
	set_proc(PROC_HLT, false);
	taken = taken_vector = 0;
	set_vector(LAPIC_IRR, vector);
	vmwrite(VMCS(guest_interrupt_status), vector);
}

static void has_taken(const char *name, u8 vector) {
	check_eq(name, vmx_l2_run(), REASON_VMCALL);
	check_eq(name_of("%s: taken", name), taken, 1);
	check_eq(name_of("%s: the vector", name), taken_vector, vector);
	check_eq(name_of("%s: status", name), vmread(VMCS(guest_interrupt_status)),
		 (u64)vector << 8);
	check(name_of("%s: in service", name), has_vector(LAPIC_ISR, vector));
	check(name_of("%s: no longer waiting", name), !has_vector(LAPIC_IRR, vector));
}

static void test_virtual_interrupts(void) {
	if (!vmx_can(VMX_MSR_PROC2, MODE)) {
		skip("virtual interrupts", "not offered");
		return;
	}
	trap_set_handler(VECTOR, on_vector);
	trap_set_handler(0x66, on_vector);
	/* Injected, so that EPT leads to the stack and the handler before the processor delivers
	 * anything: Bochs 2.7 tells of another event when that ends in an exit. */
	prepare(code_open, MODE);
	vmwrite(VMCS(guest_rflags), X86_RFLAGS_FIXED | X86_RFLAGS_IF);
	vmwrite(VMCS(entry_event), EVENT_VALID | VECTOR);
	check_eq("an injected interrupt", vmx_l2_run(), REASON_VMCALL);
	prepare_waiting(code_open, VECTOR);
	has_taken("a virtual interrupt", VECTOR);
	check(name_of("it is not L1's"), !lapic_bit(LAPIC_ISR, VECTOR));
	/* Its end, which L1 does not want to know of. */
	vmx_l2_restart(code_end);
	check_eq("EOI", vmx_l2_run(), REASON_VMCALL);
	check("EOI: out of service", !has_vector(LAPIC_ISR, VECTOR));
	check_eq("EOI: status", vmread(VMCS(guest_interrupt_status)), 0);
	/* And one that it does. */
	prepare_waiting(code_open, VECTOR);
	vmwrite(VMCS_AT(eoi_exits, VECTOR / 64), BIT(VECTOR % 64));
	has_taken("a second one", VECTOR);
	vmx_l2_restart(code_end);
	check_eq("its EOI exits", vmx_l2_run(), REASON_EOI);
	check_eq("its qualification", vmread(VMCS(qualification)), VECTOR);
	check("behind the instruction", !has_vector(LAPIC_ISR, VECTOR));
	check_eq("and goes on", vmx_l2_run(), REASON_VMCALL);

	prepare_waiting(code_open, VECTOR);
	*reg(LAPIC_TPR) = 0x60;
	check_eq("a TPR above it", vmx_l2_run(), REASON_VMCALL);
	check_eq("a TPR above it: not taken", taken, 0);
	vmx_l2_restart(code_lower);
	has_taken("and when TPR sinks", VECTOR);

	prepare(code_self, MODE);
	taken = 0;
	vmx_regs()->rsi = 0x66;
	has_taken("an interrupt to itself", 0x66);
	prepare(code_self, MODE);
	vmx_regs()->rsi = 0x5;
	check_eq("a bad vector to itself", vmx_l2_run(), REASON_APIC_WRITE);
	check_eq("its offset", vmread(VMCS(qualification)), LAPIC_SELF_IPI);

	prepare_waiting(code_sleep, VECTOR);
	has_taken("HLT", VECTOR);
	prepare_waiting(code_open, VECTOR);
	vmwrite(VMCS(guest_activity), 1);
	vmwrite(VMCS(guest_rflags), X86_RFLAGS_FIXED | X86_RFLAGS_IF);
	has_taken("an entry into HLT", VECTOR);
	/* One window comes first, and what waits is still there behind it. */
	prepare_waiting(code_open, VECTOR);
	set_proc(PROC_INTERRUPT_WINDOW, true);
	check_eq("the interrupt window", vmx_l2_run(), REASON_INTERRUPT_WINDOW);
	check_eq("the interrupt window: not taken", taken, 0);
	check_eq("its status", vmread(VMCS(guest_interrupt_status)), VECTOR);
	set_proc(PROC_INTERRUPT_WINDOW, false);
	has_taken("behind the window", VECTOR);
}

/* ---- the APIC-access page ---- */

/* Reads or writes 32 bits at RDI. */
extern const char code_load[], code_store[], code_stored[];
__asm__(".pushsection .text\n"
	"code_load: mov (%rdi), %eax; vmcall\n"
	"code_store: mov %esi, (%rdi)\n"
	"code_stored: vmcall\n"
	".popsection");

static u64 at; /* where L2 has its registers */

static u64 run_access(u64 proc2, bool shadow, u32 offset, bool write, u32 value) {
	prepare(write ? code_store : code_load, PROC2_APIC_ACCESS | proc2);
	set_proc(PROC_TPR_SHADOW, shadow);
	for (u32 i = 0; i < 0x400; i += 16) *reg(i) = 0x1000 + i;
	*reg(LAPIC_TPR) = 0x90;
	vmx_regs()->rdi = at + offset;
	vmx_regs()->rsi = value;
	return vmx_l2_run();
}

static void exits(const char *name, u64 proc2, bool shadow, u32 offset, bool write) {
	check_eq(name, run_access(proc2, shadow, offset, write, 1), REASON_APIC_ACCESS);
	check_eq(name_of("%s: qualification", name), vmread(VMCS(qualification)),
		 offset | (write ? BIT(12) : 0));
	check_eq(name_of("%s: before the instruction", name), vmread(VMCS(guest_rip)),
		 (u64)(write ? code_store : code_load));
}

static void test_accesses(void) {
	exits("a read", 0, false, LAPIC_TPR, false);
	exits("a write", 0, false, LAPIC_ICR, true);
	check_eq("the page itself stays", access[LAPIC_ICR / 4], 0);
	check_eq("a shadow, reading TPR", run_access(0, true, LAPIC_TPR, false, 0), REASON_VMCALL);
	check_eq("a shadow, TPR", vmx_regs()->rax, 0x90);
	check_eq("a shadow, writing TPR", run_access(0, true, LAPIC_TPR, true, 0x30),
		 REASON_VMCALL);
	check_eq("a shadow, VTPR", *reg(LAPIC_TPR), 0x30);
	exits("a shadow, reading ID", 0, true, LAPIC_ID, false);
	exits("a shadow, writing ICR", 0, true, LAPIC_ICR, true);
	prepare(code_load, PROC2_APIC_ACCESS);
	*reg(LAPIC_TPR) = 0x40;
	vmwrite(VMCS(tpr_threshold), 5);
	check_eq("a threshold that is passed at the entry", vmx_l2_run(), REASON_TPR);
	check_eq("before any instruction", vmread(VMCS(guest_rip)), (u64)code_load);
	vmwrite(VMCS(tpr_threshold), 4);
	vmx_regs()->rdi = at + LAPIC_TPR;
	check_eq("one that is not", vmx_l2_result(), 0x40);

	if (vmx_can(VMX_MSR_PROC2, PROC2_APIC_REGS)) {
		check_eq("registers, reading",
			 run_access(PROC2_APIC_REGS, true, LAPIC_ID, false, 0), REASON_VMCALL);
		check_eq("registers, ID", vmx_regs()->rax, 0x1000 + LAPIC_ID);
		check_eq("registers, writing",
			 run_access(PROC2_APIC_REGS, true, LAPIC_LVT_LINT0, true, 0x10700),
			 REASON_APIC_WRITE);
		check_eq("registers, its offset", vmread(VMCS(qualification)), LAPIC_LVT_LINT0);
		check_eq("registers, behind the instruction", vmread(VMCS(guest_rip)),
			 (u64)code_stored);
		check_eq("registers, the value", *reg(LAPIC_LVT_LINT0), 0x10700);
		exits("registers, the timer's count", PROC2_APIC_REGS, true, LAPIC_TIMER_NOW,
		      false);
	}
	if (vmx_can(VMX_MSR_PROC2, PROC2_VID)) {
		prepare(code_store, PROC2_APIC_ACCESS | PROC2_VID);
		set_vector(LAPIC_ISR, VECTOR);
		vmwrite(VMCS(guest_interrupt_status), VECTOR << 8);
		vmwrite(VMCS_AT(eoi_exits, VECTOR / 64), BIT(VECTOR % 64));
		vmx_regs()->rdi = at + LAPIC_EOI;
		check_eq("virtual interrupts, EOI", vmx_l2_run(), REASON_EOI);
		check_eq("virtual interrupts, its vector", vmread(VMCS(qualification)), VECTOR);
		check("virtual interrupts, out of service", !has_vector(LAPIC_ISR, VECTOR));
	}
	check_eq("the page has not been touched", access[LAPIC_TPR / 4] | access[LAPIC_EOI / 4], 0);
}

/* Without the control the page is memory; one that is none exits all the same. */
static void test_access_places(void) {
	static const u64 places[] = {HOLE, LAPIC_BASE, IOAPIC_BASE};

	prepare(code_store, 0);
	vmx_regs()->rdi = at + LAPIC_ICR;
	vmx_regs()->rsi = 0x1234;
	check_eq("the page without the control", vmx_l2_run(), REASON_VMCALL);
	check_eq("it is memory", access[LAPIC_ICR / 4], 0x1234);
	access[LAPIC_ICR / 4] = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
		for (unsigned write = 0; write < 2; write++) {
			prepare(write ? code_store : code_load, PROC2_APIC_ACCESS);
			vmwrite(VMCS(apic_access), places[i]);
			/* With EPT, a device's address that L1 hands on. */
			vmx_regs()->rdi = places[i] + 0x120;
			check_eq(name_of("access %u to 0x%lx, which is no RAM", write, places[i]),
				 vmx_l2_run(), REASON_APIC_ACCESS);
			check_eq("its qualification", vmread(VMCS(qualification)),
				 0x120 | write << 12);
		}
}

/* An L2 with a virtual APIC of its own to which L1 leaves its local APIC as well. */
static void test_apic_of_l1(void) {
	u32 version = lapic_read(LAPIC_VERSION);

	for (unsigned i = 0; i < 2; i++) {
		lapic_write(LAPIC_TPR, 0x20);
		prepare(code_load, i ? PROC2_APIC_ACCESS : 0);
		vmx_regs()->rdi = LAPIC_BASE + LAPIC_VERSION;
		check_eq(name_of("L1's local APIC, %u", i), vmx_l2_result() & UINT32_MAX, version);
		vmx_l2_restart(code_load);
		vmx_regs()->rdi = LAPIC_BASE + LAPIC_TPR;
		check_eq(name_of("its TPR, %u", i), vmx_l2_result() & UINT32_MAX, 0x20);
		vmx_l2_restart(code_store);
		vmx_regs()->rsi = 0x50;
		check_eq(name_of("a write there, %u", i), vmx_l2_run(), REASON_VMCALL);
		check_eq(name_of("L1 sees it, %u", i), lapic_read(LAPIC_TPR), 0x50);
		check_eq(name_of("VTPR is another, %u", i), *reg(LAPIC_TPR), 0);
	}
	lapic_write(LAPIC_TPR, 0);
}

/* Of an L1 in that mode, L2's MSRs are those of its virtual APIC, or L1's own. */
static void test_x2apic_of_l1(void) {
	lapic_enter_x2apic();
	lapic_write(LAPIC_TPR, 0x30);
	check_eq("L1 in x2APIC mode, TPR of L2", run_msr(PROC2_X2APIC, X2APIC + 8, false, 0, 0),
		 REASON_VMCALL);
	check_eq("L1 in x2APIC mode, its value", vmx_regs()->rax, 0x90);
	check_eq("L1 in x2APIC mode, the version", run_msr(PROC2_X2APIC, X2APIC + 3, false, 0, 0),
		 REASON_VMCALL);
	check_eq("L1 in x2APIC mode, which is L1's", vmx_regs()->rax, lapic_read(LAPIC_VERSION));
	check_eq("L1 in x2APIC mode, without the control", run_msr(0, X2APIC + 8, false, 0, 0),
		 REASON_VMCALL);
	check_eq("L1 in x2APIC mode, L1's TPR", vmx_regs()->rax, 0x30);
	check_eq("L1 in x2APIC mode, writing it", run_msr(0, X2APIC + 8, true, 0x40, 0),
		 REASON_VMCALL);
	check_eq("L1 in x2APIC mode, what L1 has", lapic_read(LAPIC_TPR), 0x40);
	check_eq("L1 in x2APIC mode, what VTPR is", *reg(LAPIC_TPR), 0x90);
	lapic_write(LAPIC_TPR, 0);
}

static void test_all(void) {
	at = (u64)access;
	test_tpr();
	test_threshold();
	test_places();
	if (vmx_can(VMX_MSR_PROC2, PROC2_X2APIC)) test_x2apic();
	test_virtual_interrupts();
	if (!vmx_can(VMX_MSR_PROC2, PROC2_APIC_ACCESS)) return;
	test_rules();
	test_accesses();
	test_access_places();
	test_apic_of_l1();
	if (!with_ept) return;
	/* Where a processor has it after reset, which is L1's page by L1's tables. */
	at = HOLE + MiB(32);
	*page_entry_in(root, at, 1) = (u64)access | EPT_PAGE;
	vmx_invept(2, 0);
	test_accesses();
}

void test_main(void) {
	u32 r[4];

	if (!vmx_init()) return;
	cpuid(0x80000008, 0, r);
	phys_bits = r[0] & 0xff;
	lapic_init();
	if (!check("a TPR shadow is offered", vmx_can(VMX_MSR_TRUE_PIN + 1, PROC_TPR_SHADOW)))
		return;
	test_all();
	if (!vmx_can(VMX_MSR_PROC2, PROC2_EPT)) {
		skip("EPT", "not offered");
		return;
	}
	print("# with EPT\n");
	with_ept = true;
	root = ept_new();
	test_all();
	if (lapic_has_x2apic() && vmx_can(VMX_MSR_PROC2, PROC2_X2APIC)) test_x2apic_of_l1();
}
