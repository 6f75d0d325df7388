/*
 * ACPI tables: finds the RSDP, walks the root table and reads what struct acpi_info holds. All
 * tables go through next_table(), all entries inside a table through next_entry(): both are
 * bounded, whatever lengths and counts the firmware claims.
 */
#include "drivers/acpi.h"

#include "boot/bootinfo.h"
#include "drivers/acpi_tables.h"
#include "lib/error.h"
#include "lib/log.h"
#include "lib/string.h"

#define BIOS_EBDA_SEGMENT 0x40e
#define BIOS_AREA	  0xe0000
#define BIOS_AREA_SIZE	  0x20000
#define MAX_TABLES	  256
#define MAX_TABLE_SIZE	  MiB(4)

/* A signature as text; what is not printable becomes '?'. */
struct signature {
	char text[5];
};

static struct signature signature_of(const struct acpi_header *header) {
	struct signature s;

	for (int i = 0; i < 4; i++) {
		char c = header->signature[i];

		s.text[i] = c >= ' ' && c <= '~' ? c : '?';
	}
	s.text[4] = 0;
	return s;
}

/* ---- RSDP ---- */

/* Copies an RSDP when it is one. Version 1 is filled up with zeros. */
static bool rsdp_take(const void *data, size_t length, struct acpi_rsdp *out) {
	memset(out, 0, sizeof(*out));
	memcpy(out, data, min_u64(length, sizeof(*out)));
	if (memcmp(out->signature, "RSD PTR ", sizeof(out->signature)) ||
	    acpi_sum(out, RSDP_V1_SIZE))
		return false;
	if (out->revision >= 2 && length >= RSDP_V2_SIZE && !acpi_sum(out, RSDP_V2_SIZE))
		return true;
	if (out->revision >= 2)
		log_warn("ACPI: the RSDP's second part is missing or corrupt, the RSDT is used");
	out->revision = 0;
	out->xsdt = 0;
	return true;
}

/* Every 16 bytes of an area (ACPI 6.5 5.2.5.1). */
static bool rsdp_scan(hpa_t area, size_t size, struct acpi_rsdp *out) {
	const u8 *data = acpi_map(area, size);

	for (size_t at = 0; data && at + RSDP_V1_SIZE <= size; at += 16)
		if (rsdp_take(data + at, size - at, out))
			return true;
	return false;
}

static bool rsdp_find(const struct boot_info *boot, struct acpi_rsdp *out) {
	const void *pointer;
	u16 segment;

	if (boot->rsdp_size) {
		if (rsdp_take(boot->rsdp, boot->rsdp_size, out))
			return true;
		log_warn("ACPI: the boot loader's RSDP is corrupt, searching for another");
	}
	pointer = acpi_map(BIOS_EBDA_SEGMENT, sizeof(segment));
	if (pointer) {
		memcpy(&segment, pointer, sizeof(segment));
		if (segment >= 0x8000 && segment < 0xa000 &&
		    rsdp_scan((hpa_t)segment << 4, KiB(1), out))
			return true;
	}
	return rsdp_scan(BIOS_AREA, BIOS_AREA_SIZE, out);
}

/* ---- tables ---- */

/* Maps the header of a table. NULL, with a warning, when there can be none. */
static const struct acpi_header *map_header(hpa_t address) {
	const struct acpi_header *header = NULL;

	if (address)
		header = acpi_map(address, sizeof(*header));
	if (!header)
		log_warn("ACPI: no table can be at 0x%lx, left out", address);
	return header;
}

/* Maps a whole table and checks it; min is what its kind has at least. NULL with a warning. */
static const struct acpi_header *map_table(hpa_t address, size_t min) {
	const struct acpi_header *header = map_header(address);
	struct signature name;
	u32 length;

	if (!header)
		return NULL;
	name = signature_of(header);
	length = header->length;
	if (length < min || length > MAX_TABLE_SIZE) {
		log_warn("ACPI: table %s at 0x%lx has an impossible length of %u, left out",
			 name.text, address, length);
		return NULL;
	}
	header = acpi_map(address, length);
	if (!header) {
		log_warn("ACPI: table %s at 0x%lx is not mappable, left out", name.text, address);
		return NULL;
	}
	if (acpi_sum(header, length)) {
		log_warn("ACPI: table %s at 0x%lx has a wrong checksum, left out", name.text,
			 address);
		return NULL;
	}
	return header;
}

/* The addresses in the RSDT or XSDT. */
struct root {
	const u8 *entry;
	u32 count;
	u32 width; /* bytes an address: 4 or 8 */
	u32 next;
};

