/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a plan is made: state, targets, how much from whom, by which technique, what is
 * given back, who may grow, how fast to scan.
 */
#include <policy/plan.h>

#include <errno.h>
#include <stdlib.h>

#include <base/arith.h>
#include <base/units.h>
#include <policy/entitle.h>
#include <policy/split.h>

#define NO_VM UINT32_MAX

/* A saved page is worth the work only if a slot is smaller than this, of 1024. */
#define ZIP_WORTH 960

/* Slots are half a page until the VM's own pages have shown better. */
#define ZIP_FIRST_GUESS 512
#define ZIP_GUESS_PAGES 64

struct maker {
	const struct plan_host *host;
	const struct tree *tree;
	const struct tree_order *order;
	const struct plan_vm *vms;
	size_t n;
	struct plan_action *actions;
	struct plan_summary *sum;
	unsigned int acts;
	bool pool_limits; /* some pool has one */
	uint64_t *charge; /* by VM */
	uint64_t *must;   /* by VM: above a limit, to be taken in any state */
	uint64_t *room;   /* by VM: scratch for split_pages() */
	uint64_t *part;   /* by VM: scratch for split_pages() */
	uint64_t *some;   /* scratch: @room of one pool's VMs */
	uint64_t *node_pages; /* by node: minimums, then targets, then charges */
	uint64_t *node_room; /* by node: maximums, later what its VMs ask for */
	uint64_t *bound;     /* by pool: what its VMs may have together */
	uint32_t *vm_of;     /* by node, or NO_VM */
	bool *stands; /* by VM: a guest waits for what is taken from it */
	struct tree_node *low; /* the nodes, with what they should have as limits */
	void *memory;
};

uint64_t plan_vm_charge(const struct plan_vm *vm)
{
	return vm->private_pages + vm->common_pages + vm->zip_store_pages;
}

static const struct tree_node *node_of(const struct maker *m, size_t i)
{
	return &m->tree->nodes[m->vms[i].node];
}

static uint64_t vm_max(const struct tree_node *node)
{
	return min_u64(node->size_pages, node->alloc.limit_pages);
}

/*
 * Below a limit some room is kept: a guest at its limit that touches a page needs a free
 * one before another can be taken, and then again and again. @max: what can be had at all.
 */
static uint64_t headroom(const struct tree_node *node, uint64_t max)
{
	const uint64_t limit = node->alloc.limit_pages;

	if (limit >= max)
		return 0;
	return min_u64(limit / 2, max_u64(limit / 64, 64));
}

/* Its limit less that room. */
static uint64_t goal_of(const struct maker *m, uint32_t node)
{
	return m->low[node].alloc.limit_pages;
}

static uint64_t vm_goal(const struct maker *m, size_t i)
{
	return goal_of(m, m->vms[i].node);
}

static uint64_t vm_min(const struct maker *m, size_t i)
{
	return min_u64(node_of(m, i)->alloc.reservation_pages, vm_goal(m, i));
}

/* Arrays of 8 bytes an element, then of 4, then of 1. */
static int maker_alloc(struct maker *m)
{
	const size_t n = m->n, nodes = m->tree->n_nodes;
	uint64_t *p = calloc(1, nodes * sizeof(*m->low) +
					(5 * n + 3 * nodes) * sizeof(*p) +
					nodes * sizeof(*m->vm_of) +
					n * sizeof(*m->stands));

	if (!p)
		return -ENOMEM;
	m->memory = p;
	m->charge = p;
	m->must = p + n;
	m->room = p + 2 * n;
	m->part = p + 3 * n;
	m->some = p + 4 * n;
	p += 5 * n;
	m->node_pages = p;
	m->node_room = p + nodes;
	m->bound = p + 2 * nodes;
	m->low = (struct tree_node *)(p + 3 * nodes);
	m->vm_of = (uint32_t *)(m->low + nodes);
	m->stands = (bool *)(m->vm_of + nodes);
	for (size_t i = 0; i < nodes; i++)
		m->vm_of[i] = NO_VM;
	for (size_t i = 0; i < n; i++)
		m->vm_of[m->vms[i].node] = (uint32_t)i;
	return 0;
}

