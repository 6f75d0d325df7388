// sources: tests/fakes.c platform/bus.c platform/lapic.c platform/lapic_timer.c
// sources: platform/lapic_ipi.c platform/ioapic.c platform/pic.c platform/pit.c platform/rtc.c
// sources: platform/uart.c platform/pmio.c platform/platform.c platform/layout.c
// sources: platform/lapic_virtual.c
/* The local APIC: registers, modes, priorities, local interrupts, timer. IPIs: test_lapic_ipi.c. */
#include "tests/rig.h"

#include <pthread.h>
#include <sched.h>

/* Registers, as numbers of 16-byte slots. */
enum { ID = 2, VERSION, TPR = 8, PPR = 10, EOI, LDR = 13, DFR, SVR, ISR = 16, TMR = 24, IRR = 32 };
enum { ESR = 0x28, ICR = 0x30, ICR2, TIMER, THERMAL, PERF, LINT0, LINT1, ERROR, COUNT, CURRENT };
enum { DIVIDE = 0x3e, SELF = 0x3f };

#define MASKED	 0x10000u
#define PERIODIC 0x20000u
#define DEADLINE 0x40000u

static u32 rd(struct vcpu *vcpu, u32 reg) { return lapic_mmio_read(vcpu, reg * 16, 4); }

static void wr(struct vcpu *vcpu, u32 reg, u32 value) {
	lapic_mmio_write(vcpu, reg * 16, 4, value);
}

static u64 msr(struct vcpu *vcpu, u32 reg) {
	u64 value = 0;

	assert_int_equal(lapic_msr_read(vcpu, 0x800 + reg, &value), 0);
	return value;
}

static int write_msr(struct vcpu *vcpu, u32 reg, u64 value) {
	return lapic_msr_write(vcpu, 0x800 + reg, value);
}

static void to_x2apic(struct vcpu *vcpu) {
	assert_int_equal(lapic_set_base(vcpu, vcpu->lapic->base | LAPIC_BASE_X2APIC), 0);
}

/* A vCPU whose local APIC is enabled, without a request left over. */
static struct vcpu *enabled(struct vm *vm, u32 id) {
	wr(vm->vcpus[id], SVR, 0x1ff);
	fake_take_requests(vm->vcpus[id]);
	return vm->vcpus[id];
}

static void post(struct vcpu *vcpu, u8 vector) {
	struct apic_msg msg = {.dest = vcpu->id, .vector = vector, .assert = true};

	assert_int_equal(apic_send(vcpu->vm, &msg), 1);
}

/* ---- registers and modes ---- */

static void power_up_state(void **state) {
	struct vm *vm = rig_create(2);
	struct vcpu *ap = vm->vcpus[1];

	(void)state;
	assert_int_equal(vm->vcpus[0]->lapic->base, 0xfee00900);
	assert_int_equal(ap->lapic->base, 0xfee00800);
	assert_int_equal(rd(ap, ID), 1 << 24);
	assert_int_equal(rd(ap, VERSION), 0x01050014);
	assert_int_equal(rd(ap, TPR) | rd(ap, PPR) | rd(ap, LDR), 0);
	assert_int_equal(rd(ap, DFR), 0xffffffff);
	assert_int_equal(rd(ap, SVR), 0xff);
	for (u32 i = 0; i < 8; i++)
		assert_int_equal(rd(ap, ISR + i) | rd(ap, TMR + i) | rd(ap, IRR + i), 0);
	for (u32 i = TIMER; i <= ERROR; i++) assert_int_equal(rd(ap, i), MASKED);
	assert_int_equal(rd(ap, COUNT) | rd(ap, CURRENT) | rd(ap, DIVIDE), 0);
	/* The boot processor has its virtual wire. */
	assert_int_equal(rd(vm->vcpus[0], SVR), 0x1ff);
	assert_int_equal(rd(vm->vcpus[0], LINT0), 0x700);
	assert_int_equal(rd(vm->vcpus[0], LINT1), 0x400);
	rig_destroy(vm);
}

