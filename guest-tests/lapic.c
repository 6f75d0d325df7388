/*
 * The local APIC of one CPU: registers, priorities, IPIs to itself, its timer; first by MMIO, then
 * in x2APIC mode (SDM 3A chapter 11, APM 2 chapter 16).
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/page.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "lapic";

#define LOW_VECTOR    0x51
#define HIGH_VECTOR   0x71
#define NO_EOI_VECTOR 0x61 /* its handler leaves that to the test */
#define MAX_LOG	      16

static u8 order[MAX_LOG];
static unsigned hits;
static bool isr_seen, irr_seen;
static u32 ppr_seen;

static void on_vector(struct regs *r) {
	u8 vector = (u8)r->vector;

	if (hits < MAX_LOG) order[hits] = vector;
	hits++;
	isr_seen = lapic_bit(LAPIC_ISR, vector);
	irr_seen = lapic_bit(LAPIC_IRR, vector);
	ppr_seen = lapic_read(LAPIC_PPR);
	lapic_eoi();
}

static void on_no_eoi(struct regs *r) {
	(void)r;
	hits++;
}

static unsigned nmis;

static void on_nmi(struct regs *r) {
	(void)r;
	nmis++;
}

static void window(void) {
	for (unsigned i = 0; i < 100; i++) cpu_irq_window();
}

static void self_ipi(u8 vector) { lapic_send(0, ICR_SELF | vector); }

static void test_registers(void) {
	static const u16 lvts[] = {LAPIC_LVT_TIMER, LAPIC_LVT_LINT0, LAPIC_LVT_LINT1,
				   LAPIC_LVT_ERROR};
	u32 version = lapic_read(LAPIC_VERSION);

	check_range("version", version & 0xff, 0x10, 0x1f);
	check_range("highest LVT entry", version >> 16 & 0xff, 3, 6);
	for (unsigned i = 0; i < ARRAY_SIZE(lvts); i++) {
		lapic_write(lvts[i], LVT_MASKED | 0x52);
		check_eq(name_of("LVT 0x%x reads back", lvts[i]), lapic_read(lvts[i]),
			 LVT_MASKED | 0x52);
	}
	lapic_write(LAPIC_SVR, 0x1ff);
	check_eq("SVR reads back", lapic_read(LAPIC_SVR) & 0x1ff, 0x1ff);
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
	check_eq("divide register reads back", lapic_read(LAPIC_TIMER_DIVIDE), DIVIDE_BY_1);
}

static void test_xapic_registers(void) {
	lapic_write(LAPIC_DFR, 0x0fffffff);
	check_eq("DFR: bits 27:0 are ones", lapic_read(LAPIC_DFR), 0x0fffffff);
	lapic_write(LAPIC_DFR, 0xffffffff);
	lapic_write(LAPIC_LDR, 0xffffffff);
	check_eq("LDR: only bits 31:24 are kept", lapic_read(LAPIC_LDR), 0xff000000);
	lapic_write(LAPIC_LDR, 0x01000000);
	lapic_write(LAPIC_ICR_HIGH, 0x05000000);
	check_eq("ICR: the destination reads back", lapic_read(LAPIC_ICR_HIGH) & 0xff000000,
		 0x05000000);
}

static void test_tpr(void) {
	u64 cr8;

	lapic_write(LAPIC_TPR, 0x40);
	__asm__ volatile("mov %%cr8, %0" : "=r"(cr8));
	check_eq("CR8 is TPR >> 4", cr8, 4);
	__asm__ volatile("mov %0, %%cr8" : : "r"(7ul));
	check_eq("TPR is CR8 << 4", lapic_read(LAPIC_TPR), 0x70);
	check_eq("PPR follows the TPR", lapic_read(LAPIC_PPR) & 0xf0, 0x70);
	lapic_write(LAPIC_TPR, 0);
	__asm__ volatile("mov %%cr8, %0" : "=r"(cr8));
	check_eq("CR8 is 0 again", cr8, 0);
}

