/*
 * What EPT has beside mappings: the page-modification log (SDM 3C 28.3.6), and EPT pointers that L2
 * switches by itself (25.5.5).
 *
 * vm: machine=intel
 */
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"
#include "guest-tests/lib/vmx.h"

const char test_name[] = "vmx_ept";

#define PAGES	     8u
#define LAST	     511u
#define EPT_ACCESSED BIT(8)
#define EPT_DIRTY    BIT(9)
#define FLAGS	     (EPT_ACCESSED | EPT_DIRTY)
#define VECTOR	     0x55

#define HOLE	     0xd0000000ul /* in L1's memory: nothing */

extern const char code_write[], code_read[], code_in[], code_end[], code_func[], code_func_end[],
	code_loop[];
__asm__(".pushsection .text\n"
	"code_write: movb $1, (%rdi); add $4096, %rdi; dec %ecx; jnz code_write\n"
	"jmp code_end\n"
	"code_read: mov (%rdi), %al\n"
	"jmp code_end\n"
	"code_in: mov $0x80, %edx; rep insb\n" /* Roost's to carry out: L1 does not ask for it */
	"code_end: vmcall\n"
	"code_func: .byte 0x0f, 0x01, 0xd4\n" /* VMFUNC */
	"code_func_end: mov (%rdi), %rax\n"
	"jmp code_end\n"
	"code_loop: xor %eax, %eax\n"
	".byte 0x0f, 0x01, 0xd4\n"
	"add (%rdi), %rbx; xor $1, %ecx; dec %edx; jnz code_loop\n"
	"jmp code_end\n"
	".popsection");

static u8 pages[PAGES][PAGE_SIZE] __aligned(4096);
static u64 dirty_log[512] __aligned(4096);
static u64 root, *entries[PAGES];
static volatile u64 events;

/* L1 has seen all that is dirty. */
static void clear_flags(void) {
	for (unsigned i = 0; i < PAGES; i++) *entries[i] &= ~FLAGS;
	memset(dirty_log, 0xee, sizeof(dirty_log));
	vmx_invept(1, ept_pointer(root));
}

/* L2 begins anew with this page in RDI, a count in RCX, and so many free entries, less one. */
static void prepare(const char *code, unsigned first, u64 count, u64 index) {
	vmx_l2_restart(code);
	vmx_regs()->rdi = (u64)pages[first];
	vmx_regs()->rcx = count;
	vmwrite(VMCS(pml_index), index);
}

/* The log has these pages from an index on, downwards, and nothing behind them. */
static void logged(const char *name, u64 index, unsigned first, unsigned count) {
	for (unsigned i = 0; i < count; i++)
		check_eq(name_of("%s: entry %lu", name, index - i), dirty_log[index - i],
			 (u64)pages[first + i]);
	check_eq(name_of("%s: the index", name), vmread(VMCS(pml_index)), (u16)(index - count));
	if (index >= count)
		check_eq(name_of("%s: no more", name), dirty_log[index - count],
			 0xeeeeeeeeeeeeeeee);
}

static void log_full(const char *name, unsigned page) {
	check_eq(name, vmx_l2_run(), REASON_PML_FULL);
	check_eq(name_of("%s: which page", name), vmx_regs()->rdi & PAGE_MASK, (u64)pages[page]);
	check_eq(name_of("%s: its flags", name), *entries[page] & FLAGS, 0);
	check_eq(name_of("%s: qualification", name), vmread(VMCS(qualification)), 0);
}

static void new_l2(u64 ad) {
	vmx_l2_new(code_write);
	vmx_l2_use_ept(root);
	vmx_l2_add(PROC2_PML);
	vmwrite(VMCS(eptp), ept_pointer(root) | ad);
	vmwrite(VMCS(pml_address), (u64)dirty_log);
	vmx_invept(2, 0);
}

