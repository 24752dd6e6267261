/* SPDX-License-Identifier: Apache-2.0 */
/* Figures: copies that add up. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <base/arith.h>
#include <base/clock.h>
#include <host/host_impl.h>

static uint64_t take(uint64_t *rest, uint64_t n)
{
	if (n > *rest)
		n = *rest;
	*rest -= n;
	return n;
}

/* Private is what is left, so that pages under way between counters do not get lost. */
static void pages_of(const struct hvm *vm, struct host_vm_figures *f)
{
	uint64_t rest = vm->set.size_pages;
	struct physmap_counts counts;
	uint64_t untouched;

	if (!vm->mem) {
		f->private_pages = take(&rest, vm->assumed_pages);
		f->zero_pages = rest;
		return;
	}
	counts = physmap_counts(vm->mem->map);
	f->zero_pages = take(&rest, counts.pages[PHYSMAP_ZERO]);
	f->shared_pages = take(&rest, counts.pages[PHYSMAP_SHARED]);
	f->ballooned_pages = take(&rest, counts.pages[PHYSMAP_BALLOON]);
	f->compressed_pages = take(&rest, counts.pages[PHYSMAP_ZIPPED]);
	f->swapped_pages = take(&rest, counts.pages[PHYSMAP_SWAPPED]);
	/* Without contents, too, though the VM may write there without asking. */
	untouched = take(&rest, vmmem_untouched_pages(vm->mem));
	f->zero_pages += untouched;
	f->private_pages = rest;
	f->common_pages = vm_common_pages(vm);
	f->zip_pages = zip_pages(vm->mem->zip);
	f->table_pages = vmmem_table_pages(vm->mem);
	f->allowance_pages = physmap_allowance(vm->mem->map) + untouched;
	if (f->allowance_pages > vm->set.size_pages)
		f->allowance_pages = vm->set.size_pages;
}

/* A word of the VM's own, which nobody has checked. */
static uint32_t word_of(const _Atomic uint32_t *word, uint32_t n_words)
{
	const uint32_t w = atomic_load(word);

	return w < n_words ? w : 0;
}

static void counters_of(const struct hvm *vm, struct host_vm_figures *f)
{
	const struct vmmem *m = vm->mem;
	const struct link_counters *c = m->counters;
	const uint64_t stats_ms = atomic_load(&c->balloon_stats_ms);

	f->engine = (enum link_engine)word_of(&c->engine, LINK_ENGINES);
	f->mmu = (enum link_mmu)word_of(&c->mmu, LINK_MMUS);
	f->guest_total_pages = atomic_load(&c->balloon_total);
	f->guest_available_pages = atomic_load(&c->balloon_available);
	f->guest_free_pages = atomic_load(&c->balloon_free);
	f->guest_stats_age_ms = stats_ms ? sub_u64(monotonic_ms(), stats_ms)
					 : UINT64_MAX;
	f->run_ns = atomic_load(&c->run_ns);
	f->stall_zip_ns = atomic_load(&c->stall_ns[LINK_STALL_ZIP]);
	f->stall_swap_ns = atomic_load(&c->stall_ns[LINK_STALL_SWAP]);
	f->stall_host_ns = atomic_load(&c->stall_ns[LINK_STALL_HOST]);
	f->stall_busy_ns = atomic_load(&c->stall_ns[LINK_STALL_BUSY]);
	for (unsigned i = 0; i < LINK_STALLS; i++) {
		f->stall_median_ns[i] = link_stall_quantile(c,
							    (enum link_stall)i,
							    500);
		f->stall_p99_ns[i] = link_stall_quantile(c, (enum link_stall)i,
							 990);
	}
	f->latency_pct = vm->latency_pct;
	f->zip_in = atomic_load(&c->zip_in);
	f->swap_in = atomic_load(&c->swap_in);
	f->unshared = atomic_load(&c->unshares);
	f->reported_free = atomic_load(&c->dropped);
	f->swept = vm->sweep.swept_pages;
	f->zip_out = atomic_load(&m->zip_out);
	f->swap_out = atomic_load(&m->swap_out);
	f->shared_ever = atomic_load(&m->shared_ever);
	f->shared_filled = atomic_load(&m->shared_filled);
	f->zeroed = atomic_load(&m->zeroed);
	f->scanned = atomic_load(&m->scanned);
	f->swap_slots = swap_slots(m->swap);
	f->swap_slots_free = swap_slots_free(m->swap);
}

