/* Entries of the emulator: fetch and decode at CS:RIP, dispatch, and the outcome. */
#include "platform/emulate.h"

#include "kernel/vm.h"
#include "lib/printf.h"
#include "mm/gmem.h"
#include "platform/emulate_internal.h"
#include "platform/fetch.h"

static enum cpu_mode code_mode(const struct gwalk *walk, const struct segment *cs) {
	/* Four or five levels mean EFER.LMA. */
	if (walk->levels >= 4 && cs->attr & SEG_ATTR_L) return MODE_64;
	return cs->attr & SEG_ATTR_DB ? MODE_32 : MODE_16;
}

/* Where the code is, and how wide, by CS and the paging mode; nothing fetched yet. */
static int start(struct emul *e) {
	struct vcpu *vcpu = e->vcpu;
	struct segment cs;
	u64 ip = vcpu->rip;

	e->real = false;
	e->nr_bytes = 0;
	e->room = INSN_MAX_LEN;
	vcpu_segment(vcpu, SEG_CS, &cs);
	e->mode = code_mode(emul_walk(e), &cs);
	if (e->mode == MODE_64) {
		e->fetch_at = ip;
		return gva_canonical(&e->walk, ip, 1) ? 0 : emul_fault(e, X86_GP);
	}
	e->real = !(e->walk.cr0 & X86_CR0_PE) || vcpu->rflags & RFLAGS_VM;
	e->fetch_at = (u32)(cs.base + ip);
	if (ip > cs.limit) return emul_fault(e, X86_GP);
	if (cs.limit - ip < INSN_MAX_LEN - 1) e->room = (u8)(cs.limit - ip + 1);
	return 0;
}

/* Fetches on, to the end of the page at most. There is room for one byte or more. */
static int fetch_page(struct emul *e) {
	gva_t at = e->fetch_at + e->nr_bytes;
	u64 len = min_u64(e->room - e->nr_bytes, PAGE_SIZE - (at & ~PAGE_MASK));
	gpa_t gpa;
	int err = gwalk_translate(&e->walk, at, ACCESS_FETCH, &gpa, &e->fault);

	if (err) return err;
	const void *from = gmem_ptr(e->walk.gmem, gpa, len);
	if (!from) return E_RANGE;
	__builtin_memcpy(e->bytes + e->nr_bytes, from, len);
	e->nr_bytes = (u8)(e->nr_bytes + len);
	return 0;
}

/* The same from the page after the first. */
static int fetch_next_page(struct emul *e) {
	gva_t at = e->fetch_at + e->nr_bytes;

	if (!gva_canonical(&e->walk, at, 1)) return emul_fault(e, X86_GP);
	if (e->mode != MODE_64 && at > 0xffffffff) e->fetch_at -= 1ul << 32;
	return fetch_page(e);
}

/* An instruction that the first page's bytes did not decode. */
static __noinline int decode_more(struct emul *e, int err) {
	if (err == E_TRUNC && e->nr_bytes < e->room) {
		err = fetch_next_page(e);
		if (err) return err;
		err = decode(e->bytes, e->nr_bytes, e->mode, &e->insn);
	}
	/* It reaches past the segment's limit, or is longer than any instruction may be. */
	return err == E_TRUNC || err == E_INVAL ? emul_fault(e, X86_GP) : err;
}

/* Fetch and decode with all checks; the page is remembered for the next time. */
static __noinline int begin_by_walk(struct emul *e) {
	int err = start(e);

	if (!err) err = fetch_page(e);
	if (err) return err;
	if (e->mode == MODE_64 && e->walk.levels == FETCH_LEVELS)
		fetch_remember(e->vcpu, e->vcpu->rip, vcpu_reg(e->vcpu, VREG_CR3));
	err = decode(e->bytes, e->nr_bytes, e->mode, &e->insn);
	return err ? decode_more(e, err) : 0;
}

/* Takes the bytes at RIP from a remembered code page, all 15 of them or none. */
static inline bool take_known_code(struct emul *e) {
	struct vcpu *vcpu = e->vcpu;
	u64 rip = vcpu->rip;

	if (!(vcpu_privilege(vcpu) & PRIV_64BIT) || (rip & ~PAGE_MASK) > PAGE_SIZE - INSN_MAX_LEN)
		return false;
	const u8 *code = fetch_known(vcpu, rip, vcpu_reg(vcpu, VREG_CR3));
	if (!code) return false;
	__builtin_memcpy(e->bytes, code, INSN_MAX_LEN);
	e->nr_bytes = e->room = INSN_MAX_LEN;
	e->fetch_at = rip;
	e->mode = MODE_64;
	e->real = false;
	return true;
}

