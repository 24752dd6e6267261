/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Audit of the shadow tables: what every entry must be is worked out anew from the guest's
 * tables and the physmap, and all bookkeeping from the entries.
 */
#include <errno.h>

#include <mem/physmap.h>
#include <mmu/shadow_impl.h>

struct audit {
	struct shadow *s;
	struct err *err;
	int64_t checked;
	uint64_t bytes;
	uint32_t tables;
};

static bool complain(struct audit *a, const struct shadow_table *t,
		     unsigned int i, const char *what)
{
	err_set(a->err, -EILSEQ,
		"shadow of frame %#lx, role %#x, entry %u (%#lx): %s", t->gfn,
		t->role, i, t->entry[i], what);
	return false;
}

/* Chains. */

static uint32_t *links(const struct shadow *s, uint32_t id, bool next)
{
	const unsigned int i = (id - 1) % SHADOW_ENTRIES;
	const uint32_t idx = (id - 1) / SHADOW_ENTRIES;
	struct shadow_group *g;

	if (idx >= s->n_tables || s->table[idx] == NULL)
		return NULL;
	g = s->table[idx]->group[i / SHADOW_GROUP];
	if (g == NULL)
		return NULL;
	return next ? &g->link[i % SHADOW_GROUP].next
		    : &g->link[i % SHADOW_GROUP].prev;
}

static bool audit_chain_of(struct audit *a, struct shadow_table *t,
			   unsigned int i)
{
	const uint32_t id = t->idx * SHADOW_ENTRIES + i + 1;
	const uint32_t *next = links(a->s, id, true);
	const uint32_t *prev = links(a->s, id, false);
	const uint32_t *other;

	if (next == NULL || prev == NULL)
		return complain(a, t, i, "no bookkeeping");
	if (*prev == 0) {
		if (*shadow_head(a->s, t, i, t->entry[i]) != id)
			return complain(a, t, i, "not first of its chain");
	} else {
		other = links(a->s, *prev, true);
		if (other == NULL || *other != id)
			return complain(a, t, i, "chain broken before it");
	}
	if (*next) {
		other = links(a->s, *next, false);
		if (other == NULL || *other != id)
			return complain(a, t, i, "chain broken behind it");
	}
	return true;
}

/* Every entry on a chain is present and belongs there. */
static bool audit_head(struct audit *a, const uint32_t *head)
{
	uint32_t id = *head;

	while (id) {
		const uint32_t idx = (id - 1) / SHADOW_ENTRIES;
		const unsigned int i = (id - 1) % SHADOW_ENTRIES;
		struct shadow_table *t = idx < a->s->n_tables ? a->s->table[idx]
							      : NULL;

		if (t == NULL || !(t->entry[i] & PTE_P) ||
		    shadow_head(a->s, t, i, t->entry[i]) != head) {
			err_set(a->err, -EILSEQ,
				"a reverse map names an entry that is not there");
			return false;
		}
		id = *links(a->s, id, true);
	}
	return true;
}

/* Leaves against the physmap. */

static bool audit_machine(struct audit *a, struct shadow_table *t,
			  unsigned int i, ppn_t page, uint64_t page_ma)
{
	const uint64_t e = physmap_load(guestmem_physmap(a->s->mmu->mem), page);
	const bool is_private = t->entry[i] & SHADOW_PRIVATE_BIT;

	switch (physmap_stable_state(e)) {
	case PHYSMAP_HOME:
		if (page_ma != MACHINE_HOME + page.v * PAGE_SIZE || !is_private)
			return complain(a, t, i, "the page is at home");
		return true;
	case PHYSMAP_ZERO:
		if (page_ma != MACHINE_ZERO || is_private)
			return complain(a, t, i, "the page is zero");
		return true;
	case PHYSMAP_SHARED:
		if (page_ma != MACHINE_GROUP + physmap_slot(e) * PAGE_SIZE ||
		    is_private)
			return complain(a, t, i, "the page is shared");
		return true;
	case PHYSMAP_ZIPPED:
	case PHYSMAP_SWAPPED:
	case PHYSMAP_BALLOON:
	case PHYSMAP_BUSY:
	case PHYSMAP_N_STATES:
		break;
	}
	return complain(a, t, i, "the page is away");
}

