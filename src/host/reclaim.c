/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking pages from a VM by compressing and swapping them.
 *
 * Victims are random clusters of neighbouring pages, so that the guest's own replacement
 * cannot fall in step with ours, and what is written together can be read together. A
 * cluster is first watched for a while; pages that were touched meanwhile are spared,
 * unless there is a hurry and too little that is not in use. A VM that uses all it has is not
 * spared for ever either: its limit and the others' shares are worth more than its pages.
 *
 * What becomes of a page is tried from cheap to dear: all zero, equal to a shared frame,
 * compressed, written to disk. Pages for the disk of one batch go into slots in a row.
 */
#include <host/reclaim.h>

#include <errno.h>
#include <lz4.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <base/arith.h>
#include <base/clock.h>
#include <host/share.h>
#include <mem/memfile.h>
#include <mem/zip_slot.h>

#define WATCH_MS         400
#define WATCH_TIMEOUT_NS UINT64_C(200000000)
#define CLUSTERS         (REVOKE_BATCH_PAGES / RECLAIM_CLUSTER)
/* Random clusters looked at in one call, at most: a small guest is mostly away. */
#define TRIES 128
/*
 * Clusters in use count one, those that were not take back IN_USE_LESS: when nearly all in a
 * row were in use, random ones are taken as well.
 */
#define IN_USE_MANY 128U
#define IN_USE_MAX  256U
#define IN_USE_LESS 8

struct reclaim {
	uint8_t *batch; /* REVOKE_BATCH_PAGES pages */
	uint8_t *out;   /* REVOKE_BATCH_PAGES pages, for the disk */
	unsigned out_idx[REVOKE_BATCH_PAGES];
	unsigned n_out;
	char zipped[ZIP_MAX_BYTES];
};

struct reclaim *reclaim_new(void)
{
	struct reclaim *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->batch = aligned_alloc(PAGE_SIZE, REVOKE_BATCH_PAGES * PAGE_SIZE);
	r->out = aligned_alloc(PAGE_SIZE, REVOKE_BATCH_PAGES * PAGE_SIZE);
	if (!r->batch || !r->out)
		return reclaim_free(r);
	return r;
}

struct reclaim *reclaim_free(struct reclaim *r)
{
	if (!r)
		return NULL;
	free(r->batch);
	free(r->out);
	free(r);
	return NULL;
}

static uint64_t n_clusters(const struct vmmem *vm)
{
	return (vm->n_pages + RECLAIM_CLUSTER - 1) / RECLAIM_CLUSTER;
}

/* Victims of a cluster: pages at home, and if asked for only those not touched since. */
static unsigned add_cluster(const struct vmmem *vm, uint64_t cluster,
			    bool only_idle, ppn_t *pages, unsigned n)
{
	const uint64_t first = cluster * RECLAIM_CLUSTER;

	for (uint64_t p = first; p < first + RECLAIM_CLUSTER; p++) {
		if (p >= vm->n_pages || n == REVOKE_BATCH_PAGES)
			break;

		const uint64_t entry = physmap_load(vm->map, ppn(p));

		if (physmap_state(entry) != PHYSMAP_HOME ||
		    (only_idle && !physmap_is_watched(entry)))
			continue;
		pages[n++] = ppn(p);
	}
	return n;
}

static bool has_page(const ppn_t *pages, unsigned n, uint64_t page)
{
	for (unsigned i = 0; i < n; i++) {
		if (pages[i].v == page)
			return true;
	}
	return false;
}

/* Random clusters with pages at home. Return: pages. */
static unsigned pick_random(const struct vmmem *vm, struct reclaim_vm *memory,
			    ppn_t *pages, unsigned n, unsigned max)
{
	for (unsigned i = 0; i < TRIES && n + RECLAIM_CLUSTER <= max; i++) {
		const uint64_t c = rng_next(&memory->random) % n_clusters(vm);

		if (!has_page(pages, n, c * RECLAIM_CLUSTER) &&
		    !has_page(pages, n, c * RECLAIM_CLUSTER + 1))
			n = add_cluster(vm, c, false, pages, n);
	}
	return n;
}

/* So many clusters that what is wanted is among them even if half of it is in use. */
static unsigned watch_goal(uint64_t want)
{
	const uint64_t clusters = 2 * want / RECLAIM_CLUSTER + 2 * CLUSTERS;
	const unsigned most = RECLAIM_RING - CLUSTERS;

	return clusters < most ? (unsigned)clusters : most;
}

