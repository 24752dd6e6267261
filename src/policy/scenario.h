/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to simulate: a host, pools, groups of VMs and how they behave.
 *
 *	[host]
 *	memory = 512MiB
 *	[sim]
 *	duration = 20min
 *	[options]
 *	Mem.IdleTax = 0
 *	[at 10min]
 *	Mem.IdleTax = 75
 *	[pool gold]
 *	shares = high
 *	[vm web]
 *	pool = gold
 *	count = 8
 *	size = 256MiB
 *	workload = steady
 *	active = 100MiB
 *
 * docs/policy.md lists all keys.
 */
#ifndef POLICY_SCENARIO_H
#define POLICY_SCENARIO_H
#include <base/error.h>
#include <base/types.h>
#include <policy/alloc.h>
#include <policy/options.h>

#define SCENARIO_NAME_MAX 40
#define SCENARIO_VMS_MAX  20000u

enum workload {
	WORKLOAD_IDLE,   /* touches a few pages */
	WORKLOAD_STEADY, /* always the same working set */
	WORKLOAD_PHASES, /* half of each period large, half small, and elsewhere */
	WORKLOAD_BURSTY, /* now and then large, for a tenth of the period */
	WORKLOAD_BOOT,   /* touches all its memory at start, then is steady */
	WORKLOAD_TRACE,  /* follows a recording */
};

enum balloon_kind {
	BALLOON_KIND_NORMAL,
	BALLOON_KIND_ABSENT, /* no driver */
	BALLOON_KIND_STUCK,  /* takes the target and does nothing */
	BALLOON_KIND_LIAR,   /* gives pages and uses them again */
};

/**
 * struct scenario_pool - a resource pool.
 * @name: its name
 * @parent: index of its parent among the pools + 1, 0 for the host
 * @alloc: its settings
 */
struct scenario_pool {
	char name[SCENARIO_NAME_MAX];
	uint32_t parent;
	struct mem_alloc alloc;
};

/**
 * struct scenario_vm - a group of like VMs.
 * @name: name of the group
 * @pool: index of the pool + 1, 0 for the host
 * @count: how many
 * @alloc: settings of each
 * @size_pages: configured size of each
 * @overhead_pages: overhead of each
 * @active_pages: working set, or the small one of two
 * @active_high_pages: the large one of two
 * @footprint_pages: memory in use
 * @floor_pages: balloon floor
 * @period_ms: length of a phase or between bursts
 * @start_ms: when the first starts
 * @stagger_ms: time between the starts of two
 * @workload: behaviour
 * @balloon: balloon driver
 * @shareable_pct: of the pages in use, whose contents exist elsewhere in the VM
 * @zero_pct: of the pages in use, that are all zero
 * @pieces_pct: of what it frees, in pieces too small to be reported
 * @incompressible_pct: of the pages in use, that do not fit half a page
 * @hard_pct: of the idle pages in use, that the guest cannot drop
 */
struct scenario_vm {
	char name[SCENARIO_NAME_MAX];
	uint32_t pool;
	uint32_t count;
	struct mem_alloc alloc;
	uint64_t size_pages;
	uint64_t overhead_pages;
	uint64_t active_pages;
	uint64_t active_high_pages;
	uint64_t footprint_pages;
	uint64_t floor_pages;
	uint64_t period_ms;
	uint64_t start_ms;
	uint64_t stagger_ms;
	enum workload workload;
	enum balloon_kind balloon;
	uint32_t shareable_pct;
	uint32_t zero_pct;
	uint32_t pieces_pct;
	uint32_t incompressible_pct;
	uint32_t hard_pct;
};

/**
 * struct scenario_change - an option that changes during the run.
 * @at_ms: when
 * @id: option
 * @value: new value
 */
struct scenario_change {
	uint64_t at_ms;
	enum option_id id;
	uint32_t value;
};

/**
 * struct scenario - everything.
 * @managed_pages: machine memory
 * @swap_pages: disk space for swap files
 * @swap_rate_pages: pages that can be written to swap per second
 * @processor_mhz: clock of all processors together
 * @duration_ms: how long to simulate
 * @step_ms: in which steps
 * @seed: of the random numbers
 * @trace_file: name of the recording, "" for none
 * @options: options at the start
 * @changes: @n_changes later changes, in order of time
 * @n_changes: number of changes
 * @pools: @n_pools pools
 * @n_pools: number of pools
 * @vms: @n_vms groups
 * @n_vms: number of groups
 */
struct scenario {
	uint64_t managed_pages;
	uint64_t swap_pages;
	uint64_t swap_rate_pages;
	uint64_t processor_mhz;
	uint64_t duration_ms;
	uint64_t step_ms;
	uint64_t seed;
	char trace_file[256];
	struct options options;
	struct scenario_change *changes;
	size_t n_changes;
	struct scenario_pool *pools;
	size_t n_pools;
	struct scenario_vm *vms;
	size_t n_vms;
};

/**
 * scenario_parse() - read a scenario.
 * @text: the file's contents
 * @ret: scenario, to be freed with scenario_free(); not touched on failure
 * @err: names the line and what was wrong with it
 *
 * Return: 0, -EINVAL, -ENOENT, -EOPNOTSUPP or -ERANGE for the text, -ENOMEM.
 */
int scenario_parse(const char *text, struct scenario **ret, struct err *err)
	__attribute__((warn_unused_result));

/**
 * scenario_free() - release a scenario.
 * @scenario: scenario, or NULL
 */
void scenario_free(struct scenario *scenario);

#endif