static bool audit_leaf(struct audit *a, struct shadow_table *t, unsigned int i)
{
	const uint64_t e = t->entry[i];
	const uint64_t base = (e & PTE_ADDR) >> PAGE_SHIFT;

	if ((e & PTE_W) && (!(e & PTE_D) || !(e & SHADOW_PRIVATE_BIT)))
		return complain(a, t, i, "writable, but not dirty and private");
	if (shadow_level(t) == 1)
		return audit_machine(a, t, i, ppn(*shadow_ppn(t, i)),
				     e & PTE_ADDR);
	for (uint64_t p = base; p < base + SHADOW_ENTRIES; p++)
		if (!audit_machine(a, t, i, ppn(p), MACHINE_HOME + p * PAGE_SIZE))
			return false;
	return true;
}

/* Mirrors against the guest's tables. */

/*
 * A dirty bit that the walk has set may not have reached the shadow: the access went to
 * a device, say, or through another shadow of the table. A hidden fault finds it.
 */
static bool same_rights(uint64_t shadow, uint64_t guest, bool may_be_dirty)
{
	const bool dirty = shadow & PTE_D;
	const uint64_t write = dirty ? guest & PTE_W : 0;

	return (shadow & (PTE_U | PTE_NX)) == (guest & (PTE_U | PTE_NX)) &&
	       (shadow & PTE_W) == write && (may_be_dirty || !dirty);
}

static uint64_t guest_frame(const struct audit *a, struct shadow_table *t,
			    unsigned int i)
{
	const uint64_t e = t->entry[i];

	if (!shadow_is_leaf(t, e))
		return shadow_child(a->s, e)->gfn;

	const ppn_t page = shadow_level(t) == 1
				   ? ppn(*shadow_ppn(t, i))
				   : ppn((e & PTE_ADDR) >> PAGE_SHIFT);

	return guestmem_gpa(a->s->mmu->mem, page).v >> PAGE_SHIFT;
}

static bool audit_against_guest(struct audit *a, struct shadow_table *t,
				unsigned int i)
{
	const uint64_t e = t->entry[i];
	const uint64_t guest = shadow_guest_entry(t, i);
	const unsigned int level = shadow_level(t);
	const bool guest_leaf = level == 1 || (guest & PTE_PS);
	const bool leaf = shadow_is_leaf(t, e);
	bool dirty = true;
	uint64_t frame = (guest & PTE_ADDR) >> PAGE_SHIFT;

	if (!(guest & PTE_P) || !(guest & PTE_A))
		return complain(a, t, i,
				"the guest's is not present or not accessed");
	if (!(t->role & SHADOW_NXE) && (guest & PTE_NX))
		return complain(a, t, i, "the guest's has a reserved bit");
	if (guest_leaf) {
		frame &= ~((UINT64_C(1) << (9 * (level - 1))) - 1);
		dirty = guest & PTE_D;
	}
	if (leaf) {
		dirty = dirty && (e & SHADOW_PRIVATE_BIT);
		if ((e & (PTE_G | SHADOW_KEY_MASK)) !=
		    (guest & (PTE_G | SHADOW_KEY_MASK)))
			return complain(a, t, i, "global bit or key differs");
	} else if (guest_leaf != !shadow_is_mirror(shadow_child(a->s, e))) {
		return complain(a, t, i, "large page and table confused");
	}
	if (guest_frame(a, t, i) != frame)
		return complain(a, t, i,
				"leads to another frame than the guest's");
	if (!same_rights(e, guest, dirty))
		return complain(a, t, i, "rights differ from the guest's");
	return true;
}

static bool audit_direct(struct audit *a, struct shadow_table *t, unsigned int i)
{
	const unsigned int step = shadow_level(t) == 1 ? 1 : SHADOW_ENTRIES;

	if (guest_frame(a, t, i) != t->gfn + (uint64_t)i * step)
		return complain(a, t, i, "leads out of the large page");
	return true;
}

