/* The checks of a guest test, their count, and the end of the machine. */
#include "guest-tests/lib/guest.h"

#define DEBUG_EXIT_PORT	 0xf4
#define PM1A_CONTROL	 0x604
#define PM1A_SLEEP(type) ((u16)(0x2000 | (type) << 10)) /* SLP_EN and SLP_TYP */
#define S5_ROOST	 5
#define S5_QEMU		 0
#define BOCHS_PORT	 0x8900 /* ends Bochs when it reads "Shutdown" */
#define COM1_LSR	 0x3fd
#define LSR_SENT	 0x40
#define SENT_ROUNDS	 100000000u

static u32 passed, failed, skipped;

static bool count(const char *name, bool good) {
	if (good) {
		passed++;
		print("ok %s\n", name);
	} else {
		failed++;
		print("not ok %s", name);
	}
	return good;
}

bool check(const char *name, bool good) {
	if (!count(name, good)) print(": expected true got false\n");
	return good;
}

bool check_eq(const char *name, u64 got, u64 expected) {
	if (!count(name, got == expected)) print(": expected 0x%lx got 0x%lx\n", expected, got);
	return got == expected;
}

bool check_ne(const char *name, u64 got, u64 unexpected) {
	if (!count(name, got != unexpected)) print(": expected anything but 0x%lx\n", unexpected);
	return got != unexpected;
}

bool check_range(const char *name, u64 got, u64 lowest, u64 highest) {
	bool good = got >= lowest && got <= highest;

	if (!count(name, good)) print(": expected %lu to %lu got %lu\n", lowest, highest, got);
	return good;
}

void skip(const char *name, const char *why) {
	skipped++;
	print("skip %s: %s\n", name, why);
}

void test_end(void) {
	cpu_cli();
	print("RESULT %s: %u passed, %u failed", test_name, passed, failed);
	if (skipped) print(", %u skipped", skipped);
	print("\n");
	outl(DEBUG_EXIT_PORT, failed);
	outw(PM1A_CONTROL, PM1A_SLEEP(S5_ROOST));
	outw(PM1A_CONTROL, PM1A_SLEEP(S5_QEMU));
	/* Bochs sends at the line's speed. */
	for (unsigned i = 0; i < SENT_ROUNDS && !(inb(COM1_LSR) & LSR_SENT); i++) cpu_pause();
	for (const char *c = "Shutdown"; *c; c++) outb(BOCHS_PORT, (u8)*c);
	for (;;) __asm__ volatile("cli; hlt");
}
