/*
 * The local APIC timer (SDM 3A 10.5.4). The count is never ticked: it follows from the host TSC at
 * which it began, and a host timer is armed only while its expiry would raise an interrupt. One
 * count is 2^shift nanoseconds. Expiries of a periodic timer are first, first + initial, ... counts
 * from its start, so that late service moves none of them.
 */
#include "platform/lapic_internal.h"

/* Shorter periods are served at this pace, so that no guest buries its CPU in host timers. */
#define MIN_PERIOD_NS 100000u

static u32 timer_lvt(struct lapic *lapic) { return load_relaxed(&lapic->lvt[LVT_TIMER]); }

static bool deadline_mode(struct lapic *lapic) {
	return (timer_lvt(lapic) & LVT_MODE) == LVT_MODE_TSC_DEADLINE;
}

static bool periodic(struct lapic *lapic) {
	return (timer_lvt(lapic) & LVT_MODE) == LVT_MODE_PERIODIC;
}

/* Counts since the start, as if the counter had more than 32 bits. */
static u64 elapsed(const struct lapic_timer *timer) {
	return tsc_to_ns(time_tsc() - timer->start) >> timer->shift;
}

/* ---- one-shot and periodic ---- */

/* Arms the host timer for the expiry at this count from the start. */
static void arm_count(struct lapic_timer *timer, u64 count) {
	u64 ticks = ns_to_tsc(count << timer->shift);
	u64 when = timer->start + ticks + 1; /* never early by rounding */

	timer->next = count;
	if (when > ticks) timer_arm(&timer->host, when);
}

/* Arms the next expiry of a running count after this one; one-shot: only if it is still to come. */
static void arm_after(struct lapic *lapic, u64 count) {
	struct lapic_timer *timer = &lapic->timer;
	u64 gap = MIN_PERIOD_NS >> timer->shift;
	u64 target = count + 1;

	if (count < timer->first) {
		arm_count(timer, timer->first);
		return;
	}
	if (!periodic(lapic) || !timer->initial) return;
	if (timer->initial < gap) target = count + gap;
	arm_count(timer, timer->first + (target - timer->first + timer->initial - 1) /
						timer->initial * timer->initial);
}

static void start_count(struct lapic *lapic, u64 first) {
	struct lapic_timer *timer = &lapic->timer;

	timer->start = time_tsc();
	timer->first = first;
	if (first && !(timer_lvt(lapic) & LVT_MASKED))
		arm_count(timer, first);
	else
		timer_cancel(&timer->host);
}

static void count_expired(struct lapic *lapic) {
	struct lapic_timer *timer = &lapic->timer;

	lapic_deliver_lvt(lapic, LVT_TIMER);
	if (periodic(lapic)) arm_after(lapic, max_u64(timer->next, elapsed(timer)));
}

u32 lapic_timer_current(struct lapic *lapic) {
	struct lapic_timer *timer = &lapic->timer;

	if (!timer->first || deadline_mode(lapic)) return 0;
	u64 past = elapsed(timer);
	if (past < timer->first) return (u32)(timer->first - past);
	if (!periodic(lapic) || !timer->initial) return 0;
	return timer->initial - (u32)((past - timer->first) % timer->initial);
}

void lapic_timer_set_initial(struct lapic *lapic, u32 count) {
	if (unlikely(deadline_mode(lapic))) return;
	lapic->timer.initial = count;
	start_count(lapic, count);
}

void lapic_timer_set_divide(struct lapic *lapic, u32 value) {
	struct lapic_timer *timer = &lapic->timer;
	u32 current = lapic_timer_current(lapic);

	timer->divide = value & 0xb;
	timer->shift = (((value >> 1 & 4) | (value & 3)) + 1) & 7;
	if (current) start_count(lapic, current);
}

/* ---- TSC deadline ---- */

static void arm_deadline(struct lapic *lapic) {
	struct lapic_timer *timer = &lapic->timer;
	const struct vm *vm = lapic->vcpu->vm;
	u64 now = time_tsc(), there = vm_tsc(vm, now) + lapic->vcpu->tsc_offset;
	u64 left = vm_host_tsc(vm, timer->deadline - there);

	if (timer->deadline <= there) {
		timer->deadline = 0;
		timer_cancel(&timer->host);
		lapic_deliver_lvt(lapic, LVT_TIMER);
	} else if (now + left > now) {
		timer_arm(&timer->host, now + left);
	} else {
		timer_cancel(&timer->host); /* beyond the end of the host's time */
	}
}

u64 lapic_deadline(struct vcpu *vcpu) {
	struct lapic *lapic = vcpu->lapic;

	/* An expiry that was masked clears the register as well. */
	if (lapic->timer.deadline &&
	    lapic->timer.deadline <= vm_tsc(vcpu->vm, time_tsc()) + vcpu->tsc_offset &&
	    !lapic->timer.host.queued)
		lapic->timer.deadline = 0;
	return lapic->timer.deadline;
}

void lapic_set_deadline(struct vcpu *vcpu, u64 value) {
	struct lapic *lapic = vcpu->lapic;

	if (!deadline_mode(lapic)) return;
	lapic->timer.deadline = value;
	if (!value || timer_lvt(lapic) & LVT_MASKED)
		timer_cancel(&lapic->timer.host);
	else
		arm_deadline(lapic);
}

void lapic_tsc_changed(struct vcpu *vcpu) {
	struct lapic *lapic = vcpu->lapic;

	if (lapic->timer.deadline && deadline_mode(lapic) && !(timer_lvt(lapic) & LVT_MASKED))
		arm_deadline(lapic);
}

/* ---- both ---- */

static void expired(struct timer *host) {
	struct lapic *lapic = container_of(host, struct lapic, timer.host);

	if (timer_lvt(lapic) & LVT_MASKED) return;
	if (!deadline_mode(lapic))
		count_expired(lapic);
	else if (lapic->timer.deadline)
		arm_deadline(lapic);
}

void lapic_timer_lvt_changed(struct lapic *lapic, u32 old) {
	struct lapic_timer *timer = &lapic->timer;
	u32 now = timer_lvt(lapic), changed = old ^ now;

	if (changed & LVT_MODE) {
		/* To or from TSC-deadline mode disarms (SDM 3A 10.5.4.1). */
		if ((old & LVT_MODE) == LVT_MODE_TSC_DEADLINE || deadline_mode(lapic)) {
			lapic_timer_stop(lapic);
			return;
		}
	} else if (!(changed & LVT_MASKED)) {
		return;
	}
	if (now & LVT_MASKED) {
		timer_cancel(&timer->host);
	} else if (deadline_mode(lapic)) {
		if (lapic_deadline(lapic->vcpu)) arm_deadline(lapic);
	} else if (timer->first) {
		arm_after(lapic, elapsed(timer));
	}
}

void lapic_timer_stop(struct lapic *lapic) {
	struct lapic_timer *timer = &lapic->timer;

	timer_cancel(&timer->host);
	timer->deadline = 0;
	timer->first = 0;
	timer->initial = 0;
}

void lapic_timer_setup(struct lapic *lapic) {
	timer_init(&lapic->timer.host, expired, lapic->vcpu->cpu);
	lapic_timer_set_divide(lapic, 0);
}