static bool audit_entry(struct audit *a, struct shadow_table *t, unsigned int i)
{
	a->checked++;
	if (!audit_chain_of(a, t, i))
		return false;
	if (shadow_is_leaf(t, t->entry[i])) {
		if (!audit_leaf(a, t, i))
			return false;
	} else if (shadow_level(shadow_child(a->s, t->entry[i])) !=
		   shadow_level(t) - 1) {
		return complain(a, t, i, "leads to a table of another level");
	}
	if (t->role & SHADOW_DIRECT)
		return audit_direct(a, t, i);
	return !shadow_is_mirror(t) || t->unsync || audit_against_guest(a, t, i);
}

static bool audit_table(struct audit *a, struct shadow_table *t)
{
	uint32_t n = 0;

	a->tables++;
	a->bytes += PAGE_SIZE + sizeof(*t);
	for (unsigned int g = 0; g < SHADOW_GROUPS; g++)
		if (t->group[g])
			a->bytes += sizeof(*t->group[g]);
	if (!(t->role & SHADOW_PRIVATE) &&
	    shadow_find(a->s, t->gfn, t->role) != t)
		return complain(a, t, 0, "not found, or there twice");
	if (!audit_head(a, &t->parents))
		return false;
	for (unsigned int i = 0; i < SHADOW_ENTRIES; i++) {
		const bool p = t->entry[i] & PTE_P;

		if (p != (t->present[i / 64] >> i % 64 & 1))
			return complain(a, t, i, "wrong in the map of entries");
		n += p;
		if (p && !audit_entry(a, t, i))
			return false;
	}
	if (n != t->n_present)
		return complain(a, t, 0, "count of entries is wrong");
	return true;
}

/* Tracing, per page of RAM. */

static bool audit_page(struct audit *a, ppn_t page)
{
	struct shadow *s = a->s;
	const uint64_t gfn = guestmem_gpa(s->mmu->mem, page).v >> PAGE_SHIFT;
	const uint8_t flags = guestmem_flags(s->mmu->mem)[page.v];
	bool synced = false, higher = false, unsync = false;

	for (struct shadow_table *t = shadow_chain_first(s, gfn); t;
	     t = shadow_chain_next(s, t)) {
		if (t->gfn != gfn || !shadow_is_mirror(t))
			continue;
		synced |= !t->unsync;
		unsync |= t->unsync;
		higher |= shadow_level(t) > 1;
	}
	if (synced != !!(flags & GUESTMEM_TABLE) || (unsync && higher)) {
		err_set(a->err, -EILSEQ, "tracing of guest page %#lx is wrong",
			page.v);
		return false;
	}
	return audit_head(a, &s->rmap[page.v]) &&
	       (page.v % SHADOW_ENTRIES ||
		audit_head(a, &s->rmap_large[page.v / SHADOW_ENTRIES]));
}

static bool audit_totals(struct audit *a)
{
	const struct shadow *s = a->s;
	const struct mmu_stats *stats = &s->mmu->stats;

	for (uint32_t i = 0; i < s->n_unsync; i++)
		if (!s->unsync[i]->unsync || s->unsync[i]->unsync_at != i) {
			err_set(a->err, -EILSEQ,
				"list of tables out of sync is wrong");
			return false;
		}
	if (a->bytes != stats->table_bytes || a->tables != stats->tables ||
	    a->bytes > stats->table_bytes_bound) {
		err_set(a->err, -EILSEQ,
			"shadow memory is %lu, counted as %lu, bound %lu",
			a->bytes, stats->table_bytes, stats->table_bytes_bound);
		return false;
	}
	return true;
}

int64_t shadow_audit(struct shadow *s, struct err *err)
{
	struct audit a = {.s = s, .err = err};

	for (uint32_t i = 0; i < s->n_tables; i++)
		if (s->table[i] && !audit_table(&a, s->table[i]))
			return -EILSEQ;
	for (uint64_t p = 0; p < s->n_ppn; p++)
		if (!audit_page(&a, ppn(p)))
			return -EILSEQ;
	return audit_totals(&a) ? a.checked : -EILSEQ;
}
