/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of the simulation: starts, guests, plan, reclaim, checks. */
#include <policy/sim.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <base/arith.h>
#include <base/units.h>
#include <policy/admit.h>

/* Pages that can be compressed per second and GHz, with part of the processors' time. */
#define ZIP_RATE_PER_GHZ (60 * MIB_PAGES)

#define VM_NAME_MAX      (SCENARIO_NAME_MAX + 12)

enum vm_state {
	VM_OFF,
	VM_RUNNING,
	VM_REFUSED,
};

struct vm {
	char name[VM_NAME_MAX];
	uint32_t group;
	uint64_t start_ms;
	enum vm_state state;
	const struct trace_row *demand; /* what a recording last asked for */
	struct guest guest;
};

struct sim {
	const struct scenario *scenario;
	const struct trace *trace;
	struct options options;
	struct vm *vms;
	uint32_t n_vms;
	uint32_t *trace_vm; /* by name in the trace: VM */
	size_t trace_next;
	size_t change_next;
	struct tree_node *nodes; /* host, pools, then running VMs */
	struct tree tree;
	struct tree_order *order;
	uint32_t *running; /* VM of each snapshot */
	struct plan_vm *snapshots;
	struct plan_action *actions;
	uint64_t next_plan_ms;
	uint64_t swap_promised_pages;
	struct sim_host host;
	struct sim_totals totals;
};

static void vms_name(struct sim *sim)
{
	uint32_t i = 0;

	for (size_t g = 0; g < sim->scenario->n_vms; g++) {
		const struct scenario_vm *const spec = &sim->scenario->vms[g];

		for (uint32_t k = 0; k < spec->count; k++, i++) {
			struct vm *const vm = &sim->vms[i];

			vm->group = (uint32_t)g;
			vm->start_ms = spec->start_ms + k * spec->stagger_ms;
			if (spec->count == 1)
				snprintf(vm->name, sizeof(vm->name), "%s",
					 spec->name);
			else
				snprintf(vm->name, sizeof(vm->name),
					 "%s-%" PRIu32, spec->name, k + 1);
		}
	}
}

static int vm_name_cmp(const void *a, const void *b)
{
	const struct vm *const *const va = a, *const *const vb = b;

	return strcmp((*va)->name, (*vb)->name);
}

static struct vm *vm_find(struct vm **sorted, uint32_t n, const char *name)
{
	uint32_t low = 0, high = n;

