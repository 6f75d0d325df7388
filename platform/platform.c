/* Making, resetting and ending the virtual PC; see platform.h. */
#include "platform/platform.h"

#include "lib/error.h"
#include "lib/string.h"
#include "mm/direct.h"
#include "mm/frame.h"
#include "platform/layout.h"

struct bus *vm_bus(struct vm *vm) {
	return &vm->platform->bus;
}

/* The local APICs come first: the other interrupt controllers send to them from their set-up on. */
static int setup_devices(struct platform *platform, const struct platform_options *options) {
	struct vm *vm = platform->vm;
	struct bus *bus = &platform->bus;
	u64 low = layout_low_end(options->memory);
	const struct uart_backend *console = &options->console;

	for (u32 i = 0; i < vm->nr_vcpus; i++)
		lapic_setup(&platform->lapics[i], vm->vcpus[i], options->phys_bits);
	return pic_setup(&platform->pic, vm, bus) ?: ioapic_setup(&platform->ioapic, vm, bus) ?:
	       pit_setup(&platform->pit, vm, bus) ?:
	       uart_setup(&platform->uart, vm, bus, UART_COM1, UART_COM1_GSI, console) ?:
	       pmio_setup(&platform->pmio, vm, bus, options->debug_exit) ?:
	       rtc_setup(&platform->rtc, vm, bus, low, options->memory - low) ?:
	       pci_setup(&platform->pci, bus);
}

static void release(struct vm *vm) {
	struct platform *platform = vm->platform;

	for (u32 i = 0; i < vm->nr_vcpus; i++) vm->vcpus[i]->lapic = NULL;
	vm->platform = NULL;
	frame_free(virt_to_phys(platform) >> PAGE_SHIFT, platform->order, 0);
}

int platform_create(struct vm *vm, const struct platform_options *options) {
	size_t size = sizeof(struct platform) + vm->nr_vcpus * sizeof(struct lapic);
	struct platform *platform;
	pfn_t pfn;

	if (!vm->nr_vcpus || options->phys_bits < 36 || options->phys_bits > 52) return E_INVAL;
	int error = frame_alloc(frame_order(size), FRAME_ZERO, &pfn);
	if (error) return error;
	platform = phys_to_virt(pfn << PAGE_SHIFT);
	platform->vm = vm;
	platform->order = frame_order(size);
	vm->platform = platform;
	error = setup_devices(platform, options);
	if (error) /* nothing has armed a timer yet */
		release(vm);
	return error;
}

void platform_reset(struct vm *vm) {
	struct platform *platform = vm->platform;

	for (u32 i = 0; i < vm->nr_vcpus; i++) lapic_reset(vm->vcpus[i]);
	pci_reset(&platform->pci);
	pit_reset(&platform->pit);
	uart_reset(&platform->uart);
	pmio_reset(&platform->pmio);
	rtc_reset(&platform->rtc);
	/* Last, when no device holds a line up any more. */
	ioapic_reset(&platform->ioapic);
	pic_reset(&platform->pic);
}

void platform_destroy(struct vm *vm) {
	if (!vm->platform) return;
	platform_reset(vm); /* stops every timer */
	release(vm);
}
