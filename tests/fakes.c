/* Fakes for hosted unit tests; see fakes.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fakes.h"

#include "lib/log.h"
#include "lib/x86.h"
#include "mm/direct.h"
#include "mm/frame.h"
#include "platform/kvm_pv.h"
#include "platform/lapic.h"

#define weak __attribute__((weak))

/* Declared here and not by including the platform's header, which many tests have no use for. */
u64 platform_wall_clock_ns(void);

char fake_log_last[256];
u32 fake_log_count[4];
u64 fake_wall_clock_base_ns = 1700000000ull * 1000000000ull;
u32 fake_requests;
u64 fake_last_request;
u8 fake_cpl;

static u64 fake_now = FAKE_TSC_START;
static struct timer *fake_queue;

weak u64 tsc_khz = FAKE_TSC_KHZ;

weak void log_msg(enum log_level level, const char *fmt, ...) {
	va_list args;

	va_start(args, fmt);
	vsnprintf(fake_log_last, sizeof(fake_log_last), fmt, args);
	va_end(args);
	fake_log_count[level & 3]++;
	if (getenv("FAKE_LOG")) fprintf(stderr, "log %d: %s\n", (int)level, fake_log_last);
}

weak bool log_allowed(struct log_limit *limit) {
	if (limit->count >= limit->max) return false;
	limit->count++;
	return true;
}

/* ---- clock and timers ---- */

static u64 saturate(unsigned __int128 value) { return value > ~0ull ? ~0ul : (u64)value; }

weak u64 time_tsc(void) { return fake_now; }

weak u64 tsc_to_ns(u64 ticks) { return saturate((unsigned __int128)ticks * 1000000 / tsc_khz); }

weak u64 ns_to_tsc(u64 ns) { return saturate((unsigned __int128)ns * tsc_khz / 1000000); }

weak u64 time_ns(void) { return tsc_to_ns(time_tsc() - FAKE_TSC_START); }

weak u64 platform_wall_clock_ns(void) { return fake_wall_clock_base_ns + time_ns(); }

weak void timer_init(struct timer *timer, void (*fn)(struct timer *timer), u32 cpu) {
	*timer = (struct timer){.deadline = TIMER_NEVER, .fn = fn, .cpu = cpu};
}

weak void timer_cancel(struct timer *timer) {
	struct timer **at = &fake_queue;

	while (*at && *at != timer) at = &(*at)->next;
	if (*at) *at = timer->next;
	timer->next = NULL;
	timer->queued = false;
	timer->deadline = TIMER_NEVER;
}

void timer_move(struct timer *timer, u32 cpu) { timer->cpu = cpu; }

weak void timer_arm(struct timer *timer, u64 deadline_tsc) {
	struct timer **at = &fake_queue;

	timer_cancel(timer);
	timer->deadline = deadline_tsc;
	if (deadline_tsc == TIMER_NEVER) return;
	while (*at && (*at)->deadline <= deadline_tsc) at = &(*at)->next;
	timer->next = *at;
	timer->queued = true;
	*at = timer;
}

void fake_advance(u64 ticks) {
	u64 end = fake_now + ticks;

	while (fake_queue && fake_queue->deadline <= end) {
		struct timer *timer = fake_queue;

		if (timer->deadline > fake_now) fake_now = timer->deadline;
		timer_cancel(timer);
		timer->fn(timer);
	}
	fake_now = end;
}

void fake_advance_ns(u64 ns) { fake_advance(ns_to_tsc(ns)); }

unsigned fake_timers_armed(void) {
	unsigned count = 0;

	for (struct timer *timer = fake_queue; timer; timer = timer->next) count++;
	return count;
}

u64 fake_next_deadline(void) { return fake_queue ? fake_queue->deadline : TIMER_NEVER; }

void fake_reset(void) {
	fake_now = FAKE_TSC_START;
	fake_queue = NULL;
	tsc_khz = FAKE_TSC_KHZ;
	fake_wall_clock_base_ns = 1700000000ull * 1000000000ull;
	fake_requests = 0;
	fake_last_request = 0;
	fake_cpl = 0;
	fake_log_last[0] = 0;
	memset(fake_log_count, 0, sizeof(fake_log_count));
}

/* ---- guest memory: one arena from gpa 0 ---- */

struct fake_gmem {
	size_t size;
	u8 bytes[];
};

/* struct gmem belongs to mm/; a fake VM's one is always a struct fake_gmem. */
static struct fake_gmem *arena(struct gmem *gm) { return (struct fake_gmem *)(void *)gm; }

weak int gmem_read(struct gmem *gm, gpa_t gpa, void *to, size_t len) {
	if (!gm || !range_within(gpa, len, arena(gm)->size)) return E_FAULT;
	memcpy(to, arena(gm)->bytes + gpa, len);
	return 0;
}

weak int gmem_write(struct gmem *gm, gpa_t gpa, const void *from, size_t len) {
	if (!gm || !range_within(gpa, len, arena(gm)->size)) return E_FAULT;
	memcpy(arena(gm)->bytes + gpa, from, len);
	return 0;
}

weak int gmem_fill(struct gmem *gm, gpa_t gpa, u8 value, size_t len) {
	if (!gm || !range_within(gpa, len, arena(gm)->size)) return E_FAULT;
	memset(arena(gm)->bytes + gpa, value, len);
	return 0;
}

weak void *gmem_ptr_write(struct gmem *gm, gpa_t gpa, size_t len) {
	if (!gm || !range_within(gpa, len, arena(gm)->size)) return NULL;
	if ((gpa & ~PAGE_MASK) + len > PAGE_SIZE) return NULL;
	return arena(gm)->bytes + gpa;
}

