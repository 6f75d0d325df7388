/*
 * The smallest machine monitor on Linux' /dev/kvm that boots Debian's kernel to a shell: what L1
 * runs in the tests of two levels. One static program; its guest, the L2, has what KVM's kernel
 * part emulates (LAPIC, IOAPIC, PIC, PIT), and from here a serial port on the terminal, a clock, an
 * MP table, and port 0x64, where `reboot` ends it all.
 *
 *   monitor linux KERNEL INITRD MIB CPUS COMMAND-LINE
 *   monitor bench COUNT      what single exits cost, as `bench NAME TICKS`, by the L2's own TSC
 */
#define _GNU_SOURCE
#include <asm/bootparam.h>
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "tools/bench/mark.h"

#define MAX_CPUS  8
#define LOW_END	  0x9fc00u  /* of low memory; the ACPI tables are behind it */
#define KERNEL_AT 0x100000u /* where a bzImage wants its protected-mode part */
#define PARAMS_AT 0x10000u
#define LINE_AT	  0x20000u
#define GDT_AT	  0x8000u
#define PM_AT	  0x600u /* the ports of power management */
#define LARGE	  (2ul << 20)

static int kvm_fd, vm_fd, vcpu_fds[MAX_CPUS], run_size;
static uint8_t *ram;
static unsigned cpus;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the devices */
static struct termios terminal;
static bool raw;

static _Noreturn void leave(int status) {
	if (raw) tcsetattr(0, TCSANOW, &terminal);
	fflush(stdout);
	_exit(status);
}

static _Noreturn void fail(const char *what) {
	printf("monitor: %s: %s\n", what, strerror(errno));
	leave(1);
}

static int control(int fd, unsigned long request, void *argument, const char *what) {
	int result = ioctl(fd, request, argument);

	if (result < 0) fail(what);
	return result;
}

/* ---- the virtual machine ---- */

static struct {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entries[256];
} leaves;

/* What KVM offers, with the vCPU's APIC ID, and two features that KVM leaves to its monitor. */
static void set_cpuid(unsigned cpu) {
	for (unsigned i = 0; i < leaves.head.nent; i++) {
		struct kvm_cpuid_entry2 *e = &leaves.entries[i];

		if (e->function == 1) {
			e->ebx = (e->ebx & 0xffff) | cpu << 24 | 1u << 16;
			e->ecx |= 1u << 31 | 1u << 24; /* a hypervisor, TSC deadline */
		}
		if (e->function == 0xb || e->function == 0x1f) e->edx = cpu;
		if (e->function == 0x8000001e) e->eax = cpu;
	}
	control(vcpu_fds[cpu], KVM_SET_CPUID2, &leaves, "KVM_SET_CPUID2");
}

static void make_vm(size_t bytes, unsigned nr) {
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	uint64_t identity_map = 0xfffbc000;

	kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm_fd < 0) fail("/dev/kvm");
	vm_fd = control(kvm_fd, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
	if (ioctl(vm_fd, KVM_SET_TSS_ADDR, 0xfffbd000ul)) fail("KVM_SET_TSS_ADDR");
	control(vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map, "KVM_SET_IDENTITY_MAP_ADDR");
	control(vm_fd, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
	control(vm_fd, KVM_CREATE_PIT2, &pit, "KVM_CREATE_PIT2");
	/* A large page's alignment, so that KVM can map it so. */
	ram = mmap(NULL, bytes + LARGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ram == MAP_FAILED) fail("memory");
	ram = (uint8_t *)(((uintptr_t)ram + LARGE - 1) & ~(LARGE - 1));
	struct kvm_userspace_memory_region region = {.memory_size = bytes,
						     .userspace_addr = (uintptr_t)ram};
	control(vm_fd, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
	leaves.head.nent = 256;
	control(kvm_fd, KVM_GET_SUPPORTED_CPUID, &leaves, "KVM_GET_SUPPORTED_CPUID");
	run_size = control(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");
	cpus = nr;
	for (unsigned i = 0; i < nr; i++) {
		vcpu_fds[i] = ioctl(vm_fd, KVM_CREATE_VCPU, (unsigned long)i);
		if (vcpu_fds[i] < 0) fail("KVM_CREATE_VCPU");
		set_cpuid(i);
	}
}

static struct kvm_run *map_run(unsigned cpu) {
	void *run =
		mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fds[cpu], 0);

	if (run == MAP_FAILED) fail("kvm_run");
	return run;
}

/* ---- the serial port: a 16450, which sends at once ---- */

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCRATCH };

static struct {
	uint8_t ier, lcr, mcr, scratch, dll, dlm;
	uint8_t byte; /* received */
	bool full, sent, level;
} uart;
static pthread_cond_t taken = PTHREAD_COND_INITIALIZER;

static bool receive_interrupt(void) { return uart.full && (uart.ier & 1); }

static bool send_interrupt(void) { return uart.sent && (uart.ier & 2); }

static void uart_interrupt(void) {
	bool level = receive_interrupt() || send_interrupt();
	struct kvm_irq_level line = {.irq = 4, .level = level};

	if (level == uart.level) return;
	uart.level = level;
	control(vm_fd, KVM_IRQ_LINE, &line, "KVM_IRQ_LINE");
}

static void uart_write(unsigned reg, uint8_t value) {
	bool divisor = uart.lcr & 0x80;

	if (reg == DATA && divisor) uart.dll = value;
	if (reg == DATA && !divisor) {
		if (!(uart.mcr & 0x10) && write(1, &value, 1) != 1) fail("output");
		uart.sent = true;
	}
	if (reg == IER && divisor) uart.dlm = value;
	if (reg == IER && !divisor) {
		uart.sent |= value & ~uart.ier & 2;
		uart.ier = value & 15;
	}
	if (reg == LCR) uart.lcr = value;
	if (reg == MCR) uart.mcr = value & 0x1f;
	if (reg == SCRATCH) uart.scratch = value;
	uart_interrupt();
}

static uint8_t uart_read(unsigned reg) {
	bool divisor = uart.lcr & 0x80;
	uint8_t value = 0;

	switch (reg) {
	case DATA:
		if (divisor) return uart.dll;
		value = uart.byte;
		uart.full = false;
		pthread_cond_signal(&taken);
		break;
	case IER: return divisor ? uart.dlm : uart.ier;
	case IIR:
		value = receive_interrupt() ? 4 : send_interrupt() ? 2 : 1;
		if (value == 2) uart.sent = false;
		break;
	case LCR: return uart.lcr;
	case MCR: return uart.mcr;
	case LSR: return 0x60 | uart.full;
	case MSR: /* looped back, or all that a modem can say */
		if (!(uart.mcr & 0x10)) return 0xb0;
		return (uint8_t)((uart.mcr & 2) << 3 | (uart.mcr & 1) << 5 | (uart.mcr & 12) << 4);
	default: return uart.scratch;
	}
	uart_interrupt();
	return value;
}

/* What is typed, byte by byte. */
static void *input(void *unused) {
	uint8_t byte;

	while (read(0, &byte, 1) == 1) {
		pthread_mutex_lock(&lock);
		while (uart.full) pthread_cond_wait(&taken, &lock);
		uart.byte = byte;
		uart.full = true;
		uart_interrupt();
		pthread_mutex_unlock(&lock);
	}
	return unused;
}

static void start_input(void) {
	struct termios t;
	pthread_t thread;

	if (!tcgetattr(0, &terminal)) {
		t = terminal;
		cfmakeraw(&t);
		raw = !tcsetattr(0, TCSANOW, &t);
	}
	if (pthread_create(&thread, NULL, input, NULL)) fail("thread");
}

/* ---- other ports ---- */

static uint8_t cmos_index;
static uint8_t pm[6]; /* status, enable, control: 16 bits each; no event ever comes */

static uint8_t cmos_read(void) {
	time_t now = time(NULL);
	int value = 0;
	struct tm t;

	gmtime_r(&now, &t);
	switch (cmos_index) {
	case 0x0a: return 0x26;
	case 0x0b: return 0x02; /* decimal, 24 hours */
	case 0x0d: return 0x80;
	case 0x00: value = t.tm_sec; break;
	case 0x02: value = t.tm_min; break;
	case 0x04: value = t.tm_hour; break;
	case 0x06: value = t.tm_wday + 1; break;
	case 0x07: value = t.tm_mday; break;
	case 0x08: value = t.tm_mon + 1; break;
	case 0x09: value = t.tm_year % 100; break;
	case 0x32: value = 19 + t.tm_year / 100; break;
	}
	return (uint8_t)(value / 10 << 4 | value % 10);
}

/* Nothing is there: reads are all ones. */
static uint8_t port_read(unsigned port) {
	if (port >= 0x3f8 && port < 0x400) return uart_read(port - 0x3f8);
	if (port == 0x71) return cmos_read();
	return port >= PM_AT && port < PM_AT + 6 ? pm[port - PM_AT] : 0xff;
}

static void port_write(unsigned port, uint8_t value) {
	if (port >= 0x3f8 && port < 0x400) uart_write(port - 0x3f8, value);
	if (port == 0x70) cmos_index = value & 0x7f;
	if (port >= PM_AT + 2 && port < PM_AT + 6) pm[port - PM_AT] = value;
	/* The reset line of the keyboard controller; SLP_EN. */
	if ((port == 0x64 && value == 0xfe) || (port == PM_AT + 5 && value & 0x20)) {
		printf("monitor: the guest has %s\n", port == 0x64 ? "reset" : "powered off");
		leave(0);
	}
}

static void port_exit(struct kvm_run *run) {
	uint8_t *p = (uint8_t *)run + run->io.data_offset;

	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < run->io.count * run->io.size; i++, p++) {
		unsigned port = run->io.port + i % run->io.size;

		if (run->io.direction == KVM_EXIT_IO_OUT)
			port_write(port, *p);
		else
			*p = port_read(port);
	}
	pthread_mutex_unlock(&lock);
}

static _Noreturn void *run_vcpu(void *argument) {
	unsigned cpu = (unsigned)(uintptr_t)argument;
	struct kvm_run *run = map_run(cpu);

	for (;;) {
		if (ioctl(vcpu_fds[cpu], KVM_RUN, 0)) {
			if (errno != EINTR && errno != EAGAIN) fail("KVM_RUN");
			continue;
		}
		switch (run->exit_reason) {
		case KVM_EXIT_IO: port_exit(run); break;
		case KVM_EXIT_MMIO:
			if (!run->mmio.is_write) memset(run->mmio.data, 0xff, 8);
			break;
		default:
			printf("monitor: vCPU %u ended: exit %u, code %llx\n", cpu,
			       run->exit_reason, run->hw.hardware_exit_reason);
			leave(1);
		}
	}
}

/* ---- Linux ---- */

static size_t load_file(const char *name, uint8_t *to, size_t limit) {
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	size_t have = 0;
	ssize_t more;

	if (fd < 0) fail(name);
	while ((more = read(fd, to + have, limit - have)) > 0) have += (size_t)more;
	close(fd);
	return have;
}

static uint8_t sum(const uint8_t *p, size_t bytes) {
	uint8_t total = 0;

	while (bytes--) total = (uint8_t)(total + *p++);
	return total;
}

/* ACPI 6.4 5.2: a table behind the last one, with its header; returns its address. */
static uint32_t add_table(uint8_t **end, const char *name, uint8_t revision, const uint8_t *body,
			  size_t bytes) {
	uint8_t *table = *end;

	memcpy(table, name, 4);
	memcpy(table + 4, &(uint32_t){(uint32_t)(36 + bytes)}, 4);
	table[8] = revision;
	memcpy(table + 10, "ROOST NESTED", 12);
	memcpy(table + 36, body, bytes);
	table[9] = (uint8_t)-sum(table, 36 + bytes);
	*end += (36 + bytes + 15) & ~15ul;
	return (uint32_t)(table - ram);
}

