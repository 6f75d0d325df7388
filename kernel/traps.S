/* Entry of exceptions and interrupts: one 16-byte stub a vector, one common frame (traps.h). */
	.section .text.traps, "ax"

	.balign 16
	.globl trap_stubs
trap_stubs:
	vector = 0
	.rept 256
	.balign 16
	/* These push an error code by themselves (APM 2 table 8-1). */
	.if vector != 8 && (vector < 10 || vector > 14) && vector != 17 && vector != 21 && vector != 29 && vector != 30
	pushq $0
	.endif
	pushq $vector
	jmp trap_common
	vector = vector + 1
	.endr

trap_common:
	cld
	pushq %rax
	pushq %rbx
	pushq %rcx
	pushq %rdx
	pushq %rsi
	pushq %rdi
	pushq %rbp
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, %rdi
	call trap_dispatch
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rbp
	popq %rdi
	popq %rsi
	popq %rdx
	popq %rcx
	popq %rbx
	popq %rax
	addq $16, %rsp
	iretq

	/* void call_on_stack(u64 stack_top, void (*fn)(void)): leaves the current stack for good. */
	.globl call_on_stack
call_on_stack:
	movq %rdi, %rsp
	xorl %ebp, %ebp
	call *%rsi
1:	cli
	hlt
	jmp 1b
