/* Fixture of the loaders' tests; see load_fixture.h. */
#include "tests/load_fixture.h"

#include <stdlib.h>
#include <string.h>

/* In place of the compiled DSDT. */
__asm__(".pushsection .rodata\n"
	".globl dsdt_aml, dsdt_aml_end\n"
	"dsdt_aml: .ascii \"DSDT\"\n"
	"dsdt_aml_end:\n"
	".popsection");

void load_fixture_open(struct load_fixture *fixture, u32 nr_vcpus, u64 memory) {
	*fixture = (struct load_fixture){.memory = memory};
	fixture->vm = fake_vm_create(nr_vcpus, memory);
	fixture->ram = fake_ram(fixture->vm);
	fixture->spec.kernel.name = "image";
}

void load_fixture_close(struct load_fixture *fixture) { fake_vm_destroy(fixture->vm); }

int load_fixture_run(struct load_fixture *fixture, const u8 *image, u64 size) {
	u8 *copy = malloc(size ? size : 1);

	assert_non_null(copy);
	memcpy(copy, image, size);
	memset(&fixture->err, 'x', sizeof(fixture->err));
	fixture->spec.kernel.data = copy;
	fixture->spec.kernel.size = size;
	int rc = load_guest(fixture->vm, fixture->memory, &fixture->spec, &fixture->state,
			    &fixture->err);
	free(copy);
	/* A result and its sentence come together, and the sentence ends. */
	assert_non_null(memchr(fixture->err.text, 0, sizeof(fixture->err.text)));
	assert_int_equal(rc != 0, fixture->err.text[0] != '\0');
	return rc;
}

void load_fixture_expect(struct load_fixture *fixture, const u8 *image, u64 size, int error,
			 const char *text) {
	assert_int_equal(load_fixture_run(fixture, image, size), error);
	if (!strstr(fixture->err.text, text))
		fail_msg("'%s' does not say '%s'", fixture->err.text, text);
}

u16 guest_u16(const struct load_fixture *fixture, gpa_t gpa) {
	u16 value;

	assert_true(range_within(gpa, sizeof(value), fixture->memory));
	memcpy(&value, fixture->ram + gpa, sizeof(value));
	return value;
}

u32 guest_u32(const struct load_fixture *fixture, gpa_t gpa) {
	u32 value;

	assert_true(range_within(gpa, sizeof(value), fixture->memory));
	memcpy(&value, fixture->ram + gpa, sizeof(value));
	return value;
}

u64 guest_u64(const struct load_fixture *fixture, gpa_t gpa) {
	u64 value;

	assert_true(range_within(gpa, sizeof(value), fixture->memory));
	memcpy(&value, fixture->ram + gpa, sizeof(value));
	return value;
}

u32 fuzz_next(u64 *seed) {
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return (u32)(*seed >> 16);
}
