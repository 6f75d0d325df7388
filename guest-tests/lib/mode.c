/* Runs code in another processor mode: prepares the state, mode_switch.S goes there and back. */
#include "guest-tests/lib/mode.h"
#include "guest-tests/lib/trap.h"

struct mode_switch {
	u32 cr0, cr3, cr4;
	u32 kind;
	struct __packed {
		u16 limit;
		u32 base;
	} idt;
	u16 pad;
	u32 saved_cr0, saved_cr3, saved_cr4, saved_efer;
	u64 saved_rsp;
};

_Static_assert(offsetof(struct mode_switch, idt) == 16, "mode_switch.S");
_Static_assert(offsetof(struct mode_switch, saved_cr0) == 24, "mode_switch.S");
_Static_assert(offsetof(struct mode_switch, saved_rsp) == 40, "mode_switch.S");

#define KIND_32		   0
#define KIND_16		   1
#define KIND_REAL	   2
#define KIND_COMPATIBILITY 3

void mode_switch(struct mode_switch *state);
extern const char low16[], low16_end[];

/* 4 MiB pages: two-level paging as it is without PAE (SDM 3A 4.3). */
static u32 legacy_directory[1024] __aligned(4096);
/* PAE: four directory entries, each a directory of 2 MiB pages (SDM 3A 4.4). */
static u64 pae_pointers[4] __aligned(4096);
static u64 pae_directories[4][512] __aligned(4096);

static void build_tables(void) {
	static bool done;

	if (done) return;
	done = true;
	for (u32 i = 0; i < 1024; i++) legacy_directory[i] = i << 22 | 0x87;
	for (u64 i = 0; i < 4; i++) {
		pae_pointers[i] = (u64)pae_directories[i] | 1;
		for (u64 k = 0; k < 512; k++) pae_directories[i][k] = (i * 512 + k) << 21 | 0x87;
	}
}

u32 *mode_directory(void) {
	build_tables();
	return legacy_directory;
}

u64 *mode_pae_directory(unsigned gib) {
	build_tables();
	return pae_directories[gib & 3];
}

void mode_real_vector(u8 vector, u16 offset) {
	/* In assembly: a compiler takes what is at address 0 for a null pointer's object. */
	__asm__ volatile("movl %1, (%0)" : : "r"(4ul * vector), "r"((u32)offset) : "memory");
}

void mode_run(enum mode mode, const struct mode_tables *tables, const void *code, size_t size) {
	static struct mode_switch state;
	const u32 sse = X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;

	build_tables();
	memcpy((void *)LOW_BASE, code, size);
	memcpy((void *)(LOW_END - 0x200ul), low16, (size_t)(low16_end - low16));
	memset(&state, 0, sizeof(state));
	state.cr0 = (u32)(read_cr0() & ~(X86_CR0_PG | X86_CR0_WP));
	state.cr4 = (u32)read_cr4() & sse;
	state.kind = KIND_32;
	if (mode == MODE_REAL) {
		state.kind = KIND_REAL;
		state.idt.limit = 0x3ff;
	} else if (mode == MODE_PROTECTED16) {
		state.kind = KIND_16;
	} else if (mode == MODE_COMPATIBILITY) {
		state.kind = KIND_COMPATIBILITY;
	} else if (mode == MODE_PAGING32) {
		state.cr0 |= (u32)X86_CR0_PG;
		state.cr4 |= X86_CR4_PSE;
		state.cr3 = (u32)(u64)legacy_directory;
	} else if (mode == MODE_PAGING32_PAE) {
		state.cr0 |= (u32)X86_CR0_PG;
		state.cr4 |= X86_CR4_PAE;
		state.cr3 = (u32)(u64)pae_pointers;
	}
	if (tables) {
		state.idt.base = tables->idt_base;
		state.idt.limit = tables->idt_limit;
	}
	cpu_cli();
	mode_switch(&state);
	wrmsr(X86_MSR_GS_BASE, (u64)&cpus[0]);
	trap_load_idt();
}
