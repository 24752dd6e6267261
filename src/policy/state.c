/* SPDX-License-Identifier: Apache-2.0 */
/* One table holds all that differs between the states. */
#include <policy/state.h>

#include <base/units.h>

#define GIB_PAGES       (UINT64_C(1024) * MIB_PAGES)
#define BREAK_LARGE_PCT 400

/* A little more than what leaves soft, or reclaiming would creep up to that edge. */
#define GOAL_PCT 120

static const struct {
	const char *name;
	/*
	 * Percent of minFree. ESXi's upper edges are not published; these exceed
	 * the lower edge of the state above by an eighth. Clear does not reclaim,
	 * so soft goes on until the host is back in high: otherwise it would hover
	 * between the two with everybody a little above target.
	 */
	unsigned int enter_pct;
	unsigned int leave_pct;
	unsigned int acts;
} states[] = {
	[HOST_HIGH] = {"high", 0, 0, ACT_GIVE_BACK},
	[HOST_CLEAR] = {"clear", 100, 112, ACT_SHARE_FAST | ACT_GIVE_BACK},
	[HOST_SOFT] = {"soft", 64, 112,
		       ACT_SHARE_FAST | ACT_BALLOON | ACT_PAGE_REST |
			       ACT_GIVE_BACK},
	[HOST_HARD] = {"hard", 32, 72, ACT_SHARE_FAST | ACT_PAGE_ALL},
	[HOST_LOW] = {"low", 16, 36, ACT_SHARE_FAST | ACT_PAGE_ALL | ACT_BLOCK},
};

_Static_assert(ARRAY_SIZE(states) == HOST_STATES, "a state has no entry");

/* Rounded up, so that a threshold is never zero. */
static uint64_t percent(uint64_t pages, unsigned int pct)
{
	return (pages * pct + 99) / 100;
}

uint64_t minfree_pages(uint64_t managed_pages, const struct options *options)
{
	static const struct {
		uint64_t pages;
		unsigned int pct;
	} slices[] = {
		{4 * GIB_PAGES, 6},
		{8 * GIB_PAGES, 4},
		{16 * GIB_PAGES, 2},
		{UINT64_MAX, 1},
	};
	const unsigned int fixed_pct = options->v[OPT_MEM_MIN_FREE_PCT];
	uint64_t hundredths = managed_pages * fixed_pct, left = managed_pages;

	for (size_t i = 0; fixed_pct == 0 && left > 0; i++) {
		const uint64_t part = left < slices[i].pages ? left
							     : slices[i].pages;

		hundredths += part * slices[i].pct;
		left -= part;
	}
	return hundredths < 100 ? 1 : hundredths / 100;
}

uint64_t host_state_enter_pages(enum host_state state, uint64_t minfree)
{
	return percent(minfree, states[state].enter_pct);
}

/* Free memory from which a state is left upwards. */
static uint64_t host_state_leave_pages(enum host_state state, uint64_t minfree)
{
	return percent(minfree, states[state].leave_pct);
}

enum host_state host_state_next(enum host_state last, uint64_t free_pages,
				uint64_t minfree)
{
	unsigned int s = last;

	while (s < HOST_LOW &&
	       free_pages < host_state_enter_pages((enum host_state)(s + 1),
						   minfree))
		s++;
	if (s != (unsigned int)last)
		return (enum host_state)s;
	while (s > HOST_HIGH &&
	       free_pages >= host_state_leave_pages((enum host_state)s, minfree))
		s--;
	return (enum host_state)s;
}

unsigned int host_state_acts(enum host_state state)
{
	return states[state].acts;
}

bool host_state_break_large(uint64_t free_pages, uint64_t minfree)
{
	return free_pages < percent(minfree, BREAK_LARGE_PCT);
}

uint64_t host_state_goal_pages(uint64_t minfree)
{
	return percent(minfree, GOAL_PCT);
}

uint64_t host_state_period_ms(enum host_state state,
			      const struct options *options)
{
	if (host_state_acts(state) & (ACT_BALLOON | ACT_PAGE_ALL))
		return 1000;
	return UINT64_C(1000) * options->v[OPT_BALANCE_PERIOD];
}

const char *host_state_name(enum host_state state)
{
	return states[state].name;
}
