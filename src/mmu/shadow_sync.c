/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeping shadows in step with the guest's tables: traced stores, tables out of sync, and
 * pages that are taken away.
 *
 * An entry that became present, or got more rights, needs nothing: it is found by a
 * hidden fault. What shadows know, and the guest has changed, is adapted in place if it
 * still leads to the same page, else removed.
 */
#include <stdlib.h>

#include <base/verify.h>
#include <mmu/shadow_impl.h>

uint64_t shadow_guest_entry(const struct shadow_table *t, unsigned int i)
{
	return __atomic_load_n((const uint64_t *)(const void *)t->guest + i,
			       __ATOMIC_RELAXED);
}

static uint64_t rsvd_of(const struct shadow_table *t, bool leaf)
{
	const struct walk_level *l = &walk_long.level[shadow_level(t)];

	return (leaf ? l->leaf_rsvd : l->table_rsvd) |
	       (t->role & SHADOW_NXE ? 0 : PTE_NX);
}

/* What a small leaf must be now; 0 if it must go. */
static uint64_t small_leaf_now(struct shadow *s, const struct shadow_table *t,
			       unsigned int i, uint64_t guest)
{
	const uint64_t old = t->entry[i];
	ppn_t page;

	if (!guestmem_ppn(s->mmu->mem, gpa(guest & PTE_ADDR), &page) ||
	    page.v != *shadow_ppn(t, i))
		return 0;
	return shadow_leaf_entry(guest, ma(old & PTE_ADDR),
				 old & SHADOW_PRIVATE_BIT, 0);
}

/* What an entry for a large page must be now: a large leaf, or a direct table. */
static uint64_t large_now(struct shadow *s, const struct shadow_table *t,
			  unsigned int i, uint64_t guest)
{
	const uint64_t old = t->entry[i];
	const unsigned int shift = walk_long.level[shadow_level(t)].shift;
	const uint64_t base = guest & PTE_ADDR & ~((UINT64_C(1) << shift) - 1);
	ppn_t page;

	if (old & PTE_PS) {
		if (!guestmem_ppn(s->mmu->mem, gpa(base), &page) ||
		    MACHINE_HOME + page.v * PAGE_SIZE != (old & PTE_ADDR))
			return 0;
		return shadow_leaf_entry(guest, ma(old & PTE_ADDR), true, 1) |
		       PTE_PS;
	}

	const struct shadow_table *child = shadow_child(s, old);
	const uint32_t key = (guest & SHADOW_KEY_MASK) >> PTE_PKEY_SHIFT;

	if (!(child->role & SHADOW_DIRECT) || child->gfn != base >> PAGE_SHIFT ||
	    !(child->role & SHADOW_GLOBAL) != !(guest & PTE_G) ||
	    child->role >> SHADOW_KEY_SHIFT != key)
		return 0;
	return shadow_table_entry(guest, child) | (old & PTE_A);
}

static uint64_t table_now(struct shadow *s, const struct shadow_table *t,
			  unsigned int i, uint64_t guest)
{
	const uint64_t old = t->entry[i];

	if (old & PTE_PS)
		return 0;

	const struct shadow_table *child = shadow_child(s, old);

	if (!shadow_is_mirror(child) ||
	    child->gfn != (guest & PTE_ADDR) >> PAGE_SHIFT)
		return 0;
	return shadow_table_entry(guest, child) | (old & PTE_A);
}

static uint64_t entry_now(struct shadow *s, const struct shadow_table *t,
			  unsigned int i)
{
	const uint64_t guest = shadow_guest_entry(t, i);
	const bool large = walk_long.level[shadow_level(t)].large &&
			   (guest & PTE_PS);
	const bool leaf = large || shadow_level(t) == 1;

	if ((guest & (PTE_P | PTE_A)) != (PTE_P | PTE_A) ||
	    (guest & rsvd_of(t, leaf)))
		return 0;
	if (shadow_level(t) == 1)
		return small_leaf_now(s, t, i, guest);
	return large ? large_now(s, t, i, guest) : table_now(s, t, i, guest);
}