static void test_self_ipi(const char *mode) {
	hits = 0;
	self_ipi(LOW_VECTOR);
	check_eq(name_of("%s: self IPI waits while IF is clear", mode), hits, 0);
	check(name_of("%s: it is in IRR", mode), lapic_bit(LAPIC_IRR, LOW_VECTOR));
	window();
	check_eq(name_of("%s: delivered once", mode), hits, 1);
	check(name_of("%s: in ISR while handled", mode), isr_seen);
	check(name_of("%s: out of IRR while handled", mode), !irr_seen);
	check_eq(name_of("%s: PPR is the vector's class while handled", mode), ppr_seen & 0xf0,
		 LOW_VECTOR & 0xf0);
	check(name_of("%s: out of ISR after EOI", mode), !lapic_bit(LAPIC_ISR, LOW_VECTOR));

	hits = 0;
	self_ipi(LOW_VECTOR);
	self_ipi(LOW_VECTOR);
	window();
	check_eq(name_of("%s: the same vector twice is delivered once", mode), hits, 1);

	hits = 0;
	self_ipi(LOW_VECTOR);
	self_ipi(HIGH_VECTOR);
	window();
	check(name_of("%s: the higher vector comes first", mode),
	      hits == 2 && order[0] == HIGH_VECTOR && order[1] == LOW_VECTOR);
}

static void test_priority(void) {
	hits = 0;
	lapic_write(LAPIC_TPR, 0x60);
	self_ipi(LOW_VECTOR);
	self_ipi(HIGH_VECTOR);
	window();
	check("TPR 0x60 lets only the higher class through", hits == 1 && order[0] == HIGH_VECTOR);
	lapic_write(LAPIC_TPR, 0x50);
	window();
	check_eq("TPR of the vector's own class blocks", hits, 1);
	lapic_write(LAPIC_TPR, 0x4f);
	window();
	check_eq("a lower TPR lets it through", hits, 2);

	hits = 0;
	__asm__ volatile("mov %0, %%cr8" : : "r"(15ul));
	self_ipi(HIGH_VECTOR);
	window();
	check_eq("CR8 = 15 blocks all", hits, 0);
	cpu_sti();
	__asm__ volatile("mov %0, %%cr8\n\tnop" : : "r"(0ul));
	cpu_cli();
	check_eq("CR8 = 0 delivers at once", hits, 1);
	lapic_write(LAPIC_TPR, 0);
}

static unsigned depth, deepest;

/* Opens interrupts in its handler: only a higher class may come in between. */
static void on_nesting(struct regs *r) {
	u8 vector = (u8)r->vector;

	if (hits < MAX_LOG) order[hits] = vector;
	hits++;
	depth++;
	if (depth > deepest) deepest = depth;
	if (vector == LOW_VECTOR) {
		self_ipi(HIGH_VECTOR);
		self_ipi(LOW_VECTOR - 1);
	}
	cpu_sti();
	window();
	cpu_cli();
	depth--;
	lapic_eoi();
}

static void test_nesting(void) {
	hits = depth = deepest = 0;
	trap_set_handler(LOW_VECTOR - 1, on_nesting);
	trap_set_handler(LOW_VECTOR, on_nesting);
	trap_set_handler(HIGH_VECTOR, on_nesting);
	self_ipi(LOW_VECTOR);
	window();
	check_eq("three interrupts", hits, 3);
	check("a higher class interrupts the handler, the same class waits",
	      deepest == 2 && order[0] == LOW_VECTOR && order[1] == HIGH_VECTOR &&
		      order[2] == LOW_VECTOR - 1);
	trap_set_handler(LOW_VECTOR - 1, on_vector);
	trap_set_handler(LOW_VECTOR, on_vector);
	trap_set_handler(HIGH_VECTOR, on_vector);
}

static void expect_hits(const char *name, unsigned expected) {
	window();
	check_eq(name, hits, expected);
	hits = 0;
}