static bool root_open(struct root *root, hpa_t address, const char *signature, u32 width) {
	const struct acpi_header *header;

	header = address ? map_table(address, sizeof(*header)) : NULL;
	if (!header)
		return false;
	if (memcmp(header->signature, signature, 4)) {
		log_warn("ACPI: no %s at 0x%lx", signature, address);
		return false;
	}
	*root = (struct root){.entry = (const u8 *)(header + 1), .width = width};
	root->count = (header->length - (u32)sizeof(*header)) / width;
	if (root->count > MAX_TABLES) {
		log_warn("ACPI: %u tables listed, only the first %u are read", root->count,
			 MAX_TABLES);
		root->count = MAX_TABLES;
	}
	return true;
}

/* The address of the next table; false at the end. */
static bool next_table(struct root *root, hpa_t *address) {
	if (root->next == root->count)
		return false;
	*address = 0;
	memcpy(address, root->entry + (size_t)root->next * root->width, root->width);
	root->next++;
	return true;
}

/* Entries of variable length inside a table. */
struct entries {
	const u8 *at, *end;
	struct signature table;
};

static void entries_open(struct entries *it, const struct acpi_header *header, size_t skip) {
	it->at = (const u8 *)header + skip;
	it->end = (const u8 *)header + header->length;
	it->table = signature_of(header);
}

/* The next entry, NULL at the end. A length that cannot be ends the list. */
static const struct acpi_entry *next_entry(struct entries *it) {
	const struct acpi_entry *entry = (const struct acpi_entry *)it->at;
	size_t left = (size_t)(it->end - it->at);

	if (!left)
		return NULL;
	if (left < sizeof(*entry) || entry->length < sizeof(*entry) || entry->length > left) {
		log_warn("ACPI: table %s has an entry of impossible length, the rest is left out",
			 it->table.text);
		it->at = it->end;
		return NULL;
	}
	it->at += entry->length;
	return entry;
}

/* Copies an entry into to[size]; false when the entry is shorter than what it should be. */
static bool take_entry(const struct entries *it, const struct acpi_entry *entry, void *to,
		       size_t size) {
	if (entry->length < size) {
		log_warn("ACPI: table %s has an entry of type %u that is too short, left out",
			 it->table.text, entry->type);
		return false;
	}
	memcpy(to, entry, size);
	return true;
}

/* ---- MADT ---- */

static void add_cpu(struct acpi_info *out, u32 apic_id, u32 uid, u32 flags) {
	struct acpi_cpu cpu = {
		.apic_id = apic_id,
		.uid = uid,
		.enabled = flags & MADT_CPU_ENABLED,
		.online_capable = !(flags & MADT_CPU_ENABLED) && (flags & MADT_CPU_CAPABLE),
	};

	if (!cpu.enabled && !cpu.online_capable)
		return; /* an empty socket */
	for (u32 i = 0; i < out->nr_cpus; i++) {
		if (out->cpus[i].apic_id == apic_id) {
			log_warn("ACPI: APIC id %u is listed twice", apic_id);
			return;
		}
	}
	if (out->nr_cpus < ACPI_MAX_CPUS)
		out->cpus[out->nr_cpus++] = cpu;
	else
		log_warn("ACPI: more than %u CPUs, APIC id %u is left out", ACPI_MAX_CPUS, apic_id);
}

static void add_ioapic(struct acpi_info *out, const struct madt_ioapic *in) {
	for (u32 i = 0; i < out->nr_ioapics; i++) {
		if (out->ioapics[i].gsi_base == in->gsi_base ||
		    out->ioapics[i].address == in->address) {
			log_warn("ACPI: IOAPIC %u is listed twice", in->id);
			return;
		}
	}
	if (!in->address || out->nr_ioapics == ACPI_MAX_IOAPICS) {
		log_warn("ACPI: IOAPIC %u at 0x%x is left out", in->id, in->address);
		return;
	}
	out->ioapics[out->nr_ioapics++] = (struct acpi_ioapic){in->id, in->gsi_base, in->address};
}

static void set_irq(struct acpi_info *out, const struct madt_override *in) {
	if (in->bus != 0 || in->source >= ACPI_MAX_ISA_IRQS) {
		log_warn("ACPI: override of interrupt %u on bus %u is left out", in->source,
			 in->bus);
		return;
	}
	/* "As the bus has it" (0) means edge and high for ISA (ACPI 6.5 table 5.26). */
	out->irq[in->source] =
		(struct acpi_irq){in->gsi, (in->flags & MADT_POLARITY) == MADT_ACTIVE_LOW,
				  (in->flags & MADT_TRIGGER) == MADT_LEVEL};
}