/* Compare a present entry of a mirror with the guest's, and adapt it. */
static void shadow_refresh(struct shadow *s, struct shadow_table *t,
			   unsigned int i)
{
	const uint64_t old = t->entry[i];
	uint64_t now;

	if (!(old & PTE_P))
		return;
	now = entry_now(s, t, i);
	if (now == old)
		return;
	if (now != 0 && !shadow_is_leaf(t, old))
		shadow_sync_below(s, shadow_child(s, old));
	if (shadow_level(t) == 1 && now != 0)
		t->entry[i] = now; /* the same page: chains stay as they are */
	else
		shadow_set(s, t, i, now, 0);
}

static void refresh_all(struct shadow *s, struct shadow_table *t)
{
	for (unsigned int w = 0; w < ARRAY_SIZE(t->present); w++)
		for (uint64_t left = t->present[w]; left; left &= left - 1)
			shadow_refresh(s, t,
				       w * 64 + (unsigned int)__builtin_ctzll(
							left));
}

/* Out of sync. */

void shadow_forget_unsync(struct shadow *s, struct shadow_table *t)
{
	struct shadow_table *last = s->unsync[--s->n_unsync];

	s->unsync[t->unsync_at] = last;
	last->unsync_at = t->unsync_at;
	t->unsync = false;
}

static bool unsync_room(struct shadow *s)
{
	const uint32_t max = s->max_unsync ? 2 * s->max_unsync : 64;
	struct shadow_table **list;

	if (s->n_unsync < s->max_unsync)
		return true;
	list = realloc(s->unsync, max * sizeof(struct shadow_table *));
	if (list == NULL)
		return false;
	s->unsync = list;
	s->max_unsync = max;
	return true;
}

/* Let a last-level table go, unless the same frame is a higher table as well. */
static void go_unsync(struct shadow *s, uint64_t gfn)
{
	for (struct shadow_table *t = shadow_chain_first(s, gfn); t;
	     t = shadow_chain_next(s, t))
		if (t->gfn == gfn && shadow_is_mirror(t) && shadow_level(t) != 1)
			return;
	for (struct shadow_table *t = shadow_chain_first(s, gfn); t;
	     t = shadow_chain_next(s, t)) {
		if (t->gfn != gfn || !shadow_is_mirror(t) || t->unsync)
			continue;
		if (!unsync_room(s))
			break;
		t->unsync = true;
		t->unsync_at = s->n_unsync;
		s->unsync[s->n_unsync++] = t;
		s->mmu->stats.unsyncs++;
	}
	shadow_trace(s, gfn);
}

void shadow_resync(struct shadow *s, struct shadow_table *t)
{
	shadow_forget_unsync(s, t);
	/* Traced first: nothing may change between the comparison and that. */
	shadow_trace(s, t->gfn);
	refresh_all(s, t);
	t->writes = 0;
	s->mmu->stats.resyncs++;
}

void shadow_sync_below(struct shadow *s, struct shadow_table *child)
{
	if (child->unsync)
		shadow_resync(s, child);
	while (shadow_level(child) > 1 && child->n_present && s->n_unsync)
		shadow_resync(s, s->unsync[s->n_unsync - 1]);
}

void shadow_sync_all(struct shadow *s)
{
	while (s->n_unsync) {
		struct shadow_table *t = s->unsync[s->n_unsync - 1];

		shadow_resync(s, t);
		/* Not worth being followed; it comes back when it is used. */
		if (t->n_present == 0)
			shadow_destroy(s, t);
	}
}

struct shadow_table *shadow_last_table(const struct shadow *s, gva_t addr)
{
	struct shadow_table *t = s->root;

	while (t && shadow_level(t) > 1) {
		const uint64_t e = t->entry[shadow_index(t, addr.v)];

		if (!(e & PTE_P) || (e & PTE_PS))
			return NULL;
		t = shadow_child(s, e);
	}
	return t;
}

