/*
 * The exit reasons (SDM 3C appendix C): E(number, constant, name in reports, handler of an exit
 * from L1, rule for one from L2, control). The rule is one of vmx/nested_exit.c; the control is
 * L1's wish for the exit, where that is one bit.
 */
#pragma once

/* clang-format off */
#define VMX_EXITS(E) \
	E(0, EXCEPTION, "exception", vmx_exit_exception, EXCEPTION, 0) \
	E(1, INTERRUPT, "interrupt", exit_host_interrupt, OWN, 0) \
	E(2, TRIPLE_FAULT, "triple fault", vcpu_triple_fault, ALWAYS, 0) \
	E(3, INIT, "INIT", exit_host_interrupt, OWN, 0) \
	E(4, SIPI, "SIPI", exit_host_interrupt, OWN, 0) \
	E(5, IO_SMI, "SMI", exit_host_interrupt, OWN, 0) \
	E(6, SMI, "SMI", exit_host_interrupt, OWN, 0) \
	E(7, INTERRUPT_WINDOW, "interrupt window", vmx_exit_interrupt_window, WINDOW, PROC_INTERRUPT_WINDOW) \
	E(8, NMI_WINDOW, "NMI window", vmx_exit_nmi_window, WINDOW, PROC_NMI_WINDOW) \
	E(9, TASK_SWITCH, "task switch", exit_task_switch, ALWAYS, 0) \
	E(10, CPUID, "CPUID", cpuid_exit, ALWAYS, 0) \
	E(11, GETSEC, "GETSEC", inject_ud, ALWAYS, 0) \
	E(12, HLT, "HLT", exit_hlt, HLT, PROC_HLT) \
	E(13, INVD, "INVD", exit_nop, ALWAYS, 0) \
	E(14, INVLPG, "INVLPG", exit_unasked, PROC, PROC_INVLPG) \
	E(15, RDPMC, "RDPMC", exit_rdpmc, PROC, PROC_RDPMC) \
	E(16, RDTSC, "RDTSC", exit_unasked, PROC, PROC_RDTSC) \
	E(17, RSM, "RSM", inject_ud, OWN, 0) \
	E(18, VMCALL, "VMCALL", hypercall_exit, ALWAYS, 0) \
	E(19, VMCLEAR, "VMCLEAR", vmx_exit_vmptr, ALWAYS, 0) \
	E(20, VMLAUNCH, "VMLAUNCH", vmx_exit_vmentry, ALWAYS, 0) \
	E(21, VMPTRLD, "VMPTRLD", vmx_exit_vmptr, ALWAYS, 0) \
	E(22, VMPTRST, "VMPTRST", vmx_exit_vmptrst, ALWAYS, 0) \
	E(23, VMREAD, "VMREAD", vmx_exit_vmread, FIELD, 0) \
	E(24, VMRESUME, "VMRESUME", vmx_exit_vmentry, ALWAYS, 0) \
	E(25, VMWRITE, "VMWRITE", vmx_exit_vmwrite, FIELD, 0) \
	E(26, VMXOFF, "VMXOFF", vmx_exit_vmxoff, ALWAYS, 0) \
	E(27, VMXON, "VMXON", vmx_exit_vmxon, ALWAYS, 0) \
	E(28, CR, "control register", vmx_exit_cr, CR, 0) \
	E(29, DR, "debug register", unasked_stop, PROC, PROC_DR) \
	E(30, IO, "port I/O", exit_io, IO, 0) \
	E(31, RDMSR, "RDMSR", msr_read_exit, MSR, 0) \
	E(32, WRMSR, "WRMSR", msr_write_exit, MSR, 0) \
	E(33, BAD_STATE, "invalid state", exit_bad_state, FAIL, 0) \
	E(34, MSR_LOADING, "MSR loading", exit_bad_entry, FAIL, 0) \
	E(36, MWAIT, "MWAIT", inject_ud, PROC, PROC_MWAIT) \
	E(37, TRAP_FLAG, "trap flag", exit_unasked, ALWAYS, 0) \
	E(39, MONITOR, "MONITOR", inject_ud, PROC, PROC_MONITOR) \
	E(40, PAUSE, "PAUSE", exit_pause, PROC, PROC_PAUSE) \
	E(41, MACHINE_CHECK, "machine check", exit_bad_entry, FAIL, 0) \
	E(43, TPR, "TPR below threshold", vmx_exit_tpr, PROC, PROC_TPR_SHADOW) \
	E(44, APIC_ACCESS, "APIC access", vmx_exit_apic_access, PROC2, PROC2_APIC_ACCESS) \
	E(45, EOI, "virtualized EOI", vmx_exit_eoi, PROC, PROC_TPR_SHADOW) \
	E(46, GDTR_IDTR, "GDTR or IDTR", unasked_stop, PROC2, PROC2_TABLES) \
	E(47, LDTR_TR, "LDTR or TR", unasked_stop, PROC2, PROC2_TABLES) \
	E(48, EPT_VIOLATION, "EPT violation", exit_ept_violation, EPT, 0) \
	E(49, EPT_MISCONFIG, "EPT misconfiguration", exit_ept_misconfig, OWN, 0) \
	E(50, INVEPT, "INVEPT", vmx_exit_invalidate, ALWAYS, 0) \
	E(51, RDTSCP, "RDTSCP", exit_unasked, PROC, PROC_RDTSC) \
	E(52, TICK, "tick", exit_tick, TICK, 0) \
	E(53, INVVPID, "INVVPID", vmx_exit_invalidate, ALWAYS, 0) \
	E(54, WBINVD, "WBINVD", exit_nop, PROC2, PROC2_WBINVD) \
	E(55, XSETBV, "XSETBV", xsetbv_exit, ALWAYS, 0) \
	E(56, APIC_WRITE, "APIC write", vmx_exit_apic_write, PROC, PROC_TPR_SHADOW) \
	E(57, RDRAND, "RDRAND", unasked_stop, PROC2, PROC2_RDRAND) \
	E(58, INVPCID, "INVPCID", exit_unasked, PROC, PROC_INVLPG) \
	E(59, VMFUNC, "VMFUNC", exit_unasked, FUNC, 0) \
	E(60, ENCLS, "ENCLS", exit_unasked, OWN, 0) \
	E(61, RDSEED, "RDSEED", unasked_stop, PROC2, PROC2_RDSEED) \
	E(62, PML_FULL, "page-modification log full", exit_pml_full, OWN, 0) \
	E(63, XSAVES, "XSAVES", unasked_stop, OWN, 0) \
	E(64, XRSTORS, "XRSTORS", unasked_stop, OWN, 0) \
	E(65, PCONFIG, "PCONFIG", exit_unasked, OWN, 0) \
	E(66, SUB_PAGE, "sub-page permission", unasked_stop, OWN, 0) \
	E(67, UMWAIT, "UMWAIT", exit_unasked, OWN, 0) \
	E(68, TPAUSE, "TPAUSE", exit_unasked, OWN, 0) \
	E(69, LOADIWKEY, "LOADIWKEY", exit_unasked, OWN, 0)
/* clang-format on */
