/* Other CPUs: started by INIT and SIPI, then asleep in HLT until they are given work. */
#pragma once

#include "guest-tests/lib/guest.h"

/*
 * Reads the MADT and starts each CPU there but the boot CPU, one at a time, one second each.
 * Returns how many CPUs are online (cpus[0] to cpus[n - 1]). Switches the boot CPU's local APIC on.
 */
u32 smp_init(void);
/* How many CPUs the MADT lists as enabled, at most MAX_CPUS; valid after smp_init(). */
u32 smp_listed(void);

/* Runs work(arg) on the CPU, interrupts off at first. False when it is still busy. */
bool smp_start(u32 index, void (*work)(void *), void *arg);
/* Waits until its work is done; false after so many microseconds. */
bool smp_wait(u32 index, u64 us);

/* Sends INIT, SIPI, SIPI to an AP and waits until it is online again. */
bool smp_boot(u32 index);
