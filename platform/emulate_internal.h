/*
 * What the parts of the emulator share. A function that executes returns 0 when the instruction is
 * done, E_FAULT with emul.fault set, E_BUSY when the guest is to enter again at the same RIP,
 * E_NOSUPP when it does not know the form. Registers, flags and RIP are only changed after the last
 * thing that can fail.
 */
#pragma once

#include "platform/emulate.h"

#define RFLAGS_CF BIT(0)
#define RFLAGS_PF BIT(2)
#define RFLAGS_AF BIT(4)
#define RFLAGS_ZF BIT(6)
#define RFLAGS_SF BIT(7)
#define RFLAGS_DF BIT(10)
#define RFLAGS_OF BIT(11)
#define RFLAGS_VM BIT(17)

/* One instruction on its way. */
struct emul {
	struct vcpu *vcpu;
	struct gwalk walk; /* once has_walk says so: the common case does without */
	bool has_walk;
	enum cpu_mode mode;
	bool real;	    /* real or virtual-8086 mode: segments have limits but no types */
	bool direct;	    /* the one memory operand is at device_gpa if page offsets agree */
	bool device_write;  /* the guest's page tables are known to allow writing there */
	u8 nr_bytes;	    /* fetched so far */
	u8 room;	    /* how many may be fetched: 15, less at the segment's limit */
	gva_t fetch_at;	    /* linear address of the first byte */
	gpa_t device_gpa;   /* where the nested fault was */
	struct fault fault; /* valid with E_FAULT */
	struct insn insn;
	u8 bytes[16];
};

/* A translated memory operand of up to 8 bytes; it may lie on two pages. */
struct operand {
	gpa_t gpa[2];
	u8 size;
	u8 first;    /* bytes at gpa[0]; the rest is at gpa[1] */
	bool device; /* known not to be RAM */
};

/* emulate_mem.c */

/* The vCPU's paging state, taken when it is first needed. */
static inline const struct gwalk *emul_walk(struct emul *e) {
	if (!e->has_walk) {
		gwalk_init(&e->walk, e->vcpu);
		e->has_walk = true;
	}
	return &e->walk;
}

/* Records an exception; returns E_FAULT. */
int emul_fault(struct emul *e, u8 vector);

static inline u64 size_mask(unsigned size) { return size >= 8 ? ~0ul : (1ul << (8 * size)) - 1; }

/* General register in an operand size; a byte register may be AH, CH, DH or BH. */
u64 emul_reg_read(const struct emul *e, u8 reg, unsigned size);
void emul_reg_write(struct emul *e, u8 reg, unsigned size, u64 value);

/* The segment of the memory operand: the override, else SS at RSP and RBP, else DS. */
enum seg emul_data_segment(const struct emul *e);

/* The stack's own width in bytes: that of SS.B, 8 in 64-bit mode. */
unsigned emul_stack_width(struct emul *e);

/* Segment and offset to a translated operand, with the checks that belong to them. */
int emul_address(struct emul *e, enum seg seg, u64 offset, unsigned size, u32 access,
		 struct operand *op);

/* The same from a linear address, which has passed its checks. */
int emul_translate(struct emul *e, gva_t linear, unsigned size, u32 access, struct operand *op);

/* The ModRM or moffs operand of the instruction, delta bytes on. */
int emul_operand(struct emul *e, u64 delta, unsigned size, u32 access, struct operand *op);

/* Data of an operand; what is not RAM is the bus. */
u64 emul_read(struct emul *e, const struct operand *op);
void emul_write(struct emul *e, const struct operand *op, u64 value);

/*
 * Writes the result of a read-modify-write. When it is to be atomic (LOCK, XCHG) and the operand is
 * RAM on one page, only if it still holds old: E_BUSY when not.
 */
int emul_update(struct emul *e, const struct operand *op, u64 old, u64 value, bool atomic);

/* emulate_alu.c */

/* The arithmetic group and BT's in the order of their opcodes, and others; MOV returns src. */
enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };
enum { ALU_BT = 8, ALU_BTS, ALU_BTR, ALU_BTC, ALU_TEST, ALU_INC, ALU_DEC, ALU_NEG };
enum { ALU_NOT = ALU_NEG + 1, ALU_MOV };

/* dst op src (of BT: a mask) in size bytes; *rflags gets the flags. CMP, TEST, BT return dst. */
u64 alu_execute(unsigned op, u64 dst, u64 src, unsigned size, u64 *rflags);

static inline bool alu_writes(unsigned op) {
	return op != ALU_CMP && op != ALU_TEST && op != ALU_BT;
}

/* Condition code 0 to 15 as in Jcc. */
bool alu_condition(u8 code, u64 rflags);

/* emulate_ops.c, emulate_string.c */

typedef int (*emul_fn)(struct emul *e);

/* The function for a decoded instruction; NULL when there is none. */
emul_fn emul_find(const struct insn *insn);

int emul_string(struct emul *e);

/* emulate.c */

/* Takes the vCPU's mode, fetches and decodes. 0, E_FAULT, E_BUSY, E_RANGE; E_NOSUPP: no opcode. */
int emul_begin(struct emul *e, struct vcpu *vcpu);

/* Turns what the executing function returned into the outcome. */
enum outcome emul_finish(struct emul *e, int err);
