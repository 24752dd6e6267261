/* SPDX-License-Identifier: Apache-2.0 */
/* The devices of a VM: which there are, where, and how the processor reaches them. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include <base/clock.h>
#include <boot/cmdline.h>
#include <dev/acpi.h>
#include <mem/link_counters.h>
#include <vm/vm_impl.h>

/* The guest's TSC counts nanoseconds. */
#define TSC_HZ UINT64_C(1000000000)

static uint64_t now_ns(void *ctx)
{
	const struct vm *vm = ctx;

	if (vm->cfg->clock == VM_CLOCK_INSTRUCTIONS)
		return vm->engine_ops->retired(vm->engine) + vm->skipped_ns;
	return monotonic_ns() - vm->start_ns;
}

/* A fixed date, so that runs by instruction count are repeatable. */
#define REPEATABLE_EPOCH_NS (UINT64_C(1700000000) * 1000000000)

static uint64_t wall_ns(void *ctx)
{
	const struct vm *vm = ctx;

	if (vm->cfg->clock == VM_CLOCK_INSTRUCTIONS)
		return REPEATABLE_EPOCH_NS + now_ns(ctx);
	return clock_ns(CLOCK_REALTIME);
}

static void lock(struct vm *vm)
{
	pthread_mutex_lock(&vm->device_lock);
}

static void unlock(struct vm *vm)
{
	pthread_mutex_unlock(&vm->device_lock);
}

static uint32_t pio_read(void *ctx, uint16_t port, unsigned int size)
{
	struct vm *vm = ctx;
	uint64_t value;

	lock(vm);
	bus_pio_read(vm->bus, port, size, &value);
	unlock(vm);
	return (uint32_t)value;
}

/*
 * Where there are no slices between which somebody looks, the VM's thread does. Byte by byte each
 * would cost a system call, and wake whoever reads. Return: whether that thread must be told.
 */
static bool flush_later(struct vm *vm)
{
	if (!vm->engine_ops->run_cpu || vm->flush_due_ns ||
	    !serial_unsent(&vm->serial))
		return false;
	vm->flush_due_ns = now_ns(vm) + VM_FLUSH_NS;
	return true;
}

static void pio_write(void *ctx, uint16_t port, unsigned int size,
		      uint32_t value)
{
	struct vm *vm = ctx;
	bool tell;

	lock(vm);
	bus_pio_write(vm->bus, port, size, value);
	tell = flush_later(vm);
	unlock(vm);
	if (tell)
		vm_kick(vm);
}

