/* Power-off and reset of the host (ACPI 6.5 4.8.3.2, 4.8.3.6, 16.1.4). */
#include "kernel/power.h"

#include "drivers/acpi.h"
#include "drivers/screen.h"
#include "drivers/serial.h"
#include "kernel/time.h"
#include "lib/log.h"
#include "lib/x86.h"

#define PM1_SCI_EN     BIT(0)
#define PM1_SLP_TYP(t) ((u16)((t) << 10))
#define PM1_SLP_EN     BIT(13)
#define ACPI_ENABLE_MS 300u
#define RESET_CF9      0xcf9
#define SETTLE_US      50000u

static const struct acpi_info *acpi;
static u16 exit_port;

void power_init(const struct acpi_info *info, u16 debug_exit) {
	acpi = info;
	exit_port = debug_exit;
}

void power_debug_exit(u32 value) {
	serial_drain();
	if (exit_port) outl(exit_port, value);
}

/* The sleep registers only work in ACPI mode. */
static void enter_acpi_mode(void) {
	u64 limit = rdtsc() + ACPI_ENABLE_MS * tsc_khz;

	if (!acpi->smi_command || !acpi->acpi_enable || (inw(acpi->pm1a_control) & PM1_SCI_EN))
		return;
	outb(acpi->smi_command, acpi->acpi_enable);
	while (!(inw(acpi->pm1a_control) & PM1_SCI_EN) && rdtsc() < limit) cpu_pause();
}

static void sleep(u16 port, u8 type) {
	if (port) outw(port, (u16)((inw(port) & ~PM1_SLP_TYP(7)) | PM1_SLP_TYP(type) | PM1_SLP_EN));
}

static void __noreturn halt(void) {
	serial_drain();
	screen_refresh();
	cpu_stop();
}

void power_off(void) {
	serial_drain();
	if (acpi->has_s5 && acpi->pm1a_control) {
		enter_acpi_mode();
		sleep(acpi->pm1a_control, acpi->s5_type_a);
		sleep(acpi->pm1b_control, acpi->s5_type_b);
		time_delay_us(SETTLE_US);
	}
	log_error("this machine does not power off by ACPI: switch it off by hand");
	halt();
}

void power_reboot(void) {
	static const struct {
		u16 limit;
		u64 base;
	} __packed no_idt = {0, 0};

	serial_drain();
	if (acpi->reset) {
		outb(acpi->reset, acpi->reset_value);
		time_delay_us(SETTLE_US);
	}
	outb(RESET_CF9, 0x02);
	outb(RESET_CF9, 0x06);
	time_delay_us(SETTLE_US);
	if (acpi->has_8042) outb(0x64, 0xfe);
	time_delay_us(SETTLE_US);
	__asm__ volatile("lidt %0; int3" : : "m"(no_idt));
	halt();
}
