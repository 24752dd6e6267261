/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allocator of MACHINE_TABLE pages.
 *
 * A page is in one of three conditions: in use; kept (free, dirty, its memory still
 * there); or a hole (free, no memory, reads as zeros). Allocation prefers the page
 * that was freed last, since its memory is there and warm: clearing it is cheaper than
 * a page fault. Freeing is a push on a stack. Only when more than TABLE_KEPT_PAGES are
 * kept is the older half returned to the host, in runs of neighbours, so that the cost
 * of a system call is spread over many frees and the idle memory is bounded.
 *
 * The file grows by chunks, each mapped where the window has reserved addresses for it;
 * beyond the last chunk there is no access. It never shrinks, but holes cost nothing.
 *
 * One thread allocates and frees, the VM's processor thread; the count of used pages
 * may be read by any.
 */
#include <mem/table_pages.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <base/verify.h>
#include <mem/memfile.h>
#include <mem/populate.h>

enum page_condition {
	PAGE_HOLE,
	PAGE_KEPT,
	PAGE_USED,
};

/* A stack of page numbers with room for every page of the file. */
struct page_stack {
	uint32_t *idx;
	uint64_t n;
};

/* Members: I immutable, a atomic, others belong to the processor thread. */
struct table_pages {
	int fd;                 /* I */
	uint8_t *base;          /* I */
	uint64_t max_pages;     /* I */
	uint64_t n_pages;       /* length of the file */
	uint8_t *condition;     /* enum page_condition, by page */
	struct page_stack kept; /* oldest first */
	struct page_stack holes;
	_Atomic uint64_t n_used; /* a */
};

struct table_pages *table_pages_new(int fd, uint8_t *base, uint64_t max_pages)
{
	struct table_pages *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->fd = fd;
	t->base = base;
	t->max_pages = max_pages;
	return t;
}

struct table_pages *table_pages_free(struct table_pages *t)
{
	if (!t)
		return NULL;
	free(t->condition);
	free(t->kept.idx);
	free(t->holes.idx);
	free(t);
	return NULL;
}

static bool page_stack_reserve(struct page_stack *s, uint64_t n_pages)
{
	uint32_t *idx = reallocarray(s->idx, n_pages, sizeof(*idx));

	if (!idx)
		return false;
	s->idx = idx;
	return true;
}

/* Make the bookkeeping large enough for n_pages pages; harmless if the rest then fails. */
static bool table_pages_reserve(struct table_pages *t, uint64_t n_pages)
{
	uint8_t *condition = realloc(t->condition, n_pages);

	if (!condition)
		return false;
	t->condition = condition;
	return page_stack_reserve(&t->kept, n_pages) &&
	       page_stack_reserve(&t->holes, n_pages);
}

static int table_pages_grow(struct table_pages *t)
{
	const uint64_t n = t->n_pages + TABLE_CHUNK_PAGES;

	if (n > t->max_pages || !table_pages_reserve(t, n))
		return -ENOMEM;
	if (ftruncate(t->fd, (off_t)(n * PAGE_SIZE)) < 0)
		return -ENOMEM;
	if (mmap(t->base + t->n_pages * PAGE_SIZE, TABLE_CHUNK_PAGES * PAGE_SIZE,
		 PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, t->fd,
		 (off_t)(t->n_pages * PAGE_SIZE)) == MAP_FAILED)
		return -ENOMEM;
	memfile_small_pages(t->base + t->n_pages * PAGE_SIZE,
			    TABLE_CHUNK_PAGES * PAGE_SIZE);
	memset(t->condition + t->n_pages, PAGE_HOLE, TABLE_CHUNK_PAGES);
	/* The lowest number ends up on top and is used first. */
	for (uint64_t idx = n; idx-- > t->n_pages;)
		t->holes.idx[t->holes.n++] = (uint32_t)idx;
	t->n_pages = n;
	return 0;
}

int table_pages_alloc(struct table_pages *t, uint64_t *ret_idx)
{
	uint64_t idx;

	if (t->kept.n) {
		idx = t->kept.idx[--t->kept.n];
		memset(t->base + idx * PAGE_SIZE, 0, PAGE_SIZE);
	} else {
		if (!t->holes.n && table_pages_grow(t))
			return -ENOMEM;
		idx = t->holes.idx[t->holes.n - 1];
		if (populate_write(t->base + idx * PAGE_SIZE, t->fd,
				   idx * PAGE_SIZE))
			return -ENOMEM;
		t->holes.n--;
	}
	t->condition[idx] = PAGE_USED;
	atomic_fetch_add_explicit(&t->n_used, 1, memory_order_relaxed);
	*ret_idx = idx;
	return 0;
}

static int compare_idx(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a;
	const uint32_t y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Return the memory of the n oldest kept pages to the host. */
static void table_pages_trim(struct table_pages *t, uint64_t n)
{
	uint32_t *idx = t->kept.idx;

	qsort(idx, n, sizeof(*idx), compare_idx);
	for (uint64_t i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && idx[end] == idx[end - 1] + 1;)
			end++;
		memfile_drop(t->fd, idx[i] * PAGE_SIZE, (end - i) * PAGE_SIZE);
	}
	for (uint64_t i = n; i-- > 0;) {
		t->condition[idx[i]] = PAGE_HOLE;
		t->holes.idx[t->holes.n++] = idx[i];
	}
	t->kept.n -= n;
	memmove(idx, idx + n, t->kept.n * sizeof(*idx));
}

void table_pages_put(struct table_pages *t, uint64_t idx)
{
	VERIFY(idx < t->n_pages && t->condition[idx] == PAGE_USED);
	t->condition[idx] = PAGE_KEPT;
	t->kept.idx[t->kept.n++] = (uint32_t)idx;
	atomic_fetch_sub_explicit(&t->n_used, 1, memory_order_relaxed);
	if (t->kept.n > TABLE_KEPT_PAGES)
		table_pages_trim(t, t->kept.n - TABLE_KEPT_PAGES / 2);
}

uint64_t table_pages_used(const struct table_pages *t)
{
	return atomic_load_explicit(&t->n_used, memory_order_relaxed);
}

uint64_t table_pages_kept(const struct table_pages *t)
{
	return t->kept.n;
}

static bool stack_is(const struct table_pages *t, const struct page_stack *s,
		     enum page_condition condition)
{
	for (uint64_t i = 0; i < s->n; i++) {
		if (s->idx[i] >= t->n_pages ||
		    t->condition[s->idx[i]] != condition)
			return false;
	}
	return true;
}

bool table_pages_audit(const struct table_pages *t)
{
	uint64_t n[PAGE_USED + 1] = {0};

	for (uint64_t i = 0; i < t->n_pages; i++)
		n[t->condition[i]]++;
	return n[PAGE_USED] == table_pages_used(t) &&
	       n[PAGE_KEPT] == t->kept.n && n[PAGE_HOLE] == t->holes.n &&
	       stack_is(t, &t->kept, PAGE_KEPT) &&
	       stack_is(t, &t->holes, PAGE_HOLE);
}