static void test_writes(void) {
	new_l2(EPTP_AD);
	prepare(code_write, 0, PAGES, LAST);
	vmx_l2_result(); /* L2's own page tables are dirty now */
	clear_flags();
	prepare(code_write, 0, PAGES, LAST);
	vmx_l2_result();
	logged("all pages", LAST, 0, PAGES);
	prepare(code_write, 0, PAGES, LAST);
	vmx_l2_result();
	check_eq("dirty already", vmread(VMCS(pml_index)), LAST);
	clear_flags();
	prepare(code_read, 1, 0, LAST);
	vmx_l2_result();
	check_eq("a read", *entries[1] & FLAGS, EPT_ACCESSED);
	logged("a read", LAST, 1, 0);
	clear_flags();
	prepare(code_in, 2, 2 * PAGE_SIZE + 1, LAST);
	vmx_l2_result();
	logged("three pages that Roost writes", LAST, 2, 3);
}

static void test_full(void) {
	new_l2(EPTP_AD);
	clear_flags();
	prepare(code_write, 0, PAGES, 2);
	log_full("three entries", 3);
	check_eq("it is the write", vmread(VMCS(guest_rip)), (u64)code_write);
	logged("three entries", 2, 0, 3);
	vmwrite(VMCS(pml_index), LAST);
	check_eq("with room it goes on", vmx_l2_run(), REASON_VMCALL);
	logged("the others", LAST, 3, PAGES - 3);
	prepare(code_write, 0, PAGES, LAST + 1);
	check_eq("a full log of which nothing is wanted", vmx_l2_run(), REASON_VMCALL);
	clear_flags();
	prepare(code_write, 0, PAGES, LAST + 1);
	log_full("an index beyond the page", 0);
	prepare(code_in, 1, PAGE_SIZE, 0xffff);
	log_full("a write of Roost's", 1);
	vmwrite(VMCS(pml_index), LAST);
	check_eq("with room Roost goes on", vmx_l2_run(), REASON_VMCALL);
	logged("the page that Roost has written", LAST, 1, 1);
}

static void count_event(struct regs *regs) {
	(void)regs;
	events++;
}

static void prepare_event(u64 index) {
	prepare(code_end, 0, 0, index);
	vmwrite(VMCS(guest_rsp), (u64)pages[5] + PAGE_SIZE);
	vmwrite(VMCS(guest_rflags), X86_RFLAGS_FIXED | X86_RFLAGS_IF);
	vmwrite(VMCS(entry_event), EVENT_VALID | VECTOR);
}

/* What was being delivered is told, and L1 injects it again. */
static void test_delivery(void) {
	trap_set_handler(VECTOR, count_event);
	new_l2(EPTP_AD);
	prepare_event(LAST); /* what delivery reads has its flags */
	check_eq("an event", vmx_l2_run(), REASON_VMCALL);
	clear_flags();
	prepare_event(0xffff);
	events = 0;
	check_eq("an event with a full log", vmx_l2_run(), REASON_PML_FULL);
	check_eq("its stack", vmread(VMCS(guest_pa)) & PAGE_MASK, (u64)pages[5]);
	check_eq("it was being delivered", vmread(VMCS(vectoring_event)), EVENT_VALID | VECTOR);
	check_eq("its handler has not run", events, 0);
	vmwrite(VMCS(entry_event), vmread(VMCS(vectoring_event)));
	vmwrite(VMCS(pml_index), LAST);
	check_eq("injected again", vmx_l2_run(), REASON_VMCALL);
	check_eq("its handler has run", events, 1);
	check_eq("its stack is in the log", dirty_log[LAST], (u64)pages[5]);
}

static void refused(const char *name) {
	check_eq(name, vmx_l2_run(), VM_FAILED | VM_FAIL);
	check_eq(name_of("%s: error", name), vmread(VMCS(instruction_error)), 7);
}

