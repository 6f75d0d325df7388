/*
 * Messages: formatted once, kept in a ring (16 KiB, the newest stay), written to the consoles. A
 * console that is added late is shown what the ring holds, so that nothing said before the serial
 * port was found is lost.
 */
#include "kernel/log.h"

#include "kernel/host_io.h"
#include "kernel/time.h"
#include "lib/printf.h"
#include "lib/spinlock.h"

static char ring[LOG_SIZE];
static u64 ring_head; /* bytes ever written */
static log_console consoles[LOG_CONSOLES];
static unsigned nr_consoles;
static enum log_level shown = LOG_INFO;
static enum log_owner owner; /* of the last line */
static bool open;	     /* it has no end yet */
static struct spinlock lock;

void log_set_level(enum log_level level) { shown = level; }

/* A terminal needs CR before LF. */
static void write_lines(log_console write, const char *text, size_t len) {
	size_t start = 0;

	for (size_t i = 0; i < len; i++) {
		if (text[i] != '\n') continue;
		write(text + start, i - start);
		write("\r\n", 2);
		start = i + 1;
	}
	write(text + start, len - start);
}

void log_add_console(log_console write) {
	spin_guard_unless_panic(&lock);
	u64 next = ring_head % LOG_SIZE;
	if (ring_head >= LOG_SIZE) write_lines(write, &ring[next], LOG_SIZE - next);
	write_lines(write, ring, next);
	consoles[nr_consoles++] = write;
}

static void show(enum log_owner by, const char *text, size_t len) {
	bool cut = open && owner != by;

	if (!len) return;
	for (unsigned i = 0; i < nr_consoles; i++) {
		if (cut) consoles[i]("\r\n", 2);
		if (by == SHOW_GUEST)
			consoles[i](text, len);
		else
			write_lines(consoles[i], text, len);
	}
	/* The shell shows its prompt again. */
	if (cut && owner == SHOW_SHELL && !spin_panic) host_io_wake();
	owner = by;
	open = text[len - 1] != '\n';
}

void log_show(enum log_owner by, const char *text, size_t len) {
	spin_guard_unless_panic(&lock);
	show(by, text, len);
}

bool log_shell_line(void) {
	spin_guard(&lock);
	return open && owner == SHOW_SHELL;
}

static void log_write(const char *text, size_t len) {
	spin_guard_unless_panic(&lock);
	for (size_t i = 0; i < len; i++) ring[ring_head++ % LOG_SIZE] = text[i];
	show(SHOW_MESSAGE, text, len);
}

size_t log_read(u64 *at, char *to, size_t size) {
	spin_guard(&lock);
	size_t n = 0;

	if (ring_head > LOG_SIZE) *at = max_u64(*at, ring_head - LOG_SIZE);
	while (n < size && *at < ring_head) to[n++] = ring[(*at)++ % LOG_SIZE];
	return n;
}

void log_raw(const char *fmt, ...) {
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	int len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (len > 0) log_write(text, min_u64((u64)len, sizeof(text) - 1));
}

void log_msg(enum log_level level, const char *fmt, ...) {
	static const char *const prefix[] = {"error: ", "warning: ", "", "debug: "};
	char text[256];
	va_list ap;
	size_t len;
	int n;

	if (level > shown) return;
	len = (size_t)snprintf(text, sizeof(text), "[roost] %s", prefix[level]);
	va_start(ap, fmt);
	n = vsnprintf(text + len, sizeof(text) - 1 - len, fmt, ap);
	va_end(ap);
	if (n > 0) len = min_u64(len + (u64)n, sizeof(text) - 2);
	text[len++] = '\n';
	log_write(text, len);
}

bool log_allowed(struct log_limit *limit) {
	spin_guard_unless_panic(&lock);
	if (limit->count >= limit->max) return false;
	limit->count++;
	return true;
}
