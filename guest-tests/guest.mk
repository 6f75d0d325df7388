# Guest tests: each NAME.c here becomes the image build/guest/NAME.elf, on the runtime in lib/.
# Part of the top Makefile; `make -f guest-tests/guest.mk` builds them alone.

BUILD ?= build
ifeq ($(origin CC),default)
CC := gcc
endif
LD ?= ld

GUEST_DIR := guest-tests
GUEST_OUT := $(BUILD)/guest
GUEST_TESTS := $(sort $(basename $(notdir $(wildcard $(GUEST_DIR)/*.c))))
GUEST_IMAGES := $(GUEST_TESTS:%=$(GUEST_OUT)/%.elf)
GUEST_LIB_SRCS := $(sort $(wildcard $(GUEST_DIR)/lib/*.c $(GUEST_DIR)/lib/*.S))
GUEST_LIB_OBJS := $(GUEST_LIB_SRCS:$(GUEST_DIR)/%=$(GUEST_OUT)/obj/%.o)

GUEST_CFLAGS := -std=gnu17 -O2 -g -ffreestanding -fno-pic -fno-pie -mno-red-zone -mgeneral-regs-only \
	-fno-stack-protector -fno-strict-aliasing -fno-asynchronous-unwind-tables -fno-common \
	-fcf-protection=none -ffile-prefix-map=$(CURDIR)=. -Wall -Wextra -Wconversion -Wshadow \
	-Wmissing-prototypes -Wstrict-prototypes -Wvla -Wundef -Wimplicit-fallthrough -Werror -I.

.PHONY: guest-tests
guest-tests: $(GUEST_IMAGES)

$(GUEST_OUT)/obj/%.c.o: $(GUEST_DIR)/%.c $(GUEST_DIR)/guest.mk
	@mkdir -p $(@D)
	$(CC) $(GUEST_CFLAGS) -MMD -MP -c $< -o $@

$(GUEST_OUT)/obj/%.S.o: $(GUEST_DIR)/%.S $(GUEST_DIR)/guest.mk
	@mkdir -p $(@D)
	$(CC) $(GUEST_CFLAGS) -Wa,--noexecstack -MMD -MP -c $< -o $@

# NAME.S, where there is one, belongs to NAME.c alone.
$(foreach name,$(basename $(notdir $(wildcard $(GUEST_DIR)/*.S))), \
	$(eval $(GUEST_OUT)/$(name).elf: $(GUEST_OUT)/obj/$(name).S.o))

$(GUEST_OUT)/%.elf: $(GUEST_OUT)/obj/%.c.o $(GUEST_LIB_OBJS) $(GUEST_DIR)/lib/link.ld
	$(LD) -nostdlib -static -z max-page-size=0x1000 -z noexecstack --build-id=none --fatal-warnings \
		--no-warn-rwx-segments -T $(GUEST_DIR)/lib/link.ld $(filter %.o,$^) -o $@

.SECONDARY: $(GUEST_LIB_OBJS) $(GUEST_TESTS:%=$(GUEST_OUT)/obj/%.c.o)

-include $(GUEST_LIB_OBJS:.o=.d) $(GUEST_TESTS:%=$(GUEST_OUT)/obj/%.c.d) $(GUEST_TESTS:%=$(GUEST_OUT)/obj/%.S.d)
