/* SPDX-License-Identifier: Apache-2.0 */
/* The transport: registers, negotiation, interrupts, and devices that had to be stopped. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dev/virtio_mmio.h>

#include "virtio_driver.h"

#define FEATURE_X (UINT64_C(1) << 3)
#define FEATURE_Y (UINT64_C(1) << 40)

/* A device that gives every request back and has 6 bytes of configuration. */
struct echo {
	struct virtio_dev dev;
	struct vq_chain chain;
	uint8_t config[6];
	unsigned int notified[2];
	unsigned int resets;
	bool keeps;
};

struct fixture {
	struct driver d;
	struct echo echo;
};

static struct echo *echo_of(struct virtio_dev *dev)
{
	return (struct echo *)(void *)dev;
}

static bool echo_serve(struct virtio_dev *dev, unsigned int queue,
		       struct vq_chain *chain)
{
	if (echo_of(dev)->keeps)
		return false;
	virtqueue_push(&dev->queues[queue], chain, 0);
	return true;
}

static void echo_notify(struct virtio_dev *dev, unsigned int queue)
{
	struct echo *echo = echo_of(dev);

	echo->notified[queue]++;
	virtio_dev_drain(dev, queue, &echo->chain, echo_serve);
}

static void echo_reset(struct virtio_dev *dev)
{
	echo_of(dev)->resets++;
}

static void echo_config_read(struct virtio_dev *dev, uint32_t off, void *buf,
			     uint32_t len)
{
	memcpy(buf, echo_of(dev)->config + off, len);
}

static void echo_config_write(struct virtio_dev *dev, uint32_t off,
			      const void *buf, uint32_t len)
{
	memcpy(echo_of(dev)->config + off, buf, len);
}

static const struct virtio_ops echo_ops = {
	.name = "echo",
	.device_id = 42,
	.config_bytes = 6,
	.notify = echo_notify,
	.reset = echo_reset,
	.config_read = echo_config_read,
	.config_write = echo_config_write,
};

static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){0};
	if (driver_init(&f.d))
		return -1;

	const struct virtio_report report = driver_report(&f.d);

	virtio_dev_init(&f.echo.dev, &echo_ops, f.d.mem, &report,
			FEATURE_X | FEATURE_Y, 2);
	driver_attach(&f.d, &f.echo.dev);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	driver_release(&f->d);
	return 0;
}

static void test_identity(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;
	uint64_t v;

	assert_int_equal(driver_rd(d, R_MAGIC), 0x74726976);
	assert_int_equal(driver_rd(d, R_VERSION), 2);
	assert_int_equal(driver_rd(d, R_ID), 42);
	assert_int_equal(driver_rd(d, R_SHM_LEN), 0xffffffff);
	assert_int_equal(driver_rd(d, R_NUM_MAX), VIRTQUEUE_MAX_SIZE);
	driver_wr(d, R_QUEUE_SEL, 2);
	assert_int_equal(driver_rd(d, R_NUM_MAX), 0);
	driver_wr(d, R_QUEUE_SEL, 0xffffffff);
	assert_int_equal(driver_rd(d, R_NUM_MAX), 0);
	driver_wr(d, R_NUM, 8); /* of no queue: nothing */
	/* Registers are not read in pieces. */
	assert_true(bus_mmio_read(d->bus, gpa(VIRTIO_MMIO_BASE), 2, &v));
	assert_int_equal(v, 0);
}

static void test_features(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	driver_wr(d, R_FEAT_SEL, 0);
	assert_int_equal(driver_rd(d, R_FEATURES), 0x30000008);
	driver_wr(d, R_FEAT_SEL, 1);
	assert_int_equal(driver_rd(d, R_FEATURES), 0x101);
	driver_wr(d, R_FEAT_SEL, 2);
	assert_int_equal(driver_rd(d, R_FEATURES), 0);

	/* Without VERSION_1, and with what was not offered, FEATURES_OK does not stick. */
	assert_false(driver_negotiate(d, FEATURE_X));
	assert_int_equal(driver_rd(d, R_STATUS), 3);
	driver_wr(d, R_STATUS, 0xf);
	assert_int_equal(driver_rd(d, R_STATUS), 3); /* nor does DRIVER_OK */
	assert_false(driver_negotiate(d, VIRTIO_FEATURE_VERSION_1 | 1));
	assert_true(driver_negotiate(d, VIRTIO_FEATURE_VERSION_1 | FEATURE_Y));
	assert_true(virtio_dev_has(&f->echo.dev, FEATURE_Y));
	assert_false(virtio_dev_has(&f->echo.dev, FEATURE_X));
	/* Once agreed it is not changed, and bits only go by reset. */
	driver_wr(d, R_DRV_SEL, 0);
	driver_wr(d, R_DRIVER, (uint32_t)FEATURE_X);
	assert_false(virtio_dev_has(&f->echo.dev, FEATURE_X));
	driver_wr(d, R_STATUS, 1);
	assert_int_equal(driver_rd(d, R_STATUS), 0xb);
	driver_wr(d, R_STATUS, 0x80 | 0x40);
	assert_int_equal(driver_rd(d, R_STATUS), 0x8b); /* NEEDS_RESET is ours */
}

