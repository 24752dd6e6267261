/* SPDX-License-Identifier: Apache-2.0 */
/* Reservation accounts up the tree of pools. */
#include <policy/admit.h>

#include <errno.h>
#include <stdlib.h>

#include <base/arith.h>
#include <base/units.h>
#include <policy/state.h>

uint64_t admit_margin_pages(uint64_t managed_pages,
			    const struct options *options)
{
	return minfree_pages(managed_pages, options);
}

static uint64_t host_capacity(const struct admit_host *host)
{
	return sub_u64(host->managed_pages, host->margin_pages);
}

static uint64_t charge_of(const struct tree_node *node, uint64_t used)
{
	if (node->kind == TREE_VM)
		return node->alloc.reservation_pages + node->overhead_pages;
	if (node->alloc.expandable)
		return max_u64(node->alloc.reservation_pages, used);
	return node->alloc.reservation_pages;
}

static void used_sum(const struct tree *tree, const struct tree_order *order,
		     struct pool_usage *usage)
{
	for (uint32_t i = 0; i < tree->n_nodes; i++)
		usage[i] = (struct pool_usage){0};
	for (uint32_t p = order->n; p-- > 1;) {
		const uint32_t i = order->node[p];
		const struct tree_node *const node = &tree->nodes[i];

		usage[i].charged_pages = charge_of(node,
						   usage[i].reservation_used);
		usage[node->parent].reservation_used += usage[i].charged_pages;
	}
}

/* What a pool can still promise, given what its parent can. */
static uint64_t pool_unreserved(const struct tree_node *node,
				const struct pool_usage *own, uint64_t above)
{
	const uint64_t inside = sub_u64(node->alloc.reservation_pages,
					own->reservation_used);

	if (!node->alloc.expandable)
		return inside;
	return min_u64(inside + above,
		       sub_u64(node->alloc.limit_pages, own->reservation_used));
}

void admit_usage(const struct tree *tree, const struct tree_order *order,
		 const struct admit_host *host, struct pool_usage *ret)
{
	struct pool_usage *const root = &ret[TREE_ROOT];

	used_sum(tree, order, ret);
	root->charged_pages = root->reservation_used;
	root->unreserved_pages = sub_u64(host_capacity(host),
					 root->reservation_used);
	for (uint32_t p = 1; p < order->n; p++) {
		const uint32_t i = order->node[p];
		const struct tree_node *const node = &tree->nodes[i];

		if (node->kind == TREE_POOL)
			ret[i].unreserved_pages = pool_unreserved(
				node, &ret[i],
				ret[node->parent].unreserved_pages);
	}
}

static int refuse(const struct tree *tree, struct admit_result result,
		  struct admit_result *ret, struct err *err)
{
	char need[UNITS_TEXT], have[UNITS_TEXT], lack[UNITS_TEXT];
	static const char *const words[] = {
		[ADMIT_FITS] = "",
		[ADMIT_POOL_RESERVATION] = "unreserved memory of pool ",
		[ADMIT_POOL_LIMIT] = "memory below the limit of pool ",
		[ADMIT_HOST_MEMORY] = "unreserved machine memory of the host",
		[ADMIT_SWAP] = "free swap space of the host",
	};
	const bool pool = result.what == ADMIT_POOL_RESERVATION ||
			  result.what == ADMIT_POOL_LIMIT;
	const char *const name = tree->nodes[result.node].name;

	*ret = result;
	return err_set(
		err, -ENOSPC,
		"insufficient resources: %s%.100s: %s needed, %s available, %s short",
		words[result.what],
		!pool  ? ""
		: name ? name
		       : "?",
		pages_format(result.needed_pages, need),
		pages_format(result.available_pages, have),
		pages_format(result.needed_pages - result.available_pages, lack));
}

