/* SPDX-License-Identifier: Apache-2.0 */
/* From figures to a plan, and the plan into force. */
#include <errno.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include <base/arith.h>
#include <base/clock.h>
#include <base/verify.h>
#include <host/host_impl.h>

static uint32_t pool_node(struct host *host, const char *name)
{
	const int at = pool_index(host, name);

	/* The pool of a VM that was found may not be known yet. */
	return at == -ENOENT ? TREE_ROOT : (uint32_t)(at + 1);
}

static struct tree_node vm_node(struct host *host, const struct hvm *vm)
{
	const uint64_t reserve = vm_overhead_reserve(host, vm->set.size_pages);

	return (struct tree_node){
		.name = vm->set.name,
		.kind = TREE_VM,
		.parent = pool_node(host, vm->set.pool),
		.alloc = vm->set.alloc,
		.size_pages = vm->set.size_pages,
		.overhead_pages = vm->overhead_pages > reserve
					  ? vm->overhead_pages
					  : reserve,
		.active_pages = vm->has_active ? vm->active_pages
					       : vm->set.size_pages,
	};
}

int build_tree(struct host *host, struct tree *ret, struct tree_node **ret_nodes)
{
	const uint32_t n = 1 + host->n_pools + host->n_vms;
	struct tree_node *nodes = calloc(n, sizeof(*nodes));

	if (!nodes)
		return -ENOMEM;
	nodes[0] = (struct tree_node){.name = "the host", .kind = TREE_POOL};
	mem_alloc_init(&nodes[0].alloc);
	for (uint32_t i = 0; i < host->n_pools; i++)
		nodes[1 + i] = (struct tree_node){
			.name = host->pools[i].name,
			.kind = TREE_POOL,
			.parent = pool_node(host, host->pools[i].parent),
			.alloc = host->pools[i].alloc,
		};
	for (uint32_t i = 0; i < host->n_vms; i++)
		nodes[1 + host->n_pools + i] = vm_node(host, host->vms[i]);
	*ret = (struct tree){.nodes = nodes, .n_nodes = n};
	*ret_nodes = nodes;
	return 0;
}

struct admit_host admit_host(struct host *host)
{
	struct statvfs fs;
	uint64_t disk_pages = 0;

	if (!fstatvfs(host->dir_fd, &fs))
		disk_pages = (uint64_t)fs.f_bavail * fs.f_frsize / PAGE_SIZE;
	return (struct admit_host){
		.managed_pages = host->managed_pages,
		.margin_pages = admit_margin_pages(host->managed_pages,
						   &host->options),
		.swap_free_pages = disk_pages,
	};
}

/* Members' parts are rounded so that they add up: each ends where the next one begins. */
uint64_t vm_common_pages(const struct hvm *vm)
{
	const struct group *g = vm->mem->group;
	const uint64_t frames = atomic_load(&g->n_frames_used);
	uint64_t before = 0;
	uint64_t mine = 0;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < g->n_members; i++) {
		const struct vmmem *m = g->members[i];
		/* One more, so that frames on their way out belong to somebody. */
		const uint64_t n = 1 + min_u64(physmap_counts(m->map)
						       .pages[PHYSMAP_SHARED],
					       m->n_pages);

		if (m == vm->mem) {
			before = sum;
			mine = n;
		}
		sum += n;
	}
	VERIFY(sum); /* the VM is one of them */
	return (before + mine) * frames / sum - before * frames / sum;
}

