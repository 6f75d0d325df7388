/* The screen's font, as bytes of the image (font.txt): font_glyphs. */
	.section .rodata.font, "a"
	.globl font_glyphs
font_glyphs:
	.incbin "drivers/font.bin"

	.section .note.GNU-stack, "", @progbits