/* What each should have at most. A pool's room is not made of what its VMs have reserved. */
static void goals_set(struct maker *m)
{
	uint64_t *const min = m->node_pages, *const max = m->node_room;

	for (uint32_t p = m->order->n; p-- > 0;) {
		const uint32_t i = m->order->node[p];
		struct tree_node *const node = &m->low[i];
		uint64_t *const limit = &node->alloc.limit_pages;

		*node = m->tree->nodes[i];
		if (node->kind == TREE_VM) {
			max[i] = vm_max(node);
			*limit = max[i] - headroom(node, node->size_pages);
			min[i] = min_u64(node->alloc.reservation_pages, *limit);
		} else if (*limit != ALLOC_UNLIMITED) {
			const uint64_t room = headroom(node, max[i]);

			m->pool_limits = true;
			min[i] = min_u64(min[i], *limit);
			max[i] = min_u64(max[i], *limit);
			*limit = max_u64(min[i], *limit - room);
		}
		if (p > 0) {
			min[node->parent] += min[i];
			max[node->parent] += max[i];
		}
	}
}

static void state_decide(struct maker *m)
{
	struct plan_summary *const s = m->sum;

	s->minfree_pages = minfree_pages(m->host->managed_pages,
					 m->host->options);
	s->state = host_state_next(m->host->state, m->host->free_pages,
				   s->minfree_pages);
	s->goal_pages = host_state_goal_pages(s->minfree_pages);
	s->period_ms = host_state_period_ms(s->state, m->host->options);
	s->wake_below_pages = s->state == HOST_LOW
				      ? 0
				      : host_state_enter_pages(
						(enum host_state)(s->state + 1),
						s->minfree_pages);
	m->acts = host_state_acts(s->state);
}

/* Targets leave free what reclaiming drives at, so that they can all be reached. */
static int targets_set(struct maker *m)
{
	const struct tree low = {m->low, m->tree->n_nodes};
	uint64_t total = m->host->free_pages;
	int r;

	for (size_t i = 0; i < m->n; i++) {
		m->charge[i] = plan_vm_charge(&m->vms[i]);
		total += m->charge[i];
	}
	r = entitle(&low, m->order, sub_u64(total, m->sum->goal_pages),
		    idle_tax_from(m->host->options), m->node_pages);
	for (size_t i = 0; r == 0 && i < m->n; i++)
		m->actions[i].target_pages = m->node_pages[m->vms[i].node];
	return r;
}

/* What may be taken from a VM at all: above its target, never inside its reservation. */
static uint64_t excess(const struct maker *m, size_t i)
{
	return sub_u64(m->charge[i],
		       max_u64(m->actions[i].target_pages, vm_min(m, i)));
}

/* Take @over from the VMs of a pool, and at once if one of them waits for it. */
static void pool_limit_apply(struct maker *m, uint32_t position, uint64_t over)
{
	const uint32_t from = position + 1, end = m->order->end[position];
	bool waited_for = false;
	size_t n = 0;

	for (uint32_t p = from; p < end; p++) {
		const uint32_t i = m->vm_of[m->order->node[p]];

		if (i == NO_VM)
			continue;
		over = sub_u64(over, m->must[i]);
		m->room[n++] = excess(m, i) - m->must[i];
		waited_for |= m->vms[i].waiting;
	}
	split_pages(m->room, n, over, m->part);
	n = 0;
	for (uint32_t p = from; p < end; p++) {
		const uint32_t i = m->vm_of[m->order->node[p]];

		if (i == NO_VM)
			continue;
		m->must[i] += m->part[n++];
		m->stands[i] |= waited_for;
	}
}

/* How far above its goal, once it is more than half of its room above it. */
static uint64_t above_goal(const struct maker *m, uint32_t node, uint64_t max,
			   uint64_t charge)
{
	const uint64_t goal = goal_of(m, node);

	return charge > goal + (max - goal) / 2 ? charge - goal : 0;
}

/*
 * What VMs of a pool may have together: what is above the limit and cannot be taken, for a
 * disk takes nothing, must not stop others of the pool for good.
 */
