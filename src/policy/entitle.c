/* SPDX-License-Identifier: Apache-2.0 */
/* Exact min-funding revocation in O(n log n). */
#include <policy/entitle.h>

#include <errno.h>
#include <stdlib.h>

#include <base/arith.h>
#include <base/verify.h>

/*
 * Weights of a page in the cost: active, idle in the lower bracket, idle above it.
 * A flat tax has one bracket, so the lower one is empty.
 */
struct weights {
	uint64_t active;
	uint64_t lower;
	uint64_t upper;
	bool progressive;
};

/* A corner: at level @x the pages grow by @slope more for each unit of the level. */
struct corner {
	double x;
	double slope;
};

/* Who would get the next page: the least cost per share. */
struct bidder {
	uint64_t cost;
	uint64_t shares;
	uint32_t idx;
};

struct fill {
	const struct claim *claims;
	size_t n;
	struct weights weights;
	bool floor_only;
	struct corner *corners;
	struct bidder *heap;
};

struct idle_tax idle_tax_from(const struct options *options)
{
	return (struct idle_tax){
		.rate_pct = options->v[OPT_IDLE_TAX],
		.progressive = options->v[OPT_IDLE_TAX_TYPE] == 1,
	};
}

/* Common denominators make every weight an integer: k = 100 / (100 - rate). */
static struct weights weights_from(struct idle_tax tax)
{
	const uint64_t full = 100 - tax.rate_pct, half = 200 - tax.rate_pct;

	VERIFY(tax.rate_pct < 100);
	if (!tax.progressive)
		return (struct weights){full, 100, 100, false};
	return (struct weights){full * half, 200 * full, 100 * half, true};
}

static uint64_t bracket_end(const struct claim *c, const struct weights *w)
{
	return w->progressive ? 2 * c->active_pages : c->active_pages;
}

static uint64_t cost(const struct claim *c, uint64_t pages,
		     const struct weights *w)
{
	const uint64_t active = min_u64(pages, c->active_pages);
	const uint64_t lower = min_u64(pages, bracket_end(c, w)) - active;

	return active * w->active + lower * w->lower +
	       (pages - active - lower) * w->upper;
}

uint64_t claim_cost(const struct claim *claim, uint64_t pages,
		    struct idle_tax tax)
{
	const struct weights w = weights_from(tax);

	return cost(claim, pages, &w);
}

static uint64_t lowest(const struct fill *f, size_t i)
{
	return f->floor_only ? 0 : f->claims[i].min_pages;
}

static uint64_t highest(const struct fill *f, size_t i)
{
	return f->floor_only ? f->claims[i].min_pages : f->claims[i].max_pages;
}

/* The pages that a claim can hold at level @x, rounded down. */
static uint64_t pages_at(const struct fill *f, size_t i, double x)
{
	const struct claim *const c = &f->claims[i];
	const struct weights *const w = &f->weights;
	const uint64_t end = bracket_end(c, w);
	const double money = x * (double)c->shares;
	const double at_active = (double)c->active_pages * (double)w->active;
	const double at_end = at_active + (double)(end - c->active_pages) *
						  (double)w->lower;
	double pages;

	if (money <= at_active)
		pages = money / (double)w->active;
	else if (money <= at_end)
		pages = (double)c->active_pages +
			(money - at_active) / (double)w->lower;
	else
		pages = (double)end + (money - at_end) / (double)w->upper;
	if (pages >= (double)highest(f, i))
		return highest(f, i);
	return max_u64((uint64_t)pages, lowest(f, i));
}

static int corner_cmp(const void *a, const void *b)
{
	const struct corner *const ca = a, *const cb = b;

	return (ca->x > cb->x) - (ca->x < cb->x);
}

/* The growth between two page counts; empty stretches add nothing. */
static size_t stretch_add(struct fill *f, size_t i, size_t n, uint64_t from,
			  uint64_t to, uint64_t weight)
{
	const struct claim *const c = &f->claims[i];
	const double shares = (double)c->shares;
	const double slope = shares / (double)weight;

	from = max_u64(from, lowest(f, i));
	to = min_u64(to, highest(f, i));
	if (from >= to)
		return n;
	f->corners[n++] = (struct corner){(double)cost(c, from, &f->weights) /
						  shares,
					  slope};
	f->corners[n++] = (struct corner){(double)cost(c, to, &f->weights) /
						  shares,
					  -slope};
	return n;
}

