/*
 * Bad input to VMX, one thing at a time: VMCSs where no memory is, lists of MSRs that cannot be
 * worked off (SDM 3C 26.4, 27.6), EPT tables with loops, reserved bits and foreign addresses.
 *
 * With `abort=N` on the command line an exit has a list that ends the VM (27.7); with `spin=1` an
 * L2 runs for ever.
 *
 * vm: machine=intel
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"
#include "guest-tests/lib/vmx.h"

const char test_name[] = "vmx_bad";

#define HOLE	     0xd0000000ul /* in L1's memory: nothing */
#define EPT_RWX	     7ul
#define EPT_PAGE     0x37ul  /* write-back, all rights */
#define TARGET	     GiB(64) /* in gpa2 */
#define MAX_LIST     512u
#define BAD_MSR_LOAD (REASON_MSR_LOADING | REASON_ENTRY_FAILED)

extern const char code_exit[], code_touch[], code_spin[];
__asm__(".pushsection .text\n"
	"code_touch: mov (%rdi), %rax\n"
	"code_exit: vmcall\n"
	"code_spin: jmp code_spin\n"
	".popsection");

static u64 phys_bits;

/* ---- VMCSs ---- */

static void test_places(void) {
	const struct {
		const char *name;
		u64 address;
	} places[] = {{"the local APIC", LAPIC_BASE},
		      {"the IOAPIC", IOAPIC_BASE},
		      {"a hole", HOLE},
		      {"behind RAM", ram_top()},
		      {"the ROM", 0xff000}};
	u64 last = ram_top() - PAGE_SIZE;

	vmx_l2_new(code_exit);
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		check_eq(name_of("VMPTRLD at %s", places[i].name), vmx_ptrld(places[i].address),
			 VM_FAIL);
		check_eq("its error", vmread(VMCS(instruction_error)), 11);
		check_eq(name_of("VMCLEAR at %s", places[i].name), vmx_clear(places[i].address),
			 VM_SUCCEED);
		check_eq("the current one stays", vmx_ptrst(), vmx_l2_vmcs());
	}
	vmx_off();
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
		check_eq(name_of("VMXON at %s", places[i].name), vmx_on(places[i].address),
			 VM_INVALID);
	vmx_on(vmx_on_region());
	*(u32 *)last = BASIC_REVISION(rdmsr(VMX_MSR_BASIC));
	vmx_clear(last);
	check_eq("VMPTRLD of the last page of RAM", vmx_ptrld(last), VM_SUCCEED);
	vmx_write(VMCS_guest_rip, 0x1234);
	vmx_clear(last);
	vmx_ptrld(last);
	check_eq("what is written there stays", vmread(VMCS(guest_rip)), 0x1234);
	vmx_clear(last);
}

/* ---- lists of MSRs ---- */

struct entry {
	u32 msr, reserved;
	u64 value;
};

static struct entry list[MAX_LIST + 2] __aligned(4096);

static void fill(u32 msr, u64 value, unsigned count) {
	for (unsigned i = 0; i < count; i++) list[i] = (struct entry){msr, 0, value};
}

static u64 run_with(u64 at, u64 count) {
	vmx_l2_new(code_exit);
	vmwrite(VMCS(entry_msr_load), at);
	vmwrite(VMCS(entry_msr_loads), count);
	return vmx_l2_run();
}

static void fails_at(const char *name, u64 at, u64 count, u64 number) {
	check_eq(name, run_with(at, count), BAD_MSR_LOAD);
	check_eq(name_of("%s: which", name), vmread(VMCS(qualification)), number);
}

static void refused(const char *name, u64 at, u64 count) {
	check_eq(name, run_with(at, count), VM_FAILED | VM_FAIL);
	check_eq(name_of("%s: error", name), vmread(VMCS(instruction_error)), 7);
}

