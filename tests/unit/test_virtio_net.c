/* SPDX-License-Identifier: Apache-2.0 */
/* The network card: frames go through whole, wait for room, and survive what drivers do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dev/frames.h>
#include <dev/virtio_net.h>

#include "virtio_driver.h"

#define RX         VIRTIO_NET_Q_RECEIVE
#define TX         VIRTIO_NET_Q_TRANSMIT
#define HEAD_BYTES 12

static const uint8_t mac[] = {0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee};

struct fixture {
	struct driver d;
	struct virtio_net *net;
	bool full;           /* the wire takes nothing */
	unsigned int frames; /* that it took */
	size_t len;          /* of the last */
	uint8_t last[FRAME_MAX_BYTES];
	unsigned int rooms; /* times that the guest had room again */
};

static bool on_send(void *ctx, const uint8_t *frame, size_t len)
{
	struct fixture *f = ctx;

	if (f->full)
		return false;
	f->frames++;
	f->len = len;
	memcpy(f->last, frame, len);
	return true;
}

static void on_room(void *ctx)
{
	struct fixture *f = ctx;

	f->rooms++;
}

static const struct virtio_net_ops ops = {.send = on_send, .room = on_room};

static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){0};
	if (driver_init(&f.d))
		return -1;

	const struct virtio_report report = driver_report(&f.d);

	if (virtio_net_new(f.d.mem, mac, &report, &ops, &f, &f.net, NULL))
		return -1;
	driver_attach(&f.d, virtio_net_dev(f.net));
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->net = virtio_net_free(f->net);
	driver_release(&f->d);
	return 0;
}

/* A chain of two descriptors, header and frame apart or torn in the midst of the header. */
static void send(struct fixture *f, unsigned int i, const char *text,
		 uint32_t first)
{
	const uint64_t at = DRIVER_DATA + i * 0x1000;
	const uint32_t all = HEAD_BYTES + (uint32_t)strlen(text);
	static const uint8_t head[HEAD_BYTES];

	driver_put(&f->d, at, head, HEAD_BYTES);
	driver_put(&f->d, at + HEAD_BYTES, text, strlen(text));
	driver_desc(&f->d, driver_desc_at(TX), 2 * i, at, first, D_NEXT,
		    (uint16_t)(2 * i + 1));
	driver_desc(&f->d, driver_desc_at(TX), 2 * i + 1, at + first,
		    all - first, 0, 0);
	driver_offer(&f->d, TX, (uint16_t)(2 * i));
	driver_kick(&f->d, TX);
}

static void give_buffer(struct fixture *f, unsigned int i, uint32_t len)
{
	driver_desc(&f->d, driver_desc_at(RX), i, DRIVER_DATA + i * 0x1000, len,
		    D_WRITE, 0);
	driver_offer(&f->d, RX, (uint16_t)i);
	driver_kick(&f->d, RX);
}

static bool receive(struct fixture *f, const char *text)
{
	return virtio_net_receive(f->net, (const uint8_t *)text, strlen(text));
}

static void test_identity(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	driver_start(d, VIRTIO_NET_MAC | VIRTIO_NET_STATUS, 2);
	assert_int_equal(driver_rd(d, R_ID), 1);
	assert_int_equal(driver_rd(d, R_CONFIG), 0xccbbaa02);
	/* The rest of the address, and: the cable is plugged in. */
	assert_int_equal(driver_rd(d, R_CONFIG + 4), 0x0001eedd);
}

static void test_sends(void **state)
{
	struct fixture *f = *state;

	driver_start(&f->d, VIRTIO_NET_MAC, 2);
	send(f, 0, "a frame", HEAD_BYTES);
	assert_int_equal(f->frames, 1);
	assert_int_equal(f->len, 7);
	assert_memory_equal(f->last, "a frame", 7);
	send(f, 1, "torn", 5);
	assert_int_equal(f->frames, 2);
	assert_memory_equal(f->last, "torn", 4);
	assert_int_equal(driver_used(&f->d, TX), 2);
	assert_int_equal(virtio_net_stats(f->net)->sent, 2);
	assert_int_equal(virtio_net_stats(f->net)->sent_bytes, 11);
}

static void test_holds_what_is_not_taken(void **state)
{
	struct fixture *f = *state;

	driver_start(&f->d, 0, 2);
	f->full = true;
	send(f, 0, "one", HEAD_BYTES);
	send(f, 1, "two", HEAD_BYTES);
	assert_true(virtio_net_held(f->net));
	virtio_net_flush(f->net);
	assert_true(virtio_net_held(f->net));
	assert_int_equal(f->frames, 0);
	assert_int_equal(driver_used(&f->d, TX), 0);
	f->full = false;
	virtio_net_flush(f->net);
	assert_false(virtio_net_held(f->net));
	assert_int_equal(f->frames, 2);
	assert_memory_equal(f->last, "two", 3);
	assert_int_equal(driver_used(&f->d, TX), 2);
	assert_true(f->d.irq_level);
}