/* Destinations that are, and are not, this CPU. */
static void test_destinations(void) {
	u32 id = lapic_id();

	hits = 0;
	lapic_send(id, LOW_VECTOR);
	expect_hits("physical: own id", 1);
	lapic_send(id + 100, LOW_VECTOR);
	expect_hits("physical: another id", 0);
	lapic_send(0xff, LOW_VECTOR);
	expect_hits("physical: broadcast", 1);
	lapic_send(0, ICR_ALL | LOW_VECTOR);
	expect_hits("shorthand: all", 1);
	lapic_send(0, ICR_OTHERS | LOW_VECTOR);
	expect_hits("shorthand: others", 0);
	lapic_write(LAPIC_DFR, 0xffffffff);
	lapic_write(LAPIC_LDR, 0x04000000);
	lapic_send(0x04, ICR_LOGICAL | LOW_VECTOR);
	expect_hits("logical flat: own bit", 1);
	lapic_send(0x0c, ICR_LOGICAL | LOW_VECTOR);
	expect_hits("logical flat: own bit and another", 1);
	lapic_send(0x08, ICR_LOGICAL | LOW_VECTOR);
	expect_hits("logical flat: another bit", 0);
	lapic_send(0x04, ICR_LOGICAL | ICR_LOWEST | LOW_VECTOR);
	expect_hits("logical flat: lowest priority", 1);
	lapic_write(LAPIC_DFR, 0x0fffffff);
	lapic_write(LAPIC_LDR, 0x32000000); /* cluster 3, member bit 1 */
	lapic_send(0x32, ICR_LOGICAL | LOW_VECTOR);
	expect_hits("logical cluster: own cluster and bit", 1);
	lapic_send(0x31, ICR_LOGICAL | LOW_VECTOR);
	expect_hits("logical cluster: own cluster, another bit", 0);
	lapic_send(0x22, ICR_LOGICAL | LOW_VECTOR);
	expect_hits("logical cluster: another cluster", 0);
	lapic_write(LAPIC_DFR, 0xffffffff);
}

static void test_nmi(void) {
	nmis = 0;
	lapic_send(lapic_id(), ICR_NMI);
	for (unsigned i = 0; i < 1000 && !nmis; i++) cpu_pause();
	check_eq("NMI to itself, with IF clear", nmis, 1);
}

static void test_error(void) {
	lapic_write(LAPIC_ESR, 0);
	lapic_write(LAPIC_ESR, 0);
	check_eq("ESR is clear", lapic_read(LAPIC_ESR), 0);
	if (on_bare_tcg()) {
		skip("ESR: illegal vector", "TCG notes none");
		return;
	}
	self_ipi(5);
	lapic_write(LAPIC_ESR, 0);
	check_ne("ESR: illegal vector sent or received", lapic_read(LAPIC_ESR) & 0x60, 0);
	lapic_write(LAPIC_ESR, 0);
	check_eq("ESR is clear again", lapic_read(LAPIC_ESR), 0);
}

static void test_software_disable(void) {
	if (on_bare_tcg()) {
		skip("software disable", "TCG does not mask the LVT");
		return;
	}
	hits = 0;
	lapic_write(LAPIC_LVT_ERROR, 0x52);
	lapic_write(LAPIC_SVR, VECTOR_SPURIOUS);
	check_eq("software disabled: LVTs are masked", lapic_read(LAPIC_LVT_ERROR) & LVT_MASKED,
		 LVT_MASKED);
	lapic_write(LAPIC_LVT_ERROR, 0x52);
	check_eq("software disabled: the mask cannot be cleared",
		 lapic_read(LAPIC_LVT_ERROR) & LVT_MASKED, LVT_MASKED);
	self_ipi(LOW_VECTOR);
	expect_hits("software disabled: fixed interrupts are not taken", 0);
	lapic_write(LAPIC_SVR, 0x100 | VECTOR_SPURIOUS);
	lapic_write(LAPIC_LVT_ERROR, LVT_MASKED);
	expect_hits("enabled again: nothing was kept", 0);
}