static void init_keeps_id_and_base(void **state) {
	struct vm *vm = rig_create(2);
	struct vcpu *vcpu = enabled(vm, 1);

	(void)state;
	to_x2apic(vcpu);
	assert_int_equal(write_msr(vcpu, TPR, 0x20), 0);
	post(vcpu, 0x50);
	assert_int_equal(irq_accept(vcpu), 0x50);
	assert_int_equal(write_msr(vcpu, COUNT, 1000), 0);
	lapic_init_reset(vcpu);
	assert_int_equal(vcpu->lapic->base, 0xfee00c00);
	assert_int_equal(msr(vcpu, ID), 1);
	assert_int_equal(msr(vcpu, LDR), 2);
	assert_int_equal(msr(vcpu, SVR), 0xff);
	assert_int_equal(msr(vcpu, TPR) | msr(vcpu, ISR + 2) | msr(vcpu, COUNT), 0);
	rig_destroy(vm);
}

/* Every transition of SDM 3A figure 10-27. */
static void base_transitions(void **state) {
	enum { OFF, XAPIC = 2, X2APIC = 3, BAD = 1 }; /* EN and EXTD as bits 1 and 0 */
	static const bool allowed[4][4] = {
		[OFF] = {[OFF] = 1, [XAPIC] = 1},
		[XAPIC] = {[OFF] = 1, [XAPIC] = 1, [X2APIC] = 1},
		[X2APIC] = {[OFF] = 1, [X2APIC] = 1},
	};

	(void)state;
	for (u64 from = 0; from < 4; from++)
		for (u64 to = 0; to < 4; to++) {
			struct vm *vm = rig_create(1);
			struct vcpu *vcpu = vm->vcpus[0];

			if (from == BAD) {
				rig_destroy(vm);
				continue;
			}
			if (from == OFF) assert_int_equal(lapic_set_base(vcpu, 0xfee00100), 0);
			if (from == X2APIC) to_x2apic(vcpu);
			assert_int_equal(lapic_set_base(vcpu, 0xfee00100 | to << 10),
					 allowed[from][to] ? 0 : E_INVAL);
			assert_int_equal(vcpu->lapic->base >> 10 & 3,
					 allowed[from][to] ? to : from);
			assert_int_equal(vcpu->lapic->mode, (vcpu->lapic->base >> 11 & 1) +
								    (vcpu->lapic->base >> 10 & 1));
			rig_destroy(vm);
		}
}

static void base_reserved_bits_and_page(void **state) {
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = vm->vcpus[0];
	u64 reserved[] = {BIT(0), BIT(7), BIT(9), BIT(40), BIT(63)};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(reserved); i++)
		assert_int_equal(lapic_set_base(vcpu, 0xfee00900 | reserved[i]), E_INVAL);
	assert_int_equal(bus_mmio_read(vcpu, 0xfee00030, 4), 0x01050014);
	assert_int_equal(lapic_set_base(vcpu, 0xd0000900), 0);
	assert_int_equal(bus_mmio_read(vcpu, 0xfee00030, 4), 0xffffffff);
	assert_int_equal(bus_mmio_read(vcpu, 0xd0000030, 4), 0x01050014);
	to_x2apic(vcpu);
	assert_int_equal(bus_mmio_read(vcpu, 0xd0000030, 4), 0xffffffff);
	assert_int_equal(lapic_set_base(vcpu, 0xd0000100), 0);
	assert_int_equal(bus_mmio_read(vcpu, 0xd0000030, 4), 0xffffffff);
	rig_destroy(vm);
}

static void xapic_access_widths(void **state) {
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = vm->vcpus[0];

	(void)state;
	bus_mmio_write(vcpu, 0xfee00080, 4, 0x35);
	bus_mmio_write(vcpu, 0xfee00080, 1, 0x70);
	bus_mmio_write(vcpu, 0xfee00080, 8, 0x70);
	bus_mmio_write(vcpu, 0xfee00084, 4, 0x70);
	assert_int_equal(rd(vcpu, TPR), 0x35);
	assert_int_equal(bus_mmio_read(vcpu, 0xfee00030, 1), 0x14);
	assert_int_equal(bus_mmio_read(vcpu, 0xfee00032, 2), 0x0105);
	assert_int_equal(bus_mmio_read(vcpu, 0xfee00034, 4), 0);
	assert_int_equal(bus_mmio_read(vcpu, 0xfee0003e, 4), 0);
	rig_destroy(vm);
}