static void bound_set(struct maker *m, uint32_t node)
{
	const struct tree_node *const n = &m->tree->nodes[node];
	const uint32_t vm = m->vm_of[node];

	if (vm != NO_VM ? m->vms[vm].swap_failed
			: m->bound[node] == ALLOC_UNLIMITED)
		m->bound[n->parent] = ALLOC_UNLIMITED;
	else if (vm == NO_VM)
		m->bound[node] = n->alloc.limit_pages;
}

/* Limits bind whatever the state of the host: first the VMs' own, then the pools'. */
static void limits_apply(struct maker *m)
{
	for (uint32_t i = 0; i < m->tree->n_nodes; i++)
		m->node_pages[i] = 0;
	for (uint32_t i = 0; i < m->n; i++) {
		m->must[i] = above_goal(m, m->vms[i].node,
					vm_max(node_of(m, i)), m->charge[i]);
		m->stands[i] = m->vms[i].waiting;
		m->node_pages[m->vms[i].node] = m->charge[i];
	}
	for (uint32_t p = m->order->n; p-- > 1;) {
		const uint32_t i = m->order->node[p];
		const struct tree_node *const node = &m->tree->nodes[i];
		uint64_t over = 0;

		if (node->kind == TREE_POOL)
			over = above_goal(m, i, node->alloc.limit_pages,
					  m->node_pages[i]);
		if (over)
			pool_limit_apply(m, p, over);
		bound_set(m, i);
		m->node_pages[node->parent] += m->node_pages[i];
	}
}

/* The host's deficit is shared in proportion to how far each is above its target. */
static void reclaim_divide(struct maker *m)
{
	const bool reclaims = m->acts & (ACT_BALLOON | ACT_PAGE_ALL);
	uint64_t deficit = 0, given;

	if (reclaims)
		deficit = sub_u64(m->sum->goal_pages, m->host->free_pages);
	m->sum->deficit_pages = deficit;
	for (size_t i = 0; i < m->n; i++) {
		deficit = sub_u64(deficit, m->must[i]);
		m->room[i] = excess(m, i) - m->must[i];
	}
	given = split_pages(m->room, m->n, deficit, m->part);
	m->sum->unmet_pages = deficit - given;
	for (size_t i = 0; i < m->n; i++) {
		m->actions[i].reclaim_pages = m->must[i] + m->part[i];
		/* What is above a limit does not wait for memory to become scarce. */
		if (m->must[i])
			m->sum->period_ms = host_state_period_ms(
				HOST_SOFT, m->host->options);
	}
}

/* What a balloon holds to stay. */
static uint64_t ballooned(const struct plan_vm *vm)
{
	return sub_u64(vm->balloon_pages, vm->sweep_pages);
}

/* How much further a balloon may grow without hurting if its driver works, or 0. */
static uint64_t balloon_room(const struct maker *m, size_t i)
{
	const struct plan_vm *const vm = &m->vms[i];
	const struct tree_node *const node = node_of(m, i);
	const uint64_t max = balloon_max_pages(node->size_pages,
					       node->alloc.reservation_pages,
					       vm->balloon_floor_pages,
					       m->host->options);

	if (vm->driver == BALLOON_NONE || !vm->stats_valid || vm->distress)
		return 0;
	return min_u64(sub_u64(max, ballooned(vm)),
		       sub_u64(vm->available_pages,
			       balloon_keep_pages(node->size_pages)));
}

static uint64_t zip_slot(const struct plan_vm *vm)
{
	if (vm->zip_pages < ZIP_GUESS_PAGES)
		return ZIP_FIRST_GUESS;
	return max_u64(1, min_u64(1024,
				  vm->zip_store_pages * 1024 / vm->zip_pages));
}

static uint64_t zip_room(const struct maker *m, size_t i)
{
	const uint32_t *const v = m->host->options->v;
	const uint64_t of_size = node_of(m, i)->size_pages *
				 v[OPT_MEM_ZIP_MAX_PCT] / 100;
	const uint64_t of_alloc = m->charge[i] * v[OPT_MEM_ZIP_MAX_ALLOC_PCT] /
				  100;

	if (!v[OPT_MEM_ZIP_ENABLE])
		return 0;
	return sub_u64(min_u64(of_size, of_alloc), m->vms[i].zip_store_pages);
}

