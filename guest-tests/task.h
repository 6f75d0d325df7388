/* Numbers that task.c and task.S share. */
#pragma once

/* The first nine are the runtime's. */
#define SEL_CODE_ABSENT	 0x48
#define SEL_DATA_ABSENT	 0x50
#define SEL_READ_ONLY	 0x58
#define SEL_EXECUTE_ONLY 0x60
#define SEL_CONFORMING	 0x68
#define SEL_NEVER_USED	 0x70 /* data, not accessed yet */
#define SEL_LDT		 0x78
#define SEL_LDT_ABSENT	 0x80
#define SEL_MAIN	 0x88
#define SEL_OTHER	 0x90
#define SEL_FAULT	 0x98
#define SEL_GATE	 0xa0 /* task gate to OTHER */
#define SEL_TSS_ABSENT	 0xa8
#define SEL_TSS_SHORT	 0xb0
#define SEL_TSS16	 0xb8
#define SEL_TSS16_SHORT	 0xc0
#define SEL_BEYOND	 0x1f8
#define IN_LDT(index)	 ((index) << 3 | 4)

#define TYPE_TSS	 0x89
#define TYPE_TSS16	 0x81
#define TYPE_LDT	 0x82
#define TYPE_TASK_GATE	 0x85
#define TYPE_INTERRUPT	 0x8e
#define BUSY		 0x2

#define MISSING		 0x30000000 /* not in the tables of 32-bit paging */

#define VECTOR_GATE	 0x40 /* INT through a task gate */
#define VECTOR_RING0	 0x41 /* out of ring 3 and virtual-8086 mode */
#define VECTOR_NO_GATE	 0x42
#define VECTOR_INTERRUPT 0x60

#define FLAG_NT		 0x4000
#define FLAG_VM		 0x20000
#define FLAG_IOPL3	 0x3000

/* What a task notes of itself: u32 each. */
#define NOTE_GPR       0 /* 8 in the order of a TSS */
#define NOTE_FLAGS     8
#define NOTE_ERROR     9 /* what is on the stack's top */
#define NOTE_TR	       10
#define NOTE_LDT       11
#define NOTE_CR0       12
#define NOTE_CR3       13
#define NOTE_DR7       14
#define NOTE_SEG       15 /* 6 in the order of a TSS */
#define NOTE_PROBE     21
#define NOTE_IN_FS     22
#define NOTE_RUNS      23
#define NOTE_RUNS_LEFT 24 /* NOTE_RUNS when it last went back */
#define NOTE_EIP       25 /* of the main task, in its TSS */
#define NR_NOTES       26

/* What an interrupt gate's handler notes. */
#define TRAP_VECTOR   0
#define TRAP_ERROR    1
#define TRAP_EIP      2
#define TRAP_TR	      3
#define TRAP_CR2      4
#define TRAP_COUNT    5
#define TRAP_DR6      6
#define TRAP_CS	      7
#define TRAP_FLAGS    8
#define NR_TRAP_NOTES 9

/* Offsets in a TSS of 32 bits. */
#define TSS_CR3 28
#define TSS_EIP 32
