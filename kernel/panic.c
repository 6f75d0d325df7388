/*
 * Panic: registers, the stack as symbols, the CPU, the vCPU that it ran and that vCPU's last exits.
 * Written to need as little of a damaged machine as possible: it takes no lock and no memory.
 */
#include "kernel/panic.h"

#include "drivers/lapic.h"
#include "kernel/backend.h"
#include "kernel/cpu.h"
#include "kernel/log.h"
#include "kernel/power.h"
#include "kernel/vm.h"
#include "lib/printf.h"
#include "lib/spinlock.h"

extern const u8 symbol_table[], symbol_table_end[];
extern const char text_start[], text_end[];

static _Atomic u32 panicking; /* id of the panicking CPU plus one */
bool spin_panic;

/* The function that holds a code address, and the offset in it; NULL when it is no code. */
static const char *symbol_name(u64 address, u64 *offset, unsigned *length) {
	const u8 *p = symbol_table;
	const char *name = NULL;

	if (address < (u64)text_start || address >= (u64)text_end) return NULL;
	/* Entries: u32 offset, u8 length, the name; in ascending order. */
	while (p < symbol_table_end) {
		u32 start = (u32)(p[0] | p[1] << 8 | p[2] << 16) | (u32)p[3] << 24;

		if ((u64)text_start + start > address) break;
		*offset = address - (u64)text_start - start;
		*length = p[4];
		name = (const char *)p + 5;
		p += 5 + p[4];
	}
	return name;
}

static void print_address(const char *what, u64 address) {
	u64 offset = 0;
	unsigned length = 0;
	const char *name = symbol_name(address, &offset, &length);

	if (name)
		log_raw("%s %016lx %.*s+0x%lx\n", what, address, (int)length, name, offset);
	else
		log_raw("%s %016lx\n", what, address);
}

/* Every word on the stack that points into the code; some are stale, none is missing. */
static void print_stack(u64 sp) {
	u64 top = (sp | (CPU_AREA_SIZE - 1)) + 1;
	unsigned lines = 0;

	log_raw("stack from %016lx:\n", sp);
	for (sp = align_up(sp, 8); sp < top && lines < 40; sp += 8) {
		u64 word = *(const u64 *)sp;

		/* Guard pages lie between the stacks of an area: a walk ends at its page's end. */
		if (word >= (u64)text_start && word < (u64)text_end) {
			print_address(" ", word);
			lines++;
		}
		if ((sp & (CPU_AREA_SIZE - 1)) < CPU_MAIN_STACK && ((sp + 8) & ~PAGE_MASK) == 0)
			break;
	}
}

static void print_vcpu(const struct vcpu *vcpu) {
	log_raw("vCPU %u of '%s': rip %016lx rflags %08lx requests %lx\n", vcpu->id, vcpu->vm->name,
		vcpu->rip, vcpu->rflags, atomic_load(&vcpu->requests));
	for (unsigned i = 0; i < VCPU_TRACE; i++) {
		const struct vcpu_trace *t = &vcpu->trace[(vcpu->nr_exits - 1 - i) % VCPU_TRACE];

		if (i >= vcpu->nr_exits) break;
		log_raw("  exit -%u: %s at %016lx\n", i, vcpu->backend->exits[t->reason].name,
			t->rip);
	}
}

static void print_frame(const struct trap_frame *f) {
	log_raw("rax %016lx rbx %016lx rcx %016lx rdx %016lx\n", f->rax, f->rbx, f->rcx, f->rdx);
	log_raw("rsi %016lx rdi %016lx rbp %016lx rsp %016lx\n", f->rsi, f->rdi, f->rbp, f->rsp);
	log_raw("r8  %016lx r9  %016lx r10 %016lx r11 %016lx\n", f->r8, f->r9, f->r10, f->r11);
	log_raw("r12 %016lx r13 %016lx r14 %016lx r15 %016lx\n", f->r12, f->r13, f->r14, f->r15);
	log_raw("rflags %08lx cs %04lx ss %04lx cr0 %08lx cr2 %016lx cr3 %lx cr4 %lx\n", f->rflags,
		f->cs, f->ss, read_cr0(), read_cr2(), read_cr3(), read_cr4());
}

/* The first CPU to come here reports; a second one, or a panic within the report, stops at once. */
static void begin(const struct cpu *cpu) {
	u32 nobody = 0;

	cpu_cli();
	if (!atomic_compare_exchange_strong(&panicking, &nobody, cpu->id + 1)) cpu_stop();
	spin_panic = true;
	lapic_nmi_others();
}

static void __noreturn finish(const struct cpu *cpu) {
	if (cpu->running) print_vcpu(cpu->running);
	log_raw("Roost has stopped.\n");
	power_debug_exit(0x7f);
	cpu_stop();
}

void panic(const char *fmt, ...) {
	struct cpu *cpu = this_cpu();
	char text[200];
	va_list ap;
	u64 sp;

	begin(cpu);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	__asm__("mov %%rsp, %0" : "=r"(sp));
	log_raw("PANIC on CPU %u: %s\n", cpu->id, text);
	print_stack(sp);
	finish(cpu);
}

void panic_trap(const struct trap_frame *frame) {
	struct cpu *cpu = this_cpu();

	begin(cpu);
	log_raw("PANIC on CPU %u: exception %lu, error code %lx\n", cpu->id, frame->vector,
		frame->error);
	print_address("rip", frame->rip);
	print_frame(frame);
	print_stack(frame->rsp);
	finish(cpu);
}

void panic_nmi(void) {
	if (atomic_load(&panicking)) cpu_stop();
	/* What it interrupted may hold the log's lock. */
	this_cpu()->nmis++;
}

void panic_report_nmis(struct cpu *cpu) {
	u32 nmis = __atomic_load_n(&cpu->nmis, __ATOMIC_RELAXED);

	if (likely(nmis == cpu->nmis_reported)) return;
	cpu->nmis_reported = nmis;
	log_warn("CPU %u: NMI from the machine, ignored; %u so far", cpu->id, nmis);
}

#ifdef ROOST_DEBUG
void lock_assert_failed(const char *what) { panic("%s is not held", what); }
#endif
