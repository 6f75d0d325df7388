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
#define GPR(n)	      (8 * (n))
#define VCPU_ARCH_OFFSET 160 /* of struct vcpu; asserted in svm.c */

	.section .text.hot, "ax"
	.balign 64
	.globl svm_enter, svm_vmrun
svm_enter:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	pushq %rdi
	movq VCPU_ARCH_OFFSET(%rdi), %rax
	movq (%rax), %rax
	pushq %rax /* the VMCB's address, at 0(%rsp) when VMRUN is done; the vCPU at 8(%rsp) */

1:	movq GPR(1)(%rdi), %rcx
	movq GPR(2)(%rdi), %rdx
	movq GPR(3)(%rdi), %rbx
	movq GPR(5)(%rdi), %rbp
	movq GPR(6)(%rdi), %rsi
	movq GPR(8)(%rdi), %r8
	movq GPR(9)(%rdi), %r9
	movq GPR(10)(%rdi), %r10
	movq GPR(11)(%rdi), %r11
	movq GPR(12)(%rdi), %r12
	movq GPR(13)(%rdi), %r13
	movq GPR(14)(%rdi), %r14
	movq GPR(15)(%rdi), %r15
	movq GPR(7)(%rdi), %rdi
svm_vmrun:
	vmrun
	/* RAX is the VMCB's address again. */
	movq 8(%rsp), %rax
	movq %rdi, GPR(7)(%rax)
	movq %rcx, GPR(1)(%rax)
	movq %rdx, GPR(2)(%rax)
	movq %rbx, GPR(3)(%rax)
	movq %rbp, GPR(5)(%rax)
	movq %rsi, GPR(6)(%rax)
	movq %r8, GPR(8)(%rax)
	movq %r9, GPR(9)(%rax)
	movq %r10, GPR(10)(%rax)
	movq %r11, GPR(11)(%rax)
	movq %r12, GPR(12)(%rax)
	movq %r13, GPR(13)(%rax)
	movq %r14, GPR(14)(%rax)
	movq %r15, GPR(15)(%rax)
	movq %rax, %rdi
	call svm_exit
	movq 8(%rsp), %rdi
	testb %al, %al
	movq (%rsp), %rax
	jnz 1b

	addq $16, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret
