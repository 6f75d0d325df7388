/* First C code on the boot CPU: what the loader said, descriptor tables, then the test. */
#include "guest-tests/lib/guest.h"
#include "guest-tests/lib/trap.h"

#define MB_LOADER_MAGIC 0x2badb002u
#define MB_HAS_MEMORY	BIT(0)
#define MB_HAS_CMDLINE	BIT(2)
#define MB_HAS_MAP	BIT(6)

struct multiboot_info {
	u32 flags;
	u32 mem_lower, mem_upper; /* KiB */
	u32 boot_device;
	u32 cmdline;
	u32 mods_count, mods_addr;
	u32 syms[4];
	u32 mmap_length, mmap_addr;
};

struct __packed multiboot_map_entry {
	u32 size; /* of what follows */
	u64 base, length;
	u32 type;
};

void guest_start(u32 magic, const struct multiboot_info *info);

static char cmdline[512];
static struct ram_range ranges[32];
static u32 nr_ranges;
static u64 top;

struct cpu cpus[MAX_CPUS];
extern char boot_stack_top[];

static void read_map(const struct multiboot_info *info) {
	u32 at = 0;

	while (at + sizeof(struct multiboot_map_entry) <= info->mmap_length &&
	       nr_ranges < ARRAY_SIZE(ranges)) {
		struct multiboot_map_entry entry;

		memcpy(&entry, (const void *)(u64)(info->mmap_addr + at), sizeof(entry));
		ranges[nr_ranges++] = (struct ram_range){entry.base, entry.length, entry.type};
		at += entry.size + 4;
	}
}

static void read_loader(u32 magic, const struct multiboot_info *info) {
	if (magic != MB_LOADER_MAGIC) return;
	if (info->flags & MB_HAS_MEMORY) top = MiB(1) + KiB(info->mem_upper);
	if (info->flags & MB_HAS_CMDLINE) {
		const char *text = (const char *)(u64)info->cmdline;

		for (size_t i = 0; i < sizeof(cmdline) - 1 && text[i]; i++) cmdline[i] = text[i];
	}
	if (info->flags & MB_HAS_MAP) read_map(info);
}

u64 ram_top(void) { return top; }

u32 ram_ranges(const struct ram_range **list) {
	*list = ranges;
	return nr_ranges;
}

/* Where the word starts in the command line, behind it; NULL when it is not there. */
static const char *find_word(const char *word) {
	for (const char *at = cmdline; *at; at++) {
		size_t n = 0;

		if (at != cmdline && at[-1] != ' ') continue;
		while (word[n] && at[n] == word[n]) n++;
		if (!word[n]) return at + n;
	}
	return NULL;
}

bool cmdline_has(const char *word) {
	const char *end = find_word(word);

	return end && (*end == 0 || *end == ' ' || *end == '=');
}

static unsigned digit_value(char c) {
	if (c >= '0' && c <= '9') return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f') return (unsigned)(c - 'a') + 10;
	return 99;
}

u64 cmdline_number(const char *key, u64 otherwise) {
	const char *at = find_word(key);
	unsigned base = 10;
	u64 value = 0;

	if (!at || *at != '=') return otherwise;
	at++;
	if (at[0] == '0' && at[1] == 'x') {
		base = 16;
		at += 2;
	}
	for (; digit_value(*at) < base; at++) value = value * base + digit_value(*at);
	return value;
}

bool cpu_is_amd(void) {
	u32 r[4];

	cpuid(0, 0, r);
	return r[1] == 0x68747541; /* "Auth"enticAMD */
}

bool on_bare_tcg(void) {
	u32 r[4];

	if (!cpuid_bit(1, 2, 31)) return false;
	cpuid(0x40000000, 0, r);
	return r[1] == 0x54474354; /* "TCGT"CGTCGTCG */
}

bool under_roost(void) { return cpuid_bit(1, 2, 31) && !on_bare_tcg(); }

void guest_start(u32 magic, const struct multiboot_info *info) {
	read_loader(magic, info);
	cpus[0].stack_top = (u64)boot_stack_top;
	trap_init_cpu(&cpus[0]);
	outb(0x21, 0xff); /* both PICs masked: a test opens what it needs */
	outb(0xa1, 0xff);
	test_main();
	test_end();
}

void *memset(void *to, int value, size_t size) {
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t size) {
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
	return to;
}

/* Compilers call it for structures that might be the same one. */
void *memmove(void *to, const void *from, size_t size) {
	u8 *end = (u8 *)to + size - 1;
	const u8 *last = (const u8 *)from + size - 1;

	if (to <= from) return memcpy(to, from, size);
	__asm__ volatile("std; rep movsb; cld" : "+D"(end), "+S"(last), "+c"(size) : : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t size) {
	const u8 *x = a, *y = b;

	for (size_t i = 0; i < size; i++)
		if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
	return 0;
}