static void x2apic_msrs(void **state) {
	/* Bits of each register that software may write; absent: writing is #GP. */
	static const struct {
		u32 reg;
		u32 writable;
	} table[] = {
		{TPR, 0xff},	     {EOI, 0},
		{SVR, 0x13ff},	     {ESR, 0},
		{TIMER, 0x710ff},    {THERMAL, 0x157ff},
		{PERF, 0x157ff},     {LINT0, 0x1ffff & ~0x800u},
		{LINT1, 0x1f7ff},    {ERROR, 0x150ff},
		{COUNT, 0xffffffff}, {DIVIDE, 0xb},
		{SELF, 0xff},
	};
	static const u32 read_only[] = {ID, VERSION, PPR, LDR, ISR, TMR, IRR, CURRENT};
	static const u32 absent[] = {0, 1, 4, 9, 12, DFR, ICR2, 0x2f, 0x3a, 0x40, 0xff};
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = vm->vcpus[0];
	u64 value;

	(void)state;
	assert_int_equal(lapic_msr_read(vcpu, 0x802, &value), E_INVAL); /* xAPIC mode */
	assert_int_equal(write_msr(vcpu, TPR, 0), E_INVAL);
	to_x2apic(vcpu);
	for (u32 i = 0; i < ARRAY_SIZE(table); i++)
		for (u32 bit = 0; bit < 64; bit++) {
			/* LVT bits 12 and 14 are read-only, not reserved. */
			bool lvt = table[i].reg >= TIMER && table[i].reg <= ERROR;
			bool good = (u64)table[i].writable >> bit & 1;

			good = good || (lvt && (bit == 12 || bit == 14));
			if (table[i].reg == SELF && bit < 8) continue;
			assert_int_equal(write_msr(vcpu, table[i].reg, BIT(bit)),
					 good ? 0 : E_INVAL);
		}
	for (u32 i = 0; i < ARRAY_SIZE(read_only); i++) {
		msr(vcpu, read_only[i]);
		assert_int_equal(write_msr(vcpu, read_only[i], 0), E_INVAL);
	}
	for (u32 i = 0; i < ARRAY_SIZE(absent); i++) {
		assert_int_equal(lapic_msr_read(vcpu, 0x800 + absent[i], &value), E_INVAL);
		assert_int_equal(write_msr(vcpu, absent[i], 0), E_INVAL);
	}
	assert_int_equal(lapic_msr_read(vcpu, 0x800 + EOI, &value), E_INVAL);
	assert_int_equal(lapic_msr_read(vcpu, 0x800 + SELF, &value), E_INVAL);
	assert_int_equal(write_msr(vcpu, ICR, BIT(13)), E_INVAL);
	assert_int_equal(write_msr(vcpu, ICR, BIT(20)), E_INVAL);
	assert_int_equal(write_msr(vcpu, ICR, 0xffffffff00004040), 0);
	assert_int_equal(msr(vcpu, ICR), 0xffffffff00004040);
	rig_destroy(vm);
}

/* ---- acceptance ---- */