static double percent(const struct workset *ws, uint32_t average)
{
	return ws->valid ? 100.0 * average / WORKSET_ONE : -1;
}

static void vm_figures(struct host *host, const struct hvm *vm,
		       struct host_vm_figures *f)
{
	*f = (struct host_vm_figures){
		.settings = vm->set,
		.state = vm->state,
		.pid = vm->pid,
		.start_ms = vm->start_ms,
		.overhead_pages = vm->overhead_pages,
		.active_pages = vm->has_active ? vm->active_pages : 0,
		.active_fast_pct = percent(&vm->ws, vm->ws.fast),
		.active_slow_pct = percent(&vm->ws, vm->ws.slow),
		.entitlement_pages = vm->action.target_pages,
		.shares = mem_alloc_vm_shares(&vm->set.alloc, vm->set.size_pages),
		.balloon_driver = vm->balloon.driver,
		.balloon_target_pages = vm->balloon_sent,
		.balloon_max_pages = balloon_max_pages(
			vm->set.size_pages, vm->set.alloc.reservation_pages,
			vm->set.floor_pages, &host->options),
		.guest_stats_age_ms = UINT64_MAX,
		.distress = vm->balloon.distress,
		.blocked = vm->action.blocked,
	};
	pages_of(vm, f);
	if (vm->mem)
		counters_of(vm, f);
	f->granted_pages = f->private_pages + f->shared_pages + f->zero_pages;
	f->consumed_pages = f->private_pages + f->common_pages + f->zip_pages;
	f->overhead_max_pages = max_u64(vm->charge_pages,
					f->overhead_pages + f->table_pages);
	f->swap_target_pages = min_u64(f->swapped_pages + vm->order.swap +
					       vm->order.evict,
				       vm->set.size_pages);
}

static void host_sums(struct host_figures *h, const struct host_vm_figures *f)
{
	h->consumed_pages += f->private_pages;
	h->common_pages += f->common_pages;
	h->zip_pages += f->zip_pages;
	h->table_pages += f->table_pages;
	h->overhead_pages += f->overhead_pages;
	h->promised_pages += f->allowance_pages;
	h->shared_pages += f->shared_pages;
	h->zero_pages += f->zero_pages;
	h->ballooned_pages += f->ballooned_pages;
	h->compressed_pages += f->compressed_pages;
	h->swapped_pages += f->swapped_pages;
	h->size_pages += f->settings.size_pages;
}

static void reservations(struct host *host, struct host_snapshot *s)
{
	struct pool_usage *usage = NULL;
	struct tree_order *order = NULL;
	struct tree_node *nodes = NULL;
	struct admit_host limits = admit_host(host);
	struct err ignored;
	struct tree tree;

	s->host.swap_free_pages = limits.swap_free_pages;
	if (!build_tree(host, &tree, &nodes) &&
	    !tree_order_new(&tree, &order, &ignored))
		usage = calloc(tree.n_nodes, sizeof(*usage));
	if (usage) {
		admit_usage(&tree, order, &limits, usage);
		s->host.reserved_pages = usage[0].reservation_used;
		s->host.unreserved_pages = usage[0].unreserved_pages;
		for (uint32_t i = 0; i < s->n_pools; i++)
			s->pools[i].usage = usage[i];
	}
	free(usage);
	tree_order_free(order);
	free(nodes);
}

static bool is_below(struct host *host, const char *pool, const char *top)
{
	/* Pools do not loop, so this ends; the count is for what is half set. */
	for (uint32_t i = 0; i <= host->n_pools; i++) {
		int at;

		if (!strcmp(pool, top))
			return true;
		at = pool_index(host, pool);
		if (at < 0)
			return !*top;
		pool = host->pools[at].parent;
	}
	return false;
}

