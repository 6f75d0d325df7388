/* Entry of the demonstration guest: multiboot 1 header, stack, call of demo_main(magic, info). */
#define MAGIC 0x1BADB002
#define FLAGS 0x00000002 /* memory information */

	.section .multiboot, "a"
	.balign 4
	.long MAGIC
	.long FLAGS
	.long -(MAGIC + FLAGS)

	.text
	.globl demo_start
demo_start:
	cld
	movl $stack_top, %esp
	xorl %ebp, %ebp
	pushl %ebx
	pushl %eax
	call demo_main
stop:
	cli
	hlt
	jmp stop

	.bss
	.balign 16
	.skip 4096
stack_top:

	.section .note.GNU-stack, "", @progbits
