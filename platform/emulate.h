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
 * The instruction at RIP accesses gpa, which is not RAM: executes it with that operand on the bus.
 * For nested faults of data accesses: gpa is the full guest physical address of the fault. write
 * tells that the access was a write, so that the guest's own page tables allow writing. page_walk
 * tells that gpa is not the operand but an entry of the guest's page tables (SVM: EXITINFO1 bit
 * 33); there is nothing, so the entry reads as all ones and the guest gets its page fault.
 *
 * ADVANCE: done, vcpu->next_rip is set. RESUME: a repeated string instruction has done a bounded
 * part and its registers say so, or a locked operation met another vCPU's: enter again. INJECTED:
 * an exception is queued. STOP_VM: not an instruction that this emulator knows.
 */
enum outcome emulate_mmio(struct vcpu *vcpu, gpa_t gpa, bool write, bool page_walk);

/*
 * Executes INS (in) or OUTS, or a bounded part of it when repeated; the decoder finds segment and
 * address size. size is 1, 2 or 4. The processor has checked the permission for the port. Outcomes
 * as above.
 */
enum outcome emulate_string_io(struct vcpu *vcpu, u16 port, unsigned size, bool in, bool rep);

/*
 * Reads the ModRM memory operand of an instruction that decode_current() has found at RIP, 1 to 8
 * bytes. 0; E_FAULT with *fault set, not queued; E_BUSY: enter the guest again.
 */
int emulate_read_operand(struct vcpu *vcpu, const struct insn *insn, void *to, unsigned size,
			 struct fault *fault) __must_check;

/*
 * Fetches and decodes the instruction at RIP, which the processor has just fetched as well. The
 * next page is only touched when the instruction reaches into it. 0: *out is valid. Otherwise
 * everything is done already and the exit's handler returns decode_outcome(error): E_FAULT, an
 * exception is queued (a fault of the fetch, or #UD for what is no instruction); E_BUSY, the guest
 * enters again; E_RANGE, the VM stops because it runs outside RAM.
 */
int decode_current(struct vcpu *vcpu, struct insn *out) __must_check;

/* The outcome that belongs to an error of decode_current(). */
static inline enum outcome decode_outcome(int err) {
	return err == E_FAULT ? INJECTED : err == E_BUSY ? RESUME : STOP_VM;
}
