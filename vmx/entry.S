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
#define GPR(n)	      (8 * (n))
#define VCPU_ARCH_OFFSET 160 /* of struct vcpu; asserted in vmx.c, as are the next two */
#define ARCH_LAUNCHED 0
#define ARCH_HOST_RSP 8
#define FIELD_HOST_RSP 0x6c14

	.section .text.hot, "ax"
	.balign 64
	.globl vmx_enter, vmx_exit_entry
vmx_enter:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	pushq %rdi /* the vCPU, at 0(%rsp) after each exit */
	movq VCPU_ARCH_OFFSET(%rdi), %rax
	cmpq %rsp, ARCH_HOST_RSP(%rax)
	je 1f
	movq %rsp, ARCH_HOST_RSP(%rax)
	movl $FIELD_HOST_RSP, %edx
	vmwrite %rsp, %rdx

1:	cmpb $0, ARCH_LAUNCHED(%rax)
	movb $1, ARCH_LAUNCHED(%rax)
	movq GPR(0)(%rdi), %rax
	movq GPR(1)(%rdi), %rcx
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
	je 2f
	vmresume
	jmp 3f
2:	vmlaunch
	/* Here only when the CPU refused the instruction (SDM 3C 26.1). */
3:	movq (%rsp), %rdi
	call vmx_entry_refused
	jmp 4f

vmx_exit_entry:
	pushq %rdi
	movq 8(%rsp), %rdi
	movq %rax, GPR(0)(%rdi)
	movq %rcx, GPR(1)(%rdi)
	movq %rdx, GPR(2)(%rdi)
	movq %rbx, GPR(3)(%rdi)
	movq %rbp, GPR(5)(%rdi)
	movq %rsi, GPR(6)(%rdi)
	movq %r8, GPR(8)(%rdi)
	movq %r9, GPR(9)(%rdi)
	movq %r10, GPR(10)(%rdi)
	movq %r11, GPR(11)(%rdi)
	movq %r12, GPR(12)(%rdi)
	movq %r13, GPR(13)(%rdi)
	movq %r14, GPR(14)(%rdi)
	movq %r15, GPR(15)(%rdi)
	popq GPR(7)(%rdi)
	call vmx_exit
	movq (%rsp), %rdi
	testb %al, %al
	movq VCPU_ARCH_OFFSET(%rdi), %rax
	jnz 1b

4:	addq $8, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret
