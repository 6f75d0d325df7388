/*
 * mode_switch(struct mode_switch *): from long mode through compatibility mode down to another
 * mode, a near call to LOW_BASE there, and all the way back (APM 2 14.6.2, SDM 3A 10.8.5.4).
 * All of this code stands in the one to one mapping; the 16-bit part is copied below 64 KiB.
 */
#include "guest-tests/lib/layout.h"

/* struct mode_switch (mode.c) */
#define MS_CR0		0	/* u32 each: state to run the code in */
#define MS_CR3		4
#define MS_CR4		8
#define MS_KIND		12	/* 0: 32-bit, 1: 16-bit protected, 2: real, 3: compatibility */
#define MS_IDT		16	/* pseudo descriptor: u16 limit, u32 base */
#define MS_SAVED_CR0	24
#define MS_SAVED_CR3	28
#define MS_SAVED_CR4	32
#define MS_SAVED_EFER	36
#define MS_SAVED_RSP	40	/* u64 */

#define LOW16(symbol)	(symbol - low16 + LOW_END - 0x200)

	.text
	.code64
	.global	mode_switch
mode_switch:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, MS_SAVED_RSP(%rdi)
	mov	%cr0, %rax
	mov	%eax, MS_SAVED_CR0(%rdi)
	mov	%cr3, %rax
	mov	%eax, MS_SAVED_CR3(%rdi)
	mov	%cr4, %rax
	mov	%eax, MS_SAVED_CR4(%rdi)
	mov	%edi, switch_state
	push	$SEL_CODE32
	lea	to_compatibility(%rip), %rax
	push	%rax
	lretq

	.code32
to_compatibility:
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$LOW_BASE, %esp	/* the stack of the code grows down from it */
	cmpl	$3, MS_KIND(%edi)
	jne	leave_long
	mov	$LOW_BASE, %eax
	call	*%eax
	mov	switch_state, %edi
	jmp	to_long

leave_long:
	mov	MS_SAVED_CR0(%edi), %eax
	and	$0x7fffffff, %eax
	mov	%eax, %cr0
	mov	$0xc0000080, %ecx
	rdmsr
	mov	%eax, MS_SAVED_EFER(%edi)
	and	$~0x100, %eax
	wrmsr
	mov	MS_CR3(%edi), %eax
	mov	%eax, %cr3
	mov	MS_CR4(%edi), %eax
	mov	%eax, %cr4
	mov	MS_CR0(%edi), %eax
	mov	%eax, %cr0
	jmp	1f
1:	lidt	MS_IDT(%edi)
	cmpl	$0, MS_KIND(%edi)
	jne	go16
	mov	$LOW_BASE, %eax
	call	*%eax
	cli
	jmp	back32

go16:
	mov	MS_KIND(%edi), %ecx
	mov	$SEL_DATA16, %eax
	ljmp	$SEL_CODE16, $LOW16(in16)

back32:
	mov	switch_state, %edi
	mov	%cr0, %eax
	and	$0x7fffffff, %eax
	mov	%eax, %cr0
	mov	$0xc0000080, %ecx
	rdmsr
	mov	MS_SAVED_EFER(%edi), %eax
	mov	MS_SAVED_CR4(%edi), %ebx
	mov	%ebx, %cr4
	mov	MS_SAVED_CR3(%edi), %ebx
	mov	%ebx, %cr3
	wrmsr
	mov	MS_SAVED_CR0(%edi), %eax
	mov	%eax, %cr0
to_long:
	ljmp	$SEL_CODE64, $in_long

	.code64
in_long:
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	xor	%eax, %eax
	mov	%eax, %fs
	mov	%eax, %gs
	mov	%edi, %edi
	mov	MS_SAVED_RSP(%rdi), %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

/* Copied to LOW_END - 0x200. Entered in 16-bit protected mode, AX = data selector, CX = kind. */
	.section .rodata
	.global	low16, low16_end
	.code16
low16:
in16:
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %fs
	mov	%ax, %gs
	mov	%ax, %ss
	cmp	$2, %cx
	je	to_real
	mov	$LOW_BASE, %ax
	call	*%ax
	cli
	ljmpl	$SEL_CODE32, $from16
to_real:
	mov	%cr0, %eax
	and	$~1, %eax
	mov	%eax, %cr0
	ljmp	$0, $LOW16(in_real)
in_real:
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %fs
	mov	%ax, %gs
	mov	%ax, %ss
	mov	$LOW_BASE, %ax
	call	*%ax
	cli
	mov	%cr0, %eax
	or	$1, %eax
	mov	%eax, %cr0
	ljmpl	$SEL_CODE32, $from16
low16_end:

	.text
	.code32
from16:
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	jmp	back32
	.code64

	.bss
	.balign	4
switch_state:
	.skip	4
