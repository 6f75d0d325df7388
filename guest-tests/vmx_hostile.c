/*
 * VMCSs that make no sense, and guests that do what they like: whatever an L1 runs, it comes back
 * to itself with its own state, and neither it nor its neighbours notice more than an exit.
 *
 * Each round takes an L2 that is locked up: its 16 pages are all that its EPT maps, every port and
 * MSR exits, and a timer ends what goes on for ever. Then up to three fields of its VMCS are
 * changed at random, but for what keeps it locked up and for the host's state, and it runs random
 * instructions. `rounds=` and `seed=` on the command line choose how many and which.
 *
 * vm: machine=intel limit=600
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"
#include "guest-tests/lib/vmx.h"

const char test_name[] = "vmx_hostile";

#define VECTOR_TIMER 0x40
#define TIMER_TICKS  20000
#define PAGES	     16
#define ALL	     (PTE_PRESENT | PTE_WRITE | PTE_USER)
#define EPT_RWX_WB   0x37ul
#define EPT_ACCESSED BIT(8)
#define EPT_DIRTY    BIT(9)
/* L2-physical: three tables of its own, then code and stack. */
#define L2_TABLES			   0x1000ul
#define L2_CODE				   0x4000ul
#define CODE_BYTES			   64u
#define L2_STACK			   0x7000ul
#define L2_APIC				   0xc000ul /* stands for its local APIC's registers */
#define EPT_RW_WB			   0x33ul
#define VIRTUAL_APIC			   (PROC2_APIC_ACCESS | PROC2_X2APIC | PROC2_APIC_REGS | PROC2_VID)

#define FIELD_ONE(encoding, name, ...)	   {encoding, 1, 0, 0, #name},
#define FIELD_MANY(encoding, name, n, ...) {encoding, n, 0, 0, #name},
static const struct vmcs_run fields[] = {VMCS_FIELDS(FIELD_ONE, FIELD_MANY)};

/* A canary on both sides; the same of the page that L2's writes are logged in. */
static u8 cage[(PAGES + 2) * PAGE_SIZE] __aligned(4096), log_cage[3 * PAGE_SIZE] __aligned(4096);
static u64 seed, root, eptp_ad;
static u8 msr_map[PAGE_SIZE] __aligned(4096); /* lets x2APIC's pass, where L1 has nothing */

static u64 draw(u64 below) {
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 11) % below;
}

static void *in_cage(u64 gpa2) { return cage + PAGE_SIZE + gpa2; }

static void on_timer(struct regs *regs) {
	(void)regs;
	lapic_eoi();
}

/* Begins of instructions that a hypervisor has to do with. */
static const char *const beginnings[] = {"\x0f\x01", "\x0f\x20", "\x0f\x22", "\x0f\x21",
					 "\x0f\x23", "\x0f\x30", "\x0f\x32", "\x0f\xa2",
					 "\xf4",     "\xe4\x60", "\xe6\xf4", "\xec",
					 "\xef",     "\xcd\x80", "\xcc",     "\xcf",
					 "\x0f\x00", "\x0f\x09", "\x0f\xc7", "\xf3\x90",
					 "\xfb",     "\xfa",	 "\x9d",     "\x0f\x05",
					 "\x0f\x07", "\x0f\x34", "\x0f\x06", "\x8e",
					 "\xf3\x6e", "\xea",	 "\xeb\xfe", "\x0f\x31",
					 "\x0f\x33", "\xf1",	 "\x0f\xae", "\x88\x07",
					 "\x8a\x07", "\x89\x07", "\x8b\x07", "\x44\x0f\x22\xc0",
					 "\x0f\x0b", "\x48\xa3", "\x0f\x35", "\x66\xf2",
					 "\x0f\x08", "\x0f\x78", "\x0f\x79"};