static struct plan_vm plan_vm_of(struct host *host, struct hvm *vm,
				 uint32_t node)
{
	struct plan_vm p = {
		.node = node,
		.balloon_target_pages = hvm_balloon_base(vm),
		.balloon_floor_pages = vm->set.floor_pages,
		.driver = vm->balloon.driver,
		.stats_valid = vm->balloon.stats_valid,
		.distress = vm->balloon.distress,
		.waiting = vm->mem && atomic_load(&vm->mem->counters->want) &&
			   !physmap_allowance(vm->mem->map),
	};
	const uint64_t size = vm->set.size_pages;
	struct physmap_counts counts;
	uint64_t untouched;

	(void)host;
	if (!vm->mem)
		return p;
	untouched = vmmem_untouched_pages(vm->mem);
	counts = physmap_counts(vm->mem->map);
	/* Counters are the VM's: whatever they say, they stay within its size. */
	p.shared_pages = min_u64(counts.pages[PHYSMAP_SHARED], size);
	p.zip_pages = min_u64(counts.pages[PHYSMAP_ZIPPED], size);
	p.swap_pages = min_u64(counts.pages[PHYSMAP_SWAPPED], size);
	p.balloon_pages = min_u64(counts.pages[PHYSMAP_BALLOON], size);
	if (vm->sweep.phase != SWEEP_REST)
		p.sweep_pages = sub_u64(p.balloon_pages, p.balloon_target_pages);
	p.private_pages = min_u64(sub_u64(counts.pages[PHYSMAP_HOME], untouched) +
					  counts.pages[PHYSMAP_BUSY],
				  size);
	p.zero_pages = min_u64(counts.pages[PHYSMAP_ZERO] + untouched, size);
	p.common_pages = vm_common_pages(vm);
	p.zip_store_pages = zip_pages(vm->mem->zip);
	p.swap_free_pages = swap_slots_free(vm->mem->swap);
	p.swap_failed = vm->swap_error != 0;
	p.available_pages = atomic_load(&vm->mem->counters->balloon_available);
	return p;
}

static void order_set(struct host *host, struct hvm *vm, const struct plan_vm *p)
{
	const uint32_t *v = host->options.v;
	const struct plan_action *a = &vm->action;
	const uint64_t alloc = plan_vm_charge(p);
	uint64_t zip_max = min_u64(vm->set.size_pages * v[OPT_MEM_ZIP_MAX_PCT] /
					   100,
				   alloc * v[OPT_MEM_ZIP_MAX_ALLOC_PCT] / 100);

	if (!v[OPT_MEM_ZIP_ENABLE])
		zip_max = 0;
	vm->order = (struct reclaim_order){
		.compress = a->compress_pages,
		.swap = a->swap_pages,
		.evict = a->evict_pages,
		.zip_max_pages = zip_max,
		.hurry = host->plan.state >= HOST_HARD ||
			 atomic_load(&vm->mem->counters->want),
	};
}

/* What a VM may take yet, of which it has some already: pages that it has not touched. */
static uint64_t allowance_of(const struct hvm *vm)
{
	return sub_u64(vm->action.allowance_pages,
		       vmmem_untouched_pages(vm->mem));
}

/* Memory that is free, or that can be withdrawn at once. */
static uint64_t idle_pages(struct host *host)
{
	uint64_t sum = ledger_free_pages(&host->ledger);

	for (uint32_t i = 0; i < host->n_vms; i++) {
		const struct vmmem *mem = host->vms[i]->mem;

		if (mem)
			sum += min_u64(physmap_allowance(mem->map),
				       mem->n_pages);
	}
	return sub_u64(sum, ledger_over_pages(&host->ledger));
}

/*
 * Large pages go when memory becomes scarce, and what VMs have without using it does so
 * already when others might want it.
 */
static void large_set(struct host *host, struct hvm *vm)
{
	const bool scarce = host_state_break_large(idle_pages(host),
						   host->plan.minfree_pages);

	vm->breaks_large = vm->action.break_large ||
			   !host->options.v[OPT_ALLOC_GUEST_LARGE_PAGE] ||
			   ((scarce || atomic_load(&vm->mem->counters->want)) &&
			    vmmem_untouched_pages(vm->mem));
	atomic_store(&vm->mem->counters->break_large, vm->breaks_large);
}

