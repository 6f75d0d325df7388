/*
 * Code in the processor's other modes. The code is assembly between labels, position independent;
 * it is copied to LOW_BASE (below 64 KiB) and called near, with interrupts off; it returns near
 * (with the operand size of its mode) and may spoil every general register. It finds a struct
 * mode_data at LOW_DATA, which C fills before and reads after.
 */
#pragma once

#include "guest-tests/lib/guest.h"

enum mode {
	MODE_REAL,	   /* 16-bit, segments 0 */
	MODE_PROTECTED16,  /* 16-bit protected, paging off */
	MODE_PROTECTED32,  /* 32-bit protected, paging off */
	MODE_PAGING32,	   /* 32-bit, two-level paging with 4 MiB pages, one to one */
	MODE_PAGING32_PAE, /* 32-bit, PAE paging with 2 MiB pages, one to one */
	MODE_COMPATIBILITY /* 32-bit code under long mode */
};

#define LOW_DATA 0x7000

struct mode_data {
	u32 value[32]; /* in and out, as test and code agree */
};

static inline struct mode_data *mode_data(void) { return (struct mode_data *)LOW_DATA; }

/*
 * Where the interrupt table of the called code is. Default in real mode: the vector table at 0. In
 * protected mode without one of its own every exception is a triple fault.
 */
struct mode_tables {
	u32 idt_base;
	u16 idt_limit;
};

void mode_run(enum mode mode, const struct mode_tables *tables, const void *code, size_t size);

/* Real mode's interrupt vector, as segment 0 and an offset. */
void mode_real_vector(u8 vector, u16 offset);

/* The tables of the two 32-bit paging modes, for a test to change before mode_run(). */
u32 *mode_directory(void);	       /* 1024 entries of 4 MiB */
u64 *mode_pae_directory(unsigned gib); /* 512 entries of 2 MiB, of one of four GiB */
