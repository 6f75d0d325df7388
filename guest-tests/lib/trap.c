/* Descriptor tables of each CPU, and what happens on an exception or interrupt. */
#include "guest-tests/lib/trap.h"

struct __packed tss {
	u32 reserved0;
	u64 rsp[3];
	u64 reserved1;
	u64 ist[7];
	u64 reserved2;
	u16 reserved3, iomap;
};

struct gate {
	u64 low, high;
};

struct __packed table_pointer {
	u16 limit;
	u64 base;
};

#define GATE_INTERRUPT 0x8eul
#define IST_STACKS     3
#define IST_SIZE       4096

_Static_assert(offsetof(struct cpu, resume) == CPU_RESUME, "layout.h");
_Static_assert(offsetof(struct cpu, start) == CPU_START, "layout.h");
_Static_assert(offsetof(struct cpu, resume_rsp) == CPU_RESUME_RSP, "layout.h");
_Static_assert(offsetof(struct cpu, vector) == CPU_VECTOR, "layout.h");
_Static_assert(offsetof(struct cpu, stack_top) == CPU_STACK_TOP, "layout.h");

void trap_dispatch(struct regs *regs);

extern char trap_entries[][16];
extern u64 gdt[];
extern struct table_pointer gdt_pointer;

static struct gate idt[256] __aligned(16);
static struct tss tss[MAX_CPUS] __aligned(16);
static char ist_stack[MAX_CPUS][IST_STACKS][IST_SIZE] __aligned(16);
static trap_handler handlers[256];

void trap_set_entry(u8 v, void (*entry)(void)) {
	u64 address = entry ? (u64)entry : (u64)trap_entries[v];

	idt[v].low = (address & 0xffff) | (u64)SEL_CODE64 << 16 | GATE_INTERRUPT << 40 |
		     (address >> 16 & 0xffff) << 48;
	idt[v].high = address >> 32;
}

static void build_idt(void) {
	for (unsigned v = 0; v < 256; v++) trap_set_entry((u8)v, NULL);
	trap_set_ist(X86_DF, 1);
}

void trap_load_idt(void) {
	struct table_pointer pointer = {sizeof(idt) - 1, (u64)idt};

	__asm__ volatile("lidt %0" : : "m"(pointer));
}

void trap_init_cpu(struct cpu *cpu) {
	u32 i = cpu->index;
	u64 base = (u64)&tss[i];
	u64 *descriptor = &gdt[SEL_TSS / 8 + 2 * i];

	if (i == 0) build_idt();
	for (unsigned n = 0; n < IST_STACKS; n++) tss[i].ist[n] = (u64)ist_stack[i][n] + IST_SIZE;
	tss[i].iomap = sizeof(struct tss);
	/* Available 64-bit TSS: SDM 3A 8.2.3, APM 2 4.8.3. */
	descriptor[0] = (sizeof(struct tss) - 1) | (base & 0xffffff) << 16 | 0x89ul << 40 |
			(base >> 24 & 0xff) << 56;
	descriptor[1] = base >> 32;
	__asm__ volatile("lgdt %0" : : "m"(gdt_pointer));
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS + 16 * i));
	__asm__ volatile("lldt %w0" : : "r"(0));
	trap_load_idt();
	cpu->self = cpu;
	wrmsr(X86_MSR_GS_BASE, (u64)cpu);
}

void trap_set_handler(u8 vector, trap_handler handler) { handlers[vector] = handler; }

void trap_set_dpl(u8 vector, unsigned dpl) {
	idt[vector].low = (idt[vector].low & ~(3ul << 45)) | (u64)dpl << 45;
}

void trap_set_ist(u8 vector, unsigned ist) {
	idt[vector].low = (idt[vector].low & ~(7ul << 32)) | (u64)ist << 32;
}

void trap_set_present(u8 vector, bool present) {
	idt[vector].low = (idt[vector].low & ~BIT(47)) | (u64)present << 47;
}

void trap_set_rsp0(u64 rsp) { tss[this_cpu()->index].rsp[0] = rsp; }

struct trap trap_taken(void) {
	const struct cpu *cpu = this_cpu();

	return (struct trap){
		.vector = cpu->vector,
		.error = cpu->error,
		.rip = cpu->rip,
		.offset = cpu->rip - cpu->start,
		.cr2 = cpu->cr2,
	};
}

static void __noreturn unexpected(const struct regs *r) {
	print("unexpected vector %lu error 0x%lx rip 0x%lx cs 0x%lx rflags 0x%lx rsp 0x%lx cr2 "
	      "0x%lx\n",
	      r->vector, r->error, r->rip, r->cs, r->rflags, r->rsp, read_cr2());
	print("rax %lx rbx %lx rcx %lx rdx %lx rsi %lx rdi %lx r11 %lx\n", r->rax, r->rbx, r->rcx,
	      r->rdx, r->rsi, r->rdi, r->r11);
	check_eq("no unexpected trap", r->vector, TRAP_NONE);
	test_end();
}

void trap_dispatch(struct regs *r) {
	struct cpu *cpu = this_cpu();

	if (handlers[r->vector & 0xff]) {
		handlers[r->vector & 0xff](r);
		return;
	}
	if (!cpu->resume) unexpected(r);
	cpu->vector = r->vector;
	cpu->error = r->error;
	cpu->rip = r->rip;
	cpu->cr2 = read_cr2();
	r->rip = cpu->resume;
	r->cs = SEL_CODE64;
	r->ss = SEL_DATA;
	r->rsp = cpu->resume_rsp;
	r->rflags &= ~(X86_RFLAGS_TF | X86_RFLAGS_AC);
	cpu->resume = 0;
}

u64 msr_read(u32 msr, u64 *value) {
	u32 lo = 0, hi = 0;

	__asm__ volatile(TRY "rdmsr" END_TRY : "+a"(lo), "+d"(hi) : "c"(msr) : TRY_SPOILS);
	*value = (u64)hi << 32 | lo;
	return trap_taken().vector;
}

u64 msr_write(u32 msr, u64 value) {
	__asm__ volatile(TRY "wrmsr" END_TRY
			 :
			 : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32))
			 : TRY_SPOILS);
	return trap_taken().vector;
}

s64 hypercall(u64 nr, u64 a, u64 b, u64 c, u64 d) {
	if (cpu_is_amd())
		__asm__ volatile(TRY "vmmcall" END_TRY
				 : "+a"(nr)
				 : "b"(a), "c"(b), "d"(c), "S"(d)
				 : TRY_SPOILS);
	else
		__asm__ volatile(TRY "vmcall" END_TRY
				 : "+a"(nr)
				 : "b"(a), "c"(b), "d"(c), "S"(d)
				 : TRY_SPOILS);
	return (s64)nr;
}

/*
 * Up to QEMU 8 at least, TCG pushes vector * 16 + 2 for an absent gate in long mode; the manuals
 * say vector * 8 + 2 (APM 2 8.4.1, SDM 3A 6.13).
 */
bool on_tcg(void) {
	static int known;

	if (!known) {
		trap_set_present(0x51, false);
		__asm__ volatile(TRY "int $0x51" END_TRY : : : TRY_SPOILS);
		trap_set_present(0x51, true);
		known = trap_taken().error == 0x51 * 16 + 2 ? 1 : -1;
	}
	return known > 0 || on_bare_tcg();
}
