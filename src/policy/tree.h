/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree of resource pools and VMs, as a snapshot that the policy reads.
 *
 * Node 0 is the root pool: the host itself. VMs are leaves. Nodes may stand in any
 * order; tree_order_new() finds one in which a subtree is contiguous.
 */
#ifndef POLICY_TREE_H
#define POLICY_TREE_H
#include <base/error.h>
#include <base/types.h>
#include <policy/alloc.h>

#define TREE_ROOT 0u

enum tree_kind {
	TREE_POOL,
	TREE_VM,
};

/**
 * struct tree_node - one pool or VM.
 * @name: for messages
 * @kind: pool or VM
 * @parent: index of its pool; ignored for the root
 * @alloc: its settings
 * @size_pages: VM: configured size
 * @overhead_pages: VM: memory that it costs beside its guest's, reserved or used,
 *                  whichever is more
 * @active_pages: VM: estimated working set
 */
struct tree_node {
	const char *name;
	enum tree_kind kind;
	uint32_t parent;
	struct mem_alloc alloc;
	uint64_t size_pages;
	uint64_t overhead_pages;
	uint64_t active_pages;
};

/**
 * struct tree - all nodes; owned by the caller.
 * @nodes: indexed by node
 * @n_nodes: at least 1
 */
struct tree {
	const struct tree_node *nodes;
	uint32_t n_nodes;
};

/**
 * struct tree_order - the nodes of a tree, parents before children.
 * @n: number of nodes
 * @node: preorder: node at each position
 * @end: by position: the position behind the last node of the subtree
 * @kids: children of all nodes, each node's in a row and in ascending order
 * @first_kid: by node, n + 1 entries: where its children start in @kids
 */
struct tree_order {
	uint32_t n;
	uint32_t *node;
	uint32_t *end;
	uint32_t *kids;
	uint32_t *first_kid;
};

/**
 * tree_order_new() - check the shape of a tree and put it in order.
 * @tree: the tree
 * @ret: the order; not touched on failure
 * @err: names the node that is wrong
 *
 * Return: 0, -EINVAL if the root is no pool, a parent does not exist or is a VM,
 * -ELOOP if pools contain each other, -ENOMEM.
 */
int tree_order_new(const struct tree *tree, struct tree_order **ret,
		   struct err *err) __attribute__((warn_unused_result));

/**
 * tree_order_free() - release an order.
 * @order: order, or NULL
 */
void tree_order_free(struct tree_order *order);

#endif
