/* SPDX-License-Identifier: Apache-2.0 */
/* Judging balloon drivers: stuck, in distress, without statistics; and the bounds. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/units.h>
#include <policy/balloon.h>

#define SIZE    (256 * MIB_PAGES)
#define LATE_MS UINT64_C(1000000000) /* any epoch will do */

static struct balloon_report report(uint64_t now_ms, uint64_t target,
				    uint64_t actual)
{
	return (struct balloon_report){
		.now_ms = now_ms,
		.present = true,
		.target_pages = target,
		.actual_pages = actual,
		.stats_ms = now_ms,
		.has_stats = true,
		.available_pages = SIZE / 2,
	};
}

static void a_driver_that_moves_is_ready(void **state)
{
	struct balloon_watch w;
	struct balloon_report r = {.now_ms = 100000};

	(void)state;
	balloon_watch_init(&w);
	balloon_watch_update(&w, &r, SIZE);
	assert_int_equal(w.driver, BALLOON_NONE);
	assert_false(w.stats_valid);
	for (uint64_t t = 0; t < 60; t++) {
		r = report(100000 + t * 1000, 1000, t / 4);
		balloon_watch_update(&w, &r, SIZE);
		assert_int_equal(w.driver, BALLOON_READY);
		assert_true(w.stats_valid);
	}
}

static void a_driver_that_stops_is_stuck(void **state)
{
	struct balloon_watch w;
	struct balloon_report r;

	(void)state;
	balloon_watch_init(&w);
	for (uint64_t t = 0; t <= 20; t++) {
		r = report(t * 1000, 1000, 10);
		balloon_watch_update(&w, &r, SIZE);
		assert_int_equal(w.driver, t < BALLOON_STUCK_MS / 1000
						   ? BALLOON_READY
						   : BALLOON_STUCK);
	}
	/* Asking for less does not make it trusted; moving does. */
	r = report(21000, 10, 10);
	balloon_watch_update(&w, &r, SIZE);
	assert_int_equal(w.driver, BALLOON_STUCK);
	r = report(22000, 1000, 11);
	balloon_watch_update(&w, &r, SIZE);
	assert_int_equal(w.driver, BALLOON_READY);
	r.present = false;
	balloon_watch_update(&w, &r, SIZE);
	assert_int_equal(w.driver, BALLOON_NONE);
}

static void a_driver_that_takes_back_is_stuck(void **state)
{
	struct balloon_watch w;
	struct balloon_report r;

	(void)state;
	balloon_watch_init(&w);
	for (uint64_t t = 0; t <= 60; t++) {
		r = report(t * 1000, 1000, t % 2 ? 100 : 0);
		balloon_watch_update(&w, &r, SIZE);
		assert_int_equal(w.driver, t <= BALLOON_STUCK_MS / 1000
						   ? BALLOON_READY
						   : BALLOON_STUCK);
	}
	/* One that gives back as it was told to has nothing to explain. */
	balloon_watch_init(&w);
	for (uint64_t t = 0; t <= 60; t++) {
		r = report(t * 1000, t % 20 < 10 ? 1000 : 0,
			   t % 20 < 10 ? 100 * (t % 20) : 0);
		balloon_watch_update(&w, &r, SIZE);
		assert_int_equal(w.driver, BALLOON_READY);
	}
}

static void old_statistics_are_missing(void **state)
{
	struct balloon_watch w;
	struct balloon_report r = report(20000, 0, 0);

	(void)state;
	balloon_watch_init(&w);
	r.stats_ms = r.now_ms - BALLOON_STATS_MS;
	balloon_watch_update(&w, &r, SIZE);
	assert_false(w.stats_valid);
	r.stats_ms++;
	balloon_watch_update(&w, &r, SIZE);
	assert_true(w.stats_valid);
	r.has_stats = false;
	balloon_watch_update(&w, &r, SIZE);
	assert_false(w.stats_valid);
}

