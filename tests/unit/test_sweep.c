/* SPDX-License-Identifier: Apache-2.0 */
/* Sweeping: when it begins, that it takes free memory only, how it ends, how long it rests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/arith.h>
#include <base/units.h>
#include <policy/balloon.h>
#include <policy/sweep.h>

#define MIB(n)   ((uint64_t)(n)*MIB_PAGES)
#define SIZE     MIB(256)
#define TICK_MS  20
#define STATS_MS 2000

/* A guest: what it uses, what it has free with and without contents, and what its balloon has. */
struct world {
	struct options options;
	struct sweep sweep;
	struct sweep_report report; /* the statistics in it as the guest last sent them */
	uint64_t used;
	uint64_t stale;
	uint64_t empty;
	uint64_t balloon;
	uint64_t rate; /* pages that its driver moves per tick */
	bool mute;     /* it has stopped sending statistics */
	uint64_t least_free;
	uint64_t most_balloon;
};

static void stats_send(struct world *w)
{
	if (w->mute)
		return;
	w->report.stats_ms = w->report.now_ms;
	w->report.free_pages = w->stale + w->empty;
	w->report.available_pages = w->stale + w->empty;
}

static void world_init(struct world *w, uint64_t used, uint64_t stale)
{
	*w = (struct world){
		.used = used,
		.stale = stale,
		.empty = SIZE - used - stale,
		.rate = MIB(4),
		.least_free = SIZE,
	};
	options_init(&w->options);
	sweep_init(&w->sweep);
	w->report = (struct sweep_report){
		.now_ms = 1000000,
		.size_pages = SIZE,
		.allowed = true,
	};
	stats_send(w);
}

static uint64_t take(uint64_t *from, uint64_t n)
{
	n = min_u64(*from, n);
	*from -= n;
	return n;
}

/* The driver goes on; statistics come when it is done, as from a VM. */
static void driver_run(struct world *w)
{
	const uint64_t target = w->report.base_pages + w->sweep.extra_pages;
	const uint64_t before = w->balloon;
	const uint64_t more = min_u64(sub_u64(target, w->balloon), w->rate);
	const uint64_t stale = take(&w->stale, more);

	w->balloon += stale;
	w->balloon += take(&w->empty, more - stale);
	w->empty += take(&w->balloon,
			 min_u64(sub_u64(before, target), 4 * w->rate));
	if (w->balloon != before && w->balloon == target)
		stats_send(w);
}

static void tick(struct world *w)
{
	w->report.now_ms += TICK_MS;
	driver_run(w);
	if (w->report.now_ms - w->report.stats_ms >= STATS_MS)
		stats_send(w);
	w->report.balloon_pages = w->balloon;
	w->report.empty_pages = w->empty;
	sweep_update(&w->sweep, &w->report, &w->options);
	w->least_free = min_u64(w->least_free, w->stale + w->empty);
	w->most_balloon = max_u64(w->most_balloon, w->balloon);
}

static void run(struct world *w, uint64_t ms)
{
	for (uint64_t t = 0; t < ms; t += TICK_MS)
		tick(w);
}

/* Until it is in that phase. Return: ms. */
static uint64_t run_until(struct world *w, enum sweep_phase phase)
{
	uint64_t ms = 0;

	while (w->sweep.phase != phase) {
		assert_true(ms < 200000);
		tick(w);
		ms += TICK_MS;
	}
	return ms;
}

/* As of a guest that frees memory in pieces. */
static void free_pages(struct world *w, uint64_t n)
{
	w->stale += take(&w->used, n);
}

static void what_is_freed_comes_back(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, MIB(150), 0);
	run(&w, 10000);
	assert_int_equal(w.sweep.sweeps, 0);
	free_pages(&w, MIB(100));
	/* The next statistics show it, those after them that it stays. */
	assert_in_range(run_until(&w, SWEEP_IN), STATS_MS, 2 * STATS_MS);
	assert_in_range(run_until(&w, SWEEP_OUT), 0, 2000);
	assert_in_range(run_until(&w, SWEEP_REST), 0, 1000);
	assert_in_range(w.stale, 0, MIB(10));
	assert_int_equal(w.balloon, 0);
	assert_int_equal(w.sweep.extra_pages, 0);
	assert_int_equal(w.sweep.sweeps, 1);
	assert_int_equal(w.sweep.swept_pages, MIB(100) - w.stale);
	/* Not more than the waste, but for one step. */
	assert_in_range(w.most_balloon, 0, MIB(100) + balloon_step_pages(SIZE));
	run(&w, 60000);
	assert_int_equal(w.sweep.sweeps, 1);
}

