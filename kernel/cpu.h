/*
 * The physical CPU: its area (structure, stacks, guard pages), features, descriptor tables.
 *
 * An area is one CPU_AREA_SIZE slot at CPU_AREA_BASE, so the structure of the running CPU is found
 * from the stack pointer. No segment register is needed, and none could be had: while exits are
 * handled, FS, GS and TR still hold the guest's values.
 *
 *   0x0000  struct cpu                 0x6000  guard     0x9000  #MC stack
 *   0x4000  guard                      0x7000  NMI stack 0xa000  guard
 *   0x5000  #DF stack                  0x8000  guard     0xb000  main stack, 20 KiB
 */
#pragma once

#include "boot/layout.h"
#include "kernel/sched.h"
#include "kernel/time.h"
#include "lib/spinlock.h"

#define MAX_CPUS	64

#define CPU_STRUCT_SIZE 0x4000
#define CPU_DF_STACK	0x5000
#define CPU_NMI_STACK	0x7000
#define CPU_MC_STACK	0x9000
#define CPU_MAIN_STACK	0xb000

struct vcpu;

/* Task-state segment, for the interrupt stacks only (APM 2 12.2.5). */
struct tss {
	u32 reserved0;
	u64 rsp[3];
	u64 reserved1;
	u64 ist[7];
	u64 reserved2;
	u16 reserved3;
	u16 iomap_base;
} __packed;

_Static_assert(sizeof(struct tss) == 104, "APM 2 figure 12-8");

struct cpu {
	u32 id; /* index in cpus[] */
	u32 apic_id;
	struct vcpu *loaded;  /* whose vector and debug registers are in the CPU */
	struct vcpu *running; /* whose run loop is active; for a panic's report */
	u64 last_vm;	      /* serial of the VM that ran last; 0: none has */

	/* Timers (kernel/time.c). */
	struct spinlock timer_lock;
	struct timer *timers;
	u64 programmed; /* host TSC the hardware timer is set to; TIMER_NEVER when stopped */

	/* Scheduler (kernel/sched.c). What is not atomic belongs to the CPU itself. */
	struct vcpu *queue;	      /* vCPUs that wait for their turn, by virtual time */
	struct vcpu *yielder;	      /* has spun; compared only */
	struct vcpu *_Atomic woken;   /* handed over from elsewhere */
	const void *_Atomic favoured; /* VM in which someone spins; compared only */
	_Atomic u64 virtual;	      /* of the vCPU that is least ahead; never goes back */
	_Atomic u32 nr_ready;	      /* vCPUs that run or wait */
	_Atomic u32 nr_vcpus;	      /* of running VMs, asleep or not */
	u64 balance_at;
	struct timer slice;
	bool resched; /* any CPU sets it */
	_Atomic bool sweep;
	_Atomic u32 passes; /* of the top of the loop; the CPU holds nothing of a VM there */

	_Atomic u32 online;
	u64 irq_count;
	u32 nmis, nmis_reported; /* that nobody of Roost has sent */

	void *backend_data; /* the back end's per-CPU state */
	u64 gdt[5];
	struct tss tss __aligned(16);
};

_Static_assert(sizeof(struct cpu) <= CPU_STRUCT_SIZE, "a CPU's structure fits its area");

/* What the host CPU can do, from CPUID, the same on all CPUs. */
struct cpu_features {
	bool amd; /* AMD or Hygon: SVM */
	bool intel;
	bool nx, pages_1g, smep, smap, umip, pge, x2apic, xsave, xsavec, xsaves, tsc_deadline,
		rdtscp;
	bool fsgsbase;
	bool x87_leak; /* the last x87 instruction's addresses outlive FXRSTOR and XRSTOR */
	u8 phys_bits;
	u64 xcr0;	/* all the components XCR0 may enable; 0 without XSAVE */
	u32 xsave_size; /* bytes for all of xcr0 (and XSS 0), standard format */
	u32 max_leaf, max_ext_leaf;
};

extern struct cpu_features cpu_features;
extern struct cpu *cpus[MAX_CPUS];
extern u32 nr_cpus; /* CPUs in use, boot processor included */

#ifdef UNIT_TEST
struct cpu *this_cpu(void);
#else
static inline struct cpu *this_cpu(void) {
	u64 sp;

	__asm__("mov %%rsp, %0" : "=r"(sp));
	return (struct cpu *)(sp & ~((u64)CPU_AREA_SIZE - 1));
}
#endif

/* The top of the CPU's loop, between one thing and the next: see struct quiet. */
static inline void cpu_pass(void) { atomic_fetch_add(&this_cpu()->passes, 1); }

/* Fills cpu_features. */
void cpu_detect(void);

/* Allocates and maps the slot-th area (0 to 255), for CPU id; NULL without memory. */
struct cpu *cpu_area_create(u32 slot, u32 id, u32 apic_id);

/* Loads descriptor tables, control registers and EFER on the CPU whose area is current. */
void cpu_init_this(void);

/* Loads only the IDT and the GDT, for the boot processor before its area exists. */
void cpu_early_init(struct cpu *cpu);

#define for_each_cpu(cpu) for (u32 ci_ = 0; ci_ < nr_cpus && ((cpu) = cpus[ci_], 1); ci_++)
