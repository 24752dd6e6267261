/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sweeping: memory that a guest has freed in pieces too small for free page reporting comes
 * back through its balloon, which takes the guest's free pages and at once returns them,
 * without the memory behind them.
 *
 * It takes no memory from anybody: what the balloon holds for a moment was free, enough stays
 * free meanwhile, and the guest has all of it again within seconds. So targets, and what a
 * balloon may hold for others, have nothing to do with it. It rests between sweeps, longer
 * where they bring little or where the guest soon uses the pages again.
 *
 *	REST	looks at each new statistics: waste is what the guest has free and what has
 *		contents nevertheless; begins if there is much, in two statistics in a row
 *	IN	one small step after the other, each after the statistics that follow on the
 *		step before
 *	OUT	waits until the guest has taken all back
 */
#ifndef POLICY_SWEEP_H
#define POLICY_SWEEP_H
#include <base/types.h>
#include <policy/options.h>

#define SWEEP_MAX_MS       3000 /* for all steps, and the statistics after each */
#define SWEEP_OUT_MS       5000  /* for the way out, which nobody can hurry */
#define SWEEP_PAUSE_MIN_MS 5000  /* between two sweeps */
#define SWEEP_PAUSE_MAX_MS 80000 /* however often they were not worth it */
#define SWEEP_KEPT_MS \
	10000 /* what is used again within this time was not worth it */

enum sweep_phase {
	SWEEP_REST,
	SWEEP_IN,
	SWEEP_OUT,
};

/**
 * struct sweep_report - what the host sees of one guest.
 * @now_ms: time of the report, any epoch, never going back
 * @size_pages: configured size of the VM
 * @base_pages: what its balloon is asked for without a sweep
 * @balloon_pages: what it holds
 * @empty_pages: pages without contents, beside the balloon
 * @stats_ms: time of the last statistics
 * @free_pages: unused by the guest, as they say
 * @available_pages: what the guest could use without swapping, as they say
 * @ooms: as in struct balloon_report
 * @allowed: the driver works, the guest does not suffer, nothing is to be taken from it and
 *           it does not wait for memory, and it has no large pages to lose
 */
struct sweep_report {
	uint64_t now_ms;
	uint64_t size_pages;
	uint64_t base_pages;
	uint64_t balloon_pages;
	uint64_t empty_pages;
	uint64_t stats_ms;
	uint64_t free_pages;
	uint64_t available_pages;
	uint64_t ooms;
	bool allowed;
};

/**
 * struct sweep - the sweeping of one guest.
 * @phase: what it does now
 * @extra_pages: by how much the balloon should be larger than what else is asked of it
 * @swept_pages: pages whose contents it has dropped, ever
 * @sweeps: how often it has begun, ever
 * @seen_ms: time of the statistics that were looked at last
 * @waste_pages: in those; 0 if they do not count
 * @phase_ms: when the phase began
 * @step_ms: when the last step did
 * @step_pages: its size
 * @step_contents: pages with contents when it began
 * @poor_steps: so many steps in a row brought little
 * @start_contents: pages with contents at the beginning
 * @start_used: pages that the guest used at the beginning
 * @start_ooms: count at the beginning
 * @failed: it was broken off
 * @brought_pages: by the last one, as long as it is not known whether that was worth it
 * @empty_after: pages without contents at its end
 * @next_ms: none before
 * @pause_ms: between two
 */
struct sweep {
	enum sweep_phase phase;
	uint64_t extra_pages;
	uint64_t swept_pages;
	uint64_t sweeps;
	uint64_t seen_ms;
	uint64_t waste_pages;
	uint64_t phase_ms;
	uint64_t step_ms;
	uint64_t step_pages;
	uint64_t step_contents;
	unsigned int poor_steps;
	uint64_t start_contents;
	uint64_t start_used;
	uint64_t start_ooms;
	bool failed;
	uint64_t brought_pages;
	uint64_t empty_after;
	uint64_t next_ms;
	uint64_t pause_ms;
};

/**
 * sweep_init() - at rest.
 * @sweep: sweep
 */
void sweep_init(struct sweep *sweep);

/**
 * sweep_update() - go on by a new report.
 * @sweep: @extra_pages is what to ask for from now on
 * @report: report; many per second while @phase is not SWEEP_REST
 * @options: Mem.SweepEnable, Mem.CtlMaxPercent
 */
void sweep_update(struct sweep *sweep, const struct sweep_report *report,
		  const struct options *options);

/**
 * sweep_threshold_pages() - waste that is worth a sweep.
 * @size_pages: configured size
 *
 * Return: 1/64 of the size, and at least 2 MiB.
 */
uint64_t sweep_threshold_pages(uint64_t size_pages);

#endif
