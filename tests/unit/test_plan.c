/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: what must hold for any snapshot, and what must happen in chosen ones. */
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
#include <policy/plan.h>

#define MIB(n) ((uint64_t)(n)*MIB_PAGES)
#define N_MAX  24

struct world {
	struct options options;
	struct plan_host host;
	struct tree_node nodes[N_MAX + 4];
	struct tree tree;
	struct tree_order *order;
	struct plan_vm vms[N_MAX];
	size_t n;
	struct plan_action actions[N_MAX];
	struct plan_summary sum;
};

/* @n VMs of 256 MiB in the root, each with 180 MiB private and a healthy balloon. */
static void world_init(struct world *w, size_t n, uint64_t managed_mib)
{
	uint64_t charged = 0;

	*w = (struct world){.n = n};
	options_init(&w->options);
	w->nodes[0] = (struct tree_node){.name = "host", .kind = TREE_POOL};
	mem_alloc_init(&w->nodes[0].alloc);
	for (size_t i = 0; i < n; i++) {
		w->nodes[i + 1] = (struct tree_node){.name = "vm",
						     .kind = TREE_VM,
						     .size_pages = MIB(256),
						     .active_pages = MIB(100)};
		mem_alloc_init(&w->nodes[i + 1].alloc);
		w->vms[i] = (struct plan_vm){.node = (uint32_t)i + 1,
					     .private_pages = MIB(180),
					     .zero_pages = MIB(76),
					     .available_pages = MIB(120),
					     .swap_free_pages = MIB(256),
					     .driver = BALLOON_READY,
					     .stats_valid = true};
		charged += MIB(180);
	}
	w->tree = (struct tree){w->nodes, (uint32_t)n + 1};
	w->host = (struct plan_host){.managed_pages = MIB(managed_mib),
				     .free_pages = sub_u64(MIB(managed_mib),
							   charged),
				     .processor_mhz = 4000,
				     .state = HOST_HIGH,
				     .options = &w->options};
}

static void decide(struct world *w)
{
	assert_int_equal(tree_order_new(&w->tree, &w->order, NULL), 0);
	assert_int_equal(plan_make(&w->host, &w->tree, w->order, w->vms, w->n,
				   w->actions, &w->sum),
			 0);
	tree_order_free(w->order);
}

static void plenty_means_no_work(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 2, 1024);
	decide(&w);
	assert_int_equal(w.sum.state, HOST_HIGH);
	assert_int_equal(w.sum.deficit_pages, 0);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(w.actions[i].reclaim_pages, 0);
		assert_int_equal(w.actions[i].balloon_target_pages, 0);
		assert_int_equal(w.actions[i].target_pages, MIB(256));
		assert_int_equal(w.actions[i].allowance_pages, MIB(76));
		assert_false(w.actions[i].break_large);
		/* One pass in an hour: 65536 pages in 3600 s. */
		assert_int_equal(w.actions[i].share_rate, 19);
	}
	assert_int_equal(w.sum.period_ms, 15000);
	assert_int_equal(w.sum.wake_below_pages,
			 host_state_enter_pages(HOST_CLEAR, w.sum.minfree_pages));
}

static void paper_targets_at_the_host(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 2, 400);
	w.nodes[1].active_pages = MIB(40);
	w.nodes[2].active_pages = MIB(220);
	/* What reclaiming keeps free is 120 % of 6 %: add it to 360 MiB. */
	w.host.managed_pages = MIB(360) * 1000 / 928;
	w.host.free_pages = host_state_goal_pages(
		minfree_pages(w.host.managed_pages, &w.options));
	decide(&w);
	assert_in_range(w.actions[0].target_pages, MIB(112), MIB(113));
	assert_in_range(w.actions[1].target_pages, MIB(247), MIB(248));
	w.options.v[OPT_IDLE_TAX] = 0;
	decide(&w);
	assert_int_equal(w.actions[0].target_pages, MIB(180));
	assert_int_equal(w.actions[1].target_pages, MIB(180));
}

