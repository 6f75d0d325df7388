// sources: platform/kvm_pv.c platform/cpu_model.c tests/fakes.c
/* The paravirtual clock, EOI and hypercalls, with addresses and arguments of hostile guests. */
#include "tests/fakes.h"

#include <stdlib.h>
#include <string.h>

#include "lib/x86.h"
#include "platform/cpu_model.h"
#include "platform/kvm_pv.h"
#include "platform/lapic.h"
#include "tests/fake_hosts.h"

#define RAM	 0x4000
#define NR_VCPUS 4

/* As Linux declares them (asm/pvclock-abi.h, facts of the ABI). */
struct time_info {
	u32 version;
	u32 pad0;
	u64 tsc_timestamp;
	u64 system_time;
	u32 mul;
	s8 shift;
	u8 flags;
	u8 pad[2];
} __packed;

struct wall_clock {
	u32 version, sec, nsec;
} __packed;

_Static_assert(sizeof(struct time_info) == 32, "pvclock ABI");

static struct cpu_model model;
static struct vm *vm;
static struct vcpu *vcpu;
static struct segment long_cs = {.attr = SEG_ATTR_L | SEG_ATTR_P};

/* ---- the local APIC as a recorder ---- */

static u32 eois;
static u32 sent[256], nr_sent;
static u8 sent_vector, sent_delivery;
static u64 refusing; /* vCPUs whose APIC takes nothing */

void lapic_init_reset(struct vcpu *v) { (void)v; }

void lapic_eoi(struct vcpu *v) {
	(void)v;
	eois++;
}

unsigned apic_send(struct vm *v, const struct apic_msg *msg) {
	assert_ptr_equal(v, vm);
	assert_false(msg->logical);
	assert_true(msg->dest < vm->nr_vcpus);
	assert_true(nr_sent < ARRAY_SIZE(sent));
	sent[nr_sent++] = msg->dest;
	sent_vector = msg->vector;
	sent_delivery = msg->delivery;
	return !(refusing >> msg->dest & 1);
}

/* ---- frame ---- */

static void make_vm(u32 nr_vcpus, u64 khz) {
	struct cpu_model_config config = {.nr_vcpus = nr_vcpus, .tsc_khz = khz};

	fake_reset();
	tsc_khz = khz;
	vm = fake_vm_create(nr_vcpus, RAM);
	vm->cpu_model = &model;
	vm->boot_tsc = FAKE_TSC_START;
	assert_int_equal(cpu_model_build(&model, &fake_amd, &config), 0);
	for (u32 i = 0; i < nr_vcpus; i++) {
		vm->vcpus[i]->pv = calloc(1, sizeof(struct kvm_pv));
		vm->vcpus[i]->lapic = calloc(1, sizeof(struct lapic));
		vcpu_set_reg(vm->vcpus[i], VREG_EFER, X86_EFER_LME | X86_EFER_LMA);
		vcpu_set_segment(vm->vcpus[i], SEG_CS, &long_cs);
	}
	vcpu = vm->vcpus[0];
	eois = nr_sent = 0;
	sent_vector = sent_delivery = 0;
	refusing = 0;
}

static void free_vm(void) {
	for (u32 i = 0; i < vm->nr_vcpus; i++) {
		free(vm->vcpus[i]->pv);
		free(vm->vcpus[i]->lapic);
	}
	fake_vm_destroy(vm);
}

static int set_up(void **state) {
	(void)state;
	make_vm(NR_VCPUS, FAKE_TSC_KHZ);
	return 0;
}

static int tear_down(void **state) {
	(void)state;
	free_vm();
	return 0;
}

static u64 read_msr(struct vcpu *v, u32 msr) {
	u64 value;

	assert_int_equal(kvm_pv_msr_read(v, msr, &value), 0);
	return value;
}

static void write_msr(struct vcpu *v, u32 msr, u64 value) {
	assert_int_equal(kvm_pv_msr_write(v, msr, value), 0);
	assert_int_equal(read_msr(v, msr), value);
}

