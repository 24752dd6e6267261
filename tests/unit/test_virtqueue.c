/* SPDX-License-Identifier: Apache-2.0 */
/* Rings that are right, and every way in which a guest can make them wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dev/virtqueue.h>
#include <mem/guestmem.h>

#include "virtio_driver.h"

#define DESC  driver_desc_at(0)
#define AVAIL driver_avail_at(0)
#define USED  driver_used_at(0)
/* The descriptor table of queue 0, for constants. */
#define DESC_SELF DRIVER_RINGS

struct fixture {
	struct driver d;
	struct virtqueue vq;
	struct vq_chain chain;
};

static void start(struct fixture *f, bool event_idx)
{
	static const uint8_t zeros[3 * PAGE_SIZE];

	virtqueue_reset(&f->vq);
	driver_put(&f->d, DESC, zeros, sizeof(zeros));
	f->d.avail_idx[0] = 0;
	f->vq.size = DRIVER_QUEUE;
	f->vq.desc = gpa(DESC);
	f->vq.driver = gpa(AVAIL);
	f->vq.device = gpa(USED);
	f->vq.indirect = true;
	f->vq.event_idx = event_idx;
	assert_true(virtqueue_start(&f->vq));
}

static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){0};
	if (driver_init(&f.d))
		return -1;
	virtqueue_init(&f.vq, f.d.mem, VIRTQUEUE_MAX_SIZE);
	start(&f, false);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	driver_release(&f->d);
	return 0;
}

static void test_chain(void **state)
{
	struct fixture *f = *state;
	char buf[16] = {0};

	driver_put(&f->d, 0x100ffe, "abcd", 4); /* across a page boundary */
	driver_put(&f->d, 0x200000, "efgh", 4);
	driver_desc(&f->d, DESC, 3, 0x100ffe, 4, D_NEXT, 5);
	driver_desc(&f->d, DESC, 5, 0x200000, 4, D_NEXT, 1);
	driver_desc(&f->d, DESC, 1, 0x300000, 3, D_NEXT | D_WRITE, 7);
	driver_desc(&f->d, DESC, 7, 0x300100, 10, D_WRITE, 99);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_EMPTY);
	driver_offer(&f->d, 0, 3);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_OK);
	assert_int_equal(f->chain.head, 3);
	assert_int_equal(f->chain.n_out, 2);
	assert_int_equal(f->chain.n_in, 2);
	assert_int_equal(f->chain.out_bytes, 8);
	assert_int_equal(f->chain.in_bytes, 13);

	assert_true(vq_chain_read(&f->vq, &f->chain, 1, buf, 7));
	assert_string_equal(buf, "bcdefgh");
	assert_false(vq_chain_read(&f->vq, &f->chain, 2, buf, 7));
	assert_false(vq_chain_read(&f->vq, &f->chain, UINT64_MAX, buf, 2));
	assert_true(vq_chain_write(&f->vq, &f->chain, 1, "123456", 6));
	assert_false(vq_chain_write(&f->vq, &f->chain, 13, "1", 1));
	driver_get(&f->d, 0x300000, buf, 3);
	assert_memory_equal(buf,
			    "\0"
			    "12",
			    3);
	driver_get(&f->d, 0x300100, buf, 5);
	assert_memory_equal(buf, "3456\0", 5);

	virtqueue_push(&f->vq, &f->chain, 7);
	assert_int_equal(driver_used(&f->d, 0), 1);
	assert_int_equal(driver_used_id(&f->d, 0, 0), 3);
	assert_int_equal(driver_used_len(&f->d, 0, 0), 7);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_EMPTY);
}

static void test_indices_wrap(void **state)
{
	struct fixture *f = *state;

	driver_desc(&f->d, DESC, 2, DRIVER_DATA, 8, 0, 0);
	for (unsigned int i = 0; i < 70000; i++) {
		driver_offer(&f->d, 0, 2);
		assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_OK);
		virtqueue_push(&f->vq, &f->chain, i);
		assert_int_equal(driver_used_len(&f->d, 0, (uint16_t)i), i);
	}
	assert_int_equal(driver_used(&f->d, 0), 70000 % 65536);
}

