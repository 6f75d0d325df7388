/*
 * Several CPUs: start by INIT and SIPI, IPIs of all kinds and destination modes, NMI, coherence of
 * atomic operations, the paravirtual IPI (T-X4). Needs two CPUs or more.
 * vm: cpus=4 host_cpus=2 limit=120
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/smp.h"
#include "guest-tests/lib/trap.h"

const char test_name[] = "smp";

#define VECTOR_COUNT  0x61
#define HYPERCALL_IPI 10
#define KVM_ENOSYS    (-1000l)
#define FEATURE_IPI   11 /* of leaf 0x40000001 EAX */

static u32 nr;
static volatile u32 counts[MAX_CPUS], nmis[MAX_CPUS];

static void on_count(struct regs *r) {
	(void)r;
	__atomic_fetch_add(&counts[this_cpu()->index], 1, __ATOMIC_SEQ_CST);
	lapic_eoi();
}

static void on_nmi(struct regs *r) {
	(void)r;
	__atomic_fetch_add(&nmis[this_cpu()->index], 1, __ATOMIC_SEQ_CST);
}

static u64 count_mask(void) {
	u64 mask = 0;

	for (u32 i = 0; i < nr; i++) mask |= (u64)(counts[i] == 1) << i;
	return mask;
}

static u64 all_mask(void) { return nr == 64 ? ~0ul : BIT(nr) - 1; }

/* Waits for what must come, then a little for what must not. True for counts of just the mask. */
static void expect_mask(const char *name, u64 mask) {
	u64 end = rdtsc() + us_to_tsc(500000);

	while (count_mask() != mask && rdtsc() < end) cpu_irq_window();
	delay_us(200);
	cpu_irq_window();
	check_eq(name, count_mask(), mask);
	for (u32 i = 0; i < nr; i++) counts[i] = 0;
}

static void test_start(void) {
	nr = smp_init();
	check_eq("all CPUs of the MADT are online", nr, smp_listed());
	check_eq("the MADT has the boot CPU", cpus[0].apic_id, lapic_id());
}

static struct {
	u32 lapic_id, cpuid_id;
	u64 apic_base;
} seen[MAX_CPUS];

static void look(void *arg) {
	u32 r[4];
	u32 i = this_cpu()->index;

	(void)arg;
	cpuid(1, 0, r);
	seen[i].lapic_id = lapic_id();
	seen[i].cpuid_id = r[1] >> 24;
	seen[i].apic_base = rdmsr(X86_MSR_APIC_BASE);
}

static void test_identity(void) {
	for (u32 i = 1; i < nr; i++) {
		smp_start(i, look, NULL);
		check(name_of("CPU %u does its work", i), smp_wait(i, 1000000));
		check_eq(name_of("CPU %u: APIC id", i), seen[i].lapic_id, cpus[i].apic_id);
		check_eq(name_of("CPU %u: CPUID's APIC id", i), seen[i].cpuid_id, cpus[i].apic_id);
		check_eq(name_of("CPU %u: not the boot CPU", i), seen[i].apic_base & APIC_BASE_BSP,
			 0);
	}
}

static void set_logical(void *arg) {
	u32 i = this_cpu()->index;

	if (arg) { /* cluster model: four members each */
		lapic_write(LAPIC_DFR, 0x0fffffff);
		lapic_write(LAPIC_LDR, (i / 4) << 28 | 1u << (24 + i % 4));
	} else {
		lapic_write(LAPIC_DFR, 0xffffffff);
		lapic_write(LAPIC_LDR, i < 8 ? 1u << (24 + i) : 0);
	}
}

static void set_all_logical(bool cluster) {
	void *arg = cluster ? &nr : NULL;

	set_logical(arg);
	for (u32 i = 1; i < nr; i++) {
		smp_start(i, set_logical, arg);
		smp_wait(i, 1000000);
	}
}

static void test_physical(void) {
	for (u32 i = 0; i < nr; i++) {
		lapic_send(cpus[i].apic_id, VECTOR_COUNT);
		expect_mask(name_of("physical to CPU %u", i), BIT(i));
	}
	lapic_send(0xfe, VECTOR_COUNT);
	expect_mask("physical to nobody", 0);
	lapic_send(0xff, VECTOR_COUNT);
	expect_mask("physical broadcast", all_mask());
	lapic_send(0, ICR_ALL | VECTOR_COUNT);
	expect_mask("shorthand all", all_mask());
	lapic_send(0, ICR_OTHERS | VECTOR_COUNT);
	expect_mask("shorthand others", all_mask() & ~1ul);
	lapic_send(0, ICR_SELF | VECTOR_COUNT);
	expect_mask("shorthand self", 1);
}