/* Walk up: each pool covers what it can and asks its parent for the rest. */
static struct admit_result reserve_up(const struct tree *tree,
				      const struct pool_usage *usage,
				      uint64_t capacity, uint32_t pool,
				      uint64_t need)
{
	struct admit_result r = {.what = ADMIT_FITS};

	for (uint32_t i = pool; i != TREE_ROOT && need > 0;
	     i = tree->nodes[i].parent) {
		const struct mem_alloc *const alloc = &tree->nodes[i].alloc;
		const uint64_t used = usage[i].reservation_used;
		const uint64_t inside = sub_u64(alloc->reservation_pages, used);
		const uint64_t below = sub_u64(alloc->limit_pages, used);

		if (!alloc->expandable && need > inside)
			return (struct admit_result){ADMIT_POOL_RESERVATION, i,
						     need, inside};
		if (need > below)
			return (struct admit_result){ADMIT_POOL_LIMIT, i, need,
						     below};
		need = sub_u64(need, inside);
	}
	if (need > sub_u64(capacity, usage[TREE_ROOT].reservation_used))
		r = (struct admit_result){
			ADMIT_HOST_MEMORY, TREE_ROOT, need,
			sub_u64(capacity, usage[TREE_ROOT].reservation_used)};
	return r;
}

int admit(const struct tree *tree, const struct tree_order *order,
	  const struct admit_host *host, uint32_t pool, uint64_t reserve_pages,
	  uint64_t swap_pages, struct admit_result *ret, struct err *err)
{
	struct pool_usage *usage = calloc(tree->n_nodes, sizeof(*usage));
	struct admit_result r;

	if (!usage)
		return err_set(err, -ENOMEM, "no memory to check reservations");
	used_sum(tree, order, usage);
	r = reserve_up(tree, usage, host_capacity(host), pool, reserve_pages);
	free(usage);
	if (r.what == ADMIT_FITS && swap_pages > host->swap_free_pages)
		r = (struct admit_result){ADMIT_SWAP, TREE_ROOT, swap_pages,
					  host->swap_free_pages};
	if (r.what != ADMIT_FITS)
		return refuse(tree, r, ret, err);
	*ret = r;
	return 0;
}

static int settings_check(const struct tree *tree, struct err *err)
{
	for (uint32_t i = 1; i < tree->n_nodes; i++) {
		const struct tree_node *const node = &tree->nodes[i];
		const int r = node->kind == TREE_VM
				      ? mem_alloc_check_vm(&node->alloc,
							   node->size_pages, err)
				      : mem_alloc_check_pool(&node->alloc, err);

		if (r < 0) {
			err_prefix(err,
				   "%.100s: ", node->name ? node->name : "?");
			return r;
		}
	}
	return 0;
}

static struct admit_result pool_fits(const struct tree_node *node, uint32_t i,
				     uint64_t used)
{
	if (!node->alloc.expandable && used > node->alloc.reservation_pages)
		return (struct admit_result){ADMIT_POOL_RESERVATION, i, used,
					     node->alloc.reservation_pages};
	if (used > node->alloc.limit_pages)
		return (struct admit_result){ADMIT_POOL_LIMIT, i, used,
					     node->alloc.limit_pages};
	return (struct admit_result){.what = ADMIT_FITS};
}

int admit_check(const struct tree *tree, const struct tree_order *order,
		const struct admit_host *host, struct admit_result *ret,
		struct err *err)
{
	struct admit_result result = {.what = ADMIT_FITS};
	struct pool_usage *usage;
	int r = settings_check(tree, err);

	if (r < 0)
		return r;
	usage = calloc(tree->n_nodes, sizeof(*usage));
	if (!usage)
		return err_set(err, -ENOMEM, "no memory to check reservations");
	used_sum(tree, order, usage);
	for (uint32_t i = 1; i < tree->n_nodes && result.what == ADMIT_FITS;
	     i++) {
		if (tree->nodes[i].kind == TREE_POOL)
			result = pool_fits(&tree->nodes[i], i,
					   usage[i].reservation_used);
	}
	if (result.what == ADMIT_FITS &&
	    usage[TREE_ROOT].reservation_used > host_capacity(host))
		result = (struct admit_result){ADMIT_HOST_MEMORY, TREE_ROOT,
					       usage[TREE_ROOT].reservation_used,
					       host_capacity(host)};
	free(usage);
	if (result.what != ADMIT_FITS)
		return refuse(tree, result, ret, err);
	*ret = result;
	return 0;
}
