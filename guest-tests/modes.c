/*
 * The processor's modes: what exits to a hypervisor, interrupts and exceptions must behave in each
 * of them. The code of a mode stores what it saw into struct mode_data; C compares.
 */
#include "guest-tests/lib/apic.h"
#include "guest-tests/lib/mode.h"

const char test_name[] = "modes";

/* Slots of struct mode_data; the assembly below has them as addresses, 4 bytes each. */
enum {
	SAW_CR0,
	SAW_CR4,
	SAW_CPUID,
	SAW_PORT,
	SAW_EFER,
	SAW_LAPIC,
	SAW_IOAPIC,
	SAW_SEGMENT,
	SAW_INT,
	SAW_UD,
	SAW_TICKS,
	SAW_CR2,
	SAW_ERROR,
	SAW_STRING,
	SAW_FLAGS,
	SAW_DONE
};

#define DONE	   0x600df00d
#define PF_ADDRESS 0x40000000u /* taken out of the paging modes' tables */
#define IRQ0	   0x20

#define CODE(name, bits, text)                                                       \
	extern const char name[], name##_end[];                                      \
	__asm__(".pushsection .rodata\n.code" #bits "\n" #name ":\n" text "\n" #name \
		"_end:\n.code64\n.popsection\n")

/* What all modes do. CPUID, RDMSR and IN exit to a hypervisor. */
#define COMMON                                               \
	"mov %cr0, %eax\nmov %eax, 0x7000\n"                 \
	"mov %cr4, %eax\nmov %eax, 0x7004\n"                 \
	"xor %eax, %eax\ncpuid\nmov %ebx, 0x7008\n"          \
	"xor %eax, %eax\ninb $0x21, %al\nmov %eax, 0x700c\n" \
	"mov $0xc0000080, %ecx\nrdmsr\nmov %eax, 0x7010\n"

#define FINISH "movl $0x600df00d, 0x703c\n"

/* Up to 64 Ki times 64 Ki looks at the tick counter, then one tick more that ends a HLT. */
#define TICKS                    \
	"sti\n"                  \
	"mov $0x400, %ebx\n"     \
	"2: mov $0xffff, %ecx\n" \
	"3: cmpl $0, 0x7028\n"   \
	"jne 4f\n"               \
	"loop 3b\n"              \
	"dec %ebx\n"             \
	"jnz 2b\n"               \
	"jmp 5f\n"               \
	"4: hlt\n"               \
	"5: cli\n"

#define TICK_HANDLER        \
	"push %ax\n"        \
	"incl 0x7028\n"     \
	"mov $0x20, %al\n"  \
	"outb %al, $0x20\n" \
	"pop %ax\n"

CODE(real_code, 16,
     COMMON
     /* a segment's base is 16 times its selector */
     "mov $0x601, %ax\nmov %ax, %es\n"
     "movl $0x12345678, %es:0x10\n"
     "mov 0x6020, %eax\nmov %eax, 0x701c\n"
     /* INS through ES */
     "mov $0x600, %ax\nmov %ax, %es\n"
     "mov $0x40, %di\nmov $0x21, %dx\nmov $2, %cx\ncld\nrep insb\n"
     "movzwl 0x6040, %eax\nmov %eax, 0x7034\n"
     "int $0x30\n"
     "ud2\n"
     /* flat limits in FS kept from protected mode: a 32-bit MMIO access from real mode */
     "mov %cr0, %eax\nor $1, %al\nmov %eax, %cr0\n"
     "mov $0x10, %bx\nmov %bx, %fs\n"
     "and $0xfe, %al\nmov %eax, %cr0\n"
     "mov $0xfee00030, %ebx\n"
     "mov %fs:(%ebx), %eax\nmov %eax, 0x7014\n"
     "mov $0xfec00000, %ebx\n"
     "movb $1, %fs:(%ebx)\n"
     "mov %fs:0x10(%ebx), %eax\nmov %eax, 0x7018\n" TICKS FINISH "ret\n"
     ".global real_int, real_ud, real_tick\n"
     "real_int: incl 0x7020\niret\n"
     "real_ud: incl 0x7024\npush %bp\nmov %sp, %bp\naddw $2, 2(%bp)\npop %bp\niret\n"
     "real_tick: " TICK_HANDLER "iret\n");