static void test_reset_forgets_what_is_held(void **state)
{
	struct fixture *f = *state;

	driver_start(&f->d, 0, 2);
	f->full = true;
	send(f, 0, "old", HEAD_BYTES);
	driver_wr(&f->d, R_STATUS, 0);
	assert_false(virtio_net_held(f->net));
	f->full = false;
	virtio_net_flush(f->net);
	assert_int_equal(f->frames, 0);
	f->d.avail_idx[TX] = 0;
	driver_start(&f->d, 0, 2);
	send(f, 0, "new", HEAD_BYTES);
	assert_int_equal(f->frames, 1);
	assert_memory_equal(f->last, "new", 3);
}

static void test_receives(void **state)
{
	struct fixture *f = *state;
	uint8_t got[HEAD_BYTES + 5];

	driver_start(&f->d, 0, 2);
	give_buffer(f, 0, 1526);
	assert_true(receive(f, "hello"));
	assert_int_equal(driver_used(&f->d, RX), 1);
	assert_int_equal(driver_used_len(&f->d, RX, 0), HEAD_BYTES + 5);
	assert_true(f->d.irq_level);
	driver_get(&f->d, DRIVER_DATA, got, sizeof(got));
	for (unsigned int i = 0; i < 10; i++)
		assert_int_equal(got[i], 0);
	/* One buffer holds it all. */
	assert_int_equal(got[10] | got[11] << 8, 1);
	assert_memory_equal(got + HEAD_BYTES, "hello", 5);
	assert_int_equal(virtio_net_stats(f->net)->received, 1);
}

static void test_waits_for_room(void **state)
{
	struct fixture *f = *state;

	driver_start(&f->d, 0, 2);
	assert_false(receive(f, "hello"));
	f->rooms = 0;
	give_buffer(f, 0, 1526);
	assert_int_equal(f->rooms, 1);
	assert_true(receive(f, "hello"));
	assert_false(receive(f, "hello"));
}

static void test_nobody_there(void **state)
{
	struct fixture *f = *state;

	assert_true(receive(f, "hello"));
	assert_int_equal(virtio_net_stats(f->net)->dropped, 1);
	driver_start(&f->d, 0, 2);
	give_buffer(f, 0, 1526);
	assert_true(receive(f, "hello"));
	assert_int_equal(driver_used(&f->d, RX), 1);
}

static void test_short_buffer(void **state)
{
	struct fixture *f = *state;

	driver_start(&f->d, 0, 2);
	give_buffer(f, 0, HEAD_BYTES + 4);
	assert_true(receive(f, "hello"));
	assert_true(driver_rd(&f->d, R_STATUS) & VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(f->d.reports, 1);
	assert_non_null(strstr(f->d.report, "too short"));
	/* After that it is as if there were no driver. */
	assert_true(receive(f, "hello"));
	f->d.avail_idx[RX] = 0;
	driver_start(&f->d, 0, 2);
	give_buffer(f, 0, HEAD_BYTES + 5);
	assert_true(receive(f, "hello"));
	assert_int_equal(driver_used(&f->d, RX), 1);
}

static void test_impossible_frames(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	driver_start(d, 0, 2);
	/* One byte more than there may be: lost, and given back. */
	driver_desc(d, driver_desc_at(TX), 0, DRIVER_DATA,
		    HEAD_BYTES + FRAME_MAX_BYTES + 1, 0, 0);
	driver_offer(d, TX, 0);
	driver_kick(d, TX);
	assert_int_equal(f->frames, 0);
	assert_int_equal(driver_used(d, TX), 1);
	assert_int_equal(virtio_net_stats(f->net)->dropped, 1);
	/* Not even a header. */
	driver_desc(d, driver_desc_at(TX), 0, DRIVER_DATA, HEAD_BYTES - 1, 0, 0);
	driver_offer(d, TX, 0);
	driver_kick(d, TX);
	assert_true(driver_rd(d, R_STATUS) & VIRTIO_STATUS_NEEDS_RESET);
	assert_non_null(strstr(d->report, "without its header"));
}

static void test_unplugged(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;
	uint32_t generation;

	driver_start(d, VIRTIO_NET_STATUS, 2);
	generation = driver_rd(d, R_GENERATION);
	virtio_net_unplug(f->net);
	assert_int_equal(driver_rd(d, R_CONFIG + 4), 0x0000eedd);
	assert_int_not_equal(driver_rd(d, R_GENERATION), generation);
	assert_int_equal(driver_rd(d, R_ISR), VIRTIO_ISR_CONFIG);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_identity),
		T(test_sends),
		T(test_holds_what_is_not_taken),
		T(test_reset_forgets_what_is_held),
		T(test_receives),
		T(test_waits_for_room),
		T(test_nobody_there),
		T(test_short_buffer),
		T(test_impossible_frames),
		T(test_unplugged),
	};

	return cmocka_run_group_tests_name("virtio_net", tests, NULL, NULL);
}