static void add_cpu_nmi(struct acpi_info *out, u32 uid, u8 lint, u16 flags) {
	if (lint > 1 || out->nr_cpu_nmis == ACPI_MAX_CPU_NMIS) {
		log_warn("ACPI: NMI on LINT%u of processor %u is left out", lint, uid);
		return;
	}
	out->cpu_nmis[out->nr_cpu_nmis++] =
		(struct acpi_cpu_nmi){uid, lint, (flags & MADT_POLARITY) == MADT_ACTIVE_LOW,
				      (flags & MADT_TRIGGER) == MADT_LEVEL};
}

static void read_madt_entry(struct acpi_info *out, const struct entries *it,
			    const struct acpi_entry *entry) {
	union {
		struct madt_lapic lapic;
		struct madt_ioapic ioapic;
		struct madt_override override;
		struct madt_lapic_nmi nmi;
		struct madt_lapic_address address;
		struct madt_x2apic x2apic;
		struct madt_x2apic_nmi x2apic_nmi;
	} in;

	switch (entry->type) {
	case MADT_LAPIC:
		/* Id 255 addresses all xAPICs, so that no CPU can have it: an empty slot. */
		if (take_entry(it, entry, &in, sizeof(in.lapic)) && in.lapic.apic_id != 0xff)
			add_cpu(out, in.lapic.apic_id, in.lapic.uid, in.lapic.flags);
		break;
	case MADT_X2APIC:
		if (take_entry(it, entry, &in, sizeof(in.x2apic)) &&
		    in.x2apic.apic_id != 0xffffffff)
			add_cpu(out, in.x2apic.apic_id, in.x2apic.uid, in.x2apic.flags);
		break;
	case MADT_IOAPIC:
		if (take_entry(it, entry, &in, sizeof(in.ioapic)))
			add_ioapic(out, &in.ioapic);
		break;
	case MADT_OVERRIDE:
		if (take_entry(it, entry, &in, sizeof(in.override)))
			set_irq(out, &in.override);
		break;
	case MADT_LAPIC_NMI:
		if (take_entry(it, entry, &in, sizeof(in.nmi)))
			add_cpu_nmi(out, in.nmi.uid == 0xff ? ACPI_ALL_CPUS : in.nmi.uid,
				    in.nmi.lint, in.nmi.flags);
		break;
	case MADT_X2APIC_NMI:
		if (take_entry(it, entry, &in, sizeof(in.x2apic_nmi)))
			add_cpu_nmi(out, in.x2apic_nmi.uid, in.x2apic_nmi.lint,
				    in.x2apic_nmi.flags);
		break;
	case MADT_LAPIC_ADDRESS:
		if (take_entry(it, entry, &in, sizeof(in.address)))
			out->lapic = in.address.address;
		break;
	default: /* of other architectures, or nothing that Roost needs */ break;
	}
}

static void read_madt(struct acpi_info *out, const struct acpi_header *header) {
	const struct acpi_madt *madt = (const struct acpi_madt *)header;
	const struct acpi_entry *entry;
	struct entries it;

	if (out->lapic) {
		log_warn("ACPI: a second MADT is left out");
		return;
	}
	out->lapic = madt->lapic;
	out->has_8259 = madt->flags & MADT_HAS_8259;
	entries_open(&it, header, sizeof(*madt));
	while ((entry = next_entry(&it)))
		read_madt_entry(out, &it, entry);
}

/* ---- FADT and power-off ---- */

/* A register from its generic address; address 0 when it is none that Roost can use. */
static struct acpi_reg reg_of(const struct acpi_gas *gas) {
	struct acpi_reg reg = {gas->address, (enum acpi_space)gas->space, gas->width};

	if ((gas->space == ACPI_SPACE_IO && gas->address <= 0xffff) ||
	    (gas->space == ACPI_SPACE_MEMORY && gas->address < MEMMAP_LIMIT))
		return reg;
	if (gas->address)
		log_warn("ACPI: register 0x%lx in address space %u cannot be used", gas->address,
			 gas->space);
	return (struct acpi_reg){0, ACPI_SPACE_MEMORY, 0};
}

/* The 64-bit field where it says something, else the old port number. */
static struct acpi_reg fadt_reg(const struct acpi_gas *gas, u32 port, u32 bytes) {
	struct acpi_gas old = {ACPI_SPACE_IO, (u8)min_u64(bytes * 8, 255), 0, 0, port};
	struct acpi_reg reg = reg_of(gas);

	return reg.address ? reg : reg_of(&old);
}

