/*
 * The VMX back end: detection, per-CPU start, creation of vCPUs, which VMCS is current where, and
 * the run function around entry.S.
 *
 * A VMCS is active on at most one CPU: between vmx_load() and vmx_put(). Others who need a vCPU's
 * registers, when it is made or reset, borrow its VMCS for a moment (SDM 3C 24.11.1).
 */
#include "vmx/vmx.h"

#include "kernel/cmdline.h"
#include "kernel/vm.h"
#include "lib/log.h"
#include "lib/x86.h"
#include "mm/frame.h"
#include "mm/gmem.h"
#include "mm/ptable.h"

#define CPUID_1_ECX_VMX	       BIT(5)
#define MSR_FEATURE_CONTROL    0x3au
#define FEATURE_CONTROL_LOCKED BIT(0)
#define FEATURE_CONTROL_VMX    BIT(2)

_Static_assert(offsetof(struct vcpu, arch) == 160 && offsetof(struct vcpu, gpr) == 0 &&
		       offsetof(struct vmx_vcpu, level) == 0 &&
		       offsetof(struct vmx_level, launched) == 0 &&
		       offsetof(struct vmx_level, host_rsp) == 8,
	       "entry.S knows these");

/* EPT with the leaves that this CPU has. */
static struct pt_format ept_format;

int vmx_probe(const struct options *options) {
	u32 r[4];

	cpuid(1, 0, r);
	if (!(r[2] & CPUID_1_ECX_VMX)) {
		log_error("this CPU has no VMX (Intel VT-x)");
		return E_NOSUPP;
	}
	vmx_read_options(options->vmx);
	int err = vmx_negotiate();
	if (err) return err;
	ept_format = pt_format_ept;
	ept_format.max_leaf = vmx_config.ept & EPT_CAP_1G   ? PT_LEVEL_1G
			      : vmx_config.ept & EPT_CAP_2M ? PT_LEVEL_2M
							    : PT_LEVEL_4K;
	vmx_nested_caps();
	vmx_nested_init();
	return vmx_apic_init() ?: vmx_shadow_init() ?: vmx_msr_bitmap_init();
}

/* Firmware opens VMX and locks it, or leaves both to us (SDM 3C 23.7). */
static int open_vmx(u32 cpu) {
	u64 control = rdmsr(MSR_FEATURE_CONTROL);

	if (!(control & FEATURE_CONTROL_LOCKED)) {
		control |= FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX;
		wrmsr(MSR_FEATURE_CONTROL, control);
	}
	if (control & FEATURE_CONTROL_VMX) return 0;
	log_error("CPU %u: VMX is switched off and locked by the firmware (FEATURE_CONTROL): "
		  "enable virtualization in the firmware's set-up",
		  cpu);
	return E_NOSUPP;
}

/* VMXON and VMPTRLD take the address of the address; both report failure in CF and ZF. */
static bool vmxon(hpa_t region) {
	bool failed;

	__asm__ volatile("vmxon %1" : "=@ccbe"(failed) : "m"(region) : "memory");
	return !failed;
}

int vmx_cpu_on(struct cpu *cpu) {
	u32 *region = page_alloc(PAGE_SIZE);
	struct vmx_cpu *vmx = page_alloc(PAGE_SIZE);

	if (!region || !vmx) return E_NOMEM;
	if (open_vmx(cpu->id) || vmx_check_cpu(cpu->id)) return E_NOSUPP;
	*region = BASIC_REVISION(vmx_cap(&vmx_config.caps, VMX_MSR_BASIC));
	write_cr0(read_cr0() | vmx_config.cr0_fixed);
	write_cr4(read_cr4() | vmx_config.cr4_fixed);
	if (!vmxon(virt_to_phys(region))) {
		log_error("CPU %u: VMXON failed", cpu->id);
		return E_NOSUPP;
	}
	cpu->backend_data = vmx;
	return 0;
}

/* ---- which VMCS is current ---- */

static void make_current(struct vcpu *vcpu) {
	struct vmx_cpu *vmx = this_cpu()->backend_data;

	vmx->current = vcpu;
	if (vcpu) vmx_vmptrld(vmx_of(vcpu)->level->vmcs_pa);
}

static void clear(struct vmx_level *level) {
	vmx_vmclear(level->vmcs_pa);
	level->launched = 0;
}