static void soft_balloons_in_steps(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 2, 375);
	decide(&w);
	assert_int_equal(w.sum.state, HOST_CLEAR);
	assert_int_equal(w.actions[0].reclaim_pages, 0);
	assert_int_equal(w.actions[0].share_rate, 1024);
	w.host.state = HOST_SOFT;
	decide(&w);
	assert_int_equal(w.sum.state, HOST_SOFT);
	assert_true(w.sum.deficit_pages > 0);
	assert_int_equal(w.actions[0].reclaim_pages + w.actions[1].reclaim_pages,
			 w.sum.deficit_pages);
	assert_int_equal(w.actions[0].balloon_target_pages,
			 w.actions[0].reclaim_pages);
	assert_int_equal(w.actions[0].compress_pages + w.actions[0].swap_pages,
			 0);
	assert_int_equal(w.sum.period_ms, 1000);
	assert_int_equal(w.sum.wake_below_pages,
			 host_state_enter_pages(HOST_HARD, w.sum.minfree_pages));
	world_init(&w, 1, 190);
	w.host.state = HOST_SOFT;
	w.host.free_pages = MIB(5);
	w.nodes[1].active_pages = MIB(10);
	w.host.managed_pages = MIB(185);
	decide(&w);
	assert_int_equal(w.sum.state, HOST_SOFT);
	assert_int_equal(w.actions[0].balloon_target_pages,
			 min_u64(MIB(8), w.actions[0].reclaim_pages));
}

/* In soft, those without a usable balloon are paged instead. */
static void no_balloon_no_mercy(void **state)
{
	struct world w;

	(void)state;
	for (int why = 0; why < 4; why++) {
		world_init(&w, 2, 375);
		w.host.state = HOST_SOFT;
		if (why == 0)
			w.vms[0].driver = BALLOON_NONE;
		if (why == 1)
			w.vms[0].driver = BALLOON_STUCK;
		if (why == 2)
			w.vms[0].stats_valid = false;
		if (why == 3)
			w.vms[0].available_pages = MIB(16);
		decide(&w);
		/* All but nothing of one that is stuck, which nobody counts on. */
		assert_int_equal(w.actions[0].balloon_target_pages,
				 why == 1 ? BALLOON_PROBE_PAGES : 0);
		assert_true(w.actions[0].reclaim_pages > 0);
		/* Slots are half a page, so twice as many pages are needed. */
		assert_int_equal(w.actions[0].compress_pages,
				 2 * w.actions[0].reclaim_pages);
		assert_int_equal(w.actions[1].compress_pages, 0);
		assert_true(w.actions[1].balloon_target_pages > 0);
	}
}

static void hard_pages_and_low_blocks(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 2, 366);
	decide(&w);
	assert_int_equal(w.sum.state, HOST_HARD);
	assert_int_equal(w.actions[0].balloon_target_pages, 0);
	assert_true(w.actions[0].compress_pages > 0);
	assert_true(w.actions[0].allowance_pages > 0);
	assert_false(w.actions[0].blocked);
	/* A balloon goes on with its step, which does not spare any paging. */
	const uint64_t paged = w.actions[0].compress_pages +
			       w.actions[0].swap_pages;

	w.vms[0].balloon_target_pages = MIB(3);
	decide(&w);
	assert_int_equal(w.sum.state, HOST_HARD);
	assert_int_equal(w.actions[0].balloon_target_pages, MIB(3));
	assert_int_equal(w.actions[0].compress_pages + w.actions[0].swap_pages,
			 paged);
	world_init(&w, 2, 362);
	w.nodes[2].alloc.reservation_pages = MIB(190);
	decide(&w);
	assert_int_equal(w.sum.state, HOST_LOW);
	assert_int_equal(w.sum.wake_below_pages, 0);
	assert_true(w.actions[0].blocked);
	assert_int_equal(w.actions[0].allowance_pages, 0);
	assert_false(w.actions[1].blocked);
	assert_int_equal(w.actions[1].allowance_pages, MIB(2));
	assert_int_equal(w.actions[1].reclaim_pages, 0);
	/* One that has all it deserves waits as well. */
	w.nodes[2].alloc.reservation_pages = MIB(180);
	decide(&w);
	assert_true(w.actions[1].blocked);
}