/* One integer of an AML package (ACPI 6.5 20.2.3); false when it is something else. */
static bool aml_integer(const u8 **at, const u8 *end, u8 *low_byte) {
	/* Bytes by the first of them; 0: no integer. */
	static const u8 sizes[256] = {
		[AML_ZERO] = 1, [AML_ONE] = 1,	 [AML_ONES] = 1, [AML_BYTE] = 2,
		[AML_WORD] = 3, [AML_DWORD] = 5, [AML_QWORD] = 9};
	size_t left = (size_t)(end - *at);
	u8 op = left ? **at : AML_NO_OP;
	size_t size = sizes[op];

	if (!size || left < size)
		return false;
	*low_byte = size > 1 ? (*at)[1] : op;
	*at += size;
	return true;
}

/*
 * Reads the package that follows the name: PackageOp, a length of 1 to 4 bytes, the number of
 * elements, SLP_TYPa, SLP_TYPb (ACPI 6.5 7.4.2, 20.2.5.4).
 */
static bool s5_package(const u8 *at, const u8 *end, u8 *type_a, u8 *type_b) {
	size_t skip;
	u8 count;

	if (end - at < 3 || *at != AML_PACKAGE)
		return false;
	/* Bits 7:6 of the first byte say how many more bytes the length has. */
	skip = 2 + (at[1] >> 6);
	if ((size_t)(end - at) <= skip)
		return false;
	count = at[skip];
	at += skip + 1;
	if (!count || !aml_integer(&at, end, type_a))
		return false;
	*type_b = 0;
	return count == 1 || aml_integer(&at, end, type_b);
}

/* Looks for the name \_S5_ anywhere in a definition block, unless it was found before. */
static void find_s5(struct acpi_info *out, const struct acpi_header *header) {
	const u8 *code = (const u8 *)(header + 1);
	size_t length = header->length - sizeof(*header);

	for (size_t i = 1; i + 4 <= length && !out->has_s5; i++) {
		u8 a, b;

		if (code[i] != '_' || memcmp(code + i, "_S5_", 4))
			continue;
		if (code[i - 1] != AML_NAME &&
		    (code[i - 1] != '\\' || i < 2 || code[i - 2] != AML_NAME))
			continue;
		if (!s5_package(code + i + 4, code + length, &a, &b))
			continue;
		out->s5_type_a = a & 7;
		out->s5_type_b = b & 7;
		out->has_s5 = true;
	}
}

static void read_dsdt(struct acpi_info *out, hpa_t address) {
	const struct acpi_header *header = map_table(address, sizeof(*header));

	if (!header)
		return;
	if (memcmp(header->signature, "DSDT", 4))
		log_warn("ACPI: no DSDT at 0x%lx", address);
	else
		find_s5(out, header);
}

static void read_fadt(struct acpi_info *out, const struct acpi_header *header) {
	struct acpi_fadt fadt;

	if (out->pm1a_control.address) {
		log_warn("ACPI: a second FADT is left out");
		return;
	}
	/* What an older, shorter table does not have is 0. */
	memset(&fadt, 0, sizeof(fadt));
	memcpy(&fadt, header, min_u64(header->length, sizeof(fadt)));

	out->fadt_flags = fadt.flags;
	out->sci = fadt.sci;
	out->pm_timer = fadt_reg(&fadt.x_pm_timer, fadt.pm_timer, fadt.pm_timer_length);
	out->pm_timer_32bit = fadt.flags & FADT_TIMER_32BIT;
	out->pm1a_event = fadt_reg(&fadt.x_pm1a_event, fadt.pm1a_event, fadt.pm1_event_length);
	out->pm1b_event = fadt_reg(&fadt.x_pm1b_event, fadt.pm1b_event, fadt.pm1_event_length);
	out->pm1a_control =
		fadt_reg(&fadt.x_pm1a_control, fadt.pm1a_control, fadt.pm1_control_length);
	out->pm1b_control =
		fadt_reg(&fadt.x_pm1b_control, fadt.pm1b_control, fadt.pm1_control_length);
	out->smi_command = fadt.smi_command <= 0xffff ? fadt.smi_command : 0;
	out->acpi_enable = fadt.acpi_enable;
	if (header->revision >= 2) {
		out->has_8042 = fadt.boot_arch & FADT_ARCH_8042;
		out->no_vga = fadt.boot_arch & FADT_ARCH_NO_VGA;
	} else {
		out->has_8042 = true; /* machines of that age always have one */
	}
	if (fadt.flags & FADT_HAS_RESET) {
		out->reset = reg_of(&fadt.reset);
		out->reset_value = fadt.reset_value;
	}
	read_dsdt(out, fadt.x_dsdt ? fadt.x_dsdt : fadt.dsdt);
}

