/* Making, resetting and ending the virtual PC; see platform.h. */
#include "platform/platform.h"

#include "mm/frame.h"
#include "platform/layout.h"

/* In the order of set-up. Reset goes the other way: no device holds a line up when the PIC comes.
 */
static const struct {
	size_t at; /* in struct platform */
	const struct device_type *type;
} devices[] = {
	{offsetof(struct platform, pic), &pic_type},
	{offsetof(struct platform, ioapic), &ioapic_type},
	{offsetof(struct platform, pit), &pit_type},
	{offsetof(struct platform, uart), &uart_type},
	{offsetof(struct platform, uart2), &uart2_type},
	{offsetof(struct platform, pmio), &pmio_type},
	{offsetof(struct platform, rtc), &rtc_type},
};

static void device_expired(struct timer *timer) {
	struct device *dev = container_of(timer, struct device, timer);

	spin_guard(&dev->lock);
	dev->type->expired(dev);
}

static void device_reset(struct platform *platform, u32 i) {
	struct device *dev = (void *)((u8 *)platform + devices[i].at);

	spin_guard(&dev->lock);
	dev->type->reset(dev);
}

static void device_setup(struct platform *platform, u32 i) {
	struct device *dev = (void *)((u8 *)platform + devices[i].at);

	dev->vm = platform->vm;
	dev->type = devices[i].type;
	timer_init(&dev->timer, device_expired, dev->vm->vcpus[0]->cpu);
	device_reset(platform, i);
	if (dev->type == &uart2_type && !platform->uart2.backend.tx) return;
	for (const struct bus_range *range = dev->type->range; range->read; range++)
		bus_add(&platform->bus, dev, range);
}

int platform_create(struct vm *vm, const struct platform_options *options) {
	size_t size = sizeof(struct platform) + vm->nr_vcpus * sizeof(struct lapic);
	struct platform *platform = page_alloc(size);
	u64 low = layout_low_end(options->memory);

	if (!platform) return E_NOMEM;
	platform->vm = vm;
	platform->size = size;
	vm->platform = platform;
	platform->uart.backend = options->console;
	platform->uart2.backend = options->com2;
	platform->pmio.debug = options->debug_port;
	platform->pmio.debug_exit = options->debug_exit;
	rtc_note_memory(&platform->rtc, low, options->memory - low);
	/* First: the other interrupt controllers send to them from their set-up on. */
	for (u32 i = 0; i < vm->nr_vcpus; i++)
		lapic_setup(&platform->lapics[i], vm->vcpus[i], options->phys_bits);
	for (u32 i = 0; i < ARRAY_SIZE(devices); i++) device_setup(platform, i);
	return 0;
}

void guest_vcpu_off(struct vcpu *vcpu) { timer_cancel(&vcpu->lapic->timer.host); }

/* The timers of the devices go with vCPU 0. */
void guest_vcpu_move(struct vcpu *vcpu, u32 cpu) {
	timer_move(&vcpu->lapic->timer.host, cpu);
	if (vcpu->id) return;
	for (u32 i = 0; i < ARRAY_SIZE(devices); i++) {
		struct device *dev = (void *)((u8 *)vcpu->vm->platform + devices[i].at);

		spin_guard(&dev->lock);
		timer_move(&dev->timer, cpu);
	}
}

void platform_reset(struct vm *vm) {
	struct platform *platform = vm->platform;

	for (u32 i = 0; i < vm->nr_vcpus; i++) lapic_reset(vm->vcpus[i]);
	for (u32 i = ARRAY_SIZE(devices); i-- > 0;) device_reset(platform, i);
}

void platform_destroy(struct vm *vm) {
	struct platform *platform = vm->platform;

	if (!platform) return;
	platform_reset(vm); /* stops every timer */
	for (u32 i = 0; i < vm->nr_vcpus; i++) vm->vcpus[i]->lapic = NULL;
	vm->platform = NULL;
	page_free(platform, platform->size);
}
