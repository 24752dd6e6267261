/* SPDX-License-Identifier: Apache-2.0 */
/* Admission: what fits, what does not, and the number that a refusal carries. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/arith.h>
#include <base/rng.h>
#include <base/units.h>
#include <policy/admit.h>

/* host { gold (reserves 300 MiB, expandable by choice) { inner } } */
struct fixture {
	struct tree_node nodes[4];
	struct tree tree;
	struct tree_order *order;
	struct admit_host host;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->nodes[0] = (struct tree_node){.name = "host", .kind = TREE_POOL};
	f->nodes[1] = (struct tree_node){.name = "gold", .kind = TREE_POOL};
	f->nodes[2] = (struct tree_node){.name = "inner",
					 .kind = TREE_POOL,
					 .parent = 1};
	f->nodes[3] = (struct tree_node){.name = "old",
					 .kind = TREE_VM,
					 .parent = 2,
					 .size_pages = 256 * MIB_PAGES,
					 .overhead_pages = 10 * MIB_PAGES};
	for (int i = 0; i < 4; i++)
		mem_alloc_init(&f->nodes[i].alloc);
	f->nodes[1].alloc.reservation_pages = 300 * MIB_PAGES;
	f->nodes[3].alloc.reservation_pages = 90 * MIB_PAGES;
	f->tree = (struct tree){f->nodes, 4};
	f->host = (struct admit_host){1000 * MIB_PAGES, 60 * MIB_PAGES,
				      1000 * MIB_PAGES};
	assert_int_equal(tree_order_new(&f->tree, &f->order, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	tree_order_free(f->order);
	free(f);
	return 0;
}

static int ask(struct fixture *f, uint32_t pool, uint64_t reserve_mib,
	       uint64_t swap_mib, struct admit_result *r, struct err *err)
{
	return admit(&f->tree, f->order, &f->host, pool,
		     reserve_mib * MIB_PAGES, swap_mib * MIB_PAGES, r, err);
}

static void expandable_pools_borrow(void **state)
{
	struct fixture *f = *state;
	struct admit_result r;
	struct err err = {""};

	/* 200 MiB left in gold, 640 on the host; the VM's 100 are charged already. */
	assert_int_equal(ask(f, 2, 840, 0, &r, &err), 0);
	assert_int_equal(r.what, ADMIT_FITS);
	assert_int_equal(ask(f, 2, 841, 0, &r, &err), -ENOSPC);
	assert_int_equal(r.what, ADMIT_HOST_MEMORY);
	assert_int_equal(r.needed_pages, 641 * MIB_PAGES);
	assert_int_equal(r.available_pages, 640 * MIB_PAGES);
	assert_string_equal(
		err.text,
		"insufficient resources: unreserved machine memory of the host: 641 MiB needed, 640 MiB available, 1 MiB short");
}

static void fixed_pools_do_not(void **state)
{
	struct fixture *f = *state;
	struct admit_result r;
	struct err err = {""};

	f->nodes[1].alloc.expandable = false;
	assert_int_equal(ask(f, 2, 200, 0, &r, NULL), 0);
	assert_int_equal(ask(f, 2, 201, 0, &r, &err), -ENOSPC);
	assert_int_equal(r.what, ADMIT_POOL_RESERVATION);
	assert_int_equal(r.node, 1);
	assert_string_equal(
		err.text,
		"insufficient resources: unreserved memory of pool gold: 201 MiB needed, 200 MiB available, 1 MiB short");
	assert_int_equal(ask(f, 0, 640, 0, &r, NULL), 0);
	assert_int_equal(ask(f, 0, 641, 0, &r, NULL), -ENOSPC);
	assert_int_equal(r.node, 0);
}

static void limits_bound_borrowing(void **state)
{
	struct fixture *f = *state;
	struct admit_result r;
	struct err err = {""};

	f->nodes[1].alloc.limit_pages = 350 * MIB_PAGES;
	assert_int_equal(ask(f, 2, 250, 0, &r, NULL), 0);
	assert_int_equal(ask(f, 2, 251, 0, &r, &err), -ENOSPC);
	assert_int_equal(r.what, ADMIT_POOL_LIMIT);
	assert_int_equal(r.node, 1);
	assert_non_null(
		strstr(err.text,
		       "limit of pool gold: 251 MiB needed, 250 MiB available"));
}

static void swap_must_fit(void **state)
{
	struct fixture *f = *state;
	struct admit_result r;
	struct err err = {""};

	assert_int_equal(ask(f, 0, 1, 1000, &r, NULL), 0);
	assert_int_equal(ask(f, 0, 1, 1001, &r, &err), -ENOSPC);
	assert_int_equal(r.what, ADMIT_SWAP);
	assert_non_null(strstr(
		err.text,
		"free swap space of the host: 1001 MiB needed, 1000 MiB available, 1 MiB short"));
}

static void accounts_add_up(void **state)
{
	struct fixture *f = *state;
	struct pool_usage u[4];

	admit_usage(&f->tree, f->order, &f->host, u);
	assert_int_equal(u[3].charged_pages, 100 * MIB_PAGES);
	assert_int_equal(u[2].reservation_used, 100 * MIB_PAGES);
	assert_int_equal(u[1].reservation_used, 100 * MIB_PAGES);
	assert_int_equal(u[1].charged_pages, 300 * MIB_PAGES);
	assert_int_equal(u[0].reservation_used, 300 * MIB_PAGES);
	assert_int_equal(u[0].charged_pages, 300 * MIB_PAGES);
	assert_int_equal(u[0].unreserved_pages, 640 * MIB_PAGES);
	/* reservation + parent.unreserved = reservationUsed + unreserved */
	assert_int_equal(u[1].unreserved_pages, 840 * MIB_PAGES);
	assert_int_equal(u[2].unreserved_pages, 840 * MIB_PAGES);
	f->nodes[1].alloc.expandable = false;
	admit_usage(&f->tree, f->order, &f->host, u);
	assert_int_equal(u[1].unreserved_pages, 200 * MIB_PAGES);
	assert_int_equal(u[2].unreserved_pages, 200 * MIB_PAGES);
}

static void changed_settings_are_checked(void **state)
{
	struct fixture *f = *state;
	struct admit_result r;
	struct err err = {""};

	assert_int_equal(admit_check(&f->tree, f->order, &f->host, &r, NULL), 0);
	f->nodes[1].alloc.reservation_pages = 940 * MIB_PAGES;
	assert_int_equal(admit_check(&f->tree, f->order, &f->host, &r, NULL), 0);
	f->nodes[1].alloc.reservation_pages = 941 * MIB_PAGES;
	assert_int_equal(admit_check(&f->tree, f->order, &f->host, &r, &err),
			 -ENOSPC);
	assert_int_equal(r.what, ADMIT_HOST_MEMORY);
	f->nodes[1].alloc.reservation_pages = 50 * MIB_PAGES;
	f->nodes[1].alloc.expandable = false;
	assert_int_equal(admit_check(&f->tree, f->order, &f->host, &r, &err),
			 -ENOSPC);
	assert_int_equal(r.what, ADMIT_POOL_RESERVATION);
	f->nodes[1].alloc.reservation_pages = 100 * MIB_PAGES;
	f->nodes[1].alloc.limit_pages = 100 * MIB_PAGES;
	assert_int_equal(admit_check(&f->tree, f->order, &f->host, &r, NULL), 0);
	f->nodes[1].alloc.reservation_pages = 50 * MIB_PAGES;
	f->nodes[1].alloc.expandable = true;
	f->nodes[1].alloc.limit_pages = 99 * MIB_PAGES;
	assert_int_equal(admit_check(&f->tree, f->order, &f->host, &r, &err),
			 -ENOSPC);
	assert_int_equal(r.what, ADMIT_POOL_LIMIT);
	f->nodes[3].alloc.reservation_pages = 257 * MIB_PAGES;
	assert_int_equal(admit_check(&f->tree, f->order, &f->host, &r, &err),
			 -EINVAL);
	assert_string_equal(
		err.text,
		"old: reservation 257 MiB is larger than the VM's size 256 MiB");
	f->nodes[1].alloc.reservation_pages = 100 * MIB_PAGES;
	assert_int_equal(admit_check(&f->tree, f->order, &f->host, &r, &err),
			 -EINVAL);
	assert_memory_equal(err.text, "gold: ", 6);
}

static void nobody_may_reserve_what_is_kept_free(void **state)
{
	struct options options;

	(void)state;
	options_init(&options);
	assert_int_equal(admit_margin_pages(1000 * MIB_PAGES, &options),
			 60 * MIB_PAGES);
	assert_int_equal(options_set(&options, "Mem.MemMinFreePct", "10", NULL),
			 0);
	assert_int_equal(admit_margin_pages(1000 * MIB_PAGES, &options),
			 100 * MIB_PAGES);
}

/* admit() says yes exactly if the tree with the newcomer passes admit_check(). */
static void the_two_checks_agree(void **state)
{
	enum {
		N = 20
	};
	struct rng rng = {1};
	int fits = 0;

	(void)state;
	for (int round = 0; round < 5000; round++) {
		const uint32_t n = 1 + (uint32_t)rng_below(&rng, N - 1);
		struct tree_node nodes[N] = {{.name = "host", .kind = TREE_POOL}};
		struct tree tree = {nodes, n};
		const struct admit_host host = {rng_below(&rng, 4000),
						rng_below(&rng, 100), 0};
		struct tree_order *order, *more;
		struct admit_result r, whole;
		uint32_t pool = 0;

		mem_alloc_init(&nodes[0].alloc);
		for (uint32_t i = 1; i < n; i++) {
			nodes[i].name = "n";
			nodes[i].kind = rng_below(&rng, 2) ? TREE_POOL : TREE_VM;
			do
				nodes[i].parent = (uint32_t)rng_below(&rng, i);
			while (nodes[nodes[i].parent].kind != TREE_POOL);
			mem_alloc_init(&nodes[i].alloc);
			nodes[i].alloc.expandable = rng_below(&rng, 2);
			nodes[i].size_pages = 1000;
			nodes[i].alloc.reservation_pages = rng_below(&rng, 200) *
							   rng_below(&rng, 2);
			if (rng_below(&rng, 3) == 0)
				nodes[i].alloc.limit_pages = 200 +
							     rng_below(&rng,
								       800);
			if (nodes[i].kind == TREE_POOL)
				pool = i;
		}
		assert_int_equal(tree_order_new(&tree, &order, NULL), 0);
		if (admit_check(&tree, order, &host, &r, NULL) == 0) {
			const uint64_t need = rng_below(&rng, 500);
			const int a = admit(&tree, order, &host, pool, need, 0,
					    &r, NULL);
			struct pool_usage u[N];

			admit_usage(&tree, order, &host, u);
			assert_int_equal(a == 0,
					 need <= u[pool].unreserved_pages);
			nodes[n] = (struct tree_node){.name = "new",
						      .kind = TREE_VM,
						      .parent = pool,
						      .size_pages = 1000};
			mem_alloc_init(&nodes[n].alloc);
			nodes[n].alloc.reservation_pages = need;
			tree.n_nodes = n + 1;
			assert_int_equal(tree_order_new(&tree, &more, NULL), 0);
			assert_int_equal(admit_check(&tree, more, &host, &whole,
						     NULL),
					 a);
			assert_int_equal(whole.what == ADMIT_FITS, a == 0);
			tree_order_free(more);
			fits += a == 0;
		}
		tree_order_free(order);
	}
	assert_true(fits > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(expandable_pools_borrow, setup,
						teardown),
		cmocka_unit_test_setup_teardown(fixed_pools_do_not, setup,
						teardown),
		cmocka_unit_test_setup_teardown(limits_bound_borrowing, setup,
						teardown),
		cmocka_unit_test_setup_teardown(swap_must_fit, setup, teardown),
		cmocka_unit_test_setup_teardown(accounts_add_up, setup, teardown),
		cmocka_unit_test_setup_teardown(changed_settings_are_checked,
						setup, teardown),
		cmocka_unit_test(nobody_may_reserve_what_is_kept_free),
		cmocka_unit_test(the_two_checks_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
