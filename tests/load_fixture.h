/* What the tests of the guest loaders share: an image to corrupt, and a guest to look into. */
#pragma once

#include "tests/fakes.h"

#include "platform/layout.h"
#include "platform/load.h"

struct load_fixture {
	struct vm *vm;
	u64 memory;
	u8 *ram; /* guest memory from gpa 0 */
	struct load_spec spec;
	struct boot_state state;
	struct load_error err;
};

/* A VM of nr_vcpus and memory bytes, all below the PCI hole. */
void load_fixture_open(struct load_fixture *fixture, u32 nr_vcpus, u64 memory);
void load_fixture_close(struct load_fixture *fixture);

/*
 * load_guest() on the image, of which it sees a copy of exactly `size` bytes, so that the sanitizer
 * notices a read past its end. Guest memory is not cleared before.
 */
int load_fixture_run(struct load_fixture *fixture, const u8 *image, u64 size);

/* Fails the test unless loading ends with this error and a sentence that contains `text`. */
void load_fixture_expect(struct load_fixture *fixture, const u8 *image, u64 size, int error,
			 const char *text);

u16 guest_u16(const struct load_fixture *fixture, gpa_t gpa);
u32 guest_u32(const struct load_fixture *fixture, gpa_t gpa);
u64 guest_u64(const struct load_fixture *fixture, gpa_t gpa);

/* Numbers for fuzzing, the same in each run (xorshift). */
u32 fuzz_next(u64 *seed);
