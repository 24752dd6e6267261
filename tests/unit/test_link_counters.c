/* SPDX-License-Identifier: Apache-2.0 */
/* The rings that a VM shares with its host: order, overflow, and a VM that writes nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include <mem/link_counters.h>
#include <mem/physmap.h>

static int setup(void **state)
{
	struct link_counters *c;
	struct err err;
	int fd;

	if (link_counters_new(&fd, &c, &err))
		return -1;
	close(fd);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	link_counters_unmap(*state);
	return 0;
}

static void filled_pages_come_in_order(void **state)
{
	struct link_counters *c = *state;
	struct link_filled f = {0};

	assert_false(link_filled_any(c));
	assert_false(link_filled_pop(c, &f));
	/* Around the end of the ring, too. */
	for (uint32_t i = 0; i < 3 * LINK_FILLED_RING; i++) {
		f = (struct link_filled){.page = i, .n_pages = 1, .image = 2};
		link_filled_push(c, &f);
		assert_true(link_filled_any(c));
		assert_true(link_filled_pop(c, &f));
		assert_int_equal(f.page, i);
		assert_int_equal(f.image, 2);
	}
	assert_false(link_filled_any(c));
}

static void a_full_ring_of_filled_pages_forgets_the_newest(void **state)
{
	struct link_counters *c = *state;
	struct link_filled f = {0};

	for (uint32_t i = 0; i < LINK_FILLED_RING + 10; i++) {
		f.page = i;
		link_filled_push(c, &f);
	}
	for (uint32_t i = 0; i < LINK_FILLED_RING; i++) {
		assert_true(link_filled_pop(c, &f));
		assert_int_equal(f.page, i);
	}
	assert_false(link_filled_pop(c, &f));
}

static void a_head_that_cannot_be_ends_the_ring(void **state)
{
	struct link_counters *c = *state;
	struct link_filled f;
	struct link_left left;

	atomic_store(&c->filled_head, LINK_FILLED_RING + 1);
	assert_false(link_filled_pop(c, &f));
	assert_false(link_filled_any(c));
	atomic_store(&c->left_head, LINK_LEFT_RING + 1);
	assert_false(link_left_pop(c, &left));
	assert_int_equal(atomic_load(&c->left_overflow), 1);
}

static void a_full_ring_of_left_places_says_so(void **state)
{
	struct link_counters *c = *state;
	struct link_left left;

	for (uint32_t i = 0; i < LINK_LEFT_RING; i++)
		link_left_push(c, i, physmap_swapped(i));
	assert_int_equal(atomic_load(&c->left_overflow), 0);
	link_left_push(c, 0, physmap_swapped(0));
	assert_int_equal(atomic_load(&c->left_overflow), 1);
	for (uint32_t i = 0; i < LINK_LEFT_RING; i++) {
		assert_true(link_left_pop(c, &left));
		assert_int_equal(left.page, i);
	}
	assert_false(link_left_pop(c, &left));
}

/* Every length is within an eighth of the middle of its bucket, and buckets ascend. */
static void waits_fall_into_buckets(void **state)
{
	unsigned last = 0;

	(void)state;
	for (uint64_t ns = 0; ns < UINT64_C(1) << 34; ns += ns / 50 + 1) {
		const unsigned b = link_stall_bucket(ns);
		const uint64_t mid = link_stall_bucket_ns(b);

		assert_true(b >= last && b < LINK_STALL_BUCKETS);
		assert_true((mid > ns ? mid - ns : ns - mid) <= ns / 8);
		last = b;
	}
	assert_int_equal(link_stall_bucket(UINT64_MAX), LINK_STALL_BUCKETS - 1);
}

static void quantiles_of_waits(void **state)
{
	struct link_counters *c = *state;

	assert_int_equal(link_stall_quantile(c, LINK_STALL_ZIP, 500), 0);
	for (unsigned i = 0; i < 980; i++)
		link_stall_add(c, LINK_STALL_ZIP, 5000);
	for (unsigned i = 0; i < 20; i++)
		link_stall_add(c, LINK_STALL_ZIP, 900000);
	assert_in_range(link_stall_quantile(c, LINK_STALL_ZIP, 500), 4600, 5400);
	assert_in_range(link_stall_quantile(c, LINK_STALL_ZIP, 980), 4600, 5400);
	assert_in_range(link_stall_quantile(c, LINK_STALL_ZIP, 990), 830000,
			970000);
	assert_int_equal(atomic_load(&c->stall_ns[LINK_STALL_ZIP]),
			 980 * 5000 + 20 * 900000);
	assert_int_equal(link_stall_quantile(c, LINK_STALL_SWAP, 500), 0);
	/* Whatever a VM writes there. */
	for (unsigned i = 0; i < LINK_STALL_BUCKETS; i++)
		atomic_store(&c->stalls[LINK_STALL_SWAP][i], UINT64_MAX);
	assert_true(link_stall_quantile(c, LINK_STALL_SWAP, 500) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		TEST(filled_pages_come_in_order),
		TEST(a_full_ring_of_filled_pages_forgets_the_newest),
		TEST(a_head_that_cannot_be_ends_the_ring),
		TEST(waits_fall_into_buckets),
		TEST(quantiles_of_waits),
		TEST(a_full_ring_of_left_places_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