static bool one_bit(u64 mask) { return mask && !(mask & (mask - 1)); }

static void test_logical(void) {
	u32 flat = nr < 8 ? nr : 8;

	set_all_logical(false);
	for (u32 i = 0; i < flat; i++) {
		lapic_send(1u << i, ICR_LOGICAL | VECTOR_COUNT);
		expect_mask(name_of("logical flat to CPU %u", i), BIT(i));
	}
	lapic_send(3, ICR_LOGICAL | VECTOR_COUNT);
	expect_mask("logical flat to CPUs 0 and 1", 3);
	lapic_send(0xff, ICR_LOGICAL | VECTOR_COUNT);
	expect_mask("logical flat broadcast", BIT(flat) - 1);

	lapic_send(3, ICR_LOGICAL | ICR_LOWEST | VECTOR_COUNT);
	wait_until((cpu_irq_window(), one_bit(count_mask())), 500000);
	delay_us(200);
	cpu_irq_window();
	check("lowest priority goes to just one of two", one_bit(count_mask() & 3));
	for (u32 i = 0; i < nr; i++) counts[i] = 0;

	set_all_logical(true);
	for (u32 i = 0; i < nr && i < 60; i++) {
		lapic_send((i / 4) << 4 | 1u << i % 4, ICR_LOGICAL | VECTOR_COUNT);
		expect_mask(name_of("logical cluster to CPU %u", i), BIT(i));
	}
	lapic_send(3, ICR_LOGICAL | VECTOR_COUNT);
	expect_mask("logical cluster to CPUs 0 and 1", 3);
	set_all_logical(false);
}

static void test_nmi(void) {
	for (u32 i = 1; i < nr; i++) {
		u32 before = nmis[i];

		lapic_send(cpus[i].apic_id, ICR_NMI);
		check(name_of("NMI to CPU %u, asleep", i),
		      wait_until(nmis[i] == before + 1, 500000));
	}
	lapic_send(0, ICR_OTHERS | ICR_NMI);
	for (u32 i = 1; i < nr; i++)
		check(name_of("NMI to all others, CPU %u", i), wait_until(nmis[i] == 2, 500000));
	check_eq("no NMI for the sender", nmis[0], 0);
}

static volatile bool release, entered;

/* Interrupts off, spinning. */
static void deaf(void *arg) {
	(void)arg;
	entered = true;
	while (!release) cpu_pause();
}

/* Interrupts off, asleep: only NMI, SMI, INIT or reset can end it. */
static void asleep(void *arg) {
	(void)arg;
	entered = true;
	__asm__ volatile("cli; hlt");
}

/* Starts it on CPU 1 and waits until it is at work; a little longer for the HLT behind. */
static void start_on_1(void (*work)(void *)) {
	release = entered = false;
	smp_start(1, work, NULL);
	check("CPU 1 took the work", wait_until(entered, 1000000));
	delay_us(1000);
}

static void test_busy(void) {
	u32 before = nmis[1];

	start_on_1(deaf);
	lapic_send(cpus[1].apic_id, VECTOR_COUNT);
	delay_us(2000);
	check_eq("an IPI waits while the other CPU has IF clear", counts[1], 0);
	lapic_send(cpus[1].apic_id, ICR_NMI);
	check("an NMI does not wait", wait_until(nmis[1] == before + 1, 500000));
	release = true;
	check("the IPI comes when IF is set", wait_until(counts[1] == 1, 500000));
	counts[1] = 0;
	smp_wait(1, 500000);

	start_on_1(asleep);
	lapic_send(cpus[1].apic_id, VECTOR_COUNT);
	delay_us(2000);
	check("CLI; HLT is not woken by an IPI", cpus[1].work != NULL && counts[1] == 0);
	lapic_send(cpus[1].apic_id, ICR_NMI);
	check("CLI; HLT is woken by an NMI", smp_wait(1, 500000));
	check("the IPI is still there then", wait_until(counts[1] == 1, 500000));
	counts[1] = 0;
}

