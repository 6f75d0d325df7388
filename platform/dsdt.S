/* The compiled DSDT (platform/dsdt.asl), as bytes of the image. */
	.section .rodata.dsdt, "a"
	.balign 8
	.globl dsdt_aml
	.globl dsdt_aml_end
dsdt_aml:
	.incbin "dsdt.aml"
dsdt_aml_end:

	.section .note.GNU-stack, "", @progbits