static void test_off(void) {
	new_l2(0);
	prepare(code_write, 0, PAGES, 3);
	check_eq("without flags in EPT", vmx_l2_run(), REASON_VMCALL);
	check_eq("nothing is in the log", vmread(VMCS(pml_index)), 3);
	new_l2(EPTP_AD);
	clear_flags();
	vmwrite(VMCS(proc2_controls), PROC2_EPT);
	prepare(code_write, 0, PAGES, 3);
	check_eq("without the control", vmx_l2_run(), REASON_VMCALL);
	check_eq("nothing is in the log", vmread(VMCS(pml_index)), 3);
	new_l2(EPTP_AD);
	vmwrite(VMCS(pml_address), 0xfee00000); /* no RAM: what is written there is lost */
	clear_flags();
	prepare(code_write, 0, PAGES, LAST);
	check_eq("a log at a device", vmx_l2_run(), REASON_VMCALL);
	check_range("its index", vmread(VMCS(pml_index)), 0, LAST - PAGES);
	vmwrite(VMCS(proc2_controls), PROC2_PML);
	refused("a log without EPT");
	vmwrite(VMCS(proc2_controls), PROC2_PML | PROC2_EPT);
	vmwrite(VMCS(pml_address), (u64)dirty_log + 8);
	refused("a log not at a page");
}

/* ---- VM functions ---- */

static u64 list[512] __aligned(4096);

/* About to execute VMFUNC with these, in the first of the EPTs; RDI is at the first page. */
static void prepare_func(const char *code, u64 function, u64 entry) {
	vmx_l2_new(code);
	vmx_l2_use_ept(root);
	vmx_l2_add(PROC2_VMFUNC);
	vmwrite(VMCS(vm_functions), VMFUNC_EPTP);
	vmwrite(VMCS(eptp_list), (u64)list);
	vmx_regs()->rax = function;
	vmx_regs()->rcx = entry;
	vmx_regs()->rdi = (u64)pages[0];
}

static void switches(u64 entry, u64 value) {
	prepare_func(code_func, BIT(32), entry | BIT(32)); /* upper halves do not count */
	check_eq(name_of("EPT pointer %lu", entry), vmx_l2_run(), REASON_VMCALL);
	check_eq(name_of("EPT pointer %lu: what is there", entry), vmx_regs()->rax, value);
	check_eq(name_of("EPT pointer %lu is in the VMCS", entry), vmread(VMCS(eptp)), list[entry]);
}

static void exits_as_it_is(const char *name) {
	check_eq(name, vmx_l2_run(), REASON_VMFUNC);
	check_eq(name_of("%s: RIP", name), vmread(VMCS(guest_rip)), (u64)code_func);
	check_eq(name_of("%s: length", name), vmread(VMCS(instruction_length)), 3);
	check_eq(name_of("%s: qualification", name), vmread(VMCS(qualification)), 0);
	check_eq(name_of("%s: the EPT pointer", name), vmread(VMCS(eptp)), ept_pointer(root));
}

static void faults(const char *name) {
	vmwrite(VMCS(exception_bitmap), BIT(X86_UD));
	check_eq(name, vmx_l2_run(), REASON_EXCEPTION);
	check_eq(name_of("%s: #UD", name), vmread(VMCS(exit_event)),
		 EVENT_VALID | EVENT_TYPE_EXCEPTION << EVENT_TYPE_SHIFT | X86_UD);
}

static void test_switching(void) {
	u64 second = ept_new(), *there = page_entry_in(second, (u64)pages[0], 1);

	*there = (u64)pages[1] | 0x37;
	*(u64 *)pages[0] = 0xa0;
	*(u64 *)pages[1] = 0xa1;
	list[0] = list[511] = ept_pointer(root);
	list[1] = ept_pointer(second) | (rdmsr(VMX_MSR_EPT_VPID) & EPT_CAP_AD ? EPTP_AD : 0);
	switches(0, 0xa0);
	switches(1, 0xa1);
	if (list[1] & EPTP_AD) check_eq("its flags", *there & FLAGS, EPT_ACCESSED);
	switches(511, 0xa0);
	for (unsigned vpid = 0; vpid <= vmx_can(VMX_MSR_PROC2, PROC2_VPID); vpid++) {
		prepare_func(code_loop, 0, 1);
		if (vpid) vmx_l2_add(PROC2_VPID);
		vmwrite(VMCS(vpid), 1);
		vmx_regs()->rdx = 200;
		check_eq("to and fro", vmx_l2_run(), REASON_VMCALL);
		check_eq("what is there", vmx_regs()->rbx, 100 * (0xa0 + 0xa1));
	}
	*there = 0;
	prepare_func(code_func, 0, 1);
	vmx_invept(2, 0);
	check_eq("a page that is not in the second", vmx_l2_run(), REASON_EPT_VIOLATION);
	check_eq("its address", vmread(VMCS(guest_pa)), (u64)pages[0]);
	check_eq("it is behind VMFUNC", vmread(VMCS(guest_rip)), (u64)code_func_end);
	check_eq("by the second EPT pointer", vmread(VMCS(eptp)), list[1]);
}

