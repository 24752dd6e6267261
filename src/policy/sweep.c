/* SPDX-License-Identifier: Apache-2.0 */
/* When to sweep, how far, and when to stop. */
#include <policy/sweep.h>

#include <base/arith.h>
#include <base/units.h>
#include <policy/balloon.h>

/* A step brings little if it brings less than this part of its pages, and two in a row end it. */
#define POOR_PART  4
#define POOR_STEPS 2

void sweep_init(struct sweep *sweep)
{
	*sweep = (struct sweep){.pause_ms = SWEEP_PAUSE_MIN_MS};
}

uint64_t sweep_threshold_pages(uint64_t size_pages)
{
	return max_u64(size_pages / 64, 2 * MIB_PAGES);
}

/*
 * Pages that hold nothing for the guest are not all among its free ones, so this is the least
 * that it may be.
 */
static uint64_t waste(const struct sweep_report *r)
{
	return sub_u64(r->free_pages, r->empty_pages);
}

static uint64_t contents(const struct sweep_report *r)
{
	return sub_u64(r->size_pages, r->empty_pages + r->balloon_pages);
}

/* What the guest uses itself, and what it cannot use at all. */
static uint64_t used(const struct sweep_report *r)
{
	return sub_u64(r->size_pages, r->free_pages + r->balloon_pages);
}

static void phase_set(struct sweep *s, enum sweep_phase phase, uint64_t now_ms)
{
	s->phase = phase;
	s->phase_ms = now_ms;
}

static void back_off(struct sweep *s, uint64_t since_ms)
{
	s->pause_ms = min_u64(2 * s->pause_ms, SWEEP_PAUSE_MAX_MS);
	s->next_ms = since_ms + s->pause_ms;
	s->brought_pages = 0;
}

static void let_out(struct sweep *s, const struct sweep_report *r, bool failed)
{
	s->extra_pages = 0;
	s->failed = failed;
	phase_set(s, SWEEP_OUT, r->now_ms);
}

/* How much further the balloon may go. Free memory is all it may take, and not all of that. */
static uint64_t step_room(const struct sweep *s, const struct sweep_report *r,
			  const struct options *options)
{
	const uint64_t most = r->size_pages * options->v[OPT_CTL_MAX_PERCENT] /
			      100;
	const uint64_t unused = min_u64(r->free_pages, r->available_pages);

	return min_u64(sub_u64(unused, balloon_keep_pages(r->size_pages)),
		       sub_u64(most, r->base_pages + s->extra_pages));
}

static void step(struct sweep *s, const struct sweep_report *r,
		 const struct options *options)
{
	const uint64_t room = step_room(s, r, options);

	if (room < MIB_PAGES) {
		let_out(s, r, false);
		return;
	}
	s->step_pages = min_u64(room, balloon_step_pages(r->size_pages));
	s->step_ms = r->now_ms;
	s->step_contents = contents(r);
	s->extra_pages += s->step_pages;
}

static void begin(struct sweep *s, const struct sweep_report *r,
		  const struct options *options)
{
	if (step_room(s, r, options) < MIB_PAGES)
		return;
	s->sweeps++;
	s->start_contents = contents(r);
	s->start_used = used(r);
	s->start_ooms = r->ooms;
	s->poor_steps = 0;
	phase_set(s, SWEEP_IN, r->now_ms);
	step(s, r, options);
}

/* Pages that are used again at once would better have stayed. */
static void judge_last(struct sweep *s, const struct sweep_report *r)
{
	if (s->brought_pages == 0)
		return;
	if (r->empty_pages + s->brought_pages / 2 < s->empty_after)
		back_off(s, s->phase_ms);
	else if (r->now_ms - s->phase_ms >= SWEEP_KEPT_MS) {
		s->pause_ms = SWEEP_PAUSE_MIN_MS;
		s->brought_pages = 0;
	}
}

static void rest(struct sweep *s, const struct sweep_report *r,
		 const struct options *options)
{
	const uint64_t before = s->waste_pages;
	/* What it holds and was not asked for is somebody else's doing. */
	const bool may = r->allowed && options->v[OPT_SWEEP_ENABLE] &&
			 r->balloon_pages <= r->base_pages;

	judge_last(s, r);
	if (may && r->stats_ms == s->seen_ms)
		return;
	s->seen_ms = r->stats_ms;
	s->waste_pages = may ? waste(r) : 0;
	/* What was not there before may be on its way back by itself, or into use. */
	if (min_u64(before, s->waste_pages) >=
		    sweep_threshold_pages(r->size_pages) &&
	    r->now_ms >= s->next_ms)
		begin(s, r, options);
}

/* Whether the last step has brought too little for another one. */
static bool is_swept(struct sweep *s, const struct sweep_report *r)
{
	const uint64_t brought = sub_u64(s->step_contents, contents(r));

	s->poor_steps = brought < s->step_pages / POOR_PART ? s->poor_steps + 1
							    : 0;
	return s->poor_steps >= POOR_STEPS ||
	       waste(r) < sweep_threshold_pages(r->size_pages) / 4;
}

static void in(struct sweep *s, const struct sweep_report *r,
	       const struct options *options)
{
	const bool done = r->balloon_pages >= r->base_pages + s->extra_pages &&
			  r->stats_ms > s->step_ms;
	const bool late = r->now_ms - s->phase_ms > SWEEP_MAX_MS;

	if (!r->allowed || !options->v[OPT_SWEEP_ENABLE] ||
	    r->ooms > s->start_ooms)
		let_out(s, r, true);
	else if (!done && !late)
		return;
	else if (used(r) > s->start_used + balloon_keep_pages(r->size_pages) / 2)
		let_out(s, r, true);
	else if (late || is_swept(s, r))
		let_out(s, r, false);
	else
		step(s, r, options);
}

static void out(struct sweep *s, const struct sweep_report *r)
{
	const uint64_t brought = sub_u64(s->start_contents, contents(r));

	if (r->balloon_pages > r->base_pages &&
	    r->now_ms - s->phase_ms < SWEEP_OUT_MS)
		return;
	s->swept_pages += brought;
	s->brought_pages = brought;
	s->empty_after = r->empty_pages;
	s->waste_pages = 0;
	s->seen_ms = r->stats_ms;
	s->next_ms = r->now_ms + s->pause_ms;
	phase_set(s, SWEEP_REST, r->now_ms);
	if (s->failed || brought < sweep_threshold_pages(r->size_pages) / 2)
		back_off(s, r->now_ms);
}

void sweep_update(struct sweep *sweep, const struct sweep_report *report,
		  const struct options *options)
{
	switch (sweep->phase) {
	case SWEEP_REST:
		rest(sweep, report, options);
		break;
	case SWEEP_IN:
		in(sweep, report, options);
		break;
	case SWEEP_OUT:
		out(sweep, report);
		break;
	}
}
