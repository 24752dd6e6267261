/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio devices behind the memory-mapped transport, version 2 [VIRTIO 1.2 4.2 "Virtio
 * Over MMIO"].
 *
 * A kind of device (virtio_blk.c, virtio_rng.c) embeds struct virtio_dev and a constant
 * table of functions. The transport does everything common: registers, feature
 * negotiation, status, interrupts, reset, and the end of a device whose guest broke the
 * rules (status DEVICE_NEEDS_RESET and one message).
 *
 * Slot n has its registers at VIRTIO_MMIO_BASE + n * VIRTIO_MMIO_SLOT_BYTES and interrupt
 * VIRTIO_MMIO_GSI + n, which the ACPI tables call edge-triggered: that spares the guest an
 * end of interrupt at the I/O APIC. The line still follows the interrupt status register,
 * and falls and rises again when the guest acknowledges only part of it, so either
 * trigger mode works.
 *
 *	virtio_blk_open(path, VIRTIO_BLK_RW, mem, &report, &disk, &err);
 *	virtio_mmio_attach(virtio_blk_dev(disk), bus, slot, &irq, &err);
 */
#ifndef DEV_VIRTIO_MMIO_H
#define DEV_VIRTIO_MMIO_H
#include <base/error.h>
#include <base/types.h>
#include <dev/bus.h>
#include <dev/irq.h>
#include <dev/virtqueue.h>

#define VIRTIO_MMIO_BASE       UINT64_C(0xd0000000)
#define VIRTIO_MMIO_SLOT_BYTES UINT64_C(0x1000)
#define VIRTIO_MMIO_SLOTS      16
#define VIRTIO_MMIO_GSI        5

#define VIRTIO_MAX_QUEUES      8

/* Feature bits of all devices. */
#define VIRTIO_FEATURE_INDIRECT  (UINT64_C(1) << 28)
#define VIRTIO_FEATURE_EVENT_IDX (UINT64_C(1) << 29)
#define VIRTIO_FEATURE_VERSION_1 (UINT64_C(1) << 32)

/* Device status. */
#define VIRTIO_STATUS_ACKNOWLEDGE 1
#define VIRTIO_STATUS_DRIVER      2
#define VIRTIO_STATUS_DRIVER_OK   4
#define VIRTIO_STATUS_FEATURES_OK 8
#define VIRTIO_STATUS_NEEDS_RESET 64
#define VIRTIO_STATUS_FAILED      128

/* Interrupt status. */
#define VIRTIO_ISR_QUEUE  1
#define VIRTIO_ISR_CONFIG 2

struct guestmem;
struct virtio_dev;

/**
 * struct virtio_ops - one kind of device; a constant table.
 * @name: "virtio-blk"
 * @device_id: from the standard
 * @config_bytes: length of the configuration space
 * @notify: the guest says that queue @queue has work; only while DRIVER_OK
 * @reset: forget everything that the guest set; may be NULL
 * @config_read: copy @len bytes of the configuration from @off, in range; may be NULL
 * @config_write: likewise; may be NULL
 */
struct virtio_ops {
	const char *name;
	uint32_t device_id;
	uint32_t config_bytes;
	void (*notify)(struct virtio_dev *dev, unsigned int queue);
	void (*reset)(struct virtio_dev *dev);
	void (*config_read)(struct virtio_dev *dev, uint32_t off, void *buf,
			    uint32_t len);
	void (*config_write)(struct virtio_dev *dev, uint32_t off,
			     const void *buf, uint32_t len);
};

/* A guest that resets its device and breaks the rules again may be heard of so often. */
#define VIRTIO_REPORTS_MAX 8

/**
 * struct virtio_report - where messages about a misbehaving guest go.
 * @fn: called with one sentence, at most once between two resets and VIRTIO_REPORTS_MAX
 *      times in all; may be NULL
 * @ctx: for @fn
 */
struct virtio_report {
	void (*fn)(void *ctx, const char *text);
	void *ctx;
};

/**
 * struct virtio_stats - counters, kept over resets.
 * @notifies: queue notifications by the guest
 * @irqs: interrupts raised
 * @resets: resets by the guest
 * @broken: times the guest broke the rules
 */
struct virtio_stats {
	uint64_t notifies;
	uint64_t irqs;
	uint64_t resets;
	uint64_t broken;
};

/**
 * struct virtio_dev - what all devices have; embedded in each. Members are private to
 * the transport, but @mem, @features, @n_queues, @queues and @stats are there to read.
 * @ops: kind of device
 * @mem: guest memory
 * @irq: interrupt line
 * @report: where messages go
 * @offered: features of the device
 * @features: features that the guest took; only what was offered
 * @features_sel: which half of @offered the guest reads
 * @driver_sel: which half of @features the guest writes
 * @status: device status
 * @isr: interrupt status
 * @generation: of the configuration
 * @queue_sel: selected queue
 * @owed: queues, bits, whose work was interrupted to let others have their turn
 * @n_queues: how many queues
 * @queues: the queues
 * @stats: counters
 */
struct virtio_dev {
	const struct virtio_ops *ops;
	struct guestmem *mem;
	struct irq_line irq;
	struct virtio_report report;
	uint64_t offered;
	uint64_t features;
	uint32_t features_sel;
	uint32_t driver_sel;
	uint32_t status;
	uint32_t isr;
	uint32_t generation;
	uint32_t queue_sel;
	uint32_t owed;
	unsigned int n_queues;
	struct virtqueue queues[VIRTIO_MAX_QUEUES];
	struct virtio_stats stats;
};

/* The registers; virtio_mmio_attach() puts them on a bus. The context is the device. */
extern const struct bus_ops virtio_mmio_bus_ops;

/**
 * virtio_dev_init() - called by a kind of device when it is made.
 * @dev: to initialize
 * @ops: its table
 * @mem: guest memory
 * @report: where messages go, copied; may be NULL
 * @features: what it offers besides VERSION_1, INDIRECT and EVENT_IDX
 * @n_queues: number of queues, each of size up to VIRTQUEUE_MAX_SIZE
 */
void virtio_dev_init(struct virtio_dev *dev, const struct virtio_ops *ops,
		     struct guestmem *mem, const struct virtio_report *report,
		     uint64_t features, unsigned int n_queues);

/**
 * virtio_mmio_attach() - plug a device into a slot.
 * @dev: the device
 * @bus: where its registers go
 * @slot: 0 to VIRTIO_MMIO_SLOTS - 1
 * @irq: interrupt controller; its gsi is replaced by that of the slot
 * @err: message on failure
 *
 * Return: 0 or what bus_add_mmio() reports.
 */
int virtio_mmio_attach(struct virtio_dev *dev, struct bus *bus,
		       unsigned int slot, const struct irq_line *irq,
		       struct err *err) __attribute__((warn_unused_result));

/* Where slot n is, for the ACPI tables. */
static inline gpa_t virtio_mmio_slot_base(unsigned int slot)
{
	return gpa(VIRTIO_MMIO_BASE + slot * VIRTIO_MMIO_SLOT_BYTES);
}

static inline unsigned int virtio_mmio_slot_gsi(unsigned int slot)
{
	return VIRTIO_MMIO_GSI + slot;
}

/** virtio_dev_running() - has the guest's driver started it, and is it not broken? */
static inline bool virtio_dev_running(const struct virtio_dev *dev)
{
	return (dev->status &
		(VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET)) ==
	       VIRTIO_STATUS_DRIVER_OK;
}

/** virtio_dev_has() - was a feature negotiated? */
static inline bool virtio_dev_has(const struct virtio_dev *dev, uint64_t feature)
{
	return (dev->features & feature) != 0;
}

/** virtio_dev_interrupt() - interrupt for a queue, if the guest wants one now. */
void virtio_dev_interrupt(struct virtio_dev *dev, unsigned int queue);

/** virtio_dev_config_changed() - the configuration is new: tell the guest. */
void virtio_dev_config_changed(struct virtio_dev *dev);

/**
 * virtio_dev_fail() - the guest broke the rules: stop until it resets the device.
 * @dev: the device
 * @why: constant text for the message
 */
void virtio_dev_fail(struct virtio_dev *dev, const char *why);

/** virtio_dev_owes() - whether there is work for virtio_dev_resume(). */
static inline bool virtio_dev_owes(const struct virtio_dev *dev)
{
	return dev->owed != 0;
}

/**
 * virtio_dev_resume() - go on where virtio_dev_drain() has stopped to let others have their turn.
 *
 * Return: whether there is still more; to be called again soon.
 * Context: the processor thread between two slices, or any with the device lock held.
 */
bool virtio_dev_resume(struct virtio_dev *dev);

/**
 * virtio_dev_drain() - serve the requests of a queue, then interrupt if that is wanted.
 *
 * At most as many as the queue is long: a guest whose disk reads rewrite its own rings would
 * keep the processor's thread here for ever. What is left is owed, see virtio_dev_resume().
 * Revocations are served between two requests.
 *
 * @dev: the device
 * @queue: index of the queue
 * @chain: room for one request at a time
 * @serve: does one request and pushes it; false: stop here (it failed the device, keeps
 *         the request, or the VM is being stopped)
 */
void virtio_dev_drain(struct virtio_dev *dev, unsigned int queue,
		      struct vq_chain *chain,
		      bool (*serve)(struct virtio_dev *dev, unsigned int queue,
				    struct vq_chain *chain));

#endif