static struct time_info time_info(gpa_t gpa) {
	struct time_info info;

	memcpy(&info, fake_ram(vm) + gpa, sizeof(info));
	return info;
}

/* What a guest computes: nanoseconds since its start, from the structure and its own TSC. */
static u64 guest_ns(const struct time_info *info, struct vcpu *v) {
	u64 ticks = time_tsc() + v->tsc_offset - info->tsc_timestamp;

	if (info->shift < 0)
		ticks >>= -info->shift;
	else
		ticks <<= info->shift;
	return (u64)((unsigned __int128)ticks * info->mul >> 32) + info->system_time;
}

/* ---- clock ---- */

static void test_clock_counts_from_the_start(void **state) {
	static const u64 khz[] = {1000, 999999, 1000000, 1000001, 2000000, 2593906, 4294967};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(khz); i++) {
		struct time_info info;
		u64 hour = 3600ul * 1000000000;

		free_vm();
		make_vm(1, khz[i]);
		write_msr(vcpu, MSR_KVM_SYSTEM_TIME, 0x1000 | 1);
		info = time_info(0x1000);
		assert_int_equal(info.version & 1, 0);
		assert_true(info.version != 0);
		assert_int_equal(info.flags, 1);
		assert_true(info.mul >> 31);
		assert_int_equal(guest_ns(&info, vcpu), 0);
		fake_advance(khz[i] * 1000 * 3600);
		/* 1 part in 10^9 */
		assert_in_range(guest_ns(&info, vcpu), hour - hour / 1000000000, hour);
	}
}

static void test_clock_says_the_tsc_frequency(void **state) {
	(void)state;
	free_vm();
	make_vm(1, 2593906);
	write_msr(vcpu, MSR_KVM_SYSTEM_TIME, 0x1001);
	struct time_info info = time_info(0x1000);
	/* The way Linux derives it: 10^6 * 2^32 / mul, shifted back. */
	u64 khz = (1000000ul << 32) / info.mul;
	khz = info.shift < 0 ? khz << -info.shift : khz >> info.shift;
	assert_in_range(khz, 2593905, 2593907);
}

static void test_clock_moves_with_the_tsc(void **state) {
	(void)state;
	write_msr(vcpu, MSR_KVM_SYSTEM_TIME, 0x1001);
	fake_advance_ns(5000);
	struct time_info before = time_info(0x1000);
	assert_int_equal(guest_ns(&before, vcpu), 5000);
	vcpu->tsc_offset += 123456789;
	kvm_pv_tsc_changed(vcpu);
	struct time_info info = time_info(0x1000);
	assert_int_equal(guest_ns(&info, vcpu), 5000);
	assert_int_equal(info.version, before.version + 2);
	for (u32 i = 1; i < NR_VCPUS; i++)
		assert_int_equal(fake_take_requests(vm->vcpus[i]), REQ_CLOCK);
}

static void test_stable_only_while_all_tscs_agree(void **state) {
	(void)state;
	write_msr(vcpu, MSR_KVM_SYSTEM_TIME, 0x1001);
	write_msr(vm->vcpus[2], MSR_KVM_SYSTEM_TIME, 0x1041);
	assert_int_equal(time_info(0x1000).flags, 1);
	assert_int_equal(time_info(0x1040).flags, 1);
	vm->vcpus[2]->tsc_offset = 1;
	kvm_pv_tsc_changed(vm->vcpus[2]);
	guest_clock_update(vcpu); /* what REQ_CLOCK leads to */
	assert_int_equal(time_info(0x1000).flags, 0);
	assert_int_equal(time_info(0x1040).flags, 0);
	vm->vcpus[2]->tsc_offset = 0;
	kvm_pv_tsc_changed(vm->vcpus[2]);
	assert_int_equal(time_info(0x1040).flags, 1);
}

static void test_clock_at_addresses_that_are_not_usable(void **state) {
	static const u64 bad[] = {RAM | 1,     (RAM - 28) | 1, 0xff0 | 1,      0xfe4 | 1,
				  0x1002 | 1,  ~0ul,	       BIT(63) | 1,    0x1000,
				  BIT(52) | 1, ~0ul << 12 | 1, (~0ul - 30) | 1};
	u8 *ram = fake_ram(vm);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		write_msr(vcpu, MSR_KVM_SYSTEM_TIME, bad[i]);
		guest_clock_update(vcpu);
		for (size_t at = 0; at < RAM; at++) assert_int_equal(ram[at], 0);
	}
	write_msr(vcpu, MSR_KVM_SYSTEM_TIME, (RAM - 32) | 1); /* the last place */
	assert_int_equal(time_info(RAM - 32).flags, 1);
	write_msr(vcpu, MSR_KVM_SYSTEM_TIME, 0x1004 | 1); /* aligned to 4 is enough */
	assert_int_equal(time_info(0x1004).flags, 1);
}

static void test_old_numbers_are_the_same_registers(void **state) {
	(void)state;
	write_msr(vcpu, MSR_KVM_SYSTEM_TIME_OLD, 0x1001);
	assert_int_equal(read_msr(vcpu, MSR_KVM_SYSTEM_TIME), 0x1001);
	assert_int_equal(time_info(0x1000).flags, 1);
	write_msr(vcpu, MSR_KVM_WALL_CLOCK_OLD, 0x2000);
	assert_int_equal(read_msr(vcpu, MSR_KVM_WALL_CLOCK), 0x2000);
}

/* The guest's own writes to the version do not confuse the next update. */
static void test_version_is_the_hypervisors(void **state) {
	u32 odd = 7;

	(void)state;
	write_msr(vcpu, MSR_KVM_SYSTEM_TIME, 0x1001);
	memcpy(fake_ram(vm) + 0x1000, &odd, sizeof(odd));
	guest_clock_update(vcpu);
	assert_int_equal(time_info(0x1000).version, 4);
}

static void test_wall_clock_is_the_time_of_the_start(void **state) {
	struct wall_clock wall;

	(void)state;
	fake_advance_ns(2500000000);
	write_msr(vcpu, MSR_KVM_WALL_CLOCK, 0x2000);
	memcpy(&wall, fake_ram(vm) + 0x2000, sizeof(wall));
	assert_int_equal(wall.sec, 1700000000);
	assert_int_equal(wall.nsec, 0);
	assert_int_equal(wall.version, 2);
	fake_wall_clock_base_ns += 1500000000;
	write_msr(vcpu, MSR_KVM_WALL_CLOCK, 0x2000);
	memcpy(&wall, fake_ram(vm) + 0x2000, sizeof(wall));
	assert_int_equal(wall.sec, 1700000001);
	assert_int_equal(wall.nsec, 500000000);
	assert_int_equal(wall.version, 4);
	write_msr(vcpu, MSR_KVM_WALL_CLOCK, RAM - 8);
	write_msr(vcpu, MSR_KVM_WALL_CLOCK, ~0ul);
}

/* ---- EOI ---- */

#define EOI_GPA 0x3000

static void in_service(u8 vector) {
	struct lapic *lapic = vcpu->lapic;

	lapic->isr[vector / 64] |= BIT(vector % 64);
	lapic->isr_words |= 1u << vector / 64;
}

static u8 *eoi_flag(void) { return fake_ram(vm) + EOI_GPA; }

static void test_eoi_offered_for_an_edge_interrupt(void **state) {
	(void)state;
	guest_after_accept(vcpu); /* not enabled */
	write_msr(vcpu, MSR_KVM_PV_EOI, EOI_GPA | 1);
	guest_after_accept(vcpu); /* nothing in service */
	assert_int_equal(*eoi_flag(), 0);
	in_service(0x41);
	guest_after_accept(vcpu);
	assert_int_equal(*eoi_flag(), 1);
	kvm_pv_eoi_sync(vcpu); /* not taken by the guest: withdrawn */
	assert_int_equal(*eoi_flag(), 0);
	assert_int_equal(eois, 0);
	guest_after_accept(vcpu);
	*eoi_flag() = 0; /* the guest's EOI */
	kvm_pv_eoi_sync(vcpu);
	assert_int_equal(eois, 1);
	kvm_pv_eoi_sync(vcpu);
	assert_int_equal(eois, 1); /* once */
}