static void priorities(void **state) {
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = enabled(vm, 0);

	(void)state;
	assert_int_equal(irq_next(vcpu), -1);
	post(vcpu, 0x41);
	post(vcpu, 0x45);
	assert_int_equal(fake_take_requests(vcpu), REQ_EVENT);
	assert_int_equal(irq_next(vcpu), 0x45);
	assert_int_equal(irq_accept(vcpu), 0x45);
	assert_int_equal(rd(vcpu, ISR + 2), 0x20);
	assert_int_equal(rd(vcpu, IRR + 2), 0x02);
	assert_int_equal(rd(vcpu, PPR), 0x40);
	/* The same class waits, a higher one does not. */
	assert_int_equal(irq_next(vcpu), -1);
	post(vcpu, 0x50);
	assert_int_equal(irq_accept(vcpu), 0x50);
	assert_int_equal(rd(vcpu, PPR), 0x50);
	/* An end that frees nothing asks for nothing. */
	fake_take_requests(vcpu);
	wr(vcpu, EOI, 0);
	assert_int_equal(fake_take_requests(vcpu), 0);
	assert_int_equal(rd(vcpu, PPR), 0x40);
	wr(vcpu, EOI, 0);
	assert_int_equal(fake_take_requests(vcpu), REQ_EVENT);
	assert_int_equal(irq_next(vcpu), 0x41);
	wr(vcpu, TPR, 0x4f);
	assert_int_equal(rd(vcpu, PPR), 0x4f);
	assert_int_equal(irq_next(vcpu), -1);
	lapic_set_tpr(vcpu, 0x3f);
	assert_int_equal(fake_take_requests(vcpu), REQ_EVENT);
	assert_int_equal(irq_accept(vcpu), 0x41);
	wr(vcpu, EOI, 0);
	wr(vcpu, EOI, 0); /* one too many */
	rig_destroy(vm);
}

static u8 naive_highest(const bool *set) {
	for (u32 v = 255; v; v--)
		if (set[v]) return (u8)v;
	return 0;
}

/* Random posts, accepts, EOIs and TPR writes against two arrays of flags. */
static void random_against_model(void **state) {
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = enabled(vm, 0);
	bool irr[256] = {0}, isr[256] = {0};
	u8 tpr = 0;

	(void)state;
	for (u32 i = 0; i < 100000; i++) {
		u8 vector = (u8)(16 + rig_random() % 240), top, ppr;

		switch (rig_random() % 5) {
		case 0:
			post(vcpu, vector);
			irr[vector] = true;
			break;
		case 1:
			tpr = (u8)rig_random();
			wr(vcpu, TPR, tpr);
			break;
		case 2:
			isr[naive_highest(isr)] = false;
			lapic_eoi(vcpu);
			break;
		default: break;
		}
		top = naive_highest(isr);
		ppr = tpr >> 4 >= top >> 4 ? tpr : top & 0xf0;
		assert_int_equal(rd(vcpu, PPR), ppr);
		top = naive_highest(irr);
		if (top >> 4 > ppr >> 4) {
			/* Whoever waits has been announced. */
			assert_int_equal(fake_take_requests(vcpu) & REQ_EVENT, REQ_EVENT);
			assert_int_equal(irq_next(vcpu), top);
			assert_int_equal(irq_accept(vcpu), top);
			irr[top] = false;
			isr[top] = true;
		} else {
			assert_int_equal(irq_next(vcpu), -1);
		}
	}
	rig_destroy(vm);
}

static _Atomic bool waiting[64]; /* vector 0x40 + n is posted and not yet served */
static _Atomic bool stop;
static _Atomic u32 tickets;

/* Posts its 32 vectors over and over, each as soon as its last one has been served. */
static void *poster(void *arg) {
	u32 first = 32 * atomic_fetch_add(&tickets, 1);

	for (u32 i = 0; !atomic_load(&stop); i = (i + 1) % 32) {
		struct apic_msg msg = {.vector = (u8)(0x40 + first + i), .assert = true};

		if (!atomic_exchange(&waiting[first + i], true)) apic_send(arg, &msg);
	}
	return NULL;
}

static bool serve(struct vcpu *vcpu) {
	int vector = irq_accept(vcpu);

	if (vector < 0) return false;
	lapic_eoi(vcpu);
	atomic_store(&waiting[vector - 0x40], false);
	return true;
}

