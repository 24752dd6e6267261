/* SPDX-License-Identifier: Apache-2.0 */
/* Order of a tree, and trees that are none. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/rng.h>
#include <policy/tree.h>

static void subtrees_are_contiguous(void **state)
{
	enum {
		N = 80
	};
	struct rng rng = {1};

	(void)state;
	for (int round = 0; round < 500; round++) {
		const uint32_t n = 1 + (uint32_t)rng_below(&rng, N);
		struct tree_node nodes[N] = {{.kind = TREE_POOL}};
		const struct tree tree = {nodes, n};
		struct tree_order *order;
		uint32_t position[N];

		for (uint32_t i = 1; i < n; i++) {
			nodes[i].kind = TREE_POOL;
			nodes[i].parent = (uint32_t)rng_below(&rng, i);
		}
		assert_int_equal(tree_order_new(&tree, &order, NULL), 0);
		assert_int_equal(order->n, n);
		for (uint32_t p = 0; p < n; p++)
			position[order->node[p]] = p;
		/* i is inside the range of a exactly if a is among its ancestors. */
		for (uint32_t i = 0; i < n; i++) {
			bool above[N] = {false};

			for (uint32_t a = i;; a = nodes[a].parent) {
				above[a] = true;
				if (a == 0)
					break;
			}
			for (uint32_t a = 0; a < n; a++)
				assert_int_equal(
					above[a],
					position[a] <= position[i] &&
						position[i] <
							order->end[position[a]]);
		}
		tree_order_free(order);
	}
	tree_order_free(NULL);
}

static void wrong_trees_are_named(void **state)
{
	struct tree_node nodes[4] = {
		{.name = "host", .kind = TREE_POOL},
		{.name = "a", .kind = TREE_POOL, .parent = 2},
		{.name = "b", .kind = TREE_POOL, .parent = 1},
		{.name = "vm", .kind = TREE_VM, .parent = 0},
	};
	const struct tree tree = {nodes, 4};
	struct tree_order *order = NULL;
	struct err err = {""};

	(void)state;
	assert_int_equal(tree_order_new(&tree, &order, &err), -ELOOP);
	assert_string_equal(
		err.text,
		"pool a is inside itself: its parents never lead to the host");
	nodes[1].parent = 1;
	assert_int_equal(tree_order_new(&tree, &order, &err), -ELOOP);
	nodes[1].parent = 3;
	assert_int_equal(tree_order_new(&tree, &order, &err), -EINVAL);
	assert_string_equal(err.text,
			    "a is in vm, which is a VM and not a pool");
	nodes[1].parent = 4;
	assert_int_equal(tree_order_new(&tree, &order, &err), -EINVAL);
	assert_string_equal(err.text, "a is in a pool that does not exist");
	nodes[1].parent = 0;
	nodes[0].kind = TREE_VM;
	assert_int_equal(tree_order_new(&tree, &order, &err), -EINVAL);
	assert_null(order);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(subtrees_are_contiguous),
		cmocka_unit_test(wrong_trees_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
