/* SPDX-License-Identifier: Apache-2.0 */
/* Free-memory states of the host, and what may act in each. */
#ifndef POLICY_STATE_H
#define POLICY_STATE_H
#include <base/error.h>
#include <base/types.h>
#include <policy/options.h>

/* From plenty to none. */
enum host_state {
	HOST_HIGH,
	HOST_CLEAR,
	HOST_SOFT,
	HOST_HARD,
	HOST_LOW,
	HOST_STATES,
};

/* What may act in a state. */
enum state_acts {
	ACT_SHARE_FAST = 1 << 0, /* scan for pages to share at the highest rate */
	ACT_BALLOON = 1 << 1,    /* inflate balloons */
	ACT_PAGE_REST = 1 << 2, /* compress or swap where ballooning is impossible */
	ACT_PAGE_ALL = 1 << 3, /* compress or swap from everybody above target */
	ACT_BLOCK = 1 << 4,    /* VMs above their target get no more pages */
	ACT_GIVE_BACK = 1 << 5, /* deflate balloons of those below target */
};

/**
 * minfree_pages() - machine memory that should stay free.
 * @managed_pages: machine memory
 * @options: Mem.MemMinFreePct overrides the scale if it is not 0
 *
 * Return: 6 % of the first 4 GiB, 4 % of the next 8, 2 % of the next 16 and 1 % of
 * the rest, or the percentage that was set; at least 1.
 */
uint64_t minfree_pages(uint64_t managed_pages, const struct options *options);

/**
 * host_state_enter_pages() - free memory below which a state is entered.
 * @state: any but HOST_HIGH, which has no such edge
 * @minfree: minfree_pages()
 *
 * Return: clear 100 %, soft 64 %, hard 32 %, low 16 % of @minfree.
 */
uint64_t host_state_enter_pages(enum host_state state, uint64_t minfree);

/**
 * host_state_next() - the state that follows from the last one and free memory.
 * @last: state until now
 * @free_pages: free machine memory
 * @minfree: minfree_pages()
 *
 * Down as soon as an edge is crossed, up only past the upper edge; over several
 * states at once if need be.
 *
 * Return: the state.
 */
enum host_state host_state_next(enum host_state last, uint64_t free_pages,
				uint64_t minfree);

/**
 * host_state_acts() - what may act in a state.
 * @state: state
 *
 * Return: a set of enum state_acts.
 */
unsigned int host_state_acts(enum host_state state);

/**
 * host_state_break_large() - whether 2 MiB pages should be broken up.
 * @free_pages: free machine memory
 * @minfree: minfree_pages()
 *
 * Return: true below 400 % of @minfree, so that small pages are there to share before
 * memory is short.
 */
bool host_state_break_large(uint64_t free_pages, uint64_t minfree);

/**
 * host_state_goal_pages() - free memory that reclaiming drives at.
 * @minfree: minfree_pages()
 *
 * Return: 120 % of @minfree, a little above the edge at which the host is in HOST_HIGH.
 */
uint64_t host_state_goal_pages(uint64_t minfree);

/**
 * host_state_period_ms() - time until the next decision if nothing happens.
 * @state: state
 * @options: Mem.BalancePeriod
 *
 * Return: the balance period, but a second where pages are being reclaimed, for
 * balloons move in small steps.
 */
uint64_t host_state_period_ms(enum host_state state,
			      const struct options *options);

/**
 * host_state_name() - ESXi's word for a state.
 * @state: state
 *
 * Return: "high", "clear", "soft", "hard" or "low".
 */
const char *host_state_name(enum host_state state);

#endif