/* Two CPUs post into one word of IRR while its owner accepts and ends: none is lost. */
static void posting_needs_no_lock(void **state) {
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = enabled(vm, 0);
	pthread_t threads[2];

	(void)state;
	for (u32 i = 0; i < 2; i++) pthread_create(&threads[i], NULL, poster, vm);
	for (u32 served = 0, idle = 0; served < 300000 && idle < 10000;) {
		bool some = serve(vcpu);

		served += some;
		idle = some ? 0 : idle + 1;
		if (!some) sched_yield();
	}
	atomic_store(&stop, true);
	for (u32 i = 0; i < 2; i++) pthread_join(threads[i], NULL);
	while (serve(vcpu))
		;
	for (u32 i = 0; i < 64; i++) assert_false(waiting[i]);
	rig_destroy(vm);
}

static void software_disable(void **state) {
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = enabled(vm, 0);
	struct apic_msg msg = {.vector = 0x60, .assert = true};

	(void)state;
	wr(vcpu, TIMER, 0x30);
	post(vcpu, 0x50);
	wr(vcpu, SVR, 0xff);
	/* LVT entries are masked and stay so; nothing fixed is accepted; what was there stays. */
	assert_int_equal(rd(vcpu, TIMER), MASKED | 0x30);
	wr(vcpu, TIMER, 0x31);
	assert_int_equal(rd(vcpu, TIMER), MASKED | 0x31);
	assert_int_equal(apic_send(vm, &msg), 0);
	assert_int_equal(irq_next(vcpu), 0x50);
	msg.delivery = 4;
	assert_int_equal(apic_send(vm, &msg), 1);
	assert_int_equal(vcpu->nmi_pending, 1);
	/* Hardware disable: nothing at all, and everything is lost. */
	assert_int_equal(lapic_set_base(vcpu, 0xfee00100), 0);
	assert_int_equal(apic_send(vm, &msg), 0);
	assert_int_equal(irq_next(vcpu), -1);
	rig_destroy(vm);
}

static void errors(void **state) {
	struct vm *vm = rig_create(2);
	struct vcpu *vcpu = enabled(vm, 0), *other = enabled(vm, 1);

	(void)state;
	wr(vcpu, ERROR, 0xfe);
	wr(vcpu, ICR2, 1 << 24);
	wr(vcpu, ICR, 0x4005); /* vector 5 */
	assert_int_equal(irq_accept(vcpu), 0xfe);
	lapic_eoi(vcpu);
	assert_int_equal(rd(vcpu, ESR), 0); /* not before a write */
	wr(vcpu, ESR, 0);
	assert_int_equal(rd(vcpu, ESR), 0x20);
	wr(vcpu, ESR, 0);
	assert_int_equal(rd(vcpu, ESR), 0);
	/* The receiver's side: an MSI or IOAPIC entry with such a vector. */
	struct apic_msg msg = {.dest = 1, .vector = 15, .assert = true};

	assert_int_equal(apic_send(vm, &msg), 0);
	wr(other, ESR, 0);
	assert_int_equal(rd(other, ESR), 0x40);
	/* An error interrupt with an illegal vector of its own ends. */
	wr(vcpu, ERROR, 0x03);
	wr(vcpu, 0x3a, 0);
	wr(vcpu, ESR, 0);
	assert_int_equal(rd(vcpu, ESR), 0xc0);
	assert_int_equal(irq_next(vcpu), -1);
	rig_destroy(vm);
}

static void virtual_wire(void **state) {
	struct vm *vm = rig_create(2);
	struct vcpu *vcpu = vm->vcpus[0];

	(void)state;
	byte_out(vm, 0x21, 0xfe); /* base 8 as firmware leaves it, IRQ 0 open */
	irq_set(vm, 0, true);
	assert_true(extint_pending(vcpu));
	assert_false(extint_pending(vm->vcpus[1]));
	assert_true(fake_take_requests(vcpu) & REQ_EVENT);
	/* The priority of the local APIC does not hold it up. */
	wr(vcpu, TPR, 0xff);
	assert_int_equal(irq_next(vcpu), 8);
	wr(vcpu, LINT0, 0x10700);
	assert_int_equal(irq_next(vcpu), -1);
	fake_take_requests(vcpu);
	wr(vcpu, LINT0, 0x700);
	assert_true(fake_take_requests(vcpu) & REQ_EVENT);
	assert_int_equal(irq_accept(vcpu), 8);
	assert_int_equal(irq_next(vcpu), -1);
	byte_out(vm, 0x20, 0x20);
	irq_set(vm, 0, false);
	/* Without a local APIC the line goes straight to the processor. */
	assert_int_equal(lapic_set_base(vcpu, 0xfee00100), 0);
	irq_set(vm, 0, true);
	assert_int_equal(irq_accept(vcpu), 8);
	rig_destroy(vm);
}

