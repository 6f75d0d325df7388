/*
 * The demonstration guest that Roost carries inside its image and starts when it is given none: a
 * few lines on the serial port about the machine that the guest sees, then power-off. 32-bit
 * protected mode, no paging, no interrupts, so that it needs nothing but what it shows.
 */
#include "boot/multiboot.h"
#include "lib/types.h"

#define COM1		   0x3f8
#define COM1_LINE_STATUS   (COM1 + 5)
#define TRANSMITTER_EMPTY  0x20
#define CMOS_INDEX	   0x70
#define CMOS_DATA	   0x71
#define CMOS_IN_PROGRESS   0x80 /* of register 0x0A */
#define CMOS_BINARY	   0x04 /* of register 0x0B */
#define PM1_CONTROL	   0x604
#define PM1_SLEEP	   (1u << 13 | 5u << 10) /* SLP_EN, SLP_TYP as \_S5 says */
#define HYPERVISOR_PRESENT (1u << 31)		 /* CPUID 1, ECX */
#define MEASUREMENTS	   100

void demo_main(u32 magic, const struct mb1_info *info);

static u8 in8(u16 port) {
	u8 value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

static void out16(u16 port, u16 value) {
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static u32 cycles(void) {
	u32 low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return low;
}

/* The four registers in the order EAX, EBX, ECX, EDX. */
static void get_cpuid(u32 leaf, u32 out[4]) {
	__asm__ volatile("cpuid"
			 : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
			 : "a"(leaf), "c"(0));
}

static void print_char(char c) {
	for (u32 i = 0; i < 100000 && !(in8(COM1_LINE_STATUS) & TRANSMITTER_EMPTY); i++)
		__builtin_ia32_pause();
	out8(COM1, (u8)c);
}

static void print(const char *text) {
	for (; *text; text++) {
		if (*text == '\n') print_char('\r');
		print_char(*text);
	}
}

/* Decimal, with zeros in front up to `digits`. */
static void print_number(u32 value, u32 digits) {
	char text[11];
	u32 at = sizeof(text) - 1;

	text[at] = '\0';
	do {
		text[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value || sizeof(text) - 1 - at < digits);
	print(&text[at]);
}

/* Registers as CPUID returns text in them; bytes that are no printable ASCII are left out. */
static void print_registers(const u32 *regs, u32 count) {
	for (u32 i = 0; i < count * 4; i++) {
		char c = (char)(regs[i / 4] >> (i % 4 * 8));

		if (c >= ' ' && c <= '~') print_char(c);
	}
}

static void show_cpu(void) {
	u32 regs[4], vendor[3];

	get_cpuid(0, regs);
	vendor[0] = regs[1];
	vendor[1] = regs[3];
	vendor[2] = regs[2];
	print("  processor   ");
	print_registers(vendor, 3);
	get_cpuid(0x80000000, regs);
	if (regs[0] >= 0x80000004 && regs[0] < 0x80010000) {
		print(", ");
		for (u32 leaf = 0x80000002; leaf <= 0x80000004; leaf++) {
			get_cpuid(leaf, regs);
			print_registers(regs, 4);
		}
	}
	print("\n  hypervisor  ");
	get_cpuid(1, regs);
	if (regs[2] & HYPERVISOR_PRESENT) {
		get_cpuid(0x40000000, regs);
		print("CPUID says '");
		print_registers(&regs[1], 3);
		print("'\n");
	} else {
		print("none, says CPUID\n");
	}
}

static void show_memory(u32 magic, const struct mb1_info *info) {
	if (magic != MB1_BOOT_MAGIC || !(info->flags & MB1_HAS_MEM)) return;
	print("  memory      ");
	print_number((info->mem_upper >> 10) + 1, 1);
	print(" MiB");
	if (info->flags & MB1_HAS_LOADER) {
		print(", loaded by ");
		print((const char *)info->loader_name);
	}
	print("\n");
}

static u32 cmos(u8 index) {
	out8(CMOS_INDEX, index);
	return in8(CMOS_DATA);
}

static u32 cmos_time(u8 index, bool binary) {
	u32 value = cmos(index);

	return binary ? value : (value >> 4) * 10 + (value & 0xf);
}

static void show_clock(void) {
	/* Year, month, day, hour, minute, second; the firmware keeps 24-hour time. */
	static const u8 index[] = {9, 8, 7, 4, 2, 0};
	static const char *const behind[] = {"-", "-", " ", ":", ":", " UTC\n"};
	u32 value[ARRAY_SIZE(index)];
	bool binary = cmos(0xb) & CMOS_BINARY;

	for (u32 i = 0; i < 100000 && cmos(0xa) & CMOS_IN_PROGRESS; i++) __builtin_ia32_pause();
	for (u32 i = 0; i < ARRAY_SIZE(index); i++) value[i] = cmos_time(index[i], binary);
	print("  clock       20");
	for (u32 i = 0; i < ARRAY_SIZE(index); i++) {
		print_number(value[i], 2);
		print(behind[i]);
	}
}

/* CPUID always exits to the hypervisor, so its cost is what one exit and one entry take. */
static void show_exits(void) {
	u32 regs[4], best = ~0u;

	for (u32 i = 0; i < MEASUREMENTS; i++) {
		u32 start = cycles(), ticks;

		get_cpuid(0, regs);
		ticks = cycles() - start;
		best = ticks < best ? ticks : best;
	}
	print("  VM exits    ");
	print_number(MEASUREMENTS, 1);
	print(" made just now, ");
	print_number(best, 1);
	print(" TSC ticks for the fastest\n");
}

void demo_main(u32 magic, const struct mb1_info *info) {
	print("\nHello from a guest: this is Roost's demonstration, running in a virtual "
	      "machine.\n");
	show_cpu();
	show_memory(magic, info);
	show_clock();
	show_exits();
	print("  next        give Roost a kernel of your own as a module; see "
	      "docs/configuration.md\n"
	      "Goodbye: powering off.\n");
	out16(PM1_CONTROL, PM1_SLEEP);
}