static void test_indirect(void **state)
{
	struct fixture *f = *state;

	/* A direct one first, then a table of three. */
	driver_desc(&f->d, DESC, 0, 0x100000, 4, D_NEXT, 1);
	driver_desc(&f->d, DESC, 1, 0x200000, 48, D_INDIRECT, 0);
	driver_desc(&f->d, 0x200000, 0, 0x110000, 5, D_NEXT, 2);
	driver_desc(&f->d, 0x200000, 2, 0x120000, 6, D_WRITE | D_NEXT, 1);
	driver_desc(&f->d, 0x200000, 1, 0x130000, 7, D_WRITE, 0);
	driver_offer(&f->d, 0, 0);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_OK);
	assert_int_equal(f->chain.n_out, 2);
	assert_int_equal(f->chain.n_in, 2);
	assert_int_equal(f->chain.out_bytes, 9);
	assert_int_equal(f->chain.in_bytes, 13);
	assert_int_equal(f->chain.segs[3].addr.v, 0x130000);
}

/* One way to be wrong: descriptors 0 to 2, and what is said about it. */
struct wrong {
	const char *why;
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags;
		uint16_t next;
	} desc[3];
	uint16_t head;
	bool no_indirect;
};

static const struct wrong wrongs[] = {
	{"descriptor index out of range", .head = DRIVER_QUEUE},
	{"descriptor index out of range", .head = 0xffff},
	{"descriptor index out of range", {{0x100000, 4, D_NEXT, DRIVER_QUEUE}}},
	{"descriptor chain too long, or a loop", {{0x100000, 4, D_NEXT, 0}}},
	{"descriptor chain too long, or a loop",
	 {{0x100000, 4, D_NEXT, 1}, {0x100000, 0, D_NEXT, 0}}},
	{"buffer outside of RAM", {{DRIVER_RAM - 4, 5, 0, 0}}},
	{"buffer outside of RAM", {{VIRTIO_MMIO_BASE, 4, 0, 0}}},
	{"buffer outside of RAM", {{UINT64_MAX - 2, 4, 0, 0}}},
	{"buffer outside of RAM", {{0, UINT32_MAX, D_WRITE, 0}}},
	{"buffer outside of RAM", {{UINT64_C(1) << 63, 1, D_WRITE, 0}}},
	{"readable buffer after a writable one",
	 {{0x100000, 4, D_NEXT | D_WRITE, 1}, {0x100000, 4, 0, 0}}},
	{"indirect descriptor without the feature",
	 {{0x100000, 16, D_INDIRECT, 0}},
	 .no_indirect = true},
	{"indirect descriptor with a next one",
	 {{0x100000, 16, D_INDIRECT | D_NEXT, 1}}},
	{"indirect table of impossible length", {{0x100000, 0, D_INDIRECT, 0}}},
	{"indirect table of impossible length", {{0x100000, 17, D_INDIRECT, 0}}},
	{"indirect table outside of RAM", {{DRIVER_RAM - 16, 32, D_INDIRECT, 0}}},
	/* The tables of these are the ring itself. */
	{"indirect table in another", {{DESC_SELF, 16, D_INDIRECT, 0}}},
	{"descriptor index out of range",
	 {{DESC_SELF + 16, 32, D_INDIRECT, 0}, {0x100000, 4, D_NEXT, 2}}},
};

static void test_wrong_chains(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
		const struct wrong *w = &wrongs[i];

		start(f, false);
		f->vq.indirect = !w->no_indirect;
		for (unsigned int k = 0; k < 3; k++)
			driver_desc(&f->d, DESC, k, w->desc[k].addr,
				    w->desc[k].len, w->desc[k].flags,
				    w->desc[k].next);
		driver_offer(&f->d, 0, w->head);
		assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_BROKEN);
		assert_string_equal(f->vq.broken, w->why);
		/* It stays so, and is not touched again. */
		assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_BROKEN);
		assert_false(virtqueue_has_work(&f->vq));
		virtqueue_push(&f->vq, &f->chain, 1);
		assert_int_equal(driver_used(&f->d, 0), 0);
		assert_false(virtqueue_should_notify(&f->vq));
	}
}

static void test_index_jump(void **state)
{
	struct fixture *f = *state;

	driver_put16(&f->d, AVAIL + 2, DRIVER_QUEUE);
	assert_true(virtqueue_has_work(&f->vq));
	driver_put16(&f->d, AVAIL + 2, DRIVER_QUEUE + 1);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_BROKEN);
	assert_string_equal(f->vq.broken, "available index jumped");
}

