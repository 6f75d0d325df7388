/* The virtual machine control block (APM 2 appendix B), and the bits and codes of SVM. */
#pragma once

#include "lib/x86.h"

struct vmcb {
	/* Control area. */
	u16 intercept_cr_read;
	u16 intercept_cr_write;
	u16 intercept_dr_read;
	u16 intercept_dr_write;
	u32 intercept_exceptions;
	u32 intercept_misc1; /* 0x00c */
	u32 intercept_misc2; /* 0x010 */
	u32 intercept_misc3; /* 0x014 */
	u8 reserved1[0x03c - 0x018];
	u16 pause_threshold;
	u16 pause_count;
	u64 iopm_base;
	u64 msrpm_base;
	u64 tsc_offset;
	u32 asid; /* 0x058 */
	u8 tlb_control;
	u8 reserved2[3];
	u32 vintr; /* 0x060: V_TPR 7:0, V_IRQ 8, V_GIF 9, V_PRIO 19:16, V_IGN_TPR 20, V_MASK 24 */
	u32 vintr_vector;
	u64 int_state; /* 0x068: bit 0 interrupt shadow */
	u64 exit_code;
	u64 exit_info1;
	u64 exit_info2;
	u64 exit_int_info;
	u64 np_enable; /* 0x090 */
	u8 reserved3[0x0a8 - 0x098];
	u64 event_inj; /* 0x0a8 */
	u64 ncr3;
	u64 lbr_enable; /* 0x0b8: bit 1 virtual VMLOAD and VMSAVE */
	u32 clean;
	u32 reserved4;
	u64 next_rip; /* 0x0c8 */
	u8 insn_len;  /* 0x0d0 */
	u8 insn_bytes[15];
	u8 reserved5[0x400 - 0x0e0];

	/* State save area. */
	struct segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	u8 reserved6[0x4cb - 0x4a0];
	u8 cpl;
	u32 reserved7;
	u64 efer; /* 0x4d0 */
	u8 reserved8[0x548 - 0x4d8];
	u64 cr4;
	u64 cr3;
	u64 cr0;
	u64 dr7;
	u64 dr6;
	u64 rflags;
	u64 rip; /* 0x578 */
	u8 reserved9[0x5d8 - 0x580];
	u64 rsp;
	u8 reserved10[0x5f8 - 0x5e0];
	u64 rax;
	u64 star;
	u64 lstar;
	u64 cstar;
	u64 sfmask;
	u64 kernel_gs_base;
	u64 sysenter_cs;
	u64 sysenter_esp;
	u64 sysenter_eip;
	u64 cr2; /* 0x640 */
	u8 reserved11[0x668 - 0x648];
	u64 g_pat;
	u64 debugctl;
	u8 reserved12[0x1000 - 0x678];
};

#define AT(field, offset) (offsetof(struct vmcb, field) == (offset))
_Static_assert(AT(intercept_cr_write, 0x002) && AT(intercept_misc1, 0x00c) &&
		       AT(pause_count, 0x03e) && AT(iopm_base, 0x040) && AT(tsc_offset, 0x050) &&
		       AT(asid, 0x058) && AT(vintr, 0x060) && AT(int_state, 0x068) &&
		       AT(exit_code, 0x070) && AT(exit_int_info, 0x088) && AT(np_enable, 0x090) &&
		       AT(event_inj, 0x0a8) && AT(ncr3, 0x0b0) && AT(clean, 0x0c0) &&
		       AT(next_rip, 0x0c8) && AT(insn_len, 0x0d0),
	       "APM 2 table B-1");
_Static_assert(AT(es, 0x400) && AT(gdtr, 0x460) && AT(tr, 0x490) && AT(cpl, 0x4cb) &&
		       AT(efer, 0x4d0) && AT(cr4, 0x548) && AT(rflags, 0x570) && AT(rip, 0x578) &&
		       AT(rsp, 0x5d8) && AT(rax, 0x5f8) && AT(kernel_gs_base, 0x620) &&
		       AT(cr2, 0x640) && AT(g_pat, 0x668),
	       "APM 2 table B-2");
#undef AT
_Static_assert(sizeof(struct vmcb) == 4096, "a VMCB is one page");

