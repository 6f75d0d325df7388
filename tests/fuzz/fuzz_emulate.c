// sources: platform/emulate.c platform/emulate_alu.c platform/emulate_mem.c platform/emulate_ops.c
// sources: platform/emulate_string.c platform/decode.c platform/decode_tables.c platform/gwalk.c
// sources: platform/fetch.c tests/emulate_rig.c tests/fakes.c
/*
 * Fuzz target of the emulator: a hostile guest. The input is registers, control registers,
 * segments, page-table entries and code; each call must end soon with one of the four outcomes,
 * touch nothing but guest memory, and say why when the VM stops.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -I. tests/fuzz/fuzz_emulate.c <sources>
 * -lcmocka
 */
#include "tests/emulate_rig.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

struct input {
	u8 mode; /* 0 to 2: as the rig sets it; bits 7:5 for the call */
	u8 cpl;
	u16 port;
	u32 cr0, cr4; /* XORed to what the rig has set */
	u32 rflags;
	u16 table_entry; /* index into the rig's tables, as 8-byte entries */
	u16 segment;	 /* which one, and its attributes */
	u64 table_value;
	u64 base;
	u32 limit;
	u32 spread; /* which registers point into mapped pages */
	u8 code[15];
	u8 rip;
	u64 gpr[4];
};

static void check(bool condition) {
	if (!condition) abort();
}

static void set_up(const struct input *in) {
	static const gva_t places[4] = {DEVICE, DATA, STACK, UNMAPPED};
	struct segment s;

	if ((in->mode & 3) == 1)
		rig_protected_mode();
	else if ((in->mode & 3) == 2)
		rig_real_mode();
	rig_code(in->code, sizeof(in->code));
	rig_vcpu->rip += in->rip >> 4 ? 0 : in->rip;
	for (unsigned i = 0; i < NR_GPRS; i++) {
		u64 value = in->gpr[i & 3];

		rig_vcpu->gpr[i] =
			in->spread >> (2 * i) & 2 ? places[value >> 62] + (value & 0x1fff) : value;
	}
	rig_vcpu->rflags = in->rflags;
	fake_cpl = in->cpl & 3;
	vcpu_set_reg(rig_vcpu, VREG_CR0, vcpu_reg(rig_vcpu, VREG_CR0) ^ in->cr0);
	vcpu_set_reg(rig_vcpu, VREG_CR4, vcpu_reg(rig_vcpu, VREG_CR4) ^ in->cr4);
	memcpy(fake_ram(rig_vm) + 0x1000 + (in->table_entry % 2560) * 8, &in->table_value, 8);
	vcpu_segment(rig_vcpu, (enum seg)(in->segment % 6), &s);
	s.attr ^= in->segment >> 4;
	s.base ^= in->base;
	s.limit ^= in->limit;
	vcpu_set_segment(rig_vcpu, (enum seg)(in->segment % 6), &s);
}

static void run(const struct input *in) {
	u64 rip = rig_vcpu->rip;
	enum outcome outcome;

	rig_nr_accesses = rig_nr_in = rig_nr_out = 0;
	rig_vcpu->next_rip = 0;
	rig_vcpu->exception.pending = false;
	rig_vm->stop_reason[0] = 0;
	if (in->mode & 0x80)
		outcome = emulate_string_io(rig_vcpu, in->port, 1u << (in->mode >> 5 & 1),
					    in->cpl & 4, in->cpl & 8);
	else
		outcome = emulate_mmio(rig_vcpu, DEVICE_GPA + (in->gpr[0] & 0xfff), in->mode & 0x40,
				       in->mode & 0x20);
	check(rig_vcpu->rip == rip);
	check(rig_nr_accesses < 4096 && rig_nr_in < 1024 && rig_nr_out < 1024);
	check(outcome == ADVANCE || rig_vcpu->next_rip == 0);
	check((outcome == INJECTED) == rig_vcpu->exception.pending);
	check((outcome == STOP_VM) == (rig_vm->stop_reason[0] != 0));
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
	struct input in = {0};

	memcpy(&in, data, size < sizeof(in) ? size : sizeof(in));
	rig_setup(NULL);
	set_up(&in);
	for (unsigned i = 0; i < 3; i++) run(&in);
	rig_teardown(NULL);
	return 0;
}
