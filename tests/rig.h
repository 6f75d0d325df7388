/* A virtual PC for the tests of its devices: a fake VM with a real platform, driven by ports. */
#pragma once

#include "tests/fakes.h"
#include "tests/random.h"

#include "platform/platform.h"

static u8 rig_sent[4096]; /* what the UART has sent */
static u32 rig_sent_count;

static void rig_tx(void *ctx, u8 byte) {
	(void)ctx;
	rig_sent[rig_sent_count++ % sizeof(rig_sent)] = byte;
}

static inline struct vm *rig_create(u32 nr_vcpus) {
	struct platform_options options = {
		.memory = MiB(512),
		.phys_bits = 40,
		.debug_exit = true,
		.console = {.tx = rig_tx},
	};
	struct vm *vm;

	fake_reset();
	rig_sent_count = 0;
	vm = fake_vm_create(nr_vcpus, 0);
	assert_int_equal(platform_create(vm, &options), 0);
	return vm;
}

static inline void rig_destroy(struct vm *vm) {
	platform_destroy(vm);
	assert_int_equal(fake_timers_armed(), 0);
	fake_vm_destroy(vm);
}

static inline u32 in(struct vm *vm, u16 port, unsigned size) { return bus_io_read(vm, port, size); }

static inline void out(struct vm *vm, u16 port, unsigned size, u32 value) {
	bus_io_write(vm, port, size, value);
}

static inline u8 byte_in(struct vm *vm, u16 port) { return (u8)in(vm, port, 1); }

static inline void byte_out(struct vm *vm, u16 port, u8 value) { out(vm, port, 1, value); }

/* Accesses of all sizes, with values that software has no business to write, to some ports. */
static inline void rig_storm(struct vm *vm, u16 first, u16 last, u32 rounds) {
	for (u32 i = 0; i < rounds; i++) {
		u64 dice = rig_random();
		u16 port = (u16)(first + (dice >> 40) % (last - first + 1u));
		unsigned size = 1u << (dice >> 33) % 3;

		if (dice & BIT(32))
			out(vm, port, size, (u32)dice);
		else
			in(vm, port, size);
		fake_advance(dice >> 20 & 0xfffff);
	}
}
