/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Estimate of a VM's working set from samples.
 *
 * In each period, counted in time that the VM runs, the host revokes n random PPNs
 * and counts how many of them the guest touches again. Three averages are kept of the
 * fraction touched: one that follows slowly, one that follows fast, and the fast one
 * with the counts of the unfinished period folded in. The slow one counts, unless one of
 * the others is above it by more than the sample's error; then that one does, and the
 * slow one goes on from there. So an estimate rises at once and falls with reluctance.
 */
#ifndef POLICY_WORKSET_H
#define POLICY_WORKSET_H
#include <base/types.h>

/* Fractions are in units of 1 / WORKSET_ONE. */
#define WORKSET_ONE (UINT32_C(1) << 16)

/**
 * struct workset - estimator of one VM; owned by the caller.
 * @valid: at least one sample of this VM has been counted
 * @slow: slow average
 * @fast: fast average
 * @n: pages sampled in this period; 0 between periods
 * @touched: of those, touched so far
 */
struct workset {
	bool valid;
	uint32_t slow;
	uint32_t fast;
	uint32_t n;
	uint32_t touched;
};

/**
 * workset_init() - forget everything.
 * @ws: estimator
 */
void workset_init(struct workset *ws);

/**
 * workset_begin() - start a period; ends the one before.
 * @ws: estimator
 * @n: pages sampled, 0 if none could be
 */
void workset_begin(struct workset *ws, uint32_t n);

/**
 * workset_touch() - count sampled pages that the guest has touched.
 * @ws: estimator, in a period
 * @touched: how many more; what goes beyond the sample is ignored, for a page that
 *           two threads touch at once may be counted twice
 */
void workset_touch(struct workset *ws, uint32_t touched);

/**
 * workset_end() - finish the period and update the averages.
 * @ws: estimator; nothing happens if no page was sampled
 */
void workset_end(struct workset *ws);

/**
 * workset_pages() - the estimate in pages.
 * @ws: estimator
 * @size_pages: configured size of the VM
 * @min_pct: least value, percent
 * @ret_pages: active pages, rounded up; not touched if nothing was sampled yet
 *
 * Return: true if there is an estimate.
 */
bool workset_pages(const struct workset *ws, uint64_t size_pages,
		   uint32_t min_pct, uint64_t *ret_pages);

#endif
