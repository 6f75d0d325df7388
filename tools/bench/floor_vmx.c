/*
 * The floor on Intel's processors; floor.c is AMD's and says what it is. The guest is in 64-bit
 * mode with this machine's own page tables, without EPT, and stays within one page.
 */
#include "guest-tests/lib/guest.h"
#include "guest-tests/lib/layout.h"
#include "kernel/vcpu.h"
#include "tools/bench/floor.h"
#include "vmx/vmcs.h"

const char test_name[] = "floor";

#define ACCESS_CODE64 0xa09bu
#define ACCESS_DATA   0xc093u
#define ACCESS_TSS    0x8bu
#define GS_BASE	      0xc0000101u
#define COM1_LCR      0x3fb
#define LCR_8N1	      3

void floor_guest(void);
void floor_exit(void);
void floor_rounds(u64 *registers, u64 rounds);

static u8 vmxon_region[4096] __aligned(4096), vmcs[4096] __aligned(4096);
static u64 registers[16];

__asm__(".text\n"
	"floor_guest:\n\t"
	"cpuid\n\t"
	"jmp floor_guest\n"
	/* RDI: the guest's registers, RSI: rounds. 0x6c14: host RSP, 0x681e: the guest's RIP. */
	"floor_rounds:\n\t" FLOOR_PUSH "push %rsi\n\tpush %rdi\n\t"
	"mov $0x6c14, %ecx\n\t"
	"vmwrite %rsp, %rcx\n\t"
	"mov %rdi, %rax\n\t" FLOOR_LOAD "vmlaunch\n\t"
	"jmp 2f\n"
	"1:\n\t" FLOOR_LOAD "vmresume\n\t"
	"jmp 2f\n"
	"floor_exit:\n\t"
	"mov (%rsp), %rax\n\t" FLOOR_SAVE "mov $0x681e, %ecx\n\t"
	"vmread %rcx, %rdx\n\t"
	"add $2, %rdx\n\t" /* past CPUID */
	"vmwrite %rdx, %rcx\n\t"
	"decq 8(%rsp)\n\t"
	"jnz 1b\n"
	"2:\n\t"
	"pop %rdi\n\tpop %rsi\n\t" FLOOR_POP "ret\n");

/* Control bits as wanted, with those that must be 1 (SDM 3C A.3.1). */
static u64 controls(u32 msr, u64 wanted) {
	u64 cap = rdmsr(msr +
			(rdmsr(VMX_MSR_BASIC) & BASIC_TRUE ? VMX_MSR_TRUE_PIN - VMX_MSR_PIN : 0));

	return (wanted | (u32)cap) & cap >> 32;
}

static void set_segments(u64 gdt, u16 tr) {
	const u64 *descriptor = (const u64 *)(gdt + tr);
	u64 tss = (descriptor[0] >> 16 & 0xffffff) | (descriptor[0] >> 56 << 24) |
		  descriptor[1] << 32;

	for (unsigned seg = 0; seg < 8; seg++) {
		bool code = seg == SEG_CS;

		vmwrite(VMCS_AT(guest_selector, seg), code ? SEL_CODE64 : SEL_DATA);
		vmwrite(VMCS_AT(guest_access, seg), code ? ACCESS_CODE64 : ACCESS_DATA);
		vmwrite(VMCS_AT(guest_limit, seg), ~0u);
		vmwrite(VMCS_AT(guest_base, seg), 0);
		if (seg < 6) vmwrite(VMCS_AT(host_selector, seg), code ? SEL_CODE64 : SEL_DATA);
	}
	vmwrite(VMCS_AT(guest_access, SEG_LDTR), ACCESS_UNUSABLE);
	vmwrite(VMCS_AT(guest_selector, SEG_TR), tr);
	vmwrite(VMCS_AT(guest_access, SEG_TR), ACCESS_TSS);
	vmwrite(VMCS_AT(guest_limit, SEG_TR), 0x67);
	vmwrite(VMCS_AT(guest_base, SEG_TR), tss);
	vmwrite(VMCS(host_tr_selector), tr);
	vmwrite(VMCS(host_tr_base), tss);
	vmwrite(VMCS(host_fs_base), 0);
	vmwrite(VMCS(host_gs_base), rdmsr(GS_BASE));
}

static void set_up(void) {
	struct descriptor {
		u16 limit;
		u64 base;
	} __packed gdtr, idtr;
	u16 tr;

	__asm__ volatile("sgdt %0" : "=m"(gdtr));
	__asm__ volatile("sidt %0" : "=m"(idtr));
	__asm__ volatile("str %0" : "=r"(tr));
	set_segments(gdtr.base, tr);
	vmwrite(VMCS(pin_controls), controls(VMX_MSR_PIN, 0));
	vmwrite(VMCS(proc_controls), controls(VMX_MSR_PIN + 1, 0));
	vmwrite(VMCS(exit_controls), controls(VMX_MSR_PIN + 2, EXIT_HOST_64));
	vmwrite(VMCS(entry_controls), controls(VMX_MSR_PIN + 3, ENTRY_IA32E));
	vmwrite(VMCS(link), ~0ul);
	vmwrite(VMCS(guest_gdtr_limit), gdtr.limit);
	vmwrite(VMCS(guest_idtr_limit), idtr.limit);
	vmwrite(VMCS(guest_gdtr_base), gdtr.base);
	vmwrite(VMCS(guest_idtr_base), idtr.base);
	vmwrite(VMCS(guest_cr0), read_cr0());
	vmwrite(VMCS(guest_cr3), read_cr3());
	vmwrite(VMCS(guest_cr4), read_cr4());
	vmwrite(VMCS(guest_dr7), 0x400);
	vmwrite(VMCS(guest_rflags), X86_RFLAGS_FIXED);
	vmwrite(VMCS(guest_rip), (u64)floor_guest);
	vmwrite(VMCS(host_gdtr_base), gdtr.base);
	vmwrite(VMCS(host_idtr_base), idtr.base);
	vmwrite(VMCS(host_cr0), read_cr0());
	vmwrite(VMCS(host_cr3), read_cr3());
	vmwrite(VMCS(host_cr4), read_cr4());
	vmwrite(VMCS(host_rip), (u64)floor_exit);
}

void test_main(void) {
	u64 region = (u64)vmxon_region, current = (u64)vmcs;

	outb(COM1_LCR, LCR_8N1); /* Bochs' starts with five bits */
	*(u32 *)vmxon_region = *(u32 *)vmcs = BASIC_REVISION(rdmsr(VMX_MSR_BASIC));
	write_cr0(read_cr0() | rdmsr(VMX_MSR_CR0_FIXED0));
	write_cr4(read_cr4() | X86_CR4_VMXE);
	__asm__ volatile("vmxon %0" : : "m"(region) : "cc", "memory");
	__asm__ volatile("vmclear %0" : : "m"(current) : "cc", "memory");
	__asm__ volatile("vmptrld %0" : : "m"(current) : "cc", "memory");
	set_up();
	u64 start = rdtsc();
	floor_rounds(registers, FLOOR_ROUNDS);
	u64 ticks = rdtsc() - start;
	check_eq("every exit was a CPUID", vmread(VMCS(exit_reason)), REASON_CPUID);
	print("bench floor-exit %lu\n", (ticks + FLOOR_ROUNDS / 2) / FLOOR_ROUNDS);
}
