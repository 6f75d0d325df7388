/*
 * What the code under test expects from the rest of Roost, replaced for hosted unit tests: a clock
 * that moves only when a test says so, timers that fire in order of their deadlines, a log, guest
 * memory over one arena, and a VM whose vCPUs only record what they are asked for. Every symbol is
 * weak: a test that links the real file, or defines its own, wins.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kernel/time.h"
#include "kernel/vcpu.h"
#include "kernel/vm.h"
#include "lib/error.h"
#include "lib/types.h"
#include "mm/gmem.h"

#define FAKE_TSC_KHZ   2000000ul /* so that a tick taken for a nanosecond shows */
#define FAKE_TSC_START 1000000ul

/* Puts the clock, the timers, the log and the counters back to their start. */
void fake_reset(void);

/* Moves the clock; due timers fire in order, each seeing its own deadline as the current time. */
void fake_advance(u64 ticks);
void fake_advance_ns(u64 ns);

/* Armed timers, and the earliest deadline in host TSC ticks (TIMER_NEVER when there is none). */
unsigned fake_timers_armed(void);
u64 fake_next_deadline(void);

/* Unix time that the fake host clock shows at start-up, in ns; platform_wall_clock_ns() adds. */
extern u64 fake_wall_clock_base_ns;

/* The last message logged, and how many there were at each level. */
extern char fake_log_last[256];
extern u32 fake_log_count[4];

/*
 * A VM with nr_vcpus vCPUs and ram bytes of guest memory from gpa 0 (0: none). The vCPUs run on
 * physical CPUs 0, 1, ... and have registers that vcpu_reg() and friends keep. Fails the test when
 * it cannot be made. fake_vm_destroy() frees all of it, but not what the test hung into it.
 */
struct vm *fake_vm_create(u32 nr_vcpus, size_t ram);
void fake_vm_destroy(struct vm *vm);

/* Host memory behind the guest memory of a fake VM. */
u8 *fake_ram(struct vm *vm);

/* Calls of vcpu_request() since the last fake_reset(), and the bits of the last one. */
extern u32 fake_requests;
extern u64 fake_last_request;

/* Clears and returns the request bits of a vCPU, as its run loop would. */
u64 fake_take_requests(struct vcpu *vcpu);

/* The CPL that vcpu_cpl() returns for vCPUs of fake VMs. */
extern u8 fake_cpl;