static void wait_hits(unsigned wanted, u64 us) {
	u64 end = rdtsc() + us_to_tsc(us);

	while (hits < wanted && rdtsc() < end) cpu_irq_window();
}

static void test_timer(const char *mode) {
	hits = 0;
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | LOW_VECTOR);
	lapic_write(LAPIC_TIMER_INIT, 0xffffffff);
	u32 first = lapic_read(LAPIC_TIMER_NOW);
	delay_us(100);
	u32 later = lapic_read(LAPIC_TIMER_NOW);
	check(name_of("%s timer: counts down", mode), later < first);
	lapic_write(LAPIC_TIMER_INIT, 0);
	check_eq(name_of("%s timer: count 0 stops it", mode), lapic_read(LAPIC_TIMER_NOW), 0);

	lapic_write(LAPIC_LVT_TIMER, LOW_VECTOR);
	lapic_write(LAPIC_TIMER_INIT, 100000);
	wait_hits(1, 100000);
	delay_us(1000);
	window();
	check_eq(name_of("%s timer: one-shot fires once", mode), hits, 1);
	check_eq(name_of("%s timer: count is 0 afterwards", mode), lapic_read(LAPIC_TIMER_NOW), 0);
	check_eq(name_of("%s timer: initial count is kept", mode), lapic_read(LAPIC_TIMER_INIT),
		 100000);

	hits = 0;
	lapic_write(LAPIC_LVT_TIMER, LVT_PERIODIC | LOW_VECTOR);
	lapic_write(LAPIC_TIMER_INIT, 3000000);
	wait_hits(5, 10000000);
	lapic_write(LAPIC_TIMER_INIT, 0);
	check_range(name_of("%s timer: periodic goes on", mode), hits, 5, 7);
	window();
	hits = 0;
	delay_us(2000);
	window();
	check_eq(name_of("%s timer: stopped", mode), hits, 0);

	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | LOW_VECTOR);
	lapic_write(LAPIC_TIMER_INIT, 1000);
	delay_us(1000);
	window();
	check_eq(name_of("%s timer: masked, nothing is delivered", mode), hits, 0);
	lapic_write(LAPIC_TIMER_INIT, 0);
}

static u64 read_count(void) { return lapic_read(LAPIC_TIMER_NOW); }

/* Counts per second of the timer, divided as it is, over 5 ms. */
static u64 timer_rate(void) {
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED | LOW_VECTOR);
	lapic_write(LAPIC_TIMER_INIT, 0xffffffff);
	struct sample first = take_sample(read_count);
	delay_us(5000);
	struct sample last = take_sample(read_count);
	return (first.value - last.value) * (tsc_hz() / 1000) / ((last.tsc - first.tsc) / 1000);
}

static void test_divide(void) {
	static const u8 codes[] = {0xb, 0, 1, 2, 3, 8, 9, 0xa};
	u64 base = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
		lapic_write(LAPIC_TIMER_DIVIDE, codes[i]);
		if (i == 0)
			base = timer_rate();
		else
			check_range(name_of("timer: divided by %u", 1u << i), timer_rate() << i,
				    base / 100 * 95, base / 100 * 105);
	}
	lapic_write(LAPIC_TIMER_INIT, 0);
	lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
}

