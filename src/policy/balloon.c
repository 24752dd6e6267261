/* SPDX-License-Identifier: Apache-2.0 */
/* Judging balloon drivers and bounding balloons. */
#include <policy/balloon.h>

#include <base/arith.h>
#include <base/units.h>

#define KEEP_MIN_PAGES (8 * MIB_PAGES)

void balloon_watch_init(struct balloon_watch *watch)
{
	*watch = (struct balloon_watch){.driver = BALLOON_NONE};
}

static void progress_judge(struct balloon_watch *w,
			   const struct balloon_report *r)
{
	const bool idle = r->actual_pages >= r->target_pages;
	/* What it gives, takes back and gives again is no progress. */
	const bool moved = r->actual_pages > w->most_pages;

	if (!r->present) {
		w->driver = BALLOON_NONE;
		return;
	}
	/* A stuck driver is trusted again once it moves, not because nobody asks. */
	if (moved || (idle && w->driver != BALLOON_STUCK) ||
	    w->driver == BALLOON_NONE) {
		w->idle_since_ms = r->now_ms;
		w->most_pages = r->actual_pages;
		w->driver = BALLOON_READY;
	} else if (r->now_ms - w->idle_since_ms >= BALLOON_STUCK_MS) {
		w->driver = BALLOON_STUCK;
	}
}

/* A guest that suffers again soon is left alone for longer each time. */
static uint64_t hold_next(const struct balloon_watch *w, uint64_t now_ms)
{
	if (w->hold_ms == 0 || now_ms - w->distress_ms > 4 * w->hold_ms)
		return BALLOON_DISTRESS_MS;
	return min_u64(2 * w->hold_ms, BALLOON_HOLD_MAX_MS);
}

static void distress_judge(struct balloon_watch *w,
			   const struct balloon_report *r, uint64_t size_pages)
{
	const bool short_now = w->stats_valid && r->actual_pages > 0 &&
			       r->available_pages <
				       balloon_keep_pages(size_pages) / 2;

	const bool killed = r->ooms > w->ooms &&
			    (r->actual_pages > 0 || w->actual_pages > 0);

	if (killed || short_now) {
		if (!w->distress)
			w->hold_ms = hold_next(w, r->now_ms);
		w->distress_ms = r->now_ms;
	}
	w->distress = w->hold_ms > 0 && r->now_ms - w->distress_ms < w->hold_ms;
}

void balloon_watch_update(struct balloon_watch *watch,
			  const struct balloon_report *report,
			  uint64_t size_pages)
{
	progress_judge(watch, report);
	watch->stats_valid = report->present && report->has_stats &&
			     report->now_ms - report->stats_ms <
				     BALLOON_STATS_MS;
	distress_judge(watch, report, size_pages);
	watch->actual_pages = report->actual_pages;
	watch->ooms = report->ooms;
}

uint64_t balloon_max_pages(uint64_t size_pages, uint64_t reservation_pages,
			   uint64_t floor_pages, const struct options *options)
{
	const uint64_t cap = size_pages * options->v[OPT_CTL_MAX_PERCENT] / 100;
	const uint64_t stay = max_u64(reservation_pages, floor_pages);
	const uint64_t above = size_pages > stay ? size_pages - stay : 0;

	return cap < above ? cap : above;
}

uint64_t balloon_keep_pages(uint64_t size_pages)
{
	return max_u64(size_pages / 16, KEEP_MIN_PAGES);
}

uint64_t balloon_step_pages(uint64_t size_pages)
{
	return max_u64(size_pages / 32, MIB_PAGES);
}
