/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of pages mapped from the group file: joined, cut, counted and bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <engine/run_map.h>

#define PAGES 1000

static void test_counts_and_joins(void **state)
{
	struct run_map m;

	(void)state;
	assert_int_equal(run_map_init(&m, PAGES, 100), 0);
	assert_true(run_map_add(&m, 10, 20, false, false));
	assert_int_equal(run_map_runs(&m), 1);
	/* Next to it, with frames that do not follow. */
	assert_true(run_map_add(&m, 20, 30, false, false));
	assert_int_equal(run_map_runs(&m), 2);
	/* Goes on where the last one ends. */
	assert_true(run_map_add(&m, 30, 40, true, false));
	assert_int_equal(run_map_runs(&m), 2);
	/* Between two, continuing neither, then one that joins both. */
	assert_true(run_map_add(&m, 50, 60, false, false));
	assert_int_equal(run_map_runs(&m), 3);
	assert_true(run_map_add(&m, 40, 50, true, true));
	assert_int_equal(run_map_runs(&m), 2);
	assert_true(run_map_audit(&m));
	run_map_release(&m);
}

static void test_removal_cuts(void **state)
{
	struct run_map m;

	(void)state;
	assert_int_equal(run_map_init(&m, PAGES, 100), 0);
	assert_true(run_map_add(&m, 0, 10, false, false));
	run_map_remove(&m, 5);
	assert_int_equal(run_map_runs(&m), 2);
	assert_false(run_map_has(&m, 5));
	run_map_remove(&m, 0); /* from the start: still two */
	assert_int_equal(run_map_runs(&m), 2);
	run_map_remove(&m, 9);
	assert_int_equal(run_map_runs(&m), 2);
	run_map_remove(&m, 9);
	assert_int_equal(run_map_runs(&m), 2);
	for (uint64_t p = 1; p < 5; p++)
		run_map_remove(&m, p);
	assert_int_equal(run_map_runs(&m), 1);
	assert_true(run_map_audit(&m));
	run_map_release(&m);
}

static void test_bound(void **state)
{
	struct run_map m;

	(void)state;
	assert_int_equal(run_map_init(&m, PAGES, 2), 0);
	assert_true(run_map_add(&m, 0, 5, false, false));
	assert_true(run_map_add(&m, 10, 15, false, false));
	assert_false(run_map_add(&m, 20, 25, false, false));
	assert_false(run_map_has(&m, 20));
	assert_int_equal(run_map_runs(&m), 2);
	/* What joins a run needs no mapping of its own. */
	assert_true(run_map_add(&m, 15, 18, true, false));
	/* "Joins" a page that is not in the set: it does not. */
	assert_false(run_map_add(&m, 30, 31, true, true));
	for (uint64_t p = 0; p < 5; p++)
		run_map_remove(&m, p);
	assert_true(run_map_add(&m, 20, 25, false, false));
	assert_true(run_map_audit(&m));
	run_map_release(&m);
}

/* Against a plain array of run numbers. */
static void test_random(void **state)
{
	bool in[PAGES] = {false}, start[PAGES] = {false};
	struct run_map m;

	(void)state;
	srand(1);
	assert_int_equal(run_map_init(&m, PAGES, PAGES), 0);
	for (int i = 0; i < 20000; i++) {
		const uint64_t p = (uint64_t)rand() % PAGES;
		const bool before = rand() % 2, after = rand() % 2;
		uint64_t runs = 0;

		if (in[p]) {
			run_map_remove(&m, p);
			if (p + 1 < PAGES && in[p + 1])
				start[p + 1] = true;
			in[p] = start[p] = false;
		} else {
			assert_true(run_map_add(&m, p, p + 1, before, after));
			in[p] = true;
			start[p] = !(before && p && in[p - 1]);
			if (after && p + 1 < PAGES)
				start[p + 1] = false;
		}
		for (uint64_t q = 0; q < PAGES; q++)
			runs += start[q];
		assert_int_equal(run_map_runs(&m), runs);
	}
	assert_true(run_map_audit(&m));
	run_map_release(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts_and_joins),
		cmocka_unit_test(test_removal_cuts),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
