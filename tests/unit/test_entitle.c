/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entitlement: the paper's example, and equality page for page with a model that gives
 * one page at a time.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <base/arith.h>
#include <base/rng.h>
#include <base/units.h>
#include <policy/entitle.h>

#define MAX_CLAIMS 40

/* One page at a time to whoever would pay most; the slow truth. */
static void model_fill(const struct claim *c, size_t n, uint64_t total,
		       struct idle_tax tax, uint64_t *pages)
{
	uint64_t low = 0, bound[MAX_CLAIMS];

	for (size_t i = 0; i < n; i++)
		low += c[i].min_pages;
	for (size_t i = 0; i < n; i++) {
		pages[i] = low <= total ? c[i].min_pages : 0;
		bound[i] = low <= total ? c[i].max_pages : c[i].min_pages;
	}
	total -= low <= total ? low : 0;
	for (; total > 0; total--) {
		size_t best = n;

		for (size_t i = 0; i < n; i++) {
			if (pages[i] >= bound[i])
				continue;
			if (best == n ||
			    (wide_t)claim_cost(&c[i], pages[i] + 1, tax) *
					    c[best].shares <
				    (wide_t)claim_cost(&c[best],
						       pages[best] + 1, tax) *
					    c[i].shares)
				best = i;
		}
		if (best == n)
			return;
		pages[best]++;
	}
}

static struct claim random_claim(struct rng *rng, uint64_t max)
{
	struct claim c;

	c.shares = rng_below(rng, 4) ? 1 + rng_below(rng, 5) * 10
				     : 1 + rng_below(rng, 1000000);
	c.max_pages = rng_below(rng, max + 1);
	c.min_pages = rng_below(rng, 2) ? 0 : rng_below(rng, c.max_pages + 1);
	c.active_pages = rng_below(rng, 5) ? rng_below(rng, c.max_pages + 1)
					   : rng_below(rng, 2) * max;
	return c;
}

static struct idle_tax random_tax(struct rng *rng)
{
	static const uint32_t rates[] = {0, 1, 37, 50, 75, 99};

	return (struct idle_tax){rates[rng_below(rng, ARRAY_SIZE(rates))],
				 rng_below(rng, 2) == 1};
}

static uint64_t sum_of(const uint64_t *v, size_t n)
{
	uint64_t s = 0;

	for (size_t i = 0; i < n; i++)
		s += v[i];
	return s;
}

/* What the next page costs, of what an active one does, as a fraction. */
struct price {
	uint64_t over;
	uint64_t under;
};

static struct price price_at(uint64_t pages, uint64_t active,
			     struct idle_tax tax)
{
	if (pages < active)
		return (struct price){1, 1};
	if (tax.progressive && pages < 2 * active)
		return (struct price){200, 200 - tax.rate_pct};
	return (struct price){100, 100 - tax.rate_pct};
}

/* The models below take claim_cost() for true; it is what the formula says. */
static void idle_pages_cost_what_the_tax_says(void **state)
{
	static const uint32_t rates[] = {0, 1, 37, 50, 75, 99};
	const struct claim c = {.shares = 1,
				.max_pages = 100,
				.active_pages = 20};

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(rates); i++) {
		const struct idle_tax tax = {rates[i / 2], i % 2 == 1};
		const uint64_t one = claim_cost(&c, 1, tax);

		assert_int_equal(claim_cost(&c, 0, tax), 0);
		for (uint64_t p = 0; p < c.max_pages; p++) {
			const struct price k = price_at(p, c.active_pages, tax);

			assert_int_equal((claim_cost(&c, p + 1, tax) -
					  claim_cost(&c, p, tax)) *
						 k.under,
					 one * k.over);
		}
	}
}

static void the_tax_is_an_option(void **state)
{
	struct options options;
	struct idle_tax tax;

	(void)state;
	options_init(&options);
	tax = idle_tax_from(&options);
	assert_int_equal(tax.rate_pct, 75);
	assert_false(tax.progressive);
	assert_int_equal(options_set(&options, "Mem.IdleTax", "40", NULL), 0);
	assert_int_equal(options_set(&options, "Mem.IdleTaxType", "1", NULL), 0);
	tax = idle_tax_from(&options);
	assert_int_equal(tax.rate_pct, 40);
	assert_true(tax.progressive);
}

