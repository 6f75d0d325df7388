/*
 * u64 vmx_enter_l2(struct vmx_registers *regs, u64 resume): VMLAUNCH or VMRESUME with the general
 * registers of L2. 0 after an exit; else CF and ZF of RFLAGS, as the instruction has failed.
 */
	.text
	.global	vmx_enter_l2
vmx_enter_l2:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	push	%rdi
	mov	$0x6c14, %eax		/* HOST_RSP */
	vmwrite	%rsp, %rax
	lea	exited(%rip), %rcx
	mov	$0x6c16, %eax		/* HOST_RIP */
	vmwrite	%rcx, %rax
	test	%rsi, %rsi
	mov	0(%rdi), %rax
	mov	8(%rdi), %rcx
	mov	16(%rdi), %rdx
	mov	24(%rdi), %rbx
	mov	32(%rdi), %rbp
	mov	40(%rdi), %rsi
	mov	56(%rdi), %r8
	mov	64(%rdi), %r9
	mov	72(%rdi), %r10
	mov	80(%rdi), %r11
	mov	88(%rdi), %r12
	mov	96(%rdi), %r13
	mov	104(%rdi), %r14
	mov	112(%rdi), %r15
	mov	48(%rdi), %rdi
	jnz	1f
	vmlaunch
	jmp	2f
1:	vmresume
2:	pushfq
	pop	%rax
	and	$0x41, %eax
	pop	%rdi
	jmp	out

exited:
	xchg	%rdi, (%rsp)
	mov	%rax, 0(%rdi)
	mov	%rcx, 8(%rdi)
	mov	%rdx, 16(%rdi)
	mov	%rbx, 24(%rdi)
	mov	%rbp, 32(%rdi)
	mov	%rsi, 40(%rdi)
	mov	%r8, 56(%rdi)
	mov	%r9, 64(%rdi)
	mov	%r10, 72(%rdi)
	mov	%r11, 80(%rdi)
	mov	%r12, 88(%rdi)
	mov	%r13, 96(%rdi)
	mov	%r14, 104(%rdi)
	mov	%r15, 112(%rdi)
	pop	48(%rdi)
	xor	%eax, %eax
out:	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret
