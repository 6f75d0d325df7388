/*
 * Consoles, input, and who has them: the shell or a guest. Serial line and screen are shared by
 * Roost's messages, the attached guest and the shell: messages are whole lines, so the worst that
 * can happen is a message between two lines of a guest.
 */
#include "kernel/host_io.h"

#include "boot/bootinfo.h"
#include "drivers/acpi.h"
#include "drivers/ioapic.h"
#include "drivers/ps2.h"
#include "drivers/screen.h"
#include "drivers/serial.h"
#include "kernel/cmdline.h"
#include "kernel/cpu.h"
#include "kernel/guests.h"
#include "kernel/log.h"
#include "kernel/sched.h"
#include "kernel/shell.h"
#include "kernel/traps.h"
#include "kernel/vm.h"
#include "lib/printf.h"
#include "lib/x86.h"
#include "mm/frame.h"

#define COM1	     0x3f8
#define COM1_IRQ     4
#define COM2	     0x2f8
#define COM2_IRQ     3
#define KEYBOARD_IRQ 1
#define VEC_SERIAL   VEC_DEVICE0
#define VEC_KEYBOARD (VEC_DEVICE0 + 1)
#define INPUT_SIZE   4096u
#define DETACH	     0x1d /* Ctrl-] */
#define SHOW_MOST    128u
#define DRAW_NS	     16000000u
#define TICK_NS	     1000000u /* 16 bytes each time: above the speed of 115200 baud */

static struct vm *_Atomic attached;
static _Atomic u32 shell_on; /* id of the CPU to which the shell and its state belong */
static u16 port;

/* Typed faster than it is worked on. */
static u8 input[INPUT_SIZE];
static u32 input_head, input_tail; /* modulo 2^32 */
static struct spinlock input_lock;
static bool use_keyboard;
static bool polls;		/* there is input without an interrupt */
static struct timer draw_timer; /* for what is to be seen on the screen */
static struct timer tick_timer; /* for all else that is to be looked at soon */

static void write_screen(const char *text, size_t len) {
	screen_write(text, len);
	if (draw_timer.fn) timer_soon(&draw_timer, DRAW_NS);
}

static void on_draw(struct timer *timer __unused) { screen_refresh(); }

void host_consoles_early(const struct acpi_info *acpi, const struct options *options) {
	u32 baud = options->console_baud;

	port = options->console_port;
	if (!options->console_serial) return;
	if (!port && acpi->spcr_port) {
		port = acpi->spcr_port;
		baud = acpi->spcr_baud;
	}
	if (!port) port = COM1;
	if (serial_init(port, baud) == 0)
		log_add_console(serial_write);
	else
		log_warn("no serial port answers at %x", port);
}

void host_consoles_late(const struct boot_info *boot, const struct acpi_info *acpi,
			const struct options *options) {
	use_keyboard = options->console_screen && acpi->has_8042;
	if (!options->console_screen) return;
	if (!fb_init(&boot->fb) || !vga_init(boot, acpi))
		log_add_console(write_screen);
	else if (boot->fb.type != FB_NONE)
		log_warn("the screen's mode, %ux%u with %u bits, cannot be used", boot->fb.width,
			 boot->fb.height, boot->fb.bpp);
}

/* ---- the guests' consoles ---- */

int console_create(struct vm *vm) {
	vm->console.scrollback = page_alloc(CONSOLE_SCROLLBACK);
	return vm->console.scrollback ? 0 : E_NOMEM;
}

void console_destroy(struct vm *vm) {
	page_free(vm->console.scrollback, CONSOLE_SCROLLBACK);
	vm->console.scrollback = NULL;
}

void console_forget(struct vm *vm) {
	if (vm == atomic_load(&attached)) console_attach(NULL);
}

/* Shows what has not been shown yet. c->lock is held. */
static void catch_up(struct vm_console *c) {
	while (c->shown < c->written) {
		u64 begin = c->shown % CONSOLE_SCROLLBACK;
		u64 len = min_u64(c->written - c->shown, CONSOLE_SCROLLBACK - begin);

		log_show(SHOW_GUEST, &c->scrollback[begin], len);
		c->shown += len;
	}
}

/* The oldest line that is whole, and all behind it. */
static void show_scrollback(struct vm_console *c) {
	u64 at = c->written > CONSOLE_SCROLLBACK ? c->written - CONSOLE_SCROLLBACK : 0;

	while (at && at < c->written && c->scrollback[at++ % CONSOLE_SCROLLBACK] != '\n') continue;
	c->shown = at;
	catch_up(c);
}

void console_flush(struct vm *vm) {
	spin_guard(&vm->console.lock);
	if (vm == atomic_load(&attached)) catch_up(&vm->console);
}

void console_attach(struct vm *vm) {
	struct vm *old = atomic_load(&attached);

	if (old) {
		spin_guard(&old->console.lock);
		catch_up(&old->console);
		atomic_store(&attached, NULL);
	}
	if (vm) {
		/* What it writes meanwhile comes behind. */
		spin_guard(&vm->console.lock);
		show_scrollback(&vm->console);
		vm->console.line.len = 0;
		atomic_store(&attached, vm);
	}
	host_io_wake();
}

/* Moves what waits to the UART as far as that has room. */
static void feed(struct vm *vm) {
	struct vm_console *c = &vm->console;

	spin_guard(&c->lock);
	while (c->head != c->tail && guest_input(vm, c->input[c->tail % CONSOLE_INPUT])) c->tail++;
}

u32 console_send(struct vm *vm, const char *text, size_t len) {
	struct vm_console *c = &vm->console;
	u32 n = 0;

	spin_lock(&c->lock);
	for (; n < len && c->head - c->tail < CONSOLE_INPUT; n++)
		c->input[c->head++ % CONSOLE_INPUT] = (u8)text[n];
	spin_unlock(&c->lock);
	feed(vm);
	return n;
}

static bool console_input(u8 byte) {
	struct vm *vm = atomic_load(&attached);

	if (!vm) return false;
	/* Without room the guest does not read, and the byte is lost, as on a real line. */
	if (byte == DETACH)
		console_attach(NULL);
	else
		console_send(vm, (const char *)&byte, 1);
	return true;
}

void console_room(void *ctx) {
	const struct vm *vm = ctx;

	if (vm->console.head != vm->console.tail) feed(ctx);
}

/* True when the line is to be shown now: it has ended, or is full. */
static bool gather(struct vm_line *line, u8 byte) {
	if (byte != '\n' && byte != '\r' && line->len < sizeof(line->at))
		line->at[line->len++] = (char)byte;
	return byte == '\n' || line->len == sizeof(line->at);
}

void console_log(void *ctx, u8 byte) {
	struct vm *vm = ctx;
	struct vm_line *line = &vm->console.log;

	spin_guard(&vm->console.lock);
	if (!gather(line, byte)) return;
	log_raw("[%s log] %.*s\n", vm->name, (int)line->len, line->at);
	line->len = 0;
}

/*
 * Of the attached guest: by lines, pieces of a long one, or what has come until a timer looks.
 * Consoles take some 50 instructions a byte when they are given many, and 600 for a single one.
 */
static void show_later(struct vm_console *c, u8 byte) {
	if (byte == '\n' || c->written - c->shown >= SHOW_MOST)
		catch_up(c);
	else
		timer_soon(&tick_timer, TICK_NS);
}

void console_output(void *ctx, u8 byte) {
	struct vm *vm = ctx;
	struct vm_console *c = &vm->console;
	char text[VM_NAME_MAX + sizeof(c->line.at) + 4];

	/* Two vCPUs may write to the port at once. */
	spin_guard(&c->lock);
	c->scrollback[c->written++ % CONSOLE_SCROLLBACK] = (char)byte;
	if (vm == atomic_load(&attached)) {
		show_later(c, byte);
		return;
	}
	if (!gather(&c->line, byte)) return;
	int len =
		snprintf(text, sizeof(text), "[%s] %.*s\n", vm->name, (int)c->line.len, c->line.at);
	log_show(SHOW_MESSAGE, text, (size_t)len);
	c->line.len = 0;
}

/* ---- input ---- */

/* Bytes wait here for the shell, and behind those also what belongs to a guest. */
static void on_byte(u8 byte) {
	if (input_head == input_tail && console_input(byte)) return;
	spin_lock(&input_lock);
	/* Full: nobody reads; what comes now is lost, as on a real line. */
	if (input_head - input_tail < INPUT_SIZE) input[input_head++ % INPUT_SIZE] = byte;
	spin_unlock(&input_lock);
	host_io_wake();
}

void host_io_wake(void) { sched_look(cpus[atomic_load(&shell_on)]); }

static bool next_byte(u8 *byte) {
	spin_guard(&input_lock);
	if (input_head == input_tail) return false;
	*byte = input[input_tail++ % INPUT_SIZE];
	return true;
}

void host_io_run(void) {
	u32 me = this_cpu()->id;
	u8 byte;

	if (atomic_load_explicit(&shell_on, memory_order_acquire) != me) return;
	shell_continue();
	while (shell_cpu() == me && !shell_waits() && (atomic_load(&attached) || !serial_busy()) &&
	       next_byte(&byte))
		if (!console_input(byte)) shell_input(byte);
	if (shell_cpu() != me) {
		atomic_store(&shell_on, shell_cpu());
		host_io_wake();
	} else if (shell_waits()) {
		timer_soon(&tick_timer, TICK_NS);
	} else if (!atomic_load(&attached)) {
		shell_prompt();
	}
}

static void on_serial(void) {
	if (serial_poll(on_byte)) timer_soon(&tick_timer, TICK_NS);
	/* It may be output that the shell waits for. */
	if (input_head != input_tail) host_io_wake();
}

static void on_keyboard(void) { ps2_poll(on_byte); }

static void on_tick(struct timer *timer) {
	struct vm *vm = atomic_load(&attached);

	on_serial();
	if (polls) {
		on_keyboard();
		timer_soon(timer, TICK_NS);
	}
	if (vm) console_flush(vm);
	if (shell_waits()) host_io_wake();
}

/* Input by interrupt; what came before it is taken now. False: there is none, poll. */
static bool route(const struct acpi_irq *irq, u8 vector, void (*fn)(void)) {
	irq_install(vector, fn);
	int err = ioapic_route(irq, vector, cpus[0]->apic_id);
	fn();
	return !err;
}

void host_io_init(const struct acpi_info *acpi) {
	u32 irq = port == COM1 ? COM1_IRQ : port == COM2 ? COM2_IRQ : 0;

	timer_init(&draw_timer, on_draw, cpus[0]->id);
	timer_init(&tick_timer, on_tick, cpus[0]->id);
	if (serial_present()) {
		polls = !irq || !route(&acpi->irq[irq], VEC_SERIAL, on_serial);
		if (!polls) serial_enable_irq();
	}
	if (use_keyboard && !ps2_init())
		polls |= !route(&acpi->irq[KEYBOARD_IRQ], VEC_KEYBOARD, on_keyboard);
	if (!polls) return;
	log_info("the console's input has no interrupt: polled");
	on_tick(&tick_timer);
}
