/*
 * Constants that assembly and C share: the host's virtual address space and its segments.
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

/* Selectors of the host's GDT (kernel/cpu.c). */
#define HOST_CS	 0x08
#define HOST_DS	 0x10
#define HOST_TSS 0x18
