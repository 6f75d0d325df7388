/*
 * The guests of this machine: made from the configuration or at the console, started, paused,
 * reset, ended and destroyed, and what happens when one has ended.
 *
 * All of this is for CPU 0, from its loop: from a timer's call or an interrupt's there. Only
 * guest_input() may come from any CPU.
 */
#pragma once

#include "kernel/vm.h"
#include "lib/parse.h"

struct boot_info;
struct options;

/* Values for a test rig's debug-exit port. */
#define EXIT_ALL_ENDED 0x10u /* the last guest has ended, none by a crash */
#define EXIT_CRASHED   0x11u /* a guest has crashed, or could not be started */
#define EXIT_NO_GUESTS 0x12u /* this machine cannot run guests */

/* What roost.conf says; without one, the only kernel; without modules, the demonstration guest. */
void guests_init(const struct boot_info *boot, const struct options *options);

/* One sentence, set when a function below returns an error. */
struct guest_error {
	char text[224];
};

/* The i-th VM, NULL past the last. The numbers of others change when one is destroyed. */
struct vm *guests_get(u32 index);

/* True while one runs or is paused. */
bool guests_any(void);

/* NULL: there is none of this name. */
struct vm *guests_find(struct text name);

/* The first four are enum vm_state; guest_states[] names all. */
enum guest_state { GUEST_STOPPING = VM_STOPPED + 1, GUEST_STARTING, GUEST_CRASHED, GUEST_DYING };

enum guest_state guests_state(struct vm *vm);
extern const char *const guest_states[];

/*
 * Makes a VM, which is not started, from words key=value as a section of roost.conf has them: what
 * contains blanks stands in quotes. Any mistake refuses it. 0; E_INVAL; E_EXIST; E_NOMEM; E_NOSUPP.
 */
int guests_create(struct text name, struct text words, struct guest_error *error) __must_check;

/* Changes weight, cap, pin or on-crash, in any state. 0, E_INVAL or E_NOMEM. */
int guests_set(struct vm *vm, struct text words, struct guest_error *error) __must_check;

/*
 * start: also after the VM has ended; its memory is cleared, which takes a while when it is much.
 * pause: its clocks go on. reset: from outside, also of a VM that has crashed. shutdown: presses
 * the power button; what the guest makes of it is its own affair. stop: switches it off; it keeps
 * its memory. destroy: it is gone, and all its memory free, when guests_find() does not find it any
 * more.
 */
enum guest_op {
	GUEST_START,
	GUEST_PAUSE,
	GUEST_RESUME,
	GUEST_RESET,
	GUEST_SHUTDOWN,
	GUEST_STOP,
	GUEST_DESTROY,
};

/*
 * Can be asked for at any moment. 0: it is done, or the vCPUs have been told and will leave at
 * their next exit. E_BUSY: not in this state; or an error of load_guest(). What is asked for while
 * a VM stops follows its end, so that stop and start right behind each other do both.
 */
int guests_do(struct vm *vm, enum guest_op op, struct guest_error *error) __must_check;

/* A byte from the console for the VM's first serial port. False: no room now. */
bool guest_input(struct vm *vm, u8 byte);
