/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much processor time one decision takes, against the number of VMs; fails above 10 ms
 * for 10,000. What others do on the same processor meanwhile does not count.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <base/rng.h>
#include <base/units.h>
#include <policy/plan.h>

#define ROUNDS  21
#define POOLS   150u
#define VMS_MAX 20000u
#define BAR_VMS 10000u
#define BAR_MS  10.0

struct world {
	struct tree_node nodes[POOLS + VMS_MAX];
	struct plan_vm vms[VMS_MAX];
	struct plan_action actions[VMS_MAX];
};

static uint64_t world_fill(struct world *w, uint32_t n, struct rng *rng)
{
	uint64_t charged = 0;

	for (uint32_t i = 0; i < POOLS; i++) {
		w->nodes[i] = (struct tree_node){
			.name = "pool",
			.kind = TREE_POOL,
			.parent = i ? (uint32_t)rng_below(rng, i) : 0};
		mem_alloc_init(&w->nodes[i].alloc);
		/* Some are too small for their VMs. */
		if (i && rng_below(rng, 3) == 0)
			w->nodes[i].alloc.limit_pages = (1 +
							 rng_below(rng, 100)) *
							1024 * MIB_PAGES;
	}
	for (uint32_t i = 0; i < n; i++) {
		struct tree_node *const node = &w->nodes[POOLS + i];
		struct plan_vm *const vm = &w->vms[i];

		*node = (struct tree_node){
			.name = "vm",
			.kind = TREE_VM,
			.parent = (uint32_t)rng_below(rng, POOLS),
			.size_pages = (128 + rng_below(rng, 1024)) * MIB_PAGES};
		mem_alloc_init(&node->alloc);
		node->active_pages = rng_below(rng, node->size_pages);
		if (rng_below(rng, 4) == 0)
			node->alloc.reservation_pages = node->size_pages / 4;
		*vm = (struct plan_vm){
			.node = POOLS + i,
			.private_pages = rng_below(rng, node->size_pages),
			.swap_free_pages = node->size_pages,
			.available_pages = node->size_pages / 2,
			.driver = BALLOON_READY,
			.stats_valid = true};
		charged += vm->private_pages;
	}
	return charged;
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double decide_ms(struct world *w, uint32_t n, uint64_t charged,
			const struct options *options)
{
	const struct tree tree = {w->nodes, POOLS + n};
	const struct plan_host host = {charged + charged / 200, charged / 200,
				       64000, HOST_HIGH, options};
	const double start = now_ms();
	struct plan_summary sum;
	struct tree_order *order;

	if (tree_order_new(&tree, &order, NULL) < 0 ||
	    plan_make(&host, &tree, order, w->vms, n, w->actions, &sum) < 0)
		abort();
	tree_order_free(order);
	return now_ms() - start;
}

static int double_cmp(const void *a, const void *b)
{
	const double *const x = a, *const y = b;

	return (*x > *y) - (*x < *y);
}

int main(void)
{
	static const uint32_t counts[] = {100, 1000, BAR_VMS, VMS_MAX};
	struct world *const w = calloc(1, sizeof(*w));
	struct options options;
	struct rng rng = {1};
	int status = EXIT_SUCCESS;

	if (!w)
		return EXIT_FAILURE;
	options_init(&options);
	puts("VMs      median ms   best   worst");
	for (size_t c = 0; c < ARRAY_SIZE(counts); c++) {
		double ms[ROUNDS];

		for (int i = 0; i < ROUNDS; i++) {
			const uint64_t charged = world_fill(w, counts[c], &rng);

			ms[i] = decide_ms(w, counts[c], charged, &options);
		}
		qsort(ms, ROUNDS, sizeof(ms[0]), double_cmp);
		printf("%-8" PRIu32 " %9.2f %6.2f %7.2f\n", counts[c],
		       ms[ROUNDS / 2], ms[0], ms[ROUNDS - 1]);
		if (counts[c] == BAR_VMS && ms[ROUNDS / 2] > BAR_MS)
			status = EXIT_FAILURE;
	}
	free(w);
	return status;
}
