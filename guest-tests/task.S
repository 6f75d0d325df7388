/*
 * The tasks of task.c, in 32-bit code: the main one, that makes each switch, and two others, that
 * note what they have got and go back.
 */
#include "guest-tests/lib/layout.h"
#include "guest-tests/task.h"

#define ICR		0xfee00300
#define ICR_SELF_IPI	(0x44000 + VECTOR_INTERRUPT)
#define ICR_NMI_TO_0	0x4400

.macro	ENTRY name
	.global	\name
\name:
.endm

.macro	NOTE_GPRS note
	mov	%eax, \note+0
	mov	%ecx, \note+4
	mov	%edx, \note+8
	mov	%ebx, \note+12
	mov	%esp, \note+16
	mov	%ebp, \note+20
	mov	%esi, \note+24
	mov	%edi, \note+28
	pushfl
	popl	\note+4*NOTE_FLAGS
	xor	%eax, %eax
	str	%ax
	mov	%eax, \note+4*NOTE_TR
	mov	%cr3, %eax
	mov	%eax, \note+4*NOTE_CR3
	mov	task_probe, %eax
	mov	(%eax), %eax
	mov	%eax, \note+4*NOTE_PROBE
	incl	\note+4*NOTE_RUNS
.endm

.macro	NOTE_SEGMENT note, seg, index
	mov	%\seg, %eax
	mov	%eax, \note+4*(NOTE_SEG+\index)
.endm

/* A task: what it notes, then the way back, and the same when it is entered behind that. */
.macro	TASK name, note, leave
ENTRY \name
	NOTE_GPRS \note
	pop	%eax		/* (%esp) may be beyond a 16-bit stack */
	push	%eax
	mov	%eax, \note+4*NOTE_ERROR
	xor	%eax, %eax
	sldt	%ax
	mov	%eax, \note+4*NOTE_LDT
	mov	%cr0, %eax
	mov	%eax, \note+4*NOTE_CR0
	mov	%dr7, %eax
	mov	%eax, \note+4*NOTE_DR7
	NOTE_SEGMENT \note, es, 0
	NOTE_SEGMENT \note, cs, 1
	NOTE_SEGMENT \note, ss, 2
	NOTE_SEGMENT \note, ds, 3
	NOTE_SEGMENT \note, gs, 5
	NOTE_SEGMENT \note, fs, 4
	test	%eax, %eax
	jz	1f
	mov	%fs:0, %eax
	mov	%eax, \note+4*NOTE_IN_FS
1:	mov	main_tss+TSS_EIP, %eax
	mov	%eax, \note+4*NOTE_EIP
	clts
	call	*\leave
	jmp	\name
.endm

/* What the main task does, with known registers before it and noted ones behind. */
.macro	OP name
ENTRY \name
	movl	$1f, task_at
	movl	$2f, task_resume
	mov	$0x11111111, %eax
	mov	$0x22222222, %ecx
	mov	$0x33333333, %edx
	mov	$0x44444444, %ebx
	mov	$0x55555555, %ebp
	mov	$0x66666666, %esi
	mov	$0x77777777, %edi
1:
.endm
.macro	END_OP
2:	NOTE_GPRS main_note
	mov	$0x400, %eax
	mov	%eax, %dr7
	pushl	$2
	popfl
	ret
.endm

	.text
	.code32

/* Copied to where mode_run() calls it. */
ENTRY task_main
	mov	%cr3, %eax
	mov	%eax, main_tss+TSS_CR3
	mov	%eax, fault_tss+TSS_CR3
	cmpl	$0, other_tss+TSS_CR3
	jne	1f
	mov	%eax, other_tss+TSS_CR3
1:	mov	$SEL_MAIN, %eax
	ltr	%ax
	xor	%eax, %eax
	lldt	%ax
	mov	task_op, %eax
	call	*%eax
	clts
	ret
ENTRY task_main_end

	TASK task_other, other_note, other_leave
	TASK task_fault, fault_note, fault_leave

ENTRY leave_iret
	iretl
ENTRY leave_iret_end
	ret

ENTRY leave_jmp
	ljmp	$SEL_MAIN, $0
	ret

