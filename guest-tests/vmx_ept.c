/*
 * What EPT has beside mappings: the page-modification log (SDM 3C 28.3.6).
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

extern const char code_write[], code_read[], code_in[], code_end[];
__asm__(".pushsection .text\n"
	"code_write: movb $1, (%rdi); add $4096, %rdi; dec %ecx; jnz code_write\n"
	"jmp code_end\n"
	"code_read: mov (%rdi), %al\n"
	"jmp code_end\n"
	"code_in: mov $0x80, %edx; rep insb\n" /* Roost's to carry out: L1 does not ask for it */
	"code_end: vmcall\n"
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

void test_main(void) {
	if (!vmx_init()) return;
	if (!vmx_can(VMX_MSR_PROC2, PROC2_EPT | PROC2_PML)) {
		skip("a page-modification log", "not offered");
		return;
	}
	root = ept_new();
	for (unsigned i = 0; i < PAGES; i++) entries[i] = page_entry_in(root, (u64)pages[i], 1);
	test_writes();
	test_full();
	test_delivery();
	test_off();
}
