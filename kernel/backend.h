/*
 * What a back end (svm/, vmx/) does for the rest. A back end knows the vCPU; the vCPU knows its
 * back end only through this table. Unless it says otherwise, a function is called on the CPU that
 * runs the vCPU, with interrupts off.
 */
#pragma once

#include "kernel/vcpu.h"

struct cpu;
struct fault;
struct options;
struct pt_format;
struct vm;

/* In both back ends' numbers (APM 2 15.20, SDM 3C 24.8.3); the last two: for nested_event(). */
enum event_type { EVENT_INTERRUPT, EVENT_NMI = 2, EVENT_EXCEPTION, EVENT_INIT = 8, EVENT_SHUTDOWN };

struct event {
	u8 type; /* enum event_type */
	u8 vector;
	bool has_error;
	u32 error;
	gva_t address; /* of a page fault: CR2 */
};

/* What follows an exit. */
struct exit_entry {
	const char *name;
	enum outcome (*handler)(struct vcpu *vcpu);
};

struct backend {
	const char *name;
	const struct pt_format *pt_format; /* of guest physical memory */

	/* 0, or E_NOSUPP after a message that says why this machine cannot. Once, at start. */
	int (*probe)(const struct options *options);
	/* Turns virtualization on for the CPU. 0, E_NOMEM or E_NOSUPP (with a message). */
	int (*cpu_on)(struct cpu *cpu);

	/* The back end's part of a VM and of a vCPU. Any CPU; the vCPU does not run. */
	int (*vcpu_create)(struct vcpu *vcpu);
	void (*vcpu_destroy)(struct vcpu *vcpu);
	/* The part of vcpu_reset() that set_reg() and set_segment() do not reach; called first. */
	void (*vcpu_reset)(struct vcpu *vcpu, bool init);

	/* The CPU's extra registers (vector, debug, MSRs) become this vCPU's, or are saved back. */
	void (*load)(struct vcpu *vcpu);
	void (*put)(struct vcpu *vcpu);

	/*
	 * Enters the guest and handles its exits until the run loop is needed: a host interrupt, or
	 * a request that vcpu_prepare() does not handle.
	 */
	void (*run)(struct vcpu *vcpu);

	/* Registers by name (kernel/vcpu.h). EFER.LMA is no matter of EFER but follows CR0.PG. */
	u64 (*reg)(struct vcpu *vcpu, enum vreg reg);
	void (*set_reg)(struct vcpu *vcpu, enum vreg reg, u64 value);
	void (*segment)(struct vcpu *vcpu, enum seg seg, struct segment *out);
	void (*set_segment)(struct vcpu *vcpu, enum seg seg, const struct segment *in);
	/* The privilege level in bits 1:0, and whether the code is 64-bit code. */
	u32 (*privilege)(struct vcpu *vcpu);
	void (*set_tsc_offset)(struct vcpu *vcpu, u64 offset);

	/* Events. inject() is for the very next entry and is called at most once for it. */
	bool (*event_queued)(struct vcpu *vcpu);
	/* Would it be taken now? IF set, no shadow. Also while another vCPU is loaded. */
	bool (*interrupt_allowed)(struct vcpu *vcpu);
	bool (*nmi_allowed)(struct vcpu *vcpu);
	void (*inject)(struct vcpu *vcpu, const struct event *event);
	/* Exit as soon as the guest could take an interrupt (or an NMI), or no longer. */
	void (*interrupt_window)(struct vcpu *vcpu, bool open);
	void (*nmi_window)(struct vcpu *vcpu);
	void (*end_shadow)(struct vcpu *vcpu);
	/* The processor's own virtual APIC gets what it needs (platform/lapic.h): vcpu->lend. */
	void (*lend_apic)(struct vcpu *vcpu);

	/*
	 * Nesting. The vCPU runs an L2 and an event is there for it, that nothing masks: true when
	 * L1 wants an exit for it instead, which has been made (vcpu->l2 is false now). An
	 * interrupt or NMI stays pending. With EVENT_INIT it is called in L1 as well, and true
	 * means that the back end will ask for it again (REQ_INIT) in its time, or has done it.
	 */
	bool (*nested_event)(struct vcpu *vcpu, const struct event *event);
	/*
	 * While it runs an L2: its physical address to one of L1's, for an access (ACCESS_* of
	 * platform/gwalk.h). 0; E_FAULT: the tables of L1 refuse, and fault is for fault_inject();
	 * E_BUSY: enter again. l2_fault() makes that fault an exit to L1.
	 */
	int (*l2_translate)(struct vcpu *vcpu, gpa_t gpa2, u32 access, gpa_t *gpa1,
			    struct fault *fault);
	void (*l2_fault)(struct vcpu *vcpu, const struct fault *fault);

	/* The feature MSRs of VMX as a guest is to see them, from 480 on; NULL or all 0: none. */
	const u64 *nested_msrs;

	/* Can a guest's TSC run at another rate than the host's? NULL: it cannot. */
	bool (*scales_tsc)(void);

	void (*tlb_flush)(struct vcpu *vcpu);
	const struct exit_entry *exits; /* all of them; struct vcpu_trace has indices */
	u32 nr_exits;
};

/* F(NAME, function) for all that a back end has as NAME_function(): table and prototypes. */
/* clang-format off */
#define BACKEND_FUNCTIONS(F, NAME) \
	F(NAME, probe) F(NAME, cpu_on) F(NAME, vcpu_create) F(NAME, vcpu_destroy) \
	F(NAME, vcpu_reset) F(NAME, load) F(NAME, put) F(NAME, run) F(NAME, reg) \
	F(NAME, set_reg) F(NAME, segment) F(NAME, set_segment) F(NAME, privilege) \
	F(NAME, set_tsc_offset) F(NAME, event_queued) F(NAME, interrupt_allowed) \
	F(NAME, nmi_allowed) F(NAME, inject) F(NAME, interrupt_window) F(NAME, nmi_window) \
	F(NAME, end_shadow) F(NAME, tlb_flush) F(NAME, nested_event) F(NAME, l2_translate) \
	F(NAME, l2_fault)
/* clang-format on */
#define BACKEND_PROTOTYPE(NAME, function) \
	__typeof__(*((struct backend *)0)->function) NAME##_##function;
#define BACKEND_ENTRY(NAME, function) .function = NAME##_##function,
#define BACKEND_ENTRIES(NAME, text)   BACKEND_FUNCTIONS(BACKEND_ENTRY, NAME).name = (text)

extern const struct backend svm_backend, vmx_backend;

/* The back end of this machine; set by main before any VM exists. */
extern const struct backend *backend;

/*
 * Called by back ends between an exit and the next entry when requests are set or an exception is
 * queued: delivers events, flushes. False: return from run(), the run loop is needed.
 */
bool vcpu_prepare(struct vcpu *vcpu);