static void paper_example(void **state)
{
	struct claim c[2] = {
		{2560, 0, 256 * MIB_PAGES, 40 * MIB_PAGES},
		{2560, 0, 256 * MIB_PAGES, 220 * MIB_PAGES},
	};
	const uint64_t total = 360 * MIB_PAGES;
	uint64_t p[2];

	(void)state;
	assert_int_equal(claims_fill(c, 2, total, (struct idle_tax){0, false}, p),
			 0);
	assert_int_equal(p[0], 180 * MIB_PAGES);
	assert_int_equal(p[1], 180 * MIB_PAGES);
	assert_int_equal(claims_fill(c, 2, total, (struct idle_tax){75, false},
				     p),
			 0);
	assert_int_equal(p[0], 1125 * MIB_PAGES / 10);
	assert_int_equal(p[1], 2475 * MIB_PAGES / 10);
	/* The progressive tax moves the same way, but not as far. */
	assert_int_equal(claims_fill(c, 2, total, (struct idle_tax){75, true}, p),
			 0);
	assert_in_range(p[0], 113 * MIB_PAGES, 125 * MIB_PAGES);
	assert_int_equal(p[0] + p[1], total);
}

static void equals_the_model(void **state)
{
	struct rng rng = {2};

	(void)state;
	for (int round = 0; round < 4000; round++) {
		const size_t n = rng_below(&rng, MAX_CLAIMS + 1);
		const struct idle_tax tax = random_tax(&rng);
		struct claim c[MAX_CLAIMS];
		uint64_t fast[MAX_CLAIMS], slow[MAX_CLAIMS], high = 0;

		for (size_t i = 0; i < n; i++) {
			c[i] = random_claim(&rng, 60);
			high += c[i].max_pages;
		}
		const uint64_t total = rng_below(&rng, high + 20);

		assert_int_equal(claims_fill(c, n, total, tax, fast), 0);
		model_fill(c, n, total, tax, slow);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(fast[i], slow[i]);
		assert_int_equal(sum_of(fast, n), min_u64(total, high));
	}
}

/* At sizes where the model is hopeless: sums, bounds, and no better bid was passed over. */
static void large_hosts_are_exact(void **state)
{
	enum {
		N = 2000
	};
	struct rng rng = {3};
	struct claim *c = calloc(N, sizeof(*c));
	uint64_t *p = calloc(N, sizeof(*p));

	(void)state;
	for (int round = 0; round < 40; round++) {
		const struct idle_tax tax = random_tax(&rng);
		uint64_t low = 0, high = 0, total;
		size_t worst = N, best = N;

		for (size_t i = 0; i < N; i++) {
			c[i] = random_claim(&rng,
					    UINT64_C(1) << (10 + rng_below(&rng,
									   25)));
			low += c[i].min_pages;
			high += c[i].max_pages;
		}
		total = low + rng_below(&rng, high - low + 1);
		assert_int_equal(claims_fill(c, N, total, tax, p), 0);
		assert_int_equal(sum_of(p, N), total);
		for (size_t i = 0; i < N; i++) {
			assert_in_range(p[i], c[i].min_pages, c[i].max_pages);
			if (p[i] > c[i].min_pages &&
			    (worst == N ||
			     (wide_t)claim_cost(&c[i], p[i], tax) *
					     c[worst].shares >
				     (wide_t)claim_cost(&c[worst], p[worst], tax) *
					     c[i].shares))
				worst = i;
			if (p[i] < c[i].max_pages &&
			    (best == N ||
			     (wide_t)claim_cost(&c[i], p[i] + 1, tax) *
					     c[best].shares <
				     (wide_t)claim_cost(&c[best], p[best] + 1,
							tax) *
					     c[i].shares))
				best = i;
		}
		if (worst < N && best < N)
			assert_true(
				(wide_t)claim_cost(&c[worst], p[worst], tax) *
					c[best].shares <=
				(wide_t)claim_cost(&c[best], p[best] + 1, tax) *
					c[worst].shares);
	}
	free(c);
	free(p);
}