/* VMs that take all they may, as they do when they wait for memory, and nothing comes back. */
static void growth_beyond_targets_does_not_lead_to_low(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 2, 385);
	for (int i = 0; i < 100; i++) {
		decide(&w);
		assert_int_not_equal(w.sum.state, HOST_LOW);
		w.host.state = w.sum.state;
		for (size_t v = 0; v < 2; v++) {
			w.vms[v].private_pages += w.actions[v].allowance_pages;
			w.host.free_pages -= w.actions[v].allowance_pages;
		}
	}
	assert_int_equal(w.sum.state, HOST_HARD);
	assert_true(w.vms[0].private_pages > w.actions[0].target_pages);
	/* Not at the edge either, where any page that breaks is one too many. */
	assert_in_range(w.host.free_pages,
			host_state_enter_pages(HOST_LOW, w.sum.minfree_pages) *
				5 / 4,
			host_state_enter_pages(HOST_HARD, w.sum.minfree_pages) -
				1);
	/* What is below is there for those who have a right to it. */
	w.nodes[2].alloc.reservation_pages = MIB(256);
	decide(&w);
	assert_int_equal(w.actions[1].allowance_pages, w.host.free_pages);
}

/* Free memory that another deserves and does not use is lent: nobody waits beside it. */
static void unused_claims_are_lent(void **state)
{
	struct world w;

	(void)state;
	for (int reserved = 0; reserved < 2; reserved++) {
		world_init(&w, 2, 400);
		w.vms[0].private_pages = MIB(220);
		w.vms[0].zero_pages = MIB(36);
		w.vms[1].private_pages = MIB(50);
		w.vms[1].zero_pages = MIB(206);
		w.host.free_pages = MIB(130);
		if (reserved)
			w.nodes[2].alloc.reservation_pages = MIB(250);
		decide(&w);
		assert_int_equal(w.sum.state, HOST_HIGH);
		assert_true(w.actions[0].target_pages < MIB(200));
		assert_in_range(w.actions[0].allowance_pages, MIB(1), MIB(16));
		assert_true(w.actions[1].allowance_pages > MIB(100));
		/* That goes on until reclaiming begins, which takes it back from the one. */
		w.vms[1].private_pages += MIB(116);
		w.vms[1].zero_pages -= MIB(116);
		w.host.free_pages = MIB(14);
		decide(&w);
		assert_true(w.sum.state >= HOST_SOFT);
		assert_true(w.actions[0].reclaim_pages > 0);
		assert_int_equal(w.actions[1].reclaim_pages, 0);
		assert_true(w.actions[1].allowance_pages > MIB(12));
	}
}

/* A limit binds even if all that the VM has is in its cache. */
static void the_cache_itself_is_swapped_last(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 1, 512);
	w.host.free_pages = MIB(400);
	w.vms[0].driver = BALLOON_NONE;
	w.vms[0].private_pages = MIB(1);
	w.vms[0].zip_pages = MIB(40);
	w.vms[0].zip_store_pages = MIB(20);
	w.vms[0].swap_free_pages = MIB(256);
	w.nodes[w.vms[0].node].alloc.limit_pages = MIB(10);
	decide(&w);
	/* And a sixty-fourth, for what is touched next. */
	assert_int_equal(w.actions[0].reclaim_pages, MIB(11) + 64);
	assert_int_equal(w.actions[0].compress_pages + w.actions[0].swap_pages,
			 MIB(1));
	assert_int_equal(w.actions[0].evict_pages, 2 * (MIB(11) + 64 - MIB(1)));
	assert_int_equal(w.actions[0].unmet_pages, 0);
	/* As far as the swap file has room. */
	w.vms[0].swap_free_pages = MIB(3);
	decide(&w);
	assert_int_equal(w.actions[0].evict_pages, MIB(2));
	assert_int_equal(w.actions[0].unmet_pages,
			 w.actions[0].reclaim_pages - MIB(1) - MIB(1));
}

