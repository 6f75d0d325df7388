/* Reads the ACPI tables. All walks are bounded, whatever lengths and counts the firmware claims. */
#include "drivers/acpi.h"

#include "boot/bootinfo.h"
#include "drivers/acpi_tables.h"
#include "lib/log.h"
#include "lib/string.h"

#define BIOS_EBDA_SEGMENT 0x40e
#define BIOS_AREA	  0xe0000
#define BIOS_AREA_SIZE	  0x20000
#define MAX_TABLES	  256
#define MAX_TABLE_SIZE	  MiB(4)

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
	const u8 *data = phys_peek(area, size);

	for (size_t at = 0; data && at + RSDP_V1_SIZE <= size; at += 16)
		if (rsdp_take(data + at, size - at, out)) return true;
	return false;
}

static bool rsdp_find(const struct boot_info *boot, struct acpi_rsdp *out) {
	u16 segment;

	if (boot->rsdp_size) {
		if (rsdp_take(boot->rsdp, boot->rsdp_size, out)) return true;
		log_warn("ACPI: the boot loader's RSDP is corrupt, searching for another");
	}
	if (boot->efi) return false;
	const void *pointer = phys_peek(BIOS_EBDA_SEGMENT, sizeof(segment));
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

	if (address) header = phys_peek(address, sizeof(*header));
	if (!header) log_warn("ACPI: no table can be at 0x%lx, left out", address);
	return header;
}

/* Maps a whole table and checks it; min is what its kind has at least. NULL with a warning. */
static const struct acpi_header *map_table(hpa_t address, const char *name, size_t min) {
	const struct acpi_header *header = map_header(address);

	if (!header) return NULL;
	if (memcmp(header->signature, name, sizeof(header->signature))) {
		log_warn("ACPI: no %s at 0x%lx", name, address);
		return NULL;
	}
	u32 length = header->length;
	if (length < min || length > MAX_TABLE_SIZE) {
		log_warn("ACPI: table %s at 0x%lx has an impossible length of %u, left out", name,
			 address, length);
		return NULL;
	}
	header = phys_peek(address, length);
	if (header && !acpi_sum(header, length)) return header;
	log_warn("ACPI: table %s at 0x%lx %s, left out", name, address,
		 header ? "has a wrong checksum" : "is not mappable");
	return NULL;
}

/* ---- MADT ---- */

static void add_cpu(struct acpi_info *out, u32 apic_id, u32 flags) {
	if (!(flags & MADT_CPU_ENABLED)) return; /* an empty socket, perhaps one to be filled */
	for (u32 i = 0; i < out->nr_cpus; i++) {
		if (out->apic_ids[i] == apic_id) {
			log_warn("ACPI: APIC id %u is listed twice", apic_id);
			return;
		}
	}
	if (out->nr_cpus < ACPI_MAX_CPUS)
		out->apic_ids[out->nr_cpus++] = apic_id;
	else
		log_warn("ACPI: more than %u CPUs, APIC id %u is left out", ACPI_MAX_CPUS, apic_id);
}