/* What the compression cache itself takes, if that is all that is left. */
static void evict(struct maker *m, size_t i, uint64_t slot)
{
	const struct plan_vm *const vm = &m->vms[i];
	struct plan_action *const a = &m->actions[i];
	const uint64_t room = min_u64(vm->zip_pages,
				      vm->swap_free_pages - a->swap_pages);

	a->evict_pages = min_u64((a->unmet_pages * 1024 + slot - 1) / slot,
				 room);
	a->unmet_pages = sub_u64(a->unmet_pages, a->evict_pages * slot / 1024);
}

/* Free @rest machine pages by compressing and swapping private ones. */
static void page_out(struct maker *m, size_t i, uint64_t rest)
{
	const struct plan_vm *const vm = &m->vms[i];
	struct plan_action *const a = &m->actions[i];
	const uint64_t slot = zip_slot(vm);
	uint64_t left = vm->private_pages;

	if (slot < ZIP_WORTH) {
		const uint64_t save = 1024 - slot;

		a->compress_pages = min_u64((rest * 1024 + save - 1) / save,
					    min_u64(zip_room(m, i) * 1024 / slot,
						    left));
		rest = sub_u64(rest, a->compress_pages * save / 1024);
		left -= a->compress_pages;
	}
	a->swap_pages = min_u64(rest, min_u64(vm->swap_free_pages, left));
	a->unmet_pages = rest - a->swap_pages;
	if (a->unmet_pages)
		evict(m, i, slot);
}

/*
 * Balloon first, in small steps; page out what a balloon can never deliver. A driver that is
 * stuck is asked for a little all the same, or it could never show that it works again.
 */
static void technique_choose(struct maker *m, size_t i)
{
	struct plan_action *const a = &m->actions[i];
	const uint64_t want = a->reclaim_pages;
	const struct tree_node *const node = node_of(m, i);
	/* A guest that waits at its limit fills no balloon, and no other waits for one. */
	const bool stands = m->must[i] && m->stands[i];
	const bool hard = (m->acts & ACT_PAGE_ALL) || stands;
	const bool stuck = m->vms[i].driver == BALLOON_STUCK;
	const uint64_t room = balloon_room(m, i);
	const uint64_t step = stuck ? BALLOON_PROBE_PAGES
				    : balloon_step_pages(node->size_pages);
	/* What was asked for in soft is still welcome, but not waited for. */
	const uint64_t held = ballooned(&m->vms[i]);
	const uint64_t asked = sub_u64(m->vms[i].balloon_target_pages, held);

	a->balloon_target_pages = held + min_u64(hard && !stuck ? asked : want,
						 min_u64(room, step));
	page_out(m, i, hard || stuck ? want : sub_u64(want, room));
	m->sum->unmet_pages += a->unmet_pages;
}

/*
 * A VM below its target gets back what its balloon holds of the difference. A small
 * difference is left alone: free memory swings between soft and the goal, and targets
 * with the noise of the estimates, and balloons should follow neither. Where there is
 * enough for everything that the VM could want, there is nothing to wait for.
 */
static void give_back(struct maker *m, size_t i)
{
	const struct plan_vm *const vm = &m->vms[i];
	struct plan_action *const a = &m->actions[i];
	const uint64_t size = node_of(m, i)->size_pages;
	const uint64_t gap = sub_u64(a->target_pages, m->charge[i]);
	const bool all = a->target_pages == vm_goal(m, i);
	const uint64_t dead = all ? 0 : size / 16;
	/* A driver that is stuck is not asked for moments only. */
	const uint64_t probe = min_u64(vm->driver == BALLOON_STUCK
					       ? BALLOON_PROBE_PAGES
					       : 0,
				       balloon_room(m, i));

	a->balloon_target_pages = min_u64(vm->balloon_target_pages,
					  ballooned(vm) + probe);
	if ((m->acts & ACT_GIVE_BACK) && gap > dead)
		a->balloon_target_pages = min_u64(a->balloon_target_pages,
						  sub_u64(ballooned(vm), gap));
}

static void balloon_and_page(struct maker *m)
{
	for (size_t i = 0; i < m->n; i++) {
		if (m->actions[i].reclaim_pages > 0)
			technique_choose(m, i);
		else
			give_back(m, i);
		if (m->vms[i].distress)
			m->actions[i].balloon_target_pages = 0;
	}
}

