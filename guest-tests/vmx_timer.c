/*
 * What ends an L2's run by itself: the preemption timer (SDM 3C 25.5.1) and the monitor trap flag
 * (25.5.2).
 *
 * vm: machine=intel
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/trap.h"
#include "guest-tests/lib/vmx.h"

const char test_name[] = "vmx_timer";

#define VECTOR	   0x55
#define SLACK	   400000ul /* ticks of the TSC; Roost's own timer ends L2's run each millisecond */
#define REASON_MTF 37
#define HLT_NOW	   1

extern const char code_spin[], code_ports[], code_end[], code_hlt[], code_hlt_end[], code_in[],
	code_in_end[];
__asm__(".pushsection .text\n"
	"code_spin: jmp code_spin\n"
	"code_ports: in $0x80, %al\n" /* Roost's to answer: L1 does not ask for it */
	"jmp code_ports\n"
	"code_hlt: hlt\n"
	"code_hlt_end: jmp code_spin\n"
	"code_in: in $0x80, %al\n"
	"code_in_end: nop\n"
	"code_end: vmcall\n"
	".popsection");

static unsigned shift;
static volatile u64 events;

static void prepare(const char *code, u64 ticks, bool save) {
	vmx_l2_new(code);
	vmwrite(VMCS(pin_controls), vmread(VMCS(pin_controls)) | PIN_TICK);
	if (save) vmwrite(VMCS(exit_controls), vmread(VMCS(exit_controls)) | EXIT_SAVE_TICK);
	vmwrite(VMCS(tick), ticks);
}

static void expires(const char *name, const char *code, u64 ticks) {
	prepare(code, ticks, true);
	vmwrite(VMCS(proc_controls), vmread(VMCS(proc_controls)) & ~PROC_HLT);
	u64 start = rdtsc();
	check_eq(name, vmx_l2_run(), REASON_TICK);
	check_range(name_of("%s: time in ticks of the TSC", name), rdtsc() - start, ticks << shift,
		    (ticks << shift) + SLACK);
	check_eq(name_of("%s: what is saved", name), vmread(VMCS(tick)), 0);
	check_eq(name_of("%s: no event", name), vmread(VMCS(exit_event)) & EVENT_VALID, 0);
}

static void test_expiry(void) {
	expires("a loop", code_spin, 20000);
	expires("a loop, longer than Roost's own tick", code_spin, 3000000);
	expires("a loop of exits that L1 knows nothing of", code_ports, 100000);
	prepare(code_spin, 100000, false);
	u64 start = rdtsc();
	vmx_l2_run();
	check_range("a loop, to the point", rdtsc() - start, 100000ul << shift,
		    (100000ul << shift) + 40000);
	expires("0 ticks", code_spin, 0);
	check_eq("0 ticks: no instruction was executed", vmread(VMCS(guest_rip)), (u64)code_spin);
	expires("HLT", code_hlt, 2500000);
	check_eq("HLT: it is still in it", vmread(VMCS(guest_activity)), HLT_NOW);
	check_eq("HLT: behind it", vmread(VMCS(guest_rip)), (u64)code_hlt_end);
	check_eq("HLT: again by the activity state", ({
			 vmwrite(VMCS(tick), 50000);
			 vmx_l2_run();
		 }),
		 REASON_TICK);
	check_eq("and still in it", vmread(VMCS(guest_activity)), HLT_NOW);
	vmwrite(VMCS(guest_activity), 0);
	vmwrite(VMCS(guest_rip), (u64)code_end);
	vmwrite(VMCS(tick), 1000000);
	check_eq("active again, it goes on", vmx_l2_run(), REASON_VMCALL);
	check_eq("and is active", vmread(VMCS(guest_activity)), 0);
}

