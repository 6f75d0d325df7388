/*
 * Exceptions and interrupts. An instruction that may fault is written between TRY and END_TRY of an
 * asm statement that spoils r11 and memory; trap_taken() then says what happened:
 *
 *	asm volatile(TRY "ud2" END_TRY : : : TRY_SPOILS);
 *	check_eq("ud2", trap_taken().vector, X86_UD);
 *
 * A vector with a handler goes to the handler instead. Nothing else may fault: that ends the test
 * as failed.
 */
#pragma once

#include "guest-tests/lib/guest.h"

#define TRAP_NONE (~0ul)

struct trap {
	u64 vector; /* TRAP_NONE when nothing was raised */
	u64 error;  /* 0 where the vector has no error code */
	u64 rip;    /* absolute */
	u64 offset; /* RIP from the start of the TRY block: 0 for a fault, the length for a trap */
	u64 cr2;    /* as it was at that time */
};

/* What the entry code leaves on the stack; a handler may change it. */
struct regs {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
	u64 vector, error;
	u64 rip, cs, rflags, rsp, ss;
};

#define TRAP_STR_(x) #x
#define TRAP_STR(x)  TRAP_STR_(x)
#define TRY                                                                                        \
	"leaq 98f(%%rip), %%r11\n\tmovq %%r11, %%gs:" TRAP_STR(                                    \
		CPU_START) "\n\t"                                                                  \
			   "leaq 99f(%%rip), %%r11\n\tmovq %%r11, %%gs:" TRAP_STR(                 \
				   CPU_RESUME) "\n\t"                                              \
					       "movq %%rsp, %%gs:" TRAP_STR(                       \
						       CPU_RESUME_RSP) "\n\t"                      \
								       "movq $-1, %%gs:" TRAP_STR( \
									       CPU_VECTOR) "\n\t9" \
											   "8:"    \
											   "\n\t"
#define END_TRY	   "\n\t99: movq $0, %%gs:" TRAP_STR(CPU_RESUME) "\n\t"
#define TRY_SPOILS "r11", "memory", "cc"

struct trap trap_taken(void);

typedef void (*trap_handler)(struct regs *regs);

/* NULL takes the handler away. For all CPUs. An interrupt's handler sends its own EOI. */
void trap_set_handler(u8 vector, trap_handler handler);
/* Lets ring 3 use INT vector. */
void trap_set_dpl(u8 vector, unsigned dpl);
/* Runs the vector on the interrupt stack table entry 1 to 3 (each CPU has its own), 0 for none. */
void trap_set_ist(u8 vector, unsigned ist);
void trap_set_present(u8 vector, bool present);
/* Sends the vector straight to code that ends in IRETQ itself; NULL: to the common entry again. */
void trap_set_entry(u8 vector, void (*entry)(void));
/* The stack on which this CPU takes traps from ring 3. */
void trap_set_rsp0(u64 rsp);

/* Loads GDT, IDT, TSS and GS for the CPU that calls it. */
void trap_init_cpu(struct cpu *cpu);
void trap_load_idt(void);

/* RDMSR and WRMSR as they end: X86_GP, or TRAP_NONE. */
u64 msr_read(u32 msr, u64 *value);
u64 msr_write(u32 msr, u64 value);

/* The processor's hypercall by KVM's calling convention: RAX; trap_taken() says how it ended. */
s64 hypercall(u64 nr, u64 a, u64 b, u64 c, u64 d);