/* The processors, the IOAPIC, one sleep state: what Linux needs to find more than one CPU. */
static void make_acpi_tables(struct boot_params *bp) {
	/* Name (_S5, Package (2) { 5, 5 }) */
	static const uint8_t dsdt[] = {8, '_', 'S', '5', '_', 0x12, 6, 2, 0xa, 5, 0xa, 5};
	uint8_t fadt[116 - 36] = {0}, madt[8 + 8 * MAX_CPUS + 12] = {0}, *m = madt;
	uint8_t *rsdp = ram + LOW_END, *end = rsdp + 32;
	uint32_t tables[2] = {add_table(&end, "DSDT", 1, dsdt, sizeof(dsdt))};

	memcpy(fadt + 40 - 36, tables, 4);
	fadt[46 - 36] = 9; /* SCI */
	memcpy(fadt + 56 - 36, &(uint32_t){PM_AT}, 4);
	memcpy(fadt + 64 - 36, &(uint32_t){PM_AT + 4}, 4);
	fadt[88 - 36] = 4; /* bytes of the event block, of the control block */
	fadt[89 - 36] = 2;
	fadt[108 - 36] = 0x32; /* the century */
	fadt[112 - 36] = 0x35; /* WBINVD works, C1 does, no fixed buttons */
	tables[0] = add_table(&end, "FACP", 1, fadt, sizeof(fadt));
	memcpy(m, (uint8_t[8]){0, 0, 0xe0, 0xfe, 1}, 8);
	m += 8;
	for (unsigned i = 0; i < cpus; i++, m += 8)
		memcpy(m, (uint8_t[8]){0, 8, (uint8_t)i, (uint8_t)i, 1}, 8);
	memcpy(m, (uint8_t[12]){1, 12, (uint8_t)cpus, 0, 0, 0, 0xc0, 0xfe}, 12);
	tables[1] = add_table(&end, "APIC", 1, madt, (size_t)(m + 12 - madt));
	tables[0] = add_table(&end, "RSDT", 1, (const uint8_t *)tables, sizeof(tables));
	memcpy(rsdp, "RSD PTR ", 8);
	memcpy(rsdp + 16, tables, 4);
	rsdp[8] = (uint8_t)-sum(rsdp, 20);
	bp->acpi_rsdp_addr = LOW_END;
}

static void load_linux(const char *kernel, const char *initrd, size_t bytes, const char *line) {
	struct boot_params *bp = (void *)(ram + PARAMS_AT);
	struct setup_header *h = &bp->hdr;
	struct stat st;

	if (stat(kernel, &st)) fail(kernel);
	size_t size = load_file(kernel, ram + KERNEL_AT, bytes - KERNEL_AT);
	memcpy(h, ram + KERNEL_AT + 0x1f1, sizeof(*h));
	size_t setup = ((h->setup_sects ? h->setup_sects : 4u) + 1u) * 512u;
	memmove(ram + KERNEL_AT, ram + KERNEL_AT + setup, size - setup);
	if (stat(initrd, &st)) fail(initrd);
	size_t at = (bytes - (size_t)st.st_size) & ~0xffful;
	h->ramdisk_image = (uint32_t)at;
	h->ramdisk_size = (uint32_t)load_file(initrd, ram + at, (size_t)st.st_size);
	h->type_of_loader = 0xff;
	h->loadflags |= 1;
	h->cmd_line_ptr = LINE_AT;
	strcpy((char *)ram + LINE_AT, line);
	bp->e820_entries = 2;
	bp->e820_table[0] = (struct boot_e820_entry){0, LOW_END, 1};
	bp->e820_table[1] = (struct boot_e820_entry){KERNEL_AT, bytes - KERNEL_AT, 1};
	make_acpi_tables(bp);
}

