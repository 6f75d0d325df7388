/*
 * The virtual CPU: what every part that handles an exit may see of it. The back end keeps the rest
 * behind `arch`. Only the CPU that runs a vCPU touches its fields, except `requests`, which any CPU
 * may set through vcpu_request().
 */
#pragma once

#include <stdatomic.h>

#include "kernel/sched.h"
#include "lib/x86.h"

struct vm;
struct lapic;
struct backend;
struct kvm_pv;
struct msr_state;
struct fetch_cache;

/* General registers, in the encoding order of ModRM (APM 3 1.4.2). */
enum gpr { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, NR_GPRS };

/* Segment registers, in the encoding order of MOV Sreg, then the two system ones. */
enum seg { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, NR_SEGS };

/* Everything else that a handler may read or write through vcpu_reg() and vcpu_set_reg(). */
enum vreg {
	VREG_CR0,
	VREG_CR2,
	VREG_CR3,
	VREG_CR4,
	VREG_EFER,
	VREG_DR6,
	VREG_DR7,
	VREG_GDTR_BASE,
	VREG_GDTR_LIMIT,
	VREG_IDTR_BASE,
	VREG_IDTR_LIMIT,
	VREG_STAR,
	VREG_LSTAR,
	VREG_CSTAR,
	VREG_SFMASK,
	VREG_KERNEL_GS_BASE,
	VREG_SYSENTER_CS,
	VREG_SYSENTER_ESP,
	VREG_SYSENTER_EIP,
	VREG_PAT,
	VREG_TSC_AUX,
	VREG_DEBUGCTL,
	VREG_XCR0, /* XSETBV may not be intercepted, so the back end knows the live value */
	NR_VREGS,
};

/* What a handler of an exit tells the one tail that follows every exit. */
enum outcome {
	RESUME,	  /* enter again at the same RIP */
	ADVANCE,  /* the instruction is done: RIP moves past it, shadow ends, TF raises #DB */
	INJECTED, /* an exception has been queued by vcpu_inject_*(); RIP stays */
	STOP_VM,  /* this VM cannot go on; vcpu_stop_reason() has said why */
};

/* Bits of vcpu->requests. */
#define REQ_EVENT     BIT(0) /* look for interrupts, NMIs, exceptions to deliver, open windows */
#define REQ_STOP      BIT(1) /* the VM stops or pauses: leave the run loop */
#define REQ_TLB_FLUSH BIT(2) /* flush this vCPU's guest TLB before the next entry */
#define REQ_INIT      BIT(3) /* INIT received */
#define REQ_SIPI      BIT(4) /* start-up IPI received; vector in sipi_vector */
#define REQ_NMI	      BIT(5) /* an NMI became pending (lapic.c, LINT, IPI) */
#define REQ_SCHED     BIT(6) /* give the CPU back to the scheduler */
#define REQ_CLOCK     BIT(7) /* rewrite the paravirtual clock */
#define REQ_LOOP      BIT(8) /* back to the run loop: a host interrupt waits */

/* Multi-processor state of a vCPU. */
enum mp_state { MP_RUNNING, MP_HALTED, MP_WAIT_SIPI };

struct vcpu_exception {
	bool pending;
	bool has_error;
	bool again; /* an exit interrupted its delivery: L1 has been asked already */
	u8 vector;
	u32 error;
	gva_t address; /* of a page fault: CR2 from its delivery on */
};

/* The last exits, newest at nr_exits - 1, for a panic's or a stop's report. */
#define VCPU_TRACE 8

struct vcpu_trace {
	u64 rip;
	u64 reason; /* index in the back end's exit table */
};

struct vcpu {
	u64 gpr[NR_GPRS]; /* entry.S knows this offset (0) */
	u64 rip;	  /* of the instruction that exited; the tail moves it */
	u64 rflags;
	u64 next_rip; /* where ADVANCE goes; 0: not known, the tail decodes the length */
	_Atomic u64 requests;
	void *arch; /* the back end's part */
	const struct backend *backend;
	struct vm *vm;
	struct lapic *lapic;
	struct kvm_pv *pv;
	struct fetch_cache *fetch;	 /* of the running level */
	struct fetch_cache *fetches[2];	 /* of L1, of L2 */
	struct msr_state *msrs;		 /* MSRs that no hardware holds (platform/msr.h) */
	struct vcpu_exception exception; /* queued for the next entry */
	u64 tsc_offset;	      /* guest TSC = vm_tsc(host TSC) + tsc_offset, modulo 2^64 */
	u64 tsc_adjust;	      /* IA32_TSC_ADJUST */
	u32 id;		      /* index in vm->vcpus; also the initial APIC id */
	u32 cpu;	      /* physical CPU that has it; only that one changes it */
	_Atomic bool asleep;  /* nobody has it until sched_wake() */
	_Atomic u32 mp_state; /* enum mp_state */
	_Atomic u32 sipi_vector;
	_Atomic u32 nmi_pending; /* NMIs waiting, 0 to 2 */
	bool lend;		 /* backend->lend_apic() is called before entries after requests */
	bool l2;		 /* it runs a guest of its guest: vcpu_set_level() */
	u32 nr_exits;		 /* modulo 2^32; index of the trace below */
	struct vcpu_trace trace[VCPU_TRACE];
	u64 *exit_counts; /* by the back end's exit table index */
	u64 *exits_seen;  /* the same at the time of the last `stat` */
	u64 exits_seen_tsc;
	struct vcpu_sched sched;
};

