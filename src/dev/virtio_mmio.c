/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio-mmio transport: registers, negotiation, status, interrupts. */
#include <dev/virtio_mmio.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <base/verify.h>
#include <mem/guestmem.h>

enum reg {
	REG_MAGIC = 0x000,
	REG_VERSION = 0x004,
	REG_DEVICE_ID = 0x008,
	REG_VENDOR_ID = 0x00c,
	REG_DEVICE_FEATURES = 0x010,
	REG_DEVICE_FEATURES_SEL = 0x014,
	REG_DRIVER_FEATURES = 0x020,
	REG_DRIVER_FEATURES_SEL = 0x024,
	REG_QUEUE_SEL = 0x030,
	REG_QUEUE_NUM_MAX = 0x034,
	REG_QUEUE_NUM = 0x038,
	REG_QUEUE_READY = 0x044,
	REG_QUEUE_NOTIFY = 0x050,
	REG_INTERRUPT_STATUS = 0x060,
	REG_INTERRUPT_ACK = 0x064,
	REG_STATUS = 0x070,
	REG_QUEUE_DESC_LOW = 0x080,
	REG_QUEUE_DESC_HIGH = 0x084,
	REG_QUEUE_DRIVER_LOW = 0x090,
	REG_QUEUE_DRIVER_HIGH = 0x094,
	REG_QUEUE_DEVICE_LOW = 0x0a0,
	REG_QUEUE_DEVICE_HIGH = 0x0a4,
	REG_SHM_LEN_LOW = 0x0b0,
	REG_SHM_LEN_HIGH = 0x0b4,
	REG_SHM_BASE_LOW = 0x0b8,
	REG_SHM_BASE_HIGH = 0x0bc,
	REG_CONFIG_GENERATION = 0x0fc,
	REG_CONFIG = 0x100,
};

#define MAGIC     UINT32_C(0x74726976) /* "virt" */
#define VERSION   2
#define VENDOR_ID UINT32_C(0x5a5a454d) /* "MEZZ" */

void virtio_dev_init(struct virtio_dev *dev, const struct virtio_ops *ops,
		     struct guestmem *mem, const struct virtio_report *report,
		     uint64_t features, unsigned int n_queues)
{
	VERIFY(n_queues <= VIRTIO_MAX_QUEUES);
	*dev = (struct virtio_dev){
		.ops = ops,
		.mem = mem,
		.report = report ? *report : (struct virtio_report){NULL, NULL},
		.offered = features | VIRTIO_FEATURE_VERSION_1 |
			   VIRTIO_FEATURE_INDIRECT | VIRTIO_FEATURE_EVENT_IDX,
		.n_queues = n_queues,
	};
	for (unsigned int i = 0; i < n_queues; i++)
		virtqueue_init(&dev->queues[i], mem, VIRTQUEUE_MAX_SIZE);
}

int virtio_mmio_attach(struct virtio_dev *dev, struct bus *bus,
		       unsigned int slot, const struct irq_line *irq,
		       struct err *err)
{
	if (slot >= VIRTIO_MMIO_SLOTS)
		return err_set(err, -EINVAL,
			       "%s: there is no virtio slot %u, the last is %d",
			       dev->ops->name, slot, VIRTIO_MMIO_SLOTS - 1);
	dev->irq = *irq;
	dev->irq.gsi = virtio_mmio_slot_gsi(slot);
	return bus_add_mmio(bus, virtio_mmio_slot_base(slot),
			    VIRTIO_MMIO_SLOT_BYTES, &virtio_mmio_bus_ops, dev,
			    err);
}

/* Interrupts. */

static void raise(struct virtio_dev *dev, uint32_t cause)
{
	dev->isr |= cause;
	dev->stats.irqs++;
	irq_set(&dev->irq, true);
}

static void acknowledge(struct virtio_dev *dev, uint32_t causes)
{
	dev->isr &= ~causes;
	irq_set(&dev->irq, false);
	/* What is left needs an edge of its own. */
	if (dev->isr)
		irq_set(&dev->irq, true);
}

void virtio_dev_interrupt(struct virtio_dev *dev, unsigned int queue)
{
	if (virtio_dev_running(dev) &&
	    virtqueue_should_notify(&dev->queues[queue]))
		raise(dev, VIRTIO_ISR_QUEUE);
}

void virtio_dev_config_changed(struct virtio_dev *dev)
{
	dev->generation++;
	if (dev->status & VIRTIO_STATUS_DRIVER_OK)
		raise(dev, VIRTIO_ISR_CONFIG);
}

void virtio_dev_fail(struct virtio_dev *dev, const char *why)
{
	char text[256];

	if (dev->status & VIRTIO_STATUS_NEEDS_RESET)
		return;
	dev->status |= VIRTIO_STATUS_NEEDS_RESET;
	dev->stats.broken++;
	if (dev->status & VIRTIO_STATUS_DRIVER_OK)
		raise(dev, VIRTIO_ISR_CONFIG);
	if (!dev->report.fn || dev->stats.broken > VIRTIO_REPORTS_MAX)
		return;
	snprintf(text, sizeof(text),
		 "the guest's driver of %s broke the rules (%s): the device is stopped until the guest resets it%s",
		 dev->ops->name, why,
		 dev->stats.broken < VIRTIO_REPORTS_MAX
			 ? ""
			 : "; more of these are counted and not told any more");
	dev->report.fn(dev->report.ctx, text);
}

