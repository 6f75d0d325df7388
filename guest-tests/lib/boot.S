/*
 * From the multiboot entry (32-bit protected mode, paging off) to C in long mode on the BSP, and
 * from SIPI to C in long mode on the others. Everything below 4 GiB is mapped one to one.
 */
#include "guest-tests/lib/layout.h"

#define MB_MAGIC	0x1badb002
#define MB_FLAGS	0x00010002	/* memory map wanted; address fields valid */

	.section .multiboot, "ax"
	.code32
	.balign 4
multiboot_header:
	.long	MB_MAGIC, MB_FLAGS, -(MB_MAGIC + MB_FLAGS)
	.long	multiboot_header, image_start, data_end, bss_end, _start

	.global	_start
_start:
	cli
	cld
	mov	%eax, %esi
	mov	%ebx, %ebp
	mov	$bss_start, %edi
	mov	$bss_end, %ecx
	sub	%edi, %ecx
	shr	$2, %ecx
	xor	%eax, %eax
	rep stosl
	mov	$boot_stack_top, %esp

	/* PML4 -> PDPT -> four directories of 2 MiB pages. */
	movl	$boot_pdpt + 7, boot_pml4
	mov	$boot_pd + 7, %eax
	mov	$boot_pdpt, %edi
	mov	$4, %ecx
1:	mov	%eax, (%edi)
	add	$4096, %eax
	add	$8, %edi
	loop	1b
	mov	$0x83, %eax
	mov	$boot_pd, %edi
	mov	$2048, %ecx
2:	mov	%eax, (%edi)
	add	$0x200000, %eax
	add	$8, %edi
	loop	2b

	call	enter_paging
	ljmp	$SEL_CODE64, $start64

/* Loads the GDT, turns long mode's paging on and stays in 32-bit code. Spoils EAX, ECX, EDX. */
enter_paging:
	lgdt	gdt_pointer
	mov	%cr4, %eax
	or	$0x20, %eax
	mov	%eax, %cr4
	mov	$boot_pml4, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x100, %eax
	wrmsr
	mov	%cr0, %eax
	and	$~0x60000000, %eax	/* caches on: CD and NW are set after INIT */
	or	$0x80010021, %eax	/* PG, WP, NE, PE */
	mov	%eax, %cr0
	ret

	.code64
start64:
	call	load_data_segments
	mov	%esi, %edi
	mov	%ebp, %esi
	call	guest_start
1:	cli
	hlt
	jmp	1b

load_data_segments:
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	xor	%eax, %eax
	mov	%eax, %fs
	mov	%eax, %gs
	ret

/* An AP in 32-bit protected mode, paging off; ap_cpu is its struct cpu. */
	.code32
ap_start32:
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	ap_cpu, %ebp
	mov	CPU_STACK_TOP(%ebp), %esp
	call	enter_paging
	ljmp	$SEL_CODE64, $ap_start64

	.code64
ap_start64:
	call	load_data_segments
	mov	%ebp, %edi
	call	smp_ap_main
1:	cli
	hlt
	jmp	1b

/* Copied to AP_TRAMPOLINE, where SIPI starts it in real mode with CS = AP_TRAMPOLINE >> 4. */
	.section .rodata
	.global	ap_trampoline, ap_trampoline_end
	.code16
ap_trampoline:
	cli
	cld
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	ap_gdt_pointer - ap_trampoline
	mov	%cr0, %eax
	or	$1, %eax
	mov	%eax, %cr0
	ljmpl	$SEL_CODE32, $ap_start32
	.balign	4
ap_gdt_pointer:
	.word	gdt_end - gdt - 1
	.long	gdt
ap_trampoline_end:
	.code64

	.data
	.balign	16
	.global	gdt, gdt_end, gdt_pointer
gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* 0x08 64-bit code */
	.quad	0x00cf93000000ffff	/* 0x10 flat data */
	.quad	0x00cf9b000000ffff	/* 0x18 flat 32-bit code */
	.quad	0x00009b000000ffff	/* 0x20 16-bit code, base 0 */
	.quad	0x000093000000ffff	/* 0x28 16-bit data, base 0 */
	.quad	0x00cffb000000ffff	/* 0x30 user 32-bit code */
	.quad	0x00cff3000000ffff	/* 0x38 user data */
	.quad	0x00affb000000ffff	/* 0x40 user 64-bit code */
	.fill	(SEL_TSS - 0x48) / 8, 8, 0	/* free for tests: 0x48 ... */
	.fill	2 * MAX_CPUS, 8, 0	/* one TSS a CPU */
gdt_end:
gdt_pointer:
	.word	gdt_end - gdt - 1
	.quad	gdt

	.bss
	.balign	4096
	.global	boot_pml4, boot_pdpt, boot_pd
boot_pml4:	.skip	4096
boot_pdpt:	.skip	4096
boot_pd:	.skip	4 * 4096
boot_stack:	.skip	32768
	.global boot_stack_top
boot_stack_top:
