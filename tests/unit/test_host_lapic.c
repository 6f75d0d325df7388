// sources:
/* The host's local APIC in both of its modes, also when the firmware has switched x2APIC on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "drivers/lapic.h"
#include "lib/x86.h"

static u64 test_rdmsr(u32 msr);
static void test_wrmsr(u32 msr, u64 value);

/* The driver's own instructions, played by this test. */
#define rdmsr test_rdmsr
#define wrmsr test_wrmsr
#include "drivers/lapic.c"

#define BASE 0xfee00000u
#define BSP  0x100u
#define SENT 64

static u64 apic_base, x2apic[0x40];
static u8 xapic[4096];
static u64 sent[SENT];
static unsigned nr_sent;

static u64 test_rdmsr(u32 msr) {
	if (msr == X86_MSR_APIC_BASE) return apic_base;
	assert_in_range(msr, 0x800, 0x83f);
	assert_true(apic_base & APIC_BASE_EXTD); /* else it would be #GP */
	return x2apic[msr - 0x800];
}

static void test_wrmsr(u32 msr, u64 value) {
	if (msr == X86_MSR_APIC_BASE) {
		/* SDM 3A 11.12.5: neither EN nor EXTD may be cleared on its own. */
		assert_true(value & APIC_BASE_ENABLE);
		assert_true(value & APIC_BASE_EXTD || !(apic_base & APIC_BASE_EXTD));
		apic_base = value;
		return;
	}
	assert_in_range(msr, 0x800, 0x83f);
	assert_true(apic_base & APIC_BASE_EXTD);
	if (msr == 0x830)
		sent[nr_sent++ % SENT] = value;
	else
		assert_int_equal(value >> 32, 0);
	x2apic[msr - 0x800] = value;
}

static int setup(void **state) {
	(void)state;
	memset(x2apic, 0, sizeof(x2apic));
	memset(xapic, 0, sizeof(xapic));
	nr_sent = 0;
	return 0;
}

static u32 xapic_reg(u32 reg) {
	u32 value;

	memcpy(&value, xapic + reg, sizeof(value));
	return value;
}

/* The firmware's choice stays, and all goes through MSRs, with ids of 32 bits. */
static void test_x2apic_on_already(void **state) {
	(void)state;
	apic_base = BASE | BSP | APIC_BASE_ENABLE | APIC_BASE_EXTD;
	x2apic[REG_ID >> 4] = 0x12345;
	lapic_init_host(NULL);
	assert_int_equal(apic_base, BASE | BSP | APIC_BASE_ENABLE | APIC_BASE_EXTD);
	assert_true(lapic_is_x2apic());
	assert_int_equal(lapic_id_host(), 0x12345);
	assert_int_equal(x2apic[REG_SPURIOUS >> 4], SPURIOUS_ENABLE | 0xff);
	assert_int_equal(x2apic[REG_LVT_LINT0 >> 4], LVT_MASKED);
	lapic_send_ipi(0xabcde, 0xf0);
	lapic_send_init(0xabcde);
	lapic_send_startup(0xabcde, 0x9e);
	assert_int_equal(sent[0], 0xabcde000040f0);
	assert_int_equal(sent[1], 0xabcde00004500);
	assert_int_equal(sent[2], 0xabcde0000469e);
	lapic_timer_init(0xf1, false);
	lapic_timer_count(1000);
	assert_int_equal(x2apic[REG_COUNT >> 4], 1000);
	for (u32 i = 0; i < sizeof(xapic); i++) assert_int_equal(xapic[i], 0);
}

/* Another processor comes from its INIT in xAPIC mode and is brought into the boot processor's. */
static void test_other_processor_follows(void **state) {
	(void)state;
	apic_base = BASE | APIC_BASE_ENABLE;
	lapic_init_cpu();
	assert_int_equal(apic_base, BASE | APIC_BASE_ENABLE | APIC_BASE_EXTD);
	assert_int_equal(x2apic[REG_SPURIOUS >> 4], SPURIOUS_ENABLE | 0xff);
}

static void test_xapic(void **state) {
	u32 id = 7u << 24;

	(void)state;
	apic_base = BASE | BSP | APIC_BASE_ENABLE;
	memcpy(xapic + REG_ID, &id, sizeof(id));
	lapic_init_host(xapic);
	assert_int_equal(apic_base, BASE | BSP | APIC_BASE_ENABLE);
	assert_false(lapic_is_x2apic());
	assert_int_equal(lapic_id_host(), 7);
	assert_int_equal(xapic_reg(REG_SPURIOUS), SPURIOUS_ENABLE | 0xff);
	lapic_send_ipi(5, 0xf0);
	assert_int_equal(xapic_reg(REG_ICR_HIGH), 5u << 24);
	assert_int_equal(xapic_reg(REG_ICR), 0x40f0);
	/* One that stays busy does not hold us up for ever. */
	memcpy(xapic + REG_ICR, &(u32){ICR_BUSY}, sizeof(u32));
	lapic_send_ipi(6, 0xf1);
	assert_int_equal(xapic_reg(REG_ICR), 0x40f1);
	assert_int_equal(nr_sent, 0);
}

int main(void) {
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_x2apic_on_already, setup),
		cmocka_unit_test_setup(test_other_processor_follows, setup),
		cmocka_unit_test_setup(test_xapic, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
