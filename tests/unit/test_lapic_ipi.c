// sources: tests/fakes.c platform/bus.c platform/lapic.c platform/lapic_timer.c
// sources: platform/lapic_ipi.c platform/ioapic.c platform/pic.c platform/pit.c platform/rtc.c
// sources: platform/uart.c platform/pmio.c platform/platform.c platform/layout.c
// sources: platform/lapic_virtual.c
/*
 * Messages between local APICs: T-X4, every destination against a naive loop over sparse and mixed
 * machines; the ICR in both modes; INIT, SIPI and NMI.
 */
#include "tests/rig.h"

#define ICR_LOW	 0x300
#define ICR_HIGH 0x310

enum kind { FLAT, CLUSTER, ODD_DFR, X2APIC, SW_OFF, HW_OFF, NR_KINDS };

struct machine {
	struct vm *vm;
	enum kind kind[VM_MAX_VCPUS];
	u8 ldr[VM_MAX_VCPUS];
};

static void wr(struct vcpu *vcpu, u32 offset, u32 value) {
	lapic_mmio_write(vcpu, offset, 4, value);
}

static void make_kind(struct machine *m, u32 id, enum kind kind, u8 ldr) {
	struct vcpu *vcpu = m->vm->vcpus[id];

	m->kind[id] = kind;
	m->ldr[id] = ldr;
	wr(vcpu, 0xf0, kind == SW_OFF ? 0xff : 0x1ff);
	wr(vcpu, 0xd0, (u32)ldr << 24);
	wr(vcpu, 0xe0, kind == CLUSTER ? 0x0fffffff : kind == ODD_DFR ? 0x5fffffff : 0xffffffff);
	if (kind == X2APIC)
		assert_int_equal(lapic_set_base(vcpu, vcpu->lapic->base | LAPIC_BASE_X2APIC), 0);
	if (kind == HW_OFF) assert_int_equal(lapic_set_base(vcpu, 0xfee00000), 0);
}

/* Does this local APIC think that the message is for it? In the words of SDM 3A 10.6.2, 10.12.10.
 */
static bool naive_match(const struct machine *m, u32 id, u32 dest, bool logical) {
	enum kind kind = m->kind[id];
	u32 ldr = m->ldr[id];

	if (kind == HW_OFF) return false;
	if (dest == 0xffffffff) return true;
	if (!logical) return dest == id;
	if (kind == X2APIC) return dest >> 16 == id / 16 && (dest >> id % 16 & 1);
	if (dest > 255) return false;
	if (kind == CLUSTER) return (dest & 15 & ldr) && (dest / 16 == 15 || dest / 16 == ldr / 16);
	return kind != ODD_DFR && (dest & ldr);
}

static bool naive_accepts(const struct machine *m, u32 id, u32 dest, bool logical) {
	return m->kind[id] != SW_OFF && naive_match(m, id, dest, logical);
}

/* The vCPUs that have got the vector; their IRRs are emptied. */
static u64 collect(struct machine *m, u8 vector) {
	u64 set = 0;

	for (u32 id = 0; id < m->vm->nr_vcpus; id++) {
		u64 bit = BIT(vector & 63);

		if (atomic_fetch_and(&m->vm->vcpus[id]->lapic->irr[vector >> 6], ~bit) & bit)
			set |= BIT(id);
	}
	return set;
}

static void check_dest(struct machine *m, u32 dest, bool logical) {
	u32 eight = dest == 0xff ? 0xffffffff : dest;
	u8 vector = (u8)(32 + rig_random() % 224);
	struct apic_msg msg = {.dest = dest, .vector = vector, .logical = logical, .assert = true};
	u64 expected = 0, got;
	u32 nth;

	for (u32 id = 0; id < m->vm->nr_vcpus; id++)
		if (naive_accepts(m, id, eight, logical)) expected |= BIT(id);
	u32 count = apic_send(m->vm, &msg);
	assert_int_equal(count, __builtin_popcountl(expected));
	assert_int_equal(collect(m, vector), expected);

	/* Lowest priority: one of those, the same for the same vector. */
	msg.delivery = 1;
	count = apic_send(m->vm, &msg);
	got = collect(m, vector);
	assert_int_equal(count, expected != 0);
	assert_int_equal(__builtin_popcountl(got), count);
	assert_int_equal(got & ~expected, 0);
	if (expected) {
		nth = vector % (u32)__builtin_popcountl(expected);
		assert_int_equal(__builtin_popcountl(expected & (got - 1)), nth);
	}
}

/* The same destination from an x2APIC's ICR: 255 is an id like any other there. */
static void check_icr(struct machine *m, u32 from, u32 dest, bool logical) {
	struct vcpu *vcpu = m->vm->vcpus[from];
	u8 vector = (u8)(32 + rig_random() % 224);
	u64 expected = 0;

	if (m->kind[from] == HW_OFF) return;
	if (m->kind[from] == X2APIC) {
		u64 icr = (u64)dest << 32 | 0x4000 | (logical ? 0x800 : 0) | vector;

		assert_int_equal(lapic_msr_write(vcpu, 0x830, icr), 0);
	} else {
		dest = dest & 0xff;
		wr(vcpu, ICR_HIGH, dest << 24);
		wr(vcpu, ICR_LOW, 0x4000 | (logical ? 0x800 : 0) | vector);
		dest = dest == 0xff ? 0xffffffff : dest;
	}
	for (u32 id = 0; id < m->vm->nr_vcpus; id++)
		if (naive_accepts(m, id, dest, logical)) expected |= BIT(id);
	assert_int_equal(collect(m, vector), expected);
}