static void test_config(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;
	const uint64_t at = VIRTIO_MMIO_BASE + R_CONFIG;
	uint64_t v;

	memcpy(f->echo.config, "\1\2\3\4\5\6", 6);
	assert_true(bus_mmio_read(d->bus, gpa(at + 5), 1, &v));
	assert_int_equal(v, 6);
	assert_true(bus_mmio_read(d->bus, gpa(at + 2), 2, &v));
	assert_int_equal(v, 0x0403);
	assert_true(bus_mmio_read(d->bus, gpa(at), 4, &v));
	assert_int_equal(v, 0x04030201);
	/* Partly or wholly outside: zeros, no harm. */
	assert_true(bus_mmio_read(d->bus, gpa(at + 4), 4, &v));
	assert_int_equal(v, 0);
	assert_true(bus_mmio_read(d->bus, gpa(at + 8), 1, &v));
	assert_int_equal(v, 0);
	assert_true(bus_mmio_write(d->bus, gpa(at + 4), 4, ~0u));
	assert_true(bus_mmio_write(d->bus, gpa(at + 5), 1, 9));
	assert_int_equal(f->echo.config[4], 5);
	assert_int_equal(f->echo.config[5], 9);
}

static void test_request(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	driver_start(d, 0, 2);
	assert_true(virtio_dev_running(&f->echo.dev));
	driver_desc(d, driver_desc_at(1), 0, DRIVER_DATA, 8, 0, 0);
	driver_offer(d, 1, 0);
	driver_offer(d, 1, 0);
	driver_kick(d, 1);
	assert_int_equal(f->echo.notified[1], 1);
	assert_int_equal(driver_used(d, 1), 2);
	assert_int_equal(d->irqs, 1);
	assert_true(d->irq_level);
	assert_int_equal(driver_rd(d, R_ISR), VIRTIO_ISR_QUEUE);
	driver_wr(d, R_ACK, VIRTIO_ISR_QUEUE);
	assert_false(d->irq_level);
	assert_int_equal(driver_rd(d, R_ISR), 0);
	/* No such queue. */
	driver_kick(d, 2);
	driver_kick(d, 0xffffffff);
	assert_int_equal(f->echo.notified[0], 0);
}

/* An acknowledgement of one of two causes must not swallow the other's edge. */
static void test_partial_ack(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	driver_start(d, 0, 1);
	driver_desc(d, driver_desc_at(0), 0, DRIVER_DATA, 8, 0, 0);
	driver_offer(d, 0, 0);
	driver_kick(d, 0);
	virtio_dev_config_changed(&f->echo.dev);
	assert_int_equal(driver_rd(d, R_ISR), 3);
	assert_int_equal(d->irqs, 1);
	driver_wr(d, R_ACK, VIRTIO_ISR_QUEUE);
	assert_true(d->irq_level);
	assert_int_equal(d->irqs, 2);
	driver_wr(d, R_ACK, VIRTIO_ISR_CONFIG);
	assert_false(d->irq_level);
	assert_int_equal(driver_rd(d, R_GENERATION), 1);
}

static void test_not_before_driver_ok(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	virtio_dev_config_changed(&f->echo.dev);
	assert_int_equal(d->irqs, 0);
	driver_negotiate(d, VIRTIO_FEATURE_VERSION_1);
	driver_queue(d, 0);
	driver_desc(d, driver_desc_at(0), 0, DRIVER_DATA, 8, 0, 0);
	driver_offer(d, 0, 0);
	driver_kick(d, 0);
	assert_int_equal(f->echo.notified[0], 0);
	driver_wr(d, R_STATUS, 0xf);
	driver_kick(d, 1); /* not set up */
	assert_int_equal(f->echo.notified[1], 0);
	driver_kick(d, 0);
	assert_int_equal(driver_used(d, 0), 1);
}

static void test_queue_registers(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;
	struct virtqueue *vq = &f->echo.dev.queues[0];

	/* Not before features are agreed. */
	driver_wr(d, R_STATUS, 3);
	driver_queue(d, 0);
	assert_int_equal(driver_rd(d, R_READY), 0);
	driver_start(d, 0, 1);
	assert_int_equal(driver_rd(d, R_READY), 1);
	/* In use it stays as it is. */
	driver_wr(d, R_NUM, 4);
	driver_wr(d, R_DESC, 0);
	assert_int_equal(vq->size, DRIVER_QUEUE);
	assert_int_equal(vq->desc.v, driver_desc_at(0));
	driver_wr(d, R_READY, 0);
	assert_int_equal(driver_rd(d, R_READY), 0);
	/* High halves count. */
	driver_wr(d, R_DESC + 4, 1);
	driver_wr(d, R_AVAIL + 4, 2);
	driver_wr(d, R_USED + 4, 3);
	assert_int_equal(vq->desc.v >> 32, 1);
	assert_int_equal(vq->driver.v >> 32, 2);
	assert_int_equal(vq->device.v >> 32, 3);
}

