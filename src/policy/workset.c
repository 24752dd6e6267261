/* SPDX-License-Identifier: Apache-2.0 */
/* Fixed-point averages of the fraction of sampled pages that were touched. */
#include <policy/workset.h>

#include <base/arith.h>

/*
 * Gains of the averages, as 1 / WORKSET_ONE. ESX's are not published. With these, a
 * step up shows fully in the running period's average after two periods and to three
 * quarters after one; a step down is forgotten by half in 2.4 periods.
 */
#define GAIN_FAST (WORKSET_ONE / 4 * 3)
#define GAIN_SLOW (WORKSET_ONE / 4)
/* Standard errors of one sample by which an average must be above to be believed. */
#define RISE_ERRORS 2

void workset_init(struct workset *ws)
{
	*ws = (struct workset){0};
}

static uint32_t fold(uint32_t average, uint32_t sample, uint32_t gain)
{
	const int64_t step = ((int64_t)sample - average) * gain;

	return (uint32_t)(average + step / (int64_t)WORKSET_ONE);
}

static uint32_t square_root(uint32_t v)
{
	uint32_t root = 0;

	for (uint32_t bit = 1U << 15; bit; bit >>= 1) {
		if ((root + bit) * (root + bit) <= v)
			root += bit;
	}
	return root;
}

/*
 * Is what was seen so far above the slow average that chance does not explain it? The
 * larger of two noisy averages is too large by about half a standard error, so without
 * this question each VM would seem to use more than it does, the more so the smaller
 * its sample is.
 */
static bool has_risen(uint32_t seen, uint32_t slow, uint32_t n)
{
	const uint32_t error = square_root(
		(uint32_t)((uint64_t)seen * (WORKSET_ONE - seen) / n));

	return seen > slow && seen - slow > RISE_ERRORS * error;
}

static uint32_t period_fraction(const struct workset *ws)
{
	return (uint32_t)((uint64_t)ws->touched * WORKSET_ONE / ws->n);
}

void workset_begin(struct workset *ws, uint32_t n)
{
	workset_end(ws);
	ws->n = n;
	ws->touched = 0;
}

void workset_touch(struct workset *ws, uint32_t touched)
{
	const uint32_t room = ws->n - ws->touched;

	ws->touched += touched < room ? touched : room;
}

void workset_end(struct workset *ws)
{
	uint32_t f;

	if (ws->n == 0)
		return;
	f = period_fraction(ws);
	/* The first period has no past to be weighed against. */
	ws->slow = ws->valid ? fold(ws->slow, f, GAIN_SLOW) : f;
	ws->fast = ws->valid ? fold(ws->fast, f, GAIN_FAST) : f;
	/* What has risen stays: else the slow average would take it back for a while. */
	if (has_risen(ws->fast, ws->slow, ws->n))
		ws->slow = ws->fast;
	ws->valid = true;
	ws->n = 0;
	ws->touched = 0;
}

/* The estimate, in units of 1 / WORKSET_ONE; @min_pct is the least. */
static uint32_t workset_fraction(const struct workset *ws, uint32_t min_pct)
{
	const uint32_t least = (uint32_t)((uint64_t)min_pct * WORKSET_ONE / 100);
	uint32_t f = ws->slow;

	if (ws->n > 0 && ws->valid) {
		const uint32_t now = fold(ws->fast, period_fraction(ws),
					  GAIN_FAST);

		if (has_risen(now, ws->slow, ws->n))
			f = now;
	} else if (ws->n > 0) {
		f = period_fraction(ws);
	}
	return f > least ? f : least;
}

bool workset_pages(const struct workset *ws, uint64_t size_pages,
		   uint32_t min_pct, uint64_t *ret_pages)
{
	if (!ws->valid && ws->touched == 0)
		return false;
	*ret_pages = (uint64_t)(((wide_t)size_pages *
					 workset_fraction(ws, min_pct) +
				 WORKSET_ONE - 1) /
				WORKSET_ONE);
	return true;
}