static void test_saved(void) {
	prepare(code_end, 1000000, true);
	check_eq("VMCALL before the time is over", vmx_l2_run(), REASON_VMCALL);
	check_range("what is saved is less", vmread(VMCS(tick)), 1000000 - (SLACK >> shift),
		    1000000 - 1);
	prepare(code_end, 1000000, false);
	vmx_l2_run();
	check_eq("without the control nothing is saved", vmread(VMCS(tick)), 1000000);
	vmx_l2_new(code_end);
	vmwrite(VMCS(tick), 0);
	check_eq("without the timer 0 means nothing", vmx_l2_run(), REASON_VMCALL);
	vmx_l2_new(code_end);
	vmwrite(VMCS(exit_controls), vmread(VMCS(exit_controls)) | EXIT_SAVE_TICK);
	check_eq("saved, but not there", vmx_l2_run(), VM_FAILED | VM_FAIL);
	check_eq("its error", vmread(VMCS(instruction_error)), 7);
}

static void count_event(struct regs *regs) {
	(void)regs;
	events++;
}

static void on_irq(struct regs *regs) {
	count_event(regs);
	lapic_eoi();
}

/* What is injected comes before the timer, a physical interrupt when its time has come. */
static void test_order(void) {
	events = 0;
	trap_set_handler(VECTOR, count_event);
	prepare(code_spin, 0, false);
	vmwrite(VMCS(guest_rflags), X86_RFLAGS_FIXED | X86_RFLAGS_IF);
	vmwrite(VMCS(entry_event), EVENT_VALID | VECTOR);
	check_eq("0 ticks and an event", vmx_l2_run(), REASON_TICK);
	check("the event is being delivered", vmread(VMCS(guest_rip)) != (u64)code_spin);
	check_eq("it is not there any more", vmread(VMCS(entry_event)) & EVENT_VALID, 0);
	vmwrite(VMCS(pin_controls), vmread(VMCS(pin_controls)) & ~PIN_TICK);
	vmwrite(VMCS(guest_activity), 0);
	trap_set_handler(VECTOR, on_irq);
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
	lapic_write(LAPIC_LVT_TIMER, VECTOR);
	for (unsigned hlt = 0; hlt < 2; hlt++) {
		events = 0;
		prepare(hlt ? code_hlt : code_spin, 50000000, true);
		vmwrite(VMCS(proc_controls), vmread(VMCS(proc_controls)) & ~PROC_HLT);
		vmwrite(VMCS(guest_rflags), X86_RFLAGS_FIXED | X86_RFLAGS_IF);
		lapic_write(LAPIC_TIMER_INIT, 300000);
		check_eq(name_of("a physical interrupt comes first, HLT %u", hlt), vmx_l2_run(),
			 REASON_INTERRUPT);
		check_eq("activity state", vmread(VMCS(guest_activity)), hlt);
		__asm__ volatile("sti; nop; cli" : : : "memory");
		check_eq("L1 has it", events, 1);
	}
}

/* Bochs 2.7 has the flag on some processors, but does nothing behind an instruction. */
static void test_trap_flag(void) {
	u64 other = EVENT_VALID | EVENT_TYPE_OTHER << EVENT_TYPE_SHIFT;
	bool can = vmx_can(VMX_MSR_PIN + 1, PROC_MTF);

	vmx_l2_new(code_end);
	vmwrite(VMCS(entry_event), other);
	check_eq("a pending trap flag", vmx_l2_run(), can ? REASON_MTF : (VM_FAILED | VM_FAIL));
	if (!can) {
		skip("the monitor trap flag", "not offered");
		return;
	}
	check_eq("no instruction was executed", vmread(VMCS(guest_rip)), (u64)code_end);
	vmx_l2_new(code_in);
	vmwrite(VMCS(proc_controls), vmread(VMCS(proc_controls)) | PROC_MTF);
	check_eq("behind an instruction that Roost carries out", vmx_l2_run(), REASON_MTF);
	check_eq("right behind it", vmread(VMCS(guest_rip)), (u64)code_in_end);
	check_eq("no event", vmread(VMCS(exit_event)) & EVENT_VALID, 0);
}

void test_main(void) {
	if (!vmx_init()) return;
	lapic_init();
	pic_init(0x20);
	test_trap_flag();
	if (!vmx_can(VMX_MSR_PIN, PIN_TICK)) {
		skip("the preemption timer", "not offered");
		return;
	}
	shift = MISC_TICK_SHIFT(rdmsr(VMX_MSR_MISC));
	test_expiry();
	test_saved();
	test_order();
}
