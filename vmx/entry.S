/*
 * The way into the guest and out of it (SDM 3C 26, 27).
 *
 * void vmx_enter(struct vcpu *vcpu)
 *
 * Called with interrupts off and the vCPU's VMCS current. Enters, and after each exit calls
 * vmx_exit(); as long as that returns true, enters again. On that short way only the general
 * registers change hands here: the CPU itself switches RSP, RIP, RFLAGS, segments and control
 * registers; the system-call MSRs, CR2, debug registers, x87 and vectors stay the guest's.
 */
#include "kernel/guest_regs.h"

/* Of struct vmx_level, asserted in vmx.c; the pointer to it is the first in struct vmx_vcpu. */
#define LEVEL_LAUNCHED 0
#define LEVEL_HOST_RSP 8
#define FIELD_HOST_RSP 0x6c14

	.section .text.hot, "ax"
	.balign 64
	.globl vmx_enter, vmx_exit_entry
vmx_enter:
	push_callee_saved
	pushq %rdi /* the vCPU, at 0(%rsp) after each exit */
	movq VCPU_ARCH_OFFSET(%rdi), %rax
	movq (%rax), %rax
	cmpq %rsp, LEVEL_HOST_RSP(%rax)
	je 1f
	movq %rsp, LEVEL_HOST_RSP(%rax)
	movl $FIELD_HOST_RSP, %edx
	vmwrite %rsp, %rdx

1:	cmpb $0, LEVEL_LAUNCHED(%rax)
	je 2f
	movq GPR(0)(%rdi), %rax
	load_guest_regs
	vmresume
	jmp 3f
2:	movb $1, LEVEL_LAUNCHED(%rax)
	movq GPR(0)(%rdi), %rax
	load_guest_regs
	vmlaunch
	/* Here only when the CPU refused the instruction (SDM 3C 26.1). */
3:	movq (%rsp), %rdi
	call vmx_entry_refused
	jmp 4f

vmx_exit_entry:
	pushq %rdi
	movq 8(%rsp), %rdi
	movq %rax, GPR(0)(%rdi)
	save_guest_regs %rdi
	popq GPR(7)(%rdi)
	call vmx_exit
	movq (%rsp), %rdi
	testb %al, %al
	movq VCPU_ARCH_OFFSET(%rdi), %rax
	movq (%rax), %rax
	jnz 1b

4:	addq $8, %rsp
	pop_callee_saved
	ret
