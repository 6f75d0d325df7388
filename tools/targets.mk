# Everything but the image: set-up, running, checking. Included by the top Makefile.

PYTHON := /usr/bin/python3
GUEST_FILES := $(BUILD)/linux/vmlinuz $(BUILD)/linux/initrd.img
C_FILES = $(sort $(wildcard $(addsuffix /*.[ch],$(ROOMS) guest-tests guest-tests/* tests tests/* tools/bench tools/nested)))

.PHONY: setup guest run run-intel iso usb netboot test test-quick unit lint format bench bench-check bench-keep coverage clean \
	distclean help

help:
	@echo 'make run         Roost on the emulated AMD machine with a Debian guest, in this terminal'
	@echo '                 KERNEL= INITRD= CMDLINE= CPUS= MEMORY= for your own guest;'
	@echo '                 CPU= the emulated processor, ROOST= words for the command line of Roost'
	@echo 'make run-intel   the same on the emulated Intel machine, which is slower; CPU= its processor'
	@echo 'make iso         $(BUILD)/roost.iso: the same for a machine of its own, by BIOS and UEFI, CD or USB'
	@echo 'make usb         writes that to a USB stick: DEVICE=/dev/sdX; asks before'
	@echo 'make netboot     the same as a directory for a TFTP server, for PXE'
	@echo 'make test        everything that can be checked; ONLY=REGEX chooses tests by name'
	@echo 'make test-quick  the part that takes under two minutes'
	@echo 'make unit        the unit tests alone; make coverage adds the lines they reach, file by file'
	@echo 'make lint        layout and static analysis; make format mends the layout'
	@echo 'make bench       what an exit and a whole guest cost, beside Linux KVM'
	@echo 'make bench-check fails when a figure is worse than the one kept in docs/benchmarks.md'
	@echo 'make bench-keep  writes the figures of this tree into docs/benchmarks.md'
	@echo 'make image       $(BUILD)/roost.elf alone (CC=clang for the other compiler, DEBUG=1)'
	@echo 'make setup       installs the Debian packages that are missing (YES=1: do not ask)'
	@echo 'make clean       removes what was built; make distclean also what was downloaded'

setup:
	@tools/setup.sh

guest: $(GUEST_FILES)

$(BUILD)/linux/vmlinuz:
	CACHE=$(BUILD)/cache tools/fetch_kernel.sh $@

$(BUILD)/linux/initrd.img: tools/make_initramfs.sh tools/initramfs/init tools/initramfs/profile
	tools/make_initramfs.sh $@

run: setup
	@$(MAKE) --no-print-directory image $(if $(KERNEL),,guest)
	@BUILD=$(BUILD) $(PYTHON) tools/run.py

run-intel: setup
	@$(MAKE) --no-print-directory image $(if $(KERNEL),,guest)
	@BUILD=$(BUILD) $(PYTHON) tools/bochs.py

iso netboot: setup
	@$(MAKE) --no-print-directory image $(if $(KERNEL),,guest)
	@BUILD=$(BUILD) $(PYTHON) tools/iso.py $@

usb: iso
	@BUILD=$(BUILD) $(PYTHON) tools/usb.py $(DEVICE)

test: setup
	@BUILD=$(BUILD) $(PYTHON) tools/test.py $(if $(ONLY),--only '$(value ONLY)')

test-quick: setup
	@BUILD=$(BUILD) $(PYTHON) tools/test.py --quick $(if $(ONLY),--only '$(value ONLY)')

unit: setup
	@BUILD=$(BUILD) $(PYTHON) tools/test.py --only '^unit/'

coverage: setup
	@BUILD=$(BUILD) $(PYTHON) tools/test.py --only '^unit/' --coverage

lint: setup
	@BUILD=$(BUILD) $(PYTHON) tools/test.py --only '^lint/'

format: setup
	clang-format -i $(C_FILES) && clang-format -i $(C_FILES)

include tools/bench/bench.mk
include tools/nested/nested.mk

bench bench-check bench-keep: setup
	@$(MAKE) --no-print-directory image bench-files nested-files
	@BUILD=$(BUILD) $(PYTHON) tools/bench/bench.py $(filter --%,$(@:bench-%=--%))

clean:
	@for part in $(BUILD)/*; do \
		case $$part in */cache | */linux) ;; *) rm -rf "$$part" ;; esac; \
	done

distclean:
	rm -rf $(BUILD)

# For the tests: the value of a variable of this Makefile.
print-%:
	@echo $($*)
