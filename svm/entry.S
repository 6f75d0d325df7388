/*
 * The way into the guest and out of it (APM 2 15.5).
 *
 * void svm_enter(struct vcpu *vcpu)
 *
 * Called with GIF 0, RFLAGS.IF 1 and the guest's VMLOAD state loaded. Enters, and after each exit
 * calls svm_exit(); as long as that returns true, enters again. On that short way only the general
 * registers change hands: VMRUN itself switches RAX, RSP, RIP, RFLAGS, segments and control
 * registers; FS, GS, TR, LDTR and the syscall MSRs stay the guest's, and so do x87 and vectors.
 */
#include "kernel/guest_regs.h"

	.section .text.hot, "ax"
	.balign 64
	.globl svm_enter, svm_vmrun
svm_enter:
	push_callee_saved
	pushq %rdi
	movq VCPU_ARCH_OFFSET(%rdi), %rax
	movq (%rax), %rax
	pushq %rax /* the VMCB's address, at 0(%rsp) when VMRUN is done; the vCPU at 8(%rsp) */

1:	load_guest_regs
svm_vmrun:
	vmrun
	/* RAX is the VMCB's address again. */
	movq 8(%rsp), %rax
	movq %rdi, GPR(7)(%rax)
	save_guest_regs %rax
	movq %rax, %rdi
	call svm_exit
	movq 8(%rsp), %rdi
	testb %al, %al
	movq (%rsp), %rax
	jnz 1b

	addq $16, %rsp
	pop_callee_saved
	ret