static void make_clear(struct vcpu *vcpu) {
	struct vmx_cpu *vmx = this_cpu()->backend_data;

	clear(vmx_of(vcpu)->level);
	if (vmx_of(vcpu)->other->vmcs) clear(vmx_of(vcpu)->other);
	if (vmx_of(vcpu)->nested.shadow) vmx_vmclear(virt_to_phys(vmx_of(vcpu)->nested.shadow));
	if (vmx->current == vcpu) vmx->current = NULL;
}

struct vcpu *vmx_borrow_slow(struct vcpu *vcpu) {
	struct vmx_cpu *vmx = this_cpu()->backend_data;

	if (vmx->current == vcpu) return NULL;
	vmx_of(vcpu)->lent_by = vmx->current;
	make_current(vcpu);
	return vcpu;
}

void vmx_give_back_slow(struct vcpu *lent) {
	make_clear(lent);
	make_current(vmx_of(lent)->lent_by);
}

void vmx_switch_level(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	struct vmx_level *left = arch->level, *level = arch->other;

	arch->level = level;
	arch->other = left;
	if (!arch->loaded) return;
	vmx_vmptrld(level->vmcs_pa);
	if (unlikely(!level->host_ready)) {
		vmx_setup_host(this_cpu());
		level->host_ready = true;
		level->host_rsp = 0;
		level->moved = level->flush = true;
	}
	vmwrite_new(VMCS(host_rsp), &level->host_rsp, left->host_rsp);
}

/* ---- vCPUs ---- */

void vmx_vcpu_destroy(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);

	if (!arch) return;
	vmx_nested_destroy(vcpu);
	fpu_destroy(&arch->fpu);
	page_free(arch->level->vmcs, PAGE_SIZE);
	page_free(arch->vapic, PAGE_SIZE);
	page_free(arch, PAGE_SIZE);
	vcpu->arch = NULL;
}

int vmx_new_vmcs(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);
	struct vmx_level *level = arch->level;

	if (vmx_config.proc2 & PROC2_VPID) level->vpid = level == arch->levels ? 1 : 2;
	level->vmcs = page_alloc(PAGE_SIZE);
	if (vmx_config.proc2 & PROC2_PML) level->pml = gmem_new_pml(vcpu->vm->gmem);
	if (!level->vmcs || !level->pml != !(vmx_config.proc2 & PROC2_PML)) return E_NOMEM;
	*(u32 *)level->vmcs = BASIC_REVISION(vmx_cap(&vmx_config.caps, VMX_MSR_BASIC));
	level->vmcs_pa = virt_to_phys(level->vmcs);
	vmx_vmclear(level->vmcs_pa);
	vmx_borrow(vcpu);
	vmx_setup_controls(vcpu);
	return 0;
}

int vmx_vcpu_create(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = page_alloc(PAGE_SIZE);

	if (!arch) return E_NOMEM;
	vcpu->arch = arch;
	arch->level = &arch->levels[0];
	arch->other = &arch->levels[1];
	bool shadow = vmx_config.proc & PROC_TPR_SHADOW;
	if (shadow) arch->vapic = page_alloc(PAGE_SIZE);
	if (!arch->vapic == !shadow && !fpu_create(&arch->fpu) && !vmx_new_vmcs(vcpu) &&
	    !vmx_nested_create(vcpu))
		return 0;
	vmx_vcpu_destroy(vcpu);
	return E_NOMEM;
}

void vmx_load(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);

	make_current(vcpu);
	vmx_setup_host(this_cpu());
	arch->level->host_rsp = 0;
	arch->level->host_ready = true;
	arch->other->host_ready = false;
	/* What this CPU remembers of an earlier stay may be stale. */
	arch->level->moved = arch->level->flush = true;
	fpu_load(&arch->fpu);
	vmx_load_msrs(arch);
	arch->loaded = true;
}

void vmx_put(struct vcpu *vcpu) {
	struct vmx_vcpu *arch = vmx_of(vcpu);

	arch->loaded = false;
	vmx_put_msrs(arch);
	fpu_put(&arch->fpu);
	make_clear(vcpu);
}

void vmx_run(struct vcpu *vcpu) {
	if (!vcpu_prepare(vcpu)) return;
	vmx_write_back(vcpu);
	vmx_tlb_enter(vcpu);
	vmx_enter(vcpu);
}

static bool scales_tsc(void) { return vmx_config.proc2 & PROC2_TSC_SCALING; }

const struct backend vmx_backend = {
	BACKEND_ENTRIES(vmx, "VMX"), .pt_format = &ept_format,	 .exits = vmx_exits,
	.nr_exits = VMX_NR_EXITS,    .lend_apic = vmx_lend_apic, .nested_msrs = vmx_nested_msrs,
	.scales_tsc = scales_tsc,
};