static void compression_is_bounded_and_swap_takes_over(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 1, 183);
	w.host.state = HOST_HARD;
	w.host.free_pages = MIB(3);
	w.vms[0].zip_store_pages = MIB(25);
	w.vms[0].zip_pages = MIB(50);
	w.vms[0].private_pages = MIB(155);
	decide(&w);
	/* 10 % of 256 MiB are 25.6: room for 0.6 MiB of slots, 1.2 MiB of pages. */
	assert_in_range(w.actions[0].compress_pages, MIB(1), MIB(2));
	assert_int_equal(w.actions[0].swap_pages +
				 w.actions[0].compress_pages / 2,
			 w.actions[0].reclaim_pages);
	assert_int_equal(w.sum.unmet_pages, 0);
	w.vms[0].swap_free_pages = 10;
	decide(&w);
	assert_int_equal(w.actions[0].swap_pages, 10);
	assert_true(w.actions[0].unmet_pages > 0);
	assert_int_equal(w.sum.unmet_pages, w.actions[0].unmet_pages);
	w.options.v[OPT_MEM_ZIP_ENABLE] = 0;
	decide(&w);
	assert_int_equal(w.actions[0].compress_pages, 0);
	/* Pages that hardly compress are swapped at once. */
	w.options.v[OPT_MEM_ZIP_ENABLE] = 1;
	w.vms[0].zip_store_pages = MIB(10);
	w.vms[0].zip_pages = MIB(10);
	decide(&w);
	assert_int_equal(w.actions[0].compress_pages, 0);
}

static void balloons_are_given_back(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 2, 1024);
	for (int i = 0; i < 2; i++) {
		w.vms[i].zero_pages = 0;
		w.vms[i].balloon_pages = MIB(76);
		w.vms[i].balloon_target_pages = MIB(76);
	}
	decide(&w);
	assert_int_equal(w.actions[0].balloon_target_pages, 0);
	/* Under pressure only as far as the target reaches, and not for a trifle. */
	world_init(&w, 2, 400);
	w.nodes[1].active_pages = MIB(30);
	w.nodes[2].active_pages = MIB(180);
	w.vms[1].zero_pages = 0;
	w.vms[1].balloon_pages = w.vms[1].balloon_target_pages = MIB(76);
	decide(&w);
	assert_int_equal(w.actions[1].balloon_target_pages,
			 MIB(76) - (w.actions[1].target_pages - MIB(180)));
	w.vms[1].private_pages += w.actions[1].target_pages - MIB(180) - MIB(16);
	w.host.free_pages -= w.actions[1].target_pages - MIB(180) - MIB(16);
	decide(&w);
	assert_int_equal(w.actions[1].balloon_target_pages, MIB(76));
	/* Nothing is given back while everybody above target is paged. */
	world_init(&w, 2, 366);
	w.vms[1].private_pages = MIB(60);
	w.vms[1].balloon_pages = w.vms[1].balloon_target_pages = MIB(76);
	decide(&w);
	assert_int_equal(w.sum.state, HOST_HARD);
	assert_true(w.actions[1].target_pages > MIB(60) + MIB(16));
	assert_int_equal(w.actions[1].balloon_target_pages, MIB(76));
	w.host.state = HOST_SOFT;
	w.host.free_pages = MIB(10);
	decide(&w);
	assert_int_equal(w.sum.state, HOST_SOFT);
	assert_true(w.actions[1].balloon_target_pages < MIB(76));
	/* A running inflation that is no longer wanted stops where it is. */
	world_init(&w, 2, 392);
	w.nodes[1].active_pages = w.nodes[2].active_pages = MIB(180);
	w.vms[0].balloon_target_pages = MIB(50);
	w.vms[0].balloon_pages = MIB(10);
	decide(&w);
	assert_int_equal(w.actions[0].balloon_target_pages, MIB(10));
}

/* The plan is the same as for a balloon that holds what was asked for to stay, and no more. */
static void a_sweep_is_no_balloon(void **state)
{
	struct world with, without;

	(void)state;
	for (uint64_t managed = 361; managed < 1000; managed += 3) {
		world_init(&without, 2, managed);
		without.vms[0].zero_pages -= MIB(20);
		without.vms[0].balloon_pages = MIB(20);
		without.vms[0].balloon_target_pages = MIB(20);
		with = without;
		with.tree.nodes = with.nodes;
		with.vms[0].zero_pages -= MIB(50);
		with.vms[0].balloon_pages += MIB(50);
		with.vms[0].sweep_pages = MIB(50);
		decide(&without);
		decide(&with);
		for (int i = 0; i < 2; i++)
			assert_int_equal(with.actions[i].balloon_target_pages,
					 without.actions[i].balloon_target_pages);
		if (managed == 370)
			assert_true(with.actions[0].balloon_target_pages >
				    MIB(20));
	}
}