static void test_eoi_that_must_be_seen_is_not_offered(void **state) {
	(void)state;
	write_msr(vcpu, MSR_KVM_PV_EOI, EOI_GPA | 1);
	in_service(0x41);
	atomic_store(&vcpu->lapic->tmr[1], BIT(1)); /* level: the IOAPIC waits for it */
	guest_after_accept(vcpu);
	assert_int_equal(*eoi_flag(), 0);
	atomic_store(&vcpu->lapic->tmr[1], 0);
	for (unsigned word = 0; word < 4; word++) { /* another one waits, of any priority */
		atomic_store(&vcpu->lapic->irr[word], BIT(63));
		guest_after_accept(vcpu);
		assert_int_equal(*eoi_flag(), 0);
		atomic_store(&vcpu->lapic->irr[word], 0);
	}
	in_service(0xc5); /* the highest counts */
	atomic_store(&vcpu->lapic->tmr[3], BIT(5));
	guest_after_accept(vcpu);
	assert_int_equal(*eoi_flag(), 0);
	atomic_store(&vcpu->lapic->tmr[3], 0);
	atomic_store(&vcpu->lapic->tmr[1], BIT(1));
	guest_after_accept(vcpu);
	assert_int_equal(*eoi_flag(), 1);
}

static void test_eoi_flag_leaves_its_neighbours_alone(void **state) {
	(void)state;
	memset(fake_ram(vm), 0xee, RAM);
	write_msr(vcpu, MSR_KVM_PV_EOI, EOI_GPA | 1);
	in_service(0x41);
	guest_after_accept(vcpu);
	assert_int_equal(*eoi_flag(), 0xef);
	kvm_pv_eoi_sync(vcpu);
	for (size_t at = 0; at < RAM; at++) assert_int_equal(fake_ram(vm)[at], 0xee);
}

static void test_eoi_address_is_checked_at_each_use(void **state) {
	static const u64 bad[] = {RAM | 1, ~0ul << 2 | 1, 0xffe1 | BIT(40)};

	(void)state;
	assert_int_equal(kvm_pv_msr_write(vcpu, MSR_KVM_PV_EOI, EOI_GPA | 3), E_INVAL);
	assert_int_equal(read_msr(vcpu, MSR_KVM_PV_EOI), 0);
	in_service(0x41);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		write_msr(vcpu, MSR_KVM_PV_EOI, bad[i]);
		guest_after_accept(vcpu);
		assert_false(vcpu->pv->eoi_armed);
		kvm_pv_eoi_sync(vcpu);
	}
	assert_int_equal(eois, 0);
}

static void test_eoi_survives_being_switched_off(void **state) {
	(void)state;
	write_msr(vcpu, MSR_KVM_PV_EOI, EOI_GPA | 1);
	in_service(0x41);
	guest_after_accept(vcpu);
	*eoi_flag() = 0;
	write_msr(vcpu, MSR_KVM_PV_EOI, 0); /* the EOI already made is not lost */
	assert_int_equal(eois, 1);
	write_msr(vcpu, MSR_KVM_PV_EOI, EOI_GPA | 1);
	guest_after_accept(vcpu);
	guest_vcpu_init(vcpu);
	assert_int_equal(vcpu->pv->eoi, 0);
	*eoi_flag() = 0;
	kvm_pv_eoi_sync(vcpu);
	assert_int_equal(eois, 1);
}