/* The 32-bit boot protocol (Documentation/x86/boot.rst). */
static void start_linux(void) {
	struct kvm_segment code = {.limit = ~0u,
				   .selector = 0x10,
				   .type = 11,
				   .present = 1,
				   .s = 1,
				   .db = 1,
				   .g = 1},
			   data = code;
	struct kvm_regs regs = {.rip = KERNEL_AT, .rsi = PARAMS_AT, .rsp = 0x9000, .rflags = 2};
	struct kvm_sregs s;

	control(vcpu_fds[0], KVM_GET_SREGS, &s, "KVM_GET_SREGS");
	data.selector = 0x18;
	data.type = 3;
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cr0 = 0x11;
	memcpy(ram + GDT_AT + 16, (uint64_t[]){0x00cf9b000000ffff, 0x00cf93000000ffff}, 16);
	s.gdt.base = GDT_AT;
	s.gdt.limit = 31;
	control(vcpu_fds[0], KVM_SET_SREGS, &s, "KVM_SET_SREGS");
	control(vcpu_fds[0], KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

static _Noreturn void boot(char **words) {
	size_t bytes = strtoul(words[2], NULL, 0) << 20;
	unsigned nr = (unsigned)strtoul(words[3], NULL, 0);
	pthread_t thread;

	if (!nr || nr > MAX_CPUS || bytes < (32u << 20)) {
		printf("monitor: 1 to %u CPUs, 32 MiB or more\n", MAX_CPUS);
		leave(2);
	}
	make_vm(bytes, nr);
	load_linux(words[0], words[1], bytes, words[4]);
	start_linux();
	start_input();
	printf("monitor: %u vCPUs\n", nr);
	fflush(stdout);
	MARK_NOP(MARK_L2);
	for (unsigned i = 1; i < nr; i++)
		if (pthread_create(&thread, NULL, run_vcpu, (void *)(uintptr_t)i)) fail("thread");
	run_vcpu(NULL);
}

/* ---- figures ---- */

#define CODE_AT	 0x1000
#define TIMES_AT 0x800

/* One operation each, in 16-bit code; the counter is EDI. */
static const struct {
	const char *name;
	uint8_t length, code[8];
} operations[] = {
	{"nothing", 1, {0x90}},
	{"l2-cpuid", 5, {0x66, 0x31, 0xc0, 0x0f, 0xa2}},
	{"l2-cr4", 6, {0x0f, 0x20, 0xe0, 0x0f, 0x22, 0xe0}},
	{"l2-port", 2, {0xe4, 0x21}}, /* the PIC is KVM's */
	{"l2-monitor", 2, {0xe4, 0x71}},
};
#define NR_OPERATIONS (sizeof(operations) / sizeof(operations[0]))

static uint8_t *emit(uint8_t *p, const void *bytes, size_t length) {
	memcpy(p, bytes, length);
	return p + length;
}

/* rdtsc; mov [slot], eax; mov [slot + 4], edx */
static uint8_t *emit_time(uint8_t *p, unsigned slot) {
	uint16_t at = (uint16_t)(TIMES_AT + 8 * slot), above = (uint16_t)(at + 4);

	p = emit(p, (uint8_t[]){0x0f, 0x31, 0x66, 0xa3}, 4);
	p = emit(p, &at, 2);
	p = emit(p, (uint8_t[]){0x66, 0x89, 0x16}, 3);
	return emit(p, &above, 2);
}

static void bench(uint32_t count) {
	struct kvm_regs regs = {.rip = CODE_AT, .rsp = 0x7000, .rflags = 2};
	struct kvm_sregs s;

	make_vm(LARGE, 1);
	uint8_t *p = ram + CODE_AT;
	for (unsigned i = 0; i < NR_OPERATIONS; i++) {
		p = emit(p, (uint8_t[]){0x66, 0xbf}, 2); /* mov edi, count */
		p = emit(p, &count, 4);
		p = emit_time(p, 2 * i);
		const uint8_t *loop = p;
		p = emit(p, operations[i].code, operations[i].length);
		p = emit(p, (uint8_t[]){0x66, 0x4f, 0x75, (uint8_t)(loop - p - 4)},
			 4); /* dec; jnz */
		p = emit_time(p, 2 * i + 1);
	}
	emit(p, (uint8_t[]){0xb0, 0xfe, 0xe6, 0x80, 0xf4}, 5); /* out 0x80: the end */
	control(vcpu_fds[0], KVM_GET_SREGS, &s, "KVM_GET_SREGS");
	s.cs.base = s.cs.selector = 0;
	control(vcpu_fds[0], KVM_SET_SREGS, &s, "KVM_SET_SREGS");
	control(vcpu_fds[0], KVM_SET_REGS, &regs, "KVM_SET_REGS");
	struct kvm_run *run = map_run(0);
	for (;;) {
		if (ioctl(vcpu_fds[0], KVM_RUN, 0)) fail("KVM_RUN");
		if (run->exit_reason != KVM_EXIT_IO) {
			printf("monitor: exit %u\n", run->exit_reason);
			leave(1);
		}
		if (run->io.direction == KVM_EXIT_IO_OUT) break;
		*((uint8_t *)run + run->io.data_offset) = 0;
	}
	const uint64_t *times = (const void *)(ram + TIMES_AT);
	for (unsigned i = 0; i < NR_OPERATIONS; i++)
		printf("bench %s %lu\n", operations[i].name,
		       (times[2 * i + 1] - times[2 * i]) / count);
}

int main(int argc, char **argv) {
	if (argc == 7 && !strcmp(argv[1], "linux")) boot(argv + 2);
	if (argc != 3 || strcmp(argv[1], "bench")) {
		printf("usage: %s linux KERNEL INITRD MIB CPUS COMMAND-LINE | bench COUNT\n",
		       argv[0]);
		return 2;
	}
	bench((uint32_t)strtoul(argv[2], NULL, 0));
	leave(0);
}