static size_t corners_fill(struct fill *f)
{
	size_t n = 0;

	for (size_t i = 0; i < f->n; i++) {
		const uint64_t active = f->claims[i].active_pages;
		const uint64_t end = bracket_end(&f->claims[i], &f->weights);

		n = stretch_add(f, i, n, 0, active, f->weights.active);
		n = stretch_add(f, i, n, active, end, f->weights.lower);
		n = stretch_add(f, i, n, end, UINT64_MAX, f->weights.upper);
	}
	qsort(f->corners, n, sizeof(f->corners[0]), corner_cmp);
	return n;
}

/* The level at which all claims together hold @extra pages above their lowest. */
static double level_find(const struct fill *f, size_t n_corners, double extra)
{
	double x = 0, slope = 0, held = 0;

	for (size_t i = 0; i < n_corners; i++) {
		const double step = (f->corners[i].x - x) * slope;

		/* Where nothing grows, the sum of slopes may be a little off zero. */
		if (slope > 0 && held + step >= extra)
			return x + (extra - held) / slope;
		held += step;
		x = f->corners[i].x;
		slope += f->corners[i].slope;
	}
	return x;
}

static bool bids_more(const struct bidder *a, const struct bidder *b)
{
	const wide_t left = (wide_t)a->cost * b->shares;
	const wide_t right = (wide_t)b->cost * a->shares;

	return left < right || (left == right && a->idx < b->idx);
}

static void heap_sift(struct bidder *heap, size_t n, size_t i)
{
	const struct bidder moved = heap[i];

	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= n)
			break;
		if (child + 1 < n && bids_more(&heap[child + 1], &heap[child]))
			child++;
		if (!bids_more(&heap[child], &moved))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = moved;
}

static struct bidder bidder_of(const struct fill *f, size_t i, uint64_t pages)
{
	return (struct bidder){
		.cost = cost(&f->claims[i], pages + 1, &f->weights),
		.shares = f->claims[i].shares,
		.idx = (uint32_t)i,
	};
}

/* Give what rounding left over, page by page, to whoever pays most. */
static void remainder_give(struct fill *f, uint64_t left, uint64_t *pages)
{
	struct bidder *const heap = f->heap;
	size_t n = 0;

	for (size_t i = 0; i < f->n; i++) {
		if (pages[i] < highest(f, i))
			heap[n++] = bidder_of(f, i, pages[i]);
	}
	for (size_t i = n / 2; i-- > 0;)
		heap_sift(heap, n, i);
	for (; left > 0 && n > 0; left--) {
		const uint32_t i = heap[0].idx;

		pages[i]++;
		if (pages[i] < highest(f, i))
			heap[0] = bidder_of(f, i, pages[i]);
		else
			heap[0] = heap[--n];
		heap_sift(heap, n, 0);
	}
	VERIFY(left == 0);
}

static uint64_t pages_set(const struct fill *f, double x, uint64_t *pages)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < f->n; i++) {
		pages[i] = pages_at(f, i, x);
		sum += pages[i];
	}
	return sum;
}

/*
 * The level comes from floating point; everything that decides comes from integers.
 * A level a little too low is harmless, for the remainder is given exactly.
 */
static void level_fill(struct fill *f, uint64_t total, uint64_t lowest_sum,
		       uint64_t *pages)
{
	const size_t n = corners_fill(f);
	const double x = (1 - 1e-10) *
			 level_find(f, n, (double)(total - lowest_sum));
	uint64_t sum = pages_set(f, x, pages);

	for (double cut = 1e-8; sum > total && cut < 1; cut *= 4)
		sum = pages_set(f, x * (1 - cut), pages);
	if (sum > total)
		sum = pages_set(f, 0, pages);
	remainder_give(f, total - sum, pages);
}

static int fill_run(struct fill *f, uint64_t total, uint64_t *pages)
{
	uint64_t low = 0, high = 0;

	for (size_t i = 0; i < f->n; i++) {
		const struct claim *const c = &f->claims[i];

		VERIFY(c->shares > 0 && c->shares <= CLAIM_SHARES_MAX);
		VERIFY(c->min_pages <= c->max_pages);
		VERIFY(c->max_pages <= CLAIM_PAGES_MAX &&
		       c->active_pages <= CLAIM_PAGES_MAX);
		low += lowest(f, i);
		high += highest(f, i);
	}
	if (total >= high) {
		for (size_t i = 0; i < f->n; i++)
			pages[i] = highest(f, i);
		return 0;
	}
	if (total < low) {
		f->floor_only = true;
		return fill_run(f, total, pages);
	}
	level_fill(f, total, low, pages);
	return 0;
}