/* State after RESET, or after INIT (init = true: what INIT leaves alone stays). Any CPU; the vCPU
 * does not run. */
void vcpu_reset(struct vcpu *vcpu, bool init);

/* Sets request bits from any CPU and makes the vCPU notice: kicks or wakes its CPU when needed. */
void vcpu_request(struct vcpu *vcpu, u64 bits);

/* Registers beyond the general ones. Values are as the guest sees them; no checks are made here. */
u64 vcpu_reg(struct vcpu *vcpu, enum vreg reg);
void vcpu_set_reg(struct vcpu *vcpu, enum vreg reg, u64 value);
void vcpu_segment(struct vcpu *vcpu, enum seg seg, struct segment *out);
void vcpu_set_segment(struct vcpu *vcpu, enum seg seg, const struct segment *in);
u8 vcpu_cpl(struct vcpu *vcpu);

/* Privilege level and width of the running code in one: PRIV_CPL, PRIV_64BIT. */
#define PRIV_CPL   0x3u
#define PRIV_64BIT 0x4u
u32 vcpu_privilege(struct vcpu *vcpu);

/* Changes vcpu->tsc_offset, here and where the back end keeps it. On the vCPU's own CPU. */
void vcpu_set_tsc_offset(struct vcpu *vcpu, u64 offset);

/*
 * Queue an exception for the next entry; a second one while one is queued combines to #DF or to a
 * triple fault as the manual says (APM 2 8.2.9). All return INJECTED so that a handler can
 * `return inject_gp(vcpu, 0);`.
 */
enum outcome inject_exception(struct vcpu *vcpu, u8 vector);
enum outcome inject_exception_error(struct vcpu *vcpu, u8 vector, u32 error);
enum outcome inject_page_fault(struct vcpu *vcpu, gva_t address, u32 error);

static inline enum outcome inject_gp(struct vcpu *vcpu, u32 error) {
	return inject_exception_error(vcpu, 13, error);
}

static inline enum outcome inject_ud(struct vcpu *vcpu) { return inject_exception(vcpu, 6); }

/* Records why the VM must stop (once; the first reason stays) and returns STOP_VM. */
enum outcome vcpu_stop_reason(struct vcpu *vcpu, const char *fmt, ...) __format_printf(2, 3);

/* A third fault while a double fault was to be delivered: the VM ends. Returns STOP_VM. */
enum outcome vcpu_triple_fault(struct vcpu *vcpu);

/* An instruction is done and RFLAGS.RF or TF are set: RF ends, TF raises #DB with DR6.BS. */
void vcpu_end_instruction(struct vcpu *vcpu);

/* HLT: sleeps until an interrupt, unless one is there. The caller moves RIP past it. */
void vcpu_halt(struct vcpu *vcpu);

/* True when the vCPU has something to do; ends HLT when an event is there. On its own CPU. */
bool vcpu_runnable(struct vcpu *vcpu);

/* Runs the vCPU until it stops, halts, or *resched. On its own CPU, registers loaded. */
void vcpu_run(struct vcpu *vcpu, const bool *resched);

/* The same on this vCPU's own CPU: it is not in the guest, so nobody needs to be kicked. */
static inline void vcpu_request_self(struct vcpu *vcpu, u64 bits) {
	atomic_fetch_or_explicit(&vcpu->requests, bits, memory_order_relaxed);
}

/*
 * From now on the registers are those of L2, or of L1 again. What is pending for the vCPU is looked
 * at anew: the windows that wait for it belong to the level that is left.
 */
static inline void vcpu_set_level(struct vcpu *vcpu, bool l2) {
	vcpu->l2 = l2;
	vcpu->fetch = vcpu->fetches[l2];
	vcpu_request_self(vcpu, REQ_EVENT);
}

/* True when vcpu_prepare() has something to do before the next entry. */
static inline bool vcpu_needs_prepare(struct vcpu *vcpu) {
	return atomic_load_explicit(&vcpu->requests, memory_order_relaxed);
}