static void test_entry_list(void) {
	static const struct {
		const char *name;
		u32 msr;
		u64 value;
	} forbidden[] = {{"FS_BASE", X86_MSR_FS_BASE, 0},
			 {"GS_BASE", X86_MSR_GS_BASE, 0},
			 {"an MSR of x2APIC", X86_MSR_X2APIC + 8, 0},
			 {"an MSR that there is not", 0x12345678, 0},
			 {"a bad value", X86_MSR_LSTAR, BIT(62)},
			 {"EFER's reserved bits", X86_MSR_EFER, ~0ul},
			 {"a feature MSR", VMX_MSR_BASIC, 0}};

	fill(X86_MSR_KERNEL_GS_BASE, 0x77000, MAX_LIST + 1);
	check_eq("a list", run_with((u64)list, 2), REASON_VMCALL);
	check_eq("is loaded", rdmsr(X86_MSR_KERNEL_GS_BASE), 0x77000);
	check_eq("the longest list", run_with((u64)list, MAX_LIST), REASON_VMCALL);
	fails_at("a list that is too long", (u64)list, MAX_LIST + 1, MAX_LIST + 1);
	fails_at("one that never ends", (u64)list, 0xffffff, MAX_LIST + 1);
	refused("a list not at 16 bytes", (u64)list + 8, 1);
	refused("a list beyond memory", BIT(phys_bits), 1);
	refused("a list that ends beyond memory", BIT(phys_bits) - 16, 2);
	fails_at("a list in a hole", HOLE, 1, 1);
	*(struct entry *)(ram_top() - 16) = list[0];
	fails_at("a list that leaves RAM", ram_top() - 16, 2, 2);
	for (unsigned i = 0; i < ARRAY_SIZE(forbidden); i++) {
		list[2] = (struct entry){forbidden[i].msr, 0, forbidden[i].value};
		fails_at(name_of("loading %s", forbidden[i].name), (u64)list, 4, 3);
	}
	list[2] = (struct entry){X86_MSR_KERNEL_GS_BASE, 1, 0};
	fails_at("reserved bits of an entry", (u64)list, 4, 3);
}

static void test_exit_lists(void) {
	vmx_l2_new(code_exit);
	fill(X86_MSR_KERNEL_GS_BASE, 0, 2);
	list[3] = (struct entry){X86_MSR_KERNEL_GS_BASE, 0, 0x55000};
	wrmsr(X86_MSR_KERNEL_GS_BASE, 0x66000);
	vmwrite(VMCS(exit_msr_store), (u64)list);
	vmwrite(VMCS(exit_msr_stores), 2);
	vmwrite(VMCS(exit_msr_load), (u64)&list[3]);
	vmwrite(VMCS(exit_msr_loads), 1);
	check_eq("lists of an exit", vmx_l2_run(), REASON_VMCALL);
	check_eq("what is stored", list[0].value, 0x66000);
	check_eq("what is loaded", rdmsr(X86_MSR_KERNEL_GS_BASE), 0x55000);
	vmwrite(VMCS(exit_msr_store), (u64)list + 4);
	check_eq("a list not at 16 bytes", vmx_l2_run(), VM_FAILED | VM_FAIL);
}

/* Never comes back. */
static void end_by_abort(u64 which) {
	vmx_l2_new(code_exit);
	fill(X86_MSR_FS_BASE, 0, MAX_LIST + 1);
	if (which == 2) list[0].msr = 0x12345678; /* FS_BASE may be stored */
	if (which == 3) fill(X86_MSR_LSTAR, 0, MAX_LIST + 1);
	vmwrite(which == 1 ? VMCS(exit_msr_load) : VMCS(exit_msr_store), (u64)list);
	vmwrite(which == 1 ? VMCS(exit_msr_loads) : VMCS(exit_msr_stores),
		which == 3 ? MAX_LIST + 1 : 1);
	vmx_l2_run();
	check("a VMX abort ends the VM", false);
}

/* An L2 that is there whenever somebody disturbs the VM. */
static void spin(void) {
	vmx_l2_new(code_spin);
	vmx_l2_use_ept(ept_new());
	print("# L2 spins\n");
	for (;;) vmx_l2_run();
}

/* ---- EPT ---- */

static u64 touch(u64 root, u64 gpa2) {
	vmx_l2_new(code_touch);
	vmx_l2_use_ept(root);
	vmx_regs()->rdi = gpa2;
	vmx_invept(2, 0);
	return vmx_l2_run();
}