#define HUGE_RAM (UINT32_C(16) << 20)

static void test_too_much(void **state)
{
	struct fixture *f = *state;
	uint64_t table = 0x200000;

	/* 4 GiB by naming the same RAM over and over: 16 MiB a time. */
	for (unsigned int i = 0; i < VQ_MAX_SEGS; i++)
		driver_desc(&f->d, table, i, 0, HUGE_RAM, D_NEXT,
			    (uint16_t)(i + 1));
	driver_desc(&f->d, table, 0, 0, HUGE_RAM - 1, D_NEXT, 1);
	driver_desc(&f->d, table, VQ_MAX_SEGS - 1, 0, HUGE_RAM, 0, 0);
	driver_desc(&f->d, DESC, 0, table, VQ_MAX_SEGS * 16, D_INDIRECT, 0);
	driver_offer(&f->d, 0, 0);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_OK);
	assert_int_equal(f->chain.out_bytes, VQ_MAX_CHAIN_BYTES);
	driver_desc(&f->d, table, 0, 0, HUGE_RAM, D_NEXT, 1);
	driver_offer(&f->d, 0, 0);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_BROKEN);
	assert_string_equal(f->vq.broken, "request of 4 GiB or more");
}

static void test_longest_chain(void **state)
{
	struct fixture *f = *state;
	uint64_t table = 0x200000;

	for (unsigned int i = 0; i < VQ_MAX_SEGS + 1; i++)
		driver_desc(&f->d, table, i, 0x1000 * i, 1, D_NEXT,
			    (uint16_t)(i + 1));
	driver_desc(&f->d, table, VQ_MAX_SEGS - 1, 0x1000, 1, 0, 0);
	driver_desc(&f->d, DESC, 0, table, (VQ_MAX_SEGS + 1) * 16, D_INDIRECT,
		    0);
	driver_offer(&f->d, 0, 0);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_OK);
	assert_int_equal(f->chain.n_out, VQ_MAX_SEGS);
	/* One more is too many. */
	driver_desc(&f->d, table, VQ_MAX_SEGS - 1, 0x1000, 1, D_NEXT,
		    VQ_MAX_SEGS);
	driver_desc(&f->d, table, VQ_MAX_SEGS, 0x1000, 1, 0, 0);
	driver_offer(&f->d, 0, 0);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_BROKEN);
}

static void test_wrong_rings(void **state)
{
	static const struct {
		const char *why;
		uint16_t size;
		uint64_t desc, driver, device;
	} cases[] = {
		{"impossible queue size", 0, 0x1000, 0x2000, 0x3000},
		{"impossible queue size", 3, 0x1000, 0x2000, 0x3000},
		{"impossible queue size", 512, 0x1000, 0x2000, 0x3000},
		{"misaligned ring", 8, 0x1008, 0x2000, 0x3000},
		{"misaligned ring", 8, 0x1000, 0x2001, 0x3000},
		{"misaligned ring", 8, 0x1000, 0x2000, 0x3002},
		{"ring outside of RAM", 8, DRIVER_RAM - 112, 0x2000, 0x3000},
		{"ring outside of RAM", 8, 0x1000, DRIVER_RAM - 20, 0x3000},
		{"ring outside of RAM", 8, 0x1000, 0x2000, DRIVER_RAM - 68},
		{"ring outside of RAM", 8, 0x1000, 0x2000, 0xfffffffffffffffc},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		virtqueue_reset(&f->vq);
		f->vq.size = cases[i].size;
		f->vq.desc = gpa(cases[i].desc);
		f->vq.driver = gpa(cases[i].driver);
		f->vq.device = gpa(cases[i].device);
		assert_false(virtqueue_start(&f->vq));
		assert_string_equal(f->vq.broken, cases[i].why);
		assert_false(f->vq.ready);
	}
	/* Just inside. */
	virtqueue_reset(&f->vq);
	f->vq.size = 8;
	f->vq.desc = gpa(DRIVER_RAM - 128);
	f->vq.driver = gpa(DRIVER_RAM - 22);
	f->vq.device = gpa(DRIVER_RAM - 72);
	assert_true(virtqueue_start(&f->vq));
}

static void give_back(struct fixture *f, unsigned int n)
{
	while (n--) {
		driver_offer(&f->d, 0, 0);
		assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_OK);
		virtqueue_push(&f->vq, &f->chain, 0);
	}
}

