# The tests of two levels: an L1 with Linux' KVM, the machine monitor, and all that its L2 boots.

NESTED_OUT := $(BUILD)/nested

.PHONY: nested-files nested-qemu
nested-files: $(NESTED_OUT)/initrd.img
nested-qemu: $(NESTED_OUT)/qemu.img

$(NESTED_OUT)/monitor: tools/nested/monitor.c tools/nested/nested.mk
	@mkdir -p $(@D)
	$(CC) $(BENCH_CFLAGS) -static -pthread $< -o $@

# A second archive behind the first, as the kernel unpacks them one after the other.
$(NESTED_OUT)/initrd.img: $(NESTED_OUT)/monitor tools/nested/pack.sh tools/nested/job $(GUEST_FILES)
	CACHE=$(BUILD)/cache tools/nested/pack.sh $@ $(GUEST_FILES)

# The same with Debian's QEMU as a second monitor.
$(NESTED_OUT)/qemu.img: $(NESTED_OUT)/monitor tools/nested/pack.sh tools/nested/job $(GUEST_FILES)
	CACHE=$(BUILD)/cache tools/nested/pack.sh $@ $(GUEST_FILES) "$$(command -v qemu-system-x86_64)"