static void misconfigured(const char *name, u64 *entry, u64 bad, u64 root) {
	u64 was = *entry;

	*entry = bad;
	check_eq(name, touch(root, TARGET), REASON_EPT_MISCONFIG);
	if (((u64)entry & PAGE_MASK) != root) /* else its first instruction is not there */
		check_eq(name_of("%s: the address", name), vmread(VMCS(guest_pa)), TARGET);
	*entry = was;
}

/* TARGET is mapped by L2's tables, which are L1's, as an address of its own. */
static void test_ept(void) {
	static u64 page[512] __aligned(4096);
	u64 root = ept_new(), *entries[5], far = BIT(phys_bits);

	for (unsigned level = 1; level <= 4; level++)
		entries[level] = page_entry_in(root, TARGET, level);
	*page_entry(TARGET, 1) = TARGET | PTE_PRESENT | PTE_WRITE;
	page[0] = 0x4242;
	*entries[1] = (u64)page | EPT_PAGE;
	check_eq("a page", touch(root, TARGET), REASON_VMCALL);
	check_eq("its content", vmx_regs()->rax, 0x4242);

	misconfigured("bit 7 in the top table", entries[4], *entries[4] | PTE_LARGE, root);
	misconfigured("bits 6:3 in the top table", entries[4], *entries[4] | BIT(3), root);
	misconfigured("bits 6:3 in the second table", entries[3], *entries[3] | BIT(6), root);
	misconfigured("bits 6:3 in the third table", entries[2], *entries[2] | BIT(4), root);
	misconfigured("1 GiB not at 1 GiB", entries[3], BIT(12) | EPT_PAGE | PTE_LARGE, root);
	misconfigured("2 MiB not at 2 MiB", entries[2], BIT(13) | EPT_PAGE | PTE_LARGE, root);
	for (unsigned level = 1; level <= 4; level++) {
		misconfigured(name_of("level %u, write only", level), entries[level],
			      (*entries[level] & ~EPT_RWX) | 2, root);
		misconfigured(name_of("level %u, beyond memory", level), entries[level],
			      *entries[level] | far, root);
		if (level > 1) /* what is no RAM reads as ones */
			misconfigured(name_of("level %u, a table in a hole", level), entries[level],
				      HOLE | EPT_RWX, root);
	}
	*entries[1] = HOLE | EPT_PAGE;
	check_eq("a page in a hole", touch(root, TARGET), REASON_VMCALL);
	check_eq("reads as ones", vmx_regs()->rax, ~0ul);
	*entries[1] = LAPIC_BASE | EPT_PAGE;
	check_eq("the local APIC's page", touch(root, TARGET), REASON_VMCALL);

	/* A table that is its own, four levels deep, is a page at last. */
	if (phys_bits >= 40) {
		((u64 *)root)[1] = root | EPT_RWX;
		*page_entry(TARGET, 1) = (BIT(39) + BIT(30) + BIT(21) + BIT(12)) | PTE_PRESENT;
		check_eq("a loop", touch(root, TARGET), REASON_VMCALL);
		check_eq("what is there", vmx_regs()->rax, *(u64 *)root);
	} else {
		skip("a loop in EPT", "its address is beyond memory");
	}
	vmx_l2_new(code_exit);
	vmx_l2_use_ept(root);
	vmwrite(VMCS(eptp), ept_pointer(root) | far);
	check_eq("an EPT pointer beyond memory", vmx_l2_run(), VM_FAILED | VM_FAIL);
	check_eq("its error", vmread(VMCS(instruction_error)), 7);
	vmwrite(VMCS(eptp), ept_pointer(HOLE));
	check_eq("an EPT pointer into a hole", vmx_l2_run(), REASON_EPT_MISCONFIG);
	vmwrite(VMCS(eptp), ept_pointer(LAPIC_BASE));
	check_eq("an EPT pointer to a device", vmx_l2_run(), REASON_EPT_MISCONFIG);
}

void test_main(void) {
	u64 abort = cmdline_number("abort", 0);
	u32 r[4];

	if (!vmx_init()) return;
	cpuid(0x80000008, 0, r);
	phys_bits = r[0] & 0xff;
	if (abort) end_by_abort(abort);
	if (cmdline_number("spin", 0)) spin();
	test_places();
	test_entry_list();
	test_exit_lists();
	if (vmx_can(VMX_MSR_PROC2, PROC2_EPT)) test_ept();
}
