/* Bits of the machine's registers and page tables, for assembly too; its instructions for C. */
#pragma once

#ifdef __ASSEMBLER__
#define BIT(n) (1 << (n))
#else
#include "lib/types.h"
#endif

#define X86_CR0_PE	       BIT(0)
#define X86_CR0_MP	       BIT(1)
#define X86_CR0_EM	       BIT(2)
#define X86_CR0_TS	       BIT(3)
#define X86_CR0_ET	       BIT(4)
#define X86_CR0_NE	       BIT(5)
#define X86_CR0_WP	       BIT(16)
#define X86_CR0_AM	       BIT(18)
#define X86_CR0_NW	       BIT(29)
#define X86_CR0_CD	       BIT(30)
#define X86_CR0_PG	       BIT(31)

#define X86_CR4_VME	       BIT(0)
#define X86_CR4_PVI	       BIT(1)
#define X86_CR4_TSD	       BIT(2)
#define X86_CR4_DE	       BIT(3)
#define X86_CR4_PSE	       BIT(4)
#define X86_CR4_PAE	       BIT(5)
#define X86_CR4_MCE	       BIT(6)
#define X86_CR4_PGE	       BIT(7)
#define X86_CR4_PCE	       BIT(8)
#define X86_CR4_OSFXSR	       BIT(9)
#define X86_CR4_OSXMMEXCPT     BIT(10)
#define X86_CR4_UMIP	       BIT(11)
#define X86_CR4_LA57	       BIT(12)
#define X86_CR4_VMXE	       BIT(13)
#define X86_CR4_FSGSBASE       BIT(16)
#define X86_CR4_PCIDE	       BIT(17)
#define X86_CR4_OSXSAVE	       BIT(18)
#define X86_CR4_SMEP	       BIT(20)
#define X86_CR4_SMAP	       BIT(21)
#define X86_CR4_PKE	       BIT(22)

#define X86_EFER_SCE	       BIT(0)
#define X86_EFER_LME	       BIT(8)
#define X86_EFER_LMA	       BIT(10)
#define X86_EFER_NXE	       BIT(11)
#define X86_EFER_SVME	       BIT(12)
#define X86_EFER_FFXSR	       BIT(14)

#define X86_PTE_P	       BIT(0)
#define X86_PTE_W	       BIT(1)
#define X86_PTE_U	       BIT(2)
#define X86_PTE_PWT	       BIT(3)
#define X86_PTE_PCD	       BIT(4)
#define X86_PTE_A	       BIT(5)
#define X86_PTE_D	       BIT(6)
#define X86_PTE_PS	       BIT(7) /* a leaf above the lowest level (APM 2 5.3) */
#define X86_PTE_G	       BIT(8)
#define X86_PTE_NX	       BIT(63)
#define X86_PTE_ADDR	       GENMASK(51, 12)

#define X86_RFLAGS_FIXED       BIT(1)
#define X86_RFLAGS_TF	       BIT(8)
#define X86_RFLAGS_IF	       BIT(9)
#define X86_RFLAGS_NT	       BIT(14)
#define X86_RFLAGS_RF	       BIT(16)
#define X86_RFLAGS_AC	       BIT(18)

#define X86_DR7_GD	       BIT(13)

#define X86_MSR_TSC	       0x00000010u
#define X86_MSR_APIC_BASE      0x0000001bu
#define X86_MSR_SYSENTER_CS    0x00000174u
#define X86_MSR_PAT	       0x00000277u
#define X86_MSR_TSC_DEADLINE   0x000006e0u
#define X86_MSR_X2APIC	       0x00000800u
#define X86_MSR_EFER	       0xc0000080
#define X86_MSR_STAR	       0xc0000081u
#define X86_MSR_LSTAR	       0xc0000082u
#define X86_MSR_CSTAR	       0xc0000083u
#define X86_MSR_SFMASK	       0xc0000084u
#define X86_MSR_FS_BASE	       0xc0000100u
#define X86_MSR_GS_BASE	       0xc0000101u
#define X86_MSR_KERNEL_GS_BASE 0xc0000102u
#define X86_MSR_TSC_AUX	       0xc0000103u
#define X86_MSR_VM_CR	       0xc0010114u
#define X86_MSR_VM_HSAVE_PA    0xc0010117u

#ifndef __ASSEMBLER__

/* Vectors of exceptions (APM 2 table 8-1). */
enum { X86_DE, X86_DB, X86_NMI, X86_BP, X86_OF, X86_UD = 6, X86_NM, X86_DF, X86_TS = 10 };
enum { X86_NP = 11, X86_SS, X86_GP, X86_PF, X86_AC = 17, X86_MC, X86_SX = 30 };

/* Attributes in descriptor order, packed: type 3:0, S 4, DPL 6:5, P 7, AVL 8, L 9, D/B 10, G 11. */
#define SEG_ATTR_S   0x010u
#define SEG_ATTR_DPL 0x060u
#define SEG_ATTR_P   0x080u
#define SEG_ATTR_L   0x200u
#define SEG_ATTR_DB  0x400u

/* A segment register, as VMCBs hold it (APM 2 table B-2). */
struct segment {
	u16 selector;
	u16 attr;
	u32 limit; /* in bytes, granularity applied */
	u64 base;
};