/* Cut what the VMs of a pool ask for to @left. */
static void pool_room_cut(struct maker *m, uint32_t position, uint64_t left)
{
	const uint32_t from = position + 1, end = m->order->end[position];
	size_t n = 0;

	for (uint32_t p = from; p < end; p++) {
		const uint32_t i = m->vm_of[m->order->node[p]];

		if (i != NO_VM)
			m->some[n++] = m->room[i];
	}
	split_pages(m->some, n, left, m->part);
	n = 0;
	for (uint32_t p = from; p < end; p++) {
		const uint32_t i = m->vm_of[m->order->node[p]];

		if (i != NO_VM)
			m->room[i] = m->part[n++];
	}
}

/* No pool's VMs are to get more than its limit leaves for them all, from the leaves up. */
static void pools_bound(struct maker *m)
{
	uint64_t *const has = m->node_pages, *const asks = m->node_room;

	for (uint32_t i = 0; i < m->tree->n_nodes; i++)
		has[i] = asks[i] = 0;
	for (size_t i = 0; i < m->n; i++) {
		has[m->vms[i].node] = m->charge[i] +
				      m->actions[i].allowance_pages;
		asks[m->vms[i].node] = m->room[i];
	}
	for (uint32_t p = m->order->n; p-- > 1;) {
		const uint32_t i = m->order->node[p];
		const struct tree_node *const node = &m->tree->nodes[i];
		const uint64_t left = sub_u64(m->bound[i], has[i]);

		if (node->kind == TREE_POOL && asks[i] > left) {
			pool_room_cut(m, p, left);
			asks[i] = left;
		}
		has[node->parent] += has[i];
		asks[node->parent] += asks[i];
	}
}

/* Grant @room to all VMs from @left, keeping @keep of it. Return what is left then. */
static uint64_t grant(struct maker *m, uint64_t left, uint64_t keep)
{
	uint64_t given;

	if (m->pool_limits)
		pools_bound(m);
	given = split_pages(m->room, m->n, sub_u64(left, keep), m->part);
	for (size_t i = 0; i < m->n; i++)
		m->actions[i].allowance_pages += m->part[i];
	return left - given;
}

/* What a VM may take before it has to ask again. */
static uint64_t portion(const struct maker *m, size_t i)
{
	const uint64_t size = node_of(m, i)->size_pages;

	return host_state_break_large(m->host->free_pages, m->sum->minfree_pages)
		       ? max_u64(size / 256, 16)
		       : max_u64(size / 16, 64);
}

/* What a VM has a claim to and neither has nor may take yet. @upto: charge that it may reach. */
static uint64_t claim(const struct maker *m, size_t i, uint64_t upto)
{
	return sub_u64(upto, m->charge[i] + m->actions[i].allowance_pages);
}

static uint64_t deserved(const struct maker *m, size_t i)
{
	return max_u64(m->actions[i].target_pages, vm_min(m, i));
}

/*
 * Beyond its target a VM gets what is left, in portions: it may ask again. What lies beyond
 * its limit and cannot be taken, for the disk takes nothing, must not stop it for good: while
 * others do not want the memory it has what its guest needs to go on.
 */
static uint64_t beyond_target(const struct maker *m, size_t i)
{
	const struct tree_node *const node = node_of(m, i);
	const bool failed = m->vms[i].swap_failed;
	const uint64_t max = failed ? node->size_pages : vm_max(node);
	const uint64_t from = max_u64(m->charge[i], deserved(m, i));

	if (m->acts & ACT_BLOCK || (m->must[i] > 0 && !failed))
		return 0;
	return min_u64(sub_u64(max, from), portion(m, i));
}

static uint64_t grant_beyond(struct maker *m, uint64_t left, uint64_t keep)
{
	for (size_t i = 0; i < m->n; i++)
		m->room[i] = beyond_target(m, i);
	return grant(m, left, keep);
}

