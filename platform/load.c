/*
 * Starts the preparation of a guest: chooses the loader by the image's bytes, writes what every
 * guest gets (ACPI tables, BIOS data area), and applies the initial state to a vCPU.
 */
#include "platform/load.h"

#include "kernel/vm.h"
#include "lib/error.h"
#include "lib/printf.h"
#include "mm/gmem.h"
#include "platform/acpi_tables.h"
#include "platform/layout.h"
#include "platform/load_linux.h"
#include "platform/load_multiboot.h"

/* Compiled platform/dsdt.asl, from platform/dsdt.S. */
extern const u8 dsdt_aml[], dsdt_aml_end[];

#define BDA_EBDA_SEGMENT  0x40e /* word: EBDA's address >> 4 */
#define BDA_BASE_MEMORY	  0x413 /* word: KiB of memory below the EBDA */
#define SEG_TYPE_LDT	  0x2
#define SEG_TYPE_TSS_BUSY 0xb
#define CR0_PE_ET	  0x11
#define RFLAGS_FIXED	  0x2

/* Load calls come one at a time, from the boot processor, and stacks are small. */
static u8 acpi_image[ACPI_TABLES_MAX];

int load_fail(struct load_error *err, int error, const char *fmt, ...) {
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return error;
}

int load_write(const struct load_target *to, gpa_t gpa, const void *from, u64 size) {
	if (size && gmem_write(to->vm->gmem, gpa, from, size))
		return load_fail(to->err, E_RANGE, "%lu bytes of guest memory at %#lx are missing",
				 size, gpa);
	return 0;
}

int load_zero(const struct load_target *to, gpa_t gpa, u64 size) {
	if (size && gmem_fill(to->vm->gmem, gpa, 0, size))
		return load_fail(to->err, E_RANGE, "%lu bytes of guest memory at %#lx are missing",
				 size, gpa);
	return 0;
}

u64 load_string_length(const char *text) {
	u64 length = 0;

	if (!text)
		return 0;
	while (length < LOAD_MAX_STRING && text[length])
		length++;
	return length;
}

void load_flat_state(struct boot_state *state, u16 cs, u16 ds) {
	const u16 code = 0xb | SEG_ATTR_S | SEG_ATTR_P | SEG_ATTR_DB | SEG_ATTR_G;
	const u16 data = 0x3 | SEG_ATTR_S | SEG_ATTR_P | SEG_ATTR_DB | SEG_ATTR_G;

	*state = (struct boot_state){.rflags = RFLAGS_FIXED, .cr0 = CR0_PE_ET};
	for (u32 i = SEG_ES; i <= SEG_GS; i++)
		state->seg[i] = (struct segment){.limit = ~0u, .selector = ds, .attr = data};
	state->seg[SEG_CS] = (struct segment){.limit = ~0u, .selector = cs, .attr = code};
	/* Both back ends want a usable TR (SDM 3C 26.3.1.2); no task switch ever uses it. */
	state->seg[SEG_TR] =
		(struct segment){.limit = 0x67, .attr = SEG_TYPE_TSS_BUSY | SEG_ATTR_P};
	state->seg[SEG_LDTR] = (struct segment){.limit = 0xffff, .attr = SEG_TYPE_LDT | SEG_ATTR_P};
}

void boot_state_apply(struct vcpu *vcpu, const struct boot_state *state) {
	for (u32 i = 0; i < NR_GPRS; i++)
		vcpu->gpr[i] = state->gpr[i];
	vcpu->rip = state->rip;
	vcpu->rflags = state->rflags;
	/* EFER before CR0: paging in 64-bit mode begins with both. */
	vcpu_set_reg(vcpu, VREG_EFER, state->efer);
	vcpu_set_reg(vcpu, VREG_CR4, state->cr4);
	vcpu_set_reg(vcpu, VREG_CR3, state->cr3);
	vcpu_set_reg(vcpu, VREG_CR0, state->cr0);
	for (u32 i = 0; i < NR_SEGS; i++)
		vcpu_set_segment(vcpu, (enum seg)i, &state->seg[i]);
	vcpu_set_reg(vcpu, VREG_GDTR_BASE, state->gdtr.base);
	vcpu_set_reg(vcpu, VREG_GDTR_LIMIT, state->gdtr.limit);
	vcpu_set_reg(vcpu, VREG_IDTR_BASE, state->idtr.base);
	vcpu_set_reg(vcpu, VREG_IDTR_LIMIT, state->idtr.limit);
}

/* What a BIOS would have left: Linux and others look here for the end of conventional memory. */
static int write_bios_data(const struct load_target *to) {
	u16 ebda_segment = LAYOUT_EBDA >> 4, base_kib = LAYOUT_EBDA >> 10;
	int rc = load_write(to, BDA_EBDA_SEGMENT, &ebda_segment, sizeof(ebda_segment));

	return rc ? rc : load_write(to, BDA_BASE_MEMORY, &base_kib, sizeof(base_kib));
}

static int write_acpi(const struct load_target *to) {
	const struct acpi_params params = {LAYOUT_ACPI, to->vm->nr_vcpus, dsdt_aml,
					   (u32)(dsdt_aml_end - dsdt_aml)};
	int size = acpi_tables_build(&params, acpi_image, sizeof(acpi_image));

	if (size < 0)
		return load_fail(to->err, size, "ACPI tables for %u vCPUs cannot be built",
				 to->vm->nr_vcpus);
	return load_write(to, LAYOUT_ACPI, acpi_image, (u64)size);
}

static int check_spec(const struct load_target *to) {
	const struct load_spec *spec = to->spec;

	if (to->memory < LAYOUT_MIN_MEMORY || to->memory > LAYOUT_MAX_MEMORY ||
	    to->memory % PAGE_SIZE)
		return load_fail(to->err, E_INVAL,
				 "memory of %lu bytes: expected whole 4 KiB pages, at least 2 MiB",
				 to->memory);
	if (!spec->kernel.data || !spec->kernel.size)
		return load_fail(to->err, E_FORMAT, "kernel '%s' is empty",
				 spec->kernel.name ? spec->kernel.name : "");
	if (spec->nr_modules > LOAD_MAX_MODULES)
		return load_fail(to->err, E_RANGE, "%u modules: expected at most %u",
				 spec->nr_modules, LOAD_MAX_MODULES);
	return 0;
}

int load_guest(struct vm *vm, u64 memory, const struct load_spec *spec, struct boot_state *state,
	       struct load_error *err) {
	const struct load_target to = {vm, memory, layout_low_end(memory), spec, state, err};
	enum load_kind kind = spec->kind;
	int rc;

	err->text[0] = '\0';
	rc = check_spec(&to);
	if (!rc)
		rc = write_bios_data(&to);
	if (!rc)
		rc = write_acpi(&to);
	if (rc)
		return rc;

	if (kind == LOAD_LINUX || (kind == LOAD_AUTO && linux_detect(&spec->kernel)))
		return linux_load(&to);
	if (kind == LOAD_MULTIBOOT || (kind == LOAD_AUTO && multiboot_detect(&spec->kernel)))
		return multiboot_load(&to);
	return load_fail(err, E_NOSUPP,
			 "kernel '%s' is neither a Linux bzImage nor a multiboot image",
			 spec->kernel.name);
}