static void test_func_exits(void) {
	static const struct {
		const char *name;
		u64 eptp;
	} bad[] = {{"no EPT pointer", 0},
		   {"a reserved bit", BIT(8) | 0x1e},
		   {"a memory type of 1", 0x19},
		   {"five levels", 0x26},
		   {"beyond memory", BIT(51) | 0x1e},
		   {"all ones", ~0ul}};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		list[7] = bad[i].eptp;
		prepare_func(code_func, 0, 7);
		exits_as_it_is(bad[i].name);
	}
	prepare_func(code_func, 0, 512);
	exits_as_it_is("an entry beyond the list");
	prepare_func(code_func, 1, 0);
	exits_as_it_is("function 1");
	prepare_func(code_func, 63, 0);
	exits_as_it_is("function 63");
	prepare_func(code_func, 0, 0);
	vmwrite(VMCS(vm_functions), 0);
	exits_as_it_is("a function that is off");
	prepare_func(code_func, 0, 0);
	vmwrite(VMCS(eptp_list), HOLE);
	exits_as_it_is("a list in a hole");
}

static void test_func_refused(void) {
	prepare_func(code_func, 0, 0);
	vmwrite(VMCS(proc2_controls), PROC2_EPT);
	faults("VMFUNC without the control");
	prepare_func(code_func, 64, 0);
	faults("function 64");
	__asm__ volatile(TRY ".byte 0x0f, 0x01, 0xd4" END_TRY : : "a"(0), "c"(0) : TRY_SPOILS);
	check_eq("VMFUNC of L1", trap_taken().vector, X86_UD);
	prepare_func(code_func, 0, 0);
	vmwrite(VMCS(vm_functions), VMFUNC_EPTP | BIT(1));
	refused("a function that there is not");
	prepare_func(code_func, 0, 0);
	vmwrite(VMCS(proc2_controls), PROC2_VMFUNC);
	refused("EPT pointers without EPT");
	prepare_func(code_func, 0, 0);
	vmwrite(VMCS(eptp_list), (u64)list + 8);
	refused("a list not at a page");
	prepare_func(code_end, 0, 0);
	vmwrite(VMCS(vm_functions), 0);
	vmwrite(VMCS(eptp_list), 1);
	vmwrite(VMCS(proc2_controls), PROC2_VMFUNC);
	check_eq("none of it where there is no function", vmx_l2_run(), REASON_VMCALL);
}

static void test_functions(void) {
	__asm__ volatile(TRY "rdmsr" END_TRY : : "c"(VMX_MSR_VMFUNC) : "rax", "rdx", TRY_SPOILS);
	if (!vmx_can(VMX_MSR_PROC2, PROC2_EPT | PROC2_VMFUNC)) {
		check_eq("no MSR of VM functions", trap_taken().vector, X86_GP);
		skip("VM functions", "not offered");
		return;
	}
	check_eq("the VM functions", rdmsr(VMX_MSR_VMFUNC), VMFUNC_EPTP);
	test_switching();
	test_func_exits();
	test_func_refused();
}

void test_main(void) {
	if (!vmx_init()) return;
	root = ept_new();
	for (unsigned i = 0; i < PAGES; i++) entries[i] = page_entry_in(root, (u64)pages[i], 1);
	test_functions();
	if (!vmx_can(VMX_MSR_PROC2, PROC2_EPT | PROC2_PML)) {
		skip("a page-modification log", "not offered");
		return;
	}
	test_writes();
	test_full();
	test_delivery();
	test_off();
}