/* intercept_misc1 */
#define INTERCEPT_INTR	   BIT(0)
#define INTERCEPT_NMI	   BIT(1)
#define INTERCEPT_VINTR	   BIT(4)
#define INTERCEPT_CR0_SEL  BIT(5) /* bits of CR0 but TS and MP change */
#define INTERCEPT_CPUID	   BIT(18)
#define INTERCEPT_IRET	   BIT(20)
#define INTERCEPT_PAUSE	   BIT(23)
#define INTERCEPT_HLT	   BIT(24)
#define INTERCEPT_IOIO	   BIT(27)
#define INTERCEPT_MSR	   BIT(28)
#define INTERCEPT_SHUTDOWN BIT(31)

/* intercept_misc2 */
#define INTERCEPT_VMRUN	  BIT(0)
#define INTERCEPT_VMMCALL BIT(1)
#define INTERCEPT_VMLOAD  BIT(2)
#define INTERCEPT_VMSAVE  BIT(3)
#define INTERCEPT_STGI	  BIT(4)
#define INTERCEPT_CLGI	  BIT(5)

/* vintr */
#define V_TPR	      0xfful
#define V_IRQ	      BIT(8)
#define V_GIF	      BIT(9)
#define V_PRIO_MAX    (0xful << 16)
#define V_PRIO_SHIFT  16
#define V_IGN_TPR     BIT(20)
#define V_MASKING     BIT(24)
#define V_GIF_ENABLE  BIT(25)

#define NP_ENABLE     BIT(0)
#define VMSAVE_ENABLE BIT(1) /* lbr_enable */

#define INT_SHADOW    BIT(0)

/* event_inj, exit_int_info (APM 2 15.20) */
#define EVENTINJ_TYPE_SHIFT 8
#define EVENTINJ_INTR	    0ul
#define EVENTINJ_NMI	    2ul
#define EVENTINJ_EXCEPTION  3ul
#define EVENTINJ_SOFT	    4ul
#define EVENTINJ_ERROR	    BIT(11)
#define EVENTINJ_VALID	    BIT(31)

#define TLB_FLUSH_ALL	    1
#define TLB_FLUSH_ASID	    3

/* exit_code (APM 2 appendix C); below 0x0c0 also the number of the intercept bit. */
#define EXIT_EXCEPTION 0x040u
#define EXIT_INVALID   (~0ul)
enum { EXIT_CR8_READ = 0x008, EXIT_CR0_WRITE = 0x010, EXIT_CR4_WRITE = 0x014 };
enum { EXIT_CR8_WRITE = 0x018, EXIT_INTR = 0x060, EXIT_NMI, EXIT_SMI, EXIT_INIT, EXIT_VINTR };
enum { EXIT_CR0_SEL = 0x065, EXIT_RDTSC = 0x06e, EXIT_RDPMC, EXIT_CPUID = 0x072, EXIT_RSM };
enum { EXIT_IRET = 0x074, EXIT_SWINT, EXIT_INVD, EXIT_PAUSE, EXIT_HLT, EXIT_INVLPG };
enum { EXIT_INVLPGA = 0x07a, EXIT_IOIO, EXIT_MSR, EXIT_TASK, EXIT_FERR, EXIT_SHUTDOWN, EXIT_VMRUN };
enum { EXIT_VMMCALL = 0x081, EXIT_VMLOAD, EXIT_VMSAVE, EXIT_STGI, EXIT_CLGI, EXIT_SKINIT };
enum { EXIT_WBINVD = 0x089, EXIT_MONITOR, EXIT_MWAIT, EXIT_XSETBV = 0x08d, EXIT_RDPRU };
enum { EXIT_NPF = 0x400 };

/* exit_info1 of EXIT_NPF */
#define NPF_PRESENT   BIT(0)
#define NPF_WRITE     BIT(1)
#define NPF_USER      BIT(2)
#define NPF_RESERVED  BIT(3)
#define NPF_FETCH     BIT(4)
#define NPF_FINAL     BIT(32) /* the address that the access itself is for */
#define NPF_PAGE_WALK BIT(33) /* an entry of the guest's page tables */

/* exit_info1 of MOV to and from CR: bits 3:0 are the general register */
#define CR_INFO_MOV BIT(63)

/* exit_info1 of EXIT_IOIO */
#define IOIO_IN	 BIT(0)
#define IOIO_STR BIT(2)
#define IOIO_REP BIT(3)