static void make_code(void) {
	u8 *code = in_cage(L2_CODE);
	unsigned at = draw(8) ? 0 : 3;

	memcpy(code, "\x0f\x01\xd4", at); /* VMFUNC */
	while (at < CODE_BYTES) {
		const char *begin = beginnings[draw(ARRAY_SIZE(beginnings))];

		while (*begin && draw(8)) code[at++] = (u8)*begin++;
		for (u64 i = draw(4); i; i--) code[at++] = (u8)draw(256);
	}
	if (!draw(3)) at = 0;
	memcpy(code + at, "\x0f\x01\xc1\xeb\xfe", 5); /* VMCALL, then for ever */
}

static void segment(unsigned seg, u64 selector, u64 access) {
	vmwrite(VMCS_AT(guest_selector, seg), selector);
	vmwrite(VMCS_AT(guest_base, seg), 0);
	vmwrite(VMCS_AT(guest_limit, seg), access == 0x93 || access == 0x9b ? 0xffff : ~0u);
	vmwrite(VMCS_AT(guest_access, seg), access);
}

/* Its own tables map the cage one to one; in 64-bit, 32-bit or real mode. */
static void make_l2(void) {
	u64 *tables = in_cage(L2_TABLES), mode = draw(3);

	vmx_l2_new((const void *)L2_CODE);
	memset(tables, 0, 3 * PAGE_SIZE);
	tables[0] = (L2_TABLES + PAGE_SIZE) | ALL;
	tables[512] = (L2_TABLES + 2 * PAGE_SIZE) | ALL;
	tables[1024] = ALL | PTE_LARGE;
	vmwrite(VMCS(guest_cr3), L2_TABLES);
	vmwrite(VMCS(guest_gdtr_base), 0x8000);
	vmwrite(VMCS(guest_idtr_base), 0x8000);
	vmwrite(VMCS(guest_rsp), L2_STACK);
	segment(4, 0, 0xc093);
	segment(5, 0, 0xc093);
	if (mode) {
		vmwrite(VMCS(guest_efer), 0);
		vmwrite(VMCS(entry_controls), vmread(VMCS(entry_controls)) & ~ENTRY_IA32E);
		vmwrite(VMCS(guest_cr0), mode == 1 ? 0x31 : 0x30);
		vmwrite(VMCS(guest_cr4), X86_CR4_VMXE);
		for (unsigned seg = 0; seg < 6; seg++)
			segment(seg, mode == 1 ? 8 : 0,
				(mode == 1 ? 0xc093u : 0x93u) + (seg == 1 ? 8u : 0));
	}
	for (u64 *reg = (u64 *)vmx_regs(); reg < (u64 *)(vmx_regs() + 1); reg++)
		*reg = draw(2) ? draw(PAGES * PAGE_SIZE) : seed;
}

static u64 eptp_list[512] __aligned(4096);

/* What is not there for all L2s. */
static void ask_for_more(void) {
	u64 proc2 = (draw(4) ? 0 : PROC2_TSC_SCALING) | (draw(2) ? PROC2_PML : 0) |
		    (draw(2) ? PROC2_VMFUNC : 0);
	u64 bad[] = {0, ~0ul, seed | BIT(51), ept_pointer(GiB(32))};

	for (unsigned i = 0; i < 16; i++)
		eptp_list[draw(2) ? i : draw(512)] =
			draw(2) ? ept_pointer(root) | (draw(2) ? eptp_ad : 0) : bad[draw(4)];
	vmwrite(VMCS(vm_functions), draw(8) ? VMFUNC_EPTP : 0);

	vmx_l2_add(proc2 & rdmsr(VMX_MSR_PROC2) >> 32);
	vmwrite(VMCS(tsc_multiplier), draw(8) ? seed : 1);
	vmwrite(VMCS(pml_index), draw(4) ? draw(4) : 0xffff);
	vmwrite(VMCS(tick), draw(TIMER_TICKS));
	if (!draw(4) && vmx_can(VMX_MSR_PIN, PIN_TICK))
		vmwrite(VMCS(pin_controls), vmread(VMCS(pin_controls)) | PIN_TICK);
	if (!draw(4)) vmx_regs()->rax = vmx_regs()->rcx = 0; /* for VMFUNC */
	/* L1 has seen what is dirty. */
	*page_entry_in(root, draw(PAGES) * PAGE_SIZE, 1) &= ~(EPT_ACCESSED | EPT_DIRTY);
	vmx_invept(2, 0);
}

