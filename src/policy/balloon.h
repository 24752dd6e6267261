/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Safety rules of the balloon: a balloon must never hurt its guest.
 *
 * Small steps in, everything out at once, a floor that is never passed, no inflation
 * without fresh statistics, and a driver that makes no progress is left alone while
 * other techniques take over.
 */
#ifndef POLICY_BALLOON_H
#define POLICY_BALLOON_H
#include <base/types.h>
#include <policy/options.h>

enum balloon_driver {
	BALLOON_NONE, /* no driver has answered yet */
	BALLOON_READY,
	BALLOON_STUCK, /* asked for pages and got none to keep for BALLOON_STUCK_MS */
};

#define BALLOON_STUCK_MS 5000
#define BALLOON_PROBE_PAGES \
	256 /* what a stuck driver is asked for, to be seen to work */
#define BALLOON_STATS_MS    10000   /* statistics older than this are missing */
#define BALLOON_DISTRESS_MS 60000   /* no inflation so long after distress */
#define BALLOON_HOLD_MAX_MS 3600000 /* however often distress has come back */

/**
 * struct balloon_report - what the host sees of one balloon.
 * @now_ms: time of the report, any epoch, never going back
 * @present: the driver has set the device up
 * @target_pages: what it was last asked for
 * @actual_pages: pages really given up, as the physmap says and not the guest
 * @stats_ms: time of the last statistics
 * @has_stats: there have been any
 * @available_pages: what the guest could still use without swapping
 * @ooms: processes that the guest has killed for want of memory, ever, or the same
 *        count of deflations on out-of-memory
 */
struct balloon_report {
	uint64_t now_ms;
	bool present;
	uint64_t target_pages;
	uint64_t actual_pages;
	uint64_t stats_ms;
	bool has_stats;
	uint64_t available_pages;
	uint64_t ooms;
};

/**
 * struct balloon_watch - what has been learned about one driver.
 * @driver: verdict on the driver
 * @stats_valid: statistics are fresh
 * @distress: the guest suffers, or did lately: let everything out
 * @idle_since_ms: when it last made progress or had nothing to do
 * @distress_ms: when distress was last seen
 * @hold_ms: how long distress lasts; twice as long if it comes back soon; 0 if there
 *           has been none
 * @most_pages: largest balloon since it last had nothing to do
 * @actual_pages: balloon at the last report
 * @ooms: count at the last report
 */
struct balloon_watch {
	enum balloon_driver driver;
	bool stats_valid;
	bool distress;
	uint64_t idle_since_ms;
	uint64_t distress_ms;
	uint64_t hold_ms;
	uint64_t most_pages;
	uint64_t actual_pages;
	uint64_t ooms;
};

/**
 * balloon_watch_init() - know nothing: no driver.
 * @watch: watch
 */
void balloon_watch_init(struct balloon_watch *watch);

/**
 * balloon_watch_update() - judge the driver by a new report.
 * @watch: watch
 * @report: report
 * @size_pages: configured size of the VM
 */
void balloon_watch_update(struct balloon_watch *watch,
			  const struct balloon_report *report,
			  uint64_t size_pages);

/**
 * balloon_max_pages() - largest balloon that a VM may get.
 * @size_pages: configured size
 * @reservation_pages: never ballooned away
 * @floor_pages: memory that the guest needs to live
 * @options: Mem.CtlMaxPercent
 *
 * Return: pages.
 */
uint64_t balloon_max_pages(uint64_t size_pages, uint64_t reservation_pages,
			   uint64_t floor_pages, const struct options *options);

/**
 * balloon_keep_pages() - available memory that is always left to a guest.
 * @size_pages: configured size
 *
 * Return: a sixteenth of the size, and at least 8 MiB; half of it left means distress.
 */
uint64_t balloon_keep_pages(uint64_t size_pages);

/**
 * balloon_step_pages() - by how much a balloon may be ahead of its driver.
 * @size_pages: configured size
 *
 * Return: 1/32 of the size, and at least 1 MiB.
 */
uint64_t balloon_step_pages(uint64_t size_pages);

#endif