/* Processes that were killed before are not the sweep's doing, nor is a sweep that failed. */
static void each_sweep_begins_anew(void **state)
{
	struct world w;
	uint64_t before;

	(void)state;
	world_init(&w, MIB(150), MIB(50));
	w.report.ooms = 3;
	run_until(&w, SWEEP_IN);
	w.report.allowed = false;
	run_until(&w, SWEEP_OUT);
	w.report.allowed = true;
	run_until(&w, SWEEP_REST);
	assert_true(w.sweep.failed);
	before = w.sweep.swept_pages;
	run_until(&w, SWEEP_IN);
	run_until(&w, SWEEP_OUT);
	run_until(&w, SWEEP_REST);
	assert_false(w.sweep.failed);
	assert_int_equal(w.sweep.sweeps, 2);
	assert_int_equal(w.sweep.brought_pages, w.sweep.swept_pages - before);
	/* It was worth it: after the time that proves that, nothing is remembered. */
	run(&w, SWEEP_KEPT_MS + TICK_MS);
	assert_int_equal(w.sweep.brought_pages, 0);
	assert_int_equal(w.sweep.pause_ms, SWEEP_PAUSE_MIN_MS);
}

static void a_sweep_is_not_followed_by_the_next(void **state)
{
	struct world w;
	uint64_t since;

	(void)state;
	world_init(&w, MIB(150), MIB(50));
	run_until(&w, SWEEP_IN);
	run_until(&w, SWEEP_OUT);
	run_until(&w, SWEEP_REST);
	since = w.report.now_ms;
	free_pages(&w, MIB(50));
	run_until(&w, SWEEP_IN);
	assert_in_range(w.report.now_ms - since, SWEEP_PAUSE_MIN_MS,
			SWEEP_PAUSE_MIN_MS + 2 * STATS_MS);
}

static void little_is_left_alone(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, MIB(150), sweep_threshold_pages(SIZE) - 1);
	run(&w, 60000);
	assert_int_equal(w.sweep.sweeps, 0);
	assert_int_equal(sweep_threshold_pages(MIB(64)), MIB(2));
	assert_int_equal(sweep_threshold_pages(MIB(1024)), MIB(16));
}

static void what_comes_and_goes_is_left_alone(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, MIB(150), 0);
	for (int i = 0; i < 10; i++) {
		free_pages(&w, MIB(50));
		run(&w, STATS_MS);
		w.used += take(&w.stale, MIB(50));
		run(&w, STATS_MS);
	}
	assert_int_equal(w.sweep.sweeps, 0);
}

static void enough_stays_free(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, SIZE - MIB(40), MIB(40));
	run(&w, 20000);
	assert_true(w.sweep.sweeps > 0);
	assert_int_equal(w.least_free, balloon_keep_pages(SIZE));
	/* What else it could use, but has not free, does not count. */
	world_init(&w, SIZE - MIB(40), MIB(40));
	w.mute = true;
	w.report.available_pages = balloon_keep_pages(SIZE);
	for (int i = 0; i < 10; i++) {
		w.report.stats_ms = w.report.now_ms;
		run(&w, 2 * TICK_MS);
	}
	assert_int_equal(w.sweep.sweeps, 0);
	/* Nor is a balloon larger than allowed. */
	world_init(&w, MIB(10), MIB(240));
	w.options.v[OPT_CTL_MAX_PERCENT] = 25;
	run(&w, 10000);
	assert_int_equal(w.most_balloon, MIB(64));
	/* That is an end like any other: it has brought what it may. */
	assert_int_equal(w.sweep.phase, SWEEP_REST);
	assert_false(w.sweep.failed);
	assert_int_equal(w.balloon, 0);
	world_init(&w, MIB(10), MIB(240));
	w.options.v[OPT_CTL_MAX_PERCENT] = 0;
	run(&w, 10000);
	assert_int_equal(w.sweep.sweeps, 0);
}

/* Into the middle of a sweep. */
static void middle(struct world *w)
{
	world_init(w, MIB(100), MIB(120));
	run_until(w, SWEEP_IN);
	run(w, 200);
	assert_int_equal(w->sweep.phase, SWEEP_IN);
	assert_true(w->sweep.extra_pages > MIB(8));
}

static void ends(struct world *w)
{
	tick(w);
	assert_int_equal(w->sweep.phase, SWEEP_OUT);
	assert_int_equal(w->sweep.extra_pages, 0);
	run_until(w, SWEEP_REST);
	assert_int_equal(w->balloon, w->report.base_pages);
	/* It is not tried again soon. */
	assert_true(w->sweep.next_ms >=
		    w->report.now_ms + 2 * SWEEP_PAUSE_MIN_MS);
}

static void the_guest_comes_first(void **state)
{
	struct world w;

	(void)state;
	middle(&w);
	w.report.allowed = false;
	ends(&w);
	middle(&w);
	w.report.ooms++;
	ends(&w);
	middle(&w);
	w.options.v[OPT_SWEEP_ENABLE] = 0;
	ends(&w);
	/* It uses more itself: seen at the end of the step. */
	middle(&w);
	w.used += take(&w.stale, balloon_keep_pages(SIZE));
	assert_in_range(run_until(&w, SWEEP_OUT), TICK_MS, 5 * TICK_MS);
	assert_true(w.sweep.failed);
}

