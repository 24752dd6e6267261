/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking for pages with equal contents.
 *
 * A window of pages is read at once, without disturbing the guest, and each page hashed. A
 * page that is already hinted by this very hash is done with. Else the table says who has
 * the same hash: a frame of the group, or a page that was only seen before. What is there
 * is compared in full, still without revoking anything, so a false match costs a
 * comparison. Equal pages become candidates for a frame; the candidates of each VM are
 * revoked together and compared once more, now that they stand still.
 *
 * A candidate holds a reference to its frame from the beginning, so that a frame whose
 * last user leaves meanwhile does not go away.
 */
#include <host/share.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MATCHES_MAX    8
#define CANDIDATES_MAX (2 * SHARE_WINDOW)
#define ZERO_PAGE      UINT64_MAX
/* Windows without any page at home are passed over, but not without end. */
#define EMPTY_MAX 256

struct candidate {
	struct vmmem *vm; /* NULL: done */
	uint64_t page;
	uint64_t frame; /* or ZERO_PAGE */
};

struct share {
	uint8_t *window; /* SHARE_WINDOW pages */
	uint8_t *batch;  /* REVOKE_BATCH_PAGES pages */
	uint8_t *other;  /* a page */
	struct candidate candidates[CANDIDATES_MAX];
	unsigned n;
};

struct share *share_new(void)
{
	struct share *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->window = aligned_alloc(PAGE_SIZE, SHARE_WINDOW * PAGE_SIZE);
	s->batch = aligned_alloc(PAGE_SIZE, REVOKE_BATCH_PAGES * PAGE_SIZE);
	s->other = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	if (!s->window || !s->batch || !s->other)
		return share_free(s);
	return s;
}

struct share *share_free(struct share *s)
{
	if (!s)
		return NULL;
	free(s->window);
	free(s->batch);
	free(s->other);
	free(s);
	return NULL;
}

static bool is_home(const struct vmmem *vm, uint64_t page)
{
	return physmap_state(physmap_load(vm->map, ppn(page))) == PHYSMAP_HOME;
}

static bool read_pages(const struct vmmem *vm, uint64_t page, unsigned n,
		       uint8_t *to)
{
	const size_t len = n * PAGE_SIZE;

	return pread(vm->home_fd, to, len, (off_t)(page * PAGE_SIZE)) ==
	       (ssize_t)len;
}

static void add_candidate(struct share *s, struct vmmem *vm, uint64_t page,
			  uint64_t frame)
{
	if (frame != ZERO_PAGE)
		group_ref(vm->group, frame);
	s->candidates[s->n++] = (struct candidate){vm, page, frame};
}

/* The page that a hint names has these contents still: make them a frame for both. */
static bool match_hint(struct share *s, struct vmmem *vm, uint64_t page,
		       uint32_t tag, const uint8_t *bytes, uint32_t where)
{
	uint64_t other_page;
	uint64_t frame;
	struct vmmem *other = group_whose(vm->group, where, &other_page);

	if (!other || (other == vm && other_page == page))
		return false;
	if (!is_home(other, other_page) ||
	    !read_pages(other, other_page, 1, s->other) ||
	    memcmp(s->other, bytes, PAGE_SIZE) != 0) {
		vmmem_forget_hint(other, other_page);
		return false;
	}
	if (group_frame_new(vm->group, tag, bytes, &frame))
		return false;
	add_candidate(s, vm, page, frame);
	add_candidate(s, other, other_page, frame);
	return true;
}

static bool match(struct share *s, struct vmmem *vm, uint64_t page,
		  uint32_t tag, const uint8_t *bytes)
{
	struct group *g = vm->group;
	uint32_t places[MATCHES_MAX];
	struct hints_iter it;
	unsigned n = 0;

	hints_find(&g->hints, tag, &it);
	while (n < MATCHES_MAX && hints_next(&g->hints, &it, &places[n]))
		n++;
	for (unsigned i = 0; i < n; i++) {
		const uint64_t frame = places[i] & ~HINT_FRAME;

		if (!(places[i] & HINT_FRAME))
			continue;
		if (!memcmp(group_bytes(g, frame), bytes, PAGE_SIZE)) {
			add_candidate(s, vm, page, frame);
			return true;
		}
	}
	for (unsigned i = 0; i < n; i++) {
		if (!(places[i] & HINT_FRAME) &&
		    match_hint(s, vm, page, tag, bytes, places[i]))
			return true;
	}
	return false;
}

static void look_at(struct share *s, struct vmmem *vm, uint64_t page,
		    const uint8_t *bytes)
{
	uint32_t tag;

	/* It has left a frame, and that has not been heard yet. */
	if (vm->words[page] & WORD_SHARED)
		return;
	if (page_is_zero(bytes)) {
		add_candidate(s, vm, page, ZERO_PAGE);
		return;
	}
	tag = hints_tag(page_hash(bytes));
	if (vm->words[page] == tag || match(s, vm, page, tag, bytes))
		return;
	/* The words tell what is in the table, so a page has one hint at most. */
	vmmem_forget_hint(vm, page);
	if (hints_add(&vm->group->hints, tag, vm->base + (uint32_t)page))
		vm->words[page] = tag;
}

