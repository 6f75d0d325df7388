/* What every guest gets (ACPI tables, BIOS data area), the choice of the loader, the first state.
 */
#include "platform/load.h"

#include "kernel/vm.h"
#include "lib/printf.h"
#include "mm/gmem.h"
#include "platform/layout.h"

/* Compiled platform/dsdt.asl, from platform/blobs.S. */
extern const u8 dsdt_aml[], dsdt_aml_end[];

#define BDA_EBDA_SEGMENT  0x40e /* word: EBDA's address >> 4 */
#define BDA_BASE_MEMORY	  0x413 /* word: KiB of memory below the EBDA */
#define DATA_DESCRIPTOR	  0x00cf93000000ffff
#define SEG_TYPE_LDT	  0x2
#define SEG_TYPE_TSS_BUSY 0xb

int load_fail(const struct load_target *to, int error, const char *fmt, ...) {
	const char *name = to->spec->kernel.name;
	char *text = to->err->text;
	size_t size = sizeof(to->err->text);
	u64 prefix = (u64)snprintf(text, size, "kernel '%s': ", name ? name : "");
	va_list ap;

	prefix = min_u64(prefix, size - 1);
	va_start(ap, fmt);
	vsnprintf(text + prefix, size - prefix, fmt, ap);
	va_end(ap);
	return error;
}

int load_check_room(const struct load_target *to, const char *what, const struct blob *blob,
		    u64 room) {
	if (blob->size <= room) return 0;
	return load_fail(to, E_NOMEM, "%s '%s' of %lu KiB does not fit: %lu KiB are missing", what,
			 blob->name, load_kib(blob->size), load_kib(blob->size - room));
}

int load_write(const struct load_target *to, gpa_t gpa, const void *from, u64 size) {
	struct gmem *gm = to->vm->gmem;

	if (!size || to->spec->check ||
	    !(from ? gmem_write(gm, gpa, from, size) : gmem_fill(gm, gpa, 0, size)))
		return 0;
	return load_fail(to, E_RANGE, "%lu bytes of guest memory at %#lx are missing", size, gpa);
}

/* A flat segment of 4 GiB from its descriptor (APM 2 4.7). */
static struct segment flat_segment(u16 selector, u64 descriptor) {
	u64 attr = (descriptor >> 40 & 0xff) | (descriptor >> 44 & 0xf00);

	return (struct segment){.limit = ~0u, .selector = selector, .attr = (u16)attr};
}

int load_flat_state(const struct load_target *to, gpa_t gdt, u64 code) {
	const u64 descriptors[] = {0, 0, code, DATA_DESCRIPTOR};
	struct segment data = flat_segment(LOAD_DS, DATA_DESCRIPTOR);
	/* Both back ends want a usable TR (SDM 3C 26.3.1.2); no task switch ever uses it. */
	struct segment tr = {.limit = 0x67, .attr = SEG_TYPE_TSS_BUSY | SEG_ATTR_P};
	struct segment ldtr = {.limit = 0xffff, .attr = SEG_TYPE_LDT | SEG_ATTR_P};

	_Static_assert(sizeof(descriptors) == LOAD_GDT_SIZE, "GDT");
	*to->state = (struct boot_state){
		.rflags = X86_RFLAGS_FIXED,
		.seg = {data, flat_segment(LOAD_CS, code), data, data, data, data, ldtr, tr},
		.cr0 = X86_CR0_PE | X86_CR0_ET,
		.gdt_base = gdt,
		.gdt_limit = sizeof(descriptors) - 1,
	};
	return load_write(to, gdt, descriptors, sizeof(descriptors));
}

void boot_state_apply(struct vcpu *vcpu, const struct boot_state *state) {
	memcpy(vcpu->gpr, state->gpr, sizeof(vcpu->gpr));
	vcpu->rip = state->rip;
	vcpu->rflags = state->rflags;
	/* EFER before CR0: paging in 64-bit mode begins with both. */
	vcpu_set_reg(vcpu, VREG_EFER, state->efer);
	vcpu_set_reg(vcpu, VREG_CR4, state->cr4);
	vcpu_set_reg(vcpu, VREG_CR3, state->cr3);
	vcpu_set_reg(vcpu, VREG_CR0, state->cr0);
	for (u32 i = 0; i < NR_SEGS; i++) vcpu_set_segment(vcpu, (enum seg)i, &state->seg[i]);
	vcpu_set_reg(vcpu, VREG_GDTR_BASE, state->gdt_base);
	vcpu_set_reg(vcpu, VREG_GDTR_LIMIT, state->gdt_limit);
	vcpu_set_reg(vcpu, VREG_IDTR_BASE, 0);
	vcpu_set_reg(vcpu, VREG_IDTR_LIMIT, 0);
}

/* What a BIOS would have left: Linux and others look here for the end of conventional memory. */
static int write_bios_data(const struct load_target *to) {
	u16 ebda_segment = LAYOUT_EBDA >> 4, base_kib = LAYOUT_EBDA >> 10;

	return load_write(to, BDA_EBDA_SEGMENT, &ebda_segment, sizeof(ebda_segment))
		       ?: load_write(to, BDA_BASE_MEMORY, &base_kib, sizeof(base_kib));
}

static int write_acpi(const struct load_target *to) {
	const void *tables;
	u32 size = acpi_tables_build(to->vm->nr_vcpus, &tables);

	return load_write(to, LAYOUT_ACPI, tables, size)
		       ?: load_write(to, LAYOUT_ACPI + size, dsdt_aml,
				     (u64)(dsdt_aml_end - dsdt_aml));
}

int load_guest(struct vm *vm, u64 memory, const struct load_spec *spec, struct boot_state *state,
	       struct load_error *err) {
	static const struct {
		enum load_kind kind;
		bool (*detect)(const struct blob *kernel);
		int (*load)(const struct load_target *to);
	} loaders[] = {{LOAD_LINUX, linux_detect, linux_load},
		       {LOAD_MULTIBOOT, multiboot_detect, multiboot_load}};
	const struct load_target to = {vm, memory, layout_low_end(memory), spec, state, err};

	err->text[0] = '\0';
	int rc = write_bios_data(&to) ?: write_acpi(&to);
	if (rc) return rc;
	for (u32 i = 0; i < ARRAY_SIZE(loaders); i++)
		if (spec->kind == loaders[i].kind ||
		    (spec->kind == LOAD_AUTO && loaders[i].detect(&spec->kernel)))
			return loaders[i].load(&to);
	return load_fail(&to, E_NOSUPP, "neither a Linux bzImage nor a multiboot image");
}