static void test_bad_queue(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	driver_negotiate(d, VIRTIO_FEATURE_VERSION_1);
	driver_wr(d, R_QUEUE_SEL, 0);
	driver_wr(d, R_NUM, 0x10008); /* not cut to 8 */
	driver_wr(d, R_READY, 1);
	assert_int_equal(driver_rd(d, R_STATUS), 0x4b);
	assert_int_equal(d->reports, 1);
	assert_non_null(strstr(d->report, "echo"));
	assert_non_null(strstr(d->report, "impossible queue size"));
	assert_int_equal(d->irqs, 0); /* the driver is not there yet */
	driver_wr(d, R_READY, 1);     /* it insists, and is not told twice */
	assert_int_equal(d->reports, 1);
	assert_int_equal(f->echo.dev.stats.broken, 1);
}

static void test_needs_reset(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	driver_start(d, 0, 2);
	driver_offer(d, 0, 99);
	driver_kick(d, 0);
	assert_int_equal(driver_rd(d, R_STATUS), 0x4f);
	assert_int_equal(driver_rd(d, R_ISR), VIRTIO_ISR_CONFIG);
	assert_int_equal(d->irqs, 1);
	assert_int_equal(d->reports, 1);
	assert_non_null(strstr(d->report, "descriptor index out of range"));
	/* Neither of its queues works on, and nothing is said twice. */
	driver_desc(d, driver_desc_at(1), 0, DRIVER_DATA, 8, 0, 0);
	driver_offer(d, 1, 0);
	driver_kick(d, 1);
	driver_kick(d, 0);
	assert_int_equal(driver_used(d, 1), 0);
	assert_int_equal(d->reports, 1);
	assert_int_equal(f->echo.dev.stats.broken, 1);
	/* A reset makes it whole, and drops the line. */
	driver_start(d, 0, 2);
	assert_false(d->irq_level);
	assert_int_equal(driver_rd(d, R_STATUS), 0xf);
	driver_desc(d, driver_desc_at(0), 0, DRIVER_DATA, 8, 0, 0);
	driver_offer(d, 0, 0);
	driver_kick(d, 0);
	assert_int_equal(driver_used(d, 0), 1);
	assert_int_equal(f->echo.resets, 2);
}

/* A guest that goes on and on like that must not fill a log, which lies on the host's disk. */
static void test_reports_end(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	for (unsigned int i = 0; i < 100; i++) {
		driver_start(d, 0, 1);
		driver_offer(d, 0, DRIVER_QUEUE);
		driver_kick(d, 0);
	}
	assert_int_equal(f->echo.dev.stats.broken, 100);
	assert_int_equal(d->reports, VIRTIO_REPORTS_MAX);
	assert_non_null(strstr(d->report, "not told any more"));
}

static void test_event_index(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	driver_start(d, VIRTIO_FEATURE_EVENT_IDX, 1);
	driver_desc(d, driver_desc_at(0), 0, DRIVER_DATA, 8, 0, 0);
	driver_put16(d, driver_avail_at(0) + 4 + 2 * DRIVER_QUEUE, 1);
	driver_offer(d, 0, 0);
	driver_kick(d, 0);
	assert_int_equal(d->irqs, 0);
	driver_offer(d, 0, 0);
	driver_kick(d, 0);
	assert_int_equal(d->irqs, 1);
	assert_int_equal(driver_get16(d,
				      driver_used_at(0) + 4 + 8 * DRIVER_QUEUE),
			 2);
}

/* A device that keeps a request is not asked for ever. */
static void test_keeps(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	f->echo.keeps = true;
	driver_start(d, 0, 1);
	driver_desc(d, driver_desc_at(0), 0, DRIVER_DATA, 8, 0, 0);
	driver_offer(d, 0, 0);
	driver_offer(d, 0, 0);
	driver_kick(d, 0);
	assert_int_equal(driver_used(d, 0), 0);
	assert_int_equal(d->irqs, 0);
}

static void test_slots(void **state)
{
	struct fixture *f = *state;
	struct irq_line none = {0};
	struct err err;

	assert_int_equal(virtio_mmio_attach(&f->echo.dev, f->d.bus, 0, &none,
					    &err),
			 -EEXIST);
	assert_int_equal(virtio_mmio_attach(&f->echo.dev, f->d.bus,
					    VIRTIO_MMIO_SLOTS, &none, &err),
			 -EINVAL);
	assert_int_equal(virtio_mmio_slot_base(3).v, 0xd0003000);
	assert_int_equal(virtio_mmio_slot_gsi(3), 8);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_identity),        T(test_features),
		T(test_config),          T(test_request),
		T(test_partial_ack),     T(test_not_before_driver_ok),
		T(test_queue_registers), T(test_bad_queue),
		T(test_needs_reset),     T(test_event_index),
		T(test_keeps),           T(test_slots),
		T(test_reports_end),
	};

	return cmocka_run_group_tests_name("virtio_mmio", tests, NULL, NULL);
}
