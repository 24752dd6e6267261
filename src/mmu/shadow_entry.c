/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shadow entries: the one function that changes them, and the chains it keeps.
 *
 * Every present entry is in one chain, with all others that point to the same place: the
 * leaves of a page (the reverse map), or the entries that point to a table (its parents).
 */
#include <errno.h>
#include <stdlib.h>

#include <base/verify.h>
#include <mmu/shadow_impl.h>

static uint32_t name_of(const struct shadow_table *t, unsigned int i)
{
	return (t->idx * SHADOW_ENTRIES + i) + 1;
}

static struct shadow_link *link_of(const struct shadow *s, uint32_t id)
{
	const unsigned int i = (id - 1) % SHADOW_ENTRIES;
	const struct shadow_table *t = s->table[(id - 1) / SHADOW_ENTRIES];

	return &t->group[i / SHADOW_GROUP]->link[i % SHADOW_GROUP];
}

int shadow_reserve(struct shadow *s, struct shadow_table *t, unsigned int i)
{
	struct shadow_group **g = &t->group[i / SHADOW_GROUP];

	if (*g)
		return 0;
	shadow_make_room(s, sizeof(**g));
	*g = calloc(1, sizeof(**g));
	if (*g == NULL)
		return -ENOMEM;
	shadow_account(s, sizeof(**g));
	return 0;
}

uint32_t *shadow_head(struct shadow *s, const struct shadow_table *t,
		      unsigned int i, uint64_t entry)
{
	if (shadow_level(t) == 1)
		return &s->rmap[*shadow_ppn(t, i)];
	if (entry & PTE_PS)
		return &s->rmap_large[(entry & PTE_ADDR) >> 21];
	return &shadow_child(s, entry)->parents;
}

static void chain_in(struct shadow *s, uint32_t *head, uint32_t id)
{
	struct shadow_link *l = link_of(s, id);

	l->next = *head;
	l->prev = 0;
	if (*head)
		link_of(s, *head)->prev = id;
	*head = id;
}

static void chain_out(struct shadow *s, uint32_t *head, uint32_t id)
{
	const struct shadow_link *l = link_of(s, id);

	if (l->next)
		link_of(s, l->next)->prev = l->prev;
	if (l->prev) {
		link_of(s, l->prev)->next = l->next;
	} else {
		VERIFY(*head == id);
		*head = l->next;
	}
}

void shadow_set(struct shadow *s, struct shadow_table *t, unsigned int i,
		uint64_t entry, uint64_t page)
{
	const uint64_t old = t->entry[i];
	struct shadow_table *orphan = NULL;

	/* What structure caches know stems from entries that lead to tables. */
	if ((old & PTE_P) && shadow_level(t) > 1)
		psc_flush(&s->psc);
	if (old & PTE_P) {
		chain_out(s, shadow_head(s, t, i, old), name_of(t, i));
		t->present[i / 64] &= ~BIT64(i % 64);
		t->n_present--;
		if (!shadow_is_leaf(t, old))
			orphan = shadow_child(s, old);
		if (!entry)
			s->mmu->stats.zaps++;
	}
	t->entry[i] = entry;
	if (entry & PTE_P) {
		if (shadow_level(t) == 1)
			*shadow_ppn(t, i) = (uint32_t)page;
		chain_in(s, shadow_head(s, t, i, entry), name_of(t, i));
		t->present[i / 64] |= BIT64(i % 64);
		t->n_present++;
	}
	/*
	 * Without a parent no address leads to it; the guest has most likely freed it.
	 * One that is about to get a parent, or is on its way out, is left alone.
	 */
	if (orphan && !orphan->parents && orphan->pin != s->fill_seq &&
	    orphan->pin != UINT64_MAX)
		shadow_destroy(s, orphan);
}

void shadow_clear_chain(struct shadow *s, uint32_t *head)
{
	while (*head) {
		const uint32_t id = *head;

		shadow_set(s, s->table[(id - 1) / SHADOW_ENTRIES],
			   (id - 1) % SHADOW_ENTRIES, 0, 0);
	}
}

/* Rights of a guest entry, and its dirty bit where that matters. */
static uint64_t rights_of(uint64_t guest, bool dirty)
{
	uint64_t e = PTE_P | (guest & (PTE_U | PTE_NX));

	if (dirty)
		e |= PTE_D | (guest & PTE_W);
	return e;
}

uint64_t shadow_leaf_entry(uint64_t guest, ma_t page, bool is_private,
			   unsigned int size)
{
	return rights_of(guest, (guest & PTE_D) && is_private) | page.v |
	       PTE_A | (guest & (PTE_G | SHADOW_KEY_MASK)) |
	       (uint64_t)size << SHADOW_SIZE_SHIFT |
	       (is_private ? SHADOW_PRIVATE_BIT : 0);
}

uint64_t shadow_table_entry(uint64_t guest, const struct shadow_table *child)
{
	const uint64_t to = MACHINE_TABLE + (uint64_t)child->idx * PAGE_SIZE;

	/* A bit that the processor has not set yet: the recycler asks for it. */
	if (child->role & SHADOW_DIRECT)
		return rights_of(guest, guest & PTE_D) | to;
	return rights_of(guest, true) | to;
}
