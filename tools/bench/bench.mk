# What make bench runs besides the guest tests: the counting plugin, the Linux workloads with their
# file system, and the floor.

BENCH_OUT := $(BUILD)/bench
BENCH_GUESTS := $(addprefix $(BENCH_OUT)/,floor.elf floor_vmx.elf crowd.elf)
BENCH_CFLAGS := -std=gnu17 -O2 $(WARNINGS) -I.

.PHONY: bench-files
bench-files: $(BENCH_OUT)/exitcount.so $(BENCH_OUT)/initrd.img $(BENCH_OUT)/l1.img $(BENCH_GUESTS) guest-tests guest

$(BENCH_OUT)/exitcount.so: tools/bench/exitcount.c tools/bench/bench.mk
	@mkdir -p $(@D)
	$(CC) $(BENCH_CFLAGS) -shared -fPIC $< -o $@

$(BENCH_OUT)/work: tools/bench/work.c tools/bench/mark.h tools/bench/bench.mk
	@mkdir -p $(@D)
	$(CC) $(BENCH_CFLAGS) -static $< -o $@

# A second archive behind the first: the kernel unpacks both, and the later init wins.
$(BENCH_OUT)/initrd.img: $(BENCH_OUT)/work tools/bench/init $(BUILD)/linux/initrd.img
	rm -rf $(BENCH_OUT)/root
	mkdir -p $(BENCH_OUT)/root/bin
	cp tools/bench/init $(BENCH_OUT)/root/init
	cp $(BENCH_OUT)/work $(BENCH_OUT)/root/bin/work
	chmod 755 $(BENCH_OUT)/root $(BENCH_OUT)/root/bin $(BENCH_OUT)/root/init $(BENCH_OUT)/root/bin/work
	find $(BENCH_OUT)/root -exec touch -h -d @0 {} +
	(cd $(BENCH_OUT)/root && printf 'bin\nbin/work\ninit\n' | \
		cpio --quiet --reproducible --owner=0:0 -o -H newc) > $(BENCH_OUT)/overlay.img
	cat $(BUILD)/linux/initrd.img $(BENCH_OUT)/overlay.img > $@

$(BENCH_GUESTS:.elf=.c.o): $(BENCH_OUT)/%.c.o: tools/bench/%.c tools/bench/bench.mk
	@mkdir -p $(@D)
	$(CC) $(GUEST_CFLAGS) -MMD -MP -c $< -o $@

$(BENCH_GUESTS): %.elf: %.c.o $(GUEST_LIB_OBJS) $(GUEST_DIR)/lib/link.ld
	$(LD) -nostdlib -static -z max-page-size=0x1000 -z noexecstack --build-id=none --fatal-warnings \
		--no-warn-rwx-segments -T $(GUEST_DIR)/lib/link.ld $< $(GUEST_LIB_OBJS) -o $@

-include $(BENCH_GUESTS:.elf=.c.d)
