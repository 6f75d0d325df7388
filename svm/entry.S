/*
 * void svm_enter(struct vcpu *vcpu, bool shadow): into the guest and out of it (APM 2 15.5).
 *
 * Called with GIF 0, RFLAGS.IF 1 and the guest's VMLOAD state loaded. Enters, and after each exit
 * calls svm_exit(), which returns the address of the VMCB to enter with, or 0 to leave. Only the
 * general registers change hands here: VMRUN switches RAX, RSP, RIP, RFLAGS, segments and control
 * registers; all else stays the guest's. With `shadow` an STI comes right before (quirks.h).
 */
#include "kernel/guest_regs.h"

	.section .text.hot, "ax"
	.balign 64
	.globl svm_enter, svm_vmrun
svm_enter:
	push_callee_saved
	pushq %rdi /* the vCPU, at 0(%rsp) when VMRUN is done */
	movq VCPU_ARCH_OFFSET(%rdi), %rax
	movq (%rax), %rax
	testb %sil, %sil
	jnz 3f

1:	load_guest_regs
svm_vmrun:
	vmrun
2:	/* RAX is the VMCB's address again. */
	movq (%rsp), %rax
	movq %rdi, GPR(7)(%rax)
	save_guest_regs %rax
	movq %rax, %rdi
	call svm_exit
	movq (%rsp), %rdi
	testq %rax, %rax
	jnz 1b

	addq $8, %rsp
	pop_callee_saved
	ret

3:	load_guest_regs
	sti
	vmrun
	jmp 2b