/* It is asked for a little as long as nothing is given back, and nobody counts on that. */
static void a_stuck_driver_can_show_that_it_works(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 1, 4096);
	w.nodes[1].alloc.limit_pages = MIB(170);
	w.vms[0].driver = BALLOON_STUCK;
	w.vms[0].balloon_pages = MIB(2);
	decide(&w);
	assert_int_equal(w.actions[0].balloon_target_pages,
			 MIB(2) + BALLOON_PROBE_PAGES);
	assert_int_equal(w.actions[0].compress_pages,
			 2 * w.actions[0].reclaim_pages);
	/* At the limit nothing is taken, nor given back. */
	w.vms[0].balloon_target_pages = MIB(2) + BALLOON_PROBE_PAGES;
	w.vms[0].private_pages = MIB(168);
	decide(&w);
	assert_int_equal(w.actions[0].reclaim_pages, 0);
	assert_int_equal(w.actions[0].balloon_target_pages,
			 MIB(2) + BALLOON_PROBE_PAGES);
	w.vms[0].driver = BALLOON_READY;
	decide(&w);
	assert_int_equal(w.actions[0].balloon_target_pages, MIB(2));
	w.vms[0].driver = BALLOON_STUCK;
	w.vms[0].private_pages = MIB(100);
	decide(&w);
	assert_int_equal(w.actions[0].balloon_target_pages, 0);
}

static void distress_lets_everything_out(void **state)
{
	struct world w;

	(void)state;
	for (unsigned int s = 0; s < HOST_STATES; s++) {
		world_init(&w, 2, 362);
		w.host.state = (enum host_state)s;
		w.vms[0].balloon_pages = w.vms[0].balloon_target_pages = MIB(70);
		w.vms[0].distress = true;
		decide(&w);
		assert_int_equal(w.actions[0].balloon_target_pages, 0);
	}
}

/* A limit binds however much memory is free. */
static void limits_bind_in_high(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 3, 4096);
	w.nodes[1].alloc.limit_pages = MIB(170);
	decide(&w);
	assert_int_equal(w.sum.period_ms, 1000);
	assert_int_equal(w.sum.state, HOST_HIGH);
	assert_int_equal(w.actions[0].reclaim_pages, MIB(10) + MIB(170) / 64);
	assert_int_equal(w.actions[0].balloon_target_pages, MIB(8));
	assert_int_equal(w.actions[0].allowance_pages, 0);
	assert_int_equal(w.actions[0].compress_pages, 0);
	assert_true(w.actions[0].break_large);
	assert_false(w.actions[1].break_large);
	/* A guest that waits gives nothing to a balloon. */
	w.vms[0].waiting = true;
	decide(&w);
	assert_int_equal(w.actions[0].balloon_target_pages, 0);
	assert_true(w.actions[0].compress_pages > MIB(10));
	w.vms[0].waiting = false;
	assert_int_equal(w.actions[1].reclaim_pages, 0);
	/* With a disk that takes nothing it goes on beyond its limit, as others beyond targets. */
	w.vms[0].swap_failed = true;
	w.vms[0].swap_pages = MIB(40);
	w.vms[0].zero_pages = MIB(36);
	decide(&w);
	assert_int_equal(w.actions[0].allowance_pages, MIB(16));
	assert_int_equal(w.actions[0].reclaim_pages, MIB(10) + MIB(170) / 64);
	w.host.free_pages = 0;
	decide(&w);
	assert_int_equal(w.actions[0].allowance_pages, 0);
	/* A pool's limit is taken from its VMs together. */
	world_init(&w, 3, 4096);
	w.nodes[4] = (struct tree_node){.name = "pool", .kind = TREE_POOL};
	mem_alloc_init(&w.nodes[4].alloc);
	w.nodes[4].alloc.limit_pages = MIB(300);
	w.nodes[1].parent = w.nodes[2].parent = 4;
	w.tree.n_nodes = 5;
	decide(&w);
	assert_int_equal(w.actions[0].reclaim_pages + w.actions[1].reclaim_pages,
			 MIB(60) + MIB(300) / 64);
	assert_int_equal(w.actions[2].reclaim_pages, 0);
}

/* @n VMs, those but the last in a pool with this limit. */
static void pool_world(struct world *w, size_t n, uint64_t limit_pages)
{
	world_init(w, n, 4096);
	w->nodes[n + 1] = (struct tree_node){.name = "pool", .kind = TREE_POOL};
	mem_alloc_init(&w->nodes[n + 1].alloc);
	w->nodes[n + 1].alloc.limit_pages = limit_pages;
	for (size_t i = 1; i < n; i++)
		w->nodes[i].parent = (uint32_t)n + 1;
	w->tree.n_nodes = (uint32_t)n + 2;
}