static void test_deadline(const char *mode) {
	if (!cpuid_bit(1, 2, 24)) {
		skip(name_of("%s deadline timer", mode), "not offered");
		return;
	}
	hits = 0;
	lapic_write(LAPIC_LVT_TIMER, LVT_DEADLINE | LOW_VECTOR);
	lapic_write(LAPIC_TIMER_INIT, 1000);
	check_eq(name_of("%s deadline: the initial count is ignored", mode),
		 lapic_read(LAPIC_TIMER_NOW), 0);
	u64 now = rdtsc() + us_to_tsc(50000);
	wrmsr(X86_MSR_TSC_DEADLINE, now);
	check_eq(name_of("%s deadline: reads back while armed", mode), rdmsr(X86_MSR_TSC_DEADLINE),
		 now);
	wait_hits(1, 1000000);
	check(name_of("%s deadline: not before its time", mode), rdtsc() >= now);
	check_eq(name_of("%s deadline: fires once", mode), hits, 1);
	check_eq(name_of("%s deadline: reads 0 afterwards", mode), rdmsr(X86_MSR_TSC_DEADLINE), 0);

	hits = 0;
	wrmsr(X86_MSR_TSC_DEADLINE, 1);
	wait_hits(1, 10000);
	check_eq(name_of("%s deadline: one in the past fires at once", mode), hits, 1);

	hits = 0;
	wrmsr(X86_MSR_TSC_DEADLINE, rdtsc() + us_to_tsc(20000));
	wrmsr(X86_MSR_TSC_DEADLINE, 0);
	wait_hits(1, 30000);
	check_eq(name_of("%s deadline: 0 disarms", mode), hits, 0);

	wrmsr(X86_MSR_TSC_DEADLINE, rdtsc() + us_to_tsc(20000));
	lapic_write(LAPIC_LVT_TIMER, LOW_VECTOR);
	wait_hits(1, 30000);
	check_eq(name_of("%s deadline: another mode disarms", mode), hits, 0);
	check_eq(name_of("%s deadline: reads 0 in another mode", mode), rdmsr(X86_MSR_TSC_DEADLINE),
		 0);
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
}

static void test_mode_switch(void) {
	u64 base = rdmsr(X86_MSR_APIC_BASE), value;

	check_eq("APIC_BASE: address", base & GENMASK(51, 12), LAPIC_BASE);
	check_eq("APIC_BASE: enabled, boot CPU, xAPIC", base & 0xd00, 0x900);
	if (on_bare_tcg()) {
		skip("APIC_BASE: reserved bits and x2APIC MSRs", "TCG checks none");
		return;
	}
	check_eq("APIC_BASE: bit 0 is reserved: #GP", msr_write(X86_MSR_APIC_BASE, base | 1),
		 X86_GP);
	check_eq("APIC_BASE: bit 63 is reserved: #GP", msr_write(X86_MSR_APIC_BASE, base | BIT(63)),
		 X86_GP);
	check_eq("APIC_BASE: x2APIC without enable: #GP",
		 msr_write(X86_MSR_APIC_BASE, (base & ~APIC_BASE_ENABLE) | APIC_BASE_X2APIC),
		 X86_GP);
	check_eq("x2APIC MSR in xAPIC mode: #GP", msr_read(0x802, &value), X86_GP);
	check_eq("x2APIC EOI in xAPIC mode: #GP", msr_write(0x80b, 0), X86_GP);
}

#define OTHER_BASE 0xfee10000ul
#define TABLE_VA   (TEST_VA + MiB(2))

static void test_moved(void) {
	u64 base = rdmsr(X86_MSR_APIC_BASE);
	volatile u32 *here = (volatile u32 *)LAPIC_BASE, *there = (volatile u32 *)OTHER_BASE;

	wrmsr(X86_MSR_APIC_BASE, (base & 0xfff) | OTHER_BASE);
	mmio_write32(there + LAPIC_TPR / 4, 0x30);
	check_eq("moved: TPR at the new place", mmio_read32(there + LAPIC_TPR / 4), 0x30);
	mmio_write32(here + LAPIC_TPR / 4, 0x70);
	check_eq("moved: nothing at the old one", mmio_read32(here + LAPIC_TPR / 4), ~0u);
	check_eq("moved: it takes no writes", mmio_read32(there + LAPIC_TPR / 4), 0x30);
	mmio_write32(there + LAPIC_TPR / 4, 0);
	hits = 0;
	mmio_write32(there + LAPIC_ICR / 4, ICR_SELF | NO_EOI_VECTOR);
	window();
	check_eq("moved: self IPI", hits, 1);
	mmio_write32(there + LAPIC_EOI / 4, 0);
	wrmsr(X86_MSR_APIC_BASE, base);
	check_eq("moved back: TPR", lapic_read(LAPIC_TPR), 0);
	check("moved back: nothing is in service", !lapic_bit(LAPIC_ISR, NO_EOI_VECTOR));
	check_eq("moved back: nothing there", mmio_read32(there + LAPIC_TPR / 4), ~0u);
	test_self_ipi("moved back");
}