/* INIT stops a CPU in any state; SIPI starts it anew; a second SIPI to one that runs is ignored. */
static void test_restart(void) {
	start_on_1(deaf);
	check("INIT and SIPI restart a CPU that spins with IF clear", smp_boot(1));
	start_on_1(asleep);
	check("INIT and SIPI restart a CPU in CLI; HLT", smp_boot(1));
	cpus[1].online = false;
	lapic_send(cpus[1].apic_id, ICR_SIPI | AP_TRAMPOLINE >> 12);
	delay_us(5000);
	check("SIPI without INIT is ignored", !cpus[1].online);
	cpus[1].online = true;
	for (unsigned i = 0; i < 10; i++)
		if (!smp_boot(1)) check(name_of("restart %u", i), false);
	lapic_send(cpus[1].apic_id, VECTOR_COUNT);
	expect_mask("it takes IPIs after ten restarts", 2);
}

#define ROUNDS 20000
static volatile u64 atomic_sum, locked_sum, plain_sum;
static volatile u32 ticket_next, ticket_now;

static void add_up(void *arg) {
	(void)arg;
	for (unsigned i = 0; i < ROUNDS; i++) {
		u32 mine;

		__atomic_fetch_add(&atomic_sum, 1, __ATOMIC_SEQ_CST);
		__asm__ volatile("lock incq %0" : "+m"(locked_sum));
		if (i % 64) continue;
		mine = __atomic_fetch_add(&ticket_next, 1, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&ticket_now, __ATOMIC_ACQUIRE) != mine) cpu_pause();
		plain_sum++;
		__atomic_store_n(&ticket_now, mine + 1, __ATOMIC_RELEASE);
	}
}

static void test_atomics(void) {
	u64 locked_rounds = (ROUNDS + 63) / 64;

	for (u32 i = 1; i < nr; i++) smp_start(i, add_up, NULL);
	add_up(NULL);
	for (u32 i = 1; i < nr; i++) check(name_of("CPU %u finished", i), smp_wait(i, 20000000));
	check_eq("atomic sum", atomic_sum, (u64)ROUNDS * nr);
	check_eq("sum with a LOCK prefix", locked_sum, (u64)ROUNDS * nr);
	check_eq("sum under a ticket lock", plain_sum, locked_rounds * nr);
}

/* Each asks the next to answer: request and answer cross the CPUs many times. */
static void test_ping(void) {
	const u32 rounds = 500;
	u32 lost = 0;

	for (u32 i = 0; i < rounds; i++) {
		u32 to = 1 + i % (nr - 1), before = counts[to];

		lapic_send(cpus[to].apic_id, VECTOR_COUNT);
		if (!wait_until(counts[to] == before + 1, 500000)) lost++;
	}
	check_eq("IPIs lost in a row of 500", lost, 0);
	for (u32 i = 0; i < nr; i++) counts[i] = 0;
}

static void read_tsc(void *arg) { *(volatile u64 *)arg = rdtsc(); }

static void test_tsc(void) {
	for (u32 i = 1; i < nr; i++) {
		volatile u64 there = 0;
		u64 before = rdtsc(), after;

		smp_start(i, read_tsc, (void *)(u64)&there);
		smp_wait(i, 1000000);
		after = rdtsc();
		check(name_of("CPU %u: its TSC lies between two of the boot CPU's", i),
		      there >= before && there <= after);
	}
}

static s64 hypercall_ipi(u64 low, u64 high, u64 min, u64 icr) {
	s64 result = hypercall(HYPERCALL_IPI, low, high, min, icr);

	return trap_taken().vector == TRAP_NONE ? result : KVM_ENOSYS;
}

/* T-X4: a base id and bit map that point past every CPU must find nobody, and harm nothing. */
static void test_pv_ipi(void) {
	static const u64 bases[] = {0xffffffff, 0x100,	  0x7fffffff,
				    0x80000000, MAX_CPUS, 0xffffff80};
	u32 r[4];
	s64 sent;

	if (!under_roost()) {
		skip("T-X4 paravirtual IPI", "no hypervisor");
		return;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bases); i++) {
		sent = hypercall_ipi(0xffffffff, i ? ~0ul : 0, bases[i], 0);
		check(name_of("T-X4: base id 0x%lx reaches nobody", bases[i]),
		      sent == 0 || sent == KVM_ENOSYS);
	}
	sent = hypercall_ipi(0xffffffff, 0, 0xffffffff, 0);
	check("T-X4: as in the table", sent == 0 || sent == KVM_ENOSYS);
	expect_mask("T-X4: nobody was interrupted", 0);
	cpuid(0x40000001, 0, r);
	if (!(r[0] >> FEATURE_IPI & 1)) {
		skip("paravirtual IPI", "not offered");
		return;
	}
	check_eq("paravirtual IPI to two CPUs: how many",
		 (u64)hypercall_ipi(3, 0, cpus[0].apic_id, VECTOR_COUNT), 2);
	expect_mask("paravirtual IPI to CPUs 0 and 1", 3);
	check_eq("paravirtual IPI, holes in the map: how many",
		 (u64)hypercall_ipi(2, ~0ul, 0, VECTOR_COUNT), 1);
	expect_mask("paravirtual IPI to CPU 1", 2);
}

