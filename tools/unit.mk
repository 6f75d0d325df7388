# The unit tests: `make -f tools/unit.mk`. Each tests/unit/test_NAME.c becomes one program, linked
# with the sources that its `// sources:` line names. All is built for Linux user space with the
# sanitizers and with line counting; a program with a line `// sanitizer: thread` with that one instead.

BUILD ?= build
# One spelling, whoever calls: the lists of headers name their objects by it.
override BUILD := $(abspath $(BUILD))
OUT := $(BUILD)/unit
CC := gcc
WARNINGS := -Wall -Wextra -Wconversion -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wundef \
	-Wimplicit-fallthrough -Werror
CFLAGS := -std=gnu17 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all --coverage \
	-fprofile-update=atomic -fno-omit-frame-pointer $(WARNINGS) -I. -I$(BUILD) -DUNIT_TEST
TSAN_CFLAGS := -std=gnu17 -g -O1 -fsanitize=thread $(WARNINGS) -I. -I$(BUILD) -DUNIT_TEST
LDLIBS := -lcmocka

MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:

TESTS := $(sort $(wildcard tests/unit/test_*.c))
PROGRAMS := $(patsubst tests/unit/%.c,$(OUT)/%,$(TESTS))

.PHONY: all
all: $(PROGRAMS)

$(OUT)/obj/%.o: %.c tools/unit.mk
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c $< -o $@

# program(NAME, source files)
define program
$(OUT)/$(1): $(patsubst %.c,$(OUT)/obj/%.o,tests/unit/$(1).c $(2))
	$(CC) $(CFLAGS) $$^ $(LDLIBS) -o $$@
endef

# The same with the thread sanitizer: of objects that nothing else can use.
define tsan_program
$(OUT)/$(1): tests/unit/$(1).c $(2) $(shell find mm lib tests -name '*.h') tools/unit.mk
	@mkdir -p $$(@D)
	$(CC) $(TSAN_CFLAGS) $$(filter %.c,$$^) $(LDLIBS) -o $$@
endef

tsan = $(shell sed -n -e '1,20s,^// sanitizer: thread,tsan_,p' tests/unit/$(1).c)
sources = $(shell sed -n -e '1,20s,^// sources:,,p' tests/unit/$(1).c)
$(foreach t,$(notdir $(PROGRAMS)),$(eval $(call $(call tsan,$(t))program,$(t),$(call sources,$(t)))))

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)