static void more_memory_hurts_nobody(void **state)
{
	struct rng rng = {4};

	(void)state;
	for (int round = 0; round < 300; round++) {
		const size_t n = 1 + rng_below(&rng, 12);
		const struct idle_tax tax = random_tax(&rng);
		struct claim c[MAX_CLAIMS];
		uint64_t last[MAX_CLAIMS] = {0}, now[MAX_CLAIMS], high = 0,
			 low = 0;

		for (size_t i = 0; i < n; i++) {
			c[i] = random_claim(&rng, 50);
			high += c[i].max_pages;
			low += c[i].min_pages;
		}
		for (uint64_t total = low; total <= high; total++) {
			assert_int_equal(claims_fill(c, n, total, tax, now), 0);
			for (size_t i = 0; i < n; i++) {
				assert_true(now[i] >= last[i]);
				last[i] = now[i];
			}
		}
	}
}

static void more_shares_never_mean_less(void **state)
{
	struct rng rng = {5};

	(void)state;
	for (int round = 0; round < 2000; round++) {
		const size_t n = 2 + rng_below(&rng, 10);
		const struct idle_tax tax = random_tax(&rng);
		struct claim c[MAX_CLAIMS];
		uint64_t before[MAX_CLAIMS], after[MAX_CLAIMS], high = 0;
		size_t lucky = rng_below(&rng, n);

		for (size_t i = 0; i < n; i++) {
			c[i] = random_claim(&rng, 1000);
			high += c[i].max_pages;
		}
		const uint64_t total = rng_below(&rng, high + 1);

		assert_int_equal(claims_fill(c, n, total, tax, before), 0);
		c[lucky].shares *= 1 + rng_below(&rng, 5);
		assert_int_equal(claims_fill(c, n, total, tax, after), 0);
		assert_true(after[lucky] >= before[lucky]);
	}
}

static void too_little_for_all_reservations(void **state)
{
	struct claim c[2] = {{10, 100, 200, 0}, {30, 100, 200, 0}};
	uint64_t p[2];

	(void)state;
	assert_int_equal(claims_fill(c, 2, 40, (struct idle_tax){0, false}, p),
			 0);
	assert_int_equal(p[0], 10);
	assert_int_equal(p[1], 30);
	assert_int_equal(claims_fill(NULL, 0, 40, (struct idle_tax){0, false}, p),
			 0);
}

/* root { gold(high) { a, b }, silver(normal, limit) { c }, d }, in a clumsy order. */
static void pools_divide_by_level(void **state)
{
	struct tree_node nodes[] = {
		{.name = "host", .kind = TREE_POOL},
		{.name = "a", .kind = TREE_VM, .parent = 3, .size_pages = 1000},
		{.name = "c", .kind = TREE_VM, .parent = 5, .size_pages = 1000},
		{.name = "gold", .kind = TREE_POOL, .parent = 0},
		{.name = "b", .kind = TREE_VM, .parent = 3, .size_pages = 1000},
		{.name = "silver", .kind = TREE_POOL, .parent = 0},
	};
	const struct tree tree = {nodes, ARRAY_SIZE(nodes)};
	const struct idle_tax flat = {0, false};
	uint64_t p[ARRAY_SIZE(nodes)];
	struct tree_order *order;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
		mem_alloc_init(&nodes[i].alloc);
	nodes[3].alloc.level = SHARES_HIGH;
	assert_int_equal(tree_order_new(&tree, &order, NULL), 0);
	assert_int_equal(entitle(&tree, order, 900, flat, p), 0);
	assert_int_equal(p[3], 600);
	assert_int_equal(p[5], 300);
	assert_int_equal(p[1], 300);
	assert_int_equal(p[4], 300);
	nodes[5].alloc.limit_pages = 100;
	assert_int_equal(entitle(&tree, order, 900, flat, p), 0);
	assert_int_equal(p[2], 100);
	assert_int_equal(p[3], 800);
	nodes[5].alloc.limit_pages = ALLOC_UNLIMITED;
	nodes[5].alloc.reservation_pages = 700;
	assert_int_equal(entitle(&tree, order, 900, flat, p), 0);
	assert_int_equal(p[2], 700);
	nodes[2].alloc.limit_pages = 500;
	assert_int_equal(entitle(&tree, order, 900, flat, p), 0);
	assert_int_equal(p[2], 500);
	nodes[4].alloc.reservation_pages = 350;
	assert_int_equal(entitle(&tree, order, 900, flat, p), 0);
	assert_int_equal(p[4], 350);
	assert_int_equal(p[1], 50);
	assert_int_equal(entitle(&tree, order, 100000, flat, p), 0);
	assert_int_equal(p[0], 2500);
	tree_order_free(order);
}