/* Return: whether it got further. */
static bool watch_more(struct vmmem *vm, struct reclaim_vm *memory)
{
	ppn_t pages[REVOKE_BATCH_PAGES] = {0};
	const unsigned n = pick_random(vm, memory, pages, 0, REVOKE_BATCH_PAGES);
	const uint64_t now = monotonic_ms();

	if (!n || memory->n + CLUSTERS > RECLAIM_RING ||
	    revoke_watch(vm->revoke, pages, n, WATCH_TIMEOUT_NS) <= 0)
		return false;
	for (unsigned i = 0; i < n; i++) {
		const uint32_t c = (uint32_t)(pages[i].v / RECLAIM_CLUSTER);
		const unsigned at = (memory->first + memory->n) % RECLAIM_RING;

		if ((i && pages[i - 1].v / RECLAIM_CLUSTER == c) ||
		    memory->n == RECLAIM_RING)
			continue;
		memory->cluster[at] = c;
		memory->since_ms[at] = now;
		memory->n++;
	}
	return true;
}

static bool has_home_page(const struct vmmem *vm, uint64_t cluster)
{
	ppn_t pages[RECLAIM_CLUSTER];

	return add_cluster(vm, cluster, false, pages, 0) > 0;
}

static void count_use(struct reclaim_vm *memory, bool in_use)
{
	if (!in_use)
		memory->in_use = (unsigned)sub_u64(memory->in_use, IN_USE_LESS);
	else if (memory->in_use < IN_USE_MAX)
		memory->in_use++;
}

static unsigned pick_watched(const struct vmmem *vm, struct reclaim_vm *memory,
			     ppn_t *pages)
{
	const uint64_t now = monotonic_ms();
	unsigned n = 0;

	while (memory->n && n + RECLAIM_CLUSTER <= REVOKE_BATCH_PAGES &&
	       memory->since_ms[memory->first] + WATCH_MS <= now) {
		const uint32_t cluster = memory->cluster[memory->first];
		const unsigned before = n;

		n = add_cluster(vm, cluster, true, pages, n);
		if (n > before || has_home_page(vm, cluster))
			count_use(memory, n == before);
		memory->first = (memory->first + 1) % RECLAIM_RING;
		memory->n--;
	}
	return n;
}

static int compare_pages(const void *a, const void *b)
{
	const uint64_t x = ((const ppn_t *)a)->v;
	const uint64_t y = ((const ppn_t *)b)->v;

	return x < y ? -1 : x > y;
}

/* Sorted and without doubles, so that neighbours get slots side by side. */
static unsigned tidy(ppn_t *pages, unsigned n)
{
	unsigned out = 0;

	qsort(pages, n, sizeof(*pages), compare_pages);
	for (unsigned i = 0; i < n; i++) {
		if (!i || pages[i].v != pages[i - 1].v)
			pages[out++] = pages[i];
	}
	return out;
}

/* Zero, or equal to a frame, which is referenced then. Return: false if neither. */
static bool try_share(struct vmmem *vm, const uint8_t *bytes,
		      uint64_t *ret_final)
{
	uint64_t frame;

	if (page_is_zero(bytes)) {
		*ret_final = physmap_zero();
		return true;
	}
	if (!share_find(vm->group, bytes, &frame))
		return false;
	group_ref(vm->group, frame);
	*ret_final = physmap_shared(frame);
	return true;
}

static bool try_zip(struct reclaim *r, struct vmmem *vm, uint64_t page,
		    const uint8_t *bytes, uint64_t max_pages,
		    uint64_t *ret_final)
{
	const int size = LZ4_compress_default((const char *)bytes, r->zipped,
					      PAGE_SIZE, ZIP_MAX_BYTES);

	return size > 0 && !zip_put(vm->zip, page, r->zipped, (unsigned)size,
				    max_pages, ret_final);
}

static void queue_out(struct reclaim *r, unsigned idx, const uint8_t *bytes)
{
	memcpy(r->out + r->n_out * PAGE_SIZE, bytes, PAGE_SIZE);
	r->out_idx[r->n_out++] = idx;
}