static void set_private(struct world *w, size_t i, uint64_t pages)
{
	w->host.free_pages += w->vms[i].private_pages;
	w->host.free_pages -= pages;
	w->vms[i].private_pages = pages;
	w->vms[i].zero_pages = MIB(256) - pages;
}

/* All VMs of a pool together may take what its limit leaves, and nobody of it stands still. */
static void pool_limits_bound_growth(void **state)
{
	struct world w;

	(void)state;
	pool_world(&w, 3, MIB(400));
	decide(&w);
	assert_int_equal(w.actions[0].reclaim_pages, 0);
	assert_int_equal(w.actions[0].allowance_pages +
				 w.actions[1].allowance_pages,
			 MIB(40));
	assert_int_equal(w.actions[2].allowance_pages, MIB(76));
	/* One has taken more than its part: it makes room for the other. */
	set_private(&w, 0, MIB(240));
	set_private(&w, 1, MIB(160));
	decide(&w);
	assert_int_equal(w.actions[0].allowance_pages, 0);
	assert_int_equal(w.actions[1].allowance_pages, 0);
	assert_int_equal(w.actions[0].reclaim_pages, MIB(400) / 64);
	assert_int_equal(w.actions[1].reclaim_pages, 0);
	assert_true(w.actions[0].balloon_target_pages > 0);
	assert_int_equal(w.actions[0].compress_pages, 0);
	/* At once, if the other waits for it. */
	w.vms[1].waiting = true;
	decide(&w);
	assert_int_equal(w.actions[0].balloon_target_pages, 0);
	assert_true(w.actions[0].compress_pages > 0);
	/* A disk that takes nothing stops neither. */
	w.vms[0].swap_failed = true;
	decide(&w);
	assert_true(w.actions[0].allowance_pages > 0);
	assert_int_equal(w.actions[1].allowance_pages,
			 w.actions[1].target_pages - MIB(160));
	/* What is reserved is not given up for room, and limits of pools around bind as well. */
	pool_world(&w, 3, MIB(420));
	w.nodes[1].alloc.reservation_pages = MIB(210);
	w.nodes[2].alloc.reservation_pages = MIB(210);
	set_private(&w, 0, MIB(210));
	set_private(&w, 1, MIB(210));
	decide(&w);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(w.actions[i].reclaim_pages, 0);
		assert_int_equal(w.actions[i].allowance_pages, 0);
		assert_int_equal(w.actions[i].target_pages, MIB(210));
	}
	w.nodes[5] = w.nodes[4];
	w.nodes[5].alloc.limit_pages = MIB(610);
	w.nodes[4].parent = w.nodes[3].parent = 5;
	w.nodes[4].alloc.limit_pages = MIB(440);
	w.tree.n_nodes = 6;
	decide(&w);
	assert_int_equal(w.actions[0].allowance_pages +
				 w.actions[1].allowance_pages +
				 w.actions[2].allowance_pages,
			 MIB(10));
}

static void random_vm(struct rng *rng, struct world *w, size_t i)
{
	struct tree_node *const node = &w->nodes[i + 1];
	struct plan_vm *const vm = &w->vms[i];
	uint64_t left = node->size_pages = 1 + rng_below(rng, 4 * MIB_PAGES);

	vm->swap_failed = rng_below(rng, 2);
	vm->waiting = !rng_below(rng, 4);
	vm->private_pages = rng_below(rng, left + 1);
	left -= vm->private_pages;
	vm->shared_pages = rng_below(rng, left + 1);
	left -= vm->shared_pages;
	vm->balloon_pages = rng_below(rng, left + 1);
	left -= vm->balloon_pages;
	vm->zip_pages = rng_below(rng, left + 1);
	left -= vm->zip_pages;
	vm->swap_pages = rng_below(rng, left + 1);
	vm->zero_pages = left - vm->swap_pages;
	vm->common_pages = rng_below(rng, vm->shared_pages + 1);
	vm->zip_store_pages = rng_below(rng, vm->zip_pages + 1);
	vm->balloon_target_pages = rng_below(rng, node->size_pages);
	vm->balloon_floor_pages = rng_below(rng, 2) *
				  rng_below(rng, node->size_pages);
	vm->available_pages = rng_below(rng, node->size_pages);
	vm->swap_free_pages = rng_below(rng, 2) *
			      rng_below(rng, node->size_pages);
	vm->driver = (enum balloon_driver)rng_below(rng, 3);
	vm->stats_valid = rng_below(rng, 4) != 0;
	vm->distress = rng_below(rng, 8) == 0;
	node->active_pages = rng_below(rng, node->size_pages + 1);
	if (rng_below(rng, 3) == 0)
		node->alloc.reservation_pages = rng_below(rng, node->size_pages);
	if (rng_below(rng, 4) == 0)
		node->alloc.limit_pages = 1 + node->alloc.reservation_pages +
					  rng_below(rng, node->size_pages);
}