/* Roost never polls for a vCPU that halts: it only remembers what it was told. */
static void test_poll_control(void **state) {
	(void)state;
	assert_int_equal(read_msr(vcpu, MSR_KVM_POLL_CONTROL), 1); /* after a reset */
	write_msr(vcpu, MSR_KVM_POLL_CONTROL, 0);
	assert_int_equal(read_msr(vcpu, MSR_KVM_POLL_CONTROL), 0);
	assert_int_equal(kvm_pv_msr_write(vcpu, MSR_KVM_POLL_CONTROL, 2), E_INVAL);
	assert_int_equal(kvm_pv_msr_write(vcpu, MSR_KVM_POLL_CONTROL, BIT(63)), E_INVAL);
	assert_int_equal(read_msr(vcpu, MSR_KVM_POLL_CONTROL), 0);
	write_msr(vcpu, MSR_KVM_POLL_CONTROL, 1);
	assert_int_equal(read_msr(vcpu, MSR_KVM_POLL_CONTROL), 1);
}

/* ---- hypercalls ---- */

static u64 hypercall(u64 nr, u64 rbx, u64 rcx, u64 rdx, u64 rsi) {
	vcpu->gpr[RAX] = nr;
	vcpu->gpr[RBX] = rbx;
	vcpu->gpr[RCX] = rcx;
	vcpu->gpr[RDX] = rdx;
	vcpu->gpr[RSI] = rsi;
	nr_sent = 0;
	assert_int_equal(hypercall_exit(vcpu), ADVANCE);
	assert_int_equal(vcpu->gpr[RBX], rbx);
	assert_int_equal(vcpu->gpr[RCX], rcx);
	assert_int_equal(vcpu->gpr[RDX], rdx);
	assert_int_equal(vcpu->gpr[RSI], rsi);
	return vcpu->gpr[RAX];
}

static void leave_64bit(void) {
	struct segment cs = {.attr = SEG_ATTR_DB | SEG_ATTR_P};

	vcpu_set_segment(vcpu, SEG_CS, &cs);
}

static void test_unknown_hypercalls(void **state) {
	static const u64 numbers[] = {0, 2, 3, 4, 6, 9, 11, 12, 0x100000005, ~0ul};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		assert_int_equal(hypercall(numbers[i], 1, 2, 3, 4), (u64)-1000);
	assert_int_equal(hypercall(1, 0, 0, 0, 0), 0);
	leave_64bit();
	assert_int_equal(hypercall(99, 0, 0, 0, 0), 0xfffffc18);
	assert_int_equal(hypercall(0xabcd000000000001, 0, 0, 0, 0),
			 0); /* the upper half is not seen */
}

static void test_hypercalls_are_for_kernels(void **state) {
	(void)state;
	for (fake_cpl = 1; fake_cpl < 4; fake_cpl++) {
		assert_int_equal(hypercall(10, 1, 0, 1, 0x41), (u64)-1);
		assert_int_equal(hypercall(99, 0, 0, 0, 0), (u64)-1);
		assert_int_equal(nr_sent, 0);
	}
}

static void test_kick(void **state) {
	(void)state;
	assert_false(guest_take_kick(vm->vcpus[3]));
	assert_int_equal(hypercall(5, 0, 3, 0, 0), 0);
	assert_int_equal(fake_take_requests(vm->vcpus[3]), REQ_EVENT);
	assert_true(guest_take_kick(vm->vcpus[3]));
	assert_false(guest_take_kick(vm->vcpus[3]));
	assert_int_equal(hypercall(5, 0, NR_VCPUS, 0, 0), 0);
	assert_int_equal(hypercall(5, 0, ~0ul, 0, 0), 0);
	assert_int_equal(hypercall(5, 0, 0x100000001, 0, 0), 0);
	for (u32 i = 0; i < NR_VCPUS; i++) assert_false(guest_take_kick(vm->vcpus[i]));
}

