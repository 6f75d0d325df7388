/* The physical CPU. Every one gets the same control-register bits, from cpu_features. */
#include "kernel/cpu.h"

#include "kernel/space.h"
#include "kernel/traps.h"
#include "lib/string.h"
#include "lib/x86.h"

struct cpu_features cpu_features;
struct cpu *cpus[MAX_CPUS];
u32 nr_cpus;

static bool is_vendor(const u32 r[4], const char *name) {
	return !memcmp(&r[1], name, 4) && !memcmp(&r[3], name + 4, 4) &&
	       !memcmp(&r[2], name + 8, 4);
}

static void detect_leaf7(void) {
	u32 r[4];

	if (cpu_features.max_leaf < 7) return;
	cpuid(7, 0, r);
	cpu_features.fsgsbase = r[1] & BIT(0);
	cpu_features.smep = r[1] & BIT(7);
	cpu_features.smap = r[1] & BIT(20);
	cpu_features.umip = r[2] & BIT(2);
}

static void detect_xsave(void) {
	u32 r[4];

	if (!cpu_features.xsave || cpu_features.max_leaf < 0xd) return;
	cpuid(0xd, 0, r);
	cpu_features.xcr0 = (u64)r[3] << 32 | r[0];
	cpu_features.xsave_size = r[2];
	cpuid(0xd, 1, r);
	cpu_features.xsavec = r[0] & BIT(1);
	cpu_features.xsaves = r[0] & BIT(3);
}

void cpu_detect(void) {
	struct cpu_features *f = &cpu_features;
	u32 r[4];

	cpuid(0, 0, r);
	f->max_leaf = r[0];
	f->amd = is_vendor(r, "AuthenticAMD") || is_vendor(r, "HygonGenuine");
	f->intel = is_vendor(r, "GenuineIntel");
	cpuid(1, 0, r);
	f->x2apic = r[2] & BIT(21);
	f->tsc_deadline = r[2] & BIT(24);
	f->xsave = r[2] & BIT(26);
	f->pge = r[3] & BIT(13);
	cpuid(0x80000000, 0, r);
	f->max_ext_leaf = r[0];
	cpuid(0x80000001, 0, r);
	f->nx = r[3] & BIT(20);
	f->pages_1g = r[3] & BIT(26);
	f->rdtscp = r[3] & BIT(27);
	f->phys_bits = 36;
	f->x87_leak = f->amd;
	if (f->max_ext_leaf >= 0x80000008) {
		cpuid(0x80000008, 0, r);
		f->x87_leak = f->amd && !(r[1] & BIT(2));
		f->phys_bits = (u8)min_u64(r[0] & 0xff, 52);
	}
	detect_leaf7();
	detect_xsave();
}

/* Maps the pages of an area that are no guard pages. */
static int map_area(u64 base) {
	return space_map_new(base, CPU_STRUCT_SIZE) ?:
	       space_map_new(base + CPU_DF_STACK, PAGE_SIZE) ?:
	       space_map_new(base + CPU_NMI_STACK, PAGE_SIZE) ?:
	       space_map_new(base + CPU_MC_STACK, PAGE_SIZE) ?:
	       space_map_new(base + CPU_MAIN_STACK, CPU_AREA_SIZE - CPU_MAIN_STACK);
}

struct cpu *cpu_area_create(u32 slot, u32 id, u32 apic_id) {
	u64 base = CPU_AREA_BASE + (u64)slot * CPU_AREA_SIZE;
	struct cpu *cpu = (struct cpu *)base;

	if (map_area(base)) return NULL;
	cpu->id = id;
	cpu->apic_id = apic_id;
	return cpu;
}

/* 64-bit TSS descriptor: 16 bytes, type 9 (APM 2 4.8.3). */
static void fill_descriptors(struct cpu *cpu) {
	u64 tss = (u64)&cpu->tss;

	cpu->gdt[0] = 0;
	cpu->gdt[HOST_CS / 8] = 0x00af9b000000ffff;
	cpu->gdt[HOST_DS / 8] = 0x00cf93000000ffff;
	cpu->gdt[HOST_TSS / 8] = (sizeof(struct tss) - 1) | (tss & 0xffffff) << 16 | 0x89ul << 40 |
				 (tss >> 24 & 0xff) << 56;
	cpu->gdt[HOST_TSS / 8 + 1] = tss >> 32;
	memset(&cpu->tss, 0, sizeof(cpu->tss));
	cpu->tss.ist[0] = (u64)cpu + CPU_DF_STACK + PAGE_SIZE;
	cpu->tss.ist[1] = (u64)cpu + CPU_NMI_STACK + PAGE_SIZE;
	cpu->tss.ist[2] = (u64)cpu + CPU_MC_STACK + PAGE_SIZE;
	cpu->tss.iomap_base = sizeof(struct tss);
}

static void load_descriptors(struct cpu *cpu) {
	struct descriptor_pointer gdt = {sizeof(cpu->gdt) - 1, (u64)cpu->gdt};

	__asm__ volatile("lgdt %0\n\t"
			 "lidt %1\n\t"
			 "pushq %2\n\t"
			 "leaq 1f(%%rip), %%rax\n\t"
			 "pushq %%rax\n\t"
			 "lretq\n\t"
			 "1: mov %3, %%ds\n\t"
			 "mov %3, %%es\n\t"
			 "mov %3, %%ss\n\t"
			 "xor %%eax, %%eax\n\t"
			 "mov %%eax, %%fs\n\t"
			 "mov %%eax, %%gs\n\t"
			 "lldt %%ax\n\t"
			 "ltr %w4\n\t"
			 :
			 : "m"(gdt), "m"(idt_pointer), "i"(HOST_CS), "r"(HOST_DS), "r"(HOST_TSS)
			 : "rax", "memory");
}

void cpu_early_init(struct cpu *cpu) {
	fill_descriptors(cpu);
	load_descriptors(cpu);
}

void cpu_init_this(void) {
	const struct cpu_features *f = &cpu_features;
	u64 cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_MCE;
	struct cpu *cpu = this_cpu();

	cpu_early_init(cpu);
	cr4 |= f->pge ? X86_CR4_PGE : 0;
	cr4 |= f->smep ? X86_CR4_SMEP : 0;
	cr4 |= f->smap ? X86_CR4_SMAP : 0;
	cr4 |= f->umip ? X86_CR4_UMIP : 0;
	cr4 |= f->fsgsbase ? X86_CR4_FSGSBASE : 0;
	cr4 |= f->xcr0 ? X86_CR4_OSXSAVE : 0;
	write_cr4(cr4);
	write_cr0(X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_PG);
	if (f->xcr0) xsetbv(0, f->xcr0);
}
