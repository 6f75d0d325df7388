/* The demonstration guest (guest-tests/demo), as bytes of the image: demo_image to demo_image_end. */
	.section .rodata.demo, "a"
	.balign 8
	.globl demo_image
	.globl demo_image_end
demo_image:
	.incbin "guest/demo.elf"
demo_image_end:

	.section .note.GNU-stack, "", @progbits