CODE(protected16_code, 16,
     COMMON "mov $0x10, %ax\nmov %ax, %es\n"
	    "mov $0xfee00030, %ebx\n"
	    "mov %es:(%ebx), %eax\nmov %eax, 0x7014\n"
	    "mov $0xfec00000, %ebx\n"
	    "movl $1, %es:(%ebx)\n"
	    "mov %es:0x10(%ebx), %eax\nmov %eax, 0x7018\n" FINISH "ret\n");

#define FLAT32                                                              \
	"mov 0xfee00030, %eax\nmov %eax, 0x7014\n"                          \
	"movl $1, 0xfec00000\nmov 0xfec00010, %eax\nmov %eax, 0x7018\n"     \
	"mov $0x6040, %edi\nmov $0x21, %edx\nmov $2, %ecx\ncld\nrep insb\n" \
	"movzwl 0x6040, %eax\nmov %eax, 0x7034\n"

CODE(protected32_code, 32,
     COMMON FLAT32 "int $0x30\n"
		   "ud2\n"
		   /* only with paging on is there a fault; the data read is thrown away */
		   "mov 0x40000000, %eax\n" TICKS FINISH "ret\n"
		   ".global flat_int, flat_ud, flat_tick, flat_pf\n"
		   "flat_int: incl 0x7020\niret\n"
		   "flat_ud: incl 0x7024\naddl $2, (%esp)\niret\n"
		   "flat_pf: pop 0x7030\nmov %cr2, %eax\nmov %eax, 0x702c\naddl $5, (%esp)\niret\n"
		   "flat_tick: " TICK_HANDLER "iret\n");

CODE(compatibility_code, 32, COMMON FLAT32 FINISH "ret\n");

/* EFER.LME set and cleared again while CR4.PAE is clear, with exits in between. */
CODE(lme_code, 32,
     "mov $0xc0000080, %ecx\n"
     "rdmsr\nor $0x100, %eax\nwrmsr\n"
     "xor %eax, %eax\ncpuid\nmov %ebx, 0x7008\n"
     "mov $0xc0000080, %ecx\nrdmsr\nmov %eax, 0x7010\n"
     "and $~0x100, %eax\nwrmsr\n"
     "xor %eax, %eax\ninb $0x21, %al\nmov %eax, 0x700c\n" FINISH "ret\n");

extern const char real_int[], real_ud[], real_tick[], flat_int[], flat_ud[], flat_tick[], flat_pf[];

static u32 low_address(const char *label, const char *code) {
	return LOW_BASE + (u32)(label - code);
}

static u64 gates[256];

static void set_gate(u8 vector, const char *label) {
	u64 at = low_address(label, protected32_code);

	gates[vector] = (at & 0xffff) | (u64)SEL_CODE32 << 16 | 0x8e00ul << 32 | (at >> 16) << 48;
}

static void set_real_vector(u8 vector, const char *label) {
	mode_real_vector(vector, (u16)low_address(label, real_code));
}

/* IRQ 0 every millisecond, at vector 0x20. */
static void start_ticks(void) {
	pic_init(IRQ0);
	outb(0x43, 0x34);
	outb(0x40, 1193 & 0xff);
	outb(0x40, 1193 >> 8);
	outb(0x21, 0xfe);
}

static void stop_ticks(void) {
	outb(0x21, 0xff);
	outb(0x43, 0x30);
}

struct expectation {
	const char *name;
	enum mode mode;
	const char *code, *end;
	bool idt;    /* interrupts and exceptions are taken there */
	bool paging; /* and page faults */
	u64 cr0, cr4;
};

static void check_common(const struct expectation *e, u32 port) {
	const u32 *saw = mode_data()->value;
	u32 r[4];

	cpuid(0, 0, r);
	check_eq(name_of("%s: came to its end", e->name), saw[SAW_DONE], DONE);
	check_eq(name_of("%s: CR0.PE and PG", e->name), saw[SAW_CR0] & 0x80000001u, e->cr0);
	check_eq(name_of("%s: CR4.PSE and PAE", e->name), saw[SAW_CR4] & 0x30, e->cr4);
	check_eq(name_of("%s: CPUID", e->name), saw[SAW_CPUID], r[1]);
	check_eq(name_of("%s: IN", e->name), saw[SAW_PORT], port);
	check_eq(name_of("%s: EFER.LMA and LME", e->name), saw[SAW_EFER] & 0x500,
		 e->mode == MODE_COMPATIBILITY ? 0x500 : 0);
	check_eq(name_of("%s: LAPIC version by MMIO", e->name), saw[SAW_LAPIC],
		 lapic_read(LAPIC_VERSION));
	check_eq(name_of("%s: IOAPIC version by MMIO", e->name), saw[SAW_IOAPIC], ioapic_read(1));
}