static void nobody_waits_for_a_driver(void **state)
{
	struct world w;

	(void)state;
	middle(&w);
	w.rate = 0;
	run(&w, SWEEP_MAX_MS);
	assert_int_equal(w.sweep.phase, SWEEP_OUT);
	middle(&w);
	w.mute = true;
	run(&w, SWEEP_MAX_MS + 2 * TICK_MS);
	assert_int_equal(w.sweep.phase, SWEEP_REST);
	/* One that gives nothing at all is not asked again soon. */
	world_init(&w, MIB(100), MIB(120));
	w.rate = 0;
	run_until(&w, SWEEP_IN);
	run(&w, SWEEP_MAX_MS + 2 * TICK_MS);
	assert_int_equal(w.sweep.phase, SWEEP_REST);
	assert_int_equal(w.sweep.pause_ms, 2 * SWEEP_PAUSE_MIN_MS);
	/* And what it has in the balloon without being asked is not taken for ours. */
	world_init(&w, MIB(100), MIB(100));
	w.report.base_pages = MIB(20);
	w.balloon = take(&w.empty, MIB(30));
	w.rate = 0;
	run(&w, 20000);
	assert_int_equal(w.sweep.sweeps, 0);
}

/* What it brings in the time that it has counts, and not that it could do more. */
static void a_slow_guest_is_swept_in_parts(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, MIB(100), MIB(80));
	w.rate = MIB_PAGES / 16;
	run_until(&w, SWEEP_IN);
	assert_in_range(run_until(&w, SWEEP_OUT), SWEEP_MAX_MS,
			SWEEP_MAX_MS + 2 * TICK_MS);
	run_until(&w, SWEEP_REST);
	assert_int_equal(w.sweep.pause_ms, SWEEP_PAUSE_MIN_MS);
	assert_in_range(w.stale, MIB(60), MIB(75));
	run(&w, 100000);
	assert_in_range(w.stale, 0, MIB(5));
	assert_in_range(w.sweep.sweeps, 6, 12);
}

static void a_balloon_that_stays_is_left_in(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, MIB(100), MIB(80));
	w.report.base_pages = MIB(20);
	w.balloon = take(&w.empty, MIB(20));
	run(&w, 20000);
	assert_int_equal(w.sweep.sweeps, 1);
	assert_int_equal(w.balloon, MIB(20));
	assert_in_range(w.stale, 0, MIB(4));
}

static void what_is_not_worth_it_is_done_less(void **state)
{
	struct world w;
	uint64_t sweeps;

	(void)state;
	/* A guest that uses again what was swept, and frees it. */
	world_init(&w, MIB(150), 0);
	for (int i = 0; i < 100; i++) {
		free_pages(&w, MIB(50));
		run(&w, 6000);
		w.used += take(&w.stale, MIB(50));
		w.used += take(&w.empty, MIB(150) - w.used);
		run(&w, 1000);
	}
	sweeps = w.sweep.sweeps;
	assert_in_range(sweeps, 5, 20);
	assert_int_equal(w.sweep.pause_ms, SWEEP_PAUSE_MAX_MS);
	/* Once it is left alone, all is as before. */
	free_pages(&w, MIB(50));
	run(&w, SWEEP_PAUSE_MAX_MS + SWEEP_KEPT_MS + 10000);
	assert_int_equal(w.sweep.sweeps, sweeps + 1);
	assert_int_equal(w.sweep.pause_ms, SWEEP_PAUSE_MIN_MS);
	/* A guest whose free pages the balloon does not find. */
	world_init(&w, MIB(150), 0);
	for (int i = 0; i < 200000 / TICK_MS; i++) {
		w.report.free_pages = w.report.available_pages = MIB(200);
		w.report.stats_ms = w.report.now_ms;
		w.mute = true;
		tick(&w);
	}
	assert_in_range(w.sweep.sweeps, 2, 6);
	assert_int_equal(w.most_balloon, 2 * balloon_step_pages(SIZE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_freed_comes_back),
		cmocka_unit_test(each_sweep_begins_anew),
		cmocka_unit_test(a_sweep_is_not_followed_by_the_next),
		cmocka_unit_test(little_is_left_alone),
		cmocka_unit_test(what_comes_and_goes_is_left_alone),
		cmocka_unit_test(enough_stays_free),
		cmocka_unit_test(the_guest_comes_first),
		cmocka_unit_test(nobody_waits_for_a_driver),
		cmocka_unit_test(a_slow_guest_is_swept_in_parts),
		cmocka_unit_test(a_balloon_that_stays_is_left_in),
		cmocka_unit_test(what_is_not_worth_it_is_done_less),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