static void random_world(struct rng *rng, struct world *w)
{
	const size_t pools = rng_below(rng, 4);
	const bool disk_fails = !rng_below(rng, 3);
	uint64_t charged = 0;

	world_init(w, rng_below(rng, N_MAX + 1), 1);
	for (size_t i = 0; i < w->n; i++) {
		random_vm(rng, w, i);
		w->vms[i].swap_failed &= disk_fails;
		charged += plan_vm_charge(&w->vms[i]);
	}
	for (size_t p = 0; p < pools; p++) {
		struct tree_node *const node = &w->nodes[w->n + 1 + p];

		*node = (struct tree_node){.name = "pool",
					   .kind = TREE_POOL,
					   .parent = p && rng_below(rng, 2)
							     ? (uint32_t)(w->n +
									  p)
							     : 0};
		mem_alloc_init(&node->alloc);
		if (rng_below(rng, 2))
			node->alloc.limit_pages = rng_below(rng, charged + 2);
	}
	w->tree.n_nodes = (uint32_t)(w->n + 1 + pools);
	for (size_t i = 0; pools && i < w->n; i++)
		w->nodes[i + 1].parent = rng_below(rng, 2)
						 ? 0
						 : (uint32_t)(w->n + 1 +
							      rng_below(rng,
									pools));
	w->host.free_pages = rng_below(rng, 2) ? rng_below(rng, charged / 8 + 10)
					       : rng_below(rng, charged + 10);
	w->host.managed_pages = charged + w->host.free_pages +
				rng_below(rng, 100);
	w->host.state = (enum host_state)rng_below(rng, HOST_STATES);
	w->host.processor_mhz = rng_below(rng, 10000);
	w->options.v[OPT_IDLE_TAX] = (uint32_t)rng_below(rng, 100);
	w->options.v[OPT_IDLE_TAX_TYPE] = (uint32_t)rng_below(rng, 2);
	w->options.v[OPT_CTL_MAX_PERCENT] = (uint32_t)rng_below(rng, 100);
}

static void vm_invariants(const struct world *w, size_t i)
{
	const struct plan_vm *const vm = &w->vms[i];
	const struct plan_action *const a = &w->actions[i];
	const struct tree_node *const node = &w->nodes[vm->node];
	const uint64_t charge = plan_vm_charge(vm);
	const uint64_t max = min_u64(node->size_pages, node->alloc.limit_pages);
	const uint64_t room = max < node->size_pages
				      ? min_u64(max / 2, max_u64(max / 64, 64))
				      : 0;
	const uint64_t min = min_u64(node->alloc.reservation_pages, max - room);

	assert_true(a->target_pages <= max - room);
	if (a->reclaim_pages > 0) {
		assert_true(charge - a->reclaim_pages >=
			    max_u64(a->target_pages, min));
		assert_true(vm->distress ||
			    a->balloon_target_pages >= vm->balloon_pages);
	} else {
		assert_true(a->balloon_target_pages <=
			    vm->balloon_pages + (vm->driver == BALLOON_STUCK
							 ? BALLOON_PROBE_PAGES
							 : 0));
		assert_int_equal(a->compress_pages + a->swap_pages, 0);
	}
	if (!vm->stats_valid || vm->distress || vm->driver == BALLOON_NONE)
		assert_true(a->balloon_target_pages <= vm->balloon_pages);
	if (vm->driver == BALLOON_STUCK)
		assert_true(a->balloon_target_pages <=
			    vm->balloon_pages + BALLOON_PROBE_PAGES);
	if (vm->distress)
		assert_int_equal(a->balloon_target_pages, 0);
	assert_true(a->balloon_target_pages <=
		    max_u64(vm->balloon_pages,
			    balloon_max_pages(node->size_pages,
					      node->alloc.reservation_pages,
					      vm->balloon_floor_pages,
					      &w->options)));
	assert_true(a->balloon_target_pages <=
		    vm->balloon_pages + balloon_step_pages(node->size_pages));
	assert_true(a->compress_pages + a->swap_pages <= vm->private_pages);
	assert_true(a->swap_pages + a->evict_pages <= vm->swap_free_pages);
	assert_true(a->evict_pages <= vm->zip_pages);
	assert_true(!a->evict_pages ||
		    a->compress_pages + a->swap_pages == vm->private_pages ||
		    a->swap_pages == vm->swap_free_pages);
	assert_true(a->unmet_pages <= a->reclaim_pages);
	assert_true(charge + a->allowance_pages <=
			    (vm->swap_failed ? node->size_pages : max) ||
		    a->allowance_pages == 0);
	assert_true(!a->blocked ||
		    (a->allowance_pages == 0 && w->sum.state == HOST_LOW));
	assert_true(a->share_rate <= w->options.v[OPT_SHARE_RATE_MAX]);
}

