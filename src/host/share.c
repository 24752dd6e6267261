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
 *
 * Pages that a disk has just filled are looked at ahead of the rest, in the same way. That
 * they were read from the same image is a reason to look, and no more than that: a VM may
 * lie, and somebody may write to an image that VMs have open. So what is shared is always
 * what was compared, and nobody can smuggle anything into another's page.
 */
#include <host/share.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <base/verify.h>
#include <mem/memfile.h>

static_assert(SHARE_WINDOW == 64, "a bit for each page of a window");

#define MATCHES_MAX 8
/* Many, for a revocation costs more for each batch than for each page. */
#define CANDIDATES_MAX 1024
#define ZERO_PAGE      UINT64_MAX
/* Windows without any page at home are passed over, but not without end. */
#define EMPTY_MAX 256
#define READ_GAP  3

struct candidate {
	struct vmmem *vm;
	uint64_t page;
	uint64_t frame; /* or ZERO_PAGE */
};

struct share {
	uint8_t *window; /* SHARE_WINDOW pages */
	uint8_t *batch;  /* REVOKE_BATCH_PAGES pages */
	uint8_t *other;  /* a page */
	struct candidate candidates[CANDIDATES_MAX];
	unsigned n;
	uint64_t settled; /* pages that got a frame, ever */
	unsigned news;    /* of a window: pages that were not as last time */
	unsigned max_gap; /* pages read for nothing rather than by two calls */
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
	s->max_gap = READ_GAP;
	return s;
}

