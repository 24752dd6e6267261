/* SPDX-License-Identifier: Apache-2.0 */
/* Shape of the tree: parents, children, loops. */
#include <policy/tree.h>

#include <errno.h>
#include <stdlib.h>

static const char *node_name(const struct tree *tree, uint32_t i)
{
	return tree->nodes[i].name ? tree->nodes[i].name : "?";
}

static int parents_check(const struct tree *tree, struct err *err)
{
	if (tree->n_nodes == 0 || tree->nodes[TREE_ROOT].kind != TREE_POOL)
		return err_set(err, -EINVAL,
			       "the root of the tree is not a pool");
	for (uint32_t i = 1; i < tree->n_nodes; i++) {
		const uint32_t parent = tree->nodes[i].parent;

		if (parent >= tree->n_nodes)
			return err_set(err, -EINVAL,
				       "%s is in a pool that does not exist",
				       node_name(tree, i));
		if (tree->nodes[parent].kind != TREE_POOL)
			return err_set(err, -EINVAL,
				       "%s is in %s, which is a VM and not a pool",
				       node_name(tree, i),
				       node_name(tree, parent));
	}
	return 0;
}

static void kids_fill(const struct tree *tree, struct tree_order *order)
{
	const uint32_t n = tree->n_nodes;
	uint32_t *const first = order->first_kid;

	for (uint32_t i = 1; i < n; i++)
		first[tree->nodes[i].parent + 1]++;
	for (uint32_t i = 0; i < n; i++)
		first[i + 1] += first[i];
	/* @end is not in use yet: it counts the children placed so far. */
	for (uint32_t i = 1; i < n; i++) {
		const uint32_t parent = tree->nodes[i].parent;

		order->kids[first[parent] + order->end[parent]++] = i;
	}
}

/* Return the number of nodes reached; fewer than all means that there is a loop. */
static uint32_t preorder_fill(struct tree_order *order, uint32_t *stack,
			      uint32_t *position)
{
	uint32_t depth = 0, n = 0;

	stack[depth++] = TREE_ROOT;
	while (depth > 0) {
		const uint32_t node = stack[--depth];

		position[node] = n;
		order->node[n++] = node;
		for (uint32_t k = order->first_kid[node + 1];
		     k > order->first_kid[node]; k--)
			stack[depth++] = order->kids[k - 1];
	}
	return n;
}

static void ends_fill(const struct tree *tree, struct tree_order *order,
		      const uint32_t *position)
{
	for (uint32_t p = 0; p < order->n; p++)
		order->end[p] = p + 1;
	for (uint32_t p = order->n; p-- > 1;) {
		const uint32_t
			parent = position[tree->nodes[order->node[p]].parent];

		if (order->end[parent] < order->end[p])
			order->end[parent] = order->end[p];
	}
}

static int loop_error(const struct tree *tree, const struct tree_order *order,
		      uint32_t reached, uint32_t *seen, struct err *err)
{
	for (uint32_t i = 0; i < tree->n_nodes; i++)
		seen[i] = 0;
	for (uint32_t p = 0; p < reached; p++)
		seen[order->node[p]] = 1;
	for (uint32_t i = 0; i < tree->n_nodes; i++) {
		if (!seen[i])
			return err_set(
				err, -ELOOP,
				"pool %s is inside itself: its parents never lead to the host",
				node_name(tree, tree->nodes[i].kind == TREE_POOL
							? i
							: tree->nodes[i].parent));
	}
	return err_set(err, -ELOOP, "the tree of pools is not a tree");
}

int tree_order_new(const struct tree *tree, struct tree_order **ret,
		   struct err *err)
{
	const size_t n = tree->n_nodes;
	struct tree_order *order;
	uint32_t *work, reached;
	int r = parents_check(tree, err);

	if (r < 0)
		return r;
	order = calloc(1, sizeof(*order));
	work = calloc(2 * n, sizeof(*work));
	if (order) {
		order->n = tree->n_nodes;
		order->node = calloc(4 * n + 1, sizeof(*order->node));
	}
	if (!order || !work || !order->node) {
		r = err_set(err, -ENOMEM,
			    "no memory to order %zu pools and VMs", n);
		goto out;
	}
	order->end = order->node + n;
	order->kids = order->end + n;
	order->first_kid = order->kids + n;
	kids_fill(tree, order);
	reached = preorder_fill(order, work, work + n);
	if (reached < tree->n_nodes) {
		r = loop_error(tree, order, reached, work, err);
		goto out;
	}
	ends_fill(tree, order, work + n);
	*ret = order;
	order = NULL;
out:
	free(work);
	tree_order_free(order);
	return r;
}

void tree_order_free(struct tree_order *order)
{
	if (!order)
		return;
	free(order->node);
	free(order);
}
