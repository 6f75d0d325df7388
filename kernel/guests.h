/*
 * The guests of this machine: made from the configuration, started, reset, and what happens when
 * one has ended.
 */
#pragma once

#include "lib/types.h"

struct boot_info;
struct options;
struct vm;

/* Values for a test rig's debug-exit port. */
#define EXIT_ALL_ENDED 0x10u /* the last guest has ended, none by a crash */
#define EXIT_CRASHED   0x11u /* a guest has crashed, or could not be started */
#define EXIT_NO_GUESTS 0x12u /* this machine cannot run guests */

/*
 * Makes and starts what roost.conf says; without one, the only kernel among the modules; without
 * modules, the demonstration guest. What cannot be started is reported and left out.
 */
void guests_init(const struct boot_info *boot, const struct options *options);

/* The i-th VM, NULL past the last. */
struct vm *guests_get(u32 index);

/* A byte from the console for the VM's first serial port. False: no room now. */
bool guest_input(struct vm *vm, u8 byte);
