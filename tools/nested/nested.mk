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

# An L1 whose L2 has these workloads: in a third archive, which takes the place of that initrd.
$(BENCH_OUT)/l1.img: $(NESTED_OUT)/initrd.img $(BENCH_OUT)/initrd.img
	rm -rf $(BENCH_OUT)/l1-root
	mkdir -p $(BENCH_OUT)/l1-root/nested
	cp $(BENCH_OUT)/initrd.img $(BENCH_OUT)/l1-root/nested/initrd.img
	find $(BENCH_OUT)/l1-root -exec touch -h -d @0 {} +
	(cd $(BENCH_OUT)/l1-root && echo nested/initrd.img | \
		cpio --quiet --reproducible --owner=0:0 -o -H newc) > $@.tmp
	cat $< $@.tmp > $@