static void add_ioapic(struct acpi_info *out, const struct madt_ioapic *in) {
	if (!in->address || out->nr_ioapics == ACPI_MAX_IOAPICS) {
		log_warn("ACPI: IOAPIC %u at 0x%x is left out", in->id, in->address);
		return;
	}
	out->ioapics[out->nr_ioapics++] = (struct acpi_ioapic){in->gsi_base, in->address};
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

/* The entries that Roost reads, each with what it has at least. */
static void read_madt_entry(struct acpi_info *out, const struct acpi_entry *entry) {
	static const u8 sizes[] = {
		[MADT_LAPIC] = sizeof(struct madt_lapic),
		[MADT_IOAPIC] = sizeof(struct madt_ioapic),
		[MADT_OVERRIDE] = sizeof(struct madt_override),
		[MADT_LAPIC_ADDRESS] = sizeof(struct madt_lapic_address),
		[MADT_X2APIC] = sizeof(struct madt_x2apic),
	};
	const union {
		struct acpi_entry entry;
		struct madt_lapic lapic;
		struct madt_ioapic ioapic;
		struct madt_override override;
		struct madt_lapic_address address;
		struct madt_x2apic x2apic;
	} __packed *in = (const void *)entry;

	if (entry->type < ARRAY_SIZE(sizes) && entry->length < sizes[entry->type]) {
		log_warn("ACPI: table APIC has an entry of type %u that is too short, left out",
			 entry->type);
		return;
	}
	switch (entry->type) {
	case MADT_LAPIC:
		/* Id 255 addresses all xAPICs, so that no CPU can have it: an empty slot. */
		if (in->lapic.apic_id != 0xff) add_cpu(out, in->lapic.apic_id, in->lapic.flags);
		break;
	case MADT_X2APIC:
		if (in->x2apic.apic_id != 0xffffffff)
			add_cpu(out, in->x2apic.apic_id, in->x2apic.flags);
		break;
	case MADT_IOAPIC: add_ioapic(out, &in->ioapic); break;
	case MADT_OVERRIDE: set_irq(out, &in->override); break;
	case MADT_LAPIC_ADDRESS: out->lapic = in->address.address; break;
	default: /* of other architectures, or nothing that Roost needs */ break;
	}
}

static void read_madt(struct acpi_info *out, const struct acpi_header *header) {
	const u8 *at = (const u8 *)header + sizeof(struct acpi_madt);
	const u8 *end = (const u8 *)header + header->length;

	if (out->lapic) {
		log_warn("ACPI: a second MADT is left out");
		return;
	}
	out->lapic = ((const struct acpi_madt *)header)->lapic;
	while (at < end) {
		const struct acpi_entry *entry = (const struct acpi_entry *)at;
		size_t left = (size_t)(end - at);

		if (left < sizeof(*entry) || entry->length < sizeof(*entry) ||
		    entry->length > left) {
			log_warn("ACPI: table APIC has an entry of impossible length, the rest is "
				 "left out");
			return;
		}
		read_madt_entry(out, entry);
		at += entry->length;
	}
}

/* ---- FADT and power-off ---- */

/* The I/O port of a register; 0, with a warning, when it is something else. */
static u16 port_of(const struct acpi_gas *gas) {
	if (gas->space == ACPI_SPACE_IO && gas->address <= 0xffff) return (u16)gas->address;
	if (gas->address)
		log_warn("ACPI: register 0x%lx in address space %u cannot be used", gas->address,
			 gas->space);
	return 0;
}

/* The 64-bit field where it says something, else the old port number. */
static u16 fadt_port(const struct acpi_gas *gas, u32 old) {
	u16 port = port_of(gas);

	return port || old > 0xffff ? port : (u16)old;
}

/* One integer of an AML package (ACPI 6.5 20.2.3); false when it is something else. */
static bool aml_integer(const u8 **at, const u8 *end, u8 *low_byte) {
	/* Bytes by the first of them; 0: no integer. */
	static const u8 sizes[256] = {
		[AML_ZERO] = 1, [AML_ONE] = 1,	 [AML_ONES] = 1, [AML_BYTE] = 2,
		[AML_WORD] = 3, [AML_DWORD] = 5, [AML_QWORD] = 9};
	const u8 *byte = *at;

	if (byte == end || !sizes[*byte] || end - byte < sizes[*byte]) return false;
	*low_byte = sizes[*byte] > 1 ? byte[1] : *byte;
	*at += sizes[*byte];
	return true;
}

/* The package behind the name: PackageOp, length, count, SLP_TYPa, SLP_TYPb (ACPI 6.5 7.4.2). */
static bool s5_package(const u8 *at, const u8 *end, u8 *type_a, u8 *type_b) {
	/* Bits 7:6 of the length's first byte say how many more bytes it has. */
	if (end - at < 3 || *at != AML_PACKAGE || end - at <= 2 + (at[1] >> 6)) return false;
	at += 2 + (at[1] >> 6);
	u8 count = *at++;
	*type_b = 0;
	return count && aml_integer(&at, end, type_a) &&
	       (count == 1 || aml_integer(&at, end, type_b));
}

/* Looks for the name \_S5_ anywhere in a definition block, unless it was found before. */
static void find_s5(struct acpi_info *out, const struct acpi_header *header) {
	const u8 *code = (const u8 *)(header + 1);
	size_t length = header->length - sizeof(*header);

	for (size_t i = 1; i + 4 <= length && !out->has_s5; i++) {
		u8 a, b;
		bool named = code[i - 1] == AML_NAME ||
			     (code[i - 1] == '\\' && i > 1 && code[i - 2] == AML_NAME);

		if (!named || memcmp(code + i, "_S5_", 4) ||
		    !s5_package(code + i + 4, code + length, &a, &b))
			continue;
		out->s5_type_a = a & 7;
		out->s5_type_b = b & 7;
		out->has_s5 = true;
	}
}

static void read_fadt(struct acpi_info *out, const struct acpi_header *header) {
	const struct acpi_header *dsdt;
	struct acpi_fadt fadt;

	if (out->pm1a_control) {
		log_warn("ACPI: a second FADT is left out");
		return;
	}
	/* What an older, shorter table does not have is 0. */
	memset(&fadt, 0, sizeof(fadt));
	memcpy(&fadt, header, min_u64(header->length, sizeof(fadt)));

	out->pm_timer = fadt_port(&fadt.x_pm_timer, fadt.pm_timer);
	out->pm1a_control = fadt_port(&fadt.x_pm1a_control, fadt.pm1a_control);
	out->pm1b_control = fadt_port(&fadt.x_pm1b_control, fadt.pm1b_control);
	out->smi_command = fadt.smi_command <= 0xffff ? (u16)fadt.smi_command : 0;
	out->acpi_enable = fadt.acpi_enable;
	/* Machines of the first revision's age always have an 8042. */
	out->has_8042 = header->revision < 2 || fadt.boot_arch & FADT_ARCH_8042;
	out->no_vga = header->revision >= 2 && fadt.boot_arch & FADT_ARCH_NO_VGA;
	if (fadt.flags & FADT_HAS_RESET) {
		out->reset = port_of(&fadt.reset);
		out->reset_value = fadt.reset_value;
	}
	dsdt = map_table(fadt.x_dsdt ? fadt.x_dsdt : fadt.dsdt, "DSDT", sizeof(*dsdt));
	if (dsdt) find_s5(out, dsdt);
}

/* ---- small tables ---- */

static void read_hpet(struct acpi_info *out, const struct acpi_header *header) {
	const struct acpi_gas *base = &((const struct acpi_hpet *)header)->base;

	/* The first one is the one that has legacy replacement; more may follow. */
	if (!out->hpet && base->space == ACPI_SPACE_MEMORY && base->address < MEMMAP_LIMIT)
		out->hpet = base->address;
}

static void read_spcr(struct acpi_info *out, const struct acpi_header *header) {
	static const u32 bauds[] = {[3] = 9600, [4] = 19200, [6] = 57600, [7] = 115200};
	const struct acpi_spcr_table *in = (const struct acpi_spcr_table *)header;

	if (in->interface != SPCR_16550 && in->interface != SPCR_16450 &&
	    in->interface != SPCR_16550_GAS) {
		log_warn("ACPI: SPCR names a serial port of type %u, which is not supported",
			 in->interface);
		return;
	}
	out->spcr_port = port_of(&in->base); /* 0 also says that redirection is off */
	out->spcr_baud = in->baud < ARRAY_SIZE(bauds) ? bauds[in->baud] : 0;
}

static void read_table(struct acpi_info *out, hpa_t address) {
	static const struct {
		char signature[5];
		u32 min_length;
		void (*read)(struct acpi_info *out, const struct acpi_header *header);
	} tables[] = {
		{"APIC", sizeof(struct acpi_madt), read_madt},
		{"FACP", FADT_V1_SIZE, read_fadt},
		{"HPET", sizeof(struct acpi_hpet), read_hpet},
		{"SPCR", sizeof(struct acpi_spcr_table), read_spcr},
		{"SSDT", sizeof(struct acpi_header), find_s5},
	};
	const struct acpi_header *header = map_header(address);

	for (size_t i = 0; header && i < ARRAY_SIZE(tables); i++) {
		if (memcmp(header->signature, tables[i].signature, 4)) continue;
		header = map_table(address, tables[i].signature, tables[i].min_length);
		if (header) tables[i].read(out, header);
		return;
	}
}

/* Reads all tables that the RSDT or XSDT lists, by addresses of `width` bytes. */
static bool read_root(struct acpi_info *out, hpa_t address, const char *signature, u32 width) {
	const struct acpi_header *header =
		address ? map_table(address, signature, sizeof(*header)) : NULL;
	u32 count;

	if (!header) return false;
	count = (header->length - (u32)sizeof(*header)) / width;
	if (count > MAX_TABLES)
		log_warn("ACPI: %u tables listed, only the first %u are read", count, MAX_TABLES);
	for (u32 i = 0; i < count && i < MAX_TABLES; i++) {
		hpa_t table = 0;

		memcpy(&table, (const u8 *)(header + 1) + (size_t)i * width, width);
		read_table(out, table);
	}
	return true;
}

int acpi_parse(const struct boot_info *boot, struct acpi_info *out) {
	struct acpi_rsdp rsdp;

	memset(out, 0, sizeof(*out));
	out->has_8042 = true; /* a machine without tables does not say */
	for (u32 i = 0; i < ACPI_MAX_ISA_IRQS; i++) out->irq[i].gsi = i;
	if (!rsdp_find(boot, &rsdp)) return E_NOENT;
	if (read_root(out, rsdp.xsdt, "XSDT", 8) || read_root(out, rsdp.rsdt, "RSDT", 4)) return 0;
	return E_FORMAT;
}