static bool is_below(const struct world *w, uint32_t node, uint32_t pool)
{
	while (node && node != pool)
		node = w->nodes[node].parent;
	return node == pool;
}

/* A pool's VMs stay within its limit together, unless what is above cannot be taken. */
static void pool_invariants(const struct world *w, uint32_t pool)
{
	const uint64_t limit = w->nodes[pool].alloc.limit_pages;
	uint64_t charges = 0, may_have = 0;
	bool failed = false;

	for (size_t i = 0; i < w->n; i++) {
		if (!is_below(w, w->vms[i].node, pool))
			continue;
		charges += plan_vm_charge(&w->vms[i]);
		may_have += w->actions[i].allowance_pages;
		failed |= w->vms[i].swap_failed;
	}
	may_have += charges;
	assert_true(failed || may_have <= max_u64(limit, charges));
}

static void any_snapshot_keeps_the_rules(void **state)
{
	struct rng rng = {11};
	struct world w;

	(void)state;
	for (int round = 0; round < 30000; round++) {
		uint64_t allowances = 0, reclaims = 0, rates = 0, musts = 0;

		random_world(&rng, &w);
		decide(&w);
		for (size_t i = 0; i < w.n; i++) {
			vm_invariants(&w, i);
			allowances += w.actions[i].allowance_pages;
			reclaims += w.actions[i].reclaim_pages;
			rates += w.actions[i].share_rate;
			musts += w.actions[i].unmet_pages;
		}
		for (uint32_t i = (uint32_t)w.n + 1; i < w.tree.n_nodes; i++)
			pool_invariants(&w, i);
		assert_true(allowances <= w.host.free_pages);
		assert_true(rates <= w.host.processor_mhz * 4 * MIB_PAGES / 1000);
		assert_true(w.sum.deficit_pages <= reclaims + w.sum.unmet_pages);
		assert_true(w.sum.unmet_pages >= musts);
		if (w.sum.state <= HOST_CLEAR)
			assert_int_equal(w.sum.deficit_pages, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plenty_means_no_work),
		cmocka_unit_test(paper_targets_at_the_host),
		cmocka_unit_test(soft_balloons_in_steps),
		cmocka_unit_test(no_balloon_no_mercy),
		cmocka_unit_test(hard_pages_and_low_blocks),
		cmocka_unit_test(unused_claims_are_lent),
		cmocka_unit_test(growth_beyond_targets_does_not_lead_to_low),
		cmocka_unit_test(the_cache_itself_is_swapped_last),
		cmocka_unit_test(compression_is_bounded_and_swap_takes_over),
		cmocka_unit_test(balloons_are_given_back),
		cmocka_unit_test(a_sweep_is_no_balloon),
		cmocka_unit_test(a_stuck_driver_can_show_that_it_works),
		cmocka_unit_test(distress_lets_everything_out),
		cmocka_unit_test(limits_bind_in_high),
		cmocka_unit_test(pool_limits_bound_growth),
		cmocka_unit_test(any_snapshot_keeps_the_rules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
