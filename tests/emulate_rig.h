/*
 * A guest for tests of the emulator: one vCPU in a mode of choice with paging, two pages each of
 * code, data, stack and a device whose bytes are plain memory and whose accesses are counted; ports
 * that record what is written and give a running number.
 */
#pragma once

#include "tests/fakes.h"

#include "platform/emulate.h"

/* Linear addresses, the same in every mode; in pages of 4 KiB, not adjacent in physical memory. */
#define CODE	   0x00400000ul
#define DATA	   0x10000000ul
#define DEVICE	   0x10010000ul
#define STACK	   0x10020000ul
#define UNMAPPED   0x10030000ul

#define CODE_GPA   0x20000ul
#define DATA_GPA   0x30000ul
#define STACK_GPA  0x40000ul
#define DEVICE_GPA 0xfee00000ul /* second page: 0x10000 further on */
#define SECOND	   0x10000ul	/* from a first page's gpa to the second's */

#define PTE_P	   0x01ul
#define PTE_W	   0x02ul
#define PTE_U	   0x04ul

extern struct vm *rig_vm;
extern struct vcpu *rig_vcpu;

/* The device: bytes of its two pages, and its accesses. */
extern u8 rig_device[2 * 4096];
struct rig_access {
	gpa_t gpa;
	u64 value;
	u8 size;
	bool write;
};
extern struct rig_access rig_accesses[64]; /* the first of them */
extern unsigned rig_nr_accesses;

/* Ports: what was read and written, size and port of the last access. */
extern u32 rig_port_in, rig_port_out[16];
extern unsigned rig_nr_in, rig_nr_out, rig_port_size;
extern u16 rig_port;

/* Called by gmem_ptr() for writable access to guest memory, when set. */
extern void (*rig_gmem_hook)(void *at);

/* 64-bit mode unless told otherwise by the two below. cmocka's setup and teardown. */
int rig_setup(void **state);
int rig_teardown(void **state);

/* 32-bit protected mode with flat segments and 32-bit paging off. 16-bit real mode, bases 0. */
void rig_protected_mode(void);
void rig_real_mode(void);

/* Maps a page of linear memory by 4-level tables; pte 0 unmaps. */
void rig_map(gva_t gva, u64 pte);

/* Puts an instruction at CODE (gpa or gva as the mode has it) and RIP to it. */
void rig_code(const void *bytes, unsigned len);

/* rig_code() with bytes, then emulate_mmio() for a device access. */
enum outcome rig_run(const void *bytes, unsigned len, gpa_t gpa, bool write);
#define RUN(gpa, write, ...) \
	rig_run((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}), gpa, write)