static void test_notify_by_flag(void **state)
{
	struct fixture *f = *state;

	driver_desc(&f->d, DESC, 0, DRIVER_DATA, 8, 0, 0);
	assert_false(virtqueue_should_notify(&f->vq));
	give_back(f, 1);
	assert_true(virtqueue_should_notify(&f->vq));
	assert_false(virtqueue_should_notify(&f->vq));
	driver_put16(&f->d, AVAIL, 1);
	give_back(f, 2);
	assert_false(virtqueue_should_notify(&f->vq));
	assert_int_equal(f->vq.stats.notifications, 1);
	assert_int_equal(f->vq.stats.suppressed, 1);
}

static void test_notify_by_event(void **state)
{
	struct fixture *f = *state;
	uint64_t used_event = AVAIL + 4 + 2 * DRIVER_QUEUE;

	start(f, true);
	driver_desc(&f->d, DESC, 0, DRIVER_DATA, 8, 0, 0);
	driver_put16(&f->d, AVAIL, 1); /* the flag means nothing now */
	give_back(f, 1);
	assert_true(virtqueue_should_notify(&f->vq));
	driver_put16(&f->d, used_event, 3); /* when entry 3 is there */
	give_back(f, 2);
	assert_false(virtqueue_should_notify(&f->vq));
	give_back(f, 1);
	assert_true(virtqueue_should_notify(&f->vq));
	give_back(f, 5); /* past it */
	assert_false(virtqueue_should_notify(&f->vq));
	driver_put16(&f->d, used_event, 11);
	give_back(f, 5); /* over it in one go */
	assert_true(virtqueue_should_notify(&f->vq));
}

static void test_asks_for_notification(void **state)
{
	struct fixture *f = *state;
	uint64_t avail_event = USED + 4 + 8 * DRIVER_QUEUE;

	start(f, true);
	driver_desc(&f->d, DESC, 0, DRIVER_DATA, 8, 0, 0);
	give_back(f, 3);
	assert_false(virtqueue_has_work(&f->vq));
	assert_int_equal(driver_get16(&f->d, avail_event), 3);
	driver_offer(&f->d, 0, 0);
	assert_true(virtqueue_has_work(&f->vq));
}

/* A buffer from the RAM below the hole to that above it is not one. */
static void test_hole(void **state)
{
	struct fixture *f = *state;
	const uint64_t low = GUESTMEM_HOLE_START;
	const uint64_t hole = GUESTMEM_HOLE_END - GUESTMEM_HOLE_START;
	struct guestmem *small = f->d.mem;
	struct guestmem *large;

	assert_int_equal(guestmem_new(low + (1 << 20), &large, NULL), 0);
	f->d.mem = large;
	f->vq.mem = large;
	start(f, false);
	driver_desc(&f->d, DESC, 0, low - 16, 16, D_NEXT, 1);
	driver_desc(&f->d, DESC, 1, GUESTMEM_HOLE_END, 16, 0, 0);
	driver_offer(&f->d, 0, 0);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_OK);
	driver_desc(&f->d, DESC, 0, low - 16, (uint32_t)hole + 32, 0, 0);
	driver_offer(&f->d, 0, 0);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_BROKEN);
	assert_string_equal(f->vq.broken, "buffer outside of RAM");
	f->d.mem = small;
	guestmem_free(large);
}

static void test_stopped(void **state)
{
	struct fixture *f = *state;

	driver_desc(&f->d, DESC, 0, DRIVER_DATA, 8, D_WRITE, 0);
	driver_offer(&f->d, 0, 0);
	assert_int_equal(virtqueue_pop(&f->vq, &f->chain), VQ_OK);
	/* No page more for this VM: a write to a fresh page fails, and breaks nothing. */
	guestmem_set_limit(f->d.mem, 0);
	assert_false(vq_chain_write(&f->vq, &f->chain, 0, "x", 1));
	assert_null(f->vq.broken);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_chain),
		T(test_indices_wrap),
		T(test_indirect),
		T(test_wrong_chains),
		T(test_index_jump),
		T(test_too_much),
		T(test_longest_chain),
		T(test_wrong_rings),
		T(test_notify_by_flag),
		T(test_notify_by_event),
		T(test_asks_for_notification),
		T(test_hole),
		T(test_stopped),
	};

	return cmocka_run_group_tests_name("virtqueue", tests, NULL, NULL);
}