/* Between two requests: the host may want pages, or the end. */
static bool may_go_on(const struct virtio_dev *dev)
{
	guestmem_service(dev->mem);
	return !guestmem_is_stopped(dev->mem);
}

void virtio_dev_drain(struct virtio_dev *dev, unsigned int queue,
		      struct vq_chain *chain,
		      bool (*serve)(struct virtio_dev *dev, unsigned int queue,
				    struct vq_chain *chain))
{
	struct virtqueue *vq = &dev->queues[queue];
	/* A driver has no more on its way at once, unless others add to it meanwhile. */
	unsigned int left = vq->size;
	enum vq_status status = VQ_OK;

	dev->owed &= ~(UINT32_C(1) << queue);
	while (status == VQ_OK && virtio_dev_running(dev) && may_go_on(dev)) {
		if (!left--) {
			if (virtqueue_has_work(vq))
				dev->owed |= UINT32_C(1) << queue;
			break;
		}
		status = virtqueue_pop(vq, chain);
		if (status == VQ_OK && !serve(dev, queue, chain))
			break;
		if (status == VQ_EMPTY && virtqueue_has_work(vq))
			status = VQ_OK;
	}
	if (vq->broken)
		virtio_dev_fail(dev, vq->broken);
	else
		virtio_dev_interrupt(dev, queue);
}

/* Status and negotiation. */

static void reset(struct virtio_dev *dev)
{
	dev->features = 0;
	dev->features_sel = 0;
	dev->driver_sel = 0;
	dev->status = 0;
	dev->queue_sel = 0;
	dev->owed = 0;
	dev->stats.resets++;
	for (unsigned int i = 0; i < dev->n_queues; i++)
		virtqueue_reset(&dev->queues[i]);
	if (dev->ops->reset)
		dev->ops->reset(dev);
	acknowledge(dev, ~UINT32_C(0));
}

static bool features_acceptable(const struct virtio_dev *dev)
{
	return !(dev->features & ~dev->offered) &&
	       virtio_dev_has(dev, VIRTIO_FEATURE_VERSION_1);
}

static void write_status(struct virtio_dev *dev, uint32_t value)
{
	uint32_t status;

	if (value == 0) {
		reset(dev);
		return;
	}
	/* Only a reset takes bits away. */
	status = dev->status | (value & 0xff & ~VIRTIO_STATUS_NEEDS_RESET);
	if (!(dev->status & VIRTIO_STATUS_FEATURES_OK) &&
	    !features_acceptable(dev))
		status &= ~(uint32_t)VIRTIO_STATUS_FEATURES_OK;
	if (!(status & VIRTIO_STATUS_FEATURES_OK))
		status &= ~(uint32_t)VIRTIO_STATUS_DRIVER_OK;
	dev->status = status;
}

static void write_features(struct virtio_dev *dev, uint32_t value)
{
	if (dev->status & VIRTIO_STATUS_FEATURES_OK)
		return;
	if (dev->driver_sel == 0)
		dev->features = (dev->features & ~(uint64_t)UINT32_MAX) | value;
	else if (dev->driver_sel == 1)
		dev->features = (dev->features & UINT32_MAX) | (uint64_t)value
								       << 32;
}

static uint32_t read_offered(const struct virtio_dev *dev)
{
	if (dev->features_sel > 1)
		return 0;
	return (uint32_t)(dev->offered >> (dev->features_sel * 32));
}

/* Queues. */

static struct virtqueue *selected(struct virtio_dev *dev)
{
	return dev->queue_sel < dev->n_queues ? &dev->queues[dev->queue_sel]
					      : NULL;
}

static void write_ready(struct virtio_dev *dev, struct virtqueue *vq,
			uint32_t value)
{
	if (!(value & 1)) {
		virtqueue_reset(vq);
		return;
	}
	if (vq->ready || !(dev->status & VIRTIO_STATUS_FEATURES_OK))
		return;
	vq->event_idx = virtio_dev_has(dev, VIRTIO_FEATURE_EVENT_IDX);
	vq->indirect = virtio_dev_has(dev, VIRTIO_FEATURE_INDIRECT);
	if (!virtqueue_start(vq))
		virtio_dev_fail(dev, vq->broken);
}

static void set_low(gpa_t *addr, uint32_t value)
{
	addr->v = (addr->v & ~(uint64_t)UINT32_MAX) | value;
}

static void set_high(gpa_t *addr, uint32_t value)
{
	addr->v = (addr->v & UINT32_MAX) | (uint64_t)value << 32;
}

