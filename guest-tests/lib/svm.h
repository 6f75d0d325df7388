/*
 * A guest of the test's own (L2), by AMD's virtualization: the test is then a hypervisor, and the
 * machine below it is told apart by nothing but the TSC.
 *
 *	svm_init();
 *	struct vmcb *vmcb = l2_new(code);	 code: a C function or assembly, 64-bit, of this
 *image check_eq("exit", l2_run(vmcb), EXIT_VMMCALL);
 *
 * The L2 shares the test's address space, descriptor tables, FS, GS and TR, and has a stack of its
 * own; interrupts are off in it. VMMCALL, HLT, SHUTDOWN and physical interrupts end its run. Each
 * of the first L2_CPUS CPUs can have one, after svm_init() there.
 */
#pragma once

#include "guest-tests/lib/guest.h"
#include "svm/vmcb.h"

/* The general registers but RAX and RSP, which the control block has. */
struct l2_registers {
	u64 rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
};

#define L2_CPUS 4

/* Of this CPU's L2: loaded before each run, stored after it. */
struct l2_registers *l2_regs_here(void);
#define l2_regs (*l2_regs_here())

/* False, with a skip line, when there is no SVM here. EFER.SVME and VM_HSAVE_PA are set else. */
bool svm_init(void);
/* EDX of CPUID 8000_000A. */
u32 svm_feature_bits(void);

/* A control block for this CPU's L2 (always the same page, anew), ready to run code. */
struct vmcb *l2_new(const void *code);
/* Sets code and stack of an L2 to begin anew; the rest stays. */
void l2_restart(struct vmcb *vmcb, const void *code);
/* A root of nested tables that map 4 GiB one to one in 2 MiB pages; page_entry_in() changes them.
 */
u64 npt_new(void);
/* Gives L2 these tables; what is cached of others goes. */
void l2_use_npt(struct vmcb *vmcb, u64 root);
/* CLGI, VMRUN, STGI. Returns the exit code. */
u64 l2_run(struct vmcb *vmcb);
/* VMRUN alone, with GIF and IF as they are. */
u64 l2_enter(struct vmcb *vmcb);
/* The same of a control block at this address, which need not be one. */
void l2_enter_at(u64 address);
/* Runs on until VMMCALL: RAX then. Fails the test when anything else ends it. */
u64 l2_result(struct vmcb *vmcb);

static inline void stgi(void) { __asm__ volatile("stgi" : : : "memory"); }
static inline void clgi(void) { __asm__ volatile("clgi" : : : "memory"); }

/* In L2: ends its run with a value in RAX. */
static inline void l2_exit(u64 value) { __asm__ volatile("vmmcall" : "+a"(value) : : "memory"); }