weak const void *gmem_ptr(struct gmem *gm, gpa_t gpa, size_t len) {
	return gmem_ptr_write(gm, gpa, len);
}

/* ---- frames: from the heap, physical address = pointer ---- */

weak u64 direct_base_;

weak void *page_alloc(u64 size) {
	void *block = aligned_alloc(PAGE_SIZE, align_up(size, PAGE_SIZE));

	if (block) memset(block, 0, size);
	return block;
}

weak void page_free(const void *pages, u64 size) {
	(void)size;
	free((void *)(u64)pages);
}

/* ---- vCPUs and VMs ---- */

struct fake_arch {
	u64 regs[NR_VREGS];
	struct segment segments[NR_SEGS];
};

struct vm *fake_vm_create(u32 nr_vcpus, size_t ram) {
	struct vm *vm = calloc(1, sizeof(*vm));

	assert_non_null(vm);
	assert_true(nr_vcpus <= VM_MAX_VCPUS);
	snprintf(vm->name, sizeof(vm->name), "fake");
	vm->nr_vcpus = nr_vcpus;
	for (u32 i = 0; i < nr_vcpus; i++) {
		struct vcpu *vcpu = calloc(1, sizeof(*vcpu));

		assert_non_null(vcpu);
		vcpu->arch = calloc(1, sizeof(struct fake_arch));
		assert_non_null(vcpu->arch);
		vcpu->id = i;
		vcpu->cpu = i;
		vcpu->vm = vm;
		vm->vcpus[i] = vcpu;
	}
	if (ram) {
		struct fake_gmem *gm = calloc(1, sizeof(*gm) + ram);

		assert_non_null(gm);
		gm->size = ram;
		vm->gmem = (struct gmem *)(void *)gm;
	}
	return vm;
}

void fake_vm_destroy(struct vm *vm) {
	for (u32 i = 0; i < vm->nr_vcpus; i++) {
		free(vm->vcpus[i]->arch);
		free(vm->vcpus[i]);
	}
	free(vm->gmem);
	free(vm);
}

u8 *fake_ram(struct vm *vm) { return arena(vm->gmem)->bytes; }

weak void vcpu_request(struct vcpu *vcpu, u64 bits) {
	atomic_fetch_or(&vcpu->requests, bits);
	fake_requests++;
	fake_last_request = bits;
}

u64 fake_take_requests(struct vcpu *vcpu) { return atomic_exchange(&vcpu->requests, 0); }

weak void vm_end(struct vm *vm, enum vm_end how) {
	if (vm->end == VM_END_NONE) vm->end = how;
}

weak u64 vcpu_reg(struct vcpu *vcpu, enum vreg reg) {
	return ((struct fake_arch *)vcpu->arch)->regs[reg];
}

weak void vcpu_set_reg(struct vcpu *vcpu, enum vreg reg, u64 value) {
	u64 *regs = ((struct fake_arch *)vcpu->arch)->regs;

	regs[reg] = value;
	if (reg != VREG_CR0) return;
	regs[VREG_EFER] &= ~X86_EFER_LMA;
	if (value & X86_CR0_PG && regs[VREG_EFER] & X86_EFER_LME) regs[VREG_EFER] |= X86_EFER_LMA;
}

weak void vcpu_segment(struct vcpu *vcpu, enum seg seg, struct segment *out) {
	*out = ((struct fake_arch *)vcpu->arch)->segments[seg];
}

weak void vcpu_set_segment(struct vcpu *vcpu, enum seg seg, const struct segment *in) {
	((struct fake_arch *)vcpu->arch)->segments[seg] = *in;
}

weak u32 vcpu_privilege(struct vcpu *vcpu) {
	struct segment cs;

	vcpu_segment(vcpu, SEG_CS, &cs);
	if ((cs.attr & SEG_ATTR_L) && (vcpu_reg(vcpu, VREG_EFER) & (1ul << 10)))
		return vcpu_cpl(vcpu) | PRIV_64BIT;
	return vcpu_cpl(vcpu);
}

weak u8 vcpu_cpl(struct vcpu *vcpu) {
	(void)vcpu;
	return fake_cpl;
}

weak enum outcome inject_exception(struct vcpu *vcpu, u8 vector) {
	vcpu->exception = (struct vcpu_exception){.pending = true, .vector = vector};
	return INJECTED;
}

weak enum outcome inject_exception_error(struct vcpu *vcpu, u8 vector, u32 error) {
	vcpu->exception = (struct vcpu_exception){
		.pending = true, .has_error = true, .vector = vector, .error = error};
	return INJECTED;
}

weak enum outcome inject_page_fault(struct vcpu *vcpu, gva_t address, u32 error) {
	vcpu_set_reg(vcpu, VREG_CR2, address);
	return inject_exception_error(vcpu, 14, error);
}

weak enum outcome vcpu_stop_reason(struct vcpu *vcpu, const char *fmt, ...) {
	va_list args;

	va_start(args, fmt);
	if (!vcpu->vm->stop_reason[0])
		vsnprintf(vcpu->vm->stop_reason, sizeof(vcpu->vm->stop_reason), fmt, args);
	va_end(args);
	return STOP_VM;
}

/* vCPUs of fake VMs have no paravirtual part, so that nobody gets here unless a test adds one. */
weak void kvm_pv_eoi_take(struct vcpu *vcpu) { vcpu->pv->eoi_armed = false; }

/* No processor has a virtual local APIC there, so that nothing is lent to it. */
weak void lapic_take_back(struct lapic *lapic) { (void)lapic; }