static void pool_figures(struct host *host, struct host_snapshot *s, uint32_t i)
{
	struct host_pool_figures *p = &s->pools[i];

	if (i) {
		const struct hpool *pool = &host->pools[i - 1];

		memcpy(p->name, pool->name, sizeof(p->name));
		memcpy(p->parent, pool->parent, sizeof(p->parent));
		p->alloc = pool->alloc;
	} else {
		mem_alloc_init(&p->alloc);
	}
	for (uint32_t v = 0; v < s->n_vms; v++) {
		if (!is_below(host, s->vms[v].settings.pool, p->name))
			continue;
		p->entitlement_pages += s->vms[v].entitlement_pages;
		p->consumed_pages += s->vms[v].consumed_pages;
	}
}

static void host_figures(struct host *host, struct host_snapshot *s)
{
	struct host_figures *h = &s->host;

	h->managed_pages = host->managed_pages;
	h->n_vms = host->n_vms;
	h->n_pools = host->n_pools;
	h->state = host->plan.state;
	h->minfree_pages = host->plan.minfree_pages;
	h->overhead_pages = host->self_pages;
	h->share_scanned = atomic_load(&host->share_scanned);
	h->share_cpu_ns = atomic_load(&host->share_cpu_ns);
	h->plan_ns = host->plan_ns;
	h->uptime_ms = monotonic_ms() - host->start_ms;
	memcpy(h->overcommit, host->overcommit, sizeof(h->overcommit));
	for (uint32_t i = 0; i < s->n_vms; i++)
		host_sums(h, &s->vms[i]);

	const uint64_t used = h->consumed_pages + h->common_pages +
			      h->zip_pages + h->table_pages + h->overhead_pages;

	h->free_pages = sub_u64(h->managed_pages, used);
	h->over_pages = sub_u64(used, h->managed_pages);
	/* Exactly adding up is for people; what is over is said beside it. */
	h->overhead_pages -= h->over_pages < h->overhead_pages
				     ? h->over_pages
				     : h->overhead_pages;
	for (uint32_t i = 0; i < host->n_vms; i++) {
		const struct hvm *vm = host->vms[i];

		/* Each group once, with its first member. */
		if (vm->mem && vm->mem->group->members[0] == vm->mem)
			h->share_book_bytes += group_book_bytes(vm->mem->group);
	}
}

int host_snapshot_take(struct host *host, struct host_snapshot *ret)
{
	struct host_snapshot s = {0};

	pthread_mutex_lock(&host->lock);
	s.n_vms = host->n_vms;
	s.n_pools = host->n_pools + 1;
	s.vms = calloc(s.n_vms + 1, sizeof(*s.vms));
	s.pools = calloc(s.n_pools, sizeof(*s.pools));
	if (s.vms && s.pools) {
		for (uint32_t i = 0; i < s.n_vms; i++)
			vm_figures(host, host->vms[i], &s.vms[i]);
		for (uint32_t i = 0; i < s.n_pools; i++)
			pool_figures(host, &s, i);
		host_figures(host, &s);
		reservations(host, &s);
	}
	pthread_mutex_unlock(&host->lock);
	if (!s.vms || !s.pools) {
		host_snapshot_release(&s);
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

void host_snapshot_release(struct host_snapshot *snapshot)
{
	free(snapshot->vms);
	free(snapshot->pools);
	*snapshot = (struct host_snapshot){0};
}

int64_t host_vm_pages(struct host *host, const char *name, uint64_t first,
		      uint64_t n, struct host_page *ret_pages)
{
	int64_t done = -ENOENT;
	struct hvm *vm;

	pthread_mutex_lock(&host->lock);
	vm = vm_find(host, name);
	if (vm && vm->mem) {
		done = 0;
		for (uint64_t p = first; p < vm->mem->n_pages && n; p++, n--) {
			const uint64_t e = physmap_load(vm->mem->map, ppn(p));
			const bool shared = physmap_stable_state(e) ==
					    PHYSMAP_SHARED;

			ret_pages[done++] = (struct host_page){
				.entry = e,
				.sharers = shared ? group_refs(vm->mem->group,
							       physmap_slot(e))
						  : 0,
			};
		}
	}
	pthread_mutex_unlock(&host->lock);
	return done;
}