/* Code, page tables and operands of all sizes where the registers are. */
static void test_odd_accesses(void) {
	u64 value = LAPIC_BASE;

	__asm__ volatile(TRY "jmp *%0" END_TRY : : "r"(value) : TRY_SPOILS);
	check_eq("code in the registers: #UD", trap_taken().vector, X86_UD);
	*page_entry(TABLE_VA, 2) = LAPIC_BASE | PTE_PRESENT | PTE_WRITE;
	__asm__ volatile(TRY "mov 0x123(%1), %%al\n\tmovzx %%al, %0" END_TRY
			 : "=a"(value)
			 : "r"(TABLE_VA)
			 : TRY_SPOILS);
	check_eq("a page table in the registers: #PF", trap_taken().vector, X86_PF);
	*page_entry(TABLE_VA, 2) = 0;
	check_eq("ID: its bytes are read", *(volatile u8 *)(LAPIC_BASE + LAPIC_SVR),
		 lapic_read(LAPIC_SVR) & 0xff);
	check_eq("8 bytes are no access", *(volatile u64 *)(LAPIC_BASE + LAPIC_SVR), 0);
	mmio_write32((volatile void *)(LAPIC_BASE + LAPIC_ID), 0x7f000000);
	check_eq("the id is read-only", lapic_id(), 0);
	mmio_write32((volatile void *)(LAPIC_BASE + LAPIC_VERSION), 0);
	check_ne("the version is read-only", lapic_read(LAPIC_VERSION), 0);
	mmio_write32((volatile void *)(LAPIC_BASE + LAPIC_ISR), ~0u);
	check_eq("ISR is read-only", lapic_read(LAPIC_ISR), 0);
	__asm__ volatile("orl %1, %0"
			 : "+m"(*(volatile u32 *)(LAPIC_BASE + LAPIC_TPR))
			 : "r"(0x35)
			 : "cc");
	__asm__ volatile("lock; addl %1, %0"
			 : "+m"(*(volatile u32 *)(LAPIC_BASE + LAPIC_TPR))
			 : "r"(0x11)
			 : "cc");
	check_eq("read, change and write", lapic_read(LAPIC_TPR), 0x46);
	lapic_write(LAPIC_TPR, 0);
	lapic_write(LAPIC_ESR, 0); /* of registers that are not there */
	lapic_write(LAPIC_ESR, 0);
}

