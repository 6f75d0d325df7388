# Compiles the guest's DSDT. iasl has no macros with arguments, so the C preprocessor goes first.
# Nothing in the output depends on when or where it is built.

IASL ?= iasl

$(BUILD)/dsdt.aml: platform/dsdt.asl platform/dsdt.mk
	@mkdir -p $(@D)
	$(CC) -E -P -undef -x assembler-with-cpp platform/dsdt.asl -o $(BUILD)/dsdt.i
	@$(IASL) -we -p $(BUILD)/dsdt $(BUILD)/dsdt.i > $(BUILD)/dsdt.log 2>&1 || { cat $(BUILD)/dsdt.log >&2; exit 1; }

$(BUILD)/obj/platform/blobs.S.o: $(BUILD)/dsdt.aml