/* ---- small tables ---- */

static void read_hpet(struct acpi_info *out, const struct acpi_header *header) {
	const struct acpi_hpet *hpet = (const struct acpi_hpet *)header;
	struct acpi_reg reg = reg_of(&hpet->base);

	/* The first one is the one that has legacy replacement; more may follow. */
	if (!out->hpet && reg.space == ACPI_SPACE_MEMORY)
		out->hpet = reg.address;
}

static void read_mcfg(struct acpi_info *out, const struct acpi_header *header) {
	size_t at = sizeof(struct acpi_mcfg);

	for (; at + sizeof(struct mcfg_entry) <= header->length; at += sizeof(struct mcfg_entry)) {
		struct mcfg_entry in;

		memcpy(&in, (const u8 *)header + at, sizeof(in));
		if (in.first_bus > in.last_bus || !in.base || in.base % MiB(1) ||
		    in.base >= MEMMAP_LIMIT || out->nr_ecams == ACPI_MAX_ECAMS) {
			log_warn("ACPI: MCFG range at 0x%lx, buses %u to %u, is left out", in.base,
				 in.first_bus, in.last_bus);
			if (out->nr_ecams == ACPI_MAX_ECAMS)
				return;
			continue;
		}
		out->ecams[out->nr_ecams++] =
			(struct acpi_ecam){in.base, in.segment, in.first_bus, in.last_bus};
	}
}

static u32 spcr_baud(u8 code) {
	static const u32 bauds[] = {[3] = 9600, [4] = 19200, [6] = 57600, [7] = 115200};

	return code < ARRAY_SIZE(bauds) ? bauds[code] : 0;
}

static void read_spcr(struct acpi_info *out, const struct acpi_header *header) {
	const struct acpi_spcr_table *in = (const struct acpi_spcr_table *)header;
	struct acpi_spcr spcr = {.present = true,
				 .reg = reg_of(&in->base),
				 .stride = 1,
				 .baud = spcr_baud(in->baud)};

	if (in->interface != SPCR_16550 && in->interface != SPCR_16450 &&
	    in->interface != SPCR_16550_GAS) {
		log_warn("ACPI: SPCR names a serial port of type %u, which is not supported",
			 in->interface);
		return;
	}
	if (!spcr.reg.address)
		return; /* this is how the firmware says that redirection is off */
	/* Registers in memory may be 32 bits wide and apart. */
	if (spcr.reg.space == ACPI_SPACE_MEMORY &&
	    (spcr.reg.width == 32 || in->base.access == ACPI_ACCESS_32))
		spcr.stride = 4;
	if (in->irq_types & SPCR_IRQ_IOAPIC)
		spcr.gsi = in->gsi;
	else if (in->irq_types & SPCR_IRQ_8259)
		spcr.gsi = in->irq;
	out->spcr = spcr;
}

static const struct {
	char signature[5];
	u32 min_length;
	void (*read)(struct acpi_info *out, const struct acpi_header *header);
} tables[] = {
	{"APIC", sizeof(struct acpi_madt), read_madt},
	{"FACP", FADT_V1_SIZE, read_fadt},
	{"HPET", sizeof(struct acpi_hpet), read_hpet},
	{"MCFG", sizeof(struct acpi_mcfg), read_mcfg},
	{"SPCR", sizeof(struct acpi_spcr_table), read_spcr},
	{"SSDT", sizeof(struct acpi_header), find_s5},
};

static void read_table(struct acpi_info *out, hpa_t address) {
	const struct acpi_header *header = map_header(address);

	for (size_t i = 0; header && i < ARRAY_SIZE(tables); i++) {
		if (memcmp(header->signature, tables[i].signature, 4))
			continue;
		header = map_table(address, tables[i].min_length);
		if (header)
			tables[i].read(out, header);
		return;
	}
}

int acpi_parse(const struct boot_info *boot, struct acpi_info *out) {
	struct acpi_rsdp rsdp;
	struct root root;
	hpa_t address;

	memset(out, 0, sizeof(*out));
	for (u32 i = 0; i < ACPI_MAX_ISA_IRQS; i++)
		out->irq[i].gsi = i;
	if (!rsdp_find(boot, &rsdp))
		return E_NOENT;
	if (!root_open(&root, rsdp.xsdt, "XSDT", 8) && !root_open(&root, rsdp.rsdt, "RSDT", 4))
		return E_FORMAT;
	while (next_table(&root, &address))
		read_table(out, address);
	return 0;
}