/* A page has its place, or not, and then the place is free again. */
static void placed(struct vmmem *vm, uint64_t final, bool done)
{
	switch (physmap_state(final)) {
	case PHYSMAP_ZERO:
		atomic_fetch_add(&vm->zeroed, done);
		break;
	case PHYSMAP_SHARED:
		atomic_fetch_add(&vm->shared_ever, done);
		if (!done)
			group_unref(vm->group, physmap_slot(final));
		break;
	case PHYSMAP_ZIPPED:
		atomic_fetch_add(&vm->zip_out, done);
		if (!done)
			zip_drop(vm->zip, final);
		break;
	case PHYSMAP_SWAPPED:
		atomic_fetch_add(&vm->swap_out, done);
		if (!done)
			swap_drop(vm->swap, physmap_slot(final));
		break;
	case PHYSMAP_HOME:
	case PHYSMAP_BALLOON:
	case PHYSMAP_BUSY:
	case PHYSMAP_N_STATES:
		break;
	}
}

static void finish(struct vmmem *vm, struct vmmem_batch *batch,
		   uint64_t finals[REVOKE_BATCH_PAGES])
{
	const uint64_t done = vmmem_finish(vm, batch, finals);

	for (unsigned i = 0; i < batch->revoke.n_pages; i++) {
		if (finals[i] != REVOKE_KEEP)
			placed(vm, finals[i], done >> i & 1);
	}
}

static void keep_all(uint64_t finals[REVOKE_BATCH_PAGES])
{
	for (unsigned i = 0; i < REVOKE_BATCH_PAGES; i++)
		finals[i] = REVOKE_KEEP;
}

static enum reclaim_result write_run(struct reclaim *r, struct vmmem *vm,
				     unsigned first, unsigned n, uint64_t slot,
				     uint64_t finals[REVOKE_BATCH_PAGES])
{
	const int code = swap_write(vm->swap, slot, r->out + first * PAGE_SIZE,
				    n);

	for (unsigned i = 0; i < n; i++) {
		if (code)
			swap_drop(vm->swap, slot + i);
		else
			finals[r->out_idx[first + i]] = physmap_swapped(slot + i);
	}
	if (code)
		return code == -ENOSPC ? RECLAIM_SWAP_FULL : RECLAIM_FAILED;
	return RECLAIM_MORE;
}

/* What was queued goes to disk. */
static enum reclaim_result write_out(struct reclaim *r, struct vmmem *vm,
				     struct vmmem_batch *batch)
{
	enum reclaim_result result = RECLAIM_MORE;
	uint64_t finals[REVOKE_BATCH_PAGES];
	unsigned n;

	keep_all(finals);
	for (unsigned at = 0; at < r->n_out && result == RECLAIM_MORE; at += n) {
		uint64_t slot;

		n = swap_take(vm->swap, r->n_out - at, &slot);
		if (!n)
			result = RECLAIM_SWAP_FULL;
		else
			result = write_run(r, vm, at, n, slot, finals);
	}
	finish(vm, batch, finals);
	return result;
}

/* First what needs no disk, so that it is not held while others are written. */
static enum reclaim_result move_out(struct reclaim *r, struct vmmem *vm,
				    struct vmmem_batch *batch,
				    const struct reclaim_order *order)
{
	const struct revoke_batch *b = &batch->revoke;
	uint64_t finals[REVOKE_BATCH_PAGES];
	enum reclaim_result result;

	r->n_out = 0;
	if (vmmem_read(vm, batch))
		return RECLAIM_FAILED;
	keep_all(finals);
	for (unsigned i = 0; i < b->n_pages; i++) {
		const uint8_t *bytes = vmmem_bytes(batch, i);

		if (!try_share(vm, bytes, &finals[i]) &&
		    (!order->zip_max_pages ||
		     !try_zip(r, vm, b->pages[i].v, bytes, order->zip_max_pages,
			      &finals[i])))
			queue_out(r, i, bytes);
	}
	finish(vm, batch, finals);
	result = write_out(r, vm, batch);
	/* What moved without the disk is progress too. */
	if (result == RECLAIM_SWAP_FULL && r->n_out < b->n_pages)
		result = RECLAIM_MORE;
	return result;
}

static void charge(struct reclaim_order *order, uint64_t n)
{
	const uint64_t zip = n < order->compress ? n : order->compress;

	order->compress -= zip;
	n -= zip;
	order->swap -= n < order->swap ? n : order->swap;
}

