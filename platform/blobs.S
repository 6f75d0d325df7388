/*
 * Files as bytes of the image, each from NAME to NAME_end: the screen's font (drivers/font.txt), the
 * demonstration guest (guest-tests/demo) and the guests' DSDT (platform/dsdt.asl).
 */
	.macro blob name, file
	.section .rodata.\name, "a"
	.balign 8
	.globl \name, \name\()_end
\name:	.incbin "\file"
\name\()_end:
	.endm

	blob font_glyphs, "drivers/font.bin"
	blob demo_image, "guest/demo.elf"
	blob dsdt_aml, "dsdt.aml"

	.section .note.GNU-stack, "", @progbits