void share_set_gap(struct share *s, unsigned pages)
{
	s->max_gap = pages;
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

static void flush(struct share *s);

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
	if (group_frame_new(vm->group, tag, bytes, &frame)) {
		/* What waits here gives back more than it took. */
		flush(s);
		if (group_frame_new(vm->group, tag, bytes, &frame))
			return false;
	}
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

/* Return: whether there was anything new about it. */
static bool look_at(struct share *s, struct vmmem *vm, uint64_t page,
		    const uint8_t *bytes)
{
	uint32_t tag;

	/* It has left a frame, and that has not been heard yet. */
	if (vm->words[page] & WORD_SHARED)
		return true;
	if (page_is_zero(bytes)) {
		add_candidate(s, vm, page, ZERO_PAGE);
		return true;
	}
	tag = hints_tag(page_hash(bytes));
	if (vm->words[page] == tag)
		return false;
	if (match(s, vm, page, tag, bytes))
		return true;
	/* The words tell what is in the table, so a page has one hint at most. */
	vmmem_forget_hint(vm, page);
	if (hints_add(&vm->group->hints, tag, vm->base + (uint32_t)page))
		vm->words[page] = tag;
	return true;
}

/* One page of a batch, which stands still now. Return: what it becomes. */
static uint64_t final_of(const struct vmmem *vm, const uint8_t *bytes,
			 uint64_t frame)
{
	if (frame == ZERO_PAGE)
		return page_is_zero(bytes) ? physmap_zero() : REVOKE_KEEP;
	if (memcmp(bytes, group_bytes(vm->group, frame), PAGE_SIZE) != 0)
		return REVOKE_KEEP;
	group_ref(vm->group, frame);
	return physmap_shared(frame);
}

static void settled(struct share *s, struct vmmem *vm, uint64_t page,
		    uint64_t frame, bool done)
{
	if (!done) {
		vmmem_forget_hint(vm, page);
	} else if (frame == ZERO_PAGE) {
		atomic_fetch_add(&vm->zeroed, 1);
	} else {
		atomic_fetch_add(&vm->shared_ever, 1);
		s->settled++;
	}
}

static void settle_batch(struct share *s, struct vmmem *vm,
			 struct vmmem_batch *batch,
			 const struct candidate *const *wanted, unsigned n)
{
	const struct revoke_batch *b = &batch->revoke;
	const unsigned n_taken = b->n_pages;
	uint64_t finals[REVOKE_BATCH_PAGES];
	uint64_t frames[REVOKE_BATCH_PAGES];
	unsigned at = 0;
	uint64_t done;

	/* The batch has the same pages in the same order, but for some left out. */
	for (unsigned i = 0; i < n_taken; i++, at++) {
		while (at < n && wanted[at]->page != b->pages[i].v)
			at++;
		VERIFY(at < n);
		frames[i] = wanted[at]->frame;
		finals[i] = final_of(vm, vmmem_bytes(batch, i), frames[i]);
	}
	done = vmmem_finish(vm, batch, finals);
	for (unsigned i = 0; i < n_taken; i++) {
		if (!(done >> i & 1) && finals[i] != REVOKE_KEEP &&
		    frames[i] != ZERO_PAGE)
			group_unref(vm->group, frames[i]);
		settled(s, vm, b->pages[i].v, frames[i], done >> i & 1);
	}
}

static int compare_candidates(const void *a, const void *b)
{
	const struct candidate *x = a;
	const struct candidate *y = b;

	if (x->vm != y->vm)
		return (uintptr_t)x->vm < (uintptr_t)y->vm ? -1 : 1;
	return x->page < y->page ? -1 : x->page > y->page;
}

/* Candidates of one VM from a place on, as many as a batch has. Return: how many. */
static unsigned flush_batch(struct share *s, unsigned first)
{
	struct vmmem *vm = s->candidates[first].vm;
	const struct candidate *wanted[REVOKE_BATCH_PAGES] = {0};
	ppn_t pages[REVOKE_BATCH_PAGES] = {0};
	struct vmmem_batch batch = {.bytes = s->batch};
	unsigned n = 0;
	int r;

	while (n < REVOKE_BATCH_PAGES && first + n < s->n &&
	       s->candidates[first + n].vm == vm) {
		wanted[n] = &s->candidates[first + n];
		pages[n] = ppn(wanted[n]->page);
		n++;
	}
	r = vmmem_take(vm, pages, n, 1U << PHYSMAP_HOME, &batch);
	if (r > 0) {
		if (!vmmem_read(vm, &batch))
			settle_batch(s, vm, &batch, wanted, n);
		vmmem_end(vm, &batch);
	}
	for (unsigned i = 0; i < n; i++) {
		if (r <= 0)
			vmmem_forget_hint(vm, wanted[i]->page);
		if (wanted[i]->frame != ZERO_PAGE)
			group_unref(vm->group, wanted[i]->frame);
	}
	return n;
}

/* In order, so that pages side by side are read and released together. */
static void flush(struct share *s)
{
	qsort(s->candidates, s->n, sizeof(*s->candidates), compare_candidates);
	for (unsigned i = 0; i < s->n;)
		i += flush_batch(s, i);
	s->n = 0;
}

static void flush_if_full(struct share *s)
{
	if (s->n > CANDIDATES_MAX - 2 * SHARE_WINDOW)
		flush(s);
}

/* Bit i: page @start + i is at home. */
static uint64_t home_mask(const struct vmmem *vm, uint64_t start, unsigned n)
{
	uint64_t mask = 0;

	for (unsigned i = 0; i < n; i++)
		mask |= (uint64_t)is_home(vm, start + i) << i;
	return mask;
}

/*
 * How many pages from @first on to read at once: up to the last one at home before a gap
 * of more than @max_gap pages. Holes read as zeros, for less than another call costs.
 */
static unsigned span_length(uint64_t mask, unsigned first, unsigned max_gap)
{
	unsigned end = first + 1;

	for (unsigned i = end; i < SHARE_WINDOW && i - end <= max_gap; i++) {
		if (mask >> i & 1)
			end = i + 1;
	}
	return end - first;
}

/* Pages of a window from @first on, those of @mask, which is @len long. */
static unsigned scan_span(struct share *s, struct vmmem *vm, uint64_t start,
			  uint64_t mask, unsigned first, unsigned len)
{
	unsigned hashed = 0;

	if (!read_pages(vm, start + first, len, s->window))
		return 0;
	for (unsigned i = 0; i < len; i++) {
		if (!(mask >> (first + i) & 1))
			continue;
		s->news += look_at(s, vm, start + first + i,
				   s->window + i * PAGE_SIZE);
		hashed++;
	}
	return hashed;
}

/* The pages of a window that are in @mask; flush() is the caller's, if not full. */
static unsigned scan_pages(struct share *s, struct vmmem *vm, uint64_t start,
			   uint64_t mask)
{
	unsigned hashed = 0;
	unsigned at = 0;

	while (at < SHARE_WINDOW && mask >> at) {
		at += (unsigned)__builtin_ctzll(mask >> at);

		const unsigned len = span_length(mask, at, s->max_gap);

		hashed += scan_span(s, vm, start, mask, at, len);
		at += len;
	}
	flush_if_full(s);
	return hashed;
}

static uint64_t low_bits(unsigned n)
{
	return n < 64 ? (UINT64_C(1) << n) - 1 : UINT64_MAX;
}

/*
 * In a window in which nothing was new the last time only one piece is looked at in each
 * pass, another one each time. Most of what changes, changes pages side by side, so a
 * piece tells; then the rest is looked at too, and all of it in the next pass. A byte says
 * which piece comes next, from 1 on, or 0 for all. What the others held is in the table
 * meanwhile, so that their like is found.
 */
static uint64_t next_piece(uint8_t *quiet, unsigned max_skip)
{
	const unsigned len = (SHARE_WINDOW + max_skip) / (max_skip + 1);
	/* After a change of the option it may be beyond the last. */
	const unsigned at = (*quiet - 1U) * len % SHARE_WINDOW;

	*quiet = at + len < SHARE_WINDOW ? (uint8_t)(at / len + 2) : 1;
	return low_bits(len) << at;
}

static unsigned scan_window(struct share *s, struct vmmem *vm, uint64_t start,
			    unsigned n, unsigned max_skip)
{
	uint8_t *quiet = &vm->quiet[start / SHARE_WINDOW];
	uint64_t mask = home_mask(vm, start, n);
	unsigned hashed = 0;

	s->news = 0;
	if (*quiet && max_skip) {
		const uint64_t piece = next_piece(quiet, max_skip);

		hashed = scan_pages(s, vm, start, mask & piece);
		if (!s->news)
			return hashed;
		mask &= ~piece;
	}
	hashed += scan_pages(s, vm, start, mask);
	*quiet = hashed && !s->news;
	return hashed;
}

uint64_t share_scan(struct share *s, struct vmmem *vm, uint64_t *cursor,
		    uint64_t max_pages, unsigned max_skip)
{
	uint64_t hashed = 0;

	for (unsigned i = 0; i < EMPTY_MAX && hashed < max_pages; i++) {
		const uint64_t start = *cursor < vm->n_pages ? *cursor : 0;
		const uint64_t end = start + SHARE_WINDOW < vm->n_pages
					     ? start + SHARE_WINDOW
					     : vm->n_pages;

		hashed += scan_window(s, vm, start, (unsigned)(end - start),
				      max_skip);
		*cursor = end;
		if (end == vm->n_pages)
			break;
	}
	flush(s);
	atomic_fetch_add(&vm->scanned, hashed);
	return hashed;
}

static bool has_image(const struct vmmem *vm, const struct link_image *image)
{
	const struct link_counters *c = vm->counters;
	const uint32_t n = atomic_load(&c->n_images);

	for (uint32_t i = 0; i < n && i < LINK_IMAGES_MAX; i++) {
		if (c->images[i].dev == image->dev &&
		    c->images[i].ino == image->ino)
			return true;
	}
	return false;
}

/* A bit for each of the VM's images that another of its group has too. */
static uint32_t common_images(const struct vmmem *vm)
{
	const struct group *g = vm->group;
	uint32_t common = 0;

	for (uint32_t image = 0; image < LINK_IMAGES_MAX; image++) {
		const struct link_image wanted = vm->counters->images[image];

		for (uint32_t i = 0; i < g->n_members; i++) {
			if (g->members[i] == vm ||
			    !has_image(g->members[i], &wanted))
				continue;
			common |= 1U << image;
			break;
		}
	}
	return common;
}

static bool filled_valid(const struct vmmem *vm, const struct link_filled *f)
{
	return f->image < LINK_IMAGES_MAX && f->page < vm->n_pages &&
	       f->n_pages <= vm->n_pages - f->page;
}

uint64_t share_filled(struct share *s, struct vmmem *vm, uint64_t max_pages)
{
	const uint64_t before = s->settled;
	struct link_filled f;
	uint32_t common;
	uint64_t hashed = 0;

	if (!link_filled_any(vm->counters))
		return 0;
	common = common_images(vm);
	while (hashed < max_pages && link_filled_pop(vm->counters, &f)) {
		if (!filled_valid(vm, &f)) {
			vmmem_misbehaves(vm,
					 "it tells of pages that it has not");
			break;
		}
		while (f.n_pages && common >> f.image & 1) {
			const unsigned n = f.n_pages < SHARE_WINDOW
						   ? f.n_pages
						   : SHARE_WINDOW;

			hashed += scan_pages(s, vm, f.page,
					     home_mask(vm, f.page, n));
			f.page += n;
			f.n_pages -= n;
		}
	}
	flush(s);
	atomic_fetch_add(&vm->scanned, hashed);
	atomic_fetch_add(&vm->shared_filled, s->settled - before);
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