/*
 * Room for the newest: what has been in a full cache longest goes to disk. The memory that this
 * frees need not be taken otherwise, or a VM would have less than it is left.
 */
static void make_room(struct reclaim *r, struct vmmem *vm,
		      struct reclaim_order *order)
{
	const uint64_t before = zip_pages(vm->zip);

	if (!order->zip_max_pages || order->compress ||
	    before < order->zip_max_pages || !swap_slots_free(vm->swap))
		return;
	(void)reclaim_evict(r, vm, REVOKE_BATCH_PAGES);
	order->swap = sub_u64(order->swap, sub_u64(before, zip_pages(vm->zip)));
}

static enum reclaim_result evict_batch(struct reclaim *r, struct vmmem *vm,
				       struct vmmem_batch *batch)
{
	r->n_out = 0;
	for (unsigned i = 0; i < batch->revoke.n_pages; i++) {
		const uint64_t entry = physmap_stable(batch->revoke.entries[i]);

		if (zip_get(vm->zip, entry, r->batch)) {
			vmmem_misbehaves(vm, "a compressed page is not whole");
			return RECLAIM_FAILED;
		}
		queue_out(r, i, r->batch);
	}
	return write_out(r, vm, batch);
}

enum reclaim_result reclaim_evict(struct reclaim *r, struct vmmem *vm,
				  unsigned n)
{
	struct vmmem_batch batch = {.bytes = r->batch};
	ppn_t pages[REVOKE_BATCH_PAGES] = {0};
	enum reclaim_result result;
	unsigned found = 0;
	uint64_t page;
	int taken;

	while (found < n && zip_oldest(vm->zip, &page)) {
		if (physmap_state(physmap_load(vm->map, ppn(page))) ==
			    PHYSMAP_ZIPPED &&
		    !has_page(pages, found, page))
			pages[found++] = ppn(page);
	}
	if (!found)
		return RECLAIM_DONE;
	taken = vmmem_take(vm, pages, tidy(pages, found), 1U << PHYSMAP_ZIPPED,
			   &batch);
	if (taken <= 0)
		return taken ? RECLAIM_FAILED : RECLAIM_MORE;
	result = evict_batch(r, vm, &batch);
	vmmem_end(vm, &batch);
	return result;
}

/* What the cache takes, when nothing else is to be taken. */
static enum reclaim_result from_cache(struct reclaim *r, struct vmmem *vm,
				      struct reclaim_order *order)
{
	const unsigned n = order->evict < REVOKE_BATCH_PAGES
				   ? (unsigned)order->evict
				   : REVOKE_BATCH_PAGES;

	order->evict -= n;
	return reclaim_evict(r, vm, n);
}

enum reclaim_result reclaim_step(struct reclaim *r, struct vmmem *vm,
				 struct reclaim_vm *memory,
				 struct reclaim_order *order)
{
	const uint64_t want = order->compress + order->swap;
	ppn_t pages[REVOKE_BATCH_PAGES] = {0};
	struct vmmem_batch batch = {.bytes = r->batch};
	enum reclaim_result result;
	bool watching = false;
	unsigned n;
	int taken;

	if (!want)
		return order->evict ? from_cache(r, vm, order) : RECLAIM_DONE;
	n = pick_watched(vm, memory, pages);
	if (memory->n < watch_goal(want))
		watching = watch_more(vm, memory);
	if (!n && (order->hurry || memory->in_use >= IN_USE_MANY))
		n = pick_random(vm, memory, pages, 0, REVOKE_BATCH_PAGES);
	if (!n && watching)
		return RECLAIM_MORE;
	if (!n)
		return memory->n ? RECLAIM_WATCHING : RECLAIM_DONE;
	n = tidy(pages, n);
	make_room(r, vm, order);
	n = (unsigned)min_u64(n, order->compress + order->swap);
	if (!n)
		return RECLAIM_MORE;
	taken = vmmem_take(vm, pages, n, 1U << PHYSMAP_HOME, &batch);
	if (taken <= 0)
		return taken ? RECLAIM_FAILED : RECLAIM_MORE;
	result = move_out(r, vm, &batch, order);
	charge(order, (uint64_t)taken);
	vmmem_end(vm, &batch);
	return result;
}
