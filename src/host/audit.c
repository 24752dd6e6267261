/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit: all bookkeeping recomputed from the physmaps and compared, and the books beside
 * the kernel's figures.
 *
 * Nothing is moved by the host meanwhile, but guests run, and bring pages back. What a page
 * leaves is in the ring a moment after its entry has changed, and counters follow entries.
 * So whatever does not agree is looked at again until it does, and is wrong only if it never does.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <base/arith.h>
#include <base/clock.h>
#include <host/host_impl.h>

#define TRIES 200

/* Pages whose word does not say what their entry says. */
static uint64_t wrong_words(struct vmmem *m)
{
	uint64_t wrong = 0;

	for (uint64_t p = 0; p < m->n_pages; p++) {
		const uint64_t e = physmap_stable(physmap_load(m->map, ppn(p)));
		const uint32_t word = m->words[p];

		if (physmap_state(e) == PHYSMAP_SHARED)
			wrong += word !=
				 (WORD_SHARED | (uint32_t)physmap_slot(e));
		else
			wrong += !!(word & WORD_SHARED);
	}
	return wrong;
}

/* Entries that name a slot that is free, and slots that no entry names. */
static uint64_t wrong_slots(struct vmmem *m)
{
	const uint64_t swap_used = swap_slots(m->swap) -
				   swap_slots_free(m->swap);
	const uint64_t zip_used = zip_slots(m->zip);
	uint64_t zipped = 0;
	uint64_t swapped = 0;
	uint64_t wrong = 0;

	for (uint64_t p = 0; p < m->n_pages; p++) {
		const uint64_t e = physmap_stable(physmap_load(m->map, ppn(p)));

		if (physmap_state(e) == PHYSMAP_ZIPPED) {
			zipped++;
			wrong += !zip_uses(m->zip, e);
		} else if (physmap_state(e) == PHYSMAP_SWAPPED) {
			swapped++;
			wrong += !swap_uses(m->swap, physmap_slot(e));
		}
	}
	return wrong + (zip_used > zipped ? zip_used - zipped : 0) +
	       (swap_used > swapped ? swap_used - swapped : 0);
}

static uint64_t wrong_counts(struct vmmem *m)
{
	return !physmap_audit(m->map);
}

static uint64_t until_settled(struct vmmem *m,
			      uint64_t (*count)(struct vmmem *m))
{
	uint64_t wrong = 0;

	for (unsigned i = 0; i < TRIES; i++) {
		if (i)
			nap_us(500);
		vmmem_drain(m);
		wrong = count(m);
		if (!wrong)
			break;
	}
	return wrong;
}

static uint64_t home_pages(const struct vmmem *m)
{
	const struct physmap_counts counts = physmap_counts(m->map);

	return counts.pages[PHYSMAP_HOME] + counts.pages[PHYSMAP_BUSY];
}

/*
 * Both figures at a moment at which they are equal, if there is one. What the books have and
 * the kernel has not was never touched, as under KVM, or is lost.
 */
static void add_home(struct vmmem *m, struct host_audit *a)
{
	uint64_t book = 0;
	uint64_t kernel = 0;

	for (unsigned i = 0; i < TRIES; i++) {
		if (i)
			nap_us(500);
		book = home_pages(m);
		kernel = vmmem_home_pages(m);
		if (book == kernel)
			break;
	}
	a->book_pages += min_u64(book, kernel);
	a->untouched_pages += sub_u64(book, kernel);
	a->kernel_pages += kernel;
}

static void audit_vm(struct vmmem *m, struct host_audit *a)
{
	const uint64_t tables = vmmem_table_pages(m);

	a->wrong_counts += until_settled(m, wrong_counts) != 0;
	a->wrong_slots += until_settled(m, wrong_slots);
	a->wrong_refs += until_settled(m, wrong_words);
	add_home(m, a);
	a->book_pages += zip_pages(m->zip) + tables;
	a->kernel_pages += file_pages(zip_fd(m->zip)) + tables;
}

/* Frames' counts against the members' words, which only the host changes. */
static int audit_group(const struct group *g, struct host_audit *a)
{
	uint32_t *refs = calloc(g->n_frames, sizeof(*refs));

	if (!refs)
		return -ENOMEM;
	for (uint32_t i = 0; i < g->n_members; i++) {
		const struct vmmem *m = g->members[i];

		for (uint64_t p = 0; p < m->n_pages; p++) {
			const uint32_t frame = m->words[p] & ~WORD_SHARED;

			if (m->words[p] & WORD_SHARED && frame < g->n_frames)
				refs[frame]++;
		}
	}
	for (uint64_t f = 0; f < g->n_frames; f++)
		a->wrong_refs += refs[f] != g->refs[f];
	free(refs);
	a->book_pages += atomic_load(&g->n_frames_used);
	a->kernel_pages += file_pages(g->fd);
	return 0;
}

int host_audit(struct host *host, struct host_audit *ret)
{
	struct host_audit a = {0};
	int r = 0;

	gate_lock(host);
	pthread_mutex_lock(&host->lock);
	a.overhead_pages = process_overhead(getpid());
	for (uint32_t i = 0; i < host->n_vms; i++) {
		a.overhead_pages += vm_overhead_now(host->vms[i]);
		if (host->vms[i]->mem)
			audit_vm(host->vms[i]->mem, &a);
	}
	for (uint32_t i = 0; i < host->n_groups && !r; i++)
		r = audit_group(host->groups[i], &a);
	pthread_mutex_unlock(&host->lock);
	gate_unlock(host);
	if (!r)
		*ret = a;
	return r;
}
