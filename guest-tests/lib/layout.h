/* Numbers that assembly and C of the guest runtime share. */
#pragma once

#define SEL_CODE64	0x08
#define SEL_DATA	0x10
#define SEL_CODE32	0x18
#define SEL_CODE16	0x20
#define SEL_DATA16	0x28
#define SEL_USER_CODE32 0x33
#define SEL_USER_DATA	0x3b
#define SEL_USER_CODE64 0x43
#define SEL_FREE	0x48 /* first of the descriptors that tests may fill */
#define SEL_TSS		0x80

#define MAX_CPUS	64

#define AP_TRAMPOLINE	0x8000 /* below 1 MiB, page aligned: SIPI vector 0x08 */
#define LOW_BASE	0x9000 /* where mode.c copies 16-bit code to; up to LOW_END */
#define LOW_END		0xb000

/* Offsets into struct cpu (guest.h), which GS points to. */
#define CPU_RESUME     8
#define CPU_START      16
#define CPU_RESUME_RSP 24
#define CPU_VECTOR     32
#define CPU_STACK_TOP  64