static void random_tree(struct rng *rng, struct tree_node *nodes, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct tree_node *const node = &nodes[i];

		*node = (struct tree_node){.name = "n"};
		mem_alloc_init(&node->alloc);
		node->kind = i == 0 || rng_below(rng, 4) == 0 ? TREE_POOL
							      : TREE_VM;
		do
			node->parent = i ? (uint32_t)rng_below(rng, i) : 0;
		while (i && nodes[node->parent].kind != TREE_POOL);
		if (rng_below(rng, 3) == 0) {
			node->alloc.level = SHARES_CUSTOM;
			node->alloc.shares = 1 +
					     (uint32_t)rng_below(rng, 1000000);
		}
		node->size_pages = 1 + rng_below(rng, 100000);
		node->active_pages = rng_below(rng, 150000);
		if (i && rng_below(rng, 4) == 0)
			node->alloc.reservation_pages = rng_below(
				rng, node->size_pages + 1);
		if (i && rng_below(rng, 4) == 0)
			node->alloc.limit_pages = 1 +
						  node->alloc.reservation_pages +
						  rng_below(rng, 100000);
	}
}

static void random_trees_conserve(void **state)
{
	enum {
		N = 60
	};
	struct rng rng = {6};

	(void)state;
	for (int round = 0; round < 1500; round++) {
		const uint32_t n = 1 + (uint32_t)rng_below(&rng, N);
		const struct idle_tax tax = random_tax(&rng);
		const uint64_t total = rng_below(&rng, 4000000);
		struct tree_node nodes[N];
		const struct tree tree = {nodes, n};
		struct tree_order *order;
		uint64_t p[N], vms = 0;

		random_tree(&rng, nodes, n);
		assert_int_equal(tree_order_new(&tree, &order, NULL), 0);
		assert_int_equal(entitle(&tree, order, total, tax, p), 0);
		assert_true(p[0] <= total);
		for (uint32_t i = 0; i < n; i++) {
			uint64_t kids = 0;
			uint32_t k;

			for (k = order->first_kid[i];
			     k < order->first_kid[i + 1]; k++)
				kids += p[order->kids[k]];
			if (nodes[i].kind == TREE_POOL)
				assert_int_equal(kids, p[i]);
			else
				vms += p[i];
			assert_true(p[i] <= nodes[i].alloc.limit_pages ||
				    i == 0);
			if (nodes[i].kind == TREE_VM)
				assert_true(p[i] <= nodes[i].size_pages);
		}
		assert_int_equal(vms, p[0]);
		tree_order_free(order);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(idle_pages_cost_what_the_tax_says),
		cmocka_unit_test(the_tax_is_an_option),
		cmocka_unit_test(paper_example),
		cmocka_unit_test(equals_the_model),
		cmocka_unit_test(large_hosts_are_exact),
		cmocka_unit_test(more_memory_hurts_nobody),
		cmocka_unit_test(more_shares_never_mean_less),
		cmocka_unit_test(too_little_for_all_reservations),
		cmocka_unit_test(pools_divide_by_level),
		cmocka_unit_test(random_trees_conserve),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