static void to_x2apic(void *arg) {
	(void)arg;
	lapic_enter_x2apic();
}

static u32 beyond;

/* xAPIC's registers, from a CPU that has none there. */
static void reach_for_xapic(void *arg) {
	(void)arg;
	mmio_write32((volatile void *)(LAPIC_BASE + LAPIC_TPR), 0xf0);
	beyond = mmio_read32((volatile void *)(LAPIC_BASE + LAPIC_TPR));
}

/* The boot CPU is in xAPIC mode, the others are not. */
static void test_mixed_modes(void) {
	lapic_write(LAPIC_TPR, 0x20);
	smp_start(1, reach_for_xapic, NULL);
	check("mixed modes: CPU 1 does its work", smp_wait(1, 1000000));
	check_eq("mixed modes: no xAPIC answers a CPU in x2APIC mode", beyond, 0xffffffff);
	check_eq("mixed modes: TPR of the boot CPU stays", lapic_read(LAPIC_TPR), 0x20);
	lapic_write(LAPIC_TPR, 0);
	check_eq("mixed modes: the boot CPU writes its TPR", lapic_read(LAPIC_TPR), 0);
	smp_start(1, reach_for_xapic, NULL);
	smp_wait(1, 1000000);
	check_eq("mixed modes: and none of its writes is seen elsewhere", beyond, 0xffffffff);
	for (u32 i = 0; i < nr; i++) {
		lapic_send(cpus[i].apic_id, VECTOR_COUNT);
		expect_mask(name_of("mixed modes: physical to CPU %u", i), BIT(i));
	}
	lapic_send(0, ICR_SELF | VECTOR_COUNT);
	expect_mask("mixed modes: shorthand self", 1);
}

static void test_x2apic(void) {
	if (!lapic_has_x2apic()) {
		skip("x2APIC IPIs", "not offered");
		return;
	}
	for (u32 i = 1; i < nr; i++) {
		smp_start(i, to_x2apic, NULL);
		smp_wait(i, 1000000);
	}
	test_mixed_modes();
	lapic_enter_x2apic();
	for (u32 i = 0; i < nr; i++) {
		u32 id = cpus[i].apic_id;

		lapic_send(id, VECTOR_COUNT);
		expect_mask(name_of("x2APIC: physical to CPU %u", i), BIT(i));
		lapic_send((id >> 4) << 16 | 1u << (id & 15), ICR_LOGICAL | VECTOR_COUNT);
		expect_mask(name_of("x2APIC: logical to CPU %u", i), BIT(i));
	}
	lapic_send(0xffffffff, VECTOR_COUNT);
	expect_mask("x2APIC: broadcast", all_mask());
	lapic_send(3, ICR_LOGICAL | VECTOR_COUNT);
	expect_mask("x2APIC: logical to CPUs 0 and 1", 3);
	lapic_send(0, ICR_OTHERS | VECTOR_COUNT);
	expect_mask("x2APIC: shorthand others", all_mask() & ~1ul);
	lapic_send(0xffff0001, ICR_LOGICAL | VECTOR_COUNT);
	expect_mask("x2APIC: a cluster of nobody (T-X4)", 0);
	test_nmi();
	test_ping();
}

void test_main(void) {
	trap_set_handler(VECTOR_COUNT, on_count);
	trap_set_handler(X86_NMI, on_nmi);
	test_start();
	if (nr < 2) {
		skip("all that needs two CPUs", "there is one");
		return;
	}
	test_identity();
	test_physical();
	test_logical();
	test_nmi();
	test_busy();
	test_restart();
	test_ping();
	test_atomics();
	test_tsc();
	test_pv_ipi();
	for (u32 i = 0; i < nr; i++) nmis[i] = 0;
	test_x2apic();
}
