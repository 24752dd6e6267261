/* SPDX-License-Identifier: Apache-2.0 */
/* Working-set estimates: rise at once, fall slowly, never lie about having none. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/rng.h>
#include <policy/workset.h>

#define SIZE 65536

static uint64_t pages(const struct workset *ws)
{
	uint64_t p = 0;

	assert_true(workset_pages(ws, SIZE, 1, &p));
	return p;
}

static void period(struct workset *ws, uint32_t touched)
{
	workset_begin(ws, 100);
	workset_touch(ws, touched);
	workset_end(ws);
}

static void no_sample_no_estimate(void **state)
{
	struct workset ws;
	uint64_t p = 77;

	(void)state;
	workset_init(&ws);
	assert_false(workset_pages(&ws, SIZE, 1, &p));
	workset_begin(&ws, 0);
	workset_end(&ws);
	assert_false(workset_pages(&ws, SIZE, 1, &p));
	workset_begin(&ws, 100);
	assert_false(workset_pages(&ws, SIZE, 1, &p));
	assert_int_equal(p, 77);
	workset_touch(&ws, 10);
	assert_true(workset_pages(&ws, SIZE, 1, &p));
	assert_in_range(p, SIZE / 10 - 2, SIZE / 10 + 2);
	workset_init(&ws);
	period(&ws, 0);
	assert_in_range(pages(&ws), SIZE / 100 - 1, SIZE / 100 + 1);
}

static void rises_within_the_period(void **state)
{
	struct workset ws;

	(void)state;
	workset_init(&ws);
	for (int i = 0; i < 10; i++)
		period(&ws, 10);
	assert_in_range(pages(&ws), SIZE / 10 - 3, SIZE / 10 + 3);
	workset_begin(&ws, 100);
	workset_touch(&ws, 5);
	assert_in_range(pages(&ws), SIZE / 10 - 3, SIZE / 10 + 3);
	workset_touch(&ws, 85);
	assert_true(pages(&ws) > SIZE / 100 * 69);
	workset_begin(&ws, 100);
	assert_true(pages(&ws) > SIZE / 100 * 69);
	workset_touch(&ws, 90);
	assert_true(pages(&ws) > SIZE / 100 * 84);
}

static void falls_slowly(void **state)
{
	struct workset ws;
	uint64_t last;

	(void)state;
	workset_init(&ws);
	for (int i = 0; i < 20; i++)
		period(&ws, 80);
	last = pages(&ws);
	for (int i = 0; i < 20; i++) {
		period(&ws, 10);
		assert_true(pages(&ws) <= last);
		last = pages(&ws);
		if (i == 0)
			assert_true(last > SIZE / 100 * 60);
		if (i == 2)
			assert_true(last > SIZE / 100 * 38);
	}
	assert_in_range(last, SIZE / 100 * 9, SIZE / 100 * 11);
}

/* Chance does not count as a rise, and a rise is not taken back. */
static void rises_are_told_from_chance(void **state)
{
	struct workset ws;

	(void)state;
	workset_init(&ws);
	for (int i = 0; i < 10; i++)
		period(&ws, 30);
	period(&ws, 38);
	assert_in_range(pages(&ws), SIZE / 100 * 31, SIZE / 100 * 33);
	period(&ws, 60);
	assert_true(pages(&ws) > SIZE / 100 * 53);
	for (int i = 0; i < 5; i++) {
		period(&ws, 60);
		assert_true(pages(&ws) > SIZE / 100 * 53);
	}
}

static void counts_are_bounded(void **state)
{
	struct workset ws;

	(void)state;
	workset_init(&ws);
	workset_begin(&ws, 100);
	workset_touch(&ws, 60);
	workset_touch(&ws, UINT32_MAX);
	workset_end(&ws);
	assert_int_equal(pages(&ws), SIZE);
	workset_touch(&ws, 5);
	assert_int_equal(pages(&ws), SIZE);
}

/* Samples of a known working set: the mean estimate is the truth, within a point. */
static void samples_find_the_truth(void **state)
{
	struct rng rng = {7};
	struct workset ws;
	double sum = 0;

	(void)state;
	workset_init(&ws);
	for (int p = 0; p < 2000; p++) {
		uint32_t t = 0;

		for (int i = 0; i < 100; i++)
			t += rng_below(&rng, 100) < 30;
		period(&ws, t);
		sum += (double)pages(&ws) / SIZE;
	}
	assert_true(sum / 2000 > 0.29 && sum / 2000 < 0.31);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_sample_no_estimate),
		cmocka_unit_test(rises_within_the_period),
		cmocka_unit_test(falls_slowly),
		cmocka_unit_test(rises_are_told_from_chance),
		cmocka_unit_test(counts_are_bounded),
		cmocka_unit_test(samples_find_the_truth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