	while (low < high) {
		const uint32_t middle = low + (high - low) / 2;
		const int c = strcmp(name, sorted[middle]->name);

		if (c == 0)
			return sorted[middle];
		if (c < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

static int trace_bind(struct sim *sim, struct err *err)
{
	const struct trace *const trace = sim->trace;
	struct vm **sorted;
	int r = 0;

	if (!trace)
		return 0;
	sorted = calloc(sim->n_vms, sizeof(*sorted));
	sim->trace_vm = calloc(trace->n_names, sizeof(*sim->trace_vm));
	if (!sorted || !sim->trace_vm) {
		free(sorted);
		return err_set(err, -ENOMEM, "no memory to follow a trace");
	}
	for (uint32_t i = 0; i < sim->n_vms; i++)
		sorted[i] = &sim->vms[i];
	qsort(sorted, sim->n_vms, sizeof(*sorted), vm_name_cmp);
	for (uint32_t i = 0; i < trace->n_names && r == 0; i++) {
		const struct vm *const vm = vm_find(sorted, sim->n_vms,
						    trace->names[i]);

		if (vm &&
		    sim->scenario->vms[vm->group].workload == WORKLOAD_TRACE)
			sim->trace_vm[i] = (uint32_t)(vm - sim->vms);
		else
			r = err_set(
				err, -EINVAL,
				"the trace has a VM %.48s, which the scenario does not have with workload trace",
				trace->names[i]);
	}
	free(sorted);
	return r;
}

static int workloads_check(const struct sim *sim, struct err *err)
{
	for (size_t g = 0; g < sim->scenario->n_vms; g++) {
		if (sim->scenario->vms[g].workload == WORKLOAD_TRACE &&
		    !sim->trace)
			return err_set(
				err, -EINVAL,
				"vm %s: workload trace, but there is no trace",
				sim->scenario->vms[g].name);
	}
	return 0;
}

static struct admit_host admit_host_of(const struct sim *sim)
{
	const uint64_t managed = sim->scenario->managed_pages;

	return (struct admit_host){
		.managed_pages = managed,
		.margin_pages = admit_margin_pages(managed, &sim->options),
		.swap_free_pages = sub_u64(sim->scenario->swap_pages,
					   sim->swap_promised_pages),
	};
}

static int tree_rebuild(struct sim *sim, struct err *err)
{
	struct tree_order *order;
	int r = tree_order_new(&sim->tree, &order, err);

	if (r < 0)
		return r;
	tree_order_free(sim->order);
	sim->order = order;
	return 0;
}

static int pools_add(struct sim *sim, struct err *err)
{
	const struct admit_host host = admit_host_of(sim);
	struct admit_result result;
	int r;

	sim->nodes[0] = (struct tree_node){.name = "host", .kind = TREE_POOL};
	mem_alloc_init(&sim->nodes[0].alloc);
	for (size_t i = 0; i < sim->scenario->n_pools; i++) {
		const struct scenario_pool *const pool = &sim->scenario->pools[i];

		sim->nodes[i + 1] = (struct tree_node){.name = pool->name,
						       .kind = TREE_POOL,
						       .parent = pool->parent,
						       .alloc = pool->alloc};
	}
	sim->tree = (struct tree){sim->nodes,
				  (uint32_t)sim->scenario->n_pools + 1};
	r = tree_rebuild(sim, err);
	if (r == 0)
		r = admit_check(&sim->tree, sim->order, &host, &result, err);
	return r;
}

static int sim_alloc(struct sim *sim, struct err *err)
{
	const size_t n = sim->n_vms;

	sim->vms = calloc(n, sizeof(*sim->vms));
	sim->nodes = calloc(n + sim->scenario->n_pools + 1, sizeof(*sim->nodes));
	sim->running = calloc(n, sizeof(*sim->running));
	sim->snapshots = calloc(n, sizeof(*sim->snapshots));
	sim->actions = calloc(n, sizeof(*sim->actions));
	if (!sim->vms || !sim->nodes || !sim->running || !sim->snapshots ||
	    !sim->actions)
		return err_set(err, -ENOMEM, "no memory to simulate %zu VMs", n);
	return 0;
}

int sim_new(const struct scenario *scenario, const struct trace *trace,
	    struct sim **ret, struct err *err)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	int r;

	if (!sim)
		return err_set(err, -ENOMEM, "no memory for a simulation");
	sim->scenario = scenario;
	sim->trace = trace;
	sim->options = scenario->options;
	for (size_t g = 0; g < scenario->n_vms; g++)
		sim->n_vms += scenario->vms[g].count;
	sim->host.managed_pages = scenario->managed_pages;
	sim->host.free_pages = scenario->managed_pages;
	sim->totals.free_min_pages = scenario->managed_pages;
	r = sim_alloc(sim, err);
	if (r == 0) {
		vms_name(sim);
		r = workloads_check(sim, err);
	}
	if (r == 0)
		r = trace_bind(sim, err);
	if (r == 0)
		r = pools_add(sim, err);
	if (r < 0) {
		sim_free(sim);
		return r;
	}
	*ret = sim;
	return 0;
}

void sim_free(struct sim *sim)
{
	if (!sim)
		return;
	tree_order_free(sim->order);
	free(sim->vms);
	free(sim->trace_vm);
	free(sim->nodes);
	free(sim->running);
	free(sim->snapshots);
	free(sim->actions);
	free(sim);
}

static void demand_follow(struct vm *vm)
{
	vm->guest.trace_active_pages = vm->demand->active_pages;
	vm->guest.trace_footprint_pages = vm->demand->footprint_pages;
}

static void vm_run(struct sim *sim, uint32_t i)
{
	struct vm *const vm = &sim->vms[i];
	const struct scenario_vm *const spec = &sim->scenario->vms[vm->group];

	sim->nodes[sim->tree.n_nodes++] = (struct tree_node){
		.name = vm->name,
		.kind = TREE_VM,
		.parent = spec->pool,
		.alloc = spec->alloc,
		.size_pages = spec->size_pages,
		.overhead_pages = spec->overhead_pages,
		.active_pages = spec->size_pages};
	sim->running[sim->host.running++] = i;
	sim->swap_promised_pages += spec->size_pages -
				    spec->alloc.reservation_pages;
	sim->host.free_pages -= spec->overhead_pages;
	guest_init(&vm->guest, spec, sim->host.time_ms,
		   sim->scenario->seed * 1000003 + i);
	if (vm->demand)
		demand_follow(vm);
	vm->state = VM_RUNNING;
}

static int vm_start(struct sim *sim, uint32_t i, bool *ret_started,
		    struct err *err)
{
	struct vm *const vm = &sim->vms[i];
	const struct scenario_vm *const spec = &sim->scenario->vms[vm->group];
	const struct admit_host host = admit_host_of(sim);
	struct admit_result result;
	struct err refusal = {""};
	int r = admit(&sim->tree, sim->order, &host, spec->pool,
		      spec->alloc.reservation_pages + spec->overhead_pages,
		      spec->size_pages - spec->alloc.reservation_pages, &result,
		      &refusal);

	if (r == -ENOSPC) {
		vm->state = VM_REFUSED;
		if (sim->totals.refused++ == 0) {
			sim->totals.refusal = refusal;
			err_prefix(&sim->totals.refusal, "%s: ", vm->name);
		}
		return 0;
	}
	if (r < 0)
		return err_set(err, r, "%s", refusal.text);
	if (spec->overhead_pages > sim->host.free_pages)
		return 0;
	vm_run(sim, i);
	*ret_started = true;
	return tree_rebuild(sim, err);
}

static int starts_run(struct sim *sim, bool *ret_started, struct err *err)
{
	int r = 0;

	sim->host.waiting = 0;
	for (uint32_t i = 0; i < sim->n_vms && r == 0; i++) {
		if (sim->vms[i].state == VM_OFF &&
		    sim->vms[i].start_ms <= sim->host.time_ms)
			r = vm_start(sim, i, ret_started, err);
		sim->host.waiting += sim->vms[i].state != VM_RUNNING &&
				     sim->vms[i].start_ms <= sim->host.time_ms;
	}
	return r;
}

static void changes_apply(struct sim *sim)
{
	const struct scenario *const s = sim->scenario;

	for (; sim->change_next < s->n_changes &&
	       s->changes[sim->change_next].at_ms <= sim->host.time_ms;
	     sim->change_next++)
		sim->options.v[s->changes[sim->change_next]
				       .id] = s->changes[sim->change_next].value;
}

static void trace_apply(struct sim *sim)
{
	const struct trace *const t = sim->trace;

	for (; t && sim->trace_next < t->n_rows &&
	       t->rows[sim->trace_next].time_ms <= sim->host.time_ms;
	     sim->trace_next++) {
		const struct trace_row *const row = &t->rows[sim->trace_next];
		struct vm *const vm = &sim->vms[sim->trace_vm[row->vm]];

		vm->demand = row;
		if (vm->state == VM_RUNNING)
			demand_follow(vm);
	}
}

static struct guest *guest_at(const struct sim *sim, uint32_t k)
{
	return &sim->vms[sim->running[k]].guest;
}

static void host_count(struct sim *sim)
{
	struct sim_host *const h = &sim->host;
	uint64_t used;

	h->private_pages = h->common_pages = h->zip_store_pages = 0;
	h->overhead_pages = h->shared_pages = h->zero_used_pages = 0;
	h->balloon_pages = h->zip_pages = h->swap_pages = 0;
	h->blocked = 0;
	for (uint32_t k = 0; k < h->running; k++) {
		const struct guest *const g = guest_at(sim, k);
		struct plan_vm s;

		guest_snapshot(g, 0, &s);
		h->private_pages += s.private_pages;
		h->common_pages += s.common_pages;
		h->zip_store_pages += s.zip_store_pages;
		h->overhead_pages += g->spec->overhead_pages;
		h->shared_pages += s.shared_pages;
		h->zero_used_pages += g->zero_used_pages;
		h->balloon_pages += s.balloon_pages;
		h->zip_pages += s.zip_pages;
		h->swap_pages += s.swap_pages;
		h->blocked += g->blocked;
	}
	used = h->private_pages + h->common_pages + h->zip_store_pages +
	       h->overhead_pages;
	h->free_pages = sub_u64(h->managed_pages, used);
}

static int broken(const struct sim *sim, struct err *err, const char *what,
		  const char *who, uint64_t a, uint64_t b)
{
	return err_set(err, -EPROTO,
		       "at %" PRIu64 " ms: %s%s%s: %" PRIu64 " against %" PRIu64
		       " pages",
		       sim->host.time_ms, who, who[0] ? ": " : "", what, a, b);
}

static int accounts_check(const struct sim *sim, struct err *err)
{
	const struct sim_host *const h = &sim->host;
	const uint64_t used = h->private_pages + h->common_pages +
			      h->zip_store_pages + h->overhead_pages;

	for (uint32_t k = 0; k < h->running; k++) {
		const struct vm *const vm = &sim->vms[sim->running[k]];
		const struct guest *const g = &vm->guest;

		if (guest_pages(g) != g->spec->size_pages)
			return broken(sim, err, "pages do not add up", vm->name,
				      guest_pages(g), g->spec->size_pages);
		if (g->hot_out_pages > g->zip_pages + g->swap_pages)
			return broken(sim, err,
				      "more hot pages out than pages out",
				      vm->name, g->hot_out_pages,
				      g->zip_pages + g->swap_pages);
	}
	if (used > h->managed_pages)
		return broken(sim, err, "machine memory is exceeded", "", used,
			      h->managed_pages);
	if (h->swap_pages > sim->scenario->swap_pages)
		return broken(sim, err, "swap space is exceeded", "",
			      h->swap_pages, sim->scenario->swap_pages);
	return 0;
}

static int plan_check(const struct sim *sim, struct err *err)
{
	uint64_t allowances = 0;

	for (uint32_t k = 0; k < sim->host.running; k++) {
		const struct plan_action *const a = &sim->actions[k];
		const struct vm *const vm = &sim->vms[sim->running[k]];
		const uint64_t charge = plan_vm_charge(&sim->snapshots[k]);
		const uint64_t reserved = vm->guest.spec->alloc.reservation_pages;

		allowances += a->allowance_pages;
		if (a->reclaim_pages > 0 && charge - a->reclaim_pages < reserved)
			return broken(sim, err, "taken inside the reservation",
				      vm->name, a->reclaim_pages,
				      sub_u64(charge, reserved));
		if (a->reclaim_pages > 0 && !sim->snapshots[k].distress &&
		    a->balloon_target_pages <
			    sim->snapshots[k].balloon_pages -
				    sim->snapshots[k].sweep_pages)
			return broken(sim, err, "taken and given back at once",
				      vm->name, a->reclaim_pages,
				      a->balloon_target_pages);
	}
	if (allowances > sim->host.free_pages)
		return broken(sim, err, "allowances promise more than is free",
			      "", allowances, sim->host.free_pages);
	return 0;
}

static int plan_run(struct sim *sim, struct err *err)
{
	const uint32_t first = (uint32_t)sim->scenario->n_pools + 1;
	const enum host_state before = sim->host.plan.state;
	struct plan_host host = {
		.managed_pages = sim->host.managed_pages,
		.free_pages = sim->host.free_pages,
		.processor_mhz = sim->scenario->processor_mhz,
		.state = before,
		.options = &sim->options,
	};
	int r;

	for (uint32_t k = 0; k < sim->host.running; k++) {
		struct guest *const g = guest_at(sim, k);

		guest_watch(g, sim->host.time_ms);
		guest_snapshot(g, first + k, &sim->snapshots[k]);
		sim->nodes[first + k].active_pages = guest_active_estimate(
			g, &sim->options);
	}
	r = plan_make(&host, &sim->tree, sim->order, sim->snapshots,
		      sim->host.running, sim->actions, &sim->host.plan);
	if (r < 0)
		return err_set(err, r, "no memory to make a plan");
	r = plan_check(sim, err);
	for (uint32_t k = 0; k < sim->host.running; k++)
		guest_order(guest_at(sim, k), &sim->actions[k]);
	sim->totals.plans++;
	sim->totals.state_changes += sim->host.plan.state != before;
	sim->next_plan_ms = sim->host.time_ms + sim->host.plan.period_ms;
	return r;
}

static void totals_update(struct sim *sim)
{
	const struct sim_host *const h = &sim->host;
	struct sim_totals *const t = &sim->totals;

	t->state_ms[h->plan.state] += sim->scenario->step_ms;
	t->free_min_pages = min_u64(t->free_min_pages, h->free_pages);
	t->balloon_max_pages = max_u64(t->balloon_max_pages, h->balloon_pages);
	t->zip_max_pages = max_u64(t->zip_max_pages, h->zip_pages);
	t->swap_max_pages = max_u64(t->swap_max_pages, h->swap_pages);
	t->saved_max_pages = max_u64(t->saved_max_pages,
				     h->shared_pages - h->common_pages +
					     h->zero_used_pages);
}

/* Return true if a guest has run out of allowance. */
static bool guests_run(struct sim *sim)
{
	const uint64_t dt = sim->scenario->step_ms;
	struct guest_budget budget = {
		.zip_pages = ZIP_RATE_PER_GHZ * sim->scenario->processor_mhz /
			     1000 * dt / 1000,
		.swap_pages = sim->scenario->swap_rate_pages * dt / 1000,
	};
	const uint32_t n = sim->host.running;
	bool asked = false;

	for (uint32_t k = 0; k < n; k++) {
		guest_run(guest_at(sim, k), sim->host.time_ms, dt,
			  &sim->options);
		asked |= guest_at(sim, k)->asked;
	}
	/* Begin with another guest each time, so that nobody is always served last. */
	for (uint32_t k = 0; k < n; k++)
		guest_serve(guest_at(sim,
				     (uint32_t)((k + sim->host.time_ms / dt) %
						n)),
			    dt, &budget);
	return asked;
}

int sim_step(struct sim *sim, struct err *err)
{
	bool plan = false;
	int r;

	changes_apply(sim);
	r = starts_run(sim, &plan, err);
	if (r < 0)
		return r;
	trace_apply(sim);
	if (plan) {
		r = plan_run(sim, err);
		if (r < 0)
			return r;
	}
	plan = guests_run(sim);
	sim->host.time_ms += sim->scenario->step_ms;
	host_count(sim);
	r = accounts_check(sim, err);
	if (r < 0)
		return r;
	if (plan || sim->host.time_ms >= sim->next_plan_ms ||
	    sim->host.free_pages < sim->host.plan.wake_below_pages)
		r = plan_run(sim, err);
	if (r < 0)
		return r;
	totals_update(sim);
	return sim->host.time_ms < sim->scenario->duration_ms;
}

const struct sim_host *sim_host(const struct sim *sim)
{
	return &sim->host;
}

const struct sim_totals *sim_totals(const struct sim *sim)
{
	return &sim->totals;
}

uint32_t sim_vm_count(const struct sim *sim)
{
	return sim->n_vms;
}

const struct guest *sim_vm(const struct sim *sim, uint32_t i,
			   uint32_t *ret_group, const char **ret_name)
{
	const struct vm *const vm = &sim->vms[i];

	*ret_group = vm->group;
	*ret_name = vm->name;
	return vm->state == VM_RUNNING ? &vm->guest : NULL;
}

const struct options *sim_options(const struct sim *sim)
{
	return &sim->options;
}
