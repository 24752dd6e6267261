/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulated guest: what its workload touches, what its balloon driver does, and what
 * sharing, compression and swap yield and cost. Pages are counted, not named.
 */
#ifndef POLICY_GUEST_H
#define POLICY_GUEST_H
#include <base/rng.h>
#include <base/types.h>
#include <policy/balloon.h>
#include <policy/plan.h>
#include <policy/scenario.h>
#include <policy/sweep.h>
#include <policy/workset.h>

/**
 * struct guest_stats - what a guest has gone through.
 * @run_ms: time that it has run
 * @stall_zip_ms: of that, waiting for pages to be unpacked
 * @stall_swap_ms: waiting for pages to be read
 * @stall_host_ms: waiting for the host to grant a page
 * @zip_in: pages unpacked
 * @zip_out: pages compressed
 * @swap_in: pages read
 * @swap_out: pages written
 * @cow: shared pages copied for a write
 * @ooms: times that the guest ran out of memory because of its balloon
 * @balloon_turns: changes of direction of the balloon
 * @balloon_max: largest balloon
 */
struct guest_stats {
	double run_ms;
	double stall_zip_ms;
	double stall_swap_ms;
	double stall_host_ms;
	uint64_t zip_in;
	uint64_t zip_out;
	uint64_t swap_in;
	uint64_t swap_out;
	uint64_t cow;
	uint64_t ooms;
	uint64_t balloon_turns;
	uint64_t balloon_max;
};

/**
 * struct guest - one simulated VM; its pages by state add up to its size.
 * @spec: how it behaves
 * @start_ms: when it started
 * @private_pages: with a machine page of its own
 * @shared_pages: mapped to common pages
 * @stale_pages: of those, freed in pieces too small to be reported
 * @zero_pages: never used, or freed
 * @zero_used_pages: used but found to be all zero
 * @balloon_pages: given up
 * @zip_pages: compressed
 * @swap_pages: swapped
 * @active_pages: true working set
 * @footprint_pages: memory in use, as far as the guest has room
 * @trace_active_pages: what a recording asks for
 * @trace_footprint_pages: what a recording asks for
 * @hot_out_pages: compressed or swapped pages that are in the working set
 * @hot_before: working set of the step before
 * @phase: number of the phase, to notice a new one
 * @allowance_pages: pages that it may still make its own
 * @asked: it ran out of allowance
 * @blocked: the last plan blocks it
 * @action: orders of the last plan
 * @last_turn: direction that the balloon last moved in
 * @watch: what the host thinks of the balloon driver
 * @sweep: what it does about @stale_pages
 * @ws: working-set estimator
 * @ws_left_ms: run time until the sampling period ends
 * @ws_luck: this period's sampling error in standard deviations
 * @rng: its own random numbers
 * @stats: what it has gone through
 */
struct guest {
	const struct scenario_vm *spec;
	uint64_t start_ms;
	uint64_t private_pages;
	uint64_t stale_pages;
	uint64_t shared_pages;
	uint64_t zero_pages;
	uint64_t zero_used_pages;
	uint64_t balloon_pages;
	uint64_t zip_pages;
	uint64_t swap_pages;
	uint64_t active_pages;
	uint64_t footprint_pages;
	uint64_t trace_active_pages;
	uint64_t trace_footprint_pages;
	uint64_t hot_out_pages;
	uint64_t hot_before;
	uint64_t phase;
	uint64_t allowance_pages;
	bool asked;
	bool blocked;
	struct plan_action action;
	int last_turn;
	struct balloon_watch watch;
	struct sweep sweep;
	struct workset ws;
	uint64_t ws_left_ms;
	double ws_luck;
	struct rng rng;
	struct guest_stats stats;
};

/**
 * struct guest_budget - what the host's devices can do in one step, for all guests.
 * @zip_pages: pages that it can still compress
 * @swap_pages: pages that it can still write
 */
struct guest_budget {
	uint64_t zip_pages;
	uint64_t swap_pages;
};

/**
 * guest_init() - power on.
 * @guest: guest
 * @spec: how it behaves; must outlive the guest
 * @now_ms: time
 * @seed: of its random numbers
 */
void guest_init(struct guest *guest, const struct scenario_vm *spec,
		uint64_t now_ms, uint64_t seed);

/**
 * guest_run() - let the workload and the balloon driver run for one step.
 * @guest: guest
 * @now_ms: time at the start of the step
 * @dt_ms: length of the step
 * @options: options in force, for sampling and sweeping
 */
void guest_run(struct guest *guest, uint64_t now_ms, uint64_t dt_ms,
	       const struct options *options);

/**
 * guest_order() - take the orders of a plan.
 * @guest: guest
 * @action: its part of the plan
 */
void guest_order(struct guest *guest, const struct plan_action *action);

/**
 * guest_serve() - do to a guest for one step what the plan ordered.
 * @guest: guest
 * @dt_ms: length of the step
 * @budget: what is left of the host's devices; reduced
 *
 * Shares, compresses and swaps; never below the reservation.
 */
void guest_serve(struct guest *guest, uint64_t dt_ms,
		 struct guest_budget *budget);

/**
 * guest_watch() - report the balloon to the host's watch.
 * @guest: guest
 * @now_ms: time
 */
void guest_watch(struct guest *guest, uint64_t now_ms);

/**
 * guest_snapshot() - what the policy is told of a guest.
 * @guest: guest
 * @node: its node in the tree
 * @ret: snapshot
 */
void guest_snapshot(const struct guest *guest, uint32_t node,
		    struct plan_vm *ret);

/**
 * guest_active_estimate() - the working set as the host estimates it.
 * @guest: guest
 * @options: Mem.SamplePeriod, Mem.SampleActivePctMin
 *
 * Return: pages; the whole size if there is no estimate.
 */
uint64_t guest_active_estimate(const struct guest *guest,
			       const struct options *options);

/**
 * guest_charge() - machine memory of a guest, without overhead.
 * @guest: guest
 *
 * Return: private, common and compressed pages.
 */
uint64_t guest_charge(const struct guest *guest);

/**
 * guest_pages() - all pages of a guest, which must be its size.
 * @guest: guest
 *
 * Return: sum over the states.
 */
uint64_t guest_pages(const struct guest *guest);

#endif