/* A field that an entry reads, of the guest or a control, but for the lists of MSRs of the exit. */
static struct vmcs_field draw_field(void) {
	for (;;) {
		const struct vmcs_run *run = &fields[draw(ARRAY_SIZE(fields))];
		u32 encoding = run->encoding + 2 * (u32)draw(run->count);

		if (vmcs_kind(encoding) != VMCS_CONTROL && vmcs_kind(encoding) != VMCS_GUEST)
			continue;
		if (encoding == VMCS_exit_msr_stores || encoding == VMCS_exit_msr_loads) continue;
		return VMCS_FIELD(encoding);
	}
}

static void mutate(void) {
	struct vmcs_field field = draw_field();

	switch (draw(4)) {
	case 0: vmwrite(field, seed); break;
	case 1: vmwrite(field, vmread(draw_field())); break;
	case 2: vmwrite(field, draw(2) ? 0 : ~0ul); break;
	default: vmwrite(field, vmread(field) ^ BIT(draw(64))); break;
	}
}

/* Where the processor reads and writes by itself is L2's as well, or no memory. */
static void give_apic(void) {
	static const u64 odd[] = {LAPIC_BASE, IOAPIC_BASE, 0xd0000000, GiB(64), 0xff000};
	u64 may = rdmsr(VMX_MSR_PROC2) >> 32 & VIRTUAL_APIC;

	vmwrite(VMCS(virtual_apic),
		draw(8) ? (u64)in_cage(draw(PAGES) * PAGE_SIZE) : odd[draw(ARRAY_SIZE(odd))]);
	vmwrite(VMCS(apic_access), draw(8) ? (u64)in_cage(L2_APIC) : odd[draw(ARRAY_SIZE(odd))]);
	if (draw(2) || !vmx_can(VMX_MSR_TRUE_PIN + 1, PROC_TPR_SHADOW)) return;
	vmwrite(VMCS(proc_controls), vmread(VMCS(proc_controls)) | PROC_TPR_SHADOW);
	vmwrite(VMCS(proc2_controls), vmread(VMCS(proc2_controls)) | (may & seed));
	vmwrite(VMCS(msr_bitmap), (u64)msr_map);
	if (draw(2)) vmwrite(VMCS(proc_controls), vmread(VMCS(proc_controls)) | PROC_MSR_BITMAP);
	if (draw(2)) vmwrite(VMCS(guest_interrupt_status), draw(0x10000));
	if (draw(2)) vmwrite(VMCS(tpr_threshold), draw(16));
	/* One of its registers, or an MSR of them. */
	if (draw(2)) vmx_regs()->rdi = L2_APIC + 16 * draw(64);
	if (draw(2)) vmx_regs()->rcx = X86_MSR_X2APIC + draw(64);
}

