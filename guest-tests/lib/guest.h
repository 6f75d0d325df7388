/*
 * What every guest test uses: printing, checks, the command line, time, per-CPU data.
 *
 * A test defines test_name and test_main(). The runtime calls test_main() on the boot CPU in long
 * mode with interrupts off, prints the RESULT line when it returns and ends the machine.
 */
#pragma once

#include "guest-tests/lib/layout.h"
#include "lib/types.h"
#include "lib/x86.h"

extern const char test_name[];
void test_main(void);

/* One CPU of the machine; GS holds its address. */
struct cpu {
	struct cpu *self;
	u64 resume;	/* trap.h: where a captured fault continues, 0 when none is expected */
	u64 start;	/* trap.h: address of the instruction under test */
	u64 resume_rsp; /* trap.h: its stack */
	u64 vector;	/* trap.h: what was captured, TRAP_NONE for nothing */
	u64 error;
	u64 rip;
	u64 cr2;
	u64 stack_top;
	u32 index;   /* 0 is the boot CPU */
	u32 apic_id; /* valid from smp_init() on */
	void (*volatile work)(void *arg);
	void *volatile work_arg;
	volatile bool online;
};

extern struct cpu cpus[MAX_CPUS];

static inline struct cpu *this_cpu(void) {
	struct cpu *cpu;

	__asm__ volatile("mov %%gs:0, %0" : "=r"(cpu));
	return cpu;
}

static inline void cpu_sti(void) { __asm__ volatile("sti" : : : "memory"); }

static inline void invlpg(u64 va) { __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory"); }

/* %s %c %d %u %x %p %%, with l, width, 0 and - as printf knows them. One CPU at a time. */
void print(const char *format, ...) __format_printf(1, 2);
void print_char(char c);

/* Each prints one line and counts; the name is a printf format for the _f form. */
bool check(const char *name, bool good);
bool check_eq(const char *name, u64 got, u64 expected);
bool check_ne(const char *name, u64 got, u64 unexpected);
bool check_range(const char *name, u64 got, u64 lowest, u64 highest);
void skip(const char *name, const char *why);
/* A printf into a small static buffer, for the name of a check. Good until the next call. */
const char *name_of(const char *format, ...) __format_printf(1, 2);

/* Prints the RESULT line and ends the machine: debug exit, power-off, HLT, whichever works. */
void test_end(void) __noreturn;

/* The command line, without the file name. Value of "key=" as a number, or otherwise. */
u64 cmdline_number(const char *key, u64 otherwise);
bool cmdline_has(const char *word);

/* Bytes of RAM from address 0 or 1 MiB up without a hole, as the loader reports it. */
u64 ram_top(void);

struct ram_range {
	u64 base, size;
	u32 type; /* 1 RAM */
};
u32 ram_ranges(const struct ram_range **list);

/* Time. PM timer: 3.579545 MHz, 24 bits. */
#define PM_TIMER_PORT 0x608
#define PM_TIMER_HZ   3579545u
static inline u64 rdtsc(void) {
	u32 lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (u64)hi << 32 | lo;
}
u32 pm_timer(void);
u64 tsc_hz(void); /* measured once against the PM timer; 1 GHz when that stands still */
void delay_us(u64 us);
/*
 * The counter's value with the TSC of the moment it was read. A reading that took long (the host
 * had better to do) is repeated.
 */
struct sample {
	u64 value, tsc;
};
struct sample take_sample(u64 (*read)(void));
static inline u64 us_to_tsc(u64 us) { return us * (tsc_hz() / 1000) / 1000; }

/* Waits until the expression is true, at most so many microseconds; true when it became so. */
#define wait_until(expression, us)                                             \
	({                                                                     \
		u64 end_ = rdtsc() + us_to_tsc(us);                            \
		bool good_;                                                    \
		while (!(good_ = (expression)) && rdtsc() < end_) cpu_pause(); \
		good_;                                                         \
	})

bool cpu_is_amd(void);
/*
 * QEMU's TCG executes this, here or below a hypervisor: what it is known to get wrong is skipped.
 * Told by its CPUID leaf, or by an error code that no CPU pushes (trap.c).
 */
bool on_tcg(void);
/* The same with no hypervisor in between: what Roost takes over from the emulator is wrong, too. */
bool on_bare_tcg(void);
bool under_roost(void); /* CPUID says that a hypervisor with Roost's or KVM's leaves is there */

static inline bool cpuid_bit(u32 leaf, unsigned reg, unsigned bit) {
	u32 r[4];

	cpuid(leaf & 0xffff0000u, 0, r);
	if (r[0] < leaf) return false;
	cpuid(leaf, 0, r);
	return (r[reg] >> bit & 1) != 0;
}

void *memset(void *to, int value, size_t size);
void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
int memcmp(const void *a, const void *b, size_t size);
