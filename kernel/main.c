/* Start-up, as a table of contents: from the loader to every CPU in its loop and guests running. */
#include "boot/bootinfo.h"
#include "boot/layout.h"
#include "drivers/acpi.h"
#include "drivers/cmos.h"
#include "drivers/ioapic.h"
#include "drivers/lapic.h"
#include "drivers/mmio.h"
#include "drivers/serial.h"
#include "kernel/backend.h"
#include "kernel/cmdline.h"
#include "kernel/cpu.h"
#include "kernel/fpu.h"
#include "kernel/guests.h"
#include "kernel/host_io.h"
#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/power.h"
#include "kernel/sched.h"
#include "kernel/shell.h"
#include "kernel/smp.h"
#include "kernel/space.h"
#include "kernel/speculation.h"
#include "kernel/traps.h"
#include "mm/frame.h"

#define LAPIC_DEFAULT  0xfee00000ul
#define APIC_BASE_EXTD BIT(10)

extern char image_start[], image_end[];

__noreturn void kernel_start(u32 magic, u32 info_address);

static struct boot_info boot;
static struct acpi_info acpi;
static struct options options;

_Static_assert(OPTIONS_MAX_CPUS == MAX_CPUS, "cpus= names as many as there is room for");

/* Firmware's tables, while the start-up tables still map the first 4 GiB. */
static void read_boot_info(u32 magic, hpa_t address) {
	if (boot_info_parse(magic, address, &boot))
		panic("the boot loader's information cannot be used (magic %x)", magic);
	boot_info_reserve(&boot, (hpa_t)image_start, (hpa_t)image_end);
}

static void print_memory(void) {
	struct frame_stats stats;

	frame_stats(&stats);
	log_info("memory: %lu MiB, %lu MiB free for guests", stats.total >> 8, stats.free >> 8);
}

static void init_lapic(void) {
	bool x2apic = cpu_features.x2apic && (rdmsr(X86_MSR_APIC_BASE) & APIC_BASE_EXTD);
	hpa_t page = acpi.lapic ? acpi.lapic : LAPIC_DEFAULT;
	volatile void *regs = x2apic ? NULL : mmio_map(page, PAGE_SIZE);

	if (!x2apic && !regs) panic("no room to map the local APIC");
	lapic_init_host(regs);
	pic_disable_host();
	for (u32 i = 0; i < acpi.nr_ioapics; i++) {
		volatile void *ioapic = mmio_map(acpi.ioapics[i].address, PAGE_SIZE);

		if (ioapic) ioapic_add_host(ioapic, acpi.ioapics[i].gsi_base);
	}
}

static bool find_backend(void) {
	backend = cpu_features.intel ? &vmx_backend : &svm_backend;
	if (options.vmx.len && !cpu_features.intel)
		log_warn("command line: vmx= has no effect on this processor");
	return backend->probe(&options) == 0;
}

/* The second half, on the boot processor's own stack. */
static void start_on_own_stack(void) {
	cpu_init_this();
	fpu_check();
	speculation_init();
	init_lapic();
	time_init(&acpi);
	time_set_wall_clock(cmos_unix_time());
	power_init(&acpi, (u16)options.debug_exit);
	if (!find_backend() || backend->cpu_on(this_cpu())) {
		log_error("Roost cannot run guests on this machine");
		power_debug_exit(EXIT_NO_GUESTS);
		backend = NULL;
	}
	smp_init(&acpi, boot.trampoline, options.max_cpus);
	commands_init(&boot);
	host_io_init(&acpi);
	print_memory();
	guests_init(&boot, &options);
	sched_loop();
}

void kernel_start(u32 magic, u32 info_address) {
	traps_init();
	cpu_detect();
	cpu_early_init(this_cpu());
	read_boot_info(magic, info_address);
	options_parse(&boot, &options);
	log_set_level(options.log_level);
	if (acpi_parse(&boot, &acpi)) log_warn("no ACPI tables: one CPU, no power-off");
	host_consoles_early(&acpi, &options);
	log_info("Roost " ROOST_VERSION ", loaded by %s",
		 boot.loader[0] ? boot.loader : "an unnamed loader");
	space_init(&boot);
	host_consoles_late(&boot, &acpi, &options);
	struct cpu *cpu = cpu_area_create(0, 0, 0);
	if (!cpu) panic("no memory for the boot processor");
	cpus[0] = cpu;
	call_on_stack((u64)cpu + CPU_AREA_SIZE, start_on_own_stack);
}