static void lock_up(void) {
	u64 proc = vmread(VMCS(proc_controls)), proc2 = vmread(VMCS(proc2_controls));

	vmwrite(VMCS(pin_controls), vmread(VMCS(pin_controls)) | PIN_INTERRUPT | PIN_NMI);
	vmwrite(VMCS(proc_controls), (proc | PROC_HLT | PROC_ALL_IO | PROC_SECONDARY) &
					     ~(PROC_IO_BITMAPS | PROC_MSR_BITMAP));
	vmwrite(VMCS(proc2_controls), proc2 | PROC2_EPT | PROC2_UNRESTRICTED);
	vmwrite(VMCS(exit_controls),
		vmx_controls(VMX_MSR_TRUE_PIN + 2,
			     EXIT_HOST_64 | EXIT_SAVE_EFER | EXIT_LOAD_EFER | EXIT_LOAD_PAT));
	vmwrite(VMCS(eptp_list), draw(16) ? (u64)eptp_list : GiB(32));
	vmwrite(VMCS(pml_address), draw(16) ? (u64)log_cage + PAGE_SIZE : GiB(32));
	if (draw(16))
		vmwrite(VMCS(eptp), ept_pointer(root) | (draw(4) ? eptp_ad : 0));
	else /* refused, or nothing is there */
		vmwrite(VMCS(eptp), draw(2) ? seed | BIT(51) : ept_pointer(GiB(32)));
	if (draw(16)) vmwrite(VMCS(entry_msr_loads), 0);
	give_apic();
}

static u64 own_registers(void) {
	return read_cr0() ^ read_cr3() ^ read_cr4() ^ rdmsr(X86_MSR_EFER) ^ rdmsr(X86_MSR_GS_BASE) ^
	       rdmsr(X86_MSR_KERNEL_GS_BASE) ^ rdmsr(X86_MSR_LSTAR);
}

static bool canaries_live(void) {
	for (unsigned i = 0; i < PAGE_SIZE; i++)
		if (cage[i] != 0xc5 || cage[(PAGES + 1) * PAGE_SIZE + i] != 0xc5 ||
		    log_cage[i] != 0xc5 || log_cage[2 * PAGE_SIZE + i] != 0xc5)
			return false;
	return true;
}

enum {
	SEEN_CONTROLS,
	SEEN_STATE,
	SEEN_VMCALL,
	SEEN_EPT,
	SEEN_TIMER,
	SEEN_TRIPLE_FAULT,
	SEEN_MSR,
	SEEN_IO,
	SEEN_APIC,
	SEEN_TICK,
	SEEN_LOG,
	SEEN_FUNC,
	SEEN_ODD
};

static unsigned kind(u64 reason) {
	if (reason == (VM_FAILED | VM_FAIL)) return SEEN_CONTROLS;
	switch (reason) {
	case REASON_ENTRY_FAILED | REASON_BAD_STATE: return SEEN_STATE;
	case REASON_VMCALL: return SEEN_VMCALL;
	case REASON_EPT_VIOLATION: return SEEN_EPT;
	case REASON_INTERRUPT: return SEEN_TIMER;
	case REASON_TRIPLE_FAULT: return SEEN_TRIPLE_FAULT;
	case REASON_RDMSR:
	case REASON_WRMSR: return SEEN_MSR;
	case REASON_IO: return SEEN_IO;
	case REASON_TPR:
	case REASON_APIC_ACCESS:
	case REASON_EOI:
	case REASON_APIC_WRITE: return SEEN_APIC;
	case REASON_TICK: return SEEN_TICK;
	case REASON_PML_FULL: return SEEN_LOG;
	case REASON_VMFUNC: return SEEN_FUNC;
	default: return SEEN_ODD;
	}
}

static bool offered(unsigned kind) {
	switch (kind) {
	case SEEN_TICK: return vmx_can(VMX_MSR_PIN, PIN_TICK);
	case SEEN_LOG: return vmx_can(VMX_MSR_PROC2, PROC2_PML);
	case SEEN_FUNC: return vmx_can(VMX_MSR_PROC2, PROC2_VMFUNC);
	default: return true;
	}
}