static void check_events(const struct expectation *e) {
	const u32 *saw = mode_data()->value;

	check_eq(name_of("%s: INT", e->name), saw[SAW_INT], 1);
	check_eq(name_of("%s: #UD", e->name), saw[SAW_UD], 1);
	check_range(name_of("%s: timer interrupts, also out of HLT", e->name), saw[SAW_TICKS], 2,
		    1000000);
	if (e->paging) {
		check_eq(name_of("%s: #PF CR2", e->name), saw[SAW_CR2], PF_ADDRESS);
		check_eq(name_of("%s: #PF error code", e->name), saw[SAW_ERROR], 0);
	}
}

static void run(const struct expectation *e) {
	struct mode_tables tables = {(u32)(u64)gates, sizeof(gates) - 1};
	bool own = e->idt && e->mode != MODE_REAL;

	memset(mode_data(), 0, sizeof(*mode_data()));
	if (e->idt) start_ticks();
	u32 port = inb(0x21);
	mode_run(e->mode, own ? &tables : NULL, e->code, (size_t)(e->end - e->code));
	stop_ticks();
	check_common(e, port);
	if (e->mode != MODE_PROTECTED16)
		check_eq(name_of("%s: REP INSB", e->name), mode_data()->value[SAW_STRING],
			 port << 8 | port);
	if (e->mode == MODE_REAL)
		check_eq("real mode: base of ES is 16 times its selector",
			 mode_data()->value[SAW_SEGMENT], 0x12345678);
	if (e->idt) check_events(e);
}

static void test_modes(void) {
	const struct expectation all[] = {
		{"real mode", MODE_REAL, real_code, real_code_end, true, false, 0, 0},
		{"16-bit protected mode", MODE_PROTECTED16, protected16_code, protected16_code_end,
		 false, false, 1, 0},
		{"32-bit protected mode", MODE_PROTECTED32, protected32_code, protected32_code_end,
		 true, false, 1, 0},
		{"32-bit paging", MODE_PAGING32, protected32_code, protected32_code_end, true, true,
		 0x80000001u, 0x10},
		{"32-bit PAE paging", MODE_PAGING32_PAE, protected32_code, protected32_code_end,
		 true, true, 0x80000001u, 0x20},
		{"compatibility mode", MODE_COMPATIBILITY, compatibility_code,
		 compatibility_code_end, false, false, 0x80000001u, 0x20},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) run(&all[i]);
}

static void test_lme(void) {
	const u32 *saw = mode_data()->value;
	u32 r[4];

	memset(mode_data(), 0, sizeof(*mode_data()));
	mode_run(MODE_PROTECTED32, NULL, lme_code, (size_t)(lme_code_end - lme_code));
	cpuid(0, 0, r);
	check_eq("EFER.LME without PAE: came to its end", saw[SAW_DONE], DONE);
	check_eq("EFER.LME without PAE: LME set, LMA clear", saw[SAW_EFER] & 0x500, 0x100);
	check_eq("EFER.LME without PAE: CPUID", saw[SAW_CPUID], r[1]);
	check_eq("EFER.LME without PAE: IN", saw[SAW_PORT], inb(0x21));
}

void test_main(void) {
	set_real_vector(0x30, real_int);
	set_real_vector(6, real_ud);
	set_real_vector(IRQ0, real_tick);
	set_gate(0x30, flat_int);
	set_gate(6, flat_ud);
	set_gate(14, flat_pf);
	set_gate(IRQ0, flat_tick);
	mode_directory()[PF_ADDRESS >> 22] = 0;
	mode_pae_directory(1)[0] = 0;
	lapic_init();
	lapic_write(LAPIC_LVT_LINT0, 0x700); /* the PIC's interrupts come in here */
	test_modes();
	test_lme();
}