/* First all that is taken back, then what is granted out of it. */
static void put_in_force(struct host *host, const struct plan_vm *p,
			 const struct plan_action *actions)
{
	for (uint32_t i = 0; i < host->n_vms; i++) {
		struct hvm *vm = host->vms[i];

		vm->action = actions[i];
		if (!vm->mem || vm->state != HOST_VM_RUNNING)
			continue;
		large_set(host, vm);
		vmmem_withdraw(vm->mem, allowance_of(vm));
		order_set(host, vm, &p[i]);
		hvm_balloon_send(vm);
	}
	for (uint32_t i = 0; i < host->n_vms; i++) {
		struct hvm *vm = host->vms[i];

		if (!vm->mem || vm->state == HOST_VM_STARTING)
			continue;
		if (vm->state == HOST_VM_RUNNING)
			vmmem_allow(vm->mem, allowance_of(vm));
		/* Nor does one that is to end wait any longer. */
		atomic_store(&vm->mem->counters->decided, 1);
	}
}

/* Pages that VMs may take without asking. Under @lock. */
static uint64_t host_promised(struct host *host)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < host->n_vms; i++) {
		struct vmmem *mem = host->vms[i]->mem;

		if (mem)
			sum += min_u64(physmap_allowance(mem->map) +
					       vmmem_untouched_pages(mem),
				       vmmem_committed(mem));
	}
	return sum;
}

/* Where VMs that were found have more than there is, what they may take pays that first. */
uint64_t host_free_pages(struct host *host)
{
	return sub_u64(ledger_free_pages(&host->ledger) + host_promised(host),
		       ledger_over_pages(&host->ledger) + LEDGER_RESERVE +
			       host->starting_pages);
}

static int decide_with(struct host *host, const struct tree *tree,
		       struct plan_vm *p, struct plan_action *actions)
{
	const struct plan_host h = {
		.managed_pages = host->managed_pages,
		.free_pages = host_free_pages(host),
		.processor_mhz = host->processor_mhz,
		.state = host->plan.state,
		.options = &host->options,
	};
	struct tree_order *order = NULL;
	struct plan_summary summary;
	struct err ignored;
	int r = tree_order_new(tree, &order, &ignored);

	for (uint32_t i = 0; i < host->n_vms; i++)
		p[i] = plan_vm_of(host, host->vms[i], 1 + host->n_pools + i);
	if (!r)
		r = plan_make(&h, tree, order, p, host->n_vms, actions,
			      &summary);
	tree_order_free(order);
	if (r)
		return r;
	if (summary.state != host->plan.state)
		host_tell(host, HOST_EVENT_STATE, NULL,
			  "memory state is %s now, %llu MiB are free",
			  host_state_name(summary.state),
			  (unsigned long long)h.free_pages >> 8);
	host->plan = summary;
	put_in_force(host, p, actions);
	return 0;
}

/* A VM that has not greeted can be given nothing, nor can anything be taken from it. */
static void leave_out(struct host *host, struct tree_node *vms)
{
	for (uint32_t i = 0; i < host->n_vms; i++) {
		if (host->vms[i]->mem)
			continue;
		vms[i].alloc.reservation_pages = 0;
		vms[i].alloc.limit_pages = 0;
	}
}

void decide(struct host *host)
{
	const uint64_t start = thread_ns();
	struct plan_vm *p = calloc(host->n_vms + 1, sizeof(*p));
	struct plan_action *actions = calloc(host->n_vms + 1, sizeof(*actions));
	struct tree_node *nodes = NULL;
	struct tree tree;

	/* Without memory for a plan the last one stays in force a little longer. */
	if (p && actions && !build_tree(host, &tree, &nodes)) {
		leave_out(host, nodes + 1 + host->n_pools);
		if (decide_with(host, &tree, p, actions))
			host_tell(host, HOST_EVENT_ERROR, NULL,
				  "no memory for a decision");
	}
	free(nodes);
	free(actions);
	free(p);
	host->plan_ns = thread_ns() - start;
}
