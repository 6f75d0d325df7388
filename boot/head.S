/*
 * From the boot loader to C: the multiboot 1 and 2 headers, the step from 32-bit protected mode to
 * 64-bit mode on temporary page tables, and the call of kernel_start().
 *
 * The temporary tables map the first 4 GiB three times, with 2 MiB pages, writable and executable:
 * at 0 (this code, and the trampoline of the other processors), at DIRECT_BASE and, the first GiB
 * only, at KERNEL_BASE. kernel/space.c replaces them before any guest exists.
 */
#include "boot/layout.h"
#include "lib/x86.h"

#define MB1_MAGIC 0x1BADB002
#define MB1_FLAGS 0x00010003 /* modules page aligned, memory map wanted, address fields valid */
#define MB2_MAGIC 0xE85250D6

	.section .multiboot, "a"
	.balign 8
mb1_header: /* Multiboot Specification 0.6.96, 3.1 */
	.long MB1_MAGIC
	.long MB1_FLAGS
	.long -(MB1_MAGIC + MB1_FLAGS)
	.long mb1_header
	.long image_start
	.long image_file_end
	.long image_end
	.long boot_entry

	.balign 8
mb2_header: /* Multiboot2 Specification 2.0, 3.1 */
	.long MB2_MAGIC
	.long 0
	.long mb2_header_end - mb2_header
	.long -(MB2_MAGIC + (mb2_header_end - mb2_header))
	/* Information request, optional: command line, modules, memory maps, screen, ACPI. */
	.balign 8
	.short 1, 1
	.long 8 + 7 * 4
	.long 1, 3, 6, 8, 14, 15, 17
	/* A frame buffer, optional: without one VGA's text screen or none does. */
	.balign 8
	.short 5, 1
	.long 20
	.long 1024, 768, 32
	/* Modules page aligned. */
	.balign 8
	.short 6, 0
	.long 8
	/* End. */
	.balign 8
	.short 0, 0
	.long 8
mb2_header_end:

	.section .boot.text, "ax"
	.code32
	.globl boot_entry
boot_entry:
	cli
	cld
	movl %eax, %ebp /* magic; ebx holds the information's address */
	movl $boot_stack32_top, %esp

	/* A 64-bit CPU? (APM 3 Fn8000_0001_EDX[29]) */
	pushl %ebx
	movl $0x80000000, %eax
	cpuid
	cmpl $0x80000001, %eax
	jb no_long_mode
	movl $0x80000001, %eax
	cpuid
	popl %ebx
	testl $(1 << 29), %edx
	jnz build_tables

no_long_mode:
	/* No console exists yet: COM1 and the text screen are all there may be. */
	movl $no_long_mode_text, %esi
	movl $0xb8000, %edi
1:	lodsb
	testb %al, %al
	jz 2f
	movb $0x0f, %ah
	stosw
	movw $0x3f8, %dx
	outb %al, %dx
	jmp 1b
2:	hlt
	jmp 2b

build_tables:
	movl $boot_pd - KERNEL_BASE, %edi
	movl $(X86_PTE_P | X86_PTE_W | X86_PTE_PS), %eax
	movl $(4 * 512), %ecx
1:	movl %eax, (%edi)
	movl $0, 4(%edi)
	addl $0x200000, %eax
	addl $8, %edi
	loop 1b

	movl $boot_pdpt_low - KERNEL_BASE, %edi
	movl $(boot_pd - KERNEL_BASE + X86_PTE_P + X86_PTE_W), %eax
	movl $4, %ecx
1:	movl %eax, (%edi)
	addl $0x1000, %eax
	addl $8, %edi
	loop 1b
	movl $(boot_pd - KERNEL_BASE + X86_PTE_P + X86_PTE_W), boot_pdpt_high - KERNEL_BASE + 510 * 8
	movl $(boot_pdpt_low - KERNEL_BASE + X86_PTE_P + X86_PTE_W), %eax
	movl %eax, boot_pml4 - KERNEL_BASE
	movl %eax, boot_pml4 - KERNEL_BASE + 256 * 8
	movl $(boot_pdpt_high - KERNEL_BASE + X86_PTE_P + X86_PTE_W), boot_pml4 - KERNEL_BASE + 511 * 8

	call enter_long_mode
	.code64
	movabsq $start_high, %rax
	jmp *%rax

	/*
	 * Turns paging and 64-bit mode on and returns to 64-bit code at the same place. Used by the
	 * boot processor here and, linked at the same identity address, by trampoline.S. Changes eax,
	 * ecx, edx and edi.
	 */
	.code32
	.globl enter_long_mode
enter_long_mode:
	popl %edi
	/* Four levels, also where the firmware had five. */
	movl %cr4, %eax
	andl $~X86_CR4_LA57, %eax
	orl $X86_CR4_PAE, %eax
	movl %eax, %cr4
	movl $boot_pml4 - KERNEL_BASE, %eax
	movl %eax, %cr3
	movl $X86_MSR_EFER, %ecx
	rdmsr
	orl $X86_EFER_LME, %eax
	wrmsr
	movl %cr0, %eax
	orl $(X86_CR0_PG | X86_CR0_WP), %eax
	andl $~(X86_CR0_CD | X86_CR0_NW), %eax
	movl %eax, %cr0
	lgdtl boot_gdt_pointer
	ljmpl $0x08, $1f
	.code64
1:	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	movl %edi, %edi
	jmp *%rdi

	.section .boot.data, "aw"
	.balign 8
boot_gdt:
	.quad 0
	.quad 0x00af9b000000ffff /* 64-bit code */
	.quad 0x00cf93000000ffff /* data */
boot_gdt_pointer:
	.short boot_gdt_pointer - boot_gdt - 1
	.long boot_gdt
no_long_mode_text:
	.asciz "Roost needs a 64-bit CPU."
	.balign 16
	.skip 64
boot_stack32_top:

	.text
	.code64
start_high:
	/* The end of the one whole, aligned slot in boot_area. */
	leaq boot_area + 2 * CPU_AREA_SIZE - 4096(%rip), %rsp
	andq $-CPU_AREA_SIZE, %rsp
	/* Zero .bss is the loader's duty under both specifications. */
	movl %ebp, %edi
	movl %ebx, %esi
	xorl %ebp, %ebp
	call kernel_start
1:	cli
	hlt
	jmp 1b

	.bss
	.balign 4096
	.globl boot_pml4
boot_pml4: .skip 4096
	.globl boot_pdpt_low
boot_pdpt_low: .skip 4096
boot_pdpt_high: .skip 4096
boot_pd: .skip 4 * 4096
	/*
	 * Stack and per-CPU structure of the boot processor until kernel/cpu.c has built the real ones.
	 * Larger than a slot instead of aligned like one: the segment's alignment would tear the file
	 * apart, which linker.ld forbids.
	 */
boot_area: .skip 2 * CPU_AREA_SIZE - 4096
