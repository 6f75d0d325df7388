/*
 * The instruction emulator: executes the one instruction at RIP where the processor could not,
 * because its operand is a device, and decodes it where the hardware reports less than a handler
 * needs. Exceptions, flags and registers are those of the processor (APM 3). What it does not know
 * it never guesses, skips or retries: the VM stops with RIP and the bytes.
 */
#pragma once

#include "platform/decode.h"
#include "platform/gwalk.h"

/*
 * Executes the instruction at RIP, whose data access to gpa met no RAM, with that operand on the
 * bus. write: the guest's own page tables are known to allow writing. page_walk: gpa is an entry of
 * those tables, which reads as all ones, so that the guest gets its page fault.
 *
 * ADVANCE: done, vcpu->next_rip is set. RESUME: enter again, as a repeated instruction has done a
 * bounded part, or a locked one met another vCPU's. INJECTED: an exception is queued. STOP_VM: not
 * an instruction that this emulator knows.
 */
enum outcome emulate_mmio(struct vcpu *vcpu, gpa_t gpa, bool write, bool page_walk);

/* INS (in) or OUTS of 1, 2 or 4 bytes, at a port that the processor permits. Outcomes as above. */
enum outcome emulate_string_io(struct vcpu *vcpu, u16 port, unsigned size, bool in, bool rep);

/*
 * Reads, or writes, the ModRM memory operand of an instruction that decode_current() has found at
 * RIP, delta bytes on, 1 to 8 bytes. 0; E_FAULT with *fault set, not queued; E_BUSY: enter the
 * guest again.
 */
int emulate_read_operand(struct vcpu *vcpu, const struct insn *insn, u64 delta, void *to,
			 unsigned size, struct fault *fault) __must_check;
int emulate_write_operand(struct vcpu *vcpu, const struct insn *insn, u64 value, unsigned size,
			  struct fault *fault) __must_check;

/* The linear address of that operand, whatever its segment and the page tables say of it. */
gva_t emulate_operand_address(struct vcpu *vcpu, const struct insn *insn);

/*
 * Fetches and decodes the instruction at RIP, which the processor has just fetched as well. 0: *out
 * is valid. Otherwise everything is done, and the handler returns decode_outcome(error): E_FAULT,
 * an exception is queued; E_BUSY, the guest enters again; E_RANGE, the VM stops outside of RAM.
 */
int decode_current(struct vcpu *vcpu, struct insn *out) __must_check;

/* The outcome that belongs to an error of decode_current(). */
static inline enum outcome decode_outcome(int err) {
	return err == E_FAULT ? INJECTED : err == E_BUSY ? RESUME : STOP_VM;
}

/* Up to max bytes of code at RIP, 15 at most, which stay in one page; 0: none can be read. It does
 * not run. */
u32 guest_code(struct vcpu *vcpu, u8 *bytes, u32 max);

/* ---- hardware task switches, which VMX leaves to the hypervisor ---- */

enum task_source { TASK_CALL, TASK_IRET, TASK_JMP, TASK_GATE }; /* numbers of SDM 3C table 27-2 */

struct task_switch {
	u16 selector; /* of the new TSS */
	enum task_source source;
	bool external;	/* an event's and no instruction's: EXT in error codes */
	bool has_error; /* of an exception: it goes onto the new task's stack */
	u32 error;
	u64 rip; /* where the old task goes on */
};

/*
 * Switches. 0: done, or an exception is queued instead, or on top of it. The exception that came to
 * a task gate is in vcpu->exception before: one more makes #DF of it, else it has been delivered.
 * E_BUSY: nothing has been done, other vCPUs kept changing tables; enter again.
 */
int emulate_task_switch(struct vcpu *vcpu, const struct task_switch *to) __must_check;