/* Decodes 15 bytes of 64-bit code, or finds what came of the same bytes before. */
static inline int decode_known(struct emul *e) {
	struct fetch_decoded *d = &e->vcpu->fetch->decoded[e->fetch_at & (FETCH_DECODED - 1)];
	u64 low, high;

	__builtin_memcpy(&low, e->bytes, 8);
	__builtin_memcpy(&high, e->bytes + INSN_MAX_LEN - 8, 8);
	if (likely(d->low == low && d->high == high && d->insn.length)) {
		e->insn = d->insn;
		return 0;
	}
	d->low = low;
	d->high = high;
	int err = decode(e->bytes, INSN_MAX_LEN, MODE_64, &d->insn);
	e->insn = d->insn;
	return err ? decode_more(e, err) : 0;
}

/* In one piece with emulate_mmio(), which many exits go through. */
static inline __attribute__((always_inline)) int begin(struct emul *e, struct vcpu *vcpu) {
	e->vcpu = vcpu;
	e->direct = false;
	e->has_walk = false;
	return likely(take_known_code(e)) ? decode_known(e) : begin_by_walk(e);
}

int emul_begin(struct emul *e, struct vcpu *vcpu) { return begin(e, vcpu); }

/*
 * Neither skipped nor tried again: the guest cannot go on. An L2 must not end L1 with it: for it,
 * the instruction is not there (law E6).
 */
static enum outcome unsupported(struct emul *e, int err) {
	char text[2 * INSN_MAX_LEN + 1] = "";

	if (e->vcpu->l2) return inject_ud(e->vcpu);
	if (err == E_RANGE)
		return vcpu_stop_reason(e->vcpu, "rip %lx (linear %lx) is not in RAM", e->vcpu->rip,
					e->fetch_at);
	for (unsigned i = 0; i < e->nr_bytes; i++) snprintf(text + 2 * i, 3, "%02x", e->bytes[i]);
	return vcpu_stop_reason(e->vcpu, "cannot emulate the instruction at rip %lx, bytes %s",
				e->vcpu->rip, text);
}

enum outcome emul_finish(struct emul *e, int err) {
	u64 next;

	switch (err) {
	case 0:
		next = e->vcpu->rip + e->insn.length;
		e->vcpu->next_rip = e->mode == MODE_64 ? next : (u32)next;
		return ADVANCE;
	case E_FAULT: return fault_inject(e->vcpu, &e->fault);
	case E_BUSY: return RESUME;
	default: return unsupported(e, err);
	}
}

static int execute(struct emul *e) {
	emul_fn fn = emul_find(&e->insn);

	if (unlikely(!fn)) return E_NOSUPP;
	return fn(e);
}

enum outcome emulate_mmio(struct vcpu *vcpu, gpa_t gpa, bool write, bool page_walk) {
	struct emul e;
	int err = begin(&e, vcpu);

	if (likely(!err)) {
		e.direct = !page_walk;
		e.device_gpa = gpa;
		e.device_write = write;
		err = execute(&e);
	}
	return emul_finish(&e, err);
}

static int find_operand(struct emul *e, u64 delta, unsigned size, u32 access, struct operand *op,
			struct fault *fault) {
	int err = start(e);

	if (!err) err = emul_operand(e, delta, size, access, op);
	if (err) *fault = e->fault;
	return err;
}

int emulate_read_operand(struct vcpu *vcpu, const struct insn *insn, u64 delta, void *to,
			 unsigned size, struct fault *fault) {
	struct emul e = {.vcpu = vcpu, .insn = *insn};
	struct operand op;
	int err = find_operand(&e, delta, size, ACCESS_READ, &op, fault);

	if (err) return err;
	u64 value = emul_read(&e, &op);
	__builtin_memcpy(to, &value, size);
	return 0;
}

int emulate_write_operand(struct vcpu *vcpu, const struct insn *insn, u64 value, unsigned size,
			  struct fault *fault) {
	struct emul e = {.vcpu = vcpu, .insn = *insn};
	struct operand op;
	int err = find_operand(&e, 0, size, ACCESS_WRITE, &op, fault);

	if (!err) emul_write(&e, &op, value);
	return err;
}

u32 guest_code(struct vcpu *vcpu, u8 *bytes, u32 max) {
	struct emul e = {.vcpu = vcpu};

	/* Where that of an L2 lies is L1's affair. */
	if (vcpu->l2 || start(&e) || fetch_page(&e)) return 0;
	u32 n = (u32)min_u64(max, e.nr_bytes);
	__builtin_memcpy(bytes, e.bytes, n);
	return n;
}

int decode_current(struct vcpu *vcpu, struct insn *out) {
	struct emul e;
	int err = emul_begin(&e, vcpu);

	if (err == E_NOSUPP) err = emul_fault(&e, X86_UD);
	if (!err)
		*out = e.insn;
	else if (err == E_FAULT)
		fault_inject(vcpu, &e.fault);
	else if (err == E_RANGE)
		unsupported(&e, err);
	return err;
}