static void T_X4_destinations(void **state) {
	static const u32 sizes[] = {1, 2, 5, 8, 16, 17, 33, 63, 64};
	static const u32 edges[] = {0x100,	0xffff,	    0x10000,	0x10001,
				    0x1ffff,	0x20001,    0x30001,	0x3ffff,
				    0x40000,	0x40001,    0xffff0001, 0x7fffffff,
				    0x80000000, 0x80000001, 0xfffffffe, 0xffffffff};

	(void)state;
	for (u32 s = 0; s < ARRAY_SIZE(sizes); s++)
		for (u32 round = 0; round < 6; round++) {
			struct machine m = {.vm = rig_create(sizes[s])};

			/* Rounds 0 to 2: all alike; then any mixture, with holes. */
			for (u32 id = 0; id < sizes[s]; id++)
				make_kind(&m, id,
					  round == 0   ? FLAT
					  : round == 1 ? CLUSTER
					  : round == 2 ? X2APIC
						       : rig_random() % NR_KINDS,
					  (u8)rig_random());
			for (u32 logical = 0; logical < 2; logical++) {
				for (u32 dest = 0; dest < 256; dest++) {
					check_dest(&m, dest, logical);
					check_icr(&m, dest % sizes[s], dest, logical);
				}
				for (u32 i = 0; i < ARRAY_SIZE(edges); i++) {
					check_dest(&m, edges[i], logical);
					check_icr(&m, i % sizes[s], edges[i], logical);
				}
				for (u32 n = sizes[s] - 1; n <= sizes[s] + 1; n++)
					check_dest(&m, n, logical);
				for (u32 i = 0; i < 200; i++) {
					u32 dest = (u32)rig_random() >> (rig_random() & 31);

					check_dest(&m, dest, logical);
					check_icr(&m, i % sizes[s], dest, logical);
				}
			}
			rig_destroy(m.vm);
		}
}

static void shorthands(void **state) {
	struct machine m = {.vm = rig_create(5)};

	(void)state;
	for (u32 id = 0; id < 5; id++) make_kind(&m, id, id & 1 ? X2APIC : FLAT, 1);
	for (u32 id = 0; id < 5; id++) {
		static const u64 all = 0x1f;
		u64 want[] = {0, BIT(id), all, all & ~BIT(id)};

		for (u32 sh = 1; sh < 4; sh++) {
			u32 icr = 0x4000 | sh << 18 | 0x55;

			if (id & 1)
				assert_int_equal(lapic_msr_write(m.vm->vcpus[id], 0x830, icr), 0);
			else
				wr(m.vm->vcpus[id], ICR_LOW, icr);
			assert_int_equal(collect(&m, 0x55), want[sh]);
		}
	}
	/* Self-IPI register. */
	assert_int_equal(lapic_msr_write(m.vm->vcpus[3], 0x83f, 0x66), 0);
	assert_int_equal(collect(&m, 0x66), BIT(3));
	rig_destroy(m.vm);
}

static void init_sipi_nmi(void **state) {
	struct machine m = {.vm = rig_create(3)};
	struct vcpu *bsp = m.vm->vcpus[0], *ap = m.vm->vcpus[2];

	(void)state;
	wr(bsp, ICR_HIGH, 2 << 24);
	wr(bsp, ICR_LOW, 0xc500); /* INIT, level, assert */
	assert_int_equal(fake_take_requests(ap), REQ_INIT);
	wr(bsp, ICR_LOW, 0x8500); /* de-assert */
	assert_int_equal(fake_take_requests(ap), 0);
	wr(bsp, ICR_LOW, 0x4500); /* edge */
	assert_int_equal(fake_take_requests(ap), REQ_INIT);
	wr(bsp, ICR_LOW, 0x4699);
	assert_int_equal(fake_take_requests(ap), REQ_SIPI);
	assert_int_equal(ap->sipi_vector, 0x99);
	wr(bsp, ICR_LOW, 0x4400);
	assert_int_equal(fake_take_requests(ap), REQ_NMI);
	assert_int_equal(ap->nmi_pending, 1);
	/* To all others; the shorthands with self do not take these modes. */
	wr(bsp, ICR_LOW, 0xc4500);
	assert_int_equal(fake_take_requests(m.vm->vcpus[1]), REQ_INIT);
	assert_int_equal(fake_take_requests(ap), REQ_INIT);
	fake_take_requests(bsp);
	wr(bsp, ICR_LOW, 0x84500);
	wr(bsp, ICR_LOW, 0x44400);
	assert_int_equal(fake_take_requests(bsp) | fake_take_requests(ap), 0);
	/* SMI, a reserved mode and ExtINT reach nobody. */
	wr(bsp, ICR_LOW, 0x4200);
	wr(bsp, ICR_LOW, 0x4340);
	wr(bsp, ICR_LOW, 0x4740);
	assert_int_equal(fake_take_requests(ap), 0);
	rig_destroy(m.vm);
}

static void level_is_for_init_only(void **state) {
	struct machine m = {.vm = rig_create(1)};
	struct vcpu *vcpu = m.vm->vcpus[0];

	(void)state;
	make_kind(&m, 0, FLAT, 1);
	wr(vcpu, ICR_LOW, 0xc000 | 0x77);
	assert_int_equal(lapic_mmio_read(vcpu, 0x1b0, 4), 0); /* TMR */
	assert_int_equal(irq_accept(vcpu), 0x77);
	assert_int_equal(lapic_mmio_read(vcpu, ICR_LOW, 4), 0xc077); /* and never busy */
	rig_destroy(m.vm);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(T_X4_destinations),
		cmocka_unit_test(shorthands),
		cmocka_unit_test(init_sipi_nmi),
		cmocka_unit_test(level_is_for_init_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