static void local_interrupt_pins(void **state) {
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = enabled(vm, 0);

	(void)state;
	wr(vcpu, LINT0, 0x8033); /* fixed, level */
	lapic_set_lint0(vcpu, true);
	assert_int_equal(irq_accept(vcpu), 0x33);
	lapic_eoi(vcpu);
	assert_int_equal(irq_accept(vcpu), 0x33); /* still up: again */
	lapic_set_lint0(vcpu, false);
	lapic_eoi(vcpu);
	assert_int_equal(irq_next(vcpu), -1);
	wr(vcpu, LINT0, 0x400); /* NMI */
	lapic_set_lint0(vcpu, true);
	lapic_set_lint0(vcpu, true);
	assert_int_equal(vcpu->nmi_pending, 1);
	for (u32 i = 0; i < 5; i++) lapic_post_nmi(vcpu);
	assert_int_equal(vcpu->nmi_pending, 2);
	rig_destroy(vm);
}

/* ---- timer; with divide 0xb a count is 1 ns ---- */

static void one_shot(void **state) {
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = enabled(vm, 0);

	(void)state;
	wr(vcpu, TIMER, 0x30);
	wr(vcpu, DIVIDE, 0xb);
	wr(vcpu, COUNT, 1000000);
	assert_int_equal(rd(vcpu, CURRENT), 1000000);
	fake_advance_ns(999999);
	assert_int_equal(rd(vcpu, CURRENT), 1);
	assert_int_equal(irq_next(vcpu), -1);
	fake_advance_ns(2);
	assert_int_equal(irq_accept(vcpu), 0x30);
	assert_int_equal(rd(vcpu, CURRENT), 0);
	assert_int_equal(rd(vcpu, COUNT), 1000000);
	assert_int_equal(fake_timers_armed(), 0);
	lapic_eoi(vcpu);
	/* Zero stops; a new count replaces the old. */
	wr(vcpu, COUNT, 500);
	wr(vcpu, COUNT, 0);
	fake_advance_ns(1000);
	assert_int_equal(irq_next(vcpu), -1);
	wr(vcpu, COUNT, 500);
	wr(vcpu, COUNT, 5000);
	fake_advance_ns(4000);
	assert_int_equal(irq_next(vcpu), -1);
	fake_advance_ns(1001);
	assert_int_equal(irq_next(vcpu), 0x30);
	rig_destroy(vm);
}

static void divisors(void **state) {
	static const u8 code[] = {0xb, 0, 1, 2, 3, 8, 9, 0xa};
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = enabled(vm, 0);

	(void)state;
	for (u32 i = 0; i < 8; i++) {
		wr(vcpu, DIVIDE, code[i] | 0xfffffff4);
		assert_int_equal(rd(vcpu, DIVIDE), code[i]);
		wr(vcpu, COUNT, 1000000);
		fake_advance_ns(100000 << i);
		assert_int_equal(rd(vcpu, CURRENT), 900000);
	}
	/* A change on the way keeps what is left. */
	wr(vcpu, DIVIDE, 0xb);
	fake_advance_ns(400000);
	assert_int_equal(rd(vcpu, CURRENT), 500000);
	rig_destroy(vm);
}