void shadow_sync_page(struct shadow *s, gva_t addr)
{
	struct shadow_table *t;

	if (s->n_unsync == 0)
		return;
	t = shadow_last_table(s, addr);
	if (t && t->unsync)
		shadow_refresh(s, t, shadow_index(t, addr.v));
}

/* Traced stores. */

static struct shadow_table *next_unseen(struct shadow *s, uint64_t gfn)
{
	struct shadow_table *t = shadow_chain_first(s, gfn);

	while (t && (t->gfn != gfn || !shadow_is_mirror(t) || t->unsync ||
		     t->seen == s->write_seq))
		t = shadow_chain_next(s, t);
	return t;
}

/* Whether what is stored says that the frame is no page table any more. */
static bool is_abandoned(const struct shadow *s, const struct shadow_table *t,
			 uint64_t len)
{
	/* What a device is given to store to has not changed yet, too. */
	if (len > SHADOW_MAX_STORE)
		return true;
	if (t == s->root)
		return false;
	return t->writes > SHADOW_FLOOD &&
	       (shadow_level(t) > 1 || t->n_present == 0);
}

/*
 * The guest has made an entry present, most likely since it is about to use it: fill it
 * now, which spares a hidden fault. Such stores do not speak against tracing.
 */
static void fill_ahead(struct shadow *s, struct shadow_table *t, unsigned int i)
{
	if (!s->mmu->opt.prefetch || shadow_level(t) != 1 ||
	    (t->entry[i] & PTE_P) || !t->group[i / SHADOW_GROUP])
		return;
	if (shadow_prefetch(s, t, i)) {
		t->writes = 0;
		s->mmu->stats.prefetches++;
	}
}

static void follow(struct shadow *s, struct shadow_table *t, uint64_t offset,
		   uint64_t len)
{
	const unsigned int last = (unsigned int)((offset + len - 1) / 8);
	const uint64_t gfn = t->gfn;

	t->writes++;
	if (is_abandoned(s, t, len)) {
		shadow_destroy(s, t);
		return;
	}
	for (unsigned int i = (unsigned int)(offset / 8); i <= last; i++) {
		shadow_refresh(s, t, i);
		fill_ahead(s, t, i);
	}
	if (s->mmu->opt.out_of_sync && shadow_level(t) == 1 &&
	    t->writes >= SHADOW_UNSYNC_AFTER)
		go_unsync(s, gfn);
}

static void follow_page(struct shadow *s, uint64_t gfn, uint64_t offset,
			uint64_t len)
{
	struct shadow_table *t;
	bool traced = false;

	s->write_seq++;
	/* Each time from the start: following one may destroy others. */
	while ((t = next_unseen(s, gfn)) != NULL) {
		t->seen = s->write_seq;
		follow(s, t, offset, len);
		traced = true;
	}
	s->mmu->stats.traced_writes += traced;
}

void shadow_written(struct shadow *s, gpa_t addr, uint64_t len)
{
	while (len) {
		const uint64_t offset = addr.v % PAGE_SIZE;
		const uint64_t rest = PAGE_SIZE - offset;
		const uint64_t part = len < rest ? len : rest;

		follow_page(s, addr.v >> PAGE_SHIFT, offset, part);
		addr = gpa_add(addr, part);
		len -= part;
	}
}

/* Pages that are taken away. */

static struct shadow_table *any_mirror(struct shadow *s, uint64_t gfn)
{
	struct shadow_table *t = shadow_chain_first(s, gfn);

	while (t && (t->gfn != gfn || !shadow_is_mirror(t)))
		t = shadow_chain_next(s, t);
	return t;
}

void shadow_unmap(struct shadow *s, ppn_t page)
{
	const uint64_t gfn = guestmem_gpa(s->mmu->mem, page).v >> PAGE_SHIFT;
	struct shadow_table *t;

	shadow_clear_chain(s, &s->rmap[page.v]);
	shadow_clear_chain(s, &s->rmap_large[page.v / SHADOW_ENTRIES]);
	while ((t = any_mirror(s, gfn)) != NULL)
		shadow_destroy(s, t);
}