static void test_rounds(u64 rounds) {
	static const char *const names[] = {"refused controls", "a refused state", "VMCALL",
					    "an EPT violation", "the timer",	   "a triple fault",
					    "an MSR",		"a port",	   "the APIC",
					    "its own timer",	"a full log",	   "a VM function"};
	u64 seen[SEEN_ODD + 1] = {0}, own = own_registers(), changed = 0, strange = 0;

	for (u64 i = 0; i < rounds; i++) {
		make_l2();
		make_code();
		ask_for_more();
		for (u64 n = draw(4); n; n--) mutate();
		lock_up();
		u64 first = seed;
		cpu_cli();
		lapic_write(LAPIC_TIMER_INIT, TIMER_TICKS);
		u64 reason = vmx_l2_run();
		cpu_sti();
		seen[kind(reason)]++;
		if (own_registers() != own) changed++;
		if (kind(reason) == SEEN_ODD && (u16)reason > 64 && !strange++)
			print("# exit 0x%lx, seed 0x%lx\n", reason, first);
	}
	check_eq("exits that there are not", strange, 0);
	check_eq("rounds that changed L1's own registers", changed, 0);
	check("what L2 cannot reach has not changed", canaries_live());
	for (unsigned i = 0; i < SEEN_ODD; i++)
		if (offered(i)) check(name_of("some rounds ended by %s", names[i]), seen[i] > 0);
	print("# %lu and %lu refused, %lu to their end, %lu by the timer, %lu triple faults\n",
	      seen[SEEN_CONTROLS], seen[SEEN_STATE], seen[SEEN_VMCALL], seen[SEEN_TIMER],
	      seen[SEEN_TRIPLE_FAULT]);
}

/* A VMCS of random bytes in memory is one like any other. */
static void test_random_region(void) {
	u64 *words = (u64 *)vmx_l2_vmcs(), value;

	vmx_clear(vmx_l2_vmcs());
	for (unsigned i = 1; i < PAGE_SIZE / 8; i++) {
		draw(2);
		words[i] = seed;
	}
	check_eq("VMPTRLD of random bytes", vmx_ptrld(vmx_l2_vmcs()), VM_SUCCEED);
	for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
		static const u64 widths[] = {0xffff, ~0ul, 0xffffffff, ~0ul};
		u32 encoding = fields[i].encoding;

		if (vmx_read(encoding, &value) == VM_SUCCEED)
			check_eq(name_of("field 0x%x has no more than its width", encoding),
				 value & ~widths[vmcs_width(encoding)], 0);
	}
	memset(words + 1, 0, PAGE_SIZE - 8);
	vmx_clear(vmx_l2_vmcs());
}

void test_main(void) {
	if (!vmx_init()) return;
	if (!vmx_can(VMX_MSR_PROC2, PROC2_EPT | PROC2_UNRESTRICTED)) {
		skip("EPT", "this machine has none");
		return;
	}
	lapic_init();
	pic_init(0x20);
	trap_set_handler(VECTOR_TIMER, on_timer);
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
	lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
	memset(cage, 0xc5, sizeof(cage));
	memset(log_cage, 0xc5, sizeof(log_cage));
	if (rdmsr(VMX_MSR_EPT_VPID) & EPT_CAP_AD) eptp_ad = EPTP_AD;
	root = (u64)page_alloc();
	for (u64 gpa2 = 0; gpa2 < PAGES * PAGE_SIZE; gpa2 += PAGE_SIZE)
		*page_entry_in(root, gpa2, 1) = (u64)in_cage(gpa2) | EPT_RWX_WB;
	/* Bochs 2.7 gives up at an instruction on an APIC-access page. */
	*page_entry_in(root, L2_APIC, 1) = (u64)in_cage(L2_APIC) | EPT_RW_WB;
	memset(msr_map, 0xff, sizeof(msr_map));
	memset(msr_map + X86_MSR_X2APIC / 8, 0, 32);
	memset(msr_map + 2048 + X86_MSR_X2APIC / 8, 0, 32);
	seed = cmdline_number("seed", 0x123456789abcdef);
	test_random_region();
	cpu_sti();
	test_rounds(cmdline_number("rounds", 1000));
	cpu_cli();
}