static void periodic_without_drift(void **state) {
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = enabled(vm, 0);
	u32 count = 0;

	(void)state;
	tsc_khz = 2599987; /* nothing divides evenly */
	wr(vcpu, TIMER, PERIODIC | 0x30);
	wr(vcpu, DIVIDE, 0xb);
	wr(vcpu, COUNT, 1000003);
	u64 begun = time_tsc();

	for (u32 i = 0; i < 100000; i++) {
		fake_advance_ns(70001);
		if (irq_accept(vcpu) >= 0) {
			lapic_eoi(vcpu);
			count++;
		}
	}
	assert_int_equal(count, tsc_to_ns(time_tsc() - begun) / 1000003);
	assert_in_range(fake_next_deadline() - begun, ns_to_tsc((count + 1) * 1000003ul),
			ns_to_tsc((count + 1) * 1000003ul) + 2);
	/* Ticks that nobody could serve are one interrupt, and the phase stays. */
	fake_advance(ns_to_tsc(1000003ul * 50));
	assert_int_equal(irq_accept(vcpu), 0x30);
	lapic_eoi(vcpu);
	assert_int_equal(irq_next(vcpu), -1);
	rig_destroy(vm);
}

static void tiny_periods_are_bounded(void **state) {
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = enabled(vm, 0);

	(void)state;
	wr(vcpu, TIMER, PERIODIC | 0x30);
	for (u32 i = 0; i < 8; i++) {
		wr(vcpu, DIVIDE, (i & 3) | (i & 4) << 1);
		wr(vcpu, COUNT, 1 + i);
		fake_advance_ns(2000);
		for (u32 n = 0; n < 100; n++) {
			u64 next = fake_next_deadline() - time_tsc();

			assert_in_range(tsc_to_ns(next), 90000, 110000);
			fake_advance(next);
		}
	}
	rig_destroy(vm);
}

static void masked_timer_counts(void **state) {
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = enabled(vm, 0);

	(void)state;
	wr(vcpu, TIMER, MASKED | 0x30);
	wr(vcpu, DIVIDE, 0xb);
	wr(vcpu, COUNT, 1000);
	assert_int_equal(fake_timers_armed(), 0);
	fake_advance_ns(400);
	assert_int_equal(rd(vcpu, CURRENT), 600);
	wr(vcpu, TIMER, 0x30);
	fake_advance_ns(601);
	assert_int_equal(irq_accept(vcpu), 0x30);
	lapic_eoi(vcpu);
	/* An expiry while masked is lost. */
	wr(vcpu, COUNT, 1000);
	wr(vcpu, TIMER, MASKED | 0x30);
	fake_advance_ns(2000);
	wr(vcpu, TIMER, 0x30);
	fake_advance_ns(2000);
	assert_int_equal(irq_next(vcpu), -1);
	/* A periodic one goes on in its phase. */
	wr(vcpu, TIMER, MASKED | PERIODIC | 0x30);
	wr(vcpu, COUNT, 1000000);
	fake_advance_ns(2300000);
	wr(vcpu, TIMER, PERIODIC | 0x31);
	assert_int_equal(rd(vcpu, CURRENT), 700000);
	fake_advance_ns(699990);
	assert_int_equal(irq_next(vcpu), -1);
	fake_advance_ns(20);
	assert_int_equal(irq_accept(vcpu), 0x31);
	rig_destroy(vm);
}

