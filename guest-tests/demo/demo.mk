# The demonstration guest inside the image: a 32-bit ELF, built with the compiler that builds Roost.

DEMO_DIR := guest-tests/demo
DEMO_OUT := $(BUILD)/guest/obj/demo
DEMO_CFLAGS := -m32 -march=i686 -std=gnu17 -Os -ffreestanding -fno-pic -fno-pie -mgeneral-regs-only \
	-fno-stack-protector -fno-strict-aliasing -fno-asynchronous-unwind-tables -fno-common \
	-fcf-protection=none -ffile-prefix-map=$(CURDIR)=. -Wall -Wextra -Wconversion -Wshadow \
	-Wmissing-prototypes -Wstrict-prototypes -Wvla -Wundef -Wimplicit-fallthrough -Werror -I.

$(DEMO_OUT)/%.o: $(DEMO_DIR)/% $(DEMO_DIR)/demo.mk
	@mkdir -p $(@D)
	$(CC) $(DEMO_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/guest/demo.elf: $(DEMO_OUT)/start.S.o $(DEMO_OUT)/demo.c.o $(DEMO_DIR)/link.ld
	$(LD) -m elf_i386 -nostdlib -static -s -n -z noexecstack --build-id=none --fatal-warnings \
		--no-warn-rwx-segments -T $(DEMO_DIR)/link.ld $(filter %.o,$^) -o $@

$(BUILD)/obj/platform/blobs.S.o: $(BUILD)/guest/demo.elf

-include $(DEMO_OUT)/start.S.d $(DEMO_OUT)/demo.c.d
