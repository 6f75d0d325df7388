/*
 * Constants that assembly and C share: the host's virtual address space and the few architectural
 * bits that start-up code needs.
 *
 *   0xffff800000000000  DIRECT_BASE    all physical memory, writable, never executable
 *   0xffffff0000000000  CPU_AREA_BASE  a CPU_AREA_SIZE slot a CPU: struct cpu, stacks, guard pages
 *   0xffffff8000000000  MMIO_BASE      device registers, uncached
 *   0xffffffff80000000  KERNEL_BASE    the image: code, constants, data, each with its own rights
 */
#pragma once

#define KERNEL_BASE   0xffffffff80000000
#define DIRECT_BASE   0xffff800000000000
#define CPU_AREA_BASE 0xffffff0000000000
#define MMIO_BASE     0xffffff8000000000
#define CPU_AREA_SIZE 0x10000

#define PTE_P	      0x001
#define PTE_W	      0x002
#define PTE_PS	      0x080

#define CR0_PE	      0x1
#define CR0_WP	      0x10000
#define CR0_NW	      0x20000000
#define CR0_CD	      0x40000000
#define CR0_PG	      0x80000000
#define CR4_PAE	      0x20
#define CR4_LA57      0x1000
#define MSR_EFER      0xc0000080
#define EFER_LME_BIT  8
#define EFER_LME      0x100

/* Selectors of the host's GDT (kernel/cpu.c). */
#define HOST_CS	 0x08
#define HOST_DS	 0x10
#define HOST_TSS 0x18