static int fill_alloc(struct fill *f, size_t n)
{
	f->corners = calloc(n ? 6 * n : 1, sizeof(f->corners[0]));
	f->heap = calloc(n ? n : 1, sizeof(f->heap[0]));
	if (f->corners && f->heap)
		return 0;
	free(f->corners);
	free(f->heap);
	return -ENOMEM;
}

static void fill_release(struct fill *f)
{
	free(f->corners);
	free(f->heap);
}

int claims_fill(const struct claim *claims, size_t n, uint64_t total_pages,
		struct idle_tax tax, uint64_t *ret_pages)
{
	struct fill f = {.claims = claims, .n = n, .weights = weights_from(tax)};
	int r = fill_alloc(&f, n);

	if (r < 0)
		return r;
	r = fill_run(&f, total_pages, ret_pages);
	fill_release(&f);
	return r;
}

static struct claim vm_claim(const struct tree_node *node)
{
	const uint64_t max = min_u64(node->size_pages, node->alloc.limit_pages);

	return (struct claim){
		.shares = mem_alloc_vm_shares(&node->alloc, node->size_pages),
		.min_pages = min_u64(node->alloc.reservation_pages, max),
		.max_pages = max,
		.active_pages = min_u64(node->active_pages, max),
	};
}

/* @sum holds the sums over the children. */
static struct claim pool_claim(const struct tree_node *node, struct claim sum)
{
	const uint64_t max = min_u64(sum.max_pages, node->alloc.limit_pages);

	return (struct claim){
		.shares = mem_alloc_pool_shares(&node->alloc),
		.min_pages = min_u64(max, max_u64(sum.min_pages,
						  node->alloc.reservation_pages)),
		.max_pages = max,
		.active_pages = min_u64(sum.active_pages, max),
	};
}

static void claims_collect(const struct tree *tree,
			   const struct tree_order *order, struct claim *claims)
{
	for (uint32_t p = order->n; p-- > 0;) {
		const uint32_t i = order->node[p];
		const struct tree_node *const node = &tree->nodes[i];
		struct claim *sum;

		if (node->kind == TREE_VM)
			claims[i] = vm_claim(node);
		else
			claims[i] = pool_claim(node, claims[i]);
		if (i == TREE_ROOT)
			continue;
		sum = &claims[node->parent];
		sum->min_pages += claims[i].min_pages;
		sum->max_pages += claims[i].max_pages;
		sum->active_pages += claims[i].active_pages;
	}
}

/* Divide a pool's pages among its children; siblings are gathered into @kids. */
static int pool_fill(struct fill *f, const struct tree_order *order,
		     uint32_t pool, const struct claim *claims,
		     struct claim *kids, uint64_t *shares_out, uint64_t *pages)
{
	const uint32_t *const kid = order->kids + order->first_kid[pool];
	const size_t n = order->first_kid[pool + 1] - order->first_kid[pool];
	int r;

	for (size_t k = 0; k < n; k++)
		kids[k] = claims[kid[k]];
	f->claims = kids;
	f->n = n;
	f->floor_only = false;
	r = fill_run(f, pages[pool], shares_out);
	for (size_t k = 0; r == 0 && k < n; k++)
		pages[kid[k]] = shares_out[k];
	return r;
}

int entitle(const struct tree *tree, const struct tree_order *order,
	    uint64_t total_pages, struct idle_tax tax, uint64_t *ret_pages)
{
	const size_t n = tree->n_nodes;
	struct fill f = {.weights = weights_from(tax)};
	struct claim *claims = calloc(2 * n, sizeof(*claims));
	uint64_t *out = calloc(n, sizeof(*out));
	int r = -ENOMEM;

	if (!claims || !out || fill_alloc(&f, n) < 0)
		goto out;
	claims_collect(tree, order, claims);
	ret_pages[TREE_ROOT] = min_u64(total_pages, claims[TREE_ROOT].max_pages);
	r = 0;
	for (uint32_t p = 0; r == 0 && p < order->n; p++) {
		if (tree->nodes[order->node[p]].kind == TREE_POOL)
			r = pool_fill(&f, order, order->node[p], claims,
				      claims + n, out, ret_pages);
	}
	fill_release(&f);
out:
	free(claims);
	free(out);
	return r;
}
