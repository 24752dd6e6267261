/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mover: one thread that moves pages, a batch at a time, from VM to VM. Reclaiming
 * goes first, sampling and scanning have the rest.
 */
#include <string.h>

#include <base/arith.h>
#include <base/clock.h>
#include <base/verify.h>
#include <host/host_impl.h>

#define ROUND_MS 20
/* Batches that one VM may have in a row. */
#define BATCHES 8
/* A disk that took nothing is tried again after so long: each try stops the VM for a moment. */
#define DISK_REST_MS 250
/* What has not been scanned in that many seconds is not made up for. */
#define CREDIT_S 2.0
/* Filled pages that one VM may have looked at in a row. */
#define FILLED_PAGES 1024
/* Looking at filled pages may take so much of a processor, and so much at once. */
#define FILLED_PCT       25
#define FILLED_CREDIT_NS UINT64_C(500000000)

void gate_lock(struct host *host)
{
	atomic_fetch_add(&host->gate_wanted, 1);
	pthread_mutex_lock(&host->gate);
	atomic_fetch_sub(&host->gate_wanted, 1);
}

void gate_unlock(struct host *host)
{
	pthread_mutex_unlock(&host->gate);
}

/* Between two batches: others may have the gate first. */
static void pause_for_others(struct host *host)
{
	manager_do_chores(host);
	if (!atomic_load(&host->gate_wanted))
		return;
	pthread_mutex_unlock(&host->gate);
	while (atomic_load(&host->gate_wanted))
		nap_ms(1);
	pthread_mutex_lock(&host->gate);
}

/* The VM at a place of the list, if it can be worked on. Under the gate. */
static struct hvm *vm_at(struct host *host, uint32_t i)
{
	struct hvm *vm = NULL;

	pthread_mutex_lock(&host->lock);
	if (i < host->n_vms)
		vm = host->vms[i];
	if (vm && (!vm->mem || vm->state != HOST_VM_RUNNING ||
		   atomic_load(&vm->mem->misbehaved)))
		vm = NULL;
	pthread_mutex_unlock(&host->lock);
	if (vm && monotonic_ms() < vm->mem->slow_until_ms)
		vm = NULL;
	return vm;
}

static void tell_swap_full(struct hvm *vm)
{
	if (vm->swap_was_full)
		return;
	vm->swap_was_full = true;
	host_tell(vm->host, HOST_EVENT_SWAP_FULL, vm->set.name,
		  "the swap file of VM %s is full: %llu pages", vm->set.name,
		  (unsigned long long)swap_slots(vm->mem->swap));
}

/* Pages that the disk does not take stay where they are, and are tried again. */
static void tell_swap_error(struct hvm *vm)
{
	const int error = swap_write_error(vm->mem->swap);

	if (error == vm->swap_error)
		return;
	vm->swap_error = error;
	if (error)
		host_tell(vm->host, HOST_EVENT_SWAP_FAILED, vm->set.name,
			  "the swap file of VM %s cannot be written: %s; its pages stay in memory",
			  vm->set.name, strerror(error));
	else
		host_tell(vm->host, HOST_EVENT_SWAP_FAILED, vm->set.name,
			  "the swap file of VM %s can be written again",
			  vm->set.name);
}

/*
 * A newer order counts the pages of a batch under way as the VM's: what was done of the older one
 * is done of it, too. If it did know some, it is less by at most a batch, until the next one.
 */
static void settle_order(struct hvm *vm, const struct reclaim_order *before,
			 const struct reclaim_order *after)
{
	struct reclaim_order *now = &vm->order;

	now->compress = sub_u64(now->compress,
				before->compress - after->compress);
	now->swap = sub_u64(now->swap, before->swap - after->swap);
	now->evict = sub_u64(now->evict, before->evict - after->evict);
}

static enum reclaim_result one_batch(struct hvm *vm)
{
	struct host *host = vm->host;
	struct reclaim_order before;
	struct reclaim_order order;
	enum reclaim_result result;

	pthread_mutex_lock(&host->lock);
	before = order = vm->order;
	pthread_mutex_unlock(&host->lock);
	result = reclaim_step(host->reclaim, vm->mem, &vm->reclaim, &order);
	pthread_mutex_lock(&host->lock);
	settle_order(vm, &before, &order);
	tell_swap_error(vm);
	if (result == RECLAIM_SWAP_FULL && !vm->swap_error)
		tell_swap_full(vm);
	else if (swap_slots_free(vm->mem->swap) > 0)
		vm->swap_was_full = false;
	pthread_mutex_unlock(&host->lock);
	return result;
}

/* A cache larger than allowed, after a change of options, goes to disk. */
static void shrink_zip(struct hvm *vm)
{
	struct host *host = vm->host;
	uint64_t max;

	pthread_mutex_lock(&host->lock);
	max = vm->set.size_pages * host->options.v[OPT_MEM_ZIP_MAX_PCT] / 100;
	pthread_mutex_unlock(&host->lock);
	if (zip_pages(vm->mem->zip) > max)
		(void)reclaim_evict(host->reclaim, vm->mem, REVOKE_BATCH_PAGES);
}