/* The bus takes naturally sized accesses; odd ones go byte by byte. */
static bool is_bus_size(unsigned int size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

static uint64_t bus_read(struct vm *vm, gpa_t addr, unsigned int size)
{
	uint64_t value = 0;

	if (is_bus_size(size)) {
		bus_mmio_read(vm->bus, addr, size, &value);
		return value;
	}
	for (unsigned int i = 0; i < size; i++) {
		uint64_t byte;

		bus_mmio_read(vm->bus, gpa_add(addr, i), 1, &byte);
		value |= (byte & 0xff) << (8 * i);
	}
	return value;
}

static uint64_t mmio_read(void *ctx, gpa_t addr, unsigned int size)
{
	struct vm *vm = ctx;
	uint64_t value;

	lock(vm);
	if (lapic_claims(&vm->lapic, addr))
		value = lapic_mmio_read(&vm->lapic, addr.v & ~PAGE_MASK, size);
	else
		value = bus_read(vm, addr, size);
	unlock(vm);
	return value;
}

static void bus_write(struct vm *vm, gpa_t addr, unsigned int size,
		      uint64_t value)
{
	if (is_bus_size(size)) {
		bus_mmio_write(vm->bus, addr, size, value);
		return;
	}
	for (unsigned int i = 0; i < size; i++)
		bus_mmio_write(vm->bus, gpa_add(addr, i), 1,
			       (value >> (8 * i)) & 0xff);
}

/* Disks, entropy source, balloon and network card, by number; NULL after the last. */
static struct virtio_dev *virtio_at(struct vm *vm, unsigned int i)
{
	if (i < vm->n_disks)
		return virtio_blk_dev(vm->disks[i]);
	i -= vm->n_disks;
	if (i == 0)
		return virtio_rng_dev(vm->rng);
	if (i == 1 && vm->balloon)
		return virtio_balloon_dev(vm->balloon);
	return i == 1U + !!vm->balloon && vm->net ? vm_net_dev(vm->net) : NULL;
}

static bool virtio_owes(struct vm *vm)
{
	struct virtio_dev *dev;
	bool owes = false;

	for (unsigned int i = 0; (dev = virtio_at(vm, i)); i++)
		owes |= virtio_dev_owes(dev);
	return owes;
}

bool vm_virtio_poll(struct vm *vm)
{
	struct virtio_dev *dev;
	bool owes = false;

	for (unsigned int i = 0; (dev = virtio_at(vm, i)); i++)
		owes |= virtio_dev_owes(dev) && virtio_dev_resume(dev);
	return owes;
}

static void mmio_write(void *ctx, gpa_t addr, unsigned int size, uint64_t value)
{
	struct vm *vm = ctx;
	bool owes = false;

	lock(vm);
	if (lapic_claims(&vm->lapic, addr)) {
		lapic_mmio_write(&vm->lapic, addr.v & ~PAGE_MASK, size, value);
	} else {
		bus_write(vm, addr, size, value);
		owes = virtio_owes(vm);
	}
	unlock(vm);
	/* Where processors have threads of their own, the VM's goes on with it. */
	if (owes)
		vm_kick(vm);
}

/*
 * A guest that was stopped in the midst of a slice, perhaps in the handler of its watchdog's
 * timer, must know before it sees how late it is.
 */
static uint64_t tsc(void *ctx)
{
	struct vm *vm = ctx;
	const uint64_t now = now_ns(vm);

	vm_tell_stopped(vm, now);
	return now;
}

static bool msr_read(void *ctx, uint32_t msr, uint64_t *ret_value)
{
	struct vm *vm = ctx;
	bool ok = false;

	lock(vm);
	if (lapic_is_msr(msr)) {
		ok = lapic_msr_read(&vm->lapic, msr, ret_value);
	} else if (kvmclock_is_msr(msr)) {
		*ret_value = kvmclock_msr_read(&vm->kvmclock, msr);
		ok = true;
	}
	unlock(vm);
	return ok;
}

static bool msr_write(void *ctx, uint32_t msr, uint64_t value)
{
	struct vm *vm = ctx;
	bool ok = false;

	lock(vm);
	if (lapic_is_msr(msr)) {
		ok = lapic_msr_write(&vm->lapic, msr, value);
	} else if (kvmclock_is_msr(msr)) {
		kvmclock_msr_write(&vm->kvmclock, msr, value);
		ok = true;
	}
	unlock(vm);
	return ok;
}

static uint64_t cr8_read(void *ctx)
{
	struct vm *vm = ctx;

	return lapic_cr8(&vm->lapic);
}

static void cr8_write(void *ctx, uint64_t value)
{
	struct vm *vm = ctx;

	lock(vm);
	/* The processor lets only four bits through. */
	if (!lapic_set_cr8(&vm->lapic, value & 15))
		vm_request_end(vm, VM_END_STOPPED);
	unlock(vm);
}

const struct cpu_ops vm_io_ops = {
	.pio_read = pio_read,
	.pio_write = pio_write,
	.mmio_read = mmio_read,
	.mmio_write = mmio_write,
	.tsc = tsc,
	.msr_read = msr_read,
	.msr_write = msr_write,
	.cr8_read = cr8_read,
	.cr8_write = cr8_write,
};

static void lapic_kick(void *ctx, unsigned int cpu)
{
	(void)cpu;
	vm_kick(ctx);
}

static const struct apic_bus_ops apic_ops = {.kick = lapic_kick};

static void serial_transmit(void *ctx, const uint8_t *bytes, size_t len)
{
	struct vm *vm = ctx;

	vm->cb->output(vm->ctx, bytes, len);
}

static void serial_has_room(void *ctx)
{
	struct vm *vm = ctx;

	vm->cb->input_room(vm->ctx);
}

static const struct serial_ops console_ops = {
	.transmit = serial_transmit,
	.room = serial_has_room,
};

/* A reset by Linux: did it panic? */
static bool panicked(const struct vm *vm)
{
	uint16_t flag = 0;

	return guestmem_read(vm->mem, (gpa_t){BOOT_WARM_FLAG_AT}, &flag,
			     sizeof(flag)) &&
	       flag == BOOT_WARM_FLAG;
}

static void power_request(void *ctx, enum power_event event)
{
	struct vm *vm = ctx;

	if (event == POWER_OFF) {
		vm->exit_status = vm->power.status;
		vm_request_end(vm, VM_END_POWER_OFF);
	} else {
		vm_request_end(vm, panicked(vm) ? VM_END_PANIC : VM_END_RESET);
	}
}

static void exit_request(void *ctx, int status)
{
	struct vm *vm = ctx;

	vm->exit_status = status;
	vm_request_end(vm, VM_END_EXIT_PORT);
}

static void report_misuse(void *ctx, const char *text)
{
	struct vm *vm = ctx;

	vm->cb->report(vm->ctx, text);
}

static struct irq_line line(struct vm *vm, unsigned int gsi)
{
	if (vm->engine_ops->set_irq)
		return (struct irq_line){vm->engine_ops->set_irq, vm->engine,
					 gsi};
	return (struct irq_line){ioapic_set, &vm->ioapic, gsi};
}

static int add_fixed(struct vm *vm, struct err *err)
{
	const struct irq_line com1 = line(vm, SERIAL_COM1_GSI);
	int r;

	apic_bus_init(&vm->apic_bus, &apic_ops, vm);
	ioapic_init(&vm->ioapic, &vm->apic_bus);
	lapic_init(&vm->lapic, &vm->apic_bus, &vm->clock, 0, X86_PHYS_BITS);
	serial_init(&vm->serial, &com1, &console_ops, vm);
	rtc_init(&vm->rtc, &vm->clock);
	kvmclock_init(&vm->kvmclock, vm->mem, &vm->clock);
	vm->power = (struct power){.request = power_request,
				   .told = serial_has_room,
				   .ctx = vm};
	vm->button = line(vm, POWER_BUTTON_GSI);
	vm->debug_exit = (struct debug_exit){exit_request, vm};
	r = bus_add_mmio(vm->bus, gpa(IOAPIC_BASE), IOAPIC_MMIO_BYTES,
			 &ioapic_bus_ops, &vm->ioapic, err);
	if (!r)
		r = bus_add_pio(vm->bus, SERIAL_COM1_PORT, SERIAL_PORTS,
				&serial_bus_ops, &vm->serial, err);
	if (!r)
		r = bus_add_pio(vm->bus, RTC_PORT, RTC_PORTS, &rtc_bus_ops,
				&vm->rtc, err);
	if (!r)
		r = bus_add_pio(vm->bus, POWER_PORT, POWER_PORTS,
				&power_bus_ops, &vm->power, err);
	if (!r && vm->cfg->exit_port)
		r = bus_add_pio(vm->bus, DEBUG_EXIT_PORT, DEBUG_EXIT_PORTS,
				&debug_exit_bus_ops, &vm->debug_exit, err);
	return r;
}

/* The host may look at once whether others have read the same. Whole pages only. */
static void disk_filled(void *ctx, const struct virtio_blk *blk, gpa_t addr,
			uint64_t len)
{
	struct vm *vm = ctx;
	const uint64_t first = (addr.v + PAGE_SIZE - 1) & PAGE_MASK;
	const uint64_t end = (addr.v + len) & PAGE_MASK;
	struct link_filled filled = {0};
	ppn_t page;

	if (first >= end || !guestmem_ppn(vm->mem, gpa(first), &page))
		return;
	filled.page = page.v;
	filled.n_pages = (uint32_t)((end - first) / PAGE_SIZE);
	for (uint32_t i = 0; i < vm->n_images; i++) {
		if (vm->image_disks[i] == blk)
			filled.image = i;
	}
	link_filled_push(link_counters(vm->link), &filled);
}

/* Of an image that nobody writes to, pages may be shared as soon as they are read. */
static void offer_image(struct vm *vm, struct virtio_blk *blk)
{
	struct link_counters *c;
	struct stat st;

	if (!vm->link || vm->n_images == LINK_IMAGES_MAX ||
	    fstat(virtio_blk_fd(blk), &st))
		return;
	c = link_counters(vm->link);
	c->images[vm->n_images] = (struct link_image){
		.dev = st.st_dev,
		.ino = st.st_ino,
	};
	vm->image_disks[vm->n_images++] = blk;
	atomic_store(&c->n_images, vm->n_images);
	virtio_blk_set_filled(blk, disk_filled, vm);
}

void vm_press_power(struct vm *vm)
{
	atomic_store(&vm->pressed, true);
	vm_kick(vm);
}

void vm_power_poll(struct vm *vm)
{
	if (atomic_load_explicit(&vm->pressed, memory_order_relaxed) &&
	    atomic_exchange(&vm->pressed, false))
		power_press(&vm->button);
}

/* A folder of the manager's is ours alone; without one it is the user's choice. */
static const char *changes_folder(const struct vm *vm)
{
	const char *said = getenv("TMPDIR");

	if (vm->cfg->link_dir)
		return vm->cfg->link_dir;
	return said && *said ? said : "/var/tmp";
}

static int open_disk(struct vm *vm, const struct vm_disk_config *d,
		     struct virtio_blk **ret, struct err *err)
{
	const struct virtio_report report = {report_misuse, vm};

	if (d->mode == VIRTIO_BLK_SNAPSHOT)
		return virtio_blk_open_snapshot(d->path, changes_folder(vm),
						vm->mem, &report, ret, err);
	return virtio_blk_open(d->path, d->mode, vm->mem, &report, ret, err);
}

static int add_disk(struct vm *vm, const struct vm_disk_config *d,
		    struct err *err)
{
	const struct irq_line irq = line(vm, 0);
	struct virtio_blk *blk;
	const int r = open_disk(vm, d, &blk, err);

	if (r)
		return r;
	vm->disks[vm->n_disks] = blk;
	if (d->mode != VIRTIO_BLK_RW)
		offer_image(vm, blk);
	/* Slot 0 is the entropy source's. */
	return virtio_mmio_attach(virtio_blk_dev(blk), vm->bus,
				  1 + vm->n_disks++, &irq, err);
}

static int add_rng(struct vm *vm, struct err *err)
{
	const struct irq_line irq = line(vm, 0);
	const struct virtio_report report = {report_misuse, vm};
	const int r = virtio_rng_new(vm->mem, &report, &vm->rng, err);

	if (r)
		return r;
	if (vm->cfg->clock == VM_CLOCK_INSTRUCTIONS)
		virtio_rng_set_repeatable(vm->rng, 1);
	return virtio_mmio_attach(virtio_rng_dev(vm->rng), vm->bus, 0, &irq,
				  err);
}

static int add_balloon(struct vm *vm, struct err *err)
{
	const struct irq_line irq = line(vm, 0);
	const struct virtio_report report = {report_misuse, vm};

	if (!vm->cfg->balloon)
		return 0;
	/* Last, after the disks, so that nothing moves when it is switched off. */
	return vm_balloon_add(vm, 1 + vm->n_disks, &irq, &report, err);
}

static int add_net(struct vm *vm, struct err *err)
{
	const struct irq_line irq = line(vm, 0);
	const struct virtio_report report = {report_misuse, vm};

	if (!vm_config_has_net(vm->cfg))
		return 0;
	return vm_net_add(vm, 1 + vm->n_disks + !!vm->balloon, &irq, &report,
			  err);
}

int vm_devices_init(struct vm *vm, struct err *err)
{
	int r;

	vm->clock = (struct dev_clock){
		.now_ns = now_ns,
		.now_tsc = now_ns,
		.wall_ns = wall_ns,
		.ctx = vm,
		.tsc_hz = TSC_HZ,
	};
	r = bus_new(&vm->bus, err);
	if (!r)
		r = add_fixed(vm, err);
	if (!r)
		r = add_rng(vm, err);
	for (unsigned int i = 0; !r && i < vm->cfg->n_disks; i++)
		r = add_disk(vm, &vm->cfg->disks[i], err);
	if (!r)
		r = add_balloon(vm, err);
	return r ? r : add_net(vm, err);
}

void vm_devices_release(struct vm *vm)
{
	for (unsigned int i = 0; i < vm->n_disks; i++)
		virtio_blk_close(vm->disks[i]);
	vm_net_release(vm->net);
	virtio_balloon_free(vm->balloon);
	virtio_rng_free(vm->rng);
	bus_free(vm->bus);
}

int vm_acpi_build(struct vm *vm, struct err *err)
{
	uint8_t tables[ACPI_MAX_BYTES];
	struct acpi_config cfg = {
		.n_cpus = vm->cfg->features.n_cpus,
		.has_serial = true,
		.has_rtc = true,
		.button_gsi = POWER_BUTTON_GSI,
		.n_virtio = 1 + vm->n_disks + !!vm->balloon + !!vm->net,
	};
	size_t len;
	int r;

	for (unsigned int i = 0; i < cfg.n_virtio; i++)
		cfg.virtio[i] = (struct acpi_virtio){
			.base = virtio_mmio_slot_base(i),
			.gsi = virtio_mmio_slot_gsi(i),
		};
	r = acpi_build(&cfg, gpa(ACPI_BASE), tables, sizeof(tables), &len, err);
	if (r)
		return r;
	if (!guestmem_write(vm->mem, gpa(ACPI_BASE), tables, len))
		return err_set(err, -ENOMEM,
			       "the host has no memory for the ACPI tables");
	return 0;
}