static void tsc_deadline(void **state) {
	struct vm *vm = rig_create(1);
	struct vcpu *vcpu = enabled(vm, 0);

	(void)state;
	vcpu->tsc_offset = -time_tsc() + 5000000;
	lapic_set_deadline(vcpu, 1); /* another mode: no effect */
	assert_int_equal(lapic_deadline(vcpu), 0);
	wr(vcpu, TIMER, DEADLINE | 0x30);
	wr(vcpu, COUNT, 100);
	assert_int_equal(rd(vcpu, COUNT) | rd(vcpu, CURRENT), 0);
	lapic_set_deadline(vcpu, 5010000);
	assert_int_equal(lapic_deadline(vcpu), 5010000);
	fake_advance(9999);
	assert_int_equal(irq_next(vcpu), -1);
	fake_advance(1);
	assert_int_equal(irq_accept(vcpu), 0x30);
	lapic_eoi(vcpu);
	assert_int_equal(lapic_deadline(vcpu), 0);
	/* In the past: at once. */
	lapic_set_deadline(vcpu, 5010000);
	assert_int_equal(irq_accept(vcpu), 0x30);
	lapic_eoi(vcpu);
	/* The guest's TSC jumps: the deadline is in its ticks. */
	u64 now = time_tsc() + vcpu->tsc_offset;
	lapic_set_deadline(vcpu, now + 1000000);
	vcpu->tsc_offset -= 500000;
	lapic_tsc_changed(vcpu);
	fake_advance(1000000);
	assert_int_equal(irq_next(vcpu), -1);
	vcpu->tsc_offset += 600000;
	lapic_tsc_changed(vcpu);
	assert_int_equal(irq_accept(vcpu), 0x30);
	lapic_eoi(vcpu);
	/* The end of time, disarming, masking. */
	lapic_set_deadline(vcpu, ~0ul);
	lapic_set_deadline(vcpu, 0);
	assert_int_equal(fake_timers_armed(), 0);
	now = time_tsc() + vcpu->tsc_offset;
	wr(vcpu, TIMER, MASKED | DEADLINE | 0x30);
	lapic_set_deadline(vcpu, now + 100);
	fake_advance(200);
	assert_int_equal(lapic_deadline(vcpu), 0);
	/* Leaving the mode disarms. */
	wr(vcpu, TIMER, DEADLINE | 0x30);
	lapic_set_deadline(vcpu, now + 1000);
	wr(vcpu, TIMER, 0x30);
	assert_int_equal(fake_timers_armed(), 0);
	assert_int_equal(lapic_deadline(vcpu), 0);
	rig_destroy(vm);
}

static void hostile_writes(void **state) {
	struct vm *vm = rig_create(3);

	(void)state;
	for (u32 i = 0; i < 100000; i++) {
		struct vcpu *vcpu = vm->vcpus[rig_random() % 3];
		u64 value = rig_random();
		u32 reg = (u32)rig_random() & 0xff;

		switch (rig_random() % 8) {
		case 0: (void)!lapic_set_base(vcpu, 0xfee00000 | (value & 0xd00)); break;
		case 1: lapic_set_deadline(vcpu, value); break;
		case 2: (void)!write_msr(vcpu, reg & 0x3f, value >> (value & 63)); break;
		case 3: (void)!lapic_msr_read(vcpu, 0x800 + reg, &value); break;
		case 4: lapic_mmio_read(vcpu, (u32)value & 0xfff, 1u << (value >> 20 & 3)); break;
		case 5:
			lapic_mmio_write(vcpu, (u32)value & 0xfff, 1u << (value >> 20 & 3), value);
			break;
		default: wr(vcpu, reg & 0x3f, (u32)value >> (value >> 40 & 31)); break;
		}
		if (!(i & 7)) fake_advance(rig_random() % 100000);
		irq_accept(vcpu);
	}
	rig_destroy(vm);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_up_state),
		cmocka_unit_test(init_keeps_id_and_base),
		cmocka_unit_test(base_transitions),
		cmocka_unit_test(base_reserved_bits_and_page),
		cmocka_unit_test(xapic_access_widths),
		cmocka_unit_test(x2apic_msrs),
		cmocka_unit_test(priorities),
		cmocka_unit_test(random_against_model),
		cmocka_unit_test(posting_needs_no_lock),
		cmocka_unit_test(software_disable),
		cmocka_unit_test(errors),
		cmocka_unit_test(virtual_wire),
		cmocka_unit_test(local_interrupt_pins),
		cmocka_unit_test(one_shot),
		cmocka_unit_test(divisors),
		cmocka_unit_test(periodic_without_drift),
		cmocka_unit_test(tiny_periods_are_bounded),
		cmocka_unit_test(masked_timer_counts),
		cmocka_unit_test(tsc_deadline),
		cmocka_unit_test(hostile_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
