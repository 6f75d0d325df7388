/*
 * Messages: formatted once, kept in a ring (16 KiB, the newest stay), written to the consoles. A
 * console that is added late is shown what the ring holds, so that nothing said before the serial
 * port was found is lost.
 */
#include "kernel/log.h"

#include "kernel/time.h"
#include "lib/error.h"
#include "lib/printf.h"
#include "lib/spinlock.h"
#include "lib/string.h"

#define RING_SIZE    16384u
#define MAX_CONSOLES 4

static char ring[RING_SIZE];
static u64 ring_head; /* bytes ever written */
static const struct console *consoles[MAX_CONSOLES];
static unsigned nr_consoles;
static enum log_level shown = LOG_INFO;
static struct spinlock lock;
static bool unlocked; /* a panic: who holds the lock may have been stopped */

void log_panic_mode(void) { unlocked = true; }

void log_set_level(enum log_level level) { shown = level; }

int log_add_console(const struct console *console) {
	spin_guard_if(!unlocked, &lock);
	if (nr_consoles == MAX_CONSOLES) return E_NOMEM;
	u64 next = ring_head % RING_SIZE;
	if (ring_head >= RING_SIZE) console->write(&ring[next], RING_SIZE - next);
	console->write(ring, next);
	consoles[nr_consoles++] = console;
	return 0;
}

void log_write(const char *text, size_t len) {
	spin_guard_if(!unlocked, &lock);
	for (size_t i = 0; i < len; i++) ring[ring_head++ % RING_SIZE] = text[i];
	for (unsigned i = 0; i < nr_consoles; i++) consoles[i]->write(text, len);
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
	spin_guard_if(!unlocked, &lock);
	if (limit->count >= limit->max) return false;
	limit->count++;
	return true;
}