/* As a handler does that repairs something: not to the faulting instruction again. */
ENTRY leave_resume
	mov	task_resume, %eax
	mov	%eax, main_tss+TSS_EIP
	iretl
	ret

/* One more NMI, which has to wait for IRET. */
ENTRY leave_nmi
	movl	$leave_iret, other_leave
	movl	$ICR_NMI_TO_0, ICR
	nop
	nop
	mov	other_note+4*NOTE_RUNS, %eax
	mov	%eax, other_note+4*NOTE_RUNS_LEFT
	iretl
	ret

	OP op_far_jmp
	ljmp	*task_target
	END_OP

	OP op_far_call
	lcall	*task_target
	END_OP

	OP op_int
	int	$VECTOR_GATE
	END_OP

	OP op_int3
	int3
	END_OP

	OP op_iret
	pushfl
	orl	$FLAG_NT, (%esp)
	popfl
	iretl
	END_OP

	OP op_gp
	mov	%ax, %ds
	END_OP

	OP op_pf
	movl	$1, MISSING
	END_OP

	OP op_df
	int	$VECTOR_NO_GATE
	END_OP

	OP op_interrupt
	movl	$ICR_SELF_IPI, ICR
	sti
	nop
	nop
	nop
	nop
	cli
	END_OP

	OP op_nmi
	movl	$ICR_NMI_TO_0, ICR
	nop
	nop
	outb	%al, $0x80	/* a hypervisor gets to see this at the latest */
	nop
	nop
	END_OP

	OP op_debug
	mov	$0x507, %eax	/* L0, G0, L1, LE: DR0 and DR1 are 0 */
	mov	%eax, %dr7
	mov	$0x11111111, %eax
	ljmp	*task_target
	END_OP

.macro	TRAP vector
ENTRY trap_\vector
	pushl	$\vector
	jmp	trap_common
.endm

ENTRY trap_1
	pushl	$0
	pushl	$1
	jmp	trap_common
	TRAP 8
	TRAP 10
	TRAP 11
	TRAP 12
	TRAP 13
	TRAP 14
trap_common:
	popl	trap_note+4*TRAP_VECTOR
	popl	trap_note+4*TRAP_ERROR
	push	%eax
	mov	4(%esp), %eax
	mov	%eax, trap_note+4*TRAP_EIP
	mov	%cr2, %eax
	mov	%eax, trap_note+4*TRAP_CR2
	mov	%dr6, %eax
	mov	%eax, trap_note+4*TRAP_DR6
	xor	%eax, %eax
	mov	%eax, %dr6
	str	%ax
	mov	%eax, trap_note+4*TRAP_TR
	incl	trap_note+4*TRAP_COUNT
	cmpl	$1, trap_note+4*TRAP_VECTOR
	je	1f			/* a trap goes on where it was */
	mov	task_resume, %eax
	mov	%eax, 4(%esp)
1:	pop	%eax
	iretl

/* From ring 3 or virtual-8086 mode, on the stack that the task's TSS has for this. */
ENTRY ring0_entry
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	mov	4(%esp), %eax
	mov	%eax, trap_note+4*TRAP_CS
	mov	8(%esp), %eax
	mov	%eax, trap_note+4*TRAP_FLAGS
	incl	trap_note+4*TRAP_COUNT
	ljmp	$SEL_MAIN, $0

/* A handler in a task that it does not return to. */
ENTRY fault_inside
	mov	$SEL_DATA, %eax
	mov	%eax, %ds
	popl	trap_note+4*TRAP_ERROR
	popl	trap_note+4*TRAP_EIP
	popl	trap_note+4*TRAP_CS
	xor	%eax, %eax
	str	%ax
	mov	%eax, trap_note+4*TRAP_TR
	ljmp	$SEL_MAIN, $0

ENTRY ring3_code
	mov	$0xbeef, %ax
	mov	%ax, 0x7010
	int	$VECTOR_RING0

/* Copied below 64 KiB. */
ENTRY stub16
	jmp	*stub16_to
ENTRY stub16_end
stub16_to:
	.long	task_other

	.code16
ENTRY v86_code
	mov	$0xbeef, %ax
	mov	%ax, 0x7010
	int	$VECTOR_RING0
ENTRY v86_code_end
