/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decision: from a snapshot of the host to what is done to each VM until the next.
 *
 * A plan says what should be, not what should be added: each replaces the one before.
 * It never takes from a VM that is inside its reservation, and never takes from and
 * gives back to the same VM.
 */
#ifndef POLICY_PLAN_H
#define POLICY_PLAN_H
#include <base/error.h>
#include <base/types.h>
#include <policy/balloon.h>
#include <policy/options.h>
#include <policy/state.h>
#include <policy/tree.h>

/**
 * struct plan_vm - what the host knows of one VM.
 * @node: its node in the tree, which holds size, settings and active memory; a VM
 *        without an estimate counts as wholly active
 * @private_pages: PPNs with a machine page of their own
 * @shared_pages: PPNs that map a common page
 * @zero_pages: PPNs without contents
 * @balloon_pages: PPNs that the guest gave up
 * @sweep_pages: of those, what a sweep has asked for, which the guest has back in a moment
 * @zip_pages: PPNs that are compressed
 * @swap_pages: PPNs that are on disk
 * @common_pages: machine pages of shared contents that are charged to this VM; over
 *                all VMs they add up to the host's common pages
 * @zip_store_pages: machine pages of its compression cache
 * @balloon_target_pages: what the balloon was last asked for, without a sweep
 * @balloon_floor_pages: memory that this guest needs to live; 0 if not known
 * @available_pages: what the guest could use without swapping; meaningful if
 *                   @stats_valid
 * @swap_free_pages: free slots of its swap file
 * @swap_failed: its disk took nothing when it was last tried
 * @driver: balloon driver
 * @stats_valid: the guest's statistics are fresh
 * @distress: the guest suffers from its balloon
 * @waiting: its guest stands still for want of a page
 */
struct plan_vm {
	uint32_t node;
	uint64_t private_pages;
	uint64_t shared_pages;
	uint64_t zero_pages;
	uint64_t balloon_pages;
	uint64_t sweep_pages;
	uint64_t zip_pages;
	uint64_t swap_pages;
	uint64_t common_pages;
	uint64_t zip_store_pages;
	uint64_t balloon_target_pages;
	uint64_t balloon_floor_pages;
	uint64_t available_pages;
	uint64_t swap_free_pages;
	bool swap_failed;
	enum balloon_driver driver;
	bool stats_valid;
	bool distress;
	bool waiting;
};

/**
 * struct plan_host - what the host knows of itself.
 * @managed_pages: machine memory
 * @free_pages: of that, free; the rest is charged to VMs or is overhead
 * @processor_mhz: clock of all its processors together, for the scan rate
 * @state: state that the last plan ended in
 * @options: options in force
 */
struct plan_host {
	uint64_t managed_pages;
	uint64_t free_pages;
	uint64_t processor_mhz;
	enum host_state state;
	const struct options *options;
};

/**
 * struct plan_action - what is done to one VM until the next plan.
 * @target_pages: machine memory that it deserves for its guest
 * @reclaim_pages: to be taken from it now, by all techniques together
 * @balloon_target_pages: size that the balloon is asked for; a sweep comes on top
 * @compress_pages: PPNs to try to compress; those that do not fit half a page, or for
 *                  which the cache has no room, are swapped
 * @swap_pages: PPNs to swap in addition; as ever, each is tried for sharing first
 * @evict_pages: compressed PPNs to swap, oldest first, once nothing else is left to take
 * @unmet_pages: part of @reclaim_pages that no technique can deliver
 * @allowance_pages: how many pages it may make its own until the next plan
 * @share_rate: pages to scan for sharing, per second
 * @break_large: break up its 2 MiB pages
 * @blocked: has no allowance because it is above its target and memory is low
 */
struct plan_action {
	uint64_t target_pages;
	uint64_t reclaim_pages;
	uint64_t balloon_target_pages;
	uint64_t compress_pages;
	uint64_t swap_pages;
	uint64_t evict_pages;
	uint64_t unmet_pages;
	uint64_t allowance_pages;
	uint64_t share_rate;
	bool break_large;
	bool blocked;
};

/**
 * struct plan_summary - what was decided for the host.
 * @state: state from now on
 * @minfree_pages: the base of all thresholds
 * @goal_pages: free memory that reclaiming drives at
 * @deficit_pages: what is missing to that, if pages are to be reclaimed in this state
 * @unmet_pages: part of it that nobody can deliver
 * @period_ms: time until the next plan if nothing happens before
 * @wake_below_pages: plan again as soon as free memory falls below this
 */
struct plan_summary {
	enum host_state state;
	uint64_t minfree_pages;
	uint64_t goal_pages;
	uint64_t deficit_pages;
	uint64_t unmet_pages;
	uint64_t period_ms;
	uint64_t wake_below_pages;
};

/**
 * plan_vm_charge() - machine memory that counts against a VM's target.
 * @vm: VM
 *
 * Return: private, common and compressed pages.
 */
uint64_t plan_vm_charge(const struct plan_vm *vm);

/**
 * plan_make() - decide.
 * @host: the host
 * @tree: pools and VMs
 * @order: its order
 * @vms: @n_vms VMs, each with a node of its own
 * @n_vms: number of VMs
 * @ret_actions: @n_vms actions
 * @ret: the decision for the host
 *
 * Return: 0 or -ENOMEM.
 */
int plan_make(const struct plan_host *host, const struct tree *tree,
	      const struct tree_order *order, const struct plan_vm *vms,
	      size_t n_vms, struct plan_action *ret_actions,
	      struct plan_summary *ret) __attribute__((warn_unused_result));

#endif