static bool reclaim_vm(struct host *host, uint32_t i)
{
	bool moved = false;

	for (unsigned n = 0; n < BATCHES; n++) {
		struct hvm *vm = vm_at(host, i);
		enum reclaim_result result;

		if (!vm || monotonic_ms() < vm->reclaim_at_ms)
			break;
		result = one_batch(vm);
		if (result == RECLAIM_SWAP_FULL || result == RECLAIM_FAILED)
			vm->reclaim_at_ms = monotonic_ms() + DISK_REST_MS;
		if (result != RECLAIM_MORE)
			break;
		moved = true;
		pause_for_others(host);
	}
	return moved;
}

/*
 * To watch or to share a small page breaks up the large page around it. While there is
 * memory for all, that would cost more than can be won.
 */
static bool keeps_large(const struct hvm *vm)
{
	/* What runs it is not known before it is up. */
	return (!vm->up && !vm->ran_before) ||
	       (!vm->breaks_large && atomic_load(&vm->mem->counters->large));
}

static void look_after(struct hvm *vm, const struct options *options)
{
	struct host *host = vm->host;
	uint64_t pages;
	bool known;
	bool large;

	pthread_mutex_lock(&host->lock);
	large = keeps_large(vm);
	pthread_mutex_unlock(&host->lock);

	vmmem_drain(vm->mem);
	vmmem_sync(vm->mem);
	shrink_zip(vm);
	if (!large)
		sample_tick(&vm->sample, vm->mem, options);
	known = workset_pages(&vm->sample.ws, vm->set.size_pages,
			      options->v[OPT_SAMPLE_ACTIVE_PCT_MIN], &pages);
	pthread_mutex_lock(&host->lock);
	vm->ws = vm->sample.ws;
	vm->has_active = known;
	if (known)
		vm->active_pages = pages;
	pthread_mutex_unlock(&host->lock);
}

static void scan(struct hvm *vm, double seconds)
{
	struct host *host = vm->host;
	const uint64_t start = thread_ns();
	double rate;
	double most;
	unsigned max_skip;
	bool share;

	pthread_mutex_lock(&host->lock);
	max_skip = host->options.v[OPT_SHARE_SKIP_MAX];
	rate = (double)vm->action.share_rate;
	share = vm->set.share && !vm->mem->group->adopting && !keeps_large(vm);
	pthread_mutex_unlock(&host->lock);
	if (!share || rate <= 0)
		return;
	vm->share_credit += rate * seconds;
	most = rate * CREDIT_S > SHARE_WINDOW ? rate * CREDIT_S : SHARE_WINDOW;
	if (vm->share_credit > most)
		vm->share_credit = most;
	if (vm->share_credit < SHARE_WINDOW)
		return;

	const uint64_t n = share_scan(host->share, vm->mem, &vm->cursor,
				      (uint64_t)vm->share_credit, max_skip);

	vm->share_credit -= (double)n;
	/* A VM with hardly anything at home has been looked at whole. */
	if (!n)
		vm->share_credit = 0;
	atomic_fetch_add(&host->share_scanned, n);
	atomic_fetch_add(&host->share_cpu_ns, thread_ns() - start);
}

/* Pages that a disk has filled. Return: there are more. */
static bool look_at_filled(struct hvm *vm)
{
	struct host *host = vm->host;
	const uint64_t start = thread_ns();
	uint64_t n;
	uint64_t took;
	bool share;

	pthread_mutex_lock(&host->lock);
	share = vm->set.share && !vm->mem->group->adopting;
	pthread_mutex_unlock(&host->lock);
	if (!share || !host->filled_credit_ns)
		return false;
	n = share_filled(host->share, vm->mem, FILLED_PAGES);
	if (!n)
		return false;
	took = thread_ns() - start;
	host->filled_credit_ns -= took < host->filled_credit_ns
					  ? took
					  : host->filled_credit_ns;
	atomic_fetch_add(&host->share_scanned, n);
	atomic_fetch_add(&host->share_cpu_ns, took);
	return link_filled_any(vm->mem->counters);
}

static void earn_credit(struct host *host, double seconds)
{
	host->filled_credit_ns += (uint64_t)(seconds * 1e9 * FILLED_PCT / 100);
	if (host->filled_credit_ns > FILLED_CREDIT_NS)
		host->filled_credit_ns = FILLED_CREDIT_NS;
}

static bool round_of_all(struct host *host, double seconds)
{
	const struct options options = host_options(host);
	bool moved = false;
	struct hvm *vm;
	uint32_t n;

	earn_credit(host, seconds);
	pthread_mutex_lock(&host->lock);
	n = host->n_vms;
	pthread_mutex_unlock(&host->lock);
	for (uint32_t i = 0; i < n && !atomic_load(&host->ending); i++) {
		vm = vm_at(host, i);
		if (!vm)
			continue;
		look_after(vm, &options);
		moved |= look_at_filled(vm);
		moved |= reclaim_vm(host, i);
		/* The gate was open meanwhile: it may be another VM's place now. */
		vm = vm_at(host, i);
		if (vm)
			scan(vm, seconds);
		pause_for_others(host);
	}
	return moved;
}

void *mover_loop(void *arg)
{
	struct host *host = arg;
	uint64_t last = monotonic_ms();

	while (!atomic_load(&host->ending)) {
		const uint64_t now = monotonic_ms();
		bool moved;

		pthread_mutex_lock(&host->gate);
		manager_do_chores(host);
		moved = round_of_all(host, (double)(now - last) / 1000.0);
		pthread_mutex_unlock(&host->gate);
		last = now;
		if (!moved)
			nap_ms(ROUND_MS);
	}
	return NULL;
}
