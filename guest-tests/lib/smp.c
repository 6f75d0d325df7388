/* Starting and using the other CPUs. */
#include "guest-tests/lib/acpi.h"
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/smp.h"
#include "guest-tests/lib/trap.h"

#define MADT_LAPIC  0
#define MADT_X2APIC 9
#define MADT_FIRST  44 /* offset of the first entry */
#define AP_STACK    16384

extern const char ap_trampoline[], ap_trampoline_end[];
extern u32 ap_cpu;
u32 ap_cpu; /* boot.S: address of the struct cpu of the one that starts */

void smp_ap_main(struct cpu *cpu);

static char ap_stacks[MAX_CPUS - 1][AP_STACK] __aligned(16);
static u32 listed;

static void add_cpu(u32 apic_id, u32 flags, u32 boot_id) {
	if (!(flags & 1)) return;
	if (apic_id == boot_id) {
		cpus[0].apic_id = apic_id;
		return;
	}
	if (listed >= MAX_CPUS) return;
	cpus[listed].apic_id = apic_id;
	cpus[listed].index = listed;
	cpus[listed].stack_top = (u64)ap_stacks[listed - 1] + AP_STACK;
	listed++;
}

static u32 load32(const u8 *at) {
	u32 value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static void read_madt(void) {
	const struct acpi_header *madt = acpi_table("APIC");
	u32 boot_id = lapic_id();
	const u8 *at;

	listed = 1;
	cpus[0].apic_id = boot_id;
	if (!madt) return;
	const u8 *end = (const u8 *)madt + madt->length;
	for (at = (const u8 *)madt + MADT_FIRST; at + 2 <= end && at[1] >= 2; at += at[1]) {
		if (at[0] == MADT_LAPIC)
			add_cpu(at[3], load32(at + 4), boot_id);
		else if (at[0] == MADT_X2APIC)
			add_cpu(load32(at + 4), load32(at + 8), boot_id);
	}
}

bool smp_boot(u32 index) {
	struct cpu *cpu = &cpus[index];

	cpu->online = false;
	cpu->work = NULL;
	ap_cpu = (u32)(u64)cpu;
	memcpy((void *)AP_TRAMPOLINE, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
	lapic_send(cpu->apic_id, ICR_INIT | ICR_LEVEL | ICR_ASSERT);
	delay_us(10000);
	lapic_send(cpu->apic_id, ICR_SIPI | AP_TRAMPOLINE >> 12);
	if (wait_until(cpu->online, 1000)) return true;
	lapic_send(cpu->apic_id, ICR_SIPI | AP_TRAMPOLINE >> 12);
	return wait_until(cpu->online, 1000000);
}

static void wake(struct regs *regs) {
	(void)regs;
	lapic_eoi();
}

u32 smp_init(void) {
	u32 online = 1;

	lapic_init();
	trap_set_handler(VECTOR_WAKE, wake);
	read_madt();
	cpus[0].online = true;
	while (online < listed && smp_boot(online)) online++;
	return online;
}

u32 smp_listed(void) { return listed; }

void smp_ap_main(struct cpu *cpu) {
	trap_init_cpu(cpu);
	lapic_init();
	cpu->online = true;
	for (;;) {
		void (*work)(void *) = cpu->work;

		if (!work) {
			cpu_sti_hlt_cli();
			continue;
		}
		work(cpu->work_arg);
		cpu_cli();
		cpu->work = NULL;
	}
}

bool smp_start(u32 index, void (*work)(void *), void *arg) {
	struct cpu *cpu = &cpus[index];

	if (cpu->work) return false;
	cpu->work_arg = arg;
	cpu->work = work;
	lapic_send(cpu->apic_id, VECTOR_WAKE);
	return true;
}

bool smp_wait(u32 index, u64 us) { return wait_until(!cpus[index].work, us); }