static void test_send_ipi(void **state) {
	(void)state;
	assert_int_equal(hypercall(10, 0xb, 0, 0, 0xfd), 3);
	assert_int_equal(nr_sent, 3);
	assert_int_equal(sent[0], 0);
	assert_int_equal(sent[1], 1);
	assert_int_equal(sent[2], 3);
	assert_int_equal(sent_vector, 0xfd);
	assert_int_equal(sent_delivery, 0);
	assert_int_equal(hypercall(10, 1, 0, 2, 0x400), 1); /* NMI */
	assert_int_equal(sent[0], 2);
	assert_int_equal(sent_delivery, 4);
	refusing = BIT(1);
	assert_int_equal(hypercall(10, 3, 0, 0, 0xfd), 1);
	assert_int_equal(nr_sent, 2);
}

static void test_send_ipi_refuses_other_messages(void **state) {
	static const u64 icrs[] = {0x141, 0x241, 0x341,	  0x541,   0x641,
				   0x741, 0x841, 0x40041, 0x80041, 0xc0041};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(icrs); i++) {
		assert_int_equal(hypercall(10, 1, 0, 0, icrs[i]), (u64)-22);
		assert_int_equal(nr_sent, 0);
	}
}

/* T-X4: no bitmap and no base reaches outside, wherever they point. */
static void test_T_X4_send_ipi_bounds(void **state) {
	static const u64 bases[] = {0,
				    1,
				    2,
				    62,
				    63,
				    64,
				    65,
				    127,
				    128,
				    255,
				    256,
				    BIT(31),
				    BIT(31) - 1,
				    UINT32_MAX - 128,
				    UINT32_MAX - 64,
				    UINT32_MAX - 1,
				    UINT32_MAX};
	static const u64 maps[] = {0, 1, 3, 0x5555555555555555, 0x8000000000000001, BIT(63), ~0ul};
	static const u32 sizes[] = {1, 2, 3, 63, 64};

	(void)state;
	assert_int_equal(hypercall(10, 0xffffffff, 0, 0xffffffff, 0), 0);
	for (size_t n = 0; n < ARRAY_SIZE(sizes); n++)
		for (unsigned wide = 0; wide < 2; wide++) {
			u32 bits = wide ? 64 : 32;

			free_vm();
			make_vm(sizes[n], FAKE_TSC_KHZ);
			if (!wide) leave_64bit();
			for (size_t b = 0; b < ARRAY_SIZE(bases); b++)
				for (size_t l = 0; l < ARRAY_SIZE(maps); l++)
					for (size_t h = 0; h < ARRAY_SIZE(maps); h++) {
						u32 expected = 0;

						/* One bit of the request after the other. */
						for (u64 bit = 0; bit < 2 * bits; bit++) {
							u64 word = bit < bits ? maps[l] : maps[h];

							if ((word >> bit % bits & 1) &&
							    bases[b] + bit < sizes[n])
								expected++;
						}
						assert_int_equal(hypercall(10, maps[l], maps[h],
									   bases[b], 0x41),
								 expected);
						assert_int_equal(nr_sent, expected);
					}
		}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void) {
	const struct CMUnitTest tests[] = {
		TEST(test_clock_counts_from_the_start),
		TEST(test_clock_says_the_tsc_frequency),
		TEST(test_clock_moves_with_the_tsc),
		TEST(test_stable_only_while_all_tscs_agree),
		TEST(test_clock_at_addresses_that_are_not_usable),
		TEST(test_old_numbers_are_the_same_registers),
		TEST(test_version_is_the_hypervisors),
		TEST(test_wall_clock_is_the_time_of_the_start),
		TEST(test_eoi_offered_for_an_edge_interrupt),
		TEST(test_eoi_that_must_be_seen_is_not_offered),
		TEST(test_eoi_flag_leaves_its_neighbours_alone),
		TEST(test_eoi_address_is_checked_at_each_use),
		TEST(test_eoi_survives_being_switched_off),
		TEST(test_poll_control),
		TEST(test_unknown_hypercalls),
		TEST(test_hypercalls_are_for_kernels),
		TEST(test_kick),
		TEST(test_send_ipi),
		TEST(test_send_ipi_refuses_other_messages),
		TEST(test_T_X4_send_ipi_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