/* Portions for everybody from @left, beyond targets without @keep. Return what is left then. */
static uint64_t lend(struct maker *m, uint64_t left, uint64_t keep)
{
	for (size_t i = 0; i < m->n; i++)
		m->room[i] = min_u64(claim(m, i, deserved(m, i)), portion(m, i));
	left = grant(m, left, 0);
	return grant_beyond(m, left, keep);
}

/*
 * Who may grow: first everybody up to the reservation, then up to the target, then the
 * rest. As long as nothing is reclaimed, all get portions before that: a VM that asks for
 * more than it deserves would else wait, beside free memory, for others to use what they
 * deserve. They get it when they want it, for then reclaiming begins.
 *
 * Growth beyond targets stops halfway between hard and low, and goes on with what is
 * taken from others. If it could go down to the edge of low, it would: everybody would be
 * blocked until the host has left low, take all in a moment, and be blocked again.
 *
 * All allowances together never exceed free memory, nor those of a pool's VMs what its limit
 * leaves, so that no order of faults can exceed machine memory, or a limit.
 */
static void allowances_set(struct maker *m)
{
	const uint64_t minfree = m->sum->minfree_pages;
	const uint64_t low = host_state_enter_pages(HOST_LOW, minfree);
	const uint64_t hard = host_state_enter_pages(HOST_HARD, minfree);
	const uint64_t beyond = (low + hard) / 2;
	const bool calm = !(m->acts & (ACT_BALLOON | ACT_PAGE_ALL | ACT_BLOCK));
	uint64_t left = m->host->free_pages;

	for (size_t i = 0; i < m->n; i++)
		m->actions[i].allowance_pages = 0;
	if (calm)
		left = lend(m, left, beyond);
	for (size_t i = 0; i < m->n; i++)
		m->room[i] = claim(m, i, vm_min(m, i));
	left = grant(m, left, 0);
	for (size_t i = 0; i < m->n; i++)
		m->room[i] = claim(m, i, deserved(m, i));
	left = grant(m, left, low / 4);
	if (!calm)
		grant_beyond(m, left, beyond);
	for (size_t i = 0; i < m->n; i++)
		m->actions[i].blocked = (m->acts & ACT_BLOCK) &&
					m->charge[i] >= deserved(m, i);
}

static void share_rates_set(struct maker *m)
{
	const uint32_t *const v = m->host->options->v;
	const uint64_t seconds = UINT64_C(60) * v[OPT_SHARE_SCAN_TIME];
	const uint64_t host_rate = mul_div(v[OPT_SHARE_SCAN_GHZ] * MIB_PAGES,
					   m->host->processor_mhz, 1000);

	for (size_t i = 0; i < m->n; i++) {
		const uint64_t size = node_of(m, i)->size_pages;
		const uint64_t pass = (size + seconds - 1) / seconds;

		m->room[i] = v[OPT_SHARE_RATE_MAX];
		if (!(m->acts & ACT_SHARE_FAST))
			m->room[i] = min_u64(m->room[i], pass);
	}
	split_pages(m->room, m->n, host_rate, m->part);
	for (size_t i = 0; i < m->n; i++)
		m->actions[i].share_rate = m->part[i];
}

static void large_pages_set(struct maker *m)
{
	const bool breaks = host_state_break_large(m->host->free_pages,
						   m->sum->minfree_pages);

	for (size_t i = 0; i < m->n; i++)
		m->actions[i].break_large = breaks || m->must[i] > 0;
}

int plan_make(const struct plan_host *host, const struct tree *tree,
	      const struct tree_order *order, const struct plan_vm *vms,
	      size_t n_vms, struct plan_action *ret_actions,
	      struct plan_summary *ret)
{
	struct maker m = {
		.host = host,
		.tree = tree,
		.order = order,
		.vms = vms,
		.n = n_vms,
		.actions = ret_actions,
		.sum = ret,
	};
	int r = maker_alloc(&m);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n_vms; i++)
		ret_actions[i] = (struct plan_action){0};
	*ret = (struct plan_summary){0};
	state_decide(&m);
	goals_set(&m);
	r = targets_set(&m);
	if (r == 0) {
		limits_apply(&m);
		reclaim_divide(&m);
		balloon_and_page(&m);
		allowances_set(&m);
		share_rates_set(&m);
		large_pages_set(&m);
	}
	free(m.memory);
	return r;
}