static void write_queue_reg(struct virtio_dev *dev, uint64_t reg, uint32_t value)
{
	struct virtqueue *vq = selected(dev);

	if (!vq)
		return;
	if (reg == REG_QUEUE_READY) {
		write_ready(dev, vq, value);
		return;
	}
	/* The shape of a queue in use cannot be changed. */
	if (vq->ready)
		return;

	switch (reg) {
	case REG_QUEUE_NUM:
		vq->size = value > UINT16_MAX ? 0 : (uint16_t)value;
		break;
	case REG_QUEUE_DESC_LOW:
		set_low(&vq->desc, value);
		break;
	case REG_QUEUE_DESC_HIGH:
		set_high(&vq->desc, value);
		break;
	case REG_QUEUE_DRIVER_LOW:
		set_low(&vq->driver, value);
		break;
	case REG_QUEUE_DRIVER_HIGH:
		set_high(&vq->driver, value);
		break;
	case REG_QUEUE_DEVICE_LOW:
		set_low(&vq->device, value);
		break;
	case REG_QUEUE_DEVICE_HIGH:
		set_high(&vq->device, value);
		break;
	default:
		break;
	}
}

static void look_at_queue(struct virtio_dev *dev, uint32_t queue)
{
	if (virtio_dev_running(dev) && queue < dev->n_queues &&
	    dev->queues[queue].ready)
		dev->ops->notify(dev, queue);
}

static void notify(struct virtio_dev *dev, uint32_t queue)
{
	dev->stats.notifies++;
	look_at_queue(dev, queue);
}

bool virtio_dev_resume(struct virtio_dev *dev)
{
	const uint32_t owed = dev->owed;

	dev->owed = 0;
	for (unsigned int i = 0; owed >> i; i++) {
		if (owed >> i & 1)
			look_at_queue(dev, i);
	}
	return virtio_dev_owes(dev);
}

/* Registers. */

static uint32_t read_reg(struct virtio_dev *dev, uint64_t reg)
{
	struct virtqueue *vq = selected(dev);

	switch (reg) {
	case REG_MAGIC:
		return MAGIC;
	case REG_VERSION:
		return VERSION;
	case REG_DEVICE_ID:
		return dev->ops->device_id;
	case REG_VENDOR_ID:
		return VENDOR_ID;
	case REG_DEVICE_FEATURES:
		return read_offered(dev);
	case REG_QUEUE_NUM_MAX:
		return vq ? vq->max_size : 0;
	case REG_QUEUE_READY:
		return vq ? vq->ready : 0;
	case REG_INTERRUPT_STATUS:
		return dev->isr;
	case REG_STATUS:
		return dev->status;
	case REG_SHM_LEN_LOW:
	case REG_SHM_LEN_HIGH:
	case REG_SHM_BASE_LOW:
	case REG_SHM_BASE_HIGH:
		return UINT32_MAX; /* there is no shared memory */
	case REG_CONFIG_GENERATION:
		return dev->generation;
	default:
		return 0;
	}
}

static void write_reg(struct virtio_dev *dev, uint64_t reg, uint32_t value)
{
	switch (reg) {
	case REG_DEVICE_FEATURES_SEL:
		dev->features_sel = value;
		break;
	case REG_DRIVER_FEATURES:
		write_features(dev, value);
		break;
	case REG_DRIVER_FEATURES_SEL:
		dev->driver_sel = value;
		break;
	case REG_QUEUE_SEL:
		dev->queue_sel = value;
		break;
	case REG_QUEUE_NOTIFY:
		notify(dev, value);
		break;
	case REG_INTERRUPT_ACK:
		acknowledge(dev, value);
		break;
	case REG_STATUS:
		write_status(dev, value);
		break;
	default:
		write_queue_reg(dev, reg, value);
		break;
	}
}

static bool in_config(const struct virtio_dev *dev, uint64_t off,
		      unsigned int size)
{
	return off >= REG_CONFIG && off - REG_CONFIG < dev->ops->config_bytes &&
	       size <= dev->ops->config_bytes - (off - REG_CONFIG);
}

static uint64_t virtio_mmio_read(void *ctx, uint64_t off, unsigned int size)
{
	struct virtio_dev *dev = ctx;
	uint32_t value = 0;

	if (in_config(dev, off, size)) {
		if (dev->ops->config_read)
			dev->ops->config_read(dev, (uint32_t)(off - REG_CONFIG),
					      &value, size);
		return value;
	}
	/* Registers are read whole. */
	return size == 4 && off < REG_CONFIG ? read_reg(dev, off) : 0;
}

static void virtio_mmio_write(void *ctx, uint64_t off, unsigned int size,
			      uint64_t value)
{
	struct virtio_dev *dev = ctx;
	uint32_t word = (uint32_t)value;

	if (in_config(dev, off, size)) {
		if (dev->ops->config_write)
			dev->ops->config_write(dev, (uint32_t)(off - REG_CONFIG),
					       &word, size);
	} else if (size == 4 && off < REG_CONFIG) {
		write_reg(dev, off, word);
	}
}

const struct bus_ops virtio_mmio_bus_ops = {
	.name = "virtio-mmio",
	.max_size = 4,
	.read = virtio_mmio_read,
	.write = virtio_mmio_write,
};
