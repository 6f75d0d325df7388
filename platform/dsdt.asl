/*
 * The guest's differentiated system description table (ACPI 5.1, 5.2.11.1): what a guest cannot
 * enumerate by itself. iasl compiles it at build time (platform/dsdt.mk).
 */
#define PCI_IRQS(slot, a, b, c, d) \
	Package () { slot, 0, 0, a }, \
	Package () { slot, 1, 0, b }, \
	Package () { slot, 2, 0, c }, \
	Package () { slot, 3, 0, d }

/* Pin p of device d drives GSI 16 + (d + p) % 4. */
#define PCI_FOUR_SLOTS(s0, s1, s2, s3) \
	PCI_IRQS (s0, 16, 17, 18, 19), \
	PCI_IRQS (s1, 17, 18, 19, 16), \
	PCI_IRQS (s2, 18, 19, 16, 17), \
	PCI_IRQS (s3, 19, 16, 17, 18)

DefinitionBlock ("dsdt.aml", "DSDT", 2, "ROOST ", "ROOSTVM ", 1)
{
	/* SLP_TYP of soft off (platform/pmio.h); the other sleep states do not exist. */
	Name (\_S5, Package () { 5, 5, 0, 0 })

	Scope (\_SB)
	{
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A03"))
			Name (_UID, 0)
			Name (_SEG, 0)
			Name (_BBN, 0)

			/* Only bus 0, so that nobody looks for devices on the other 255. */
			Name (_CRS, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					0, 0, 0, 0, 1)
				IO (Decode16, 0xCF8, 0xCF8, 1, 8)
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
					0, 0x0000, 0x0CF7, 0, 0x0CF8)
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
					0, 0x0D00, 0xFFFF, 0, 0xF300)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					NonCacheable, ReadWrite,
					0, 0xC0000000, 0xFEBFFFFF, 0, 0x3EC00000)
			})

			Name (_PRT, Package ()
			{
				PCI_FOUR_SLOTS (0x0000FFFF, 0x0001FFFF, 0x0002FFFF, 0x0003FFFF),
				PCI_FOUR_SLOTS (0x0004FFFF, 0x0005FFFF, 0x0006FFFF, 0x0007FFFF),
				PCI_FOUR_SLOTS (0x0008FFFF, 0x0009FFFF, 0x000AFFFF, 0x000BFFFF),
				PCI_FOUR_SLOTS (0x000CFFFF, 0x000DFFFF, 0x000EFFFF, 0x000FFFFF),
				PCI_FOUR_SLOTS (0x0010FFFF, 0x0011FFFF, 0x0012FFFF, 0x0013FFFF),
				PCI_FOUR_SLOTS (0x0014FFFF, 0x0015FFFF, 0x0016FFFF, 0x0017FFFF),
				PCI_FOUR_SLOTS (0x0018FFFF, 0x0019FFFF, 0x001AFFFF, 0x001BFFFF),
				PCI_FOUR_SLOTS (0x001CFFFF, 0x001DFFFF, 0x001EFFFF, 0x001FFFFF)
			})
		}

		/* What is fixed in the I/O space and belongs to no device below. */
		Device (MBRD)
		{
			Name (_HID, EisaId ("PNP0C02"))
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x0600, 0x0600, 1, 0x0C) /* power management */
			})
		}

		Device (PIC0)
		{
			Name (_HID, EisaId ("PNP0000"))
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x0020, 0x0020, 1, 2)
				IO (Decode16, 0x00A0, 0x00A0, 1, 2)
				IO (Decode16, 0x04D0, 0x04D0, 1, 2)
				IRQNoFlags () { 2 }
			})
		}

		Device (PIT0)
		{
			Name (_HID, EisaId ("PNP0100"))
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x0040, 0x0040, 1, 4)
				IRQNoFlags () { 0 }
			})
		}

		Device (RTC0)
		{
			Name (_HID, EisaId ("PNP0B00"))
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x0070, 0x0070, 1, 2)
				IRQNoFlags () { 8 }
			})
		}

		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 1)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x03F8, 0x03F8, 1, 8)
				IRQNoFlags () { 4 }
			})
		}
	}
}
