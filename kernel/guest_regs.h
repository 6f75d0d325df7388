/* For every entry.S: registers between struct vcpu and the CPU, but for RAX and RSP. */
#pragma once

/* clang-format off */

#define GPR(n)		 (8 * (n)) /* in struct vcpu, by enum gpr */
#define VCPU_ARCH_OFFSET 160	   /* the same; the back ends assert it */

/* What a function gives back as it found it (System V ABI 3.2.1). */
	.macro push_callee_saved
	.irp reg, rbx, rbp, r12, r13, r14, r15
	pushq %\reg
	.endr
	.endm

	.macro pop_callee_saved
	.irp reg, r15, r14, r13, r12, rbp, rbx
	popq %\reg
	.endr
	.endm

/* The guest's registers from the vCPU at RDI; RDI itself comes last. */
	.macro load_guest_regs
	movq GPR(1)(%rdi), %rcx
	movq GPR(2)(%rdi), %rdx
	movq GPR(3)(%rdi), %rbx
	movq GPR(5)(%rdi), %rbp
	movq GPR(6)(%rdi), %rsi
	.irp n, 8, 9, 10, 11, 12, 13, 14, 15
	movq GPR(\n)(%rdi), %r\n
	.endr
	movq GPR(7)(%rdi), %rdi
	.endm

/* The guest's registers, but RDI, to the vCPU at `vcpu`. */
	.macro save_guest_regs vcpu
	movq %rcx, GPR(1)(\vcpu)
	movq %rdx, GPR(2)(\vcpu)
	movq %rbx, GPR(3)(\vcpu)
	movq %rbp, GPR(5)(\vcpu)
	movq %rsi, GPR(6)(\vcpu)
	.irp n, 8, 9, 10, 11, 12, 13, 14, 15
	movq %r\n, GPR(\n)(\vcpu)
	.endr
	.endm
