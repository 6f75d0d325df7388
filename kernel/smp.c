/* Starting the other processors, one at a time, with time limits (SDM 3A 9.4.4), and their IPIs. */
#include "kernel/smp.h"

#include "drivers/acpi.h"
#include "drivers/lapic.h"
#include "kernel/backend.h"
#include "kernel/cpu.h"
#include "kernel/space.h"
#include "kernel/speculation.h"
#include "kernel/traps.h"
#include "lib/log.h"
#include "lib/string.h"
#include "lib/x86.h"
#include "mm/direct.h"

#define START_TIMEOUT_MS 3000u
#define XAPIC_ID_MAX	 254u

extern const char trampoline_start[], trampoline_end[], trampoline_gdt[], trampoline_gdt_base[];
extern u64 trampoline_stack, trampoline_cr3, trampoline_efer;

static void on_kick(void) { /* Leaving the guest or idle was all. */
}

void smp_kick(struct cpu *cpu) {
	if (cpu != this_cpu()) lapic_send_ipi(cpu->apic_id, VEC_KICK);
}

void smp_kick_self(void) { lapic_send_ipi(this_cpu()->apic_id, VEC_KICK); }

/*
 * A CPU that comes too late finds another one's stack, or none (trampoline.S): it stays off.
 * Everything that can fail is done before the CPU counts.
 */
void smp_ap_start(void) {
	struct cpu *cpu = this_cpu();

	space_load();
	cpu_init_this();
	speculation_init_cpu();
	lapic_init_cpu();
	time_init_cpu();
	if (lapic_id_host() != cpu->apic_id) return;
	if (backend && backend->cpu_on(cpu)) {
		log_error("CPU %u cannot run guests", cpu->id);
		return;
	}
	atomic_store(&cpu->online, 1);
	sched_loop();
}

/* Copies the trampoline to its page and completes its addresses. */
static void prepare_trampoline(hpa_t page) {
	char *code = phys_to_virt(page);
	u32 gdt = (u32)page + (u32)(trampoline_gdt - trampoline_start);

	memcpy(code, trampoline_start, (size_t)(trampoline_end - trampoline_start));
	memcpy(code + (trampoline_gdt_base - trampoline_start), &gdt, sizeof(gdt));
	trampoline_cr3 = read_cr3();
	trampoline_efer = cpu_features.nx ? X86_EFER_NXE : 0;
}

static bool wait_online(struct cpu *cpu, u64 ms) {
	u64 limit = rdtsc() + ms * tsc_khz;

	while (!atomic_load(&cpu->online)) {
		if (rdtsc() > limit) return false;
		cpu_pause();
	}
	return true;
}

static bool start_one(struct cpu *cpu, hpa_t page) {
	__atomic_store_n(&trampoline_stack, (u64)cpu + CPU_AREA_SIZE, __ATOMIC_SEQ_CST);
	lapic_send_init(cpu->apic_id);
	time_delay_us(10000);
	lapic_send_startup(cpu->apic_id, (u8)(page >> 12));
	if (wait_online(cpu, 2)) return true;
	lapic_send_startup(cpu->apic_id, (u8)(page >> 12));
	if (wait_online(cpu, START_TIMEOUT_MS)) return true;
	/* It waits for a start-up IPI again, instead of coming when another one is expected. */
	lapic_send_init(cpu->apic_id);
	return false;
}

/* Not this one, and an id that IPIs can name. */
static bool can_start(u32 apic_id) {
	return apic_id != cpus[0]->apic_id && (lapic_is_x2apic() || apic_id <= XAPIC_ID_MAX);
}

void smp_init(const struct acpi_info *acpi, hpa_t page, u32 max_cpus) {
	u32 slot = 1; /* one that did not start may still do so: its stack is never used again */

	this_cpu()->apic_id = lapic_id_host();
	nr_cpus = 1;
	irq_install(VEC_KICK, on_kick);
	irq_install(VEC_TIMER, timer_interrupt);
	time_init_cpu();
	if (acpi->nr_cpus > 1 && max_cpus > 1 && !page) {
		log_warn("no free page below 640 KiB: the other CPUs stay off");
		return;
	}
	if (page) prepare_trampoline(page);
	for (u32 i = 0; i < acpi->nr_cpus && nr_cpus < max_cpus && nr_cpus < MAX_CPUS; i++) {
		struct cpu *cpu;

		if (!can_start(acpi->apic_ids[i])) continue;
		cpu = cpu_area_create(slot++, nr_cpus, acpi->apic_ids[i]);
		if (!cpu) {
			log_warn("no memory for more than %u CPUs", nr_cpus);
			break;
		}
		cpus[nr_cpus] = cpu;
		if (start_one(cpu, page))
			nr_cpus++;
		else
			log_warn("CPU with APIC id %u did not start in %u ms: left out",
				 cpu->apic_id, START_TIMEOUT_MS);
	}
	log_info("CPUs: %u of %lu in use", nr_cpus, max_u64(acpi->nr_cpus, nr_cpus));
}
