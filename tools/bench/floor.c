/*
 * The floor: what an exit costs a hypervisor that does nothing but save and restore the general
 * registers around VMRUN. Runs on the bare machine and prints `bench floor-exit TICKS`: one round
 * of a guest that executes CPUID over and over, its own instruction included. Roost's figures are
 * given as multiples of this.
 */
#include "guest-tests/lib/guest.h"
#include "kernel/vcpu.h"
#include "svm/vmcb.h"
#include "tools/bench/floor.h"

const char test_name[] = "floor";

void floor_guest(void);
void floor_rounds(u64 vmcb, u64 *registers, u64 rounds, u64 *rip);

static struct vmcb vmcb __aligned(4096);
static u8 host_save[4096] __aligned(4096);
static u64 registers[16];

__asm__(".text\n"
	"floor_guest:\n\t"
	"cpuid\n\t"
	"jmp floor_guest\n"
	/* RDI: VMCB, RSI: the guest's registers, RDX: rounds, RCX: where the VMCB holds RIP. */
	"floor_rounds:\n\t" FLOOR_PUSH "push %rcx\n\tpush %rdx\n\tpush %rsi\n\tpush %rdi\n"
	"1:\n\t"
	"mov 8(%rsp), %rax\n\t" FLOOR_LOAD "mov (%rsp), %rax\n\t"
	"vmrun\n\t"
	"mov 8(%rsp), %rax\n\t" FLOOR_SAVE "mov 24(%rsp), %rcx\n\t"
	"addq $2, (%rcx)\n\t" /* past CPUID */
	"decq 16(%rsp)\n\t"
	"jnz 1b\n\t"
	"pop %rdi\n\tpop %rsi\n\tpop %rdx\n\tpop %rcx\n\t" FLOOR_POP "ret\n");

static void set_segment(struct segment *segment, u16 selector, u16 attr) {
	*segment = (struct segment){.selector = selector, .attr = attr, .limit = ~0u};
}

/* A guest in 64-bit mode with this machine's own page tables, which stays within one page. */
static void set_up(void) {
	struct descriptor {
		u16 limit;
		u64 base;
	} __packed gdtr, idtr;

	__asm__ volatile("sgdt %0" : "=m"(gdtr));
	__asm__ volatile("sidt %0" : "=m"(idtr));
	vmcb.intercept_misc1 = (u32)(INTERCEPT_CPUID | INTERCEPT_SHUTDOWN);
	vmcb.intercept_misc2 = (u32)INTERCEPT_VMRUN;
	vmcb.asid = 1;
	set_segment(&vmcb.cs, SEL_CODE64, SEG_ATTR_P | SEG_ATTR_S | SEG_ATTR_L | 0xb);
	set_segment(&vmcb.ss, SEL_DATA, SEG_ATTR_P | SEG_ATTR_S | 3);
	vmcb.ds = vmcb.es = vmcb.ss;
	vmcb.gdtr.limit = gdtr.limit;
	vmcb.gdtr.base = gdtr.base;
	vmcb.idtr.limit = idtr.limit;
	vmcb.idtr.base = idtr.base;
	vmcb.efer = rdmsr(X86_MSR_EFER);
	vmcb.cr0 = read_cr0();
	vmcb.cr3 = read_cr3();
	vmcb.cr4 = read_cr4();
	vmcb.rflags = X86_RFLAGS_FIXED;
	vmcb.rip = (u64)floor_guest;
}

void test_main(void) {
	wrmsr(X86_MSR_EFER, rdmsr(X86_MSR_EFER) | X86_EFER_SVME);
	wrmsr(X86_MSR_VM_HSAVE_PA, (u64)host_save);
	set_up();
	u64 start = rdtsc();
	floor_rounds((u64)&vmcb, registers, FLOOR_ROUNDS, &vmcb.rip);
	u64 ticks = rdtsc() - start;
	check_eq("every exit was a CPUID", vmcb.exit_code & 0xffffffff, EXIT_CPUID);
	print("bench floor-exit %lu\n", (ticks + FLOOR_ROUNDS / 2) / FLOOR_ROUNDS);
}
