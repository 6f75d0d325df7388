/* An L2 in the test's own address space, and the ways into it. */
#include "guest-tests/lib/svm.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"

#define CPUID_SVM 0x8000000a

void svm_vmrun(u64 vmcb, struct l2_registers *regs);

struct l2_cpu {
	struct vmcb vmcb;
	u8 hsave[PAGE_SIZE];
	u8 stack[8192];
	struct l2_registers regs;
} __aligned(4096);

static struct l2_cpu l2[L2_CPUS];
static u8 iopm[3 * PAGE_SIZE] __aligned(4096); /* nothing exits */
static u8 msrpm[2 * PAGE_SIZE] __aligned(4096);

static struct l2_cpu *here(void) { return &l2[this_cpu()->index]; }

struct l2_registers *l2_regs_here(void) {
	return &here()->regs;
}

u32 svm_feature_bits(void) {
	u32 r[4];

	cpuid(CPUID_SVM, 0, r);
	return r[3];
}

bool svm_init(void) {
	if (!cpuid_bit(0x80000001, 2, 2)) {
		skip("SVM", "this machine has none");
		return false;
	}
	wrmsr(X86_MSR_EFER, rdmsr(X86_MSR_EFER) | X86_EFER_SVME);
	wrmsr(X86_MSR_VM_HSAVE_PA, (u64)here()->hsave);
	return true;
}

struct __packed table_pointer {
	u16 limit;
	u64 base;
};

static void copy_tables(struct vmcb *vmcb) {
	struct table_pointer gdtr, idtr;

	__asm__ volatile("sgdt %0" : "=m"(gdtr));
	__asm__ volatile("sidt %0" : "=m"(idtr));
	vmcb->gdtr.base = gdtr.base;
	vmcb->gdtr.limit = gdtr.limit;
	vmcb->idtr.base = idtr.base;
	vmcb->idtr.limit = idtr.limit;
}

void l2_restart(struct vmcb *vmcb, const void *code) {
	vmcb->rip = (u64)code;
	/* As after a call. */
	vmcb->rsp = (u64)here()->stack + sizeof(here()->stack) - 8;
	vmcb->rflags = X86_RFLAGS_FIXED;
	vmcb->rax = 0;
	vmcb->int_state = 0;
	vmcb->event_inj = 0;
}

struct vmcb *l2_new(const void *code) {
	struct vmcb *vmcb = &here()->vmcb;

	memset(vmcb, 0, sizeof(*vmcb));
	memset(&l2_regs, 0, sizeof(l2_regs));
	vmcb->intercept_misc1 =
		(u32)(INTERCEPT_INTR | INTERCEPT_NMI | INTERCEPT_HLT | INTERCEPT_SHUTDOWN);
	vmcb->intercept_misc2 = (u32)(INTERCEPT_VMRUN | INTERCEPT_VMMCALL);
	vmcb->iopm_base = (u64)iopm;
	vmcb->msrpm_base = (u64)msrpm;
	vmcb->asid = 1;
	vmcb->tlb_control = TLB_FLUSH_ALL;
	vmcb->vintr = (u32)V_MASKING;
	vmcb->es = vmcb->ss = vmcb->ds = (struct segment){SEL_DATA, 0xc93, 0xffffffff, 0};
	vmcb->cs = (struct segment){SEL_CODE64, 0xa9b, 0xffffffff, 0};
	copy_tables(vmcb);
	vmcb->efer = rdmsr(X86_MSR_EFER);
	vmcb->cr0 = read_cr0();
	vmcb->cr3 = read_cr3();
	vmcb->cr4 = read_cr4();
	vmcb->dr6 = 0xffff0ff0;
	vmcb->dr7 = 0x400;
	vmcb->g_pat = 0x0007040600070406;
	l2_restart(vmcb, code);
	return vmcb;
}

u64 npt_new(void) {
	u64 root = (u64)page_alloc();

	for (u64 gpa = 0; gpa < GiB(4); gpa += MiB(2))
		*page_entry_in(root, gpa, 2) = gpa | PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_LARGE;
	return root;
}

void l2_use_npt(struct vmcb *vmcb, u64 root) {
	vmcb->np_enable = NP_ENABLE;
	vmcb->ncr3 = root;
	vmcb->tlb_control = TLB_FLUSH_ALL;
}

void l2_enter_at(u64 address) { svm_vmrun(address, &l2_regs); }

u64 l2_enter(struct vmcb *vmcb) {
	svm_vmrun((u64)vmcb, &l2_regs);
	return vmcb->exit_code;
}

u64 l2_run(struct vmcb *vmcb) {
	clgi();
	u64 code = l2_enter(vmcb);
	stgi();
	return code;
}

u64 l2_result(struct vmcb *vmcb) {
	u64 code = l2_run(vmcb);

	if (code != EXIT_VMMCALL) {
		print("# exit 0x%lx info 0x%lx 0x%lx rip 0x%lx\n", code, vmcb->exit_info1,
		      vmcb->exit_info2, vmcb->rip);
		check_eq("the L2 has run to its end", code, EXIT_VMMCALL);
	}
	return vmcb->rax;
}
