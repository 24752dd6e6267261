/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator: a host full of simulated guests, driven by the same plans as a real one.
 *
 * After each step it checks what must hold at any time: every page of every guest is
 * counted once, machine memory adds up and is not exceeded by a page, nothing was
 * ordered that would take a VM below its reservation, and allowances never promise
 * more than is free.
 */
#ifndef POLICY_SIM_H
#define POLICY_SIM_H
#include <base/error.h>
#include <base/types.h>
#include <policy/guest.h>
#include <policy/plan.h>
#include <policy/scenario.h>
#include <policy/trace.h>

struct sim;

/**
 * struct sim_host - the host after a step.
 * @time_ms: end of the step
 * @plan: last decision
 * @managed_pages: machine memory
 * @free_pages: of that, free
 * @private_pages: private pages of all guests
 * @common_pages: machine pages of shared contents
 * @zip_store_pages: machine pages of compression caches
 * @overhead_pages: overhead of all VMs
 * @shared_pages: guest pages that are shared
 * @zero_used_pages: guest pages found to be zero
 * @balloon_pages: guest pages in balloons
 * @zip_pages: guest pages compressed
 * @swap_pages: guest pages swapped
 * @running: VMs that run
 * @waiting: VMs that admission has refused, or that wait for memory for their overhead
 * @blocked: VMs that the last plan blocks
 */
struct sim_host {
	uint64_t time_ms;
	struct plan_summary plan;
	uint64_t managed_pages;
	uint64_t free_pages;
	uint64_t private_pages;
	uint64_t common_pages;
	uint64_t zip_store_pages;
	uint64_t overhead_pages;
	uint64_t shared_pages;
	uint64_t zero_used_pages;
	uint64_t balloon_pages;
	uint64_t zip_pages;
	uint64_t swap_pages;
	uint32_t running;
	uint32_t waiting;
	uint32_t blocked;
};

/**
 * struct sim_totals - what has happened since the start.
 * @state_ms: time in each state
 * @plans: decisions
 * @state_changes: changes of state
 * @free_min_pages: least free memory
 * @balloon_max_pages: most in balloons
 * @zip_max_pages: most compressed
 * @swap_max_pages: most swapped
 * @saved_max_pages: most saved by sharing
 * @refused: VMs that admission refused
 * @refusal: words of the first refusal
 */
struct sim_totals {
	uint64_t state_ms[HOST_STATES];
	uint64_t plans;
	uint64_t state_changes;
	uint64_t free_min_pages;
	uint64_t balloon_max_pages;
	uint64_t zip_max_pages;
	uint64_t swap_max_pages;
	uint64_t saved_max_pages;
	uint32_t refused;
	struct err refusal;
};

/**
 * sim_new() - set a host up; no VM runs yet.
 * @scenario: what to simulate; must outlive the simulation
 * @trace: recording for VMs with workload trace, or NULL; must outlive it too
 * @ret: simulation, to be freed with sim_free(); not touched on failure
 * @err: what was wrong
 *
 * Return: 0, -EINVAL if scenario and trace do not fit each other, -ELOOP for pools,
 * -ENOSPC if the pools' reservations do not fit, -ENOMEM.
 */
int sim_new(const struct scenario *scenario, const struct trace *trace,
	    struct sim **ret, struct err *err)
	__attribute__((warn_unused_result));

/**
 * sim_free() - release a simulation.
 * @sim: simulation, or NULL
 */
void sim_free(struct sim *sim);

/**
 * sim_step() - simulate one step.
 * @sim: simulation
 * @err: which invariant was broken, and when
 *
 * Return: 1 if there is more to simulate, 0 at the end, -EPROTO if an invariant was
 * broken, -ENOMEM.
 */
int sim_step(struct sim *sim, struct err *err)
	__attribute__((warn_unused_result));

/**
 * sim_host() - the host after the last step.
 * @sim: simulation
 *
 * Return: valid until the next step.
 */
const struct sim_host *sim_host(const struct sim *sim);

/**
 * sim_totals() - what has happened so far.
 * @sim: simulation
 *
 * Return: valid until the next step.
 */
const struct sim_totals *sim_totals(const struct sim *sim);

/**
 * sim_vm_count() - number of VMs, running or not.
 * @sim: simulation
 *
 * Return: number.
 */
uint32_t sim_vm_count(const struct sim *sim);

/**
 * sim_vm() - one VM.
 * @sim: simulation
 * @i: index, below sim_vm_count()
 * @ret_group: index of its group in the scenario
 * @ret_name: its name, valid until the simulation is freed
 *
 * Return: its guest, or NULL if it does not run.
 */
const struct guest *sim_vm(const struct sim *sim, uint32_t i,
			   uint32_t *ret_group, const char **ret_name);

/**
 * sim_options() - options in force, for reading estimates.
 * @sim: simulation
 *
 * Return: valid until the next step.
 */
const struct options *sim_options(const struct sim *sim);

#endif
