/*
 * Start of another processor: real mode, in a page below 1 MiB to which kernel/smp.c has copied this
 * code, to 64-bit mode on the boot page tables, to the stack that trampoline_stack names, to
 * smp_ap_start(). One processor at a time.
 */
#include "boot/layout.h"
#include "lib/x86.h"

	.section .rodata.trampoline, "a"
	.balign 16
	.globl trampoline_start, trampoline_end
	.code16
trampoline_start:
	cli
	cld
	movw %cs, %ax
	movw %ax, %ds
	/* The page's physical address: CS * 16. */
	xorl %ebx, %ebx
	movw %ax, %bx
	shll $4, %ebx
	leal (trampoline_32 - trampoline_start)(%ebx), %eax
	movl %eax, trampoline_far - trampoline_start
	lgdtl trampoline_gdt_pointer - trampoline_start
	movl $X86_CR0_PE, %eax
	movl %eax, %cr0
	ljmpl *(trampoline_far - trampoline_start)

	.code32
trampoline_32:
	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	leal (trampoline_end - trampoline_start + 256)(%ebx), %esp
	movl $enter_long_mode, %eax
	call *%eax
	.code64
	movabsq $trampoline_high, %rax
	jmp *%rax

	.balign 8
trampoline_far:
	.long 0
	.word 0x08
	.balign 8
trampoline_gdt_pointer: /* boot/head.S's flat 32-bit needs: code and data */
	.word 3 * 8 - 1
	.globl trampoline_gdt_base
trampoline_gdt_base:
	.long 0
	.balign 8
	.globl trampoline_gdt
trampoline_gdt:
	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff
trampoline_end:

	.text
	.code64
trampoline_high:
	/* Taken by one CPU only: one that comes late, after it was given up, gets nothing. */
	xorl %eax, %eax
	xchgq %rax, trampoline_stack(%rip)
	testq %rax, %rax
	jz 1f
	movq %rax, %rsp
	movq trampoline_cr3(%rip), %rdi
	movl $X86_MSR_EFER, %ecx
	rdmsr
	orl trampoline_efer(%rip), %eax
	wrmsr
	xorl %ebp, %ebp
	/* The stack is mapped by the host's tables only: nothing is pushed before this. */
	movq %rdi, %cr3
	call smp_ap_start
1:	cli
	hlt
	jmp 1b

	.bss
	.balign 8
	.globl trampoline_stack, trampoline_cr3, trampoline_efer
trampoline_stack: .skip 8
trampoline_cr3: .skip 8
trampoline_efer: .skip 8
