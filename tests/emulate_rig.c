/* The guest for tests of the emulator; see emulate_rig.h. */
#include "tests/emulate_rig.h"

#include <string.h>

#include "platform/bus.h"
#include "platform/fetch.h"

#define RAM_SIZE KiB(512)
#define PML4	 0x1000ul
#define PDPT	 0x2000ul
#define PD	 0x3000ul
#define PT_CODE	 0x4000ul
#define PT_DATA	 0x5000ul

struct vm *rig_vm;
struct vcpu *rig_vcpu;
u8 rig_device[2 * 4096];
struct rig_access rig_accesses[64];
unsigned rig_nr_accesses;
u32 rig_port_in, rig_port_out[16];
unsigned rig_nr_in, rig_nr_out, rig_port_size;
u16 rig_port;
void (*rig_gmem_hook)(void *at);
static struct fetch_cache fetch;

/* ---- the bus ---- */

/* Where a device access goes; beyond the device's two pages nothing answers. */
static u8 *device_byte(gpa_t gpa, unsigned size) {
	u64 offset = gpa - DEVICE_GPA;

	if (range_within(offset, size, 4096)) return rig_device + offset;
	if (offset >= SECOND && range_within(offset - SECOND, size, 4096))
		return rig_device + (offset - SECOND + 4096);
	return NULL;
}

static void note(gpa_t gpa, unsigned size, u64 value, bool write) {
	if (rig_nr_accesses < ARRAY_SIZE(rig_accesses))
		rig_accesses[rig_nr_accesses] = (struct rig_access){gpa, value, (u8)size, write};
	rig_nr_accesses++;
}

u64 bus_mmio_read(struct vcpu *vcpu, gpa_t gpa, unsigned size) {
	const u8 *at = device_byte(gpa, size);
	u64 value = ~0ul >> (64 - 8 * size);

	assert_ptr_equal(vcpu, rig_vcpu);
	if (at) memcpy(&value, at, size);
	note(gpa, size, value, false);
	return value;
}

void bus_mmio_write(struct vcpu *vcpu, gpa_t gpa, unsigned size, u64 value) {
	u8 *at = device_byte(gpa, size);

	assert_ptr_equal(vcpu, rig_vcpu);
	if (at) memcpy(at, &value, size);
	note(gpa, size, value, true);
}

u32 bus_io_read(struct vm *vm, u16 port, unsigned size) {
	(void)vm;
	rig_port = port;
	rig_port_size = size;
	rig_nr_in++;
	return rig_port_in++;
}

void bus_io_write(struct vm *vm, u16 port, unsigned size, u32 value) {
	(void)vm;
	rig_port = port;
	rig_port_size = size;
	if (rig_nr_out < ARRAY_SIZE(rig_port_out)) rig_port_out[rig_nr_out] = value;
	rig_nr_out++;
}

/* ---- guest memory, with a hook between two steps of the emulator ---- */

void *gmem_ptr_write(struct gmem *gm, gpa_t gpa, size_t len) {
	(void)gm;
	if (!range_within(gpa, len, RAM_SIZE) || (gpa & ~PAGE_MASK) + len > PAGE_SIZE) return NULL;
	if (rig_gmem_hook) rig_gmem_hook(fake_ram(rig_vm) + gpa);
	return fake_ram(rig_vm) + gpa;
}

const void *gmem_ptr(struct gmem *gm, gpa_t gpa, size_t len) {
	return gmem_ptr_write(gm, gpa, len);
}

/* ---- the guest ---- */

static u64 *table(gpa_t at) { return (u64 *)(void *)(fake_ram(rig_vm) + at); }

void rig_map(gva_t gva, u64 pte) {
	gpa_t pt = gva < 0x600000 ? PT_CODE : PT_DATA;

	table(PML4)[0] = PDPT | PTE_P | PTE_W | PTE_U;
	table(PDPT)[0] = PD | PTE_P | PTE_W | PTE_U;
	table(PD)[gva >> 21 & 511] = pt | PTE_P | PTE_W | PTE_U;
	table(pt)[gva >> 12 & 511] = pte;
}

static void map_two(gva_t gva, gpa_t gpa) {
	rig_map(gva, gpa | PTE_P | PTE_W | PTE_U);
	rig_map(gva + 4096, (gpa + SECOND) | PTE_P | PTE_W | PTE_U);
}

static void set_segments(u16 code_attr, u16 data_attr, u32 limit) {
	for (int seg = SEG_ES; seg <= SEG_GS; seg++) {
		struct segment s = {.limit = limit, .selector = 8, .attr = data_attr};

		if (seg == SEG_CS) s.attr = code_attr;
		vcpu_set_segment(rig_vcpu, (enum seg)seg, &s);
	}
}

int rig_setup(void **state) {
	(void)state;
	fake_reset();
	rig_vm = fake_vm_create(1, RAM_SIZE);
	rig_vcpu = rig_vm->vcpus[0];
	fetch = (struct fetch_cache){0};
	rig_vcpu->fetch = &fetch;
	map_two(CODE, CODE_GPA);
	map_two(DATA, DATA_GPA);
	map_two(STACK, STACK_GPA);
	map_two(DEVICE, DEVICE_GPA);
	set_segments(0xa9b, 0xc93, ~0u);
	vcpu_set_reg(rig_vcpu, VREG_CR0, BIT(31) | BIT(16) | 1);
	vcpu_set_reg(rig_vcpu, VREG_CR3, PML4);
	vcpu_set_reg(rig_vcpu, VREG_CR4, BIT(5));
	vcpu_set_reg(rig_vcpu, VREG_EFER, BIT(11) | BIT(10) | BIT(8));
	rig_vcpu->rflags = 2;
	memset(rig_device, 0, sizeof(rig_device));
	rig_nr_accesses = rig_nr_in = rig_nr_out = 0;
	rig_port_in = 1;
	rig_gmem_hook = NULL;
	return 0;
}

int rig_teardown(void **state) {
	(void)state;
	fake_vm_destroy(rig_vm);
	return 0;
}

void rig_protected_mode(void) {
	set_segments(0xc9b, 0xc93, ~0u);
	vcpu_set_reg(rig_vcpu, VREG_CR0, 1);
	vcpu_set_reg(rig_vcpu, VREG_CR4, 0);
	vcpu_set_reg(rig_vcpu, VREG_EFER, 0);
}

void rig_real_mode(void) {
	set_segments(0x09b, 0x093, 0xffff);
	vcpu_set_reg(rig_vcpu, VREG_CR0, 0);
	vcpu_set_reg(rig_vcpu, VREG_CR4, 0);
	vcpu_set_reg(rig_vcpu, VREG_EFER, 0);
}

void rig_code(const void *bytes, unsigned len) {
	bool paging = vcpu_reg(rig_vcpu, VREG_CR0) & BIT(31);
	bool real = !(vcpu_reg(rig_vcpu, VREG_CR0) & 1);

	rig_vcpu->rip = paging ? CODE : real ? 0x7c00 : CODE_GPA;
	rig_vcpu->next_rip = 0;
	memcpy(fake_ram(rig_vm) + (real ? 0x7c00 : CODE_GPA), bytes, len);
}

enum outcome rig_run(const void *bytes, unsigned len, gpa_t gpa, bool write) {
	rig_code(bytes, len);
	return emulate_mmio(rig_vcpu, gpa, write, false);
}