/* One page of a batch, which stands still now. Return: true if it has its new place. */
static bool settle(struct vmmem *vm, struct vmmem_batch *batch, unsigned idx,
		   uint64_t frame)
{
	const uint8_t *bytes = vmmem_bytes(batch, idx);

	if (frame == ZERO_PAGE) {
		if (!page_is_zero(bytes) ||
		    vmmem_finish(vm, batch, idx, physmap_zero()))
			return false;
		atomic_fetch_add(&vm->zeroed, 1);
		return true;
	}
	if (memcmp(bytes, group_bytes(vm->group, frame), PAGE_SIZE) != 0)
		return false;
	group_ref(vm->group, frame);
	if (vmmem_finish(vm, batch, idx, physmap_shared(frame))) {
		group_unref(vm->group, frame);
		return false;
	}
	atomic_fetch_add(&vm->shared_ever, 1);
	return true;
}

static void settle_batch(struct vmmem *vm, struct vmmem_batch *batch,
			 const struct candidate *const *wanted, unsigned n)
{
	const struct revoke_batch *b = &batch->revoke;
	unsigned at = 0;

	/* The batch has the same pages in the same order, but for some left out. */
	for (unsigned i = 0; i < b->n_pages; i++) {
		while (at < n && wanted[at]->page != b->pages[i].v)
			at++;
		if (at < n && !settle(vm, batch, i, wanted[at]->frame))
			vmmem_forget_hint(vm, b->pages[i].v);
	}
}

/* All candidates of the VM of the first one that is left. */
static void flush_vm(struct share *s, unsigned first)
{
	struct vmmem *vm = s->candidates[first].vm;
	const struct candidate *wanted[REVOKE_BATCH_PAGES] = {0};
	ppn_t pages[REVOKE_BATCH_PAGES] = {0};
	struct vmmem_batch batch = {.bytes = s->batch};
	unsigned n = 0;
	int r;

	for (unsigned i = first; i < s->n && n < REVOKE_BATCH_PAGES; i++) {
		struct candidate *c = &s->candidates[i];

		if (c->vm != vm)
			continue;
		pages[n] = ppn(c->page);
		wanted[n++] = c;
	}
	r = vmmem_take(vm, pages, n, 1U << PHYSMAP_HOME, &batch);
	if (r > 0) {
		if (!vmmem_read(vm, &batch))
			settle_batch(vm, &batch, wanted, n);
		vmmem_end(vm, &batch);
	}
	for (unsigned i = first; n && i < s->n; i++) {
		struct candidate *c = &s->candidates[i];

		if (c->vm != vm)
			continue;
		if (r <= 0)
			vmmem_forget_hint(vm, c->page);
		if (c->frame != ZERO_PAGE)
			group_unref(vm->group, c->frame);
		c->vm = NULL;
		n--;
	}
}

static void flush(struct share *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		if (s->candidates[i].vm)
			flush_vm(s, i);
	}
	s->n = 0;
}

static unsigned scan_run(struct share *s, struct vmmem *vm, uint64_t page,
			 unsigned n)
{
	if (!read_pages(vm, page, n, s->window))
		return 0;
	for (unsigned i = 0; i < n; i++)
		look_at(s, vm, page + i, s->window + i * PAGE_SIZE);
	return n;
}

static unsigned scan_window(struct share *s, struct vmmem *vm, uint64_t start,
			    uint64_t end)
{
	unsigned hashed = 0;
	unsigned n;

	for (uint64_t page = start; page < end; page += n) {
		n = 0;
		while (page + n < end && is_home(vm, page + n))
			n++;
		if (n)
			hashed += scan_run(s, vm, page, n);
		else
			n = 1;
	}
	flush(s);
	return hashed;
}

uint64_t share_scan(struct share *s, struct vmmem *vm, uint64_t *cursor,
		    uint64_t max_pages)
{
	uint64_t hashed = 0;

	for (unsigned i = 0; i < EMPTY_MAX && hashed < max_pages; i++) {
		const uint64_t start = *cursor < vm->n_pages ? *cursor : 0;
		const uint64_t end = start + SHARE_WINDOW < vm->n_pages
					     ? start + SHARE_WINDOW
					     : vm->n_pages;

		hashed += scan_window(s, vm, start, end);
		*cursor = end;
		if (end == vm->n_pages)
			break;
	}
	atomic_fetch_add(&vm->scanned, hashed);
	return hashed;
}

bool share_find(const struct group *g, const uint8_t *bytes, uint64_t *ret_frame)
{
	struct hints_iter it;
	uint32_t where;

	hints_find(&g->hints, hints_tag(page_hash(bytes)), &it);
	while (hints_next(&g->hints, &it, &where)) {
		if (where & HINT_FRAME &&
		    !memcmp(group_bytes(g, where & ~HINT_FRAME), bytes,
			    PAGE_SIZE)) {
			*ret_frame = where & ~HINT_FRAME;
			return true;
		}
	}
	return false;
}
