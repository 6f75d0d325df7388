# Roost: `make run` boots it with a Debian guest, `make test` checks everything, `make help` lists all.
# This file builds the image; tools/targets.mk holds every other target.

BUILD ?= build
# One spelling, whoever calls: the files of dependencies name their objects by it.
override BUILD := $(patsubst $(CURDIR)/%,%,$(BUILD))
ifeq ($(origin CC),default)
CC := gcc
endif
LD ?= ld
NM ?= nm
OBJCOPY ?= objcopy
DEBUG ?= 0

.DEFAULT_GOAL := image
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

WARNINGS := -Wall -Wextra -Wconversion -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wundef \
	-Wimplicit-fallthrough -Werror
# No vector or x87 register may be touched: the guest's stay live in them across exits.
CFLAGS := -std=gnu17 -g -ffreestanding -fno-pic -fno-pie -mcmodel=kernel -mno-red-zone -mgeneral-regs-only \
	-fno-stack-protector -fno-strict-aliasing -fno-asynchronous-unwind-tables -fno-common \
	-fcf-protection=none -ffunction-sections -fdata-sections -ffile-prefix-map=$(CURDIR)=. $(WARNINGS) -I. -I$(BUILD)
ASFLAGS := -g -ffile-prefix-map=$(CURDIR)=. -Wa,--noexecstack -I. -I$(BUILD)
LDFLAGS := -nostdlib -static -z max-page-size=0x1000 -z noexecstack --build-id=none --gc-sections --fatal-warnings \
	--no-warn-rwx-segments
ifeq ($(DEBUG),1)
CFLAGS += -DROOST_DEBUG
endif

ROOMS := boot kernel svm vmx mm platform drivers lib
SRCS := $(sort $(foreach room,$(ROOMS),$(wildcard $(room)/*.c $(room)/*.S)))
OBJS := $(addprefix $(BUILD)/obj/,$(addsuffix .o,$(SRCS)))
HDRS := $(foreach room,$(ROOMS),$(wildcard $(room)/*.h))

.PHONY: image
image: $(BUILD)/roost.elf

# What runs at the start, for a new VM or for a command is made small, all else fast.
SMALL := $(wildcard boot/*.c) $(addprefix kernel/,cmdline.c commands.c config.c guests.c main.c panic.c power.c shell.c \
	smp.c) $(addprefix drivers/,acpi.c clock.c cmos.c ioapic.c ps2.c) $(addprefix platform/,acpi_tables.c cpu_model.c \
	layout.c load.c load_linux.c load_multiboot.c rtc.c emulate_task.c) lib/parse.c lib/printf.c
$(BUILD)/obj/%.c.o: SPEED = $(if $(filter $*.c,$(SMALL)),-Os,-O2)
$(BUILD)/obj/%.c.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(SPEED) -MMD -MP -c $< -o $@

$(BUILD)/obj/%.S.o: %.S Makefile
	@mkdir -p $(@D)
	$(CC) $(ASFLAGS) -MMD -MP -c $< -o $@

# Linked twice: the second time with the table of function names that a panic prints. The table
# stands behind all code, so adding it moves no function.
$(BUILD)/roost.pass1.elf: $(OBJS) linker.ld
	$(LD) $(LDFLAGS) -T linker.ld $(OBJS) -o $@

$(BUILD)/symbols.S: $(BUILD)/roost.pass1.elf tools/symbols.sh
	NM=$(NM) sh tools/symbols.sh $< > $@

$(BUILD)/symbols.o: $(BUILD)/symbols.S
	$(CC) $(ASFLAGS) -c $< -o $@

$(BUILD)/roost.elf: $(OBJS) $(BUILD)/symbols.o linker.ld
	$(LD) $(LDFLAGS) -T linker.ld $(OBJS) $(BUILD)/symbols.o -o $@.tmp
	@NM=$(NM) sh tools/symbols.sh $@.tmp | cmp -s - $(BUILD)/symbols.S || { echo "symbol table moved code" >&2; exit 1; }
	@mv $@.tmp $@

-include $(OBJS:.o=.d)
-include platform/dsdt.mk
-include guest-tests/demo/demo.mk
-include guest-tests/guest.mk
-include tools/targets.mk