static void test_x2apic(void) {
	u32 id = lapic_id();
	u64 value;

	lapic_enter_x2apic();
	u64 base = rdmsr(X86_MSR_APIC_BASE);
	check_eq("x2APIC: APIC_BASE shows it", base & 0xc00, 0xc00);
	check_eq("x2APIC: the id is kept", lapic_read(LAPIC_ID), id);
	check_eq("x2APIC: LDR is made of the id", lapic_read(LAPIC_LDR),
		 (id >> 4) << 16 | 1u << (id & 15));
	check_eq("x2APIC: LDR is read-only: #GP", msr_write(0x80d, 0), X86_GP);
	check_eq("x2APIC: the id is read-only: #GP", msr_write(0x802, 0), X86_GP);
	check_eq("x2APIC: no DFR: #GP", msr_read(0x80e, &value), X86_GP);
	check_eq("x2APIC: no second half of ICR: #GP", msr_read(0x831, &value), X86_GP);
	check_eq("x2APIC: EOI takes only 0: #GP", msr_write(0x80b, 1), X86_GP);
	check_eq("x2APIC: EOI is write-only: #GP", msr_read(0x80b, &value), X86_GP);
	check_eq("x2APIC: ESR takes only 0: #GP", msr_write(0x828, 1), X86_GP);
	check_eq("x2APIC: SELF IPI is write-only: #GP", msr_read(0x83f, &value), X86_GP);
	check_eq("x2APIC: TPR bits 63:8 are reserved: #GP", msr_write(0x808, 0x100), X86_GP);
	check_eq("x2APIC: LVT reserved bits: #GP", msr_write(0x832, BIT(20)), X86_GP);
	check_eq("x2APIC: current count is read-only: #GP", msr_write(0x839, 1), X86_GP);
	check_eq("x2APIC: back to xAPIC directly: #GP",
		 msr_write(X86_MSR_APIC_BASE, base & ~APIC_BASE_X2APIC), X86_GP);
	for (u32 msr = 0x840; msr < 0x900; msr++)
		if (msr_read(msr, &value) != X86_GP)
			check_eq(name_of("x2APIC: MSR 0x%x does not exist: #GP", msr), 0, X86_GP);

	test_self_ipi("x2APIC");
	hits = 0;
	wrmsr(0x83f, LOW_VECTOR);
	expect_hits("x2APIC: SELF IPI register", 1);
	lapic_send(id, LOW_VECTOR);
	expect_hits("x2APIC: physical, own id", 1);
	lapic_send(id + 0x1000, LOW_VECTOR);
	expect_hits("x2APIC: physical, another id", 0);
	lapic_send(0xffffffff, LOW_VECTOR);
	expect_hits("x2APIC: broadcast", 1);
	lapic_send((id >> 4) << 16 | 1u << (id & 15), ICR_LOGICAL | LOW_VECTOR);
	expect_hits("x2APIC: logical, own cluster and bit", 1);
	lapic_send(0xff00ffff, ICR_LOGICAL | LOW_VECTOR);
	expect_hits("x2APIC: logical, another cluster", 0);
	test_nmi();
	test_timer("x2APIC");
	test_deadline("x2APIC");

	wrmsr(X86_MSR_APIC_BASE, base & ~(APIC_BASE_X2APIC | APIC_BASE_ENABLE));
	check_eq("disabled: APIC_BASE shows it", rdmsr(X86_MSR_APIC_BASE) & 0xc00, 0);
	check("disabled: CPUID shows it", !cpuid_bit(1, 3, 9));
	wrmsr(X86_MSR_APIC_BASE, base & ~APIC_BASE_X2APIC);
	check_eq("xAPIC again: software disabled as after reset", lapic_read(LAPIC_SVR), 0xff);
	lapic_init();
	test_self_ipi("xAPIC again");
}

void test_main(void) {
	lapic_init();
	trap_set_handler(X86_NMI, on_nmi);
	trap_set_handler(LOW_VECTOR - 1, on_vector);
	trap_set_handler(LOW_VECTOR, on_vector);
	trap_set_handler(HIGH_VECTOR, on_vector);
	trap_set_handler(NO_EOI_VECTOR, on_no_eoi);
	test_registers();
	test_xapic_registers();
	lapic_init();
	test_tpr();
	test_self_ipi("xAPIC");
	test_priority();
	test_nesting();
	test_destinations();
	test_nmi();
	test_error();
	test_software_disable();
	test_timer("xAPIC");
	test_divide();
	test_deadline("xAPIC");
	test_mode_switch();
	if (under_roost()) {
		test_moved();
		test_odd_accesses();
	} else {
		skip("the page of the registers elsewhere, and odd accesses", "machines differ");
	}
	if (lapic_has_x2apic())
		test_x2apic();
	else
		skip("x2APIC", "not offered");
}
