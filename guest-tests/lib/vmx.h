/*
 * A guest of the test's own (L2), by Intel's virtualization: the test is then a hypervisor.
 *
 *	vmx_init();
 *	vmx_l2_new(code);	 code: a C function or assembly, 64-bit, of this image
 *	check_eq("exit", vmx_l2_run(), REASON_VMCALL);
 *
 * The L2 shares the test's address space, descriptor tables, FS, GS and TR, and has a stack of its
 * own; interrupts are off in it. VMCALL, HLT, triple faults, physical interrupts and NMIs end its
 * run. Each of the first VMX_L2_CPUS CPUs can have one, after vmx_init() there.
 */
#pragma once

#include "guest-tests/lib/guest.h"
#include "vmx/vmcs.h"

#define VMX_L2_CPUS 4

/* How an instruction of VMX ends (SDM 3C 30.2): its CF and ZF. */
#define VM_SUCCEED 0ul
#define VM_FAIL	   0x40ul /* with an error number */
#define VM_INVALID 0x01ul
#define VM_FAILED  (~0xfffful) /* vmx_l2_run(): | CF and ZF */

/* The general registers but RSP, which the VMCS has. */
struct vmx_registers {
	u64 rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
};

/* Of this CPU's L2: loaded before each run, stored after it. */
struct vmx_registers *vmx_regs(void);

/* False, with a skip line, when there is no VMX here. VMXON has been executed else. */
bool vmx_init(void);
/* The VMXON region, and the VMCS, of this CPU. */
u64 vmx_on_region(void);
u64 vmx_l2_vmcs(void);
/* Controls as near to those asked for as the capability MSR (its number) lets them be. */
u32 vmx_controls(u32 msr, u64 wanted);
/* Are these controls to be had? As above; secondary ones by 0x48b. */
bool vmx_can(u32 msr, u64 controls);

/* This CPU's VMCS, cleared and current, ready to run code. */
void vmx_l2_new(const void *code);
/* Sets code and stack of an L2 to begin anew; the rest stays. */
void vmx_l2_restart(const void *code);
/* Secondary controls beside those that the L2 has. */
void vmx_l2_add(u64 proc2);
/* A root of EPT tables that map 4 GiB one to one in 2 MiB pages; page_entry_in() finds entries. */
u64 ept_new(void);
u64 ept_pointer(u64 root);
void vmx_l2_use_ept(u64 root);
/* Runs until an exit: its reason; or VM_FAILED | flags. */
u64 vmx_l2_run(void);
/* Runs on until VMCALL: RAX then. Fails the test when anything else ends it. */
u64 vmx_l2_result(void);

/* With the address of a 64-bit address; VMREAD and VMWRITE by any encoding. */
u64 vmx_on(u64 region);
u64 vmx_off(void);
u64 vmx_clear(u64 vmcs);
u64 vmx_ptrld(u64 vmcs);
u64 vmx_ptrst(void);
u64 vmx_read(u64 encoding, u64 *value);
u64 vmx_write(u64 encoding, u64 value);
u64 vmx_invept(u64 type, u64 eptp);
u64 vmx_invvpid(u64 type, u64 vpid, u64 address);

/* In L2: ends its run with a value in RAX. */
static inline void vmx_l2_exit(u64 value) { __asm__ volatile("vmcall" : "+a"(value) : : "memory"); }
