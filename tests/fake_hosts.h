/*
 * Machines below Roost, for unit tests of what is built on the host's CPUID. Each is a function of
 * the form that struct cpu_model_host takes. Like real processors they answer leaves beyond their
 * maximum with something other than zeros.
 */
#pragma once

#include "lib/types.h"
#include "platform/cpu_model.h"

static inline void fake_leaf(u32 out[4], u32 eax, u32 ebx, u32 ecx, u32 edx) {
	out[0] = eax;
	out[1] = ebx;
	out[2] = ecx;
	out[3] = edx;
}

/* State components 0xd.2 on, as every processor lays them out. */
static inline void fake_xsave_component(u32 sub, u32 out[4]) {
	switch (sub) {
	case 2: fake_leaf(out, 256, 576, 0, 0); break;
	case 5: fake_leaf(out, 64, 1088, 0, 0); break;
	case 6: fake_leaf(out, 512, 1152, 0, 0); break;
	case 7: fake_leaf(out, 1024, 1664, 0, 0); break;
	case 9:
		fake_leaf(out, 8, 2688, 2, 0); /* aligned, as a test of that rule */
		break;
	default: fake_leaf(out, 0, 0, 0, 0); break;
	}
}

/* An AMD processor of family 17h with SVM, all caches described, and no AVX-512. */
static inline void fake_amd_cpuid(u32 leaf, u32 sub, u32 out[4]) {
	fake_leaf(out, 0, 0, 0, 0);
	switch (leaf) {
	case 0: fake_leaf(out, 0xd, 0x68747541, 0x444d4163, 0x69746e65); break;
	case 1: /* host APIC id 5, 8 logical processors, CLFLUSH 64 bytes */
		fake_leaf(out, 0x00800f12, 0x05080800, 0x7ed8320b, 0x178bfbff);
		break;
	case 5: fake_leaf(out, 0x40, 0x40, 3, 0x11); break;
	case 7:
		if (sub == 0) fake_leaf(out, 0, 0x209c01a9, 0x00400004, 0x00000000);
		break;
	case 0xb: fake_leaf(out, 1, 2, 0x100 | sub, 5); break;
	case 0xd:
		if (sub == 0)
			fake_leaf(out, 7, 832, 832, 0);
		else if (sub == 1)
			fake_leaf(out, 0xf, 832, 0, 0);
		else
			fake_xsave_component(sub, out);
		break;
	case CPUID_EXT: fake_leaf(out, CPUID_EXT + 0x1f, 0x68747541, 0x444d4163, 0x69746e65); break;
	case CPUID_EXT + 1: /* with SVM, IBS, perfmon, MONITORX, topology extensions */
		fake_leaf(out, 0x00800f12, 0x70000000, 0x35c233ff, 0x2fd3fbff);
		break;
	case CPUID_EXT + 2: fake_leaf(out, 0x20444d41, 0x43595045, 0x00000020, 0); break;
	case CPUID_EXT + 5: fake_leaf(out, 0xff40ff40, 0xff40ff40, 0x20080140, 0x40040140); break;
	case CPUID_EXT + 6: fake_leaf(out, 0x26006400, 0x66006400, 0x02006140, 0x00808140); break;
	case CPUID_EXT + 7: fake_leaf(out, 0, 0x1b, 0, 0x6599); break;
	case CPUID_EXT + 8: fake_leaf(out, 0x3030, 0x1007, 0x400f, 0); break;
	case CPUID_EXT + 0xa: fake_leaf(out, 1, 0x8000, 0, 0x1bcff); break;
	case CPUID_EXT + 0x1d:
		if (sub == 0)
			fake_leaf(out, 0x4121, 0x1c0003f, 63, 0);
		else if (sub == 1)
			fake_leaf(out, 0x4122, 0xc0003f, 255, 0);
		else if (sub == 2)
			fake_leaf(out, 0x4143, 0x1c0003f, 1023, 2);
		else if (sub == 3)
			fake_leaf(out, 0x1c163, 0x3c0003f, 8191, 1);
		break;
	case CPUID_EXT + 0x1e: fake_leaf(out, 5, 0x101, 1, 0); break;
	case CPUID_EXT + 0x1f: /* SME */ fake_leaf(out, 0xf, 0x16f, 0xf, 1); break;
	default: break;
	}
}

/* An Intel processor with VMX, AVX-512 and protection keys. */
static inline void fake_intel_cpuid(u32 leaf, u32 sub, u32 out[4]) {
	fake_leaf(out, 0, 0, 0, 0);
	if ((leaf > 0x16 && leaf < CPUID_EXT) || leaf > CPUID_EXT + 8) leaf = 0x16;
	switch (leaf) {
	case 0: fake_leaf(out, 0x16, 0x756e6547, 0x6c65746e, 0x49656e69); break;
	case 1: fake_leaf(out, 0x00050654, 0x02200800, 0x7ffefbff, 0xbfebfbff); break;
	case 2: fake_leaf(out, 0x76036301, 0x00f0b5ff, 0, 0x00c30000); break;
	case 4:
		if (sub == 0)
			fake_leaf(out, 0x3c004121, 0x1c0003f, 63, 0);
		else if (sub == 1)
			fake_leaf(out, 0x3c004122, 0x1c0003f, 63, 0);
		else if (sub == 2)
			fake_leaf(out, 0x3c004143, 0x3c0003f, 1023, 0);
		else if (sub == 3)
			fake_leaf(out, 0x3c07c163, 0x280003f, 40959, 4);
		break;
	case 6: fake_leaf(out, 0x2f7, 2, 9, 0); break;
	case 7:
		if (sub == 0) fake_leaf(out, 0, 0xd39ffffb, 0x00000018, 0xbc000400);
		break;
	case 0xa: fake_leaf(out, 0x07300804, 0, 0, 0x603); break;
	case 0xd:
		if (sub == 0)
			fake_leaf(out, 0x2ff, 0xa88, 0xa88, 0);
		else if (sub == 1)
			fake_leaf(out, 0xf, 0xa08, 0x100, 0);
		else
			fake_xsave_component(sub, out);
		break;
	case 0x15: fake_leaf(out, 2, 168, 0, 0); break;
	case 0x16: fake_leaf(out, 2100, 3000, 100, 0); break;
	case CPUID_EXT: fake_leaf(out, CPUID_EXT + 8, 0, 0, 0); break;
	case CPUID_EXT + 1: fake_leaf(out, 0, 0, 0x121, 0x2c100800); break;
	case CPUID_EXT + 6: fake_leaf(out, 0, 0, 0x01006040, 0); break;
	case CPUID_EXT + 7: fake_leaf(out, 0, 0, 0, 0x100); break;
	case CPUID_EXT + 8: fake_leaf(out, 0x302e, 0, 0, 0); break;
	default: break;
	}
}

static const struct cpu_model_host fake_amd __attribute__((unused)) = {
	.host_cpuid = fake_amd_cpuid, .host_xcr0 = 7, .gpa_bits = 48, .is_amd = true};

static const struct cpu_model_host fake_intel __attribute__((unused)) = {
	.host_cpuid = fake_intel_cpuid, .host_xcr0 = 0x2e7, .gpa_bits = 46, .is_amd = false};