static void distress_lasts(void **state)
{
	struct balloon_watch w;
	struct balloon_report r = report(LATE_MS, 100, 100);

	(void)state;
	balloon_watch_init(&w);
	balloon_watch_update(&w, &r, SIZE);
	assert_false(w.distress);
	r.available_pages = balloon_keep_pages(SIZE) / 2;
	balloon_watch_update(&w, &r, SIZE);
	assert_false(w.distress);
	r.available_pages = balloon_keep_pages(SIZE) / 2 - 1;
	balloon_watch_update(&w, &r, SIZE);
	assert_true(w.distress);
	r = report(LATE_MS + BALLOON_DISTRESS_MS - 1, 0, 0);
	balloon_watch_update(&w, &r, SIZE);
	assert_true(w.distress);
	r = report(LATE_MS + BALLOON_DISTRESS_MS, 0, 0);
	balloon_watch_update(&w, &r, SIZE);
	assert_false(w.distress);
	/* Killed for want of memory without a balloon: not the balloon's fault. */
	r.ooms = 1;
	balloon_watch_update(&w, &r, SIZE);
	assert_false(w.distress);
	/* Again within a short time: twice as long. */
	r.ooms = 2;
	r.actual_pages = 1;
	balloon_watch_update(&w, &r, SIZE);
	assert_true(w.distress);
	r.now_ms = r.stats_ms = r.now_ms + 2 * BALLOON_DISTRESS_MS - 1;
	r.available_pages = SIZE;
	balloon_watch_update(&w, &r, SIZE);
	assert_true(w.distress);
	r.now_ms = ++r.stats_ms;
	balloon_watch_update(&w, &r, SIZE);
	assert_false(w.distress);
	/* Long after: as the first time. */
	r.now_ms = r.stats_ms = r.now_ms + BALLOON_HOLD_MAX_MS;
	r.ooms = 3;
	balloon_watch_update(&w, &r, SIZE);
	r.now_ms = r.stats_ms = r.now_ms + BALLOON_DISTRESS_MS;
	balloon_watch_update(&w, &r, SIZE);
	assert_false(w.distress);
	/* It has let everything out by the time that the kill is seen. */
	balloon_watch_init(&w);
	r = report(LATE_MS, 100, 100);
	balloon_watch_update(&w, &r, SIZE);
	r = report(LATE_MS + 1000, 100, 0);
	r.ooms = 1;
	balloon_watch_update(&w, &r, SIZE);
	assert_true(w.distress);
	/* A guest short of memory without a balloon does not suffer from one. */
	balloon_watch_init(&w);
	r = report(1000, 100, 0);
	r.available_pages = 0;
	balloon_watch_update(&w, &r, SIZE);
	assert_false(w.distress);
}

static void bounds(void **state)
{
	struct options o;

	(void)state;
	options_init(&o);
	assert_int_equal(balloon_max_pages(1000, 0, 0, &o), 650);
	assert_int_equal(balloon_max_pages(1000, 500, 0, &o), 500);
	assert_int_equal(balloon_max_pages(1000, 500, 700, &o), 300);
	assert_int_equal(balloon_max_pages(1000, 1000, 2000, &o), 0);
	o.v[OPT_CTL_MAX_PERCENT] = 0;
	assert_int_equal(balloon_max_pages(1000, 0, 0, &o), 0);
	assert_int_equal(balloon_keep_pages(64 * MIB_PAGES), 8 * MIB_PAGES);
	assert_int_equal(balloon_keep_pages(1024 * MIB_PAGES), 64 * MIB_PAGES);
	assert_int_equal(balloon_step_pages(16 * MIB_PAGES), MIB_PAGES);
	assert_int_equal(balloon_step_pages(1024 * MIB_PAGES), 32 * MIB_PAGES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_driver_that_moves_is_ready),
		cmocka_unit_test(a_driver_that_stops_is_stuck),
		cmocka_unit_test(a_driver_that_takes_back_is_stuck),
		cmocka_unit_test(old_statistics_are_missing),
		cmocka_unit_test(distress_lasts),
		cmocka_unit_test(bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