#define X86_PORT_ACCESSORS(suffix, type)                                          \
	static inline type in##suffix(u16 port) {                                 \
		type v;                                                           \
                                                                                  \
		__asm__ volatile("in" #suffix " %1, %0" : "=a"(v) : "Nd"(port));  \
		return v;                                                         \
	}                                                                         \
	static inline void out##suffix(u16 port, type v) {                        \
		__asm__ volatile("out" #suffix " %0, %1" : : "a"(v), "Nd"(port)); \
	}

#ifdef UNIT_TEST
/* Unit tests play the machine. */
u8 inb(u16 port);
void outb(u16 port, u8 v);
void cpu_irq_window(void);
void cpu_sti_hlt_cli(void);
#else
X86_PORT_ACCESSORS(b, u8)

/* Takes what is pending, with interrupts off again afterwards. */
static inline void cpu_irq_window(void) { __asm__ volatile("sti; nop; cli" : : : "memory"); }

/* Sleeps until an interrupt; STI's shadow makes the pair atomic (APM 3 STI). */
static inline void cpu_sti_hlt_cli(void) { __asm__ volatile("sti; hlt; cli" : : : "memory"); }
#endif

X86_PORT_ACCESSORS(w, u16)
X86_PORT_ACCESSORS(l, u32)

static inline u64 rdmsr(u32 msr) {
	u32 lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return (u64)hi << 32 | lo;
}

static inline void wrmsr(u32 msr, u64 v) {
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}

static inline void cpuid(u32 leaf, u32 sub, u32 out[4]) {
	__asm__ volatile("cpuid"
			 : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
			 : "a"(leaf), "c"(sub));
}

#define X86_CR_ACCESSORS(n)                                                    \
	static inline u64 read_cr##n(void) {                                   \
		u64 v;                                                         \
                                                                               \
		__asm__ volatile("mov %%cr" #n ", %0" : "=r"(v) : : "memory"); \
		return v;                                                      \
	}                                                                      \
	static inline void write_cr##n(u64 v) {                                \
		__asm__ volatile("mov %0, %%cr" #n : : "r"(v) : "memory");     \
	}

X86_CR_ACCESSORS(0)
X86_CR_ACCESSORS(2)
X86_CR_ACCESSORS(3)
X86_CR_ACCESSORS(4)
X86_CR_ACCESSORS(8)

#define X86_DR_ACCESSORS(n)                                       \
	static inline u64 read_dr##n(void) {                      \
		u64 v;                                            \
                                                                  \
		__asm__ volatile("mov %%db" #n ", %0" : "=r"(v)); \
		return v;                                         \
	}                                                         \
	static inline void write_dr##n(u64 v) { __asm__ volatile("mov %0, %%db" #n : : "r"(v)); }

X86_DR_ACCESSORS(0)
X86_DR_ACCESSORS(1)
X86_DR_ACCESSORS(2)
X86_DR_ACCESSORS(3)
X86_DR_ACCESSORS(6)

/* A memory type in each byte of the PAT MSR: 0, 1, 4 to 7 (APM 2 7.8.1). */
static inline bool pat_valid(u64 pat) {
	return !(pat & 0xf8f8f8f8f8f8f8f8) && !(pat >> 1 & ~(pat >> 2) & 0x0101010101010101);
}

static inline u64 xgetbv(u32 index) {
	u32 lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(index));
	return (u64)hi << 32 | lo;
}

static inline void xsetbv(u32 index, u64 v) {
	__asm__ volatile("xsetbv" : : "c"(index), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}

/* Compare-exchange of 1, 2, 4 or 8 bytes at any alignment. False: they were not `old`. */
static inline bool cmpxchg(void *at, unsigned size, u64 old, u64 value) {
	bool same;

#define CMPXCHG(type)                                                  \
	__asm__ volatile("lock cmpxchg %3, %1"                         \
			 : "=@ccz"(same), "+m"(*(type *)at), "+a"(old) \
			 : "q"((type)value)                            \
			 : "memory")
	switch (size) {
	case 1: CMPXCHG(u8); break;
	case 2: CMPXCHG(u16); break;
	case 4: CMPXCHG(u32); break;
	default: CMPXCHG(u64); break;
	}
#undef CMPXCHG
	return same;
}

/* value * mul / div with 128 bits between, rounded down; saturates at 2^64-1. div is not 0. */
static inline u64 mul_div(u64 value, u64 mul, u64 div) {
	unsigned __int128 product = (unsigned __int128)value * mul;
	u64 low = (u64)product, high = (u64)(product >> 64);

	if (high >= div) return ~0ul;
	__asm__("divq %2" : "+a"(low), "+d"(high) : "rm"(div) : "cc");
	return low;
}

static inline void cpu_pause(void) { __builtin_ia32_pause(); }

static inline void cpu_cli(void) { __asm__ volatile("cli" : : : "memory"); }

static inline void __noreturn cpu_stop(void) {
	for (;;) __asm__ volatile("cli; hlt");
}

static inline u32 mmio_read32(const volatile void *addr) {
	u32 v;

	__asm__ volatile("movl %1, %0" : "=r"(v) : "m"(*(const volatile u32 *)addr) : "memory");
	return v;
}

static inline void mmio_write32(volatile void *addr, u32 v) {
	__asm__ volatile("movl %1, %0" : "=m"(*(volatile u32 *)addr) : "r"(v) : "memory");
}

#endif
