/* The virtual PC of one VM: create -> load -> run -> [reset -> load -> run] -> destroy. */
#pragma once

#include "platform/ioapic.h"
#include "platform/lapic.h"
#include "platform/pic.h"
#include "platform/pit.h"
#include "platform/pmio.h"
#include "platform/rtc.h"
#include "platform/uart.h"

struct platform_options {
	u64 memory;		     /* bytes of RAM */
	unsigned phys_bits;	     /* the guest's physical address width, 36 to 52 */
	bool debug_exit;	     /* a write to port 0xF4 ends the VM */
	struct uart_backend console; /* of COM1; tx may be NULL */
	struct uart_backend com2;    /* tx NULL: there is none; likewise port 0xE9 */
	struct uart_backend debug_port;
};

struct platform {
	struct vm *vm;
	u64 size; /* bytes of memory that it was made in */
	struct bus bus;
	struct pic pic;
	struct ioapic ioapic;
	struct pit pit;
	struct uart uart, uart2;
	struct pmio pmio;
	struct rtc rtc;
	struct lapic lapics[]; /* one for each vCPU */
};

/*
 * Makes the platform of a VM that has its vCPUs, each with its CPU, and sets vm->platform and each
 * vcpu->lapic. 0 or E_NOMEM.
 */
int platform_create(struct vm *vm, const struct platform_options *options) __must_check;

/* All devices as after power-up. While no vCPU of the VM runs. */
void platform_reset(struct vm *vm);

/* Stops all timers and frees it. No effect when there is none. While no vCPU of the VM runs. */
void platform_destroy(struct vm *vm);
